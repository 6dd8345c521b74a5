/* mbox: see mbox.h.
 *
 * Invariant, under the lock: the index has every whole mail that begins below `covered`, and `covered` is where a mail begins, or the file's end. */

#include "mbox.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "factmesh.h"
#include "store.h"

enum { PATH_BYTES = 4096, HEAD_MAX = 16384, LINE_BYTES = 1024, STAMP_BYTES = 64, NS_PER_S = 1000000000 };
static const char from_line[] = "From ", content_length[] = "\nContent-Length: ", message_id_line[] = "\nMessage-ID: ";

static const char schema[] = "CREATE TABLE IF NOT EXISTS mail (message_id TEXT PRIMARY KEY, position INTEGER NOT NULL);"
                             "CREATE TABLE IF NOT EXISTS mbox (id INTEGER PRIMARY KEY CHECK (id = 1), covered INTEGER NOT NULL);"
                             "INSERT OR IGNORE INTO mbox VALUES (1, 0)";

struct mbox {
    int fd;
    sqlite3 *db;
    char torn_path[PATH_BYTES];
};

/* --- The file. */

static int lock (const struct mbox *m, short type)
{
    struct flock range = { .l_type = type, .l_whence = SEEK_SET };
    int rc;
    do
        rc = fcntl (m->fd, F_OFD_SETLKW, &range);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : -errno;
}

static int sync_directory (const char *path)
{
    const char *slash = strrchr (path, '/');
    char *dir = slash ? strndup (path, (size_t) (slash - path) + 1) : strdup (".");
    const int fd = dir ? open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    const int rc = fd >= 0 && fsync (fd) == 0 ? 0 : -errno;
    if (fd >= 0)
        (void) close (fd);                  /* nothing was written through it */
    free (dir);
    return rc;
}

int mbox_open (const char *path, sqlite3 *db, struct mbox **ret_mbox)
{
    struct mbox *m = calloc (1, sizeof *m);
    if (!m)
        return -ENOMEM;
    m->db = db;
    (void) snprintf (m->torn_path, sizeof m->torn_path, "%s.torn", path);
    m->fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int rc = m->fd >= 0 ? sync_directory (path) : -errno;
    if (!rc && sqlite3_exec (db, schema, NULL, NULL, NULL) != SQLITE_OK)
        rc = -EIO;
    if (rc)
        mbox_destroy (&m);
    else
        *ret_mbox = m;
    return rc;
}

void mbox_destroy (struct mbox **mbox)
{
    struct mbox *m = *mbox;
    if (!m)
        return;
    if (m->fd >= 0)
        (void) close (m->fd);               /* what was promised is synced; the lock goes with it */
    free (m);
    *mbox = NULL;
}

/* Read up to size bytes at a position; fewer only at the file's end. */
static int read_at (const struct mbox *m, void *buffer, size_t size, int64_t position, size_t *ret_len)
{
    size_t len = 0;
    while (len < size) {
        const ssize_t n = pread (m->fd, (char *) buffer + len, size - len, position + (int64_t) len);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        len += n > 0 ? (size_t) n : 0;
    }
    *ret_len = len;
    return 0;
}

static int write_at (const struct mbox *m, const char *bytes, size_t len, int64_t position)
{
    while (len) {
        const ssize_t n = pwrite (m->fd, bytes, len, position);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            bytes += n;
            len -= (size_t) n;
            position += n;
        }
    }
    return 0;
}

/* --- What is in it. */

/* A header's value, copied; false: there is none, or it is longer. */
static bool header (const char *head, const char *name, char *value, size_t size)
{
    const char *at = strcasestr (head, name);
    if (!at)
        return false;
    at += strlen (name);
    const size_t len = strcspn (at, "\n");
    if (len >= size)
        return false;
    memcpy (value, at, len);
    value[len] = '\0';
    return true;
}

/* Where a mail that does not tell its length ends: before the next "From " line that follows an empty one, or at the end. */
static int find_end (const struct mbox *m, int64_t position, int64_t size, int64_t *ret_end)
{
    static const char mark[] = "\n\nFrom ";
    char buffer[HEAD_MAX];
    size_t len;
    while (position < size) {
        const int rc = read_at (m, buffer, sizeof buffer, position, &len);
        if (rc)
            return rc;
        const char *found = memmem (buffer, len, mark, sizeof mark - 1);
        if (found) {
            *ret_end = position + (found - buffer) + 2;
            return 0;
        }
        if (len < sizeof buffer)
            break;
        position += (int64_t) (len - sizeof mark);
    }
    *ret_end = size;
    return 0;
}

