/* recovered: what journals say of facts that came back from a window on disk. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "recovered.h"

enum { FIRST = 100, END = 1100 };

static struct recovered r;
static struct publisher_marks marks;

static int set_up (void **state)
{
    (void) state;
    memset (&marks, 0, sizeof marks);
    recovered_init (&r, (struct recovered_range) { FIRST, END }, &marks);
    return 0;
}

static int tear_down (void **state)
{
    (void) state;
    recovered_release (&r);
    return 0;
}

/* Journal n, of a generation, tells that all up to synced is synced. */
static void tell (unsigned n, uint64_t generation, uint64_t synced)
{
    if (marks.count <= n)
        marks.count = n + 1;
    marks.journals[n] = (struct journal_mark) { .journal = { .bytes = { 'J', (uint8_t) n } }, .generation = generation, .heard = true, .mark.synced = synced };
    recovered_journals (&r, &marks);
}

/* Journal n is asked for [first, end). */
static void expect_question (unsigned n, uint64_t first, uint64_t end)
{
    unsigned journal;
    struct recovered_range range;
    assert_true (recovered_question (&r, &marks, n, &journal, &range));
    assert_int_equal (journal, n);
    assert_int_equal (range.first_seq, first);
    assert_int_equal (range.end_seq, end);
}

static void gap (unsigned n, uint64_t first, uint64_t end)
{
    assert_int_equal (recovered_gap (&r, n, (struct recovered_range) { first, end }), 0);
}

static enum recovered_verdict verdict (uint64_t first, uint64_t end)
{
    return recovered_verdict (&r, (struct recovered_range) { first, end });
}

static void what_a_journal_has_between_its_gaps_is_synced (void **state)
{
    (void) state;
    tell (0, 1, 5000);
    expect_question (0, FIRST, END);
    assert_int_equal (verdict (200, 201), RECOVERED_OPEN);
    gap (0, 300, 310);
    recovered_checked (&r, 0, 500);
    assert_int_equal (verdict (100, 300), RECOVERED_SYNCED);
    assert_int_equal (verdict (100, 301), RECOVERED_LOST);
    assert_int_equal (verdict (309, 400), RECOVERED_LOST);
    assert_int_equal (verdict (310, 500), RECOVERED_SYNCED);
    assert_int_equal (verdict (310, 501), RECOVERED_OPEN);
    expect_question (0, 500, END);
}

/* Of answers that say more than was asked for only what was counts. */
static void gaps_are_cut_to_what_was_asked_for_and_joined (void **state)
{
    (void) state;
    tell (0, 1, 5000);
    recovered_checked (&r, 0, 200);
    gap (0, 100, 150);                          /* known already */
    gap (0, 150, 220);                          /* half of it is */
    gap (0, 210, 230);
    gap (0, 230, 240);
    gap (0, END - 10, END + 500);
    gap (0, END, END + 5);
    assert_int_equal (r.journals[0].gap_count, 2);
    recovered_checked (&r, 0, END + 500);
    assert_int_equal (r.journals[0].checked_end, END);
    assert_int_equal (verdict (100, 200), RECOVERED_SYNCED);
    assert_int_equal (verdict (200, 201), RECOVERED_LOST);
    assert_int_equal (verdict (239, 240), RECOVERED_LOST);
    assert_int_equal (verdict (240, END - 10), RECOVERED_SYNCED);
    assert_int_equal (verdict (END - 1, END), RECOVERED_LOST);
}

static void of_too_many_gaps_what_lies_between_the_last_is_called_lost (void **state)
{
    (void) state;
    recovered_release (&r);
    recovered_init (&r, (struct recovered_range) { 1, 10000 }, &marks);
    tell (0, 1, 20000);
    for (uint64_t i = 0; i < RECOVERED_GAPS_MAX + 10; i++)
        gap (0, 10 + 4 * i, 12 + 4 * i);
    recovered_checked (&r, 0, 10000);
    assert_int_equal (r.journals[0].gap_count, RECOVERED_GAPS_MAX);
    assert_int_equal (verdict (12, 14), RECOVERED_SYNCED);
    const uint64_t last = 10 + 4 * (RECOVERED_GAPS_MAX - 1);
    assert_int_equal (verdict (last + 2, last + 4), RECOVERED_LOST);           /* though the journal has it */
    assert_int_equal (verdict (last + 4 * 10 + 2, 10000), RECOVERED_SYNCED);
}

static void what_an_answer_told_that_came_to_no_end_is_forgotten (void **state)
{
    (void) state;
    tell (0, 1, 5000);
    gap (0, 150, 160);
    recovered_checked (&r, 0, 200);
    gap (0, 300, 310);
    gap (0, 400, 410);
    expect_question (0, 200, END);
    recovered_checked (&r, 0, END);
    assert_int_equal (verdict (150, 151), RECOVERED_LOST);
    assert_int_equal (verdict (300, 500), RECOVERED_SYNCED);
}

static void a_journal_of_another_generation_or_that_gave_its_place_up_begins_anew (void **state)
{
    (void) state;
    tell (0, 1, 5000);
    tell (1, 1, 5000);
    gap (0, 100, 1000);
    recovered_checked (&r, 0, END);
    recovered_checked (&r, 1, END);
    assert_int_equal (verdict (100, 200), RECOVERED_SYNCED);                   /* the other one has it */
    tell (1, 2, 150);
    assert_int_equal (r.count, 2);
    assert_int_equal (verdict (100, 200), RECOVERED_OPEN);
    expect_question (1, FIRST, 151);
    marks.journals[0].heard = false;
    recovered_journals (&r, &marks);
    assert_int_equal (r.count, 1);
    assert_int_equal (r.journals[0].journal.bytes[1], 1);
    expect_question (0, FIRST, 151);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (what_a_journal_has_between_its_gaps_is_synced),
        CASE (gaps_are_cut_to_what_was_asked_for_and_joined),
        CASE (of_too_many_gaps_what_lies_between_the_last_is_called_lost),
        CASE (what_an_answer_told_that_came_to_no_end_is_forgotten),
        CASE (a_journal_of_another_generation_or_that_gave_its_place_up_begins_anew),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
