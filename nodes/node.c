/* node: opening and closing. The thread: node_thread.c; messages: node_control.c (in), node_send.c (out); members: membership.c, node_peers.c. */

#include "node_inner.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "error.h"

/* --- Opening, step by step; fm_node_close undoes what was done. */

static void open_locks (struct fm_node *node)
{
    /* None of these fails with these attributes. */
    pthread_condattr_t monotonic;
    (void) pthread_condattr_init (&monotonic);
    (void) pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
    (void) pthread_cond_init (&node->members_changed, &monotonic);
    (void) pthread_condattr_destroy (&monotonic);
    (void) pthread_mutex_init (&node->control_lock, NULL);
    (void) pthread_mutex_init (&node->members_lock, NULL);
    (void) pthread_mutex_init (&node->notice_lock, NULL);
    hooks_init (&node->listeners);
    hooks_init (&node->handlers);
    hooks_init (&node->workers);
    closed_streams_init (&node->closed_streams);
    blob_pool_init (&node->blob_pool, node);
    node->epoll_fd = node->wake_fd = -1;
}

static int open_wake_up (struct fm_node *node)
{
    node->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    if (node->epoll_fd < 0)
        return -errno;
    node->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    return node->wake_fd < 0 ? -errno : node_watch (node, node->wake_fd, TAG_WAKE);
}

static int open_memory (struct fm_node *node)
{
    node->notices = calloc (NOTICES_MAX, sizeof *node->notices);
    node->heads = calloc (STREAMS_PER_NODE_MAX, sizeof *node->heads);
    node->head_pointers = calloc (STREAMS_PER_NODE_MAX, sizeof (Factmesh__StreamHead *));
    if (!node->notices || !node->heads || !node->head_pointers)
        return -ENOMEM;
    for (size_t i = 0; i < STREAMS_PER_NODE_MAX; i++)
        node->head_pointers[i] = &node->heads[i];
    return 0;
}

static int watch_socket (struct fm_node *node, void *socket, uint64_t tag)
{
    int fd;
    size_t size = sizeof fd;
    return zmq_getsockopt (socket, ZMQ_FD, &fd, &size) == 0 ? node_watch (node, fd, tag) : -errno;
}

/* The address at which this machine itself reaches a bound endpoint. */
static void own_address (const struct address *bound, char ret_text[ADDRESS_TEXT_MAX])
{
    struct address own = *bound;
    if (address_is_wildcard (bound))
        (void) snprintf (own.host, sizeof own.host, "%s", bound->v6 ? "::1" : "127.0.0.1");
    address_text (&own, ret_text);
}

/* The ROUTER listens to the world and, over inproc, to ourselves. */
static int open_router (struct fm_node *node, const struct address *bind, struct address *ret_bound)
{
    char text[ADDRESS_TEXT_MAX], bound[ADDRESS_TEXT_MAX], id[ID_TEXT_LEN + 1], loop[64];
    (void) snprintf (loop, sizeof loop, "inproc://%s", id_text (&node->id, id));
    int rc = node_serve_socket (node, ZMQ_ROUTER, &node->router);
    if (rc == 0)
        rc = node_bind (node->router, address_text (bind, text), bound);
    if (rc == 0)
        rc = address_parse (slice_of (bound), ADDRESS_TO_CONNECT, ret_bound);
    if (rc == 0)
        own_address (ret_bound, node->own_control);
    if (rc == 0 && zmq_bind (node->router, loop) != 0)
        rc = -errno;
    if (rc == 0)
        rc = node_serve_socket (node, ZMQ_DEALER, &node->loop);
    if (rc == 0 && zmq_connect (node->loop, loop) != 0)
        rc = -errno;
    if (rc == 0)
        rc = watch_socket (node, node->router, TAG_ROUTER);
    return rc == 0 ? watch_socket (node, node->loop, TAG_LOOP) : rc;
}

static int open_live (struct fm_node *node, const struct address *bind, struct address *ret_bound)
{
    char text[ADDRESS_TEXT_MAX];
    int rc = live_new (node, address_text (bind, text), node->live_queue, &node->live);
    if (rc == 0)
        rc = address_parse (slice_of (live_address (node->live)), ADDRESS_TO_CONNECT, ret_bound);
    if (rc == 0)
        own_address (ret_bound, node->own_live);
    return rc == 0 ? node_watch (node, live_fd (node->live), TAG_LIVE) : rc;
}

