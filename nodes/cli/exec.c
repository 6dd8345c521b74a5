#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "options.h"

enum { POLL_MS = 20, POLL_FIRST_US = 500 };

/* --- The keeper. */

/* Which process group runs (0: none), and until when it may (0: for ever), by the monotonic clock. */
struct charge { pid_t group; uint64_t until_ms; };

static int keeper_fd = -1;              /* it reads charges here */

/* Until the next charge can be read. False: the lease of this one has run out. */
static bool await_charge (const struct charge *c)
{
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    for (;;) {
        const uint64_t now = cli_monotonic_ms ();
        const uint64_t left = c->until_ms > now ? c->until_ms - now : 0;
        if (c->until_ms && !left)
            return false;
        if (poll (&in, 1, !c->until_ms ? -1 : left < INT32_MAX ? (int) left : INT32_MAX) > 0)
            return true;
    }
}

/* Nothing but calls that are safe behind a fork of a process with threads. */
static void keep (int fd)
{
    struct charge c = { .group = 0 }, next;
    (void) dup2 (fd, STDIN_FILENO);
    (void) syscall (SYS_close_range, STDERR_FILENO + 1, ~0U, 0);        /* the mesh's sockets are none of its business */
    (void) setsid ();                       /* no terminal's signal reaches it */
    for (;;) {
        if (!await_charge (&c)) {
            (void) kill (-c.group, SIGKILL);
            c = (struct charge) { .group = 0 };
            continue;
        }
        if (read (STDIN_FILENO, &next, sizeof next) != (ssize_t) sizeof next)
            break;
        c = next;
    }
    if (c.group)
        (void) kill (-c.group, SIGKILL);
    _exit (0);
}

static int start_keeper (void)
{
    int fds[2];
    if (keeper_fd >= 0)
        return 0;
    if (pipe2 (fds, O_CLOEXEC) != 0)
        return -errno;
    const pid_t pid = fork ();
    if (pid == 0)
        keep (fds[0]);
    const int error = errno;
    (void) close (fds[0]);
    if (pid < 0) {
        (void) close (fds[1]);
        return -error;
    }
    keeper_fd = fds[1];
    return 0;
}

static void tell_keeper (pid_t group, int left_ms)
{
    const struct charge c = { .group = group, .until_ms = left_ms < 0 ? 0 : cli_monotonic_ms () + (uint64_t) left_ms };
    if (keeper_fd >= 0 && write (keeper_fd, &c, sizeof c) != (ssize_t) sizeof c) {
        (void) close (keeper_fd);           /* it is gone: a new one next time */
        keeper_fd = -1;
    }
}

/* --- The command. */

static void put_bytes (const char *name, struct fm_slice value)
{
    char *text = malloc (value.len + 1);
    if (!text)
        _exit (127);
    if (value.len)
        memcpy (text, value.data, value.len);
    text[value.len] = 0;
    (void) setenv (name, text, 1);      /* fails for want of memory: then it is not there */
    free (text);
}

static void put_number (const char *name, uint64_t value)
{
    char text[24];
    (void) snprintf (text, sizeof text, "%llu", (unsigned long long) value);
    (void) setenv (name, text, 1);
}

static void put_flags (uint32_t flags)
{
    static const char *const words[] = { "replay", "redelivery", "correction", "in_doubt", "out_of_order", "key_parked", "by_hand" };
    char text[128] = "";
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (flags & 1U << i) {
            const size_t len = strlen (text);
            (void) snprintf (text + len, sizeof text - len, "%s%s", len ? "," : "", words[i]);
        }
    (void) setenv ("FM_FLAGS", text, 1);
}

static void put_environment (const struct fm_work *w)
{
    char id[FM_FACT_ID_TEXT];
    put_bytes ("FM_TOPIC", w->fact.topic);
    put_bytes ("FM_KEY", w->fact.key);
    put_bytes ("FM_TYPE", w->fact.type);
    put_bytes ("FM_CONTENT_TYPE", w->fact.content_type);
    put_bytes ("FM_CORRELATION", w->fact.correlation);
    (void) setenv ("FM_ID", fm_fact_id_text (&w->fact.id, id, sizeof id), 1);
    (void) setenv ("FM_ROOT", fm_fact_id_text (&w->root, id, sizeof id), 1);
    put_number ("FM_TIME_NS", w->fact.time_ns);
    put_number ("FM_EXPIRES_NS", w->fact.expires_ns);
    put_number ("FM_OFFSET", w->offset);
    put_number ("FM_TOKEN", w->token);
    put_number ("FM_DELIVERIES", w->deliveries);
    put_number ("FM_ATTEMPTS", w->attempts);
    put_flags (w->flags);
}

