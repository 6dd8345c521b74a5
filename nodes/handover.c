#include "handover.h"

#include <assert.h>
#include <stdlib.h>

/* The head of handover.h has the diagram and the invariants. Arrows: near and caught_up by the functions of their names; joined in
 * join, called wherever P or the chain grows; held too much in handover_live, which says BEHIND, and handover_drop_held. */

enum { HELD_SIZE_FIRST = 16 };

static struct handover_item *held_at (const struct handover *h, size_t i)
{
    return &h->held[(h->held_first + i) & (h->held_size - 1)];
}

/* Through where nothing is missing, counting what is held. */
static uint64_t chain_last (const struct handover *h)
{
    if (h->chained == 0)
        return h->complete;
    const uint64_t last = held_at (h, h->chained - 1)->end_seq - 1;
    return last > h->complete ? last : h->complete;
}

/* P or the ring grew: take up into the chain what now follows without a hole; MERGE is LIVE when the first one does. */
static void join (struct handover *h)
{
    if (h->unplaced)
        return;
    uint64_t last = chain_last (h);
    while (h->chained < h->held_count && held_at (h, h->chained)->prev <= last) {
        const uint64_t item_last = held_at (h, h->chained++)->end_seq - 1;
        last = item_last > last ? item_last : last;
    }
    if (h->state == HANDOVER_MERGE && h->chained > 0)
        h->state = HANDOVER_LIVE;
}

static void advance (struct handover *h, uint64_t through)
{
    if (through > h->complete) {
        h->complete = through;
        h->unplaced = false;
        join (h);
    }
}

void handover_init (struct handover *h, bool synced_only, size_t held_max, uint64_t complete, enum handover_state state)
{
    *h = (struct handover) { .state = state, .synced_only = synced_only, .held_max = held_max, .complete = complete, .synced = complete };
}

void handover_release (struct handover *h)
{
    assert (h->held_count == 0);
    free (h->held);
    h->held = NULL;
    h->held_size = 0;
}

static bool held_grow (struct handover *h)
{
    if (h->held_count < h->held_size)
        return true;
    const size_t size = h->held_size ? 2 * h->held_size : HELD_SIZE_FIRST;
    struct handover_item *held = malloc (size * sizeof *held);
    if (!held)
        return false;
    for (size_t i = 0; i < h->held_count; i++)
        held[i] = *held_at (h, i);
    free (h->held);
    h->held = held;
    h->held_size = size;
    h->held_first = 0;
    return true;
}

static enum handover_verdict hold (struct handover *h, const struct handover_item *item)
{
    if (h->held_count && item->first_seq < held_at (h, h->held_count - 1)->end_seq) {
        /* Late, or cut differently: it would have to be sorted in. A question for it is simpler, and rare. */
        handover_announced (h, item->end_seq);
        return HANDOVER_DROP;
    }
    if (item->bytes > h->held_max - h->held_bytes || h->held_count == HANDOVER_ITEMS_MAX || !held_grow (h))
        return HANDOVER_BEHIND;
    *held_at (h, h->held_count) = *item;
    h->held_count++;
    h->held_bytes += item->bytes;
    join (h);
    return HANDOVER_HELD;
}

enum handover_verdict handover_live (struct handover *h, const struct handover_item *item, uint64_t *ret_from)
{
    assert (item->first_seq > item->prev && item->end_seq > item->first_seq);
    if (item->end_seq - 1 <= h->complete || h->state == HANDOVER_REPLAY)
        return HANDOVER_DROP;
    const bool follows = !h->unplaced && item->prev <= h->complete;
    const bool first = h->held_count == 0 || item->end_seq <= held_at (h, 0)->first_seq;
    if (!follows || !first || (h->synced_only && item->end_seq - 1 > h->synced))
        return hold (h, item);
    *ret_from = item->first_seq > h->complete ? item->first_seq : h->complete + 1;
    h->state = HANDOVER_LIVE;
    advance (h, item->end_seq - 1);
    return HANDOVER_DELIVER;
}

void handover_keep (struct handover *h, void *ref)
{
    assert (h->held_count > 0);
    held_at (h, h->held_count - 1)->ref = ref;
}

void handover_announced (struct handover *h, uint64_t end_seq)
{
    if (end_seq - 1 > h->known)
        h->known = end_seq - 1;
}

enum handover_verdict handover_replayed (struct handover *h, uint64_t first_seq, uint64_t end_seq, uint64_t *ret_from)
{
    assert (first_seq > 0 && end_seq > first_seq);
    handover_synced (h, end_seq - 1);
    if (end_seq - 1 <= h->complete)
        return HANDOVER_DROP;
    *ret_from = first_seq > h->complete ? first_seq : h->complete + 1;
    advance (h, end_seq - 1);
    return HANDOVER_DELIVER;
}

