/* level_table against a model that remembers every fact. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "level_table.h"
#include "topic.h"

/* ------------------------------------------------------------------ the model: every fact that was ever published */

enum { MODEL_TOPICS = 512, FACTS = 20000 };

struct model {
    char topics[MODEL_TOPICS][64];
    uint64_t last[MODEL_TOPICS];
    size_t count;
};

static uint64_t random_state;

static uint64_t random_below (uint64_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % n;
}

static void model_init (struct model *m, uint64_t seed)
{
    static const char *const a[] = { "a", "bb", "orders", "o" }, *const b[] = { "x", "placed", "xx", "y.z" };
    random_state = seed;
    m->count = MODEL_TOPICS;
    for (size_t i = 0; i < m->count; i++) {
        m->last[i] = 0;
        if (i < 4)
            snprintf (m->topics[i], sizeof m->topics[i], "%s", a[i]);
        else if (i % 3 == 0)
            snprintf (m->topics[i], sizeof m->topics[i], "%s.%zu", a[i % 4], i);
        else
            snprintf (m->topics[i], sizeof m->topics[i], "%s.%s.%zu.t", a[i % 4], b[i / 4 % 4], i);
    }
}

static uint64_t model_last (const struct model *m, struct fm_slice level)
{
    uint64_t last = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->last[i] > last && topic_is_under (slice_of (m->topics[i]), level))
            last = m->last[i];
    }
    return last;
}

static uint64_t model_exact (const struct model *m, struct fm_slice topic)
{
    size_t i = 0;
    while (!slice_equal (slice_of (m->topics[i]), topic))
        i++;
    return m->last[i];
}

static uint32_t find_or_add (struct level_table *t, struct fm_slice topic)
{
    uint32_t n;
    if (!level_table_find (t, topic, &n))
        assert_int_equal (level_table_add (t, topic, &n), 0);
    return n;
}

/* The batch's description against the model as it was before the batch. */
static void check_description (struct level_table *t, const struct model *m, uint64_t first_seq, uint64_t floor, bool exact)
{
    static struct batch_topic topics[LEVEL_BATCH_TOPICS_MAX];
    static uint8_t backs[1 << 16];
    level_table_describe (t, first_seq, topics, backs);
    for (uint32_t i = 0; i < level_table_open_count (t); i++) {
        const uint8_t *p = topics[i].backs.data, *end = p + topics[i].backs.len;
        for (unsigned d = 1; d <= topic_depth (topics[i].name); d++) {
            uint64_t back = 0;
            p = bytes_get_varint (p, end, &back);
            assert_non_null (p);
            const uint64_t prev = first_seq - 1 - back;
            const uint64_t truth = model_last (m, topic_level (topics[i].name, d));
            assert_true (prev >= truth && prev < first_seq);
            if (exact)
                assert_int_equal (prev, truth > floor ? truth : floor);
        }
        uint64_t back = 0;
        const bool more = p < end;      /* for exactly the topic, where that differs */
        if (more)
            p = bytes_get_varint (p, end, &back);
        assert_ptr_equal (p, end);
        const uint64_t of_level = level_table_last (t, topics[i].name), truth = model_exact (m, topics[i].name);
        const uint64_t prev = more ? first_seq - 1 - back : of_level;
        assert_true (prev >= truth && prev <= of_level);
        if (exact)
            assert_int_equal (prev, truth > floor ? truth : floor);
    }
}

static void check_recent (struct level_table *t, const struct model *m)
{
    struct level_mark marks[64];
    uint64_t since;
    const size_t n = level_table_recent (t, marks, 40, 24, &since);
    for (size_t i = 0; i < n; i++)
        assert_true (marks[i].last_seq >= model_last (m, marks[i].level));
    for (size_t i = 0; i < m->count; i++) {
        for (unsigned d = 1; d <= topic_depth (slice_of (m->topics[i])); d++) {
            const struct fm_slice level = topic_level (slice_of (m->topics[i]), d);
            size_t k = 0;
            while (k < n && !slice_equal (marks[k].level, level))
                k++;
            if (k == n)
                assert_true (model_last (m, level) <= since);
        }
    }
}

