/* group_state: its promises, one by one. Random schedules of it: test_group_schedules. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "fm_types.h"
#include "group_state.h"

enum { MS = 1000000 };

static struct group_state *group (enum group_effect effect, unsigned lease_ms)
{
    const struct group_options options = { .effect = effect, .lease_ns = (uint64_t) lease_ms * MS, .attempts_max = 3 };
    struct group_state *g;
    assert_int_equal (0, group_state_new (&options, &g));
    return g;
}

static void take (struct group_state *g, uint64_t offset, uint64_t key)
{
    const struct group_fact f = { .offset = offset, .key = key };
    assert_int_equal (0, group_state_take (g, &f));
    group_state_advance (g, offset + 1);
}

static void correct (struct group_state *g, uint64_t offset, uint64_t root)
{
    const struct group_fact f = { .offset = offset, .key = 1, .correction = true, .root_offset = root };
    assert_int_equal (0, group_state_take (g, &f));
    group_state_advance (g, offset + 1);
}

static struct group_hand_out expect (struct group_state *g, uint64_t now, uint64_t offset)
{
    struct group_hand_out h;
    assert_int_equal (0, group_state_hand_out (g, now, &h));
    assert_int_equal (offset, h.offset);
    return h;
}

static void expect_none (struct group_state *g, uint64_t now)
{
    struct group_hand_out h;
    assert_int_equal (FM_ERR_END, group_state_hand_out (g, now, &h));
}

static int say (struct group_state *g, const struct group_hand_out *h, enum group_outcome kind, uint64_t now)
{
    const struct group_report r = { .member = h->member, .offset = h->offset, .token = h->token, .kind = kind, .delay_ms = 50, .reason = slice_of ("why") };
    return group_state_outcome (g, &r, now, now);
}

static void later_holds_its_key_back_and_park_lets_it_go_on (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 1000);
    group_state_join (g, 1, 10, 0);
    take (g, 1, 7);
    take (g, 2, 7);
    take (g, 3, 8);
    struct group_hand_out a = expect (g, 0, 1), c = expect (g, 0, 3);
    expect_none (g, 0);
    assert_int_equal (0, say (g, &a, GROUP_LATER, 0));
    expect_none (g, 0);
    assert_int_equal (50 * MS, group_state_tick (g, 0, 0));
    (void) group_state_tick (g, 50 * MS, 0);
    a = expect (g, 50 * MS, 1);
    assert_int_equal (GROUP_REDELIVERY, a.flags);
    assert_int_equal (2, a.deliveries);
    assert_int_equal (0, say (g, &a, GROUP_PARK, 50 * MS));
    struct group_hand_out b = expect (g, 50 * MS, 2);
    assert_int_equal (GROUP_KEY_PARKED, b.flags);
    assert_int_equal (1, b.parked_offset);
    assert_int_equal (0, say (g, &b, GROUP_DONE, 50 * MS));
    assert_int_equal (0, say (g, &c, GROUP_DONE, 50 * MS));
    assert_int_equal (0, group_state_replay_parked (g, 1));
    a = expect (g, 50 * MS, 1);
    assert_true (a.flags & GROUP_OUT_OF_ORDER);
    assert_int_equal (0, say (g, &a, GROUP_DONE, 50 * MS));
    assert_int_equal (FM_ERR_UNKNOWN, group_state_drop_parked (g, 1));
    group_state_destroy (&g);
}

static void a_parked_fact_that_is_replayed_waits_for_the_one_of_its_key_in_hand (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 1000);
    group_state_join (g, 1, 10, 0);
    take (g, 1, 7);
    take (g, 2, 7);
    take (g, 3, 7);
    struct group_hand_out h = expect (g, 0, 1);
    assert_int_equal (0, say (g, &h, GROUP_PARK, 0));
    h = expect (g, 0, 2);
    assert_int_equal (0, group_state_replay_parked (g, 1));
    expect_none (g, 0);
    assert_int_equal (0, say (g, &h, GROUP_DONE, 0));
    h = expect (g, 0, 1);
    assert_int_equal (0, say (g, &h, GROUP_DONE, 0));
    h = expect (g, 0, 3);
    assert_int_equal (0, h.flags);
    group_state_destroy (&g);
}

static void a_delay_lasts_over_a_restart (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 1000);
    const struct group_place place = { .next = 5, .high = 5, .starts = 9 };
    const struct group_stored stored = { .offset = 3, .until_ns = 5000 * (uint64_t) MS, .deliveries = 1 };
    group_state_restart (g, &place, 0);
    assert_int_equal (0, group_state_restore (g, &stored, 7, 0));
    group_state_join (g, 1, 10, 0);
    take (g, 5, 8);
    expect_none (g, (GROUP_REJOIN_MS - 1) * (uint64_t) MS);
    (void) group_state_tick (g, GROUP_REJOIN_MS * (uint64_t) MS, 0);
    const struct group_hand_out h = expect (g, GROUP_REJOIN_MS * (uint64_t) MS, 5);
    assert_int_equal (10, h.token >> 40);
    assert_int_equal (0, say (g, &h, GROUP_DONE, GROUP_REJOIN_MS * (uint64_t) MS));
    expect_none (g, 4999 * (uint64_t) MS);
    (void) group_state_tick (g, 5000 * (uint64_t) MS, 0);
    (void) expect (g, 5000 * (uint64_t) MS, 3);
    group_state_destroy (&g);
}

static void a_lease_that_ran_out_gives_the_fact_to_another_under_a_higher_token (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 1000);
    group_state_join (g, 1, 1, 0);
    take (g, 1, 7);
    const struct group_hand_out a = expect (g, 0, 1);
    group_state_join (g, 2, 1, 0);
    assert_int_equal (1000 * (uint64_t) MS, group_state_tick (g, 999 * MS, 0));
    expect_none (g, 999 * MS);
    (void) group_state_tick (g, 1000 * MS, 0);
    const struct group_hand_out b = expect (g, 1000 * MS, 1);
    assert_int_equal (2, b.member);
    assert_true (b.token > a.token);
    assert_int_equal (FM_ERR_LEASE, say (g, &a, GROUP_DONE, 1001 * MS));
    assert_int_equal (0, say (g, &b, GROUP_DONE, 1001 * MS));
    assert_int_equal (FM_ERR_LEASE, say (g, &b, GROUP_DONE, 1001 * MS));
    group_state_destroy (&g);
}

static void a_death_counts_against_the_fact_that_its_instance_was_at_and_no_other (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 1000);
    take (g, 1, 0);
    take (g, 2, 0);
    struct group_hand_out h;
    for (uint64_t m = 1; m <= 3; m++) {
        group_state_join (g, m, 10, 0);
        h = expect (g, 0, 1);
        assert_int_equal (m - 1, h.attempts);
        h = expect (g, 0, 2);
        assert_int_equal (0, h.attempts);
        group_state_leave (g, m, GROUP_VANISHED, 0, 99);
    }
    group_state_join (g, 4, 10, 0);
    h = expect (g, 0, 2);
    assert_int_equal (4, h.deliveries);
    expect_none (g, 0);
    struct group_counts counts;
    group_state_counts (g, &counts);
    assert_int_equal (1, counts.parked);
    group_state_destroy (&g);
}

static void what_was_begun_by_an_instance_that_vanished_waits_for_its_lease_and_is_in_doubt (void **state)
{
    (void) state;
    static const enum group_leave how[] = { GROUP_VANISHED, GROUP_ENDED, GROUP_LEFT };
    for (size_t i = 0; i < 3; i++) {
        struct group_state *g = group (GROUP_ONCE, 1000);
        group_state_join (g, 1, 10, 0);
        take (g, 1, 7);
        struct group_hand_out h = expect (g, 0, 1);
        assert_int_equal (0, say (g, &h, GROUP_BEGIN, 0));
        group_state_leave (g, 1, how[i], 500 * MS, 0);
        group_state_join (g, 2, 10, 500 * MS);
        if (how[i] == GROUP_VANISHED) {
            expect_none (g, 500 * MS);
            assert_int_equal (1000 * MS, group_state_tick (g, 500 * MS, 0));
            (void) group_state_tick (g, 1000 * MS, 0);
        }
        h = expect (g, 1000 * MS, 1);
        assert_int_equal (GROUP_IN_DOUBT | GROUP_REDELIVERY, h.flags);
        assert_int_equal (0, say (g, &h, GROUP_DONE, 1000 * MS));
        group_state_destroy (&g);
    }
}

static void a_member_whose_lease_ran_out_gets_work_again_when_it_says_something (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 1000);
    group_state_join (g, 1, 10, 0);
    take (g, 1, 7);
    (void) expect (g, 0, 1);
    (void) group_state_tick (g, 1000 * MS, 0);
    expect_none (g, 1000 * MS);
    assert_int_equal (FM_ERR_UNKNOWN, group_state_alive (g, 2));
    assert_int_equal (0, group_state_alive (g, 1));
    (void) expect (g, 1000 * MS, 1);
    group_state_destroy (&g);
}

static void giving_back_what_was_begun_leaves_it_in_doubt (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_ONCE, 1000);
    group_state_join (g, 1, 10, 0);
    take (g, 1, 7);
    struct group_hand_out h = expect (g, 0, 1);
    assert_int_equal (0, say (g, &h, GROUP_BEGIN, 0));
    assert_int_equal (0, say (g, &h, GROUP_RELEASE, 0));
    h = expect (g, 0, 1);
    assert_int_equal (GROUP_IN_DOUBT | GROUP_REDELIVERY, h.flags);
    assert_int_equal (2, h.deliveries);
    /* An outcome of a kind that is not known says nothing. */
    assert_int_equal (FM_ERR_ARGUMENT, say (g, &h, (enum group_outcome) 99, 0));
    assert_int_equal (0, say (g, &h, GROUP_RELEASE, 0));
    h = expect (g, 0, 1);
    assert_int_equal (GROUP_IN_DOUBT | GROUP_REDELIVERY, h.flags);
    /* Parked for its doubt: whoever replays it asks for it, and is told of the doubt; once begun again that is over. */
    assert_int_equal (0, say (g, &h, GROUP_PARK, 0));
    assert_int_equal (0, group_state_replay_parked (g, 1));
    h = expect (g, 0, 1);
    assert_int_equal (GROUP_IN_DOUBT | GROUP_REDELIVERY | GROUP_OUT_OF_ORDER | GROUP_BY_HAND, h.flags);
    assert_int_equal (0, say (g, &h, GROUP_BEGIN, 0));
    assert_int_equal (0, say (g, &h, GROUP_RELEASE, 0));
    h = expect (g, 0, 1);
    assert_int_equal (GROUP_IN_DOUBT | GROUP_REDELIVERY | GROUP_OUT_OF_ORDER, h.flags);
    assert_int_equal (0, say (g, &h, GROUP_BEGIN, 0));
    assert_int_equal (0, say (g, &h, GROUP_FAILED, 0));
    (void) group_state_tick (g, 100 * MS, 0);
    h = expect (g, 100 * MS, 1);
    assert_int_equal (GROUP_REDELIVERY | GROUP_OUT_OF_ORDER, h.flags);
    group_state_destroy (&g);
}

