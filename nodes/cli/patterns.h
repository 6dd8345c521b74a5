/* patterns: the topic patterns that stand behind a subcommand's options. Borrows argv. */

#ifndef FM_CLI_PATTERNS_H
#define FM_CLI_PATTERNS_H

#include "bytes.h"
#include "fm_limits.h"
#include "options.h"

struct patterns {
    struct fm_slice items[FILTERS_MAX];
    size_t count; /* 0: every topic matches */
};

/* Check and take all arguments from `args` to its NULL. -1, or an exit status after a message. */
int patterns_parse (const struct cli *cli, char *const *args, struct patterns *ret_patterns);

/* Are these the patterns of a text with commas between (none: ">"), in any order? */
bool patterns_are (const struct patterns *p, struct fm_slice text);
bool patterns_match (const struct patterns *p, struct fm_slice topic);

#endif
