#include "segment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "checksum.h"
#include "fm_types.h"
#include "record.h"

static const char header_magic[8] = "FMSEGMT\n";
static const char trailer_magic[8] = "FMSEGEND";
static const char temporary_name[] = "next.tmp";
static const uint8_t zeros[64 << 10];

/* Header fields. */
enum {
    AT_MAGIC = 0,
    AT_MAJOR = 8,
    AT_MINOR = 12,
    AT_JOURNAL = 16,
    AT_GENERATION = 32,
    AT_NUMBER = 40,
    AT_BASE_OFFSET = 48,
    AT_CREATED = 56,
    AT_SALT = 64,
    AT_PRIOR_BYTES = 80,
    AT_SNAPSHOT_END = 88,
    AT_FIRST_NUMBER = 96,
    AT_MESH_LEN = 104,
    AT_MESH = 105,
    AT_IDENTITIES_NUMBER = 168,
    AT_HEADER_SUM = SEGMENT_HEADER_LEN - 8
};
static_assert (AT_MESH + MESH_NAME_MAX <= AT_IDENTITIES_NUMBER && AT_IDENTITIES_NUMBER + 8 <= AT_HEADER_SUM, "the mesh name fits");
static_assert (SEGMENT_HEADER_COPY_POS + SEGMENT_HEADER_LEN <= SEGMENT_RECORDS_POS, "the copy fits");

/* Trailer fields; the sections follow one another. */
enum {
    AT_RECORDS_END = 8,
    AT_END_OFFSET = 16,
    AT_FIRST_TIME = 24,
    AT_LAST_TIME = 32,
    AT_RECORDS = 40,
    AT_FACTS = 48,
    AT_FLAGS = 56,
    AT_STREAM_COUNT = 60,
    AT_TOPIC_COUNT = 64,
    AT_POSITION_COUNT = 68,
    AT_SECTIONS = 72,
    AT_TRAILER_NUMBER = 144,
    AT_TRAILER_SALT = 152,
    AT_IDENTITY_COUNT = 168,
    AT_IDENTITY_SUM = 176,
    AT_TRAILER_SUM = SEGMENT_TRAILER_LEN - 8,
    SECTION_LEN = 24,
    SECTIONS = 3
};
static_assert (AT_SECTIONS + SECTIONS * SECTION_LEN <= AT_TRAILER_NUMBER, "the sections fit");

void segment_header_encode (const struct segment_header *h, uint8_t ret_bytes[SEGMENT_HEADER_LEN])
{
    uint8_t *p = ret_bytes;
    const size_t mesh_len = strlen (h->mesh);
    memset (p, 0, SEGMENT_HEADER_LEN);
    memcpy (p + AT_MAGIC, header_magic, sizeof header_magic);
    bytes_put_u32le (p + AT_MAJOR, SEGMENT_MAJOR);
    bytes_put_u32le (p + AT_MINOR, SEGMENT_MINOR);
    memcpy (p + AT_JOURNAL, h->journal.bytes, ID_LEN);
    bytes_put_u64le (p + AT_GENERATION, h->generation);
    bytes_put_u64le (p + AT_NUMBER, h->number);
    bytes_put_u64le (p + AT_BASE_OFFSET, h->base_offset);
    bytes_put_u64le (p + AT_CREATED, h->created_ns);
    memcpy (p + AT_SALT, h->salt, sizeof h->salt);
    bytes_put_u64le (p + AT_PRIOR_BYTES, h->prior_bytes);
    bytes_put_u64le (p + AT_SNAPSHOT_END, h->snapshot_end);
    bytes_put_u64le (p + AT_FIRST_NUMBER, h->first_number);
    p[AT_MESH_LEN] = (uint8_t) mesh_len;
    memcpy (p + AT_MESH, h->mesh, mesh_len);
    bytes_put_u64le (p + AT_IDENTITIES_NUMBER, h->identities_number);
    bytes_put_u64le (p + AT_HEADER_SUM, checksum (p, AT_HEADER_SUM));
}

