/* log: the journal's one ordered log: segments in a directory, what is written and what is synced.
 *
 * Owns:    the directory's lock and cookie, the active segment and its write buffer, the stream table, the cursors.
 * Threads: log_append* by any thread (one short lock: check, checksum, copy into the buffer); log_write and log_sync
 *          by the sync thread alone; readers (log_reader) by any thread, each its own. Appending never waits for a
 *          sync.
 * Promise: what lies below log_synced survives power loss, byte for byte. FORMAT.md has every byte; README.md the life
 *          of a fact.
 * Knows nothing of ZeroMQ. */

#ifndef FM_JOURNAL_LOG_H
#define FM_JOURNAL_LOG_H

#include "batch.h"
#include "clock.h"
#include "fs.h"
#include "identity_table.h"

struct log;                                 /* opaque */

enum {
    LOG_SEGMENT_BYTES_DEFAULT = 128 << 20,
    LOG_SEGMENT_BYTES_MIN = 1 << 20,
    LOG_SEGMENT_AGE_MS_DEFAULT = 24 * 60 * 60 * 1000,
    LOG_BUFFER_BYTES_DEFAULT = 16 << 20,
    LOG_BUFFER_BYTES_MIN = 64 << 10,
    LOG_BUFFER_BYTES_MAX = 1 << 30,
    LOG_STREAMS_MAX_DEFAULT = 65536,
    LOG_STREAMS_MAX_LIMIT = 1 << 24,
    LOG_CURSORS_MAX_DEFAULT = 4096,
    LOG_CURSORS_MAX_LIMIT = 1 << 20
};
#define LOG_SEGMENT_BYTES_MAX (UINT64_C (4) << 30)

struct log_options {
    const char *mesh;                       /* NULL or "": take the cookie's; a new directory needs one */
    uint64_t segment_bytes;                 /* roll at; 0: the default; its snapshots and footer come on top */
    uint64_t segment_age_ms;                /* roll at; 0: never (programs give LOG_SEGMENT_AGE_MS_DEFAULT) */
    uint64_t retain_bytes;                  /* 0: keep all */
    uint64_t retain_age_ms;                 /* 0: keep all */
    uint64_t buffer_bytes;                  /* write buffer (there are two); 0: the default; beyond: FM_ERR_FULL */
    uint32_t streams_max;                   /* in memory; 0: the default; others are looked up in the footers */
    uint32_t cursors_max;                   /* 0: the default */
    bool read_only;                         /* for inspect, verify, dump: no lock, nothing is written or recovered */
    const struct fs *fs;                    /* NULL: the real one */
    const struct clock *clock;              /* NULL: the real one */
};

/* What recovery did, for the log line. */
struct log_recovery {
    bool created;
    uint64_t segments;
    uint64_t torn_bytes;                    /* cut from the tail, moved to quarantine/ */
    uint64_t damaged_ranges;
    uint64_t tail_records;                  /* read again at start */
    bool waits_for_room;                    /* the disk is full: the rest is done by log_write, and nothing is taken before */
};

/* Open or create a data directory and recover its tail: a torn tail is copied to quarantine/ and cut, the rest of
 * the unsynced tail is made durable before this returns. A journal always starts: damage is quarantined and told; where the disk has no room
 * for that, what is durable is served, and appending is FM_ERR_FULL until log_write finds room. -ENOSPC all the same: on a file system that does not write in
 * place, where the unsynced tail cannot be made durable (how much of it was acknowledged nobody knows); of a directory that is no journal's yet;
 * where somebody removed the lock file. Then it is to be tried again later: nothing was changed.
 * Returns 0, or with a detail: FM_ERR_IN_USE, FM_ERR_FOREIGN (another mesh, or not a journal's), FM_ERR_NEWER,
 * -errno. */
int log_open (const char *directory, const struct log_options *options, struct log_recovery *ret_recovery,
              struct log **ret_log);
/* Closes without a promise: call log_write and log_sync (and log_mark_idle) before for a clean end. Readers go
 * first. */
