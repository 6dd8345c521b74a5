#include "replay_latest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "topic.h"

/* A share: the record read last, and how much was read. */
struct share {
    struct replay_latest *l;
    struct log_reader *reader;
    const struct fm_slice *patterns;
    size_t count;
    const struct fold_positions *positions;
    struct batch_scratch *scratch;
    const struct replay_latest_sink *sink;
    struct log_item item;
    uint64_t item_end;                          /* 0: none was read; offsets below are the item's, or lie before it */
    bool decoded;
    struct batch batch;
    struct batch_reader facts;
    size_t bytes;
    bool stopped, wrong;
    int rc;
};

void replay_latest_release (struct replay_latest *l)
{
    free (l->one);
    l->one = NULL;
    l->one_size = 0;
}

static bool matches (const struct share *s, struct fm_slice topic)
{
    bool any = s->count == 0;
    for (size_t i = 0; i < s->count && !any; i++)
        any = topic_match (s->patterns[i], topic);
    return any;
}

/* Read until the item at hand holds this offset, or lies behind it: then there is nothing readable at it. */
static int read_to (struct share *s, uint64_t offset)
{
    uint64_t remaining;
    int rc = 0;
    if (s->item_end == 0 || offset >= s->item_end + REPLAY_LATEST_NEAR) {
        rc = log_reader_seek_offset (s->reader, offset);
        s->item_end = 0;
    }
    while (!rc && s->item_end <= offset) {
        rc = log_reader_next (s->reader, &s->item);
        if (rc)
            break;
        log_reader_position (s->reader, &s->item_end, &remaining);
        s->decoded = false;
        s->bytes += s->item.bytes.len;
    }
    if (rc)
        s->item_end = 0;
    return rc;
}

/* A gap lies at an offset whose fact is wanted: it is told, and what else is told of the same offsets, once. What retention took is not among the
 * newest any more. False: there is no room for it, or an error. */
static bool take_gaps (struct share *s)
{
    uint64_t remaining;
    while (s->item.kind == LOG_ITEM_GAP) {
        if (s->item.reason != FACTMESH__GAP_REASON__GAP_EXPIRED && !s->sink->gap (s->sink->context, &s->item))
            return false;
        s->rc = log_reader_next (s->reader, &s->item);
        if (s->rc) {
            s->item_end = 0;
            return s->rc == FM_ERR_END;
        }
        log_reader_position (s->reader, &s->item_end, &remaining);
        s->decoded = false;
        s->bytes += s->item.bytes.len;
    }
    return true;
}

static bool take_fact (struct share *s, struct fm_slice topic, uint64_t offset)
{
    struct fm_fact fact;
    if (!s->decoded) {
        const int rc = batch_decode (s->item.bytes.data, s->item.bytes.len, slice (NULL, 0), s->scratch, &s->batch);
        s->rc = rc == -ENOMEM ? rc : 0;
        if (rc)
            return rc != -ENOMEM;               /* a newer version's: the index does not know what is within */
        batch_reader_init (&s->facts, &s->batch);
        s->decoded = true;
    }
    const uint64_t seq = s->item.first_seq + (offset - s->item.offset);
    if (seq <= fold_positions_get (s->positions, &s->item.stream) || seq < s->facts.next_seq)
        return true;
    if ((seq > s->facts.next_seq && batch_reader_skip (&s->facts, seq - s->facts.next_seq)) || batch_reader_next (&s->facts, &fact))
        return true;
    if (!slice_equal (fact.topic, topic)) {
        s->wrong = true;
        return false;
    }
    const size_t bound = batch_extract_bound (&s->batch, &fact);
    if (bound > s->l->one_size) {
        uint8_t *grown = realloc (s->l->one, bound);
        if (!grown) {
            s->rc = -ENOMEM;
            return false;
        }
        s->l->one = grown;
        s->l->one_size = bound;
    }
    const size_t len = (size_t) (batch_extract (s->l->one, &s->batch, &fact) - s->l->one);
    return s->sink->fact (s->sink->context, slice (s->l->one, len));
}

static bool take (void *arg, struct fm_slice topic, uint64_t offset)
{
    struct share *s = arg;
    if (matches (s, topic)) {
        s->rc = s->bytes < REPLAY_LATEST_BYTES ? read_to (s, offset) : 0;
        s->stopped = s->bytes >= REPLAY_LATEST_BYTES && s->item_end <= offset;
        if (!s->rc && !s->stopped && s->item.kind == LOG_ITEM_GAP)
            s->stopped = !take_gaps (s);
        else if (!s->rc && !s->stopped && s->item.bytes.len && offset >= s->item.offset && offset - s->item.offset < s->item.end_seq - s->item.first_seq)
            s->stopped = !take_fact (s, topic, offset);
        if (s->rc == FM_ERR_END)                /* nothing is left there */
            s->rc = 0;
        s->stopped |= s->rc != 0;
    }
    if (!s->stopped)
        s->l->next = offset + 1;
    return !s->stopped;
}

int replay_latest_step (struct replay_latest *l, struct log_reader *reader, const struct fm_slice *patterns, size_t count,
                        const struct fold_positions *positions, struct batch_scratch *scratch, const struct replay_latest_sink *sink)
{
    struct share s = { .l = l, .reader = reader, .patterns = patterns, .count = count, .positions = positions, .scratch = scratch, .sink = sink };
    uint64_t next = l->next;
    assert (l->next < l->end);
    const int rc = l->index->page (l->index->context, l->next, l->end, take, &s, &next);
    if (s.rc || rc)
        return s.rc ? s.rc : rc;
    if (s.wrong)
        return l->index->wrong ? l->index->wrong (l->index->context) : FM_ERR_CORRUPT;
    if (!s.stopped && next > l->next)
        l->next = next;
    return 0;
}
