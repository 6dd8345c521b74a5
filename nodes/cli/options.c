/* options: see options.h. */

#include "options.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "bytes.h"
#include "error.h"

enum { LINE_MAX_LEN = 4096 };

static const char help_mesh[] =
    "\nReaching the mesh:\n"
    "  -s, --seed ADDR[,ADDR]   addresses of nodes, tcp://HOST:PORT or ipc://PATH (of the working directory when it\n"
    "                           does not begin with /); one is enough [FACTMESH_SEED].\n"
    "                           Without: found by UDP broadcast\n"
    "      --mesh NAME          which mesh [FACTMESH_MESH, \"default\"]\n"
    "      --bind ADDR          where this node listens [any port]\n"
    "      --bind-live ADDR     the same for live facts [any port of that host]\n"
    "      --advertise HOST[:PORT],…, --advertise-live HOST[:PORT],…\n"
    "                           where others reach these two, when that is elsewhere: behind address translation,\n"
    "                           in a container with published ports\n"
    "      --name NAME          of this node, for people [HOST-PID]\n"
    "      --timeout TIME       give up when nothing happens for so long: 10s, 500ms, 1m\n";
static const char help_common[] = "  -q, --quiet              errors only\n"
                                  "      --verbose            also what the node notices, on standard error\n"
                                  "  -h, --help               this text\n";

void cli_init (struct cli *cli, const char *command, const char *help, char **argv)
{
    static char program[64];
    *cli = (struct cli){ .command = command, .help = help, .timeout_ms = -1 };
    cli->mesh = getenv ("FACTMESH_MESH");
    cli->seeds = getenv ("FACTMESH_SEED");
    if (cli->mesh && !*cli->mesh)
        cli->mesh = NULL;
    if (cli->seeds && !*cli->seeds)
        cli->seeds = NULL;
    (void) snprintf (program, sizeof program, "factmesh %s", command);
    argv[0] = program;
}

static int cli_print_help (const struct cli *cli)
{
    (void) fputs (cli->help, stdout);
    if (!cli->offline)
        (void) fputs (help_mesh, stdout);
    else
        (void) fputs ("\n", stdout);
    (void) fputs (help_common, stdout);
    return cli_done (cli, CLI_OK);
}

int cli_option (struct cli *cli, int option, const char *value)
{
    switch (option) {
    case 'h':
        return cli_print_help (cli);
    case 'q':
        cli->quiet = true;
        return -1;
    case OPT_VERBOSE:
        cli->verbose = true;
        return -1;
    case 's':
        cli->seeds = value;
        return -1;
    case OPT_MESH:
        cli->mesh = value;
        return -1;
    case OPT_BIND:
        cli->bind = value;
        return -1;
    case OPT_BIND_LIVE:
        cli->bind_live = value;
        return -1;
    case OPT_ADVERTISE:
        cli->advertise = value;
        return -1;
    case OPT_ADVERTISE_LIVE:
        cli->advertise_live = value;
        return -1;
    case OPT_NAME:
        cli->name = value;
        return -1;
    case OPT_TIMEOUT:
        return cli_milliseconds (cli, "--timeout", value, &cli->timeout_ms) ? CLI_USAGE : -1;
    default:
        /* getopt has said what is wrong. */
        (void) fprintf (stderr, "Try 'factmesh %s --help'.\n", cli->command);
        return CLI_USAGE;
    }
}

static void print_line (const struct cli *cli, const char *format, va_list args)
{
    char line[LINE_MAX_LEN];
    const int len = snprintf (line, sizeof line, "factmesh %s: ", cli->command);
    (void) vsnprintf (line + len, sizeof line - (size_t) len, format, args); /* what does not fit is cut */
    /* What it quotes may hold anything: a line stays one line, and moves no cursor. */
    for (char *p = line; *p; p++)
        if ((unsigned char) *p < 0x20 || *p == 0x7F)
            *p = '?';
    /* One write, so that lines of several processes do not mix. */
    (void) fprintf (stderr, "%s\n", line);
}

void cli_say (const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    print_line (cli, format, args);
    va_end (args);
}

int cli_error (const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    print_line (cli, format, args);
    va_end (args);
    return CLI_ERROR;
}

int cli_fail (const struct cli *cli, int code, const char *format, ...)
{
    char what[1024];
    va_list args;
    va_start (args, format);
    (void) vsnprintf (what, sizeof what, format, args);
    va_end (args);
    /* The detail may say already what failed and why: nothing is said twice. */
    const char *const text = fm_error_text (code), *const detail = fm_error_detail ();
    const bool says_what = strstr (detail, what), says_text = strstr (detail, text);
    cli_say (cli, "%s%s%s%s%s", says_what ? "" : what, says_what ? "" : ": ", says_text ? "" : text,
             says_text || !*detail ? "" : ": ", detail);
    return code == FM_TIMEOUT || code == FM_ERR_NO_JOURNAL ? CLI_TIMEOUT : CLI_ERROR;
}

