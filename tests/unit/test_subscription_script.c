/* subscription: publishers and a journal that follow a script: refusals, another generation, answers that are not what was asked for, garbage, what is too much
 * to be held, limits. Time is virtual (scripted_journal.h). */

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
    bool mute_sessions, cursor_unknown;
    struct live_replay first;               /* what a session begins with; its number is filled in */
    uint64_t session;                       /* the last that was opened, */
    uint8_t route[64];                      /* and where its messages go */
    size_t route_len;
    void (*on_repair) (struct scripted *j, const Factmesh__ReplayOpen *open);
    const Factmesh__Cursor *cursor;         /* that it answers with; NULL: what it was given */
} as;

static void say_cursor (struct scripted *j, uint64_t request, const Factmesh__Cursor *cursor)
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
static void say (struct live_replay r)
{
    r.session = as.session;
    memcpy (journal->route, as.route, as.route_len);
    journal->route_len = as.route_len;
    live_say_replay (journal, &r);
}

static void answer_open (struct scripted *j, uint64_t request, const Factmesh__ReplayOpen *open)
{
    if (open->stream.len) {
        /* All that may be asked at a time are no more than a subscription may hold, and each comes in pieces. */
        assert_in_range (open->credit, 1, SUBSCRIPTION_HELD_DEFAULT / SUBSCRIPTION_REPAIRS_MAX);
        assert_in_range (open->message_bytes, 1, open->credit / 4);
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

static void answer (struct scripted *j, const Factmesh__Control *question)
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

static int try_open (struct fm_subscription_options options)
{
    return fm_subscription_open (&script, &options, &s);
}

/* A subscription from the journal's start, beside one publisher. */
static void open_with (struct fm_subscription_options options)
{
    if (!journal)
        journal = live_peer_add (answer, true);
    if (!publisher)
        publisher = live_peer_add (answer, false);
    assert_done (try_open (options));
}

static void open_from_start (void)
{
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START });
}

/* ------------------------------------------------------------------ what comes */

/* The next that is a fact or a gap. */
static struct fm_event next (void)
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

static void expect_facts (unsigned stream, uint64_t first, uint64_t end)
{
    const struct fm_id id = kit_stream (stream);
    for (uint64_t seq = first; seq < end; seq++) {
        struct kit_batch k;
        struct batch_reader reader;
        struct fm_fact made;
        const struct fm_event e = next ();
        if (e.kind != FM_EVENT_FACT || !id_equal (&e.fact.id.stream, &id) || e.fact.id.seq != seq)
            fail_msg ("instead of fact %llu of stream %u: kind %d, [%llu %llu)", (unsigned long long) seq, stream, (int) e.kind,
                      (unsigned long long) (e.kind == FM_EVENT_FACT ? e.fact.id.seq : e.gap.first), (unsigned long long) e.gap.end);
        kit_batch_make (&(struct kit_batch_spec) { .stream = stream, .first_seq = seq, .count = 1, .payload_len = e.fact.payload.len }, &k);
        batch_reader_init (&reader, &k.batch);
        assert_done (batch_reader_next (&reader, &made));
        assert_true (slice_equal (made.payload, e.fact.payload));
        kit_batch_release (&k);
    }
}

static void expect_gap (const struct fm_id *stream, uint64_t first, uint64_t end, enum fm_gap_reason reason)
{
    const struct fm_event e = next ();
    assert_int_equal (e.kind, FM_EVENT_GAP);
    assert_true (id_equal (&e.gap.stream, stream));
    assert_int_equal (e.gap.first, first);
    assert_int_equal (e.gap.end, end);
    assert_int_equal (e.gap.reason, reason);
}

/* Neither fact nor gap, for so long. */
static void expect_nothing (int ms)
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
static void go_live (void)
{
    open_from_start ();
    expect_nothing (3000);
    assert_int_equal (caught_up, 1);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_CLOSE), 1);
}

static struct kit_batch_spec facts (unsigned stream, uint64_t first, uint32_t count)
{
    return (struct kit_batch_spec) { .stream = stream, .first_seq = first, .count = count, .payload_len = 100 };
}

static void publish (unsigned stream, uint64_t first, uint32_t count)
{
    const struct kit_batch_spec spec = facts (stream, first, count);
    live_publish (publisher, &spec);
}

