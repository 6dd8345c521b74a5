/* server_requests: cursors and status.
 *
 * A cursor that is put is folded, stored, and answered when the disk has it: until then it is in `waiting`. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "server_inner.h"

enum { NS_PER_MS = 1000000 };

/* --- Cursors. */

static int check_name (struct fm_slice name)
{
    if (name.len == 0 || name.len > CURSOR_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "a cursor's name has 1 to %d bytes, not %zu", (int) CURSOR_NAME_MAX, name.len);
    const uint8_t *p = name.data;
    for (size_t i = 0; i < name.len; i++)
        if (p[i] < 0x20 || p[i] == 0x7f)
            return error_set (FM_ERR_ARGUMENT, "a cursor's name has a control byte at %zu", i);
    return 0;
}

static void name_copy (char ret_name[CURSOR_NAME_MAX + 1], struct fm_slice name)
{
    memcpy (ret_name, name.data, name.len);
    ret_name[name.len] = '\0';
}

/* A stored cursor with its message unpacked. */
static int cursor_load (struct server *s, const char *name, struct log_cursor *ret_cursor, Factmesh__Cursor **ret_message)
{
    struct log_cursor c;
    int rc = log_cursor_get (s->context->log, name, &s->cursor_buffer, &s->cursor_buffer_size, &c);
    if (rc)
        return rc == FM_ERR_UNKNOWN ? error_set (rc, "no cursor '%s'", name) : rc;
    Factmesh__Cursor *message = factmesh__cursor__unpack (NULL, c.cursor.len, c.cursor.data);
    if (!message)
        return error_set (FM_ERR_CORRUPT, "cursor '%s' does not decode; delete it or put it anew", name);
    *ret_cursor = c;
    *ret_message = message;
    return 0;
}

int request_cursor (struct server *s, struct fm_slice name, Factmesh__Cursor **ret_cursor)
{
    int rc = check_name (name);
    if (rc)
        return rc;
    char text[CURSOR_NAME_MAX + 1];
    struct log_cursor stored;
    name_copy (text, name);
    return cursor_load (s, text, &stored, ret_cursor);
}

/* What is told of a cursor; `state` borrows from both. */
static void state_fill (struct server *s, const struct log_cursor *stored, Factmesh__Cursor *message, Factmesh__CursorState *state)
{
    struct log_position at;
    log_position (s->context->log, &at);
    factmesh__cursor_state__init (state);
    state->name = control_put_slice (slice_of (stored->name));
    state->cursor = message;
    state->updated_ns = stored->updated_ns;
    state->behind = at.synced_offset > message->offset ? at.synced_offset - message->offset : 0;
    state->filters = control_put_slice (stored->filters);
}

static void answer_cursors (struct server *s, const struct node_route *to, uint64_t request, Factmesh__CursorState **states, size_t count, bool more)
{
    Factmesh__CursorReply reply = FACTMESH__CURSOR_REPLY__INIT;
    reply.n_cursors = count;
    reply.cursors = states;
    reply.more = more;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = request;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_REPLY;
    control.cursor_reply = &reply;
    server_answer (s, to, &control);
}

/* Answer with one stored cursor. */
static int answer_cursor (struct server *s, const struct node_route *to, uint64_t request, const char *name)
{
    struct log_cursor stored;
    Factmesh__Cursor *message;
    const int rc = cursor_load (s, name, &stored, &message);
    if (rc)
        return rc;
    Factmesh__CursorState state, *states[] = { &state };
    state_fill (s, &stored, message, &state);
    answer_cursors (s, to, request, states, 1, false);
    factmesh__cursor__free_unpacked (message, NULL);
    return 0;
}

/* Fold: the base goes up over what the positions say is done. */
static int fold (struct server *s, uint64_t offset, struct fold_positions *positions, uint64_t *ret_base)
{
    struct log_position at;
    log_position (s->context->log, &at);
    uint64_t base = offset < at.synced_offset ? offset : at.synced_offset;
    int rc = 0;
    if (!s->fold_reader)
        rc = log_reader_new (s->context->log, &s->fold_reader);
    if (!rc && positions->count)
        rc = fold_base (s->fold_reader, s->context->recent, positions, base, at.synced_offset, &base);
    if (rc)
        return rc;
    fold_trim (positions, s->context->log, base);
    *ret_base = base;
    return 0;
}

