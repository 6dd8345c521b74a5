/* log: open and close a data directory, and say where the log stands. Appending is in log_append.c, the sync
 * thread's work in log_write.c, reading in log_reader.c. */

#include "log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "log_state.h"
#include "recover.h"

enum { DIRECTORY_MAX = 3072 };              /* paths are told in 512 bytes, cut where they don't fit */

void log_view_get (struct log *log, struct log_view *ret_view)
{
    pthread_mutex_lock (&log->view_lock);
    *ret_view = log->view;
    pthread_mutex_unlock (&log->view_lock);
}

int log_fail (struct log *log, int rc, const char *what)
{
    atomic_store (&log->failed, true);
    return error_set (rc, "%s in %s failed: %s; the journal is read-only until it is started again", what,
                      log->directory, fm_error_text (rc));
}

/* --- The directory: whose is it? */

/* Names that a directory without a cookie may hold and still be ours: a start that was cut short left them. */
static int each_name (void *arg, const char *name)
{
    static const char *const ours[] = { "lock",      "segments", "quarantine", COOKIE_NAME, COOKIE_TEMPORARY_NAME,
                                        "lost+found" };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp (name, ours[i]) == 0)
            return 0;
    *(bool *) arg = true;
    return 0;
}

static int open_sub_directory (struct log *log, const char *name, int *ret_fd)
{
    const struct fs *fs = log->fs;
    if (!log->options.read_only) {
        int rc = fs->mkdir (fs->context, log->dir, name);
        if (rc == 0)
            rc = fs->sync_dir (fs->context, log->dir);
        if (rc && rc != -EEXIST)
            return rc;
    }
    const int fd = fs->open (fs->context, log->dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

static int open_directory (struct log *log, const char *directory)
{
    const struct fs *fs = log->fs;
    int rc = fs->open_dir (fs->context, directory, !log->options.read_only);
    if (rc < 0)
        return error_set (rc, "cannot open the data directory %s: %s", directory, fm_error_text (rc));
    log->dir = rc;
    struct cookie cookie;
    const int cookie_rc = cookie_read (fs, log->dir, &cookie);
    if (cookie_rc == -ENOENT) {
        bool foreign = false;
        rc = fs->list (fs->context, log->dir, each_name, &foreign);
        if (rc)
            return error_set (rc, "cannot list %s: %s", directory, fm_error_text (rc));
        if (foreign)
            return error_set (FM_ERR_FOREIGN,
                              "%s is not a journal's: it holds other files and no " COOKIE_NAME
                              "; give an empty directory",
                              directory);
    }
    if (!log->options.read_only) {
        log->lock = fs->open (fs->context, log->dir, "lock", O_RDWR | O_CREAT, 0666);
        rc = log->lock < 0 ? log->lock : fs->lock (fs->context, log->lock);
        if (rc == -EWOULDBLOCK)
            return error_set (FM_ERR_IN_USE, "%s is in use by another journal process", directory);
        if (rc < 0)
            return error_set (rc, "cannot lock %s: %s", directory, fm_error_text (rc));
    }
    rc = open_sub_directory (log, "segments", &log->segments);
    if (rc == 0 && !log->options.read_only)
        rc = open_sub_directory (log, "quarantine", &log->quarantine);
    if (rc)
        return error_set (rc, "cannot open %s/segments or quarantine: %s", directory, fm_error_text (rc));
    return 0;
}

struct segment_range {
    uint64_t first, last;                   /* 0: none */
};

static int each_segment (void *arg, const char *name)
{
    struct segment_range *range = arg;
    uint64_t number;
    if (!segment_name_parse (name, &number))
        return 0;                           /* what is not a segment's is left alone */
    if (range->first == 0 || number < range->first)
        range->first = number;
    if (number > range->last)
        range->last = number;
    return 0;
}

/* A lost or damaged cookie comes back from a segment's header: the newest one that can be read. */
static bool cookie_from_segments (struct log *log, const struct segment_range *range, struct cookie *ret_cookie)
{
    for (uint64_t number = range->last; number >= range->first && number > 0; number--) {
        int fd;
        struct segment_header h;
        if (segment_open_read (log->fs, log->segments, number, &fd, &h))
            continue;
        (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
        *ret_cookie = (struct cookie) { .journal = h.journal, .generation = h.generation, .created_ns = h.created_ns };
        memcpy (ret_cookie->mesh, h.mesh, sizeof h.mesh);
        return true;
    }
    return false;
}

static int quarantine_cookie (struct log *log)
{
    char name[64];
    (void) snprintf (name, sizeof name, COOKIE_NAME ".%llu",
                    (unsigned long long) log->clock->unix_ns (log->clock->context));
    return log->fs->rename (log->fs->context, log->dir, COOKIE_NAME, log->quarantine, name);
}

/* Read the cookie; make one for a new directory. */
static int identify (struct log *log, const char *mesh, const struct segment_range *range, bool *ret_created)
{
    struct cookie *c = &log->cookie;
    int rc = cookie_read (log->fs, log->dir, c);
    if (rc == FM_ERR_NEWER)
        return error_set (rc, "%s was written by a newer version of factmesh: use that one", log->directory);
    if (rc && rc != -ENOENT && rc != FM_ERR_CORRUPT)
        return error_set (rc, "cannot read %s/" COOKIE_NAME ": %s", log->directory, fm_error_text (rc));
    const bool damaged = rc == FM_ERR_CORRUPT;
    const bool write = rc != 0;
    if (write && !cookie_from_segments (log, range, c)) {
        if (log->options.read_only)
            return error_set (damaged ? FM_ERR_CORRUPT : FM_ERR_FOREIGN,
                              "%s is not a journal's: there is no good " COOKIE_NAME, log->directory);
        if (mesh[0] == 0)
            return error_set (FM_ERR_ARGUMENT, "%s is new: it needs the name of its mesh", log->directory);
        *c = (struct cookie) { .generation = 1, .created_ns = log->clock->unix_ns (log->clock->context) };
        id_random (&c->journal);
        (void) snprintf (c->mesh, sizeof c->mesh, "%s", mesh);      /* its length was checked */
        *ret_created = !damaged && range->last == 0;
    }
    if (mesh[0] != 0 && strcmp (mesh, c->mesh) != 0)
        return error_set (FM_ERR_FOREIGN, "%s belongs to mesh \"%s\", not to \"%s\"", log->directory, c->mesh, mesh);
    if (!write || log->options.read_only)
        return 0;
    rc = damaged ? quarantine_cookie (log) : 0;
    if (rc == 0)
        rc = cookie_write (log->fs, log->dir, c);
    return rc ? error_set (rc, "cannot write %s/" COOKIE_NAME ": %s", log->directory, fm_error_text (rc)) : 0;
}

/* --- The last segment. */

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
    rc = recover_scan (log->fs, fd, ret_header, sealed ? t.records_end : UINT64_MAX, scan, state, ret_result);
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
static int scan_from_snapshot (struct log *log, const struct segment_range *range, struct segment_scan *scan,
                               struct recover_state *state, struct segment_header *ret_header,
                               struct recover_result *ret_result)
{
    int rc = 0;
    uint64_t start = range->last;
    bool whole = false;
    while (start > range->first && !whole) {
        start--;
        struct segment_header h;
        struct recover_result r;
        rc = reset_state (log, state);
        if (rc == 0)
            rc = scan_segment (log, start, scan, state, &h, &r);
        if (rc && rc != FM_ERR_CORRUPT && rc != -ENOENT)
            return rc;
        whole = rc == 0 && !r.snapshot_damaged;
    }
    rc = reset_state (log, state);
    log->streams.complete = whole;
    for (uint64_t number = start; number <= range->last && rc == 0; number++) {
        segment_index_reset (log->index);
        rc = scan_segment (log, number, scan, state, ret_header, ret_result);
        if (number < range->last && (rc == FM_ERR_CORRUPT || rc == -ENOENT)) {
            log->streams.complete = false;
            rc = 0;
        }
    }
    log->streams.complete = log->streams.complete && whole;
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

/* Open the last segment for writing, its tail made good. */
static int adopt (struct log *log, const struct segment_header *h, const struct recover_state *state, const struct recover_result *r)
{
    char name[SEGMENT_NAME_LEN];
    segment_name (h->number, name);
    const int fd = log->fs->open (log->fs->context, log->segments, name, log->options.read_only ? O_RDONLY : O_RDWR, 0);
    if (fd < 0)
        return fd;
    int rc = 0;
    uint64_t end_pos = r->end_pos;
    if (!log->options.read_only) {
        if (r->data_end > r->end_pos)
            rc = recover_quarantine (log->fs, log->quarantine, fd, h->number, "torn", r->end_pos, r->data_end);
        if (rc == 0)
            rc = recover_tail (log->fs, fd, h, state, r, &end_pos);
    }
    if (rc) {
        (void) log->fs->close (log->fs->context, fd);   /* nothing was promised */
        return rc;
    }
    log->active = (struct segment) {
        .fs = log->fs,
        .fd = fd,
        .header = *h,
        .seed = record_seed (h->salt),
        .pos = end_pos,
        .synced_pos = end_pos,
        .filled_pos = end_pos,
    };
    log->marked = r->marked || end_pos > r->end_pos;
    log->index_number = h->number;
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

/* Retention may have gone on since the last segment's snapshot was made. */
static void mark_stale (struct log *log)
{
    if (log->active.header.first_number >= log->view.first_number)
        return;
    for (uint32_t number = 1; number <= log->streams.count; number++)
        if (log->streams.entries[number].used)
            stream_table_set_stale (&log->streams, &log->streams.entries[number], true);
}

/* The oldest segment whose header can be read. */
static int first_header (struct log *log, const struct segment_range *range, struct segment_header *ret_header)
{
    int rc = FM_ERR_CORRUPT;
    for (uint64_t number = range->first; number <= range->last && rc; number++) {
        int fd;
        rc = segment_open_read (log->fs, log->segments, number, &fd, ret_header);
        if (rc == 0)
            (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
        else if (rc != FM_ERR_CORRUPT && rc != -ENOENT)
            return rc;
    }
    return rc;
}

static int open_last (struct log *log, const struct segment_range *range, struct log_recovery *recovery)
{
    struct segment_scan scan = { .fd = -1 };
    struct recover_state state = { .streams = &log->streams, .cursors = &log->cursors, .index = log->index };
    struct segment_header header, first;
    struct recover_result r;
    int rc = scan_segment (log, range->last, &scan, &state, &header, &r);
    if (rc == 0 && r.snapshot_damaged)
        rc = scan_from_snapshot (log, range, &scan, &state, &header, &r);
    if (rc == 0 && !id_equal (&header.journal, &log->cookie.journal))
        rc = error_set (FM_ERR_FOREIGN, "the last segment in %s is another journal's: was it copied there?",
                        log->directory);
    if (rc == 0)
        rc = first_header (log, range, &first);
    if (rc == 0)
        rc = adopt (log, &header, &state, &r);
    if (rc == 0) {
        set_positions (log, &first, &state);
        mark_stale (log);
        recovery->torn_bytes = r.data_end - r.end_pos;
        recovery->damaged_ranges += r.damaged_ranges;
        recovery->tail_records = r.records;
    }
    scan_release (&scan);
    return rc;
}

/* The records of quarantined segments are lost, and so are their offsets: to give none of them twice, step over as
 * many as a segment can hold (a fact takes more than a byte). */
static int start_behind (struct log *log, const struct segment_range *range, uint64_t lost_offsets, uint64_t number)
{
    bool final = false;
    uint64_t prior_bytes = 0;
    if (range->last > 0) {
        prior_bytes = log->active.header.prior_bytes + log->active.pos;
        void *footer;
        size_t footer_len;
        int rc = segment_index_encode (log->index, &log->active.header, log->active.pos, &footer, &footer_len);
        if (rc == 0) {
            rc = segment_seal (&log->active, footer, footer_len, &final);
            free (footer);
            prior_bytes += footer_len;
        }
        if (rc)
            return rc;
    }
    log->next_offset += lost_offsets;
    log->written_offset = log->stamped_offset = log->next_offset;
    const uint64_t now_ns = log_journal_time (log, log->clock->unix_ns (log->clock->context));
    log->last_time_ns = log->written_time_ns = log->stamped_time_ns = now_ns;
    return log_start_segment (log, number, now_ns, prior_bytes, &final);
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

/* Put these away. After the segment behind them is there: a start that is cut short between must not find the log
 * ending below them, and give their offsets again. */
static int put_away (struct log *log, uint64_t first, uint64_t end)
{
    int rc = 0;
    for (uint64_t number = first; number < end && rc == 0; number++) {
        rc = quarantine_segment (log, number);
        if (rc == -ENOENT)
            rc = 0;                         /* a hole in the numbering */
    }
    return rc;
}

/* Give segments up until the last one can be read, and go on behind them all. */
static int recover_segments (struct log *log, struct segment_range range, struct log_recovery *recovery)
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
    if (rc)
        return fm_error_detail ()[0] ? rc : error_set (rc, "cannot recover %s: %s", log->directory, fm_error_text (rc));
    if (range.last == 0 && log->options.read_only) {
        log->written_offset = log->next_offset;     /* an empty journal, looked at */
        log->view.first_offset = log->view.written_offset = log->view.synced_offset = log->next_offset;
        return 0;
    }
    if (!log->options.read_only && (range.last == 0 || lost_offsets > 0)) {
        rc = start_behind (log, &range, lost_offsets, behind);
        if (rc)
            return error_set (rc, "cannot start a segment in %s: %s", log->directory, fm_error_text (rc));
        rc = put_away (log, lost_first, behind);
        if (rc)
            return error_set (rc, "cannot put segments from %llu on of %s into quarantine: %s",
                              (unsigned long long) lost_first, log->directory, fm_error_text (rc));
    }
    return 0;
}

void log_view_refresh (struct log *log, struct log_view *ret_view)
{
    struct segment_range range = { 0 };
    struct segment_header first;
    if (log->options.read_only && log->fs->list (log->fs->context, log->segments, each_segment, &range) == 0
        && range.first > 0 && first_header (log, &range, &first) == 0) {
        pthread_mutex_lock (&log->view_lock);
        if (first.number > log->view.first_number && first.number <= log->view.active_number) {
            log->view.first_number = first.number;
            log->view.first_offset = first.base_offset;
            log->view.first_prior_bytes = first.prior_bytes;
        }
        pthread_mutex_unlock (&log->view_lock);
    }
    log_view_get (log, ret_view);
}

/* --- Opening. */

static int set_options (struct log *log, const struct log_options *given)
{
    struct log_options *o = &log->options;
    *o = *given;
    o->segment_bytes = o->segment_bytes ? o->segment_bytes : LOG_SEGMENT_BYTES_DEFAULT;
    o->buffer_bytes = o->buffer_bytes ? o->buffer_bytes : LOG_BUFFER_BYTES_DEFAULT;
    o->streams_max = o->streams_max ? o->streams_max : LOG_STREAMS_MAX_DEFAULT;
    o->cursors_max = o->cursors_max ? o->cursors_max : LOG_CURSORS_MAX_DEFAULT;
    if (o->segment_bytes < LOG_SEGMENT_BYTES_MIN || o->segment_bytes > LOG_SEGMENT_BYTES_MAX)
        return error_set (FM_ERR_ARGUMENT, "segments of %llu bytes: 1 MiB to 4 GiB are possible",
                          (unsigned long long) o->segment_bytes);
    if (o->buffer_bytes < LOG_BUFFER_BYTES_MIN || o->buffer_bytes > LOG_BUFFER_BYTES_MAX)
        return error_set (FM_ERR_ARGUMENT, "a buffer of %llu bytes: 64 KiB to 1 GiB are possible",
                          (unsigned long long) o->buffer_bytes);
    if (o->streams_max > LOG_STREAMS_MAX_LIMIT || o->cursors_max > LOG_CURSORS_MAX_LIMIT)
        return error_set (FM_ERR_ARGUMENT, "%u streams and %u cursors in memory: at most %d and %d are possible",
                          o->streams_max, o->cursors_max, LOG_STREAMS_MAX_LIMIT, LOG_CURSORS_MAX_LIMIT);
    if (o->mesh && strlen (o->mesh) > MESH_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "a mesh's name has at most %d bytes", MESH_NAME_MAX);
    log->fs = o->fs ? o->fs : &fs_real;
    log->clock = o->clock ? o->clock : &clock_real;
    return 0;
}

static int allocate (struct log *log, const char *directory)
{
    log->directory = strdup (directory);
    log->filling.bytes = malloc (log->options.buffer_bytes);
    log->flushing.bytes = malloc (log->options.buffer_bytes);
    log->filling.capacity = log->flushing.capacity = log->options.buffer_bytes;
    log->touched = malloc (INDEX_STREAMS_MAX * sizeof *log->touched);
    log->touched_marks = calloc (INDEX_STREAMS_MAX, 1);
    if (!log->directory || !log->filling.bytes || !log->flushing.bytes || !log->touched || !log->touched_marks)
        return -ENOMEM;
    int rc = segment_index_new (&log->index);
    if (rc == 0)
        rc = stream_table_init (&log->streams, log->options.streams_max);
    return rc ? rc : cursor_table_init (&log->cursors, log->options.cursors_max);
}

static int init_locks (struct log *log)
{
    pthread_condattr_t monotonic;
    int rc = pthread_condattr_init (&monotonic);
    if (rc)
        return -rc;
    rc = pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_cond_init (&log->appended, &monotonic);
    (void) pthread_condattr_destroy (&monotonic);
    if (rc)
        return -rc;
    /* Default mutexes: these cannot fail on Linux. */
    (void) pthread_mutex_init (&log->append_lock, NULL);
    (void) pthread_mutex_init (&log->index_lock, NULL);
    (void) pthread_mutex_init (&log->view_lock, NULL);
    (void) pthread_mutex_init (&log->cursor_lock, NULL);
    return 0;
}

int log_open (const char *directory, const struct log_options *options, struct log_recovery *ret_recovery,
              struct log **ret_log)
{
    struct log_recovery recovery = { 0 };
    struct segment_range range = { 0 };
    struct log *log = calloc (1, sizeof *log);
    if (!log)
        return -ENOMEM;
    log->dir = log->lock = log->segments = log->quarantine = log->active.fd = -1;
    log->next_offset = log->written_offset = 1;
    int rc = init_locks (log);
    if (rc) {
        free (log);
        return rc;
    }
    (void) error_set (0, "%s", "");         /* so that an older detail does not pass for ours */
    rc = set_options (log, options);
    if (rc == 0)
        rc = allocate (log, directory);
    if (rc == 0)
        rc = open_directory (log, directory);
    if (rc == 0)
        rc = log->fs->list (log->fs->context, log->segments, each_segment, &range);
    if (rc == 0)
        rc = identify (log, options->mesh ? options->mesh : "", &range, &recovery.created);
    if (rc == 0)
        rc = recover_segments (log, range, &recovery);
    if (rc == 0)
        rc = log_cursors_recovered (log);
    if (rc) {
        log_destroy (&log);
        return rc;
    }
    log->options.mesh = log->cookie.mesh;
    log->first_file = log->view.first_number;
    recovery.segments = log->view.first_number ? log->view.active_number - log->view.first_number + 1 : 0;
    if (ret_recovery)
        *ret_recovery = recovery;
    *ret_log = log;
    return 0;
}

static void close_descriptor (struct log *log, int fd)
{
    if (fd >= 0)
        (void) log->fs->close (log->fs->context, fd);   /* directories and the lock: nothing to lose */
}

void log_destroy (struct log **log_pointer)
{
    struct log *log = *log_pointer;
    if (!log)
        return;
    segment_close (&log->active);
    close_descriptor (log, log->segments);
    close_descriptor (log, log->quarantine);
    close_descriptor (log, log->dir);
    close_descriptor (log, log->lock);
    segment_index_destroy (&log->index);
    stream_table_release (&log->streams);
    log_cursors_release (log);
    free (log->filling.bytes);
    free (log->flushing.bytes);
    free (log->touched);
    free (log->touched_marks);
    free (log->directory);
    (void) pthread_cond_destroy (&log->appended);
    (void) pthread_mutex_destroy (&log->append_lock);
    (void) pthread_mutex_destroy (&log->index_lock);
    (void) pthread_mutex_destroy (&log->view_lock);
    (void) pthread_mutex_destroy (&log->cursor_lock);
    free (log);
    *log_pointer = NULL;
}

int log_new_generation (const char *directory, const struct log_options *options, uint64_t *ret_generation)
{
    struct log_options now = *options;
    struct log *log = calloc (1, sizeof *log);
    if (!log)
        return -ENOMEM;
    log->dir = log->lock = log->segments = log->quarantine = log->active.fd = -1;
    now.read_only = false;
    int rc = init_locks (log);
    if (rc) {
        free (log);
        return rc;
    }
    rc = set_options (log, &now);
    if (rc == 0)
        rc = allocate (log, directory);
    if (rc == 0)
        rc = open_directory (log, directory);
    if (rc == 0) {
        rc = cookie_read (log->fs, log->dir, &log->cookie);
        if (rc == 0) {
            log->cookie.generation++;
            rc = cookie_write (log->fs, log->dir, &log->cookie);
        }
        if (rc)
            (void) error_set (rc, "cannot renew %s/" COOKIE_NAME ": %s", directory, fm_error_text (rc));
    }
    if (rc == 0)
        *ret_generation = log->cookie.generation;
    log_destroy (&log);
    return rc;
}

/* --- Where it stands. */

void log_identity (const struct log *log, struct fm_id *ret_journal, uint64_t *ret_generation)
{
    *ret_journal = log->cookie.journal;
    *ret_generation = log->cookie.generation;
}

const char *log_mesh (const struct log *log)
{
    return log->cookie.mesh;
}

bool log_is_read_only (const struct log *log)
{
    return log->options.read_only || atomic_load (&log->failed);
}

void log_position (struct log *log, struct log_position *ret)
{
    struct log_view view;
    log_view_get (log, &view);
    pthread_mutex_lock (&log->append_lock);
    const uint64_t end_offset = log->next_offset;
    pthread_mutex_unlock (&log->append_lock);
    *ret = (struct log_position) {
        .end_offset = end_offset,
        .written_offset = view.written_offset,
        .synced_offset = view.synced_offset,
        .first_offset = view.first_offset,
        .bytes = view.active_prior_bytes + view.written_pos - view.first_prior_bytes,
    };
}
