/* sim_node: a stand-in for node.c and the membership, below the functions of node.h: a ROUTER that hands control messages to the handlers, a
 * thread that calls the workers and answers fences, members that come and go. Not simulated: Hello, gossip, pings (tests/unit/test_membership has
 * a simulation of those); who dies or is cut off or stopped for SIM_DEAD_MS is gone for the others. */

#ifndef FM_TESTS_SIM_NODE_H
#define FM_TESTS_SIM_NODE_H

#include "node.h"
#include "sim.h"

enum { SIM_DEAD_MS = 2500 };

/* Of a thread of the process. generation: part of the addresses; a process that has the addresses of an older one takes its place. */
struct fm_node *sim_node_open (const char *name, unsigned generation, int live_queue);
/* One that takes the place of an older one is heard of up to so much later: until then connections lead to it in the old name. */
void sim_node_set_unheard (uint64_t ns);
const struct node_peer *sim_node_info (const struct fm_node *node);
void sim_node_close (struct fm_node **node);

/* The two hosts are cut off for so long; the process stops for so long. */
void sim_cut (unsigned host_a, unsigned host_b, uint64_t ns);
void sim_stop (struct sim_process *p, uint64_t ns);

#endif