/* Encode a cursor; freed by the caller. */
static int cursor_pack (struct server *s, uint64_t base, const struct fold_positions *positions, void **ret_bytes, size_t *ret_len)
{
    Factmesh__StreamPosition *items = calloc (positions->count + 1, sizeof *items);
    Factmesh__StreamPosition **pointers = calloc (positions->count + 1, sizeof (*pointers));
    void *bytes = NULL;
    if (items && pointers) {
        Factmesh__Cursor message = FACTMESH__CURSOR__INIT;
        message.major = PROTO_MAJOR;
        message.journal = control_put_id (&s->context->journal);
        message.generation = s->context->generation;
        message.offset = base;
        message.n_positions = positions->count;
        message.positions = pointers;
        for (size_t i = 0; i < positions->count; i++) {
            factmesh__stream_position__init (&items[i]);
            items[i].stream = control_put_id (&positions->items[i].stream);
            items[i].seq = positions->items[i].seq;
            pointers[i] = &items[i];
        }
        *ret_len = factmesh__cursor__get_packed_size (&message);
        bytes = malloc (*ret_len ? *ret_len : 1);
        if (bytes)
            factmesh__cursor__pack (&message, bytes);
    }
    free (items);
    free (pointers);
    *ret_bytes = bytes;
    return bytes ? 0 : -ENOMEM;
}

/* --- Waiting for the disk. */

static struct waiting *waiting_new (struct server *s, const struct node_route *to, uint64_t request, struct fm_slice name, struct fm_slice cursor,
                                    struct fm_slice filters, uint64_t now)
{
    struct waiting *w = calloc (1, sizeof *w + cursor.len + filters.len);
    if (!w)
        return NULL;
    uint8_t *p = (uint8_t *) (w + 1);
    w->route = *to;
    w->request = request;
    w->until_ns = now + (uint64_t) SERVER_WAIT_MS * NS_PER_MS;
    name_copy (w->cursor.name, name);
    if (cursor.len)
        memcpy (p, cursor.data, cursor.len);
    if (filters.len)
        memcpy (p + cursor.len, filters.data, filters.len);
    w->cursor.cursor = slice (p, cursor.len);
    w->cursor.filters = slice (p + cursor.len, filters.len);
    w->cursor.updated_ns = s->context->clock->unix_ns (s->context->clock->context);
    *s->waiting_end = w;
    s->waiting_end = &w->next;
    s->waiting_count++;
    return w;
}

static int waiting_append (struct server *s, struct waiting *w)
{
    const int rc = w->deletes ? log_cursor_delete (s->context->log, w->cursor.name, &w->ticket)
                              : log_cursor_put (s->context->log, &w->cursor, &w->ticket);
    w->appended = rc == 0;
    if (rc == FM_ERR_UNKNOWN)
        return error_set (rc, "no cursor '%s'", w->cursor.name);
    return rc;
}

/* Settle one: -EAGAIN: not yet; else it is over, with 0 or why not. held_up: an older one waits for room, and a smaller
 * one must not overtake it: both may be of the same cursor. */
static int waiting_settle (struct server *s, struct waiting *w, bool held_up, uint64_t now)
{
    if (!w->appended && !held_up) {
        const int rc = waiting_append (s, w);
        if (rc && rc != FM_ERR_FULL)
            return rc;
    }
    if (w->appended && log_ticket_synced (s->context->log, w->ticket))
        return 0;
    if (log_is_read_only (s->context->log))
        return error_set (FM_ERR_READ_ONLY, "the journal is read-only after a failed write or sync: cursor '%s' is not durable", w->cursor.name);
    if (now >= w->until_ns)
        return error_set (FM_TIMEOUT, "the journal's disk is full or slow: cursor '%s' is not durable yet", w->cursor.name);
    return -EAGAIN;
}

uint64_t requests_settle (struct server *s, uint64_t now)
{
    bool retry = false;
    struct waiting **link = &s->waiting, *w;
    while ((w = *link)) {
        int rc = waiting_settle (s, w, retry, now);
        if (rc == -EAGAIN) {
            retry = retry || !w->appended;
            link = &w->next;
            continue;
        }
        if (rc == 0 && !w->deletes)
            rc = answer_cursor (s, &w->route, w->request, w->cursor.name);
        else if (rc == 0)
            answer_cursors (s, &w->route, w->request, NULL, 0, false);
        if (rc == 0)
            journal_count (s->context, JOURNAL_CURSORS_PUT, !w->deletes);
        else
            server_refuse (s, &w->route, w->request, 0, rc);
        *link = w->next;
        free (w);
        s->waiting_count--;
    }
    s->waiting_end = link;
    if (!s->waiting)
        return UINT64_MAX;
    return now + (uint64_t) (retry ? SERVER_RETRY_MS : 1000) * NS_PER_MS;
}

void requests_release (struct server *s)
{
    for (struct waiting *w = s->waiting, *next; w; w = next) {
        next = w->next;
        free (w);
    }
    log_reader_destroy (&s->fold_reader);
    free (s->cursor_buffer);
}

/* --- Requests. */

