/* live_set: the live connections of one receiver (a subscription, or a journal's intake): a SUB for each peer, so that who sent a frame
 * is known, all in the receiver's own epoll descriptor: one wait serves them and whatever else it waits for.
 *
 *   member up ---> mailbox --update--> SUB, connect, subscribe, fence ---> ready list --receive--> frames
 *   member down -> mailbox --update--> linger: drained for a while, since what it sent last may still be on its way --> LIVE_PEER_GONE
 *   silence     --update--> connected anew
 *
 * A fence is answered by the node that was asked, or not at all: who else answers it has the address of one that is gone; or, when that lasts, two
 * nodes tell one address (a notice, LIVE-FOREIGN).
 *
 * Silence: a publisher says something each second (its heads), so that a connection on which nothing comes, of a member that lives, is
 * half open: the other end has forgotten it, and only we believe in it. TCP finds out by its keepalive, after 10 to 19 s.
 *
 * Thread:  one; that of the receiver. Members are learned through node_listen into a mailbox, taken over by live_set_update.
 * Bounded: LIVE_SET_PEERS_MAX peers; ZeroMQ's receive queue of each; at most one fence in flight for each peer; the mailbox holds one
 *          word about each of LIVE_SET_MAIL_MAX nodes, and asks for all of them again when that was not enough. */

#ifndef FM_NODES_LIVE_SET_H
#define FM_NODES_LIVE_SET_H

#include <sys/epoll.h>

#include "node.h"
#include "topic.h"

enum {
    LIVE_SET_PEERS_MAX = 4096,
    LIVE_SET_MAIL_MAX = 2 * MEMBERS_MAX,
    LIVE_SET_BURST = 64,                /* frames from one peer while others wait */
    LIVE_SET_ASK_AGAIN_MS = 100,        /* about members, after there was no memory for one */
    LIVE_SET_CONNECT_MS = 1000,         /* a connection that could not be made is tried again so often */
    LIVE_SET_FENCE_MS = 1000,           /* without an answer: a new nonce; doubled each time up to */
    LIVE_SET_FENCE_MAX_MS = 30000,
    LIVE_SET_LINGER_MS = 500,           /* a peer that went is drained for so long */
    LIVE_SET_LOOK_MS = 1000,            /* whether a peer that publishes has said something: its head at least, each second */
    LIVE_SET_SILENT_LOOKS = 4           /* in a row at which it had not: connected anew */
};

struct live_peer {
    struct node_peer info;
    bool gone;                          /* said goodbye or died; its socket is drained, then closed */
    bool said_goodbye;                  /* else it may be cut off, and come back */
    bool fenced;                        /* its fence was answered */
    void *user;                         /* the receiver's; e.g. its streams */
};

struct live_set;

/* Filters: for a level (exact or with what is below it); want_watermarks adds FF 'W'. Head notices are always taken.
 * hwm: frames for each peer. Own node's facts are received too, over its own address.
 * epoll_fd: the caller's, level-triggered, open for as long as the set is; the highest bit of its own events' data.u64 is 0 (no pointer and no
 * descriptor has it), and it puts up with events that it has not asked for. */
int live_set_new (struct fm_node *node, int epoll_fd, struct fm_slice level, bool exact, bool want_watermarks, int hwm, struct live_set **ret_set);
void live_set_destroy (struct live_set **set);

/* Every event of the descriptor is to be shown; what others register there has a data.u64 below 2^63 (all of it set: not through data.fd). True: it was
 * the set's, and live_set_receive or live_set_update may have something: call receive until -EAGAIN, update, and if that returned a time in the past
 * or members changed, receive again. */
bool live_set_event (struct live_set *set, const struct epoll_event *event);

/* For a while frames are not taken, and members looked at (live_set_look) now and then: neither ends a wait. */
void live_set_mute (struct live_set *set, bool mute);

/* Take over members that came or went, send fences that are due, time out old ones; returns the monotonic time in ns when to call again
 * (UINT64_MAX: not by itself; now_ns: receive first). */
uint64_t live_set_update (struct live_set *set, uint64_t now_ns);

/* The next update sees whether members came or went, without a wait or a receive; and what to wait on for that alone. */
void live_set_look (struct live_set *set);
int live_set_members_fd (const struct live_set *set);

/* Grows when members came, went or changed. */
uint64_t live_set_changes (const struct live_set *set);

enum live_kind { LIVE_BATCH, LIVE_HEAD, LIVE_FENCE, LIVE_WATERMARK, LIVE_ENDED, LIVE_PEER_GONE };

/* The next frame: kind, from whom, and for a batch its topic and body; the message, initialised by the caller, is the caller's to close (zmq_msg_move
 * away to keep). Malformed frames are counted and skipped. LIVE_PEER_GONE comes once, after the last frame of a peer that went: *ret_peer is valid
 * until the next call. Fair: takes at most a burst from one peer while others wait. Returns 0, or -EAGAIN: nothing now, wait on the descriptor. */
struct live_frame {
    enum live_kind kind;
    struct live_peer *peer;
    struct fm_slice topic;              /* LIVE_BATCH: without the outer dots; a level when the batch has several topics */
    struct fm_slice body;               /* points into the message */
};
int live_set_receive (struct live_set *set, zmq_msg_t *message, struct live_frame *ret_frame);

/* Every peer now known; index below live_set_count, else NULL. An index holds until the next update or receive. */
struct live_peer *live_set_peer (struct live_set *set, size_t index);
size_t live_set_count (const struct live_set *set);
/* Have all peers that are known been fenced? */
bool live_set_fenced (const struct live_set *set);

#endif
