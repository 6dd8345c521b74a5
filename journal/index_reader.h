/* index_reader: the index as another thread reads it: which facts are the newest of their keys, for sessions that begin with them.
 *
 * Owns:    a connection of its own to the index's database. It is opened again when the indexer made the database anew.
 * Thread:  one (the server's).
 * Promise: a page knows of everything below its end. What the index lacks of that is waited for, as long as the index comes on. */

#ifndef FM_JOURNAL_INDEX_READER_H
#define FM_JOURNAL_INDEX_READER_H

#include "context.h"
#include "replay_latest.h"

enum { INDEX_READER_ROWS = 4096 };      /* of one page */

struct index_reader;

int index_reader_new (struct journal_context *context, struct index_reader **ret_reader);
void index_reader_destroy (struct index_reader **reader);

/* For replay_request.index; valid as long as the reader. FM_TIMEOUT: the index has not come on for INDEXER_WAIT_MS. */
const struct replay_index *index_reader_latest (const struct index_reader *reader);

#endif
