/* live: a node's XPUB endpoint. Sends batches and notices, reads subscriptions, answers fences.
 *
 * Thread:  any; the socket is under one lock. Sending reads pending subscriptions too, since an XPUB handles them only inside calls.
 * Bounded: queue frames (high-water mark) for each peer; beyond it frames for that peer are dropped, which it notices by `prev`.
 *          LIVE_FENCES_MAX fences wait; beyond it they are dropped, which their askers notice by time-out. */

#ifndef FM_NODES_LIVE_H
#define FM_NODES_LIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <zmq.h>

#include "id.h"

struct fm_node;
struct live;

enum {
    LIVE_FENCES_MAX = 4096,         /* a mesh's members joining at once */
    LIVE_READ_US = 500,             /* live_send_batch reads subscriptions at most this often */
    LIVE_LINGER_MS = 1000           /* what is queued for live peers may still leave when the node closes */
};

/* Bind. bind is a wildcard or concrete address; the real one is live_address. FM_ERR_ADDRESS, -errno. */
int live_new (struct fm_node *node, const char *bind, int queue, struct live **ret_live);
void live_destroy (struct live **live);
const char *live_address (const struct live *live);
int live_fd (const struct live *live);              /* the socket's ZMQ_FD, for the node's thread */

/* Send one frame (takes the message, also on failure). Never blocks: XPUB drops for a slow peer. */
void live_send (struct live *live, zmq_msg_t *message);
/* The same for the many: reading subscriptions costs a system call, which this one spares while the last reading (now: monotonic, ns) is fresh.
 * So it may leave a subscription unread whose wake-up it consumed: whoever uses it calls live_send soon after its last one (publishers
 * tell their head then), and so bounds how long a fence waits. */
void live_send_batch (struct live *live, zmq_msg_t *message, uint64_t now);

/* Read subscriptions that came in; fences are put aside and answered by live_answer_fences (node's thread), after asking each worker
 * of the node for its streams. Returns true when a fence waits. */
bool live_drain (struct live *live);
void live_answer_fences (struct live *live);

/* How many subscriptions to watermarks (FF 'W') have come so far. 0: nobody wants them. Any thread, without the lock. */
unsigned live_watermarks_wanted (const struct live *live);

#endif
