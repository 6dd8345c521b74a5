/* log_append: give offsets to batches and gaps, and copy them into the filling buffer.
 *
 * One short lock; no system call, and no allocation but for a record larger than the buffer. Positions, sums and the
 * index are the sync thread's work (log_write.c): here a batch costs the check of its stream and one copy. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "log_state.h"

int log_reserve (struct log *log, uint32_t body_len, uint8_t **ret_bytes)
{
    /* A record that is larger than an empty buffer makes it grow; log_write gives that back. */
    struct log_buffer *b = &log->filling;
    if (atomic_load (&log->start.held))
        return FM_ERR_FULL;
    const size_t need = (size_t) record_len (body_len);
    if (need > b->capacity - b->len) {
        if (b->len > 0)
            return FM_ERR_FULL;
        uint8_t *bigger = malloc (need);
        if (!bigger)
            return -ENOMEM;
        free (b->bytes);
        b->bytes = bigger;
        b->capacity = need;
    }
    *ret_bytes = b->bytes + b->len;
    return 0;
}

void log_commit (struct log *log, const struct record *r)
{
    log->filling.len += (size_t) record_len (r->body_len);
    log->filling.end_ticket = ++log->tickets;
    log->next_offset += record_offsets (r);
    log->last_time_ns = r->time_ns;
    if (log->waiting)
        pthread_cond_signal (&log->appended);
}

uint64_t log_journal_time (const struct log *log, uint64_t now_ns)
{
    return now_ns > log->last_time_ns ? now_ns : log->last_time_ns;
}

static int check_batch (const struct log *log, const struct batch *b, struct fm_slice front)
{
    if (log->options.read_only || atomic_load_explicit (&log->failed, memory_order_relaxed))
        return FM_ERR_READ_ONLY;
    if (b->len > RECORD_BODY_MAX || front.len > RECORD_BODY_MAX - b->len)
        return error_set (FM_ERR_TOO_LARGE, "a batch of %zu bytes: the journal takes %d", b->len + front.len, RECORD_BODY_MAX);
    if (b->len == 0 || b->count == 0 || b->first_seq == 0 || b->first_seq > UINT64_MAX - b->count
        || b->announced_len > 0)
        return error_set (FM_ERR_ARGUMENT, "not a batch to record: %zu bytes, %u facts from %llu, %llu bytes announced",
                          b->len, b->count, (unsigned long long) b->first_seq, (unsigned long long) b->announced_len);
    return 0;
}

/* May this batch come next on its stream? */
static int check_next (const struct stream_entry *e, const struct batch *b)
{
    if (b->epoch < e->epoch)
        return error_set (FM_ERR_LOST, "a batch of epoch %llu, the stream is in epoch %llu",
                          (unsigned long long) b->epoch, (unsigned long long) e->epoch);
    if (b->epoch == e->epoch && e->epoch > 0 && b->incarnation != e->incarnation)
        return error_set (FM_ERR_CONFLICT, "epoch %llu of the stream has two incarnations: a copied data directory?",
                          (unsigned long long) b->epoch);
    if (b->first_seq != e->last_seq + 1)
        return error_set (FM_ERR_ARGUMENT, "a batch from sequence %llu, the stream's next is %llu",
                          (unsigned long long) b->first_seq, (unsigned long long) e->last_seq + 1);
    return 0;
}

static int check_next_gap (const struct stream_entry *e, const struct log_gap *gap)
{
    if (gap->epoch && gap->epoch < e->epoch)
        return error_set (FM_ERR_LOST, "a gap of epoch %llu, the stream is in epoch %llu",
                          (unsigned long long) gap->epoch, (unsigned long long) e->epoch);
    if (gap->first_seq != e->last_seq + 1)
        return error_set (FM_ERR_ARGUMENT, "a gap from sequence %llu, the stream's next is %llu",
                          (unsigned long long) gap->first_seq, (unsigned long long) e->last_seq + 1);
    return 0;
}

/* The stream's entry, or a new one, and room for a record: with the append lock. Finding the stream may let the lock
 * go, so the room comes after; a new entry last: without its record it would be a stream that is not there. */
static int entry_and_room (struct log *log, const struct fm_id *stream, uint64_t first_seq, uint32_t body_len,
                           struct stream_entry **ret_entry, uint8_t **ret_bytes)
{
    struct stream_entry *e = NULL;
    int rc = log_stream_find (log, stream, &e);
    if (rc && rc != FM_ERR_UNKNOWN)
        return rc;
    const int room = log_reserve (log, body_len, ret_bytes);
    if (room)
        return room;
    if (rc == 0) {
        *ret_entry = e;
        return 0;
    }
    e = stream_table_add (&log->streams, stream);
    if (!e)
        return error_set (FM_ERR_FULL, "%u streams with records that are not yet synced: streams_max",
                          log->streams.max);
    e->first_seq = first_seq;
    e->last_seq = first_seq - 1;
    *ret_entry = e;
    return 0;
}

