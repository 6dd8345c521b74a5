/* handler: which handler runs, and what the journal is told, for each effect, flag, outcome and answer of the check; and when the journal does not confirm. */

#include "scripted_group.h"

static struct fm_worker *worker;

/* requester.c's, which would bring the real node. */
bool fm_fact_expired (const struct fm_fact *fact)
{
    return fact->expires_ns && fact->expires_ns != UINT64_MAX;
}

/* What the handler does, and what was asked of it. */
static struct {
    enum fm_outcome outcome;
    enum fm_check check;
    int delay_ms;
    const char *reason;
    unsigned runs, checks;
    size_t told_at_run;                 /* outcomes that the journal had when it ran */
    unsigned takes_ms;
} h;

static enum fm_outcome run (void *arg, const struct fm_work *work, int *ret_delay_ms, const char **ret_reason)
{
    assert_ptr_equal (arg, &h);
    assert_int_equal (work->token, 1);
    assert_true (slice_equal (work->fact.payload, slice_of ("payload 1")));
    assert_int_equal (*ret_delay_ms, 1000);
    assert_null (*ret_reason);
    (void) script_run ();
    h.told_at_run = group.told_count;
    h.runs++;
    if (h.takes_ms)
        script_pass (h.takes_ms);
    if (h.delay_ms)
        *ret_delay_ms = h.delay_ms;
    *ret_reason = h.reason;
    return h.outcome;
}

static enum fm_check check (void *arg, const struct fm_work *work)
{
    assert_ptr_equal (arg, &h);
    assert_int_equal (work->token, 1);
    h.checks++;
    return h.check;
}

static int set_up (void **state)
{
    memset (&group, 0, sizeof group);
    memset (&h, 0, sizeof h);
    group.lease_ms = GROUP_LEASE_TEST_MS;
    return script_set_up (state);
}

static int tear_down (void **state)
{
    fm_worker_close (&worker);
    return script_tear_down (state);
}

/* Hand one fact to a worker with this effect. */
static void hand_out (enum fm_effect effect, struct handed handed)
{
    const struct fm_worker_options options = { .group = "g", .effect = effect };
    group.told_count = 0;
    h.runs = h.checks = 0;
    if (!script.journal_count)
        group.journal = script_journal (group_answers);
    assert_done (fm_worker_open (&script, &options, &worker));
    handed.token = 1;
    group_hand_out (handed);
}

static int handle (bool with_check, bool expired_too)
{
    const struct fm_handler handler = { .arg = &h, .run = run, .check = with_check ? check : NULL, .expired_too = expired_too };
    return fm_worker_handle (worker, &handler, 0);
}

/* Tell what is left, and close. */
static void end (void)
{
    assert_done (fm_worker_commit (worker, 100));
    fm_worker_close (&worker);
    (void) script_run ();
}

static void expect_told (size_t i, Factmesh__OutcomeKind kind)
{
    assert_true (i < group.told_count);
    assert_int_equal (group.told[i].kind, kind);
    assert_int_equal (group.told[i].token, 1);
    assert_int_equal (group.told[i].offset, GROUP_OFFSET + 1);
}

/* --- Cases. */

static bool is_outside (enum fm_effect effect)
{
    return effect == FM_ONCE || effect == FM_ONCE_PER_VERSION || effect == FM_ON_CORRECTION;
}

/* The intent is on disk before an effect outside; then the outcome as the handler said it. */
static void each_outcome_under_each_effect (void **state)
{
    static const struct {
        enum fm_outcome outcome;
        Factmesh__OutcomeKind told;
    } outcomes[] = {
        { FM_DONE, FACTMESH__OUTCOME_KIND__OUTCOME_DONE },
        { FM_LATER, FACTMESH__OUTCOME_KIND__OUTCOME_LATER },
        { FM_FAILED, FACTMESH__OUTCOME_KIND__OUTCOME_FAILED },
        { FM_PARK, FACTMESH__OUTCOME_KIND__OUTCOME_PARK },
    };
    (void) state;
    for (int effect = FM_EFFECT_UNDECLARED; effect <= FM_ON_CORRECTION; effect++)
        for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
            const size_t begins = is_outside ((enum fm_effect) effect);
            h.outcome = outcomes[i].outcome;
            h.reason = "why";
            h.delay_ms = i % 2 ? 2500 : 0;
            hand_out ((enum fm_effect) effect, (struct handed) { .flags = 0 });
            assert_done (handle (true, false));
            end ();
            assert_int_equal (h.runs, 1);
            assert_int_equal (h.checks, 0);
            assert_int_equal (h.told_at_run, begins);
            assert_int_equal (group.told_count, begins + 1);
            if (begins)
                expect_told (0, FACTMESH__OUTCOME_KIND__OUTCOME_BEGIN);
            expect_told (begins, outcomes[i].told);
            const struct told *t = &group.told[begins];
            assert_string_equal (t->reason, h.outcome == FM_FAILED || h.outcome == FM_PARK ? "why" : "");
            assert_int_equal (t->delay_ms, h.outcome == FM_LATER ? (h.delay_ms ? 2500 : 1000) : 0);
        }
}

