/* patterns: see patterns.h. */

#include "patterns.h"

#include "topic.h"

int patterns_parse (const struct cli *cli, char *const *args, struct patterns *ret_patterns)
{
    size_t count = 0;
    for (; args[count]; count++) {
        if (count == FILTERS_MAX)
            return cli_usage (cli, "more than %d patterns", FILTERS_MAX);
        ret_patterns->items[count] = fm_text (args[count]);
        if (topic_pattern_check (ret_patterns->items[count]) < 0)
            return cli_usage (cli, "%s", fm_error_detail ());
    }
    ret_patterns->count = count;
    return -1;
}

bool patterns_match (const struct patterns *p, struct fm_slice topic)
{
    for (size_t i = 0; i < p->count; i++)
        if (topic_match (p->items[i], topic))
            return true;
    return p->count == 0;
}
