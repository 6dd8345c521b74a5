/* node_inner: the inside of a node, shared by node*.c, sockets.c and fm_public.c.
 *
 * Locks:   members_lock   the membership is changed by the node's thread with it, and read by others with it. The node's thread reads without.
 *          control_lock   ROUTER and DEALERs, the contacts and the routes to members.
 *          notice_lock    the queue of notices.
 *          Never two of them at a time; none while a listener, handler, worker or the notice callback runs. */

#ifndef FM_NODES_NODE_INNER_H
#define FM_NODES_NODE_INNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "beacon.h"
#include "blob_pool.h"
#include "flood.h"
#include "hooks.h"
#include "membership.h"
#include "node.h"

enum {
    PING_MS_DEFAULT = 500,
    PING_MS_LEAST = 10,
    DEAD_PINGS = 5,
    BEACON_PORT_DEFAULT = 7399,
    LIVE_QUEUE_DEFAULT = 4096,          /* libzmq promises half of it: the default window in frames of 32 KiB. With fewer, what a window lets out overflows it */
    IO_THREADS_MAX = 16,
    SERVE_NICE_MAX = 19,
    GOODBYE_LINGER_MS = 100,
    ZMQ_SOCKETS_MAX = 16384,            /* of one node: a DEALER for each member, a SUB for each member and subscription */
    NOTICES_MAX = 64,                   /* waiting for the node's thread; then they are counted only */
    NOTICE_TEXT_MAX = 400,
    NOTICE_ID_MAX = 32,
    ERRORS_TOLD_EVERY_MS = 10000,       /* the same complaint about strangers' messages */
    CONTROL_BURST = 64,                 /* messages from one socket before the others get their turn */
    CONTROL_SHED = 4096                 /* the same, of those that are dropped unread */
};

/* A DEALER to one control address; made and closed by the node's thread. */
struct node_contact {
    uint32_t number;
    void *dealer;
    int fd;
    bool writable;                      /* node's thread */
    bool member;                        /* it is the route to `node` */
    bool touched;                       /* a send may have eaten a wake-up: look at it */
    struct fm_id node;
    struct node_contact *next_touched;
};

struct node_notice_item {
    char id[NOTICE_ID_MAX];
    char text[NOTICE_TEXT_MAX];
};

struct fm_node {
    /* Set by fm_node_open, then read only. */
    char mesh[MESH_NAME_MAX + 1];
    char name[NODE_NAME_MAX + 1];
    struct fm_id id;
    uint32_t ping_ms, dead_ms;
    int live_queue, io_threads, serve_nice;
    int beacon_port;
    char *beacon_interface;
    void (*notice) (void *arg, const char *id, const char *text);
    void *notice_arg;
    char address[ADDRESS_TEXT_MAX];     /* that others can use as a seed */
    char own_control[ADDRESS_TEXT_MAX], own_live[ADDRESS_TEXT_MAX];     /* that this machine reaches us at */
    void *zmq;
    void *zmq_serve;                    /* the ROUTER's context; without serve_nice the same one */
    struct live *live;
    struct beacon *beacon;

    pthread_mutex_t control_lock;
    void *router;
    void *loop;                         /* DEALER to our own ROUTER: node_tell to ourselves */
    struct node_contact **contacts;     /* by the low half of the number */
    size_t contact_size;
    struct node_contact **routes;       /* members, sorted by node */
    size_t route_count;                 /* as many as contacts have room */
    struct node_contact *touched;
    bool router_touched, loop_touched;
    bool router_draining;               /* the node's thread will ask for one more message before it sleeps */

    pthread_mutex_t members_lock;
    pthread_cond_t members_changed;     /* told_count, told_journals */
    struct membership *membership;
    size_t told_count, told_journals;   /* members (ourselves included) that listeners have been told of; journals among them */
    unsigned own_streams;               /* as last told */
    struct node_sign *signs;
    bool new_journal;                   /* node_set_journal was called: */
    struct fm_id journal;
    uint64_t generation;

    struct hook_list listeners, handlers, workers;
    struct closed_streams closed_streams;
    struct blob_pool blob_pool;

