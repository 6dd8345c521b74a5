/* options, stream_pool: values that people type, messages of one line, and which directory a run's stream lives in. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>

#include "../../nodes/cli/when.c"

#include "../../nodes/cli/options.c"

/* A publisher that is in use wherever the test says so. */
static char opened[PATH_MAX];
static unsigned in_use;
static int fake_publisher_open (struct fm_node *node, const struct fm_publisher_options *options,
                                struct fm_publisher **ret_publisher)
{
    (void) node;
    (void) snprintf (opened, sizeof opened, "%s", options->directory);
    if (in_use) {
        in_use--;
        return FM_ERR_IN_USE;
    }
    *ret_publisher = NULL;
    return 0;
}
#define fm_publisher_open fake_publisher_open
#include "../../nodes/cli/stream_pool.c"

static const struct cli cli = { .command = "test", .help = "" };

/* Standard error of a call, in `said`. */
static char said[8192];
static int saved_stderr;
static FILE *said_file;
static void listen_begin (void)
{
    said_file = tmpfile ();
    assert_non_null (said_file);
    saved_stderr = dup (STDERR_FILENO);
    dup2 (fileno (said_file), STDERR_FILENO);
}
static void listen_end (void)
{
    fflush (stderr);
    dup2 (saved_stderr, STDERR_FILENO);
    close (saved_stderr);
    const ssize_t n = pread (fileno (said_file), said, sizeof said - 1, 0);
    said[n > 0 ? n : 0] = 0;
    fclose (said_file);
}

static void sizes_are_powers_of_1024 (void **state)
{
    (void) state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        { "0", 0 },
        { "4096", 4096 },
        { "64K", 65536 },
        { "64k", 65536 },
        { "128M", 128 << 20 },
        { "10GiB", UINT64_C (10) << 30 },
        { "1TB", UINT64_C (1) << 40 },
        { "18446744073709551615", UINT64_MAX },
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t got = 1;
        assert_int_equal (cli_size (&cli, "--size", good[i].text, &got), 0);
        assert_int_equal (got, good[i].bytes);
    }
    const char *bad[] = { "", "K", "-1", " 1", "1X", "1KX", "1KiBs", "1.5M", "18446744073709551616", "16777216T" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t got = 7;
        listen_begin ();
        const int status = cli_size (&cli, "--size", bad[i], &got);
        listen_end ();
        if (status != CLI_USAGE || got != 7)
            fail_msg ("'%s' was taken as %llu", bad[i], (unsigned long long) got);
        assert_non_null (strstr (said, "--size"));
    }
}

static void numbers_are_digits_within_their_bounds (void **state)
{
    (void) state;
    uint64_t got = 0;
    assert_int_equal (cli_number (&cli, "--n", "7", 1, 10, &got), 0);
    assert_int_equal (got, 7);
    const char *bad[] = { "", "0", "11", "-1", "+1", " 1", "1x", "0x1", "99999999999999999999" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        listen_begin ();
        const int status = cli_number (&cli, "--n", bad[i], 1, 10, &got);
        listen_end ();
        assert_int_equal (status, CLI_USAGE);
        assert_non_null (strstr (said, "--n"));
        assert_int_equal (got, 7);
    }
}

static void a_message_is_one_line_whatever_it_quotes (void **state)
{
    (void) state;
    listen_begin ();
    const int status = cli_error (&cli, "topic '%s'", "a\nb\x1b[31m\x7f\xff");
    listen_end ();
    assert_int_equal (status, CLI_ERROR);
    assert_string_equal (said, "factmesh test: topic 'a?b?[31m?\xff'\n");
    /* A long one is cut, and stays one line. */
    static char text[3 * LINE_MAX_LEN];
    memset (text, 'x', sizeof text - 1);
    listen_begin ();
    (void) cli_error (&cli, "%s", text);
    listen_end ();
    assert_true (strlen (said) <= LINE_MAX_LEN);
    assert_ptr_equal (strchr (said, '\n'), said + strlen (said) - 1);
}

static void a_failure_says_what_failed_and_why (void **state)
{
    (void) state;
    (void) error_set (FM_TIMEOUT, "seed %s does not answer", "tcp://127.0.0.1:1");
    listen_begin ();
    const int status = cli_fail (&cli, FM_TIMEOUT, "no journal");
    listen_end ();
    assert_int_equal (status, CLI_TIMEOUT);
    assert_string_equal (said, "factmesh test: no journal: timed out: seed tcp://127.0.0.1:1 does not answer\n");
}

/* --- The streams of `pub`. */

static int pool_setup (void **state)
{
    static char directory[] = "/tmp/factmesh-pool-XXXXXX";
    if (!mkdtemp (directory) || setenv ("XDG_STATE_HOME", directory, 1) < 0)
        return -1;
    *state = directory;
    return 0;
}

static int pool_teardown (void **state)
{
    char command[128];
    (void) snprintf (command, sizeof command, "rm -rf '%s'", (const char *) *state);
    return system (command);
}

