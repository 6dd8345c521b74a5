/* sub: prints facts as they come, from any place in the past on.
 *
 * Promise: a cursor is acknowledged only for what standard output has taken; what was not is printed again by the next
 * run. Thread:  one. It waits on the subscription and on signals; what has gathered is written before it waits. */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "error.h"
#include "format_options.h"
#include "large.h"
#include "link.h"
#include "patterns.h"

static const char help[] =
    "usage: factmesh sub [OPTION…] [PATTERN…]\n"
    "Print the facts of the topics that any PATTERN matches (none: all): orders.placed, orders.*.placed (one level),\n"
    "'orders.>' (the rest). Past ones come from a journal, then it goes on live, without a hole or a duplicate.\n\n"
    "Where it begins and ends:\n"
    "      --from WHERE         start, end, latest (the newest fact of each key), -100 (the last 100 facts), @TIME,\n"
    "                           cursor:NAME (and leave that cursor alone) [end].\n"
    "                           TIME: 2026-11-01T10:00, with Z or +01:00 behind it, Unix seconds, -1h\n"
    "      --until WHERE        end: stop when caught up; @TIME: stop then, and leave out facts published later\n"
    "  -n, --count N            stop after N facts\n"
    "  -c, --cursor NAME        a durable place in the journal: go on there; --from says where it begins at first.\n"
    "                           It moves when facts have been written to standard output. With other PATTERNs than\n"
    "                           before, what it passed over would be lost: --force goes on all the same\n"
    "      --synced             only facts that a journal has on disk\n"
    "      --no-journal         live alone; holes are repaired by their publishers\n"
    "      --fail-on-gap        end with 4 when facts are missing\n" LARGE_FETCH_HELP
    "  --timeout: end with 3 when nothing comes for so long [never]; also how long to look for a journal "
    "[10s].\n" FORMAT_HELP
    "Missing facts (gaps), \"caught up\" and \"fell behind\" are told on standard error; with --json as objects with\n"
    "\"event\" on standard output. Ctrl-C ends with 130, SIGTERM with 143; a reader that goes away with 0.\n\n"
    "Examples:\n"
    "  factmesh sub 'orders.>' --seed tcp://127.0.0.1:7400 --from start\n"
    "  factmesh sub orders.placed --cursor billing | ./billing\n"
    "  factmesh sub 'logs.>' --from @-1h --until end --json | jq .payload\n"
    "  factmesh sub scans.page --from -1 --count 1 --fetch --raw > page.png\n";

enum { SUB_OPEN_TIMEOUT_MS = 10000, SUB_COMMIT_TIMEOUT_MS = 5000, SUB_UNTIL_SLICE_MS = 1000 };

struct sub {
    struct cli cli;
    struct output_options format;
    /* Options. */
    struct when from, until;
    bool has_until;
    uint64_t count; /* 0: no end */
    uint64_t fetch_max; /* 0: no --fetch */
    const char *cursor;
    bool force, synced, no_journal, fail_on_gap;
    char **patterns; /* NULL behind the last */
    struct patterns parsed;
    /* State. */
    struct fm_node *node;
    struct fm_subscription *subscription;
    struct output *out;
    uint64_t printed, gaps;
    uint64_t heard_ms; /* the last event */
    bool caught_up;
    bool stuck; /* at a fact whose blob cannot be had: the cursor stays before it */
};

enum { OPT_FROM = OPT_FORMAT_OWN, OPT_UNTIL, OPT_FORCE, OPT_SYNCED, OPT_NO_JOURNAL, OPT_FAIL_ON_GAP, OPT_FETCH };

static const struct option long_options[] = { FORMAT_LONG,
                                              { "from", required_argument, NULL, OPT_FROM },
                                              { "until", required_argument, NULL, OPT_UNTIL },
                                              { "count", required_argument, NULL, 'n' },
                                              { "cursor", required_argument, NULL, 'c' },
                                              { "force", no_argument, NULL, OPT_FORCE },
                                              { "synced", no_argument, NULL, OPT_SYNCED },
                                              { "no-journal", no_argument, NULL, OPT_NO_JOURNAL },
                                              { "fail-on-gap", no_argument, NULL, OPT_FAIL_ON_GAP },
                                              LARGE_FETCH_LONG (OPT_FETCH),
                                              COMMON_LONG };

