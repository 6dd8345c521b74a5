/* intake_state: who may publish a stream, what is recorded, held, asked for and given up, case by case. Schedules by chance: test_intake_model. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../support/intake_kit.h"
#include "factmesh.pb-c.h"

static void hold (struct intake_state *s, const struct intake_batch *b)
{
    const struct intake_item item = { .first_seq = b->first_seq, .end_seq = b->end_seq, .epoch = b->epoch, .bytes = b->bytes };
    assert_int_equal (intake_state_hold (s, &item), 0);
}

static void batches_in_turn_are_appended (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    intake_state_init (&s, &limits, 1, 0, 0);
    for (uint64_t seq = 1; seq < 100; seq += 3) {
        const struct intake_batch b = live_batch (seq, seq + 3, 1, 1, &node_a);
        assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_APPEND);
        intake_state_appended (&s, seq + 3, 1, 10, 0);
        assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HAVE);
    }
    struct intake_todo todo;
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
    drop_all (&s);
}

static void above_a_hole_batches_are_held_and_the_hole_is_asked_for (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 1, 0, 0);
    const struct intake_batch third = live_batch (9, 12, 1, 1, &node_a), second = live_batch (5, 9, 1, 1, &node_a);
    struct intake_batch first = live_batch (1, 5, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &third, 0), INTAKE_HOLD);
    hold (&s, &third);
    assert_int_equal (intake_state_batch (&s, &third, 0), INTAKE_HAVE);
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_OWNER);
    assert_int_equal (todo.first_seq, 1);
    assert_int_equal (todo.end_seq, 9);
    assert_int_equal (intake_state_batch (&s, &second, 0), INTAKE_HOLD);
    hold (&s, &second);
    first.repaired = true;
    assert_int_equal (intake_state_batch (&s, &first, 0), INTAKE_APPEND);
    intake_state_appended (&s, 5, 1, 10, 0);
    struct intake_item item;
    bool append;
    assert_true (intake_state_take (&s, &item, &append) && append);
    assert_int_equal (item.first_seq, 5);
    intake_state_appended (&s, 9, 1, 10, 0);
    assert_true (intake_state_take (&s, &item, &append) && append);
    intake_state_appended (&s, 12, 1, 10, 0);
    assert_false (intake_state_take (&s, &item, &append));
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
    assert_int_equal (limits.held_bytes, 0);
    drop_all (&s);
}

static void a_head_notice_reveals_the_loss_of_the_last_fact (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 11, 1, 10);
    struct intake_batch notice = live_batch (0, 14, 1, 1, &node_a);
    assert_int_equal (intake_state_head (&s, &notice, 0), INTAKE_HAVE);
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_OWNER);
    assert_int_equal (todo.first_seq, 11);
    assert_int_equal (todo.end_seq, 14);
    drop_all (&s);
}

static void what_is_held_stays_within_its_bounds (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state a, b;
    intake_state_init (&a, &limits, 1, 0, 0);
    intake_state_init (&b, &limits, 1, 0, 0);
    unsigned held = 0;
    for (uint64_t seq = 2; seq < 500; seq++) {
        const struct intake_batch batch = live_batch (seq, seq + 1, 1, 1, &node_a);
        const enum intake_verdict verdict = intake_state_batch (&a, &batch, 0);
        if (verdict == INTAKE_HOLD) {
            hold (&a, &batch);
            held++;
        } else
            assert_int_equal (verdict, INTAKE_LATER);
    }
    assert_int_equal (held, 100);                   /* the stream's own bound */
    for (uint64_t seq = 2; seq < 500; seq++) {
        const struct intake_batch batch = live_batch (seq, seq + 1, 1, 1, &node_a);
        if (intake_state_batch (&b, &batch, 0) == INTAKE_HOLD) {
            hold (&b, &batch);
            held++;
        }
    }
    assert_int_equal (held, 150);                   /* the common one */
    struct intake_todo todo;
    intake_state_todo (&a, 0, 0, &todo);
    assert_int_equal (todo.end_seq, 2);
    drop_all (&a);
    drop_all (&b);
    assert_int_equal (limits.held_bytes, 0);
}