void log_destroy (struct log **log);

/* Make a restored copy a journal of its own generation, so that nobody takes its offsets for those of the original:
 * to be called once, before the copy is opened. Of the options only fs and clock matter. Fails as log_open does. */
int log_new_generation (const char *directory, const struct log_options *options, uint64_t *ret_generation);

void log_identity (const struct log *log, struct fm_id *ret_journal, uint64_t *ret_generation);
const char *log_mesh (const struct log *log);

/* --- Appending. Offsets count facts: the first fact of the log has offset 1. A batch of n facts takes n offsets, a
 * gap record one. */

/* What the log knows of a stream. Sequences up to last_seq are recorded, or a gap record says why not. */
struct log_stream {
    struct fm_id stream;
    uint64_t epoch, incarnation;
    uint64_t first_seq;                     /* first one that is still held (or told as a gap) */
    uint64_t last_seq;                      /* appended */
    uint64_t written_seq, synced_seq;
    uint64_t last_offset;                   /* of its last record */
    bool closed;                            /* facts of its epoch were lost: it is not to be taken again */
};

/* Append one batch, checked by the caller (batch_decode, batch_check_facts); b->bytes is copied as it is.
 * It must be the stream's next (b->first_seq == last_seq + 1; a new stream may begin anywhere: what is before is
 * told with log_append_gap first) and not of an older epoch. Returns 0; FM_ERR_FULL (buffer or stream table, or a full disk at the start: wait
 * for log_write and log_sync, retry); FM_ERR_CONFLICT: another incarnation of the same epoch; FM_ERR_LOST: an older
 * epoch; FM_ERR_ARGUMENT: not the next one; FM_ERR_TOO_LARGE; FM_ERR_READ_ONLY after a failed write or sync. */
int log_append (struct log *log, const struct batch *b, uint64_t *ret_offset);

/* The same, with what a journal says of its facts (batch_duplicates_close) in front of its bytes. */
int log_append_marked (struct log *log, const struct batch *b, struct fm_slice front, uint64_t *ret_offset);

/* Record that sequences [first, end) of a stream are in no holder: void, not held. Then last_seq is end - 1. */
int log_append_gap (struct log *log, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq, uint32_t reason,
                    uint64_t *ret_offset);

/* The same, of an epoch that is not below the stream's: the next records may not be of an older one, after a start either. */
struct log_gap {
    struct fm_id stream;
    uint64_t first_seq, end_seq;
    uint64_t epoch, incarnation;
    uint32_t reason;
    bool closes;                            /* the epoch lost facts that its publisher may take for recorded: log_stream.closed */
};
int log_append_gap_of (struct log *log, const struct log_gap *gap, uint64_t *ret_offset);

/* What is known of a stream: 0 or FM_ERR_UNKNOWN (never seen, or all of it expired and forgotten). */
int log_stream_get (struct log *log, const struct fm_id *stream, struct log_stream *ret_stream);
/* List the streams that are in memory, in id order from `after` (NULL: the first): up to max into ret, their number
 * into ret_count. The first call after a restart may read footers. Returns 0, -ENOMEM or -errno. */
int log_stream_list (struct log *log, const struct fm_id *after, struct log_stream *ret, size_t max, size_t *ret_count);

/* The identities that facts in segments numbered less than `below` were the first to bear (UINT64_MAX: all, those that are not written yet left out): at least
 * the last `max` of them, if there are so many, in the order of their records. *ret_unread: segments that could not be read. Returns 0, -ENOMEM, or what
 * `each` returned. */
int log_identities (struct log *log, uint64_t below, uint64_t max, int (*each) (void *arg, const struct identity_entry *e), void *arg,
                    uint32_t *ret_unread);

/* --- Writing and syncing: the sync thread. */

