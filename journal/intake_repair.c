/* intake_repair: questions to holders, and their answers.
 *
 * A stream that misses something is listed. What to do about it is intake_state's to say; here is only who can be reached, and how many
 * questions are in flight. A question that could not be put says nothing of what the holder has: the stream's state is told so, never that the
 * facts are gone. */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "error.h"
#include "intake_inner.h"

/* --- Connections. */

static void client_close (struct intake *in, struct intake_client *c)
{
    if (!c->replay)
        return;
    /* Out of the epoll set first: ZeroMQ leaves the descriptor open for a while. */
    (void) epoll_ctl (in->epoll_fd, EPOLL_CTL_DEL, replay_client_fd (c->replay), NULL);
    replay_client_destroy (&c->replay);
    *c = (struct intake_client) { .replay = NULL };
}

/* Of the places one at least has no question. */
static_assert ((int) INTAKE_CLIENTS_MAX > (int) INTAKE_QUESTIONS_MAX, "");

/* The connection to this node; a new one takes the place of the one that was idle longest. */
static int client_get (struct intake *in, const struct member *holder, struct intake_client **ret_client)
{
    struct intake_client *place = NULL;
    for (size_t i = 0; i < INTAKE_CLIENTS_MAX; i++) {
        struct intake_client *c = &in->clients[i];
        if (c->replay && id_equal (&c->node, &holder->node) && strcmp (c->control, holder->control) == 0) {
            *ret_client = c;
            return 0;
        }
        if (c->asks == 0 && (!place || !c->replay || (place->replay && c->used_ns < place->used_ns)))
            place = c;
    }
    assert (place);
    client_close (in, place);
    int rc = replay_client_new (in->context->node, holder->control, &place->replay);
    if (rc)
        return rc;
    rc = intake_watch (in, replay_client_fd (place->replay));
    if (rc) {
        replay_client_destroy (&place->replay);
        return rc;
    }
    place->node = holder->node;
    memcpy (place->control, holder->control, sizeof place->control);
    *ret_client = place;
    return 0;
}

/* --- Questions. */

static void ask_end (struct intake *in, struct intake_ask *a)
{
    a->client->asks--;
    a->client->used_ns = in->now;
    a->stream = NULL;
    if (a->late)
        in->late_count--;
    else
        in->ask_count--;
}

static void ask_close (struct intake *in, struct intake_ask *a)
{
    replay_client_close (a->client->replay, a->session);
    ask_end (in, a);
}

/* Its answer was lost, or is slow: then it is as good as another one's when it comes, and comes first. */
static void give_up (struct intake *in, struct intake_ask *a)
{
    if (in->late_count == INTAKE_LATE_MAX) {
        ask_close (in, a);
        return;
    }
    a->late = true;
    in->late_count++;
    in->ask_count--;
}

void intake_asks_close (struct intake *in, const struct intake_stream *s)
{
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX; i++)
        if (in->asks[i].stream == s)
            ask_close (in, &in->asks[i]);
}

static bool holder_of (struct intake *in, const struct intake_stream *s, const struct intake_todo *todo, struct member *ret_holder)
{
    if (todo->kind == INTAKE_TODO_ASK_JOURNAL)
        return members_journal (in->members, todo->journal, in->now, ret_holder) && !ret_holder->gone;
    return members_find (in->members, &s->state.now.owner, ret_holder) && !ret_holder->gone && ret_holder->control[0];
}

static int ask_open (struct intake *in, struct intake_stream *s, const struct intake_todo *todo, struct intake_ask *a)
{
    struct member holder;
    if (!holder_of (in, s, todo, &holder))
        return FM_ERR_UNREACHABLE;
    struct intake_client *client = NULL;
    int rc = client_get (in, &holder, &client);
    if (rc)
        return rc;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.stream = control_put_id (&s->id);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = todo->first_seq;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = todo->end_seq;
    open.credit = INTAKE_CREDIT;
    uint64_t session;
    rc = replay_client_open (client->replay, &open, &session);
    if (rc)
        return rc;
    *a = (struct intake_ask) {
        .stream = s,
        .journal = todo->kind == INTAKE_TODO_ASK_JOURNAL,
        .client = client,
        .session = session,
        .deadline = in->now + 2 * in->limits.answer_ns,
        .asked_ns = in->now,
        .heard_ns = in->now,
    };
    client->asks++;
    in->ask_count++;
    journal_count (in->context, JOURNAL_HOLES_ASKED, 1);
    return 0;
}