/* A handler that was cut short does not know: its check does, or nobody. */
static void what_was_cut_short_is_checked_or_parked (void **state)
{
    static const struct {
        enum fm_effect effect;
        enum fm_check check;            /* 0: there is none */
        Factmesh__OutcomeKind told;
        const char *reason;
    } cases[] = {
        { FM_IDEMPOTENT, FM_HAPPENED, FACTMESH__OUTCOME_KIND__OUTCOME_FAILED, "" },
        { FM_ONCE, FM_HAPPENED, FACTMESH__OUTCOME_KIND__OUTCOME_DONE, "" },
        { FM_ONCE, FM_NOT_HAPPENED, FACTMESH__OUTCOME_KIND__OUTCOME_FAILED, "" },
        { FM_ONCE, FM_CANT_TELL, FACTMESH__OUTCOME_KIND__OUTCOME_PARK, "in doubt" },
        { FM_ONCE_PER_VERSION, (enum fm_check) 0, FACTMESH__OUTCOME_KIND__OUTCOME_PARK, "in doubt" },
        { FM_ON_CORRECTION, (enum fm_check) 77, FACTMESH__OUTCOME_KIND__OUTCOME_PARK, "in doubt" },
    };
    (void) state;
    h.outcome = FM_UNSURE;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        h.check = cases[i].check;
        hand_out (cases[i].effect, (struct handed) { .flags = 0 });
        assert_done (handle (cases[i].check != 0, false));
        end ();
        assert_int_equal (h.runs, 1);
        assert_int_equal (h.checks, cases[i].check && is_outside (cases[i].effect));
        expect_told (group.told_count - 1, cases[i].told);
        assert_int_equal (strncmp (group.told[group.told_count - 1].reason, cases[i].reason, strlen (cases[i].reason)), 0);
    }
    h.check = FM_CANT_TELL;
    h.reason = "the handler's own reason";
    hand_out (FM_ONCE, (struct handed) { .flags = 0 });
    assert_done (handle (true, false));
    end ();
    assert_string_equal (group.told[1].reason, h.reason);
}

/* What another instance began is checked before it runs here, and never run where nobody can tell. */
static void what_is_in_doubt_is_settled_first (void **state)
{
    static const struct {
        enum fm_effect effect;
        enum fm_check check;            /* 0: there is none */
        uint32_t flags;
        bool runs;
        Factmesh__OutcomeKind told;
    } cases[] = {
        { FM_ONCE, FM_HAPPENED, 0, false, FACTMESH__OUTCOME_KIND__OUTCOME_DONE },
        { FM_ONCE, FM_NOT_HAPPENED, 0, true, FACTMESH__OUTCOME_KIND__OUTCOME_DONE },
        { FM_ONCE, FM_CANT_TELL, 0, false, FACTMESH__OUTCOME_KIND__OUTCOME_PARK },
        { FM_ONCE, (enum fm_check) 0, 0, false, FACTMESH__OUTCOME_KIND__OUTCOME_PARK },
        { FM_ONCE, (enum fm_check) 0, FM_WORK_BY_HAND, true, FACTMESH__OUTCOME_KIND__OUTCOME_DONE },
        { FM_ONCE, FM_HAPPENED, FM_WORK_BY_HAND, false, FACTMESH__OUTCOME_KIND__OUTCOME_DONE },
        { FM_ON_CORRECTION, FM_CANT_TELL, FM_WORK_REDELIVERY, false, FACTMESH__OUTCOME_KIND__OUTCOME_PARK },
        { FM_IDEMPOTENT, (enum fm_check) 0, 0, true, FACTMESH__OUTCOME_KIND__OUTCOME_DONE },
    };
    (void) state;
    h.outcome = FM_DONE;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        h.check = cases[i].check;
        hand_out (cases[i].effect, (struct handed) { .flags = FM_WORK_IN_DOUBT | cases[i].flags, .deliveries = 2 });
        assert_done (handle (cases[i].check != 0, false));
        end ();
        assert_int_equal (h.runs, cases[i].runs);
        const size_t begins = cases[i].runs && is_outside (cases[i].effect);
        assert_int_equal (group.told_count, begins + 1);
        expect_told (begins, cases[i].told);
    }
}

