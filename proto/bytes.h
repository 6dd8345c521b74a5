/* bytes: slices, little-endian integers and protobuf's varints. The only file that knows
 * endianness. Every get checks its bounds by subtraction. */

#ifndef FM_PROTO_BYTES_H
#define FM_PROTO_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fm_types.h"

static inline struct fm_slice slice (const void *data, size_t len)
{
    return (struct fm_slice) { .data = data, .len = len };
}

static inline struct fm_slice slice_of (const char *text)
{
    return slice (text, text ? strlen (text) : 0);
}

static inline bool slice_equal (struct fm_slice a, struct fm_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp (a.data, b.data, a.len) == 0);
}

static inline void bytes_put_u32le (uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t) (v >> (8 * i));
}

static inline void bytes_put_u64le (uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t) (v >> (8 * i));
}

static inline uint32_t bytes_get_u32le (const uint8_t *p)
{
    return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static inline uint64_t bytes_get_u64le (const uint8_t *p)
{
    return (uint64_t) bytes_get_u32le (p) | (uint64_t) bytes_get_u32le (p + 4) << 32;
}

static inline uint64_t bytes_zigzag (int64_t v)
{
    return ((uint64_t) v << 1) ^ (uint64_t) (v >> 63);
}

static inline int64_t bytes_unzigzag (uint64_t v)
{
    return (int64_t) (v >> 1) ^ -(int64_t) (v & 1);
}

static inline size_t bytes_varint_len (uint64_t v)
{
    return (size_t) (9 * (63 - __builtin_clzll (v | 1)) + 73) / 64;
}

/* Write a varint (at most 10 bytes); returns the position behind it. */
static inline uint8_t *bytes_put_varint (uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t) (v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t) v;
    return p;
}

/* Read a varint from [p, end); NULL when it is cut off or longer than 10 bytes. */
static inline const uint8_t *bytes_get_varint (const uint8_t *p, const uint8_t *end, uint64_t *ret_v)
{
    uint64_t v = 0;
    for (unsigned shift = 0; p < end && shift < 70; shift += 7) {
        const uint8_t b = *p++;
        if (shift == 63 && b > 1)
            return NULL;
        v |= (uint64_t) (b & 0x7f) << shift;
        if (b < 0x80) {
            *ret_v = v;
            return p;
        }
    }
    return NULL;
}

#endif
