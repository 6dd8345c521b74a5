/* groups_join, with the groups' thread around it: what a group can't be is refused with words, a new one begins where it is told to, bounds hold, and topics
 * that change give what was left out, and nothing twice. */

#include "fake_group.h"

#include "group_state.h"

enum { WORK_MAX = 64 };
static const uint64_t SECOND = 1000000000;

struct setting {
    struct fake_journal j;
    struct kit_clock clock;
    uint64_t next_seq;                  /* of the one stream, whose batches have one fact unless said otherwise */
};

static int set_up (void **state)
{
    struct setting *s = calloc (1, sizeof *s);
    assert_non_null (s);
    fake_begin (&s->j);
    kit_clock_init (&s->clock);
    s->j.clock = &s->clock.clock;
    s->next_seq = 1;
    assert_int_equal (fake_open (&s->j), 0);
    assert_int_equal (groups_new (&s->j.context, &groups), 0);
    *state = s;
    return 0;
}

static int tear_down (void **state)
{
    struct setting *s = *state;
    groups_destroy (&groups);
    fake_end (&s->j);
    free (s);
    return 0;
}

/* A fact each of these topics, a second apart. */
static void append (struct setting *s, const char *topics)
{
    for (const char *t = topics; *t;) {
        char topic[32];
        const size_t len = strcspn (t, "|");
        (void) snprintf (topic, sizeof topic, "%.*s", (int) len, t);
        const struct kit_batch_spec spec = { .stream = 1, .first_seq = s->next_seq++, .count = 1, .payload_len = 10, .topic = topic };
        (void) kit_append_batch (s->j.context.log, &spec);
        kit_clock_advance (&s->clock, SECOND);
        t += len + (t[len] == '|');
    }
    assert_int_equal (fake_sync (&s->j), 0);
}

static uint64_t joined (struct setting *s)
{
    return sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->member;
}

struct work {
    uint64_t offset;
    uint32_t flags;
};
enum { LATE = FACTMESH__WORK_FLAG__WORK_OUT_OF_ORDER, CORRECTION = FACTMESH__WORK_FLAG__WORK_CORRECTION };

/* The group's work is this and nothing else; it is done then. */
static void work_is (struct setting *s, uint64_t member, size_t count, const struct work *work)
{
    const Factmesh__WorkItem *items[WORK_MAX];
    size_t n = 0;
    while (n < count) {
        const Factmesh__Work *w = sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_WORK)->work;
        assert_int_equal (w->member, member);
        for (size_t i = 0; i < w->n_items; i++) {
            assert_true (n < count);
            items[n++] = w->items[i];
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (items[i]->offset != work[i].offset || items[i]->flags != work[i].flags)
            fail_msg ("work %zu is offset %llu with flags %u, where %llu with %u was expected", i, (unsigned long long) items[i]->offset, items[i]->flags,
                      (unsigned long long) work[i].offset, work[i].flags);
        group_say (member, items[i]->offset, items[i]->token, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
        assert_int_equal (sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM)->outcomes_confirm->n_refused, 0);
    }
    struct log_position at;
    log_position (s->j.context.log, &at);
    const Factmesh__GroupInfo *g;
    do
        g = group_show ();
    while (g->behind);
    assert_int_equal (g->unfinished, 0);
    assert_int_equal (g->next_offset, at.synced_offset);
}

/* --- What is refused. */

static const struct fm_slice long_name = { .data = "0123456789012345678901234567890123456789012345678901234567890123", .len = 64 };

