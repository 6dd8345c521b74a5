/* publisher: what came back from a window on disk, and journals gave up while it was away: asked for, kept, told, handed out to be published again. */

#include "disk_publisher.h"

static const struct fm_id journal_b = { "journal-b-0000-" };

enum { LOST_FACTS = 20, LOST_FIRST = 6, LOST_END = 11 };

/* Facts 1 to LOST_FACTS, so many in a batch, come back in directory b; the window is a small one. */
static struct fm_publisher *come_back_in_batches (const char *journals, int share)
{
    struct fm_publisher_options options = { .batch_us = -1, .window_bytes = 200000, .payload_max = 100000, .when_full = FM_FAIL };
    struct fm_publisher *p = open_in ("a", options);
    p->batch_ns = share > 1 ? (uint64_t) 1000 * MS : 0;
    p->bucket_ns = UINT64_MAX / 2;
    for (int i = 1; i <= LOST_FACTS; i++) {
        (void) publish (p, "t", slice_of ("x"));
        if (i % share == 0)
            assert_int_equal (fm_publisher_flush (p), 0);
    }
    kill_into ("a", "b");
    fm_publisher_close (&p);
    options.journals = journals;
    return open_in ("b", options);
}

static struct fm_publisher *come_back (const char *journals)
{
    return come_back_in_batches (journals, 1);
}

static void mark_all (struct fm_publisher *p, const struct fm_id *journal)
{
    const uint64_t last = p->identity.epoch_first_seq - 1;
    assert_int_equal (give_watermark (p, journal, 1, last, last), 0);
}

/* [first, end) is lost, each once, and no more. */
static void expect_lost (struct fm_publisher *p, uint64_t first, uint64_t end)
{
    struct fm_fact fact;
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), FM_ERR_LOST);
    for (uint64_t seq = first; seq < end; seq++) {
        assert_int_equal (fm_publisher_wait_synced (p, seq, 0), FM_ERR_LOST);
        assert_int_equal (fm_publisher_lost_next (p, &fact), 0);
        assert_int_equal (fact.id.seq, seq);
        assert_true (slice_equal (fact.payload, slice_of ("x")));
    }
    assert_int_equal (fm_publisher_lost_next (p, &fact), FM_ERR_END);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), 0);
    assert_int_equal (p->given_up.count, 0);
    struct fm_publisher_state at;
    fm_publisher_state (p, &at);
    assert_int_equal (at.lost, 0);
}

static void what_a_journal_gave_up_is_kept_told_and_served (void **state)
{
    (void) state;
    uint64_t gap_end;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    mark_all (p, &journal_a);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), FM_TIMEOUT);      /* not before it was asked */
    fake_journals_answer (p);
    assert_string_equal (fake.notice, "WINDOW-LOST");
    assert_int_equal (p->window.count, 0);
    struct fm_publisher_state at;
    fm_publisher_state (p, &at);
    assert_int_equal (at.lost, LOST_FIRST);
    assert_true (at.synced >= LOST_FACTS);
    ask (p, LOST_FIRST, LOST_END);
    assert_int_equal (take_answer (LOST_FIRST, &gap_end), LOST_END);
    assert_int_equal (gap_end, 0);
    /* In the epoch that is, marks are believed as ever. */
    const uint64_t seq = publish (p, "t", slice_of ("y"));
    assert_int_equal (fm_publisher_wait_synced (p, seq, 0), FM_TIMEOUT);
    assert_int_equal (give_watermark (p, &journal_a, 1, seq, seq), 0);
    assert_int_equal (fm_publisher_wait_synced (p, seq, 0), 0);
    const unsigned asked = a->asked;
    expect_lost (p, LOST_FIRST, LOST_END);
    fake_journals_answer (p);
    assert_int_equal (a->asked, asked);
    forget_sent ();
    fm_publisher_close (&p);
    assert_false (has_file ("b/window"));
}

static void what_expired_at_a_journal_was_there (void **state)
{
    (void) state;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END, a->gap_reason = FACTMESH__GAP_REASON__GAP_EXPIRED;
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), 0);
    fm_publisher_close (&p);
}

/* Asked again later; and nothing is believed meanwhile. */
static void a_journal_that_is_silent_or_busy_is_asked_again (void **state)
{
    (void) state;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    a->silences = 2, a->refusals = 2;
    mark_all (p, &journal_a);
    for (unsigned i = 0; a->asked < 5; i++) {
        assert_true (i < 1000);
        assert_int_equal (fm_publisher_wait_synced (p, 0, 0), FM_TIMEOUT);
        fake_journals_answer (p);
    }
    expect_lost (p, LOST_FIRST, LOST_END);
    fm_publisher_close (&p);
}

