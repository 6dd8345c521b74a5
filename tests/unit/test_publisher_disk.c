/* publisher: a window that is kept on disk too. What left comes back in the next epoch, is served as it was sent, and a disk that takes nothing is a full
 * window. */

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../support/fail_fs.h"
#include "fake_node.h"

enum { MS = 1000000, FRAMES_MAX = 512 };

static const struct fm_id journal_a = { "journal-a-0000-" }, journal_b = { "journal-b-0000-" };
static char root[64];

static const char *path (const char *name)
{
    static char text[4][160];
    static unsigned turn;
    char *p = text[turn++ % 4];
    snprintf (p, sizeof text[0], "%s/%s", root, name);
    return p;
}

static int set_up (void **state)
{
    strcpy (root, "/tmp/factmesh-disk-XXXXXX");
    return mkdtemp (root) ? fake_set_up (state) : -1;
}

static void remove_directory (const char *name)
{
    static const char *const files[] = { "stream", "stream.new", "lock", "window", "window.new" };
    char file[200];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf (file, sizeof file, "%s/%s", path (name), files[i]);
        (void) unlink (file);
    }
    (void) rmdir (path (name));
}

static int tear_down (void **state)
{
    remove_directory ("a");
    remove_directory ("b");
    remove_directory ("c");
    assert_int_equal (rmdir (root), 0);
    return fake_tear_down (state);
}

/* What a kill -9 would leave of directory `from` now: its files, as the page cache has them. */
static void kill_into (const char *from, const char *to)
{
    static const char *const files[] = { "stream", "window" };
    static uint8_t bytes[8 << 20];
    assert_int_equal (mkdir (path (to), 0755), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char name[32];
        snprintf (name, sizeof name, "%s/%s", from, files[i]);
        FILE *in = fopen (path (name), "rb");
        if (!in)
            continue;
        const size_t len = fread (bytes, 1, sizeof bytes, in);
        assert_true (len < sizeof bytes);
        fclose (in);
        snprintf (name, sizeof name, "%s/%s", to, files[i]);
        FILE *out = fopen (path (name), "wb");
        assert_non_null (out);
        assert_int_equal (fwrite (bytes, 1, len, out), len);
        assert_int_equal (fclose (out), 0);
    }
}

static struct fm_publisher *open_in (const char *name, struct fm_publisher_options options)
{
    options.directory = path (name);
    if (options.window_on_disk == FM_WINDOW_MEMORY)
        options.window_on_disk = FM_WINDOW_FILE;
    return open_publisher (&options);
}

static bool has_file (const char *name)
{
    return access (path (name), F_OK) == 0;
}

/* ------------------------------------------------------------------ what was sent, and what is served */

/* The batches that left, as bytes; announced ones are not whole here, and empty. */
static struct sent {
    uint64_t first_seq, end_seq;
    size_t len;
    uint8_t *bytes;
} sent[FRAMES_MAX];
static size_t sent_count;

static void take_sent (void)
{
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    while (receive_batch (&message, &topic, &b)) {
        assert_true (sent_count < FRAMES_MAX);
        struct sent *s = &sent[sent_count++];
        *s = (struct sent) { .first_seq = b.first_seq, .end_seq = batch_end_seq (&b) };
        if (!b.announced_len) {
            s->len = b.len;
            s->bytes = malloc (b.len);
            memcpy (s->bytes, b.bytes, b.len);
        }
        zmq_msg_close (&message);
    }
}

static void forget_sent (void)
{
    for (size_t i = 0; i < sent_count; i++)
        free (sent[i].bytes);
    sent_count = 0;
}

static void ask (struct fm_publisher *p, uint64_t from, uint64_t end)
{
    static uint64_t session;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = ++session;
    open.stream = control_put_id (&p->identity.stream);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = from;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = end;
    open.credit = 64 << 20;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = &open;
    assert_int_equal (hand_over (&control, 'a'), 0);
    size_t before;
    do {
        before = fake.reply_count;
        fake.now += MS;
        (void) publisher_tick (p, fake.now);
    } while (fake.reply_count > before);
}

/* Take the answer: the batches from `from` on, byte for byte as they were sent. Returns the sequence behind the last; *ret_gap_end: of the gap, of
 * a journal's, that closed it; 0: none did. */
