/* sockets: every ZeroMQ socket of a node is made here, with the options that libzmq wants before bind and connect. */

#include "node_inner.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "error.h"

enum {
    RECONNECT_MS = 100,
    RECONNECT_MAX_MS = 1000,
    KEEPALIVE_IDLE_S = 10,
    KEEPALIVE_INTERVAL_S = 3,
    KEEPALIVE_PROBES = 3,
    UNANSWERED_MS = 30000,              /* what was sent and TCP does not acknowledge, or a peer that takes nothing: then the connection ends */
    CONNECT_MS = 5000,                  /* then another attempt: TCP's own come ever more rarely, up to a minute after the path is well again */
    BACKLOG = 1024,                     /* a mesh may come up at once */
    SUBSCRIPTION_MAX = 4096,            /* bytes of a message that an XPUB takes: subscriptions only */
    LIVE_MESSAGE_MAX = 1 << 20          /* that a SUB takes: frames are at most LIVE_FRAME_MAX; the rest is room for the future */
};

static int context_new (int sockets, int io_threads, void **ret_zmq)
{
    void *zmq = zmq_ctx_new ();
    if (!zmq)
        return -errno;
    int most = zmq_ctx_get (zmq, ZMQ_SOCKET_LIMIT);
    if (most > sockets)
        most = sockets;
    int rc = zmq_ctx_set (zmq, ZMQ_MAX_SOCKETS, most);
    assert (rc == 0);
    rc = zmq_ctx_set (zmq, ZMQ_IO_THREADS, io_threads);
    assert (rc == 0);
    *ret_zmq = zmq;
    return 0;
}

/* libzmq starts a context's threads with its first socket, and they inherit the priority of who makes it. No thread may go up
 * again: so it is one that lives for this alone. */
static void *start_low (void *arg)
{
    const struct fm_node *node = arg;
    node_thread_lower (node->serve_nice);
    void *socket = zmq_socket (node->zmq_serve, ZMQ_PAIR);
    if (socket)
        (void) zmq_close (socket);          /* the context's threads stay */
    return NULL;                            /* without it node_serve_socket will say what is missing */
}

static int serve_context_new (struct fm_node *node)
{
    enum { SERVE_SOCKETS_MAX = 8 };         /* the ROUTER, our own DEALER to it, and what libzmq needs itself */
    pthread_t thread;
    int rc = context_new (SERVE_SOCKETS_MAX, 1, &node->zmq_serve);
    if (rc == 0)
        rc = -pthread_create (&thread, NULL, start_low, node);
    if (rc == 0)
        (void) pthread_join (thread, NULL); /* it runs, and is not this one */
    return rc;
}

int node_zmq_new (struct fm_node *node)
{
    const int rc = context_new (ZMQ_SOCKETS_MAX, node->io_threads, &node->zmq);
    if (rc == 0 && node->serve_nice > 0)
        return serve_context_new (node);
    node->zmq_serve = node->zmq;
    return rc;
}

static void context_term (void *zmq)
{
    while (zmq && zmq_ctx_term (zmq) != 0 && errno == EINTR) {
        /* It waits for what lingers; a signal is no reason to leave sockets behind. */
    }
}

void node_zmq_term (struct fm_node *node)
{
    if (node->zmq_serve != node->zmq)
        context_term (node->zmq_serve);
    context_term (node->zmq);
}

static void set (void *socket, int option, int value)
{
    /* None of these can fail on a fresh socket with a value in range. */
    const int rc = zmq_setsockopt (socket, option, &value, sizeof value);
    assert (rc == 0);
    (void) rc;
}

/* TCP finds half-open connections, no ZeroMQ heartbeats: with those on, libzmq 4.3.4 aborts the process where a connection's queue is full, since a
 * connection that does not read sees no answers and is made anew while the word that there is room is on its way to the old one (`_input_stopped`,
 * #3937), or pings after it broke (`!_io_error`, #4364). Who is dead the membership knows sooner, and live_set a publisher that says nothing. */
static void find_half_open (void *socket)
{
    set (socket, ZMQ_TCP_KEEPALIVE, 1);
    set (socket, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S);
    set (socket, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S);
    set (socket, ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES);
    set (socket, ZMQ_TCP_MAXRT, UNANSWERED_MS);
}

