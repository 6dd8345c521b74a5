/* The worked example's email service, without a mesh: what becomes of an order, and of one that is in doubt. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "../../nodes/shop/email.c"

#include "../support/log_kit.h"

/* --- What it stands on. */

static char said[256];

void shop_say (const struct shop *shop, const char *format, ...)
{
    va_list args;
    (void) shop;
    va_start (args, format);
    (void) vsnprintf (said, sizeof said, format, args);
    va_end (args);
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

int shop_work (struct shop *shop, const struct fm_worker_options *options, const struct fm_handler *handler)
{
    (void) shop, (void) options, (void) handler;
    return 0;
}

/* --- */

#define ORDER(number, email) "{\"number\":\"" number "\",\"date\":\"\",\"customer\":\"\",\"country\":\"\",\"email\":\"" email "\",\"lines\":[]}"
static char directory[128];
static struct email service;

static int set_up (void **state)
{
    char path[256];
    (void) state;
    kit_directory (directory);
    (void) snprintf (path, sizeof path, "%s/mbox", directory);
    return store_open (directory, "email", "", &service.db) || mbox_open (path, service.db, &service.mbox);
}

static int tear_down (void **state)
{
    (void) state;
    mbox_destroy (&service.mbox);
    store_close (&service.db);
    kit_remove (directory);
    return 0;
}

static const char *reason;
static int delay_ms;

static struct fm_work work_of (const char *payload, uint64_t seq, uint64_t root, uint32_t flags)
{
    return (struct fm_work) { .fact = { .id = { .stream = { { 1 } }, .seq = seq }, .key = fm_text ("k"), .payload = fm_text (payload), .time_ns = 1 },
                              .root = { .stream = { { 1 } }, .seq = root }, .flags = flags };
}

static enum fm_outcome hand (const struct fm_work *work)
{
    reason = "";
    delay_ms = 0;
    said[0] = '\0';
    return run (&service, work, &delay_ms, &reason);
}

static void an_order_and_its_correction_are_confirmed_once_each (void **state)
{
    (void) state;
    const struct fm_work order = work_of (ORDER ("7", "a@example.com"), 3, 3, 0), correction = work_of (ORDER ("7", "b@example.com"), 5, 3, FM_WORK_CORRECTION);
    assert_int_equal (check (&service, &order), FM_NOT_HAPPENED);
    assert_string_equal (said, "in doubt whether k was confirmed: the mailbox says no");
    assert_int_equal (hand (&order), FM_DONE);
    assert_string_equal (said, "7 confirmed to a@example.com");
    assert_int_equal (check (&service, &order), FM_HAPPENED);
    assert_int_equal (check (&service, &correction), FM_NOT_HAPPENED);
    assert_int_equal (hand (&correction), FM_DONE);
    assert_string_equal (said, "7 confirmed to b@example.com, corrected");
    assert_int_equal (check (&service, &correction), FM_HAPPENED);
}

static void what_no_mail_can_say_is_put_aside (void **state)
{
    char payload[1024], name[601];
    (void) state;
    struct fm_work work = work_of ("not an order", 1, 1, 0);
    assert_int_equal (hand (&work), FM_PARK);
    assert_string_equal (reason, "its payload is not an order");
    memset (name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    (void) snprintf (payload, sizeof payload, ORDER ("7", "%s@example.com"), name);
    work = work_of (payload, 1, 1, 0);
    assert_int_equal (hand (&work), FM_PARK);
    assert_string_equal (reason, "what it says does not fit into a mail's head");
    assert_int_equal (check (&service, &work), FM_NOT_HAPPENED);
}

/* As with a full disk: it is tried again, and of what is in doubt nobody says that it did not happen. */
static void with_a_database_that_fails_nothing_is_said_and_all_is_tried_again (void **state)
{
    (void) state;
    const struct fm_work order = work_of (ORDER ("7", "a@example.com"), 3, 3, 0);
    assert_int_equal (store_do (service.db, "ALTER TABLE mail RENAME TO elsewhere", ""), 0);
    assert_int_equal (hand (&order), FM_LATER);
    assert_int_equal (delay_ms, AGAIN_MS);
    assert_string_equal (said, "");
    assert_int_equal (check (&service, &order), FM_CANT_TELL);
    assert_int_equal (store_do (service.db, "ALTER TABLE elsewhere RENAME TO mail", ""), 0);
    assert_int_equal (check (&service, &order), FM_NOT_HAPPENED);
    assert_int_equal (hand (&order), FM_DONE);
}

static void without_its_directory_it_does_not_open (void **state)
{
    (void) state;
    struct shop shop = { .dir = "/nothing/there", .name = "email" };
    assert_int_equal (email_run (&shop), -EIO);
    shop.dir = directory;
    assert_int_equal (email_run (&shop), 0);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (an_order_and_its_correction_are_confirmed_once_each),
        CASE (what_no_mail_can_say_is_put_aside),
        CASE (with_a_database_that_fails_nothing_is_said_and_all_is_tried_again),
        CASE (without_its_directory_it_does_not_open),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
