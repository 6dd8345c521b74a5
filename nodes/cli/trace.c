/* trace: the tree of causes and effects, corrections and responses around a fact. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "id.h"
#include "recorded.h"
#include "text.h"

static const char help[] =
    "usage: factmesh trace STREAM:SEQ [OPTION…]\n"
    "Print what led to a fact and what followed from it: the first cause on top, below each fact what it caused, what\n"
    "responded to it and what corrects it. The one that was asked for is marked with >.\n\n"
    "      --json               JSON, an object a line, parents first, with \"depth\" and \"parent\"\n"
    "      --max N              at most N facts [200]\n"
    "      --journal ID         from this journal; the first digits will do\n"
    "  --timeout is how long to wait for the journal [10s].\n\n"
    "Examples:\n"
    "  factmesh trace 8f14e45fceea167a5a36dedd4bea2543:17 --seed tcp://127.0.0.1:7400\n";

enum { OPT_JSON = OPT_OWN, OPT_MAX, OPT_JOURNAL, MAX_DEFAULT = 200, DEPTH_MAX = 32, UP_MAX = 64, PAYLOAD_SHOWN = 60 };

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON },
                                              { "max", required_argument, NULL, OPT_MAX },
                                              { "journal", required_argument, NULL, OPT_JOURNAL },
                                              COMMON_LONG };

struct trace {
    struct cli cli;
    bool json;
    const char *journal;
    uint64_t max;
    struct fm_fact_id asked;
    struct link link;
    struct text text;
    struct fm_fact_id *seen;                /* a hash table, sequence 0: free; at most half full */
    size_t seen_size, seen_count;           /* size: a power of two */
    bool cut;
};

static bool same (const struct fm_fact_id *a, const struct fm_fact_id *b)
{
    return a->seq == b->seq && id_equal (&a->stream, &b->stream);
}

/* Where the fact is, or the free place where it would be. */
static struct fm_fact_id *seen_place (const struct trace *t, const struct fm_fact_id *id)
{
    size_t at = (size_t) (id_hash (&id->stream) + id->seq * UINT64_C (0x9E3779B97F4A7C15)) & (t->seen_size - 1);
    while (t->seen[at].seq && !same (&t->seen[at], id))
        at = (at + 1) & (t->seen_size - 1);
    return &t->seen[at];
}

/* --- Printing. */

static void put_json (struct text *out, const struct recorded *r, const struct fm_fact *parent, const char *relation, unsigned depth)
{
    char id[FM_FACT_ID_TEXT];
    text_format (out, "{\"depth\":%u,\"relation\":\"%s\",\"id\":\"%s\"", depth, relation, fm_fact_id_text (&r->fact.id, id, sizeof id));
    if (parent)
        text_format (out, ",\"parent\":\"%s\"", fm_fact_id_text (&parent->id, id, sizeof id));
    text_format (out, ",\"offset\":%llu,", (unsigned long long) r->offset);
    text_put_json_member (out, "topic", r->fact.topic);
    text_put_byte (out, ',');
    text_put_json_member (out, "key", r->fact.key);
    text_put_byte (out, ',');
    text_put_json_member (out, "payload", r->fact.payload);
    text_put_cstr (out, "}\n");
}

static void put_line (struct trace *t, const struct recorded *r, const char *relation, unsigned depth)
{
    char id[FM_FACT_ID_TEXT], time[WHEN_TEXT];
    struct text *out = &t->text;
    text_put_cstr (out, same (&r->fact.id, &t->asked) ? "> " : "  ");
    for (unsigned i = 0; i < depth; i++)
        text_put_cstr (out, "   ");
    text_format (out, "%s%s", relation, *relation ? " " : "");
    text_put_printable (out, r->fact.topic);
    if (r->fact.key.len) {
        text_put_cstr (out, " [");
        text_put_printable (out, r->fact.key);
        text_put_byte (out, ']');
    }
    text_format (out, "  %.19sZ  %s  ", when_format (r->fact.time_ns, time), fm_fact_id_text (&r->fact.id, id, sizeof id));
    text_put_printable (out, slice (r->fact.payload.data, r->fact.payload.len < PAYLOAD_SHOWN ? r->fact.payload.len : PAYLOAD_SHOWN));
    text_put_cstr (out, r->fact.payload.len > PAYLOAD_SHOWN ? "…\n" : "\n");
}

