/* publisher: who missed something is served from the window, as it was sent, and never told a gap that a journal could fill. */

#include "fake_node.h"

enum { MS = 1000000, CREDIT = 1 << 20 };

static const struct fm_id journal_a = { "journal-a-0000-" };

static Factmesh__ReplayOpen open_range (const struct fm_publisher *p, uint64_t session, uint64_t from, uint64_t end)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = session;
    open.stream = control_put_id (&p->identity.stream);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = from;
    if (end) {
        open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
        open.end_seq = end;
    }
    open.credit = CREDIT;
    return open;
}

static int ask (Factmesh__ReplayOpen *open, uint8_t route)
{
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 77;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = open;
    return hand_over (&control, route);
}

static int give_credit (uint64_t session, uint64_t bytes, uint8_t route)
{
    Factmesh__ReplayCredit credit = FACTMESH__REPLAY_CREDIT__INIT;
    credit.session = session;
    credit.bytes = bytes;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_CREDIT;
    control.replay_credit = &credit;
    return hand_over (&control, route);
}

static int close_session (uint64_t session, uint8_t route)
{
    Factmesh__ReplayClose close = FACTMESH__REPLAY_CLOSE__INIT;
    close.session = session;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_CLOSE;
    control.replay_close = &close;
    return hand_over (&control, route);
}

/* The next answer, or NULL. */
static const Factmesh__Control *answer (void)
{
    return fake.reply_taken < fake.reply_count ? fake.replies[fake.reply_taken++] : NULL;
}

static void payload_of (uint64_t seq, uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t) (seq * 131 + i);
}

/* Publish sequences 1 to n, of `len` bytes, `share` in a batch, of topics t0 and t1 in turn of batches. */
static void publish_many (struct fm_publisher *p, uint64_t n, size_t len, uint64_t share)
{
    static uint8_t bytes[1 << 16];
    p->bucket_ns = UINT64_MAX / 2;          /* no tokens: the test flushes */
    for (uint64_t i = 0; i < n; i++) {
        payload_of (p->next_seq, bytes, len);
        (void) publish (p, i / share % 2 ? "t1" : "t0", slice (bytes, len));
        if ((i + 1) % share == 0)
            assert_int_equal (fm_publisher_flush (p), 0);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
}

/* Walk a ReplayData's batches: they go on from *next, and hold what was published. */
static void check_batches (const Factmesh__ReplayData *data, size_t len, uint64_t *next)
{
    static uint8_t expected[1 << 16];
    struct batch_scratch own = { 0 };
    for (size_t i = 0; i < data->n_batches; i++) {
        struct batch b;
        assert_int_equal (batch_decode (data->batches[i].data, data->batches[i].len, slice_of ("test"), &own, &b), 0);
        assert_int_equal (b.announced_len, 0);
        assert_int_equal (batch_check_facts (&b), 0);
        if (*next)
            assert_int_equal (b.first_seq, *next);
        struct batch_reader reader;
        struct fm_fact fact;
        batch_reader_init (&reader, &b);
        while (batch_reader_next (&reader, &fact) == 0) {
            payload_of (fact.id.seq, expected, len);
            assert_int_equal (fact.payload.len, len);
            assert_memory_equal (fact.payload.data, expected, len);
        }
        *next = batch_end_seq (&b);
    }
    batch_scratch_release (&own);
    assert_int_equal (data->n_covered, 1);
    assert_int_equal (data->covered[0]->through, *next - 1);
}

static void check_end (const Factmesh__Control *control, uint64_t session)
{
    assert_non_null (control);
    assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_REPLAY_END);
    assert_int_equal (control->replay_end->session, session);
    assert_int_equal (control->request, 77);
    assert_null (answer ());
}

static void check_gap (const Factmesh__Control *control, uint64_t first, uint64_t end, Factmesh__GapReason reason)
{
    assert_non_null (control);
    assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_REPLAY_DATA);
    const Factmesh__ReplayData *data = control->replay_data;
    assert_int_equal (data->n_batches, 0);
    assert_int_equal (data->n_gaps, 1);
    assert_int_equal (data->gaps[0]->first_seq, first);
    assert_int_equal (data->gaps[0]->end_seq, end);
    assert_int_equal (data->gaps[0]->reason, reason);
    /* A gap that a journal may fill is not complete. */
    assert_int_equal (data->n_covered, reason == FACTMESH__GAP_REASON__GAP_SYNCED ? 0 : 1);
}

