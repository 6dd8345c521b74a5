/* group: lists, shows and steers the groups whose instances share work. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "commands.h"
#include "id.h"
#include "link.h"
#include "text.h"

static const char help[] =
    "usage: factmesh group ls [OPTION…]\n"
    "       factmesh group show|pause|resume|rm GROUP [OPTION…]\n"
    "       factmesh group parked GROUP [OPTION…]\n"
    "       factmesh group replay GROUP [OFFSET…]\n"
    "       factmesh group drop GROUP OFFSET…\n"
    "       factmesh group seek GROUP WHERE [--again]\n"
    "The groups whose instances share work (factmesh work), as their journal keeps them.\n\n"
    "  ls      all of them: where they stand, what is in hand, waits, is parked\n"
    "  show    one, with its instances\n"
    "  pause   hand nothing out; resume goes on\n"
    "  parked  the facts that were put aside, with the reason\n"
    "  replay  hand parked facts out again (no OFFSET: all)\n"
    "  drop    give parked facts up for good\n"
    "  seek    set its place: start, end, @TIME, offset:N. Back: handlers that are idempotent get the facts again, marked\n"
    "          as replayed; those that run once do not, unless --again says that what they did counts as not done.\n"
    "          Forward: what lies between is left out\n"
    "  rm      forget it; its instances must have gone. A group of that name then begins anew\n\n"
    "      --again              with seek: see there\n"
    "      --json               JSON, an object a line\n"
    "      --journal ID         at this journal; the first digits will do\n"
    "  --timeout is how long to wait for the journal [10s].\n\n"
    "Examples:\n"
    "  factmesh group ls --seed tcp://127.0.0.1:7400\n"
    "  factmesh group parked fulfilment\n"
    "  factmesh group replay fulfilment 4711\n";

enum { OPT_JSON = OPT_OWN, OPT_JOURNAL, OPT_AGAIN, GROUP_PAGE = 256, PARKED_PAGE = 100 };

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON },
                                              { "journal", required_argument, NULL, OPT_JOURNAL },
                                              { "again", no_argument, NULL, OPT_AGAIN },
                                              COMMON_LONG };

struct group_command {
    struct cli cli;
    bool json, again;
    const char *journal;
    struct when where;                  /* seek */
    uint64_t *offsets;                  /* replay, drop */
    struct link link;
    struct text text;
};

static const char *effect_name (Factmesh__Effect effect)
{
    static const char *const names[] = { "undeclared", "idempotent", "once", "once-per-version", "on-correction" };
    return (size_t) effect < sizeof names / sizeof names[0] ? names[effect] : "?";
}

static int request (struct group_command *c, Factmesh__Control *control, const Factmesh__GroupReply **ret_reply)
{
    Factmesh__Control *reply;
    const int status = link_request (&c->link, control, FACTMESH__CONTROL__BODY_GROUP_REPLY, &reply);
    if (status == CLI_OK)
        *ret_reply = reply->group_reply;
    return status;
}

static int command (struct group_command *c, Factmesh__GroupCommand *body, const Factmesh__GroupReply **ret_reply)
{
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_COMMAND;
    control.group_command = body;
    return request (c, &control, ret_reply);
}

/* --- Printing. */

static void put_filters (struct text *t, const Factmesh__GroupConfig *config)
{
    for (size_t i = 0; config && i < config->n_filters; i++) {
        if (i)
            text_put_byte (t, ',');
        text_put_printable (t, control_get_slice (&config->filters[i]));
    }
    if (!config || !config->n_filters)
        text_put_byte (t, '>');
}

static void put_number (struct text *t, const char *name, uint64_t value)
{
    text_format (t, ",\"%s\":%llu", name, (unsigned long long) value);
}

static void put_json_members (struct text *t, const Factmesh__GroupInfo *g)
{
    char id[ID_TEXT_LEN + 1];
    text_put_cstr (t, ",\"instances\":[");
    for (size_t i = 0; i < g->n_members; i++) {
        const Factmesh__GroupMember *m = g->members[i];
        struct fm_id node = { { 0 } };
        (void) control_get_id (&m->node, &node); /* zero when it is none */
        text_put_cstr (t, i ? ",{" : "{");
        text_put_json_member (t, "name", control_get_slice (&m->instance));
        text_format (t, ",\"node\":\"%s\"", id_text (&node, id));
        put_number (t, "in_hand", m->in_hand);
        put_number (t, "credit", m->credit);
        put_number (t, "done", m->done);
        text_put_byte (t, '}');
    }
    text_put_byte (t, ']');
}

