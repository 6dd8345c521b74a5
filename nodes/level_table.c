#include "level_table.h"
#include "topic.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Entry 0 is the root: always there, in no list. */
#define ROOT 0u
#define NONE UINT32_MAX

enum {
    LISTED_TIMES = 2,               /* a notice may be lost */
    LOOKED_AT_MAX = 1024            /* entries in one notice: the publisher's callers wait meanwhile */
};

struct entry {
    uint64_t last;                  /* no committed fact under this level lies above */
    uint64_t exact;                 /* the same for facts of exactly this topic; <= last */
    uint64_t floor;                 /* the same for every level below that is not in the table; <= last */
    uint64_t touched;               /* last sequence of the batch that it was last used in */
    uint64_t batch;                 /* the open batch's number when it is a topic there */
    char *name;
    uint32_t hash;
    uint32_t next;                  /* in the bucket, or in the list of free entries */
    uint32_t parent, children;
    uint32_t newer, older;          /* order of use */
    uint32_t index;                 /* place in the open batch */
    uint8_t len, depth;
    uint8_t untold;                 /* its last is to be listed so often yet, LISTED_TIMES at first */
};

struct open_topic {
    uint32_t entry;
    uint64_t last;
};

struct level_table {
    struct entry *entries;
    uint32_t *buckets;
    uint32_t size, used, max;       /* entries allocated, ever used, allowed */
    uint32_t free;
    uint32_t bucket_mask;
    uint32_t count;                 /* without the root */
    uint32_t newest, oldest;
    uint32_t cached;                /* the topic found last: facts come in runs of one topic */
    uint64_t committed;             /* last sequence of the batch that left last */
    uint64_t floor_max;             /* the highest last of all that was forgotten */
    uint64_t batch;
    uint32_t turn;                  /* the entry that is asked first whether it is to be listed */
    uint32_t open_count;
    struct open_topic open[LEVEL_BATCH_TOPICS_MAX];
};

/* ------------------------------------------------------------------ order of use */

static void list_remove (struct level_table *t, uint32_t i)
{
    struct entry *e = &t->entries[i];
    assert (e->newer != NONE);          /* the newest one stays where it is; and a full table has more than one */
    t->entries[e->newer].older = e->older;
    if (e->older == NONE)
        t->oldest = e->newer;
    else
        t->entries[e->older].newer = e->newer;
}

static void list_put_newest (struct level_table *t, uint32_t i)
{
    struct entry *e = &t->entries[i];
    e->newer = NONE;
    e->older = t->newest;
    if (t->newest == NONE)
        t->oldest = i;
    else
        t->entries[t->newest].newer = i;
    t->newest = i;
}

/* The topic first, its parents after it: so each parent ends up newer than its children. */
static void promote (struct level_table *t, uint32_t i)
{
    for (; i != ROOT; i = t->entries[i].parent) {
        t->entries[i].touched = t->committed;
        t->entries[i].untold = LISTED_TIMES;
        if (t->newest != i) {
            list_remove (t, i);
            list_put_newest (t, i);
        }
    }
}

/* ------------------------------------------------------------------ entries */

static uint32_t hash_of (struct fm_slice level)
{
    return (uint32_t) XXH3_64bits (level.data, level.len);
}

static bool entry_is (const struct entry *e, struct fm_slice level)
{
    return e->len == level.len && memcmp (e->name, level.data, level.len) == 0;
}

static uint32_t lookup (const struct level_table *t, struct fm_slice level, uint32_t hash)
{
    uint32_t i = t->buckets[hash & t->bucket_mask];
    while (i != NONE && !(t->entries[i].hash == hash && entry_is (&t->entries[i], level)))
        i = t->entries[i].next;
    return i;
}

static void unlink_bucket (struct level_table *t, uint32_t i)
{
    uint32_t *link = &t->buckets[t->entries[i].hash & t->bucket_mask];
    while (*link != i)
        link = &t->entries[*link].next;
    *link = t->entries[i].next;
}

