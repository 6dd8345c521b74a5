/* blob: what names a blob (its SHA-256) and points to one (BlobRef). Pure. */

#ifndef FM_PROTO_BLOB_H
#define FM_PROTO_BLOB_H

#include "bytes.h"
#include "fm_limits.h"

enum {
    BLOB_DIGEST_LEN = 32,
    BLOB_DIGEST_TEXT_LEN = 64,
    BLOB_REF_MAX = 2 + BLOB_DIGEST_LEN + 11 + 3 + TYPE_MAX      /* bytes of an encoded BlobRef */
};

/* 64 lower-case hex digits and a NUL. Returns text. */
char *blob_digest_text (const uint8_t digest[BLOB_DIGEST_LEN], char text[BLOB_DIGEST_TEXT_LEN + 1]);
/* 64 hex digits of either case. 0 or FM_ERR_MALFORMED with a detail. */
int blob_digest_parse (const char *text, size_t len, uint8_t ret_digest[BLOB_DIGEST_LEN]);

/* Encode a BlobRef. FM_ERR_FULL: more than size bytes; FM_ERR_TOO_LARGE: the media type. */
int blob_ref_encode (const struct fm_blob *blob, void *buffer, size_t size, size_t *ret_len);
/* Decode one; the media type points into the bytes. FM_ERR_MALFORMED: no BlobRef, or one without a SHA-256. */
int blob_ref_decode (struct fm_slice bytes, struct fm_blob *ret_blob);

#endif
