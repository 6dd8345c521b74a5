/* progress: one line on a terminal that says how far a command is. Says nothing where standard error is no terminal. */

#ifndef FM_CLI_PROGRESS_H
#define FM_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool on, shown;
    uint64_t started_ms, drawn_ms;
};

void progress_init (struct progress *p, bool quiet);

/* Draw "12,345 of 20,000 facts VERB, 8,000/s", at most some times a second. all: 0 when it is not known. Cheap when it
 * is not due. */
void progress_draw (struct progress *p, uint64_t done, uint64_t all, const char *verb);

/* The same for bytes: "1,234 of 4,096 MiB VERB"; all: 0 when it is not known. */
void progress_draw_bytes (struct progress *p, uint64_t done, uint64_t all, const char *verb);

/* Wipe the line, before something else is written to the terminal. */
void progress_clear (struct progress *p);

#endif
