/* fold: where a cursor's base may go when the log has damage in it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/log_setting.h"
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

static uint64_t fold (struct log *log, uint64_t first_done, uint64_t second_done)
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
    assert_int_equal (fold_base (reader, recent, &positions, 1, 17, &base), 0);
    recent_destroy (&recent);
    log_reader_destroy (&reader);
    return base;
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

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (a_cursor_does_not_pass_a_hole_of_which_one_stream_is_not_done, log_set_up, log_tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
