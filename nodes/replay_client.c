#include "replay_client.h"
#include "error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A session's number is its place in the table below a count that never repeats, so that an answer finds it at once and a late one of
 * an earlier session finds nothing. Requests take numbers from the same count, with a place that is none. */
enum { SLOT_BITS = 11, SLOT_NONE = (1 << SLOT_BITS) - 1, TEXT_MAX = 256, CREDIT_SHARE = 4, CREDIT_FIRST = 16 << 10, CREDIT_GROWS_MS = 500, CREDIT_SHRINKS_MS = 2000 };
static_assert ((int) REPLAY_SESSIONS_MAX < (int) SLOT_NONE, "a slot fits its bits");

struct session {
    uint64_t number;                    /* 0: free */
    uint64_t credit, credit_max;        /* granted at once: so much, and at most */
    int64_t consumed;                   /* bytes not given back yet; below 0: so many are kept */
    uint64_t taken, taken_ns;           /* bytes since then, to see how fast they come */
};

struct replay_client {
    struct fm_node *node;
    void *socket;
    int fd;
    uint64_t numbers;
    struct session *sessions;
    size_t session_size, session_count;
    uint64_t messages;                  /* that came */
    struct node_sign sign;              /* of the holder */
    bool queued;                        /* the last receive brought something: what is next may be old */
    zmq_msg_t message;                  /* what was received last, */
    bool unread;                        /* and, for want of memory, not looked at yet: what follows it would pass over what it brings */
    uint64_t consuming_number, consuming_bytes;     /* whose message it is, and how long */
    struct replay_view view;
    Factmesh__Control *control;
    char text[TEXT_MAX];
};

int replay_client_new (struct fm_node *node, const char *control_address, struct replay_client **ret_client)
{
    struct replay_client *client = calloc (1, sizeof *client);
    if (!client)
        return -ENOMEM;
    client->node = node;
    zmq_msg_init (&client->message);
    int rc = node_socket (node, ZMQ_DEALER, &client->socket);
    if (rc != 0)
        goto fail;
    if (node_connect (client->socket, control_address) != 0) {
        rc = error_set (FM_ERR_ADDRESS, "connect to '%s': %s", control_address, zmq_strerror (errno));
        goto fail;
    }
    size_t fd_len = sizeof client->fd;
    if (zmq_getsockopt (client->socket, ZMQ_FD, &client->fd, &fd_len) != 0) {
        rc = -errno;
        goto fail;
    }
    node_sign_watch (node, &client->sign, control_address);
    *ret_client = client;
    return 0;
fail:
    replay_client_destroy (&client);
    return rc;
}

void replay_client_destroy (struct replay_client **client)
{
    struct replay_client *c = *client;
    if (!c)
        return;
    node_sign_unwatch (c->node, &c->sign);
    zmq_msg_close (&c->message);
    if (c->socket)
        zmq_close (c->socket);
    if (c->control)
        factmesh__control__free_unpacked (c->control, NULL);
    replay_view_release (&c->view);
    free (c->sessions);
    free (c);
    *client = NULL;
}

int replay_client_fd (const struct replay_client *client)
{
    return client->fd;
}

size_t replay_client_sessions (const struct replay_client *client)
{
    return client->session_count;
}

uint64_t replay_client_last (const struct replay_client *client)
{
    return client->numbers << SLOT_BITS | SLOT_NONE;
}

uint64_t replay_client_messages (const struct replay_client *client)
{
    return client->messages;
}

