/* closed_streams: how far the streams went that this node's publishers have closed. Who meets the node later learns it from its fence's answer,
 * finds that it misses them, and asks a journal; else it would not hear of them until the node leaves.
 *
 * Thread:  add and remove from any; list from one.
 * Bounded: the CLOSED_STREAMS_MAX that closed last; the name is not kept. */

#ifndef FM_NODES_CLOSED_STREAMS_H
#define FM_NODES_CLOSED_STREAMS_H

#include <pthread.h>

#include "control.h"

enum { CLOSED_STREAMS_MAX = 256 };

struct closed_stream {
    struct fm_id stream;
    uint64_t epoch, incarnation, next_seq, epoch_first_seq;
};

struct closed_streams {
    pthread_mutex_t lock;
    struct closed_stream items[CLOSED_STREAMS_MAX];     /* the oldest first */
    size_t count;
    struct closed_stream listed[CLOSED_STREAMS_MAX];    /* what the last list points to */
};

void closed_streams_init (struct closed_streams *c);
void closed_streams_release (struct closed_streams *c);

/* A publisher closed its stream, or opened it again. */
void closed_streams_add (struct closed_streams *c, const struct closed_stream *stream);
void closed_streams_remove (struct closed_streams *c, const struct fm_id *stream);

/* The newest ones, at most max. What ret points to is valid until the next list. */
size_t closed_streams_list (struct closed_streams *c, Factmesh__StreamHead *ret, size_t max);

#endif
