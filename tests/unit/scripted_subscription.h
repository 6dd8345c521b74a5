/* scripted_subscription: a subscription between publishers and a journal that follow a script (scripted_live.h): how the journal behaves (`as`), and what is
 * expected to come. */

#ifndef FM_TESTS_SCRIPTED_SUBSCRIPTION_H
#define FM_TESTS_SCRIPTED_SUBSCRIPTION_H

enum { SCRIPT_JOURNALS_MAX = 300, SCRIPT_QUESTIONS_MAX = 1024 };
#define SCRIPT_JOURNALS_MAX SCRIPT_JOURNALS_MAX

#include "scripted_live.h"

#include "subscription.h"

enum { PATIENCE_MS = 60000, START = 100 };
static const char words[] = "the journal's own words";

static struct fm_subscription *s;
static struct scripted *journal, *publisher;
static unsigned caught_up, fell_behind;

/* How the journal behaves. */
static struct {
    Factmesh__ErrorCode refuse_sessions, refuse_cursors;
    unsigned cursor_refusals;               /* how often still */
    bool mute_sessions;
    struct live_replay first;               /* what a session begins with; its number is filled in */
    uint64_t session;                       /* the last that was opened, */
    uint8_t route[64];                      /* and where its messages go */
    size_t route_len;
    void (*on_repair) (struct scripted *j, const Factmesh__ReplayOpen *open);
    const Factmesh__Cursor *cursor;         /* that it answers with; NULL: what it was given */
} as;

static inline void say_cursor (struct scripted *j, uint64_t request, const Factmesh__Cursor *cursor)
{
    Factmesh__CursorState state = FACTMESH__CURSOR_STATE__INIT, *states[] = { &state };
    Factmesh__CursorReply reply = FACTMESH__CURSOR_REPLY__INIT;
    state.name = control_put_slice (slice_of ("place"));
    state.cursor = (Factmesh__Cursor *) (uintptr_t) cursor;
    reply.cursors = states;
    reply.n_cursors = cursor != NULL;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_REPLY;
    control.cursor_reply = &reply;
    script_say (j, request, &control);
}

/* In the session that is open. */
static inline void say (struct live_replay r)
{
    r.session = as.session;
    memcpy (journal->route, as.route, as.route_len);
    journal->route_len = as.route_len;
    live_say_replay (journal, &r);
}

static inline void say_end (struct scripted *j, uint64_t session)
{
    Factmesh__ReplayEnd end = FACTMESH__REPLAY_END__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    end.session = session;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_END;
    control.replay_end = &end;
    script_say (j, session, &control);
}

static inline void answer_open (struct scripted *j, uint64_t request, const Factmesh__ReplayOpen *open)
{
    if (open->stream.len) {
        /* All that may be asked at a time are no more than a subscription may hold, and each comes in pieces. */
        assert_in_range (open->credit, 1, SUBSCRIPTION_HELD_DEFAULT / SUBSCRIPTION_REPAIRS_MAX);
        assert_in_range (open->message_bytes, 1, open->credit);
        if (as.on_repair)
            as.on_repair (j, open);
        return;
    }
    as.session = open->session;
    as.route_len = j->route_len;
    memcpy (as.route, j->route, j->route_len);
    if (as.refuse_sessions)
        script_refuse (j, request, as.refuse_sessions, words);
    else if (!as.mute_sessions)
        say (as.first);
}

static inline void answer (struct scripted *j, const Factmesh__Control *question)
{
    switch (question->body_case) {
    case FACTMESH__CONTROL__BODY_REPLAY_OPEN:
        answer_open (j, question->request, question->replay_open);
        break;
    case FACTMESH__CONTROL__BODY_CURSOR_GET:
    case FACTMESH__CONTROL__BODY_CURSOR_PUT:
        if (as.cursor_refusals) {
            as.cursor_refusals--;
            script_refuse (j, question->request, as.refuse_cursors, words);
        } else if (question->body_case == FACTMESH__CONTROL__BODY_CURSOR_GET) {
            say_cursor (j, 1, as.cursor);                           /* of a question that was never asked */
            say_cursor (j, question->request, as.cursor);
        } else {
            say_cursor (j, question->request, as.cursor ? as.cursor : question->cursor_put->cursor);
        }
        break;
    default:
        break;
    }
}

