#include "live_set_inner.h"
#include "control.h"
#include "error.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ZMQ_FD is edge-triggered: a socket stays on the ready list until a receive says EAGAIN; only then does its descriptor speak again. Calls that
 * send (subscribing) may swallow its word, so they put the socket on the list too. */

enum { EVENTS_AT_ONCE = 64 };

/* Of our events' data.u64; what else is in the caller's descriptor has not got it. The rest is the peer, or 0: the mailbox. */
#define OURS (UINT64_C (1) << 63)
static_assert (sizeof (void *) <= sizeof (uint64_t), "a peer fits an event's data");

/* --- The mailbox: filled by the node's thread. */

static void mail_put (struct live_set *set, const struct mail *mail)
{
    pthread_mutex_lock (&set->mail_lock);
    size_t i = 0;
    while (i < set->mail_count && !id_equal (&set->mail[i].info.node, &mail->info.node))
        i++;
    if (i == set->mail_size && i < LIVE_SET_MAIL_MAX) {
        const size_t size = set->mail_size ? 2 * set->mail_size : 16;
        struct mail *grown = realloc (set->mail, size * sizeof *grown);
        if (grown) {
            set->mail = grown;
            set->mail_size = size;
        }
    }
    if (i < set->mail_size) {
        set->mail[i] = *mail;
        set->mail_count += i == set->mail_count;
    } else {
        set->mail_overflow = true;
    }
    pthread_mutex_unlock (&set->mail_lock);
    const uint64_t one = 1;
    (void) !write (set->mail_fd, &one, sizeof one);     /* fails only when it is readable anyway */
}

static void on_up (void *arg, const struct node_peer *info)
{
    const struct mail mail = { .info = *info, .up = true };
    mail_put (arg, &mail);
}

static void on_down (void *arg, const struct fm_id *node, bool said_goodbye)
{
    const struct mail mail = { .info = { .node = *node }, .said_goodbye = said_goodbye };
    mail_put (arg, &mail);
}

static int listen_to_node (struct live_set *set)
{
    const struct node_listener listener = { .arg = set, .up = on_up, .down = on_down };
    return node_listen (set->node, &listener);
}

int live_set_watch (const struct live_set *set, int how, int fd, const struct peer *peer)
{
    struct epoll_event event = { .events = set->muted ? 0 : EPOLLIN, .data.u64 = OURS | (uintptr_t) peer };
    return epoll_ctl (set->epoll_fd, how, fd, &event);
}

/* --- Peers. */

void live_set_ready (struct live_set *set, struct peer *peer)
{
    if (peer->ready)
        return;
    peer->ready = true;
    peer->burst = 0;
    peer->next_ready = NULL;
    if (set->ready_last)
        set->ready_last->next_ready = peer;
    else
        set->ready_first = peer;
    set->ready_last = peer;
}

static void ready_pop (struct live_set *set)
{
    struct peer *peer = set->ready_first;
    set->ready_first = peer->next_ready;
    if (!set->ready_first)
        set->ready_last = NULL;
    peer->ready = false;
}

void live_set_due (struct live_set *set, uint64_t ns)
{
    if (ns < set->due_ns)
        set->due_ns = ns;
}

/* A node may be there twice: its old connection being drained, and its new one, which is what is found. */
static struct peer *find_peer (const struct live_set *set, const struct fm_id *node)
{
    struct peer *found = NULL;
    for (size_t i = 0; i < set->peer_count && (!found || found->live.gone); i++) {
        if (id_equal (&set->peers[i]->live.info.node, node))
            found = set->peers[i];
    }
    return found;
}

/* A member that there was no memory for: everybody is asked about once more. */
static void ask_again (struct live_set *set)
{
    pthread_mutex_lock (&set->mail_lock);
    set->mail_overflow = true;
    pthread_mutex_unlock (&set->mail_lock);
    set->mail_due = true;
}

/* Of two that are told to have one live address the one that started first is gone, and nobody has missed it yet. ZeroMQ
 * connected anew, so what comes over its connection is the other's, and no sign of its life. */
static void watch_sign (struct live_set *set, struct peer *peer)
{
    const struct node_peer *const info = &peer->live.info;
    for (size_t i = 0; i < set->peer_count; i++) {
        struct peer *const other = set->peers[i];
        if (other->live.gone || strcmp (other->live.info.live, info->live) != 0)
            continue;
        if (other->live.info.started_ns > info->started_ns)
            return;
        node_sign_unwatch (set->node, &other->sign);
    }
    node_sign_watch (set->node, &peer->sign, info->control);
}

