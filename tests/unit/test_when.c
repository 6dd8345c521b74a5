/* when: places and times as people type them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../nodes/cli/when.c"

/* 2026-11-23T15:24:00Z */
#define NOW (UINT64_C (1795447440) * NS)

static void expect_time (const char *text, uint64_t want)
{
    uint64_t got = 1;
    const int rc = when_time (text, NOW, &got);
    if (rc != 0 || got != want)
        fail_msg ("'%s': %d, %llu instead of %llu (%s)", text, rc, (unsigned long long) got, (unsigned long long) want,
                  fm_error_detail ());
}

static void set_zone (const char *zone)
{
    setenv ("TZ", zone, 1);
    tzset ();
}

static void times_in_every_spelling_are_read (void **state)
{
    (void) state;
    set_zone ("UTC");
    const uint64_t day = UINT64_C (1793491200) * NS; /* 2026-11-01T00:00:00Z */
    expect_time ("now", NOW);
    expect_time ("2026-11-01", day);
    expect_time ("2026-11-01T10:00", day + 36000ull * NS);
    expect_time ("2026-11-01 10:00", day + 36000ull * NS);
    expect_time ("2026-11-01T10:00:30", day + 36030ull * NS);
    expect_time ("2026-11-01T10:00:30.5Z", day + 36030ull * NS + NS / 2);
    expect_time ("2026-11-01T10:00:30.123456789Z", day + 36030ull * NS + 123456789);
    expect_time ("2026-11-01T10:00:30.1234567899Z", day + 36030ull * NS + 123456789);
    expect_time ("2026-11-01T10:00+01:00", day + 32400ull * NS);
    expect_time ("2026-11-01T10:00-0530", day + 36000ull * NS + 19800ull * NS);
    expect_time ("2026-11-01T10:00+01", day + 32400ull * NS);
    expect_time ("2024-02-29T23:59:59Z", UINT64_C (1709251199) * NS);
    expect_time ("1970-01-01T00:00Z", 0);
    expect_time ("1793491200", day);
    expect_time ("1793491200.25", day + NS / 4);
    expect_time ("-1h", NOW - 3600ull * NS);
    expect_time ("-1h30m", NOW - 5400ull * NS);
    expect_time ("-90", NOW - 90ull * NS);
    expect_time ("-1000w", NOW - 604800000ull * NS);
    expect_time ("-10000w", 0);
}

static void a_time_without_a_zone_is_local (void **state)
{
    (void) state;
    set_zone ("CET-1CEST,M3.5.0,M10.5.0/3");
    expect_time ("2026-11-01T10:00", (UINT64_C (1793491200) + 32400) * NS);
    expect_time ("2026-07-01T10:00", UINT64_C (1782892800) * NS); /* summer: two hours east */
    expect_time ("2026-11-01T10:00Z", (UINT64_C (1793491200) + 36000) * NS);
    set_zone ("UTC");
}

static void what_is_no_time_is_refused_with_its_text (void **state)
{
    (void) state;
    const char *bad[] = { "",
                          "yesterday",
                          "2026",
                          "2026-13-01",
                          "2026-02-29",
                          "2026-11-31",
                          "2026-11-1",
                          "2026-11-01T",
                          "2026-11-01T10",
                          "2026-11-01T24:00",
                          "2026-11-01T10:60",
                          "2026-11-01T10:00:61",
                          "2026-11-01T10:00:6",
                          "2026-11-01T10:00:",
                          "2026-11-01T10:00Zx",
                          "2026-11-01T10:00+25:00",
                          "2026-11-01T10:00+1",
                          "1969-12-31T23:59Z",
                          "2600-01-01",
                          "-",
                          "-1x",
                          "--1h",
                          "99999999999999999999",
                          "18446744074",
                          "1.",
                          "-h",
                          "2026-11-01T10:00:30.Z" };
    uint64_t got = 7;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const int rc = when_time (bad[i], NOW, &got);
        /* A bare year is Unix seconds. */
        if (strcmp (bad[i], "2026") == 0) {
            assert_int_equal (rc, 0);
            got = 7;
            continue;
        }
        if (rc != FM_ERR_ARGUMENT || got != 7)
            fail_msg ("'%s' was taken as %llu", bad[i], (unsigned long long) got);
        const char *text = *bad[i] == '-' ? bad[i] + 1 : bad[i];
        assert_non_null (strstr (fm_error_detail (), text));
    }
}

