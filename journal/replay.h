/* replay: one replay session: what was asked, where it stands, and the next message. Reads the log, knows no sockets.
 *
 *            last_count, from_latest         the stream table             records
 *   new  -------------> SEEK, LATEST ------>  START  ------------------->  SCAN  ------> DONE
 *     '------------------------------------->'  ^      offsets expired      |   an end was asked for, and reached
 *                                               '---------------------------'
 *
 *   SEEK   count matching facts back from the synced end, a share of the log at each step.
 *   LATEST the newest fact of each key below the synced end of when it was opened, read from where an index says (replay_latest.h); then START,
 *          at that end.
 *   START  say where the session starts, and how far the streams are complete that have nothing at or above that place;
 *          streams whose first facts expired are told as gaps, where the place lies below what is held.
 *   SCAN   send what matches; say how far each stream met is complete.
 *
 * Promise: messages carry every matching record of the offsets that they pass, in order, as it was recorded; nothing above the
 *          synced end; and of each stream met `covered`, so that the asker knows what is complete though nothing matched.
 * Thread:  the server thread.
 * Bounded: a step scans at most REPLAY_SCAN_BYTES or REPLAY_SCAN_RECORDS, so that sessions take turns. Steps do not allocate, save that
 *          the buffer grows to the largest batch met. */

#ifndef FM_JOURNAL_REPLAY_H
#define FM_JOURNAL_REPLAY_H

#include "batch_cut.h"
#include "control.h"
#include "fold.h"
#include "log.h"
#include "replay_latest.h"

enum {
    REPLAY_MESSAGE_BYTES = 256 << 10,           /* of a message when the asker has no wish */
    REPLAY_MESSAGE_BYTES_MIN = 4 << 10,
    REPLAY_MESSAGE_BYTES_MAX = 1 << 20,         /* a single batch may be larger, and goes alone */
    REPLAY_GAPS_MAX = 64,                       /* of one message */
    REPLAY_SCAN_BYTES = 8 << 20,                /* of one step */
    REPLAY_SCAN_RECORDS = 8192,
    REPLAY_COVERED_MS = 50                      /* a message that only says `covered` goes at most this often while following */
};

enum replay_start { REPLAY_FROM_OFFSET, REPLAY_FROM_SEQ, REPLAY_FROM_TIME, REPLAY_FROM_LAST, REPLAY_FROM_CURSOR, REPLAY_FROM_CURSOR_NAME, REPLAY_FROM_END, REPLAY_FROM_LATEST };
enum replay_end { REPLAY_TO_SYNCED, REPLAY_TO_SEQ, REPLAY_TO_OFFSET, REPLAY_TO_TIME, REPLAY_FOLLOW };

/* A checked ReplayOpen; borrows from it. */
struct replay_request {
    uint64_t session, credit;
    size_t message_bytes;
    struct fm_slice filters[FILTERS_MAX];
    size_t filter_count;
    bool may_cut;                               /* batches may be cut to what matches */
    bool has_stream;
    struct fm_id stream;
    enum replay_start start;
    uint64_t start_value;                       /* offset, sequence, time or count */
    const Factmesh__Cursor *cursor;             /* REPLAY_FROM_LATEST: NULL: from the first */
    uint64_t latest_end;                        /* REPLAY_FROM_LATEST: 0: what is synced */
    struct fm_slice cursor_name;
    enum replay_end end;
    uint64_t end_value;
    const struct replay_index *index;           /* set by the server: for REPLAY_FROM_LATEST */
};

/* Check a message. No start is a start at offset 1; no end is the synced end. Returns 0, or with a detail FM_ERR_TOPIC, FM_ERR_MALFORMED,
 * FM_ERR_LIMIT, FM_ERR_ARGUMENT (a combination that makes no sense). */
int replay_request_check (const Factmesh__ReplayOpen *open, struct replay_request *ret_request);

/* Is this cursor one of this journal and generation? 0, FM_ERR_GENERATION or FM_ERR_MALFORMED with a detail. */
int replay_cursor_check (const Factmesh__Cursor *cursor, const struct log *log);

struct replay;

/* Begin. A cursor's name must have been resolved into request->cursor. Errors: those of replay_cursor_check, -ENOMEM, the log's. */
int replay_new (struct log *log, const struct clock *clock, const struct replay_request *request, struct replay **ret_replay);
void replay_destroy (struct replay **replay);

/* The batches of one message, each with its tag and length; and what else the session's steps work in. One for all sessions of a thread. */
struct replay_buffer {
    uint8_t *fields;
    size_t len, size;
    struct batch_scratch scratch;
    struct batch_cut cut;
};
void replay_buffer_release (struct replay_buffer *buffer);

enum replay_outcome {
    REPLAY_STEP_MESSAGE = 1,                    /* send *ret_header with the buffer's fields */
    REPLAY_STEP_MORE,                           /* nothing to send yet, its share of this turn is used: call again */
    REPLAY_STEP_WAIT,                           /* caught up: call again when the synced end moved, or at replay_due */
    REPLAY_STEP_DONE                            /* complete: ReplayEnd with the header's next_offset */
};

/* Build the next message, of about `target` bytes of batches. The header points into the session, until the next call. A message that could not
 * be sent must be kept by the caller: the step cannot be repeated. Returns 0, -ENOMEM or the log's error (the session is over). */
int replay_step (struct replay *r, struct replay_buffer *buffer, size_t target, enum replay_outcome *ret_outcome, struct replay_header *ret_header);

/* Monotonic time at which a waiting session has something to say though nothing more is synced; UINT64_MAX: never. */
uint64_t replay_due (const struct replay *r);

/* A session that waits can do without its reader, which is a descriptor and 256 KiB: the next step opens one anew. replay_rest gives it back,
 * wherever the session stands. */
bool replay_has_reader (const struct replay *r);
void replay_rest (struct replay *r);

/* A message that says where the session stands, to keep it alive. */
void replay_keepalive (struct replay *r, struct replay_header *ret_header);

size_t replay_message_bytes (const struct replay *r);

#endif
