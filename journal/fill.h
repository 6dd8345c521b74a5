/* fill: which of the refetched parts goes into which hole of a segment, at which offset.
 *
 * A hole took a known number of offsets, and who lost sequences in it is known (log_lost). What is put there must give every offset that
 * the hole had, no more and no less: cursors hold offsets. Each stream's parts go in sequence order. Of several streams the order among
 * them is lost with the hole, save where something of it can still be read: a stream and sequence in a header, a body's sum. Where every
 * choice was forced or can still be read, the hole is `proven`: each fact has its old offset. Else the parts go by their publishers' times,
 * and a cursor that stands within the hole would mean other facts than it did: such a hole is left alone.
 *
 * Thread:  one. Writes nothing. */

#ifndef FM_JOURNAL_FILL_H
#define FM_JOURNAL_FILL_H

#include "refetch.h"

/* A part in its place. */
struct fill_put {
    size_t range, part;
    uint64_t offset;
    uint64_t time_ns, synced_pos;           /* as its old header says, or as the record before it */
};

enum fill_outcome {
    FILL_NOTHING,                           /* nothing of it was found */
    FILL_WHOLE,
    FILL_PARTLY,                            /* some of it is missing still */
    FILL_CURSOR,                            /* not filled: a cursor stands within */
    FILL_UNFIT                              /* not filled: what was found does not fit its offsets */
};

struct fill_hole {
    uint64_t pos, end_pos;                  /* in the damaged file; end_pos UINT64_MAX: its end */
    uint64_t first_offset, end_offset;
    uint64_t time_ns, end_time_ns;          /* of the records around it */
    uint64_t synced_pos;                    /* of the record before it */
    bool owns;                              /* it is one record with a good header: of this range alone */
    size_t range;

    enum fill_outcome outcome;
    bool proven;
    size_t first_put, end_put;
};

struct fill {
    struct refetch *refetch;
    int fd;                                 /* the damaged file; -1: there is none */
    /* Does a cursor stand within these offsets? */
    bool (*is_within) (void *arg, uint64_t first_offset, uint64_t end_offset);
    void *arg;
    struct fill_hole *holes;                /* in order */
    size_t hole_count, hole_size;
    struct fill_put *puts;
    size_t put_count, put_size;
};

void fill_release (struct fill *f);
/* -ENOMEM. */
int fill_add (struct fill *f, const struct fill_hole *hole);
/* Decide for all holes. 0, -ENOMEM or -errno. */
int fill_holes (struct fill *f);

#endif
