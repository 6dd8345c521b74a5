/* tool: what the test programs with a main share: numbers, clocks, lines.
 *
 * A tool talks in lines on standard output, each written at once: a WORD and then key=value. */

#ifndef FM_TESTS_TOOL_H
#define FM_TESTS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fm_types.h"

enum { TOOL_ID_TEXT = 33 };

/* Write each line at once, whatever standard output is. */
void tool_lines (void);
/* 32 hex digits and a NUL. */
char *tool_id_text (const struct fm_id *id, char *text);
int tool_id_parse (const char *text, struct fm_id *ret_id); /* 0 or -EINVAL */
/* A whole decimal number, or the end of the program with status 2 and a line that names the option. */
uint64_t tool_number (const char *option, const char *text);
uint64_t tool_now_us (void); /* monotonic */
void tool_sleep_until_us (uint64_t at_us);
/* Wait for a line on standard input and store it without its newline; false at its end. */
bool tool_line_read (char *line, size_t size);

#endif
