/* worker: shared work against a journal that follows a script: how it joins, what it takes and tells, how it closes, what the caller waits for. */

#include <sched.h>

#include "one_worker.h"

/* --- Opening. */

static void open_says_what_the_journal_says (void **state)
{
    static const struct {
        Factmesh__ErrorCode code;
        int rc;
    } refusals[] = {
        { FACTMESH__ERROR_CODE__ERROR_RANGE, FM_ERR_ARGUMENT },         { FACTMESH__ERROR_CODE__ERROR_MALFORMED, FM_ERR_TOPIC },
        { FACTMESH__ERROR_CODE__ERROR_LIMIT, FM_ERR_LIMIT },            { FACTMESH__ERROR_CODE__ERROR_READ_ONLY, FM_ERR_READ_ONLY },
        { FACTMESH__ERROR_CODE__ERROR_UNKNOWN_GROUP, FM_ERR_UNKNOWN },  { FACTMESH__ERROR_CODE__ERROR_MESH, FM_ERR_MESH },
        { FACTMESH__ERROR_CODE__ERROR_VERSION, FM_ERR_VERSION },        { (Factmesh__ErrorCode) 99, -EIO },
    };
    (void) state;
    group.journal = script_journal (group_answers);
    group.refusal = "the journal's own words";
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        group.refuse_joins = refusals[i].code;
        const uint64_t began_ns = script.now_ns;
        assert_int_equal (open_worker (0), refusals[i].rc);
        assert_null (worker);
        assert_string_equal (fm_error_detail (), group.refusal);
        /* At once, but for the look whether there are other journals. */
        assert_in_range (script.now_ns - began_ns, 0, 2 * WORKER_SETTLE_MS * SCRIPT_MS);
    }
}

/* "Ask again", says SPEC.md of these. */
static void open_asks_again_where_that_may_help (void **state)
{
    static const Factmesh__ErrorCode codes[] = { FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL, FACTMESH__ERROR_CODE__ERROR_INTERNAL,
                                                 FACTMESH__ERROR_CODE__ERROR_TIMEOUT, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_MEMBER };
    static const int told[] = { FM_ERR_NO_JOURNAL, -EIO, -EIO, -EIO };
    (void) state;
    group.journal = script_journal (group_answers);
    group.refusal = "it is just starting";
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        const size_t before = joins ();
        group.refuse_joins = codes[i];
        assert_int_equal (open_worker (2000), told[i]);
        assert_non_null (strstr (fm_error_detail (), group.refusal));
        assert_in_range (joins () - before, 5, 2000 / WORKER_RETRY_MS);
    }
}

static void stop_refusing (void *arg)
{
    (void) arg;
    group.refuse_joins = FACTMESH__ERROR_CODE__ERROR_NONE;
}

static void a_node_that_becomes_a_journal_is_joined (void **state)
{
    (void) state;
    group.journal = script_journal (group_answers);
    group.refuse_joins = FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL;
    script_plan (1500, stop_refusing, NULL);
    assert_done (open_worker (0));
}

static void open_says_that_there_is_no_journal_or_that_it_is_silent (void **state)
{
    (void) state;
    assert_int_equal (open_worker (300), FM_ERR_NO_JOURNAL);
    assert_non_null (strstr (fm_error_detail (), "needs a journal"));
    const struct fm_worker_options named = { .group = "g", .journal = "00112233445566778899aabbccddeeff", .open_timeout_ms = 300 };
    assert_int_equal (fm_worker_open (&script, &named, &worker), FM_ERR_NO_JOURNAL);
    assert_non_null (strstr (fm_error_detail (), "away"));
    struct scripted *journal = script_journal (script_silence);
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (open_worker (7000), FM_TIMEOUT);
    assert_int_equal (script.now_ns - began_ns, 7000 * SCRIPT_MS);
    /* Connected to anew when it was silent for too long. */
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_GROUP_JOIN), 3);
    assert_int_equal (journal->connections, 3);
}