/* ------------------------------------------------------------------ opening */

static void what_the_journal_says_is_told (void **state)
{
    static const struct {
        Factmesh__ErrorCode code;
        int rc;
    } refusals[] = {
        { FACTMESH__ERROR_CODE__ERROR_GENERATION, FM_ERR_GENERATION },  { FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL, FM_ERR_NO_JOURNAL },
        { FACTMESH__ERROR_CODE__ERROR_MALFORMED, FM_ERR_MALFORMED },    { FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR, FM_ERR_UNKNOWN },
        { FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM, FM_ERR_UNKNOWN }, { FACTMESH__ERROR_CODE__ERROR_LIMIT, FM_ERR_LIMIT },
        { FACTMESH__ERROR_CODE__ERROR_READ_ONLY, FM_ERR_READ_ONLY },    { FACTMESH__ERROR_CODE__ERROR_VERSION, FM_ERR_VERSION },
        { FACTMESH__ERROR_CODE__ERROR_INTERNAL, FM_ERR_UNREACHABLE },
    };
    (void) state;
    journal = live_peer_add (answer, true);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        as.refuse_sessions = refusals[i].code;
        assert_int_equal (try_open ((struct fm_subscription_options) { .from = FM_FROM_START }), refusals[i].rc);
        assert_null (s);
        assert_non_null (strstr (fm_error_detail (), words));
    }
}

static void a_signal_ends_the_wait_for_a_journal_or_a_publisher (void **state)
{
    (void) state;
    journal = live_peer_add (answer, true);
    as.mute_sessions = true;
    script.interruptions = 1;
    assert_int_equal (try_open ((struct fm_subscription_options) { .from = FM_FROM_START }), FM_INTERRUPTED);
    live_of (journal)->mute_fences = true;
    script.interruptions = 2;                   /* the first is of a look that waits for nothing */
    assert_int_equal (try_open ((struct fm_subscription_options) { .no_journal = true }), FM_INTERRUPTED);
    assert_null (s);
    fm_subscription_close (&s);                 /* nothing */
}

static void a_journal_comes (void *arg)
{
    (void) arg;
    journal = live_peer_add (answer, true);
}

static void who_may_wait_for_ever_waits_until_a_journal_comes (void **state)
{
    (void) state;
    script_plan (100000, a_journal_comes, NULL);
    assert_done (try_open ((struct fm_subscription_options) { .from = FM_FROM_START, .open_timeout_ms = -1 }));
    expect_nothing (1000);
    assert_int_equal (caught_up, 1);
}

static void too_many_patterns_are_refused (void **state)
{
    const char *many[FILTERS_MAX + 2] = { NULL };
    (void) state;
    for (size_t i = 0; i <= FILTERS_MAX; i++)
        many[i] = "a.>";
    assert_int_equal (try_open ((struct fm_subscription_options) { .topics = many }), FM_ERR_LIMIT);
    many[FILTERS_MAX] = NULL;
    assert_done (try_open ((struct fm_subscription_options) { .topics = many }));
}

/* ------------------------------------------------------------------ the session */

static void a_session_that_ends_is_opened_again_where_it_was (void **state)
{
    (void) state;
    const struct kit_batch_spec batch = facts (1, 1, 3), more = facts (1, 4, 2);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 3, .remaining_bytes = 1, .batches = &batch, .batch_count = 1 };
    open_from_start ();
    expect_facts (1, 1, 4);
    expect_nothing (10);
    as.first = (struct live_replay) { .start_offset = START + 3, .next_offset = START + 5, .caught_up = true, .batches = &more, .batch_count = 1 };
    Factmesh__ReplayEnd end = FACTMESH__REPLAY_END__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    end.session = as.session;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_END;
    control.replay_end = &end;
    script_say (journal, as.session, &control);
    expect_facts (1, 4, 6);
    const Factmesh__ReplayOpen *open = script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open;
    assert_int_equal (open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_CURSOR);
    assert_int_equal (open->from_cursor->offset, START + 3);
    assert_int_equal (open->from_cursor->n_positions, 1);
    assert_int_equal (open->from_cursor->positions[0]->seq, 3);
}

