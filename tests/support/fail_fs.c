#include "fail_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, FILES_MAX = 4096, NAME_LEN = 128 };

/* One change that is not yet durable: how to take it back. */
struct undo {
    enum { UNDO_BYTES, UNDO_LENGTH, UNDO_CREATE, UNDO_RENAME, UNDO_UNLINK } kind;
    int fd;                         /* of the file (bytes, length) or the directory: our own descriptor */
    int from_fd;                    /* of a rename: the directory where the file was */
    ino_t inode, from_inode;        /* what a sync of it makes durable; of a rename, either does */
    uint64_t pos, len;
    uint8_t *bytes;
    char name[NAME_LEN], old_name[NAME_LEN], backup[NAME_LEN];
    bool lost;                      /* a sync of it failed: none makes it durable any more */
    struct undo *older;
};

struct fail_fs {
    struct fs seam;
    pthread_mutex_t lock;
    struct undo *newest;
    struct {
        ino_t inode;
        int fd;
    } files[FILES_MAX];
    size_t file_count;
    unsigned long calls, fail_at, power_off_at, backups;
    enum fail_kind fail_kind;
    int error;
    bool off, full, no_room, happened;
    ino_t bad_inode;                /* of which this range cannot be read */
    uint64_t bad_pos, bad_len;
};

static void need (bool condition, const char *what)
{
    if (!condition) {
        perror (what);
        abort ();
    }
}

static ino_t inode_of (int fd)
{
    struct stat st;
    need (fstat (fd, &st) == 0, "fstat");
    return st.st_ino;
}

/* A descriptor of our own for the file, that lives on when the tested code closes its. */
static int keep (struct fail_fs *f, int fd)
{
    const ino_t inode = inode_of (fd);
    for (size_t i = 0; i < f->file_count; i++)
        if (f->files[i].inode == inode)
            return f->files[i].fd;
    need (f->file_count < FILES_MAX, "too many files");
    char path[64];
    (void) snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
    struct stat st;
    need (fstat (fd, &st) == 0, "fstat");
    const int own = S_ISDIR (st.st_mode) ? dup (fd) : open (path, O_RDWR | O_CLOEXEC);
    need (own >= 0, path);
    f->files[f->file_count].inode = inode;
    f->files[f->file_count].fd = own;
    f->file_count++;
    return own;
}

static struct undo *push (struct fail_fs *f, int kind, int fd)
{
    struct undo *u = calloc (1, sizeof *u);
    need (u != NULL, "calloc");
    u->kind = kind;
    u->fd = keep (f, fd);
    u->inode = u->from_inode = inode_of (fd);
    u->older = f->newest;
    f->newest = u;
    return u;
}

static void release (struct undo *u)
{
    if (u->kind == UNDO_UNLINK || u->kind == UNDO_RENAME)
        (void) unlinkat (u->fd, u->backup, 0);
    free (u->bytes);
    free (u);
}

/* What was done to this file, or to the names in this directory, is durable. */
static void settle (struct fail_fs *f, int fd)
{
    const ino_t inode = inode_of (fd);
    for (struct undo **link = &f->newest; *link;) {
        struct undo *u = *link;
        if ((u->inode == inode || u->from_inode == inode) && !u->lost) {
            *link = u->older;
            release (u);
        } else
            link = &u->older;
    }
}

/* The sync of this file failed. */
static void lose (struct fail_fs *f, int fd)
{
    const ino_t inode = inode_of (fd);
    for (struct undo *u = f->newest; u; u = u->older)
        u->lost |= u->inode == inode && u->kind == UNDO_BYTES;
}

/* What was lost and is written again is in the hands of the next sync. */
static void write_again (struct fail_fs *f, int fd, const uint8_t *bytes, size_t len, uint64_t pos)
{
    const ino_t inode = inode_of (fd);
    for (struct undo *u = f->newest; u; u = u->older) {
        const uint64_t from = u->pos > pos ? u->pos : pos,
                       to = u->pos + u->len < pos + len ? u->pos + u->len : pos + len;
        if (u->lost && u->inode == inode && from < to)
            memcpy (u->bytes + (from - u->pos), bytes + (from - pos), (size_t) (to - from));
    }
}

/* Count a call; < 0: it must fail so. */
static int enter (struct fail_fs *f, enum fail_kind kind)
{
    pthread_mutex_lock (&f->lock);
    f->calls++;
    if (f->power_off_at > 0 && --f->power_off_at == 0)
        f->off = f->happened = true;
    if (f->off)
        return -EIO;
    if (f->fail_at > 0 && (f->fail_kind == FAIL_ANY || f->fail_kind == kind) && --f->fail_at == 0) {
        f->happened = true;
        return f->error;
    }
    if (kind == FAIL_WRITE && f->full) {
        f->happened = true;
        return -ENOSPC;
    }
    return 0;
}

