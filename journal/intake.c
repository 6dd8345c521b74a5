#include "intake.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "control.h"
#include "error.h"
#include "intake_inner.h"
#include "marks.h"
#include "recent.h"

enum { NS_PER_MS = 1000000, EVENTS_MAX = 16 };

/* --- Recording. */

/* The log's buffer is full: not reading is the back-pressure. */
static void wait_for_room (struct intake *in)
{
    struct journal_context *c = in->context;
    struct pollfd wait = { .fd = c->room.fd, .events = POLLIN };
    (void) poll (&wait, 1, INTAKE_STALL_MS);    /* whatever it returns: the log is asked again */
    wake_clear (&c->room);
}

static void note_recent (struct intake *in, const struct batch *b, const struct log_gap *gap, uint64_t offset)
{
    const struct recent_record r = {
        .stream = b ? b->stream : gap->stream,
        .first_seq = b ? b->first_seq : gap->first_seq,
        .end_seq = b ? batch_end_seq (b) : gap->end_seq,
        .offset = offset,
        .end_offset = offset + (b ? b->count : 1),
        .features = b ? b->features : 0,
    };
    recent_add (in->context->recent, &r);
}

/* Call log_append_marked or log_append_gap_of (b NULL) until there is room. */
static int append (struct intake *in, const struct batch *b, struct fm_slice front, const struct log_gap *gap)
{
    struct journal_context *c = in->context;
    uint64_t offset = 0, since = 0;
    int rc;
    for (;;) {
        rc = b ? log_append_marked (c->log, b, front, &offset) : log_append_gap_of (c->log, gap, &offset);
        if (rc != FM_ERR_FULL && rc != -ENOMEM)
            break;
        if (atomic_load (&in->stop)) {
            rc = FM_ERR_CLOSED;
            break;
        }
        if (since)
            wait_for_room (in);
        else {
            since = node_now ();            /* room may come before it is known to be wanted: once more at once */
            atomic_store (&c->room_wanted, true);
        }
    }
    if (rc == 0)
        note_recent (in, b, gap, offset);
    if (since) {
        atomic_store (&c->room_wanted, false);
        in->now = node_now ();
        journal_count (c, JOURNAL_FULL_NS, in->now - since);
    }
    return rc;
}

/* Notices of one stream come now and then: a hostile one must not fill the log of the program. */
static bool is_time_to_tell (const struct intake *in, struct intake_stream *s)
{
    if (s->told_ns && in->now - s->told_ns < (uint64_t) INTAKE_TELL_MS * NS_PER_MS)
        return false;
    s->told_ns = in->now;
    return true;
}

static void note_refused (struct intake *in, struct intake_stream *s, const char *why, int rc)
{
    journal_count (in->context, JOURNAL_BATCHES_REFUSED, 1);
    if (rc == FM_ERR_READ_ONLY || rc == FM_ERR_CLOSED || !is_time_to_tell (in, s))
        return;                             /* the first is the sync thread's to tell */
    char text[ID_TEXT_LEN + 1];
    journal_notice (in->context, "BATCH-REFUSED", "stream=%s next=%" PRIu64 " %s: %s (%s)", id_text (&s->id, text), s->state.next_seq, why,
                    fm_error_text (rc), fm_error_detail ());
}

/* What is to be said of a batch that has identities: which of its facts are there already. The first one has the log's segments read. */
static int look_for_duplicates (struct intake *in, const struct batch *b, struct fm_slice *ret_front, uint32_t *ret_count)
{
    struct journal_context *c = in->context;
    uint32_t unread = 0;
    int rc = in->identities.loaded ? 0 : identities_load (&in->identities, c->log, &unread);
    if (unread)
        journal_notice (c, "IDENTITIES-FORGOTTEN", "segments=%" PRIu32 ": damaged, or retention was faster; facts that repeat theirs will not be found out", unread);
    if (!rc)
        rc = identities_decide (&in->identities, b, ret_front, ret_count);
    return rc;
}

