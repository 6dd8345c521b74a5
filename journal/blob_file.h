/* blob_file: a blob's bytes on disk: header, leases, where a block lies. Pure. FORMAT.md, "Blob". */

#ifndef FM_JOURNAL_BLOB_FILE_H
#define FM_JOURNAL_BLOB_FILE_H

#include "blob_store.h"

enum {
    BLOB_FILE_MAJOR = 1,
    BLOB_FILE_MINOR = 0,
    BLOB_HEAD_LEN = 4096,               /* before the first block */
    BLOB_HEADER_LEN = 512,              /* at 0 */
    BLOB_LEASE_LEN = 32,
    BLOB_LEASE_AT = 1024,               /* the first; the second at twice that: sectors of their own */
    BLOB_LEASES = 2,
    BLOB_SUM_LEN = 8,                   /* behind each block */
    BLOB_SALT_LEN = 16,
    BLOB_STRIDE = BLOB_BLOCK + BLOB_SUM_LEN
};

struct blob_header {
    bool complete;                      /* else size and digest are not known yet */
    uint8_t salt[BLOB_SALT_LEN];
    struct blob_info info;              /* but for the lease */
};
struct blob_lease {
    uint64_t until_ns, number;          /* of two the one with the higher number counts */
};

void blob_header_encode (const struct blob_header *h, uint8_t ret_bytes[BLOB_HEADER_LEN]);
/* FM_ERR_CORRUPT; FM_ERR_NEWER: another major version. */
int blob_header_decode (const uint8_t bytes[BLOB_HEADER_LEN], struct blob_header *ret_header);
void blob_lease_encode (const struct blob_header *h, const struct blob_lease *l, uint8_t ret_bytes[BLOB_LEASE_LEN]);
int blob_lease_decode (const struct blob_header *h, const uint8_t bytes[BLOB_LEASE_LEN], struct blob_lease *ret_lease);

uint64_t blob_block_sum (const struct blob_header *h, uint64_t block, const void *bytes, size_t len);
static inline uint64_t blob_block_at (uint64_t block)
{
    return BLOB_HEAD_LEN + block * BLOB_STRIDE;
}
static inline uint64_t blob_blocks (uint64_t size)
{
    return size / BLOB_BLOCK + (size % BLOB_BLOCK != 0);
}
static inline uint64_t blob_file_len (uint64_t size)
{
    return BLOB_HEAD_LEN + size + blob_blocks (size) * BLOB_SUM_LEN;
}

#endif
