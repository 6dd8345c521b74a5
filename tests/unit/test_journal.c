/* journal: it records what publishers send, whatever happens to it: real nodes in one process, over tcp on loopback. What comes back is compared
 * with what was published, byte for byte. */

#include <errno.h>
#include <poll.h>

#include "../support/fail_fs.h"
#include "../support/journal_kit.h"

/* --- Recording. */

static void what_is_acknowledged_as_synced_comes_back_as_it_was (void **state)
{
    (void) state;
    struct scene s = scene_with (2000);
    expect_recorded (s.node, s.r, s.p, 2000);
    const struct fm_id stream = stream_of (s.p);
    struct log_stream known;
    assert_done (log_stream_get (journal_log (s.r->journal), &stream, &known));
    assert_int_equal (known.synced_seq, 2000);
    scene_end (&s);
}

static void a_lone_fact_is_synced_without_a_delay (void **state)
{
    (void) state;
    struct scene s = scene_with (1);
    /* The median: a busy machine may stall one or the other. */
    uint64_t took[51];
    for (unsigned i = 0; i < 51; i++) {
        const uint64_t start = node_now ();
        publish (s.p, 2 + i);
        wait_synced (s.p);
        took[i] = node_now () - start;
        for (unsigned k = i; k > 0 && took[k] < took[k - 1]; k--) {
            const uint64_t swap = took[k];
            took[k] = took[k - 1];
            took[k - 1] = swap;
        }
    }
    print_message ("publish to synced: median %.0f us\n", (double) took[25] / 1e3);
    assert_true (took[25] < (uint64_t) 200 * 1000000);
    scene_end (&s);
}

static void what_was_published_while_the_journal_was_away_is_fetched (void **state)
{
    (void) state;
    struct scene s = scene_start (recorder_new (NULL), NULL);
    publish_all (s.p, 1, 501);
    for (uint64_t n = 501; n < 2001; n += 500) {
        journal_destroy (&s.r->journal);    /* in the midst of what comes in */
        publish_all (s.p, n, n + 300);
        recorder_start (s.r);
        publish_all (s.p, n + 300, n + 500);
    }
    wait_synced (s.p);
    expect_recorded (s.node, s.r, s.p, 2000);
    scene_end (&s);
}

static void frames_that_were_dropped_are_fetched_from_the_window (void **state)
{
    (void) state;
    struct scene s = { .r = recorder_new (NULL) };
    s.r->options.live_queue = 1;
    recorder_start (s.r);
    const struct fm_node_options options = { .mesh = "test", .seeds = fm_node_address (s.r->node), .bind = "tcp://127.0.0.1:*", .beacon_port = -1,
                                             .live_queue = 1 };
    assert_done (fm_node_open (&options, &s.node));
    const struct fm_publisher_options small = { .batch_us = -1 };
    assert_done (fm_publisher_open (s.node, &small, &s.p));
    assert_done (fm_node_wait_journal (s.node, PATIENCE_MS));
    publish (s.p, 1);
    wait_synced (s.p);
    publish_all (s.p, 2, 20001);
    wait_synced (s.p);
    assert_true (recorder_counter (s.r, JOURNAL_BATCHES_REPAIRED) > 0);
    expect_recorded (s.node, s.r, s.p, 20000);
    scene_end (&s);
}

static void a_publisher_beside_the_journal_is_recorded_and_repaired_like_any_other (void **state)
{
    (void) state;
    struct scene s = { .r = recorder_new (NULL) };
    s.r->options.live_queue = 1;            /* frames are dropped: intake asks its own node */
    recorder_start (s.r);
    const struct fm_publisher_options small = { .batch_us = -1 };
    assert_done (fm_publisher_open (s.r->node, &small, &s.p));
    publish (s.p, 1);
    wait_synced (s.p);
    publish_all (s.p, 2, 20001);
    wait_synced (s.p);
    s.node = open_node ("asker", fm_node_address (s.r->node));
    expect_recorded (s.node, s.r, s.p, 20000);
    scene_end (&s);
}

/* --- Publishers that come again. */

