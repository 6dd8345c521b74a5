#include "sync.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "control.h"
#include "error.h"
#include "marks.h"

enum { NS_PER_US = 1000, NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

struct sync {
    struct journal_context *context;
    pthread_t thread;
    pthread_mutex_t lock;               /* for pause alone */
    pthread_cond_t stopped;
    atomic_bool stop;

    bool disk_full, waits, read_only_told;
    bool retry;                         /* a watermark could not be sent */
    bool idle_marked;
    uint64_t synced_offset;
    uint64_t appended_ns;               /* the last time that something was written */
    uint64_t repeat_ns, repeat_all_ns, retain_ns;

    /* Watermarks under construction. */
    struct mark_due due[SYNC_MARKS_MAX];
    Factmesh__StreamMark marks[SYNC_MARKS_MAX];
    Factmesh__StreamMark *mark_pointers[SYNC_MARKS_MAX];
};

/* --- Watermarks. */

static int due_compare (const void *a, const void *b)
{
    const struct mark_due *x = a, *y = b;
    return memcmp (x->node.bytes, y->node.bytes, ID_LEN);
}

/* One message to one node, of due[first, end). */
static void tell_node (struct sync *s, size_t first, size_t end)
{
    struct journal_context *c = s->context;
    size_t count = 0;
    for (size_t i = first; i < end; i++) {
        struct log_stream at;
        if (log_stream_get (c->log, &s->due[i].stream, &at) != 0)
            continue;                   /* nothing of it is recorded yet */
        Factmesh__StreamMark *mark = &s->marks[count];
        factmesh__stream_mark__init (mark);
        mark->stream = control_put_id (&s->due[i].stream);
        mark->received = at.last_seq;
        mark->written = at.written_seq;
        mark->synced = at.synced_seq;
        s->mark_pointers[count++] = mark;
    }
    if (!count)
        return;
    Factmesh__Watermark watermark = FACTMESH__WATERMARK__INIT;
    const struct fm_slice mesh = node_mesh (c->node);
    watermark.journal = control_put_id (&c->journal);
    watermark.generation = c->generation;
    watermark.mesh = control_put_slice (mesh);
    watermark.n_marks = count;
    watermark.marks = s->mark_pointers;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_WATERMARK;
    control.watermark = &watermark;
    zmq_msg_t message;
    int rc = control_encode (&control, mesh, &message);
    if (!rc) {
        rc = node_tell (c->node, &s->due[first].node, &message);
        if (rc)
            zmq_msg_close (&message);
    }
    if (!rc)
        journal_count (c, JOURNAL_WATERMARKS_SENT, 1);
    else if (rc == -EAGAIN || rc == -ENOMEM) {
        s->retry = true;
        for (size_t i = first; i < end; i++)
            marks_changed (c->marks, &s->due[i].stream);
    }
    /* Otherwise the node is gone, and is told when it comes back. */
}

/* Everything that is due, one message a node and round. */
static void tell (struct sync *s)
{
    size_t count;
    s->retry = false;
    while (!s->retry && (count = marks_take (s->context->marks, s->due, SYNC_MARKS_MAX)) > 0) {
        qsort (s->due, count, sizeof *s->due, due_compare);
        for (size_t first = 0, end; first < count; first = end) {
            for (end = first + 1; end < count && id_equal (&s->due[end].node, &s->due[first].node);)
                end++;
            tell_node (s, first, end);
        }
    }
}

/* --- Writing and syncing. */

static void note_disk (struct sync *s, int rc)
{
    struct journal_context *c = s->context;
    if (rc == -ENOSPC && !s->disk_full) {
        s->disk_full = true;
        journal_count (c, JOURNAL_DISK_FULL, 1);
        journal_notice (c, "DISK-FULL", "nothing is acknowledged until there is space; replays go on; tried again each %d ms", SYNC_DISK_FULL_MS);
    } else if (rc == 0 && s->disk_full) {
        s->disk_full = false;
        journal_notice (c, "DISK-ROOM", "there is space again; recording goes on");
    }
    if (rc && rc != -ENOSPC && !s->waits && !log_is_read_only (c->log)) {
        s->waits = true;
        journal_notice (c, "RECORDING-WAITS", "%s (%s): nothing more is acknowledged until then; replays go on; tried again each %d ms",
                        fm_error_text (rc), fm_error_detail (), SYNC_DISK_FULL_MS);
    } else if (rc == 0 && s->waits) {
        s->waits = false;
        journal_notice (c, "RECORDING-GOES-ON", "what it waited for is there");
    }
    if (!s->read_only_told && log_is_read_only (c->log)) {
        s->read_only_told = true;
        journal_notice (c, "JOURNAL-READ-ONLY", "%s (%s): nothing is recorded or acknowledged any more, what is synced is served; restart the journal"
                        " when the disk is well", fm_error_text (rc), fm_error_detail ());
    }
}

/* What was synced: who must hear of it? */
static void synced (struct sync *s)
{
    struct journal_context *c = s->context;
    struct log_stream streams[64];
    size_t count;
    do {
        count = 0;
        log_synced_streams (c->log, streams, 64, &count);
        for (size_t i = 0; i < count; i++)
            marks_changed (c->marks, &streams[i].stream);
    } while (count);
}

/* Returns 0: all that was appended before is synced (or there was nothing); or why not. */
static int write_and_sync (struct sync *s)
{
    struct journal_context *c = s->context;
    const int written = log_write (c->log);
    if (atomic_load (&c->room_wanted))
        wake_raise (&c->room);
    if (written && written != FM_ERR_END) {
        note_disk (s, written);
        if (written != -ENOSPC)
            return written;
    }
    /* Even when the disk is full: what was written before it was can be synced and told. */
    uint64_t offset = s->synced_offset;
    const int rc = log_sync (c->log, &offset);
    if (rc) {
        note_disk (s, rc);
        return rc;
    }
    if (written == 0) {
        journal_count (c, JOURNAL_SYNCS, 1);
        s->appended_ns = node_now ();
        s->idle_marked = false;
        note_disk (s, 0);
    }
    const bool news = written == 0 || offset != s->synced_offset;
    s->synced_offset = offset;
    /* Sync before the watermarks go out: publishers drop what we acknowledge. */
    synced (s);
    tell (s);
    for (size_t i = 0; news && i < BELL_COUNT; i++)
        if (atomic_load (&c->bells[i].wanted))
            wake_raise (&c->bells[i].wake);
    return written == FM_ERR_END ? 0 : written;
}

/* --- House-keeping. */

/* Drop what the limits say, and tell what has gone, also when not all went that should: nobody can replay it any more.
 * A log that is read-only drops nothing, which has been told. */
static void retain (struct sync *s)
{
    struct journal_context *c = s->context;
    struct log_position before, after;
    log_position (c->log, &before);
    const int rc = log_retain (c->log, NULL);
    journal_count (c, JOURNAL_RETAIN_FAILED, rc && rc != FM_ERR_READ_ONLY);
    if (rc && rc != FM_ERR_READ_ONLY)
        journal_notice (c, "RETAIN-FAILED", "%s (%s); tried again in %d ms", fm_error_text (rc), fm_error_detail (),
                        SYNC_RETAIN_MS);
    log_position (c->log, &after);
    if (after.first_offset > before.first_offset)
        journal_notice (c, "SEGMENTS-DROPPED", "facts=%llu first_offset=%llu was=%llu bytes_left=%llu; by age or size",
                        (unsigned long long) (after.first_offset - before.first_offset),
                        (unsigned long long) after.first_offset, (unsigned long long) before.first_offset,
                        (unsigned long long) after.bytes);
}

static void keep_house (struct sync *s, uint64_t now)
{
    struct journal_context *c = s->context;
    if (now >= s->repeat_ns) {
        const bool all = now >= s->repeat_all_ns;
        s->repeat_ns = now + (uint64_t) SYNC_REPEAT_MS * NS_PER_MS;
        if (all)
            s->repeat_all_ns = now + (uint64_t) SYNC_REPEAT_ALL_MS * NS_PER_MS;
        marks_repeat (c->marks, all);
    }
    tell (s);
    if (now >= s->retain_ns) {
        s->retain_ns = now + (uint64_t) SYNC_RETAIN_MS * NS_PER_MS;
        retain (s);
    }
    if (!s->idle_marked && s->appended_ns && now - s->appended_ns >= (uint64_t) SYNC_IDLE_MS * NS_PER_MS) {
        s->idle_marked = true;
        note_disk (s, log_mark_idle (c->log));
    }
}

/* Sleep without looking at the log. */
static void pause_until (struct sync *s, uint64_t ns)
{
    const struct timespec until = { .tv_sec = (time_t) (ns / NS_PER_S), .tv_nsec = (long) (ns % NS_PER_S) };
    pthread_mutex_lock (&s->lock);
    while (!atomic_load (&s->stop) && pthread_cond_timedwait (&s->stopped, &s->lock, &until) == 0)
        continue;
    pthread_mutex_unlock (&s->lock);
}

static void pause_ms (struct sync *s, unsigned ms)
{
    pause_until (s, node_now () + (uint64_t) ms * NS_PER_MS);
}

/* Write and sync what was appended, and in a flood leave the next round something to do. */
static int sync_round (struct sync *s)
{
    struct journal_context *c = s->context;
    const uint64_t began_ns = node_now (), before = journal_counter (c, JOURNAL_BYTES_RECORDED);
    const int rc = write_and_sync (s);
    if (rc == 0 && journal_counter (c, JOURNAL_BYTES_RECORDED) - before >= SYNC_FLOOD_BYTES)
        pause_until (s, began_ns + (uint64_t) SYNC_FLOOD_US * NS_PER_US);
    return rc;
}

static void *sync_run (void *arg)
{
    struct sync *s = arg;
    (void) pthread_setname_np (pthread_self (), "fm-sync");     /* for people alone */
    while (!atomic_load (&s->stop)) {
        const unsigned wait_ms = s->retry ? SYNC_RETRY_MS : SYNC_REPEAT_MS;
        if (log_is_read_only (s->context->log))
            pause_ms (s, wait_ms);
        else {
            log_wait_appended (s->context->log, wait_ms);
            if (sync_round (s) != 0)
                pause_ms (s, SYNC_DISK_FULL_MS);
        }
        keep_house (s, node_now ());
    }
    /* Intake has ended: this is the last of it. */
    if (!log_is_read_only (s->context->log) && write_and_sync (s) == 0)
        (void) log_mark_idle (s->context->log);     /* only saves the next start some reading */
    return NULL;
}

int sync_new (struct journal_context *context, struct sync **ret_sync)
{
    struct sync *s = calloc (1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->context = context;
    atomic_init (&s->stop, false);
    pthread_condattr_t monotonic;
    pthread_condattr_init (&monotonic);
    pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init (&s->lock, NULL);
    pthread_cond_init (&s->stopped, &monotonic);
    pthread_condattr_destroy (&monotonic);
    s->repeat_all_ns = node_now () + (uint64_t) SYNC_REPEAT_ALL_MS * NS_PER_MS;
    const int rc = journal_thread (&s->thread, sync_run, s);
    if (rc) {
        pthread_cond_destroy (&s->stopped);
        pthread_mutex_destroy (&s->lock);
        free (s);
        return rc;
    }
    *ret_sync = s;
    return 0;
}

void sync_destroy (struct sync **sync)
{
    struct sync *s = *sync;
    if (!s)
        return;
    *sync = NULL;
    pthread_mutex_lock (&s->lock);
    atomic_store (&s->stop, true);
    pthread_cond_signal (&s->stopped);
    pthread_mutex_unlock (&s->lock);
    log_wake (s->context->log);
    pthread_join (s->thread, NULL);
    pthread_cond_destroy (&s->stopped);
    pthread_mutex_destroy (&s->lock);
    free (s);
}
