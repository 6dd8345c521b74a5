/* draft: a segment made anew, to take the place of a damaged or lost one: records as they were, records put back, snapshots
 * from what is known; then footer, sync, rename. Until the rename the old one stays as it is.
 *
 * Owns:    the file (segments/next.tmp) and a write buffer.
 * Thread:  one; the log is open and nobody appends.
 * Promise: a record that stays at its position is the same, byte for byte. Where one moves, all get new sums.
 * Bytes:   FORMAT.md. */

#ifndef FM_JOURNAL_DRAFT_H
#define FM_JOURNAL_DRAFT_H

#include "log_state.h"
#include "recover.h"

struct draft {
    struct log *log;
    struct segment out;
    uint8_t *buffer;                        /* written behind one another, not yet in the file */
    size_t len, capacity;
    uint8_t *record;                        /* one, while it is made */
    size_t record_size;
    /* What is no record goes in before the next record; at the end it is left out: the offsets tell. */
    int hole_fd;                            /* its bytes; -1 with a length: zeros */
    uint64_t hole_pos, hole_len;
    uint64_t facts;                         /* whole ones */
};

/* header: of the segment to be; snapshot_end 0: draft_snapshots sets it. */
int draft_init (struct draft *d, struct log *log, const struct segment_header *header);
void draft_release (struct draft *d);
/* Where the next record goes. */
uint64_t draft_pos (const struct draft *d);

/* Copy the record that scan_next returned, which was whole when the segment was examined. FM_ERR_CORRUPT: it is not any more. */
int draft_copy (struct draft *d, struct segment_scan *scan, bool same_salt);
/* Copy what lies at [pos, end) of fd: a good header with a damaged body. */
int draft_copy_damaged (struct draft *d, int fd, uint64_t pos, uint64_t end, bool same_salt);
/* Room for the body of a new record; then draft_put writes it. */
int draft_body (struct draft *d, uint32_t body_len, uint8_t **ret_body);
int draft_put (struct draft *d, const struct record *r);
/* What is lost, and nobody has: the bytes as they lie there; fd -1: none are left. */
int draft_hole (struct draft *d, int fd, uint64_t pos, uint64_t end);
/* Snapshots of the state; the header's snapshot_end lies behind them. */
int draft_snapshots (struct draft *d, const struct recover_state *state);

/* sealed: write the footer. Check what was written, sync, empty index/ (it follows from the log as it was), and put it in its place. */
int draft_publish (struct draft *d, bool sealed);

#endif
