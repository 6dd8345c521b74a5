/* worker: leases that pass, and a journal that is silent, goes and comes back, contradicts itself: whose a fact still is, and what the caller is told. */

#include "one_worker.h"

/* --- Leases. */

static void a_fact_that_took_longer_than_its_lease_is_given_up (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 4, &work);
    script_pass (GROUP_LEASE_TEST_MS * 3 / 4);
    assert_in_range (fm_work_left_ms (worker), 1, GROUP_LEASE_TEST_MS / 4);
    script_pass (GROUP_LEASE_TEST_MS / 4);
    assert_int_equal (fm_work_left_ms (worker), 0);
    assert_int_equal (fm_work_extend (worker), FM_ERR_LEASE);
    assert_int_equal (fm_work_begin (worker, 100), FM_ERR_LEASE);
    assert_int_equal (fm_work_done (worker), FM_ERR_LEASE);
    expect_nothing (100);
    assert_int_equal (group.told_count, 3);
    TOLD_ONCE (1, FAILED);
    assert_string_equal (group.told[0].reason, "it took longer than its lease");
    TOLD_ONCE (2, RELEASE);
    TOLD_ONCE (3, RELEASE);
    /* And goes on with what comes. */
    group_hand_out ((struct handed) { .token = 4 });
    take (4, &work);
    assert_done (fm_work_done (worker));
    assert_done (fm_worker_commit (worker, 100));
}

static void what_had_begun_when_its_lease_passed_is_in_doubt (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 2, &work);
    assert_done (fm_work_begin (worker, 100));
    script_pass (GROUP_LEASE_TEST_MS);
    assert_int_equal (fm_work_done (worker), FM_ERR_LEASE);
    assert_done (fm_worker_commit (worker, 100));
    TOLD_ONCE (1, RELEASE);
    assert_int_equal (group_told (1, FACTMESH__OUTCOME_KIND__OUTCOME_FAILED), 0);
}

/* The outcome of the one before was told too late to renew anything: another instance may be at the next one by now. */
static void what_waits_for_its_turn_longer_than_the_lease_goes_back (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 4, &work);
    assert_done (fm_work_done (worker));
    script_pass (2 * GROUP_LEASE_TEST_MS);
    group.refused[group.refused_count++] = 1;
    group.refused[group.refused_count++] = 2;
    expect_nothing (100);
    TOLD_ONCE (1, DONE);
    TOLD_ONCE (2, RELEASE);
    TOLD_ONCE (3, RELEASE);
    assert_int_equal (fm_worker_commit (worker, 100), FM_ERR_LEASE);
}

/* The caller was elsewhere, or the process stopped: the journal counts from when it handed out, and others may have it, and what follows it, by now. */
static void what_lay_there_longer_than_its_lease_goes_back (void **state)
{
    (void) state;
    struct fm_work work;
    join ();
    expect_nothing (100);
    group_hand_out_tokens (1, 3);
    script_pass (GROUP_LEASE_TEST_MS);
    expect_nothing (100);
    TOLD_ONCE (1, RELEASE);
    TOLD_ONCE (2, RELEASE);
    /* What lay there for less has less left, and what comes while somebody waits all of it. */
    group_hand_out ((struct handed) { .token = 3 });
    script_pass (GROUP_LEASE_TEST_MS / 2);
    take (3, &work);
    assert_in_range (fm_work_left_ms (worker), 1, GROUP_LEASE_TEST_MS / 2);
    assert_done (fm_work_done (worker));
    assert_done (fm_worker_commit (worker, 100));
    expect_nothing (10 * GROUP_LEASE_TEST_MS);
    group_hand_out ((struct handed) { .token = 4 });
    take (4, &work);
    assert_in_range (fm_work_left_ms (worker), GROUP_LEASE_TEST_MS / 2, GROUP_LEASE_TEST_MS);
}

static void hand_out_next (void *arg)
{
    group_hand_out ((struct handed) { .token = *(const uint64_t *) arg });
}

/* Whenever it comes while somebody waits. */
static void of_the_shortest_lease_most_is_left (void **state)
{
    (void) state;
    group.lease_ms = 100;
    struct fm_work work;
    join ();
    for (uint64_t token = 1; token <= 40; token++) {
        script_plan (90 + 5 * (unsigned) token, hand_out_next, &token);
        assert_done (fm_worker_next (worker, 1000, &work));
        assert_in_range (fm_work_left_ms (worker), 70, 100);
        assert_done (fm_work_done (worker));
        assert_done (fm_worker_commit (worker, 50));
    }
}

