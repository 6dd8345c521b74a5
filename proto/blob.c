#include "blob.h"

#include "error.h"
#include "wire.h"

enum { REF_SHA256 = 1, REF_SIZE = 2, REF_MEDIA_TYPE = 3 };      /* fields of BlobRef */

char *blob_digest_text (const uint8_t digest[BLOB_DIGEST_LEN], char text[BLOB_DIGEST_TEXT_LEN + 1])
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < BLOB_DIGEST_LEN; i++) {
        text[2 * i] = hex[digest[i] >> 4];
        text[2 * i + 1] = hex[digest[i] & 15];
    }
    text[BLOB_DIGEST_TEXT_LEN] = 0;
    return text;
}

static int hex_value (char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int blob_digest_parse (const char *text, size_t len, uint8_t ret_digest[BLOB_DIGEST_LEN])
{
    uint8_t digest[BLOB_DIGEST_LEN];
    if (len != BLOB_DIGEST_TEXT_LEN)
        return error_set (FM_ERR_MALFORMED, "a blob's name is the 64 hex digits of its SHA-256, not %zu bytes", len);
    for (size_t i = 0; i < BLOB_DIGEST_LEN; i++) {
        const int high = hex_value (text[2 * i]), low = hex_value (text[2 * i + 1]);
        if (high < 0 || low < 0)
            return error_set (FM_ERR_MALFORMED, "a blob's name is the 64 hex digits of its SHA-256; what stands at %zu is none", 2 * i);
        digest[i] = (uint8_t) (high << 4 | low);
    }
    memcpy (ret_digest, digest, sizeof digest);
    return 0;
}

int blob_ref_encode (const struct fm_blob *blob, void *buffer, size_t size, size_t *ret_len)
{
    if (blob->media_type.len > TYPE_MAX)
        return error_set (FM_ERR_TOO_LARGE, "a media type of %zu bytes; at most %d", blob->media_type.len, (int) TYPE_MAX);
    const size_t len = wire_slice_len (REF_SHA256, BLOB_DIGEST_LEN) + wire_u64_field_len (REF_SIZE, blob->size)
                       + wire_slice_field_len (REF_MEDIA_TYPE, blob->media_type.len);
    if (len > size)
        return error_set (FM_ERR_FULL, "a blob's pointer takes %zu bytes, here are %zu", len, size);
    uint8_t *p = wire_put_slice (buffer, REF_SHA256, slice (blob->sha256, BLOB_DIGEST_LEN));
    p = wire_put_u64_field (p, REF_SIZE, blob->size);
    (void) wire_put_slice_field (p, REF_MEDIA_TYPE, blob->media_type);     /* ends where the length says */
    *ret_len = len;
    return 0;
}

int blob_ref_decode (struct fm_slice bytes, struct fm_blob *ret_blob)
{
    struct fm_blob blob = { .size = 0 };
    struct fm_slice digest = { .data = NULL };
    const uint8_t *p = bytes.data, *end = p + bytes.len;
    while (p && p < end) {
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            break;
        if (tag == WIRE_TAG (REF_SHA256, WIRE_LEN))
            p = wire_get_slice (p, end, &digest);
        else if (tag == WIRE_TAG (REF_SIZE, WIRE_VARINT))
            p = wire_get_varint (p, end, &blob.size);
        else if (tag == WIRE_TAG (REF_MEDIA_TYPE, WIRE_LEN))
            p = wire_get_slice (p, end, &blob.media_type);
        else if (tag >> 3 <= REF_MEDIA_TYPE)
            p = NULL;                   /* a known field of another type */
        else
            p = wire_skip (p, end, tag);
    }
    if (!p || digest.len != BLOB_DIGEST_LEN || blob.media_type.len > TYPE_MAX)
        return error_set (FM_ERR_MALFORMED, "%zu bytes are no pointer to a blob", bytes.len);
    memcpy (blob.sha256, digest.data, BLOB_DIGEST_LEN);
    *ret_blob = blob;
    return 0;
}
