/* format_options: how facts are printed, the same for sub, replay and dump. */

#ifndef FM_CLI_FORMAT_OPTIONS_H
#define FM_CLI_FORMAT_OPTIONS_H

#include "options.h"
#include "output.h"

/* For the tables of options; those of a subcommand itself begin at OPT_FORMAT_OWN. */
enum { OPT_OUT_NULL = OPT_OWN, OPT_OUT_RAW, OPT_OUT_JSON, OPT_OUT_FORMAT, OPT_FORMAT_OWN };
#define FORMAT_SHORT "v"
#define FORMAT_LONG                                                                                                    \
    { "long", no_argument, NULL, 'v' }, { "json", no_argument, NULL, OPT_OUT_JSON },                                   \
        { "raw", no_argument, NULL, OPT_OUT_RAW }, { "null", no_argument, NULL, OPT_OUT_NULL },                        \
    {                                                                                                                  \
        "format", required_argument, NULL, OPT_OUT_FORMAT                                                              \
    }

#define FORMAT_HELP                                                                                                    \
    "Printing (default: the payload and a newline):\n"                                                                 \
    "  -v, --long               time, topic, key, type, STREAM:SEQ and payload on a line; control bytes and\n"         \
    "                           \\ as \\n \\t \\\\ \\xHH, spaces too but in the payload; - stands for none\n"          \
    "      --json               a JSON object a line; bytes that are not UTF-8 as NAME_base64\n"                       \
    "      --raw                payloads one behind the other\n"                                                       \
    "      --null               a NUL behind each payload instead of a newline\n"                                      \
    "      --format FORMAT      as FORMAT says:\n" OUTPUT_CUSTOM_HELP

/* -2: not one of these; -1: go on; otherwise end with this exit status. */
int format_option (const struct cli *cli, struct output_options *o, int option, const char *value);

/* Tell a gap: in JSON as an object on standard output, else on standard error after what was printed so far. 0 or
 * output.h's errors. */
int format_gap (const struct cli *cli, struct output *out, const struct fm_gap *gap);

/* The exit status for an error of output.h: a reader that went is no error. */
int format_output_failed (const struct cli *cli, int code);

#endif
