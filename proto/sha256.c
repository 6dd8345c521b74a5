#include "sha256.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "error.h"

struct sha256 {
    EVP_MD_CTX *context, *copy;
};

static int failed (const char *what)
{
    return error_set (-EIO, "libcrypto: SHA-256: %s failed", what);
}

int sha256_new (struct sha256 **ret_sha256)
{
    struct sha256 *s = calloc (1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->context = EVP_MD_CTX_new ();
    s->copy = EVP_MD_CTX_new ();
    int rc = s->context && s->copy ? 0 : -ENOMEM;
    if (!rc && EVP_DigestInit_ex (s->context, EVP_sha256 (), NULL) != 1)
        rc = failed ("begin");
    if (rc) {
        sha256_destroy (&s);
        return rc;
    }
    *ret_sha256 = s;
    return 0;
}

void sha256_destroy (struct sha256 **sha256)
{
    struct sha256 *s = *sha256;
    if (!s)
        return;
    *sha256 = NULL;
    EVP_MD_CTX_free (s->context);
    EVP_MD_CTX_free (s->copy);
    free (s);
}

int sha256_add (struct sha256 *s, const void *data, size_t len)
{
    return EVP_DigestUpdate (s->context, data, len) == 1 ? 0 : failed ("update");
}

int sha256_get (struct sha256 *s, uint8_t ret_digest[SHA256_LEN])
{
    unsigned len = SHA256_LEN;
    if (EVP_MD_CTX_copy_ex (s->copy, s->context) != 1 || EVP_DigestFinal_ex (s->copy, ret_digest, &len) != 1)
        return failed ("end");
    return 0;
}