static void a_publisher_that_starts_again_goes_on_and_what_is_between_is_void (void **state)
{
    (void) state;
    char identity[128];
    kit_directory (identity);
    struct scene s = scene_start (recorder_new (NULL), identity);
    publish_all (s.p, 1, 101);
    wait_synced (s.p);
    const struct fm_id stream = stream_of (s.p);
    scene_publisher_again (&s, s.r, identity);
    const struct fm_id again = stream_of (s.p);
    assert_true (id_equal (&stream, &again));
    publish_all (s.p, 101, 201);
    wait_synced (s.p);
    const struct told t = replay_epochs (s.node, s.r, s.p, 101, 200);
    if (t.gaps)
        assert_int_equal (t.last_reason, FACTMESH__GAP_REASON__GAP_VOID);
    scene_end (&s);
    kit_remove (identity);
}

static void a_copied_identity_is_refused_and_its_publisher_told (void **state)
{
    (void) state;
    char identity[128], copy[128];
    kit_directory (identity);
    kit_directory (copy);
    struct scene s = scene_start (recorder_new (NULL), identity);
    struct fm_node *second = open_node ("second", fm_node_address (s.r->node));
    fm_publisher_close (&s.p);
    kit_remove (copy);
    kit_copy (identity, copy);
    s.p = open_publisher (s.node, identity);
    publish (s.p, 1);
    wait_synced (s.p);
    struct fm_publisher *q = open_publisher (second, copy);
    const struct fm_fact fact = { .topic = fm_text ("orders.placed"), .payload = fm_text ("x") };
    int rc = 0;
    const uint64_t until = node_now () + (uint64_t) PATIENCE_MS * 1000000;
    while (rc == 0 && node_now () < until) {
        rc = fm_publish (q, &fact, NULL);
        (void) poll (NULL, 0, 5);
    }
    assert_int_equal (rc, FM_ERR_LOST);
    assert_true (recorder_noticed (s.r, "STREAM-CONFLICT"));
    assert_true (recorder_counter (s.r, JOURNAL_STREAM_CONFLICTS) > 0);
    struct fm_publisher_state at;
    fm_publisher_state (s.p, &at);
    assert_int_equal (at.synced, at.head);
    fm_publisher_close (&q);
    fm_node_close (&second);
    scene_end (&s);
    kit_remove (identity);
    kit_remove (copy);
}

/* --- Disks. */

/* 300 facts, synced, by a journal on a disk that can fail. */
static struct scene scene_on (struct fail_fs *disk)
{
    struct recorder *r = recorder_new (NULL);
    r->options.log.fs = fail_fs_seam (disk);
    struct scene s = scene_start (r, NULL);
    publish_all (s.p, 1, 301);
    wait_synced (s.p);
    return s;
}

static void a_full_disk_stops_acknowledging_and_recovers_by_itself (void **state)
{
    (void) state;
    struct fail_fs *disk = fail_fs_new ();
    struct scene s = scene_on (disk);
    fail_fs_disk_full (disk, true);
    publish_all (s.p, 301, 601);
    assert_int_equal (fm_publisher_wait_synced (s.p, 0, 300), FM_TIMEOUT);
    struct fm_publisher_state at;
    fm_publisher_state (s.p, &at);
    assert_true (at.synced < 600);
    assert_true (recorder_noticed (s.r, "DISK-FULL"));
    expect_recorded (s.node, s.r, s.p, 300);        /* what is there is served */
    fail_fs_disk_full (disk, false);
    wait_synced (s.p);
    assert_true (recorder_noticed (s.r, "DISK-ROOM"));
    expect_recorded (s.node, s.r, s.p, 600);
    scene_end (&s);
    fail_fs_destroy (&disk);
}

