/* Identities: of facts that bear the same one the first is a fact and the others repeat it: in one batch, over streams, segments and starts, whatever call
 * fails and whenever the power goes. */

#include "identities_kit.h"

#include "log_state.h"

/* --- Bytes. */

static void what_a_journal_says_stands_in_front_and_comes_off_again (void **state)
{
    (void) state;
    const struct fm_slice ids[] = { slice_of ("x"), slice_of ("y"), slice_of ("x"), slice_of ("z"), slice_of ("y"), slice_of ("x") };
    struct made m;
    struct identities x;
    struct fm_slice front;
    uint32_t count;
    identities_init (&x, 64);
    make (&m, 3, 1000, ids, 6, 5);
    assert_int_equal (identities_decide (&x, &m.batch, &front, &count), 0);
    assert_int_equal (count, 3);
    size_t len;
    uint8_t *bytes = with_front (&m, front, &len);

    Factmesh__Batch *message = factmesh__batch__unpack (NULL, len, bytes);     /* as any other language reads it */
    assert_non_null (message);
    assert_int_equal (message->n_facts, 6);
    assert_int_equal (message->duplicates->n_facts, 3);
    const uint64_t repeats[] = { 1002, 1004, 1005 }, firsts[] = { 1000, 1001, 1000 };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal (message->duplicates->facts[i]->seq, repeats[i]);
        assert_int_equal (message->duplicates->facts[i]->first->seq, firsts[i]);
        assert_memory_equal (message->duplicates->facts[i]->first->stream.data, m.batch.stream.bytes, ID_LEN);
    }
    factmesh__batch__free_unpacked (message, NULL);

    struct batch_scratch scratch = { 0 };
    struct batch b;
    assert_int_equal (batch_decode (bytes, len, slice (NULL, 0), &scratch, &b), 0);
    assert_int_equal (batch_check_facts (&b), 0);
    struct batch_duplicates d;
    batch_duplicates_init (&d, &b);
    for (uint64_t seq = 1000, i = 0; seq < 1006; seq++) {
        const bool is = i < 3 && repeats[i] == seq;
        assert_int_equal (batch_duplicates_meet (&d, seq), is);
        if (is)
            assert_int_equal (d.next.first.seq, firsts[i++]);
    }
    assert_int_equal (batch_strip_duplicates (&b), 0);
    assert_int_equal (b.len, m.len);
    assert_memory_equal (b.bytes, m.bytes, m.len);
    assert_int_equal (batch_check_facts (&b), 0);
    assert_int_equal (batch_strip_duplicates (&b), 0);

    /* Cut short anywhere within, it is malformed; so it is out of order, twice, or behind the facts; and elsewhere in the header it does not come off. */
    for (size_t cut = 1; cut < front.len; cut++) {
        uint8_t *copy = malloc (len - 1);
        memcpy (copy, bytes, cut);
        memcpy (copy + cut, bytes + cut + 1, len - cut - 1);
        (void) (batch_decode (copy, len - 1, slice (NULL, 0), &scratch, &b) == 0 && batch_check_facts (&b));   /* asan looks on */
        assert_int_not_equal (batch_decode (copy, cut, slice (NULL, 0), &scratch, &b), 0);
        free (copy);
    }
    struct made swapped = { .len = front.len + len, .bytes = malloc (front.len + len) };
    memcpy (swapped.bytes, front.data, front.len);
    memcpy (swapped.bytes + front.len, bytes, len);
    assert_int_equal (batch_decode (swapped.bytes, swapped.len, slice (NULL, 0), &scratch, &b), FM_ERR_MALFORMED);
    memcpy (swapped.bytes, m.bytes, m.len);
    memcpy (swapped.bytes + m.len, front.data, front.len);
    assert_int_equal (batch_decode (swapped.bytes, len, slice (NULL, 0), &scratch, &b), 0);
    assert_int_equal (batch_check_facts (&b), FM_ERR_MALFORMED);
    memcpy (swapped.bytes, m.bytes, 2);         /* behind field 1 */
    memcpy (swapped.bytes + 2, front.data, front.len);
    memcpy (swapped.bytes + 2 + front.len, m.bytes + 2, m.len - 2);
    assert_int_equal (batch_decode (swapped.bytes, len, slice (NULL, 0), &scratch, &b), 0);
    assert_int_equal (batch_strip_duplicates (&b), FM_ERR_MALFORMED);
    uint8_t run[BATCH_DUPLICATES_HEAD + 2 * BATCH_DUPLICATE_MAX], *p = run + BATCH_DUPLICATES_HEAD;
    for (uint64_t seq = 2; seq > 0; seq--)
        p = batch_duplicate_encode (p, &(struct batch_duplicate) { .seq = seq, .first = { .stream = kit_stream (1), .seq = UINT64_MAX } });
    assert_true (p <= run + sizeof run);
    const uint8_t *const start = batch_duplicates_close (run + BATCH_DUPLICATES_HEAD, (size_t) (p - run) - BATCH_DUPLICATES_HEAD);
    memcpy (swapped.bytes, start, (size_t) (p - start));
    memcpy (swapped.bytes + (p - start), m.bytes, m.len);
    assert_int_equal (batch_decode (swapped.bytes, (size_t) (p - start) + m.len, slice (NULL, 0), &scratch, &b), FM_ERR_MALFORMED);

    free (swapped.bytes);
    free (bytes);
    batch_scratch_release (&scratch);
    identities_release (&x);
    drop (&m);
}

