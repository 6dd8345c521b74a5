/* subscription: its one link is slow: answers come one after the other, each takes its time, and what was given up comes all the same. Time is virtual
 * (scripted_journal.h). */

#include "scripted_subscription.h"

enum { LINK_MAX = 4096, HOLE_FIRST = 2, HOLE_END = 10, STREAMS_MAX = 64 };

/* What is under way, whoever sent it. */
static struct {
    unsigned takes_ms;                          /* for a message */
    size_t first, end;
    struct under_way {
        struct scripted *from;
        struct live_replay message;
        struct kit_batch_spec batch;
    } messages[LINK_MAX];
} slow;

static unsigned asked[STREAMS_MAX + 1], never_answered;
static uint64_t asked_ns[2], expected[STREAMS_MAX + 1];

static int set_up_slow (void **state)
{
    memset (&slow, 0, sizeof slow);
    memset (asked, 0, sizeof asked);
    memset (asked_ns, 0, sizeof asked_ns);
    never_answered = 0;
    return set_up (state);
}

static void arrives (void *arg)
{
    struct under_way *const m = &slow.messages[slow.first++];
    (void) arg;
    m->message.batches = &m->batch;
    live_say_replay (m->from, &m->message);
    if (slow.first < slow.end)
        script_plan (slow.takes_ms, arrives, NULL);
}

static void send_slowly (struct scripted *from, const struct live_replay *message, const struct kit_batch_spec *batch)
{
    assert_true (slow.end < LINK_MAX);
    slow.messages[slow.end++] = (struct under_way) { .from = from, .message = *message, .batch = *batch };
    if (slow.end - slow.first == 1)
        script_plan (slow.takes_ms, arrives, NULL);
}

static unsigned stream_of (const struct fm_id *id)
{
    return bytes_get_u32le (id->bytes) - 1;
}

static void repair_slowly (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    struct fm_id id;
    assert_done (control_get_id (&open->stream, &id));
    const unsigned stream = stream_of (&id);
    if (asked[stream] < 2 && stream == never_answered)
        asked_ns[asked[stream]] = script.now_ns;
    if (asked[stream]++ == 0 && stream == never_answered)
        return;
    const struct kit_batch_spec batch = facts (stream, open->from_seq, (uint32_t) (open->end_seq - open->from_seq));
    send_slowly (j, &(struct live_replay) { .session = open->session, .batch_count = 1 }, &batch);
}

/* Of so many streams the middle did not come live. */
static void lose_the_middle_of (unsigned streams)
{
    as.on_repair = repair_slowly;
    for (unsigned i = 1; i <= streams; i++) {
        publish (i, 1, HOLE_FIRST - 1);
        expect_facts (i, 1, HOLE_FIRST);
        expected[i] = HOLE_FIRST;
    }
    for (unsigned i = 1; i <= streams; i++)
        publish (i, HOLE_END, 1);
}

/* A fact of one of them, the next one of its stream. */
static void take_one_of (unsigned streams)
{
    const struct fm_event e = next ();
    assert_int_equal (e.kind, FM_EVENT_FACT);
    const unsigned stream = stream_of (&e.fact.id.stream);
    assert_in_range (stream, 1, streams);
    check_fact (&e, stream, expected[stream]++);
}

/* All of it, of each stream in order. Returns how often was asked. */
static unsigned take_all_of (unsigned streams)
{
    unsigned questions = 0;
    for (uint64_t n = 0; n < streams * (HOLE_END + 1 - HOLE_FIRST); n++)
        take_one_of (streams);
    expect_nothing (100);
    for (unsigned i = 1; i <= streams; i++)
        questions += asked[i];
    return questions;
}

/* ------------------------------------------------------------------ holes */

/* The last of them waits for 7 s, while others come. */
static void an_answer_that_waits_behind_others_is_waited_for (void **state)
{
    enum { STREAMS = 14 };
    (void) state;
    go_live ();
    slow.takes_ms = 500;
    lose_the_middle_of (STREAMS);
    assert_int_equal (take_all_of (STREAMS), STREAMS);
    assert_int_equal (slow.end, STREAMS);
}