/* There is a free place, or the stream has one: the caller looked. An older question of the same kind is given up. */
static void ask (struct intake *in, struct intake_stream *s, const struct intake_todo *todo)
{
    const bool journal = todo->kind == INTAKE_TODO_ASK_JOURNAL;
    struct intake_ask *place = NULL, *own = NULL;
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX; i++) {
        struct intake_ask *a = &in->asks[i];
        if (a->stream == s && a->journal == journal && !a->late)
            give_up (in, a);
        if (!a->stream)
            place = a;
        else if (a->stream == s && !a->late)
            own = a;
    }
    if (in->ask_count == INTAKE_ASKS_MAX) {
        assert (own);
        ask_close (in, own);
        place = own;
    }
    in->asked = true;
    if (ask_open (in, s, todo, place) != 0)
        intake_state_unasked (&s->state, journal, in->now);
}

/* --- Answers. */

static struct intake_ask *ask_find (struct intake *in, const struct intake_client *client, uint64_t session)
{
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX; i++)
        if (in->asks[i].stream && in->asks[i].client == client && in->asks[i].session == session)
            return &in->asks[i];
    return NULL;
}

static void take_data (struct intake *in, const struct intake_ask *a, struct replay_view *view)
{
    struct intake_stream *s = a->stream;
    const struct fm_id node = a->client->node;
    struct fm_slice bytes;
    while (replay_view_next (view, &bytes) == 0) {
        struct batch b;
        if (batch_decode (bytes.data, bytes.len, node_mesh (in->context->node), &in->scratch, &b) != 0 || !id_equal (&b.stream, &s->id)
            || b.announced_len || batch_strip_duplicates (&b) != 0) {
            journal_count (in->context, JOURNAL_BATCHES_REFUSED, 1);
            continue;
        }
        journal_count (in->context, JOURNAL_BATCHES_REPAIRED, 1);
        intake_take_batch (in, s, &b, &node, true);
    }
    for (size_t i = 0; i < view->header.gap_count && !a->late; i++) {
        const struct replay_gap *gap = &view->gaps[i];
        if (id_equal (&gap->stream, &s->id))
            intake_state_gone (&s->state, a->journal, gap->first_seq, gap->end_seq, gap->reason, in->now);
    }
    /* `Not yet`: it may come, but another journal may have it now. */
    if (a->journal && view->header.caught_up && !a->late)
        intake_state_later (&s->state);
}

static void take_error (struct intake *in, const struct intake_ask *a, const struct replay_event *event)
{
    /* Only who does not know the stream says something about its facts; who is busy will be asked again. A journal that is none now may be
     * starting anew. */
    if (a->journal && event->code == FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL)
        intake_state_later (&a->stream->state);
    else if (event->code == FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM || event->code == FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL)
        intake_state_answered (&a->stream->state, a->journal, in->now);
    else
        intake_state_unasked (&a->stream->state, a->journal, in->now);
}

/* Holders serve questions in turns, a new one last: what was heard of before this was asked for, and not since, was lost with a connection that broke. */
static void note_answer (struct intake *in, struct intake_ask *a)
{
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX && !a->answered; i++) {
        struct intake_ask *other = &in->asks[i];
        if (other->stream && other->client == a->client && other->heard_ns < a->asked_ns)
            other->passed = true;
    }
    a->answered = true;
    a->passed = false;
    a->heard_ns = in->now;
}

/* Over a slow connection an answer waits behind others, those to questions that were given up among them: to ask again would put another one behind it. So
 * while anything comes it is waited for. */
