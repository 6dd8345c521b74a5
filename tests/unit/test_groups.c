/* groups: the thread, on a node without sockets and a log that is written and synced when the test says so: nothing is told before it is durable, and what could
 * not be loaded is refused. */

#include "fake_journal.h"

#include "factmesh.pb-c.h"
#include "groups.h"

static struct groups *groups;

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
    Factmesh__GroupConfig config = FACTMESH__GROUP_CONFIG__INIT;
    config.effect = FACTMESH__EFFECT__EFFECT_ONCE;
    Factmesh__GroupJoin m = FACTMESH__GROUP_JOIN__INIT;
    m.group = control_put_slice (slice_of (group));
    m.credit = credit;
    m.config = &config;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_JOIN;
    control.group_join = &m;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

static void say_done (uint64_t member, const Factmesh__WorkItem *item, uint64_t token)
{
    Factmesh__Outcome outcome = FACTMESH__OUTCOME__INIT, *outcomes[] = { &outcome };
    outcome.offset = item->offset;
    outcome.token = token;
    outcome.kind = FACTMESH__OUTCOME_KIND__OUTCOME_DONE;
    Factmesh__Outcomes m = FACTMESH__OUTCOMES__INIT;
    m.member = member;
    m.n_outcomes = 1;
    m.outcomes = outcomes;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_OUTCOMES;
    control.outcomes = &m;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

/* Whoever waits for the disk is told when it has it: sync until the next answer comes. */
static const Factmesh__Control *sync_until_reply (struct fake_journal *j, Factmesh__Control__BodyCase kind)
{
    const uint64_t until = node_now () + (uint64_t) FAKE_PATIENCE_MS * FAKE_NS_PER_MS;
    const Factmesh__Control *c;
    do {
        assert_int_equal (fake_sync (j), 0);
        c = fake_reply_within (5);
    } while (!c && node_now () < until);
    assert_non_null (c);
    assert_int_equal (c->body_case, kind);
    return c;
}

enum { QUIET_MS = 100 };

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
    say_done (member, item, item->token + 1);
    assert_null (fake_reply_within (QUIET_MS));
    const Factmesh__OutcomesConfirm *confirm = sync_until_reply (j, FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM)->outcomes_confirm;
    assert_int_equal (confirm->n_refused, 1);
    assert_int_equal (confirm->refused[0], item->token + 1);
    say_done (member, item, item->token);
    assert_null (fake_reply_within (QUIET_MS));
    /* The sync fails: what it should have made durable is never confirmed. */
    fail_fs_fail (j->fs, FAIL_SYNC, 1, -EIO);
    assert_int_equal (fake_sync (j), -EIO);
    fake_wait_notice ("GROUP-NOT-STORED group=g");
    say_done (member, item, item->token);
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
