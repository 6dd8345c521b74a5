/* The oracle itself: a judge that cannot say no proves nothing. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/flow.h"
#include "../support/oracle.h"

struct fixture {
    struct oracle_log *published, *got;
    char *report;
    size_t report_len;
    FILE *file;
};

static int setup (void **state)
{
    struct fixture *f = calloc (1, sizeof *f);

    assert_non_null (f);
    assert_int_equal (oracle_log_new (&f->published), 0);
    assert_int_equal (oracle_log_new (&f->got), 0);
    f->file = open_memstream (&f->report, &f->report_len);
    assert_non_null (f->file);
    *state = f;
    return 0;
}

static int teardown (void **state)
{
    struct fixture *f = *state;

    oracle_log_destroy (&f->published);
    oracle_log_destroy (&f->got);
    assert_int_equal (fclose (f->file), 0);
    free (f->report);
    free (f);
    return 0;
}

static void add (struct oracle_log *log, uint8_t stream, uint64_t seq, const char *topic, const char *payload)
{
    const struct oracle_fact fact = {
        .stream = { .bytes = { stream } },
        .seq = seq,
        .topic = { topic, strlen (topic) },
        .key = { "k", 1 },
        .payload = { payload, strlen (payload) },
    };

    assert_int_equal (oracle_log_add (log, &fact), 0);
}

static void publish_ten (struct fixture *f)
{
    for (uint64_t seq = 1; seq <= 10; seq++)
        add (f->published, 1, seq, seq % 2 ? "a.odd" : "a.even", "p");
}

static void got_range (struct fixture *f, uint64_t first, uint64_t end)
{
    for (uint64_t seq = first; seq < end; seq++)
        add (f->got, 1, seq, seq % 2 ? "a.odd" : "a.even", "p");
}

static size_t compare (struct fixture *f, const char *pattern)
{
    const size_t faults = oracle_compare (f->published, f->got, &pattern, pattern ? 1 : 0, f->file);

    assert_int_equal (fflush (f->file), 0);
    return faults;
}

static void equal_logs_have_no_fault (void **state)
{
    struct fixture *f = *state;

    publish_ten (f);
    got_range (f, 1, 11);
    assert_int_equal (compare (f, NULL), 0);
    assert_int_equal (f->report_len, 0);
}

static void a_lost_prefix_middle_and_suffix_are_told_apart (void **state)
{
    struct fixture *f = *state;

    publish_ten (f);
    got_range (f, 3, 5);
    got_range (f, 6, 10);
    assert_int_equal (compare (f, NULL), 3);
    assert_non_null (strstr (f->report, "LOST prefix stream=01000000000000000000000000000000 seq=1..2 facts=2 of=10"));
    assert_non_null (strstr (f->report, "LOST middle stream=01000000000000000000000000000000 seq=5..5 facts=1 of=10"));
    assert_non_null (
        strstr (f->report, "LOST suffix stream=01000000000000000000000000000000 seq=10..10 facts=1 of=10"));
}

static void a_stream_that_never_came_is_told (void **state)
{
    struct fixture *f = *state;

    publish_ten (f);
    assert_int_equal (compare (f, NULL), 1);
    assert_non_null (strstr (f->report, "LOST whole"));
}

static void a_duplicate_is_told (void **state)
{
    struct fixture *f = *state;

    publish_ten (f);
    got_range (f, 1, 11);
    got_range (f, 10, 11);
    assert_int_equal (compare (f, NULL), 1);
    assert_non_null (strstr (f->report, "DUPLICATE stream=01000000000000000000000000000000 seq=10"));
}

static void a_reordering_is_told (void **state)
{
    struct fixture *f = *state;

    publish_ten (f);
    got_range (f, 1, 5);
    got_range (f, 6, 7);
    got_range (f, 5, 6);
    got_range (f, 7, 11);
    assert_int_equal (compare (f, NULL), 1);
    assert_non_null (strstr (f->report, "REORDERED stream=01000000000000000000000000000000 seq=5 came behind seq=6"));
}

static void a_changed_byte_is_told (void **state)
{
    struct fixture *f = *state;

    add (f->published, 1, 1, "a", "payload");
    add (f->got, 1, 1, "a", "paxload");
    assert_int_equal (compare (f, NULL), 1);
    assert_non_null (strstr (f->report, "the payload differs"));
}

static void a_changed_topic_is_told (void **state)
{
    struct fixture *f = *state;

    add (f->published, 1, 1, "ab", "c");
    add (f->got, 1, 1, "a", "bc");
    assert_int_equal (compare (f, NULL), 1);
    assert_non_null (strstr (f->report, "the topic differs"));
}

static void a_fact_that_nobody_published_is_told (void **state)
{
    struct fixture *f = *state;

    publish_ten (f);
    got_range (f, 1, 11);
    add (f->got, 1, 11, "a.odd", "p");
    add (f->got, 2, 1, "a.odd", "p");
    assert_int_equal (compare (f, NULL), 2);
    assert_non_null (strstr (f->report, "UNEXPECTED stream=02"));
}

static void a_filter_expects_only_what_matches (void **state)
{
    struct fixture *f = *state;

    publish_ten (f);
    for (uint64_t seq = 2; seq <= 10; seq += 2)
        add (f->got, 1, seq, "a.even", "p");
    assert_int_equal (compare (f, "a.even"), 0);
    add (f->got, 1, 3, "a.odd", "p");
    assert_int_equal (compare (f, "a.even"), 1);
}

static void patterns_match_whole_levels (void **state)
{
    (void) state;
    assert_true (oracle_matches ("a.b", (struct fm_slice) { "a.b", 3 }));
    assert_false (oracle_matches ("a", (struct fm_slice) { "a.b", 3 }));
    assert_false (oracle_matches ("a.b", (struct fm_slice) { "a.bc", 4 }));
    assert_false (oracle_matches ("a.b.c", (struct fm_slice) { "a.b", 3 }));
    assert_true (oracle_matches ("a.*", (struct fm_slice) { "a.b", 3 }));
    assert_false (oracle_matches ("a.*", (struct fm_slice) { "a.b.c", 5 }));
    assert_false (oracle_matches ("a.*", (struct fm_slice) { "a", 1 }));
    assert_true (oracle_matches ("*.b", (struct fm_slice) { "a.b", 3 }));
    assert_true (oracle_matches (">", (struct fm_slice) { "a", 1 }));
    assert_true (oracle_matches ("a.>", (struct fm_slice) { "a.b.c", 5 }));
    assert_false (oracle_matches ("a.>", (struct fm_slice) { "a", 1 }));
}

static void a_log_comes_back_from_its_file (void **state)
{
    struct fixture *f = *state;
    char path[] = "/tmp/oracle-XXXXXX";
    const int fd = mkstemp (path);
    FILE *file = fdopen (fd, "wb");

    assert_non_null (file);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        const struct oracle_fact fact = {
            .stream = { .bytes = { 1 } }, .seq = seq, .topic = { "t", 1 }, .payload = { "\0\xff", 2 }
        };
        assert_int_equal (oracle_log_write (file, &fact), 0);
        assert_int_equal (oracle_log_add (f->published, &fact), 0);
    }
    assert_int_equal (fclose (file), 0);
    assert_int_equal (oracle_log_load (f->got, path), 0);
    assert_int_equal (compare (f, NULL), 0);

    /* Its writer was killed within the last record. */
    oracle_log_destroy (&f->got);
    assert_int_equal (oracle_log_new (&f->got), 0);
    assert_int_equal (truncate (path, 2 * 51 - 1), 0);
    assert_int_equal (oracle_log_load (f->got, path), 0);
    assert_int_equal (oracle_log_count (f->got), 1);
    assert_int_equal (unlink (path), 0);
}