static void a_journal_that_cannot_be_connected_to_is_asked_when_it_can (void **state)
{
    (void) state;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    mark_all (p, &journal_a);
    fake.sockets_refused = 3;
    for (unsigned tries = 3; tries > 0; tries--) {
        fake.now += (uint64_t) PUBLISHER_LOST_RETRY_MS * MS;
        assert_int_equal (publisher_lost_tick (p, fake.now), fake.now + (uint64_t) PUBLISHER_LOST_RETRY_MS * MS);
        assert_int_equal (fake.sockets_refused, tries - 1);
        (void) publisher_lost_tick (p, fake.now + MS);                      /* not at each tick */
        assert_int_equal (fake.sockets_refused, tries - 1);
    }
    fake_journals_answer (p);
    assert_int_equal (a->asked, 1);
    expect_lost (p, LOST_FIRST, LOST_END);
    fm_publisher_close (&p);
}

static void what_a_journal_says_unasked_ends_no_question (void **state)
{
    (void) state;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END, a->chats = true;
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    assert_int_equal (a->asked, 1);
    expect_lost (p, LOST_FIRST, LOST_END);
    fm_publisher_close (&p);
}

/* A restored copy and the journal it was made of, both running: each displaces what is known of the other. The answer of before is to a question from the
 * middle on: what lies below it is not known any more. */
static void an_answer_to_a_question_of_before_a_journal_began_anew_counts_for_nothing (void **state)
{
    (void) state;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    const uint64_t last = p->identity.epoch_first_seq - 1;
    assert_int_equal (give_watermark (p, &journal_b, 1, 1, 1), 0);          /* who may have all of it still: nothing is let go */
    struct fake_journal *b = fake_journal_add (&journal_b);
    b->gap_first = 2, b->gap_end = last + 1;
    assert_int_equal (give_watermark (p, &journal_a, 1, last, LOST_END + 2), 0);
    fake_journals_answer (p);
    assert_int_equal (a->asked, 1);
    mark_all (p, &journal_a);
    fake.now += (uint64_t) PUBLISHER_LOST_RETRY_MS * MS;
    (void) publisher_tick (p, fake.now);                                    /* asked for the rest */
    assert_int_equal (give_watermark (p, &journal_a, 2, 0, 0), 0);
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    assert_int_equal (a->asked, 3);
    mark_all (p, &journal_b);
    fake_journals_answer (p);
    expect_lost (p, LOST_FIRST, LOST_END);
    fm_publisher_close (&p);
}

/* Without a list a fact is synced when any journal has it: lost, only when all that are there gave it up. */
static void of_several_journals_one_that_has_it_is_enough (void **state)
{
    (void) state;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a), *b = fake_journal_add (&journal_b);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    b->gap_first = LOST_END - 2, b->gap_end = LOST_END + 2;
    mark_all (p, &journal_a);
    assert_int_equal (give_watermark (p, &journal_b, 1, 3, 3), 0);
    fake_journals_answer (p);
    assert_int_equal (fm_publisher_wait_synced (p, LOST_FIRST - 1, 0), 0);
    assert_int_equal (fm_publisher_wait_synced (p, LOST_FIRST, 0), FM_TIMEOUT);     /* b may still take it */
    mark_all (p, &journal_b);
    fake_journals_answer (p);
    expect_lost (p, LOST_END - 2, LOST_END);
    fm_publisher_close (&p);
}

static void a_journal_that_went_is_not_waited_for (void **state)
{
    (void) state;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    assert_int_equal (give_watermark (p, &journal_b, 1, 3, 3), 0);          /* and it is no member */
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    expect_lost (p, LOST_FIRST, LOST_END);
    fm_publisher_close (&p);
}

/* With a list all must have it. */
static void of_the_journals_listed_one_that_gave_it_up_is_enough (void **state)
{
    (void) state;
    char list[2 * ID_TEXT_LEN + 2], id[ID_TEXT_LEN + 1], other[ID_TEXT_LEN + 1];
    (void) snprintf (list, sizeof list, "%s,%s", id_text (&journal_a, id), id_text (&journal_b, other));
    struct fm_publisher *p = come_back (list);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    assert_int_equal (fm_publisher_wait_synced (p, 1, 0), FM_TIMEOUT);
    (void) fake_journal_add (&journal_b);
    mark_all (p, &journal_b);
    fake_journals_answer (p);
    expect_lost (p, LOST_FIRST, LOST_END);
    fm_publisher_close (&p);
}

/* What was given up ends within a batch: of it, what the journal has is not handed out. */
static void of_a_batch_only_what_is_lost_is_handed_out (void **state)
{
    (void) state;
    struct fm_publisher *p = come_back_in_batches (NULL, 10);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = 4, a->gap_end = 7;
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    assert_int_equal (p->given_up.count, 1);
    expect_lost (p, 4, 7);
    fm_publisher_close (&p);
}

static struct fm_fact small_fact (const uint8_t payload[1000])
{
    return (struct fm_fact) { .topic = slice_of ("t"), .payload = slice (payload, 1000) };
}

static void *publish_one (void *arg)
{
    static const uint8_t payload[1000];
    const struct fm_fact fact = small_fact (payload);
    return (void *) (intptr_t) fm_publish (arg, &fact, NULL);
}

