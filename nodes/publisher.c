/* The life of a fact:
 *
 *     fm_publish -> room in the window? -> encoded into the open batch -> frame on the live endpoint, and kept in the window
 *                                                                              |
 *                 fm_publisher_wait_synced <- watermark of the journals <- journal; the window lets go
 *
 * When the open batch leaves: at once as long as facts come slowly (a token bucket: PUBLISHER_BURST in a row, then one each batch_us); else when it is
 * full, when a later fact finds a token, at a flush, or when the node's thread looks for facts left waiting (publisher_tick). So a lone fact
 * has no thread hop, and a flood has no system call for each fact.
 *
 * Order of locks: the publisher's, then the live endpoint's. Nothing of the node is called under the publisher's lock but live_send,
 * node_count and node_wake. */

#include "publisher.h"
#include "error.h"
#include "topic.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { NS_PER_US = 1000, NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

/* ------------------------------------------------------------------ checking a fact */

static int too_large (const char *what, size_t len, size_t max)
{
    return error_set (FM_ERR_TOO_LARGE, "%s: %zu bytes, more than %zu", what, len, max);
}

static int check_headers (struct fm_slice headers)
{
    struct fm_slice name, value;
    size_t pos = 0, bytes = 0;
    int rc, n = 0;
    while ((rc = fact_header_next (headers, &pos, &name, &value)) == 0) {
        bytes += name.len + value.len;
        n++;
    }
    if (rc != FM_ERR_END)
        return error_set (FM_ERR_MALFORMED, "headers: not what fm_header_add builds");
    if (n > HEADERS_MAX)
        return error_set (FM_ERR_TOO_LARGE, "headers: %d, more than %d", n, HEADERS_MAX);
    return bytes > HEADER_BYTES_MAX ? too_large ("headers", bytes, HEADER_BYTES_MAX) : 0;
}

static int check_blob (struct fm_slice bytes)
{
    enum { SHA256_LEN = 32 };
    if (bytes.len > PUBLISHER_BLOB_REF_MAX)
        return too_large ("blob", bytes.len, PUBLISHER_BLOB_REF_MAX);
    Factmesh__BlobRef *ref = factmesh__blob_ref__unpack (NULL, bytes.len, bytes.data);
    const bool good = ref && ref->sha256.len == SHA256_LEN;
    factmesh__blob_ref__free_unpacked (ref, NULL);
    return good ? 0 : error_set (FM_ERR_MALFORMED, "blob: not an encoded BlobRef");
}

/* All but the topic, which the level table's first look saves checking. */
static int check_fact (const struct fm_publisher *p, const struct fm_fact *f)
{
    if (f->payload.len > p->payload_max)
        return too_large ("payload", f->payload.len, p->payload_max);
    if (f->type.len > TYPE_MAX)
        return too_large ("type", f->type.len, TYPE_MAX);
    if (f->content_type.len > TYPE_MAX)
        return too_large ("content type", f->content_type.len, TYPE_MAX);
    if (f->schema.len > TYPE_MAX)
        return too_large ("schema", f->schema.len, TYPE_MAX);
    if (f->key.len > KEY_MAX)
        return too_large ("key", f->key.len, KEY_MAX);
    if (f->correlation.len > CORRELATION_MAX)
        return too_large ("correlation", f->correlation.len, CORRELATION_MAX);
    if (f->identity.len > IDENTITY_MAX)
        return too_large ("identity", f->identity.len, IDENTITY_MAX);
    int rc = 0;
    if (f->headers.len)
        rc = check_headers (f->headers);
    if (rc == 0 && f->blob.len)
        rc = check_blob (f->blob);
    return rc;
}

/* ------------------------------------------------------------------ waiting */

static struct timespec monotonic_timespec (uint64_t ns)
{
    return (struct timespec) { .tv_sec = (time_t) (ns / NS_PER_S), .tv_nsec = (long) (ns % NS_PER_S) };
}

