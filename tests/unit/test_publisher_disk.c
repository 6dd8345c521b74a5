/* publisher: a window that is kept on disk too. What left comes back in the next epoch, is served as it was sent, and a disk that takes nothing is a full
 * window. */

#include "../support/fail_fs.h"
#include "disk_publisher.h"

/* Facts of every size: none, small, the most that fits a frame, larger, the largest. */
static void publish_sizes (struct fm_publisher *p)
{
    static uint8_t payload[PAYLOAD_MAX_DEFAULT];
    static const size_t sizes[] = { 0, 1, 700, 64000, 0, 70000, PAYLOAD_MAX_DEFAULT, 3 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t k = 0; k < sizes[i]; k++)
            payload[k] = (uint8_t) (p->next_seq * 31 + k);
        (void) publish (p, i % 2 ? "t1" : "t0", slice (payload, sizes[i]));
    }
    assert_int_equal (fm_publisher_flush (p), 0);
    take_sent ();
}

/* ------------------------------------------------------------------ cases */

static void what_a_killed_publisher_sent_comes_back_and_is_served_as_it_was_sent (void **state)
{
    (void) state;
    uint64_t gap_end;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { 0 });
    publish_sizes (p);
    kill_into ("a", "b");
    fm_publisher_close (&p);

    p = open_in ("b", (struct fm_publisher_options) { 0 });
    const uint64_t epoch_first = p->identity.epoch_first_seq;
    assert_int_equal (p->identity.epoch, 2);
    assert_int_equal (epoch_first, 1 + IDENTITY_RESERVE_FIRST);
    assert_string_equal (fake.notice, "WINDOW-RECOVERED");
    struct fm_publisher_state st;
    fm_publisher_state (p, &st);
    assert_int_equal (st.recovered, 8);
    assert_int_equal (st.sent, epoch_first - 1);
    ask (p, 1, epoch_first);
    assert_int_equal (take_answer (1, &gap_end), 9);
    assert_int_equal (gap_end, epoch_first);

    /* Killed again, with facts of the second epoch: both are there, and what lies between is a journal's to call void. */
    publish_sizes (p);
    kill_into ("b", "c");
    fm_publisher_close (&p);
    p = open_in ("c", (struct fm_publisher_options) { 0 });
    ask (p, 4, p->identity.epoch_first_seq);
    assert_int_equal (take_answer (4, &gap_end), 9);
    assert_int_equal (gap_end, epoch_first);
    ask (p, epoch_first, p->identity.epoch_first_seq);
    assert_int_equal (take_answer (epoch_first, &gap_end), epoch_first + 8);
    assert_int_equal (gap_end, p->identity.epoch_first_seq);
    /* And on into the epoch that is. */
    (void) publish (p, "t0", slice_of ("x"));
    take_sent ();
    ask (p, p->identity.epoch_first_seq, p->identity.epoch_first_seq + 1);
    assert_int_equal (take_answer (p->identity.epoch_first_seq, &gap_end), p->identity.epoch_first_seq + 1);
    assert_int_equal (gap_end, 0);
    forget_sent ();
    fm_publisher_close (&p);
}

static void a_synced_window_comes_back_too_and_frames_are_shared_longer (void **state)
{
    (void) state;
    uint64_t gap_end;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .window_on_disk = FM_WINDOW_SYNCED });
    assert_int_equal (p->batch_ns, 1000 * 1000);
    publish_sizes (p);
    kill_into ("a", "b");
    fm_publisher_close (&p);
    p = open_in ("b", (struct fm_publisher_options) { .window_on_disk = FM_WINDOW_SYNCED, .batch_us = 70 });
    assert_int_equal (p->batch_ns, 70 * 1000);
    ask (p, 1, p->identity.epoch_first_seq);
    assert_int_equal (take_answer (1, &gap_end), 9);
    forget_sent ();
    fm_publisher_close (&p);
}

