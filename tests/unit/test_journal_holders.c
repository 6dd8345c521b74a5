/* journal: what one does not have, it asks of other journals, and waits for those who may have it; a gap is told where nobody has it any more. */

#include <poll.h>

#include "../support/journal_kit.h"

/* A journal that joins the mesh of `s` later, and knows everybody. */
static struct recorder *late_journal (const struct scene *s)
{
    struct recorder *late = recorder_new (fm_node_address (s->r->node));
    assert_done (fm_node_wait_members (late->node, 3, PATIENCE_MS));
    return late;
}

static void a_journal_that_joins_later_gets_the_past_from_another_one (void **state)
{
    (void) state;
    struct scene s = scene_with (1500);     /* the window is empty now */
    struct recorder *late = late_journal (&s);
    recorder_start (late);
    publish_all (s.p, 1501, 1601);
    expect_recorded (s.node, late, s.p, 1600);
    recorder_destroy (late);
    scene_end (&s);
}

/* The other journal has all of it, and is too busy to say so: its only session is taken. */
static void what_a_busy_journal_has_is_waited_for_and_never_told_as_a_gap (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    r->options.sessions_max = 1;
    struct scene s = scene_start (r, NULL);
    publish_all (s.p, 1, 301);
    wait_synced (s.p);
    struct asker busy = asker_new (s.node, r);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    uint64_t session;
    struct replay_event e;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    assert_done (replay_client_open (busy.client, &open, &session));
    assert_true (next_event (&busy, &e, PATIENCE_MS) && e.kind == REPLAY_DATA);

    struct recorder *late = late_journal (&s);
    late->options.holders_wait_ms = 100;
    recorder_start (late);
    publish (s.p, 301);
    const uint64_t until = node_now () + (uint64_t) PATIENCE_MS * 1000000;
    while (!recorder_noticed (late, "HOLE-WAITS") && node_now () < until)
        (void) next_event (&busy, &e, 10);
    assert_true (recorder_noticed (late, "HOLE-WAITS"));
    assert_true (recorder_counter (late, JOURNAL_HOLES_WAIT) > 0);
    replay_client_close (busy.client, session);
    expect_recorded (s.node, late, s.p, 301);
    replay_client_destroy (&busy.client);
    recorder_destroy (late);
    scene_end (&s);
}

/* Facts 51 to 100 are at one journal alone, and it is down when their publisher starts anew: to the other one they look void. */
static void what_a_journal_that_restarts_has_is_waited_for (void **state)
{
    (void) state;
    struct recorder *other = recorder_new (NULL);
    recorder_start (other);
    char identity[128];
    kit_directory (identity);
    struct scene s = { .r = recorder_new (fm_node_address (other->node)), .node = open_node ("publisher", fm_node_address (other->node)) };
    recorder_start (s.r);
    s.p = open_publisher (s.node, identity);
    const struct fm_id stream = stream_of (s.p);
    struct log_stream known = { .synced_seq = 0 };
    const uint64_t until = node_now () + (uint64_t) PATIENCE_MS * 1000000;
    publish_all (s.p, 1, 51);
    while (known.synced_seq < 50 && node_now () < until)
        (void) log_stream_get (journal_log (other->journal), &stream, &known);  /* unknown at first */
    assert_int_equal (known.synced_seq, 50);
    journal_destroy (&other->journal);
    publish_all (s.p, 51, 101);
    wait_synced (s.p);
    fm_publisher_close (&s.p);
    fm_node_close (&s.node);

    other->options.holders_wait_ms = PATIENCE_MS;
    recorder_start (other);
    assert_done (fm_node_wait_journal (other->node, PATIENCE_MS));
    journal_destroy (&s.r->journal);
    fm_node_close (&s.r->node);
    scene_publisher_again (&s, other, identity);
    publish_all (s.p, 101, 111);
    while (recorder_counter (other, JOURNAL_HOLES_WAIT) == 0 && node_now () < until)
        (void) poll (NULL, 0, 5);
    assert_false (recorder_noticed (other, "GAP-RECORDED"));
    s.r->node = open_node ("journal", fm_node_address (other->node));
    recorder_start (s.r);
    wait_synced (s.p);
    (void) replay_epochs (s.node, other, s.p, 101, 110);
    scene_end (&s);
    recorder_destroy (other);
    kit_remove (identity);
}

static void what_no_journal_has_any_more_is_told_as_not_held (void **state)
{
    (void) state;
    struct scene s = scene_with (300);
    journal_destroy (&s.r->journal);
    kit_remove (s.r->directory);            /* its directory is lost */
    kit_directory (s.r->directory);
    recorder_start (s.r);
    publish_all (s.p, 301, 351);
    const struct fm_id stream = stream_of (s.p);
    struct asker a = asker_new (s.node, s.r);
    const struct told t = replay_stream (&a, &stream, 1, 351, NULL);
    assert_int_equal (t.facts, 50);
    assert_int_equal (t.gaps, 1);
    assert_int_equal (t.last_reason, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    assert_true (recorder_noticed (s.r, "GAP-RECORDED"));
    replay_client_destroy (&a.client);
    scene_end (&s);
}

static void what_a_publisher_let_go_is_asked_of_the_journal_beside_it_whichever_was_first (void **state)
{
    (void) state;
    struct scene s = { .r = recorder_new (NULL) };
    s.p = open_publisher (s.r->node, NULL);
    recorder_start (s.r);
    publish_all (s.p, 1, 201);
    wait_synced (s.p);
    s.node = open_node ("asker", fm_node_address (s.r->node));
    expect_recorded (s.node, s.r, s.p, 200);
    scene_end (&s);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_journal_that_joins_later_gets_the_past_from_another_one),
        cmocka_unit_test (what_a_busy_journal_has_is_waited_for_and_never_told_as_a_gap),
        cmocka_unit_test (what_a_journal_that_restarts_has_is_waited_for),
        cmocka_unit_test (what_no_journal_has_any_more_is_told_as_not_held),
        cmocka_unit_test (what_a_publisher_let_go_is_asked_of_the_journal_beside_it_whichever_was_first),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
