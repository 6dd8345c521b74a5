/* bare_groups: the journal's groups without their thread, on a fake journal (fake_journal.h): the test calls what the thread would. */

#ifndef FM_TESTS_BARE_GROUPS_H
#define FM_TESTS_BARE_GROUPS_H

#include "fake_journal.h"

#include "factmesh.pb-c.h"
#include "groups_inner.h"

enum { LEASE_MS = 30000 };

/* With a cache of so many bytes. */
static inline void groups_open (struct groups *gs, struct fake_journal *j, size_t cache_bytes)
{
    *gs = (struct groups) { .context = &j->context, .key_seed = 7 };
    assert_int_equal (fact_finder_new (j->context.log, cache_bytes, &gs->finder), 0);
}

static inline void groups_close (struct groups *gs)
{
    while (gs->list)
        groups_forget (gs, gs->list);
    fact_finder_destroy (&gs->finder);
    batch_scratch_release (&gs->scratch);
    free (gs->matches);
    free (gs->buffer);
}

/* Of topics "a.>", from the log's begin on. */
static inline struct group *new_group (struct groups *gs, const char *name, enum group_effect effect)
{
    struct group_config config = { .effect = effect, .lease_ms = LEASE_MS, .attempts_max = 3 };
    const ProtobufCBinaryData pattern = control_put_slice (slice_of ("a.>"));
    struct group *g;
    assert_int_equal (group_filters_copy (&pattern, 1, &config.filters), 0);
    assert_int_equal (group_make (gs, slice_of (name), &config, &g), 0);
    assert_int_equal (group_filters_copy (&pattern, 1, &g->ever_filters), 0);
    group_state_begin (g->state, 1);
    g->begin = g->filters_since = 1;
    return g;
}

#endif
