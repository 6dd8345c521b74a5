#include "replay_last.h"

#include <errno.h>

#include "replay.h"
#include "topic.h"

void replay_last_init (struct replay_last *l, uint64_t want, uint64_t floor, uint64_t end)
{
    const uint64_t span = want > REPLAY_LAST_SPAN_MIN ? want : REPLAY_LAST_SPAN_MIN;
    *l = (struct replay_last) { .want = want, .floor = floor, .end = end };
    l->from = l->next = end - floor > span ? end - span : floor;
}

/* From the span's beginning. */
static void begin_again (struct replay_last *l)
{
    l->next = l->from;
    l->placed = false;
}

void replay_last_rest (struct replay_last *l, const struct log_reader *reader)
{
    uint64_t remaining;
    if (l->placed)
        log_reader_position (reader, &l->next, &remaining);
    l->placed = false;
}

static bool any_match (const struct fm_slice *patterns, size_t count, struct fm_slice topic)
{
    for (size_t i = 0; i < count; i++)
        if (topic_match (patterns[i], topic))
            return true;
    return count == 0;
}

/* Walk a batch's facts with numbers >= first: *skip of those that match are passed over (and counted down). Returns the number of the
 * fact behind them, or the batch's count when it holds no more. */
static uint32_t pass_matches (const struct batch *b, const struct fm_slice *patterns, size_t count, uint32_t first, uint64_t *skip)
{
    bool matches[BATCH_TOPICS_MAX];
    bool all = !b->duplicates.len;
    for (uint32_t i = 0; i < b->topic_count; i++) {
        matches[i] = any_match (patterns, count, b->topics[i].name);
        all = all && matches[i];
    }
    if (all) {
        const uint64_t here = b->count - first;
        const uint64_t passed = *skip < here ? *skip : here;
        *skip -= passed;
        return first + (uint32_t) passed;
    }
    struct batch_reader facts;
    struct batch_duplicates duplicates;
    struct fm_fact fact;
    batch_reader_init (&facts, b);
    batch_duplicates_init (&duplicates, b);
    for (uint32_t i = 0; batch_reader_next (&facts, &fact) == 0; i++) {
        if (i < first || fact.topic_index >= b->topic_count || !matches[fact.topic_index]
            || batch_duplicates_meet (&duplicates, fact.id.seq))
            continue;
        if (*skip == 0)
            return i;
        (*skip)--;
    }
    return b->count;
}

/* The same for a record: what lies below the span, or does not decode, does not count. True: *ret_offset is that of the fact behind. */
static bool item_pass (const struct replay_last *l, const struct log_item *item, const struct fm_slice *patterns, size_t count,
                       struct batch_scratch *scratch, uint64_t *skip, uint64_t *ret_offset)
{
    struct batch b;
    if (item->kind != LOG_ITEM_BATCH || !item->bytes.len
        || batch_decode (item->bytes.data, item->bytes.len, slice (NULL, 0), scratch, &b) != 0)
        return false;
    const uint64_t below = item->offset < l->from ? l->from - item->offset : 0;
    if (below >= b.count)
        return false;
    const uint32_t at = pass_matches (&b, patterns, count, (uint32_t) below, skip);
    *ret_offset = item->offset + at;
    return at < b.count;
}

/* The span has been counted: look in it, in a larger one, or know that there is nothing. */
static int span_counted (struct replay_last *l, uint64_t *ret_offset)
{
    if (l->seen < l->want && l->from > l->floor) {
        const uint64_t span = (l->end - l->from) * REPLAY_LAST_SPAN_GROWTH;
        l->from = l->end - l->floor > span ? l->end - span : l->floor;
        l->seen = 0;
        begin_again (l);
        return -EAGAIN;
    }
    if (l->seen == 0) {
        *ret_offset = l->end;
        return 0;
    }
    l->skip = l->seen > l->want ? l->seen - l->want : 0;
    l->finding = true;
    begin_again (l);
    return -EAGAIN;
}

int replay_last_step (struct replay_last *l, struct log_reader *reader, const struct fm_slice *patterns, size_t count,
                      struct batch_scratch *scratch, uint64_t *ret_offset)
{
    if (!l->placed) {
        const int rc = log_reader_seek_offset (reader, l->next);
        if (rc)
            return rc;
        l->placed = true;
    }
    size_t bytes = 0;
    for (unsigned n = 0; n < REPLAY_SCAN_RECORDS && bytes < REPLAY_SCAN_BYTES; n++) {
        struct log_item item;
        const int rc = log_reader_next (reader, &item);
        if (rc && rc != FM_ERR_END)
            return rc;
        if (rc == FM_ERR_END || item.offset >= l->end) {
            if (!l->finding)
                return span_counted (l, ret_offset);
            /* Retention took some of what was counted: what is left is counted anew. */
            l->finding = false;
            begin_again (l);
            l->seen = 0;
            return -EAGAIN;
        }
        bytes += item.bytes.len;
        uint64_t skip = l->finding ? l->skip : UINT64_MAX, offset;
        const uint64_t before = skip;
        const bool found = item_pass (l, &item, patterns, count, scratch, &skip, &offset);
        if (!l->finding)
            l->seen += before - skip;
        else if (found) {
            *ret_offset = offset;
            return 0;
        } else
            l->skip = skip;
    }
    return -EAGAIN;
}
