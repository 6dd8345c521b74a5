/* publisher_marks: how far each journal has a stream, and what follows from it for the journals that count. Pure.
 *
 * Thread:  one, or one lock: the publisher's.
 * Bounded: PUBLISHER_JOURNALS_MAX journals; without a list a further one takes the place of the one that has least. */

#ifndef FM_NODES_PUBLISHER_MARKS_H
#define FM_NODES_PUBLISHER_MARKS_H

#include "id.h"

enum { PUBLISHER_JOURNALS_MAX = 64 };

/* Cumulative: the last sequence that was … there; 0: none. */
struct mark {
    uint64_t received, written, synced;
};

struct publisher_marks {
    bool listed;                    /* the journals that count are those named: all of them; else any one */
    unsigned count;
    struct journal_mark {
        struct fm_id journal;
        uint64_t generation;
        bool heard;
        struct mark mark;
    } journals[PUBLISHER_JOURNALS_MAX];
};

/* journals: ids in text, commas between, or NULL: any one counts. FM_ERR_ARGUMENT with a detail. */
int publisher_marks_init (struct publisher_marks *m, const char *journals);

/* A journal tells how far it has the stream. sent: the last sequence that left; nobody can have more.
 * Returns 0; FM_ERR_UNKNOWN: that journal does not count; FM_ERR_MALFORMED: from the future, or a synced that fell in one generation; FM_ERR_LIMIT:
 * too many journals that have more. Then nothing has changed, and the detail says why. */
int publisher_marks_update (struct publisher_marks *m, const struct fm_id *journal, uint64_t generation, struct mark mark, uint64_t sent);

/* What the journals that count have: of those listed the least, else the most that any one has. */
struct mark publisher_marks_reached (const struct publisher_marks *m);

/* Of the journals listed the one that is furthest behind; NULL: any one counts. */
const struct journal_mark *publisher_marks_least (const struct publisher_marks *m);

#endif
