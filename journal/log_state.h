/* log_state: what is behind struct log; for the log's own files alone.
 *
 * Locks, in the order in which they may nest: cursor, append, index, view. Each is short; none is held over a system
 * call.
 *   append  what appenders touch: the filling buffer, the next offset, the stream table
 *   index   the active segment's index: the sync thread adds, readers look up
 *   view    what everybody may know: how far the log is written and synced, the oldest segment
 *   cursor  the cursor table
 * What has no lock belongs to the sync thread. */

#ifndef FM_JOURNAL_LOG_STATE_H
#define FM_JOURNAL_LOG_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cookie.h"
#include "cursor_table.h"
#include "log.h"
#include "recover.h"
#include "segment.h"
#include "segment_index.h"
#include "segment_scan.h"
#include "stream_table.h"

enum {
    LOG_WRITE_CHUNK = 1 << 20,              /* stamped and written at a time: stays in the cache between the two */
    LOG_SNAPSHOT_BODY = 64 << 10,           /* of one snapshot record; one larger cursor makes one larger record */
    LOG_STREAMS_PER_LOCK = 256              /* entries handled before the append lock is let go for others */
};

/* Records one behind the other, as on disk, their sums and positions still missing. */
struct log_buffer {
    uint8_t *bytes;
    size_t len, capacity;
    uint64_t end_ticket;
};

struct log_view {
    uint64_t first_number, first_offset;    /* the oldest segment, and its base */
    uint64_t first_prior_bytes;
    uint64_t active_number;
    uint64_t active_prior_bytes;
    uint64_t written_pos, synced_pos;       /* in the active segment */
    uint64_t written_offset, synced_offset;
};

/* What a start does for the log to be written on (log_start.c). Sync thread, but for `held`. */
enum log_start_step { LOG_START_TORN, LOG_START_CUT, LOG_START_BEHIND, LOG_START_AWAY, LOG_START_STEPS };

struct log_start {
    atomic_bool held;                       /* it is not done, for want of room: nothing is taken */
    enum log_start_step step, end;          /* the next one; behind the last one */
    struct recover_result result;           /* of the last segment that can be read */
    uint64_t last, behind;                  /* its number, 0: none; that of the segment to be made behind it */
    uint64_t lost_first, lost_offsets;      /* the first that cannot be read; what they can have held */
};

struct log {
    const struct fs *fs;
    const struct clock *clock;
    struct log_options options;             /* with the defaults filled in; mesh points into the cookie */
    struct cookie cookie;
    char *directory;
    int dir, lock, segments, quarantine;    /* descriptors; -1: none */
    uint64_t first_number, last_number;     /* the lowest and the highest that a segment's file bore at the start */
    atomic_bool failed;                     /* a write or sync failed for good */

    pthread_mutex_t append_lock;
    pthread_cond_t appended;
    bool waiting, woken;
    struct log_buffer filling;
    uint64_t next_offset, last_time_ns, tickets;
    struct stream_table streams;

    struct log_buffer flushing;
    size_t flush_written, flush_stamped;    /* of it: in the file; ready for the file */
    uint64_t stamped_offset, stamped_time_ns;
    uint64_t written_offset, written_time_ns, written_ticket;
    struct segment active;
    struct log_start start;
    uint64_t first_file;                    /* number of the oldest file: what is below the view's first_number is still to be removed */
    bool marked;                            /* the last record is a sync mark */
    uint32_t *touched;                      /* streams of the index with stamped records that are not written */
    uint8_t *touched_marks;
    uint32_t touched_count;
    _Atomic uint64_t synced_ticket;

    pthread_mutex_t index_lock;
    struct segment_index *index;
    uint64_t index_number;                  /* the segment that it is of */

    pthread_mutex_t view_lock;
    struct log_view view;

    pthread_mutex_t cursor_lock;
    struct cursor_table cursors;            /* as put; durable_cursors: as on disk, which is what is told */
    struct cursor_table durable_cursors;
    struct cursor_change *changes, **changes_end;   /* between the two, oldest first */
};

/* --- log.c */
void log_view_get (struct log *log, struct log_view *ret_view);
/* The same, after a segment was not there: in a log that is open read-only the journal's own retention may have gone
 * on. */
void log_view_refresh (struct log *log, struct log_view *ret_view);
/* Remember that nothing may be written any more, with a detail of what failed on what. Returns rc. */
int log_fail (struct log *log, int rc, const char *what);

bool log_is_out_of_room (int rc);
/* DIRECTORY/name, made if it is not there. */
int log_open_sub_directory (struct log *log, const char *name, int *ret_fd);

struct segment_range {
    uint64_t first, last;                   /* 0: none */
};
/* The oldest segment whose header can be read. */
int log_first_header (struct log *log, const struct segment_range *range, struct segment_header *ret_header);

/* --- log_start.c */
/* Give segments up until the last one can be read, make it good, and go on behind them all. Where that needs room that is not there, the log
 * is held. Returns 0, or with a detail why not. */
int log_recover (struct log *log, struct segment_range range, struct log_recovery *recovery);
/* Of a log that is held: try again. Sync thread. 0: it is not any more. */
int log_start_go_on (struct log *log);

