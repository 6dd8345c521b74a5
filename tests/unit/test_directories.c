/* inspect, dump, verify and repair of a directory, as their users see it: on logs that the test made, and damaged. */

#include "../support/log_setting.h"
#include "error.h"
#include "id.h"
#include "run_command.h"
#include "segment_index.h"

enum { FACTS = 4 };

/* Stream 1: facts 1 to 4 on a.b and a.c in turn, then 5 and 6 are void, then 7 on d. Stream 2: one on e. Offsets 1 to 6; a cursor. */
static int set_up (void **state)
{
    if (log_set_up (state) != 0)
        return -1;
    struct log_setting *const s = *state;
    const struct fm_id one = kit_stream (1);
    uint64_t offset, ticket;
    (void) kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = FACTS, .payload_len = 3, .topic = "a.b|a.c" });
    if (log_append_gap (s->log, &one, 5, 7, FM_GAP_VOID, &offset) != 0)
        return -1;
    (void) kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 7, .count = 1, .payload_len = 0, .topic = "d" });
    (void) kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 2, .first_seq = 1, .count = 1, .payload_len = 0, .topic = "e" });
    struct log_cursor cursor = { .name = "billing", .updated_ns = 1, .filters = slice_of ("a.>") };
    static const uint8_t at[] = { 8, 1 };
    cursor.cursor = slice (at, sizeof at);
    if (log_cursor_put (s->log, &cursor, &ticket) != 0)
        return -1;
    kit_sync (s->log);
    return 0;
}

static void run_in (const struct log_setting *s, const char *command, const char *more, struct run *ret_run)
{
    char line[512];
    (void) snprintf (line, sizeof line, "%s %s%s%s", command, s->directory, *more ? " " : "", more);
    run_line (line, ret_run);
}

/* The directory's name stands in what is printed: "DIR". */
static void expect_prints (const struct log_setting *s, const char *command, const char *more, const char *out, const char *err)
{
    struct run r;
    char text[RUN_TEXT_MAX] = "";
    run_in (s, command, more, &r);
    if (r.status != 0)
        fail_msg ("%s %s: status %d: %s", command, more, r.status, r.err);
    char *to = text;
    for (const char *p = r.out; *p;) {
        const bool here = strncmp (p, s->directory, strlen (s->directory)) == 0;
        const char *const from = here ? "DIR" : p;
        const size_t len = here ? 3 : 1;
        memcpy (to, from, len);
        to += len;
        p += here ? strlen (s->directory) : 1;
    }
    assert_string_equal (text, out);
    assert_string_equal (r.err, err);
}

#define ONE "020000002c51769bc0e50a2f54799ec3"
#define TWO "03000000c3e80d32577ca1c6eb10355a"
#define VOID_GAP "gap: stream " ONE ", sequences 5 to 6 (2) are missing: void: skipped when their publisher restarted, or lost with it before any journal had them\n"

static void inspect_tells_what_is_there (void **state)
{
    struct log_setting *const s = setting_of (state);
    struct fm_id journal;
    uint64_t generation;
    char id[ID_TEXT_LEN + 1], want[4096];
    log_identity (s->log, &journal, &generation);
    (void) id_text (&journal, id);
    static const char head[] = "journal %s, generation 1, mesh 'test'\n"
                               "7 facts and gaps, offsets 1 to 7; 4,936 bytes\n\n"
                               "1 segments\n"
                               "  FILE                                   FIRST        FACTS        BYTES    RECORDS  STREAMS   TOPICS  FROM                  TO\n"
                               "  0000000001.seg           open              1            6      1048576          5        2        4  2023-11-14T22:13:20Z  2023-11-14T22:13:20Z\n\n"
                               "streams\n"
                               "  " ONE " epoch 1, facts 1 to 7\n"
                               "  " TWO " epoch 1, facts 1 to 1\n\n"
                               "topics (facts, name)\n"
                               "             2  a.b\n%s\n"
                               "cursors\n"
                               "  billing\n";
    (void) snprintf (want, sizeof want, head, id, "             2  a.c\n             1  d\n             1  e\n");
    expect_prints (s, "inspect", "", want, "");
    (void) snprintf (want, sizeof want, head, id, "  … and more: --topics N lists N of them\n");
    expect_prints (s, "inspect", "--topics 1", want, "");
    static const char json[] =
        "{\"directory\":\"DIR\",\"mesh\":\"test\",\"journal\":\"%s\",\"generation\":1,\"first_offset\":1,\"end_offset\":8,\"bytes\":4936,"
        "\"segments\":[{\"file\":\"0000000001.seg\",\"sealed\":false,\"number\":1,\"first_offset\":1,\"end_offset\":8,\"bytes\":1048576,\"records\":5,\"facts\":6,"
        "\"streams\":2,\"topics\":4,\"first_time\":\"2023-11-14T22:13:20.000000000Z\",\"last_time\":\"2023-11-14T22:13:20.000000000Z\"}],"
        "\"streams\":[{\"stream\":\"" ONE "\",\"epoch\":1,\"first_seq\":1,\"last_seq\":7,\"last_offset\":6},"
        "{\"stream\":\"" TWO "\",\"epoch\":1,\"first_seq\":1,\"last_seq\":1,\"last_offset\":7}],"
        "\"topics\":[{\"topic\":\"a.b\",\"facts\":2}%s],\"more_topics\":%s,\"cursors\":[\"billing\"]}\n";
    (void) snprintf (want, sizeof want, json, id, ",{\"topic\":\"a.c\",\"facts\":2},{\"topic\":\"d\",\"facts\":1},{\"topic\":\"e\",\"facts\":1}", "false");
    expect_prints (s, "inspect", "--json", want, "");
    (void) snprintf (want, sizeof want, json, id, "", "true");
    expect_prints (s, "inspect", "--json --topics 1", want, "");
}