/* Each takes three times as long as a silence is believed at first: what is given up comes all the same, and shows how slow the link is. */
static void a_message_that_takes_long_is_given_longer (void **state)
{
    enum { STREAMS = 8, TAKES_MS = 3 * SUBSCRIPTION_REPAIR_MS };
    (void) state;
    go_live ();
    const uint64_t began_ns = script.now_ns;
    slow.takes_ms = TAKES_MS;
    lose_the_middle_of (STREAMS);
    assert_in_range (take_all_of (STREAMS), STREAMS, 5 * STREAMS);
    assert_in_range (script.now_ns - began_ns, STREAMS * TAKES_MS * SCRIPT_MS, 5 * STREAMS * TAKES_MS * SCRIPT_MS);
}

/* An application that waits elsewhere, and looks now and then: that nothing had come by then says how long it takes. */
static void a_message_that_takes_long_is_given_longer_by_who_does_not_wait (void **state)
{
    enum { STREAMS = 16, TAKES_MS = 3 * SUBSCRIPTION_REPAIR_MS, LOOKS_MS = 50 };
    (void) state;
    go_live ();
    slow.takes_ms = TAKES_MS;
    as.on_repair = repair_slowly;
    unsigned questions = 0;
    for (unsigned i = 1; i <= STREAMS; i++) {
        struct fm_event e;
        publish (i, 1, 1);
        publish (i, 3, 1);
        for (uint64_t seq = 1; seq < 4;) {
            const int rc = fm_subscription_next (s, 0, &e);
            if (rc == FM_TIMEOUT) {
                script_pass (LOOKS_MS);
            } else {
                assert_done (rc);
                check_fact (&e, i, seq++);
            }
        }
        questions += asked[i];
    }
    assert_in_range (questions, STREAMS, 2 * STREAMS);
}

/* As soon as nothing else comes. */
static void an_answer_that_was_lost_is_asked_for_again_after_the_others (void **state)
{
    enum { STREAMS = 40, OTHERS_MS = (STREAMS - 1) * 300 };
    (void) state;
    go_live ();
    slow.takes_ms = 300;
    never_answered = 1;
    lose_the_middle_of (STREAMS);
    assert_in_range (take_all_of (STREAMS), STREAMS + 1, STREAMS + 4);
    for (unsigned i = 2; i <= STREAMS; i++)
        assert_int_equal (asked[i], 1);
    assert_in_range (asked_ns[1] - asked_ns[0], SUBSCRIPTION_REPAIR_MS * SCRIPT_MS, (OTHERS_MS + SUBSCRIPTION_REPAIR_MS + 500) * SCRIPT_MS);
}

/* What is asked for after it is answered, again and again. */
static void an_answer_that_was_lost_is_asked_for_again_when_a_later_one_comes (void **state)
{
    enum { OTHERS = 30 };
    (void) state;
    go_live ();
    slow.takes_ms = 10;
    never_answered = 1;
    lose_the_middle_of (1);
    for (unsigned i = 2; i < 2 + OTHERS && asked[1] < 2; i++) {
        expected[i] = 1;
        publish (i, 1, 1);
        publish (i, 3, 1);
        while (expected[i] < 4)
            take_one_of (i);
        script_pass (200);
    }
    while (expected[1] <= HOLE_END)
        take_one_of (1);
    assert_int_equal (asked[1], 2);
    assert_in_range (asked_ns[1] - asked_ns[0], SUBSCRIPTION_REPAIR_MS * SCRIPT_MS, 2 * SUBSCRIPTION_REPAIR_MS * SCRIPT_MS);
}

static void an_answer_is_a_sign_of_its_senders_life (void **state)
{
    (void) state;
    go_live ();
    slow.takes_ms = 10;
    lose_the_middle_of (1);
    expect_nothing (5);
    struct node_sign *const sign = script.sign;
    assert_non_null (sign);
    atomic_store (&sign->seen, false);
    (void) take_all_of (1);
    assert_true (atomic_load (&sign->seen));
}