static void an_instance_that_comes_anew_goes_on_with_what_it_holds_and_nobody_else_does (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_ONCE, 1000);
    group_state_join (g, 1, 10, 0);
    for (uint64_t offset = 1; offset <= 4; offset++)
        take (g, offset, offset);
    struct group_hand_out a = expect (g, 0, 1), b = expect (g, 0, 2), c = expect (g, 0, 3);
    assert_int_equal (0, say (g, &a, GROUP_BEGIN, 0));
    assert_int_equal (0, say (g, &c, GROUP_DONE, 0));
    /* Its connection broke: it is another member now. */
    group_state_join (g, 2, 10, 0);
    assert_int_equal (0, group_state_hold (g, 2, 1, a.token, 0));
    assert_int_equal (0, group_state_hold (g, 2, 2, b.token, 0));
    assert_int_equal (FM_ERR_END, group_state_hold (g, 2, 3, c.token, 0));
    assert_int_equal (FM_ERR_LEASE, group_state_hold (g, 2, 4, 0, 0));
    assert_int_equal (FM_ERR_LEASE, group_state_hold (g, 2, 4, a.token, 0));
    assert_int_equal (FM_ERR_LEASE, group_state_hold (g, 2, 99, 1, 0));
    assert_int_equal (FM_ERR_LEASE, say (g, &b, GROUP_DONE, 0));
    b.member = 2;
    assert_int_equal (0, say (g, &b, GROUP_FAILED, 0));
    /* That was recorded: it does not count again when it is told again. */
    assert_int_equal (FM_ERR_LEASE, group_state_hold (g, 2, 2, b.token, 0));
    group_state_leave (g, 1, GROUP_ENDED, 0, 0);
    struct group_counts counts;
    group_state_counts (g, &counts);
    assert_int_equal (1, counts.in_hand);
    group_state_destroy (&g);
}

