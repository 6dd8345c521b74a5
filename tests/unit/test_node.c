/* node: real nodes in one process, over tcp on loopback and ipc; strangers by hand. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "one_node.h"

/* --- A witness: hears of members and of notices, and can be waited for. */

struct witness {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct fm_id known[64];
    size_t count, ups, downs, goodbyes;
    bool twice;                         /* an up of one that was up, a down of one that was not */
    char notices[16][512];
    size_t notice_count;
};

static void witness_init (struct witness *w)
{
    memset (w, 0, sizeof *w);
    pthread_condattr_t attr;
    pthread_condattr_init (&attr);
    pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
    pthread_cond_init (&w->changed, &attr);
    pthread_condattr_destroy (&attr);
    pthread_mutex_init (&w->lock, NULL);
}

static size_t place_of (const struct witness *w, const struct fm_id *id)
{
    size_t i = 0;
    while (i < w->count && !id_equal (&w->known[i], id))
        i++;
    return i;
}

static void on_up (void *arg, const struct node_peer *peer)
{
    struct witness *w = arg;
    pthread_mutex_lock (&w->lock);
    const size_t i = place_of (w, &peer->node);
    w->twice = w->twice || i < w->count;
    w->known[w->count++ % 64] = peer->node;
    w->ups++;
    pthread_cond_broadcast (&w->changed);
    pthread_mutex_unlock (&w->lock);
}

static void on_down (void *arg, const struct fm_id *node, bool said_goodbye)
{
    struct witness *w = arg;
    pthread_mutex_lock (&w->lock);
    const size_t i = place_of (w, node);
    if (i < w->count)
        w->known[i] = w->known[--w->count];
    else
        w->twice = true;
    w->downs++;
    w->goodbyes += said_goodbye;
    pthread_cond_broadcast (&w->changed);
    pthread_mutex_unlock (&w->lock);
}

static void on_notice (void *arg, const char *id, const char *text)
{
    struct witness *w = arg;
    pthread_mutex_lock (&w->lock);
    if (w->notice_count < 16)
        snprintf (w->notices[w->notice_count++], sizeof w->notices[0], "%s %s", id, text);
    pthread_cond_broadcast (&w->changed);
    pthread_mutex_unlock (&w->lock);
}

static struct timespec in_ms (int ms)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    return t;
}

/* Wait until *value is at least wanted. */
static void wait_value (struct witness *w, const size_t *value, size_t wanted, const char *what)
{
    const struct timespec until = in_ms (PATIENCE_MS);
    int rc = 0;
    pthread_mutex_lock (&w->lock);
    while (*value < wanted && rc == 0)
        rc = pthread_cond_timedwait (&w->changed, &w->lock, &until);
    const size_t reached = *value;
    pthread_mutex_unlock (&w->lock);
    if (reached < wanted)
        fail_msg ("%s: %zu, not %zu", what, reached, wanted);
}

static bool has_notice (struct witness *w, const char *begin)
{
    for (size_t i = 0; i < w->notice_count; i++) {
        if (strncmp (w->notices[i], begin, strlen (begin)) == 0)
            return true;
    }
    return false;
}

static void wait_notice (struct witness *w, const char *begin)
{
    const struct timespec until = in_ms (PATIENCE_MS);
    int rc = 0;
    pthread_mutex_lock (&w->lock);
    while (!has_notice (w, begin) && rc == 0)
        rc = pthread_cond_timedwait (&w->changed, &w->lock, &until);
    const bool found = has_notice (w, begin);
    pthread_mutex_unlock (&w->lock);
    if (!found)
        fail_msg ("no notice %s", begin);
}

static struct node_listener listener (struct witness *w)
{
    return (struct node_listener) { .arg = w, .up = on_up, .down = on_down };
}

/* --- Nodes. */

