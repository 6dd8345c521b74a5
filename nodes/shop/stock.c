/* stock: answers how much of an item has left the warehouse.
 *
 * Owns:    DIR/stock.db: what it knows, from fulfilments (follow.h).
 * Answers: what was asked while it was there. Requests are taken live, from now on: an answer that waits for a disk comes too late, and who asked while
 *          nobody was here has given up. */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "follow.h"
#include "order.h"
#include "shop.h"
#include "store.h"

enum { CODE_BYTES = 128, ANSWER_BYTES = 192 };

static const char schema[] = "CREATE TABLE IF NOT EXISTS item (code TEXT PRIMARY KEY, sent INTEGER NOT NULL)";

struct stock {
    struct shop *shop;
    sqlite3 *db;
    struct fm_subscription *queries;
};

static int take_fulfilment (void *arg, const struct fm_fact *fact)
{
    struct stock *s = arg;
    struct order order;
    int rc = order_decode (fact->payload, &order);
    if (rc)
        return rc == FM_ERR_MALFORMED ? 0 : rc; /* not ours: audit tells of it */
    for (size_t i = 0; !rc && i < order.line_count; i++) {
        const struct order_line line = order_line_at (&order, i);
        rc = store_do (s->db, "INSERT INTO item VALUES (?1, ?2) ON CONFLICT (code) DO UPDATE SET sent = sent + ?2", "sn", line.code, line.quantity);
    }
    order_release (&order);
    return rc;
}

static int answer (struct stock *s, const struct fm_fact *request)
{
    char code[CODE_BYTES], text[ANSWER_BYTES];
    int64_t sent;
    (void) snprintf (code, sizeof code, "%.*s", (int) request->payload.len, (const char *) request->payload.data);
    if (fm_fact_expired (request)) {
        shop_say (s->shop, "asked for %s, too late: nobody waits any more", code);
        return 0;
    }
    int rc = store_number (s->db, &sent, "SELECT sent FROM item WHERE code = ?", "s", code);
    if (rc)
        return rc;
    (void) snprintf (text, sizeof text, "%s: %" PRId64 " sent", code, sent);
    shop_say (s->shop, "asked for %s", code);
    return fm_respond (s->shop->out, request, &(struct fm_fact) { .payload = fm_text (text) }, NULL);
}

static int answer_all (struct stock *s)
{
    struct fm_event e;
    int rc;
    while ((rc = fm_subscription_next (s->queries, 0, &e)) == 0 && (e.kind != FM_EVENT_FACT || (rc = answer (s, &e.fact)) == 0))
        continue;
    return rc;
}

/* Two subscriptions, one thread: sleep until either has something. */
static int run (struct stock *s, struct follow *sent)
{
    int rc = 0;
    while (!rc && !shop_is_over ()) {
        struct pollfd fds[] = { { .fd = fm_subscription_fd (s->queries), .events = POLLIN }, { .fd = fm_subscription_fd (sent->in), .events = POLLIN } };
        if (poll (fds, 2, SHOP_SLICE_MS) < 0 && errno != EINTR)
            return -errno;
        rc = answer_all (s);
        if (rc == FM_TIMEOUT || rc == FM_INTERRUPTED)
            rc = follow_step (sent, 0);
        if (rc == FM_TIMEOUT || rc == FM_INTERRUPTED)
            rc = 0;
    }
    return rc;
}

int stock_run (struct shop *shop)
{
    static const char *const fulfilments[] = { TOPIC_FULFILLED, NULL }, *const requests[] = { TOPIC_STOCK, NULL };
    const struct fm_subscription_options from_now = { .topics = requests };
    struct stock s = { .shop = shop };
    struct follow sent = { .arg = &s, .take = take_fulfilment };
    int rc = store_open (shop->dir, shop->name, schema, &s.db);
    if (!rc)
        rc = shop_open (shop, true);
    sent.db = s.db;
    if (!rc)
        rc = follow_open (&sent, shop, fulfilments);
    if (!rc)
        rc = fm_subscription_open (shop->node, &from_now, &s.queries);
    if (!rc) {
        shop_say (shop, "open");
        rc = run (&s, &sent);
    }
    fm_subscription_close (&s.queries);
    follow_close (&sent);
    shop_close (shop);
    store_close (&s.db);
    return rc;
}
