/* link: see link.h. */

#include "link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "id.h"

enum { LINK_SLICE_MS = 250 }; /* the client's descriptor is edge-triggered: look again now and then */

struct choice {
    const char *prefix;
    bool found;
    unsigned count;
    struct link *link;
};

static int choose_journal (void *arg, const struct fm_member *m)
{
    struct choice *choice = arg;
    char text[ID_TEXT_LEN + 1];
    if (!m->is_journal)
        return 0;
    id_text (&m->journal, text);
    choice->count++;
    if (choice->prefix && strncmp (text, choice->prefix, strlen (choice->prefix)) != 0)
        return 0;
    struct link *link = choice->link;
    if (choice->found && memcmp (link->journal.bytes, m->journal.bytes, ID_LEN) <= 0)
        return 0;
    choice->found = true;
    link->journal = m->journal;
    link->generation = m->generation;
    (void) strncpy (link->name, m->name, sizeof link->name - 1);
    (void) strncpy (link->address, m->control, sizeof link->address - 1);
    return 0;
}

/* Wait for the journal that is wanted to become a member. */
static int link_find (struct link *link, const char *journal)
{
    int rc = fm_node_wait_journal (link->node, link->timeout_ms);
    if (rc < 0)
        return cli_fail (link->cli, rc, "no journal");
    const uint64_t began = cli_monotonic_ms ();
    struct choice choice;
    for (unsigned members = 2;; members++) {
        choice = (struct choice){ .prefix = journal, .link = link };
        (void) fm_node_members (link->node, choose_journal, &choice);
        if (choice.found)
            return CLI_OK;
        const uint64_t passed = cli_monotonic_ms () - began;
        if (passed >= (uint64_t) link->timeout_ms)
            break;
        /* One more member than are known by now: it may be the one. */
        (void) fm_node_wait_members (link->node, members + 1, LINK_SLICE_MS);
    }
    (void) cli_error (link->cli,
                      "no journal whose id begins with '%s' among the %u that are here; factmesh nodes lists them",
                      journal, choice.count);
    return CLI_TIMEOUT;
}

static int link_connect (struct link *link, const char *journal)
{
    int status = link_find (link, journal);
    if (status == CLI_OK) {
        const int rc = replay_client_new (link->node, link->address, &link->client);
        if (rc < 0)
            status = cli_fail (link->cli, rc, "cannot reach the journal at %s", link->address);
    }
    if (status != CLI_OK)
        link_close (link);
    return status;
}

int link_open (struct link *link, const struct cli *cli, const char *journal)
{
    *link = (struct link){ .cli = cli, .timeout_ms = cli_timeout (cli, LINK_TIMEOUT_MS) };
    const int status = cli_open_node (cli, &link->node);
    return status ? status : link_connect (link, journal);
}

int link_join (struct link *link, const struct cli *cli, struct fm_node *node)
{
    *link = (struct link){
        .cli = cli, .timeout_ms = cli_timeout (cli, LINK_TIMEOUT_MS), .node = node, .borrowed = true
    };
    return link_connect (link, NULL);
}

void link_close (struct link *link)
{
    replay_client_destroy (&link->client);
    if (!link->borrowed)
        fm_node_close (&link->node);
}

/* The time-out counts from then on. */
static int wait_since (struct link *link, uint64_t began, const char *what, struct replay_event *ret_event)
{
    for (;;) {
        const int rc = replay_client_receive (link->client, ret_event);
        if (rc == 0)
            return CLI_OK;
        if (rc != -EAGAIN)
            return cli_fail (link->cli, rc, "%s", what);
        if (cli_is_signalled ())
            return CLI_SIGNAL + cli_signalled ();
        const uint64_t passed = cli_monotonic_ms () - began;
        if (passed >= (uint64_t) link->timeout_ms) {
            (void) cli_error (link->cli, "%s: timed out: no answer from the journal at %s for %d ms", what,
                              link->address, link->timeout_ms);
            return CLI_TIMEOUT;
        }
        const uint64_t left = (uint64_t) link->timeout_ms - passed;
        cli_wait (replay_client_fd (link->client), left < LINK_SLICE_MS ? (int) left : LINK_SLICE_MS);
    }
}

