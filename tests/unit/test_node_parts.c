/* The node's small parts: what is read of a node's info and of a beacon, where a peer's live endpoint is, callbacks that come and go, closed streams. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <sched.h>

#include "beacon.h"
#include "closed_streams.h"
#include "cursor.h"
#include "error.h"
#include "hooks.h"
#include "peer_info.h"

/* ------------------------------------------------------------------ infos */

static const struct fm_id somebody = { .bytes = { 1, 2, 3 } };

static Factmesh__NodeInfo info_with (char **control, size_t n_control, char **live, size_t n_live)
{
    Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
    info.node = control_put_id (&somebody);
    info.control = control;
    info.n_control = n_control;
    info.live = live;
    info.n_live = n_live;
    return info;
}

static void a_name_moves_no_cursor_and_unknown_addresses_are_left_out (void **state)
{
    (void) state;
    char *control[] = { (char *) "quic://of-a-newer-version", (char *) "tcp://10.0.0.1:7000" };
    Factmesh__NodeInfo message = info_with (control, 2, control, 2);
    message.name = control_put_slice (slice_of ("a\033[2Jb\x7f"));
    struct peer_info *info;
    assert_int_equal (peer_info_read (&message, &info), 0);
    assert_string_equal (info->name, "a?[2Jb?");
    assert_int_equal (info->control_count, 1);
    assert_string_equal (info->control[0], "tcp://10.0.0.1:7000");
    assert_int_equal (info->live_count, 1);
    free (info);
}

static void an_info_out_of_its_bounds_is_refused (void **state)
{
    (void) state;
    char *many[ADDRESSES_MAX + 1], long_name[NODE_NAME_MAX + 1];
    memset (long_name, 'n', sizeof long_name);
    for (size_t i = 0; i <= ADDRESSES_MAX; i++)
        many[i] = (char *) "tcp://10.0.0.1:7000";
    struct peer_info *info = NULL;
    Factmesh__NodeInfo bad[5];
    for (size_t i = 0; i < 5; i++)
        bad[i] = info_with (many, 1, many, 1);
    static const struct fm_id nobody;
    bad[0].node.len = ID_LEN - 1;
    bad[1].name = control_put_slice (slice (long_name, sizeof long_name));
    bad[2].n_live = ADDRESSES_MAX + 1;
    bad[3].n_control = ADDRESSES_MAX + 1;
    bad[4].node = control_put_id (&nobody);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal (peer_info_read (&bad[i], &info), FM_ERR_MALFORMED);
        assert_null (info);
    }
}

static void live_is_where_control_answered (void **state)
{
    static const struct {
        const char *live[2], *answered, *wanted;
    } cases[] = {
        { { "tcp://10.0.0.1:7001", "tcp://10.0.0.2:7002" }, "tcp://10.0.0.2:7000", "tcp://10.0.0.2:7002" },
        /* A host that is not in the list: a name, say, that the seed was given by. */
        { { "tcp://10.0.0.1:7001", "tcp://10.0.0.2:7002" }, "tcp://journal.example:7000", "tcp://journal.example:7001" },
        { { "ipc:///run/node.live", "tcp://10.0.0.2:7002" }, "ipc:///run/node", "ipc:///run/node.live" },
        { { "ipc:///run/node.live", NULL }, "tcp://10.0.0.2:7000", "ipc:///run/node.live" },
        { { "tcp://10.0.0.1:7001", NULL }, "ipc:///run/other", "tcp://10.0.0.1:7001" },
        { { NULL, NULL }, "tcp://10.0.0.2:7000", NULL },
    };
    (void) state;
    char *control[] = { (char *) "tcp://10.0.0.2:7000" };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Factmesh__NodeInfo message = info_with (control, 1, (char **) (uintptr_t) cases[i].live, cases[i].live[1] ? 2 : cases[i].live[0] ? 1 : 0);
        struct peer_info *info;
        char live[ADDRESS_TEXT_MAX];
        assert_int_equal (peer_info_read (&message, &info), 0);
        assert_int_equal (peer_info_live (info, cases[i].answered, live), cases[i].wanted != NULL);
        if (cases[i].wanted)
            assert_string_equal (live, cases[i].wanted);
        free (info);
    }
}