static void what_a_journal_synced_does_not_come_back (void **state)
{
    (void) state;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .batch_us = -1 });
    for (int i = 0; i < 20; i++)
        (void) publish (p, "t", slice_of ("x"));
    assert_int_equal (give_watermark (p, &journal_a, 1, 20, 15), 0);
    (void) publish (p, "t", slice_of ("x"));            /* the file learns of the mark with what is written next */
    kill_into ("a", "b");
    assert_int_equal (give_watermark (p, &journal_a, 1, 21, 21), 0);
    fm_publisher_close (&p);
    assert_false (has_file ("a/window"));               /* nothing in it is needed */

    p = open_in ("b", (struct fm_publisher_options) { 0 });
    assert_int_equal (p->window.start_seq, 16);
    assert_int_equal (p->recovered_seq, 21);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), FM_TIMEOUT);      /* what came back is waited for */
    (void) fake_journal_add (&journal_a);
    assert_int_equal (give_watermark (p, &journal_a, 1, 18, 18), 0);
    assert_int_equal (p->window.start_seq, 16);         /* below the epoch a mark alone says nothing */
    fake_journals_answer (p);
    assert_int_equal (p->window.start_seq, 19);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), FM_TIMEOUT);
    assert_int_equal (give_watermark (p, &journal_a, 1, 21, 21), 0);
    fake_journals_answer (p);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), 0);
    assert_int_equal (p->window.count, 0);
    assert_int_equal (p->window.start_seq, p->identity.epoch_first_seq);
    fm_publisher_close (&p);
}

static void what_was_not_synced_at_the_close_comes_back_too (void **state)
{
    (void) state;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { 0 });
    (void) publish (p, "t", slice_of ("x"));
    fm_publisher_close (&p);
    assert_true (has_file ("a/window"));
    struct fm_publisher *refused = NULL;
    const struct fm_publisher_options without = { .directory = path ("a") };
    assert_int_equal (fm_publisher_open (&fake, &without, &refused), FM_ERR_ARGUMENT);
    assert_non_null (strstr (fm_error_detail (), "window_on_disk"));
    p = open_in ("a", (struct fm_publisher_options) { 0 });
    assert_int_equal (p->recovered_seq, 1);
    assert_int_equal (p->identity.epoch_first_seq, 2);      /* closed in order: nothing lies between */
    (void) fake_journal_add (&journal_a);
    assert_int_equal (give_watermark (p, &journal_a, 1, 1, 1), 0);
    fake_journals_answer (p);
    fm_publisher_close (&p);
    assert_int_equal (fm_publisher_open (&fake, &without, &refused), 0);
    fm_publisher_close (&refused);
}

/* It stands still, say, when the next epoch begins: who asks that for what the one before let go is sent to it, not told that nobody has it. */
static void that_there_is_a_journal_is_known_in_the_epochs_after_a_kill (void **state)
{
    (void) state;
    for (unsigned told = 0; told < 2; told++) {
        const char *const first = told ? "b" : "a", *const second = told ? "c" : "a";
        struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .directory = path (first) });
        (void) publish (p, "t", slice_of ("x"));
        if (told) {
            assert_int_equal (give_watermark (p, &journal_a, 1, 1, 1), 0);
            kill_into (first, second);
        }
        fm_publisher_close (&p);
        for (unsigned epoch = 2; epoch < 4; epoch++) {
            p = open_publisher (&(struct fm_publisher_options) { .directory = path (second) });
            assert_int_equal (p->identity.epoch, epoch);
            ask (p, 1, 2);
            const Factmesh__Control *gap = fake.replies[fake.reply_taken];
            fake.reply_taken = fake.reply_count;
            assert_int_equal (gap->body_case, FACTMESH__CONTROL__BODY_REPLAY_DATA);
            assert_int_equal (gap->replay_data->n_gaps, 1);
            assert_int_equal (gap->replay_data->gaps[0]->reason, FACTMESH__GAP_REASON__GAP_SYNCED);
            assert_int_equal (gap->replay_data->gaps[0]->journal, told);
            fm_publisher_close (&p);
        }
    }
}

