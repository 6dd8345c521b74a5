/* intake: answers over a slow connection, one after the other, those to questions that were given up among them. Its peers follow a script
 * (scripted_intake.h). */

#include "scripted_intake.h"

enum { STREAMS = 6 };

static struct kit_batch_spec fact_of (unsigned stream, uint64_t seq)
{
    return (struct kit_batch_spec) { .stream = stream, .first_seq = seq, .count = 1, .payload_len = 20 };
}

/* Peer 0 has sent one fact of each, which did not come. */
static void ask_for (unsigned first, unsigned end, uint64_t *sessions)
{
    for (unsigned i = first; i < end; i++)
        script_head (0, i, 1, 1);
    script_settle ();
    for (unsigned i = first; i < end; i++)
        sessions[i] = script_expect_question (0, i, 1, 2);
}

static void answer (uint64_t session, unsigned stream)
{
    const struct kit_batch_spec fact = fact_of (stream, 1);
    script_answer_batch (session, &fact);
    script_answer_end (session);
}

static void an_answer_that_waits_behind_others_is_waited_for (void **state)
{
    struct fake_journal *j = *state;
    uint64_t sessions[STREAMS + 1];
    script_up (0, false);
    ask_for (1, STREAMS + 1, sessions);
    for (unsigned i = 1; i <= STREAMS; i++) {
        script_skip (j->context.options.answer_ms * 3 / 4);
        answer (sessions[i], i);
    }
    assert_int_equal (script.question_count, STREAMS);
    for (unsigned i = 1; i <= STREAMS; i++)
        assert_int_equal (script_next_seq (j, i), 2);
}

/* It is asked again; and when the first answer comes after all, the second question is closed. */
static void an_answer_that_comes_late_is_taken (void **state)
{
    struct fake_journal *j = *state;
    uint64_t sessions[2];
    script_up (0, false);
    ask_for (1, 2, sessions);
    script_skip (j->context.options.answer_ms + 10);
    const uint64_t again = script_expect_question (0, 1, 1, 2);
    assert_false (script_is_closed (sessions[1]));
    answer (sessions[1], 1);
    assert_int_equal (script_next_seq (j, 1), 2);
    assert_true (script_is_closed (again));
}

/* Of two journals, which were passed over and are asked again, the first answers late, and once more, that it has nothing. That is not the word of the
 * second, which is asked then. */
