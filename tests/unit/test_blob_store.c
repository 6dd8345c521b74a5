/* blob_store: what was stored comes back byte for byte, is stored once, is gone on with where it was cut, and goes when nobody needs it, not before. What fails
 * and what rots: test_blob_faults.c. */

#include "../support/blob_kit.h"

/* --- Storing and reading. */

static void a_blob_comes_back_byte_for_byte (void **state)
{
    (void) state;
    static const size_t sizes[] = { 0, 1, BLOB_BLOCK - 1, BLOB_BLOCK, BLOB_BLOCK + 1, 3 * BLOB_BLOCK, 3 * BLOB_BLOCK + 17 };
    struct blob_store *store = must_open ();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        must_put (store, sizes[i], true);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t from = 0; from <= sizes[i]; from += sizes[i] / 7 + 1)
            assert_int_equal (read_back (store, sizes[i], from), 0);
    blob_store_destroy (&store);
    store = must_open ();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_int_equal (read_back (store, sizes[i], 0), 0);
    assert_int_equal (kit.damages, 0);
    blob_store_destroy (&store);
}

static void the_same_content_is_stored_once (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    must_put (store, 300000, true);
    must_put (store, 300000, false);
    assert_int_equal (files_below ("blobs"), 1);

    /* At the same time, too. */
    struct blob_upload *a = NULL, *b = NULL;
    struct blob_info info;
    bool new;
    assert_int_equal (blob_upload_open (store, slice ("a", 1), slice (NULL, 0), &a), 0);
    assert_int_equal (blob_upload_open (store, slice ("b", 1), slice (NULL, 0), &b), 0);
    assert_int_equal (upload_append (a, 5000), 0);
    assert_int_equal (upload_append (b, 5000), 0);
    assert_int_equal (blob_upload_finish (a, NULL, UINT64_MAX, 0, &info, &new), 0);
    assert_true (new);
    assert_int_equal (blob_upload_finish (b, NULL, UINT64_MAX, 0, &info, &new), 0);
    assert_false (new);
    blob_upload_discard (&a);
    blob_upload_discard (&b);
    assert_int_equal (files_below ("blobs"), 2);
    blob_store_destroy (&store);
}

static void blobs_are_listed_in_order_page_by_page (void **state)
{
    (void) state;
    enum { COUNT = 40, PAGE = 7 };
    struct blob_store *store = must_open ();
    for (size_t i = 0; i < COUNT; i++)
        must_put (store, 100 + i, true);
    struct blob_info page[PAGE];
    uint8_t last[BLOB_DIGEST_LEN] = { 0 };
    size_t count, total = 0;
    bool more = true, first = true;
    while (more) {
        assert_int_equal (blob_store_list (store, first ? NULL : last, page, PAGE, &count, &more), 0);
        for (size_t i = 0; i < count; i++) {
            assert_true (first || memcmp (page[i].digest, last, sizeof last) > 0);
            memcpy (last, page[i].digest, sizeof last);
            first = false;
            total += page[i].size;
        }
    }
    assert_int_equal (total, COUNT * 100 + COUNT * (COUNT - 1) / 2);
    blob_store_destroy (&store);
}

static void a_list_and_a_sweep_go_on_within_a_folder (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_sweep sweep = { .folder = 0 };
    struct blob_info info;
    size_t sizes[2], count;
    bool more;
    sizes_of_one_folder (sizes);
    must_put (store, sizes[1], true);
    must_put (store, sizes[0], true);
    assert_int_equal (blob_store_list (store, NULL, &info, 1, &count, &more), 0);
    assert_true (count == 1 && more && info.size == sizes[0]);
    assert_int_equal (blob_store_list (store, info.digest, &info, 1, &count, &more), 0);
    assert_true (count == 1 && !more && info.size == sizes[1]);

    digest_of (sizes[0], use.digest);
    kit.clock.now_ns += 2 * HOUR;
    assert_int_equal (blob_store_sweep (store, &sweep, 1, is_used, &use), FM_ERR_FULL);
    assert_true (use.asked == 1 && sweep.removed == 0);
    assert_int_equal (blob_store_sweep (store, &sweep, 1, is_used, &use), 0);
    assert_true (use.asked == 2 && sweep.removed == 1);
    assert_int_equal (read_back (store, sizes[0], 0), 0);
    assert_int_equal (read_back (store, sizes[1], 0), FM_ERR_UNKNOWN);
    blob_store_destroy (&store);
}