static void infos_with_other_addresses_differ (void **state)
{
    (void) state;
    char *one[] = { (char *) "tcp://10.0.0.1:7000", (char *) "tcp://10.0.0.2:7000" }, *other[] = { (char *) "tcp://10.0.0.3:7000" };
    struct peer_info *a, *b;
    const Factmesh__NodeInfo messages[] = { info_with (one, 1, one, 1), info_with (one, 1, one, 2), info_with (one, 1, other, 1), info_with (other, 1, one, 1) };
    assert_int_equal (peer_info_read (&messages[0], &a), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal (peer_info_read (&messages[i], &b), 0);
        assert_int_equal (peer_info_same (a, b), i == 0);
        free (b);
    }
    free (a);
}

/* ------------------------------------------------------------------ beacons */

static int decode (const Factmesh__Beacon *beacon, struct peer_info **ret_info)
{
    static const struct fm_id self = { .bytes = { 9 } };
    uint8_t bytes[256] = "FMSH";
    const size_t len = factmesh__beacon__pack (beacon, bytes + 4);
    return beacon_decode (slice (bytes, 4 + len), "10.0.0.7", slice_of ("air"), &self, ret_info);
}

static void beacons_that_are_not_for_us_are_told_apart (void **state)
{
    (void) state;
    const struct fm_id self = { .bytes = { 9 } };
    Factmesh__Beacon good = FACTMESH__BEACON__INIT;
    good.major = PROTO_MAJOR;
    good.mesh = control_put_slice (slice_of ("air"));
    good.node = control_put_id (&somebody);
    good.control_port = 7400;
    struct peer_info *info = NULL;
    assert_int_equal (decode (&good, &info), 0);
    assert_string_equal (info->control[0], "tcp://10.0.0.7:7400");
    assert_true (id_equal (&info->node, &somebody));
    free (info);
    info = NULL;
    Factmesh__Beacon newer = good, foreign = good, short_id = good, our_own = good, no_port = good;
    newer.major++;
    foreign.mesh = control_put_slice (slice_of ("water"));
    short_id.node.len--;
    our_own.node = control_put_id (&self);
    no_port.control_port = 65536;
    assert_int_equal (decode (&newer, &info), FM_ERR_VERSION);
    assert_int_equal (decode (&foreign, &info), FM_ERR_MESH);
    assert_int_equal (decode (&short_id, &info), FM_ERR_MALFORMED);
    assert_int_equal (decode (&our_own, &info), FM_ERR_MALFORMED);
    assert_int_equal (decode (&no_port, &info), FM_ERR_MALFORMED);
    const char *garbage[] = { "", "fact", "another program's datagram" };
    for (size_t i = 0; i < 3; i++)
        assert_int_equal (beacon_decode (slice_of (garbage[i]), "10.0.0.7", slice_of ("air"), &self, &info), FM_ERR_MALFORMED);
    assert_int_equal (beacon_decode (slice_of ("FMSH\x0a"), "10.0.0.7", slice_of ("air"), &self, &info), FM_ERR_MALFORMED);
    assert_null (info);
}

/* ------------------------------------------------------------------ hooks */

/* A callback that takes itself out is not touched any more when its call ends, and is not called again. */
static void a_hook_may_remove_itself_within_its_call (void **state)
{
    (void) state;
    struct hook_list list;
    int first, second;
    hooks_init (&list);
    assert_non_null (hooks_add (&list, &(struct hook) { .arg = &first }, false));
    assert_non_null (hooks_add (&list, &(struct hook) { .arg = &second }, false));
    uint64_t order = 0;
    struct hook *h = hooks_begin (&list, &order);
    assert_ptr_equal (h->arg, &first);
    hooks_remove (&list, &first);               /* returns, though it is being called */
    hooks_end (&list, h);
    h = hooks_begin (&list, &order);
    assert_ptr_equal (h->arg, &second);
    hooks_end (&list, h);
    order = 0;
    h = hooks_begin (&list, &order);
    assert_ptr_equal (h->arg, &second);
    hooks_end (&list, h);
    hooks_release (&list);
}

