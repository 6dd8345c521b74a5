/* input, input_csv, input_json: records out of bytes, however the bytes come in pieces. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/eventfd.h>

#include "../../nodes/cli/text.c"

#include "../../nodes/cli/input.c"

#include "../../nodes/cli/input_csv.c"

#include "../../nodes/cli/json_check.c"

#include "../../nodes/cli/input_json.c"

enum { LIMIT = 1 << 20 };

/* Bytes that come out of a pipe in pieces of a fixed size: each piece is written when the one before has been read. */
struct source {
    int write_fd;
    int saved_stdin;
    struct fm_slice left;
    size_t piece;
    struct input *in;
};

static void source_open (struct source *s, struct fm_slice bytes, size_t piece, size_t limit)
{
    int fds[2];
    assert_int_equal (pipe (fds), 0);
    *s = (struct source){ .write_fd = fds[1], .left = bytes, .piece = piece, .saved_stdin = dup (STDIN_FILENO) };
    assert_int_equal (dup2 (fds[0], STDIN_FILENO), STDIN_FILENO);
    close (fds[0]);
    const struct input_options options = { .record_max = limit, .wake_fd = -1, .idle_ms = 0 };
    assert_int_equal (input_open ("-", &options, &s->in), 0);
}

/* The next piece; the end of the file behind the last. */
static void source_feed (struct source *s)
{
    const size_t n = s->left.len < s->piece ? s->left.len : s->piece;
    if (n) {
        assert_int_equal (write (s->write_fd, s->left.data, n), n);
        s->left = slice ((const uint8_t *) s->left.data + n, s->left.len - n);
    } else {
        assert_int_not_equal (s->write_fd, -1);
        close (s->write_fd);
        s->write_fd = -1;
    }
}

static void source_close (struct source *s)
{
    input_destroy (&s->in);
    if (s->write_fd >= 0)
        close (s->write_fd);
    assert_int_equal (dup2 (s->saved_stdin, STDIN_FILENO), STDIN_FILENO);
    close (s->saved_stdin);
}

enum kind { LINES, NULS, WHOLE, CSV, CSV_RAW, JSON };

/* What came out: each record as KEY|LEVEL|LINE|PAYLOAD and byte 1, and how it ended. */
struct result {
    struct text text;
    int rc;
    char detail[512];
};

static struct result read_all (enum kind kind, struct fm_slice bytes, size_t piece, size_t limit, const char *key,
                               const char *level)
{
    struct source s;
    struct csv *csv = NULL;
    struct json_lines *json = NULL;
    struct result r = { .rc = 0 };
    source_open (&s, bytes, piece, limit);
    const struct csv_options csv_options = { .raw = kind == CSV_RAW, .key = key, .level = level };
    const struct json_lines_options json_options = { .key = key, .level = level };
    if (kind == CSV || kind == CSV_RAW)
        assert_int_equal (csv_new (s.in, &csv_options, &csv), 0);
    if (kind == JSON)
        assert_int_equal (json_lines_new (s.in, &json_options, &json), 0);
    for (;;) {
        struct input_record record;
        r.rc = csv             ? csv_next (csv, &record)
               : json          ? json_lines_next (json, &record)
               : kind == WHOLE ? input_whole (s.in, &record)
                               : input_line (s.in, kind == NULS ? 0 : '\n', &record);
        if (r.rc == FM_TIMEOUT) {
            source_feed (&s);
            continue;
        }
        if (r.rc < 0)
            break;
        text_put (&r.text, record.key);
        text_put_byte (&r.text, '|');
        text_put (&r.text, record.level);
        text_put_byte (&r.text, '|');
        text_put_u64 (&r.text, record.line);
        text_put_byte (&r.text, '|');
        text_put (&r.text, record.payload);
        text_put_byte (&r.text, 1);
    }
    (void) snprintf (r.detail, sizeof r.detail, "%s", fm_error_detail ());
    csv_destroy (&csv);
    json_lines_destroy (&json);
    source_close (&s);
    return r;
}

