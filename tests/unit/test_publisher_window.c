/* publisher: what a full window and the journals' watermarks do to it. */

#include <pthread.h>

#include "fake_node.h"

enum { MS = 1000000 };

static const struct fm_id journal_a = { "journal-a-0000-" }, journal_b = { "journal-b-0000-" };

static void fill (struct fm_publisher *p, int when)
{
    static uint8_t payload[1000];
    int rc = 0;
    for (int i = 0; i < 1000 && rc == 0; i++) {
        const struct fm_fact fact = { .topic = slice_of ("a"), .payload = slice (payload, sizeof payload) };
        rc = fm_publish (p, &fact, NULL);
        struct fm_publisher_state st;
        fm_publisher_state (p, &st);
        assert_true (st.window_bytes <= 65536 + 4096);
    }
    assert_int_equal (rc, when);
}

static void a_full_window_fails_at_once_until_a_journal_has_synced (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .window_bytes = 65536, .when_full = FM_FAIL });
    fill (p, FM_ERR_WINDOW_FULL);
    struct fm_publisher_state st;
    fm_publisher_state (p, &st);
    assert_int_equal (st.sent, st.head);    /* what was accepted has left, or no journal could sync it */
    assert_true (st.head > 30);
    assert_int_equal (give_watermark (p, &journal_a, 1, st.head, st.head / 2), 0);
    assert_int_equal (publish (p, "a", slice_of ("x")), st.head + 1);
    fm_publisher_close (&p);
}

static void a_full_window_blocks_for_its_time (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .window_bytes = 65536, .block_ms = 20 });
    const uint64_t begin = node_now ();
    fill (p, FM_ERR_WINDOW_FULL);
    assert_true (node_now () - begin >= 20 * MS);
    assert_true (fake.counters[NODE_PUBLISH_BLOCKED_NS] >= 20 * MS);
    fm_publisher_close (&p);
}

/* The journal: waits until the publisher blocks, then syncs all. */
static void *sync_when_blocked (void *arg)
{
    struct fm_publisher *p = arg;
    await_waiting (p);
    struct fm_publisher_state st;
    fm_publisher_state (p, &st);
    return (void *) (intptr_t) give_watermark (p, &journal_a, 1, st.sent, st.sent);
}

static void a_blocked_publisher_goes_on_when_a_journal_has_synced (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .window_bytes = 65536, .block_ms = -1 });
    static uint8_t payload[1000];
    pthread_t journal;
    assert_int_equal (pthread_create (&journal, NULL, sync_when_blocked, p), 0);
    for (int i = 0; i < 100; i++)
        (void) publish (p, "a", slice (payload, i < 60 ? sizeof payload : 1));
    void *rc;
    assert_int_equal (pthread_join (journal, &rc), 0);
    assert_null (rc);
    fm_publisher_close (&p);
}

/* A journal refuses the stream: another process has it too. */
static void *refuse_when_blocked (void *arg)
{
    struct fm_publisher *p = arg;
    await_waiting (p);
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = FACTMESH__ERROR_CODE__ERROR_STREAM_CONFLICT;
    error.stream = control_put_id (&p->identity.stream);
    error.text = control_put_slice (slice_of ("two incarnations"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    return (void *) (intptr_t) hand_over (&control, 'j');
}

static void a_blocked_publisher_whose_stream_is_refused_is_told_so_at_once (void **state)
{
    (void) state;
    static uint8_t payload[1000];
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .window_bytes = 65536, .block_ms = 5000 });
    const struct fm_fact fact = { .topic = slice_of ("a"), .payload = slice (payload, sizeof payload) };
    pthread_t journal;
    assert_int_equal (pthread_create (&journal, NULL, refuse_when_blocked, p), 0);
    int rc;
    do
        rc = fm_publish (p, &fact, NULL);
    while (rc == 0);
    assert_int_equal (rc, FM_ERR_LOST);
    assert_non_null (strstr (fm_error_detail (), "two incarnations"));
    assert_int_equal (pthread_join (journal, NULL), 0);
    fm_publisher_close (&p);
}

