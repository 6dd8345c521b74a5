/* blob_inner: what blob_store.c (names, leases, reading), blob_upload.c and blob_sweep.c share. */

#ifndef FM_JOURNAL_BLOB_INNER_H
#define FM_JOURNAL_BLOB_INNER_H

#include <pthread.h>

#include "blob_file.h"
#include "sha256.h"

enum { BLOB_NAME_LEN = BLOB_DIGEST_TEXT_LEN + 8 };

struct blob_store {
    struct blob_store_options options;      /* with the defaults filled in */
    int root, blobs, upload, quarantine;    /* directories; quarantine -1: not made yet */
    uint64_t opened_ns;                     /* Unix: a lease does not run while nobody could record */
    pthread_mutex_t lock;                   /* names, leases, the list below */
    struct blob_upload *uploads;            /* that are open */
    unsigned upload_count;
};

struct blob_upload {
    struct blob_store *store;
    struct blob_upload *link;               /* in the store's list */
    bool entered, named;                    /* it is in that list; it became a blob */
    char name[BLOB_NAME_LEN];
    int fd;
    bool broken;                            /* a sync failed: what the disk has is not known */
    struct blob_header header;
    struct sha256 *sha256;                  /* of the bytes below `next` */
    uint64_t resume_end;                    /* whole blocks below it are there, unread since the open; 0: ready */
    uint64_t next, synced;                  /* next: with what is in the buffer */
    size_t buffered;
    uint8_t buffer[BLOB_STRIDE];            /* the block that fills up, and room for its sum */
};

/* An open file of the store, its header and lease. */
struct blob_handle {
    int fd;
    struct blob_header header;
    struct blob_lease lease;
};

static inline const struct fs *blob_fs (const struct blob_store *s)
{
    return s->options.fs;
}
static inline uint64_t blob_now (const struct blob_store *s)
{
    return s->options.clock->unix_ns (s->options.clock->context);
}

/* "ab" of "abcd…". */
void blob_folder_name (unsigned folder, char ret_name[3]);
/* A folder's descriptor; create: made, and durable, where it is not there. FM_ERR_UNKNOWN: there is none. */
int blob_folder_open (struct blob_store *s, unsigned folder, bool create, int *ret_dir);

/* Open a stored blob and check its head. One that is damaged goes to quarantine. FM_ERR_UNKNOWN, FM_ERR_CORRUPT, FM_ERR_NEWER, -errno. Any thread, but
 * not with the lock held. */
int blob_handle_open (struct blob_store *s, const uint8_t digest[BLOB_DIGEST_LEN], struct blob_handle *ret_handle);
void blob_handle_close (struct blob_store *s, struct blob_handle *h);
/* Read its lease again. */
void blob_handle_refresh (struct blob_store *s, struct blob_handle *h);
/* A lease never gets shorter. Durable when it returns. With the lock. */
int blob_handle_lease (struct blob_store *s, struct blob_handle *h, uint64_t lease_ms);
void blob_handle_info (const struct blob_handle *h, struct blob_info *ret_info);
/* Write the first lease of a file that nobody reads yet. */
int blob_lease_write (struct blob_store *s, int fd, const struct blob_header *h, uint64_t lease_ms, struct blob_lease *ret_lease);

/* The names of a folder, sorted; to be freed. */
struct blob_names {
    uint8_t (*digests)[BLOB_DIGEST_LEN];
    size_t count, size;
};
int blob_folder_names (struct blob_store *s, unsigned folder, struct blob_names *ret_names);

#endif