static int print (struct trace *t, const struct recorded *r, const struct fm_fact *parent, const char *relation, unsigned depth)
{
    text_clear (&t->text);
    if (t->json)
        put_json (&t->text, r, parent, relation, depth);
    else
        put_line (t, r, relation, depth);
    return cli_print (&t->cli, &t->text);
}

/* --- Walking. */

static const char *relation_of (const struct fm_fact *parent, const struct recorded_link *l)
{
    if (l->kind == FACTMESH__LINK_KIND__LINK_CORRECTED)
        return "corrected:";
    const bool answers = parent->correlation.len && slice_equal (parent->correlation, l->recorded.fact.correlation) && parent->expires_ns;
    return answers ? "response:" : "caused:";
}

static int walk (struct trace *t, const struct recorded *r, const struct fm_fact *parent, const char *relation, unsigned depth)
{
    struct fm_fact_id *const place = seen_place (t, &r->fact.id);
    if (place->seq)
        return CLI_OK;
    if (t->seen_count == t->max) {
        t->cut = true;
        return CLI_OK;
    }
    *place = r->fact.id;
    t->seen_count++;
    int status = print (t, r, parent, relation, depth);
    if (status || depth == DEPTH_MAX) {
        t->cut |= depth == DEPTH_MAX;
        return status;
    }
    struct recorded_link *links;
    size_t count;
    bool more;
    status = recorded_links (&t->link, &r->fact.id, (size_t) (t->max - t->seen_count + 1), &links, &count, &more);
    if (status)
        return status;
    t->cut |= more;
    for (size_t i = 0; i < count; i++) {
        if (status == CLI_OK)
            status = walk (t, &links[i].recorded, &r->fact, relation_of (&r->fact, &links[i]), depth + 1);
        recorded_release (&links[i].recorded);
    }
    free (links);
    return status;
}

/* The first cause, as far as it is recorded. */
static int climb (struct trace *t, struct recorded *r)
{
    for (unsigned i = 0; i < UP_MAX; i++) {
        const struct fm_fact_id up = id_is_zero (&r->fact.corrects.stream) ? r->fact.causation : r->fact.corrects;
        struct recorded parent;
        bool found;
        if (id_is_zero (&up.stream))
            return CLI_OK;
        const int status = recorded_get (&t->link, &up, NULL, NULL, &parent, &found);
        if (status)
            return status;
        if (!found)
            return CLI_OK;
        recorded_release (r);
        *r = parent;
    }
    t->cut = true;
    return CLI_OK;
}

static int run (struct trace *t)
{
    struct recorded r;
    bool found;
    int status = recorded_get (&t->link, &t->asked, NULL, NULL, &r, &found);
    if (status)
        return status;
    if (!found)
        return cli_error (&t->cli, "that fact is not recorded here (any more)");
    for (t->seen_size = 1; t->seen_size < 2 * t->max;)
        t->seen_size *= 2;
    t->seen = calloc (t->seen_size, sizeof *t->seen);
    status = t->seen ? climb (t, &r) : cli_error (&t->cli, "no memory");
    if (status == CLI_OK)
        status = walk (t, &r, NULL, "", 0);
    recorded_release (&r);
    free (t->seen);
    if (t->cut && status == CLI_OK)
        cli_say (&t->cli, "there is more than is shown; --max N shows more");
    return status;
}

int command_trace (int argc, char **argv)
{
    struct trace t = { .max = MAX_DEFAULT };
    cli_init (&t.cli, "trace", help, argv);
    int option;
    while ((option = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        int status = -1;
        if (option == OPT_JSON)
            t.json = true;
        else if (option == OPT_JOURNAL)
            t.journal = optarg;
        else if (option == OPT_MAX)
            status = cli_number (&t.cli, "--max", optarg, 1, 1000000, &t.max) ? CLI_USAGE : -1;
        else
            status = cli_option (&t.cli, option, optarg);
        if (status >= 0)
            return status;
    }
    if (argc - optind != 1 || fm_fact_id_parse (argv[optind], &t.asked) != 0)
        return cli_usage (&t.cli, "which fact? Write STREAM:SEQ, as --long and --json print it");
    int status = link_open (&t.link, &t.cli, t.journal);
    if (status == CLI_OK) {
        status = run (&t);
        link_close (&t.link);
    }
    text_release (&t.text);
    return cli_done (&t.cli, status);
}
