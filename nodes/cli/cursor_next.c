/* cursor_next: see cursor_next.h. */

#include "cursor_next.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cursor.h"
#include "output.h"

/* A subscription from where the cursor stands: it gets what the consumer would. */
struct beyond {
    struct link *link;
    const char *name;
    struct cursor place;
    char *filters;       /* patterns with commas between, as the journal has them */
    char *patterns_text; /* the same, cut into patterns */
    const char **patterns;
    struct fm_subscription *subscription;
};

static int no_memory (const struct beyond *b)
{
    return cli_error (b->link->cli, "no memory");
}

static void beyond_close (struct beyond *b)
{
    fm_subscription_close (&b->subscription);
    cursor_release (&b->place);
    free (b->filters);
    free (b->patterns_text);
    free ((void *) b->patterns);
}

/* patterns[0 … ], NULL behind the last; the cursor is of all topics when there is none. */
static int take_filters (struct beyond *b)
{
    struct fm_slice filters;
    const int status = link_cursor_filters (b->link, b->name, &filters);
    if (status)
        return status;
    size_t count = 0;
    b->filters = strndup (filters.len ? filters.data : "", filters.len);
    b->patterns_text = b->filters ? strdup (b->filters) : NULL;
    b->patterns = calloc (filters.len + 2, sizeof *b->patterns);
    if (!b->patterns_text || !b->patterns)
        return no_memory (b);
    char *rest = b->patterns_text;
    for (char *pattern; (pattern = strsep (&rest, ",")) && *pattern;)
        b->patterns[count++] = pattern;
    return CLI_OK;
}

static int beyond_open (struct beyond *b, struct link *link, const char *name)
{
    void *bytes = NULL;
    size_t len = 0;
    *b = (struct beyond){ .link = link, .name = name };
    int status = link_cursor_bytes (link, name, &bytes, &len);
    if (status == CLI_OK)
        status = take_filters (b);
    if (status == CLI_OK) {
        const struct fm_subscription_options options = {
            .topics = *b->patterns ? b->patterns : NULL,
            .from = FM_FROM_CURSOR,
            .from_cursor = { bytes, len },
            .delivery = FM_SYNCED,
            .open_timeout_ms = link->timeout_ms,
        };
        int rc = cursor_decode (&b->place, slice (bytes, len));
        if (rc == 0)
            rc = fm_subscription_open (link->node, &options, &b->subscription);
        if (rc < 0)
            status = cli_fail (link->cli, rc, "cannot read from cursor '%s' on", name);
    }
    free (bytes);
    if (status)
        beyond_close (b);
    return status;
}

/* The next fact or gap; *ret_end: there is none yet. */
static int beyond_next (struct beyond *b, struct fm_event *ret_event, bool *ret_end)
{
    for (;;) {
        const int rc = fm_subscription_next (b->subscription, b->link->timeout_ms, ret_event);
        if (rc == FM_INTERRUPTED && !cli_is_signalled ())
            continue;
        if (rc < 0)
            return cli_fail (b->link->cli, rc, "cannot read from cursor '%s' on", b->name);
        if (ret_event->kind == FM_EVENT_FELL_BEHIND)
            continue;
        *ret_end = ret_event->kind == FM_EVENT_CAUGHT_UP;
        return CLI_OK;
    }
}

static int print_event (struct output *out, const struct fm_event *event, bool json)
{
    char id[FM_FACT_ID_TEXT], line[256];
    if (event->kind == FM_EVENT_FACT)
        return output_fact (out, &event->fact, 0);
    if (json)
        return output_gap_json (out, &event->gap);
    const struct fm_fact_id first = { event->gap.stream, event->gap.first };
    (void) snprintf (line, sizeof line, "gap %s to %llu: %s", fm_fact_id_text (&first, id, sizeof id),
                     (unsigned long long) event->gap.end - 1, output_gap_reason (event->gap.reason)); /* fits */
    return output_line (out, line);
}

