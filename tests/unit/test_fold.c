/* fold: where a cursor's base may go when the log has damage in it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "control.h"
#include "error.h"
#include "fold.h"

/* Offsets 1 to 16: turns of streams 1 and 2, two facts each; turn 2 is lost, of both. */
enum { TURNS = 4, LOST_TURN = 1 };

static struct kit_batch_spec spec_of (unsigned stream, uint64_t turn)
{
    return (struct kit_batch_spec) { .stream = stream, .first_seq = 1 + 2 * turn, .count = 2, .payload_len = 500 };
}

static void damage (struct log_setting *s)
{
    for (uint64_t turn = 0; turn < TURNS; turn++)
        for (unsigned stream = 1; stream <= 2; stream++) {
            const struct kit_batch_spec spec = spec_of (stream, turn);
            kit_append_batch (s->log, &spec);
            kit_sync (s->log);
        }
    char path[256];
    kit_segment_path (s->directory, 1, path);
    const struct kit_batch_spec first = spec_of (1, LOST_TURN), last = spec_of (2, LOST_TURN);
    wipe (path, &first, &last);
}

static uint64_t fold_from (struct log *log, uint64_t first_done, uint64_t second_done, uint64_t from)
{
    const bool in_order = memcmp (kit_stream (1).bytes, kit_stream (2).bytes, ID_LEN) < 0;
    struct fold_position items[] = { { kit_stream (in_order ? 1 : 2), in_order ? first_done : second_done },
                                     { kit_stream (in_order ? 2 : 1), in_order ? second_done : first_done } };
    const struct fold_positions positions = { items, 2 };
    struct log_reader *reader;
    struct recent *recent;
    uint64_t base;
    assert_int_equal (log_reader_new (log, &reader), 0);
    assert_int_equal (recent_new (&recent), 0);
    assert_int_equal (fold_base (reader, recent, &positions, from, 17, &base), 0);
    recent_destroy (&recent);
    log_reader_destroy (&reader);
    return base;
}

static uint64_t fold (struct log *log, uint64_t first_done, uint64_t second_done)
{
    return fold_from (log, first_done, second_done, 1);
}

static void a_cursor_does_not_pass_a_hole_of_which_one_stream_is_not_done (void **state)
{
    struct log_setting *s = setting_of (state);
    damage (s);
    struct log_reader *reader;
    assert_int_equal (log_reader_new (s->log, &reader), 0);
    const struct log_item first = (expect_next (reader), expect_next (reader), expect_next (reader)), second = expect_next (reader);
    assert_true (first.kind == LOG_ITEM_GAP && second.kind == LOG_ITEM_GAP && first.offset == second.offset);
    log_reader_destroy (&reader);

    assert_int_equal (fold (s->log, 8, 8), 17);
    assert_int_equal (fold (s->log, 8, 2), 5);      /* stream 2 has not been told of its gap */
    assert_int_equal (fold (s->log, 2, 8), 5);
    assert_int_equal (fold (s->log, 8, 4), 11);     /* behind the hole: stream 2's facts 5 and 6 are not done */
    assert_int_equal (fold (s->log, 5, 4), 10);     /* half a batch */
}

/* What the hole took lies below the base, and is done: the streams' positions went with it. */
static void a_cursor_that_stands_behind_a_hole_goes_on (void **state)
{
    struct log_setting *s = setting_of (state);
    damage (s);
    assert_int_equal (fold_from (s->log, 6, 0, 9), 11);
    assert_int_equal (fold_from (s->log, 6, 0, 10), 11);        /* from within a batch */
    assert_int_equal (fold_from (s->log, 8, 6, 11), 15);
}

/* A position in the batch in which the base stands is said by the base alone: it goes there, also when it must read where it is. */
static void a_cursor_goes_on_within_the_batch_in_which_it_stands (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct kit_batch_spec batch = { .stream = 1, .first_seq = 1, .count = 10, .payload_len = 50 };
    kit_append_batch (s->log, &batch);
    kit_sync (s->log);
    struct log_reader *reader;
    assert_int_equal (log_reader_new (s->log, &reader), 0);
    for (unsigned is_recent = 0; is_recent < 2; is_recent++) {
        struct recent *recent;
        assert_int_equal (recent_new (&recent), 0);
        const struct recent_record r = { .stream = kit_stream (1), .first_seq = 1, .end_seq = 11, .offset = 1, .end_offset = 11 };
        if (is_recent)
            recent_add (recent, &r);
        uint64_t base = 1;
        for (uint64_t done = 2; done <= 10; done += 2) {
            struct fold_position item = { kit_stream (1), done };
            struct fold_positions positions = { &item, 1 };
            assert_int_equal (fold_base (reader, recent, &positions, base, 11, &base), 0);
            assert_int_equal (base, done + 1);
            fold_trim (&positions, s->log, base);
            if (positions.count)
                assert_int_equal (positions.items[0].seq, done);
        }
        recent_destroy (&recent);
    }
    log_reader_destroy (&reader);
}

