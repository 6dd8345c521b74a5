#include "window_file.h"
#include "batch.h"
#include "error.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char file_magic[8] = "FMWINDOW", record_magic[4] = "FMWR";
static const char file_name[] = "window", file_name_new[] = "window.new";

enum {
    /* header */
    VERSION_POS = 8,
    STREAM_POS = 16,
    CAPACITY_POS = 32,
    SALT_POS = 40,
    MESH_POS = 48,
    HEADER_SUM_POS = WINDOW_FILE_HEADER_LEN - 8,
    /* place */
    COUNT_POS = 0,
    START_POS = 8,
    PLACE_SUM_POS = WINDOW_FILE_PLACE_LEN - 8,
    /* record */
    RECORD_LEN_POS = 4,
    RECORD_PLACE_POS = 8,
    RECORD_START_POS = 16,
    RECORD_SUM_POS = 24,

    STAGE_LEN = WINDOW_FILE_RECORD_HEAD + LIVE_FRAME_MAX + WINDOW_FILE_ALIGN,   /* a record up to here is written in one call */
    READ_AHEAD = 256 << 10
};
#define CAPACITY_MAX (UINT64_C (1) << 40)
static_assert (RECORD_SUM_POS + 8 == WINDOW_FILE_RECORD_HEAD, "the sum is last in a record's head");
static_assert (WINDOW_FILE_PLACE_POS + 2 * WINDOW_FILE_PLACE_STEP == WINDOW_FILE_RING_POS, "both places stand before the ring");

struct window_file {
    const struct fs *fs;
    const char *directory;          /* for messages; the identity's */
    int dir, fd;
    bool sync, broken;
    uint64_t capacity, salt;
    uint64_t count, start;          /* of the place that the file has */
    uint64_t end;                   /* the place of the next record */
    uint8_t stage[STAGE_LEN];
};

/* ------------------------------------------------------------------ bytes */

static size_t record_len (size_t batch_len)
{
    return (WINDOW_FILE_RECORD_HEAD + batch_len + WINDOW_FILE_ALIGN - 1) / WINDOW_FILE_ALIGN * WINDOW_FILE_ALIGN;
}

static uint64_t record_sum (uint64_t salt, const uint8_t *head, const uint8_t *batch, size_t len)
{
    /* Two sums instead of a state to carry: the head's seeds the batch's. */
    const uint64_t seed = XXH3_64bits_withSeed (head, RECORD_SUM_POS, salt + bytes_get_u64le (head + RECORD_PLACE_POS));
    return XXH3_64bits_withSeed (batch, len, seed);
}

static void record_head (const struct window_file *f, struct fm_slice batch, uint64_t place, uint64_t start, uint8_t *head)
{
    memcpy (head, record_magic, sizeof record_magic);
    bytes_put_u32le (head + RECORD_LEN_POS, (uint32_t) batch.len);
    bytes_put_u64le (head + RECORD_PLACE_POS, place);
    bytes_put_u64le (head + RECORD_START_POS, start);
    bytes_put_u64le (head + RECORD_SUM_POS, record_sum (f->salt, head, batch.data, batch.len));
}

static void encode_header (const struct window_file *f, const struct fm_id *stream, struct fm_slice mesh, uint8_t bytes[WINDOW_FILE_HEADER_LEN])
{
    memset (bytes, 0, WINDOW_FILE_HEADER_LEN);
    memcpy (bytes, file_magic, sizeof file_magic);
    bytes_put_u32le (bytes + VERSION_POS, WINDOW_FILE_VERSION);
    memcpy (bytes + STREAM_POS, stream->bytes, ID_LEN);
    bytes_put_u64le (bytes + CAPACITY_POS, f->capacity);
    bytes_put_u64le (bytes + SALT_POS, f->salt);
    bytes[MESH_POS] = (uint8_t) mesh.len;
    if (mesh.len)
        memcpy (bytes + MESH_POS + 1, mesh.data, mesh.len);
    bytes_put_u64le (bytes + HEADER_SUM_POS, XXH3_64bits (bytes, HEADER_SUM_POS));
}

static uint64_t place_pos (uint64_t count)
{
    return WINDOW_FILE_PLACE_POS + count % 2 * WINDOW_FILE_PLACE_STEP;
}

