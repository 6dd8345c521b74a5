/* journal: what it serves: replays with credit, cursors, status, and refusals. Askers speak the protocol by hand, or through replay_client. */

#include <stdio.h>

#include "../support/journal_kit.h"

/* A journal with n facts of one publisher, all synced, and who asks for them. */
struct audience {
    struct scene scene;
    struct fm_id stream;
    struct asker a;
};

static struct audience audience_new (uint64_t n)
{
    struct audience s = { .scene = scene_with (n) };
    s.stream = stream_of (s.scene.p);
    s.a = asker_new (s.scene.node, s.scene.r);
    return s;
}

static void audience_end (struct audience *s)
{
    replay_client_destroy (&s->a.client);
    scene_end (&s->scene);
}

/* Messages by hand, past replay_client. */
static void *dealer_new (struct audience *s)
{
    void *dealer;
    assert_done (node_socket (s->scene.node, ZMQ_DEALER, &dealer));
    const int wait_ms = PATIENCE_MS;
    zmq_setsockopt (dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    assert_int_equal (zmq_connect (dealer, fm_node_address (s->scene.r->node)), 0);
    return dealer;
}

static void dealer_send (void *dealer, Factmesh__Control *control)
{
    zmq_msg_t message;
    assert_done (control_encode (control, slice_of ("test"), &message));
    assert_true (zmq_msg_send (&message, dealer, 0) >= 0);
}

static void send_open (void *dealer, Factmesh__ReplayOpen *open)
{
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = open->session;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = open;
    dealer_send (dealer, &control);
}

static void send_credit (void *dealer, uint64_t session, uint64_t bytes)
{
    Factmesh__ReplayCredit credit = FACTMESH__REPLAY_CREDIT__INIT;
    credit.session = session;
    credit.bytes = bytes;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_CREDIT;
    control.replay_credit = &credit;
    dealer_send (dealer, &control);
}

/* The next frame within so many ms: its length; 0: none. */
static size_t dealer_receive (void *dealer, int wait_ms, Factmesh__Control **ret_control)
{
    zmq_msg_t message;
    zmq_msg_init (&message);
    zmq_setsockopt (dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    const int rc = zmq_msg_recv (&message, dealer, 0);
    const size_t len = rc < 0 ? 0 : zmq_msg_size (&message);
    *ret_control = NULL;
    if (len)
        *ret_control = factmesh__control__unpack (NULL, len, zmq_msg_data (&message));
    zmq_msg_close (&message);
    return len;
}

static void a_session_sends_what_it_has_credit_for_and_no_more (void **state)
{
    (void) state;
    struct audience s = audience_new (3000);
    void *dealer = dealer_new (&s);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 5;
    open.credit = 10000;
    open.message_bytes = 4096;
    send_open (dealer, &open);
    uint64_t granted = 10000, sent = 0;
    unsigned grants = 0;
    bool ended = false;
    while (!ended) {
        Factmesh__Control *control;
        const size_t len = dealer_receive (dealer, sent < granted ? PATIENCE_MS : 20, &control);
        if (!control) {
            assert_true (sent >= granted);          /* it waits */
            send_credit (dealer, 5, 50000);
            granted += 50000;
            grants++;
            continue;
        }
        if (control->body_case == FACTMESH__CONTROL__BODY_REPLAY_DATA) {
            assert_true (sent < granted);
            sent += len;
        } else {
            assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_REPLAY_END);
            ended = true;
        }
        factmesh__control__free_unpacked (control, NULL);
    }
    assert_true (grants > 10);
    /* The session is over: credit for it is answered. */
    send_credit (dealer, 5, 100);
    Factmesh__Control *control;
    assert_true (dealer_receive (dealer, PATIENCE_MS, &control) > 0);
    assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_ERROR);
    assert_int_equal (control->error->code, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_SESSION);
    assert_int_equal (control->error->session, 5);
    factmesh__control__free_unpacked (control, NULL);
    zmq_close (dealer);
    audience_end (&s);
}