static int cursor_put (struct server *s, const struct node_route *from, uint64_t request, const Factmesh__CursorPut *put, uint64_t now)
{
    const struct fm_slice name = control_get_slice (&put->name);
    int rc = check_name (name);
    if (rc)
        return rc;
    if (!put->cursor)
        return error_set (FM_ERR_MALFORMED, "cursor_put without a cursor");
    if (s->waiting_count >= SERVER_WAITING_MAX)
        return error_set (FM_ERR_LIMIT, "%u cursors wait for the disk; ask again later", s->waiting_count);
    rc = replay_cursor_check (put->cursor, s->context->log);
    if (rc)
        return rc;
    struct fold_positions positions;
    rc = fold_positions_copy (put->cursor, &positions);
    if (rc)
        return rc;
    uint64_t base;
    void *bytes = NULL;
    size_t len;
    rc = fold (s, put->cursor->offset, &positions, &base);
    if (!rc)
        rc = cursor_pack (s, base, &positions, &bytes, &len);
    fold_positions_release (&positions);
    if (!rc && !waiting_new (s, from, request, name, slice (bytes, len), control_get_slice (&put->filters), now))
        rc = -ENOMEM;
    free (bytes);
    return rc;      /* answered by requests_settle */
}

static int cursor_delete (struct server *s, const struct node_route *from, uint64_t request, struct fm_slice name, uint64_t now)
{
    const int rc = check_name (name);
    if (rc)
        return rc;
    if (s->waiting_count >= SERVER_WAITING_MAX)
        return error_set (FM_ERR_LIMIT, "%u cursors wait for the disk; ask again later", s->waiting_count);
    struct waiting *w = waiting_new (s, from, request, name, slice (NULL, 0), slice (NULL, 0), now);
    if (!w)
        return -ENOMEM;
    w->deletes = true;
    return 0;
}

static int cursor_get (struct server *s, const struct node_route *from, uint64_t request, struct fm_slice name)
{
    const int rc = check_name (name);
    if (rc)
        return rc;
    char text[CURSOR_NAME_MAX + 1];
    name_copy (text, name);
    return answer_cursor (s, from, request, text);
}

/* Cursors of one answer, copied out of the log. */
struct cursor_page {
    Factmesh__CursorState states[SERVER_LIST_MAX];
    Factmesh__CursorState *pointers[SERVER_LIST_MAX];
    struct log_cursor stored[SERVER_LIST_MAX];
    void *filters[SERVER_LIST_MAX];
    size_t count;
};

static int page_add (struct server *s, struct cursor_page *page, const char *name, size_t *bytes)
{
    struct log_cursor *stored = &page->stored[page->count];
    Factmesh__Cursor *message;
    const int rc = cursor_load (s, name, stored, &message);
    if (rc)
        return rc;
    *bytes += stored->cursor.len + stored->filters.len + sizeof stored->name;
    /* The next load uses the buffer again. */
    void *filters = malloc (stored->filters.len + 1);
    if (!filters) {
        factmesh__cursor__free_unpacked (message, NULL);
        return -ENOMEM;
    }
    if (stored->filters.len)
        memcpy (filters, stored->filters.data, stored->filters.len);
    stored->filters = slice (filters, stored->filters.len);
    state_fill (s, stored, message, &page->states[page->count]);
    page->filters[page->count] = filters;
    page->pointers[page->count] = &page->states[page->count];
    page->count++;
    return 0;
}

static int cursor_list (struct server *s, const struct node_route *from, uint64_t request, const Factmesh__CursorList *list)
{
    if (list->after.len > CURSOR_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "a cursor's name has at most %d bytes, not %zu", (int) CURSOR_NAME_MAX, list->after.len);
    struct cursor_page *page = calloc (1, sizeof *page);
    if (!page)
        return -ENOMEM;
    char name[CURSOR_NAME_MAX + 1] = CURSOR_NAME_FLOOR, next[CURSOR_NAME_MAX + 1];
    if (list->after.len)
        name_copy (name, control_get_slice (&list->after));
    const size_t limit = list->limit && list->limit < SERVER_LIST_MAX ? list->limit : SERVER_LIST_MAX;
    size_t bytes = 0;
    bool more = false;
    while (log_cursor_next (s->context->log, name, next) == 0) {
        more = page->count == limit || bytes > SERVER_REPLY_BYTES;
        if (more)
            break;
        (void) page_add (s, page, next, &bytes);    /* one that does not decode is left out: asked for by name it says why */
        memcpy (name, next, sizeof name);
    }
    answer_cursors (s, from, request, page->pointers, page->count, more);
    for (size_t i = 0; i < page->count; i++) {
        factmesh__cursor__free_unpacked (page->states[i].cursor, NULL);
        free (page->filters[i]);
    }
    free (page);
    return 0;
}

/* --- Status. */

enum { COUNTERS_MAX = 128 };

