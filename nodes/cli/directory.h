/* directory: a journal's data directory, read without a journal: for inspect, verify and dump. Nothing in it is
 * changed, and it may be in use. */

#ifndef FM_CLI_DIRECTORY_H
#define FM_CLI_DIRECTORY_H

#include "log.h"
#include "options.h"

/* The one argument DIR behind the options. -1, or an exit status after a message. */
int directory_argument (const struct cli *cli, int argc, char **argv, const char **ret_path);

/* CLI_OK, or an exit status after a message. */
int directory_open (const struct cli *cli, const char *path, struct log **ret_log);

/* Every segment, in order; the caller frees. CLI_OK or an exit status. */
int directory_segments (const struct cli *cli, struct log *log, struct log_segment_info **ret_segments,
                        size_t *ret_count);

#endif
