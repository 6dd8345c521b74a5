#include "live.h"
#include "control.h"
#include "node.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    SUBSCRIBE_BYTE = 1,             /* first byte of what an XPUB hands out; 0: unsubscribe */
    FENCE_TOPIC_LEN = 2 + FENCE_NONCE_LEN,
    READS_MAX = 1024,               /* subscriptions read in one go: a flood of them must not hold up a sender */
    ANSWERS_MAX = 64                /* fences answered with one look at the streams */
};

struct nonce {
    uint8_t bytes[FENCE_NONCE_LEN];
};

struct live {
    struct fm_node *node;
    pthread_mutex_t lock;           /* socket, fences */
    void *socket;
    int fd;
    char address[FM_PEER_ADDRESS_MAX];
    struct nonce fences[LIVE_FENCES_MAX];   /* ring */
    size_t fence_first, fence_count;
    uint64_t read_due;              /* live_send_batch reads again */

    /* Only ever rises. A count that fell with unsubscriptions could be talked down to 0 by one hostile peer, and a frame that
     * nobody takes costs next to nothing. */
    atomic_uint watermarks_wanted;

    /* Of the node's thread: the streams for a FenceAnswer. */
    Factmesh__StreamHead *heads;
    Factmesh__StreamHead **head_pointers;
};

/* ------------------------------------------------------------------ opening */

static int set_options (void *socket, int queue)
{
    const int verbose = 1;          /* a nonce that a dead connection still holds must be reported when it comes again */
    const int linger = LIVE_LINGER_MS;
    const bool failed = zmq_setsockopt (socket, ZMQ_SNDHWM, &queue, sizeof queue)
                        || zmq_setsockopt (socket, ZMQ_XPUB_VERBOSE, &verbose, sizeof verbose)
                        || zmq_setsockopt (socket, ZMQ_LINGER, &linger, sizeof linger);
    return failed ? -errno : 0;
}

int live_new (struct fm_node *node, const char *bind, int queue, struct live **ret_live)
{
    struct live *live = calloc (1, sizeof *live);
    if (!live)
        return -ENOMEM;
    live->node = node;
    (void) pthread_mutex_init (&live->lock, NULL);      /* cannot fail with default attributes */
    live->heads = malloc (STREAMS_PER_NODE_MAX * sizeof *live->heads);
    live->head_pointers = malloc (STREAMS_PER_NODE_MAX * sizeof *live->head_pointers);
    int rc = live->heads && live->head_pointers ? 0 : -ENOMEM;
    if (rc == 0)
        rc = node_socket (node, ZMQ_XPUB, &live->socket);
    if (rc == 0)
        rc = set_options (live->socket, queue);
    if (rc == 0)
        rc = node_bind (live->socket, bind, live->address);
    size_t len = sizeof live->fd;
    if (rc == 0 && zmq_getsockopt (live->socket, ZMQ_FD, &live->fd, &len))
        rc = -errno;
    if (rc) {
        live_destroy (&live);
        return rc;
    }
    for (size_t i = 0; i < STREAMS_PER_NODE_MAX; i++)
        live->head_pointers[i] = &live->heads[i];
    *ret_live = live;
    return 0;
}

void live_destroy (struct live **live)
{
    struct live *l = *live;
    if (!l)
        return;
    if (l->socket)
        (void) zmq_close (l->socket);                   /* fails only for what is no socket */
    (void) pthread_mutex_destroy (&l->lock);
    free (l->heads);
    free (l->head_pointers);
    free (l);
    *live = NULL;
}

const char *live_address (const struct live *live)
{
    return live->address;
}

int live_fd (const struct live *live)
{
    return live->fd;
}

/* ------------------------------------------------------------------ subscriptions */

static void take_subscription (struct live *live, const uint8_t *topic, size_t len)
{
    if (len < 2 || topic[0] != RESERVED_BYTE)
        return;
    if (topic[1] == RESERVED_WATERMARK)
        atomic_fetch_add_explicit (&live->watermarks_wanted, 1, memory_order_relaxed);
    if (topic[1] == RESERVED_FENCE && len == FENCE_TOPIC_LEN && live->fence_count < LIVE_FENCES_MAX) {
        struct nonce *nonce = &live->fences[(live->fence_first + live->fence_count++) % LIVE_FENCES_MAX];
        memcpy (nonce->bytes, topic + 2, FENCE_NONCE_LEN);
    }
}

