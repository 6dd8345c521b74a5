/* one_worker: a worker of a group that follows a script (scripted_group.h), as a test drives it. */

#ifndef FM_TESTS_ONE_WORKER_H
#define FM_TESTS_ONE_WORKER_H

#include "scripted_group.h"

#include "worker_inner.h"

static struct fm_worker *worker;

static int set_up (void **state)
{
    memset (&group, 0, sizeof group);
    group.lease_ms = GROUP_LEASE_TEST_MS;
    return script_set_up (state);
}

static int tear_down (void **state)
{
    script.interruptions = 1000;            /* the close need not wait: a case that failed may have left a worker that spins */
    fm_worker_close (&worker);
    return script_tear_down (state);
}

static inline int open_worker (int timeout_ms)
{
    const struct fm_worker_options options = { .group = "g", .effect = FM_IDEMPOTENT, .open_timeout_ms = timeout_ms };
    return fm_worker_open (&script, &options, &worker);
}

/* A worker that has joined. */
static inline void join (void)
{
    group.journal = script_journal (group_answers);
    assert_done (open_worker (0));
}

static inline void take (uint64_t token, struct fm_work *ret_work)
{
    assert_done (fm_worker_next (worker, 0, ret_work));
    assert_int_equal (ret_work->token, token);
    assert_int_equal (ret_work->offset, GROUP_OFFSET + token);
}

/* Joined, with the facts [first, end) handed out, and the first of them taken. */
static inline void join_and_take (uint64_t first, uint64_t end, struct fm_work *ret_work)
{
    join ();
    group_hand_out_tokens (first, end);
    take (first, ret_work);
}

static inline void expect_nothing (int timeout_ms)
{
    struct fm_work work;
    assert_int_equal (fm_worker_next (worker, timeout_ms, &work), FM_TIMEOUT);
}

static inline size_t joins (void)
{
    return script_asked (group.journal, FACTMESH__CONTROL__BODY_GROUP_JOIN);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

#endif