static void durations_are_read_with_their_units (void **state)
{
    (void) state;
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        { "0", 0 },
        { "90", 90ull * NS },
        { "1.5", NS + NS / 2 },
        { "1ns", 1 },
        { "250us", 250000 },
        { "250ms", 250000000 },
        { "0.25s", NS / 4 },
        { "1.5h", 5400ull * NS },
        { "1h30m15s", 5415ull * NS },
        { "30d", 2592000ull * NS },
        { "2w", 1209600ull * NS },
        { "0.5us", 500 },
        { "30500w", 30500 * 604800ull * NS },
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t got = 1;
        assert_int_equal (when_duration (good[i].text, &got), 0);
        assert_int_equal (got, good[i].ns);
    }
    const char *bad[] = { "",    "s",     "1y", "1 s", "-1s", "1h30", "1.s", "31000w", "18446744073709551616",
                          "1ss", "1h-1m", "1e3" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t got = 7;
        if (when_duration (bad[i], &got) != FM_ERR_ARGUMENT || got != 7)
            fail_msg ("'%s' was taken as %llu", bad[i], (unsigned long long) got);
    }
}

static void places_are_read (void **state)
{
    (void) state;
    set_zone ("UTC");
    struct when w;
    assert_int_equal (when_parse ("start", NOW, &w), 0);
    assert_int_equal (w.kind, WHEN_START);
    assert_int_equal (when_parse ("end", NOW, &w), 0);
    assert_int_equal (w.kind, WHEN_END);
    assert_int_equal (when_parse ("latest", NOW, &w), 0);
    assert_int_equal (w.kind, WHEN_LATEST);
    assert_int_equal (when_parse ("-100", NOW, &w), 0);
    assert_int_equal (w.kind, WHEN_LAST);
    assert_int_equal (w.value, 100);
    assert_int_equal (when_parse ("@-1h", NOW, &w), 0);
    assert_int_equal (w.kind, WHEN_TIME);
    assert_int_equal (w.value, NOW - 3600ull * NS);
    assert_int_equal (when_parse ("cursor:a:b", NOW, &w), 0);
    assert_int_equal (w.kind, WHEN_CURSOR);
    assert_string_equal (w.name, "a:b");
    assert_int_equal (when_parse ("offset:18446744073709551615", NOW, &w), 0);
    assert_int_equal (w.kind, WHEN_OFFSET);
    assert_int_equal (w.value, UINT64_MAX);
    const char *bad[] = { "",      "-",       "-0",      "-1h",      "-1x",       "@",
                          "Start", "cursor:", "offset:", "offset:x", "offset:1x", "100" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (when_parse (bad[i], NOW, &w) != FM_ERR_ARGUMENT)
            fail_msg ("'%s' was taken", bad[i]);
    /* Quoted as it was given, with what is wrong with it. */
    static const char *const times[][2] = {
        { "@2026-02-30", "'@2026-02-30': there is no such date and time" },
        { "@2600-01-01", "'@2600-01-01': not between 1970 and 2554" },
        { "@-700000w", "'@-700000w': longer than 584 years" },
        { "@18446744074", "'@18446744074': Unix time is in seconds here" },
        { "@noon", "'@noon': not a time; write @2026-11-01T10:00, with Z or +01:00 behind it, @ and Unix seconds, or @-1h" },
        { "@-noon", "'@-noon': not a time; write @2026-11-01T10:00, with Z or +01:00 behind it, @ and Unix seconds, or @-1h" },
    };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_int_equal (when_parse (times[i][0], NOW, &w), FM_ERR_ARGUMENT);
        assert_string_equal (fm_error_detail (), times[i][1]);
    }
}

/* The C library's calendar is the oracle. */
static void a_time_is_written_as_the_calendar_says (void **state)
{
    (void) state;
    const uint64_t step = 86399 * 17; /* meets every month, leap days, and ever other times of day */
    for (uint64_t s = 0; s < UINT64_MAX / NS; s += step) {
        char got[WHEN_TEXT], want[64];
        const time_t t = (time_t) s;
        struct tm tm;
        gmtime_r (&t, &tm);
        const size_t len = strftime (want, sizeof want, "%Y-%m-%dT%H:%M:%S", &tm);
        memcpy (want + len, ".000000001Z", 12);
        assert_string_equal (when_format (s * NS + 1, got), want);
    }
}

static void what_is_written_is_read_again (void **state)
{
    (void) state;
    const uint64_t times[] = {
        0, 1, NOW, NOW + 999999999, UINT64_C (951782400) * NS - 1, UINT64_C (18446744072) * NS + 5
    };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        char text[WHEN_TEXT];
        expect_time (when_format (times[i], text), times[i]);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (times_in_every_spelling_are_read),
        cmocka_unit_test (a_time_without_a_zone_is_local),
        cmocka_unit_test (what_is_no_time_is_refused_with_its_text),
        cmocka_unit_test (durations_are_read_with_their_units),
        cmocka_unit_test (places_are_read),
        cmocka_unit_test (a_time_is_written_as_the_calendar_says),
        cmocka_unit_test (what_is_written_is_read_again),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
