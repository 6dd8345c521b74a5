/* blob_upload: how a blob comes to be.
 *
 *     new or found --resume--> ready --write--> ready --finish--> blob
 *
 * 1. Whole blocks with their sums lie behind one another; the last, shorter one is written by finish alone.
 * 2. sha256 covers exactly the bytes below `next`.
 * 3. A file bears a blob's name only after its bytes, header and lease were synced; finish returns after the names were.
 * 4. A block that can't be checked is cut off with all that follows: the asker sends it again. */

#include "blob_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "id.h"

static void key_name (struct fm_slice key, char ret_name[BLOB_NAME_LEN])
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = key.data;
    char *to = ret_name;
    for (size_t i = 0; i < key.len; i++) {
        *to++ = hex[p[i] >> 4];
        *to++ = hex[p[i] & 15];
    }
    memcpy (to, ".part", sizeof ".part");
}

/* --- Opening. */

static int write_header (struct blob_upload *u)
{
    uint8_t bytes[BLOB_HEADER_LEN];
    blob_header_encode (&u->header, bytes);
    return fs_write_full (blob_fs (u->store), u->fd, bytes, sizeof bytes, 0);
}

/* A file of nothing but a header. */
static int begin (struct blob_upload *u, struct fm_slice media_type)
{
    const struct fs *fs = blob_fs (u->store);
    struct fm_id salt;
    id_random (&salt);
    memset (&u->header, 0, sizeof u->header);
    memcpy (u->header.salt, salt.bytes, BLOB_SALT_LEN);
    u->header.info.stored_ns = blob_now (u->store);
    u->header.info.media_type_len = (uint8_t) media_type.len;
    if (media_type.len)
        memcpy (u->header.info.media_type, media_type.data, media_type.len);
    u->next = u->synced = u->resume_end = 0;
    int rc = fs->truncate (fs->context, u->fd, 0);
    if (!rc)
        rc = write_header (u);
    if (!rc)
        rc = fs->truncate (fs->context, u->fd, BLOB_HEAD_LEN);
    return rc;
}

/* Go on with what an earlier one left, if it is worth it. A header that says `complete` comes from a finish that was cut: the bytes below are those of
 * an upload all the same. */
static int look (struct blob_upload *u, struct fm_slice media_type)
{
    const struct fs *fs = blob_fs (u->store);
    uint8_t bytes[BLOB_HEADER_LEN];
    uint64_t len;
    int rc = fs->size (fs->context, u->fd, &len);
    if (rc)
        return rc;
    if (len < BLOB_HEAD_LEN + BLOB_STRIDE || fs_read_full (fs, u->fd, bytes, sizeof bytes, 0) != 0 || blob_header_decode (bytes, &u->header) != 0)
        return begin (u, media_type);
    u->header.complete = false;
    u->resume_end = (len - BLOB_HEAD_LEN) / BLOB_STRIDE * BLOB_BLOCK;
    return 0;
}

static int enter (struct blob_store *s, struct blob_upload *u)
{
    int rc = 0;
    pthread_mutex_lock (&s->lock);
    for (const struct blob_upload *other = s->uploads; other; other = other->link)
        if (strcmp (other->name, u->name) == 0)
            rc = error_set (FM_ERR_IN_USE, "somebody else uploads this");
    if (!rc && s->upload_count == BLOB_UPLOADS_MAX)
        rc = error_set (FM_ERR_LIMIT, "%d uploads are open; try again later", (int) BLOB_UPLOADS_MAX);
    if (!rc) {
        u->link = s->uploads;
        s->uploads = u;
        s->upload_count++;
        u->entered = true;
    }
    pthread_mutex_unlock (&s->lock);
    return rc;
}

int blob_upload_open (struct blob_store *store, struct fm_slice key, struct fm_slice media_type, struct blob_upload **ret_upload)
{
    const struct fs *fs = blob_fs (store);
    if (!key.len || key.len > BLOB_KEY_MAX || media_type.len > TYPE_MAX)
        return error_set (FM_ERR_ARGUMENT, "an upload's name has 1 to %d bytes, a media type at most %d", (int) BLOB_KEY_MAX, (int) TYPE_MAX);
    struct blob_upload *u = calloc (1, sizeof *u);
    if (!u)
        return -ENOMEM;
    u->store = store;
    u->fd = -1;
    key_name (key, u->name);
    int rc = enter (store, u);
    if (!rc)
        rc = sha256_new (&u->sha256);
    if (!rc) {
        u->fd = fs->open (fs->context, store->upload, u->name, O_RDWR | O_CREAT, 0666);
        rc = u->fd < 0 ? u->fd : look (u, media_type);
    }
    if (rc) {
        blob_upload_close (&u);
        return rc;
    }
    *ret_upload = u;
    return 0;
}

