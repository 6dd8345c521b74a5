/* cursor: lists, shows, moves and deletes the places where subscribers are. */

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "cursor_next.h"
#include "id.h"
#include "link.h"
#include "text.h"

static const char help[] =
    "usage: factmesh cursor ls [OPTION…]\n"
    "       factmesh cursor show NAME [OPTION…]\n"
    "       factmesh cursor seek NAME WHERE|--skip N|--past STREAM:SEQ [OPTION…]\n"
    "       factmesh cursor rm NAME… [OPTION…]\n"
    "The durable places where subscribers are (factmesh sub --cursor NAME).\n\n"
    "  ls      all of them: name, offset, how far behind the end, when it moved, of which topics\n"
    "  show    one, with the sequence that it is at in each stream, and the next fact that its subscriber gets\n"
    "  seek    create or move: WHERE is start, end, -100 (100 facts before the end), @TIME, offset:N.\n"
    "          End its subscriber first: a running one moves it again.\n"
    "          --skip and --past step over facts that its subscriber cannot take, and over nothing else\n"
    "  rm      delete; its subscriber begins anew\n\n"
    "      --json               JSON, an object a line\n"
    "      --journal ID         at this journal; the first digits will do\n"
    "      --next N             show so many of the facts to come [1; with --json 0]\n"
    "      --skip N             step over the next N facts\n"
    "      --past STREAM:SEQ    step over this fact; others of its stream before it must be done, or --force is given\n"
    "  --timeout is how long to wait for the journal [10s].\n\n"
    "Examples:\n"
    "  factmesh cursor ls --seed tcp://127.0.0.1:7400\n"
    "  factmesh cursor seek billing @2026-11-01T10:00\n"
    "  factmesh cursor show billing && factmesh cursor seek billing --skip 1\n";

enum { OPT_JSON = OPT_OWN, OPT_JOURNAL, OPT_NEXT, OPT_SKIP, OPT_PAST, OPT_FORCE, CURSOR_PAGE = 256 };

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON },
                                              { "journal", required_argument, NULL, OPT_JOURNAL },
                                              { "next", required_argument, NULL, OPT_NEXT },
                                              { "skip", required_argument, NULL, OPT_SKIP },
                                              { "past", required_argument, NULL, OPT_PAST },
                                              { "force", no_argument, NULL, OPT_FORCE },
                                              COMMON_LONG };

struct cursor_command {
    struct cli cli;
    bool json;
    const char *journal;
    bool next_given, step_given;
    uint64_t next;
    struct when where; /* seek */
    struct cursor_step step;
    struct link link;
    struct text text;
};

static void put_json (struct text *t, const Factmesh__CursorState *s, bool positions)
{
    char time[WHEN_TEXT], id[ID_TEXT_LEN + 1];
    const Factmesh__Cursor *const at = s->cursor;
    text_put_byte (t, '{');
    text_put_json_member (t, "name", control_get_slice (&s->name));
    text_put_cstr (t, ",\"offset\":");
    text_put_u64 (t, at ? at->offset : 0);
    text_put_cstr (t, ",\"behind\":");
    text_put_u64 (t, s->behind);
    text_put_cstr (t, ",\"updated\":\"");
    text_put_cstr (t, when_format (s->updated_ns, time));
    text_put_cstr (t, "\",");
    text_put_json_member (t, "filters", control_get_slice (&s->filters));
    struct fm_id journal;
    if (at && control_get_id (&at->journal, &journal) == 0) {
        text_put_cstr (t, ",\"journal\":\"");
        text_put_cstr (t, id_text (&journal, id));
        text_put_cstr (t, "\",\"generation\":");
        text_put_u64 (t, at->generation);
    }
    if (positions && at) {
        const char *before = "{\"stream\":\"";
        text_put_cstr (t, ",\"streams\":[");
        for (size_t i = 0; i < at->n_positions; i++) {
            struct fm_id stream;
            if (control_get_id (&at->positions[i]->stream, &stream) < 0)
                continue;
            text_put_cstr (t, before);
            before = ",{\"stream\":\"";
            text_put_cstr (t, id_text (&stream, id));
            text_put_cstr (t, "\",\"seq\":");
            text_put_u64 (t, at->positions[i]->seq);
            text_put_byte (t, '}');
        }
        text_put_byte (t, ']');
    }
    text_put_cstr (t, "}\n");
}