static void what_is_malformed_is_refused_with_a_reason (void **state)
{
    (void) state;
    struct audience s = audience_new (1);
    void *dealer = dealer_new (&s);
    static const struct {
        const char *filter, *cursor_name;
        uint64_t from_seq;
        Factmesh__ErrorCode code;
        const char *text;
    } bad[] = {
        { .filter = "a..b", .code = FACTMESH__ERROR_CODE__ERROR_MALFORMED, .text = "" },
        { .from_seq = 3, .code = FACTMESH__ERROR_CODE__ERROR_RANGE, .text = "stream" },
        { .cursor_name = "nobody", .code = FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR, .text = "nobody" },
        { .cursor_name = "a\nb", .code = FACTMESH__ERROR_CODE__ERROR_RANGE, .text = "control byte" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        ProtobufCBinaryData filter = { .len = 0 };
        open.session = 10 + i;
        open.credit = 100000;
        if (bad[i].filter) {
            filter = control_put_slice (slice_of (bad[i].filter));
            open.filters = &filter;
            open.n_filters = 1;
        }
        if (bad[i].from_seq) {
            open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
            open.from_seq = bad[i].from_seq;
        }
        if (bad[i].cursor_name) {
            open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME;
            open.from_cursor_name = control_put_slice (slice_of (bad[i].cursor_name));
        }
        send_open (dealer, &open);
        Factmesh__Control *control;
        assert_true (dealer_receive (dealer, PATIENCE_MS, &control) > 0);
        assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_ERROR);
        assert_int_equal (control->error->code, bad[i].code);
        assert_int_equal (control->error->session, 10 + i);
        char text[512];
        (void) snprintf (text, sizeof text, "%.*s", (int) control->error->text.len, (const char *) control->error->text.data);
        if (!strstr (text, bad[i].text))
            fail_msg ("'%s' does not say '%s'", text, bad[i].text);
        factmesh__control__free_unpacked (control, NULL);
    }
    zmq_close (dealer);
    audience_end (&s);
}

static void one_asker_cannot_take_all_sessions (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    r->options.sessions_max = 16;
    r->options.sessions_per_peer_max = 10;
    recorder_start (r);
    struct audience s = { .scene = { .r = r, .node = open_node ("asker", fm_node_address (r->node)) } };
    void *dealer = dealer_new (&s), *other = dealer_new (&s);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.credit = 1;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    unsigned refused = 0;
    for (uint64_t i = 1; i <= 12; i++) {
        open.session = i;
        send_open (dealer, &open);
        Factmesh__Control *control;
        assert_true (dealer_receive (dealer, PATIENCE_MS, &control) > 0);
        if (control->body_case == FACTMESH__CONTROL__BODY_ERROR) {
            assert_int_equal (control->error->code, FACTMESH__ERROR_CODE__ERROR_LIMIT);
            refused++;
        }
        factmesh__control__free_unpacked (control, NULL);
    }
    assert_int_equal (refused, 2);
    open.session = 1;
    send_open (other, &open);
    Factmesh__Control *control;
    assert_true (dealer_receive (other, PATIENCE_MS, &control) > 0);
    assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_REPLAY_DATA);
    factmesh__control__free_unpacked (control, NULL);
    zmq_close (dealer);
    zmq_close (other);
    scene_end (&s.scene);
}

static void a_session_that_follows_gets_what_is_synced_later (void **state)
{
    (void) state;
    struct audience s = audience_new (100);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    uint64_t session;
    assert_done (replay_client_open (s.a.client, &open, &session));
    struct told t = { .next_seq = 1 };
    struct replay_event e;
    for (uint64_t n = 100; n <= 400; n += 100) {
        while (t.next_seq <= n) {
            assert_true (next_event (&s.a, &e, PATIENCE_MS));
            assert_int_equal (e.kind, REPLAY_DATA);
            take_view (&t, e.view, &s.stream, NULL);
        }
        if (n < 400)
            publish_all (s.scene.p, n + 1, n + 101);
    }
    assert_int_equal (t.facts, 400);
    audience_end (&s);
}

