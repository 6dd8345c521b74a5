/* fulfilment: sends each order once, however many instances there are and whichever of them die.
 *
 * Owns:    DIR/warehouse.db, shared by its instances: any of them may have to finish what another began.
 * Once:    the group hands an order out once, whatever is corrected later, and again only when its instance went. Then it is run again, from the start:
 *          the row has the order's root as its key, and the fact that follows an identity, so that neither comes twice. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "order.h"
#include "shop.h"
#include "store.h"

enum { IDENTITY_BYTES = 16 + FM_FACT_ID_TEXT, AGAIN_MS = 1000, MS_PER_S = 1000, NS_PER_MS = 1000000 };

static const char schema[] = "CREATE TABLE IF NOT EXISTS fulfilment (root TEXT PRIMARY KEY, number TEXT NOT NULL, email TEXT NOT NULL,"
                             " units INTEGER NOT NULL, mills INTEGER NOT NULL, instance TEXT NOT NULL)";

struct fulfilment {
    struct shop *shop;
    sqlite3 *db;
};

/* What an order costs a warehouse. */
static void pick (const struct fulfilment *f)
{
    const struct timespec time = { .tv_sec = f->shop->pick_ms / MS_PER_S, .tv_nsec = (long) (f->shop->pick_ms % MS_PER_S) * NS_PER_MS };
    (void) nanosleep (&time, NULL);
}

/* The order left: tell everybody, and wait until it will be known for ever. */
static int tell (struct fulfilment *f, const struct fm_work *work, const char *root)
{
    char identity[IDENTITY_BYTES];
    (void) snprintf (identity, sizeof identity, "fulfilled/%s", root);
    const struct fm_fact fact = {
        .topic = fm_text (TOPIC_FULFILLED),
        .key = work->fact.key,
        .type = fm_text ("Fulfilment"),
        .content_type = work->fact.content_type,
        .payload = work->fact.payload,
        .causation = work->root,
        .identity = fm_text (identity),
    };
    struct fm_fact_id id;
    const int rc = fm_publish (f->shop->out, &fact, &id);
    return rc ? rc : fm_publisher_wait_synced (f->shop->out, id.seq, SHOP_SYNC_MS);
}

static enum fm_outcome run (void *arg, const struct fm_work *work, int *ret_delay_ms, const char **ret_reason)
{
    struct fulfilment *f = arg;
    struct order order;
    char root[FM_FACT_ID_TEXT];
    const int decoded = order_decode (work->fact.payload, &order);
    if (decoded == -ENOMEM) {
        *ret_delay_ms = AGAIN_MS;
        return FM_LATER;
    }
    if (decoded) {
        *ret_reason = "its payload is not an order";
        return FM_PARK;
    }
    (void) fm_fact_id_text (&work->root, root, sizeof root);
    pick (f);
    int rc = store_do (f->db, "INSERT OR IGNORE INTO fulfilment VALUES (?, ?, ?, ?, ?, ?)", "sssnns", root, order.number, order.email, order.units,
                       order.mills, f->shop->name);
    if (!rc)
        rc = tell (f, work, root);
    if (!rc)
        shop_say (f->shop, "%s sent: %" PRId64 " pieces", order.number, order.units);
    order_release (&order);
    if (rc) {
        /* The journal is away, or a disk is full: nothing is wrong with the order. */
        *ret_delay_ms = AGAIN_MS;
        return FM_LATER;
    }
    return FM_DONE;
}

/* Running again finishes what was begun, and repeats nothing of it: no need to find out how far that was. */
static enum fm_check check (void *arg, const struct fm_work *work)
{
    (void) arg;
    (void) work;
    return FM_NOT_HAPPENED;
}

int fulfilment_run (struct shop *shop)
{
    static const char *const topics[] = { TOPIC_PLACED, NULL };
    struct fulfilment f = { .shop = shop };
    const struct fm_worker_options options = { .group = "fulfilment", .topics = topics, .effect = FM_ONCE, .open_timeout_ms = SHOP_OPEN_MS };
    const struct fm_handler handler = { .arg = &f, .run = run, .check = check };
    int rc = store_open (shop->dir, "warehouse", schema, &f.db);
    if (!rc)
        rc = shop_open (shop, true);
    if (!rc)
        rc = shop_work (shop, &options, &handler);
    shop_close (shop);
    store_close (&f.db);
    return rc;
}
