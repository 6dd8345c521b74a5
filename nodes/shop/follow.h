/* follow: facts into a service's own database, each exactly once.
 *
 * The subscription's place is a few bytes (fm_subscription_cursor) that are stored in the same transaction as what the facts changed. So after
 * kill -9 both are there or neither is, and the service goes on where it was: no fact is missing, none counts twice. Nor where two processes have the
 * database, since one was stopped and taken for dead: the one that opened it last goes on, the other ends.
 *
 * Delivery is synced: what a publisher's crash could still take back is not taken.
 *
 *     BEGIN -- take a fact, take a fact, … -- settle -- the place -- COMMIT */

#ifndef SHOP_FOLLOW_H
#define SHOP_FOLLOW_H

#include <sqlite3.h>
#include <stdbool.h>

#include "factmesh.h"

struct shop;

struct follow {
    struct fm_subscription *in;
    sqlite3 *db;                    /* borrowed */
    void *arg;                      /* of the two below */
    /* A fact, within the transaction. What it returns other than 0 ends everything, and nothing of the transaction has happened. */
    int (*take) (void *arg, const struct fm_fact *fact);
    int (*settle) (void *arg);      /* before the commit; NULL: nothing to do */
    bool caught_up;                 /* has taken everything that there was when it began */
    unsigned taken;                 /* facts in the last step */
    int64_t number;                 /* how often the database was opened until now */
};

/* Begin where the database says, or with the oldest fact. Set db, arg, take and settle before. Topics end with NULL. */
int follow_open (struct follow *f, struct shop *shop, const char *const *topics);
/* Take what there is, after waiting at most timeout_ms for the first. FM_TIMEOUT: nothing came; FM_ERR_IN_USE: another has opened the database since. */
int follow_step (struct follow *f, int timeout_ms);
/* Steps until it has caught up, or the shop closes. */
int follow_catch_up (struct follow *f);
/* Steps until the shop closes. */
int follow_run (struct follow *f);
void follow_close (struct follow *f);

/* A whole service: opens its database (*db, there for take and settle), the shop, with a publisher or without, and the topics; runs; closes them again. Set arg,
 * take and settle before. */
int follow_serve (struct follow *f, struct shop *shop, const char *schema, bool publishes, const char *const *topics, sqlite3 **db);

#endif
