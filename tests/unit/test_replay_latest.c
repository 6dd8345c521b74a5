/* Replay: a session that begins with the newest fact of each key. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../support/fail_fs.h"
#include "../support/replay_kit.h"
#include "error.h"

static Factmesh__ReplayOpen from_latest (Factmesh__Cursor *cursor, uint64_t end)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 7;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_LATEST;
    open.from_latest = cursor;
    open.latest_end = end;
    follow (&open);
    return open;
}

static struct session *open_latest (struct replay_setting *s, struct fake_index *index, Factmesh__ReplayOpen *open)
{
    index->index.context = index;
    session_index = &index->index;
    struct session *x = session_open (s, open);
    session_index = NULL;
    x->of_facts = true;
    return x;
}

static void assert_fact (const struct session *x, size_t i, unsigned stream, uint64_t seq)
{
    assert_true (i < x->seen_count);
    assert_int_equal (x->seen[i].stream, stream);
    assert_int_equal (x->seen[i].first_seq, seq);
    assert_int_equal (x->seen[i].count, 1);
}

/* Offsets 1 to 80: of two streams, batches of four by turns. */
static void newest_facts_come_first_and_alone_then_all_that_comes (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    static const uint64_t offsets[] = { 2, 4, 5, 16, 33, 34, 80 };
    struct fake_index index = fake_index_of (offsets, 7);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    append_turns (s, 2, 10, 4, 100, NULL, 1);
    for (unsigned round = 0; round < 3; round++) {
        struct session *x = open_latest (s, &index, &open);
        x->rests = round == 1;
        x->target = round == 2 ? 1 : x->target;     /* a fact a message */
        session_run (x);
        assert_int_equal (x->last, REPLAY_STEP_WAIT);
        assert_true (x->caught_up && x->latest_end == 0);
        assert_int_equal (x->seen_count, 7);
        assert_fact (x, 0, 1, 2);
        assert_fact (x, 1, 1, 4);
        assert_fact (x, 2, 2, 1);
        assert_fact (x, 3, 2, 8);
        assert_fact (x, 4, 1, 17);
        assert_fact (x, 5, 1, 18);
        assert_fact (x, 6, 2, 40);
        assert_int_equal (session_covered (x, 1), 40 + 4 * round);
        assert_int_equal (session_covered (x, 2), 40);
        assert_int_equal (x->next_offset, 81 + 4 * round);
        assert_int_equal (x->gap_count, 0);
        const struct kit_batch_spec more = { .stream = 1, .first_seq = 41 + 4 * round, .count = 4, .payload_len = 100 };
        kit_append_batch (s->log, &more);
        kit_sync (s->log);
        session_run (x);
        assert_int_equal (x->seen_count, 8);
        assert_int_equal (x->seen[7].first_seq, 41 + 4 * round);
        assert_int_equal (x->seen[7].count, 4);
        session_close (x);
    }
}

/* The session is lost after each message in turn, more is recorded, and it goes on from a cursor: nothing is missing, nothing comes twice, and what was
 * recorded since the first session began comes whole. */
