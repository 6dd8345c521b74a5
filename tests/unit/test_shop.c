/* The parts of the worked example that could lose or double something by themselves: its mailbox, its input, its orders. */

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "factmesh.h"
#include "../../nodes/shop/csv.h"
#include "../../nodes/shop/mbox.h"
#include "../../nodes/shop/order.h"
#include "../../nodes/shop/outbox.h"
#include "../../nodes/shop/store.h"

enum { FILE_MAX = 8192, PATH_BYTES = 512 };

static char dir[PATH_BYTES - 64];

static const char *path_of (const char *name)
{
    static char path[PATH_BYTES];
    (void) snprintf (path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int make_dir (void **state)
{
    (void) state;
    const char *parent = getenv ("TMPDIR");
    (void) snprintf (dir, sizeof dir, "%s/test-shop-XXXXXX", parent ? parent : "/tmp");
    return mkdtemp (dir) ? 0 : -1;
}

static int remove_dir (void **state)
{
    static const char *const names[] = { "mbox", "mbox.torn", "index.db", "index.db-wal", "index.db-shm", "orders.db", "orders.db-wal", "orders.db-shm", "in.csv" };
    (void) state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void) unlink (path_of (names[i]));
    return rmdir (dir);
}

static size_t read_file (const char *name, char *text)
{
    const int fd = open (path_of (name), O_RDONLY);
    assert_true (fd >= 0);
    const ssize_t len = read (fd, text, FILE_MAX);
    assert_true (len >= 0 && len < FILE_MAX);
    (void) close (fd);
    text[len] = '\0';
    return (size_t) len;
}

static void write_file (const char *name, const char *text, size_t len)
{
    const int fd = open (path_of (name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true (fd >= 0);
    assert_int_equal (write (fd, text, len), len);
    (void) close (fd);
}

/* --- The mailbox. */

static const struct mail first = { "<1.1@shop>", NULL, "shop@shop.example", "a@example.com", "one", "Hello\nFrom me\n>From you\n\nend\n", 1000000000 },
                         second = { "<2.1@shop>", "<1.1@shop>", "shop@shop.example", "b@example.com", "two", "\n\nFrom here to there\n", 2000000000000000000 };

static struct mbox *open_mbox (sqlite3 **ret_db)
{
    struct mbox *m;
    assert_int_equal (store_open (dir, "index", "", ret_db), 0);
    assert_int_equal (mbox_open (path_of ("mbox"), *ret_db, &m), 0);
    return m;
}

static void close_mbox (struct mbox **m, sqlite3 **db)
{
    mbox_destroy (m);
    store_close (db);
}

static bool append (const struct mail *mail)
{
    sqlite3 *db;
    bool added = false;
    struct mbox *m = open_mbox (&db);
    assert_int_equal (mbox_append (m, mail, &added), 0);
    close_mbox (&m, &db);
    return added;
}

static bool has (const char *message_id)
{
    sqlite3 *db;
    bool is_there;
    struct mbox *m = open_mbox (&db);
    assert_int_equal (mbox_has (m, message_id, &is_there), 0);
    close_mbox (&m, &db);
    return is_there;
}

static void forget_index (void)
{
    (void) unlink (path_of ("index.db"));
    (void) unlink (path_of ("index.db-wal"));
    (void) unlink (path_of ("index.db-shm"));
}

static void a_mail_is_written_as_mail_programs_read_it (void **state)
{
    char text[FILE_MAX];
    (void) state;
    assert_true (append (&first));
    (void) read_file ("mbox", text);
    assert_string_equal (text, "From shop@shop.example Thu Jan  1 00:00:01 1970\nFrom: shop@shop.example\nTo: a@example.com\nSubject: one\n"
                               "Date: Thu, 01 Jan 1970 00:00:01 +0000\nMessage-ID: <1.1@shop>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
                               "Content-Transfer-Encoding: 8bit\nContent-Length: 31\n\nHello\n>From me\n>>From you\n\nend\n\n");
}

static void a_mail_is_there_once_however_often_it_is_appended (void **state)
{
    char once[FILE_MAX], twice[FILE_MAX];
    (void) state;
    assert_false (has (first.message_id));
    assert_true (append (&first));
    assert_true (append (&second));
    (void) read_file ("mbox", once);
    assert_false (append (&first));
    forget_index ();
    assert_false (append (&second));
    (void) read_file ("mbox", twice);
    assert_string_equal (once, twice);
    assert_true (has (first.message_id) && has (second.message_id));
}

/* Whatever a crash left of the last mail: it is not there, and what is appended next makes the mailbox what it should be. */
static void a_torn_mail_is_cut_wherever_it_ends (void **state)
{
    char whole[FILE_MAX], text[FILE_MAX];
    (void) state;
    assert_true (append (&first));
    const size_t kept = read_file ("mbox", text);
    assert_true (append (&second));
    const size_t len = read_file ("mbox", whole);
    for (size_t end = kept; end < len; end++) {
        write_file ("mbox", whole, end);
        /* An index that knows of the mail saw it synced: here it never was. */
        forget_index ();
        assert_true (has (first.message_id));
        assert_false (has (second.message_id));
        assert_true (append (&second));
        assert_int_equal (read_file ("mbox", text), len);
        assert_memory_equal (text, whole, len);
    }
}

static void what_is_cut_is_kept_beside_it (void **state)
{
    char text[FILE_MAX], torn[FILE_MAX];
    (void) state;
    assert_true (append (&first));
    const size_t len = read_file ("mbox", text);
    (void) memcpy (text + len, "\0\0\0zeros", 8);
    write_file ("mbox", text, len + 8);
    assert_true (append (&second));
    assert_int_equal (read_file ("mbox.torn", torn), 8);
    assert_memory_equal (torn, "\0\0\0zeros", 8);
}

static void mails_of_others_stay (void **state)
{
    static const char others[] = "From x@y Thu Jan  1 00:00:01 1970\nSubject: no length\nMessage-ID: <x@y>\n\nHi\n\nFrom z@y Thu Jan  1 00:00:01 1970\n\nBye\n\n";
    char text[FILE_MAX];
    (void) state;
    write_file ("mbox", others, sizeof others - 1);
    assert_true (append (&first));
    (void) read_file ("mbox", text);
    assert_memory_equal (text, others, sizeof others - 1);
    assert_true (has ("<x@y>") && has (first.message_id));
    /* A mail program took them out: what we sent is still known. */
    write_file ("mbox", others, 0);
    assert_true (has (first.message_id));
    assert_true (append (&second));
    assert_true (has (second.message_id));
}

static void a_line_break_in_a_head_is_refused (void **state)
{
    sqlite3 *db;
    struct mail mail = first;
    (void) state;
    struct mbox *m = open_mbox (&db);
    mail.to = "a@example.com\nBcc: everybody@example.com";
    assert_int_equal (mbox_append (m, &mail, NULL), FM_ERR_MALFORMED);
    close_mbox (&m, &db);
}

/* --- Lines. */

static void quoted_fields_are_taken_apart (void **state)
{
    char text[] = "a,\"b, c\",\"say \"\"x\"\"\"\r\n\r\n,\"two\nlines\",\nlast,1,\"2\"", *at = text, *fields[3];
    unsigned line = 1;
    (void) state;
    assert_int_equal (csv_next (&at, &line, fields, 3), 0);
    assert_string_equal (fields[0], "a");
    assert_string_equal (fields[1], "b, c");
    assert_string_equal (fields[2], "say \"x\"");
    assert_int_equal (csv_next (&at, &line, fields, 3), 0);
    assert_string_equal (fields[0], "");
    assert_string_equal (fields[1], "two\nlines");
    assert_string_equal (fields[2], "");
    assert_int_equal (line, 5);
    assert_int_equal (csv_next (&at, &line, fields, 3), 0);
    assert_string_equal (fields[2], "2");
    assert_int_equal (csv_next (&at, &line, fields, 3), FM_ERR_END);
}

static void malformed_lines_are_refused (void **state)
{
    static const char *const bad[] = { "a,b", "a,b,c,d", "a,b,\"c", "a,\"b\"x,c", "a,b,\"c\"\"" };
    (void) state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[32], *at = text, *fields[3];
        unsigned line = 1;
        (void) snprintf (text, sizeof text, "%s", bad[i]);
        assert_int_equal (csv_next (&at, &line, fields, 3), FM_ERR_MALFORMED);
    }
}

static void money_is_exact (void **state)
{
    static const struct { const char *text; int64_t mills; const char *printed; } good[] = {
        { "2.55", 2550, "2.55" }, { "0", 0, "0.00" }, { "18.0", 18000, "18.00" }, { "-11062.06", -11062060, "-11062.06" }, { "0.001", 1, "0.001" }, { "-0.5000", -500, "-0.50" },
    };
    static const char *const bad[] = { "", "-", ".5", "1.2345", "1e3", "1 ", "999999999999999999999", "1,5" };
    char text[MONEY_TEXT];
    int64_t mills;
    (void) state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal (money_parse (good[i].text, &mills), 0);
        assert_int_equal (mills, good[i].mills);
        assert_string_equal (money_text (mills, text), good[i].printed);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal (money_parse (bad[i], &mills), FM_ERR_MALFORMED);
}

static void what_is_no_order_is_refused (void **state)
{
#define HEAD "{\"number\":\"1\",\"date\":\"\",\"customer\":\"\",\"country\":\"\",\"email\":"
    static const char good[] = HEAD "\"a@b\",\"lines\":[{\"code\":\"x\",\"description\":\"\",\"quantity\":-3,\"price\":5}]}";
    static const char *const bad[] = {
        "", "{}", "[]", "7", "{", HEAD "\"a@b\"}", HEAD "\"none\",\"lines\":[]}", HEAD "\"a@b\\nBcc: c@d\",\"lines\":[]}", HEAD "\"a@b\\u0000\",\"lines\":[]}",
        HEAD "\"a@b\",\"lines\":[7]}", HEAD "\"a@b\",\"lines\":[{\"code\":\"x\",\"description\":\"\",\"quantity\":1e30,\"price\":5}]}",
        HEAD "\"a@b\",\"lines\":[{\"code\":\"x\",\"description\":\"\",\"quantity\":3000000000000,\"price\":5}]}",
    };
    struct order order;
    (void) state;
    assert_int_equal (order_decode (fm_text (good), &order), 0);
    assert_int_equal (order.units, -3);
    assert_int_equal (order.mills, -15);
    assert_int_equal (order_line_at (&order, 0).quantity, -3);
    order_release (&order);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal (order_decode (fm_text (bad[i]), &order), FM_ERR_MALFORMED);
}

/* --- The outbox. */

static const char header[] = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

static int take_lines (sqlite3 *db, const char *lines)
{
    char text[FILE_MAX];
    const int len = snprintf (text, sizeof text, "%s%s", header, lines);
    write_file ("in.csv", text, (size_t) len);
    return outbox_take_file (db, path_of ("in.csv"));
}

static unsigned count_untold (sqlite3 *db)
{
    sqlite3_stmt *rows;
    unsigned count = 0;
    assert_int_equal (outbox_untold (db, 100, &rows), 0);
    while (store_row (rows) == 0)
        count++;
    (void) sqlite3_finalize (rows);
    return count;
}

static void a_file_is_taken_whole_or_not_at_all (void **state)
{
    sqlite3 *db;
    (void) state;
    assert_int_equal (outbox_open (dir, &db), 0);
    assert_int_equal (take_lines (db, "1,a,x,1,d,1.5,,UK\n2,a,x,one,d,1.5,,UK\n"), FM_ERR_MALFORMED);
    assert_int_equal (count_untold (db), 0);
    assert_int_equal (take_lines (db, "1,a,x,1,d,1.5,,UK\n1,b,x,1,d,1.5,,UK\n2,a,x,1,d,1.5,7.0,UK\n"), 0);
    assert_int_equal (count_untold (db), 2);
    assert_int_equal (take_lines (db, "1,a,x,1,d,1.5,,UK\n1,b,x,1,d,1.5,,UK\n2,a,x,1,d,1.5,7.0,UK\n"), 0);
    assert_int_equal (count_untold (db), 2);
    store_close (&db);
}

static void a_correction_waits_for_the_id_of_what_it_corrects (void **state)
{
    sqlite3 *db;
    sqlite3_stmt *rows;
    struct fm_fact fact = { .id = { .stream = { { 1 } }, .seq = 7 }, .identity = fm_text ("order/1/1") };
    char id[FM_FACT_ID_TEXT];
    (void) state;
    assert_int_equal (outbox_open (dir, &db), 0);
    assert_int_equal (take_lines (db, "1,a,x,1,d,1.5,,UK\n"), 0);
    assert_int_equal (outbox_correct (db, "2", "c@d"), FM_ERR_UNKNOWN);
    assert_int_equal (outbox_correct (db, "1", "no address"), FM_ERR_MALFORMED);
    assert_int_equal (outbox_correct (db, "1", "c@d"), 0);
    assert_int_equal (count_untold (db), 1);
    assert_int_equal (outbox_told (db, "order/1/1"), 0);
    assert_int_equal (count_untold (db), 0);
    assert_int_equal (outbox_recorded (db, &fact), 0);
    assert_int_equal (outbox_untold (db, 100, &rows), 0);
    assert_int_equal (store_row (rows), 0);
    assert_string_equal (store_text (rows, 0), "order/1/2");
    assert_string_equal (store_text (rows, 3), fm_fact_id_text (&fact.id, id, sizeof id));
    assert_int_equal (store_row (rows), FM_ERR_END);
    (void) sqlite3_finalize (rows);
    store_close (&db);
    /* A successor tells what has no id, told or not. */
    assert_int_equal (outbox_open (dir, &db), 0);
    assert_int_equal (count_untold (db), 1);
    store_close (&db);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE (a_mail_is_written_as_mail_programs_read_it),
        CASE (a_mail_is_there_once_however_often_it_is_appended),
        CASE (a_torn_mail_is_cut_wherever_it_ends),
        CASE (what_is_cut_is_kept_beside_it),
        CASE (mails_of_others_stay),
        CASE (a_line_break_in_a_head_is_refused),
        CASE (a_file_is_taken_whole_or_not_at_all),
        CASE (a_correction_waits_for_the_id_of_what_it_corrects),
        cmocka_unit_test (quoted_fields_are_taken_apart),
        cmocka_unit_test (malformed_lines_are_refused),
        cmocka_unit_test (money_is_exact),
        cmocka_unit_test (what_is_no_order_is_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
