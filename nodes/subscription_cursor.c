/* Acknowledging and cursors: where the application is, and making that durable at the journal.
 *
 * An acknowledgement copies, for the streams that moved since the one before, how far they were taken: its cost is that of what was taken
 * meanwhile. Commits go over a connection of their own, so that waiting for one need not read facts. One is in flight. */

#include "subscription.h"
#include "error.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

enum {
    COMMIT_RETRY_MS = 1000,
    COMMIT_STEP_MS = 50,                    /* how soon a journal that came back is seen */
    COMMIT_LOOKS = 2                        /* in commit_ms, while facts never stop */
};

uint64_t subscription_taken (const struct fm_subscription *s, const struct stream *st)
{
    return s->walking && st == s->walk_stream ? s->reader.next_seq - 1 : st->h.complete;
}

static bool is_in_midst (const struct fm_subscription *s, const struct stream *st)
{
    return s->walking && st == s->walk_stream;
}

int fm_subscription_ack (struct fm_subscription *s)
{
    struct stream *kept = NULL;
    for (struct stream *st = s->dirty, *next; st; st = next) {
        next = st->next_dirty;
        st->acked = subscription_taken (s, st);
        st->acked_beyond = st->beyond;
        s->ack_changed = true;
        if (is_in_midst (s, st)) {          /* it will have moved again */
            kept = st;
            continue;
        }
        st->in_dirty = false;
    }
    s->dirty = kept;
    if (kept)
        kept->next_dirty = NULL;
    if (s->acked_base.offset != s->base.offset || !s->acked_anything)
        s->ack_changed = true;
    s->acked_base.journal = s->base.journal;
    s->acked_base.generation = s->base.generation;
    s->acked_base.offset = s->base.offset;
    s->acked_anything = true;
    s->acks++;
    if (!s->cursor_name)
        return 0;
    /* Not left to the pump, which may have hundreds of facts in hand that take the application a while each. It touches no facts. */
    const uint64_t now_ns = node_now ();
    if (now_ns >= s->ack_look_ns) {
        s->ack_look_ns = now_ns + s->commit_ns / COMMIT_LOOKS;
        subscription_commit_step (s, now_ns);
    }
    if (s->ack_changed)
        subscription_due (s, s->put_due_ns);
    return 0;
}

static int no_base (void)
{
    return error_set (FM_ERR_NO_JOURNAL, "a cursor is a place in a journal, and this subscription has met none");
}

int fm_subscription_cursor (struct fm_subscription *s, struct fm_slice *ret_cursor)
{
    if (!s->has_base)
        return no_base ();
    struct cursor c = { .journal = s->base.journal, .generation = s->base.generation, .offset = s->base.offset };
    int rc = 0;
    for (size_t i = 0; i < s->table_size && rc == 0; i++) {
        const struct stream *st = s->table[i];
        if (st && st->beyond && subscription_taken (s, st) > 0)
            rc = cursor_add (&c, &st->id, subscription_taken (s, st));
    }
    if (rc == 0)
        rc = cursor_encode (&c, &s->cursor_bytes, &s->cursor_size, ret_cursor);
    cursor_release (&c);
    return rc;
}

/* --- The connection. */

static void disconnect (struct fm_subscription *s)
{
    if (!s->cursor_client)
        return;
    subscription_unwatch (s, replay_client_fd (s->cursor_client));
    replay_client_destroy (&s->cursor_client);
    s->put_out = false;
}

static int connect_to (struct fm_subscription *s, const struct live_peer *peer)
{
    if (s->cursor_client && id_equal (&s->cursor_node, &peer->info.node))
        return 0;
    disconnect (s);
    int rc = replay_client_new (s->node, peer->info.control, &s->cursor_client);
    if (rc == 0)
        rc = subscription_watch (s, replay_client_fd (s->cursor_client), s);
    if (rc != 0) {
        replay_client_destroy (&s->cursor_client);
        return rc;
    }
    s->cursor_node = peer->info.node;
    return 0;
}

void subscription_cursor_release (struct fm_subscription *s)
{
    disconnect (s);
    cursor_release (&s->base);
    cursor_release (&s->acked_base);
    free (s->cursor_bytes);
}

/* --- Loading a named one. */

static int read_loaded (const struct replay_event *e, const char *name, struct cursor *ret_cursor)
{
    if (e->kind == REPLAY_ERROR)
        return error_set (subscription_error_of (e->code), "cursor '%s': the journal says: %s", name, e->text);
    if (e->control->body_case != FACTMESH__CONTROL__BODY_CURSOR_REPLY || e->control->cursor_reply->n_cursors == 0
        || !e->control->cursor_reply->cursors[0]->cursor)
        return error_set (FM_ERR_UNKNOWN, "cursor '%s' is not known to the journal", name);
    return cursor_from_message (ret_cursor, e->control->cursor_reply->cursors[0]->cursor);
}

