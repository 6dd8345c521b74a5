/* link: a connection of the command to one journal, for requests and replays.
 *
 * Owns:    the replay client, and the node unless it was borrowed.
 * Thread:  one.
 * Errors:  after a message: each returns CLI_OK or an exit status. */

#ifndef FM_CLI_LINK_H
#define FM_CLI_LINK_H

#include "options.h"
#include "replay_client.h"

enum { LINK_TIMEOUT_MS = 10000 };

struct link {
    const struct cli *cli;
    int timeout_ms;
    struct fm_node *node;
    bool borrowed; /* the node */
    struct replay_client *client;
    struct fm_id journal;
    uint64_t generation;
    char name[NODE_NAME_MAX + 1];
    char address[FM_PEER_ADDRESS_MAX];
};

/* Join the mesh and connect to a journal: the one whose id begins with `journal`, or any when NULL (that with the
 * lowest id). */
int link_open (struct link *link, const struct cli *cli, const char *journal);
/* The same over a node that is there. It is borrowed. */
int link_join (struct link *link, const struct cli *cli, struct fm_node *node);
void link_close (struct link *link);

/* Ask and wait for the answer. `want` is the body's case that is right; anything else becomes a message. *ret_reply is
 * valid until the next call on the link. */
int link_request (struct link *link, Factmesh__Control *request, Factmesh__Control__BodyCase want,
                  Factmesh__Control **ret_reply);

/* The same; but this error is an answer, too: *ret_reply is NULL then. */
int link_request_or (struct link *link, Factmesh__Control *request, Factmesh__Control__BodyCase want, Factmesh__ErrorCode expected,
                     Factmesh__Control **ret_reply);

/* Wait for the next event of the client. CLI_OK; CLI_TIMEOUT after a message that says what was waited for; CLI_SIGNAL
 * and its number. */
int link_wait (struct link *link, const char *what, struct replay_event *ret_event);

/* Where a named cursor stands, encoded, for FM_FROM_CURSOR; the caller frees *ret_bytes. */
int link_cursor_bytes (struct link *link, const char *name, void **ret_bytes, size_t *ret_len);

/* What a named cursor is of: its patterns with commas between; "" when there is no such cursor, or it is not known. Valid
 * until the next call on the link. */
int link_cursor_filters (struct link *link, const char *name, struct fm_slice *ret_filters);

#endif