static void inspect_lists_more_streams_than_a_page_has (void **state)
{
    enum { STREAMS = 300 };
    struct log_setting *const s = setting_of (state);
    struct run r;
    for (unsigned n = 0; n < STREAMS; n++)
        (void) kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1000 + n, .first_seq = 1, .count = 1, .payload_len = 0, .topic = "many" });
    kit_sync (s->log);
    run_in (s, "inspect", "", &r);
    assert_int_equal (r.status, 0);
    size_t streams = 0;
    for (const char *p = r.out; (p = strstr (p, " epoch 1, facts ")); p++)
        streams++;
    assert_int_equal (streams, 2 + STREAMS);
}

static void inspect_says_that_a_segment_has_more_topics_than_it_lists (void **state)
{
    enum { TOPICS = INDEX_TOPICS_MAX + 1 };
    struct log_setting *const s = setting_of (state);
    struct run r;
    for (unsigned n = 0; n < TOPICS; n++) {
        char topic[16];
        (void) snprintf (topic, sizeof topic, "t%u", n);
        (void) kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 3, .first_seq = 1 + n, .count = 1, .payload_len = 0, .topic = topic });
    }
    kit_sync (s->log);
    run_in (s, "inspect", "--topics 10000", &r);
    assert_int_equal (r.status, 0);
    assert_non_null (strstr (r.out, "             1  t0\n"));
    assert_non_null (strstr (r.out, "\n  … and others: a segment has more of them than its index lists\n"));
}

static void dump_prints_what_is_asked_for (void **state)
{
    struct log_setting *const s = setting_of (state);
    expect_prints (s, "dump", "--format %o:%t:%i\\n", "1:a.b:" ONE ":1\n2:a.c:" ONE ":2\n3:a.b:" ONE ":3\n4:a.c:" ONE ":4\n6:d:" ONE ":7\n7:e:" TWO ":1\n",
                   "factmesh dump: " VOID_GAP);
    expect_prints (s, "dump", "--format %o:%t\\n a.b", "1:a.b\n3:a.b\n", "factmesh dump: " VOID_GAP);
    expect_prints (s, "dump", "--from 2 --until 4 --format %o\\n", "2\n3\n", "");
    expect_prints (s, "dump", "--until 2 --format %o\\n", "1\n", "");
    expect_prints (s, "dump", "--from 7 --until 100 --format %o\\n", "7\n", "");
    expect_prints (s, "dump", "--from 100", "", "");
    expect_prints (s, "dump", "--from 5 --json", "{\"event\":\"gap\",\"stream\":\"" ONE "\",\"first_seq\":5,\"end_seq\":7,\"reason\":\"void\"}\n"
                   "{\"offset\":6,\"topic\":\"d\",\"stream\":\"" ONE "\",\"seq\":7,\"time\":\"1970-01-01T00:00:00.000001007Z\",\"type\":\"Kit\",\"payload\":\"\"}\n"
                   "{\"offset\":7,\"topic\":\"e\",\"stream\":\"" TWO "\",\"seq\":1,\"time\":\"1970-01-01T00:00:00.000001001Z\",\"type\":\"Kit\",\"payload\":\"\"}\n", "");
}

static void without_a_reader (void)
{
    int fds[2];
    if (pipe (fds) != 0 || close (fds[0]) != 0 || dup2 (fds[1], STDOUT_FILENO) < 0)
        _exit (99);
}

static void a_reader_that_goes_ends_a_dump_without_a_word (void **state)
{
    const struct log_setting *const s = setting_of (state);
    struct run r;
    run_args ((const char *const[]) { "dump", s->directory, NULL }, without_a_reader, &r);
    assert_int_equal (r.status, 0);
    assert_string_equal (r.err, "");
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, log_tear_down)
    const struct CMUnitTest tests[] = {
        CASE (inspect_tells_what_is_there),
        CASE (inspect_lists_more_streams_than_a_page_has),
        CASE (inspect_says_that_a_segment_has_more_topics_than_it_lists),
        CASE (dump_prints_what_is_asked_for),
        CASE (a_reader_that_goes_ends_a_dump_without_a_word),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
