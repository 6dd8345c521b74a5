/* window_file: what was kept comes back byte for byte, whatever hits the file; and nothing else does. GOLDEN_WRITE=1 writes tests/golden/window anew: its
 * bytes change together with window_file.h or not at all. */

#include "window_file_kit.h"

/* ------------------------------------------------------------------ cases */

static void what_was_kept_comes_back_byte_for_byte (void **state)
{
    (void) state;
    struct window_file *f = open_new (1 << 20);
    assert_int_equal (append (f, 1, 0), 0);             /* an empty payload */
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal (append (f, 1 + i % 5, i * 37 % 900), 0);
    assert_int_equal (append (f, 1, 100000), 0);        /* larger than what is written in one piece */
    assert_int_equal (append (f, 1, 1), 0);
    f = reopen (f, 1 << 20);
    check_restored ();
    assert_int_equal (found.damaged_bytes, 0);
    assert_int_equal (found.end_seq, kept.next_seq);
    kept.next_seq += 100;                               /* reserved, and never used */
    assert_int_equal (append (f, 3, 10), 0);
    f = reopen (f, 1 << 20);
    check_restored ();
    const struct window_item *last = window_last (&window);
    assert_null (window_find (&window, last->first_seq - 1));
    assert_ptr_equal (window_find_from (&window, last->first_seq - 1), last);
    done (f);
}

/* Append and let go at random, with kills between: round after round over a small ring. */
static void what_is_needed_survives_any_round_of_the_ring (void **state)
{
    (void) state;
    const uint64_t capacity = 4096 * 5;
    struct window_file *f = open_new (capacity);
    unsigned full = 0, kills = 0;
    for (int i = 0; i < 6000; i++) {
        const int rc = append (f, 1, sample_below (20) ? sample_below (600) : sample_below (9000));
        if (rc == FM_ERR_FULL) {
            assert_true (kept.first < kept.count);
            kept.first++;
            full++;
        } else {
            assert_int_equal (rc, 0);
        }
        while (kept.first < kept.count && sample_below (100) < 40)
            kept.first++;
        if (sample_below (100) == 0) {
            f = reopen (f, capacity);
            check_restored ();
            assert_int_equal (found.damaged_bytes, 0);
            kills++;
        }
    }
    assert_true (full > 10 && kills > 30);
    done (f);
}

static void an_empty_window_uses_the_rings_beginning_again (void **state)
{
    (void) state;
    struct window_file *f = open_new (64 << 20);
    for (int i = 0; i < 8000; i++) {
        assert_int_equal (append (f, 1, 1000), 0);
        kept.first = kept.count;
        if (kept.count == 1000)
            forget_kept ();
    }
    struct stat st;
    assert_int_equal (stat (path ("window"), &st), 0);
    assert_true (st.st_size < WINDOW_FILE_RING_POS + WINDOW_FILE_REWIND + 4096);
    forget_kept ();
    assert_int_equal (append (f, 2, 33), 0);
    f = reopen (f, 64 << 20);
    check_restored ();
    done (f);
}

static void a_torn_end_costs_what_is_torn (void **state)
{
    (void) state;
    struct window_file *f = open_new (1 << 16);
    for (int i = 0; i < 10; i++)
        assert_int_equal (append (f, 2, 50), 0);
    stop (&f);
    size_t len;
    uint8_t *bytes = file_read (&len);
    const size_t end = WINDOW_FILE_RING_POS + (size_t) kept.items[9].place + WINDOW_FILE_RECORD_HEAD + kept.items[9].len;
    for (size_t cut = WINDOW_FILE_RING_POS + (size_t) kept.items[9].place; cut < end; cut++) {
        file_write (bytes, cut);
        f = start_again (1 << 16);
        assert_int_equal (found.batches, 9);
        check_item (window_last (&window), 8);
        stop (&f);
    }
    free (bytes);
}

static void a_damaged_record_costs_itself_alone (void **state)
{
    (void) state;
    struct window_file *f = open_new (1 << 16);
    for (int i = 0; i < 10; i++)
        assert_int_equal (append (f, 2, 50), 0);
    stop (&f);
    size_t len;
    uint8_t *bytes = file_read (&len);
    const size_t begin = WINDOW_FILE_RING_POS + (size_t) kept.items[4].place;
    for (size_t at = begin; at < begin + WINDOW_FILE_RECORD_HEAD + kept.items[4].len; at++) {
        bytes[at] ^= (uint8_t) (1u << at % 8);
        file_write (bytes, len);
        bytes[at] ^= (uint8_t) (1u << at % 8);
        f = start_again (1 << 16);
        assert_int_equal (found.batches, 9);
        assert_true (found.damaged_bytes > 0);
        assert_null (window_find (&window, kept.items[4].first_seq));
        check_item (window_find (&window, kept.items[3].first_seq), 3);
        check_item (window_find (&window, kept.items[5].first_seq), 5);
        stop (&f);
    }
    free (bytes);
}

