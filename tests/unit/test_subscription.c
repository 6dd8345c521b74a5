/* Subscriptions against the real thing (mesh_kit.h): where they start, what they hand out, how they are waited for, cursors. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "../support/mesh_kit.h"
#include "bytes.h"
#include "subscription.h"

static const char *const no_topics[] = { "nothing.of.this.name", NULL };
static const char *const region[] = { "flow.r1.>", NULL };
static const char *const several[] = { "flow.*.k3", "flow.r0.k1", NULL };
static const char *const one_topic[] = { "flow.r0.k4", NULL };

static void who_joins_late_sees_what_the_early_one_saw (void **state)
{
    (void) state;
    enum { COUNT = 60000 };
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 20, COUNT, true);
    mesh_add_stream (&m, 20, COUNT / 4, false);
    struct checker early, late[4];
    checker_open (&early, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    struct load loads[2] = { { .mesh = &m, .stream = 0, .first = 1, .end = COUNT + 21, .pause_every = 500 },
                             { .mesh = &m, .stream = 1, .first = 1, .end = COUNT / 4 + 21, .pause_every = 100 } };
    load_start (&loads[0]);
    load_start (&loads[1]);
    const char *const *topics[] = { NULL, region, several, one_topic };
    for (size_t i = 0; i < 4; i++) {
        checker_run_until (&early, 0, (i + 1) * COUNT / 6);
        checker_open (&late[i], &m, (struct fm_subscription_options) { .from = FM_FROM_START, .topics = topics[i] });
    }
    checker_run_to_end (&early);
    assert_int_equal (early.facts, 2 * 20 + COUNT + COUNT / 4);
    for (size_t i = 0; i < 4; i++) {
        checker_run_to_end (&late[i]);
        assert_int_equal (late[i].gaps + late[i].fell_behind, 0);
        assert_true (late[i].replayed > 0 && late[i].facts > 0);
        fm_subscription_close (&late[i].s);
    }
    assert_int_equal (early.gaps, 0);
    checker_expect_silence (&early, 50);
    fm_subscription_close (&early.s);
    load_join (&loads[0]);
    load_join (&loads[1]);
    mesh_close (&m);
}

static void from_the_end_means_everything_after_open_returned (void **state)
{
    (void) state;
    for (int with_journal = 0; with_journal < 2; with_journal++) {
        struct mesh m;
        mesh_open (&m, with_journal, 0);
        mesh_add_stream (&m, 10, 400, false);
        mesh_publish (&m, 0, 1, 101);
        assert_int_equal (fm_publisher_flush (m.publishers[0]), 0);     /* what waits for company is not sent yet: it comes after */
        if (with_journal)
            mesh_wait_synced (&m, 0);
        struct checker c;
        checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_END });
        c.last[0] = 100;
        mesh_publish (&m, 0, 101, 411);
        mesh_add_stream (&m, 10, 100, false);        /* one that is opened later comes from its beginning */
        mesh_publish (&m, 1, 1, 111);
        checker_run_to_end (&c);
        assert_int_equal (c.facts, 310 + 110);
        while (!c.caught_up)                        /* the last facts may come live before it is told */
            checker_next (&c);
        assert_int_equal (c.facts, 310 + 110);
        assert_int_equal (c.caught_up, 1);
        assert_int_equal (c.gaps, 0);
        fm_subscription_close (&c.s);
        mesh_close (&m);
    }
}

static void a_publisher_that_joins_later_is_heard_from_its_first_fact (void **state)
{
    (void) state;
    for (int with_journal = 0; with_journal < 2; with_journal++) {
        struct mesh m;
        mesh_open (&m, with_journal, 0);
        struct checker c;
        checker_open (&c, &m, (struct fm_subscription_options) { .topics = region });
        struct fm_node *node = mesh_open_node ("late publisher", fm_node_address (m.publisher_node), 0), *first = m.publisher_node;
        m.publisher_node = node;
        mesh_add_stream (&m, 20, 500, false);
        mesh_publish (&m, 0, 1, 521);                /* before anybody is connected to it */
        checker_run_to_end (&c);
        assert_true (c.facts > 200);
        assert_int_equal (c.gaps, 0);
        fm_publisher_close (&m.publishers[0]);
        m.stream_count = 0;
        fm_subscription_close (&c.s);
        fm_node_close (&node);
        m.publisher_node = first;
        mesh_close (&m);
    }
}

