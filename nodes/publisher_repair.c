/* Repair: a ReplayOpen for our stream is served from the window, batch by batch as they were sent.
 *
 *     asked [from, end)      what is held of it      -> the batches, then ReplayEnd
 *                            below the window        -> Gap, and:
 *                                synced, or of an earlier epoch: GAP_SYNCED, then ReplayEnd. Only a journal knows these facts, or that
 *                                they are void; and what would come above such a gap must not pass for its continuation.
 *                            between epochs (a window that came back from disk holds facts of earlier ones) -> the same
 *                                dropped unsynced: GAP_NOT_HELD, and on it goes.
 *                            above what was sent     -> not waited for: ReplayEnd
 *
 * What was sent is complete through the `covered` of its last message; an asker that needs more asks again.
 *
 * Only references to messages are taken under the publisher's lock; copying and sending happen outside it, a bounded number of bytes each
 * tick, so that neither publishing nor the node's thread waits for a repair. */

#include "publisher.h"
#include "error.h"
#include "topic.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
    REPAIRS_MAX = 64,               /* sessions of one publisher */
    REPAIRS_PER_PEER_MAX = 16,
    REPAIR_TICK_BYTES = 1 << 20,    /* sent in one tick by all sessions together, plus one message */
    REPAIR_MESSAGE_BYTES = 256 << 10,
    REPAIR_MESSAGE_BYTES_MIN = 4 << 10,
    REPAIR_MESSAGE_BYTES_MAX = 1 << 20,
    REPAIR_BATCHES_MAX = 256,       /* in one message */
    REPAIR_SCRATCH_KEPT = 2 << 20,  /* a larger buffer, for a large fact, is given back */
    REPAIR_CREDIT_MAX = 64 << 20,   /* what a peer can have in advance, whatever it grants */
    REPAIR_TURN_US = 500,           /* between two ticks while there is more to send */
    REPAIR_RETRY_MS = 5,            /* after the peer's queue was full */
    REPAIR_IDLE_MS = 30000          /* without credit, or with a full queue, for so long: the asker has gone */
};
enum { NS_PER_US = 1000, NS_PER_MS = 1000000 };

struct session {
    struct node_route from;
    uint64_t number, request;
    uint64_t next_seq, end_seq;     /* still to be sent */
    int64_t credit;                 /* bytes; a message may overdraw it */
    size_t message_bytes;
    uint64_t heard_ns;
    uint64_t retry_ns;              /* not before */
    size_t filter_count;
    struct fm_slice *filters;       /* their bytes are behind them, in the same block */
};

struct publisher_repair {
    struct session *sessions[REPAIRS_MAX];
    size_t count, turn;             /* who comes first in the next tick */
    uint8_t *fields;                /* the batches of one message */
    size_t fields_size;
    struct batch_scratch scratch;
};

int publisher_repair_new (struct publisher_repair **ret_repair)
{
    struct publisher_repair *r = calloc (1, sizeof *r);
    if (!r)
        return -ENOMEM;
    *ret_repair = r;
    return 0;
}

static void session_destroy (struct session *s)
{
    free (s->filters);
    free (s);
}

void publisher_repair_destroy (struct publisher_repair **repair)
{
    struct publisher_repair *r = *repair;
    if (!r)
        return;
    for (size_t i = 0; i < r->count; i++)
        session_destroy (r->sessions[i]);
    batch_scratch_release (&r->scratch);
    free (r->fields);
    free (r);
    *repair = NULL;
}

/* ------------------------------------------------------------------ sessions */

static bool route_equal (const struct node_route *a, const struct node_route *b)
{
    return a->len == b->len && memcmp (a->bytes, b->bytes, a->len) == 0;
}

static size_t find_session (const struct publisher_repair *r, const struct node_route *from, uint64_t number)
{
    size_t i = 0;
    while (i < r->count && !(r->sessions[i]->number == number && route_equal (&r->sessions[i]->from, from)))
        i++;
    return i;
}

