/* node_control: control messages that come in: from the ROUTER (others ask and tell us) and from the DEALERs (they answer us). All by the node's thread.
 *
 * Errors are answers and travel from ROUTER to DEALER only; what comes wrongly on a DEALER is never answered. So no two nodes can
 * keep refusing each other's refusals. */

#include "node_inner.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <xxhash.h>

#include "error.h"

static void members_lock (struct fm_node *node)
{
    (void) pthread_mutex_lock (&node->members_lock);    /* cannot fail: initialised, and never locked twice by a thread */
}

/* After an event: let others look again, then do what the membership wants. */
static void members_done (struct fm_node *node)
{
    (void) pthread_mutex_unlock (&node->members_lock);
    node_act (node);
}

/* --- Refusing. */

static bool time_to_tell (uint64_t *told_ns)
{
    const uint64_t now_ns = node_now ();
    if (*told_ns && now_ns - *told_ns < ERRORS_TOLD_EVERY_MS * UINT64_C (1000000))
        return false;
    *told_ns = now_ns;
    return true;
}

/* Count it and tell a person, not too often. */
static void complain (struct fm_node *node, int code, const char *whence)
{
    node_count (node, NODE_CONTROL_REFUSED, 1);
    switch (code) {
    case FM_ERR_MESH:
        if (time_to_tell (&node->foreign_told_ns))
            node_notice (node, "MESH-FOREIGN", "a node of another mesh is kept out (%s): %s", whence, fm_error_detail ());
        break;
    case FM_ERR_VERSION:
        if (time_to_tell (&node->version_told_ns))
            node_notice (node, "VERSION-FOREIGN", "a node of another version is kept out (%s): %s", whence, fm_error_detail ());
        break;
    default:
        if (time_to_tell (&node->malformed_told_ns))
            node_notice (node, "CONTROL-MALFORMED", "a message was refused (%s): %s", whence, fm_error_detail ());
    }
}

static Factmesh__ErrorCode error_code (int code)
{
    switch (code) {
    case FM_ERR_MALFORMED:
    case FM_ERR_TOPIC:
    case FM_ERR_TOO_LARGE:
    case FM_ERR_ARGUMENT:
        return FACTMESH__ERROR_CODE__ERROR_MALFORMED;
    case FM_ERR_VERSION:
    case FM_ERR_NEWER:
        return FACTMESH__ERROR_CODE__ERROR_VERSION;
    case FM_ERR_MESH:
        return FACTMESH__ERROR_CODE__ERROR_MESH;
    case FM_ERR_NO_JOURNAL:
        return FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL;
    case FM_ERR_GENERATION:
        return FACTMESH__ERROR_CODE__ERROR_GENERATION;
    case FM_ERR_LIMIT:
    case FM_ERR_FULL:
    case -EAGAIN:
        return FACTMESH__ERROR_CODE__ERROR_LIMIT;
    case FM_ERR_END:
        return FACTMESH__ERROR_CODE__ERROR_RANGE;
    case FM_ERR_READ_ONLY:
        return FACTMESH__ERROR_CODE__ERROR_READ_ONLY;
    case FM_TIMEOUT:
        return FACTMESH__ERROR_CODE__ERROR_TIMEOUT;
    case FM_ERR_CONFLICT:
        return FACTMESH__ERROR_CODE__ERROR_STREAM_CONFLICT;
    default:
        return FACTMESH__ERROR_CODE__ERROR_INTERNAL;
    }
}

static void answer_error (struct fm_node *node, const struct node_route *from, uint64_t request, uint64_t session, int code)
{
    char text[512];
    const char *detail = fm_error_detail ();
    (void) snprintf (text, sizeof text, "%s", *detail ? detail : fm_error_text (code));     /* cut if it must be */
    (void) node_reply_error (node, from, request, session, error_code (code), text);        /* it is gone, or doesn't listen */
}

/* --- Bodies beyond membership. */

