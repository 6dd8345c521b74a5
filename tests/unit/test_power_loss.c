/* kill -9, power loss and failing disks at every call: never less than what was acknowledged, never something that
 * nobody appended. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"
#include "error.h"
#include "factmesh.pb-c.h"

struct acknowledged {
    uint64_t next_seq[WORK_STREAMS + 1];     /* synced */
    uint64_t appended[WORK_STREAMS + 1];
};

/* Append, write and sync for some rounds; what a sync acknowledged is noted. Returns the first error, 0: none. */
static int work (struct log *log, struct acknowledged *a, size_t largest, int rounds)
{
    for (int round = 0; round < rounds; round++) {
        for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
            for (int i = 0; i < 4; i++) {
                const int rc = work_append (log, stream, largest);
                if (rc)
                    return rc;
                a->appended[stream] = work_next_seq (log, stream);
            }
        int rc;
        while ((rc = log_write (log)) == 0)
            ;
        if (rc != FM_ERR_END)
            return rc;
        if (round % 2 == 1) {
            rc = log_sync (log, NULL);
            if (rc)
                return rc;
            struct log_stream streams[WORK_STREAMS];
            size_t count;
            assert_int_equal (log_synced_streams (log, streams, WORK_STREAMS, &count), 0);
            for (size_t i = 0; i < count; i++)
                a->next_seq[work_stream (&streams[i].stream)] = streams[i].synced_seq + 1;
            if (round % 6 == 5 && (rc = log_mark_idle (log)) != 0)
                return rc;
        }
    }
    return 0;
}

static void check_after (struct log *log, const struct acknowledged *a, size_t largest)
{
    struct work_contents c = work_check (log, largest);
    assert_int_equal (c.gaps, 0);
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++) {
        assert_true (c.next_seq[stream] >= a->next_seq[stream]);
        assert_true (c.next_seq[stream] <= (a->appended[stream] ? a->appended[stream] : 1));
    }
    work_check_streams (log, &c);
    struct log_verify_result verified;
    assert_int_equal (log_verify (log, NULL, NULL, NULL, &verified), 0);
    assert_int_equal (verified.damaged, 0);
}

/* One life: a failing file system under it from the first call on. Returns false when the failure never came. */
static bool live_and_die (unsigned long n, unsigned keep_percent, bool power)
{
    char directory[128];
    struct log *log = NULL;
    struct acknowledged a = { 0 };
    enum { LARGEST = 30000 };
    kit_directory (directory);
    struct fail_fs *f = fail_fs_new ();
    struct log_options options = {
        .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 4 << 20, .fs = fail_fs_seam (f)
    };
    if (power)
        fail_fs_power_off (f, n);
    else
        fail_fs_fail (f, FAIL_ANY, n, -EIO);
    int rc = log_open (directory, &options, NULL, &log);
    if (rc == 0)
        rc = work (log, &a, LARGEST, 12);
    log_destroy (&log);
    const bool happened = fail_fs_happened (f);
    if (power)
        fail_fs_power_loss (f, (unsigned) n, keep_percent);
    fail_fs_destroy (&f);
    options.fs = NULL;
    rc = log_open (directory, &options, NULL, &log);
    if (rc)
        fail_msg ("n=%lu: log_open: %d %s", n, rc, fm_error_detail ());
    check_after (log, &a, LARGEST);
    /* Life goes on, and the next start finds it all. */
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        a.appended[stream] = work_next_seq (log, stream);
    assert_int_equal (work (log, &a, LARGEST, 4), 0);
    log_destroy (&log);
    assert_int_equal (log_open (directory, &options, NULL, &log), 0);
    check_after (log, &a, LARGEST);
    log_destroy (&log);
    kit_remove (directory);
    return happened;
}

static void whichever_call_fails_nothing_acknowledged_is_lost (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (live_and_die (n, 0, false))
        n++;
    assert_true (n > 60);
}

