/* cursor_table: the named cursors, in memory, in name order. Each is kept as it is encoded on disk.
 *
 * Owns:    the encoded entries, at most `max` of them and CURSORS_BYTES_MAX bytes.
 * Thread:  the log's cursor lock.
 * Bytes:   FORMAT.md, "Cursor entry". */

#ifndef FM_JOURNAL_CURSOR_TABLE_H
#define FM_JOURNAL_CURSOR_TABLE_H

#include "bytes.h"
#include "fm_limits.h"

enum {
    CURSOR_HEADER_LEN = 24,
    CURSOR_BYTES_MAX = 4 << 20,             /* of one: CURSOR_POSITIONS_MAX streams fit */
    CURSORS_BYTES_MAX = 32 << 20            /* of all: each segment begins with them */
};

/* One cursor; slices are borrowed. */
struct cursor_view {
    struct fm_slice name, cursor, filters;
    uint64_t updated_ns;
};

size_t cursor_entry_len (const struct cursor_view *c);
void cursor_entry_encode (uint8_t *p, const struct cursor_view *c);
/* Decode the entry at the start of [p, p + len). Returns 0 or FM_ERR_CORRUPT. */
int cursor_entry_decode (const uint8_t *p, size_t len, struct cursor_view *ret_cursor, size_t *ret_entry_len);

struct cursor_table {
    uint8_t **entries;
    uint32_t count, size, max;
    size_t bytes;
};

int cursor_table_init (struct cursor_table *t, uint32_t max);
void cursor_table_release (struct cursor_table *t);

/* May this one be put? FM_ERR_LIMIT or 0. */
int cursor_table_check (const struct cursor_table *t, const struct cursor_view *c);
/* Put it, limits or not: what the log holds is never dropped because a limit was lowered. `entry` is malloc'ed and
 * encoded, and taken on success. Returns 0 or -ENOMEM. */
int cursor_table_put (struct cursor_table *t, uint8_t *entry);
/* FM_ERR_UNKNOWN or 0. */
int cursor_table_delete (struct cursor_table *t, struct fm_slice name);
int cursor_table_get (const struct cursor_table *t, struct fm_slice name, struct cursor_view *ret_cursor);
/* The first whose name is above `after`. FM_ERR_END or 0. */
int cursor_table_next (const struct cursor_table *t, struct fm_slice after, struct cursor_view *ret_cursor);

#endif
