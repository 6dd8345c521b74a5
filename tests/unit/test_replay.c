/* Replay: what a session sends: batches as they were, gaps, how far each stream is covered. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../support/replay_kit.h"
#include "error.h"

static void all_that_was_recorded_comes_as_it_was (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 3, 200, 5, 2000, NULL, 1);      /* about 6 MB: several segments */
    Factmesh__ReplayOpen open = from_offset (0);
    open.message_bytes = 64 << 10;
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 600);
    uint64_t next[4] = { 0, 1, 1, 1 };
    for (size_t i = 0; i < x->seen_count; i++) {
        assert_int_equal (x->seen[i].first_seq, next[x->seen[i].stream]);
        next[x->seen[i].stream] += x->seen[i].count;
    }
    for (unsigned stream = 1; stream <= 3; stream++)
        assert_int_equal (session_covered (x, stream), 1000);
    assert_true (x->messages > 50);
    assert_int_equal (x->start_offset, 1);
    assert_int_equal (x->next_offset, 3001);
    assert_true (x->caught_up);
    assert_int_equal (x->gap_count, 0);
    session_close (x);
}

static void a_session_that_rests_between_steps_sends_the_same (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 3, 200, 5, 2000, "a.b", 1);
    append_turns (s, 3, 200, 5, 200, "c.d|a.b", 1001);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("a.>")) };
    Factmesh__ReplayOpen open = from_offset (7);
    open.n_filters = 1;
    open.filters = filters;
    open.message_bytes = 32 << 10;
    struct session *plain = session_open (s, &open), *resting = session_open (s, &open);
    resting->rests = true;
    session_run (plain);
    session_run (resting);
    assert_int_equal (resting->last, REPLAY_STEP_DONE);
    assert_int_equal (resting->seen_count, plain->seen_count);
    for (size_t i = 0; i < plain->seen_count; i++) {
        assert_int_equal (resting->seen[i].stream, plain->seen[i].stream);
        assert_int_equal (resting->seen[i].first_seq, plain->seen[i].first_seq);
    }
    for (unsigned stream = 1; stream <= 3; stream++)
        assert_int_equal (session_covered (resting, stream), 2000);
    assert_int_equal (resting->next_offset, plain->next_offset);
    session_close (plain);
    session_close (resting);
}

/* The facts of a topic that a session sends, one after the other: stream and sequence; returns how many. */
struct fact_list {
    struct { uint64_t seq; unsigned stream; } items[SEEN_MAX];
    size_t count, bytes;
};

static void list_batch (struct fact_list *list, struct fm_slice bytes, const char *topic)
{
    struct batch_scratch scratch = { 0 };
    struct batch b;
    struct batch_reader reader;
    struct fm_fact fact;
    list->bytes += bytes.len;
    assert_int_equal (batch_decode (bytes.data, bytes.len, slice_of ("test"), &scratch, &b), 0);
    assert_int_equal (batch_check_facts (&b), 0);
    batch_reader_init (&reader, &b);
    while (batch_reader_next (&reader, &fact) == 0) {
        if (!slice_equal (fact.topic, slice_of (topic)))
            continue;
        assert_true (list->count < SEEN_MAX);
        list->items[list->count].seq = fact.id.seq;
        for (unsigned i = 0; i < STREAMS_MAX; i++) {
            const struct fm_id id = kit_stream (i);
            if (id_equal (&id, &b.stream))
                list->items[list->count].stream = i;
        }
        list->count++;
    }
    batch_scratch_release (&scratch);
}

static void list_facts (struct replay_setting *s, const Factmesh__ReplayOpen *open, bool rests, const char *topic, struct fact_list *ret_list)
{
    struct session *x = session_open (s, open);
    *ret_list = (struct fact_list) { .count = 0 };
    for (;;) {
        struct replay_header header;
        if (rests)
            replay_rest (x->replay);
        assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
        if (x->last == REPLAY_STEP_DONE)
            break;
        if (x->last != REPLAY_STEP_MESSAGE)
            continue;
        zmq_msg_t message;
        struct fm_slice bytes;
        assert_int_equal (replay_data_encode (&header, slice_of ("test"), slice (x->buffer.fields, x->buffer.len), &message), 0);
        assert_int_equal (replay_data_decode (zmq_msg_data (&message), zmq_msg_size (&message), slice_of ("test"), &x->view), 0);
        while (replay_view_next (&x->view, &bytes) == 0)
            list_batch (ret_list, bytes, topic);
        for (size_t i = 0; i < header.covered_count; i++)
            session_note_covered (x, &header.covered[i]);
        zmq_msg_close (&message);
    }
    for (unsigned stream = 1; stream <= 2; stream++)
        assert_int_equal (session_covered (x, stream), 1200);
    session_close (x);
}

