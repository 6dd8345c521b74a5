/* covered: how far a replay is complete, stream by stream, since its last message. A small map whose entries lie in the
 * order in which they came, as a ReplayData carries them. No allocation.
 *
 * Bounded: COVERED_MAX streams: then the message goes, and the map is cleared. */

#ifndef FM_JOURNAL_COVERED_H
#define FM_JOURNAL_COVERED_H

#include "control.h"

enum { COVERED_MAX = 512, COVERED_SLOTS = 1024 };

struct covered {
    size_t count;
    struct replay_covered entries[COVERED_MAX];
    uint16_t slots[COVERED_SLOTS];              /* open addressing: index into entries plus 1; 0: free */
};

void covered_clear (struct covered *c);

/* The stream is complete through `through`; a smaller number than before changes nothing. False: no room for one more stream. */
bool covered_put (struct covered *c, const struct fm_id *stream, uint64_t through);

static inline bool covered_is_full (const struct covered *c)
{
    return c->count == COVERED_MAX;
}

#endif
