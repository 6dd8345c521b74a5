/* group_finished: under which token a fact was done, of those that somebody else may still take for his.
 *
 * Who comes anew says what he held (group_state_hold). What has no entry any more is done, by him, who only missed the journal's word, or by another who
 * got it meanwhile: the token tells. A claim is made within a lease of losing the journal, so that an entry is kept that long.
 *
 * Bounded: the last GROUP_FINISHED_MAX; one that was pushed out sooner counts as done by whoever claims it.
 * Thread:  the group's. Pure. */

#ifndef FM_JOURNAL_GROUP_FINISHED_H
#define FM_JOURNAL_GROUP_FINISHED_H

#include <stdint.h>

enum { GROUP_FINISHED_MAX = 8192 };

/* Zeros: none. */
struct group_finished {
    struct finished { uint64_t offset, token, until; } *items;     /* ring; there once something was kept */
    uint32_t next, count;
};

/* Keep it until then; without memory it is left out. */
void group_finished_keep (struct group_finished *f, uint64_t offset, uint64_t token, uint64_t until);
/* The token under which it was done last; 0: not known (any more). */
uint64_t group_finished_find (const struct group_finished *f, uint64_t offset, uint64_t now);
void group_finished_release (struct group_finished *f);

#endif
