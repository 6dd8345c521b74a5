/* exec: a command for a fact: what it gets, how its end is told, whatever it does with its input and output; and that it outlives neither its limit nor its
 * lease, with all that it started. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* The n-th fork from now on fails; 0: none. */
static unsigned fork_that_fails;

static pid_t fork_or_not (void)
{
    if (fork_that_fails && --fork_that_fails == 0) {
        errno = EAGAIN;
        return -1;
    }
    return fork ();
}
#define fork fork_or_not
#include "../../nodes/cli/exec.c"
#undef fork

#include "../support/log_kit.h"

enum { LARGE = 1 << 20, PATIENCE_MS = 20000 };

uint64_t cli_monotonic_ms (void)
{
    struct timespec now;
    (void) clock_gettime (CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/* A directory where commands put what they saw; it is their $DIR. */
static char directory[128];
static uint8_t payload[LARGE];

static int set_up (void **state)
{
    (void) state;
    kit_directory (directory);
    (void) setenv ("DIR", directory, 1);
    for (size_t i = 0; i < LARGE; i++)
        payload[i] = (uint8_t) (i * 7 + (i >> 9));
    (void) signal (SIGPIPE, SIG_IGN);       /* as the program does */
    return 0;
}

static int tear_down (void **state)
{
    (void) state;
    kit_remove (directory);
    return 0;
}

static char *in_directory (const char *name)
{
    static char path[256];
    (void) snprintf (path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int run (const char *command, size_t payload_len, struct exec_options o)
{
    int status = 12345;
    const struct fm_work work = { .fact = { .topic = fm_text ("a.b"), .key = { "k\0hidden", 8 }, .payload = { payload, payload_len }, .time_ns = 17 },
                                  .offset = 5, .token = 6, .deliveries = 2, .attempts = 1, .flags = 1 | 8 };
    o.command = command;
    assert_int_equal (exec_run (&o, &work, &status), 0);
    return status;
}

static const struct exec_options plain = { .timeout_ms = PATIENCE_MS, .stdout_fd = -1 };

static struct fm_slice contents (const char *name)
{
    static uint8_t bytes[2 * LARGE];
    const int fd = open (in_directory (name), O_RDONLY);
    assert_true (fd >= 0);
    size_t len = 0;
    ssize_t n;
    while ((n = read (fd, bytes + len, sizeof bytes - len)) > 0)
        len += (size_t) n;
    close (fd);
    return (struct fm_slice) { bytes, len };
}

static void it_gets_the_payload_whole_and_the_rest_in_its_environment (void **state)
{
    (void) state;
    assert_int_equal (run ("cat > $DIR/in; echo \"$FM_TOPIC $FM_KEY $FM_OFFSET $FM_TOKEN $FM_DELIVERIES $FM_ATTEMPTS $FM_FLAGS $FM_TIME_NS\" > $DIR/env; exit 7", LARGE, plain), 7);
    struct fm_slice c = contents ("in");
    assert_int_equal (c.len, LARGE);
    assert_memory_equal (c.data, payload, LARGE);
    c = contents ("env");
    static const char expected[] = "a.b k 5 6 2 1 replay,in_doubt 17\n";
    assert_int_equal (c.len, sizeof expected - 1);
    assert_memory_equal (c.data, expected, c.len);
    assert_int_equal (run ("cat > $DIR/in", 0, plain), 0);
    assert_int_equal (contents ("in").len, 0);
}

/* More than the pipe holds: whoever waits for the other must not wait for ever. */
static void one_that_does_not_read_its_input_ends_as_it_likes (void **state)
{
    (void) state;
    assert_int_equal (run ("exit 3", LARGE, plain), 3);
    assert_int_equal (run ("exec 0<&-; sleep 0.1; exit 4", LARGE, plain), 4);
    assert_int_equal (run ("sleep 0.1; head -c 10 > /dev/null; exit 5", LARGE, plain), 5);
}

static void output_larger_than_a_pipe_does_not_stop_it (void **state)
{
    (void) state;
    struct exec_options o = plain;
    o.stdout_fd = open (in_directory ("out"), O_RDWR | O_CREAT, 0666);
    assert_true (o.stdout_fd >= 0);
    assert_int_equal (run ("head -c 300000 /dev/zero; cat", LARGE, o), 0);
    close (o.stdout_fd);
    const struct fm_slice c = contents ("out");
    assert_int_equal (c.len, 300000 + LARGE);
    assert_memory_equal ((const uint8_t *) c.data + 300000, payload, LARGE);
}

static void output_beyond_its_bound_ends_it (void **state)
{
    (void) state;
    struct exec_options o = plain;
    o.stdout_fd = open (in_directory ("out"), O_RDWR | O_CREAT, 0666);
    o.stdout_max = 100000;
    assert_int_equal (run ("head -c 100000 /dev/zero", 0, o), 0);
    assert_int_equal (ftruncate (o.stdout_fd, 0), 0);
    (void) lseek (o.stdout_fd, 0, SEEK_SET);
    /* Slowly: the file must not fill the disk before it is looked at. */
    assert_int_equal (run ("while true; do head -c 50000 /dev/zero; sleep 0.01; done", 0, o), EXEC_TOO_LONG);
    close (o.stdout_fd);
}

static void how_a_signal_ended_it_is_told (void **state)
{
    (void) state;
    assert_int_equal (run ("kill -TERM $$", 0, plain), 128 + SIGTERM);
    assert_int_equal (run ("kill -KILL $$", LARGE, plain), 128 + SIGKILL);
    assert_int_equal (run ("/nothing/there 2> /dev/null", 0, plain), 127);
    /* Inherited as ignored, SIGCHLD would hide how it ended. */
    (void) signal (SIGCHLD, SIG_IGN);
    assert_int_equal (run ("exit 9", 0, plain), 9);
    (void) signal (SIGCHLD, SIG_DFL);
}

/* It is gone, or dead and not waited for. */
static bool is_dead (pid_t pid)
{
    char path[64], state = 'Z';
    (void) snprintf (path, sizeof path, "/proc/%d/stat", (int) pid);
    FILE *file = fopen (path, "r");
    if (!file)
        return true;
    const bool read = fscanf (file, "%*d (%*[^)]) %c", &state) == 1;
    (void) fclose (file);
    return !read || state == 'Z' || state == 'X';
}

/* The process whose number a command left there ends soon. */
static void expect_death (const char *name)
{
    const struct fm_slice c = contents (name);
    char text[32] = "";
    memcpy (text, c.data, c.len < sizeof text - 1 ? c.len : sizeof text - 1);
    const pid_t pid = (pid_t) atoi (text);
    assert_true (pid > 1);
    const uint64_t until = cli_monotonic_ms () + PATIENCE_MS;
    while (!is_dead (pid)) {
        assert_true (cli_monotonic_ms () < until);
        (void) usleep (1000);
    }
}

static const char child_that_stays[] = "trap '' TERM; sleep 600 > /dev/null 2>&1 & echo $! > $DIR/pid.new; mv $DIR/pid.new $DIR/pid; wait";

static void its_limit_ends_it_and_all_that_it_started (void **state)
{
    (void) state;
    struct exec_options o = plain;
    o.timeout_ms = 500;
    /* On a busy machine its limit may come before it has started anything: again, with more time. */
    for (; access (in_directory ("pid"), F_OK) != 0; o.timeout_ms *= 2) {
        const uint64_t began = cli_monotonic_ms ();
        assert_int_equal (run (child_that_stays, LARGE, o), EXEC_TIMED_OUT);
        assert_true (cli_monotonic_ms () - began >= (uint64_t) o.timeout_ms);
    }
    expect_death ("pid");
}

struct lease { unsigned calls, last; int left_ms; };

static int tick (void *arg)
{
    struct lease *l = arg;
    return ++l->calls > l->last ? 0 : l->left_ms;
}

static void without_a_lease_it_is_not_started_and_when_it_is_taken_it_ends (void **state)
{
    (void) state;
    struct lease lease = { .last = 0, .left_ms = 60000 };
    struct exec_options o = plain;
    o.tick = tick;
    o.tick_arg = &lease;
    o.tick_ms = 5;
    assert_int_equal (run ("touch $DIR/began", 0, o), EXEC_STOPPED);
    assert_int_equal (access (in_directory ("began"), F_OK), -1);
    lease = (struct lease) { .last = 3, .left_ms = 60000 };
    assert_int_equal (run ("sleep 600", 0, o), EXEC_STOPPED);
    assert_int_equal (lease.calls, 4);
}

/* Nobody asks again within its lease, as if we were stopped: the keeper ends it. */
static void the_keeper_ends_what_outlives_its_lease (void **state)
{
    (void) state;
    struct lease lease = { .last = 1, .left_ms = 500 };
    struct exec_options o = plain;
    o.tick = tick;
    o.tick_arg = &lease;
    o.tick_ms = PATIENCE_MS;
    for (; access (in_directory ("pid"), F_OK) != 0; lease = (struct lease) { .last = 1, .left_ms = 2 * lease.left_ms })
        assert_int_equal (run (child_that_stays, 0, o), EXEC_STOPPED);
    expect_death ("pid");
    /* And the next command has a keeper again. */
    assert_int_equal (run ("exit 2", 0, plain), 2);
}

/* Our only child is the keeper. */
static void a_keeper_that_was_killed_has_a_successor (void **state)
{
    (void) state;
    assert_int_equal (run ("exit 2", 0, plain), 2);
    char path[64], text[32] = "";
    (void) snprintf (path, sizeof path, "/proc/self/task/%d/children", (int) getpid ());
    FILE *const file = fopen (path, "r");
    assert_non_null (file);
    assert_non_null (fgets (text, sizeof text, file));
    (void) fclose (file);
    const pid_t keeper = (pid_t) atoi (text);
    assert_true (keeper > 1);
    assert_int_equal (kill (keeper, SIGKILL), 0);
    assert_int_equal (waitpid (keeper, NULL, 0), keeper);
    assert_int_equal (run ("exit 3", 0, plain), 3);     /* finds that it is gone */
    struct lease lease = { .last = 1, .left_ms = 500 };
    struct exec_options o = plain;
    o.tick = tick;
    o.tick_arg = &lease;
    o.tick_ms = PATIENCE_MS;
    assert_int_equal (run ("sleep 600", 0, o), EXEC_STOPPED);
}

static unsigned open_descriptors (void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl (fd, F_GETFD) >= 0;
    return n;
}

/* The command's process, then the keeper's: it says so, and the next one starts as if nothing had been. */
static void what_cannot_be_forked_is_an_error_that_leaves_nothing_open (void **state)
{
    (void) state;
    const struct fm_work work = { .fact = { .payload = { payload, 3 } } };
    struct exec_options o = plain;
    o.command = "exit 6";
    assert_int_equal (run ("exit 3", 0, plain), 3);     /* there is a keeper */
    const unsigned before = open_descriptors ();
    for (int keeper = 0; keeper < 2; keeper++) {
        int status = 12345;
        if (keeper) {
            (void) close (keeper_fd);
            keeper_fd = -1;
        }
        fork_that_fails = 1;
        assert_int_equal (exec_run (&o, &work, &status), -EAGAIN);
        assert_int_equal (status, 12345);
        assert_int_equal (fork_that_fails, 0);
        assert_int_equal (keeper_fd < 0, keeper);
        assert_int_equal (run ("exit 4", 0, plain), 4);
        assert_int_equal (open_descriptors (), before);
    }
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (it_gets_the_payload_whole_and_the_rest_in_its_environment),
        CASE (one_that_does_not_read_its_input_ends_as_it_likes),
        CASE (output_larger_than_a_pipe_does_not_stop_it),
        CASE (output_beyond_its_bound_ends_it),
        CASE (how_a_signal_ended_it_is_told),
        CASE (its_limit_ends_it_and_all_that_it_started),
        CASE (without_a_lease_it_is_not_started_and_when_it_is_taken_it_ends),
        CASE (the_keeper_ends_what_outlives_its_lease),
        CASE (a_keeper_that_was_killed_has_a_successor),
        CASE (what_cannot_be_forked_is_an_error_that_leaves_nothing_open),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