/* A record's own bytes within a payload, and at another place: when what is around them is damaged they must not come to light. */
static void a_record_at_a_wrong_place_is_none (void **state)
{
    (void) state;
    struct window_file *f = open_new (1 << 16);
    for (int i = 0; i < 3; i++)
        assert_int_equal (append (f, 1, 400), 0);
    stop (&f);
    size_t len;
    uint8_t *bytes = file_read (&len);
    const size_t record = (size_t) (kept.items[1].place - kept.items[0].place);
    uint8_t *ring = bytes + WINDOW_FILE_RING_POS;
    memcpy (ring + kept.items[1].place, ring + kept.items[0].place, record);    /* the first once more, over the second */
    file_write (bytes, len);
    free (bytes);
    f = start_again (1 << 16);
    assert_int_equal (found.batches, 2);
    assert_int_equal (found.refused, 0);                /* seen for what it is before its batch is looked at */
    assert_null (window_find (&window, kept.items[1].first_seq));
    done (f);
}

static void a_file_that_is_not_this_streams_or_not_whole_is_refused_and_left_alone (void **state)
{
    (void) state;
    struct window_file *f = open_new (1 << 16);
    assert_int_equal (append (f, 2, 50), 0);
    stop (&f);
    identity.epoch++;
    size_t len;
    uint8_t *bytes = file_read (&len);
    for (size_t at = 0; at < WINDOW_FILE_HEADER_LEN; at++) {
        bytes[at] ^= (uint8_t) (1u << at % 8);
        expect_refused (bytes, len, at > 8 && at < 12 ? FM_ERR_NEWER : FM_ERR_CORRUPT);
        bytes[at] ^= (uint8_t) (1u << at % 8);
    }
    for (size_t cut = 0; cut < WINDOW_FILE_HEADER_LEN; cut += 37)
        expect_refused (bytes, cut, FM_ERR_CORRUPT);
    /* One copy of its place is enough, none is not. */
    uint8_t *places[2] = { bytes + WINDOW_FILE_PLACE_POS, bytes + WINDOW_FILE_PLACE_POS + WINDOW_FILE_PLACE_STEP };
    places[0][3] ^= 1, places[1][3] ^= 1;
    expect_refused (bytes, len, FM_ERR_CORRUPT);
    places[0][3] ^= 1, places[1][3] ^= 1;
    identity.stream.bytes[0] ^= 1;
    expect_refused (bytes, len, FM_ERR_FOREIGN);
    identity.stream.bytes[0] ^= 1;
    window_init (&window, WINDOW_BYTES, kept.next_seq);
    assert_int_equal (window_file_open (&fs_real, &identity, slice_of ("tesu"), 1 << 16, false, &window, &f, &found), FM_ERR_FOREIGN);
    window_release (&window);
    assert_int_equal (open_file (&fs_real, 1 << 16, false, &f), 0);
    check_restored ();
    free (bytes);
    done (f);
}

/* Facts that claim this epoch or a later one, sequences that were never handed out, another stream. */
static void a_batch_that_cannot_be_ours_is_left_out (void **state)
{
    (void) state;
    struct window_file *f = open_new (1 << 16);
    assert_int_equal (append (f, 2, 50), 0);
    const struct fm_id stream = identity.stream;
    identity.stream.bytes[3] ^= 1;
    assert_int_equal (append (f, 2, 50), 0);
    identity.stream = stream;
    identity.epoch += 5;
    assert_int_equal (append (f, 2, 50), 0);
    identity.epoch -= 5;
    const uint64_t next_seq = kept.next_seq;
    kept.next_seq += 1000;
    assert_int_equal (append (f, 2, 50), 0);
    kept.next_seq = next_seq;
    assert_int_equal (append (f, 2, 50), 0);
    stop (&f);
    f = start_again (1 << 16);
    assert_int_equal (found.batches, 2);
    assert_int_equal (found.refused, 3);
    check_item (window_first (&window), 0);
    check_item (window_last (&window), 4);
    done (f);
}

