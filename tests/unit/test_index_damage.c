/* indexer, index_db, index_reader: the index answers as the log says, whatever became of its file: lost, another version's, cut, damaged anywhere, ahead of the
 * log, or saying what the log does not; and so while it is made anew. */

#include "index_kit.h"

#include <fcntl.h>

static void overwrite (const struct setting *s, uint64_t pos, int byte, size_t len)
{
    static uint8_t bytes[PAGE];
    memset (bytes, byte, len);
    const int fd = open (s->path, O_WRONLY);
    assert_true (fd >= 0);
    assert_int_equal (pwrite (fd, bytes, len, (off_t) pos), (ssize_t) len);
    close (fd);
}

static void an_index_that_is_lost_or_of_another_version_is_made_anew (void **state)
{
    struct setting *s = *state;
    start (s);
    expect_all_right (s);
    stop (s);
    static const char *const changes[] = { "UPDATE place SET version = 99", "UPDATE place SET generation = generation + 1", "UPDATE place SET next = 0",
                                           "ALTER TABLE place RENAME COLUMN next TO later", "DROP TABLE place" };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        change (s, changes[i]);
        start (s);
        ask_latest (0, 2);
        expect_fact (newest_of (0, 2, s->end));
        assert_false (fake_noticed ("INDEX-DAMAGED"));
        stop (s);
    }
    assert_int_equal (unlink (s->path), 0);
    start (s);
    expect_all_right (s);
    assert_int_equal (fake.notice_count, 0);
}

/* Whole pages, the header's among them. Those of the trees by offset that only retention uses show later; all that is asked for is right. */
static void damage_anywhere_is_found_and_the_index_made_anew (void **state)
{
    struct setting *s = *state;
    make_index (s);
    const uint64_t size = kit_file_size (s->path);
    assert_true (size > 8 * PAGE && size < 64 * PAGE);
    uint64_t told = 0;
    for (uint64_t page = 0; page < size / PAGE; page++) {
        if (page)
            make_index (s);
        overwrite (s, page * PAGE, page % 2 ? 0xFF : 0, PAGE);
        start (s);
        expect_all_right (s);
        told += fake_noticed ("INDEX-DAMAGED");
        stop (s);
    }
    assert_true (told > size / PAGE / 3);
}

/* Before anybody asks for anything. */
static void damage_that_writing_meets_is_found_and_the_index_made_anew (void **state)
{
    struct setting *s = *state;
    make_index (s);
    const uint64_t size = kit_file_size (s->path);
    for (uint64_t page = 1; page < size / PAGE; page++) {
        make_index (s);
        overwrite (s, page * PAGE, 0xFF, PAGE);
        start (s);
        append_facts (&s->j, s->end, s->end + BATCH);
        s->end += BATCH;
        const uint64_t n = s->end - 1 - (is_tombstone (s->end - 1) ? 1 : 0);
        ask_latest (n % 2, n % KEYS);
        expect_fact (n);
        stop (s);
    }
}

static void an_index_that_is_cut_is_made_anew (void **state)
{
    struct setting *s = *state;
    make_index (s);
    const uint64_t size = kit_file_size (s->path);
    for (uint64_t len = 0; len < size; len += len < PAGE ? 500 : 5 * PAGE + 11) {
        make_index (s);
        kit_truncate (s->path, len);
        start (s);
        expect_all_right (s);
        stop (s);
    }
}

/* What SQLite can't see: rows that say what the log does not. */
static void an_index_that_does_not_agree_with_the_log_is_made_anew (void **state)
{
    struct setting *s = *state;
    static const char *const changes[] = {
        "UPDATE latest SET offset = offset - 1",        /* of the other topic */
        "UPDATE latest SET offset = offset - 2",        /* of another key */
        "UPDATE latest SET offset = offset + 100000",   /* never recorded */
        "UPDATE link SET offset = offset + 1",
        "UPDATE link SET kind = 3 - kind",
        "UPDATE correlation SET offset = offset + 1",
        "UPDATE correlation SET offset = offset + 100000",
        "UPDATE place SET next = next + 1000",          /* the log lost its end */
        "DROP TABLE link",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        make_index (s);
        change (s, changes[i]);
        start (s);
        expect_all_right (s);
        if (!fake_noticed ("INDEX-DAMAGED"))
            fail_msg ("%s: not told", changes[i]);
        stop (s);
    }
}

