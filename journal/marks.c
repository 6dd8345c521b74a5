#include "marks.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "error.h"

enum { SIZE_MIN = 64 };

struct mark {
    struct fm_id stream, node;
    uint32_t hash_next;             /* number of an entry; 0: none */
    uint32_t due_next;
    bool used, due;
    bool again;                     /* told, to be told once more */
};

struct marks {
    pthread_mutex_t lock;
    struct mark *entries;           /* [1, size) */
    uint32_t size, used_end, max;
    uint32_t free;                  /* list through hash_next */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint64_t seed;                  /* ids come from the wire: they could be chosen to collide */
    uint32_t due_first, due_last;
};

int marks_new (uint32_t max, struct marks **ret_marks)
{
    struct marks *m = calloc (1, sizeof *m);
    if (!m)
        return -ENOMEM;
    pthread_mutex_init (&m->lock, NULL);
    m->max = max;
    m->seed = id_random_u64 ();
    m->used_end = 1;
    uint32_t buckets = SIZE_MIN;
    while (buckets < max)
        buckets *= 2;
    m->bucket_mask = buckets - 1;
    m->buckets = calloc (buckets, sizeof *m->buckets);
    if (!m->buckets) {
        marks_destroy (&m);
        return -ENOMEM;
    }
    *ret_marks = m;
    return 0;
}

void marks_destroy (struct marks **marks)
{
    struct marks *m = *marks;
    if (!m)
        return;
    *marks = NULL;
    pthread_mutex_destroy (&m->lock);
    free (m->entries);
    free (m->buckets);
    free (m);
}

static uint32_t *bucket_of (const struct marks *m, const struct fm_id *stream)
{
    const uint64_t mixed = (id_hash (stream) ^ m->seed) * 0x9e3779b97f4a7c15u;
    return &m->buckets[(mixed >> 32) & m->bucket_mask];
}

static struct mark *find (const struct marks *m, const struct fm_id *stream)
{
    for (uint32_t i = *bucket_of (m, stream); i; i = m->entries[i].hash_next)
        if (id_equal (&m->entries[i].stream, stream))
            return &m->entries[i];
    return NULL;
}

static int take_free (struct marks *m, uint32_t *ret_index)
{
    if (m->free) {
        *ret_index = m->free;
        m->free = m->entries[m->free].hash_next;
        return 0;
    }
    if (m->used_end > m->max)
        return error_set (FM_ERR_LIMIT, "%u streams are being published: the limit", m->max);
    if (m->used_end >= m->size) {
        const uint32_t size = m->size ? m->size * 2 : SIZE_MIN;
        struct mark *grown = realloc (m->entries, size * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        m->entries = grown;
        m->size = size;
    }
    *ret_index = m->used_end++;
    return 0;
}

static void make_due (struct marks *m, struct mark *e)
{
    if (e->due)
        return;
    const uint32_t index = (uint32_t) (e - m->entries);
    e->due = true;
    e->due_next = 0;
    if (m->due_last)
        m->entries[m->due_last].due_next = index;
    else
        m->due_first = index;
    m->due_last = index;
}

int marks_own (struct marks *m, const struct fm_id *stream, const struct fm_id *node)
{
    pthread_mutex_lock (&m->lock);
    struct mark *e = find (m, stream);
    int rc = 0;
    if (!e) {
        uint32_t index = 0;
        rc = take_free (m, &index);
        if (!rc) {
            e = &m->entries[index];
            uint32_t *bucket = bucket_of (m, stream);
            *e = (struct mark) { .stream = *stream, .used = true, .hash_next = *bucket };
            *bucket = index;
        }
    }
    if (e) {
        e->node = *node;
        make_due (m, e);
    }
    pthread_mutex_unlock (&m->lock);
    return rc;
}

/* Out of the due list too: the list must not lead to an entry that is used anew. */
static void due_remove (struct marks *m, uint32_t index)
{
    uint32_t before = 0;
    for (uint32_t i = m->due_first; i && i != index; i = m->entries[i].due_next)
        before = i;
    const uint32_t next = m->entries[index].due_next;
    if (before)
        m->entries[before].due_next = next;
    else
        m->due_first = next;
    if (m->due_last == index)
        m->due_last = before;
}

void marks_disown (struct marks *m, const struct fm_id *stream)
{
    pthread_mutex_lock (&m->lock);
    uint32_t *link = bucket_of (m, stream);
    while (*link && !id_equal (&m->entries[*link].stream, stream))
        link = &m->entries[*link].hash_next;
    const uint32_t index = *link;
    if (index) {
        struct mark *e = &m->entries[index];
        if (e->due)
            due_remove (m, index);
        *link = e->hash_next;
        *e = (struct mark) { .hash_next = m->free };
        m->free = index;
    }
    pthread_mutex_unlock (&m->lock);
}

bool marks_owner (struct marks *m, const struct fm_id *stream, struct fm_id *ret_node)
{
    pthread_mutex_lock (&m->lock);
    const struct mark *e = find (m, stream);
    if (e)
        *ret_node = e->node;
    pthread_mutex_unlock (&m->lock);
    return e != NULL;
}

void marks_changed (struct marks *m, const struct fm_id *stream)
{
    pthread_mutex_lock (&m->lock);
    struct mark *e = find (m, stream);
    if (e) {
        e->again = true;
        make_due (m, e);
    }
    pthread_mutex_unlock (&m->lock);
}

void marks_node_up (struct marks *m, const struct fm_id *node)
{
    pthread_mutex_lock (&m->lock);
    for (uint32_t i = 1; i < m->used_end; i++)
        if (m->entries[i].used && id_equal (&m->entries[i].node, node))
            make_due (m, &m->entries[i]);
    pthread_mutex_unlock (&m->lock);
}

void marks_repeat (struct marks *m, bool all)
{
    pthread_mutex_lock (&m->lock);
    for (uint32_t i = 1; i < m->used_end; i++) {
        struct mark *e = &m->entries[i];
        if (e->used && (e->again || all))
            make_due (m, e);
        e->again = false;
    }
    pthread_mutex_unlock (&m->lock);
}

size_t marks_take (struct marks *m, struct mark_due *ret, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock (&m->lock);
    while (count < max && m->due_first) {
        struct mark *e = &m->entries[m->due_first];
        m->due_first = e->due_next;
        if (!m->due_first)
            m->due_last = 0;
        e->due = false;
        ret[count++] = (struct mark_due) { .node = e->node, .stream = e->stream };
    }
    pthread_mutex_unlock (&m->lock);
    return count;
}