/* The message that would have come was lost with its connection. */
static void a_session_that_owes_more_and_is_silent_is_opened_again (void **state)
{
    (void) state;
    const struct kit_batch_spec batch = facts (1, 1, 3), more = facts (1, 4, 2);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 3, .remaining_bytes = 1, .batches = &batch, .batch_count = 1 };
    open_from_start ();
    expect_facts (1, 1, 4);
    as.mute_sessions = true;
    unsigned opened = 1;
    for (int silent_ms = SUBSCRIPTION_OWED_MS; silent_ms <= 4 * SUBSCRIPTION_OWED_MS; silent_ms *= 2) {
        expect_nothing (silent_ms / 2);
        assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), opened++);
        expect_nothing (silent_ms / 2 + 200);
        assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), opened);
    }
    as.mute_sessions = false;
    as.first = (struct live_replay) { .start_offset = START + 3, .next_offset = START + 5, .caught_up = true, .batches = &more, .batch_count = 1 };
    expect_facts (1, 4, 6);
}

static void what_nobody_asked_on_that_connection_changes_nothing (void **state)
{
    (void) state;
    as.first.caught_up = false;
    as.first.remaining_bytes = 1;
    open_from_start ();
    say_cursor (journal, as.session, NULL);
    script_say_bytes (journal, "garbage", 7);
    Factmesh__Pong pong = FACTMESH__PONG__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    pong.node = control_put_id (&journal->id);
    control.body_case = FACTMESH__CONTROL__BODY_PONG;
    control.pong = &pong;
    script_say (journal, as.session, &control);
    expect_nothing (10);
    const struct kit_batch_spec batch = facts (1, 1, 2);
    say ((struct live_replay) { .next_offset = START + 2, .caught_up = true, .batches = &batch, .batch_count = 1 });
    expect_facts (1, 1, 3);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
}

static void offsets_that_the_journal_lacks_are_a_gap_without_a_stream (void **state)
{
    static const struct fm_id none;
    const struct kit_batch_spec batch = facts (1, 5, 2);
    const struct replay_gap gap = { .first_seq = START, .end_seq = START + 4, .reason = FACTMESH__GAP_REASON__GAP_DAMAGED };
    (void) state;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 6, .caught_up = true, .gaps = &gap, .gap_count = 1,
                                      .batches = &batch, .batch_count = 1 };
    open_from_start ();
    expect_gap (&none, START, START + 4, FM_GAP_DAMAGED);
    expect_facts (1, 5, 7);
    expect_nothing (10);
}

static void a_batch_that_cannot_be_read_is_a_gap_of_its_offsets (void **state)
{
    static const struct fm_id none;
    const struct kit_batch_spec batch = facts (1, 1, 2), more = facts (2, 1, 2);
    (void) state;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 6, .remaining_bytes = 1, .batches = &batch, .batch_count = 1,
                                      .bytes = slice ("of a newer version", 18) };
    open_from_start ();
    expect_facts (1, 1, 3);
    expect_gap (&none, START, START + 6, FM_GAP_UNKNOWN);
    assert_int_equal (script.counters[NODE_CONTROL_REFUSED], 1);
    say ((struct live_replay) { .next_offset = START + 8, .caught_up = true, .batches = &more, .batch_count = 1 });
    expect_facts (2, 1, 3);
}

/* Held live batches would fill memory while the end is far. */
static void what_came_live_is_dropped_when_the_journal_says_that_the_end_is_far (void **state)
{
    (void) state;
    const struct kit_batch_spec early = facts (1, 1, 2), all = facts (2, 1, 4);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 2, .remaining_bytes = 1, .batches = &early, .batch_count = 1 };
    open_from_start ();
    expect_facts (1, 1, 3);
    live_leave (journal);
    expect_nothing (100);
    as.first = (struct live_replay) { .start_offset = START + 2, .next_offset = START + 2, .remaining_bytes = SUBSCRIPTION_KEEP_BYTES + 1 };
    as.mute_sessions = true;
    live_come_back (journal);
    expect_nothing (500);                       /* it is asked, and says nothing yet */
    publish (2, 3, 2);
    expect_nothing (50);
    assert_int_equal (s->held_bytes > 0, 1);
    say (as.first);
    expect_nothing (50);
    assert_int_equal (s->held_bytes, 0);
    say ((struct live_replay) { .next_offset = START + 6, .caught_up = true, .batches = &all, .batch_count = 1 });
    expect_facts (2, 1, 5);
    publish (2, 5, 1);
    expect_facts (2, 5, 6);
}

