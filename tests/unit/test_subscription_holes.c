/* subscription: holes, and publishers and a journal that follow a script: answers that are not what was asked for, garbage, what is too much to be held. Time is
 * virtual (scripted_journal.h). */

#include "scripted_subscription.h"

/* ------------------------------------------------------------------ holes */

/* Beside the point, all of it, and then what was asked for. */
static void repair_beside (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct fm_id other = kit_stream (9), asked = kit_stream (1);
    const struct replay_gap gaps[] = {
        { .first_seq = 1, .end_seq = 99, .reason = FACTMESH__GAP_REASON__GAP_DAMAGED },
        { .stream = other, .first_seq = 1, .end_seq = 99, .reason = FACTMESH__GAP_REASON__GAP_DAMAGED },
    };
    const struct replay_covered covered[] = { { .stream = other, .through = 99 }, { .stream = asked, .through = UINT64_MAX } };
    const struct kit_batch_spec batches[] = { facts (9, 1, 3), facts (1, 2, 3) };
    live_say_replay (j, &(struct live_replay) { .session = open->session, .gaps = gaps, .gap_count = 2, .covered = covered, .covered_count = 2, .batches = batches,
                                                .batch_count = 2 });
}

static void a_repair_brings_nothing_but_what_was_asked_for (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_beside;
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 6);
    expect_nothing (500);
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
    publish (9, 1, 1);                          /* nothing of it came yet */
    expect_facts (9, 1, 2);
}

/* Where to begin is said to that journal's generation alone. The first question comes to what was restored from a copy, and refuses it. */
static unsigned asked_by_place;

static void repair_by_place (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct kit_batch_spec batch = facts (9, 3, 2);
    const struct replay_covered covered = { .stream = kit_stream (9), .through = 2 };
    struct fm_id id;
    assert_int_equal (open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_CURSOR);
    assert_done (control_get_id (&open->from_cursor->journal, &id));
    assert_true (id_equal (&id, &s->base.journal));
    assert_int_equal (open->from_cursor->generation, live_of (j)->generation);
    assert_int_equal (open->from_cursor->offset, START);
    assert_int_equal (open->from_cursor->n_positions, 0);
    if (asked_by_place++ == 0)
        script_refuse (j, open->session, FACTMESH__ERROR_CODE__ERROR_GENERATION, words);
    else
        live_say_replay (j, &(struct live_replay) { .session = open->session, .covered = &covered, .covered_count = 1, .batches = &batch, .batch_count = 1 });
}

static void where_a_stream_begins_is_asked_of_the_generation_that_was_begun_at (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_by_place;
    asked_by_place = 0;
    publish (9, 5, 1);
    expect_facts (9, 3, 6);
    assert_int_equal (asked_by_place, 2);
}

static void repair_garbage (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    live_say_replay (j, &(struct live_replay) { .session = open->session, .bytes = slice ("of a newer version", 18) });
}

static void repair_garbage_then_facts (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct kit_batch_spec batch = facts (1, 2, 3);
    if (j == publisher)
        repair_garbage (j, open);
    else
        live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = &batch, .batch_count = 1 });
}

static void what_a_journal_gives_and_cannot_be_read_is_a_gap (void **state)
{
    const struct fm_id stream = kit_stream (1);
    (void) state;
    go_live ();
    as.on_repair = repair_garbage;
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 2);
    expect_gap (&stream, 2, 5, FM_GAP_NOT_HELD);
    expect_facts (1, 5, 6);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 2);      /* the publisher's word was not enough */
}

static void what_a_publisher_gives_and_cannot_be_read_is_asked_of_a_journal (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_garbage_then_facts;
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 6);
}

/* A session's gap that begins with what came live: it is none there, and goes on behind it. */
static void a_held_batch_divides_a_gap (void **state)
{
    const struct fm_id stream = kit_stream (1);
    const struct replay_gap gap = { .stream = stream, .first_seq = 3, .end_seq = 6, .reason = FACTMESH__GAP_REASON__GAP_NOT_HELD };
    (void) state;
    const struct replay_covered covered = { .stream = stream };
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1, .covered = &covered, .covered_count = 1 };
    open_from_start ();
    expect_nothing (10);
    publish (1, 3, 1);                          /* held: nothing is known of what lies below */
    expect_nothing (10);
    say ((struct live_replay) { .next_offset = START + 6, .remaining_bytes = 1, .gaps = &gap, .gap_count = 1 });
    expect_facts (1, 3, 4);
    expect_gap (&stream, 4, 6, FM_GAP_NOT_HELD);
}

