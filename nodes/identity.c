#include "identity.h"
#include "error.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char magic[8] = "FMSTREAM";
static const char file_name[] = "stream", file_name_new[] = "stream.new", lock_name[] = "lock";

enum {
    VERSION_POS = 8,
    FLAGS_POS = 12,
    STREAM_POS = 16,
    EPOCH_POS = 32,
    NEXT_SEQ_POS = 40,
    MESH_POS = 48,
    NAME_POS = 112,
    CHECKSUM_POS = 176,
    FLAG_CLEAN = 1,
    FLAG_JOURNAL = 2
};
static_assert (CHECKSUM_POS + 8 == IDENTITY_FILE_LEN, "the checksum is last");
static_assert (MESH_POS + 1 + MESH_NAME_MAX == NAME_POS && NAME_POS + 1 + NODE_NAME_MAX == CHECKSUM_POS, "names fill theirs");

struct identity_directory {
    char *path;
    int dir_fd, lock_fd;
    pthread_mutex_t lock;
    uint64_t reserved_end;
    struct fm_slice mesh;           /* points into mesh_name */
    char mesh_name[MESH_NAME_MAX];
};

/* What the file says. */
struct stream_file {
    struct fm_id stream;
    uint64_t epoch, next_seq;
    uint32_t flags;
    struct fm_slice mesh, name;
};

/* ------------------------------------------------------------------ the file's bytes */

static void put_name (uint8_t *p, struct fm_slice name)
{
    p[0] = (uint8_t) name.len;
    if (name.len)
        memcpy (p + 1, name.data, name.len);
}

static void encode (const struct stream_file *f, uint8_t bytes[IDENTITY_FILE_LEN])
{
    memset (bytes, 0, IDENTITY_FILE_LEN);
    memcpy (bytes, magic, sizeof magic);
    bytes_put_u32le (bytes + VERSION_POS, IDENTITY_VERSION);
    bytes_put_u32le (bytes + FLAGS_POS, f->flags);
    memcpy (bytes + STREAM_POS, f->stream.bytes, ID_LEN);
    bytes_put_u64le (bytes + EPOCH_POS, f->epoch);
    bytes_put_u64le (bytes + NEXT_SEQ_POS, f->next_seq);
    put_name (bytes + MESH_POS, f->mesh);
    put_name (bytes + NAME_POS, f->name);
    bytes_put_u64le (bytes + CHECKSUM_POS, XXH3_64bits (bytes, CHECKSUM_POS));
}

/* The slices of *ret point into bytes. */
static int decode (const uint8_t *bytes, size_t len, const char *path, struct stream_file *ret)
{
    if (len < FLAGS_POS || memcmp (bytes, magic, sizeof magic) != 0)
        return error_set (FM_ERR_CORRUPT, "%s/%s: not a stream's file: %zu bytes; restore it, or remove it to begin a new stream", path,
                          file_name, len);
    const uint32_t version = bytes_get_u32le (bytes + VERSION_POS);
    if (version > IDENTITY_VERSION)
        return error_set (FM_ERR_NEWER, "%s/%s: version %u, this program knows %d; use a newer program", path, file_name, version,
                          IDENTITY_VERSION);
    if (len != IDENTITY_FILE_LEN)
        return error_set (FM_ERR_CORRUPT, "%s/%s: %zu bytes instead of %d; restore it, or remove it to begin a new stream", path,
                          file_name, len, IDENTITY_FILE_LEN);
    if (bytes_get_u64le (bytes + CHECKSUM_POS) != XXH3_64bits (bytes, CHECKSUM_POS))
        return error_set (FM_ERR_CORRUPT, "%s/%s: the checksum does not fit; restore it, or remove it to begin a new stream", path,
                          file_name);
    struct stream_file f = {
        .epoch = bytes_get_u64le (bytes + EPOCH_POS),
        .next_seq = bytes_get_u64le (bytes + NEXT_SEQ_POS),
        .flags = bytes_get_u32le (bytes + FLAGS_POS),
        .mesh = slice (bytes + MESH_POS + 1, bytes[MESH_POS]),
        .name = slice (bytes + NAME_POS + 1, bytes[NAME_POS]),
    };
    memcpy (f.stream.bytes, bytes + STREAM_POS, ID_LEN);
    if (version == 0 || id_is_zero (&f.stream) || f.epoch == 0 || f.epoch == UINT64_MAX || f.next_seq == 0
        || f.next_seq > UINT64_MAX - IDENTITY_RESERVE_MAX || f.mesh.len > MESH_NAME_MAX || f.name.len > NODE_NAME_MAX)
        return error_set (FM_ERR_CORRUPT, "%s/%s: a field is out of its range; restore it, or remove it to begin a new stream", path,
                          file_name);
    *ret = f;
    return 0;
}