static void expect_opened (const char *base, const char *rest)
{
    char want[2 * PATH_MAX];
    (void) snprintf (want, sizeof want, "%s/factmesh/streams/%s", base, rest);
    assert_string_equal (opened, want);
}

static int pool_open (const char *mesh, const char *name)
{
    struct fm_publisher_options options = { .name = NULL };
    struct fm_publisher *publisher;
    const int rc = stream_pool_open (NULL, mesh, name, &options, &publisher);
    assert_null (options.directory);
    return rc;
}

static void a_run_takes_the_first_stream_that_is_free (void **state)
{
    assert_int_equal (pool_open ("default", NULL), 0);
    expect_opened (*state, "default/pub-0");
    in_use = 3;
    assert_int_equal (pool_open ("default", NULL), 0);
    expect_opened (*state, "default/pub-3");
    in_use = STREAM_POOL_MAX;
    assert_int_equal (pool_open ("default", NULL), FM_ERR_IN_USE);
    in_use = 0;
    struct stat st;
    char directory[PATH_MAX];
    (void) snprintf (directory, sizeof directory, "%s/factmesh/streams/default", (const char *) *state);
    assert_int_equal (stat (directory, &st), 0);
    assert_int_equal (st.st_mode & 0777, 0700);
}

static void a_named_stream_is_that_one_or_none (void **state)
{
    in_use = 1;
    assert_int_equal (pool_open ("default", "orders"), FM_ERR_IN_USE);
    expect_opened (*state, "default/orders");
    in_use = 0;
}

static void names_never_leave_their_directory (void **state)
{
    assert_int_equal (pool_open ("../up", "a/b"), 0);
    expect_opened (*state, "%2E.%2Fup/a%2Fb");
    assert_int_equal (pool_open ("m", ".."), 0);
    expect_opened (*state, "m/%2E.");
    assert_int_equal (pool_open ("m", "caf\xc3\xa9 1.0%"), 0);
    expect_opened (*state, "m/caf%C3%A9%201.0%25");
}

static void a_state_directory_that_cannot_be_is_named_with_the_way_out (void **state)
{
    char path[PATH_MAX];
    (void) snprintf (path, sizeof path, "%s/a-file", (const char *) *state);
    const int fd = open (path, O_CREAT | O_WRONLY, 0600);
    assert_true (fd >= 0);
    close (fd);
    setenv ("XDG_STATE_HOME", path, 1);
    assert_int_equal (pool_open ("default", NULL), -ENOTDIR);
    assert_non_null (strstr (fm_error_detail (), path));
    assert_non_null (strstr (fm_error_detail (), "--ephemeral"));
    setenv ("XDG_STATE_HOME", "relative", 1);
    setenv ("HOME", "relative", 1);
    assert_int_equal (pool_open ("default", NULL), -ENOENT);
    setenv ("HOME", *state, 1);
    assert_int_equal (pool_open ("default", NULL), 0);
    (void) snprintf (path, sizeof path, "%s/.local/state", (const char *) *state);
    expect_opened (path, "default/pub-0");
    setenv ("XDG_STATE_HOME", *state, 1);
    memset (path, 'x', sizeof path);
    path[0] = '/';
    path[sizeof path - 1] = 0;
    setenv ("XDG_STATE_HOME", path, 1);
    assert_int_equal (pool_open ("default", NULL), -ENAMETOOLONG);
    assert_non_null (strstr (fm_error_detail (), "…: too long; give a directory with --identity"));
    /* Room for all of it but the stream's own name. */
    static const char rest[] = "/factmesh/streams/default";
    size_t len = (size_t) snprintf (path, sizeof path, "%s", (const char *) *state);
    for (; len < sizeof path - sizeof rest - 1; len++)
        path[len] = len % 128 || len == sizeof path - sizeof rest - 2 ? 'x' : '/';
    path[strlen ((const char *) *state)] = '/';
    path[len] = 0;
    setenv ("XDG_STATE_HOME", path, 1);
    assert_int_equal (pool_open ("default", NULL), -ENAMETOOLONG);
    assert_non_null (strstr (fm_error_detail (), "…: too long; give a directory with --identity"));
    setenv ("XDG_STATE_HOME", *state, 1);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (sizes_are_powers_of_1024),
        cmocka_unit_test (numbers_are_digits_within_their_bounds),
        cmocka_unit_test (a_message_is_one_line_whatever_it_quotes),
        cmocka_unit_test (a_failure_says_what_failed_and_why),
        cmocka_unit_test (a_run_takes_the_first_stream_that_is_free),
        cmocka_unit_test (a_named_stream_is_that_one_or_none),
        cmocka_unit_test (names_never_leave_their_directory),
        cmocka_unit_test (a_state_directory_that_cannot_be_is_named_with_the_way_out),
    };
    return cmocka_run_group_tests (tests, pool_setup, pool_teardown);
}
