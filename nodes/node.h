/* node: one process in the mesh: its ZeroMQ context, its control endpoint (ROUTER), a DEALER to every other member, the
 * membership, its live endpoint (live.h), its publishers, and the thread that looks after them.
 *
 * Thread:  the node's own thread receives and keeps time. node_tell and node_reply may be called by any thread: the control sockets
 *          are under one lock (control_lock). Listeners and handlers are called by the node's thread, without locks held.
 * Bytes:   proto/SPEC.md, "Control", "Membership". */

#ifndef FM_NODES_NODE_H
#define FM_NODES_NODE_H

#include <stdatomic.h>
#include <zmq.h>

#include "closed_streams.h"
#include "control.h"
#include "factmesh.h"
#include "live.h"

/* --- Members. */

enum { FM_PEER_ADDRESS_MAX = 256 };

struct node_peer {
    struct fm_id node;
    char name[NODE_NAME_MAX + 1];
    char live[FM_PEER_ADDRESS_MAX];         /* the address that this node uses of those advertised */
    char control[FM_PEER_ADDRESS_MAX];
    bool is_journal;
    struct fm_id journal;
    uint64_t generation;
    uint64_t started_ns;
};

/* Told of members coming and going; this node itself is one of them, and never goes. On node_listen, up is called at once for each member that is known
 * (in the calling thread).
 * Calls for one listener never overlap. After node_unlisten returns none comes any more. up is called again when a member's addresses or journal change. */
struct node_listener {
    void *arg;
    void (*up) (void *arg, const struct node_peer *peer);
    void (*down) (void *arg, const struct fm_id *node, bool said_goodbye);
};
int node_listen (struct fm_node *node, const struct node_listener *listener);
void node_unlisten (struct fm_node *node, void *arg);

/* What a member sends over other connections than the node's is a sign of its life too: where data fills a slow link, answers to pings wait behind it. Who
 * has such a connection, to the member whose control address this is, watches for it, and says so when something came over it that was empty before (what
 * was queued there may be old). A sign stays where it is, and is its owner's. Any thread. */
struct node_sign {
    struct fm_id node;
    atomic_bool seen;                   /* taken by the node's thread */
    struct node_sign *next, **place;    /* with the node's members_lock */
};
void node_sign_watch (struct fm_node *node, struct node_sign *sign, const char *control);
void node_sign_unwatch (struct fm_node *node, struct node_sign *sign);      /* not watched for: nothing */
static inline void node_sign_give (struct node_sign *sign)
{
    atomic_store_explicit (&sign->seen, true, memory_order_relaxed);
}

/* --- Control messages. */

/* Where an answer goes: the routing id that the ROUTER gave the asker's connection. */
struct node_route {
    uint8_t len;
    uint8_t bytes[255];
};

/* A handler for message kinds beyond membership (watermark, replay_*, cursor_*, status_*). Asked in the order of registration until one
 * returns 0; FM_ERR_UNKNOWN: not mine, ask the next. When all say so the asker gets an Error (NO_JOURNAL, UNKNOWN_STREAM …).
 * Another negative code: answered with an Error that carries error detail. Must not block.
 * A Watermark (which tells of several streams) and an Error go to all handlers, and are not answered. */
typedef int node_control_fn (void *arg, const struct node_route *from, const Factmesh__Control *control);
int node_handle (struct fm_node *node, node_control_fn *fn, void *arg);
/* The same, asked before all that were registered. */
int node_handle_first (struct fm_node *node, node_control_fn *fn, void *arg);
void node_unhandle (struct fm_node *node, void *arg);

/* Answer through the ROUTER. Takes the message on success. -EAGAIN: the peer's queue is full, try later; FM_ERR_UNREACHABLE: it is gone.
 * Any thread. */
int node_reply (struct fm_node *node, const struct node_route *to, zmq_msg_t *message);
int node_reply_error (struct fm_node *node, const struct node_route *to, uint64_t request, uint64_t session, Factmesh__ErrorCode code, const char *text);

/* Send to a member's control endpoint (through this node's DEALER). Same errors; FM_ERR_UNKNOWN: no such member. Any thread. */
int node_tell (struct fm_node *node, const struct fm_id *to, zmq_msg_t *message);

/* --- What other parts of the node need. */

struct fm_slice node_mesh (const struct fm_node *node);
const struct fm_id *node_id (const struct fm_node *node);
struct live *node_live (struct fm_node *node);
/* One line for the options' notice callback. Any thread. */
void node_notice (struct fm_node *node, const char *id, const char *format, ...) __attribute__ ((format (printf, 3, 4)));
/* This node is a journal: told to the others. Before any listener cares (journal start). */
int node_set_journal (struct fm_node *node, const struct fm_id *journal, uint64_t generation);
/* A publisher's stream came or changed: NodeInfo is told anew. */
void node_streams_changed (struct fm_node *node);

