/* order: see order.h. */

#include "order.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Payloads come from outside: nothing in them is taken for granted, and sums of what is in bounds don't overflow. */
enum { LINES_MAX = 10000, QUANTITY_MAX = 1000000, PRICE_MAX = 100000000, EMAIL_BYTES = 128, DEPTH_MAX = 4 };

static_assert ((int64_t) LINES_MAX * QUANTITY_MAX < INT64_MAX / PRICE_MAX, "an order's sum fits");

/* A text member without control bytes; NULL: there is none. */
static const char *text_of (json_object *object, const char *name)
{
    json_object *value;
    if (!json_object_object_get_ex (object, name, &value) || !json_object_is_type (value, json_type_string))
        return NULL;
    const char *text = json_object_get_string (value);
    if (strlen (text) != (size_t) json_object_get_string_len (value))
        return NULL;
    for (const char *p = text; *p; p++)
        if (iscntrl ((unsigned char) *p))
            return NULL;
    return text;
}

static bool number_of (json_object *object, const char *name, int64_t max, int64_t *ret_number)
{
    json_object *value;
    if (!json_object_object_get_ex (object, name, &value) || !json_object_is_type (value, json_type_int))
        return false;
    *ret_number = json_object_get_int64 (value);
    return *ret_number >= -max && *ret_number <= max;
}

static bool decode_line (json_object *json, struct order_line *ret_line)
{
    ret_line->code = text_of (json, "code");
    ret_line->description = text_of (json, "description");
    return ret_line->code && ret_line->description && number_of (json, "quantity", QUANTITY_MAX, &ret_line->quantity)
           && number_of (json, "price", PRICE_MAX, &ret_line->price_mills);
}

static json_object *lines_of (const struct order *o)
{
    json_object *lines;
    return json_object_object_get_ex (o->json, "lines", &lines) && json_object_is_type (lines, json_type_array) ? lines : NULL;
}

static bool decode (struct order *o)
{
    struct order_line line;
    json_object *lines = lines_of (o);
    o->number = text_of (o->json, "number");
    o->date = text_of (o->json, "date");
    o->customer = text_of (o->json, "customer");
    o->country = text_of (o->json, "country");
    o->email = text_of (o->json, "email");
    if (!lines || !o->number || !*o->number || !o->date || !o->customer || !o->country || !o->email || !strchr (o->email, '@'))
        return false;
    o->line_count = json_object_array_length (lines);
    if (o->line_count > LINES_MAX)
        return false;
    for (size_t i = 0; i < o->line_count; i++) {
        if (!decode_line (json_object_array_get_idx (lines, i), &line))
            return false;
        o->units += line.quantity;
        o->mills += line.quantity * line.price_mills;
    }
    return true;
}

int order_decode (struct fm_slice payload, struct order *ret_order)
{
    struct order o = { 0 };
    json_tokener *tokener = payload.len <= INT32_MAX ? json_tokener_new_ex (DEPTH_MAX) : NULL;
    if (payload.len <= INT32_MAX && !tokener)
        return -ENOMEM;
    if (tokener) {
        o.json = json_tokener_parse_ex (tokener, payload.data, (int) payload.len);
        json_tokener_free (tokener);
    }
    if (!json_object_is_type (o.json, json_type_object) || !decode (&o)) {
        order_release (&o);
        return FM_ERR_MALFORMED;
    }
    *ret_order = o;
    return 0;
}

void order_release (struct order *o)
{
    json_object_put (o->json);
    o->json = NULL;
}

struct order_line order_line_at (const struct order *o, size_t i)
{
    struct order_line line = { 0 };
    const bool whole = decode_line (json_object_array_get_idx (lines_of (o), i), &line);
    assert (whole);                 /* order_decode has looked */
    return line;
}

/* Takes value, NULL too: there was no memory for it. */
static bool add (json_object *object, const char *name, json_object *value)
{
    if (value && json_object_object_add (object, name, value) == 0)
        return true;
    json_object_put (value);
    return false;
}

static bool add_text (json_object *object, const char *name, const char *text)
{
    return add (object, name, json_object_new_string (text));
}

json_object *order_new (const char *number, const char *date, const char *customer, const char *country)
{
    char email[EMAIL_BYTES];
    json_object *o = json_object_new_object ();
    /* The lines know no address; each customer gets one, and who is none gets one for the order. Numbers look like 17850.0. */
    if (*customer)
        (void) snprintf (email, sizeof email, "customer-%.*s@example.com", (int) strcspn (customer, "."), customer);
    else
        (void) snprintf (email, sizeof email, "order-%s@example.com", number);
    if (!o || !add_text (o, "number", number) || !add_text (o, "date", date) || !add_text (o, "customer", customer) || !add_text (o, "country", country)
        || !add_text (o, "email", email) || !add (o, "lines", json_object_new_array ())) {
        json_object_put (o);
        return NULL;
    }
    return o;
}

int order_add_line (json_object *order, const struct order_line *line)
{
    json_object *lines, *json = json_object_new_object ();
    const bool has = json_object_object_get_ex (order, "lines", &lines);
    assert (has);
    if (json && add_text (json, "code", line->code) && add_text (json, "description", line->description)
        && add (json, "quantity", json_object_new_int64 (line->quantity)) && add (json, "price", json_object_new_int64 (line->price_mills))
        && json_object_array_add (lines, json) == 0)
        return 0;
    json_object_put (json);
    return -ENOMEM;
}

bool order_is_cancellation (const char *number)
{
    return number[0] == 'C';
}

const char *money_text (int64_t mills, char *text)
{
    const int64_t size = mills < 0 ? -mills : mills, rest = size % MILLS_A_POUND;
    (void) snprintf (text, MONEY_TEXT, rest % 10 ? "%s%" PRId64 ".%03" PRId64 : "%s%" PRId64 ".%02" PRId64, mills < 0 ? "-" : "", size / MILLS_A_POUND,
                     rest % 10 ? rest : rest / 10);
    return text;
}

int money_parse (const char *text, int64_t *ret_mills)
{
    const bool negative = *text == '-';
    const char *p = text + negative;
    int64_t mills = 0, unit = MILLS_A_POUND;
    if (!isdigit ((unsigned char) *p))
        return FM_ERR_MALFORMED;
    for (; isdigit ((unsigned char) *p) && mills <= PRICE_MAX; p++)
        mills = mills * 10 + (*p - '0') * MILLS_A_POUND;
    if (*p == '.') {
        for (p++; isdigit ((unsigned char) *p); p++) {
            unit /= 10;
            if (!unit && *p != '0')
                return FM_ERR_MALFORMED;
            mills += (*p - '0') * unit;
        }
    }
    if (*p || mills > PRICE_MAX)
        return FM_ERR_MALFORMED;
    *ret_mills = negative ? -mills : mills;
    return 0;
}
