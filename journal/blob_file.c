#include "blob_file.h"

#include <assert.h>

#include "checksum.h"
#include "error.h"

/* Positions within the header. */
enum { AT_MAJOR = 8, AT_MINOR = 12, AT_SALT = 16, AT_STORED = 32, AT_SIZE = 40, AT_COMPLETE = 48, AT_BLOCK = 52, AT_DIGEST = 56, AT_TYPE_LEN = 88, AT_TYPE = 89, AT_SUM = 504 };
static_assert ((int) AT_TYPE + (int) TYPE_MAX <= (int) AT_SUM, "the media type fits");
static_assert ((int) BLOB_LEASE_AT >= (int) BLOB_HEADER_LEN && (int) BLOB_LEASES * (int) BLOB_LEASE_AT + (int) BLOB_LEASE_LEN <= (int) BLOB_HEAD_LEN,
               "leases lie behind the header and before the blocks");
static const char magic[8] = "FMBLOBS\n";

void blob_header_encode (const struct blob_header *h, uint8_t ret_bytes[BLOB_HEADER_LEN])
{
    memset (ret_bytes, 0, BLOB_HEADER_LEN);
    memcpy (ret_bytes, magic, sizeof magic);
    bytes_put_u32le (ret_bytes + AT_MAJOR, BLOB_FILE_MAJOR);
    bytes_put_u32le (ret_bytes + AT_MINOR, BLOB_FILE_MINOR);
    memcpy (ret_bytes + AT_SALT, h->salt, BLOB_SALT_LEN);
    bytes_put_u64le (ret_bytes + AT_STORED, h->info.stored_ns);
    bytes_put_u32le (ret_bytes + AT_BLOCK, BLOB_BLOCK);
    if (h->complete) {
        bytes_put_u64le (ret_bytes + AT_SIZE, h->info.size);
        bytes_put_u32le (ret_bytes + AT_COMPLETE, 1);
        memcpy (ret_bytes + AT_DIGEST, h->info.digest, BLOB_DIGEST_LEN);
    }
    ret_bytes[AT_TYPE_LEN] = h->info.media_type_len;
    memcpy (ret_bytes + AT_TYPE, h->info.media_type, h->info.media_type_len);
    bytes_put_u64le (ret_bytes + AT_SUM, checksum (ret_bytes, AT_SUM));
}

int blob_header_decode (const uint8_t bytes[BLOB_HEADER_LEN], struct blob_header *ret_header)
{
    if (memcmp (bytes, magic, sizeof magic) != 0)
        return error_set (FM_ERR_CORRUPT, "no blob's header");
    /* First: a damaged number is no other version. The sum stands here in all of them. */
    if (bytes_get_u64le (bytes + AT_SUM) != checksum (bytes, AT_SUM))
        return error_set (FM_ERR_CORRUPT, "its header does not check");
    if (bytes_get_u32le (bytes + AT_MAJOR) != BLOB_FILE_MAJOR || bytes_get_u32le (bytes + AT_BLOCK) != BLOB_BLOCK)
        return error_set (FM_ERR_NEWER, "a blob of format %u; this is %d", bytes_get_u32le (bytes + AT_MAJOR), (int) BLOB_FILE_MAJOR);
    struct blob_header h = { .complete = bytes_get_u32le (bytes + AT_COMPLETE) == 1 };
    memcpy (h.salt, bytes + AT_SALT, BLOB_SALT_LEN);
    memcpy (h.info.digest, bytes + AT_DIGEST, BLOB_DIGEST_LEN);
    h.info.size = bytes_get_u64le (bytes + AT_SIZE);
    h.info.stored_ns = bytes_get_u64le (bytes + AT_STORED);
    h.info.media_type_len = bytes[AT_TYPE_LEN];
    memcpy (h.info.media_type, bytes + AT_TYPE, h.info.media_type_len);
    *ret_header = h;
    return 0;
}

/* The salt makes a block of another file, or of another place, one that does not check. */
static uint64_t seed (const struct blob_header *h, uint64_t number)
{
    return checksum (h->salt, BLOB_SALT_LEN) + number * UINT64_C (0x9E3779B97F4A7C15);
}

void blob_lease_encode (const struct blob_header *h, const struct blob_lease *l, uint8_t ret_bytes[BLOB_LEASE_LEN])
{
    memset (ret_bytes, 0, BLOB_LEASE_LEN);
    bytes_put_u64le (ret_bytes, l->until_ns);
    bytes_put_u64le (ret_bytes + 8, l->number);
    bytes_put_u64le (ret_bytes + 24, checksum_seeded (ret_bytes, 24, seed (h, UINT64_MAX)));
}

int blob_lease_decode (const struct blob_header *h, const uint8_t bytes[BLOB_LEASE_LEN], struct blob_lease *ret_lease)
{
    if (bytes_get_u64le (bytes + 24) != checksum_seeded (bytes, 24, seed (h, UINT64_MAX)))
        return FM_ERR_CORRUPT;
    *ret_lease = (struct blob_lease) { .until_ns = bytes_get_u64le (bytes), .number = bytes_get_u64le (bytes + 8) };
    return 0;
}

uint64_t blob_block_sum (const struct blob_header *h, uint64_t block, const void *bytes, size_t len)
{
    return checksum_seeded (bytes, len, seed (h, block));
}
