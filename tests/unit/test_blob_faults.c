/* blob_store: whatever fails, is cut, or rots, what was stored comes back byte for byte or not at all. */

#include <fcntl.h>
#include <sys/stat.h>

#include "../support/blob_kit.h"
#include "checksum.h"

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

/* Who has the damaged file open goes on reading that one: what he finds says nothing of the one that was stored in its place. */
static void a_blob_stored_again_is_not_taken_for_its_damaged_copy (void **state)
{
    (void) state;
    enum { SIZE = 2 * BLOB_BLOCK, READERS = 3 };
    struct blob_store *store = must_open ();
    struct blob_reader *readers[READERS] = { NULL };
    struct fm_slice bytes;
    uint8_t digest[BLOB_DIGEST_LEN];
    char path[256];
    must_put (store, SIZE, true);
    digest_of (SIZE, digest);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal (blob_reader_open (store, digest, &readers[i]), 0);
    blob_path (SIZE, path);
    kit_flip (path, BLOB_HEAD_LEN);
    for (size_t i = 0; i < READERS; i++) {
        if (i == READERS - 1)
            must_put (store, SIZE, true);
        assert_int_equal (blob_reader_at (readers[i], 0, &bytes), FM_ERR_CORRUPT);
        assert_non_null (strstr (fm_error_detail (), "is damaged here: bytes 0 to "));
        blob_reader_close (&readers[i]);
        assert_int_equal (kit.damages, 1);
        assert_int_equal (files_below ("quarantine"), 1);
    }
    assert_int_equal (read_back (store, SIZE, 0), 0);
    blob_store_destroy (&store);
}

/* The header's bytes, changed; its sum fits again. */
static void change_header (const char *path, size_t at, uint8_t to)
{
    uint8_t bytes[BLOB_HEADER_LEN];
    const int fd = open (path, O_RDWR);
    assert_int_equal (pread (fd, bytes, sizeof bytes, 0), sizeof bytes);
    bytes[at] = to;
    bytes_put_u64le (bytes + BLOB_HEADER_LEN - 8, checksum (bytes, BLOB_HEADER_LEN - 8));
    assert_int_equal (pwrite (fd, bytes, sizeof bytes, 0), sizeof bytes);
    close (fd);
}

static void what_bears_a_blobs_name_and_is_another_is_put_away (void **state)
{
    (void) state;
    enum { AT_SIZE = 40, AT_COMPLETE = 48, AT_DIGEST = 56, SIZE = 1000 };
    static const struct {
        size_t at;                      /* 0: the file is cut */
        const char *says;
    } cases[] = { { 0, "a file of 4000 bytes is too short" },
                  { AT_COMPLETE, "its header is of another blob" },
                  { AT_DIGEST, "its header is of another blob" },
                  { AT_SIZE + 1, "bytes in the file" },
                  { AT_SIZE + 7, "bytes in the file" } };
    struct blob_store *store = must_open ();
    char path[256];
    blob_path (SIZE, path);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        must_put (store, SIZE, true);
        if (cases[i].at)
            change_header (path, cases[i].at, 0xEE);
        else
            kit_truncate (path, 4000);
        assert_int_equal (read_back (store, SIZE, 0), FM_ERR_CORRUPT);
        assert_non_null (strstr (fm_error_detail (), cases[i].says));
        assert_int_equal (kit.damages, i + 1);
        assert_non_null (strstr (kit.damage_text, cases[i].says));
        assert_int_equal (files_below ("quarantine"), i + 1);
    }
    must_put (store, SIZE, true);
    assert_int_equal (read_back (store, SIZE, 0), 0);
    blob_store_destroy (&store);
}

