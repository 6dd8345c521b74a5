/* checksum: XXH3-64 (and -128), the one sum of everything on disk. The only files that know xxhash; on x86-64 the AVX2 build of
 * it is taken where the processor has it (four times the speed, the same value). */

#ifndef FM_JOURNAL_CHECKSUM_H
#define FM_JOURNAL_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t checksum (const void *data, size_t len);
uint64_t checksum_seeded (const void *data, size_t len, uint64_t seed);
/* XXH3-128, as its canonical 16 bytes: for what is to be told apart by its sum alone. */
void checksum_128 (const void *data, size_t len, uint8_t ret_bytes[16]);

/* For checksum.c alone: NULL where the processor or the compiler lacks AVX2. */
typedef uint64_t checksum_function (const void *data, size_t len);
checksum_function *checksum_avx2 (void);

#endif
