/* blob_store: what was stored comes back byte for byte or not at all, whatever fails, is cut, or rots. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "blob_file.h"
#include "error.h"
#include "../support/fail_fs.h"
#include "sha256.h"

enum { CONTENT_MAX = 5 * BLOB_BLOCK, PIECE = 100000, RESUME_BLOCKS = 2 };
#define SECOND UINT64_C (1000000000)
#define HOUR (3600 * SECOND)

static char root[64];
static uint8_t content[CONTENT_MAX];
static uint64_t now_ns;
static unsigned damages;
static char damage_text[256];

static uint64_t fake_unix (void *context)
{
    (void) context;
    return now_ns;
}

static const struct clock fake_clock = { .unix_ns = fake_unix, .monotonic_ns = fake_unix };

static void on_damage (void *arg, const uint8_t *digest, const char *text)
{
    (void) arg;
    (void) digest;
    damages++;
    (void) snprintf (damage_text, sizeof damage_text, "%s", text);
}

static void remove_tree (void)
{
    char command[128];
    (void) snprintf (command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal (system (command), 0);
}

static int set_up (void **state)
{
    (void) state;
    strcpy (root, "/tmp/factmesh-blobs-XXXXXX");
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < sizeof content; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        content[i] = (uint8_t) x;
    }
    now_ns = clock_real.unix_ns (NULL);
    damages = 0;
    return mkdtemp (root) ? 0 : -1;
}

static int tear_down (void **state)
{
    (void) state;
    remove_tree ();
    return 0;
}

/* --- Helpers. */

static void digest_of (size_t size, uint8_t digest[SHA256_LEN])
{
    struct sha256 *s;
    assert_int_equal (sha256_new (&s), 0);
    assert_int_equal (sha256_add (s, content, size), 0);
    assert_int_equal (sha256_get (s, digest), 0);
    sha256_destroy (&s);
}

static int open_with (const struct fs *fs, struct blob_store **ret_store)
{
    const struct blob_store_options options = { .fs = fs, .clock = &fake_clock, .damaged = on_damage };
    return blob_store_open (root, &options, ret_store);
}

static struct blob_store *must_open (void)
{
    struct blob_store *store = NULL;
    assert_int_equal (open_with (&fs_real, &store), 0);
    return store;
}

static int resume (struct blob_upload *u)
{
    bool done = false;
    int rc = 0;
    while (!done && !rc)
        rc = blob_upload_resume (u, RESUME_BLOCKS, &done);
    return rc;
}

/* Append what is missing up to `end`. */
static int append (struct blob_upload *u, size_t end)
{
    int rc = 0;
    while (blob_upload_next (u) < end && !rc) {
        const uint64_t at = blob_upload_next (u);
        size_t taken = 0;
        rc = blob_upload_write (u, content + at, end - at < PIECE ? (size_t) (end - at) : PIECE, &taken);
        assert_int_equal (blob_upload_next (u), at + taken);
    }
    return rc;
}

static int put (struct blob_store *store, size_t size, struct blob_info *ret_info, bool *ret_new)
{
    struct blob_upload *u = NULL;
    uint8_t digest[SHA256_LEN];
    digest_of (size, digest);
    int rc = blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u);
    if (!rc)
        rc = resume (u);
    if (!rc)
        rc = append (u, size);
    if (!rc)
        rc = blob_upload_sync (u);
    if (!rc)
        rc = blob_upload_finish (u, digest, size, 0, ret_info, ret_new);
    if (u)
        blob_upload_discard (&u);
    return rc;
}

static void must_put (struct blob_store *store, size_t size, bool is_new)
{
    struct blob_info info;
    bool new = !is_new;
    uint8_t digest[SHA256_LEN];
    digest_of (size, digest);
    assert_int_equal (put (store, size, &info, &new), 0);
    assert_int_equal (new, is_new);
    assert_int_equal (info.size, size);
    assert_memory_equal (info.digest, digest, SHA256_LEN);
}

