/* groups_feed: from the log into a group's state, and from there into its instances' hands. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "checksum.h"
#include "error.h"
#include "groups_inner.h"

enum { NS_PER_MS = 1000000, AGAIN_MS = 100, FAILED_MS = 1000 };

uint64_t groups_key (const struct groups *gs, const struct fm_fact *fact)
{
    if (!fact->key.len)
        return 0;
    const uint64_t hash = checksum_seeded (fact->key.data, fact->key.len, gs->key_seed);
    return hash ? hash : 1;
}

/* --- Reading. */

void groups_walk_reset (struct group_walk *w)
{
    log_reader_destroy (&w->reader);
    w->placed = false;
}

static int walk_place (struct groups *gs, struct group *g, struct group_walk *w, uint64_t offset)
{
    int rc = 0;
    if (w->placed)
        return 0;
    if (!w->reader)
        rc = log_reader_new (gs->context->log, &w->reader);
    if (!rc)
        rc = log_reader_filter (w->reader, NULL, g->config.filters.patterns, g->config.filters.count);
    if (!rc)
        rc = log_reader_seek_offset (w->reader, offset);
    w->placed = rc == 0;
    return rc;
}

/* Filters that decided about that offset when the group's place passed it: what they match, the group had. NULL: no place passed it. */
static const struct group_filters *had_at (const struct group *g, bool skipped, uint64_t offset)
{
    return !skipped ? NULL : offset < g->filters_since ? &g->ever_filters : &g->skipped_filters;
}

/* Which of the batch's topics are the group's, and were not those that it had before (NULL: none)? 0, FM_ERR_END: none is, or -ENOMEM. */
static int match_topics (struct groups *gs, const struct group *g, const struct batch *b, const struct group_filters *had)
{
    if (b->topic_count > gs->match_size) {
        uint8_t *bigger = realloc (gs->matches, b->topic_count);
        if (!bigger)
            return -ENOMEM;
        gs->matches = bigger;
        gs->match_size = b->topic_count;
    }
    bool any = false;
    for (uint32_t i = 0; i < b->topic_count; i++) {
        const struct fm_slice topic = b->topics[i].name;
        gs->matches[i] = group_filters_match (&g->config.filters, topic) && !(had && group_filters_match (had, topic));
        any |= gs->matches[i];
    }
    return any ? 0 : FM_ERR_END;
}

/* A correction can overtake what it corrects on the way here. */
static bool may_come_yet (struct groups *gs, const struct log_item *item)
{
    const uint64_t unix_ns = gs->context->clock->unix_ns (gs->context->clock->context);
    return unix_ns >= item->time_ns && unix_ns - item->time_ns < (uint64_t) GROUPS_ROOT_WAIT_MS * NS_PER_MS;
}

/* -EAGAIN: what it corrects may come yet. */
static int take_fact (struct groups *gs, struct group *g, const struct log_item *item, const struct batch *b, const struct fm_fact *fact, uint64_t offset, bool skipped)
{
    struct group_fact f = { .offset = offset, .key = groups_key (gs, fact), .skipped = skipped };
    if (!id_is_zero (&fact->corrects.stream)) {
        struct fm_fact_id root;
        f.correction = true;
        const int rc = fact_finder_root (gs->finder, fact, &root, &f.root_offset);
        if (rc == FM_ERR_UNKNOWN && may_come_yet (gs, item))
            return -EAGAIN;
        if (rc == FM_ERR_UNKNOWN || rc == FM_ERR_LIMIT) {
            f.now = node_now ();
            f.park = slice_of (fm_error_detail ());
            f.unix_ns = gs->context->clock->unix_ns (gs->context->clock->context);
        } else if (rc && rc != FM_ERR_END) {
            return rc;
        }
    }
    fact_finder_put (gs->finder, offset, b, fact);
    return group_state_take (g->state, &f);
}

