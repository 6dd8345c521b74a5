/* The streams of a subscription: the table, whose a stream is, and the bookkeeping after each event of its handover. */

#include "subscription.h"

#include <stdio.h>
#include <stdlib.h>

enum { TABLE_SIZE_FIRST = 64 };

static size_t slot_of (const struct fm_subscription *s, const struct fm_id *id)
{
    size_t i = id_hash (id) & (s->table_size - 1);
    while (s->table[i] && !id_equal (&s->table[i]->id, id))
        i = (i + 1) & (s->table_size - 1);
    return i;
}

struct stream *subscription_find (const struct fm_subscription *s, const struct fm_id *id)
{
    return s->table_size ? s->table[slot_of (s, id)] : NULL;
}

void subscription_each (struct fm_subscription *s, void (*f) (struct fm_subscription *s, struct stream *st))
{
    for (size_t i = 0; i < s->table_size; i++) {
        if (s->table[i])
            f (s, s->table[i]);
    }
}

static bool table_resize (struct fm_subscription *s, size_t size)
{
    struct stream **old = s->table;
    const size_t old_size = s->table_size;
    struct stream **table = calloc (size, sizeof (*table));
    if (!table)
        return false;
    s->table = table;
    s->table_size = size;
    for (size_t i = 0; i < old_size; i++) {
        if (old[i])
            s->table[slot_of (s, &old[i]->id)] = old[i];
    }
    free (old);
    return true;
}

static void behind_update (struct fm_subscription *s, struct stream *st)
{
    const bool behind = st->h.state != HANDOVER_LIVE;
    if (behind == st->in_behind)
        return;
    st->in_behind = behind;
    if (behind) {
        st->previous_behind = NULL;
        st->next_behind = s->behind;
        if (s->behind)
            s->behind->previous_behind = st;
        s->behind = st;
        return;
    }
    if (st->previous_behind)
        st->previous_behind->next_behind = st->next_behind;
    else
        s->behind = st->next_behind;
    if (st->next_behind)
        st->next_behind->previous_behind = st->previous_behind;
}

/* May it be forgotten? All of it lies below the base, so that it begins there again should it come back. */
static bool is_forgettable (const struct fm_subscription *s, const struct stream *st)
{
    return s->has_base && !st->beyond && !st->acked_beyond && (!st->has_owner || st->owner_gone) && st->h.held_count == 0 && !st->in_dirty
           && !st->in_take && !st->in_trouble && !st->in_behind && st != s->walk_stream && st != s->lost;
}

/* The table is full: forget the streams that have ended. */
static void forget_ended (struct fm_subscription *s)
{
    struct stream **old = s->table, **table = calloc (s->table_size, sizeof (*table));
    if (!table)
        return;
    s->table = table;                       /* filled anew: a slot that is freed would interrupt the chains of others */
    for (size_t i = 0; i < s->table_size; i++) {
        struct stream *st = old[i];
        if (st && is_forgettable (s, st)) {
            handover_release (&st->h);
            free (st);
            s->stream_count--;
        } else if (st) {
            table[slot_of (s, &st->id)] = st;
        }
    }
    free (old);
}

static enum handover_state first_state (const struct fm_subscription *s)
{
    if (s->session_state == SESSION_NONE)
        return s->fences_only ? HANDOVER_MERGE : HANDOVER_LIVE;
    if (s->latest_end)
        return HANDOVER_REPLAY;
    /* Until the journal has said how far its end is, it may be near. */
    return !s->session_told || s->caught_up_ns ? HANDOVER_MERGE : HANDOVER_REPLAY;
}

/* What lies below its start a session does not send: a fact of that which still comes live is not where the stream begins for us. */
static bool is_unplaced (const struct fm_subscription *s)
{
    return s->session_state == SESSION_OPEN && s->session_start > 1;
}

struct stream *subscription_stream (struct fm_subscription *s, const struct fm_id *id)
{
    struct stream *st = subscription_find (s, id);
    if (st)
        return st;
    if (s->stream_count == SUBSCRIPTION_STREAMS_MAX)
        forget_ended (s);
    if (s->stream_count == SUBSCRIPTION_STREAMS_MAX) {
        /* A session moves the base over streams that ended, so that they need not be remembered. */
        if (s->has_base)
            subscription_want_session (s);
        node_notice (s->node, "STREAMS-FULL", "limit=%d: facts of further streams are not taken", SUBSCRIPTION_STREAMS_MAX);
        return NULL;
    }
    if (2 * (s->stream_count + 1) > s->table_size && !table_resize (s, s->table_size ? 2 * s->table_size : TABLE_SIZE_FIRST))
        return NULL;
    st = calloc (1, sizeof *st);
    if (!st)
        return NULL;
    st->id = *id;
    handover_init (&st->h, s->synced_only, s->held_max, 0, first_state (s));
    st->h.unplaced = is_unplaced (s);
    s->table[slot_of (s, id)] = st;
    s->stream_count++;
    behind_update (s, st);
    return st;
}

