/* intake: the thread that records. Live batches of every publisher go to the log at once when they are in turn; above a hole they are
 * held, and the hole is asked for: from the publisher's window, then from other journals, until it is filled or nobody has it.
 *
 *     SUB sockets (live_set) --> intake_state: in turn? --> log_append           (the sync thread takes it from there)
 *                                     | no
 *                                     v
 *                          held, bounded; replay_client --> publisher or journal --> the same way
 *
 * Owns:    the thread, its sockets, the table of streams that are being published, the held batches.
 * Promise: the log is in sequence order per stream. Bytes that are not a well-formed batch of this mesh, from the stream's owner, never reach it.
 *          Waits for nothing but room in the log's buffer; then it does not read, ZeroMQ's queues fill, publishers' frames are dropped for it,
 *          and fetched from their windows later. */

#ifndef FM_JOURNAL_INTAKE_H
#define FM_JOURNAL_INTAKE_H

#include "context.h"

enum {
    INTAKE_BURST = 4096,                /* frames before repairs and members are looked after */
    INTAKE_ASKS_MAX = 32,               /* questions in flight; about streams of one publisher half of them at most */
    INTAKE_CREDIT = 2 << 20,            /* bytes that each may bring unread */
    INTAKE_LATE_MAX = 32,               /* that were given up, and may be answered yet */
    INTAKE_LATE_MS = 60000,             /* for so long, */
    INTAKE_TURN_MS = 60000,             /* and an answer is waited for so long while others come */
    INTAKE_QUESTIONS_MAX = INTAKE_ASKS_MAX + INTAKE_LATE_MAX,
    INTAKE_CLIENTS_MAX = 72,            /* connections to holders that are kept */
    INTAKE_ENDED_MAX = 1024,            /* streams that ended, and are told of again */
    INTAKE_ENDED_AGAIN_MS = 1000,       /* and then after 4, 16, 64 times as long */
    INTAKE_ENDED_TELLS = 5,
    INTAKE_REPLY_BURST = 64,            /* messages of one holder before others get their turn */
    INTAKE_TELL_MS = 1000,              /* a stream's conflict is told and noted at most this often */
    INTAKE_WAITS_TELL_MS = 10000,       /* a journal that does not say what it has is told of this often, for each stream that waits */
    INTAKE_STALL_MS = 20                /* look again for room at least this often */
};

struct intake;

int intake_new (struct journal_context *context, struct intake **ret_intake);
/* End the thread; what is held is dropped, and asked for again by the next start. */
void intake_destroy (struct intake **intake);

#endif
