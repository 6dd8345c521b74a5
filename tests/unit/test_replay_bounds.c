/* Replay: where a session begins and ends: at offsets, times, sequences, the last n, cursors. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../support/replay_kit.h"
#include "error.h"

static void a_start_at_the_end_says_how_far_every_stream_is (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 40, 3, 2, 10, NULL, 1);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_END;
    open.from_end = true;
    follow (&open);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->seen_count, 0);
    assert_true (x->has_start && x->caught_up);
    assert_int_equal (x->start_offset, 241);
    for (unsigned stream = 1; stream <= 40; stream++)
        assert_int_equal (session_covered (x, stream), 6);
    append_turns (s, 1, 1, 4, 10, NULL, 7);
    session_run (x);
    assert_int_equal (x->seen_count, 1);
    assert_int_equal (x->seen[0].first_seq, 7);
    session_close (x);
}

static void a_start_within_a_batch_says_what_lies_before_it (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, 2, 10, 10, NULL, 1);
    Factmesh__ReplayOpen open = from_offset (14);
    struct session *x = session_open (s, &open);
    struct replay_header header;
    enum replay_outcome outcome;
    assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &outcome, &header), 0);
    assert_int_equal (outcome, REPLAY_STEP_MESSAGE);
    session_take (x, &header);
    assert_int_equal (x->seen_count, 0);            /* before its batch */
    assert_int_equal (session_covered (x, 1), 13);
    session_run (x);
    assert_int_equal (x->seen_count, 1);
    assert_int_equal (x->seen[0].first_seq, 11);
    assert_int_equal (session_covered (x, 1), 20);
    session_close (x);
}

static void a_start_at_a_time_begins_with_what_was_recorded_then (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 2, 4, 1, 10, NULL, 1);
    s->clock.now_ns += 1000000000;
    const uint64_t then = s->clock.now_ns;
    append_turns (s, 1, 4, 1, 10, NULL, 5);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS;
    open.from_time_ns = then;
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->seen_count, 4);
    assert_int_equal (x->seen[0].first_seq, 5);
    assert_int_equal (session_covered (x, 2), 4);        /* ended before: told all the same */
    session_close (x);

    open = from_offset (0);
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_TIME_NS;
    open.end_time_ns = then;
    x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 8);
    session_close (x);
}

/* The facts of the seen batches above what the session said lies before its start, that match. */
static uint64_t facts_after_start (const struct session *x, uint64_t before)
{
    uint64_t facts = 0;
    for (size_t i = 0; i < x->seen_count; i++)
        for (uint64_t seq = x->seen[i].first_seq; seq < x->seen[i].first_seq + x->seen[i].count; seq++)
            facts += seq > before;
    return facts;
}

static void the_last_n_facts_are_exactly_n (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, 3000, 3, 10, "a.b", 1);
    const uint64_t wants[] = { 1, 2, 3, 4, 100, 1500, 5000, 8999, 9000, 20000 };
    for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        open.start_case = FACTMESH__REPLAY_OPEN__START_LAST_COUNT;
        open.last_count = wants[i];
        struct session *x = session_open (s, &open);
        struct replay_header header;
        do
            assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
        while (x->last == REPLAY_STEP_MORE);
        session_take (x, &header);
        const uint64_t before = session_covered (x, 1) == UINT64_MAX ? x->start_offset - 1 : session_covered (x, 1);
        session_run (x);
        assert_int_equal (facts_after_start (x, before), wants[i] < 9000 ? wants[i] : 9000);
        session_close (x);
    }
}

/* It takes several steps to find them, and each begins with another reader. */
static void the_last_n_facts_are_found_by_a_session_that_rests (void **state)
{
    enum { ALL = 3 * REPLAY_SCAN_RECORDS, WANTED = 2 * REPLAY_SCAN_RECORDS, STEPS_MOST = 20 };
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, ALL, 1, 10, "a.b", 1);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_LAST_COUNT;
    open.last_count = WANTED;
    struct session *x = session_open (s, &open);
    struct replay_header header;
    for (unsigned step = 0; step < STEPS_MOST && (step == 0 || x->last == REPLAY_STEP_MORE); step++) {
        replay_rest (x->replay);
        assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
    }
    assert_int_equal (x->last, REPLAY_STEP_MESSAGE);
    session_take (x, &header);
    assert_int_equal (x->start_offset, 1 + ALL - WANTED);
    session_close (x);
}

