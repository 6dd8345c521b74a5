/* cookie: what a data directory is: of which mesh and journal, which generation, which format. Written once to a
 * temporary name, synced, renamed, and the directory synced. FORMAT.md, "Cookie". */

#ifndef FM_JOURNAL_COOKIE_H
#define FM_JOURNAL_COOKIE_H

#include "fm_limits.h"
#include "fs.h"
#include "id.h"

enum { COOKIE_MAJOR = 1, COOKIE_MINOR = 0, COOKIE_LEN = 128 };
#define COOKIE_NAME "journal.cookie"
#define COOKIE_TEMPORARY_NAME "journal.cookie.tmp"

struct cookie {
    struct fm_id journal;
    uint64_t generation;                    /* 1; a restored copy counts on */
    uint64_t created_ns;
    char mesh[MESH_NAME_MAX + 1];
};

/* -ENOENT: there is none; FM_ERR_CORRUPT; FM_ERR_NEWER; -errno. */
int cookie_read (const struct fs *fs, int dir, struct cookie *ret_cookie);
int cookie_write (const struct fs *fs, int dir, const struct cookie *c);

#endif
