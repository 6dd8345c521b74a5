/* Replay: more streams and gaps than a message tells, retention that is faster than a session, ends that lie in the past, positions beyond what is held, and requests of
 * other versions. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../support/log_setting.h"
#include "../support/replay_kit.h"
#include "covered.h"
#include "error.h"
#include "replay_last.h"

/* Retention takes what is above 2 MiB as soon as the test says so, under the feet of who reads. */
static int set_up_retaining (void **state)
{
    const int rc = replay_set_up (state);
    struct replay_setting *s = *state;
    log_destroy (&s->log);
    s->options.retain_bytes = 2 << 20;
    return rc ? rc : log_open (s->directory, &s->options, NULL, &s->log);
}

static uint64_t retain (struct replay_setting *s)
{
    uint64_t first_offset = 0;
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_true (first_offset > 1);
    return first_offset;
}

/* --- Many streams. */

enum { MANY = COVERED_MAX * 2 + 100 };

/* One fact of each stream, 1 to MANY. */
static void append_many (struct replay_setting *s)
{
    for (unsigned i = 1; i <= MANY; i++)
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = i, .first_seq = 1, .count = 1, .payload_len = 10 });
    kit_sync (s->log);
}

/* Step to the end; counts the batches and messages, and marks how far each stream is said to be. */
struct many {
    uint64_t through[MANY + 1];
    size_t batches, messages, most_told, gaps;
};

static unsigned stream_number (const struct fm_id *id)
{
    for (unsigned i = 1; i <= MANY; i++) {
        const struct fm_id stream = kit_stream (i);
        if (id_equal (&stream, id))
            return i;
    }
    fail_msg ("a stream that is none of ours");
    return 0;
}

static void run_many (struct session *x, struct many *ret)
{
    *ret = (struct many) { .messages = 0 };
    do {
        struct replay_header h;
        assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &h), 0);
        if (x->last != REPLAY_STEP_MESSAGE)
            continue;
        zmq_msg_t message;
        struct fm_slice batch;
        assert_int_equal (replay_data_encode (&h, slice_of ("test"), slice (x->buffer.fields, x->buffer.len), &message), 0);
        assert_int_equal (replay_data_decode (zmq_msg_data (&message), zmq_msg_size (&message), slice_of ("test"), &x->view), 0);
        while (replay_view_next (&x->view, &batch) == 0)
            ret->batches++;
        zmq_msg_close (&message);
        for (size_t i = 0; i < h.covered_count; i++)
            ret->through[stream_number (&h.covered[i].stream)] = h.covered[i].through;
        ret->most_told = h.covered_count > ret->most_told ? h.covered_count : ret->most_told;
        ret->gaps += h.gap_count;
        ret->messages++;
    } while (x->last == REPLAY_STEP_MESSAGE || x->last == REPLAY_STEP_MORE);
}

/* From the beginning with each record, from the end with the table of streams, from a cursor with its positions. */
static void more_streams_than_a_message_tells_are_told_in_several (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    static struct many told;
    append_many (s);
    static Factmesh__StreamPosition positions[MANY], *pointers[MANY];
    static struct fm_id ids[MANY];
    struct fm_id journal;
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    log_identity (s->log, &journal, &cursor.generation);
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&journal);
    cursor.offset = 1;
    cursor.positions = pointers;
    cursor.n_positions = MANY;
    for (unsigned i = 0; i < MANY; i++) {
        ids[i] = kit_stream (1 + i);
        factmesh__stream_position__init (&positions[i]);
        positions[i].stream = control_put_id (&ids[i]);
        positions[i].seq = 1;
        pointers[i] = &positions[i];
    }
    for (int round = 0; round < 3; round++) {
        Factmesh__ReplayOpen open = from_offset (round == 1 ? MANY + 1 : 0);
        if (round == 2) {
            open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR;
            open.from_cursor = &cursor;
        }
        struct session *x = session_open (s, &open);
        run_many (x, &told);
        assert_int_equal (x->last, REPLAY_STEP_DONE);
        for (unsigned i = 1; i <= MANY; i++)
            assert_int_equal (told.through[i], 1);
        assert_int_equal (told.batches, round == 0 ? MANY : 0);
        assert_int_equal (told.most_told, COVERED_MAX);
        assert_true (told.messages >= 3);
        assert_int_equal (told.gaps, 0);
        session_close (x);
    }
}