static void a_named_cursor_goes_on_behind_the_last_acknowledged_fact (void **state)
{
    (void) state;
    enum { COUNT = 3000 };
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 10, COUNT, false);
    mesh_add_stream (&m, 10, COUNT, false);
    mesh_publish (&m, 0, 1, COUNT / 2);
    mesh_publish (&m, 1, 1, COUNT / 3);
    uint64_t last[2] = { 0, 0 }, taken = 0;
    const struct fm_subscription_options options = { .from = FM_FROM_START, .cursor = "work", .commit_ms = 1 };
    for (int round = 0; round < 12; round++) {
        struct checker c;
        checker_open (&c, &m, options);
        memcpy (c.last, last, sizeof last);
        if (round == 5) {
            mesh_publish (&m, 0, COUNT / 2, COUNT + 11);
            mesh_publish (&m, 1, COUNT / 3, COUNT + 11);
        }
        const uint64_t wish = 37 + 61 * (uint64_t) round;       /* in the midst of batches */
        while (c.facts < wish)
            checker_next (&c);
        assert_int_equal (fm_subscription_ack (c.s), 0);
        memcpy (last, c.last, sizeof last);
        taken += c.facts;
        for (int extra = 0; extra < 5; extra++)                 /* taken, not acknowledged: will come again */
            checker_next (&c);
        if (round % 3 == 0)
            assert_int_equal (fm_subscription_commit (c.s, MESH_PATIENCE_MS), 0);
        fm_subscription_close (&c.s);
    }
    struct checker c;
    checker_open (&c, &m, options);
    memcpy (c.last, last, sizeof last);
    checker_run_to_end (&c);
    assert_int_equal (taken + c.facts, 2 * (COUNT + 10));
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void a_cursor_as_bytes_goes_on_behind_the_last_event_taken (void **state)
{
    (void) state;
    enum { COUNT = 2000 };
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 20, COUNT, false);
    uint64_t last = 0, total = 0, published = 1;
    uint8_t bytes[512];
    struct fm_slice cursor = { 0 };
    for (int round = 0; round < 10; round++) {
        struct checker c;
        const struct fm_subscription_options options = { .from = round ? FM_FROM_CURSOR : FM_FROM_START, .from_cursor = cursor, .topics = region };
        checker_open (&c, &m, options);
        c.last[0] = last;
        const uint64_t end = published + COUNT / 10;
        mesh_publish (&m, 0, published, end);        /* some of each comes live */
        published = end;
        while (c.facts < 90 + (uint64_t) round)
            checker_next (&c);
        struct fm_slice made;
        assert_int_equal (fm_subscription_cursor (c.s, &made), 0);
        assert_true (made.len <= sizeof bytes);
        memcpy (bytes, made.data, made.len);
        cursor = slice (bytes, made.len);
        last = c.last[0];
        total += c.facts;
        fm_subscription_close (&c.s);
    }
    assert_true (total > 900);
    struct fm_subscription *s;
    bytes[cursor.len - 1] ^= 0xFF;
    struct fm_subscription_options broken = { .from = FM_FROM_CURSOR, .from_cursor = slice (bytes, cursor.len / 2) };
    assert_int_equal (fm_subscription_open (m.subscriber_node, &broken, &s), FM_ERR_MALFORMED);
    mesh_close (&m);
}

