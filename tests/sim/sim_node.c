#include "sim_node.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "error.h"
#include "sim_inner.h"
#include "sim_net.h"

enum { HOOKS_MAX = 16, MEMBERS_HERE_MAX = 256 };
#define MESH "sim"

/* Something for the node's thread to hand out. */
struct news {
    struct news *next;
    enum { NEWS_UP, NEWS_DOWN, NEWS_CONTROL } kind;
    struct node_peer peer;
    bool said_goodbye;
    struct node_route route;
    size_t len;
    uint8_t bytes[];
};

struct fm_node {
    struct fm_node *next;
    struct sim_process *process;
    struct node_peer info;
    struct live *live;
    struct closed_streams closed_streams;
    struct node_worker workers[HOOKS_MAX];
    struct {
        node_control_fn *fn;
        void *arg;
    } handlers[HOOKS_MAX];
    struct node_listener listeners[HOOKS_MAX];
    size_t worker_count, handler_count, listener_count;
    struct node_peer members[MEMBERS_HERE_MAX];     /* as listeners were told */
    size_t member_count;
    struct news *news, **news_end;
    uint64_t told_last[SIM_HOSTS_MAX];              /* messages to a host arrive in order */
    bool signal, busy, closing, closed, ended;
};

static struct fm_node *nodes;                       /* of this run, the newest first */
static uint64_t unheard_ns;

/* --- News. */

static struct news *news_new (struct fm_node *node, int kind, size_t len)
{
    struct news *n = calloc (1, sizeof *n + len);
    assert (n);
    n->kind = kind;
    n->len = len;
    if (!node->news)
        node->news_end = &node->news;
    *node->news_end = n;
    node->news_end = &n->next;
    node->signal = true;
    return n;
}

void sim_node_look (struct sim_process *p)
{
    if (p->node)
        p->node->signal = true;
}

static void take_control (struct sim_process *p, uint64_t link, const void *data, size_t len)
{
    if (!p->node || p->node->closed)
        return;
    struct news *n = news_new (p->node, NEWS_CONTROL, len);
    n->route.len = sizeof link;
    memcpy (n->route.bytes, &link, sizeof link);
    memcpy (n->bytes, data, len);
}

/* --- Members. */

static bool is_alive (const struct fm_node *node)
{
    return !node->closed && !node->process->dead;
}

static struct node_peer *member (struct fm_node *node, const struct fm_id *id)
{
    for (size_t i = 0; i < node->member_count; i++)
        if (id_equal (&node->members[i].node, id))
            return &node->members[i];
    return NULL;
}

static void member_gone (struct fm_node *at, const struct fm_id *id, bool said_goodbye)
{
    struct node_peer *m = member (at, id);
    if (!m || !is_alive (at))
        return;
    struct news *n = news_new (at, NEWS_DOWN, 0);
    n->peer = *m;
    n->said_goodbye = said_goodbye;
    *m = at->members[--at->member_count];
}

static void member_here (struct fm_node *at, const struct fm_node *who)
{
    struct node_peer *m = member (at, &who->info.node);
    /* Another process at the old address: that one is dead. */
    for (size_t i = 0; i < at->member_count; i++)
        if (&at->members[i] != m && strcmp (at->members[i].control, who->info.control) == 0) {
            member_gone (at, &at->members[i].node, false);
            m = member (at, &who->info.node);
            break;
        }
    if (!m) {
        assert (at->member_count < MEMBERS_HERE_MAX);
        m = &at->members[at->member_count++];
    }
    *m = who->info;
    news_new (at, NEWS_UP, 0)->peer = who->info;
}

static bool is_stopped (const struct fm_node *node)
{
    return sim_time () < node->process->stopped_until;
}

/* Event: a hears of b. */
static void hear (void *a, void *b)
{
    struct fm_node *at = a, *who = b;
    if (!is_alive (at) || !is_alive (who))
        return;
    if (is_stopped (who) || sim_net_is_cut (at->process->host, who->process->host))
        sim_after (200 * SIM_MS, hear, at, who);    /* seeds and the dead are asked again */
    else
        member_here (at, who);
}

