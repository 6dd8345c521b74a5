/* request: publishes a request and prints the responses. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "error.h"
#include "format_options.h"
#include "input.h"
#include "stream_pool.h"

static const char help[] =
    "usage: factmesh request TOPIC [TEXT] [OPTION…]\n"
    "Publish a request (TEXT, or else standard input) and print its first response. A request is a fact with a correlation\n"
    "and a deadline; a response is a fact on TOPIC-response. Ends with 3 when no response came in time: nothing tells why.\n\n"
    "  -n, --count N            wait for N responses\n"
    "      --all                print all that come until the time is over\n"
    "      --responses PATTERN  where responses come [TOPIC-response]\n"
    "  -k, --key KEY            of the request\n"
    "  -t, --type TYPE          of the request\n"
    "      --wait TIME          for somebody else to be in the mesh [5s]\n"
    "  --timeout is the deadline [2s].\n" FORMAT_HELP "\n"
    "Examples:\n"
    "  factmesh request stock.query 'lamp' --seed tcp://127.0.0.1:7400\n"
    "  factmesh request nodes.who --all --timeout 500ms --json\n";

enum { OPT_ALL = OPT_FORMAT_OWN, OPT_RESPONSES, OPT_WAIT };
enum { REQUEST_TIMEOUT_MS = 2000, REQUEST_WAIT_MS = 5000, REQUEST_MAX_BYTES = 1 << 20 };

static const struct option long_options[] = { FORMAT_LONG,
                                              { "count", required_argument, NULL, 'n' },
                                              { "all", no_argument, NULL, OPT_ALL },
                                              { "responses", required_argument, NULL, OPT_RESPONSES },
                                              { "key", required_argument, NULL, 'k' },
                                              { "type", required_argument, NULL, 't' },
                                              { "wait", required_argument, NULL, OPT_WAIT },
                                              COMMON_LONG };

struct request {
    struct cli cli;
    struct output_options format;
    struct fm_requester_options options;
    struct fm_fact fact;
    const char *text;
    uint64_t count;
    bool all;
    int wait_ms;
    struct output *out;
    struct input *in;
};

static int take_option (struct request *r, int option, const char *value)
{
    switch (option) {
    case 'n':
        return cli_number (&r->cli, "--count", value, 1, UINT32_MAX, &r->count) ? CLI_USAGE : -1;
    case OPT_ALL:
        r->all = true;
        return -1;
    case OPT_RESPONSES:
        r->options.responses = value;
        return -1;
    case 'k':
        r->fact.key = fm_text (value);
        return -1;
    case 't':
        r->fact.type = fm_text (value);
        return -1;
    case OPT_WAIT:
        return cli_milliseconds (&r->cli, "--wait", value, &r->wait_ms) ? CLI_USAGE : -1;
    default:
        break;
    }
    const int status = format_option (&r->cli, &r->format, option, value);
    return status == -2 ? cli_option (&r->cli, option, value) : status;
}

static int parse (struct request *r, int argc, char **argv)
{
    cli_init (&r->cli, "request", help, argv);
    r->format.fd = STDOUT_FILENO;
    r->format.interrupted = cli_is_signalled;
    r->count = 1;
    r->wait_ms = REQUEST_WAIT_MS;
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT FORMAT_SHORT "n:k:t:", long_options, NULL)) != -1) {
        const int status = take_option (r, c, optarg);
        if (status >= 0)
            return status;
    }
    if (argc - optind < 1 || argc - optind > 2)
        return cli_usage (&r->cli, "usage: factmesh request TOPIC [TEXT]");
    r->options.topic = argv[optind];
    r->text = argv[optind + 1];
    return -1;
}

static int read_payload (struct request *r)
{
    if (r->text) {
        r->fact.payload = fm_text (r->text);
        return CLI_OK;
    }
    const struct input_options options = { .record_max = REQUEST_MAX_BYTES, .wake_fd = cli_signal_fd (), .idle_ms = -1 };
    struct input_record record;
    int rc = input_open ("-", &options, &r->in);
    if (!rc)
        rc = input_whole (r->in, &record);
    if (rc < 0)
        return cli_fail (&r->cli, rc, "the request's content");
    r->fact.payload = record.payload;
    return CLI_OK;
}

static int print (void *arg, const struct fm_fact *response)
{
    struct request *r = arg;
    const int rc = output_fact (r->out, response, 0);
    return rc ? rc : output_flush (r->out);
}

static int ask (struct request *r, struct fm_node *node)
{
    struct fm_publisher_options publisher_options = { .name = r->cli.name };
    struct fm_publisher *publisher = NULL;
    struct fm_requester *requester = NULL;
    unsigned count = 0;
    const int timeout_ms = cli_timeout (&r->cli, REQUEST_TIMEOUT_MS);
    int rc = stream_pool_open (node, r->cli.mesh ? r->cli.mesh : "default", NULL, &publisher_options, &publisher);
    if (!rc)
        rc = fm_requester_open (node, publisher, &r->options, &requester);
    if (rc < 0) {
        fm_publisher_close (&publisher);
        return cli_fail (&r->cli, rc, "cannot ask");
    }
    cli_signal_again (true);
    rc = fm_request_many (requester, &r->fact, timeout_ms, r->all ? 0 : (unsigned) r->count, print, r, &count);
    cli_signal_again (false);
    /* The request belongs on a disk, too, where there is a journal; who asks need not wait for that. */
    (void) fm_publisher_wait_synced (publisher, 0, rc == FM_TIMEOUT ? 0 : 200);
    fm_requester_close (&requester);
    fm_publisher_close (&publisher);
    if (cli_is_signalled ())
        return CLI_SIGNAL + cli_signalled ();
    if (rc == FM_TIMEOUT) {
        (void) cli_error (&r->cli, "timed out: %u of %llu responses within %d ms", count, (unsigned long long) r->count, timeout_ms);
        return CLI_TIMEOUT;
    }
    if (rc == -EPIPE)
        return CLI_OK;
    return rc < 0 ? cli_fail (&r->cli, rc, "after %u responses", count) : CLI_OK;
}

int command_request (int argc, char **argv)
{
    struct request r = { .all = false };
    struct fm_node *node = NULL;
    int status = parse (&r, argc, argv);
    if (status >= 0)
        return status;
    int rc = output_new (&r.format, &r.out);
    if (rc < 0)
        return rc == FM_ERR_ARGUMENT ? cli_usage (&r.cli, "%s", fm_error_detail ()) : cli_fail (&r.cli, rc, "output");
    status = cli_catch_signals (&r.cli);
    if (status == CLI_OK)
        status = read_payload (&r);
    if (status == CLI_OK)
        status = cli_open_node (&r.cli, &node);
    if (status == CLI_OK) {
        rc = fm_node_wait_members (node, 2, r.wait_ms);
        status = rc < 0 ? cli_fail (&r.cli, rc, "nobody to ask") : ask (&r, node);
    }
    fm_node_close (&node);
    input_destroy (&r.in);
    output_destroy (&r.out);
    return status;
}