static void damage_is_told_and_costs_what_it_hit (void **state)
{
    (void) state;
    uint64_t gap_end;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .batch_us = -1 });
    for (int i = 0; i < 3; i++)
        (void) publish (p, "t", slice_of ("some payload"));
    kill_into ("a", "b");
    fm_publisher_close (&p);
    /* The second one's payload, on disk. */
    static char bytes[1 << 16];
    FILE *file = fopen (path ("b/window"), "r+b");
    assert_non_null (file);
    const size_t len = fread (bytes, 1, sizeof bytes, file);
    const char *first = memmem (bytes, len, "some payload", 12);
    assert_non_null (first);
    const char *second = memmem (first + 12, len - (size_t) (first + 12 - bytes), "some payload", 12);
    assert_non_null (second);
    assert_int_equal (fseek (file, second - bytes, SEEK_SET), 0);
    assert_int_equal (fwrite ("S", 1, 1, file), 1);
    assert_int_equal (fclose (file), 0);

    p = open_in ("b", (struct fm_publisher_options) { 0 });
    assert_string_equal (fake.notice, "WINDOW-DAMAGED");
    assert_non_null (strstr (fake.notice_text, " bytes and 0 batches"));
    assert_null (strstr (fake.notice_text, ": 0 bytes"));
    assert_int_equal (p->recovered_seq, 3);
    ask (p, 1, 4);
    assert_int_equal (take_answer (1, &gap_end), 2);
    assert_int_equal (gap_end, 3);
    ask (p, 3, 4);
    assert_int_equal (take_answer (3, &gap_end), 4);
    fm_publisher_close (&p);
}

static void a_window_that_came_back_is_bounded_and_counted (void **state)
{
    (void) state;
    static uint8_t payload[1000];
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .window_bytes = 200000, .when_full = FM_FAIL, .batch_us = -1 });
    int rc = 0;
    while (rc == 0) {
        const struct fm_fact fact = { .topic = slice_of ("t"), .payload = slice (payload, sizeof payload) };
        rc = fm_publish (p, &fact, NULL);
    }
    assert_int_equal (rc, FM_ERR_WINDOW_FULL);
    struct stat st;
    assert_int_equal (stat (path ("a/window"), &st), 0);
    assert_true (st.st_size < 200000 + PUBLISHER_DISK_SLACK);
    kill_into ("a", "b");
    const uint64_t last = p->next_seq - 1;
    fm_publisher_close (&p);

    /* A smaller one than it was: nothing is accepted before it fits, and all of it is there. */
    p = open_in ("b", (struct fm_publisher_options) { .window_bytes = 100000, .when_full = FM_FAIL, .batch_us = -1 });
    assert_int_equal (p->recovered_seq, last);
    const struct fm_fact fact = { .topic = slice_of ("t"), .payload = slice (payload, sizeof payload) };
    assert_int_equal (fm_publish (p, &fact, NULL), FM_ERR_WINDOW_FULL);
    (void) fake_journal_add (&journal_a);
    assert_int_equal (give_watermark (p, &journal_a, 1, last, last / 4), 0);
    fake_journals_answer (p);
    assert_int_equal (fm_publish (p, &fact, NULL), FM_ERR_WINDOW_FULL);
    assert_int_equal (give_watermark (p, &journal_a, 1, last, last), 0);
    fake_journals_answer (p);
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    fm_publisher_close (&p);
}

/* ------------------------------------------------------------------ a disk that does not take it */

/* Put a disk that can fail under the window's file. */
static struct fail_fs *failing_disk (struct fm_publisher *p)
{
    struct fail_fs *fail = fail_fs_new ();
    struct window window;
    struct window_file_found found;
    window_file_close (&p->disk, false);
    window_init (&window, 1 << 20, p->next_seq);
    assert_int_equal (window_file_open (fail_fs_seam (fail), &p->identity, slice_of ("test"), 1 << 20, false, &window, &p->disk, &found), 0);
    window_release (&window);
    return fail;
}

