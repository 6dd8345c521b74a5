/* log_lost: whose facts did a hole hide? A damaged range of a segment leaves no headers, but a stream's records are
 * in sequence: between the last one before the hole and the first one behind it, what is missing was in the hole. A
 * segment begins with a snapshot of all streams and ends with an index of its own, so that the first and the last of
 * a stream are told, too. Runs only where damage was met: one more read of the segment. */

#include <errno.h>
#include <stdlib.h>

#include "fm_types.h"
#include "log_state.h"

void log_lost_release (struct log_lost_list *list)
{
    free (list->items);
    *list = (struct log_lost_list) { 0 };
}

int log_lost_add (struct log_lost_list *list, const struct log_lost *lost)
{
    if (list->count == LOG_LOST_MAX)
        return 0;
    if (list->count == list->size) {
        const size_t size = list->size ? 2 * list->size : 64;
        struct log_lost *items = realloc (list->items, size * sizeof *items);
        if (!items)
            return -ENOMEM;
        list->items = items;
        list->size = size;
    }
    list->items[list->count++] = *lost;
    return 0;
}

/* A stream table serves as a map: last_seq is how far the stream came, last_offset the position of that record. */
static int advance (struct stream_table *map, const struct fm_id *stream, uint64_t last_seq, uint64_t pos,
                    struct log_life life)
{
    const struct stream_state s = { .stream = *stream, .last_seq = last_seq, .last_offset = pos,
                                    .epoch = life.epoch, .incarnation = life.incarnation, .closed = life.closed };
    return stream_table_restore (map, &s);
}

static int met (struct stream_table *map, struct log_lost_list *list, const struct fm_id *stream, uint64_t first_seq,
                uint64_t last_seq, uint64_t pos, struct log_life life)
{
    const struct stream_entry *e = stream_table_find (map, stream);
    if (e && first_seq > e->last_seq + 1) {
        const struct log_lost lost = { .stream = *stream, .first_seq = e->last_seq + 1, .end_seq = first_seq,
                                       .after_pos = e->last_offset, .before_pos = pos,
                                       .after = { e->epoch, e->incarnation, e->closed }, .before = life };
        const int rc = log_lost_add (list, &lost);
        if (rc)
            return rc;
    }
    return advance (map, stream, last_seq, pos, life);
}

static struct log_life life_of (const struct record *r)
{
    return (struct log_life) { r->epoch, r->incarnation, r->flags & RECORD_FLAG_CLOSED };
}

static int read_snapshot (struct stream_table *map, const struct record *r, const uint8_t *body)
{
    for (uint32_t i = 0; i < r->count && (i + 1) * (uint64_t) STREAM_SNAPSHOT_LEN <= r->body_len; i++) {
        struct stream_state s;
        stream_state_decode (body + (size_t) i * STREAM_SNAPSHOT_LEN, &s);
        const int rc = advance (map, &s.stream, s.last_seq, 0,
                                (struct log_life) { s.epoch, s.incarnation, r->flags & RECORD_FLAG_CLOSED });
        if (rc)
            return rc;
        stream_table_find (map, &s.stream)->first_seq = s.first_seq;
    }
    map->complete &= (r->flags & RECORD_FLAG_COMPLETE) != 0;
    return 0;
}

/* Follow the streams through [SEGMENT_RECORDS_POS, end). *ret_whole: its snapshots could be read. */
static int follow (struct log *log, const struct log_segment_view *s, uint64_t end, struct stream_table *map,
                   struct log_lost_list *list, bool *ret_whole)
{
    struct segment_scan scan = { .fd = -1 };
    *ret_whole = end >= s->header.snapshot_end;
    int rc = scan_start (&scan, log->fs, s->fd, record_seed (s->header.salt), SEGMENT_RECORDS_POS, end);
    while (rc == 0) {
        const uint8_t *body;
        uint64_t end_seq;
        uint32_t reason;
        rc = scan_next (&scan);
        const struct record *r = &scan.record;
        if (rc == FM_ERR_CORRUPT) {
            *ret_whole &= scan.pos >= s->header.snapshot_end;
            rc = 0;
        } else if (rc == 0 && r->kind == RECORD_BATCH)    /* the body may be damaged: the header told the range */
            rc = met (map, list, &r->stream, r->first_seq, r->first_seq + r->count - 1, scan.pos, life_of (r));
        else if (rc == 0 && r->kind == RECORD_GAP && scan_body (&scan, &body) == 0
                 && record_gap_decode (r, body, &end_seq, &reason) == 0)
            rc = met (map, list, &r->stream, r->first_seq, end_seq - 1, scan.pos, life_of (r));
        else if (rc == 0 && r->kind == RECORD_STREAM_SNAPSHOT) {
            if (scan_body (&scan, &body) == 0)
                rc = read_snapshot (map, r, body);
            else
                *ret_whole = false;
        }
    }
    scan_release (&scan);
    return rc == FM_ERR_END ? 0 : rc;
}