/* --- log_append.c; all with the append lock. */
/* Room for a record at the filling buffer's end. Returns 0, FM_ERR_FULL or -ENOMEM. */
int log_reserve (struct log *log, uint32_t body_len, uint8_t **ret_bytes);
/* The record that was put there is complete. */
void log_commit (struct log *log, const struct record *r);
/* Now, but never before the last record. */
uint64_t log_journal_time (const struct log *log, uint64_t now_ns);

/* --- log_cursor.c */
/* What was recovered is durable. -ENOMEM. */
int log_cursors_recovered (struct log *log);
void log_cursors_release (struct log *log);

/* --- log_write.c */
/* Make the log's first or next segment, with snapshots of the streams and cursors, and go on there. prior_bytes: the
 * lengths of all before. *ret_final: the failure leaves the disk in doubt. */
int log_start_segment (struct log *log, uint64_t number, uint64_t created_ns, uint64_t prior_bytes, bool *ret_final);

/* --- log_stream.c */
/* Find a stream, in the footers if it may have been forgotten. Called and returns with the append lock held, but lets
 * it go for a footer.
 * Returns 0, FM_ERR_UNKNOWN or -errno. */
int log_stream_find (struct log *log, const struct fm_id *stream, struct stream_entry **ret_entry);

/* --- log_segment.c: sealed segments, looked at from any thread. */
struct log_segment_view {
    int fd;
    struct segment_header header;
    bool sealed;                            /* the trailer is good */
    struct segment_trailer trailer;
    uint64_t end_pos;                       /* of the records; the file's end where no trailer tells */
};
/* Open segment `number` as of the view. FM_ERR_CORRUPT: its header is; -ENOENT: it is not there. */
int log_segment_open (struct log *log, const struct log_view *view, uint64_t number,
                      struct log_segment_view *ret_segment);
void log_segment_close (struct log *log, struct log_segment_view *segment);
/* The streams of a segment that is not active, in id order; from its footer, or where that is damaged by a scan. To
 * be freed. */
int log_segment_streams (struct log *log, const struct log_segment_view *s, struct index_stream **ret_streams,
                         uint32_t *ret_count);
/* The same of any segment, in no order. */
int log_segment_all_streams (struct log *log, const struct log_view *view, uint64_t number,
                             struct index_stream **ret_streams, uint32_t *ret_count);
/* Positions of any segment. To be freed. */
int log_segment_positions (struct log *log, const struct log_view *view, uint64_t number,
                           struct index_position **ret_positions, uint32_t *ret_count);
/* A segment's entry of a stream, the active one's included. FM_ERR_UNKNOWN: it has none, or the segment is lost. */
int log_segment_stream (struct log *log, const struct log_view *view, uint64_t number, const struct fm_id *stream,
                        struct index_stream *ret_stream);
/* The last indexed position whose offset is at or below, or whose time is below, the value; 0: start at the first
 * record. */
int log_segment_pos_by_offset (struct log *log, const struct log_view *view, uint64_t number, uint64_t offset,
                               uint64_t *ret_pos);
int log_segment_pos_by_time (struct log *log, const struct log_view *view, uint64_t number, uint64_t time_ns,
                             uint64_t *ret_pos);
/* Rebuild an index by a scan of [SEGMENT_RECORDS_POS, end_pos). *ret_index is to be destroyed. */
int log_segment_scan_index (struct log *log, const struct log_segment_view *s, struct segment_index **ret_index,
                            uint64_t *ret_records_end);

/* --- log_lost.c: whose facts a hole hid, as the records around it tell. */
struct log_life {
    uint64_t epoch, incarnation;            /* epoch 0: not known */
    bool closed;                            /* it is not taken again */
};
struct log_lost {
    struct fm_id stream;
    uint64_t first_seq, end_seq;
    uint64_t after_pos, before_pos;         /* the stream's records around it; 0 and UINT64_MAX: none in this segment */
    struct log_life after, before;          /* theirs */
};
struct log_lost_list {
    struct log_lost *items;
    size_t count, size;
};
enum { LOG_LOST_MAX = 65536 };              /* of one segment; beyond, a range of offsets has to do */
void log_lost_release (struct log_lost_list *list);
/* -ENOMEM, or 0: a full list takes no more. */
int log_lost_add (struct log_lost_list *list, const struct log_lost *lost);
/* The sequences that segment `number` should hold and does not. Returns 0, -ENOMEM or -errno. */
int log_lost_in (struct log *log, const struct log_view *view, uint64_t number, struct log_lost_list *list);
/* The sequences that lay between what can be read of these two segments: in lost ones, or at the cut end of the
 * first; after_pos is a position in that one, 0 where it is not known. `list` is empty before. */
int log_lost_between (struct log *log, const struct log_view *view, uint64_t before, uint64_t after,
                      struct log_lost_list *list);

/* --- log_segment.c, too. The last segment that may hold the offset (or what is at or after the time): the last
 * whose base is not above it. 0: all are. */
int log_segment_by_offset (struct log *log, const struct log_view *view, uint64_t offset, uint64_t *ret_number);
int log_segment_by_time (struct log *log, const struct log_view *view, uint64_t time_ns, uint64_t *ret_number);

#endif
