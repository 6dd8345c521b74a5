/* correct: publishes the whole new content of a fact that was wrong. */

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "error.h"
#include "id.h"
#include "input.h"
#include "recorded.h"
#include "stream_pool.h"

static const char help[] =
    "usage: factmesh correct STREAM:SEQ [TEXT] [OPTION…]\n"
    "Publish a correction: a fact with the whole new content (TEXT, or else standard input), on the same topic, with the same\n"
    "key and type, that names the fact it corrects. The wrong one stays; handlers that run once for an order do not run\n"
    "again, those for each version do. Ends when a journal has it on disk; prints its id, STREAM:SEQ.\n\n"
    "      --stream NAME        publish on that stream [as factmesh pub]\n"
    "  --timeout is how long to wait for the journal [10s].\n\n"
    "Examples:\n"
    "  factmesh correct 8f14e45fceea167a5a36dedd4bea2543:17 '{\"order\":4711,\"address\":\"12 Hill Rd\"}' --seed tcp://127.0.0.1:7400\n";

enum { OPT_STREAM = OPT_OWN, CORRECT_TIMEOUT_MS = 10000, CHAIN_MAX = 64, CONTENT_MAX = 64 << 20 };

static const struct option long_options[] = { { "stream", required_argument, NULL, OPT_STREAM }, COMMON_LONG };

struct correct {
    struct cli cli;
    const char *stream, *text, *wrong_text;
    struct fm_fact_id wrong;
    struct link link;
    struct input *in;
};

/* The fact must be there, and so must what it corrects itself. */
static int check_chain (struct correct *c, const struct recorded *wrong)
{
    struct fm_fact_id id = wrong->fact.corrects;
    char text[FM_FACT_ID_TEXT];
    for (unsigned i = 0; i < CHAIN_MAX - 1; i++) {
        struct recorded earlier;
        bool found;
        if (id_is_zero (&id.stream))
            return CLI_OK;
        const int status = recorded_get (&c->link, &id, NULL, NULL, &earlier, &found);
        if (status)
            return status;
        if (!found)
            return cli_error (&c->cli, "%s corrects %s, which is not recorded here: what would be the whole?", c->wrong_text, fm_fact_id_text (&id, text, sizeof text));
        id = earlier.fact.corrects;
        recorded_release (&earlier);
    }
    return cli_error (&c->cli, "%s is the last of %d corrections, or of a circle of them; publish a new fact instead", c->wrong_text, (int) CHAIN_MAX);
}

static int read_content (struct correct *c, struct fm_slice *ret_content)
{
    if (c->text) {
        *ret_content = fm_text (c->text);
        return CLI_OK;
    }
    const struct input_options options = { .record_max = CONTENT_MAX, .wake_fd = cli_signal_fd (), .idle_ms = -1 };
    struct input_record record;
    int rc = input_open ("-", &options, &c->in);
    if (!rc)
        rc = input_whole (c->in, &record);
    if (rc < 0)
        return cli_fail (&c->cli, rc, "the new content");
    *ret_content = record.payload;
    return CLI_OK;
}

static int publish (struct correct *c, const struct recorded *wrong, struct fm_slice content)
{
    struct fm_publisher_options options = { .name = c->cli.name, .payload_max = CONTENT_MAX };
    struct fm_publisher *publisher = NULL;
    struct fm_fact_id id;
    char text[FM_FACT_ID_TEXT];
    const struct fm_fact fact = {
        .topic = wrong->fact.topic, .key = wrong->fact.key, .type = wrong->fact.type, .content_type = wrong->fact.content_type, .schema = wrong->fact.schema,
        .correlation = wrong->fact.correlation, .corrects = wrong->fact.id, .payload = content,
    };
    const int timeout_ms = cli_timeout (&c->cli, CORRECT_TIMEOUT_MS);
    int rc = stream_pool_open (c->link.node, c->cli.mesh ? c->cli.mesh : "default", c->stream, &options, &publisher);
    if (!rc)
        rc = fm_publish (publisher, &fact, &id);
    if (!rc)
        rc = fm_publisher_wait_synced (publisher, 0, timeout_ms);
    fm_publisher_close (&publisher);
    if (rc < 0)
        return cli_fail (&c->cli, rc, "the correction may not be recorded");
    (void) printf ("%s\n", fm_fact_id_text (&id, text, sizeof text));
    return cli_done (&c->cli, CLI_OK);
}

static int run (struct correct *c)
{
    struct recorded wrong;
    struct fm_slice content = { NULL, 0 };
    bool found;
    int status = recorded_get (&c->link, &c->wrong, NULL, NULL, &wrong, &found);
    if (status)
        return status;
    if (!found)
        return cli_error (&c->cli, "%s is not recorded here (any more): there is nothing to correct", c->wrong_text);
    status = check_chain (c, &wrong);
    if (status == CLI_OK)
        status = read_content (c, &content);
    if (status == CLI_OK)
        status = publish (c, &wrong, content);
    recorded_release (&wrong);
    input_destroy (&c->in);
    return status;
}

int command_correct (int argc, char **argv)
{
    struct correct c = { .text = NULL };
    cli_init (&c.cli, "correct", help, argv);
    int option;
    while ((option = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        if (option == OPT_STREAM) {
            c.stream = optarg;
            continue;
        }
        const int status = cli_option (&c.cli, option, optarg);
        if (status >= 0)
            return status;
    }
    if (argc - optind < 1 || argc - optind > 2 || fm_fact_id_parse (argv[optind], &c.wrong) != 0)
        return cli_usage (&c.cli, "usage: factmesh correct STREAM:SEQ [TEXT]");
    c.wrong_text = argv[optind];
    c.text = argv[optind + 1];
    int status = cli_catch_signals (&c.cli);
    if (status == CLI_OK)
        status = link_open (&c.link, &c.cli, NULL);
    if (status == CLI_OK) {
        status = run (&c);
        link_close (&c.link);
    }
    return status;
}
