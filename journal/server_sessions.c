/* server_sessions: replays in turns.
 *
 *             credit came                              a message that the asker's queue did not take, or too many bytes wait in it
 *     CREDIT ------------> READY --------------------------------------------------------> ROUTE
 *       ^                  |  ^ |                                                            |
 *       '--- none left ----'  | '--- caught up ---> DATA                                     |
 *                             '--- synced moved, or due ---'  <------------ sent ------------'
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "error.h"
#include "server_inner.h"

enum { NS_PER_MS = 1000000 };

/* --- The table. */

int sessions_init (struct server *s)
{
    uint32_t buckets = 64;
    while (buckets < s->context->options.sessions_max)
        buckets *= 2;
    s->bucket_mask = buckets - 1;
    s->seed = id_random_u64 ();
    s->buckets = calloc (buckets, sizeof (*s->buckets));
    s->held = calloc (buckets, sizeof (*s->held));
    s->connections = calloc (buckets, sizeof (*s->connections));
    int rc = s->buckets && s->held && s->connections ? outgoing_all_new (&s->outgoing) : -ENOMEM;
    if (!rc)
        rc = index_reader_new (s->context, &s->index);
    return rc;
}

static struct session **bucket_of (const struct server *s, const struct node_route *route, uint64_t number)
{
    return &s->buckets[XXH3_64bits_withSeed (route->bytes, route->len, s->seed ^ number) & s->bucket_mask];
}

static bool route_equal (const struct node_route *a, const struct node_route *b)
{
    return a->len == b->len && memcmp (a->bytes, b->bytes, a->len) == 0;
}

/* The asker's connection, with one session more. NULL: no memory. */
static struct connection *connection_of (struct server *s, const struct node_route *route)
{
    struct connection **first = &s->connections[XXH3_64bits_withSeed (route->bytes, route->len, s->seed) & s->bucket_mask], *c = *first;
    while (c && !route_equal (&c->route, route))
        c = c->next;
    if (!c) {
        c = calloc (1, sizeof *c);
        if (!c || outgoing_new (s->outgoing, &c->outgoing) != 0) {
            free (c);
            return NULL;
        }
        c->route = *route;
        c->next = *first;
        *first = c;
    }
    c->sessions++;
    return c;
}

/* Forget connections that have no sessions, and nothing on its way, or all of them. */
static void connections_forget (struct server *s, bool all)
{
    for (uint32_t i = 0; s->connections && i <= s->bucket_mask; i++)
        for (struct connection **link = &s->connections[i], *c; (c = *link);) {
            if (!all && (c->sessions > 0 || outgoing_bytes (c->outgoing) > 0)) {
                link = &c->next;
                continue;
            }
            *link = c->next;
            outgoing_release (&c->outgoing);
            free (c);
        }
}

static struct session *find (const struct server *s, const struct node_route *route, uint64_t number)
{
    struct session *x = *bucket_of (s, route, number);
    while (x && !(x->number == number && route_equal (&x->route, route)))
        x = x->hash_next;
    return x;
}

static void place_leave (struct server *s, struct session *x)
{
    struct session_list *list = &s->places[x->place];
    if (x->previous)
        x->previous->next = x->next;
    else
        list->first = x->next;
    if (x->next)
        x->next->previous = x->previous;
    else
        list->last = x->previous;
    x->next = x->previous = NULL;
}

static void place_enter (struct server *s, struct session *x, enum session_place place)
{
    struct session_list *list = &s->places[place];
    x->place = place;
    x->next = NULL;
    x->previous = list->last;
    if (list->last)
        list->last->next = x;
    else
        list->first = x;
    list->last = x;
}

static void place_move (struct server *s, struct session *x, enum session_place place, uint64_t now)
{
    place_leave (s, x);
    place_enter (s, x, place);
    x->since_ns = now;
}

static void session_drop (struct server *s, struct session *x)
{
    place_leave (s, x);
    struct session **link = bucket_of (s, &x->route, x->number);
    while (*link != x)
        link = &(*link)->hash_next;
    *link = x->hash_next;
    s->session_count--;
    x->connection->sessions--;
    s->reader_count -= replay_has_reader (x->replay);
    replay_destroy (&x->replay);
    if (x->has_message)
        zmq_msg_close (&x->message);
    free (x);
}

void sessions_release (struct server *s)
{
    for (int place = 0; place < SESSION_PLACES; place++)
        while (s->places[place].first)
            session_drop (s, s->places[place].first);
    connections_forget (s, true);
    outgoing_all_release (&s->outgoing);
    replay_buffer_release (&s->buffer);
    index_reader_destroy (&s->index);
    free (s->connections);
    free (s->held);
    free (s->buckets);
}

/* --- Readers. */