/* Take the facts of a batch from `from` on. *ret_next: the first offset that was not looked at. */
static int take_batch (struct groups *gs, struct group *g, const struct log_item *item, uint64_t from, bool skipped, uint64_t *ret_next)
{
    struct batch b;
    struct batch_reader reader;
    struct batch_duplicates duplicates;
    struct fm_fact fact;
    const uint64_t batch_end = item->offset + (item->end_seq - item->first_seq);
    const uint64_t end = skipped && g->skipped_end < batch_end ? g->skipped_end : batch_end;    /* there the other walk begins */
    uint64_t offset = from > item->offset ? from : item->offset;
    *ret_next = end;
    if (end <= offset)
        return 0;
    int rc = batch_decode (item->bytes.data, item->bytes.len, slice (NULL, 0), &gs->scratch, &b);
    if (rc && rc != -ENOMEM)
        return 0;                       /* recorded by a newer version; replays hand it out as it is */
    const struct group_filters *had = had_at (g, skipped, offset);
    if (!rc)
        rc = match_topics (gs, g, &b, had);
    if (rc == -ENOMEM) {
        *ret_next = offset;
        return rc;
    }
    if (rc && had == had_at (g, skipped, end - 1))
        return 0;
    batch_reader_init (&reader, &b);
    batch_duplicates_init (&duplicates, &b);
    (void) batch_reader_skip (&reader, offset - item->offset);  /* where it fails, so does the next */
    for (; offset < end && batch_reader_next (&reader, &fact) == 0; offset++) {
        if (had != had_at (g, skipped, offset)) {       /* the topics changed within the batch */
            had = had_at (g, skipped, offset);
            (void) match_topics (gs, g, &b, had);       /* there is room for all of them already */
        }
        const bool wanted = gs->matches[fact.topic_index] && !batch_duplicates_meet (&duplicates, fact.id.seq);
        rc = wanted ? take_fact (gs, g, item, &b, &fact, offset, skipped) : 0;
        if (rc) {
            *ret_next = offset;
            return rc;
        }
    }
    return 0;
}

static void note_gap (struct groups *gs, const struct group *g, const struct log_item *item, uint64_t from, uint64_t end)
{
    if (end <= from)
        return;                         /* below the place, on the way to it */
    if (item->reason == FACTMESH__GAP_REASON__GAP_EXPIRED || item->reason == FACTMESH__GAP_REASON__GAP_DAMAGED)
        journal_notice (gs->context, "GROUP-GAP", "group=%s offsets=[%llu,%llu) reason=%s: facts that were there are passed over", g->name,
                        (unsigned long long) from, (unsigned long long) end, item->reason == FACTMESH__GAP_REASON__GAP_EXPIRED ? "expired" : "damaged");
}

/* One walk's next record, from offset *next on. FM_ERR_END: caught up. */
static int walk_step (struct groups *gs, struct group *g, struct group_walk *w, bool skipped, uint64_t *next)
{
    int rc = walk_place (gs, g, w, *next);
    struct log_item item;
    if (!rc)
        rc = log_reader_next (w->reader, &item);
    if (rc)
        return rc;
    uint64_t end = *next, remaining;
    if (item.kind == LOG_ITEM_BATCH && item.bytes.len)
        rc = take_batch (gs, g, &item, *next, skipped, &end);
    else
        /* Of a segment that is left out whole a stream's item bears its last offset and all of its facts there: where it ends the reader alone knows. */
        log_reader_position (w->reader, &end, &remaining);
    if (item.kind == LOG_ITEM_GAP)
        note_gap (gs, g, &item, *next, end);
    if (rc)
        w->placed = false;
    if (end > *next)
        *next = end;
    return rc;
}

/* What older filters had left out, all of it: from now on the present ones were always in force. */
static void end_skipped (struct group *g)
{
    g->skipped_next = g->skipped_end;   /* a gap reaches beyond */
    if (group_filters_add (&g->ever_filters, &g->config.filters))
        return;                         /* no memory: the next turn */
    g->filters_since = g->skipped_end;
    g->skipped_next = g->skipped_end = 0;
    group_filters_release (&g->skipped_filters);
    groups_walk_reset (&g->skipped_walk);
}

