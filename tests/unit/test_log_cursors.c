/* The log's cursors: they survive restarts and rolls, and are told when they are durable. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "record.h"
#include "segment.h"

static void expect_cursor (struct log *log, const char *name, const char *value)
{
    void *buffer = NULL;
    size_t size = 0;
    struct log_cursor got;
    const int rc = log_cursor_get (log, name, &buffer, &size, &got);
    if (value) {
        assert_int_equal (rc, 0);
        assert_string_equal (got.name, name);
        assert_true (slice_equal (got.cursor, slice_of (value)));
    } else
        assert_int_equal (rc, FM_ERR_UNKNOWN);
    free (buffer);
}

static uint64_t put_cursor (struct log *log, const char *name, const char *value)
{
    struct log_cursor c = { .updated_ns = 7, .cursor = slice_of (value), .filters = slice_of ("a.>") };
    uint64_t ticket;
    (void) snprintf (c.name, sizeof c.name, "%s", name);
    assert_int_equal (log_cursor_put (log, &c, &ticket), 0);
    return ticket;
}

static void cursors_survive_restarts_and_rolls (void **state)
{
    struct log_setting *s = setting_of (state);
    uint64_t ticket = put_cursor (s->log, "b", "one");
    assert_false (log_ticket_synced (s->log, ticket));
    put_cursor (s->log, "a", "two");
    ticket = put_cursor (s->log, "b", "three");
    put_cursor (s->log, "c", "four");
    assert_int_equal (log_write (s->log), 0);
    assert_false (log_ticket_synced (s->log, ticket));
    assert_int_equal (log_sync (s->log, NULL), 0);
    assert_true (log_ticket_synced (s->log, ticket));
    assert_int_equal (log_cursor_delete (s->log, "c", &ticket), 0);
    assert_int_equal (log_cursor_delete (s->log, "nobody", &ticket), FM_ERR_UNKNOWN);
    kit_sync (s->log);
    assert_true (log_ticket_synced (s->log, ticket));
    for (uint64_t seq = 1; seq < 50; seq++) {
        kit_append_batch (
            s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = 100000 });
        kit_sync (s->log);
        if (seq % 12 == 0)
            reopen (s);
        expect_cursor (s->log, "a", "two");
        expect_cursor (s->log, "b", "three");
        expect_cursor (s->log, "c", NULL);
    }
    char name[CURSOR_NAME_MAX + 1];
    assert_int_equal (log_cursor_next (s->log, "", name), 0);
    assert_string_equal (name, "a");
    assert_int_equal (log_cursor_next (s->log, "a", name), 0);
    assert_string_equal (name, "b");
    assert_int_equal (log_cursor_next (s->log, "b", name), FM_ERR_END);
}

/* What is told of a cursor is what a power loss would leave. */
static void a_cursor_is_told_when_it_is_durable (void **state)
{
    struct log_setting *s = setting_of (state);
    char name[CURSOR_NAME_MAX + 1];
    uint64_t ticket;
    put_cursor (s->log, "a", "one");
    expect_cursor (s->log, "a", NULL);
    assert_int_equal (log_cursor_next (s->log, "", name), FM_ERR_END);
    assert_int_equal (log_write (s->log), 0);
    expect_cursor (s->log, "a", NULL);
    assert_int_equal (log_sync (s->log, NULL), 0);
    expect_cursor (s->log, "a", "one");
    put_cursor (s->log, "a", "two");
    assert_int_equal (log_write (s->log), 0);
    put_cursor (s->log, "a", "three");
    expect_cursor (s->log, "a", "one");
    assert_int_equal (log_sync (s->log, NULL), 0);
    expect_cursor (s->log, "a", "two");
    assert_int_equal (log_cursor_delete (s->log, "a", &ticket), 0);
    assert_int_equal (log_cursor_delete (s->log, "a", &ticket), FM_ERR_UNKNOWN);
    expect_cursor (s->log, "a", "two");
    kit_sync (s->log);
    expect_cursor (s->log, "a", NULL);
    put_cursor (s->log, "b", "four");
    kit_sync (s->log);
    put_cursor (s->log, "b", "five");
    reopen (s);                             /* as after kill -9 */
    expect_cursor (s->log, "b", "four");
}