static int send_control (struct replay_client *client, Factmesh__Control *control)
{
    zmq_msg_t message;
    int rc = control_encode (control, node_mesh (client->node), &message);
    if (rc != 0)
        return rc;
    do
        rc = zmq_msg_send (&message, client->socket, ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    if (rc >= 0)
        return 0;
    rc = -errno;
    zmq_msg_close (&message);
    return rc;
}

static struct session *find_session (const struct replay_client *client, uint64_t number)
{
    const size_t slot = number & SLOT_NONE;
    return number && slot < client->session_size && client->sessions[slot].number == number ? &client->sessions[slot] : NULL;
}

static int free_slot (struct replay_client *client, size_t *ret_slot)
{
    for (size_t i = 0; i < client->session_size; i++) {
        if (client->sessions[i].number == 0) {
            *ret_slot = i;
            return 0;
        }
    }
    if (client->session_size == REPLAY_SESSIONS_MAX)
        return error_set (FM_ERR_LIMIT, "%d replay sessions with one holder are open", REPLAY_SESSIONS_MAX);
    const size_t size = client->session_size ? 2 * client->session_size : 4;
    struct session *grown = realloc (client->sessions, size * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    memset (grown + client->session_size, 0, (size - client->session_size) * sizeof *grown);
    *ret_slot = client->session_size;
    client->sessions = grown;
    client->session_size = size;
    return 0;
}

static_assert ((REPLAY_SESSIONS_MAX & (REPLAY_SESSIONS_MAX - 1)) == 0, "the table doubles up to its limit");

int replay_client_open (struct replay_client *client, Factmesh__ReplayOpen *open, uint64_t *ret_session)
{
    size_t slot = 0;
    int rc = free_slot (client, &slot);
    if (rc != 0)
        return rc;
    open->session = ++client->numbers << SLOT_BITS | slot;
    const uint64_t credit_max = open->credit ? open->credit : REPLAY_CREDIT_DEFAULT;
    open->credit = credit_max < CREDIT_FIRST ? credit_max : CREDIT_FIRST;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = open->session;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = open;
    rc = send_control (client, &control);
    if (rc != 0)
        return rc;
    client->sessions[slot] = (struct session) { .number = open->session, .credit = open->credit, .credit_max = credit_max, .taken_ns = node_now () };
    client->session_count++;
    *ret_session = open->session;
    return 0;
}

static void forget (struct replay_client *client, struct session *session)
{
    session->number = 0;
    client->session_count--;
}

void replay_client_close (struct replay_client *client, uint64_t session)
{
    struct session *s = find_session (client, session);
    if (!s)
        return;
    forget (client, s);
    Factmesh__ReplayClose close = FACTMESH__REPLAY_CLOSE__INIT;
    close.session = session;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_CLOSE;
    control.replay_close = &close;
    (void) send_control (client, &control);     /* else the holder stops when its credit is used up */
}

int replay_client_request (struct replay_client *client, Factmesh__Control *control, uint64_t *ret_request)
{
    control->request = ++client->numbers << SLOT_BITS | SLOT_NONE;
    const int rc = send_control (client, control);
    if (rc == 0)
        *ret_request = control->request;
    return rc;
}

/* Twice as much is granted when what was came soon, and half when it took long: about a second's worth is under way then, however fast the connection is.
 * Over a slow one more would keep others' answers waiting behind it, and go on coming when it is not wanted any more. */
static void fit (struct session *s)
{
    if (s->taken < s->credit)
        return;
    const uint64_t now_ns = node_now (), took_ms = (now_ns - s->taken_ns) / 1000000;
    if (took_ms < CREDIT_GROWS_MS) {
        const uint64_t more = s->credit_max - s->credit < s->credit ? s->credit_max - s->credit : s->credit;
        s->credit += more;
        s->consumed += (int64_t) more;
    } else if (took_ms > CREDIT_SHRINKS_MS && s->credit >= 2 * CREDIT_FIRST) {
        const uint64_t less = s->credit / 2;
        s->credit -= less;
        s->consumed -= (int64_t) less;
    }
    s->taken = 0;
    s->taken_ns = now_ns;
}

/* Give back credit for the message received last: its reader asks for the next one, so it is done with it. */
static void earn (struct replay_client *client)
{
    struct session *s = find_session (client, client->consuming_number);
    client->consuming_number = 0;
    if (!s)
        return;
    s->consumed += (int64_t) client->consuming_bytes;
    s->taken += client->consuming_bytes;
    fit (s);
    if (s->consumed < (int64_t) (s->credit / CREDIT_SHARE))
        return;
    Factmesh__ReplayCredit credit = FACTMESH__REPLAY_CREDIT__INIT;
    credit.session = s->number;
    credit.bytes = (uint64_t) s->consumed;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_CREDIT;
    control.replay_credit = &credit;
    if (send_control (client, &control) == 0)
        s->consumed = 0;
}

static bool read_data (struct replay_client *client, struct fm_slice frame, struct replay_event *ret_event)
{
    const int rc = replay_data_decode (frame.data, frame.len, node_mesh (client->node), &client->view);
    client->unread = rc == -ENOMEM;
    if (rc != 0)
        return false;
    const struct session *s = find_session (client, client->view.header.session);
    if (!s)
        return false;
    client->consuming_number = s->number;
    client->consuming_bytes = frame.len;
    *ret_event = (struct replay_event) { .kind = REPLAY_DATA, .session = s->number, .view = &client->view };
    return true;
}

static bool read_error (struct replay_client *client, const Factmesh__Control *control, struct replay_event *ret_event)
{
    const Factmesh__Error *error = control->error;
    struct session *s = find_session (client, error->session ? error->session : control->request);
    if (!s && (error->session || (control->request & SLOT_NONE) != SLOT_NONE))
        return false;
    const int len = error->text.len < TEXT_MAX ? (int) error->text.len : TEXT_MAX - 1;
    (void) snprintf (client->text, sizeof client->text, "%.*s", len, len ? (const char *) error->text.data : "");
    *ret_event = (struct replay_event) { .kind = REPLAY_ERROR, .session = s ? s->number : 0, .request = control->request, .code = error->code,
                                         .text = client->text };
    if (s)
        forget (client, s);
    return true;
}

static bool read_control (struct replay_client *client, struct fm_slice frame, struct replay_event *ret_event)
{
    const int rc = control_decode (frame.data, frame.len, node_mesh (client->node), &client->control);
    client->unread = rc == -ENOMEM;
    if (rc != 0)
        return false;
    const Factmesh__Control *control = client->control;
    struct session *s;
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_REPLAY_END:
        s = find_session (client, control->replay_end->session);
        if (!s)
            return false;
        *ret_event = (struct replay_event) { .kind = REPLAY_END, .session = s->number, .next_offset = control->replay_end->next_offset };
        forget (client, s);
        return true;
    case FACTMESH__CONTROL__BODY_ERROR:
        return read_error (client, control, ret_event);
    case FACTMESH__CONTROL__BODY_CURSOR_REPLY:
    case FACTMESH__CONTROL__BODY_STATUS_REPLY:
    case FACTMESH__CONTROL__BODY_FACT_REPLY:
    case FACTMESH__CONTROL__BODY_LINKS_REPLY:
    case FACTMESH__CONTROL__BODY_GROUP_JOINED:
    case FACTMESH__CONTROL__BODY_GROUP_REPLY:
    case FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM:
    case FACTMESH__CONTROL__BODY_WORK:
    case FACTMESH__CONTROL__BODY_BLOB_PUT_STATE:
    case FACTMESH__CONTROL__BODY_BLOB_DATA:
    case FACTMESH__CONTROL__BODY_BLOB_REPLY:
        *ret_event = (struct replay_event) { .kind = REPLAY_OTHER, .request = control->request, .control = client->control };
        return true;
    default:
        return false;
    }
}

int replay_client_receive (struct replay_client *client, struct replay_event *ret_event)
{
    earn (client);
    for (;;) {
        if (client->control) {
            factmesh__control__free_unpacked (client->control, NULL);
            client->control = NULL;
        }
        if (!client->unread) {
            if (zmq_msg_recv (&client->message, client->socket, ZMQ_DONTWAIT) < 0) {
                if (errno == EINTR)
                    continue;
                client->queued = false;
                return -EAGAIN;
            }
            if (!client->queued)
                node_sign_give (&client->sign);
            client->queued = true;
            node_count (client->node, NODE_CONTROL_RECEIVED, 1);
            client->messages++;
        }
        const struct fm_slice frame = slice (zmq_msg_data (&client->message), zmq_msg_size (&client->message));
        const bool known = replay_data_is (frame.data, frame.len) ? read_data (client, frame, ret_event) : read_control (client, frame, ret_event);
        if (known || client->unread)
            return known ? 0 : -ENOMEM;
    }
}