/* The same records in pieces of every size, and all at once. */
static void expect (enum kind kind, struct fm_slice bytes, const char *key, const char *level, struct fm_slice want,
                    int want_rc, const char *want_detail)
{
    const size_t pieces[] = { 1, 2, 3, 7, 60000 };
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct result r = read_all (kind, bytes, pieces[i], LIMIT, key, level);
        if (!slice_equal (slice (r.text.data, r.text.len), want))
            fail_msg ("pieces of %zu: '%.*s' instead of '%.*s'", pieces[i], (int) r.text.len,
                      (const char *) r.text.data, (int) want.len, (const char *) want.data);
        if (r.rc != want_rc)
            fail_msg ("pieces of %zu: %s instead of %s (%s)", pieces[i], fm_error_text (r.rc), fm_error_text (want_rc),
                      r.detail);
        if (want_detail && !strstr (r.detail, want_detail))
            fail_msg ("'%s' is not in '%s'", want_detail, r.detail);
        text_release (&r.text);
    }
}

#define TEXT(literal) slice (literal, sizeof literal - 1)

static void lines_pass_unchanged_and_the_last_needs_no_newline (void **state)
{
    (void) state;
    expect (LINES, TEXT ("one\ntwo\n"), NULL, NULL, TEXT ("||1|one\1||2|two\1"), FM_ERR_END, NULL);
    expect (LINES, TEXT ("one\ntwo"), NULL, NULL, TEXT ("||1|one\1||2|two\1"), FM_ERR_END, NULL);
    expect (LINES, TEXT (""), NULL, NULL, TEXT (""), FM_ERR_END, NULL);
    expect (LINES, TEXT ("\n\n\r\n"), NULL, NULL, TEXT ("||1|\1||2|\1||3|\r\1"), FM_ERR_END, NULL);
    expect (LINES, TEXT ("a\0b\xff\xfe\nc\0\n"), NULL, NULL, TEXT ("||1|a\0b\xff\xfe\1||2|c\0\1"), FM_ERR_END, NULL);
    expect (NULS, TEXT ("a\nb\0\0c"), NULL, NULL, TEXT ("||1|a\nb\1||2|\1||3|c\1"), FM_ERR_END, NULL);
}

static void a_whole_file_is_one_record_an_empty_one_too (void **state)
{
    (void) state;
    expect (WHOLE, TEXT ("a\n\0b\n"), NULL, NULL, TEXT ("||1|a\n\0b\n\1"), FM_ERR_END, NULL);
    expect (WHOLE, TEXT (""), NULL, NULL, TEXT ("||1|\1"), FM_ERR_END, NULL);
}

static void a_record_over_the_limit_is_refused_with_its_line (void **state)
{
    (void) state;
    const struct fm_slice bytes = TEXT ("12345\n12345678\n123456789\n1\n");
    for (size_t piece = 1; piece < 30; piece++) {
        struct result r = read_all (LINES, bytes, piece, 8, NULL, NULL);
        assert_int_equal (r.rc, FM_ERR_TOO_LARGE);
        assert_true (slice_equal (slice (r.text.data, r.text.len), TEXT ("||1|12345\1||2|12345678\1")));
        assert_non_null (strstr (r.detail, "standard input:3: "));
        assert_non_null (strstr (r.detail, "limit of 8"));
        text_release (&r.text);
        r = read_all (WHOLE, TEXT ("123456789"), piece, 8, NULL, NULL);
        assert_int_equal (r.rc, FM_ERR_TOO_LARGE);
        text_release (&r.text);
        r = read_all (WHOLE, TEXT ("12345678"), piece, 8, NULL, NULL);
        assert_int_equal (r.rc, FM_ERR_END);
        text_release (&r.text);
    }
}

