/* store: a service's own SQLite file, in as few words as its statements.
 *
 * Promise: what was committed survives kill -9 and power loss (WAL, synchronous = FULL).
 * Thread:  the one that opened it. Several processes may have one file open: they wait for each other.
 * Errors:  -EIO, and a line on standard error that says which statement failed and why. */

#ifndef SHOP_STORE_H
#define SHOP_STORE_H

#include <sqlite3.h>
#include <stdint.h>

/* Open or create DIR/NAME.db and run the schema (CREATE … IF NOT EXISTS). */
int store_open (const char *dir, const char *name, const char *schema, sqlite3 **ret_db);
void store_close (sqlite3 **db);

/* The values of a statement follow a format: s a text (NULL: null), n an int64_t, b a struct fm_slice * (a BLOB). "" for none. */

/* Run a statement to its end. */
int store_do (sqlite3 *db, const char *sql, const char *format, ...);
/* The first column of its first row; 0 when there is none. */
int store_number (sqlite3 *db, int64_t *ret_number, const char *sql, const char *format, ...);
/* Prepare one whose rows the caller takes with store_row, and ends with sqlite3_finalize. */
int store_query (sqlite3 *db, sqlite3_stmt **ret_rows, const char *sql, const char *format, ...);
/* The next row. 0; FM_ERR_END: that was all; -EIO. */
int store_row (sqlite3_stmt *rows);
/* A text column of the row, "" for null; valid until the next row. */
const char *store_text (sqlite3_stmt *rows, int column);

#endif
