/* fake_group: what instances of a group, and people, say to the groups' thread on a fake journal (fake_journal.h), and what they hear. */

#ifndef FM_TESTS_FAKE_GROUP_H
#define FM_TESTS_FAKE_GROUP_H

#include "fake_journal.h"

#include "factmesh.pb-c.h"
#include "groups.h"

enum { QUIET_MS = 100, ASK_TOPICS_MAX = 80 };

static struct groups *groups;

/* A join; what is not named is 0, NULL or absent. */
struct group_ask {
    uint8_t from;                       /* 0: 'a' */
    struct fm_slice group;
    const char *topics;                 /* with '|' between them */
    const char *instance;
    struct fm_id node;
    Factmesh__Effect effect;
    uint32_t credit, lease_ms;
    bool change, skipped;
    Factmesh__GroupJoin__StartCase start_case;
    uint64_t start;
    Factmesh__GroupHolding **holding;
    size_t holding_count;
};

static inline void group_ask (const struct group_ask *a)
{
    ProtobufCBinaryData topics[ASK_TOPICS_MAX];
    Factmesh__GroupConfig config = FACTMESH__GROUP_CONFIG__INIT;
    config.effect = a->effect;
    config.lease_ms = a->lease_ms;
    config.filters = topics;
    for (const char *t = a->topics ? a->topics : ""; *t; config.n_filters++) {
        const size_t len = strcspn (t, "|");
        assert_true (config.n_filters < ASK_TOPICS_MAX);
        topics[config.n_filters] = control_put_slice (slice (t, len));
        t += len + (t[len] == '|');
    }
    Factmesh__GroupJoin m = FACTMESH__GROUP_JOIN__INIT;
    m.group = control_put_slice (a->group);
    m.instance = control_put_slice (slice_of (a->instance ? a->instance : ""));
    m.node = control_put_id (&a->node);
    m.credit = a->credit;
    m.config = &config;
    m.change_filters = a->change;
    m.hand_out_skipped = a->skipped;
    m.start_case = a->start_case;
    if (a->start_case == FACTMESH__GROUP_JOIN__START_FROM_END)
        m.from_end = a->start != 0;
    else
        m.from_offset = a->start;       /* or the time, which lies at the same place */
    m.n_holding = a->holding_count;
    m.holding = a->holding;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_JOIN;
    control.group_join = &m;
    assert_int_equal (fake_hand_over (a->from ? a->from : 'a', &control), 0);
}

static inline void group_say (uint64_t member, uint64_t offset, uint64_t token, Factmesh__OutcomeKind kind)
{
    Factmesh__Outcome outcome = FACTMESH__OUTCOME__INIT, *outcomes[] = { &outcome };
    outcome.offset = offset;
    outcome.token = token;
    outcome.kind = kind;
    Factmesh__Outcomes m = FACTMESH__OUTCOMES__INIT;
    m.member = member;
    m.n_outcomes = 1;
    m.outcomes = outcomes;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_OUTCOMES;
    control.outcomes = &m;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

static inline void group_go (uint64_t member)
{
    Factmesh__GroupLeave m = FACTMESH__GROUP_LEAVE__INIT;
    m.member = member;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_LEAVE;
    control.group_leave = &m;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

/* Of a person, about group "g". */
static inline void group_command (const Factmesh__GroupCommand *command)
{
    Factmesh__GroupCommand m = *command;
    m.group = control_put_slice (slice_of ("g"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_COMMAND;
    control.group_command = &m;
    assert_int_equal (fake_hand_over ('p', &control), 0);
}

static inline void group_act_on (Factmesh__GroupAction action, uint64_t *offsets, size_t count)
{
    Factmesh__GroupCommand m = FACTMESH__GROUP_COMMAND__INIT;
    m.action = action;
    m.offsets = offsets;
    m.n_offsets = count;
    group_command (&m);
}

static inline void group_act (Factmesh__GroupAction action)
{
    group_act_on (action, NULL, 0);
}

/* Whoever waits for the disk is told when it has it: sync until the next answer comes. kind 0: any. */
static inline const Factmesh__Control *sync_until_reply (struct fake_journal *j, Factmesh__Control__BodyCase kind)
{
    const uint64_t until = node_now () + (uint64_t) FAKE_PATIENCE_MS * FAKE_NS_PER_MS;
    const Factmesh__Control *c;
    do {
        assert_int_equal (fake_sync (j), 0);
        c = fake_reply_within (5);
    } while (!c && node_now () < until);
    assert_non_null (c);
    if (kind && c->body_case != kind)
        fail_msg ("answer %d where %d was expected: %.*s", (int) c->body_case, (int) kind,
                  c->body_case == FACTMESH__CONTROL__BODY_ERROR ? (int) c->error->text.len : 0,
                  c->body_case == FACTMESH__CONTROL__BODY_ERROR ? (const char *) c->error->text.data : "");
    return c;
}

/* The group as it is, of which nothing was asked before that is not answered. */
static inline const Factmesh__GroupInfo *group_show (void)
{
    group_act (FACTMESH__GROUP_ACTION__GROUP_SHOW);
    const Factmesh__GroupReply *r = fake_wait_reply (FACTMESH__CONTROL__BODY_GROUP_REPLY)->group_reply;
    assert_int_equal (r->n_groups, 1);
    return r->groups[0];
}

/* The next answer is this error, and its text has these words. */
static inline void expect_error (Factmesh__ErrorCode code, const char *words)
{
    const Factmesh__Error *e = fake_wait_reply (FACTMESH__CONTROL__BODY_ERROR)->error;
    if (e->code != code || !memmem (e->text.data, e->text.len, words, strlen (words)))
        fail_msg ("error %d '%.*s', where %d with '%s' was expected", (int) e->code, (int) e->text.len, (const char *) e->text.data, (int) code, words);
}

#endif