/* Does a body end there: its last line, and the empty one? */
static int is_body_end (const struct mbox *m, int64_t end, bool *ret_is)
{
    char bytes[2];
    size_t len;
    const int rc = read_at (m, bytes, sizeof bytes, end - (int64_t) sizeof bytes, &len);
    *ret_is = len == sizeof bytes && bytes[0] == '\n' && bytes[1] == '\n';
    return rc;
}

/* The mail at a position: its Message-ID ("": none) and its end. FM_ERR_END: none, or a torn one. */
static int look (const struct mbox *m, int64_t position, int64_t size, char *message_id, int64_t *ret_end)
{
    char head[HEAD_MAX + 1], text[32];
    size_t len;
    bool whole;
    int rc = read_at (m, head, HEAD_MAX, position, &len);
    if (rc)
        return rc;
    head[len] = '\0';
    message_id[0] = '\0';
    char *body = strstr (head, "\n\n");
    if (strncmp (head, from_line, sizeof from_line - 1) != 0 || (!body && len < HEAD_MAX))
        return FM_ERR_END;
    if (!body)
        return find_end (m, position, size, ret_end);           /* a longer head than ours are */
    body[1] = '\0';
    const int64_t begin = position + (body - head) + 2;
    (void) header (head, message_id_line, message_id, LINE_BYTES);
    if (!header (head, content_length, text, sizeof text))
        return find_end (m, begin - 2, size, ret_end);
    const int64_t body_len = strtoll (text, NULL, 10);
    if (body_len < 0 || body_len >= size - begin)
        return FM_ERR_END;
    *ret_end = begin + body_len + 1;
    rc = is_body_end (m, *ret_end, &whole);
    return rc || whole ? rc : find_end (m, begin - 2, size, ret_end);      /* somebody has edited it */
}

/* Index what is new, under the lock. *ret_end: behind the last whole mail. */
static int catch_up (struct mbox *m, int64_t *ret_end)
{
    struct stat is;
    char message_id[LINE_BYTES];
    int64_t covered, end;
    int rc = store_number (m->db, &covered, "SELECT covered FROM mbox", "");
    if (!rc && fstat (m->fd, &is) != 0)
        rc = -errno;
    /* A mail program took mails out: what they were called we know, where the others are we look again. */
    if (!rc && covered > 0 && (covered > is.st_size || (covered < is.st_size && look (m, covered, is.st_size, message_id, &end) == FM_ERR_END)))
        covered = 0;
    const int64_t before = covered;
    while (!rc && (rc = look (m, covered, is.st_size, message_id, &end)) == 0) {
        if (*message_id)
            rc = store_do (m->db, "INSERT OR IGNORE INTO mail VALUES (?, ?)", "sn", message_id, covered);
        covered = end;
    }
    if (rc == FM_ERR_END)
        rc = 0;
    /* A mail that its writer did not live to sync is there when we say so. */
    if (!rc && covered != before && fdatasync (m->fd) != 0)
        rc = -errno;
    if (!rc && covered != before)
        rc = store_do (m->db, "UPDATE mbox SET covered = ?", "n", covered);
    *ret_end = covered;
    return rc;
}

static int find (struct mbox *m, const char *message_id, int64_t *ret_end, bool *ret_has)
{
    int64_t count = 0;
    int rc = store_do (m->db, "BEGIN IMMEDIATE", "");
    if (rc)
        return rc;
    rc = catch_up (m, ret_end);
    if (!rc)
        rc = store_number (m->db, &count, "SELECT count (*) FROM mail WHERE message_id = ?", "s", message_id);
    const int ended = store_do (m->db, rc ? "ROLLBACK" : "COMMIT", "");
    *ret_has = count > 0;
    return rc ? rc : ended;
}

int mbox_has (struct mbox *m, const char *message_id, bool *ret_has)
{
    int64_t end;
    int rc = lock (m, F_WRLCK);
    if (rc)
        return rc;
    rc = find (m, message_id, &end, ret_has);
    (void) lock (m, F_UNLCK);
    return rc;
}

/* --- Appending. */

static bool fits_a_head (const char *text)
{
    size_t len = 0;
    for (; text[len]; len++)
        if (iscntrl ((unsigned char) text[len]))
            return false;
    return len < LINE_BYTES / 2;
}