/* What comes at once is read late. */
static void a_slow_application_does_not_make_its_connections_slow (void **state)
{
    enum { STREAMS = 4, LOST = STREAMS + 1, TAKES_MS = 3 * SUBSCRIPTION_REPAIR_MS };
    (void) state;
    go_live ();
    slow.takes_ms = 10;
    never_answered = LOST;
    lose_the_middle_of (STREAMS);
    for (unsigned n = 0; n < STREAMS * (HOLE_END + 1 - HOLE_FIRST); n++) {
        take_one_of (STREAMS);
        script_pass (TAKES_MS);
    }
    expected[LOST] = 1;
    publish (LOST, 1, 1);
    publish (LOST, HOLE_END, 1);
    while (expected[LOST] <= HOLE_END)
        take_one_of (LOST);
    for (unsigned i = 1; i <= STREAMS; i++)
        assert_int_equal (asked[i], 1);
    assert_int_equal (asked[LOST], 2);
    assert_in_range (asked_ns[1] - asked_ns[0], SUBSCRIPTION_REPAIR_MS * SCRIPT_MS, 2 * SUBSCRIPTION_REPAIR_MS * SCRIPT_MS);
}

/* Its socket had been looked at before it came; the application takes its time over what came live meanwhile. */
static void what_comes_while_the_application_takes_its_time_did_not_take_that (void **state)
{
    enum { LOST = 3, OTHER = 2, TAKES_MS = SUBSCRIPTION_REPAIR_MS - 100 };
    (void) state;
    go_live ();
    slow.takes_ms = 10;
    never_answered = LOST;
    lose_the_middle_of (1);
    expect_nothing (5);
    publish (OTHER, 1, 1);
    expect_facts (OTHER, 1, 2);
    script_pass (TAKES_MS);
    while (expected[1] <= HOLE_END)
        take_one_of (1);
    expected[LOST] = 1;
    publish (LOST, 1, 1);
    publish (LOST, HOLE_END, 1);
    while (expected[LOST] <= HOLE_END)
        take_one_of (LOST);
    assert_int_equal (asked[1], 1);
    assert_int_equal (asked[LOST], 2);
    assert_in_range (asked_ns[1] - asked_ns[0], SUBSCRIPTION_REPAIR_MS * SCRIPT_MS, 3 * SUBSCRIPTION_REPAIR_MS * SCRIPT_MS / 2);
}

static void repair_is_for_a_journal (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct replay_gap gap = { .stream = kit_stream (1), .first_seq = open->from_seq, .end_seq = open->end_seq, .reason = FACTMESH__GAP_REASON__GAP_SYNCED };
    live_say_replay (j, &(struct live_replay) { .session = open->session, .gaps = &gap, .gap_count = 1 });
}

/* One long answer, message by message. */
static uint64_t long_session, long_next;

static void long_goes_on (void *arg)
{
    const struct kit_batch_spec batch = facts (2, long_next++, 1);
    live_say_replay (journal, &(struct live_replay) { .session = long_session, .batches = &batch, .batch_count = 1 });
    script_plan (500, long_goes_on, arg);
}

static void repair_of_one_is_long (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    struct fm_id id;
    assert_done (control_get_id (&open->stream, &id));
    if (stream_of (&id) == 2) {
        long_session = open->session;
        long_next = open->from_seq;
        long_goes_on (NULL);
    } else {
        repair_slowly (j, open);
    }
}

