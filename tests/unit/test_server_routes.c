/* server: askers whose queue is full, and askers that go while a message to them waits, on a node without sockets and a log that is synced when the test says so. */

#include "fake_server.h"

static void a_full_queue_is_tried_again_and_nothing_is_lost (void **state)
{
    const struct fake_journal *j = *state;
    struct heard askers[] = { { .session = 1 }, { .session = 2 } };
    fake_let_replies (-EAGAIN, 0, 0);
    ask ('a', 1);
    ask ('b', 2);
    for (unsigned i = 0; i < 3; i++) {
        fake_wait_tries (6);
        fake_let_replies (-EAGAIN, 1, 0);       /* one gets through */
    }
    fake_wait_tries (6);
    fake_let_replies (0, 0, 0);
    hear_all (askers, 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED), 0);
}

static void an_asker_that_goes_while_a_message_to_it_waits_is_forgotten (void **state)
{
    const struct fake_journal *j = *state;
    struct heard others[] = { { .session = 3 }, { .session = 4 } }, again[] = { { .session = 1 } };
    fake_let_replies (-EAGAIN, 0, 0);
    ask ('a', 1);
    ask ('b', 3);
    ask ('a', 2);
    ask ('c', 4);
    fake_wait_tries (8);                /* each waits */
    fake_let_replies (-EAGAIN, 0, 'a');
    const uint64_t until_ns = node_now () + FAKE_PATIENCE_MS / 2 * (uint64_t) FAKE_NS_PER_MS;   /* far less than SERVER_IDLE_MS */
    while (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED) < 2) {
        assert_true (node_now () < until_ns);
        fake_wait_tries (1);
    }
    fake_let_replies (0, 0, 'a');
    hear_all (others, 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED), 2);
    /* Its places are free, its numbers too. */
    fake_let_replies (0, 0, 0);
    ask ('a', 1);
    hear_all (again, 1);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_REFUSED), 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (a_full_queue_is_tried_again_and_nothing_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown (an_asker_that_goes_while_a_message_to_it_waits_is_forgotten, set_up, tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