/* Something that the node's thread does now and then: called with the monotonic time, returns when it wants to be called next (ns; UINT64_MAX: not
 * by itself). node_wake makes the thread call all of them soon. Also asked for this node's streams (heads), for Hello and fences: fills up to max, at least one. */
struct node_worker {
    void *arg;
    uint64_t (*tick) (void *arg, uint64_t now_ns);
    size_t (*streams) (void *arg, Factmesh__StreamHead *ret, size_t max);   /* NULL: has none; ids point into memory that lives as long as the worker */
};
/* -ENOMEM; FM_ERR_LIMIT: STREAMS_PER_NODE_MAX of those that have a stream are there. */
int node_add_worker (struct fm_node *node, const struct node_worker *worker);
void node_remove_worker (struct fm_node *node, void *arg);  /* after it returns the worker is not called any more */
void node_wake (struct fm_node *node);                      /* any thread; cheap when it is awake already */
/* Ask every worker for its streams, now; at most max. Node's thread. What the ids point to stays until the thread next calls workers: node_remove_worker
 * waits for that. */
size_t node_streams (struct fm_node *node, Factmesh__StreamHead *ret, size_t max);

/* The streams that were closed here, for publishers and for fences. */
struct closed_streams *node_closed_streams (struct fm_node *node);

/* Connections for blobs, between two of them. */
struct blob_pool *node_blob_pool (struct fm_node *node);

/* Lower the priority (nice) of the calling thread, and of no other. */
void node_thread_lower (int by);

/* Monotonic time in ns. */
uint64_t node_now (void);

/* Apply to each new socket of this node: heartbeats, linger 0, no-HWM-on-subscriptions and such (nodes/sockets.c). */
int node_socket (struct fm_node *node, int type, void **ret_socket);
/* zmq_connect (same returns), for IPv6 addresses too. */
int node_connect (void *socket, const char *address);
/* Bind, also to IPv6, and learn the real endpoint. FM_ERR_ADDRESS with a detail for people (in use, not ours, not allowed); -errno. An ipc path at
 * which somebody listens is in use, though libzmq would take it. */
int node_bind (void *socket, const char *address, char ret_bound[FM_PEER_ADDRESS_MAX]);

/* --- Counters: each a name, a unit, one line of meaning; NODE_COUNTERS is the list. */
#define NODE_COUNTERS(X)                                                                            \
    X (FACTS_PUBLISHED, "facts_published", "facts", "accepted from this node's publishers")         \
    X (BATCHES_SENT, "batches_sent", "batches", "sent to the live endpoint")                        \
    X (BYTES_SENT, "bytes_sent", "bytes", "sent to the live endpoint")                              \
    X (FRAMES_RECEIVED, "frames_received", "frames", "taken from live connections")                 \
    X (FRAMES_REFUSED, "frames_refused", "frames", "malformed, of another mesh, or of a stream that another node owns") \
    X (CONTROL_RECEIVED, "control_received", "messages", "taken from control connections")          \
    X (CONTROL_REFUSED, "control_refused", "messages", "malformed, of another version or mesh")     \
    X (CONTROL_SHED, "control_shed", "messages", "dropped unread: one peer sent more than can be answered") \
    X (REPAIRS_ASKED, "repairs_asked", "requests", "holes asked for")                               \
    X (REPAIRS_SERVED, "repairs_served", "requests", "holes of others served from the window")      \
    X (FELL_BEHIND, "fell_behind", "times", "a subscription went from live to replay")              \
    X (FACTS_DELIVERED, "facts_delivered", "facts", "handed to this node's subscriptions")          \
    X (GAPS_DELIVERED, "gaps_delivered", "gaps", "told to this node's subscriptions")               \
    X (WATERMARKS_REFUSED, "watermarks_refused", "messages", "beyond what was published")           \
    X (PUBLISH_BLOCKED_NS, "publish_blocked", "ns", "publishers waited for room in the window")
enum node_counter {
#define NODE_COUNTER_ITEM(name, text, unit, meaning) NODE_##name,
    NODE_COUNTERS (NODE_COUNTER_ITEM)
#undef NODE_COUNTER_ITEM
    NODE_COUNTER_COUNT
};
void node_count (struct fm_node *node, enum node_counter counter, uint64_t n);  /* relaxed atomic add */

#endif
