/* bench_load: what `factmesh bench` and the programs of bench/ share: payloads that can be checked, a rate, and a
 * latency histogram.
 *
 * A payload carries its number, the time it was sent and a pattern that follows from the number, so that the receiver
 * can tell a loss, a duplicate, a reordering and a changed byte without keeping anything.
 *
 * Thread: none of its own. The pattern is made by bench_payload_init, before the first use. */

#ifndef FM_CLI_BENCH_LOAD_H
#define FM_CLI_BENCH_LOAD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* --- Payloads. */

enum { BENCH_PAYLOAD_MIN = 16, BENCH_PAYLOAD_MAX = 1 << 20 };

void bench_payload_init (void);
/* Write number n, from 1 on, sent at sent_ns (0: it does not matter); size is at least BENCH_PAYLOAD_MIN. */
void bench_payload_put (uint8_t *payload, size_t size, uint64_t n, uint64_t sent_ns);
/* Check every byte. FM_ERR_MALFORMED: not a payload of bench_payload_put; *ret_n is set in any case when there are 8
 * bytes. */
int bench_payload_check (const void *payload, size_t size, uint64_t *ret_n, uint64_t *ret_sent_ns);

/* --- A rate: when the n-th event is due, whether or not the ones before were late. Latencies are counted from then, so
 * that a pause of the sender cannot hide those that should have been sent meanwhile ("coordinated omission", G. Tene).
 */

struct bench_pace {
    uint64_t start_ns;
    double interval_ns; /* 0: all at once */
};
void bench_pace_init (struct bench_pace *p, uint64_t start_ns, uint64_t per_second);
uint64_t bench_pace_due (const struct bench_pace *p, uint64_t n); /* n from 0 */

/* --- Latency histogram, as HdrHistogram: three significant digits, 1 ns to about 18 minutes (longer counts as that).
 * Zero-initialised. */

enum { BENCH_HISTOGRAM_SUB_BITS = 11, BENCH_HISTOGRAM_POWERS = 30 };

struct bench_histogram {
    uint64_t count, max;
    uint64_t buckets[BENCH_HISTOGRAM_POWERS << BENCH_HISTOGRAM_SUB_BITS];
};
void bench_histogram_add (struct bench_histogram *h, uint64_t ns);
/* The value at or below which the share q (0 to 1) of the samples lies. 0 when there are none. */
uint64_t bench_histogram_quantile (const struct bench_histogram *h, double q);
/* `"samples": …, "p50_us": …, "p90_us": …, "p99_us": …, "p999_us": …, "max_us": …`, for a JSON object. */
void bench_histogram_print (const struct bench_histogram *h, FILE *out);
/* `"curve": [[1/(1-q), us], …]`, with points that get closer the nearer q comes to 1: the axis of HdrHistogram's plots.
 */
void bench_histogram_print_curve (const struct bench_histogram *h, FILE *out);

#endif