static void keep_one (void *arg, const struct group_stored *entry)
{
    struct group_stored *stored = arg;
    stored[entry->offset] = *entry;
}

static void after_a_restart_what_was_in_hand_waits_for_its_holder_or_the_lease (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_ONCE, 10000);
    struct group_stored stored[4];
    struct group_place place;
    group_state_join (g, 1, 10, 0);
    for (uint64_t offset = 1; offset <= 3; offset++)
        take (g, offset, offset);
    struct group_hand_out a = expect (g, 0, 1), b = expect (g, 0, 2);
    assert_int_equal (0, say (g, &a, GROUP_BEGIN, 0));
    assert_int_equal (0, group_state_each (g, keep_one, stored));
    group_state_place (g, &place);
    group_state_destroy (&g);
    g = group (GROUP_ONCE, 10000);
    group_state_restart (g, &place, 0);
    for (uint64_t offset = 1; offset <= 3; offset++)
        assert_int_equal (0, group_state_restore (g, &stored[offset], offset, 0));
    group_state_join (g, 1, 10, 0);
    const uint64_t then = 9999 * (uint64_t) MS, end = 10000 * (uint64_t) MS;
    (void) group_state_tick (g, then, 0);
    (void) expect (g, then, 3);
    expect_none (g, then);
    group_state_join (g, 2, 10, then);
    assert_int_equal (0, group_state_hold (g, 2, 2, b.token, then));
    (void) group_state_tick (g, end, 0);
    const struct group_hand_out h = expect (g, end, 1);
    assert_int_equal (GROUP_IN_DOUBT | GROUP_REDELIVERY, h.flags);
    assert_int_equal (FM_ERR_LEASE, group_state_hold (g, 2, 1, a.token, end));
    expect_none (g, end);
    group_state_destroy (&g);
}

