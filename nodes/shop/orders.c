/* orders: tells the mesh of each order as one fact, and of each correction as another.
 *
 * Owns:    DIR/orders.db (outbox.h).
 * Twice?   A fact may have been on its way when this process was killed; its successor publishes it again. Both have one identity, so that the second is
 *          recorded as a duplicate of the first, and handed to nobody. */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "follow.h"
#include "order.h"
#include "outbox.h"
#include "shop.h"
#include "store.h"

enum { PUBLISHED_A_STEP = 32, LOOK_MS = 20, MS_PER_S = 1000, NS_PER_MS = 1000000 };

struct orders {
    struct shop *shop;
    sqlite3 *db;
    uint64_t began_ms, published;   /* for the rate */
    bool all_told;
};

static uint64_t now_ms (void)
{
    struct timespec now;
    (void) clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * MS_PER_S + (uint64_t) now.tv_nsec / NS_PER_MS;
}

/* What is on a journal's disk comes back to us as to anybody, and of each identity only the first: then its id is final, and a correction can name it. */
static int take_recorded (void *arg, const struct fm_fact *fact)
{
    const struct orders *o = arg;
    return outbox_recorded (o->db, fact);
}

static int publish (struct orders *o, sqlite3_stmt *row)
{
    const char *identity = store_text (row, 0), *number = store_text (row, 1), *corrects = store_text (row, 3);
    struct fm_fact fact = {
        .topic = fm_text (order_is_cancellation (number) ? TOPIC_CANCELLED : TOPIC_PLACED),
        .key = fm_text (number),
        .type = fm_text ("Order"),
        .content_type = fm_text ("application/json"),
        .payload = fm_text (store_text (row, 2)),
        .identity = fm_text (identity),
    };
    int rc = *corrects ? fm_fact_id_parse (corrects, &fact.corrects) : 0;
    if (!rc)
        rc = fm_publish (o->shop->out, &fact, NULL);
    if (!rc)
        rc = outbox_told (o->db, identity);
    o->published += !rc;
    return rc;
}

/* So many now, by the rate. */
static unsigned room (const struct orders *o)
{
    if (!o->shop->rate)
        return PUBLISHED_A_STEP;
    const uint64_t due = (now_ms () - o->began_ms) * o->shop->rate / MS_PER_S;
    const uint64_t behind = due > o->published ? due - o->published : 0;
    return behind < PUBLISHED_A_STEP ? (unsigned) behind : PUBLISHED_A_STEP;
}

static int publish_some (struct orders *o)
{
    sqlite3_stmt *rows;
    int rc = outbox_untold (o->db, room (o), &rows);
    if (rc)
        return rc;
    while (!rc && (rc = store_row (rows)) == 0)
        rc = publish (o, rows);
    (void) sqlite3_finalize (rows);
    return rc == FM_ERR_END ? 0 : rc;
}

static int say_when_all_are_told (struct orders *o)
{
    int64_t left;
    const int rc = outbox_left (o->db, &left);
    if (!rc && !left && !o->all_told)
        shop_say (o->shop, "every order so far is on the journal's disk");
    o->all_told = !rc && !left;
    return rc;
}

static int run (struct orders *o, struct follow *recorded)
{
    /* First hear what an earlier process of ours got out. */
    int rc = follow_catch_up (recorded);
    o->began_ms = now_ms ();
    while (!rc && !shop_is_over ()) {
        rc = publish_some (o);
        if (!rc)
            rc = follow_step (recorded, LOOK_MS);
        if (rc == FM_TIMEOUT || rc == FM_INTERRUPTED)
            rc = say_when_all_are_told (o);
    }
    return rc;
}

int orders_run (struct shop *shop)
{
    static const char *const topics[] = { TOPIC_PLACED, TOPIC_CANCELLED, NULL };
    struct orders o = { .shop = shop };
    struct follow recorded = { .arg = &o, .take = take_recorded };
    int rc = outbox_open (shop->dir, &o.db);
    if (!rc && shop->first)
        rc = outbox_take_file (o.db, shop->first);
    if (!rc)
        rc = shop_open (shop, true);
    recorded.db = o.db;
    if (!rc)
        rc = follow_open (&recorded, shop, topics);
    if (!rc) {
        shop_say (shop, "open");
        rc = run (&o, &recorded);
    }
    follow_close (&recorded);
    shop_close (shop);
    store_close (&o.db);
    return rc;
}

/* Beside the running service: the outbox is what both know. */
int correct_run (struct shop *shop)
{
    sqlite3 *db = NULL;
    if (!shop->first || !shop->second)
        return FM_ERR_ARGUMENT;
    int rc = outbox_open (shop->dir, &db);
    if (!rc)
        rc = outbox_correct (db, shop->first, shop->second);
    store_close (&db);
    return rc;
}
