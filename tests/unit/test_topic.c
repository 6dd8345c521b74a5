/* topic: names, patterns, levels, and what they look like on the wire. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "error.h"
#include "topic.h"

static void assert_slice (struct fm_slice got, const char *wanted)
{
    if (got.len != strlen (wanted) || (got.len && memcmp (got.data, wanted, got.len) != 0))
        fail_msg ("'%.*s' is not '%s'", (int) got.len, (const char *) got.data, wanted);
}

static void names_within_the_rules_are_topics (void **state)
{
    (void) state;
    const char *good[] = { "a", "orders.placed", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", "caf\xc3\xa9.x y", "a*.b>", "**", ">>", "*a.>b", "-" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (topic_check (slice_of (good[i])) != 0)
            fail_msg ("'%s' was refused: %s", good[i], fm_error_detail ());
        assert_int_equal (topic_pattern_check (slice_of (good[i])), 0);
    }
    char longest[TOPIC_MAX + 1];
    memset (longest, 'x', sizeof longest);
    assert_int_equal (topic_check (slice (longest, TOPIC_MAX)), 0);
    assert_int_equal (topic_check (slice (longest, TOPIC_MAX + 1)), FM_ERR_TOPIC);
}

static void names_outside_the_rules_are_refused (void **state)
{
    (void) state;
    const char *bad[] = { "", ".", ".a", "a.", "a..b", "..", "a.\x1f", "a\n", "\x7f", "a.\xff", "*", ">", "a.*", "a.*.b", "a.>", ">.a",
                          "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (topic_check (slice_of (bad[i])) != FM_ERR_TOPIC)
            fail_msg ("'%s' was let pass", bad[i]);
    }
    assert_int_equal (topic_check (slice ("a\0b", 3)), FM_ERR_TOPIC);
}

static void a_refusal_names_the_fault_and_its_place (void **state)
{
    (void) state;
    assert_int_equal (topic_check (slice_of ("orders..placed")), FM_ERR_TOPIC);
    assert_string_equal (fm_error_detail (), "topic 'orders..placed', byte 7: an empty level");
    assert_int_equal (topic_check (slice_of ("a.\x1b")), FM_ERR_TOPIC);
    assert_string_equal (fm_error_detail (), "topic 'a.\\x1b', byte 2: this byte is not allowed");
    assert_int_equal (topic_pattern_check (slice_of ("a.>.b")), FM_ERR_TOPIC);
    assert_string_equal (fm_error_detail (), "pattern 'a.>.b', byte 2: `>` must be the last level");
}

static void patterns_may_have_wildcards_as_whole_levels (void **state)
{
    (void) state;
    const char *good[] = { "*", ">", "a.*", "*.a", "a.>", "*.*.>", "a.*.c" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal (topic_pattern_check (slice_of (good[i])), 0);
    const char *bad[] = { "", ">.a", "a.>.b", ">.>", "a..*", "*.", "\x01" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal (topic_pattern_check (slice_of (bad[i])), FM_ERR_TOPIC);
}

static void a_pattern_matches_whole_levels (void **state)
{
    (void) state;
    static const struct {
        const char *pattern, *topic;
        bool match;
    } cases[] = {
        { "orders", "orders", true },
        { "orders", "ordersX", false },
        { "orders", "order", false },
        { "orders", "orders.placed", false },
        { "orders.placed", "orders", false },
        { "orders.>", "orders.placed", true },
        { "orders.>", "orders.placed.eu", true },
        { "orders.>", "orders", false },
        { "orders.>", "ordersX.placed", false },
        { ">", "a", true },
        { ">", "a.b.c", true },
        { "*", "a", true },
        { "*", "a.b", false },
        { "*.*", "a.b", true },
        { "*.*", "a", false },
        { "*.b", "a.b", true },
        { "*.b", "a.bb", false },
        { "a.*.c", "a.b.c", true },
        { "a.*.c", "a.b.d", false },
        { "a.*.c", "a.c", false },
        { "a.*.c", "a.b.b.c", false },
        { "a.*.>", "a.b", false },
        { "a.*.>", "a.b.c", true },
        { "a*", "a*", true },
        { "a*", "ab", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (topic_match (slice_of (cases[i].pattern), slice_of (cases[i].topic)) != cases[i].match)
            fail_msg ("pattern %s, topic %s: not %d", cases[i].pattern, cases[i].topic, cases[i].match);
    }
}

static void a_topic_lies_under_itself_and_its_ancestors (void **state)
{
    (void) state;
    assert_true (topic_is_under (slice_of ("a.b"), slice_of ("")));
    assert_true (topic_is_under (slice_of ("a.b"), slice_of ("a")));
    assert_true (topic_is_under (slice_of ("a.b"), slice_of ("a.b")));
    assert_false (topic_is_under (slice_of ("a.b"), slice_of ("a.b.c")));
    assert_false (topic_is_under (slice_of ("ab"), slice_of ("a")));
    assert_false (topic_is_under (slice_of ("b"), slice_of ("a")));
}

static void levels_are_counted_and_cut (void **state)
{
    (void) state;
    assert_int_equal (topic_depth (slice_of ("")), 0);
    assert_int_equal (topic_depth (slice_of ("a")), 1);
    assert_int_equal (topic_depth (slice_of ("a.b.c")), 3);
    assert_slice (topic_level (slice_of ("aa.bb.cc"), 0), "");
    assert_slice (topic_level (slice_of ("aa.bb.cc"), 1), "aa");
    assert_slice (topic_level (slice_of ("aa.bb.cc"), 2), "aa.bb");
    assert_slice (topic_level (slice_of ("aa.bb.cc"), 3), "aa.bb.cc");
}

static void the_common_level_is_the_deepest_shared (void **state)
{
    (void) state;
    static const char *cases[][3] = {
        { "a.b.c", "a.b.d", "a.b" }, { "a.b", "a.b.c", "a.b" }, { "a.b.c", "a.b", "a.b" }, { "a.b", "a.b", "a.b" },
        { "ab", "ac", "" },          { "a.bc", "a.bd", "a" },   { "a.b", "a.bc", "a" },    { "a.bc", "a.b", "a" },
        { "", "a", "" },             { "a", "b", "" },          { "a", "", "" },           { "abc", "ab", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_slice (topic_common_level (slice_of (cases[i][0]), slice_of (cases[i][1])), cases[i][2]);
}

static void patterns_are_gathered_under_their_deepest_level (void **state)
{
    (void) state;
    static const struct {
        const char *patterns[3];
        const char *level;
        bool exact;
    } cases[] = {
        { { "a.b" }, "a.b", true },
        { { "a.b", "a.b" }, "a.b", true },
        { { "a.b", "a.b.>" }, "a.b", false },
        { { "a.>", "a" }, "a", false },
        { { "a.b", "a.c" }, "a", false },
        { { "a.b", "c" }, "", false },
        { { "a.*.c" }, "a", false },
        { { "*.b" }, "", false },
        { { ">" }, "", false },
        { { "a.b.*", "a.b.c.d", "a.b.>" }, "a.b", false },
        { { "a.b", "a.b", "a.bc" }, "a", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_slice patterns[3];
        size_t count = 0;
        while (count < 3 && cases[i].patterns[count]) {
            patterns[count] = slice_of (cases[i].patterns[count]);
            count++;
        }
        bool exact = !cases[i].exact;
        assert_slice (topic_patterns_level (patterns, count, &exact), cases[i].level);
        assert_int_equal (exact, cases[i].exact);
    }
    bool exact = true;
    assert_slice (topic_patterns_level (NULL, 0, &exact), "");
    assert_false (exact);
}

static void whatever_a_pattern_matches_lies_under_its_level (void **state)
{
    (void) state;
    static const char *patterns[] = { "a", "a.b", "a.*", "*.a", "a.>", ">", "*", "a.*.b", "b.a.>", "*.>" };
    static const char *levels[] = { "a", "b", "ab" };
    char topic[32];
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
        const struct fm_slice pattern = slice_of (patterns[p]);
        bool exact;
        const struct fm_slice level = topic_patterns_level (&pattern, 1, &exact);
        for (int n = 0; n < 64; n++) {
            /* Topics of one to three levels, each of three names. */
            int len = snprintf (topic, sizeof topic, "%s", levels[n % 4 % 3]);
            if (n / 4 % 4 < 3)
                len += snprintf (topic + len, sizeof topic - (size_t) len, ".%s", levels[n / 4 % 4]);
            if (n / 16 < 3)
                snprintf (topic + len, sizeof topic - (size_t) len, ".%s", levels[n / 16]);
            if (!topic_match (pattern, slice_of (topic)))
                continue;
            assert_true (topic_is_under (slice_of (topic), level));
            if (exact)
                assert_true (slice_equal (slice_of (topic), level));
        }
    }
}