static void a_stream_of_another_node_is_refused_without_a_newer_epoch (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    intake_state_init (&s, &limits, 1, 0, 0);
    struct intake_batch b = live_batch (1, 2, 3, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_APPEND);
    intake_state_appended (&s, 2, 3, 30, 0);
    b = live_batch (2, 3, 3, 1, &node_b);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_REFUSE_OWNER);
    b.incarnation++;
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_CONFLICT);
    b = live_batch (2, 3, 2, 1, &node_b);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_REFUSE_STALE);
    b = live_batch (1, 2, 4, 1, &node_b);                 /* a newer epoch that begins with sequences that were used */
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_CONFLICT);
    b = live_batch (2, 3, 3, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_APPEND);
    drop_all (&s);
}

static void a_newer_epoch_waits_for_the_older_ones_owner_and_then_the_rest_is_void (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 1, 0, 0);
    struct intake_batch b = live_batch (1, 5, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_APPEND);
    intake_state_appended (&s, 5, 1, 10, 0);
    b = live_batch (100, 101, 2, 100, &node_b);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
    assert_int_equal (todo.until_ns, limits.epoch_quiet_ns);
    b = live_batch (5, 7, 1, 1, &node_a);                 /* still on its way */
    assert_int_equal (intake_state_batch (&s, &b, 10), INTAKE_APPEND);
    intake_state_appended (&s, 7, 1, 10, 10);
    intake_state_todo (&s, 10, 0, &todo);
    assert_int_equal (todo.until_ns, 10 + limits.epoch_quiet_ns);
    assert_true (intake_state_owner_gone (&s, &node_a, false, 20));
    intake_state_todo (&s, 20, 1, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_OWNER);    /* the new one may have kept its window on disk */
    assert_int_equal (todo.first_seq, 7);
    assert_int_equal (todo.end_seq, 100);
    intake_state_gone (&s, false, 7, 100, FACTMESH__GAP_REASON__GAP_SYNCED, 20);
    intake_state_todo (&s, 20, 1, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_JOURNAL);
    intake_state_gone (&s, true, 7, 100, FACTMESH__GAP_REASON__GAP_NOT_HELD, 20);
    intake_state_todo (&s, 20, 1, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_GAP);
    assert_int_equal (todo.reason, FACTMESH__GAP_REASON__GAP_VOID);
    assert_int_equal (todo.first_seq, 7);
    assert_int_equal (todo.end_seq, 100);
    assert_int_equal (todo.epoch, 2);               /* so that a zombie of epoch 1 is refused after a start, too */
    assert_false (todo.closes);
    intake_state_appended (&s, 100, todo.epoch, todo.incarnation, 20);
    struct intake_item item;
    bool append;
    assert_true (intake_state_take (&s, &item, &append) && append);
    intake_state_appended (&s, 101, 2, 20, 20);
    b = live_batch (7, 8, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 30), INTAKE_REFUSE_STALE);
    drop_all (&s);
}

static void an_older_owner_that_does_not_fall_silent_is_overtaken_in_the_end (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    intake_state_init (&s, &limits, 1, 0, 0);
    struct intake_batch b = live_batch (1, 2, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_APPEND);
    intake_state_appended (&s, 2, 1, 10, 0);
    b = live_batch (1000, 1001, 2, 1000, &node_b);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    uint64_t now = 0, seq = 2;
    for (; now < limits.epoch_ns; now += limits.epoch_quiet_ns / 2, seq++) {
        b = live_batch (seq, seq + 1, 1, 1, &node_a);
        assert_int_equal (intake_state_batch (&s, &b, now), INTAKE_APPEND);
        intake_state_appended (&s, seq + 1, 1, 10, now);
    }
    b = live_batch (seq, seq + 1, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, now), INTAKE_REFUSE_STALE);
    drop_all (&s);
}

