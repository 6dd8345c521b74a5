/* Topics, patterns and levels, against a matcher that is as plain as can be. The input: texts with newlines between; the first is a topic,
 * the others patterns. */

#include "fuzz.h"

#include "topic.h"

enum { PATTERNS = 6 };

static struct fm_slice next_level (struct fm_slice *rest)
{
    const char *p = rest->data, *dot = rest->len ? memchr (p, '.', rest->len) : NULL;
    const size_t n = dot ? (size_t) (dot - p) : rest->len;
    *rest = slice (p + n + (dot ? 1 : 0), rest->len - n - (dot ? 1 : 0));
    return slice (p, n);
}

static bool match (struct fm_slice pattern, struct fm_slice topic)
{
    while (pattern.len && topic.len) {
        const struct fm_slice p = next_level (&pattern), t = next_level (&topic);
        if (slice_equal (p, slice_of (">")))
            return true;
        if (!slice_equal (p, slice_of ("*")) && !slice_equal (p, t))
            return false;
    }
    return !pattern.len && !topic.len;
}

static void check_topic (struct fm_slice topic)
{
    uint8_t frame[WIRE_TOPIC_MAX + 3];
    struct fm_slice back, body;
    size_t len = topic_to_wire (topic, frame);
    assert (len <= WIRE_TOPIC_MAX);
    frame[len++] = 0;
    frame[len++] = 7;
    assert (topic_from_frame (frame, len, &back, &body) == 0 && slice_equal (back, topic) && body.len == 1);
    const unsigned depth = topic_depth (topic);
    assert (depth >= 1 && depth <= TOPIC_LEVELS_MAX && slice_equal (topic_level (topic, depth), topic));
    for (unsigned i = 0; i <= depth; i++)
        assert (topic_is_under (topic, topic_level (topic, i)) && topic_depth (topic_level (topic, i)) == i);
}

/* Does a subscription to these wire filters get a frame of this topic alone? */
static bool filtered_in (struct fm_slice level, bool exact, struct fm_slice topic)
{
    static struct topic_wire_filter filters[TOPIC_LEVELS_MAX + 1];
    uint8_t frame[WIRE_TOPIC_MAX + 1];
    size_t len = topic_to_wire (topic, frame);
    frame[len++] = 0;
    const size_t n = topic_wire_filters (level, exact, filters);
    assert (n >= 1 && n <= TOPIC_LEVELS_MAX + 1);
    for (size_t i = 0; i < n; i++) {
        assert (filters[i].len <= WIRE_FILTER_MAX);
        if (filters[i].len <= len && memcmp (filters[i].bytes, frame, filters[i].len) == 0)
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    struct fm_slice rest = slice (data, size), texts[1 + PATTERNS], patterns[PATTERNS];
    size_t count = 0, pattern_count = 0;
    while (count < 1 + PATTERNS && rest.len) {
        const uint8_t *p = rest.data, *end = memchr (p, '\n', rest.len);
        const size_t n = end ? (size_t) (end - p) : rest.len;
        texts[count++] = slice (p, n);
        rest = slice (p + n + (end ? 1 : 0), rest.len - n - (end ? 1 : 0));
    }
    if (count == 0 || topic_check (texts[0]) != 0)
        return 0;
    const struct fm_slice topic = texts[0];
    check_topic (topic);
    for (size_t i = 1; i < count; i++) {
        if (topic_pattern_check (texts[i]) != 0) {
            assert (topic_check (texts[i]) != 0);
            continue;
        }
        assert (topic_match (texts[i], topic) == match (texts[i], topic));
        if (topic_check (texts[i]) == 0)
            assert (topic_is_under (topic_common_level (texts[i], topic), slice (NULL, 0)) || topic_common_level (texts[i], topic).len == 0);
        patterns[pattern_count++] = texts[i];
    }
    bool exact;
    const struct fm_slice level = topic_patterns_level (patterns, pattern_count, &exact);
    for (size_t i = 0; i < pattern_count; i++) {
        if (!topic_match (patterns[i], topic))
            continue;
        assert (exact ? slice_equal (level, topic) : topic_is_under (topic, level));
        assert (filtered_in (level, exact, topic));
    }
    return 0;
}
