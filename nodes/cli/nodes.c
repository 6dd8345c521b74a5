/* nodes: lists the nodes of the mesh. */

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "id.h"
#include "options.h"
#include "text.h"
#include "when.h"

static const char help[] =
    "usage: factmesh nodes [OPTION…]\n"
    "List the nodes of the mesh, as a node that joins it learns of them.\n\n"
    "      --wait N             wait until N nodes are there beside this one, and end with 3 when they don't come\n"
    "      --json               a JSON object a line\n"
    "  --timeout is how long to wait for the first (with --wait: for N) [10s].\n\n"
    "Examples:\n"
    "  factmesh nodes --seed tcp://127.0.0.1:7400\n"
    "  factmesh nodes --wait 3 --timeout 30s --quiet && echo all here\n";

enum { OPT_JSON = OPT_OWN, OPT_WAIT };
enum {
    NODES_TIMEOUT_MS = 10000,
    NODES_SETTLE_MS = 500 /* no further node for so long: these are all */
};

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON },
                                              { "wait", required_argument, NULL, OPT_WAIT },
                                              COMMON_LONG };

struct nodes {
    struct cli cli;
    bool json;
    unsigned count;
    struct text text;
    uint64_t now_ns;
};

static int count_member (void *arg, const struct fm_member *m)
{
    struct nodes *n = arg;
    if (!m->self)
        n->count++;
    return 0;
}

static void put_json (struct nodes *n, const struct fm_member *m, const char *id, const char *journal,
                      const char *started)
{
    struct text *const t = &n->text;
    text_put_cstr (t, "{\"node\":\"");
    text_put_cstr (t, id);
    text_put_cstr (t, "\",");
    text_put_json_member (t, "name", fm_text (m->name));
    text_put_byte (t, ',');
    text_put_json_member (t, "control", fm_text (m->control));
    text_put_byte (t, ',');
    text_put_json_member (t, "live", fm_text (m->live));
    if (m->is_journal) {
        text_put_cstr (t, ",\"journal\":\"");
        text_put_cstr (t, journal);
        text_put_cstr (t, "\",\"generation\":");
        text_put_u64 (t, m->generation);
    }
    text_format (t, ",\"streams\":%u,\"silent_ms\":%u,\"started\":\"%s\"}\n", m->streams, m->silent_ms, started);
}

static int put_member (void *arg, const struct fm_member *m)
{
    struct nodes *n = arg;
    char id[ID_TEXT_LEN + 1], journal[ID_TEXT_LEN + 1], started[WHEN_TEXT];
    if (m->self)
        return 0;
    id_text (&m->node, id);
    id_text (&m->journal, journal);
    when_format (m->started_ns, started);
    if (n->json) {
        put_json (n, m, id, journal, started);
        return 0;
    }
    text_format (&n->text, "%-24s %-8s %7u  %-28s %.19sZ  %s%s\n", m->name, m->is_journal ? "journal" : "node",
                 m->streams, m->control, started, m->is_journal ? "journal " : "", m->is_journal ? journal : id);
    return 0;
}

/* Let members come until no further one does. */
static int settle (struct nodes *n, struct fm_node *node, uint64_t wait_for)
{
    const int timeout_ms = cli_timeout (&n->cli, NODES_TIMEOUT_MS);
    const unsigned first = wait_for ? (unsigned) wait_for + 1 : 2; /* this node counts too */
    const int rc = fm_node_wait_members (node, first, timeout_ms);
    n->count = 0;
    (void) fm_node_members (node, count_member, n);
    if (rc == FM_TIMEOUT && wait_for) {
        const char *seeds = strchr (fm_error_detail (), ';');      /* those that do not answer, and why */
        (void) cli_error (&n->cli, "timed out: %u of %u nodes are there after %d ms%s", n->count, first - 1, timeout_ms, seeds ? seeds : "");
        return CLI_TIMEOUT;
    }
    if (rc < 0)
        return cli_fail (&n->cli, rc, "no node");
    for (unsigned known = 0; !wait_for && known != n->count;) {
        known = n->count;
        (void) fm_node_wait_members (node, known + 2, NODES_SETTLE_MS);
        n->count = 0;
        (void) fm_node_members (node, count_member, n);
    }
    return CLI_OK;
}

int command_nodes (int argc, char **argv)
{
    struct nodes n = { .json = false };
    uint64_t wait_for = 0;
    cli_init (&n.cli, "nodes", help, argv);
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        int status = -1;
        if (c == OPT_JSON)
            n.json = true;
        else if (c == OPT_WAIT)
            status = cli_number (&n.cli, "--wait", optarg, 1, 4096, &wait_for) ? CLI_USAGE : -1;
        else
            status = cli_option (&n.cli, c, optarg);
        if (status >= 0)
            return status;
    }
    if (optind != argc)
        return cli_usage (&n.cli, "no argument is taken: '%s'", argv[optind]);
    struct fm_node *node = NULL;
    int status = cli_open_node (&n.cli, &node);
    if (status == CLI_OK)
        status = settle (&n, node, wait_for);
    if (status == CLI_OK && !n.cli.quiet) {
        if (!n.json)
            (void) printf ("%-24s %-8s %7s  %-28s %-20s  %s\n", "NAME", "KIND", "STREAMS", "ADDRESS", "STARTED", "ID");
        (void) fm_node_members (node, put_member, &n);
        status = cli_print (&n.cli, &n.text);
    }
    fm_node_close (&node);
    text_release (&n.text);
    return cli_done (&n.cli, status);
}
