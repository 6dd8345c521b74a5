/* work: an instance of a group: runs a command for each fact that it is handed.
 *
 * Promise: a fact is done when its command ended with 0; when this process or the command dies before, it is handed out again. Thread: one. */

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "error.h"
#include "exec.h"
#include "patterns.h"

static const char help[] =
    "usage: factmesh work GROUP [PATTERN…] --exec COMMAND [OPTION…]\n"
    "Join a group whose instances split the facts of its topics, and run COMMAND (by sh -c) for each: the payload on\n"
    "standard input, FM_TOPIC, FM_KEY, FM_ID, FM_ROOT, FM_FLAGS, FM_TOKEN and the like in the environment. Facts of one key\n"
    "come one at a time and in order. COMMAND ends with 0: done; 75: again later; 65: park it; else: it failed, and had no\n"
    "effect. Killed (by a signal, --limit, the end of this process) it is in doubt, if --effect is more than idempotent.\n\n"
    "      --exec COMMAND       the handler\n"
    "      --effect KIND        what it does outside: idempotent (may run again), once (each order is sent once),\n"
    "                           once-per-version (a mail for an order, and one for each correction of it),\n"
    "                           on-correction (only corrections)\n"
    "      --check COMMAND      of a fact that is in doubt: did it happen? 0 yes, 1 no, else: can't tell, and it is parked\n"
    "      --from-now           a new group begins at the end; default: with the oldest fact\n"
    "      --lease TIME         a handler that says nothing for so long loses its fact [30s]\n"
    "      --limit TIME         a handler that runs for so long is killed: it failed [none]\n"
    "      --attempts N         then a fact is parked [5]\n"
    "      --in-hand N          facts that may wait here [16]\n"
    "      --delay TIME         of 75 [1s]\n"
    "      --change-topics      the group's topics become these PATTERNs; its place stays\n"
    "      --hand-out-skipped   with --change-topics: also what the old ones had left out\n"
    "      --journal ID         that keeps the group; needed where there are several\n"
    "  -n, --count N            stop after N facts\n"
    "  --timeout: end with 3 when there is nothing to do for so long [never]; also how long to look for a journal [10s].\n\n"
    "Examples:\n"
    "  factmesh work fulfilment orders.placed --effect once --exec ./ship --check ./was-it-shipped\n"
    "  factmesh work thumbnails 'images.>' --effect idempotent --exec 'convert - -resize 80x80 \"thumbs/$FM_KEY.png\"'\n";

enum { OPT_EXEC = OPT_OWN, OPT_EFFECT, OPT_CHECK, OPT_FROM_NOW, OPT_LEASE, OPT_LIMIT, OPT_ATTEMPTS, OPT_IN_HAND, OPT_DELAY, OPT_CHANGE, OPT_SKIPPED, OPT_JOURNAL };
enum { EXIT_LATER = 75, EXIT_PARK = 65, EXIT_SIGNAL = 128, WORK_OPEN_MS = 10000, SLICE_MS = 250, EXTEND_MS = 50 };

static const struct option long_options[] = { { "exec", required_argument, NULL, OPT_EXEC },
                                              { "effect", required_argument, NULL, OPT_EFFECT },
                                              { "check", required_argument, NULL, OPT_CHECK },
                                              { "from-now", no_argument, NULL, OPT_FROM_NOW },
                                              { "lease", required_argument, NULL, OPT_LEASE },
                                              { "limit", required_argument, NULL, OPT_LIMIT },
                                              { "attempts", required_argument, NULL, OPT_ATTEMPTS },
                                              { "in-hand", required_argument, NULL, OPT_IN_HAND },
                                              { "delay", required_argument, NULL, OPT_DELAY },
                                              { "change-topics", no_argument, NULL, OPT_CHANGE },
                                              { "hand-out-skipped", no_argument, NULL, OPT_SKIPPED },
                                              { "journal", required_argument, NULL, OPT_JOURNAL },
                                              { "count", required_argument, NULL, 'n' },
                                              COMMON_LONG };

struct work {
    struct cli cli;
    struct fm_worker_options options;
    struct exec_options exec, check;
    int delay_ms;
    uint64_t count, handled;
    struct patterns patterns;
    struct fm_node *node;
    struct fm_worker *worker;
    char reason[128];
};

