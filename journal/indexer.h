/* indexer: reads the synced log behind everybody else, and keeps an index of what the insides of facts say (index_db.h): the newest fact of each key,
 * causes, corrections, conversations. Answers what is asked of it: FactGet, LinksGet.
 *
 * Owns:    the thread, DIR/index/.
 * Promise: an answer knows of everything that was synced when its request came. Batches whose features say that nothing within matters are not decoded.
 *          An index that is lost, damaged anywhere, ahead of the log or of another version is made again from the log; requests wait for it, INDEXER_WAIT_MS
 *          at most, and are refused with TIMEOUT then. What it says of a fact is compared with the fact before it is told.
 * Bounded: one transaction of INDEXER_ROWS rows at a time; requests that wait; rows of an answer. */

#ifndef FM_JOURNAL_INDEXER_H
#define FM_JOURNAL_INDEXER_H

#include "blobs.h"
#include "context.h"

enum {
    INDEXER_ROWS = 4096,
    INDEXER_PAUSE_MS = 50,              /* while something is recorded, between two looks */
    INDEXER_RECORDS = 4096,             /* read in one turn */
    INDEXER_PLACE_FACTS = 1 << 20,      /* passed over before the place is put down */
    INDEXER_WAITING_MAX = 1024,
    INDEXER_WAIT_MS = 10000,            /* for the index to come up to a request */
    INDEXER_LINKS_MAX = 1000,           /* of one answer */
    INDEXER_REPLY_BYTES = 1 << 20,      /* of facts in one answer, about */
    INDEXER_RETRY_MS = 1000,            /* after an error of the database */
    INDEXER_FORGET_MS = 60000
};

struct indexer;

/* In DIRECTORY/index/, made if it is not there. Tells the blobs, which it borrows, what is pointed to. */
int indexer_new (struct journal_context *context, const char *directory, struct blobs *blobs, struct indexer **ret_indexer);
void indexer_destroy (struct indexer **indexer);

/* Any thread: how far it is, everything below is in the index; somebody waits for it to come on; and how often the database was given up, to be made anew:
 * whoever reads it opens it again then. */
uint64_t indexer_next (const struct indexer *x);
void indexer_ask (struct indexer *x);
unsigned indexer_made (const struct indexer *x);
/* That making of it is damaged: it is to be made anew. */
void indexer_doubt (struct indexer *x, unsigned made);
/* The path of the database, for readers of their own (index_db_open, read_only). */
const char *indexer_path (const struct indexer *x);

/* The hash under which a conversation is found. */
uint64_t indexer_correlation_hash (struct fm_slice correlation);

#endif