/* Every byte of it, from a position on. 0, or why not. */
static int compare (struct blob_store *store, size_t size, size_t from)
{
    uint8_t digest[SHA256_LEN];
    struct blob_reader *r = NULL;
    digest_of (size, digest);
    int rc = blob_reader_open (store, digest, &r);
    if (rc)
        return rc;
    assert_int_equal (blob_reader_info (r)->size, size);
    assert_memory_equal (blob_reader_info (r)->media_type, "text/plain", 10);
    struct fm_slice bytes;
    while ((rc = blob_reader_at (r, from, &bytes)) == 0) {
        assert_true (bytes.len > 0 && bytes.len <= size - from);
        assert_memory_equal (bytes.data, content + from, bytes.len);
        from += bytes.len;
    }
    blob_reader_close (&r);
    if (rc != FM_ERR_END)
        return rc;
    assert_int_equal (from, size);
    return 0;
}

static unsigned files_below (const char *folder)
{
    char command[160], text[16] = "";
    (void) snprintf (command, sizeof command, "find '%s/%s' -type f 2>/dev/null | wc -l", root, folder);
    FILE *pipe = popen (command, "r");
    assert_non_null (pipe);
    assert_non_null (fgets (text, sizeof text, pipe));
    (void) pclose (pipe);
    return (unsigned) atoi (text);
}

static void blob_path (size_t size, char path[160])
{
    uint8_t digest[SHA256_LEN];
    char text[BLOB_DIGEST_TEXT_LEN + 1];
    digest_of (size, digest);
    blob_digest_text (digest, text);
    (void) snprintf (path, 160, "%s/blobs/%.2s/%s", root, text, text);
}

static void flip (const char *path, off_t at)
{
    const int fd = open (path, O_RDWR);
    uint8_t byte;
    assert_true (fd >= 0);
    assert_int_equal (pread (fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal (pwrite (fd, &byte, 1, at), 1);
    close (fd);
}

static const char *only_part (void)
{
    static char path[160];
    char command[160];
    (void) snprintf (command, sizeof command, "ls -d %s/blobs/upload/*.part", root);
    FILE *pipe = popen (command, "r");
    assert_non_null (pipe);
    assert_non_null (fgets (path, sizeof path, pipe));
    (void) pclose (pipe);
    path[strcspn (path, "\n")] = 0;
    return path;
}

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
            assert_int_equal (compare (store, sizes[i], from), 0);
    blob_store_destroy (&store);
    store = must_open ();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_int_equal (compare (store, sizes[i], 0), 0);
    assert_int_equal (damages, 0);
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
    assert_int_equal (append (a, 5000), 0);
    assert_int_equal (append (b, 5000), 0);
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

/* --- Refusing. */

static void bytes_that_are_not_what_was_said_are_refused (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct blob_upload *u = NULL;
    struct blob_info info;
    bool new;
    uint8_t digest[SHA256_LEN];
    digest_of (300000, digest);
    assert_int_equal (blob_upload_open (store, slice ("a", 1), slice (NULL, 0), &u), 0);
    assert_int_equal (append (u, 299999), 0);
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
    const struct blob_store_options options = { .clock = &fake_clock, .size_max = 1000 };
    struct blob_store *store = NULL;
    struct blob_upload *uploads[BLOB_UPLOADS_MAX] = { NULL }, *one = NULL;
    size_t taken = 0;
    assert_int_equal (blob_store_open (root, &options, &store), 0);
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
    assert_int_equal (append (u, 3 * BLOB_BLOCK + BLOB_BLOCK / 2), 0);
    blob_upload_close (&u);
    blob_store_destroy (&store);
    store = must_open ();
    assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice (NULL, 0), &u), 0);
    assert_int_equal (resume (u), 0);
    assert_int_equal (blob_upload_next (u), 3 * BLOB_BLOCK);
    blob_upload_close (&u);
    must_put (store, CONTENT_MAX - 5, true);
    assert_int_equal (compare (store, CONTENT_MAX - 5, 0), 0);
    assert_int_equal (files_below ("blobs"), 1);
    blob_store_destroy (&store);
}

