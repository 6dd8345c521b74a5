/* Credit: what a replay may send. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "credit.h"

static void nothing_may_go_without_credit (void **state)
{
    (void) state;
    struct credit c;
    credit_init (&c, 0);
    assert_false (credit_is_open (&c));
    credit_grant (&c, 1);
    assert_true (credit_is_open (&c));
}

static void a_message_larger_than_the_credit_goes_once_and_is_owed (void **state)
{
    (void) state;
    struct credit c;
    credit_init (&c, 100);
    credit_spend (&c, 1000);
    assert_false (credit_is_open (&c));
    credit_grant (&c, 900);
    assert_false (credit_is_open (&c));
    credit_grant (&c, 1);
    assert_true (credit_is_open (&c));
}

static void what_is_granted_equals_what_may_be_sent (void **state)
{
    (void) state;
    struct credit c;
    uint64_t granted = 5000, sent = 0;
    credit_init (&c, granted);
    for (unsigned i = 0; i < 1000; i++) {
        const size_t message = 1 + i * 37 % 700;
        while (!credit_is_open (&c)) {
            assert_true (sent >= granted);
            credit_grant (&c, 333);
            granted += 333;
        }
        assert_true (sent < granted);
        credit_spend (&c, message);
        sent += message;
    }
}

static void an_asker_who_grants_everything_gets_the_limit (void **state)
{
    (void) state;
    struct credit c;
    credit_init (&c, UINT64_MAX);
    assert_int_equal (c.balance, CREDIT_MAX);
    credit_grant (&c, UINT64_MAX);
    assert_int_equal (c.balance, CREDIT_MAX);
    credit_spend (&c, (size_t) CREDIT_MAX + 10);
    credit_grant (&c, UINT64_MAX);
    assert_int_equal (c.balance, CREDIT_MAX);
}

static void the_target_is_the_wish_or_the_credit (void **state)
{
    (void) state;
    struct credit c;
    credit_init (&c, 1000);
    assert_int_equal (credit_target (&c, 300), 300);
    assert_int_equal (credit_target (&c, 3000), 1000);
    credit_spend (&c, 5000);
    assert_int_equal (credit_target (&c, 3000), 1);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (nothing_may_go_without_credit),
        cmocka_unit_test (a_message_larger_than_the_credit_goes_once_and_is_owed),
        cmocka_unit_test (what_is_granted_equals_what_may_be_sent),
        cmocka_unit_test (an_asker_who_grants_everything_gets_the_limit),
        cmocka_unit_test (the_target_is_the_wish_or_the_credit),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
