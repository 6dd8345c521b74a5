/* scripted_group: a journal by script (scripted_journal.h) that keeps one group: it joins whoever asks, confirms outcomes, and hands out what the test says;
 * or refuses, forgets, and says nothing. Outcomes are kept in the order in which they were told. */

#ifndef FM_TESTS_SCRIPTED_GROUP_H
#define FM_TESTS_SCRIPTED_GROUP_H

#include "scripted_journal.h"

#include "batch.h"

enum { GROUP_TOLD_MAX = 16384, GROUP_TOKENS_MAX = 8, GROUP_LEASE_TEST_MS = 800, GROUP_OFFSET = 1000 };

struct told {
    Factmesh__OutcomeKind kind;
    uint64_t offset, token, delay_ms;
    char reason[256];
};

/* How the group behaves; zero: as it should. */
struct scripted_group {
    struct scripted *journal;
    uint64_t member;                    /* the last that joined */
    uint32_t lease_ms;
    Factmesh__ErrorCode refuse_joins;
    const char *refusal;
    Factmesh__ErrorCode refuse_outcomes;
    bool mute_joins, mute_outcomes;     /* says nothing to them */
    uint64_t refused[GROUP_TOKENS_MAX]; /* tokens that others have: outcomes are refused, joins do not keep them */
    size_t refused_count;
    uint64_t forgotten[GROUP_TOKENS_MAX];       /* tokens that it has recorded outcomes of: joins find them in neither list */
    size_t forgotten_count;
    struct told told[GROUP_TOLD_MAX];
    size_t told_count;
    uint64_t last_request;              /* of outcomes */
};

static struct scripted_group group;

static inline bool group_names (const uint64_t *tokens, size_t count, uint64_t token)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i] == token)
            return true;
    return false;
}

static inline void group_say_joined (uint64_t request, uint64_t member, const Factmesh__GroupJoin *join)
{
    Factmesh__GroupConfig config = FACTMESH__GROUP_CONFIG__INIT;
    config.lease_ms = group.lease_ms;
    Factmesh__GroupHolding *kept[64];
    uint64_t refused[GROUP_TOKENS_MAX];
    Factmesh__GroupJoined joined = FACTMESH__GROUP_JOINED__INIT;
    joined.group = join->group;
    joined.member = member;
    joined.config = &config;
    joined.holding = kept;
    joined.refused = refused;
    for (size_t i = 0; i < join->n_holding; i++) {
        const uint64_t token = join->holding[i]->token;
        if (group_names (group.refused, group.refused_count, token)) {
            refused[joined.n_refused++] = token;
        } else if (!group_names (group.forgotten, group.forgotten_count, token)) {
            assert_true (joined.n_holding < 64);
            kept[joined.n_holding++] = join->holding[i];
        }
    }
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_JOINED;
    control.group_joined = &joined;
    script_say (group.journal, request, &control);
}

static inline void group_confirm (uint64_t request, uint64_t member, uint64_t *refused, size_t count)
{
    Factmesh__OutcomesConfirm confirm = FACTMESH__OUTCOMES_CONFIRM__INIT;
    confirm.member = member;
    confirm.refused = refused;
    confirm.n_refused = count;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM;
    control.outcomes_confirm = &confirm;
    script_say (group.journal, request, &control);
}

static inline void group_hear_outcomes (const Factmesh__Control *question)
{
    const Factmesh__Outcomes *outcomes = question->outcomes;
    uint64_t refused[GROUP_TOKENS_MAX];
    size_t count = 0;
    group.last_request = question->request;
    for (size_t i = 0; i < outcomes->n_outcomes; i++) {
        const Factmesh__Outcome *o = outcomes->outcomes[i];
        assert_true (group.told_count < GROUP_TOLD_MAX);
        struct told *t = &group.told[group.told_count++];
        *t = (struct told) { .kind = o->kind, .offset = o->offset, .token = o->token, .delay_ms = o->delay_ms };
        (void) snprintf (t->reason, sizeof t->reason, "%.*s", (int) o->reason.len, (const char *) o->reason.data);
        if (group_names (group.refused, group.refused_count, o->token))
            refused[count++] = o->token;
    }
    if (group.refuse_outcomes)
        script_refuse (group.journal, question->request, group.refuse_outcomes, "not you");
    else if (!group.mute_outcomes)
        group_confirm (question->request, outcomes->member, refused, count);
}