static int set_up (void **state)
{
    memset (&as, 0, sizeof as);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .caught_up = true };
    journal = publisher = NULL;
    caught_up = fell_behind = 0;
    return live_set_up (state);
}

static int tear_down (void **state)
{
    fm_subscription_close (&s);
    return live_tear_down (state);
}

static inline int try_open (struct fm_subscription_options options)
{
    return fm_subscription_open (&script, &options, &s);
}

/* A subscription from the journal's start, beside one publisher. */
static inline void open_with (struct fm_subscription_options options)
{
    if (!journal)
        journal = live_peer_add (answer, true);
    if (!publisher)
        publisher = live_peer_add (answer, false);
    assert_done (try_open (options));
}

static inline void open_from_start (void)
{
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START });
}

/* ------------------------------------------------------------------ what comes */

/* The next that is a fact or a gap. */
static inline struct fm_event next (void)
{
    struct fm_event e;
    for (;;) {
        assert_done (fm_subscription_next (s, PATIENCE_MS, &e));
        caught_up += e.kind == FM_EVENT_CAUGHT_UP;
        fell_behind += e.kind == FM_EVENT_FELL_BEHIND;
        if (e.kind == FM_EVENT_FACT || e.kind == FM_EVENT_GAP)
            return e;
    }
}

/* It is that fact, every byte of it. */
static inline void check_fact (const struct fm_event *e, unsigned stream, uint64_t seq)
{
    const struct fm_id id = kit_stream (stream);
    struct kit_batch k;
    struct batch_reader reader;
    struct fm_fact made;
    if (e->kind != FM_EVENT_FACT || !id_equal (&e->fact.id.stream, &id) || e->fact.id.seq != seq)
        fail_msg ("instead of fact %llu of stream %u: kind %d, [%llu %llu)", (unsigned long long) seq, stream, (int) e->kind,
                  (unsigned long long) (e->kind == FM_EVENT_FACT ? e->fact.id.seq : e->gap.first), (unsigned long long) e->gap.end);
    kit_batch_make (&(struct kit_batch_spec) { .stream = stream, .first_seq = seq, .count = 1, .payload_len = e->fact.payload.len }, &k);
    batch_reader_init (&reader, &k.batch);
    assert_done (batch_reader_next (&reader, &made));
    assert_true (slice_equal (made.payload, e->fact.payload));
    kit_batch_release (&k);
}

static inline void expect_facts (unsigned stream, uint64_t first, uint64_t end)
{
    for (uint64_t seq = first; seq < end; seq++) {
        const struct fm_event e = next ();
        check_fact (&e, stream, seq);
    }
}

static inline void expect_gap (const struct fm_id *stream, uint64_t first, uint64_t end, enum fm_gap_reason reason)
{
    const struct fm_event e = next ();
    assert_int_equal (e.kind, FM_EVENT_GAP);
    assert_true (id_equal (&e.gap.stream, stream));
    assert_int_equal (e.gap.first, first);
    assert_int_equal (e.gap.end, end);
    assert_int_equal (e.gap.reason, reason);
}

/* Neither fact nor gap, for so long. */
static inline void expect_nothing (int ms)
{
    struct fm_event e;
    const uint64_t until_ns = script.now_ns + (uint64_t) ms * SCRIPT_MS;
    while (script.now_ns < until_ns) {
        const int rc = fm_subscription_next (s, (int) ((until_ns - script.now_ns) / SCRIPT_MS) + 1, &e);
        if (rc == FM_TIMEOUT)
            continue;
        assert_done (rc);
        caught_up += e.kind == FM_EVENT_CAUGHT_UP;
        fell_behind += e.kind == FM_EVENT_FELL_BEHIND;
        assert_true (e.kind == FM_EVENT_CAUGHT_UP || e.kind == FM_EVENT_FELL_BEHIND);
    }
}

/* Live alone from here on: the session has ended. */
static inline void go_live (void)
{
    open_from_start ();
    expect_nothing (3000);
    assert_int_equal (caught_up, 1);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_CLOSE), 1);
}

static inline struct kit_batch_spec facts (unsigned stream, uint64_t first, uint32_t count)
{
    return (struct kit_batch_spec) { .stream = stream, .first_seq = first, .count = count, .payload_len = 100 };
}

static inline void publish (unsigned stream, uint64_t first, uint32_t count)
{
    const struct kit_batch_spec spec = facts (stream, first, count);
    live_publish (publisher, &spec);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

#endif
