#include "live_set_inner.h"
#include "control.h"
#include "error.h"

#include <errno.h>

/* --- The fence. */

static void subscribe_fence (struct peer *peer, int option)
{
    uint8_t topic[2 + FENCE_NONCE_LEN] = { RESERVED_BYTE, RESERVED_FENCE };
    memcpy (topic + 2, peer->nonce, FENCE_NONCE_LEN);
    (void) zmq_setsockopt (peer->socket, option, topic, sizeof topic);      /* fails only without memory: timed out like a lost one */
}

void live_connection_fence_again (struct live_set *set, struct peer *peer, uint64_t now_ns)
{
    if (peer->fence_out)
        subscribe_fence (peer, ZMQ_UNSUBSCRIBE);
    const uint64_t nonce = id_random_u64 ();
    memcpy (peer->nonce, &nonce, sizeof peer->nonce);
    subscribe_fence (peer, ZMQ_SUBSCRIBE);
    peer->fence_out = true;
    peer->fence_due_ns = now_ns + peer->fence_wait_ms * (uint64_t) 1000000;
    peer->fence_wait_ms = 2 * peer->fence_wait_ms < LIVE_SET_FENCE_MAX_MS ? 2 * peer->fence_wait_ms : LIVE_SET_FENCE_MAX_MS;
    live_set_due (set, peer->fence_due_ns);
    live_set_ready (set, peer);
}

void live_connection_fence (struct live_set *set, struct peer *peer, uint64_t now_ns)
{
    set->unfenced += peer->live.fenced;
    peer->live.fenced = false;
    peer->fence_wait_ms = LIVE_SET_FENCE_MS;
    live_connection_fence_again (set, peer, now_ns);
}

void live_connection_fenced (struct live_set *set, struct peer *peer)
{
    if (!peer->live.fenced)
        set->unfenced--;
    peer->live.fenced = true;
}

/* For long, no process that is gone is the reason: two nodes tell one address. */
static void tell_foreign (struct live_set *set, const struct peer *peer)
{
    if (peer->fence_wait_ms == LIVE_SET_FENCE_MAX_MS)
        node_notice (set->node, "LIVE-FOREIGN", "peer=%s address=%s another node answers there: what this one publishes does not come live",
                     peer->live.info.name, peer->live.info.live);
}

bool live_connection_answered (struct live_set *set, struct peer *peer, struct fm_slice answer)
{
    if (!reserved_fence_is_of (answer, &peer->live.info.node)) {
        tell_foreign (set, peer);
        return false;
    }
    subscribe_fence (peer, ZMQ_UNSUBSCRIBE);
    peer->fence_out = false;
    live_connection_fenced (set, peer);
    return true;
}

/* --- Connecting. */

static int peer_subscribe (const struct live_set *set, void *socket)
{
    for (size_t i = 0; i < set->filter_count; i++) {
        if (zmq_setsockopt (socket, ZMQ_SUBSCRIBE, set->filters[i].bytes, set->filters[i].len) != 0)
            return -errno;
    }
    const uint8_t head[] = { RESERVED_BYTE, RESERVED_HEAD, 0 }, watermark[] = { RESERVED_BYTE, RESERVED_WATERMARK, 0 };
    const uint8_t ended[] = { RESERVED_BYTE, RESERVED_ENDED, 0 };
    if (zmq_setsockopt (socket, ZMQ_SUBSCRIBE, head, sizeof head) != 0)
        return -errno;
    if (zmq_setsockopt (socket, ZMQ_SUBSCRIBE, ended, sizeof ended) != 0)
        return -errno;
    if (set->want_watermarks && zmq_setsockopt (socket, ZMQ_SUBSCRIBE, watermark, sizeof watermark) != 0)
        return -errno;
    return 0;
}

/* Out of the epoll set first: zmq_close leaves the descriptor open for a while. */
void live_connection_close (struct live_set *set, struct peer *peer)
{
    if (!peer->socket)
        return;
    (void) epoll_ctl (set->epoll_fd, EPOLL_CTL_DEL, peer->fd, NULL);    /* not there when connecting failed */
    zmq_close (peer->socket);
    peer->socket = NULL;
}

static int peer_connect (struct live_set *set, struct peer *peer)
{
    int rc = node_socket (set->node, ZMQ_SUB, &peer->socket);
    if (rc != 0)
        return rc;
    const int none = 0;
    size_t fd_len = sizeof peer->fd;
    rc = -1;
    /* Subscriptions are messages; beyond a mark of their own they would be lost on reconnect. */
    if (zmq_setsockopt (peer->socket, ZMQ_RCVHWM, &set->hwm, sizeof set->hwm) == 0
        && zmq_setsockopt (peer->socket, ZMQ_SNDHWM, &none, sizeof none) == 0
        && node_connect (peer->socket, peer->live.info.live) == 0
        && zmq_getsockopt (peer->socket, ZMQ_FD, &peer->fd, &fd_len) == 0
        && live_set_watch (set, EPOLL_CTL_ADD, peer->fd, peer) == 0)
        rc = 0;
    rc = rc == 0 ? peer_subscribe (set, peer->socket) : -errno;
    if (rc != 0)
        live_connection_close (set, peer);
    return rc;
}

void live_connection_open (struct live_set *set, struct peer *peer, uint64_t now_ns)
{
    const int rc = peer_connect (set, peer);
    if (rc != 0) {
        if (!peer->connect_ns)
            node_notice (set->node, "LIVE-CONNECT", "peer=%s address=%s error=\"%s\"; tried again each %d ms", peer->live.info.name, peer->live.info.live,
                         fm_error_text (rc), (int) LIVE_SET_CONNECT_MS);
        peer->connect_ns = now_ns + LIVE_SET_CONNECT_MS * (uint64_t) 1000000;
        live_set_due (set, peer->connect_ns);
        return;
    }
    peer->connect_ns = 0;
    live_connection_fence (set, peer, now_ns);
}

/* --- Silence. */

void live_connection_silence_begins (struct live_set *set, struct peer *peer, uint64_t now_ns)
{
    peer->silent_looks = 0;
    peer->look_ns = now_ns + LIVE_SET_LOOK_MS * (uint64_t) 1000000;
    live_set_due (set, peer->look_ns);
}

/* What is queued here is read before the last look, and what the IO thread has in hand has a second: who was stopped himself, and so comes late
 * to all looks, must not blame the peer. */
void live_connection_look (struct live_set *set, struct peer *peer, uint64_t now_ns)
{
    if (!peer->publishes)
        return;
    if (now_ns < peer->look_ns) {
        live_set_due (set, peer->look_ns);
        return;
    }
    const unsigned looks = peer->heard ? 0 : peer->silent_looks + 1;
    peer->heard = false;
    live_connection_silence_begins (set, peer, now_ns);
    peer->silent_looks = looks;
    if (looks == LIVE_SET_SILENT_LOOKS - 1)
        live_set_ready (set, peer);
    if (looks < LIVE_SET_SILENT_LOOKS || peer->ready)
        return;
    node_notice (set->node, "LIVE-SILENT", "peer=%s address=%s nothing came for %d ms though it lives; connected anew", peer->live.info.name,
                 peer->live.info.live, LIVE_SET_SILENT_LOOKS * LIVE_SET_LOOK_MS);
    live_connection_close (set, peer);
    peer->fence_out = false;            /* its nonce went with the connection */
    if (peer_connect (set, peer) != 0)
        return;                         /* no descriptors, say: tried again with the next look */
    peer->publishes = false;            /* until facts or a head come on this connection */
    live_set_ready (set, peer);
}
