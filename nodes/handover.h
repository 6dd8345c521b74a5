/* handover: how one subscription passes from replay to live and back, for one stream. Pure: events in, actions out;
 * no sockets, no clock, no messages, only numbers and the caller's handles.
 *
 * Words:   complete (P): every matching fact of the stream up to P has been delivered, or told as a gap.
 *          prev: what a live batch says: nothing under our level lies between prev and its first sequence.
 *          known: something under our level may lie up to here, though no batch of it came: a head notice said so, or a batch that
 *          was announced only, or one that had to be dropped.
 *          chain: the held batches in front, each of whose prev lies within the one before (the first's: at most P).
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
 *   3. A batch is delivered live only when P is known and prev <= P.   4. held is in sequence order, without overlap, held_bytes <= held_max.
 *   5. In SYNCED delivery no live batch that ends above `synced` is delivered.
 *
 * The rule for holders that 2 rests on: a replay or repair is opened from P + 1 or below, and what comes of it is an unbroken
 * beginning of what the holder has. So its next batch may always be delivered, whatever P has become meanwhile. */

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
    bool unplaced;                  /* only the replay says where P begins: until it has, nothing follows; never in LIVE */
    uint64_t known;
    uint64_t synced;                /* the stream's watermark, where synced_only */
    size_t held_bytes, held_max;
    struct handover_item *held;     /* a ring that grows on need, bounded by held_max bytes and HANDOVER_ITEMS_MAX */
    size_t held_first, held_count, held_size;
    size_t chained;                 /* length of the chain */
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

/* The handle of the batch that was just HELD, where it is made only then. */
void handover_keep (struct handover *h, void *ref);

/* A live batch was announced without its facts, or could not be kept: it must be asked for. */
void handover_announced (struct handover *h, uint64_t end_seq);

/* A batch of a replay or repair came, complete since P (the holder sends everything that matches, in order). In SYNCED delivery
 * only a journal is a holder: what it sends is synced. */
enum handover_verdict handover_replayed (struct handover *h, uint64_t first_seq, uint64_t end_seq, uint64_t *ret_from);

/* A replay or repair says that it is complete through `through`. */
void handover_covered (struct handover *h, uint64_t through);

/* A gap [first, end) from a holder. Returns true when part of it is news: deliver the gap [*ret_first, *ret_end) (it may be empty), take
 * what is held, and call again with the same gap until it returns false: a held fact beats a gap, and divides it. */
bool handover_gap (struct handover *h, uint64_t first_seq, uint64_t end_seq, uint64_t *ret_first, uint64_t *ret_end);

/* The head at our level: nothing under it lies above `last` (a head notice: `last` is the bound for our level, `head` the stream's head). */
void handover_head (struct handover *h, uint64_t last, uint64_t head);

/* The publisher passed on that all up to seq is synced. */
void handover_synced (struct handover *h, uint64_t seq);

/* The stream goes on in a new epoch that begins at epoch_first_seq. In SYNCED delivery the marks of its publisher say nothing of what
 * the old one sent last, which may be void: gives back what is held and not synced yet, one a call, false when none is left. It
 * will be asked for. */
bool handover_new_epoch (struct handover *h, uint64_t epoch_first_seq, struct handover_item *ret_item);

/* Take the next held batch that can be delivered now, or that P has passed (then *ret_from >= end_seq: just free it). False: none.
 * To be called until it says false after each event that can move P or `synced`. */
bool handover_take (struct handover *h, struct handover_item *ret_item, uint64_t *ret_from);

/* Give back every held item, one a call; false when none is left. Turns to REPLAY. */
bool handover_drop_held (struct handover *h, struct handover_item *ret_item);

/* The replay is near enough: hold live batches from now on. And: the replay has reached the synced end; LIVE when nothing that is known
 * of is missing. And: no replay will come; what is missing is asked for by itself. */
void handover_near (struct handover *h);
void handover_caught_up (struct handover *h);
void handover_go_live (struct handover *h);

/* Is something missing that must be asked for? [*ret_first, *ret_end). Only in LIVE. */
bool handover_hole (const struct handover *h, uint64_t *ret_first, uint64_t *ret_end);

/* In SYNCED delivery: is something held that waits for nothing but its watermark? Up to *ret_end. */
bool handover_waits_for_mark (const struct handover *h, uint64_t *ret_end);

#endif