static void newest_facts_go_on_at_a_cursor_up_to_the_same_end (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    static const uint64_t offsets[] = { 2, 4, 5, 16, 33, 34, 80 };
    static const struct { unsigned stream; uint64_t seq; } facts[] = { { 1, 2 }, { 1, 4 }, { 2, 1 }, { 2, 8 }, { 1, 17 }, { 1, 18 }, { 2, 40 } };
    append_turns (s, 2, 10, 4, 100, NULL, 1);
    for (size_t lost = 1; lost <= 7; lost++) {
        struct fake_index index = fake_index_of (offsets, 7);
        Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
        Factmesh__ReplayOpen open = from_latest (&cursor, 0);
        struct session *x = open_latest (s, &index, &open);
        x->target = 1;
        while (x->seen_count < lost) {
            struct replay_header header;
            assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
            if (x->last == REPLAY_STEP_MESSAGE)
                session_take (x, &header);
        }
        const uint64_t end = x->latest_end ? x->latest_end : x->next_offset, next = x->next_offset;
        assert_true (lost == 7 || next == offsets[lost - 1] + 1);
        struct fm_id journal;
        log_identity (s->log, &journal, &cursor.generation);
        cursor.major = PROTO_MAJOR;
        cursor.journal = control_put_id (&journal);
        cursor.offset = next;
        session_close (x);
        const struct kit_batch_spec more = { .stream = 1, .first_seq = 37 + 4 * lost, .count = 4, .payload_len = 100 };
        kit_append_batch (s->log, &more);
        kit_sync (s->log);

        open = from_latest (&cursor, end);
        x = open_latest (s, &index, &open);
        session_run (x);
        assert_int_equal (x->seen_count, 7 - lost + 1);
        for (size_t i = lost; i < 7; i++)
            assert_fact (x, i - lost, facts[i].stream, facts[i].seq);
        assert_int_equal (x->seen[7 - lost].count, 4);
        assert_int_equal (x->seen[7 - lost].first_seq, 37 + 4 * lost);
        session_close (x);

        /* In the midst of a message: what the positions say is done does not come again. */
        const struct fm_id one = kit_stream (1);
        Factmesh__StreamPosition position = FACTMESH__STREAM_POSITION__INIT, *positions[] = { &position };
        position.stream = control_put_id (&one);
        position.seq = 18;
        cursor.offset = 1;
        cursor.positions = positions;
        cursor.n_positions = 1;
        x = open_latest (s, &index, &open);
        session_run (x);
        assert_fact (x, 0, 2, 1);
        assert_fact (x, 1, 2, 8);
        assert_fact (x, 2, 2, 40);
        assert_int_equal (x->seen_count, 4);
        session_close (x);

        cursor.generation++;
        session_index = &index.index;
        assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_GENERATION);
        session_index = NULL;
    }
}

static void an_index_that_is_behind_is_waited_for (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    static const uint64_t offsets[] = { 3 };
    struct fake_index index = fake_index_of (offsets, 1);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    append_turns (s, 1, 2, 4, 100, NULL, 1);
    index.next = 8;
    struct session *x = open_latest (s, &index, &open);
    session_run (x);
    assert_int_equal (x->last, REPLAY_STEP_WAIT);
    assert_int_equal (x->messages, 1);              /* that it began */
    assert_int_equal (x->latest_end, 9);
    assert_false (x->caught_up);
    assert_int_equal (x->seen_count, 0);
    assert_int_equal (replay_due (x->replay), s->monotonic_ns + REPLAY_LATEST_WAIT_MS * 1000000);
    index.next = 9;
    session_run (x);
    assert_true (x->caught_up);
    assert_int_equal (x->seen_count, 1);
    assert_fact (x, 0, 1, 3);
    session_close (x);
}

static void newest_facts_of_other_topics_are_left_out (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    static const uint64_t offsets[] = { 1, 2, 3, 4 };
    static const char *const topics[] = { "a.b", "a.c", "a.b", "a.c" };
    struct fake_index index = fake_index_of (offsets, 4);
    index.topics = topics;
    static const struct { const char *pattern; size_t count; } cases[] = { { "a.c", 2 }, { "a.*", 4 }, { ">", 4 }, { "a", 0 }, { "b.>", 0 } };
    const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 4, .payload_len = 10, .topic = "a.b|a.c" };
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
        Factmesh__ReplayOpen open = from_latest (&cursor, 0);
        ProtobufCBinaryData filter = control_put_slice (slice_of (cases[i].pattern));
        open.filters = &filter;
        open.n_filters = 1;
        struct session *x = open_latest (s, &index, &open);
        session_run (x);
        assert_int_equal (x->seen_count, cases[i].count);
        assert_int_equal (session_covered (x, 1), 4);
        session_close (x);
    }
}