static void a_wire_topic_comes_back (void **state)
{
    (void) state;
    static const char *topics[] = { "", "a", "orders.placed" };
    for (size_t i = 0; i < 3; i++) {
        uint8_t frame[WIRE_TOPIC_MAX + 5];
        size_t len = topic_to_wire (slice_of (topics[i]), frame);
        assert_int_equal (len, i == 0 ? 1 : strlen (topics[i]) + 2);
        memcpy (frame + len, "\0body", 5);
        struct fm_slice topic, body;
        assert_int_equal (topic_from_frame (frame, len + 5, &topic, &body), 0);
        assert_slice (topic, topics[i]);
        assert_slice (body, "body");
    }
    uint8_t frame[WIRE_TOPIC_MAX + 1];
    char longest[TOPIC_MAX];
    memset (longest, 'x', sizeof longest);
    const size_t len = topic_to_wire (slice (longest, TOPIC_MAX), frame);
    assert_int_equal (len, WIRE_TOPIC_MAX);
    frame[len] = 0;
    struct fm_slice topic, body;
    assert_int_equal (topic_from_frame (frame, len + 1, &topic, &body), 0);
    assert_int_equal (topic.len, TOPIC_MAX);
    assert_int_equal (body.len, 0);
}

static void frames_without_a_sound_wire_topic_are_refused (void **state)
{
    (void) state;
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = { { "", 0 },        { ".", 1 },           { ".a.", 3 },      { "a.\0x", 4 },     { ".a\0x", 4 },
                { "..\0x", 4 },   { ".a..b.\0x", 8 },   { ".*.\0x", 5 },   { "\xffH\0x", 4 },  { ".a.b\0.", 6 },
                { ".a\xff.\0", 5 }, { "\0", 1 },        { "..a.\0", 5 } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t *copy = malloc (bad[i].len ? bad[i].len : 1);
        assert_non_null (copy);
        memcpy (copy, bad[i].bytes, bad[i].len);
        struct fm_slice topic = slice_of ("untouched"), body = topic;
        assert_int_equal (topic_from_frame (copy, bad[i].len, &topic, &body), FM_ERR_MALFORMED);
        assert_slice (topic, "untouched");
        assert_slice (body, "untouched");
        free (copy);
    }
    uint8_t endless[400];
    memset (endless, 'x', sizeof endless);
    endless[0] = '.';
    endless[300] = 0;
    struct fm_slice topic, body;
    assert_int_equal (topic_from_frame (endless, sizeof endless, &topic, &body), FM_ERR_MALFORMED);
}