static inline void group_answers (struct scripted *j, const Factmesh__Control *question)
{
    group.journal = j;
    switch (question->body_case) {
    case FACTMESH__CONTROL__BODY_GROUP_JOIN:
        if (group.refuse_joins)
            script_refuse (j, question->request, group.refuse_joins, group.refusal ? group.refusal : "no");
        else if (!group.mute_joins)
            group_say_joined (question->request, ++group.member, question->group_join);
        break;
    case FACTMESH__CONTROL__BODY_OUTCOMES:
        group_hear_outcomes (question);
        break;
    default:
        break;
    }
}

/* A batch with one fact. */
static inline size_t group_batch (uint64_t seq, uint64_t expires_ns, uint8_t *bytes, size_t max)
{
    char payload[32];
    static const uint8_t backs[] = { 0, 0 };
    struct batch_topic topic = { .name = slice_of ("work"), .backs = slice (backs, 1) };
    struct fm_fact fact = { .topic_index = 0, .expires_ns = expires_ns, .correlation = slice_of ("c") };
    fact.payload = slice (payload, (size_t) snprintf (payload, sizeof payload, "payload %llu", (unsigned long long) seq));
    struct batch b = { .major = PROTO_MAJOR, .minor = PROTO_MINOR, .count = 1, .mesh = slice_of ("test"), .stream = { .bytes = { 's' } }, .epoch = 1,
                       .incarnation = 7, .epoch_first_seq = 1, .first_seq = seq, .time_ns = 1, .topics = &topic, .topic_count = 1 };
    const struct batch_defaults defaults = { .time_ns = 1 };
    b.features = fact_features (&fact);
    assert_true (batch_header_bound (&b) + fact_encoded_len (&fact, &defaults) <= max);
    return (size_t) (fact_encode (batch_encode_header (bytes, &b), &fact, &defaults) - bytes);
}

/* What the journal hands out; zero: handed out for the first time. */
struct handed {
    uint64_t token, expires_ns;
    uint64_t member;                    /* 0: the one that joined last */
    uint32_t flags, deliveries;
    bool garbage;                       /* instead of a batch */
};

static inline void group_hand_out (struct handed h)
{
    uint8_t bytes[512];
    Factmesh__WorkItem item = FACTMESH__WORK_ITEM__INIT, *items[] = { &item };
    item.offset = GROUP_OFFSET + h.token;
    item.token = h.token;
    item.deliveries = h.deliveries ? h.deliveries : 1;
    item.flags = h.flags;
    item.batch = control_put_slice (h.garbage ? slice_of ("garbage") : slice (bytes, group_batch (h.token, h.expires_ns, bytes, sizeof bytes)));
    Factmesh__Work work = FACTMESH__WORK__INIT;
    work.member = h.member ? h.member : group.member;
    work.items = items;
    work.n_items = 1;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_WORK;
    control.work = &work;
    script_say (group.journal, 0, &control);
}

static inline void group_hand_out_tokens (uint64_t first, uint64_t end)
{
    for (uint64_t token = first; token < end; token++)
        group_hand_out ((struct handed) { .token = token });
}

static inline size_t group_told (uint64_t token, Factmesh__OutcomeKind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < group.told_count; i++)
        count += group.told[i].token == token && group.told[i].kind == kind;
    return count;
}

#define TOLD_ONCE(token, what) assert_int_equal (group_told ((token), FACTMESH__OUTCOME_KIND__OUTCOME_##what), 1)

#endif
