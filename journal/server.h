/* server: what others ask of the journal: replays, cursors, status.
 *
 *     node's thread: node_control_fn --> queue --> server thread: sessions in turns --> replay_step --> node_reply
 *                                          ^
 *     sync thread: the synced end moved ---'  (those that follow go on; cursors are answered)
 *
 * Owns:    the thread, the sessions, the queue between the node's thread and its own.
 * Promise: sessions get equal shares, in bytes, of the thread's time; one whose asker does not read waits for credit, and costs its place alone.
 *          Every request is answered, with an Error that says what is wrong if need be.
 * Bounded: sessions, in all and for each asker; the queue; requests that wait for the disk. */

#ifndef FM_JOURNAL_SERVER_H
#define FM_JOURNAL_SERVER_H

#include "context.h"

enum {
    SERVER_QUEUE_MAX = 2048,            /* requests from the node's thread */
    SERVER_QUEUE_OPENS_MAX = 1536,      /* of these, what is not credit or close: those must come through */
    SERVER_WAITING_MAX = 1024,          /* cursors put or deleted, not synced yet */
    SERVER_READERS_MAX = 256,           /* of the log, in use by sessions: each is a descriptor and 256 KiB */
    SERVER_TURN_BYTES = 256 << 10,      /* a session's share of a round */
    SERVER_OUTGOING_BYTES = 64 << 20,   /* of replays, sent and not taken by ZeroMQ's connections yet: of all connections */
    SERVER_OUTGOING_EACH_BYTES = 16 << 20,      /* of one: who reads has a session's credit (4 MiB by default) under way at most */
    SERVER_TURNS_MAX = 256,             /* before requests are looked at again */
    SERVER_IDLE_MS = 30000,             /* a session without credit for so long is ended */
    SERVER_KEEPALIVE_MS = 5000,         /* a session that follows says something at least so often: an asker that went shows */
    SERVER_RETRY_MS = 10,               /* an asker's queue, or the log's buffer, was full */
    SERVER_WAIT_MS = 30000,             /* for a cursor to become durable */
    SERVER_LIST_MAX = 1000,             /* cursors, or streams, of one answer */
    SERVER_REPLY_BYTES = 1 << 20        /* of one answer, about */
};

struct server;

int server_new (struct journal_context *context, struct server **ret_server);
void server_destroy (struct server **server);

#endif
