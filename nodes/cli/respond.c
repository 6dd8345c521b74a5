/* respond: answers requests with what a command prints.
 *
 * Alone it answers what is asked from now on. As an instance of a group (--group) requests are shared among the instances, wait while all are away, and are
 * handed out again when one dies; a response then carries an identity, so that a request that was answered twice has one response. A request is done when
 * its response is on a journal's disk: not before, or a kill in between would leave it without one. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "error.h"
#include "exec.h"
#include "patterns.h"
#include "stream_pool.h"

static const char help[] =
    "usage: factmesh respond PATTERN… --exec COMMAND [OPTION…]\n"
    "Answer requests: run COMMAND (by sh -c) for each, with the request on standard input and FM_TOPIC, FM_KEY, FM_ID,\n"
    "FM_CORRELATION, FM_EXPIRES_NS and the like in the environment; what it prints is the response, on the request's topic\n"
    "and -response. If it ends with another status than 0 there is no response. Requests whose deadline has passed are\n"
    "skipped.\n\n"
    "      --exec COMMAND       the handler\n"
    "      --topic TOPIC        of responses [the request's and -response]\n"
    "  -t, --type TYPE          of responses\n"
    "      --content-type TYPE  of responses\n"
    "      --group GROUP        share requests with other instances; those that nobody answered wait\n"
    "      --expired-too        also those whose deadline has passed\n"
    "      --limit TIME         a handler that runs for so long is killed [none]\n"
    "  -n, --count N            stop after N requests\n"
    "  --timeout is how long to wait for somebody to be in the mesh [10s].\n\n"
    "Examples:\n"
    "  factmesh respond stock.query --exec 'grep -m1 \"^$(cat),\" stock.csv' --seed tcp://127.0.0.1:7400\n"
    "  factmesh respond 'price.*.query' --group pricing --exec ./price\n";

enum { OPT_EXEC = OPT_OWN, OPT_TOPIC, OPT_CONTENT_TYPE, OPT_GROUP, OPT_EXPIRED, OPT_LIMIT };
enum { RESPOND_OPEN_MS = 10000, SLICE_MS = 250, RESPONSE_MAX = 1 << 20, IDENTITY_BYTES = 160, EXTEND_MS = 50, SYNC_MS = 10000,
       AGAIN_MS = 1000 };

static const struct option long_options[] = { { "exec", required_argument, NULL, OPT_EXEC },
                                              { "topic", required_argument, NULL, OPT_TOPIC },
                                              { "type", required_argument, NULL, 't' },
                                              { "content-type", required_argument, NULL, OPT_CONTENT_TYPE },
                                              { "group", required_argument, NULL, OPT_GROUP },
                                              { "expired-too", no_argument, NULL, OPT_EXPIRED },
                                              { "limit", required_argument, NULL, OPT_LIMIT },
                                              { "count", required_argument, NULL, 'n' },
                                              COMMON_LONG };

struct respond {
    struct cli cli;
    struct exec_options exec;
    struct fm_fact response;
    const char *group;
    bool expired_too;
    bool lost;                          /* the stream, while a fact of the group was answered */
    uint64_t count, answered;
    char **patterns;
    struct patterns parsed;
    struct fm_node *node;
    struct fm_publisher *publisher;
    struct fm_subscription *subscription;
    struct fm_worker *worker;
    char reason[256];
    uint8_t bytes[RESPONSE_MAX];
};

static int take_option (struct respond *r, int option, const char *value)
{
    switch (option) {
    case OPT_EXEC:
        r->exec.command = value;
        return -1;
    case OPT_TOPIC:
        r->response.topic = fm_text (value);
        return -1;
    case 't':
        r->response.type = fm_text (value);
        return -1;
    case OPT_CONTENT_TYPE:
        r->response.content_type = fm_text (value);
        return -1;
    case OPT_GROUP:
        r->group = value;
        return -1;
    case OPT_EXPIRED:
        r->expired_too = true;
        return -1;
    case OPT_LIMIT:
        return cli_milliseconds (&r->cli, "--limit", value, &r->exec.timeout_ms) ? CLI_USAGE : -1;
    case 'n':
        return cli_number (&r->cli, "--count", value, 1, UINT64_MAX, &r->count) ? CLI_USAGE : -1;
    default:
        return cli_option (&r->cli, option, value);
    }
}

