/* Subscriptions in trouble (mesh_kit.h): too slow, asleep, their journal gone, their publishers gone, moved, doubled. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <unistd.h>

#include "../support/mesh_kit.h"
#include "bytes.h"
#include "control.h"
#include "live.h"
#include "node.h"

static void who_is_too_slow_falls_behind_and_misses_nothing (void **state)
{
    (void) state;
    enum { COUNT = 40000 };
    struct mesh m;
    mesh_open (&m, true, 20);
    mesh_add_stream (&m, 20, COUNT, false);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .held_bytes = 65536 });
    mesh_publish (&m, 0, 1, 2);
    checker_run_until (&c, 0, 1);
    while (c.caught_up == 0)
        checker_next (&c);
    mesh_publish (&m, 0, 2, COUNT - 5000);           /* nobody reads meanwhile */
    struct load load = { .mesh = &m, .stream = 0, .first = COUNT - 5000, .end = COUNT + 21, .pause_every = 200 };
    load_start (&load);
    checker_run_to_end (&c);
    load_join (&load);
    assert_int_equal (c.facts, COUNT + 20);
    assert_int_equal (c.gaps, 0);
    while (c.caught_up <= c.fell_behind)        /* one at first, and one for each fall */
        checker_next (&c);
    checker_expect_silence (&c, 50);
    assert_int_equal (c.caught_up, c.fell_behind + 1);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void a_journal_that_comes_back_is_read_on_where_it_stopped (void **state)
{
    (void) state;
    enum { COUNT = 30000 };
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 20, COUNT, false);
    mesh_publish (&m, 0, 1, COUNT / 2);
    mesh_wait_synced (&m, 0);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    while (c.facts < 2000)                      /* in the middle of the replay */
        checker_next (&c);
    mesh_close_journal (&m);
    mesh_publish (&m, 0, COUNT / 2, COUNT / 2 + 1000);
    mesh_open_journal (&m);
    mesh_publish (&m, 0, COUNT / 2 + 1000, COUNT + 21);
    checker_run_to_end (&c);
    assert_int_equal (c.facts, COUNT + 20);
    assert_int_equal (c.gaps, 0);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void a_journal_that_is_just_starting_is_asked_again_for_the_cursor (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 3, 10, false);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place", .commit_ms = 60000 });
    mesh_publish (&m, 0, 1, 10);
    checker_run_until (&c, 0, 9);
    /* Its node answers, and says that it is no journal: as it does for a moment at each start. */
    journal_destroy (&m.journal);
    assert_int_equal (fm_subscription_ack (c.s), 0);
    assert_int_equal (fm_subscription_commit (c.s, 500), FM_TIMEOUT);
    assert_int_equal (journal_new (m.journal_node, m.directory, NULL, &m.journal), 0);
    assert_int_equal (fm_subscription_commit (c.s, MESH_PATIENCE_MS), 0);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

/* Questions that get lost: the first for a cursor, and so many for a replay. */
struct lost_questions {
    unsigned replays_lost;
    atomic_uint cursors, replays;
};

static int lose_the_first (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    struct lost_questions *lost = arg;
    (void) from;
    if (control->body_case == FACTMESH__CONTROL__BODY_CURSOR_GET)
        return atomic_fetch_add (&lost->cursors, 1) == 0 ? 0 : FM_ERR_UNKNOWN;
    if (control->body_case == FACTMESH__CONTROL__BODY_REPLAY_OPEN)
        return atomic_fetch_add (&lost->replays, 1) < lost->replays_lost ? 0 : FM_ERR_UNKNOWN;
    return FM_ERR_UNKNOWN;
}

static void open_beside_lost_questions (unsigned replays_lost, int open_timeout_ms)
{
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 3, 10, false);
    mesh_publish (&m, 0, 1, 10);
    mesh_wait_synced (&m, 0);
    struct lost_questions lost = { .replays_lost = replays_lost };
    assert_int_equal (node_handle_first (m.journal_node, lose_the_first, &lost), 0);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place", .open_timeout_ms = open_timeout_ms });
    checker_run_until (&c, 0, 9);
    assert_true (lost.cursors > 1 && lost.replays > replays_lost);
    fm_subscription_close (&c.s);
    node_unhandle (m.journal_node, &lost);
    mesh_close (&m);
}

