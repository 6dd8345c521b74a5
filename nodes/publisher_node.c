#include "publisher.h"
#include "error.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum { NS_PER_US = 1000, NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

/* ------------------------------------------------------------------ time */

static uint64_t min_u64 (uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t silent_due (const struct fm_publisher *p)
{
    return publisher_sent (p) == p->head_told ? UINT64_MAX : p->last_send_ns + (uint64_t) PUBLISHER_SILENT_MS * NS_PER_MS;
}

/* What is due at this time; under the lock. */
static void look_after (struct fm_publisher *p, uint64_t now)
{
    if (p->disk_rc && now < p->disk_retry_ns)
        return;
    if (p->open.count > 0 && now >= publisher_open_due (p))
        (void) publisher_send_open (p, now);        /* without memory or disk: a later tick tries again */
    if (p->left_waiting)
        p->hot_until = now + (uint64_t) PUBLISHER_HOT_MS * NS_PER_MS;
    p->left_waiting = p->open.count > 0;

    const unsigned wanted = live_watermarks_wanted (p->live);
    bool pass = wanted != p->watermarks_wanted;
    if ((now >= p->head_due || now >= silent_due (p)) && (p->open.count == 0 || publisher_send_open (p, now) == 0)) {
        publisher_tell_head (p, now);
        pass = wanted > 0;          /* for those to whom the last ones were lost */
    }
    if (pass) {
        publisher_pass_marks (p, NULL);
        p->watermarks_wanted = wanted;
    }
}

static uint64_t next_due (const struct fm_publisher *p, uint64_t now, bool was_hot)
{
    uint64_t due = min_u64 (p->head_due, silent_due (p));
    if (p->open.count > 0 && !was_hot)
        due = min_u64 (due, publisher_open_due (p));
    else if (now < p->hot_until)
        due = min_u64 (due, (p->open.count > 0 ? publisher_open_due (p) : now) + publisher_hot_ns (p));
    return p->disk_rc && due < p->disk_retry_ns ? p->disk_retry_ns : due;
}

/* A slow publisher's crash leaves few void sequences, a fast one writes once a second. */
uint64_t publisher_reserve_end (struct fm_publisher *p, uint64_t now)
{
    if (!p->reserve_block)
        p->reserve_block = IDENTITY_RESERVE_FIRST;
    else if (now - p->reserved_ns < NS_PER_S && p->reserve_block < IDENTITY_RESERVE_MAX)
        p->reserve_block *= 2;
    return p->next_seq + p->reserve_block;
}

void publisher_reserved (struct fm_publisher *p, uint64_t end, uint64_t now)
{
    if (p->reserved_end < end)
        p->reserved_end = end;
    p->reserved_ns = now;
}

/* Well before the reserved sequences run out, so that no caller waits for the disk. */
static void reserve_more (struct fm_publisher *p, uint64_t now)
{
    pthread_mutex_lock (&p->lock);
    const uint64_t low = p->reserve_block > IDENTITY_RESERVE_FIRST ? p->reserve_block / 2 : IDENTITY_RESERVE_FIRST / 2;
    const bool needed = p->identity.directory && p->reserved_end - p->next_seq < low && now >= p->reserve_due;
    const uint64_t end = needed ? publisher_reserve_end (p, now) : 0;
    pthread_mutex_unlock (&p->lock);
    if (!needed)
        return;
    const int rc = identity_reserve (&p->identity, end);
    pthread_mutex_lock (&p->lock);
    if (rc)
        p->reserve_due = now + (uint64_t) PUBLISHER_RETRY_MS * NS_PER_MS;
    else
        publisher_reserved (p, end, now);
    pthread_mutex_unlock (&p->lock);
    if (rc)
        node_notice (p->node, "STREAM-NOT-RESERVED", "stream %s: %s (%s): publishing fails when the reserved sequences run out", p->name,
                     fm_error_text (rc), fm_error_detail ());
}

/* Told once each time that it fails. */
static void tell_disk (struct fm_publisher *p)
{
    pthread_mutex_lock (&p->lock);
    const int rc = p->disk_rc;
    const bool given_up = p->disk_given_up;
    pthread_mutex_unlock (&p->lock);
    if (rc && !p->disk_told)
        node_notice (p->node, "WINDOW-NOT-WRITTEN", "stream %s: %s/window: %s: %s", p->name, identity_path (&p->identity), fm_error_text (rc),
                     given_up ? "the window goes on in memory alone" : "publishing waits for it, or fails");
    p->disk_told = rc != 0;
}

uint64_t publisher_tick (void *arg, uint64_t now)
{
    struct fm_publisher *p = arg;
    pthread_mutex_lock (&p->lock);
    const bool was_hot = now < p->hot_until, lost = p->lost, on_disk = p->disk || p->disk_given_up;
    if (!lost)
        look_after (p, now);
    pthread_mutex_unlock (&p->lock);

    if (on_disk)
        tell_disk (p);
    reserve_more (p, now);
    const uint64_t other_due = min_u64 (publisher_repair_tick (p, now), publisher_lost_tick (p, now));

    pthread_mutex_lock (&p->lock);
    p->tick_due = lost ? other_due : min_u64 (next_due (p, now, was_hot), other_due);
    const uint64_t due = p->tick_due;
    pthread_mutex_unlock (&p->lock);
    return due;
}

size_t publisher_streams (void *arg, Factmesh__StreamHead *ret, size_t max)
{
    struct fm_publisher *p = arg;
    assert (max > 0);
    (void) max;                     /* used by the assert alone */
    *ret = (Factmesh__StreamHead) FACTMESH__STREAM_HEAD__INIT;
    ret->stream = control_put_id (&p->identity.stream);
    ret->epoch = p->identity.epoch;
    ret->incarnation = p->identity.incarnation;
    ret->epoch_first_seq = p->identity.epoch_first_seq;
    ret->name = control_put_slice (slice_of (p->name));
    pthread_mutex_lock (&p->lock);
    ret->next_seq = p->window.next_seq;
    pthread_mutex_unlock (&p->lock);
    return 1;
}

/* ------------------------------------------------------------------ control messages */

static bool is_ours (const struct fm_publisher *p, const ProtobufCBinaryData *stream)
{
    struct fm_id id;
    return stream->len == ID_LEN && control_get_id (stream, &id) == 0 && id_equal (&id, &p->identity.stream);
}

static void take_mark (struct fm_publisher *p, const Factmesh__Watermark *w, const Factmesh__StreamMark *m)
{
    struct fm_id journal;
    bool waited = false;
    int rc = control_get_id (&w->journal, &journal);
    pthread_mutex_lock (&p->lock);
    if (rc == 0)
        rc = publisher_marks_update (&p->marks, &journal, w->generation, (struct mark) { m->received, m->written, m->synced },
                                     publisher_sent (p));
    if (rc == 0) {
        publisher_settle (p);
        waited = p->waiting > 0;
        if (live_watermarks_wanted (p->live) > 0)
            publisher_pass_marks (p, &journal);
    }
    pthread_mutex_unlock (&p->lock);
    if (rc == 0)
        (void) identity_note_journal (&p->identity);    /* what cannot be stored now is stored with the next sequences */
    if (rc == 0 && p->recovered)
        node_wake (p->node);        /* there may be something to ask */
    if (waited)
        pthread_cond_broadcast (&p->changed);       /* without the lock: who wakes up wants it */
    if (rc == 0)
        return;
    node_count (p->node, NODE_WATERMARKS_REFUSED, 1);
    const uint64_t now = node_now ();
    if (rc == FM_ERR_UNKNOWN || now < p->notice_due)
        return;                     /* a journal that does not count goes on telling us, and that is fine */
    p->notice_due = now + (uint64_t) PUBLISHER_NOTICE_MS * NS_PER_MS;
    node_notice (p->node, "WATERMARK-REFUSED", "stream %s: %s", p->name, fm_error_detail ());
}

static int take_watermark (struct fm_publisher *p, const Factmesh__Watermark *w)
{
    int rc = FM_ERR_UNKNOWN;
    for (size_t i = 0; i < w->n_marks; i++) {
        if (is_ours (p, &w->marks[i]->stream)) {
            take_mark (p, w, w->marks[i]);
            rc = 0;
        }
    }
    return rc;
}

static int take_error (struct fm_publisher *p, const Factmesh__Error *e)
{
    if (e->code != FACTMESH__ERROR_CODE__ERROR_STREAM_CONFLICT || !is_ours (p, &e->stream))
        return FM_ERR_UNKNOWN;
    if (e->epoch && e->epoch != p->identity.epoch)
        return 0;                       /* for the one before, of this process or of the one that had the address */
    pthread_mutex_lock (&p->lock);
    const bool news = !p->lost;
    p->lost = true;
    if (news)
        (void) snprintf (p->lost_reason, sizeof p->lost_reason, "%.*s", (int) e->text.len, (const char *) e->text.data);    /* cut if it must be */
    if (p->waiting)
        pthread_cond_broadcast (&p->changed);
    pthread_mutex_unlock (&p->lock);
    if (news) {
        node_wake (p->node);            /* what the next tick does, and when, has changed */
        node_notice (p->node, "STREAM-CONFLICT", "stream %s, epoch %" PRIu64 ": refused by a journal: %s: publishing has stopped", p->name,
                     p->identity.epoch, p->lost_reason);
    }
    return 0;
}

int publisher_control (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    struct fm_publisher *p = arg;
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_WATERMARK:
        return take_watermark (p, control->watermark);
    case FACTMESH__CONTROL__BODY_ERROR:
        return take_error (p, control->error);
    case FACTMESH__CONTROL__BODY_REPLAY_OPEN:
        if (!is_ours (p, &control->replay_open->stream))
            return FM_ERR_UNKNOWN;
        return publisher_repair_control (p, from, control, node_now ());
    case FACTMESH__CONTROL__BODY_REPLAY_CREDIT:
    case FACTMESH__CONTROL__BODY_REPLAY_CLOSE:
        return publisher_repair_control (p, from, control, node_now ());
    default:
        return FM_ERR_UNKNOWN;
    }
}