static void a_node_alone_knows_itself (void **state)
{
    (void) state;
    struct fm_node *node = open_node (NULL, "alone");
    assert_int_equal (members_of (node), 1);
    assert_done (fm_node_wait_members (node, 1, 0));
    assert_int_equal (strncmp (fm_node_address (node), "tcp://127.0.0.1:", 16), 0);
    assert_int_equal (fm_node_wait_members (node, 2, 10), FM_TIMEOUT);
    assert_int_equal (fm_node_wait_journal (node, 0), FM_TIMEOUT);
    fm_node_close (&node);
    assert_null (node);
    fm_node_close (&node);
}

enum { MANY = 20 };

static void wait_all (struct fm_node **nodes, int count)
{
    for (int i = 0; i < count; i++) {
        if (nodes[i])
            assert_done (fm_node_wait_members (nodes[i], (unsigned) count, PATIENCE_MS));
    }
}

static void twenty_nodes_outlive_their_seed_and_take_in_another (void **state)
{
    (void) state;
    struct fm_node *nodes[MANY + 1] = { open_node (NULL, "seed") };
    struct witness w;
    witness_init (&w);
    const struct node_listener l = listener (&w);
    for (int i = 1; i < MANY; i++) {
        char name[16];
        snprintf (name, sizeof name, "node%d", i);
        nodes[i] = open_node (fm_node_address (nodes[0]), name);
    }
    assert_done (node_listen (nodes[1], &l));
    const uint64_t begun_ns = node_now ();
    wait_all (nodes, MANY);
    printf ("20 nodes know each other after %.3f s\n", (double) (node_now () - begun_ns) / 1e9);
    wait_value (&w, &w.count, MANY, "members that a listener was told of");

    fm_node_close (&nodes[0]);
    nodes[MANY] = open_node (fm_node_address (nodes[7]), "late");
    const uint64_t late_ns = node_now ();
    for (int i = 1; i <= MANY; i++)
        assert_done (fm_node_wait_members (nodes[i], MANY, PATIENCE_MS));
    printf ("the late one is known to all after %.3f s\n", (double) (node_now () - late_ns) / 1e9);
    assert_true (node_now () - late_ns < UINT64_C (5000000000));
    wait_value (&w, &w.ups, MANY + 1, "ups");
    wait_value (&w, &w.goodbyes, 1, "goodbyes");
    for (int i = 1; i <= MANY; i++)
        assert_int_equal (members_of (nodes[i]), MANY);
    assert_false (w.twice);
    node_unlisten (nodes[1], &w);
    for (int i = 1; i <= MANY; i++)
        fm_node_close (&nodes[i]);
    assert_int_equal (w.count, MANY);
}

static void a_goodbye_is_known_at_once (void **state)
{
    (void) state;
    const struct fm_node_options options = { .mesh = "test", .beacon_port = -1, .ping_ms = 5000, .dead_ms = 3600 * 1000 };
    struct fm_node *a, *b;
    assert_done (fm_node_open (&options, &a));
    struct fm_node_options more = options;
    more.seeds = fm_node_address (a);
    assert_done (fm_node_open (&more, &b));
    assert_done (fm_node_wait_members (a, 2, PATIENCE_MS));
    struct witness w;
    witness_init (&w);
    const struct node_listener l = listener (&w);
    assert_done (node_listen (a, &l));
    assert_int_equal (w.ups, 2);
    fm_node_close (&b);
    wait_value (&w, &w.goodbyes, 1, "goodbyes");
    fm_node_close (&a);
}

static void its_own_address_as_a_seed_does_no_harm (void **state)
{
    (void) state;
    struct fm_node *probe = open_node (NULL, "probe");
    char seeds[300];
    snprintf (seeds, sizeof seeds, "%s", fm_node_address (probe));
    fm_node_close (&probe);
    const struct fm_node_options options = { .mesh = "test", .seeds = seeds, .bind = seeds, .ping_ms = 100 };
    struct fm_node *node;
    assert_done (fm_node_open (&options, &node));
    struct fm_node *other = open_node (seeds, "other");
    assert_done (fm_node_wait_members (node, 2, PATIENCE_MS));
    assert_done (fm_node_wait_members (other, 2, PATIENCE_MS));
    assert_int_equal (members_of (node), 2);
    assert_int_equal (fm_node_wait_members (node, 3, 0), FM_TIMEOUT);
    assert_non_null (strstr (fm_error_detail (), "is this node itself"));
    fm_node_close (&node);
    fm_node_close (&other);
}

