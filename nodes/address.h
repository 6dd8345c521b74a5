/* address: where a node listens and what it tells others: tcp://HOST:PORT or ipc://PATH, checked and taken apart.
 *
 * Owns:    nothing; addresses are values.
 * Thread:  any.
 * Promise: what address_parse accepted, libzmq accepts too. Nothing here opens a socket; address_advertise asks the kernel for its
 *          interfaces, address_resolve_bind may ask the resolver for a name. */

#ifndef FM_NODES_ADDRESS_H
#define FM_NODES_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fm_limits.h"
#include "fm_types.h"

enum {
    ADDRESS_TEXT_MAX = 256,             /* with the NUL; FM_PEER_ADDRESS_MAX of node.h */
    ADDRESS_HOST_MAX = 200,
    ADDRESS_PATH_MAX = 107,             /* what sockaddr_un holds beside the NUL */
    ADDRESS_BIND_PATH_MAX = 102         /* ".live" must fit behind it */
};

enum address_kind { ADDRESS_TCP, ADDRESS_IPC };
enum address_use { ADDRESS_TO_CONNECT, ADDRESS_TO_BIND };   /* only a bind may leave host or port open ("*", 0) */

struct address {
    enum address_kind kind;
    bool v6;                            /* tcp: the host was in brackets */
    uint16_t port;                      /* tcp; 0: any */
    char host[ADDRESS_HOST_MAX + 1];    /* tcp; without brackets; "*": all interfaces */
    char path[ADDRESS_PATH_MAX + 1];    /* ipc */
};

struct address_list {
    size_t count;
    char text[ADDRESSES_MAX][ADDRESS_TEXT_MAX];
};

/* Check and take apart. FM_ERR_ADDRESS, with a detail that says what is wrong with it and what it should look like. */
int address_parse (struct fm_slice text, enum address_use use, struct address *ret_address);

/* Write it as libzmq wants it. Returns text. */
char *address_text (const struct address *a, char text[ADDRESS_TEXT_MAX]);

/* Reachable from this host alone? All interfaces ("*", 0.0.0.0, [::])? */
bool address_is_local (const struct address *a);
bool address_is_wildcard (const struct address *a);

/* Do two addresses name the same host (by its text)? ipc: the same directory entry but for ".live". */
bool address_same_host (const struct address *a, const struct address *b);

/* Take the next item of a comma-separated list, blanks trimmed; false at its end. *list moves on. */
bool address_list_next (const char **list, struct fm_slice *ret_item);

/* libzmq binds to numbers and interface names only: turn another host name into its number. FM_ERR_ADDRESS. */
int address_resolve_bind (struct address *a);

/* What to tell others about an endpoint that is bound at `bound` (with its real port): the hosts of `advertise` (commas between),
 * or else the bound host, or each of this machine's addresses when all interfaces are bound (loopback only when there is no other).
 * An item may say at which port others reach it, HOST:PORT; with hosts_only that is another endpoint's, and the bound one is told.
 * The order depends on the hosts alone, so that the lists of two endpoints of one node correspond. FM_ERR_ADDRESS. */
int address_advertise (const struct address *bound, const char *advertise, bool hosts_only, struct address_list *ret_list);

#endif