static void a_full_disk_fails_at_once_and_nothing_leaves_that_is_not_kept (void **state)
{
    (void) state;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .when_full = FM_FAIL, .batch_us = -1 });
    struct fail_fs *fail = failing_disk (p);
    const struct fm_fact fact = { .topic = slice_of ("t"), .payload = slice_of ("x") };
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    fail_fs_disk_full (fail, true);
    assert_int_equal (fm_publish (p, &fact, NULL), 0);          /* accepted before the disk was known to be full: it waits */
    assert_int_equal (fm_publish (p, &fact, NULL), -ENOSPC);
    static uint8_t large[100000];
    const struct fm_fact large_fact = { .topic = slice_of ("t"), .payload = slice (large, sizeof large) };
    assert_int_equal (fm_publish (p, &large_fact, NULL), -ENOSPC);
    assert_int_equal (p->next_seq, 3);
    take_sent ();
    assert_int_equal (sent_count, 1);
    /* Looked at now and then, and told once; the tick does not run wild. */
    const uint64_t due = publisher_tick (p, fake.now += MS);
    assert_true (due >= fake.now + MS);
    assert_string_equal (fake.notice, "WINDOW-NOT-WRITTEN");
    /* Room again: what waited leaves by itself. */
    fail_fs_disk_full (fail, false);
    fake.now += (uint64_t) PUBLISHER_DISK_RETRY_MS * MS;
    (void) publisher_tick (p, fake.now);
    take_sent ();
    assert_int_equal (sent_count, 2);
    assert_int_equal (fm_publish (p, &large_fact, NULL), 0);
    assert_int_equal (p->next_seq, 4);
    forget_sent ();
    fm_publisher_close (&p);
    fail_fs_destroy (&fail);
}

/* The first thing that the disk does not take is a fact too large for a frame: it is not accepted, and nothing of it is left behind. */
static void a_large_fact_that_the_disk_does_not_take_was_never_there (void **state)
{
    static const uint8_t large[100000];
    (void) state;
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .when_full = FM_FAIL, .batch_us = -1 });
    struct fail_fs *fail = failing_disk (p);
    const struct fm_fact fact = { .topic = slice_of ("large"), .payload = slice (large, sizeof large) };
    fail_fs_disk_full (fail, true);
    assert_int_equal (fm_publish (p, &fact, NULL), -ENOSPC);
    assert_int_equal (p->next_seq, 1);
    assert_int_equal (p->window.count, 0);
    fail_fs_disk_full (fail, false);
    assert_int_equal (publish (p, "small", slice_of ("x")), 1);
    assert_true (receive_batch (&message, &topic, &b));
    assert_true (slice_equal (topic, slice_of ("small")));
    assert_int_equal (b.topic_count, 1);
    zmq_msg_close (&message);
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    assert_true (receive_batch (&message, &topic, &b));
    uint64_t prev = 99;
    assert_true (b.first_seq == 2 && b.announced_len > 0 && batch_prev (&b, slice_of ("large"), &prev));
    assert_int_equal (prev, 0);
    zmq_msg_close (&message);
    fm_publisher_close (&p);
    fail_fs_destroy (&fail);
}

static void a_full_disk_blocks_for_its_time (void **state)
{
    (void) state;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .block_ms = 60, .batch_us = -1 });
    struct fail_fs *fail = failing_disk (p);
    const struct fm_fact fact = { .topic = slice_of ("t"), .payload = slice_of ("x") };
    fail_fs_disk_full (fail, true);
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    const uint64_t begin = node_now ();
    assert_int_equal (fm_publish (p, &fact, NULL), -ENOSPC);
    assert_true (node_now () - begin >= 60 * MS);
    assert_true (fake.counters[NODE_PUBLISH_BLOCKED_NS] >= 60 * MS);
    fail_fs_disk_full (fail, false);
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    assert_int_equal (p->next_seq, 3);
    fm_publisher_close (&p);
    fail_fs_destroy (&fail);
}

