/* order: the content of the shop's facts, as JSON:
 *
 *     {"number":"536365","date":"2010-12-01 08:26:00","customer":"17850","country":"United Kingdom","email":"customer-17850@example.com",
 *      "lines":[{"code":"85123A","description":"WHITE HANGING HEART","quantity":6,"price":2550}, …]}
 *
 * Money is whole thousandths of a pound ("mills"): sums are exact. */

#ifndef SHOP_ORDER_H
#define SHOP_ORDER_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fm_types.h"

enum { MILLS_A_POUND = 1000, MONEY_TEXT = 32 };

/* Texts live in json. */
struct order {
    json_object *json;
    const char *number, *date, *customer, *country, *email;
    size_t line_count;
    int64_t units, mills;           /* of all lines */
};

struct order_line {
    const char *code, *description;
    int64_t quantity, price_mills;
};

/* Decode a fact's payload. FM_ERR_MALFORMED: not an order, or one that has no place in a mail's head (control bytes). -ENOMEM. */
int order_decode (struct fm_slice payload, struct order *ret_order);
void order_release (struct order *order);
struct order_line order_line_at (const struct order *order, size_t i);

/* An order without lines, to which lines are added. NULL: no memory. */
json_object *order_new (const char *number, const char *date, const char *customer, const char *country);
/* 0 or -ENOMEM: then the order is not whole. */
int order_add_line (json_object *order, const struct order_line *line);

/* Credit notes: invoices whose number begins with C. */
bool order_is_cancellation (const char *number);

/* "-12.50"; text holds MONEY_TEXT bytes. A third digit only where it is needed. */
const char *money_text (int64_t mills, char *text);
/* FM_ERR_MALFORMED: not a number, or finer than a thousandth. */
int money_parse (const char *text, int64_t *ret_mills);

#endif