static int take_effect (struct work *w, const char *text)
{
    static const char *const names[] = { "idempotent", "once", "once-per-version", "on-correction" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp (text, names[i]) == 0) {
            w->options.effect = (enum fm_effect) (FM_IDEMPOTENT + i);
            return -1;
        }
    return cli_usage (&w->cli, "--effect '%s': write idempotent, once, once-per-version or on-correction", text);
}

static int take_number (struct work *w, const char *option, const char *text, uint64_t max, unsigned *ret)
{
    uint64_t value;
    if (cli_number (&w->cli, option, text, 1, max, &value))
        return CLI_USAGE;
    *ret = (unsigned) value;
    return -1;
}

static int take_option (struct work *w, int option, const char *value)
{
    switch (option) {
    case OPT_EXEC:
        w->exec.command = value;
        return -1;
    case OPT_CHECK:
        w->check.command = value;
        return -1;
    case OPT_EFFECT:
        return take_effect (w, value);
    case OPT_FROM_NOW:
        w->options.from_now = true;
        return -1;
    case OPT_LEASE:
        return cli_milliseconds (&w->cli, "--lease", value, &w->options.lease_ms) ? CLI_USAGE : -1;
    case OPT_LIMIT:
        return cli_milliseconds (&w->cli, "--limit", value, &w->exec.timeout_ms) ? CLI_USAGE : -1;
    case OPT_DELAY:
        return cli_milliseconds (&w->cli, "--delay", value, &w->delay_ms) ? CLI_USAGE : -1;
    case OPT_ATTEMPTS:
        return take_number (w, "--attempts", value, 1000000, &w->options.attempts_max);
    case OPT_IN_HAND:
        return take_number (w, "--in-hand", value, 4096, &w->options.in_hand);
    case OPT_CHANGE:
        w->options.change_topics = true;
        return -1;
    case OPT_SKIPPED:
        w->options.hand_out_skipped = true;
        return -1;
    case OPT_JOURNAL:
        w->options.journal = value;
        return -1;
    case 'n':
        return cli_number (&w->cli, "--count", value, 1, UINT64_MAX, &w->count) ? CLI_USAGE : -1;
    default:
        return cli_option (&w->cli, option, value);
    }
}

static int parse (struct work *w, int argc, char **argv)
{
    cli_init (&w->cli, "work", help, argv);
    w->exec.timeout_ms = w->check.timeout_ms = -1;
    w->exec.stdout_fd = w->check.stdout_fd = -1;
    w->delay_ms = 1000;
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT "n:", long_options, NULL)) != -1) {
        const int status = take_option (w, c, optarg);
        if (status >= 0)
            return status;
    }
    if (optind == argc)
        return cli_usage (&w->cli, "which group?");
    if (!w->exec.command)
        return cli_usage (&w->cli, "--exec COMMAND: what is to be run for each fact?");
    if (w->options.hand_out_skipped && !w->options.change_topics)
        return cli_usage (&w->cli, "--hand-out-skipped goes with --change-topics");
    w->options.group = argv[optind++];
    char **const patterns = argv + optind;
    w->options.topics = *patterns ? (const char *const *) patterns : NULL;
    w->check.timeout_ms = w->exec.timeout_ms;
    return patterns_parse (&w->cli, patterns, &w->patterns);
}

/* While a handler runs its lease is kept. Once it is lost another instance may be at the fact: the handler is stopped. */
static int extend (void *arg)
{
    (void) fm_work_extend (arg);        /* what is left tells */
    return fm_work_left_ms (arg);
}

/* Did it end by itself, and so say whether it had its effect? */
static bool was_cut_short (int status)
{
    return status < 0 || status > EXIT_SIGNAL;
}

static void tell_reason (struct work *w, int status)
{
    if (status == EXEC_TIMED_OUT)
        (void) snprintf (w->reason, sizeof w->reason, "its handler ran for more than %d ms, and was killed", w->exec.timeout_ms);
    else if (status == EXEC_STOPPED)
        (void) snprintf (w->reason, sizeof w->reason, "its handler took longer than its lease, and was killed");
    else if (status > EXIT_SIGNAL)
        (void) snprintf (w->reason, sizeof w->reason, "its handler was killed by signal %d", status - EXIT_SIGNAL);
    else
        (void) snprintf (w->reason, sizeof w->reason, "its handler ended with status %d", status);
}

