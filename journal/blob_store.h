/* blob_store: large contents in files beside the log, each named by its SHA-256.
 *
 *     blob_upload_open --write, write, …--> blob_upload_finish --> DIR/blobs/ab/abcd…      (in between: DIR/blobs/upload/KEY.part)
 *           ^-- cut: the next open of the key goes on --'
 *
 * Owns:    DIR/blobs/.
 * Threads: an upload and a reader belong to one thread each; the store may be used by any (one lock, held while names or leases change).
 * Promise: what finish returned survives kill -9 and power loss, is stored once, and has the digest that names it. What is read was checked, block by
 *          block; a damaged blob goes to quarantine/ and is told, never handed out. Nothing goes before its lease has run out.
 * Bounded: BLOB_UPLOADS_MAX open uploads, a block of memory each; names of one of 256 folders at a time.
 * Bytes:   FORMAT.md, "Blob". */

#ifndef FM_JOURNAL_BLOB_STORE_H
#define FM_JOURNAL_BLOB_STORE_H

#include <stdbool.h>

#include "blob.h"
#include "clock.h"
#include "fs.h"

enum {
    BLOB_UPLOADS_MAX = 64,              /* open at a time */
    BLOB_LEASE_MS = 60 * 60 * 1000,     /* the default */
    BLOB_FOLDERS = 256
};
#define BLOB_LEASE_MS_MAX ((uint64_t) 366 * 24 * 60 * 60 * 1000)
#define BLOB_SIZE_MAX_DEFAULT ((uint64_t) 1 << 40)
#define BLOB_UPLOAD_KEEP_MS ((uint64_t) 24 * 60 * 60 * 1000)    /* an upload that nobody goes on with */

struct blob_store;
struct blob_upload;
struct blob_reader;

/* Zero is the default of every option. */
struct blob_store_options {
    const struct fs *fs;
    const struct clock *clock;
    uint64_t size_max;                  /* of one blob */
    uint64_t lease_ms;
    uint64_t upload_keep_ms;
    /* A damaged blob was put into quarantine, or could not be. Any thread; must not call back. */
    void (*damaged) (void *arg, const uint8_t digest[BLOB_DIGEST_LEN], const char *text);
    void *damaged_arg;
};

struct blob_info {
    uint8_t digest[BLOB_DIGEST_LEN];
    uint64_t size;
    uint64_t stored_ns, lease_ns;       /* Unix time */
    uint8_t media_type_len;
    char media_type[TYPE_MAX];
};

/* Make the folders where they are not there. A start costs the same, whatever is stored. -errno. */
int blob_store_open (const char *directory, const struct blob_store_options *options, struct blob_store **ret_store);
/* Its uploads and readers were closed before. */
void blob_store_destroy (struct blob_store **store);

/* --- Storing. */

/* Begin an upload, or go on with what an earlier one of this key (1 to BLOB_KEY_MAX bytes) left. FM_ERR_IN_USE: it is open; FM_ERR_LIMIT: too many are;
 * -errno. */
int blob_upload_open (struct blob_store *store, struct fm_slice key, struct fm_slice media_type, struct blob_upload **ret_upload);
/* Read again what an earlier one left, at most so many blocks: what checks is kept, the rest is cut off. *ret_done: it is ready for more. */
int blob_upload_resume (struct blob_upload *u, unsigned blocks, bool *ret_done);
/* How many bytes it has; how many survive power loss. */
uint64_t blob_upload_next (const struct blob_upload *u);
uint64_t blob_upload_synced (const struct blob_upload *u);
/* Append. FM_ERR_TOO_LARGE: beyond size_max. -ENOSPC and such: *ret_taken bytes were taken, the rest may be tried again. */
int blob_upload_write (struct blob_upload *u, const void *data, size_t len, size_t *ret_taken);
/* After a failure of it (or of what follows) the upload is of no use: discard it. */
int blob_upload_sync (struct blob_upload *u);
/* Make it a blob, for so long at least (0: the default). It must have this digest (NULL: whatever it has) and size (UINT64_MAX: whatever it has).
 * *ret_new: it was not stored before. FM_ERR_END: the size is another; FM_ERR_CORRUPT: the digest is. -ENOSPC may be tried again, after anything else
 * discard it. */
int blob_upload_finish (struct blob_upload *u, const uint8_t *digest, uint64_t size, uint64_t lease_ms, struct blob_info *ret_info, bool *ret_new);
/* What it has so far stays for the next open of its key. */
void blob_upload_close (struct blob_upload **upload);
void blob_upload_discard (struct blob_upload **upload);

/* --- Reading. FM_ERR_UNKNOWN: no such blob; FM_ERR_CORRUPT: it is damaged, and in quarantine now. */

int blob_store_stat (struct blob_store *store, const uint8_t digest[BLOB_DIGEST_LEN], struct blob_info *ret_info);
/* The same, and keep it for so long from now on at least. Durable when it returns. */
int blob_store_lease (struct blob_store *store, const uint8_t digest[BLOB_DIGEST_LEN], uint64_t lease_ms, struct blob_info *ret_info);
int blob_reader_open (struct blob_store *store, const uint8_t digest[BLOB_DIGEST_LEN], struct blob_reader **ret_reader);
const struct blob_info *blob_reader_info (const struct blob_reader *r);
/* Bytes from a position on, up to the end of their block at most; valid until the next call. FM_ERR_END: behind the end. A blob that is removed stays
 * readable for who has it open. */
int blob_reader_at (struct blob_reader *r, uint64_t position, struct fm_slice *ret_bytes);
void blob_reader_close (struct blob_reader **reader);

/* Blobs in order of their digests, behind `after` (NULL: from the first). */
int blob_store_list (struct blob_store *store, const uint8_t *after, struct blob_info *ret, size_t max, size_t *ret_count, bool *ret_more);

/* --- Sweeping. */

/* Is it in use? 0: no; 1: yes; negative: can't be told now (the sweep ends with it). Called without the lock. */
typedef int blob_used_fn (void *arg, const uint8_t digest[BLOB_DIGEST_LEN]);
struct blob_sweep {
    uint64_t expired_ns;                /* leases that ran out by then, Unix time; 0: by now */
    unsigned folder;                    /* where to go on; 0 and no name: at the beginning */
    uint8_t after[BLOB_DIGEST_LEN];
    bool within;
    unsigned removed, uploads_removed;  /* by this call */
};
/* Look at up to `max` blobs: one whose lease has run out and that is not used is removed; then, at the end of a round, uploads that nobody went on with.
 * 0: a round is complete, and the next call begins anew; FM_ERR_FULL: there is more; what `used` returned; -errno. */
int blob_store_sweep (struct blob_store *store, struct blob_sweep *sweep, unsigned max, blob_used_fn *used, void *arg);

#endif