/* Who comes late is not told that he did what another had to do again: neither after his connection broke, nor when his hand-out was lost with the
 * journal. Who did it is. */
static void what_another_has_done_meanwhile_is_not_confirmed_to_who_had_it_before (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 10000);
    struct group_place place;
    group_state_join (g, 1, 10, 0);
    group_state_place (g, &place);
    take (g, 1, 7);
    const struct group_hand_out before = expect (g, 0, 1);
    group_state_leave (g, 1, GROUP_VANISHED, 0, 0);
    group_state_join (g, 2, 10, 0);
    struct group_hand_out again = expect (g, 0, 1);
    assert_int_equal (0, say (g, &again, GROUP_DONE, 0));
    group_state_join (g, 3, 10, 0);
    assert_int_equal (FM_ERR_LEASE, group_state_hold (g, 3, 1, before.token, 0));
    assert_int_equal (FM_ERR_END, group_state_hold (g, 3, 1, again.token, 0));
    group_state_destroy (&g);

    g = group (GROUP_IDEMPOTENT, 10000);
    group_state_restart (g, &place, 0);
    group_state_join (g, 2, 10, 0);
    take (g, 1, 7);
    const uint64_t then = GROUP_REJOIN_MS * (uint64_t) MS;
    again = expect (g, then, 1);
    assert_int_equal (1, again.deliveries);
    assert_int_equal (0, say (g, &again, GROUP_DONE, then));
    group_state_join (g, 1, 10, then);
    assert_int_equal (FM_ERR_LEASE, group_state_hold (g, 1, 1, before.token, then));
    assert_int_equal (FM_ERR_END, group_state_hold (g, 1, 1, again.token, then));
    group_state_destroy (&g);
}

