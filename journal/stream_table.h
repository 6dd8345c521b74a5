/* stream_table: what the log knows of each stream, in memory: a hash table with a bound; the least recently used one
 * that is wholly synced makes room, and is looked up in the footers when it comes again.
 *
 * Thread:  the log's append lock. Entries are numbered and never move, so the sync thread may walk them lock by
 *          lock. */

#ifndef FM_JOURNAL_STREAM_TABLE_H
#define FM_JOURNAL_STREAM_TABLE_H

#include <stdbool.h>

#include "id.h"
#include "record.h"

enum { STREAM_SNAPSHOT_LEN = 56 };          /* one stream in a snapshot */

/* What a snapshot keeps of a stream: as of the records that are written. */
struct stream_state {
    struct fm_id stream;
    uint64_t epoch, incarnation;
    uint64_t first_seq;                     /* held, or told as a gap; 0: to be looked up */
    uint64_t last_seq;
    uint64_t last_offset;
    bool closed;                            /* facts of this epoch were lost: it is not taken again */
};

struct stream_entry {
    struct fm_id stream;
    uint64_t first_seq;
    uint64_t epoch, incarnation, last_seq, last_offset;     /* as appended */
    bool closed;                                            /* the epoch, as appended */
    struct stream_state written;                            /* last_seq 0: nothing is */
    uint64_t synced_seq, told_seq;                          /* told_seq: by log_synced_streams */
    bool stale;                                             /* first_seq is: retention went on since it was recorded; or it was forgotten (0) */
    bool used, dirty, listed;
    uint32_t hash_next, newer, older;                       /* 0: none */
};

struct stream_table {
    struct stream_entry *entries;           /* [1, count] are or were used; 0 is nobody */
    uint32_t count, max, live;
    uint32_t free;                          /* list through hash_next */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint64_t hash_seed;                     /* random: ids come from the wire */
    uint32_t newest, oldest;
    uint32_t stale;                         /* entries that are */
    bool complete;                          /* no stream was ever forgotten: an unknown one is new */

    /* Written since the last sync; and synced, not yet told. Filled and emptied by the sync thread. */
    uint32_t *dirty, *listed;
    uint32_t dirty_count, listed_count;
};

int stream_table_init (struct stream_table *t, uint32_t max);
void stream_table_release (struct stream_table *t);

/* NULL: not here. Does not count as a use. */
struct stream_entry *stream_table_find (const struct stream_table *t, const struct fm_id *stream);

/* Room for a stream that is not here. NULL: all are unsynced (sync, then retry), or no memory. */
struct stream_entry *stream_table_add (struct stream_table *t, const struct fm_id *stream);

/* Take a stream from a snapshot, a footer or a recovered record: all of it is synced. Adds it or replaces it; where its first_seq is
 * to be looked up it is stale. -ENOMEM. */
int stream_table_restore (struct stream_table *t, const struct stream_state *s);

void stream_table_set_stale (struct stream_table *t, struct stream_entry *e, bool stale);
/* All of them are. */
void stream_table_mark_stale (struct stream_table *t);

/* The most recently used one is this. */
void stream_table_use (struct stream_table *t, struct stream_entry *e);

/* The stream's records up to s are in the file. */
void stream_table_written (struct stream_table *t, const struct stream_state *s);

/* Take up to max streams from the dirty list: what is written of them is synced. Returns how many it took. */
uint32_t stream_table_sync (struct stream_table *t, uint32_t max);

/* Encode the written state of those entries of [*next, count] whose epoch is closed, or is not, at most max; advances *next. Where one begins that is stale
 * is to be looked up (0): who reads it does not know that retention went on before it was written. Returns how many it wrote. */
uint32_t stream_table_snapshot (const struct stream_table *t, bool closed, uint32_t *next, uint32_t max, uint8_t *p);

/* Without `closed`: the record that they are in says it of all of them. */
void stream_state_encode (uint8_t p[STREAM_SNAPSHOT_LEN], const struct stream_state *s);
void stream_state_decode (const uint8_t p[STREAM_SNAPSHOT_LEN], struct stream_state *ret_state);

#endif
