/* node_thread: the node's own thread: receives, keeps time, calls workers.
 *
 *      wake-ups and due times --> membership's tick, workers' ticks --> what was touched --> notices --> sleep until
 *      the next due time, a socket, or node_wake --> sockets that are ready --> again
 *
 * Waking: `sleeping` is set before the last look at `woken`, and node_wake sets `woken` before it looks at `sleeping`; so either the thread sees
 * the wake-up or the waker sees the sleeper. Awake, a wake-up costs two atomics and no system call. */

#include "node_inner.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "error.h"

enum { EVENTS_MAX = 64, TIMER_SLACK_NS = 1000 };

uint64_t node_now (void)
{
    return clock_real.monotonic_ns (clock_real.context);
}

void node_thread_lower (int by)
{
    /* On Linux this is the thread's own. Down is always allowed. */
    (void) setpriority (PRIO_PROCESS, 0, getpriority (PRIO_PROCESS, 0) + by);
}

void node_wake (struct fm_node *node)
{
    if (atomic_exchange (&node->woken, true))
        return;         /* it is on its way already */
    if (!atomic_exchange (&node->sleeping, false))
        return;
    const uint64_t one = 1;
    ssize_t n;
    do {
        n = write (node->wake_fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);      /* EAGAIN: it is readable, which is all we want */
}

int node_watch (struct fm_node *node, int fd, uint64_t tag)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = tag };
    return epoll_ctl (node->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void node_unwatch (struct fm_node *node, int fd)
{
    (void) epoll_ctl (node->epoll_fd, EPOLL_CTL_DEL, fd, NULL);     /* not there when adding it failed */
}

/* --- Workers. */

static bool has_a_stream (const struct hook *hook)
{
    return hook->worker.streams != NULL;
}

int node_add_worker (struct fm_node *node, const struct node_worker *worker)
{
    const struct hook hook = { .arg = worker->arg, .worker = *worker };
    if (!hooks_add (&node->workers, &hook, false))
        return -ENOMEM;
    /* Beyond that an answer to a fence would not list them all, and no journal takes them. Counted behind the adding: two at a time must not both be the last. */
    if (worker->streams && hooks_count (&node->workers, has_a_stream) > STREAMS_PER_NODE_MAX) {
        hooks_remove (&node->workers, worker->arg);
        return error_set (FM_ERR_LIMIT, "this node publishes %d streams already: close some, or open another node", STREAMS_PER_NODE_MAX);
    }
    node_wake (node);
    return 0;
}

void node_remove_worker (struct fm_node *node, void *arg)
{
    hooks_remove (&node->workers, arg);
}

static void call_workers (struct fm_node *node, uint64_t now_ns)
{
    uint64_t order = 0, due_ns = UINT64_MAX;
    for (struct hook *h; (h = hooks_begin (&node->workers, &order));) {
        const uint64_t next_ns = h->worker.tick ? h->worker.tick (h->arg, now_ns) : UINT64_MAX;
        due_ns = next_ns < due_ns ? next_ns : due_ns;
        hooks_end (&node->workers, h);
    }
    node->workers_due_ns = due_ns;
}

size_t node_streams (struct fm_node *node, Factmesh__StreamHead *ret, size_t max)
{
    if (!node->streams_pinned) {
        hooks_pin (&node->workers);     /* what the ids point to stays until the next round */
        node->streams_pinned = true;
    }
    uint64_t order = 0;
    size_t count = 0;
    for (struct hook *h; count < max && (h = hooks_begin (&node->workers, &order));) {
        if (h->worker.streams)
            count += h->worker.streams (h->arg, ret + count, max - count);
        hooks_end (&node->workers, h);
    }
    assert (count <= max);
    return count;
}

struct closed_streams *node_closed_streams (struct fm_node *node)
{
    return &node->closed_streams;
}

static void unpin_streams (struct fm_node *node)
{
    if (node->streams_pinned)
        hooks_unpin (&node->workers);
    node->streams_pinned = false;
}

/* --- One round. */

static void take_changes (struct fm_node *node, uint64_t now_ns)
{
    (void) pthread_mutex_lock (&node->members_lock);    /* cannot fail: initialised, and never locked twice by a thread */
    const bool journal = node->new_journal;
    node->new_journal = false;
    if (journal)
        membership_set_journal (node->membership, now_ns, &node->journal, node->generation);
    if (atomic_exchange (&node->streams_changed, false))
        membership_self_changed (node->membership, now_ns);
    (void) pthread_mutex_unlock (&node->members_lock);
    node_act (node);
}

static void keep_time (struct fm_node *node, uint64_t now_ns)
{
    if (membership_due (node->membership) > now_ns)
        return;
    (void) pthread_mutex_lock (&node->members_lock);
    node_take_signs (node, now_ns);
    membership_tick (node->membership, now_ns);
    (void) pthread_mutex_unlock (&node->members_lock);
    node_act (node);
}

static void drain_live (struct fm_node *node)
{
    if (live_drain (node->live))
        live_answer_fences (node->live);
}

static void drain_beacon (struct fm_node *node)
{
    struct peer_info *info;
    node->beacon_touched = false;
    while (beacon_receive (node->beacon, &info) == 0) {
        (void) pthread_mutex_lock (&node->members_lock);
        membership_beacon (node->membership, node_now (), info);
        (void) pthread_mutex_unlock (&node->members_lock);
        node_act (node);
    }
}

static void handle_event (struct fm_node *node, uint64_t tag)
{
    uint64_t count;
    switch (tag) {
    case TAG_WAKE:
        (void) !read (node->wake_fd, &count, sizeof count);     /* nothing to read: as good */
        break;
    case TAG_ROUTER:
        node_drain_router (node);
        break;
    case TAG_LOOP:
        node_drain_loop (node);
        break;
    case TAG_LIVE:
        drain_live (node);
        break;
    case TAG_BEACON:
        drain_beacon (node);
        break;
    default:
        node_drain_contact (node, (uint32_t) tag);
    }
}

static uint64_t earlier (uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Sleep until something is to be done. ppoll on the epoll descriptor: epoll_wait counts in milliseconds, a batch's company in tens of microseconds. */
static int sleep_until (struct fm_node *node, uint64_t due_ns, struct epoll_event events[EVENTS_MAX])
{
    atomic_store (&node->sleeping, true);
    const uint64_t now_ns = node_now ();
    if (!atomic_load (&node->woken) && due_ns > now_ns && !node_is_touched (node)) {
        struct pollfd fd = { .fd = node->epoll_fd, .events = POLLIN };
        const uint64_t wait_ns = due_ns - now_ns;
        const struct timespec timeout = { .tv_sec = (time_t) (wait_ns / 1000000000u), .tv_nsec = (long) (wait_ns % 1000000000u) };
        (void) ppoll (&fd, 1, due_ns == UINT64_MAX ? NULL : &timeout, NULL);    /* whatever it says: epoll_wait tells */
    }
    atomic_store (&node->sleeping, false);
    return epoll_wait (node->epoll_fd, events, EVENTS_MAX, 0);
}

static void say_goodbye (struct fm_node *node)
{
    (void) pthread_mutex_lock (&node->members_lock);
    membership_close (node->membership);
    (void) pthread_mutex_unlock (&node->members_lock);
    node_act (node);
}

void *node_run (void *arg)
{
    struct fm_node *node = arg;
    struct epoll_event events[EVENTS_MAX];
    (void) pthread_setname_np (pthread_self (), "fm-node");             /* for people who look at threads */
    (void) prctl (PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);          /* without it a wait of 50 us takes 100 */
    while (!atomic_load (&node->stopping)) {
        const uint64_t now_ns = node_now ();
        const bool woken = atomic_exchange (&node->woken, false);
        if (woken)
            take_changes (node, now_ns);
        keep_time (node, now_ns);
        unpin_streams (node);
        if (woken || node->workers_due_ns <= now_ns)
            call_workers (node, now_ns);
        if (woken)
            drain_live (node);          /* a sender saw a subscription or a fence */
        if (node->beacon && node->beacon_touched)
            drain_beacon (node);
        node_drain_touched (node);
        node_notices_flush (node);
        const int n = sleep_until (node, earlier (membership_due (node->membership), node->workers_due_ns), events);
        for (int i = 0; i < n; i++)
            handle_event (node, events[i].data.u64);
    }
    say_goodbye (node);
    unpin_streams (node);
    node_notices_flush (node);
    return NULL;
}