static void a_restored_journal_is_told_once_and_live_goes_on (void **state)
{
    (void) state;
    struct fm_event e;
    const struct kit_batch_spec batch = facts (1, 1, 2);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 2, .remaining_bytes = 1, .batches = &batch, .batch_count = 1 };
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place" });
    expect_facts (1, 1, 3);
    assert_done (fm_subscription_ack (s));
    live_leave (journal);
    live_of (journal)->generation = 2;
    live_come_back (journal);
    assert_int_equal (fm_subscription_next (s, PATIENCE_MS, &e), FM_ERR_GENERATION);
    assert_non_null (strstr (fm_error_detail (), "the one that was known is gone"));
    publish (1, 3, 2);
    expect_facts (1, 3, 5);
    assert_int_equal (fm_subscription_commit (s, 100), FM_ERR_NO_JOURNAL);
}

static void who_falls_behind_and_catches_up_by_live_is_told_so (void **state)
{
    (void) state;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .held_bytes = 1000 });
    live_of (publisher)->mute_fences = true;    /* so that the session stays */
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    for (uint64_t seq = 10; seq < 30; seq++)    /* above a hole */
        publish (1, seq, 1);
    expect_nothing (100);
    assert_int_equal (fell_behind, 1);
    const struct kit_batch_spec batch = facts (1, 2, 28);
    say ((struct live_replay) { .next_offset = START + 29, .batches = &batch, .batch_count = 1 });
    expect_facts (1, 2, 30);
    publish (1, 30, 1);
    expect_facts (1, 30, 31);
    expect_nothing (3 * SUBSCRIPTION_PATIENCE_MS);
    assert_int_equal (caught_up, 2);
    assert_int_equal (fell_behind, 1);
}

/* ------------------------------------------------------------------ the newest of each key */

static void newest_facts_of_a_lost_session_go_on_up_to_the_same_end (void **state)
{
    (void) state;
    const struct kit_batch_spec newest = facts (1, 7, 1), rest = facts (1, 12, 1);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 7, .remaining_bytes = 1, .latest_end = START + 11, .batches = &newest,
                                      .batch_count = 1 };
    open_with ((struct fm_subscription_options) { .from = FM_FROM_LATEST });
    expect_facts (1, 7, 8);
    publish (2, 5, 1);                          /* not kept: what is older of its key may still come */
    expect_nothing (50);
    live_leave (publisher);
    expect_nothing (3000);                      /* nor is anybody asked for what it sent last */
    assert_int_equal (script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open->stream.len, 0);
    live_leave (journal);
    expect_nothing (100);
    as.first = (struct live_replay) { .start_offset = START + 7, .next_offset = START + 12, .caught_up = true, .batches = &rest, .batch_count = 1 };
    live_come_back (journal);
    expect_facts (1, 12, 13);
    for (size_t i = 0; i < journal->question_count; i++) {
        const Factmesh__ReplayOpen *open = journal->questions[i]->replay_open;
        if (journal->questions[i]->body_case != FACTMESH__CONTROL__BODY_REPLAY_OPEN || open->stream.len || open->from_latest->offset == 0)
            continue;
        assert_int_equal (open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_LATEST);
        assert_int_equal (open->from_latest->offset, START + 7);
        assert_int_equal (open->latest_end, START + 11);
    }
}

/* ------------------------------------------------------------------ holes */

/* Beside the point, all of it, and then what was asked for. */
static void repair_beside (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct fm_id other = kit_stream (9), asked = kit_stream (1);
    const struct replay_gap gaps[] = {
        { .first_seq = 1, .end_seq = 99, .reason = FACTMESH__GAP_REASON__GAP_DAMAGED },
        { .stream = other, .first_seq = 1, .end_seq = 99, .reason = FACTMESH__GAP_REASON__GAP_DAMAGED },
    };
    const struct replay_covered covered[] = { { .stream = other, .through = 99 }, { .stream = asked, .through = UINT64_MAX } };
    const struct kit_batch_spec batches[] = { facts (9, 1, 3), facts (1, 2, 3) };
    live_say_replay (j, &(struct live_replay) { .session = open->session, .gaps = gaps, .gap_count = 2, .covered = covered, .covered_count = 2, .batches = batches,
                                                .batch_count = 2 });
}