static void what_does_not_check_in_a_cut_upload_is_sent_again (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct blob_upload *u = NULL;
    for (unsigned block = 0; block < 4; block++) {
        assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
        assert_int_equal (resume (u), 0);
        assert_int_equal (append (u, 4 * BLOB_BLOCK), 0);
        blob_upload_close (&u);
        flip (only_part (), (off_t) blob_block_at (block) + 1000);
        assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
        assert_int_equal (resume (u), 0);
        assert_int_equal (blob_upload_next (u), block * BLOB_BLOCK);
        blob_upload_close (&u);
    }
    /* Cut within a block, and with a header that is no good. */
    assert_int_equal (truncate (only_part (), (off_t) blob_block_at (2) + 77), 0);
    assert_int_equal (blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u), 0);
    assert_int_equal (resume (u), 0);
    assert_int_equal (blob_upload_next (u), 2 * BLOB_BLOCK);
    blob_upload_close (&u);
    flip (only_part (), 20);
    must_put (store, CONTENT_MAX, true);
    assert_int_equal (compare (store, CONTENT_MAX, 0), 0);
    blob_store_destroy (&store);
}

/* --- Damage. */

static void a_damaged_blob_is_never_handed_out_and_can_be_stored_again (void **state)
{
    (void) state;
    enum { SIZE = 2 * BLOB_BLOCK + 1000 };
    const off_t places[] = { 0, 9, 20, 42, 60, 100, 508, BLOB_HEAD_LEN, BLOB_HEAD_LEN + BLOB_BLOCK - 1, BLOB_HEAD_LEN + BLOB_BLOCK,
                             (off_t) blob_block_at (1) + 5, (off_t) blob_block_at (2) + 999, (off_t) blob_block_at (2) + 1007 };
    struct blob_store *store = must_open ();
    char path[160];
    blob_path (SIZE, path);
    for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
        must_put (store, SIZE, true);
        flip (path, places[i]);
        assert_int_equal (compare (store, SIZE, 0), FM_ERR_CORRUPT);
        assert_int_equal (damages, i + 1);
        assert_int_equal (files_below ("quarantine"), i + 1);
        assert_int_equal (compare (store, SIZE, 0), FM_ERR_UNKNOWN);
    }
    must_put (store, SIZE, true);
    assert_int_equal (truncate (path, SIZE), 0);
    assert_int_equal (compare (store, SIZE, 0), FM_ERR_CORRUPT);
    must_put (store, SIZE, true);
    assert_int_equal (compare (store, SIZE, 0), 0);
    blob_store_destroy (&store);
}