static void a_cursor_taken_before_the_replay_got_anywhere_is_as_good (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 10, 2000, false);
    mesh_add_stream (&m, 10, 300, false);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    while (c.caught_up == 0)
        checker_next (&c);
    mesh_publish (&m, 0, 1, 2000);
    checker_run_until (&c, 0, 1999);
    mesh_publish (&m, 1, 1, 300);               /* what comes last in the log is taken already, and listed */
    checker_run_until (&c, 1, 299);
    uint64_t last[2] = { c.last[0], c.last[1] };
    uint8_t bytes[512];
    for (int round = 0; round < 12; round++) {
        struct fm_slice cursor;
        assert_int_equal (fm_subscription_cursor (c.s, &cursor), 0);
        assert_true (cursor.len <= sizeof bytes);
        memcpy (bytes, cursor.data, cursor.len);
        fm_subscription_close (&c.s);
        checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_CURSOR, .from_cursor = slice (bytes, cursor.len) });
        memcpy (c.last, last, sizeof last);
        struct fm_event e;
        for (int call = 0; call < round; call++) {
            if (fm_subscription_next (c.s, 0, &e) == 0)
                checker_take (&c, &e);
        }
        assert_int_equal (c.facts, 0);
    }
    mesh_publish (&m, 0, 2000, 2011);
    mesh_publish (&m, 1, 300, 311);
    checker_run_to_end (&c);
    assert_int_equal (c.facts, 11 + 11);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void synced_delivery_hands_out_only_what_is_on_disk (void **state)
{
    (void) state;
    enum { COUNT = 10000 };
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 10, COUNT, true);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_END, .delivery = FM_SYNCED });
    struct load load = { .mesh = &m, .stream = 0, .first = 1, .end = COUNT + 11, .pause_every = 100 };
    load_start (&load);
    while (c.last[0] < COUNT + 10) {
        checker_next (&c);
        struct log_stream at;
        if (c.facts > 0) {
            assert_int_equal (log_stream_get (journal_log (m.journal), &m.streams[0], &at), 0);
            assert_true (c.last[0] <= at.synced_seq);
        }
    }
    load_join (&load);
    assert_int_equal (c.facts, COUNT + 10);
    assert_true (c.facts - c.replayed > COUNT / 10);            /* most of it live, on the publisher's marks */
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void the_descriptor_is_readable_whenever_there_is_something (void **state)
{
    (void) state;
    enum { COUNT = 20000 };
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 20, COUNT, false);
    mesh_publish (&m, 0, 1, COUNT / 4);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .topics = several });
    struct load load = { .mesh = &m, .stream = 0, .first = COUNT / 4, .end = COUNT + 21, .pause_every = 50 };
    load_start (&load);
    uint64_t last = COUNT + 20;
    struct flow_fact made;
    for (flow_make (&m.flows[0], last, &made); !checker_wants (&c, slice (made.topic, made.topic_len)); flow_make (&m.flows[0], --last, &made))
        ;
    unsigned waits = 0;
    while (c.last[0] < last) {
        struct pollfd fd = { .fd = fm_subscription_fd (c.s), .events = POLLIN };
        assert_int_equal (poll (&fd, 1, MESH_PATIENCE_MS), 1);
        struct fm_event e;
        int rc;
        while ((rc = fm_subscription_next (c.s, 0, &e)) == 0)
            checker_take (&c, &e);
        assert_int_equal (rc, FM_TIMEOUT);
        waits++;
    }
    assert_true (waits > 10);
    load_join (&load);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void a_descriptor_polled_after_one_event_of_many_is_readable (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 10, 1000, false);
    mesh_publish (&m, 0, 1, 1011);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    while (c.last[0] < 1010) {
        struct pollfd fd = { .fd = fm_subscription_fd (c.s), .events = POLLIN };
        assert_int_equal (poll (&fd, 1, MESH_PATIENCE_MS), 1);
        struct fm_event e;
        const int rc = fm_subscription_next (c.s, 0, &e);       /* only one a wake-up */
        if (rc == 0)
            checker_take (&c, &e);
        else
            assert_int_equal (rc, FM_TIMEOUT);
    }
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void waiting_costs_no_processor_time_though_the_descriptor_was_asked_for (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 10, 100, false);
    mesh_publish (&m, 0, 1, 111);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    assert_true (fm_subscription_fd (c.s) >= 0);
    checker_run_to_end (&c);
    struct timespec before, after;
    clock_gettime (CLOCK_THREAD_CPUTIME_ID, &before);
    checker_expect_silence (&c, 1000);
    clock_gettime (CLOCK_THREAD_CPUTIME_ID, &after);
    const int64_t spent_ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    assert_in_range (spent_ms, 0, 100);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void facts_larger_than_a_frame_come_in_their_place (void **state)
{
    (void) state;
    for (int with_journal = 0; with_journal < 2; with_journal++) {
        struct mesh m;
        mesh_open (&m, with_journal, 0);
        struct checker c;
        checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_END });
        struct fm_publisher *p;
        assert_int_equal (fm_publisher_open (m.publisher_node, NULL, &p), 0);
        enum { LARGE = 300000 };
        uint8_t *payload = malloc (LARGE);
        assert_non_null (payload);
        for (uint64_t seq = 1; seq <= 60; seq++) {
            const size_t len = seq % 3 == 0 ? LARGE : 10;
            memset (payload, (int) seq, len);
            const struct fm_fact fact = { .topic = fm_text ("big.ones"), .payload = slice (payload, len) };
            assert_int_equal (fm_publish (p, &fact, NULL), 0);
        }
        for (uint64_t seq = 1; seq <= 60;) {
            struct fm_event e;
            assert_int_equal (fm_subscription_next (c.s, MESH_PATIENCE_MS, &e), 0);
            if (e.kind == FM_EVENT_CAUGHT_UP)
                continue;
            assert_int_equal (e.kind, FM_EVENT_FACT);
            const size_t len = seq % 3 == 0 ? LARGE : 10;
            memset (payload, (int) seq, len);
            assert_int_equal (e.fact.id.seq, seq);
            assert_true (slice_equal (e.fact.payload, slice (payload, len)));
            seq++;
        }
        free (payload);
        fm_publisher_close (&p);
        fm_subscription_close (&c.s);
        mesh_close (&m);
    }
}

