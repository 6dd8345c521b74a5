/* node: what it answers to strangers, what a handler's error becomes on the way to who asked, and nodes that are told of by beacons. */

#include "one_node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- A stranger: a DEALER by hand. */

struct stranger {
    void *zmq, *dealer;
    struct fm_id id;
};

static void stranger_open (struct stranger *s, struct fm_node *node)
{
    const int patience = PATIENCE_MS, none = 0;
    s->zmq = zmq_ctx_new ();
    s->dealer = zmq_socket (s->zmq, ZMQ_DEALER);
    zmq_setsockopt (s->dealer, ZMQ_RCVTIMEO, &patience, sizeof patience);
    zmq_setsockopt (s->dealer, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal (zmq_connect (s->dealer, fm_node_address (node)), 0);
    id_random (&s->id);
}

static void stranger_close (struct stranger *s)
{
    zmq_close (s->dealer);
    zmq_ctx_term (s->zmq);
}

static Factmesh__Control *stranger_receive (struct stranger *s)
{
    zmq_msg_t m;
    zmq_msg_init (&m);
    assert_true (zmq_msg_recv (&m, s->dealer, 0) >= 0);
    Factmesh__Control *c;
    assert_done (control_decode (zmq_msg_data (&m), zmq_msg_size (&m), slice (NULL, 0), &c));
    zmq_msg_close (&m);
    return c;
}

static void stranger_send (struct stranger *s, Factmesh__Control *c, const char *mesh)
{
    zmq_msg_t m;
    assert_done (control_encode (c, slice_of (mesh), &m));
    assert_true (zmq_msg_send (&m, s->dealer, 0) >= 0);
}

static void expect_error (struct stranger *s, Factmesh__ErrorCode code, uint64_t request)
{
    Factmesh__Control *c = stranger_receive (s);
    assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_ERROR);
    assert_int_equal (c->error->code, code);
    assert_int_equal (c->request, request);
    assert_true (c->error->text.len > 10);
    factmesh__control__free_unpacked (c, NULL);
}

static void strangers_are_answered_and_harm_nothing (void **state)
{
    (void) state;
    struct fm_node *node = open_node (NULL, "a");
    struct stranger s;
    stranger_open (&s, node);

    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    Factmesh__Ping ping = FACTMESH__PING__INIT;
    ping.node = control_put_id (&s.id);
    control.body_case = FACTMESH__CONTROL__BODY_PING;
    control.ping = &ping;
    control.request = 5;
    stranger_send (&s, &control, "test");
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_NODE, 5);
    stranger_send (&s, &control, "other");
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_MESH, 5);

    zmq_send (s.dealer, "garbage", 7, 0);
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_MALFORMED, 0);
    zmq_send (s.dealer, "", 0, 0);
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_MALFORMED, 0);
    zmq_send (s.dealer, "two", 3, ZMQ_SNDMORE);
    zmq_send (s.dealer, "frames", 6, ZMQ_SNDMORE);
    zmq_send (s.dealer, "or three", 8, 0);
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_MALFORMED, 0);
    zmq_send (s.dealer, "\x08\x02\x1a\x04test\x52\x00", 10, 0);
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_VERSION, 0);

    Factmesh__StatusGet status = FACTMESH__STATUS_GET__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    control.status_get = &status;
    stranger_send (&s, &control, "test");
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL, 5);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 9;
    open.stream = control_put_id (&s.id);
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = &open;
    stranger_send (&s, &control, "test");
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM, 5);

    assert_int_equal (members_of (node), 1);
    assert_true (counter (node, "control_refused") >= 5);
    stranger_close (&s);
    fm_node_close (&node);
}

/* It says Hello but listens nowhere: it is answered, and is no member. */
static void who_cannot_be_reached_is_no_member (void **state)
{
    (void) state;
    struct fm_node *node = open_node (NULL, "a");
    struct stranger s;
    stranger_open (&s, node);
    char *addresses[] = { (char *) "tcp://127.0.0.1:1" };
    Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
    info.node = control_put_id (&s.id);
    info.control = addresses;
    info.n_control = 1;
    Factmesh__Hello hello = FACTMESH__HELLO__INIT;
    hello.info = &info;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_HELLO;
    control.hello = &hello;
    stranger_send (&s, &control, "test");
    Factmesh__Control *c = stranger_receive (&s);
    assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_WELCOME);
    assert_memory_equal (c->welcome->info->node.data, node_id (node)->bytes, ID_LEN);
    factmesh__control__free_unpacked (c, NULL);
    assert_int_equal (members_of (node), 1);

    info.n_control = 0;
    stranger_send (&s, &control, "test");
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_MALFORMED, 0);
    stranger_close (&s);
    fm_node_close (&node);
}