static int read_skipped (struct groups *gs, struct group *g, unsigned *records)
{
    int rc = 0;
    for (; !rc && g->skipped_next < g->skipped_end && group_state_wants (g->state) && *records < GROUPS_TURN_RECORDS; ++*records) {
        rc = walk_step (gs, g, &g->skipped_walk, true, &g->skipped_next);
        g->dirty = true;
    }
    if (g->skipped_end && (rc == FM_ERR_END || g->skipped_next >= g->skipped_end)) {
        end_skipped (g);
        rc = 0;
    }
    return rc;
}

bool groups_read (struct groups *gs, struct group *g, uint64_t through, uint64_t now, uint64_t *ret_due)
{
    struct group_place place;
    unsigned records = 0;
    int rc = read_skipped (gs, g, &records);
    group_state_place (g->state, &place);
    for (; !rc && ((place.next < through && records < GROUPS_REJOIN_RECORDS) || (group_state_wants (g->state) && records < GROUPS_TURN_RECORDS)); records++) {
        rc = walk_step (gs, g, &g->walk, false, &place.next);
        group_state_advance (g->state, place.next);
    }
    *ret_due = UINT64_MAX;
    if (rc == -EAGAIN)
        *ret_due = now + (uint64_t) AGAIN_MS * NS_PER_MS;
    const bool failed = rc && rc != FM_ERR_END && rc != FM_ERR_LIMIT && rc != -EAGAIN;
    if (failed)
        *ret_due = now + (uint64_t) FAILED_MS * NS_PER_MS;
    if (failed && !g->read_told)
        journal_notice (gs->context, "GROUP-READ-FAILED", "group=%s offset=%llu: %s (%s); tried again each %d ms", g->name, (unsigned long long) place.next,
                        fm_error_text (rc), fm_error_detail (), (int) FAILED_MS);
    g->read_told = failed;
    return !rc && records >= GROUPS_TURN_RECORDS;
}

/* --- Handing out. */

struct outgoing {
    struct outgoing *next;
    Factmesh__WorkItem item;
    Factmesh__FactId root, parked;
    struct fm_fact_id root_id, parked_id;
    size_t len;
    uint8_t bytes[];
};

/* What goes to one instance with the next message. */
struct parcel {
    uint64_t member;
    struct outgoing *first, **end;
    size_t count, bytes;
};

/* Every member of the state is an instance. */
static const struct group_instance *instance_of (const struct group *g, uint64_t member)
{
    size_t i = 0;
    while (i < g->instance_count && g->instances[i].number != member)
        i++;
    assert (i < g->instance_count);
    return &g->instances[i];
}

static void parcel_release (struct parcel *p)
{
    while (p->first) {
        struct outgoing *o = p->first;
        p->first = o->next;
        free (o);
    }
    p->end = &p->first;
    p->count = p->bytes = 0;
}

/* What can't be sent to an instance was not handed out. It gets nothing more until it says something; what it has it may still be working on. */
static void parcel_return (struct group *g, const struct parcel *p)
{
    for (const struct outgoing *o = p->first; o; o = o->next)
        group_state_return (g->state, o->item.offset);
    group_state_silence (g->state, p->member);
}

static void parcel_send (struct groups *gs, struct group *g, struct parcel *p)
{
    Factmesh__WorkItem **items = calloc (p->count, sizeof (*items));
    int rc = -ENOMEM;
    if (items) {
        size_t n = 0;
        for (struct outgoing *o = p->first; o; o = o->next)
            items[n++] = &o->item;
        Factmesh__Work work = FACTMESH__WORK__INIT;
        work.member = p->member;
        work.n_items = n;
        work.items = items;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_WORK;
        control.work = &work;
        zmq_msg_t message;
        rc = control_encode (&control, node_mesh (gs->context->node), &message);
        if (!rc) {
            rc = node_reply (gs->context->node, &instance_of (g, p->member)->route, &message);
            if (rc)
                zmq_msg_close (&message);
        }
    }
    free (items);
    if (rc)
        parcel_return (g, p);
    parcel_release (p);
}

