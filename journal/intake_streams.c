/* intake_streams: the streams that are being published now. What ended is in the log alone. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "intake_inner.h"
#include "marks.h"

int intake_streams_init (struct intake *in)
{
    uint32_t buckets = 64;
    while (buckets < in->context->options.streams_max && buckets < 1u << 20)
        buckets *= 2;
    in->bucket_mask = buckets - 1;
    in->seed = id_random_u64 ();
    in->buckets = calloc (buckets, sizeof (*in->buckets));
    return in->buckets ? 0 : -ENOMEM;
}

static struct intake_stream **bucket_of (const struct intake *in, const struct fm_id *id)
{
    const uint64_t mixed = (id_hash (id) ^ in->seed) * 0x9e3779b97f4a7c15u;
    return &in->buckets[(mixed >> 32) & in->bucket_mask];
}

struct intake_stream *intake_stream_find (struct intake *in, const struct fm_id *id)
{
    if (in->last && id_equal (&in->last->id, id))
        return in->last;
    struct intake_stream *s = *bucket_of (in, id);
    while (s && !id_equal (&s->id, id))
        s = s->hash_next;
    if (s)
        in->last = s;
    return s;
}

void intake_streams_each (struct intake *in, void (*each) (struct intake *in, struct intake_stream *s, void *arg), void *arg)
{
    for (uint32_t i = 0; in->buckets && i <= in->bucket_mask; i++)
        for (struct intake_stream *s = in->buckets[i], *next; s; s = next) {
            next = s->hash_next;
            each (in, s, arg);
        }
}

struct owned_count {
    const struct fm_id *node;
    unsigned count;
};

static void count_owned (struct intake *in, struct intake_stream *s, void *arg)
{
    (void) in;
    struct owned_count *c = arg;
    c->count += s->state.owned && id_equal (&s->state.now.owner, c->node);
}

/* One node must not take all the places. Counted only when a stream is new. */
static int check_limits (struct intake *in, const struct fm_id *from)
{
    if (in->stream_count >= in->context->options.streams_max)
        return error_set (FM_ERR_LIMIT, "%u streams are being published: the limit", in->stream_count);
    struct owned_count owned = { .node = from };
    if (in->stream_count >= STREAMS_PER_NODE_MAX)
        intake_streams_each (in, count_owned, &owned);
    return owned.count < STREAMS_PER_NODE_MAX ? 0 : error_set (FM_ERR_LIMIT, "one node publishes %u streams: the limit", owned.count);
}

int intake_stream_add (struct intake *in, const struct fm_id *id, const struct fm_id *from, struct intake_stream **ret_stream)
{
    int rc = check_limits (in, from);
    if (rc)
        return rc;
    struct log_stream known;
    rc = log_stream_get (in->context->log, id, &known);
    if (rc && rc != FM_ERR_UNKNOWN)
        return rc;
    struct intake_stream *s = calloc (1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->id = *id;
    /* A stream that was never seen begins at 1: what is before its first batch is a hole like any other. */
    if (rc == 0)
        intake_state_init (&s->state, &in->limits, known.last_seq + 1, known.epoch, known.incarnation);
    if (rc == 0 && known.closed)
        intake_state_orphaned (&s->state);
    if (rc)
        intake_state_init (&s->state, &in->limits, 1, 0, 0);
    struct intake_stream **bucket = bucket_of (in, id);
    s->hash_next = *bucket;
    *bucket = s;
    in->stream_count++;
    *ret_stream = in->last = s;
    return 0;
}

void intake_stream_forget (struct intake *in, struct intake_stream *s)
{
    intake_asks_close (in, s);
    intake_stream_unlist (in, s);
    struct intake_item item;
    while (intake_state_drop (&s->state, &item))
        free (item.ref);
    intake_state_release (&s->state);
    if (s->is_marked)
        marks_disown (in->context->marks, &s->id);
    struct intake_stream **link = bucket_of (in, &s->id);
    while (*link != s)
        link = &(*link)->hash_next;
    *link = s->hash_next;
    in->stream_count--;
    if (in->last == s)
        in->last = NULL;
    free (s);
}

static void forget_each (struct intake *in, struct intake_stream *s, void *arg)
{
    (void) arg;
    intake_stream_forget (in, s);
}

void intake_streams_release (struct intake *in)
{
    intake_streams_each (in, forget_each, NULL);
    free (in->buckets);
    in->buckets = NULL;
}

void intake_stream_list (struct intake *in, struct intake_stream *s, uint64_t due_ns)
{
    s->due_ns = due_ns;
    s->waits = false;
    if (s->listed)
        return;
    s->listed = true;
    s->next = NULL;
    s->previous = in->list_last;
    if (in->list_last)
        in->list_last->next = s;
    else
        in->list_first = s;
    in->list_last = s;
}

void intake_stream_unlist (struct intake *in, struct intake_stream *s)
{
    if (!s->listed)
        return;
    s->listed = false;
    if (s->previous)
        s->previous->next = s->next;
    else
        in->list_first = s->next;
    if (s->next)
        s->next->previous = s->previous;
    else
        in->list_last = s->previous;
}

void intake_stream_mark (struct intake *in, struct intake_stream *s)
{
    const struct intake_state *state = &s->state;
    if (!state->owned) {
        if (s->is_marked)
            marks_disown (in->context->marks, &s->id);
        s->is_marked = false;
        return;
    }
    if (s->is_marked && id_equal (&s->marked, &state->now.owner))
        return;
    /* On failure the next batch tries again. */
    s->is_marked = marks_own (in->context->marks, &s->id, &state->now.owner) == 0;
    s->marked = state->now.owner;
    log_wake (in->context->log);            /* it may wait for what it missed */
}
