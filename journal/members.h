/* members: whom intake can ask: the nodes of the mesh with their control addresses, and which of them are journals.
 *
 * Thread:  written by the node's thread (node_listen), read by intake; one short lock.
 * Bounded: MEMBERS_MAX nodes, and as many that left and are remembered: all until intake has heard of it, journals for holders_wait_ms, since they
 *          have what they had. */

#ifndef FM_JOURNAL_MEMBERS_H
#define FM_JOURNAL_MEMBERS_H

#include "context.h"

struct members;

struct member {
    struct fm_id node;
    char control[FM_PEER_ADDRESS_MAX];
    bool is_journal;                    /* another one than this */
    bool gone, said_goodbye;
    bool forgotten;                     /* intake has done what its going asks for */
    uint64_t gone_ns;                   /* monotonic */
};

/* Changes raise the wake. */
int members_new (struct journal_context *context, struct wake *wake, struct members **ret_members);
void members_destroy (struct members **members);

/* False: not known. */
bool members_find (struct members *m, const struct fm_id *node, struct member *ret_member);
/* Intake has done what a member's going asks for. */
void members_forget (struct members *m, const struct fm_id *node);

/* Other journals that are there, or went a moment ago: in [0, count). */
size_t members_journals (struct members *m, uint64_t now);
bool members_journal (struct members *m, size_t index, uint64_t now, struct member *ret_member);
/* Grows with each journal that comes or goes, and whenever their numbers may mean others. */
uint64_t members_journals_version (struct members *m);

#endif