/* Its disk takes nothing, so that it cannot be synced before the end, and the journal says so. */
static void what_a_journal_received_and_ended_before_it_synced_is_fetched_from_the_window (void **state)
{
    (void) state;
    struct fail_fs *disk = fail_fs_new ();
    struct scene s = scene_on (disk);
    struct fm_publisher_state at = { .received = 0 };
    fail_fs_disk_full (disk, true);
    publish_all (s.p, 301, 601);
    for (const uint64_t until = node_now () + (uint64_t) PATIENCE_MS * 1000000; at.received < 600 && node_now () < until; (void) poll (NULL, 0, 5))
        fm_publisher_state (s.p, &at);
    assert_int_equal (at.received, 600);
    assert_int_equal (at.synced, 300);
    journal_destroy (&s.r->journal);
    fail_fs_disk_full (disk, false);
    recorder_start (s.r);
    wait_synced (s.p);
    expect_recorded (s.node, s.r, s.p, 600);
    scene_end (&s);
    fail_fs_destroy (&disk);
}

static void after_a_failed_sync_nothing_is_acknowledged_and_what_is_synced_is_served (void **state)
{
    (void) state;
    struct fail_fs *disk = fail_fs_new ();
    struct scene s = scene_on (disk);
    fail_fs_fail (disk, FAIL_SYNC, 1, -EIO);
    publish_all (s.p, 301, 401);
    assert_int_equal (fm_publisher_wait_synced (s.p, 0, 500), FM_TIMEOUT);
    assert_true (recorder_noticed (s.r, "JOURNAL-READ-ONLY"));
    expect_recorded (s.node, s.r, s.p, 300);
    /* A new start finds the disk well, and fetches the rest from the window. */
    journal_destroy (&s.r->journal);
    recorder_start (s.r);
    wait_synced (s.p);
    expect_recorded (s.node, s.r, s.p, 400);
    scene_end (&s);
    fail_fs_destroy (&disk);
}

static void what_was_acknowledged_survives_power_loss (void **state)
{
    (void) state;
    for (unsigned seed = 1; seed <= 12; seed++) {
        struct recorder *r = recorder_new (NULL);
        struct fail_fs *disk = fail_fs_new ();
        r->options.log.fs = fail_fs_seam (disk);
        struct scene s = scene_start (r, NULL);
        assert_done (fm_node_wait_journal (s.node, PATIENCE_MS));
        fail_fs_power_off (disk, seed * 7);
        for (uint64_t n = 1; n <= 2000; n++) {
            publish (s.p, n);
            if (n % 20 == 0)
                (void) fm_publisher_wait_synced (s.p, 0, 5);
        }
        struct fm_publisher_state at;
        fm_publisher_state (s.p, &at);
        const uint64_t acknowledged = at.synced;
        journal_destroy (&r->journal);
        fail_fs_power_loss (disk, seed, seed * 37 % 100);
        r->options.log.fs = NULL;
        recorder_start (r);
        const struct fm_id stream = stream_of (s.p);
        struct log_stream known = { .synced_seq = 0 };
        (void) log_stream_get (journal_log (r->journal), &stream, &known);
        assert_true (known.synced_seq >= acknowledged);
        wait_synced (s.p);
        expect_recorded (s.node, r, s.p, 2000);
        scene_end (&s);
        fail_fs_destroy (&disk);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (what_is_acknowledged_as_synced_comes_back_as_it_was),
        cmocka_unit_test (a_lone_fact_is_synced_without_a_delay),
        cmocka_unit_test (what_was_published_while_the_journal_was_away_is_fetched),
        cmocka_unit_test (frames_that_were_dropped_are_fetched_from_the_window),
        cmocka_unit_test (a_publisher_beside_the_journal_is_recorded_and_repaired_like_any_other),
        cmocka_unit_test (a_publisher_that_starts_again_goes_on_and_what_is_between_is_void),
        cmocka_unit_test (a_copied_identity_is_refused_and_its_publisher_told),
        cmocka_unit_test (a_full_disk_stops_acknowledging_and_recovers_by_itself),
        cmocka_unit_test (what_a_journal_received_and_ended_before_it_synced_is_fetched_from_the_window),
        cmocka_unit_test (after_a_failed_sync_nothing_is_acknowledged_and_what_is_synced_is_served),
        cmocka_unit_test (what_was_acknowledged_survives_power_loss),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
