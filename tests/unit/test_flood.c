/* Flood: whose messages are dropped unread. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "flood.h"

#define WINDOW_NS (FLOOD_WINDOW_MS * UINT64_C (1000000))

enum { LIAR = 1, HONEST = 2 };

/* How many of so many are admitted? */
static unsigned admitted (struct flood *f, uint64_t route, unsigned messages, uint64_t now_ns)
{
    unsigned count = 0;
    for (unsigned i = 0; i < messages; i++)
        count += flood_admits (f, route, now_ns);
    return count;
}

static void a_route_is_read_up_to_its_limit_and_others_all_the_while (void **state)
{
    (void) state;
    struct flood f = { 0 };
    assert_int_equal (admitted (&f, LIAR, 3 * FLOOD_MESSAGES, 1), FLOOD_MESSAGES);
    assert_int_equal (admitted (&f, HONEST, 1000, 2), 1000);
    assert_int_equal (admitted (&f, LIAR, 1000, WINDOW_NS), 0);
}

static void the_next_window_and_an_empty_queue_begin_anew (void **state)
{
    (void) state;
    struct flood f = { 0 };
    assert_int_equal (admitted (&f, LIAR, FLOOD_MESSAGES + 1, 1), FLOOD_MESSAGES);
    assert_int_equal (admitted (&f, LIAR, 10, 1 + WINDOW_NS), 10);
    assert_int_equal (admitted (&f, LIAR, FLOOD_MESSAGES, 2 + WINDOW_NS), FLOOD_MESSAGES - 10);
    flood_is_over (&f);
    assert_int_equal (admitted (&f, LIAR, 10, 3 + WINDOW_NS), 10);
}

static void what_is_refused_counts_more (void **state)
{
    (void) state;
    struct flood f = { 0 };
    unsigned refused = 0;
    while (flood_admits (&f, LIAR, 1)) {
        flood_refused (&f, LIAR);
        refused++;
    }
    assert_int_equal (refused, FLOOD_MESSAGES / FLOOD_REFUSED);
    assert_int_equal (admitted (&f, HONEST, 100, 1), 100);
}

/* Whoever sends many cannot hide among many who send few, and those are not taken for him. */
static void one_among_a_thousand_is_found (void **state)
{
    (void) state;
    struct flood f = { 0 };
    unsigned of_liar = 0;
    const unsigned rounds = 10 * FLOOD_MESSAGES;
    for (unsigned i = 0; i < rounds; i++) {
        assert_true (flood_admits (&f, HONEST + i % 1000, 1));
        of_liar += admitted (&f, LIAR, 2, 1);
    }
    /* Each of the others may take one of his, when it finds no place. */
    assert_in_range (of_liar, FLOOD_MESSAGES, FLOOD_MESSAGES + rounds / FLOOD_ROUTES * 2);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_route_is_read_up_to_its_limit_and_others_all_the_while),
        cmocka_unit_test (the_next_window_and_an_empty_queue_begin_anew),
        cmocka_unit_test (what_is_refused_counts_more),
        cmocka_unit_test (one_among_a_thousand_is_found),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