/* ------------------------------------------------------------------ cases */

static void a_hole_is_served_with_the_batches_that_were_sent (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 100, 50, 10);
    Factmesh__ReplayOpen open = open_range (p, 5, 34, 52);
    assert_int_equal (ask (&open, 'a'), 0);
    assert_true (fake.wakes > 0);
    serve_all (p);
    uint64_t next = 31;
    const Factmesh__Control *control = answer ();
    assert_non_null (control);
    assert_int_equal (control->replay_data->session, 5);
    check_batches (control->replay_data, 50, &next);
    assert_int_equal (next, 61);
    check_end (answer (), 5);
    assert_int_equal (fake.counters[NODE_REPAIRS_SERVED], 1);
    fm_publisher_close (&p);
}

static void a_large_range_comes_in_messages_as_credit_allows (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 2000, 1000, 20);
    Factmesh__ReplayOpen open = open_range (p, 5, 1, 2001);
    open.credit = 100000;
    open.message_bytes = 40000;
    assert_int_equal (ask (&open, 'a'), 0);
    uint64_t next = 1;
    size_t messages = 0, bytes = 0;
    for (int grants = 0; next < 2001; grants++) {
        assert_true (grants < 100);
        serve_all (p);
        const Factmesh__Control *control = answer ();
        size_t got = 0;
        for (; control && control->body_case == FACTMESH__CONTROL__BODY_REPLAY_DATA; control = answer ()) {
            check_batches (control->replay_data, 1000, &next);
            for (size_t i = 0; i < control->replay_data->n_batches; i++)
                got += control->replay_data->batches[i].len;
            messages++;
        }
        bytes += got;
        assert_true (bytes <= 100000 * (size_t) (grants + 1) + 45000);     /* overdrawn by one message at most */
        if (next < 2001)
            assert_int_equal (give_credit (5, 100000, 'a'), 0);
    }
    assert_true (messages > 40);
    fm_publisher_close (&p);
}

static void what_was_synced_is_a_journals_to_tell (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 100, 50, 10);
    assert_int_equal (give_watermark (p, &journal_a, 1, 100, 55), 0);
    Factmesh__ReplayOpen open = open_range (p, 5, 34, 80);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    const Factmesh__Control *gap = answer ();
    check_gap (gap, 34, 51, FACTMESH__GAP_REASON__GAP_SYNCED);
    assert_true (gap->replay_data->gaps[0]->journal);
    check_end (answer (), 5);               /* nothing above it: that must not pass for its continuation */
    open = open_range (p, 6, 51, 80);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    uint64_t next = 51;
    check_batches (answer ()->replay_data, 50, &next);
    assert_int_equal (next, 81);
    check_end (answer (), 6);
    fm_publisher_close (&p);
}