/* Append a batch that is in turn. */
static bool record (struct intake *in, struct intake_stream *s, const struct batch *b)
{
    struct journal_context *c = in->context;
    struct fm_slice front = slice (NULL, 0);
    uint32_t duplicates = 0;
    const bool identities = identities_concern (b);
    int rc = identities ? look_for_duplicates (in, b, &front, &duplicates) : 0;
    if (!rc) {
        rc = append (in, b, front, NULL);
        if (rc && identities)
            identities_undo (&in->identities);
    }
    if (rc) {
        note_refused (in, s, "not recorded", rc);   /* without memory it is asked for again */
        return false;
    }
    if (duplicates)
        journal_count (c, JOURNAL_DUPLICATES_RECORDED, duplicates);
    journal_count (c, JOURNAL_BATCHES_RECORDED, 1);
    journal_count (c, JOURNAL_FACTS_RECORDED, b->count);
    journal_count (c, JOURNAL_BYTES_RECORDED, b->len);
    intake_state_appended (&s->state, batch_end_seq (b), b->epoch, b->incarnation, in->now);
    return true;
}

/* What was held above is in turn now. */
void intake_record_held (struct intake *in, struct intake_stream *s)
{
    struct intake_item item;
    bool in_turn;
    while (intake_state_take (&s->state, &item, &in_turn)) {
        struct intake_held *held = item.ref;
        struct batch b;
        /* It was decoded and checked before it was held: only memory can fail. Then it is fetched again. */
        if (in_turn && batch_decode (held->bytes, held->len, node_mesh (in->context->node), &in->held_scratch, &b) == 0)
            (void) record (in, s, &b);
        free (held);
    }
}

void intake_record_gap (struct intake *in, struct intake_stream *s, const struct intake_todo *todo)
{
    const struct log_gap gap = {
        .stream = s->id,
        .first_seq = todo->first_seq,
        .end_seq = todo->end_seq,
        .epoch = todo->epoch,
        .incarnation = todo->incarnation,
        .reason = todo->reason,
        .closes = todo->closes,
    };
    const int rc = append (in, NULL, slice (NULL, 0), &gap);
    if (rc) {
        note_refused (in, s, "gap not recorded", rc);
        return;
    }
    journal_count (in->context, JOURNAL_GAPS_RECORDED, 1);
    char text[ID_TEXT_LEN + 1];
    journal_notice (in->context, "GAP-RECORDED", "stream=%s first=%" PRIu64 " end=%" PRIu64 " reason=%s: no holder has these facts",
                    id_text (&s->id, text), gap.first_seq, gap.end_seq, gap.reason == FACTMESH__GAP_REASON__GAP_VOID ? "void" : "not_held");
    intake_state_appended (&s->state, gap.end_seq, gap.epoch, gap.incarnation, in->now);
    intake_record_held (in, s);
}

static void hold (struct intake *in, struct intake_stream *s, const struct batch *b)
{
    struct intake_held *held = malloc (sizeof *held + b->len);
    if (!held)
        return;                             /* fetched later */
    held->len = b->len;
    memcpy (held->bytes, b->bytes, b->len);
    const struct intake_item item = {
        .first_seq = b->first_seq, .end_seq = batch_end_seq (b), .epoch = b->epoch, .bytes = sizeof *held + b->len, .ref = held
    };
    if (intake_state_hold (&s->state, &item) != 0)
        free (held);
    else
        journal_count (in->context, JOURNAL_BATCHES_HELD, 1);
}

/* --- Refusing. */

/* Tell the publisher's node that its stream is not recorded: its callers must hear of it. */
static void tell_conflict (struct intake *in, const struct intake_stream *s, const struct intake_batch *b, const char *what)
{
    struct journal_context *c = in->context;
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = FACTMESH__ERROR_CODE__ERROR_STREAM_CONFLICT;
    error.text = control_put_slice (slice_of (what));
    error.stream = control_put_id (&s->id);
    error.epoch = b->epoch;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    zmq_msg_t message;
    if (control_encode (&control, node_mesh (c->node), &message) != 0)
        return;                             /* told again with its next batch */
    if (node_tell (c->node, &b->from, &message) != 0)
        zmq_msg_close (&message);
}

