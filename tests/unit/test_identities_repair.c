/* Identities and repairs: what a repair puts back is judged by the log that it goes into, and found by the next start. */

#include "identities_kit.h"

#include "log_repair.h"

static void repair_from (const char *directory, const char *from)
{
    const struct log_options options = { .mesh = "test", .segment_bytes = 1 << 20 }, other_options = { .mesh = "test", .read_only = true };
    struct log *log, *other;
    struct repair_result result;
    assert_int_equal (log_open (directory, &options, NULL, &log), 0);
    assert_int_equal (log_open (from, &other_options, NULL, &other), 0);
    const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
    const struct repair_options how = { .source = &source };
    if (log_repair (log, &how, &result))
        fail_msg ("log_repair: %s", fm_error_detail ());
    assert_int_equal (result.left, 0);
    assert_true (result.refetched > 0);
    log_destroy (&log);
    log_destroy (&other);
}

/* The other journal met the same facts in another order: it takes others for the first. What it says must not come along. */
static void what_a_repair_puts_back_is_judged_by_the_log_that_it_goes_into (void **state)
{
    (void) state;
    char directory[128], other[128];
    struct log_options options = { .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 4 << 20 };
    struct identities x;
    struct log *log;
    uint64_t duplicates = 0;
    char path[256];
    kit_directory (directory);
    kit_directory (other);
    for (int k = 0; k < 2; k++) {
        identities_init (&x, IDENTITIES_MAX);
        assert_int_equal (log_open (k ? other : directory, &options, NULL, &log), 0);
        for (int i = 0; i < 60; i++)
            assert_int_equal (record_next (log, &x, k ? 1 + (unsigned) (WORK_STREAMS - 1 - i / 20) : 1 + (unsigned) i % WORK_STREAMS, 12000), 0);
        kit_sync (log);
        duplicates = check_log (log).duplicates;
        assert_int_equal (log_mark_idle (log), 0);
        log_destroy (&log);
        identities_release (&x);
    }
    assert_true (duplicates > 40);
    kit_segment_path (directory, 2, path);
    for (int64_t pos = 100000; pos < 900000; pos += 90000)
        kit_flip (path, pos);                   /* bodies: each owns what it lost */
    repair_from (directory, other);
    assert_int_equal (log_open (directory, &options, NULL, &log), 0);
    const struct oracle mended = check_log (log);
    assert_int_equal (mended.facts, 180);
    log_destroy (&log);
    kit_segment_path (directory, 1, path);
    kit_flip (path, 4096 + 3000);
    assert_int_equal (log_open (directory, &options, NULL, &log), 0);
    log_destroy (&log);
    kit_remove (directory);
    kit_remove (other);
}

/* Damaged when a start met it, the only identities of a segment are not in its footer, nor named by the segments that follow: until a repair brings them back. */
static void what_a_repair_puts_back_is_found_by_the_next_start (void **state)
{
    struct log_setting *s = setting_of (state);
    struct identities x;
    struct made first, again;
    char path[256], other[128];
    uint32_t unread;
    const struct fm_slice identity = slice_of ("once");
    make (&first, 1, 1, &identity, 1, 200);
    make (&again, 2, 1, &identity, 1, 200);
    identities_init (&x, IDENTITIES_MAX);
    assert_int_equal (record (s->log, &x, &first), 0);
    identities_release (&x);
    kit_sync (s->log);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    kit_directory (other);
    kit_copy (s->directory, other);
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, 4096 + 88 + 88 + 150);      /* behind an empty snapshot, in the body */
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    for (uint64_t seq = 1; seq <= 25; seq++) {
        const struct kit_batch_spec filler = { .stream = 9, .first_seq = seq, .count = 1, .payload_len = 100000 };
        kit_append_batch (s->log, &filler);
    }
    kit_sync (s->log);
    log_destroy (&s->log);
    repair_from (s->directory, other);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    assert_int_equal (identities_load (&x, s->log, &unread), 0);
    assert_int_equal (x.table.count, 1);
    assert_int_equal (record (s->log, &x, &again), 0);
    kit_sync (s->log);
    assert_int_equal (check_log (s->log).duplicates, 1);
    identities_release (&x);
    drop (&first);
    drop (&again);
    kit_remove (other);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (what_a_repair_puts_back_is_found_by_the_next_start, log_set_up, log_tear_down),
        cmocka_unit_test (what_a_repair_puts_back_is_judged_by_the_log_that_it_goes_into),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