/* Wait for a change until the deadline (UINT64_MAX: for ever). Returns 0 or FM_TIMEOUT. */
static int wait_changed (struct fm_publisher *p, uint64_t deadline_ns)
{
    int rc;
    p->waiting++;
    if (deadline_ns == UINT64_MAX) {
        rc = pthread_cond_wait (&p->changed, &p->lock);
    } else {
        const struct timespec deadline = monotonic_timespec (deadline_ns);
        rc = pthread_cond_timedwait (&p->changed, &p->lock, &deadline);
    }
    p->waiting--;
    assert (rc == 0 || rc == ETIMEDOUT);
    return rc == 0 ? 0 : FM_TIMEOUT;
}

static uint64_t deadline_in (int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : node_now () + (uint64_t) timeout_ms * NS_PER_MS;
}

static int set_lost (const struct fm_publisher *p)
{
    char text[ID_TEXT_LEN + 1];
    return error_set (FM_ERR_LOST, "stream %s, epoch %" PRIu64 ": refused by a journal: %s; close it, see that only one process has this stream, "
                      "and open it again", id_text (&p->identity.stream, text), p->identity.epoch, p->lost_reason);
}

static int set_window_full (const struct fm_publisher *p)
{
    return error_set (FM_ERR_WINDOW_FULL, "%zu of %zu bytes wait to be synced, from sequence %" PRIu64 " on; is a journal running?",
                      p->window.bytes, p->window.bytes_max, p->window.start_seq);
}

/* Wait until the window has room for the fact. May release the lock. */
static int make_room (struct fm_publisher *p, const struct fm_fact *fact, uint64_t *now)
{
    uint64_t deadline = 0, blocked_since = 0;
    int rc = 0;
    while (rc == 0 && !window_has_room (&p->window, publisher_open_cost (p, fact) + p->given_up.bytes)) {
        if (p->when_full == FM_DROP_OLDEST) {
            (void) (window_drop_oldest (&p->given_up) || window_drop_oldest (&p->window));      /* there is one: an empty window has room */
        } else if (p->open.count > 0) {
            /* Journals cannot sync what they have not got. */
            rc = publisher_send_open (p, *now);
        } else if (p->when_full == FM_FAIL) {
            rc = set_window_full (p);
        } else {
            if (!blocked_since) {
                blocked_since = node_now ();
                deadline = deadline_in (p->block_ms);
            }
            if (wait_changed (p, deadline))
                rc = set_window_full (p);
            else if (p->lost)
                rc = set_lost (p);
        }
    }
    if (blocked_since) {
        node_count (p->node, NODE_PUBLISH_BLOCKED_NS, node_now () - blocked_since);
        *now = publisher_now (p);
    }
    return rc;
}

/* ------------------------------------------------------------------ publishing */

/* May a fact leave alone now? */
static bool take_token (struct fm_publisher *p, uint64_t now)
{
    if (p->bucket_ns < now)
        p->bucket_ns = now;
    if (p->bucket_ns - now > (PUBLISHER_BURST - 1) * p->batch_ns)
        return false;
    p->bucket_ns += p->batch_ns;
    return true;
}

/* A small batch leaves with a token, one of a flood when it is due. */
static bool may_leave (struct fm_publisher *p, uint64_t now)
{
    if (publisher_gathers (p) && now < publisher_open_due (p))
        return false;
    return take_token (p, now);
}

static uint64_t unix_now (struct fm_publisher *p, uint64_t now)
{
    /* One clock read a fact: Unix time is the monotonic one plus a distance that is measured again now and then. */
    if (now >= p->unix_offset_until) {
        p->unix_offset = p->clock->unix_ns (p->clock->context) - now;
        p->unix_offset_until = now + PUBLISHER_OFFSET_MS * NS_PER_MS;
    }
    return now + p->unix_offset;
}

/* Make the node's thread come by then. Returns true when it must be woken for that. */
static bool need_tick (struct fm_publisher *p, uint64_t by_ns, uint64_t now)
{
    if (p->tick_due <= by_ns)
        return false;
    p->tick_due = now;
    return true;
}