/* It is asked for after the long one began, and nothing is asked after it. */
static void an_answer_that_was_lost_beside_a_long_one_is_asked_for_again (void **state)
{
    enum { LONG = 2 * SUBSCRIPTION_UNHEARD_MS / 500 };
    (void) state;
    go_live ();
    never_answered = 1;
    expected[1] = expected[2] = 1;
    as.on_repair = repair_of_one_is_long;
    publish (2, 1, 1);
    take_one_of (2);
    publish (2, SUBSCRIPTION_NEAR_HOLE + 100, 1);
    take_one_of (2);
    publish (1, 1, 1);
    publish (1, SUBSCRIPTION_NEAR_HOLE + 100, 1);
    for (unsigned n = 0; n < LONG && asked[1] < 2; n++)
        take_one_of (2);
    assert_int_equal (asked[1], 2);
    assert_in_range (asked_ns[1] - asked_ns[0], SUBSCRIPTION_UNHEARD_MS * SCRIPT_MS, (SUBSCRIPTION_UNHEARD_MS + 2 * SUBSCRIPTION_REPAIR_MS) * SCRIPT_MS);
}

static void refuses (void *session)
{
    script_refuse (publisher, *(const uint64_t *) session, FACTMESH__ERROR_CODE__ERROR_LIMIT, words);
}

/* The publisher has it no more, or refuses in the end; the journal sends it, slowly. */
static bool refuse_late;

static void repair_is_the_journals (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    static uint64_t session;
    if (j == journal) {
        repair_slowly (j, open);
    } else if (refuse_late) {
        session = open->session;
        script_plan (3 * SUBSCRIPTION_REPAIR_MS / 2, refuses, &session);
    } else {
        repair_is_for_a_journal (j, open);
    }
}

static void lose_what_a_slow_journal_has (unsigned takes_ms)
{
    go_live ();
    slow.takes_ms = takes_ms;
    lose_the_middle_of (1);
    as.on_repair = repair_is_the_journals;
}

/* While a slow journal's answer is on its way the publisher says at once that it has it no more, each time. */
static void a_word_that_brings_nothing_does_not_end_a_slow_answer (void **state)
{
    enum { TAKES_MS = 5 * SUBSCRIPTION_REPAIR_MS };
    (void) state;
    refuse_late = false;
    const uint64_t began_ns = script.now_ns;
    lose_what_a_slow_journal_has (TAKES_MS);
    assert_in_range (take_all_of (1), 1, 4);
    assert_in_range (script.now_ns - began_ns, TAKES_MS * SCRIPT_MS, 2 * TAKES_MS * SCRIPT_MS);
}

static void a_refusal_that_comes_late_does_not_end_the_next_question (void **state)
{
    (void) state;
    refuse_late = true;
    lose_what_a_slow_journal_has (SUBSCRIPTION_REPAIR_MS * 3 / 4);
    assert_int_equal (take_all_of (1), 1);
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
}

static void repair_is_not_yet (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    live_say_replay (j, &(struct live_replay) { .session = open->session, .caught_up = true });
}

static size_t both_were_asked (Factmesh__Control__BodyCase kind)
{
    return script_asked (publisher, kind) + script_asked (journal, kind);
}

/* Nothing is on the way of it: it is closed before it is asked again, where it would be in the way of slow ones (SUBSCRIPTION_LATE_MAX). */
static void a_holder_that_has_no_more_now_has_one_question_at_a_time (void **state)
{
    enum { AWAY_MS = 20000 };
    (void) state;
    go_live ();
    as.on_repair = repair_is_not_yet;
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    const size_t closed = both_were_asked (FACTMESH__CONTROL__BODY_REPLAY_CLOSE);
    const size_t opened = both_were_asked (FACTMESH__CONTROL__BODY_REPLAY_OPEN);
    publish (1, HOLE_END, 1);
    expect_nothing (AWAY_MS);
    const size_t asked_about_it = both_were_asked (FACTMESH__CONTROL__BODY_REPLAY_OPEN) - opened;
    assert_in_range (asked_about_it, AWAY_MS / SUBSCRIPTION_REPAIR_MS / 2, AWAY_MS / SUBSCRIPTION_REPAIR_MS + 1);
    assert_int_equal (both_were_asked (FACTMESH__CONTROL__BODY_REPLAY_CLOSE) - closed, asked_about_it - 1);
}

