/* email: confirms each order, and each correction of it, with one mail.
 *
 * Owns:    DIR/mbox, the mails that went out, and its index DIR/email.db (mbox.h).
 * Once:    a mail can't be sent in a database's transaction. So the journal is told before one is begun. If this process dies before it says what
 *          became of it, the order comes back in doubt, and the mailbox is asked: the mail's Message-ID follows from the order's root and version. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "mbox.h"
#include "order.h"
#include "shop.h"
#include "store.h"

enum { PATH_BYTES = 4096, SUBJECT_BYTES = 512, MESSAGE_ID_BYTES = 2 * FM_FACT_ID_TEXT + 32, AGAIN_MS = 1000 };
static const char sender[] = "shop@shop.example";

struct email {
    struct shop *shop;
    sqlite3 *db;
    struct mbox *mbox;
};

/* <VERSION.ROOT@shop.example>, with the ids' colons as points. */
static const char *message_id (const struct fm_fact_id *version, const struct fm_fact_id *root, char *text)
{
    char version_text[FM_FACT_ID_TEXT], root_text[FM_FACT_ID_TEXT];
    (void) snprintf (text, MESSAGE_ID_BYTES, "<%s.%s@shop.example>", fm_fact_id_text (version, version_text, sizeof version_text),
                     fm_fact_id_text (root, root_text, sizeof root_text));
    for (char *p = text; *p; p++)
        if (*p == ':')
            *p = '.';
    return text;
}

static int write_body (const struct order *o, bool corrected, char **ret_body)
{
    char price[MONEY_TEXT];
    size_t len;
    FILE *out = open_memstream (ret_body, &len);
    if (!out)
        return FM_ERR_FULL;
    (void) fprintf (out, "Dear customer,\n\n%s\n\n", corrected                           ? "we have corrected your order. This is how it stands now:"
                                                    : order_is_cancellation (o->number) ? "we have cancelled the following for you:"
                                                                                        : "thank you for your order:");
    for (size_t i = 0; i < o->line_count; i++) {
        const struct order_line line = order_line_at (o, i);
        (void) fprintf (out, "%6" PRId64 " x %-12s %s, at %s\n", line.quantity, line.code, line.description, money_text (line.price_mills, price));
    }
    (void) fprintf (out, "\nTotal: %s GBP\n\nFrom all of us at the shop\n", money_text (o->mills, price));
    return fclose (out) == 0 ? 0 : FM_ERR_FULL;
}

static int send_mail (struct email *e, const struct fm_work *work, const struct order *o)
{
    char subject[SUBJECT_BYTES], id[MESSAGE_ID_BYTES], first[MESSAGE_ID_BYTES], *body = NULL;
    const bool corrected = work->flags & FM_WORK_CORRECTION;
    (void) snprintf (subject, sizeof subject, "%s %s%s", order_is_cancellation (o->number) ? "Your cancellation" : "Your order", o->number,
                     corrected ? ", corrected" : "");
    int rc = write_body (o, corrected, &body);
    if (!rc) {
        const struct mail mail = {
            .message_id = message_id (&work->fact.id, &work->root, id),
            .in_reply_to = corrected ? message_id (&work->root, &work->root, first) : NULL,
            .from = sender,
            .to = o->email,
            .subject = subject,
            .body = body,
            .time_ns = work->fact.time_ns,
        };
        rc = mbox_append (e->mbox, &mail, NULL);
    }
    free (body);
    return rc;
}

static enum fm_outcome run (void *arg, const struct fm_work *work, int *ret_delay_ms, const char **ret_reason)
{
    struct email *e = arg;
    struct order order;
    const int decoded = order_decode (work->fact.payload, &order);
    if (decoded == -ENOMEM) {
        *ret_delay_ms = AGAIN_MS;
        return FM_LATER;
    }
    if (decoded) {
        *ret_reason = "its payload is not an order";
        return FM_PARK;
    }
    const int rc = send_mail (e, work, &order);
    if (!rc)
        shop_say (e->shop, "%s confirmed to %s%s", order.number, order.email, work->flags & FM_WORK_CORRECTION ? ", corrected" : "");
    order_release (&order);
    if (rc == FM_ERR_MALFORMED) {
        *ret_reason = "what it says does not fit into a mail's head";
        return FM_PARK;
    }
    *ret_delay_ms = AGAIN_MS;           /* a full disk: later */
    return rc ? FM_LATER : FM_DONE;
}

/* Did this mail go out? */
static enum fm_check check (void *arg, const struct fm_work *work)
{
    struct email *e = arg;
    char id[MESSAGE_ID_BYTES];
    bool has;
    if (mbox_has (e->mbox, message_id (&work->fact.id, &work->root, id), &has))
        return FM_CANT_TELL;
    shop_say (e->shop, "in doubt whether %.*s was confirmed: the mailbox says %s", (int) work->fact.key.len, (const char *) work->fact.key.data, has ? "yes" : "no");
    return has ? FM_HAPPENED : FM_NOT_HAPPENED;
}

int email_run (struct shop *shop)
{
    static const char *const topics[] = { TOPIC_PLACED, TOPIC_CANCELLED, NULL };
    char path[PATH_BYTES];
    struct email e = { .shop = shop };
    const struct fm_worker_options options = { .group = "email", .topics = topics, .effect = FM_ONCE_PER_VERSION, .open_timeout_ms = SHOP_OPEN_MS };
    const struct fm_handler handler = { .arg = &e, .run = run, .check = check };
    (void) snprintf (path, sizeof path, "%s/mbox", shop->dir);
    int rc = store_open (shop->dir, shop->name, "", &e.db);
    if (!rc)
        rc = mbox_open (path, e.db, &e.mbox);
    if (!rc)
        rc = shop_open (shop, false);
    if (!rc)
        rc = shop_work (shop, &options, &handler);
    shop_close (shop);
    mbox_destroy (&e.mbox);
    store_close (&e.db);
    return rc;
}