static void child (const struct exec_options *o, const struct fm_work *work, int in)
{
    sigset_t none;
    sigemptyset (&none);
    (void) sigprocmask (SIG_SETMASK, &none, NULL);
    (void) signal (SIGPIPE, SIG_DFL);
    (void) setpgid (0, 0);
    if (dup2 (in, STDIN_FILENO) < 0 || (o->stdout_fd >= 0 && dup2 (o->stdout_fd, STDOUT_FILENO) < 0))
        _exit (127);
    put_environment (work);
    (void) execl ("/bin/sh", "sh", "-c", o->command, (char *) NULL);
    _exit (127);
}

/* Give it more of its input. True: there is more to give. */
static bool feed (int fd, struct fm_slice payload, size_t *given)
{
    const ssize_t n = write (fd, (const char *) payload.data + *given, payload.len - *given);
    if (n > 0)
        *given += (size_t) n;
    return *given < payload.len && (n >= 0 || errno == EAGAIN || errno == EINTR);   /* else it does not read on: its choice */
}

/* Why it has to be killed now; 0: it does not. */
static int why_stop (const struct exec_options *o, pid_t pid, uint64_t began, uint64_t *ticked)
{
    const uint64_t now = cli_monotonic_ms ();
    struct stat written;
    if (o->timeout_ms >= 0 && now - began >= (uint64_t) o->timeout_ms)
        return EXEC_TIMED_OUT;
    if (o->stdout_max && fstat (o->stdout_fd, &written) == 0 && (uint64_t) written.st_size > o->stdout_max)
        return EXEC_TOO_LONG;
    if (!o->tick || now - *ticked < (uint64_t) o->tick_ms)
        return 0;
    *ticked = now;
    const int left_ms = o->tick (o->tick_arg);
    tell_keeper (pid, left_ms);
    return left_ms > 0 ? 0 : EXEC_STOPPED;
}

static int wait_for (const struct exec_options *o, pid_t pid, int fd, struct fm_slice payload)
{
    const uint64_t began = cli_monotonic_ms ();
    uint64_t ticked = began;
    size_t given = 0;
    int status = 0, killed = 0;
    pid_t ended;
    while ((ended = waitpid (pid, &status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
        if (fd >= 0 && !feed (fd, payload, &given)) {
            (void) close (fd);
            fd = -1;
        }
        if (!killed && (killed = why_stop (o, pid, began, &ticked)) != 0)
            (void) kill (-pid, SIGKILL);
        struct pollfd out = { .fd = fd, .events = POLLOUT };
        if (fd >= 0)
            (void) poll (&out, 1, POLL_MS);     /* whatever it says, we look again */
        else
            (void) usleep (cli_monotonic_ms () - began < POLL_MS ? POLL_FIRST_US : POLL_MS * 1000);
    }
    if (fd >= 0)
        (void) close (fd);
    if (killed)
        return killed;
    if (ended < 0 || (o->tick && WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL && !o->tick (o->tick_arg)))
        return EXEC_STOPPED;                /* the keeper did, for its lease; or somebody else waited for it: nobody knows how it ended */
    return WIFEXITED (status) ? WEXITSTATUS (status) : 128 + WTERMSIG (status);
}

int exec_run (const struct exec_options *o, const struct fm_work *work, int *ret_status)
{
    int fds[2];
    (void) signal (SIGCHLD, SIG_DFL);       /* inherited as ignored, it would hide how a command ended */
    const int rc = start_keeper ();
    if (rc)
        return rc;
    const int left_ms = o->tick ? o->tick (o->tick_arg) : -1;
    if (!left_ms) {
        *ret_status = EXEC_STOPPED;
        return 0;
    }
    if (pipe2 (fds, O_CLOEXEC) != 0)
        return -errno;
    (void) fcntl (fds[1], F_SETFL, O_NONBLOCK);         /* a handler that does not read must not stop us */
    const pid_t pid = fork ();
    if (pid == 0)
        child (o, work, fds[0]);
    const int error = errno;
    (void) close (fds[0]);
    if (pid < 0) {
        (void) close (fds[1]);
        return -error;
    }
    (void) setpgid (pid, pid);              /* as it does itself: whoever is first */
    tell_keeper (pid, left_ms);
    *ret_status = wait_for (o, pid, fds[1], work->fact.payload);
    tell_keeper (0, -1);
    return 0;
}