/* No damage: somebody may go on with a newer version here. */
static void a_blob_of_a_newer_format_is_refused_and_left_as_it_is (void **state)
{
    (void) state;
    enum { AT_MAJOR = 8, SIZE = 1000 };
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_info info;
    size_t count;
    bool is;
    char path[256];
    must_put (store, SIZE, true);
    blob_path (SIZE, path);
    change_header (path, AT_MAJOR, BLOB_FILE_MAJOR + 1);
    assert_int_equal (read_back (store, SIZE, 0), FM_ERR_NEWER);
    assert_string_equal (fm_error_detail (), "a blob of format 2; this is 1");
    assert_int_equal (try_put (store, SIZE, &info, &is), FM_ERR_NEWER);
    assert_int_equal (blob_store_list (store, NULL, &info, 1, &count, &is), 0);
    assert_true (count == 0 && !is);
    kit.clock.now_ns += 2 * HOUR;
    assert_int_equal (sweep_all (store, &use), 0);
    assert_int_equal (kit.damages, 0);
    change_header (path, AT_MAJOR, BLOB_FILE_MAJOR);
    assert_int_equal (read_back (store, SIZE, 0), 0);
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

static void what_cannot_be_read_now_is_no_damage (void **state)
{
    (void) state;
    enum { SIZE = 2 * BLOB_BLOCK };
    struct fail_fs *f = fail_fs_new ();
    struct blob_store *store = NULL;
    unsigned failed = 0;
    assert_int_equal (open_with (fail_fs_seam (f), &store), 0);
    must_put (store, SIZE, true);
    for (unsigned long n = 1;; n++) {
        fail_fs_fail (f, FAIL_READ, n, -EIO);
        const int rc = read_back (store, SIZE, 0);
        if (!fail_fs_happened (f))
            break;
        assert_true (rc == 0 || rc == -EIO);        /* 0: a lease, which is then the longest that it may be */
        failed += rc != 0;
        assert_int_equal (read_back (store, SIZE, 0), 0);
    }
    assert_int_equal (failed, 3);       /* the head and two blocks */
    assert_int_equal (kit.damages, 0);
    blob_store_destroy (&store);
    fail_fs_destroy (&f);
}

static void damage_that_cannot_be_put_away_is_told_and_never_handed_out (void **state)
{
    (void) state;
    enum { SIZE = BLOB_BLOCK };
    char path[256];
    for (unsigned long n = 1;; n++) {
        struct fail_fs *f = fail_fs_new ();
        struct blob_store *store = NULL;
        assert_int_equal (open_with (fail_fs_seam (f), &store), 0);
        must_put (store, SIZE, true);
        blob_path (SIZE, path);
        kit_flip (path, BLOB_HEAD_LEN);
        kit.damages = 0;
        fail_fs_fail (f, FAIL_ANY, n, -EIO);
        assert_int_equal (read_back (store, SIZE, 0), FM_ERR_CORRUPT);
        const bool happened = fail_fs_happened (f);
        assert_int_equal (kit.damages, 1);
        assert_non_null (strstr (kit.damage_text, happened ? "it could not be put into quarantine/: " : "it is in quarantine/ now, and can be stored again"));
        fail_fs_fail (f, FAIL_ANY, 0, 0);
        const int rc = read_back (store, SIZE, 0);
        assert_true (rc == FM_ERR_UNKNOWN || (happened && rc == FM_ERR_CORRUPT));
        assert_int_equal (files_below ("quarantine"), 1);
        must_put (store, SIZE, true);
        assert_int_equal (read_back (store, SIZE, 0), 0);
        blob_store_destroy (&store);
        fail_fs_destroy (&f);
        blob_empty_root ();
        if (!happened) {
            assert_int_equal (n, 6);    /* make the folder, sync that, rename, sync both */
            break;
        }
    }
}

/* The lease, the folder's name, the blob's name. */
static void a_lease_is_confirmed_when_all_of_it_is_on_disk (void **state)
{
    (void) state;
    struct fail_fs *f = fail_fs_new ();
    struct blob_store *store = NULL;
    struct blob_info info;
    uint8_t digest[BLOB_DIGEST_LEN];
    assert_int_equal (open_with (fail_fs_seam (f), &store), 0);
    must_put (store, 1000, true);
    digest_of (1000, digest);
    for (unsigned long n = 1; n <= 4; n++) {
        kit.clock.now_ns += HOUR;
        fail_fs_fail (f, FAIL_SYNC, n, -EIO);
        assert_int_equal (blob_store_lease (store, digest, 0, &info), n <= 3 ? -EIO : 0);
        assert_int_equal (fail_fs_happened (f), n <= 3);
    }
    assert_true (info.lease_ns == kit.clock.now_ns + HOUR);
    assert_int_equal (kit.damages, 0);
    blob_store_destroy (&store);
    fail_fs_destroy (&f);
}

static void an_upload_whose_sync_failed_is_over (void **state)
{
    (void) state;
    struct fail_fs *f = fail_fs_new ();
    struct blob_store *store = NULL;
    struct blob_upload *u = NULL;
    struct blob_info info;
    bool new;
    size_t taken;
    assert_int_equal (open_with (fail_fs_seam (f), &store), 0);
    assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
    assert_int_equal (upload_append (u, 300000), 0);
    fail_fs_fail (f, FAIL_SYNC, 1, -EIO);
    assert_int_equal (blob_upload_sync (u), -EIO);
    assert_int_equal (blob_upload_synced (u), 0);
    assert_int_equal (blob_upload_write (u, content, 1, &taken), -EIO);
    assert_int_equal (blob_upload_sync (u), -EIO);
    assert_int_equal (blob_upload_finish (u, NULL, 300000, 0, &info, &new), -EIO);
    blob_upload_discard (&u);
    must_put (store, 300000, true);
    assert_int_equal (read_back (store, 300000, 0), 0);
    blob_store_destroy (&store);
    fail_fs_destroy (&f);
}

/* --- Somebody else, just then. */

/* What is done while the next file is synced. */
static struct {
    struct blob_store *store;
    enum { NOTHING, STORE_THE_SAME, TAKE_THE_NAME } what;
} meanwhile;

static int busy_sync (void *context, int fd)
{
    const int what = meanwhile.what;
    char path[256];
    meanwhile.what = NOTHING;
    if (what == STORE_THE_SAME) {
        struct blob_upload *u = NULL;
        struct blob_info info;
        bool new;
        assert_int_equal (blob_upload_open (meanwhile.store, slice ("other", 5), slice_of ("text/plain"), &u), 0);
        assert_int_equal (upload_append (u, 5000), 0);
        assert_int_equal (blob_upload_finish (u, NULL, 5000, 0, &info, &new), 0);
        assert_true (new);
        blob_upload_discard (&u);
    } else if (what == TAKE_THE_NAME) {
        blob_path (5000, path);
        char folder[256];
        (void) snprintf (folder, sizeof folder, "%.*s", (int) (strrchr (path, '/') - path), path);
        (void) mkdir (folder, 0777);    /* it may be there */
        assert_int_equal (symlink (path, path), 0);
    }
    return fs_real.sync_data (context, fd);
}

/* Between an upload's look for the blob and its own taking of the name. */
static void a_name_that_somebody_took_meanwhile_is_not_taken_again (void **state)
{
    (void) state;
    struct fs fs = fs_real;
    struct blob_upload *u = NULL;
    struct blob_info info;
    bool new = true;
    char path[256];
    fs.sync_data = busy_sync;
    assert_int_equal (open_with (&fs, &meanwhile.store), 0);
    assert_int_equal (blob_upload_open (meanwhile.store, slice ("one", 3), slice_of ("text/plain"), &u), 0);
    assert_int_equal (upload_append (u, 5000), 0);
    meanwhile.what = TAKE_THE_NAME;
    assert_int_equal (blob_upload_finish (u, NULL, 5000, 0, &info, &new), -ELOOP);
    blob_upload_discard (&u);
    blob_path (5000, path);
    assert_int_equal (unlink (path), 0);

    assert_int_equal (blob_upload_open (meanwhile.store, slice ("one", 3), slice_of ("text/plain"), &u), 0);
    assert_int_equal (upload_append (u, 5000), 0);
    meanwhile.what = STORE_THE_SAME;
    assert_int_equal (blob_upload_finish (u, NULL, 5000, 0, &info, &new), 0);
    assert_false (new);
    blob_upload_discard (&u);
    assert_int_equal (files_below ("blobs"), 1);
    assert_int_equal (read_back (meanwhile.store, 5000, 0), 0);
    blob_store_destroy (&meanwhile.store);
}

/* Asked whether it is in use, somebody does this to the file. */
struct attack {
    char path[256];
    struct fail_fs *f;
    enum { REMOVE, DAMAGE, UNREADABLE } how;
};

static int attack (void *arg, const uint8_t *digest)
{
    const struct attack *a = arg;
    (void) digest;
    if (a->how == REMOVE)
        assert_int_equal (unlink (a->path), 0);
    else if (a->how == DAMAGE)
        kit_flip (a->path, 20);
    else
        fail_fs_fail (a->f, FAIL_READ, 1, -EIO);
    return 0;
}

static void what_goes_or_rots_while_it_is_asked_about_is_not_swept (void **state)
{
    (void) state;
    for (int how = REMOVE; how <= UNREADABLE; how++) {
        struct attack a = { .f = fail_fs_new (), .how = (unsigned) how };
        struct blob_store *store = NULL;
        struct blob_sweep sweep = { .folder = 0 };
        assert_int_equal (open_with (fail_fs_seam (a.f), &store), 0);
        must_put (store, 1000, true);
        blob_path (1000, a.path);
        kit.clock.now_ns += 2 * HOUR;
        assert_int_equal (blob_store_sweep (store, &sweep, 100, attack, &a), how == UNREADABLE ? -EIO : 0);
        assert_int_equal (sweep.removed, 0);
        assert_int_equal (kit.damages, how >= DAMAGE);
        assert_int_equal (files_below ("quarantine"), how == DAMAGE);
        assert_int_equal (read_back (store, 1000, 0), how == UNREADABLE ? 0 : FM_ERR_UNKNOWN);
        blob_store_destroy (&store);
        fail_fs_destroy (&a.f);
        blob_empty_root ();
    }
}

/* What lies in the store's folders and is none of its own. */
static void what_is_not_the_stores_stays_and_does_not_keep_it_from_its_work (void **state)
{
    (void) state;
    enum { EACH = 8 };
    struct blob_store *store = must_open ();
    struct blob_upload *cut = NULL;
    struct use use = { .others = 0 };
    struct blob_sweep sweep = { .folder = 0 };
    struct blob_info info;
    uint8_t digest[BLOB_DIGEST_LEN];
    size_t count;
    bool more;
    char path[256], beside[300];
    must_put (store, 1000, true);
    blob_path (1000, path);
    (void) snprintf (beside, sizeof beside, "%s.txt", path);
    assert_int_equal (link (path, beside), 0);
    /* Among uploads: folders, a name that leads nowhere, and those that were cut, in any order. */
    for (uint8_t i = 0; i < EACH; i++) {
        (void) snprintf (path, sizeof path, "%s/blobs/upload/folder-%u.part", kit.root, i);
        assert_int_equal (mkdir (path, 0777), 0);
        assert_int_equal (blob_upload_open (store, slice (&i, 1), slice (NULL, 0), &cut), 0);
        blob_upload_close (&cut);
    }
    (void) snprintf (path, sizeof path, "%s/blobs/upload/nowhere.part", kit.root);
    assert_int_equal (symlink ("nowhere", path), 0);
    assert_int_equal (blob_store_list (store, NULL, &info, 1, &count, &more), 0);
    assert_true (count == 1 && !more);
    kit.clock.now_ns += 30 * HOUR;
    assert_int_equal (blob_store_sweep (store, &sweep, 100, is_used, &use), -EISDIR);
    assert_true (sweep.removed == 1 && sweep.uploads_removed == EACH);
    assert_int_equal (access (beside, F_OK), 0);

    /* A file where a folder of blobs should be, and a folder where a blob should be. */
    (void) snprintf (path, sizeof path, "%s/blobs/ff", kit.root);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    (void) fclose (file);
    assert_int_equal (blob_store_list (store, NULL, &info, 1, &count, &more), -ENOTDIR);
    assert_int_equal (blob_store_sweep (store, &(struct blob_sweep) { .folder = 0 }, 100, is_used, &use), -ENOTDIR);
    must_put (store, 1001, true);
    blob_path (1001, path);
    assert_true (unlink (path) == 0 && mkdir (path, 0777) == 0);
    digest_of (1001, digest);
    assert_int_equal (blob_store_stat (store, digest, &info), -EISDIR);
    assert_int_equal (kit.damages, 0);
    blob_store_destroy (&store);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, blob_set_up, blob_tear_down)
    const struct CMUnitTest tests[] = {
        CASE (a_damaged_blob_is_never_handed_out_and_can_be_stored_again),
        CASE (a_block_in_anothers_place_does_not_pass),
        CASE (a_blob_stored_again_is_not_taken_for_its_damaged_copy),
        CASE (what_bears_a_blobs_name_and_is_another_is_put_away),
        CASE (a_blob_of_a_newer_format_is_refused_and_left_as_it_is),
        CASE (whichever_call_fails_the_next_try_succeeds),
        CASE (whenever_the_power_goes_a_stored_blob_is_there),
        CASE (a_full_disk_is_waited_out),
        CASE (what_cannot_be_read_now_is_no_damage),
        CASE (damage_that_cannot_be_put_away_is_told_and_never_handed_out),
        CASE (a_lease_is_confirmed_when_all_of_it_is_on_disk),
        CASE (an_upload_whose_sync_failed_is_over),
        CASE (a_name_that_somebody_took_meanwhile_is_not_taken_again),
        CASE (what_goes_or_rots_while_it_is_asked_about_is_not_swept),
        CASE (what_is_not_the_stores_stays_and_does_not_keep_it_from_its_work),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