/* --- Gaps. */

/* A session begins in the midst of a batch that nothing of its stream follows. What it says of the stream before it comes to the rest of the batch must not reach
 * into that: though what it comes to first is a hole before the batch, or the batch is damaged. */
static void the_rest_of_a_batch_is_not_covered_before_it_comes (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    const struct kit_batch_spec lost = { .stream = 1, .first_seq = 2, .count = 1, .payload_len = 20 };
    const struct kit_batch_spec last = { .stream = 2, .first_seq = 1, .count = 10, .payload_len = 20 };
    const struct fm_id of_last = kit_stream (2);
    char path[256];
    append_turns (s, 1, 3, 1, 20, NULL, 1);
    kit_append_batch (s->log, &last);
    kit_sync (s->log);
    kit_segment_path (s->directory, 1, path);
    const int64_t within = (int64_t) find_batch (path, &last) + 20;
    kit_flip (path, within);
    const Factmesh__ReplayOpen open = from_offset (9);      /* sequence 6 of the ten */
    for (int round = 0; round < 6; round++) {
        if (round == 2)
            wipe (path, &lost, &lost);
        if (round == 4)
            kit_flip (path, within);
        struct session *x = session_open (s, &open);
        struct replay_header header = { .gap_count = 0 };
        bool come = false;
        do {
            if (round % 2)
                replay_rest (x->replay);
            assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
            const bool told = x->last == REPLAY_STEP_MESSAGE;
            for (size_t i = 0; told && i < header.gap_count; i++)
                come |= id_equal (&header.gaps[i].stream, &of_last);
            come |= told && x->buffer.len > 0;
            for (size_t i = 0; told && !come && i < header.covered_count; i++)
                assert_true (header.covered[i].through <= (id_equal (&header.covered[i].stream, &of_last) ? 5 : 3));
        } while (!come && (x->last == REPLAY_STEP_MORE || x->last == REPLAY_STEP_MESSAGE));
        assert_true (come);
        session_close (x);
    }
}

