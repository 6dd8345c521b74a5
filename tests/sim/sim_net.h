/* sim_net: ZeroMQ as the code under test sees it (XPUB, SUB, DEALER; ROUTER is sim_node's): connections that deliver in order, late, and
 * break; frames of an XPUB dropped by chance and beyond the high-water mark; subscriptions that travel, and are taken in only by calls on the
 * XPUB; a broken connection that is made anew, with the subscriptions sent in any order.
 *
 * Simpler than the real one: a descriptor is level-triggered. */

#ifndef FM_TESTS_SIM_NET_H
#define FM_TESTS_SIM_NET_H

#include "sim.h"

enum { SIM_HOSTS_MAX = 16, SIM_ADDRESS_MAX = 64 };

/* How bad the network is, for the run. */
struct sim_net_options {
    unsigned drop_per_thousand;             /* frames of an XPUB */
    unsigned busy_per_thousand;             /* answers through a ROUTER that find the queue full */
    uint64_t delay_ns;                      /* usual */
    uint64_t spike_ns;                      /* now and then */
};
void sim_net_set (const struct sim_net_options *options);

/* A control endpoint: what comes goes to `take`, with the connection's number. */
void sim_net_bind_control (struct sim_process *p, const char *address, void (*take) (struct sim_process *p, uint64_t link, const void *data, size_t len));
/* Answer on that connection. False: it is gone. */
bool sim_net_answer (uint64_t link, const void *data, size_t len);
void *sim_net_socket (struct sim_process *p, int type);
void sim_net_bind (void *socket, const char *address);
void sim_net_connect (void *socket, const char *address);

/* No packet passes between the two hosts until then; connections break. sim_net_break: they break, that is all. */
void sim_net_cut (unsigned host_a, unsigned host_b, uint64_t until);
bool sim_net_is_cut (unsigned host_a, unsigned host_b);
void sim_net_break (unsigned host_a, unsigned host_b);
/* How long a packet between the two takes now. */
uint64_t sim_net_delay (struct sim_random *r);

#endif