/* A stream without a newline must not fill the memory. */
static void an_endless_line_is_refused_before_it_is_read (void **state)
{
    (void) state;
    const int zero = open ("/dev/zero", O_RDONLY);
    if (zero < 0)
        skip ();
    close (zero);
    struct input *in;
    const struct input_options options = { .record_max = 100000, .wake_fd = -1, .idle_ms = 0 };
    assert_int_equal (input_open ("/dev/zero", &options, &in), 0);
    struct input_record record;
    assert_int_equal (input_line (in, '\n', &record), FM_ERR_TOO_LARGE);
    assert_true (in->size <= 4 * INPUT_READ);
    input_destroy (&in);
}

static void long_lines_between_short_ones_pass_unchanged (void **state)
{
    (void) state;
    struct text all = { 0 }, want = { 0 };
    const size_t lens[] = { 0, 1, INPUT_READ - 1, INPUT_READ, INPUT_READ + 1, 3, 700000, 0, LIMIT, 5 };
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        text_put_cstr (&want, "||");
        text_put_u64 (&want, i + 1);
        text_put_byte (&want, '|');
        for (size_t j = 0; j < lens[i]; j++) {
            const uint8_t byte = (uint8_t) (j * 7 + i) == '\n' ? 'n' : (uint8_t) (j * 7 + i);
            text_put_byte (&all, byte);
            text_put_byte (&want, byte);
        }
        text_put_byte (&all, '\n');
        text_put_byte (&want, 1);
    }
    struct result r = read_all (LINES, slice (all.data, all.len), 60000, LIMIT, NULL, NULL);
    assert_int_equal (r.rc, FM_ERR_END);
    assert_true (slice_equal (slice (r.text.data, r.text.len), slice (want.data, want.len)));
    text_release (&r.text);
    text_release (&all);
    text_release (&want);
}

/* At the end of the file the buffer has just been grown for more that does not come. */
static void a_long_last_line_without_a_newline_passes_unchanged (void **state)
{
    (void) state;
    for (size_t len = INPUT_READ / 2 - 2; len < 4 * INPUT_READ; len = len * 5 / 4) {
        struct text all = { 0 };
        for (size_t i = 0; i < len; i++)
            text_put_byte (&all, (uint8_t) ('a' + i % 23));
        for (enum kind kind = LINES; kind <= WHOLE; kind++) {
            struct result r = read_all (kind, slice (all.data, all.len), 60000, LIMIT, NULL, NULL);
            assert_int_equal (r.rc, FM_ERR_END);
            assert_int_equal (r.text.len, len + 5);
            assert_memory_equal (r.text.data + 4, all.data, len);
            text_release (&r.text);
        }
        text_release (&all);
    }
}

static void a_file_that_is_not_there_is_named (void **state)
{
    (void) state;
    struct input *in = NULL;
    const struct input_options options = { .record_max = 1, .wake_fd = -1, .idle_ms = 0 };
    assert_int_equal (input_open ("/nowhere/at/all", &options, &in), -ENOENT);
    assert_null (in);
    assert_non_null (strstr (fm_error_detail (), "/nowhere/at/all"));
}

static void a_readable_wake_descriptor_ends_a_read (void **state)
{
    (void) state;
    int fds[2];
    assert_int_equal (pipe (fds), 0);
    const int saved = dup (STDIN_FILENO), wake = eventfd (1, 0);
    dup2 (fds[0], STDIN_FILENO);
    struct input *in;
    const struct input_options options = { .record_max = 10, .wake_fd = wake, .idle_ms = -1 };
    assert_int_equal (input_open ("-", &options, &in), 0);
    struct input_record record;
    assert_int_equal (input_line (in, '\n', &record), FM_INTERRUPTED);
    input_destroy (&in);
    dup2 (saved, STDIN_FILENO);
    close (saved);
    close (wake);
    close (fds[0]);
    close (fds[1]);
}

/* --- CSV. */