static uint64_t session_of (const Factmesh__Control *control)
{
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_REPLAY_OPEN:
        return control->replay_open->session;
    case FACTMESH__CONTROL__BODY_REPLAY_CREDIT:
        return control->replay_credit->session;
    case FACTMESH__CONTROL__BODY_REPLAY_CLOSE:
        return control->replay_close->session;
    default:
        return 0;
    }
}

static int ask_handlers (struct fm_node *node, const struct node_route *from, const Factmesh__Control *control, bool all)
{
    int rc = FM_ERR_UNKNOWN;
    uint64_t order = 0;
    for (struct hook *h; (all || rc == FM_ERR_UNKNOWN) && (h = hooks_begin (&node->handlers, &order));) {
        rc = h->control (h->arg, from, control);
        hooks_end (&node->handlers, h);
    }
    return rc;
}

static void dispatch (struct fm_node *node, const struct node_route *from, const Factmesh__Control *control)
{
    (void) error_set (0, "%s", "");     /* what is answered below shall be of this message */
    const bool for_all = control->body_case == FACTMESH__CONTROL__BODY_WATERMARK || control->body_case == FACTMESH__CONTROL__BODY_ERROR;
    int rc = ask_handlers (node, from, control, for_all);
    if (rc == 0 || for_all)
        return;
    if (rc != FM_ERR_UNKNOWN) {
        answer_error (node, from, control->request, session_of (control), rc);
        return;
    }
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_REPLAY_OPEN:
        if (control->replay_open->stream.len > 0) {
            (void) node_reply_error (node, from, control->request, control->replay_open->session, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM,
                                     "this node is no journal, and the stream is not its own");
            return;
        }
        break;
    case FACTMESH__CONTROL__BODY_REPLAY_CREDIT:
    case FACTMESH__CONTROL__BODY_REPLAY_CLOSE:
        return;         /* of a session that has just ended: nothing to say */
    case FACTMESH__CONTROL__BODY_CURSOR_PUT:
    case FACTMESH__CONTROL__BODY_CURSOR_GET:
    case FACTMESH__CONTROL__BODY_CURSOR_DELETE:
    case FACTMESH__CONTROL__BODY_CURSOR_LIST:
    case FACTMESH__CONTROL__BODY_STATUS_GET:
    case FACTMESH__CONTROL__BODY_GROUP_JOIN:
    case FACTMESH__CONTROL__BODY_OUTCOMES:
    case FACTMESH__CONTROL__BODY_GROUP_COMMAND:
    case FACTMESH__CONTROL__BODY_GROUP_LIST:
    case FACTMESH__CONTROL__BODY_FACT_GET:
    case FACTMESH__CONTROL__BODY_LINKS_GET:
    case FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN:
    case FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK:
    case FACTMESH__CONTROL__BODY_BLOB_PUT_END:
    case FACTMESH__CONTROL__BODY_BLOB_READ:
    case FACTMESH__CONTROL__BODY_BLOB_STAT:
    case FACTMESH__CONTROL__BODY_BLOB_LIST:
        break;
    default:
        return;         /* an answer that nobody waits for any more */
    }
    (void) node_reply_error (node, from, control->request, session_of (control), FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL,
                             "this node is no journal");        /* it is gone, or doesn't listen */
}

/* --- From the ROUTER. */

static int take_hello (struct fm_node *node, const Factmesh__Hello *hello)
{
    struct peer_info *info;
    if (!hello->info)
        return error_set (FM_ERR_MALFORMED, "hello: it has no info");
    const int rc = peer_info_read (hello->info, &info);
    if (rc != 0)
        return rc;
    members_lock (node);
    membership_hello (node->membership, node_now (), info);
    members_done (node);
    return 0;
}

static int take_ping (struct fm_node *node, const Factmesh__Ping *ping)
{
    struct fm_id id;
    const int rc = control_get_id (&ping->node, &id);
    if (rc != 0)
        return rc;
    members_lock (node);
    membership_ping (node->membership, node_now (), &id, ping->members_digest, ping->info_version);
    members_done (node);
    return 0;
}

static int take_goodbye (struct fm_node *node, const Factmesh__Goodbye *goodbye)
{
    struct fm_id id;
    const int rc = control_get_id (&goodbye->node, &id);
    if (rc != 0)
        return rc;
    members_lock (node);
    membership_goodbye (node->membership, node_now (), &id);
    members_done (node);
    return 0;
}