static void of_two_journals_one_must_be_named (void **state)
{
    (void) state;
    script_journal (group_answers);
    struct scripted *second = script_journal (group_answers);
    assert_int_equal (open_worker (300), FM_ERR_ARGUMENT);
    char text[ID_TEXT_LEN + 1];
    const struct fm_worker_options named = { .group = "g", .effect = FM_IDEMPOTENT, .journal = id_text (&second->id, text) };
    assert_done (fm_worker_open (&script, &named, &worker));
    assert_ptr_equal (group.journal, second);
}

/* Until the killed process is taken for dead it is a member like its successor. */
static void join_the_younger (bool second)
{
    struct scripted *const first = script_journal (group_answers), *const other = script_journal (group_answers);
    other->id = first->id;
    first->started_ns = second ? 1 : 2;
    other->started_ns = second ? 2 : 1;
    group.journal = second ? other : first;
    assert_done (open_worker (7000));
    assert_int_equal ((second ? first : other)->connections, 0);
}

static void a_journal_that_was_killed_and_started_again_is_one (void **state)
{
    (void) state;
    join_the_younger (true);
}

static void whichever_of_its_processes_is_met_first (void **state)
{
    (void) state;
    join_the_younger (false);
}

static void open_says_why_it_cannot_connect (void **state)
{
    (void) state;
    group.journal = script_journal (group_answers);
    script.sockets_left = 0;
    assert_int_equal (open_worker (1000), -EMFILE);
    assert_non_null (strstr (fm_error_detail (), "socket"));
}

static void options_that_make_no_sense_are_refused_before_anybody_is_asked (void **state)
{
    (void) state;
    static const char *const bad_topics[] = { "a..b", NULL };
    const char *many[FILTERS_MAX + 2] = { NULL };
    char long_name[GROUP_NAME_MAX + 2];
    memset (long_name, 'g', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    for (size_t i = 0; i <= FILTERS_MAX; i++)
        many[i] = "a.>";
    const struct {
        struct fm_worker_options options;
        int rc;
    } bad[] = {
        { { .group = NULL }, FM_ERR_ARGUMENT },
        { { .group = "" }, FM_ERR_ARGUMENT },
        { { .group = long_name }, FM_ERR_ARGUMENT },
        { { .group = "g", .in_hand = GROUP_CREDIT_MAX + 1 }, FM_ERR_ARGUMENT },
        { { .group = "g", .lease_ms = -1 }, FM_ERR_ARGUMENT },
        { { .group = "g", .journal = "4711" }, FM_ERR_ARGUMENT },
        { { .group = "g", .topics = bad_topics }, FM_ERR_TOPIC },
        { { .group = "g", .topics = many }, FM_ERR_LIMIT },
    };
    group.journal = script_journal (group_answers);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal (fm_worker_open (&script, &bad[i].options, &worker), bad[i].rc);
    (void) script_run ();
    assert_int_equal (group.journal->question_count, 0);
}

static void answers_out_of_order (struct scripted *j, const Factmesh__Control *question)
{
    group.journal = j;
    if (question->body_case != FACTMESH__CONTROL__BODY_GROUP_JOIN) {
        group_answers (j, question);
        return;
    }
    group.member = 5;
    script_say_bytes (j, "no message at all", 17);
    script_say_bytes (j, "", 0);
    script_say_bytes (j, NULL, 0);
    group_confirm (question->request, 5, NULL, 0);
    group_hand_out ((struct handed) { .token = 1 });
    group_say_joined (question->request + (1 << 11), 4, question->group_join);
    group_say_joined (0, 3, question->group_join);
    group_say_joined (question->request, 5, question->group_join);
    group_say_joined (question->request, 6, question->group_join);
}

/* Garbage, a confirmation and work before anything was joined, joins of nobody, and one twice: the first that answers our question counts. */
static void a_join_is_answered_once_by_what_answers_it (void **state)
{
    (void) state;
    struct fm_work work;
    script_journal (answers_out_of_order);
    assert_done (open_worker (0));
    expect_nothing (500);
    group_hand_out ((struct handed) { .token = 2 });
    take (2, &work);
    assert_done (fm_work_done (worker));
    assert_done (fm_worker_commit (worker, 1000));
    assert_int_equal (script_last (group.journal, FACTMESH__CONTROL__BODY_OUTCOMES)->outcomes->member, 5);
    assert_int_equal (joins (), 1);
}

/* --- What is handed out. */

static void work_of_another_member_and_more_than_was_asked_for_is_left (void **state)
{
    (void) state;
    struct fm_work work;
    join ();
    group_hand_out ((struct handed) { .token = 1, .member = group.member + 1 });
    expect_nothing (10);
    group_hand_out_tokens (2, 2 + WORKER_IN_HAND + 3);
    for (uint64_t token = 2; token < 2 + WORKER_IN_HAND; token++) {
        char payload[32];
        (void) snprintf (payload, sizeof payload, "payload %llu", (unsigned long long) token);
        take (token, &work);
        assert_true (slice_equal (work.fact.payload, slice_of (payload)));
        assert_done (fm_work_done (worker));
    }
    expect_nothing (10);
    assert_int_equal (group.told_count, WORKER_IN_HAND);
}

/* A journal that says it twice: whoever acts twice on one token has two outcomes for it. */
static void what_is_handed_out_twice_is_taken_once (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 3, &work);
    group_hand_out_tokens (1, 4);
    assert_done (fm_work_done (worker));
    take (2, &work);
    assert_done (fm_work_done (worker));
    take (3, &work);
    assert_done (fm_work_done (worker));
    group_hand_out_tokens (1, 4);
    expect_nothing (10);
    for (uint64_t token = 1; token < 4; token++)
        TOLD_ONCE (token, DONE);
}