static void what_a_group_cannot_be_is_refused_with_words (void **state)
{
    (void) state;
    static char many[3 * (FILTERS_MAX + 1)];
    Factmesh__GroupHolding one = FACTMESH__GROUP_HOLDING__INIT;
    static Factmesh__GroupHolding *holding[GROUP_CREDIT_MAX + 1];
    for (size_t i = 0; i <= FILTERS_MAX; i++)
        memcpy (many + 2 * i, "a|", 3);
    for (size_t i = 0; i <= GROUP_CREDIT_MAX; i++)
        holding[i] = &one;
    const struct {
        struct group_ask ask;
        Factmesh__ErrorCode code;
        const char *words;
    } cases[] = {
        { { .group = slice ("", 0) }, FACTMESH__ERROR_CODE__ERROR_RANGE, "has 1 to 63 bytes, not 0" },
        { { .group = long_name }, FACTMESH__ERROR_CODE__ERROR_RANGE, "has 1 to 63 bytes, not 64" },
        { { .group = slice ("a\nb", 3) }, FACTMESH__ERROR_CODE__ERROR_RANGE, "a control byte at 1" },
        { { .group = slice ("ab\x7f", 3) }, FACTMESH__ERROR_CODE__ERROR_RANGE, "a control byte at 2" },
        { { .group = slice_of ("g"), .effect = (Factmesh__Effect) 5 }, FACTMESH__ERROR_CODE__ERROR_RANGE, "effect 5 is not known here" },
        { { .group = slice_of ("g"), .lease_ms = 99 }, FACTMESH__ERROR_CODE__ERROR_RANGE, "a lease of 99 ms; from 100 to 86400000" },
        { { .group = slice_of ("g"), .lease_ms = 86400001 }, FACTMESH__ERROR_CODE__ERROR_RANGE, "a lease of 86400001 ms" },
        { { .group = slice_of ("g"), .topics = many }, FACTMESH__ERROR_CODE__ERROR_LIMIT, "65 topic patterns; at most 64" },
        { { .group = slice_of ("g"), .topics = "a..b" }, FACTMESH__ERROR_CODE__ERROR_MALFORMED, "a..b" },
        { { .group = slice_of ("g"), .holding = holding, .holding_count = GROUP_CREDIT_MAX + 1 }, FACTMESH__ERROR_CODE__ERROR_LIMIT, "at most 4096 facts" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        group_ask (&cases[i].ask);
        expect_error (cases[i].code, cases[i].words);
    }
    group_act (FACTMESH__GROUP_ACTION__GROUP_SHOW);
    expect_error (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_GROUP, "no group 'g'");
}

static void an_instance_that_declares_otherwise_is_refused (void **state)
{
    struct setting *s = *state;
    const struct group_ask first = { .group = slice_of ("g"), .topics = "a.>|b.*", .effect = FACTMESH__EFFECT__EFFECT_ONCE, .credit = 1 };
    struct group_ask other = first;
    group_ask (&first);
    (void) joined (s);
    other.effect = FACTMESH__EFFECT__EFFECT_IDEMPOTENT;
    group_ask (&other);
    expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "group 'g' is once, and this instance idempotent");
    other = first;
    const char *const topics[] = { "a.>", "b.*|a.>|c", "c|d" };
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        other.topics = topics[i];
        group_ask (&other);
        expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "group 'g' has other topics");
    }
    /* The same ones in another order, or none said. */
    other.topics = "b.*|a.>";
    group_ask (&other);
    (void) joined (s);
    other.topics = NULL;
    group_ask (&other);
    const Factmesh__GroupConfig *config = sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined->config;
    assert_int_equal (config->n_filters, 2);
    assert_true (slice_equal (control_get_slice (&config->filters[0]), slice_of ("a.>")));
}

/* It comes again, after the connection broke: what it held is its own still, or somebody else's meanwhile, or done. */
static void of_what_an_instance_held_it_is_told_what_it_holds_no_more (void **state)
{
    struct setting *s = *state;
    Factmesh__GroupHolding held[3], *holding[3];
    append (s, "a|a|a");
    group_ask (&(struct group_ask) { .group = slice_of ("g"), .credit = 3 });
    const uint64_t member = joined (s);
    for (size_t n = 0; n < 3;) {
        const Factmesh__Work *w = sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_WORK)->work;
        for (size_t i = 0; i < w->n_items; i++, n++) {
            assert_true (n < 3);
            factmesh__group_holding__init (&held[n]);
            held[n].offset = w->items[i]->offset;
            held[n].token = w->items[i]->token;
            holding[n] = &held[n];
        }
    }
    group_say (member, held[0].offset, held[0].token, FACTMESH__OUTCOME_KIND__OUTCOME_DONE);
    (void) sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM);
    group_say (member, held[1].offset, held[1].token, FACTMESH__OUTCOME_KIND__OUTCOME_RELEASE);
    group_ask (&(struct group_ask) { .group = slice_of ("g"), .credit = 3, .holding = holding, .holding_count = 3 });
    const Factmesh__Control *c;
    while ((c = sync_until_reply (&s->j, 0))->body_case != FACTMESH__CONTROL__BODY_GROUP_JOINED)
        ;
    const Factmesh__GroupJoined *again = c->group_joined;
    assert_int_equal (again->n_holding, 1);
    assert_int_equal (again->holding[0]->offset, held[2].offset);
    assert_int_equal (again->holding[0]->token, held[2].token);
    assert_int_equal (again->n_refused, 1);
    assert_int_equal (again->refused[0], held[1].token);
}

