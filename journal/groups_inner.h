/* groups_inner: what groups.c (thread, mailbox, instances, outcomes), groups_join.c (joining), groups_feed.c (reading and handing out),
 * groups_store.c (the state's bytes) and groups_command.c (what people ask) share. Thread: the groups' alone. */

#ifndef FM_JOURNAL_GROUPS_INNER_H
#define FM_JOURNAL_GROUPS_INNER_H

#include "control.h"
#include "fact_finder.h"
#include "group_state.h"
#include "groups.h"
#include "mailbox.h"

/* Topic patterns, owned. */
struct group_filters {
    struct fm_slice patterns[FILTERS_MAX];
    size_t count;
    char *bytes;
};

struct group_config {
    struct group_filters filters;
    enum group_effect effect;
    uint32_t lease_ms, attempts_max;
};

struct group_instance {
    uint64_t number;
    struct node_route route;
    struct fm_id node;
    char name[NODE_NAME_MAX + 1];
    uint64_t heard_ns;
};

/* The asker of a deletion, until that is durable. */
struct group_erased {
    struct group_erased *next;
    struct node_route to;
    uint64_t request, ticket;
};

/* An answer that waits until the store that it needs is durable. */
struct group_confirm {
    struct group_confirm *next;
    struct node_route to;
    uint64_t request, member;
    uint64_t store;                     /* number of that store */
    bool command;                       /* of a person: GroupReply, else OutcomesConfirm */
    unsigned tries;                     /* that could not be sent */
    size_t refused_count;
    uint64_t refused[];
};

/* A walk over the log for one group. */
struct group_walk {
    struct log_reader *reader;          /* NULL: not needed yet, or given back */
    bool placed;
};

struct group {
    struct group *next;
    char name[GROUP_NAME_MAX + 1];
    struct group_config config;
    struct group_state *state;
    struct group_walk walk;

    /* hand_out_skipped: what older filters had left out in [skipped_next, skipped_end): skipped_filters since `filters_since`, ever_filters before. */
    uint64_t skipped_next, skipped_end;
    struct group_filters skipped_filters;
    uint64_t begin;                     /* the group's first offset: what lies below was nobody's to skip */
    uint64_t filters_since;             /* with skipped_filters: since when they were in force; else since when the present ones are */
    struct group_filters ever_filters;  /* of all times; while skipped_filters are there without the present ones */
    struct group_walk skipped_walk;

    struct group_instance *instances;
    size_t instance_count, instance_size;

    /* Stores: numbered; one under way at a time. */
    bool dirty, urgent;                 /* something changed; somebody waits for it */
    uint64_t stores, stored;            /* begun; durable */
    uint64_t ticket;
    uint64_t store_due_ns;
    bool may_hand_out;                  /* this start's number is durable: tokens grow */
    struct group_confirm *confirms, **confirms_end;
    size_t confirm_count;
    bool store_told, read_told, hand_out_told;     /* of the error that lasts */

    /* The store that must be durable before anybody joins: of this start, of the newest topics, of what somebody who comes back has done. Joins wait for it. */
    uint64_t config_store;
    struct mail *joins, **joins_end;
};

struct groups {
    struct journal_context *context;
    pthread_t thread;
    bool runs, handles, listens;
    atomic_bool stop;
    struct mailbox box;
    struct group *list;                 /* in order of names */
    size_t count;
    uint64_t members;                   /* numbers given */
    struct group_erased *erased;        /* newest first */
    uint64_t key_seed;
    struct fact_finder *finder;
    struct batch_scratch scratch;
    uint8_t *matches;                   /* by topic_index of the batch in hand */
    size_t match_size;
    void *buffer;                       /* of log_cursor_get */
    size_t buffer_size;
};

/* --- groups.c */

void groups_refuse (struct groups *gs, const struct node_route *to, uint64_t request, int rc);
/* Encode and send. 0, -ENOMEM, or node_reply's errors: what can't be sent is dropped. */
int groups_answer (struct groups *gs, const struct node_route *to, uint64_t request, Factmesh__Control *control);
struct group *groups_find (struct groups *gs, struct fm_slice name);
/* Answer when what is so far is durable. */
int groups_confirm (struct group *g, const struct node_route *to, uint64_t request, uint64_t member, bool command, const uint64_t *refused, size_t count);
void groups_forget (struct groups *gs, struct group *g);
/* Answer, when it is durable, that a group is gone. */
int groups_confirm_erased (struct groups *gs, const struct mail *mail, uint64_t ticket);

/* --- groups_join.c */

/* Answer, or take the message over to answer when what it made or changed is durable. An error: the caller refuses it. */
int groups_join (struct groups *gs, struct mail *mail, uint64_t now);

/* --- groups_feed.c */

/* Look at more of the log; for somebody who comes back up to `through`, as far as that is near. True: there is more to look at now. *ret_due: look again
 * then. */
bool groups_read (struct groups *gs, struct group *g, uint64_t through, uint64_t now, uint64_t *ret_due);
/* True: somebody has credit and there is more. */
bool groups_hand_out (struct groups *gs, struct group *g, uint64_t now);
void groups_walk_reset (struct group_walk *w);
uint64_t groups_key (const struct groups *gs, const struct fm_fact *fact);

/* --- groups_store.c */

int group_filters_copy (const ProtobufCBinaryData *from, size_t count, struct group_filters *ret_filters);  /* FM_ERR_TOPIC, FM_ERR_LIMIT, -ENOMEM */
void group_filters_release (struct group_filters *f);
bool group_filters_equal (const struct group_filters *a, const struct group_filters *b);
bool group_filters_match (const struct group_filters *f, struct fm_slice topic);
/* Add others to f, which becomes everything when they are too many. -ENOMEM: f is as before. */
int group_filters_add (struct group_filters *f, const struct group_filters *others);
/* Point into the filters; `pointers` is calloc'ed for the caller. */
int group_config_put (const struct group_config *config, Factmesh__GroupConfig *message, ProtobufCBinaryData ret_filters[FILTERS_MAX]);
int group_make (struct groups *gs, struct fm_slice name, const struct group_config *config, struct group **ret_group);      /* takes config's filters */
/* Put the state into the log. */
int group_store (struct groups *gs, struct group *g, uint64_t now);
/* All groups that the log has. */
int groups_load (struct groups *gs);
int group_erase (struct groups *gs, struct group *g, uint64_t *ret_ticket);

/* --- groups_command.c */

void groups_command (struct groups *gs, const struct mail *mail, uint64_t now);
void groups_list (struct groups *gs, const struct mail *mail);
void groups_tell_erased (struct groups *gs, const struct node_route *to, uint64_t request);
void groups_reply_info (struct groups *gs, struct group *g, const struct node_route *to, uint64_t request, uint64_t parked_after, uint32_t parked_limit);

#endif