static void a_full_window_forgets_the_oldest_when_told_so (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .window_bytes = 65536, .when_full = FM_DROP_OLDEST });
    fill (p, 0);
    assert_int_equal (p->next_seq, 1001);
    assert_true (p->window.start_seq > 900);
    assert_int_equal (p->window.synced, 0);

    /* Small facts go on sharing frames: the window is always full now. */
    (void) fm_publisher_flush (p);
    const uint64_t sent = fake.counters[NODE_BATCHES_SENT];
    for (int i = 0; i < 1000; i++)
        (void) publish (p, "a", slice_of ("x"));
    assert_true (fake.counters[NODE_BATCHES_SENT] - sent < 100);
    fm_publisher_close (&p);
}

static void a_fact_larger_than_the_window_goes_when_that_is_empty (void **state)
{
    (void) state;
    static uint8_t payload[100000];
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .window_bytes = 1000, .when_full = FM_FAIL });
    const struct fm_fact fact = { .topic = slice_of ("a"), .payload = slice (payload, sizeof payload) };
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    assert_int_equal (fm_publish (p, &fact, NULL), FM_ERR_WINDOW_FULL);
    assert_int_equal (give_watermark (p, &journal_a, 1, 1, 1), 0);
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    fm_publisher_close (&p);
}

static void watermarks_that_cannot_be_are_refused_and_counted (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < 10; i++)
        (void) publish (p, "a", slice_of ("x"));
    struct fm_publisher_state st;
    assert_int_equal (give_watermark (p, &journal_a, 1, 11, 10), 0);        /* from the future */
    assert_int_equal (fake.counters[NODE_WATERMARKS_REFUSED], 1);
    assert_string_equal (fake.notice, "WATERMARK-REFUSED");
    fm_publisher_state (p, &st);
    assert_int_equal (st.synced, 0);
    assert_int_equal (give_watermark (p, &journal_a, 1, 10, 7), 0);
    assert_int_equal (give_watermark (p, &journal_a, 1, 10, 6), 0);         /* backwards */
    assert_int_equal (fake.counters[NODE_WATERMARKS_REFUSED], 2);
    assert_int_equal (give_watermark (p, &journal_a, 1, 8, 7), 0);          /* restarted: what was only received is lost */
    fm_publisher_state (p, &st);
    assert_int_equal (st.received, 8);
    assert_int_equal (give_watermark (p, &journal_a, 2, 5, 5), 0);          /* a restored copy: another generation */
    assert_int_equal (fake.counters[NODE_WATERMARKS_REFUSED], 2);
    fm_publisher_state (p, &st);
    assert_int_equal (st.synced, 7);                                        /* what was let go is gone */
    const struct fm_id other = { "another-stream" };
    struct fm_publisher copy = { .identity.stream = other };
    assert_int_equal (give_watermark (&copy, &journal_a, 2, 9, 9), FM_ERR_UNKNOWN);
    fm_publisher_close (&p);
}

static void more_journals_than_are_kept_displace_those_that_have_least (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < 1000; i++)
        (void) publish (p, "a", slice_of ("x"));
    (void) fm_publisher_flush (p);
    struct fm_id journal = { "many" };
    struct fm_publisher_state st;
    for (uint64_t i = 0; i < 3 * PUBLISHER_JOURNALS_MAX; i++) {
        bytes_put_u64le (journal.bytes + 8, i);
        assert_int_equal (give_watermark (p, &journal, 1, i, i), 0);
        fm_publisher_state (p, &st);
        assert_int_equal (st.synced, i);
    }
    assert_int_equal (p->marks.count, PUBLISHER_JOURNALS_MAX);
    assert_int_equal (fake.counters[NODE_WATERMARKS_REFUSED], 0);
    assert_int_equal (give_watermark (p, &journal_a, 1, 1, 1), 0);          /* has less than all of them */
    assert_int_equal (fake.counters[NODE_WATERMARKS_REFUSED], 1);
    fm_publisher_close (&p);
}

