/* fuzz: what the targets share. Each tests/fuzz/NAME.c is one LLVMFuzzerTestOneInput: hostile bytes go in, nothing is read that is not
 * there, and what comes out keeps its promises (asserts). Runs under libFuzzer, or under driver.c where there is no clang. */

#ifndef FM_TESTS_FUZZ_H
#define FM_TESTS_FUZZ_H

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* Does s lie within [bytes, bytes + len)? */
static inline bool fuzz_within (struct fm_slice s, const uint8_t *bytes, size_t len)
{
    const uint8_t *data = s.data;
    return s.len == 0 || (data >= bytes && data <= bytes + len && s.len <= (size_t) (bytes + len - data));
}

/* The next n bytes of the input, zeros where it has ended. */
struct fuzz_input {
    const uint8_t *p;
    size_t left;
};
static inline void fuzz_take (struct fuzz_input *in, void *out, size_t n)
{
    const size_t have = n < in->left ? n : in->left;
    memset (out, 0, n);
    if (have)
        memcpy (out, in->p, have);
    in->p += have;
    in->left -= have;
}
static inline uint8_t fuzz_u8 (struct fuzz_input *in)
{
    uint8_t v;
    fuzz_take (in, &v, 1);
    return v;
}

/* A file in memory with these bytes, kept open; its path fits 64 bytes. Each call replaces what it held. */
int fuzz_file (const void *bytes, size_t len, char ret_path[64]);

#endif