    pthread_mutex_t notice_lock;
    struct node_notice_item *notices;   /* ring of NOTICES_MAX */
    size_t notice_first, notice_count, notice_lost;
    uint64_t foreign_told_ns, version_told_ns, malformed_told_ns, flood_told_ns;    /* node's thread */
    struct flood flood;                 /* node's thread */
    uint64_t flood_seed;                /* of the hash: nobody picks a route that falls together with another's */

    _Atomic uint64_t counters[NODE_COUNTER_COUNT];

    pthread_t thread;
    bool thread_runs;
    int epoll_fd, wake_fd;
    int beacon_fd;
    atomic_bool stopping, woken, sleeping, streams_changed;
    uint64_t news;                      /* of the membership, told to listeners so far */
    uint64_t workers_due_ns;
    bool streams_pinned, beacon_touched;
    Factmesh__StreamHead *heads, **head_pointers;   /* STREAMS_PER_NODE_MAX: our streams, for Hello and Welcome */
    const struct node_route *asker;     /* while a message from the ROUTER is handled: who sent it, */
    uint64_t asker_request;             /* and its number */
};

/* What epoll hands back; a contact's number is larger than all of these. */
enum node_tag { TAG_WAKE = 1, TAG_ROUTER, TAG_LOOP, TAG_LIVE, TAG_BEACON };

/* --- node_options.c */
struct node_plan {                      /* what the options come to */
    struct address bind, live;          /* live: port 0 and the host of bind, or beside its path, unless it was given */
    bool discover;                      /* by beacon */
    const char *advertise, *advertise_live;
    char seeds[SEEDS_MAX][ADDRESS_TEXT_MAX];
    size_t seed_count;
};
int node_take_options (struct fm_node *node, const struct fm_node_options *options, struct node_plan *ret_plan);

/* --- node_thread.c */
void *node_run (void *node);
int node_watch (struct fm_node *node, int fd, uint64_t tag);
void node_unwatch (struct fm_node *node, int fd);

/* --- node_control.c: receiving, by the node's thread. node_send.c: the node's thread, but for node_tell and node_reply. */
void node_drain_router (struct fm_node *node);
void node_drain_loop (struct fm_node *node);
void node_drain_contact (struct fm_node *node, uint32_t number);
void node_drain_touched (struct fm_node *node);
bool node_is_touched (struct fm_node *node);
void node_say (struct fm_node *node, uint32_t contact, enum membership_message message);
/* Send through a contact's DEALER; same returns as node_tell. */
int node_contact_send (struct fm_node *node, uint32_t contact, zmq_msg_t *message);

/* --- node_contacts.c: the node's thread. */
struct node_contact *node_contact_find (const struct fm_node *node, uint32_t number);
int node_contact_open (struct fm_node *node, uint32_t number, const char *address);
void node_contact_close (struct fm_node *node, uint32_t number, int linger_ms);
void node_route_set (struct fm_node *node, uint32_t contact, const struct fm_id *member);
void node_route_clear (struct fm_node *node, const struct fm_id *member);
struct node_contact *node_route_find (const struct fm_node *node, const struct fm_id *member);     /* with control_lock */
void node_contact_touch (struct fm_node *node, struct node_contact *c);                            /* with control_lock */
struct node_contact *node_contact_untouch (struct fm_node *node);                                  /* with control_lock; the next touched one */

/* --- node_peers.c: the node's thread. */
void node_act (struct fm_node *node);                       /* carry out the membership's actions */
void node_count_members (struct fm_node *node);             /* what wait_members and wait_journal wait for */
void node_self (const struct fm_node *node, struct node_peer *ret_peer);
void node_take_signs (struct fm_node *node, uint64_t now_ns);   /* with members_lock */

/* --- node_notices.c: the node's thread. */
void node_notices_flush (struct fm_node *node);

/* --- sockets.c */
/* The contexts. Freed by node_zmq_term, which waits for what lingers. */
int node_zmq_new (struct fm_node *node);
void node_zmq_term (struct fm_node *node);
/* node_socket for the ROUTER, and what connects to it over inproc. */
int node_serve_socket (struct fm_node *node, int type, void **ret_socket);

#endif