/* --- Errors of handlers. */

struct refusal {
    int rc;
    Factmesh__ErrorCode code;
    const char *detail;                 /* NULL: none was noted */
};

static int refuse (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    (void) from;
    const struct refusal *r = *(const struct refusal *const *) arg;
    if (control->body_case != FACTMESH__CONTROL__BODY_REPLAY_OPEN)
        return FM_ERR_UNKNOWN;
    return r->detail ? error_set (r->rc, "%s", r->detail) : r->rc;
}

/* The code, for programs; what failed, for people; and which question it was. */
static void a_handlers_error_goes_to_who_asked_under_its_code (void **state)
{
    static char long_detail[2000];
    static const struct refusal refusals[] = {
        { FM_ERR_MALFORMED, FACTMESH__ERROR_CODE__ERROR_MALFORMED, "the bytes say nothing" },
        { FM_ERR_TOPIC, FACTMESH__ERROR_CODE__ERROR_MALFORMED, NULL },
        { FM_ERR_TOO_LARGE, FACTMESH__ERROR_CODE__ERROR_MALFORMED, NULL },
        { FM_ERR_ARGUMENT, FACTMESH__ERROR_CODE__ERROR_MALFORMED, NULL },
        { FM_ERR_VERSION, FACTMESH__ERROR_CODE__ERROR_VERSION, NULL },
        { FM_ERR_NEWER, FACTMESH__ERROR_CODE__ERROR_VERSION, NULL },
        { FM_ERR_MESH, FACTMESH__ERROR_CODE__ERROR_MESH, NULL },
        { FM_ERR_NO_JOURNAL, FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL, NULL },
        { FM_ERR_GENERATION, FACTMESH__ERROR_CODE__ERROR_GENERATION, NULL },
        { FM_ERR_LIMIT, FACTMESH__ERROR_CODE__ERROR_LIMIT, long_detail },
        { FM_ERR_FULL, FACTMESH__ERROR_CODE__ERROR_LIMIT, NULL },
        { -EAGAIN, FACTMESH__ERROR_CODE__ERROR_LIMIT, NULL },
        { FM_ERR_END, FACTMESH__ERROR_CODE__ERROR_RANGE, NULL },
        { FM_ERR_READ_ONLY, FACTMESH__ERROR_CODE__ERROR_READ_ONLY, NULL },
        { FM_TIMEOUT, FACTMESH__ERROR_CODE__ERROR_TIMEOUT, NULL },
        { FM_ERR_CONFLICT, FACTMESH__ERROR_CODE__ERROR_STREAM_CONFLICT, NULL },
        { -ENOMEM, FACTMESH__ERROR_CODE__ERROR_INTERNAL, NULL },
        { FM_ERR_CORRUPT, FACTMESH__ERROR_CODE__ERROR_INTERNAL, "" },
    };
    (void) state;
    memset (long_detail, 'd', sizeof long_detail - 1);
    const struct refusal *now = refusals;
    struct fm_node *node = open_node (NULL, "a");
    struct stranger s;
    assert_done (node_handle (node, refuse, &now));
    stranger_open (&s, node);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        open.session = 100 + i;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
        control.replay_open = &open;
        control.request = 200 + i;
        __atomic_store_n (&now, &refusals[i], __ATOMIC_SEQ_CST);        /* the question brings it to the node's thread */
        stranger_send (&s, &control, "test");
        Factmesh__Control *c = stranger_receive (&s);
        assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_ERROR);
        assert_int_equal (c->error->code, refusals[i].code);
        assert_int_equal (c->request, 200 + i);
        assert_int_equal (c->error->session, 100 + i);
        const char *wanted = refusals[i].detail && *refusals[i].detail ? refusals[i].detail : fm_error_text (refusals[i].rc);
        if (wanted == long_detail)
            assert_in_range (c->error->text.len, 100, sizeof long_detail - 2);      /* cut */
        else
            assert_int_equal (c->error->text.len, strlen (wanted));
        assert_memory_equal (c->error->text.data, wanted, c->error->text.len);
        factmesh__control__free_unpacked (c, NULL);
    }
    stranger_close (&s);
    node_unhandle (node, &now);
    fm_node_close (&node);
}

/* --- Beacons. */

enum { CANNOT = 77, TAKEN_PORT = 17401 };