int link_wait (struct link *link, const char *what, struct replay_event *ret_event)
{
    return wait_since (link, cli_monotonic_ms (), what, ret_event);
}

int link_request_or (struct link *link, Factmesh__Control *request, Factmesh__Control__BodyCase want,
                       Factmesh__ErrorCode expected, Factmesh__Control **ret_reply)
{
    uint64_t number;
    const uint64_t began = cli_monotonic_ms ();
    const int rc = replay_client_request (link->client, request, &number);
    if (rc < 0)
        return cli_fail (link->cli, rc, "cannot ask the journal at %s", link->address);
    for (;;) {
        struct replay_event event;
        const int status = wait_since (link, began, "request", &event);
        if (status)
            return status;
        const bool refused = event.kind == REPLAY_ERROR && event.request == number;
        if (refused && event.code == expected && expected != FACTMESH__ERROR_CODE__ERROR_NONE) {
            *ret_reply = NULL;
            return CLI_OK;
        }
        if (refused)
            return cli_error (link->cli, "the journal says: %s",
                              event.text && *event.text ? event.text : "an error without a text");
        if (event.kind == REPLAY_OTHER && event.control->request == number && event.control->body_case == want) {
            *ret_reply = event.control;
            return CLI_OK;
        }
    }
}

int link_request (struct link *link, Factmesh__Control *request, Factmesh__Control__BodyCase want,
                  Factmesh__Control **ret_reply)
{
    return link_request_or (link, request, want, FACTMESH__ERROR_CODE__ERROR_NONE, ret_reply);
}

/* *ret_reply is NULL when there is no such cursor, if that is `expected`. */
static int get_cursor (struct link *link, const char *name, Factmesh__ErrorCode expected,
                       const Factmesh__CursorReply **ret_reply)
{
    Factmesh__CursorGet get = FACTMESH__CURSOR_GET__INIT;
    get.name = control_put_slice (slice_of (name));
    Factmesh__Control request = FACTMESH__CONTROL__INIT;
    request.body_case = FACTMESH__CONTROL__BODY_CURSOR_GET;
    request.cursor_get = &get;
    Factmesh__Control *reply;
    const int status = link_request_or (link, &request, FACTMESH__CONTROL__BODY_CURSOR_REPLY, expected, &reply);
    if (status == CLI_OK)
        *ret_reply = reply ? reply->cursor_reply : NULL;
    return status;
}

int link_cursor_filters (struct link *link, const char *name, struct fm_slice *ret_filters)
{
    const Factmesh__CursorReply *r = NULL;
    const int status = get_cursor (link, name, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR, &r);
    if (status == CLI_OK)
        *ret_filters = r && r->n_cursors == 1 ? control_get_slice (&r->cursors[0]->filters) : slice_of ("");
    return status;
}

int link_cursor_bytes (struct link *link, const char *name, void **ret_bytes, size_t *ret_len)
{
    const Factmesh__CursorReply *r = NULL;
    const int status = get_cursor (link, name, FACTMESH__ERROR_CODE__ERROR_NONE, &r);
    if (status)
        return status;
    if (r->n_cursors != 1 || !r->cursors[0]->cursor)
        return cli_error (link->cli, "there is no cursor '%s'; factmesh cursor ls lists them", name);
    const size_t len = factmesh__cursor__get_packed_size (r->cursors[0]->cursor);
    uint8_t *bytes = malloc (len);
    if (!bytes)
        return cli_error (link->cli, "no memory for a cursor of %zu bytes", len);
    *ret_len = factmesh__cursor__pack (r->cursors[0]->cursor, bytes);
    *ret_bytes = bytes;
    return CLI_OK;
}