/* Once; publish_locked tries again where the disk is in the way. */
static int try_publish (struct fm_publisher *p, struct fm_fact *fact, uint64_t now, bool *wake)
{
    int rc = 0;
    if (p->lost)
        return set_lost (p);
    if (p->disk_rc && p->open.count > 0)
        rc = publisher_send_open (p, now);          /* nothing more is accepted before the disk takes what was */
    if (rc == 0)
        rc = make_room (p, fact, &now);
    if (rc)
        return rc;
    if (p->next_seq >= p->reserved_end) {
        /* The tick reserves well before; it could not, or we are very fast. */
        const uint64_t end = publisher_reserve_end (p, now);
        rc = identity_reserve (&p->identity, end);
        if (rc)
            return rc;
        publisher_reserved (p, end, now);
    }
    if (fact->time_ns == 0)
        fact->time_ns = unix_now (p, now);
    rc = publisher_add (p, fact, now);
    if (rc)
        return rc;
    if (p->open.count > 0 && (p->batch_ns == 0 || may_leave (p, now)))
        (void) publisher_send_open (p, now);        /* without memory it stays open, and the next one tries again */
    if (p->open.count > 0)
        p->left_waiting = true;
    *wake = need_tick (p, p->open.count > 0 ? publisher_open_due (p) + publisher_hot_ns (p) : now + (uint64_t) 2 * PUBLISHER_SILENT_MS * NS_PER_MS, now);
    return 0;
}

static int publish_locked (struct fm_publisher *p, struct fm_fact *fact, uint64_t now, bool *wake)
{
    int rc = try_publish (p, fact, now, wake);
    if (rc == 0 || !p->disk_rc || p->when_full != FM_BLOCK)
        return rc;
    /* The window's file cannot be written: as a window that is full. Nobody tells when it can: look now and then. */
    const uint64_t begin = node_now (), deadline = deadline_in (p->block_ms);
    while (rc && p->disk_rc && node_now () < deadline) {
        const uint64_t next = node_now () + (uint64_t) PUBLISHER_DISK_RETRY_MS * NS_PER_MS;
        (void) wait_changed (p, next < deadline ? next : deadline);     /* whatever woke us: try */
        rc = try_publish (p, fact, publisher_now (p), wake);
    }
    node_count (p->node, NODE_PUBLISH_BLOCKED_NS, node_now () - begin);
    return rc;
}

int fm_publish (struct fm_publisher *publisher, const struct fm_fact *fact, struct fm_fact_id *ret_id)
{
    struct fm_publisher *p = publisher;
    int rc = check_fact (p, fact);
    if (rc)
        return rc;
    struct fm_fact own = *fact;     /* for its time and its place among the batch's topics */
    bool wake = false;
    pthread_mutex_lock (&p->lock);
    rc = publish_locked (p, &own, publisher_now (p), &wake);
    const uint64_t seq = p->next_seq - 1;
    pthread_mutex_unlock (&p->lock);
    if (wake)
        node_wake (p->node);
    if (rc == 0 && ret_id)
        *ret_id = (struct fm_fact_id) { .stream = p->identity.stream, .seq = seq };
    return rc;
}

int fm_publish_text (struct fm_publisher *publisher, const char *topic, const char *text)
{
    const struct fm_fact fact = { .topic = fm_text (topic), .payload = fm_text (text) };
    return fm_publish (publisher, &fact, NULL);
}

int fm_publisher_flush (struct fm_publisher *publisher)
{
    struct fm_publisher *p = publisher;
    pthread_mutex_lock (&p->lock);
    const int rc = p->open.count > 0 ? publisher_send_open (p, publisher_now (p)) : 0;
    pthread_mutex_unlock (&p->lock);
    return rc;
}

/* ------------------------------------------------------------------ waiting for journals */

struct journals_seen {
    unsigned count;
};

static int count_journal (void *arg, const struct fm_member *m)
{
    struct journals_seen *seen = arg;
    seen->count += m->is_journal;
    return 0;
}

/* What is missing, taken under the lock; told without it. */
struct progress {
    uint64_t seq, sent;
    struct mark reached;
    bool listed;
    struct journal_mark least;
};