static void a_flow_is_the_same_each_time_and_holds_the_special_cases (void **state)
{
    static struct flow_fact a, b;
    const struct flow flow = { .contents = 7, .topics = 50, .count = 200000, .large = true };
    unsigned empty = 0, large = 0, keys = 0, headers = 0, topics[5][FLOW_KINDS] = { 0 };

    (void) state;
    for (uint64_t seq = 1; seq <= flow_total (&flow); seq++) {
        flow_make (&flow, seq, &a);
        empty += a.payload_len == 0;
        large += a.payload_len > 65536;
        keys += a.key_len > 0;
        headers += a.header_name_len > 0;
        topics[a.topic[6] - '0'][a.topic[9] - '0']++;
        if (seq % 1000 == 0) {
            flow_make (&flow, seq, &b);
            assert_int_equal (a.payload_len, b.payload_len);
            assert_memory_equal (a.payload, b.payload, a.payload_len);
            assert_memory_equal (a.topic, b.topic, a.topic_len);
        }
    }
    assert_in_range (empty, 1000, 50000);
    assert_in_range (large, 1, 100);
    assert_in_range (keys, 1000, 190000);
    assert_in_range (headers, 1000, 100000);
    for (int r = 0; r < 5; r++)
        for (int k = 0; k < FLOW_KINDS; k++)
            assert_in_range (topics[r][k], 1000, 10000);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (equal_logs_have_no_fault, setup, teardown),
        cmocka_unit_test_setup_teardown (a_lost_prefix_middle_and_suffix_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown (a_stream_that_never_came_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown (a_duplicate_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown (a_reordering_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown (a_changed_byte_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown (a_changed_topic_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown (a_fact_that_nobody_published_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown (a_filter_expects_only_what_matches, setup, teardown),
        cmocka_unit_test (patterns_match_whole_levels),
        cmocka_unit_test_setup_teardown (a_log_comes_back_from_its_file, setup, teardown),
        cmocka_unit_test (a_flow_is_the_same_each_time_and_holds_the_special_cases),
    };

    return cmocka_run_group_tests_name ("oracle", tests, NULL, NULL);
}
