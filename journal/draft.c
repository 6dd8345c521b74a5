#include "draft.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum {
    DRAFT_BUFFER = 1 << 20,
    DRAFT_HOLE = RECORD_HEADER_LEN          /* of a loss that left no bytes: shorter than any record, longer than none */
};

int draft_init (struct draft *d, struct log *log, const struct segment_header *header)
{
    *d = (struct draft) { .log = log, .out = { .fd = -1 }, .capacity = DRAFT_BUFFER, .hole_fd = -1 };
    d->buffer = malloc (DRAFT_BUFFER);
    return d->buffer ? segment_create (&d->out, log->fs, log->segments, header) : -ENOMEM;
}

void draft_release (struct draft *d)
{
    segment_close (&d->out);
    free (d->buffer);
    free (d->record);
    d->buffer = d->record = NULL;
}

uint64_t draft_pos (const struct draft *d)
{
    return d->out.pos + d->len;
}

static int flush (struct draft *d)
{
    const int rc = d->len > 0 ? segment_write (&d->out, d->buffer, d->len) : 0;
    d->len = rc ? d->len : 0;
    return rc;
}

static int put_bytes (struct draft *d, const uint8_t *bytes, size_t len)
{
    int rc = len > d->capacity - d->len ? flush (d) : 0;
    if (rc == 0 && len > d->capacity)
        return segment_write (&d->out, bytes, len);
    if (rc == 0) {
        memcpy (d->buffer + d->len, bytes, len);
        d->len += len;
    }
    return rc;
}

/* Room for a record of this length. */
static int reserve (struct draft *d, size_t len)
{
    if (len <= d->record_size)
        return 0;
    uint8_t *bigger = realloc (d->record, len);
    if (!bigger)
        return -ENOMEM;
    d->record = bigger;
    d->record_size = len;
    return 0;
}

/* --- What is no record. */

int draft_hole (struct draft *d, int fd, uint64_t pos, uint64_t end)
{
    if (d->hole_len > 0)
        return 0;                           /* one says that something is lost, two say no more */
    d->hole_fd = fd;
    d->hole_pos = pos;
    d->hole_len = fd >= 0 ? end - pos : DRAFT_HOLE;
    return 0;
}

static int put_hole (struct draft *d)
{
    uint8_t bytes[4096];
    int rc = 0;
    while (rc == 0 && d->hole_len > 0) {
        const size_t len = d->hole_len < sizeof bytes ? (size_t) d->hole_len : sizeof bytes;
        memset (bytes, 0, sizeof bytes);
        const ssize_t n = d->hole_fd >= 0 ? scan_read (d->log->fs, d->hole_fd, bytes, len, d->hole_pos) : 0;
        rc = n < 0 ? (int) n : put_bytes (d, bytes, len);
        d->hole_pos += len;
        d->hole_len -= len;
    }
    return rc;
}

/* --- Records. */

/* Bytes that the file has are in the room that was reserved. */
static int put_copy (struct draft *d, size_t len, uint64_t pos, bool same_salt)
{
    const uint64_t at = draft_pos (d);
    if (!same_salt || at != pos)
        record_move (d->record, d->out.seed, at, at);   /* all before it is synced before it is published */
    return put_bytes (d, d->record, len);
}

int draft_copy (struct draft *d, struct segment_scan *scan, bool same_salt)
{
    const size_t len = (size_t) (scan->next_pos - scan->pos);
    const uint8_t *body;
    int rc = put_hole (d);
    if (rc == 0)
        rc = reserve (d, len);
    if (rc == 0)
        rc = scan_body (scan, &body);
    if (rc)
        return rc;
    memcpy (d->record, body - RECORD_HEADER_LEN, len);
    d->facts += scan->record.kind == RECORD_BATCH ? scan->record.count : 0;
    return put_copy (d, len, scan->pos, same_salt);
}

int draft_copy_damaged (struct draft *d, int fd, uint64_t pos, uint64_t end, bool same_salt)
{
    const size_t len = (size_t) (end - pos);
    int rc = put_hole (d);
    if (rc == 0)
        rc = reserve (d, len);
    if (rc)
        return rc;
    memset (d->record, 0, len);
    const ssize_t n = scan_read (d->log->fs, fd, d->record, len, pos);
    return n < 0 ? (int) n : put_copy (d, len, pos, same_salt);
}

int draft_body (struct draft *d, uint32_t body_len, uint8_t **ret_body)
{
    const int rc = reserve (d, (size_t) record_len (body_len));
    if (rc == 0)
        *ret_body = d->record + RECORD_HEADER_LEN;
    return rc;
}

int draft_put (struct draft *d, const struct record *r)
{
    const int rc = put_hole (d);
    if (rc)
        return rc;
    const uint64_t at = draft_pos (d);
    record_encode (d->record, r);
    record_stamp (d->record, d->out.seed, at, r->synced_pos < at ? r->synced_pos : at);
    d->facts += r->kind == RECORD_BATCH ? r->count : 0;
    return put_bytes (d, d->record, (size_t) record_len (r->body_len));
}

