/* node: what it answers to strangers, and what a handler's error becomes on the way to who asked. */

#include "one_node.h"

#include <errno.h>

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
    open.stream.len = 0;                /* of all streams: a journal's to answer */
    stranger_send (&s, &control, "test");
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL, 5);
    Factmesh__StatusReply reply = FACTMESH__STATUS_REPLY__INIT;
    control.request = 6;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_REPLY;
    control.status_reply = &reply;
    stranger_send (&s, &control, "test");       /* an answer is not answered */
    Factmesh__Hello hello = FACTMESH__HELLO__INIT;
    control.request = 7;
    control.body_case = FACTMESH__CONTROL__BODY_HELLO;
    control.hello = &hello;
    stranger_send (&s, &control, "test");
    expect_error (&s, FACTMESH__ERROR_CODE__ERROR_MALFORMED, 7);

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
    const struct refusal *const r = *(const struct refusal *_Atomic *) arg;
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
    const struct refusal *_Atomic now = refusals;       /* the node's thread reads it */
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
        now = &refusals[i];
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

static int refuse_all (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    (void) arg, (void) from, (void) control;
    return error_set (FM_ERR_LIMIT, "not now, thank you");
}

/* Whose session it was about. */
static void an_error_names_the_session (void **state)
{
    (void) state;
    struct fm_node *node = open_node (NULL, "a");
    struct stranger s;
    int arg;
    stranger_open (&s, node);
    assert_done (node_handle (node, refuse_all, &arg));
    Factmesh__ReplayCredit credit = FACTMESH__REPLAY_CREDIT__INIT;
    Factmesh__ReplayClose close = FACTMESH__REPLAY_CLOSE__INIT;
    credit.session = 7;
    close.session = 8;
    for (uint64_t session = 7; session <= 8; session++) {
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = session == 7 ? FACTMESH__CONTROL__BODY_REPLAY_CREDIT : FACTMESH__CONTROL__BODY_REPLAY_CLOSE;
        if (session == 7)
            control.replay_credit = &credit;
        else
            control.replay_close = &close;
        stranger_send (&s, &control, "test");
        Factmesh__Control *c = stranger_receive (&s);
        assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_ERROR);
        assert_int_equal (c->error->code, FACTMESH__ERROR_CODE__ERROR_LIMIT);
        assert_int_equal (c->error->session, session);
        factmesh__control__free_unpacked (c, NULL);
    }
    node_unhandle (node, &arg);
    stranger_close (&s);
    fm_node_close (&node);
}

/* What a node tells itself is answered as to others, and nobody needs the answer. */
static void a_node_that_tells_itself_nonsense_goes_on (void **state)
{
    (void) state;
    struct fm_node *node = open_node (NULL, "a");
    struct stranger s;
    stranger_open (&s, node);
    for (int i = 0; i < 3; i++) {
        Factmesh__CursorGet get = FACTMESH__CURSOR_GET__INIT;
        Factmesh__StatusGet status = FACTMESH__STATUS_GET__INIT;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        zmq_msg_t message;
        control.body_case = FACTMESH__CONTROL__BODY_CURSOR_GET;
        control.cursor_get = &get;
        assert_done (control_encode (&control, slice_of ("test"), &message));
        assert_done (node_tell (node, node_id (node), &message));
        control.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;         /* a round of its thread each */
        control.status_get = &status;
        control.request = 5;
        stranger_send (&s, &control, "test");
        expect_error (&s, FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL, 5);
    }
    const struct node_route nowhere = { .len = 0 };
    zmq_msg_t message;
    zmq_msg_init (&message);
    assert_int_equal (node_reply (node, &nowhere, &message), FM_ERR_UNREACHABLE);
    zmq_msg_close (&message);
    stranger_close (&s);
    fm_node_close (&node);
}

/* --- A seed by hand: a ROUTER that answers to Hello as the case wants. */

struct seed {
    void *zmq, *router;
    char address[64];
    uint8_t route[64];
    size_t route_len;
    char notices[4096];                 /* of the node; read when it is closed */
};