static void a_full_disk_is_done_without_where_losing_is_chosen (void **state)
{
    (void) state;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .when_full = FM_DROP_OLDEST, .batch_us = -1 });
    struct fail_fs *fail = failing_disk (p);
    const struct fm_fact fact = { .topic = slice_of ("t"), .payload = slice_of ("x") };
    fail_fs_disk_full (fail, true);
    for (int i = 0; i < 5; i++)
        assert_int_equal (fm_publish (p, &fact, NULL), 0);
    take_sent ();
    assert_int_equal (sent_count, 5);                   /* live goes on */
    (void) publisher_tick (p, fake.now += MS);
    assert_string_equal (fake.notice, "WINDOW-NOT-WRITTEN");
    assert_int_equal (p->window.count, 5);
    forget_sent ();
    fm_publisher_close (&p);
    fail_fs_destroy (&fail);
}

/* It was accepted, and nobody is left to write it when there is room again. */
static void what_a_full_disk_did_not_take_leaves_at_the_close (void **state)
{
    (void) state;
    struct fm_publisher *p = open_in ("a", (struct fm_publisher_options) { .when_full = FM_FAIL, .batch_us = -1 });
    struct fail_fs *fail = failing_disk (p);
    const struct fm_fact fact = { .topic = slice_of ("t"), .payload = slice_of ("x") };
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    fail_fs_disk_full (fail, true);
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    fm_publisher_close (&p);
    fail_fs_destroy (&fail);
    take_sent ();
    assert_int_equal (sent_count, 2);
    assert_int_equal (sent[1].first_seq, 2);
    forget_sent ();
    assert_string_equal (fake.notice, "WINDOW-NOT-WRITTEN");
    /* The file keeps what it has. */
    p = open_in ("a", (struct fm_publisher_options) { .batch_us = -1 });
    assert_int_equal (p->recovered_seq, 1);
    assert_int_equal (p->next_seq, 3);
    fm_publisher_close (&p);
}

static void bad_options_are_refused (void **state)
{
    (void) state;
    struct fm_publisher *p = NULL;
    const struct fm_publisher_options nowhere = { .window_on_disk = FM_WINDOW_FILE };
    assert_int_equal (fm_publisher_open (&fake, &nowhere, &p), FM_ERR_ARGUMENT);
    const struct fm_publisher_options unknown = { .directory = path ("a"), .window_on_disk = (enum fm_window) 3 };
    assert_int_equal (fm_publisher_open (&fake, &unknown, &p), FM_ERR_ARGUMENT);
}

int main (void)
{
    const struct CMUnitTest cases[] = {
        DISK_CASE (what_a_killed_publisher_sent_comes_back_and_is_served_as_it_was_sent),
        DISK_CASE (a_synced_window_comes_back_too_and_frames_are_shared_longer),
        DISK_CASE (what_a_journal_synced_does_not_come_back),
        DISK_CASE (what_was_not_synced_at_the_close_comes_back_too),
        DISK_CASE (that_there_is_a_journal_is_known_in_the_epochs_after_a_kill),
        DISK_CASE (damage_is_told_and_costs_what_it_hit),
        DISK_CASE (a_window_that_came_back_is_bounded_and_counted),
        DISK_CASE (a_full_disk_fails_at_once_and_nothing_leaves_that_is_not_kept),
        DISK_CASE (a_large_fact_that_the_disk_does_not_take_was_never_there),
        DISK_CASE (a_full_disk_blocks_for_its_time),
        DISK_CASE (a_full_disk_is_done_without_where_losing_is_chosen),
        DISK_CASE (what_a_full_disk_did_not_take_leaves_at_the_close),
        DISK_CASE (bad_options_are_refused),
    };
    const int failed = cmocka_run_group_tests (cases, NULL, NULL);
    batch_scratch_release (&scratch);
    return failed;
}
