#include "index_db.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "error.h"

enum { INDEX_VERSION = 2, PARENT_LEN = ID_LEN + 8, BUSY_MS = 5000, PATH_BYTES = 1024 };

/* place has one row. A parent is a fact's stream and its sequence, big-endian so that rows of a stream lie together. */
static const char schema[] =
    "CREATE TABLE place (version INTEGER, journal BLOB, generation INTEGER, next INTEGER);"
    "CREATE TABLE latest (topic BLOB, key BLOB, offset INTEGER, PRIMARY KEY (topic, key)) WITHOUT ROWID;"
    "CREATE INDEX latest_offset ON latest (offset);"
    "CREATE TABLE link (parent BLOB, offset INTEGER, kind INTEGER, PRIMARY KEY (parent, offset, kind)) WITHOUT ROWID;"
    "CREATE INDEX link_offset ON link (offset);"
    "CREATE TABLE correlation (hash INTEGER, offset INTEGER, PRIMARY KEY (hash, offset)) WITHOUT ROWID;"
    "CREATE INDEX correlation_offset ON correlation (offset);"
    "CREATE TABLE blob (digest BLOB PRIMARY KEY, offset INTEGER) WITHOUT ROWID;"
    "CREATE INDEX blob_offset ON blob (offset);";

#define INDEX_STATEMENTS(X)                                                                                                             \
    X (BEGIN, "BEGIN")                                                                                                                  \
    X (COMMIT, "COMMIT")                                                                                                                \
    X (PLACE, "UPDATE place SET next = ?1")                                                                                             \
    X (NEXT, "SELECT next FROM place WHERE version = ?1 AND journal = ?2 AND generation = ?3")                                           \
    X (PUT_LATEST, "INSERT INTO latest VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET offset = ?3 WHERE offset < ?3")                     \
    X (DROP_LATEST, "DELETE FROM latest WHERE topic = ?1 AND key = ?2 AND offset < ?3")                                                  \
    X (PUT_LINK, "INSERT OR IGNORE INTO link VALUES (?1, ?2, ?3)")                                                                       \
    X (PUT_CORRELATION, "INSERT OR IGNORE INTO correlation VALUES (?1, ?2)")                                                             \
    X (PUT_BLOB, "INSERT INTO blob VALUES (?1, ?2) ON CONFLICT DO UPDATE SET offset = ?2 WHERE offset < ?2")                              \
    X (FORGET_BLOB, "DELETE FROM blob WHERE digest IN (SELECT digest FROM blob WHERE offset < ?1 LIMIT ?2)")                             \
    X (BLOB, "SELECT offset FROM blob WHERE digest = ?1")                                                                                \
    X (FORGET_LATEST, "DELETE FROM latest WHERE (topic, key) IN (SELECT topic, key FROM latest WHERE offset < ?1 LIMIT ?2)")             \
    X (FORGET_LINK, "DELETE FROM link WHERE (parent, offset, kind) IN (SELECT parent, offset, kind FROM link WHERE offset < ?1 LIMIT ?2)") \
    X (FORGET_CORRELATION, "DELETE FROM correlation WHERE (hash, offset) IN (SELECT hash, offset FROM correlation WHERE offset < ?1 LIMIT ?2)") \
    X (LATEST, "SELECT offset FROM latest WHERE topic = ?1 AND key = ?2")                                                                \
    X (LATEST_EACH, "SELECT topic, offset FROM latest WHERE offset >= ?1 AND offset < ?2 ORDER BY offset LIMIT ?3")                      \
    X (LINKS, "SELECT kind, offset FROM link WHERE parent = ?1 AND offset > ?2 ORDER BY offset LIMIT ?3")                                \
    X (CORRELATION, "SELECT offset FROM correlation WHERE hash = ?1 AND offset > ?2 ORDER BY offset LIMIT ?3")
