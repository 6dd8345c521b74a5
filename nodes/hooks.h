/* hooks: a list of callbacks that come and go from any thread while one thread calls them, without a lock held during a call.
 *
 * Owns:    its hooks.   Thread: any.
 * Promise: calls of one hook never overlap (a hook that calls back into the list in its own thread apart); after hooks_remove returned the hook is
 *          not being called, and never will be. A hook may remove itself from within its own call. */

#ifndef FM_NODES_HOOKS_H
#define FM_NODES_HOOKS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "node.h"

struct hook {
    struct hook *next;
    void *arg;
    uint64_t order;                     /* in which they are called: grows along the list */
    uint64_t seen;                      /* listeners: news up to here came before it */
    unsigned calls;                     /* in progress, all by one thread */
    pthread_t caller;
    bool removed, removed_within;
    union {
        struct node_listener listener;
        node_control_fn *control;
        struct node_worker worker;
    };
};

struct hook_list {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct hook *first;
    uint64_t first_order, last_order;   /* given last, at either end */
    unsigned pins;                      /* by one thread */
    pthread_t pinner;
};

#define HOOKS_ORDER_START (UINT64_C (1) << 32)

void hooks_init (struct hook_list *list);
void hooks_release (struct hook_list *list);        /* frees what is left */

/* Add a copy at the end; begun: as if hooks_begin had returned it already (end it). Returns NULL: no memory. */
struct hook *hooks_add (struct hook_list *list, const struct hook *hook, bool begun);

/* Add a copy in front of all that are there. */
struct hook *hooks_add_first (struct hook_list *list, const struct hook *hook);

/* How many there are of which that is so. */
size_t hooks_count (struct hook_list *list, bool (*is_so) (const struct hook *hook));

/* Remove all with this arg; waits for calls in progress in other threads. */
void hooks_remove (struct hook_list *list, const void *arg);

/* The next hook behind *order (0: the first), to be called by this thread until hooks_end. NULL: no more. */
struct hook *hooks_begin (struct hook_list *list, uint64_t *order);
void hooks_end (struct hook_list *list, struct hook *hook);

/* Until hooks_unpin, hooks_remove in other threads does not return: what the hooks handed out stays. One thread pins. */
void hooks_pin (struct hook_list *list);
void hooks_unpin (struct hook_list *list);

#endif
