/* record: one record of a segment: encode, stamp, decode, check. Pure.
 *
 * A record is a header of 88 bytes and a body, padded with zeros to 8. The header has two sums: its own, which binds it
 * to the segment (a random salt) and to its position there, and the body's. A damaged body thus still leaves the exact
 * range that is lost and the place of the next record; a payload, a stale block or a misplaced one never passes for a
 * record.
 * Bytes: FORMAT.md, "Record". */

#ifndef FM_JOURNAL_RECORD_H
#define FM_JOURNAL_RECORD_H

#include "bytes.h"
#include "id.h"
#include "fm_limits.h"

enum record_kind {
    RECORD_BATCH = 1,                       /* body: the batch, byte for byte */
    RECORD_GAP = 2,                         /* body: end of the range, reason */
    RECORD_CURSOR_PUT = 3,                  /* body: one cursor entry */
    RECORD_CURSOR_DELETE = 4,               /* body: the name */
    RECORD_STREAM_SNAPSHOT = 5,             /* body: `count` stream entries */
    RECORD_CURSOR_SNAPSHOT = 6,             /* body: `count` cursor entries */
    RECORD_SYNC_MARK = 7                    /* no body: says how far the segment is synced */
};

enum {
    RECORD_HEADER_LEN = 88,
    RECORD_ALIGN = 8,
    RECORD_BODY_MAX = BATCH_MAX,
    RECORD_GAP_LEN = 16,

    RECORD_FLAG_COMPLETE = 1,               /* stream snapshot: no stream has ever been forgotten */
    RECORD_FLAG_CLOSED = 2                  /* batch, gap, stream snapshot: the epoch named is not taken again */
};

struct record {
    uint8_t kind, flags;
    uint32_t body_len;                      /* without the padding */
    uint32_t count;                         /* facts of a batch; 1 of a gap; entries of a snapshot */
    uint64_t offset;                        /* of the first fact; of the next one where the record has none */
    uint64_t time_ns;                       /* the journal's clock, non-decreasing */
    uint64_t synced_pos;                    /* the segment was synced up to here when this was written */
    struct fm_id stream;
    uint64_t first_seq, epoch, incarnation;
    uint64_t body_sum;
};

/* Bytes that a record takes, padding included. */
static inline uint64_t record_len (uint32_t body_len)
{
    return (RECORD_HEADER_LEN + (uint64_t) body_len + RECORD_ALIGN - 1) & ~(uint64_t) (RECORD_ALIGN - 1);
}

/* Offsets that a record takes. Kinds unknown to this version take none. */
static inline uint64_t record_offsets (const struct record *r)
{
    return r->kind == RECORD_BATCH ? r->count : r->kind == RECORD_GAP ? 1 : 0;
}

/* The segment's part of every header sum. */
uint64_t record_seed (const uint8_t salt[16]);

/* Write the header without its sums and synced_pos, and the padding behind the body. */
void record_encode (uint8_t *p, const struct record *r);

/* Finish an encoded record for its place: a body of body_len lies behind the header. */
void record_stamp (uint8_t *p, uint64_t seed, uint64_t pos, uint64_t synced_pos);

/* Make a stamped record one of another place: its header's sum alone. A body that is damaged stays known as damaged. */
void record_move (uint8_t *p, uint64_t seed, uint64_t pos, uint64_t synced_pos);

/* The body length of an encoded record of our own. */
static inline uint32_t record_peek_body_len (const uint8_t *p)
{
    return bytes_get_u32le (p + 16);
}

/* All of it, unchecked: of a record of our own that may not be stamped yet. */
void record_peek (const uint8_t *p, struct record *ret_record);

/* Check a header that should be at pos, and decode it. Returns 0 or FM_ERR_CORRUPT. The body is not looked at. */
int record_decode (const uint8_t *p, uint64_t seed, uint64_t pos, struct record *ret_record);

/* Does the body (with its padding) fit its header? */
bool record_body_ok (const struct record *r, const uint8_t *body);

/* A gap's body. */
void record_gap_encode (uint8_t body[RECORD_GAP_LEN], uint64_t end_seq, uint32_t reason);
/* Returns 0, or FM_ERR_CORRUPT when the record is not a gap's or its range is empty. */
int record_gap_decode (const struct record *r, const uint8_t *body, uint64_t *ret_end_seq, uint32_t *ret_reason);

#endif