void subscription_drop_held (struct fm_subscription *s, struct stream *st)
{
    struct handover_item item;
    while (handover_drop_held (&st->h, &item))
        free (item.ref);
    subscription_settle (s, st);
}

static void release_stream (struct fm_subscription *s, struct stream *st)
{
    subscription_drop_held (s, st);
    handover_release (&st->h);
}

void subscription_streams_release (struct fm_subscription *s)
{
    subscription_each (s, release_stream);
    for (size_t i = 0; i < s->table_size; i++)
        free (s->table[i]);
    free (s->table);
    s->table = NULL;
    s->table_size = s->stream_count = 0;
}

static void take_later (struct fm_subscription *s, struct stream *st)
{
    if (st->in_take)
        return;
    st->in_take = true;
    st->next_take = NULL;
    if (s->take_last)
        s->take_last->next_take = st;
    else
        s->take_first = st;
    s->take_last = st;
}

static void look_for_trouble (struct fm_subscription *s, struct stream *st)
{
    uint64_t first, end;
    if (st->in_trouble)
        return;
    if (handover_hole (&st->h, &first, &end)) {
        subscription_trouble (s, st, 0);
    } else if (handover_waits_for_mark (&st->h, &end)) {
        st->mark_complete = st->h.complete;
        st->mark_ns = node_now () + NS_OF_MS (SUBSCRIPTION_MARK_MS);
        subscription_trouble (s, st, st->mark_ns);
    }
}

void subscription_dirty (struct fm_subscription *s, struct stream *st)
{
    if (st->in_dirty || !s->cursor_name)
        return;
    st->in_dirty = true;
    st->next_dirty = s->dirty;
    s->dirty = st;
}

void subscription_settle (struct fm_subscription *s, struct stream *st)
{
    s->held_bytes += st->h.held_bytes - st->held_seen;
    st->held_seen = st->h.held_bytes;
    if (st->h.complete != st->complete_seen) {
        st->complete_seen = st->h.complete;
        st->positioned = true;
        st->beyond = true;
        st->turn = st->asked = st->given_up = 0;
        st->gap_ns = st->gap_said = 0;
        subscription_dirty (s, st);
    }
    behind_update (s, st);
    if (st->h.held_count)
        take_later (s, st);
    look_for_trouble (s, st);
}

void subscription_position (struct fm_subscription *s, struct stream *st, uint64_t complete)
{
    handover_covered (&st->h, complete);
    st->positioned = true;
    subscription_settle (s, st);
}

static void conflict (struct fm_subscription *s, struct stream *st, const struct live_peer *peer)
{
    if (st->conflict)
        return;
    st->conflict = true;
    char text[ID_TEXT_LEN + 1];
    s->error = FM_ERR_CONFLICT;
    (void) snprintf (s->error_text, sizeof s->error_text,
                     "stream %s, epoch %llu: node %s sends it too, as another incarnation: two processes use one directory, or a copy of it; "
                     "its facts are refused, stop one of them", id_text (&st->id, text), (unsigned long long) st->epoch, peer->info.name);
    node_notice (s->node, "STREAM-CONFLICT", "%s", s->error_text);
}

bool subscription_accept (struct fm_subscription *s, struct stream *st, const struct live_peer *peer, uint64_t epoch, uint64_t incarnation,
                          uint64_t epoch_first_seq)
{
    const bool same_owner = st->has_owner && id_equal (&st->owner, &peer->info.node);
    if (epoch == st->epoch) {
        if (incarnation != st->incarnation) {
            conflict (s, st, peer);
            return false;
        }
        /* A connection that was made anew may have brought it in the name of the process that had the address before. That one is gone, or going:
         * what is drained from it does not keep the facts from their publisher, who alone can be asked. */
        if (st->has_owner && !same_owner && !st->owner_gone && subscription_peer (s, &st->owner))
            return false;
    } else if (epoch < st->epoch) {
        return false;
    } else {
        struct handover_item item;
        while (handover_new_epoch (&st->h, epoch_first_seq, &item))
            free (item.ref);
        st->epoch = epoch;
        st->incarnation = incarnation;
        st->conflict = false;
        subscription_settle (s, st);
    }
    if (!same_owner)
        st->turn = st->asked = 0;           /* others were asked */
    st->owner = peer->info.node;
    st->has_owner = true;
    if (st->owner_gone) {
        st->owner_gone = false;
        st->tail_ns = 0;
    }
    return true;
}
