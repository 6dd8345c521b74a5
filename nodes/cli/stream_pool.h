/* stream_pool: the streams that `factmesh pub` goes on with from run to run, so that a thousand runs are not a thousand
 * streams.
 *
 *   ${XDG_STATE_HOME:-~/.local/state}/factmesh/streams/MESH/pub-N     the first that no other process has open
 *   …/MESH/NAME                                                       --stream NAME
 *
 * A publisher's own lock on its directory decides; runs side by side take one each. One that holds a window on disk, with facts that may be in no
 * journal, is for runs with window_on_disk: these take such ones first, so that what a killed run left gets to a journal; all others pass it over. */

#ifndef FM_CLI_STREAM_POOL_H
#define FM_CLI_STREAM_POOL_H

#include "factmesh.h"

enum { STREAM_POOL_MAX = 1024 };

/* Open a publisher with options (directory is set here) on a stream of the pool. name NULL: any. Errors: those of
 * fm_publisher_open (FM_ERR_ARGUMENT: this name holds a window, and options do not) and -errno, with a detail. */
int stream_pool_open (struct fm_node *node, const char *mesh, const char *name, struct fm_publisher_options *options,
                      struct fm_publisher **ret_publisher);

#endif