static void the_last_facts_and_their_time_are_found (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 10, 1000, false);
    mesh_publish (&m, 0, 1, 1011);
    mesh_wait_synced (&m, 0);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_LAST, .from_last = 7 });
    c.last[0] = 1003;
    checker_run_to_end (&c);
    assert_int_equal (c.facts, 7);
    fm_subscription_close (&c.s);
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_TIME, .from_time_ns = 1 });
    checker_run_to_end (&c);
    assert_int_equal (c.facts, 1010);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void a_cursor_of_another_journal_is_refused (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    struct fm_slice cursor;
    uint8_t bytes[256];
    assert_int_equal (fm_subscription_cursor (c.s, &cursor), 0);
    memcpy (bytes, cursor.data, cursor.len);
    cursor.data = bytes;
    fm_subscription_close (&c.s);
    mesh_close (&m);
    mesh_open (&m, true, 0);
    struct fm_subscription *s;
    const struct fm_subscription_options options = { .from = FM_FROM_CURSOR, .from_cursor = cursor, .open_timeout_ms = 100 };
    assert_int_equal (fm_subscription_open (m.subscriber_node, &options, &s), FM_ERR_GENERATION);
    mesh_close (&m);
}

/* Reading the subscription's inside: nothing outside tells what a journal has confirmed while facts keep coming. */
static void acknowledgements_reach_the_journal_though_facts_never_stop (void **state)
{
    (void) state;
    enum { COUNT = 12000, SLOW_US = 150 };
    struct mesh m;
    mesh_open (&m, true, 0);
    mesh_add_stream (&m, 10, COUNT, false);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .cursor = "busy", .commit_ms = 20 });
    mesh_publish (&m, 0, 1, COUNT + 11);                    /* all of it is queued: the subscriber finds a frame whenever it looks */
    mesh_wait_synced (&m, 0);
    uint64_t durable = 0, longest = 0, since = 0;
    while (c.last[0] < COUNT) {
        checker_next (&c);
        assert_int_equal (fm_subscription_ack (c.s), 0);
        usleep (SLOW_US);
        since = c.s->acks_durable == durable ? since + 1 : 0;
        durable = c.s->acks_durable;
        longest = since > longest ? since : longest;
    }
    assert_true (durable > 0);
    assert_true (longest < COUNT / 4);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

