/* node_send: control messages that leave: answers through the ROUTER, the rest through the DEALERs.
 *
 * ZMQ_FD tells of a change once, and a send takes that in as a receive does. So after each send the socket is asked whether something came
 * meanwhile, and if so the node's thread looks at it (touched). */

#include "node_inner.h"

#include <assert.h>
#include <errno.h>

#include "error.h"

static void lock (struct fm_node *node)
{
    (void) pthread_mutex_lock (&node->control_lock);    /* cannot fail: initialised, and never locked twice by a thread */
}

static void unlock (struct fm_node *node)
{
    (void) pthread_mutex_unlock (&node->control_lock);
}

static int events_of (void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt (socket, ZMQ_EVENTS, &events, &size) == 0 ? events : 0;
}

static int send_failure (void)
{
    switch (errno) {
    case EHOSTUNREACH:
    case ETERM:
        return FM_ERR_UNREACHABLE;
    default:
        return -errno;
    }
}

int node_reply (struct fm_node *node, const struct node_route *to, zmq_msg_t *message)
{
    if (to->len == 0)
        return FM_ERR_UNREACHABLE;
    lock (node);
    /* With ZMQ_ROUTER_MANDATORY the first part meets a full queue or a missing peer, and then the message has not begun. */
    int rc = zmq_send (node->router, to->bytes, to->len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ? send_failure () : 0;
    if (rc == 0 && zmq_msg_send (message, node->router, ZMQ_DONTWAIT) < 0)
        rc = send_failure ();
    /* While it is being drained the thread will look again anyway. */
    const bool wake = !node->router_draining && (events_of (node->router) & ZMQ_POLLIN) && !node->router_touched;
    node->router_touched = node->router_touched || wake;
    unlock (node);
    if (wake)
        node_wake (node);
    return rc;
}

int node_reply_error (struct fm_node *node, const struct node_route *to, uint64_t request, uint64_t session, Factmesh__ErrorCode code, const char *text)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = code;
    error.text = control_put_slice (slice_of (text));
    error.session = session;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = request;
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    zmq_msg_t message;
    int rc = control_encode (&control, node_mesh (node), &message);
    if (rc != 0)
        return rc;
    rc = node_reply (node, to, &message);
    if (rc != 0)
        (void) zmq_msg_close (&message);        /* fails only for what is no message */
    return rc;
}

/* With control_lock. */
static int send_through (struct fm_node *node, struct node_contact *c, zmq_msg_t *message, bool *ret_wake)
{
    const int rc = zmq_msg_send (message, c->dealer, ZMQ_DONTWAIT) < 0 ? send_failure () : 0;
    const int events = events_of (c->dealer);
    *ret_wake = (events & ZMQ_POLLIN) != 0 || ((events & ZMQ_POLLOUT) == 0 && c->writable);
    if (*ret_wake)
        node_contact_touch (node, c);
    return rc;
}

int node_contact_send (struct fm_node *node, uint32_t contact, zmq_msg_t *message)
{
    bool wake;      /* not needed: this is the node's thread, which looks at what is touched before it sleeps */
    lock (node);
    struct node_contact *c = node_contact_find (node, contact);
    const int rc = c ? send_through (node, c, message, &wake) : FM_ERR_UNKNOWN;
    unlock (node);
    return rc;
}

static int tell_ourselves (struct fm_node *node, zmq_msg_t *message, bool *ret_wake)
{
    const int rc = zmq_msg_send (message, node->loop, ZMQ_DONTWAIT) < 0 ? send_failure () : 0;
    *ret_wake = (events_of (node->loop) & ZMQ_POLLIN) != 0;
    node->loop_touched = node->loop_touched || *ret_wake;
    return rc;
}

int node_tell (struct fm_node *node, const struct fm_id *to, zmq_msg_t *message)
{
    bool wake = false;
    int rc;
    lock (node);
    struct node_contact *c = node_route_find (node, to);
    if (c)
        rc = send_through (node, c, message, &wake);
    else if (id_equal (to, &node->id))
        rc = tell_ourselves (node, message, &wake);
    else
        rc = FM_ERR_UNKNOWN;
    unlock (node);
    if (wake)
        node_wake (node);
    return rc;
}

/* --- What the membership wants to be said. */

struct gossip {
    Factmesh__NodeInfo infos[GOSSIP_MAX];
    Factmesh__JournalInfo journals[GOSSIP_MAX];
    Factmesh__NodeInfo *pointers[GOSSIP_MAX];
    size_t count;
};