static int parse (struct respond *r, int argc, char **argv)
{
    cli_init (&r->cli, "respond", help, argv);
    r->exec.timeout_ms = r->exec.stdout_fd = -1;
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT "n:t:", long_options, NULL)) != -1) {
        const int status = take_option (r, c, optarg);
        if (status >= 0)
            return status;
    }
    if (optind == argc)
        return cli_usage (&r->cli, "which requests?");
    if (!r->exec.command)
        return cli_usage (&r->cli, "--exec COMMAND: what answers?");
    r->patterns = argv + optind;
    return patterns_parse (&r->cli, r->patterns, &r->parsed);
}

static void say_no_response (const struct respond *r, int status)
{
    if (r->cli.quiet)
        return;
    if (status == EXEC_TIMED_OUT)
        cli_say (&r->cli, "no response: the handler ran for more than %d ms, and was killed", r->exec.timeout_ms);
    else if (status == EXEC_TOO_LONG)
        cli_say (&r->cli, "no response: the handler wrote more than %d bytes", (int) RESPONSE_MAX);
    else if (status == EXEC_STOPPED)
        cli_say (&r->cli, "no response: the handler took longer than its lease, and was killed");
    else
        cli_say (&r->cli, "no response: the handler ended with status %d", status);
}

static int extend (void *arg)
{
    (void) fm_work_extend (arg);        /* what is left tells */
    return fm_work_left_ms (arg);
}

/* FM_TIMEOUT: no journal has it on disk yet. */
static int wait_recorded (struct respond *r, uint64_t seq)
{
    const uint64_t until_ms = cli_monotonic_ms () + SYNC_MS;
    int rc;
    do
        rc = fm_publisher_wait_synced (r->publisher, seq, SLICE_MS);
    while (rc == FM_TIMEOUT && !cli_is_signalled () && extend (r->worker) > 0 && cli_monotonic_ms () < until_ms);
    return rc;
}

/* Publish what the command wrote. Read, not mapped: what it left behind may still cut the file, and the rest of a mapping would be a signal. -errno, or as
 * wait_recorded. */
static int publish (struct respond *r, const struct fm_work *work, int fd)
{
    char identity[IDENTITY_BYTES], id[FM_FACT_ID_TEXT];
    struct fm_fact response = r->response;
    struct fm_fact_id published = { .seq = 0 };
    const ssize_t len = pread (fd, r->bytes, sizeof r->bytes, 0);
    if (len < 0)
        return -errno;
    response.payload.data = r->bytes;
    response.payload.len = (size_t) len;
    if (r->group) {
        const int n = snprintf (identity, sizeof identity, "%s/%s", r->group, fm_fact_id_text (&work->fact.id, id, sizeof id));
        response.identity.data = identity;
        response.identity.len = (size_t) n;
    }
    const int rc = fm_respond (r->publisher, &work->fact, &response, &published);
    return rc == 0 && r->group ? wait_recorded (r, published.seq) : rc;
}

/* A response is no request, though it has a correlation and its topic may match: else we would answer ourselves for ever. */
static bool is_request (const struct respond *r, const struct fm_fact *f)
{
    static const char suffix[] = "-response";
    const size_t len = sizeof suffix - 1;
    if (!f->correlation.len || (r->response.topic.len && slice_equal (f->topic, r->response.topic)))
        return false;
    return f->topic.len < len || memcmp ((const char *) f->topic.data + f->topic.len - len, suffix, len) != 0;
}