struct removal {
    struct hook_list *list;
    void *arg;
    bool begun, done;
};

static void *remove_hook (void *arg)
{
    struct removal *r = arg;
    __atomic_store_n (&r->begun, true, __ATOMIC_SEQ_CST);
    hooks_remove (r->list, r->arg);
    __atomic_store_n (&r->done, true, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Nothing that the hooks handed out goes while somebody has pinned the list. */
static void who_removes_a_hook_waits_for_its_call_and_for_a_pin (void **state)
{
    (void) state;
    for (int pinned = 0; pinned < 2; pinned++) {
        struct hook_list list;
        int arg;
        pthread_t thread;
        uint64_t order = 0;
        struct removal r = { .list = &list, .arg = &arg };
        hooks_init (&list);
        assert_non_null (hooks_add (&list, &(struct hook) { .arg = &arg }, false));
        struct hook *h = pinned ? NULL : hooks_begin (&list, &order);
        if (pinned)
            hooks_pin (&list);
        assert_int_equal (pthread_create (&thread, NULL, remove_hook, &r), 0);
        while (!__atomic_load_n (&r.begun, __ATOMIC_SEQ_CST))
            sched_yield ();
        /* It is out of the list before it waits. */
        for (bool there = true; there;) {
            (void) pthread_mutex_lock (&list.lock);
            there = list.first != NULL;
            (void) pthread_mutex_unlock (&list.lock);
        }
        assert_false (__atomic_load_n (&r.done, __ATOMIC_SEQ_CST));
        if (pinned)
            hooks_unpin (&list);
        else
            hooks_end (&list, h);
        assert_int_equal (pthread_join (thread, NULL), 0);
        assert_true (r.done);
        hooks_release (&list);
    }
}

/* ------------------------------------------------------------------ closed streams, cursors */

static void of_too_many_closed_streams_the_oldest_is_forgotten (void **state)
{
    (void) state;
    static struct closed_streams closed;
    static Factmesh__StreamHead heads[CLOSED_STREAMS_MAX + 1];
    closed_streams_init (&closed);
    for (uint64_t i = 1; i <= CLOSED_STREAMS_MAX + 3; i++)
        closed_streams_add (&closed, &(struct closed_stream) { .stream = { .bytes = { 1, (uint8_t) i, (uint8_t) (i >> 8) } }, .epoch = 1, .next_seq = i });
    assert_int_equal (closed_streams_list (&closed, heads, CLOSED_STREAMS_MAX + 1), CLOSED_STREAMS_MAX);
    bool seen[CLOSED_STREAMS_MAX + 4] = { false };
    for (size_t i = 0; i < CLOSED_STREAMS_MAX; i++)
        seen[heads[i].next_seq] = true;
    for (uint64_t i = 1; i <= CLOSED_STREAMS_MAX + 3; i++)
        assert_int_equal (seen[i], i > 3);
    closed_streams_release (&closed);
}

static void a_cursor_of_too_many_bytes_is_refused_unread (void **state)
{
    (void) state;
    struct cursor c = { .offset = 42 };
    assert_int_equal (cursor_decode (&c, slice ("", SIZE_MAX / 2)), FM_ERR_TOO_LARGE);
    assert_int_equal (c.offset, 42);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_name_moves_no_cursor_and_unknown_addresses_are_left_out),
        cmocka_unit_test (an_info_out_of_its_bounds_is_refused),
        cmocka_unit_test (live_is_where_control_answered),
        cmocka_unit_test (infos_with_other_addresses_differ),
        cmocka_unit_test (beacons_that_are_not_for_us_are_told_apart),
        cmocka_unit_test (a_hook_may_remove_itself_within_its_call),
        cmocka_unit_test (who_removes_a_hook_waits_for_its_call_and_for_a_pin),
        cmocka_unit_test (of_too_many_closed_streams_the_oldest_is_forgotten),
        cmocka_unit_test (a_cursor_of_too_many_bytes_is_refused_unread),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
