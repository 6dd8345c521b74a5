/* output: facts written for people and programs, many to one write(2).
 *
 * Owns:    the buffer, which it keeps; not the descriptor.
 * Promise: output_flush returns 0 only when all that was put has been taken by the descriptor: acknowledge after that.
 * Errors:  -EPIPE (the reader has gone), FM_INTERRUPTED (a signal came while the descriptor took nothing: what is left
 * stays), -errno. */

#ifndef FM_CLI_OUTPUT_H
#define FM_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "factmesh.h"

enum output_format {
    OUTPUT_PAYLOAD, /* the payload and a newline */
    OUTPUT_NULL,    /* the payload and a NUL */
    OUTPUT_RAW,     /* the payload alone */
    OUTPUT_LONG,    /* a line: time topic key type STREAM:SEQ payload */
    OUTPUT_JSON,    /* a line: an object with all fields */
    OUTPUT_CUSTOM   /* as `custom` says, see OUTPUT_CUSTOM_HELP */
};

#define OUTPUT_CUSTOM_HELP                                                                                             \
    "  %p payload   %t topic   %k key   %y type   %c content type   %i id, STREAM:SEQ   %s sequence\n"                 \
    "  %S stream    %T time    %N time in Unix ns   %C correlation   %A causation\n"                       \
    "  %h headers, NAME=VALUE with commas between   %D the fact that it repeats, where that was found out\n"                 \
    "  %% a percent sign   \\n \\t \\0 \\\\ as in printf\n"

struct output_options {
    enum output_format format;
    const char *custom; /* OUTPUT_CUSTOM */
    bool offsets;       /* known: OUTPUT_LONG and OUTPUT_JSON begin with it, OUTPUT_CUSTOM knows %o */
    int fd;
    bool (*interrupted) (void); /* asked after EINTR; NULL: never */
};

struct output;

/* FM_ERR_ARGUMENT: the custom format has a directive that is none, with a detail. */
int output_new (const struct output_options *options, struct output **ret_output);
void output_destroy (struct output **output);
enum output_format output_format (const struct output *o);

/* The fact that is put next repeats this one (NULL: none): OUTPUT_LONG writes STREAM:SEQ=STREAM:SEQ, OUTPUT_JSON "duplicate_of". */
void output_duplicate (struct output *o, const struct fm_fact_id *first);
/* Put one fact; flushes by itself once much has gathered. offset: with options.offsets. */
int output_fact (struct output *o, const struct fm_fact *fact, uint64_t offset);
/* Put one gap, as OUTPUT_JSON writes it: {"event":"gap",…}. */
int output_gap_json (struct output *o, const struct fm_gap *gap);
/* Put {"event":"NAME"}. */
int output_event_json (struct output *o, const char *name);
/* Put a line. */
int output_line (struct output *o, const char *line);

int output_flush (struct output *o);
/* Nothing is left to be written. */
bool output_is_flushed (const struct output *o);

const char *output_gap_reason (enum fm_gap_reason reason);

#endif