struct log_position {
    uint64_t end_offset;                    /* next offset to be given */
    uint64_t written_offset;                /* all below is in the file */
    uint64_t synced_offset;                 /* all below is on disk */
    uint64_t first_offset;                  /* the oldest that retention left */
    uint64_t bytes;                         /* on disk, all segments */
};
void log_position (struct log *log, struct log_position *ret);

/* Write what is buffered; roll and seal when due. Returns 0, -ENOSPC (nothing is lost: try again later), or another
 * -errno, after which the log is read-only. FM_ERR_END: there was nothing to write. */
int log_write (struct log *log);

/* fsync what is written. A failure is never retried: the log is read-only from then on. *ret_synced (may be NULL):
 * the new synced offset. */
int log_sync (struct log *log, uint64_t *ret_synced);

/* The streams whose synced_seq grew with the last log_sync: fills up to max, call again until *ret_count is 0. Sync
 * thread. */
int log_synced_streams (struct log *log, struct log_stream *ret, size_t max, size_t *ret_count);

/* The idle journal's sync mark (README, "Torn or damaged"): once, after the last sync, when nothing more came. */
int log_mark_idle (struct log *log);

bool log_is_read_only (const struct log *log);

/* Block until something is appended that is not written (or, max_ms passed, or log_wake): for the sync thread. */
void log_wait_appended (struct log *log, unsigned max_ms);
void log_wake (struct log *log);

/* Drop whole sealed segments that age and size no longer allow, and remove the files that an earlier call could not.
 * *ret_first_offset (may be NULL): the oldest that is left. Sync thread. */
int log_retain (struct log *log, uint64_t *ret_first_offset);

/* --- Cursors: records in the log like everything else; durable once log_synced passes *ret_offset. */

/* Below any cursor's name, above the names that begin with byte 1: those are the journal's own (groups). */
#define CURSOR_NAME_FLOOR "\x1f"

struct log_cursor {
    char name[CURSOR_NAME_MAX + 1];
    uint64_t updated_ns;
    struct fm_slice cursor;                 /* an encoded Cursor message (factmesh.proto) */
    struct fm_slice filters;
};
/* *ret_ticket: for log_ticket_synced. FM_ERR_FULL: as log_append; FM_ERR_LIMIT, FM_ERR_TOO_LARGE: the limits of
 * cursor_table.h; log_cursor_delete: FM_ERR_UNKNOWN. */
int log_cursor_put (struct log *log, const struct log_cursor *cursor, uint64_t *ret_ticket);
int log_cursor_delete (struct log *log, const char *name, uint64_t *ret_ticket);
/* A ticket is durable when log_ticket_synced returns true. */
bool log_ticket_synced (struct log *log, uint64_t ticket);
/* What is durable of a cursor, not what was put last: a power loss must not take back what was told.
 * Copy out: ret's slices point into `buffer` (grown with realloc; caller frees). 0 or FM_ERR_UNKNOWN. */
int log_cursor_get (struct log *log, const char *name, void **buffer, size_t *buffer_size, struct log_cursor *ret);
/* Next name after `after` in byte order ("" : first). FM_ERR_END behind the last. */
int log_cursor_next (struct log *log, const char *after, char ret_name[CURSOR_NAME_MAX + 1]);

/* --- Reading: what is synced, in offset order, filtered without decoding facts. Works while the log grows and while
 * retention deletes. */

struct log_reader;

enum log_item_kind { LOG_ITEM_BATCH, LOG_ITEM_GAP };

/* One record. `bytes` are valid until the next call on the reader; its checksum has been verified. */
struct log_item {
    enum log_item_kind kind;
    uint64_t offset;                        /* of the first fact */
    uint64_t time_ns;                       /* the journal's clock, non-decreasing */
    struct fm_id stream;                    /* zero in a gap of offsets (expired, or nobody knows whose they were) */
    uint64_t first_seq, end_seq;            /* in a gap without a stream: offsets */
    uint32_t reason;                        /* LOG_ITEM_GAP: enum _Factmesh__GapReason */
    struct fm_slice bytes;                  /* LOG_ITEM_BATCH: the batch */
};