/* Its failure was recorded, the confirmation was lost with the journal that gave it: it is not gone on with, and does not count again. */
static void what_was_recorded_of_a_hand_out_is_not_gone_on_with_after_a_restart (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_ONCE, 10000);
    struct group_stored stored[3];
    struct group_place place;
    group_state_join (g, 1, 10, 0);
    take (g, 1, 1);
    take (g, 2, 2);
    struct group_hand_out failed = expect (g, 0, 1), held = expect (g, 0, 2);
    assert_int_equal (0, say (g, &failed, GROUP_FAILED, 0));
    assert_int_equal (0, group_state_each (g, keep_one, stored));
    group_state_place (g, &place);
    group_state_destroy (&g);
    g = group (GROUP_ONCE, 10000);
    group_state_restart (g, &place, 0);
    for (uint64_t offset = 1; offset <= 2; offset++)
        assert_int_equal (0, group_state_restore (g, &stored[offset], offset, 0));
    group_state_join (g, 1, 10, 0);
    assert_int_equal (FM_ERR_LEASE, group_state_hold (g, 1, 1, failed.token, 0));
    assert_int_equal (0, group_state_hold (g, 1, 2, held.token, 0));
    group_state_destroy (&g);
}

static void what_is_not_there_is_refused_and_changes_nothing (void **state)
{
    (void) state;
    struct group_state *none = NULL, *g = group (GROUP_IDEMPOTENT, 1000);
    group_state_destroy (&none);
    group_state_join (g, 1, 10, 0);
    assert_int_equal (FM_ERR_IN_USE, group_state_join (g, 1, 10, 0));
    take (g, 1, 7);
    take (g, 2, 8);
    (void) expect (g, 0, 1);
    const struct group_hand_out h = expect (g, 0, 2), stranger = { .member = 9, .offset = 1, .token = 1 };
    assert_int_equal (0, say (g, &h, GROUP_PARK, 0));
    (void) group_state_take_dirty (g);
    group_state_leave (g, 9, GROUP_VANISHED, 0, 0);
    group_state_silence (g, 9);
    assert_int_equal (FM_ERR_UNKNOWN, group_state_alive (g, 9));
    assert_int_equal (FM_ERR_UNKNOWN, group_state_hold (g, 9, 1, 1, 0));
    assert_int_equal (FM_ERR_UNKNOWN, say (g, &stranger, GROUP_DONE, 0));
    assert_int_equal (FM_ERR_UNKNOWN, group_state_replay_parked (g, 1));
    assert_int_equal (FM_ERR_UNKNOWN, group_state_drop_parked (g, 3));
    group_state_return (g, 2);          /* parked */
    group_state_return (g, 3);
    group_state_forget (g, 3);
    assert_false (group_state_take_dirty (g));
    struct group_counts c;
    group_state_counts (g, &c);
    assert_int_equal (1, c.in_hand);
    assert_int_equal (1, c.parked);
    group_state_destroy (&g);
}

/* A person sets the place forward: what waits below it is passed over; what is in hand or parked is not. */
static void what_waits_below_a_place_that_is_set_forward_is_passed_over (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 1000);
    group_state_join (g, 1, 3, 0);
    for (uint64_t offset = 1; offset <= 6; offset++)
        take (g, offset, 0);
    struct group_hand_out h[3];
    for (int i = 0; i < 3; i++)
        h[i] = expect (g, 0, 1 + (uint64_t) i);
    assert_int_equal (0, say (g, &h[0], GROUP_PARK, 0));
    assert_int_equal (0, say (g, &h[1], GROUP_LATER, 0));
    group_state_seek (g, 6, false);
    struct group_counts c;
    group_state_counts (g, &c);
    assert_int_equal (2, c.unfinished);     /* the third, in hand, and the sixth */
    assert_int_equal (1, c.parked);
    assert_int_equal (0, c.later);
    (void) expect (g, 100 * MS, 6);
    expect_none (g, 100 * MS);
    assert_int_equal (0, say (g, &h[2], GROUP_DONE, 100 * MS));
    assert_true (group_state_is_parked (g, 1));
    assert_int_equal (0, group_state_drop_parked (g, 1));
    assert_false (group_state_is_parked (g, 1));
    group_state_destroy (&g);
}

