/* The worked example's services that follow, without a mesh: killed, or failed, at any call, they go on with each fact once. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../nodes/shop/follow.c"

#include "../support/log_kit.h"

enum { FACTS = 20, AT_A_TIME = 3, CAUGHT_UP_BEHIND = 9, DONE = 0, CUT_SHORT = 3, WRONG = 99 };

/* --- What it stands on: a subscription that has FACTS facts, some of them at a time; its cursor is the last one's number. */

struct fm_subscription {
    uint64_t last;
    bool told;                          /* that it has caught up */
};

static struct fm_subscription subscription;
static unsigned call_number, dies_at, fails_at;     /* 0: at none */

/* Each call of the library, or of a service, begins so. */
static int happens (void)
{
    call_number++;
    if (call_number == dies_at)
        _exit (CUT_SHORT);
    return call_number == fails_at ? -EIO : 0;
}

int fm_subscription_open (struct fm_node *node, const struct fm_subscription_options *options, struct fm_subscription **ret_subscription)
{
    (void) node;
    subscription = (struct fm_subscription) { .last = 0 };
    if (options->from == FM_FROM_CURSOR && options->from_cursor.len == sizeof subscription.last)
        memcpy (&subscription.last, options->from_cursor.data, sizeof subscription.last);
    *ret_subscription = &subscription;
    return happens ();
}

int fm_subscription_next (struct fm_subscription *s, int timeout_ms, struct fm_event *ret_event)
{
    const int rc = happens ();
    if (rc)
        return rc;
    *ret_event = (struct fm_event) { .kind = FM_EVENT_CAUGHT_UP };
    if (s->last >= CAUGHT_UP_BEHIND && !s->told) {
        s->told = true;
        return 0;
    }
    if (s->last == FACTS || (!timeout_ms && s->last % AT_A_TIME == 0))
        return FM_TIMEOUT;
    *ret_event = (struct fm_event) { .kind = FM_EVENT_FACT, .fact = { .id = { .seq = ++s->last } } };
    return 0;
}

int fm_subscription_cursor (struct fm_subscription *s, struct fm_slice *ret_cursor)
{
    *ret_cursor = (struct fm_slice) { .data = (const uint8_t *) &s->last, .len = sizeof s->last };
    return happens ();
}

void fm_subscription_close (struct fm_subscription **s)
{
    *s = NULL;
}

bool shop_is_over (void)
{
    return subscription.last == FACTS;
}

int shop_open (struct shop *shop, bool publishes)
{
    (void) shop, (void) publishes;
    return 0;
}

void shop_close (struct shop *shop)
{
    (void) shop;
}

void shop_say (const struct shop *shop, const char *format, ...)
{
    (void) shop, (void) format;
}

/* --- The service: a row for each fact, and for each time that it settled those that it had, their number. */

static const char tables[] = "CREATE TABLE IF NOT EXISTS fact (seq INTEGER); CREATE TABLE IF NOT EXISTS settled (facts INTEGER);"
                             "INSERT INTO settled SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM settled);";
static char directory[128];
static sqlite3 *db;

static int take (void *arg, const struct fm_fact *fact)
{
    (void) arg;
    const int rc = store_do (db, "INSERT INTO fact VALUES (?)", "n", (int64_t) fact->id.seq);
    return rc ? rc : happens ();
}

static int settle (void *arg)
{
    (void) arg;
    const int rc = store_do (db, "UPDATE settled SET facts = (SELECT count(*) FROM fact)", "");
    return rc ? rc : happens ();
}

/* A life of it, in a process of its own. */
static int serve (unsigned dies, unsigned fails)
{
    int status;
    const pid_t pid = fork ();
    assert_true (pid >= 0);
    if (pid == 0) {
        struct shop shop = { .name = "follower", .dir = directory };
        struct follow f = { .take = take, .settle = settle };
        static const char *const topics[] = { "orders.>", NULL };
        dies_at = dies;
        fails_at = fails;
        const int rc = follow_serve (&f, &shop, tables, false, topics, &db);
        _exit (rc == -EIO ? CUT_SHORT : rc ? WRONG : DONE);
    }
    assert_int_equal (waitpid (pid, &status, 0), pid);
    assert_true (WIFEXITED (status) && WEXITSTATUS (status) != WRONG);
    return WEXITSTATUS (status);
}

/* Facts 1 to some number, each once and in order, and all of them settled. Returns how many. */
static int64_t expect_each_once (void)
{
    sqlite3_stmt *rows;
    sqlite3 *file;
    int64_t seq = 0, settled;
    assert_int_equal (store_open (directory, "follower", "", &file), 0);
    assert_int_equal (store_query (file, &rows, "SELECT seq FROM fact ORDER BY rowid", ""), 0);
    while (store_row (rows) == 0)
        assert_int_equal (sqlite3_column_int64 (rows, 0), ++seq);
    (void) sqlite3_finalize (rows);
    assert_int_equal (store_number (file, &settled, "SELECT facts FROM settled", ""), 0);
    assert_int_equal (settled, seq);
    store_close (&file);
    return seq;
}

static void lives (bool dies)
{
    int status = CUT_SHORT;
    for (unsigned n = 1; status == CUT_SHORT; n++) {
        kit_directory (directory);
        status = serve (dies ? n : 0, dies ? 0 : n);
        assert_in_range (expect_each_once (), status == DONE ? FACTS : 0, FACTS);
        assert_int_equal (serve (0, 0), DONE);
        assert_int_equal (expect_each_once (), FACTS);
        kit_remove (directory);
        assert_true (status == DONE || n < 1000);
    }
}

static void killed_at_any_call_it_goes_on_with_each_fact_once (void **state)
{
    (void) state;
    lives (true);
}

static void failed_at_any_call_it_goes_on_with_each_fact_once (void **state)
{
    (void) state;
    lives (false);
}

/* It was stopped, and taken for dead: another one was started over the same database. */
static void who_goes_on_after_another_has_begun_changes_nothing (void **state)
{
    struct shop shop = { .name = "follower", .dir = directory };
    struct follow f = { .take = take, .settle = settle };
    static const char *const topics[] = { "orders.>", NULL };
    (void) state;
    kit_directory (directory);
    dies_at = fails_at = 0;
    assert_int_equal (store_open (directory, shop.name, tables, &db), 0);
    f.db = db;
    assert_int_equal (follow_open (&f, &shop, topics), 0);
    assert_int_equal (follow_step (&f, 1), 0);
    assert_int_equal (serve (0, 0), DONE);
    assert_int_equal (follow_step (&f, 1), FM_ERR_IN_USE);
    assert_int_equal (expect_each_once (), FACTS);
    follow_close (&f);
    store_close (&db);
    kit_remove (directory);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (killed_at_any_call_it_goes_on_with_each_fact_once),
        cmocka_unit_test (failed_at_any_call_it_goes_on_with_each_fact_once),
        cmocka_unit_test (who_goes_on_after_another_has_begun_changes_nothing),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
