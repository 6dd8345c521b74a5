/* groups: the thread, on a node without sockets and a log that is written and synced when the test says so: nothing is told before it is durable, and what could
 * not be loaded is refused. */

#include "fake_group.h"

static int set_up (void **state)
{
    struct fake_journal *j = calloc (1, sizeof *j);
    assert_non_null (j);
    fake_begin (j);
    *state = j;
    return 0;
}

static int tear_down (void **state)
{
    groups_destroy (&groups);
    fake_end (*state);
    free (*state);
    return 0;
}

static void join (const char *group, uint32_t credit)
{
    group_ask (&(struct group_ask) { .group = slice_of (group), .credit = credit, .effect = FACTMESH__EFFECT__EFFECT_ONCE });
}

static void nothing_is_told_before_it_is_durable (void **state)
{
    struct fake_journal *j = *state;
    j->fs = fail_fs_new ();
    assert_int_equal (fake_open (j), 0);
    const struct kit_batch_spec one = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 10 };
    assert_int_equal (kit_append_batch (j->context.log, &one), 1);
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    join ("g", 2);
    assert_null (fake_reply_within (QUIET_MS));         /* the group is not durable yet */
    const uint64_t member = sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member;
    const Factmesh__Work *work = sync_until_reply (j, FACTMESH__CONTROL__BODY_WORK)->work;
    assert_int_equal (work->member, member);
    assert_int_equal (work->n_items, 1);
    assert_int_equal (work->items[0]->offset, 1);
    assert_int_equal (work->items[0]->deliveries, 1);
    const Factmesh__WorkItem *item = work->items[0];
    /* An outcome under another token is refused, one under its own counts; both are told when that is on disk. */
    group_say (member, item->offset, item->token + 1, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
    assert_null (fake_reply_within (QUIET_MS));
    const Factmesh__OutcomesConfirm *confirm = sync_until_reply (j, FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM)->outcomes_confirm;
    assert_int_equal (confirm->n_refused, 1);
    assert_int_equal (confirm->refused[0], item->token + 1);
    group_say (member, item->offset, item->token, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
    assert_null (fake_reply_within (QUIET_MS));
    /* The sync fails: what it should have made durable is never confirmed. */
    fail_fs_fail (j->fs, FAIL_SYNC, 1, -EIO);
    assert_int_equal (fake_sync (j), -EIO);
    fake_wait_notice ("GROUP-NOT-STORED group=g");
    group_say (member, item->offset, item->token, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
    assert_null (fake_reply_within (QUIET_MS));
    join ("h", 2);
    assert_int_equal (fake_wait_reply (FACTMESH__CONTROL__BODY_ERROR)->error->code, FACTMESH__ERROR_CODE__ERROR_READ_ONLY);
    groups_destroy (&groups);
}

static void a_group_that_could_not_be_loaded_is_refused_and_its_state_kept (void **state)
{
    struct fake_journal *j = *state;
    struct log_cursor c = { .name = "\x01gg", .updated_ns = 1 }, kept;
    Factmesh__GroupState newer = FACTMESH__GROUP_STATE__INIT;
    uint8_t bytes[64];
    uint64_t ticket;
    newer.major = PROTO_MAJOR + 1;
    newer.next_offset = 1;
    c.cursor = slice (bytes, factmesh__group_state__pack (&newer, bytes));
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (log_cursor_put (j->context.log, &c, &ticket), 0);
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    fake_wait_notice ("GROUP-NOT-LOADED group=g");
    for (int i = 0; i < 2; i++) {
        join ("g", 2);
        const Factmesh__Error *e = fake_wait_reply (FACTMESH__CONTROL__BODY_ERROR)->error;
        assert_non_null (memmem (e->text.data, e->text.len, "GROUP-NOT-LOADED", 16));
    }
    join ("other", 2);
    (void) sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED);
    groups_destroy (&groups);
    void *buffer = NULL;
    size_t size = 0;
    assert_int_equal (log_cursor_get (j->context.log, c.name, &buffer, &size, &kept), 0);
    assert_true (slice_equal (kept.cursor, c.cursor));
    free (buffer);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (nothing_is_told_before_it_is_durable, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_group_that_could_not_be_loaded_is_refused_and_its_state_kept, set_up, tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
