/* server_inner: what server.c (queue and thread), server_sessions.c (replays) and server_requests.c (cursors, status) share.
 * Thread: the server's alone, but for the queue. */

#ifndef FM_JOURNAL_SERVER_INNER_H
#define FM_JOURNAL_SERVER_INNER_H

#include "control.h"
#include "credit.h"
#include "index_reader.h"
#include "outgoing.h"
#include "replay.h"
#include "server.h"

enum server_command_kind { SERVER_REQUEST, SERVER_CREDIT, SERVER_CLOSE };

/* One message from the node's thread. */
struct server_command {
    enum server_command_kind kind;
    bool alone;                         /* no other part of this node could know the session */
    struct node_route from;
    uint64_t request, session;
    uint64_t bytes;                     /* SERVER_CREDIT */
    void *packed;                       /* SERVER_REQUEST: the Control, encoded again; freed by whoever takes it */
    size_t packed_len;
};

/* Where a session is in its life; each has its list. */
enum session_place {
    SESSION_READY,                      /* has its turn */
    SESSION_CREDIT,                     /* waits for credit */
    SESSION_DATA,                       /* caught up: waits for the synced end to move */
    SESSION_ROUTE,                      /* has a message that the asker's queue did not take; or too much waits for its connection */
    SESSION_PLACES
};

/* An asker's connection, as long as it has sessions, or messages on their way. */
struct connection {
    struct connection *next;            /* by hash of the route */
    struct node_route route;
    unsigned sessions;
    struct outgoing *outgoing;
};

struct session {
    struct session *next, *previous;    /* in its list */
    struct session *hash_next;
    enum session_place place;
    struct node_route route;
    struct connection *connection;
    uint64_t number, request;
    struct replay *replay;
    struct credit credit;
    int64_t share;                      /* bytes left of this round's */
    uint64_t since_ns;                  /* in its place */
    uint64_t sent_ns, retry_ns;
    bool has_message, last_message;     /* what could not be sent; and then it is over */
    zmq_msg_t message;
};

/* A cursor that was put or deleted, and is answered when it is durable. */
struct waiting {
    struct waiting *next;
    struct node_route route;
    uint64_t request;
    bool deletes, appended;
    uint64_t ticket, until_ns;
    struct log_cursor cursor;           /* its slices are behind this struct */
};

struct server {
    struct journal_context *context;
    pthread_t thread;
    bool runs, handles;
    atomic_bool stop;

    pthread_mutex_t lock;               /* the queue: a ring */
    struct server_command *queue;
    size_t queue_first, queue_count;

    struct session_list {
        struct session *first, *last;
    } places[SESSION_PLACES];
    struct session **buckets;
    struct connection **connections;    /* as many as buckets */
    struct outgoing_all *outgoing;
    uint32_t bucket_mask;
    uint64_t seed;
    uint16_t *held;                     /* by hash of the route: how many sessions, when that is asked; as many as buckets */
    unsigned session_count, reader_count;
    uint64_t data_due_ns;               /* a session that is caught up has something to say then */
    uint64_t swept_ns;
    uint64_t synced_offset;             /* as sessions saw it last */
    struct replay_buffer buffer;
    struct index_reader *index;

    struct waiting *waiting, **waiting_end;
    unsigned waiting_count;
    struct log_reader *fold_reader;     /* NULL: not needed yet */
    void *cursor_buffer;
    size_t cursor_buffer_size;
};

/* --- server_sessions.c */

int sessions_init (struct server *s);
void sessions_release (struct server *s);
void session_open (struct server *s, const struct node_route *from, uint64_t request, Factmesh__ReplayOpen *open);
void session_credit (struct server *s, const struct server_command *c);
void session_close (struct server *s, const struct server_command *c);
/* The synced end moved. */
void sessions_synced (struct server *s);
/* Give up to SERVER_TURNS_MAX turns. True: somebody wants more. */
bool sessions_turn (struct server *s, uint64_t now);
/* Retry, keep alive, end the idle; returns when to be called again. */
uint64_t sessions_sweep (struct server *s, uint64_t now);

/* --- server_requests.c */

void request_take (struct server *s, const struct node_route *from, Factmesh__Control *control, uint64_t now);
/* Answer cursors that are durable by now. Returns when to be called again, at the latest. */
uint64_t requests_settle (struct server *s, uint64_t now);
void requests_release (struct server *s);
/* A stored or given cursor by name, unpacked; freed with factmesh__cursor__free_unpacked. FM_ERR_UNKNOWN … */
int request_cursor (struct server *s, struct fm_slice name, Factmesh__Cursor **ret_cursor);

/* --- server.c */

Factmesh__ErrorCode server_error_code (int rc);
/* Answer with an Error of this thread's detail. */
void server_refuse (struct server *s, const struct node_route *to, uint64_t request, uint64_t session, int rc);
/* Encode and send; what can't be sent is dropped, and its asker asks again. */
void server_answer (struct server *s, const struct node_route *to, Factmesh__Control *control);

#endif
