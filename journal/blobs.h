/* blobs: large contents, over the control endpoint: a thread that takes uploads in chunks with credit, and answers reads.
 *
 *     node's thread: BlobPutOpen, BlobPutChunk, BlobRead, … --> mailbox --> blobs thread: blob_store --> node_reply
 *     HTTP's threads (http.h) -------------------------------------------------------------^ the store, directly
 *     indexer's thread: which facts point to what --> blobs_sweep
 *
 * Owns:    the thread, the store, uploads under way, files that are read.
 * Promise: a read is stateless: whoever was cut asks again where he was, here or at another journal. An upload that was cut goes on at its last whole
 *          block. Nothing waits for this thread but those who asked it.
 * Bounded: what waits, by the mailbox; credit of all uploads together; BLOBS_READERS files with a block each. */

#ifndef FM_JOURNAL_BLOBS_H
#define FM_JOURNAL_BLOBS_H

#include "blob_store.h"
#include "context.h"

enum {
    BLOBS_CREDIT_BYTES = 4 << 20,       /* of one upload; less when there are many: */
    BLOBS_CREDIT_ALL_BYTES = 12 << 20,  /* they wait in the mailbox, which has more */
    BLOBS_CREDIT_MIN_BYTES = 2 * BLOB_BLOCK,
    BLOBS_SYNC_BYTES = 8 << 20,         /* of an upload, between two syncs */
    BLOBS_RESUME_BLOCKS = 64,           /* read again in one turn */
    BLOBS_READERS = 16,
    BLOBS_IDLE_MS = 60000,              /* an upload without a word for so long is put to rest; its file stays */
    BLOBS_TAKEOVER_MS = 2000,           /* somebody else may go on with an upload whose asker went, or is silent for so long */
    BLOBS_SWEEP_MS = 60000,             /* between two rounds over all blobs */
    BLOBS_SWEEP_LOOKS = 256             /* blobs that one turn of it looks at */
};

struct blobs;

int blobs_new (struct journal_context *context, const char *directory, struct blobs **ret_blobs);
void blobs_destroy (struct blobs **blobs);
/* For others that serve it. */
struct blob_store *blobs_store (struct blobs *b);

/* Look whether blobs may go: a turn, when it is due. `used` answers for facts that were recorded before the round began: `passed` says whether the caller
 * knows of all offsets below one. The indexer's thread. True: there is more to do at once. */
struct blobs_use {
    void *arg;
    bool (*passed) (void *arg, uint64_t offset);
    blob_used_fn *used;
};
bool blobs_sweep (struct blobs *b, uint64_t now_ns, const struct blobs_use *use);

#endif
