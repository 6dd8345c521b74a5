/* log_retain: drop the oldest segments, one by one, and tell the streams what they lost. A file that could not be removed is tried again by the
 * next call: nobody reads it any more.
 *
 * Each removal is made durable before the next, so that after a crash the numbers still have no holes: a hole would
 * be damage. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "log_state.h"
#include "retention.h"

/* What is left of each stream of a segment that goes begins behind it. */
static void forget_streams (struct log *log, const struct index_stream *streams, uint32_t count)
{
    for (uint32_t i = 0; i < count;) {
        const uint32_t stop = count - i < LOG_STREAMS_PER_LOCK ? count : i + LOG_STREAMS_PER_LOCK;
        pthread_mutex_lock (&log->append_lock);
        for (; i < stop; i++) {
            struct stream_entry *e = stream_table_find (&log->streams, &streams[i].stream);
            if (!e || e->first_seq > streams[i].last_seq)
                continue;
            e->first_seq = streams[i].last_seq + 1;
            /* What is behind the last segment that had it is exact: everything older is gone. */
            stream_table_set_stale (&log->streams, e, false);
        }
        pthread_mutex_unlock (&log->append_lock);
    }
}

static void mark_all_stale (struct log *log)
{
    pthread_mutex_lock (&log->append_lock);
    stream_table_mark_stale (&log->streams);
    pthread_mutex_unlock (&log->append_lock);
}

/* Start and end of the segment behind the oldest; skips what can't be read. */
static int next_header (struct log *log, const struct log_view *view, struct segment_header *ret_header)
{
    for (uint64_t number = view->first_number + 1; number <= view->active_number; number++) {
        int fd;
        const int rc = segment_open_read (log->fs, log->segments, number, &fd, ret_header);
        if (rc == 0) {
            (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
            return 0;
        }
        if (rc != FM_ERR_CORRUPT && rc != -ENOENT)
            return rc;
    }
    return FM_ERR_END;
}

/* Remove the files in front of `first_number`. One that is not there may have gone without its directory being synced. */
static int remove_files (struct log *log, uint64_t first_number)
{
    for (; log->first_file < first_number; log->first_file++) {
        char name[SEGMENT_NAME_LEN];
        segment_name (log->first_file, name);
        int rc = log->fs->unlink (log->fs->context, log->segments, name);
        if (rc == 0 || rc == -ENOENT)
            rc = log->fs->sync_dir (log->fs->context, log->segments);
        if (rc)
            return error_set (rc, "cannot remove segment %s in %s: %s", name, log->directory, fm_error_text (rc));
    }
    return 0;
}

/* The segments from the oldest up to the one that will be the first. */
static int drop (struct log *log, const struct log_view *view, const struct segment_header *next)
{
    struct log_segment_view oldest;
    struct index_stream *streams = NULL;
    uint32_t count = 0;
    int rc = log_segment_open (log, view, view->first_number, &oldest);
    if (rc == 0) {
        rc = log_segment_streams (log, &oldest, &streams, &count);
        log_segment_close (log, &oldest);
    }
    /* Readers first: who asks for what goes must be told that it is gone, not that it is damaged. */
    pthread_mutex_lock (&log->view_lock);
    log->view.first_number = next->number;
    log->view.first_offset = next->base_offset;
    log->view.first_prior_bytes = next->prior_bytes;
    pthread_mutex_unlock (&log->view_lock);
    if (rc == 0)
        forget_streams (log, streams, count);
    if (rc || next->number > view->first_number + 1)
        mark_all_stale (log);               /* of what could not be read streams can't be told: they are looked up when asked for */
    free (streams);
    return remove_files (log, next->number);
}

int log_retain (struct log *log, uint64_t *ret_first_offset)
{
    if (log->options.read_only || atomic_load (&log->failed))
        return FM_ERR_READ_ONLY;
    const struct retention limits = { .retain_bytes = log->options.retain_bytes,
                                      .retain_age_ms = log->options.retain_age_ms };
    struct log_view view;
    log_view_get (log, &view);
    int rc = remove_files (log, view.first_number);
    if (rc)
        return rc;
    for (;;) {
        struct segment_header next;
        log_view_get (log, &view);
        struct retention_segment oldest = { .active = view.first_number == view.active_number };
        rc = oldest.active || (limits.retain_bytes == 0 && limits.retain_age_ms == 0)
                     ? FM_ERR_END
                     : next_header (log, &view, &next);
        if (rc && rc != FM_ERR_END)
            return rc;
        if (rc == 0)
            oldest.last_time_ns = next.created_ns;
        const uint64_t bytes = view.active_prior_bytes + view.written_pos - view.first_prior_bytes;
        if (rc || !retention_drops (&limits, &oldest, bytes, log->clock->unix_ns (log->clock->context))) {
            if (ret_first_offset)
                *ret_first_offset = view.first_offset;
            return 0;
        }
        rc = drop (log, &view, &next);
        if (rc)
            return rc;
    }
}