enum statement {
#define INDEX_STATEMENT_ITEM(name, text) STATEMENT_##name,
    INDEX_STATEMENTS (INDEX_STATEMENT_ITEM)
#undef INDEX_STATEMENT_ITEM
    STATEMENT_COUNT
};
static const char *const statement_texts[] = {
#define INDEX_STATEMENT_ITEM(name, text) text,
    INDEX_STATEMENTS (INDEX_STATEMENT_ITEM)
#undef INDEX_STATEMENT_ITEM
};

struct index_db {
    sqlite3 *sqlite;
    sqlite3_stmt *statements[STATEMENT_COUNT];      /* prepared when first used */
    struct fm_id journal;
    uint64_t generation;
    uint64_t next;
    bool damaged;
};

/* Is it the file that is wrong (its pages, its tables, a block that can't be read), or something that may pass? */
static bool is_damage (int code, int extended)
{
    switch (code) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR:                  /* no such table, or column */
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_FORMAT:
    case SQLITE_TOOBIG:
        return true;
    default:
        return extended == SQLITE_IOERR_READ || extended == SQLITE_IOERR_SHORT_READ || extended == SQLITE_IOERR_CORRUPTFS;
    }
}

static int failed (struct index_db *db, int code)
{
    const int basic = code & 0xFF;
    if (basic == SQLITE_NOMEM)
        return -ENOMEM;
    if (is_damage (basic, sqlite3_extended_errcode (db->sqlite)))
        db->damaged = true;
    return error_set (db->damaged ? FM_ERR_CORRUPT : basic == SQLITE_FULL ? -ENOSPC : -EIO, "index: %s", sqlite3_errmsg (db->sqlite));
}

bool index_db_is_damaged (const struct index_db *db)
{
    return db->damaged;
}

int index_db_is_wrong (struct index_db *db)
{
    db->damaged = true;
    return error_set (FM_ERR_CORRUPT, "index: it does not agree with the log");
}

static int statement (struct index_db *db, enum statement which, sqlite3_stmt **ret_statement)
{
    int code = SQLITE_OK;
    if (!db->statements[which])
        code = sqlite3_prepare_v3 (db->sqlite, statement_texts[which], -1, SQLITE_PREPARE_PERSISTENT, &db->statements[which], NULL);
    *ret_statement = db->statements[which];         /* NULL after a failure */
    return code == SQLITE_OK ? 0 : failed (db, code);
}

/* Bind and run one that gives no rows: n numbers behind `blobs` blobs. */
static int bind_blob (sqlite3_stmt *s, int at, struct fm_slice blob)
{
    return sqlite3_bind_blob64 (s, at, blob.len ? blob.data : "", blob.len, SQLITE_STATIC);
}

static int run (struct index_db *db, sqlite3_stmt *s)
{
    const int code = sqlite3_step (s);
    (void) sqlite3_reset (s);           /* says again what the step said */
    return code == SQLITE_DONE || code == SQLITE_ROW ? 0 : failed (db, code);
}

/* --- Opening. */

static int read_place (struct index_db *db)
{
    sqlite3_stmt *s;
    int rc = statement (db, STATEMENT_NEXT, &s);
    if (rc)                             /* another version's tables, or none at all */
        return sqlite3_errcode (db->sqlite) == SQLITE_ERROR ? FM_ERR_FOREIGN : rc;
    (void) sqlite3_bind_int (s, 1, INDEX_VERSION);
    (void) bind_blob (s, 2, slice (db->journal.bytes, ID_LEN));
    (void) sqlite3_bind_int64 (s, 3, (sqlite3_int64) db->generation);
    const int code = sqlite3_step (s);
    const sqlite3_int64 next = code == SQLITE_ROW ? sqlite3_column_int64 (s, 0) : 0;
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        rc = failed (db, code);
    else if (next <= 0)
        rc = FM_ERR_FOREIGN;
    else
        db->next = (uint64_t) next;
    (void) sqlite3_reset (s);
    return rc;
}

