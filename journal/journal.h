/* journal: a node that also records: every fact of every node goes to the log, and anybody can replay it.
 *
 * Owns:    the log, and three threads beside the node's: intake (SUB -> log), sync (write, fsync, watermarks), server (replay, cursors, status);
 *          and what stands on them: groups, the indexer, blobs, HTTP.
 *          README.md has the life of a fact and what a crash leaves.
 * Thread:  journal_new and journal_destroy by one; the rest by any. */

#ifndef FM_JOURNAL_JOURNAL_H
#define FM_JOURNAL_JOURNAL_H

#include "log.h"
#include "node.h"

enum {
    JOURNAL_LIVE_QUEUE = 1024,                  /* frames queued from each publisher: 64 MiB at most; beyond them they wait in the publisher, which has them anyway */
    JOURNAL_STREAMS_MAX = 65536,                /* that are published at a time */
    JOURNAL_SESSIONS_MAX = 4096,
    JOURNAL_SESSIONS_PER_PEER_MAX = 1024,
    JOURNAL_ANSWER_MS = 2000,
    JOURNAL_EPOCH_QUIET_MS = 150,
    JOURNAL_EPOCH_WAIT_MS = 1000,
    JOURNAL_HOLDERS_WAIT_MS = 3000,
    JOURNAL_ORPHAN_WAIT_MS = 60000,
    JOURNAL_SETTLE_MS = 3000,
    JOURNAL_BLOB_SWEEP_MS = 60000,
    JOURNAL_SERVE_NICE = 2                     /* lower than recording: of the server's thread, and, by fm_node_options.serve_nice, of the one that sends for it */
};
#define JOURNAL_HELD_BYTES ((size_t) 256 << 20)
#define JOURNAL_STREAM_HELD_BYTES ((size_t) 16 << 20)

struct journal;                                 /* opaque */

/* Zero is the default of every option. */
struct journal_options {
    struct log_options log;                     /* its mesh is the node's */
    size_t held_bytes;                          /* facts held above holes, of all streams */
    size_t stream_held_bytes;                   /* and of one */
    int live_queue;
    uint32_t streams_max;
    unsigned sessions_max, sessions_per_peer_max;
    unsigned answer_ms;                         /* a holder that is silent for so long is asked again, or passed over */
    unsigned epoch_quiet_ms;                    /* a newer epoch waits until the older one's owner has been quiet for so long, */
    unsigned epoch_wait_ms;                     /* but not longer than this */
    unsigned holders_wait_ms;                   /* for a journal that may have what its publisher has no more: that is to come, went, or says `not yet` */
    unsigned orphan_wait_ms;                    /* for a publisher that vanished, before what it alone had is told as not held */
    unsigned settle_ms;                         /* after the start, to learn of other journals */
    uint64_t blob_size_max;                     /* of one blob */
    uint64_t blob_lease_ms;                     /* an uploaded blob is kept so long before a fact points to it */
    const char *http;                           /* serve blobs over HTTP at HOST:PORT; NULL: no HTTP */
    unsigned blob_sweep_ms;                     /* between two looks at what blobs may go */
    /* One line about things that no call returns, with a stable id ("STREAM-CONFLICT"). Called by any of the journal's threads, one at a time;
     * must not call back. NULL: the node's own notice. */
    void (*notice) (void *arg, const char *id, const char *text);
    void *notice_arg;
};

/* Open or create the directory, recover it, begin to record and to serve. Where the node publishes as well, requests for its own streams come here
 * first, and what only the publisher can have yet is left to it. Errors: those of log_open, -ENOMEM, -errno. */
int journal_new (struct fm_node *node, const char *directory, const struct journal_options *options, struct journal **ret_journal);

/* Stop, sync what was received, close. Facts that come after are asked for from their publishers' windows by the next start. */
void journal_destroy (struct journal **journal);

