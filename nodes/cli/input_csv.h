/* input_csv: rows of a CSV file: RFC 4180 with its quotes, embedded commas and newlines; the first row names the
 * columns.
 *
 * A row becomes a JSON object of strings, or stays as it is. It is read strictly: what does not follow the grammar is
 * refused with file, line, and what is wrong, not guessed at. Empty lines between rows are skipped when there are
 * several columns; a byte order mark is too. Owns:    the columns' names and one buffer for what it unescapes. Borrows
 * the input. Errors:  those of input.h. Once FM_ERR_MALFORMED, always: where the next row begins cannot be known. */

#ifndef FM_CLI_INPUT_CSV_H
#define FM_CLI_INPUT_CSV_H

#include "input.h"

enum { CSV_COLUMNS_MAX = 4096 };

struct csv_options {
    uint8_t delimiter; /* 0: a comma */
    bool raw;          /* the payload is the line as it is */
    const char *key;   /* names of columns; NULL: none */
    const char *identity;
    const char *level;
};

struct csv;

int csv_new (struct input *in, const struct csv_options *options, struct csv **ret_csv);
void csv_destroy (struct csv **csv);
int csv_next (struct csv *csv, struct input_record *ret_record);

#endif