static void without_descriptors_it_is_asked_again (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_garbage_then_facts;
    expect_nothing (2 * SUBSCRIPTION_HOLDER_IDLE_MS);       /* no connection is left */
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    script.sockets_left = 0;
    publish (1, 5, 1);
    expect_nothing (1000);
    script.sockets_left = -1;
    expect_facts (1, 2, 6);
}

static void repair_one (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    struct fm_id id;
    assert_done (control_get_id (&open->stream, &id));
    const struct kit_batch_spec batch = facts (bytes_get_u32le (id.bytes) - 1, open->from_seq, (uint32_t) (open->end_seq - open->from_seq));
    live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = &batch, .batch_count = 1 });
}

/* Batches of a fact each. */
static void repair_in_pieces (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    struct kit_batch_spec batches[4 * SUBSCRIPTION_CHECK_TURN];
    struct fm_id id;
    size_t count = 0;
    assert_done (control_get_id (&open->stream, &id));
    assert_true (open->end_seq - open->from_seq <= sizeof batches / sizeof batches[0]);
    for (uint64_t seq = open->from_seq; seq < open->end_seq; seq++)
        batches[count++] = facts (bytes_get_u32le (id.bytes) - 1, seq, 1);
    live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = batches, .batch_count = count });
}

/* Answers wait for an application that takes seconds for a fact: they are not asked for again, and again, which would fill its memory. */
static void what_waits_for_a_slow_application_is_not_asked_for_again (void **state)
{
    enum { STREAMS = 3, END = 4 * SUBSCRIPTION_CHECK_TURN };
    (void) state;
    go_live ();
    as.on_repair = repair_in_pieces;
    for (unsigned stream = 1; stream <= STREAMS; stream++) {
        publish (stream, 1, 1);
        expect_facts (stream, 1, 2);
    }
    for (unsigned stream = 1; stream <= STREAMS; stream++)
        publish (stream, END - 1, 1);
    for (unsigned taken = 0; taken < STREAMS * (END - 2); taken++) {
        assert_int_equal (next ().kind, FM_EVENT_FACT);
        script_pass (3 * SUBSCRIPTION_REPAIR_MS);
    }
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), STREAMS);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);      /* the session */
}

/* More holes than questions at a time, of more publishers than connections. */
static void holes_of_more_publishers_than_connections_are_filled (void **state)
{
    enum { PEERS = SUBSCRIPTION_HOLDERS_MAX + 20 };
    struct scripted *peers[PEERS];
    unsigned taken[PEERS] = { 0 };
    (void) state;
    go_live ();
    as.on_repair = repair_one;
    for (unsigned i = 0; i < PEERS; i++)
        peers[i] = live_lodger_add (publisher);
    expect_nothing (100);
    for (unsigned i = 0; i < PEERS; i++)
        for (uint64_t seq = 1; seq <= 3; seq += 2) {
            const struct kit_batch_spec batch = facts (i, seq, 1);
            live_publish (peers[i], &batch);
        }
    for (unsigned left = 3 * PEERS; left > 0; left--) {
        const struct fm_event e = next ();
        assert_int_equal (e.kind, FM_EVENT_FACT);
        const unsigned i = bytes_get_u32le (e.fact.id.stream.bytes) - 1;
        assert_true (i < PEERS);
        assert_int_equal (e.fact.id.seq, ++taken[i]);
    }
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), PEERS);
}

/* ------------------------------------------------------------------ live */

static void garbage_is_refused_and_counted (void **state)
{
    static const uint8_t kinds[] = { RESERVED_HEAD, RESERVED_ENDED, RESERVED_WATERMARK };
    (void) state;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .delivery = FM_SYNCED });
    expect_nothing (3000);
    uint64_t refused = 0;
    live_say_body (publisher, slice_of ("a.b"), slice ("no batch", 8));
    expect_nothing (10);
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], ++refused);
    for (size_t i = 0; i < sizeof kinds; i++) {
        const uint8_t topic[] = { RESERVED_BYTE, kinds[i] };
        live_say_under (journal, topic, 2, slice ("\xff\xff\xff", 3));
        expect_nothing (10);
        assert_int_equal (script.counters[NODE_FRAMES_REFUSED], ++refused);
    }
    live_say_head (publisher, RESERVED_ENDED, 1, 100);          /* it is no journal, and so not its to say */
    expect_nothing (10);
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], ++refused);
    uint8_t frame[2 + FENCE_NONCE_LEN + 4] = { RESERVED_BYTE, RESERVED_FENCE };
    live_say_bytes (publisher, frame, sizeof frame);                 /* nobody's nonce: not even heard */
    expect_nothing (3000);
    assert_null (script_last (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN));
}