static void encode_place (uint64_t salt, uint64_t count, uint64_t start, uint8_t bytes[WINDOW_FILE_PLACE_LEN])
{
    memset (bytes, 0, WINDOW_FILE_PLACE_LEN);
    bytes_put_u64le (bytes + COUNT_POS, count);
    bytes_put_u64le (bytes + START_POS, start);
    bytes_put_u64le (bytes + PLACE_SUM_POS, XXH3_64bits_withSeed (bytes, PLACE_SUM_POS, salt + place_pos (count)));
}

/* ------------------------------------------------------------------ writing */

static int failed (const struct window_file *f, const char *name, const char *verb, int rc)
{
    return error_set (rc, "%s/%s: %s: %s", f->directory, name, verb, strerror (-rc));
}

/* Write at a place of the ring, over its end if need be. */
static int ring_write (struct window_file *f, const uint8_t *bytes, size_t len, uint64_t place)
{
    const uint64_t pos = place % f->capacity, to_end = f->capacity - pos;
    const size_t first = len < to_end ? len : (size_t) to_end;
    int rc = fs_write_full (f->fs, f->fd, bytes, first, WINDOW_FILE_RING_POS + pos);
    if (rc == 0 && first < len)
        rc = fs_write_full (f->fs, f->fd, bytes + first, len - first, WINDOW_FILE_RING_POS);
    return rc;
}

static int sync_file (struct window_file *f)
{
    const int rc = f->fs->sync_data (f->fs->context, f->fd);
    if (rc == 0)
        return 0;
    f->broken = true;               /* what the disk has of it is not known any more: the page cache would lie */
    return failed (f, file_name, "sync", rc);
}

/* Say in the file that nothing below start is needed. The older copy is written over, so that one holds at any time. */
static int write_place (struct window_file *f, uint64_t start)
{
    uint8_t bytes[WINDOW_FILE_PLACE_LEN];
    encode_place (f->salt, f->count + 1, start, bytes);
    const int rc = fs_write_full (f->fs, f->fd, bytes, sizeof bytes, place_pos (f->count + 1));
    if (rc)
        return failed (f, file_name, "write", rc);
    /* Not synced by itself: the record that follows is, with it. If power fails before, reading begins at the older place, and skips what has been written over. */
    f->count++;
    f->start = start;
    return 0;
}

/* Make room for so many bytes at f->end. */
static int make_room (struct window_file *f, size_t len, uint64_t start)
{
    const bool empty = start == f->end;
    if (empty && f->end % f->capacity >= WINDOW_FILE_REWIND) {
        /* The same pages again: they stay in the cache, and the file stays small. */
        const uint64_t again = f->end + (f->capacity - f->end % f->capacity);
        const int rc = write_place (f, again);
        if (rc)
            return rc;
        f->end = again;
        return 0;
    }
    if (len <= f->capacity - (f->end - f->start))
        return 0;
    if (len > f->capacity - (f->end - start))
        return error_set (FM_ERR_FULL, "%s/%s: %zu bytes do not fit beside %llu of %llu", f->directory, file_name, len,
                          (unsigned long long) (f->end - start), (unsigned long long) f->capacity);
    return write_place (f, start);
}

static int write_record (struct window_file *f, struct fm_slice batch, uint64_t start)
{
    const size_t len = record_len (batch.len);
    int rc;
    if (len <= sizeof f->stage) {
        record_head (f, batch, f->end, start, f->stage);
        memcpy (f->stage + WINDOW_FILE_RECORD_HEAD, batch.data, batch.len);
        memset (f->stage + WINDOW_FILE_RECORD_HEAD + batch.len, 0, len - WINDOW_FILE_RECORD_HEAD - batch.len);
        rc = ring_write (f, f->stage, len, f->end);
    } else {
        record_head (f, batch, f->end, start, f->stage);
        rc = ring_write (f, batch.data, batch.len, f->end + WINDOW_FILE_RECORD_HEAD);
        if (rc == 0)
            rc = ring_write (f, f->stage, WINDOW_FILE_RECORD_HEAD, f->end);
    }
    return rc ? failed (f, file_name, "write", rc) : 0;
}