static void what_has_expired_is_done_without_being_run (void **state)
{
    (void) state;
    h.outcome = FM_DONE;
    hand_out (FM_ONCE, (struct handed) { .expires_ns = 1 });
    assert_done (handle (true, false));
    end ();
    assert_int_equal (h.runs, 0);
    assert_int_equal (group.told_count, 1);
    expect_told (0, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
    hand_out (FM_ONCE, (struct handed) { .expires_ns = 1 });
    assert_done (handle (true, true));
    end ();
    assert_int_equal (h.runs, 1);
    hand_out (FM_ONCE, (struct handed) { .expires_ns = UINT64_MAX });
    assert_done (handle (true, false));
    end ();
    assert_int_equal (h.runs, 1);
}

/* --- A journal that does not confirm. */

static void an_intent_that_is_not_confirmed_runs_nothing (void **state)
{
    (void) state;
    h.outcome = FM_DONE;
    group.lease_ms = 60000;
    hand_out (FM_ONCE, (struct handed) { .flags = 0 });
    group.mute_outcomes = true;
    assert_done (handle (true, false));
    assert_int_equal (h.runs, 0);
    group.mute_outcomes = false;
    group_confirm (group.last_request, group.member, NULL, 0);
    end ();
    for (size_t i = 0; i + 1 < group.told_count; i++)
        expect_told (i, FACTMESH__OUTCOME_KIND__OUTCOME_BEGIN);         /* over each new connection */
    expect_told (group.told_count - 1, FACTMESH__OUTCOME_KIND__OUTCOME_LATER);
    assert_int_equal (group.told[group.told_count - 1].delay_ms, 0);
}

static void an_intent_that_outlasts_the_lease_runs_nothing_and_leaves_no_doubt (void **state)
{
    (void) state;
    h.outcome = FM_DONE;
    hand_out (FM_ONCE, (struct handed) { .flags = 0 });
    group.mute_outcomes = true;
    const uint64_t began_ns = script.now_ns;
    assert_done (handle (true, false));
    assert_in_range (script.now_ns - began_ns, 1, GROUP_LEASE_TEST_MS * SCRIPT_MS);
    assert_int_equal (h.runs, 0);
    group.mute_outcomes = false;
    group_confirm (group.last_request, group.member, NULL, 0);
    end ();
    assert_int_equal (group_told (1, FACTMESH__OUTCOME_KIND__OUTCOME_RELEASE), 0);
    TOLD_ONCE (1, FAILED);
}

static void an_intent_that_is_refused_runs_nothing (void **state)
{
    (void) state;
    h.outcome = FM_DONE;
    hand_out (FM_ONCE, (struct handed) { .flags = 0 });
    group.refused[group.refused_count++] = 1;
    assert_done (handle (true, false));
    assert_int_equal (h.runs, 0);
    assert_int_equal (fm_worker_commit (worker, 100), FM_ERR_LEASE);
    assert_int_equal (group.told_count, 1);     /* it is another's */
    assert_true (script_noticed ("WORK-TOO-LATE"));
}

static void a_journal_that_forgets_us_before_the_effect_has_it_begun_anew_or_not_at_all (void **state)
{
    (void) state;
    h.outcome = FM_DONE;
    group.lease_ms = 60000;
    hand_out (FM_ONCE, (struct handed) { .flags = 0 });
    group.refuse_outcomes = FACTMESH__ERROR_CODE__ERROR_UNKNOWN_MEMBER;
    group.refused[group.refused_count++] = 1;   /* and has given it to another */
    assert_done (handle (true, false));
    assert_int_equal (h.runs, 0);
    assert_int_equal (script_asked (group.journal, FACTMESH__CONTROL__BODY_GROUP_JOIN), 2);
}

static void a_handler_that_took_longer_than_its_lease_is_noted (void **state)
{
    (void) state;
    h.outcome = FM_DONE;
    h.takes_ms = GROUP_LEASE_TEST_MS;
    hand_out (FM_IDEMPOTENT, (struct handed) { .flags = 0 });
    assert_done (handle (false, false));
    assert_int_equal (h.runs, 1);
    assert_true (script_noticed ("WORK-TOO-LATE"));
    end ();
    TOLD_ONCE (1, FAILED);
    assert_string_equal (group.told[0].reason, "it took longer than its lease");
}

static void without_a_fact_it_says_so (void **state)
{
    (void) state;
    hand_out (FM_IDEMPOTENT, (struct handed) { .member = 99 });
    assert_int_equal (handle (false, false), FM_TIMEOUT);
    assert_int_equal (h.runs, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (each_outcome_under_each_effect),
        CASE (what_was_cut_short_is_checked_or_parked),
        CASE (what_is_in_doubt_is_settled_first),
        CASE (what_has_expired_is_done_without_being_run),
        CASE (an_intent_that_is_not_confirmed_runs_nothing),
        CASE (an_intent_that_outlasts_the_lease_runs_nothing_and_leaves_no_doubt),
        CASE (an_intent_that_is_refused_runs_nothing),
        CASE (a_journal_that_forgets_us_before_the_effect_has_it_begun_anew_or_not_at_all),
        CASE (a_handler_that_took_longer_than_its_lease_is_noted),
        CASE (without_a_fact_it_says_so),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