int cursor_next_print (struct link *link, const char *name, uint64_t count, bool json)
{
    const struct output_options format = { .format = json ? OUTPUT_JSON : OUTPUT_LONG, .fd = STDOUT_FILENO, .interrupted = cli_is_signalled };
    struct output *out = NULL;
    struct beyond b;
    bool end = false;
    int status = beyond_open (&b, link, name);
    if (status)
        return status;
    (void) fflush (stdout); /* output writes past stdio; a failure shows at the end */
    int rc = output_new (&format, &out);
    while (rc == 0 && status == CLI_OK && count > 0) {
        struct fm_event event;
        status = beyond_next (&b, &event, &end);
        if (status || end)
            break;
        rc = print_event (out, &event, json);
        count -= event.kind == FM_EVENT_FACT;
    }
    if (rc == 0 && status == CLI_OK)
        rc = output_flush (out);
    if (rc < 0)
        status = cli_fail (link->cli, rc, "output");
    output_destroy (&out);
    beyond_close (&b);
    return status;
}

/* The fact is done, and with it what its stream has before it. */
static int place_move (struct beyond *b, const struct fm_fact_id *id)
{
    for (size_t i = 0; i < b->place.count; i++) {
        if (id_equal (&b->place.positions[i].stream, &id->stream)) {
            b->place.positions[i].seq = id->seq;
            return CLI_OK;
        }
    }
    const int rc = cursor_add (&b->place, &id->stream, id->seq);
    return rc < 0 ? cli_fail (b->link->cli, rc, "cursor '%s'", b->name) : CLI_OK;
}

/* Read on until the facts of the step have been seen. */
static int step_find (struct beyond *b, const struct cursor_step *step, uint64_t *ret_over)
{
    char id[FM_FACT_ID_TEXT], text[FM_FACT_ID_TEXT];
    uint64_t over = 0;
    bool found = false;
    while (!found) {
        struct fm_event event;
        bool end = false;
        int status = beyond_next (b, &event, &end);
        if (status)
            return status;
        if (end && step->count && over == 0)
            return cli_error (b->link->cli, "no fact lies beyond cursor '%s' yet", b->name);
        if (end && step->count)
            break;
        if (end)
            return cli_error (b->link->cli, "cursor '%s' has no fact %s before it; factmesh cursor show %s tells the next", b->name,
                              fm_fact_id_text (&step->past, id, sizeof id), b->name);
        if (event.kind != FM_EVENT_FACT)
            continue;
        const struct fm_fact_id *at = &event.fact.id;
        if (!step->count && !id_equal (&at->stream, &step->past.stream))
            continue;
        if (!step->count && at->seq > step->past.seq)
            return cli_error (b->link->cli, "%s is not among the facts of cursor '%s'; the next of its stream is %s",
                              fm_fact_id_text (&step->past, id, sizeof id), b->name, fm_fact_id_text (at, text, sizeof text));
        if (!step->count && at->seq < step->past.seq && !step->force)
            return cli_error (b->link->cli, "%s of the same stream comes before it and is not done either; --force steps over all up to it",
                              fm_fact_id_text (at, id, sizeof id));
        status = place_move (b, at);
        if (status)
            return status;
        if (!b->link->cli->quiet)
            (void) printf ("over %s %.*s\n", fm_fact_id_text (at, id, sizeof id), (int) event.fact.topic.len,
                           (const char *) event.fact.topic.data);
        found = ++over == step->count || (!step->count && at->seq == step->past.seq);
    }
    *ret_over = over;
    return CLI_OK;
}

static int place_put (struct beyond *b)
{
    struct cursor_message message;
    const int rc = cursor_message_init (&message, &b->place);
    if (rc < 0)
        return cli_fail (b->link->cli, rc, "cursor '%s'", b->name);
    Factmesh__CursorPut body = FACTMESH__CURSOR_PUT__INIT;
    body.name = control_put_slice (slice_of (b->name));
    body.cursor = &message.message;
    body.filters = control_put_slice (slice_of (b->filters));
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_CURSOR_PUT;
    request.cursor_put = &body;
    const int status = link_request (b->link, &request, FACTMESH__CONTROL__BODY_CURSOR_REPLY, &reply);
    cursor_message_release (&message);
    return status;
}

int cursor_step_over (struct link *link, const char *name, const struct cursor_step *step)
{
    struct beyond b;
    uint64_t over = 0;
    int status = beyond_open (&b, link, name);
    if (status)
        return status;
    status = step_find (&b, step, &over);
    if (status == CLI_OK)
        status = place_put (&b);
    if (status == CLI_OK && !link->cli->quiet)
        (void) printf ("%s: stepped over %llu %s\n", name, (unsigned long long) over, over == 1 ? "fact" : "facts");
    beyond_close (&b);
    return status;
}
