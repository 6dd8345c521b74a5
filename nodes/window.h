/* window: the batches that a publisher keeps until the journals that count have synced them. Bookkeeping only: no sockets, no clock.
 *
 *     first_seq of the stream's epoch          start_seq                 next_seq
 *       |--- synced: ask a journal ---|-- dropped --|---- held, contiguous ----|--- not sent yet
 *                                  synced
 *
 * What was restored from a file lies below the epoch's first sequence, with holes where an earlier epoch ended: [start_seq, next_seq) is
 * contiguous from the epoch's first sequence on.
 *
 * Holds references to ZeroMQ messages: what is still queued for a subscriber and what is held here are the same bytes.
 * Thread:  one, or one lock: the publisher's.
 * Bounded: the owner asks window_has_room first; bytes count the messages and WINDOW_ITEM_OVERHEAD for each. */

#ifndef FM_NODES_WINDOW_H
#define FM_NODES_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

/* One batch, sent. */
struct window_item {
    uint64_t first_seq;
    uint64_t end_seq;
    size_t body_pos;                /* the batch's bytes begin here in the message */
    uint64_t place;                 /* in the window's file, where there is one */
    zmq_msg_t message;
};

/* The item itself (up to twice, as the ring doubles), ZeroMQ's bookkeeping of a message's content, the allocator's. */
enum { WINDOW_ITEM_OVERHEAD = 2 * sizeof (struct window_item) + 64 };

struct window {
    struct window_item *items;      /* ring; size is a power of two */
    size_t first, count, size;
    size_t bytes, bytes_max;
    uint64_t start_seq;             /* the first sequence held; next_seq when none is */
    uint64_t next_seq;              /* the first sequence behind what was sent */
    uint64_t synced;                /* all up to it is safe at a journal */
};

/* next_seq: the first sequence that will come; all below is of earlier epochs. */
void window_init (struct window *w, size_t bytes_max, uint64_t next_seq);
void window_release (struct window *w);

static inline size_t window_cost (size_t message_len)
{
    return message_len + WINDOW_ITEM_OVERHEAD;
}

/* Is there room for so many more bytes? An empty window takes anything, else one large fact could never be sent. */
static inline bool window_has_room (const struct window *w, size_t cost)
{
    return w->count == 0 || (w->bytes <= w->bytes_max && cost <= w->bytes_max - w->bytes);
}

/* Keep the batch [next_seq, end_seq): a reference to message, which stays the caller's. Returns 0 or -ENOMEM. */
int window_push (struct window *w, uint64_t end_seq, size_t body_pos, zmq_msg_t *message);

/* Make sure that the next push has memory: 0 or -ENOMEM. */
int window_reserve (struct window *w);

/* Keep a batch [first_seq, end_seq) of an earlier epoch: before the first push, in sequence order. The rest as window_push. */
int window_restore (struct window *w, uint64_t first_seq, uint64_t end_seq, uint64_t place, zmq_msg_t *message);

/* The oldest item, the newest; NULL when nothing is held. */
struct window_item *window_first (struct window *w);
struct window_item *window_last (struct window *w);

/* All up to seq is synced: what lies wholly below is let go. Never falls back. Returns true when room was made. */
bool window_synced (struct window *w, uint64_t seq);

/* Let the oldest batch go though nobody has synced it. False: nothing is held. */
bool window_drop_oldest (struct window *w);

/* The item that holds seq, or NULL: it is below start_seq, between epochs, or not sent yet. Valid until the window changes. */
struct window_item *window_find (struct window *w, uint64_t seq);
/* The first item that holds seq or something above it, or NULL. */
struct window_item *window_find_from (struct window *w, uint64_t seq);
/* The item behind, or NULL when none follows without a hole. */
struct window_item *window_after (struct window *w, const struct window_item *item);

#endif