int cli_print (const struct cli *cli, const struct text *text)
{
    if (text->failed)
        return cli_error (cli, "no memory for what was to be printed");
    (void) fwrite (text->data, 1, text->len, stdout);   /* a failure shows when it is flushed */
    return CLI_OK;
}

int cli_done (const struct cli *cli, int status)
{
    const bool flushed = fflush (stdout) == 0;
    const int code = errno;
    /* The stream also remembers a write that failed earlier, with nothing left for this flush. */
    if ((flushed && !ferror (stdout)) || status != CLI_OK)
        return status;
    return cli_error (cli, "cannot write to standard output: %s", flushed ? "a part is missing" : strerror (code));
}

int cli_usage (const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    print_line (cli, format, args);
    va_end (args);
    (void) fprintf (stderr, "Try 'factmesh %s --help'.\n", cli->command);
    return CLI_USAGE;
}

/* --- Values. */

int cli_number (const struct cli *cli, const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    char *end;
    errno = 0;
    const unsigned long long v = strtoull (text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return cli_usage (cli, "%s: '%s' is not a number", option, text);
    if (v < min || v > max)
        return cli_usage (cli, "%s: %s is not between %llu and %llu", option, text, (unsigned long long) min,
                          (unsigned long long) max);
    *ret = v;
    return 0;
}

int cli_size (const struct cli *cli, const char *option, const char *text, uint64_t *ret_bytes)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    const unsigned long long v = strtoull (text, &end, 10);
    unsigned shift = 0;
    if (*text < '0' || *text > '9' || errno)
        return cli_usage (cli, "%s: '%s' is not a size; write 4096, 64K, 128M or 10G", option, text);
    if (*end) {
        const char *unit = strchr (units, *end >= 'a' ? *end - 'a' + 'A' : *end);
        shift = unit ? 10 * (unsigned) (unit - units + 1) : 0;
        if (!unit || (end[1] && strcmp (end + 1, "iB") != 0 && strcmp (end + 1, "B") != 0))
            return cli_usage (cli, "%s: '%s' is not a size; write 4096, 64K, 128M or 10G", option, text);
    }
    if (v > UINT64_MAX >> shift)
        return cli_usage (cli, "%s: '%s' is too large", option, text);
    *ret_bytes = (uint64_t) v << shift;
    return 0;
}

int cli_milliseconds (const struct cli *cli, const char *option, const char *text, int *ret_ms)
{
    uint64_t ns;
    if (when_duration (text, &ns) < 0)
        return cli_usage (cli, "%s: %s", option, fm_error_detail ());
    if (ns / 1000000 > INT_MAX)
        return cli_usage (cli, "%s: '%s' is too long", option, text);
    *ret_ms = (int) (ns / 1000000);
    return 0;
}

int cli_where (const struct cli *cli, const char *option, const char *text, const char *forms, struct when *ret_when)
{
    if (!when_is_known (text))
        return cli_usage (cli, "%s: '%s': write %s", option, text, forms);
    if (when_parse (text, cli_unix_ns (), ret_when) < 0)
        return cli_usage (cli, "%s: %s", option, fm_error_detail ());
    return 0;
}

/* --- Signals. */

static atomic_int caught;               /* for any thread: a volatile one is for its own alone */
static volatile sig_atomic_t comes_again;
static int signal_event = -1;

static void on_signal (int number)
{
    const int saved_errno = errno;
    const uint64_t one = 1;
    caught = number;
    /* An eventfd of a few signals cannot be full. */
    const ssize_t n = write (signal_event, &one, sizeof one);
    (void) n;
    if (comes_again)
        (void) alarm (1);
    errno = saved_errno;
}

static void on_alarm (int number)
{
    (void) number;
    if (comes_again)
        (void) alarm (1);
}

int cli_catch_signals (const struct cli *cli)
{
    signal_event = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signal_event < 0)
        return cli_error (cli, "eventfd: %s", strerror (errno));
    /* No SA_RESTART: a read or write that waits for others must end. */
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int) SA_RESETHAND };
    (void) sigemptyset (&action.sa_mask);
    (void) sigaction (SIGINT, &action, NULL);
    (void) sigaction (SIGTERM, &action, NULL);
    (void) signal (SIGPIPE, SIG_IGN);
    return CLI_OK;
}

void cli_signal_again (bool again)
{
    struct sigaction action = { .sa_handler = on_alarm };
    (void) sigemptyset (&action.sa_mask);
    (void) sigaction (SIGALRM, &action, NULL);
    comes_again = again;
    (void) alarm (again && caught ? 1 : 0);
}

