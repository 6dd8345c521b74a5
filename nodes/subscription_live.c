/* Live frames: batches, head notices, fences, watermarks, into the handover of their stream. */

#include "subscription.h"

#include <errno.h>
#include <stdlib.h>

/* What holding a batch costs beside its bytes: the block, the machine's item (twice, as its ring doubles). */
enum { HELD_OVERHEAD = sizeof (struct held) + 2 * sizeof (struct handover_item) + 16 };

static void refuse (struct fm_subscription *s)
{
    node_count (s->node, NODE_FRAMES_REFUSED, 1);
}

/* Where there is no journal's word, a stream begins for us where live begins: at the fence's answer; or at its epoch's beginning, where
 * that came after we did, for a publisher that is younger than this subscription, or opened a stream later than its fence was answered. */
static void position_by_peer (struct fm_subscription *s, struct stream *st, const struct live_peer *peer, uint64_t epoch_first_seq, bool unheard)
{
    if (st->positioned)
        return;
    const bool younger = peer->info.started_ns > s->opened_unix_ns;
    const bool answered = peer->fenced && !peer->gone;     /* who is gone is not waited for, whether it answered or not */
    if (!st->wanted_from && (younger || (unheard && answered)))
        st->wanted_from = epoch_first_seq;
    if (s->fences_only && (peer->fenced || younger)) {
        handover_go_live (&st->h);
        subscription_position (s, st, epoch_first_seq ? epoch_first_seq - 1 : 0);
    }
}

static bool accept_from (struct fm_subscription *s, struct stream *st, const struct live_peer *peer, uint64_t epoch, uint64_t incarnation,
                         uint64_t epoch_first_seq)
{
    const bool unheard = !st->has_owner;
    if (!subscription_accept (s, st, peer, epoch, incarnation, epoch_first_seq))
        return false;
    position_by_peer (s, st, peer, epoch_first_seq, unheard);
    return true;
}

void subscription_fall_behind (struct fm_subscription *s, struct stream *st, uint64_t known_end_seq)
{
    handover_announced (&st->h, known_end_seq);
    subscription_drop_held (s, st);
    node_count (s->node, NODE_FELL_BEHIND, 1);
    if (!s->has_base) {
        /* No journal to replay from: what is missing is asked for piece by piece. */
        if (st->positioned)
            handover_go_live (&st->h);
        else
            handover_near (&st->h);
        subscription_settle (s, st);
        return;
    }
    if (s->caught_up_told && !s->fallen) {
        s->fallen = true;
        s->tell_fell_behind = true;
    }
    if (s->caught_up_ns)
        s->caught_up_ns = node_now ();      /* patience begins anew */
    subscription_want_session (s);
    subscription_settle (s, st);
}

/* Keep a copy: the message points into a buffer of 8 KiB, which it would pin. */
static bool keep (struct stream *st, struct fm_slice body)
{
    struct held *held = malloc (sizeof *held + body.len);
    if (!held)
        return false;
    held->len = body.len;
    memcpy (held->bytes, body.data, body.len);
    handover_keep (&st->h, held);
    return true;
}

static void take_batch (struct fm_subscription *s, struct stream *st, struct fm_slice body, uint64_t prev)
{
    const struct batch *b = &s->batch;
    const uint64_t end = batch_end_seq (b);
    /* Which facts repeat others is a journal's to say: in SYNCED delivery what has identities is taken from it alone. */
    if (b->announced_len || (s->synced_only && (b->features & FACTMESH__FEATURE__FEATURE_IDENTITY))) {
        if (end - 1 > st->h.complete && st->h.state != HANDOVER_REPLAY)
            handover_announced (&st->h, end);
        subscription_settle (s, st);
        return;
    }
    const struct handover_item item = { .first_seq = b->first_seq, .end_seq = end, .prev = prev, .bytes = body.len + HELD_OVERHEAD };
    uint64_t from;
    /* One bound for all streams together. */
    st->h.held_max = st->h.held_bytes + (s->held_max > s->held_bytes ? s->held_max - s->held_bytes : 0);
    switch (handover_live (&st->h, &item, &from)) {
    case HANDOVER_DELIVER:
        subscription_settle (s, st);
        subscription_walk (s, st, b, from, WALK_LIVE);
        break;
    case HANDOVER_HELD:
        if (keep (st, body))
            subscription_settle (s, st);
        else                            /* no memory: as without room to hold it */
            subscription_fall_behind (s, st, end);
        break;
    case HANDOVER_DROP:
        subscription_settle (s, st);
        break;
    case HANDOVER_BEHIND:
        subscription_fall_behind (s, st, end);
        break;
    }
}