static void more_sessions_than_readers_all_follow (void **state)
{
    (void) state;
    enum { MANY = 400 };
    struct audience s = audience_new (100);
    static struct told told[MANY];
    static uint64_t sessions[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
        open.follow = true;
        assert_done (replay_client_open (s.a.client, &open, &sessions[i]));
        told[i] = (struct told) { .next_seq = 1 };
    }
    for (uint64_t n = 100; n <= 300; n += 100) {
        for (unsigned ready = 0; ready < MANY;) {
            struct replay_event e;
            unsigned i = 0;
            assert_true (next_event (&s.a, &e, PATIENCE_MS));
            assert_int_equal (e.kind, REPLAY_DATA);
            while (sessions[i] != e.session)
                i++;
            const bool was = told[i].next_seq > n;
            take_view (&told[i], e.view, &s.stream, NULL);
            ready += !was && told[i].next_seq > n;
        }
        if (n < 300)
            publish_all (s.scene.p, n + 1, n + 101);
    }
    audience_end (&s);
}

static Factmesh__Control *request (struct asker *a, Factmesh__Control *control, struct replay_event *e)
{
    uint64_t number;
    assert_done (replay_client_request (a->client, control, &number));
    do
        assert_true (next_event (a, e, PATIENCE_MS));
    while (e->session != 0 || e->request != number);
    return e->kind == REPLAY_OTHER ? e->control : NULL;
}

