/* subscription: what waits for somebody who may never come is told; and of several journals who is waited for. Publishers and journals follow a script, time is
 * virtual (scripted_subscription.h). */

#include "scripted_subscription.h"

enum { MINUTE_MS = 60000 };

static unsigned told (void)
{
    unsigned count = 0;
    assert_true (script.notice_count <= SCRIPT_NOTICES_MAX);
    for (size_t i = 0; i < script.notice_count; i++)
        count += strncmp (script.notices[i], "SUBSCRIPTION-WAITS ", strlen ("SUBSCRIPTION-WAITS ")) == 0;
    return count;
}

static void expect_told (const char *start)
{
    assert_int_equal (told (), 0);
    expect_nothing (2 * MINUTE_MS);
    assert_true (script_noticed (start));
    expect_nothing (5 * MINUTE_MS);
    assert_in_range (told (), 5, 7);            /* as long as it lasts, each minute */
}

static void repair_from_there (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct kit_batch_spec batch = facts (1, open->from_seq, (uint32_t) (open->end_seq - open->from_seq));
    if (open->end_case == FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED)
        say_end (j, open->session);
    else
        live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = &batch, .batch_count = 1 });
}

/* There was a journal: it may have what is missing. */
static void a_hole_that_nobody_is_left_to_fill_is_told (void **state)
{
    (void) state;
    go_live ();
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 2);
    live_leave (publisher);
    live_leave (journal);
    const struct fm_id stream = kit_stream (1);
    char id[ID_TEXT_LEN + 1], start[100];
    (void) snprintf (start, sizeof start, "SUBSCRIPTION-WAITS streams=1 one=%s complete=1: ", id_text (&stream, id));
    expect_told (start);
    as.on_repair = repair_from_there;
    live_come_back (journal);
    expect_facts (1, 2, 6);
    const unsigned before = told ();
    expect_nothing (10 * MINUTE_MS);
    assert_int_equal (told (), before);
}

static void repair_not_yet (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    live_say_replay (j, &(struct live_replay) { .session = open->session, .caught_up = true });
}

/* It never had it, and has not heard that there is more; its publisher is gone for good. */
static void a_hole_of_which_the_journal_never_heard_is_told (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_not_yet;
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 2);
    live_leave (publisher);
    expect_told ("SUBSCRIPTION-WAITS streams=1 ");
}

/* Where it begins for us only the journal of our place says. */
static void streams_that_only_a_journal_that_is_gone_can_place_are_told (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_sent (publisher, 1, 5);
    live_sent (publisher, 2, 5);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1 };
    open_from_start ();
    expect_nothing (10);
    live_leave (journal);
    publish (1, 5, 2);
    publish (2, 5, 2);
    expect_told ("SUBSCRIPTION-WAITS streams=2 ");
}

/* Of streams that have ended nobody else tells that they are there. */
static void a_replay_that_its_journal_does_not_go_on_with_is_told (void **state)
{
    (void) state;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1 };
    open_from_start ();
    expect_nothing (3 * MINUTE_MS);
    assert_false (script_noticed ("REPLAY-WAITS"));
    live_leave (journal);
    expect_nothing (3 * MINUTE_MS);
    assert_true (script_noticed ("REPLAY-WAITS offset=100 "));
    assert_int_equal (told (), 0);
}

static void newest_facts_that_wait_for_their_journal_are_told (void **state)
{
    (void) state;
    const struct kit_batch_spec batch = facts (1, 1, 1);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 1, .latest_end = START + 9, .remaining_bytes = 1, .batches = &batch, .batch_count = 1 };
    open_with ((struct fm_subscription_options) { .from = FM_FROM_LATEST });
    expect_facts (1, 1, 2);
    live_leave (journal);
    publish (1, 2, 1);
    expect_told ("SUBSCRIPTION-WAITS streams=1 ");
}

static void acknowledgements_that_are_not_due_yet_are_not_told (void **state)
{
    (void) state;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place", .commit_ms = 10 * MINUTE_MS });
    expect_nothing (3000);
    for (uint64_t seq = 1; seq <= 9; seq++) {
        publish (1, seq, 1);
        expect_facts (1, seq, seq + 1);
        assert_done (fm_subscription_ack (s));
        expect_nothing (MINUTE_MS);
    }
    assert_false (script_noticed ("CURSOR-WAITS"));
}

/* A hole each half minute, and each is filled. */
static void what_goes_on_is_not_told (void **state)
{
    (void) state;
    go_live ();
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    for (uint64_t seq = 2; seq < 20; seq += 2) {
        as.on_repair = NULL;
        publish (1, seq + 1, 1);
        expect_nothing (MINUTE_MS / 2);
        as.on_repair = repair_from_there;
        expect_facts (1, seq, seq + 2);
    }
    assert_int_equal (told (), 0);
}