static void drop_session (struct publisher_repair *r, size_t i)
{
    session_destroy (r->sessions[i]);
    r->sessions[i] = r->sessions[--r->count];
}

static void grant (struct session *s, uint64_t bytes)
{
    const int64_t room = REPAIR_CREDIT_MAX - s->credit;     /* credit never exceeds the limit: not negative */
    s->credit = bytes > (uint64_t) room ? REPAIR_CREDIT_MAX : s->credit + (int64_t) bytes;
}

static int copy_filters (struct session *s, const Factmesh__ReplayOpen *open)
{
    size_t bytes = open->n_filters * sizeof *s->filters;
    for (size_t i = 0; i < open->n_filters; i++)
        bytes += open->filters[i].len;
    if (bytes == 0)
        return 0;
    s->filters = malloc (bytes);
    if (!s->filters)
        return -ENOMEM;
    char *p = (char *) (s->filters + open->n_filters);
    for (size_t i = 0; i < open->n_filters; i++) {
        const struct fm_slice filter = control_get_slice (&open->filters[i]);
        const int rc = topic_pattern_check (filter);
        if (rc)
            return rc;
        memcpy (p, filter.data, filter.len);
        s->filters[i] = slice (p, filter.len);
        p += filter.len;
    }
    s->filter_count = open->n_filters;
    return 0;
}