static void put_off (struct intake *in, struct intake_client *c)
{
    const uint64_t messages = replay_client_messages (c->replay);
    if (messages == c->messages)
        return;
    c->messages = messages;
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX; i++) {
        struct intake_ask *a = &in->asks[i];
        if (!a->stream || a->late || a->client != c || a->passed || in->now - a->heard_ns >= (uint64_t) INTAKE_TURN_MS * 1000000)
            continue;
        a->deadline = in->now + 2 * in->limits.answer_ns;
        intake_state_put_off (&a->stream->state, a->journal, in->now);
    }
}

/* Of a question that was given up facts are welcome; that there are none says nothing, since another holder is being asked. The owner's, of whom there is one,
 * is the question that is in flight then, and the other, which would bring the same, is closed. */
static void take_late (struct intake *in, struct intake_ask *a)
{
    if (a->journal || !id_equal (&a->client->node, &a->stream->state.now.owner))
        return;
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX; i++) {
        struct intake_ask *other = &in->asks[i];
        if (other != a && other->stream == a->stream && other->journal == a->journal)
            ask_close (in, other);
    }
    if (in->ask_count < INTAKE_ASKS_MAX) {
        a->late = false;
        in->late_count--;
        in->ask_count++;
    }
}

static void take_event (struct intake *in, const struct intake_client *client, const struct replay_event *event)
{
    struct intake_ask *a = ask_find (in, client, event->session);
    if (!a)
        return;
    struct intake_stream *s = a->stream;
    note_answer (in, a);
    if (a->late && event->kind == REPLAY_DATA)
        take_late (in, a);
    if (a->late && event->kind != REPLAY_DATA) {
        ask_end (in, a);
        return;
    }
    switch (event->kind) {
    case REPLAY_DATA:
        a->deadline = in->now + 2 * in->limits.answer_ns;
        take_data (in, a, event->view);
        break;
    case REPLAY_END:
        intake_state_answered (&s->state, a->journal, in->now);
        ask_end (in, a);
        break;
    case REPLAY_ERROR:
        take_error (in, a, event);
        ask_end (in, a);
        break;
    case REPLAY_OTHER:
        return;
    }
    intake_stream_list (in, s, in->now);
}

bool intake_answers (struct intake *in)
{
    bool more = false;
    for (size_t i = 0; i < INTAKE_CLIENTS_MAX; i++) {
        struct intake_client *c = &in->clients[i];
        struct replay_event event;
        unsigned taken = 0;
        while (c->replay && taken < INTAKE_REPLY_BURST && replay_client_receive (c->replay, &event) == 0) {
            take_event (in, c, &event);
            taken++;
        }
        if (c->replay)
            put_off (in, c);
        more = more || taken == INTAKE_REPLY_BURST;
    }
    return more;
}

/* --- Looking after streams. */

static void close_silent (struct intake *in)
{
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX; i++) {
        struct intake_ask *a = &in->asks[i];
        if (a->stream && a->late && in->now - a->heard_ns >= (uint64_t) INTAKE_LATE_MS * 1000000)
            ask_close (in, a);
        else if (a->stream && !a->late && in->now >= a->deadline)
            give_up (in, a);
    }
}

static bool is_asking (const struct intake *in, const struct intake_stream *s)
{
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX; i++)
        if (in->asks[i].stream == s && !in->asks[i].late)
            return true;
    return false;
}

/* Is there a place for one more question about this publisher's streams? As many as it has must stay free: so who is slow never has all of them, and who asks
 * alone has half. */
static bool has_place (const struct intake *in, const struct fm_id *owner)
{
    unsigned count = 0;
    for (size_t i = 0; i < INTAKE_QUESTIONS_MAX; i++) {
        const struct intake_ask *a = &in->asks[i];
        count += a->stream && !a->late && id_equal (&a->stream->state.now.owner, owner);
    }
    return count < INTAKE_ASKS_MAX - in->ask_count;
}

