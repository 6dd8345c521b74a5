/* bench: what `factmesh bench pub, sub, latency, replay` share: options, the check of what comes, and reports for people and programs.
 *
 * Facts published by bench have the type BENCH_TYPE and payloads of bench_load.h, numbered from 1 in each run: who takes them checks every byte. */

#ifndef FM_CLI_BENCH_H
#define FM_CLI_BENCH_H

#include "bench_load.h"
#include "options.h"
#include "patterns.h"
#include "progress.h"

#define BENCH_TYPE "factmesh.bench"
#define BENCH_TOPIC "bench"

enum {
    BENCH_COUNT_DEFAULT = 1000000, /* pub, when neither --count nor --for is given */
    BENCH_LATENCY_COUNT_DEFAULT = 5000,
    BENCH_LATENCY_RATE_DEFAULT = 1000,
    BENCH_TOPICS_MAX = 100000,
    BENCH_TIMEOUT_MS = 10000, /* for a journal, for members, for anything to move */
    BENCH_SILENCE_MS = 3000,  /* sub: a run is over when nothing came for so long */
    BENCH_STREAMS_MAX = 1024, /* whose numbers are checked; of others the bytes alone */
    BENCH_SLICE_MS = 200,     /* between two looks at signals and the terminal */
    BENCH_LOOK_EVERY = 256    /* facts between two looks at the terminal; pub: at the clock */
};

struct bench {
    struct cli cli;
    bool json, no_wait;
    uint64_t count; /* 0: no end */
    uint64_t size, topics, rate;
    uint64_t for_ns; /* 0: no end */
    const char *topic;
    char **patterns; /* NULL behind the last; none: those of a bench run */
    int timeout_ms;
    struct fm_node *node;
    struct progress progress;
};

/* One kind each; the options have been parsed. Returns the exit status. */
int bench_pub (struct bench *b);
int bench_sub (struct bench *b);
int bench_latency (struct bench *b);
int bench_replay (struct bench *b);

/* --- Reports. Text is for people, with --json one object on one line is printed. */

/* "p50 61.2 us, p90 …" */
void bench_latency_say (const char *what, const struct bench_histogram *h);
/* Flush standard output. Returns the status, CLI_ERROR after a message when it could not be written. */
int bench_done (const struct bench *b, int status);

/* Facts a second, 0 for no time at all. */
double bench_rate (uint64_t facts, uint64_t ns);

/* 128 and the signal's number when one came, else the status. */
int bench_status (int status);

#endif
