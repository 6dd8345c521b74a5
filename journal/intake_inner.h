/* intake_inner: what intake.c (the thread and live frames), intake_repair.c (questions and answers), intake_ended.c (notices of streams that ended)
 * and intake_streams.c (the table) share.
 * Thread: intake's alone, but for `stop` and the wake. */

#ifndef FM_JOURNAL_INTAKE_INNER_H
#define FM_JOURNAL_INTAKE_INNER_H

#include "identities.h"
#include "intake.h"
#include "intake_state.h"
#include "live_set.h"
#include "members.h"
#include "replay_client.h"

struct intake_stream {
    struct fm_id id;
    struct intake_state state;
    struct fm_id marked;                /* told to marks as the owner */
    bool is_marked;
    bool listed;                        /* in the list of those that want something */
    struct intake_stream *hash_next;
    struct intake_stream *next, *previous;
    uint64_t due_ns;                    /* listed: not before */
    bool waits;                         /* listed: it is due, and there is no place for its question */
    uint64_t told_ns;                   /* the last notice of a conflict */
    uint64_t waits_told_ns;             /* and of a journal that does not answer */
    uint64_t ended_told;                /* next_seq, as last told to those who may not have heard of the stream */
};

/* A batch that is held, copied out of its frame: a small frame would pin a whole receive buffer. */
struct intake_held {
    size_t len;
    uint8_t bytes[];
};

/* One question in flight. */
struct intake_ask {
    struct intake_stream *stream;       /* NULL: free */
    bool journal;                       /* asked of a journal, not of the owner */
    bool late;                          /* it was given up: if facts come all the same, so much the better */
    struct intake_client *client;
    uint64_t session;
    uint64_t deadline;                  /* silent until then: forgotten */
    uint64_t asked_ns, heard_ns;        /* heard: an answer, or asked for */
    bool answered;                      /* something came */
    bool passed;                        /* something came that was asked for after this was heard of last */
};

struct intake_client {
    struct replay_client *replay;       /* NULL: free */
    struct fm_id node;
    char control[FM_PEER_ADDRESS_MAX];
    unsigned asks;
    uint64_t used_ns;
    uint64_t messages;                  /* that came over it */
};

/* A stream that ended, and that is told of again. */
struct intake_ended {
    struct fm_id stream;
    uint64_t epoch, incarnation, head;
    uint64_t due_ns;
    unsigned told;                      /* how often */
};

struct intake {
    struct journal_context *context;
    struct live_set *live;
    struct members *members;
    struct intake_limits limits;
    struct wake wake;
    atomic_bool stop;
    bool runs;
    pthread_t thread;
    int epoll_fd;
    uint64_t now;                       /* monotonic, as of this turn */
    uint64_t journals_version;
    uint64_t full_told_ns;
    bool read_only;                     /* nothing is recorded any more: live frames are read and dropped */
    struct batch_scratch scratch;       /* of the batch at hand */
    struct batch_scratch held_scratch;  /* of held ones, while another is at hand */
    struct identities identities;

    struct intake_stream **buckets;
    uint32_t bucket_mask, stream_count;
    uint64_t seed;
    struct intake_stream *last;         /* met last: the next batch is often of the same */
    struct intake_stream *list_first, *list_last;

    struct intake_ask asks[INTAKE_QUESTIONS_MAX];
    unsigned ask_count, late_count;
    bool asked;                             /* since the answers were last looked at */
    struct intake_client clients[INTAKE_CLIENTS_MAX];

    struct intake_ended ended[INTAKE_ENDED_MAX];
    unsigned ended_count;
};

/* --- intake.c */

/* Wake the thread when a descriptor has something to read. 0 or -errno. */
int intake_watch (struct intake *in, int fd);

/* --- intake_ended.c */

/* Tell everybody how far a stream goes whose publisher is gone, unless that was told: who was not connected to it never heard of it. */
void intake_tell_ended (struct intake *in, struct intake_stream *s);
/* Tell again what is due. Returns when to be called next. */
uint64_t intake_ended_step (struct intake *in);

/* --- intake_streams.c */

int intake_streams_init (struct intake *in);
void intake_streams_release (struct intake *in);
struct intake_stream *intake_stream_find (struct intake *in, const struct fm_id *id);
/* Take up a stream that `from` publishes, where the log left it. FM_ERR_LIMIT, -ENOMEM, or the log's error. */
int intake_stream_add (struct intake *in, const struct fm_id *id, const struct fm_id *from, struct intake_stream **ret_stream);
void intake_stream_forget (struct intake *in, struct intake_stream *s);
/* It wants something now, or at due_ns. */
void intake_stream_list (struct intake *in, struct intake_stream *s, uint64_t due_ns);
void intake_stream_unlist (struct intake *in, struct intake_stream *s);
void intake_streams_each (struct intake *in, void (*each) (struct intake *in, struct intake_stream *s, void *arg), void *arg);
/* Marks must know who owns it now. */
void intake_stream_mark (struct intake *in, struct intake_stream *s);

/* --- intake.c */

/* A batch that was decoded, live or as an answer. */
void intake_take_batch (struct intake *in, struct intake_stream *s, const struct batch *b, const struct fm_id *from, bool repaired);
/* Record what is held and in turn. */
void intake_record_held (struct intake *in, struct intake_stream *s);
/* Record what the todo says is nowhere. */
void intake_record_gap (struct intake *in, struct intake_stream *s, const struct intake_todo *todo);

/* --- intake_repair.c */

/* Read answers. True: there may be more. */
bool intake_answers (struct intake *in);
/* Look after all listed streams; returns when to be called again. */
uint64_t intake_look_after (struct intake *in);
/* Close the stream's questions. */
void intake_asks_close (struct intake *in, const struct intake_stream *s);
void intake_repair_release (struct intake *in);

#endif