static bool is_wanted (const void *arg, struct fm_slice topic)
{
    return slice_equal (topic, slice_of (arg));
}

static void a_cut_batch_keeps_what_is_said_of_its_facts (void **state)
{
    (void) state;
    /* A batch of two topics is cut where one is wanted; its facts of it bear "x" and "z", the second and third time. */
    struct fm_slice ids[20];
    for (size_t i = 0; i < 20; i++)
        ids[i] = i == 3 || i == 9 || i == 13 ? slice_of ("x") : slice (NULL, 0);
    struct made m;
    struct identities x;
    struct fm_slice front;
    uint32_t count;
    size_t len;
    identities_init (&x, 64);
    make (&m, 3, 50, ids, 20, 400);
    assert_int_equal (identities_decide (&x, &m.batch, &front, &count), 0);
    assert_int_equal (count, 2);
    uint8_t *bytes = with_front (&m, front, &len);
    struct batch_cut cut = { .bytes = NULL };
    struct batch_scratch scratch = { 0 };
    uint64_t facts = 0, duplicates = 0;
    const bool is_cut = batch_cut (&cut, slice (bytes, len), is_wanted, "a.c");
    for (size_t i = 0; i < cut.piece_count && is_cut; i++) {
        struct batch b;
        struct batch_reader r;
        struct batch_duplicates d;
        struct fm_fact f;
        assert_int_equal (batch_decode (cut.pieces[i].data, cut.pieces[i].len, slice (NULL, 0), &scratch, &b), 0);
        batch_reader_init (&r, &b);
        batch_duplicates_init (&d, &b);
        for (; batch_reader_next (&r, &f) == 0; facts++) {
            const bool repeats = batch_duplicates_meet (&d, f.id.seq);
            assert_int_equal (repeats, f.id.seq == 59 || f.id.seq == 63);
            duplicates += repeats;
        }
    }
    if (is_cut) {
        assert_int_equal (facts, 10);
        assert_int_equal (duplicates, 2);
    }
    batch_cut_release (&cut);
    batch_scratch_release (&scratch);
    free (bytes);
    identities_release (&x);
    drop (&m);
}

/* --- The table. */

static struct identity_entry entry_of (uint64_t n)
{
    struct identity_entry e = { .fact = { .stream = kit_stream (1), .seq = n } };
    identity_hash (slice (&n, sizeof n), e.hash);
    return e;
}

