#include "slot_map.h"

#include <errno.h>
#include <stdlib.h>

#include "id.h"

enum { SIZE_MIN = 64 };

/* The finisher of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). */
static uint32_t home (const struct slot_map *m, uint64_t number)
{
    uint64_t z = number ^ m->seed;
    z = (z ^ z >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C (0x94d049bb133111eb);
    return (uint32_t) ((z ^ z >> 31) & (m->size - 1));
}

void slot_map_init (struct slot_map *m)
{
    *m = (struct slot_map) { .seed = id_random_u64 () };
}

void slot_map_release (struct slot_map *m)
{
    free (m->items);
    *m = (struct slot_map) { .items = NULL };
}

/* Where the number is, or the free place where it would be. */
static uint32_t place (const struct slot_map *m, uint64_t number)
{
    uint32_t at = home (m, number);
    while (m->items[at].slot && m->items[at].number != number)
        at = (at + 1) & (m->size - 1);
    return at;
}

uint32_t slot_map_find (const struct slot_map *m, uint64_t number)
{
    return m->size ? m->items[place (m, number)].slot : 0;
}

static int grow (struct slot_map *m)
{
    struct slot_map bigger = { .count = m->count, .size = m->size ? 2 * m->size : SIZE_MIN, .seed = m->seed };
    bigger.items = calloc (bigger.size, sizeof *bigger.items);
    if (!bigger.items)
        return -ENOMEM;
    for (uint32_t i = 0; i < m->size; i++)
        if (m->items[i].slot)
            bigger.items[place (&bigger, m->items[i].number)] = m->items[i];
    free (m->items);
    *m = bigger;
    return 0;
}

int slot_map_put (struct slot_map *m, uint64_t number, uint32_t slot)
{
    if (m->count >= m->size / 2) {
        const int rc = grow (m);
        if (rc)
            return rc;
    }
    m->items[place (m, number)] = (struct slot_map_item) { .number = number, .slot = slot };
    m->count++;
    return 0;
}

void slot_map_remove (struct slot_map *m, uint64_t number)
{
    if (!m->size)
        return;
    uint32_t hole = place (m, number);
    if (!m->items[hole].slot)
        return;
    /* Whoever stands behind the hole, and would be found missing through it, moves into it (Knuth, vol. 3, 6.4, algorithm R). */
    const uint32_t mask = m->size - 1;
    for (uint32_t at = (hole + 1) & mask; m->items[at].slot; at = (at + 1) & mask) {
        const uint32_t from = home (m, m->items[at].number);
        if (((at - from) & mask) >= ((at - hole) & mask)) {
            m->items[hole] = m->items[at];
            hole = at;
        }
    }
    m->items[hole].slot = 0;
    m->count--;
}