static void what_was_dropped_unsynced_is_held_by_nobody (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .window_bytes = 16384, .when_full = FM_DROP_OLDEST });
    publish_many (p, 100, 500, 2);
    const uint64_t start = p->window.start_seq;
    assert_true (start > 50);
    Factmesh__ReplayOpen open = open_range (p, 5, 10, 101);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    check_gap (answer (), 10, start, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    uint64_t next = start;
    check_batches (answer ()->replay_data, 500, &next);
    assert_int_equal (next, 101);
    check_end (answer (), 5);

    /* A journal has part of it. */
    assert_int_equal (give_watermark (p, &journal_a, 1, 40, 40), 0);
    open = open_range (p, 6, 10, 101);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    check_gap (answer (), 10, 41, FACTMESH__GAP_REASON__GAP_SYNCED);
    check_end (answer (), 6);
    open = open_range (p, 7, 41, 45);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    check_gap (answer (), 41, 45, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    check_end (answer (), 7);
    fm_publisher_close (&p);
}

static void an_earlier_epoch_is_a_journals_to_tell (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    p->identity.epoch_first_seq = p->next_seq = 1001;
    window_init (&p->window, 1 << 20, 1001);
    Factmesh__ReplayOpen open = open_range (p, 5, 900, 1100);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    const Factmesh__Control *gap = answer ();
    check_gap (gap, 900, 1001, FACTMESH__GAP_REASON__GAP_SYNCED);
    assert_false (gap->replay_data->gaps[0]->journal);      /* it knows of none */
    check_end (answer (), 5);
    /* One has met it, and has nothing of this epoch, of which nothing was sent. */
    assert_int_equal (give_watermark (p, &journal_a, 1, 0, 0), 0);
    open = open_range (p, 6, 900, 1100);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    gap = answer ();
    check_gap (gap, 900, 1001, FACTMESH__GAP_REASON__GAP_SYNCED);
    assert_true (gap->replay_data->gaps[0]->journal);
    check_end (answer (), 6);
    fm_publisher_close (&p);
}

static void what_is_not_sent_yet_is_not_waited_for (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 10, 50, 10);
    Factmesh__ReplayOpen open = open_range (p, 5, 11, 20);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    check_end (answer (), 5);
    open = open_range (p, 6, 5, 20);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    uint64_t next = 1;
    check_batches (answer ()->replay_data, 50, &next);
    check_end (answer (), 6);
    open = open_range (p, 7, 1, 0);         /* no end: what is there */
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    next = 1;
    check_batches (answer ()->replay_data, 50, &next);
    check_end (answer (), 7);
    fm_publisher_close (&p);
}

static void a_fact_too_large_for_live_is_announced_and_fetched (void **state)
{
    (void) state;
    enum { LARGE = 5 << 20 };
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .payload_max = LARGE });
    uint8_t *payload = malloc (LARGE);
    assert_non_null (payload);
    payload_of (2, payload, LARGE);
    (void) publish (p, "small", slice_of ("x"));
    const struct fm_fact fact = { .topic = slice_of ("big.one"), .payload = slice (payload, LARGE), .type = slice_of ("T"), .key = slice_of ("k") };
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch announced;
    assert_true (receive_batch (&message, &topic, &announced));
    zmq_msg_close (&message);
    assert_true (receive_batch (&message, &topic, &announced));
    assert_true (slice_equal (topic, fact.topic));
    assert_true (announced.announced_len > LARGE);
    assert_int_equal (announced.first_seq, 2);
    assert_int_equal (announced.count, 1);
    assert_int_equal (announced.features, FACTMESH__FEATURE__FEATURE_KEY);

    Factmesh__ReplayOpen open = open_range (p, 5, 2, 3);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    const Factmesh__ReplayData *data = answer ()->replay_data;
    assert_int_equal (data->n_batches, 1);
    assert_int_equal (data->batches[0].len, announced.announced_len);
    struct batch_scratch own = { 0 };
    struct batch b;
    assert_int_equal (batch_decode (data->batches[0].data, data->batches[0].len, slice_of ("test"), &own, &b), 0);
    assert_int_equal (b.announced_len, 0);
    assert_int_equal (b.incarnation, announced.incarnation);
    struct batch_reader reader;
    struct fm_fact got;
    batch_reader_init (&reader, &b);
    assert_int_equal (batch_reader_next (&reader, &got), 0);
    assert_int_equal (got.payload.len, LARGE);
    assert_memory_equal (got.payload.data, payload, LARGE);
    assert_true (slice_equal (got.type, fact.type) && slice_equal (got.key, fact.key));
    assert_int_equal (batch_reader_next (&reader, &got), FM_ERR_END);
    batch_scratch_release (&own);
    /* It was more than the credit: what follows waits until that is paid back. */
    assert_null (answer ());
    assert_int_equal (give_credit (5, 5 << 20, 'a'), 0);
    serve_all (p);
    check_end (answer (), 5);
    zmq_msg_close (&message);
    free (payload);
    fm_publisher_close (&p);
}

static void batches_without_a_wanted_topic_are_left_out_but_covered (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 100, 50, 10);
    Factmesh__ReplayOpen open = open_range (p, 5, 1, 101);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("none.*")), control_put_slice (slice_of ("t1")) };
    open.filters = filters;
    open.n_filters = 2;
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    const Factmesh__ReplayData *data = answer ()->replay_data;
    assert_int_equal (data->n_batches, 5);
    assert_int_equal (data->covered[0]->through, 100);
    check_end (answer (), 5);
    filters[0] = control_put_slice (slice_of ("a..b"));
    assert_int_equal (ask (&open, 'a'), 0);
    const Factmesh__Control *control = answer ();
    assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_ERROR);
    assert_int_equal (control->error->code, FACTMESH__ERROR_CODE__ERROR_MALFORMED);
    fm_publisher_close (&p);
}

