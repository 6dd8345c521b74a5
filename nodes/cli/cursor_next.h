/* cursor_next: what lies beyond a named cursor, and stepping over facts that its consumer cannot take.
 *
 * Thread:  one.
 * Promise: a step is put on the cursor's own place, for the streams of the facts that are stepped over alone: what it had
 * not done of other streams stays to be done.
 * Errors:  after a message: each returns CLI_OK or an exit status. */

#ifndef FM_CLI_CURSOR_NEXT_H
#define FM_CLI_CURSOR_NEXT_H

#include "link.h"

enum { CURSOR_NEXT_MAX = 1000 };

/* Print the next `count` facts that its consumer would get, in the journal's order, as `sub --long` or `sub --json` do. */
int cursor_next_print (struct link *link, const char *name, uint64_t count, bool json);

/* Which facts: the next `count`, or when that is 0 the one that `past` names. */
struct cursor_step {
    uint64_t count;
    struct fm_fact_id past;
    bool force; /* also over facts of its stream that come before it and are not done */
};
/* Move the cursor over them. Refused: a fact that is not among those to come; one with others of its stream before it. */
int cursor_step_over (struct link *link, const char *name, const struct cursor_step *step);

#endif