static void all_listed_journals_must_have_it_and_no_other_counts (void **state)
{
    (void) state;
    char list[2 * ID_TEXT_LEN + 2];
    (void) id_text (&journal_a, list);
    list[ID_TEXT_LEN] = ',';
    (void) id_text (&journal_b, list + ID_TEXT_LEN + 1);
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .journals = list });
    for (int i = 0; i < 10; i++)
        (void) publish (p, "a", slice_of ("x"));
    struct fm_publisher_state st;
    assert_int_equal (give_watermark (p, &journal_a, 1, 10, 9), 0);
    fm_publisher_state (p, &st);
    assert_int_equal (st.synced, 0);
    const struct fm_id stranger = { "stranger" };
    assert_int_equal (give_watermark (p, &stranger, 1, 10, 10), 0);
    assert_int_equal (fake.counters[NODE_WATERMARKS_REFUSED], 1);
    assert_int_equal (give_watermark (p, &journal_b, 1, 10, 4), 0);
    fm_publisher_state (p, &st);
    assert_int_equal (st.synced, 4);
    assert_int_equal (st.received, 10);
    assert_int_equal (p->window.start_seq, 5);
    fake.journals = 2;
    assert_int_equal (fm_publisher_wait_synced (p, 10, 0), FM_TIMEOUT);
    assert_non_null (strstr (fm_error_detail (), list + ID_TEXT_LEN + 1));      /* who is behind */
    fm_publisher_close (&p);
    assert_int_equal (fm_publisher_open (&fake, &(struct fm_publisher_options) { .journals = "xyz" }, &p), FM_ERR_ARGUMENT);
    assert_int_equal (fm_publisher_open (&fake, &(struct fm_publisher_options) { .journals = " , " }, &p), FM_ERR_ARGUMENT);
}

static void waiting_for_synced_says_how_far_it_is (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < PUBLISHER_BURST + 4; i++)
        (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), FM_TIMEOUT);
    assert_non_null (strstr (fm_error_detail (), "no journal"));
    fake.journals = 1;
    assert_int_equal (give_watermark (p, &journal_a, 1, 18, 11), 0);        /* flushed by the wait: 20 were sent */
    assert_int_equal (fm_publisher_wait_synced (p, 0, 1), FM_TIMEOUT);
    assert_non_null (strstr (fm_error_detail (), "sequence 20"));
    assert_non_null (strstr (fm_error_detail (), "received up to 18"));
    assert_non_null (strstr (fm_error_detail (), "synced up to 11"));
    assert_int_equal (fm_publisher_wait_synced (p, 11, 0), 0);
    assert_int_equal (give_watermark (p, &journal_a, 1, 20, 20), 0);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), 0);
    fm_publisher_close (&p);
}

static void a_waiter_is_woken_by_the_watermark (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    (void) publish (p, "a", slice_of ("x"));
    pthread_t journal;
    assert_int_equal (pthread_create (&journal, NULL, sync_when_blocked, p), 0);
    assert_int_equal (fm_publisher_wait_synced (p, 0, -1), 0);
    assert_int_equal (pthread_join (journal, NULL), 0);
    fm_publisher_close (&p);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_full_window_fails_at_once_until_a_journal_has_synced),
        CASE (a_full_window_blocks_for_its_time),
        CASE (a_blocked_publisher_goes_on_when_a_journal_has_synced),
        CASE (a_blocked_publisher_whose_stream_is_refused_is_told_so_at_once),
        CASE (a_full_window_forgets_the_oldest_when_told_so),
        CASE (a_fact_larger_than_the_window_goes_when_that_is_empty),
        CASE (watermarks_that_cannot_be_are_refused_and_counted),
        CASE (more_journals_than_are_kept_displace_those_that_have_least),
        CASE (all_listed_journals_must_have_it_and_no_other_counts),
        CASE (waiting_for_synced_says_how_far_it_is),
        CASE (a_waiter_is_woken_by_the_watermark),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