/* Killed with the question in hand, say, and at once back. */
static void a_journal_that_does_not_answer_is_soon_asked_again (void **state)
{
    (void) state;
    open_beside_lost_questions (1, 0);
}

static void who_may_wait_asks_a_journal_that_does_not_answer_again (void **state)
{
    (void) state;
    open_beside_lost_questions (3, MESH_PATIENCE_MS);
}

static void others_fill_in_for_a_journal_that_is_gone (void **state)
{
    (void) state;
    enum { COUNT = 30000 };
    for (int another = 0; another < 2; another++) {
        struct mesh m;
        mesh_open (&m, true, 20);
        mesh_add_stream (&m, 20, COUNT, false);
        struct checker c;
        checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .held_bytes = 65536 });
        mesh_publish (&m, 0, 1, 2);
        checker_run_until (&c, 0, 1);
        while (c.caught_up == 0)
            checker_next (&c);
        mesh_close_journal (&m);
        char first[sizeof m.directory];
        memcpy (first, m.directory, sizeof first);
        if (another) {                                   /* of another id: its offsets are not ours */
            strcpy (m.directory, "/tmp/test_subscription.XXXXXX");
            assert_non_null (mkdtemp (m.directory));
            mesh_open_journal (&m);
        }
        mesh_publish (&m, 0, 2, COUNT);                  /* nobody reads meanwhile */
        if (another)
            mesh_wait_synced (&m, 0);                    /* so that the publisher has it no longer */
        mesh_publish (&m, 0, COUNT, COUNT + 21);
        checker_run_to_end (&c);
        assert_int_equal (c.facts, COUNT + 20);
        assert_int_equal (c.gaps, 0);
        fm_subscription_close (&c.s);
        mesh_close (&m);
        if (another)
            mesh_remove (first);
    }
}

static void a_stream_that_was_closed_is_heard_of_though_its_node_lives_on (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    struct fm_subscription *s = NULL;
    struct fm_event e = { 0 };
    assert_int_equal (fm_subscription_open (m.subscriber_node, &(struct fm_subscription_options) { 0 }, &s), 0);
    while (e.kind != FM_EVENT_CAUGHT_UP)
        assert_int_equal (fm_subscription_next (s, MESH_PATIENCE_MS, &e), 0);

    while (fm_subscription_next (s, 300, &e) != FM_TIMEOUT)
        continue;                                        /* the replay has ended */

    /* Nobody takes facts meanwhile: the subscription meets the node when its stream is closed. */
    struct fm_node *node = mesh_open_node ("short", fm_node_address (m.journal_node), 0);
    struct fm_publisher *p = NULL;
    assert_int_equal (fm_publisher_open (node, NULL, &p), 0);
    assert_int_equal (fm_publish_text (p, "short.lived", "one"), 0);
    assert_int_equal (fm_publisher_wait_synced (p, 0, MESH_PATIENCE_MS), 0);
    fm_publisher_close (&p);

    do
        assert_int_equal (fm_subscription_next (s, MESH_PATIENCE_MS, &e), 0);
    while (e.kind != FM_EVENT_FACT);
    assert_true (slice_equal (e.fact.payload, slice_of ("one")));
    fm_subscription_close (&s);
    fm_node_close (&node);
    mesh_close (&m);
}