int segment_header_decode (const uint8_t bytes[SEGMENT_HEADER_LEN], struct segment_header *ret_header)
{
    const uint8_t *p = bytes;
    if (memcmp (p + AT_MAGIC, header_magic, sizeof header_magic) != 0
        || bytes_get_u64le (p + AT_HEADER_SUM) != checksum (p, AT_HEADER_SUM))
        return FM_ERR_CORRUPT;
    if (bytes_get_u32le (p + AT_MAJOR) != SEGMENT_MAJOR)
        return FM_ERR_NEWER;
    struct segment_header h = {
        .generation = bytes_get_u64le (p + AT_GENERATION),
        .number = bytes_get_u64le (p + AT_NUMBER),
        .base_offset = bytes_get_u64le (p + AT_BASE_OFFSET),
        .created_ns = bytes_get_u64le (p + AT_CREATED),
        .prior_bytes = bytes_get_u64le (p + AT_PRIOR_BYTES),
        .snapshot_end = bytes_get_u64le (p + AT_SNAPSHOT_END),
        .first_number = bytes_get_u64le (p + AT_FIRST_NUMBER),
        .identities_number = bytes_get_u64le (p + AT_IDENTITIES_NUMBER),
    };
    memcpy (h.journal.bytes, p + AT_JOURNAL, ID_LEN);
    memcpy (h.salt, p + AT_SALT, sizeof h.salt);
    const size_t mesh_len = p[AT_MESH_LEN];
    if (mesh_len > MESH_NAME_MAX || h.number == 0 || h.base_offset == 0 || h.snapshot_end < SEGMENT_RECORDS_POS)
        return FM_ERR_CORRUPT;
    memcpy (h.mesh, p + AT_MESH, mesh_len);
    *ret_header = h;
    return 0;
}

static void section_encode (uint8_t *p, const struct segment_section *s)
{
    bytes_put_u64le (p, s->pos);
    bytes_put_u64le (p + 8, s->len);
    bytes_put_u64le (p + 16, s->sum);
}

/* A section lies between the records and the header's copy. */
static bool section_decode (const uint8_t *p, uint64_t from, uint64_t to, struct segment_section *ret)
{
    ret->pos = bytes_get_u64le (p);
    ret->len = bytes_get_u64le (p + 8);
    ret->sum = bytes_get_u64le (p + 16);
    return ret->pos >= from && ret->pos <= to && ret->len <= to - ret->pos;
}

void segment_trailer_encode (const struct segment_trailer *t, const struct segment_header *h,
                             uint8_t ret_bytes[SEGMENT_TRAILER_LEN])
{
    uint8_t *p = ret_bytes;
    memset (p, 0, SEGMENT_TRAILER_LEN);
    memcpy (p, trailer_magic, sizeof trailer_magic);
    bytes_put_u64le (p + AT_RECORDS_END, t->records_end);
    bytes_put_u64le (p + AT_END_OFFSET, t->end_offset);
    bytes_put_u64le (p + AT_FIRST_TIME, t->first_time_ns);
    bytes_put_u64le (p + AT_LAST_TIME, t->last_time_ns);
    bytes_put_u64le (p + AT_RECORDS, t->records);
    bytes_put_u64le (p + AT_FACTS, t->facts);
    bytes_put_u32le (p + AT_FLAGS, t->flags);
    bytes_put_u32le (p + AT_STREAM_COUNT, t->stream_count);
    bytes_put_u32le (p + AT_TOPIC_COUNT, t->topic_count);
    bytes_put_u32le (p + AT_POSITION_COUNT, t->position_count);
    section_encode (p + AT_SECTIONS, &t->streams);
    section_encode (p + AT_SECTIONS + SECTION_LEN, &t->topics);
    section_encode (p + AT_SECTIONS + 2 * SECTION_LEN, &t->positions);
    bytes_put_u64le (p + AT_TRAILER_NUMBER, h->number);
    memcpy (p + AT_TRAILER_SALT, h->salt, sizeof h->salt);
    bytes_put_u32le (p + AT_IDENTITY_COUNT, t->identity_count);
    bytes_put_u64le (p + AT_IDENTITY_SUM, t->identities.sum);
    bytes_put_u64le (p + AT_TRAILER_SUM, checksum (p, AT_TRAILER_SUM));
}