static void without_options_a_lease_is_an_hour_by_the_real_clock (void **state)
{
    (void) state;
    struct blob_store *store = NULL;
    struct blob_info info;
    bool new;
    const uint64_t before = clock_real.unix_ns (NULL);
    assert_int_equal (blob_store_open (kit.root, NULL, &store), 0);
    assert_int_equal (try_put (store, 1000, &info, &new), 0);
    assert_true (info.lease_ns >= before + HOUR && info.lease_ns <= clock_real.unix_ns (NULL) + HOUR);
    blob_store_destroy (&store);
}

/* --- Refusing. */

static void bytes_that_are_not_what_was_said_are_refused (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct blob_upload *u = NULL;
    struct blob_info info;
    bool new;
    uint8_t digest[BLOB_DIGEST_LEN];
    digest_of (300000, digest);
    assert_int_equal (blob_upload_open (store, slice ("a", 1), slice (NULL, 0), &u), 0);
    assert_int_equal (upload_append (u, 299999), 0);
    assert_int_equal (blob_upload_finish (u, digest, 300000, 0, &info, &new), FM_ERR_END);
    assert_int_equal (blob_upload_finish (u, digest, UINT64_MAX, 0, &info, &new), FM_ERR_CORRUPT);
    blob_upload_discard (&u);
    assert_int_equal (files_below ("blobs"), 0);
    assert_int_equal (blob_store_stat (store, digest, &info), FM_ERR_UNKNOWN);
    blob_store_destroy (&store);
}

static void limits_are_kept (void **state)
{
    (void) state;
    const struct blob_store_options options = { .clock = &kit.clock.clock, .size_max = 1000 };
    struct blob_store *store = NULL;
    struct blob_upload *uploads[BLOB_UPLOADS_MAX] = { NULL }, *one = NULL;
    size_t taken = 0;
    assert_int_equal (blob_store_open (kit.root, &options, &store), 0);
    for (uint8_t i = 0; i < BLOB_UPLOADS_MAX; i++)
        assert_int_equal (blob_upload_open (store, slice (&i, 1), slice (NULL, 0), &uploads[i]), 0);
    assert_int_equal (blob_upload_open (store, slice ("zz", 2), slice (NULL, 0), &one), FM_ERR_LIMIT);
    blob_upload_close (&uploads[7]);
    assert_int_equal (blob_upload_open (store, slice ("\3", 1), slice (NULL, 0), &one), FM_ERR_IN_USE);
    assert_int_equal (blob_upload_open (store, slice ("zz", 2), slice (NULL, 0), &one), 0);
    assert_int_equal (blob_upload_write (one, content, 1000, &taken), 0);
    assert_int_equal (blob_upload_write (one, content, 1, &taken), FM_ERR_TOO_LARGE);
    blob_upload_discard (&one);
    for (size_t i = 0; i < BLOB_UPLOADS_MAX; i++)
        blob_upload_discard (&uploads[i]);
    blob_upload_close (&one);           /* none: nothing to do */
    blob_store_destroy (&store);
}

/* --- Resuming. */

static void an_upload_goes_on_where_it_was_cut (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct blob_upload *u = NULL;
    /* Half a block is in memory: that is sent again. */
    assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
    assert_int_equal (upload_append (u, 3 * BLOB_BLOCK + BLOB_BLOCK / 2), 0);
    blob_upload_close (&u);
    blob_store_destroy (&store);
    store = must_open ();
    assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice (NULL, 0), &u), 0);
    assert_int_equal (upload_resume (u), 0);
    assert_int_equal (blob_upload_next (u), 3 * BLOB_BLOCK);
    blob_upload_close (&u);
    must_put (store, CONTENT_MAX - 5, true);
    assert_int_equal (read_back (store, CONTENT_MAX - 5, 0), 0);
    assert_int_equal (files_below ("blobs"), 1);
    blob_store_destroy (&store);
}

static void what_does_not_check_in_a_cut_upload_is_sent_again (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct blob_upload *u = NULL;
    char path[256];
    for (unsigned block = 0; block < 4; block++) {
        assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
        assert_int_equal (upload_resume (u), 0);
        assert_int_equal (upload_append (u, 4 * BLOB_BLOCK), 0);
        blob_upload_close (&u);
        upload_path (path);
        kit_flip (path, (int64_t) blob_block_at (block) + 1000);
        assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
        assert_int_equal (upload_resume (u), 0);
        assert_int_equal (blob_upload_next (u), block * BLOB_BLOCK);
        blob_upload_close (&u);
    }
    /* Cut within a block, and with a header that is no good. */
    kit_truncate (path, blob_block_at (2) + 77);
    assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
    assert_int_equal (upload_resume (u), 0);
    assert_int_equal (blob_upload_next (u), 2 * BLOB_BLOCK);
    blob_upload_close (&u);
    kit_flip (path, 20);
    must_put (store, CONTENT_MAX, true);
    assert_int_equal (read_back (store, CONTENT_MAX, 0), 0);
    blob_store_destroy (&store);
}

