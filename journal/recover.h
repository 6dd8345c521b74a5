/* recover: read a segment that was never sealed (or whose sealing nothing confirms), tell what in it is whole, torn and
 * damaged, and make the rest of it good.
 *
 *     0      4096     snapshot_end        synced_pos (S)         end_pos (T)        data_end      the file's end
 *     | header | snapshots | records: synced | records: whole, unsynced | torn         | zeros      |
 *
 * S is the highest position that any record says was synced when it was written. What doesn't check below S is damage:
 * it stays, and is told. The first that doesn't check above S is where a crash cut the log: from there on it goes to
 * quarantine/, and is cut. What lies between S and T may be in the page cache alone (a failed fsync leaves clean pages
 * with data that the disk does not have), so it is written again, byte for byte in place, and synced before anybody
 * hears of it.
 *
 * Thread:  whoever opens the log. */

#ifndef FM_JOURNAL_RECOVER_H
#define FM_JOURNAL_RECOVER_H

#include "cursor_table.h"
#include "segment.h"
#include "segment_index.h"
#include "segment_scan.h"
#include "stream_table.h"

/* What the records add up to. */
struct recover_state {
    struct stream_table *streams;
    struct cursor_table *cursors;
    struct segment_index *index;            /* NULL: not wanted */
    uint64_t next_offset, last_time_ns;
};

struct recover_result {
    uint64_t synced_pos, end_pos, data_end;
    uint64_t file_len;
    uint64_t records;
    uint64_t damaged_ranges;
    bool snapshot_damaged;                  /* streams or cursors may be missing: begin with the segment before */
    bool marked;                            /* the last record is a sync mark */
};

/* Apply one checked record; body NULL: a batch whose body is damaged. -ENOMEM, or 0 (a body that makes no sense is
 * left out). */
int recover_apply (struct recover_state *state, const struct record *r, const uint8_t *body, uint64_t pos);

/* What is known of a segment beside its header. */
struct recover_bounds {
    uint64_t limit;                         /* the end of its records where a trailer tells, else UINT64_MAX */
    bool followed;                          /* by another segment, which is made when all of this one is synced: nothing in it is torn, but what may be
                                             * the rest of a footer */
};

/* Scan the segment and add its records up to end_pos to the state. Returns 0, -ENOMEM or -errno. */
int recover_scan (const struct fs *fs, int fd, const struct segment_header *h, struct recover_bounds bounds,
                  struct segment_scan *scan, struct recover_state *state, struct recover_result *ret_result);

/* Copy [from, to) of a segment into a new file of the quarantine directory, named by segment, position and `what`;
 * durable on return. Of one that failed nothing stays. */
int recover_quarantine (const struct fs *fs, int dir, int fd, uint64_t number, const char *what, uint64_t from,
                        uint64_t to);

/* Make [synced_pos, end_pos) durable. */
int recover_rewrite (const struct fs *fs, int fd, const struct recover_result *r);

/* Where the records that are left end. */
struct recover_end { uint64_t next_offset, last_time_ns; };

/* Cut the torn tail (copied away before). Where damage was found, what told that it lies below S may be cut with the tail: a sync mark,
 * written before, tells it to the next start. *ret_end_pos: behind the mark, or end_pos. */
int recover_cut (const struct fs *fs, int fd, const struct segment_header *h, const struct recover_end *end,
                 const struct recover_result *r, uint64_t *ret_end_pos);

#endif