static void who_allows_it_is_sent_what_matches_and_little_else (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 2, 20, 60, 1000, "a.b|c.d|e.f", 1);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("c.*")) };
    static struct fact_list whole, cut, rested;
    Factmesh__ReplayOpen open = from_offset (31);
    open.n_filters = 1;
    open.filters = filters;
    open.message_bytes = 16 << 10;
    list_facts (s, &open, false, "c.d", &whole);
    open.may_cut = true;
    list_facts (s, &open, false, "c.d", &cut);
    list_facts (s, &open, true, "c.d", &rested);
    assert_int_equal (whole.count, 2 * 20 * 60 / 3);
    assert_int_equal (cut.count, whole.count);
    assert_int_equal (rested.count, whole.count);
    assert_memory_equal (cut.items, whole.items, whole.count * sizeof whole.items[0]);
    assert_memory_equal (rested.items, whole.items, whole.count * sizeof whole.items[0]);
    assert_true (cut.bytes < whole.bytes / 2);
    filters[0] = control_put_slice (slice_of (">"));
    list_facts (s, &open, false, "c.d", &rested);       /* all match: as they were */
    assert_int_equal (rested.bytes, whole.bytes);
}

static void what_is_not_synced_is_not_sent (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, 1, 5, 10, NULL, 1);
    const struct kit_batch_spec unsynced = { .stream = 1, .first_seq = 6, .count = 1 };
    kit_append_batch (s->log, &unsynced);
    assert_int_equal (log_write (s->log), 0);
    Factmesh__ReplayOpen open = from_offset (1);
    follow (&open);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_WAIT);
    assert_int_equal (x->seen_count, 1);
    assert_int_equal (session_covered (x, 1), 5);
    kit_sync (s->log);
    session_run (x);
    assert_int_equal (x->seen_count, 2);
    assert_int_equal (session_covered (x, 1), 6);
    session_close (x);
}

static void filters_leave_out_batches_and_covered_says_so (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 2, 50, 2, 10, "orders.placed", 1);
    append_turns (s, 2, 50, 2, 10, "stock.low", 101);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("stock.>")) };
    Factmesh__ReplayOpen open = from_offset (0);
    open.n_filters = 1;
    open.filters = filters;
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->seen_count, 100);
    for (size_t i = 0; i < x->seen_count; i++)
        assert_true (x->seen[i].first_seq >= 101);
    assert_int_equal (session_covered (x, 1), 200);
    assert_int_equal (session_covered (x, 2), 200);
    session_close (x);
}

/* The reader leaves out other streams' records: the end may lie behind them. */
static void a_session_of_one_stream_ends_where_the_journal_did (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 3, 200, 5, 2000, NULL, 1);
    struct log_position at;
    log_position (s->log, &at);
    for (unsigned stream = 1; stream <= 4; stream++) {
        const struct fm_id id = kit_stream (stream);    /* nobody has published as the last */
        Factmesh__ReplayOpen open = from_offset (0);
        open.stream = control_put_id (&id);
        open.end_case = FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED;
        open.end_at_synced = 1;
        struct session *x = session_open (s, &open);
        session_run (x);
        assert_int_equal (x->last, REPLAY_STEP_DONE);
        assert_int_equal (x->seen_count, stream <= 3 ? 200 : 0);
        session_close (x);
        open.end_case = FACTMESH__REPLAY_OPEN__END_END_OFFSET;
        open.end_offset = at.synced_offset;
        x = session_open (s, &open);
        x->rests = true;
        session_run (x);
        assert_int_equal (x->last, REPLAY_STEP_DONE);
        session_close (x);
    }
}

static void facts_that_do_not_match_move_covered_at_a_bounded_rate (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("nothing.here")) };
    Factmesh__ReplayOpen open = from_offset (0);
    open.n_filters = 1;
    open.filters = filters;
    follow (&open);
    struct session *x = session_open (s, &open);
    session_run (x);
    const unsigned before = x->messages;
    for (unsigned i = 0; i < 100; i++) {
        append_turns (s, 1, 1, 1, 10, NULL, 1 + i);
        session_run (x);
    }
    assert_int_equal (x->messages, before);         /* no time passed */
    assert_true (replay_due (x->replay) < UINT64_MAX);
    s->monotonic_ns = replay_due (x->replay);
    session_run (x);
    assert_int_equal (x->messages, before + 1);
    assert_int_equal (session_covered (x, 1), 100);
    session_close (x);
}

static void recorded_gaps_are_told_with_their_reason (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, 1, 5, 10, NULL, 1);
    const struct fm_id stream = kit_stream (1);
    uint64_t offset;
    assert_int_equal (log_append_gap (s->log, &stream, 6, 20, FACTMESH__GAP_REASON__GAP_VOID, &offset), 0);
    append_turns (s, 1, 1, 5, 10, NULL, 20);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->seen_count, 2);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].first_seq, 6);
    assert_int_equal (x->gaps[0].end_seq, 20);
    assert_int_equal (x->gaps[0].reason, FACTMESH__GAP_REASON__GAP_VOID);
    assert_int_equal (session_covered (x, 1), 24);
    session_close (x);

    open = range_of (&stream, 8, 18);
    x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->seen_count, 0);
    session_close (x);
}

