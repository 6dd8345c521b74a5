/* bench_load: payloads that can be checked, rates, and percentiles against sorted samples. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../nodes/cli/bench_load.c"

static int set_up (void **state)
{
    (void) state;
    bench_payload_init ();
    return 0;
}

static void a_payload_comes_back_with_its_number_and_time (void **state)
{
    (void) state;
    static const size_t sizes[] = { BENCH_PAYLOAD_MIN, 17, 100, 65536, BENCH_PAYLOAD_MAX };
    uint8_t *payload = malloc (BENCH_PAYLOAD_MAX);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t n = 0, sent_ns = 0;
        bench_payload_put (payload, sizes[i], UINT64_MAX - i, 12345 + i);
        assert_int_equal (bench_payload_check (payload, sizes[i], &n, &sent_ns), 0);
        assert_int_equal (n, UINT64_MAX - i);
        assert_int_equal (sent_ns, 12345 + i);
    }
    free (payload);
}

static void a_changed_byte_of_the_pattern_is_refused (void **state)
{
    (void) state;
    uint8_t payload[100];
    uint64_t n, sent_ns = 7;
    for (size_t i = BENCH_PAYLOAD_MIN; i < sizeof payload; i++) {
        bench_payload_put (payload, sizeof payload, 42, 1);
        payload[i] ^= 1;
        assert_int_equal (bench_payload_check (payload, sizeof payload, &n, &sent_ns), FM_ERR_MALFORMED);
        assert_int_equal (n, 42);
        assert_int_equal (sent_ns, 7);
    }
}

/* Whoever compares the number with the one that was due sees the rest: here the number gives the pattern away. */
static void a_changed_number_does_not_fit_its_pattern (void **state)
{
    (void) state;
    uint8_t payload[100];
    uint64_t n, sent_ns;
    for (size_t bit = 0; bit < 12; bit++) {     /* patterns repeat after 4096 numbers */
        bench_payload_put (payload, sizeof payload, 42, 1);
        payload[bit / 8] ^= (uint8_t) (1 << bit % 8);
        assert_int_equal (bench_payload_check (payload, sizeof payload, &n, &sent_ns), FM_ERR_MALFORMED);
    }
}

static void what_is_too_short_or_too_long_is_refused (void **state)
{
    (void) state;
    uint64_t n = 5, sent_ns = 7;
    uint8_t *payload = calloc (1, BENCH_PAYLOAD_MAX + 1);
    for (size_t size = 0; size < BENCH_PAYLOAD_MIN; size++)
        assert_int_equal (bench_payload_check (payload, size, &n, &sent_ns), FM_ERR_MALFORMED);
    assert_int_equal (bench_payload_check (payload, BENCH_PAYLOAD_MAX + 1, &n, &sent_ns), FM_ERR_MALFORMED);
    assert_int_equal (sent_ns, 7);
    free (payload);
}

static void the_nth_event_is_due_whether_or_not_others_were_late (void **state)
{
    (void) state;
    struct bench_pace pace;
    bench_pace_init (&pace, 1000, 250000);
    assert_int_equal (bench_pace_due (&pace, 0), 1000);
    assert_int_equal (bench_pace_due (&pace, 1), 5000);
    assert_int_equal (bench_pace_due (&pace, 1000000), 1000 + UINT64_C (4000000000));
    bench_pace_init (&pace, 1000, 0);
    assert_int_equal (bench_pace_due (&pace, 99), 1000);
}

static int compare (const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return x < y ? -1 : x > y;
}

/* Never below the true one, and at most a thousandth above. */
static void percentiles_are_those_of_the_sorted_samples (void **state)
{
    (void) state;
    enum { COUNT = 20000 };
    static uint64_t samples[COUNT];
    static struct bench_histogram h;
    uint64_t x = 1;
    for (size_t i = 0; i < COUNT; i++) {
        x = x * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
        samples[i] = x >> 40 >> (x >> 8) % 24;      /* from 0 ns to 16 ms, all magnitudes */
        bench_histogram_add (&h, samples[i]);
    }
    qsort (samples, COUNT, sizeof *samples, compare);
    static const double shares[] = { 0.0001, 0.1, 0.5, 0.9, 0.99, 0.999, 1 };
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        const uint64_t exact = samples[(size_t) (shares[i] * COUNT + 0.999999) - 1], got = bench_histogram_quantile (&h, shares[i]);
        assert_true (got >= exact);
        assert_true (got <= exact + exact / 1000 + 1);
    }
    assert_int_equal (bench_histogram_quantile (&h, 1), samples[COUNT - 1]);
}

static void the_longest_times_count_as_that (void **state)
{
    (void) state;
    static struct bench_histogram h;
    assert_int_equal (bench_histogram_quantile (&h, 0.5), 0);
    bench_histogram_add (&h, UINT64_MAX);
    bench_histogram_add (&h, 0);
    assert_int_equal (h.max, UINT64_MAX);
    assert_int_equal (bench_histogram_quantile (&h, 0.5), 0);
    assert_true (bench_histogram_quantile (&h, 1) > UINT64_C (1000) * 1000000000);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_payload_comes_back_with_its_number_and_time),
        cmocka_unit_test (a_changed_byte_of_the_pattern_is_refused),
        cmocka_unit_test (a_changed_number_does_not_fit_its_pattern),
        cmocka_unit_test (what_is_too_short_or_too_long_is_refused),
        cmocka_unit_test (the_nth_event_is_due_whether_or_not_others_were_late),
        cmocka_unit_test (percentiles_are_those_of_the_sorted_samples),
        cmocka_unit_test (the_longest_times_count_as_that),
    };
    return cmocka_run_group_tests (tests, set_up, NULL);
}
