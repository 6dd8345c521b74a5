/* membership: who is in the mesh, as one node sees it. Pure: events in, actions out; no sockets, no clock (the caller brings the
 * monotonic time with each event), no threads.
 *
 * Words:   contact: one outgoing connection (a DEALER) to one control address, named by a number.
 *          peer: another node that we have heard of. It is a member once it has answered us itself, with Welcome, on a contact.
 *
 *      heard of (Welcome, Peers, beacon; its own Hello)          its Welcome           silent for dead_ms, Goodbye,
 *                         ------------------> SEEKING ------------------------> MEMBER ----------------.  replaced
 *                                             ^    | nobody answers for long                           v
 *                                             |    '--------------------------------------------->   DEAD
 *                                             '---- its own Hello; after 30 s heard of again -----------'
 *
 *   SEEKING  its addresses are tried one after the other, some at a time, with Hello.
 *   MEMBER   has one contact; pinged when we have said nothing for ping_ms; any message is a sign of life, for a while data too.
 *   DEAD     a tombstone: for 30 s what others tell about it is not believed. Unless it said goodbye its addresses are asked again, ever more
 *            rarely, so that a healed partition joins again; so are the seeds, for ever.
 *
 * Invariants (membership_check; tests/unit/test_membership drives them with random meshes):
 *   1. UP and DOWN of one node alternate; CHANGED only between them.   2. digest is that of the members and ourselves.
 *   3. A member has exactly one contact, in use, that answered with its id.   4. A SEEKING peer has at most TRIES_MAX contacts, a DEAD one likewise.
 *   5. Nobody is declared dead for a silence that was our own (tick late by more than dead_ms / 2: everybody gets a new dead_ms).
 *   6. Tables: peers <= MEMBERS_MAX, contacts <= CONTACTS_MAX. */

#ifndef FM_NODES_MEMBERSHIP_H
#define FM_NODES_MEMBERSHIP_H

#include "peer_info.h"

enum {
    CONTACTS_MAX = 2 * MEMBERS_MAX,
    SEEKING_CONTACTS_MAX = 512,         /* open at a time towards nodes that have not answered */
    SEEDS_MAX = 64,
    GOSSIP_MAX = 64                     /* peers in one Welcome or Peers; the next message tells the next ones */
};

struct membership;

struct membership_options {
    struct peer_info *self;             /* taken (malloc) */
    uint32_t ping_ms, dead_ms;
};
/* Returns 0 or -ENOMEM (then self is still the caller's). */
int membership_new (const struct membership_options *options, struct membership **ret_membership);
void membership_destroy (struct membership **membership);

/* A seed: asked for ever until a member is behind it. Before the first tick. FM_ERR_LIMIT. */
int membership_add_seed (struct membership *m, const char *address);

/* --- Actions. Take all of them after each event, in order; they are void with the next event. */

enum membership_kind {
    MEMBERSHIP_CONNECT = 1,             /* open `contact` to `address` (valid until the next event; NULL: closed again already) */
    MEMBERSHIP_CLOSE,                   /* close `contact` */
    MEMBERSHIP_SEND,                    /* `message` through `contact`; contact 0: in answer to the message just given */
    MEMBERSHIP_UP,                      /* `node` is a member now */
    MEMBERSHIP_CHANGED,                 /* a member's name, addresses or journal changed, or our own journal */
    MEMBERSHIP_DOWN,                    /* not any more */
    MEMBERSHIP_NOTICE                   /* tell a person: `notice` about `node` */
};
enum membership_message { SAY_HELLO = 1, SAY_WELCOME, SAY_WELCOME_PEERS, SAY_PEERS, SAY_PING, SAY_PONG, SAY_GOODBYE, SAY_UNKNOWN_NODE, SAY_FULL };
enum membership_notice { NOTICE_UNREACHABLE = 1, NOTICE_REPLACED, NOTICE_SILENT, NOTICE_STALLED, NOTICE_FULL };