static void facts_that_do_not_decode_are_a_gap (void **state)
{
    const struct fm_id stream = kit_stream (1);
    const struct kit_batch_spec spec = facts (1, 1, 3);
    struct kit_batch k;
    (void) state;
    go_live ();
    kit_batch_make (&spec, &k);
    k.bytes[k.len - 101] = 0xff;                /* the last payload's length */
    live_say_body (publisher, slice_of ("a.b"), slice (k.bytes, k.len));
    kit_batch_release (&k);
    publish (1, 4, 1);
    expect_facts (1, 1, 3);
    expect_gap (&stream, 3, 4, FM_GAP_DAMAGED);
    expect_facts (1, 4, 5);
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], 1);
}

static void answer_fences (void *arg)
{
    struct scripted *j = arg;
    live_of (j)->mute_fences = false;
}

static void vanish (void *arg)
{
    const struct node_peer info = live_member (arg);
    live_listener.down (live_listener.arg, &info.node, false);
}

static void come_back (void *arg)
{
    live_up (arg);
}

/* In a mesh without a journal. Membership takes it for dead, and it may be cut off: it has what was lost on the way. */
static void what_a_publisher_that_vanished_may_have_is_no_gap_for_a_minute (void **state)
{
    (void) state;
    for (unsigned comes_back = 0; comes_back < 2; comes_back++) {
        const unsigned stream = 1 + comes_back;
        const struct fm_id id = kit_stream (stream);
        publisher = live_peer_add (answer, false);
        live_sent (publisher, stream, 1);
        as.on_repair = NULL;
        fm_subscription_close (&s);
        assert_done (try_open ((struct fm_subscription_options) { .no_journal = true }));
        publish (stream, 1, 1);
        publish (stream, 5, 1);
        expect_facts (stream, 1, 2);
        vanish (publisher);
        expect_nothing (SUBSCRIPTION_ORPHAN_MS - 1000);
        as.on_repair = repair_one;
        if (comes_back) {
            come_back (publisher);
            expect_facts (stream, 2, 6);
        } else {
            expect_gap (&id, 2, 5, FM_GAP_NOT_HELD);
            expect_facts (stream, 5, 6);
        }
    }
}

/* In a mesh without a journal. Its fence was answered before: the stream came up later, and is wanted from its first fact on. */
static void what_a_publisher_opened_while_it_was_cut_off_is_delivered_whole (void **state)
{
    (void) state;
    as.on_repair = repair_one;
    assert_done (try_open ((struct fm_subscription_options) { .no_journal = true }));
    for (unsigned full = 0; full < 2; full++) {
        const unsigned stream = 1 + full;
        if (full)
            s->met_count = SUBSCRIPTION_MET_MAX;
        publisher = live_peer_add (answer, false);
        expect_nothing (100);
        vanish (publisher);
        expect_nothing (2 * LIVE_SET_LINGER_MS);
        live_sent (publisher, stream, 4);
        come_back (publisher);
        expect_nothing (100);
        publish (stream, 4, 1);
        expect_facts (stream, 1, 5);
    }
}

/* Its publisher, which was there before we were, did not list it when it answered our fence: all of it is wanted, and live waits for no journal. */
static void what_is_opened_while_the_journal_is_away_comes_live (void **state)
{
    (void) state;
    as.on_repair = repair_one;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1 };
    open_from_start ();
    expect_nothing (10);
    publish (1, 1, 1);
    live_leave (journal);
    publish (2, 1, 1);
    expect_nothing (SUBSCRIPTION_PATIENCE_MS + 1000);
    for (unsigned stream = 1; stream <= 2; stream++) {
        publish (stream, 2, 1);
        expect_facts (stream, 1, 3);
    }
}

/* It was cut off before it answered our fence, so that it may have had the stream before we came. */
static void what_comes_of_who_was_cut_off_before_its_fence_waits_for_the_journal (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_of (publisher)->mute_fences = true;
    as.on_repair = repair_one;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1 };
    open_from_start ();
    expect_nothing (10);
    live_leave (journal);
    const struct fm_id node = live_member (publisher).node;
    live_listener.down (live_listener.arg, &node, false);
    expect_nothing (10);
    publish (1, 5, 2);                  /* while the old connection is drained */
    expect_nothing (100);
    live_of (publisher)->mute_fences = false;
    live_sent (publisher, 1, 7);
    live_up (publisher);
    expect_nothing (3 * SUBSCRIPTION_PATIENCE_MS);
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 0);
}