/* Within the call: does what is asked for take a block that is not there? */
static int take_room (struct fail_fs *f)
{
    f->happened |= f->no_room;
    return f->no_room ? -ENOSPC : 0;
}

static int leave (struct fail_fs *f, int rc)
{
    pthread_mutex_unlock (&f->lock);
    return rc;
}

static int ff_open_dir (void *context, const char *path, bool create)
{
    struct fail_fs *f = context;
    return f->off ? -EIO : fs_real.open_dir (NULL, path, create);
}

static int ff_open (void *context, int dir, const char *name, int flags, mode_t mode)
{
    struct fail_fs *f = context;
    struct stat st;
    const bool is_new = (flags & O_CREAT) && fstatat (dir, name, &st, 0) != 0;
    if (!(flags & (O_CREAT | O_TRUNC)))
        return f->off ? -EIO : fs_real.open (NULL, dir, name, flags, mode);
    int rc = enter (f, FAIL_OPEN);
    if (rc == 0 && is_new)
        rc = take_room (f);
    if (rc)
        return leave (f, rc);
    if (!is_new && (flags & O_TRUNC)) {     /* as if an empty new file had been put in the old one's place */
        const int old = openat (dir, name, O_RDWR);
        need (old >= 0, name);
        struct undo *u = push (f, UNDO_BYTES, old);
        u->len = (uint64_t) st.st_size;
        u->bytes = malloc ((size_t) u->len + 1);
        need (pread (old, u->bytes, (size_t) u->len, 0) == (ssize_t) u->len, "pread");
        close (old);
    }
    rc = fs_real.open (NULL, dir, name, flags, mode);
    if (rc >= 0 && is_new)
        (void) snprintf (push (f, UNDO_CREATE, dir)->name, NAME_LEN, "%s", name);
    return leave (f, rc);
}

static int ff_close (void *context, int fd)
{
    (void) context;
    return fs_real.close (NULL, fd);
}

static ssize_t ff_pread (void *context, int fd, void *buffer, size_t len, uint64_t pos)
{
    struct fail_fs *f = context;
    int rc = f->off ? -EIO : 0;
    pthread_mutex_lock (&f->lock);
    if (f->fail_at > 0 && f->fail_kind == FAIL_READ && --f->fail_at == 0) {
        f->happened = true;
        rc = f->error;
    }
    if (f->bad_len > 0 && pos < f->bad_pos + f->bad_len && f->bad_pos < pos + len && inode_of (fd) == f->bad_inode)
        rc = -EIO;
    pthread_mutex_unlock (&f->lock);
    return rc ? rc : fs_real.pread (NULL, fd, buffer, len, pos);
}

/* Remember what is at [pos, pos + len), and the file's length where the write goes beyond. */
static void remember (struct fail_fs *f, int fd, size_t len, uint64_t pos)
{
    struct stat st;
    need (fstat (fd, &st) == 0, "fstat");
    const uint64_t old_len = (uint64_t) st.st_size;
    if (pos + len > old_len)
        push (f, UNDO_LENGTH, fd)->len = old_len;
    if (pos < old_len) {
        struct undo *u = push (f, UNDO_BYTES, fd);
        u->pos = pos;
        u->len = old_len - pos < len ? old_len - pos : len;
        u->bytes = malloc ((size_t) u->len);
        need (pread (u->fd, u->bytes, (size_t) u->len, (off_t) pos) == (ssize_t) u->len, "pread");
    }
    if (pos + len > old_len) {              /* the new part: zeros, if its length arrives and its bytes don't */
        struct undo *u = push (f, UNDO_BYTES, fd);
        u->pos = pos > old_len ? pos : old_len;
        u->len = pos + len - u->pos;
        u->bytes = calloc (1, (size_t) u->len);
        need (u->bytes != NULL, "calloc");
    }
}

static ssize_t ff_pwrite (void *context, int fd, const void *buffer, size_t len, uint64_t pos)
{
    struct fail_fs *f = context;
    int rc = enter (f, FAIL_WRITE);
    struct stat st;
    need (fstat (fd, &st) == 0, "fstat");
    if (rc == 0 && pos + len > (uint64_t) st.st_size)
        rc = take_room (f);
    size_t todo = len;
    if (rc)
        todo = len / 2;
    if (todo > 0 && (!f->off || f->power_off_at == 0)) {
        write_again (f, fd, buffer, todo, pos);
        remember (f, fd, todo, pos);
        const ssize_t n = fs_real.pwrite (NULL, fd, buffer, todo, pos);
        need (n == (ssize_t) todo, "pwrite");
    }
    (void) leave (f, 0);
    return rc ? rc : (ssize_t) len;
}

