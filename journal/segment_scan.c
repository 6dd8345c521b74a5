#include "segment_scan.h"

#include <errno.h>
#include <stdlib.h>

#include "fm_types.h"

enum { BLOCK = 4096 };                      /* what a disk loses at once */

void scan_release (struct segment_scan *s)
{
    free (s->buffer);
    *s = (struct segment_scan) { .fd = -1 };
}

int scan_start (struct segment_scan *s, const struct fs *fs, int fd, uint64_t seed, uint64_t pos, uint64_t end)
{
    if (!s->buffer) {
        s->buffer = malloc (SCAN_BUFFER_BYTES);
        if (!s->buffer)
            return -ENOMEM;
        s->capacity = SCAN_BUFFER_BYTES;
    }
    s->fs = fs;
    s->fd = fd;
    s->seed = seed;
    s->pos = s->next_pos = pos;
    s->end = end;
    s->held = 0;
    s->buffer_pos = pos;
    return 0;
}

ssize_t scan_read (const struct fs *fs, int fd, uint8_t *buffer, size_t len, uint64_t pos)
{
    const ssize_t n = fs->pread (fs->context, fd, buffer, len, pos);
    if (n != -EIO)
        return n;
    size_t done = 0;
    while (done < len) {
        const size_t to_boundary = BLOCK - (size_t) ((pos + done) % BLOCK);
        const size_t piece = len - done < to_boundary ? len - done : to_boundary;
        const ssize_t got = fs->pread (fs->context, fd, buffer + done, piece, pos + done);
        if (got == -EIO)
            memset (buffer + done, 0, piece);
        else if (got <= 0)
            return done > 0 ? (ssize_t) done : got;
        done += got == -EIO ? piece : (size_t) got;
    }
    return (ssize_t) done;
}

static int grow (struct segment_scan *s, size_t need)
{
    if (need <= s->capacity)
        return 0;
    uint8_t *bigger = malloc (need);
    if (!bigger)
        return -ENOMEM;
    memcpy (bigger, s->buffer, s->held);
    free (s->buffer);
    s->buffer = bigger;
    s->capacity = need;
    return 0;
}

/* Have [pos, pos + len) in the buffer; as much more as fits is read along. FM_ERR_END: the file or `end` comes
 * before. */
static int have (struct segment_scan *s, uint64_t pos, size_t len, const uint8_t **ret_bytes)
{
    if (pos > s->end || len > s->end - pos)
        return FM_ERR_END;
    if (pos < s->buffer_pos || pos - s->buffer_pos > s->held || s->held - (pos - s->buffer_pos) < len) {
        const int rc = grow (s, len);
        if (rc)
            return rc;
        if (pos >= s->buffer_pos && pos - s->buffer_pos < s->held) {
            s->held -= (size_t) (pos - s->buffer_pos);
            memmove (s->buffer, s->buffer + (pos - s->buffer_pos), s->held);
        } else
            s->held = 0;
        s->buffer_pos = pos;
        while (s->held < len) {
            const uint64_t from = pos + s->held;
            /* Once a huge record made it large, the buffer still reads in small steps: they stay in the processor's
             * cache. */
            const size_t room = (len > SCAN_BUFFER_BYTES ? len : SCAN_BUFFER_BYTES) - s->held;
            const size_t want = s->end - from < room ? (size_t) (s->end - from) : room;
            const ssize_t n = scan_read (s->fs, s->fd, s->buffer + s->held, want, from);
            if (n < 0)
                return (int) n;
            if (n == 0)
                return FM_ERR_END;
            s->held += (size_t) n;
        }
    }
    *ret_bytes = s->buffer + (pos - s->buffer_pos);
    return 0;
}

/* Is there a good header at pos, whose record ends in time? FM_ERR_CORRUPT: no. */
static int header_at (struct segment_scan *s, uint64_t pos, struct record *ret_record)
{
    const uint8_t *bytes;
    int rc = have (s, pos, RECORD_HEADER_LEN, &bytes);
    if (rc)
        return rc == FM_ERR_END ? FM_ERR_CORRUPT : rc;
    rc = record_decode (bytes, s->seed, pos, ret_record);
    if (rc == 0 && record_len (ret_record->body_len) > s->end - pos)
        return FM_ERR_CORRUPT;
    return rc;
}

int scan_next (struct segment_scan *s)
{
    s->pos = s->next_pos;
    if (s->pos >= s->end)
        return FM_ERR_END;
    struct record r;
    int rc = header_at (s, s->pos, &r);
    if (rc == 0) {
        s->record = r;
        s->next_pos = s->pos + record_len (r.body_len);
        return 0;
    }
    for (uint64_t pos = s->pos; rc == FM_ERR_CORRUPT;) {
        pos += RECORD_ALIGN;
        if (s->end < RECORD_HEADER_LEN || pos > s->end - RECORD_HEADER_LEN)
            pos = s->end;
        s->next_pos = pos;
        if (pos == s->end)
            return FM_ERR_CORRUPT;
        rc = header_at (s, pos, &r);
    }
    return rc == 0 ? FM_ERR_CORRUPT : rc;
}

int scan_body (struct segment_scan *s, const uint8_t **ret_body)
{
    const uint8_t *bytes;
    const int rc = have (s, s->pos, (size_t) record_len (s->record.body_len), &bytes);
    if (rc)
        return rc == FM_ERR_END ? FM_ERR_CORRUPT : rc;
    if (!record_body_ok (&s->record, bytes + RECORD_HEADER_LEN))
        return FM_ERR_CORRUPT;
    *ret_body = bytes + RECORD_HEADER_LEN;
    return 0;
}

int scan_zeros (struct segment_scan *s, uint64_t from, uint64_t *ret_end_of_data)
{
    uint64_t last = from;
    s->held = 0;
    for (uint64_t pos = from; pos < s->end;) {
        const size_t want = s->end - pos < s->capacity ? (size_t) (s->end - pos) : s->capacity;
        const ssize_t n = scan_read (s->fs, s->fd, s->buffer, want, pos);
        if (n < 0)
            return (int) n;
        if (n == 0)
            break;
        for (size_t i = (size_t) n; i > 0; i--)
            if (s->buffer[i - 1] != 0) {
                last = pos + i;
                break;
            }
        pos += (uint64_t) n;
    }
    *ret_end_of_data = last;
    return 0;
}
