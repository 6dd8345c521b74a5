/* context: what a journal's threads share, beside the log: counters, notices, and the wake-ups between them.
 *
 * Thread:  any. Set up by journal.c before the threads start, and torn down after they ended. */

#ifndef FM_JOURNAL_CONTEXT_H
#define FM_JOURNAL_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>

#include "journal.h"
#include "wake.h"

struct indexer;
struct marks;
struct recent;

/* Who reads the synced log. */
enum journal_bells { BELL_SERVER, BELL_GROUPS, BELL_INDEXER, BELL_BLOBS, BELL_COUNT };
struct journal_bell {
    struct wake wake;
    atomic_bool wanted;
};

struct journal_context {
    struct fm_node *node;
    struct log *log;
    const struct clock *clock;
    struct fm_id journal;
    uint64_t generation;
    struct journal_options options;             /* with the defaults filled in */
    struct marks *marks;
    struct recent *recent;
    _Atomic (struct indexer *) indexer;         /* NULL: not started yet */

    /* The sync thread raises these when somebody said that he waits. */
    struct wake room;                           /* the log's buffer has room again: intake */
    atomic_bool room_wanted;
    struct journal_bell bells[BELL_COUNT];      /* the synced end moved, or a request came */

    _Atomic uint64_t counters[JOURNAL_COUNTER_COUNT];
    pthread_mutex_t notice_lock;
};

static inline void journal_count (struct journal_context *c, enum journal_counter counter, uint64_t n)
{
    atomic_fetch_add_explicit (&c->counters[counter], n, memory_order_relaxed);
}

static inline uint64_t journal_counter (const struct journal_context *c, enum journal_counter counter)
{
    return atomic_load_explicit (&c->counters[counter], memory_order_relaxed);
}

void journal_notice (struct journal_context *c, const char *id, const char *format, ...) __attribute__ ((format (printf, 3, 4)));

/* Start a thread in which no signal is handled: signals are the program's. 0 or -errno. */
int journal_thread (pthread_t *thread, void *(*run) (void *), void *arg);

#endif
