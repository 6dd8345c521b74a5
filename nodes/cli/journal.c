/* journal: runs a journal until it is told to end. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "journal.h"
#include "commands.h"
#include "id.h"
#include "options.h"
#include "when.h"

#define JOURNAL_BIND_DEFAULT "tcp://127.0.0.1:7400"

static const char help[] =
    "usage: factmesh journal DIR [OPTION…]\n"
    "Run a journal: record every fact of the mesh in DIR, which is created when it is not there, and replay it to "
    "anybody.\n"
    "Prints one line when it serves: JOURNAL-SERVING address=… journal=… offset=… recovered_ms=…; what happens later "
    "is told\n"
    "on standard error, a line each, with a stable id. SIGTERM and Ctrl-C end it cleanly, with 0; with 1\n"
    "when a write had failed: it records nothing from then on (READ-ONLY), and serves what it has.\n\n"
    "      --segment-size SIZE  begin a new file at this size [128M; 1M to 4G]\n"
    "      --segment-age TIME   and at this age [1d; 0: never]\n"
    "      --retain-size SIZE   delete the oldest files beyond this size [keep all]\n"
    "      --retain-age TIME    and those older than this [keep all]\n"
    "      --http HOST:PORT     serve blobs to browsers and curl there [off]: PUT and POST /blobs, GET and HEAD /blobs/DIGEST.\n"
    "                           Whoever reaches the port may store and fetch: keep it where you trust\n"
    "      --blob-max SIZE      refuse larger blobs [1T]\n"
    "      --blob-lease TIME    keep an uploaded blob so long before a fact points to it, if who uploads it does not say [1h]\n"
    "      --blob-sweep TIME    look so often which blobs may go [1m]\n"
    "      --address-file FILE  write the address there once it serves (for scripts, with --bind tcp://127.0.0.1:*)\n"
    "  --bind is " JOURNAL_BIND_DEFAULT " if not given. Others reach it with --seed and that address.\n\n"
    "Examples:\n"
    "  factmesh journal ./orders-journal\n"
    "  factmesh journal /var/lib/factmesh --bind 'tcp://*:7400' --mesh production --retain-age 30d --retain-size "
    "100G\n";

enum { OPT_SEGMENT_SIZE = OPT_OWN, OPT_SEGMENT_AGE, OPT_RETAIN_SIZE, OPT_RETAIN_AGE, OPT_ADDRESS_FILE, OPT_HTTP, OPT_BLOB_MAX, OPT_BLOB_LEASE, OPT_BLOB_SWEEP };

static const struct option long_options[] = { { "segment-size", required_argument, NULL, OPT_SEGMENT_SIZE },
                                              { "segment-age", required_argument, NULL, OPT_SEGMENT_AGE },
                                              { "retain-size", required_argument, NULL, OPT_RETAIN_SIZE },
                                              { "retain-age", required_argument, NULL, OPT_RETAIN_AGE },
                                              { "address-file", required_argument, NULL, OPT_ADDRESS_FILE },
                                              { "http", required_argument, NULL, OPT_HTTP },
                                              { "blob-max", required_argument, NULL, OPT_BLOB_MAX },
                                              { "blob-lease", required_argument, NULL, OPT_BLOB_LEASE },
                                              { "blob-sweep", required_argument, NULL, OPT_BLOB_SWEEP },
                                              COMMON_LONG };

struct journal_command {
    struct cli cli;
    struct journal_options options;
    const char *directory, *address_file;
};

static int take_age (const struct cli *cli, const char *option, const char *text, uint64_t *ret_ms)
{
    uint64_t ns;
    if (when_duration (text, &ns) < 0)
        return cli_usage (cli, "%s: '%s' is not a length of time; write 30d, 12h or 90m", option, text);
    *ret_ms = ns / 1000000;
    return 0;
}

static int take_option (struct journal_command *c, int option, const char *value)
{
    struct log_options *const log = &c->options.log;
    uint64_t ms = 0;
    int status = 0;
    switch (option) {
    case OPT_SEGMENT_SIZE:
        status = cli_size (&c->cli, "--segment-size", value, &log->segment_bytes);
        if (!status && (log->segment_bytes < LOG_SEGMENT_BYTES_MIN || log->segment_bytes > LOG_SEGMENT_BYTES_MAX))
            status = cli_usage (&c->cli, "--segment-size: %s is not between 1M and 4G", value);
        break;
    case OPT_SEGMENT_AGE:
        status = take_age (&c->cli, "--segment-age", value, &log->segment_age_ms);
        break;
    case OPT_RETAIN_SIZE:
        status = cli_size (&c->cli, "--retain-size", value, &log->retain_bytes);
        break;
    case OPT_RETAIN_AGE:
        status = take_age (&c->cli, "--retain-age", value, &log->retain_age_ms);
        break;
    case OPT_HTTP:
        c->options.http = value;
        break;
    case OPT_BLOB_MAX:
        status = cli_size (&c->cli, "--blob-max", value, &c->options.blob_size_max);
        break;
    case OPT_BLOB_LEASE:
        status = take_age (&c->cli, "--blob-lease", value, &c->options.blob_lease_ms);
        break;
    case OPT_BLOB_SWEEP:
        status = take_age (&c->cli, "--blob-sweep", value, &ms);
        c->options.blob_sweep_ms = ms < UINT_MAX ? (unsigned) ms : UINT_MAX;
        break;
    case OPT_ADDRESS_FILE:
        c->address_file = value;
        break;
    default:
        return cli_option (&c->cli, option, value);
    }
    return status ? status : -1;
}

/* Called by any of the journal's threads, and by the node's: one write each, so that lines do not mix. */
static void on_notice (void *arg, const char *id, const char *text)
{
    const struct cli *cli = arg;
    char time[WHEN_TEXT];
    if (!cli->quiet)
        (void) fprintf (stderr, "%.23sZ %s %s\n", when_format (cli_unix_ns (), time), id, text);
}