/* An instance, and the one fact that it is handed. */
static uint64_t join_and_take (struct setting *s, Factmesh__GroupHolding *ret_holding)
{
    group_ask (&(struct group_ask) { .group = slice_of ("g"), .credit = 1 });
    const uint64_t member = joined (s);
    const Factmesh__WorkItem *item = sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_WORK)->work->items[0];
    factmesh__group_holding__init (ret_holding);
    ret_holding->offset = item->offset;
    ret_holding->token = item->token;
    return member;
}

/* Cut off while its group was deleted and made again: what it had of the first one is not what another has of the second. */
static void an_instance_of_a_group_that_was_made_again_holds_nothing_of_it (void **state)
{
    struct setting *s = *state;
    Factmesh__GroupHolding before, now, *holding[] = { &before };
    append (s, "a");
    group_go (join_and_take (s, &before));
    group_act (FACTMESH__GROUP_ACTION__GROUP_DELETE);
    (void) sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_GROUP_REPLY);
    (void) join_and_take (s, &now);
    assert_int_equal (now.offset, before.offset);
    group_ask (&(struct group_ask) { .from = 'b', .group = slice_of ("g"), .credit = 1, .holding = holding, .holding_count = 1 });
    const Factmesh__GroupJoined *again = sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined;
    assert_int_equal (again->n_holding, 0);
    assert_int_equal (again->n_refused, 1);
}

/* --- Where a new group begins. */

