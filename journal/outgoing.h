/* outgoing: how many bytes of replays wait in ZeroMQ for askers that have not taken them yet: of each connection, and of all together.
 *
 * ZeroMQ bounds what waits for a connection in messages alone. So each message is wrapped: its bytes count from outgoing_wrap until ZeroMQ has let it go,
 * written or dropped.
 *
 * Owns:    the counts. Messages keep what they count on alive: all may be released while some are under way.
 * Thread:  the server's; messages are let go by ZeroMQ's.
 * Bounded: SERVER_OUTGOING_BYTES of all connections, SERVER_OUTGOING_EACH_BYTES of one; and beyond that a message for each connection that has none
 *          waiting, so that those who do not read keep nobody from reading. */

#ifndef FM_JOURNAL_OUTGOING_H
#define FM_JOURNAL_OUTGOING_H

#include <stdbool.h>
#include <stddef.h>
#include <zmq.h>

struct outgoing_all;                        /* opaque */
struct outgoing;                            /* of one connection; opaque */

int outgoing_all_new (struct outgoing_all **ret_all);
void outgoing_all_release (struct outgoing_all **all);
int outgoing_new (struct outgoing_all *all, struct outgoing **ret_outgoing);
void outgoing_release (struct outgoing **outgoing);

/* Count this message, which stays the caller's. -ENOMEM: it is as it was. */
int outgoing_wrap (struct outgoing *o, zmq_msg_t *message);

size_t outgoing_bytes (const struct outgoing *o);
/* May the next message go? */
bool outgoing_has_room (const struct outgoing *o);

#endif
