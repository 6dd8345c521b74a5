#include "identity_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "checksum.h"

enum { SIZE_FIRST = 1024 };

/* next: of the same bucket; number + 1, 0: the last. */
struct identity_slot {
    struct identity_entry entry;
    uint32_t next;
};

void identity_hash (struct fm_slice identity, uint8_t ret_hash[IDENTITY_HASH_LEN])
{
    checksum_128 (identity.data, identity.len, ret_hash);
}

void identity_reader_init (struct identity_reader *r, const struct batch *b)
{
    batch_reader_init (&r->facts, b);
    batch_duplicates_init (&r->duplicates, b);
}

int identity_reader_next (struct identity_reader *r, struct identity_entry *ret_entry)
{
    struct fm_fact fact;
    while (batch_reader_next (&r->facts, &fact) == 0)
        if (fact.identity.len && !batch_duplicates_meet (&r->duplicates, fact.id.seq)) {
            identity_hash (fact.identity, ret_entry->hash);
            ret_entry->fact = fact.id;
            return 0;
        }
    return FM_ERR_END;
}

uint8_t *identity_entry_encode (uint8_t *p, const struct identity_entry *e)
{
    memcpy (p, e->hash, IDENTITY_HASH_LEN);
    memcpy (p + IDENTITY_HASH_LEN, e->fact.stream.bytes, ID_LEN);
    bytes_put_u64le (p + IDENTITY_HASH_LEN + ID_LEN, e->fact.seq);
    return p + IDENTITY_HASH_LEN + ID_LEN + 8;
}

void identity_entry_decode (const uint8_t *p, struct identity_entry *ret_entry)
{
    memcpy (ret_entry->hash, p, IDENTITY_HASH_LEN);
    memcpy (ret_entry->fact.stream.bytes, p + IDENTITY_HASH_LEN, ID_LEN);
    ret_entry->fact.seq = bytes_get_u64le (p + IDENTITY_HASH_LEN + ID_LEN);
}

void identity_table_init (struct identity_table *t, uint32_t max)
{
    assert (max > 0 && (max & (max - 1)) == 0);
    *t = (struct identity_table) { .max = max };
}

void identity_table_release (struct identity_table *t)
{
    free (t->slots);
    free (t->buckets);
    identity_table_init (t, t->max);
}

static uint32_t *bucket_of (const struct identity_table *t, const uint8_t *hash)
{
    return &t->buckets[bytes_get_u32le (hash) & (t->size - 1)];
}

const struct fm_fact_id *identity_table_find (const struct identity_table *t, const uint8_t hash[IDENTITY_HASH_LEN])
{
    if (t->count == 0)
        return NULL;
    for (uint32_t n = *bucket_of (t, hash); n; n = t->slots[n - 1].next) {
        const struct identity_entry *const e = &t->slots[n - 1].entry;
        if (memcmp (e->hash, hash, IDENTITY_HASH_LEN) == 0)
            return &e->fact;
    }
    return NULL;
}

static void chain (struct identity_table *t, uint32_t slot)
{
    uint32_t *const bucket = bucket_of (t, t->slots[slot].entry.hash);
    t->slots[slot].next = *bucket;
    *bucket = slot + 1;
}

static void unchain (struct identity_table *t, uint32_t slot)
{
    uint32_t *link = bucket_of (t, t->slots[slot].entry.hash);
    while (*link != slot + 1)
        link = &t->slots[*link - 1].next;
    *link = t->slots[slot].next;
}

/* Only a table that forgets has its first one elsewhere, and that is as large as it gets. */
static int grow (struct identity_table *t)
{
    const uint32_t first_size = t->max < SIZE_FIRST ? t->max : SIZE_FIRST, size = t->size ? 2 * t->size : first_size;
    assert (t->first == 0);
    struct identity_slot *slots = realloc (t->slots, size * sizeof *slots);
    if (slots)
        t->slots = slots;
    uint32_t *buckets = calloc (size, sizeof *buckets);
    if (!slots || !buckets) {
        free (buckets);
        return -ENOMEM;
    }
    free (t->buckets);
    t->buckets = buckets;
    t->size = size;
    for (uint32_t i = 0; i < t->count; i++)
        chain (t, i);
    return 0;
}

int identity_table_put (struct identity_table *t, const struct identity_entry *e)
{
    const int rc = t->count == t->size && t->size < t->max ? grow (t) : 0;
    if (rc)
        return rc;
    if (t->count == t->size) {
        unchain (t, t->first);
        t->first = (t->first + 1) & (t->size - 1);
        t->count--;
    }
    const uint32_t slot = (t->first + t->count) & (t->size - 1);
    t->slots[slot].entry = *e;
    chain (t, slot);
    t->count++;
    return 0;
}

void identity_table_take_back (struct identity_table *t, uint32_t count)
{
    for (; count > 0 && t->count > 0; count--)
        unchain (t, (t->first + --t->count) & (t->size - 1));
}