static void add_peer (struct live_set *set, const struct node_peer *info, uint64_t now_ns)
{
    if (set->peer_count == LIVE_SET_PEERS_MAX) {
        node_notice (set->node, "LIVE-PEERS-FULL", "peer=%s limit=%d: its facts come from a journal only, if at all", info->name, LIVE_SET_PEERS_MAX);
        return;
    }
    if (set->peer_count == set->peer_size) {
        const size_t size = set->peer_size ? 2 * set->peer_size : 16;
        struct peer **grown = realloc (set->peers, size * sizeof (*grown));
        if (!grown) {
            ask_again (set);
            return;
        }
        set->peers = grown;
        set->peer_size = size;
    }
    struct peer *peer = calloc (1, sizeof *peer);
    if (!peer) {
        ask_again (set);
        return;
    }
    peer->live.info = *info;
    peer->fd = -1;
    /* Without a connection it is known all the same: it may be a journal, which needs none. */
    peer->live.fenced = true;
    watch_sign (set, peer);
    if (info->live[0])
        live_connection_open (set, peer, now_ns);
    set->peers[set->peer_count++] = peer;
    set->changes++;
}

static void peer_gone (struct live_set *set, struct peer *peer, uint64_t now_ns)
{
    if (peer->live.gone)
        return;
    peer->live.gone = true;
    live_connection_fenced (set, peer);
    peer->close_ns = now_ns + LIVE_SET_LINGER_MS * (uint64_t) 1000000;
    live_set_due (set, peer->close_ns);
    set->changes++;
}

static void peer_free (struct live_set *set, struct peer **peer)
{
    if (!*peer)
        return;
    live_connection_close (set, *peer);
    node_sign_unwatch (set->node, &(*peer)->sign);
    free (*peer);
    *peer = NULL;
}

/* Out of the set; still handed out once, with LIVE_PEER_GONE. Its connection is closed before: what comes over it would make it ready again. */
static void remove_peer (struct live_set *set, struct peer *peer)
{
    live_connection_close (set, peer);
    for (size_t i = 0; i < set->peer_count; i++) {
        if (set->peers[i] == peer) {
            set->peers[i] = set->peers[--set->peer_count];
            break;
        }
    }
    set->changes++;
}

static void take_mail (struct live_set *set, const struct mail *mail, uint64_t now_ns)
{
    struct peer *peer = find_peer (set, &mail->info.node);
    if (!mail->up) {
        if (peer) {
            peer->live.said_goodbye = mail->said_goodbye;
            peer_gone (set, peer, now_ns);
        }
    } else if (!peer) {
        add_peer (set, &mail->info, now_ns);
    } else if (strcmp (peer->live.info.live, mail->info.live) == 0) {
        if (peer->live.gone) {          /* thought dead, and back: the old connection may be half open */
            peer->close_ns = now_ns;
            live_set_due (set, now_ns);
            add_peer (set, &mail->info, now_ns);
        } else {
            const bool is_journal_now = mail->info.is_journal && !peer->live.info.is_journal;
            peer->live.info = mail->info;
            set->changes++;
            if (is_journal_now && peer->socket)
                live_connection_fence (set, peer, now_ns);      /* as of a journal that comes: a node is a member before its log is recovered */
        }
    } else {
        /* Another address: a new connection, the old one is drained. */
        peer_gone (set, peer, now_ns);
        add_peer (set, &mail->info, now_ns);
    }
}

/* More news than the mailbox could take: begin anew, and whoever is not told of again is gone. */
static void resync (struct live_set *set, uint64_t now_ns)
{
    node_unlisten (set->node, set);
    set->mail_overflow = false;         /* nobody else looks now */
    set->mail_count = 0;
    if (listen_to_node (set)) {
        ask_again (set);
        return;
    }
    pthread_mutex_lock (&set->mail_lock);
    for (size_t i = 0; i < set->peer_count; i++) {
        bool told = false;
        for (size_t m = 0; m < set->mail_count && !told; m++)
            told = set->mail[m].up && id_equal (&set->mail[m].info.node, &set->peers[i]->live.info.node);
        if (!told)
            peer_gone (set, set->peers[i], now_ns);
    }
    pthread_mutex_unlock (&set->mail_lock);
}

static void update_mail (struct live_set *set, uint64_t now_ns)
{
    uint64_t rung;
    if (!set->mail_due)
        return;
    set->mail_due = false;
    (void) !read (set->mail_fd, &rung, sizeof rung);    /* first: what comes while we look rings again */
    pthread_mutex_lock (&set->mail_lock);
    const bool overflow = set->mail_overflow;
    pthread_mutex_unlock (&set->mail_lock);
    if (overflow)
        resync (set, now_ns);
    pthread_mutex_lock (&set->mail_lock);
    struct mail *mail = set->mail;
    const size_t count = set->mail_count;
    set->mail = NULL;
    set->mail_count = set->mail_size = 0;
    pthread_mutex_unlock (&set->mail_lock);
    for (size_t i = 0; i < count; i++)
        take_mail (set, &mail[i], now_ns);
    free (mail);
}