static int session_new (const struct node_route *from, const Factmesh__Control *control, uint64_t now, struct session **ret_session)
{
    const Factmesh__ReplayOpen *open = control->replay_open;
    if (open->start_case != FACTMESH__REPLAY_OPEN__START_FROM_SEQ || open->from_seq == 0)
        return error_set (FM_ERR_ARGUMENT, "a publisher replays its stream from a sequence only; ask a journal");
    const bool ends = open->end_case == FACTMESH__REPLAY_OPEN__END_END_SEQ;
    if (ends && open->end_seq <= open->from_seq)
        return error_set (FM_ERR_ARGUMENT, "an empty range");
    struct session *s = calloc (1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->from = *from;
    s->number = open->session;
    s->request = control->request;
    s->next_seq = open->from_seq;
    s->end_seq = ends ? open->end_seq : UINT64_MAX;
    size_t wish = open->message_bytes ? open->message_bytes : REPAIR_MESSAGE_BYTES;
    wish = wish > REPAIR_MESSAGE_BYTES_MIN ? wish : REPAIR_MESSAGE_BYTES_MIN;
    s->message_bytes = wish < REPAIR_MESSAGE_BYTES_MAX ? wish : REPAIR_MESSAGE_BYTES_MAX;
    s->heard_ns = now;
    grant (s, open->credit);
    const int rc = copy_filters (s, open);
    if (rc) {
        session_destroy (s);
        return rc;
    }
    *ret_session = s;
    return 0;
}

/* An answer that cannot be sent now: the asker times out and asks again. */
static void refuse (struct fm_publisher *p, const struct node_route *to, const Factmesh__Control *control, int rc)
{
    const Factmesh__ErrorCode code = rc == FM_ERR_LIMIT    ? FACTMESH__ERROR_CODE__ERROR_LIMIT
                                     : rc == FM_ERR_ARGUMENT ? FACTMESH__ERROR_CODE__ERROR_RANGE
                                     : rc == FM_ERR_TOPIC    ? FACTMESH__ERROR_CODE__ERROR_MALFORMED
                                                             : FACTMESH__ERROR_CODE__ERROR_INTERNAL;
    (void) node_reply_error (p->node, to, control->request, control->replay_open->session, code,
                             rc == -ENOMEM ? "out of memory" : fm_error_detail ());
}

static int open_session (struct fm_publisher *p, const struct node_route *from, const Factmesh__Control *control, uint64_t now)
{
    struct publisher_repair *r = p->repair;
    const size_t old = find_session (r, from, control->replay_open->session);
    if (old < r->count)
        drop_session (r, old);      /* the asker begins anew under the same number */
    size_t of_peer = 0;
    for (size_t i = 0; i < r->count; i++)
        of_peer += route_equal (&r->sessions[i]->from, from);
    struct session *s = NULL;
    int rc = 0;
    if (r->count == REPAIRS_MAX || of_peer == REPAIRS_PER_PEER_MAX)
        rc = error_set (FM_ERR_LIMIT, "%zu repairs are being served, %zu of them for this peer; ask again later", r->count, of_peer);
    else
        rc = session_new (from, control, now, &s);
    if (rc) {
        refuse (p, from, control, rc);
        return 0;                   /* answered */
    }
    r->sessions[r->count++] = s;
    node_count (p->node, NODE_REPAIRS_SERVED, 1);
    node_wake (p->node);
    return 0;
}

int publisher_repair_control (struct fm_publisher *p, const struct node_route *from, const Factmesh__Control *control, uint64_t now)
{
    struct publisher_repair *r = p->repair;
    if (control->body_case == FACTMESH__CONTROL__BODY_REPLAY_OPEN)
        return open_session (p, from, control, now);
    const bool closes = control->body_case == FACTMESH__CONTROL__BODY_REPLAY_CLOSE;
    const size_t i = find_session (r, from, closes ? control->replay_close->session : control->replay_credit->session);
    if (i == r->count)
        return FM_ERR_UNKNOWN;
    if (closes) {
        drop_session (r, i);
        return 0;
    }
    r->sessions[i]->heard_ns = now;
    grant (r->sessions[i], control->replay_credit->bytes);
    node_wake (p->node);
    return 0;
}

/* ------------------------------------------------------------------ one message */

/* References to batches of the window, taken under the lock. */
struct taken {
    size_t count, bytes;
    struct taken_batch {
        uint64_t end_seq;
        size_t body_pos;
        zmq_msg_t message;
    } batches[REPAIR_BATCHES_MAX];
    uint64_t held_seq;                  /* the first sequence from next_seq on that is held; behind what was sent: none is */
    uint64_t synced, sent;              /* of the window */
    bool journal;                       /* there is one, or was */
};

static void take_batches (struct fm_publisher *p, const struct session *s, struct taken *t)
{
    t->count = t->bytes = 0;
    pthread_mutex_lock (&p->lock);
    t->synced = p->window.synced;
    t->journal = p->identity.journal;
    t->sent = publisher_sent (p);
    struct window *window = &p->window;
    struct window_item *item = window_find_from (window, s->next_seq);
    struct window_item *given_up = window_find_from (&p->given_up, s->next_seq);
    if (given_up && (!item || given_up->first_seq < item->first_seq)) {     /* journals gave it up: whoever wants it has it from here alone */
        window = &p->given_up;
        item = given_up;
    }
    t->held_seq = !item ? p->window.next_seq : item->first_seq > s->next_seq ? item->first_seq : s->next_seq;
    if (t->held_seq > s->next_seq)
        item = NULL;                    /* the gap first */
    while (item && item->first_seq < s->end_seq && t->count < REPAIR_BATCHES_MAX) {
        const size_t len = zmq_msg_size (&item->message) - item->body_pos;
        if (t->count > 0 && t->bytes + len > s->message_bytes)
            break;
        struct taken_batch *b = &t->batches[t->count++];
        b->end_seq = item->end_seq;
        b->body_pos = item->body_pos;
        zmq_msg_init (&b->message);
        zmq_msg_copy (&b->message, &item->message);
        t->bytes += len;
        item = window_after (window, item);
    }
    pthread_mutex_unlock (&p->lock);
}

static void release_taken (struct taken *t)
{
    for (size_t i = 0; i < t->count; i++)
        zmq_msg_close (&t->batches[i].message);
}

/* Has the batch a topic that the asker wants? */
static bool wanted (struct publisher_repair *r, const struct session *s, struct fm_slice bytes)
{
    struct batch b;
    if (s->filter_count == 0 || batch_decode (bytes.data, bytes.len, slice (NULL, 0), &r->scratch, &b))
        return true;                /* no memory for the scratch: the asker filters as well */
    for (uint32_t i = 0; i < b.topic_count; i++) {
        for (size_t f = 0; f < s->filter_count; f++) {
            if (topic_match (s->filters[f], b.topics[i].name))
                return true;
        }
    }
    return false;
}

static int reserve_fields (struct publisher_repair *r, size_t size)
{
    if (size <= r->fields_size && (r->fields_size <= REPAIR_SCRATCH_KEPT || size > REPAIR_SCRATCH_KEPT))
        return 0;
    uint8_t *fields = realloc (r->fields, size);
    if (!fields)
        return -ENOMEM;
    r->fields = fields;
    r->fields_size = size;
    return 0;
}

static int gather (struct publisher_repair *r, const struct session *s, struct taken *t, struct fm_slice *ret_fields)
{
    enum { FIELD_HEAD_MAX = 12 };   /* replay_batch_field */
    int rc = reserve_fields (r, t->bytes + t->count * FIELD_HEAD_MAX);
    if (rc)
        return rc;
    uint8_t *p = r->fields;
    for (size_t i = 0; i < t->count; i++) {
        struct taken_batch *b = &t->batches[i];
        const struct fm_slice bytes = slice ((const uint8_t *) zmq_msg_data (&b->message) + b->body_pos,
                                             zmq_msg_size (&b->message) - b->body_pos);
        if (!wanted (r, s, bytes))
            continue;
        p = replay_batch_field (p, bytes.len);
        memcpy (p, bytes.data, bytes.len);
        p += bytes.len;
    }
    *ret_fields = slice (r->fields, (size_t) (p - r->fields));
    return 0;
}

/* Encode and send; the session has it, or nothing has changed. */
static int send_data (struct fm_publisher *p, struct session *s, const struct replay_header *h, struct fm_slice fields)
{
    zmq_msg_t message;
    int rc = replay_data_encode (h, node_mesh (p->node), fields, &message);
    if (rc)
        return rc;
    const size_t len = zmq_msg_size (&message);
    rc = node_reply (p->node, &s->from, &message);
    if (rc) {
        zmq_msg_close (&message);
        return rc;
    }
    s->credit -= (int64_t) len;
    return 0;
}

/* Tell [next_seq, end) as a gap; of one that we let go unsynced also that this is all that will ever be known of it. */
static int send_gap (struct fm_publisher *p, struct session *s, uint64_t end, Factmesh__GapReason reason, bool journal)
{
    const struct replay_gap gap = {
        .stream = p->identity.stream,
        .first_seq = s->next_seq,
        .end_seq = end,
        .reason = reason,
        .journal = journal,
    };
    const struct replay_covered covered = { .stream = p->identity.stream, .through = end - 1 };
    const struct replay_header h = {
        .session = s->number,
        .gaps = &gap,
        .gap_count = 1,
        .covered = &covered,
        .covered_count = reason == FACTMESH__GAP_REASON__GAP_SYNCED ? 0 : 1,
    };
    return send_data (p, s, &h, slice (NULL, 0));
}

static int send_end (struct fm_publisher *p, struct session *s)
{
    Factmesh__ReplayEnd end = FACTMESH__REPLAY_END__INIT;
    end.session = s->number;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = s->request;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_END;
    control.replay_end = &end;
    zmq_msg_t message;
    int rc = control_encode (&control, node_mesh (p->node), &message);
    if (rc)
        return rc;
    rc = node_reply (p->node, &s->from, &message);
    if (rc)
        zmq_msg_close (&message);
    return rc;
}

/* What lies below the window, or between two epochs in it. */
static int serve_gap (struct fm_publisher *p, struct session *s, const struct taken *t)
{
    uint64_t end = t->held_seq < s->end_seq ? t->held_seq : s->end_seq;
    const uint64_t epoch_first = p->identity.epoch_first_seq;
    const uint64_t asked_elsewhere_end = t->synced + 1 > epoch_first ? t->synced + 1 : epoch_first;
    if (s->next_seq < asked_elsewhere_end) {
        if (end > asked_elsewhere_end)
            end = asked_elsewhere_end;
        const int rc = send_gap (p, s, end, FACTMESH__GAP_REASON__GAP_SYNCED, t->journal);
        if (rc == 0)
            s->end_seq = s->next_seq;       /* nothing more: see the head of this file */
        return rc;
    }
    const int rc = send_gap (p, s, end, FACTMESH__GAP_REASON__GAP_NOT_HELD, false);
    if (rc == 0)
        s->next_seq = end;
    return rc;
}

static int serve_batches (struct fm_publisher *p, struct session *s, struct taken *t)
{
    assert (t->count > 0);
    struct fm_slice fields;
    int rc = gather (p->repair, s, t, &fields);
    if (rc)
        return rc;
    const uint64_t through = t->batches[t->count - 1].end_seq - 1;
    const struct replay_covered covered = { .stream = p->identity.stream, .through = through };
    const struct replay_header h = { .session = s->number, .covered = &covered, .covered_count = 1 };
    rc = send_data (p, s, &h, fields);
    if (rc == 0)
        s->next_seq = through + 1;
    return rc;
}

/* Send the session's next message. Returns 0, FM_ERR_END (it is complete, and told so), or why it could not be sent. */
static int serve (struct fm_publisher *p, struct session *s)
{
    struct taken t;
    take_batches (p, s, &t);
    int rc;
    if (s->next_seq >= s->end_seq || s->next_seq > t.sent) {
        rc = send_end (p, s);
        rc = rc ? rc : FM_ERR_END;
    } else if (s->next_seq < t.held_seq) {
        rc = serve_gap (p, s, &t);
    } else {
        rc = serve_batches (p, s, &t);
    }
    release_taken (&t);
    return rc;
}

/* ------------------------------------------------------------------ turns */

static bool may_serve (const struct session *s, uint64_t now)
{
    return s->credit > 0 && now >= s->retry_ns;
}

static uint64_t next_turn (const struct publisher_repair *r, uint64_t now)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < r->count; i++) {
        const struct session *s = r->sessions[i];
        uint64_t at = s->heard_ns + (uint64_t) REPAIR_IDLE_MS * NS_PER_MS;
        if (s->credit > 0)
            at = s->retry_ns > now ? s->retry_ns : now + REPAIR_TURN_US * NS_PER_US;
        due = at < due ? at : due;
    }
    return due;
}

