#include "covered.h"

#include <assert.h>

static_assert (COVERED_SLOTS >= 2 * COVERED_MAX && (COVERED_SLOTS & (COVERED_SLOTS - 1)) == 0, "probing needs free slots");

void covered_clear (struct covered *c)
{
    /* A few entries are the rule: forget them one by one rather than wipe all slots. */
    if (c->count > COVERED_MAX / 8)
        memset (c->slots, 0, sizeof c->slots);
    else
        for (size_t i = 0; i < c->count; i++)
            for (uint64_t at = id_hash (&c->entries[i].stream);; at++) {
                uint16_t *slot = &c->slots[at % COVERED_SLOTS];
                if (!*slot)
                    break;
                *slot = 0;
            }
    c->count = 0;
}

bool covered_put (struct covered *c, const struct fm_id *stream, uint64_t through)
{
    uint64_t at = id_hash (stream);
    for (; c->slots[at % COVERED_SLOTS]; at++) {
        struct replay_covered *entry = &c->entries[c->slots[at % COVERED_SLOTS] - 1];
        if (!id_equal (&entry->stream, stream))
            continue;
        if (through > entry->through)
            entry->through = through;
        return true;
    }
    if (covered_is_full (c))
        return false;
    c->entries[c->count++] = (struct replay_covered) { .stream = *stream, .through = through };
    c->slots[at % COVERED_SLOTS] = (uint16_t) c->count;
    return true;
}
