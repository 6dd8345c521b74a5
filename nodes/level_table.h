/* level_table: for each level that a stream has published under, the last sequence there: where `prev` comes from.
 *
 * Holds topics and their ancestors in a bounded table. What does not fit any more is forgotten, least recently used first; its last
 * sequence then lives on in its parent's floor, an upper bound for every level below that parent that the table does not know. A bound
 * that is too high costs a receiver a question, never a fact.
 *
 * Beside the last sequence under a level it keeps that of exactly this topic, which a batch tells where the two differ (SPEC.md, "Batch").
 *
 * Invariants (checked by tests/unit/test_level_table):
 *   1. last(level) is at least the last committed sequence under the level, and just that for a level that was never forgotten; the same for
 *      exactly the topic.
 *   2. In order of use a parent comes before its children, so that what is forgotten first is always a leaf.
 *   3. Topics of the open batch are never forgotten.
 *
 * Thread:  one, or one lock: the publisher's.
 * Bounded: levels_max entries. Looking up a known topic allocates nothing. */

#ifndef FM_NODES_LEVEL_TABLE_H
#define FM_NODES_LEVEL_TABLE_H

#include "batch.h"

struct level_table;

enum {
    LEVEL_TABLE_MIN = 4 * TOPIC_LEVELS_MAX,
    LEVEL_BATCH_TOPICS_MAX = 1024   /* of one batch that we send; more would hardly fit a live frame */
};

/* floor: the last sequence that may have been published before (an earlier epoch's last; 0: nothing was).
 * levels_max is at least LEVEL_TABLE_MIN. Returns 0 or -ENOMEM. */
int level_table_new (size_t levels_max, uint64_t floor, struct level_table **ret_table);
void level_table_destroy (struct level_table **table);

/* The number of a topic that is in the table; valid until the next level_table_add. False: it is not. */
bool level_table_find (struct level_table *t, struct fm_slice topic, uint32_t *ret_topic);

/* Add a topic that was not found (topic_check is the caller's). Returns 0, FM_ERR_FULL (all is of the open batch: commit that, then
 * retry) or -ENOMEM. */
int level_table_add (struct level_table *t, struct fm_slice topic, uint32_t *ret_topic);

/* --- The open batch: at most LEVEL_BATCH_TOPICS_MAX topics in order of their first use. */

/* Is the topic in the open batch? *ret_index is its place there. */
bool level_table_in_batch (const struct level_table *t, uint32_t topic, uint32_t *ret_index);
/* Put it there; it must not be there yet. Returns its place. */
uint32_t level_table_enter (struct level_table *t, uint32_t topic);
/* Sequence seq of the open batch is of the topic at that place. Rising. */
void level_table_mark (struct level_table *t, uint32_t index, uint64_t seq);
uint32_t level_table_open_count (const struct level_table *t);

/* An upper bound for the bytes that a topic takes in a batch's header. */
size_t level_table_header_bytes (const struct level_table *t, uint32_t topic, uint64_t first_seq);

/* Describe the open batch's topics, whose first sequence is first_seq: names, which point into the table, and encoded backs, written to
 * *backs: at most what level_table_header_bytes said. Writes level_table_open_count topics. */
void level_table_describe (const struct level_table *t, uint64_t first_seq, struct batch_topic *ret_topics, uint8_t *backs);

/* The open batch, whose last sequence is last_seq, has left: from now on its facts count as published. An empty one is open. */
void level_table_commit (struct level_table *t, uint64_t last_seq);
/* The open batch will not be sent. An empty one is open. */
void level_table_abandon (struct level_table *t);

/* --- For head notices, and for tests. */

struct level_mark {
    struct fm_slice level;          /* points into the table */
    uint64_t last_seq;
};
/* The levels that changed most recently, at most max; and of those left out at most max_others that changed since they were listed, in turn, so that
 * successive calls list all. Levels that are not among them have no fact above *ret_complete_since. Returns how many. No batch is open. */
size_t level_table_recent (struct level_table *t, struct level_mark *ret_marks, size_t max, size_t max_others, uint64_t *ret_complete_since);

/* The upper bound for a level, known or not; the empty one is the root. */
uint64_t level_table_last (const struct level_table *t, struct fm_slice level);
size_t level_table_count (const struct level_table *t);

#endif
