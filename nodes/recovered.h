/* recovered: which of the facts that came back from a window on disk do journals have? Pure.
 *
 * A mark is cumulative, and passes what a journal has told as a gap. So it says nothing of facts below the epoch: while their publisher was away a
 * journal may have given them up. It is asked for its gaps (a replay of the range), and only what it answers counts.
 *
 *     [first_seq, end_seq) came back;   of each journal [first_seq, checked_end) is known: gaps, and what it has between them
 *
 * Thread:  one, or one lock: the publisher's.
 * Bounded: PUBLISHER_JOURNALS_MAX journals, RECOVERED_GAPS_MAX gaps of each; of more, what lies between the last ones counts as gap: told as lost
 *          though the journal has it, rather than the other way round. */

#ifndef FM_NODES_RECOVERED_H
#define FM_NODES_RECOVERED_H

#include <stddef.h>

#include "publisher_marks.h"

enum { RECOVERED_GAPS_MAX = 1024 };

struct recovered_range {
    uint64_t first_seq, end_seq;
};

struct recovered_journal {
    struct fm_id journal;
    uint64_t generation;
    bool there;                     /* is a member now */
    uint64_t checked_end;
    struct recovered_range *gaps;   /* ascending, apart from each other */
    size_t gap_count, gap_size;
};

struct recovered {
    uint64_t first_seq, end_seq;
    unsigned listed;                /* so many journals count, all of them; 0: any one */
    unsigned count;
    struct recovered_journal journals[PUBLISHER_JOURNALS_MAX];
};

/* range: from the first to behind the last fact that came back. */
void recovered_init (struct recovered *r, struct recovered_range range, const struct publisher_marks *marks);
void recovered_release (struct recovered *r);

/* Journals that have told a mark, from the marks: new ones come, one of another generation begins anew, one that gave its place up goes. */
void recovered_journals (struct recovered *r, const struct publisher_marks *marks);

/* The next question: *ret_range of a journal that is there and whose mark says more than is known of it; none: false. `from` is the place to begin looking
 * at, so that a silent one does not keep the others from being asked. What it told above checked_end, in an answer that came to no end, is forgotten. */
bool recovered_question (struct recovered *r, const struct publisher_marks *marks, unsigned from, unsigned *ret_journal, struct recovered_range *ret_range);

/* An answer, in order: gaps, and then how far it is complete. -ENOMEM: not taken, and what follows must not be either. */
int recovered_gap (struct recovered *r, unsigned journal, struct recovered_range gap);
void recovered_checked (struct recovered *r, unsigned journal, uint64_t end_seq);

enum recovered_verdict {
    RECOVERED_OPEN,                 /* not known yet */
    RECOVERED_SYNCED,               /* the journals that count have all of it */
    RECOVERED_LOST                  /* a journal of the list has given up some of it; without a list: all that are there and spoke have */
};
enum recovered_verdict recovered_verdict (const struct recovered *r, struct recovered_range range);

#endif