/* What is damaged is told; what retention took is none of the newest any more. */
static void newest_facts_that_are_damaged_are_told_and_those_that_expired_are_not (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    uint64_t offsets[200];
    for (size_t i = 0; i < 200; i++)
        offsets[i] = 2 * i + 1;                     /* the first one of each batch */
    struct fake_index index = fake_index_of (offsets, 200);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    append_turns (s, 2, 100, 2, 200, NULL, 1);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    char path[256];
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, 40000);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    struct session *x = open_latest (s, &index, &open);
    session_run (x);
    assert_int_equal (x->seen_count, 199);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
    assert_int_equal (x->gaps[0].end_seq - x->gaps[0].first_seq, 2);
    session_close (x);

    append_turns (s, 2, 1000, 1, 3000, NULL, 201);
    const uint64_t first_offset = expire_segments (s);
    struct log_position at;
    log_position (s->log, &at);
    const uint64_t kept[] = { 1, 2, first_offset, at.synced_offset - 1 };
    index.offsets = kept;
    index.count = 4;
    x = open_latest (s, &index, &open);
    session_run (x);
    assert_int_equal (x->seen_count, 2);
    assert_int_equal (x->gap_count, 0);
    assert_int_equal (session_covered (x, 1), 1200);
    session_close (x);
}

static void from_latest_without_an_index_or_with_a_stream_is_refused (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    struct session *x;
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_ARGUMENT);
    const struct fm_id stream = kit_stream (1);
    struct fake_index index = fake_index_of (NULL, 0);
    index.index.context = &index;
    session_index = &index.index;
    open.stream = control_put_id (&stream);
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_ARGUMENT);
    open.stream.len = 0;
    open.from_latest = NULL;
    assert_int_equal (session_try (s, &open, NULL, &x), FM_ERR_ARGUMENT);
    session_index = NULL;
}

/* Each of them stands where an index says that a newest fact is; the last one at the end of the log. */
static void more_gaps_among_the_newest_than_a_message_holds_are_each_told_once (void **state)
{
    enum { GAPS = 3 * REPLAY_GAPS_MAX };
    struct replay_setting *s = replay_setting_of (state);
    static uint64_t offsets[2 * GAPS];
    const struct fm_id stream = kit_stream (1);
    for (uint64_t i = 0; i < GAPS; i++) {
        const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1 + 4 * i, .count = 1, .payload_len = 10 };
        offsets[2 * i] = kit_append_batch (s->log, &spec);
        assert_int_equal (log_append_gap (s->log, &stream, 2 + 4 * i, 5 + 4 * i, FACTMESH__GAP_REASON__GAP_VOID, &offsets[2 * i + 1]), 0);
    }
    kit_sync (s->log);
    struct fake_index index = fake_index_of (offsets, 2 * GAPS);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    index.rows = 2 * GAPS;
    struct session *x = open_latest (s, &index, &open);
    session_run (x);
    assert_true (x->caught_up);
    assert_int_equal (x->seen_count, GAPS);
    assert_int_equal (x->gap_count, GAPS);
    for (uint64_t i = 0; i < GAPS; i++) {
        assert_int_equal (x->seen[i].first_seq, 1 + 4 * i);
        assert_int_equal (x->gaps[i].first_seq, 2 + 4 * i);
        assert_int_equal (x->gaps[i].end_seq, 5 + 4 * i);
        assert_int_equal (x->gaps[i].reason, FACTMESH__GAP_REASON__GAP_VOID);
    }
    assert_int_equal (session_covered (x, 1), 4 * GAPS);
    session_close (x);
}

/* The index says that each of offsets 1 to `last` is a newest fact, and only the first and the last of them can be read. */
static void expect_first_and_last (struct replay_setting *s, uint64_t last)
{
    static const uint64_t offsets[] = { 1, 2, 3, 4 };
    struct fake_index index = fake_index_of (offsets, last);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    kit_sync (s->log);
    struct session *x = open_latest (s, &index, &open);
    session_run (x);
    assert_true (x->caught_up);
    assert_int_equal (x->seen_count, 2);
    assert_fact (x, 0, 1, 1);
    assert_fact (x, 1, 1, last);
    assert_int_equal (session_covered (x, 1), last);
    session_close (x);
}