static int make_self (struct fm_node *node, struct address_list *control, struct address_list *live, struct peer_info **ret_self)
{
    char *control_texts[ADDRESSES_MAX], *live_texts[ADDRESSES_MAX];
    for (size_t i = 0; i < control->count; i++)
        control_texts[i] = control->text[i];
    for (size_t i = 0; i < live->count; i++)
        live_texts[i] = live->text[i];
    Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
    info.node = control_put_id (&node->id);
    info.name = control_put_slice (slice_of (node->name));
    info.control = control_texts;
    info.n_control = control->count;
    info.live = live_texts;
    info.n_live = live->count;
    info.started_ns = clock_real.unix_ns (clock_real.context);
    info.info_version = 1;
    return peer_info_read (&info, ret_self);
}

static int open_membership (struct fm_node *node, const struct node_plan *plan, const struct address *control, const struct address *live)
{
    struct address_list control_list, live_list;
    int rc = address_advertise (control, plan->advertise, false, &control_list);
    if (rc == 0)
        rc = plan->advertise_live ? address_advertise (live, plan->advertise_live, false, &live_list)
                                  : address_advertise (live, plan->advertise, true, &live_list);
    struct membership_options options = { .ping_ms = node->ping_ms, .dead_ms = node->dead_ms };
    if (rc == 0)
        rc = make_self (node, &control_list, &live_list, &options.self);
    if (rc != 0)
        return rc;
    memcpy (node->address, control_list.text[0], sizeof node->address);
    rc = membership_new (&options, &node->membership);
    if (rc != 0) {
        free (options.self);
        return rc;
    }
    for (size_t i = 0; i < plan->seed_count && rc == 0; i++)
        rc = membership_add_seed (node->membership, plan->seeds[i]);
    return rc;
}

/* Without a network that broadcasts the node works all the same: others may have it as a seed. */
static int open_beacon (struct fm_node *node, const struct node_plan *plan, const struct address *control)
{
    if (!plan->discover)
        return 0;
    const bool reachable = control->kind == ADDRESS_TCP && !address_is_local (control);
    const struct beacon_options options = { .port = node->beacon_port, .interface = node->beacon_interface, .mesh = node_mesh (node),
                                            .node = node->id, .control_port = reachable ? control->port : 0 };
    const int rc = beacon_new (&options, &node->beacon);
    if (rc != 0) {
        node_notice (node, "BEACON-OFF", "%s: others are found only if they have this node as a seed", fm_error_detail ());
        return rc == -ENOMEM ? rc : 0;
    }
    return node_watch (node, beacon_fd (node->beacon), TAG_BEACON);
}

static int open_all (struct fm_node *node, const struct fm_node_options *options, struct node_plan *plan)
{
    struct address control, live;
    int rc = open_wake_up (node);
    if (rc == 0)
        rc = open_memory (node);
    if (rc == 0)
        rc = node_take_options (node, options, plan);
    if (rc == 0)
        rc = node_zmq_new (node);
    if (rc == 0)
        rc = open_router (node, &plan->bind, &control);
    if (rc == 0)
        rc = open_live (node, &plan->live, &live);
    if (rc == 0)
        rc = open_membership (node, plan, &control, &live);
    if (rc == 0)
        rc = open_beacon (node, plan, &control);
    if (rc != 0)
        return rc;
    node_count_members (node);
    /* What came before the thread watches the descriptors has been told already: look once. */
    node->router_touched = node->loop_touched = node->beacon_touched = true;
    node_wake (node);
    rc = pthread_create (&node->thread, NULL, node_run, node);
    node->thread_runs = rc == 0;
    return -rc;
}