static int take_peers (struct fm_node *node, Factmesh__NodeInfo *const *peers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct peer_info *info;
        const int rc = peer_info_read (peers[i], &info);
        if (rc != 0)
            return rc;
        members_lock (node);
        membership_gossip (node->membership, node_now (), info);
        members_done (node);
    }
    return 0;
}

static uint64_t route_hash (const struct fm_node *node, const struct node_route *route)
{
    return XXH3_64bits_withSeed (route->bytes, route->len, node->flood_seed);
}

static void refuse (struct fm_node *node, const struct node_route *from, uint64_t request, int code)
{
    complain (node, code, "control endpoint");
    answer_error (node, from, request, 0, code);
    flood_refused (&node->flood, route_hash (node, from));
}

static void handle_question (struct fm_node *node, const struct node_route *from, const Factmesh__Control *control)
{
    int rc = 0;
    node->asker = from;
    node->asker_request = control->request;
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_HELLO:
        rc = take_hello (node, control->hello);
        break;
    case FACTMESH__CONTROL__BODY_PING:
        rc = take_ping (node, control->ping);
        break;
    case FACTMESH__CONTROL__BODY_GOODBYE:
        rc = take_goodbye (node, control->goodbye);
        break;
    case FACTMESH__CONTROL__BODY_PEERS:
        rc = take_peers (node, control->peers->peers, control->peers->n_peers);
        break;
    default:
        dispatch (node, from, control);
    }
    node->asker = NULL;
    if (rc != 0)
        refuse (node, from, control->request, rc);
}

static int check_mesh (struct fm_node *node, const Factmesh__Control *control)
{
    if (slice_equal (control_get_slice (&control->mesh), node_mesh (node)))
        return 0;
    return error_set (FM_ERR_MESH, "this is mesh '%s', the message is of mesh '%.*s'", node->mesh, (int) control->mesh.len,
                      (const char *) control->mesh.data);
}

static void handle_router_frame (struct fm_node *node, const struct node_route *from, zmq_msg_t *frame, bool whole)
{
    Factmesh__Control *control = NULL;
    node_count (node, NODE_CONTROL_RECEIVED, 1);
    int rc = whole ? control_decode (zmq_msg_data (frame), zmq_msg_size (frame), slice (NULL, 0), &control)
                   : error_set (FM_ERR_MALFORMED, "control: more than one frame in a message");
    if (rc == FM_ERR_UNKNOWN)
        return;         /* of a newer minor version, which gets along without an answer */
    if (rc == 0)
        rc = check_mesh (node, control);
    if (rc == 0) {
        handle_question (node, from, control);
    } else {
        refuse (node, from, control ? control->request : 0, rc);
    }
    if (control)
        factmesh__control__free_unpacked (control, NULL);
}

/* One message: the sender's route, one frame, and no more frames. False: none is there. */
static bool take_from_router (struct fm_node *node, struct node_route *ret_from, zmq_msg_t *frame, bool *ret_whole)
{
    (void) pthread_mutex_lock (&node->control_lock);
    const int len = zmq_recv (node->router, ret_from->bytes, sizeof ret_from->bytes, ZMQ_DONTWAIT);
    node->router_draining = len >= 0;
    if (len >= 0) {
        ret_from->len = (uint8_t) (len < (int) sizeof ret_from->bytes ? len : (int) sizeof ret_from->bytes);
        /* The rest of a message is there when its first frame is. */
        *ret_whole = zmq_msg_recv (frame, node->router, ZMQ_DONTWAIT) >= 0 && !zmq_msg_more (frame);
        for (bool more = zmq_msg_more (frame); more;) {
            zmq_msg_t rest;
            (void) zmq_msg_init (&rest);
            more = zmq_msg_recv (&rest, node->router, ZMQ_DONTWAIT) >= 0 && zmq_msg_more (&rest);
            (void) zmq_msg_close (&rest);       /* fails only for what is no message */
        }
    }
    (void) pthread_mutex_unlock (&node->control_lock);
    return len >= 0;
}