/* Twice the entries, as many buckets. */
static int grow (struct level_table *t)
{
    uint32_t size = t->size < t->max / 2 ? t->size * 2 : t->max;
    struct entry *entries = realloc (t->entries, size * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    t->entries = entries;
    uint32_t bucket_count = t->bucket_mask + 1;
    while (bucket_count < size)
        bucket_count *= 2;
    uint32_t *buckets = malloc (bucket_count * sizeof *buckets);
    if (!buckets)
        return -ENOMEM;             /* the entries are larger than size says: harmless */
    free (t->buckets);
    t->buckets = buckets;
    t->bucket_mask = bucket_count - 1;
    t->size = size;
    for (uint32_t b = 0; b < bucket_count; b++)
        buckets[b] = NONE;
    for (uint32_t i = t->newest; i != NONE; i = entries[i].older) {
        entries[i].next = buckets[entries[i].hash & t->bucket_mask];
        buckets[entries[i].hash & t->bucket_mask] = i;
    }
    return 0;
}

/* Forget the least recently used level. Its last sequence goes on as a bound for what its parent does not know. */
static int evict (struct level_table *t)
{
    const uint32_t i = t->oldest;
    struct entry *e = &t->entries[i];
    if (i == NONE || e->children > 0 || e->batch == t->batch)
        return FM_ERR_FULL;
    struct entry *parent = &t->entries[e->parent];
    assert (e->last <= parent->last && e->floor <= e->last);
    if (parent->floor < e->last)
        parent->floor = e->last;
    if (t->floor_max < e->last)
        t->floor_max = e->last;
    parent->children--;
    list_remove (t, i);
    unlink_bucket (t, i);
    free (e->name);
    e->name = NULL;
    e->next = t->free;
    t->free = i;
    t->count--;
    if (t->cached == i)
        t->cached = NONE;
    return 0;
}

static int take_free (struct level_table *t, uint32_t *ret_i)
{
    if (t->free == NONE && t->used == t->size) {
        const int rc = t->size < t->max ? grow (t) : evict (t);
        if (rc)
            return rc;
    }
    if (t->free != NONE) {
        *ret_i = t->free;
        t->free = t->entries[*ret_i].next;
    } else {
        *ret_i = t->used++;
    }
    return 0;
}

static int add_child (struct level_table *t, uint32_t parent, struct fm_slice level, uint32_t *ret_i)
{
    char *name = malloc (level.len);
    if (!name)
        return -ENOMEM;
    memcpy (name, level.data, level.len);
    t->entries[parent].children++;  /* before room is made: not the parent's */
    uint32_t i = NONE;
    const int rc = take_free (t, &i);
    if (rc) {
        t->entries[parent].children--;
        free (name);
        return rc;
    }
    const struct entry *p = &t->entries[parent];
    const uint32_t hash = hash_of (level);
    t->entries[i] = (struct entry) {
        .last = p->floor,
        .exact = p->floor,
        .floor = p->floor,
        .touched = t->committed,
        .name = name,
        .hash = hash,
        .next = t->buckets[hash & t->bucket_mask],
        .parent = parent,
        .len = (uint8_t) level.len,
        .depth = (uint8_t) (p->depth + 1),
    };
    t->buckets[hash & t->bucket_mask] = i;
    list_put_newest (t, i);
    t->count++;
    *ret_i = i;
    return 0;
}

/* ------------------------------------------------------------------ public */

int level_table_new (size_t levels_max, uint64_t floor, struct level_table **ret_table)
{
    assert (levels_max >= LEVEL_TABLE_MIN && levels_max < UINT32_MAX / 2);
    enum { SIZE_FIRST = 64 };
    struct level_table *t = calloc (1, sizeof *t);
    if (!t)
        return -ENOMEM;
    t->entries = malloc (SIZE_FIRST * sizeof *t->entries);
    t->buckets = malloc (SIZE_FIRST * sizeof *t->buckets);
    if (!t->entries || !t->buckets) {
        level_table_destroy (&t);
        return -ENOMEM;
    }
    for (uint32_t b = 0; b < SIZE_FIRST; b++)
        t->buckets[b] = NONE;
    t->entries[ROOT] = (struct entry) { .last = floor, .floor = floor, .parent = NONE };
    t->size = SIZE_FIRST;
    t->used = 1;
    t->max = (uint32_t) levels_max + 1;
    t->bucket_mask = SIZE_FIRST - 1;
    t->free = t->newest = t->oldest = t->cached = NONE;
    t->committed = t->floor_max = floor;
    t->batch = 1;                   /* entries begin with batch 0: in none */
    *ret_table = t;
    return 0;
}

void level_table_destroy (struct level_table **table)
{
    struct level_table *t = *table;
    if (!t)
        return;
    for (uint32_t i = t->newest; t->entries && t->count && i != NONE; i = t->entries[i].older)
        free (t->entries[i].name);
    free (t->entries);
    free (t->buckets);
    free (t);
    *table = NULL;
}

bool level_table_find (struct level_table *t, struct fm_slice topic, uint32_t *ret_topic)
{
    if (t->cached == NONE || !entry_is (&t->entries[t->cached], topic)) {
        if (topic.len == 0)
            return false;
        const uint32_t i = lookup (t, topic, hash_of (topic));
        if (i == NONE)
            return false;
        t->cached = i;
    }
    *ret_topic = t->cached;
    return true;
}

int level_table_add (struct level_table *t, struct fm_slice topic, uint32_t *ret_topic)
{
    const unsigned depth = topic_depth (topic);
    assert (depth >= 1 && depth <= TOPIC_LEVELS_MAX);

    /* The deepest ancestor that is known, made the newest so that making room does not forget it. */
    uint32_t at = ROOT;
    unsigned known = depth;
    while (known > 0) {
        const struct fm_slice level = topic_level (topic, known);
        const uint32_t i = lookup (t, level, hash_of (level));
        if (i != NONE) {
            at = i;
            break;
        }
        known--;
    }
    promote (t, at);
    for (unsigned d = known + 1; d <= depth; d++) {
        const int rc = add_child (t, at, topic_level (topic, d), &at);
        if (rc) {
            promote (t, at);
            return rc;
        }
    }
    promote (t, at);
    t->cached = at;
    *ret_topic = at;
    return 0;
}

bool level_table_in_batch (const struct level_table *t, uint32_t topic, uint32_t *ret_index)
{
    const struct entry *e = &t->entries[topic];
    if (e->batch != t->batch)
        return false;
    *ret_index = e->index;
    return true;
}

uint32_t level_table_enter (struct level_table *t, uint32_t topic)
{
    struct entry *e = &t->entries[topic];
    assert (e->batch != t->batch && t->open_count < LEVEL_BATCH_TOPICS_MAX);
    e->batch = t->batch;
    e->index = t->open_count;
    promote (t, topic);
    t->open[t->open_count] = (struct open_topic) { .entry = topic };
    return t->open_count++;
}

void level_table_mark (struct level_table *t, uint32_t index, uint64_t seq)
{
    t->open[index].last = seq;
}

uint32_t level_table_open_count (const struct level_table *t)
{
    return t->open_count;
}

size_t level_table_header_bytes (const struct level_table *t, uint32_t topic, uint64_t first_seq)
{
    enum { TAGS_AND_LENGTHS_MAX = 16 };     /* of the topic, its name and its backs */
    const struct entry *e = &t->entries[topic];
    return TAGS_AND_LENGTHS_MAX + e->len + (e->depth + 1u) * bytes_varint_len (first_seq);
}

void level_table_describe (const struct level_table *t, uint64_t first_seq, struct batch_topic *ret_topics, uint8_t *backs)
{
    for (uint32_t i = 0; i < t->open_count; i++) {
        const struct entry *topic = &t->entries[t->open[i].entry];
        uint64_t last[TOPIC_LEVELS_MAX];
        const struct entry *e = topic;
        for (unsigned d = topic->depth; d > 0; d--) {
            last[d - 1] = e->last;
            e = &t->entries[e->parent];
        }
        uint8_t *p = backs;
        for (unsigned d = 0; d < topic->depth; d++) {
            assert (last[d] < first_seq);
            p = bytes_put_varint (p, first_seq - 1 - last[d]);
        }
        /* Facts below the topic came since: who takes the topic alone has missed nothing by them. */
        if (topic->exact < topic->last)
            p = bytes_put_varint (p, first_seq - 1 - topic->exact);
        ret_topics[i].name = slice (topic->name, topic->len);
        ret_topics[i].backs = slice (backs, (size_t) (p - backs));
        backs = p;
    }
}

void level_table_commit (struct level_table *t, uint64_t last_seq)
{
    assert (last_seq >= t->committed);
    t->committed = last_seq;
    for (uint32_t i = 0; i < t->open_count; i++) {
        const uint64_t last = t->open[i].last;
        t->entries[t->open[i].entry].exact = last;
        for (uint32_t at = t->open[i].entry; at != NONE; at = t->entries[at].parent) {
            if (t->entries[at].last < last)
                t->entries[at].last = last;
        }
        /* Once more, ahead of what was added since and did not get into the batch: level_table_recent
         * relies on `touched` falling along the list. */
        promote (t, t->open[i].entry);
    }
    t->open_count = 0;
    t->batch++;
}

void level_table_abandon (struct level_table *t)
{
    t->open_count = 0;
    t->batch++;
}

static struct level_mark list_entry (struct entry *e)
{
    if (e->untold)
        e->untold--;
    return (struct level_mark) { slice (e->name, e->len), e->last };
}

/* Of the others those in turn that changed since they were listed, a bounded number of entries further each time. */
static size_t list_others (struct level_table *t, uint64_t since, struct level_mark *ret_marks, size_t max)
{
    size_t n = 0;
    for (uint32_t looked = 0; looked < LOOKED_AT_MAX && looked < t->used && n < max; looked++) {
        if (t->turn >= t->used)
            t->turn = 0;
        struct entry *e = &t->entries[t->turn++];
        /* What was touched behind `since` is among the newest; what is free, and the root, has no name here. */
        if (e->name && e->untold && e->touched <= since)
            ret_marks[n++] = list_entry (e);
    }
    return n;
}

size_t level_table_recent (struct level_table *t, struct level_mark *ret_marks, size_t max, size_t max_others, uint64_t *ret_complete_since)
{
    assert (t->open_count == 0);
    size_t n = 0;
    uint32_t i = t->newest;
    for (; i != NONE && n < max; i = t->entries[i].older)
        ret_marks[n++] = list_entry (&t->entries[i]);

    /* Those left out were last used in the batch of the first of them or in earlier ones. */
    uint64_t since = t->floor_max;
    if (i != NONE && since < t->entries[i].touched)
        since = t->entries[i].touched;
    *ret_complete_since = since;
    return i == NONE ? n : n + list_others (t, t->entries[i].touched, ret_marks + n, max_others);
}

uint64_t level_table_last (const struct level_table *t, struct fm_slice level)
{
    if (level.len == 0)
        return t->entries[ROOT].last;
    uint32_t i = lookup (t, level, hash_of (level));
    if (i != NONE)
        return t->entries[i].last;
    for (unsigned d = topic_depth (level) - 1; d > 0 && i == NONE; d--) {
        const struct fm_slice ancestor = topic_level (level, d);
        i = lookup (t, ancestor, hash_of (ancestor));
    }
    return t->entries[i == NONE ? ROOT : i].floor;
}

size_t level_table_count (const struct level_table *t)
{
    return t->count;
}