static void what_the_publisher_let_go_as_synced_is_asked_of_journals_and_waited_for (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 1, 0, 0);
    const struct intake_batch b = live_batch (1000, 1001, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_OWNER);
    intake_state_gone (&s, false, 1, 900, FACTMESH__GAP_REASON__GAP_SYNCED, 5);
    intake_state_todo (&s, 5, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
    assert_int_equal (todo.until_ns, 5 + limits.holders_ns);
    intake_state_journals_changed (&s, 10);         /* one comes */
    intake_state_todo (&s, 10, 1, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_JOURNAL);
    assert_int_equal (todo.end_seq, 900);
    struct intake_batch from_journal = live_batch (1, 600, 1, 1, &node_b);
    from_journal.repaired = true;
    assert_int_equal (intake_state_batch (&s, &from_journal, 10), INTAKE_APPEND);
    intake_state_appended (&s, 600, 1, 10, 10);
    intake_state_answered (&s, true, 10);           /* it has no more */
    intake_state_todo (&s, 11, 1, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
    intake_state_todo (&s, 5 + limits.holders_ns, 1, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_GAP);
    assert_int_equal (todo.first_seq, 600);
    assert_int_equal (todo.end_seq, 900);
    assert_int_equal (todo.reason, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    intake_state_appended (&s, 900, 1, 10, 300 * (uint64_t) MS);
    intake_state_todo (&s, 300 * (uint64_t) MS, 1, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_OWNER);    /* the rest it has */
    assert_int_equal (todo.first_seq, 900);
    assert_int_equal (todo.end_seq, 1000);
    drop_all (&s);
}

static void a_silent_or_busy_owner_is_asked_again_and_nothing_is_given_up (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 1, 0, 0);
    const struct intake_batch b = live_batch (5, 6, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    unsigned asked = 0;
    for (uint64_t now = 0; now < 100 * 1000 * (uint64_t) MS; now += MS) {
        intake_state_todo (&s, now, 2, &todo);
        assert_true (todo.kind == INTAKE_TODO_NOTHING || todo.kind == INTAKE_TODO_ASK_OWNER);
        if (todo.kind == INTAKE_TODO_ASK_OWNER && asked++ % 2)
            intake_state_unasked (&s, false, now);
    }
    assert_true (asked > 100);
    drop_all (&s);
}

/* It says neither that it has the facts nor that it does not. */
static void an_owner_whose_answers_bring_nothing_is_passed_over_after_some (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo = { .kind = INTAKE_TODO_NOTHING };
    uint64_t now = 0;
    unsigned asked = 0;
    intake_state_init (&s, &limits, 1, 0, 0);
    const struct intake_batch b = live_batch (5, 6, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    for (; todo.kind == INTAKE_TODO_NOTHING || todo.kind == INTAKE_TODO_ASK_OWNER; now += MS) {
        intake_state_todo (&s, now, 1, &todo);
        if (todo.kind == INTAKE_TODO_ASK_OWNER) {
            asked++;
            intake_state_answered (&s, false, now);
        }
    }
    assert_int_equal (asked, INTAKE_ATTEMPTS_MAX);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_JOURNAL);
    intake_state_answered (&s, true, now);
    for (todo.kind = INTAKE_TODO_NOTHING; todo.kind == INTAKE_TODO_NOTHING; now += MS)
        intake_state_todo (&s, now, 1, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_GAP);
    assert_int_equal (todo.first_seq, 1);
    assert_int_equal (todo.end_seq, 5);
    assert_int_equal (todo.reason, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    drop_all (&s);
}

/* A stream whose owner says that [1, 5) is void, and whose journals are asked next. */
static void void_and_asked (struct intake_state *s, struct intake_limits *limits, struct intake_todo *todo)
{
    intake_state_init (s, limits, 1, 0, 0);
    const struct intake_batch b = live_batch (5, 6, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (s, &b, 0), INTAKE_HOLD);
    hold (s, &b);
    intake_state_todo (s, 0, 2, todo);
    intake_state_gone (s, false, 1, 5, FACTMESH__GAP_REASON__GAP_VOID, 0);
    intake_state_todo (s, 0, 2, todo);
    assert_int_equal (todo->kind, INTAKE_TODO_ASK_JOURNAL);
}

static void no_gap_is_recorded_while_a_journal_that_is_known_has_not_answered (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    void_and_asked (&s, &limits, &todo);
    unsigned asked[2] = { 0, 0 };
    uint64_t now = 0;
    for (; now < 20 * limits.holders_ns; now += MS) {
        if (todo.kind == INTAKE_TODO_ASK_JOURNAL) {
            if (todo.journal == 0)
                intake_state_answered (&s, true, now);          /* has nothing of it */
            else if (asked[1] % 2)
                intake_state_unasked (&s, true, now);           /* busy; and every second time silent */
            asked[todo.journal]++;
        } else
            assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
        intake_state_todo (&s, now, 2, &todo);
    }
    assert_true (asked[0] > 10 && asked[1] > 10);
    assert_true (todo.kind != INTAKE_TODO_GAP);
    /* It is gone, and not known any more: the other one has said it all. */
    intake_state_journals_changed (&s, now);
    for (unsigned n = 0; n < 300 && todo.kind != INTAKE_TODO_GAP; n++, now += MS) {
        intake_state_todo (&s, now, 1, &todo);
        if (todo.kind == INTAKE_TODO_ASK_JOURNAL)
            intake_state_gone (&s, true, 1, 5, FACTMESH__GAP_REASON__GAP_NOT_HELD, now);
    }
    assert_int_equal (todo.kind, INTAKE_TODO_GAP);
    assert_int_equal (todo.reason, FACTMESH__GAP_REASON__GAP_VOID);
    drop_all (&s);
}

static void a_journal_that_says_not_yet_is_asked_again_before_a_gap_is_recorded (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    void_and_asked (&s, &limits, &todo);
    uint64_t now = 0;
    unsigned asked = 0;
    for (; todo.kind != INTAKE_TODO_GAP && now < 10 * limits.holders_ns; now += MS) {
        if (todo.kind == INTAKE_TODO_ASK_JOURNAL) {
            intake_state_later (&s);
            asked++;
        }
        intake_state_todo (&s, now, 1, &todo);
    }
    assert_true (asked >= 3);
    assert_in_range (now, limits.holders_ns, limits.holders_ns + limits.answer_ns);
    drop_all (&s);
}

static void a_publisher_that_vanished_is_waited_for_and_its_epoch_not_taken_again (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 1, 0, 0);
    const struct intake_batch b = live_batch (5, 6, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    assert_true (intake_state_owner_gone (&s, &node_a, false, 0));
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
    assert_int_equal (todo.until_ns, limits.orphan_ns);
    intake_state_todo (&s, limits.orphan_ns, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_GAP);
    assert_int_equal (todo.end_seq, 5);
    assert_true (todo.closes && todo.epoch == 1 && todo.incarnation == 10);
    intake_state_appended (&s, 5, todo.epoch, todo.incarnation, limits.orphan_ns);
    struct intake_item item;
    bool append;
    assert_true (intake_state_take (&s, &item, &append) && append);
    intake_state_appended (&s, 6, 1, 10, limits.orphan_ns);
    /* It comes back: a cumulative watermark would acknowledge what was lost. */
    const struct intake_batch back = live_batch (6, 7, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &back, limits.orphan_ns + 1), INTAKE_CONFLICT);
    /* After a start of the journal, too. */
    struct intake_state restarted;
    intake_state_init (&restarted, &limits, 6, 1, 10);
    intake_state_orphaned (&restarted);
    assert_int_equal (intake_state_batch (&restarted, &back, 0), INTAKE_CONFLICT);
    drop_all (&restarted);
    const struct intake_batch anew = live_batch (50, 51, 2, 50, &node_a);
    assert_int_equal (intake_state_batch (&s, &anew, limits.orphan_ns + 2), INTAKE_HOLD);
    drop_all (&s);
}

static void a_publisher_that_said_goodbye_is_waited_for_for_a_moment (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 1, 0, 0);
    const struct intake_batch b = live_batch (5, 6, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    assert_true (intake_state_owner_gone (&s, &node_a, true, 0));
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
    assert_int_equal (todo.until_ns, limits.holders_ns);
    intake_state_todo (&s, limits.holders_ns, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_GAP);
    drop_all (&s);
}

/* It left and started again at its address while the journal stood still: the old connection was made anew, and what the new process sent came in the name
 * of the old one, whose goodbye is read before anybody has heard of the new one. */
static void what_came_in_the_name_of_who_said_goodbye_is_asked_of_who_sent_it (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 5, 1, 10);
    const struct intake_batch b = live_batch (8, 9, 2, 5, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    assert_true (intake_state_owner_gone (&s, &node_a, true, 0));
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_NOTHING);
    const struct intake_batch notice = live_batch (0, 9, 2, 5, &node_b);
    assert_int_equal (intake_state_head (&s, &notice, limits.holders_ns - 1), INTAKE_HAVE);
    intake_state_todo (&s, limits.holders_ns - 1, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_OWNER);
    assert_int_equal (todo.first_seq, 5);
    assert_int_equal (todo.end_seq, 8);
    assert_true (id_equal (&s.now.owner, &node_b));
    drop_all (&s);
}

/* Here both are known for a while, and nothing more comes of the new one when the old one is found dead. */
static void who_was_refused_for_an_owner_is_asked_when_that_is_gone (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    for (unsigned claimant_left = 0; claimant_left < 2; claimant_left++) {
        intake_state_init (&s, &limits, 5, 1, 10);
        const struct intake_batch b = live_batch (8, 9, 2, 5, &node_a), own = live_batch (8, 9, 2, 5, &node_b);
        assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
        hold (&s, &b);
        assert_int_equal (intake_state_batch (&s, &own, 0), INTAKE_REFUSE_OWNER);
        assert_true (id_equal (&s.now.owner, &node_a));
        if (claimant_left)
            assert_false (intake_state_owner_gone (&s, &node_b, true, 0));
        assert_true (intake_state_owner_gone (&s, &node_a, false, 0));
        intake_state_todo (&s, 0, 0, &todo);
        assert_int_equal (s.owned, !claimant_left);
        assert_int_equal (todo.kind, claimant_left ? INTAKE_TODO_NOTHING : INTAKE_TODO_ASK_OWNER);
        if (!claimant_left) {
            assert_true (id_equal (&s.now.owner, &node_b));
            assert_true (intake_state_owner_gone (&s, &node_b, false, 0));      /* now nobody is left */
            assert_false (s.owned);
        }
        drop_all (&s);
    }
}

/* The same of an epoch that waits for the older one's owner. */
static void who_was_refused_for_the_owner_of_a_newer_epoch_is_asked_when_that_is_gone (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 1, 0, 0);
    const struct fm_id node_c = { .bytes = { 'c' } };
    const struct intake_batch old = live_batch (1, 5, 1, 1, &node_a), b = live_batch (8, 9, 2, 6, &node_b), own = live_batch (8, 9, 2, 6, &node_c);
    assert_int_equal (intake_state_batch (&s, &old, 0), INTAKE_APPEND);
    intake_state_appended (&s, 5, 1, 10, 0);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    assert_true (s.pending);
    assert_int_equal (intake_state_batch (&s, &own, 0), INTAKE_REFUSE_OWNER);
    assert_true (intake_state_owner_gone (&s, &node_b, false, 0));
    assert_true (s.owned && id_equal (&s.now.owner, &node_c) && s.now.epoch == 2);
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_OWNER);
    assert_int_equal (todo.first_seq, 5);
    drop_all (&s);
}

