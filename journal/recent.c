#include "recent.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct recent {
    pthread_mutex_t lock;
    uint64_t first, end;            /* records [first, end) are here, each at its number modulo the size */
    struct recent_record records[RECENT_RECORDS];
};

int recent_new (struct recent **ret_recent)
{
    struct recent *r = calloc (1, sizeof *r);
    if (!r)
        return -ENOMEM;
    pthread_mutex_init (&r->lock, NULL);
    *ret_recent = r;
    return 0;
}

void recent_destroy (struct recent **recent)
{
    struct recent *r = *recent;
    if (!r)
        return;
    *recent = NULL;
    pthread_mutex_destroy (&r->lock);
    free (r);
}

static struct recent_record *at (struct recent *r, uint64_t number)
{
    return &r->records[number % RECENT_RECORDS];
}

void recent_add (struct recent *r, const struct recent_record *record)
{
    pthread_mutex_lock (&r->lock);
    /* Offsets that are missing here belong to no record that we know: what is older could not be passed over. */
    if (r->end > r->first && at (r, r->end - 1)->end_offset != record->offset)
        r->first = r->end;
    *at (r, r->end++) = *record;
    if (r->end - r->first > RECENT_RECORDS)
        r->first = r->end - RECENT_RECORDS;
    pthread_mutex_unlock (&r->lock);
}

/* The first one that ends above the offset. */
static uint64_t find (struct recent *r, uint64_t offset)
{
    uint64_t low = r->first, high = r->end;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (at (r, middle)->end_offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t recent_copy (struct recent *r, uint64_t offset, struct recent_record *ret, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock (&r->lock);
    uint64_t low = find (r, offset);
    if (low < r->end && at (r, low)->offset <= offset)
        while (low < r->end && count < max)
            ret[count++] = *at (r, low++);
    pthread_mutex_unlock (&r->lock);
    return count;
}

uint64_t recent_skip (struct recent *r, uint64_t offset, uint64_t features)
{
    pthread_mutex_lock (&r->lock);
    uint64_t n = find (r, offset);
    if (r->first < r->end && offset >= at (r, r->first)->offset)
        while (n < r->end && !(at (r, n)->features & features))
            offset = at (r, n++)->end_offset;
    pthread_mutex_unlock (&r->lock);
    return offset;
}