static void opening_without_a_journal_waits_for_a_fence_that_is_asked_for_again (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_of (publisher)->mute_fences = true;
    script_plan (LIVE_SET_FENCE_MS / 2, answer_fences, publisher);
    live_sent (publisher, 1, 5);
    assert_done (try_open ((struct fm_subscription_options) { .no_journal = true }));
    assert_true (live_set_fenced (s->live));
    publish (1, 5, 1);
    expect_facts (1, 5, 6);
}

static void repair_from_three_on (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct replay_gap gap = { .stream = kit_stream (1), .first_seq = open->from_seq, .end_seq = 3, .reason = FACTMESH__GAP_REASON__GAP_SYNCED };
    if (open->from_seq >= 3)
        repair_one (j, open);
    else
        live_say_replay (j, &(struct live_replay) { .session = open->session, .gaps = &gap, .gap_count = 1 });
}

static void without_a_journal_what_a_publisher_let_go_is_a_gap_and_the_rest_is_not (void **state)
{
    const struct fm_id id = kit_stream (1);
    (void) state;
    publisher = live_peer_add (answer, false);
    live_sent (publisher, 1, 1);
    as.on_repair = repair_from_three_on;
    assert_done (try_open ((struct fm_subscription_options) { .from = FM_FROM_END }));
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 2);
    expect_gap (&id, 2, 3, FM_GAP_NOT_HELD);
    expect_facts (1, 3, 6);
}

/* Its process started again at its address: what it sent first came in the old one's name, which said goodbye. It is asked while the old connection is drained. */
static void what_a_publisher_sends_while_its_old_connection_is_drained_is_its_own (void **state)
{
    (void) state;
    struct scripted *anew = live_peer_add (answer, false);
    publisher = live_peer_add (answer, false);
    live_sent (publisher, 1, 1);
    as.on_repair = repair_one;
    assert_done (try_open ((struct fm_subscription_options) { .no_journal = true }));
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    publish (1, 5, 1);
    live_leave (publisher);
    expect_nothing (100);
    live_say_head (anew, RESERVED_HEAD, 1, 5);
    expect_facts (1, 2, 6);
}

/* The same in a mesh where the new process is met later. There is nobody to ask meanwhile, which says nothing of what is lost. */
static void what_comes_in_the_name_of_who_said_goodbye_is_no_gap_for_ten_seconds (void **state)
{
    (void) state;
    for (unsigned is_met = 0; is_met < 2; is_met++) {
        const unsigned stream = 1 + is_met;
        const struct fm_id id = kit_stream (stream);
        publisher = live_peer_add (answer, false);
        live_sent (publisher, stream, 1);
        as.on_repair = repair_one;
        fm_subscription_close (&s);
        assert_done (try_open ((struct fm_subscription_options) { .no_journal = true }));
        publish (stream, 1, 1);
        expect_facts (stream, 1, 2);
        const struct fm_id gone = live_start_again (publisher);
        live_listener.down (live_listener.arg, &gone, true);
        publish (stream, 5, 1);
        expect_nothing (SUBSCRIPTION_LEFT_MS - 1000);
        if (is_met) {
            live_up (publisher);
            expect_nothing (10);
            live_say_head (publisher, RESERVED_HEAD, stream, 5);
            expect_facts (stream, 2, 6);
        } else {
            publisher->is_member = false;
            expect_gap (&id, 2, 5, FM_GAP_NOT_HELD);
            expect_facts (stream, 5, 6);
        }
    }
}

static void what_a_publisher_that_cannot_be_asked_may_have_is_no_gap (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_sent (publisher, 1, 1);
    as.on_repair = repair_one;
    assert_done (try_open ((struct fm_subscription_options) { .no_journal = true }));
    script.sockets_left = 0;
    publish (1, 5, 1);
    expect_nothing (2 * SUBSCRIPTION_ORPHAN_MS);
    script.sockets_left = -1;
    expect_facts (1, 1, 6);
}

/* ZeroMQ connected to the process that has the publisher's address by now, and told it the fence that the old one was asked: what that one sent before nobody
 * has seen, and it is younger than the subscription. */