static void requests_that_make_no_sense_are_refused (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 10, 50, 10);
    Factmesh__ReplayOpen bad[4];
    bad[0] = open_range (p, 9, 5, 5);
    bad[1] = open_range (p, 9, 0, 5);
    bad[2] = open_range (p, 9, 1, 5);
    bad[2].start_case = FACTMESH__REPLAY_OPEN__START_FROM_END;
    bad[3] = open_range (p, 9, 7, 3);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal (ask (&bad[i], 'a'), 0);
        const Factmesh__Control *control = answer ();
        assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_ERROR);
        assert_int_equal (control->error->code, FACTMESH__ERROR_CODE__ERROR_RANGE);
        assert_int_equal (control->error->session, 9);
        assert_int_equal (control->request, 77);
    }
    const struct fm_publisher other = { .identity.stream = journal_a };
    Factmesh__ReplayOpen of_other = open_range (&other, 9, 1, 5);
    assert_int_equal (ask (&of_other, 'a'), FM_ERR_UNKNOWN);
    assert_int_equal (give_credit (9, 1, 'a'), FM_ERR_UNKNOWN);
    assert_int_equal (close_session (9, 'a'), FM_ERR_UNKNOWN);
    fm_publisher_close (&p);
}

static void sessions_are_bounded_for_each_peer_and_in_all (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 10, 50, 10);
    unsigned open_count = 0, refused = 0;
    for (uint8_t peer = 'a'; peer < 'z'; peer++) {
        unsigned of_peer = 0;
        for (uint64_t session = 1; session <= 40; session++) {
            Factmesh__ReplayOpen open = open_range (p, session, 1, 5);
            open.credit = 0;
            assert_int_equal (ask (&open, peer), 0);
            const Factmesh__Control *control = answer ();
            if (control) {
                assert_int_equal (control->error->code, FACTMESH__ERROR_CODE__ERROR_LIMIT);
                refused++;
            } else {
                of_peer++;
            }
        }
        assert_true (of_peer < 40);
        open_count += of_peer;
    }
    assert_true (open_count > 0 && open_count < 1000 && refused > 0);
    /* Sessions without credit end, and make room. */
    fake.now = node_now () + UINT64_C (60000) * MS;
    (void) publisher_tick (p, fake.now);
    Factmesh__ReplayOpen open = open_range (p, 1, 1, 5);
    assert_int_equal (ask (&open, 'q'), 0);
    assert_null (answer ());
    fm_publisher_close (&p);
}

static void a_closed_session_sends_no_more (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 100, 1000, 10);
    Factmesh__ReplayOpen open = open_range (p, 5, 1, 101);
    open.message_bytes = 4096;
    open.credit = 1;
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    assert_non_null (answer ());
    assert_int_equal (close_session (5, 'b'), FM_ERR_UNKNOWN);      /* of another peer */
    assert_int_equal (close_session (5, 'a'), 0);
    assert_int_equal (give_credit (5, 1 << 20, 'a'), FM_ERR_UNKNOWN);
    serve_all (p);
    assert_null (answer ());
    fm_publisher_close (&p);
}

static void a_full_queue_is_tried_again_and_a_lost_peer_forgotten (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 10, 50, 10);
    Factmesh__ReplayOpen open = open_range (p, 5, 1, 11);
    assert_int_equal (ask (&open, 'a'), 0);
    fake.reply_rc = -EAGAIN;
    const uint64_t due = publisher_tick (p, fake.now);
    assert_true (due > fake.now && due <= fake.now + 10 * MS);
    fake.reply_rc = 0;
    fake.now += 10 * MS;
    serve_all (p);
    uint64_t next = 1;
    check_batches (answer ()->replay_data, 50, &next);
    check_end (answer (), 5);

    assert_int_equal (ask (&open, 'a'), 0);
    fake.reply_rc = FM_ERR_UNREACHABLE;
    (void) publisher_tick (p, fake.now);
    fake.reply_rc = 0;
    assert_int_equal (give_credit (5, 1, 'a'), FM_ERR_UNKNOWN);
    fm_publisher_close (&p);
}