static void refuse (struct intake *in, struct intake_stream *s, enum intake_verdict verdict, const struct intake_batch *b)
{
    struct journal_context *c = in->context;
    const bool conflict = verdict == INTAKE_CONFLICT;
    journal_count (c, conflict ? JOURNAL_STREAM_CONFLICTS : JOURNAL_BATCHES_REFUSED, 1);
    if (!is_time_to_tell (in, s))
        return;
    const struct intake_state *state = &s->state;
    const char *what = !conflict                                   ? "another node publishes this stream"
                       : b->epoch == state->orphaned_epoch         ? "facts of this epoch were lost while its publisher was away: start a new epoch"
                       : b->epoch == state->now.epoch              ? "another incarnation of this epoch is being recorded: a copied data directory?"
                                                                   : "its sequences were used before: a data directory that was copied back?";
    if (verdict == INTAKE_REFUSE_STALE)
        what = "a newer epoch of this stream is being recorded";
    else if (verdict == INTAKE_REFUSE_OVERLAP)
        what = "its batches overlap what is recorded";
    char stream[ID_TEXT_LEN + 1], node[ID_TEXT_LEN + 1];
    journal_notice (c, conflict ? "STREAM-CONFLICT" : "STREAM-REFUSED", "stream=%s epoch=%" PRIu64 " node=%s: %s", id_text (&s->id, stream),
                    b->epoch, b->repaired ? "(an answer)" : id_text (&b->from, node), what);
    /* Not to the owner when it was overtaken within its own process: that would stop the newer one. */
    const bool to_owner = state->owned && id_equal (&b->from, &state->now.owner);
    if (!b->repaired && (conflict || (verdict == INTAKE_REFUSE_STALE && !to_owner)))
        tell_conflict (in, s, b, what);
}

/* --- Batches and heads. */

void intake_take_batch (struct intake *in, struct intake_stream *s, const struct batch *b, const struct fm_id *from, bool repaired)
{
    const struct intake_batch event = {
        .first_seq = b->first_seq,
        .end_seq = batch_end_seq (b),
        .epoch = b->epoch,
        .incarnation = b->incarnation,
        .epoch_first_seq = b->epoch_first_seq,
        .from = *from,
        .repaired = repaired,
        .announced = b->announced_len > 0,
        .bytes = sizeof (struct intake_held) + b->len,
    };
    const enum intake_verdict verdict = intake_state_batch (&s->state, &event, in->now);
    intake_stream_mark (in, s);
    switch (verdict) {
    case INTAKE_APPEND:
        /* Hostile bytes must not reach the log: what can't be read could not be replayed either. */
        if (batch_check_facts (b) != 0) {
            note_refused (in, s, "malformed facts", FM_ERR_MALFORMED);
            break;
        }
        if (record (in, s, b) && s->state.held_count)
            intake_record_held (in, s);
        if (!s->listed)
            return;                         /* the usual way: nothing is missing, nothing to look after */
        break;
    case INTAKE_HOLD:
        if (batch_check_facts (b) == 0)
            hold (in, s, b);
        else
            note_refused (in, s, "malformed facts", FM_ERR_MALFORMED);
        break;
    case INTAKE_LATER:
        journal_count (in->context, JOURNAL_BATCHES_LATER, 1);
        break;
    case INTAKE_HAVE:
        break;
    case INTAKE_REFUSE_OWNER:
    case INTAKE_REFUSE_STALE:
    case INTAKE_REFUSE_OVERLAP:
    case INTAKE_CONFLICT:
        refuse (in, s, verdict, &event);
        break;
    }
    intake_stream_list (in, s, in->now);
}

