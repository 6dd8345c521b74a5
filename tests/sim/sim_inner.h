/* sim_inner: what the files of the simulation share among themselves. */

#ifndef FM_TESTS_SIM_INNER_H
#define FM_TESTS_SIM_INNER_H

#include "sim.h"

/* --- sim.c */

struct sim_thread;
struct sim_thread *sim_thread_new (struct sim_process *p, void *(*run) (void *), void *arg);
struct sim_thread *sim_thread_self (void);
bool sim_thread_done (const struct sim_thread *t);
/* Let others run; of a thread. */
void sim_yield (void);

/* --- sim_libc.c: descriptors, from SIM_FD_BASE on. */

enum { SIM_FD_BASE = 1 << 20 };
struct sim_file;
void sim_libc_begin (void);
void sim_libc_end (void);
/* Readable when it says so. */
int sim_fd_new (bool (*is_readable) (void *arg), void *arg);
void sim_fd_close (int fd);
int sim_list (int fd, int (*each) (void *arg, const char *name), void *arg);

/* --- sim_net.c */

void sim_net_end (void);
void sim_net_died (struct sim_process *p);
void sim_net_gone (struct sim_process *p);

/* --- sim_node.c */

/* Its live endpoint has something to read. */
void sim_node_look (struct sim_process *p);
void sim_nodes_end (void);
/* It died this moment: what it sent last may still arrive, or not. And: its threads have ended. */
void sim_process_died (struct sim_process *p);
void sim_process_gone (struct sim_process *p);

#endif
