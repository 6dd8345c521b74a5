/* log_stream: what the log knows of a stream: from the table, or, where the table had to forget, from the footers. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "log_state.h"

/* It may begin in an older segment. */
static struct stream_state state_of (const struct index_stream *s)
{
    return (struct stream_state) { .stream = s->stream,
                                   .epoch = s->epoch,
                                   .incarnation = s->incarnation,
                                   .last_seq = s->last_seq,
                                   .last_offset = s->last_offset,
                                   .closed = s->closed };
}

/* The newest segment that has it knows its end. */
static int look_back (struct log *log, const struct fm_id *stream, struct stream_state *ret_state)
{
    struct log_view view;
    log_view_get (log, &view);
    for (uint64_t number = view.active_number; number >= view.first_number && number > 0; number--) {
        struct index_stream s;
        const int rc = log_segment_stream (log, &view, number, stream, &s);
        if (rc == 0)
            *ret_state = state_of (&s);
        if (rc != FM_ERR_UNKNOWN)
            return rc;
    }
    return FM_ERR_UNKNOWN;
}

int log_stream_find (struct log *log, const struct fm_id *stream, struct stream_entry **ret_entry)
{
    struct stream_entry *e = stream_table_find (&log->streams, stream);
    if (!e && log->streams.complete)
        return FM_ERR_UNKNOWN;
    if (!e) {
        struct stream_state state;
        pthread_mutex_unlock (&log->append_lock);
        const int rc = look_back (log, stream, &state);
        pthread_mutex_lock (&log->append_lock);
        e = stream_table_find (&log->streams, stream);      /* another thread may have been quicker */
        if (!e && rc)
            return rc;
        if (!e) {
            if (stream_table_restore (&log->streams, &state))
                return FM_ERR_FULL;         /* no room until others are synced */
            e = stream_table_find (&log->streams, stream);
        }
    }
    *ret_entry = e;
    return 0;
}

/* The oldest segment that has it knows its start. */
static int look_forward (struct log *log, const struct fm_id *stream, uint64_t *ret_first_seq)
{
    struct log_view view;
    log_view_get (log, &view);
    int rc = FM_ERR_UNKNOWN;
    for (uint64_t number = view.first_number; number <= view.active_number && rc == FM_ERR_UNKNOWN; number++) {
        struct index_stream s;
        rc = log_segment_stream (log, &view, number, stream, &s);
        if (rc == 0)
            *ret_first_seq = s.first_seq;
    }
    return rc;
}

static struct log_stream stream_of (const struct stream_entry *e)
{
    return (struct log_stream) {
        .stream = e->stream,
        .epoch = e->epoch,
        .incarnation = e->incarnation,
        .first_seq = e->first_seq,
        .last_seq = e->last_seq,
        .written_seq = e->written.last_seq,
        .synced_seq = e->synced_seq,
        .last_offset = e->last_offset,
        .closed = e->closed,
    };
}

/* Where the stream really begins, after retention went on behind the table's back. With the append lock, which is
 * let go; *entry is found again, and NULL where it was forgotten meanwhile. */
static int freshen_first_seq (struct log *log, const struct fm_id *stream, struct stream_entry **entry)
{
    struct log_view view;
    log_view_get (log, &view);
    uint64_t first_seq = (*entry)->last_seq + 1;    /* all of it expired */
    int rc = 0;
    if ((*entry)->last_offset >= view.first_offset) {
        pthread_mutex_unlock (&log->append_lock);
        rc = look_forward (log, stream, &first_seq);
        pthread_mutex_lock (&log->append_lock);
    }
    *entry = stream_table_find (&log->streams, stream);
    if (rc && rc != FM_ERR_UNKNOWN)
        return rc;
    if (*entry && (*entry)->stale) {
        (*entry)->first_seq = first_seq;
        stream_table_set_stale (&log->streams, *entry, false);
    }
    return 0;
}

int log_stream_get (struct log *log, const struct fm_id *stream, struct log_stream *ret_stream)
{
    struct stream_entry *e = NULL;
    int rc;
    pthread_mutex_lock (&log->append_lock);
    do {
        rc = log_stream_find (log, stream, &e);
        if (rc == 0 && e->stale)
            rc = freshen_first_seq (log, stream, &e);
    } while (rc == 0 && !e);
    if (rc == 0)
        *ret_stream = stream_of (e);
    pthread_mutex_unlock (&log->append_lock);
    return rc;
}