static int set_not_synced (struct fm_publisher *p, const struct progress *at)
{
    struct journals_seen seen = { 0 };
    char behind[2 * ID_TEXT_LEN] = "", id[ID_TEXT_LEN + 1];
    (void) fm_node_members (p->node, count_journal, &seen);     /* only for the text */
    if (seen.count == 0)
        return error_set (FM_TIMEOUT, "sequence %" PRIu64 " is not synced: no journal is in the mesh; start one, or check its mesh and seeds", at->seq);
    if (at->listed)
        (void) snprintf (behind, sizeof behind, "; %s is furthest behind", id_text (&at->least.journal, id));
    return error_set (FM_TIMEOUT, "sequence %" PRIu64 " is not synced: sent up to %" PRIu64 ", received up to %" PRIu64 ", written up to %" PRIu64
                      ", synced up to %" PRIu64 "; journals in the mesh: %u%s", at->seq, at->sent, at->reached.received, at->reached.written,
                      at->reached.synced, seen.count, behind);
}

static void see_progress (const struct fm_publisher *p, uint64_t seq, struct progress *ret)
{
    const struct journal_mark *least = publisher_marks_least (&p->marks);
    *ret = (struct progress) { .seq = seq, .sent = publisher_sent (p), .reached = publisher_marks_reached (&p->marks), .listed = least != NULL };
    if (least)
        ret->least = *least;
}

int fm_publisher_wait_synced (struct fm_publisher *publisher, uint64_t seq, int timeout_ms)
{
    struct fm_publisher *p = publisher;
    const uint64_t deadline = deadline_in (timeout_ms);
    struct progress progress;
    pthread_mutex_lock (&p->lock);
    int rc = p->open.count > 0 ? publisher_send_open (p, publisher_now (p)) : 0;
    /* All so far is of this epoch, and what came back from disk: what else earlier ones left unsynced is nobody's to wait for. */
    const bool all = seq == 0;
    if (all)
        seq = p->next_seq > p->identity.epoch_first_seq ? p->next_seq - 1 : p->recovered_seq;
    while (rc == 0 && p->window.synced < seq && !p->lost)
        rc = wait_changed (p, deadline);
    if (p->window.synced >= seq)
        rc = all || publisher_is_lost (p, seq) ? publisher_set_lost_ranges (p) : 0;
    else if (p->lost)
        rc = set_lost (p);
    see_progress (p, seq, &progress);
    pthread_mutex_unlock (&p->lock);
    return rc == FM_TIMEOUT ? set_not_synced (p, &progress) : rc;
}

void fm_publisher_state (struct fm_publisher *publisher, struct fm_publisher_state *ret_state)
{
    struct fm_publisher *p = publisher;
    pthread_mutex_lock (&p->lock);
    const struct mark reached = publisher_marks_reached (&p->marks);
    *ret_state = (struct fm_publisher_state) {
        .stream = p->identity.stream,
        .epoch = p->identity.epoch,
        .head = p->next_seq - 1,
        .sent = publisher_sent (p),
        .received = reached.received,
        .written = reached.written,
        .synced = p->window.synced,
        .lost = publisher_first_lost (p),
        .recovered = p->recovered_seq,
        .window_bytes = p->window.bytes + p->given_up.bytes + (p->open.count ? window_cost (p->open.facts_len + p->open.head_len) : 0),
    };
    pthread_mutex_unlock (&p->lock);
}

/* ------------------------------------------------------------------ opening and closing */

static int check_options (const struct fm_publisher_options *o)
{
    if (o->payload_max > PAYLOAD_MAX_LIMIT)
        return error_set (FM_ERR_ARGUMENT, "payload_max: %zu, more than %d", o->payload_max, PAYLOAD_MAX_LIMIT);
    if (o->name && strlen (o->name) > NODE_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "name: more than %d bytes", NODE_NAME_MAX);
    if (o->when_full > FM_DROP_OLDEST)
        return error_set (FM_ERR_ARGUMENT, "when_full: %d is none of enum fm_when_full", (int) o->when_full);
    if (o->batch_us > PUBLISHER_BATCH_US_MAX)
        return error_set (FM_ERR_ARGUMENT, "batch_us: %d, more than %d", o->batch_us, PUBLISHER_BATCH_US_MAX);
    if (o->window_on_disk > FM_WINDOW_SYNCED)
        return error_set (FM_ERR_ARGUMENT, "window_on_disk: %d is none of enum fm_window", (int) o->window_on_disk);
    if (o->window_on_disk && !o->directory)
        return error_set (FM_ERR_ARGUMENT, "window_on_disk: needs a directory");
    return 0;
}