static void put_json (struct text *t, const Factmesh__GroupInfo *g)
{
    text_put_byte (t, '{');
    text_put_json_member (t, "group", control_get_slice (&g->group));
    text_put_cstr (t, ",\"topics\":[");
    for (size_t i = 0; g->config && i < g->config->n_filters; i++) {
        if (i)
            text_put_byte (t, ',');
        text_put_json (t, control_get_slice (&g->config->filters[i]));
    }
    text_format (t, "],\"effect\":\"%s\"", effect_name (g->config ? g->config->effect : FACTMESH__EFFECT__EFFECT_UNDECLARED));
    put_number (t, "offset", g->next_offset);
    put_number (t, "behind", g->behind);
    put_number (t, "unfinished", g->unfinished);
    put_number (t, "in_hand", g->in_hand);
    put_number (t, "later", g->later);
    put_number (t, "parked", g->parked);
    text_format (t, ",\"paused\":%s", g->paused ? "true" : "false");
    put_json_members (t, g);
    text_put_cstr (t, "}\n");
}

static int print_row (struct group_command *c, const Factmesh__GroupInfo *g)
{
    text_clear (&c->text);
    if (c->json) {
        put_json (&c->text, g);
        return cli_print (&c->cli, &c->text);
    }
    text_put_printable (&c->text, control_get_slice (&g->group));
    while (c->text.len < 24 && !c->text.failed)
        text_put_byte (&c->text, ' ');
    text_format (&c->text, " %10llu %10llu %8llu %8llu %8llu %9zu  %-16s ", (unsigned long long) g->behind, (unsigned long long) g->unfinished,
                 (unsigned long long) g->in_hand, (unsigned long long) g->later, (unsigned long long) g->parked, g->n_members,
                 g->paused ? "paused" : effect_name (g->config ? g->config->effect : FACTMESH__EFFECT__EFFECT_UNDECLARED));
    put_filters (&c->text, g->config);
    text_put_byte (&c->text, '\n');
    return cli_print (&c->cli, &c->text);
}

static int print_whole (struct group_command *c, const Factmesh__GroupInfo *g)
{
    text_clear (&c->text);
    if (c->json) {
        put_json (&c->text, g);
        return cli_print (&c->cli, &c->text);
    }
    text_put_cstr (&c->text, "group       ");
    text_put_printable (&c->text, control_get_slice (&g->group));
    text_put_cstr (&c->text, "\ntopics      ");
    put_filters (&c->text, g->config);
    text_format (&c->text, "\neffect      %s\nlease       %u ms, parked after %u attempts\n", effect_name (g->config ? g->config->effect : FACTMESH__EFFECT__EFFECT_UNDECLARED),
                 g->config ? g->config->lease_ms : 0, g->config ? g->config->attempts_max : 0);
    text_format (&c->text, "offset      %llu, %llu behind the end%s\nunfinished  %llu, of these %llu in hand, %llu to be tried later\nparked      %llu\n",
                 (unsigned long long) g->next_offset, (unsigned long long) g->behind, g->paused ? "; paused" : "", (unsigned long long) g->unfinished,
                 (unsigned long long) g->in_hand, (unsigned long long) g->later, (unsigned long long) g->parked);
    for (size_t i = 0; i < g->n_members; i++) {
        text_put_cstr (&c->text, "instance    ");
        text_put_printable (&c->text, control_get_slice (&g->members[i]->instance));
        text_format (&c->text, ": %u in hand, %llu done\n", g->members[i]->in_hand, (unsigned long long) g->members[i]->done);
    }
    return cli_print (&c->cli, &c->text);
}

/* --- Verbs. */

static int list (struct group_command *c)
{
    char after[GROUP_NAME_MAX + 1] = "";
    bool more = true, first = true;
    int status = CLI_OK;
    while (more && status == CLI_OK) {
        Factmesh__GroupList body = FACTMESH__GROUP_LIST__INIT;
        body.after = control_put_slice (slice_of (after));
        body.limit = GROUP_PAGE;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_GROUP_LIST;
        control.group_list = &body;
        const Factmesh__GroupReply *r;
        status = request (c, &control, &r);
        if (status)
            break;
        if (first && !c->json && r->n_groups)
            (void) printf ("%-24s %10s %10s %8s %8s %8s %9s  %-16s %s\n", "GROUP", "BEHIND", "UNFINISHED", "IN-HAND", "LATER", "PARKED", "INSTANCES", "EFFECT", "TOPICS");
        first = false;
        for (size_t i = 0; i < r->n_groups && status == CLI_OK; i++)
            status = print_row (c, r->groups[i]);
        more = r->more && r->n_groups;
        if (more) {
            const struct fm_slice name = control_get_slice (&r->groups[r->n_groups - 1]->group);
            if (name.len == 0 || name.len > GROUP_NAME_MAX)
                return cli_error (&c->cli, "the journal's answer names a group of %zu bytes", name.len);
            memcpy (after, name.data, name.len);
            after[name.len] = 0;
        }
    }
    return status;
}