static bool make_network (void)
{
    return unshare (CLONE_NEWNET) == 0
           && system ("exec 2>/dev/null; ip link set lo up && ip link add beacon0 type veth peer name beacon1 && ip link set beacon1 up "
                      "&& ip addr add 10.99.0.1/24 broadcast 10.99.0.255 dev beacon0 && ip link set beacon0 up") == 0;
}

/* In a network of its own with one interface that broadcasts. Returns the child's exit status. */
static int discover_in_own_network (void)
{
    if (!make_network ())
        return CANNOT;
    const struct fm_node_options options = { .mesh = "air", .ping_ms = 100 }, other = { .mesh = "water", .ping_ms = 100 };
    struct fm_node *a, *b, *c;
    if (fm_node_open (&options, &a) != 0 || fm_node_open (&options, &b) != 0 || fm_node_open (&other, &c) != 0)
        return 1;
    if (fm_node_wait_members (a, 2, PATIENCE_MS) != 0 || fm_node_wait_members (b, 2, PATIENCE_MS) != 0)
        return 2;
    if (fm_node_wait_members (c, 2, 0) != FM_TIMEOUT || strncmp (fm_node_address (a), "tcp://10.99.0.1:", 16) != 0)
        return 3;
    fm_node_close (&a);
    fm_node_close (&b);
    fm_node_close (&c);
    return 0;
}

/* In a child, whose network is its own: 0, or which of its steps failed. */
static void run_in_own_network (int (*run) (void))
{
    fflush (NULL);
    const pid_t child = fork ();
    assert_true (child >= 0);
    if (child == 0)
        _exit (run ());
    int status = 0;
    assert_int_equal (waitpid (child, &status, 0), child);
    if (WIFEXITED (status) && WEXITSTATUS (status) == CANNOT) {
        printf ("skipped: no right to make a network namespace with an interface here\n");
        skip ();
    }
    assert_true (WIFEXITED (status));
    assert_int_equal (WEXITSTATUS (status), 0);
}

static void nodes_without_seeds_find_each_other_by_broadcast (void **state)
{
    (void) state;
    run_in_own_network (discover_in_own_network);
}

static char told[256];

static void keep_notice (void *arg, const char *id, const char *text)
{
    (void) arg;
    if (strcmp (id, "BEACON-OFF") == 0)
        (void) snprintf (told, sizeof told, "%s", text);
}

/* A node opens and serves all the same, and the notice says what is amiss. */
static int opens_without_beacon (int port, const char *interface, const char *reason)
{
    const struct fm_node_options options = { .mesh = "test", .beacon_port = port, .beacon_interface = interface, .ping_ms = 100, .notice = keep_notice };
    struct fm_node *node, *other = NULL;
    told[0] = '\0';
    if (fm_node_open (&options, &node) != 0)
        return 1;
    const struct fm_node_options seeded = { .mesh = "test", .beacon_port = -1, .ping_ms = 100, .seeds = fm_node_address (node) };
    const bool serves = fm_node_open (&seeded, &other) == 0 && fm_node_wait_members (node, 2, PATIENCE_MS) == 0;
    fm_node_close (&other);
    fm_node_close (&node);              /* its thread has told what it had to tell */
    return !serves ? 2 : strstr (told, reason) ? 0 : 3;
}

static int beacons_that_cannot_be (void)
{
    if (unshare (CLONE_NEWNET) != 0 || system ("exec 2>/dev/null; ip link set lo up") != 0)
        return CANNOT;
    int rc = opens_without_beacon (TAKEN_PORT, NULL, "no interface broadcasts");
    if (rc)
        return rc;
    if (!make_network ())
        return CANNOT;
    rc = opens_without_beacon (TAKEN_PORT, "eth99", "no such interface that broadcasts: eth99");
    if (rc)
        return 10 + rc;
    /* Somebody has the port for himself alone. */
    const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons (TAKEN_PORT) };
    const int fd = socket (AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind (fd, (const struct sockaddr *) &any, sizeof any) != 0)
        return 20;
    rc = opens_without_beacon (TAKEN_PORT, NULL, "cannot use UDP port 17401");
    close (fd);
    return rc ? 30 + rc : 0;
}

static void a_beacon_that_cannot_be_is_told_and_the_node_serves (void **state)
{
    (void) state;
    run_in_own_network (beacons_that_cannot_be);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (nodes_without_seeds_find_each_other_by_broadcast),    /* first: these fork */
        cmocka_unit_test (a_beacon_that_cannot_be_is_told_and_the_node_serves),
        cmocka_unit_test (strangers_are_answered_and_harm_nothing),
        cmocka_unit_test (who_cannot_be_reached_is_no_member),
        cmocka_unit_test (a_handlers_error_goes_to_who_asked_under_its_code),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