/* --- Leases and sweeping. */

static void only_what_nobody_uses_goes_and_not_within_its_lease (void **state)
{
    (void) state;
    enum { COUNT = 20 };
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_info info;
    uint8_t leased[BLOB_DIGEST_LEN];
    for (size_t i = 0; i < COUNT; i++)
        must_put (store, 1000 + i, true);
    digest_of (1000, use.digest);
    digest_of (1001, leased);
    kit.clock.now_ns += HOUR - SECOND;
    assert_int_equal (sweep_all (store, &use), 0);
    assert_int_equal (use.asked, 0);
    assert_int_equal (blob_store_lease (store, leased, 3600 * 1000, &info), 0);
    assert_true (info.lease_ns == kit.clock.now_ns + HOUR);
    kit.clock.now_ns += 2 * SECOND;
    /* Not while it can't be told. */
    struct blob_sweep sweep = { .folder = 0 };
    use.others = FM_ERR_UNKNOWN;
    assert_int_equal (blob_store_sweep (store, &sweep, 100, is_used, &use), FM_ERR_UNKNOWN);
    assert_int_equal (sweep.removed, 0);
    use.others = 0;
    assert_int_equal (sweep_all (store, &use), COUNT - 2);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal (read_back (store, 1000 + i, 0), i < 2 ? 0 : FM_ERR_UNKNOWN);
    kit.clock.now_ns += HOUR;
    assert_int_equal (sweep_all (store, &use), 1);
    assert_int_equal (read_back (store, 1000, 0), 0);
    blob_store_destroy (&store);
}

static void a_lease_never_gets_shorter_and_survives_a_start (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_info info;
    uint8_t digest[BLOB_DIGEST_LEN];
    must_put (store, 1000, true);
    must_put (store, 1001, true);
    digest_of (1000, digest);
    const uint64_t until = kit.clock.now_ns + 10 * HOUR;
    assert_int_equal (blob_store_lease (store, digest, 10 * 3600 * 1000, &info), 0);
    assert_int_equal (blob_store_lease (store, digest, 1, &info), 0);
    assert_true (info.lease_ns == until);
    blob_store_destroy (&store);
    /* A journal that was away for long: whoever had no time to record his fact has it again. */
    kit.clock.now_ns += 5 * HOUR;
    store = must_open ();
    assert_int_equal (sweep_all (store, &use), 0);
    kit.clock.now_ns += HOUR + SECOND;
    assert_int_equal (sweep_all (store, &use), 1);
    assert_int_equal (blob_store_stat (store, digest, &info), 0);
    assert_true (info.lease_ns == until);
    kit.clock.now_ns = until + SECOND;
    assert_int_equal (sweep_all (store, &use), 1);
    blob_store_destroy (&store);
}

static void an_upload_that_nobody_goes_on_with_goes (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_upload *cut = NULL, *live = NULL;
    assert_int_equal (blob_upload_open (store, slice ("cut", 3), slice (NULL, 0), &cut), 0);
    assert_int_equal (blob_upload_open (store, slice ("live", 4), slice (NULL, 0), &live), 0);
    assert_int_equal (upload_append (cut, 300000), 0);
    assert_int_equal (upload_append (live, 300000), 0);
    blob_upload_close (&cut);
    kit.clock.now_ns += 23 * HOUR;
    (void) sweep_all (store, &use);
    assert_int_equal (files_below ("blobs/upload"), 2);
    kit.clock.now_ns += 2 * HOUR;
    (void) sweep_all (store, &use);
    assert_int_equal (files_below ("blobs/upload"), 1);
    assert_int_equal (upload_append (live, 500000), 0);
    blob_upload_discard (&live);
    blob_store_destroy (&store);
}

