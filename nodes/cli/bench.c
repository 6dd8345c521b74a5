/* bench: measures the user's own cluster. This file has the options, and finds the kind. */

#include "bench.h"

#include <stdio.h>
#include <string.h>

#include "commands.h"

static const char help[] =
    "usage: factmesh bench pub [OPTION…]                how fast facts are published and recorded\n"
    "       factmesh bench sub [OPTION…] [PATTERN…]     how fast they come, how late, and whether all is well\n"
    "       factmesh bench latency [OPTION…]            publish to delivery, and publish to synced\n"
    "       factmesh bench replay [OPTION…] [PATTERN…]  how fast a journal gives back what it has\n"
    "Measure your own cluster. What pub and latency publish is recorded for good like everything else: choose\n"
    "a mesh, or a journal's retention, that can take it.\n\n"
    "  -n, --count N            so many facts [pub: 1M when there is no --for; latency: 5000; sub, replay: all]\n"
    "      --for TIME           for so long; counted from the first fact\n"
    "      --size BYTES         of a payload, 16 to 1M [100]\n"
    "      --rate N             facts a second [pub: as fast as it goes; latency: 1000]\n"
    "      --topic TOPIC        publish under TOPIC.0, TOPIC.1, … [bench]\n"
    "      --topics N           over so many topics in turn [1]\n"
    "      --no-wait            do without a journal: live alone\n"
    "      --json               the result as one JSON object\n"
    "  PATTERN: which topics [bench.>]. --timeout: end with 3 when nothing moves for so long [10s].\n\n"
    "sub says when it is ready, begins to count with the first fact, and ends when none came for 3 s. It checks every byte of the\n"
    "facts that bench published; the age of a fact is of use only where both clocks agree. latency publishes and\n"
    "subscribes in one process, so that there is one clock; each fact is late from the time it was due.\n"
    "Ctrl-C ends with a report of what was measured until then.\n\n"
    "Examples:\n"
    "  factmesh bench sub --seed tcp://10.0.0.1:7400\n"
    "  factmesh bench pub --seed tcp://10.0.0.1:7400 --size 1K --for 30s\n"
    "  factmesh bench latency --seed tcp://10.0.0.1:7400 --rate 10000 --json\n";

enum { OPT_FOR = OPT_OWN, OPT_SIZE, OPT_RATE, OPT_TOPIC, OPT_TOPICS, OPT_NO_WAIT, OPT_JSON };

static const struct option long_options[] = { { "count", required_argument, NULL, 'n' },
                                              { "for", required_argument, NULL, OPT_FOR },
                                              { "size", required_argument, NULL, OPT_SIZE },
                                              { "rate", required_argument, NULL, OPT_RATE },
                                              { "topic", required_argument, NULL, OPT_TOPIC },
                                              { "topics", required_argument, NULL, OPT_TOPICS },
                                              { "no-wait", no_argument, NULL, OPT_NO_WAIT },
                                              { "json", no_argument, NULL, OPT_JSON },
                                              COMMON_LONG };

static const struct kind {
    const char *name;
    int (*run) (struct bench *b);
    bool publishes, reads;
} kinds[] = {
    { "pub", bench_pub, true, false },
    { "sub", bench_sub, false, true },
    { "latency", bench_latency, true, false },
    { "replay", bench_replay, false, true },
};