/* Run the command and publish its answer. 0: answered, or it chose not to; *ret_status tells. */
static int answer (struct respond *r, const struct fm_work *work, int *ret_status)
{
    struct stat written;
    const int fd = memfd_create ("response", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    r->exec.stdout_fd = fd;
    r->exec.stdout_max = RESPONSE_MAX;
    int rc = exec_run (&r->exec, work, ret_status);
    if (!rc && fstat (fd, &written) != 0)
        rc = -errno;
    if (!rc && *ret_status == 0 && written.st_size > RESPONSE_MAX)
        *ret_status = EXEC_TOO_LONG;    /* it was done before that was seen */
    if (!rc && *ret_status == 0)
        rc = publish (r, work, fd);
    (void) close (fd);
    r->answered++;
    if (!rc && *ret_status)
        say_no_response (r, *ret_status);
    return rc;
}

static enum fm_outcome run (void *arg, const struct fm_work *work, int *ret_delay_ms, const char **ret_reason)
{
    struct respond *r = arg;
    int status;
    if (!is_request (r, &work->fact))
        return FM_DONE;
    const int rc = answer (r, work, &status);
    if (rc < 0)
        (void) snprintf (r->reason, sizeof r->reason, "%s", rc == FM_ERR_LOST ? fm_error_detail () : fm_error_text (rc));
    else
        (void) snprintf (r->reason, sizeof r->reason, "its handler ended with status %d", status);
    *ret_reason = r->reason;
    *ret_delay_ms = AGAIN_MS;
    r->lost = rc == FM_ERR_LOST;
    const bool unrecorded = rc == FM_TIMEOUT || rc == FM_ERR_WINDOW_FULL;
    if (unrecorded && !r->cli.quiet)
        cli_say (&r->cli, "no journal has recorded the response: the request comes again");
    if (unrecorded || r->lost)
        return FM_LATER;                /* nothing is wrong with the request */
    return rc == 0 && status == 0 ? FM_DONE : FM_FAILED;
}

static int respond_open (struct respond *r)
{
    struct fm_publisher_options publisher = { .name = r->cli.name };
    int status = cli_open_node (&r->cli, &r->node);
    if (status)
        return status;
    const int timeout_ms = cli_timeout (&r->cli, RESPOND_OPEN_MS);
    const char *const *topics = (const char *const *) r->patterns;
    int rc = stream_pool_open (r->node, r->cli.mesh ? r->cli.mesh : "default", NULL, &publisher, &r->publisher);
    if (!rc && r->group) {
        const struct fm_worker_options options = { .group = r->group, .topics = topics, .effect = FM_IDEMPOTENT, .instance = r->cli.name, .open_timeout_ms = timeout_ms };
        rc = fm_node_wait_journal (r->node, timeout_ms);
        if (!rc)
            rc = fm_worker_open (r->node, &options, &r->worker);
        r->exec.tick = extend;
        r->exec.tick_arg = r->worker;
        r->exec.tick_ms = EXTEND_MS;
    } else if (!rc) {
        const struct fm_subscription_options options = { .topics = topics, .open_timeout_ms = timeout_ms };
        rc = fm_subscription_open (r->node, &options, &r->subscription);
    }
    return rc < 0 ? cli_fail (&r->cli, rc, "cannot listen for requests") : CLI_OK;
}

static int take_one (struct respond *r)
{
    const struct fm_handler handler = { .arg = r, .run = run, .expired_too = r->expired_too };
    struct fm_event event;
    if (r->worker) {
        const int rc = fm_worker_handle (r->worker, &handler, SLICE_MS);
        return rc == 0 && r->lost ? error_set (FM_ERR_LOST, "%s", r->reason) : rc;
    }
    int rc = fm_subscription_next (r->subscription, SLICE_MS, &event);
    if (rc || event.kind != FM_EVENT_FACT || !is_request (r, &event.fact) || (!r->expired_too && fm_fact_expired (&event.fact)))
        return rc;
    const struct fm_work work = { .fact = event.fact, .root = event.fact.id, .deliveries = 1 };
    int status;
    rc = answer (r, &work, &status);
    if (!rc || rc == FM_ERR_LOST)
        return rc;                      /* a stream that is lost stays so */
    if (!r->cli.quiet)
        cli_say (&r->cli, "no response: %s", fm_error_text (rc));
    return 0;
}

static int respond_run (struct respond *r)
{
    int rc = 0;
    while (!rc && !cli_is_signalled () && (!r->count || r->answered < r->count)) {
        rc = take_one (r);
        if (rc == FM_TIMEOUT || rc == FM_INTERRUPTED || rc == FM_ERR_CONFLICT || rc == FM_ERR_GENERATION)
            rc = 0;
    }
    if (r->worker && !rc)
        rc = fm_worker_commit (r->worker, RESPOND_OPEN_MS);
    if (cli_is_signalled ())
        return CLI_SIGNAL + cli_signalled ();
    return rc < 0 ? cli_fail (&r->cli, rc, "after %llu requests", (unsigned long long) r->answered) : CLI_OK;
}

int command_respond (int argc, char **argv)
{
    static struct respond r;
    int status = parse (&r, argc, argv);
    if (status >= 0)
        return status;
    status = respond_open (&r);
    if (status == CLI_OK)
        status = cli_catch_signals (&r.cli);
    if (status == CLI_OK) {
        if (!r.cli.quiet)
            cli_say (&r.cli, "listening");
        status = respond_run (&r);
    }
    fm_worker_close (&r.worker);
    fm_subscription_close (&r.subscription);
    fm_publisher_close (&r.publisher);
    fm_node_close (&r.node);
    return status;
}