static void what_does_not_decode_is_parked (void **state)
{
    (void) state;
    struct fm_work work;
    join ();
    group_hand_out ((struct handed) { .token = 1, .garbage = true });
    group_hand_out_tokens (2, 3);
    take (2, &work);
    assert_done (fm_work_done (worker));
    assert_done (fm_worker_commit (worker, 100));
    TOLD_ONCE (1, PARK);
    assert_string_equal (group.told[0].reason, "does not decode");
    TOLD_ONCE (2, DONE);
}

static void a_fact_needs_its_outcome_before_the_next_and_an_outcome_its_fact (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 3, &work);
    assert_int_equal (fm_worker_next (worker, 0, &work), FM_ERR_ARGUMENT);
    assert_done (fm_work_done (worker));
    assert_int_equal (fm_work_done (worker), FM_ERR_ARGUMENT);
    assert_int_equal (fm_work_begin (worker, 0), FM_ERR_ARGUMENT);
    assert_int_equal (fm_work_extend (worker), FM_ERR_ARGUMENT);
    assert_int_equal (fm_work_left_ms (worker), 0);
    take (2, &work);
    assert_in_range (fm_work_left_ms (worker), 1, GROUP_LEASE_TEST_MS);
    assert_done (fm_work_done (worker));
}

/* --- Outcomes. */

static void each_outcome_is_told_as_it_was_said (void **state)
{
    (void) state;
    struct fm_work work;
    char long_reason[400];
    memset (long_reason, 'r', sizeof long_reason - 1);
    long_reason[sizeof long_reason - 1] = '\0';
    join_and_take (1, 6, &work);
    assert_done (fm_work_done (worker));
    take (2, &work);
    assert_done (fm_work_later (worker, 1234));
    take (3, &work);
    assert_done (fm_work_failed (worker, long_reason));
    take (4, &work);
    assert_done (fm_work_park (worker, "why"));
    take (5, &work);
    assert_done (fm_work_later (worker, -7));
    assert_done (fm_worker_commit (worker, 100));
    TOLD_ONCE (1, DONE);
    TOLD_ONCE (2, LATER);
    assert_int_equal (group.told[1].delay_ms, 1234);
    TOLD_ONCE (3, FAILED);
    assert_int_equal (strlen (group.told[2].reason), WORKER_REASON_MAX);
    TOLD_ONCE (4, PARK);
    assert_string_equal (group.told[3].reason, "why");
    TOLD_ONCE (5, LATER);
    assert_int_equal (group.told[4].delay_ms, 0);
    assert_int_equal (group.told_count, 5);
}