static int take_option (struct sub *s, int option, const char *value)
{
    switch (option) {
    case OPT_FROM:
        return cli_where (&s->cli, "--from", value, "start, end, latest, -100, @2026-11-01T10:00, @-1h or cursor:NAME", &s->from) ? CLI_USAGE : -1;
    case OPT_UNTIL:
        s->has_until = true;
        return cli_where (&s->cli, "--until", value, "end or @TIME", &s->until) ? CLI_USAGE : -1;
    case 'n':
        return cli_number (&s->cli, "--count", value, 1, UINT64_MAX, &s->count) ? CLI_USAGE : -1;
    case 'c':
        s->cursor = value;
        return -1;
    case OPT_FORCE:
        s->force = true;
        return -1;
    case OPT_SYNCED:
        s->synced = true;
        return -1;
    case OPT_NO_JOURNAL:
        s->no_journal = true;
        return -1;
    case OPT_FAIL_ON_GAP:
        s->fail_on_gap = true;
        return -1;
    case OPT_FETCH:
        return large_fetch_option (&s->cli, value, &s->fetch_max);
    default:
        break;
    }
    const int status = format_option (&s->cli, &s->format, option, value);
    return status == -2 ? cli_option (&s->cli, option, value) : status;
}

static int check (struct sub *s)
{
    const struct cli *const cli = &s->cli;
    if (s->from.kind == WHEN_OFFSET)
        return cli_usage (cli, "--from offset:N is for factmesh replay");
    if (s->has_until && s->until.kind != WHEN_END && s->until.kind != WHEN_TIME)
        return cli_usage (cli, "--until: write end or @TIME; --count N stops after N facts");
    if (s->cursor && s->has_until && s->until.kind == WHEN_TIME)
        return cli_usage (cli, "--until @TIME leaves facts out, which a --cursor would pass over for good");
    if (s->cursor && (!*s->cursor || strlen (s->cursor) > CURSOR_NAME_MAX))
        return cli_usage (cli, "--cursor: a name has 1 to %d bytes", CURSOR_NAME_MAX);
    if (s->no_journal && (s->cursor || s->synced || s->fetch_max || s->from.kind != WHEN_END))
        return cli_usage (cli, "--no-journal excludes --cursor, --synced, --fetch and a past --from");
    return patterns_parse (cli, s->patterns, &s->parsed);
}

static int parse (struct sub *s, int argc, char **argv)
{
    cli_init (&s->cli, "sub", help, argv);
    s->from.kind = WHEN_END;
    s->format.fd = STDOUT_FILENO;
    s->format.interrupted = cli_is_signalled;
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT FORMAT_SHORT "n:c:", long_options, NULL)) != -1) {
        const int status = take_option (s, c, optarg);
        if (status >= 0)
            return status;
    }
    s->patterns = argv + optind;
    return check (s);
}

/* What was printed and taken is done. */
static int sub_flush (struct sub *s)
{
    const int rc = output_flush (s->out);
    if (rc < 0 || !s->cursor || s->stuck)
        return rc;
    return fm_subscription_ack (s->subscription);
}

static int sub_say (struct sub *s, const char *event, const char *text)
{
    if (output_format (s->out) == OUTPUT_JSON)
        return output_event_json (s->out, event);
    const int rc = sub_flush (s);
    if (rc == 0 && !s->cli.quiet)
        cli_say (&s->cli, "%s", text);
    return rc;
}

static int sub_fact (struct sub *s, const struct fm_fact *taken)
{
    struct fm_fact fact = *taken;
    void *buffer = NULL;
    int rc = s->fetch_max ? large_fetch (s->node, s->fetch_max, cli_timeout (&s->cli, SUB_OPEN_TIMEOUT_MS), &fact, &buffer) : 0;
    if (rc < 0) {
        s->stuck = true;
        return rc;
    }
    s->printed++;
    rc = output_fact (s->out, &fact, 0);
    free (buffer);
    return rc;
}

static int sub_event (struct sub *s, const struct fm_event *event)
{
    switch (event->kind) {
    case FM_EVENT_FACT:
        if (s->has_until && s->until.kind == WHEN_TIME && event->fact.time_ns >= s->until.value)
            return 0;
        return sub_fact (s, &event->fact);
    case FM_EVENT_GAP:
        s->gaps++;
        return format_gap (&s->cli, s->out, &event->gap);
    case FM_EVENT_CAUGHT_UP:
        s->caught_up = true;
        return sub_say (s, "caught_up",
                        s->has_until && s->until.kind == WHEN_END ? "caught up" : "caught up: live from here on");
    case FM_EVENT_FELL_BEHIND:
        break;
    }
    s->caught_up = false;
    return sub_say (s, "fell_behind", "fell behind: reading from the journal");
}