static void seed_open (struct seed *s)
{
    const int patience = PATIENCE_MS, none = 0;
    size_t len = sizeof s->address;
    memset (s, 0, sizeof *s);
    s->zmq = zmq_ctx_new ();
    s->router = zmq_socket (s->zmq, ZMQ_ROUTER);
    zmq_setsockopt (s->router, ZMQ_RCVTIMEO, &patience, sizeof patience);
    zmq_setsockopt (s->router, ZMQ_LINGER, &none, sizeof none);
    zmq_setsockopt (s->router, ZMQ_SNDHWM, &none, sizeof none);         /* a full queue would drop without a word */
    assert_int_equal (zmq_bind (s->router, "tcp://127.0.0.1:*"), 0);
    assert_int_equal (zmq_getsockopt (s->router, ZMQ_LAST_ENDPOINT, s->address, &len), 0);
}

static void seed_close (struct seed *s)
{
    zmq_close (s->router);
    zmq_ctx_term (s->zmq);
}

/* Until it says Hello. */
static void seed_expect_hello (struct seed *s)
{
    for (bool hello = false; !hello;) {
        zmq_msg_t m;
        Factmesh__Control *c;
        const int len = zmq_recv (s->router, s->route, sizeof s->route, 0);
        assert_true (len > 0);
        s->route_len = (size_t) len;
        zmq_msg_init (&m);
        assert_true (zmq_msg_recv (&m, s->router, 0) >= 0);
        assert_done (control_decode (zmq_msg_data (&m), zmq_msg_size (&m), slice_of ("test"), &c));
        hello = c->body_case == FACTMESH__CONTROL__BODY_HELLO;
        factmesh__control__free_unpacked (c, NULL);
        zmq_msg_close (&m);
    }
}

static void seed_say_frames (struct seed *s, const void *bytes, size_t len, bool twice)
{
    assert_int_equal (zmq_send (s->router, s->route, s->route_len, ZMQ_SNDMORE), s->route_len);
    if (twice)
        assert_int_equal (zmq_send (s->router, bytes, len, ZMQ_SNDMORE), len);
    assert_int_equal (zmq_send (s->router, bytes, len, 0), len);
}

static void seed_say (struct seed *s, Factmesh__Control *control)
{
    zmq_msg_t m;
    assert_done (control_encode (control, slice_of ("test"), &m));
    seed_say_frames (s, zmq_msg_data (&m), zmq_msg_size (&m), false);
    zmq_msg_close (&m);
}

static void seed_refuse (struct seed *s, Factmesh__ErrorCode code, const char *text)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    error.code = code;
    error.text = control_put_slice (slice_of (text));
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    seed_say (s, &control);
}

static void keep_all_notices (void *arg, const char *id, const char *text)
{
    struct seed *s = arg;
    const size_t len = strlen (s->notices);
    (void) snprintf (s->notices + len, sizeof s->notices - len, "%s %s\n", id, text);
}

static struct fm_node *seed_node (struct seed *s)
{
    const struct fm_node_options options = { .mesh = "test", .name = "a", .seeds = s->address, .beacon_port = -1, .ping_ms = 100, .notice = keep_all_notices,
                                             .notice_arg = s };
    struct fm_node *node;
    assert_done (fm_node_open (&options, &node));
    return node;
}

static void wait_counter (struct fm_node *node, const char *name, uint64_t value)
{
    const uint64_t until_ns = node_now () + PATIENCE_MS * UINT64_C (1000000);
    while (counter (node, (char *) (uintptr_t) name) < value) {
        if (node_now () > until_ns)
            fail_msg ("%s is %llu, not %llu", name, (unsigned long long) counter (node, (char *) (uintptr_t) name), (unsigned long long) value);
        sched_yield ();
    }
}

/* Then it asks again who is there, as after an error that says so. */
static void answers_that_are_none_are_counted_and_the_next_is_taken (void **state)
{
    (void) state;
    struct seed s;
    seed_open (&s);
    struct fm_node *node = seed_node (&s);
    seed_expect_hello (&s);
    Factmesh__StatusReply status = FACTMESH__STATUS_REPLY__INIT;
    Factmesh__Welcome welcome = FACTMESH__WELCOME__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_REPLY;       /* that nobody asked for */
    control.status_reply = &status;
    for (int i = 0; i < 5000; i++)                                  /* more than are taken at a time */
        seed_say (&s, &control);
    control.body_case = FACTMESH__CONTROL__BODY_WELCOME;            /* of nobody */
    control.welcome = &welcome;
    seed_say (&s, &control);
    wait_counter (node, "control_refused", 1);
    seed_say_frames (&s, "garbage", 7, true);                       /* in two frames */
    wait_counter (node, "control_refused", 2);
    assert_int_equal (counter (node, (char *) (uintptr_t) "control_received"), 5002);
    seed_refuse (&s, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_NODE, "who are you?");
    seed_expect_hello (&s);
    assert_int_equal (members_of (node), 1);
    /* One that is found, and sends nothing live: it is a member, and has no live address. */
    const struct fm_id id = { .bytes = { 7 } };
    char *addresses[] = { s.address };
    Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
    info.node = control_put_id (&id);
    info.control = addresses;
    info.n_control = 1;
    welcome.info = &info;
    seed_say (&s, &control);
    assert_done (fm_node_wait_members (node, 2, -1));
    fm_node_close (&node);
    assert_non_null (strstr (s.notices, "CONTROL-MALFORMED"));
    seed_close (&s);
}

