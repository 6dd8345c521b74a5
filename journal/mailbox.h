/* mailbox: what the node's thread hands to one of the journal's threads: control messages, and news of nodes that went.
 *
 * Thread:  put by any, take by one. One short lock.
 * Bounded: MAILBOX_MAX control messages, MAILBOX_BYTES_MAX as they came; news of nodes always fit, there are at most as many as members. */

#ifndef FM_JOURNAL_MAILBOX_H
#define FM_JOURNAL_MAILBOX_H

#include <pthread.h>

#include "node.h"

enum { MAILBOX_MAX = 4096, MAILBOX_BYTES_MAX = 16 << 20 };

struct mail {
    struct mail *next;
    struct node_route from;
    struct fm_id node_down;             /* not zero: this node went, and there is no message */
    bool said_goodbye;
    uint32_t done;                      /* a GroupJoin that waits: of what it holds so much was done when it began to */
    size_t bytes;
    Factmesh__Control *control;
};

struct mailbox {
    pthread_mutex_t lock;
    struct mail *first, **end;
    unsigned count;
    size_t bytes;
};

void mailbox_init (struct mailbox *box);
void mailbox_release (struct mailbox *box);

/* Copies the message. FM_ERR_LIMIT with a detail: too many wait; -ENOMEM. */
int mailbox_put (struct mailbox *box, const struct node_route *from, const Factmesh__Control *control);
void mailbox_put_down (struct mailbox *box, const struct fm_id *node, bool said_goodbye);

/* The oldest; NULL: none. To be freed with mail_destroy. */
struct mail *mailbox_take (struct mailbox *box);
void mail_destroy (struct mail **mail);

#endif