static void a_doubt_is_about_what_was_begun (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_ONCE, 1000);
    group_state_join (g, 1, 10, 0);
    take (g, 1, 7);
    struct group_hand_out h = expect (g, 0, 1);
    correct (g, 2, 1);
    assert_int_equal (0, say (g, &h, GROUP_BEGIN, 0));
    correct (g, 3, 1);
    group_state_leave (g, 1, GROUP_ENDED, 0, 0);
    correct (g, 4, 1);
    group_state_join (g, 2, 10, 0);
    h = expect (g, 0, 1);
    assert_true (h.flags & GROUP_IN_DOUBT);
    assert_int_equal (1, h.content_offset);
    assert_int_equal (0, say (g, &h, GROUP_FAILED, 0));
    (void) group_state_tick (g, 200 * MS, 0);
    h = expect (g, 200 * MS, 1);
    assert_int_equal (4, h.content_offset);
    group_state_destroy (&g);
}

static void count_bytes (void *arg, const struct group_stored *entry)
{
    *(size_t *) arg += entry->reason.len;
}

static void reasons_are_bounded_and_what_cannot_be_parked_is_tried_again (void **state)
{
    (void) state;
    const struct group_options options = { .parked_max = 8000 };
    struct group_state *g;
    char reason[GROUP_REASON_MAX];
    memset (reason, 'r', sizeof reason);
    assert_int_equal (0, group_state_new (&options, &g));
    group_state_join (g, 1, 10, 0);
    for (uint64_t offset = 1; offset <= 8001; offset++) {
        const struct group_fact f = { .offset = offset, .key = 1, .park = slice (reason, sizeof reason), .now = 77 };
        assert_int_equal (0, group_state_take (g, &f));
        group_state_advance (g, offset + 1);
    }
    size_t bytes = 0;
    struct group_counts counts;
    assert_int_equal (0, group_state_each (g, count_bytes, &bytes));
    group_state_counts (g, &counts);
    assert_true (bytes <= GROUP_REASONS_MAX && bytes > GROUP_REASONS_MAX - GROUP_REASON_MAX);
    assert_int_equal (8000, counts.parked);
    assert_int_equal (1, counts.later);
    assert_int_equal (77 + (uint64_t) GROUP_BACKOFF_MAX_MS * MS, group_state_tick (g, 77, 0));
    take (g, 8002, 2);
    (void) expect (g, 77, 8002);
    group_state_destroy (&g);
}

static void facts_of_one_key_that_come_in_below_others_stand_in_their_order (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_IDEMPOTENT, 1000);
    for (uint64_t offset = 50; offset < 60; offset++)
        take (g, offset, 7);
    group_state_seek (g, 10, false);
    for (uint64_t offset = 10; offset < 60; offset++)
        take (g, offset, 7);
    group_state_seek (g, 1, false);
    for (uint64_t offset = 1; offset < 60; offset += 2)
        take (g, offset, 7);
    group_state_join (g, 1, 10, 0);
    for (uint64_t offset = 1; offset < 60; offset++) {
        if (offset < 10 && offset % 2 == 0)
            continue;
        struct group_hand_out h = expect (g, 0, offset);
        assert_int_equal (0, say (g, &h, offset % 3 ? GROUP_DONE : GROUP_PARK, 0));
    }
    struct group_hand_out h;
    assert_int_equal (0, group_state_replay_parked (g, 33));
    assert_int_equal (0, group_state_replay_parked (g, 15));
    h = expect (g, 0, 15);
    assert_int_equal (3, h.parked_offset);
    assert_int_equal (0, say (g, &h, GROUP_DONE, 0));
    h = expect (g, 0, 33);
    assert_int_equal (0, say (g, &h, GROUP_DONE, 0));
    expect_none (g, 0);
    group_state_destroy (&g);
}

