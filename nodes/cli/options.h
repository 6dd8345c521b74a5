/* options: what every subcommand shares: the options to reach a mesh, how errors are told, how it ends.
 *
 * A subcommand sets up a struct cli, walks its own options with getopt_long, gives what it does not know to cli_option,
 * and returns an exit status. */

#ifndef FM_CLI_OPTIONS_H
#define FM_CLI_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "factmesh.h"
#include "text.h"
#include "when.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_ERROR = 1,
    CLI_USAGE = 2,
    CLI_TIMEOUT = 3,
    CLI_GAP = 4,     /* facts are missing, --fail-on-gap */
    CLI_DAMAGED = 5, /* verify found damage, repair left some */
    CLI_SIGNAL = 128 /* and the signal's number */
};

struct cli {
    const char *command; /* "pub" */
    const char *help;    /* usage, options and examples */
    bool offline;        /* takes no options to reach a mesh */
    const char *seed_option; /* where the seeds come from, for messages; NULL: --seed */
    const char *mesh, *seeds, *bind, *bind_live, *advertise, *advertise_live, *name;
    int timeout_ms; /* -1: not given */
    bool quiet, verbose;
};

/* Options that every subcommand takes: COMMON_LONG goes into its table of long options, COMMON_SHORT into its short
 * ones. Its own begin at OPT_OWN. */
enum { OPT_MESH = 256, OPT_BIND, OPT_BIND_LIVE, OPT_ADVERTISE, OPT_ADVERTISE_LIVE, OPT_NAME, OPT_TIMEOUT, OPT_VERBOSE, OPT_OWN };
#define COMMON_SHORT "s:qh"
#define COMMON_LONG                                                                                                    \
    { "help", no_argument, NULL, 'h' }, { "quiet", no_argument, NULL, 'q' },                                           \
        { "verbose", no_argument, NULL, OPT_VERBOSE }, { "mesh", required_argument, NULL, OPT_MESH },                  \
        { "seed", required_argument, NULL, 's' }, { "bind", required_argument, NULL, OPT_BIND },                       \
        { "bind-live", required_argument, NULL, OPT_BIND_LIVE },                                                        \
        { "advertise", required_argument, NULL, OPT_ADVERTISE },                                                       \
        { "advertise-live", required_argument, NULL, OPT_ADVERTISE_LIVE },                                             \
        { "name", required_argument, NULL, OPT_NAME }, { "timeout", required_argument, NULL, OPT_TIMEOUT },            \
    {                                                                                                                  \
        NULL, 0, NULL, 0                                                                                               \
    }

/* Read the environment's defaults, and make getopt's own messages begin with "factmesh COMMAND:". */
void cli_init (struct cli *cli, const char *command, const char *help, char **argv);

/* Take a common option (also getopt's '?'). -1: go on; otherwise end with this exit status. */
int cli_option (struct cli *cli, int option, const char *value);

/* --- Messages: one line on standard error, "factmesh pub: …". Each returns the exit status that goes with it. */

void cli_say (const struct cli *cli, const char *format, ...) __attribute__ ((format (printf, 2, 3)));
int cli_error (const struct cli *cli, const char *format, ...) __attribute__ ((format (printf, 2, 3)));
/* "factmesh pub: what: text: detail", what the detail says itself left out; a time-out is CLI_TIMEOUT, all else
 * CLI_ERROR. */
int cli_fail (const struct cli *cli, int code, const char *format, ...) __attribute__ ((format (printf, 3, 4)));
/* The same, and where to read more. */
int cli_usage (const struct cli *cli, const char *format, ...) __attribute__ ((format (printf, 2, 3)));
/* To standard output. CLI_OK, or CLI_ERROR after a message: there was no memory for all of it. A failure to write shows in cli_done. */
int cli_print (const struct cli *cli, const struct text *text);
/* The end of a command: standard output is flushed. Returns the status, or CLI_ERROR after a message when that is CLI_OK and not all could be written. */
int cli_done (const struct cli *cli, int status);

/* --- Values. Each 0, or CLI_USAGE after a message that names the option. */

int cli_number (const struct cli *cli, const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret);
/* "4096", "64K", "128M", "10G", "1T", with or without iB behind: powers of 1024. */
int cli_size (const struct cli *cli, const char *option, const char *text, uint64_t *ret_bytes);
/* At most INT_MAX ms; when.h has the spellings. */
int cli_milliseconds (const struct cli *cli, const char *option, const char *text, int *ret_ms);

/* A place in the flow: when.h has the spellings; `forms` are those that the option takes, to be advised. */
int cli_where (const struct cli *cli, const char *option, const char *text, const char *forms, struct when *ret_when);

/* --- Signals: the first SIGINT or SIGTERM sets a flag and makes the descriptor readable, the second one kills. SIGPIPE
 * is ignored. */

int cli_catch_signals (const struct cli *cli);
int cli_signal_fd (void);
int cli_signalled (void); /* the signal's number, 0: none */
/* While a call waits that only EINTR ends: a signal that comes between two of its waits would not be seen, so a SIGALRM follows each second. */
void cli_signal_again (bool again);
bool cli_is_signalled (void);

/* --- The mesh. */

/* Are --seed, --bind and --advertise (and -live) addresses? CLI_OK, or CLI_USAGE after a message. */
int cli_check_addresses (const struct cli *cli);
/* What it means that fm_node_open returned this code: a message, and the exit status. */
int cli_node_failed (const struct cli *cli, int code);
/* Open a node with the common options. CLI_OK, or an exit status after a message. */
int cli_open_node (const struct cli *cli, struct fm_node **ret_node);
int cli_timeout (const struct cli *cli, int default_ms);

/* Wait until fd (-1: none) is readable, a signal came, or timeout_ms passed (-1: never). */
void cli_wait (int fd, int timeout_ms);
/* The same, but also until nobody reads what is written to `out`: then false. */
bool cli_wait_read (int fd, int out, int timeout_ms);

uint64_t cli_unix_ns (void);
uint64_t cli_monotonic_ns (void);
uint64_t cli_monotonic_ms (void);

#endif