static void a_synced_ticket_stays_synced (void **state)
{
    struct log_setting *s = setting_of (state);
    for (int i = 0; i < 3; i++) {
        const uint64_t ticket = put_cursor (s->log, "a", "one");
        kit_sync (s->log);                  /* the buffers change places, the last time for nothing */
        assert_true (log_ticket_synced (s->log, ticket));
        assert_int_equal (log_mark_idle (s->log), 0);
        assert_true (log_ticket_synced (s->log, ticket));
        assert_int_equal (log_sync (s->log, NULL), 0);
        assert_true (log_ticket_synced (s->log, ticket));
    }
}

static void a_lowered_limit_drops_no_cursor (void **state)
{
    struct log_setting *s = setting_of (state);
    char name[16];
    for (int i = 0; i < 50; i++) {
        (void) snprintf (name, sizeof name, "c%02d", i);
        put_cursor (s->log, name, "x");
    }
    kit_sync (s->log);
    s->options.cursors_max = 3;
    for (int again = 0; again < 2; again++) {
        reopen (s);
        for (uint64_t seq = 1; seq < 25; seq++)
            kit_append_batch (s->log,
                              &(struct kit_batch_spec) {
                                  .stream = 1 + (unsigned) again, .first_seq = seq, .count = 1, .payload_len = 99999 });
        kit_sync (s->log);
    }
    for (int i = 0; i < 50; i++) {
        (void) snprintf (name, sizeof name, "c%02d", i);
        expect_cursor (s->log, name, "x");
    }
    struct log_cursor c = { .name = "new", .cursor = slice_of ("x") };
    uint64_t ticket;
    assert_int_equal (log_cursor_put (s->log, &c, &ticket), FM_ERR_LIMIT);
    put_cursor (s->log, "c07", "changed");
}

/* Each segment begins with all of them, in as many records as that takes. */
static void many_large_cursors_survive_a_roll (void **state)
{
    enum { COUNT = 40, LEN = 6000 };
    struct log_setting *s = setting_of (state);
    char value[COUNT][LEN + 1], name[16];
    for (int i = 0; i < COUNT; i++) {
        memset (value[i], 'A' + i % 26, LEN);
        value[i][LEN - i] = 0;
        (void) snprintf (name, sizeof name, "c%02d", i);
        put_cursor (s->log, name, value[i]);
        kit_sync (s->log);
    }
    for (int again = 0; again < 2; again++) {
        for (uint64_t seq = 1; seq < 25; seq++) {
            kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1 + (unsigned) again, .first_seq = seq, .count = 1, .payload_len = 99999 });
            kit_sync (s->log);
        }
        reopen (s);
        for (int i = 0; i < COUNT; i++) {
            (void) snprintf (name, sizeof name, "c%02d", i);
            expect_cursor (s->log, name, value[i]);
        }
    }
}

/* A start meets the deletion and not what was deleted. */
static void a_deletion_whose_cursor_is_damaged_takes_no_other (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    uint64_t ticket;
    put_cursor (s->log, "a", "one");
    put_cursor (s->log, "b", "two");
    kit_sync (s->log);
    assert_int_equal (log_cursor_delete (s->log, "a", &ticket), 0);
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, SEGMENT_RECORDS_POS + RECORD_HEADER_LEN);
    assert_int_equal (reopen (s).damaged_ranges, 1);
    expect_cursor (s->log, "a", NULL);
    expect_cursor (s->log, "b", "two");
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (cursors_survive_restarts_and_rolls),
        CASE (a_cursor_is_told_when_it_is_durable),
        CASE (a_synced_ticket_stays_synced),
        CASE (a_lowered_limit_drops_no_cursor),
        CASE (many_large_cursors_survive_a_roll),
        CASE (a_deletion_whose_cursor_is_damaged_takes_no_other),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