static bool sub_is_done (const struct sub *s)
{
    if (s->count && s->printed == s->count)
        return true;
    if (!s->has_until || !s->caught_up)
        return false;
    return s->until.kind == WHEN_END || cli_unix_ns () >= s->until.value;
}

/* How long may the next wait be? */
static int sub_wait_ms (const struct sub *s)
{
    int wait_ms = -1;
    if (s->cli.timeout_ms >= 0) {
        const uint64_t passed = cli_monotonic_ms () - s->heard_ms;
        wait_ms = passed >= (uint64_t) s->cli.timeout_ms ? 0 : s->cli.timeout_ms - (int) passed;
    }
    if (s->has_until && s->until.kind == WHEN_TIME && s->caught_up && (wait_ms < 0 || wait_ms > SUB_UNTIL_SLICE_MS)) {
        /* In slices: the wall clock may be set. */
        const uint64_t now = cli_unix_ns ();
        const uint64_t left_ms = s->until.value > now ? (s->until.value - now) / 1000000 + 1 : 0;
        wait_ms = left_ms < SUB_UNTIL_SLICE_MS ? (int) left_ms : SUB_UNTIL_SLICE_MS;
    }
    return wait_ms;
}

/* Nothing to print just now: write what has gathered, then wait. FM_TIMEOUT: --timeout has passed. */
static int sub_idle (struct sub *s)
{
    const int rc = sub_flush (s);
    if (rc < 0)
        return rc;
    const int wait_ms = sub_wait_ms (s);
    if (wait_ms == 0 && !(s->has_until && sub_is_done (s)))
        return FM_TIMEOUT;
    return cli_wait_read (fm_subscription_fd (s->subscription), s->format.fd, wait_ms) ? 0 : -EPIPE;
}

