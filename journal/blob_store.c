#include "blob_inner.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"

enum { NS_PER_MS = 1000000, QUARANTINE_TRIES = 1000 };

struct blob_reader {
    struct blob_store *store;
    struct blob_handle handle;
    struct blob_info info;
    uint64_t block;                         /* in the buffer; UINT64_MAX: none */
    size_t len;
    uint8_t buffer[BLOB_STRIDE];
};

/* --- Opening. */

/* A folder of a folder: made where it is not there. Durable then: one that is there may be so since a moment before a kill. */
static int make_folder (struct blob_store *s, int dir, const char *name, int *ret_dir)
{
    const struct fs *fs = blob_fs (s);
    int rc = fs->mkdir (fs->context, dir, name);
    if (rc == 0 || rc == -EEXIST)
        rc = fs->sync_dir (fs->context, dir);
    if (rc < 0)
        return rc;
    rc = fs->open (fs->context, dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (rc < 0)
        return rc;
    *ret_dir = rc;
    return 0;
}

int blob_store_open (const char *directory, const struct blob_store_options *options, struct blob_store **ret_store)
{
    struct blob_store *s = calloc (1, sizeof *s);
    if (!s)
        return -ENOMEM;
    if (options)
        s->options = *options;
    if (!s->options.fs)
        s->options.fs = &fs_real;
    if (!s->options.clock)
        s->options.clock = &clock_real;
    if (!s->options.size_max)
        s->options.size_max = BLOB_SIZE_MAX_DEFAULT;
    if (!s->options.lease_ms)
        s->options.lease_ms = BLOB_LEASE_MS;
    if (!s->options.upload_keep_ms)
        s->options.upload_keep_ms = BLOB_UPLOAD_KEEP_MS;
    s->root = s->blobs = s->upload = s->quarantine = -1;
    s->opened_ns = blob_now (s);
    pthread_mutex_init (&s->lock, NULL);
    int rc = blob_fs (s)->open_dir (blob_fs (s)->context, directory, true);
    if (rc >= 0) {
        s->root = rc;
        rc = make_folder (s, s->root, "blobs", &s->blobs);
    }
    if (!rc)
        rc = make_folder (s, s->blobs, "upload", &s->upload);
    if (rc < 0) {
        const int saved = error_set (rc, "%s/blobs: %s", directory, fm_error_text (rc));
        blob_store_destroy (&s);
        return saved;
    }
    *ret_store = s;
    return 0;
}

void blob_store_destroy (struct blob_store **store)
{
    struct blob_store *s = *store;
    if (!s)
        return;
    *store = NULL;
    assert (!s->uploads);               /* whoever opened one closed it */
    const int dirs[] = { s->quarantine, s->upload, s->blobs, s->root };
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        if (dirs[i] >= 0)
            (void) blob_fs (s)->close (blob_fs (s)->context, dirs[i]);      /* read-only: nothing to lose */
    pthread_mutex_destroy (&s->lock);
    free (s);
}

void blob_folder_name (unsigned folder, char ret_name[3])
{
    static const char hex[] = "0123456789abcdef";
    ret_name[0] = hex[folder >> 4 & 15];
    ret_name[1] = hex[folder & 15];
    ret_name[2] = 0;
}

int blob_folder_open (struct blob_store *s, unsigned folder, bool create, int *ret_dir)
{
    const struct fs *fs = blob_fs (s);
    char name[3];
    blob_folder_name (folder, name);
    int rc = fs->open (fs->context, s->blobs, name, O_RDONLY | O_DIRECTORY, 0);
    if (rc == -ENOENT)
        return create ? make_folder (s, s->blobs, name, ret_dir) : FM_ERR_UNKNOWN;
    if (rc < 0)
        return rc;
    /* One that is there may be so since a moment ago, by somebody whose sync failed. */
    const int synced = create ? fs->sync_dir (fs->context, s->blobs) : 0;
    if (synced < 0) {
        (void) fs->close (fs->context, rc);     /* read-only: nothing to lose */
        return synced;
    }
    *ret_dir = rc;
    return 0;
}

static void close_dir (struct blob_store *s, int dir)
{
    (void) blob_fs (s)->close (blob_fs (s)->context, dir);      /* read-only: nothing to lose */
}

static bool exists (struct blob_store *s, int dir, const char *name)
{
    const int fd = blob_fs (s)->open (blob_fs (s)->context, dir, name, O_RDONLY, 0);
    if (fd >= 0)
        close_dir (s, fd);
    return fd >= 0;
}

/* --- One file. */

void blob_handle_refresh (struct blob_store *s, struct blob_handle *h)
{
    const struct fs *fs = blob_fs (s);
    uint8_t bytes[BLOB_LEASE_LEN];
    struct blob_lease lease;
    bool any = false;
    h->lease = (struct blob_lease) { .until_ns = 0 };
    for (unsigned i = 0; i < BLOB_LEASES; i++)
        if (fs_read_full (fs, h->fd, bytes, sizeof bytes, (i + 1) * BLOB_LEASE_AT) == 0 && blob_lease_decode (&h->header, bytes, &lease) == 0
            && (!any || lease.number > h->lease.number)) {
            h->lease = lease;
            any = true;
        }
    /* Whose fact was not recorded when the journal went has its time again; so has one whose lease can't be read. */
    const uint64_t floor_ns = s->opened_ns + s->options.lease_ms * NS_PER_MS;
    if (h->lease.until_ns < floor_ns)
        h->lease.until_ns = floor_ns;
}

static int check_head (struct blob_store *s, const uint8_t digest[BLOB_DIGEST_LEN], struct blob_handle *h)
{
    const struct fs *fs = blob_fs (s);
    uint8_t bytes[BLOB_HEADER_LEN];
    uint64_t len;
    int rc = fs->size (fs->context, h->fd, &len);
    if (rc < 0)
        return rc;
    rc = len < BLOB_HEAD_LEN ? FM_ERR_END : fs_read_full (fs, h->fd, bytes, sizeof bytes, 0);
    if (rc == FM_ERR_END)
        return error_set (FM_ERR_CORRUPT, "a file of %llu bytes is too short", (unsigned long long) len);
    if (!rc)
        rc = blob_header_decode (bytes, &h->header);
    if (rc)
        return rc;
    const struct blob_info *info = &h->header.info;
    if (!h->header.complete || memcmp (info->digest, digest, BLOB_DIGEST_LEN) != 0)
        return error_set (FM_ERR_CORRUPT, "its header is of another blob");
    if (info->size > UINT64_MAX / 2 || blob_file_len (info->size) != len)
        return error_set (FM_ERR_CORRUPT, "%llu bytes in the file, %llu in the blob", (unsigned long long) len, (unsigned long long) info->size);
    return 0;
}

/* --- Quarantine. */

/* Never over what is there: it may be another damaged copy. */
static int move_away (struct blob_store *s, int folder, const char *text)
{
    const struct fs *fs = blob_fs (s);
    char name[BLOB_DIGEST_TEXT_LEN + 32];
    if (s->quarantine < 0) {
        const int rc = make_folder (s, s->root, "quarantine", &s->quarantine);
        if (rc)
            return rc;
    }
    unsigned n = 0;
    do
        (void) snprintf (name, sizeof name, "%s.%u.blob", text, n);     /* fits */
    while (exists (s, s->quarantine, name) && ++n < QUARANTINE_TRIES);
    int rc = fs->rename (fs->context, folder, text, s->quarantine, name);
    if (!rc)
        rc = fs->sync_dir (fs->context, s->quarantine);
    return rc ? rc : fs->sync_dir (fs->context, folder);
}

/* Is the file that bears the name the damaged one? Another reader may have put that away, and the content been stored again since: then it is whole, and has
 * another salt. 0; FM_ERR_UNKNOWN: it is not there any more; -errno. */
static int find_damaged (struct blob_store *s, int folder, const char *text, const uint8_t digest[BLOB_DIGEST_LEN], const struct blob_header *damaged)
{
    struct blob_handle h = { .fd = blob_fs (s)->open (blob_fs (s)->context, folder, text, O_RDONLY, 0) };
    if (h.fd < 0)
        return h.fd == -ENOENT ? FM_ERR_UNKNOWN : h.fd;
    const int rc = check_head (s, digest, &h);
    blob_handle_close (s, &h);
    if (rc)
        return rc == FM_ERR_CORRUPT ? 0 : rc;
    return damaged && memcmp (damaged->salt, h.header.salt, BLOB_SALT_LEN) == 0 ? 0 : FM_ERR_UNKNOWN;
}

/* header: of the damaged file, NULL: that is what is damaged. */
static void put_away (struct blob_store *s, const uint8_t digest[BLOB_DIGEST_LEN], const struct blob_header *header, const char *why)
{
    char text[BLOB_DIGEST_TEXT_LEN + 1], notice[256];
    int folder;
    pthread_mutex_lock (&s->lock);
    int rc = blob_folder_open (s, digest[0], false, &folder);
    if (!rc) {
        rc = find_damaged (s, folder, blob_digest_text (digest, text), digest, header);
        if (!rc)
            rc = move_away (s, folder, text);
        close_dir (s, folder);
    }
    pthread_mutex_unlock (&s->lock);
    if (rc == FM_ERR_UNKNOWN)
        return;                         /* another reader was faster */
    (void) snprintf (notice, sizeof notice, "%s; %s%s", why, rc ? "it could not be put into quarantine/: " : "it is in quarantine/ now, and can be stored again",
                     rc ? fm_error_text (rc) : "");
    if (s->options.damaged)
        s->options.damaged (s->options.damaged_arg, digest, notice);
}

/* --- Opening a file, and its lease. */

int blob_handle_open (struct blob_store *s, const uint8_t digest[BLOB_DIGEST_LEN], struct blob_handle *ret_handle)
{
    const struct fs *fs = blob_fs (s);
    char text[BLOB_DIGEST_TEXT_LEN + 1];
    struct blob_handle h = { .fd = -1 };
    int folder, rc = blob_folder_open (s, digest[0], false, &folder);
    if (!rc) {
        rc = fs->open (fs->context, folder, blob_digest_text (digest, text), O_RDWR, 0);
        close_dir (s, folder);
    }
    if (rc == FM_ERR_UNKNOWN || rc == -ENOENT)
        return error_set (FM_ERR_UNKNOWN, "no blob %s here", blob_digest_text (digest, text));
    if (rc < 0)
        return rc;
    h.fd = rc;
    rc = check_head (s, digest, &h);
    if (rc) {
        blob_handle_close (s, &h);
        if (rc == FM_ERR_CORRUPT) {
            char why[160];
            (void) snprintf (why, sizeof why, "%s", fm_error_detail ());
            put_away (s, digest, NULL, why);
            return error_set (FM_ERR_CORRUPT, "blob %s is damaged here: %s", blob_digest_text (digest, text), why);
        }
        return rc;
    }
    blob_handle_refresh (s, &h);
    *ret_handle = h;
    return 0;
}

void blob_handle_close (struct blob_store *s, struct blob_handle *h)
{
    if (h->fd >= 0)
        close_dir (s, h->fd);           /* what was written was synced, or refused */
    h->fd = -1;
}

void blob_handle_info (const struct blob_handle *h, struct blob_info *ret_info)
{
    *ret_info = h->header.info;
    ret_info->lease_ns = h->lease.until_ns;
}

int blob_lease_write (struct blob_store *s, int fd, const struct blob_header *h, uint64_t lease_ms, struct blob_lease *ret_lease)
{
    uint8_t bytes[BLOB_LEASE_LEN];
    const struct blob_lease lease = { .until_ns = blob_now (s) + (lease_ms ? lease_ms : s->options.lease_ms) * NS_PER_MS, .number = 1 };
    blob_lease_encode (h, &lease, bytes);
    const int rc = fs_write_full (blob_fs (s), fd, bytes, sizeof bytes, BLOB_LEASE_AT);
    if (!rc)
        *ret_lease = lease;
    return rc;
}

int blob_handle_lease (struct blob_store *s, struct blob_handle *h, uint64_t lease_ms)
{
    const struct fs *fs = blob_fs (s);
    uint8_t bytes[BLOB_LEASE_LEN];
    blob_handle_refresh (s, h);                  /* another thread may have written one */
    struct blob_lease lease = { .until_ns = blob_now (s) + (lease_ms ? lease_ms : s->options.lease_ms) * NS_PER_MS, .number = h->lease.number + 1 };
    if (lease.until_ns <= h->lease.until_ns)
        lease.until_ns = h->lease.until_ns;     /* written all the same: what the file has may be less */
    blob_lease_encode (&h->header, &lease, bytes);
    /* The other slot: the one that counts stays whole until this is durable. */
    int rc = fs_write_full (fs, h->fd, bytes, sizeof bytes, (lease.number % BLOB_LEASES ? 1 : 2) * BLOB_LEASE_AT);
    if (!rc)
        rc = fs->sync_data (fs->context, h->fd);
    if (!rc)
        h->lease = lease;
    return rc;
}

/* --- Asking. */

int blob_store_stat (struct blob_store *store, const uint8_t digest[BLOB_DIGEST_LEN], struct blob_info *ret_info)
{
    struct blob_handle h;
    const int rc = blob_handle_open (store, digest, &h);
    if (rc)
        return rc;
    blob_handle_info (&h, ret_info);
    blob_handle_close (store, &h);
    return 0;
}

int blob_store_lease (struct blob_store *store, const uint8_t digest[BLOB_DIGEST_LEN], uint64_t lease_ms, struct blob_info *ret_info)
{
    struct blob_handle h;
    char text[BLOB_DIGEST_TEXT_LEN + 1];
    int folder;
    int rc = blob_handle_open (store, digest, &h);
    if (rc)
        return rc;
    pthread_mutex_lock (&store->lock);
    rc = blob_handle_lease (store, &h, lease_ms);
    /* Was it swept between the open and the lock? And is its name on disk: a kill may have come before that was sure. */
    bool there = false;
    if (!rc)
        rc = blob_folder_open (store, digest[0], true, &folder);
    if (!rc) {
        there = exists (store, folder, blob_digest_text (digest, text));
        rc = there ? blob_fs (store)->sync_dir (blob_fs (store)->context, folder) : 0;
        close_dir (store, folder);
    }
    pthread_mutex_unlock (&store->lock);
    blob_handle_info (&h, ret_info);
    blob_handle_close (store, &h);
    return rc ? rc : there ? 0 : error_set (FM_ERR_UNKNOWN, "no blob %s here any more", blob_digest_text (digest, text));
}

int blob_reader_open (struct blob_store *store, const uint8_t digest[BLOB_DIGEST_LEN], struct blob_reader **ret_reader)
{
    struct blob_reader *r = malloc (sizeof *r);
    if (!r)
        return -ENOMEM;
    r->store = store;
    r->block = UINT64_MAX;
    const int rc = blob_handle_open (store, digest, &r->handle);
    if (rc) {
        free (r);
        return rc;
    }
    blob_handle_info (&r->handle, &r->info);
    *ret_reader = r;
    return 0;
}

const struct blob_info *blob_reader_info (const struct blob_reader *r)
{
    return &r->info;
}

static int damaged (struct blob_reader *r, uint64_t block)
{
    char text[BLOB_DIGEST_TEXT_LEN + 1], why[96];
    (void) snprintf (why, sizeof why, "bytes %llu to %llu do not check", (unsigned long long) (block * BLOB_BLOCK), (unsigned long long) (block * BLOB_BLOCK + r->len - 1));
    put_away (r->store, r->info.digest, &r->handle.header, why);
    r->block = UINT64_MAX;
    return error_set (FM_ERR_CORRUPT, "blob %s is damaged here: %s", blob_digest_text (r->info.digest, text), why);
}

static int load (struct blob_reader *r, uint64_t block)
{
    const uint64_t left = r->info.size - block * BLOB_BLOCK;
    r->block = UINT64_MAX;
    r->len = left < BLOB_BLOCK ? (size_t) left : BLOB_BLOCK;
    const int rc = fs_read_full (blob_fs (r->store), r->handle.fd, r->buffer, r->len + BLOB_SUM_LEN, blob_block_at (block));
    if (rc && rc != FM_ERR_END)
        return error_set (rc, "blob: reading failed: %s", fm_error_text (rc));
    if (rc == FM_ERR_END || bytes_get_u64le (r->buffer + r->len) != blob_block_sum (&r->handle.header, block, r->buffer, r->len))
        return damaged (r, block);
    r->block = block;
    return 0;
}

int blob_reader_at (struct blob_reader *r, uint64_t position, struct fm_slice *ret_bytes)
{
    if (position >= r->info.size)
        return FM_ERR_END;
    const uint64_t block = position / BLOB_BLOCK;
    const int rc = r->block == block ? 0 : load (r, block);
    if (rc)
        return rc;
    const size_t skip = (size_t) (position - block * BLOB_BLOCK);
    *ret_bytes = slice (r->buffer + skip, r->len - skip);
    return 0;
}

void blob_reader_close (struct blob_reader **reader)
{
    struct blob_reader *r = *reader;
    if (!r)
        return;
    *reader = NULL;
    blob_handle_close (r->store, &r->handle);
    free (r);
}

/* --- Listing. */

static int add_name (void *arg, const char *name)
{
    struct blob_names *names = arg;
    uint8_t digest[BLOB_DIGEST_LEN];
    if (blob_digest_parse (name, strlen (name), digest) != 0)
        return 0;                       /* somebody else's */
    if (names->count == names->size) {
        const size_t size = names->size ? 2 * names->size : 64;
        void *grown = realloc (names->digests, size * sizeof names->digests[0]);
        if (!grown)
            return -ENOMEM;
        names->digests = grown;
        names->size = size;
    }
    memcpy (names->digests[names->count++], digest, sizeof digest);
    return 0;
}

static int compare (const void *a, const void *b)
{
    return memcmp (a, b, BLOB_DIGEST_LEN);
}

int blob_folder_names (struct blob_store *s, unsigned folder, struct blob_names *ret_names)
{
    struct blob_names names = { .digests = NULL };
    int dir, rc = blob_folder_open (s, folder, false, &dir);
    if (!rc) {
        rc = blob_fs (s)->list (blob_fs (s)->context, dir, add_name, &names);
        close_dir (s, dir);
    } else if (rc == FM_ERR_UNKNOWN)
        rc = 0;
    if (rc) {
        free (names.digests);
        return rc;
    }
    if (names.count)
        qsort (names.digests, names.count, sizeof names.digests[0], compare);
    *ret_names = names;
    return 0;
}

/* Those of one folder. A blob that goes meanwhile, or is damaged, is not among them. */
static int list_folder (struct blob_store *s, unsigned folder, const uint8_t *after, struct blob_info *ret, size_t max, size_t *count, bool *more)
{
    struct blob_names names;
    int rc = blob_folder_names (s, folder, &names);
    if (rc)
        return rc;
    for (size_t i = 0; i < names.count && !*more; i++) {
        if (after && memcmp (names.digests[i], after, BLOB_DIGEST_LEN) <= 0)
            continue;
        *more = *count == max;
        if (!*more && blob_store_stat (s, names.digests[i], &ret[*count]) == 0)
            ++*count;
    }
    free (names.digests);
    return 0;
}

int blob_store_list (struct blob_store *store, const uint8_t *after, struct blob_info *ret, size_t max, size_t *ret_count, bool *ret_more)
{
    size_t count = 0;
    bool more = false;
    int rc = 0;
    for (unsigned folder = after ? after[0] : 0; folder < BLOB_FOLDERS && !more && !rc; folder++)
        rc = list_folder (store, folder, after, ret, max, &count, &more);
    if (rc)
        return rc;
    *ret_count = count;
    *ret_more = more;
    return 0;
}
