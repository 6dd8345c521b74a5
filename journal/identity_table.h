/* identity_table: which fact bore an identity first. Pure.
 *
 * Owns:    the entries: a ring, oldest first, and chains from the hashes into it. Grows with use up to its bound, 52 bytes an identity.
 * Promise: of the last `max` identities that were put, each finds the fact that was put with it. Older ones are forgotten, one for each new one.
 * Bytes:   FORMAT.md, "Footer": an entry. */

#ifndef FM_JOURNAL_IDENTITY_TABLE_H
#define FM_JOURNAL_IDENTITY_TABLE_H

#include <stdbool.h>

#include "batch.h"

enum {
    IDENTITIES_MAX = 1 << 20,               /* that a journal remembers */
    IDENTITY_HASH_LEN = 16
};

struct identity_entry {
    uint8_t hash[IDENTITY_HASH_LEN];
    struct fm_fact_id fact;
};

/* Identities are told apart by this alone. */
void identity_hash (struct fm_slice identity, uint8_t ret_hash[IDENTITY_HASH_LEN]);

/* Walk the identities that a batch's facts are the first to bear: those that a journal says repeat another's are left out. Returns 0, or FM_ERR_END. */
struct identity_reader {
    struct batch_reader facts;
    struct batch_duplicates duplicates;
};
void identity_reader_init (struct identity_reader *r, const struct batch *b);
int identity_reader_next (struct identity_reader *r, struct identity_entry *ret_entry);

/* SEGMENT_IDENTITY_LEN bytes; the position behind. */
uint8_t *identity_entry_encode (uint8_t *p, const struct identity_entry *e);
void identity_entry_decode (const uint8_t *p, struct identity_entry *ret_entry);

struct identity_table {
    struct identity_slot *slots;            /* a ring from `first` on */
    uint32_t *buckets;
    uint32_t max, size, first, count;
};

/* max: a power of two. */
void identity_table_init (struct identity_table *t, uint32_t max);
void identity_table_release (struct identity_table *t);

/* The fact that was put with it, or NULL. */
const struct fm_fact_id *identity_table_find (const struct identity_table *t, const uint8_t hash[IDENTITY_HASH_LEN]);
/* Put one that is not there; the oldest makes room. -ENOMEM. */
int identity_table_put (struct identity_table *t, const struct identity_entry *e);
/* Forget the last ones that were put. */
void identity_table_take_back (struct identity_table *t, uint32_t count);

#endif
