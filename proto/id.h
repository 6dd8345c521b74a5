/* id: 16 random bytes that name a stream, a node or a journal. In text 32 lower-case hex digits. */

#ifndef FM_PROTO_ID_H
#define FM_PROTO_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fm_types.h"

enum { ID_LEN = 16, ID_TEXT_LEN = 32 };

static inline bool id_equal (const struct fm_id *a, const struct fm_id *b)
{
    return memcmp (a->bytes, b->bytes, ID_LEN) == 0;
}

static inline bool id_is_zero (const struct fm_id *id)
{
    /* Asked for each fact: no call. */
    uint64_t halves[2];
    memcpy (halves, id->bytes, ID_LEN);
    return (halves[0] | halves[1]) == 0;
}

/* The first 8 bytes: random already, hence good enough as a hash. */
static inline uint64_t id_hash (const struct fm_id *id)
{
    uint64_t h;
    memcpy (&h, id->bytes, sizeof h);
    return h;
}

/* Fill with random bytes from getrandom(2), never zero. */
void id_random (struct fm_id *ret_id);
uint64_t id_random_u64 (void);              /* never 0 */

/* Write 32 hex digits and a NUL. Returns text. */
char *id_text (const struct fm_id *id, char text[ID_TEXT_LEN + 1]);

/* Read 32 hex digits. Returns 0 or FM_ERR_MALFORMED. */
int id_parse (const char *text, size_t len, struct fm_id *ret_id);

#endif