static void tell_shed (struct fm_node *node, uint64_t messages)
{
    if (messages == 0)
        return;
    node_count (node, NODE_CONTROL_SHED, messages);
    if (time_to_tell (&node->flood_told_ns))
        node_notice (node, "CONTROL-FLOOD", "a peer sends more than %d messages a second, faster than they can be answered: the rest is dropped unread",
                     FLOOD_MESSAGES);
}

void node_drain_router (struct fm_node *node)
{
    struct node_route from;
    zmq_msg_t frame;
    bool whole;
    (void) zmq_msg_init (&frame);
    const uint64_t now_ns = node_now ();
    int n = 0, shed = 0;
    bool more = true;
    while (n < CONTROL_BURST && shed < CONTROL_SHED && (more = take_from_router (node, &from, &frame, &whole))) {
        if (flood_admits (&node->flood, route_hash (node, &from), now_ns)) {
            handle_router_frame (node, &from, &frame, whole);
            n++;
        } else {
            shed++;
        }
    }
    (void) zmq_msg_close (&frame);
    tell_shed (node, (uint64_t) shed);
    if (!more) {
        flood_is_over (&node->flood);
    } else {
        (void) pthread_mutex_lock (&node->control_lock);
        node->router_touched = true;            /* there may be more: after the others */
        node->router_draining = false;
        (void) pthread_mutex_unlock (&node->control_lock);
    }
}

/* --- From a DEALER. */

static int take_welcome (struct fm_node *node, uint32_t contact, const Factmesh__Welcome *welcome)
{
    struct peer_info *info;
    if (!welcome->info)
        return error_set (FM_ERR_MALFORMED, "welcome: it has no info");
    const int rc = peer_info_read (welcome->info, &info);
    if (rc != 0)
        return rc;
    members_lock (node);
    membership_welcome (node->membership, node_now (), contact, info);
    members_done (node);
    return take_peers (node, welcome->peers, welcome->n_peers);
}

static int take_pong (struct fm_node *node, uint32_t contact, const Factmesh__Pong *pong)
{
    struct fm_id id;
    const int rc = control_get_id (&pong->node, &id);
    if (rc != 0)
        return rc;
    members_lock (node);
    membership_pong (node->membership, node_now (), contact, &id, pong->members_digest);
    members_done (node);
    return 0;
}

static void take_refusal (struct fm_node *node, uint32_t contact, int code)
{
    complain (node, code, "answer to our Hello");
    members_lock (node);
    membership_refused (node->membership, node_now (), contact, code);
    members_done (node);
}

static void take_error (struct fm_node *node, uint32_t contact, const Factmesh__Control *control)
{
    static const struct node_route nowhere;
    const Factmesh__Error *error = control->error;
    (void) error_set (0, "%.*s", (int) error->text.len, (const char *) error->text.data);
    switch (error->code) {
    case FACTMESH__ERROR_CODE__ERROR_MESH:
        take_refusal (node, contact, FM_ERR_MESH);
        return;
    case FACTMESH__ERROR_CODE__ERROR_VERSION:
        take_refusal (node, contact, FM_ERR_VERSION);
        return;
    case FACTMESH__ERROR_CODE__ERROR_UNKNOWN_NODE:
        members_lock (node);
        membership_unknown_node (node->membership, node_now (), contact);
        members_done (node);
        return;
    default:
        dispatch (node, &nowhere, control);
    }
}

static void handle_answer (struct fm_node *node, uint32_t contact, const Factmesh__Control *control)
{
    int rc = 0;
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_WELCOME:
        rc = take_welcome (node, contact, control->welcome);
        break;
    case FACTMESH__CONTROL__BODY_PONG:
        rc = take_pong (node, contact, control->pong);
        break;
    case FACTMESH__CONTROL__BODY_PEERS:
        rc = take_peers (node, control->peers->peers, control->peers->n_peers);
        break;
    case FACTMESH__CONTROL__BODY_ERROR:
        take_error (node, contact, control);
        break;
    default:
        break;
    }
    if (rc != 0)
        complain (node, rc, "answer");
    members_lock (node);
    membership_sign_of_life (node->membership, node_now (), contact);
    members_done (node);
}