int window_file_append (struct window_file *f, struct fm_slice batch, uint64_t start, uint64_t *ret_place)
{
    assert (batch.len > 0 && batch.len <= BATCH_MAX);
    if (f->broken)
        return error_set (-EIO, "%s/%s: a sync failed: close the publisher and open it again", f->directory, file_name);
    if (start > f->end)
        start = f->end;
    assert (start >= f->start);
    int rc = make_room (f, record_len (batch.len), start);
    if (rc == 0) {
        /* Before it was rewound nothing was needed either. */
        start = start < f->start ? f->start : start;
        rc = write_record (f, batch, start);
    }
    if (rc == 0 && f->sync)
        rc = sync_file (f);
    if (rc)
        return rc;
    *ret_place = f->end;
    f->end += record_len (batch.len);
    return 0;
}

/* ------------------------------------------------------------------ reading */

/* The old file, read ahead in pieces. */
struct old_file {
    const struct fs *fs;
    int fd;
    uint64_t capacity, salt, start;
    uint64_t size;                  /* bytes of the ring that the file has */
    uint64_t ahead_pos;             /* in the ring */
    size_t ahead_len;
    uint8_t ahead[READ_AHEAD];
};

/* Read at a place; what the file is too short for reads as zeros. */
static int old_read (struct old_file *o, uint64_t place, uint8_t *bytes, size_t len)
{
    while (len) {
        const uint64_t pos = place % o->capacity;
        if (pos >= o->size) {
            const uint64_t missing = o->capacity - pos;
            const size_t n = len < missing ? len : (size_t) missing;
            memset (bytes, 0, n);
            bytes += n, len -= n, place += n;
            continue;
        }
        if (pos < o->ahead_pos || pos >= o->ahead_pos + o->ahead_len) {
            const uint64_t left = o->size - pos;
            o->ahead_pos = pos;
            o->ahead_len = 0;
            const ssize_t n = o->fs->pread (o->fs->context, o->fd, o->ahead, left < READ_AHEAD ? (size_t) left : READ_AHEAD, WINDOW_FILE_RING_POS + pos);
            if (n < 0)
                return (int) n;
            if (n == 0) {
                o->size = pos;      /* it became shorter */
                continue;
            }
            o->ahead_len = (size_t) n;
        }
        const size_t held = o->ahead_len - (size_t) (pos - o->ahead_pos);
        const size_t n = len < held ? len : held;
        memcpy (bytes, o->ahead + (pos - o->ahead_pos), n);
        bytes += n, len -= n, place += n;
    }
    return 0;
}

static int corrupt (const struct window_file *f, const char *what)
{
    return error_set (FM_ERR_CORRUPT, "%s/%s: %s: facts in it may be in no journal; restore it, or remove it to give them up", f->directory,
                      file_name, what);
}

static int decode_header (const struct window_file *f, const struct identity *identity, struct fm_slice mesh, const uint8_t *bytes, size_t len,
                          struct old_file *o)
{
    if (len < HEADER_SUM_POS + 8 || memcmp (bytes, file_magic, sizeof file_magic) != 0)
        return corrupt (f, "not a window's file");
    const uint32_t version = bytes_get_u32le (bytes + VERSION_POS);
    if (version > WINDOW_FILE_VERSION)
        return error_set (FM_ERR_NEWER, "%s/%s: version %u, this program knows %d; use a newer program", f->directory, file_name, version,
                          WINDOW_FILE_VERSION);
    if (bytes_get_u64le (bytes + HEADER_SUM_POS) != XXH3_64bits (bytes, HEADER_SUM_POS))
        return corrupt (f, "the header's checksum does not fit");
    o->capacity = bytes_get_u64le (bytes + CAPACITY_POS);
    o->salt = bytes_get_u64le (bytes + SALT_POS);
    if (version == 0 || o->capacity == 0 || o->capacity > CAPACITY_MAX || o->capacity % WINDOW_FILE_ALIGN || bytes[MESH_POS] > MESH_NAME_MAX)
        return corrupt (f, "a field is out of its range");
    if (memcmp (bytes + STREAM_POS, identity->stream.bytes, ID_LEN) != 0 || !slice_equal (slice (bytes + MESH_POS + 1, bytes[MESH_POS]), mesh))
        return error_set (FM_ERR_FOREIGN, "%s/%s: the window of another stream or mesh: facts in it may be in no journal; move it back to where it belongs",
                          f->directory, file_name);
    return 0;
}