struct status_page {
    Factmesh__Counter counters[COUNTERS_MAX];
    Factmesh__Counter *counter_pointers[COUNTERS_MAX];
    size_t counter_count;
    Factmesh__StreamStatus streams[SERVER_LIST_MAX];
    Factmesh__StreamStatus *stream_pointers[SERVER_LIST_MAX];
    struct log_stream known[SERVER_LIST_MAX + 1];
};

static void add_counter (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning)
{
    (void) meaning;
    struct status_page *page = arg;
    if (page->counter_count == COUNTERS_MAX)
        return;
    Factmesh__Counter *c = &page->counters[page->counter_count];
    factmesh__counter__init (c);
    c->name = control_put_slice (slice_of (name));
    c->unit = control_put_slice (slice_of (unit));
    c->value = value;
    page->counter_pointers[page->counter_count++] = c;
}

static void add_counters (struct server *s, struct status_page *page)
{
    for (int i = 0; i < JOURNAL_COUNTER_COUNT; i++) {
        const char *name, *unit, *meaning;
        journal_counter_text ((enum journal_counter) i, &name, &unit, &meaning);
        add_counter (page, name, journal_counter (s->context, (enum journal_counter) i), unit, meaning);
    }
    add_counter (page, "sessions_open", s->session_count, "sessions", "replays open now");
    (void) fm_node_counters (s->context->node, add_counter, page);
}

static int add_streams (struct server *s, const Factmesh__StatusGet *get, struct status_page *page, Factmesh__StatusReply *reply)
{
    const size_t limit = get->streams_limit < SERVER_LIST_MAX ? get->streams_limit : SERVER_LIST_MAX;
    struct fm_id after;
    if (get->streams_after.len && control_get_id (&get->streams_after, &after) != 0)
        return error_set (FM_ERR_MALFORMED, "streams_after has %zu bytes, not %d", get->streams_after.len, (int) ID_LEN);
    if (!limit)
        return 0;
    size_t count = 0;
    int rc = log_stream_list (s->context->log, get->streams_after.len ? &after : NULL, page->known, limit + 1, &count);
    if (rc)
        return rc;
    reply->more = count > limit;
    reply->n_streams = count < limit ? count : limit;
    for (size_t i = 0; i < reply->n_streams; i++) {
        Factmesh__StreamStatus *x = &page->streams[i];
        factmesh__stream_status__init (x);
        x->stream = control_put_id (&page->known[i].stream);
        x->epoch = page->known[i].epoch;
        x->first_seq = page->known[i].first_seq;
        x->synced = page->known[i].synced_seq;
        page->stream_pointers[i] = x;
    }
    reply->streams = page->stream_pointers;
    return 0;
}

static int status_get (struct server *s, const struct node_route *from, uint64_t request, const Factmesh__StatusGet *get)
{
    struct status_page *page = calloc (1, sizeof *page);
    if (!page)
        return -ENOMEM;
    Factmesh__StatusReply reply = FACTMESH__STATUS_REPLY__INIT;
    struct log_position at;
    log_position (s->context->log, &at);
    reply.journal = control_put_id (&s->context->journal);
    reply.generation = s->context->generation;
    reply.first_offset = at.first_offset;
    reply.synced_offset = at.synced_offset;
    reply.written_offset = at.written_offset;
    reply.bytes_on_disk = at.bytes;
    reply.read_only = log_is_read_only (s->context->log);
    add_counters (s, page);
    reply.n_counters = page->counter_count;
    reply.counters = page->counter_pointers;
    const int rc = add_streams (s, get, page, &reply);
    if (!rc) {
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.request = request;
        control.body_case = FACTMESH__CONTROL__BODY_STATUS_REPLY;
        control.status_reply = &reply;
        server_answer (s, from, &control);
    }
    free (page);
    return rc;
}

void request_take (struct server *s, const struct node_route *from, Factmesh__Control *control, uint64_t now)
{
    int rc = 0;
    (void) error_set (0, "%s", "");     /* what is answered below shall be of this request */
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_CURSOR_PUT:
        rc = cursor_put (s, from, control->request, control->cursor_put, now);
        break;
    case FACTMESH__CONTROL__BODY_CURSOR_GET:
        rc = cursor_get (s, from, control->request, control_get_slice (&control->cursor_get->name));
        break;
    case FACTMESH__CONTROL__BODY_CURSOR_DELETE:
        rc = cursor_delete (s, from, control->request, control_get_slice (&control->cursor_delete->name), now);
        break;
    case FACTMESH__CONTROL__BODY_CURSOR_LIST:
        rc = cursor_list (s, from, control->request, control->cursor_list);
        break;
    case FACTMESH__CONTROL__BODY_STATUS_GET:
        rc = status_get (s, from, control->request, control->status_get);
        break;
    default:
        break;                          /* take_control lets nothing else through */
    }
    if (rc)
        server_refuse (s, from, control->request, 0, rc);
}
