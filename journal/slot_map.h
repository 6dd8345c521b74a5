/* slot_map: from a 64-bit number to the slot of whatever has it. Open addressing, linear probing, no tombstones.
 *
 * Owns:    its table, which grows as needed; what lies in the slots is the caller's.
 * Thread:  one, or one lock.
 * Hostile: numbers are mixed with a random seed, since those that come from hashes of keys are chosen by others. */

#ifndef FM_JOURNAL_SLOT_MAP_H
#define FM_JOURNAL_SLOT_MAP_H

#include <stdbool.h>
#include <stdint.h>

struct slot_map {
    struct slot_map_item { uint64_t number; uint32_t slot; } *items;    /* slot 0: free */
    uint32_t count, size;               /* size: a power of two, or 0 */
    uint64_t seed;
};

void slot_map_init (struct slot_map *m);
void slot_map_release (struct slot_map *m);

/* The slot that has this number, 0: none. */
uint32_t slot_map_find (const struct slot_map *m, uint64_t number);
/* Put a number that is not there; slot is not 0. Returns 0 or -ENOMEM. */
int slot_map_put (struct slot_map *m, uint64_t number, uint32_t slot);
/* Take it away, if it is there. */
void slot_map_remove (struct slot_map *m, uint64_t number);

#endif