static void put_id (Factmesh__FactId *message, struct fm_fact_id *place, const struct fm_fact_id *id)
{
    factmesh__fact_id__init (message);
    *place = *id;
    message->stream = control_put_id (&place->stream);
    message->seq = place->seq;
}

/* Put a hand-out's fact into a parcel. FM_ERR_UNKNOWN: it is gone. */
static int parcel_add (struct groups *gs, struct parcel *p, const struct group_hand_out *h)
{
    struct fm_slice batch;
    struct fm_fact fact;
    int rc = fact_finder_read (gs->finder, h->content_offset, &batch, &fact);
    if (rc)
        return rc;
    struct outgoing *o = malloc (sizeof *o + batch.len);
    if (!o)
        return -ENOMEM;
    o->next = NULL;
    o->len = batch.len;
    memcpy (o->bytes, batch.data, batch.len);
    factmesh__work_item__init (&o->item);
    o->item.offset = h->offset;
    o->item.token = h->token;
    o->item.deliveries = h->deliveries;
    o->item.attempts = h->attempts;
    o->item.flags = h->flags;
    o->item.batch = control_put_slice (slice (o->bytes, o->len));
    if (!id_is_zero (&fact.corrects.stream)) {
        struct fm_fact_id root = fact.corrects;
        uint64_t root_offset;
        (void) fact_finder_root (gs->finder, &fact, &root, &root_offset);   /* one that expired: the oldest that the fact itself names */
        o->item.flags |= GROUP_CORRECTION;
        put_id (&o->root, &o->root_id, &root);
        o->item.root = &o->root;
    }
    if (h->parked_offset && fact_finder_read (gs->finder, h->parked_offset, &batch, &fact) == 0) {
        put_id (&o->parked, &o->parked_id, &fact.id);
        o->item.parked = &o->parked;
    }
    *p->end = o;
    p->end = &o->next;
    p->count++;
    p->bytes += o->len;
    return 0;
}

static struct parcel *parcel_of (struct parcel *parcels, size_t *count, uint64_t member)
{
    for (size_t i = 0; i < *count; i++)
        if (parcels[i].member == member)
            return &parcels[i];
    struct parcel *p = &parcels[(*count)++];
    *p = (struct parcel) { .member = member };
    p->end = &p->first;
    return p;
}

bool groups_hand_out (struct groups *gs, struct group *g, uint64_t now)
{
    if (!g->may_hand_out || !g->instance_count || g->confirm_count >= GROUPS_CONFIRMS_MAX)
        return false;
    struct parcel *parcels = calloc (g->instance_count, sizeof *parcels);
    if (!parcels)
        return false;
    size_t count = 0;
    unsigned n = 0;
    struct group_hand_out h;
    for (; n < GROUPS_TURN_HAND_OUTS && group_state_hand_out (g->state, now, &h) == 0; n++) {
        struct parcel *p = parcel_of (parcels, &count, h.member);
        const int rc = parcel_add (gs, p, &h);
        if (rc == FM_ERR_UNKNOWN) {
            journal_notice (gs->context, "GROUP-FACT-GONE", "group=%s offset=%llu: retention or damage took it before it was done", g->name,
                            (unsigned long long) h.offset);
            group_state_forget (g->state, h.offset);
        } else if (rc) {
            group_state_return (g->state, h.offset);
            if (!g->hand_out_told)
                journal_notice (gs->context, "GROUP-READ-FAILED", "group=%s offset=%llu: %s; tried again", g->name, (unsigned long long) h.offset, fm_error_text (rc));
            g->hand_out_told = true;
            break;
        }
        g->hand_out_told = false;
        if (p->bytes >= GROUPS_WORK_BYTES)
            parcel_send (gs, g, p);
        g->dirty = true;
    }
    for (size_t i = 0; i < count; i++)
        if (parcels[i].count)
            parcel_send (gs, g, &parcels[i]);
    free (parcels);
    return n == GROUPS_TURN_HAND_OUTS;
}