static void a_stream_that_nobody_publishes_is_forgotten (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    intake_state_init (&s, &limits, 1, 0, 0);
    const struct intake_batch b = live_batch (1, 6, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_APPEND);
    intake_state_appended (&s, 6, 1, 10, 0);
    assert_true (intake_state_owner_gone (&s, &node_a, false, 0));
    intake_state_todo (&s, 0, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_FORGET);
    drop_all (&s);
}

/* Epoch 1 of node a up to 5; epoch 3 of node b begins with 100, and waits for a to fall silent. */
static void recorded_and_pending (struct intake_state *s, struct intake_limits *limits)
{
    intake_state_init (s, limits, 1, 0, 0);
    struct intake_batch b = live_batch (1, 5, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (s, &b, 0), INTAKE_APPEND);
    intake_state_appended (s, 5, 1, 10, 0);
    b = live_batch (100, 101, 3, 100, &node_b);
    assert_int_equal (intake_state_batch (s, &b, 0), INTAKE_HOLD);
    hold (s, &b);
}

static void while_an_epoch_waits_others_than_its_publishers_are_refused (void **state)
{
    (void) state;
    static const struct fm_id node_c = { { 3 } };
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    recorded_and_pending (&s, &limits);
    struct intake_batch b = live_batch (50, 51, 2, 50, &node_c);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_REFUSE_STALE);
    b = live_batch (101, 102, 3, 100, &node_c);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_REFUSE_OWNER);
    b.incarnation++;
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_CONFLICT);
    b = live_batch (3, 6, 1, 1, &node_a);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_REFUSE_OVERLAP);
    b = live_batch (101, 102, 3, 100, &node_b);
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    drop_all (&s);
}

