/* cursor: a subscription's place, as numbers and as a Cursor message (factmesh.proto).
 *
 * A base (journal, generation, offset: all below it is done) and, for the streams that are further, the sequence through which they are done.
 * To list more streams than needed is right, only longer; to list fewer would give facts twice.
 *
 * Bounded: CURSOR_POSITIONS_MAX positions.   Thread: none of its own. */

#ifndef FM_NODES_CURSOR_H
#define FM_NODES_CURSOR_H

#include "bytes.h"
#include "factmesh.pb-c.h"
#include "id.h"
#include "fm_limits.h"

struct cursor_position {
    struct fm_id stream;
    uint64_t seq;
};

/* Zero-initialised: at no place. */
struct cursor {
    struct fm_id journal;
    uint64_t generation, offset;
    struct cursor_position *positions;
    size_t count, size;
};
void cursor_release (struct cursor *c);
void cursor_clear (struct cursor *c);

/* List a stream; each at most once. Returns 0, FM_ERR_LIMIT or -ENOMEM. */
int cursor_add (struct cursor *c, const struct fm_id *stream, uint64_t seq);

/* A message that borrows the cursor's numbers, and the memory that takes. Valid until the cursor changes. */
struct cursor_message {
    Factmesh__Cursor message;
    Factmesh__StreamPosition *items;
    Factmesh__StreamPosition **pointers;
};
int cursor_message_init (struct cursor_message *m, const struct cursor *c);
void cursor_message_release (struct cursor_message *m);

/* Check and copy a message: FM_ERR_VERSION, FM_ERR_MALFORMED (no journal, no offset, an id or sequence that is none, a stream twice),
 * FM_ERR_LIMIT, -ENOMEM. *c is untouched on failure. */
int cursor_from_message (struct cursor *c, const Factmesh__Cursor *message);

/* The same from and to bytes. Encoded bytes live in *buffer, grown with realloc (*size), the caller's to free. */
int cursor_decode (struct cursor *c, struct fm_slice bytes);
int cursor_encode (const struct cursor *c, void **buffer, size_t *size, struct fm_slice *ret_bytes);

#endif