static int create (struct index_db *db, const struct fm_id *journal, uint64_t generation)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_exec (db->sqlite, schema, NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2 (db->sqlite, "INSERT INTO place VALUES (?1, ?2, ?3, 1)", -1, &s, NULL);
    if (code != SQLITE_OK)
        return failed (db, code);
    (void) sqlite3_bind_int (s, 1, INDEX_VERSION);
    (void) bind_blob (s, 2, slice (journal->bytes, ID_LEN));
    (void) sqlite3_bind_int64 (s, 3, (sqlite3_int64) generation);
    code = sqlite3_step (s);
    (void) sqlite3_finalize (s);
    db->next = 1;
    db->journal = *journal;
    db->generation = generation;
    return code == SQLITE_DONE ? 0 : failed (db, code);
}

static int open_file (const char *path, int flags, struct index_db **ret_db)
{
    struct index_db *db = calloc (1, sizeof *db);
    if (!db)
        return -ENOMEM;
    int code = sqlite3_open_v2 (path, &db->sqlite, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_busy_timeout (db->sqlite, BUSY_MS);
    /* What a power loss takes from it is made again: no sync. */
    if (code == SQLITE_OK && !(flags & SQLITE_OPEN_READONLY))
        code = sqlite3_exec (db->sqlite, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;", NULL, NULL, NULL);
    if (code != SQLITE_OK) {
        const int rc = code == SQLITE_CANTOPEN && access (path, F_OK) != 0 && errno == ENOENT ? FM_ERR_UNKNOWN : failed (db, code);
        index_db_close (&db);
        return rc;
    }
    *ret_db = db;
    return 0;
}

static void remove_file (const char *path)
{
    static const char *const parts[] = { "", "-wal", "-shm", "-journal" };
    char name[PATH_BYTES];
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (snprintf (name, sizeof name, "%s%s", path, parts[i]) < (int) sizeof name)
            (void) unlink (name);       /* it may not be there */
}

int index_db_open (const char *path, const struct fm_id *journal, uint64_t generation, bool read_only, struct index_db **ret_db)
{
    struct index_db *db = NULL;
    int rc = open_file (path, read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, &db);
    if (!rc) {
        db->journal = *journal;
        db->generation = generation;
        rc = read_place (db);
    }
    if (rc)
        index_db_close (&db);
    else
        *ret_db = db;
    return rc;
}

int index_db_make (const char *path, const struct fm_id *journal, uint64_t generation, struct index_db **ret_db)
{
    struct index_db *db = NULL;
    remove_file (path);
    int rc = open_file (path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    if (!rc)
        rc = create (db, journal, generation);
    if (rc)
        index_db_close (&db);
    else
        *ret_db = db;
    return rc;
}

void index_db_close (struct index_db **db)
{
    struct index_db *d = *db;
    if (!d)
        return;
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        (void) sqlite3_finalize (d->statements[i]);
    (void) sqlite3_close (d->sqlite);
    free (d);
    *db = NULL;
}

uint64_t index_db_next (const struct index_db *db)
{
    return db->next;
}

/* --- Saying. */

int index_db_begin (struct index_db *db)
{
    sqlite3_stmt *s;
    const int rc = statement (db, STATEMENT_BEGIN, &s);
    return rc ? rc : run (db, s);
}

int index_db_snapshot (struct index_db *db)
{
    int rc = index_db_begin (db);
    if (rc)
        return rc;
    rc = read_place (db);               /* the first look makes it the moment */
    if (rc)
        index_db_rollback (db);
    return rc;
}

int index_db_put_latest (struct index_db *db, struct fm_slice topic, struct fm_slice key, uint64_t offset, bool tombstone)
{
    sqlite3_stmt *s;
    const int rc = statement (db, tombstone ? STATEMENT_DROP_LATEST : STATEMENT_PUT_LATEST, &s);
    if (rc)
        return rc;
    (void) bind_blob (s, 1, topic);
    (void) bind_blob (s, 2, key);
    (void) sqlite3_bind_int64 (s, 3, (sqlite3_int64) offset);
    return run (db, s);
}

static struct fm_slice parent_bytes (const struct fm_fact_id *id, uint8_t bytes[PARENT_LEN])
{
    memcpy (bytes, id->stream.bytes, ID_LEN);
    for (int i = 0; i < 8; i++)
        bytes[ID_LEN + i] = (uint8_t) (id->seq >> (8 * (7 - i)));
    return slice (bytes, PARENT_LEN);
}

int index_db_put_link (struct index_db *db, const struct fm_fact_id *parent, enum index_link kind, uint64_t offset)
{
    sqlite3_stmt *s;
    uint8_t bytes[PARENT_LEN];
    const int rc = statement (db, STATEMENT_PUT_LINK, &s);
    if (rc)
        return rc;
    (void) bind_blob (s, 1, parent_bytes (parent, bytes));
    (void) sqlite3_bind_int64 (s, 2, (sqlite3_int64) offset);
    (void) sqlite3_bind_int (s, 3, (int) kind);
    return run (db, s);
}

int index_db_put_correlation (struct index_db *db, uint64_t hash, uint64_t offset)
{
    sqlite3_stmt *s;
    const int rc = statement (db, STATEMENT_PUT_CORRELATION, &s);
    if (rc)
        return rc;
    (void) sqlite3_bind_int64 (s, 1, (sqlite3_int64) hash);
    (void) sqlite3_bind_int64 (s, 2, (sqlite3_int64) offset);
    return run (db, s);
}

int index_db_put_blob (struct index_db *db, struct fm_slice digest, uint64_t offset)
{
    sqlite3_stmt *s;
    const int rc = statement (db, STATEMENT_PUT_BLOB, &s);
    if (rc)
        return rc;
    (void) bind_blob (s, 1, digest);
    (void) sqlite3_bind_int64 (s, 2, (sqlite3_int64) offset);
    return run (db, s);
}

int index_db_commit (struct index_db *db, uint64_t next)
{
    sqlite3_stmt *s;
    int rc = statement (db, STATEMENT_PLACE, &s);
    if (!rc) {
        (void) sqlite3_bind_int64 (s, 1, (sqlite3_int64) next);
        rc = run (db, s);
    }
    if (!rc)
        rc = statement (db, STATEMENT_COMMIT, &s);
    if (!rc)
        rc = run (db, s);
    if (!rc)
        db->next = next;
    return rc;
}

void index_db_rollback (struct index_db *db)
{
    (void) sqlite3_exec (db->sqlite, "ROLLBACK", NULL, NULL, NULL);     /* nothing to roll back is fine */
}

int index_db_forget (struct index_db *db, uint64_t first_offset, unsigned limit, bool *ret_more)
{
    static const enum statement all[] = { STATEMENT_FORGET_LATEST, STATEMENT_FORGET_LINK, STATEMENT_FORGET_CORRELATION, STATEMENT_FORGET_BLOB };
    bool more = false;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        sqlite3_stmt *s;
        int rc = statement (db, all[i], &s);
        if (rc)
            return rc;
        (void) sqlite3_bind_int64 (s, 1, (sqlite3_int64) first_offset);
        (void) sqlite3_bind_int64 (s, 2, limit);
        rc = run (db, s);
        if (rc)
            return rc;
        more |= sqlite3_changes (db->sqlite) == (int) limit;
    }
    *ret_more = more;
    return 0;
}

/* --- Asking. */

int index_db_latest (struct index_db *db, struct fm_slice topic, struct fm_slice key, uint64_t *ret_offset)
{
    sqlite3_stmt *s;
    const int rc = statement (db, STATEMENT_LATEST, &s);
    if (rc)
        return rc;
    (void) bind_blob (s, 1, topic);
    (void) bind_blob (s, 2, key);
    const int code = sqlite3_step (s);
    if (code == SQLITE_ROW)
        *ret_offset = (uint64_t) sqlite3_column_int64 (s, 0);
    (void) sqlite3_reset (s);
    return code == SQLITE_ROW ? 0 : code == SQLITE_DONE ? FM_ERR_UNKNOWN : failed (db, code);
}

int index_db_latest_each (struct index_db *db, uint64_t from, uint64_t end, unsigned limit, bool (*each) (void *arg, struct fm_slice topic, uint64_t offset), void *arg)
{
    sqlite3_stmt *s;
    const int rc = statement (db, STATEMENT_LATEST_EACH, &s);
    if (rc)
        return rc;
    (void) sqlite3_bind_int64 (s, 1, (sqlite3_int64) from);
    (void) sqlite3_bind_int64 (s, 2, (sqlite3_int64) end);
    (void) sqlite3_bind_int64 (s, 3, limit);
    int code;
    bool rises = true;
    while ((code = sqlite3_step (s)) == SQLITE_ROW) {
        const struct fm_slice topic = slice (sqlite3_column_blob (s, 0), (size_t) sqlite3_column_bytes (s, 0));
        const uint64_t offset = (uint64_t) sqlite3_column_int64 (s, 1);
        rises = offset >= from && offset < end;     /* damaged rows need not be in order */
        from = offset + 1;
        if (!rises || !each (arg, topic, offset)) {
            code = SQLITE_DONE;
            break;
        }
    }
    (void) sqlite3_reset (s);
    return !rises ? index_db_is_wrong (db) : code == SQLITE_DONE ? 0 : failed (db, code);
}

int index_db_links (struct index_db *db, const struct fm_fact_id *parent, uint64_t after, unsigned limit, void (*each) (void *arg, enum index_link kind, uint64_t offset), void *arg)
{
    sqlite3_stmt *s;
    uint8_t bytes[PARENT_LEN];
    const int rc = statement (db, STATEMENT_LINKS, &s);
    if (rc)
        return rc;
    (void) bind_blob (s, 1, parent_bytes (parent, bytes));
    (void) sqlite3_bind_int64 (s, 2, (sqlite3_int64) after);
    (void) sqlite3_bind_int64 (s, 3, limit);
    int code;
    while ((code = sqlite3_step (s)) == SQLITE_ROW)
        each (arg, (enum index_link) sqlite3_column_int (s, 0), (uint64_t) sqlite3_column_int64 (s, 1));
    (void) sqlite3_reset (s);
    return code == SQLITE_DONE ? 0 : failed (db, code);
}

int index_db_correlation (struct index_db *db, uint64_t hash, uint64_t after, unsigned limit, void (*each) (void *arg, uint64_t offset), void *arg)
{
    sqlite3_stmt *s;
    const int rc = statement (db, STATEMENT_CORRELATION, &s);
    if (rc)
        return rc;
    (void) sqlite3_bind_int64 (s, 1, (sqlite3_int64) hash);
    (void) sqlite3_bind_int64 (s, 2, (sqlite3_int64) after);
    (void) sqlite3_bind_int64 (s, 3, limit);
    int code;
    while ((code = sqlite3_step (s)) == SQLITE_ROW)
        each (arg, (uint64_t) sqlite3_column_int64 (s, 0));
    (void) sqlite3_reset (s);
    return code == SQLITE_DONE ? 0 : failed (db, code);
}

int index_db_blob (struct index_db *db, struct fm_slice digest, uint64_t *ret_offset)
{
    sqlite3_stmt *s;
    const int rc = statement (db, STATEMENT_BLOB, &s);
    if (rc)
        return rc;
    (void) bind_blob (s, 1, digest);
    const int code = sqlite3_step (s);
    if (code == SQLITE_ROW)
        *ret_offset = (uint64_t) sqlite3_column_int64 (s, 0);
    (void) sqlite3_reset (s);
    return code == SQLITE_ROW ? 0 : code == SQLITE_DONE ? FM_ERR_UNKNOWN : failed (db, code);
}