static void a_stream_that_begins_while_the_journal_is_away_is_heard_from_its_first_fact (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_END });
    mesh_close_journal (&m);
    struct fm_node *node = mesh_open_node ("late publisher", fm_node_address (m.publisher_node), 0), *first = m.publisher_node;
    m.publisher_node = node;
    mesh_add_stream (&m, 20, 500, false);
    mesh_publish (&m, 0, 1, 521);                            /* before anybody is connected to it */
    checker_run_to_end (&c);
    assert_int_equal (c.facts, 520);
    assert_int_equal (c.gaps, 0);
    fm_publisher_close (&m.publishers[0]);
    m.stream_count = 0;
    fm_subscription_close (&c.s);
    fm_node_close (&node);
    m.publisher_node = first;
    mesh_close (&m);
}

static void options_that_make_no_sense_are_refused (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, false, 0);
    struct fm_subscription *s = NULL;
    static const char *const bad[] = { "a..b", NULL };
    const struct {
        struct fm_subscription_options options;
        int error;
    } cases[] = {
        { { .topics = bad }, FM_ERR_TOPIC },
        { { .from = FM_FROM_START, .open_timeout_ms = 50 }, FM_ERR_NO_JOURNAL },
        { { .cursor = "x", .open_timeout_ms = 50 }, FM_ERR_NO_JOURNAL },
        { { .from = FM_FROM_CURSOR }, FM_ERR_ARGUMENT },
        { { .from = (enum fm_start) 9 }, FM_ERR_ARGUMENT },
        { { .no_journal = true, .delivery = FM_SYNCED }, FM_ERR_ARGUMENT },
        { { .cursor = "" }, FM_ERR_ARGUMENT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal (fm_subscription_open (m.subscriber_node, &cases[i].options, &s), cases[i].error);
    assert_null (s);
    struct checker c;
    checker_open (&c, &m, (struct fm_subscription_options) { .topics = no_topics, .open_timeout_ms = 50 });
    struct fm_slice cursor;
    assert_int_equal (fm_subscription_cursor (c.s, &cursor), FM_ERR_NO_JOURNAL);
    assert_int_equal (fm_subscription_commit (c.s, 10), FM_ERR_ARGUMENT);
    fm_subscription_close (&c.s);
    mesh_close (&m);
}

int main (int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter (argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (who_joins_late_sees_what_the_early_one_saw),
        cmocka_unit_test (from_the_end_means_everything_after_open_returned),
        cmocka_unit_test (a_publisher_that_joins_later_is_heard_from_its_first_fact),
        cmocka_unit_test (a_named_cursor_goes_on_behind_the_last_acknowledged_fact),
        cmocka_unit_test (a_cursor_as_bytes_goes_on_behind_the_last_event_taken),
        cmocka_unit_test (a_cursor_taken_before_the_replay_got_anywhere_is_as_good),
        cmocka_unit_test (synced_delivery_hands_out_only_what_is_on_disk),
        cmocka_unit_test (the_descriptor_is_readable_whenever_there_is_something),
        cmocka_unit_test (a_descriptor_polled_after_one_event_of_many_is_readable),
        cmocka_unit_test (waiting_costs_no_processor_time_though_the_descriptor_was_asked_for),
        cmocka_unit_test (facts_larger_than_a_frame_come_in_their_place),
        cmocka_unit_test (the_last_facts_and_their_time_are_found),
        cmocka_unit_test (a_cursor_of_another_journal_is_refused),
        cmocka_unit_test (acknowledgements_reach_the_journal_though_facts_never_stop),
        cmocka_unit_test (a_stream_that_begins_while_the_journal_is_away_is_heard_from_its_first_fact),
        cmocka_unit_test (options_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
