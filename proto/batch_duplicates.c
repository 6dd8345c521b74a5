/* What a journal puts in front of a batch: which of its facts repeat earlier ones. In front, because then it is found without a walk over the facts, and what the
 * publisher sent stays in one piece behind it. */

#include "batch_duplicates.h"

#include "batch.h"
#include "batch_fields.h"
#include "error.h"

/* One of the run. NULL: it is none. */
static const uint8_t *get_one (const uint8_t *p, const uint8_t *end, struct batch_duplicate *ret_duplicate)
{
    struct batch_duplicate d = { .seq = 0 };
    struct fm_slice bytes;
    uint32_t tag;
    p = wire_get_tag (p, end, &tag);
    const uint8_t *const behind = p && tag == DUPLICATES_FACT ? wire_get_slice (p, end, &bytes) : NULL;
    if (!behind)
        return NULL;
    p = bytes.data;
    end = p + bytes.len;
    while (p && p < end) {
        p = wire_get_tag (p, end, &tag);
        if (!p)
            return NULL;
        if (tag == DUPLICATE_SEQ)
            p = wire_get_varint (p, end, &d.seq);
        else if (tag == DUPLICATE_FIRST)
            p = batch_get_fact_id (p, end, &d.first);
        else
            p = tag >> 3 <= 2 ? NULL : wire_skip (p, end, tag);
    }
    if (!p || d.seq == 0 || id_is_zero (&d.first.stream))
        return NULL;
    *ret_duplicate = d;
    return behind;
}

int batch_duplicates_check (struct fm_slice bytes)
{
    const uint8_t *p = bytes.data, *const end = p + bytes.len;
    uint64_t last = 0;
    while (p < end) {
        struct batch_duplicate d;
        p = get_one (p, end, &d);
        if (!p || d.seq <= last)
            return error_set (FM_ERR_MALFORMED, "batch: its duplicates are cut off, or out of order");
        last = d.seq;
    }
    return 0;
}

void batch_duplicates_init (struct batch_duplicates *d, const struct batch *b)
{
    d->pos = b->duplicates.data;
    d->end = b->duplicates.len ? d->pos + b->duplicates.len : d->pos;
    batch_duplicates_step (d);
}

void batch_duplicates_step (struct batch_duplicates *d)
{
    const uint8_t *const p = d->pos == d->end ? NULL : get_one (d->pos, d->end, &d->next);
    d->pos = p ? p : d->end;
    if (!p)
        d->next.seq = UINT64_MAX;           /* no fact's */
}

int batch_strip_duplicates (struct batch *b)
{
    if (!b->duplicates.data)
        return 0;
    uint32_t tag;
    const uint8_t *const end = b->bytes + b->len, *p = wire_get_tag (b->bytes, end, &tag);
    struct fm_slice first = { 0 };
    p = p && tag == BATCH_DUPLICATES ? wire_get_slice (p, end, &first) : NULL;
    if (!p || first.data != b->duplicates.data)
        return error_set (FM_ERR_MALFORMED, "batch: its duplicates do not stand in front");
    const size_t len = (size_t) (p - b->bytes);
    b->bytes += len;
    b->len -= len;
    b->facts_pos -= len;
    b->duplicates = slice (NULL, 0);
    return 0;
}

uint8_t *batch_duplicate_encode (uint8_t *p, const struct batch_duplicate *d)
{
    const size_t first_len = 2 + ID_LEN + 1 + bytes_varint_len (d->first.seq);
    p = wire_put_tag (p, DUPLICATES_FACT);
    p = bytes_put_varint (p, 1 + bytes_varint_len (d->seq) + 2 + first_len);
    p = wire_put_tag (p, DUPLICATE_SEQ);
    p = bytes_put_varint (p, d->seq);
    p = wire_put_tag (p, DUPLICATE_FIRST);
    p = bytes_put_varint (p, first_len);
    p = wire_put_tag (p, FACT_ID_STREAM);
    p = bytes_put_varint (p, ID_LEN);
    p = wire_put_bytes (p, slice (d->first.stream.bytes, ID_LEN));
    p = wire_put_tag (p, FACT_ID_SEQ);
    return bytes_put_varint (p, d->first.seq);
}

uint8_t *batch_duplicates_close (uint8_t *run, size_t len)
{
    uint8_t head[BATCH_DUPLICATES_HEAD], *p = head;
    p = wire_put_tag (p, BATCH_DUPLICATES);
    p = bytes_put_varint (p, len);
    const size_t head_len = (size_t) (p - head);
    memcpy (run - head_len, head, head_len);
    return run - head_len;
}