static void a_lease_is_extended_as_long_as_the_journal_leaves_it (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 2, &work);
    for (unsigned i = 0; i < 40; i++) {
        script_pass (GROUP_LEASE_TEST_MS / 8);
        assert_done (fm_work_extend (worker));
    }
    /* Cheap: not each time. */
    assert_in_range (group_told (1, FACTMESH__OUTCOME_KIND__OUTCOME_EXTEND), 10, 21);
    group.refused[group.refused_count++] = 1;
    int rc = 0;
    for (unsigned i = 0; i < 8 && !rc; i++) {
        script_pass (GROUP_LEASE_TEST_MS / 8);
        rc = fm_work_extend (worker);
    }
    assert_int_equal (rc, FM_ERR_LEASE);
    assert_int_equal (fm_work_left_ms (worker), 0);
    assert_int_equal (fm_work_done (worker), FM_ERR_LEASE);
    /* It is not ours any more: nothing is said of it. */
    assert_done (fm_worker_commit (worker, 100));
    assert_int_equal (group_told (1, FACTMESH__OUTCOME_KIND__OUTCOME_FAILED), 0);
    assert_int_equal (group_told (1, FACTMESH__OUTCOME_KIND__OUTCOME_RELEASE), 0);
}

/* A day is the most that a group may have (SPEC.md, "Groups"); what a journal says beyond is no reason to run over. */
static void a_lease_longer_than_a_group_may_have_is_a_day (void **state)
{
    (void) state;
    struct fm_work work;
    group.lease_ms = UINT32_MAX;
    join_and_take (1, 2, &work);
    assert_in_range (fm_work_left_ms (worker), 1, 86400000);
}

/* --- Begin. */

static void begin_is_refused_confirmed_or_times_out (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 4, &work);
    assert_done (fm_work_begin (worker, 100));
    TOLD_ONCE (1, BEGIN);
    assert_done (fm_work_done (worker));
    take (2, &work);
    group.refused[group.refused_count++] = 2;
    assert_int_equal (fm_work_begin (worker, 100), FM_ERR_LEASE);
    assert_int_equal (fm_work_done (worker), FM_ERR_LEASE);
    take (3, &work);
    group.mute_outcomes = true;
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (fm_work_begin (worker, 100), FM_TIMEOUT);
    assert_int_equal (script.now_ns - began_ns, 100 * SCRIPT_MS);
    /* It may have begun there: what is said next counts all the same. */
    group.mute_outcomes = false;
    group_confirm (group.last_request, group.member, NULL, 0);
    assert_done (fm_work_later (worker, 0));
    assert_int_equal (fm_worker_commit (worker, 100), FM_ERR_LEASE);    /* of 2 */
    TOLD_ONCE (3, BEGIN);
    TOLD_ONCE (3, LATER);
}

/* Whoever waits longer than the lease begins too late, whatever is confirmed then. */
static void begin_does_not_wait_beyond_the_lease (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 2, &work);
    group.mute_outcomes = true;
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (fm_work_begin (worker, 60000), FM_ERR_LEASE);
    assert_in_range (script.now_ns - began_ns, 1, GROUP_LEASE_TEST_MS * SCRIPT_MS);
    /* Nothing has begun: it is not in doubt. */
    group.mute_outcomes = false;
    group_confirm (group.last_request, group.member, NULL, 0);
    assert_int_equal (fm_work_done (worker), FM_ERR_LEASE);
    assert_done (fm_worker_commit (worker, 100));
    TOLD_ONCE (1, FAILED);
    assert_int_equal (group_told (1, FACTMESH__OUTCOME_KIND__OUTCOME_RELEASE), 0);
}

/* --- A journal that goes, and comes back. */

static void a_silent_journal_is_connected_to_anew_and_nothing_is_lost (void **state)
{
    (void) state;
    struct fm_work work;
    group.lease_ms = 60000;
    join_and_take (1, 4, &work);
    assert_done (fm_work_done (worker));
    take (2, &work);
    group.mute_outcomes = group.mute_joins = true;
    assert_int_equal (fm_worker_commit (worker, WORKER_SILENT_MS + 500), FM_TIMEOUT);
    assert_int_equal (group.journal->connections, 2);
    /* What is in hand goes on meanwhile. */
    assert_done (fm_work_done (worker));
    take (3, &work);
    group.mute_outcomes = group.mute_joins = false;
    assert_done (fm_worker_commit (worker, 2 * WORKER_SILENT_MS));
    assert_int_equal (group.journal->connections, 3);
    const Factmesh__GroupJoin *again = script_last (group.journal, FACTMESH__CONTROL__BODY_GROUP_JOIN)->group_join;
    assert_int_equal (again->n_holding, 3);
    for (uint64_t token = 1; token < 4; token++)
        assert_int_equal (again->holding[token - 1]->token, token);
    assert_done (fm_work_done (worker));
    assert_done (fm_worker_commit (worker, 100));
    assert_int_equal (group_told (1, FACTMESH__OUTCOME_KIND__OUTCOME_DONE), 2);         /* what was not confirmed is told again */
    TOLD_ONCE (2, DONE);
    TOLD_ONCE (3, DONE);
}

