/* segment_index: what a segment holds: its streams, its topics, and a position every 256 KiB. Built record by record
 * while the segment is written (or scanned), written behind the records when it is sealed, read back section by
 * section.
 *
 * Owns:    its tables, allocated once at their full size (pages that are never touched cost nothing).
 * Thread:  none of its own: the log's index lock, or a single user.
 * Promise: the same records give the same bytes, so an index that is lost or damaged comes back by a scan.
 * Bytes:   FORMAT.md, "Footer". */

#ifndef FM_JOURNAL_SEGMENT_INDEX_H
#define FM_JOURNAL_SEGMENT_INDEX_H

#include "batch.h"
#include "identity_table.h"
#include "record.h"
#include "segment.h"

enum {
    INDEX_STREAMS_MAX = 65536,              /* a segment rolls before it holds more */
    INDEX_IDENTITIES_MAX = 262144,          /* the same */
    INDEX_TOPICS_MAX = 4096,                /* beyond: SEGMENT_FLAG_TOPICS_INCOMPLETE */
    INDEX_TOPIC_BYTES_MAX = 256 << 10,
    INDEX_POSITION_STEP = 256 << 10,
    INDEX_POSITIONS_MAX = 17000,            /* 4 GiB and a record of the largest size, at a position a step */

    INDEX_STREAM_LEN = 80,                  /* encoded */
    INDEX_POSITION_LEN = 24
};

struct index_stream {
    struct fm_id stream;
    uint64_t epoch, incarnation;            /* of its last record */
    uint64_t first_seq, last_seq;
    uint64_t first_pos;                     /* of its first record */
    uint64_t last_offset;                   /* of its last record */
    uint64_t bytes;                         /* of its records */
    uint32_t records, gaps;
    bool closed;                            /* its last record says that the epoch is not taken again */
};

/* The record at pos is the first one at or behind a multiple of the step. */
struct index_position {
    uint64_t pos, offset, time_ns;
};

struct index_topic {
    struct fm_slice name;
    uint64_t facts;
};

struct segment_index;                       /* opaque */

int segment_index_new (struct segment_index **ret_index);
void segment_index_destroy (struct segment_index **index);
void segment_index_reset (struct segment_index *x);

/* Is there room for one more stream? When not, the segment is full. */
bool segment_index_has_room (const struct segment_index *x);
/* And for the identities of any batch? When not, the segment is rolled: what does not fit would be forgotten by a start. */
bool segment_index_takes_identities (const struct segment_index *x);

/* Add a record; body NULL: a batch whose body is damaged. What can't be decoded makes the topics incomplete.
 * Returns the stream's number in the index (for segment_index_stream), UINT32_MAX for records without a stream. */
uint32_t segment_index_add (struct segment_index *x, const struct record *r, const uint8_t *body, uint64_t pos);
/* Records were lost here: the topics are incomplete, and the segment is never skipped. */
void segment_index_damaged (struct segment_index *x);
bool segment_index_is_damaged (const struct segment_index *x);

/* Identities that facts here were the first to bear, in the order of their records; until the next call that adds. */
const struct identity_entry *segment_index_identities (const struct segment_index *x, uint32_t *ret_count);
/* For the footer of a segment that an older version sealed: it has none. */
void segment_index_drop_identities (struct segment_index *x);

const struct index_stream *segment_index_stream (const struct segment_index *x, uint32_t number);
const struct index_stream *segment_index_find (const struct segment_index *x, const struct fm_id *stream);
uint32_t segment_index_stream_count (const struct segment_index *x);
/* Copy the positions out, at most max; returns their number. */
size_t segment_index_positions (const struct segment_index *x, struct index_position *ret, size_t max);
/* In no order. */
void segment_index_each_topic (const struct segment_index *x, void (*each) (void *arg, const struct index_topic *t),
                               void *arg);

/* Counts so far; section fields are zero. */
void segment_index_summary (const struct segment_index *x, uint64_t records_end, struct segment_trailer *ret_summary);

/* The whole footer: sections, the header's copy, the trailer. *ret_bytes is to be freed. Returns 0 or -ENOMEM. */
int segment_index_encode (const struct segment_index *x, const struct segment_header *h, uint64_t records_end,
                          void **ret_bytes, size_t *ret_len);

/* --- A sealed segment's footer, section by section; each is checked against its sum. `ret_bytes` is to be freed.
 * FM_ERR_CORRUPT: rebuild by a scan. */

int index_read_streams (const struct fs *fs, int fd, const struct segment_trailer *t,
                        struct index_stream **ret_streams);
int index_read_positions (const struct fs *fs, int fd, const struct segment_trailer *t,
                          struct index_position **ret_positions);
/* The topics' names point into *ret_bytes. */
int index_read_topics (const struct fs *fs, int fd, const struct segment_trailer *t, void **ret_bytes,
                       struct index_topic **ret_topics);

int index_read_identities (const struct fs *fs, int fd, const struct segment_trailer *t, struct identity_entry **ret_entries);

/* In arrays as read: streams are in id order, positions in position order. NULL: none. */
const struct index_stream *index_streams_find (const struct index_stream *streams, size_t count,
                                               const struct fm_id *stream);

#endif
