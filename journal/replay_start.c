/* replay_start: where a session begins, and what START tells of the streams that it will not meet above. */

#include "replay_inner.h"

#include "error.h"

/* --- Where it begins. */

/* Read ahead one record: it tells whether the start lies below what is held, or in the midst of a batch. */
static int peek (struct replay *r)
{
    const int rc = log_reader_next (r->reader, &r->item);
    if (rc == FM_ERR_END)
        return 0;
    r->has_item = rc == 0;
    return rc;
}

/* The reader stands at start_offset: what has to be said before its first record? */
static int begin_at_offset (struct replay *r)
{
    r->phase = PHASE_START;
    r->table = TABLE_PLAIN;
    r->next_offset = r->start_offset;
    const int rc = peek (r);
    if (rc || !r->has_item)
        return rc;
    const struct log_item *item = &r->item;
    struct log_item first = *item;
    if (item->kind == LOG_ITEM_GAP)
        (void) log_reader_ahead (r->reader, &first);    /* a hole on the way to it, below the start, is told before it */
    if (id_is_zero (&item->stream) && item->reason == FACTMESH__GAP_REASON__GAP_EXPIRED) {
        r->table = TABLE_EXPIRED;
        if (r->start_offset <= 1) {
            r->has_item = false;            /* from the very beginning: the streams' own gaps say it all */
            r->expired_end = item->end_seq;
        } else
            r->start_gap = true;
    } else if (!id_is_zero (&first.stream) && first.offset < r->start_offset) {
        r->astride = first.stream;
        replay_note_covered (r, &first.stream, first.first_seq + (r->start_offset - first.offset) - 1);
    }
    return 0;
}

int replay_begin_at (struct replay *r, uint64_t offset)
{
    r->start_offset = offset ? offset : 1;
    const int rc = log_reader_seek_offset (r->reader, r->start_offset);
    return rc ? rc : begin_at_offset (r);
}

/* A range of one stream: the hole that somebody has. */
static int seek_seq (struct replay *r, uint64_t seq)
{
    r->phase = PHASE_START;
    r->table = TABLE_NOTHING;
    r->from_seq = seq;
    r->through = seq - 1;
    int rc = log_reader_seek_seq (r->reader, &r->stream, seq, &r->start_offset);
    if (rc == FM_ERR_UNKNOWN) {             /* not yet: it stands at the synced end */
        uint64_t remaining;                 /* where it stands, not where the synced end is by now: a rest would skip what lies between */
        log_reader_position (r->reader, &r->start_offset, &remaining);
        rc = 0;
    }
    if (rc)
        return rc;
    r->next_offset = r->start_offset;
    struct log_stream s;
    if (log_stream_get (r->log, &r->stream, &s) == 0 && s.first_seq > seq) {
        const bool ends = r->end == REPLAY_TO_SEQ && r->end_value < s.first_seq;
        const uint64_t end = ends ? r->end_value : s.first_seq;
        replay_note_gap (r, &r->stream, seq, end, FACTMESH__GAP_REASON__GAP_EXPIRED);
        replay_note_covered (r, &r->stream, end - 1);
    }
    return 0;
}

static int seek_cursor (struct replay *r, const Factmesh__Cursor *cursor)
{
    int rc = replay_cursor_check (cursor, r->log);
    if (!rc)
        rc = fold_positions_copy (cursor, &r->positions);
    if (rc)
        return rc;
    struct log_position at;
    log_position (r->log, &at);
    return replay_begin_at (r, cursor->offset < at.synced_offset ? cursor->offset : at.synced_offset);
}

/* Without a cursor from the first newest fact on; with one, on from where an earlier session came to. Its end stays: what came since then is to be told
 * whole. */
static int seek_latest (struct replay *r, const struct replay_request *q, const struct log_position *at)
{
    int rc = q->index ? 0 : error_set (FM_ERR_ARGUMENT, "from_latest needs an index, and none is kept here");
    if (!rc && q->cursor)
        rc = replay_cursor_check (q->cursor, r->log);
    if (!rc && q->cursor)
        rc = fold_positions_copy (q->cursor, &r->positions);
    if (rc)
        return rc;
    const uint64_t from = q->cursor && q->cursor->offset ? q->cursor->offset : 1;
    const uint64_t end = q->latest_end && q->latest_end < at->synced_offset ? q->latest_end : at->synced_offset;
    if (from >= end)
        return replay_begin_at (r, from < at->synced_offset ? from : at->synced_offset);
    r->latest = (struct replay_latest) { .index = q->index, .next = from, .end = end };
    r->start_offset = r->next_offset = from;
    r->phase = PHASE_LATEST;
    return log_reader_filter (r->reader, NULL, NULL, 0);
}

