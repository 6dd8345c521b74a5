/* outbox: see outbox.h. */

#include "outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "csv.h"
#include "factmesh.h"
#include "order.h"
#include "store.h"

enum { IDENTITY_BYTES = 96, INPUT_MAX = 1 << 28 };
enum { INVOICE, CODE, DESCRIPTION, QUANTITY, DATE, PRICE, CUSTOMER, COUNTRY, COLUMNS };

/* What this process has told is known to it alone: the table goes with it. */
static const char schema[] = "CREATE TABLE IF NOT EXISTS version (identity TEXT NOT NULL UNIQUE, number TEXT NOT NULL, version INTEGER NOT NULL,"
                             " content TEXT NOT NULL, fact TEXT, PRIMARY KEY (number, version));"
                             "CREATE INDEX IF NOT EXISTS untold ON version (number) WHERE fact IS NULL;"
                             "CREATE TEMPORARY TABLE told (identity TEXT PRIMARY KEY)";

int outbox_open (const char *dir, sqlite3 **ret_db)
{
    return store_open (dir, "orders", schema, ret_db);
}

/* An order goes in as it will go out, and only if others can read it. */
static int put_version (sqlite3 *db, json_object *json, int64_t version)
{
    struct order order;
    char identity[IDENTITY_BYTES];
    const char *content = json_object_to_json_string_ext (json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    int rc = content ? order_decode (fm_text (content), &order) : -ENOMEM;
    if (rc)
        return rc;
    const int len = snprintf (identity, sizeof identity, "order/%s/%" PRId64, order.number, version);
    if (len < 0 || (size_t) len >= sizeof identity)
        rc = FM_ERR_TOO_LARGE;
    if (!rc)
        rc = store_do (db, "INSERT OR IGNORE INTO version (identity, number, version, content) VALUES (?, ?, ?, ?)", "ssns", identity, order.number, version,
                       content);
    order_release (&order);
    return rc;
}

/* --- A file of lines. */

static int read_file (const char *path, char **ret_text)
{
    struct stat is;
    char *text = NULL;
    ssize_t len = 0, n = 1;
    const int fd = open (path, O_RDONLY | O_CLOEXEC);
    int rc = fd >= 0 && fstat (fd, &is) == 0 ? 0 : -errno;
    if (!rc && is.st_size > INPUT_MAX)
        rc = FM_ERR_TOO_LARGE;
    if (!rc && !(text = malloc ((size_t) is.st_size + 1)))
        rc = -ENOMEM;
    for (; !rc && n > 0 && len < is.st_size; len += n)
        if ((n = read (fd, text + len, (size_t) (is.st_size - len))) < 0)
            rc = -errno;
    if (fd >= 0)
        (void) close (fd);                  /* it was only read */
    if (rc) {
        free (text);
        return rc;
    }
    text[len] = '\0';
    *ret_text = text;
    return 0;
}

static int parse_line (char *const *fields, struct order_line *ret_line)
{
    char *end;
    errno = 0;
    *ret_line = (struct order_line) { .code = fields[CODE], .description = fields[DESCRIPTION], .quantity = strtoll (fields[QUANTITY], &end, 10) };
    return end == fields[QUANTITY] || *end || errno ? FM_ERR_MALFORMED : money_parse (fields[PRICE], &ret_line->price_mills);
}

/* Lines of one invoice stand together, and become one order. */
static int put_lines (sqlite3 *db, char *text, unsigned *line)
{
    char *fields[COLUMNS];
    struct order_line item;
    json_object *order = NULL;
    const char *number = "";
    int rc = csv_next (&text, line, fields, COLUMNS);           /* the header */
    while (!rc && (rc = csv_next (&text, line, fields, COLUMNS)) == 0) {
        if (strcmp (number, fields[INVOICE]) != 0) {
            rc = order ? put_version (db, order, 1) : 0;
            json_object_put (order);
            number = fields[INVOICE];
            order = order_new (number, fields[DATE], fields[CUSTOMER], fields[COUNTRY]);
        }
        if (!rc)
            rc = order ? parse_line (fields, &item) : -ENOMEM;
        if (!rc)
            rc = order_add_line (order, &item);
    }
    if (rc == FM_ERR_END)
        rc = order ? put_version (db, order, 1) : 0;
    json_object_put (order);
    return rc;
}

int outbox_take_file (sqlite3 *db, const char *path)
{
    char *text = NULL;
    unsigned line = 1;
    int rc = read_file (path, &text);
    if (rc) {
        (void) fprintf (stderr, "%s: %s\n", path, fm_error_text (rc));
        return rc;
    }
    rc = store_do (db, "BEGIN IMMEDIATE", "");
    if (!rc) {
        rc = put_lines (db, text, &line);
        if (rc)
            (void) fprintf (stderr, "%s: line %u or just before: %s; nothing of the file was taken\n", path, line, fm_error_text (rc));
        const int ended = store_do (db, rc ? "ROLLBACK" : "COMMIT", "");
        rc = rc ? rc : ended;
    }
    free (text);
    return rc;
}

/* --- A correction. */

static int put_correction (sqlite3 *db, const char *number, const char *email)
{
    sqlite3_stmt *rows;
    int rc = store_query (db, &rows, "SELECT content, version FROM version WHERE number = ? ORDER BY version DESC LIMIT 1", "s", number);
    if (rc)
        return rc;
    rc = store_row (rows);
    if (rc == 0) {
        json_object *json = json_tokener_parse (store_text (rows, 0));
        rc = json && json_object_object_add (json, "email", json_object_new_string (email)) == 0 ? put_version (db, json, sqlite3_column_int64 (rows, 1) + 1)
                                                                                                 : -ENOMEM;
        json_object_put (json);
    }
    (void) sqlite3_finalize (rows);
    return rc == FM_ERR_END ? FM_ERR_UNKNOWN : rc;
}

int outbox_correct (sqlite3 *db, const char *number, const char *email)
{
    int rc = store_do (db, "BEGIN IMMEDIATE", "");
    if (rc)
        return rc;
    rc = put_correction (db, number, email);
    const int ended = store_do (db, rc ? "ROLLBACK" : "COMMIT", "");
    return rc ? rc : ended;
}

/* --- What is still to be told. */

int outbox_untold (sqlite3 *db, unsigned max, sqlite3_stmt **ret_rows)
{
    return store_query (db, ret_rows,
                        "SELECT v.identity, v.number, v.content, before.fact FROM version AS v"
                        " LEFT JOIN version AS before ON before.number = v.number AND before.version = v.version - 1"
                        " WHERE v.fact IS NULL AND v.identity NOT IN told AND (v.version = 1 OR before.fact IS NOT NULL) ORDER BY v.version DESC, v.rowid LIMIT ?",
                        "n", (int64_t) max);
}

int outbox_told (sqlite3 *db, const char *identity)
{
    return store_do (db, "INSERT INTO told VALUES (?)", "s", identity);
}

int outbox_recorded (sqlite3 *db, const struct fm_fact *fact)
{
    char id[FM_FACT_ID_TEXT], identity[IDENTITY_BYTES];
    const int len = snprintf (identity, sizeof identity, "%.*s", (int) fact->identity.len, (const char *) fact->identity.data);
    if (len < 0 || (size_t) len >= sizeof identity)
        return 0;
    return store_do (db, "UPDATE version SET fact = ? WHERE identity = ? AND fact IS NULL", "ss", fm_fact_id_text (&fact->id, id, sizeof id), identity);
}

int outbox_left (sqlite3 *db, int64_t *ret_left)
{
    return store_number (db, ret_left, "SELECT count (*) FROM version WHERE fact IS NULL", "");
}