int segment_trailer_decode (const uint8_t bytes[SEGMENT_TRAILER_LEN], const struct segment_header *h, uint64_t file_len,
                            struct segment_trailer *ret_trailer)
{
    const uint8_t *p = bytes;
    if (memcmp (p, trailer_magic, sizeof trailer_magic) != 0
        || bytes_get_u64le (p + AT_TRAILER_SUM) != checksum (p, AT_TRAILER_SUM)
        || bytes_get_u64le (p + AT_TRAILER_NUMBER) != h->number
        || memcmp (p + AT_TRAILER_SALT, h->salt, sizeof h->salt) != 0
        || file_len < SEGMENT_RECORDS_POS + SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN)
        return FM_ERR_CORRUPT;
    struct segment_trailer t = {
        .records_end = bytes_get_u64le (p + AT_RECORDS_END),
        .end_offset = bytes_get_u64le (p + AT_END_OFFSET),
        .first_time_ns = bytes_get_u64le (p + AT_FIRST_TIME),
        .last_time_ns = bytes_get_u64le (p + AT_LAST_TIME),
        .records = bytes_get_u64le (p + AT_RECORDS),
        .facts = bytes_get_u64le (p + AT_FACTS),
        .flags = bytes_get_u32le (p + AT_FLAGS),
        .stream_count = bytes_get_u32le (p + AT_STREAM_COUNT),
        .topic_count = bytes_get_u32le (p + AT_TOPIC_COUNT),
        .position_count = bytes_get_u32le (p + AT_POSITION_COUNT),
        .identity_count = bytes_get_u32le (p + AT_IDENTITY_COUNT),
    };
    const uint64_t to = file_len - SEGMENT_HEADER_LEN - SEGMENT_TRAILER_LEN;
    if (t.records_end < SEGMENT_RECORDS_POS || t.records_end > to || t.end_offset < h->base_offset
        || !section_decode (p + AT_SECTIONS, t.records_end, to, &t.streams)
        || !section_decode (p + AT_SECTIONS + SECTION_LEN, t.records_end, to, &t.topics)
        || !section_decode (p + AT_SECTIONS + 2 * SECTION_LEN, t.records_end, to, &t.positions))
        return FM_ERR_CORRUPT;
    if (t.identity_count) {
        t.identities = (struct segment_section) { .pos = t.topics.pos + t.topics.len, .len = (uint64_t) t.identity_count * SEGMENT_IDENTITY_LEN,
                                                  .sum = bytes_get_u64le (p + AT_IDENTITY_SUM) };
        if (t.identities.len > to - t.identities.pos)
            return FM_ERR_CORRUPT;
    }
    *ret_trailer = t;
    return 0;
}

void segment_name (uint64_t number, char ret_name[SEGMENT_NAME_LEN])
{
    (void) snprintf (ret_name, SEGMENT_NAME_LEN, "%010llu.seg", (unsigned long long) number);   /* 20 digits fit */
}

bool segment_name_parse (const char *name, uint64_t *ret_number)
{
    uint64_t number = 0;
    const char *p = name;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (number > (UINT64_MAX - 9) / 10)
            return false;
        number = number * 10 + (uint64_t) (*p - '0');
    }
    char canonical[SEGMENT_NAME_LEN];
    segment_name (number, canonical);
    if (number == 0 || strcmp (canonical, name) != 0)
        return false;
    *ret_number = number;
    return true;
}

int segment_read_header (const struct fs *fs, int fd, struct segment_header *ret_header)
{
    uint64_t len;
    int rc = fs->size (fs->context, fd, &len);
    if (rc)
        return rc;
    const uint64_t places[] = {
        0,
        SEGMENT_HEADER_COPY_POS,
        len >= SEGMENT_RECORDS_POS + SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN
            ? len - SEGMENT_TRAILER_LEN - SEGMENT_HEADER_LEN
            : 0,
    };
    int worst = FM_ERR_CORRUPT;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        uint8_t bytes[SEGMENT_HEADER_LEN];
        rc = fs_read_full (fs, fd, bytes, sizeof bytes, places[i]);
        if (rc == 0)
            rc = segment_header_decode (bytes, ret_header);
        if (rc == 0)
            return 0;
        if (rc == FM_ERR_NEWER)
            worst = rc;
        else if (rc != FM_ERR_CORRUPT && rc != FM_ERR_END && rc != -EIO)    /* an unreadable block is damage too */
            return rc;
    }
    return worst;
}

static int write_header (const struct fs *fs, int fd, const struct segment_header *header)
{
    uint8_t block[SEGMENT_RECORDS_POS] = { 0 };
    segment_header_encode (header, block);
    segment_header_encode (header, block + SEGMENT_HEADER_COPY_POS);
    return fs_write_full (fs, fd, block, sizeof block, 0);
}

int segment_keep_header (const struct fs *fs, int fd, const struct segment_header *header)
{
    uint8_t block[SEGMENT_RECORDS_POS];
    struct segment_header front;
    int rc = fs_read_full (fs, fd, block, sizeof block, 0);
    if (rc == 0 && (segment_header_decode (block, &front) == 0 || segment_header_decode (block + SEGMENT_HEADER_COPY_POS, &front) == 0))
        return 0;
    if (rc && rc != FM_ERR_END && rc != -EIO)   /* an unreadable block is damage too */
        return rc;
    rc = write_header (fs, fd, header);
    return rc ? rc : fs->sync_data (fs->context, fd);
}

