#include "bench_load.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "fm_types.h"

/* ------------------------------------------------------------------ payloads */

enum { PATTERN_SHIFTS = 4096, PATTERN_STEP = 61, HEAD_LEN = BENCH_PAYLOAD_MIN };

static uint8_t pattern[BENCH_PAYLOAD_MAX + PATTERN_SHIFTS];

void bench_payload_init (void)
{
    uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
    for (size_t i = 0; i < sizeof pattern; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        pattern[i] = (uint8_t) x;
    }
}

static const uint8_t *pattern_of (uint64_t n)
{
    return pattern + n * PATTERN_STEP % PATTERN_SHIFTS;
}

void bench_payload_put (uint8_t *payload, size_t size, uint64_t n, uint64_t sent_ns)
{
    assert (size >= BENCH_PAYLOAD_MIN && size <= BENCH_PAYLOAD_MAX);
    memcpy (payload, &n, 8);
    memcpy (payload + 8, &sent_ns, 8);
    memcpy (payload + HEAD_LEN, pattern_of (n), size - HEAD_LEN);
}

int bench_payload_check (const void *payload, size_t size, uint64_t *ret_n, uint64_t *ret_sent_ns)
{
    const uint8_t *p = payload;
    uint64_t n;
    if (size < 8)
        return FM_ERR_MALFORMED;
    memcpy (&n, p, 8);
    *ret_n = n;
    if (size < BENCH_PAYLOAD_MIN || size > BENCH_PAYLOAD_MAX ||
        memcmp (p + HEAD_LEN, pattern_of (n), size - HEAD_LEN) != 0)
        return FM_ERR_MALFORMED;
    memcpy (ret_sent_ns, p + 8, 8);
    return 0;
}

/* ------------------------------------------------------------------ pace */

void bench_pace_init (struct bench_pace *p, uint64_t start_ns, uint64_t per_second)
{
    p->start_ns = start_ns;
    p->interval_ns = per_second ? 1e9 / (double) per_second : 0;
}

uint64_t bench_pace_due (const struct bench_pace *p, uint64_t n)
{
    return p->start_ns + (uint64_t) (p->interval_ns * (double) n);
}

/* ------------------------------------------------------------------ histogram */

/* Buckets of equal width within each power of two. */
enum { SUB_COUNT = 1 << BENCH_HISTOGRAM_SUB_BITS };

static size_t bucket_of (uint64_t ns)
{
    if (ns < SUB_COUNT)
        return (size_t) ns;
    const unsigned power = 63u - (unsigned) __builtin_clzll (ns) - BENCH_HISTOGRAM_SUB_BITS + 1;
    const unsigned capped = power < BENCH_HISTOGRAM_POWERS ? power : BENCH_HISTOGRAM_POWERS - 1;
    uint64_t sub = ns >> capped;
    if (sub >= SUB_COUNT)
        sub = SUB_COUNT - 1;
    return (size_t) capped * SUB_COUNT + (size_t) sub;
}

void bench_histogram_add (struct bench_histogram *h, uint64_t ns)
{
    h->buckets[bucket_of (ns)]++;
    h->count++;
    if (ns > h->max)
        h->max = ns;
}

/* The highest value that falls into a bucket: a percentile is never told better than it is. */
static uint64_t bucket_end (const struct bench_histogram *h, size_t i)
{
    const uint64_t end = (((uint64_t) (i % SUB_COUNT) + 1) << (i / SUB_COUNT)) - 1;
    return end < h->max ? end : h->max;
}

uint64_t bench_histogram_quantile (const struct bench_histogram *h, double q)
{
    const double wanted = q * (double) h->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < sizeof h->buckets / sizeof *h->buckets; i++) {
        seen += h->buckets[i];
        if (seen > 0 && (double) seen >= wanted)
            return bucket_end (h, i);
    }
    return h->max;
}

void bench_histogram_print (const struct bench_histogram *h, FILE *out)
{
    static const struct {
        const char *name;
        double q;
    } points[] = {
        { "p50_us", 0.50 },
        { "p90_us", 0.90 },
        { "p99_us", 0.99 },
        { "p999_us", 0.999 },
    };
    (void) fprintf (out, "\"samples\": %llu", (unsigned long long) h->count);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        (void) fprintf (out, ", \"%s\": %.1f", points[i].name,
                        (double) bench_histogram_quantile (h, points[i].q) / 1e3);
    (void) fprintf (out, ", \"max_us\": %.1f", (double) h->max / 1e3);
}

void bench_histogram_print_curve (const struct bench_histogram *h, FILE *out)
{
    enum { TICKS = 4 }; /* points for each halving of what is left to 1 */
    (void) fputs ("\"curve\": [", out);
    for (unsigned i = 0; exp2 ((double) i / TICKS) <= (double) h->count; i++) {
        const double left = exp2 (-(double) i / TICKS);
        (void) fprintf (out, "%s[%.3f, %.1f]", i ? ", " : "", 1 / left,
                        (double) bench_histogram_quantile (h, 1 - left) / 1e3);
    }
    (void) fputs ("]", out);
}