static void what_a_late_answer_does_not_bring_says_nothing (void **state)
{
    struct fake_journal *j = *state;
    uint64_t sessions[2];
    script_up (0, false);
    script_up (1, true);
    script_up (2, true);
    ask_for (1, 2, sessions);
    script_answer_gap (sessions[1], 1, 1, 2, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    script_answer_end (sessions[1]);
    const uint64_t first = script_expect_question (1, 1, 1, 2);
    script_skip (j->context.options.answer_ms + 10);
    (void) script_expect_question (2, 1, 1, 2);
    script_skip (j->context.options.answer_ms + 10);
    script_skip (j->context.options.answer_ms / 4 + 10);
    const uint64_t again = script_expect_question (1, 1, 1, 2);
    script_answer_gap (again, 1, 1, 2, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    const uint64_t second = script_expect_question (2, 1, 1, 2);
    script_answer_end (again);
    script_answer_gap (first, 1, 1, 2, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    script_answer_end (first);
    assert_false (script_is_closed (second));
    script_skip (j->context.options.answer_ms / 4);
    assert_int_equal (script_next_seq (j, 1), 1);       /* it is not told as lost */
    answer (second, 1);
    const struct kit_batch_spec fact = fact_of (1, 1);
    struct log_reader *r;
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (log_reader_new (j->context.log, &r), 0);
    expect_batch (r, fact);
    expect_end (r);
    log_reader_destroy (&r);
}

/* Lost with a connection that broke; what was asked for since is answered, again and again. */
static void an_answer_that_was_lost_is_asked_for_again_while_others_come (void **state)
{
    struct fake_journal *j = *state;
    uint64_t sessions[32];
    script_up (0, false);
    ask_for (1, 2, sessions);
    unsigned i = 2;
    for (; i < 30 && script.question_count < i; i++) {
        script_skip (j->context.options.answer_ms / 4);
        if (script.question_count >= i)
            break;
        script_head (0, i, 1, 1);
        script_settle ();
        sessions[i] = script_expect_question (0, i, 1, 2);
        answer (sessions[i], i);
    }
    assert_in_range (i, 4, 16);
    answer (script_expect_question (0, 1, 1, 2), 1);
    assert_int_equal (script_next_seq (j, 1), 2);
}

static unsigned open_questions (size_t first, size_t end)
{
    unsigned open = 0;
    for (size_t i = first; i < end; i++)
        open += !script_is_closed (i + 1);
    return open;
}

static void wait_for_questions (struct fake_journal *j, size_t count)
{
    for (int i = 0; i < 100 && script.question_count < count; i++)
        script_skip (j->context.options.answer_ms / 4);
    assert_int_equal (script.question_count, count);
}

/* Nobody answers: each is asked for again and again, and the answers that may come yet are bounded, in number and in time. */
static void so_many_late_answers_are_waited_for_and_not_for_ever (void **state)
{
    enum { ASKS = INTAKE_ASKS_MAX / 2, LATE = INTAKE_LATE_MAX };
    struct fake_journal *j = *state;
    uint64_t sessions[1 + ASKS];
    script_up (0, false);
    ask_for (1, 1 + ASKS, sessions);
    for (size_t asked = ASKS; asked < LATE + ASKS; asked += ASKS)
        wait_for_questions (j, asked + ASKS);
    assert_int_equal (open_questions (0, LATE + ASKS), LATE + ASKS);
    wait_for_questions (j, LATE + 2 * ASKS);
    assert_int_equal (open_questions (0, LATE), LATE);
    assert_int_equal (open_questions (LATE, LATE + ASKS), 0);
    assert_int_equal (open_questions (LATE + ASKS, LATE + 2 * ASKS), ASKS);
    script_skip (INTAKE_LATE_MS);
    assert_int_equal (open_questions (0, LATE), 0);
    wait_for_questions (j, LATE + 3 * ASKS);
    const struct fm_id first = kit_stream (1);
    uint64_t session = script.question_count;
    while (!id_equal (&script.questions[session - 1].stream, &first))
        session--;
    answer (session, 1);
    assert_int_equal (script_next_seq (j, 1), 2);
}

/* It has many streams, and answers nothing; the others' questions are put all the same, and it gets a place again when one of its own ends. */
static void a_publisher_that_is_slow_leaves_others_places_for_their_questions (void **state)
{
    enum { ITS = INTAKE_ASKS_MAX + 10, OTHERS = 3 };
    struct fake_journal *j = *state;
    uint64_t sessions[1 + ITS + OTHERS];
    for (unsigned peer = 0; peer <= OTHERS; peer++)
        script_up (peer, false);
    for (unsigned i = 1; i <= ITS; i++)
        script_head (0, i, 1, 1);
    script_settle ();
    for (unsigned i = 1; i <= INTAKE_ASKS_MAX / 2; i++)
        sessions[i] = script_expect_question (0, i, 1, 2);
    assert_int_equal (script.question_count, INTAKE_ASKS_MAX / 2);
    for (unsigned peer = 1; peer <= OTHERS; peer++) {
        script_head (peer, ITS + peer, 1, 1);
        script_settle ();
        answer (script_expect_question (peer, ITS + peer, 1, 2), ITS + peer);
        assert_int_equal (script_next_seq (j, ITS + peer), 2);
    }
    answer (sessions[1], 1);
    (void) script_expect_question (0, INTAKE_ASKS_MAX / 2 + 1, 1, 2);
    assert_int_equal (script.question_count, INTAKE_ASKS_MAX / 2 + OTHERS + 1);
}

/* What was asked for comes by itself, and the answers never: nothing else is due that would wake intake up. */
static void a_place_that_a_silent_question_holds_is_waited_for (void **state)
{
    enum { ASKS = INTAKE_ASKS_MAX / 2, LAST = ASKS + 1 };
    struct fake_journal *j = *state;
    const struct fm_id last = kit_stream (LAST);
    const struct timespec until = fake_deadline (FAKE_PATIENCE_MS);
    size_t looked_at = 0;
    intake_destroy (&intake);
    j->context.options.answer_ms = 200;
    script_start (j);
    script_up (0, false);
    for (unsigned i = 1; i <= LAST; i++)
        script_head (0, i, 1, 1);
    script_settle ();
    for (unsigned i = 1; i <= ASKS; i++) {
        const struct kit_batch_spec fact = fact_of (i, 1);
        script_batch (0, &fact);
    }
    script_settle ();
    int rc = 0;
    bool is_asked = false;
    pthread_mutex_lock (&script.lock);
    while (!is_asked && !rc) {
        for (; looked_at < script.question_count; looked_at++)
            is_asked = is_asked || id_equal (&script.questions[looked_at].stream, &last);
        if (!is_asked)
            rc = pthread_cond_timedwait (&script.changed, &script.lock, &until);
    }
    pthread_mutex_unlock (&script.lock);
    assert_true (is_asked);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (an_answer_that_waits_behind_others_is_waited_for),
        CASE (an_answer_that_comes_late_is_taken),
        CASE (what_a_late_answer_does_not_bring_says_nothing),
        CASE (so_many_late_answers_are_waited_for_and_not_for_ever),
        CASE (an_answer_that_was_lost_is_asked_for_again_while_others_come),
        CASE (a_place_that_a_silent_question_holds_is_waited_for),
        CASE (a_publisher_that_is_slow_leaves_others_places_for_their_questions),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