static void a_repair_brings_nothing_but_what_was_asked_for (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_beside;
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 6);
    expect_nothing (500);
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
    publish (9, 1, 1);                          /* nothing of it came yet */
    expect_facts (9, 1, 2);
}

static void repair_garbage (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    live_say_replay (j, &(struct live_replay) { .session = open->session, .bytes = slice ("of a newer version", 18) });
}

static void repair_garbage_then_facts (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct kit_batch_spec batch = facts (1, 2, 3);
    if (j == publisher)
        repair_garbage (j, open);
    else
        live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = &batch, .batch_count = 1 });
}

static void what_a_journal_gives_and_cannot_be_read_is_a_gap (void **state)
{
    const struct fm_id stream = kit_stream (1);
    (void) state;
    go_live ();
    as.on_repair = repair_garbage;
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 2);
    expect_gap (&stream, 2, 5, FM_GAP_NOT_HELD);
    expect_facts (1, 5, 6);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 2);      /* the publisher's word was not enough */
}

static void what_a_publisher_gives_and_cannot_be_read_is_asked_of_a_journal (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_garbage_then_facts;
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 6);
}

/* A session's gap that begins with what came live: it is none there, and goes on behind it. */
static void a_held_batch_divides_a_gap (void **state)
{
    const struct fm_id stream = kit_stream (1);
    const struct replay_gap gap = { .stream = stream, .first_seq = 3, .end_seq = 6, .reason = FACTMESH__GAP_REASON__GAP_NOT_HELD };
    (void) state;
    const struct replay_covered covered = { .stream = stream };
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1, .covered = &covered, .covered_count = 1 };
    open_from_start ();
    expect_nothing (10);
    publish (1, 3, 1);                          /* held: nothing is known of what lies below */
    expect_nothing (10);
    say ((struct live_replay) { .next_offset = START + 6, .remaining_bytes = 1, .gaps = &gap, .gap_count = 1 });
    expect_facts (1, 3, 4);
    expect_gap (&stream, 4, 6, FM_GAP_NOT_HELD);
}

static void without_descriptors_it_is_asked_again (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_garbage_then_facts;
    expect_nothing (2 * SUBSCRIPTION_HOLDER_IDLE_MS);       /* no connection is left */
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    script.sockets_left = 0;
    publish (1, 5, 1);
    expect_nothing (1000);
    script.sockets_left = -1;
    expect_facts (1, 2, 6);
}

static void repair_one (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    struct fm_id id;
    assert_done (control_get_id (&open->stream, &id));
    const struct kit_batch_spec batch = facts (bytes_get_u32le (id.bytes) - 1, open->from_seq, (uint32_t) (open->end_seq - open->from_seq));
    live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = &batch, .batch_count = 1 });
}

/* Batches of a fact each. */
static void repair_in_pieces (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    struct kit_batch_spec batches[4 * SUBSCRIPTION_CHECK_TURN];
    struct fm_id id;
    size_t count = 0;
    assert_done (control_get_id (&open->stream, &id));
    assert_true (open->end_seq - open->from_seq <= sizeof batches / sizeof batches[0]);
    for (uint64_t seq = open->from_seq; seq < open->end_seq; seq++)
        batches[count++] = facts (bytes_get_u32le (id.bytes) - 1, seq, 1);
    live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = batches, .batch_count = count });
}

