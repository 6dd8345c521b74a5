/* topic: names, levels, patterns, and what they look like on the wire. SPEC.md, "Topics".
 *
 * On the wire a topic `orders.placed` is `.orders.placed.`, so that the prefix `.orders.` is the level
 * `orders` and everything below it, and the prefix `.` is every topic but the reserved ones, which
 * begin with FF. No allocation; pure. */

#ifndef FM_PROTO_TOPIC_H
#define FM_PROTO_TOPIC_H

#include "bytes.h"
#include "fm_limits.h"

/* Is this a topic: 1 to 245 bytes, 1 to 16 non-empty levels, no byte below 0x20, no 0x7F, no 0xFF, and no
 * level `*` or `>`? Returns 0 or FM_ERR_TOPIC (with a detail that names the fault and its place). */
int topic_check (struct fm_slice topic);

/* The same for a pattern: `*` stands for one level, `>` (last only) for one or more levels. */
int topic_pattern_check (struct fm_slice pattern);

/* How many of the pattern's bytes every topic that it matches begins with: all of them where it has no `*` and no `>`. */
size_t topic_pattern_prefix (struct fm_slice pattern);

/* Does the pattern (checked) match the topic (checked)? */
bool topic_match (struct fm_slice pattern, struct fm_slice topic);

/* Is the topic the level itself, or below it? The empty level is the root. */
bool topic_is_under (struct fm_slice topic, struct fm_slice level);

/* How many levels a topic or level has; the root has 0. */
unsigned topic_depth (struct fm_slice topic);

/* The first `depth` levels of a topic. */
struct fm_slice topic_level (struct fm_slice topic, unsigned depth);

/* The deepest level that two topics share. */
struct fm_slice topic_common_level (struct fm_slice a, struct fm_slice b);

/* The deepest level under which all matches of all patterns lie; the exact topic where all patterns
 * are one and the same topic (then *ret_exact is true). No patterns: the root. The result points
 * into the first pattern. */
struct fm_slice topic_patterns_level (const struct fm_slice *patterns, size_t count, bool *ret_exact);

/* Write a wire topic (`.a.b.`; the root is `.`) without the NUL into WIRE_TOPIC_MAX bytes; returns its length. */
size_t topic_to_wire (struct fm_slice topic, uint8_t *wire);

/* Check a frame's wire topic and find the NUL behind it. ret_topic is without the outer dots (the root is
 * empty); ret_body is the rest of the frame. Returns 0 or FM_ERR_MALFORMED. Reserved topics are refused. */
int topic_from_frame (const uint8_t *frame, size_t len, struct fm_slice *ret_topic, struct fm_slice *ret_body);

/* What a subscriber to a level or an exact topic must subscribe to (SPEC.md, "Subscribing"): the level's own wire
 * prefix, cut to WIRE_FILTER_MAX, and the exact wire topic (with its NUL) of each ancestor, the root included, under which
 * batches of several topics travel. Writes at most TOPIC_LEVELS_MAX + 1 filters; returns how many. */
struct topic_wire_filter {
    size_t len;
    uint8_t bytes[WIRE_FILTER_MAX];
};
size_t topic_wire_filters (struct fm_slice level, bool exact, struct topic_wire_filter ret_filters[TOPIC_LEVELS_MAX + 1]);

/* Reserved live topics: FF, a kind, and for a fence its nonce; then NUL. */
enum { RESERVED_BYTE = 0xFF, RESERVED_HEAD = 'H', RESERVED_FENCE = 'F', RESERVED_WATERMARK = 'W', RESERVED_ENDED = 'E', FENCE_NONCE_LEN = 8 };

#endif