static void a_new_group_begins_where_its_first_instance_says (void **state)
{
    struct setting *s = *state;
    const uint64_t began = s->clock.now_ns;
    append (s, "a|a|a|a|a|a");
    const struct {
        Factmesh__GroupJoin__StartCase start_case;
        uint64_t start, first;
    } cases[] = {
        { FACTMESH__GROUP_JOIN__START__NOT_SET, 0, 1 },
        { FACTMESH__GROUP_JOIN__START_FROM_END, 0, 1 },
        { FACTMESH__GROUP_JOIN__START_FROM_END, 1, 7 },
        { FACTMESH__GROUP_JOIN__START_FROM_OFFSET, 0, 1 },
        { FACTMESH__GROUP_JOIN__START_FROM_OFFSET, 3, 3 },
        { FACTMESH__GROUP_JOIN__START_FROM_OFFSET, 1000, 7 },
        { FACTMESH__GROUP_JOIN__START_FROM_TIME_NS, 1, 1 },
        { FACTMESH__GROUP_JOIN__START_FROM_TIME_NS, began + 3 * SECOND, 4 },
        { FACTMESH__GROUP_JOIN__START_FROM_TIME_NS, began + 1000 * SECOND, 7 },
    };
    static const struct work all[] = { { 1, 0 }, { 2, 0 }, { 3, 0 }, { 4, 0 }, { 5, 0 }, { 6, 0 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        group_ask (&(struct group_ask) { .group = slice_of ("g"), .credit = 10, .start_case = cases[i].start_case, .start = cases[i].start });
        const uint64_t member = joined (s);
        work_is (s, member, 7 - cases[i].first, all + (cases[i].first - 1));
        group_go (member);
        group_act (FACTMESH__GROUP_ACTION__GROUP_DELETE);
        assert_int_equal (sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply->n_groups, 0);
    }
}

/* --- Bounds. */

static void a_group_has_so_many_instances_and_no_more (void **state)
{
    struct setting *s = *state;
    const char *const name = "an instance whose name is far longer than what is kept of it, which is cut";
    const struct group_ask ask = { .group = slice_of ("g"), .instance = name, .credit = 1 };
    for (int i = 0; i <= GROUP_MEMBERS_MAX; i++)
        group_ask (&ask);
    for (uint64_t i = 1; i <= GROUP_MEMBERS_MAX; i++)
        assert_int_equal (joined (s), i);
    expect_error (FACTMESH__ERROR_CODE__ERROR_LIMIT, "group 'g' has 1024 instances");
    const Factmesh__GroupInfo *g = group_show ();
    assert_int_equal (g->n_members, GROUP_MEMBERS_MAX);
    assert_true (slice_equal (control_get_slice (&g->members[0]->instance), slice (name, NODE_NAME_MAX)));
    group_go (1);
    group_ask (&ask);
    assert_int_equal (joined (s), GROUP_MEMBERS_MAX + 1);
}

static void a_journal_has_so_many_groups_and_no_more (void **state)
{
    struct setting *s = *state;
    char name[16];
    for (int i = 0; i <= GROUPS_MAX; i++) {
        (void) snprintf (name, sizeof name, "g%04d", i);
        group_ask (&(struct group_ask) { .group = slice_of (name), .credit = 1 });
    }
    expect_error (FACTMESH__ERROR_CODE__ERROR_LIMIT, "1024 groups are here; delete one");
    for (uint64_t i = 1; i <= GROUPS_MAX; i++)
        (void) joined (s);
    /* All of them, in two answers. */
    Factmesh__GroupList list = FACTMESH__GROUP_LIST__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_LIST;
    control.group_list = &list;
    int n = 0;
    for (int answers = 0; answers < 2; answers++) {
        assert_int_equal (fake_hand_over ('p', &control), 0);
        const Factmesh__GroupReply *r = fake_wait_reply (FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply;
        assert_int_equal (r->more, answers == 0);
        for (size_t i = 0; i < r->n_groups; i++) {
            (void) snprintf (name, sizeof name, "g%04d", n++);
            assert_true (slice_equal (control_get_slice (&r->groups[i]->group), slice_of (name)));
        }
        list.after = r->groups[r->n_groups - 1]->group;
    }
    assert_int_equal (n, GROUPS_MAX);
}

/* --- Topics change. */

static uint64_t change_to (struct setting *s, const char *topics, bool skipped)
{
    group_ask (&(struct group_ask) { .group = slice_of ("g"), .topics = topics, .credit = 100, .change = true, .skipped = skipped });
    return joined (s);
}

static void pause_or_resume (struct setting *s, Factmesh__GroupAction action)
{
    group_act (action);
    (void) sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_GROUP_REPLY);
}

/* What is asked for comes after a restart of the journal, too, and another change waits for it. */
static void changed_topics_give_what_was_left_out_once (void **state)
{
    struct setting *s = *state;
    append (s, "a|b|c|a|b|c");
    uint64_t member = change_to (s, "a", false);
    work_is (s, member, 2, (const struct work[]) { { 1, 0 }, { 4, 0 } });
    group_go (member);
    member = change_to (s, "b", false);
    append (s, "a|b|d");
    work_is (s, member, 1, (const struct work[]) { { 8, 0 } });
    group_go (member);
    pause_or_resume (s, FACTMESH__GROUP_ACTION__GROUP_PAUSE);
    member = change_to (s, "a|c", true);
    assert_int_equal (group_show ()->behind, 9);
    group_ask (&(struct group_ask) { .group = slice_of ("g"), .topics = "d", .credit = 100, .change = true });
    expect_error (FACTMESH__ERROR_CODE__ERROR_LIMIT, "still handing out what its topics before had left out");
    groups_destroy (&groups);
    assert_int_equal (groups_new (&s->j.context, &groups), 0);
    pause_or_resume (s, FACTMESH__GROUP_ACTION__GROUP_RESUME);
    group_ask (&(struct group_ask) { .group = slice_of ("g"), .topics = "c|a", .credit = 100 });
    member = joined (s);
    fake.skipped_ns = (uint64_t) GROUP_REJOIN_MS * FAKE_NS_PER_MS;
    /* No topics before had c; b had left out the third a. */
    work_is (s, member, 3, (const struct work[]) { { 3, LATE }, { 6, LATE }, { 7, LATE } });
    group_go (member);
    /* Everything: d is new, and all else was had. */
    member = change_to (s, ">", true);
    work_is (s, member, 1, (const struct work[]) { { 9, LATE } });
    group_go (member);
    /* Nothing is left out any more. */
    member = change_to (s, "a", true);
    work_is (s, member, 0, NULL);
    group_go (member);
    member = change_to (s, ">", true);
    work_is (s, member, 0, NULL);
}

/* It had everything, then a alone: what it is to have of b is what came since. */
static void what_a_group_of_everything_had_does_not_come_again (void **state)
{
    struct setting *s = *state;
    append (s, "a|b");
    uint64_t member = change_to (s, NULL, false);
    work_is (s, member, 2, (const struct work[]) { { 1, 0 }, { 2, 0 } });
    group_go (member);
    member = change_to (s, "a", false);
    append (s, "a|b");
    work_is (s, member, 1, (const struct work[]) { { 3, 0 } });
    group_go (member);
    member = change_to (s, "b", true);
    work_is (s, member, 1, (const struct work[]) { { 4, LATE } });
}

/* A batch of four facts on b and a, which correct what is not here: that holds the place of a group of a at the second one. Then it comes. */
static void hold_within_a_batch (struct setting *s)
{
    const struct fm_fact_id root = { .stream = kit_stream (2), .seq = 1 };
    const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 4, .payload_len = 10, .topic = "b|a", .corrects = root };
    (void) kit_append_batch (s->j.context.log, &spec);
    assert_int_equal (fake_sync (&s->j), 0);
    const uint64_t member = change_to (s, "a", false);
    while (group_show ()->next_offset < 2)
        ;
    assert_int_equal (group_show ()->unfinished, 0);
    group_go (member);
    (void) group_show ();               /* it is gone: nothing that comes from here on is handed to it */
}