/* Whoever sees the file sees all of it: write beside, then rename. */
static int write_address (const struct journal_command *c, const char *address)
{
    char path[PATH_MAX];
    const int n = snprintf (path, sizeof path, "%s.%ld", c->address_file, (long) getpid ());
    if (n < 0 || (size_t) n >= sizeof path)
        return cli_error (&c->cli, "--address-file: %zu bytes: too long for a path", strlen (c->address_file));
    FILE *file = fopen (path, "we");
    bool good = file && fprintf (file, "%s\n", address) > 0;
    if (file)
        good = fclose (file) == 0 && good;
    if (good && rename (path, c->address_file) == 0)
        return CLI_OK;
    const int status = cli_error (&c->cli, "--address-file: %s: %s", c->address_file, strerror (errno));
    if (file)
        (void) unlink (path);
    return status;
}

static int serve (const struct journal_command *c, struct fm_node *node, struct journal *journal, uint64_t took_ms)
{
    struct journal_status status;
    char id[ID_TEXT_LEN + 1];
    journal_status (journal, &status);
    int rc = cli_catch_signals (&c->cli);
    if (rc == CLI_OK && c->address_file)
        rc = write_address (c, fm_node_address (node));
    if (rc != CLI_OK)
        return rc;
    const int printed = printf ("JOURNAL-SERVING address=%s journal=%s offset=%llu recovered_ms=%llu\n", fm_node_address (node),
                   id_text (&status.journal, id), (unsigned long long) status.position.end_offset,
                   (unsigned long long) took_ms);
    if (printed < 0 || fflush (stdout) != 0)
        return cli_error (&c->cli, "cannot say on standard output that it serves: %s", strerror (errno));
    while (!cli_is_signalled ())
        cli_wait (-1, -1);
    journal_status (journal, &status);
    return status.read_only ? cli_error (&c->cli,
                                         "%s: ends READ-ONLY: a write had failed, and nothing was recorded since; "
                                         "mend the disk and start it again",
                                         c->directory)
                            : CLI_OK;
}

/* A journal always starts: where it cannot without room on the disk, when there is some. */
static int open_journal (struct journal_command *c, struct fm_node *node, struct journal **ret_journal)
{
    for (bool told = false;; told = true) {
        const int rc = journal_new (node, c->directory, &c->options, ret_journal);
        if (rc != -ENOSPC && rc != -EDQUOT)
            return rc;
        char text[640];
        (void) snprintf (text, sizeof text, "%.512s: nothing is served until there is space; tried again each second", fm_error_detail ());
        if (!told)
            on_notice (&c->cli, "DISK-FULL", text);
        (void) sleep (1);                   /* a signal ends it: none is caught yet */
    }
}

static int run (struct journal_command *c)
{
    struct fm_node *node = NULL;
    struct journal *journal = NULL;
    const struct fm_node_options options = {
        .mesh = c->cli.mesh,
        .name = c->cli.name,
        .seeds = c->cli.seeds,
        .bind = c->cli.bind ? c->cli.bind : JOURNAL_BIND_DEFAULT,
        .bind_live = c->cli.bind_live,
        .advertise = c->cli.advertise,
        .advertise_live = c->cli.advertise_live,
        .serve_nice = JOURNAL_SERVE_NICE,
        .notice = on_notice,
        .notice_arg = &c->cli,
    };
    int rc = cli_check_addresses (&c->cli);
    if (rc != CLI_OK)
        return rc;
    rc = fm_node_open (&options, &node);
    if (rc < 0)
        return cli_node_failed (&c->cli, rc);
    const uint64_t began = cli_monotonic_ms ();
    c->options.notice = on_notice;
    c->options.notice_arg = &c->cli;
    rc = open_journal (c, node, &journal);
    const int status =

        rc < 0 ? cli_fail (&c->cli, rc, "%s", c->directory) : serve (c, node, journal, cli_monotonic_ms () - began);
    journal_destroy (&journal);
    fm_node_close (&node);
    return status;
}

/* A connection takes a descriptor, and the usual soft limit of 1024 is for programs that select(). We do not, and start none that might. */
static void take_descriptors (void)
{
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void) setrlimit (RLIMIT_NOFILE, &limit);       /* else it has what it was given */
    }
}

int command_journal (int argc, char **argv)
{
    struct journal_command c = { .options = { .log = { .segment_age_ms = LOG_SEGMENT_AGE_MS_DEFAULT } } };
    cli_init (&c.cli, "journal", help, argv);
    int option;
    while ((option = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        const int status = take_option (&c, option, optarg);
        if (status >= 0)
            return status;
    }
    if (argc - optind != 1)
        return cli_usage (&c.cli, optind == argc ? "which directory? factmesh journal DIR" : "one directory, please");
    c.directory = argv[optind];
    take_descriptors ();
    return run (&c);
}
