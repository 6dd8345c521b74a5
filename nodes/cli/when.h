/* when: places in the flow and points in time, as people type them; and times written for people and programs. Pure.
 *
 *   start  end  latest  -100 (so many facts before the end)  cursor:NAME  offset:N
 *   @2026-11-01  @2026-11-01T10:00  @2026-11-01T10:00:30.5Z  @2026-11-01T10:00+01:00   without a zone: local time
 *   @1793527200 (Unix seconds)  @-1h30m (so long ago)  @now
 *
 * Errors:  FM_ERR_ARGUMENT, with a detail that says what is wrong with the text and what would do. */

#ifndef FM_CLI_WHEN_H
#define FM_CLI_WHEN_H

#include <stdbool.h>
#include <stdint.h>

#include "fm_types.h"

enum when_kind { WHEN_START, WHEN_END, WHEN_LAST, WHEN_TIME, WHEN_CURSOR, WHEN_OFFSET, WHEN_LATEST };

struct when {
    enum when_kind kind;
    uint64_t value;   /* WHEN_LAST: facts; WHEN_TIME: Unix ns; WHEN_OFFSET */
    const char *name; /* WHEN_CURSOR: points into the text */
};
/* Is it one of these forms, right or wrong within? */
bool when_is_known (const char *text);
int when_parse (const char *text, uint64_t now_ns, struct when *ret_when);

/* A point in time, without the @. */
int when_time (const char *text, uint64_t now_ns, uint64_t *ret_ns);

/* "90", "1.5s", "250ms", "1h30m", "30d": ns, us, ms, s, m, h, d, w; a number alone is seconds. */
int when_duration (const char *text, uint64_t *ret_ns);

/* "2026-11-23T15:24:00.123456789Z": exact, and sorts. Writes WHEN_TEXT bytes with the NUL; returns text. */
#define WHEN_TEXT 31
char *when_format (uint64_t unix_ns, char text[WHEN_TEXT]);

#endif
