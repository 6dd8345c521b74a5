/* pub_options: what `factmesh pub` is asked to do. */

#ifndef FM_CLI_PUB_OPTIONS_H
#define FM_CLI_PUB_OPTIONS_H

#include "fm_limits.h"
#include "options.h"

enum pub_format { PUB_LINES, PUB_NULL, PUB_WHOLE, PUB_CSV, PUB_JSON };

enum {
    PUB_FILES_MAX = 1024,
    PUB_HEADERS_SIZE = HEADER_BYTES_MAX + HEADERS_MAX * 16 /* encoded */
};

struct pub_options {
    const char *topic;
    char **texts; /* facts as arguments */
    size_t text_count;
    const char *files[PUB_FILES_MAX];
    size_t file_count;
    enum pub_format format;
    bool csv_raw;
    uint8_t csv_delimiter;
    const char *key; /* of CSV and JSON the column or member, else the key itself */
    const char *fact_identity; /* the same */
    const char *topic_column;
    struct fm_fact fact; /* what is the same for all */
    uint8_t headers[PUB_HEADERS_SIZE];
    size_t headers_len, header_count;
    uint64_t rate; /* facts a second; 0: as fast as it goes */
    uint64_t payload_max;
    uint64_t blob_over; /* larger payloads become blobs; 0: none does */
    const char *stream, *identity;
    bool ephemeral;
    const char *journals;
    bool no_wait, print_ids;
    enum fm_window window; /* --window-on-disk */
    bool lost_again;
    const char *ack_log;
};

/* -1: go on; otherwise end with this exit status. */
int pub_options_parse (int argc, char **argv, struct cli *cli, struct pub_options *o);

#endif