/* Whoever sent it: it may only be of an epoch, and of an incarnation, that is known. */
static void an_answer_of_another_life_is_refused (void **state)
{
    (void) state;
    static const struct { uint64_t epoch, incarnation; enum intake_verdict verdict; } answers[] = {
        { 1, 10, INTAKE_APPEND }, { 1, 11, INTAKE_CONFLICT }, { 2, 20, INTAKE_HOLD }, { 3, 30, INTAKE_HOLD }, { 3, 31, INTAKE_CONFLICT },
        { 4, 40, INTAKE_REFUSE_STALE }, { 0, 0, INTAKE_REFUSE_STALE },
    };
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    recorded_and_pending (&s, &limits);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct intake_batch b = live_batch (5, 6, answers[i].epoch, 1, &node_b);
        b.repaired = true;
        b.incarnation = answers[i].incarnation;
        assert_int_equal (intake_state_batch (&s, &b, 0), answers[i].verdict);
    }
    drop_all (&s);
}

/* An answer that says that it is of the epoch that waits, though it stands before it: held, and in turn when that epoch has come. */
static void what_is_in_turn_when_its_epoch_comes_is_taken (void **state)
{
    (void) state;
    struct intake_limits limits = limits_new ();
    struct intake_state s;
    struct intake_todo todo;
    struct intake_item item;
    bool append;
    recorded_and_pending (&s, &limits);
    struct intake_batch b = live_batch (5, 6, 3, 5, &node_b);
    b.repaired = true;
    assert_int_equal (intake_state_batch (&s, &b, 0), INTAKE_HOLD);
    hold (&s, &b);
    assert_false (intake_state_take (&s, &item, &append));
    intake_state_todo (&s, limits.epoch_quiet_ns, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_TAKE);
    assert_true (intake_state_take (&s, &item, &append) && append);
    assert_int_equal (item.first_seq, 5);
    intake_state_appended (&s, 6, 3, 30, limits.epoch_quiet_ns);
    intake_state_todo (&s, limits.epoch_quiet_ns, 0, &todo);
    assert_int_equal (todo.kind, INTAKE_TODO_ASK_OWNER);
    assert_int_equal (todo.first_seq, 6);
    assert_int_equal (todo.end_seq, 100);
    drop_all (&s);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (batches_in_turn_are_appended),
        cmocka_unit_test (above_a_hole_batches_are_held_and_the_hole_is_asked_for),
        cmocka_unit_test (a_head_notice_reveals_the_loss_of_the_last_fact),
        cmocka_unit_test (what_is_held_stays_within_its_bounds),
        cmocka_unit_test (a_stream_of_another_node_is_refused_without_a_newer_epoch),
        cmocka_unit_test (a_newer_epoch_waits_for_the_older_ones_owner_and_then_the_rest_is_void),
        cmocka_unit_test (an_older_owner_that_does_not_fall_silent_is_overtaken_in_the_end),
        cmocka_unit_test (what_the_publisher_let_go_as_synced_is_asked_of_journals_and_waited_for),
        cmocka_unit_test (a_silent_or_busy_owner_is_asked_again_and_nothing_is_given_up),
        cmocka_unit_test (an_owner_whose_answers_bring_nothing_is_passed_over_after_some),
        cmocka_unit_test (no_gap_is_recorded_while_a_journal_that_is_known_has_not_answered),
        cmocka_unit_test (a_journal_that_says_not_yet_is_asked_again_before_a_gap_is_recorded),
        cmocka_unit_test (a_publisher_that_vanished_is_waited_for_and_its_epoch_not_taken_again),
        cmocka_unit_test (a_publisher_that_said_goodbye_is_waited_for_for_a_moment),
        cmocka_unit_test (what_came_in_the_name_of_who_said_goodbye_is_asked_of_who_sent_it),
        cmocka_unit_test (who_was_refused_for_an_owner_is_asked_when_that_is_gone),
        cmocka_unit_test (who_was_refused_for_the_owner_of_a_newer_epoch_is_asked_when_that_is_gone),
        cmocka_unit_test (a_stream_that_nobody_publishes_is_forgotten),
        cmocka_unit_test (while_an_epoch_waits_others_than_its_publishers_are_refused),
        cmocka_unit_test (an_answer_of_another_life_is_refused),
        cmocka_unit_test (what_is_in_turn_when_its_epoch_comes_is_taken),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