/* Of a stream's last records nothing is left, and nothing of it follows: who asks for them hears that they are lost, and does not wait for them. */
static void a_range_at_a_streams_lost_end_is_told (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    const struct kit_batch_spec first = { .stream = 2, .first_seq = 4, .count = 1, .payload_len = 20 }, last = { .stream = 2, .first_seq = 5, .count = 1, .payload_len = 20 };
    const struct fm_id stream = kit_stream (2);
    char path[256];
    append_turns (s, 2, 5, 1, 20, NULL, 1);
    append_turns (s, 1, 5, 1, 20, NULL, 6);
    kit_segment_path (s->directory, 1, path);
    wipe (path, &first, &first);
    wipe (path, &last, &last);
    for (uint64_t from = 2; from <= 5; from++)
        for (uint64_t end = 5; end <= 7; end++) {
            if (from >= end)
                continue;
            Factmesh__ReplayOpen open = range_of (&stream, from, end);
            struct session *x = session_open (s, &open);
            session_run (x);
            const uint64_t lost = from < 4 ? 4 : from;
            assert_int_equal (x->last, end <= 6 ? REPLAY_STEP_DONE : REPLAY_STEP_WAIT);
            assert_int_equal (x->seen_count, lost - from);
            const struct replay_gap *gap = &x->gaps[x->gap_count - 1];
            for (size_t i = 0; i + 1 < x->gap_count; i++)
                assert_true (id_is_zero (&x->gaps[i].stream));          /* offsets that are missing, on the way */
            assert_true (x->gap_count > 0 && id_equal (&gap->stream, &stream));
            assert_int_equal (gap->first_seq, lost);
            assert_int_equal (gap->end_seq, end <= 6 ? end : 6);
            assert_int_equal (gap->reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
            assert_int_equal (session_covered (x, 2), end <= 6 ? end - 1 : 5);
            session_close (x);
        }
}

static void a_position_beyond_what_expired_tells_no_gap (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 2, 60, 1, 50000, NULL, 1);
    const uint64_t first_offset = expire_segments (s);
    struct log_stream one;
    const struct fm_id ids[] = { kit_stream (1), kit_stream (2) };
    assert_int_equal (log_stream_get (s->log, &ids[0], &one), 0);
    assert_true (one.first_seq > 3);
    struct fm_id journal;
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__StreamPosition positions[2], *pointers[] = { &positions[0], &positions[1] };
    log_identity (s->log, &journal, &cursor.generation);
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&journal);
    cursor.offset = 2;
    cursor.positions = pointers;
    cursor.n_positions = 2;
    for (int i = 0; i < 2; i++) {
        factmesh__stream_position__init (&positions[i]);
        positions[i].stream = control_put_id (&ids[i]);
        positions[i].seq = i ? 2 : one.first_seq + 3;       /* stream 1 is done beyond what is gone, stream 2 is not */
    }
    Factmesh__ReplayOpen open = from_offset (0);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR;
    open.from_cursor = &cursor;
    struct session *x = session_open (s, &open);
    session_run (x);
    unsigned of[3] = { 0 };
    for (size_t i = 0; i < x->gap_count; i++) {
        const bool zero = id_is_zero (&x->gaps[i].stream);
        const unsigned stream = zero ? 0 : id_equal (&x->gaps[i].stream, &ids[0]) ? 1 : 2;
        of[stream]++;
        assert_int_equal (x->gaps[i].reason, FACTMESH__GAP_REASON__GAP_EXPIRED);
        if (stream == 2)
            assert_int_equal (x->gaps[i].first_seq, 3);
        if (zero)
            assert_int_equal (x->gaps[i].end_seq, first_offset);
    }
    assert_int_equal (of[1], 0);
    assert_int_equal (of[2], 1);
    for (size_t i = 0; i < x->seen_count; i++)
        assert_true (x->seen[i].stream == 2 || x->seen[i].first_seq > one.first_seq + 3);
    session_close (x);
}