/* What is recorded while it is made anew is in it, too. */
static void facts_that_come_meanwhile_are_in_it (void **state)
{
    struct setting *s = *state;
    make_index (s);
    for (uint64_t page = 1; page < 4; page++)
        overwrite (s, page * PAGE, 0xFF, PAGE);
    start (s);
    for (int round = 0; round < 20; round++) {
        append_facts (&s->j, s->end, s->end + BATCH);
        s->end += BATCH;
        const uint64_t n = s->end - 1 - (is_tombstone (s->end - 1) ? 1 : 0);
        ask_latest (n % 2, n % KEYS);
        expect_fact (n);
    }
    expect_all_right (s);
}

static void expect_latest (struct setting *s)
{
    struct reading x;
    reading_begin (&x, s);
    read_latest (s, &x);
    reading_end (&x);
}

/* It has the file open: made anew under it, said to be another journal's for a while, its header overwritten before it is opened again. */
static void a_reader_follows_an_index_that_changes_under_it (void **state)
{
    struct setting *s = *state;
    struct reading x;
    make_index (s);
    start (s);
    reading_begin (&x, s);
    read_latest (s, &x);
    change (s, "UPDATE latest SET offset = offset - 1");
    ask_latest (1, 7);
    expect_fact (newest_of (1, 7, s->end));
    assert_true (fake_noticed ("INDEX-DAMAGED"));
    read_latest (s, &x);
    change (s, "UPDATE place SET generation = generation + 1");
    x.latest.next = 1;
    for (int n = 0; n < 3; n++)
        assert_int_equal (reading_step (&x), -EAGAIN);
    change (s, "UPDATE place SET generation = generation - 1");
    read_latest (s, &x);
    reading_end (&x);
    stop (s);
    start (s);
    ask_latest (1, 7);
    expect_fact (newest_of (1, 7, s->end));
    overwrite (s, 0, 0xFF, PAGE);
    fake_forget_notices ();
    reading_begin (&x, s);
    read_latest (s, &x);
    assert_true (fake_noticed ("INDEX-DAMAGED"));
    reading_end (&x);
}

static void latest_is_right_whatever_became_of_the_index (void **state)
{
    struct setting *s = *state;
    make_index (s);
    start (s);
    expect_latest (s);
    stop (s);
    const uint64_t size = kit_file_size (s->path);
    for (uint64_t page = 0; page < size / PAGE; page++) {
        make_index (s);
        overwrite (s, page * PAGE, page % 2 ? 0xFF : 0, PAGE);
        start (s);
        expect_latest (s);
        stop (s);
    }
    /* Both b-trees say it: SQLite sees nothing. */
    static const char *const changes[] = { "UPDATE latest SET offset = offset - 1", "UPDATE place SET next = next + 1000" };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        make_index (s);
        change (s, changes[i]);
        start (s);
        expect_latest (s);
        stop (s);
    }
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (an_index_that_is_lost_or_of_another_version_is_made_anew),
        CASE (damage_anywhere_is_found_and_the_index_made_anew),
        CASE (damage_that_writing_meets_is_found_and_the_index_made_anew),
        CASE (an_index_that_is_cut_is_made_anew),
        CASE (an_index_that_does_not_agree_with_the_log_is_made_anew),
        CASE (facts_that_come_meanwhile_are_in_it),
        CASE (latest_is_right_whatever_became_of_the_index),
        CASE (a_reader_follows_an_index_that_changes_under_it),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