/* They are no use to who comes after us before that. */
static void acknowledgements_that_no_journal_takes_are_told (void **state)
{
    (void) state;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place" });
    expect_nothing (3000);
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    assert_done (fm_subscription_ack (s));
    expect_nothing (3 * MINUTE_MS);
    assert_false (script_noticed ("CURSOR-WAITS"));
    live_leave (journal);
    publish (1, 2, 1);
    expect_facts (1, 2, 3);
    assert_done (fm_subscription_ack (s));
    expect_nothing (3 * MINUTE_MS);
    assert_true (script_noticed ("CURSOR-WAITS cursor=place "));
    assert_int_equal (told (), 0);
}

/* ------------------------------------------------------------------ several journals */

static struct scripted *second;
static bool second_has_it, second_is_silent;
static unsigned asked_of_second;

/* The first one lost it. */
static void repair_of_two (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const struct replay_gap gap = { .stream = kit_stream (1), .first_seq = 3, .end_seq = 5, .reason = FACTMESH__GAP_REASON__GAP_DAMAGED };
    const struct kit_batch_spec batch = facts (1, 2, 1), rest = facts (1, 3, 2);
    const bool has_it = j == second && second_has_it;
    asked_of_second += j == second;
    if (j != publisher && !(j == second && second_is_silent))
        live_say_replay (j, &(struct live_replay) { .session = open->session, .gaps = &gap, .gap_count = !has_it, .batches = has_it ? &rest : &batch, .batch_count = 1 });
}

static void fall_into_a_hole (bool has_it, bool is_silent)
{
    second_has_it = has_it;
    second_is_silent = is_silent;
    asked_of_second = 0;
    go_live ();
    second = live_peer_add (answer, true);
    as.on_repair = repair_of_two;
    expect_nothing (100);
    publish (1, 1, 1);
    publish (1, 5, 1);
    expect_facts (1, 1, 3);
}

static void what_another_journal_has_is_no_gap (void **state)
{
    (void) state;
    fall_into_a_hole (true, false);
    expect_facts (1, 3, 6);
}

static void what_no_journal_has_is_a_gap (void **state)
{
    (void) state;
    const struct fm_id stream = kit_stream (1);
    fall_into_a_hole (false, false);
    expect_gap (&stream, 3, 5, FM_GAP_DAMAGED);
    expect_facts (1, 5, 6);
    assert_int_equal (asked_of_second, 1);
}

static void a_journal_that_says_nothing_of_a_gap_is_not_waited_for_without_bound (void **state)
{
    (void) state;
    const struct fm_id stream = kit_stream (1);
    fall_into_a_hole (true, true);
    expect_nothing (SUBSCRIPTION_GAP_MS / 2);
    expect_gap (&stream, 3, 5, FM_GAP_DAMAGED);         /* within PATIENCE_MS */
    expect_facts (1, 5, 6);
}

/* The second one keeps the cursor. */
static void answer_with_a_cursor (struct scripted *j, const Factmesh__Control *question)
{
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&j->id);
    cursor.generation = 1;
    cursor.offset = START / 2;
    if (question->body_case == FACTMESH__CONTROL__BODY_CURSOR_GET)
        say_cursor (j, question->request, &cursor);
    else if (question->body_case == FACTMESH__CONTROL__BODY_REPLAY_OPEN)
        live_say_replay (j, &(struct live_replay) { .session = question->replay_open->session, .start_offset = START / 2, .next_offset = START, .caught_up = true });
}

static void come (void *arg)
{
    live_come_back (arg);
}

/* A node meets the members of its mesh one after the other: the first journal is not all there are. */
static void a_cursor_is_found_at_a_journal_that_is_met_a_little_later (void **state)
{
    (void) state;
    second = live_peer_add (answer_with_a_cursor, true);
    live_leave (second);
    script_plan (100, come, second);
    open_with ((struct fm_subscription_options) { .from = FM_FROM_END, .cursor = "place" });
    assert_true (id_equal (&s->base.journal, &second->id));
    assert_int_equal (script_last (second, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_CURSOR);
    assert_int_equal (script_last (second, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open->from_cursor->offset, START / 2);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_hole_that_nobody_is_left_to_fill_is_told),
        CASE (a_hole_of_which_the_journal_never_heard_is_told),
        CASE (streams_that_only_a_journal_that_is_gone_can_place_are_told),
        CASE (a_replay_that_its_journal_does_not_go_on_with_is_told),
        CASE (newest_facts_that_wait_for_their_journal_are_told),
        CASE (acknowledgements_that_no_journal_takes_are_told),
        CASE (acknowledgements_that_are_not_due_yet_are_not_told),
        CASE (what_goes_on_is_not_told),
        CASE (what_another_journal_has_is_no_gap),
        CASE (what_no_journal_has_is_a_gap),
        CASE (a_journal_that_says_nothing_of_a_gap_is_not_waited_for_without_bound),
        CASE (a_cursor_is_found_at_a_journal_that_is_met_a_little_later),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
