#include "bench.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static uint64_t clock_ns (clockid_t id)
{
    struct timespec t;
    const int rc = clock_gettime (id, &t);
    assert (rc == 0);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

uint64_t bench_now_ns (void)
{
    return clock_ns (CLOCK_MONOTONIC);
}

void bench_sleep_until (uint64_t at_ns)
{
    const struct timespec t = { .tv_sec = (time_t) (at_ns / 1000000000u), .tv_nsec = (long) (at_ns % 1000000000u) };
    while (clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

void bench_wait_until (uint64_t at_ns, bool spin)
{
    if (!spin) {
        if (at_ns > bench_now_ns ())
            bench_sleep_until (at_ns);
        return;
    }
    if (at_ns > bench_now_ns () + BENCH_SPIN_NS)
        bench_sleep_until (at_ns - BENCH_SPIN_NS);
    while (bench_now_ns () < at_ns)
        ;
}

void bench_fail (const char *format, ...)
{
    va_list args;
    va_start (args, format);
    fputs ("bench: ", stderr);
    vfprintf (stderr, format, args);
    fputc ('\n', stderr);
    va_end (args);
    exit (1);
}

static struct bench_option *option_find (struct bench_option *options, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp (options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

static void options_print (const char *what, const struct bench_option *options, size_t count)
{
    printf ("%s\n\n", what);
    for (size_t i = 0; i < count; i++)
        printf ("  --%-12s %s (default %s)\n", options[i].name, options[i].help, options[i].value ? options[i].value : "none");
}

void bench_options (int argc, char **argv, const char *what, struct bench_option *options, size_t count)
{
    /* As the command does, and nodes/README.md advises; both sides of a comparison are given the same. */
    (void) mallopt (M_MMAP_THRESHOLD, 8 << 20);
    (void) mallopt (M_TRIM_THRESHOLD, 16 << 20);
    for (int i = 1; i < argc; i++) {
        if (strcmp (argv[i], "--help") == 0) {
            options_print (what, options, count);
            exit (0);
        }
        struct bench_option *option = strncmp (argv[i], "--", 2) == 0 ? option_find (options, count, argv[i] + 2) : NULL;
        if (!option || i + 1 == argc)
            bench_fail ("%s: %s; --help lists the options", argv[i], option ? "its value is missing" : "unknown option");
        option->value = argv[++i];
    }
}

const char *bench_string (const struct bench_option *options, const char *name)
{
    while (strcmp (options->name, name) != 0)
        options++;
    return options->value;
}

uint64_t bench_number (const struct bench_option *options, const char *name)
{
    const char *text = bench_string (options, name);
    char *end = NULL;
    errno = 0;
    const double value = strtod (text, &end);
    const double unit = *end == 'k' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : 1;
    if (errno || end == text || value < 0 || (*end && (unit == 1 || end[1])))
        bench_fail ("--%s %s: not a number like 1000, 10k, 5M", name, text);
    return (uint64_t) (value * unit + 0.5);
}

uint64_t bench_size (const struct bench_option *options)
{
    const uint64_t size = bench_number (options, "size");
    if (size < BENCH_PAYLOAD_MIN || size > BENCH_PAYLOAD_MAX)
        bench_fail ("--size: %d to %d bytes", BENCH_PAYLOAD_MIN, BENCH_PAYLOAD_MAX);
    return size;
}

/* ------------------------------------------------------------------ what came */

uint64_t bench_check_next (struct bench_check *c, const void *payload, size_t size, uint64_t step)
{
    uint64_t n = 0, sent_ns = 0;
    const int rc = bench_payload_check (payload, size, &n, &sent_ns);
    if (n != c->next)
        bench_fail ("number %llu came, %llu was next", (unsigned long long) n, (unsigned long long) c->next);
    if (rc != 0)
        bench_fail ("number %llu came with %zu bytes other than those that were sent", (unsigned long long) n, size);
    c->next += step;
    c->bytes += size;
    return sent_ns;
}

/* ------------------------------------------------------------------ process */

static volatile sig_atomic_t told_to_end;

static void on_signal (int number)
{
    (void) number;
    told_to_end = 1;
}

void bench_catch_signals (void)
{
    struct sigaction action = { .sa_handler = on_signal };      /* no SA_RESTART: what waits shall look */
    sigaction (SIGTERM, &action, NULL);
    sigaction (SIGINT, &action, NULL);
}

bool bench_told_to_end (void)
{
    return told_to_end;
}

void bench_ready (const char *path)
{
    FILE *file = *path ? fopen (path, "w") : NULL;
    if (*path && (!file || fclose (file) != 0))
        bench_fail ("%s: cannot be made", path);
}

uint64_t bench_cpu_ns (void)
{
    return clock_ns (CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t bench_peak_bytes (void)
{
    struct rusage usage;
    const int rc = getrusage (RUSAGE_SELF, &usage);
    assert (rc == 0);
    return (uint64_t) usage.ru_maxrss * 1024;
}