/* The stream, taken up if it is new. */
static struct intake_stream *stream_of (struct intake *in, const struct fm_id *id, const struct live_peer *peer)
{
    struct intake_stream *s = intake_stream_find (in, id);
    if (s)
        return s;
    const int rc = intake_stream_add (in, id, &peer->info.node, &s);
    if (rc == 0)
        return s;
    journal_count (in->context, JOURNAL_BATCHES_REFUSED, 1);
    if (in->now - in->full_told_ns > (uint64_t) INTAKE_TELL_MS * NS_PER_MS) {
        in->full_told_ns = in->now;
        char text[ID_TEXT_LEN + 1];
        journal_notice (in->context, "STREAM-NOT-TAKEN", "stream=%s peer=%s: %s (%s)", id_text (id, text), peer->info.name, fm_error_text (rc),
                        fm_error_detail ());
    }
    return NULL;
}

static void take_live_batch (struct intake *in, const struct live_frame *frame)
{
    struct batch b;
    /* What a journal says of facts is never a publisher's to say; from another journal it comes, but each decides for itself. */
    if (batch_decode (frame->body.data, frame->body.len, node_mesh (in->context->node), &in->scratch, &b) != 0 || batch_strip_duplicates (&b) != 0) {
        journal_count (in->context, JOURNAL_BATCHES_REFUSED, 1);
        return;
    }
    struct intake_stream *s = stream_of (in, &b.stream, frame->peer);
    if (s)
        intake_take_batch (in, s, &b, &frame->peer->info.node, false);
}

/* A stream's head shows that the last facts were lost, or were sent before our subscription had arrived. */
static void take_stream_head (struct intake *in, const struct live_peer *peer, const struct fm_id *id, const struct intake_batch *event)
{
    const bool valid = event->end_seq > 0 && event->epoch_first_seq > 0 && event->epoch > 0;
    struct intake_stream *s = valid ? stream_of (in, id, peer) : NULL;
    if (!s)
        return;
    const enum intake_verdict verdict = intake_state_head (&s->state, event, in->now);
    intake_stream_mark (in, s);
    if (verdict != INTAKE_HAVE)
        refuse (in, s, verdict, event);
    if (verdict != INTAKE_HAVE || s->state.next_seq < event->end_seq || s->state.pending)
        intake_stream_list (in, s, in->now);
}

static void take_head (struct intake *in, const struct live_frame *frame)
{
    Factmesh__HeadNotice *notice;
    struct fm_id id;
    if (reserved_decode_head (frame->body, node_mesh (in->context->node), &notice) != 0) {
        journal_count (in->context, JOURNAL_BATCHES_REFUSED, 1);
        return;
    }
    const struct intake_batch event = {
        .end_seq = notice->head + 1,        /* 0 when it has no next: refused */
        .epoch = notice->epoch,
        .incarnation = notice->incarnation,
        .epoch_first_seq = notice->epoch_first_seq,
        .from = frame->peer->info.node,
    };
    if (control_get_id (&notice->stream, &id) == 0)
        take_stream_head (in, frame->peer, &id, &event);
    factmesh__head_notice__free_unpacked (notice, NULL);
}

/* Our subscription has arrived. What a publisher sent before is asked for at once: a short-lived one cannot wait for its next head notice. */
static void take_fence (struct intake *in, const struct live_frame *frame)
{
    Factmesh__FenceAnswer *answer;
    struct fm_id id;
    if (reserved_decode_fence (frame->body, node_mesh (in->context->node), &answer) != 0) {
        journal_count (in->context, JOURNAL_BATCHES_REFUSED, 1);
        return;
    }
    for (size_t i = 0; i < answer->n_streams; i++) {
        const Factmesh__StreamHead *head = answer->streams[i];
        const struct intake_batch event = {
            .end_seq = head->next_seq,
            .epoch = head->epoch,
            .incarnation = head->incarnation,
            .epoch_first_seq = head->epoch_first_seq,
            .from = frame->peer->info.node,
        };
        if (control_get_id (&head->stream, &id) == 0)
            take_stream_head (in, frame->peer, &id, &event);
    }
    factmesh__fence_answer__free_unpacked (answer, NULL);
}

