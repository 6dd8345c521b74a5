/* invoices: writes an invoice for each order and each correction of it, a page of HTML, and tells where it is.
 *
 * Owns:    DIR/invoices.db: which invoices there are, with its place (follow.h). The pages are blobs, which journals keep.
 * Once:    what it does outside its database can be repeated without harm: a blob is named by its content, and the fact that points to it has an
 *          identity. Both are durable before the place moves on. */

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
                             " blob TEXT NOT NULL)";

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

static int write_page (const struct order *o, char **ret_page, size_t *ret_len)
{
    char money[MONEY_TEXT];
    FILE *out = open_memstream (ret_page, ret_len);
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

/* A journal that is away comes back: what waits for one may wait for long. */
static bool is_away (int rc)
{
    return (rc == FM_TIMEOUT || rc == FM_ERR_NO_JOURNAL || rc == FM_INTERRUPTED) && !shop_is_over ();
}

/* The page goes to a journal. It stays there for its lease, and then as long as the fact that points to it. */
static int put_page (const struct invoices *v, struct fm_slice page, struct fm_blob *ret_blob)
{
    const struct fm_blob_options options = { .media_type = "text/html", .timeout_ms = SHOP_SYNC_MS };
    int rc;
    do
        rc = fm_blob_put_bytes (v->shop->node, page, &options, ret_blob);
    while (is_away (rc));
    return rc;
}

static int publish (struct invoices *v, const struct fm_fact *cause, const char *cause_id, const struct fm_blob *blob)
{
    char identity[IDENTITY_BYTES], bytes[FM_BLOB_REF];
    struct fm_slice pointer;
    const int rc = fm_blob_ref (blob, bytes, sizeof bytes, &pointer);
    if (rc)
        return rc;
    (void) snprintf (identity, sizeof identity, "invoiced/%s", cause_id);
    const struct fm_fact fact = {
        .topic = fm_text (TOPIC_INVOICED),
        .key = cause->key,
        .type = fm_text ("Invoice"),
        .content_type = cause->content_type,
        .payload = cause->payload,
        .causation = cause->id,
        .identity = fm_text (identity),
        .blob = pointer,
    };
    return fm_publish (v->shop->out, &fact, NULL);
}

static int take (void *arg, const struct fm_fact *fact)
{
    struct invoices *v = arg;
    struct order order;
    struct fm_blob blob;
    char id[FM_FACT_ID_TEXT], digest[FM_BLOB_TEXT], *page = NULL;
    size_t len;
    const int decoded = order_decode (fact->payload, &order);
    if (decoded)
        return decoded == FM_ERR_MALFORMED ? 0 : decoded;       /* not ours: audit tells of it */
    (void) fm_fact_id_text (&fact->id, id, sizeof id);
    int rc = write_page (&order, &page, &len);
    if (!rc)
        rc = put_page (v, (struct fm_slice) { page, len }, &blob);
    if (!rc)
        rc = publish (v, fact, id, &blob);
    if (!rc)
        rc = store_do (v->db, "INSERT INTO invoice VALUES (?, ?, ?, ?, ?)", "ssnns", id, order.number, order.units, order.mills,
                       fm_blob_text (blob.sha256, digest));
    if (!rc)
        shop_say (v->shop, "%s invoiced%s", order.number, fact->corrects.seq ? " again" : "");
    free (page);
    order_release (&order);
    return rc;
}

/* The place moves on when the facts are on the journal's disk, however long that takes. */
static int settle (void *arg)
{
    const struct invoices *v = arg;
    int rc;
    do
        rc = fm_publisher_wait_synced (v->shop->out, 0, SHOP_SLICE_MS);
    while (is_away (rc));
    return rc;
}

int invoices_run (struct shop *shop)
{
    static const char *const topics[] = { TOPIC_PLACED, TOPIC_CANCELLED, NULL };
    struct invoices v = { .shop = shop };
    struct follow f = { .arg = &v, .take = take, .settle = settle };
    return follow_serve (&f, shop, schema, true, topics, &v.db);
}