static uint64_t take_answer (uint64_t from, uint64_t *ret_gap_end)
{
    uint64_t next = from;
    *ret_gap_end = 0;
    while (fake.reply_taken < fake.reply_count) {
        const Factmesh__Control *control = fake.replies[fake.reply_taken++];
        if (control->body_case == FACTMESH__CONTROL__BODY_REPLAY_END)
            return next;
        assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_REPLAY_DATA);
        const Factmesh__ReplayData *data = control->replay_data;
        struct batch_scratch own = { 0 };
        for (size_t i = 0; i < data->n_batches; i++) {
            struct batch b;
            assert_int_equal (batch_decode (data->batches[i].data, data->batches[i].len, slice_of ("test"), &own, &b), 0);
            assert_int_equal (batch_check_facts (&b), 0);
            assert_int_equal (b.first_seq, next);
            next = batch_end_seq (&b);
            for (size_t k = 0; k < sent_count; k++) {
                if (sent[k].first_seq == b.first_seq && sent[k].bytes) {
                    assert_int_equal (b.len, sent[k].len);
                    assert_memory_equal (b.bytes, sent[k].bytes, b.len);
                }
            }
        }
        batch_scratch_release (&own);
        if (data->n_batches)
            assert_int_equal (data->covered[0]->through, next - 1);
        if (data->n_gaps) {
            assert_int_equal (data->n_gaps, 1);
            assert_int_equal (data->gaps[0]->first_seq, next);
            assert_int_equal (data->gaps[0]->reason, FACTMESH__GAP_REASON__GAP_SYNCED);
            assert_int_equal (data->n_covered, 0);      /* a journal's to tell: not passed */
            *ret_gap_end = data->gaps[0]->end_seq;
        }
    }
    fail_msg ("the answer has no end");
    return 0;
}

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

/* ------------------------------------------------------------------ what journals gave up */

enum { LOST_FACTS = 20, LOST_FIRST = 6, LOST_END = 11 };

/* Facts 1 to LOST_FACTS, each a batch, come back in directory b; the window is a small one. */
static struct fm_publisher *come_back (const char *journals)
{
    struct fm_publisher_options options = { .batch_us = -1, .window_bytes = 200000, .payload_max = 100000, .when_full = FM_FAIL };
    struct fm_publisher *p = open_in ("a", options);
    for (int i = 0; i < LOST_FACTS; i++)
        (void) publish (p, "t", slice_of ("x"));
    kill_into ("a", "b");
    fm_publisher_close (&p);
    forget_sent ();
    options.journals = journals;
    return open_in ("b", options);
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
#define DISK_CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest cases[] = {
        DISK_CASE (what_a_killed_publisher_sent_comes_back_and_is_served_as_it_was_sent),
        DISK_CASE (a_synced_window_comes_back_too_and_frames_are_shared_longer),
        DISK_CASE (what_a_journal_synced_does_not_come_back),
        DISK_CASE (what_was_not_synced_at_the_close_comes_back_too),
        DISK_CASE (a_window_that_came_back_is_bounded_and_counted),
        DISK_CASE (what_a_journal_gave_up_is_kept_told_and_served),
        DISK_CASE (what_expired_at_a_journal_was_there),
        DISK_CASE (a_journal_that_is_silent_or_busy_is_asked_again),
        DISK_CASE (of_several_journals_one_that_has_it_is_enough),
        DISK_CASE (a_journal_that_went_is_not_waited_for),
        DISK_CASE (of_the_journals_listed_one_that_gave_it_up_is_enough),
        DISK_CASE (what_was_given_up_does_not_fill_the_file),
        DISK_CASE (a_kill_amid_handing_out_loses_nothing),
        DISK_CASE (a_full_disk_fails_at_once_and_nothing_leaves_that_is_not_kept),
        DISK_CASE (a_full_disk_blocks_for_its_time),
        DISK_CASE (a_full_disk_is_done_without_where_losing_is_chosen),
        DISK_CASE (bad_options_are_refused),
    };
    const int failed = cmocka_run_group_tests (cases, NULL, NULL);
    batch_scratch_release (&scratch);
    return failed;
}
