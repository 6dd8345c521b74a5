#include "blob_pool.h"
#include "replay_client.h"

enum { NS_PER_MS = 1000000 };

void blob_pool_init (struct blob_pool *pool, struct fm_node *node)
{
    *pool = (struct blob_pool) { .node = node, .idle_ms = BLOB_POOL_IDLE_MS };
    (void) pthread_mutex_init (&pool->lock, NULL);      /* can't fail with these attributes */
}

/* With the lock. What is closed there: a socket without linger, which costs no wait. */
static struct replay_client *remove_at (struct blob_pool *pool, size_t at)
{
    struct replay_client *client = pool->items[at].client;
    pool->count--;
    memmove (&pool->items[at], &pool->items[at + 1], (pool->count - at) * sizeof pool->items[0]);
    return client;
}

static void close_first (struct blob_pool *pool)
{
    struct replay_client *client = remove_at (pool, 0);
    replay_client_destroy (&client);
}

void blob_pool_release (struct blob_pool *pool)
{
    while (pool->count)
        close_first (pool);
    (void) pthread_mutex_destroy (&pool->lock);
}

/* Node's thread. */
static uint64_t tick (void *arg, uint64_t now_ns)
{
    struct blob_pool *pool = arg;
    const uint64_t idle_ns = (uint64_t) pool->idle_ms * NS_PER_MS;
    pthread_mutex_lock (&pool->lock);
    while (pool->count && now_ns >= pool->items[0].since_ns + idle_ns)
        close_first (pool);
    const uint64_t due_ns = pool->count ? pool->items[0].since_ns + idle_ns : UINT64_MAX;
    pthread_mutex_unlock (&pool->lock);
    return due_ns;
}

struct replay_client *blob_pool_take (struct blob_pool *pool, const struct fm_id *node)
{
    struct replay_client *client = NULL;
    pthread_mutex_lock (&pool->lock);
    /* The last one first: the others grow old, and are closed. */
    for (size_t i = pool->count; i-- && !client;)
        if (id_equal (&pool->items[i].node, node))
            client = remove_at (pool, i);
    pthread_mutex_unlock (&pool->lock);
    return client;
}

/* The first one that is kept: from now on the node's thread looks. Without the lock. */
static bool begin_ticks (struct blob_pool *pool)
{
    pthread_mutex_lock (&pool->lock);
    const bool ticks = pool->ticks;
    pool->ticks = true;
    pthread_mutex_unlock (&pool->lock);
    const struct node_worker worker = { .arg = pool, .tick = tick };
    if (ticks || node_add_worker (pool->node, &worker) == 0)
        return true;
    pthread_mutex_lock (&pool->lock);
    pool->ticks = false;
    pthread_mutex_unlock (&pool->lock);
    return false;
}

void blob_pool_give (struct blob_pool *pool, const struct fm_id *node, struct replay_client **client)
{
    if (!begin_ticks (pool)) {
        replay_client_destroy (client);
        return;
    }
    pthread_mutex_lock (&pool->lock);
    if (pool->count == BLOB_POOL_MAX)
        close_first (pool);
    pool->items[pool->count++] = (struct blob_pool_item) { .client = *client, .node = *node, .since_ns = node_now () };
    const bool first = pool->count == 1;
    pthread_mutex_unlock (&pool->lock);
    *client = NULL;
    if (first)
        node_wake (pool->node);         /* else it wakes for an older one */
}