/* Every level that changed is listed with its last sequence soon, though others are busier than a notice has room for; and again, should that be lost. */
static void levels_that_changed_are_listed_in_turn (void **state)
{
    (void) state;
    enum { LEVELS = 3000, BUSY = 100, NEWEST = 64, OTHERS = 128, NOTICES = 2 * LEVELS / OTHERS + 6 };
    static uint8_t listed[LEVELS];
    struct level_table *t;
    struct level_mark marks[NEWEST + OTHERS];
    uint64_t since, seq = 0;
    char name[16];
    assert_int_equal (level_table_new (16384, 0, &t), 0);
    for (unsigned notice = 0, level = 0; notice < NOTICES; notice++) {
        for (unsigned i = 0; i < LEVELS || notice > 0; i++) {
            if (notice > 0 && i == BUSY)
                break;
            level = notice == 0 ? i : LEVELS - BUSY + i;    /* all of them once; then only the last ones go on */
            (void) snprintf (name, sizeof name, "l%u", level);
            uint32_t index = level_table_enter (t, find_or_add (t, slice_of (name)));
            level_table_mark (t, index, ++seq);
            level_table_commit (t, seq);
        }
        const size_t n = level_table_recent (t, marks, NEWEST, OTHERS, &since);
        assert_true (n <= NEWEST + OTHERS);
        for (size_t i = 0; i < n; i++) {
            (void) snprintf (name, sizeof name, "%.*s", (int) marks[i].level.len, (const char *) marks[i].level.data);
            const unsigned number = (unsigned) atoi (name + 1);
            if (number < LEVELS - BUSY) {
                assert_int_equal (marks[i].last_seq, number + 1);
                listed[number]++;
            }
        }
    }
    for (unsigned i = 0; i < LEVELS - BUSY; i++)
        assert_int_equal (listed[i], 2);
    level_table_destroy (&t);
}

static void run (size_t levels_max, size_t topics, uint64_t floor, uint64_t seed, bool exact)
{
    static struct model m;
    model_init (&m, seed);
    struct level_table *t;
    assert_int_equal (level_table_new (levels_max, floor, &t), 0);
    uint64_t seq = floor + 1;
    while (seq < floor + FACTS) {
        const uint64_t first_seq = seq;
        const uint64_t batch = 1 + random_below (12), hot = random_below (topics);
        size_t touched[12];
        uint64_t at[12];
        for (uint64_t i = 0; i < batch; i++) {
            touched[i] = random_below (3) ? (hot + random_below (3)) % topics : random_below (topics);
            const uint32_t topic = find_or_add (t, slice_of (m.topics[touched[i]]));
            uint32_t index;
            if (!level_table_in_batch (t, topic, &index))
                index = level_table_enter (t, topic);
            /* A topic that is added and then not used must not spoil the order. */
            if (random_below (16) == 0)
                (void) find_or_add (t, slice_of (m.topics[random_below (topics)]));
            at[i] = seq++;
            level_table_mark (t, index, at[i]);
        }
        check_description (t, &m, first_seq, floor, exact);
        if (random_below (50) == 0) {
            level_table_abandon (t);
            seq = first_seq;
            continue;
        }
        level_table_commit (t, seq - 1);
        for (uint64_t i = 0; i < batch; i++)
            m.last[touched[i]] = at[i];
        assert_true (level_table_count (t) <= levels_max);
        assert_int_equal (level_table_last (t, slice (NULL, 0)), seq - 1);
        if (random_below (100) == 0)
            check_recent (t, &m);
    }
    for (size_t i = 0; i < topics; i++) {
        const uint64_t last = level_table_last (t, slice_of (m.topics[i])), truth = m.last[i] ? m.last[i] : floor;
        assert_true (last >= truth && last < seq);
        if (exact)
            assert_int_equal (last, model_last (&m, slice_of (m.topics[i])) > floor ? model_last (&m, slice_of (m.topics[i])) : floor);
    }
    level_table_destroy (&t);
    assert_null (t);
}

/* ------------------------------------------------------------------ cases */

static void prev_is_exact_while_all_levels_fit (void **state)
{
    (void) state;
    run (16384, MODEL_TOPICS, 0, 1, true);
    run (16384, 7, 0, 2, true);
}

static void prev_is_at_least_the_truth_when_levels_are_forgotten (void **state)
{
    (void) state;
    for (uint64_t seed = 1; seed <= 5; seed++)
        run (LEVEL_TABLE_MIN, MODEL_TOPICS, 0, seed, false);
    run (200, MODEL_TOPICS, 0, 9, false);
}

