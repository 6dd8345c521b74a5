/* directory: see directory.h. */

#include "directory.h"

#include <stdlib.h>

#include "error.h"

int directory_argument (const struct cli *cli, int argc, char **argv, const char **ret_path)
{
    if (argc - optind != 1)
        return cli_usage (cli, optind == argc ? "which directory?" : "one directory at a time");
    *ret_path = argv[optind];
    return -1;
}

int directory_open (const struct cli *cli, const char *path, struct log **ret_log)
{
    const struct log_options options = { .read_only = true };
    struct log_recovery recovery;
    const int rc = log_open (path, &options, &recovery, ret_log);
    return rc < 0 ? cli_fail (cli, rc, "%s", path) : CLI_OK;
}

int directory_segments (const struct cli *cli, struct log *log, struct log_segment_info **ret_segments,
                        size_t *ret_count)
{
    struct log_segment_info *segments = NULL;
    for (size_t max = 64;; max *= 2) {
        struct log_segment_info *more = realloc (segments, max * sizeof *more);
        if (!more) {
            free (segments);
            return cli_error (cli, "no memory for %zu segments", max);
        }
        segments = more;
        const int rc = log_segment_list (log, segments, max, ret_count);
        if (rc < 0) {
            free (segments);
            return cli_fail (cli, rc, "segments");
        }
        if (*ret_count < max) {
            *ret_segments = segments;
            return CLI_OK;
        }
    }
}
