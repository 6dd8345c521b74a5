/* The parts of the worked example that could lose or double something by themselves: its mailbox, its input, its orders. */

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
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

/* Larger than what is read at a time: of others, whose lengths nobody tells, and whose heads may be longer than ours. */
static void large_mails_of_others_are_passed_over (void **state)
{
    enum { LARGE = 60000 };
    static char text[3 * LARGE], end[64];
    (void) state;
    size_t len = (size_t) snprintf (text, sizeof text, "From x@y Thu Jan  1 00:00:01 1970\nSubject: no length\n\n");
    memset (text + len, 'b', LARGE);
    len += LARGE;
    len += (size_t) snprintf (text + len, sizeof text - len, "\n\nFrom z@y Thu Jan  1 00:00:01 1970\nSubject: ");
    memset (text + len, 's', LARGE);
    len += LARGE;
    len += (size_t) snprintf (text + len, sizeof text - len, "\n\nBye\n\nFrom z@y Thu Jan  1 00:00:01 1970\nMessage-ID: <");
    memset (text + len, 'i', 2000);
    len += 2000;
    len += (size_t) snprintf (text + len, sizeof text - len, ">\n\nBye\n\n");
    write_file ("mbox", text, len);
    assert_true (append (&first));
    assert_false (append (&first));
    const int fd = open (path_of ("mbox"), O_RDONLY);
    assert_true (fd >= 0);
    assert_int_equal (pread (fd, end, 35, (off_t) len), 35);
    (void) close (fd);
    assert_memory_equal (end, "From shop@shop.example Thu Jan  1 0", 35);
    assert_int_equal (access (path_of ("mbox.torn"), F_OK), -1);        /* nothing was taken for torn */
}

static void a_mailbox_that_cannot_be_is_refused (void **state)
{
    struct mbox *m = NULL;
    sqlite3 *db;
    char path[2 * PATH_BYTES];
    (void) state;
    assert_int_equal (store_open (dir, "index", "", &db), 0);
    (void) snprintf (path, sizeof path, "%s/nothing/mbox", dir);
    assert_int_equal (mbox_open (path, db, &m), -ENOENT);
    assert_null (m);
    mbox_destroy (&m);                  /* takes NULL */
    /* A database that cannot be written to. */
    assert_int_equal (store_do (db, "PRAGMA query_only = ON", ""), 0);
    assert_int_equal (mbox_open (path_of ("mbox"), db, &m), -EIO);
    assert_null (m);
    store_close (&db);
}

/* --- The database. */

static void a_database_that_fails_is_told_and_closed (void **state)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *rows;
    int64_t number;
    const struct fm_slice bytes = { "b\0b", 3 };
    char name[5000];
    (void) state;
    assert_int_equal (store_open (path_of ("nothing"), "index", "", &db), -EIO);
    write_file ("index.db", "this is no database, but long enough to be looked at as one, which takes a hundred bytes or more of anything\n", 110);
    assert_int_equal (store_open (dir, "index", "", &db), -EIO);
    forget_index ();
    memset (name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal (store_open (dir, name, "", &db), -ENAMETOOLONG);
    assert_int_equal (store_open (dir, "index", "no SQL", &db), -EIO);
    assert_null (db);
    assert_int_equal (store_open (dir, "index", "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)", &db), 0);
    assert_int_equal (store_do (db, "no SQL", ""), -EIO);
    assert_int_equal (store_query (db, &rows, "SELECT a FROM nowhere", ""), -EIO);
    assert_int_equal (store_number (db, &number, "SELECT a FROM nowhere", ""), -EIO);
    assert_int_equal (store_do (db, "INSERT INTO t VALUES (?, ?)", "nb", (int64_t) 7, &bytes), 0);
    assert_int_equal (store_do (db, "INSERT INTO t VALUES (?, ?)", "nb", (int64_t) 7, &bytes), -EIO);      /* there already */
    assert_int_equal (store_do (db, "SELECT a FROM t", ""), 0);         /* its rows are passed over */
    assert_int_equal (store_number (db, &number, "SELECT length (b) FROM t", ""), 0);
    assert_int_equal (number, 3);
    assert_int_equal (store_number (db, &number, "SELECT a FROM t WHERE a > 7", ""), 0);
    assert_int_equal (number, 0);
    store_close (&db);
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

static void an_order_of_too_many_lines_is_refused (void **state)
{
    enum { LINES = 10001 };
    static const char line[] = "{\"code\":\"x\",\"description\":\"\",\"quantity\":1,\"price\":5},";
    static char text[LINES * sizeof line + sizeof HEAD + 64];
    struct order order;
    (void) state;
    char *to = text + snprintf (text, sizeof text, "%s", HEAD "\"a@b\",\"lines\":[");
    for (unsigned i = 0; i < LINES; i++) {
        memcpy (to, line, sizeof line - 1);
        to += sizeof line - 1;
    }
    memcpy (to - 1, "]}", 3);
    assert_int_equal (order_decode (fm_text (text), &order), FM_ERR_MALFORMED);
    memcpy (to - sizeof line, "]}", 3);                 /* one less */
    assert_int_equal (order_decode (fm_text (text), &order), 0);
    assert_int_equal (order.units, LINES - 1);
    order_release (&order);
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
    assert_int_equal (outbox_take_file (db, path_of ("nothing.csv")), -ENOENT);
    /* Its identity would not fit. */
    char lines[256], number[101];
    memset (number, '7', sizeof number - 1);
    number[sizeof number - 1] = '\0';
    (void) snprintf (lines, sizeof lines, "3,a,x,1,d,1.5,,UK\n%s,a,x,1,d,1.5,,UK\n", number);
    assert_int_equal (take_lines (db, lines), FM_ERR_TOO_LARGE);
    assert_int_equal (count_untold (db), 2);
    /* A fact that somebody else published with an identity that is none of ours. */
    (void) snprintf (lines, sizeof lines, "order/%s/1", number);
    const struct fm_fact fact = { .id = { .stream = { { 1 } }, .seq = 7 }, .identity = fm_text (lines) };
    assert_int_equal (outbox_recorded (db, &fact), 0);
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
        CASE (large_mails_of_others_are_passed_over),
        CASE (a_mailbox_that_cannot_be_is_refused),
        CASE (a_database_that_fails_is_told_and_closed),
        CASE (a_file_is_taken_whole_or_not_at_all),
        CASE (a_correction_waits_for_the_id_of_what_it_corrects),
        cmocka_unit_test (quoted_fields_are_taken_apart),
        cmocka_unit_test (malformed_lines_are_refused),
        cmocka_unit_test (money_is_exact),
        cmocka_unit_test (what_is_no_order_is_refused),
        cmocka_unit_test (an_order_of_too_many_lines_is_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