/* Take the reader of a session that waits; else of the one whose turn is farthest. */
static void reader_take_back (struct server *s)
{
    static const enum session_place places[] = { SESSION_CREDIT, SESSION_ROUTE, SESSION_DATA };
    struct session *x = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places && !x; i++)
        for (x = s->places[places[i]].first; x && !replay_has_reader (x->replay);)
            x = x->next;
    for (x = x ? x : s->places[SESSION_READY].last; x && !replay_has_reader (x->replay);)
        x = x->previous;
    assert (x);                         /* callers counted them */
    replay_rest (x->replay);
    s->reader_count--;
}

/* --- Requests. */

static unsigned count_of (const struct server *s, const struct node_route *route)
{
    unsigned count = 0;
    for (int place = 0; place < SESSION_PLACES; place++)
        for (const struct session *x = s->places[place].first; x; x = x->next)
            count += route_equal (&x->route, route);
    return count;
}

static uint16_t *held_by (const struct server *s, const struct session *x)
{
    return &s->held[XXH3_64bits_withSeed (x->route.bytes, x->route.len, s->seed) & s->bucket_mask];
}

/* All sessions are taken. A few connections that opened many must not keep everybody else out: whoever has none yet gets the place of the
 * session that waits longest for credit among those of the connection that holds most. Two connections may share a count: then each seems
 * to hold a little more. */
static void make_room (struct server *s)
{
    struct session *victim = NULL;
    memset (s->held, 0, ((size_t) s->bucket_mask + 1) * sizeof *s->held);
    for (int place = 0; place < SESSION_PLACES; place++)
        for (struct session *x = s->places[place].first; x; x = x->next)
            *held_by (s, x) = (uint16_t) (*held_by (s, x) + (*held_by (s, x) < UINT16_MAX));
    static const enum session_place places[] = { SESSION_CREDIT, SESSION_ROUTE, SESSION_DATA, SESSION_READY };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (struct session *x = s->places[places[i]].first; x; x = x->next)
            victim = !victim || *held_by (s, x) > *held_by (s, victim) ? x : victim;
    if (!victim || *held_by (s, victim) < 2)
        return;
    journal_count (s->context, JOURNAL_SESSIONS_DROPPED, 1);
    (void) node_reply_error (s->context->node, &victim->route, victim->request, victim->number, FACTMESH__ERROR_CODE__ERROR_TIMEOUT,
                             "all replays are taken, and this connection has most of them: open it again");
    session_drop (s, victim);
}

static int check_limits (struct server *s, const struct node_route *from)
{
    const struct journal_options *o = &s->context->options;
    if (s->session_count >= o->sessions_max && count_of (s, from) == 0)
        make_room (s);
    if (s->session_count >= o->sessions_max)
        return error_set (FM_ERR_LIMIT, "%u replays are open: the limit; ask again later", s->session_count);
    const unsigned own = s->session_count >= o->sessions_per_peer_max ? count_of (s, from) : 0;
    if (own >= o->sessions_per_peer_max)
        return error_set (FM_ERR_LIMIT, "%u replays of yours are open: the limit", own);
    return 0;
}

static int session_new (struct server *s, const struct node_route *from, uint64_t request, const struct replay_request *q)
{
    struct session *x = calloc (1, sizeof *x);
    if (!x)
        return -ENOMEM;
    if (s->reader_count >= SERVER_READERS_MAX)
        reader_take_back (s);
    int rc = replay_new (s->context->log, s->context->clock, q, &x->replay);
    if (rc == 0 && !(x->connection = connection_of (s, from)))
        rc = -ENOMEM;
    if (rc) {
        replay_destroy (&x->replay);
        free (x);
        return rc;
    }
    s->reader_count++;
    x->route = *from;
    x->number = q->session;
    x->request = request;
    x->sent_ns = x->since_ns = node_now ();
    credit_init (&x->credit, q->credit);
    struct session **bucket = bucket_of (s, from, q->session);
    x->hash_next = *bucket;
    *bucket = x;
    s->session_count++;
    place_enter (s, x, SESSION_READY);
    return 0;
}

void session_open (struct server *s, const struct node_route *from, uint64_t request, Factmesh__ReplayOpen *open)
{
    struct session *old = find (s, from, open->session);
    if (old)
        session_drop (s, old);          /* the asker begins anew under the same number */
    struct replay_request q;
    Factmesh__Cursor *named = NULL;
    (void) error_set (0, "%s", "");     /* what is answered below shall be of this request */
    int rc = check_limits (s, from);
    if (!rc)
        rc = replay_request_check (open, &q);
    q.index = index_reader_latest (s->index);
    if (!rc && q.start == REPLAY_FROM_CURSOR_NAME) {
        rc = request_cursor (s, q.cursor_name, &named);
        q.cursor = named;
    }
    if (!rc)
        rc = session_new (s, from, request, &q);
    if (named)
        factmesh__cursor__free_unpacked (named, NULL);
    if (rc) {
        journal_count (s->context, JOURNAL_SESSIONS_REFUSED, 1);
        server_refuse (s, from, request, open->session, rc);
    } else
        journal_count (s->context, JOURNAL_SESSIONS_OPENED, 1);
}

