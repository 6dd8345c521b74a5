/* worker_inner: what worker.c (calls, waiting, outcomes) and worker_join.c (finding the journal, joining, coming back) share.
 * Thread: the caller's, one at a time. */

#ifndef FM_NODES_WORKER_INNER_H
#define FM_NODES_WORKER_INNER_H

#include "batch.h"
#include "node.h"
#include "replay_client.h"

enum {
    WORKER_IN_HAND = 16,
    WORKER_OUTCOMES_MAX = 4096,         /* told or not, not confirmed */
    WORKER_TELL_MAX = 64,               /* outcomes that gather before they are told while there is work, */
    WORKER_TELL_MS = 1,                 /* or for so long */
    WORKER_REDELIVERY_MS = 1000,        /* before a fact is taken again what was told before is confirmed, or so long waited for */
    WORKER_ALIVE_MS = 1000,             /* a journal that says nothing is asked so often, */
    WORKER_SILENT_MS = 3000,            /* and after so long connected to anew */
    WORKER_RETRY_MS = 100,
    WORKER_SETTLE_MS = 500,             /* the only journal for so long: else each of several could get a group of the same name */
    WORKER_OPEN_MS = 5000,
    WORKER_CLOSE_MS = 1000,
    WORKER_REASON_MAX = 255,
    WORKER_LEASE_SHARE = 8              /* of a lease, kept back: the journal's began before we heard of it */
};

/* One fact in hand. */
struct work_item {
    uint64_t offset, token;
    uint32_t deliveries, attempts, flags;
    struct fm_fact_id root, parked;
    uint8_t *bytes;                     /* a batch with the fact alone */
    size_t len;
};

struct work_outcome {
    uint64_t offset, token;
    uint64_t request;                   /* told with; 0: not yet */
    Factmesh__OutcomeKind kind;
    uint32_t delay_ms;
    char reason[WORKER_REASON_MAX + 1];
};

enum worker_state { WORKER_AWAY, WORKER_JOINING, WORKER_JOINED };

struct fm_worker {
    struct fm_node *node;

    /* Options. */
    char *group, *instance, *pattern_bytes;
    ProtobufCBinaryData patterns[FILTERS_MAX];
    size_t pattern_count;
    enum fm_effect effect;
    bool from_now, change_topics, hand_out_skipped;
    uint64_t from_time_ns;
    unsigned in_hand, attempts_max, lease_ms;

    /* The journal that keeps the group. */
    bool has_journal;
    uint64_t only_since_ns;             /* not named: since when this one is the only one */
    struct fm_id journal;
    struct replay_client *client;
    enum worker_state state;
    uint64_t join_request, member;
    uint64_t heard_ns, asked_ns, retry_ns;      /* asked: told outcomes, or that we live */
    uint64_t lease_ns;                  /* as joined */
    int refused;                        /* the journal refused us: returned by open, or by the next call */
    char refused_text[256];
    int away;                           /* why it can't be asked, or must be asked again */
    bool answered;                      /* it said so itself: that stands until it says something else */
    char away_text[256];

    /* One lease for all that is in hand, as at the journal: it begins anew with each outcome told, and with the first fact in empty hands. By our clock, and
     * it ends earlier than the journal's. */
    uint64_t lease_begin_ns, lease_end_ns, join_ns;
    uint64_t looked_ns;                 /* when all that the journal had said was read */

    /* What is in hand: a ring. The current one is taken out of it. */
    struct work_item *queue;
    size_t queue_first, queue_count;
    uint64_t last_token;                /* that was taken since the join */
    struct work_item current;
    bool has_current, current_lost, current_begun;
    uint64_t held_back_ns;              /* since when a redelivery waits for what was told before; 0: none does */
    struct batch batch;
    struct batch_scratch scratch;

    /* Outcomes, in the order in which they were made. */
    struct work_outcome *outcomes;
    size_t outcome_count, untold;
    uint64_t late;                      /* outcomes refused since the last commit */

    int epoll_fd, timer_fd, wake_fd;
    bool polled, woken;
};

/* --- worker_join.c */

/* Find the journal, join, come back: one step; never blocks. */
void worker_join_step (struct fm_worker *w, uint64_t now_ns);
void worker_on_joined (struct fm_worker *w, const Factmesh__GroupJoined *joined, uint64_t now_ns);
void worker_disconnect (struct fm_worker *w, uint64_t now_ns);
/* Why there is no answer yet: told when time is over. */
void worker_put_off (struct fm_worker *w, int code, const char *text);
/* The code that an Error of a journal stands for. */
int worker_error_of (Factmesh__ErrorCode code);

/* --- worker.c */

void worker_item_release (struct work_item *item);
/* The lease begins anew, at that time. */
void worker_renew (struct fm_worker *w, uint64_t begin_ns);
/* One that came too late, if it said anything that counts. */
void worker_outcome_late (struct fm_worker *w, const struct work_outcome *o);
int worker_watch (struct fm_worker *w);

#endif