/* Would libzmq hand a frame under this level to a subscriber with these filters? */
static bool passes (const struct topic_wire_filter *filters, size_t count, struct fm_slice frame_level)
{
    uint8_t frame[WIRE_TOPIC_MAX + 1];
    size_t len = topic_to_wire (frame_level, frame);
    frame[len++] = 0;
    for (size_t i = 0; i < count; i++) {
        if (filters[i].len <= len && memcmp (filters[i].bytes, frame, filters[i].len) == 0)
            return true;
    }
    return false;
}

static void wire_filters_take_the_level_what_is_below_and_the_exact_ancestors (void **state)
{
    (void) state;
    struct topic_wire_filter f[TOPIC_LEVELS_MAX + 1];
    const size_t n = topic_wire_filters (slice_of ("a.b"), false, f);
    assert_int_equal (n, 3);
    assert_slice (slice (f[0].bytes, f[0].len), ".a.b.");
    assert_true (slice_equal (slice (f[1].bytes, f[1].len), slice (".\0", 2)));
    assert_true (slice_equal (slice (f[2].bytes, f[2].len), slice (".a.\0", 4)));
    assert_true (passes (f, n, slice_of ("a.b")));
    assert_true (passes (f, n, slice_of ("a.b.c")));
    assert_true (passes (f, n, slice_of ("a")));
    assert_true (passes (f, n, slice_of ("")));
    assert_false (passes (f, n, slice_of ("a.c")));
    assert_false (passes (f, n, slice_of ("a.bc")));
    assert_false (passes (f, n, slice_of ("b")));
}