static void a_row_becomes_a_json_object_of_strings (void **state)
{
    (void) state;
    expect (CSV, TEXT ("id,name,n\n1,lamp,6\n2,,-1\n"), "id", NULL,
            TEXT ("1||2|{\"id\":\"1\",\"name\":\"lamp\",\"n\":\"6\"}\1"
                  "2||3|{\"id\":\"2\",\"name\":\"\",\"n\":\"-1\"}\1"),
            FM_ERR_END, NULL);
}

static void quotes_commas_and_newlines_in_fields_are_kept (void **state)
{
    (void) state;
    const struct fm_slice file =
        TEXT ("id,text\r\n1,\"a,b\"\r\n2,\"say \"\"hi\"\"\"\r\n3,\"two\nlines\r\n\"\r\n\"4\",\"\"\r\n5,\"\"\"\"");
    expect (CSV, file, "text", "id",
            TEXT ("a,b|1|2|{\"id\":\"1\",\"text\":\"a,b\"}\1"
                  "say \"hi\"|2|3|{\"id\":\"2\",\"text\":\"say \\\"hi\\\"\"}\1"
                  "two\nlines\r\n|3|4|{\"id\":\"3\",\"text\":\"two\\nlines\\r\\n\"}\1"
                  "|4|7|{\"id\":\"4\",\"text\":\"\"}\1"
                  "\"|5|8|{\"id\":\"5\",\"text\":\"\\\"\"}\1"),
            FM_ERR_END, NULL);
    /* Raw: the line as it is, its CR too, so that adding newlines gives the file back. */
    expect (CSV_RAW, file, "id", NULL,
            TEXT ("1||2|1,\"a,b\"\r\1"
                  "2||3|2,\"say \"\"hi\"\"\"\r\1"
                  "3||4|3,\"two\nlines\r\n\"\r\1"
                  "4||7|\"4\",\"\"\r\1"
                  "5||8|5,\"\"\"\"\1"),
            FM_ERR_END, NULL);
}

static void a_byte_order_mark_and_empty_lines_are_passed_over (void **state)
{
    (void) state;
    expect (CSV, TEXT ("\xEF\xBB\xBFid,n\n\n1,2\n\r\n3,4\n\n"), "id", NULL,
            TEXT ("1||3|{\"id\":\"1\",\"n\":\"2\"}\1"
                  "3||5|{\"id\":\"3\",\"n\":\"4\"}\1"),
            FM_ERR_END, NULL);
    expect (CSV, TEXT ("\xEF\xBB\xBF\"id\",n\n1,2\n"), NULL, NULL, TEXT (""), FM_ERR_MALFORMED,
            "standard input:1: field 1: a quote inside");
    /* With one column an empty line is an empty field. */
    expect (CSV, TEXT ("id\n\n1\n"), NULL, NULL, TEXT ("||2|{\"id\":\"\"}\1||3|{\"id\":\"1\"}\1"), FM_ERR_END, NULL);
}

static void a_malformed_row_is_named_and_nothing_comes_after_it (void **state)
{
    (void) state;
    const struct fm_slice first = TEXT ("||2|{\"a\":\"1\",\"b\":\"2\"}\1");
    expect (CSV, TEXT ("a,b\n1,2\n3\n5,6\n"), NULL, NULL, first, FM_ERR_MALFORMED,
            "standard input:3: 1 fields where the header has 2");
    expect (CSV, TEXT ("a,b\n1,2\n3,4,5\n5,6\n"), NULL, NULL, first, FM_ERR_MALFORMED,
            "standard input:3: 3 fields where the header has 2");
    expect (CSV, TEXT ("a,b\n1,2\n3,x\"y\n"), NULL, NULL, first, FM_ERR_MALFORMED,
            "standard input:3: field 2: a quote inside");
    expect (CSV, TEXT ("a,b\n1,2\n3,\"x\"y\n"), NULL, NULL, first, FM_ERR_MALFORMED,
            "standard input:3: field 2: something behind");
    expect (CSV, TEXT ("a,b\n1,2\n3,\"x\"\ry\n"), NULL, NULL, first, FM_ERR_MALFORMED,
            "standard input:3: field 2: something behind");
    expect (CSV, TEXT ("a,b\n1,2\n3,\"x\n\n\n"), NULL, NULL, first, FM_ERR_MALFORMED,
            "standard input:3: field 2: the row begins here");
    expect (CSV, TEXT ("a,b\n1,2\n3,\"x\n\n\"z\n"), NULL, NULL, first, FM_ERR_MALFORMED,
            "standard input:5: field 2: something behind");
    expect (CSV, TEXT ("a,b\n1,2\n3,\xff\n"), NULL, NULL, first, FM_ERR_MALFORMED,
            "standard input:3: field 2 (b) is not UTF-8");
    expect (CSV, TEXT (""), NULL, NULL, TEXT (""), FM_ERR_MALFORMED, "must name the columns");
    expect (CSV, TEXT ("a,a\n1,2\n"), NULL, NULL, TEXT (""), FM_ERR_MALFORMED, "two columns are named 'a'");
}

