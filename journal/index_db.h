/* index_db: what the insides of facts say, in SQLite: the newest fact of each key, what caused or corrects what, conversations. All of it follows from the
 * log: the file can be deleted, and is made again. Every call that asks or says returns 0, -errno, or FM_ERR_CORRUPT when the file is damaged.
 *
 * Owns:    the connection. Offsets point into the log; its own place is in the same transaction as what it says.
 * Thread:  one writes; each reader opens its own (read_only).
 * Bytes:   SQLite's; tables at the head of index_db.c. Not a promise: another version is deleted and made again. */

#ifndef FM_JOURNAL_INDEX_DB_H
#define FM_JOURNAL_INDEX_DB_H

#include <stdbool.h>

#include "bytes.h"
#include "id.h"

struct index_db;

enum index_link { INDEX_CAUSED = 1, INDEX_CORRECTED = 2 };

/* Open what is there. FM_ERR_UNKNOWN: nothing is; FM_ERR_FOREIGN: it is another journal's, generation's or version's; FM_ERR_CORRUPT; else -errno, with
 * SQLite's words. */
int index_db_open (const char *path, const struct fm_id *journal, uint64_t generation, bool read_only, struct index_db **ret_db);
/* Make it anew, in place of whatever is there. -errno, with SQLite's words. */
int index_db_make (const char *path, const struct fm_id *journal, uint64_t generation, struct index_db **ret_db);
/* The file is damaged: what was asked last, or anything before, showed it. It can only be made anew. */
bool index_db_is_damaged (const struct index_db *db);
/* What it said does not agree with the log. Returns FM_ERR_CORRUPT. */
int index_db_is_wrong (struct index_db *db);
void index_db_close (struct index_db **db);

/* The next offset to be looked at. */
uint64_t index_db_next (const struct index_db *db);

/* What is asked until index_db_rollback is of one moment, and so is index_db_next. Of a reader. */
int index_db_snapshot (struct index_db *db);

/* Begin, say, and end with the new place: one transaction. After an error the transaction is rolled back, and the place is as before. */
int index_db_begin (struct index_db *db);
int index_db_put_latest (struct index_db *db, struct fm_slice topic, struct fm_slice key, uint64_t offset, bool tombstone);
int index_db_put_link (struct index_db *db, const struct fm_fact_id *parent, enum index_link kind, uint64_t offset);
int index_db_put_correlation (struct index_db *db, uint64_t hash, uint64_t offset);
/* A fact points to this blob. An empty digest: here something can't be read that may point to any. */
int index_db_put_blob (struct index_db *db, struct fm_slice digest, uint64_t offset);
int index_db_commit (struct index_db *db, uint64_t next);
void index_db_rollback (struct index_db *db);
/* Forget what points below an offset: retention took it. At most `limit` rows of each kind; *ret_more: there are others. */
int index_db_forget (struct index_db *db, uint64_t first_offset, unsigned limit, bool *ret_more);

/* The newest fact of a key. 0, FM_ERR_UNKNOWN. */
int index_db_latest (struct index_db *db, struct fm_slice topic, struct fm_slice key, uint64_t *ret_offset);
/* Newest facts of keys in [from, end), in order of offset: calls each until it returns false, or `limit` were told. */
int index_db_latest_each (struct index_db *db, uint64_t from, uint64_t end, unsigned limit, bool (*each) (void *arg, struct fm_slice topic, uint64_t offset), void *arg);
/* What was caused by a fact or corrects it, in order of offset above `after`. */
int index_db_links (struct index_db *db, const struct fm_fact_id *parent, uint64_t after, unsigned limit, void (*each) (void *arg, enum index_link kind, uint64_t offset), void *arg);
int index_db_correlation (struct index_db *db, uint64_t hash, uint64_t after, unsigned limit, void (*each) (void *arg, uint64_t offset), void *arg);

/* The newest fact that points to a blob (empty: see index_db_put_blob). 0, FM_ERR_UNKNOWN. */
int index_db_blob (struct index_db *db, struct fm_slice digest, uint64_t *ret_offset);

#endif
