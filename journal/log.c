/* log: open and close a data directory, and say where the log stands. Appending is in log_append.c, the sync
 * thread's work in log_write.c, reading in log_reader.c, what a start makes of the segments in log_start.c. */

#include "log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "log_state.h"

enum { DIRECTORY_MAX = 3072 };              /* paths are told in 512 bytes, cut where they don't fit */

void log_view_get (struct log *log, struct log_view *ret_view)
{
    pthread_mutex_lock (&log->view_lock);
    *ret_view = log->view;
    pthread_mutex_unlock (&log->view_lock);
}

bool log_is_out_of_room (int rc)
{
    return rc == -ENOSPC || rc == -EDQUOT;
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
    static const char *const ours[] = { "lock",  "segments", "quarantine", COOKIE_NAME, COOKIE_TEMPORARY_NAME,
                                        "index", "blobs",    "lost+found" };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp (name, ours[i]) == 0)
            return 0;
    *(bool *) arg = true;
    return 0;
}

int log_open_sub_directory (struct log *log, const char *name, int *ret_fd)
{
    const struct fs *fs = log->fs;
    int fd = fs->open (fs->context, log->dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT && !log->options.read_only) {
        int rc = fs->mkdir (fs->context, log->dir, name);
        if (rc == 0)
            rc = fs->sync_dir (fs->context, log->dir);
        if (rc)
            return rc;
        fd = fs->open (fs->context, log->dir, name, O_RDONLY | O_DIRECTORY, 0);
    }
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

/* A start before this one may have been killed between giving a name and syncing it; the last segment, say, would be gone after a power loss, with
 * all that is acknowledged of it by then. */
static int sync_names (struct log *log)
{
    const struct fs *fs = log->fs;
    const int rc = fs->sync_dir (fs->context, log->dir);
    return rc ? rc : fs->sync_dir (fs->context, log->segments);
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
        log->lock = fs->open (fs->context, log->dir, "lock", O_RDWR, 0);
        if (log->lock == -ENOENT)
            log->lock = fs->open (fs->context, log->dir, "lock", O_RDWR | O_CREAT, 0666);
        rc = log->lock < 0 ? log->lock : fs->lock (fs->context, log->lock);
        if (rc == -EWOULDBLOCK)
            return error_set (FM_ERR_IN_USE, "%s is in use by another journal process", directory);
        if (rc < 0)
            return error_set (rc, "cannot lock %s: %s", directory, fm_error_text (rc));
    }
    rc = log_open_sub_directory (log, "segments", &log->segments);
    if (rc == 0 && !log->options.read_only) {
        rc = log_open_sub_directory (log, "quarantine", &log->quarantine);
        if (log_is_out_of_room (rc))
            rc = 0;                         /* made when something must go there */
    }
    if (rc)
        return error_set (rc, "cannot open %s/segments or quarantine: %s", directory, fm_error_text (rc));
    rc = log->options.read_only ? 0 : sync_names (log);
    return rc ? error_set (rc, "cannot sync the directory %s: %s", directory, fm_error_text (rc)) : 0;
}

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
    if (log->quarantine < 0)
        return -ENOSPC;                     /* open_directory could not make it */
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
    const bool write = rc != 0, told = write && cookie_from_segments (log, range, c);
    if (write && !told) {
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
    if (told && log_is_out_of_room (rc))
        return 0;                           /* the segments tell it to the next start, too */
    return rc ? error_set (rc, "cannot write %s/" COOKIE_NAME ": %s", log->directory, fm_error_text (rc)) : 0;
}

int log_first_header (struct log *log, const struct segment_range *range, struct segment_header *ret_header)
{
    int rc = FM_ERR_CORRUPT;
    for (uint64_t number = range->first; number <= range->last && (rc == FM_ERR_CORRUPT || rc == -ENOENT); number++) {
        int fd;
        rc = segment_open_read (log->fs, log->segments, number, &fd, ret_header);
        if (rc == 0)
            (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
    }
    return rc;
}

void log_view_refresh (struct log *log, struct log_view *ret_view)
{
    struct segment_range range = { 0 };
    struct segment_header first;
    if (log->options.read_only && log->fs->list (log->fs->context, log->segments, each_segment, &range) == 0
        && range.first > 0 && log_first_header (log, &range, &first) == 0) {
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
        rc = log_recover (log, range, &recovery);
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