static void handle_contact_frame (struct fm_node *node, uint32_t contact, zmq_msg_t *frame)
{
    Factmesh__Control *control = NULL;
    node_count (node, NODE_CONTROL_RECEIVED, 1);
    int rc = control_decode (zmq_msg_data (frame), zmq_msg_size (frame), slice (NULL, 0), &control);
    if (rc == 0)
        rc = check_mesh (node, control);
    if (rc == 0)
        handle_answer (node, contact, control);
    else if (rc == FM_ERR_MESH || rc == FM_ERR_VERSION)
        take_refusal (node, contact, rc);
    else if (rc != FM_ERR_UNKNOWN)
        complain (node, rc, "answer");
    if (control)
        factmesh__control__free_unpacked (control, NULL);
}

/* The connection's state, after all that was to be read has been. */
static void see_writable (struct fm_node *node, struct node_contact *c, bool writable)
{
    if (c->writable == writable)
        return;
    c->writable = writable;
    members_lock (node);
    membership_writable (node->membership, node_now (), c->number, writable);
    members_done (node);
}

void node_drain_contact (struct fm_node *node, uint32_t number)
{
    zmq_msg_t frame;
    (void) zmq_msg_init (&frame);
    for (int n = 0;; n++) {
        /* What a message causes may close the contact that brought it. */
        struct node_contact *c = node_contact_find (node, number);
        if (!c)
            break;
        int events = 0;
        size_t size = sizeof events;
        (void) pthread_mutex_lock (&node->control_lock);
        const bool got = n < CONTROL_BURST && zmq_msg_recv (&frame, c->dealer, ZMQ_DONTWAIT) >= 0;
        const bool asked = !got && zmq_getsockopt (c->dealer, ZMQ_EVENTS, &events, &size) == 0;
        if (asked && (events & ZMQ_POLLIN))
            node_contact_touch (node, c);       /* a burst's end: the others' turn */
        (void) pthread_mutex_unlock (&node->control_lock);
        if (!got) {
            see_writable (node, c, (events & ZMQ_POLLOUT) != 0);
            break;
        }
        if (zmq_msg_more (&frame))
            continue;                           /* no message of ours has more frames; the last one is refused for what it is */
        handle_contact_frame (node, number, &frame);
    }
    (void) zmq_msg_close (&frame);
}

void node_drain_loop (struct fm_node *node)
{
    /* Answers to what we told ourselves: errors that the one who told has no use for. */
    zmq_msg_t frame;
    (void) zmq_msg_init (&frame);
    (void) pthread_mutex_lock (&node->control_lock);
    while (zmq_msg_recv (&frame, node->loop, ZMQ_DONTWAIT) >= 0) {
    }
    (void) pthread_mutex_unlock (&node->control_lock);
    (void) zmq_msg_close (&frame);
}

void node_drain_touched (struct fm_node *node)
{
    (void) pthread_mutex_lock (&node->control_lock);
    const bool router = node->router_touched, loop = node->loop_touched;
    node->router_touched = node->loop_touched = false;
    size_t count = 0;           /* those that are touched again meanwhile wait for the next round */
    for (const struct node_contact *c = node->touched; c; c = c->next_touched)
        count++;
    (void) pthread_mutex_unlock (&node->control_lock);
    if (router)
        node_drain_router (node);
    if (loop)
        node_drain_loop (node);
    while (count-- > 0) {
        (void) pthread_mutex_lock (&node->control_lock);
        const struct node_contact *c = node_contact_untouch (node);
        const uint32_t number = c ? c->number : 0;
        (void) pthread_mutex_unlock (&node->control_lock);
        if (c)
            node_drain_contact (node, number);
    }
}

bool node_is_touched (struct fm_node *node)
{
    (void) pthread_mutex_lock (&node->control_lock);
    const bool touched = node->router_touched || node->loop_touched || node->touched;
    (void) pthread_mutex_unlock (&node->control_lock);
    return touched;
}