static int ask_for_cursor (struct fm_subscription *s, uint64_t *ret_request)
{
    Factmesh__CursorGet get = FACTMESH__CURSOR_GET__INIT;
    get.name = control_put_slice (slice_of (s->cursor_name));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_GET;
    control.cursor_get = &get;
    return replay_client_request (s->cursor_client, &control, ret_request);
}

int subscription_cursor_load (struct fm_subscription *s, const struct live_peer *peer, uint64_t deadline_ns, struct cursor *ret_cursor)
{
    int passing = 0;
    uint64_t request, first_request = 0, ask_ns = 0;
    disconnect (s);                         /* the one of an earlier try may hang */
    int rc = connect_to (s, peer);
    while (rc == 0) {
        const uint64_t now_ns = node_now ();
        if (now_ns >= deadline_ns)
            return passing ? passing : error_set (FM_ERR_UNREACHABLE, "the journal at %s does not answer", peer->info.control);
        if (now_ns >= ask_ns) {             /* again: the connection may have been made anew meanwhile, and what it carried is lost */
            ask_ns = now_ns + NS_OF_MS (COMMIT_RETRY_MS);
            if (ask_for_cursor (s, &request) == 0 && !first_request)
                first_request = request;
        }
        struct replay_event e;
        while (replay_client_receive (s->cursor_client, &e) == 0) {
            if (e.session != 0 || !first_request || e.request < first_request)
                continue;
            rc = read_loaded (&e, s->cursor_name, ret_cursor);
            if (!subscription_may_pass (rc))
                return rc;
            passing = rc;
        }
        rc = 0;
        struct pollfd fd = { .fd = replay_client_fd (s->cursor_client), .events = POLLIN };
        if (poll (&fd, 1, COMMIT_STEP_MS) < 0 && errno != EINTR)
            rc = -errno;
    }
    return rc;
}

/* --- Committing. */

static int list_acked (struct fm_subscription *s, struct cursor *c)
{
    int rc = 0;
    for (size_t i = 0; i < s->table_size && rc == 0; i++) {
        struct stream *st = s->table[i];
        if (!st)
            continue;
        st->put = st->acked_beyond ? st->acked : 0;
        if (st->put)
            rc = cursor_add (c, &st->id, st->put);
    }
    return rc;
}

/* The patterns, for people: commas between; that of all topics when there are none. */
static size_t filters_text (const struct fm_subscription *s, char *text)
{
    size_t len = 0;
    if (s->pattern_count == 0)
        text[len++] = '>';
    for (size_t i = 0; i < s->pattern_count; i++) {
        if (i)
            text[len++] = ',';
        memcpy (text + len, s->patterns[i].data, s->patterns[i].len);
        len += s->patterns[i].len;
    }
    return len;
}

static int send_put (struct fm_subscription *s, uint64_t now_ns)
{
    struct cursor c = { .journal = s->acked_base.journal, .generation = s->acked_base.generation, .offset = s->acked_base.offset };
    struct cursor_message message = { .message = FACTMESH__CURSOR__INIT };
    char filters[FILTERS_MAX * (TOPIC_MAX + 1)];
    int rc = list_acked (s, &c);
    if (rc == 0)
        rc = cursor_message_init (&message, &c);
    if (rc == 0) {
        Factmesh__CursorPut put = FACTMESH__CURSOR_PUT__INIT;
        put.name = control_put_slice (slice_of (s->cursor_name));
        put.cursor = &message.message;
        put.filters = control_put_slice (slice (filters, filters_text (s, filters)));
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_CURSOR_PUT;
        control.cursor_put = &put;
        rc = replay_client_request (s->cursor_client, &control, &s->put_request);
        cursor_message_release (&message);
    }
    cursor_release (&c);
    if (rc != 0)
        return rc;
    s->put_out = true;
    s->put_deadline_ns = now_ns + NS_OF_MS (COMMIT_RETRY_MS);
    s->put_due_ns = now_ns + s->commit_ns;
    s->ack_changed = false;
    s->acks_put = s->acks;
    return 0;
}

/* The journal moved the base over what the positions said: a shorter list from now on. What is listed still counts as beyond the base. */
static void adopt_folded (struct fm_subscription *s, const Factmesh__Cursor *message)
{
    struct cursor folded = { 0 };
    if (cursor_from_message (&folded, message) != 0)
        return;
    if (id_equal (&folded.journal, &s->base.journal) && folded.generation == s->base.generation && folded.offset >= s->acked_base.offset) {
        for (size_t i = 0; i < folded.count; i++) {
            struct stream *st = subscription_find (s, &folded.positions[i].stream);
            if (st)
                st->put = 0;
        }
        for (size_t i = 0; i < s->table_size; i++) {
            struct stream *st = s->table[i];
            if (!st || st->put == 0)
                continue;
            if (st->acked == st->put)
                st->acked_beyond = false;
            if (subscription_taken (s, st) == st->put && st->h.complete == st->put)
                st->beyond = false;
        }
        s->acked_base.offset = folded.offset;
        if (folded.offset > s->base.offset)
            s->base.offset = folded.offset;
    }
    cursor_release (&folded);
}