static void an_exact_filter_leaves_out_what_is_below (void **state)
{
    (void) state;
    struct topic_wire_filter f[TOPIC_LEVELS_MAX + 1];
    const size_t n = topic_wire_filters (slice_of ("a.b"), true, f);
    assert_int_equal (n, 3);
    assert_true (passes (f, n, slice_of ("a.b")));
    assert_false (passes (f, n, slice_of ("a.b.c")));
    assert_true (passes (f, n, slice_of ("a")));
}

static void the_root_filter_is_a_dot_and_takes_all_but_the_reserved (void **state)
{
    (void) state;
    struct topic_wire_filter f[TOPIC_LEVELS_MAX + 1];
    assert_int_equal (topic_wire_filters (slice_of (""), false, f), 1);
    assert_slice (slice (f[0].bytes, f[0].len), ".");
}

static void filters_are_cut_to_what_libzmq_sends_rightly (void **state)
{
    (void) state;
    char longest[TOPIC_MAX];
    memset (longest, 'x', sizeof longest);
    for (size_t i = 1; i < 31; i += 2)
        longest[i] = '.';
    const struct fm_slice topic = slice (longest, sizeof longest);
    assert_int_equal (topic_check (topic), 0);
    assert_int_equal (topic_depth (topic), TOPIC_LEVELS_MAX);
    for (int exact = 0; exact < 2; exact++) {
        struct topic_wire_filter f[TOPIC_LEVELS_MAX + 1];
        const size_t n = topic_wire_filters (topic, exact, f);
        assert_int_equal (n, TOPIC_LEVELS_MAX + 1);
        assert_int_equal (f[0].len, WIRE_FILTER_MAX);
        for (unsigned depth = 0; depth <= TOPIC_LEVELS_MAX; depth++)
            assert_true (passes (f, n, topic_level (topic, depth)));
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (names_within_the_rules_are_topics),
        cmocka_unit_test (names_outside_the_rules_are_refused),
        cmocka_unit_test (a_refusal_names_the_fault_and_its_place),
        cmocka_unit_test (patterns_may_have_wildcards_as_whole_levels),
        cmocka_unit_test (a_pattern_matches_whole_levels),
        cmocka_unit_test (a_topic_lies_under_itself_and_its_ancestors),
        cmocka_unit_test (levels_are_counted_and_cut),
        cmocka_unit_test (the_common_level_is_the_deepest_shared),
        cmocka_unit_test (patterns_are_gathered_under_their_deepest_level),
        cmocka_unit_test (whatever_a_pattern_matches_lies_under_its_level),
        cmocka_unit_test (a_wire_topic_comes_back),
        cmocka_unit_test (frames_without_a_sound_wire_topic_are_refused),
        cmocka_unit_test (wire_filters_take_the_level_what_is_below_and_the_exact_ancestors),
        cmocka_unit_test (an_exact_filter_leaves_out_what_is_below),
        cmocka_unit_test (the_root_filter_is_a_dot_and_takes_all_but_the_reserved),
        cmocka_unit_test (filters_are_cut_to_what_libzmq_sends_rightly),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
