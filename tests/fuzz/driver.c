/* driver: runs a target without libFuzzer, which only clang has: its corpus, and then for a bounded time what comes of it by mutation.
 *
 *   NAME                     tests/fuzz/corpus/NAME, then mutations for FUZZ_SECONDS (default 1; 0: none)
 *   NAME FILE|DIRECTORY...   these alone
 *
 * The mutations are the same in every run: input n follows from SEED (default 1) and n alone, only the time says how far it goes. It has no
 * feedback from coverage, so it finds little that is new; it holds what libFuzzer found before. An input that kills is left in
 * build/fuzz/crash-NAME, and how to run it again is the last that is printed. */

#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { INPUT_MAX = 1 << 17, INPUTS_MAX = 4096, MUTATED_MAX = 1 << 14, STEPS_MAX = 6, HANG_S = 20 };

struct input {
    uint8_t *bytes;
    size_t len;
};
static struct input inputs[INPUTS_MAX];
static size_t input_count;

static const char *program, *name;
static const uint8_t *running;          /* the input of the call that is under way */
static size_t running_len;

/* Async-signal-safe, as far as telling goes. */
static void say (const char *text)
{
    if (write (STDOUT_FILENO, text, strlen (text)) < 0)
        return;         /* nobody reads: nothing to be done here */
}

static void keep_input (void)
{
    static bool kept;
    char path[256];
    if (kept || !running)
        return;
    kept = true;
    (void) mkdir ("build", 0777);       /* there already, or open fails */
    (void) mkdir ("build/fuzz", 0777);
    (void) snprintf (path, sizeof path, "build/fuzz/crash-%s", name);
    const int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    const bool written = fd >= 0 && write (fd, running, running_len) == (ssize_t) running_len;
    say ("FUZZ-FAILED ");
    say (name);
    say (written ? ": again: " : ": its input could not be kept: ");
    say (program);
    say (" ");
    say (path);
    say ("\n");
}

static void on_signal (int number)
{
    if (number == SIGALRM)
        say ("an input took too long\n");
    keep_input ();
    (void) signal (number, SIG_DFL);
    (void) raise (number);
}

/* The sanitizers' own last call. */
void __sanitizer_set_death_callback (void (*callback) (void)) __attribute__ ((weak));

static void run (const uint8_t *bytes, size_t len)
{
    uint8_t *exact = malloc (len ? len : 1);        /* so that a sanitizer sees a byte too far */
    if (!exact)
        exit (2);
    if (len)
        memcpy (exact, bytes, len);
    running = exact;
    running_len = len;
    (void) alarm (HANG_S);
    (void) LLVMFuzzerTestOneInput (exact, len);
    running = NULL;
    free (exact);
}

static void load (const char *path);

static int compare_names (const struct dirent **a, const struct dirent **b)
{
    return strcmp ((*a)->d_name, (*b)->d_name);
}