/* Event: a has not heard of b for SIM_DEAD_MS, or it said goodbye. */
static void miss (void *a, void *b)
{
    struct fm_node *at = a, *who = b;
    if (!is_alive (who) || is_stopped (who) || sim_net_is_cut (at->process->host, who->process->host))
        member_gone (at, &who->info.node, false);
}

static void goodbye (void *a, void *b)
{
    member_gone (a, &((struct fm_node *) b)->info.node, true);
}

static void tell_all (struct fm_node *who, void (*what) (void *a, void *b), uint64_t after, uint64_t spread, bool both)
{
    for (struct fm_node *at = nodes; at; at = at->next) {
        if (at == who || !is_alive (at))
            continue;
        sim_after (after + sim_below (&who->process->random, spread), what, at, who);
        if (both)
            sim_after (after + sim_below (&who->process->random, spread), what, who, at);
    }
}

void sim_process_died (struct sim_process *p)
{
    sim_net_died (p);
    for (struct fm_node *who = nodes; who; who = who->next)
        if (who->process == p && !who->closed)
            tell_all (who, miss, SIM_DEAD_MS * SIM_MS, 300 * SIM_MS, false);
}

void sim_process_gone (struct sim_process *p)
{
    sim_net_gone (p);
}

void sim_cut (unsigned a, unsigned b, uint64_t ns)
{
    sim_net_cut (a, b, sim_time () + ns);
    for (struct fm_node *x = nodes; x; x = x->next)
        for (struct fm_node *y = nodes; y; y = y->next) {
            if (x->process->host != a || y->process->host != b || !is_alive (x) || !is_alive (y))
                continue;
            if (ns > SIM_DEAD_MS * SIM_MS) {
                sim_after (SIM_DEAD_MS * SIM_MS, miss, x, y);
                sim_after (SIM_DEAD_MS * SIM_MS, miss, y, x);
            }
            sim_after (ns + 200 * SIM_MS, hear, x, y);
            sim_after (ns + 300 * SIM_MS, hear, y, x);
        }
}

void sim_stop (struct sim_process *p, uint64_t ns)
{
    p->stopped_until = sim_time () + ns;
    for (struct fm_node *who = nodes; who; who = who->next)
        if (who->process == p && is_alive (who)) {
            if (ns > SIM_DEAD_MS * SIM_MS)
                tell_all (who, miss, SIM_DEAD_MS * SIM_MS, 1, false);
            tell_all (who, hear, ns + 10 * SIM_MS, 100 * SIM_MS, false);
        }
}

/* --- The node's thread. */

static void dispatch (struct fm_node *node, const struct node_route *from, const Factmesh__Control *control)
{
    const bool all = control->body_case == FACTMESH__CONTROL__BODY_WATERMARK || control->body_case == FACTMESH__CONTROL__BODY_ERROR;
    int rc = FM_ERR_UNKNOWN;
    (void) error_set (0, "%s", "");
    for (size_t i = 0; i < node->handler_count && (all || rc == FM_ERR_UNKNOWN); i++)
        rc = node->handlers[i].fn (node->handlers[i].arg, from, control);
    if (rc == 0 || all)
        return;
    uint64_t session = 0;
    Factmesh__ErrorCode code = FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL;
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_REPLAY_OPEN:
        session = control->replay_open->session;
        if (control->replay_open->stream.len > 0)
            code = FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM;
        break;
    case FACTMESH__CONTROL__BODY_REPLAY_CREDIT:
    case FACTMESH__CONTROL__BODY_REPLAY_CLOSE:
        if (rc == FM_ERR_UNKNOWN)
            return;
        break;
    default:
        break;
    }
    if (rc != FM_ERR_UNKNOWN)
        code = rc == FM_ERR_LIMIT ? FACTMESH__ERROR_CODE__ERROR_LIMIT : FACTMESH__ERROR_CODE__ERROR_INTERNAL;
    (void) node_reply_error (node, from, control->request, session, code, "");
}