int segment_read_trailer (const struct fs *fs, int fd, const struct segment_header *h,
                          struct segment_trailer *ret_trailer)
{
    uint64_t len;
    int rc = fs->size (fs->context, fd, &len);
    if (rc)
        return rc;
    if (len < SEGMENT_RECORDS_POS + SEGMENT_TRAILER_LEN)
        return FM_ERR_CORRUPT;
    uint8_t bytes[SEGMENT_TRAILER_LEN];
    rc = fs_read_full (fs, fd, bytes, sizeof bytes, len - SEGMENT_TRAILER_LEN);
    if (rc == FM_ERR_END || rc == -EIO)
        return FM_ERR_CORRUPT;
    return rc ? rc : segment_trailer_decode (bytes, h, len, ret_trailer);
}

int segment_open_read (const struct fs *fs, int dir, uint64_t number, int *ret_fd, struct segment_header *ret_header)
{
    char name[SEGMENT_NAME_LEN];
    segment_name (number, name);
    const int fd = fs->open (fs->context, dir, name, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    struct segment_header header;
    int rc = segment_read_header (fs, fd, &header);
    if (rc == 0 && header.number != number)
        rc = FM_ERR_CORRUPT;
    if (rc) {
        (void) fs->close (fs->context, fd);     /* read-only: nothing to lose */
        return rc;
    }
    *ret_fd = fd;
    *ret_header = header;
    return 0;
}

int segment_create (struct segment *s, const struct fs *fs, int dir, const struct segment_header *header)
{
    const int fd = fs->open (fs->context, dir, temporary_name, O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (fd < 0)
        return fd;
    *s = (struct segment) {
        .fs = fs,
        .fd = fd,
        .header = *header,
        .seed = record_seed (header->salt),
        .pos = SEGMENT_RECORDS_POS,
    };
    return 0;
}

int segment_publish (struct segment *s, int dir)
{
    s->header.snapshot_end = s->pos;
    return segment_replace (s, dir);
}

int segment_replace (struct segment *s, int dir)
{
    int rc = write_header (s->fs, s->fd, &s->header);
    if (rc == 0)
        rc = segment_sync (s);
    if (rc)
        return rc;
    char name[SEGMENT_NAME_LEN];
    segment_name (s->header.number, name);
    rc = s->fs->rename (s->fs->context, dir, temporary_name, dir, name);
    return rc ? rc : s->fs->sync_dir (s->fs->context, dir);
}

/* Zeros from the file's end to the step behind `end`. A failure costs speed only. */
static void fill_ahead (struct segment *s, uint64_t end)
{
    uint64_t from = s->filled_pos > end ? s->filled_pos : end;
    const uint64_t to = (end + SEGMENT_FILL_STEP) / SEGMENT_FILL_STEP * SEGMENT_FILL_STEP;
    while (from < to) {
        const size_t len = to - from < sizeof zeros ? (size_t) (to - from) : sizeof zeros;
        if (fs_write_full (s->fs, s->fd, zeros, len, from))
            return;
        from += len;
        s->filled_pos = from;
    }
}

int segment_write (struct segment *s, const void *bytes, size_t len)
{
    assert (!s->sealed && len % RECORD_ALIGN == 0);
    const int rc = fs_write_full (s->fs, s->fd, bytes, len, s->pos);
    if (rc)
        return rc;
    s->pos += len;
    if (s->pos > s->filled_pos) {
        s->filled_pos = s->pos;
        if (s->synced_pos > 0 && s->pos - s->synced_pos < SEGMENT_FILL_BELOW)
            fill_ahead (s, s->pos);
    }
    return 0;
}

int segment_sync (struct segment *s)
{
    const int rc = s->fs->sync_data (s->fs->context, s->fd);
    if (rc == 0)
        s->synced_pos = s->pos;
    return rc;
}

int segment_seal (struct segment *s, const void *footer, size_t len, bool *ret_final)
{
    int rc = fs_write_full (s->fs, s->fd, footer, len, s->pos);
    if (rc == 0)
        rc = s->fs->truncate (s->fs->context, s->fd, s->pos + len);
    if (rc)
        return rc;
    rc = segment_sync (s);
    if (rc)
        *ret_final = true;
    else
        s->sealed = true;
    return rc;
}

void segment_close (struct segment *s)
{
    if (s->fd >= 0 && s->fs)
        (void) s->fs->close (s->fs->context, s->fd);    /* what was not synced was never promised */
    s->fd = -1;
}