void session_credit (struct server *s, const struct server_command *c)
{
    struct session *x = find (s, &c->from, c->session);
    if (!x) {
        if (c->alone)       /* else it may be a publisher's, who answers for it */
            (void) node_reply_error (s->context->node, &c->from, c->request, c->session, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_SESSION,
                                     "no such replay is open here (any more): open it again");
        return;
    }
    credit_grant (&x->credit, c->bytes);
    if (x->place == SESSION_CREDIT && credit_is_open (&x->credit))
        place_move (s, x, SESSION_READY, node_now ());
}

void session_close (struct server *s, const struct server_command *c)
{
    struct session *x = find (s, &c->from, c->session);
    if (x)
        session_drop (s, x);
}

void sessions_synced (struct server *s)
{
    const uint64_t now = node_now ();
    while (s->places[SESSION_DATA].first)
        place_move (s, s->places[SESSION_DATA].first, SESSION_READY, now);
}

/* --- Turns. */

/* Send the message in hand. True: sent, the session goes on. Else it has been moved or dropped. */
static bool send_message (struct server *s, struct session *x, uint64_t now)
{
    const size_t len = zmq_msg_size (&x->message);
    const int rc = node_reply (s->context->node, &x->route, &x->message);
    if (rc == -EAGAIN) {
        x->retry_ns = now + (uint64_t) SERVER_RETRY_MS * NS_PER_MS;
        if (x->place != SESSION_ROUTE)
            place_move (s, x, SESSION_ROUTE, now);
        return false;
    }
    if (rc) {                           /* nobody is there any more */
        journal_count (s->context, JOURNAL_SESSIONS_DROPPED, 1);
        session_drop (s, x);
        return false;
    }
    x->has_message = false;
    x->sent_ns = now;
    if (x->last_message) {
        session_drop (s, x);
        return false;
    }
    credit_spend (&x->credit, len);
    x->share -= (int64_t) len;
    journal_count (s->context, JOURNAL_REPLAY_MESSAGES, 1);
    journal_count (s->context, JOURNAL_REPLAY_BYTES, len);
    return true;
}

static void fail (struct server *s, struct session *x, int rc)
{
    server_refuse (s, &x->route, x->request, x->number, rc);
    session_drop (s, x);
}

static bool send_data (struct server *s, struct session *x, const struct replay_header *header, uint64_t now)
{
    int rc = replay_data_encode (header, node_mesh (s->context->node), slice (s->buffer.fields, s->buffer.len), &x->message);
    if (rc == 0 && (rc = outgoing_wrap (x->connection->outgoing, &x->message)) != 0)
        zmq_msg_close (&x->message);
    if (rc) {
        fail (s, x, rc);
        return false;
    }
    x->has_message = true;
    return send_message (s, x, now);
}

static void send_end (struct server *s, struct session *x, const struct replay_header *header, uint64_t now)
{
    Factmesh__ReplayEnd end = FACTMESH__REPLAY_END__INIT;
    end.session = x->number;
    end.next_offset = header->next_offset;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = x->request;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_END;
    control.replay_end = &end;
    const int rc = control_encode (&control, node_mesh (s->context->node), &x->message);
    if (rc) {
        fail (s, x, rc);
        return;
    }
    x->has_message = x->last_message = true;
    (void) send_message (s, x, now);
}

/* It is caught up: until the synced end moves, or it has something to say. */
static void wait_for_data (struct server *s, struct session *x, uint64_t now)
{
    const uint64_t due = replay_due (x->replay);
    place_move (s, x, SESSION_DATA, now);
    if (due < s->data_due_ns)
        s->data_due_ns = due;
}