static void a_seed_that_keeps_us_out_is_told_with_its_reason (void **state)
{
    static const struct {
        Factmesh__ErrorCode code;
        const char *notice;
    } refusals[] = {
        { FACTMESH__ERROR_CODE__ERROR_MESH, "MESH-FOREIGN a node of another mesh is kept out (answer to our Hello): go away" },
        { FACTMESH__ERROR_CODE__ERROR_VERSION, "VERSION-FOREIGN a node of another version is kept out (answer to our Hello): go away" },
    };
    (void) state;
    for (size_t i = 0; i < 2; i++) {
        struct seed s;
        seed_open (&s);
        struct fm_node *node = seed_node (&s);
        seed_expect_hello (&s);
        seed_refuse (&s, refusals[i].code, "go away");
        wait_counter (node, "control_refused", 1);
        assert_int_equal (members_of (node), 1);
        fm_node_close (&node);
        assert_non_null (strstr (s.notices, refusals[i].notice));
        seed_close (&s);
    }
}

/* --- Notices. */

struct slow_reader {
    pthread_mutex_t gate;
    unsigned taken;
    char lost[128];
};

static void read_slowly (void *arg, const char *id, const char *text)
{
    struct slow_reader *r = arg;
    if (strcmp (id, "NOTICES-LOST") == 0)
        (void) snprintf (r->lost, sizeof r->lost, "%s", text);
    if (strcmp (id, "TEST") != 0)
        return;
    __atomic_add_fetch (&r->taken, 1, __ATOMIC_SEQ_CST);
    (void) pthread_mutex_lock (&r->gate);
    (void) pthread_mutex_unlock (&r->gate);
}

static void notices_that_nobody_takes_are_counted (void **state)
{
    enum { HELD = 64, MORE = 5 };
    (void) state;
    struct slow_reader r = { .gate = PTHREAD_MUTEX_INITIALIZER };
    const struct fm_node_options options = { .mesh = "test", .beacon_port = -1, .notice = read_slowly, .notice_arg = &r };
    struct fm_node *node;
    assert_done (fm_node_open (&options, &node));
    (void) pthread_mutex_lock (&r.gate);
    node_notice (node, "TEST", "%d", 0);
    while (__atomic_load_n (&r.taken, __ATOMIC_SEQ_CST) == 0)       /* it is being read */
        sched_yield ();
    for (int i = 1; i <= HELD + MORE; i++)
        node_notice (node, "TEST", "%d", i);
    (void) pthread_mutex_unlock (&r.gate);
    fm_node_close (&node);
    assert_int_equal (r.taken, 1 + HELD);
    assert_string_equal (r.lost, "count=5 more notices than the queue of 64 holds");
}

/* The node's thread is held while a flood comes: then it is longer than what is answered in a second. */
static uint64_t wait_at_gate (void *arg, uint64_t now_ns)
{
    struct slow_reader *r = arg;
    (void) now_ns;
    (void) pthread_mutex_lock (&r->gate);
    (void) pthread_mutex_unlock (&r->gate);
    return UINT64_MAX;
}

