/* sha256: the digest that names a blob, over bytes as they come. The only files that know libcrypto.
 *
 * Owns:    libcrypto's context. Thread: one. */

#ifndef FM_PROTO_SHA256_H
#define FM_PROTO_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_LEN = 32 };

struct sha256;

int sha256_new (struct sha256 **ret_sha256);        /* -ENOMEM */
void sha256_destroy (struct sha256 **sha256);
/* Fail only when libcrypto does: -EIO with a detail. */
int sha256_add (struct sha256 *s, const void *data, size_t len);
/* Of all bytes so far; more may follow. */
int sha256_get (struct sha256 *s, uint8_t ret_digest[SHA256_LEN]);

#endif
