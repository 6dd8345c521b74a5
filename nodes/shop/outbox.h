/* outbox: the orders service's own table: each version of each order, and the id of the fact that tells of it.
 *
 * A version is a row here before anybody hears of it. Its fact's id is written beside it when the journal has handed the fact back. What has no id is
 * still to be told, whatever happened to the process that should have. */

#ifndef SHOP_OUTBOX_H
#define SHOP_OUTBOX_H

#include <sqlite3.h>

#include "fm_types.h"

/* Open or create DIR/orders.db. */
int outbox_open (const char *dir, sqlite3 **ret_db);
/* Take in a file of order lines, whole or not at all (then a line on standard error says why). Orders that are there already are left as they are,
 * so that a file can be given again after a crash. */
int outbox_take_file (sqlite3 *db, const char *path);
/* A new version of an order, with another address. FM_ERR_UNKNOWN: there is no such order; FM_ERR_MALFORMED: no address. */
int outbox_correct (sqlite3 *db, const char *number, const char *email);

/* What can be told now, as rows of identity, number, content, and the id of the fact that it corrects or null. Corrections come first: somebody waits for them. One can be told when its
 * predecessor has an id. What this process has told (outbox_told) is left out. */
int outbox_untold (sqlite3 *db, unsigned max, sqlite3_stmt **ret_rows);
int outbox_told (sqlite3 *db, const char *identity);
/* The journal has it: its id is final. Ids of identities that are not ours are passed over. */
int outbox_recorded (sqlite3 *db, const struct fm_fact *fact);
/* How many versions have no id yet. */
int outbox_left (sqlite3 *db, int64_t *ret_left);

#endif
