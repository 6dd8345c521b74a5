/* membership: answers that come too late, from somebody else, about nobody, or that refuse us; one machine, told by hand. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "error.h"
#include "membership.h"

#define MS UINT64_C (1000000)
enum { PEER_ADDRESSES_MAX = 6, CONNECTS_MAX = 64, STAGGER = 250, TOMBSTONE = 30000 };

static struct membership *m;
static uint64_t now_ns;

/* What it wanted since the last look. */
static struct {
    struct {
        uint32_t contact;
        char address[64];
    } connects[CONNECTS_MAX];
    size_t connect_count;
    unsigned kinds[16], said[16], notices[16];
    uint32_t closed;                    /* the last */
    size_t count;
} wanted;

static struct fm_id node_of (unsigned n)
{
    return (struct fm_id) { .bytes = { 1, (uint8_t) (n >> 8), (uint8_t) n } };
}

/* Of node n, at port 7000 and as many more as there are addresses, `skip` first ones left out. */
static struct peer_info *info_at (unsigned n, unsigned skip, unsigned addresses, uint64_t version)
{
    const struct fm_id id = node_of (n);
    char text[PEER_ADDRESSES_MAX][40], *pointers[PEER_ADDRESSES_MAX];
    for (unsigned i = 0; i < addresses; i++) {
        (void) snprintf (text[i], sizeof text[i], "tcp://10.0.0.%u:%u", n, 7000 + skip + i);
        pointers[i] = text[i];
    }
    Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
    info.node = control_put_id (&id);
    info.control = info.live = pointers;
    info.n_control = info.n_live = addresses;
    info.info_version = version;
    struct peer_info *ret = NULL;
    assert_int_equal (peer_info_read (&info, &ret), 0);
    return ret;
}

static struct peer_info *info_of (unsigned n)
{
    return info_at (n, 0, 1, 1);
}

static void look (void)
{
    struct membership_action a;
    memset (&wanted, 0, sizeof wanted);
    for (; membership_take (m, &a); wanted.count++) {
        wanted.kinds[a.kind]++;
        if (a.kind == MEMBERSHIP_SEND)
            wanted.said[a.message]++;
        if (a.kind == MEMBERSHIP_NOTICE)
            wanted.notices[a.notice]++;
        if (a.kind == MEMBERSHIP_CLOSE)
            wanted.closed = a.contact;
        if (a.kind != MEMBERSHIP_CONNECT || !a.address)
            continue;
        assert_true (wanted.connect_count < CONNECTS_MAX);
        wanted.connects[wanted.connect_count].contact = a.contact;
        (void) snprintf (wanted.connects[wanted.connect_count++].address, sizeof wanted.connects[0].address, "%s", a.address);
    }
    membership_check (m);
}

static void pass (unsigned ms)
{
    now_ns += ms * MS;
    membership_tick (m, now_ns);
    look ();
}

static int set_up (void **state)
{
    (void) state;
    const struct membership_options options = { .self = info_of (0), .ping_ms = 100000, .dead_ms = 400000 };
    now_ns = 1000000 * MS;
    return membership_new (&options, &m);
}

static int tear_down (void **state)
{
    (void) state;
    membership_destroy (&m);
    return 0;
}

/* Somebody tells of it; it is asked. Returns the contact. */
static uint32_t hear_of (unsigned n)
{
    membership_gossip (m, now_ns, info_of (n));
    look ();
    assert_int_equal (wanted.connect_count, 1);
    return wanted.connects[0].contact;
}

static uint32_t add_member (unsigned n)
{
    const uint32_t contact = hear_of (n);
    membership_welcome (m, now_ns, contact, info_of (n));
    look ();
    assert_int_equal (wanted.kinds[MEMBERSHIP_UP], 1);
    return contact;
}

static bool is_member (unsigned n)
{
    struct membership_member found;
    const struct fm_id id = node_of (n);
    return membership_find (m, &id, &found);
}

/* ------------------------------------------------------------------ cases */