static int sub_run (struct sub *s)
{
    s->heard_ms = cli_monotonic_ms ();
    while (!sub_is_done (s)) {
        if (cli_is_signalled ())
            return FM_INTERRUPTED;
        struct fm_event event;
        int rc = fm_subscription_next (s->subscription, 0, &event);
        if (rc == FM_TIMEOUT || rc == FM_INTERRUPTED) {
            rc = sub_idle (s);
        } else if (rc == FM_ERR_CONFLICT || (rc == FM_ERR_GENERATION && !s->cursor)) {
            /* The subscription goes on; but a cursor stands still. */
            cli_say (&s->cli, "%s: %s", fm_error_text (rc), fm_error_detail ());
            rc = 0;
        } else if (rc == 0) {
            if (s->cli.timeout_ms >= 0)
                s->heard_ms = cli_monotonic_ms ();
            rc = sub_event (s, &event);
            /* The buffer was written as a whole, this event included: acknowledge. */
            if (rc == 0 && s->cursor && output_is_flushed (s->out))
                rc = fm_subscription_ack (s->subscription);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Write and acknowledge the rest. Returns the exit status. */
static int sub_finish (struct sub *s, int rc)
{
    int flushed = rc == -EPIPE ? rc : sub_flush (s);
    if (flushed == 0 && s->cursor)
        flushed = fm_subscription_commit (s->subscription, SUB_COMMIT_TIMEOUT_MS);
    if (cli_is_signalled ())
        return CLI_SIGNAL + cli_signalled ();
    if (rc == -EPIPE || flushed == -EPIPE)
        return CLI_OK;
    if (rc == FM_TIMEOUT) {
        (void) cli_error (&s->cli, "timed out: nothing came for %d ms; %llu facts were printed", s->cli.timeout_ms,
                          (unsigned long long) s->printed);
        return CLI_TIMEOUT;
    }
    if (rc < 0)
        return cli_fail (&s->cli, rc, "after %llu facts", (unsigned long long) s->printed);
    if (flushed < 0)
        return cli_fail (&s->cli, flushed, "%llu facts were printed, but cursor '%s' may stand before them",
                         (unsigned long long) s->printed, s->cursor ? s->cursor : "");
    return s->gaps && s->fail_on_gap ? CLI_GAP : CLI_OK;
}

static enum fm_start sub_start (enum when_kind kind)
{
    switch (kind) {
    case WHEN_START:
        return FM_FROM_START;
    case WHEN_TIME:
        return FM_FROM_TIME;
    case WHEN_LAST:
        return FM_FROM_LAST;
    case WHEN_CURSOR:
        return FM_FROM_CURSOR;
    case WHEN_LATEST:
        return FM_FROM_LATEST;
    case WHEN_END:
    case WHEN_OFFSET:
        break;
    }
    return FM_FROM_END;
}

/* --from cursor:NAME: ask the journal where it stands. */
static int sub_fetch_cursor (struct sub *s, void **ret_bytes, size_t *ret_len)
{
    struct link link;
    int status = link_open (&link, &s->cli, NULL);
    if (status)
        return status;
    status = link_cursor_bytes (&link, s->from.name, ret_bytes, ret_len);
    link_close (&link);
    return status;
}

/* Wait for whom it cannot do without, so that an address where nobody answers is named. */
static int sub_await (struct sub *s)
{
    const int timeout_ms = cli_timeout (&s->cli, SUB_OPEN_TIMEOUT_MS);
    int rc = 0;
    if (s->cursor || s->synced || s->from.kind != WHEN_END)
        rc = fm_node_wait_journal (s->node, timeout_ms);
    else if (s->cli.seeds)
        rc = fm_node_wait_members (s->node, 2, timeout_ms);
    return rc < 0 ? cli_fail (&s->cli, rc, "cannot subscribe") : CLI_OK;
}

/* A cursor stands behind all that did not match: used for another pattern it would leave out those facts unseen. */
static int sub_check_cursor (struct sub *s)
{
    struct link link;
    int status = link_join (&link, &s->cli, s->node);
    if (status)
        return status;
    struct fm_slice filters;
    status = link_cursor_filters (&link, s->cursor, &filters);
    if (status == CLI_OK && filters.len && !patterns_are (&s->parsed, filters))
        status = cli_usage (&s->cli, "cursor '%s' is of %.*s; give that pattern, another cursor, or --force", s->cursor,
                            (int) filters.len, (const char *) filters.data);
    link_close (&link);
    return status;
}

static int sub_open (struct sub *s)
{
    void *place = NULL;
    size_t place_len = 0;
    int status = s->from.kind == WHEN_CURSOR ? sub_fetch_cursor (s, &place, &place_len) : CLI_OK;
    if (status == CLI_OK)
        status = cli_open_node (&s->cli, &s->node);
    if (status == CLI_OK)
        status = sub_await (s);
    if (status == CLI_OK && s->cursor && !s->force)
        status = sub_check_cursor (s);
    if (status == CLI_OK) {
        const struct fm_subscription_options options = {
            .topics = *s->patterns ? (const char *const *) s->patterns : NULL,
            .from = sub_start (s->from.kind),
            .from_time_ns = s->from.kind == WHEN_TIME ? s->from.value : 0,
            .from_last = s->from.kind == WHEN_LAST ? s->from.value : 0,
            .from_cursor = { place, place_len },
            .cursor = s->cursor,
            .delivery = s->synced ? FM_SYNCED : FM_LIVE,
            .open_timeout_ms = cli_timeout (&s->cli, SUB_OPEN_TIMEOUT_MS),
            .no_journal = s->no_journal,
        };
        const int rc = fm_subscription_open (s->node, &options, &s->subscription);
        if (rc < 0)
            status = cli_fail (&s->cli, rc, "cannot subscribe");
    }
    free (place);
    return status;
}

int command_sub (int argc, char **argv)
{
    struct sub s = { .count = 0 };
    int status = parse (&s, argc, argv);
    if (status >= 0)
        return status;
    int rc = output_new (&s.format, &s.out);
    if (rc < 0)
        return rc == FM_ERR_ARGUMENT ? cli_usage (&s.cli, "%s", fm_error_detail ()) : cli_fail (&s.cli, rc, "output");
    status = sub_open (&s);
    if (status == CLI_OK)
        status = cli_catch_signals (&s.cli);
    if (status == CLI_OK)
        status = sub_finish (&s, sub_run (&s));
    fm_subscription_close (&s.subscription);
    fm_node_close (&s.node);
    output_destroy (&s.out);
    return status;
}