static void fill_gossip (struct fm_node *node, struct gossip *g)
{
    const struct peer_info *infos[GOSSIP_MAX];
    (void) pthread_mutex_lock (&node->members_lock);    /* picking moves the rotor */
    g->count = membership_pick (node->membership, infos, GOSSIP_MAX);
    (void) pthread_mutex_unlock (&node->members_lock);
    for (size_t i = 0; i < g->count; i++) {
        peer_info_write (infos[i], &g->infos[i], &g->journals[i]);
        g->pointers[i] = &g->infos[i];
    }
}

static void fill_self (struct fm_node *node, Factmesh__NodeInfo *info, Factmesh__JournalInfo *journal)
{
    peer_info_write (membership_self (node->membership), info, journal);
    info->n_streams = node_streams (node, node->heads, STREAMS_PER_NODE_MAX);
    info->streams = node->head_pointers;
    (void) pthread_mutex_lock (&node->members_lock);
    node->own_streams = (unsigned) info->n_streams;
    (void) pthread_mutex_unlock (&node->members_lock);
}

static void send_control (struct fm_node *node, uint32_t contact, Factmesh__Control *control)
{
    zmq_msg_t message;
    int rc = control_encode (control, node_mesh (node), &message);
    if (rc != 0)
        return;         /* no memory: as if it had been lost on the way, which the membership is made for */
    rc = contact ? node_contact_send (node, contact, &message) : node_reply (node, node->asker, &message);
    if (rc != 0)
        (void) zmq_msg_close (&message);        /* a full queue or a lost connection: the same */
}

static void say_self (struct fm_node *node, uint32_t contact, enum membership_message what)
{
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    Factmesh__Hello hello = FACTMESH__HELLO__INIT;
    Factmesh__Welcome welcome = FACTMESH__WELCOME__INIT;
    Factmesh__NodeInfo info;
    Factmesh__JournalInfo journal;
    struct gossip gossip;
    fill_self (node, &info, &journal);
    if (what == SAY_HELLO) {
        hello.info = &info;
        control.body_case = FACTMESH__CONTROL__BODY_HELLO;
        control.hello = &hello;
    } else {
        control.request = node->asker_request;
        welcome.info = &info;
        control.body_case = FACTMESH__CONTROL__BODY_WELCOME;
        control.welcome = &welcome;
    }
    if (what == SAY_WELCOME_PEERS) {
        fill_gossip (node, &gossip);
        welcome.peers = gossip.pointers;
        welcome.n_peers = gossip.count;
    }
    send_control (node, contact, &control);
}

static void say_peers (struct fm_node *node, uint32_t contact)
{
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    Factmesh__Peers peers = FACTMESH__PEERS__INIT;
    struct gossip gossip;
    fill_gossip (node, &gossip);
    peers.peers = gossip.pointers;
    peers.n_peers = gossip.count;
    control.body_case = FACTMESH__CONTROL__BODY_PEERS;
    control.peers = &peers;
    send_control (node, contact, &control);
}

static void say_short (struct fm_node *node, uint32_t contact, enum membership_message what)
{
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    Factmesh__Ping ping = FACTMESH__PING__INIT;
    Factmesh__Pong pong = FACTMESH__PONG__INIT;
    Factmesh__Goodbye goodbye = FACTMESH__GOODBYE__INIT;
    ping.node = pong.node = goodbye.node = control_put_id (&node->id);
    ping.members_digest = pong.members_digest = membership_digest (node->membership);
    ping.info_version = membership_self (node->membership)->version;
    if (what == SAY_PING) {
        control.body_case = FACTMESH__CONTROL__BODY_PING;
        control.ping = &ping;
    } else if (what == SAY_PONG) {
        control.request = node->asker_request;
        control.body_case = FACTMESH__CONTROL__BODY_PONG;
        control.pong = &pong;
    } else {
        control.body_case = FACTMESH__CONTROL__BODY_GOODBYE;
        control.goodbye = &goodbye;
    }
    send_control (node, contact, &control);
}

void node_say (struct fm_node *node, uint32_t contact, enum membership_message message)
{
    assert (contact || node->asker);
    switch (message) {
    case SAY_HELLO:
    case SAY_WELCOME:
    case SAY_WELCOME_PEERS:
        say_self (node, contact, message);
        break;
    case SAY_PEERS:
        say_peers (node, contact);
        break;
    case SAY_PING:
    case SAY_PONG:
    case SAY_GOODBYE:
        say_short (node, contact, message);
        break;
    case SAY_UNKNOWN_NODE:
        (void) node_reply_error (node, node->asker, node->asker_request, 0, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_NODE,
                                 "this node does not know you: say Hello first");      /* lost: it will ping again */
        break;
    case SAY_FULL:
        (void) node_reply_error (node, node->asker, node->asker_request, 0, FACTMESH__ERROR_CODE__ERROR_LIMIT,
                                 "this node knows as many members as it can");         /* lost: it will say Hello again */
        break;
    }
}