static void a_flood_is_not_read_to_its_end_and_others_are_answered (void **state)
{
    enum { SENT = 30000, ROUNDS = 20 };
    (void) state;
    struct slow_reader gate = { .gate = PTHREAD_MUTEX_INITIALIZER };
    struct fm_node *node = open_node (NULL, "a");
    const struct node_worker worker = { .arg = &gate, .tick = wait_at_gate };
    struct stranger flood, other;
    assert_done (node_add_worker (node, &worker));
    stranger_open (&flood, node);
    stranger_open (&other, node);
    /* How much of it has come when the gate opens is the kernel's: once more, if it was read as fast as it came. */
    for (int round = 0; round < ROUNDS && counter (node, "control_shed") == 0; round++) {
        (void) pthread_mutex_lock (&gate.gate);
        node_wake (node);
        for (int i = 0; i < SENT; i++)
            zmq_send (flood.dealer, "garbage", 7, 0);
        (void) pthread_mutex_unlock (&gate.gate);
        expect_error (&flood, FACTMESH__ERROR_CODE__ERROR_MALFORMED, 0);
        Factmesh__Ping ping = FACTMESH__PING__INIT;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        ping.node = control_put_id (&other.id);
        control.body_case = FACTMESH__CONTROL__BODY_PING;
        control.ping = &ping;
        control.request = 5;
        stranger_send (&other, &control, "test");
        expect_error (&other, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_NODE, 5);
    }
    assert_in_range (counter (node, "control_shed"), 1, ROUNDS * SENT);
    node_remove_worker (node, &gate);
    stranger_close (&flood);
    stranger_close (&other);
    fm_node_close (&node);
}

static void more_seeds_than_there_is_room_for_are_refused (void **state)
{
    (void) state;
    char seeds[64 * 65 + 1] = "";
    struct fm_node *node = NULL;
    for (int i = 0; i < 65; i++)
        (void) sprintf (seeds + strlen (seeds), "tcp://127.0.0.1:%d,", 20000 + i);
    const struct fm_node_options options = { .mesh = "test", .seeds = seeds, .beacon_port = -1 };
    assert_int_equal (fm_node_open (&options, &node), FM_ERR_ARGUMENT);
    assert_null (node);
}

static uint64_t never (void *arg, uint64_t now_ns)
{
    (void) arg, (void) now_ns;
    return UINT64_MAX;
}

static size_t one_stream (void *arg, Factmesh__StreamHead *ret, size_t max)
{
    assert_in_range (max, 1, STREAMS_PER_NODE_MAX);
    *ret = (Factmesh__StreamHead) FACTMESH__STREAM_HEAD__INIT;
    ret->stream = control_put_id (arg);
    return 1;
}

/* An answer to a fence lists them all, and journals take no more of one node. */
static void more_streams_than_a_node_may_have_are_refused (void **state)
{
    (void) state;
    static struct fm_id streams[STREAMS_PER_NODE_MAX + 1];
    struct fm_node *node = open_node (NULL, "a");
    const struct node_worker none = { .arg = node, .tick = never };
    assert_done (node_add_worker (node, &none));
    for (size_t i = 0; i < STREAMS_PER_NODE_MAX; i++) {
        const struct node_worker worker = { .arg = &streams[i], .tick = never, .streams = one_stream };
        streams[i].bytes[0] = 's';
        assert_done (node_add_worker (node, &worker));
    }
    const struct node_worker last = { .arg = &streams[STREAMS_PER_NODE_MAX], .tick = never, .streams = one_stream };
    assert_int_equal (node_add_worker (node, &last), FM_ERR_LIMIT);
    assert_string_equal (fm_error_detail (), "this node publishes 1024 streams already: close some, or open another node");
    node_remove_worker (node, &streams[5]);
    assert_done (node_add_worker (node, &last));
    for (size_t i = 0; i <= STREAMS_PER_NODE_MAX; i++)
        node_remove_worker (node, &streams[i]);
    node_remove_worker (node, node);
    fm_node_close (&node);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (strangers_are_answered_and_harm_nothing),
        cmocka_unit_test (who_cannot_be_reached_is_no_member),
        cmocka_unit_test (a_handlers_error_goes_to_who_asked_under_its_code),
        cmocka_unit_test (an_error_names_the_session),
        cmocka_unit_test (a_node_that_tells_itself_nonsense_goes_on),
        cmocka_unit_test (answers_that_are_none_are_counted_and_the_next_is_taken),
        cmocka_unit_test (a_seed_that_keeps_us_out_is_told_with_its_reason),
        cmocka_unit_test (notices_that_nobody_takes_are_counted),
        cmocka_unit_test (a_flood_is_not_read_to_its_end_and_others_are_answered),
        cmocka_unit_test (more_seeds_than_there_is_room_for_are_refused),
        cmocka_unit_test (more_streams_than_a_node_may_have_are_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
