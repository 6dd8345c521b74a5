/* membership: a mesh as large as it may be, and those who come then. One machine; the others are what it is told of them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "membership.h"

#define MS UINT64_C (1000000)

static struct membership *m;
static uint64_t now_ns;
static unsigned ups, downs, fulls, refusals;
static size_t unanswered, unanswered_most;  /* contacts to nodes that have not answered */

static struct fm_id node_of (unsigned n)
{
    return (struct fm_id) { .bytes = { 1, (uint8_t) (n >> 8), (uint8_t) n } };
}

static struct peer_info *info_of (unsigned n)
{
    const struct fm_id id = node_of (n);
    char address[40], *addresses[] = { address };
    (void) snprintf (address, sizeof address, "tcp://10.0.%u.%u:7400", n >> 8, n & 255);
    Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
    info.node = control_put_id (&id);
    info.control = info.live = addresses;
    info.n_control = info.n_live = 1;
    info.info_version = 1;
    struct peer_info *ret = NULL;
    assert_int_equal (peer_info_read (&info, &ret), 0);
    return ret;
}

/* What it wants; who is asked at an address answers if it is there. */
static void act (bool answers)
{
    struct membership_action a;
    enum { WAITING_MAX = 64 };
    struct {
        uint32_t contact;
        unsigned node;
    } waiting[WAITING_MAX];
    size_t count = 0;
    while (membership_take (m, &a)) {
        unsigned high, low;
        ups += a.kind == MEMBERSHIP_UP;
        downs += a.kind == MEMBERSHIP_DOWN;
        fulls += a.kind == MEMBERSHIP_NOTICE && a.notice == NOTICE_FULL;
        refusals += a.kind == MEMBERSHIP_SEND && a.message == SAY_FULL;
        if (a.kind != MEMBERSHIP_CONNECT || !a.address)
            continue;
        unanswered++;
        assert_int_equal (sscanf (a.address, "tcp://10.0.%u.%u:", &high, &low), 2);
        assert_true (count < WAITING_MAX);
        waiting[count].contact = a.contact;
        waiting[count++].node = high << 8 | low;
    }
    if (unanswered > unanswered_most)
        unanswered_most = unanswered;
    for (size_t i = 0; i < count && answers; i++) {
        unanswered--;
        membership_welcome (m, now_ns, waiting[i].contact, info_of (waiting[i].node));
        act (true);
    }
}

static void comes (unsigned n, bool answers)
{
    membership_hello (m, now_ns, info_of (n));
    act (answers);
}

static int set_up (void **state)
{
    (void) state;
    const struct membership_options options = { .self = info_of (0), .ping_ms = 1000000, .dead_ms = 100000000 };
    now_ns = 1000000 * MS;
    ups = downs = fulls = refusals = 0;
    unanswered = unanswered_most = 0;
    return membership_new (&options, &m);
}

static int tear_down (void **state)
{
    (void) state;
    membership_destroy (&m);
    return 0;
}

static void a_full_mesh_lets_nobody_in_but_for_one_who_went (void **state)
{
    (void) state;
    /* A seed that says nothing yet: 10.0.31.64. */
    assert_int_equal (membership_add_seed (m, "tcp://10.0.31.64:7400"), 0);
    membership_tick (m, now_ns);
    struct membership_action seed = { .kind = MEMBERSHIP_CLOSE };
    while (seed.kind != MEMBERSHIP_CONNECT)
        assert_true (membership_take (m, &seed));
    for (unsigned n = 1; n < MEMBERS_MAX; n++)
        comes (n, true);
    assert_int_equal (ups, MEMBERS_MAX - 1);    /* and we ourselves */
    assert_int_equal (fulls, 0);
    for (unsigned n = MEMBERS_MAX; n < MEMBERS_MAX + 10; n++)
        comes (n, true);
    assert_int_equal (ups, MEMBERS_MAX - 1);
    assert_int_equal (fulls, 10);
    assert_int_equal (refusals, 10);            /* each is told */
    /* Hearsay is no way in, nor is a greeting of one who is in a reason to turn him away. */
    membership_gossip (m, now_ns, info_of (MEMBERS_MAX + 11));
    act (true);
    comes (17, true);
    assert_int_equal (ups, MEMBERS_MAX - 1);
    assert_int_equal (refusals, 10);
    /* Nor does it help to be a seed. */
    membership_welcome (m, now_ns, seed.contact, info_of (8000));
    act (true);
    assert_int_equal (ups, MEMBERS_MAX - 1);
    assert_int_equal (fulls, 12);
    const struct fm_id gone[] = { node_of (5), node_of (4000) };
    for (size_t i = 0; i < 2; i++) {
        membership_goodbye (m, now_ns, &gone[i]);
        act (true);
    }
    assert_int_equal (downs, 2);
    for (unsigned n = MEMBERS_MAX; n < MEMBERS_MAX + 3; n++)
        comes (n, true);
    assert_int_equal (ups, MEMBERS_MAX - 1 + 2);
    assert_int_equal (refusals, 11);
    now_ns += MS;
    membership_tick (m, now_ns);                /* checks its tables */
    act (true);
}

static void of_those_who_do_not_answer_few_are_asked_at_a_time (void **state)
{
    (void) state;
    membership_tick (m, now_ns);
    for (unsigned n = 1; n < MEMBERS_MAX + 10; n++) {
        membership_gossip (m, now_ns, info_of (n));
        act (false);
    }
    assert_in_range (unanswered_most, 1, SEEKING_CONTACTS_MAX + 1);
    assert_int_equal (ups, 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (a_full_mesh_lets_nobody_in_but_for_one_who_went, set_up, tear_down),
        cmocka_unit_test_setup_teardown (of_those_who_do_not_answer_few_are_asked_at_a_time, set_up, tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