#define JOURNAL_COUNTERS(X)                                                                                                   \
    X (FACTS_RECORDED, "facts_recorded", "facts", "appended to the log")                                                      \
    X (DUPLICATES_RECORDED, "duplicates_recorded", "facts", "of them, that repeat an earlier one under the same identity")                          \
    X (BATCHES_RECORDED, "batches_recorded", "batches", "appended to the log")                                                \
    X (BYTES_RECORDED, "bytes_recorded", "bytes", "of batches appended to the log")                                           \
    X (GAPS_RECORDED, "gaps_recorded", "gaps", "ranges recorded as void or not held")                                         \
    X (BATCHES_HELD, "batches_held", "batches", "held because something before them was missing")                             \
    X (BATCHES_LATER, "batches_later", "batches", "announced, or no room to hold them: fetched from their publisher later")   \
    X (BATCHES_REPAIRED, "batches_repaired", "batches", "came as answers from publishers' windows or other journals")         \
    X (BATCHES_REFUSED, "batches_refused", "batches", "malformed, stale, or of a stream that another node owns")              \
    X (STREAM_CONFLICTS, "stream_conflicts", "batches", "of a second incarnation of one epoch")                               \
    X (HOLES_ASKED, "holes_asked", "requests", "sent to publishers and other journals")                                       \
    X (HOLES_WAIT, "holes_wait", "times", "a stream waited only for a journal that does not say whether it has the facts")    \
    X (FULL_NS, "intake_full", "ns", "recording waited for the disk")                                                         \
    X (SYNCS, "syncs", "times", "fsync of the log")                                                                           \
    X (WATERMARKS_SENT, "watermarks_sent", "messages", "to publishers")                                                       \
    X (DISK_FULL, "disk_full", "times", "a write found no space")                                                             \
    X (RETAIN_FAILED, "retain_failed", "times", "an expired segment could not be removed; it is tried again")                 \
    X (SESSIONS_OPENED, "sessions_opened", "sessions", "replays begun")                                                       \
    X (SESSIONS_REFUSED, "sessions_refused", "sessions", "replays refused: malformed, or a limit was reached")                \
    X (SESSIONS_DROPPED, "sessions_dropped", "sessions", "replays whose asker went, or was silent too long")                  \
    X (REPLAYS_HELD_BACK, "replays_held_back", "times", "a replay waited: too many bytes were on their way to its asker, or to all") \
    X (REPLAY_MESSAGES, "replay_messages", "messages", "of replays")                                                          \
    X (REPLAY_BYTES, "replay_bytes", "bytes", "of replays")                                                                   \
    X (BLOBS_STORED, "blobs_stored", "blobs", "uploaded and durable")                                                         \
    X (BLOBS_KNOWN, "blobs_known", "blobs", "uploaded, and stored already")                                                   \
    X (BLOBS_REFUSED, "blobs_refused", "blobs", "that were not what their digest or size said")                               \
    X (BLOBS_DAMAGED, "blobs_damaged", "blobs", "put into quarantine")                                                        \
    X (BLOBS_SWEPT, "blobs_swept", "blobs", "removed: no fact that is held points to them")                                   \
    X (SWEEPS_FAILED, "sweeps_failed", "times", "what nobody needs could not be looked for or removed; it is tried again")     \
    X (BLOB_BYTES_TAKEN, "blob_bytes_taken", "bytes", "of uploads")                                                           \
    X (HTTP_REQUESTS, "http_requests", "requests", "over HTTP")                                                               \
    X (HTTP_REFUSED, "http_refused", "requests", "over HTTP, answered with an error")                                         \
    X (BLOB_BYTES_READ, "blob_bytes_read", "bytes", "of blobs, sent")                                                         \
    X (CURSORS_PUT, "cursors_put", "cursors", "stored")                                                                       \
    X (REQUESTS_REFUSED, "requests_refused", "requests", "malformed, or the queue of requests was full")
enum journal_counter {
#define JOURNAL_COUNTER_ITEM(name, text, unit, meaning) JOURNAL_##name,
    JOURNAL_COUNTERS (JOURNAL_COUNTER_ITEM)
#undef JOURNAL_COUNTER_ITEM
    JOURNAL_COUNTER_COUNT
};

struct journal_status {
    struct fm_id journal;
    uint64_t generation;
    struct log_position position;
    bool read_only;
    uint64_t counters[JOURNAL_COUNTER_COUNT];
};
void journal_status (struct journal *journal, struct journal_status *ret_status);

/* A counter's name, unit and meaning. */
void journal_counter_text (enum journal_counter counter, const char **ret_name, const char **ret_unit, const char **ret_meaning);

/* The log, for whoever wants to read it in the same process. */
struct log *journal_log (struct journal *journal);

#endif
