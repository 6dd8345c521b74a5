/* What may go, and what may not. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "retention.h"

#define SECOND UINT64_C (1000000000)

static void without_limits_nothing_goes (void **state)
{
    (void) state;
    const struct retention none = { 0 };
    const struct retention_segment old = { .last_time_ns = 1 };
    assert_false (retention_drops (&none, &old, UINT64_MAX, UINT64_MAX));
}

static void the_active_segment_never_goes (void **state)
{
    (void) state;
    const struct retention tight = { .retain_bytes = 1, .retain_age_ms = 1 };
    const struct retention_segment active = { .active = true, .last_time_ns = 1 };
    assert_false (retention_drops (&tight, &active, UINT64_MAX, UINT64_MAX));
}

static void bytes_are_an_upper_bound (void **state)
{
    (void) state;
    const struct retention r = { .retain_bytes = 1000 };
    const struct retention_segment s = { .last_time_ns = 5 };
    assert_false (retention_drops (&r, &s, 1000, 10));
    assert_true (retention_drops (&r, &s, 1001, 10));
}

static void age_counts_from_the_last_fact (void **state)
{
    (void) state;
    const struct retention r = { .retain_age_ms = 10000 };
    const struct retention_segment s = { .last_time_ns = 100 * SECOND };
    assert_false (retention_drops (&r, &s, 1, 110 * SECOND));
    assert_false (retention_drops (&r, &s, 1, 110 * SECOND + 999999));
    assert_true (retention_drops (&r, &s, 1, 110 * SECOND + 1000000));
}

static void a_clock_that_was_set_back_drops_nothing (void **state)
{
    (void) state;
    const struct retention r = { .retain_age_ms = 1 };
    const struct retention_segment s = { .last_time_ns = 100 * SECOND };
    assert_false (retention_drops (&r, &s, 1, 99 * SECOND));
    assert_false (retention_drops (&r, &s, 1, 0));
}

static void huge_ages_do_not_overflow (void **state)
{
    (void) state;
    const struct retention r = { .retain_age_ms = UINT64_MAX };
    const struct retention_segment s = { .last_time_ns = 0 };
    assert_false (retention_drops (&r, &s, 1, UINT64_MAX));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (without_limits_nothing_goes),
        cmocka_unit_test (the_active_segment_never_goes),
        cmocka_unit_test (bytes_are_an_upper_bound),
        cmocka_unit_test (age_counts_from_the_last_fact),
        cmocka_unit_test (a_clock_that_was_set_back_drops_nothing),
        cmocka_unit_test (huge_ages_do_not_overflow),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