/* Entries of one segment: what is stale begins here. False: none is stale any more. */
static bool freshen_from (struct log *log, const struct index_stream *streams, uint32_t count)
{
    bool left = true;
    for (uint32_t i = 0; i < count && left;) {
        const uint32_t stop = count - i < LOG_STREAMS_PER_LOCK ? count : i + LOG_STREAMS_PER_LOCK;
        pthread_mutex_lock (&log->append_lock);
        for (; i < stop; i++) {
            struct stream_entry *e = stream_table_find (&log->streams, &streams[i].stream);
            if (e && e->stale) {
                e->first_seq = streams[i].first_seq;
                stream_table_set_stale (&log->streams, e, false);
            }
        }
        left = log->streams.stale > 0;
        pthread_mutex_unlock (&log->append_lock);
    }
    return left;
}

/* Streams that expired whole need no look at a segment. And, at the end (all): what no segment has. False: none is
 * stale any more. */
static bool freshen_expired (struct log *log, uint64_t first_offset, bool all)
{
    bool left = true;
    for (uint32_t number = 1, stop = 1; left;) {
        pthread_mutex_lock (&log->append_lock);
        const uint32_t count = log->streams.count;
        stop = count + 1 - number > LOG_STREAMS_PER_LOCK ? number + LOG_STREAMS_PER_LOCK : count + 1;
        for (; number < stop; number++) {
            struct stream_entry *e = &log->streams.entries[number];
            if (e->stale && (all || e->last_offset < first_offset)) {
                e->first_seq = all && e->first_seq ? e->first_seq : e->last_seq + 1;
                stream_table_set_stale (&log->streams, e, false);
            }
        }
        left = log->streams.stale > 0;
        pthread_mutex_unlock (&log->append_lock);
        if (number > count)
            break;
    }
    return left;
}

/* All streams' beginnings, in one walk over the footers from the oldest on, once after a start: it ends with the
 * last stream that is stale, and for streams that publish all the time that is the first footer. */
static int freshen_all (struct log *log)
{
    struct log_view view;
    log_view_get (log, &view);
    bool left = freshen_expired (log, view.first_offset, false);
    for (uint64_t number = view.first_number; number <= view.active_number && left; number++) {
        struct index_stream *streams;
        uint32_t count;
        int rc = log_segment_all_streams (log, &view, number, &streams, &count);
        if (rc == FM_ERR_CORRUPT || rc == -ENOENT)
            continue;                       /* lost, or gone meanwhile */
        if (rc)
            return rc;
        left = freshen_from (log, streams, count);
        free (streams);
    }
    if (left)
        (void) freshen_expired (log, view.first_offset, true);
    return 0;
}

/* Keep ret[0, count) the smallest ids in order; an insertion sort with a bound. */
static void insert (struct log_stream *ret, size_t max, size_t *count, const struct stream_entry *e)
{
    size_t at = *count;
    while (at > 0 && memcmp (ret[at - 1].stream.bytes, e->stream.bytes, ID_LEN) > 0)
        at--;
    if (at == max)
        return;
    const size_t moved = *count - at - (*count == max);
    memmove (ret + at + 1, ret + at, moved * sizeof *ret);
    ret[at] = stream_of (e);
    if (*count < max)
        ++*count;
}

int log_stream_list (struct log *log, const struct fm_id *after, struct log_stream *ret, size_t max, size_t *ret_count)
{
    size_t count = 0;
    pthread_mutex_lock (&log->append_lock);
    const bool stale = log->streams.stale > 0;
    pthread_mutex_unlock (&log->append_lock);
    const int rc = stale ? freshen_all (log) : 0;
    if (rc)
        return rc;
    for (uint32_t number = 1, stop = 1; max > 0;) {
        pthread_mutex_lock (&log->append_lock);
        stop = log->streams.count + 1 - number > LOG_STREAMS_PER_LOCK ? number + LOG_STREAMS_PER_LOCK
                                                                      : log->streams.count + 1;
        for (; number < stop; number++) {
            const struct stream_entry *e = &log->streams.entries[number];
            if (e->used && (!after || memcmp (e->stream.bytes, after->bytes, ID_LEN) > 0))
                insert (ret, max, &count, e);
        }
        const bool done = number > log->streams.count;
        pthread_mutex_unlock (&log->append_lock);
        if (done)
            break;
    }
    *ret_count = count;
    return 0;
}

int log_synced_streams (struct log *log, struct log_stream *ret, size_t max, size_t *ret_count)
{
    size_t count = 0;
    pthread_mutex_lock (&log->append_lock);
    struct stream_table *t = &log->streams;
    while (count < max && t->listed_count > 0) {
        struct stream_entry *e = &t->entries[t->listed[--t->listed_count]];
        e->listed = false;
        if (e->used && e->synced_seq > e->told_seq) {
            e->told_seq = e->synced_seq;
            ret[count++] = stream_of (e);
        }
    }
    pthread_mutex_unlock (&log->append_lock);
    *ret_count = count;
    return 0;
}