/* Answers wait for an application that takes seconds for a fact: they are not asked for again, and again, which would fill its memory. */
static void what_waits_for_a_slow_application_is_not_asked_for_again (void **state)
{
    enum { STREAMS = 3, END = 4 * SUBSCRIPTION_CHECK_TURN };
    (void) state;
    go_live ();
    as.on_repair = repair_in_pieces;
    for (unsigned stream = 1; stream <= STREAMS; stream++) {
        publish (stream, 1, 1);
        expect_facts (stream, 1, 2);
    }
    for (unsigned stream = 1; stream <= STREAMS; stream++)
        publish (stream, END - 1, 1);
    for (unsigned taken = 0; taken < STREAMS * (END - 2); taken++) {
        assert_int_equal (next ().kind, FM_EVENT_FACT);
        script.now_ns += (uint64_t) 3 * SUBSCRIPTION_REPAIR_MS * SCRIPT_MS;
    }
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), STREAMS);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);      /* the session */
}

/* More holes than questions at a time, of more publishers than connections. */
static void holes_of_more_publishers_than_connections_are_filled (void **state)
{
    enum { PEERS = SUBSCRIPTION_HOLDERS_MAX + 20 };
    struct scripted *peers[PEERS];
    unsigned taken[PEERS] = { 0 };
    (void) state;
    go_live ();
    as.on_repair = repair_one;
    for (unsigned i = 0; i < PEERS; i++)
        peers[i] = live_lodger_add (publisher);
    expect_nothing (100);
    for (unsigned i = 0; i < PEERS; i++)
        for (uint64_t seq = 1; seq <= 3; seq += 2) {
            const struct kit_batch_spec batch = facts (i, seq, 1);
            live_publish (peers[i], &batch);
        }
    for (unsigned left = 3 * PEERS; left > 0; left--) {
        const struct fm_event e = next ();
        assert_int_equal (e.kind, FM_EVENT_FACT);
        const unsigned i = bytes_get_u32le (e.fact.id.stream.bytes) - 1;
        assert_true (i < PEERS);
        assert_int_equal (e.fact.id.seq, ++taken[i]);
    }
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), PEERS);
}

/* ------------------------------------------------------------------ live */

static void garbage_is_refused_and_counted (void **state)
{
    static const uint8_t kinds[] = { RESERVED_HEAD, RESERVED_ENDED, RESERVED_WATERMARK };
    (void) state;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .delivery = FM_SYNCED });
    expect_nothing (3000);
    uint64_t refused = 0;
    live_say_body (publisher, slice_of ("a.b"), slice ("no batch", 8));
    expect_nothing (10);
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], ++refused);
    for (size_t i = 0; i < sizeof kinds; i++) {
        const uint8_t topic[] = { RESERVED_BYTE, kinds[i] };
        live_say_under (journal, topic, 2, slice ("\xff\xff\xff", 3));
        expect_nothing (10);
        assert_int_equal (script.counters[NODE_FRAMES_REFUSED], ++refused);
    }
    live_say_head (publisher, RESERVED_ENDED, 1, 100);          /* it is no journal, and so not its to say */
    expect_nothing (10);
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], ++refused);
    uint8_t frame[2 + FENCE_NONCE_LEN + 4] = { RESERVED_BYTE, RESERVED_FENCE };
    live_say_bytes (publisher, frame, sizeof frame);                 /* nobody's nonce: not even heard */
    expect_nothing (3000);
    assert_null (script_last (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN));
}

static void facts_that_do_not_decode_are_a_gap (void **state)
{
    const struct fm_id stream = kit_stream (1);
    const struct kit_batch_spec spec = facts (1, 1, 3);
    struct kit_batch k;
    (void) state;
    go_live ();
    kit_batch_make (&spec, &k);
    k.bytes[k.len - 101] = 0xff;                /* the last payload's length */
    live_say_body (publisher, slice_of ("a.b"), slice (k.bytes, k.len));
    kit_batch_release (&k);
    publish (1, 4, 1);
    expect_facts (1, 1, 3);
    expect_gap (&stream, 3, 4, FM_GAP_DAMAGED);
    expect_facts (1, 4, 5);
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], 1);
}

static void answer_fences (void *arg)
{
    struct scripted *j = arg;
    live_of (j)->mute_fences = false;
}