static int print_row (struct cursor_command *c, const Factmesh__CursorState *s)
{
    text_clear (&c->text);
    if (c->json) {
        put_json (&c->text, s, false);
        return cli_print (&c->cli, &c->text);
    }
    char time[WHEN_TEXT];
    text_put_printable (&c->text, control_get_slice (&s->name));
    while (c->text.len < 24 && !c->text.failed)
        text_put_byte (&c->text, ' ');
    text_format (&c->text, " %12llu %12llu  %.19sZ  ", (unsigned long long) (s->cursor ? s->cursor->offset : 0),
                 (unsigned long long) s->behind, when_format (s->updated_ns, time));
    text_put_printable (&c->text, control_get_slice (&s->filters));
    text_put_byte (&c->text, '\n');
    return cli_print (&c->cli, &c->text);
}

static int print_whole (struct cursor_command *c, const Factmesh__CursorState *s)
{
    text_clear (&c->text);
    if (c->json) {
        put_json (&c->text, s, true);
        return cli_print (&c->cli, &c->text);
    }
    char time[WHEN_TEXT], id[ID_TEXT_LEN + 1];
    struct fm_id journal = { { 0 } };
    if (s->cursor)
        (void) control_get_id (&s->cursor->journal, &journal); /* zero when it is none */
    text_put_cstr (&c->text, "cursor      ");
    text_put_printable (&c->text, control_get_slice (&s->name));
    text_put_cstr (&c->text, "\ntopics      ");
    text_put_printable (&c->text, control_get_slice (&s->filters));
    text_format (&c->text,
                 "\njournal     %s, generation %llu\noffset      %llu\nbehind      %llu facts\nmoved       %s\n",
                 id_text (&journal, id), (unsigned long long) (s->cursor ? s->cursor->generation : 0),
                 (unsigned long long) (s->cursor ? s->cursor->offset : 0), (unsigned long long) s->behind,
                 when_format (s->updated_ns, time));
    for (size_t i = 0; s->cursor && i < s->cursor->n_positions; i++) {
        struct fm_id stream;
        if (control_get_id (&s->cursor->positions[i]->stream, &stream) < 0)
            continue;
        text_format (&c->text, "stream      %s through %llu\n", id_text (&stream, id),
                     (unsigned long long) s->cursor->positions[i]->seq);
    }
    return cli_print (&c->cli, &c->text);
}

static int list (struct cursor_command *c)
{
    char after[CURSOR_NAME_MAX + 1] = "";
    bool more = true, first = true;
    while (more) {
        Factmesh__CursorList body = FACTMESH__CURSOR_LIST__INIT;
        body.after = control_put_slice (slice_of (after));
        body.limit = CURSOR_PAGE;
        Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
        request.body_case = FACTMESH__CONTROL__BODY_CURSOR_LIST;
        request.cursor_list = &body;
        int status = link_request (&c->link, &request, FACTMESH__CONTROL__BODY_CURSOR_REPLY, &reply);
        if (status)
            return status;
        const Factmesh__CursorReply *r = reply->cursor_reply;
        if (first && !c->json && r->n_cursors)
            (void) printf ("%-24s %12s %12s  %-20s  %s\n", "NAME", "OFFSET", "BEHIND", "MOVED", "TOPICS");
        first = false;
        for (size_t i = 0; i < r->n_cursors && status == CLI_OK; i++)
            status = print_row (c, r->cursors[i]);
        if (status)
            return status;
        more = r->more && r->n_cursors;
        if (more) {
            const struct fm_slice name = control_get_slice (&r->cursors[r->n_cursors - 1]->name);
            if (name.len == 0 || name.len > CURSOR_NAME_MAX)
                return cli_error (&c->cli, "the journal's answer names a cursor of %zu bytes", name.len);
            memcpy (after, name.data, name.len);
            after[name.len] = 0;
        }
    }
    return CLI_OK;
}

static int show (struct cursor_command *c, const char *name)
{
    Factmesh__CursorGet body = FACTMESH__CURSOR_GET__INIT;
    body.name = control_put_slice (slice_of (name));
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_CURSOR_GET;
    request.cursor_get = &body;
    const int status = link_request (&c->link, &request, FACTMESH__CONTROL__BODY_CURSOR_REPLY, &reply);
    if (status)
        return status;
    if (reply->cursor_reply->n_cursors != 1)
        return cli_error (&c->cli, "there is no cursor '%s'; factmesh cursor ls lists them", name);
    const int printed = print_whole (c, reply->cursor_reply->cursors[0]);
    const uint64_t count = c->next_given ? c->next : !c->json;
    return printed == CLI_OK && count ? cursor_next_print (&c->link, name, count, c->json) : printed;
}

