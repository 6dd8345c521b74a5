#include "server.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "error.h"
#include "marks.h"
#include "server_inner.h"

enum { NS_PER_MS = 1000000 };

/* --- Answers. */

Factmesh__ErrorCode server_error_code (int rc)
{
    switch (rc) {
    case FM_ERR_TOPIC:
    case FM_ERR_MALFORMED:
    case FM_ERR_TOO_LARGE:
        return FACTMESH__ERROR_CODE__ERROR_MALFORMED;
    case FM_ERR_VERSION:
        return FACTMESH__ERROR_CODE__ERROR_VERSION;
    case FM_ERR_ARGUMENT:
        return FACTMESH__ERROR_CODE__ERROR_RANGE;
    case FM_ERR_GENERATION:
        return FACTMESH__ERROR_CODE__ERROR_GENERATION;
    case FM_ERR_LIMIT:
    case FM_ERR_FULL:
        return FACTMESH__ERROR_CODE__ERROR_LIMIT;
    case FM_ERR_READ_ONLY:
        return FACTMESH__ERROR_CODE__ERROR_READ_ONLY;
    case FM_TIMEOUT:
        return FACTMESH__ERROR_CODE__ERROR_TIMEOUT;
    case FM_ERR_UNKNOWN:
        return FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR;
    default:
        return FACTMESH__ERROR_CODE__ERROR_INTERNAL;
    }
}

void server_refuse (struct server *s, const struct node_route *to, uint64_t request, uint64_t session, int rc)
{
    const char *detail = fm_error_detail ();
    journal_count (s->context, JOURNAL_REQUESTS_REFUSED, 1);
    /* Whoever does not get it times out. */
    (void) node_reply_error (s->context->node, to, request, session, server_error_code (rc), *detail ? detail : fm_error_text (rc));
}

void server_answer (struct server *s, const struct node_route *to, Factmesh__Control *control)
{
    zmq_msg_t message;
    if (control_encode (control, node_mesh (s->context->node), &message) != 0)
        return;
    if (node_reply (s->context->node, to, &message) != 0)
        zmq_msg_close (&message);
}

/* --- The queue. */

static bool queue_put (struct server *s, const struct server_command *c)
{
    const size_t max = c->kind == SERVER_REQUEST ? SERVER_QUEUE_OPENS_MAX : SERVER_QUEUE_MAX;
    pthread_mutex_lock (&s->lock);
    const bool fits = s->queue_count < max;
    if (fits)
        s->queue[(s->queue_first + s->queue_count++) % SERVER_QUEUE_MAX] = *c;
    pthread_mutex_unlock (&s->lock);
    if (fits)
        wake_raise (&s->context->bells[BELL_SERVER].wake);
    return fits;
}

static bool queue_take (struct server *s, struct server_command *ret_command)
{
    pthread_mutex_lock (&s->lock);
    const bool any = s->queue_count > 0;
    if (any) {
        *ret_command = s->queue[s->queue_first];
        s->queue_first = (s->queue_first + 1) % SERVER_QUEUE_MAX;
        s->queue_count--;
    }
    pthread_mutex_unlock (&s->lock);
    return any;
}

/* --- The node's thread. */

/* Has this node publishers of its own, who answer for their sessions? */
static bool is_alone (struct server *s)
{
    Factmesh__StreamHead head;
    return node_streams (s->context->node, &head, 1) == 0;
}

/* A range that only this node's own publisher can have: it is its to answer, even to our own intake. */
static bool is_publishers (struct server *s, const Factmesh__ReplayOpen *open)
{
    struct fm_id stream, owner;
    struct log_stream known;
    if (open->start_case != FACTMESH__REPLAY_OPEN__START_FROM_SEQ || control_get_id (&open->stream, &stream) != 0
        || !marks_owner (s->context->marks, &stream, &owner) || !id_equal (&owner, node_id (s->context->node)))
        return false;
    return log_stream_get (s->context->log, &stream, &known) != 0 || open->from_seq > known.synced_seq;
}

static int enqueue_request (struct server *s, const struct node_route *from, const Factmesh__Control *control)
{
    struct server_command c = { .kind = SERVER_REQUEST, .from = *from, .request = control->request };
    c.packed_len = factmesh__control__get_packed_size (control);
    c.packed = malloc (c.packed_len ? c.packed_len : 1);
    if (!c.packed)
        return -ENOMEM;
    factmesh__control__pack (control, c.packed);
    if (queue_put (s, &c))
        return 0;
    free (c.packed);
    journal_count (s->context, JOURNAL_REQUESTS_REFUSED, 1);
    return error_set (FM_ERR_LIMIT, "%d requests are waiting; ask again later", (int) SERVER_QUEUE_OPENS_MAX);
}