/* The index cannot know what is within: no fact of it is among the newest. */
static void a_batch_of_a_newer_version_hides_no_other (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        const struct kit_batch_spec spec = { .stream = 1, .first_seq = seq, .count = 1, .payload_len = 10 };
        struct kit_batch k;
        uint64_t offset;
        kit_batch_make (&spec, &k);
        if (seq == 2)
            memset (k.bytes, 0xFF, k.len);
        assert_int_equal (log_append (s->log, &k.batch, &offset), 0);
        assert_int_equal (offset, seq);
        kit_batch_release (&k);
    }
    expect_first_and_last (s, 3);
}

/* Of its batch the header can be read, and the facts before it. */
static void a_fact_that_cannot_be_read_hides_none_before_it_and_no_other_batch (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    const struct kit_batch_spec damaged = { .stream = 1, .first_seq = 1, .count = 3, .payload_len = 10 }, whole = { .stream = 1, .first_seq = 4, .count = 1, .payload_len = 10 };
    struct kit_batch k;
    uint64_t offset;
    kit_batch_make (&damaged, &k);
    const size_t fact_len = (k.len - k.batch.facts_pos) / 3;
    memset (k.bytes + k.batch.facts_pos + fact_len, 0xFF, 2 * fact_len);
    assert_int_equal (log_append (s->log, &k.batch, &offset), 0);
    kit_batch_release (&k);
    assert_int_equal (kit_append_batch (s->log, &whole), 4);
    expect_first_and_last (s, 4);
}

/* Each read fails in turn: the session ends with that, and one that is opened then has all. */
static void newest_facts_that_cannot_be_read_now_end_the_session (void **state)
{
    struct replay_setting *s = replay_setting_of (state);
    static const uint64_t offsets[] = { 2, 700, 1300 };
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    append_turns (s, 1, 1400, 1, 500, NULL, 1);
    struct fail_fs *f = fail_fs_new ();
    log_destroy (&s->log);
    s->options.fs = fail_fs_seam (f);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    unsigned failed = 0;
    bool happened = true;
    for (unsigned long n = 1; happened; n++) {
        struct fake_index index = fake_index_of (offsets, 3);
        struct session *x = open_latest (s, &index, &open);
        struct replay_header header;
        int rc = 0;
        fail_fs_fail (f, FAIL_READ, n, -ENXIO);
        do {
            rc = replay_step (x->replay, &x->buffer, x->target, &x->last, &header);
            if (!rc && x->last == REPLAY_STEP_MESSAGE)
                session_take (x, &header);
        } while (!rc && x->last == REPLAY_STEP_MESSAGE);
        happened = fail_fs_happened (f);
        fail_fs_fail (f, FAIL_READ, 0, 0);
        assert_true (rc == 0 || rc == -ENXIO);
        failed += rc != 0;
        if (!rc)
            assert_int_equal (x->seen_count, 3);
        session_close (x);
    }
    assert_true (failed >= 3);
    log_destroy (&s->log);
    s->options.fs = NULL;
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    fail_fs_destroy (&f);
}

int main (void)
{
#define CASE(f) cmocka_unit_test_setup_teardown (f, replay_set_up, replay_tear_down)
    const struct CMUnitTest tests[] = {
        CASE (newest_facts_come_first_and_alone_then_all_that_comes),
        CASE (newest_facts_go_on_at_a_cursor_up_to_the_same_end),
        CASE (an_index_that_is_behind_is_waited_for),
        CASE (newest_facts_of_other_topics_are_left_out),
        CASE (newest_facts_that_are_damaged_are_told_and_those_that_expired_are_not),
        CASE (from_latest_without_an_index_or_with_a_stream_is_refused),
        CASE (more_gaps_among_the_newest_than_a_message_holds_are_each_told_once),
        CASE (a_batch_of_a_newer_version_hides_no_other),
        CASE (a_fact_that_cannot_be_read_hides_none_before_it_and_no_other_batch),
        CASE (newest_facts_that_cannot_be_read_now_end_the_session),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
