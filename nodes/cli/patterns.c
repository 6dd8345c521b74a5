/* patterns: see patterns.h. */

#include "patterns.h"

#include <string.h>

#include "topic.h"

/* Does a level hold '*' or '>' beside other bytes? There they are bytes like any other. */
static bool looks_like_a_glob (struct fm_slice pattern)
{
    const char *const p = pattern.data;
    for (size_t i = 0; i < pattern.len; i++) {
        const bool begins = i == 0 || p[i - 1] == '.', ends = i + 1 == pattern.len || p[i + 1] == '.';
        if ((p[i] == '*' || p[i] == '>') && !(begins && ends))
            return true;
    }
    return false;
}

int patterns_parse (const struct cli *cli, char *const *args, struct patterns *ret_patterns)
{
    size_t count = 0;
    for (; args[count]; count++) {
        if (count == FILTERS_MAX)
            return cli_usage (cli, "more than %d patterns", FILTERS_MAX);
        ret_patterns->items[count] = fm_text (args[count]);
        if (topic_pattern_check (ret_patterns->items[count]) < 0)
            return cli_usage (cli, "%s", fm_error_detail ());
        if (!cli->quiet && looks_like_a_glob (ret_patterns->items[count]))
            cli_say (cli, "note: pattern '%s' matches this literal text: * and > stand for topics only as a whole level",
                     args[count]);
    }
    ret_patterns->count = count;
    return -1;
}

static bool lists (struct fm_slice text, struct fm_slice pattern)
{
    const uint8_t *p = text.data, *const end = p + text.len;
    for (;; p++) {
        const uint8_t *comma = memchr (p, ',', (size_t) (end - p));
        const size_t len = (size_t) ((comma ? comma : end) - p);
        if (slice_equal (slice (p, len), pattern))
            return true;
        if (!comma)
            return false;
        p = comma;
    }
}

/* A pattern may hold commas itself: so many items does it take. */
static size_t count_items (struct fm_slice text)
{
    size_t n = 1;
    for (size_t i = 0; i < text.len; i++)
        n += ((const uint8_t *) text.data)[i] == ',';
    return n;
}

bool patterns_are (const struct patterns *p, struct fm_slice text)
{
    size_t items = 0;
    if (p->count == 0)
        return slice_equal (text, slice_of (">"));
    for (size_t i = 0; i < p->count; i++) {
        items += count_items (p->items[i]);
        if (count_items (p->items[i]) == 1 && !lists (text, p->items[i]))
            return false;
    }
    return items == count_items (text);
}

bool patterns_match (const struct patterns *p, struct fm_slice topic)
{
    for (size_t i = 0; i < p->count; i++)
        if (topic_match (p->items[i], topic))
            return true;
    return p->count == 0;
}
