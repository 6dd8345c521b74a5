/* publisher: the inside of one stream's source; publisher.c has the life of a fact and the locks.
 *
 *     publisher.c         open, publish, flush, wait, close
 *     publisher_send.c    the open batch, frames, head notices, watermarks passed on
 *     publisher_node.c    what the node's thread does for it: time, control messages
 *     publisher_repair.c  serving the window to who missed something
 *     publisher_lost.c    what came back from disk, and journals gave up meanwhile */

#ifndef FM_NODES_PUBLISHER_H
#define FM_NODES_PUBLISHER_H

#include <pthread.h>

#include "batch.h"
#include "clock.h"
#include "identity.h"
#include "level_table.h"
#include "node.h"
#include "publisher_marks.h"
#include "recovered.h"
#include "window.h"
#include "window_file.h"

enum {
    PUBLISHER_WINDOW_DEFAULT = 64 << 20,
    PUBLISHER_BLOCK_MS_DEFAULT = 10000,
    PUBLISHER_BATCH_US_DEFAULT = 50,
    PUBLISHER_BATCH_US_SYNCED = 1000,       /* the default where each frame waits for the disk */
    PUBLISHER_BATCH_US_MAX = 1000000,
    PUBLISHER_LEVELS_MAX = 16384,           /* topics and their ancestors that are told apart; beyond it `prev` is rounded up */
    PUBLISHER_BURST = 16,                   /* facts that may leave alone in a row before they must share */
    PUBLISHER_GATHER_BYTES = 4096,          /* a batch that grew so large within batch_us is part of a flood: it gathers on … */
    PUBLISHER_GATHER_TIMES = 4,             /* … for so many times batch_us */
    PUBLISHER_HOT_US = 200,                 /* under load the node's thread looks so long after the open batch was due: whoever publishes on has sent it by then */
    PUBLISHER_HOT_MS = 5,                   /* and goes on for so long after it last saw one */
    PUBLISHER_SILENT_MS = 10,               /* after so long without a fact the head is told */
    PUBLISHER_HEAD_MS = 1000,               /* and in any case this often */
    PUBLISHER_HEAD_LEVELS_MAX = 64,         /* levels in a head notice: those that changed last, */
    PUBLISHER_HEAD_OTHERS_MAX = 128,        /* and others that changed, in turn: at most 48 KiB together */
    PUBLISHER_NOTICE_MS = 1000,             /* between two notices of refused watermarks */
    PUBLISHER_RETRY_MS = 1000,              /* after reserving sequences failed */
    PUBLISHER_DISK_RETRY_MS = 50,           /* after the window's file could not be written */
    PUBLISHER_DISK_SLACK = 2 << 20,         /* of the window's file, for what a window may hold beyond its bytes: a fact that came when it was empty */
    PUBLISHER_OFFSET_MS = 10,               /* how long the distance of Unix and monotonic time is taken as fixed */
    PUBLISHER_REASON_MAX = 127,
    PUBLISHER_BLOB_REF_MAX = 512,           /* bytes of an encoded BlobRef */
    PUBLISHER_LOST_POLL_MS = 5,             /* an answer about what came back from disk is looked for so often, */
    PUBLISHER_LOST_ANSWER_MS = 2000,        /* waited for so long, */
    PUBLISHER_LOST_RETRY_MS = 200,          /* and asked for again so much later */
    PUBLISHER_FACT_OVERHEAD_MAX = 192       /* what a fact's encoding adds to its slices, at most */
};

/* The batch that facts are added to: [first_seq, first_seq + count). */
struct open_batch {
    uint8_t *facts;                 /* LIVE_FRAME_MAX bytes */
    size_t facts_len;
    size_t head_len;                /* an upper bound of what goes before the facts: wire topic and header */
    uint32_t count;
    uint64_t first_seq;
    uint64_t opened_ns;             /* monotonic */
    uint64_t features;
    struct batch_defaults defaults; /* of the first fact; types point below */
    char type[TYPE_MAX], content_type[TYPE_MAX];
};

struct publisher_repair;
struct publisher_lost;

/* Of fm_publisher_lost_next: the batch that is being handed out. */
struct lost_reader {
    bool open;
    zmq_msg_t message;
    struct batch batch;
    struct batch_scratch scratch;
    struct batch_reader facts;
};

struct fm_publisher {
    struct fm_node *node;
    struct live *live;
    const struct clock *clock;
    enum fm_when_full when_full;
    int block_ms;                   /* -1: for ever */
    size_t payload_max;
    uint64_t batch_ns;              /* 0: facts never share */
    size_t head_base;               /* bytes of wire topic and header without topics and types, at most */
    struct identity identity;
    char name[NODE_NAME_MAX + 1];

    pthread_mutex_t lock;           /* all below; sending happens under it, so that frames leave in order */
    pthread_cond_t changed;         /* window, marks, lost */
    unsigned waiting;               /* threads at `changed` */
    bool lost;
    char lost_reason[PUBLISHER_REASON_MAX + 1];     /* in a journal's words */
    uint64_t next_seq;
    uint64_t reserved_end;          /* sequences below may be used */
    struct open_batch open;
    struct level_table *levels;
    struct window window;
    struct window_file *disk;       /* the window once more; NULL: in memory alone */
    int disk_rc;                    /* why the last write to it failed; 0: it did not. Then what was accepted and has not left waits in the open batch */
    uint64_t disk_retry_ns;         /* the node's thread does not try again before */
    bool disk_told;                 /* of the node's thread: the notice of disk_rc */
    bool disk_given_up;             /* FM_DROP_OLDEST: goes on in memory */
    uint64_t recovered_seq;         /* the last one that came back from disk; 0: none */
    struct recovered *recovered;    /* NULL: none did */
    struct window given_up;         /* of them, taken out of the window: journals have told them as gaps */
    uint64_t given_up_from;         /* those below were handed out by fm_publisher_lost_next */
    struct lost_reader lost_reader;
    bool given_up_news;             /* to be told by the node's thread */
    struct publisher_marks marks;
    uint64_t bucket_ns;             /* token bucket: the time up to which tokens are spent */
    uint64_t unix_offset, unix_offset_until;

