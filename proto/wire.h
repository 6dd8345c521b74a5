/* wire: protobuf's wire format, as much of it as the hand-written codecs need.
 *
 * Every get takes [p, end), returns the position behind what it read, and NULL when the bytes are cut off or
 * are not protobuf. Results are untouched then. */

#ifndef FM_PROTO_WIRE_H
#define FM_PROTO_WIRE_H

#include "bytes.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LEN = 2, WIRE_FIXED32 = 5 };

#define WIRE_TAG(field, type) ((uint32_t) (field) << 3 | (uint32_t) (type))

enum { WIRE_VARINT_MAX = 10, WIRE_TAG_MAX = 5 };

/* bytes_get_varint for what is a few bytes long, such as times: up to 8 in one go, where so many can be read. All groups of seven bits move together. */
static inline const uint8_t *wire_get_long_varint (const uint8_t *p, const uint8_t *end, uint64_t *ret_v)
{
    if (end - p < 8)
        return bytes_get_varint (p, end, ret_v);
    uint64_t v = bytes_get_u64le (p);
    const uint64_t ends = ~v & UINT64_C (0x8080808080808080);
    if (!ends)
        return bytes_get_varint (p, end, ret_v);
    v &= ends ^ (ends - 1);                             /* up to the first byte that ends it */
    v = (v & UINT64_C (0x007f007f007f007f)) | (v & UINT64_C (0x7f007f007f007f00)) >> 1;
    v = (v & UINT64_C (0x00003fff00003fff)) | (v & UINT64_C (0x3fff00003fff0000)) >> 2;
    *ret_v = (v & UINT64_C (0x000000000fffffff)) | (v & UINT64_C (0x0fffffff00000000)) >> 4;
    return p + (__builtin_ctzll (ends) >> 3) + 1;
}

/* bytes_get_varint, with the one-byte case inline: most tags and lengths are one byte. */
static inline const uint8_t *wire_get_varint (const uint8_t *p, const uint8_t *end, uint64_t *ret_v)
{
    if (__builtin_expect (p < end && *p < 0x80, 1)) {
        *ret_v = *p;
        return p + 1;
    }
    return bytes_get_varint (p, end, ret_v);
}

/* A varint that must fit 32 bits. */
static inline const uint8_t *wire_get_u32 (const uint8_t *p, const uint8_t *end, uint32_t *ret_v)
{
    uint64_t v;
    p = wire_get_varint (p, end, &v);
    if (!p || v > UINT32_MAX)
        return NULL;
    *ret_v = (uint32_t) v;
    return p;
}

/* A field's tag; field number 0 is none. */
static inline const uint8_t *wire_get_tag (const uint8_t *p, const uint8_t *end, uint32_t *ret_tag)
{
    uint32_t tag;
    p = wire_get_u32 (p, end, &tag);
    if (!p || tag >> 3 == 0)
        return NULL;
    *ret_tag = tag;
    return p;
}

static inline const uint8_t *wire_get_fixed64 (const uint8_t *p, const uint8_t *end, uint64_t *ret_v)
{
    if ((size_t) (end - p) < 8)
        return NULL;
    *ret_v = bytes_get_u64le (p);
    return p + 8;
}

/* What a length precedes: bytes, a message, a packed run. */
static inline const uint8_t *wire_get_slice (const uint8_t *p, const uint8_t *end, struct fm_slice *ret_s)
{
    uint64_t len;
    p = wire_get_varint (p, end, &len);
    if (!p || len > (size_t) (end - p))
        return NULL;
    *ret_s = slice (p, (size_t) len);
    return p + len;
}

/* Step over the value of a field that is not known. Groups, which proto3 does not have, are refused. */
static inline const uint8_t *wire_skip (const uint8_t *p, const uint8_t *end, uint32_t tag)
{
    uint64_t v;
    struct fm_slice s;
    switch (tag & 7) {
    case WIRE_VARINT:
        return wire_get_varint (p, end, &v);
    case WIRE_FIXED64:
        return wire_get_fixed64 (p, end, &v);
    case WIRE_LEN:
        return wire_get_slice (p, end, &s);
    case WIRE_FIXED32:
        return (size_t) (end - p) < 4 ? NULL : p + 4;
    default:
        return NULL;
    }
}

/* Writing. A tag is a constant: the compiler folds the varint. */
static inline uint8_t *wire_put_tag (uint8_t *p, uint32_t tag)
{
    return bytes_put_varint (p, tag);
}

static inline uint8_t *wire_put_bytes (uint8_t *p, struct fm_slice s)
{
    if (s.len)
        memcpy (p, s.data, s.len);
    return p + s.len;
}

/* proto3 leaves out what is zero or empty. */
static inline uint8_t *wire_put_u64_field (uint8_t *p, uint32_t field, uint64_t v)
{
    if (!v)
        return p;
    p = wire_put_tag (p, WIRE_TAG (field, WIRE_VARINT));
    return bytes_put_varint (p, v);
}

static inline uint8_t *wire_put_fixed64_field (uint8_t *p, uint32_t field, uint64_t v)
{
    if (!v)
        return p;
    p = wire_put_tag (p, WIRE_TAG (field, WIRE_FIXED64));
    bytes_put_u64le (p, v);
    return p + 8;
}

/* Length and bytes even when empty: a member of a oneof, an element of a repeated field. */
static inline uint8_t *wire_put_slice (uint8_t *p, uint32_t field, struct fm_slice s)
{
    p = wire_put_tag (p, WIRE_TAG (field, WIRE_LEN));
    p = bytes_put_varint (p, s.len);
    return wire_put_bytes (p, s);
}

static inline uint8_t *wire_put_slice_field (uint8_t *p, uint32_t field, struct fm_slice s)
{
    return s.len ? wire_put_slice (p, field, s) : p;
}

static inline size_t wire_tag_len (uint32_t field)
{
    return bytes_varint_len (WIRE_TAG (field, 0));
}

static inline size_t wire_u64_field_len (uint32_t field, uint64_t v)
{
    return v ? wire_tag_len (field) + bytes_varint_len (v) : 0;
}

static inline size_t wire_fixed64_field_len (uint32_t field, uint64_t v)
{
    return v ? wire_tag_len (field) + 8 : 0;
}

static inline size_t wire_slice_len (uint32_t field, size_t len)
{
    return wire_tag_len (field) + bytes_varint_len (len) + len;
}

static inline size_t wire_slice_field_len (uint32_t field, size_t len)
{
    return len ? wire_slice_len (field, len) : 0;
}

#endif
