/* invoices: writes an invoice for each order and each correction of it, a page of HTML, and tells of it.
 *
 * Owns:    DIR/invoices.db: the pages, with its place (follow.h).
 * Once:    what it does outside its database can be repeated without harm: the fact that tells of an invoice has an identity. It is durable before the
 *          place moves on. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "follow.h"
#include "order.h"
#include "shop.h"
#include "store.h"

enum { IDENTITY_BYTES = 16 + FM_FACT_ID_TEXT };

static const char schema[] = "CREATE TABLE IF NOT EXISTS invoice (cause TEXT PRIMARY KEY, number TEXT NOT NULL, units INTEGER NOT NULL, mills INTEGER NOT NULL,"
                             " page TEXT NOT NULL)";

struct invoices {
    struct shop *shop;
    sqlite3 *db;
};

static void write_escaped (FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': (void) fputs ("&amp;", out); break;
        case '<': (void) fputs ("&lt;", out); break;
        case '>': (void) fputs ("&gt;", out); break;
        default: (void) fputc (*text, out);
        }
    }
}

static void write_cell (FILE *out, const char *text)
{
    (void) fputs ("<td>", out);
    write_escaped (out, text);
}

static int write_page (const struct order *o, char **ret_page)
{
    char money[MONEY_TEXT];
    size_t len;
    FILE *out = open_memstream (ret_page, &len);
    if (!out)
        return FM_ERR_FULL;
    const char *title = order_is_cancellation (o->number) ? "Credit note" : "Invoice";
    (void) fprintf (out, "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>%s ", title);
    write_escaped (out, o->number);
    (void) fprintf (out, "</title>\n<h1>%s ", title);
    write_escaped (out, o->number);
    (void) fputs ("</h1>\n<p>", out);
    write_escaped (out, o->date);
    (void) fputs (", ", out);
    write_escaped (out, o->country);
    (void) fputs ("<p>", out);
    write_escaped (out, o->email);
    (void) fputs ("\n<table>\n", out);
    for (size_t i = 0; i < o->line_count; i++) {
        const struct order_line line = order_line_at (o, i);
        (void) fprintf (out, "<tr><td>%" PRId64, line.quantity);
        write_cell (out, line.code);
        write_cell (out, line.description);
        write_cell (out, money_text (line.price_mills, money));
        (void) fputc ('\n', out);
    }
    (void) fprintf (out, "</table>\n<p>Total: <b id=\"total\">%s</b> GBP\n</html>\n", money_text (o->mills, money));
    return fclose (out) == 0 ? 0 : FM_ERR_FULL;
}

static int publish (struct invoices *v, const struct fm_fact *cause, const char *cause_id)
{
    char identity[IDENTITY_BYTES];
    (void) snprintf (identity, sizeof identity, "invoiced/%s", cause_id);
    const struct fm_fact fact = {
        .topic = fm_text (TOPIC_INVOICED),
        .key = cause->key,
        .type = fm_text ("Invoice"),
        .content_type = cause->content_type,
        .payload = cause->payload,
        .causation = cause->id,
        .identity = fm_text (identity),
    };
    return fm_publish (v->shop->out, &fact, NULL);
}

static int take (void *arg, const struct fm_fact *fact)
{
    struct invoices *v = arg;
    struct order order;
    char id[FM_FACT_ID_TEXT], *page = NULL;
    if (order_decode (fact->payload, &order))
        return 0;                           /* not ours: audit tells of it */
    (void) fm_fact_id_text (&fact->id, id, sizeof id);
    int rc = write_page (&order, &page);
    if (!rc)
        rc = publish (v, fact, id);
    if (!rc)
        rc = store_do (v->db, "INSERT INTO invoice VALUES (?, ?, ?, ?, ?)", "ssnns", id, order.number, order.units, order.mills, page);
    if (!rc)
        shop_say (v->shop, "%s invoiced%s", order.number, fact->corrects.seq ? " again" : "");
    free (page);
    order_release (&order);
    return rc;
}

/* The place moves on when the facts are on the journal's disk, however long that takes: a journal that is away comes back. */
static int settle (void *arg)
{
    struct invoices *v = arg;
    int rc;
    while ((rc = fm_publisher_wait_synced (v->shop->out, 0, SHOP_SLICE_MS)) == FM_TIMEOUT && !shop_is_over ())
        continue;
    return rc;
}

int invoices_run (struct shop *shop)
{
    static const char *const topics[] = { TOPIC_PLACED, TOPIC_CANCELLED, NULL };
    struct invoices v = { .shop = shop };
    struct follow f = { .arg = &v, .take = take, .settle = settle };
    int rc = store_open (shop->dir, shop->name, schema, &v.db);
    if (!rc)
        rc = shop_open (shop, true);
    f.db = v.db;
    if (!rc)
        rc = follow_open (&f, shop, topics);
    if (!rc) {
        shop_say (shop, "open");
        rc = follow_run (&f);
    }
    follow_close (&f);
    shop_close (shop);
    store_close (&v.db);
    return rc;
}
