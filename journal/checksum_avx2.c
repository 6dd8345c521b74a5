#include "checksum.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

#pragma GCC target ("avx2")
#define XXH_INLINE_ALL
#include <xxhash.h>

static uint64_t checksum_by_avx2 (const void *data, size_t len)
{
    return XXH3_64bits (data, len);
}

checksum_function *checksum_avx2 (void)
{
    __builtin_cpu_init ();
    return __builtin_cpu_supports ("avx2") ? checksum_by_avx2 : NULL;
}

#else

checksum_function *checksum_avx2 (void)
{
    return NULL;
}

#endif