static void a_confirmation_of_another_member_or_question_is_none (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 2, &work);
    group.mute_outcomes = true;
    assert_done (fm_work_done (worker));
    assert_int_equal (fm_worker_commit (worker, 100), FM_TIMEOUT);
    const uint64_t request = group.last_request;
    group_confirm (request, group.member + 1, NULL, 0);
    group_confirm (request + (1 << 11), group.member, NULL, 0);
    group_confirm (request - (1 << 11), group.member, NULL, 0);
    group_confirm (0, group.member, NULL, 0);
    assert_int_equal (fm_worker_commit (worker, 100), FM_TIMEOUT);
    group_confirm (request, group.member, NULL, 0);
    group_confirm (request, group.member, (uint64_t[]) { 1 }, 1);       /* once more, and otherwise */
    assert_done (fm_worker_commit (worker, 100));
    assert_false (script_noticed ("WORK-TOO-LATE"));
}

static void outcomes_that_come_too_late_are_told_once (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 4, &work);
    group.refused[group.refused_count++] = 2;
    for (uint64_t token = 1; token < 4; token++) {
        if (token > 1)
            take (token, &work);
        assert_done (fm_work_done (worker));
    }
    assert_int_equal (fm_worker_commit (worker, 100), FM_ERR_LEASE);
    assert_true (script_noticed ("WORK-TOO-LATE group=g offset=1002"));
    assert_int_equal (script.notice_count, 1);
    assert_done (fm_worker_commit (worker, 100));
}

static void at_the_limit_of_unconfirmed_outcomes_the_lease_decides (void **state)
{
    (void) state;
    struct fm_work work;
    join ();
    group.mute_outcomes = true;
    for (uint64_t token = 1; token <= WORKER_OUTCOMES_MAX; token++) {
        group_hand_out ((struct handed) { .token = token });
        take (token, &work);
        assert_done (fm_work_done (worker));
    }
    group_hand_out ((struct handed) { .token = WORKER_OUTCOMES_MAX + 1 });
    take (WORKER_OUTCOMES_MAX + 1, &work);
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (fm_work_begin (worker, 100), FM_TIMEOUT);
    assert_int_equal (fm_work_done (worker), FM_ERR_LEASE);
    assert_in_range (script.now_ns - began_ns, 1, GROUP_LEASE_TEST_MS * SCRIPT_MS);
}

/* --- Closing. */

static void close_gives_back_what_is_in_hand_and_leaves (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 4, &work);
    const uint64_t member = group.member;
    fm_worker_close (&worker);
    assert_null (worker);
    (void) script_run ();
    TOLD_ONCE (2, RELEASE);
    TOLD_ONCE (3, RELEASE);
    assert_int_equal (script_asked (group.journal, FACTMESH__CONTROL__BODY_GROUP_LEAVE), 1);
    assert_int_equal (script_last (group.journal, FACTMESH__CONTROL__BODY_GROUP_LEAVE)->group_leave->member, member);
    fm_worker_close (&worker);
}

static void close_waits_a_second_for_a_silent_journal (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 2, &work);
    group.mute_outcomes = group.mute_joins = true;
    assert_done (fm_work_done (worker));
    const uint64_t began_ns = script.now_ns;
    fm_worker_close (&worker);
    assert_int_equal (script.now_ns - began_ns, WORKER_CLOSE_MS * SCRIPT_MS);
}

static void hand_out_more (void *arg)
{
    (void) arg;
    group_hand_out_tokens (7, 9);
}

static void what_is_handed_out_while_it_closes_is_left_to_its_lease (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 2, &work);
    group.mute_outcomes = true;
    script_plan (WORKER_CLOSE_MS / 2, hand_out_more, NULL);
    fm_worker_close (&worker);
    (void) script_run ();
    for (size_t i = 0; i < group.told_count; i++)
        assert_true (group.told[i].token < 7);
}

/* --- Waiting for others, too. */

static bool is_readable (int fd)
{
    struct pollfd wait = { .fd = fd, .events = POLLIN };
    return poll (&wait, 1, 0) == 1;
}

