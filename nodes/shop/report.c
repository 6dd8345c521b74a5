/* report: turnover by country. Nobody thought of it when the shop opened: it is added later, and reads everything from the first order on.
 *
 * Owns:    DIR/report.db, with its place (follow.h). */

#include <inttypes.h>
#include <stdio.h>

#include "follow.h"
#include "order.h"
#include "shop.h"
#include "store.h"

/* One row an order: its newest version counts. */
static const char schema[] = "CREATE TABLE IF NOT EXISTS turnover (number TEXT PRIMARY KEY, country TEXT NOT NULL, units INTEGER NOT NULL,"
                             " mills INTEGER NOT NULL)";

static int take (void *arg, const struct fm_fact *fact)
{
    const struct follow *f = arg;
    struct order order;
    const int decoded = order_decode (fact->payload, &order);
    if (decoded)
        return decoded == FM_ERR_MALFORMED ? 0 : decoded;       /* not ours: audit tells of it */
    const int rc = store_do (f->db, "INSERT OR REPLACE INTO turnover VALUES (?, ?, ?, ?)", "ssnn", order.number, order.country, order.units, order.mills);
    order_release (&order);
    return rc;
}

static int print (const struct shop *shop, sqlite3 *db)
{
    sqlite3_stmt *rows;
    char money[MONEY_TEXT];
    int rc = store_query (db, &rows, "SELECT country, count (*), sum (units), sum (mills) FROM turnover GROUP BY country ORDER BY sum (mills) DESC", "");
    if (rc)
        return rc;
    while ((rc = store_row (rows)) == 0)
        shop_say (shop, "%-16s %5lld orders %9lld pieces %14s GBP", store_text (rows, 0), (long long) sqlite3_column_int64 (rows, 1),
                  (long long) sqlite3_column_int64 (rows, 2), money_text (sqlite3_column_int64 (rows, 3), money));
    (void) sqlite3_finalize (rows);
    return rc == FM_ERR_END ? 0 : rc;
}

int report_run (struct shop *shop)
{
    static const char *const topics[] = { TOPIC_PLACED, TOPIC_CANCELLED, NULL };
    struct follow f = { .take = take };
    int rc = store_open (shop->dir, shop->name, schema, &f.db);
    f.arg = &f;
    if (!rc)
        rc = shop_open (shop, false);
    if (!rc)
        rc = follow_open (&f, shop, topics);
    if (!rc)
        rc = follow_catch_up (&f);
    if (!rc)
        rc = print (shop, f.db);
    if (!rc) {
        shop_say (shop, "caught up");
        rc = follow_run (&f);
    }
    follow_close (&f);
    shop_close (shop);
    store_close (&f.db);
    return rc;
}