/* Under the lock. Returns true when there may be more to read. */
static bool read_subscriptions (struct live *live)
{
    zmq_msg_t message;
    zmq_msg_init (&message);
    int n = 0;
    while (n < READS_MAX && zmq_msg_recv (&message, live->socket, ZMQ_DONTWAIT) >= 0) {
        const uint8_t *data = zmq_msg_data (&message);
        const size_t len = zmq_msg_size (&message);
        if (len > 0 && data[0] == SUBSCRIBE_BYTE)
            take_subscription (live, data + 1, len - 1);
        n++;
    }
    zmq_msg_close (&message);
    return n == READS_MAX;
}

/* Under the lock. */
static void send_message (struct live *live, zmq_msg_t *message)
{
    if (zmq_msg_send (message, live->socket, ZMQ_DONTWAIT) < 0)
        zmq_msg_close (message);    /* the context is going down: there is nobody to send to */
}

/* Under the lock. Sending may have consumed the wake-up of a subscription that just came, which then nobody else would read. Returns true when
 * the node's thread has something to do now. */
static bool read_after_send (struct live *live)
{
    const unsigned wanted = live_watermarks_wanted (live);
    const bool more = read_subscriptions (live);
    return more || live->fence_count > 0 || live_watermarks_wanted (live) != wanted;
}

void live_send (struct live *live, zmq_msg_t *message)
{
    pthread_mutex_lock (&live->lock);
    send_message (live, message);
    const bool wake = read_after_send (live);
    pthread_mutex_unlock (&live->lock);
    if (wake)
        node_wake (live->node);
}

void live_send_batch (struct live *live, zmq_msg_t *message, uint64_t now)
{
    bool wake = false;
    pthread_mutex_lock (&live->lock);
    send_message (live, message);
    if (now >= live->read_due) {
        live->read_due = now + LIVE_READ_US * UINT64_C (1000);
        wake = read_after_send (live);
    }
    pthread_mutex_unlock (&live->lock);
    if (wake)
        node_wake (live->node);
}

bool live_drain (struct live *live)
{
    bool more, fenced;
    const unsigned wanted = live_watermarks_wanted (live);
    do {
        pthread_mutex_lock (&live->lock);
        more = read_subscriptions (live);
        fenced = live->fence_count > 0;
        pthread_mutex_unlock (&live->lock);             /* let a sender in */
    } while (more && !fenced);
    if (more || live_watermarks_wanted (live) != wanted)
        node_wake (live->node);     /* there is more to read; publishers tell their watermarks to the new ones */
    return fenced;
}

unsigned live_watermarks_wanted (const struct live *live)
{
    return atomic_load_explicit (&live->watermarks_wanted, memory_order_relaxed);
}

/* ------------------------------------------------------------------ fences */

static size_t take_fences (struct live *live, struct nonce nonces[ANSWERS_MAX])
{
    size_t n = 0;
    pthread_mutex_lock (&live->lock);
    for (; n < ANSWERS_MAX && live->fence_count > 0; live->fence_count--) {
        nonces[n++] = live->fences[live->fence_first];
        live->fence_first = (live->fence_first + 1) % LIVE_FENCES_MAX;
    }
    pthread_mutex_unlock (&live->lock);
    return n;
}

void live_answer_fences (struct live *live)
{
    const struct fm_slice mesh = node_mesh (live->node);
    struct nonce nonces[ANSWERS_MAX];
    size_t n;
    while ((n = take_fences (live, nonces)) > 0) {
        /* Asked after the fences were read: what is sent from a stream's next_seq on passes subscriptions that came before them. */
        Factmesh__FenceAnswer answer = FACTMESH__FENCE_ANSWER__INIT;
        answer.major = PROTO_MAJOR;
        answer.minor = PROTO_MINOR;
        answer.mesh = control_put_slice (mesh);
        answer.node = control_put_id (node_id (live->node));
        answer.streams = live->head_pointers;
        answer.n_streams = node_streams (live->node, live->heads, STREAMS_PER_NODE_MAX);
        answer.n_streams += closed_streams_list (node_closed_streams (live->node), live->heads + answer.n_streams,
                                                 STREAMS_PER_NODE_MAX - answer.n_streams);
        for (size_t i = 0; i < answer.n_streams; i++)
            live->heads[i].name.len = 0;    /* with names the answer of a node with many streams would not fit a live frame */
        for (size_t i = 0; i < n; i++) {
            answer.nonce = control_put_slice (slice (nonces[i].bytes, FENCE_NONCE_LEN));
            zmq_msg_t message;
            if (control_encode_reserved (RESERVED_FENCE, nonces[i].bytes, &answer.base, &message) == 0)
                live_send (live, &message);
            /* else no memory: the asker times out and asks again */
        }
    }
}