static int delete (struct cursor_command *c, const char *name)
{
    Factmesh__CursorDelete body = FACTMESH__CURSOR_DELETE__INIT;
    body.name = control_put_slice (slice_of (name));
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_CURSOR_DELETE;
    request.cursor_delete = &body;
    return link_request (&c->link, &request, FACTMESH__CONTROL__BODY_CURSOR_REPLY, &reply);
}

static int find_status (struct cursor_command *c, const Factmesh__StatusReply **ret_status)
{
    Factmesh__StatusGet body = FACTMESH__STATUS_GET__INIT;
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    request.status_get = &body;
    const int status = link_request (&c->link, &request, FACTMESH__CONTROL__BODY_STATUS_REPLY, &reply);
    if (status == CLI_OK)
        *ret_status = reply->status_reply;
    return status;
}

/* A time or "the last n" is an offset that the journal's own replay knows: ask where one would start. */
static int find_by_replay (struct cursor_command *c, const struct when *where, uint64_t *ret_offset)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED;
    open.end_at_synced = 1;
    if (where->kind == WHEN_LAST) {
        open.start_case = FACTMESH__REPLAY_OPEN__START_LAST_COUNT;
        open.last_count = where->value;
    } else {
        open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS;
        open.from_time_ns = where->value;
    }
    uint64_t session;
    const int rc = replay_client_open (c->link.client, &open, &session);
    if (rc < 0)
        return cli_fail (&c->cli, rc, "cannot ask the journal at %s", c->link.address);
    struct replay_event event;
    const int status = link_wait (&c->link, "seek", &event);
    if (status)
        return status;
    if (event.kind == REPLAY_ERROR)
        return cli_error (&c->cli, "the journal says: %s", event.text ? event.text : "");
    if (event.kind == REPLAY_DATA && event.view->has_start)
        *ret_offset = event.view->start_offset;
    else if (event.kind == REPLAY_END)
        *ret_offset = event.next_offset;
    else
        return cli_error (&c->cli, "the journal at %s did not say where that is", c->link.address);
    replay_client_close (c->link.client, session);
    return CLI_OK;
}

static int seek (struct cursor_command *c, const char *name)
{
    uint64_t offset = c->where.value;
    const Factmesh__StatusReply *journal = NULL;
    int status = find_status (c, &journal);
    if (status)
        return status;
    const uint64_t first = journal->first_offset, end = journal->synced_offset;
    if (c->where.kind == WHEN_START)
        offset = first;
    else if (c->where.kind == WHEN_END)
        offset = end;
    else if (c->where.kind != WHEN_OFFSET)
        status = find_by_replay (c, &c->where, &offset);
    if (status)
        return status;
    if (offset > end)
        return cli_error (&c->cli, "offset %llu is behind the end, %llu", (unsigned long long) offset,
                          (unsigned long long) end);
    /* What it is of stays. */
    struct fm_slice filters;
    struct text kept = { 0 };
    status = link_cursor_filters (&c->link, name, &filters);
    if (status)
        return status;
    text_put (&kept, filters);
    if (kept.failed)
        return cli_error (&c->cli, "no memory");
    Factmesh__Cursor at = FACTMESH__CURSOR__INIT;
    at.major = PROTO_MAJOR;
    at.journal = control_put_id (&c->link.journal);
    at.generation = c->link.generation;
    at.offset = offset;
    Factmesh__CursorPut body = FACTMESH__CURSOR_PUT__INIT;
    body.name = control_put_slice (slice_of (name));
    body.cursor = &at;
    body.filters = control_put_slice (slice (kept.data, kept.len));
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_CURSOR_PUT;
    request.cursor_put = &body;
    status = link_request (&c->link, &request, FACTMESH__CONTROL__BODY_CURSOR_REPLY, &reply);
    text_release (&kept);
    if (status == CLI_OK && !c->cli.quiet)
        (void) printf ("%s: offset %llu, %llu facts before the end\n", name, (unsigned long long) offset,
                       (unsigned long long) (end - offset));
    return status;
}

static int run (struct cursor_command *c, const char *verb, char **args, int count)
{
    int status = CLI_OK;
    if (strcmp (verb, "ls") == 0)
        return list (c);
    if (strcmp (verb, "show") == 0)
        return show (c, args[0]);
    if (c->step_given)
        return cursor_step_over (&c->link, args[0], &c->step);
    if (strcmp (verb, "seek") == 0)
        return seek (c, args[0]);
    for (int i = 0; i < count && status == CLI_OK; i++)
        status = delete (c, args[i]);
    return status;
}