/* ------------------------------------------------------------------ files */

static int failed (const char *path, const char *name, const char *verb)
{
    const int code = errno;
    return error_set (-code, "%s%s%s: %s", path, name ? "/" : "", name ? name : "", verb);
}

static int write_all (int fd, const uint8_t *bytes, size_t len)
{
    while (len) {
        const ssize_t n = write (fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        bytes += n;
        len -= (size_t) n;
    }
    return 0;
}

/* A new file each time: after a failed fsync the old file's pages would show what the disk does not have. */
static int store (const struct identity_directory *d, const struct stream_file *f)
{
    uint8_t bytes[IDENTITY_FILE_LEN];
    encode (f, bytes);
    (void) unlinkat (d->dir_fd, file_name_new, 0);      /* left by a crash, or not there */
    const int fd = openat (d->dir_fd, file_name_new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return failed (d->path, file_name_new, "create");
    int rc = 0;
    if (write_all (fd, bytes, sizeof bytes))
        rc = failed (d->path, file_name_new, "write");
    else if (fsync (fd))
        rc = failed (d->path, file_name_new, "fsync");
    (void) close (fd);                                  /* synced, or failed already */
    if (rc)
        return rc;
    if (renameat (d->dir_fd, file_name_new, d->dir_fd, file_name))
        return failed (d->path, file_name_new, "rename");
    if (fsync (d->dir_fd))
        return failed (d->path, NULL, "fsync");
    return 0;
}

/* Read the file into bytes; *ret_len 0: there is none. */
static int load (const struct identity_directory *d, uint8_t bytes[IDENTITY_FILE_LEN + 1], size_t *ret_len)
{
    const int fd = openat (d->dir_fd, file_name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *ret_len = 0;
        return 0;
    }
    if (fd < 0)
        return failed (d->path, file_name, "open");
    size_t len = 0;
    int rc = 0;
    while (len < IDENTITY_FILE_LEN + 1) {               /* one more, to see that it is longer */
        const ssize_t n = read (fd, bytes + len, IDENTITY_FILE_LEN + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = failed (d->path, file_name, "read");
        if (n <= 0)
            break;
        len += (size_t) n;
    }
    (void) close (fd);                                  /* only read */
    if (rc == 0 && len == 0)
        rc = error_set (FM_ERR_CORRUPT, "%s/%s: empty; restore it, or remove it to begin a new stream", d->path, file_name);
    if (rc == 0)
        *ret_len = len;
    return rc;
}

static int open_directory (const char *path, int *ret_fd)
{
    const bool made = mkdir (path, 0755) == 0;
    if (!made && errno != EEXIST)
        return failed (path, NULL, "mkdir");
    const int fd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed (path, NULL, "open");
    if (made) {
        /* The directory's own name must survive power loss as well. */
        const int parent = openat (fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int rc = 0;
        if (parent < 0 || fsync (parent))
            rc = failed (path, "..", "fsync");
        if (parent >= 0)
            (void) close (parent);                      /* a directory: nothing is buffered */
        if (rc) {
            (void) close (fd);                          /* the same */
            (void) rmdir (path);                        /* the next one shall make it, and sync its name */
            return rc;
        }
    }
    *ret_fd = fd;
    return 0;
}

static int take_lock (struct identity_directory *d)
{
    d->lock_fd = openat (d->dir_fd, lock_name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (d->lock_fd < 0)
        return failed (d->path, lock_name, "open");
    char text[32] = "";
    if (flock (d->lock_fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            return failed (d->path, lock_name, "flock");
        const ssize_t n = read (d->lock_fd, text, sizeof text - 1);
        const long pid = n > 0 ? strtol (text, NULL, 10) : 0;
        if (pid > 0)
            return error_set (FM_ERR_IN_USE, "%s: open in process %ld; end that, or take another directory", d->path, pid);
        return error_set (FM_ERR_IN_USE, "%s: open in another process; end that, or take another directory", d->path);
    }
    /* For people: whoever finds it locked can say by whom. Not having it there is no failure. */
    const int n = snprintf (text, sizeof text, "%ld\n", (long) getpid ());
    if (ftruncate (d->lock_fd, 0) == 0)
        (void) !write (d->lock_fd, text, (size_t) n);
    return 0;
}

static void directory_destroy (struct identity_directory **directory)
{
    struct identity_directory *d = *directory;
    if (!d)
        return;
    if (d->lock_fd >= 0)
        (void) close (d->lock_fd);                      /* releases the lock */
    if (d->dir_fd >= 0)
        (void) close (d->dir_fd);
    (void) pthread_mutex_destroy (&d->lock);
    free (d->path);
    free (d);
    *directory = NULL;
}

static int directory_new (const char *path, struct fm_slice mesh, struct identity_directory **ret_directory)
{
    struct identity_directory *d = calloc (1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->dir_fd = d->lock_fd = -1;
    (void) pthread_mutex_init (&d->lock, NULL);         /* cannot fail with default attributes */
    if (mesh.len)
        memcpy (d->mesh_name, mesh.data, mesh.len);
    d->mesh = slice (d->mesh_name, mesh.len);
    d->path = strdup (path);
    int rc = d->path ? 0 : -ENOMEM;
    if (rc == 0)
        rc = open_directory (path, &d->dir_fd);
    if (rc == 0)
        rc = take_lock (d);
    if (rc) {
        directory_destroy (&d);
        return rc;
    }
    *ret_directory = d;
    return 0;
}

/* ------------------------------------------------------------------ public */

static int write_state (const struct identity *i, uint64_t next_seq, uint32_t flags)
{
    const struct stream_file f = {
        .stream = i->stream,
        .epoch = i->epoch,
        .next_seq = next_seq,
        .flags = flags | (i->journal ? FLAG_JOURNAL : 0),
        .mesh = i->directory->mesh,
        .name = slice_of (i->name),
    };
    return store (i->directory, &f);
}

/* What was, from the directory; nothing: a new stream. */
static int take_over (struct identity *i, struct fm_slice name)
{
    uint8_t bytes[IDENTITY_FILE_LEN + 1];
    size_t len = 0;
    int rc = load (i->directory, bytes, &len);
    if (rc)
        return rc;
    struct stream_file f = { .stream = i->stream, .next_seq = 1, .mesh = i->directory->mesh };
    if (len)
        rc = decode (bytes, len, i->directory->path, &f);
    if (rc)
        return rc;
    if (!slice_equal (f.mesh, i->directory->mesh))
        return error_set (FM_ERR_FOREIGN, "%s: a stream of the mesh '%.*s', not of '%.*s'", i->directory->path, (int) f.mesh.len,
                          (const char *) f.mesh.data, (int) i->directory->mesh.len, i->directory->mesh_name);
    if (name.len == 0 && f.name.len)
        memcpy (i->name, f.name.data, f.name.len);
    i->stream = f.stream;
    i->epoch = f.epoch + 1;
    i->epoch_first_seq = f.next_seq;
    i->journal = f.flags & FLAG_JOURNAL;
    return 0;
}

int identity_open (const char *directory, struct fm_slice mesh, struct fm_slice name, struct identity *ret_identity,
                   uint64_t *ret_reserved_end)
{
    if (mesh.len > MESH_NAME_MAX || name.len > NODE_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "a name of more than %d bytes", NODE_NAME_MAX);
    struct identity i = { .epoch = 1, .incarnation = id_random_u64 (), .epoch_first_seq = 1 };
    id_random (&i.stream);
    if (name.len)
        memcpy (i.name, name.data, name.len);
    uint64_t reserved_end = UINT64_MAX;
    if (directory) {
        int rc = directory_new (directory, mesh, &i.directory);
        if (rc == 0)
            rc = take_over (&i, name);
        if (rc == 0) {
            reserved_end = i.epoch_first_seq + IDENTITY_RESERVE_FIRST;
            i.directory->reserved_end = reserved_end;
            rc = write_state (&i, reserved_end, 0);
        }
        if (rc) {
            directory_destroy (&i.directory);
            return rc;
        }
    }
    *ret_identity = i;
    *ret_reserved_end = reserved_end;
    return 0;
}

int identity_reserve (struct identity *identity, uint64_t end)
{
    struct identity_directory *d = identity->directory;
    if (!d)
        return 0;
    int rc = 0;
    pthread_mutex_lock (&d->lock);
    if (end > d->reserved_end) {
        rc = write_state (identity, end, 0);
        if (rc == 0)
            d->reserved_end = end;
    }
    pthread_mutex_unlock (&d->lock);
    return rc;
}

int identity_note_journal (struct identity *identity)
{
    struct identity_directory *d = identity->directory;
    if (identity->journal || !d) {
        identity->journal = true;
        return 0;
    }
    pthread_mutex_lock (&d->lock);
    identity->journal = true;
    const int rc = write_state (identity, d->reserved_end, 0);
    pthread_mutex_unlock (&d->lock);
    return rc;
}

int identity_dir (const struct identity *identity)
{
    return identity->directory->dir_fd;
}

const char *identity_path (const struct identity *identity)
{
    return identity->directory->path;
}

int identity_close (struct identity *identity, uint64_t next_seq)
{
    int rc = 0;
    if (identity->directory) {
        assert (next_seq <= identity->directory->reserved_end);
        rc = write_state (identity, next_seq, FLAG_CLEAN);
        directory_destroy (&identity->directory);
    }
    return rc;
}