static int take_control (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    struct server *s = arg;
    struct server_command c = { .from = *from, .request = control->request };
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_REPLAY_OPEN:
        if (is_publishers (s, control->replay_open))
            return FM_ERR_UNKNOWN;
        return enqueue_request (s, from, control);
    case FACTMESH__CONTROL__BODY_CURSOR_PUT:
    case FACTMESH__CONTROL__BODY_CURSOR_GET:
    case FACTMESH__CONTROL__BODY_CURSOR_DELETE:
    case FACTMESH__CONTROL__BODY_CURSOR_LIST:
    case FACTMESH__CONTROL__BODY_STATUS_GET:
        return enqueue_request (s, from, control);
    case FACTMESH__CONTROL__BODY_REPLAY_CREDIT:
        c.kind = SERVER_CREDIT;
        c.session = control->replay_credit->session;
        c.bytes = control->replay_credit->bytes;
        break;
    case FACTMESH__CONTROL__BODY_REPLAY_CLOSE:
        c.kind = SERVER_CLOSE;
        c.session = control->replay_close->session;
        break;
    default:
        return FM_ERR_UNKNOWN;
    }
    c.alone = is_alone (s);
    if (!queue_put (s, &c))
        return error_set (FM_ERR_LIMIT, "%d messages are waiting: the session must be opened again", (int) SERVER_QUEUE_MAX);
    /* The session may be one of a publisher of this node: it is asked as well. */
    return c.alone ? 0 : FM_ERR_UNKNOWN;
}

/* --- The server's thread. */

static void take_request (struct server *s, struct server_command *c, uint64_t now)
{
    Factmesh__Control *control = factmesh__control__unpack (NULL, c->packed_len, c->packed);
    free (c->packed);
    if (!control) {
        server_refuse (s, &c->from, c->request, 0, -ENOMEM);
        return;
    }
    if (control->body_case == FACTMESH__CONTROL__BODY_REPLAY_OPEN)
        session_open (s, &c->from, c->request, control->replay_open);
    else
        request_take (s, &c->from, control, now);
    factmesh__control__free_unpacked (control, NULL);
}

static void take_commands (struct server *s, uint64_t now)
{
    struct server_command c;
    for (unsigned n = 0; n < SERVER_QUEUE_MAX && queue_take (s, &c); n++) {
        switch (c.kind) {
        case SERVER_REQUEST:
            take_request (s, &c, now);
            break;
        case SERVER_CREDIT:
            session_credit (s, &c);
            break;
        case SERVER_CLOSE:
            session_close (s, &c);
            break;
        }
    }
}

/* Those that follow must be woken by the next sync; said before they look, so that none is missed. */
static void want_synced (struct server *s)
{
    atomic_store (&s->context->bells[BELL_SERVER].wanted, s->places[SESSION_DATA].first || s->places[SESSION_READY].first || s->waiting);
    struct log_position at;
    log_position (s->context->log, &at);
    if (at.synced_offset == s->synced_offset)
        return;
    s->synced_offset = at.synced_offset;
    sessions_synced (s);
}

static void *server_run (void *arg)
{
    struct server *s = arg;
    (void) pthread_setname_np (pthread_self (), "fm-server");   /* for people alone */
    node_thread_lower (JOURNAL_SERVE_NICE);                     /* recording comes first */
    uint64_t due = 0;
    while (!atomic_load (&s->stop)) {
        uint64_t now = node_now ();
        const int wait_ms = due <= now ? 0 : due - now < (uint64_t) 1000 * NS_PER_MS ? (int) ((due - now) / NS_PER_MS) + 1 : 1000;
        struct pollfd wait = { .fd = s->context->bells[BELL_SERVER].wake.fd, .events = POLLIN };
        (void) poll (&wait, 1, wait_ms);        /* whatever it returns, all is looked at */
        wake_clear (&s->context->bells[BELL_SERVER].wake);
        now = node_now ();
        take_commands (s, now);
        want_synced (s);
        const uint64_t requests_due = requests_settle (s, now);
        const bool more = sessions_turn (s, now);
        const uint64_t sessions_due = sessions_sweep (s, node_now ());
        due = more ? 0 : requests_due < sessions_due ? requests_due : sessions_due;
    }
    return NULL;
}

int server_new (struct journal_context *context, struct server **ret_server)
{
    struct server *s = calloc (1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->context = context;
    s->waiting_end = &s->waiting;
    atomic_init (&s->stop, false);
    pthread_mutex_init (&s->lock, NULL);
    s->queue = calloc (SERVER_QUEUE_MAX, sizeof *s->queue);
    int rc = s->queue ? sessions_init (s) : -ENOMEM;
    if (!rc) {
        rc = journal_thread (&s->thread, server_run, s);
        s->runs = rc == 0;
    }
    if (!rc) {
        /* Before publishers of this node, which may be there already: what they let go is in the log. */
        rc = node_handle_first (context->node, take_control, s);
        s->handles = rc == 0;
    }
    if (rc) {
        server_destroy (&s);
        return rc;
    }
    *ret_server = s;
    return 0;
}

void server_destroy (struct server **server)
{
    struct server *s = *server;
    if (!s)
        return;
    *server = NULL;
    if (s->handles)
        node_unhandle (s->context->node, s);
    if (s->runs) {
        atomic_store (&s->stop, true);
        wake_raise (&s->context->bells[BELL_SERVER].wake);
        pthread_join (s->thread, NULL);
    }
    struct server_command c;
    while (s->queue && queue_take (s, &c))
        free (c.packed);
    sessions_release (s);
    requests_release (s);
    pthread_mutex_destroy (&s->lock);
    free (s->queue);
    free (s);
}
