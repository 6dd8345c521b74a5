/* get: prints the newest fact of a key, or one fact by its name. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "error.h"
#include "format_options.h"
#include "recorded.h"
#include "topic.h"

static const char help[] =
    "usage: factmesh get TOPIC KEY [OPTION…]\n"
    "       factmesh get STREAM:SEQ [OPTION…]\n"
    "Print the newest recorded fact of a topic with that key, or one fact by its name. Ends with 1 when there is none: nobody\n"
    "published one, a tombstone removed it, or it has expired.\n\n"
    "      --journal ID         from this journal; the first digits will do\n"
    "  --timeout is how long to wait for the journal [10s].\n" FORMAT_HELP "\n"
    "Examples:\n"
    "  factmesh get customers.address 4711 --seed tcp://127.0.0.1:7400\n"
    "  factmesh get 8f14e45fceea167a5a36dedd4bea2543:17 --json\n";

enum { OPT_JOURNAL = OPT_FORMAT_OWN };

static const struct option long_options[] = { FORMAT_LONG, { "journal", required_argument, NULL, OPT_JOURNAL }, COMMON_LONG };

struct get {
    struct cli cli;
    struct output_options format;
    const char *journal, *topic, *key;
    bool by_name;
    struct fm_fact_id id;
    struct link link;
    struct output *out;
};

static int parse (struct get *g, int argc, char **argv)
{
    cli_init (&g->cli, "get", help, argv);
    g->format.fd = STDOUT_FILENO;
    g->format.interrupted = cli_is_signalled;
    g->format.offsets = true;
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT FORMAT_SHORT, long_options, NULL)) != -1) {
        int status = -2;
        if (c == OPT_JOURNAL) {
            g->journal = optarg;
            continue;
        }
        status = format_option (&g->cli, &g->format, c, optarg);
        if (status == -2)
            status = cli_option (&g->cli, c, optarg);
        if (status >= 0)
            return status;
    }
    const int count = argc - optind;
    g->by_name = count == 1;
    if (g->by_name && fm_fact_id_parse (argv[optind], &g->id) != 0)
        return cli_usage (&g->cli, "'%s': write TOPIC KEY, or STREAM:SEQ", argv[optind]);
    if (count != 1 && count != 2)
        return cli_usage (&g->cli, "usage: factmesh get TOPIC KEY, or factmesh get STREAM:SEQ");
    if (!g->by_name && topic_check (slice_of (argv[optind])) != 0)
        return cli_usage (&g->cli, "%s", fm_error_detail ());
    g->topic = argv[optind];
    g->key = argv[optind + 1];
    return -1;
}

static int print (struct get *g)
{
    struct recorded r = { .bytes = NULL };
    bool found;
    int status = recorded_get (&g->link, g->by_name ? &g->id : NULL, g->topic, g->key, &r, &found);
    if (status)
        return status;
    if (!found)
        return g->by_name ? cli_error (&g->cli, "%s is not recorded here (any more)", g->topic)
                          : cli_error (&g->cli, "%s has no fact with the key '%s'", g->topic, g->key);
    int rc = output_fact (g->out, &r.fact, r.offset);
    if (!rc)
        rc = output_flush (g->out);
    recorded_release (&r);
    return rc < 0 ? format_output_failed (&g->cli, rc) : CLI_OK;
}

int command_get (int argc, char **argv)
{
    struct get g = { .by_name = false };
    int status = parse (&g, argc, argv);
    if (status >= 0)
        return status;
    const int rc = output_new (&g.format, &g.out);
    if (rc < 0)
        return rc == FM_ERR_ARGUMENT ? cli_usage (&g.cli, "%s", fm_error_detail ()) : cli_fail (&g.cli, rc, "output");
    status = link_open (&g.link, &g.cli, g.journal);
    if (status == CLI_OK) {
        status = print (&g);
        link_close (&g.link);
    }
    output_destroy (&g.out);
    return status;
}