static int ff_sync_data (void *context, int fd)
{
    struct fail_fs *f = context;
    const int rc = enter (f, FAIL_SYNC);
    if (rc == 0)
        settle (f, fd);
    else if (!f->off)
        lose (f, fd);
    return leave (f, rc);
}

static int ff_truncate (void *context, int fd, uint64_t len)
{
    struct fail_fs *f = context;
    const int rc = enter (f, FAIL_ANY);
    if (rc == 0) {
        struct stat st;
        need (fstat (fd, &st) == 0, "fstat");
        const uint64_t old_len = (uint64_t) st.st_size;
        if (len < old_len) {
            struct undo *u = push (f, UNDO_BYTES, fd);
            u->pos = len;
            u->len = old_len - len;
            u->bytes = malloc ((size_t) u->len);
            need (pread (u->fd, u->bytes, (size_t) u->len, (off_t) len) == (ssize_t) u->len, "pread");
        } else
            push (f, UNDO_LENGTH, fd)->len = old_len;
    }
    return leave (f, rc ? rc : fs_real.truncate (NULL, fd, len));
}

static int ff_size (void *context, int fd, uint64_t *ret_len)
{
    struct fail_fs *f = context;
    return f->off ? -EIO : fs_real.size (NULL, fd, ret_len);
}

static int ff_modified (void *context, int fd, uint64_t *ret_unix_ns)
{
    struct fail_fs *f = context;
    return f->off ? -EIO : fs_real.modified (NULL, fd, ret_unix_ns);
}

static int ff_rename (void *context, int from_dir, const char *from, int to_dir, const char *to)
{
    struct fail_fs *f = context;
    int rc = enter (f, FAIL_ANY);
    if (rc == 0) {
        struct undo *u = push (f, UNDO_RENAME, to_dir);
        u->from_fd = keep (f, from_dir);
        u->from_inode = inode_of (from_dir);
        (void) snprintf (u->old_name, NAME_LEN, "%s", from);
        (void) snprintf (u->name, NAME_LEN, "%s", to);
        (void) snprintf (u->backup, NAME_LEN, ".undo-%lu", f->backups++);
        (void) linkat (to_dir, to, to_dir, u->backup, 0);   /* fails where nothing is replaced: then nothing comes back */
    }
    if (rc == 0)
        rc = fs_real.rename (NULL, from_dir, from, to_dir, to);
    return leave (f, rc);
}

static int ff_unlink (void *context, int dir, const char *name)
{
    struct fail_fs *f = context;
    int rc = enter (f, FAIL_ANY);
    if (rc == 0) {
        struct undo *u = push (f, UNDO_UNLINK, dir);
        (void) snprintf (u->name, NAME_LEN, "%s", name);
        (void) snprintf (u->backup, NAME_LEN, ".undo-%lu", f->backups++);
        (void) linkat (dir, name, dir, u->backup, 0);   /* fails where the name is not there: so will unlink */
        rc = fs_real.unlink (NULL, dir, name);
    }
    return leave (f, rc);
}

static int ff_mkdir (void *context, int dir, const char *name)
{
    struct fail_fs *f = context;
    int rc = enter (f, FAIL_ANY);
    if (rc == 0)
        rc = take_room (f);
    return leave (f, rc ? rc : fs_real.mkdir (NULL, dir, name));
}

static int ff_list (void *context, int dir, int (*each) (void *arg, const char *name), void *arg)
{
    struct fail_fs *f = context;
    return f->off ? -EIO : fs_real.list (NULL, dir, each, arg);
}

static int ff_lock (void *context, int fd)
{
    struct fail_fs *f = context;
    return f->off ? -EIO : fs_real.lock (NULL, fd);
}

static int ff_advise (void *context, int fd, uint64_t pos, uint64_t len, int advice)
{
    (void) context;
    return fs_real.advise (NULL, fd, pos, len, advice);
}

struct fail_fs *fail_fs_new (void)
{
    struct fail_fs *f = calloc (1, sizeof *f);
    need (f != NULL, "calloc");
    (void) pthread_mutex_init (&f->lock, NULL);
    f->seam = (struct fs) {
        .context = f,
        .open_dir = ff_open_dir,
        .open = ff_open,
        .close = ff_close,
        .pread = ff_pread,
        .pwrite = ff_pwrite,
        .sync_data = ff_sync_data,
        .sync_dir = ff_sync_data,           /* the same bookkeeping: names hang on the directory's inode */
        .truncate = ff_truncate,
        .size = ff_size,
        .modified = ff_modified,
        .rename = ff_rename,
        .unlink = ff_unlink,
        .mkdir = ff_mkdir,
        .list = ff_list,
        .lock = ff_lock,
        .advise = ff_advise,
    };
    return f;
}