/* Of the two places the newer one that holds. */
static int decode_places (const struct window_file *f, struct old_file *o)
{
    uint64_t newest = 0;
    for (uint64_t i = 0; i < 2; i++) {
        uint8_t bytes[WINDOW_FILE_PLACE_LEN];
        const int rc = fs_read_full (o->fs, o->fd, bytes, sizeof bytes, place_pos (i));
        if (rc == FM_ERR_END)
            continue;
        if (rc)
            return failed (f, file_name, "read", rc);
        const uint64_t count = bytes_get_u64le (bytes + COUNT_POS), start = bytes_get_u64le (bytes + START_POS);
        if (bytes_get_u64le (bytes + PLACE_SUM_POS) != XXH3_64bits_withSeed (bytes, PLACE_SUM_POS, o->salt + place_pos (i)))
            continue;
        if (count > newest && count % 2 == i && start % WINDOW_FILE_ALIGN == 0 && start < UINT64_MAX / 2) {
            newest = count;
            o->start = start;
        }
    }
    return newest ? 0 : corrupt (f, "neither copy of its place holds");
}

/* What is read goes here, and into the new file. */
struct restore {
    struct window_file *file;
    const struct identity *identity;
    struct fm_slice mesh;
    struct window *window;
    struct batch_scratch scratch;
    struct window_file_found found;
    uint64_t start;                 /* of the last record that holds: no older one is needed */
};

/* Facts of an earlier epoch of this stream, behind those before. */
static bool is_ours (struct restore *r, zmq_msg_t *message, struct batch *ret_batch)
{
    if (batch_decode (zmq_msg_data (message), zmq_msg_size (message), r->mesh, &r->scratch, ret_batch) != 0)
        return false;
    return id_equal (&ret_batch->stream, &r->identity->stream) && ret_batch->announced_len == 0 && ret_batch->epoch < r->identity->epoch
           && batch_end_seq (ret_batch) <= r->identity->epoch_first_seq && batch_check_facts (ret_batch) == 0;
}

/* The record at this place, which ends at limit at the latest: 0 (its batch is in *ret_message), FM_ERR_UNKNOWN: none holds there, -errno. */
static int read_record (struct old_file *o, uint64_t place, uint64_t limit, zmq_msg_t *ret_message, uint64_t *ret_start)
{
    uint8_t head[WINDOW_FILE_RECORD_HEAD];
    int rc = old_read (o, place, head, sizeof head);
    if (rc)
        return rc;
    const uint32_t len = bytes_get_u32le (head + RECORD_LEN_POS);
    if (memcmp (head, record_magic, sizeof record_magic) != 0 || bytes_get_u64le (head + RECORD_PLACE_POS) != place || len == 0 || len > BATCH_MAX
        || record_len (len) > limit - place)
        return FM_ERR_UNKNOWN;
    if (zmq_msg_init_size (ret_message, len))
        return -ENOMEM;
    rc = old_read (o, place + sizeof head, zmq_msg_data (ret_message), len);
    if (rc == 0 && record_sum (o->salt, head, zmq_msg_data (ret_message), len) != bytes_get_u64le (head + RECORD_SUM_POS))
        rc = FM_ERR_UNKNOWN;
    if (rc)
        zmq_msg_close (ret_message);
    else
        *ret_start = bytes_get_u64le (head + RECORD_START_POS);
    return rc;
}

