/* large: payloads that travel as blobs: `pub --blob-over`, `sub --fetch`, `replay --fetch`.
 *
 * Thread:  one. A payload is in memory as a whole, at both ends: LARGE_MAX at most. What is larger is for `factmesh blob`.
 * Errors:  those of fm_blob_put and fm_fact_payload, FM_INTERRUPTED (a signal came meanwhile). */

#ifndef FM_CLI_LARGE_H
#define FM_CLI_LARGE_H

#include "options.h"

#define LARGE_MAX (UINT64_C (1) << 30)
#define LARGE_FETCH_DEFAULT (UINT64_C (64) << 20)

#define LARGE_FETCH_LONG(option)                                                                                       \
    {                                                                                                                  \
        "fetch", optional_argument, NULL, option                                                                       \
    }
#define LARGE_FETCH_HELP                                                                                               \
    "      --fetch[=SIZE]       a fact that only points to a blob is printed with the blob's content, fetched from a\n" \
    "                           journal and verified. It ends with 1 at one that is gone, damaged, or larger than\n" \
    "                           SIZE [64M, at most 1G]\n"

/* --fetch's value; NULL: the default. -1, or the exit status of a usage error. */
int large_fetch_option (const struct cli *cli, const char *value, uint64_t *ret_max);

/* Store the fact's payload, and let it point there instead. `ref` and the node outlive the publishing. journal: its id or the first digits; NULL: any. */
int large_store (struct fm_node *node, const char *journal, int timeout_ms, struct fm_fact *fact, uint8_t ref[FM_BLOB_REF]);

/* A fact that has no payload of its own, and points to a blob, gets that. *ret_buffer: for the caller to free; NULL: nothing was needed. The detail
 * of an error names the fact. */
int large_fetch (struct fm_node *node, uint64_t max, int timeout_ms, struct fm_fact *fact, void **ret_buffer);

#endif