int log_append (struct log *log, const struct batch *b, uint64_t *ret_offset)
{
    return log_append_marked (log, b, slice (NULL, 0), ret_offset);
}

int log_append_marked (struct log *log, const struct batch *b, struct fm_slice front, uint64_t *ret_offset)
{
    int rc = check_batch (log, b, front);
    if (rc)
        return rc;
    const uint64_t now_ns = log->clock->unix_ns (log->clock->context);
    const uint32_t body_len = (uint32_t) (front.len + b->len);

    pthread_mutex_lock (&log->append_lock);
    uint8_t *p;
    struct stream_entry *e;
    rc = entry_and_room (log, &b->stream, b->first_seq, body_len, &e, &p);
    if (rc == 0)
        rc = check_next (e, b);
    if (rc == 0) {
        e->closed = e->closed && b->epoch == e->epoch;  /* what was held above the lost facts */
        const struct record r = {
            .kind = RECORD_BATCH,
            .flags = e->closed ? RECORD_FLAG_CLOSED : 0,
            .body_len = body_len,
            .count = b->count,
            .offset = log->next_offset,
            .time_ns = log_journal_time (log, now_ns),
            .stream = b->stream,
            .first_seq = b->first_seq,
            .epoch = b->epoch,
            .incarnation = b->incarnation,
        };
        record_encode (p, &r);
        if (front.len)
            memcpy (p + RECORD_HEADER_LEN, front.data, front.len);
        memcpy (p + RECORD_HEADER_LEN + front.len, b->bytes, b->len);
        e->epoch = b->epoch;
        e->incarnation = b->incarnation;
        e->last_seq = b->first_seq + b->count - 1;
        e->last_offset = r.offset;
        stream_table_use (&log->streams, e);
        log_commit (log, &r);
        *ret_offset = r.offset;
    }
    pthread_mutex_unlock (&log->append_lock);
    return rc;
}

int log_append_gap_of (struct log *log, const struct log_gap *gap, uint64_t *ret_offset)
{
    if (log->options.read_only || atomic_load (&log->failed))
        return FM_ERR_READ_ONLY;
    if (gap->first_seq == 0 || gap->end_seq <= gap->first_seq || id_is_zero (&gap->stream))
        return error_set (FM_ERR_ARGUMENT, "an empty gap, from %llu to %llu", (unsigned long long) gap->first_seq,
                          (unsigned long long) gap->end_seq);
    const uint64_t now_ns = log->clock->unix_ns (log->clock->context);

    pthread_mutex_lock (&log->append_lock);
    uint8_t *p;
    struct stream_entry *e;
    int rc = entry_and_room (log, &gap->stream, gap->first_seq, RECORD_GAP_LEN, &e, &p);
    if (rc == 0)
        rc = check_next_gap (e, gap);
    if (rc == 0) {
        const bool newer = gap->epoch > e->epoch;
        if (newer) {
            e->epoch = gap->epoch;
            e->incarnation = gap->incarnation;
        }
        e->closed = gap->closes || (e->closed && !newer);
        const struct record r = {
            .kind = RECORD_GAP,
            .flags = e->closed ? RECORD_FLAG_CLOSED : 0,
            .body_len = RECORD_GAP_LEN,
            .count = 1,
            .offset = log->next_offset,
            .time_ns = log_journal_time (log, now_ns),
            .stream = gap->stream,
            .first_seq = gap->first_seq,
            .epoch = e->epoch,
            .incarnation = e->incarnation,
        };
        record_encode (p, &r);
        record_gap_encode (p + RECORD_HEADER_LEN, gap->end_seq, gap->reason);
        e->last_seq = gap->end_seq - 1;
        e->last_offset = r.offset;
        stream_table_use (&log->streams, e);
        log_commit (log, &r);
        *ret_offset = r.offset;
    }
    pthread_mutex_unlock (&log->append_lock);
    return rc;
}

int log_append_gap (struct log *log, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq, uint32_t reason,
                    uint64_t *ret_offset)
{
    const struct log_gap gap = { .stream = *stream, .first_seq = first_seq, .end_seq = end_seq, .reason = reason };
    return log_append_gap_of (log, &gap, ret_offset);
}