static void on_batch (struct fm_subscription *s, const struct live_frame *f)
{
    struct batch *b = &s->batch;
    if (batch_decode (f->body.data, f->body.len, node_mesh (s->node), &s->scratch, b) != 0) {
        refuse (s);
        return;
    }
    uint64_t prev;
    if (s->exact ? !batch_prev_exact (b, s->level, &prev) : !batch_prev (b, s->level, &prev))
        return;                             /* came along with a level above ours */
    struct stream *st = subscription_stream (s, &b->stream);
    if (!st || prev >= b->first_seq || !accept_from (s, st, f->peer, b->epoch, b->incarnation, b->epoch_first_seq)) {
        refuse (s);
        return;
    }
    take_batch (s, st, f->body, prev);
}

/* The bound for our level: its own, if it is listed; else it has been quiet since. */
static uint64_t level_last (const struct fm_subscription *s, const Factmesh__HeadNotice *notice, bool *ret_listed)
{
    *ret_listed = true;
    if (s->level.len == 0)
        return notice->head;
    for (size_t i = 0; i < notice->n_levels; i++) {
        if (slice_equal (control_get_slice (&notice->levels[i]->level), s->level))
            return notice->levels[i]->last_seq;
    }
    *ret_listed = false;
    return notice->complete_since;
}

/* A notice lists the levels that changed last. A level that it does not list, in a stream that is busy elsewhere, gets a bound close to
 * the head each time: asking each time would have a journal read the whole stream for a subscriber to a quiet topic. So where a question brought
 * nothing the next one waits until the stream falls silent; the level's next batch tells its prev anyway. The bound of a listed level does not
 * mislead, unless we take one exact topic and there are facts below it, which shows when a question brings nothing. */
static void take_head (struct fm_subscription *s, struct stream *st, uint64_t last, bool listed, uint64_t head)
{
    const bool exact = listed && !(s->exact && st->below);
    const bool busy = head != st->head;
    st->head = head;
    if ((!s->fences_only || st->positioned) && !(st->quiet && busy && !exact && last > st->h.complete)) {
        st->asked_listed = listed && last > st->h.complete;
        handover_head (&st->h, last, head);
    }
    subscription_settle (s, st);
}

static void on_head (struct fm_subscription *s, const struct live_frame *f)
{
    Factmesh__HeadNotice *notice;
    struct fm_id id;
    if (reserved_decode_head (f->body, node_mesh (s->node), &notice) != 0) {
        refuse (s);
        return;
    }
    (void) control_get_id (&notice->stream, &id);       /* checked when it was decoded */
    struct stream *st = subscription_stream (s, &id);
    if (st && notice->head < UINT64_MAX && accept_from (s, st, f->peer, notice->epoch, notice->incarnation, notice->epoch_first_seq)) {
        bool listed;
        const uint64_t last = level_last (s, notice, &listed);
        take_head (s, st, last, listed, notice->head);
    } else {
        refuse (s);
    }
    factmesh__head_notice__free_unpacked (notice, NULL);
}

/* The one that a journal may tell of. Where a subscription began without a journal only a fence, or an epoch, says where a stream begins for it: one that it
 * never heard of may have ended before. */
static struct stream *stream_that_ended (struct fm_subscription *s, const struct fm_id *id)
{
    if (!s->fences_only)
        return subscription_stream (s, id);
    return s->no_journal ? NULL : subscription_find (s, id);
}

/* A journal tells of a stream whose publisher is gone. Who never was connected to that publisher would not hear of its facts otherwise; who was
 * looks after its tail, but before the journal may have recorded all. */
static void on_ended (struct fm_subscription *s, const struct live_frame *f)
{
    Factmesh__HeadNotice *notice;
    struct fm_id id;
    if (!f->peer->info.is_journal || reserved_decode_head (f->body, node_mesh (s->node), &notice) != 0) {
        refuse (s);
        return;
    }
    (void) control_get_id (&notice->stream, &id);       /* checked when it was decoded */
    struct stream *st = notice->head == UINT64_MAX ? NULL : stream_that_ended (s, &id);
    if (st && (!st->has_owner || st->owner_gone) && notice->epoch >= st->epoch && notice->head > st->h.complete) {
        handover_announced (&st->h, notice->head + 1);
        subscription_settle (s, st);
    }
    factmesh__head_notice__free_unpacked (notice, NULL);
}

static void ask_for_tail (struct fm_subscription *s, struct stream *st)
{
    if (!st->owner_gone || !st->positioned)
        return;
    st->tail_ns = node_now ();
    subscription_trouble (s, st, st->tail_ns);
}

/* The connection to our journal is up only now: what it told of ended streams before, nobody heard; and if it has started anew it does not tell of those whose
 * publishers were gone then. (No-op while a session is open.) Where there is no base, for a subscription that began without a journal, any one may have it. */
static void on_journal_fenced (struct fm_subscription *s, const struct live_peer *peer)
{
    if (peer->info.is_journal && s->fences_only && !s->no_journal)
        subscription_each (s, ask_for_tail);
    if (peer->info.is_journal && s->has_base && id_equal (&peer->info.journal, &s->base.journal) && peer->info.generation == s->base.generation)
        subscription_want_session (s);
}

