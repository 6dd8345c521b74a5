/* replay_client: asks a holder (a journal, or a publisher for its own window) for recorded facts, with credit.
 *
 * One DEALER to one holder; several sessions in flight (a subscription's replay, repairs of holes). Keeps each session's credit topped
 * up as messages are consumed: a message is consumed when the next one is asked for.
 * Thread:  one, that of its owner. Never blocks.
 * Promise: what comes of one session is an unbroken beginning of what the holder sent: a connection that broke is another peer to
 *          the holder, so that a session ends with it, silently. The owner must time out a silence.
 * Bytes:   proto/SPEC.md, "Replay". */

#ifndef FM_NODES_REPLAY_CLIENT_H
#define FM_NODES_REPLAY_CLIENT_H

#include "node.h"

struct replay_client;

enum { REPLAY_CREDIT_DEFAULT = 4 << 20, REPLAY_SESSIONS_MAX = 1024 };

int replay_client_new (struct fm_node *node, const char *control_address, struct replay_client **ret_client);
void replay_client_destroy (struct replay_client **client);
/* Edge-triggered ZMQ_FD: receive until -EAGAIN after each wake-up, and after each open, close and request, which may swallow its word. */
int replay_client_fd (const struct replay_client *client);

/* Open a session; open->session and credit (unless given) are filled in. *ret_session, never 0, numbers it. FM_ERR_LIMIT, -EAGAIN (no
 * connection, and too much waits for one), -ENOMEM. */
int replay_client_open (struct replay_client *client, Factmesh__ReplayOpen *open, uint64_t *ret_session);
/* Forget a session, and tell the holder. 0 and unknown numbers are ignored. */
void replay_client_close (struct replay_client *client, uint64_t session);

enum replay_kind { REPLAY_DATA = 1, REPLAY_END, REPLAY_ERROR, REPLAY_OTHER };
struct replay_event {
    enum replay_kind kind;
    uint64_t session;                   /* 0: the answer to replay_client_request */
    uint64_t request;                   /* then its number */
    struct replay_view *view;           /* REPLAY_DATA: valid until the next receive; walk it */
    uint64_t next_offset;               /* REPLAY_END */
    Factmesh__ErrorCode code;           /* REPLAY_ERROR */
    const char *text;
    Factmesh__Control *control;         /* REPLAY_OTHER (other answers, and Work): the client frees it with the next receive */
};
/* The next message of a live session (others are dropped). 0, -EAGAIN, or -ENOMEM: there is one, call again. Consuming it earns the holder credit. A session that ended, by REPLAY_END
 * or REPLAY_ERROR, is forgotten. */
int replay_client_receive (struct replay_client *client, struct replay_event *ret_event);

/* Send another request on the same connection (cursor_*, status_get): the answer comes as REPLAY_OTHER or REPLAY_ERROR with session 0. */
int replay_client_request (struct replay_client *client, Factmesh__Control *control, uint64_t *ret_request);

/* The last number that was given to a request: answers to those up to it are old to a later user of the connection. */
uint64_t replay_client_last (const struct replay_client *client);

/* Sessions that are open. */
size_t replay_client_sessions (const struct replay_client *client);

/* Messages that came over the connection so far, those of forgotten sessions too: whether it moves. */
uint64_t replay_client_messages (const struct replay_client *client);

#endif