    uint64_t tick_due;              /* when the node's thread comes next */
    bool left_waiting;              /* a fact did, since the last tick */
    uint64_t hot_until;
    uint64_t last_send_ns;
    uint64_t head_due;              /* next head notice */
    uint64_t head_told;             /* the head in the last one */
    unsigned watermarks_wanted;     /* live_watermarks_wanted when they were last passed on */
    uint64_t reserve_due;           /* not before */
    uint64_t reserve_block;         /* sequences to reserve next: doubles while a block lasts less than a second */
    uint64_t reserved_ns;           /* when the last block was */

    /* Scratch for sending. */
    uint8_t *header;                /* LIVE_FRAME_MAX bytes */
    uint8_t *backs;                 /* the same */
    struct batch_topic *topics;     /* LEVEL_BATCH_TOPICS_MAX */

    uint64_t notice_due;            /* of the node's thread alone */
    struct publisher_repair *repair;    /* of the node's thread alone, without the lock */
    struct publisher_lost *lost_asks;   /* the same */
};

static inline uint64_t publisher_now (const struct fm_publisher *p)
{
    return p->clock->monotonic_ns (p->clock->context);
}

/* The last sequence that left. */
static inline uint64_t publisher_sent (const struct fm_publisher *p)
{
    return p->window.next_seq - 1;
}

/* Is the open batch part of a flood? Then it gathers on: queues count frames, and larger ones hold more facts. Under the lock. */
static inline bool publisher_gathers (const struct fm_publisher *p)
{
    return p->open.count > 1 && p->open.facts_len >= PUBLISHER_GATHER_BYTES;
}

/* When the open batch is to leave at the latest. */
static inline uint64_t publisher_open_due (const struct fm_publisher *p)
{
    return p->open.opened_ns + p->batch_ns * (publisher_gathers (p) ? PUBLISHER_GATHER_TIMES : 1);
}

/* How long the open batch may be overdue under load. */
static inline uint64_t publisher_hot_ns (const struct fm_publisher *p)
{
    const uint64_t hot = (uint64_t) PUBLISHER_HOT_US * 1000;
    return p->batch_ns > hot ? p->batch_ns : hot;
}

/* --- publisher_send.c, under the lock. */

/* Add a fact (checked, with its time) to the open batch, sending that first when the fact does not fit; a fact too large for a live frame is announced
 * at once. Returns 0 (the fact has p->next_seq - 1), FM_ERR_TOPIC or -ENOMEM: then nothing was accepted. */
int publisher_add (struct fm_publisher *p, struct fm_fact *fact, uint64_t now);
/* Send the open batch. -ENOMEM: it stays open. */
int publisher_send_open (struct fm_publisher *p, uint64_t now);
/* An upper bound of the bytes that keeping a fact, and what is in the open batch, will cost. */
size_t publisher_open_cost (const struct fm_publisher *p, const struct fm_fact *fact);
/* Tell the head, with the levels that changed lately. The open batch is empty. */
void publisher_tell_head (struct fm_publisher *p, uint64_t now);

/* How far to reserve sequences now; and: it is done. Under the lock. */
uint64_t publisher_reserve_end (struct fm_publisher *p, uint64_t now);
void publisher_reserved (struct fm_publisher *p, uint64_t end, uint64_t now);
/* Pass the journals' marks on to subscribers that want them: all, or only that of one journal. */
void publisher_pass_marks (struct fm_publisher *p, const struct fm_id *journal);

/* --- publisher_node.c, of the node's thread. */

uint64_t publisher_tick (void *arg, uint64_t now);
size_t publisher_streams (void *arg, Factmesh__StreamHead *ret, size_t max);
int publisher_control (void *arg, const struct node_route *from, const Factmesh__Control *control);

/* --- publisher_repair.c, of the node's thread, without the lock. */

int publisher_repair_new (struct publisher_repair **ret_repair);
void publisher_repair_destroy (struct publisher_repair **repair);
/* A ReplayOpen, ReplayCredit or ReplayClose. FM_ERR_UNKNOWN: of another stream or session. */
int publisher_repair_control (struct fm_publisher *p, const struct node_route *from, const Factmesh__Control *control, uint64_t now);
/* Send what credit allows. Returns when to come again. */
uint64_t publisher_repair_tick (struct fm_publisher *p, uint64_t now);

/* --- publisher_lost.c. */

/* After an open that brought facts back. -ENOMEM. */
int publisher_lost_open (struct fm_publisher *p);
void publisher_lost_close (struct fm_publisher *p);
/* Under the lock, after the marks, or what is known of what came back, changed: let go what the journals that count have. */
void publisher_settle (struct fm_publisher *p);
/* Came this fact back, did journals give it up, and was it not handed out? Under the lock. */
bool publisher_is_lost (struct fm_publisher *p, uint64_t seq);
/* The first of these; 0: there is none. Under the lock. */
uint64_t publisher_first_lost (struct fm_publisher *p);
/* FM_ERR_LOST with the ranges as its detail; 0: nothing is lost. Under the lock. */
int publisher_set_lost_ranges (struct fm_publisher *p);
/* Ask journals, take their answers. Of the node's thread, without the lock. Returns when to come again. */
uint64_t publisher_lost_tick (struct fm_publisher *p, uint64_t now);

#endif