/* Of this stream just that is told; else offsets alone. */
static void expect_damaged (const struct session *x, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq)
{
    size_t gaps = 0;
    for (size_t i = 0; i < x->gap_count; i++) {
        assert_int_equal (x->gaps[i].reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
        if (id_is_zero (&x->gaps[i].stream))
            continue;
        assert_true (id_equal (&x->gaps[i].stream, stream));
        assert_int_equal (x->gaps[i].first_seq, first_seq);
        assert_int_equal (x->gaps[i].end_seq, end_seq);
        gaps++;
    }
    assert_int_equal (gaps, 1);
}

/* A segment is lost, and so are the snapshots of the one behind it, which would tell whose facts were in it. Who reads one stream is told all the same. */
static void what_is_missing_between_two_facts_of_a_stream_is_told_where_nothing_tells_whose_facts_were_lost (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    const struct fm_id one = kit_stream (1);
    struct log_segment_info segments[16];
    size_t count;
    char path[256];
    append_turns (s, 2, 60, 1, 50000, NULL, 1);
    assert_int_equal (log_segment_list (s->log, segments, 16, &count), 0);
    assert_true (count > 4);
    /* Odd offsets are stream 1's. */
    const uint64_t first_seq = segments[1].first_offset / 2 + 1, end_seq = segments[1].end_offset / 2 + 1;
    log_destroy (&s->log);
    kit_segment_path (s->directory, 2, path);
    assert_int_equal (unlink (path), 0);
    kit_segment_path (s->directory, 3, path);
    kit_flip (path, 4096 + 100);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    Factmesh__ReplayOpen open = range_of (&one, 3, 60);
    struct session *x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    uint64_t next_seq = 3;
    for (size_t i = 0; i < x->seen_count; i++) {
        next_seq = next_seq == first_seq ? end_seq : next_seq;
        assert_int_equal (x->seen[i].first_seq, next_seq++);
    }
    assert_int_equal (next_seq, 60);
    expect_damaged (x, &one, first_seq, end_seq);
    assert_int_equal (session_covered (x, 1), 59);
    session_close (x);

    /* Nor is anything left of what is asked for. */
    open = range_of (&one, first_seq, end_seq);
    x = session_open (s, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 0);
    expect_damaged (x, &one, first_seq, end_seq);
    assert_int_equal (session_covered (x, 1), end_seq - 1);
    session_close (x);
}

/* Each stream's loss is told with its range, and what is left comes. */
static void a_session_that_retention_overtakes_tells_each_streams_gap (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 2, 60, 1, 50000, NULL, 1);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = session_open (s, &open);
    x->target = 1;
    while (x->seen_count < 4) {
        struct replay_header h;
        assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &h), 0);
        if (x->last == REPLAY_STEP_MESSAGE)
            session_take (x, &h);
    }
    replay_rest (x->replay);                    /* its reader would keep the segment readable */
    const uint64_t first_offset = retain (s);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    uint64_t gap_end[3] = { 0 };
    for (size_t i = 0; i < x->gap_count; i++) {
        const struct fm_id one = kit_stream (1);
        const unsigned stream = id_is_zero (&x->gaps[i].stream) ? 0 : id_equal (&x->gaps[i].stream, &one) ? 1 : 2;
        assert_int_equal (x->gaps[i].reason, FACTMESH__GAP_REASON__GAP_EXPIRED);
        gap_end[stream] = x->gaps[i].end_seq;
    }
    assert_int_equal (gap_end[0], first_offset);
    uint64_t next[] = { 0, gap_end[1], gap_end[2] };
    assert_true (next[1] > 3 && next[2] > 3);
    for (size_t i = 4; i < x->seen_count; i++) {
        assert_int_equal (x->seen[i].first_seq, next[x->seen[i].stream]);
        next[x->seen[i].stream]++;
    }
    assert_int_equal (next[1], 61);
    assert_int_equal (next[2], 61);
    session_close (x);
}

/* --- Ends. */

static void an_end_in_the_past_ends_the_session_when_all_is_read_and_one_to_come_does_not (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    append_turns (s, 1, 10, 1, 100, NULL, 1);
    s->clock.now_ns += 1000;
    for (int to_come = 0; to_come < 2; to_come++) {
        Factmesh__ReplayOpen open = from_offset (0);
        open.end_case = FACTMESH__REPLAY_OPEN__END_END_TIME_NS;
        open.end_time_ns = s->clock.now_ns + (to_come ? 500 : 0);
        struct session *x = session_open (s, &open);
        session_run (x);
        assert_int_equal (x->seen_count, 10);
        assert_int_equal (x->last, to_come ? REPLAY_STEP_WAIT : REPLAY_STEP_DONE);
        if (to_come) {
            /* Not while something that was recorded before waits for its sync. */
            const struct kit_batch_spec late = { .stream = 1, .first_seq = 11, .count = 1, .payload_len = 100 };
            kit_append_batch (s->log, &late);
            s->clock.now_ns += 500;
            s->monotonic_ns += 1000000000;
            session_run (x);
            assert_int_equal (x->last, REPLAY_STEP_WAIT);
            kit_sync (s->log);
            session_run (x);
            assert_int_equal (x->last, REPLAY_STEP_DONE);
            assert_true (x->seen_count >= 10);
        }
        session_close (x);
    }
}

/* --- The last ones. */

static int next_last (struct replay_last *l, struct log_reader *r, struct batch_scratch *scratch, uint64_t *ret_offset)
{
    return replay_last_step (l, r, NULL, 0, scratch, ret_offset);
}

/* More records than one share reads. */
static void the_last_ones_are_found_in_shares (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    enum { RECORDS = REPLAY_SCAN_RECORDS + 500 };
    struct log_reader *r;
    struct replay_last l;
    struct batch_scratch scratch = { 0 };
    uint64_t offset = 0;
    unsigned shares = 0;
    int rc;
    for (unsigned i = 1; i <= RECORDS; i++)
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = i, .count = 1, .payload_len = 1 });
    kit_sync (s->log);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    replay_last_init (&l, RECORDS - 100, 1, RECORDS + 1);
    while ((rc = next_last (&l, r, &scratch, &offset)) == -EAGAIN)
        shares++;
    assert_int_equal (rc, 0);
    assert_int_equal (offset, 101);
    assert_true (shares >= 2);
    log_reader_destroy (&r);
    batch_scratch_release (&scratch);
}

