/* shop: what the services have in common: a directory, a node, a stream to publish on. And the services themselves.
 *
 * Thread: each service is one process with one thread. It ends at SIGTERM or SIGINT, or when a call fails that can't be helped by waiting. */

#ifndef FACTMESH_SHOP_H
#define FACTMESH_SHOP_H

#include <stdbool.h>
#include <stdint.h>

#include "factmesh.h"

enum {
    SHOP_SLICE_MS = 250,            /* how soon a service sees that it shall end */
    SHOP_OPEN_MS = 30000,           /* to find the journal */
    SHOP_SYNC_MS = 5000             /* for what a service published to be on the journal's disk */
};

/* The facts of the shop. The key is always the order's number, the payload the order (order.h). */
#define TOPIC_PLACED "orders.placed"            /* an order; or, with `corrects`, its whole new content */
#define TOPIC_CANCELLED "orders.cancelled"      /* a credit note: invoices that begin with C */
#define TOPIC_FULFILLED "orders.fulfilled"      /* it left the warehouse; causation: the order */
#define TOPIC_INVOICED "orders.invoiced"        /* its invoice is the blob; causation: the order, or its correction */
#define TOPIC_STOCK "stock.query"               /* a request; the payload is a stock code */

struct shop {
    const char *name;               /* of this process, for people and for its files: "fulfilment-2" */
    const char *dir;                /* of the whole shop; each service has its own files there */
    const char *seeds, *mesh;       /* where the mesh is */
    const char *first, *second;     /* what else stands on the command line; NULL: nothing */
    unsigned rate;                  /* orders a second; 0: as fast as it goes */
    unsigned pick_ms;               /* fulfilment: how long a parcel takes */
    int timeout_ms;                 /* ask: for an answer */
    struct fm_node *node;
    struct fm_publisher *out;
};

/* Join the mesh; with a stream under DIR/NAME.stream when it publishes. */
int shop_open (struct shop *shop, bool publishes);
void shop_close (struct shop *shop);
/* SIGTERM or SIGINT came. */
bool shop_is_over (void);
/* A line for people on standard output: what happened. */
void shop_say (const struct shop *shop, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

/* Handle the facts of a group until the shop closes. */
int shop_work (struct shop *shop, const struct fm_worker_options *options, const struct fm_handler *handler);

/* The services. 0: ended because it should; an error of factmesh.h otherwise. */
int orders_run (struct shop *shop);
int correct_run (struct shop *shop);
int fulfilment_run (struct shop *shop);
int email_run (struct shop *shop);
int invoices_run (struct shop *shop);
int stock_run (struct shop *shop);
int audit_run (struct shop *shop);
int report_run (struct shop *shop);
int ask_run (struct shop *shop);
int generate_run (struct shop *shop);

#endif
