#include "blob_kit.h"

#include "chance.h"

enum { PIECE = 100000, RESUME_BLOCKS = 2, LOOKS = 3 };

uint8_t content[CONTENT_MAX];
struct blob_kit kit;

static void on_damage (void *arg, const uint8_t *digest, const char *text)
{
    (void) arg;
    (void) digest;
    kit.damages++;
    (void) snprintf (kit.damage_text, sizeof kit.damage_text, "%s", text);
}

int blob_set_up (void **state)
{
    (void) state;
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t) chance_next (&x);
    memset (&kit, 0, sizeof kit);
    kit_clock_init (&kit.clock);
    kit.clock.now_ns = clock_real.unix_ns (NULL);
    kit_directory (kit.root);
    return 0;
}

int blob_tear_down (void **state)
{
    (void) state;
    kit_remove (kit.root);
    return 0;
}

void blob_empty_root (void)
{
    kit_remove (kit.root);
    kit_directory (kit.root);
}

int open_with (const struct fs *fs, struct blob_store **ret_store)
{
    const struct blob_store_options options = { .fs = fs, .clock = &kit.clock.clock, .damaged = on_damage };
    return blob_store_open (kit.root, &options, ret_store);
}

struct blob_store *must_open (void)
{
    struct blob_store *store = NULL;
    assert_int_equal (open_with (&fs_real, &store), 0);
    return store;
}

/* --- Storing. */

int upload_resume (struct blob_upload *u)
{
    bool done = false;
    int rc = 0;
    while (!done && !rc)
        rc = blob_upload_resume (u, RESUME_BLOCKS, &done);
    return rc;
}

int upload_append (struct blob_upload *u, size_t end)
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

int try_put (struct blob_store *store, size_t size, struct blob_info *ret_info, bool *ret_new)
{
    struct blob_upload *u = NULL;
    uint8_t digest[BLOB_DIGEST_LEN];
    digest_of (size, digest);
    int rc = blob_upload_open (store, slice ("upload", 6), slice_of ("text/plain"), &u);
    if (!rc)
        rc = upload_resume (u);
    if (!rc)
        rc = upload_append (u, size);
    if (!rc)
        rc = blob_upload_sync (u);
    if (!rc)
        rc = blob_upload_finish (u, digest, size, 0, ret_info, ret_new);
    if (u)
        blob_upload_discard (&u);
    return rc;
}

void must_put (struct blob_store *store, size_t size, bool is_new)
{
    struct blob_info info;
    bool new = !is_new;
    uint8_t digest[BLOB_DIGEST_LEN];
    digest_of (size, digest);
    assert_int_equal (try_put (store, size, &info, &new), 0);
    assert_int_equal (new, is_new);
    assert_int_equal (info.size, size);
    assert_memory_equal (info.digest, digest, sizeof digest);
}

/* --- What is there. */

void digest_of (size_t size, uint8_t digest[BLOB_DIGEST_LEN])
{
    struct sha256 *s;
    assert_int_equal (sha256_new (&s), 0);
    assert_int_equal (sha256_add (s, content, size), 0);
    assert_int_equal (sha256_get (s, digest), 0);
    sha256_destroy (&s);
}

void sizes_of_one_folder (size_t ret_sizes[2])
{
    size_t size_of[BLOB_FOLDERS] = { 0 };
    for (size_t size = 1; size <= BLOB_FOLDERS + 1; size++) {
        uint8_t earlier[BLOB_DIGEST_LEN], digest[BLOB_DIGEST_LEN];
        digest_of (size, digest);
        const size_t other = size_of[digest[0]];
        size_of[digest[0]] = size;
        if (!other)
            continue;
        digest_of (other, earlier);
        const bool in_order = memcmp (earlier, digest, sizeof digest) < 0;
        ret_sizes[0] = in_order ? other : size;
        ret_sizes[1] = in_order ? size : other;
        return;
    }
}

int read_back (struct blob_store *store, size_t size, size_t from)
{
    uint8_t digest[BLOB_DIGEST_LEN];
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

static void first_line_of (const char *command, char *ret_line, size_t size)
{
    FILE *pipe = popen (command, "r");
    assert_non_null (pipe);
    assert_non_null (fgets (ret_line, (int) size, pipe));
    (void) pclose (pipe);
    ret_line[strcspn (ret_line, "\n")] = 0;
}

unsigned files_below (const char *folder)
{
    char command[256], text[16];
    (void) snprintf (command, sizeof command, "find '%s/%s' -type f 2>/dev/null | wc -l", kit.root, folder);
    first_line_of (command, text, sizeof text);
    return (unsigned) atoi (text);
}

void blob_path (size_t size, char ret_path[256])
{
    uint8_t digest[BLOB_DIGEST_LEN];
    char text[BLOB_DIGEST_TEXT_LEN + 1];
    digest_of (size, digest);
    blob_digest_text (digest, text);
    (void) snprintf (ret_path, 256, "%s/blobs/%.2s/%s", kit.root, text, text);
}

void upload_path (char ret_path[256])
{
    char command[256];
    (void) snprintf (command, sizeof command, "ls -d '%s'/blobs/upload/*.part", kit.root);
    first_line_of (command, ret_path, 256);
}

/* --- Sweeping. */

int is_used (void *arg, const uint8_t *digest)
{
    struct use *use = arg;
    use->asked++;
    return memcmp (use->digest, digest, BLOB_DIGEST_LEN) == 0 ? 1 : use->others;
}

unsigned sweep_all (struct blob_store *store, struct use *use)
{
    struct blob_sweep sweep = { .folder = 0 };
    unsigned removed = 0;
    int rc;
    do {
        rc = blob_store_sweep (store, &sweep, LOOKS, is_used, use);
        removed += sweep.removed;
    } while (rc == FM_ERR_FULL);
    assert_int_equal (rc, 0);
    return removed;
}