static void what_its_publisher_had_alone_dies_with_it_as_a_gap (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, false, 10);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .no_journal = true });
    const struct fm_publisher_options small = { .window_bytes = 200000, .when_full = FM_DROP_OLDEST };
    struct fm_publisher *p;
    assert_int_equal (fm_publisher_open (m.publisher_node, &small, &p), 0);
    enum { COUNT = 30000 };
    for (uint64_t seq = 1; seq <= COUNT; seq++) {       /* far more than queues and window hold, and nobody reads */
        uint64_t payload[256] = { seq };
        const struct fm_fact fact = { .topic = fm_text ("many"), .payload = slice (payload, sizeof payload) };
        assert_int_equal (fm_publish (p, &fact, NULL), 0);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
    uint64_t next = 1, lost = 0;
    while (next <= COUNT) {
        struct fm_event e;
        const int rc = fm_subscription_next (c.s, MESH_PATIENCE_MS, &e);
        assert_int_equal (rc, 0);
        if (e.kind == FM_EVENT_FACT) {
            assert_int_equal (e.fact.id.seq, next);
            assert_memory_equal (e.fact.payload.data, &next, sizeof next);
            next++;
        } else if (e.kind == FM_EVENT_GAP) {
            assert_int_equal (e.gap.first, next);
            assert_int_equal (e.gap.reason, FM_GAP_NOT_HELD);
            lost += e.gap.end - next;
            next = e.gap.end;
        }
    }
    assert_true (lost > 0 && lost < COUNT);
    fm_publisher_close (&p);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

/* A publisher with an identity in a directory; facts are numbered by their payload. */
static struct fm_publisher *open_identity (struct fm_node *node, const char *directory)
{
    const struct fm_publisher_options options = { .directory = directory };
    struct fm_publisher *p = NULL;
    const int rc = fm_publisher_open (node, &options, &p);
    if (rc != 0)
        fail_msg ("fm_publisher_open: %s (%s)", fm_error_text (rc), fm_error_detail ());
    return p;
}

static void publish_numbers (struct fm_publisher *p, uint64_t first, uint64_t end)
{
    for (uint64_t n = first; n < end; n++) {
        const struct fm_fact fact = { .topic = fm_text (n % 3 ? "numbers.a" : "numbers.b"), .payload = slice (&n, sizeof n) };
        assert_int_equal (fm_publish (p, &fact, NULL), 0);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
}

static void take_numbers (struct fm_subscription *s, uint64_t first, uint64_t end)
{
    while (first < end) {
        struct fm_event e;
        const int rc = fm_subscription_next (s, MESH_PATIENCE_MS, &e);
        if (rc != 0)
            fail_msg ("waiting for %llu: %s (%s)", (unsigned long long) first, fm_error_text (rc), fm_error_detail ());
        if (e.kind == FM_EVENT_FACT) {
            assert_int_equal (e.fact.payload.len, sizeof first);
            assert_memory_equal (e.fact.payload.data, &first, sizeof first);
            first++;
        }
    }
}

static void what_a_publisher_sent_before_it_went_is_asked_of_the_journal (void **state)
{
    (void) state;
    enum { COUNT = 12000, WORDS = 1000 };
    struct mesh m;
    mesh_open (&m, true, 0);
    struct fm_subscription *s;
    assert_int_equal (fm_subscription_open (m.subscriber_node, &(struct fm_subscription_options) { .held_bytes = 65536 }, &s), 0);
    struct fm_node *node = mesh_open_node ("leaving", fm_node_address (m.publisher_node), 0);
    assert_int_equal (fm_node_wait_members (node, 4, MESH_PATIENCE_MS), 0);
    assert_int_equal (fm_node_wait_members (m.subscriber_node, 4, MESH_PATIENCE_MS), 0);
    struct fm_publisher *p;                     /* a frame for each fact, so that queues of frames overflow */
    assert_int_equal (fm_publisher_open (node, &(struct fm_publisher_options) { .batch_us = -1 }, &p), 0);
    publish_numbers (p, 0, 1);
    struct fm_event e;
    do                                          /* connected */
        assert_int_equal (fm_subscription_next (s, MESH_PATIENCE_MS, &e), 0);
    while (e.kind != FM_EVENT_FACT);
    for (int i = 0; i < 40; i++)                /* and on live alone: the session has ended, at most two seconds after it caught up */
        (void) fm_subscription_next (s, 100, &e);
    for (uint64_t n = 1; n < COUNT; n++) {      /* 92 MiB that nobody reads: much of it, and the last, is dropped */
        uint64_t payload[WORDS] = { n };
        const struct fm_fact fact = { .topic = fm_text ("numbers"), .payload = slice (payload, sizeof payload) };
        assert_int_equal (fm_publish (p, &fact, NULL), 0);
    }
    assert_int_equal (fm_publisher_wait_synced (p, 0, MESH_PATIENCE_MS), 0);
    fm_publisher_close (&p);
    fm_node_close (&node);
    for (uint64_t n = 1; n < COUNT;) {
        assert_int_equal (fm_subscription_next (s, MESH_PATIENCE_MS, &e), 0);
        assert_int_not_equal (e.kind, FM_EVENT_GAP);
        if (e.kind != FM_EVENT_FACT)
            continue;
        assert_memory_equal (e.fact.payload.data, &n, sizeof n);
        n++;
    }
    fm_subscription_close (&s);
    mesh_close (&m);
}

/* No journal: what an epoch published that we were cut off from is in the window that the next one brought from disk. */
static void what_earlier_epochs_left_on_disk_is_repaired_from_their_publisher (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, false, 0);
    struct fm_node *alone = mesh_open_node ("alone", NULL, 0);
    char directory[] = "/tmp/test_subscription.XXXXXX";
    assert_non_null (mkdtemp (directory));
    const struct fm_publisher_options options = { .directory = directory, .window_on_disk = FM_WINDOW_FILE };
    struct fm_subscription *s;
    assert_int_equal (fm_subscription_open (m.subscriber_node, NULL, &s), 0);
    struct fm_publisher *p;
    struct fm_node *const nodes[] = { m.publisher_node, alone, alone, m.publisher_node };
    for (uint64_t epoch = 0; epoch < 4; epoch++) {
        assert_int_equal (fm_publisher_open (nodes[epoch], &options, &p), 0);
        publish_numbers (p, epoch * 10, epoch * 10 + 10);
        if (epoch == 0)
            take_numbers (s, 0, 10);
        if (epoch < 3)
            fm_publisher_close (&p);
    }
    uint64_t next = 10;
    while (next < 40) {
        struct fm_event e;
        assert_int_equal (fm_subscription_next (s, MESH_PATIENCE_MS, &e), 0);
        assert_int_not_equal (e.kind, FM_EVENT_GAP);
        if (e.kind != FM_EVENT_FACT)
            continue;
        assert_memory_equal (e.fact.payload.data, &next, sizeof next);
        next++;
    }
    fm_publisher_close (&p);
    fm_subscription_close (&s);
    fm_node_close (&alone);
    mesh_remove (directory);
    mesh_close (&m);
}

static void a_stream_goes_on_when_its_publisher_comes_back_elsewhere (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    char directory[] = "/tmp/test_subscription.XXXXXX";
    assert_non_null (mkdtemp (directory));
    struct fm_subscription *live, *synced;
    assert_int_equal (fm_subscription_open (m.subscriber_node, NULL, &live), 0);
    assert_int_equal (fm_subscription_open (m.subscriber_node, &(struct fm_subscription_options) { .delivery = FM_SYNCED }, &synced), 0);
    for (uint64_t round = 0; round < 4; round++) {
        struct fm_node *node = mesh_open_node ("moving", fm_node_address (m.publisher_node), 0);
        assert_int_equal (fm_node_wait_members (node, 4, MESH_PATIENCE_MS), 0);
        struct fm_publisher *p = open_identity (node, directory);
        publish_numbers (p, 300 * round, 300 * (round + 1));
        assert_int_equal (fm_publisher_wait_synced (p, 0, MESH_PATIENCE_MS), 0);
        if (round % 2)                          /* sometimes before it goes, sometimes behind */
            take_numbers (live, 300 * (round - 1), 300 * (round + 1));
        fm_publisher_close (&p);
        fm_node_close (&node);
        assert_int_equal (fm_node_wait_members (m.subscriber_node, 3, MESH_PATIENCE_MS), 0);
    }
    take_numbers (synced, 0, 1200);
    fm_subscription_close (&live);
    fm_subscription_close (&synced);
    mesh_remove (directory);
    mesh_close (&m);
}

/* The publisher was opened again in the same node and all of its first frames were dropped: its mark covers what is void by now. */
static void a_mark_of_a_newer_epoch_vouches_for_nothing_of_the_old_one (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 1, 100, false);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_END, .delivery = FM_SYNCED });
    mesh_publish (&m, 0, 1, 11);
    checker_run_until (&c, 0, 10);
    mesh_close_journal (&m);
    mesh_publish (&m, 0, 11, 21);
    for (uint64_t epoch = 2; epoch >= 1; epoch--) {
        Factmesh__StreamMark mark = FACTMESH__STREAM_MARK__INIT, *marks[] = { &mark };
        Factmesh__Watermark watermark = FACTMESH__WATERMARK__INIT;
        const struct fm_id journal = { { 7 } };
        zmq_msg_t message;
        mark.stream = control_put_id (&m.streams[0]);
        mark.synced = 20;
        mark.epoch = epoch;
        watermark.mesh = control_put_slice (node_mesh (m.publisher_node));
        watermark.journal = control_put_id (&journal);
        watermark.generation = 1;
        watermark.marks = marks;
        watermark.n_marks = 1;
        assert_int_equal (control_encode_reserved (RESERVED_WATERMARK, NULL, &watermark.base, &message), 0);
        live_send (node_live (m.publisher_node), &message);
        if (epoch == 2)
            checker_expect_silence (&c, 200);
        else
            checker_run_until (&c, 0, 20);
    }
    assert_int_equal (c.gaps, 0);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void two_incarnations_of_one_epoch_are_told_and_one_is_refused (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, false, 0);
    char first[] = "/tmp/test_subscription.XXXXXX", second[] = "/tmp/test_subscription.XXXXXX", command[128];
    assert_non_null (mkdtemp (first));
    assert_non_null (mkdtemp (second));
    struct fm_publisher *p = open_identity (m.publisher_node, first);
    fm_publisher_close (&p);
    assert_true (snprintf (command, sizeof command, "cp %s/* %s/", first, second) > 0);
    assert_int_equal (system (command), 0);
    struct fm_node *other = mesh_open_node ("copy", fm_node_address (m.publisher_node), 0);
    assert_int_equal (fm_node_wait_members (m.subscriber_node, 3, MESH_PATIENCE_MS), 0);
    struct fm_subscription *s;
    assert_int_equal (fm_subscription_open (m.subscriber_node, &(struct fm_subscription_options) { .no_journal = true }, &s), 0);
    p = open_identity (m.publisher_node, first);
    publish_numbers (p, 0, 30);
    take_numbers (s, 0, 30);
    struct fm_publisher *copy = open_identity (other, second);
    publish_numbers (copy, 1000, 1030);
    struct fm_event e;
    int rc;
    do
        rc = fm_subscription_next (s, MESH_PATIENCE_MS, &e);
    while (rc == 0 && e.kind != FM_EVENT_FACT);
    assert_int_equal (rc, FM_ERR_CONFLICT);
    assert_non_null (strstr (fm_error_detail (), "another incarnation"));
    publish_numbers (p, 30, 60);                /* the first one goes on */
    take_numbers (s, 30, 60);
    fm_publisher_close (&copy);
    fm_publisher_close (&p);
    fm_subscription_close (&s);
    fm_node_close (&other);
    mesh_remove (first);
    mesh_remove (second);
    mesh_close (&m);
}