static int copy_own_name (void *arg, const struct fm_member *m)
{
    struct fm_publisher *p = arg;
    if (m->self)
        (void) snprintf (p->name, sizeof p->name, "%s", m->name);   /* a node's name is no longer than a stream's */
    return 0;
}

static void set_options (struct fm_publisher *p, const struct fm_publisher_options *o)
{
    p->when_full = o->when_full;
    p->block_ms = o->block_ms ? o->block_ms : PUBLISHER_BLOCK_MS_DEFAULT;
    p->payload_max = o->payload_max ? o->payload_max : PAYLOAD_MAX_DEFAULT;
    const int batch_us = o->batch_us                            ? o->batch_us
                         : o->window_on_disk == FM_WINDOW_SYNCED ? PUBLISHER_BATCH_US_SYNCED
                                                                 : PUBLISHER_BATCH_US_DEFAULT;
    p->batch_ns = batch_us < 0 ? 0 : (uint64_t) batch_us * NS_PER_US;
}

/* Memory, and what does not fail. */
static int publisher_init (struct fm_publisher *p, const struct fm_publisher_options *o)
{
    pthread_condattr_t attributes;
    (void) pthread_mutex_init (&p->lock, NULL);         /* neither can fail with these attributes */
    (void) pthread_condattr_init (&attributes);
    (void) pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    (void) pthread_cond_init (&p->changed, &attributes);
    (void) pthread_condattr_destroy (&attributes);
    set_options (p, o);

    const struct batch empty = { .mesh = node_mesh (p->node) };
    p->head_base = WIRE_TOPIC_MAX + 1 + batch_header_bound (&empty);
    p->open.facts = malloc (LIVE_FRAME_MAX);
    p->header = malloc (LIVE_FRAME_MAX);
    p->backs = malloc (LIVE_FRAME_MAX);
    p->topics = malloc (LEVEL_BATCH_TOPICS_MAX * sizeof *p->topics);
    return p->open.facts && p->header && p->backs && p->topics ? publisher_repair_new (&p->repair) : -ENOMEM;
}

/* The window's file, and what an earlier epoch left in it: nobody has asked for anything yet. */
static int open_disk (struct fm_publisher *p, const struct fm_publisher_options *o)
{
    if (!o->window_on_disk) {
        if (p->identity.directory && window_file_exists (&fs_real, &p->identity))
            return error_set (FM_ERR_ARGUMENT, "%s/window: facts in it may be in no journal: open it with window_on_disk, or move the file away to give them up",
                              o->directory);
        return 0;
    }
    struct window_file_found found;
    const uint64_t capacity = (uint64_t) p->window.bytes_max + p->payload_max + PUBLISHER_DISK_SLACK;
    int rc = window_file_open (&fs_real, &p->identity, node_mesh (p->node), capacity, o->window_on_disk == FM_WINDOW_SYNCED, &p->window, &p->disk, &found);
    if (rc)
        return rc;
    if (found.facts) {
        p->recovered_seq = found.end_seq - 1;
        rc = publisher_lost_open (p);
        if (rc)
            return rc;
        node_notice (p->node, "WINDOW-RECOVERED", "stream %s: %" PRIu64 " facts up to sequence %" PRIu64 " came back from disk: journals that lack them are given them",
                     p->name, found.facts, p->recovered_seq);
    }
    if (found.damaged_bytes || found.refused)
        node_notice (p->node, "WINDOW-DAMAGED", "stream %s: %" PRIu64 " bytes and %" PRIu64 " batches of its window on disk do not hold: facts in them that no journal "
                     "has are void", p->name, found.damaged_bytes, found.refused);
    return 0;
}

static int open_stream (struct fm_publisher *p, const struct fm_publisher_options *o)
{
    int rc = publisher_marks_init (&p->marks, o->journals);
    if (rc == 0)
        rc = identity_open (o->directory, node_mesh (p->node), slice_of (o->name), &p->identity, &p->reserved_end);
    if (rc)
        return rc;
    p->next_seq = p->identity.epoch_first_seq;
    window_init (&p->window, o->window_bytes ? o->window_bytes : PUBLISHER_WINDOW_DEFAULT, p->next_seq);
    p->head_told = p->next_seq - 1;
    rc = level_table_new (PUBLISHER_LEVELS_MAX, p->next_seq - 1, &p->levels);
    if (rc)
        return rc;
    if (p->identity.name[0])
        (void) snprintf (p->name, sizeof p->name, "%s", p->identity.name);  /* of the same length */
    else
        (void) fm_node_members (p->node, copy_own_name, p);     /* nameless when that fails: it is only for people */
    return open_disk (p, o);
}