int cli_signal_fd (void)
{
    return signal_event;
}

int cli_signalled (void)
{
    return caught;
}

bool cli_is_signalled (void)
{
    return caught != 0;
}

/* --- The mesh. */

static void on_notice (void *arg, const char *id, const char *text)
{
    const struct cli *cli = arg;
    (void) fprintf (stderr, "factmesh %s: %s %s\n", cli->command, id, text);
}

static int check_advertised (const struct cli *cli, const char *option, const char *hosts)
{
    const struct address anywhere = { .host = "127.0.0.1", .port = 1 };
    struct address_list list;
    const bool good = !hosts || !*hosts || address_advertise (&anywhere, hosts, false, &list) == 0;
    return good ? CLI_OK : cli_usage (cli, "%s: %s", option, fm_error_detail ());
}

int cli_check_addresses (const struct cli *cli)
{
    const char *const environment = getenv ("FACTMESH_SEED");
    const char *const option = cli->seed_option ? cli->seed_option : "--seed";
    const char *const from = cli->seeds && cli->seeds == environment ? "FACTMESH_SEED" : option;
    const char *rest = cli->seeds;
    struct address address;
    struct fm_slice item;
    while (address_list_next (&rest, &item))
        if (address_parse (item, ADDRESS_TO_CONNECT, &address) < 0)
            return cli_usage (cli, "%s: %s", from, fm_error_detail ());
    const size_t len = cli->seeds ? strlen (cli->seeds) : 0;
    if (len && cli->seeds[len - 1] == ',')
        return cli_usage (cli, "%s: '%s': no address behind the last comma", from, cli->seeds);
    if (cli->bind && *cli->bind && address_parse (slice_of (cli->bind), ADDRESS_TO_BIND, &address) < 0)
        return cli_usage (cli, "--bind: %s", fm_error_detail ());
    if (cli->bind_live && *cli->bind_live && address_parse (slice_of (cli->bind_live), ADDRESS_TO_BIND, &address) < 0)
        return cli_usage (cli, "--bind-live: %s", fm_error_detail ());
    const int status = check_advertised (cli, "--advertise", cli->advertise);
    return status ? status : check_advertised (cli, "--advertise-live", cli->advertise_live);
}

int cli_node_failed (const struct cli *cli, int code)
{
    if (code == FM_ERR_ARGUMENT)
        return cli_usage (cli, "%s", fm_error_detail ());
    if (code == FM_ERR_ADDRESS)
        return cli_error (cli, "%s; --bind ADDR says where to listen", fm_error_detail ());
    return cli_fail (cli, code, "cannot join the mesh '%s'", cli->mesh ? cli->mesh : "default");
}

int cli_open_node (const struct cli *cli, struct fm_node **ret_node)
{
    const int status = cli_check_addresses (cli);
    if (status)
        return status;
    struct fm_node_options options = {
        .mesh = cli->mesh,
        .name = cli->name,
        .seeds = cli->seeds,
        .bind = cli->bind,
        .bind_live = cli->bind_live,
        .advertise = cli->advertise,
        .advertise_live = cli->advertise_live,
        .notice = cli->verbose ? on_notice : NULL,
        .notice_arg = (void *) (uintptr_t) cli,
    };
    const int rc = fm_node_open (&options, ret_node);
    return rc < 0 ? cli_node_failed (cli, rc) : CLI_OK;
}

int cli_timeout (const struct cli *cli, int default_ms)
{
    return cli->timeout_ms >= 0 ? cli->timeout_ms : default_ms;
}

bool cli_wait_read (int fd, int out, int timeout_ms)
{
    struct pollfd fds[3] = {
        { .fd = signal_event, .events = POLLIN },
        { .fd = fd, .events = POLLIN },
        { .fd = out, .events = 0 },
    };
    if (cli_is_signalled () || poll (fds, 3, timeout_ms) < 0)
        return true; /* -EINTR: a signal, which the caller sees */
    return (fds[2].revents & (POLLERR | POLLHUP)) == 0;
}

void cli_wait (int fd, int timeout_ms)
{
    (void) cli_wait_read (fd, -1, timeout_ms);
}

static uint64_t clock_ns (clockid_t clock)
{
    struct timespec t;
    (void) clock_gettime (clock, &t); /* cannot fail for these two */
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

uint64_t cli_unix_ns (void)
{
    return clock_ns (CLOCK_REALTIME);
}

uint64_t cli_monotonic_ns (void)
{
    return clock_ns (CLOCK_MONOTONIC);
}

uint64_t cli_monotonic_ms (void)
{
    return cli_monotonic_ns () / 1000000;
}