/* What comes is taken without a bound, also from strangers: where a full queue makes libzmq 4.3.4 stop reading, and the connection then breaks, a PING
 * that was received before aborts the process as well (#4364), and anybody who can connect can bring that about. So the node's thread sees to it that
 * queues stay short (flood.h), a replay's by its credit. A SUB alone has a bound (live_set): a publisher does not wait for its subscribers. */
static void take_all (void *socket)
{
    set (socket, ZMQ_RCVHWM, 0);
}

static int socket_new (void *zmq, int type, void **ret_socket)
{
    void *socket = zmq_socket (zmq, type);
    if (!socket)
        return error_set (-errno, "cannot make another socket: %s (is the limit of open files, `ulimit -n`, high enough?)", zmq_strerror (errno));
    int64_t message_max = CONTROL_FRAME_MAX;
    set (socket, ZMQ_LINGER, 0);
    set (socket, ZMQ_RECONNECT_IVL, RECONNECT_MS);
    set (socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
    set (socket, ZMQ_CONNECT_TIMEOUT, CONNECT_MS);
    set (socket, ZMQ_BACKLOG, BACKLOG);
    find_half_open (socket);
    take_all (socket);
    switch (type) {
    case ZMQ_SUB:
        set (socket, ZMQ_SNDHWM, 0);    /* subscriptions above the mark are lost without a word (libzmq #2258) */
        message_max = LIVE_MESSAGE_MAX;
        break;
    case ZMQ_XPUB:
        message_max = SUBSCRIPTION_MAX;
        break;
    case ZMQ_ROUTER:
        set (socket, ZMQ_ROUTER_MANDATORY, 1);
        break;
    default:
        break;
    }
    const int rc = zmq_setsockopt (socket, ZMQ_MAXMSGSIZE, &message_max, sizeof message_max);
    assert (rc == 0);
    (void) rc;
    *ret_socket = socket;
    return 0;
}

int node_socket (struct fm_node *node, int type, void **ret_socket)
{
    return socket_new (node->zmq, type, ret_socket);
}

int node_serve_socket (struct fm_node *node, int type, void **ret_socket)
{
    return socket_new (node->zmq_serve, type, ret_socket);
}

int node_connect (void *socket, const char *address)
{
    /* Not for all: with it libzmq would look up a name as IPv6 first, and "localhost" miss who listens at 127.0.0.1. */
    if (strchr (address, '['))
        set (socket, ZMQ_IPV6, 1);
    return zmq_connect (socket, address);
}

/* libzmq unlinks what is at an ipc path before it binds there: it would silently take the path away from a node that lives. */
static int check_path_free (const char *address)
{
    struct address a;
    if (address_parse (slice_of (address), ADDRESS_TO_BIND, &a) != 0 || a.kind != ADDRESS_IPC)
        return 0;
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    static_assert (sizeof at.sun_path > ADDRESS_PATH_MAX, "an ipc path and its NUL fit a socket's address");
    memcpy (at.sun_path, a.path, strlen (a.path) + 1);
    const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    const int rc = connect (fd, (const struct sockaddr *) &at, sizeof at);
    const bool alive = rc == 0 || errno == EAGAIN;
    (void) close (fd);      /* nothing was written */
    return alive ? error_set (FM_ERR_ADDRESS, "cannot listen at %s: another process does; choose another path or stop it", address) : 0;
}

int node_bind (void *socket, const char *address, char ret_bound[FM_PEER_ADDRESS_MAX])
{
    const int rc = check_path_free (address);
    if (rc != 0)
        return rc;
    if (strchr (address, '['))
        set (socket, ZMQ_IPV6, 1);
    if (zmq_bind (socket, address) != 0) {
        const int why = errno;
        if (why == ENOMEM || why == EMFILE || why == ENFILE)
            return -why;
        const char *advice = why == EADDRINUSE    ? "another process does; choose another port or stop it"
                             : why == EADDRNOTAVAIL || why == ENODEV ? "that is no address of this machine; use one of its own, or *"
                             : why == EACCES      ? "not allowed; choose a port from 1024, or a path that may be written"
                                                  : "choose another address";
        return error_set (FM_ERR_ADDRESS, "cannot listen at %s: %s: %s", address, zmq_strerror (why), advice);
    }
    char bound[ADDRESS_TEXT_MAX];
    size_t size = sizeof bound;
    if (zmq_getsockopt (socket, ZMQ_LAST_ENDPOINT, bound, &size) != 0)
        return -errno;
    memcpy (ret_bound, bound, sizeof bound);
    return 0;
}