static int act (struct group_command *c, const char *name, Factmesh__GroupCommand *body)
{
    const Factmesh__GroupReply *r;
    body->group = control_put_slice (slice_of (name));
    const int status = command (c, body, &r);
    if (status || body->action == FACTMESH__GROUP_ACTION__GROUP_DELETE || (c->cli.quiet && body->action != FACTMESH__GROUP_ACTION__GROUP_SHOW))
        return status;
    if (r->n_groups != 1)
        return cli_error (&c->cli, "the journal's answer is of %zu groups", r->n_groups);
    return print_whole (c, r->groups[0]);
}

static void put_fact (struct text *t, const Factmesh__ParkedFact *p, struct batch_scratch *scratch, bool json)
{
    struct batch b;
    struct batch_reader reader;
    struct fm_fact fact;
    const bool decoded = p->batch.len && batch_decode (p->batch.data, p->batch.len, slice (NULL, 0), scratch, &b) == 0;
    if (decoded)
        batch_reader_init (&reader, &b);
    if (!decoded || batch_reader_next (&reader, &fact) != 0) {
        text_put_cstr (t, json ? ",\"expired\":true" : "(its content has expired)");
        return;
    }
    if (json) {
        text_put_byte (t, ',');
        text_put_json_member (t, "topic", fact.topic);
        text_put_byte (t, ',');
        text_put_json_member (t, "key", fact.key);
        text_put_byte (t, ',');
        text_put_json_member (t, "payload", fact.payload);
        return;
    }
    text_put_printable (t, fact.topic);
    text_put_cstr (t, "  ");
    text_put_printable (t, fact.payload);
}

static void put_parked (struct group_command *c, const Factmesh__ParkedFact *p, struct batch_scratch *scratch)
{
    char time[WHEN_TEXT], id[FM_FACT_ID_TEXT] = "";
    struct fm_fact_id fact;
    if (p->fact && control_get_id (&p->fact->stream, &fact.stream) == 0) {
        fact.seq = p->fact->seq;
        (void) fm_fact_id_text (&fact, id, sizeof id);
    }
    struct text *t = &c->text;
    text_clear (t);
    if (c->json) {
        text_format (t, "{\"offset\":%llu,\"id\":\"%s\",\"attempts\":%u,\"deliveries\":%u,\"parked\":\"%s\",", (unsigned long long) p->offset, id, p->attempts, p->deliveries,
                     when_format (p->parked_ns, time));
        text_put_json_member (t, "reason", control_get_slice (&p->reason));
        put_fact (t, p, scratch, true);
        text_put_cstr (t, "}\n");
        return;
    }
    text_format (t, "%llu  %s  %.19sZ  %u attempts: ", (unsigned long long) p->offset, id, when_format (p->parked_ns, time), p->attempts);
    text_put_printable (t, control_get_slice (&p->reason));
    text_put_cstr (t, "\n    ");
    put_fact (t, p, scratch, false);
    text_put_byte (t, '\n');
}

static int parked (struct group_command *c, const char *name)
{
    struct batch_scratch scratch = { .topics = NULL };
    int status = CLI_OK;
    uint64_t after = 0;
    for (bool more = true; more && status == CLI_OK;) {
        Factmesh__GroupCommand body = FACTMESH__GROUP_COMMAND__INIT;
        body.group = control_put_slice (slice_of (name));
        body.parked_after = after;
        body.parked_limit = PARKED_PAGE;
        const Factmesh__GroupReply *r;
        status = command (c, &body, &r);
        if (status)
            break;
        const Factmesh__GroupInfo *g = r->n_groups ? r->groups[0] : NULL;
        for (size_t i = 0; g && i < g->n_parked_facts && status == CLI_OK; i++) {
            put_parked (c, g->parked_facts[i], &scratch);
            after = g->parked_facts[i]->offset;
            status = cli_print (&c->cli, &c->text);
        }
        more = r->more && g && g->n_parked_facts;
    }
    batch_scratch_release (&scratch);
    return status;
}

static int seek (struct group_command *c, const char *name)
{
    const struct when *const where = &c->where;
    Factmesh__GroupCommand body = FACTMESH__GROUP_COMMAND__INIT;
    body.action = FACTMESH__GROUP_ACTION__GROUP_SEEK;
    body.again = c->again;
    if (where->kind == WHEN_TIME)
        body.time_ns = where->value;
    else
        body.offset = where->kind == WHEN_START ? 1 : where->kind == WHEN_END ? UINT64_MAX : where->value;
    return act (c, name, &body);
}