static void the_table_remembers_the_last_ones_and_no_more (void **state)
{
    (void) state;
    enum { MAX = 2048 };
    struct identity_table t;
    identity_table_init (&t, MAX);
    uint64_t end = 1;
    for (unsigned round = 0; round < 400; round++) {
        const uint64_t put = round * 37 % 101, back = round * 13 % 59;
        for (uint64_t i = 0; i < put; i++, end++) {
            const struct identity_entry e = entry_of (end);
            assert_null (identity_table_find (&t, e.hash));
            assert_int_equal (identity_table_put (&t, &e), 0);
        }
        const uint32_t before = t.count;
        const uint64_t taken = back < put ? back : put;
        identity_table_take_back (&t, (uint32_t) taken);
        end -= taken;
        assert_int_equal (t.count, before - taken);
        for (uint64_t n = 1; n < end + 60; n += n + MAX + 70 < end ? 41 : 1) {
            const struct identity_entry e = entry_of (n);
            const struct fm_fact_id *const first = identity_table_find (&t, e.hash);
            assert_int_equal (first != NULL, n < end && n >= end - t.count);
            if (first)
                assert_int_equal (first->seq, n);
        }
    }
    assert_true (end > 2 * MAX && t.count <= MAX && t.count > MAX - 100);
    identity_table_release (&t);
}

/* --- Deciding, recording, starting. */

static void the_first_with_an_identity_is_a_fact_and_the_others_repeat_it (void **state)
{
    struct log_setting *s = setting_of (state);
    static uint8_t longest[255], nearly[255];
    memset (longest, 7, sizeof longest);
    memset (nearly, 7, sizeof nearly);
    nearly[254] = 8;
    const struct fm_slice big = slice (longest, 255), near = slice (nearly, 255), shorter = slice (longest, 254), none = slice (NULL, 0),
                          zero = slice ("", 1);
    const struct fm_slice first[] = { none, big, none, near, big, zero }, second[] = { shorter, near, none, zero }, third[] = { none, none };
    struct made m[3];
    struct identities x;
    identities_init (&x, 64);
    make (&m[0], 1, 1, first, 6, 10);
    make (&m[1], 2, 1, second, 4, 10);
    make (&m[2], 3, 1, third, 2, 10);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal (record (s->log, &x, &m[i]), 0);
    kit_sync (s->log);
    const struct oracle o = check_log (s->log);
    assert_int_equal (o.facts, 12);
    assert_int_equal (o.duplicates, 3);
    assert_int_equal (x.table.count, 4);
    for (size_t i = 0; i < 3; i++)
        drop (&m[i]);
    identities_release (&x);
}

static void what_was_not_recorded_is_nobodys_first (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct fm_slice ids[] = { slice_of ("one"), slice_of ("two"), slice_of ("one") };
    struct made lost, next, again;
    struct identities x;
    identities_init (&x, 64);
    make (&next, 1, 1, ids, 1, 10);
    make (&lost, 1, 7, ids, 3, 10);             /* not the stream's next */
    make (&again, 2, 1, ids, 3, 10);
    assert_int_equal (record (s->log, &x, &next), 0);
    assert_int_equal (record (s->log, &x, &lost), FM_ERR_ARGUMENT);
    assert_int_equal (record (s->log, &x, &again), 0);
    kit_sync (s->log);
    assert_int_equal (check_log (s->log).duplicates, 2);
    drop (&lost);
    drop (&next);
    drop (&again);
    identities_release (&x);
}

static void beyond_the_horizon_an_identity_is_new (void **state)
{
    (void) state;
    struct identities x;
    struct made m;
    struct fm_slice front;
    uint32_t count;
    char text[8][8];
    struct fm_slice ids[10];
    for (size_t i = 0; i < 8; i++) {
        (void) snprintf (text[i], sizeof text[i], "n%zu", i);
        ids[i] = slice_of (text[i]);
    }
    ids[8] = ids[0];
    ids[9] = ids[1];
    identities_init (&x, 8);
    make (&m, 1, 1, ids, 10, 1);
    assert_int_equal (identities_decide (&x, &m.batch, &front, &count), 0);
    assert_int_equal (count, 2);
    identities_release (&x);
    identities_init (&x, 4);
    assert_int_equal (identities_decide (&x, &m.batch, &front, &count), 0);
    assert_int_equal (count, 0);
    identities_release (&x);
    drop (&m);
}

