/* input: records out of a file or standard input, one at a time: lines, NUL-separated, or the whole.
 *
 * Owns:    the descriptor that it opened and one buffer, which grows to the longest record.
 * Bounded: record_max bytes a record. A longer one is refused as soon as that shows, not read to its end.
 * Waits:   for the descriptor, and for wake_fd beside it, so that a signal ends a read. After idle_ms without bytes it
 * says FM_TIMEOUT and loses nothing: call again. Errors:  FM_ERR_END, FM_TIMEOUT, FM_INTERRUPTED (wake_fd is readable),
 * FM_ERR_TOO_LARGE, FM_ERR_MALFORMED, -errno; all but the first three with a detail that begins `FILE:LINE:`. */

#ifndef FM_CLI_INPUT_H
#define FM_CLI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

struct input_options {
    size_t record_max; /* bytes */
    int wake_fd;       /* -1: none */
    int idle_ms;       /* -1: for ever */
};

/* One record. Slices are valid until the next call. */
struct input_record {
    struct fm_slice payload;
    struct fm_slice key;   /* of the column or member that was asked for */
    struct fm_slice identity;
    struct fm_slice level; /* likewise: a level to append to the topic */
    uint64_t line;         /* where it begins, from 1 */
};

struct input;

/* path "-" is standard input. -errno with a detail. */
int input_open (const char *path, const struct input_options *options, struct input **ret_input);
void input_destroy (struct input **input);
const char *input_name (const struct input *in);

/* The bytes up to the delimiter, without it; at the end of the file what is left, if anything. Any bytes, empty ones
 * too. */
int input_line (struct input *in, uint8_t delimiter, struct input_record *ret_record);
/* All of it, as one record; an empty file is an empty record. Then FM_ERR_END. */
int input_whole (struct input *in, struct input_record *ret_record);

/* --- For parsers that find the ends of records themselves (input_csv). */

/* What is buffered of the record that is being read: from its first byte. Moves with each input_more. */
struct fm_slice input_pending (const struct input *in);
/* Read more behind it. The errors above; FM_ERR_END: there is no more. */
int input_more (struct input *in);
/* The first len pending bytes are a record, and taken; they stay valid until the next input_more. newlines: how many
 * are within. */
void input_take (struct input *in, size_t len, uint64_t newlines);
/* The line where the pending record begins. */
uint64_t input_line_number (const struct input *in);

#endif