static void once_runs_each_root_once_with_its_newest_content (void **state)
{
    (void) state;
    struct group_state *g = group (GROUP_ONCE, 1000);
    take (g, 1, 7);
    correct (g, 2, 1);
    correct (g, 3, 1);
    group_state_join (g, 1, 10, 0);
    const struct group_hand_out h = expect (g, 0, 1);
    assert_int_equal (3, h.content_offset);
    assert_int_equal (0, say (g, &h, GROUP_DONE, 0));
    correct (g, 4, 1);
    expect_none (g, 0);
    group_state_seek (g, 1, false);
    take (g, 1, 7);
    expect_none (g, 0);
    group_state_seek (g, 1, true);
    take (g, 1, 7);
    (void) expect (g, 0, 1);
    group_state_destroy (&g);
}

static void effects_choose_what_is_handed_out (void **state)
{
    (void) state;
    static const struct { enum group_effect effect; uint64_t offsets[3], again[3]; } cases[] = {
        { GROUP_IDEMPOTENT, { 1, 2, 3 }, { 1, 2, 3 } },
        { GROUP_ONCE, { 1, 3 }, { 0 } },
        { GROUP_ONCE_PER_VERSION, { 1, 2, 3 }, { 0 } },
        { GROUP_ON_CORRECTION, { 2 }, { 0 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct group_state *g = group (cases[i].effect, 1000);
        group_state_join (g, 1, 10, 0);
        for (int round = 0; round < 2; round++) {
            const uint64_t *expected = round ? cases[i].again : cases[i].offsets;
            take (g, 1, 0);
            struct group_hand_out h;
            for (uint64_t offset = 1; offset <= 3; offset++) {
                if (offset == 2)
                    correct (g, 2, 1);
                else
                    take (g, offset, 0);
                while (group_state_hand_out (g, 0, &h) == 0) {
                    assert_int_equal (*expected++, h.offset);
                    assert_int_equal (round ? GROUP_REPLAY : 0, h.flags);
                    assert_int_equal (0, say (g, &h, GROUP_DONE, 0));
                }
            }
            assert_int_equal (0, expected < (round ? cases[i].again : cases[i].offsets) + 3 ? *expected : 0);
            group_state_seek (g, 1, false);
        }
        group_state_destroy (&g);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (later_holds_its_key_back_and_park_lets_it_go_on),
        cmocka_unit_test (a_parked_fact_that_is_replayed_waits_for_the_one_of_its_key_in_hand),
        cmocka_unit_test (a_delay_lasts_over_a_restart),
        cmocka_unit_test (a_lease_that_ran_out_gives_the_fact_to_another_under_a_higher_token),
        cmocka_unit_test (a_death_counts_against_the_fact_that_its_instance_was_at_and_no_other),
        cmocka_unit_test (what_was_begun_by_an_instance_that_vanished_waits_for_its_lease_and_is_in_doubt),
        cmocka_unit_test (a_member_whose_lease_ran_out_gets_work_again_when_it_says_something),
        cmocka_unit_test (giving_back_what_was_begun_leaves_it_in_doubt),
        cmocka_unit_test (an_instance_that_comes_anew_goes_on_with_what_it_holds_and_nobody_else_does),
        cmocka_unit_test (after_a_restart_what_was_in_hand_waits_for_its_holder_or_the_lease),
        cmocka_unit_test (what_another_has_done_meanwhile_is_not_confirmed_to_who_had_it_before),
        cmocka_unit_test (what_was_recorded_of_a_hand_out_is_not_gone_on_with_after_a_restart),
        cmocka_unit_test (what_is_not_there_is_refused_and_changes_nothing),
        cmocka_unit_test (what_waits_below_a_place_that_is_set_forward_is_passed_over),
        cmocka_unit_test (a_doubt_is_about_what_was_begun),
        cmocka_unit_test (reasons_are_bounded_and_what_cannot_be_parked_is_tried_again),
        cmocka_unit_test (facts_of_one_key_that_come_in_below_others_stand_in_their_order),
        cmocka_unit_test (once_runs_each_root_once_with_its_newest_content),
        cmocka_unit_test (effects_choose_what_is_handed_out),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