/* Anything may be in the ring, sums that fit included: what comes back is in order and whole. */
static void noise_in_the_ring_harms_nothing (void **state)
{
    (void) state;
    struct window_file *f = open_new (1 << 16);
    for (int i = 0; i < 40; i++)
        assert_int_equal (append (f, 1 + (uint32_t) i % 3, sample_below (700)), 0);
    stop (&f);
    size_t len;
    uint8_t *bytes = file_read (&len), *noisy = malloc (len);
    for (int round = 0; round < 300; round++) {
        memcpy (noisy, bytes, len);
        for (uint64_t n = 1 + sample_below (30); n; n--) {
            const uint64_t at = WINDOW_FILE_RING_POS + sample_below (len - WINDOW_FILE_RING_POS - 64);
            if (sample_below (2))
                noisy[at] = (uint8_t) sample_u64 ();
            else
                memmove (noisy + at, noisy + WINDOW_FILE_RING_POS + sample_below (len - WINDOW_FILE_RING_POS - 64), 64);
        }
        file_write (noisy, len - sample_below (2000));
        f = start_again (1 << 16);
        size_t i = 0;
        for (const struct window_item *item = window_first (&window); item; item = window_find_from (&window, item->end_seq), i++) {
            while (i < kept.count && kept.items[i].first_seq != item->first_seq)
                i++;
            assert_true (i < kept.count);
            check_item (item, i);
        }
        stop (&f);
    }
    free (noisy);
    free (bytes);
}

/* tests/golden/window: what a killed publisher left, in a ring of 8192 bytes that it had gone round. Facts 1 to 30, three in a batch, were let go; 31 to
 * 40, one in a batch, payloads of (number - 31) * 40 bytes, are needed. */
enum { GOLDEN_FIRST = 31, GOLDEN_END = 41 };
static const char golden_directory[] = "tests/golden/window";

static void copy_file (const char *from_directory, const char *to_directory, const char *name)
{
    static uint8_t bytes[65536];
    char from[200], to[200];
    snprintf (from, sizeof from, "%s/%s", from_directory, name);
    snprintf (to, sizeof to, "%s/%s", to_directory, name);
    FILE *in = fopen (from, "rb"), *out = fopen (to, "wb");
    assert_non_null (in);
    assert_non_null (out);
    const size_t len = fread (bytes, 1, sizeof bytes, in);
    assert_int_equal (fwrite (bytes, 1, len, out), len);
    fclose (in);
    assert_int_equal (fclose (out), 0);
}

static void golden_write (void)
{
    struct window_file *f = open_new (8192);
    for (int i = 0; i < 10; i++) {
        assert_int_equal (append (f, 3, 200), 0);
        kept.first = kept.count;
    }
    for (size_t i = 0; i < GOLDEN_END - GOLDEN_FIRST; i++)
        assert_int_equal (append (f, 1, i * 40), 0);
    stop (&f);
    copy_file (directory, golden_directory, "stream");
    copy_file (directory, golden_directory, "window");
}

static void the_golden_file_is_read (void **state)
{
    (void) state;
    if (getenv ("GOLDEN_WRITE"))
        golden_write ();
    uint64_t reserved_end;
    assert_int_equal (identity_close (&identity, 1), 0);
    copy_file (golden_directory, directory, "stream");
    copy_file (golden_directory, directory, "window");
    assert_int_equal (identity_open (directory, slice_of ("test"), slice_of (""), &identity, &reserved_end), 0);
    kept.next_seq = identity.epoch_first_seq;
    struct window_file *f = NULL;
    assert_int_equal (open_file (&fs_real, 8192, false, &f), 0);
    assert_int_equal (found.damaged_bytes, 0);
    uint64_t seq = GOLDEN_FIRST;
    for (const struct window_item *item = window_first (&window); item; item = window_find_from (&window, item->end_seq), seq++) {
        struct batch b;
        struct batch_scratch own = { 0 };
        struct batch_reader reader;
        struct fm_fact fact;
        zmq_msg_t *message = (zmq_msg_t *) &item->message;
        assert_int_equal (batch_decode (zmq_msg_data (message), zmq_msg_size (message), slice_of ("test"), &own, &b), 0);
        batch_reader_init (&reader, &b);
        assert_int_equal (batch_reader_next (&reader, &fact), 0);
        assert_int_equal (fact.id.seq, seq);
        assert_int_equal (fact.payload.len, (seq - GOLDEN_FIRST) * 40);
        for (size_t i = 0; i < fact.payload.len; i++)
            assert_int_equal (((const uint8_t *) fact.payload.data)[i], fact_byte (seq, i));
        batch_scratch_release (&own);
    }
    assert_int_equal (seq, GOLDEN_END);
    done (f);
}

/* Open with the n-th call failing, for each n: then open again without, and all is there. */
static void an_open_that_fails_anywhere_loses_nothing (void **state)
{
    (void) state;
    struct fail_fs *fail = fail_fs_new ();
    struct window_file *f = open_new (1 << 16);
    for (int i = 0; i < 20; i++)
        assert_int_equal (append (f, 2, 300), 0);
    stop (&f);
    unsigned n = 0;
    int rc;
    do {
        identity.epoch++;
        fail_fs_fail (fail, FAIL_ANY, ++n, -EIO);
        rc = open_file (fail_fs_seam (fail), 1 << 16, true, &f);
        if (rc == 0) {
            check_restored ();
            stop (&f);
        }
        const bool failed = fail_fs_happened (fail);
        fail_fs_fail (fail, FAIL_ANY, 0, 0);
        f = start_again (1 << 16);
        check_restored ();
        assert_int_equal (kept.first, 0);
        stop (&f);
        if (!failed)
            break;
    } while (true);
    assert_int_equal (rc, 0);
    assert_true (n > 20);
    fail_fs_destroy (&fail);
}

