/* log_start: what a start makes of the segments that it finds: the last one that can be read is made good and opened for writing, those behind it that
 * cannot are put away.
 *
 * What is whole of its tail is written again where it lies, which needs no room on file systems that write in place. The rest of making good does: a
 * copy of what is torn, a mark, a new segment. A journal starts all the same where the disk is full. The log is then *held*: it serves what is there,
 * takes nothing (FM_ERR_FULL), and each log_write takes up again, here, where room was missing:
 *
 *     TORN ------> CUT ------> BEHIND ------> AWAY ------> not held
 *     what is     the file     a segment      those that
 *     torn is     ends at T    behind those   cannot be read
 *     copied                   that cannot    go to
 *     away                     be read        quarantine/
 *
 * A step that failed is begun anew, as the next start would. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>

#include "error.h"
#include "log_state.h"
#include "recover.h"

/* --- The last segment. */

struct last_segment {
    struct segment_scan scan;
    struct recover_state state;
    struct segment_header header;
    struct recover_result result;
};

/* Read one segment into the state; sealed ones up to where their trailer says. */
static int scan_segment (struct log *log, uint64_t number, struct segment_scan *scan, struct recover_state *state,
                         struct segment_header *ret_header, struct recover_result *ret_result)
{
    int fd;
    struct segment_trailer t;
    int rc = segment_open_read (log->fs, log->segments, number, &fd, ret_header);
    if (rc)
        return rc;
    const bool sealed = segment_read_trailer (log->fs, fd, ret_header, &t) == 0;
    const struct recover_bounds bounds = { .limit = sealed ? t.records_end : UINT64_MAX, .followed = number < log->last_number };
    rc = recover_scan (log->fs, fd, ret_header, bounds, scan, state, ret_result);
    (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
    return rc;
}

static int reset_state (struct log *log, struct recover_state *state)
{
    stream_table_release (&log->streams);
    cursor_table_release (&log->cursors);
    segment_index_reset (log->index);
    int rc = stream_table_init (&log->streams, log->options.streams_max);
    if (rc == 0)
        rc = cursor_table_init (&log->cursors, log->options.cursors_max);
    *state = (struct recover_state) { .streams = &log->streams, .cursors = &log->cursors, .index = log->index };
    return rc;
}

/* The last segment's snapshots are damaged: go back to the nearest whole ones, and come forward again. */
static int scan_from_snapshot (struct log *log, const struct segment_range *range, struct last_segment *last)
{
    int rc = 0;
    uint64_t start = range->last;
    bool whole = false;
    while (start > range->first && !whole) {
        start--;
        struct segment_header h;
        struct recover_result r;
        rc = reset_state (log, &last->state);
        if (rc == 0)
            rc = scan_segment (log, start, &last->scan, &last->state, &h, &r);
        if (rc && rc != FM_ERR_CORRUPT && rc != -ENOENT)
            return rc;
        whole = rc == 0 && !r.snapshot_damaged;
    }
    rc = reset_state (log, &last->state);
    log->streams.complete = whole;
    for (uint64_t number = start; number <= range->last && rc == 0; number++) {
        segment_index_reset (log->index);
        rc = scan_segment (log, number, &last->scan, &last->state, &last->header, &last->result);
        if (number < range->last && (rc == FM_ERR_CORRUPT || rc == -ENOENT)) {
            log->streams.complete = false;
            rc = 0;
        }
    }
    log->streams.complete = log->streams.complete && whole;
    return rc;
}

static int scan_last (struct log *log, const struct segment_range *range, struct last_segment *last)
{
    last->state = (struct recover_state) { .streams = &log->streams, .cursors = &log->cursors, .index = log->index };
    int rc = scan_segment (log, range->last, &last->scan, &last->state, &last->header, &last->result);
    if (rc == 0 && last->result.snapshot_damaged)
        rc = scan_from_snapshot (log, range, last);
    return rc;
}

/* A last segment whose header is lost can't be read at all: put it away whole. */
static int quarantine_segment (struct log *log, uint64_t number)
{
    char name[SEGMENT_NAME_LEN], to[SEGMENT_NAME_LEN + 24];
    segment_name (number, name);
    (void) snprintf (to, sizeof to, "%s.%llu", name, (unsigned long long) log->clock->unix_ns (log->clock->context));
    int rc = log->fs->rename (log->fs->context, log->segments, name, log->quarantine, to);
    if (rc == 0)
        rc = log->fs->sync_dir (log->fs->context, log->quarantine);
    return rc ? rc : log->fs->sync_dir (log->fs->context, log->segments);
}

/* Open the last segment for writing, behind what is whole in it, and make that durable. */
static int adopt (struct log *log, const struct last_segment *last)
{
    char name[SEGMENT_NAME_LEN];
    segment_name (last->header.number, name);
    const int fd = log->fs->open (log->fs->context, log->segments, name, log->options.read_only ? O_RDONLY : O_RDWR, 0);
    if (fd < 0)
        return fd;
    const int rc = log->options.read_only ? 0 : recover_rewrite (log->fs, fd, &last->result);
    if (rc) {
        (void) log->fs->close (log->fs->context, fd);   /* nothing was promised */
        return rc;
    }
    log->active = (struct segment) {
        .fs = log->fs,
        .fd = fd,
        .header = last->header,
        .seed = record_seed (last->header.salt),
        .pos = last->result.end_pos,
        .synced_pos = last->result.end_pos,
        .filled_pos = last->result.end_pos,
    };
    log->marked = last->result.marked;
    log->index_number = last->header.number;
    return 0;
}

static void set_positions (struct log *log, const struct segment_header *first, const struct recover_state *state)
{
    log->next_offset = log->written_offset = state->next_offset;
    log->last_time_ns = log->written_time_ns = state->last_time_ns;
    log->stamped_offset = log->written_offset;
    log->stamped_time_ns = log->written_time_ns;
    log->view = (struct log_view) {
        .first_number = first->number,
        .first_offset = first->base_offset,
        .first_prior_bytes = first->prior_bytes,
        .active_number = log->active.header.number,
        .active_prior_bytes = log->active.header.prior_bytes,
        .written_pos = log->active.pos,
        .synced_pos = log->active.synced_pos,
        .written_offset = log->written_offset,
        .synced_offset = log->written_offset,
    };
}

static int open_last (struct log *log, const struct segment_range *range, struct log_recovery *recovery)
{
    struct last_segment last = { .scan = { .fd = -1 } };
    struct segment_header first;
    int rc = scan_last (log, range, &last);
    if (rc == 0 && !id_equal (&last.header.journal, &log->cookie.journal))
        rc = error_set (FM_ERR_FOREIGN, "the last segment in %s is another journal's: was it copied there?",
                        log->directory);
    if (rc == 0)
        rc = log_first_header (log, range, &first);
    if (rc == 0)
        rc = adopt (log, &last);
    if (rc == 0) {
        set_positions (log, &first, &last.state);
        /* Retention may have gone on since the snapshot was made that tells where the streams begin. */
        if (last.result.snapshot_damaged || log->active.header.first_number < log->view.first_number)
            stream_table_mark_stale (&log->streams);
        log->start.result = last.result;
        recovery->torn_bytes = last.result.data_end - last.result.end_pos;
        recovery->damaged_ranges += last.result.damaged_ranges;
        recovery->tail_records = last.result.records;
    }
    scan_release (&last.scan);
    return rc;
}

/* The records of quarantined segments are lost, and so are their offsets: to give none of them twice, step over as
 * many as a segment can hold (a fact takes more than a byte). */
static int start_behind (struct log *log)
{
    const struct log_start *start = &log->start;
    bool final = false;
    uint64_t prior_bytes = 0;
    if (start->last > 0) {
        struct segment *s = &log->active;
        if (!s->sealed) {
            void *footer;
            size_t footer_len;
            int rc = segment_index_encode (log->index, &s->header, s->pos, &footer, &footer_len);
            if (rc)
                return rc;
            rc = segment_seal (s, footer, footer_len, &final);
            free (footer);
            if (rc)
                return rc;
            s->filled_pos = s->pos + footer_len;
        }
        prior_bytes = s->header.prior_bytes + s->filled_pos;
    }
    const uint64_t before = log->written_offset, base = before + start->lost_offsets;
    const uint64_t now_ns = log_journal_time (log, log->clock->unix_ns (log->clock->context));
    log->written_offset = base;
    const int rc = log_start_segment (log, start->behind, now_ns, prior_bytes, &final);
    if (rc) {
        log->written_offset = before;
        return rc;
    }
    log->stamped_offset = base;
    log->written_time_ns = log->stamped_time_ns = now_ns;
    pthread_mutex_lock (&log->append_lock);
    log->next_offset = base;
    log->last_time_ns = now_ns;
    pthread_mutex_unlock (&log->append_lock);
    if (log->first_file == 0)
        log->first_file = log->view.first_number;
    return 0;
}

/* Can anything be made of this segment? Its header, and a file that is not cut off within its snapshots: it was
 * published with them, so that all of its records went with their ends. */
static int check_segment (struct log *log, uint64_t number)
{
    int fd;
    struct segment_header h;
    uint64_t len;
    int rc = segment_open_read (log->fs, log->segments, number, &fd, &h);
    if (rc)
        return rc;
    rc = log->fs->size (log->fs->context, fd, &len);
    (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
    return rc == 0 && len < h.snapshot_end ? FM_ERR_CORRUPT : rc;
}

/* The last segment cannot be read. *lost_offsets grows by as many as it can have held. */
static int give_up_segment (struct log *log, uint64_t number, uint64_t *lost_offsets)
{
    char name[SEGMENT_NAME_LEN];
    segment_name (number, name);
    const int fd = log->fs->open (log->fs->context, log->segments, name, O_RDONLY, 0);
    if (fd == -ENOENT)
        return 0;                           /* a hole in the numbering, met on the way down */
    uint64_t len = 0;
    int rc = fd < 0 ? fd : log->fs->size (log->fs->context, fd, &len);
    if (fd >= 0)
        (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
    *lost_offsets += len > log->options.segment_bytes ? len : log->options.segment_bytes;
    return rc;
}

static int need_quarantine (struct log *log)
{
    return log->quarantine >= 0 ? 0 : log_open_sub_directory (log, "quarantine", &log->quarantine);
}

/* Put away what cannot be read. After the segment behind them is there: a start that is cut short between must not find the log
 * ending below them, and give their offsets again. */
static int put_away (struct log *log)
{
    int rc = 0;
    for (uint64_t number = log->start.lost_first; number < log->start.behind && rc == 0; number++) {
        rc = need_quarantine (log);
        if (rc == 0)
            rc = quarantine_segment (log, number);
        if (rc == -ENOENT)
            rc = 0;                         /* a hole in the numbering */
    }
    return rc;
}

/* --- The steps. */

static int copy_torn (struct log *log)
{
    const struct recover_result *r = &log->start.result;
    if (r->data_end <= r->end_pos)
        return 0;
    const int rc = need_quarantine (log);
    return rc ? rc : recover_quarantine (log->fs, log->quarantine, log->active.fd, log->active.header.number, "torn",
                                         r->end_pos, r->data_end);
}

static int cut_torn (struct log *log)
{
    struct segment *s = &log->active;
    const struct recover_end end = { .next_offset = log->next_offset, .last_time_ns = log->last_time_ns };
    uint64_t end_pos;
    int rc = segment_keep_header (log->fs, s->fd, &s->header);
    if (rc == 0)
        rc = recover_cut (log->fs, s->fd, &s->header, &end, &log->start.result, &end_pos);
    if (rc)
        return rc;
    log->marked = log->marked || end_pos > s->pos;
    s->pos = s->synced_pos = s->filled_pos = end_pos;
    pthread_mutex_lock (&log->view_lock);
    log->view.written_pos = log->view.synced_pos = end_pos;
    pthread_mutex_unlock (&log->view_lock);
    return 0;
}

int log_start_go_on (struct log *log)
{
    static int (*const steps[]) (struct log *log) = {
        [LOG_START_TORN] = copy_torn, [LOG_START_CUT] = cut_torn,
        [LOG_START_BEHIND] = start_behind, [LOG_START_AWAY] = put_away,
    };
    struct log_start *start = &log->start;
    for (; start->step < start->end; start->step++) {
        const int rc = steps[start->step] (log);
        if (rc)
            return rc;
    }
    atomic_store (&start->held, false);
    return 0;
}

/* Where room is missing, the log is held. */
static int make_good (struct log *log, const struct segment_range *range)
{
    struct log_start *start = &log->start;
    const int rc = log_start_go_on (log);
    if (rc == 0 || !log_is_out_of_room (rc))
        return rc;
    if (range->last == 0)                   /* nothing is here yet, or any more */
        log->view.first_offset = log->view.written_offset = log->view.synced_offset = log->next_offset;
    atomic_store (&start->held, true);
    return 0;
}

/* Give segments up until the last one can be read, and go on behind them all. */
int log_recover (struct log *log, struct segment_range range, struct log_recovery *recovery)
{
    const uint64_t behind = range.last + 1;
    log->first_number = range.first;
    log->last_number = range.last;
    uint64_t lost_offsets = 0, lost_first = behind;
    int rc = 0;
    while (range.last > 0 && (rc = check_segment (log, range.last)) != 0) {
        if (rc == FM_ERR_NEWER)
            return error_set (rc, "%s has segments of a newer version of factmesh: use that one", log->directory);
        if ((rc != FM_ERR_CORRUPT && rc != -ENOENT) || (log->options.read_only && range.last == range.first))
            return error_set (rc, "cannot read the header of segment %llu in %s: %s", (unsigned long long) range.last,
                              log->directory, fm_error_text (rc));
        rc = give_up_segment (log, range.last, &lost_offsets);
        if (rc)
            return error_set (rc, "cannot look at segment %llu of %s: %s", (unsigned long long) range.last,
                              log->directory, fm_error_text (rc));
        recovery->damaged_ranges++;
        lost_first = range.last;
        range.last = range.last > range.first ? range.last - 1 : 0;
    }
    if (range.last > 0)
        rc = open_last (log, &range, recovery);
    if (rc == 0 && !log->options.read_only) {
        log->start.last = range.last;
        log->start.behind = behind;
        log->start.lost_first = lost_first;
        log->start.lost_offsets = lost_offsets;
        log->start.step = range.last > 0 ? LOG_START_TORN : LOG_START_BEHIND;
        log->start.end = range.last == 0 || lost_offsets > 0 ? LOG_START_STEPS : LOG_START_BEHIND;
        rc = make_good (log, &range);
    }
    if (rc)
        return fm_error_detail ()[0] ? rc : error_set (rc, "cannot recover %s: %s", log->directory, fm_error_text (rc));
    if (range.last == 0 && log->options.read_only) {
        log->written_offset = log->next_offset;     /* an empty journal, looked at */
        log->view.first_offset = log->view.written_offset = log->view.synced_offset = log->next_offset;
    }
    recovery->waits_for_room = atomic_load (&log->start.held);
    return log_cursors_recovered (log);
}
