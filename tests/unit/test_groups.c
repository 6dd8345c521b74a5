/* groups: the thread, on a node without sockets and a log that is written and synced when the test says so: nothing is told before it is durable, what could
 * not be loaded is refused, who is gone is forgotten; and what people ask for. */

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

/* The groups' thread, over a log with one fact. */
static void begin_with_one (struct fake_journal *j)
{
    const struct kit_batch_spec one = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 10 };
    j->fs = fail_fs_new ();
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (kit_append_batch (j->context.log, &one), 1);
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
}

static void nothing_is_told_before_it_is_durable (void **state)
{
    struct fake_journal *j = *state;
    begin_with_one (j);
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

/* Its connection broke before its outcome was confirmed. What it comes back with and is not told of is done for it: so that is durable. */
static void who_comes_back_is_told_that_it_is_done_when_that_is_durable (void **state)
{
    struct fake_journal *j = *state;
    begin_with_one (j);
    join ("g", 2);
    const uint64_t member = sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member;
    const Factmesh__WorkItem *item = sync_until_reply (j, FACTMESH__CONTROL__BODY_WORK)->work->items[0];
    Factmesh__GroupHolding held = FACTMESH__GROUP_HOLDING__INIT, *holding[] = { &held };
    held.offset = item->offset;
    held.token = item->token;
    group_say (member, item->offset, item->token, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
    group_ask (&(struct group_ask) { .from = 'b', .group = slice_of ("g"), .credit = 2, .effect = FACTMESH__EFFECT__EFFECT_ONCE, .holding = holding,
                                     .holding_count = 1 });
    assert_null (fake_reply_within (QUIET_MS));
    const Factmesh__Control *c;
    while ((c = sync_until_reply (j, 0))->body_case != FACTMESH__CONTROL__BODY_GROUP_JOINED)
        ;
    assert_int_equal (c->group_joined->n_holding + c->group_joined->n_refused, 0);
    groups_destroy (&groups);
}

/* Who waits for it does not ask again. */
static void a_confirmation_that_cannot_be_sent_now_is_sent_later (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec one = { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 10 };
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (kit_append_batch (j->context.log, &one), 1);
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    join ("g", 2);
    const uint64_t member = sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member;
    const Factmesh__Work *work = sync_until_reply (j, FACTMESH__CONTROL__BODY_WORK)->work;
    assert_int_equal (work->n_items, 2);
    for (size_t i = 0; i < 2; i++)
        group_say (member, work->items[i]->offset, work->items[i]->token, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
    (void) group_show ();               /* both have been taken */
    assert_null (fake_reply_within (QUIET_MS));
    fake_let_replies (-EAGAIN, 0, 0);
    assert_int_equal (fake_sync (j), 0);
    fake_wait_tries (4);                /* both, twice */
    fake_let_replies (0, 0, 0);
    for (int i = 0; i < 2; i++) {
        const Factmesh__OutcomesConfirm *confirm = fake_wait_reply (FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM)->outcomes_confirm;
        assert_int_equal (confirm->member, member);
        assert_int_equal (confirm->n_refused, 0);
    }
    assert_null (fake_reply_within (QUIET_MS));
    assert_int_equal (group_show ()->unfinished, 0);
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

/* What is in the log will never be durable: whoever waits for it is told. */
static void joins_that_wait_are_refused_when_the_log_becomes_read_only (void **state)
{
    struct fake_journal *j = *state;
    j->fs = fail_fs_new ();
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    join ("g", 2);
    join ("g", 2);
    /* The group's state is written. */
    while (log_write (j->context.log) != 0)
        (void) poll (NULL, 0, 1);
    fail_fs_fail (j->fs, FAIL_SYNC, 1, -EIO);
    assert_int_equal (fake_sync (j), -EIO);
    for (int i = 0; i < 2; i++)
        expect_error (FACTMESH__ERROR_CODE__ERROR_READ_ONLY, "a write or sync failed before its state was durable");
    assert_true (fake_noticed ("GROUP-NOT-STORED group=g"));
}

/* Much lies there: it is read and handed out turn by turn, and no turn waits for a clock or a bell. */
static void what_lies_there_is_handed_out_without_a_pause (void **state)
{
    enum { FACTS = 24 * GROUPS_TURN_RECORDS, A_WHILE_MS = 8000 };
    struct fake_journal *j = *state;
    assert_int_equal (fake_open (j), 0);
    for (uint64_t seq = 1; seq <= FACTS; seq++) {
        const struct kit_batch_spec one = { .stream = 1, .first_seq = seq, .count = 1, .payload_len = 10 };
        (void) kit_append_batch (j->context.log, &one);
    }
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    join ("g", GROUP_CREDIT_MAX);
    group_ask (&(struct group_ask) { .from = 'b', .group = slice_of ("g"), .credit = GROUP_CREDIT_MAX, .effect = FACTMESH__EFFECT__EFFECT_ONCE });
    for (int i = 0; i < 2; i++)
        (void) sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED);
    const uint64_t from = node_now ();
    static bool got[FACTS + 1];
    for (size_t count = 0; count < FACTS;) {
        const Factmesh__Work *work = fake_wait_reply (FACTMESH__CONTROL__BODY_WORK)->work;
        for (size_t i = 0; i < work->n_items; i++, count++) {
            assert_true (work->items[i]->offset <= FACTS && !got[work->items[i]->offset]);
            got[work->items[i]->offset] = true;
        }
    }
    assert_true (node_now () - from < (uint64_t) A_WHILE_MS * FAKE_NS_PER_MS);
    groups_destroy (&groups);
}

/* Nothing more fits before the next write. */
static void fill_buffer (struct fake_journal *j)
{
    struct log_cursor c = { .name = "filler", .updated_ns = 1 };
    static uint8_t bytes[64 << 10];
    uint64_t ticket;
    for (size_t len = sizeof bytes; len > 0; len /= 2) {
        c.cursor = slice (bytes, len);
        while (log_cursor_put (j->context.log, &c, &ticket) == 0)
            ;
    }
    c.cursor = slice ("", 0);
    while (log_cursor_put (j->context.log, &c, &ticket) == 0)
        ;
    assert_int_equal (log_cursor_put (j->context.log, &c, &ticket), FM_ERR_FULL);
}

static void while_the_logs_buffer_is_full_joins_wait_and_deletions_are_refused (void **state)
{
    struct fake_journal *j = *state;
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    /* It was never stored: it goes at once, and whoever waits for it asks again. */
    fill_buffer (j);
    join ("g", 2);
    assert_null (fake_reply_within (QUIET_MS));
    group_act (FACTMESH__GROUP_ACTION__GROUP_DELETE);
    assert_int_equal (fake_wait_reply (FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply->n_groups, 0);
    join ("g", 2);
    assert_null (fake_reply_within (QUIET_MS));
    const uint64_t member = sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member;
    group_go (member);
    (void) group_show ();
    fill_buffer (j);
    group_act (FACTMESH__GROUP_ACTION__GROUP_DELETE);
    expect_error (FACTMESH__ERROR_CODE__ERROR_LIMIT, "");
    assert_int_equal (fake.notice_count, 0);
    assert_int_equal (group_show ()->n_members, 0);
    assert_int_equal (fake_sync (j), 0);
    group_act (FACTMESH__GROUP_ACTION__GROUP_DELETE);
    assert_int_equal (sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply->n_groups, 0);
}

static void a_journal_that_ends_answers_nobody_who_waits_for_the_disk (void **state)
{
    struct fake_journal *j = *state;
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    join ("g", 2);
    group_go (sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member);
    group_act (FACTMESH__GROUP_ACTION__GROUP_DELETE);
    join ("h", 2);
    assert_null (fake_reply_within (QUIET_MS));
    groups_destroy (&groups);
    assert_null (fake_reply_within (0));
}

static void wait_members (size_t count)
{
    const uint64_t until = node_now () + (uint64_t) FAKE_PATIENCE_MS * FAKE_NS_PER_MS;
    size_t now;
    while ((now = group_show ()->n_members) != count) {
        if (node_now () >= until)
            fail_msg ("%zu instances, where %zu were expected", now, count);
        (void) poll (NULL, 0, 10);
    }
}

static void who_says_nothing_for_long_or_is_down_is_forgotten (void **state)
{
    struct fake_journal *j = *state;
    const struct fm_id node = kit_stream (7);
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    uint64_t members[4];
    for (int i = 0; i < 4; i++) {
        group_ask (&(struct group_ask) { .group = slice_of ("g"), .credit = 1, .node = i < 2 ? kit_stream ((unsigned) i + 1) : node });
        members[i] = sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member;
    }
    fake.skipped_ns = (uint64_t) (GROUPS_SILENT_MS - 10000) * FAKE_NS_PER_MS;
    /* The thread looks at the clock once for all that waits: an answer that comes at the end of its round. */
    join ("h", 1);
    (void) sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED);
    /* All but the first say that they are there. */
    for (int i = 1; i < 4; i++) {
        Factmesh__Outcomes m = FACTMESH__OUTCOMES__INIT;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        m.member = members[i];
        control.body_case = FACTMESH__CONTROL__BODY_OUTCOMES;
        control.outcomes = &m;
        assert_int_equal (fake_hand_over ('a', &control), 0);
        assert_int_equal (fake_wait_reply (FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM)->outcomes_confirm->member, members[i]);
    }
    assert_int_equal (group_show ()->n_members, 4);
    fake.skipped_ns = (uint64_t) (GROUPS_SILENT_MS + 10000) * FAKE_NS_PER_MS;
    wait_members (3);
    fake.listener.down (fake.listener.arg, &node, true);
    wait_members (1);
    const struct fm_id second = kit_stream (2);
    assert_true (slice_equal (control_get_slice (&group_show ()->members[0]->node), slice (second.bytes, ID_LEN)));
    group_say (members[0], 1, 1, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
    expect_error (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_MEMBER, "join again");
}

/* --- What people ask for. */

/* Three facts in one batch, and somebody who asks to join, and may have all of them. */
static struct fake_journal *begin_with_three (struct fake_journal *j)
{
    const struct kit_batch_spec three = { .stream = 1, .first_seq = 1, .count = 3, .payload_len = 10 };
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (kit_append_batch (j->context.log, &three), 1);
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    join ("g", 3);
    return j;
}

static void parked_facts_are_told_in_parts (void **state)
{
    struct fake_journal *j = begin_with_three (*state);
    const uint64_t member = sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member;
    const Factmesh__Work *work = sync_until_reply (j, FACTMESH__CONTROL__BODY_WORK)->work;
    assert_int_equal (work->n_items, 3);
    for (size_t i = 0; i < 3; i++) {
        group_say (member, work->items[i]->offset, work->items[i]->token, FACTMESH__OUTCOME_KIND__OUTCOME_PARK);
        (void) sync_until_reply (j, FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM);
    }
    Factmesh__GroupCommand show = FACTMESH__GROUP_COMMAND__INIT;
    show.parked_limit = 2;
    group_command (&show);
    const Factmesh__GroupReply *r = fake_wait_reply (FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply;
    assert_true (r->more);
    assert_int_equal (r->groups[0]->n_parked_facts, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal (r->groups[0]->parked_facts[i]->offset, i + 1);
        assert_int_equal (r->groups[0]->parked_facts[i]->fact->seq, i + 1);
        assert_true (slice_equal (control_get_slice (&r->groups[0]->parked_facts[i]->batch), control_get_slice (&work->items[i]->batch)));
    }
    show.parked_after = 2;
    group_command (&show);
    r = fake_wait_reply (FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply;
    assert_false (r->more);
    assert_int_equal (r->groups[0]->n_parked_facts, 1);
    assert_int_equal (r->groups[0]->parked_facts[0]->offset, 3);
    /* What can't be done is refused as a whole. */
    uint64_t offsets[] = { 1, 7 };
    group_act_on (FACTMESH__GROUP_ACTION__GROUP_DROP_PARKED, offsets, 2);
    expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "offset 7 is not parked in group 'g'");
    group_act (FACTMESH__GROUP_ACTION__GROUP_DROP_PARKED);
    expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "which parked facts are to be dropped?");
    group_act ((Factmesh__GroupAction) 77);
    expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "action 77 is not known here");
    group_act (FACTMESH__GROUP_ACTION__GROUP_DELETE);
    expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "group 'g' has 1 instances; stop them first");
    assert_int_equal (group_show ()->parked, 3);
    group_act_on (FACTMESH__GROUP_ACTION__GROUP_DROP_PARKED, offsets, 1);
    assert_int_equal (sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply->groups[0]->parked, 2);
}

static void a_place_can_be_set_anywhere_and_stays_within_the_log (void **state)
{
    struct fake_journal *j = begin_with_three (*state);
    group_go (sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member);
    static const uint64_t to[][2] = { { 100, 4 }, { 0, 1 }, { 3, 3 }, { UINT64_MAX, 4 } };
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
        Factmesh__GroupCommand seek = FACTMESH__GROUP_COMMAND__INIT;
        seek.action = FACTMESH__GROUP_ACTION__GROUP_SEEK;
        seek.offset = to[i][0];
        group_command (&seek);
        const Factmesh__Control *c;
        do                              /* what was handed out before it went may be told first */
            c = sync_until_reply (j, 0);
        while (c->body_case == FACTMESH__CONTROL__BODY_WORK);
        assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_GROUP_REPLY);
        assert_int_equal (c->group_reply->groups[0]->next_offset, to[i][1]);
    }
}