static int new_map (struct log *log, struct stream_table *map)
{
    const uint32_t most = log->options.streams_max + INDEX_STREAMS_MAX;
    return stream_table_init (map, most);
}

/* What the footer says of where each stream begins in the segment (before its records are followed), or ends
 * (after). A snapshot says more, but not of a stream that is new. */
static int read_footer (struct log *log, const struct log_segment_view *s, bool is_end, struct stream_table *map,
                        struct log_lost_list *list)
{
    struct index_stream *streams;
    if (!s->sealed || index_read_streams (log->fs, s->fd, &s->trailer, &streams))
        return 0;
    int rc = 0;
    for (uint32_t i = 0; i < s->trailer.stream_count && rc == 0; i++) {
        const struct index_stream *x = &streams[i];
        const struct log_life life = { x->epoch, x->incarnation, x->closed };    /* of its last record */
        rc = is_end ? met (map, list, &x->stream, x->last_seq + 1, x->last_seq, UINT64_MAX, life)
                    : advance (map, &x->stream, x->first_seq - 1, 0, (struct log_life) { 0 });
    }
    free (streams);
    return rc;
}

/* Follow a whole segment, if it can be opened. */
static int follow_segment (struct log *log, const struct log_view *view, uint64_t number, struct stream_table *map,
                           struct log_lost_list *list, bool *ret_whole)
{
    struct log_segment_view s;
    *ret_whole = false;
    int rc = log_segment_open (log, view, number, &s);
    if (rc)
        return rc == FM_ERR_CORRUPT || rc == -ENOENT ? 0 : rc;
    rc = read_footer (log, &s, false, map, list);
    if (rc == 0)
        rc = follow (log, &s, s.end_pos, map, list, ret_whole);
    if (rc == 0)
        rc = read_footer (log, &s, true, map, list);
    log_segment_close (log, &s);
    return rc;
}

int log_lost_in (struct log *log, const struct log_view *view, uint64_t number, struct log_lost_list *list)
{
    struct stream_table map;
    bool whole;
    int rc = new_map (log, &map);
    if (rc == 0)
        rc = follow_segment (log, view, number, &map, list, &whole);
    stream_table_release (&map);
    return rc;
}

/* Positions are of the next segment from here on. */
static void forget_positions (struct stream_table *map)
{
    for (uint32_t i = 1; i <= map->count; i++)
        map->entries[i].last_offset = 0;
}

/* Where the streams stood behind segment `before`, as far as can be read: from the nearest whole snapshots on. */
static int state_behind (struct log *log, const struct log_view *view, uint64_t before, struct stream_table *map)
{
    struct log_lost_list others = { 0 };    /* lost within these segments: not asked for */
    bool whole = false;
    int rc = 0;
    for (uint64_t start = before; rc == 0 && !whole && start >= view->first_number && start > 0; start--) {
        stream_table_release (map);
        rc = new_map (log, map);
        bool start_whole = false;
        for (uint64_t number = start; rc == 0 && number <= before; number++) {
            bool each_whole;
            forget_positions (map);
            rc = follow_segment (log, view, number, map, &others, &each_whole);
            start_whole = number == start ? each_whole : start_whole;
            others.count = 0;
        }
        whole = start_whole;
    }
    map->complete &= whole;
    log_lost_release (&others);
    return rc;
}

int log_lost_between (struct log *log, const struct log_view *view, uint64_t before, uint64_t after,
                      struct log_lost_list *list)
{
    struct log_segment_view s;
    struct log_lost_list others = { 0 };
    struct stream_table then = { 0 }, now = { 0 };
    bool whole;
    int rc = new_map (log, &now);
    if (rc == 0)
        rc = state_behind (log, view, before, &then);
    if (rc == 0)
        rc = log_segment_open (log, view, after, &s);
    if (rc == 0) {
        rc = follow (log, &s, s.header.snapshot_end, &now, &others, &whole);
        log_segment_close (log, &s);
    }
    for (uint32_t i = 1; i <= now.count && rc == 0; i++) {
        const struct stream_entry *e = &now.entries[i];
        /* A stream that was not there before began in between (where, is not known of one that was forgotten there). */
        if (then.complete && e->first_seq && !stream_table_find (&then, &e->stream))
            rc = advance (&then, &e->stream, e->first_seq - 1, 0, (struct log_life) { 0 });
        if (rc == 0)
            rc = met (&then, list, &e->stream, e->last_seq + 1, e->last_seq, UINT64_MAX,
                      (struct log_life) { e->epoch, e->incarnation, e->closed });
    }
    stream_table_release (&then);
    stream_table_release (&now);
    log_lost_release (&others);
    return rc;
}