/* Whose facts they were nobody can tell any more: the cursor's owner is to hear of it. */
static void a_cursor_does_not_pass_what_expired (void **state)
{
    struct log_setting *s = setting_of (state);
    uint64_t first;
    fill_segments (s, 3);
    s->options.retain_bytes = 2000000;
    reopen (s);
    assert_int_equal (log_retain (s->log, &first), 0);
    assert_true (first > 5);
    struct log_position at;
    log_position (s->log, &at);
    struct fold_position items[] = { { kit_stream (1), 1000 } };
    const struct fold_positions positions = { items, 1 };
    struct log_reader *reader;
    struct recent *recent;
    uint64_t base;
    assert_int_equal (log_reader_new (s->log, &reader), 0);
    assert_int_equal (recent_new (&recent), 0);
    assert_int_equal (fold_base (reader, recent, &positions, 5, at.synced_offset, &base), 0);
    assert_int_equal (base, 5);
    assert_int_equal (fold_base (reader, recent, &positions, first, at.synced_offset, &base), 0);
    assert_int_equal (base, first + 5);     /* the small fact's stream is not done */
    recent_destroy (&recent);
    log_reader_destroy (&reader);
}

/* As somebody sent it. */
static void positions_are_sorted_once_each_and_name_streams (void **state)
{
    (void) state;
    enum { COUNT = 5 };
    static const unsigned numbers[COUNT] = { 3, 1, 3, 2, 3 };
    static const uint64_t seqs[COUNT] = { 5, 7, 9, 1, 8 };
    struct fm_id ids[COUNT];
    Factmesh__StreamPosition items[COUNT];
    static Factmesh__StreamPosition *pointers[CURSOR_POSITIONS_MAX + 1];
    for (size_t i = 0; i < COUNT; i++) {
        ids[i] = kit_stream (numbers[i]);
        factmesh__stream_position__init (&items[i]);
        items[i].stream = control_put_id (&ids[i]);
        items[i].seq = seqs[i];
        pointers[i] = &items[i];
    }
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.positions = pointers;
    cursor.n_positions = COUNT;
    struct fold_positions p;
    assert_int_equal (fold_positions_copy (&cursor, &p), 0);
    assert_int_equal (p.count, 3);
    assert_int_equal (fold_positions_get (&p, &ids[0]), 9);
    assert_int_equal (fold_positions_get (&p, &ids[1]), 7);
    assert_int_equal (fold_positions_get (&p, &ids[3]), 1);
    for (size_t i = 1; i < p.count; i++)
        assert_true (memcmp (p.items[i - 1].stream.bytes, p.items[i].stream.bytes, ID_LEN) < 0);
    fold_positions_release (&p);
    const struct fm_id none = { .bytes = { 0 } };
    items[3].stream = control_put_id (&none);
    assert_int_equal (fold_positions_copy (&cursor, &p), FM_ERR_MALFORMED);
    assert_string_equal (fm_error_detail (), "a cursor's position 3 names no stream");
    items[3].stream.len = 7;
    assert_int_equal (fold_positions_copy (&cursor, &p), FM_ERR_MALFORMED);
    for (size_t i = 0; i <= CURSOR_POSITIONS_MAX; i++)
        pointers[i] = &items[0];
    cursor.n_positions = CURSOR_POSITIONS_MAX + 1;
    assert_int_equal (fold_positions_copy (&cursor, &p), FM_ERR_LIMIT);
    cursor.n_positions = CURSOR_POSITIONS_MAX;
    assert_int_equal (fold_positions_copy (&cursor, &p), 0);
    assert_int_equal (p.count, 1);
    fold_positions_release (&p);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (positions_are_sorted_once_each_and_name_streams),
        cmocka_unit_test_setup_teardown (a_cursor_does_not_pass_a_hole_of_which_one_stream_is_not_done, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (a_cursor_that_stands_behind_a_hole_goes_on, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (a_cursor_goes_on_within_the_batch_in_which_it_stands, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (a_cursor_does_not_pass_what_expired, log_set_up, log_tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