/* --- Snapshots: as log_write.c makes them, of a state that is nobody's but ours. */

static struct record snapshot_record (const struct draft *d, enum record_kind kind)
{
    const struct segment_header *h = &d->out.header;
    return (struct record) { .kind = (uint8_t) kind, .offset = h->base_offset, .time_ns = h->created_ns };
}

static int put_streams (struct draft *d, const struct stream_table *streams, bool closed)
{
    struct record r = snapshot_record (d, RECORD_STREAM_SNAPSHOT);
    r.flags = (uint8_t) ((streams->complete ? RECORD_FLAG_COMPLETE : 0) | (closed ? RECORD_FLAG_CLOSED : 0));
    for (uint32_t next = 1;;) {
        uint8_t *body;
        int rc = draft_body (d, LOG_STREAMS_PER_LOCK * STREAM_SNAPSHOT_LEN, &body);
        if (rc)
            return rc;
        r.count = stream_table_snapshot (streams, closed, &next, LOG_STREAMS_PER_LOCK, body);
        if (closed && r.count == 0)
            return 0;
        r.body_len = r.count * STREAM_SNAPSHOT_LEN;
        rc = draft_put (d, &r);
        if (rc || r.count == 0)
            return rc;
    }
}

static int put_cursors (struct draft *d, const struct cursor_table *cursors)
{
    struct record r = snapshot_record (d, RECORD_CURSOR_SNAPSHOT);
    struct cursor_view c;
    struct fm_slice after = slice (NULL, 0);
    while (cursor_table_next (cursors, after, &c) == 0) {
        uint8_t *body;
        r.count = 1;
        r.body_len = (uint32_t) cursor_entry_len (&c);
        int rc = draft_body (d, r.body_len, &body);
        if (rc)
            return rc;
        cursor_entry_encode (body, &c);
        rc = draft_put (d, &r);
        if (rc)
            return rc;
        after = c.name;
    }
    return 0;
}

int draft_snapshots (struct draft *d, const struct recover_state *state)
{
    int rc = put_streams (d, state->streams, true);
    if (rc == 0)
        rc = put_streams (d, state->streams, false);
    if (rc == 0)
        rc = put_cursors (d, state->cursors);
    d->out.header.snapshot_end = draft_pos (d);
    return rc;
}

/* --- In its place. */

struct index_directory { const struct log *log; int fd; };

static int drop_file (void *arg, const char *name)
{
    const struct index_directory *d = arg;
    const int rc = d->log->fs->unlink (d->log->fs->context, d->fd, name);
    return rc == -ENOENT ? 0 : rc;
}

/* What index/ says of the insides of facts was read from the log as it was: it is made again from the log as it will be. Gone for good before a segment is
 * replaced, so that no start finds it beside the new one. */
static int drop_index (const struct log *log)
{
    struct index_directory d = { .log = log, .fd = log->fs->open (log->fs->context, log->dir, "index", O_RDONLY | O_DIRECTORY, 0) };
    if (d.fd < 0)
        return d.fd == -ENOENT ? 0 : error_set (d.fd, "cannot open %s/index: %s", log->directory, strerror (-d.fd));
    int rc = log->fs->list (log->fs->context, d.fd, drop_file, &d);
    if (rc == 0)
        rc = log->fs->sync_dir (log->fs->context, d.fd);
    (void) log->fs->close (log->fs->context, d.fd);     /* a directory: nothing to lose */
    return rc ? error_set (rc, "cannot empty %s/index: %s", log->directory, strerror (-rc)) : 0;
}

int draft_publish (struct draft *d, bool sealed)
{
    struct log_segment_view view = { .fd = d->out.fd };
    struct segment_index *index = NULL;
    struct segment_trailer summary;
    uint64_t records_end;
    void *footer = NULL;
    size_t len;
    int rc = flush (d);
    view.header = d->out.header;
    view.end_pos = d->out.pos;
    if (rc == 0)
        rc = log_segment_scan_index (d->log, &view, &index, &records_end);
    if (rc)
        return rc;
    segment_index_summary (index, records_end, &summary);
    if (records_end != d->out.pos || summary.facts < d->facts)
        rc = error_set (FM_ERR_CORRUPT, "segment %llu does not read back as it was written",
                        (unsigned long long) d->out.header.number);
    if (rc == 0 && sealed) {
        bool final;
        rc = segment_index_encode (index, &d->out.header, d->out.pos, &footer, &len);
        if (rc == 0)
            rc = segment_seal (&d->out, footer, len, &final);
    }
    free (footer);
    segment_index_destroy (&index);
    if (rc == 0)
        rc = drop_index (d->log);
    return rc ? rc : segment_replace (&d->out, d->log->segments);
}