static void what_comes_of_a_closed_contact_changes_nothing (void **state)
{
    (void) state;
    const struct fm_id one = node_of (1);
    const uint32_t contact = add_member (1);
    membership_goodbye (m, now_ns, &one);
    look ();
    assert_int_equal (wanted.kinds[MEMBERSHIP_DOWN], 1);
    assert_int_equal (wanted.closed, contact);
    const uint64_t digest = membership_digest (m), due_ns = membership_due (m);
    const uint32_t numbers[] = { contact, 0, 12345 };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        membership_writable (m, now_ns, numbers[i], true);
        membership_unopened (m, now_ns, numbers[i]);
        membership_welcome (m, now_ns, numbers[i], info_of (2));
        membership_pong (m, now_ns, numbers[i], &one, 7);
        membership_unknown_node (m, now_ns, numbers[i]);
        membership_refused (m, now_ns, numbers[i], FM_ERR_MESH);
        membership_sign_of_life (m, now_ns, numbers[i]);
    }
    look ();
    assert_int_equal (wanted.count, 0);
    assert_int_equal (membership_count (m), 1);
    assert_int_equal (membership_digest (m), digest);
    assert_int_equal (membership_due (m), due_ns);
}

static void our_own_ping_and_a_pong_of_one_who_is_no_member_change_nothing (void **state)
{
    (void) state;
    const struct fm_id self = node_of (0), one = node_of (1);
    const uint32_t contact = hear_of (1);
    membership_ping (m, now_ns, &self, 0, 99);
    membership_pong (m, now_ns, contact, &one, 7);
    look ();
    assert_int_equal (wanted.count, 0);
    assert_false (is_member (1));
}

/* That can't be, save that somebody plays with packets: its silence will tell. */
static void a_member_that_answers_as_ourselves_stays_until_it_is_silent (void **state)
{
    (void) state;
    const uint32_t contact = add_member (1);
    membership_welcome (m, now_ns, contact, info_of (0));
    look ();
    assert_int_equal (wanted.count, 0);
    assert_true (is_member (1));
}

static void a_member_whose_address_refuses_us_has_been_replaced (void **state)
{
    (void) state;
    const uint32_t contact = add_member (1);
    membership_refused (m, now_ns, contact, FM_ERR_MESH);
    look ();
    assert_int_equal (wanted.kinds[MEMBERSHIP_DOWN], 1);
    assert_int_equal (wanted.notices[NOTICE_REPLACED], 1);
    assert_int_equal (wanted.closed, contact);
    assert_false (is_member (1));
}

/* Another one answered to a ping: it is asked who it is, and not for ever. */
static void who_does_not_say_who_it_is_is_not_waited_for (void **state)
{
    (void) state;
    const struct fm_id other = node_of (2);
    const uint32_t contact = add_member (1);
    membership_pong (m, now_ns, contact, &other, 7);
    look ();
    assert_int_equal (wanted.notices[NOTICE_REPLACED], 1);
    assert_int_equal (wanted.said[SAY_HELLO], 1);
    for (unsigned i = 0; i < 900 && wanted.closed != contact; i++)
        pass (1000);
    assert_int_equal (wanted.closed, contact);
}

static void addresses_are_asked_beside_each_other_and_the_oldest_gives_way (void **state)
{
    (void) state;
    membership_gossip (m, now_ns, info_at (1, 0, 6, 1));
    look ();
    assert_string_equal (wanted.connects[0].address, "tcp://10.0.0.1:7000");
    const uint32_t first = wanted.connects[0].contact;
    for (unsigned i = 1; i < 4; i++) {
        pass (STAGGER);
        char address[40];
        (void) snprintf (address, sizeof address, "tcp://10.0.0.1:%u", 7000 + i);
        assert_int_equal (wanted.connect_count, 1);
        assert_string_equal (wanted.connects[0].address, address);
        assert_int_equal (wanted.kinds[MEMBERSHIP_CLOSE], 0);
    }
    pass (STAGGER);
    assert_string_equal (wanted.connects[0].address, "tcp://10.0.0.1:7004");
    assert_int_equal (wanted.closed, first);
}

static void of_several_addresses_the_one_that_answers_stays (void **state)
{
    struct membership_member member;
    const struct fm_id one = node_of (1);
    uint32_t contacts[3];
    (void) state;
    membership_gossip (m, now_ns, info_at (1, 0, 3, 1));
    for (unsigned i = 0; i < 3; i++) {
        if (i == 0)
            look ();
        else
            pass (STAGGER);
        assert_int_equal (wanted.connect_count, 1);
        contacts[i] = wanted.connects[0].contact;
    }
    membership_welcome (m, now_ns, contacts[1], info_at (1, 0, 3, 1));
    look ();
    assert_int_equal (wanted.kinds[MEMBERSHIP_CLOSE], 2);       /* the others, the newest first */
    assert_int_equal (wanted.closed, contacts[0]);
    assert_true (membership_find (m, &one, &member));
    assert_int_equal (member.contact, contacts[1]);
    assert_string_equal (member.address, "tcp://10.0.0.1:7001");
}