/* No journal, and its publisher does not say yet where live begins. */
static void what_is_too_much_before_the_fence_is_answered_is_dropped (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_of (publisher)->mute_fences = true;
    live_sent (publisher, 1, 131);
    assert_done (try_open ((struct fm_subscription_options) { .no_journal = true, .held_bytes = 1000 }));
    for (uint64_t seq = 101; seq < 131; seq++)
        publish (1, seq, 1);
    expect_nothing (10);
    assert_true (script.counters[NODE_FELL_BEHIND] > 0);
    assert_true (s->held_bytes <= 1000);
    script_plan (1, answer_fences, publisher);
    expect_nothing (LIVE_SET_FENCE_MAX_MS);
    publish (1, 131, 2);
    expect_facts (1, 131, 133);
}

/* ------------------------------------------------------------------ cursors */

static void a_journal_that_knows_no_cursor_leaves_the_start_to_the_options (void **state)
{
    (void) state;
    as.cursor_refusals = 2;
    as.refuse_cursors = FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL;     /* it is just starting */
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place" });
    assert_int_equal (script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_OFFSET);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_CURSOR_GET), 3);
}

static void a_journal_that_goes_on_starting_is_told_by_its_words (void **state)
{
    (void) state;
    as.cursor_refusals = UINT32_MAX;
    as.refuse_cursors = FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL;
    journal = live_peer_add (answer, true);
    assert_int_equal (try_open ((struct fm_subscription_options) { .cursor = "place" }), FM_ERR_NO_JOURNAL);
    assert_non_null (strstr (fm_error_detail (), words));
}

static void a_commit_that_is_refused_is_told (void **state)
{
    (void) state;
    const struct kit_batch_spec batch = facts (1, 1, 2);
    as.first.batches = &batch;
    as.first.batch_count = 1;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place", .commit_ms = 60000 });
    expect_facts (1, 1, 3);
    assert_done (fm_subscription_ack (s));
    as.cursor_refusals = UINT32_MAX;
    as.refuse_cursors = FACTMESH__ERROR_CODE__ERROR_READ_ONLY;
    assert_int_equal (fm_subscription_commit (s, 1000), FM_ERR_READ_ONLY);
    assert_non_null (strstr (fm_error_detail (), words));
    as.refuse_cursors = FACTMESH__ERROR_CODE__ERROR_LIMIT;          /* which passes */
    assert_int_equal (fm_subscription_commit (s, 1000), FM_TIMEOUT);
    as.cursor_refusals = 0;
    Factmesh__Cursor bad = FACTMESH__CURSOR__INIT;                  /* of no journal: confirmed all the same, and nothing to go by */
    as.cursor = &bad;
    assert_done (fm_subscription_commit (s, 5000));
    const Factmesh__Cursor *put = script_last (journal, FACTMESH__CONTROL__BODY_CURSOR_PUT)->cursor_put->cursor;
    assert_int_equal (put->n_positions, 1);
    assert_int_equal (put->positions[0]->seq, 2);
    assert_int_equal (s->acked_base.offset, put->offset);
}

static void an_acknowledgement_without_a_name_is_the_callers_to_keep (void **state)
{
    (void) state;
    open_from_start ();
    assert_done (fm_subscription_ack (s));
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_CURSOR_PUT), 0);
    assert_int_equal (fm_subscription_commit (s, 0), FM_ERR_ARGUMENT);
}

/* ------------------------------------------------------------------ limits */

static void a_connection_carries_so_many_sessions (void **state)
{
    (void) state;
    struct replay_client *client;
    journal = live_peer_add (script_silence, true);
    assert_done (replay_client_new (&script, journal->address, &client));
    for (unsigned i = 0; i <= REPLAY_SESSIONS_MAX; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        uint64_t session = 0;
        assert_int_equal (replay_client_open (client, &open, &session), i < REPLAY_SESSIONS_MAX ? 0 : FM_ERR_LIMIT);
        assert_int_equal (session != 0, i < REPLAY_SESSIONS_MAX);
    }
    assert_int_equal (replay_client_sessions (client), REPLAY_SESSIONS_MAX);
    replay_client_destroy (&client);
}

enum { CROWD = SUBSCRIPTION_STREAMS_MAX, CROWD_MESSAGE = 4096 };

