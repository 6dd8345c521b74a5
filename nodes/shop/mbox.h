/* mbox: a mailbox file (mboxrd) that mails are appended to, each at most once by its Message-ID.
 *
 * Owns:    the descriptor. The file is the truth; which Message-IDs it has is an index in a database, which can be deleted and comes back the same.
 * Thread:  any one at a time. Processes, mail programs too, keep each other out by a write lock on the file (fcntl).
 * Promise: a mail whose append returned 0 is on disk, whole. What a crash left of another is at the file's end, and goes to PATH.torn
 *          before the next one comes.
 * Bytes:   "From " line, head, empty line, body, empty line; body lines like /^>*From / have one > more. Our heads tell the body's length
 *          (Content-Length): that is how a whole mail is told from a torn one. Mails of others have none, and go as far as the next "From " line. */

#ifndef SHOP_MBOX_H
#define SHOP_MBOX_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

struct mbox;

/* Texts without control bytes, except the body's newlines. */
struct mail {
    const char *message_id;         /* with its <> */
    const char *in_reply_to;        /* the Message-ID of the one before; NULL: none */
    const char *from, *to, *subject;
    const char *body;               /* UTF-8, ends with a newline */
    uint64_t time_ns;
};

/* Open or create the file; the index is a table in db, which is borrowed. -errno, -EIO (the database). */
int mbox_open (const char *path, sqlite3 *db, struct mbox **ret_mbox);
void mbox_destroy (struct mbox **mbox);
/* Is a whole mail of this name there? */
int mbox_has (struct mbox *mbox, const char *message_id, bool *ret_has);
/* Append a mail, unless it is there. *ret_added (may be NULL): it was not. FM_ERR_MALFORMED: control bytes in its head; -errno: it is not there. */
int mbox_append (struct mbox *mbox, const struct mail *mail, bool *ret_added);

#endif