/* The one journal is away; there is nobody else to be asked. */
static void a_publisher_that_has_it_no_more_is_asked_again_now_and_then (void **state)
{
    enum { AWAY_MS = 2000 };
    (void) state;
    go_live ();
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    live_leave (journal);
    expect_nothing (100);
    as.on_repair = repair_is_for_a_journal;
    publish (1, HOLE_END, 1);
    expect_nothing (AWAY_MS);
    assert_in_range (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 2, AWAY_MS / SUBSCRIPTION_RETRY_MS + 1);
}

/* It lives, and says nothing: there is nobody else. */
static void without_a_journal_a_gap_is_told_in_a_minute (void **state)
{
    const struct fm_id stream = kit_stream (1);
    (void) state;
    publisher = live_peer_add (answer, false);
    live_sent (publisher, 1, 1);
    assert_done (try_open ((struct fm_subscription_options) { .no_journal = true }));
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    const uint64_t began_ns = script.now_ns;
    publish (1, 3, 1);
    expect_gap (&stream, 2, 3, FM_GAP_NOT_HELD);
    expect_facts (1, 3, 4);
    assert_in_range (script.now_ns - began_ns, 30000 * SCRIPT_MS, 60000 * SCRIPT_MS);
}

/* ------------------------------------------------------------------ the session */

/* What the journal sends in a session, message by message, for as long as it is the one that is open. */
static uint64_t session_next;

static void session_goes_on (void *arg)
{
    (void) arg;
    const struct kit_batch_spec batch = facts (1, session_next, 1);
    send_slowly (journal, &(struct live_replay) { .session = as.session, .next_offset = START + session_next, .remaining_bytes = 1, .batch_count = 1 }, &batch);
}

/* Each message comes after the silence for which a session is opened again. */
static void a_session_over_a_slow_link_moves (void **state)
{
    enum { MESSAGES = 10, TAKES_MS = 3 * SUBSCRIPTION_OWED_MS };
    (void) state;
    as.first.caught_up = false;
    as.first.remaining_bytes = 1;
    open_from_start ();
    slow.takes_ms = TAKES_MS;
    for (session_next = 1; session_next <= MESSAGES; session_next++) {
        session_goes_on (NULL);
        /* What it was told of a session that was given up is dropped; it is sent again in the next. */
        const uint64_t session = as.session;
        struct fm_event e;
        while (fm_subscription_next (s, TAKES_MS, &e) == FM_TIMEOUT)
            if (as.session != session && slow.first == slow.end)
                session_goes_on (NULL);
        check_fact (&e, 1, session_next);
    }
    assert_in_range (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1, 3);
}

/* ------------------------------------------------------------------ credit */

enum { PIECE = 32 << 10 };

/* What this session was given, in bytes. */
static uint64_t granted_to (const struct scripted *j, uint64_t session)
{
    uint64_t granted = 0;
    for (size_t i = 0; i < j->question_count; i++) {
        const Factmesh__Control *const q = j->questions[i];
        if (q->body_case == FACTMESH__CONTROL__BODY_REPLAY_OPEN && q->replay_open->session == session)
            granted += q->replay_open->credit;
        if (q->body_case == FACTMESH__CONTROL__BODY_REPLAY_CREDIT && q->replay_credit->session == session)
            granted += q->replay_credit->bytes;
    }
    return granted;
}

/* So many pieces of a session come at once, and so many each so long after the last was taken. Returns how many bytes the journal may have under way then. */
static uint64_t credit_after (unsigned soon, unsigned late, unsigned takes_ms)
{
    uint64_t sent = 0;
    as.first.caught_up = false;
    as.first.remaining_bytes = 1;
    open_from_start ();
    for (unsigned n = 0; n < soon + late; n++) {
        struct kit_batch_spec batch = { .stream = 1, .first_seq = n + 1, .count = 1, .payload_len = PIECE };
        script_pass (n < soon ? 0 : takes_ms);
        say ((struct live_replay) { .next_offset = START + n + 1, .remaining_bytes = 1, .batches = &batch, .batch_count = 1 });
        sent += PIECE;
        expect_facts (1, n + 1, n + 2);
    }
    expect_nothing (10);
    const uint64_t granted = granted_to (journal, as.session);
    assert_in_range (granted, sent, UINT64_MAX);
    return granted - sent;
}

