/* blob_sweep: what nobody needs any more goes. */

#include "blob_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "error.h"

enum { NS_PER_MS = 1000000, PARTS_MAX = 1024 };

/* --- Blobs. */

static uint64_t as_of (const struct blob_store *s, const struct blob_sweep *sweep)
{
    return sweep->expired_ns ? sweep->expired_ns : blob_now (s);
}

/* Under the lock, for a lease may have been given since it was looked at. 1: it went. */
static int remove_blob (struct blob_store *s, const struct blob_sweep *sweep, const uint8_t digest[BLOB_DIGEST_LEN])
{
    const struct fs *fs = blob_fs (s);
    char text[BLOB_DIGEST_TEXT_LEN + 1];
    struct blob_handle h;
    int folder, rc = blob_handle_open (s, digest, &h);
    if (rc)
        return rc == FM_ERR_UNKNOWN || rc == FM_ERR_CORRUPT ? 0 : rc;
    pthread_mutex_lock (&s->lock);
    blob_handle_refresh (s, &h);
    const bool over = h.lease.until_ns <= as_of (s, sweep);
    if (over)
        rc = blob_folder_open (s, digest[0], false, &folder);
    if (over && !rc) {
        rc = fs->unlink (fs->context, folder, blob_digest_text (digest, text));
        if (!rc)
            rc = fs->sync_dir (fs->context, folder);
        (void) fs->close (fs->context, folder);         /* read-only: nothing to lose */
    }
    pthread_mutex_unlock (&s->lock);
    blob_handle_close (s, &h);
    return rc ? rc : over;
}

static int look (struct blob_store *s, struct blob_sweep *sweep, const uint8_t digest[BLOB_DIGEST_LEN], blob_used_fn *used, void *arg)
{
    struct blob_info info;
    if (blob_store_stat (s, digest, &info) != 0 || info.lease_ns > as_of (s, sweep))
        return 0;                       /* it is kept, or told already */
    int rc = used (arg, digest);
    if (rc == 0)
        rc = remove_blob (s, sweep, digest);
    else
        return rc > 0 ? 0 : rc;
    if (rc > 0)
        sweep->removed++;
    return rc > 0 ? 0 : rc;
}

static int sweep_folder (struct blob_store *s, struct blob_sweep *sweep, unsigned max, unsigned *looked, blob_used_fn *used, void *arg)
{
    struct blob_names names;
    int rc = blob_folder_names (s, sweep->folder, &names);
    if (rc)
        return rc;
    for (size_t i = 0; i < names.count && !rc; i++) {
        if (sweep->within && memcmp (names.digests[i], sweep->after, BLOB_DIGEST_LEN) <= 0)
            continue;
        if (*looked == max) {
            rc = FM_ERR_FULL;
            break;
        }
        ++*looked;
        rc = look (s, sweep, names.digests[i], used, arg);
        if (!rc) {
            memcpy (sweep->after, names.digests[i], BLOB_DIGEST_LEN);
            sweep->within = true;
        }
    }
    free (names.digests);
    if (!rc) {
        sweep->folder++;
        sweep->within = false;
    }
    return rc;
}

/* --- Uploads that nobody goes on with. */

struct parts {
    char (*names)[BLOB_NAME_LEN];
    size_t count;
};

static int add_part (void *arg, const char *name)
{
    struct parts *parts = arg;
    const size_t len = strlen (name);
    if (parts->count < PARTS_MAX && len > 5 && len < BLOB_NAME_LEN && strcmp (name + len - 5, ".part") == 0)
        memcpy (parts->names[parts->count++], name, len + 1);
    return 0;
}

static bool is_open (const struct blob_store *s, const char *name)
{
    for (const struct blob_upload *u = s->uploads; u; u = u->link)
        if (strcmp (u->name, name) == 0)
            return true;
    return false;
}

static int remove_part (struct blob_store *s, const char *name, unsigned *removed)
{
    const struct fs *fs = blob_fs (s);
    uint64_t modified = 0;
    const uint64_t now = blob_now (s);
    const int fd = fs->open (fs->context, s->upload, name, O_RDONLY, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    int rc = fs->modified (fs->context, fd, &modified);
    (void) fs->close (fs->context, fd);                 /* read-only: nothing to lose */
    if (rc || modified > now || (now - modified) / NS_PER_MS < s->options.upload_keep_ms)
        return rc;
    pthread_mutex_lock (&s->lock);
    const bool goes = !is_open (s, name);
    if (goes)
        rc = fs->unlink (fs->context, s->upload, name);
    pthread_mutex_unlock (&s->lock);
    *removed += goes && !rc;
    return rc;
}

static int sweep_uploads (struct blob_store *s, struct blob_sweep *sweep)
{
    struct parts parts = { .names = calloc (PARTS_MAX, sizeof parts.names[0]) };
    int rc = parts.names ? blob_fs (s)->list (blob_fs (s)->context, s->upload, add_part, &parts) : -ENOMEM;
    for (size_t i = 0; i < parts.count; i++) {
        const int failed = remove_part (s, parts.names[i], &sweep->uploads_removed);
        rc = rc ? rc : failed;          /* one that can't be removed keeps no other */
    }
    free (parts.names);
    return rc;
}

int blob_store_sweep (struct blob_store *store, struct blob_sweep *sweep, unsigned max, blob_used_fn *used, void *arg)
{
    unsigned looked = 0;
    int rc = 0;
    sweep->removed = sweep->uploads_removed = 0;
    while (sweep->folder < BLOB_FOLDERS && !rc)
        rc = sweep_folder (store, sweep, max, &looked, used, arg);
    if (!rc)
        rc = sweep_uploads (store, sweep);
    if (!rc)
        sweep->folder = 0;
    return rc;
}
