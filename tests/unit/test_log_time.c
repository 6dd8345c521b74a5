/* The log as time passes: clocks that jump, segments that roll and go by age. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"

static void the_journals_time_never_goes_back (void **state)
{
    struct log_setting *s = setting_of (state);
    static const int64_t steps[] = { 5, -1000, 3, -4, 2000, 0, -1 };
    for (uint64_t seq = 1; seq <= 7; seq++) {
        s->clock.now_ns += (uint64_t) (steps[seq - 1] * 1000000000);
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1 });
        kit_sync (s->log);
        if (seq == 4)
            reopen (s);
    }
    struct log_reader *r;
    struct log_item item;
    uint64_t last = 0;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    while (log_reader_next (r, &item) == 0) {
        assert_true (item.time_ns >= last);
        last = item.time_ns;
    }
    log_reader_destroy (&r);
}

/* Ten years ahead, twenty back, and on: order, times and seeking hold, also after a start in between. */
static void a_clock_that_jumps_by_years_breaks_nothing (void **state)
{
    struct log_setting *s = setting_of (state);
    static const int64_t years[] = { 0, 10, -20, 1, 30, -30 };
    s->options.segment_age_ms = 60000;
    reopen (s);
    uint64_t seq = 1, last_ns = 0;
    for (unsigned jump = 0; jump < 6; jump++) {
        s->clock.now_ns = (uint64_t) ((int64_t) s->clock.now_ns + years[jump] * 365 * 86400 * 1000000000);
        for (unsigned i = 0; i < 5; i++, seq++) {
            kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1 });
            s->clock.now_ns += 1000000;
            kit_sync (s->log);
        }
        if (jump % 2)
            reopen (s);
    }
    struct log_reader *r;
    uint64_t offset, expected = 1;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    for (struct log_item item; log_reader_next (r, &item) == 0; expected++) {
        assert_true (item.first_seq == expected && item.time_ns >= last_ns);
        last_ns = item.time_ns;
    }
    assert_int_equal (expected, seq);
    assert_int_equal (log_reader_seek_time (r, last_ns, &offset), 0);
    struct log_item item = expect_next (r);
    assert_true (item.time_ns == last_ns && item.offset == offset);
    assert_int_equal (log_reader_seek_time (r, 0, &offset), 0);
    assert_int_equal (offset, 1);
    log_reader_destroy (&r);
}

static void an_old_segment_rolls_even_when_idle (void **state)
{
    struct log_setting *s = setting_of (state);
    s->options.segment_age_ms = 60000;
    reopen (s);
    struct log_segment_info info[8];
    size_t count;
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 1 });
    kit_sync (s->log);
    s->clock.now_ns += UINT64_C (61000000000);
    assert_int_equal (log_write (s->log), 0);
    assert_int_equal (log_segment_list (s->log, info, 8, &count), 0);
    assert_int_equal (count, 2);
    s->clock.now_ns += UINT64_C (61000000000);
    assert_int_equal (log_write (s->log), FM_ERR_END);      /* an empty one does not */
    s->options.retain_age_ms = 10000;
    reopen (s);
    uint64_t first;
    assert_int_equal (log_retain (s->log, &first), 0);
    assert_int_equal (first, 2);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.end_offset, 2);
}

/* The sum of the segment files' numbers. */
static uint64_t files_of (const char *directory)
{
    uint64_t sum = 0;
    for (uint64_t number = 1; number < 32; number++) {
        char path[256];
        kit_segment_path (directory, number, path);
        sum += access (path, F_OK) == 0 ? number : 0;
    }
    return sum;
}

/* Each call of a retention pass fails once: the next pass removes what is left, and nothing else. */
static void a_segment_that_could_not_be_removed_is_removed_by_the_next_pass (void **state)
{
    struct log_setting *s = setting_of (state);
    fill_segments (s, 8);
    char copy[128];
    kit_directory (copy);
    kit_remove (copy);
    kit_copy (s->directory, copy);
    unsigned long failures = 0;
    for (unsigned long n = 1;; n++) {
        struct fail_fs *f = fail_fs_new ();
        char directory[128];
        kit_directory (directory);
        kit_remove (directory);
        kit_copy (copy, directory);
        const struct log_options options = { .segment_bytes = 1 << 20, .retain_bytes = 3 << 20, .fs = fail_fs_seam (f), .clock = &s->clock.clock };
        struct log *log;
        assert_int_equal (log_open (directory, &options, NULL, &log), 0);
        fail_fs_fail (f, FAIL_ANY, n, -EIO);
        const int rc = log_retain (log, NULL);
        const bool happened = fail_fs_happened (f);
        fail_fs_fail (f, FAIL_ANY, 0, 0);
        assert_int_equal (rc, happened ? -EIO : 0);
        assert_int_equal (log_retain (log, NULL), 0);
        assert_int_equal (files_of (directory), 6 + 7 + 8);
        uint64_t offset;
        struct log_reader *r;
        assert_int_equal (log_reader_new (log, &r), 0);
        assert_int_equal (log_reader_seek_time (r, 0, &offset), 0);
        assert_int_equal (offset, 5 * PER_SEGMENT + 1);
        log_reader_destroy (&r);
        log_destroy (&log);
        fail_fs_destroy (&f);
        kit_remove (directory);
        failures += happened;
        if (!happened)
            break;
    }
    assert_true (failures >= 10);           /* an unlink and a sync of the directory for each of five */
    kit_remove (copy);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (a_segment_that_could_not_be_removed_is_removed_by_the_next_pass),
        CASE (the_journals_time_never_goes_back),
        CASE (a_clock_that_jumps_by_years_breaks_nothing),
        CASE (an_old_segment_rolls_even_when_idle),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
