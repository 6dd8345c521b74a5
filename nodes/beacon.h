/* beacon: finds the nodes of the local network by UDP broadcast, through czmq's zbeacon (a thread of its own, with a pipe that the node's
 * thread watches).
 *
 * Owns:    the actor.   Thread: one, the node's.
 * Bytes:   "FMSH" and a Beacon message; proto/SPEC.md.
 * Note:    czmq is told to leave SIGINT and SIGTERM alone, and to log to standard error: what a program prints is its own business. */

#ifndef FM_NODES_BEACON_H
#define FM_NODES_BEACON_H

#include <stdint.h>

#include "peer_info.h"

struct beacon;

struct beacon_options {
    int port;                           /* UDP */
    const char *interface;              /* NULL: the first that broadcasts */
    struct fm_slice mesh;
    struct fm_id node;
    uint16_t control_port;              /* 0: nobody can reach us by it; listen only */
};

/* Begin to tell and to listen. FM_ERR_UNREACHABLE: no interface (or not this one) broadcasts; -ENOMEM. */
int beacon_new (const struct beacon_options *options, struct beacon **ret_beacon);
void beacon_destroy (struct beacon **beacon);
int beacon_fd (const struct beacon *beacon);    /* edge-triggered: receive until -EAGAIN */

/* The next sign of another node of our mesh: an info with its id and its control address (the caller's to free). 0; -EAGAIN. Others' are skipped. */
int beacon_receive (struct beacon *beacon, struct peer_info **ret_info);

/* One datagram from the host `from`. Broadcasts are anybody's: FM_ERR_MALFORMED, FM_ERR_VERSION, FM_ERR_MESH for what is not for us. Pure. */
int beacon_decode (struct fm_slice datagram, const char *from, struct fm_slice mesh, const struct fm_id *self, struct peer_info **ret_info);

/* Leave the signals alone; before any other call to czmq in the process. Any thread, any number of times. */
void beacon_czmq_init (void);

#endif
