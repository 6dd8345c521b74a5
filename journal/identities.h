/* identities: decides which facts of a batch repeat one that was recorded before, under the same identity (SPEC.md, "Identity").
 *
 * Owns:    the table of identities that are remembered.
 * Thread:  one: intake, or a repair.
 * Promise: of two facts with one identity, the second to be recorded is told to repeat the first, as long as fewer than IDENTITIES_MAX others came between
 *          and retention, or damage, has not taken the segment that tells of the first before a start. Nothing is read, and nothing kept, before the first
 *          batch with identities. */

#ifndef FM_JOURNAL_IDENTITIES_H
#define FM_JOURNAL_IDENTITIES_H

#include "identity_table.h"
#include "log.h"

struct identities {
    struct identity_table table;
    bool loaded;
    uint32_t put;                           /* by the last decision */
    uint8_t *run;                           /* what goes in front of the batch at hand */
    size_t run_size;
};

void identities_init (struct identities *x, uint32_t max);
void identities_release (struct identities *x);

static inline bool identities_concern (const struct batch *b)
{
    return b->features & 2;                 /* FEATURE_IDENTITY */
}

/* Learn what the log remembers; once, before the first decision. *ret_unread: segments that could not be read, whose identities are forgotten.
 * -ENOMEM: nothing was learnt, try again. */
int identities_load (struct identities *x, struct log *log, uint32_t *ret_unread);

/* The same of the segments below one that is repaired; and of a batch that is there already. -ENOMEM. */
int identities_load_below (struct identities *x, struct log *log, uint64_t segment);
int identities_learn (struct identities *x, const struct batch *b);

/* Decide about a batch that comes next in the log; it was checked, and says nothing itself (batch_strip_duplicates). *ret_front: what goes in front of it in
 * its record, empty where nothing is repeated; until the next call. *ret_count: how many facts. -ENOMEM: nothing was decided. */
int identities_decide (struct identities *x, const struct batch *b, struct fm_slice *ret_front, uint32_t *ret_count);
/* The batch was not recorded after all. */
void identities_undo (struct identities *x);

#endif