int fm_node_open (const struct fm_node_options *options, struct fm_node **ret_node)
{
    struct fm_node *node = calloc (1, sizeof *node);
    struct node_plan *plan = calloc (1, sizeof *plan);
    if (!node || !plan) {
        free (node);
        free (plan);
        return -ENOMEM;
    }
    open_locks (node);
    id_random (&node->id);
    node->flood_seed = id_random_u64 ();
    /* The program's signals are for its own threads; ours inherit this. None of these calls can fail. */
    sigset_t all, before;
    (void) sigfillset (&all);
    (void) pthread_sigmask (SIG_SETMASK, &all, &before);
    const int rc = open_all (node, options, plan);
    (void) pthread_sigmask (SIG_SETMASK, &before, NULL);
    free (plan);
    if (rc == 0)
        *ret_node = node;
    else
        fm_node_close (&node);
    return rc;
}

/* --- Closing. */

/* While we still listen there: nobody else has taken the path yet. */
static void unlink_path (const char *address)
{
    struct address a;
    if (*address && address_parse (slice_of (address), ADDRESS_TO_CONNECT, &a) == 0 && a.kind == ADDRESS_IPC)
        (void) unlink (a.path);         /* gone already: as well */
}

static void close_sockets (struct fm_node *node)
{
    unlink_path (node->own_control);
    unlink_path (node->own_live);
    for (size_t i = 0; i < node->contact_size; i++) {
        if (node->contacts[i])
            node_contact_close (node, node->contacts[i]->number, GOODBYE_LINGER_MS);
    }
    free (node->contacts);
    free (node->routes);
    live_destroy (&node->live);
    /* These fail only for what is no socket. */
    if (node->loop)
        (void) zmq_close (node->loop);
    if (node->router)
        (void) zmq_close (node->router);
    node_zmq_term (node);
}

void fm_node_close (struct fm_node **node)
{
    struct fm_node *n = *node;
    if (!n)
        return;
    if (n->thread_runs) {
        atomic_store (&n->stopping, true);
        node_wake (n);
        (void) pthread_join (n->thread, NULL);  /* it runs, and is not this one */
    }
    beacon_destroy (&n->beacon);
    blob_pool_release (&n->blob_pool);
    close_sockets (n);
    membership_destroy (&n->membership);
    hooks_release (&n->listeners);
    hooks_release (&n->handlers);
    hooks_release (&n->workers);
    closed_streams_release (&n->closed_streams);
    if (n->epoll_fd >= 0)
        (void) close (n->epoll_fd);
    if (n->wake_fd >= 0)
        (void) close (n->wake_fd);
    (void) pthread_cond_destroy (&n->members_changed);
    (void) pthread_mutex_destroy (&n->control_lock);
    (void) pthread_mutex_destroy (&n->members_lock);
    (void) pthread_mutex_destroy (&n->notice_lock);
    free (n->beacon_interface);
    free (n->notices);
    free (n->heads);
    free (n->head_pointers);
    free (n);
    *node = NULL;
}

/* --- What other parts ask. */

const char *fm_node_address (struct fm_node *node)
{
    return node->address;
}

struct fm_slice node_mesh (const struct fm_node *node)
{
    return slice_of (node->mesh);
}

const struct fm_id *node_id (const struct fm_node *node)
{
    return &node->id;
}

struct blob_pool *node_blob_pool (struct fm_node *node)
{
    return &node->blob_pool;
}

struct live *node_live (struct fm_node *node)
{
    return node->live;
}

int node_set_journal (struct fm_node *node, const struct fm_id *journal, uint64_t generation)
{
    (void) pthread_mutex_lock (&node->members_lock);
    node->new_journal = true;
    node->journal = *journal;
    node->generation = generation;
    (void) pthread_mutex_unlock (&node->members_lock);
    node_wake (node);
    return 0;
}

void node_streams_changed (struct fm_node *node)
{
    atomic_store (&node->streams_changed, true);
    node_wake (node);
}

int node_handle (struct fm_node *node, node_control_fn *fn, void *arg)
{
    const struct hook hook = { .arg = arg, .control = fn };
    return hooks_add (&node->handlers, &hook, false) ? 0 : -ENOMEM;
}

int node_handle_first (struct fm_node *node, node_control_fn *fn, void *arg)
{
    const struct hook hook = { .arg = arg, .control = fn };
    return hooks_add_first (&node->handlers, &hook) ? 0 : -ENOMEM;
}

void node_unhandle (struct fm_node *node, void *arg)
{
    hooks_remove (&node->handlers, arg);
}