uint64_t live_set_update (struct live_set *set, uint64_t now_ns)
{
    update_mail (set, now_ns);
    if (set->mail_due && set->due_ns > now_ns)
        live_set_due (set, now_ns + LIVE_SET_ASK_AGAIN_MS * (uint64_t) 1000000);
    if (now_ns < set->due_ns)
        return set->ready_first ? now_ns : set->due_ns;
    set->due_ns = UINT64_MAX;
    if (set->mail_due)
        live_set_due (set, now_ns + LIVE_SET_ASK_AGAIN_MS * (uint64_t) 1000000);
    for (size_t i = 0; i < set->peer_count; i++) {
        struct peer *peer = set->peers[i];
        if (peer->live.gone) {
            if (now_ns >= peer->close_ns)
                live_set_ready (set, peer);
            else
                live_set_due (set, peer->close_ns);
            continue;
        }
        if (peer->connect_ns && now_ns >= peer->connect_ns)
            live_connection_open (set, peer, now_ns);
        else if (peer->connect_ns)
            live_set_due (set, peer->connect_ns);
        live_connection_look (set, peer, now_ns);
        if (peer->live.fenced)
            continue;
        if (now_ns >= peer->fence_due_ns)
            live_connection_fence_again (set, peer, now_ns);
        else
            live_set_due (set, peer->fence_due_ns);
    }
    return set->ready_first ? now_ns : set->due_ns;
}

/* --- Receiving. */

static bool poll_ready (struct live_set *set)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    const int count = epoll_wait (set->epoll_fd, events, EVENTS_AT_ONCE, 0);
    for (int i = 0; i < count; i++)
        (void) live_set_event (set, &events[i]);        /* the caller's are there at its next wait as well */
    return set->ready_first != NULL;
}

static void flush_counters (struct live_set *set)
{
    if (set->frames)
        node_count (set->node, NODE_FRAMES_RECEIVED, set->frames);
    if (set->refused)
        node_count (set->node, NODE_FRAMES_REFUSED, set->refused);
    set->frames = set->refused = 0;
}

static int read_frame (struct live_set *set, struct peer *peer, zmq_msg_t *message, struct live_frame *ret_frame)
{
    const uint8_t *bytes = zmq_msg_data (message);
    const size_t len = zmq_msg_size (message);
    if (zmq_msg_more (message))
        return error_set (FM_ERR_MALFORMED, "a live message of several frames");
    if (len == 0 || bytes[0] != RESERVED_BYTE) {
        ret_frame->kind = LIVE_BATCH;
        return topic_from_frame (bytes, len, &ret_frame->topic, &ret_frame->body);
    }
    uint8_t kind;
    struct fm_slice nonce;
    const int rc = reserved_from_frame (bytes, len, &kind, &nonce, &ret_frame->body);
    if (rc != 0)
        return rc;
    switch (kind) {
    case RESERVED_HEAD:
        ret_frame->kind = LIVE_HEAD;
        return 0;
    case RESERVED_WATERMARK:
        ret_frame->kind = LIVE_WATERMARK;
        return 0;
    case RESERVED_ENDED:
        ret_frame->kind = LIVE_ENDED;
        return 0;
    default:
        if (kind != RESERVED_FENCE || !peer->fence_out || memcmp (nonce.data, peer->nonce, FENCE_NONCE_LEN) != 0)
            return FM_ERR_UNKNOWN;      /* an older nonce's */
        if (!live_connection_answered (set, peer, ret_frame->body))
            return FM_ERR_UNKNOWN;
        ret_frame->kind = LIVE_FENCE;
        return 0;
    }
}

/* What follows the first frame of a message that should have had one. */
static void skip_rest (struct peer *peer, zmq_msg_t *message)
{
    while (zmq_msg_more (message) && zmq_msg_recv (message, peer->socket, ZMQ_DONTWAIT) >= 0)
        ;
}

/* The first of the ready list has nothing more. True: it is gone for good. */
static bool peer_drained (struct live_set *set, struct peer *peer)
{
    ready_pop (set);
    if (!peer->live.gone || node_now () < peer->close_ns)
        return false;
    remove_peer (set, peer);
    set->dying = peer;
    return true;
}