static void the_last_n_that_match_are_found_among_many_that_do_not (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, 5, 2, 10, "rare.one|common", 1);           /* facts alternate: seqs 1 3 5 7 9 are rare */
    append_turns (s, 1, 4000, 3, 10, "common", 11);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("rare.*")) };
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_LAST_COUNT;
    open.last_count = 2;
    open.n_filters = 1;
    open.filters = filters;
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->start_offset, 7);          /* offsets equal sequences here: 7 and 9 */
    assert_int_equal (x->seen_count, 2);
    session_close (x);

    filters[0] = control_put_slice (slice_of ("never"));
    x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->start_offset, 12011);      /* none: the end */
    assert_int_equal (x->seen_count, 0);
    assert_int_equal (session_covered (x, 1), 12010);
    session_close (x);
}

static void a_range_of_one_stream_is_that_range (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 3, 300, 4, 900, NULL, 1);
    const struct fm_id stream = kit_stream (2);
    Factmesh__ReplayOpen open = range_of (&stream, 402, 810);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen[0].first_seq, 401);
    assert_int_equal (x->seen[x->seen_count - 1].first_seq, 809);
    assert_int_equal (x->seen_count, 103);
    for (size_t i = 0; i < x->seen_count; i++)
        assert_int_equal (x->seen[i].stream, 2);
    session_close (x);
}

static void a_range_that_is_not_there_yet_is_waited_for (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, 2, 5, 10, NULL, 1);
    const struct fm_id stream = kit_stream (1), unknown = kit_stream (9);
    Factmesh__ReplayOpen open = range_of (&stream, 11, 16);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_WAIT);
    assert_true (x->caught_up);                     /* not yet */
    assert_int_equal (x->seen_count, 0);
    append_turns (s, 2, 1, 5, 10, NULL, 11);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 1);
    assert_int_equal (x->seen[0].first_seq, 11);
    session_close (x);

    open = range_of (&unknown, 1, 3);
    x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_WAIT);
    assert_true (x->caught_up);
    const struct kit_batch_spec spec = { .stream = 9, .first_seq = 1, .count = 4 };
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 1);
    session_close (x);
}

static void a_cursor_leaves_out_what_its_positions_say_is_done (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 2, 10, 2, 10, NULL, 1);
    struct fm_id journal, one = kit_stream (1), two = kit_stream (2);
    uint64_t generation;
    log_identity (s->log, &journal, &generation);
    Factmesh__StreamPosition a = FACTMESH__STREAM_POSITION__INIT, b = FACTMESH__STREAM_POSITION__INIT, *positions[] = { &a, &b };
    a.stream = control_put_id (&two);
    a.seq = 17;                                     /* in the midst of a batch: it comes again, and the asker takes what is above */
    b.stream = control_put_id (&one);
    b.seq = 6;
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&journal);
    cursor.generation = generation;
    cursor.offset = 5;
    cursor.n_positions = 2;
    cursor.positions = positions;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR;
    open.from_cursor = &cursor;
    struct session *x = session_open (s, &open);
    session_run (x);
    unsigned count[3] = { 0 };
    for (size_t i = 0; i < x->seen_count; i++) {
        count[x->seen[i].stream]++;
        assert_true (x->seen[i].first_seq + x->seen[i].count - 1 > (x->seen[i].stream == 1 ? 6 : 17));
    }
    assert_int_equal (count[1], 7);
    assert_int_equal (count[2], 2);
    assert_int_equal (session_covered (x, 1), 20);
    assert_int_equal (session_covered (x, 2), 20);
    session_close (x);

    cursor.generation++;
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_GENERATION);
    assert_non_null (strstr (fm_error_detail (), "generation"));
}

static void sort_positions (struct fold_position *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = i + 1; k < count; k++)
            if (memcmp (items[k].stream.bytes, items[i].stream.bytes, ID_LEN) < 0) {
                const struct fold_position swap = items[i];
                items[i] = items[k];
                items[k] = swap;
            }
}

