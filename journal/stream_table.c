#include "stream_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "bytes.h"
#include "checksum.h"

/* How many of the least recently used are asked whether they can go. */
enum { EVICT_TRIES = 64 };

int stream_table_init (struct stream_table *t, uint32_t max)
{
    uint32_t buckets = 16;
    while (buckets < max && buckets < UINT32_C (1) << 31)
        buckets *= 2;
    *t = (struct stream_table) {
        .max = max, .bucket_mask = buckets - 1, .hash_seed = id_random_u64 (), .complete = true
    };
    /* Untouched pages cost nothing: the bound is address space, not memory. */
    t->entries = calloc ((size_t) max + 1, sizeof *t->entries);
    t->buckets = calloc (buckets, sizeof *t->buckets);
    t->dirty = calloc (max, sizeof *t->dirty);
    t->listed = calloc (max, sizeof *t->listed);
    if (!t->entries || !t->buckets || !t->dirty || !t->listed) {
        stream_table_release (t);
        return -ENOMEM;
    }
    return 0;
}

void stream_table_release (struct stream_table *t)
{
    free (t->entries);
    free (t->buckets);
    free (t->dirty);
    free (t->listed);
    *t = (struct stream_table) { 0 };
}

static uint32_t number_of (const struct stream_table *t, const struct stream_entry *e)
{
    return (uint32_t) (e - t->entries);
}

static uint32_t *bucket_of (const struct stream_table *t, const struct fm_id *stream)
{
    return &t->buckets[checksum_seeded (stream->bytes, ID_LEN, t->hash_seed) & t->bucket_mask];
}

struct stream_entry *stream_table_find (const struct stream_table *t, const struct fm_id *stream)
{
    for (uint32_t i = *bucket_of (t, stream); i; i = t->entries[i].hash_next)
        if (id_equal (&t->entries[i].stream, stream))
            return &t->entries[i];
    return NULL;
}

static void age_link (struct stream_table *t, struct stream_entry *e)
{
    e->older = t->newest;
    e->newer = 0;
    if (t->newest)
        t->entries[t->newest].newer = number_of (t, e);
    t->newest = number_of (t, e);
    if (!t->oldest)
        t->oldest = t->newest;
}

static void age_unlink (struct stream_table *t, struct stream_entry *e)
{
    if (e->older)
        t->entries[e->older].newer = e->newer;
    else
        t->oldest = e->newer;
    if (e->newer)
        t->entries[e->newer].older = e->older;
    else
        t->newest = e->older;
}

void stream_table_use (struct stream_table *t, struct stream_entry *e)
{
    if (t->newest == number_of (t, e))
        return;
    age_unlink (t, e);
    age_link (t, e);
}

void stream_table_set_stale (struct stream_table *t, struct stream_entry *e, bool stale)
{
    if (stale && !e->stale)
        t->stale++;
    if (!stale && e->stale)
        t->stale--;
    e->stale = stale;
}

void stream_table_mark_stale (struct stream_table *t)
{
    for (uint32_t number = 1; number <= t->count; number++)
        if (t->entries[number].used)
            stream_table_set_stale (t, &t->entries[number], true);
}

static void forget (struct stream_table *t, struct stream_entry *e)
{
    stream_table_set_stale (t, e, false);
    const uint32_t number = number_of (t, e);
    uint32_t *link = bucket_of (t, &e->stream);
    while (*link != number)
        link = &t->entries[*link].hash_next;
    *link = e->hash_next;
    age_unlink (t, e);
    const bool listed = e->listed;          /* the list holds the number; the next stream at it inherits the place */
    *e = (struct stream_entry) { .listed = listed, .hash_next = t->free };
    t->free = number;
    t->live--;
}

static bool evict (struct stream_table *t)
{
    uint32_t number = t->oldest;
    for (int tries = 0; number && tries < EVICT_TRIES; tries++, number = t->entries[number].newer) {
        struct stream_entry *e = &t->entries[number];
        if (!e->dirty && e->synced_seq == e->last_seq) {
            forget (t, e);
            t->complete = false;
            return true;
        }
    }
    return false;
}

