/* recent: what was appended last, record by record, without its bytes: cursors of subscribers that live at the head are folded over it, instead of
 * each reading the log anew.
 *
 * Thread:  intake adds, the server copies out; one short lock.
 * Bounded: RECENT_RECORDS; the oldest give way. */

#ifndef FM_JOURNAL_RECENT_H
#define FM_JOURNAL_RECENT_H

#include <stdbool.h>

#include "id.h"

enum { RECENT_RECORDS = 65536 };

struct recent_record {
    struct fm_id stream;
    uint64_t first_seq, end_seq;
    uint64_t offset, end_offset;
    uint64_t features;                  /* of the batch; of a gap 0 */
};

struct recent;

int recent_new (struct recent **ret_recent);
void recent_destroy (struct recent **recent);

/* Offsets grow from one to the next. */
void recent_add (struct recent *r, const struct recent_record *record);

/* Copy out up to max records, beginning with the one that holds this offset; returns how many: 0 when it is too old, or not there yet. */
size_t recent_copy (struct recent *r, uint64_t offset, struct recent_record *ret, size_t max);

/* The first offset at or above this one whose record has one of the features: all between have none of them. The end of what was appended when there is
 * none; `offset` itself when it is too old to tell. */
uint64_t recent_skip (struct recent *r, uint64_t offset, uint64_t features);

#endif
