#include "checksum.h"

#define XXH_INLINE_ALL
#include <string.h>
#include <xxhash.h>

/* Below this much the choice costs more than it saves. */
enum { CHECKSUM_WIDE_FROM = 256 };

static uint64_t checksum_plain (const void *data, size_t len)
{
    return XXH3_64bits (data, len);
}

static checksum_function *checksum_wide = checksum_plain;

/* Before main, so that no thread ever sees it change. */
__attribute__ ((constructor)) static void checksum_choose (void)
{
    checksum_function *avx2 = checksum_avx2 ();
    checksum_wide = avx2 ? avx2 : checksum_plain;
}

uint64_t checksum (const void *data, size_t len)
{
    return len < CHECKSUM_WIDE_FROM ? checksum_plain (data, len) : checksum_wide (data, len);
}

uint64_t checksum_seeded (const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed (data, len, seed);
}

void checksum_128 (const void *data, size_t len, uint8_t ret_bytes[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash (&canonical, XXH3_128bits (data, len));
    memcpy (ret_bytes, canonical.digest, sizeof canonical.digest);
}