static void what_a_publisher_sent_before_it_answered_a_fence_of_the_process_before_is_delivered (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_of (publisher)->mute_fences = true;
    as.on_repair = repair_one;
    assert_done (try_open ((struct fm_subscription_options) { .no_journal = true }));
    const struct fm_id gone = live_start_again (publisher);
    live_of (publisher)->started_ns = UINT64_MAX;
    live_of (publisher)->mute_fences = false;
    live_sent (publisher, 1, 6);
    expect_nothing (2 * LIVE_SET_FENCE_MS);
    live_up (publisher);
    live_listener.down (live_listener.arg, &gone, false);
    expect_nothing (10);
    publish (1, 6, 1);
    expect_facts (1, 1, 7);
}

/* Nothing yet of what is synced; later all of what is asked for. */
static void repair_what_is_recorded_later (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    if (open->end_case == FACTMESH__REPLAY_OPEN__END_END_SEQ)
        repair_one (j, open);
    else
        say_end (j, open->session);
}

/* The subscription is older than the mesh's journal, which is asked what the publisher sent last, and has not recorded it yet. */
static void what_a_journal_that_came_later_records_of_a_stream_that_ended_is_asked_for (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_sent (publisher, 1, 1);
    assert_done (try_open ((struct fm_subscription_options) { .from = FM_FROM_END }));
    assert_true (s->fences_only);
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    as.on_repair = repair_what_is_recorded_later;
    journal = live_peer_add (answer, true);
    expect_nothing (100);
    live_leave (publisher);
    expect_nothing (LIVE_SET_LINGER_MS + 4 * SUBSCRIPTION_TAIL_MS);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
    live_say_head (journal, RESERVED_ENDED, 2, 5);      /* it never heard of that one, which may be older than itself */
    live_say_head (journal, RESERVED_ENDED, 1, 3);
    expect_facts (1, 2, 4);
    expect_nothing (1000);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 2);
}

static void repair_tail (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct kit_batch_spec batch = facts (1, open->from_seq, 2);
    assert_int_equal (open->end_case, FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED);
    live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = &batch, .batch_count = 1 });
    say_end (j, open->session);
}

/* It started again after the publisher was gone, and so tells nobody that the stream has ended. */
static void what_a_journal_that_comes_back_has_of_a_stream_that_ended_is_asked_for (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_sent (publisher, 1, 1);
    assert_done (try_open ((struct fm_subscription_options) { .from = FM_FROM_END }));
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    journal = live_peer_add (answer, true);
    as.on_repair = repair_what_is_recorded_later;
    live_leave (publisher);
    expect_nothing (LIVE_SET_LINGER_MS + 4 * SUBSCRIPTION_TAIL_MS);
    live_leave (journal);
    expect_nothing (LIVE_SET_LINGER_MS + 100);
    as.on_repair = repair_tail;
    live_come_back (journal);
    expect_facts (1, 2, 4);
}

/* No journal, and its publisher does not say yet where live begins. */
static void what_is_too_much_before_the_fence_is_answered_is_dropped (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_of (publisher)->mute_fences = true;
    live_sent (publisher, 1, 131);
    assert_done (try_open ((struct fm_subscription_options) { .no_journal = true, .held_bytes = 1000 }));
    for (uint64_t seq = 101; seq < 131; seq++)
        publish (1, seq, 1);
    expect_nothing (10);
    assert_true (script.counters[NODE_FELL_BEHIND] > 0);
    assert_true (s->held_bytes <= 1000);
    script_plan (1, answer_fences, publisher);
    expect_nothing (LIVE_SET_FENCE_MAX_MS);
    publish (1, 131, 2);
    expect_facts (1, 131, 133);
}

/* Of the same epoch and incarnation, and what would come next. */
static void what_another_node_sends_of_a_publishers_stream_is_refused (void **state)
{
    const struct kit_batch_spec lie = { .stream = 1, .first_seq = 2, .count = 1, .payload_len = 7 };
    (void) state;
    go_live ();
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    struct scripted *const liar = live_peer_add (answer, false);
    expect_nothing (3000);
    live_publish (liar, &lie);
    expect_nothing (500);
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], 1);
    publish (1, 2, 1);
    const struct fm_event e = next ();
    assert_int_equal (e.kind, FM_EVENT_FACT);
    assert_int_equal (e.fact.id.seq, 2);
    assert_int_equal (e.fact.payload.len, 100);
}