/* A record has a bound: of a batch so large what does not fit beside it is not told. */
static void what_a_journal_says_of_a_batch_fits_into_its_record (void **state)
{
    (void) state;
    const struct fm_slice ids[] = { slice_of ("x"), slice_of ("x"), slice_of ("x") };
    struct made m;
    make (&m, 3, 1000, ids, 3, 1000);
    const size_t others = m.len - 3 * 1000 + 3 * 2 * 2; /* a large fact's length, and its payload's, take two bytes more */
    drop (&m);
    for (uint32_t fit = 0; fit < 3; fit++) {
        const size_t room = BATCH_DUPLICATES_HEAD + fit * (size_t) BATCH_DUPLICATE_MAX + BATCH_DUPLICATE_MAX / 2;
        struct identities x;
        struct fm_slice front;
        uint32_t count;
        identities_init (&x, 64);
        make (&m, 3, 1000, ids, 3, (RECORD_BODY_MAX - room - others) / 3);
        assert_true (RECORD_BODY_MAX - m.len >= room && RECORD_BODY_MAX - m.len < room + BATCH_DUPLICATE_MAX / 2);
        assert_int_equal (identities_decide (&x, &m.batch, &front, &count), 0);
        assert_int_equal (count, fit);
        assert_true (front.len <= RECORD_BODY_MAX - m.len);
        size_t len;
        uint8_t *bytes = with_front (&m, front, &len);
        struct batch_scratch scratch = { 0 };
        struct batch b;
        struct batch_duplicates d;
        assert_int_equal (batch_decode (bytes, len, slice (NULL, 0), &scratch, &b), 0);
        batch_duplicates_init (&d, &b);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal (batch_duplicates_meet (&d, 1000 + i), i > 0 && i <= fit);
        batch_scratch_release (&scratch);
        free (bytes);
        identities_release (&x);
        drop (&m);
    }
}

static int record_some (struct log *log, struct identities *x, int rounds)
{
    int rc = 0;
    for (int round = 0; round < rounds && rc == 0; round++) {
        for (unsigned stream = 1; stream <= WORK_STREAMS && rc == 0; stream++)
            rc = record_next (log, x, stream, 30000);
        if (rc == 0) {
            while ((rc = log_write (log)) == 0)
                continue;
            rc = rc == FM_ERR_END ? 0 : rc;
        }
        if (rc == 0 && round % 2)
            rc = log_sync (log, NULL);
    }
    return rc;
}

static void a_start_remembers_what_its_log_tells (void **state)
{
    struct log_setting *s = setting_of (state);
    struct identities x;
    identities_init (&x, IDENTITIES_MAX);
    assert_int_equal (record_some (s->log, &x, 30), 0);
    kit_sync (s->log);
    const uint32_t count = x.table.count;
    struct log_position position;
    for (int start = 0; start < 3; start++) {
        const struct oracle before = check_log (s->log);
        assert_true (before.duplicates > 50);
        reopen (s);
        identities_release (&x);
        uint32_t unread = 1;
        assert_int_equal (identities_load (&x, s->log, &unread), 0);
        assert_int_equal (unread, 0);
        if (start == 0)
            assert_int_equal (x.table.count, count);
        assert_int_equal (x.table.count, before.count);
        /* Segments without any between: they are stepped over. */
        for (int i = 0; i < 90; i++)
            kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 9, .first_seq = 1 + (uint64_t) (90 * start + i), .count = 1, .payload_len = 40000 });
        kit_sync (s->log);
        if (start == 1) {
            reopen (s);
            identities_release (&x);
        }
        assert_int_equal (record_some (s->log, &x, 5), 0);
        kit_sync (s->log);
        assert_true (check_log (s->log).duplicates > before.duplicates);
    }
    log_position (s->log, &position);
    struct log_segment_info segments[64];
    size_t segment_count;
    assert_int_equal (log_segment_list (s->log, segments, 64, &segment_count), 0);
    assert_true (segment_count > 12);
    identities_release (&x);
}