/* May the stream's state be asked what to do? Not when it might want to put a question and there is no place for it: having been unable to ask
 * must not pass for having asked. */
static bool may_act (const struct intake *in, const struct intake_stream *s)
{
    return is_asking (in, s) || has_place (in, &s->state.now.owner);
}

/* A journal that is there and says nothing holds up recording above the hole: somebody should look at it. */
static void note_waiting (struct intake *in, struct intake_stream *s)
{
    if (!intake_state_waits_for_journal (&s->state, in->now)
        || (s->waits_told_ns && in->now - s->waits_told_ns < (uint64_t) INTAKE_WAITS_TELL_MS * 1000000))
        return;
    s->waits_told_ns = in->now;
    journal_count (in->context, JOURNAL_HOLES_WAIT, 1);
    char text[ID_TEXT_LEN + 1];
    journal_notice (in->context, "HOLE-WAITS", "stream=%s next=%" PRIu64 ": a journal of this mesh does not say whether it has these facts; nothing above is recorded until it"
                    " does or is gone", id_text (&s->id, text), s->state.next_seq);
}

static void look_after (struct intake *in, struct intake_stream *s)
{
    struct intake_todo todo;
    for (;;) {
        intake_state_todo (&s->state, in->now, members_journals (in->members, in->now), &todo);
        intake_stream_mark (in, s);         /* a newer epoch may have been entered */
        switch (todo.kind) {
        case INTAKE_TODO_ASK_OWNER:
        case INTAKE_TODO_ASK_JOURNAL:
            ask (in, s, &todo);
            assert (is_asking (in, s) || in->ask_count < INTAKE_ASKS_MAX);     /* its question is in flight, or the place that it was to take is free */
            break;
        case INTAKE_TODO_TAKE:
            intake_record_held (in, s);
            break;
        case INTAKE_TODO_GAP: {
            const uint64_t before = s->state.next_seq;
            intake_record_gap (in, s, &todo);
            if (s->state.next_seq == before) {
                s->due_ns = in->now + in->limits.answer_ns;     /* the log takes nothing now */
                return;
            }
            break;
        }
        case INTAKE_TODO_FORGET:
            intake_tell_ended (in, s);      /* what came after its publisher was gone: as answers of other journals */
            intake_stream_forget (in, s);
            return;
        case INTAKE_TODO_NOTHING:
            note_waiting (in, s);
            s->due_ns = todo.until_ns;
            if (todo.until_ns == UINT64_MAX)
                intake_stream_unlist (in, s);
            return;
        }
    }
}

uint64_t intake_look_after (struct intake *in)
{
    close_silent (in);
    if (in->read_only)
        return UINT64_MAX;
    uint64_t due = UINT64_MAX;
    struct intake_stream *last = in->list_last;
    for (struct intake_stream *s = in->list_first, *next; s; s = next) {
        const bool is_last = s == last;
        next = s->next;
        s->waits = s->due_ns <= in->now && !may_act (in, s);
        if (s->due_ns <= in->now && !s->waits) {
            /* To the end of the list, so that those behind get their turn for the places. */
            intake_stream_unlist (in, s);
            intake_stream_list (in, s, s->due_ns);
            look_after (in, s);
        }
        if (is_last)
            break;
    }
    bool wait = false;
    for (const struct intake_stream *s = in->list_first; s; s = s->next) {
        wait = wait || s->waits;
        if (!s->waits && s->due_ns < due)
            due = s->due_ns;
    }
    /* Those that wait for a place: questions end, or are given up when they are silent. */
    for (size_t i = 0; wait && i < INTAKE_QUESTIONS_MAX; i++)
        if (in->asks[i].stream && !in->asks[i].late && in->asks[i].deadline < due)
            due = in->asks[i].deadline;
    return due;
}

void intake_repair_release (struct intake *in)
{
    for (size_t i = 0; i < INTAKE_CLIENTS_MAX; i++)
        client_close (in, &in->clients[i]);
}
