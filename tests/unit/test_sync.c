/* sync: what its thread says of segments that expire, and of those that cannot be removed. */

#include "fake_journal.h"

#include <unistd.h>

#include "marks.h"
#include "sync.h"

enum { SEGMENTS = 5, KEPT_BYTES = 2 << 20, EACH_BYTES = 100000, EACH = 10 };

int node_tell (struct fm_node *node, const struct fm_id *to, zmq_msg_t *message)
{
    (void) node, (void) to, (void) message;
    return FM_ERR_UNREACHABLE;
}

/* --- A file system that removes nothing, while the test says so. */

static struct fs files;
static atomic_bool keeps_all;

static int unlink_or_not (void *context, int dir, const char *name)
{
    return atomic_load (&keeps_all) ? -EROFS : fs_real.unlink (context, dir, name);
}

/* --- A journal with segments that are to go, and its sync thread. */

static struct sync *sync_thread;

static int set_up (void **state)
{
    struct fake_journal *j = calloc (1, sizeof *j);
    assert_non_null (j);
    fake_begin (j);
    assert_int_equal (fake_open (j), 0);
    log_destroy (&j->context.log);
    files = fs_real;
    files.unlink = unlink_or_not;
    atomic_store (&keeps_all, false);
    j->options.fs = &files;
    j->options.retain_bytes = KEPT_BYTES;
    assert_int_equal (log_open (j->directory, &j->options, NULL, &j->context.log), 0);
    assert_int_equal (wake_init (&j->context.room), 0);
    assert_int_equal (marks_new (16, &j->context.marks), 0);
    for (uint64_t seq = 1; seq <= SEGMENTS * EACH; seq++) {
        (void) kit_append_batch (j->context.log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = EACH_BYTES });
        assert_int_equal (fake_sync (j), 0);
    }
    *state = j;
    return 0;
}

static int tear_down (void **state)
{
    struct fake_journal *j = *state;
    sync_destroy (&sync_thread);
    marks_destroy (&j->context.marks);
    wake_release (&j->context.room);
    fake_end (j);
    free (j);
    return 0;
}

static void expect_notice (const char *start, const char *words)
{
    fake_wait_notice (start);
    bool found = false;
    pthread_mutex_lock (&fake.lock);
    for (unsigned i = 0; i < fake.notice_count; i++)
        found = found || (strncmp (fake.notices[i], start, strlen (start)) == 0 && strstr (fake.notices[i], words));
    pthread_mutex_unlock (&fake.lock);
    if (!found)
        fail_msg ("no %s with '%s'", start, words);
}

/* What is told as gone is not served, though its file is still there; it goes as soon as it can. */
static void segments_that_cannot_be_removed_are_told_of_and_go_later (void **state)
{
    struct fake_journal *j = *state;
    const uint64_t until = clock_real.monotonic_ns (NULL) + FAKE_PATIENCE_MS * (uint64_t) FAKE_NS_PER_MS;
    char path[256];
    struct log_position at;
    kit_segment_path (j->directory, 1, path);
    atomic_store (&keeps_all, true);
    assert_int_equal (sync_new (&j->context, &sync_thread), 0);
    expect_notice ("RETAIN-FAILED", "cannot remove segment 0000000001.seg");
    expect_notice ("RETAIN-FAILED", "tried again in 5000 ms");
    expect_notice ("SEGMENTS-DROPPED", " was=1 ");
    assert_int_equal (journal_counter (&j->context, JOURNAL_RETAIN_FAILED), 1);
    log_position (j->context.log, &at);
    assert_true (at.first_offset > 1);
    assert_int_equal (access (path, F_OK), 0);
    fake_forget_notices ();
    atomic_store (&keeps_all, false);
    fake.skipped_ns += SYNC_RETAIN_MS * (uint64_t) FAKE_NS_PER_MS;
    while (access (path, F_OK) == 0) {
        assert_true (clock_real.monotonic_ns (NULL) < until);
        (void) poll (NULL, 0, 1);
    }
    sync_destroy (&sync_thread);
    assert_int_equal (journal_counter (&j->context, JOURNAL_RETAIN_FAILED), 1);
    assert_false (fake_noticed ("RETAIN-FAILED"));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (segments_that_cannot_be_removed_are_told_of_and_go_later, set_up, tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