/* From nothing recent to all of it: the same places come out. */
static void a_cursor_folds_over_what_is_done (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 3, 10, 2, 10, NULL, 1);        /* offsets: turn by turn, 2 each */
    struct log_reader *reader;
    assert_int_equal (log_reader_new (s->log, &reader), 0);
    for (uint64_t recent_from = 1; recent_from <= 61; recent_from += 2) {
        struct recent *recent;
        assert_int_equal (recent_new (&recent), 0);
        for (uint64_t offset = recent_from; offset < 61; offset += 2) {
            const uint64_t batch = (offset - 1) / 2;
            const struct recent_record r = { .stream = kit_stream ((unsigned) (1 + batch % 3)), .first_seq = 1 + batch / 3 * 2, .end_seq = 3 + batch / 3 * 2,
                                             .offset = offset, .end_offset = offset + 2 };
            recent_add (recent, &r);
        }
        struct fold_position items[] = { { kit_stream (1), 8 }, { kit_stream (2), 8 }, { kit_stream (3), 5 } };
        sort_positions (items, 3);
        struct fold_positions p = { items, 3 };
        uint64_t base;
        assert_int_equal (fold_base (reader, recent, &p, 1, 61, &base), 0);
        assert_int_equal (base, 2 * 6 + 4 + 2);     /* turns 1 and 2, then streams 1 and 2, then the first fact of stream 3's batch 5..6 */
        fold_trim (&p, s->log, base);
        assert_int_equal (p.count, 3);              /* all of them say something above the base */
        for (size_t i = 0; i < p.count; i++)
            p.items[i].seq = 20;
        uint64_t limited;
        assert_int_equal (fold_base (reader, recent, &p, base, 61, &base), 0);
        assert_int_equal (base, 61);
        if (recent_from == 1) {                     /* not above the synced end */
            assert_int_equal (fold_base (reader, recent, &p, 1, 21, &limited), 0);
            assert_int_equal (limited, 21);
        }
        fold_trim (&p, s->log, base);
        assert_int_equal (p.count, 0);
        recent_destroy (&recent);
    }
    log_reader_destroy (&reader);
}

static void what_is_recent_gives_way_and_never_bridges_a_hole (void **state)
{
    (void) state;
    struct recent *recent;
    struct recent_record page[8];
    assert_int_equal (recent_new (&recent), 0);
    const struct fm_id stream = kit_stream (1);
    for (uint64_t i = 1; i <= RECENT_RECORDS + 100; i++) {
        const struct recent_record r = { .stream = stream, .first_seq = i, .end_seq = i + 1, .offset = i, .end_offset = i + 1 };
        recent_add (recent, &r);
    }
    assert_int_equal (recent_copy (recent, 100, page, 8), 0);
    assert_int_equal (recent_copy (recent, 101, page, 8), 8);
    assert_int_equal (page[0].offset, 101);
    assert_int_equal (recent_copy (recent, RECENT_RECORDS + 100, page, 8), 1);
    assert_int_equal (recent_copy (recent, RECENT_RECORDS + 101, page, 8), 0);
    const struct recent_record behind = { .stream = stream, .first_seq = 1, .end_seq = 5, .offset = RECENT_RECORDS + 200,
                                          .end_offset = RECENT_RECORDS + 204 };
    recent_add (recent, &behind);
    assert_int_equal (recent_copy (recent, RECENT_RECORDS + 100, page, 8), 0);
    assert_int_equal (recent_copy (recent, RECENT_RECORDS + 202, page, 8), 1);
    recent_destroy (&recent);
}

int main (void)
{
#define CASE(f) cmocka_unit_test_setup_teardown (f, replay_set_up, replay_tear_down)
    const struct CMUnitTest tests[] = {
        CASE (a_start_at_the_end_says_how_far_every_stream_is),
        CASE (a_start_within_a_batch_says_what_lies_before_it),
        CASE (a_start_at_a_time_begins_with_what_was_recorded_then),
        CASE (the_last_n_facts_are_exactly_n),
        CASE (the_last_n_facts_are_found_by_a_session_that_rests),
        CASE (the_last_n_that_match_are_found_among_many_that_do_not),
        CASE (a_range_of_one_stream_is_that_range),
        CASE (a_range_that_is_not_there_yet_is_waited_for),
        CASE (a_cursor_leaves_out_what_its_positions_say_is_done),
        CASE (a_cursor_folds_over_what_is_done),
        CASE (what_is_recent_gives_way_and_never_bridges_a_hole),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