/* --- Going on. */

static int cut (struct blob_upload *u)
{
    const int rc = blob_fs (u->store)->truncate (blob_fs (u->store)->context, u->fd, blob_block_at (u->next / BLOB_BLOCK));
    if (!rc)
        u->resume_end = 0;
    return rc;
}

int blob_upload_resume (struct blob_upload *u, unsigned blocks, bool *ret_done)
{
    const struct fs *fs = blob_fs (u->store);
    int rc = 0;
    for (unsigned n = 0; n < blocks && u->next < u->resume_end && !rc; n++) {
        const uint64_t block = u->next / BLOB_BLOCK;
        rc = fs_read_full (fs, u->fd, u->buffer, BLOB_STRIDE, blob_block_at (block));
        if (!rc && bytes_get_u64le (u->buffer + BLOB_BLOCK) != blob_block_sum (&u->header, block, u->buffer, BLOB_BLOCK))
            rc = FM_ERR_END;
        if (!rc)
            rc = sha256_add (u->sha256, u->buffer, BLOB_BLOCK);
        if (!rc)
            u->next += BLOB_BLOCK;
    }
    if (rc == FM_ERR_END) {
        rc = 0;
        u->resume_end = u->next;
    }
    const bool done = u->next == u->resume_end;
    if (!rc && done)
        rc = cut (u);
    if (!rc)
        *ret_done = done;
    return rc;
}

uint64_t blob_upload_next (const struct blob_upload *u)
{
    return u->next;
}

uint64_t blob_upload_synced (const struct blob_upload *u)
{
    return u->synced;
}

/* --- Writing. */

/* What the buffer holds, with its sum. It stays there when this fails. */
static int write_block (struct blob_upload *u)
{
    const uint64_t block = (u->next - u->buffered) / BLOB_BLOCK;
    bytes_put_u64le (u->buffer + u->buffered, blob_block_sum (&u->header, block, u->buffer, u->buffered));
    return fs_write_full (blob_fs (u->store), u->fd, u->buffer, u->buffered + BLOB_SUM_LEN, blob_block_at (block));
}

static int write_whole_block (struct blob_upload *u)
{
    if (u->buffered < BLOB_BLOCK)
        return 0;
    const int rc = write_block (u);
    if (!rc)
        u->buffered = 0;
    return rc;
}

int blob_upload_write (struct blob_upload *u, const void *data, size_t len, size_t *ret_taken)
{
    const uint8_t *p = data;
    size_t taken = 0;
    if (u->broken)
        return -EIO;
    if (len > u->store->options.size_max || u->next > u->store->options.size_max - len)
        return error_set (FM_ERR_TOO_LARGE, "more than the %llu bytes that a blob may have here", (unsigned long long) u->store->options.size_max);
    int rc = write_whole_block (u);
    while (taken < len && !rc) {
        const size_t room = BLOB_BLOCK - u->buffered, n = len - taken < room ? len - taken : room;
        rc = sha256_add (u->sha256, p + taken, n);
        if (rc) {
            u->broken = true;           /* the digest no longer fits */
            break;
        }
        memcpy (u->buffer + u->buffered, p + taken, n);
        u->buffered += n;
        u->next += n;
        taken += n;
        rc = write_whole_block (u);
    }
    *ret_taken = taken;
    return rc;
}

static int sync_file (struct blob_upload *u)
{
    const int rc = u->broken ? -EIO : blob_fs (u->store)->sync_data (blob_fs (u->store)->context, u->fd);
    if (rc)
        u->broken = true;
    return rc;
}

int blob_upload_sync (struct blob_upload *u)
{
    const int rc = sync_file (u);
    if (!rc)
        u->synced = u->next - u->buffered;
    return rc;
}

/* --- Finishing. */

static int check_end (struct blob_upload *u, const uint8_t *digest, uint64_t size, uint8_t ret_digest[BLOB_DIGEST_LEN])
{
    char is[BLOB_DIGEST_TEXT_LEN + 1], said[BLOB_DIGEST_TEXT_LEN + 1];
    if (u->broken)
        return -EIO;
    if (size != UINT64_MAX && size != u->next)
        return error_set (FM_ERR_END, "the upload has %llu bytes, not the %llu that were said", (unsigned long long) u->next, (unsigned long long) size);
    const int rc = sha256_get (u->sha256, ret_digest);
    if (rc)
        return rc;
    if (digest && memcmp (digest, ret_digest, BLOB_DIGEST_LEN) != 0)
        return error_set (FM_ERR_CORRUPT, "the upload's SHA-256 is %s, not %s", blob_digest_text (ret_digest, is), blob_digest_text (digest, said));
    return 0;
}

