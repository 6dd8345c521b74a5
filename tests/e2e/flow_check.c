/* flow_check: compares what flow_subscribers logged with what the flow_publisher made, and the second and further logs
 * with the first: every byte, every place.
 *
 * Each difference is a line of the oracle's; behind those of a log comes CHECKED log=… facts=… faults=…. Exit 0 only
 * without faults. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/flow.h"
#include "../support/oracle.h"
#include "../support/tool.h"

enum { STREAMS_MAX = 16 };

struct settings {
    struct flow flow;
    struct fm_id streams[STREAMS_MAX];
    unsigned stream_count;
    char **logs; /* pairs: a pattern, and the log of a subscription to it */
    size_t log_count;
};

static void usage (void)
{
    (void) fputs ("usage: flow_check --contents N --count N --topics N [--payload BYTES] [--large] --stream ID… "
                  "PATTERN LOG [PATTERN LOG]…\n"
                  "    streams in the order of their index\n",
                  stderr);
    exit (2);
}

static void settings_parse (struct settings *set, int argc, char **argv)
{
    static const struct option options[] = {
        { "contents", 1, NULL, 'c' }, { "count", 1, NULL, 'n' }, { "topics", 1, NULL, 'T' },
        { "payload", 1, NULL, 'p' },  { "large", 0, NULL, 'l' }, { "stream", 1, NULL, 's' },
        { NULL, 0, NULL, 0 },
    };
    int option, index = 0;

    *set = (struct settings) { .flow = { .topics = 50, .count = 1000 } };
    while ((option = getopt_long (argc, argv, "", options, &index)) != -1) {
        const char *name = options[index].name;
        switch (option) {
        case 'c':
            set->flow.contents = tool_number (name, optarg);
            break;
        case 'n':
            set->flow.count = tool_number (name, optarg);
            break;
        case 'T':
            set->flow.topics = (unsigned) tool_number (name, optarg);
            break;
        case 'p':
            set->flow.payload_bytes = tool_number (name, optarg);
            break;
        case 'l':
            set->flow.large = true;
            break;
        case 's':
            if (set->stream_count == STREAMS_MAX || tool_id_parse (optarg, &set->streams[set->stream_count++]) < 0)
                usage ();
            break;
        default:
            usage ();
        }
    }
    if (optind == argc || (argc - optind) % 2 != 0 || !set->stream_count)
        usage ();
    set->logs = argv + optind;
    set->log_count = (size_t) (argc - optind) / 2;
}

static int fact_add (struct oracle_log *log, const struct fm_id *stream, uint64_t seq, const struct flow_fact *made)
{
    char headers[2 * FLOW_HEADER_MAX + 4];
    struct oracle_fact fact = {
        .stream = *stream,
        .seq = seq,
        .topic = { made->topic, made->topic_len },
        .key = { made->key, made->key_len },
        .payload = { made->payload, made->payload_len },
    };

    if (made->header_name_len) {
        const int len = snprintf (headers, sizeof headers, "%.*s=%.*s\n", (int) made->header_name_len,
                                  made->header_name, (int) made->header_value_len, made->header_value);
        fact.headers = (struct fm_slice) { headers, (size_t) len };
    }
    return oracle_log_add (log, &fact);
}

static int published_make (const struct settings *set, struct oracle_log *log)
{
    static struct flow_fact made;

    for (unsigned i = 0; i < set->stream_count; i++) {
        struct flow flow = set->flow;
        flow.stream = i;
        for (uint64_t seq = 1; seq <= flow_total (&flow); seq++) {
            flow_make (&flow, seq, &made);
            const int rc = fact_add (log, &set->streams[i], seq, &made);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static int log_read (const char *path, struct oracle_log **ret_log)
{
    int rc = oracle_log_new (ret_log);

    if (rc == 0)
        rc = oracle_log_load (*ret_log, path);
    if (rc < 0)
        (void) fprintf (stderr, "flow_check: %s: %s\n", path, rc == FM_ERR_CORRUPT ? "not a log" : strerror (-rc));
    return rc;
}

/* One log against what was published, and against the first log, unless that is the one. Returns the faults, or 1 when
 * it cannot be read. */
static size_t log_check (const char *pattern, const char *path, const struct oracle_log *published,
                         struct oracle_log **first)
{
    struct oracle_log *log = NULL;
    size_t faults = 1;

    if (log_read (path, &log) == 0) {
        faults = oracle_compare (published, log, &pattern, 1, stdout);
        if (*first)
            faults += oracle_compare (*first, log, &pattern, 1, stdout);
        (void) printf ("CHECKED log=%s facts=%zu faults=%zu\n", path, oracle_log_count (log), faults);
    }
    if (!*first) {
        *first = log;
        log = NULL;
    }
    oracle_log_destroy (&log);
    return faults;
}

int main (int argc, char **argv)
{
    struct settings set;
    struct oracle_log *published = NULL, *first = NULL;
    size_t faults = 0;
    int status = 1;

    settings_parse (&set, argc, argv);
    if (oracle_log_new (&published) == 0 && published_make (&set, published) == 0) {
        for (size_t i = 0; i < set.log_count; i++)
            faults += log_check (set.logs[2 * i], set.logs[2 * i + 1], published, &first);
        status = faults ? 1 : 0;
    }
    oracle_log_destroy (&first);
    oracle_log_destroy (&published);
    return status;
}