static void what_expired_is_told_per_stream_from_the_beginning (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 2, 1000, 1, 3000, NULL, 1);
    const uint64_t first_offset = expire_segments (s);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->gap_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_false (id_is_zero (&x->gaps[i].stream));
        assert_int_equal (x->gaps[i].first_seq, 1);
        assert_int_equal (x->gaps[i].reason, FACTMESH__GAP_REASON__GAP_EXPIRED);
        assert_true (x->gaps[i].end_seq == first_offset / 2 + 1 || x->gaps[i].end_seq == first_offset / 2);
    }
    /* The gap and the facts together are the whole stream. */
    uint64_t next[3] = { 0 };
    for (size_t i = 0; i < 2; i++) {
        const struct fm_id one = kit_stream (1);
        next[id_equal (&x->gaps[i].stream, &one) ? 1 : 2] = x->gaps[i].end_seq;
    }
    for (size_t i = 0; i < x->seen_count; i++)
        assert_int_equal (x->seen[i].first_seq, next[x->seen[i].stream]++);
    assert_int_equal (next[1], 1001);
    assert_int_equal (next[2], 1001);
    session_close (x);

    /* From a place in the midst that expired: the offsets are told, which are exact. */
    open = from_offset (10);
    x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->gap_count, 1);
    assert_true (id_is_zero (&x->gaps[0].stream));
    assert_int_equal (x->gaps[0].first_seq, 10);
    assert_int_equal (x->gaps[0].end_seq, first_offset);
    session_close (x);

    /* A range: exactly what is asked for. */
    const struct fm_id stream = kit_stream (1);
    open = range_of (&stream, 3, 9);
    x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].first_seq, 3);
    assert_int_equal (x->gaps[0].end_seq, 9);
    session_close (x);
}

static void requests_that_make_no_sense_are_refused_with_a_reason (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    struct session *x;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = 4;
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_ARGUMENT);

    open = from_offset (0);
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = 4;
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_ARGUMENT);

    const struct fm_id stream = kit_stream (1);
    open = range_of (&stream, 5, 5);
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_ARGUMENT);
    open.stream.len = 15;
    open.end_seq = 9;
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_MALFORMED);

    ProtobufCBinaryData filters[FILTERS_MAX + 1];
    for (size_t i = 0; i <= FILTERS_MAX; i++)
        filters[i] = control_put_slice (slice_of ("a"));
    open = from_offset (0);
    open.filters = filters;
    open.n_filters = FILTERS_MAX + 1;
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_LIMIT);
    filters[0] = control_put_slice (slice_of ("a..b"));
    open.n_filters = 1;
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_TOPIC);
}

static void a_batch_larger_than_a_message_goes_alone (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, 2, 1, 100, NULL, 1);
    append_turns (s, 1, 1, 1, 3 << 20, NULL, 3);
    append_turns (s, 1, 2, 1, 100, NULL, 4);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->seen_count, 5);
    assert_int_equal (session_covered (x, 1), 5);
    session_close (x);
}

/* A damaged record: the range is told, the rest comes. */
static void damage_is_told_as_a_gap_with_the_exact_range (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 2, 100, 2, 200, NULL, 1);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    char path[256];
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, 40000);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->seen_count, 199);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
    assert_false (id_is_zero (&x->gaps[0].stream));
    assert_int_equal (x->gaps[0].end_seq - x->gaps[0].first_seq, 2);
    const struct fm_id stream = x->gaps[0].stream;
    const uint64_t first = x->gaps[0].first_seq;
    session_close (x);

    open = range_of (&stream, first, first + 2);
    x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].first_seq, first);
    assert_int_equal (x->gaps[0].end_seq, first + 2);
    session_close (x);
}

int main (void)
{
#define CASE(f) cmocka_unit_test_setup_teardown (f, replay_set_up, replay_tear_down)
    const struct CMUnitTest tests[] = {
        CASE (all_that_was_recorded_comes_as_it_was),
        CASE (a_session_that_rests_between_steps_sends_the_same),
        CASE (who_allows_it_is_sent_what_matches_and_little_else),
        CASE (what_is_not_synced_is_not_sent),
        CASE (filters_leave_out_batches_and_covered_says_so),
        CASE (a_session_of_one_stream_ends_where_the_journal_did),
        CASE (facts_that_do_not_match_move_covered_at_a_bounded_rate),
        CASE (recorded_gaps_are_told_with_their_reason),
        CASE (what_expired_is_told_per_stream_from_the_beginning),
        CASE (requests_that_make_no_sense_are_refused_with_a_reason),
        CASE (a_batch_larger_than_a_message_goes_alone),
        CASE (damage_is_told_as_a_gap_with_the_exact_range),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