static void an_idle_worker_asks_whether_it_is_known (void **state)
{
    (void) state;
    join ();
    expect_nothing (10 * WORKER_ALIVE_MS);
    assert_in_range (script_asked (group.journal, FACTMESH__CONTROL__BODY_OUTCOMES), 9, 11);
    assert_int_equal (group.told_count, 0);
    assert_int_equal (joins (), 1);
    group.refuse_outcomes = FACTMESH__ERROR_CODE__ERROR_UNKNOWN_MEMBER;
    for (unsigned i = 0; i < 2 * WORKER_ALIVE_MS / WORKER_RETRY_MS && joins () == 1; i++)
        expect_nothing (WORKER_RETRY_MS);
    assert_int_equal (joins (), 2);
    group.refuse_outcomes = FACTMESH__ERROR_CODE__ERROR_NONE;
    expect_nothing (10 * WORKER_ALIVE_MS);
    assert_int_equal (joins (), 2);
}

static void listen_again (void *arg)
{
    script_listen (arg);
}

/* Of what was in hand when it went one was recorded, one is others', one is still ours; of what was done, too. */
static void another_incarnation_decides_what_is_still_ours (void **state)
{
    (void) state;
    struct fm_work work;
    group.lease_ms = 60000;
    join_and_take (1, 9, &work);
    group.mute_outcomes = true;
    for (uint64_t token = 1; token < 4; token++) {
        if (token > 1)
            take (token, &work);
        assert_done (fm_work_done (worker));
    }
    take (4, &work);
    assert_int_equal (fm_worker_commit (worker, 100), FM_TIMEOUT);
    script_kill (group.journal);
    script_plan (1000, listen_again, group.journal);
    group.mute_outcomes = false;
    group.forgotten[group.forgotten_count++] = 1;
    group.forgotten[group.forgotten_count++] = 5;
    group.refused[group.refused_count++] = 2;
    group.refused[group.refused_count++] = 4;
    group.refused[group.refused_count++] = 6;
    assert_int_equal (fm_worker_commit (worker, 3 * WORKER_SILENT_MS), FM_ERR_LEASE);
    assert_int_equal (joins (), 2);
    assert_int_equal (script_last (group.journal, FACTMESH__CONTROL__BODY_GROUP_JOIN)->group_join->n_holding, 8);
    TOLD_ONCE (1, DONE);                /* before; it was recorded */
    TOLD_ONCE (2, DONE);                /* before; too late, and told as such */
    assert_int_equal (group_told (3, FACTMESH__OUTCOME_KIND__OUTCOME_DONE), 2);
    assert_true (script_noticed ("WORK-TOO-LATE group=g offset=1002"));
    assert_int_equal (script.notice_count, 1);
    assert_int_equal (fm_work_left_ms (worker), 0);
    assert_int_equal (fm_work_done (worker), FM_ERR_LEASE);
    take (7, &work);
    assert_done (fm_work_done (worker));
    take (8, &work);
    assert_done (fm_work_done (worker));
    assert_done (fm_worker_commit (worker, 100));
    expect_nothing (100);
}

static void work_that_was_kept_is_not_taken_twice_after_coming_back (void **state)
{
    (void) state;
    struct fm_work work;
    group.lease_ms = 60000;
    join_and_take (1, 3, &work);
    script_kill (group.journal);
    script_plan (500, listen_again, group.journal);
    assert_done (fm_work_done (worker));
    take (2, &work);
    assert_done (fm_work_done (worker));
    assert_done (fm_worker_commit (worker, 3 * WORKER_SILENT_MS));
    /* An older copy of the journal's directory counts its tokens from further below: they are good. */
    group_hand_out_tokens (1, 3);
    take (1, &work);
    assert_done (fm_work_done (worker));
    take (2, &work);
    assert_done (fm_work_done (worker));
}

static void a_worker_that_is_not_taken_back_hears_why_and_goes_on_trying (void **state)
{
    (void) state;
    struct fm_work work;
    join ();
    group.refuse_outcomes = FACTMESH__ERROR_CODE__ERROR_UNKNOWN_MEMBER;
    group.refuse_joins = FACTMESH__ERROR_CODE__ERROR_RANGE;
    group.refusal = "the group has another effect";
    assert_int_equal (fm_worker_next (worker, 5000, &work), FM_ERR_ARGUMENT);
    assert_string_equal (fm_error_detail (), group.refusal);
    assert_int_equal (fm_worker_next (worker, 5000, &work), FM_ERR_ARGUMENT);
    group.refuse_outcomes = FACTMESH__ERROR_CODE__ERROR_NONE;
    group.refuse_joins = FACTMESH__ERROR_CODE__ERROR_NONE;
    expect_nothing (1000);
    group_hand_out ((struct handed) { .token = 1 });
    take (1, &work);
    assert_done (fm_work_done (worker));
}