/* Walk the records of the old file: first to learn which are needed, then, with keep, to take them. */
static int walk (struct old_file *o, struct restore *r, bool keep)
{
    const uint64_t limit = o->start + o->capacity;
    uint64_t place = o->start, held_end = o->start;
    r->start = keep ? r->start : o->start;
    while (place + WINDOW_FILE_RECORD_HEAD <= limit) {
        zmq_msg_t message;
        uint64_t start;
        int rc = read_record (o, place, limit, &message, &start);
        if (rc == FM_ERR_UNKNOWN) {
            place += o->size > place % o->capacity ? WINDOW_FILE_ALIGN : o->capacity - place % o->capacity;     /* the file ends there: nothing was ever written */
            continue;
        }
        if (rc)
            return rc;
        const size_t len = zmq_msg_size (&message);
        if (!keep) {
            r->start = start > r->start && start <= place ? start : r->start;
        } else if (place >= r->start) {
            struct batch b;
            uint64_t new_place;
            if (held_end > r->start)
                r->found.damaged_bytes += place - held_end;
            if (!is_ours (r, &message, &b) || b.first_seq < r->found.end_seq) {
                r->found.refused++;
            } else {
                rc = window_file_append (r->file, slice (zmq_msg_data (&message), len), 0, &new_place);
                if (rc == 0)
                    rc = window_restore (r->window, b.first_seq, batch_end_seq (&b), new_place, &message);
                r->found.batches++;
                r->found.facts += b.count;
                r->found.bytes += len;
                r->found.end_seq = batch_end_seq (&b);
            }
        }
        zmq_msg_close (&message);
        if (rc)
            return rc;
        place += record_len (len);
        held_end = place;
    }
    return 0;
}

/* The old file is there: its header, and where it begins. */
static int old_open (struct window_file *f, const struct identity *identity, struct fm_slice mesh, struct old_file *o)
{
    uint8_t bytes[WINDOW_FILE_HEADER_LEN];
    uint64_t size;
    int rc = f->fs->size (f->fs->context, o->fd, &size);
    if (rc)
        return failed (f, file_name, "size", rc);
    o->size = size > WINDOW_FILE_RING_POS ? size - WINDOW_FILE_RING_POS : 0;
    const size_t len = size < sizeof bytes ? (size_t) size : sizeof bytes;
    rc = fs_read_full (f->fs, o->fd, bytes, len, 0);
    if (rc)
        return failed (f, file_name, "read", rc);
    rc = decode_header (f, identity, mesh, bytes, len, o);
    return rc ? rc : decode_places (f, o);
}

/* ------------------------------------------------------------------ opening and closing */

static int new_create (struct window_file *f, const struct identity *identity, struct fm_slice mesh)
{
    uint8_t bytes[WINDOW_FILE_HEADER_LEN];
    (void) f->fs->unlink (f->fs->context, f->dir, file_name_new);       /* left by a crash, or not there */
    f->fd = f->fs->open (f->fs->context, f->dir, file_name_new, O_RDWR | O_CREAT | O_EXCL, 0644);
    if (f->fd < 0)
        return failed (f, file_name_new, "create", f->fd);
    f->salt = id_random_u64 ();
    encode_header (f, &identity->stream, mesh, bytes);
    const int rc = fs_write_full (f->fs, f->fd, bytes, sizeof bytes, 0);
    return rc ? failed (f, file_name_new, "write", rc) : write_place (f, 0);
}

/* The new file has all: it takes the old one's place. */
static int new_settle (struct window_file *f)
{
    int rc = f->fs->sync_data (f->fs->context, f->fd);
    if (rc)
        return failed (f, file_name_new, "sync", rc);
    rc = f->fs->rename (f->fs->context, f->dir, file_name_new, f->dir, file_name);
    if (rc)
        return failed (f, file_name_new, "rename", rc);
    rc = f->fs->sync_dir (f->fs->context, f->dir);
    return rc ? failed (f, ".", "sync", rc) : 0;
}

/* Make the new file, with what the old one (NULL: there is none) held. */
static int take_over (struct window_file *f, struct old_file *o, uint64_t capacity, struct restore *r)
{
    int rc = 0;
    if (o)
        rc = walk (o, r, false);
    if (o && capacity < o->capacity)
        capacity = o->capacity;     /* all of it may be needed */
    f->capacity = (capacity + WINDOW_FILE_RING_POS - 1) / WINDOW_FILE_RING_POS * WINDOW_FILE_RING_POS;
    if (rc == 0)
        rc = new_create (f, r->identity, r->mesh);
    const bool sync = f->sync;
    f->sync = false;                /* all at once, behind the last */
    if (rc == 0 && o)
        rc = walk (o, r, true);
    f->sync = sync;
    return rc ? rc : new_settle (f);
}

