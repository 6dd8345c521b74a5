/* generate: order lines for who has none, the same for each seed: credit notes, quoted names, customers without a number, write-offs. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "shop.h"

enum { FIRST_NUMBER = 536365, LINES_AN_ORDER = 9, ORDERS_DEFAULT = 120, CANCELLED_OF = 11, WRITTEN_OFF_OF = 23, NAMELESS_OF = 7, MINUTES_A_DAY = 24 * 60 };
#define COUNT(array) (sizeof (array) / sizeof (array)[0])

static const struct { const char *code, *name, *price; } items[] = {
    { "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", "2.55" },
    { "22041", "\"RECORD FRAME 7\"\" SINGLE SIZE \"", "2.1" },
    { "22138", "\"BAKING SET 9 PIECE, RETROSPOT\"", "4.95" },
    { "21754", "HOME BUILDING BLOCK WORD", "5.95" },
    { "84879", "ASSORTED COLOUR BIRD ORNAMENT", "1.69" },
    { "22632", "\"HAND WARMER, RED\"", "0.125" },
    { "POST", "POSTAGE", "18.0" },
};
static const char *const countries[] = { "United Kingdom", "France", "Germany", "EIRE", "Japan" };

/* splitmix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t random_next (uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t below (uint64_t *state, uint64_t bound)
{
    return random_next (state) % bound;
}

static void print_order (uint64_t *state, uint64_t n)
{
    const bool cancelled = n % CANCELLED_OF == CANCELLED_OF - 1, written_off = !cancelled && n % WRITTEN_OFF_OF == WRITTEN_OFF_OF - 1;
    const uint64_t customer = written_off || below (state, NAMELESS_OF) == 0 ? 0 : 12000 + below (state, 6000), lines = 1 + below (state, LINES_AN_ORDER);
    const char *country = countries[below (state, 3) ? 0 : below (state, COUNT (countries))];
    char customer_text[32] = "";
    if (customer)
        (void) snprintf (customer_text, sizeof customer_text, "%" PRIu64 ".0", customer);
    for (uint64_t i = 0; i < lines; i++) {
        const uint64_t item = below (state, COUNT (items)), quantity = 1 + below (state, 24), minute = n % MINUTES_A_DAY;
        (void) printf ("%s%" PRIu64 ",%s,%s,%s%" PRIu64 ",2010-12-%02" PRIu64 " %02" PRIu64 ":%02" PRIu64 ":00,%s,%s,%s\n", cancelled ? "C" : "", FIRST_NUMBER + n,
                       items[item].code, written_off ? "" : items[item].name, cancelled || written_off ? "-" : "", quantity, 1 + n / MINUTES_A_DAY % 31,
                       minute / 60, minute % 60, written_off ? "0.0" : items[item].price, customer_text, country);
    }
}

/* generate [ORDERS [SEED]] */
int generate_run (struct shop *shop)
{
    const uint64_t orders = shop->first ? strtoull (shop->first, NULL, 10) : ORDERS_DEFAULT;
    uint64_t state = shop->second ? strtoull (shop->second, NULL, 10) : 1;
    (void) printf ("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n");
    for (uint64_t n = 0; n < orders; n++)
        print_order (&state, n);
    return fflush (stdout) == 0 ? 0 : FM_ERR_FULL;
}
