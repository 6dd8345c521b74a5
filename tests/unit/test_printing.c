/* What the commands share to tell people something: gaps, damage, progress on a terminal, the patterns that a cursor is of. */

#include <pty.h>

#include "../../nodes/cli/damage.h"
#include "error.h"
#include "../../nodes/cli/format_options.h"
#include "id.h"
#include "../../nodes/cli/patterns.h"
#include "../../nodes/cli/progress.h"
#include "listen.h"
#include "run_command.h"

#define STREAM "ab0102030405060708090a0b0c0d0e0f"
#define STREAM_ID { { 0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } }
static const struct cli cli = { .command = "test", .help = "" };

static void a_gap_is_told_with_its_reason_behind_what_was_printed (void **state)
{
    (void) state;
    static const struct {
        struct fm_gap gap;
        const char *text;
    } cases[] = {
        { { STREAM_ID, 5, 7, FM_GAP_EXPIRED }, "stream " STREAM ", sequences 5 to 6 (2) are missing: expired: deleted by the journal's retention" },
        { { STREAM_ID, 5, 6, FM_GAP_DAMAGED }, "stream " STREAM ", sequences 5 to 5 (1) are missing: damaged: damaged on the journal's disk" },
        { { STREAM_ID, 5, 6, FM_GAP_VOID }, "stream " STREAM ", sequences 5 to 5 (1) are missing: void: skipped when their publisher restarted, or lost with it "
                                         "before any journal had them" },
        { { { { 0 } }, 1, 4, FM_GAP_REDACTED }, "offsets 1 to 3 (3) are missing: redacted: taken out on purpose" },
        { { STREAM_ID, 1, 2, FM_GAP_NOT_HELD }, "stream " STREAM ", sequences 1 to 1 (1) are missing: not_held: no journal has them" },
        { { STREAM_ID, 1, 2, FM_GAP_UNKNOWN }, "stream " STREAM ", sequences 1 to 1 (1) are missing: unknown: for a reason that this version does not know" },
        { { STREAM_ID, 1, 2, (enum fm_gap_reason) 77 }, "stream " STREAM ", sequences 1 to 1 (1) are missing: unknown: for a reason that this version does not know" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct output *o = NULL;
        char want[300];
        const struct listener err = listen_to (STDERR_FILENO);
        assert_int_equal (output_new (&(struct output_options) { .fd = STDERR_FILENO }, &o), 0);
        assert_int_equal (output_line (o, "before"), 0);
        const int rc = format_gap (&cli, o, &cases[i].gap);
        output_destroy (&o);
        (void) snprintf (want, sizeof want, "before\nfactmesh test: gap: %s\n", cases[i].text);
        expect_heard (&err, want);
        assert_int_equal (rc, 0);
    }
}

static void what_cannot_be_printed_ends_as_its_cause_says (void **state)
{
    (void) state;
    struct output *o = NULL;
    int fds[2];
    (void) signal (SIGPIPE, SIG_IGN);
    assert_int_equal (pipe (fds), 0);
    (void) close (fds[0]);
    assert_int_equal (output_new (&(struct output_options) { .fd = fds[1] }, &o), 0);
    assert_int_equal (output_line (o, "before"), 0);
    assert_int_equal (format_gap (&cli, o, &(struct fm_gap) { STREAM_ID, 5, 7, FM_GAP_VOID }), -EPIPE);
    output_destroy (&o);
    (void) close (fds[1]);
    assert_int_equal (format_output_failed (&cli, -EPIPE), CLI_OK);
    const struct listener err = listen_to (STDERR_FILENO);
    (void) error_set (-ENOSPC, "writing to standard output: no room");
    const int status = format_output_failed (&cli, -ENOSPC);
    expect_heard (&err, "factmesh test: writing to standard output: no room\n");
    assert_int_equal (status, CLI_ERROR);
    assert_int_equal (cli_catch_signals (&cli), CLI_OK);
    assert_int_equal (raise (SIGTERM), 0);
    assert_int_equal (format_output_failed (&cli, FM_INTERRUPTED), 128 + SIGTERM);
}

static void damage_is_told_as_exactly_as_it_is_known (void **state)
{
    (void) state;
    static const struct {
        struct log_damage damage;
        const char *text;
    } cases[] = {
        { { .path = "/j/3.seg", .segment = 3, .end_segment = 4, .what = "footer" }, "/j/3.seg: footer\n" },
        { { .path = "/j/3.seg", .segment = 3, .end_segment = 4, .first_pos = 10, .end_pos = 20, .first_offset = 5, .end_offset = 8, .what = "checksum" },
          "/j/3.seg: bytes 10 to 20: checksum; offsets 5 to 7\n" },
        { { .path = "/j/3.seg", .segment = 3, .end_segment = 4, .first_pos = 10, .end_pos = 20, .what = "checksum", .stream = STREAM_ID, .first_seq = 2, .end_seq = 4 },
          "/j/3.seg: bytes 10 to 20: checksum; stream " STREAM ", facts 2 to 3\n" },
        { { .path = "/j/3.seg", .segment = 3, .end_segment = 6, .what = "missing segment", .stream = STREAM_ID },
          "/j/3.seg: segments 3 to 5: missing segment; stream " STREAM ", facts 0 to 0\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct listener out = listen_to (STDOUT_FILENO);
        damage_print (&cases[i].damage, false);
        expect_heard (&out, cases[i].text);
    }
    const struct listener out = listen_to (STDOUT_FILENO);
    damage_print (&cases[2].damage, true);
    expect_heard (&out, "{\"file\":\"/j/3.seg\",\"what\":\"checksum\",\"segment\":3,\"end_segment\":4,\"first_pos\":10,\"end_pos\":20,\"first_offset\":0,"
                                       "\"end_offset\":0,\"stream\":\"" STREAM "\",\"first_seq\":2,\"end_seq\":4}\n");
}

/* --- Progress. */

static void what_was_not_printed_is_an_error (void **state)
{
    (void) state;
    struct text t = { 0 };
    text_put_cstr (&t, "some");
    assert_false (text_reserve (&t, SIZE_MAX - 16));
    const struct listener out = listen_to (STDOUT_FILENO), err = listen_to (STDERR_FILENO);
    const int status = cli_print (&cli, &t);
    expect_heard (&err, "factmesh test: no memory for what was to be printed\n");
    expect_heard (&out, "");
    assert_int_equal (status, CLI_ERROR);
    text_release (&t);
}

static void progress_is_for_terminals_now_and_then (void **state)
{
    (void) state;
    struct progress p;
    int terminal, ours;
    char text[512];
    /* Not a terminal, or quiet: nothing is drawn. */
    const struct listener err = listen_to (STDERR_FILENO);
    progress_init (&p, false);
    p.started_ms -= 1000;
    progress_draw (&p, 1, 2, "sent");
    progress_draw_bytes (&p, 1, 2, "sent");
    progress_clear (&p);
    expect_heard (&err, "");

    assert_int_equal (openpty (&terminal, &ours, NULL, NULL, NULL), 0);
    const int saved = dup (STDERR_FILENO);
    assert_int_equal (dup2 (ours, STDERR_FILENO), STDERR_FILENO);
    progress_init (&p, true);
    assert_false (p.on);
    progress_init (&p, false);
    progress_draw (&p, 1, 2, "early");          /* many commands are done before anybody could read it */
    p.started_ms -= 10000;
    progress_draw (&p, 20000, 30000, "sent");
    progress_draw (&p, 20001, 30000, "again");
    p.drawn_ms = 0;
    progress_draw (&p, 20000, 0, "taken");
    p.drawn_ms = 0;
    progress_draw_bytes (&p, UINT64_C (1234) << 20, UINT64_C (4096) << 20, "stored");
    p.drawn_ms = 0;
    progress_draw_bytes (&p, 5 << 20, 0, "fetched");
    progress_clear (&p);
    progress_clear (&p);                        /* nothing is left to be wiped */
    assert_int_equal (dup2 (saved, STDERR_FILENO), STDERR_FILENO);
    (void) close (saved);
    (void) close (ours);
    size_t len = 0;
    for (ssize_t n; len < sizeof text - 1 && (n = read (terminal, text + len, sizeof text - 1 - len)) > 0;)
        len += (size_t) n;
    text[len] = 0;
    (void) close (terminal);
    /* The rates are of the moment. */
    for (char *rate = text; (rate = strstr (rate, "/s")); rate += 2)
        for (char *digit = rate - 1; *digit != ' '; digit--)
            *digit = *digit == ',' ? ',' : '9';
    assert_string_equal (text, "\r\33[K20,000 of 30,000 facts sent, 9,999/s\r\33[K20,000 facts taken, 9,999/s\r\33[K1,234 of 4,096 MiB stored\r\33[K5 MiB fetched\r\33[K");
}

/* --- Patterns. */

static void a_cursor_is_of_the_same_patterns_in_any_order (void **state)
{
    (void) state;
    static const struct {
        const char *args[4], *text;
        bool same;
    } cases[] = {
        { { NULL }, ">", true },           { { NULL }, "a", false },          { { "a" }, "a", true },        { { "a" }, "b", false },
        { { "a", "b" }, "b,a", true },     { { "a", "b" }, "a", false },      { { "a" }, "a,b", false },     { { "a", "c" }, "a,b", false },
        { { "a", "b", "c" }, "c,a,b", true }, { { "ab" }, "a", false },       { { "a" }, "ab", false },
        /* A comma is a byte of a topic like any other: then only their number is compared. */
        { { "a,b" }, "a,b", true },        { { "a,b" }, "a", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct patterns p;
        char *args[5] = { NULL };
        for (size_t k = 0; k < 4 && cases[i].args[k]; k++)
            args[k] = (char *) (uintptr_t) cases[i].args[k];
        assert_int_equal (patterns_parse (&cli, args, &p), -1);
        if (patterns_are (&p, fm_text (cases[i].text)) != cases[i].same)
            fail_msg ("case %zu: '%s'", i, cases[i].text);
        assert_int_equal (patterns_match (&p, fm_text ("a")), p.count == 0 || strcmp (args[0], "a") == 0);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_gap_is_told_with_its_reason_behind_what_was_printed),
        cmocka_unit_test (damage_is_told_as_exactly_as_it_is_known),
        cmocka_unit_test (what_was_not_printed_is_an_error),
        cmocka_unit_test (progress_is_for_terminals_now_and_then),
        cmocka_unit_test (a_cursor_is_of_the_same_patterns_in_any_order),
        cmocka_unit_test (what_cannot_be_printed_ends_as_its_cause_says),      /* it catches signals: the last one */
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
