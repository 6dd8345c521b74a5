/* peer_info: what a node tells about itself (NodeInfo), checked and copied into one block.
 *
 * Owns:    its texts.   Thread: any; immutable but for the own node's, which the node's thread changes. */

#ifndef FM_NODES_PEER_INFO_H
#define FM_NODES_PEER_INFO_H

#include "address.h"
#include "control.h"

struct peer_info {
    struct fm_id node;
    char name[NODE_NAME_MAX + 1];
    bool is_journal;
    struct fm_id journal;
    uint64_t generation;
    uint64_t started_ns;
    uint64_t version;                   /* grows with each change; of two infos about one node the higher is the newer */
    unsigned streams;                   /* how many it told; their heads are not kept */
    unsigned live_count, control_count;
    char *live[ADDRESSES_MAX];          /* point into text; control has one at least */
    char *control[ADDRESSES_MAX];
    char text[];
};

/* Check and copy. Addresses of kinds that this version does not know are left out. FM_ERR_MALFORMED: no node id, no usable control
 * address, or beyond a limit. The caller owns *ret_info: free. */
int peer_info_read (const Factmesh__NodeInfo *message, struct peer_info **ret_info);

/* The other way: a message that borrows everything from info; *journal is its room for the journal's part. Streams are the caller's. */
void peer_info_write (const struct peer_info *info, Factmesh__NodeInfo *ret_message, Factmesh__JournalInfo *journal);

/* The live address to use for a peer that answered at the address `answered`: the advertised one on that host; else (it answered
 * at a name or through a translation that it doesn't know of) that host with the advertised port; else the first. False: it has none. */
bool peer_info_live (const struct peer_info *info, const char *answered, char ret_live[ADDRESS_TEXT_MAX]);

/* Do both say the same to those that hold connections (addresses, journal, name)? */
bool peer_info_same (const struct peer_info *a, const struct peer_info *b);

#endif