static void who_opens_a_session_anew_begins_anew (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 100, 1000, 10);
    Factmesh__ReplayOpen open = open_range (p, 5, 1, 101);
    open.credit = 1;
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    assert_non_null (answer ());
    open = open_range (p, 5, 91, 101);
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    uint64_t next = 91;
    check_batches (answer ()->replay_data, 1000, &next);
    assert_int_equal (next, 101);
    check_end (answer (), 5);                                       /* and nothing of the old one */
    assert_int_equal (close_session (5, 'a'), FM_ERR_UNKNOWN);
    fm_publisher_close (&p);
}

static void an_end_that_does_not_fit_the_queue_comes_later (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 10, 50, 10);
    Factmesh__ReplayOpen open = open_range (p, 5, 1, 11);
    open.credit = 1;
    assert_int_equal (ask (&open, 'a'), 0);
    serve_all (p);
    uint64_t next = 1;
    check_batches (answer ()->replay_data, 50, &next);
    assert_null (answer ());
    fake.reply_rc = -EAGAIN;
    assert_int_equal (give_credit (5, CREDIT, 'a'), 0);
    serve_all (p);
    fake.reply_rc = 0;
    fake.now += 10 * MS;
    serve_all (p);
    check_end (answer (), 5);
    fm_publisher_close (&p);
}

static void what_is_not_for_publishers_is_left_to_others (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    Factmesh__StatusGet status = FACTMESH__STATUS_GET__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    control.status_get = &status;
    assert_int_equal (hand_over (&control, 'a'), FM_ERR_UNKNOWN);
    assert_null (answer ());
    fm_publisher_close (&p);
}

static void one_tick_sends_a_bounded_part_and_takes_turns (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    publish_many (p, 4000, 1000, 50);
    Factmesh__ReplayOpen first = open_range (p, 1, 1, 4001), second = open_range (p, 2, 1, 4001);
    first.credit = second.credit = 64 << 20;
    assert_int_equal (ask (&first, 'a'), 0);
    assert_int_equal (ask (&second, 'b'), 0);
    const uint64_t due = publisher_tick (p, fake.now);
    assert_true (due <= fake.now + MS);
    size_t bytes = 0, of[3] = { 0 };
    for (const Factmesh__Control *control = answer (); control; control = answer ()) {
        for (size_t i = 0; i < control->replay_data->n_batches; i++)
            bytes += control->replay_data->batches[i].len;
        of[control->replay_data->session]++;
    }
    assert_true (bytes > 512 << 10 && bytes < 1536 << 10);
    assert_true (of[1] > 0 && of[2] > 0 && of[1] <= of[2] + 1 && of[2] <= of[1] + 1);
    fm_publisher_close (&p);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_hole_is_served_with_the_batches_that_were_sent),
        CASE (a_large_range_comes_in_messages_as_credit_allows),
        CASE (what_was_synced_is_a_journals_to_tell),
        CASE (what_was_dropped_unsynced_is_held_by_nobody),
        CASE (an_earlier_epoch_is_a_journals_to_tell),
        CASE (what_is_not_sent_yet_is_not_waited_for),
        CASE (a_fact_too_large_for_live_is_announced_and_fetched),
        CASE (batches_without_a_wanted_topic_are_left_out_but_covered),
        CASE (requests_that_make_no_sense_are_refused),
        CASE (sessions_are_bounded_for_each_peer_and_in_all),
        CASE (a_closed_session_sends_no_more),
        CASE (a_full_queue_is_tried_again_and_a_lost_peer_forgotten),
        CASE (who_opens_a_session_anew_begins_anew),
        CASE (an_end_that_does_not_fit_the_queue_comes_later),
        CASE (what_is_not_for_publishers_is_left_to_others),
        CASE (one_tick_sends_a_bounded_part_and_takes_turns),
    };
    const int failed = cmocka_run_group_tests (tests, NULL, NULL);
    batch_scratch_release (&scratch);
    return failed;
}
