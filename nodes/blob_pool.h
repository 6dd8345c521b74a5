/* blob_pool: a node's connections to journals that wait for the next blob, so that a small one need not pay for its own.
 *
 * Owns:    at most BLOB_POOL_MAX connections that nobody uses now; one more closes the one that waited longest.
 * Thread:  any (one lock). A connection that was taken belongs to its taker, until it is given back.
 * Promise: what waited for BLOB_POOL_IDLE_MS is closed, by the node's thread. */

#ifndef FM_NODES_BLOB_POOL_H
#define FM_NODES_BLOB_POOL_H

#include <pthread.h>

#include "node.h"

struct replay_client;

enum { BLOB_POOL_MAX = 8, BLOB_POOL_IDLE_MS = 10000 };

struct blob_pool_item {
    struct replay_client *client;
    struct fm_id node;                  /* whom it leads to: a journal that was started anew is another node */
    uint64_t since_ns;
};

struct blob_pool {
    struct fm_node *node;
    pthread_mutex_t lock;
    struct blob_pool_item items[BLOB_POOL_MAX];     /* the one that waits longest is the first */
    size_t count;
    uint32_t idle_ms;                   /* BLOB_POOL_IDLE_MS */
    bool ticks;                         /* the node's thread looks after it */
};

void blob_pool_init (struct blob_pool *pool, struct fm_node *node);
/* Nobody has a connection any more, and the node's thread has ended. */
void blob_pool_release (struct blob_pool *pool);

/* One that leads to this node; NULL: none waits. Answers to what its earlier users asked may still come. */
struct replay_client *blob_pool_take (struct blob_pool *pool, const struct fm_id *node);
/* Takes the connection, and closes it if it can't be kept. */
void blob_pool_give (struct blob_pool *pool, const struct fm_id *node, struct replay_client **client);

#endif