int window_file_open (const struct fs *fs, const struct identity *identity, struct fm_slice mesh, uint64_t capacity, bool sync,
                      struct window *window, struct window_file **ret_file, struct window_file_found *ret_found)
{
    assert (window->count == 0 && capacity > 0);
    if (capacity > CAPACITY_MAX / 2)
        return error_set (FM_ERR_ARGUMENT, "a window of %llu bytes on disk: more than %llu", (unsigned long long) capacity,
                          (unsigned long long) CAPACITY_MAX / 2);
    struct window_file *f = calloc (1, sizeof *f);
    struct old_file *o = calloc (1, sizeof *o);
    struct restore r = { .file = f, .identity = identity, .mesh = mesh, .window = window };
    int rc = f && o ? 0 : -ENOMEM;
    int old_fd = -1;
    if (rc)
        goto out;
    *f = (struct window_file) { .fs = fs, .directory = identity_path (identity), .dir = identity_dir (identity), .fd = -1, .sync = sync };
    old_fd = fs->open (fs->context, f->dir, file_name, O_RDONLY, 0);
    if (old_fd < 0 && old_fd != -ENOENT)
        rc = failed (f, file_name, "open", old_fd);
    o->fs = fs;
    o->fd = old_fd;
    if (rc == 0 && old_fd >= 0)
        rc = old_open (f, identity, mesh, o);
    if (rc == 0)
        rc = take_over (f, old_fd >= 0 ? o : NULL, capacity, &r);
    if (old_fd >= 0)
        (void) fs->close (fs->context, old_fd);         /* only read */
    batch_scratch_release (&r.scratch);
out:
    free (o);
    if (rc) {
        if (f && f->fd >= 0)
            (void) fs->close (fs->context, f->fd);      /* the old file still has all */
        free (f);
        return rc;
    }
    *ret_file = f;
    *ret_found = r.found;
    return 0;
}

static struct fm_slice batch_of (struct window_item *item)
{
    return slice ((const uint8_t *) zmq_msg_data (&item->message) + item->body_pos, zmq_msg_size (&item->message) - item->body_pos);
}

static int append_all (struct window_file *f, struct window *w)
{
    uint64_t place;
    int rc = 0;
    for (struct window_item *item = window_first (w); item && rc == 0; item = window_find_from (w, item->end_seq))
        rc = window_file_append (f, batch_of (item), 0, &place);
    return rc;
}

int window_file_compact (struct window_file *f, const struct identity *identity, struct fm_slice mesh, struct window *const windows[], size_t count)
{
    struct window_file *n = calloc (1, sizeof *n);
    if (!n)
        return -ENOMEM;
    *n = (struct window_file) { .fs = f->fs, .directory = f->directory, .dir = f->dir, .fd = -1, .capacity = f->capacity };
    int rc = new_create (n, identity, mesh);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = append_all (n, windows[i]);
    if (rc == 0) {
        rc = new_settle (n);
        f->broken = rc != 0;            /* which of the two the directory has is not known */
    }
    if (rc) {
        if (n->fd >= 0)
            (void) f->fs->close (f->fs->context, n->fd);
        free (n);
        return rc;
    }
    uint64_t place = 0;
    for (size_t i = 0; i < count; i++) {
        for (struct window_item *item = window_first (windows[i]); item; item = window_find_from (windows[i], item->end_seq)) {
            item->place = place;
            place += record_len (batch_of (item).len);
        }
    }
    (void) f->fs->close (f->fs->context, f->fd);        /* all of it is in the new one */
    n->sync = f->sync;
    *f = *n;
    free (n);
    return 0;
}

bool window_file_exists (const struct fs *fs, const struct identity *identity)
{
    const int fd = fs->open (fs->context, identity_dir (identity), file_name, O_RDONLY, 0);
    if (fd >= 0)
        (void) fs->close (fs->context, fd);             /* only looked at */
    return fd != -ENOENT;
}

void window_file_close (struct window_file **file, bool empty)
{
    struct window_file *f = *file;
    if (!f)
        return;
    *file = NULL;
    (void) f->fs->close (f->fs->context, f->fd);        /* what was promised was written, or synced, before */
    /* Left behind it costs the next epoch a look at facts that journals have. */
    if (empty && f->fs->unlink (f->fs->context, f->dir, file_name) == 0)
        (void) f->fs->sync_dir (f->fs->context, f->dir);
    free (f);
}
