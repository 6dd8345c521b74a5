/* The log as its users see it: append, write, sync, roll, close, open. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/log_kit.h"
#include "error.h"

struct setting {
    char directory[128];
    struct log *log;
    struct kit_clock clock;
    struct log_options options;
};

static struct setting *setting_of (void **state)
{
    return *state;
}

static int set_up (void **state)
{
    struct setting *s = calloc (1, sizeof *s);
    kit_directory (s->directory);
    kit_clock_init (&s->clock);
    s->options = (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20, .clock = &s->clock.clock };
    *state = s;
    return log_open (s->directory, &s->options, NULL, &s->log);
}

static int tear_down (void **state)
{
    struct setting *s = *state;
    log_destroy (&s->log);
    kit_remove (s->directory);
    free (s);
    return 0;
}

static struct log_recovery reopen (struct setting *s)
{
    struct log_recovery recovery;
    log_destroy (&s->log);
    assert_int_equal (log_open (s->directory, &s->options, &recovery, &s->log), 0);
    return recovery;
}

/* Read all of the log and compare: batches of `count` facts of one stream, from first_seq on. Returns how many batches there were. */
static uint64_t read_all (struct log *log, const struct kit_batch_spec *spec)
{
    struct kit_batch_spec expected = *spec;
    struct log_reader *r;
    struct log_item item;
    uint64_t batches = 0;
    int rc;
    assert_int_equal (log_reader_new (log, &r), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        assert_true (kit_item_is (&item, &expected));
        expected.first_seq += expected.count;
        batches++;
    }
    assert_int_equal (rc, FM_ERR_END);
    log_reader_destroy (&r);
    return batches;
}

static void a_new_directory_is_an_empty_log (void **state)
{
    struct setting *s = setting_of (state);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.end_offset, 1);
    assert_int_equal (position.synced_offset, 1);
    assert_int_equal (position.first_offset, 1);
    assert_string_equal (log_mesh (s->log), "test");
    struct fm_id id;
    uint64_t generation;
    log_identity (s->log, &id, &generation);
    assert_false (id_is_zero (&id));
    assert_int_equal (generation, 1);
    assert_int_equal (log_write (s->log), FM_ERR_END);
}

static void what_is_synced_reads_back_the_same (void **state)
{
    struct setting *s = setting_of (state);
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 3, .payload_len = 100 };
    for (int i = 0; i < 100; i++, spec.first_seq += 3)
        assert_int_equal (kit_append_batch (s->log, &spec), 1 + 3 * i);
    spec.first_seq = 1;
    assert_int_equal (read_all (s->log, &spec), 0);     /* not synced: not to be read */
    kit_sync (s->log);
    assert_int_equal (read_all (s->log, &spec), 100);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    assert_int_equal (recovery.damaged_ranges, 0);
    assert_int_equal (read_all (s->log, &spec), 100);
    struct log_stream stream;
    struct fm_id id = kit_stream (1);
    assert_int_equal (log_stream_get (s->log, &id, &stream), 0);
    assert_int_equal (stream.last_seq, 300);
    assert_int_equal (stream.synced_seq, 300);
    assert_int_equal (stream.first_seq, 1);
}

static void append_rolls_when_the_record_does_not_fit (void **state)
{
    struct setting *s = setting_of (state);
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 100000 };
    for (int i = 0; i < 50; i++, spec.first_seq++)
        kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    struct log_segment_info info[20];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 20, &count), 0);
    assert_int_equal (count, 5);
    uint64_t offset = 1;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal (info[i].number, i + 1);
        assert_int_equal (info[i].first_offset, offset);
        assert_int_equal (info[i].records, 10);
        assert_int_equal (info[i].sealed, i + 1 < count);
        offset = info[i].end_offset;
    }
    assert_int_equal (offset, 51);
    spec.first_seq = 1;
    assert_int_equal (read_all (s->log, &spec), 50);
    reopen (s);
    assert_int_equal (read_all (s->log, &spec), 50);
    struct log_verify_result verified;
    assert_int_equal (log_verify (s->log, NULL, NULL, NULL, &verified), 0);
    assert_int_equal (verified.damaged, 0);
    assert_int_equal (verified.facts, 50);
    assert_int_equal (verified.segments, 5);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (a_new_directory_is_an_empty_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown (what_is_synced_reads_back_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown (append_rolls_when_the_record_does_not_fit, set_up, tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
