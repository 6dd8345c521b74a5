/* bench: what every benchmark program shares: the clock, options, the check of what came, and one line of JSON as the answer.
 * Payloads, rates and histograms are those of `factmesh bench`: cli/bench_load.h. */

#ifndef FM_BENCH_H
#define FM_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/bench_load.h"

uint64_t bench_now_ns (void);               /* CLOCK_MONOTONIC, the same for all processes of the machine */
void bench_sleep_until (uint64_t at_ns);
/* Wait for the moment: asleep, and when spin is set the last BENCH_SPIN_NS awake, so that the wake-up's own delay does not count. */
enum { BENCH_SPIN_NS = 60000 };
void bench_wait_until (uint64_t at_ns, bool spin);
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
uint64_t bench_size (const struct bench_option *options);       /* of "size": BENCH_PAYLOAD_MIN to _MAX, or the process ends */
const char *bench_string (const struct bench_option *options, const char *name);

/* What came, in order: ends the process on a hole, a duplicate, a reordering or a changed byte. One for each publisher. */
struct bench_check {
    uint64_t next;                          /* number expected; start it at 1 */
    uint64_t bytes;
};
/* Returns the time the payload was sent. step: 1, or more where a filter leaves facts out. */
uint64_t bench_check_next (struct bench_check *c, const void *payload, size_t size, uint64_t step);

/* SIGTERM and SIGINT end the run in good order: what runs "until told" looks here. */
void bench_catch_signals (void);
bool bench_told_to_end (void);

/* Make an empty file, for who waits for it; no path: nobody does. */
void bench_ready (const char *path);

uint64_t bench_cpu_ns (void);               /* CPU time of this process */
uint64_t bench_peak_bytes (void);           /* peak resident memory of this process */

#endif