/* Facts of streams [first, end), one each. */
static void say_crowd (unsigned first, unsigned end, uint64_t seq)
{
    struct kit_batch_spec *batches = calloc (CROWD_MESSAGE, sizeof *batches);
    assert_non_null (batches);
    while (first < end) {
        size_t count = 0;
        for (; first < end && count < CROWD_MESSAGE; first++)
            batches[count++] = (struct kit_batch_spec) { .stream = first, .first_seq = seq, .count = 1 };
        say ((struct live_replay) { .next_offset = START + first, .remaining_bytes = 1, .batches = batches, .batch_count = count });
        for (size_t i = 0; i < count; i++)
            expect_facts (batches[i].stream, seq, seq + 1);
    }
    free (batches);
}

static void a_full_table_is_told_and_streams_that_ended_make_room (void **state)
{
    (void) state;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1 };
    open_from_start ();
    expect_nothing (10);
    say_crowd (0, CROWD, 1);
    assert_int_equal (s->stream_count, CROWD);
    /* One more: of the session, and of what it says is covered. */
    const struct kit_batch_spec more = { .stream = CROWD, .first_seq = 1, .count = 1 };
    const struct replay_covered unknown = { .stream = kit_stream (CROWD + 1), .through = 5 };
    say ((struct live_replay) { .next_offset = START + CROWD + 1, .remaining_bytes = 1, .batches = &more, .batch_count = 1, .covered = &unknown, .covered_count = 1 });
    expect_nothing (10);
    assert_true (script_noticed ("STREAMS-FULL"));
    assert_int_equal (s->stream_count, CROWD);
    /* The journal has seen that some lie below the base. */
    enum { ENDED = 100 };
    struct replay_covered covered[ENDED];
    for (unsigned i = 0; i < ENDED; i++)
        covered[i] = (struct replay_covered) { .stream = kit_stream (i), .through = 1 };
    say ((struct live_replay) { .next_offset = START + CROWD + 2, .caught_up = true, .covered = covered, .covered_count = ENDED });
    expect_nothing (10);
    publish (CROWD + 2, 1, 1);
    expect_facts (CROWD + 2, 1, 2);
    assert_int_equal (s->stream_count, CROWD - ENDED + 1);
    publish (CROWD - 1, 2, 1);                  /* the others are all there */
    expect_facts (CROWD - 1, 2, 3);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (what_the_journal_says_is_told),
        CASE (a_signal_ends_the_wait_for_a_journal_or_a_publisher),
        CASE (who_may_wait_for_ever_waits_until_a_journal_comes),
        CASE (too_many_patterns_are_refused),
        CASE (a_session_that_ends_is_opened_again_where_it_was),
        CASE (a_session_that_owes_more_and_is_silent_is_opened_again),
        CASE (what_nobody_asked_on_that_connection_changes_nothing),
        CASE (offsets_that_the_journal_lacks_are_a_gap_without_a_stream),
        CASE (a_batch_that_cannot_be_read_is_a_gap_of_its_offsets),
        CASE (what_came_live_is_dropped_when_the_journal_says_that_the_end_is_far),
        CASE (a_restored_journal_is_told_once_and_live_goes_on),
        CASE (who_falls_behind_and_catches_up_by_live_is_told_so),
        CASE (newest_facts_of_a_lost_session_go_on_up_to_the_same_end),
        CASE (a_repair_brings_nothing_but_what_was_asked_for),
        CASE (what_a_journal_gives_and_cannot_be_read_is_a_gap),
        CASE (what_a_publisher_gives_and_cannot_be_read_is_asked_of_a_journal),
        CASE (a_held_batch_divides_a_gap),
        CASE (without_descriptors_it_is_asked_again),
        CASE (what_waits_for_a_slow_application_is_not_asked_for_again),
        CASE (holes_of_more_publishers_than_connections_are_filled),
        CASE (garbage_is_refused_and_counted),
        CASE (facts_that_do_not_decode_are_a_gap),
        CASE (what_is_too_much_before_the_fence_is_answered_is_dropped),
        CASE (a_journal_that_knows_no_cursor_leaves_the_start_to_the_options),
        CASE (a_journal_that_goes_on_starting_is_told_by_its_words),
        CASE (a_commit_that_is_refused_is_told),
        CASE (an_acknowledgement_without_a_name_is_the_callers_to_keep),
        CASE (a_connection_carries_so_many_sessions),
        CASE (a_full_table_is_told_and_streams_that_ended_make_room),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