static void the_last_row_needs_no_newline (void **state)
{
    (void) state;
    expect (CSV, TEXT ("a,b\n1,2"), "b", NULL, TEXT ("2||2|{\"a\":\"1\",\"b\":\"2\"}\1"), FM_ERR_END, NULL);
    expect (CSV, TEXT ("a,b\n1,"), "b", NULL, TEXT ("||2|{\"a\":\"1\",\"b\":\"\"}\1"), FM_ERR_END, NULL);
    expect (CSV, TEXT ("a,b\n1,\"2\""), "b", NULL, TEXT ("2||2|{\"a\":\"1\",\"b\":\"2\"}\1"), FM_ERR_END, NULL);
    expect (CSV_RAW, TEXT ("a,b\n1,2"), "b", NULL, TEXT ("2||2|1,2\1"), FM_ERR_END, NULL);
    expect (CSV, TEXT ("a,b"), NULL, NULL, TEXT (""), FM_ERR_END, NULL);
}

static void a_column_without_a_text_for_its_name_is_refused (void **state)
{
    (void) state;
    expect (CSV, TEXT ("a,\xff\n1,2\n"), NULL, NULL, TEXT (""), FM_ERR_MALFORMED, "standard input:1: the name of column 2 is not UTF-8 text");
    expect (CSV, TEXT ("a\0,b\n1,2\n"), NULL, NULL, TEXT (""), FM_ERR_MALFORMED, "standard input:1: the name of column 1 is not UTF-8 text");
}

/* Its next row may be anything: where it would begin depends on what was wrong. */
static void what_was_malformed_stays_so (void **state)
{
    (void) state;
    struct source s;
    struct csv *csv = NULL;
    struct input_record record;
    int rc;
    source_open (&s, TEXT ("a,b\n1\n1,2\n"), 100, LIMIT);
    assert_int_equal (csv_new (s.in, &(struct csv_options) { .raw = false }, &csv), 0);
    while ((rc = csv_next (csv, &record)) == FM_TIMEOUT)
        source_feed (&s);
    assert_int_equal (rc, FM_ERR_MALFORMED);
    assert_int_equal (csv_next (csv, &record), FM_ERR_MALFORMED);
    csv_destroy (&csv);
    csv_destroy (&csv);                 /* takes NULL */
    source_close (&s);
}

static void bytes_that_are_not_utf8_pass_in_raw_rows (void **state)
{
    (void) state;
    expect (CSV_RAW, TEXT ("a,b\n\xff,\0\n"), "a", NULL, TEXT ("\xff||2|\xff,\0\1"), FM_ERR_END, NULL);
}