static void append_root (struct setting *s)
{
    const struct kit_batch_spec spec = { .stream = 2, .first_seq = 1, .count = 1, .payload_len = 10, .topic = "d" };
    (void) kit_append_batch (s->j.context.log, &spec);
    assert_int_equal (fake_sync (&s->j), 0);
}

static void topics_that_change_within_a_batch_give_what_was_left_out (void **state)
{
    struct setting *s = *state;
    hold_within_a_batch (s);
    uint64_t member = change_to (s, "c", false);
    while (group_show ()->next_offset < 5)
        ;
    group_go (member);
    (void) group_show ();
    append_root (s);
    member = change_to (s, "a", true);
    work_is (s, member, 2, (const struct work[]) { { 2, LATE | CORRECTION }, { 4, LATE | CORRECTION } });
}

static void what_was_left_out_ends_at_the_place_within_a_batch (void **state)
{
    struct setting *s = *state;
    hold_within_a_batch (s);
    append_root (s);
    const uint64_t member = change_to (s, "b", true);
    work_is (s, member, 2, (const struct work[]) { { 1, LATE | CORRECTION }, { 3, CORRECTION } });
}

/* One that waits until the group is durable finds it changed then. */
static void a_join_that_waited_is_judged_by_what_the_group_is_then (void **state)
{
    struct setting *s = *state;
    group_ask (&(struct group_ask) { .group = slice_of ("g"), .topics = "a", .credit = 1 });
    group_ask (&(struct group_ask) { .group = slice_of ("g"), .topics = "b", .credit = 1, .change = true });
    assert_null (fake_reply_within (QUIET_MS));
    const Factmesh__Control *c;
    do {
        assert_int_equal (fake_sync (&s->j), 0);
        c = fake_reply_within (5);
    } while (!c);
    assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_ERROR);
    assert_int_equal (c->error->code, FACTMESH__ERROR_CODE__ERROR_RANGE);
    const Factmesh__GroupJoined *j = sync_until_reply (&s->j, FACTMESH__CONTROL__BODY_GROUP_JOINED)->group_joined;
    assert_int_equal (j->config->n_filters, 1);
    assert_true (slice_equal (control_get_slice (&j->config->filters[0]), slice_of ("b")));
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (what_a_group_cannot_be_is_refused_with_words),
        CASE (an_instance_that_declares_otherwise_is_refused),
        CASE (of_what_an_instance_held_it_is_told_what_it_holds_no_more),
        CASE (an_instance_of_a_group_that_was_made_again_holds_nothing_of_it),
        CASE (a_new_group_begins_where_its_first_instance_says),
        CASE (a_group_has_so_many_instances_and_no_more),
        CASE (a_journal_has_so_many_groups_and_no_more),
        CASE (changed_topics_give_what_was_left_out_once),
        CASE (what_a_group_of_everything_had_does_not_come_again),
        CASE (topics_that_change_within_a_batch_give_what_was_left_out),
        CASE (what_was_left_out_ends_at_the_place_within_a_batch),
        CASE (a_join_that_waited_is_judged_by_what_the_group_is_then),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