/* What was counted goes before it is found: the last one that is left is still found. */
static void the_last_one_is_found_though_retention_takes_what_was_counted (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    struct log_reader *r;
    struct replay_last l;
    struct batch_scratch scratch = { 0 };
    uint64_t offset = 0;
    int rc = -EAGAIN;
    append_turns (s, 1, 100, 1, 50000, NULL, 1);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    replay_last_init (&l, 1, 1, 101);
    while (!l.finding)
        assert_int_equal (next_last (&l, r, &scratch, &offset), -EAGAIN);
    assert_true (retain (s) > 2);
    for (int i = 0; i < 100 && rc == -EAGAIN; i++)
        rc = next_last (&l, r, &scratch, &offset);
    assert_int_equal (rc, 0);
    assert_int_equal (offset, 100);
    log_reader_destroy (&r);
    batch_scratch_release (&scratch);
}

/* --- Requests. */

static void requests_of_other_versions_are_refused_and_sizes_brought_into_bounds (void **state)
{
    (void) state;
    struct replay_request q;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR;
    assert_int_equal (replay_request_check (&open, &q), FM_ERR_MALFORMED);
    assert_string_equal (fm_error_detail (), "an empty cursor");
    open.start_case = (Factmesh__ReplayOpen__StartCase) 99;
    assert_int_equal (replay_request_check (&open, &q), FM_ERR_MALFORMED);
    assert_string_equal (fm_error_detail (), "a start that this version does not know");
    open.start_case = FACTMESH__REPLAY_OPEN__START__NOT_SET;
    open.end_case = (Factmesh__ReplayOpen__EndCase) 99;
    assert_int_equal (replay_request_check (&open, &q), FM_ERR_MALFORMED);
    assert_string_equal (fm_error_detail (), "an end that this version does not know");
    open.end_case = FACTMESH__REPLAY_OPEN__END__NOT_SET;
    static const struct { uint32_t asked, given; } sizes[] = {
        { 0, REPLAY_MESSAGE_BYTES }, { 1, REPLAY_MESSAGE_BYTES_MIN }, { REPLAY_MESSAGE_BYTES_MIN, REPLAY_MESSAGE_BYTES_MIN },
        { REPLAY_MESSAGE_BYTES_MAX, REPLAY_MESSAGE_BYTES_MAX }, { UINT32_MAX, REPLAY_MESSAGE_BYTES_MAX },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        open.message_bytes = sizes[i].asked;
        assert_int_equal (replay_request_check (&open, &q), 0);
        assert_int_equal (q.message_bytes, sizes[i].given);
    }
}

int main (void)
{
#define CASE(f) cmocka_unit_test_setup_teardown (f, replay_set_up, replay_tear_down)
#define RETAINING(f) cmocka_unit_test_setup_teardown (f, set_up_retaining, replay_tear_down)
    const struct CMUnitTest tests[] = {
        CASE (more_streams_than_a_message_tells_are_told_in_several),
        CASE (the_rest_of_a_batch_is_not_covered_before_it_comes),
        CASE (a_range_at_a_streams_lost_end_is_told),
        CASE (a_position_beyond_what_expired_tells_no_gap),
        CASE (what_is_missing_between_two_facts_of_a_stream_is_told_where_nothing_tells_whose_facts_were_lost),
        RETAINING (a_session_that_retention_overtakes_tells_each_streams_gap),
        CASE (an_end_in_the_past_ends_the_session_when_all_is_read_and_one_to_come_does_not),
        CASE (the_last_ones_are_found_in_shares),
        RETAINING (the_last_one_is_found_though_retention_takes_what_was_counted),
        CASE (requests_of_other_versions_are_refused_and_sizes_brought_into_bounds),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