static void a_column_that_is_not_there_is_named_with_those_that_are (void **state)
{
    (void) state;
    expect (CSV, TEXT ("a,b\n1,2\n"), "c", NULL, TEXT (""), FM_ERR_ARGUMENT, "no column 'c'; there are: a, b");
    expect (CSV, TEXT ("a,b\n1,2\n"), NULL, "d", TEXT (""), FM_ERR_ARGUMENT, "no column 'd'");
    /* A list that is too long for the message is cut, not overrun. */
    struct text header = { 0 };
    for (int i = 0; i < 300; i++) {
        text_put_cstr (&header, i ? ",column-" : "column-");
        text_put_u64 (&header, (uint64_t) i);
    }
    text_put_cstr (&header, "\nx\n");
    expect (CSV, slice (header.data, header.len), "c", NULL, TEXT (""), FM_ERR_ARGUMENT,
            "there are: column-0, column-1");
    text_release (&header);
}

static void too_many_columns_are_refused (void **state)
{
    (void) state;
    struct text row = { 0 };
    for (int i = 0; i < CSV_COLUMNS_MAX; i++)
        text_put_byte (&row, ',');
    text_put_byte (&row, '\n');
    expect (CSV, slice (row.data, row.len), NULL, NULL, TEXT (""), FM_ERR_MALFORMED, "more than 4096 fields");
    text_release (&row);
}

/* Rows that are made from random fields, written as RFC 4180 wants, must come back as the fields. */
static void random_rows_come_back_as_json_says (void **state)
{
    (void) state;
    static const char *const parts[] = { "a", "\"", ",", "\n", "\r\n", "\r", " ", "\xc3\xa9", "\\", "\t", "{}", "x,y" };
    srandom (4180);
    for (int round = 0; round < 300; round++) {
        struct text file = { 0 }, fields[4] = { { 0 } };
        text_put_cstr (&file, "a,b,c,d\n");
        for (int f = 0; f < 4; f++) {
            for (long n = random () % 6; n; n--)
                text_put_cstr (&fields[f], parts[random () % (long) (sizeof parts / sizeof parts[0])]);
            text_put_cstr (&file, f ? ",\"" : "\"");
            for (size_t i = 0; i < fields[f].len; i++) {
                if (fields[f].data[i] == '"')
                    text_put_byte (&file, '"');
                text_put_byte (&file, fields[f].data[i]);
            }
            text_put_byte (&file, '"');
        }
        text_put_cstr (&file, random () & 1 ? "\n" : "");
        struct result r = read_all (CSV, slice (file.data, file.len), 1 + (size_t) random () % 9, LIMIT, NULL, NULL);
        assert_int_equal (r.rc, FM_ERR_END);
        assert_memory_equal (r.text.data, "||2|", 4);
        r.text.data[r.text.len - 1] = 0;
        struct json_object *object = json_tokener_parse ((const char *) r.text.data + 4);
        assert_non_null (object);
        for (int f = 0; f < 4; f++) {
            const char name[] = { (char) ('a' + f), 0 };
            struct json_object *member;
            assert_true (json_object_object_get_ex (object, name, &member));
            assert_true (
                slice_equal (slice (json_object_get_string (member), (size_t) json_object_get_string_len (member)),
                             slice (fields[f].data, fields[f].len)));
            text_release (&fields[f]);
        }
        json_object_put (object);
        text_release (&r.text);
        text_release (&file);
    }
}

/* --- JSON lines. */

static void a_json_line_stays_as_it_is (void **state)
{
    (void) state;
    expect (JSON, TEXT (" {\"id\": 7, \"x\":[1,2.50]} \n\n{\"id\":\"a\\u00e9b\"}\r\n{\"id\":1.50}\n{\"id\":true}"),
            "id", NULL,
            TEXT ("7||1| {\"id\": 7, \"x\":[1,2.50]} \1"
                  "a\xc3\xa9"
                  "b||3|{\"id\":\"a\\u00e9b\"}\r\1"
                  "1.50||4|{\"id\":1.50}\1true||5|{\"id\":true}\1"),
            FM_ERR_END, NULL);
}