static void a_damaged_footer_costs_no_identity (void **state)
{
    struct log_setting *s = setting_of (state);
    struct identities x;
    char path[256];
    uint32_t unread;
    identities_init (&x, IDENTITIES_MAX);
    assert_int_equal (record_some (s->log, &x, 30), 0);
    kit_sync (s->log);
    const uint32_t count = x.table.count;
    log_destroy (&s->log);
    kit_segment_path (s->directory, 2, path);
    kit_flip (path, -20);                       /* the trailer */
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, -(192 + 256 + 40));         /* the last section */
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    identities_release (&x);
    assert_int_equal (identities_load (&x, s->log, &unread), 0);
    assert_int_equal (unread, 0);
    assert_int_equal (x.table.count, count);
    /* A segment that is lost whole takes its own. */
    log_destroy (&s->log);
    kit_segment_path (s->directory, 2, path);
    assert_int_equal (remove (path), 0);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    identities_release (&x);
    assert_int_equal (identities_load (&x, s->log, &unread), 0);
    assert_int_equal (unread, 1);
    assert_true (x.table.count < count && x.table.count > count / 3);
    identities_release (&x);
}

/* One life that ends at the n-th call; then what was there is gone on with. False: it did not end. */
static bool live_and_die (unsigned long n, unsigned keep_percent, bool power)
{
    char directory[128];
    struct log *log = NULL;
    struct identities x;
    struct fail_fs *f = fail_fs_new ();
    struct log_options options = { .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 4 << 20, .fs = fail_fs_seam (f) };
    kit_directory (directory);
    identities_init (&x, IDENTITIES_MAX);
    if (power)
        fail_fs_power_off (f, n);
    else
        fail_fs_fail (f, FAIL_ANY, n, -EIO);
    if (log_open (directory, &options, NULL, &log) == 0)
        (void) record_some (log, &x, 14);
    log_destroy (&log);
    identities_release (&x);
    const bool happened = fail_fs_happened (f);
    if (power)
        fail_fs_power_loss (f, (unsigned) n, keep_percent);
    fail_fs_destroy (&f);
    options.fs = NULL;
    for (int start = 0; start < 2; start++) {
        assert_int_equal (log_open (directory, &options, NULL, &log), 0);
        const uint64_t before = check_log (log).facts;
        assert_int_equal (record_some (log, &x, 4), 0);
        kit_sync (log);
        const struct oracle o = check_log (log);
        assert_int_equal (o.facts, before + 4 * 3 * WORK_STREAMS);
        assert_true (o.duplicates > 3);
        log_destroy (&log);
        identities_release (&x);
    }
    kit_remove (directory);
    return happened;
}

static void whenever_the_power_goes_each_identity_has_one_first (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (live_and_die (n, (unsigned) (n * 37) % 101, true))
        n++;
    assert_true (n > 40);
}

static void whichever_call_fails_each_identity_has_one_first (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (live_and_die (n, 0, false))
        n++;
    assert_true (n > 40);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        cmocka_unit_test (what_a_journal_says_stands_in_front_and_comes_off_again),
        cmocka_unit_test (a_cut_batch_keeps_what_is_said_of_its_facts),
        cmocka_unit_test (the_table_remembers_the_last_ones_and_no_more),
        cmocka_unit_test (beyond_the_horizon_an_identity_is_new),
        cmocka_unit_test (what_a_journal_says_of_a_batch_fits_into_its_record),
        CASE (the_first_with_an_identity_is_a_fact_and_the_others_repeat_it),
        CASE (what_was_not_recorded_is_nobodys_first),
        CASE (a_start_remembers_what_its_log_tells),
        CASE (a_damaged_footer_costs_no_identity),
        cmocka_unit_test (whenever_the_power_goes_each_identity_has_one_first),
        cmocka_unit_test (whichever_call_fails_each_identity_has_one_first),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