static void whenever_the_power_goes_nothing_acknowledged_is_lost (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (live_and_die (n, (unsigned) (n * 37) % 101, true))
        n++;
    assert_true (n > 60);
}

/* Killed at the n-th call, started again, and then the power goes: what the first life had not synced, names above all, the second one stands on. */
static bool die_twice (unsigned long n)
{
    char directory[128];
    struct log *log = NULL;
    struct acknowledged a = { 0 };
    enum { LARGEST = 30000 };
    kit_directory (directory);
    struct fail_fs *f = fail_fs_new ();
    struct log_options options = {
        .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 4 << 20, .fs = fail_fs_seam (f)
    };
    fail_fs_power_off (f, n);
    if (log_open (directory, &options, NULL, &log) == 0)
        (void) work (log, &a, LARGEST, 4);
    log_destroy (&log);
    const bool happened = fail_fs_happened (f);
    fail_fs_go_on (f);
    assert_int_equal (log_open (directory, &options, NULL, &log), 0);
    assert_int_equal (work (log, &a, LARGEST, 2), 0);
    log_destroy (&log);
    fail_fs_power_loss (f, (unsigned) n, 0);
    fail_fs_destroy (&f);
    options.fs = NULL;
    if (log_open (directory, &options, NULL, &log) != 0)
        fail_msg ("n=%lu: log_open: %s", n, fm_error_detail ());
    check_after (log, &a, LARGEST);
    log_destroy (&log);
    kit_remove (directory);
    return happened;
}

static void a_kill_and_then_a_power_loss_lose_nothing_acknowledged (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (die_twice (n))
        n++;
    assert_true (n > 20);
}

static void a_failed_sync_is_never_retried (void **state)
{
    struct log_setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    assert_int_equal (work_append (s->log, 1, 100), 0);
    assert_int_equal (log_write (s->log), 0);
    fail_fs_fail (f, FAIL_SYNC, 1, -EIO);
    assert_int_equal (log_sync (s->log, NULL), -EIO);
    assert_true (log_is_read_only (s->log));
    const unsigned long calls = fail_fs_calls (f);
    assert_int_equal (log_sync (s->log, NULL), FM_ERR_READ_ONLY);
    assert_int_equal (log_write (s->log), FM_ERR_READ_ONLY);
    assert_int_equal (log_mark_idle (s->log), FM_ERR_READ_ONLY);
    assert_int_equal (work_append (s->log, 1, 100), FM_ERR_READ_ONLY);
    assert_int_equal (fail_fs_calls (f), calls);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.synced_offset, 1);
    s->options.fs = NULL;
    reopen (s);
    fail_fs_destroy (&f);
}

/* The page cache shows records that the disk does not have, and no fsync will write them. A start that took them for
 * synced would tell publishers to drop them. */
static void what_a_failed_sync_left_in_the_page_cache_is_made_durable_by_the_next_start (void **state)
{
    struct log_setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    for (int round = 0; round < 2; round++) {       /* the second time within a segment that was sealed, too */
        for (int i = 0; i < 20; i++)
            assert_int_equal (work_append (s->log, 1 + (unsigned) i % WORK_STREAMS, 20000), 0);
        assert_int_equal (log_write (s->log), 0);
        fail_fs_fail (f, FAIL_SYNC, 1, -EIO);
        assert_int_equal (log_sync (s->log, NULL), -EIO);
        reopen (s);
        struct work_contents c = work_check (s->log, 20000);
        assert_int_equal (c.batches, 20 * (round + 1));
    }
    /* The sync of a seal fails: the file looks sealed. */
    for (int i = 0; i < 70; i++)
        assert_int_equal (work_append (s->log, 1 + (unsigned) i % WORK_STREAMS, 20000), 0);
    fail_fs_fail (f, FAIL_SYNC, 1, -EIO);
    assert_int_equal (log_write (s->log), -EIO);
    reopen (s);
    struct work_contents before = work_check (s->log, 20000);
    assert_true (before.batches > 40);
    log_destroy (&s->log);
    fail_fs_power_loss (f, 1, 0);
    s->options.fs = NULL;
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    struct work_contents after = work_check (s->log, 20000);
    assert_int_equal (after.batches, before.batches);
    assert_int_equal (after.gaps, 0);
    fail_fs_destroy (&f);
}