uint64_t publisher_repair_tick (struct fm_publisher *p, uint64_t now)
{
    struct publisher_repair *r = p->repair;
    size_t left = r->count, bytes = 0;      /* sessions in a row that had nothing to send */
    while (r->count > 0 && left > 0 && bytes < REPAIR_TICK_BYTES) {
        if (r->turn >= r->count)
            r->turn = 0;
        struct session *s = r->sessions[r->turn];
        int rc = -EAGAIN;
        const int64_t credit = s->credit;
        if (may_serve (s, now)) {
            rc = serve (p, s);
            if (rc == -EAGAIN || rc == -ENOMEM)
                s->retry_ns = now + (uint64_t) REPAIR_RETRY_MS * NS_PER_MS;
        }
        const bool idle = now > s->heard_ns + (uint64_t) REPAIR_IDLE_MS * NS_PER_MS;
        if (rc == 0) {
            bytes += (size_t) (credit - s->credit);
            left = r->count;
            s->heard_ns = now;              /* it takes what we send */
            r->turn++;
        } else if ((rc != -EAGAIN && rc != -ENOMEM) || idle) {
            drop_session (r, r->turn);      /* complete, unreachable, or its asker has gone */
            left = r->count;
        } else {
            left--;
            r->turn++;
        }
    }
    return next_turn (r, now);
}
