/* segment_scan: walk the records of one segment in order, checking each; step over what is damaged.
 *
 * Owns:    a buffer of its own (256 KiB; it grows to the largest record met), kept from segment to segment. Not the
 *          descriptor.
 * Thread:  its user's.
 * Promise: what scan_next and scan_body return has matched its sums. Blocks that the disk can't read count as
 *          damaged bytes. */

#ifndef FM_JOURNAL_SEGMENT_SCAN_H
#define FM_JOURNAL_SEGMENT_SCAN_H

#include "fs.h"
#include "record.h"

enum { SCAN_BUFFER_BYTES = 256 << 10 };

struct segment_scan {
    const struct fs *fs;
    int fd;
    uint64_t seed;
    uint64_t pos;                           /* of the record that scan_next returned, or where it looks next */
    uint64_t next_pos;                      /* behind that record */
    uint64_t end;                           /* look no further; may be raised between calls */
    struct record record;

    uint8_t *buffer;
    size_t capacity, held;
    uint64_t buffer_pos;                    /* in the file, of buffer[0] */
};

/* Zero-initialise; scan_release frees the buffer. */
void scan_release (struct segment_scan *s);

/* Start (again) at pos, in this file. What the buffer holds is forgotten. Returns 0 or -ENOMEM. */
int scan_start (struct segment_scan *s, const struct fs *fs, int fd, uint64_t seed, uint64_t pos, uint64_t end);

/* The next record's header, into s->record; its body is not looked at yet.
 * Returns 0; FM_ERR_END at `end`; FM_ERR_CORRUPT: no record at s->pos: the next good header (or `end`) is at
 * s->next_pos, and the next call goes on there; -errno. */
int scan_next (struct segment_scan *s);

/* The body of the record that scan_next returned; valid until the next call. Returns 0, FM_ERR_CORRUPT, -errno,
 * -ENOMEM. */
int scan_body (struct segment_scan *s, const uint8_t **ret_body);

/* pread, but blocks that the disk can't read (EIO) become zeros: no record is made of them, and a start does not
 * fail on them. */
ssize_t scan_read (const struct fs *fs, int fd, uint8_t *buffer, size_t len, uint64_t pos);

/* Are all bytes of [from, s->end) zero, and where is the last one that is not? Returns 0 or -errno. Forgets the
 * buffer. */
int scan_zeros (struct segment_scan *s, uint64_t from, uint64_t *ret_end_of_data);

#endif
