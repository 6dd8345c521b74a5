/* input_json: a JSON object a line (NDJSON, JSON Lines). The payload is the line as it is, once it has been checked;
 * lines of blanks alone are skipped.
 *
 * Owns:    one parser, used again for each line. Borrows the input.
 * Errors:  those of input.h. */

#ifndef FM_CLI_INPUT_JSON_H
#define FM_CLI_INPUT_JSON_H

#include "input.h"

struct json_lines_options {
    const char *key; /* names of members; NULL: none */
    const char *identity;
    const char *level;
};

struct json_lines;

int json_lines_new (struct input *in, const struct json_lines_options *options, struct json_lines **ret_json);
void json_lines_destroy (struct json_lines **json);
int json_lines_next (struct json_lines *json, struct input_record *ret_record);

#endif