static void credit_grows_while_what_comes_comes_soon (void **state)
{
    (void) state;
    assert_in_range (credit_after (300, 0, 0), REPLAY_CREDIT_DEFAULT * 3 / 4, REPLAY_CREDIT_DEFAULT + 2 * PIECE);
}

/* One piece in more than half a second. */
static void credit_stays_small_over_a_slow_link (void **state)
{
    (void) state;
    assert_in_range (credit_after (0, 100, 600), 1, 2 * PIECE);
}

static void credit_shrinks_when_a_link_becomes_slow (void **state)
{
    (void) state;
    assert_in_range (credit_after (300, 300, 600), 1, 4 * PIECE);
}

static struct { struct scripted *holder; uint64_t session; } asked_one;

static void remember_one (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    if (!asked_one.holder) {
        asked_one.holder = j;
        asked_one.session = open->session;
    }
}

/* However fast it comes: all that may be asked at a time are no more than a subscription may hold. */
static void credit_of_a_repair_grows_to_its_share (void **state)
{
    (void) state;
    enum { PIECES = 100, HELD = SUBSCRIPTION_HELD_DEFAULT / SUBSCRIPTION_REPAIRS_MAX };
    asked_one.holder = NULL;
    as.on_repair = remember_one;
    go_live ();
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    publish (1, PIECES + 2, 1);
    expect_nothing (500);
    assert_non_null (asked_one.holder);
    for (unsigned n = 2; n < PIECES + 2; n++) {
        const struct kit_batch_spec batch = { .stream = 1, .first_seq = n, .count = 1, .payload_len = PIECE };
        expect_nothing (1);             /* what was given back is heard */
        live_say_replay (asked_one.holder, &(struct live_replay) { .session = asked_one.session, .batches = &batch, .batch_count = 1 });
        expect_facts (1, n, n + 1);
    }
    expect_facts (1, PIECES + 2, PIECES + 3);
    assert_in_range (granted_to (asked_one.holder, asked_one.session) - PIECES * PIECE, 1, HELD + 2 * PIECE);
}

int main (void)
{
#define SLOW_CASE(name) cmocka_unit_test_setup_teardown (name, set_up_slow, tear_down)
    const struct CMUnitTest tests[] = {
        SLOW_CASE (an_answer_that_waits_behind_others_is_waited_for),
        SLOW_CASE (a_message_that_takes_long_is_given_longer),
        SLOW_CASE (a_message_that_takes_long_is_given_longer_by_who_does_not_wait),
        SLOW_CASE (an_answer_that_was_lost_is_asked_for_again_after_the_others),
        SLOW_CASE (an_answer_that_was_lost_is_asked_for_again_when_a_later_one_comes),
        SLOW_CASE (an_answer_is_a_sign_of_its_senders_life),
        SLOW_CASE (a_slow_application_does_not_make_its_connections_slow),
        SLOW_CASE (what_comes_while_the_application_takes_its_time_did_not_take_that),
        SLOW_CASE (an_answer_that_was_lost_beside_a_long_one_is_asked_for_again),
        SLOW_CASE (a_word_that_brings_nothing_does_not_end_a_slow_answer),
        SLOW_CASE (a_refusal_that_comes_late_does_not_end_the_next_question),
        SLOW_CASE (a_holder_that_has_no_more_now_has_one_question_at_a_time),
        SLOW_CASE (a_publisher_that_has_it_no_more_is_asked_again_now_and_then),
        SLOW_CASE (without_a_journal_a_gap_is_told_in_a_minute),
        SLOW_CASE (a_session_over_a_slow_link_moves),
        SLOW_CASE (credit_grows_while_what_comes_comes_soon),
        SLOW_CASE (credit_stays_small_over_a_slow_link),
        SLOW_CASE (credit_shrinks_when_a_link_becomes_slow),
        SLOW_CASE (credit_of_a_repair_grows_to_its_share),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
