/* replay_last: where the last n matching facts begin. The log has no way back, so a span before the end is counted, and a larger one
 * when it held too few; then the place is looked for in the span that held enough. Work is done in shares.
 *
 * Thread:  that of the reader. */

#ifndef FM_JOURNAL_REPLAY_LAST_H
#define FM_JOURNAL_REPLAY_LAST_H

#include "log.h"

enum { REPLAY_LAST_SPAN_MIN = 1024, REPLAY_LAST_SPAN_GROWTH = 8 };

struct replay_last {
    uint64_t want;                              /* matching facts before `end` */
    uint64_t floor, end;                        /* offsets: the oldest held, and where the search ends */
    uint64_t from;                              /* the span is [from, end) */
    uint64_t next;                              /* not placed: where in it to go on */
    uint64_t seen;                              /* matches counted in it */
    uint64_t skip;                              /* finding: matches to pass over */
    bool placed, finding;
};

/* The end is exclusive; want is at least 1. */
void replay_last_init (struct replay_last *l, uint64_t want, uint64_t floor, uint64_t end);

/* One share of the work, with a reader that has the patterns as its filter. Returns 0: *ret_offset is where the facts begin (the end,
 * when none matches); -EAGAIN: call again; or the reader's error. */
int replay_last_step (struct replay_last *l, struct log_reader *reader, const struct fm_slice *patterns, size_t count,
                      struct batch_scratch *scratch, uint64_t *ret_offset);

/* The reader goes: the next step goes on with another one where this one stands. */
void replay_last_rest (struct replay_last *l, const struct log_reader *reader);

#endif