/* Let go of the data directory. */
static int close_directory (struct fm_publisher *p)
{
    window_file_close (&p->disk, p->window.count == 0 && p->given_up.count == 0);
    return identity_close (&p->identity, p->next_seq);
}

static void publisher_free (struct fm_publisher *p)
{
    publisher_repair_destroy (&p->repair);
    publisher_lost_close (p);
    level_table_destroy (&p->levels);
    window_release (&p->window);
    (void) pthread_cond_destroy (&p->changed);
    (void) pthread_mutex_destroy (&p->lock);
    free (p->open.facts);
    free (p->header);
    free (p->backs);
    free (p->topics);
    free (p);
}

int fm_publisher_open (struct fm_node *node, const struct fm_publisher_options *options, struct fm_publisher **ret_publisher)
{
    static const struct fm_publisher_options defaults;
    const struct fm_publisher_options *o = options ? options : &defaults;
    int rc = check_options (o);
    if (rc)
        return rc;
    struct fm_publisher *p = calloc (1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->node = node;
    p->live = node_live (node);
    p->clock = &clock_real;
    rc = publisher_init (p, o);
    if (rc == 0)
        rc = open_stream (p, o);
    if (rc == 0)
        rc = node_handle (node, publisher_control, p);
    if (rc == 0) {
        const struct node_worker worker = { .arg = p, .tick = publisher_tick, .streams = publisher_streams };
        rc = node_add_worker (node, &worker);
    }
    if (rc) {
        node_unhandle (node, p);        /* nothing, where it did not come to that */
        (void) close_directory (p);     /* the first error is told */
        publisher_free (p);
        return rc;
    }
    closed_streams_remove (node_closed_streams (node), &p->identity.stream);
    node_streams_changed (node);
    node_wake (node);
    *ret_publisher = p;
    return 0;
}

/* What was accepted leaves. What the window's file does not take leaves all the same: nobody will be there to write it later. */
static void send_last (struct fm_publisher *p)
{
    pthread_mutex_lock (&p->lock);
    const uint64_t now = publisher_now (p);
    const uint32_t facts = p->open.count;
    int rc = p->lost || !facts ? 0 : publisher_send_open (p, now);
    const bool unkept = rc && p->disk_rc;
    if (unkept) {
        window_file_close (&p->disk, false);
        rc = publisher_send_open (p, now);
    }
    if (!p->lost && rc == 0)
        publisher_tell_head (p, now);       /* who missed the last fact learns it now */
    pthread_mutex_unlock (&p->lock);
    if (unkept)
        node_notice (p->node, "WINDOW-NOT-WRITTEN", "stream %s: %s/window: closed meanwhile: its last %" PRIu32 " facts were sent, and are not kept", p->name,
                     identity_path (&p->identity), facts);
}

void fm_publisher_close (struct fm_publisher **publisher)
{
    struct fm_publisher *p = *publisher;
    if (!p)
        return;
    *publisher = NULL;
    send_last (p);

    struct fm_node *node = p->node;
    const struct closed_stream closed = { .stream = p->identity.stream,
                                          .epoch = p->identity.epoch,
                                          .incarnation = p->identity.incarnation,
                                          .next_seq = p->window.next_seq,
                                          .epoch_first_seq = p->identity.epoch_first_seq };
    if (!p->lost && closed.next_seq > closed.epoch_first_seq)
        closed_streams_add (node_closed_streams (node), &closed);     /* before it stops being told as an open one */
    node_unhandle (node, p);
    node_remove_worker (node, p);
    if (close_directory (p))
        node_notice (node, "STREAM-NOT-CLOSED", "stream %s: %s: its next epoch begins behind the sequences that were reserved", p->name,
                     fm_error_detail ());
    publisher_free (p);
    node_streams_changed (node);
}