static void a_block_in_anothers_place_does_not_pass (void **state)
{
    (void) state;
    enum { SIZE = 3 * BLOB_BLOCK };
    struct blob_store *store = must_open ();
    char path[160];
    static uint8_t block[BLOB_STRIDE];
    must_put (store, SIZE, true);
    blob_path (SIZE, path);
    const int fd = open (path, O_RDWR);
    assert_int_equal (pread (fd, block, sizeof block, (off_t) blob_block_at (0)), sizeof block);
    assert_int_equal (pwrite (fd, block, sizeof block, (off_t) blob_block_at (1)), sizeof block);
    close (fd);
    assert_int_equal (compare (store, SIZE, 0), FM_ERR_CORRUPT);
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
                rc = put (store, SIZE, &info, &new);
            const bool happened = fail_fs_happened (f);
            fail_fs_fail (f, FAIL_ANY, 0, 0);
            /* What was confirmed is there; what was not is whole or not there. */
            if (store) {
                const int read = compare (store, SIZE, 0);
                assert_true (read == 0 || (rc != 0 && read == FM_ERR_UNKNOWN));
            }
            blob_store_destroy (&store);
            assert_int_equal (open_with (fail_fs_seam (f), &store), 0);
            if (rc)
                assert_int_equal (put (store, SIZE, &info, &new), 0);
            assert_int_equal (compare (store, SIZE, 0), 0);
            blob_store_destroy (&store);
            fail_fs_power_loss (f, (unsigned) n, 0);
            store = must_open ();
            assert_int_equal (compare (store, SIZE, 0), 0);
            blob_store_destroy (&store);
            fail_fs_destroy (&f);
            remove_tree ();
            assert_int_equal (mkdir (root, 0777), 0);
            if (!happened)
                break;
        }
    assert_true (n > 10);
    assert_int_equal (damages, 0);
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
                rc = put (store, SIZE, &info, &new);
            const bool happened = fail_fs_happened (f);
            blob_store_destroy (&store);
            fail_fs_power_loss (f, (unsigned) n, keep);
            store = must_open ();
            const int read = compare (store, SIZE, 0);
            assert_true (read == 0 || (rc != 0 && read == FM_ERR_UNKNOWN));
            assert_int_equal (put (store, SIZE, &info, &new), 0);
            assert_int_equal (compare (store, SIZE, 0), 0);
            blob_store_destroy (&store);
            fail_fs_destroy (&f);
            remove_tree ();
            assert_int_equal (mkdir (root, 0777), 0);
            if (!happened)
                break;
        }
    assert_int_equal (damages, 0);
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
    assert_int_equal (append (u, 300000), 0);
    fail_fs_disk_full (f, true);
    assert_int_equal (append (u, 600000), -ENOSPC);
    assert_int_equal (append (u, 600000), -ENOSPC);
    fail_fs_disk_full (f, false);
    assert_int_equal (append (u, 600000), 0);
    fail_fs_disk_full (f, true);
    assert_int_equal (blob_upload_finish (u, NULL, 600000, 0, &info, &new), -ENOSPC);
    fail_fs_disk_full (f, false);
    assert_int_equal (blob_upload_finish (u, NULL, 600000, 0, &info, &new), 0);
    blob_upload_discard (&u);
    assert_int_equal (compare (store, 600000, 0), 0);
    blob_store_destroy (&store);
    fail_fs_destroy (&f);
}

/* --- Leases and sweeping. */

struct use {
    uint8_t digest[BLOB_DIGEST_LEN];
    int others;                         /* what to say of all but that one */
    unsigned asked;
};

static int is_used (void *arg, const uint8_t *digest)
{
    struct use *use = arg;
    use->asked++;
    return memcmp (use->digest, digest, BLOB_DIGEST_LEN) == 0 ? 1 : use->others;
}

static void sweep_all (struct blob_store *store, struct use *use, unsigned *ret_removed)
{
    struct blob_sweep sweep = { .folder = 0 };
    int rc;
    *ret_removed = 0;
    do {
        rc = blob_store_sweep (store, &sweep, 3, is_used, use);
        *ret_removed += sweep.removed;
    } while (rc == FM_ERR_FULL);
    assert_int_equal (rc, 0);
}

static void only_what_nobody_uses_goes_and_not_within_its_lease (void **state)
{
    (void) state;
    enum { COUNT = 20 };
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_info info;
    unsigned removed;
    uint8_t leased[BLOB_DIGEST_LEN];
    for (size_t i = 0; i < COUNT; i++)
        must_put (store, 1000 + i, true);
    digest_of (1000, use.digest);
    digest_of (1001, leased);
    now_ns += HOUR - SECOND;
    sweep_all (store, &use, &removed);
    assert_int_equal (removed, 0);
    assert_int_equal (use.asked, 0);
    assert_int_equal (blob_store_lease (store, leased, 3600 * 1000, &info), 0);
    assert_true (info.lease_ns == now_ns + HOUR);
    now_ns += 2 * SECOND;
    /* Not while it can't be told. */
    struct blob_sweep sweep = { .folder = 0 };
    use.others = FM_ERR_UNKNOWN;
    assert_int_equal (blob_store_sweep (store, &sweep, 100, is_used, &use), FM_ERR_UNKNOWN);
    assert_int_equal (sweep.removed, 0);
    use.others = 0;
    sweep_all (store, &use, &removed);
    assert_int_equal (removed, COUNT - 2);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal (compare (store, 1000 + i, 0), i < 2 ? 0 : FM_ERR_UNKNOWN);
    now_ns += HOUR;
    sweep_all (store, &use, &removed);
    assert_int_equal (removed, 1);
    assert_int_equal (compare (store, 1000, 0), 0);
    blob_store_destroy (&store);
}

