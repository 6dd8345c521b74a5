/* identity: a stream's data directory: who it is, in which epoch, and which sequences may have been used.
 *
 *     DIR/lock      flock'ed while a publisher has the stream open; its process id in text
 *     DIR/stream    IDENTITY_FILE_LEN bytes, replaced as a whole (write stream.new, fsync, rename, fsync DIR)
 *     DIR/window    what no journal has synced, where that is kept on disk too: window_file.h
 *
 *     position  bytes   field (integers little-endian)
 *            0      8   "FMSTREAM"
 *            8      4   version, 1
 *           12      4   flags: 1: closed cleanly, next_seq is exact; 2: a journal has told how far it has the stream, in this epoch or an earlier one.
 *                       Those that are not known are not looked at
 *           16     16   stream id
 *           32      8   epoch, 1 and up
 *           40      8   next_seq: no sequence from here on was ever used
 *           48      1   length of the mesh's name
 *           49     63   the mesh's name, zeros behind it
 *          112      1   length of the stream's name
 *          113     63   the stream's name, zeros behind it
 *          176      8   XXH3-64 of all before
 *
 * Promise: the epoch is on disk, one higher, before the first fact of it; sequences are reserved on disk before they are used. So a
 *          crash, a kill or a power loss never makes a sequence, or an epoch, be used twice. After a crash the rest of the
 *          reserved block stays unused for ever.
 * Thread:  any; one lock inside. */

#ifndef FM_NODES_IDENTITY_H
#define FM_NODES_IDENTITY_H

#include "bytes.h"
#include "fm_limits.h"
#include "id.h"

enum {
    IDENTITY_VERSION = 1,
    IDENTITY_FILE_LEN = 184,
    IDENTITY_RESERVE_FIRST = 1 << 14,   /* sequences reserved at once; what a crash leaves of them is void */
    IDENTITY_RESERVE_MAX = 1 << 22      /* at 4 million facts/s one write a second */
};

struct identity {
    struct fm_id stream;
    uint64_t epoch, incarnation;
    uint64_t epoch_first_seq;
    char name[NODE_NAME_MAX + 1];
    bool journal;                           /* one has told of the stream, in some epoch; changed by one thread, the node's */
    struct identity_directory *directory;   /* NULL: the stream lives only as long as the process */
};

/* Take the stream of a directory, made when it isn't there (its parent must be), in the next epoch; directory NULL: a new stream that nothing
 * remembers. name: for people; empty: the one that the directory has. *ret_reserved_end: sequences below may be used.
 * Errors: FM_ERR_IN_USE, FM_ERR_FOREIGN (of another mesh), FM_ERR_NEWER, FM_ERR_CORRUPT, -errno; the detail says which file. */
int identity_open (const char *directory, struct fm_slice mesh, struct fm_slice name, struct identity *ret_identity,
                   uint64_t *ret_reserved_end);

/* Sequences below end may be used once this returns 0. Waits for the disk. -errno: they may not. */
int identity_reserve (struct identity *identity, uint64_t end);

/* A journal has told of the stream: later epochs know it, too. Waits for the disk, the first time. -errno: it is remembered with what is stored next. */
int identity_note_journal (struct identity *identity);

/* The directory (there is one), which stays the identity's: its descriptor, its path. */
int identity_dir (const struct identity *identity);
const char *identity_path (const struct identity *identity);

/* Remember exactly that next_seq comes next, and let go of the directory. After -errno the next epoch begins behind the reserved block instead. */
int identity_close (struct identity *identity, uint64_t next_seq);

#endif
