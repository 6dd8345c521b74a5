#include "bench.h"

#include <assert.h>
#include <errno.h>
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

/* ------------------------------------------------------------------ payloads */

static uint8_t pattern[2 * BENCH_PAYLOAD_MAX];

void bench_payload_init (void)
{
    uint64_t x = 88172645463325252u;        /* xorshift64, Marsaglia 2003 */
    for (size_t i = 0; i < sizeof pattern; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        pattern[i] = (uint8_t) x;
    }
}

static const uint8_t *payload_pattern (uint64_t n)
{
    return pattern + n * 61 % 4096;
}

void bench_payload_put (uint8_t *payload, size_t size, uint64_t n, uint64_t sent_ns)
{
    assert (size >= BENCH_PAYLOAD_MIN && size <= BENCH_PAYLOAD_MAX);
    memcpy (payload, &n, 8);
    memcpy (payload + 8, &sent_ns, 8);
    memcpy (payload + 16, payload_pattern (n), size - 16);
}

uint64_t bench_check_next (struct bench_check *c, const void *payload, size_t size, uint64_t step)
{
    uint64_t n, sent_ns;
    if (size < BENCH_PAYLOAD_MIN)
        bench_fail ("a payload of %zu bytes came", size);
    memcpy (&n, payload, 8);
    memcpy (&sent_ns, (const uint8_t *) payload + 8, 8);
    if (n != c->next)
        bench_fail ("number %llu came, %llu was next", (unsigned long long) n, (unsigned long long) c->next);
    if (memcmp ((const uint8_t *) payload + 16, payload_pattern (n), size - 16) != 0)
        bench_fail ("number %llu came with other bytes than were sent", (unsigned long long) n);
    c->next += step;
    c->bytes += size;
    return sent_ns;
}

/* ------------------------------------------------------------------ histogram */

/* As in HdrHistogram (G. Tene): buckets of equal width within each power of two; 2^11 of them keep 3 digits. */
enum { SUB_BITS = 11, SUB_COUNT = 1 << SUB_BITS, POWERS = 30 };

static size_t bucket_of (uint64_t ns)
{
    if (ns < SUB_COUNT)
        return (size_t) ns;
    const unsigned power = 63u - (unsigned) __builtin_clzll (ns) - SUB_BITS + 1;
    const unsigned capped = power < POWERS ? power : POWERS - 1;
    uint64_t sub = ns >> capped;
    if (sub >= SUB_COUNT)
        sub = SUB_COUNT - 1;
    return (size_t) capped * SUB_COUNT + (size_t) sub;
}

void bench_histogram_init (struct bench_histogram *h)
{
    h->count = h->max = 0;
    h->min = UINT64_MAX;
    h->buckets = calloc ((size_t) POWERS * SUB_COUNT, sizeof *h->buckets);
    if (!h->buckets)
        bench_fail ("out of memory");
}

void bench_histogram_add (struct bench_histogram *h, uint64_t ns)
{
    h->buckets[bucket_of (ns)]++;
    h->count++;
    if (ns > h->max)
        h->max = ns;
    if (ns < h->min)
        h->min = ns;
}

uint64_t bench_histogram_quantile (const struct bench_histogram *h, double q)
{
    const double wanted = q * (double) h->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < (size_t) POWERS * SUB_COUNT; i++) {
        seen += h->buckets[i];
        if (seen > 0 && (double) seen >= wanted)
            return (uint64_t) (i % SUB_COUNT) << (i / SUB_COUNT);
    }
    return h->max;
}

void bench_histogram_print (const struct bench_histogram *h, FILE *out)
{
    static const struct { const char *name; double q; } points[] = {
        { "p50_us", 0.50 }, { "p90_us", 0.90 }, { "p99_us", 0.99 }, { "p999_us", 0.999 },
    };
    fprintf (out, "\"samples\": %llu", (unsigned long long) h->count);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        fprintf (out, ", \"%s\": %.1f", points[i].name, (double) bench_histogram_quantile (h, points[i].q) / 1e3);
    fprintf (out, ", \"max_us\": %.1f", (double) h->max / 1e3);
}

/* ------------------------------------------------------------------ pace, process */

void bench_pace_init (struct bench_pace *p, uint64_t per_second)
{
    p->start_ns = bench_now_ns ();
    p->interval_ns = per_second ? 1e9 / (double) per_second : 0;
}

uint64_t bench_pace_due (const struct bench_pace *p, uint64_t n)
{
    return p->start_ns + (uint64_t) (p->interval_ns * (double) n);
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
