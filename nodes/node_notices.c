/* node_notices: what no call returns but a person wants to know, and what is counted. */

#include "node_inner.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void node_notice (struct fm_node *node, const char *id, const char *format, ...)
{
    if (!node->notice)
        return;
    struct node_notice_item item;
    (void) snprintf (item.id, sizeof item.id, "%s", id);        /* both are cut if they must be */
    va_list args;
    va_start (args, format);
    (void) vsnprintf (item.text, sizeof item.text, format, args);
    va_end (args);
    (void) pthread_mutex_lock (&node->notice_lock);             /* cannot fail: initialised, and never locked twice */
    if (node->notice_count < NOTICES_MAX)
        node->notices[(node->notice_first + node->notice_count++) % NOTICES_MAX] = item;
    else
        node->notice_lost++;
    (void) pthread_mutex_unlock (&node->notice_lock);
    node_wake (node);
}

static bool take (struct fm_node *node, struct node_notice_item *ret_item, size_t *ret_lost)
{
    (void) pthread_mutex_lock (&node->notice_lock);
    const bool got = node->notice_count > 0;
    if (got) {
        *ret_item = node->notices[node->notice_first];
        node->notice_first = (node->notice_first + 1) % NOTICES_MAX;
        node->notice_count--;
    } else {
        *ret_lost = node->notice_lost;
        node->notice_lost = 0;
    }
    (void) pthread_mutex_unlock (&node->notice_lock);
    return got;
}

void node_notices_flush (struct fm_node *node)
{
    if (!node->notice)
        return;
    struct node_notice_item item;
    size_t lost = 0;
    while (take (node, &item, &lost))
        node->notice (node->notice_arg, item.id, item.text);
    if (lost > 0) {
        (void) snprintf (item.text, sizeof item.text, "count=%zu more notices than the queue of %d holds", lost, NOTICES_MAX);
        node->notice (node->notice_arg, "NOTICES-LOST", item.text);
    }
}

void node_count (struct fm_node *node, enum node_counter counter, uint64_t n)
{
    atomic_fetch_add_explicit (&node->counters[counter], n, memory_order_relaxed);
}

int fm_node_counters (struct fm_node *node, void (*each) (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning), void *arg)
{
    static const struct {
        const char *name, *unit, *meaning;
    } list[NODE_COUNTER_COUNT] = {
#define ITEM(id, counter_name, counter_unit, counter_meaning) { counter_name, counter_unit, counter_meaning },
        NODE_COUNTERS (ITEM)
#undef ITEM
    };
    for (int i = 0; i < NODE_COUNTER_COUNT; i++)
        each (arg, list[i].name, atomic_load_explicit (&node->counters[i], memory_order_relaxed), list[i].unit, list[i].meaning);
    return 0;
}