static void a_full_disk_refuses_and_takes_it_when_there_is_room (void **state)
{
    (void) state;
    struct fail_fs *fail = fail_fs_new ();
    struct window_file *f = NULL;
    assert_int_equal (open_file (fail_fs_seam (fail), 1 << 16, false, &f), 0);
    for (int i = 0; i < 20; i++) {
        fail_fs_disk_full (fail, true);
        assert_int_equal (append (f, 1, 900), -ENOSPC);     /* half of it was written */
        fail_fs_disk_full (fail, false);
        assert_int_equal (append (f, 1, 500), 0);
    }
    f = reopen (f, 1 << 16);
    check_restored ();
    assert_int_equal (found.batches, 20);
    fail_fs_destroy (&fail);
    done (f);
}

static void after_a_failed_sync_nothing_more_is_taken (void **state)
{
    (void) state;
    struct fail_fs *fail = fail_fs_new ();
    struct window_file *f = NULL;
    assert_int_equal (open_file (fail_fs_seam (fail), 1 << 16, true, &f), 0);
    assert_int_equal (append (f, 1, 100), 0);
    fail_fs_fail (fail, FAIL_SYNC, 1, -EIO);
    assert_int_equal (append (f, 1, 100), -EIO);
    assert_int_equal (append (f, 1, 100), -EIO);            /* though this sync would not fail */
    stop (&f);
    fail_fs_power_loss (fail, 1, 0);
    fail_fs_destroy (&fail);
    f = start_again (1 << 16);
    check_restored ();
    done (f);
}

/* The power goes at the n-th call, for each n; what returned 0 with sync is there, around the ring and through opening again. */
static void what_was_synced_survives_power_loss (void **state)
{
    (void) state;
    unsigned losses = 0;
    for (unsigned n = 1; n < 400; n += 3) {
        struct fail_fs *fail = fail_fs_new ();
        struct window_file *f = NULL;
        int rc = open_file (&fs_real, 4096 * 2, false, &f);
        assert_int_equal (rc, 0);
        stop (&f);
        fail_fs_power_off (fail, n);
        rc = open_file (fail_fs_seam (fail), 4096 * 2, true, &f);
        for (unsigned i = 0; rc == 0 && i < 120; i++) {
            rc = append (f, 1, sample_below (900));
            while (kept.first < kept.count && kept.count - kept.first > 4)
                kept.first++;
            if (rc == 0 && i == 60) {
                stop (&f);
                identity.epoch++;
                rc = open_file (fail_fs_seam (fail), 4096 * 2, true, &f);
                if (rc == 0)
                    check_restored ();
            }
        }
        if (f)
            stop (&f);
        losses += fail_fs_happened (fail);
        fail_fs_power_loss (fail, n, n % 3 * 50);
        fail_fs_destroy (&fail);
        identity.epoch++;
        /* What was under way may have arrived all the same. */
        const uint64_t next_seq = kept.next_seq;
        kept.next_seq += 1;
        assert_int_equal (open_file (&fs_real, 4096 * 2, false, &f), 0);
        for (size_t i = kept.first; i < kept.count; i++) {
            const struct window_item *item = window_find (&window, kept.items[i].first_seq);
            assert_non_null (item);
            check_item (item, i);
        }
        kept.next_seq = next_seq + 1;
        done (f);
        forget_kept ();
    }
    assert_true (losses > 60);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest cases[] = {
        CASE (what_was_kept_comes_back_byte_for_byte),
        CASE (what_is_needed_survives_any_round_of_the_ring),
        CASE (an_empty_window_uses_the_rings_beginning_again),
        CASE (a_torn_end_costs_what_is_torn),
        CASE (a_damaged_record_costs_itself_alone),
        CASE (a_record_at_a_wrong_place_is_none),
        CASE (a_file_that_is_not_this_streams_or_not_whole_is_refused_and_left_alone),
        CASE (a_batch_that_cannot_be_ours_is_left_out),
        CASE (noise_in_the_ring_harms_nothing),
        CASE (the_golden_file_is_read),
        CASE (an_open_that_fails_anywhere_loses_nothing),
        CASE (a_full_disk_refuses_and_takes_it_when_there_is_room),
        CASE (after_a_failed_sync_nothing_more_is_taken),
        CASE (what_was_synced_survives_power_loss),
    };
    return cmocka_run_group_tests (cases, NULL, NULL);
}