static void handing_out_makes_room_for_who_waits_for_it (void **state)
{
    static const uint8_t payload[1000];
    (void) state;
    struct fm_fact fact = small_fact (payload);
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = 1, a->gap_end = LOST_FACTS + 1;
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    int rc;
    do
        rc = fm_publish (p, &fact, NULL);
    while (rc == 0);
    assert_int_equal (rc, FM_ERR_WINDOW_FULL);
    p->when_full = FM_BLOCK;
    p->block_ms = 5000;
    pthread_t blocked;
    assert_int_equal (pthread_create (&blocked, NULL, publish_one, p), 0);
    await_waiting (p);
    for (int i = 0; i < LOST_FACTS; i++)
        assert_int_equal (fm_publisher_lost_next (p, &fact), 0);
    assert_int_equal (fm_publisher_lost_next (p, &fact), FM_ERR_END);
    void *published;
    assert_int_equal (pthread_join (blocked, &published), 0);
    assert_null (published);
    fm_publisher_close (&p);
}

/* They pin the file's oldest place: it is written anew when it has gone round, as often as need be. */
static void what_was_given_up_does_not_fill_the_file (void **state)
{
    (void) state;
    static uint8_t payload[60000];
    uint64_t gap_end;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    struct stat st;
    uint64_t synced = 0, last = 0, bytes = 0;
    while (bytes < (UINT64_C (20) << 20)) {
        const struct fm_fact fact = { .topic = slice_of ("t"), .payload = slice (payload, sizeof payload) };
        struct fm_fact_id named;
        assert_int_equal (fm_publish (p, &fact, &named), 0);
        bytes += sizeof payload;
        synced = last, last = named.seq;        /* one behind */
        if (synced)
            assert_int_equal (give_watermark (p, &journal_a, 1, synced, synced), 0);
        zmq_msg_t message;
        while (receive (subscriber, &message))
            zmq_msg_close (&message);
    }
    assert_int_equal (stat (path ("b/window"), &st), 0);
    assert_true (st.st_size < 200000 + 100000 + PUBLISHER_DISK_SLACK + 2 * WINDOW_FILE_RING_POS);
    kill_into ("b", "c");
    fm_publisher_close (&p);
    p = open_in ("c", (struct fm_publisher_options) { .batch_us = -1 });
    assert_int_equal (p->recovered_seq, last);
    ask (p, LOST_FIRST, LOST_END);
    assert_int_equal (take_answer (LOST_FIRST, &gap_end), LOST_END);
    ask (p, last, last + 1);
    assert_int_equal (take_answer (last, &gap_end), last + 1);
    fm_publisher_close (&p);
}

/* What is published again is on disk before what it stands for is let go. */
static void a_kill_amid_handing_out_loses_nothing (void **state)
{
    (void) state;
    struct fm_fact fact;
    struct fm_publisher *p = come_back (NULL);
    struct fake_journal *a = fake_journal_add (&journal_a);
    a->gap_first = LOST_FIRST, a->gap_end = LOST_END;
    mark_all (p, &journal_a);
    fake_journals_answer (p);
    p->batch_ns = (uint64_t) 1000 * MS;                 /* facts wait for company */
    p->bucket_ns = UINT64_MAX / 2;
    for (int i = 0; i < 3; i++) {
        assert_int_equal (fm_publisher_lost_next (p, &fact), 0);
        assert_int_equal (fm_publish (p, &fact, NULL), 0);
    }
    assert_int_equal (p->open.count, 1);
    assert_int_equal (p->given_up.start_seq, LOST_FIRST + 2);
    kill_into ("b", "c");
    const uint64_t first = p->identity.epoch_first_seq;
    fm_publisher_close (&p);
    p = open_in ("c", (struct fm_publisher_options) { .batch_us = -1 });
    assert_int_equal (p->window.start_seq <= LOST_FIRST + 2, true);
    assert_non_null (window_find (&p->window, LOST_FIRST + 2));
    assert_non_null (window_find (&p->window, first));
    assert_non_null (window_find (&p->window, first + 1));
    fm_publisher_close (&p);
}

int main (void)
{
    const struct CMUnitTest cases[] = {
        DISK_CASE (what_a_journal_gave_up_is_kept_told_and_served),
        DISK_CASE (what_expired_at_a_journal_was_there),
        DISK_CASE (a_journal_that_is_silent_or_busy_is_asked_again),
        DISK_CASE (a_journal_that_cannot_be_connected_to_is_asked_when_it_can),
        DISK_CASE (what_a_journal_says_unasked_ends_no_question),
        DISK_CASE (an_answer_to_a_question_of_before_a_journal_began_anew_counts_for_nothing),
        DISK_CASE (of_several_journals_one_that_has_it_is_enough),
        DISK_CASE (a_journal_that_went_is_not_waited_for),
        DISK_CASE (of_the_journals_listed_one_that_gave_it_up_is_enough),
        DISK_CASE (of_a_batch_only_what_is_lost_is_handed_out),
        DISK_CASE (handing_out_makes_room_for_who_waits_for_it),
        DISK_CASE (what_was_given_up_does_not_fill_the_file),
        DISK_CASE (a_kill_amid_handing_out_loses_nothing),
    };
    const int failed = cmocka_run_group_tests (cases, NULL, NULL);
    batch_scratch_release (&scratch);
    return failed;
}
