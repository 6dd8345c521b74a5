/* blob_store: whatever fails, is cut, or rots, what was stored comes back byte for byte or not at all. */

#include <fcntl.h>
#include <sys/stat.h>

#include "../support/blob_kit.h"

/* --- Damage. */

static void a_damaged_blob_is_never_handed_out_and_can_be_stored_again (void **state)
{
    (void) state;
    enum { SIZE = 2 * BLOB_BLOCK + 1000 };
    const uint64_t places[] = { 0, 9, 20, 42, 60, 100, 508, BLOB_HEAD_LEN, BLOB_HEAD_LEN + BLOB_BLOCK - 1, BLOB_HEAD_LEN + BLOB_BLOCK,
                             blob_block_at (1) + 5, blob_block_at (2) + 999, blob_block_at (2) + 1007 };
    struct blob_store *store = must_open ();
    char path[256];
    blob_path (SIZE, path);
    for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
        must_put (store, SIZE, true);
        kit_flip (path, (int64_t) places[i]);
        assert_int_equal (read_back (store, SIZE, 0), FM_ERR_CORRUPT);
        assert_int_equal (kit.damages, i + 1);
        assert_int_equal (files_below ("quarantine"), i + 1);
        assert_int_equal (read_back (store, SIZE, 0), FM_ERR_UNKNOWN);
    }
    must_put (store, SIZE, true);
    kit_truncate (path, SIZE);
    assert_int_equal (read_back (store, SIZE, 0), FM_ERR_CORRUPT);
    must_put (store, SIZE, true);
    assert_int_equal (read_back (store, SIZE, 0), 0);
    blob_store_destroy (&store);
}

static void a_block_in_anothers_place_does_not_pass (void **state)
{
    (void) state;
    enum { SIZE = 3 * BLOB_BLOCK };
    struct blob_store *store = must_open ();
    char path[256];
    static uint8_t block[BLOB_STRIDE];
    must_put (store, SIZE, true);
    blob_path (SIZE, path);
    const int fd = open (path, O_RDWR);
    assert_int_equal (pread (fd, block, sizeof block, (off_t) blob_block_at (0)), sizeof block);
    assert_int_equal (pwrite (fd, block, sizeof block, (off_t) blob_block_at (1)), sizeof block);
    close (fd);
    assert_int_equal (read_back (store, SIZE, 0), FM_ERR_CORRUPT);
    blob_store_destroy (&store);
}

/* --- Calls that fail, power that goes. */

static void whichever_call_fails_the_next_try_succeeds (void **state)
{
    (void) state;
    enum { SIZE = 2 * BLOB_BLOCK + 1000 };
    static const int errors[] = { -EIO, -ENOSPC };
    unsigned long n = 0;
    for (size_t e = 0; e < 2; e++)
        for (n = 1;; n++) {
            struct fail_fs *f = fail_fs_new ();
            struct blob_store *store = NULL;
            struct blob_info info;
            bool new = false;
            fail_fs_fail (f, FAIL_ANY, n, errors[e]);
            int rc = open_with (fail_fs_seam (f), &store);
            if (!rc)
                rc = try_put (store, SIZE, &info, &new);
            const bool happened = fail_fs_happened (f);
            fail_fs_fail (f, FAIL_ANY, 0, 0);
            /* What was confirmed is there; what was not is whole or not there. */
            if (store) {
                const int read = read_back (store, SIZE, 0);
                assert_true (read == 0 || (rc != 0 && read == FM_ERR_UNKNOWN));
            }
            blob_store_destroy (&store);
            assert_int_equal (open_with (fail_fs_seam (f), &store), 0);
            if (rc)
                assert_int_equal (try_put (store, SIZE, &info, &new), 0);
            assert_int_equal (read_back (store, SIZE, 0), 0);
            blob_store_destroy (&store);
            fail_fs_power_loss (f, (unsigned) n, 0);
            store = must_open ();
            assert_int_equal (read_back (store, SIZE, 0), 0);
            blob_store_destroy (&store);
            fail_fs_destroy (&f);
            blob_empty_root ();
            if (!happened)
                break;
        }
    assert_true (n > 10);
    assert_int_equal (kit.damages, 0);
}

static void whenever_the_power_goes_a_stored_blob_is_there (void **state)
{
    (void) state;
    enum { SIZE = 2 * BLOB_BLOCK + 1000 };
    for (unsigned keep = 0; keep <= 100; keep += 50)
        for (unsigned long n = 1;; n++) {
            struct fail_fs *f = fail_fs_new ();
            struct blob_store *store = NULL;
            struct blob_info info;
            bool new;
            fail_fs_power_off (f, n);
            int rc = open_with (fail_fs_seam (f), &store);
            if (!rc)
                rc = try_put (store, SIZE, &info, &new);
            const bool happened = fail_fs_happened (f);
            blob_store_destroy (&store);
            fail_fs_power_loss (f, (unsigned) n, keep);
            store = must_open ();
            const int read = read_back (store, SIZE, 0);
            assert_true (read == 0 || (rc != 0 && read == FM_ERR_UNKNOWN));
            assert_int_equal (try_put (store, SIZE, &info, &new), 0);
            assert_int_equal (read_back (store, SIZE, 0), 0);
            blob_store_destroy (&store);
            fail_fs_destroy (&f);
            blob_empty_root ();
            if (!happened)
                break;
        }
    assert_int_equal (kit.damages, 0);
}

static void a_full_disk_is_waited_out (void **state)
{
    (void) state;
    struct fail_fs *f = fail_fs_new ();
    struct blob_store *store = NULL;
    struct blob_upload *u = NULL;
    struct blob_info info;
    bool new;
    assert_int_equal (open_with (fail_fs_seam (f), &store), 0);
    assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
    assert_int_equal (upload_append (u, 300000), 0);
    fail_fs_disk_full (f, true);
    assert_int_equal (upload_append (u, 600000), -ENOSPC);
    assert_int_equal (upload_append (u, 600000), -ENOSPC);
    fail_fs_disk_full (f, false);
    assert_int_equal (upload_append (u, 600000), 0);
    fail_fs_disk_full (f, true);
    assert_int_equal (blob_upload_finish (u, NULL, 600000, 0, &info, &new), -ENOSPC);
    fail_fs_disk_full (f, false);
    assert_int_equal (blob_upload_finish (u, NULL, 600000, 0, &info, &new), 0);
    blob_upload_discard (&u);
    assert_int_equal (read_back (store, 600000, 0), 0);
    blob_store_destroy (&store);
    fail_fs_destroy (&f);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, blob_set_up, blob_tear_down)
    const struct CMUnitTest tests[] = {
        CASE (a_damaged_blob_is_never_handed_out_and_can_be_stored_again),
        CASE (a_block_in_anothers_place_does_not_pass),
        CASE (whichever_call_fails_the_next_try_succeeds),
        CASE (whenever_the_power_goes_a_stored_blob_is_there),
        CASE (a_full_disk_is_waited_out),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