/* Everything but the name. A rename must not come before this is on disk. */
static int complete (struct blob_upload *u, const uint8_t digest[BLOB_DIGEST_LEN], uint64_t lease_ms, struct blob_lease *ret_lease)
{
    u->header.complete = true;
    u->header.info.size = u->next;
    memcpy (u->header.info.digest, digest, BLOB_DIGEST_LEN);
    int rc = u->buffered ? write_block (u) : 0;
    if (!rc)
        rc = write_header (u);
    if (!rc)
        rc = blob_lease_write (u->store, u->fd, &u->header, lease_ms, ret_lease);
    return rc ? rc : sync_file (u);
}

/* FM_ERR_IN_USE: another upload of the same was faster. */
static int name (struct blob_upload *u, const uint8_t digest[BLOB_DIGEST_LEN])
{
    struct blob_store *s = u->store;
    const struct fs *fs = blob_fs (s);
    char text[BLOB_DIGEST_TEXT_LEN + 1];
    int folder, other;
    pthread_mutex_lock (&s->lock);
    int rc = blob_folder_open (s, digest[0], true, &folder);
    if (!rc) {
        other = fs->open (fs->context, folder, blob_digest_text (digest, text), O_RDONLY, 0);
        if (other >= 0) {
            (void) fs->close (fs->context, other);      /* read-only: nothing to lose */
            rc = FM_ERR_IN_USE;
        } else if (other != -ENOENT)
            rc = other;
        if (!rc)
            rc = fs->rename (fs->context, s->upload, u->name, folder, text);
        if (!rc) {
            rc = fs->sync_dir (fs->context, folder);
            /* A name that may not be on disk must not be found by the next one who stores this. */
            if (rc) {
                u->broken = true;
                (void) fs->unlink (fs->context, folder, text);      /* the error that counts is told */
            }
        }
        (void) fs->close (fs->context, folder);         /* read-only: nothing to lose */
    }
    pthread_mutex_unlock (&s->lock);
    return rc;
}

int blob_upload_finish (struct blob_upload *u, const uint8_t *digest, uint64_t size, uint64_t lease_ms, struct blob_info *ret_info, bool *ret_new)
{
    uint8_t is[BLOB_DIGEST_LEN];
    struct blob_lease lease;
    int rc = check_end (u, digest, size, is);
    if (rc)
        return rc;
    /* Twice: the one that was there may be swept, or be damaged, in between. */
    for (unsigned try = 0; try < 3; try++) {
        rc = blob_store_lease (u->store, is, lease_ms, ret_info);
        if (rc == 0) {
            *ret_new = false;
            return 0;
        }
        if (rc != FM_ERR_UNKNOWN && rc != FM_ERR_CORRUPT)
            return rc;
        rc = complete (u, is, lease_ms, &lease);
        if (!rc)
            rc = name (u, is);
        if (rc != FM_ERR_IN_USE)
            break;
    }
    if (rc)
        return rc;
    u->named = true;
    *ret_info = u->header.info;
    ret_info->lease_ns = lease.until_ns;
    *ret_new = true;
    return 0;
}

/* --- Closing. */

static void leave (struct blob_upload *u)
{
    struct blob_store *s = u->store;
    pthread_mutex_lock (&s->lock);
    for (struct blob_upload **link = &s->uploads; *link; link = &(*link)->link)
        if (*link == u) {
            *link = u->link;
            s->upload_count--;
            break;
        }
    pthread_mutex_unlock (&s->lock);
}

void blob_upload_close (struct blob_upload **upload)
{
    struct blob_upload *u = *upload;
    if (!u)
        return;
    *upload = NULL;
    if (u->fd >= 0)
        (void) blob_fs (u->store)->close (blob_fs (u->store)->context, u->fd);      /* what counts was synced */
    if (u->entered)
        leave (u);
    sha256_destroy (&u->sha256);
    free (u);
}

void blob_upload_discard (struct blob_upload **upload)
{
    struct blob_upload *u = *upload;
    if (!u)
        return;
    if (!u->named)
        (void) blob_fs (u->store)->unlink (blob_fs (u->store)->context, u->store->upload, u->name);     /* else the sweep takes it, a day later */
    blob_upload_close (upload);
}
