#include "topic.h"
#include "error.h"

#include <assert.h>
#include <stdio.h>

/* Bytes that no topic holds: control bytes would break logs and the NUL that ends a wire topic, FF begins the reserved
 * ones. */
static inline bool is_forbidden (uint8_t c)
{
    return c < 0x20 || c == 0x7F || c == RESERVED_BYTE;
}

/* A topic for a message: what a terminal should not get is shown as \xNN, and the end of a long one left out. */
static const char *printable (struct fm_slice s, char text[4 * 40 + 4])
{
    const uint8_t *bytes = s.data;
    char *p = text;
    for (size_t i = 0; i < s.len && i < 40; i++)
        p += sprintf (p, bytes[i] < 0x20 || bytes[i] >= 0x7F ? "\\x%02x" : "%c", bytes[i]);
    strcpy (p, s.len > 40 ? "..." : "");
    return text;
}

static int fault (const char *what, struct fm_slice s, size_t pos, const char *why)
{
    char text[4 * 40 + 4];
    return error_set (FM_ERR_TOPIC, "%s '%s', byte %zu: %s", what, printable (s, text), pos, why);
}

/* The rules that topics and patterns share; wildcards: where a whole level may be `*` or, last, `>`. */
static int check (const char *what, struct fm_slice s, bool wildcards)
{
    if (s.len == 0)
        return error_set (FM_ERR_TOPIC, "%s is empty", what);
    if (s.len > TOPIC_MAX)
        return error_set (FM_ERR_TOPIC, "%s has %zu bytes, more than %d", what, s.len, TOPIC_MAX);
    const uint8_t *bytes = s.data;
    size_t level_pos = 0;
    unsigned levels = 0;
    for (size_t i = 0; i <= s.len; i++) {
        if (i < s.len && bytes[i] != '.') {
            if (is_forbidden (bytes[i]))
                return fault (what, s, i, "this byte is not allowed");
            continue;
        }
        if (i == level_pos)
            return fault (what, s, i, "an empty level");
        if (++levels > TOPIC_LEVELS_MAX)
            return fault (what, s, level_pos, "more than 16 levels");
        if (i == level_pos + 1 && (bytes[level_pos] == '*' || bytes[level_pos] == '>')) {
            if (!wildcards)
                return fault (what, s, level_pos, "a wildcard, which only patterns may have");
            if (bytes[level_pos] == '>' && i < s.len)
                return fault (what, s, level_pos, "`>` must be the last level");
        }
        level_pos = i + 1;
    }
    return 0;
}

int topic_check (struct fm_slice topic)
{
    return check ("topic", topic, false);
}

int topic_pattern_check (struct fm_slice pattern)
{
    return check ("pattern", pattern, true);
}

/* The position behind the level that begins at pos: of its dot, or the end. */
static size_t level_end (struct fm_slice s, size_t pos)
{
    const uint8_t *bytes = s.data;
    const uint8_t *dot = memchr (bytes + pos, '.', s.len - pos);
    return dot ? (size_t) (dot - bytes) : s.len;
}

static bool level_is (struct fm_slice s, size_t pos, size_t end, char c)
{
    return end == pos + 1 && ((const char *) s.data)[pos] == c;
}

size_t topic_pattern_prefix (struct fm_slice pattern)
{
    for (size_t pos = 0; pos < pattern.len;) {
        const size_t end = level_end (pattern, pos);
        if (level_is (pattern, pos, end, '*') || level_is (pattern, pos, end, '>'))
            return pos;
        pos = end + 1;
    }
    return pattern.len;
}

bool topic_match (struct fm_slice pattern, struct fm_slice topic)
{
    const uint8_t *p = pattern.data, *t = topic.data;
    size_t pp = 0, tp = 0;
    while (pp < pattern.len && tp < topic.len) {
        const size_t pe = level_end (pattern, pp);
        if (level_is (pattern, pp, pe, '>'))
            return true;
        const size_t te = level_end (topic, tp);
        if (!level_is (pattern, pp, pe, '*') && (pe - pp != te - tp || memcmp (p + pp, t + tp, pe - pp) != 0))
            return false;
        pp = pe + 1;
        tp = te + 1;
    }
    return pp >= pattern.len && tp >= topic.len;
}

bool topic_is_under (struct fm_slice topic, struct fm_slice level)
{
    if (level.len == 0)
        return true;
    if (topic.len < level.len || memcmp (topic.data, level.data, level.len) != 0)
        return false;
    return topic.len == level.len || ((const uint8_t *) topic.data)[level.len] == '.';
}