/* While the log cannot be read to find it, the place stays where it is. */
static void a_place_is_set_to_a_time_or_not_at_all (void **state)
{
    struct fake_journal *j = *state;
    struct kit_clock clock;
    uint64_t times[3];
    kit_clock_init (&clock);
    j->clock = &clock.clock;
    j->fs = fail_fs_new ();
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (groups_new (&j->context, &groups), 0);
    join ("g", 3);
    group_go (sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member);
    for (uint64_t i = 0; i < 3; i++) {
        const struct kit_batch_spec one = { .stream = 1, .first_seq = 1 + i, .count = 1, .payload_len = 10 };
        times[i] = clock.now_ns;
        assert_int_equal (kit_append_batch (j->context.log, &one), 1 + i);
        assert_int_equal (fake_sync (j), 0);
        kit_clock_advance (&clock, UINT64_C (1000000000));
    }
    Factmesh__GroupCommand seek = FACTMESH__GROUP_COMMAND__INIT;
    seek.action = FACTMESH__GROUP_ACTION__GROUP_SEEK;
    for (uint64_t i = 3; i-- > 0;) {
        const uint64_t before = group_show ()->next_offset;
        seek.time_ns = times[i];
        fail_fs_fail (j->fs, FAIL_READ, 1, -ENXIO);
        group_command (&seek);
        expect_error (FACTMESH__ERROR_CODE__ERROR_INTERNAL, "");
        assert_int_equal (group_show ()->next_offset, before);
        group_command (&seek);
        assert_int_equal (sync_until_reply (j, FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply->groups[0]->next_offset, 1 + i);
    }
    groups_destroy (&groups);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (nothing_is_told_before_it_is_durable, set_up, tear_down),
        cmocka_unit_test_setup_teardown (who_comes_back_is_told_that_it_is_done_when_that_is_durable, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_confirmation_that_cannot_be_sent_now_is_sent_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_group_that_could_not_be_loaded_is_refused_and_its_state_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown (joins_that_wait_are_refused_when_the_log_becomes_read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown (what_lies_there_is_handed_out_without_a_pause, set_up, tear_down),
        cmocka_unit_test_setup_teardown (while_the_logs_buffer_is_full_joins_wait_and_deletions_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_journal_that_ends_answers_nobody_who_waits_for_the_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown (who_says_nothing_for_long_or_is_down_is_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown (parked_facts_are_told_in_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_place_can_be_set_anywhere_and_stays_within_the_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_place_is_set_to_a_time_or_not_at_all, set_up, tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