int replay_seek_start (struct replay *r, const struct replay_request *q)
{
    struct log_position at;
    int rc;
    log_position (r->log, &at);
    switch (q->start) {
    case REPLAY_FROM_OFFSET:
        /* Beyond the end there is nothing to wait for that would not be skipped unseen: start where the log ends. */
        return replay_begin_at (r, q->start_value < at.synced_offset ? q->start_value : at.synced_offset);
    case REPLAY_FROM_SEQ:
        return seek_seq (r, q->start_value);
    case REPLAY_FROM_TIME:
        rc = log_reader_seek_time (r->reader, q->start_value, &r->start_offset);
        return rc ? rc : begin_at_offset (r);
    case REPLAY_FROM_LAST:
        replay_last_init (&r->last, q->start_value, at.first_offset, at.synced_offset);
        r->phase = PHASE_SEEK;
        return 0;
    case REPLAY_FROM_CURSOR:
    case REPLAY_FROM_CURSOR_NAME:
        return q->cursor ? seek_cursor (r, q->cursor) : error_set (FM_ERR_ARGUMENT, "a cursor's name that was not looked up");
    case REPLAY_FROM_END:
        return replay_begin_at (r, at.synced_offset);
    case REPLAY_FROM_LATEST:
        break;
    }
    return seek_latest (r, q, &at);
}

/* --- START: the stream table. */

/* One stream of the log's table; there is room for it. */
static void table_tell (struct replay *r, const struct log_stream *s, uint64_t first_offset)
{
    /* A stream that expired whole may still be known. */
    const uint64_t held_from = s->last_offset < first_offset ? s->last_seq + 1 : s->first_seq;
    uint64_t known = 0;
    bool gap = r->table == TABLE_OVERTAKEN;
    if (r->table == TABLE_EXPIRED) {
        /* From a place in the midst only the positions tell what the asker has: else its loss is told as offsets. */
        known = r->start_offset <= 1 ? 0 : fold_positions_get (&r->positions, &s->stream);
        gap = r->start_offset <= 1 || known;
    }
    if (gap && held_from > 1) {
        replay_note_gap (r, &s->stream, known + 1, held_from, FACTMESH__GAP_REASON__GAP_EXPIRED);
        replay_note_covered (r, &s->stream, held_from - 1);
    } else if (s->last_offset < r->start_offset) {
        /* A record that begins below the start ends there too, all but the one astride. */
        if (!id_equal (&r->astride, &s->stream))
            replay_note_covered (r, &s->stream, s->last_seq);
    }
    else if (r->table == TABLE_EXPIRED && held_from > 1)
        replay_note_covered (r, &s->stream, held_from - 1);
}

/* Tell of streams until the message is full. True: all have been told. */
static bool table_step (struct replay *r)
{
    struct log_position at;
    log_position (r->log, &at);
    if (r->has_stream) {
        struct log_stream s;
        if (log_stream_get (r->log, &r->stream, &s) == 0)
            table_tell (r, &s, at.first_offset);
        return true;
    }
    while (replay_notes_have_room (r)) {
        struct log_stream page[64];
        size_t count = 0;
        if (log_stream_list (r->log, r->table_begun ? &r->table_after : NULL, page, 64, &count) != 0 || count == 0)
            return true;
        for (size_t i = 0; i < count && replay_notes_have_room (r); i++) {
            table_tell (r, &page[i], at.first_offset);
            r->table_after = page[i].stream;
            r->table_begun = true;
        }
    }
    return false;
}

bool replay_start_step (struct replay *r)
{
    while (r->positions_told < r->positions.count) {
        const struct fold_position *p = &r->positions.items[r->positions_told];
        if (!replay_notes_have_room (r))
            return false;
        r->positions_told++;
        replay_note_covered (r, &p->stream, p->seq);
    }
    return r->table == TABLE_NOTHING || table_step (r);
}