/* One step of one session, which is READY. */
static void session_turn (struct server *s, struct session *x, uint64_t now)
{
    if (!credit_is_open (&x->credit)) {
        place_move (s, x, SESSION_CREDIT, now);
        return;
    }
    if (!outgoing_has_room (x->connection->outgoing)) {
        journal_count (s->context, JOURNAL_REPLAYS_HELD_BACK, 1);
        x->retry_ns = now + (uint64_t) SERVER_RETRY_MS * NS_PER_MS;
        place_move (s, x, SESSION_ROUTE, now);
        return;
    }
    enum replay_outcome outcome;
    struct replay_header header;
    (void) error_set (0, "%s", "");
    const size_t target = credit_target (&x->credit, replay_message_bytes (x->replay));
    const bool had_reader = replay_has_reader (x->replay);
    if (!had_reader && s->reader_count >= SERVER_READERS_MAX)
        reader_take_back (s);
    const int rc = replay_step (x->replay, &s->buffer, target, &outcome, &header);
    s->reader_count += !had_reader && replay_has_reader (x->replay);
    if (rc) {
        fail (s, x, rc);
        return;
    }
    switch (outcome) {
    case REPLAY_STEP_MESSAGE:
        if (send_data (s, x, &header, now))
            place_move (s, x, SESSION_READY, now);      /* behind the others */
        break;
    case REPLAY_STEP_MORE:
        x->share -= SERVER_TURN_BYTES / 4;              /* it read, though it sent nothing */
        place_move (s, x, SESSION_READY, now);
        break;
    case REPLAY_STEP_WAIT:
        wait_for_data (s, x, now);
        break;
    case REPLAY_STEP_DONE:
        send_end (s, x, &header, now);
        break;
    }
}

bool sessions_turn (struct server *s, uint64_t now)
{
    for (unsigned n = 0; n < SERVER_TURNS_MAX; n++) {
        struct session *x = s->places[SESSION_READY].first;
        if (!x)
            return false;
        /* Who took more than his share waits until his rounds have paid for it. */
        x->share = x->share + SERVER_TURN_BYTES < SERVER_TURN_BYTES ? x->share + SERVER_TURN_BYTES : SERVER_TURN_BYTES;
        if (x->share > 0)
            session_turn (s, x, now);
        else
            place_move (s, x, SESSION_READY, now);
    }
    return s->places[SESSION_READY].first != NULL;
}

/* --- Time. */

static bool is_past (uint64_t now, uint64_t since, unsigned ms)
{
    return now >= since && now - since >= (uint64_t) ms * NS_PER_MS;
}

static void retry_routes (struct server *s, uint64_t now)
{
    for (struct session *x = s->places[SESSION_ROUTE].first, *next; x; x = next) {
        next = x->next;
        if (is_past (now, x->since_ns, SERVER_IDLE_MS)) {
            journal_count (s->context, JOURNAL_SESSIONS_DROPPED, 1);
            session_drop (s, x);
        } else if (now >= x->retry_ns && !x->has_message && !outgoing_has_room (x->connection->outgoing))
            x->retry_ns = now + (uint64_t) SERVER_RETRY_MS * NS_PER_MS;
        else if (now >= x->retry_ns && (!x->has_message || send_message (s, x, now)))
            place_move (s, x, SESSION_READY, now);
    }
}

static void end_idle (struct server *s, uint64_t now)
{
    for (struct session *x = s->places[SESSION_CREDIT].first, *next; x && is_past (now, x->since_ns, SERVER_IDLE_MS); x = next) {
        next = x->next;
        journal_count (s->context, JOURNAL_SESSIONS_DROPPED, 1);
        (void) node_reply_error (s->context->node, &x->route, x->request, x->number, FACTMESH__ERROR_CODE__ERROR_TIMEOUT,
                                 "the replay had no credit for too long: open it again");
        session_drop (s, x);
    }
}

/* An asker that went shows only when it is written to. */
static void keep_alive (struct server *s, uint64_t now)
{
    for (struct session *x = s->places[SESSION_DATA].first, *next; x; x = next) {
        next = x->next;
        if (!is_past (now, x->sent_ns, SERVER_KEEPALIVE_MS) || !credit_is_open (&x->credit) || !outgoing_has_room (x->connection->outgoing))
            continue;
        struct replay_header header;
        s->buffer.len = 0;
        replay_keepalive (x->replay, &header);
        (void) send_data (s, x, &header, now);
    }
}

static void data_due (struct server *s, uint64_t now)
{
    if (now < s->data_due_ns)
        return;
    s->data_due_ns = UINT64_MAX;
    for (struct session *x = s->places[SESSION_DATA].first, *next; x; x = next) {
        next = x->next;
        const uint64_t due = replay_due (x->replay);
        if (now >= due)
            place_move (s, x, SESSION_READY, now);
        else if (due < s->data_due_ns)
            s->data_due_ns = due;
    }
}

uint64_t sessions_sweep (struct server *s, uint64_t now)
{
    enum { SWEEP_MS = 1000 };
    retry_routes (s, now);
    data_due (s, now);
    if (is_past (now, s->swept_ns, SWEEP_MS)) {
        s->swept_ns = now;
        end_idle (s, now);
        connections_forget (s, false);
        keep_alive (s, now);
    }
    if (s->places[SESSION_READY].first)
        return 0;
    uint64_t due = now + (uint64_t) SWEEP_MS * NS_PER_MS;
    if (s->places[SESSION_ROUTE].first)
        due = now + (uint64_t) SERVER_RETRY_MS * NS_PER_MS;
    return s->data_due_ns < due ? s->data_due_ns : due;
}