static void say_synced (struct scripted *j, unsigned stream, uint64_t seq)
{
    const struct fm_id id = kit_stream (stream);
    Factmesh__StreamMark mark = FACTMESH__STREAM_MARK__INIT, *marks[] = { &mark };
    Factmesh__Watermark watermark = FACTMESH__WATERMARK__INIT;
    mark.stream = control_put_id (&id);
    mark.epoch = 1;
    mark.synced = seq;
    watermark.mesh = control_put_slice (slice_of ("test"));
    watermark.journal = control_put_id (&journal->id);
    watermark.generation = 1;
    watermark.marks = marks;
    watermark.n_marks = 1;
    live_say_reserved (j, RESERVED_WATERMARK, NULL, &watermark.base);
}

static const struct kit_batch_spec with_identity = { .stream = 1, .first_seq = 2, .count = 2, .payload_len = 100, .identity = "order 7" };

/* Another stream had the identity first. */
static void repair_with_a_duplicate (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    uint8_t bytes[1024], *const run = bytes + BATCH_DUPLICATES_HEAD;
    const struct batch_duplicate duplicate = { .seq = 2, .first = { .stream = kit_stream (9), .seq = 1 } };
    struct kit_batch k;
    assert_ptr_equal (j, journal);
    kit_batch_make (&with_identity, &k);
    uint8_t *const end = batch_duplicate_encode (run, &duplicate), *const front = batch_duplicates_close (run, (size_t) (end - run));
    memcpy (end, k.bytes, k.len);
    live_say_replay (j, &(struct live_replay) { .session = open->session, .bytes = slice (front, (size_t) (end - front) + k.len) });
    kit_batch_release (&k);
}

/* A publisher cannot know whether another one used it before. */
static void what_has_identities_comes_from_a_journal_alone_in_synced_delivery (void **state)
{
    (void) state;
    as.on_repair = repair_with_a_duplicate;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .delivery = FM_SYNCED });
    expect_nothing (3000);
    publish (1, 1, 1);
    say_synced (publisher, 1, 1);
    expect_facts (1, 1, 2);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);      /* that came live */
    live_publish (publisher, &with_identity);
    say_synced (publisher, 1, 3);
    expect_facts (1, 3, 4);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 2);
    publish (1, 4, 1);
    say_synced (publisher, 1, 4);
    expect_facts (1, 4, 5);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_repair_brings_nothing_but_what_was_asked_for),
        CASE (where_a_stream_begins_is_asked_of_the_generation_that_was_begun_at),
        CASE (what_a_journal_gives_and_cannot_be_read_is_a_gap),
        CASE (what_a_publisher_gives_and_cannot_be_read_is_asked_of_a_journal),
        CASE (a_held_batch_divides_a_gap),
        CASE (without_descriptors_it_is_asked_again),
        CASE (what_waits_for_a_slow_application_is_not_asked_for_again),
        CASE (holes_of_more_publishers_than_connections_are_filled),
        CASE (garbage_is_refused_and_counted),
        CASE (facts_that_do_not_decode_are_a_gap),
        CASE (what_another_node_sends_of_a_publishers_stream_is_refused),
        CASE (what_has_identities_comes_from_a_journal_alone_in_synced_delivery),
        CASE (what_a_publisher_that_vanished_may_have_is_no_gap_for_a_minute),
        CASE (what_a_publisher_opened_while_it_was_cut_off_is_delivered_whole),
        CASE (what_is_opened_while_the_journal_is_away_comes_live),
        CASE (what_comes_of_who_was_cut_off_before_its_fence_waits_for_the_journal),
        CASE (opening_without_a_journal_waits_for_a_fence_that_is_asked_for_again),
        CASE (without_a_journal_what_a_publisher_let_go_is_a_gap_and_the_rest_is_not),
        CASE (what_a_publisher_sends_while_its_old_connection_is_drained_is_its_own),
        CASE (what_comes_in_the_name_of_who_said_goodbye_is_no_gap_for_ten_seconds),
        CASE (what_a_publisher_that_cannot_be_asked_may_have_is_no_gap),
        CASE (what_a_publisher_sent_before_it_answered_a_fence_of_the_process_before_is_delivered),
        CASE (what_a_journal_that_came_later_records_of_a_stream_that_ended_is_asked_for),
        CASE (what_a_journal_that_comes_back_has_of_a_stream_that_ended_is_asked_for),
        CASE (what_is_too_much_before_the_fence_is_answered_is_dropped),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