int log_reader_new (struct log *log, struct log_reader **ret_reader);
void log_reader_destroy (struct log_reader **reader);

/* Place the reader. An offset below first_offset starts with a gap item of offsets (GAP_EXPIRED); one above the
 * synced end: at that end. An offset within a batch: the whole batch comes. */
int log_reader_seek_offset (struct log_reader *r, uint64_t offset);
int log_reader_seek_time (struct log_reader *r, uint64_t time_ns, uint64_t *ret_offset);
/* To the record with sequence seq of the stream (or the first one above it): 0, FM_ERR_UNKNOWN when nothing of the
 * stream is at or above seq (then the reader stands at the synced end). */
int log_reader_seek_seq (struct log_reader *r, const struct fm_id *stream, uint64_t seq, uint64_t *ret_offset);

/* Only records of this stream (NULL: all), and only segments that can hold a topic which the patterns match (count
 * 0: all). Segments that can't match are skipped whole; `skipped` items tell how far each of their streams goes, see
 * log_reader_next. The patterns are copied. */
int log_reader_filter (struct log_reader *r, const struct fm_id *stream, const struct fm_slice *patterns, size_t count);
/* Does one of the patterns match, or are there none? */
bool log_reader_wants (const struct log_reader *r, struct fm_slice topic);

/* The next record below the synced end. Damaged records come as LOG_ITEM_GAP with GAP_DAMAGED and the exact range as
 * far as the neighbours tell it. A batch that the patterns can't match comes with bytes.len == 0 and its range, so
 * that the caller advances `covered`; so do the streams of a skipped segment. Returns 0; FM_ERR_END: caught up with
 * the synced end; -errno. */
int log_reader_next (struct log_reader *r, struct log_item *ret_item);

/* Of the record behind the gap that was returned last, for holes on the way to a record are told before it: what its header says. False: no batch
 * that the filter by stream lets through is at hand. */
bool log_reader_ahead (const struct log_reader *r, struct log_item *ret_item);

/* The next offset to be read, and an estimate of the bytes from there to the synced end. */
void log_reader_position (const struct log_reader *r, uint64_t *ret_offset, uint64_t *ret_remaining_bytes);

/* --- For inspect, verify and dump (a read-only log will do). */

struct log_segment_info {
    uint64_t number;
    char path[512];
    bool sealed;
    uint64_t first_offset, end_offset;
    uint64_t bytes, records, facts;
    uint64_t first_time_ns, last_time_ns;
    uint32_t streams, topics;
};
int log_segment_list (struct log *log, struct log_segment_info *ret, size_t max, size_t *ret_count);

/* One damaged range, as exactly as it is known. A range in which several streams lost something is told once for each:
 * the same positions and offsets. */
struct log_damage {
    char path[512];                         /* of the first segment */
    uint64_t segment, end_segment;          /* [segment, end_segment); several where they are lost whole */
    uint64_t first_pos, end_pos;            /* in the file */
    uint64_t first_offset, end_offset;      /* empty: no facts are lost here, or not known */
    struct fm_id stream;                    /* zero: unknown, or none */
    uint64_t first_seq, end_seq;
    const char *what;                       /* "checksum", "snapshot", "header", "footer", "truncated", "missing segment",
                                             * "unreadable segment", "repeated offsets", "missing offsets" */
};
struct log_verify_result { uint64_t segments, records, facts, bytes, damaged; };
/* Check every byte of every segment. progress (may be NULL) is told bytes done of all. Returns 0 (also when damage
 * was found: count it) or -errno. */
int log_verify (struct log *log, void (*damage) (void *arg, const struct log_damage *d),
                void (*progress) (void *arg, uint64_t done, uint64_t all), void *arg, struct log_verify_result *ret);

/* The topics that the indexes know, each once, in order, up to max; *ret_more: there are others. */
int log_topic_each (struct log *log, size_t max, void (*each) (void *arg, struct fm_slice topic, uint64_t facts),
                    void *arg, bool *ret_more);

#endif