/* While it is asked somebody tells of a newer list, which names the address that is being asked once more. */
static void an_address_is_not_asked_twice_at_a_time (void **state)
{
    (void) state;
    membership_gossip (m, now_ns, info_at (1, 1, 1, 1));
    look ();
    assert_string_equal (wanted.connects[0].address, "tcp://10.0.0.1:7001");
    membership_gossip (m, now_ns, info_at (1, 0, 3, 2));
    pass (STAGGER);
    assert_int_equal (wanted.connect_count, 0);
    pass (STAGGER);
    assert_int_equal (wanted.connect_count, 1);
    assert_string_equal (wanted.connects[0].address, "tcp://10.0.0.1:7002");
}

static void a_beacon_brings_the_dead_back_and_hearsay_does_not (void **state)
{
    (void) state;
    const uint32_t contact = add_member (1);
    membership_refused (m, now_ns, contact, FM_ERR_MESH);       /* dead, without a goodbye */
    look ();
    membership_gossip (m, now_ns, info_of (1));
    look ();
    assert_int_equal (wanted.connect_count, 0);
    membership_beacon (m, now_ns, info_of (1));
    look ();
    assert_int_equal (wanted.connect_count, 1);
    membership_welcome (m, now_ns, wanted.connects[0].contact, info_of (1));
    look ();
    assert_true (is_member (1));
    /* Who said goodbye: its beacon may have been under way, for as long as a tombstone stands. */
    const struct fm_id one = node_of (1);
    membership_goodbye (m, now_ns, &one);
    membership_beacon (m, now_ns, info_of (1));
    look ();
    assert_int_equal (wanted.connect_count, 0);
    pass (TOMBSTONE);
    membership_beacon (m, now_ns, info_of (1));
    look ();
    assert_int_equal (wanted.connect_count, 1);
    membership_beacon (m, now_ns, info_of (1));                 /* it is being asked */
    membership_beacon (m, now_ns, info_of (2));                 /* a new one */
    look ();
    assert_int_equal (wanted.connect_count, 1);
    assert_string_equal (wanted.connects[0].address, "tcp://10.0.0.2:7000");
}

/* It went over another connection, and was overtaken there by a newer one. */
static void what_a_node_said_of_itself_before_is_not_taken_back (void **state)
{
    struct membership_member member;
    const struct fm_id one = node_of (1);
    (void) state;
    (void) add_member (1);
    membership_hello (m, now_ns, info_at (1, 0, 2, 3));
    look ();
    assert_int_equal (wanted.kinds[MEMBERSHIP_CHANGED], 1);
    membership_hello (m, now_ns, info_at (1, 0, 1, 2));
    look ();
    assert_int_equal (wanted.kinds[MEMBERSHIP_CHANGED], 0);
    assert_int_equal (wanted.said[SAY_WELCOME], 1);
    assert_true (membership_find (m, &one, &member));
    assert_int_equal (member.info->version, 3);
}

static void seeds_are_as_many_as_there_is_room_for (void **state)
{
    (void) state;
    char address[40];
    for (unsigned i = 0; i < SEEDS_MAX; i++) {
        (void) snprintf (address, sizeof address, "tcp://10.0.1.%u:7000", i);
        assert_int_equal (membership_add_seed (m, address), 0);
    }
    assert_int_equal (membership_add_seed (m, "tcp://10.0.2.1:7000"), FM_ERR_LIMIT);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (what_comes_of_a_closed_contact_changes_nothing),
        CASE (our_own_ping_and_a_pong_of_one_who_is_no_member_change_nothing),
        CASE (a_member_that_answers_as_ourselves_stays_until_it_is_silent),
        CASE (a_member_whose_address_refuses_us_has_been_replaced),
        CASE (who_does_not_say_who_it_is_is_not_waited_for),
        CASE (addresses_are_asked_beside_each_other_and_the_oldest_gives_way),
        CASE (of_several_addresses_the_one_that_answers_stays),
        CASE (an_address_is_not_asked_twice_at_a_time),
        CASE (a_beacon_brings_the_dead_back_and_hearsay_does_not),
        CASE (what_a_node_said_of_itself_before_is_not_taken_back),
        CASE (seeds_are_as_many_as_there_is_room_for),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
