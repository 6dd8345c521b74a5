#include "recover.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "fm_types.h"

enum {
    COPY_BYTES = 1 << 20,
    QUARANTINE_NAMES_MAX = 1000             /* of one place: a journal that is torn there again and again */
};

/* --- What records add up to. */

static int apply_stream_snapshot (struct recover_state *state, const struct record *r, const uint8_t *body)
{
    if (!(r->flags & RECORD_FLAG_COMPLETE))
        state->streams->complete = false;
    for (uint32_t i = 0; i < r->count && (i + 1) * (uint64_t) STREAM_SNAPSHOT_LEN <= r->body_len; i++) {
        struct stream_state s;
        stream_state_decode (body + (size_t) i * STREAM_SNAPSHOT_LEN, &s);
        s.closed = r->flags & RECORD_FLAG_CLOSED;
        const int rc = stream_table_restore (state->streams, &s);
        if (rc)
            return rc;
    }
    return 0;
}

static int apply_cursors (struct recover_state *state, const struct record *r, const uint8_t *body)
{
    size_t pos = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct cursor_view c;
        size_t len;
        if (cursor_entry_decode (body + pos, r->body_len - pos, &c, &len))
            return 0;
        pos += len;
        uint8_t *entry = malloc (len);
        if (!entry)
            return -ENOMEM;
        cursor_entry_encode (entry, &c);
        const int rc = cursor_table_put (state->cursors, entry);
        if (rc) {
            free (entry);
            return rc;
        }
    }
    return 0;
}

static int apply_stream (struct recover_state *state, const struct record *r, uint64_t last_seq)
{
    const struct stream_entry *known = stream_table_find (state->streams, &r->stream);
    const struct stream_state s = {
        .stream = r->stream,
        .epoch = r->epoch,
        .incarnation = r->incarnation,
        .first_seq = known ? known->first_seq : state->streams->complete ? r->first_seq : 0,
        .last_seq = last_seq,
        .last_offset = r->offset,
        .closed = r->flags & RECORD_FLAG_CLOSED,
    };
    return stream_table_restore (state->streams, &s);
}

int recover_apply (struct recover_state *state, const struct record *r, const uint8_t *body, uint64_t pos)
{
    state->next_offset = r->offset + record_offsets (r);
    state->last_time_ns = r->time_ns;
    if (state->index)
        (void) segment_index_add (state->index, r, body, pos);  /* the stream's number is of no use here */
    uint64_t end_seq;
    uint32_t reason;
    switch (r->kind) {
    case RECORD_BATCH:
        return apply_stream (state, r, r->first_seq + r->count - 1);
    case RECORD_GAP:
        return record_gap_decode (r, body, &end_seq, &reason) == 0 ? apply_stream (state, r, end_seq - 1) : 0;
    case RECORD_STREAM_SNAPSHOT:
        return apply_stream_snapshot (state, r, body);
    case RECORD_CURSOR_PUT:
    case RECORD_CURSOR_SNAPSHOT:
        return apply_cursors (state, r, body);
    case RECORD_CURSOR_DELETE:
        (void) cursor_table_delete (state->cursors, slice (body, r->body_len));     /* unknown: deleted already */
        return 0;
    default:
        return 0;                           /* a mark, or a kind of a newer minor version */
    }
}

/* --- The scan. */

/* The next record whose header and body check. FM_ERR_CORRUPT: [scan->pos, *ret_end) is none; *ret_headed: its
 * header checks all the same. */
static int next_whole (struct segment_scan *scan, const uint8_t **ret_body, uint64_t *ret_end, bool *ret_headed)
{
    int rc = scan_next (scan);
    *ret_headed = rc == 0;
    *ret_end = scan->next_pos;
    return rc ? rc : scan_body (scan, ret_body);
}

/* How far any record says that the segment was synced. Damaged bodies don't matter: their headers check. */
static int find_synced (struct segment_scan *scan, uint64_t *synced_pos)
{
    int rc;
    while ((rc = scan_next (scan)) != FM_ERR_END) {
        if (rc == 0 && scan->record.synced_pos > *synced_pos)
            *synced_pos = scan->record.synced_pos;
        if (rc && rc != FM_ERR_CORRUPT)
            return rc;
    }
    return 0;
}

/* Nothing checks in [pos, end): is it damage, or where the log was cut? The records behind tell, once for all. */
static int classify (struct segment_scan *scan, uint64_t end, struct recover_result *r, bool *synced_known,
                     bool *ret_torn)
{
    const uint64_t pos = scan->pos;
    const struct record record = scan->record;
    if (!*synced_known && pos >= r->synced_pos) {
        int rc = find_synced (scan, &r->synced_pos);
        *synced_known = true;
        if (rc == 0)
            rc = scan_start (scan, scan->fs, scan->fd, scan->seed, end, scan->end);
        if (rc)
            return rc;
        scan->pos = pos;
        scan->record = record;
    }
    *ret_torn = pos >= r->synced_pos;
    return 0;
}