static void who_reads_a_blob_that_is_removed_reads_it_to_its_end (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_reader *r = NULL;
    struct fm_slice bytes;
    uint8_t digest[BLOB_DIGEST_LEN];
    must_put (store, 2 * BLOB_BLOCK, true);
    digest_of (2 * BLOB_BLOCK, digest);
    assert_int_equal (blob_reader_open (store, digest, &r), 0);
    kit.clock.now_ns += 2 * HOUR;
    assert_int_equal (sweep_all (store, &use), 1);
    assert_int_equal (blob_reader_at (r, BLOB_BLOCK + 5, &bytes), 0);
    assert_memory_equal (bytes.data, content + BLOB_BLOCK + 5, bytes.len);
    blob_reader_close (&r);
    blob_store_destroy (&store);
}

/* --- Bytes on disk: as FORMAT.md says, for ever. GOLDEN_WRITE=1 writes them anew. */

static void the_golden_file_is_what_we_write_and_read (void **state)
{
    (void) state;
    static const char path[] = "tests/golden/journal/blob.bin", bytes[] = "a blob";
    enum { LEN = sizeof bytes - 1, FILE_LEN = BLOB_HEAD_LEN + LEN + BLOB_SUM_LEN };
    static uint8_t file[FILE_LEN], golden[FILE_LEN + 1];
    struct blob_header h = { .complete = true, .info = { .size = LEN, .stored_ns = UINT64_C (1700000000000000000), .media_type_len = 10, .media_type = "text/plain" } };
    const struct blob_lease lease = { .until_ns = UINT64_C (1700003600000000000), .number = 1 };
    struct sha256 *s;
    for (uint8_t i = 0; i < BLOB_SALT_LEN; i++)
        h.salt[i] = i;
    assert_int_equal (sha256_new (&s), 0);
    assert_int_equal (sha256_add (s, bytes, LEN), 0);
    assert_int_equal (sha256_get (s, h.info.digest), 0);
    sha256_destroy (&s);
    blob_header_encode (&h, file);
    blob_lease_encode (&h, &lease, file + BLOB_LEASE_AT);
    memcpy (file + BLOB_HEAD_LEN, bytes, LEN);
    bytes_put_u64le (file + BLOB_HEAD_LEN + LEN, blob_block_sum (&h, 0, bytes, LEN));
    FILE *f;
    if (getenv ("GOLDEN_WRITE")) {
        assert_non_null (f = fopen (path, "wb"));
        assert_int_equal (fwrite (file, 1, sizeof file, f), sizeof file);
        assert_int_equal (fclose (f), 0);
    }
    assert_non_null (f = fopen (path, "rb"));
    assert_int_equal (fread (golden, 1, sizeof golden, f), sizeof file);
    fclose (f);
    assert_memory_equal (golden, file, sizeof file);
    /* A store that holds it reads it. */
    struct blob_store *store = must_open ();
    char command[512], text[BLOB_DIGEST_TEXT_LEN + 1];
    blob_digest_text (h.info.digest, text);
    (void) snprintf (command, sizeof command, "mkdir -p '%s/blobs/%.2s' && cp %s '%s/blobs/%.2s/%s'", kit.root, text, path, kit.root, text, text);
    assert_int_equal (system (command), 0);
    struct blob_reader *r = NULL;
    struct fm_slice read;
    assert_int_equal (blob_reader_open (store, h.info.digest, &r), 0);
    assert_int_equal (blob_reader_at (r, 0, &read), 0);
    assert_true (slice_equal (read, slice (bytes, LEN)));
    assert_true (blob_reader_info (r)->stored_ns == h.info.stored_ns);
    blob_reader_close (&r);
    blob_store_destroy (&store);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, blob_set_up, blob_tear_down)
    const struct CMUnitTest tests[] = {
        CASE (a_blob_comes_back_byte_for_byte),
        CASE (the_same_content_is_stored_once),
        CASE (blobs_are_listed_in_order_page_by_page),
        CASE (a_list_and_a_sweep_go_on_within_a_folder),
        CASE (without_options_a_lease_is_an_hour_by_the_real_clock),
        CASE (bytes_that_are_not_what_was_said_are_refused),
        CASE (limits_are_kept),
        CASE (an_upload_goes_on_where_it_was_cut),
        CASE (what_does_not_check_in_a_cut_upload_is_sent_again),
        CASE (only_what_nobody_uses_goes_and_not_within_its_lease),
        CASE (a_lease_never_gets_shorter_and_survives_a_start),
        CASE (an_upload_that_nobody_goes_on_with_goes),
        CASE (who_reads_a_blob_that_is_removed_reads_it_to_its_end),
        CASE (the_golden_file_is_what_we_write_and_read),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