/* A body line that could be taken for a mail's beginning gets one more >, so that readers can take it away again. */
static void write_body (FILE *out, const char *body)
{
    while (*body) {
        const size_t len = strcspn (body, "\n");
        if (strncmp (body + strspn (body, ">"), from_line, sizeof from_line - 1) == 0)
            (void) fputc ('>', out);
        (void) fwrite (body, 1, len, out);
        (void) fputc ('\n', out);
        body += len + (body[len] == '\n');
    }
}

static int compose_body (const char *body, char **ret_text, size_t *ret_len)
{
    FILE *out = open_memstream (ret_text, ret_len);
    if (!out)
        return -ENOMEM;
    write_body (out, body);
    return fclose (out) == 0 ? 0 : -ENOMEM;
}

static int compose (const struct mail *mail, char **ret_text, size_t *ret_len)
{
    char stamp[STAMP_BYTES], date[STAMP_BYTES], *body = NULL;
    size_t body_len;
    struct tm utc;
    const time_t seconds = (time_t) (mail->time_ns / NS_PER_S);
    (void) gmtime_r (&seconds, &utc);       /* fits: 64 bits of nanoseconds end in 2554 */
    (void) strftime (stamp, sizeof stamp, "%a %b %e %H:%M:%S %Y", &utc);
    (void) strftime (date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", &utc);
    int rc = compose_body (mail->body, &body, &body_len);
    FILE *out = rc ? NULL : open_memstream (ret_text, ret_len);
    if (out) {
        (void) fprintf (out, "From %s %s\nFrom: %s\nTo: %s\nSubject: %s\nDate: %s", mail->from, stamp, mail->from, mail->to, mail->subject, date);
        (void) fprintf (out, "%s%s", message_id_line, mail->message_id);
        if (mail->in_reply_to)
            (void) fprintf (out, "\nIn-Reply-To: %s\nReferences: %s", mail->in_reply_to, mail->in_reply_to);
        (void) fprintf (out, "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit%s%zu\n\n%s\n", content_length,
                        body_len, body);
        rc = fclose (out) == 0 ? 0 : -ENOMEM;
    } else if (!rc)
        rc = -ENOMEM;
    free (body);
    return rc;
}

/* Cut what is behind the last whole mail; it is kept in PATH.torn. */
static int cut (struct mbox *m, int64_t end, int64_t size)
{
    char buffer[HEAD_MAX];
    size_t len;
    int rc = 0;
    const int fd = open (m->torn_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    for (int64_t at = end; !rc && at < size; at += (int64_t) len) {
        rc = read_at (m, buffer, sizeof buffer, at, &len);
        if (!rc && write (fd, buffer, len) != (ssize_t) len)
            rc = errno ? -errno : -EIO;
    }
    if (!rc && fdatasync (fd) != 0)
        rc = -errno;
    (void) close (fd);                      /* synced */
    if (!rc)
        rc = ftruncate (m->fd, end) == 0 ? 0 : -errno;
    if (!rc)
        (void) fprintf (stderr, "MBOX-TORN position=%lld cut_bytes=%lld: the last mail was not whole; kept in %s\n", (long long) end, (long long) (size - end),
                        m->torn_path);
    return rc;
}

/* Under the lock: behind the last whole mail, on disk. */
static int put (struct mbox *m, const char *text, size_t len, int64_t end)
{
    struct stat is;
    int rc = fstat (m->fd, &is) == 0 ? 0 : -errno;
    if (!rc && is.st_size > end)
        rc = cut (m, end, is.st_size);
    if (rc)
        return rc;
    rc = write_at (m, text, len, end);
    if (!rc && fdatasync (m->fd) != 0)
        rc = -errno;
    if (rc)
        (void) !ftruncate (m->fd, end);     /* else the next one finds it torn */
    return rc;
}

int mbox_append (struct mbox *m, const struct mail *mail, bool *ret_added)
{
    char *text = NULL;
    size_t len = 0;
    int64_t end;
    bool has = false;
    if (!fits_a_head (mail->message_id) || !fits_a_head (mail->from) || !fits_a_head (mail->to) || !fits_a_head (mail->subject))
        return FM_ERR_MALFORMED;
    int rc = compose (mail, &text, &len);
    if (!rc)
        rc = lock (m, F_WRLCK);
    if (!rc) {
        rc = find (m, mail->message_id, &end, &has);
        if (!rc && !has)
            rc = put (m, text, len, end);
        (void) lock (m, F_UNLCK);
    }
    free (text);
    if (!rc && ret_added)
        *ret_added = !has;
    return rc;
}