static void hand_out (struct fm_node *node, const struct news *n)
{
    Factmesh__Control *control;
    switch (n->kind) {
    case NEWS_UP:
        for (size_t i = 0; i < node->listener_count; i++)
            node->listeners[i].up (node->listeners[i].arg, &n->peer);
        break;
    case NEWS_DOWN:
        for (size_t i = 0; i < node->listener_count; i++)
            node->listeners[i].down (node->listeners[i].arg, &n->peer.node, n->said_goodbye);
        break;
    case NEWS_CONTROL:
        if (control_decode (n->bytes, n->len, node_mesh (node), &control) != 0) {
            sim_fail ("%s got a control message that is malformed", node->process->name);
            return;
        }
        dispatch (node, &n->route, control);
        factmesh__control__free_unpacked (control, NULL);
        break;
    }
}

static bool has_signal (void *arg)
{
    return ((const struct fm_node *) arg)->signal;
}

static void *node_run (void *arg)
{
    struct fm_node *node = arg;
    uint64_t due = 0;
    while (!node->closing) {
        (void) sim_wait (has_signal, node, due);
        node->signal = false;
        node->busy = true;
        for (struct news *n; !node->process->dead && (n = node->news);) {
            node->news = n->next;
            hand_out (node, n);
            free (n);
        }
        if (live_drain (node->live))
            live_answer_fences (node->live);
        due = UINT64_MAX;
        for (size_t i = 0; i < node->worker_count; i++) {
            const uint64_t next = node->workers[i].tick (node->workers[i].arg, sim_now ());
            due = next < due ? next : due;
        }
        node->busy = false;
    }
    node->ended = true;
    return NULL;
}

static bool is_idle (void *arg)
{
    return !((const struct fm_node *) arg)->busy;
}

static bool has_ended (void *arg)
{
    return ((const struct fm_node *) arg)->ended;
}

/* --- Opening and closing. */

const struct node_peer *sim_node_info (const struct fm_node *node)
{
    return &node->info;
}

void sim_node_set_unheard (uint64_t ns)
{
    unheard_ns = ns;
}

static bool has_old_address (const struct fm_node *node)
{
    const struct fm_node *old = node->next;
    while (old && strcmp (old->info.control, node->info.control) != 0)
        old = old->next;
    return old;
}

struct fm_node *sim_node_open (const char *name, unsigned generation, int live_queue)
{
    struct sim_process *p = sim_self ();
    struct fm_node *node = calloc (1, sizeof *node);
    assert (node);
    node->process = p;
    id_random (&node->info.node);
    (void) snprintf (node->info.name, sizeof node->info.name, "%s", name);
    (void) snprintf (node->info.control, sizeof node->info.control, "sim://%s/%u/control", name, generation);
    (void) snprintf (node->info.live, sizeof node->info.live, "sim://%s/%u/live", name, generation);
    struct timespec now;
    clock_gettime (CLOCK_REALTIME, &now);
    node->info.started_ns = (uint64_t) now.tv_sec * SIM_S + (uint64_t) now.tv_nsec;
    closed_streams_init (&node->closed_streams);
    node->members[node->member_count++] = node->info;
    const int rc = live_new (node, node->info.live, live_queue, &node->live);
    assert (rc == 0);
    (void) rc;
    node->next = nodes;
    nodes = node;
    p->node = node;
    sim_net_bind_control (p, node->info.control, take_control);
    tell_all (node, hear, SIM_MS, 80 * SIM_MS + (has_old_address (node) ? unheard_ns : 0), true);
    sim_spawn (p, node_run, node);
    return node;
}

void sim_node_close (struct fm_node **pointer)
{
    struct fm_node *node = *pointer;
    *pointer = NULL;
    if (is_alive (node))
        tell_all (node, goodbye, SIM_MS, 20 * SIM_MS, false);
    node->closing = node->signal = true;
    while (!sim_wait (has_ended, node, UINT64_MAX))
        continue;
    node->closed = true;
    live_destroy (&node->live);
    closed_streams_release (&node->closed_streams);
    for (struct news *n; (n = node->news);) {
        node->news = n->next;
        free (n);
    }
    node->process->node = NULL;
}

static void tellings_end (void);

void sim_nodes_end (void)
{
    tellings_end ();
    for (struct fm_node *node; (node = nodes);) {
        nodes = node->next;
        free (node);
    }
}

/* --- node.h */

