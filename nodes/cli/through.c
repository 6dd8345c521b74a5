/* through: see through.h. */

#include "through.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"

enum { THROUGH_FIRST = 64 };

void through_release (struct through *t)
{
    free (t->slots);
    *t = (struct through){ 0 };
}

/* The stream's slot, or the free one where it belongs. At least one slot is free. */
static struct through_entry *find (const struct through *t, const struct fm_id *stream)
{
    size_t i = (size_t) id_hash (stream) & (t->size - 1);
    while (t->slots[i].seq && !id_equal (&t->slots[i].stream, stream))
        i = (i + 1) & (t->size - 1);
    return &t->slots[i];
}

uint64_t through_get (const struct through *t, const struct fm_id *stream)
{
    return t->size ? find (t, stream)->seq : 0;
}

static int grow (struct through *t)
{
    if (t->count >= THROUGH_STREAMS_MAX)
        return error_set (FM_ERR_LIMIT, "more than %d streams in one replay", THROUGH_STREAMS_MAX);
    struct through larger = { .count = t->count, .size = t->size ? t->size * 2 : THROUGH_FIRST };
    larger.slots = calloc (larger.size, sizeof *larger.slots);
    if (!larger.slots)
        return error_set (-ENOMEM, "no memory for %zu streams", larger.size);
    for (size_t i = 0; i < t->size; i++)
        if (t->slots[i].seq)
            *find (&larger, &t->slots[i].stream) = t->slots[i];
    free (t->slots);
    *t = larger;
    return 0;
}

int through_put (struct through *t, const struct fm_id *stream, uint64_t seq)
{
    if (seq == 0)
        return 0;
    if (t->count >= t->size / 2) {
        const int rc = grow (t);
        if (rc < 0)
            return rc;
    }
    struct through_entry *entry = find (t, stream);
    if (!entry->seq) {
        entry->stream = *stream;
        t->count++;
    }
    if (seq > entry->seq)
        entry->seq = seq;
    return 0;
}