/* As long as a call could return something, and when it must be called for its own sake. */
static void its_descriptor_tells_when_to_call (void **state)
{
    (void) state;
    struct fm_work work;
    script.now_ns = SCRIPT_MS;                  /* its timer goes by the real clock, which is far beyond: it rings when it is set */
    join ();
    const int fd = fm_worker_fd (worker);
    assert_int_equal (fm_worker_fd (worker), fd);
    assert_true (is_readable (fd));
    expect_nothing (0);
    while (!is_readable (fd))                   /* the timer's turn */
        sched_yield ();
    expect_nothing (1);
    group_hand_out_tokens (1, 3);
    assert_true (is_readable (fd));
    take (1, &work);
    assert_done (fm_work_done (worker));
    assert_true (is_readable (fd));             /* there is another one in hand */
    take (2, &work);
    group.mute_outcomes = true;
    assert_done (fm_work_done (worker));
    assert_int_equal (fm_worker_commit (worker, 500), FM_TIMEOUT);      /* which waits, though there is something in hand */
    assert_true (is_readable (fd));
}

static void a_signal_ends_the_wait (void **state)
{
    (void) state;
    struct fm_work work;
    group.journal = script_journal (group_answers);
    script.interruptions = 1;
    assert_int_equal (open_worker (0), FM_INTERRUPTED);
    assert_null (worker);
    assert_done (open_worker (0));
    script.interruptions = 1;
    assert_int_equal (fm_worker_next (worker, 1000, &work), FM_INTERRUPTED);
    expect_nothing (10);
}

/* --- What is asked of the journal. */

static void where_a_new_group_begins_and_what_it_takes_is_told_the_journal (void **state)
{
    static const char *const topics[] = { "a.>", "b.*.c", NULL };
    static const struct fm_worker_options options[] = {
        { .group = "g", .effect = FM_IDEMPOTENT, .topics = topics, .from_time_ns = 4711 },
        { .group = "g", .effect = FM_IDEMPOTENT, .topics = topics, .from_now = true },
    };
    (void) state;
    group.journal = script_journal (group_answers);
    for (size_t i = 0; i < 2; i++) {
        assert_done (fm_worker_open (&script, &options[i], &worker));
        const Factmesh__GroupJoin *asked = script_last (group.journal, FACTMESH__CONTROL__BODY_GROUP_JOIN)->group_join;
        assert_int_equal (asked->start_case, i == 0 ? FACTMESH__GROUP_JOIN__START_FROM_TIME_NS : FACTMESH__GROUP_JOIN__START_FROM_END);
        if (i == 0)
            assert_int_equal (asked->from_time_ns, 4711);
        assert_int_equal (asked->config->n_filters, 2);
        assert_true (slice_equal (control_get_slice (&asked->config->filters[0]), slice_of ("a.>")));
        assert_true (slice_equal (control_get_slice (&asked->config->filters[1]), slice_of ("b.*.c")));
        fm_worker_close (&worker);
        (void) script_run ();
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (open_says_what_the_journal_says),
        CASE (open_asks_again_where_that_may_help),
        CASE (a_node_that_becomes_a_journal_is_joined),
        CASE (open_says_that_there_is_no_journal_or_that_it_is_silent),
        CASE (of_two_journals_one_must_be_named),
        CASE (a_journal_that_was_killed_and_started_again_is_one),
        CASE (whichever_of_its_processes_is_met_first),
        CASE (open_says_why_it_cannot_connect),
        CASE (options_that_make_no_sense_are_refused_before_anybody_is_asked),
        CASE (a_join_is_answered_once_by_what_answers_it),
        CASE (work_of_another_member_and_more_than_was_asked_for_is_left),
        CASE (what_is_handed_out_twice_is_taken_once),
        CASE (what_does_not_decode_is_parked),
        CASE (a_fact_needs_its_outcome_before_the_next_and_an_outcome_its_fact),
        CASE (each_outcome_is_told_as_it_was_said),
        CASE (a_confirmation_of_another_member_or_question_is_none),
        CASE (outcomes_that_come_too_late_are_told_once),
        CASE (at_the_limit_of_unconfirmed_outcomes_the_lease_decides),
        CASE (close_gives_back_what_is_in_hand_and_leaves),
        CASE (close_waits_a_second_for_a_silent_journal),
        CASE (what_is_handed_out_while_it_closes_is_left_to_its_lease),
        CASE (its_descriptor_tells_when_to_call),
        CASE (a_signal_ends_the_wait),
        CASE (where_a_new_group_begins_and_what_it_takes_is_told_the_journal),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
