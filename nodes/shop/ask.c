/* ask: a stock query. Whoever asks gets an answer in time or none, and learns nothing about who failed or why. */

#include <stdio.h>

#include "shop.h"

int ask_run (struct shop *shop)
{
    struct fm_requester *requester = NULL;
    struct fm_fact response;
    const struct fm_requester_options options = { .topic = TOPIC_STOCK, .open_timeout_ms = SHOP_OPEN_MS };
    if (!shop->first)
        return FM_ERR_ARGUMENT;
    int rc = shop_open (shop, true);
    if (!rc)
        rc = fm_requester_open (shop->node, shop->out, &options, &requester);
    if (!rc)
        rc = fm_request (requester, &(struct fm_fact) { .payload = fm_text (shop->first) }, shop->timeout_ms, &response);
    if (!rc)
        (void) printf ("%.*s\n", (int) response.payload.len, (const char *) response.payload.data);
    fm_requester_close (&requester);
    shop_close (shop);
    return rc;
}
