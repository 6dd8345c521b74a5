/* audit: the ledger: every fact of every order, once, in a table that only grows.
 *
 * Owns:    DIR/audit.db, with its place (follow.h). */

#include <inttypes.h>
#include <stdio.h>

#include "follow.h"
#include "order.h"
#include "shop.h"
#include "store.h"

enum { TOPIC_BYTES = 256 };

/* A fact that came twice would break the key, and stop the service: that is what an audit is for. */
static const char schema[] = "CREATE TABLE IF NOT EXISTS ledger (fact TEXT PRIMARY KEY, topic TEXT NOT NULL, number TEXT NOT NULL, units INTEGER NOT NULL,"
                             " mills INTEGER NOT NULL, cause TEXT, corrects TEXT, blob TEXT)";

struct audit {
    struct shop *shop;
    sqlite3 *db;
};

/* NULL for none. */
static const char *id_text (const struct fm_fact_id *id, char *text)
{
    return id->seq ? fm_fact_id_text (id, text, FM_FACT_ID_TEXT) : NULL;
}

/* What a fact points to; NULL for nothing. */
static const char *blob_text (const struct fm_fact *fact, char *text)
{
    struct fm_blob blob;
    return fm_fact_blob (fact, &blob) == 0 ? fm_blob_text (blob.sha256, text) : NULL;
}

static int take (void *arg, const struct fm_fact *fact)
{
    struct audit *a = arg;
    struct order order;
    char blob[FM_BLOB_TEXT], topic[TOPIC_BYTES], id[FM_FACT_ID_TEXT], cause[FM_FACT_ID_TEXT], corrects[FM_FACT_ID_TEXT];
    (void) snprintf (topic, sizeof topic, "%.*s", (int) fact->topic.len, (const char *) fact->topic.data);
    int rc = order_decode (fact->payload, &order);
    if (rc && rc != FM_ERR_MALFORMED)
        return rc;
    if (rc) {
        shop_say (a->shop, "%s %s is not an order", topic, fm_fact_id_text (&fact->id, id, sizeof id));
        return 0;
    }
    rc = store_do (a->db, "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "sssnnsss", fm_fact_id_text (&fact->id, id, sizeof id), topic, order.number,
                   order.units, order.mills, id_text (&fact->causation, cause), id_text (&fact->corrects, corrects), blob_text (fact, blob));
    order_release (&order);
    return rc;
}

int audit_run (struct shop *shop)
{
    static const char *const topics[] = { "orders.>", NULL };
    struct audit a = { .shop = shop };
    struct follow f = { .arg = &a, .take = take };
    return follow_serve (&f, shop, schema, false, topics, &a.db);
}