static void a_line_that_is_no_object_is_named (void **state)
{
    (void) state;
    static const struct {
        const char *line, *what;
    } bad[] = {
        { "[1]", "standard input:2: a JSON value that is no object" },
        { "3", "a JSON value that is no object" },
        { "\"text\"", "a JSON value that is no object" },
        { "null", "a JSON value that is no object" },
        { "{", "standard input:2: byte 2: the line ends within an object" },
        { "{\"a\":1", "byte 7: the line ends within an object" },
        { "{\"a\":", "byte 6: the line ends where a value belongs" },
        { "{\"a", "byte 4: the line ends within a string" },
        { "{\"a\":[1", "the line ends within an array" },
        { "{\"a\":1}}", "byte 8: something behind" },
        { "{\"a\":1} {}", "byte 9: something behind" },
        { "{a:1}", "byte 2: a name in double quotes" },
        { "{'a':1}", "byte 2: a name in double quotes" },
        { "{\"a\":'x'}", "byte 6: no JSON value" },
        { "{\"a\" 1}", "byte 6: a colon" },
        { "{\"a\":1,}", "byte 8: a name" },
        { "{\"a\":[1,]}", "byte 9: no JSON value" },
        { "{\"a\":[1 2]}", "byte 9: a comma" },
        { "{\"a\":[1}", "byte 8: a comma" },
        { "{\"a\":1]", "byte 7: a comma" },
        { "{\"a\":01}", "byte 7: a number with a leading zero" },
        { "{\"a\":-00}", "byte 8: a number with a leading zero" },
        { "{\"a\":1.}", "byte 8: a digit" },
        { "{\"a\":.5}", "byte 6: no JSON value" },
        { "{\"a\":+1}", "byte 6: no JSON value" },
        { "{\"a\":-}", "byte 7: a digit" },
        { "{\"a\":1e}", "byte 8: a digit" },
        { "{\"a\":1e+}", "byte 9: a digit" },
        { "{\"a\":NaN}", "byte 6: no JSON value" },
        { "{\"a\":nul}", "byte 6: no JSON value" },
        { "{\"a\":True}", "byte 6: no JSON value" },
        { "{\"a\":\"\t\"}", "byte 7: a control character" },
        { "{\"a\":\"\\x\"}", "byte 8: no such escape" },
        { "{\"a\":\"\\u12g4\"}", "byte 11: four hex digits" },
        { "{\"a\":\"\xff\"}", "standard input:2: byte 7 is not UTF-8" },
        { "{\"a\":1 /* */}", "byte 8: a comma" },
        { "hello", "byte 1: no JSON value" },
        { "{\"id\":1}\x0c", "byte 9: something behind" },
        { "{\"id\":null}", "member 'id' is null" },
        { "{\"id\":[]}", "member 'id' is array" },
        { "{\"a\":1}", "no member 'id'" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct text file = { 0 };
        text_put_cstr (&file, "{\"id\":1}\n");
        text_put_cstr (&file, bad[i].line);
        text_put_cstr (&file, "\n{\"id\":3}\n");
        expect (JSON, slice (file.data, file.len), "id", NULL, TEXT ("1||1|{\"id\":1}\1"), FM_ERR_MALFORMED,
                bad[i].what);
        text_release (&file);
    }
}

static void what_rfc_8259_allows_is_allowed (void **state)
{
    (void) state;
    const char *good[] = { "{}",
                           "[]",
                           "[[],{},[{}]]",
                           "0",
                           "-0",
                           "10.25",
                           "1e5",
                           "1E-05",
                           "-0.0e+0",
                           "true",
                           "false",
                           "null",
                           "\"\"",
                           "\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                           " { \"a\" : [ 1 , { \"b\" : null } ] , \"a\" : \"\x7f\" } ",
                           "\"\xf0\x9f\xa6\x8a\"" };
    size_t pos;
    const char *what;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (json_check (slice_of (good[i]), NULL, &pos, &what) != 0)
            fail_msg ("%s: byte %zu: %s", good[i], pos + 1, what);
    /* As deep as the limit, and one deeper. */
    char deep[2 * JSON_DEPTH_MAX + 2];
    memset (deep, '[', JSON_DEPTH_MAX + 1);
    memset (deep + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_int_equal (json_check (slice (deep + 1, 2 * JSON_DEPTH_MAX), NULL, &pos, &what), 0);
    assert_int_equal (json_check (slice (deep, 2 * JSON_DEPTH_MAX + 2), NULL, &pos, &what), FM_ERR_MALFORMED);
    /* Every beginning of a value is no value. */
    const struct fm_slice whole = TEXT ("{\"a\":[1.5e3,{\"b\":\"\\u00e9\"},true,null]}");
    for (size_t len = 0; len < whole.len; len++)
        assert_int_equal (json_check (slice (whole.data, len), NULL, &pos, &what), FM_ERR_MALFORMED);
    assert_int_equal (json_check (slice ("1\0", 2), NULL, &pos, &what), FM_ERR_MALFORMED);
    assert_int_equal (json_check (slice ("[1\0]", 4), NULL, &pos, &what), FM_ERR_MALFORMED);
}

/* Whatever the checker lets pass json-c, too, can read: a member is never missed. */
static void what_is_allowed_json_c_reads (void **state)
{
    (void) state;
    static const char alphabet[] = "{}[]\",:0123.-+eEtrufalsn \\/\t";
    srandom (8259);
    struct json_tokener *tokener = json_tokener_new_ex (JSON_DEPTH_MAX + 1);
    unsigned allowed = 0;
    for (int round = 0; round < 400000; round++) {
        char text[12];
        const size_t len = 1 + (size_t) random () % (sizeof text - 1);
        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[(size_t) random () % (sizeof alphabet - 1)];
        text[len < sizeof text ? len : len - 1] = 0;
        size_t pos;
        const char *what;
        char kind;
        if (json_check (slice (text, len), &kind, &pos, &what) != 0 || (kind != '{' && kind != '['))
            continue;
        allowed++;
        json_tokener_reset (tokener);
        struct json_object *object = json_tokener_parse_ex (tokener, text, (int) len);
        if (!object)
            fail_msg ("json-c refuses '%.*s'", (int) len, text);
        json_object_put (object);
    }
    json_tokener_free (tokener);
    assert_true (allowed > 100);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (lines_pass_unchanged_and_the_last_needs_no_newline),
        cmocka_unit_test (a_whole_file_is_one_record_an_empty_one_too),
        cmocka_unit_test (a_record_over_the_limit_is_refused_with_its_line),
        cmocka_unit_test (an_endless_line_is_refused_before_it_is_read),
        cmocka_unit_test (long_lines_between_short_ones_pass_unchanged),
        cmocka_unit_test (a_long_last_line_without_a_newline_passes_unchanged),
        cmocka_unit_test (a_file_that_is_not_there_is_named),
        cmocka_unit_test (a_readable_wake_descriptor_ends_a_read),
        cmocka_unit_test (a_row_becomes_a_json_object_of_strings),
        cmocka_unit_test (quotes_commas_and_newlines_in_fields_are_kept),
        cmocka_unit_test (a_byte_order_mark_and_empty_lines_are_passed_over),
        cmocka_unit_test (a_malformed_row_is_named_and_nothing_comes_after_it),
        cmocka_unit_test (the_last_row_needs_no_newline),
        cmocka_unit_test (a_column_without_a_text_for_its_name_is_refused),
        cmocka_unit_test (what_was_malformed_stays_so),
        cmocka_unit_test (bytes_that_are_not_utf8_pass_in_raw_rows),
        cmocka_unit_test (a_column_that_is_not_there_is_named_with_those_that_are),
        cmocka_unit_test (too_many_columns_are_refused),
        cmocka_unit_test (random_rows_come_back_as_json_says),
        cmocka_unit_test (a_json_line_stays_as_it_is),
        cmocka_unit_test (a_line_that_is_no_object_is_named),
        cmocka_unit_test (what_rfc_8259_allows_is_allowed),
        cmocka_unit_test (what_is_allowed_json_c_reads),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
