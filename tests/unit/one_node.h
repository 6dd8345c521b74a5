/* one_node: what tests of real nodes share: opening one of mesh "test", and what it says of itself. */

#ifndef FM_TESTS_ONE_NODE_H
#define FM_TESTS_ONE_NODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../support/assert_done.h"
#include "node.h"

enum { PATIENCE_MS = 20000 };

static inline struct fm_node *open_node (const char *seeds, const char *name)
{
    /* On a busy machine all of this process may stand still for a second, and nobody shall be taken for dead. */
    const struct fm_node_options options = { .mesh = "test", .name = name, .seeds = seeds, .beacon_port = -1, .ping_ms = 100, .dead_ms = 10000 };
    struct fm_node *node;
    assert_done (fm_node_open (&options, &node));
    return node;
}

static inline int count_member (void *arg, const struct fm_member *m)
{
    assert_true (strlen (m->name) > 0 && strlen (m->control) > 0 && strlen (m->live) > 0);
    ++*(unsigned *) arg;
    return 0;
}

static inline unsigned members_of (struct fm_node *node)
{
    unsigned count = 0;
    assert_int_equal (fm_node_members (node, count_member, &count), 0);
    return count;
}

static uint64_t counter_value;
static inline void see_counter (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning)
{
    assert_true (*unit && *meaning);
    if (strcmp (name, arg) == 0)
        counter_value = value;
}
static inline uint64_t counter (struct fm_node *node, char *name)
{
    counter_value = UINT64_MAX;
    fm_node_counters (node, see_counter, name);
    return counter_value;
}

#endif