int recover_scan (const struct fs *fs, int fd, const struct segment_header *h, struct recover_bounds bounds,
                  struct segment_scan *scan, struct recover_state *state, struct recover_result *ret_result)
{
    struct recover_result r = { .synced_pos = h->snapshot_end, .end_pos = SEGMENT_RECORDS_POS };
    int rc = fs->size (fs->context, fd, &r.file_len);
    if (rc == 0)
        rc = scan_start (scan, fs, fd, record_seed (h->salt), SEGMENT_RECORDS_POS,
                         bounds.limit < r.file_len ? bounds.limit : r.file_len);
    state->next_offset = h->base_offset;
    state->last_time_ns = h->created_ns;
    bool synced_known = false, torn = false;
    while (rc == 0) {
        const uint8_t *body;
        uint64_t next;
        bool headed;
        rc = next_whole (scan, &body, &next, &headed);
        if (rc == FM_ERR_CORRUPT) {
            const bool may_be_footer = next == scan->end && bounds.limit == UINT64_MAX;
            rc = bounds.followed && !may_be_footer ? 0 : classify (scan, next, &r, &synced_known, &torn);
            if (rc || torn)
                break;
            /* Damaged snapshots and no record behind them: what follows is no part of the damage. */
            if (scan->pos < h->snapshot_end && next == scan->end && next > h->snapshot_end)
                scan->next_pos = next = h->snapshot_end;
            r.damaged_ranges++;
            r.snapshot_damaged |= scan->pos < h->snapshot_end;
            if (state->index)
                segment_index_damaged (state->index);
            if (headed && scan->record.kind == RECORD_BATCH)
                rc = recover_apply (state, &scan->record, NULL, scan->pos); /* lost, but which it was is known */
            r.end_pos = next;
        } else if (rc == 0) {
            rc = recover_apply (state, &scan->record, body, scan->pos);
            r.records += scan->pos >= h->snapshot_end;
            r.marked = scan->record.kind == RECORD_SYNC_MARK;
            r.synced_pos = scan->record.synced_pos > r.synced_pos ? scan->record.synced_pos : r.synced_pos;
            r.end_pos = next;
        }
    }
    if (rc && rc != FM_ERR_END)
        return rc;
    if (bounds.limit == UINT64_MAX)
        scan->end = r.file_len;             /* else the footer begins at the limit, and is made again */
    rc = scan_zeros (scan, r.end_pos, &r.data_end);
    if (rc)
        return rc;
    *ret_result = r;
    return 0;
}

/* --- Making good. */

/* Copy bytes from a file to another or to itself: what is rewritten in place becomes dirty, and the next sync writes
 * it. */
static int copy_bytes (const struct fs *fs, int from_fd, uint64_t from, uint64_t to, int to_fd, uint64_t at)
{
    uint8_t *buffer = malloc (COPY_BYTES);
    if (!buffer)
        return -ENOMEM;
    int rc = 0;
    while (rc == 0 && from < to) {
        const size_t want = to - from < COPY_BYTES ? (size_t) (to - from) : COPY_BYTES;
        const ssize_t len = scan_read (fs, from_fd, buffer, want, from);
        if (len <= 0) {
            rc = len < 0 ? (int) len : -EIO;
            break;
        }
        rc = fs_write_full (fs, to_fd, buffer, (size_t) len, at);
        from += (uint64_t) len;
        at += (uint64_t) len;
    }
    free (buffer);
    return rc;
}

int recover_quarantine (const struct fs *fs, int dir, int fd, uint64_t number, const char *what, uint64_t from,
                        uint64_t to)
{
    int copy = -EEXIST;
    char name[96] = "";
    for (int i = 0; i < QUARANTINE_NAMES_MAX && copy == -EEXIST; i++) {
        (void) snprintf (name, sizeof name, "%010llu-%llu.%d.%.16s", (unsigned long long) number,
                        (unsigned long long) from, i, what);
        copy = fs->open (fs->context, dir, name, O_WRONLY | O_CREAT | O_EXCL, 0666);
    }
    if (copy < 0)
        return copy;
    int rc = copy_bytes (fs, fd, from, to, copy, 0);
    if (rc == 0)
        rc = fs->sync_data (fs->context, copy);
    const int closed = fs->close (fs->context, copy);
    rc = rc ? rc : closed;
    if (rc) {
        (void) fs->unlink (fs->context, dir, name);     /* half a copy is no use, and takes room */
        return rc;
    }
    return fs->sync_dir (fs->context, dir);
}

int recover_rewrite (const struct fs *fs, int fd, const struct recover_result *r)
{
    if (r->end_pos <= r->synced_pos)
        return 0;
    const int rc = copy_bytes (fs, fd, r->synced_pos, r->end_pos, fd, r->synced_pos);
    return rc ? rc : fs->sync_data (fs->context, fd);
}

static int write_mark (const struct fs *fs, int fd, const struct segment_header *h, const struct recover_end *end,
                       uint64_t pos)
{
    uint8_t p[RECORD_HEADER_LEN];
    const struct record mark = { .kind = RECORD_SYNC_MARK, .offset = end->next_offset, .time_ns = end->last_time_ns };
    record_encode (p, &mark);
    record_stamp (p, record_seed (h->salt), pos, pos);
    return fs_write_full (fs, fd, p, sizeof p, pos);
}

int recover_cut (const struct fs *fs, int fd, const struct segment_header *h, const struct recover_end *end,
                 const struct recover_result *r, uint64_t *ret_end_pos)
{
    int rc = 0;
    uint64_t end_pos = r->end_pos;
    if (r->damaged_ranges > 0 && r->data_end > end_pos) {
        rc = write_mark (fs, fd, h, end, end_pos);
        end_pos += RECORD_HEADER_LEN;
    }
    if (rc == 0 && r->file_len > end_pos)
        rc = fs->truncate (fs->context, fd, end_pos);
    if (rc == 0)
        rc = fs->sync_data (fs->context, fd);
    if (rc == 0)
        *ret_end_pos = end_pos;
    return rc;
}