static const struct kind *find_kind (const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp (kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

static int take_size (struct bench *b, const char *value)
{
    const int status = cli_size (&b->cli, "--size", value, &b->size);
    if (status)
        return status;
    return b->size < BENCH_PAYLOAD_MIN || b->size > BENCH_PAYLOAD_MAX
               ? cli_usage (&b->cli, "--size: %s is not between %d and 1M", value, BENCH_PAYLOAD_MIN)
               : 0;
}

static int take_for (struct bench *b, const char *value)
{
    int ms = 0;
    const int status = cli_milliseconds (&b->cli, "--for", value, &ms);
    b->for_ns = (uint64_t) ms * 1000000;
    return status ? status : ms ? 0 : cli_usage (&b->cli, "--for: '%s' is no time at all", value);
}

static int take_option (struct bench *b, int option, const char *value)
{
    int status = 0;
    switch (option) {
    case 'n':
        status = cli_number (&b->cli, "--count", value, 1, UINT64_MAX / 2, &b->count);
        break;
    case OPT_FOR:
        status = take_for (b, value);
        break;
    case OPT_SIZE:
        status = take_size (b, value);
        break;
    case OPT_RATE:
        status = cli_number (&b->cli, "--rate", value, 1, 100000000, &b->rate);
        break;
    case OPT_TOPIC:
        b->topic = value;
        break;
    case OPT_TOPICS:
        status = cli_number (&b->cli, "--topics", value, 1, BENCH_TOPICS_MAX, &b->topics);
        break;
    case OPT_NO_WAIT:
        b->no_wait = true;
        break;
    case OPT_JSON:
        b->json = true;
        break;
    default:
        return cli_option (&b->cli, option, value);
    }
    return status ? status : -1;
}

/* -1: go on. */
static int check (struct bench *b, const struct kind *kind)
{
    struct patterns patterns;
    if (!kind->reads && *b->patterns)
        return cli_usage (&b->cli, "'%s': bench %s takes no arguments", *b->patterns, kind->name);
    if (!kind->publishes && (b->topic || b->topics || b->rate || b->size))
        return cli_usage (&b->cli, "bench %s publishes nothing: --size, --rate, --topic and --topics are for pub and latency", kind->name);
    const int status = patterns_parse (&b->cli, b->patterns, &patterns);
    if (status >= 0)
        return status;
    if (!b->size)
        b->size = 100;
    if (!b->topics)
        b->topics = 1;
    if (!b->topic)
        b->topic = BENCH_TOPIC;
    b->timeout_ms = cli_timeout (&b->cli, BENCH_TIMEOUT_MS);
    return -1;
}

int command_bench (int argc, char **argv)
{
    static struct bench b;
    const struct kind *kind = argc > 1 ? find_kind (argv[1]) : NULL;
    cli_init (&b.cli, "bench", help, argv);
    if (kind) {
        /* getopt sees the kind as the command's name. */
        argc--;
        argv++;
        argv[0] = argv[-1];
    }
    int option;
    while ((option = getopt_long (argc, argv, COMMON_SHORT "n:", long_options, NULL)) != -1) {
        const int status = take_option (&b, option, optarg);
        if (status >= 0)
            return status;
    }
    if (!kind)
        return cli_usage (&b.cli, optind == argc ? "which one? bench pub, sub, latency or replay" : "'%s': bench has pub, sub, latency and replay",
                          argv[optind]);
    b.patterns = argv + optind;
    int status = check (&b, kind);
    if (status >= 0)
        return status;
    bench_payload_init ();
    status = cli_catch_signals (&b.cli);
    if (status == CLI_OK)
        status = cli_open_node (&b.cli, &b.node);
    if (status == CLI_OK) {
        progress_init (&b.progress, b.cli.quiet);
        status = kind->run (&b);
        progress_clear (&b.progress);
    }
    fm_node_close (&b.node);
    return status;
}

/* --- Reports. */

void bench_latency_say (const char *what, const struct bench_histogram *h)
{
    static const struct {
        const char *name;
        double q;
    } points[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99.9", 0.999 } };
    (void) printf ("%s:", what);
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        (void) printf (" %s %.1f us,", points[i].name, (double) bench_histogram_quantile (h, points[i].q) / 1e3);
    (void) printf (" most %.1f us\n", (double) h->max / 1e3);
}

double bench_rate (uint64_t facts, uint64_t ns)
{
    return ns ? (double) facts / ((double) ns / 1e9) : 0;
}

int bench_status (int status)
{
    return cli_signalled () ? CLI_SIGNAL + cli_signalled () : status;
}

int bench_done (const struct bench *b, int status)
{
    return cli_done (&b->cli, status);
}
