/* groups: instances of a service that split the matching facts. A thread reads the synced log for each group that has members, and hands facts out;
 * outcomes go into the group's state, which is stored in the log and confirmed when it is durable.
 *
 *     node's thread: GroupJoin, Outcomes, GroupCommand --> mailbox --> groups thread: read, hand out, store --> node_reply
 *                                                             ^
 *     sync thread: the synced end moved ----------------------'
 *
 * Owns:    the thread; each group's state (group_state.h), readers and cache.
 * Promise: what is handed out is synced. A confirmed outcome survives kill -9 and power loss. What was handed out and not confirmed is handed out again.
 * Bounded: GROUPS_MAX groups; GROUP_… (group_state.h) for each; GROUPS_CACHE_BYTES of facts; outcomes that wait for the disk. */

#ifndef FM_JOURNAL_GROUPS_H
#define FM_JOURNAL_GROUPS_H

#include "context.h"

enum {
    GROUPS_MAX = 1024,
    GROUPS_TURN_RECORDS = 256,          /* read for one group before others have their turn */
    GROUPS_REJOIN_RECORDS = 16384,      /* looked at for what somebody who comes back still holds */
    GROUPS_TURN_HAND_OUTS = 4096,
    GROUPS_WORK_BYTES = 256 << 10,      /* of one Work message, about; a larger fact goes alone */
    GROUPS_CONFIRMS_MAX = 65536,        /* outcomes of one group that wait for the disk: then its members wait */
    GROUPS_STORE_MS = 1,                /* between two stores of one group, at least; longer when its state is large: */
    GROUPS_STORE_BYTES_MS = 32 << 10,   /* a ms for so many bytes */
    GROUPS_IDLE_STORE_MS = 200,         /* a place that moved without outcomes is stored so often */
    GROUPS_LIST_MAX = 1000,
    GROUPS_LIST_MEMBERS = 8192,         /* told in one answer, about */
    GROUPS_LEASE_MIN_MS = 100,
    GROUPS_SILENT_MS = 60000,           /* an instance that says nothing for so long, and has nothing in hand, is forgotten */
    GROUPS_ROOT_WAIT_MS = 2000,         /* a correction that was recorded before what it corrects waits for it so long */
    GROUPS_REPLY_BYTES = 1 << 20        /* of parked facts in one answer, about */
};
#define GROUPS_CACHE_BYTES ((size_t) 32 << 20)

struct groups;

int groups_new (struct journal_context *context, struct groups **ret_groups);
void groups_destroy (struct groups **groups);

#endif