static int with_offsets (struct group_command *c, const char *name, Factmesh__GroupAction action, int count)
{
    Factmesh__GroupCommand body = FACTMESH__GROUP_COMMAND__INIT;
    body.action = action;
    body.offsets = c->offsets;
    body.n_offsets = (size_t) count;
    return act (c, name, &body);
}

static const struct verb {
    const char *name;
    int min, max;
    const char *usage;
    Factmesh__GroupAction action;
} verbs[] = {
    { "ls", 0, 0, "ls", FACTMESH__GROUP_ACTION__GROUP_SHOW },
    { "show", 1, 1, "show GROUP", FACTMESH__GROUP_ACTION__GROUP_SHOW },
    { "parked", 1, 1, "parked GROUP", FACTMESH__GROUP_ACTION__GROUP_SHOW },
    { "pause", 1, 1, "pause GROUP", FACTMESH__GROUP_ACTION__GROUP_PAUSE },
    { "resume", 1, 1, "resume GROUP", FACTMESH__GROUP_ACTION__GROUP_RESUME },
    { "rm", 1, 1, "rm GROUP", FACTMESH__GROUP_ACTION__GROUP_DELETE },
    { "replay", 1, 1 << 16, "replay GROUP [OFFSET…]", FACTMESH__GROUP_ACTION__GROUP_REPLAY_PARKED },
    { "drop", 2, 1 << 16, "drop GROUP OFFSET…", FACTMESH__GROUP_ACTION__GROUP_DROP_PARKED },
    { "seek", 2, 2, "seek GROUP WHERE", FACTMESH__GROUP_ACTION__GROUP_SEEK },
};

static int run (struct group_command *c, const struct verb *verb, char **args, int count)
{
    if (strcmp (verb->name, "ls") == 0)
        return list (c);
    if (strcmp (verb->name, "parked") == 0)
        return parked (c, args[0]);
    if (strcmp (verb->name, "seek") == 0)
        return seek (c, args[0]);
    return with_offsets (c, args[0], verb->action, count - 1);
}

/* What stands behind the group's name. -1: right; otherwise the exit status. */
static int take_place (struct group_command *c, const char *text)
{
    static const char forms[] = "start, end, @TIME or offset:N";
    if (cli_where (&c->cli, "seek", text, forms, &c->where))
        return CLI_USAGE;
    if (c->where.kind == WHEN_CURSOR || c->where.kind == WHEN_LAST || c->where.kind == WHEN_LATEST)
        return cli_usage (&c->cli, "seek: '%s': write %s", text, forms);
    return -1;
}

static int take_offsets (struct group_command *c, char **args, int count)
{
    c->offsets = calloc ((size_t) count, sizeof *c->offsets);
    if (!c->offsets)
        return cli_error (&c->cli, "no memory");
    for (int i = 0; i < count; i++)
        if (cli_number (&c->cli, "OFFSET", args[i], 1, UINT64_MAX, &c->offsets[i]))
            return CLI_USAGE;
    return -1;
}

static const struct verb *find_verb (const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp (verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

int command_group (int argc, char **argv)
{
    struct group_command c = { .json = false };
    cli_init (&c.cli, "group", help, argv);
    int option;
    while ((option = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        int status = -1;
        if (option == OPT_JSON)
            c.json = true;
        else if (option == OPT_AGAIN)
            c.again = true;
        else if (option == OPT_JOURNAL)
            c.journal = optarg;
        else
            status = cli_option (&c.cli, option, optarg);
        if (status >= 0)
            return status;
    }
    if (optind == argc)
        return cli_usage (&c.cli, "what? write ls, show, parked, replay, drop, seek, pause, resume or rm");
    const struct verb *const verb = find_verb (argv[optind]);
    const int count = argc - optind - 1;
    if (!verb)
        return cli_usage (&c.cli, "'%s': write ls, show, parked, replay, drop, seek, pause, resume or rm", argv[optind]);
    if (count < verb->min || count > verb->max)
        return cli_usage (&c.cli, "usage: factmesh group %s", verb->usage);
    if (c.again && strcmp (verb->name, "seek") != 0)
        return cli_usage (&c.cli, "--again goes with seek");
    char **const args = argv + optind + 1;
    int status = -1;
    if (verb->action == FACTMESH__GROUP_ACTION__GROUP_SEEK)
        status = take_place (&c, args[1]);
    else if (count > 1)
        status = take_offsets (&c, args + 1, count - 1);
    if (status < 0)
        status = link_open (&c.link, &c.cli, c.journal);
    if (status == CLI_OK) {
        status = run (&c, verb, args, count);
        link_close (&c.link);
    }
    free (c.offsets);
    text_release (&c.text);
    return cli_done (&c.cli, status);
}