static void a_subscription_that_rests_for_long_costs_nobody_and_goes_on (void **state)
{
    (void) state;
    enum { COUNT = 30000, REST_S = 6 };         /* longer than every heartbeat of this mesh */
    struct mesh m;
    mesh_open (&m, true, 20);
    mesh_add_stream (&m, 20, COUNT, false);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .held_bytes = 1 << 20 });
    struct load load = { .mesh = &m, .stream = 0, .first = 1, .end = COUNT + 21, .pause_every = COUNT / (200 * REST_S) };
    load_start (&load);
    load_join (&load);
    sleep (REST_S);                             /* the time itself is what is tried */
    checker_run_to_end (&c);
    assert_int_equal (c.facts, COUNT + 20);
    assert_int_equal (c.gaps, 0);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

int main (int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter (argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (who_is_too_slow_falls_behind_and_misses_nothing),
        cmocka_unit_test (a_journal_that_comes_back_is_read_on_where_it_stopped),
        cmocka_unit_test (a_journal_that_is_just_starting_is_asked_again_for_the_cursor),
        cmocka_unit_test (a_journal_that_does_not_answer_is_soon_asked_again),
        cmocka_unit_test (who_may_wait_asks_a_journal_that_does_not_answer_again),
        cmocka_unit_test (others_fill_in_for_a_journal_that_is_gone),
        cmocka_unit_test (a_stream_that_was_closed_is_heard_of_though_its_node_lives_on),
        cmocka_unit_test (what_its_publisher_had_alone_dies_with_it_as_a_gap),
        cmocka_unit_test (what_a_publisher_sent_before_it_went_is_asked_of_the_journal),
        cmocka_unit_test (what_earlier_epochs_left_on_disk_is_repaired_from_their_publisher),
        cmocka_unit_test (a_stream_goes_on_when_its_publisher_comes_back_elsewhere),
        cmocka_unit_test (a_mark_of_a_newer_epoch_vouches_for_nothing_of_the_old_one),
        cmocka_unit_test (two_incarnations_of_one_epoch_are_told_and_one_is_refused),
        cmocka_unit_test (a_subscription_that_rests_for_long_costs_nobody_and_goes_on),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