int node_listen (struct fm_node *node, const struct node_listener *listener)
{
    assert (node->listener_count < HOOKS_MAX);
    node->listeners[node->listener_count++] = *listener;
    for (size_t i = 0; i < node->member_count; i++)
        listener->up (listener->arg, &node->members[i]);
    return 0;
}

void node_unlisten (struct fm_node *node, void *arg)
{
    for (size_t i = node->listener_count; i-- > 0;)
        if (node->listeners[i].arg == arg)
            node->listeners[i] = node->listeners[--node->listener_count];
}

int node_handle (struct fm_node *node, node_control_fn *fn, void *arg)
{
    assert (node->handler_count < HOOKS_MAX);
    node->handlers[node->handler_count].fn = fn;
    node->handlers[node->handler_count++].arg = arg;
    return 0;
}

int node_handle_first (struct fm_node *node, node_control_fn *fn, void *arg)
{
    assert (node->handler_count < HOOKS_MAX);
    memmove (node->handlers + 1, node->handlers, node->handler_count++ * sizeof *node->handlers);
    node->handlers[0].fn = fn;
    node->handlers[0].arg = arg;
    return 0;
}

void node_unhandle (struct fm_node *node, void *arg)
{
    while (!sim_wait (is_idle, node, UINT64_MAX))
        continue;
    for (size_t i = node->handler_count; i-- > 0;)
        if (node->handlers[i].arg == arg)
            node->handlers[i] = node->handlers[--node->handler_count];
}

int node_add_worker (struct fm_node *node, const struct node_worker *worker)
{
    assert (node->worker_count < HOOKS_MAX);
    node->workers[node->worker_count++] = *worker;
    node->signal = true;
    return 0;
}

void node_remove_worker (struct fm_node *node, void *arg)
{
    while (!sim_wait (is_idle, node, UINT64_MAX))
        continue;
    for (size_t i = node->worker_count; i-- > 0;)
        if (node->workers[i].arg == arg)
            node->workers[i] = node->workers[--node->worker_count];
}

static bool queue_is_full (struct fm_node *node)
{
    return sim_chance (&node->process->random, 5);
}

int node_reply (struct fm_node *node, const struct node_route *to, zmq_msg_t *message)
{
    uint64_t link;
    if (to->len != sizeof link)
        return FM_ERR_UNREACHABLE;
    memcpy (&link, to->bytes, sizeof link);
    if (queue_is_full (node))
        return -EAGAIN;
    if (sim_effect () && !sim_net_answer (link, zmq_msg_data (message), zmq_msg_size (message)))
        return FM_ERR_UNREACHABLE;
    zmq_msg_close (message);
    return 0;
}

int node_reply_error (struct fm_node *node, const struct node_route *to, uint64_t request, uint64_t session, Factmesh__ErrorCode code, const char *text)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = code;
    error.session = session;
    error.text = control_put_slice (slice_of (text));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = request;
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    zmq_msg_t message;
    int rc = control_encode (&control, node_mesh (node), &message);
    if (rc == 0 && (rc = node_reply (node, to, &message)) != 0)
        zmq_msg_close (&message);
    return rc;
}

/* A message on its way from node to node. */
struct telling {
    struct telling *next, **previous;
    struct fm_node *from, *to;
    zmq_msg_t message;
};
static struct telling *tellings;

static void telling_free (struct telling *t)
{
    *t->previous = t->next;
    if (t->next)
        t->next->previous = t->previous;
    zmq_msg_close (&t->message);
    free (t);
}

static void told (void *a, void *b)
{
    (void) b;
    struct telling *t = a;
    if (is_alive (t->to) && !sim_net_is_cut (t->from->process->host, t->to->process->host)) {
        struct news *n = news_new (t->to, NEWS_CONTROL, zmq_msg_size (&t->message));
        memcpy (n->bytes, zmq_msg_data (&t->message), n->len);
    }
    telling_free (t);
}

