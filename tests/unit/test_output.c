/* output: facts as people and programs want them, and what happens when the descriptor takes only a part. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <pthread.h>
#include <signal.h>

#include "../../nodes/cli/text.c"

#include "../../nodes/cli/when.c"

#include "../../nodes/cli/output.c"

#define TEXT(literal) slice (literal, sizeof literal - 1)

static const struct fm_id stream = { { 0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } };
#define STREAM "ab0102030405060708090a0b0c0d0e0f"

static struct fm_fact plain_fact (const char *payload)
{
    return (struct fm_fact){
        .id = { stream, 17 },
        .topic = slice_of ("orders.placed"),
        .payload = slice_of (payload),
        .time_ns = UINT64_C (1795447440123456789),
    };
}

/* What `put` makes of facts, read back from a file. */
static struct text printed (struct output_options options, const struct fm_fact *facts, size_t count)
{
    struct text got = { 0 };
    struct output *o = NULL;
    FILE *file = tmpfile ();
    assert_non_null (file);
    options.fd = fileno (file);
    assert_int_equal (output_new (&options, &o), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal (output_fact (o, &facts[i], 40 + i), 0);
    assert_int_equal (output_flush (o), 0);
    assert_true (output_is_flushed (o));
    output_destroy (&o);
    const off_t len = lseek (options.fd, 0, SEEK_END);
    assert_true (text_reserve (&got, (size_t) len + 1));
    assert_int_equal (pread (options.fd, got.data, (size_t) len, 0), len);
    got.len = (size_t) len;
    got.data[got.len] = 0;
    fclose (file);
    return got;
}

static void expect (struct output_options options, const struct fm_fact *facts, size_t count, struct fm_slice want)
{
    struct text got = printed (options, facts, count);
    if (!slice_equal (slice (got.data, got.len), want))
        fail_msg ("'%.*s' instead of '%.*s'", (int) got.len, (const char *) got.data, (int) want.len,
                  (const char *) want.data);
    text_release (&got);
}

static void payloads_pass_unchanged_in_the_plain_formats (void **state)
{
    (void) state;
    struct fm_fact facts[] = { plain_fact ("one"), plain_fact (""), plain_fact ("") };
    facts[2].payload = TEXT ("\0\n\xff");
    expect ((struct output_options){ .format = OUTPUT_PAYLOAD }, facts, 3, TEXT ("one\n\n\0\n\xff\n"));
    expect ((struct output_options){ .format = OUTPUT_NULL }, facts, 3, TEXT ("one\0\0\0\n\xff\0"));
    expect ((struct output_options){ .format = OUTPUT_RAW }, facts, 3, TEXT ("one\0\n\xff"));
}

static void the_long_format_has_a_dash_for_what_is_not_there (void **state)
{
    (void) state;
    struct fm_fact facts[] = { plain_fact ("one two"), plain_fact ("x") };
    facts[1].key = slice_of ("key");
    facts[1].type = slice_of ("Placed");
    facts[1].id.seq = UINT64_MAX;
    expect ((struct output_options){ .format = OUTPUT_LONG }, facts, 2,
            TEXT ("2026-11-23T15:24:00.123456789Z orders.placed - - " STREAM ":17 one two\n"
                  "2026-11-23T15:24:00.123456789Z orders.placed key Placed " STREAM ":18446744073709551615 x\n"));
    expect ((struct output_options){ .format = OUTPUT_LONG, .offsets = true }, facts, 1,
            TEXT ("40 2026-11-23T15:24:00.123456789Z orders.placed - - " STREAM ":17 one two\n"));
}

static void the_long_format_keeps_a_fact_on_a_line_whatever_it_holds (void **state)
{
    (void) state;
    struct fm_fact fact = plain_fact ("one\ntwo three\\\t\x1b");
    fact.topic = slice_of ("a b.c\nd");
    fact.key = slice_of ("-");
    fact.type = slice_of ("\x7f\xc3\xa4\r");
    expect ((struct output_options){ .format = OUTPUT_LONG }, &fact, 1,
            TEXT ("2026-11-23T15:24:00.123456789Z a\\x20b.c\\nd \\x2d \\x7f\xc3\xa4\\x0d " STREAM
                  ":17 one\\ntwo three\\\\\\t\\x1b\n"));
}

static void a_custom_format_has_every_field (void **state)
{
    (void) state;
    char headers[256];
    size_t len = 0;
    assert_int_equal (fm_header_add (headers, sizeof headers, &len, slice_of ("a"), slice_of ("1")), 0);
    assert_int_equal (fm_header_add (headers, sizeof headers, &len, slice_of ("b"), slice_of ("")), 0);
    struct fm_fact f = plain_fact ("payload");
    f.key = slice_of ("K");
    f.type = slice_of ("Y");
    f.content_type = slice_of ("text/plain");
    f.correlation = slice_of ("conv");
    f.causation = (struct fm_fact_id){ stream, 3 };
    f.headers = slice (headers, len);
    expect ((struct output_options){ .format = OUTPUT_CUSTOM,
                                     .offsets = true,
                                     .custom = "%t|%k|%y|%c|%p|%i|%S|%s|%T|%N|%C|%A|%o|%h|%%\\n\\t\\\\\\0" },
            &f, 1,
            TEXT ("orders.placed|K|Y|text/plain|payload|" STREAM ":17|" STREAM
                  "|17|2026-11-23T15:24:00.123456789Z|1795447440123456789|conv|" STREAM ":3|40|a=1,b=|%\n\t\\\0"));
    f = plain_fact ("");
    expect ((struct output_options){ .format = OUTPUT_CUSTOM, .custom = "[%k%A%h%p]" }, &f, 1, TEXT ("[]"));
    expect ((struct output_options){ .format = OUTPUT_CUSTOM, .custom = "" }, &f, 1, TEXT (""));
}

static void a_custom_format_that_is_wrong_is_refused (void **state)
{
    (void) state;
    const char *bad[] = { "%o", "%", "%q", "a%", "\\", "\\x", "%p %-5t" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct output *o = NULL;
        assert_int_equal (output_new (&(struct output_options){ .format = OUTPUT_CUSTOM, .custom = bad[i] }, &o),
                          FM_ERR_ARGUMENT);
        assert_null (o);
        assert_non_null (strstr (fm_error_detail (), "--format"));
    }
    char many[2 * OUTPUT_DIRECTIVES_MAX + 1];
    for (size_t i = 0; i < OUTPUT_DIRECTIVES_MAX; i++)
        memcpy (many + 2 * i, "%p", 2);
    many[sizeof many - 1] = 0;
    struct output *o = NULL;
    assert_int_equal (output_new (&(struct output_options){ .format = OUTPUT_CUSTOM, .custom = many }, &o),
                      FM_ERR_ARGUMENT);
}

static const char *member (struct json_object *object, const char *name)
{
    struct json_object *m = NULL;
    return json_object_object_get_ex (object, name, &m) ? json_object_get_string (m) : NULL;
}

static void json_has_every_field_and_is_json (void **state)
{
    (void) state;
    char headers[256];
    size_t len = 0;
    assert_int_equal (fm_header_add (headers, sizeof headers, &len, slice_of ("a"), slice_of ("1")), 0);
    assert_int_equal (fm_header_add (headers, sizeof headers, &len, slice_of ("a"), slice_of ("\xff")), 0);
    struct fm_fact f = plain_fact ("\"q\" \\ \n\t\x01\x7f caf\xc3\xa9");
    f.key = TEXT ("k\xff");
    f.type = slice_of ("T");
    f.content_type = slice_of ("text/plain");
    f.schema = slice_of ("s1");
    f.correlation = slice_of ("c");
    f.identity = slice_of ("i");
    f.causation = (struct fm_fact_id){ stream, 3 };
    f.corrects = (struct fm_fact_id){ stream, 4 };
    f.headers = slice (headers, len);
    f.expires_ns = 1;
    f.flags = FM_TOMBSTONE;
    f.blob = TEXT ("\x08\x01");
    struct text got = printed ((struct output_options){ .format = OUTPUT_JSON, .offsets = true }, &f, 1);
    assert_int_equal (got.data[got.len - 1], '\n');
    assert_ptr_equal (memchr (got.data, '\n', got.len), got.data + got.len - 1);
    struct json_object *object = json_tokener_parse ((const char *) got.data);
    assert_non_null (object);
    assert_string_equal (member (object, "offset"), "40");
    assert_string_equal (member (object, "topic"), "orders.placed");
    assert_string_equal (member (object, "stream"), STREAM);
    assert_string_equal (member (object, "seq"), "17");
    assert_string_equal (member (object, "time"), "2026-11-23T15:24:00.123456789Z");
    assert_string_equal (member (object, "payload"), f.payload.data);
    assert_null (member (object, "key"));
    assert_string_equal (member (object, "key_base64"), "a/8=");
    assert_string_equal (member (object, "type"), "T");
    assert_string_equal (member (object, "content_type"), "text/plain");
    assert_string_equal (member (object, "schema"), "s1");
    assert_string_equal (member (object, "correlation"), "c");
    assert_string_equal (member (object, "identity"), "i");
    assert_string_equal (member (object, "causation"), STREAM ":3");
    assert_string_equal (member (object, "corrects"), STREAM ":4");
    assert_string_equal (member (object, "expires"), "1970-01-01T00:00:00.000000001Z");
    assert_string_equal (member (object, "tombstone"), "true");
    assert_string_equal (member (object, "blob_base64"), "CAE=");
    struct json_object *array;
    assert_true (json_object_object_get_ex (object, "headers", &array));
    assert_int_equal (json_object_array_length (array), 2);
    assert_string_equal (member (json_object_array_get_idx (array, 0), "value"), "1");
    assert_string_equal (member (json_object_array_get_idx (array, 1), "value_base64"), "/w==");
    json_object_put (object);
    text_release (&got);
}

static void bytes_that_are_not_utf8_come_as_base64 (void **state)
{
    (void) state;
    static const struct {
        struct fm_slice bytes;
        const char *name, *value;
    } cases[] = {
        { { "", 0 }, "payload", "" },
        { { "\xc3\xa9", 2 }, "payload", "\xc3\xa9" },
        { { "\xf4\x8f\xbf\xbf", 4 }, "payload", "\xf4\x8f\xbf\xbf" },
        { { "\xff", 1 }, "payload_base64", "/w==" },
        { { "\xc3", 1 }, "payload_base64", "ww==" },
        { { "\xc0\x80", 2 }, "payload_base64", "wIA=" },
        { { "\xe0\x80\x80", 3 }, "payload_base64", "4ICA" },
        { { "\xed\xa0\x80", 3 }, "payload_base64", "7aCA" },
        { { "\xf4\x90\x80\x80", 4 }, "payload_base64", "9JCAgA==" },
        { { "\xf8\x88\x80\x80\x80", 5 }, "payload_base64", "+IiAgIA=" },
        { { "1234567\xc3\xa9 12345678 \xc3", 20 }, "payload_base64", "MTIzNDU2N8OpIDEyMzQ1Njc4IMM=" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_fact f = plain_fact ("");
        f.payload = cases[i].bytes;
        struct text got = printed ((struct output_options){ .format = OUTPUT_JSON }, &f, 1);
        struct json_object *object = json_tokener_parse ((const char *) got.data);
        assert_non_null (object);
        assert_non_null (member (object, cases[i].name));
        assert_string_equal (member (object, cases[i].name), cases[i].value);
        json_object_put (object);
        text_release (&got);
    }
}

static void gaps_and_events_are_json_objects (void **state)
{
    (void) state;
    struct output *o = NULL;
    int fds[2];
    assert_int_equal (pipe (fds), 0);
    assert_int_equal (output_new (&(struct output_options){ .format = OUTPUT_JSON, .fd = fds[1] }, &o), 0);
    assert_int_equal (output_gap_json (o, &(struct fm_gap){ stream, 5, 9, FM_GAP_VOID }), 0);
    assert_int_equal (output_gap_json (o, &(struct fm_gap){ .first = 1, .end = 3, .reason = FM_GAP_EXPIRED }), 0);
    assert_int_equal (output_event_json (o, "caught_up"), 0);
    assert_int_equal (output_flush (o), 0);
    char got[1024];
    const ssize_t len = read (fds[0], got, sizeof got - 1);
    assert_true (len > 0);
    got[len] = 0;
    assert_string_equal (got, "{\"event\":\"gap\",\"stream\":\"" STREAM
                              "\",\"first_seq\":5,\"end_seq\":9,\"reason\":\"void\"}\n"
                              "{\"event\":\"gap\",\"first_offset\":1,\"end_offset\":3,\"reason\":\"expired\"}\n"
                              "{\"event\":\"caught_up\"}\n");
    output_destroy (&o);
    close (fds[0]);
    close (fds[1]);
}

static void every_reason_of_a_gap_has_its_word (void **state)
{
    (void) state;
    static const struct {
        enum fm_gap_reason reason;
        const char *word;
    } words[] = {
        { FM_GAP_EXPIRED, "expired" },   { FM_GAP_DAMAGED, "damaged" },   { FM_GAP_VOID, "void" },
        { FM_GAP_REDACTED, "redacted" }, { FM_GAP_NOT_HELD, "not_held" }, { FM_GAP_UNKNOWN, "unknown" },
        { (enum fm_gap_reason) 99, "unknown" },
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        assert_string_equal (output_gap_reason (words[i].reason), words[i].word);
}

static void a_fact_that_repeats_another_names_it (void **state)
{
    (void) state;
    static const struct {
        struct output_options options;
        const char *text;
    } cases[] = {
        { { .format = OUTPUT_LONG }, "2026-11-23T15:24:00.123456789Z orders.placed - - " STREAM ":17=" STREAM ":5 x\n"
                                     "2026-11-23T15:24:00.123456789Z orders.placed - - " STREAM ":17 x\n" },
        { { .format = OUTPUT_CUSTOM, .custom = "%i=%D\\n" }, STREAM ":17=" STREAM ":5\n" STREAM ":17=\n" },
        { { .format = OUTPUT_JSON }, "{\"topic\":\"orders.placed\",\"stream\":\"" STREAM "\",\"seq\":17,\"time\":\"2026-11-23T15:24:00.123456789Z\","
                                     "\"duplicate_of\":\"" STREAM ":5\",\"payload\":\"x\"}\n"
                                     "{\"topic\":\"orders.placed\",\"stream\":\"" STREAM "\",\"seq\":17,\"time\":\"2026-11-23T15:24:00.123456789Z\","
                                     "\"payload\":\"x\"}\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct output_options options = cases[i].options;
        struct output *o = NULL;
        const struct fm_fact f = plain_fact ("x");
        int fds[2];
        char got[1024];
        assert_int_equal (pipe (fds), 0);
        options.fd = fds[1];
        assert_int_equal (output_new (&options, &o), 0);
        output_duplicate (o, &(struct fm_fact_id) { stream, 5 });
        assert_int_equal (output_fact (o, &f, 0), 0);
        output_duplicate (o, NULL);
        assert_int_equal (output_fact (o, &f, 0), 0);
        assert_int_equal (output_flush (o), 0);
        const ssize_t len = read (fds[0], got, sizeof got - 1);
        assert_true (len > 0);
        got[len] = 0;
        assert_string_equal (got, cases[i].text);
        output_destroy (&o);
        close (fds[0]);
        close (fds[1]);
    }
}

static void what_cannot_be_written_is_told_with_its_reason (void **state)
{
    (void) state;
    struct output *o = NULL;
    const int fd = open ("/dev/full", O_WRONLY);
    assert_true (fd >= 0);
    assert_int_equal (output_new (&(struct output_options){ .fd = fd }, &o), 0);
    assert_int_equal (output_line (o, "a line"), 0);
    assert_int_equal (output_flush (o), -ENOSPC);
    assert_string_equal (fm_error_detail (), "writing to standard output: No space left on device");
    assert_false (output_is_flushed (o));
    output_destroy (&o);
    close (fd);
}

/* As when memory ran out: what was put is told to be incomplete, whatever comes after it. */
static void a_text_without_room_stays_failed (void **state)
{
    (void) state;
    struct text t = { 0 };
    text_put_cstr (&t, "begun");
    assert_false (text_reserve (&t, SIZE_MAX - 16));
    assert_true (t.failed);
    text_put_cstr (&t, "x");
    text_put_byte (&t, 'x');
    text_format (&t, "%d", 1);
    text_put_base64 (&t, slice_of ("x"));
    assert_int_equal (t.len, 5);
    assert_memory_equal (t.data, "begun", 5);
    text_release (&t);
    assert_false (t.failed);

    struct output *o = NULL;
    assert_int_equal (output_new (&(struct output_options){ .fd = -1 }, &o), 0);
    assert_false (text_reserve (&o->text, SIZE_MAX - 16));
    const struct fm_fact f = plain_fact ("x");
    assert_int_equal (output_fact (o, &f, 0), -ENOMEM);
    assert_non_null (strstr (fm_error_detail (), "no memory to write a fact"));
    output_destroy (&o);
    output_destroy (&o);                /* takes NULL */
}

/* Unicode, table 3-7: each row's bounds, and what lies just outside of them. */
static void utf8_is_told_from_what_is_not (void **state)
{
    (void) state;
    static const char *const good[] = { "", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xe1\x80\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
                                        "\xf0\x90\x80\x80", "\xf1\x80\x80\x80", "\xf4\x8f\xbf\xbf", "12345678\xc3\xa4" "12345678" };
    static const char *const bad[] = { "\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x7f", "\xc2\xc0", "\xe0\x9f\xbf", "\xe0\xa0", "\xe0\xa0\x7f", "\xed\xa0\x80",
                                       "\xf0\x8f\xbf\xbf", "\xf1\x80\x80", "\xf1\x80\x80\xc0", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true (text_is_utf8 (slice_of (good[i]), NULL));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[32];
        size_t fault = 0;
        (void) snprintf (text, sizeof text, "123456789%s", bad[i]);
        assert_false (text_is_utf8 (slice_of (text), &fault));
        assert_int_equal (fault, 9);
    }
}

/* Reads all of a descriptor, some bytes at a time. */
struct drain {
    int fd;
    struct text got;
};
static void *drain (void *arg)
{
    struct drain *d = arg;
    char bytes[4099];
    for (ssize_t n; (n = read (d->fd, bytes, sizeof bytes)) > 0;)
        text_put (&d->got, slice (bytes, (size_t) n));
    return NULL;
}

static void facts_pass_unchanged_through_a_pipe_that_takes_a_part_at_a_time (void **state)
{
    (void) state;
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        int fds[2];
        assert_int_equal (pipe (fds), 0);
        if (nonblocking)
            assert_int_equal (fcntl (fds[1], F_SETFL, O_NONBLOCK), 0);
        struct drain d = { .fd = fds[0] };
        struct text want = { 0 };
        struct output *o = NULL;
        pthread_t thread;
        assert_int_equal (output_new (&(struct output_options){ .format = OUTPUT_PAYLOAD, .fd = fds[1] }, &o), 0);
        assert_int_equal (pthread_create (&thread, NULL, drain, &d), 0);
        static char payload[300000];
        for (size_t i = 0; i < 60; i++) {
            const size_t len = i * i * 83;
            memset (payload, (int) ('a' + i % 26), len);
            struct fm_fact f = plain_fact ("");
            f.payload = slice (payload, len);
            assert_int_equal (output_fact (o, &f, 0), 0);
            text_put (&want, f.payload);
            text_put_byte (&want, '\n');
        }
        assert_int_equal (output_flush (o), 0);
        output_destroy (&o);
        close (fds[1]);
        pthread_join (thread, NULL);
        assert_int_equal (d.got.len, want.len);
        assert_memory_equal (d.got.data, want.data, want.len);
        text_release (&d.got);
        text_release (&want);
        close (fds[0]);
    }
}

static void a_reader_that_went_is_told_and_nothing_counts_as_written (void **state)
{
    (void) state;
    signal (SIGPIPE, SIG_IGN);
    int fds[2];
    assert_int_equal (pipe (fds), 0);
    struct output *o = NULL;
    assert_int_equal (output_new (&(struct output_options){ .fd = fds[1] }, &o), 0);
    close (fds[0]);
    const struct fm_fact f = plain_fact ("x");
    assert_int_equal (output_fact (o, &f, 0), 0);
    assert_int_equal (output_flush (o), -EPIPE);
    assert_false (output_is_flushed (o));
    output_destroy (&o);
    close (fds[1]);
}

static bool always (void)
{
    return true;
}

/* The pipe is full and nobody reads: a signal must end the wait, and what is left is known. */
static void an_interruption_leaves_what_was_not_taken (void **state)
{
    (void) state;
    int fds[2];
    assert_int_equal (pipe (fds), 0);
    struct output *o = NULL;
    assert_int_equal (
        output_new (&(struct output_options){ .format = OUTPUT_RAW, .fd = fds[1], .interrupted = always }, &o), 0);
    assert_int_equal (fcntl (fds[1], F_SETFL, O_NONBLOCK), 0);
    static char payload[100000];
    struct fm_fact f = plain_fact ("");
    f.payload = slice (payload, sizeof payload);
    assert_int_equal (output_fact (o, &f, 0), 0);
    assert_int_equal (output_flush (o), FM_INTERRUPTED);
    assert_false (output_is_flushed (o));
    output_destroy (&o);
    close (fds[0]);
    close (fds[1]);
}

static void numbers_are_grouped_for_people (void **state)
{
    (void) state;
    char text[TEXT_GROUPED];
    assert_string_equal (text_grouped (0, text), "0");
    assert_string_equal (text_grouped (999, text), "999");
    assert_string_equal (text_grouped (1000, text), "1,000");
    assert_string_equal (text_grouped (1234567, text), "1,234,567");
    assert_string_equal (text_grouped (UINT64_MAX, text), "18,446,744,073,709,551,615");
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (payloads_pass_unchanged_in_the_plain_formats),
        cmocka_unit_test (the_long_format_has_a_dash_for_what_is_not_there),
        cmocka_unit_test (the_long_format_keeps_a_fact_on_a_line_whatever_it_holds),
        cmocka_unit_test (a_custom_format_has_every_field),
        cmocka_unit_test (a_custom_format_that_is_wrong_is_refused),
        cmocka_unit_test (json_has_every_field_and_is_json),
        cmocka_unit_test (bytes_that_are_not_utf8_come_as_base64),
        cmocka_unit_test (gaps_and_events_are_json_objects),
        cmocka_unit_test (every_reason_of_a_gap_has_its_word),
        cmocka_unit_test (a_fact_that_repeats_another_names_it),
        cmocka_unit_test (what_cannot_be_written_is_told_with_its_reason),
        cmocka_unit_test (a_text_without_room_stays_failed),
        cmocka_unit_test (utf8_is_told_from_what_is_not),
        cmocka_unit_test (facts_pass_unchanged_through_a_pipe_that_takes_a_part_at_a_time),
        cmocka_unit_test (a_reader_that_went_is_told_and_nothing_counts_as_written),
        cmocka_unit_test (an_interruption_leaves_what_was_not_taken),
        cmocka_unit_test (numbers_are_grouped_for_people),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
