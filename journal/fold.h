/* fold: a cursor's place in the log. A cursor is a base (all offsets below are done) and, for the streams that are ahead of it, the
 * sequence up to which they are done. Folding moves the base over what the positions say is done, and drops the positions that then say
 * nothing any more: so a cursor stays as small as the number of streams that are under way.
 *
 * Thread:  the server thread, with a reader of its own. */

#ifndef FM_JOURNAL_FOLD_H
#define FM_JOURNAL_FOLD_H

#include "control.h"
#include "log.h"
#include "recent.h"

/* What one fold reads of the log at most: the rest is done by the next put. Any lower base is right too, it only costs a replay more. */
enum { FOLD_RECORDS_MAX = 4096, FOLD_BYTES_MAX = 8 << 20 };

struct fold_position {
    struct fm_id stream;
    uint64_t seq;                   /* done through this one */
};

/* Sorted by stream, each stream once. */
struct fold_positions {
    struct fold_position *items;
    size_t count;
};

/* Copy and sort a cursor's positions; of one that is listed twice the larger counts. FM_ERR_MALFORMED (an id that is none),
 * FM_ERR_LIMIT (more than CURSOR_POSITIONS_MAX), -ENOMEM. */
int fold_positions_copy (const Factmesh__Cursor *cursor, struct fold_positions *ret_positions);
void fold_positions_release (struct fold_positions *p);

/* 0 when the stream is not listed. */
uint64_t fold_positions_get (const struct fold_positions *p, const struct fm_id *stream);

/* The smallest offset >= base with something undone, `synced` at most, or as far as the bounds above lead. What is recent is not read. Stops at a
 * gap that names no stream: whoever resumes there must be told of it. The reader is placed anew. Returns 0 or the reader's error. */
int fold_base (struct log_reader *reader, struct recent *recent, const struct fold_positions *positions, uint64_t base, uint64_t synced,
               uint64_t *ret_base);

/* Drop the positions that say nothing above `base`: the stream's records all lie below it, and none is expected that is done already. */
void fold_trim (struct fold_positions *p, struct log *log, uint64_t base);

#endif