int live_set_receive (struct live_set *set, zmq_msg_t *message, struct live_frame *ret_frame)
{
    peer_free (set, &set->dying);
    if (!set->ready_first)
        (void) poll_ready (set);
    /* When the list has run empty the descriptor tells whether there is more: that is for the caller's next wait to ask. */
    while (set->ready_first) {
        struct peer *peer = set->ready_first;
        if (!peer->socket || zmq_msg_recv (message, peer->socket, ZMQ_DONTWAIT) < 0) {
            peer->queued = false;
            flush_counters (set);
            if (peer_drained (set, peer)) {
                *ret_frame = (struct live_frame) { .kind = LIVE_PEER_GONE, .peer = &peer->live };
                return 0;
            }
            continue;
        }
        set->frames++;
        peer->heard = true;
        if (!peer->queued)
            node_sign_give (&peer->sign);
        peer->queued = true;
        struct live_frame frame = { .peer = &peer->live };
        const int rc = read_frame (set, peer, message, &frame);
        if (rc == 0 && !peer->publishes && (frame.kind == LIVE_BATCH || frame.kind == LIVE_HEAD)) {
            peer->publishes = true;
            live_connection_silence_begins (set, peer, node_now ());
        }
        if (++peer->burst == LIVE_SET_BURST) {
            ready_pop (set);
            (void) poll_ready (set);
            live_set_ready (set, peer);
        }
        if (rc == 0) {
            *ret_frame = frame;
            return 0;
        }
        set->refused += rc != FM_ERR_UNKNOWN;
        skip_rest (peer, message);
    }
    return -EAGAIN;
}

/* --- The rest. */

int live_set_new (struct fm_node *node, int epoll_fd, struct fm_slice level, bool exact, bool want_watermarks, int hwm, struct live_set **ret_set)
{
    struct live_set *set = calloc (1, sizeof *set);
    if (!set)
        return -ENOMEM;
    set->node = node;
    set->want_watermarks = want_watermarks;
    set->hwm = hwm;
    set->filter_count = topic_wire_filters (level, exact, set->filters);
    set->due_ns = UINT64_MAX;
    set->mail_due = true;
    pthread_mutex_init (&set->mail_lock, NULL);
    set->epoll_fd = epoll_fd;
    set->mail_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = 0;
    if (set->mail_fd < 0 || live_set_watch (set, EPOLL_CTL_ADD, set->mail_fd, NULL) != 0)
        rc = error_set (-errno, "live connections: no descriptors");
    if (rc == 0)
        rc = listen_to_node (set);
    if (rc != 0) {
        set->node = NULL;               /* not listening */
        live_set_destroy (&set);
        return rc;
    }
    *ret_set = set;
    return 0;
}

void live_set_destroy (struct live_set **set)
{
    struct live_set *s = *set;
    if (!s)
        return;
    if (s->node) {
        node_unlisten (s->node, s);
        flush_counters (s);
    }
    peer_free (s, &s->dying);
    for (size_t i = 0; i < s->peer_count; i++)
        peer_free (s, &s->peers[i]);
    free (s->peers);
    free (s->mail);
    if (s->mail_fd >= 0) {
        (void) epoll_ctl (s->epoll_fd, EPOLL_CTL_DEL, s->mail_fd, NULL);   /* not there when making the set failed */
        close (s->mail_fd);
    }
    pthread_mutex_destroy (&s->mail_lock);
    free (s);
    *set = NULL;
}

bool live_set_event (struct live_set *set, const struct epoll_event *event)
{
    if (!(event->data.u64 & OURS))
        return false;
    struct peer *peer = (struct peer *) (uintptr_t) (event->data.u64 & ~OURS);
    if (peer)
        live_set_ready (set, peer);
    else
        set->mail_due = true;
    return true;
}

void live_set_mute (struct live_set *set, bool mute)
{
    set->muted = mute;
    (void) live_set_watch (set, EPOLL_CTL_MOD, set->mail_fd, NULL);      /* none can fail: they are there */
    for (size_t i = 0; i < set->peer_count; i++) {
        if (set->peers[i]->socket)
            (void) live_set_watch (set, EPOLL_CTL_MOD, set->peers[i]->fd, set->peers[i]);
    }
}

void live_set_look (struct live_set *set)
{
    set->mail_due = true;
}

int live_set_members_fd (const struct live_set *set)
{
    return set->mail_fd;
}

uint64_t live_set_changes (const struct live_set *set)
{
    return set->changes;
}

struct live_peer *live_set_peer (struct live_set *set, size_t index)
{
    return index < set->peer_count ? &set->peers[index]->live : NULL;
}

size_t live_set_count (const struct live_set *set)
{
    return set->peer_count;
}

bool live_set_fenced (const struct live_set *set)
{
    return set->unfenced == 0;
}