/* -1: right; otherwise the exit status. */
static int take_place (struct cursor_command *c, const char *name, const char *text)
{
    static const char forms[] = "start, end, -100, @TIME or offset:N";
    if (!*name || strlen (name) > CURSOR_NAME_MAX)
        return cli_usage (&c->cli, "a cursor's name has 1 to %d bytes", CURSOR_NAME_MAX);
    if (cli_where (&c->cli, "seek", text, forms, &c->where))
        return CLI_USAGE;
    /* The newest of each key have no place of their own. */
    if (c->where.kind == WHEN_CURSOR || c->where.kind == WHEN_LATEST)
        return cli_usage (&c->cli, "seek: '%s': write %s", text, forms);
    return -1;
}

/* The same. */
static int check (struct cursor_command *c, const char *verb, char **args, int count)
{
    const struct cli *const cli = &c->cli;
    const bool is_seek = strcmp (verb, "seek") == 0;
    static const struct {
        const char *verb;
        int min, max;
        const char *usage;
    } verbs[] = {
        { "ls", 0, 0, "ls" },
        { "show", 1, 1, "show NAME" },
        { "seek", 2, 2, "seek NAME WHERE" },
        { "rm", 1, 1 << 20, "rm NAME…" },
    };
    if (c->next_given && strcmp (verb, "show") != 0)
        return cli_usage (cli, "--next is for factmesh cursor show");
    if ((c->step_given || c->step.force) && !is_seek)
        return cli_usage (cli, "--skip, --past and --force are for factmesh cursor seek");
    if (c->step.count && !id_is_zero (&c->step.past.stream))
        return cli_usage (cli, "--skip or --past: one of them");
    if (c->step_given)
        return count == 1 ? -1 : cli_usage (cli, "usage: factmesh cursor seek NAME --skip N, or --past STREAM:SEQ, without a WHERE");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp (verb, verbs[i].verb) == 0) {
            if (count < verbs[i].min || count > verbs[i].max)
                return cli_usage (cli, "usage: factmesh cursor %s", verbs[i].usage);
            return is_seek ? take_place (c, args[0], args[1]) : -1;
        }
    return cli_usage (cli, "'%s': write ls, show, seek or rm", verb);
}

/* getopt takes "-100" for options: hide it behind "--" when it stands where WHERE does. */
static const char *take_last_count (int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (argv[i][0] == '-' && argv[i][1] >= '0' && argv[i][1] <= '9') {
            const char *where = argv[i];
            argv[i] = (char *) (uintptr_t) "";
            return where;
        }
    return NULL;
}

static int take_option (struct cursor_command *c, int option, const char *value)
{
    switch (option) {
    case OPT_JSON:
        c->json = true;
        return -1;
    case OPT_JOURNAL:
        c->journal = value;
        return -1;
    case OPT_NEXT:
        c->next_given = true;
        return cli_number (&c->cli, "--next", value, 0, CURSOR_NEXT_MAX, &c->next) ? CLI_USAGE : -1;
    case OPT_SKIP:
        c->step_given = true;
        return cli_number (&c->cli, "--skip", value, 1, CURSOR_NEXT_MAX, &c->step.count) ? CLI_USAGE : -1;
    case OPT_PAST:
        c->step_given = true;
        return fm_fact_id_parse (value, &c->step.past) < 0
                   ? cli_usage (&c->cli, "--past: '%s' is no STREAM:SEQ, as factmesh cursor show prints it", value)
                   : -1;
    case OPT_FORCE:
        c->step.force = true;
        return -1;
    default:
        return cli_option (&c->cli, option, value);
    }
}

int command_cursor (int argc, char **argv)
{
    struct cursor_command c = { .json = false };
    cli_init (&c.cli, "cursor", help, argv);
    const char *const last_count = take_last_count (argc, argv);
    int option;
    while ((option = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        const int status = take_option (&c, option, optarg);
        if (status >= 0)
            return status;
    }
    if (optind == argc)
        return cli_usage (&c.cli, "what? write ls, show, seek or rm");
    for (int i = optind; i < argc; i++)
        if (last_count && !*argv[i])
            argv[i] = (char *) (uintptr_t) last_count;
    const char *const verb = argv[optind++];
    int status = check (&c, verb, argv + optind, argc - optind);
    if (status >= 0)
        return status;
    status = link_open (&c.link, &c.cli, c.journal);
    if (status == CLI_OK) {
        status = run (&c, verb, argv + optind, argc - optind);
        link_close (&c.link);
    }
    text_release (&c.text);
    return cli_done (&c.cli, status);
}