static void load_directory (const char *path)
{
    struct dirent **entries;
    const int count = scandir (path, &entries, NULL, compare_names);
    for (int i = 0; i < count; i++) {
        char file[512];
        (void) snprintf (file, sizeof file, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            load (file);
        free (entries[i]);
    }
    if (count >= 0)
        free (entries);
}

static void load (const char *path)
{
    struct stat st;
    if (stat (path, &st) != 0) {
        fprintf (stderr, "%s: %s: %s\n", program, path, strerror (errno));
        exit (2);
    }
    if (S_ISDIR (st.st_mode)) {
        load_directory (path);
        return;
    }
    uint8_t *bytes = malloc (INPUT_MAX);
    const int fd = open (path, O_RDONLY);
    const ssize_t len = fd >= 0 && bytes ? read (fd, bytes, INPUT_MAX) : -1;
    if (len < 0 || input_count == INPUTS_MAX) {
        fprintf (stderr, "%s: %s cannot be read\n", program, path);
        exit (2);
    }
    (void) close (fd);
    inputs[input_count++] = (struct input) { .bytes = bytes, .len = (size_t) len };
}

/* --- Mutations. splitmix64: each input has its own sequence. */

static uint64_t state;

static uint64_t next_random (void)
{
    uint64_t z = (state += UINT64_C (0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C (0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C (0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static size_t below (size_t n)
{
    return n ? (size_t) (next_random () % n) : 0;
}

static size_t mutate_once (uint8_t *p, size_t len)
{
    static const uint64_t corners[] = { 0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                        INT64_MAX, (uint64_t) INT64_MIN, UINT64_MAX };
    const size_t at = below (len + 1);
    const struct input *other = &inputs[below (input_count)];
    size_t n, from;
    switch (below (8)) {
    case 0:
        if (at < len)
            p[at] ^= (uint8_t) (1 << below (8));
        return len;
    case 1:
        if (at < len)
            p[at] = (uint8_t) next_random ();
        return len;
    case 2:     /* a number that is a corner, in 1, 2, 4 or 8 bytes */
        n = (size_t) 1 << below (4);
        if (len >= at + n) {
            uint8_t wide[8];
            bytes_put_u64le (wide, corners[below (sizeof corners / sizeof *corners)] + below (3) - 1);
            memcpy (p + at, wide, n);
        }
        return len;
    case 3:     /* leave bytes out */
        n = below (len - at + 1);
        n = n > 64 && below (4) ? below (64) : n;
        memmove (p + at, p + at + n, len - at - n);
        return len - n;
    case 4:     /* bytes of its own, or of another, in between */
    case 5:
        if (other->len == 0)
            return len;
        from = below (other->len);
        n = 1 + below (other->len - from);
        n = n > 256 && below (4) ? 256 : n;
        if (n > MUTATED_MAX - len)
            return len;
        memmove (p + at + n, p + at, len - at);
        memcpy (p + at, other->bytes + from, n);
        return len + n;
    case 6:     /* the same over what is there */
        if (other->len == 0)
            return len;
        from = below (other->len);
        n = below (other->len - from);
        n = n > len - at ? len - at : n;
        memcpy (p + at, other->bytes + from, n);
        return len;
    default:    /* cut */
        return below (3) ? len : at;
    }
}

static uint64_t now_ms (void)
{
    struct timespec t;
    (void) clock_gettime (CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static unsigned long mutate_for (uint64_t ms, uint64_t seed)
{
    static uint8_t bytes[MUTATED_MAX];
    const uint64_t end_ms = now_ms () + ms;
    unsigned long n = 0;
    for (; now_ms () < end_ms; n++) {
        state = seed * UINT64_C (0xD1342543DE82EF95) + n;
        const struct input *base = &inputs[below (input_count)];
        size_t len = base->len < MUTATED_MAX ? base->len : MUTATED_MAX;
        if (len)
            memcpy (bytes, base->bytes, len);
        for (size_t steps = 1 + below (STEPS_MAX); steps; steps--)
            len = mutate_once (bytes, len);
        run (bytes, len);
    }
    return n;
}

int main (int argc, char **argv)
{
    program = argv[0];
    name = strrchr (program, '/') ? strrchr (program, '/') + 1 : program;
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback (keep_input);
    (void) signal (SIGABRT, on_signal);         /* a failed assert */
    (void) signal (SIGALRM, on_signal);
    char corpus[256];
    (void) snprintf (corpus, sizeof corpus, "tests/fuzz/corpus/%s", name);
    if (argc == 1)
        load (corpus);
    for (int i = 1; i < argc; i++)
        load (argv[i]);
    if (input_count == 0) {
        fprintf (stderr, "%s: no input\n", program);
        return 2;
    }
    for (size_t i = 0; i < input_count; i++)
        run (inputs[i].bytes, inputs[i].len);
    const char *seconds = getenv ("FUZZ_SECONDS"), *seed = getenv ("SEED");
    const uint64_t ms = argc > 1 ? 0 : seconds ? (uint64_t) (strtod (seconds, NULL) * 1000) : 1000;
    const unsigned long mutated = mutate_for (ms, seed ? strtoull (seed, NULL, 10) : 1);
    printf ("%s: %zu inputs, %lu mutations\n", name, input_count, mutated);
    for (size_t i = 0; i < input_count; i++)
        free (inputs[i].bytes);
    return 0;
}