static void malformed_addresses_are_refused_with_a_reason (void **state)
{
    (void) state;
    static const struct {
        const char *seeds, *bind, *advertise, *bind_live, *advertise_live;
    } bad[] = { { .seeds = "nonsense" }, { .seeds = "tcp://" }, { .seeds = "tcp://host" }, { .seeds = "tcp://host:" }, { .seeds = "tcp://host:0" },
                { .seeds = "tcp://host:65536" }, { .seeds = "tcp://host:7x" }, { .seeds = "tcp://:7000" }, { .seeds = "tcp://*:7000" },
                { .seeds = "tcp://::1:7000" }, { .seeds = "tcp://a b:1" }, { .seeds = "ipc://" }, { .seeds = "udp://h:1" }, { .seeds = "tcp://h:1,," },
                { .seeds = "tcp://h:1,bad" }, { .seeds = "localhost:7000" }, { .bind = "tcp://127.0.0.1" }, { .bind = "7000" },
                { .bind = "tcp://192.0.2.1:*" }, { .bind = "tcp://no-such-host.invalid:1" }, { .advertise = "a/b" }, { .advertise = "," },
                { .advertise = "a:0" }, { .advertise = "a:b" }, { .advertise = "::1" }, { .advertise = "a:" }, { .advertise_live = "tcp://a:1" },
                { .bind_live = "7000" }, { .bind_live = "tcp://192.0.2.1:*" }, { .bind_live = "ipc:///tmp/live" } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct fm_node_options options = { .seeds = bad[i].seeds, .bind = bad[i].bind, .advertise = bad[i].advertise,
                                                 .bind_live = bad[i].bind_live, .advertise_live = bad[i].advertise_live, .beacon_port = -1 };
        struct fm_node *node = NULL;
        const int rc = fm_node_open (&options, &node);
        if (rc != FM_ERR_ADDRESS)
            fail_msg ("case %zu: %s", i, fm_error_text (rc));
        assert_null (node);
        assert_true (strlen (fm_error_detail ()) > 20 && !strchr (fm_error_detail (), '\n'));
    }
}

static void options_out_of_range_are_refused (void **state)
{
    (void) state;
    char mesh[65];
    memset (mesh, 'm', 64);
    mesh[64] = 0;
    const struct fm_node_options bad[] = { { .mesh = mesh }, { .mesh = "" }, { .mesh = "a\nb" }, { .name = mesh }, { .ping_ms = -1 }, { .ping_ms = 1 },
                                           { .ping_ms = 100, .dead_ms = 100 }, { .beacon_port = 65536 }, { .live_queue = -5 }, { .io_threads = 1000 },
                                           { .serve_nice = -1 }, { .serve_nice = 20 } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fm_node *node = NULL;
        if (fm_node_open (&bad[i], &node) != FM_ERR_ARGUMENT)
            fail_msg ("case %zu", i);
    }
}

/* With heartbeats libzmq 4.3.4 aborts the process where a connection with a full queue breaks; without either, one that is half open stays for ever. */
static void tcp_finds_half_open_connections_and_zeromq_does_not (void **state)
{
    (void) state;
    static const int types[] = { ZMQ_ROUTER, ZMQ_DEALER, ZMQ_XPUB, ZMQ_SUB };
    struct fm_node *node = NULL;
    assert_done (fm_node_open (&(struct fm_node_options) { .beacon_port = -1 }, &node));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        void *socket = NULL;
        assert_done (node_socket (node, types[i], &socket));
        int heartbeat = -1, keepalive = -1, unanswered = -1;
        size_t len = sizeof heartbeat;
        assert_int_equal (zmq_getsockopt (socket, ZMQ_HEARTBEAT_IVL, &heartbeat, &len), 0);
        assert_int_equal (zmq_getsockopt (socket, ZMQ_TCP_KEEPALIVE, &keepalive, &len), 0);
        assert_int_equal (zmq_getsockopt (socket, ZMQ_TCP_MAXRT, &unanswered, &len), 0);
        assert_int_equal (heartbeat, 0);
        assert_int_equal (keepalive, 1);
        assert_in_range (unanswered, 1000, 60000);
        zmq_close (socket);
    }
    fm_node_close (&node);
}

