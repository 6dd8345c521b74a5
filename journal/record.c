#include "record.h"

#include <assert.h>

#include "checksum.h"
#include "fm_types.h"

/* Spreads neighbouring positions over the seed (2^64 divided by the golden ratio). */
#define POSITION_MIX UINT64_C (0x9E3779B97F4A7C15)

/* Where a header's fields are. */
enum {
    AT_HEADER_SUM = 0,
    AT_BODY_SUM = 8,
    AT_BODY_LEN = 16,
    AT_KIND = 20,
    AT_FLAGS = 21,
    AT_RESERVED = 22,
    AT_OFFSET = 24,
    AT_TIME = 32,
    AT_SYNCED = 40,                         /* in units of RECORD_ALIGN */
    AT_COUNT = 44,
    AT_STREAM = 48,
    AT_FIRST_SEQ = 64,
    AT_EPOCH = 72,
    AT_INCARNATION = 80
};
static_assert (AT_INCARNATION + 8 == RECORD_HEADER_LEN, "the header's fields fill it");
static_assert (RECORD_HEADER_LEN % RECORD_ALIGN == 0, "bodies are aligned");

uint64_t record_seed (const uint8_t salt[16])
{
    return checksum (salt, 16);
}

static uint64_t header_sum (const uint8_t *p, uint64_t seed, uint64_t pos)
{
    return checksum_seeded (p + AT_BODY_SUM, RECORD_HEADER_LEN - AT_BODY_SUM, seed + pos * POSITION_MIX);
}

static uint64_t body_sum (const uint8_t *body, uint32_t body_len)
{
    return checksum (body, record_len (body_len) - RECORD_HEADER_LEN);
}

void record_encode (uint8_t *p, const struct record *r)
{
    assert (r->body_len <= RECORD_BODY_MAX);
    bytes_put_u64le (p + AT_HEADER_SUM, 0);
    bytes_put_u64le (p + AT_BODY_SUM, 0);
    bytes_put_u32le (p + AT_BODY_LEN, r->body_len);
    p[AT_KIND] = r->kind;
    p[AT_FLAGS] = r->flags;
    p[AT_RESERVED] = p[AT_RESERVED + 1] = 0;
    bytes_put_u64le (p + AT_OFFSET, r->offset);
    bytes_put_u64le (p + AT_TIME, r->time_ns);
    bytes_put_u32le (p + AT_SYNCED, 0);
    bytes_put_u32le (p + AT_COUNT, r->count);
    memcpy (p + AT_STREAM, r->stream.bytes, ID_LEN);
    bytes_put_u64le (p + AT_FIRST_SEQ, r->first_seq);
    bytes_put_u64le (p + AT_EPOCH, r->epoch);
    bytes_put_u64le (p + AT_INCARNATION, r->incarnation);
    const uint64_t used = RECORD_HEADER_LEN + (uint64_t) r->body_len;
    memset (p + used, 0, record_len (r->body_len) - used);
}

void record_stamp (uint8_t *p, uint64_t seed, uint64_t pos, uint64_t synced_pos)
{
    bytes_put_u64le (p + AT_BODY_SUM, body_sum (p + RECORD_HEADER_LEN, record_peek_body_len (p)));
    record_move (p, seed, pos, synced_pos);
}

void record_move (uint8_t *p, uint64_t seed, uint64_t pos, uint64_t synced_pos)
{
    assert (synced_pos % RECORD_ALIGN == 0 && synced_pos / RECORD_ALIGN <= UINT32_MAX);
    bytes_put_u32le (p + AT_SYNCED, (uint32_t) (synced_pos / RECORD_ALIGN));
    bytes_put_u64le (p + AT_HEADER_SUM, header_sum (p, seed, pos));
}

void record_peek (const uint8_t *p, struct record *ret_record)
{
    *ret_record = (struct record) {
        .kind = p[AT_KIND],
        .flags = p[AT_FLAGS],
        .body_len = bytes_get_u32le (p + AT_BODY_LEN),
        .count = bytes_get_u32le (p + AT_COUNT),
        .offset = bytes_get_u64le (p + AT_OFFSET),
        .time_ns = bytes_get_u64le (p + AT_TIME),
        .synced_pos = (uint64_t) bytes_get_u32le (p + AT_SYNCED) * RECORD_ALIGN,
        .first_seq = bytes_get_u64le (p + AT_FIRST_SEQ),
        .epoch = bytes_get_u64le (p + AT_EPOCH),
        .incarnation = bytes_get_u64le (p + AT_INCARNATION),
        .body_sum = bytes_get_u64le (p + AT_BODY_SUM),
    };
    memcpy (ret_record->stream.bytes, p + AT_STREAM, ID_LEN);
}

int record_decode (const uint8_t *p, uint64_t seed, uint64_t pos, struct record *ret_record)
{
    if (bytes_get_u64le (p + AT_HEADER_SUM) != header_sum (p, seed, pos))
        return FM_ERR_CORRUPT;
    struct record r;
    record_peek (p, &r);
    /* The sum holds, so these say that somebody else wrote it, or we have a bug: either way it is no record. */
    if (r.body_len > RECORD_BODY_MAX || r.synced_pos > pos || r.offset == 0)
        return FM_ERR_CORRUPT;
    if (r.kind == RECORD_BATCH && (r.count == 0 || r.first_seq == 0 || r.first_seq > UINT64_MAX - r.count))
        return FM_ERR_CORRUPT;
    if (r.offset > UINT64_MAX - record_offsets (&r))
        return FM_ERR_CORRUPT;
    *ret_record = r;
    return 0;
}

bool record_body_ok (const struct record *r, const uint8_t *body)
{
    return body_sum (body, r->body_len) == r->body_sum;
}

void record_gap_encode (uint8_t body[RECORD_GAP_LEN], uint64_t end_seq, uint32_t reason)
{
    bytes_put_u64le (body, end_seq);
    bytes_put_u32le (body + 8, reason);
    bytes_put_u32le (body + 12, 0);
}

int record_gap_decode (const struct record *r, const uint8_t *body, uint64_t *ret_end_seq, uint32_t *ret_reason)
{
    if (r->kind != RECORD_GAP || r->body_len < RECORD_GAP_LEN || bytes_get_u64le (body) <= r->first_seq)
        return FM_ERR_CORRUPT;
    *ret_end_seq = bytes_get_u64le (body);
    *ret_reason = bytes_get_u32le (body + 8);
    return 0;
}