/* A journal that has just started says for a moment that it is none; one that is busy, to ask again. */
static bool is_passing (Factmesh__ErrorCode code)
{
    return code == FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL || code == FACTMESH__ERROR_CODE__ERROR_LIMIT || code == FACTMESH__ERROR_CODE__ERROR_TIMEOUT;
}

static void on_put_answer (struct fm_subscription *s, const struct replay_event *e)
{
    s->put_out = false;
    s->put_error = 0;
    if (e->kind == REPLAY_ERROR) {
        if (!is_passing (e->code))
            s->put_error = error_set (subscription_error_of (e->code), "cursor '%s': the journal says: %s", s->cursor_name, e->text);
        s->ack_changed = true;
        s->put_due_ns = node_now () + NS_OF_MS (COMMIT_RETRY_MS);
        return;
    }
    s->acks_durable = s->acks_put;
    const Factmesh__CursorReply *reply = e->control->body_case == FACTMESH__CONTROL__BODY_CURSOR_REPLY ? e->control->cursor_reply : NULL;
    if (reply && reply->n_cursors == 1 && reply->cursors[0]->cursor)
        adopt_folded (s, reply->cursors[0]->cursor);
}

void subscription_commit_step (struct fm_subscription *s, uint64_t now_ns)
{
    struct replay_event e;
    while (s->cursor_client && replay_client_receive (s->cursor_client, &e) == 0) {
        if (s->put_out && e.session == 0 && e.request == s->put_request)
            on_put_answer (s, &e);
    }
    if (s->put_out && now_ns >= s->put_deadline_ns) {
        disconnect (s);                     /* the next one goes over a new connection */
        s->ack_changed = true;
    }
    if (s->put_out) {
        subscription_due (s, s->put_deadline_ns);
        return;
    }
    if (!s->cursor_name || !s->ack_changed || !s->acked_anything || !s->has_base)
        return;
    if (now_ns < s->put_due_ns) {
        subscription_due (s, s->put_due_ns);
        return;
    }
    const struct live_peer *peer = subscription_journal (s, true, 0);
    if (!peer || connect_to (s, peer) != 0 || send_put (s, now_ns) != 0)
        s->put_due_ns = now_ns + NS_OF_MS (COMMIT_RETRY_MS);
    subscription_due (s, s->put_out ? s->put_deadline_ns : s->put_due_ns);
}

int fm_subscription_commit (struct fm_subscription *s, int timeout_ms)
{
    if (!s->cursor_name)
        return error_set (FM_ERR_ARGUMENT, "the subscription has no named cursor to commit");
    if (!s->has_base)
        return no_base ();
    const uint64_t wanted = s->acks, start_ns = node_now ();
    s->put_error = 0;
    s->put_due_ns = 0;                      /* now, not within commit_ms */
    for (;;) {
        const uint64_t now_ns = node_now ();
        live_set_look (s->live);
        s->live_ready = true;
        (void) live_set_update (s->live, now_ns);       /* the journal may have come back elsewhere */
        subscription_commit_step (s, now_ns);
        if (s->acks_durable >= wanted || (!s->ack_changed && !s->put_out))
            return 0;
        if (s->put_error)
            return s->put_error;
        if (subscription_generation_passed (s))
            return error_set (FM_ERR_GENERATION, "cursor '%s' is a place in the journal as it was before it was restored from a copy", s->cursor_name);
        if (timeout_ms >= 0 && now_ns >= start_ns + NS_OF_MS (timeout_ms))
            return error_set (FM_TIMEOUT, "cursor '%s': the journal has not confirmed it within %d ms", s->cursor_name, timeout_ms);
        if (!s->put_out && s->ack_changed)
            s->put_due_ns = now_ns + NS_OF_MS (COMMIT_STEP_MS) < s->put_due_ns ? now_ns : s->put_due_ns;
        struct pollfd fd = { .fd = s->cursor_client ? replay_client_fd (s->cursor_client) : -1, .events = POLLIN };
        const int rc = poll (&fd, 1, COMMIT_STEP_MS);
        if (rc < 0 && errno == EINTR)
            return error_set (FM_INTERRUPTED, "while waiting for the journal to confirm cursor '%s'", s->cursor_name);
    }
}