unsigned topic_depth (struct fm_slice topic)
{
    const uint8_t *bytes = topic.data;
    unsigned depth = topic.len > 0;
    for (size_t i = 0; i < topic.len; i++)
        depth += bytes[i] == '.';
    return depth;
}

struct fm_slice topic_level (struct fm_slice topic, unsigned depth)
{
    if (depth == 0)
        return slice (topic.data, 0);
    const uint8_t *bytes = topic.data;
    for (size_t i = 0; i < topic.len; i++) {
        if (bytes[i] == '.' && --depth == 0)
            return slice (topic.data, i);
    }
    return topic;
}

struct fm_slice topic_common_level (struct fm_slice a, struct fm_slice b)
{
    const uint8_t *x = a.data, *y = b.data;
    const size_t shorter = a.len < b.len ? a.len : b.len;
    size_t common = 0, i = 0;
    for (; i < shorter && x[i] == y[i]; i++) {
        if (x[i] == '.')
            common = i;
    }
    /* One ran out where the other ends too or goes one level deeper. */
    if (i == shorter && (a.len == i || x[i] == '.') && (b.len == i || y[i] == '.'))
        common = i;
    return slice (a.data, common);
}

/* A pattern's levels before its first wildcard. */
static struct fm_slice literal_level (struct fm_slice pattern)
{
    for (size_t pos = 0; pos < pattern.len;) {
        const size_t end = level_end (pattern, pos);
        if (level_is (pattern, pos, end, '*') || level_is (pattern, pos, end, '>'))
            return slice (pattern.data, pos ? pos - 1 : 0);
        pos = end + 1;
    }
    return pattern;
}

struct fm_slice topic_patterns_level (const struct fm_slice *patterns, size_t count, bool *ret_exact)
{
    if (count == 0) {
        *ret_exact = false;
        return slice (NULL, 0);
    }
    struct fm_slice level = literal_level (patterns[0]);
    bool exact = level.len == patterns[0].len;
    for (size_t i = 1; i < count; i++) {
        exact = exact && slice_equal (patterns[i], patterns[0]);
        level = topic_common_level (level, literal_level (patterns[i]));
    }
    *ret_exact = exact;
    return level;
}

size_t topic_to_wire (struct fm_slice topic, uint8_t *wire)
{
    assert (topic.len <= TOPIC_MAX);
    wire[0] = '.';
    if (topic.len == 0)
        return 1;
    memcpy (wire + 1, topic.data, topic.len);
    wire[topic.len + 1] = '.';
    return topic.len + 2;
}

int topic_from_frame (const uint8_t *frame, size_t len, struct fm_slice *ret_topic, struct fm_slice *ret_body)
{
    if (len == 0 || frame[0] != '.')
        return error_set (FM_ERR_MALFORMED, "frame of %zu bytes: no wire topic in front", len);
    const size_t search = len < WIRE_TOPIC_MAX + 1 ? len : WIRE_TOPIC_MAX + 1;
    const uint8_t *nul = memchr (frame, 0, search);
    if (!nul)
        return error_set (FM_ERR_MALFORMED, "frame of %zu bytes: no NUL ends the wire topic", len);
    const size_t wire_len = (size_t) (nul - frame);
    struct fm_slice topic = slice (frame + 1, 0);
    if (wire_len > 1) {
        if (wire_len < 3 || nul[-1] != '.')
            return error_set (FM_ERR_MALFORMED, "frame of %zu bytes: no dot ends the wire topic", len);
        topic.len = wire_len - 2;
        if (topic_check (topic) != 0)
            return error_set (FM_ERR_MALFORMED, "frame of %zu bytes: %s", len, fm_error_detail ());
    }
    *ret_topic = topic;
    *ret_body = slice (nul + 1, len - wire_len - 1);
    return 0;
}

static void put_filter (struct topic_wire_filter *filter, struct fm_slice level, bool exact)
{
    uint8_t wire[WIRE_TOPIC_MAX + 1];
    size_t len = topic_to_wire (level, wire);
    if (exact)
        wire[len++] = 0;
    /* Cut, a filter takes in a little more than was asked; the receiver looks at each topic anyway. */
    filter->len = len < WIRE_FILTER_MAX ? len : WIRE_FILTER_MAX;
    memcpy (filter->bytes, wire, filter->len);
}

size_t topic_wire_filters (struct fm_slice level, bool exact, struct topic_wire_filter ret_filters[TOPIC_LEVELS_MAX + 1])
{
    const unsigned depth = topic_depth (level);
    assert (depth <= TOPIC_LEVELS_MAX);
    size_t count = 0;
    put_filter (&ret_filters[count++], level, exact && depth > 0);
    for (unsigned above = 0; above < depth; above++)
        put_filter (&ret_filters[count++], topic_level (level, above), true);
    return count;
}
