/* live_set_inner: what the files of live_set share. live_set has who is there and what comes; live_connection one peer's connection: it is made, fenced, and
 * made anew when it falls silent. */

#ifndef FM_NODES_LIVE_SET_INNER_H
#define FM_NODES_LIVE_SET_INNER_H

#include "live_set.h"

#include <pthread.h>

struct peer {
    struct live_peer live;              /* first: handed out */
    void *socket;
    int fd;                             /* its ZMQ_FD; -1: not waited on */
    struct node_sign sign;
    bool queued;                        /* the last receive brought something: what is next may be old */
    bool ready;
    struct peer *next_ready;
    unsigned burst;
    uint8_t nonce[FENCE_NONCE_LEN];
    bool fence_out;
    uint64_t fence_due_ns;              /* then the next nonce */
    unsigned fence_wait_ms;
    uint64_t connect_ns;                /* tried again then: there was no descriptor, say, for a connection; 0: there is one */
    uint64_t close_ns;                  /* gone: closed then */
    bool publishes;                     /* facts or a head came on this connection: heads will */
    bool heard;                         /* something, since the last look */
    unsigned silent_looks;              /* in a row at which nothing had come */
    uint64_t look_ns;                   /* the next one */
};

/* The last word about one node. */
struct mail {
    struct node_peer info;              /* up; else only its id counts */
    bool up, said_goodbye;
};

struct live_set {
    struct fm_node *node;
    struct topic_wire_filter filters[TOPIC_LEVELS_MAX + 1];
    size_t filter_count;
    bool want_watermarks;
    int hwm;
    int epoll_fd;                       /* the caller's */
    int mail_fd;
    bool muted;

    struct peer **peers;
    size_t peer_count, peer_size;
    size_t unfenced;
    bool mail_due;                      /* the mailbox rang */
    uint64_t changes;
    struct peer *ready_first, *ready_last;
    struct peer *dying;                 /* handed out with LIVE_PEER_GONE; freed with the next call */
    uint64_t due_ns;
    uint64_t frames, refused;           /* not counted with the node yet */

    pthread_mutex_t mail_lock;          /* what is below is shared with the node's thread */
    struct mail *mail;
    size_t mail_count, mail_size;
    bool mail_overflow;
};

/* --- live_set.c */

/* It may have something: it is received from, in its turn. */
void live_set_ready (struct live_set *set, struct peer *peer);

/* live_set_update has something to do then. */
void live_set_due (struct live_set *set, uint64_t ns);

/* What the set waits for: a peer's frames, or (NULL) news in the mailbox. how: EPOLL_CTL_*. As epoll_ctl. */
int live_set_watch (const struct live_set *set, int how, int fd, const struct peer *peer);

/* --- live_connection.c */

/* Until it succeeds: a descriptor that is missing now may be there soon, and nobody else tells what this publisher sends from now on. */
void live_connection_open (struct live_set *set, struct peer *peer, uint64_t now_ns);
void live_connection_close (struct live_set *set, struct peer *peer);

/* Ask from where on live is complete; again, when it was not answered in time. */
void live_connection_fence (struct live_set *set, struct peer *peer, uint64_t now_ns);
void live_connection_fence_again (struct live_set *set, struct peer *peer, uint64_t now_ns);

/* That was answered: by this peer, or (false) by who has its address by now. And: it is not waited for any more. */
bool live_connection_answered (struct live_set *set, struct peer *peer, struct fm_slice answer);
void live_connection_fenced (struct live_set *set, struct peer *peer);

/* It publishes, so that a silence means something from now on; and the look at whether there is one. */
void live_connection_silence_begins (struct live_set *set, struct peer *peer, uint64_t now_ns);
void live_connection_look (struct live_set *set, struct peer *peer, uint64_t now_ns);

#endif
