#include "fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fm_types.h"

enum { FS_PATH_MAX = 4096 };

static int result (int rc)
{
    return rc < 0 ? -errno : rc;
}

/* A name is durable only when the directory that holds it is synced. */
static int sync_parent (const char *path)
{
    char parent[FS_PATH_MAX];
    if (snprintf (parent, sizeof parent, "%s", path) >= (int) sizeof parent)
        return -ENAMETOOLONG;
    size_t len = strlen (parent);
    while (len > 1 && parent[len - 1] == '/')
        parent[--len] = 0;
    char *slash = strrchr (parent, '/');
    if (!slash)
        snprintf (parent, sizeof parent, ".");
    else
        slash[slash == parent ? 1 : 0] = 0;

    const int fd = open (parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    const int rc = result (fsync (fd));
    (void) close (fd);                      /* read-only: nothing to lose */
    return rc;
}

static int real_open_dir (void *context, const char *path, bool create)
{
    (void) context;
    if (create) {
        const bool made = mkdir (path, 0777) == 0;
        if (!made && errno != EEXIST)
            return -errno;
        const int rc = sync_parent (path);
        if (rc && (made || rc == -EIO))     /* who made it before may have been killed before it was synced; a parent that is not ours to read is not ours */
            return rc;
    }
    return result (open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int real_open (void *context, int dir, const char *name, int flags, mode_t mode)
{
    (void) context;
    int fd;
    do
        fd = openat (dir, name, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return result (fd);
}

static int real_close (void *context, int fd)
{
    (void) context;
    return result (close (fd));
}

static ssize_t real_pread (void *context, int fd, void *buffer, size_t len, uint64_t pos)
{
    (void) context;
    ssize_t n;
    do
        n = pread (fd, buffer, len, (off_t) pos);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t real_pwrite (void *context, int fd, const void *buffer, size_t len, uint64_t pos)
{
    (void) context;
    ssize_t n;
    do
        n = pwrite (fd, buffer, len, (off_t) pos);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int real_sync_data (void *context, int fd)
{
    (void) context;
    return result (fdatasync (fd));
}

static int real_sync_dir (void *context, int dir)
{
    (void) context;
    return result (fsync (dir));
}

static int real_truncate (void *context, int fd, uint64_t len)
{
    (void) context;
    int rc;
    do
        rc = ftruncate (fd, (off_t) len);
    while (rc < 0 && errno == EINTR);
    return result (rc);
}

static int real_size (void *context, int fd, uint64_t *ret_len)
{
    (void) context;
    struct stat st;
    if (fstat (fd, &st) < 0)
        return -errno;
    *ret_len = (uint64_t) st.st_size;
    return 0;
}

static int real_modified (void *context, int fd, uint64_t *ret_unix_ns)
{
    (void) context;
    struct stat st;
    if (fstat (fd, &st) < 0)
        return -errno;
    *ret_unix_ns = (uint64_t) st.st_mtim.tv_sec * 1000000000 + (uint64_t) st.st_mtim.tv_nsec;
    return 0;
}

static int real_rename (void *context, int from_dir, const char *from, int to_dir, const char *to)
{
    (void) context;
    return result (renameat (from_dir, from, to_dir, to));
}

static int real_unlink (void *context, int dir, const char *name)
{
    (void) context;
    return result (unlinkat (dir, name, 0));
}

static int real_mkdir (void *context, int dir, const char *name)
{
    (void) context;
    return result (mkdirat (dir, name, 0777));
}

static int real_list (void *context, int dir, int (*each) (void *arg, const char *name), void *arg)
{
    (void) context;
    /* A descriptor of its own: the stream's position belongs to the descriptor, and fdopendir takes it. */
    const int fd = openat (dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *stream = fdopendir (fd);
    if (!stream) {
        const int rc = -errno;
        (void) close (fd);                  /* read-only: nothing to lose */
        return rc;
    }
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        const struct dirent *entry = readdir (stream);
        if (!entry) {
            rc = -errno;
            break;
        }
        if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
            rc = each (arg, entry->d_name);
    }
    (void) closedir (stream);               /* read-only: nothing to lose */
    return rc;
}

static int real_lock (void *context, int fd)
{
    (void) context;
    return result (flock (fd, LOCK_EX | LOCK_NB));
}

static int real_advise (void *context, int fd, uint64_t pos, uint64_t len, int advice)
{
    (void) context;
    return -posix_fadvise (fd, (off_t) pos, (off_t) len, advice);
}

const struct fs fs_real = {
    .open_dir = real_open_dir,
    .open = real_open,
    .close = real_close,
    .pread = real_pread,
    .pwrite = real_pwrite,
    .sync_data = real_sync_data,
    .sync_dir = real_sync_dir,
    .truncate = real_truncate,
    .size = real_size,
    .modified = real_modified,
    .rename = real_rename,
    .unlink = real_unlink,
    .mkdir = real_mkdir,
    .list = real_list,
    .lock = real_lock,
    .advise = real_advise,
};

int fs_read_full (const struct fs *fs, int fd, void *buffer, size_t len, uint64_t pos)
{
    uint8_t *p = buffer;
    while (len > 0) {
        const ssize_t n = fs->pread (fs->context, fd, p, len, pos);
        if (n < 0)
            return (int) n;
        if (n == 0)
            return FM_ERR_END;
        p += n;
        pos += (uint64_t) n;
        len -= (size_t) n;
    }
    return 0;
}

int fs_write_full (const struct fs *fs, int fd, const void *buffer, size_t len, uint64_t pos)
{
    const uint8_t *p = buffer;
    while (len > 0) {
        const ssize_t n = fs->pwrite (fs->context, fd, p, len, pos);
        if (n < 0)
            return (int) n;
        if (n == 0)
            return -EIO;                    /* POSIX allows it for len 0 only; do not spin */
        p += n;
        pos += (uint64_t) n;
        len -= (size_t) n;
    }
    return 0;
}