/* How many threads of this process have this priority? */
static unsigned threads_at (int priority)
{
    unsigned count = 0;
    DIR *tasks = opendir ("/proc/self/task");
    assert_non_null (tasks);
    for (struct dirent *e; (e = readdir (tasks));) {
        const long tid = strtol (e->d_name, NULL, 10);
        count += tid > 0 && getpriority (PRIO_PROCESS, (id_t) tid) == priority;
    }
    closedir (tasks);
    return count;
}

static void what_serves_others_has_a_thread_of_lower_priority_and_nothing_else_has (void **state)
{
    (void) state;
    enum { LOWER = 7, CONTEXTS_THREADS = 2 };      /* libzmq: one moves bytes, one closes sockets */
    const int priority = getpriority (PRIO_PROCESS, 0);
    const struct fm_node_options options = { .mesh = "test", .bind = "tcp://127.0.0.1:*", .beacon_port = -1, .ping_ms = 100, .serve_nice = LOWER };
    struct fm_node *a = NULL;
    assert_done (fm_node_open (&options, &a));
    assert_int_equal (threads_at (priority + LOWER), CONTEXTS_THREADS);
    assert_int_equal (getpriority (PRIO_PROCESS, 0), priority);
    struct fm_node *b = open_node (fm_node_address (a), "b");
    assert_done (fm_node_wait_members (a, 2, PATIENCE_MS));
    assert_done (fm_node_wait_members (b, 2, PATIENCE_MS));
    fm_node_close (&b);
    fm_node_close (&a);
    /* A thread that was joined may stand in /proc for a moment yet. */
    const uint64_t until = node_now () + (uint64_t) PATIENCE_MS * 1000000;
    do {
        if (node_now () > until)
            fail_msg ("%u threads are left", threads_at (priority + LOWER));
        (void) sched_yield ();
    } while (threads_at (priority + LOWER) > 0);
}

static void a_port_in_use_is_told (void **state)
{
    (void) state;
    struct fm_node *a = open_node (NULL, "a"), *b = NULL;
    const struct fm_node_options options = { .bind = fm_node_address (a), .beacon_port = -1 };
    assert_int_equal (fm_node_open (&options, &b), FM_ERR_ADDRESS);
    assert_non_null (strstr (fm_error_detail (), fm_node_address (a)));
    assert_non_null (strstr (fm_error_detail (), "another process"));
    fm_node_close (&a);
}

static void nodes_meet_over_ipc_and_a_living_path_is_not_taken (void **state)
{
    (void) state;
    char directory[] = "/tmp/fm-node-XXXXXX", path_a[64], path_b[64];
    assert_non_null (mkdtemp (directory));
    snprintf (path_a, sizeof path_a, "ipc://%s/a", directory);
    snprintf (path_b, sizeof path_b, "ipc://%s/b", directory);
    struct fm_node_options options = { .mesh = "test", .bind = path_a, .beacon_port = -1, .ping_ms = 100 };
    struct fm_node *a, *b, *c = NULL;
    assert_done (fm_node_open (&options, &a));
    assert_string_equal (fm_node_address (a), path_a);
    assert_int_equal (fm_node_open (&options, &c), FM_ERR_ADDRESS);
    options.bind = path_b;
    options.seeds = path_a;
    assert_done (fm_node_open (&options, &b));
    assert_done (fm_node_wait_members (a, 2, PATIENCE_MS));
    assert_done (fm_node_wait_members (b, 2, PATIENCE_MS));
    fm_node_close (&a);
    fm_node_close (&b);
    assert_int_equal (rmdir (directory), 0);
}