static enum fm_outcome run (void *arg, const struct fm_work *work, int *ret_delay_ms, const char **ret_reason)
{
    struct work *w = arg;
    int status;
    const int rc = exec_run (&w->exec, work, &status);
    w->handled++;
    *ret_delay_ms = w->delay_ms;
    *ret_reason = w->reason;
    if (rc < 0) {
        (void) snprintf (w->reason, sizeof w->reason, "its handler could not be started: %s", fm_error_text (rc));
        return FM_FAILED;
    }
    tell_reason (w, status);
    if (status == 0)
        return FM_DONE;
    if (!w->cli.quiet)
        cli_say (&w->cli, "offset %llu: %s", (unsigned long long) work->offset, w->reason);
    if (was_cut_short (status))
        return FM_UNSURE;
    if (status == EXIT_LATER)
        return FM_LATER;
    return status == EXIT_PARK ? FM_PARK : FM_FAILED;
}

static enum fm_check check (void *arg, const struct fm_work *work)
{
    struct work *w = arg;
    int status;
    if (!w->check.command || exec_run (&w->check, work, &status) < 0)
        return FM_CANT_TELL;
    return status == 0 ? FM_HAPPENED : status == 1 ? FM_NOT_HAPPENED : FM_CANT_TELL;
}

static int work_run (struct work *w)
{
    const struct fm_handler handler = { .arg = w, .run = run, .check = check };
    uint64_t heard_ms = cli_monotonic_ms ();
    while (!w->count || w->handled < w->count) {
        if (cli_is_signalled ())
            return FM_INTERRUPTED;
        const int rc = fm_worker_handle (w->worker, &handler, SLICE_MS);
        if (rc == 0)
            heard_ms = cli_monotonic_ms ();
        else if (rc != FM_TIMEOUT && rc != FM_INTERRUPTED)
            return rc;
        if (w->cli.timeout_ms >= 0 && cli_monotonic_ms () - heard_ms >= (uint64_t) w->cli.timeout_ms)
            return FM_TIMEOUT;
    }
    return 0;
}

static int work_finish (struct work *w, int rc)
{
    const int committed = fm_worker_commit (w->worker, WORK_OPEN_MS);
    if (cli_is_signalled ())
        return CLI_SIGNAL + cli_signalled ();
    if (rc == FM_TIMEOUT) {
        (void) cli_error (&w->cli, "timed out: there was nothing to do for %d ms; %llu facts were handled", w->cli.timeout_ms, (unsigned long long) w->handled);
        return CLI_TIMEOUT;
    }
    if (rc < 0)
        return cli_fail (&w->cli, rc, "after %llu facts", (unsigned long long) w->handled);
    return committed < 0 ? cli_fail (&w->cli, committed, "%llu facts were handled", (unsigned long long) w->handled) : CLI_OK;
}

static int work_open (struct work *w)
{
    int status = cli_open_node (&w->cli, &w->node);
    if (status)
        return status;
    const int timeout_ms = cli_timeout (&w->cli, WORK_OPEN_MS);
    int rc = fm_node_wait_journal (w->node, timeout_ms);
    w->options.instance = w->cli.name;
    w->options.open_timeout_ms = timeout_ms;
    if (!rc)
        rc = fm_worker_open (w->node, &w->options, &w->worker);
    if (rc < 0)
        return cli_fail (&w->cli, rc, "cannot join group '%s'", w->options.group);
    w->exec.tick = w->check.tick = extend;
    w->exec.tick_arg = w->check.tick_arg = w->worker;
    w->exec.tick_ms = w->check.tick_ms = EXTEND_MS;
    return CLI_OK;
}

int command_work (int argc, char **argv)
{
    struct work w = { .count = 0 };
    int status = parse (&w, argc, argv);
    if (status >= 0)
        return status;
    status = work_open (&w);
    if (status == CLI_OK)
        status = cli_catch_signals (&w.cli);
    if (status == CLI_OK)
        status = work_finish (&w, work_run (&w));
    fm_worker_close (&w.worker);
    fm_node_close (&w.node);
    return status;
}