static Factmesh__Control *put_cursor (struct audience *s, const char *name, Factmesh__Cursor *cursor, struct replay_event *e)
{
    Factmesh__CursorPut put = FACTMESH__CURSOR_PUT__INIT;
    put.name = control_put_slice (slice_of (name));
    put.cursor = cursor;
    put.filters = control_put_slice (slice_of ("orders.>"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_PUT;
    control.cursor_put = &put;
    return request (&s->a, &control, e);
}

static Factmesh__Control *get_cursor (struct audience *s, const char *name, struct replay_event *e)
{
    Factmesh__CursorGet get = FACTMESH__CURSOR_GET__INIT;
    get.name = control_put_slice (slice_of (name));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_GET;
    control.cursor_get = &get;
    return request (&s->a, &control, e);
}

static void cursors_are_durable_folded_listed_and_deleted (void **state)
{
    (void) state;
    struct audience s = audience_new (200);
    struct journal_status status;
    struct replay_event e;
    journal_status (s.scene.r->journal, &status);
    Factmesh__StreamPosition position = FACTMESH__STREAM_POSITION__INIT, *positions[] = { &position };
    position.stream = control_put_id (&s.stream);
    position.seq = 150;
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&status.journal);
    cursor.generation = status.generation;
    cursor.offset = 1;
    cursor.n_positions = 1;
    cursor.positions = positions;
    Factmesh__Control *answer = put_cursor (&s, "worker", &cursor, &e);
    assert_non_null (answer);
    assert_int_equal (answer->body_case, FACTMESH__CONTROL__BODY_CURSOR_REPLY);
    assert_int_equal (answer->cursor_reply->n_cursors, 1);
    assert_int_equal (answer->cursor_reply->cursors[0]->cursor->offset, 151);       /* one stream: offsets are sequences */
    assert_int_equal (answer->cursor_reply->cursors[0]->behind, 50);
    assert_non_null (put_cursor (&s, "another", &cursor, &e));

    cursor.generation++;
    assert_null (put_cursor (&s, "foreign", &cursor, &e));
    assert_int_equal (e.code, FACTMESH__ERROR_CODE__ERROR_GENERATION);
    cursor.generation--;

    /* It was answered: so it is there after a start from what the disk has. */
    journal_destroy (&s.scene.r->journal);
    recorder_start (s.scene.r);
    answer = get_cursor (&s, "worker", &e);
    assert_non_null (answer);
    assert_int_equal (answer->cursor_reply->cursors[0]->cursor->offset, 151);
    assert_true (slice_equal (control_get_slice (&answer->cursor_reply->cursors[0]->filters), fm_text ("orders.>")));

    /* A replay by its name. */
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME;
    open.from_cursor_name = control_put_slice (slice_of ("worker"));
    uint64_t session;
    assert_done (replay_client_open (s.a.client, &open, &session));
    struct told t = { .next_seq = 151 };
    bool begun = false;
    do {
        assert_true (next_event (&s.a, &e, PATIENCE_MS));
        if (e.kind == REPLAY_DATA) {
            if (!begun)
                assert_int_equal (e.view->start_offset, 151);
            begun = true;
            take_view (&t, e.view, &s.stream, NULL);
        }
    } while (e.kind == REPLAY_DATA);
    assert_int_equal (e.kind, REPLAY_END);
    assert_int_equal (t.facts, 50);

    Factmesh__CursorList list = FACTMESH__CURSOR_LIST__INIT;
    list.limit = 1;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_LIST;
    control.cursor_list = &list;
    answer = request (&s.a, &control, &e);
    assert_non_null (answer);
    assert_int_equal (answer->cursor_reply->n_cursors, 1);
    assert_true (answer->cursor_reply->more);
    assert_true (slice_equal (control_get_slice (&answer->cursor_reply->cursors[0]->name), fm_text ("another")));

    Factmesh__CursorDelete delete = FACTMESH__CURSOR_DELETE__INIT;
    delete.name = control_put_slice (slice_of ("worker"));
    control = (Factmesh__Control) FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_DELETE;
    control.cursor_delete = &delete;
    answer = request (&s.a, &control, &e);
    assert_non_null (answer);
    assert_int_equal (answer->cursor_reply->n_cursors, 0);
    assert_null (get_cursor (&s, "worker", &e));
    assert_int_equal (e.code, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR);
    audience_end (&s);
}

static void status_tells_counters_and_streams (void **state)
{
    (void) state;
    struct audience s = audience_new (50);
    struct fm_publisher *second = open_publisher (s.scene.node, NULL);
    publish (second, 1);
    wait_synced (second);
    Factmesh__StatusGet get = FACTMESH__STATUS_GET__INIT;
    get.streams_limit = 1;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    control.status_get = &get;
    struct replay_event e;
    Factmesh__Control *answer = request (&s.a, &control, &e);
    assert_non_null (answer);
    Factmesh__StatusReply *reply = answer->status_reply;
    assert_int_equal (reply->n_streams, 1);
    assert_true (reply->more);
    assert_false (reply->read_only);
    assert_int_equal (reply->synced_offset, 52);
    bool found = false;
    for (size_t i = 0; i < reply->n_counters; i++)
        if (slice_equal (control_get_slice (&reply->counters[i]->name), fm_text ("facts_recorded"))) {
            assert_int_equal (reply->counters[i]->value, 51);
            found = true;
        }
    assert_true (found);
    struct fm_id after;
    assert_done (control_get_id (&reply->streams[0]->stream, &after));
    get.streams_limit = 10;
    get.streams_after = control_put_id (&after);
    answer = request (&s.a, &control, &e);
    assert_int_equal (answer->status_reply->n_streams, 1);
    assert_false (answer->status_reply->more);
    fm_publisher_close (&second);
    audience_end (&s);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_session_sends_what_it_has_credit_for_and_no_more),
        cmocka_unit_test (what_is_malformed_is_refused_with_a_reason),
        cmocka_unit_test (one_asker_cannot_take_all_sessions),
        cmocka_unit_test (a_session_that_follows_gets_what_is_synced_later),
        cmocka_unit_test (more_sessions_than_readers_all_follow),
        cmocka_unit_test (cursors_are_durable_folded_listed_and_deleted),
        cmocka_unit_test (status_tells_counters_and_streams),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
