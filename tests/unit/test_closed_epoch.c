/* Closed epochs: a stream whose publisher vanished with facts that nobody has is not taken in that epoch again, since a watermark is cumulative. What says so
 * must outlive everything by which the log forgets: a crash, a new segment, retention, a full stream table, a lost index. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "factmesh.pb-c.h"

static struct log_stream known_of (struct log *log, unsigned stream)
{
    const struct fm_id id = kit_stream (stream);
    struct log_stream known;
    assert_int_equal (log_stream_get (log, &id, &known), 0);
    return known;
}

static int append (struct log *log, unsigned stream, uint64_t epoch, uint64_t first_seq)
{
    struct kit_batch k;
    uint64_t offset;
    kit_batch_make (&(struct kit_batch_spec) { .stream = stream, .epoch = epoch, .first_seq = first_seq, .count = 2, .payload_len = 10 }, &k);
    const int rc = log_append (log, &k.batch, &offset);
    kit_batch_release (&k);
    return rc;
}

/* Facts 1 and 2, a gap [3, 6) that closes the epoch, and 6 and 7, which were held above it. */
static void close_epoch (struct log *log, unsigned stream, uint64_t epoch)
{
    uint64_t offset;
    assert_int_equal (append (log, stream, epoch, 1), 0);
    assert_false (known_of (log, stream).closed);
    const struct log_gap gap = { .stream = kit_stream (stream), .first_seq = 3, .end_seq = 6, .epoch = epoch, .incarnation = epoch + 7,
                                 .reason = FACTMESH__GAP_REASON__GAP_NOT_HELD, .closes = true };
    assert_int_equal (log_append_gap_of (log, &gap, &offset), 0);
    assert_true (known_of (log, stream).closed);
    assert_int_equal (append (log, stream, epoch, 6), 0);
    kit_sync (log);
}

/* Each fact of stream 900 fills a segment. */
static void new_segments (struct log *log, unsigned count)
{
    const struct fm_id id = kit_stream (900);
    struct log_stream known = { .last_seq = 0 };
    (void) log_stream_get (log, &id, &known);   /* unknown: it begins now */
    for (unsigned i = 1; i <= count; i++) {
        kit_append_batch (log, &(struct kit_batch_spec) { .stream = 900, .first_seq = known.last_seq + i, .count = 1, .payload_len = 900000 });
        kit_sync (log);
    }
}

static void expect_closed (struct log *log, unsigned stream, uint64_t epoch)
{
    const struct log_stream known = known_of (log, stream);
    assert_true (known.closed);
    assert_int_equal (known.epoch, epoch);
    assert_int_equal (known.incarnation, epoch + 7);
    assert_int_equal (known.last_seq, 7);
}

static void a_closed_epoch_is_closed_after_a_start (void **state)
{
    struct log_setting *s = setting_of (state);
    close_epoch (s->log, 1, 3);
    (void) reopen (s);
    expect_closed (s->log, 1, 3);
}

static void a_closed_epoch_is_closed_when_its_segment_is_gone (void **state)
{
    struct log_setting *s = setting_of (state);
    close_epoch (s->log, 500, 3);
    new_segments (s->log, 3);
    (void) reopen (s);
    expect_closed (s->log, 500, 3);         /* by the last segment's snapshot */
    s->options.retain_bytes = 1;
    (void) reopen (s);
    uint64_t first_offset;
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_true (first_offset > known_of (s->log, 500).last_offset);
    (void) reopen (s);
    expect_closed (s->log, 500, 3);
}

/* More streams than the table holds. */
static void others_come (struct log *log, unsigned first)
{
    for (unsigned other = first; other < first + 10; other++) {
        assert_int_equal (append (log, other, 1, 1), 0);
        kit_sync (log);
    }
}

static void a_closed_epoch_is_found_in_the_footers_when_the_table_forgot_it (void **state)
{
    struct log_setting *s = setting_of (state);
    s->options.streams_max = 3;
    (void) reopen (s);
    close_epoch (s->log, 500, 3);
    others_come (s->log, 600);
    expect_closed (s->log, 500, 3);         /* in the active segment's index */
    others_come (s->log, 610);
    new_segments (s->log, 3);
    (void) reopen (s);
    expect_closed (s->log, 500, 3);         /* in a footer */
    char path[256];
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, -1);
    (void) reopen (s);
    expect_closed (s->log, 500, 3);         /* by a scan of the records */
}

static void a_newer_epoch_opens_the_stream_again (void **state)
{
    struct log_setting *s = setting_of (state);
    close_epoch (s->log, 1, 3);
    assert_int_equal (append (s->log, 1, 4, 8), 0);
    assert_false (known_of (s->log, 1).closed);
    kit_sync (s->log);
    (void) reopen (s);
    assert_false (known_of (s->log, 1).closed);
    assert_int_equal (known_of (s->log, 1).epoch, 4);
}

static void behind_a_gap_of_a_newer_epoch_nothing_older_is_taken (void **state)
{
    struct log_setting *s = setting_of (state);
    uint64_t offset;
    assert_int_equal (append (s->log, 1, 3, 1), 0);
    struct log_gap gap = { .stream = kit_stream (1), .first_seq = 3, .end_seq = 10, .epoch = 4, .incarnation = 11,
                           .reason = FACTMESH__GAP_REASON__GAP_VOID };
    assert_int_equal (log_append_gap_of (s->log, &gap, &offset), 0);
    kit_sync (s->log);
    (void) reopen (s);
    assert_int_equal (known_of (s->log, 1).epoch, 4);
    assert_int_equal (append (s->log, 1, 3, 10), FM_ERR_LOST);
    gap = (struct log_gap) { .stream = gap.stream, .first_seq = 10, .end_seq = 11, .epoch = 3, .incarnation = 10 };
    assert_int_equal (log_append_gap_of (s->log, &gap, &offset), FM_ERR_LOST);
    assert_int_equal (append (s->log, 1, 4, 10), 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (a_closed_epoch_is_closed_after_a_start, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (a_closed_epoch_is_closed_when_its_segment_is_gone, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (a_closed_epoch_is_found_in_the_footers_when_the_table_forgot_it, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (a_newer_epoch_opens_the_stream_again, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (behind_a_gap_of_a_newer_epoch_nothing_older_is_taken, log_set_up, log_tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
