/* sync: the thread that makes what was appended durable, and then says so.
 *
 *     wait for an append -> log_write -> log_sync -> Watermark to each publisher whose streams went on; the server wakes up
 *
 * One fsync covers all that was appended while the one before ran: group commit needs no timer, and a lone fact waits for nobody.
 * In a flood it syncs once a millisecond: when much was appended while it synced, at once again would cost every fact more, and hold the rest up.
 *
 * Owns:    the thread. Keeps house, too: retention, the idle mark, watermarks that may have been lost.
 * Promise: a watermark leaves only after the sync that it speaks of. A full disk is tried again each second, and nothing else stops; after a
 *          failed write or sync the log is read-only, and nothing is acknowledged any more. */

#ifndef FM_JOURNAL_SYNC_H
#define FM_JOURNAL_SYNC_H

#include "context.h"

enum {
    SYNC_REPEAT_MS = 1000,              /* watermarks told since then are told once more */
    SYNC_REPEAT_ALL_MS = 10000,         /* and all of them */
    SYNC_RETRY_MS = 20,                 /* a publisher's queue was full */
    SYNC_DISK_FULL_MS = 1000,
    SYNC_RETAIN_MS = 5000,
    SYNC_IDLE_MS = 1000,                /* then the idle mark */
    SYNC_FLOOD_BYTES = 32 << 10,        /* appended while one sync ran, … */
    SYNC_FLOOD_US = 1000,               /* … the next begins so long after it */
    SYNC_MARKS_MAX = 1024               /* streams of one message */
};

struct sync;

int sync_new (struct journal_context *context, struct sync **ret_sync);
/* Write and sync what was appended, tell it, end the thread. */
void sync_destroy (struct sync **sync);

#endif
