/* store: see store.h. */

#include "store.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "factmesh.h"

enum { BUSY_MS = 10000, PATH_BYTES = 4096 };

static int failed (sqlite3 *db, const char *sql)
{
    (void) fprintf (stderr, "sqlite: %s: %s\n", db ? sqlite3_errmsg (db) : "no memory", sql);
    return -EIO;
}

int store_open (const char *dir, const char *name, const char *schema, sqlite3 **ret_db)
{
    char path[PATH_BYTES];
    sqlite3 *db = NULL;
    const int len = snprintf (path, sizeof path, "%s/%s.db", dir, name);
    if (len < 0 || (size_t) len >= sizeof path)
        return -ENAMETOOLONG;
    int rc = sqlite3_open (path, &db) == SQLITE_OK && sqlite3_busy_timeout (db, BUSY_MS) == SQLITE_OK ? 0 : failed (db, path);
    if (!rc && (sqlite3_exec (db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", NULL, NULL, NULL) != SQLITE_OK
                || sqlite3_exec (db, schema, NULL, NULL, NULL) != SQLITE_OK))
        rc = failed (db, path);
    if (rc)
        store_close (&db);
    else
        *ret_db = db;
    return rc;
}

void store_close (sqlite3 **db)
{
    (void) sqlite3_close (*db);             /* what was not committed was not promised */
    *db = NULL;
}

static int bind (sqlite3_stmt *rows, const char *format, va_list values)
{
    const struct fm_slice *bytes;
    int rc = SQLITE_OK;
    for (int i = 1; rc == SQLITE_OK && format[i - 1]; i++) {
        switch (format[i - 1]) {
        case 's':
            rc = sqlite3_bind_text (rows, i, va_arg (values, const char *), -1, SQLITE_TRANSIENT);
            break;
        case 'n':
            rc = sqlite3_bind_int64 (rows, i, va_arg (values, int64_t));
            break;
        default:
            assert (format[i - 1] == 'b');
            bytes = va_arg (values, const struct fm_slice *);
            rc = sqlite3_bind_blob64 (rows, i, bytes->data, bytes->len, SQLITE_TRANSIENT);
            break;
        }
    }
    return rc;
}

static int prepare (sqlite3 *db, sqlite3_stmt **ret_rows, const char *sql, const char *format, va_list values)
{
    sqlite3_stmt *rows = NULL;
    if (sqlite3_prepare_v2 (db, sql, -1, &rows, NULL) != SQLITE_OK || bind (rows, format, values) != SQLITE_OK) {
        (void) sqlite3_finalize (rows);
        return failed (db, sql);
    }
    *ret_rows = rows;
    return 0;
}

int store_query (sqlite3 *db, sqlite3_stmt **ret_rows, const char *sql, const char *format, ...)
{
    va_list values;
    va_start (values, format);
    const int rc = prepare (db, ret_rows, sql, format, values);
    va_end (values);
    return rc;
}

int store_row (sqlite3_stmt *rows)
{
    switch (sqlite3_step (rows)) {
    case SQLITE_ROW:
        return 0;
    case SQLITE_DONE:
        return FM_ERR_END;
    default:
        return failed (sqlite3_db_handle (rows), sqlite3_sql (rows));
    }
}

const char *store_text (sqlite3_stmt *rows, int column)
{
    const unsigned char *text = sqlite3_column_text (rows, column);
    return text ? (const char *) text : "";
}

int store_do (sqlite3 *db, const char *sql, const char *format, ...)
{
    sqlite3_stmt *rows;
    va_list values;
    va_start (values, format);
    int rc = prepare (db, &rows, sql, format, values);
    va_end (values);
    if (rc)
        return rc;
    while ((rc = store_row (rows)) == 0)
        continue;
    (void) sqlite3_finalize (rows);         /* its error is that of the last step */
    return rc == FM_ERR_END ? 0 : rc;
}

int store_number (sqlite3 *db, int64_t *ret_number, const char *sql, const char *format, ...)
{
    sqlite3_stmt *rows;
    va_list values;
    va_start (values, format);
    int rc = prepare (db, &rows, sql, format, values);
    va_end (values);
    if (rc)
        return rc;
    rc = store_row (rows);
    if (rc == 0 || rc == FM_ERR_END) {
        *ret_number = rc == 0 ? sqlite3_column_int64 (rows, 0) : 0;
        rc = 0;
    }
    (void) sqlite3_finalize (rows);
    return rc;
}