static void a_lease_never_gets_shorter_and_survives_a_start (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_info info;
    unsigned removed;
    uint8_t digest[BLOB_DIGEST_LEN];
    must_put (store, 1000, true);
    must_put (store, 1001, true);
    digest_of (1000, digest);
    const uint64_t until = now_ns + 10 * HOUR;
    assert_int_equal (blob_store_lease (store, digest, 10 * 3600 * 1000, &info), 0);
    assert_int_equal (blob_store_lease (store, digest, 1, &info), 0);
    assert_true (info.lease_ns == until);
    blob_store_destroy (&store);
    /* A journal that was away for long: whoever had no time to record his fact has it again. */
    now_ns += 5 * HOUR;
    store = must_open ();
    sweep_all (store, &use, &removed);
    assert_int_equal (removed, 0);
    now_ns += HOUR + SECOND;
    sweep_all (store, &use, &removed);
    assert_int_equal (removed, 1);
    assert_int_equal (blob_store_stat (store, digest, &info), 0);
    assert_true (info.lease_ns == until);
    now_ns = until + SECOND;
    sweep_all (store, &use, &removed);
    assert_int_equal (removed, 1);
    blob_store_destroy (&store);
}

static void an_upload_that_nobody_goes_on_with_goes (void **state)
{
    (void) state;
    struct blob_store *store = must_open ();
    struct use use = { .others = 0 };
    struct blob_upload *cut = NULL, *live = NULL;
    unsigned removed;
    assert_int_equal (blob_upload_open (store, slice ("cut", 3), slice (NULL, 0), &cut), 0);
    assert_int_equal (blob_upload_open (store, slice ("live", 4), slice (NULL, 0), &live), 0);
    assert_int_equal (append (cut, 300000), 0);
    assert_int_equal (append (live, 300000), 0);
    blob_upload_close (&cut);
    now_ns += 23 * HOUR;
    sweep_all (store, &use, &removed);
    assert_int_equal (files_below ("blobs/upload"), 2);
    now_ns += 2 * HOUR;
    sweep_all (store, &use, &removed);
    assert_int_equal (files_below ("blobs/upload"), 1);
    assert_int_equal (append (live, 500000), 0);
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
    unsigned removed;
    uint8_t digest[BLOB_DIGEST_LEN];
    must_put (store, 2 * BLOB_BLOCK, true);
    digest_of (2 * BLOB_BLOCK, digest);
    assert_int_equal (blob_reader_open (store, digest, &r), 0);
    now_ns += 2 * HOUR;
    sweep_all (store, &use, &removed);
    assert_int_equal (removed, 1);
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
    (void) snprintf (command, sizeof command, "mkdir -p '%s/blobs/%.2s' && cp %s '%s/blobs/%.2s/%s'", root, text, path, root, text, text);
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
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (the_golden_file_is_what_we_write_and_read),
        CASE (a_blob_comes_back_byte_for_byte),
        CASE (the_same_content_is_stored_once),
        CASE (blobs_are_listed_in_order_page_by_page),
        CASE (bytes_that_are_not_what_was_said_are_refused),
        CASE (limits_are_kept),
        CASE (an_upload_goes_on_where_it_was_cut),
        CASE (what_does_not_check_in_a_cut_upload_is_sent_again),
        CASE (a_damaged_blob_is_never_handed_out_and_can_be_stored_again),
        CASE (a_block_in_anothers_place_does_not_pass),
        CASE (whichever_call_fails_the_next_try_succeeds),
        CASE (whenever_the_power_goes_a_stored_blob_is_there),
        CASE (a_full_disk_is_waited_out),
        CASE (only_what_nobody_uses_goes_and_not_within_its_lease),
        CASE (a_lease_never_gets_shorter_and_survives_a_start),
        CASE (an_upload_that_nobody_goes_on_with_goes),
        CASE (who_reads_a_blob_that_is_removed_reads_it_to_its_end),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