static struct fm_id *find_met (const struct fm_subscription *s, const struct fm_id *node)
{
    for (size_t i = 0; i < s->met_count; i++) {
        if (id_equal (&s->met[i], node))
            return &s->met[i];
    }
    return NULL;
}

/* Returns true when it was met before: then it was cut off meanwhile, and what it opened since came up later. */
static bool meet (struct fm_subscription *s, const struct fm_id *node)
{
    if (find_met (s, node))
        return true;
    size_t place = s->met_count;
    if (s->met_count < SUBSCRIPTION_MET_MAX)
        s->met_count++;
    else
        place = s->met_next++ % SUBSCRIPTION_MET_MAX;
    s->met[place] = *node;
    return false;
}

static void part (struct fm_subscription *s, const struct fm_id *node)
{
    struct fm_id *const place = find_met (s, node);
    if (place)
        *place = s->met[--s->met_count];
}

static void on_fence (struct fm_subscription *s, const struct live_frame *f)
{
    Factmesh__FenceAnswer *answer;
    if (reserved_decode_fence (f->body, node_mesh (s->node), &answer) != 0) {
        refuse (s);
        return;
    }
    const bool whole = s->fences_only && (meet (s, &f->peer->info.node) || f->peer->info.started_ns > s->opened_unix_ns);
    for (size_t i = 0; i < answer->n_streams; i++) {
        const Factmesh__StreamHead *head = answer->streams[i];
        struct fm_id id;
        (void) control_get_id (&head->stream, &id);     /* checked when it was decoded */
        struct stream *st = subscription_stream (s, &id);
        if (!st || !subscription_accept (s, st, f->peer, head->epoch, head->incarnation, head->epoch_first_seq))
            continue;
        if (!s->fences_only) {
            if (head->next_seq - 1 > st->h.complete)
                handover_announced (&st->h, head->next_seq);
            subscription_settle (s, st);
        } else if (!st->positioned) {
            handover_go_live (&st->h);
            subscription_position (s, st, whole && head->epoch_first_seq ? head->epoch_first_seq - 1 : head->next_seq - 1);
        }
    }
    factmesh__fence_answer__free_unpacked (answer, NULL);
    on_journal_fenced (s, f->peer);
}

static void on_watermark (struct fm_subscription *s, const struct live_frame *f)
{
    Factmesh__Watermark *watermark;
    if (reserved_decode_watermark (f->body, node_mesh (s->node), &watermark) != 0) {
        refuse (s);
        return;
    }
    for (size_t i = 0; i < watermark->n_marks; i++) {
        struct fm_id id;
        (void) control_get_id (&watermark->marks[i]->stream, &id);
        struct stream *st = subscription_find (s, &id);
        /* Only of the stream's own publisher: the mark of a new epoch says nothing about what the old one left, also when the same node opened it
         * again and its first frames did not come. */
        const Factmesh__StreamMark *mark = watermark->marks[i];
        if (st && st->has_owner && !st->owner_gone && id_equal (&st->owner, &f->peer->info.node) && (!mark->epoch || mark->epoch == st->epoch)) {
            handover_synced (&st->h, mark->synced);
            subscription_settle (s, st);
        }
    }
    factmesh__watermark__free_unpacked (watermark, NULL);
}

static void orphan (struct fm_subscription *s, struct stream *st)
{
    if (!st->has_owner || st->owner_gone || !id_equal (&st->owner, &s->frame.peer->info.node))
        return;
    st->owner_gone = true;
    st->said_goodbye = s->frame.peer->said_goodbye;
    st->gone_ns = node_now ();
    st->tail_ns = st->gone_ns + NS_OF_MS (SUBSCRIPTION_TAIL_MS);
    subscription_trouble (s, st, st->tail_ns);
}

int subscription_live_step (struct fm_subscription *s)
{
    if (live_set_receive (s->live, &s->message, &s->frame) != 0) {
        s->live_ready = false;
        return -EAGAIN;
    }
    switch (s->frame.kind) {
    case LIVE_BATCH:
        on_batch (s, &s->frame);
        break;
    case LIVE_HEAD:
        on_head (s, &s->frame);
        break;
    case LIVE_FENCE:
        on_fence (s, &s->frame);
        break;
    case LIVE_WATERMARK:
        on_watermark (s, &s->frame);
        break;
    case LIVE_ENDED:
        on_ended (s, &s->frame);
        break;
    case LIVE_PEER_GONE:
        if (s->frame.peer->said_goodbye)
            part (s, &s->frame.peer->info.node);
        if (!subscription_peer (s, &s->frame.peer->info.node))      /* else it came back: only its old connection went */
            subscription_each (s, orphan);
        break;
    }
    return 0;
}