static void nodes_meet_over_ipv6 (void **state)
{
    (void) state;
    struct fm_node_options options = { .mesh = "test", .bind = "tcp://[::1]:*", .beacon_port = -1, .ping_ms = 100 };
    struct fm_node *a = NULL, *b;
    if (fm_node_open (&options, &a) != 0) {
        printf ("skipped: this machine has no ::1: %s\n", fm_error_detail ());
        skip ();
    }
    assert_int_equal (strncmp (fm_node_address (a), "tcp://[::1]:", 12), 0);
    b = open_node (fm_node_address (a), "b");       /* itself at 127.0.0.1 */
    assert_done (fm_node_wait_members (a, 2, PATIENCE_MS));
    assert_done (fm_node_wait_members (b, 2, PATIENCE_MS));
    fm_node_close (&a);
    fm_node_close (&b);
}

static void another_mesh_is_kept_out_and_told (void **state)
{
    (void) state;
    struct witness w, v;
    witness_init (&w);
    witness_init (&v);
    const struct fm_node_options production = { .mesh = "production", .beacon_port = -1, .ping_ms = 100, .notice = on_notice, .notice_arg = &w };
    struct fm_node *a, *b;
    assert_done (fm_node_open (&production, &a));
    const struct fm_node_options laptop = { .mesh = "laptop", .seeds = fm_node_address (a), .ping_ms = 100, .notice = on_notice, .notice_arg = &v };
    assert_done (fm_node_open (&laptop, &b));
    wait_notice (&w, "MESH-FOREIGN");
    wait_notice (&v, "MESH-FOREIGN");
    assert_non_null (strstr (v.notices[0], "production"));
    assert_int_equal (fm_node_wait_members (b, 2, 300), FM_TIMEOUT);
    assert_non_null (strstr (fm_error_detail (), "is of another mesh"));
    assert_int_equal (members_of (a), 1);
    assert_int_equal (members_of (b), 1);
    assert_true (counter (a, "control_refused") >= 1);
    fm_node_close (&a);
    fm_node_close (&b);
}

static void a_time_out_names_the_seed_that_does_not_answer (void **state)
{
    (void) state;
    struct fm_node *a = open_node (NULL, "a");
    char seeds[300];
    snprintf (seeds, sizeof seeds, "tcp://127.0.0.1:1, %s", fm_node_address (a));
    struct fm_node *b = open_node (seeds, "b");
    assert_done (fm_node_wait_members (b, 2, PATIENCE_MS));
    assert_int_equal (fm_node_wait_members (b, 3, 50), FM_TIMEOUT);
    assert_non_null (strstr (fm_error_detail (), "2 of 3 members"));
    assert_non_null (strstr (fm_error_detail (), "seed tcp://127.0.0.1:1 does not answer"));
    assert_null (strstr (fm_error_detail (), fm_node_address (a)));
    fm_node_close (&a);
    fm_node_close (&b);
}

static int see_journal (void *arg, const struct fm_member *m)
{
    if (m->is_journal) {
        assert_int_equal (m->generation, 7);
        memcpy (arg, m->journal.bytes, ID_LEN);
    }
    return 0;
}

static void a_journal_that_comes_later_is_told (void **state)
{
    (void) state;
    struct fm_node *a = open_node (NULL, "a"), *b = open_node (fm_node_address (a), "b");
    assert_done (fm_node_wait_members (b, 2, PATIENCE_MS));
    struct fm_id journal, seen = { { 0 } };
    id_random (&journal);
    assert_done (node_set_journal (a, &journal, 7));
    assert_done (fm_node_wait_journal (a, PATIENCE_MS));
    assert_done (fm_node_wait_journal (b, PATIENCE_MS));
    assert_done (fm_node_members (b, see_journal, &seen));
    assert_true (id_equal (&seen, &journal));
    fm_node_close (&a);
    fm_node_close (&b);
}

/* --- Handlers, telling, replying. */

struct handler {
    struct witness *w;
    struct fm_node *node;
    size_t watermarks, opens;
};