static void owner_gone (struct intake *in, struct intake_stream *s, void *arg)
{
    const struct member *gone = arg;
    if (!intake_state_owner_gone (&s->state, &gone->node, gone->said_goodbye, in->now))
        return;
    intake_stream_mark (in, s);
    intake_record_held (in, s);                    /* of a newer epoch that waited for this, and misses nothing */
    intake_tell_ended (in, s);
    intake_stream_list (in, s, in->now);
}

static bool address_is_taken (struct intake *in, const struct live_peer *gone)
{
    for (size_t i = 0; i < live_set_count (in->live); i++) {
        const struct live_peer *peer = live_set_peer (in->live, i);
        if (!peer->gone && strcmp (peer->info.live, gone->info.live) == 0)
            return true;
    }
    return false;
}

static void take_peer_gone (struct intake *in, const struct live_peer *peer)
{
    struct member member;
    if (!members_find (in->members, &peer->info.node, &member))
        member = (struct member) { .node = peer->info.node, .gone = true };
    if (!member.gone)
        return;                             /* it has another address now, or came back */
    /* The connection may have been made anew to who has the address now: what came last in the one's name is then the other's, and is waited for. */
    if (address_is_taken (in, peer))
        member.said_goodbye = false;
    intake_streams_each (in, owner_gone, &member);
    members_forget (in->members, &member.node);
}

/* --- The thread. */

/* Take live frames until there are none, or for a burst. True: there may be more. */
static bool take_live (struct intake *in)
{
    zmq_msg_t message;
    zmq_msg_init (&message);
    unsigned taken = 0;
    struct live_frame frame;
    while (taken < INTAKE_BURST && live_set_receive (in->live, &message, &frame) == 0) {
        taken++;
        if (in->read_only && frame.kind != LIVE_PEER_GONE) {
            journal_count (in->context, JOURNAL_BATCHES_REFUSED, frame.kind == LIVE_BATCH);
            continue;
        }
        switch (frame.kind) {
        case LIVE_BATCH:
            take_live_batch (in, &frame);
            break;
        case LIVE_HEAD:
            take_head (in, &frame);
            break;
        case LIVE_PEER_GONE:
            take_peer_gone (in, frame.peer);
            break;
        case LIVE_FENCE:
            take_fence (in, &frame);
            break;
        case LIVE_WATERMARK:
        case LIVE_ENDED:
            break;
        }
    }
    zmq_msg_close (&message);
    return taken == INTAKE_BURST;
}

static void journals_changed (struct intake *in, struct intake_stream *s, void *arg)
{
    (void) arg;
    intake_state_journals_changed (&s->state, in->now);
    if (s->listed)
        s->due_ns = in->now;
}

static int wait_ms (uint64_t due)
{
    const uint64_t now = node_now ();
    if (due <= now)
        return 0;
    const uint64_t ms = (due - now + NS_PER_MS - 1) / NS_PER_MS;
    return ms < 1000 ? (int) ms : 1000;
}

static void wait_for_anything (struct intake *in, int ms)
{
    struct epoll_event events[EVENTS_MAX];
    const int count = epoll_wait (in->epoll_fd, events, EVENTS_MAX, ms);
    for (int i = 0; i < count; i++) {
        if (!live_set_event (in->live, &events[i]) && events[i].data.u64 == (uint64_t) in->wake.fd)
            wake_clear (&in->wake);
        /* else an answer: all connections are looked at */
    }
}

