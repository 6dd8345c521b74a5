/* bench: what every benchmark program shares: the clock, payloads that can be checked, a latency histogram, options, and
 * one line of JSON as the answer.
 *
 * A payload carries its number and a pattern, so that the receiver can tell a loss, a duplicate, a reordering and a changed byte
 * without keeping anything. */

#ifndef FM_BENCH_H
#define FM_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

uint64_t bench_now_ns (void);               /* CLOCK_MONOTONIC, the same for all processes of the machine */
void bench_sleep_until (uint64_t at_ns);
void bench_fail (const char *format, ...) __attribute__ ((format (printf, 1, 2), noreturn));

/* --- Options: --name value pairs, checked against a list; a missing one has its default. */
struct bench_option {
    const char *name;
    const char *help;
    const char *value;                      /* default, then what was given */
};
/* Ends the process with a message for a wrong option; --help prints the list. */
void bench_options (int argc, char **argv, const char *what, struct bench_option *options, size_t count);
uint64_t bench_number (const struct bench_option *options, const char *name);     /* 10k, 5M are fine */
const char *bench_string (const struct bench_option *options, const char *name);

/* --- Payloads of `size` bytes (8 at least), number n from 1, sent at time t (0 when it does not matter; needs 16 bytes). */
enum { BENCH_PAYLOAD_MIN = 16, BENCH_PAYLOAD_MAX = 1 << 20 };
void bench_payload_init (void);
void bench_payload_put (uint8_t *payload, size_t size, uint64_t n, uint64_t sent_ns);

/* What came, in order: ends the process on a hole, a duplicate, a reordering or a changed byte. One for each publisher. */
struct bench_check {
    uint64_t next;                          /* number expected; start it at 1 */
    uint64_t bytes;
};
/* Returns the time the payload was sent. step: 1, or more where a filter leaves facts out. */
uint64_t bench_check_next (struct bench_check *c, const void *payload, size_t size, uint64_t step);

/* --- Latency histogram: 3 significant digits, 1 ns to about 18 minutes, fixed memory. */
struct bench_histogram {
    uint64_t count, max, min;
    uint64_t *buckets;
};
void bench_histogram_init (struct bench_histogram *h);
void bench_histogram_add (struct bench_histogram *h, uint64_t ns);
/* Value at or below which the share q (0 to 1) of the samples lies. */
uint64_t bench_histogram_quantile (const struct bench_histogram *h, double q);
/* `"p50_us": …, "p99_us": …` and so on, for a JSON object. */
void bench_histogram_print (const struct bench_histogram *h, FILE *out);

/* --- A rate: when the n-th event is due, so that a late one does not make the next ones late (no coordinated omission). */
struct bench_pace {
    uint64_t start_ns;
    double interval_ns;                     /* 0: as fast as it goes */
};
void bench_pace_init (struct bench_pace *p, uint64_t per_second);
uint64_t bench_pace_due (const struct bench_pace *p, uint64_t n);   /* n from 0 */

uint64_t bench_cpu_ns (void);               /* CPU time of this process */
uint64_t bench_peak_bytes (void);           /* peak resident memory of this process */

#endif
