/* handover: how one subscription passes from replay to live and back, for one stream. Pure: events in, actions out;
 * no sockets, no clock, no messages, only numbers and the caller's handles.
 *
 * Words:   complete (P): every matching fact of the stream up to P has been delivered, or told as a gap.
 *          prev: what a live batch says: nothing under our level lies between prev and its first sequence.
 *
 *            far from the head           near the head            no hole
 *               REPLAY  ---------near------->  MERGE  ---joined--->  LIVE
 *                 ^  ^------held too much--------'                    |
 *                 '----------------held too much ----------------------'
 *
 *   REPLAY  live batches are not kept.   MERGE  they are held until replay reaches the first one's prev.
 *   LIVE    delivered as they come; behind a hole they are held, and the hole is asked for.
 *
 * Invariants (checked by tests/unit/test_handover and the model):
 *   1. P never falls.   2. What is delivered of a batch is above P, and afterwards P is the batch's last.
 *   3. A batch is delivered live only when its prev <= P.   4. held is in sequence order, without overlap, all above P, held_bytes <= held_max.
 *   5. In SYNCED delivery nothing above `synced` is delivered. */

#ifndef FM_NODES_HANDOVER_H
#define FM_NODES_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum handover_state { HANDOVER_REPLAY, HANDOVER_MERGE, HANDOVER_LIVE };

/* A live batch that waits; ref is the caller's handle (it owns the bytes). */
struct handover_item {
    uint64_t first_seq, end_seq, prev;
    size_t bytes;
    void *ref;
};

struct handover {
    enum handover_state state;
    bool synced_only;
    uint64_t complete;              /* P */
    uint64_t synced;                /* the stream's watermark, where synced_only */
    size_t held_bytes, held_max;
    struct handover_item *held;     /* ring or array; grows on need, bounded by held_max bytes and HANDOVER_ITEMS_MAX */
    size_t held_first, held_count, held_size;
};
enum { HANDOVER_ITEMS_MAX = 65536 };

void handover_init (struct handover *h, bool synced_only, size_t held_max, uint64_t complete, enum handover_state state);
/* The caller must have taken every held item back (handover_drop_held). */
void handover_release (struct handover *h);

enum handover_verdict {
    HANDOVER_DELIVER = 1,           /* deliver the facts of the range that are above *ret_from - 1, now; P has moved */
    HANDOVER_HELD,                  /* kept: the machine has the ref; see handover_hole */
    HANDOVER_DROP,                  /* not needed: the caller frees it */
    HANDOVER_BEHIND                 /* too much held: the caller drops it, drops all held (handover_drop_held) and replays from P */
};

/* A live batch came. */
enum handover_verdict handover_live (struct handover *h, const struct handover_item *item, uint64_t *ret_from);

/* A batch of a replay or repair came, complete since P (the holder sends everything that matches, in order). */
enum handover_verdict handover_replayed (struct handover *h, uint64_t first_seq, uint64_t end_seq, uint64_t *ret_from);

/* A replay or repair says that it is complete through `through`. */
void handover_covered (struct handover *h, uint64_t through);

/* A gap [first, end) from a holder. Returns true when part of it is news: deliver the gap [*ret_first, end). */
bool handover_gap (struct handover *h, uint64_t first_seq, uint64_t end_seq, uint64_t *ret_first);

/* The head at our level: nothing under it lies above `last` (a head notice: `last` is the bound for our level, `head` the stream's head). */
void handover_head (struct handover *h, uint64_t last, uint64_t head);

/* The publisher passed on that all up to seq is synced. */
void handover_synced (struct handover *h, uint64_t seq);

/* Take the next held batch that can be delivered now, or that P has passed (then *ret_from >= end_seq: just free it). False: none. */
bool handover_take (struct handover *h, struct handover_item *ret_item, uint64_t *ret_from);

/* Give back every held item, one a call; false when none is left. Turns to REPLAY. */
bool handover_drop_held (struct handover *h, struct handover_item *ret_item);

/* The replay is near enough: hold live batches from now on. And: the replay has reached the synced end with nothing missing below it. */
void handover_near (struct handover *h);
void handover_caught_up (struct handover *h);

/* Is something missing that must be asked for? [*ret_first, *ret_end). */
bool handover_hole (const struct handover *h, uint64_t *ret_first, uint64_t *ret_end);

#endif