void handover_covered (struct handover *h, uint64_t through)
{
    handover_synced (h, through);
    advance (h, through);
    h->unplaced = false;
    join (h);
}

bool handover_gap (struct handover *h, uint64_t first_seq, uint64_t end_seq, uint64_t *ret_first, uint64_t *ret_end)
{
    if (end_seq <= first_seq || end_seq - 1 <= h->complete)
        return false;
    const uint64_t first = first_seq > h->complete ? first_seq : h->complete + 1;
    uint64_t end = end_seq, through = end_seq - 1;
    /* What is held is no gap, whatever the holder lacks. In SYNCED delivery it is one: what no journal has is not handed out. */
    if (h->held_count && !h->synced_only && held_at (h, 0)->first_seq < end_seq) {
        const uint64_t held_first = held_at (h, 0)->first_seq;
        end = held_first > first ? held_first : first;
        through = held_first - 1;
    }
    *ret_first = first;
    *ret_end = end;
    advance (h, through);
    return true;
}

void handover_head (struct handover *h, uint64_t last, uint64_t head)
{
    if (last > chain_last (h))
        handover_announced (h, last + 1);
    else if (h->held_count == 0)
        advance (h, head);
}

void handover_synced (struct handover *h, uint64_t seq)
{
    if (seq > h->synced)
        h->synced = seq;
}

bool handover_new_epoch (struct handover *h, uint64_t epoch_first_seq, struct handover_item *ret_item)
{
    if (!h->synced_only)
        return false;
    if (h->held_count == 0 || held_at (h, h->held_count - 1)->end_seq - 1 <= h->synced) {
        handover_announced (h, epoch_first_seq);
        return false;
    }
    *ret_item = *held_at (h, h->held_count - 1);
    h->held_count--;
    h->held_bytes -= ret_item->bytes;
    if (h->chained > h->held_count)
        h->chained = h->held_count;
    return true;
}

bool handover_take (struct handover *h, struct handover_item *ret_item, uint64_t *ret_from)
{
    if (h->held_count == 0)
        return false;
    const struct handover_item *item = held_at (h, 0);
    const bool passed = item->end_seq - 1 <= h->complete;
    if (!passed && (h->chained == 0 || h->state != HANDOVER_LIVE || (h->synced_only && item->end_seq - 1 > h->synced)))
        return false;
    *ret_item = *item;
    *ret_from = item->first_seq > h->complete ? item->first_seq : h->complete + 1;
    h->held_first = (h->held_first + 1) & (h->held_size - 1);
    h->held_count--;
    h->held_bytes -= ret_item->bytes;
    h->chained -= h->chained > 0;
    advance (h, ret_item->end_seq - 1);
    return true;
}

bool handover_drop_held (struct handover *h, struct handover_item *ret_item)
{
    h->state = HANDOVER_REPLAY;
    h->chained = 0;
    if (h->held_count == 0)
        return false;
    *ret_item = *held_at (h, 0);
    h->held_first = (h->held_first + 1) & (h->held_size - 1);
    h->held_count--;
    h->held_bytes -= ret_item->bytes;
    return true;
}

void handover_near (struct handover *h)
{
    if (h->state == HANDOVER_REPLAY)
        h->state = HANDOVER_MERGE;
}

void handover_caught_up (struct handover *h)
{
    handover_near (h);
    if (h->state == HANDOVER_MERGE && !h->unplaced && h->held_count == 0 && h->known <= h->complete)
        h->state = HANDOVER_LIVE;
}

void handover_go_live (struct handover *h)
{
    h->state = HANDOVER_LIVE;
    h->unplaced = false;
    join (h);
}

bool handover_hole (const struct handover *h, uint64_t *ret_first, uint64_t *ret_end)
{
    if (h->state != HANDOVER_LIVE)
        return false;
    uint64_t last = chain_last (h);
    if (h->chained < h->held_count)
        last = held_at (h, h->chained)->prev;
    else if (h->known > last)
        last = h->known;
    else
        return false;
    /* From P on, although the chain may already reach further: the rule for holders. */
    *ret_first = h->complete + 1;
    *ret_end = last + 1;
    return true;
}

bool handover_waits_for_mark (const struct handover *h, uint64_t *ret_end)
{
    if (!h->synced_only || h->state != HANDOVER_LIVE || h->chained == 0)
        return false;
    *ret_end = chain_last (h) + 1;
    return true;
}