static int handle (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    struct handler *h = arg;
    (void) from;
    if (control->body_case != FACTMESH__CONTROL__BODY_WATERMARK)
        return FM_ERR_UNKNOWN;
    pthread_mutex_lock (&h->w->lock);
    h->watermarks += control->watermark->n_marks;
    pthread_cond_broadcast (&h->w->changed);
    pthread_mutex_unlock (&h->w->lock);
    return 0;
}

static int tell_watermark (struct fm_node *from, const struct fm_id *to)
{
    Factmesh__StreamMark mark = FACTMESH__STREAM_MARK__INIT, *marks = &mark;
    Factmesh__Watermark watermark = FACTMESH__WATERMARK__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    struct fm_id id;
    id_random (&id);
    mark.stream = watermark.journal = control_put_id (&id);
    watermark.marks = &marks;
    watermark.n_marks = 1;
    control.body_case = FACTMESH__CONTROL__BODY_WATERMARK;
    control.watermark = &watermark;
    zmq_msg_t message;
    assert_done (control_encode (&control, node_mesh (from), &message));
    const int rc = node_tell (from, to, &message);
    if (rc != 0)
        zmq_msg_close (&message);
    return rc;
}

static void what_is_told_reaches_the_member_or_oneself_and_nobody_else (void **state)
{
    (void) state;
    struct witness w;
    witness_init (&w);
    struct fm_node *a = open_node (NULL, "a"), *b = open_node (fm_node_address (a), "b");
    assert_done (fm_node_wait_members (a, 2, PATIENCE_MS));
    assert_done (fm_node_wait_members (b, 2, PATIENCE_MS));
    struct handler at_a = { .w = &w }, at_b = { .w = &w };
    assert_done (node_handle (a, handle, &at_a));
    assert_done (node_handle (b, handle, &at_b));
    for (int i = 0; i < 100; i++) {
        assert_done (tell_watermark (a, node_id (b)));
        assert_done (tell_watermark (a, node_id (a)));
    }
    wait_value (&w, &at_b.watermarks, 100, "watermarks at the other");
    wait_value (&w, &at_a.watermarks, 100, "watermarks at ourselves");
    struct fm_id nobody;
    id_random (&nobody);
    assert_int_equal (tell_watermark (a, &nobody), FM_ERR_UNKNOWN);
    node_unhandle (a, &at_a);
    node_unhandle (b, &at_b);
    fm_node_close (&a);
    fm_node_close (&b);
}

/* --- Workers. */

struct worker {
    struct witness *w;
    size_t ticks;
    uint64_t period_ns;
};

static uint64_t tick (void *arg, uint64_t now_ns)
{
    struct worker *worker = arg;
    pthread_mutex_lock (&worker->w->lock);
    worker->ticks++;
    pthread_cond_broadcast (&worker->w->changed);
    pthread_mutex_unlock (&worker->w->lock);
    return worker->period_ns ? now_ns + worker->period_ns : UINT64_MAX;
}

static void workers_are_called_in_time_and_when_woken_and_never_after_removal (void **state)
{
    (void) state;
    struct witness w;
    witness_init (&w);
    struct fm_node *node = open_node (NULL, "a");
    struct worker often = { .w = &w, .period_ns = 50000 }, woken = { .w = &w };
    const struct node_worker workers[] = { { .arg = &often, .tick = tick }, { .arg = &woken, .tick = tick } };
    assert_done (node_add_worker (node, &workers[0]));
    wait_value (&w, &often.ticks, 1000, "ticks of 50 us");
    node_remove_worker (node, &often);
    const size_t after = often.ticks;
    assert_done (node_add_worker (node, &workers[1]));
    for (size_t i = 1; i <= 100; i++) {
        wait_value (&w, &woken.ticks, i, "ticks after a wake-up");
        node_wake (node);
    }
    assert_int_equal (often.ticks, after);
    node_remove_worker (node, &woken);
    fm_node_close (&node);
}

/* --- Signals, and discovery. */

static void own_handler (int signal)
{
    (void) signal;
}