struct stream_entry *stream_table_add (struct stream_table *t, const struct fm_id *stream)
{
    assert (!stream_table_find (t, stream));
    if (!t->free && t->count == t->max && !evict (t))
        return NULL;
    uint32_t number = t->free;
    if (number)
        t->free = t->entries[number].hash_next;
    else
        number = ++t->count;
    struct stream_entry *e = &t->entries[number];
    const bool listed = e->listed;
    *e = (struct stream_entry) { .stream = *stream, .used = true, .listed = listed };
    uint32_t *bucket = bucket_of (t, stream);
    e->hash_next = *bucket;
    *bucket = number;
    age_link (t, e);
    t->live++;
    return e;
}

int stream_table_restore (struct stream_table *t, const struct stream_state *s)
{
    struct stream_entry *e = stream_table_find (t, &s->stream);
    if (!e)
        e = stream_table_add (t, &s->stream);
    if (!e)
        return -ENOMEM;
    stream_table_use (t, e);
    e->first_seq = s->first_seq;
    if (e->first_seq == 0)
        stream_table_set_stale (t, e, true);
    e->epoch = s->epoch;
    e->incarnation = s->incarnation;
    e->last_seq = e->synced_seq = e->told_seq = s->last_seq;
    e->last_offset = s->last_offset;
    e->closed = s->closed;
    e->written = *s;
    return 0;
}

void stream_table_written (struct stream_table *t, const struct stream_state *s)
{
    struct stream_entry *e = stream_table_find (t, &s->stream);
    assert (e);                             /* what is unsynced is never evicted */
    e->written = *s;
    if (!e->dirty) {
        e->dirty = true;
        t->dirty[t->dirty_count++] = number_of (t, e);
    }
}

uint32_t stream_table_sync (struct stream_table *t, uint32_t max)
{
    uint32_t taken = 0;
    for (; taken < max && t->dirty_count > 0; taken++) {
        const uint32_t number = t->dirty[--t->dirty_count];
        struct stream_entry *e = &t->entries[number];
        e->dirty = false;
        e->synced_seq = e->written.last_seq;
        if (!e->listed) {
            e->listed = true;
            t->listed[t->listed_count++] = number;
        }
    }
    return taken;
}

void stream_state_encode (uint8_t p[STREAM_SNAPSHOT_LEN], const struct stream_state *s)
{
    memcpy (p, s->stream.bytes, ID_LEN);
    bytes_put_u64le (p + 16, s->epoch);
    bytes_put_u64le (p + 24, s->incarnation);
    bytes_put_u64le (p + 32, s->first_seq);
    bytes_put_u64le (p + 40, s->last_seq);
    bytes_put_u64le (p + 48, s->last_offset);
}

void stream_state_decode (const uint8_t p[STREAM_SNAPSHOT_LEN], struct stream_state *ret_state)
{
    struct stream_state s = {
        .epoch = bytes_get_u64le (p + 16),
        .incarnation = bytes_get_u64le (p + 24),
        .first_seq = bytes_get_u64le (p + 32),
        .last_seq = bytes_get_u64le (p + 40),
        .last_offset = bytes_get_u64le (p + 48),
    };
    memcpy (s.stream.bytes, p, ID_LEN);
    *ret_state = s;
}

uint32_t stream_table_snapshot (const struct stream_table *t, bool closed, uint32_t *next, uint32_t max, uint8_t *p)
{
    uint32_t written = 0;
    for (; *next <= t->count && written < max; ++*next) {
        const struct stream_entry *e = &t->entries[*next];
        if (!e->used || e->written.last_seq == 0 || e->written.closed != closed)
            continue;
        struct stream_state s = e->written;
        s.first_seq = e->stale ? 0 : e->first_seq;
        stream_state_encode (p + (size_t) written * STREAM_SNAPSHOT_LEN, &s);
        written++;
    }
    return written;
}
