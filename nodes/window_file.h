/* window_file: the publisher's window once more, in the file DIR/window, so that it outlives a killed process.
 *
 *     position   bytes   (integers little-endian)
 *            0     512   header: what never changes
 *         2048      64   place, first copy
 *         3072      64   place, second copy
 *         4096   capacity   the ring: records one behind the other
 *
 *     header: position  bytes   field
 *                    0      8   "FMWINDOW"
 *                    8      4   version, 1
 *                   12      4   zero
 *                   16     16   stream id
 *                   32      8   capacity
 *                   40      8   salt, random
 *                   48      1   length of the mesh's name
 *                   49     63   the mesh's name, zeros behind it
 *                  504      8   XXH3-64 of all before
 *
 *     place:         0      8   count: of two good copies the larger one holds
 *                    8      8   start: no record below this place is needed
 *                   56      8   XXH3-64 of all before, seeded with salt + its position in the file
 *
 *     record:        0      4   "FMWR"
 *                    4      4   length of the batch
 *                    8      8   place: that of this record
 *                   16      8   start: when it was written, no record below this place was needed any more
 *                   24      8   XXH3-64 of the batch, seeded with the XXH3-64 of the 24 bytes before, that seeded with salt + place
 *                   32      -   the batch, as it was sent (announced ones whole); zeros up to a multiple of 8
 *
 * A place counts bytes since the file was made and never falls; it lies in the ring at place modulo capacity, and a record may go
 * over the ring's end. So what is left of an earlier round, or lies at a wrong place, has a wrong place or sum, and a payload, which cannot know the
 * salt, cannot pose as a record.
 *
 * Opening reads the records from the newest `start` on, skips what is not one (a torn end, damage: that costs the records it hit), and writes
 * those that hold into a new file with a new salt, which takes the old one's place when it is on disk. The batches were checked and summed;
 * here they are decoded again all the same.
 *
 * Promise: a batch whose append returned 0 outlives the process (the page cache has it); with `sync` power loss too. A record is
 *          never written over one that the file's newest place still needs.
 * Thread:  one, or one lock: the publisher's. Opening: nobody else has it yet.
 * Bounded: the file has at most WINDOW_FILE_RING_POS + capacity bytes; blocks are taken as they are used, and an empty window begins at the ring's
 *          beginning again once it has gone WINDOW_FILE_REWIND bytes. */

#ifndef FM_NODES_WINDOW_FILE_H
#define FM_NODES_WINDOW_FILE_H

#include "fs.h"
#include "identity.h"
#include "window.h"

enum {
    WINDOW_FILE_VERSION = 1,
    WINDOW_FILE_HEADER_LEN = 512,
    WINDOW_FILE_PLACE_POS = 2048,
    WINDOW_FILE_PLACE_STEP = 1024,          /* the second copy: another sector */
    WINDOW_FILE_PLACE_LEN = 64,
    WINDOW_FILE_RING_POS = 4096,
    WINDOW_FILE_RECORD_HEAD = 32,
    WINDOW_FILE_ALIGN = 8,
    WINDOW_FILE_REWIND = 1 << 20
};

struct window_file;

/* What an open brought back, and what it could not. */
struct window_file_found {
    uint64_t batches, facts, bytes;
    uint64_t end_seq;                       /* behind the last fact; 0: none */
    uint64_t damaged_bytes;                 /* between records that hold */
    uint64_t refused;                       /* records that hold, with a batch that cannot be ours */
};

/* Open DIR/window in a directory that the identity has locked, or make it; what it held goes into the window, which is empty and new (window_init). capacity:
 * bytes that records take at most (more when what it held takes more); sync: each append waits for the disk.
 * Errors: FM_ERR_FOREIGN (of another stream or mesh), FM_ERR_NEWER, FM_ERR_CORRUPT (the header), -errno; then the file is as it was. */
int window_file_open (const struct fs *fs, const struct identity *identity, struct fm_slice mesh, uint64_t capacity, bool sync,
                      struct window *window, struct window_file **ret_file, struct window_file_found *ret_found);

/* Is there one? A publisher that does not keep its window there must not pass over facts that no journal may have. */
bool window_file_exists (const struct fs *fs, const struct identity *identity);

/* Keep a batch; start: the place of the oldest record that is still needed (of the window's first item), UINT64_MAX: none is. *ret_place: its own.
 * FM_ERR_FULL (with a detail), -errno: the batch is not kept, try again later. After a failed sync every append fails: only a new file can be trusted. */
int window_file_append (struct window_file *file, struct fm_slice batch, uint64_t start, uint64_t *ret_place);

/* Make room where an append found none (FM_ERR_FULL) though little is needed, because the oldest of it lies far behind: all that the windows hold, in order, is
 * written into a new file, which takes the old one's place; their items' places change. -ENOMEM, -errno: then it is as it was, or takes nothing more. */
int window_file_compact (struct window_file *file, const struct identity *identity, struct fm_slice mesh, struct window *const windows[], size_t count);

/* Let go of it (NULL is fine). empty: all is synced, the file is removed. */
void window_file_close (struct window_file **file, bool empty);

#endif