static void *intake_run (void *arg)
{
    struct intake *in = arg;
    (void) pthread_setname_np (pthread_self (), "fm-intake");   /* for people alone */
    uint64_t due = 0;
    while (!atomic_load (&in->stop)) {
        wait_for_anything (in, wait_ms (due));
        in->now = node_now ();
        in->read_only = log_is_read_only (in->context->log);
        const uint64_t live_due = live_set_update (in->live, in->now);
        bool more = take_live (in);
        in->now = node_now ();
        more = intake_answers (in) || more;
        const uint64_t version = members_journals_version (in->members);
        if (version != in->journals_version) {
            in->journals_version = version;
            intake_streams_each (in, journals_changed, NULL);
        }
        const uint64_t repair_due = intake_look_after (in), ended_due = intake_ended_step (in);
        due = live_due < repair_due ? live_due : repair_due;
        due = due < ended_due ? due : ended_due;
        /* libzmq tells of an answer only after a read that found nothing: read once more behind each question. */
        more = more || in->asked;
        in->asked = false;
        if (more)
            due = 0;
    }
    return NULL;
}

int intake_watch (struct intake *in, int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = (uint64_t) fd };
    return epoll_ctl (in->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

static void limits_init (struct intake *in)
{
    const struct journal_options *o = &in->context->options;
    in->now = node_now ();
    in->limits = (struct intake_limits) {
        .stream_held_max = o->stream_held_bytes,
        .held_max = o->held_bytes,
        .answer_ns = (uint64_t) o->answer_ms * NS_PER_MS,
        .epoch_quiet_ns = (uint64_t) o->epoch_quiet_ms * NS_PER_MS,
        .epoch_ns = (uint64_t) o->epoch_wait_ms * NS_PER_MS,
        .holders_ns = (uint64_t) o->holders_wait_ms * NS_PER_MS,
        .orphan_ns = (uint64_t) o->orphan_wait_ms * NS_PER_MS,
        .settled_ns = in->now + (uint64_t) o->settle_ms * NS_PER_MS,
    };
}

int intake_new (struct journal_context *context, struct intake **ret_intake)
{
    struct intake *in = calloc (1, sizeof *in);
    if (!in)
        return -ENOMEM;
    in->context = context;
    in->wake.fd = -1;
    atomic_init (&in->stop, false);
    limits_init (in);
    identities_init (&in->identities, IDENTITIES_MAX);
    in->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    int rc = in->epoll_fd < 0 ? -errno : wake_init (&in->wake);
    /* For want of memory no answer of a holder must be passed over, and what it brings be recorded as lost. */
    if (!rc) {
        in->scratch.topics = malloc (BATCH_TOPICS_MAX * sizeof *in->scratch.topics);
        in->scratch.size = in->scratch.topics ? BATCH_TOPICS_MAX : 0;
        rc = in->scratch.topics ? 0 : -ENOMEM;
    }
    if (!rc)
        rc = intake_watch (in, in->wake.fd);
    if (!rc)
        rc = intake_streams_init (in);
    if (!rc)
        rc = members_new (context, &in->wake, &in->members);
    if (!rc)
        rc = live_set_new (context->node, in->epoll_fd, slice (NULL, 0), false, false, context->options.live_queue, &in->live);
    if (!rc) {
        rc = journal_thread (&in->thread, intake_run, in);
        in->runs = rc == 0;
    }
    if (rc) {
        intake_destroy (&in);
        return rc;
    }
    *ret_intake = in;
    return 0;
}

void intake_destroy (struct intake **intake)
{
    struct intake *in = *intake;
    if (!in)
        return;
    *intake = NULL;
    if (in->runs) {
        atomic_store (&in->stop, true);
        wake_raise (&in->wake);
        wake_raise (&in->context->room);    /* it may wait there */
        pthread_join (in->thread, NULL);
    }
    identities_release (&in->identities);
    live_set_destroy (&in->live);
    members_destroy (&in->members);
    intake_streams_release (in);
    intake_repair_release (in);
    batch_scratch_release (&in->scratch);
    batch_scratch_release (&in->held_scratch);
    wake_release (&in->wake);
    if (in->epoll_fd >= 0)
        close (in->epoll_fd);
    free (in);
}