/* Strangers' connections can take the descriptor that a new segment needs. */
static void without_a_descriptor_a_segment_is_begun_later (void **state)
{
    static const int errors[] = { -EMFILE, -ENFILE, -ENOMEM };
    struct log_setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
        for (int i = 0; i < 60; i++)
            assert_int_equal (work_append (s->log, 1 + (unsigned) i % WORK_STREAMS, 30000), 0);
        fail_fs_fail (f, FAIL_OPEN, 1, errors[e]);
        assert_int_equal (log_write (s->log), errors[e]);
        assert_false (log_is_read_only (s->log));
        assert_int_equal (log_sync (s->log, NULL), 0);  /* what the full segment has is durable meanwhile */
        fail_fs_fail (f, FAIL_OPEN, 0, 0);
        kit_sync (s->log);
    }
    assert_int_equal (work_check (s->log, 30000).batches, 180);
    fail_fs_power_loss (f, 1, 0);
    fail_fs_go_on (f);
    reopen (s);
    const struct work_contents c = work_check (s->log, 30000);
    assert_int_equal (c.batches, 180);
    assert_int_equal (c.gaps, 0);
    s->options.fs = NULL;
    reopen (s);
    fail_fs_destroy (&f);
}

static void a_full_disk_loses_nothing_and_recovers_by_itself (void **state)
{
    struct log_setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    for (int i = 0; i < 60; i++)
        assert_int_equal (work_append (s->log, 1 + (unsigned) i % WORK_STREAMS, 30000), 0);
    /* Full at any write: of records, of a footer, of a new segment; each time a little later. */
    int full = 0, rc;
    for (unsigned long n = 1;; n++) {
        fail_fs_fail (f, FAIL_WRITE, n, -ENOSPC);
        rc = log_write (s->log);
        if (rc != -ENOSPC)
            break;
        assert_false (log_is_read_only (s->log));
        full++;
    }
    assert_int_equal (rc, 0);
    assert_true (full >= 2);
    fail_fs_fail (f, FAIL_WRITE, 0, 0);
    for (int i = 0; i < 60; i++)
        assert_int_equal (work_append (s->log, 1 + (unsigned) i % WORK_STREAMS, 30000), 0);
    fail_fs_disk_full (f, true);
    for (int i = 0; i < 3; i++)
        assert_int_equal (log_write (s->log), -ENOSPC);
    assert_int_equal (log_sync (s->log, NULL), 0);
    fail_fs_disk_full (f, false);
    kit_sync (s->log);
    struct work_contents c = work_check (s->log, 30000);
    assert_int_equal (c.batches, 120);
    assert_int_equal (c.gaps, 0);
    s->options.fs = NULL;
    reopen (s);
    assert_int_equal (work_check (s->log, 30000).batches, 120);
    fail_fs_destroy (&f);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up_real_clock, log_tear_down)
        CASE (a_failed_sync_is_never_retried),
        CASE (what_a_failed_sync_left_in_the_page_cache_is_made_durable_by_the_next_start),
        CASE (without_a_descriptor_a_segment_is_begun_later),
        CASE (a_full_disk_loses_nothing_and_recovers_by_itself),
        cmocka_unit_test (whichever_call_fails_nothing_acknowledged_is_lost),
        cmocka_unit_test (whenever_the_power_goes_nothing_acknowledged_is_lost),
        cmocka_unit_test (a_kill_and_then_a_power_loss_lose_nothing_acknowledged),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