int node_tell (struct fm_node *node, const struct fm_id *id, zmq_msg_t *message)
{
    if (!member (node, id))
        return FM_ERR_UNKNOWN;
    if (queue_is_full (node))
        return -EAGAIN;
    struct fm_node *to = nodes;
    while (to && !id_equal (&to->info.node, id))
        to = to->next;
    assert (to);
    /* Lost now and then, as with a connection that breaks. */
    if (sim_effect () && !sim_chance (&node->process->random, 5)) {
        struct telling *t = malloc (sizeof *t);
        assert (t);
        *t = (struct telling) { .next = tellings, .previous = &tellings, .from = node, .to = to };
        if (t->next)
            t->next->previous = &t->next;
        tellings = t;
        zmq_msg_init (&t->message);
        zmq_msg_move (&t->message, message);
        uint64_t *last = &node->told_last[to->process->host];
        const uint64_t at = sim_time () + sim_net_delay (&node->process->random);
        *last = at > *last ? at : *last;
        sim_after (*last - sim_time (), told, t, NULL);
    }
    zmq_msg_close (message);
    return 0;
}

static void tellings_end (void)
{
    while (tellings)
        telling_free (tellings);
}

struct fm_slice node_mesh (const struct fm_node *node)
{
    (void) node;
    return slice_of (MESH);
}

const struct fm_id *node_id (const struct fm_node *node)
{
    return &node->info.node;
}

struct live *node_live (struct fm_node *node)
{
    return node->live;
}

void node_notice (struct fm_node *node, const char *id, const char *format, ...)
{
    char text[512];
    va_list arguments;
    (void) node;
    if (!sim_traces)
        return;
    va_start (arguments, format);
    (void) vsnprintf (text, sizeof text, format, arguments);
    va_end (arguments);
    sim_trace ("%s %s", id, text);
}

int node_set_journal (struct fm_node *node, const struct fm_id *journal, uint64_t generation)
{
    node->info.is_journal = true;
    node->info.journal = *journal;
    node->info.generation = generation;
    node->members[0] = node->info;
    news_new (node, NEWS_UP, 0)->peer = node->info;
    if (sim_effect ())
        tell_all (node, hear, SIM_MS, 80 * SIM_MS, false);
    return 0;
}

void node_streams_changed (struct fm_node *node)
{
    (void) node;
}

void node_wake (struct fm_node *node)
{
    node->signal = true;
}

size_t node_streams (struct fm_node *node, Factmesh__StreamHead *ret, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < node->worker_count; i++)
        if (node->workers[i].streams && n < max)
            n += node->workers[i].streams (node->workers[i].arg, ret + n, max - n);
    return n;
}

struct closed_streams *node_closed_streams (struct fm_node *node)
{
    return &node->closed_streams;
}

void node_thread_lower (int nice)
{
    (void) nice;
}

uint64_t node_now (void)
{
    return sim_now ();
}

int node_socket (struct fm_node *node, int type, void **ret_socket)
{
    *ret_socket = sim_net_socket (node->process, type);
    return 0;
}

void node_sign_watch (struct fm_node *node, struct node_sign *sign, const char *control)
{
    (void) node;
    (void) sign;
    (void) control;
}

void node_sign_unwatch (struct fm_node *node, struct node_sign *sign)
{
    (void) node;
    (void) sign;
}

int node_connect (void *socket, const char *address)
{
    sim_net_connect (socket, address);
    return 0;
}

int node_bind (void *socket, const char *address, char ret_bound[FM_PEER_ADDRESS_MAX])
{
    sim_net_bind (socket, address);
    (void) snprintf (ret_bound, FM_PEER_ADDRESS_MAX, "%s", address);
    return 0;
}

void node_count (struct fm_node *node, enum node_counter counter, uint64_t n)
{
    (void) node;
    (void) counter;
    (void) n;
}

int fm_node_members (struct fm_node *node, int (*each) (void *arg, const struct fm_member *m), void *arg)
{
    for (size_t i = 0; i < node->member_count; i++) {
        const struct fm_member m = { .node = node->members[i].node, .name = node->members[i].name, .self = i == 0,
                                     .is_journal = node->members[i].is_journal, .journal = node->members[i].journal,
                                     .generation = node->members[i].generation, .control = node->members[i].control };
        const int rc = each (arg, &m);
        if (rc)
            return rc;
    }
    return 0;
}

int fm_node_counters (struct fm_node *node, void (*each) (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning), void *arg)
{
    (void) node;
    (void) each;
    (void) arg;
    return 0;
}
