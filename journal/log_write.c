/* log_write: the sync thread's part: take the filled buffer, give its records their place and sums, write, roll, sync,
 * tell.
 *
 *     filling --swap--> flushing: [0, flush_written) in the file, [.., flush_stamped) has its place, [.., len) has not
 *
 * Invariants
 * 1. A stamped record is never stamped again: its place is fixed, so a write that found the disk full is repeated as it
 *    was.
 * 2. A segment is left only when all of it is written, sealed and synced; its successor is published after that.
 * 3. written_offset, the streams' written state and the index of touched streams change together, after the write.
 * 4. synced_pos is only ever what a successful sync covered; after a failed one nothing is written any more. */

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <assert.h>

#include "error.h"
#include "log_state.h"

/* Failures after which the same call may be made again. (Connections can take all descriptors, and end again.) */
static bool is_temporary (int rc)
{
    return log_is_out_of_room (rc) || rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

static int fail_unless_temporary (struct log *log, int rc, const char *what)
{
    if (rc == -EDQUOT)
        rc = -ENOSPC;
    return is_temporary (rc) ? error_set (rc, "%s in %s: %s; nothing is lost, it is tried again", what, log->directory,
                                          fm_error_text (rc))
                             : log_fail (log, rc, what);
}

/* --- What is written, what is synced. */

/* The records up to flush_stamped are in the file: tell the streams, and everybody. */
static void publish_written (struct log *log)
{
    log->flush_written = log->flush_stamped;
    log->written_offset = log->stamped_offset;
    log->written_time_ns = log->stamped_time_ns;
    /* An empty buffer's ticket is of its last round, and older than what the other one brought. */
    if (log->flush_written == log->flushing.len && log->flushing.end_ticket > log->written_ticket)
        log->written_ticket = log->flushing.end_ticket;

    for (uint32_t i = 0; i < log->touched_count;) {
        const uint32_t stop = log->touched_count - i < LOG_STREAMS_PER_LOCK ? log->touched_count
                                                                            : i + LOG_STREAMS_PER_LOCK;
        pthread_mutex_lock (&log->append_lock);
        for (; i < stop; i++) {
            const struct index_stream *s = segment_index_stream (log->index, log->touched[i]);
            const struct stream_state state = { .stream = s->stream, .epoch = s->epoch, .incarnation = s->incarnation,
                                                .last_seq = s->last_seq, .last_offset = s->last_offset,
                                                .closed = s->closed };
            stream_table_written (&log->streams, &state);
            log->touched_marks[log->touched[i]] = 0;
        }
        pthread_mutex_unlock (&log->append_lock);
    }
    log->touched_count = 0;

    pthread_mutex_lock (&log->view_lock);
    log->view.written_pos = log->active.pos;
    log->view.written_offset = log->written_offset;
    pthread_mutex_unlock (&log->view_lock);
}

/* The active segment is synced up to its synced_pos, which is its pos. Readers first: what a stream is said to have synced they find, or it is lost
 * (replay.c, look_at_end). */
static void publish_synced (struct log *log)
{
    pthread_mutex_lock (&log->view_lock);
    log->view.synced_pos = log->active.synced_pos;
    log->view.synced_offset = log->written_offset;
    pthread_mutex_unlock (&log->view_lock);

    uint32_t taken;
    do {
        pthread_mutex_lock (&log->append_lock);
        taken = stream_table_sync (&log->streams, LOG_STREAMS_PER_LOCK);
        pthread_mutex_unlock (&log->append_lock);
    } while (taken > 0);
    atomic_store (&log->synced_ticket, log->written_ticket);
}

/* --- Segments. */

static int write_snapshot_record (struct segment *s, uint8_t *p, const struct record *r)
{
    record_encode (p, r);
    record_stamp (p, s->seed, s->pos, 0);
    return segment_write (s, p, (size_t) record_len (r->body_len));
}

static struct record snapshot_record (const struct segment *s, enum record_kind kind)
{
    return (struct record) { .kind = (uint8_t) kind, .offset = s->header.base_offset, .time_ns = s->header.created_ns };
}

/* The streams as they are written: what the records of the new segment then add to. Those whose epoch is closed come in records
 * of their own, before the others. */
static int write_snapshots_of (struct log *log, struct segment *s, bool closed, uint8_t *p)
{
    enum { PER_RECORD = LOG_STREAMS_PER_LOCK };
    static_assert (PER_RECORD * STREAM_SNAPSHOT_LEN <= LOG_SNAPSHOT_BODY, "the streams of one lock fit");
    struct record r = snapshot_record (s, RECORD_STREAM_SNAPSHOT);
    for (uint32_t next = 1;;) {
        pthread_mutex_lock (&log->append_lock);
        r.count = stream_table_snapshot (&log->streams, closed, &next, PER_RECORD, p + RECORD_HEADER_LEN);
        /* Read with the last of them: a stream that was forgotten meanwhile may be missing. */
        r.flags = (uint8_t) ((log->streams.complete ? RECORD_FLAG_COMPLETE : 0) | (closed ? RECORD_FLAG_CLOSED : 0));
        pthread_mutex_unlock (&log->append_lock);
        if (closed && r.count == 0)
            return 0;
        r.body_len = r.count * STREAM_SNAPSHOT_LEN;
        const int rc = write_snapshot_record (s, p, &r);
        if (rc || r.count == 0)
            return rc;                      /* the empty one at the end tells `complete` of them all */
    }
}

static int write_stream_snapshots (struct log *log, struct segment *s, uint8_t *p)
{
    const int rc = write_snapshots_of (log, s, true, p);
    return rc ? rc : write_snapshots_of (log, s, false, p);
}

struct snapshot_buffer {
    uint8_t *bytes;
    size_t capacity;
};

/* Copy the entries above `after` into the buffer as one record's body, as many as fit (or the one that is larger),
 * and remember the last one's name. With the cursor lock. *ret_count 0: there are no more. */
static int copy_cursors (struct log *log, struct snapshot_buffer *b, char after[CURSOR_NAME_MAX], size_t *after_len,
                         struct record *r)
{
    struct cursor_view c;
    r->body_len = r->count = 0;
    while (cursor_table_next (&log->cursors, slice (after, *after_len), &c) == 0) {
        const size_t len = cursor_entry_len (&c);
        if (r->count > 0 && r->body_len + len > LOG_SNAPSHOT_BODY)
            break;
        const size_t need = RECORD_HEADER_LEN + r->body_len + len + RECORD_ALIGN;
        if (need > b->capacity) {
            uint8_t *bigger = realloc (b->bytes, need);
            if (!bigger)
                return -ENOMEM;
            b->bytes = bigger;
            b->capacity = need;
        }
        cursor_entry_encode (b->bytes + RECORD_HEADER_LEN + r->body_len, &c);
        r->body_len += (uint32_t) len;
        r->count++;
        memcpy (after, c.name.data, c.name.len);
        *after_len = c.name.len;
    }
    return 0;
}

/* The cursors as they are put: some of their records may follow in this segment, and say the same again. */
static int write_cursor_snapshots (struct log *log, struct segment *s, struct snapshot_buffer *b)
{
    struct record r = snapshot_record (s, RECORD_CURSOR_SNAPSHOT);
    char after[CURSOR_NAME_MAX];
    size_t after_len = 0;
    for (;;) {
        pthread_mutex_lock (&log->cursor_lock);
        int rc = copy_cursors (log, b, after, &after_len, &r);
        pthread_mutex_unlock (&log->cursor_lock);
        if (rc || r.count == 0)
            return rc;
        rc = write_snapshot_record (s, b->bytes, &r);
        if (rc)
            return rc;
    }
}

/* The nearest segment before a new one that has identities, or may have some when a repair has brought back what was damaged. Where that is not known, the one
 * before: it tells of those before it. */
static uint64_t identities_before (const struct log *log, uint64_t number)
{
    const struct segment_header *const active = &log->active.header;
    uint32_t count;
    if (number <= 1 || active->number != number - 1 || log->index_number != active->number)
        return number - 1;
    (void) segment_index_identities (log->index, &count);
    return count > 0 || segment_index_is_damaged (log->index) ? active->number : active->identities_number;
}

int log_start_segment (struct log *log, uint64_t number, uint64_t created_ns, uint64_t prior_bytes, bool *ret_final)
{
    struct segment s;
    struct segment_header h = {
        .journal = log->cookie.journal,
        .generation = log->cookie.generation,
        .number = number,
        .base_offset = log->written_offset,
        .created_ns = created_ns,
        .prior_bytes = prior_bytes,
        .first_number = log->view.first_number ? log->view.first_number : number,
    };
    struct fm_id salt;
    id_random (&salt);
    memcpy (h.salt, salt.bytes, sizeof h.salt);
    memcpy (h.mesh, log->cookie.mesh, sizeof h.mesh);
    h.identities_number = identities_before (log, number);

    struct snapshot_buffer buffer = { .capacity = RECORD_HEADER_LEN + LOG_SNAPSHOT_BODY + RECORD_ALIGN };
    buffer.bytes = malloc (buffer.capacity);
    if (!buffer.bytes)
        return -ENOMEM;
    int rc = segment_create (&s, log->fs, log->segments, &h);
    if (rc)
        goto leave;
    rc = write_stream_snapshots (log, &s, buffer.bytes);
    if (rc == 0)
        rc = write_cursor_snapshots (log, &s, &buffer);
    if (rc == 0) {
        rc = segment_publish (&s, log->segments);
        /* Whether the name is there is not known: only a start of the journal can tell. A full disk cannot get that
         * far. */
        *ret_final = rc != 0 && !is_temporary (rc);
    }
    if (rc) {
        segment_close (&s);
        goto leave;
    }
    segment_close (&log->active);
    log->active = s;
    log->marked = false;
    pthread_mutex_lock (&log->index_lock);
    segment_index_reset (log->index);
    log->index_number = number;
    pthread_mutex_unlock (&log->index_lock);
    pthread_mutex_lock (&log->view_lock);
    if (log->view.first_number == 0) {
        log->view.first_number = number;
        log->view.first_offset = h.base_offset;
        log->view.first_prior_bytes = prior_bytes;
    }
    log->view.active_number = number;
    log->view.active_prior_bytes = prior_bytes;
    log->view.written_pos = log->view.synced_pos = s.pos;
    log->view.written_offset = log->view.synced_offset = h.base_offset;
    pthread_mutex_unlock (&log->view_lock);

leave:
    free (buffer.bytes);
    return rc;
}

/* Seal the active segment and go on in a new one. Everything stamped is written. Each step may be repeated. */
static int roll (struct log *log, uint64_t created_ns)
{
    int rc;
    bool final = false;
    if (!log->active.sealed) {
        void *footer;
        size_t footer_len;
        rc = segment_index_encode (log->index, &log->active.header, log->active.pos, &footer, &footer_len);
        if (rc)
            return fail_unless_temporary (log, rc, "sealing a segment");
        rc = segment_seal (&log->active, footer, footer_len, &final);
        free (footer);
        if (rc)
            return final ? log_fail (log, rc, "syncing a sealed segment")
                         : fail_unless_temporary (log, rc, "sealing a segment");
        log->active.filled_pos = log->active.pos + footer_len;
        publish_synced (log);
    }
    const struct segment_header *h = &log->active.header;
    rc = log_start_segment (log, h->number + 1, created_ns, h->prior_bytes + log->active.filled_pos, &final);
    if (rc)
        return final ? log_fail (log, rc, "publishing a new segment")
                     : fail_unless_temporary (log, rc, "starting a new segment");
    return 0;
}

static bool has_records (const struct log *log)
{
    return log->active.pos > log->active.header.snapshot_end;
}

static bool is_old (const struct log *log, uint64_t now_ns)
{
    const uint64_t age_ns = log->options.segment_age_ms * UINT64_C (1000000);
    const uint64_t created_ns = log->active.header.created_ns;
    return age_ns > 0 && has_records (log) && now_ns > created_ns && now_ns - created_ns >= age_ns;
}

/* Does a record of this length go into the next segment? The snapshots don't count: they come again there. */
static bool is_full (const struct log *log, uint64_t pos, uint64_t len)
{
    const uint64_t used = pos - log->active.header.snapshot_end;
    return log->active.sealed || !segment_index_has_room (log->index) || !segment_index_takes_identities (log->index)
           || (used > 0 && (used >= log->options.segment_bytes || len > log->options.segment_bytes - used));
}

/* --- Writing. */

static void touch (struct log *log, uint32_t stream_number)
{
    if (stream_number == UINT32_MAX || log->touched_marks[stream_number])
        return;
    log->touched_marks[stream_number] = 1;
    log->touched[log->touched_count++] = stream_number;
}

/* Give the next records, about LOG_WRITE_CHUNK of them, their place in the active segment; stops where it is full. */
static void stamp_chunk (struct log *log, bool *ret_full)
{
    struct segment *s = &log->active;
    pthread_mutex_lock (&log->index_lock);
    while (log->flush_stamped < log->flushing.len && log->flush_stamped - log->flush_written < LOG_WRITE_CHUNK) {
        uint8_t *p = log->flushing.bytes + log->flush_stamped;
        const uint64_t len = record_len (record_peek_body_len (p));
        const uint64_t pos = s->pos + (log->flush_stamped - log->flush_written);
        if (is_full (log, pos, len)) {
            *ret_full = true;
            break;
        }
        record_stamp (p, s->seed, pos, s->synced_pos);
        struct record r;
        record_peek (p, &r);
        touch (log, segment_index_add (log->index, &r, p + RECORD_HEADER_LEN, pos));
        log->flush_stamped += (size_t) len;
        log->stamped_offset = r.offset + record_offsets (&r);
        log->stamped_time_ns = r.time_ns;
    }
    pthread_mutex_unlock (&log->index_lock);
}

static int write_stamped (struct log *log)
{
    const size_t len = log->flush_stamped - log->flush_written;
    if (len == 0)
        return 0;
    const int rc = segment_write (&log->active, log->flushing.bytes + log->flush_written, len);
    if (rc)
        return fail_unless_temporary (log, rc, "writing a segment");
    log->marked = false;
    publish_written (log);
    return 0;
}

/* When the flushing buffer is done with: take the filling one. */
static void swap_buffers (struct log *log)
{
    if (log->flush_written < log->flushing.len)
        return;
    if (log->flushing.capacity > log->options.buffer_bytes) {
        uint8_t *smaller = malloc (log->options.buffer_bytes);
        if (smaller) {
            free (log->flushing.bytes);
            log->flushing.bytes = smaller;
            log->flushing.capacity = log->options.buffer_bytes;
        }
    }
    log->flushing.len = log->flush_written = log->flush_stamped = 0;
    pthread_mutex_lock (&log->append_lock);
    const struct log_buffer filled = log->filling;
    log->filling = log->flushing;
    log->flushing = filled;
    pthread_mutex_unlock (&log->append_lock);
}

/* The time of the next record to be stamped: a new segment is as old as its first record. */
static uint64_t next_time_ns (const struct log *log)
{
    struct record r = { .time_ns = log->written_time_ns };
    if (log->flush_stamped < log->flushing.len)
        record_peek (log->flushing.bytes + log->flush_stamped, &r);
    return r.time_ns;
}

int log_write (struct log *log)
{
    if (log->options.read_only || atomic_load (&log->failed))
        return FM_ERR_READ_ONLY;
    const bool held = atomic_load (&log->start.held);
    int rc = held ? log_start_go_on (log) : 0;
    if (rc)
        return fail_unless_temporary (log, rc, "making good what the last run left");
    swap_buffers (log);
    rc = write_stamped (log);           /* what a full disk kept from it */
    if (rc)
        return rc;
    bool worked = held || log->flushing.len > 0;
    if (is_old (log, log->clock->unix_ns (log->clock->context))) {
        rc = roll (log, next_time_ns (log));
        worked = true;
    }
    while (rc == 0 && log->flush_written < log->flushing.len) {
        bool full = false;
        stamp_chunk (log, &full);
        rc = write_stamped (log);
        if (rc == 0 && full)
            rc = roll (log, next_time_ns (log));
    }
    return rc ? rc : worked ? 0 : FM_ERR_END;
}

int log_sync (struct log *log, uint64_t *ret_synced)
{
    if (log->options.read_only || atomic_load (&log->failed))
        return FM_ERR_READ_ONLY;
    struct segment *s = &log->active;
    if (!s->sealed && s->synced_pos < s->pos) {
        const int rc = segment_sync (s);
        if (rc)
            return log_fail (log, rc, "syncing a segment");
    }
    /* A sealed segment is synced, but what is written ends with it. */
    publish_synced (log);
    if (ret_synced)
        *ret_synced = log->written_offset;
    return 0;
}

int log_mark_idle (struct log *log)
{
    struct segment *s = &log->active;
    if (log->options.read_only || atomic_load (&log->failed))
        return FM_ERR_READ_ONLY;
    if (atomic_load (&log->start.held) || log->marked || s->sealed || !has_records (log) || log->flush_written < log->flushing.len
        || s->synced_pos < s->pos)
        return 0;
    uint8_t p[RECORD_HEADER_LEN];
    const struct record r = { .kind = RECORD_SYNC_MARK,
                              .offset = log->written_offset,
                              .time_ns = log->written_time_ns };
    record_encode (p, &r);
    record_stamp (p, s->seed, s->pos, s->synced_pos);
    int rc = segment_write (s, p, sizeof p);
    if (rc)
        return fail_unless_temporary (log, rc, "writing a sync mark");
    log->marked = true;
    rc = segment_sync (s);
    if (rc)
        return log_fail (log, rc, "syncing a sync mark");
    publish_written (log);
    publish_synced (log);
    return 0;
}

/* --- Waiting. */

void log_wait_appended (struct log *log, unsigned max_ms)
{
    struct timespec until;
    (void) clock_gettime (CLOCK_MONOTONIC, &until);     /* cannot fail: the clock exists */
    const uint64_t ns = (uint64_t) until.tv_nsec + (uint64_t) max_ms * 1000000;
    until.tv_sec += (time_t) (ns / 1000000000);
    until.tv_nsec = (long) (ns % 1000000000);
    pthread_mutex_lock (&log->append_lock);
    log->waiting = true;
    int rc = 0;
    while (log->filling.len == 0 && !log->woken && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait (&log->appended, &log->append_lock, &until);
    log->waiting = false;
    log->woken = false;
    pthread_mutex_unlock (&log->append_lock);
}

void log_wake (struct log *log)
{
    pthread_mutex_lock (&log->append_lock);
    log->woken = true;
    pthread_cond_signal (&log->appended);
    pthread_mutex_unlock (&log->append_lock);
}