void fail_fs_destroy (struct fail_fs **fail)
{
    struct fail_fs *f = *fail;
    if (!f)
        return;
    while (f->newest) {
        struct undo *u = f->newest;
        f->newest = u->older;
        release (u);
    }
    for (size_t i = 0; i < f->file_count; i++)
        close (f->files[i].fd);
    (void) pthread_mutex_destroy (&f->lock);
    free (f);
    *fail = NULL;
}

const struct fs *fail_fs_seam (struct fail_fs *f)
{
    return &f->seam;
}

void fail_fs_fail (struct fail_fs *f, enum fail_kind kind, unsigned long n, int error)
{
    pthread_mutex_lock (&f->lock);
    f->fail_kind = kind;
    f->fail_at = n;
    f->error = error;
    f->happened = false;
    pthread_mutex_unlock (&f->lock);
}

void fail_fs_unreadable (struct fail_fs *f, const char *path, uint64_t pos, uint64_t len)
{
    struct stat st;
    need (stat (path, &st) == 0, path);
    pthread_mutex_lock (&f->lock);
    f->bad_inode = st.st_ino;
    f->bad_pos = pos;
    f->bad_len = len;
    pthread_mutex_unlock (&f->lock);
}

void fail_fs_disk_full (struct fail_fs *f, bool full)
{
    pthread_mutex_lock (&f->lock);
    f->full = full;
    pthread_mutex_unlock (&f->lock);
}

void fail_fs_no_room (struct fail_fs *f, bool no_room)
{
    pthread_mutex_lock (&f->lock);
    f->no_room = no_room;
    pthread_mutex_unlock (&f->lock);
}

void fail_fs_power_off (struct fail_fs *f, unsigned long n)
{
    pthread_mutex_lock (&f->lock);
    f->power_off_at = n;
    f->happened = false;
    pthread_mutex_unlock (&f->lock);
}

void fail_fs_go_on (struct fail_fs *f)
{
    pthread_mutex_lock (&f->lock);
    f->power_off_at = 0;
    f->off = false;
    pthread_mutex_unlock (&f->lock);
}

bool fail_fs_happened (const struct fail_fs *f)
{
    return f->happened;
}

unsigned long fail_fs_calls (const struct fail_fs *f)
{
    return f->calls;
}

static unsigned chance (uint64_t *x)
{
    *x = *x * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
    return (unsigned) (*x >> 33) % 100;
}

/* Sector by sector: some of it arrived. */
static void take_back_bytes (const struct undo *u, uint64_t *x, unsigned keep_percent)
{
    for (uint64_t pos = u->pos; pos < u->pos + u->len;) {
        const uint64_t end = (pos / SECTOR + 1) * SECTOR < u->pos + u->len ? (pos / SECTOR + 1) * SECTOR
                                                                           : u->pos + u->len;
        if (chance (x) >= keep_percent)
            need (pwrite (u->fd, u->bytes + (pos - u->pos), (size_t) (end - pos), (off_t) pos) == (ssize_t) (end - pos),
                  "pwrite");
        pos = end;
    }
}

void fail_fs_power_loss (struct fail_fs *f, unsigned seed, unsigned keep_percent)
{
    uint64_t x = seed * UINT64_C (0x9E3779B97F4A7C15) + 1;
    bool keep_older = false;                /* names of a directory arrive in order: one journal */
    for (struct undo *u = f->newest; u; u = f->newest) {
        f->newest = u->older;
        if (u->kind == UNDO_BYTES)
            take_back_bytes (u, &x, keep_percent);
        else if (u->kind == UNDO_LENGTH) {
            if (chance (&x) >= keep_percent)
                need (ftruncate (u->fd, (off_t) u->len) == 0, "ftruncate");
        } else if (!keep_older && chance (&x) < keep_percent)
            keep_older = true;
        else if (!keep_older && u->kind == UNDO_CREATE)
            (void) unlinkat (u->fd, u->name, 0);
        else if (!keep_older && u->kind == UNDO_RENAME) {
            (void) renameat (u->fd, u->name, u->from_fd, u->old_name);
            (void) renameat (u->fd, u->backup, u->fd, u->name);
        }
        else if (!keep_older && u->kind == UNDO_UNLINK)
            (void) renameat (u->fd, u->backup, u->fd, u->name);
        release (u);
    }
}
