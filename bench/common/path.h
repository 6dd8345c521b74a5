/* path: one stretch of a fact's way, run alone and the same each time: for nanoseconds and, under callgrind, for instructions.
 *
 * What is to be counted runs inside path_measured: callgrind collects from its entry to its return (--toggle-collect=path_measured),
 * so that preparing and checking stay out of the count. Time is the test's own, random choices repeat: two runs count the same.
 *
 * Thread: the caller's. */

#ifndef FM_BENCH_PATH_H
#define FM_BENCH_PATH_H

#include "batch.h"
#include "bench.h"

/* A step of the way. */
struct path_step {
    const char *name;
    bool (*prepare) (void *context);            /* make the next facts ready; false: there are no more */
    void (*run) (void *context);                /* what is counted */
    uint64_t (*check) (void *context);          /* look at what came of it; returns how many facts that were */
};

/* Run until `count` facts passed, and print {"step", "facts", "ns_per_fact"}. */
void path_run (const struct path_step *step, void *context, uint64_t count);

/* Find a step by its name, or end the process with the list. */
const struct path_step *path_find (const struct path_step *steps, size_t count, const char *name);

void path_measured (void (*run) (void *context), void *context);

/* --- A batch as a publisher makes it under load: numbered payloads, a frame's worth of them. */

enum { PATH_TOPICS_MAX = 1000 };

struct path_batch {
    uint8_t *bytes;
    size_t len, size, payload_size;
    uint32_t count;                             /* facts in a batch */
    uint64_t next_seq;
    struct fm_id stream;
    struct batch_topic *topics;                 /* fact with sequence n has topic n modulo their number */
    uint32_t topic_count;
    char (*names)[16];
};
void path_batch_init (struct path_batch *b, size_t payload_size, uint32_t topics);
void path_batch_release (struct path_batch *b);
/* Make the next one: facts [next_seq, next_seq + count). */
void path_batch_make (struct path_batch *b);

#endif