static void opening_a_node_leaves_the_signals_alone (void **state)
{
    (void) state;
    struct sigaction ours = { .sa_handler = own_handler }, before_int, before_term, after;
    sigaction (SIGINT, &ours, &before_int);
    sigaction (SIGTERM, &ours, &before_term);
    const struct fm_node_options options = { .mesh = "signals", .beacon_port = 17399, .bind = "tcp://127.0.0.1:*" };
    struct fm_node *node;
    assert_done (fm_node_open (&options, &node));
    fm_node_close (&node);
    sigaction (SIGINT, &before_int, &after);
    assert_true (after.sa_handler == own_handler);
    sigaction (SIGTERM, &before_term, &after);
    assert_true (after.sa_handler == own_handler);
}

/* Each of its owners has its own; the node's thread takes what is given. */
static void *watch_and_unwatch (void *arg)
{
    enum { SIGNS = 8, ROUNDS = 300 };
    struct fm_node *const node = arg;
    struct node_sign signs[SIGNS] = { 0 };
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < SIGNS; i++) {
            node_sign_watch (node, &signs[i], "tcp://127.0.0.1:1");
            node_sign_give (&signs[i]);
        }
        for (int i = 0; i < SIGNS; i++)
            node_sign_unwatch (node, &signs[(i + round) % SIGNS]);
        node_sign_unwatch (node, &signs[0]);            /* not watched for any more */
    }
    node_sign_watch (node, &signs[0], "tcp://127.0.0.1:1");
    node_sign_give (&signs[0]);
    while (atomic_load (&signs[0].seen))
        (void) sched_yield ();
    node_sign_unwatch (node, &signs[0]);
    return NULL;
}

static void signs_of_life_are_watched_for_by_several_threads (void **state)
{
    enum { OWNERS = 4 };
    (void) state;
    pthread_t owners[OWNERS];
    struct fm_node *node = open_node (NULL, "watcher"), *member = open_node (fm_node_address (node), "member");
    assert_done (fm_node_wait_members (node, 2, PATIENCE_MS));          /* it pings, and so looks */
    for (int i = 0; i < OWNERS; i++)
        assert_int_equal (pthread_create (&owners[i], NULL, watch_and_unwatch, node), 0);
    for (int i = 0; i < OWNERS; i++)
        assert_int_equal (pthread_join (owners[i], NULL), 0);
    assert_int_equal (members_of (node), 2);
    fm_node_close (&member);
    fm_node_close (&node);
}

int main (void)
{
    /* 21 nodes in one process: each has a socket for each other. */
    struct rlimit files;
    if (getrlimit (RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void) setrlimit (RLIMIT_NOFILE, &files);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_node_alone_knows_itself),
        cmocka_unit_test (twenty_nodes_outlive_their_seed_and_take_in_another),
        cmocka_unit_test (a_goodbye_is_known_at_once),
        cmocka_unit_test (its_own_address_as_a_seed_does_no_harm),
        cmocka_unit_test (malformed_addresses_are_refused_with_a_reason),
        cmocka_unit_test (options_out_of_range_are_refused),
        cmocka_unit_test (tcp_finds_half_open_connections_and_zeromq_does_not),
        cmocka_unit_test (what_serves_others_has_a_thread_of_lower_priority_and_nothing_else_has),
        cmocka_unit_test (a_port_in_use_is_told),
        cmocka_unit_test (nodes_meet_over_ipc_and_a_living_path_is_not_taken),
        cmocka_unit_test (nodes_meet_over_ipv6),
        cmocka_unit_test (another_mesh_is_kept_out_and_told),
        cmocka_unit_test (a_time_out_names_the_seed_that_does_not_answer),
        cmocka_unit_test (a_journal_that_comes_later_is_told),
        cmocka_unit_test (what_is_told_reaches_the_member_or_oneself_and_nobody_else),
        cmocka_unit_test (workers_are_called_in_time_and_when_woken_and_never_after_removal),
        cmocka_unit_test (signs_of_life_are_watched_for_by_several_threads),
        cmocka_unit_test (opening_a_node_leaves_the_signals_alone),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
