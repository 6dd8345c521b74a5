/* replay_inner: what replay.c (a session, and its scan of the log) and replay_start.c (where it begins, and what START tells) share. */

#ifndef FM_JOURNAL_REPLAY_INNER_H
#define FM_JOURNAL_REPLAY_INNER_H

#include "covered.h"
#include "replay.h"
#include "replay_last.h"

enum replay_phase { PHASE_SEEK, PHASE_LATEST, PHASE_START, PHASE_SCAN, PHASE_DONE };

/* Which streams START must tell of. */
enum replay_table {
    TABLE_NOTHING,                  /* a range of one stream */
    TABLE_PLAIN,                    /* those that end below the start */
    TABLE_EXPIRED,                  /* the start lies below what is held */
    TABLE_OVERTAKEN                 /* retention overtook the session */
};

struct replay {
    struct log *log;
    const struct clock *clock;
    struct log_reader *reader;      /* NULL: given back by replay_rest */
    enum replay_phase phase;
    uint64_t session;
    size_t message_bytes;

    void *filter_bytes;
    struct fm_slice filters[FILTERS_MAX];
    size_t filter_count;
    bool may_cut;
    bool has_stream;
    struct fm_id stream;
    uint64_t from_seq;              /* with a stream: 0: all */
    struct fold_positions positions;

    enum replay_end end;
    uint64_t end_value;
    uint64_t through;               /* with a stream: how far it is complete */

    struct replay_last last;
    struct replay_latest latest;
    bool latest_waits;              /* the index is behind */
    uint64_t start_offset, next_offset;
    enum replay_table table;
    struct fm_id table_after;       /* START: streams up to this one have been told */
    bool table_begun;
    size_t positions_told;
    uint64_t expired_end;           /* START tells of all below, stream by stream; 0: of a gap in offsets none */
    bool start_gap;                 /* the first item is the gap that TABLE_EXPIRED tells of */
    struct fm_id astride;           /* the stream of the first item, when that begins below the start and ends above it; zero: it does not, or was used */

    bool end_looked_at;             /* with a sequence to begin at: what the log knows of the stream was compared with what it has */
    bool start_told, caught_up, caught_up_told;
    uint64_t told_ns;               /* when the last message was built */
    uint64_t looked_ns;             /* when the synced end was reached last */

    struct log_item item;
    bool has_item;
    struct covered covered;
    struct replay_gap gaps[REPLAY_GAPS_MAX];
    size_t gap_count;
    bool handed_out;                /* the header before pointed to covered and gaps: the next step clears them */

    struct fm_id journal;
    uint64_t generation;
    Factmesh__Cursor start;
};

/* --- replay.c: what the next message tells beside batches. */

/* Room for one stream more, and for the two gaps that a record can bring? */
bool replay_notes_have_room (const struct replay *r);
/* A range that is empty is not told. Callers see to the room. */
void replay_note_gap (struct replay *r, const struct fm_id *stream, uint64_t first, uint64_t end, uint32_t reason);
void replay_note_covered (struct replay *r, const struct fm_id *stream, uint64_t through);

/* --- replay_start.c */

/* Place the reader where the request says. The log's errors, FM_ERR_ARGUMENT, FM_ERR_GENERATION … */
int replay_seek_start (struct replay *r, const struct replay_request *q);
/* Begin at this offset. */
int replay_begin_at (struct replay *r, uint64_t offset);
/* Tell of streams until the message is full. True: all have been told. */
bool replay_start_step (struct replay *r);

#endif