static void an_unknown_level_has_the_earlier_epochs_last (void **state)
{
    (void) state;
    run (16384, MODEL_TOPICS, 1000000, 3, true);
    run (LEVEL_TABLE_MIN, MODEL_TOPICS, 1000000, 4, false);
}

static void forgetting_raises_the_bound_only_below_its_parent (void **state)
{
    (void) state;
    struct level_table *t;
    assert_int_equal (level_table_new (LEVEL_TABLE_MIN, 0, &t), 0);
    uint64_t seq = 1;
    for (int i = 0; i < 1000; i++, seq++) {
        char topic[32];
        snprintf (topic, sizeof topic, "orders.%d", i);
        level_table_mark (t, level_table_enter (t, find_or_add (t, slice_of (topic))), seq);
        level_table_commit (t, seq);
    }
    assert_int_equal (level_table_last (t, slice_of ("orders")), 1000);
    assert_int_equal (level_table_last (t, slice_of ("orders.999")), 1000);
    /* Forgotten: the bound is the newest of those forgotten, not more. */
    assert_true (level_table_last (t, slice_of ("orders.0")) >= 1 && level_table_last (t, slice_of ("orders.0")) < 1000);
    assert_int_equal (level_table_last (t, slice_of ("stock.a")), 0);
    level_table_destroy (&t);
}

static void the_open_batchs_topics_are_never_forgotten (void **state)
{
    (void) state;
    struct level_table *t;
    assert_int_equal (level_table_new (LEVEL_TABLE_MIN, 0, &t), 0);
    uint32_t topic;
    int rc = 0, n = 0;
    for (; n < 1000; n++) {
        char text[32];
        snprintf (text, sizeof text, "t%d", n);
        rc = level_table_add (t, slice_of (text), &topic);
        if (rc)
            break;
        level_table_mark (t, level_table_enter (t, topic), (uint64_t) n + 1);
    }
    assert_int_equal (rc, FM_ERR_FULL);
    assert_int_equal (n, LEVEL_TABLE_MIN);
    assert_true (level_table_find (t, slice_of ("t0"), &topic));
    level_table_commit (t, (uint64_t) n);
    assert_int_equal (level_table_add (t, slice_of ("one.more"), &topic), 0);
    level_table_destroy (&t);
}

static void the_deepest_and_the_longest_topics_fit (void **state)
{
    (void) state;
    struct level_table *t;
    assert_int_equal (level_table_new (LEVEL_TABLE_MIN, 0, &t), 0);
    char deep[] = "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", longest[TOPIC_MAX + 1];
    memset (longest, 'x', TOPIC_MAX);
    longest[TOPIC_MAX] = 0;
    level_table_mark (t, level_table_enter (t, find_or_add (t, slice_of (deep))), 1);
    level_table_mark (t, level_table_enter (t, find_or_add (t, slice_of (longest))), 2);
    level_table_commit (t, 2);
    assert_int_equal (level_table_count (t), 17);
    assert_int_equal (level_table_last (t, slice_of ("a.b.c")), 1);
    assert_int_equal (level_table_last (t, slice_of (longest)), 2);
    level_table_destroy (&t);
}

static void a_topic_is_not_found_by_its_prefix (void **state)
{
    (void) state;
    struct level_table *t;
    uint32_t topic;
    assert_int_equal (level_table_new (LEVEL_TABLE_MIN, 0, &t), 0);
    (void) find_or_add (t, slice_of ("orders.placed"));
    assert_false (level_table_find (t, slice_of ("orders.place"), &topic));
    assert_false (level_table_find (t, slice_of ("order"), &topic));
    assert_false (level_table_find (t, slice (NULL, 0), &topic));
    assert_true (level_table_find (t, slice_of ("orders"), &topic));
    level_table_destroy (&t);
    level_table_destroy (&t);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (levels_that_changed_are_listed_in_turn),
        cmocka_unit_test (prev_is_exact_while_all_levels_fit),
        cmocka_unit_test (prev_is_at_least_the_truth_when_levels_are_forgotten),
        cmocka_unit_test (an_unknown_level_has_the_earlier_epochs_last),
        cmocka_unit_test (forgetting_raises_the_bound_only_below_its_parent),
        cmocka_unit_test (the_open_batchs_topics_are_never_forgotten),
        cmocka_unit_test (the_deepest_and_the_longest_topics_fit),
        cmocka_unit_test (a_topic_is_not_found_by_its_prefix),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
