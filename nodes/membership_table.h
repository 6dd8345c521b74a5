/* membership_table: the inside of membership: its tables of peers, contacts and seeds, and the queue of actions. membership.c has
 * the rules. */

#ifndef FM_NODES_MEMBERSHIP_TABLE_H
#define FM_NODES_MEMBERSHIP_TABLE_H

#include "membership.h"

#define MS_NS UINT64_C (1000000)
#define NEVER UINT64_MAX

enum { TRIES_MAX = 4 };

/* Times that are no option. */
enum {
    PING_ALWAYS = 4,                    /* periods */
    STAGGER_MS = 250,                   /* until the next address of a node is tried beside those that have not answered yet */
    HELLO_AGAIN_MS = 1000,              /* on a connection that stands and is silent */
    HELLO_LEAST_MS = 100,               /* on one contact, whatever asks for it */
    PUSH_MS = 100,                      /* between two tellings of our own changed info */
    SEEK_MS = 5000,                     /* a peer that doesn't answer at any address is given up (at least 2 dead_ms) */
    TOMBSTONE_MS = 30000,
    RETRY_MS = 1000,                    /* the dead: first asked again, then twice as late each time, … */
    RETRY_MAX_MS = 10000,
    RETRY_OPEN_MS = 2000,               /* … for so long each time … */
    FORGET_MS = 3600 * 1000,            /* … until so long after the death */
    DATA_ALONE_MS = 60000,              /* a member sends data and does not answer: its answers wait in the link's queues, or the way for them is broken */
    REFUSED_MS = 10000,                 /* a seed of another mesh or version is asked again */
    PATIENCE = 4,                       /* of two that have both been silent one waits a PATIENCE-th of a period longer: else both would always ask at once */
    GRAINS = 8                          /* a ping period is so many steps of our time: what falls into one is done together */
};

enum peer_state { PEER_SEEKING, PEER_MEMBER, PEER_DEAD };

struct peer {
    struct fm_id id;
    enum peer_state state;
    struct peer_info *info;             /* the newest that we know */
    uint32_t tries[TRIES_MAX];          /* contacts that ask its addresses, oldest first */
    unsigned try_count;
    unsigned next_address;              /* of info->control, the next to try */
    bool unreachable_told;
    /* SEEKING: */
    uint64_t since_ns;                  /* since when */
    uint64_t sought_ns;                 /* the same, or its last own sign */
    uint64_t try_ns;                    /* when the next address is due */
    /* MEMBER: */
    uint32_t contact;
    uint64_t heard_ns, said_ns, pinged_ns;
    uint64_t data_ns;                   /* it sent data elsewhere; 0: never */
    uint64_t told_ns, told_wait_ns, told_digests;   /* when we last sent Peers for a digest that differs, and how long until again */
    /* DEAD: */
    bool said_goodbye;
    uint64_t died_ns;
    uint64_t retry_ns, retry_wait_ns;   /* its addresses are asked again; retry_ns NEVER: not */
};

struct contact {
    bool used;
    uint16_t generation;                /* the high half of its number */
    bool writable;
    int seed;                           /* index, or -1 */
    struct peer *peer;                  /* whose address we take it for; that of a member: whose it is */
    uint64_t opened_ns, hello_ns;       /* hello_ns 0: not said yet */
    uint64_t reopen_ns, reopen_wait_ns; /* it could not be opened: when to try again, and how long that was waited for; 0: it could */
    char address[ADDRESS_TEXT_MAX];
};

struct seed {
    char address[ADDRESS_TEXT_MAX];
    enum membership_seed_state state;
    uint32_t contact;                   /* 0: none open */
    struct fm_id node;                  /* SEED_JOINED: who answered */
    uint64_t due_ns;                    /* without a contact: when to ask */
};

struct membership {
    struct peer_info *self;
    uint64_t ping_ns, dead_ns;
    struct peer **peers;                /* sorted by id */
    size_t peer_count, peer_size, member_count;
    struct contact *contacts;
    size_t contact_count, contact_size, seeking_contacts;   /* count: highest index used + 1 */
    struct seed *seeds;
    size_t seed_count;
    struct membership_action *actions;
    size_t action_first, action_count, action_size;
    uint64_t digest;
    uint64_t news;
    uint64_t due_ns;                    /* when the next tick is due */
    uint64_t pushed_ns, push_ns;        /* our own info: last told, next to be told (NEVER: known) */
    size_t rotor;                       /* membership_pick */
};

/* --- Peers. */
struct peer *peer_find (const struct membership *m, const struct fm_id *id);
/* Add a SEEKING one; takes info. NULL when there is no room or memory (then info is still the caller's). The dead make room, those that died first go first. */
struct peer *peer_add (struct membership *m, struct peer_info *info);
void peer_remove (struct membership *m, struct peer *p);
void peer_take_info (struct peer *p, struct peer_info *info);
/* Counts of members and the digest follow the state. */
void peer_set_state (struct membership *m, struct peer *p, enum peer_state state);
void peer_drop_tries (struct membership *m, struct peer *p, uint32_t but);

/* --- Contacts. */
struct contact *contact_find (const struct membership *m, uint32_t number);     /* NULL: closed meanwhile */
uint32_t contact_number (const struct membership *m, const struct contact *c);
/* Open one; 0: no room. peer and seed (-1) say for whom. */
uint32_t contact_open (struct membership *m, uint64_t now_ns, const char *address, struct peer *peer, int seed);
/* Close it and forget it at its peer and its seed. */
void contact_close (struct membership *m, uint32_t number);
/* No longer thought to be this peer's. */
void contact_detach (struct membership *m, uint32_t number);

/* --- Rules that membership.c and membership_time.c share. */
void contact_say_hello (struct membership *m, uint64_t now_ns, uint32_t number);    /* not too often */
void peer_try_next_address (struct membership *m, uint64_t now_ns, struct peer *p);
void peer_bury (struct membership *m, uint64_t now_ns, struct peer *p, bool said_goodbye);
void self_push (struct membership *m, uint64_t now_ns);                              /* when it is due */
static inline void due_by (struct membership *m, uint64_t ns)
{
    if (ns < m->due_ns)
        m->due_ns = ns;
}

/* --- Actions. */
void action_connect (struct membership *m, uint32_t contact);
void action_send (struct membership *m, uint32_t contact, enum membership_message message);
void action_node (struct membership *m, enum membership_kind kind, const struct peer *p);
void action_self_changed (struct membership *m);
void action_notice (struct membership *m, enum membership_notice notice, const struct fm_id *node, uint64_t late_ms);

#endif