struct membership_action {
    enum membership_kind kind;
    uint32_t contact;
    enum membership_message message;
    enum membership_notice notice;
    struct fm_id node;
    bool said_goodbye;                  /* MEMBERSHIP_DOWN */
    const char *address;                /* MEMBERSHIP_CONNECT */
    uint64_t late_ms;                   /* NOTICE_STALLED */
};
bool membership_take (struct membership *m, struct membership_action *ret_action);
/* How many UP, CHANGED and DOWN there were so far, those not yet taken included. */
uint64_t membership_news (const struct membership *m);

/* --- Events. Those that take an info own it afterwards, whatever happens. */

/* Time has passed. membership_due: when to call (again); later than that by more than dead_ms / 2 means that we were stopped. */
void membership_tick (struct membership *m, uint64_t now_ns);
uint64_t membership_due (const struct membership *m);

/* A contact's connection was made (can be written to) or lost. */
void membership_writable (struct membership *m, uint64_t now_ns, uint32_t contact, bool writable);

/* From the ROUTER; answers have contact 0. */
void membership_hello (struct membership *m, uint64_t now_ns, struct peer_info *info);
void membership_ping (struct membership *m, uint64_t now_ns, const struct fm_id *node, uint64_t digest, uint64_t version);
void membership_goodbye (struct membership *m, uint64_t now_ns, const struct fm_id *node);

/* A contact that MEMBERSHIP_CONNECT asked for could not be opened (no descriptors, no memory): it is asked for again, later and later. */
void membership_unopened (struct membership *m, uint64_t now_ns, uint32_t contact);

/* From a contact. */
void membership_welcome (struct membership *m, uint64_t now_ns, uint32_t contact, struct peer_info *info);
void membership_pong (struct membership *m, uint64_t now_ns, uint32_t contact, const struct fm_id *node, uint64_t digest);
void membership_unknown_node (struct membership *m, uint64_t now_ns, uint32_t contact);    /* it doesn't know us (any more) */
void membership_refused (struct membership *m, uint64_t now_ns, uint32_t contact, int code); /* FM_ERR_MESH, FM_ERR_VERSION: no place for us */
void membership_sign_of_life (struct membership *m, uint64_t now_ns, uint32_t contact);     /* any other message */

/* Data of a member came just now, over a connection that is none of ours: its answers may wait behind that. Believed for DATA_ALONE_MS at most. */
void membership_data (struct membership *m, uint64_t now_ns, const struct fm_id *node);

/* From either, one at a time: what others tell (Peers, Welcome's peers); a beacon is a sign of the node itself. */
void membership_gossip (struct membership *m, uint64_t now_ns, struct peer_info *info);
void membership_beacon (struct membership *m, uint64_t now_ns, struct peer_info *info);

/* Our own info changed (its journal, its streams): members are told, at most ten times a second. */
void membership_set_journal (struct membership *m, uint64_t now_ns, const struct fm_id *journal, uint64_t generation);
void membership_self_changed (struct membership *m, uint64_t now_ns);

/* Say goodbye to all. */
void membership_close (struct membership *m);

/* --- Looking. */

struct membership_member {
    const struct peer_info *info;
    const char *address;                /* the control address that answered */
    uint32_t contact;
    uint64_t heard_ns;
};
const struct peer_info *membership_self (const struct membership *m);
uint64_t membership_digest (const struct membership *m);
size_t membership_count (const struct membership *m);           /* members and ourselves */
/* The next member in the order of ids; *cursor starts at 0. */
bool membership_next (const struct membership *m, size_t *cursor, struct membership_member *ret_member);
bool membership_find (const struct membership *m, const struct fm_id *node, struct membership_member *ret_member);
/* Up to max members to tell somebody of; goes round from call to call. */
size_t membership_pick (struct membership *m, const struct peer_info **ret_infos, size_t max);

enum membership_seed_state { SEED_SILENT, SEED_JOINED, SEED_SELF, SEED_FOREIGN, SEED_OTHER_VERSION };
/* How seed number index stands; false behind the last. */
bool membership_seed (const struct membership *m, size_t index, const char **ret_address, enum membership_seed_state *ret_state);

/* Assert the invariants (tests). */
void membership_check (const struct membership *m);

#endif
