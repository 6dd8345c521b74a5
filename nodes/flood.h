/* flood: who sends a node more control messages than it can answer is not listened to for the rest of a second.
 *
 * ROUTERs take what comes without a bound, since libzmq 4.3.4 aborts the process when a connection whose queue is full breaks (see sockets.c). So the
 * queue must be read faster than one peer can fill it: to drop a message costs a fraction of what an answer costs. Only while there is always another
 * message waiting: a peer that waits for answers is never meant, however busy it is.
 *
 * Threads: one at a time. Pure: no clock, no sockets. */

#ifndef FM_NODES_FLOOD_H
#define FM_NODES_FLOOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FLOOD_ROUTES = 32,              /* that are counted: whoever sends more than a 33rd of all that comes is among them */
    FLOOD_WINDOW_MS = 1000,
    FLOOD_MESSAGES = 20000,         /* of one route within a window, without the queue being empty once */
    FLOOD_REFUSED = 10              /* messages that one counts for which had to be refused: it was read, told and answered for nothing */
};

struct flood {
    uint64_t until_ns;              /* the window's end */
    unsigned count;
    struct {
        uint64_t route;
        uint32_t messages;
    } seen[FLOOD_ROUTES];
};

/* Count a message of a route (a hash of its name), and tell whether to read it. */
bool flood_admits (struct flood *flood, uint64_t route, uint64_t now_ns);

/* The message that was just admitted had to be refused. */
void flood_refused (struct flood *flood, uint64_t route);

/* The queue is empty: whatever came could be read. */
void flood_is_over (struct flood *flood);

#endif
