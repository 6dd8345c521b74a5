/* fact_finder: one fact of the log, by its offset or by its name, as a batch of its own.
 *
 * Owns:    a reader of the log, and a bounded cache of what was put or found last.
 * Thread:  one. */

#ifndef FM_JOURNAL_FACT_FINDER_H
#define FM_JOURNAL_FACT_FINDER_H

#include "batch.h"
#include "log.h"

enum { FACT_FINDER_CHAIN_MAX = 64 };

struct fact_finder;

int fact_finder_new (struct log *log, size_t cache_bytes, struct fact_finder **ret_finder);
void fact_finder_destroy (struct fact_finder **finder);

/* What was just read from the log, and is likely to be asked for soon. Without memory for it: it is read again later. */
void fact_finder_put (struct fact_finder *f, uint64_t offset, const struct batch *b, const struct fm_fact *fact);

/* The fact at a synced offset; *ret_batch holds it alone, until the next call. Returns 0; FM_ERR_UNKNOWN: nothing readable is there (any more);
 * -errno, -ENOMEM. */
int fact_finder_at (struct fact_finder *f, uint64_t offset, struct fm_slice *ret_batch);

/* The same, taken apart: the fact's slices point into the batch. */
int fact_finder_read (struct fact_finder *f, uint64_t offset, struct fm_slice *ret_batch, struct fm_fact *ret_fact);

/* Where a fact is recorded. 0; FM_ERR_UNKNOWN: this log does not have it, or not any more. */
int fact_finder_offset (struct fact_finder *f, const struct fm_fact_id *id, uint64_t *ret_offset);

/* The first of the chain of corrections that fact belongs to, and its offset. Returns 0; FM_ERR_UNKNOWN with a detail: one of the chain is not in
 * this log; FM_ERR_END: one of it expired; FM_ERR_LIMIT: the chain is longer than FACT_FINDER_CHAIN_MAX, or goes in a circle. */
int fact_finder_root (struct fact_finder *f, const struct fm_fact *fact, struct fm_fact_id *ret_root, uint64_t *ret_offset);

#endif