/* The refusal was of then: who has been taken back since does not hear of it. */
static void a_refusal_that_has_passed_is_not_told (void **state)
{
    (void) state;
    struct fm_work work;
    group.lease_ms = 60000;
    join_and_take (1, 2, &work);
    group.refuse_outcomes = FACTMESH__ERROR_CODE__ERROR_UNKNOWN_MEMBER;
    group.refuse_joins = FACTMESH__ERROR_CODE__ERROR_LIMIT;
    assert_done (fm_work_done (worker));
    assert_int_equal (fm_worker_commit (worker, 1000), FM_TIMEOUT);
    group.refuse_outcomes = FACTMESH__ERROR_CODE__ERROR_NONE;
    group.refuse_joins = FACTMESH__ERROR_CODE__ERROR_NONE;
    assert_done (fm_worker_commit (worker, 1000));
    expect_nothing (100);
}

static void garbage_from_the_journal_changes_nothing (void **state)
{
    (void) state;
    struct fm_work work;
    join_and_take (1, 3, &work);
    uint8_t bytes[64];
    for (unsigned i = 0; i < 200; i++) {
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (uint8_t) (i * 31 + k * 7 + (i * k >> 3));
        script_say_bytes (group.journal, bytes, i % sizeof bytes);
    }
    assert_done (fm_work_done (worker));
    take (2, &work);
    assert_done (fm_work_done (worker));
    assert_done (fm_worker_commit (worker, 100));
    assert_int_equal (joins (), 1);
}

/* --- A redelivery waits. */

static void a_fact_that_comes_again_waits_for_what_was_told_before (void **state)
{
    (void) state;
    struct fm_work work;
    join ();
    group_hand_out ((struct handed) { .token = 1 });
    group_hand_out ((struct handed) { .token = 2, .deliveries = 2, .flags = FM_WORK_REDELIVERY });
    take (1, &work);
    group.mute_outcomes = true;
    assert_done (fm_work_done (worker));
    group.lease_ms = 60000;
    expect_nothing (300);
    TOLD_ONCE (1, DONE);
    group_confirm (group.last_request, group.member, NULL, 0);
    take (2, &work);
    assert_int_equal (work.deliveries, 2);
    assert_int_equal (work.flags, FM_WORK_REDELIVERY);
    assert_done (fm_work_done (worker));
}

static void but_not_longer_than_a_second (void **state)
{
    (void) state;
    struct fm_work work;
    group.lease_ms = 60000;
    join ();
    group_hand_out ((struct handed) { .token = 1 });
    group_hand_out ((struct handed) { .token = 2, .deliveries = 2 });
    take (1, &work);
    group.mute_outcomes = true;
    assert_done (fm_work_done (worker));
    const uint64_t began_ns = script.now_ns;
    assert_done (fm_worker_next (worker, 5000, &work));
    assert_in_range (script.now_ns - began_ns, WORKER_REDELIVERY_MS * SCRIPT_MS, (WORKER_REDELIVERY_MS + WORKER_RETRY_MS) * SCRIPT_MS);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_fact_that_took_longer_than_its_lease_is_given_up),
        CASE (what_had_begun_when_its_lease_passed_is_in_doubt),
        CASE (what_waits_for_its_turn_longer_than_the_lease_goes_back),
        CASE (what_lay_there_longer_than_its_lease_goes_back),
        CASE (of_the_shortest_lease_most_is_left),
        CASE (a_lease_is_extended_as_long_as_the_journal_leaves_it),
        CASE (a_lease_longer_than_a_group_may_have_is_a_day),
        CASE (begin_is_refused_confirmed_or_times_out),
        CASE (begin_does_not_wait_beyond_the_lease),
        CASE (a_silent_journal_is_connected_to_anew_and_nothing_is_lost),
        CASE (an_idle_worker_asks_whether_it_is_known),
        CASE (another_incarnation_decides_what_is_still_ours),
        CASE (work_that_was_kept_is_not_taken_twice_after_coming_back),
        CASE (a_worker_that_is_not_taken_back_hears_why_and_goes_on_trying),
        CASE (a_refusal_that_has_passed_is_not_told),
        CASE (garbage_from_the_journal_changes_nothing),
        CASE (a_fact_that_comes_again_waits_for_what_was_told_before),
        CASE (but_not_longer_than_a_second),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
