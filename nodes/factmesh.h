/* factmesh: the public face. Services publish immutable facts to each other directly, over ZeroMQ; a journal node
 * records them, and whoever is late reads them from there and slides onto the live flow.
 *
 * Returns: 0, or a negative code: -errno or one of enum fm_error (fm_types.h). fm_error_text tells what a code means,
 *          fm_error_detail what exactly failed last in this thread, on what, and what to do.
 * Threads: a node and its publishers may be used by any thread; a subscription by one thread at a time.
 * Memory:  pointers given are borrowed for the call. What a call hands out says how long it lives.
 * Units:   _ms milliseconds, _ns nanoseconds of Unix time, _bytes bytes. A time-out of -1 waits for ever, 0 not at all. */

#ifndef FACTMESH_H
#define FACTMESH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fm_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FM_EXPORT __attribute__ ((visibility ("default")))

/* ------------------------------------------------------------------ errors, small helpers */

/* The text of a code, never NULL. */
FM_EXPORT const char *fm_error_text (int code);
/* What failed last in this thread, on what, why and what to do; "" when nothing did. */
FM_EXPORT const char *fm_error_detail (void);
/* Print `what: text (detail)` and a newline to standard error. Returns code. */
FM_EXPORT int fm_perror (const char *what, int code);

static inline struct fm_slice fm_text (const char *text)
{
    struct fm_slice s;
    s.data = text;
    s.len = text ? strlen (text) : 0;
    return s;
}

/* "0123…:17": 32 hex digits, a colon and the sequence. size is at least FM_FACT_ID_TEXT. */
#define FM_FACT_ID_TEXT 56
FM_EXPORT char *fm_fact_id_text (const struct fm_fact_id *id, char *text, size_t size);
FM_EXPORT int fm_fact_id_parse (const char *text, struct fm_fact_id *ret_id);

/* Append a header to the encoded run in buffer (size bytes, *len used). FM_ERR_FULL when it does not fit. Then publish with
 * .headers = { buffer, len }. */
FM_EXPORT int fm_header_add (void *buffer, size_t size, size_t *len, struct fm_slice name, struct fm_slice value);
/* Walk a fact's headers: *pos starts at 0. FM_ERR_END behind the last. */
FM_EXPORT int fm_header_next (struct fm_slice headers, size_t *pos, struct fm_slice *ret_name, struct fm_slice *ret_value);

FM_EXPORT const char *fm_version (void);

/* ------------------------------------------------------------------ node */

struct fm_node;

/* Zero is the default of every option. */
struct fm_node_options {
    const char *mesh;               /* mesh name; default "default". Nodes of another mesh are not let in */
    const char *name;               /* for people; default HOST-PID */
    const char *seeds;              /* addresses of other nodes (control), commas between; one is enough. NULL: UDP discovery */
    const char *bind;               /* control address to listen at; default: any port, on 127.0.0.1 when all seeds are on loopback, else on all interfaces.
                                     * tcp://HOST:PORT or ipc://PATH */
    const char *bind_live;          /* live address to listen at; default: any port on the host of bind (tcp), or PATH.live. Of the same kind as bind */
    /* What to tell others, commas between: HOST, or HOST:PORT where they reach another port than the bound one (address translation, a container's
     * published ports). advertise: for control; default: the bound host, or each interface's address. advertise_live: default: the hosts of advertise
     * with the live port. */
    const char *advertise, *advertise_live;
    const char *beacon_interface;   /* for UDP discovery; default: czmq's choice */
    int beacon_port;                /* UDP; default 7399; -1: no discovery */
    int ping_ms;                    /* default 500 */
    int dead_ms;                    /* without a sign of life; default 5 times ping_ms */
    int live_queue;                 /* frames queued for a slow subscriber before it is cut off to replay; default 4096 (256 MiB at most) */
    int io_threads;                 /* of ZeroMQ; default 1 */
    int serve_nice;                 /* 1 to 19: what others ask of the control endpoint (a journal's replays) passes through a ZeroMQ thread of its own, so much
                                     * lower in priority (nice) than the caller; default 0: through the io_threads */
    /* Things that no call returns: a refused peer, a conflict, a loss that is being repaired. Called from the node's thread with a stable id
     * ("MESH-FOREIGN") and one line; must not call back. NULL: silent. */
    void (*notice) (void *arg, const char *id, const char *text);
    void *notice_arg;
};

/* Open a node: bind, begin to find the others; does not wait for them. Errors: FM_ERR_ADDRESS (malformed or not ours to bind),
 * FM_ERR_ARGUMENT, -errno. */
FM_EXPORT int fm_node_open (const struct fm_node_options *options, struct fm_node **ret_node);
/* Say goodbye and free. Its publishers and subscriptions must be closed before. */
FM_EXPORT void fm_node_close (struct fm_node **node);

/* One member as this node sees it. Strings are valid during the call. */
struct fm_member {
    struct fm_id node;
    const char *name;
    const char *control;            /* address */
    const char *live;
    bool self;
    bool is_journal;
    struct fm_id journal;
    uint64_t generation;
    uint64_t started_ns;
    unsigned streams;
    unsigned silent_ms;             /* since the last sign of life */
};
FM_EXPORT int fm_node_members (struct fm_node *node, int (*each) (void *arg, const struct fm_member *m), void *arg);
/* Wait until so many members (self included) are known, or a journal is. FM_TIMEOUT, with a detail that names seeds that do not answer. */
FM_EXPORT int fm_node_wait_members (struct fm_node *node, unsigned count, int timeout_ms);
FM_EXPORT int fm_node_wait_journal (struct fm_node *node, int timeout_ms);
/* The control address that others can be given as a seed; valid as long as the node. */
FM_EXPORT const char *fm_node_address (struct fm_node *node);
/* Every counter with its value, unit and one line of meaning. */
FM_EXPORT int fm_node_counters (struct fm_node *node, void (*each) (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning), void *arg);

/* ------------------------------------------------------------------ publishing */

struct fm_publisher;

enum fm_when_full { FM_BLOCK, FM_FAIL, FM_DROP_OLDEST };

/* Where facts are kept until a journal has synced them. FILE: also in a file of the directory, before they leave: those that left survive the process
 * (kill -9), and the next epoch gives them to journals. SYNCED: each frame waits for the disk before it leaves: they survive power loss too.
 * What waits for company (batch_us) has not left; fm_publisher_flush sends it. */
enum fm_window { FM_WINDOW_MEMORY, FM_WINDOW_FILE, FM_WINDOW_SYNCED };

struct fm_publisher_options {
    const char *name;               /* of the stream, for people; default the node's */
    const char *directory;          /* where the stream's identity lives: its facts go on in the same stream after a restart. NULL: a new stream each time */
    size_t window_bytes;            /* kept until a journal has synced; default 64 MiB */
    enum fm_when_full when_full;    /* window full: block up to block_ms, fail at once, or (for meshes without a journal) forget the oldest */
    int block_ms;                   /* default 10000; -1: for ever */
    size_t payload_max;             /* default 1 MiB, at most 64 MiB */
    enum fm_window window_on_disk;  /* needs a directory; DIR/window. Once there, it must be opened with it until all is synced and closed */
    const char *journals;           /* ids of the journals that count, commas between: a fact is synced when all have it. NULL: any one */
    int batch_us;                   /* under load facts share a frame for at most this long (in a flood four times as long); default 50, with FM_WINDOW_SYNCED 1000.
                                     * -1: never share */
};

/* Open a stream. Errors: FM_ERR_IN_USE (the directory is another process's), FM_ERR_FOREIGN, FM_ERR_NEWER, FM_ERR_CORRUPT, FM_ERR_ARGUMENT (an option; or
 * there is a window on disk that would be passed over), FM_ERR_LIMIT (the node has 1024 streams), -errno. */
FM_EXPORT int fm_publisher_open (struct fm_node *node, const struct fm_publisher_options *options, struct fm_publisher **ret_publisher);
/* Sends what is pending and frees; does not wait for journals: call fm_publisher_wait_synced first. */
FM_EXPORT void fm_publisher_close (struct fm_publisher **publisher);

/* Publish one fact: it is on its way to all live subscribers when this returns, or under load within batch_us and about 0.2 ms. Bytes are
 * copied. *ret_id (may be NULL) is the fact's name for ever.
 * Errors: FM_ERR_TOPIC, FM_ERR_TOO_LARGE, FM_ERR_MALFORMED (headers or blob), FM_ERR_WINDOW_FULL (no journal has synced), FM_ERR_LOST (a journal refuses the
 * stream), -errno (no memory; no sequences could be reserved in the directory; the window's file could not be written, for as long as a full window
 * is waited for). Then nothing was accepted. */
FM_EXPORT int fm_publish (struct fm_publisher *publisher, const struct fm_fact *fact, struct fm_fact_id *ret_id);
/* The same with a topic and a text. */
FM_EXPORT int fm_publish_text (struct fm_publisher *publisher, const char *topic, const char *text);
/* Send what waits for company. */
FM_EXPORT int fm_publisher_flush (struct fm_publisher *publisher);

/* Wait until sequence seq (0: all so far, and what came back from a window on disk) is synced by the journals that count: it survives power loss. FM_TIMEOUT (the detail says how far it is);
 * the facts stay in the window, and waiting again is fine. FM_ERR_LOST: a journal refuses the stream; or some of what came back (seq itself) is nowhere but here: a journal
 * waited for this publisher for its time, then gave those sequences up, and takes them no more. The detail has the ranges; the rest is synced. */
FM_EXPORT int fm_publisher_wait_synced (struct fm_publisher *publisher, uint64_t seq, int timeout_ms);
/* After that: the next fact that was lost so, in order, under its old name (ret_fact->id); valid until the next call. Publish it again (fm_publish takes it as it is, and
 * gives it a new name), or leave it: with the next call it is let go. FM_ERR_END: there is none (any more), -errno. Until they are taken they stay in the window and
 * count in its bytes; a process that is killed meanwhile is handed them again, so facts that must not come twice need an identity. One thread at a time. */
FM_EXPORT int fm_publisher_lost_next (struct fm_publisher *publisher, struct fm_fact *ret_fact);

struct fm_publisher_state {
    struct fm_id stream;
    uint64_t epoch;
    uint64_t head;                  /* last sequence published */
    uint64_t sent;                  /* last sequence that left */
    uint64_t received, written, synced;   /* by the journals that count: all up to there, but for what is lost */
    uint64_t lost;                  /* the first sequence that came back from the window on disk, and that journals gave up (fm_publisher_lost_next); 0: none */
    uint64_t recovered;             /* the last sequence that came back from the window on disk; 0: none did */
    size_t window_bytes;            /* in use */
};
FM_EXPORT void fm_publisher_state (struct fm_publisher *publisher, struct fm_publisher_state *ret_state);

/* ------------------------------------------------------------------ subscribing */

struct fm_subscription;

enum fm_start { FM_FROM_END, FM_FROM_START, FM_FROM_TIME, FM_FROM_LAST, FM_FROM_CURSOR, FM_FROM_LATEST };
enum fm_delivery { FM_LIVE, FM_SYNCED };

struct fm_subscription_options {
    const char *const *topics;      /* patterns, NULL behind the last; NULL: all. `orders.placed`, `orders.*.placed`, `orders.>` */
    enum fm_start from;             /* where it starts when the named cursor does not exist yet, or none is named. FM_FROM_LATEST: with the newest fact
                                     * of each key that the journal holds, in the order in which it recorded them; then all that came after */
    uint64_t from_time_ns;          /* FM_FROM_TIME: the journal's clock */
    uint64_t from_last;             /* FM_FROM_LAST: so many matching facts before the end */
    struct fm_slice from_cursor;    /* FM_FROM_CURSOR: what fm_subscription_cursor gave */
    const char *cursor;             /* the name of a durable place in a journal; resumes there. Of several journals the one that has it must be there: where none
                                     * that is met within half a second knows the name it is new, and begins where `from` says */
    enum fm_delivery delivery;      /* FM_SYNCED hands out only what a journal has on disk */
    size_t held_bytes;              /* live facts held while a hole is filled; default 16 MiB */
    int commit_ms;                  /* acknowledgements reach the journal at most this often; default 200 */
    int open_timeout_ms;            /* to find a journal for a start other than the end, and hear from it (5000 at least); default 5000; -1: for ever */
    bool no_journal;                /* plain live, repaired from publishers' windows alone; from the end on of those who are members by then:
                                     * fm_node_wait_members first */
};

/* Open a subscription. From the start, a time or a cursor it needs a journal: FM_ERR_NO_JOURNAL when none is found in time, FM_ERR_UNREACHABLE when
 * the one that was found says nothing. FM_INTERRUPTED: a signal came while it waited. FM_ERR_TOPIC, FM_ERR_GENERATION (the cursor is of another
 * journal), FM_ERR_MALFORMED (its bytes). */
FM_EXPORT int fm_subscription_open (struct fm_node *node, const struct fm_subscription_options *options, struct fm_subscription **ret_subscription);
/* Commits what is acknowledged (waits at most a second) and frees. */
FM_EXPORT void fm_subscription_close (struct fm_subscription **subscription);

enum fm_event_kind { FM_EVENT_FACT = 1, FM_EVENT_GAP, FM_EVENT_CAUGHT_UP, FM_EVENT_FELL_BEHIND };
enum fm_gap_reason { FM_GAP_UNKNOWN, FM_GAP_EXPIRED, FM_GAP_DAMAGED, FM_GAP_VOID, FM_GAP_REDACTED, FM_GAP_NOT_HELD };

struct fm_gap {
    struct fm_id stream;            /* zero: the range is of the journal's offsets */
    uint64_t first, end;            /* sequences [first, end) */
    enum fm_gap_reason reason;
};

struct fm_event {
    enum fm_event_kind kind;
    bool replayed;                  /* came from a journal, not live */
    struct fm_fact fact;            /* FM_EVENT_FACT; slices are valid until the next call on the subscription */
    struct fm_gap gap;              /* FM_EVENT_GAP */
};

/* The next event. FM_TIMEOUT: none came in time. FM_INTERRUPTED: a signal came while it waited (SIGCONT after a stop, too): look whether it was meant
 * to end the program, else call again. FM_ERR_CONFLICT: a stream came twice with the same epoch (the detail names it; go on calling). FM_ERR_GENERATION: the
 * journal was restored from a copy, once. Going on calling, streams go on by their sequences; of one of which only the lost place told where it begins what lies
 * below is a gap, FM_GAP_UNKNOWN: some of it may have been handed out. Cursors end: they say FM_ERR_NO_JOURNAL until the subscription is opened anew. Where
 * facts are missing and may be had from a journal or a publisher that is away they are waited for, however long; the notices SUBSCRIPTION-WAITS, REPLAY-WAITS, CURSOR-WAITS
 * (fm_node_options.notice) tell of it each minute. */
FM_EXPORT int fm_subscription_next (struct fm_subscription *subscription, int timeout_ms, struct fm_event *ret_event);

/* Readable (poll, epoll, zloop) when fm_subscription_next with time-out 0 may have something: then call it until FM_TIMEOUT. */
FM_EXPORT int fm_subscription_fd (struct fm_subscription *subscription);

/* All events taken so far are done: the named cursor will stand behind them. Cheap; reaches the journal within commit_ms. */
FM_EXPORT int fm_subscription_ack (struct fm_subscription *subscription);
/* Wait until what was acknowledged is durable at the journal. FM_TIMEOUT, FM_INTERRUPTED; FM_ERR_GENERATION (it was restored from a copy), FM_ERR_NO_JOURNAL
 * (it was before, or none was met), other errors of the journal. */
FM_EXPORT int fm_subscription_commit (struct fm_subscription *subscription, int timeout_ms);
/* The place behind the last event taken, as bytes for the service's own database; valid until the next call. */
FM_EXPORT int fm_subscription_cursor (struct fm_subscription *subscription, struct fm_slice *ret_cursor);

/* ------------------------------------------------------------------ large payloads

 * A journal keeps large contents beside its log: blobs, each named by its SHA-256. A fact points to one (fm_fact.blob) and is small itself. A blob stays as
 * long as any recorded fact points to it; before that, for its lease. Any size passes in bounded memory; what was cut goes on where it was. */

/* Zero is the default of every option. */
struct fm_blob_options {
    const char *journal;            /* its id, or the first digits of it. NULL: put: the one with the lowest id; get, stat: any that has the blob */
    const char *media_type;         /* put: "application/pdf" */
    uint64_t lease_ms;              /* put: kept for so long, also when no fact points to it; default an hour */
    uint64_t offset, length;        /* get: a range; length 0: to the end */
    bool resume;                    /* fm_blob_get_fd: what the file has is the beginning of the blob: go on behind it */
    int timeout_ms;                 /* without progress; default 30000; -1: for ever */
    /* Called now and then, at least four times a second, but not while the source or the sink blocks. size 0: not known yet. Anything but 0 ends the call,
     * which returns it; what was put so far can be gone on with. */
    int (*progress) (void *arg, uint64_t done, uint64_t size);
    void *progress_arg;
};

/* Fill up to size bytes; *ret_len 0: that is all. 0 or a negative code, which ends the put and is returned. */
typedef int fm_blob_read_fn (void *arg, void *buffer, size_t size, size_t *ret_len);
/* Take the next bytes. 0 or a negative code, which ends the get and is returned. */
typedef int fm_blob_write_fn (void *arg, const void *data, size_t len);

struct fm_blob_info {
    struct fm_blob blob;            /* media_type points to the text below */
    uint64_t stored_ns;             /* Unix time */
    uint64_t lease_ns;              /* kept at least until then */
    char media_type[256];
};

/* Store what a callback gives, and say under which name; it is durable then. Cuts are mended, the death of the journal too, from at most 16 MiB that are
 * kept in memory. Errors: FM_ERR_NO_JOURNAL, FM_TIMEOUT, FM_ERR_TOO_LARGE (for that journal), -ENOSPC (its disk is full), -EIO (it lost what it had taken), what the callback returned. */
FM_EXPORT int fm_blob_put (struct fm_node *node, fm_blob_read_fn *read, void *arg, const struct fm_blob_options *options, struct fm_blob *ret_blob);
/* The same of a descriptor. A regular file is read from its beginning, twice: where its content is stored already nothing is sent, and what another process
 * had sent of it before it died is gone on with. FM_ERR_CORRUPT: the file changed while it was read. */
FM_EXPORT int fm_blob_put_fd (struct fm_node *node, int fd, const struct fm_blob_options *options, struct fm_blob *ret_blob);
FM_EXPORT int fm_blob_put_bytes (struct fm_node *node, struct fm_slice bytes, const struct fm_blob_options *options, struct fm_blob *ret_blob);

/* Fetch a blob, or a range of it, from whichever journal has it; each block was checked there, and the whole is checked here. ret_info may be NULL.
 * Errors: FM_ERR_UNKNOWN (no journal has it), FM_ERR_CORRUPT (damaged at each that has it; or the whole is not what its name says: forget what was
 * handed out), FM_ERR_END (the range begins behind its end), FM_ERR_NO_JOURNAL, FM_TIMEOUT, what the callback returned. */
FM_EXPORT int fm_blob_get (struct fm_node *node, const uint8_t sha256[32], fm_blob_write_fn *write, void *arg, const struct fm_blob_options *options, struct fm_blob_info *ret_info);
FM_EXPORT int fm_blob_get_fd (struct fm_node *node, const uint8_t sha256[32], int fd, const struct fm_blob_options *options, struct fm_blob_info *ret_info);
FM_EXPORT int fm_blob_stat (struct fm_node *node, const uint8_t sha256[32], const struct fm_blob_options *options, struct fm_blob_info *ret_info);

/* 64 hex digits; text has room for FM_BLOB_TEXT. */
#define FM_BLOB_TEXT 65
FM_EXPORT char *fm_blob_text (const uint8_t sha256[32], char *text);
FM_EXPORT int fm_blob_parse (const char *text, uint8_t ret_sha256[32]);
/* The pointer for fm_fact.blob, encoded; FM_BLOB_REF bytes are enough. */
#define FM_BLOB_REF 320
FM_EXPORT int fm_blob_ref (const struct fm_blob *blob, void *buffer, size_t size, struct fm_slice *ret_ref);
/* What a fact points to; the media type points into the fact. FM_ERR_UNKNOWN: to nothing. */
FM_EXPORT int fm_fact_blob (const struct fm_fact *fact, struct fm_blob *ret_blob);

/* Publish a fact of any size: a payload longer than `limit` (0: than the publisher takes) becomes a blob, and the fact points to it. The media type is the
 * fact's content type. Errors: those of fm_publish and of fm_blob_put. */
FM_EXPORT int fm_publish_large (struct fm_publisher *publisher, const struct fm_fact *fact, size_t limit, const struct fm_blob_options *options, struct fm_fact_id *ret_id);
/* The payload of a fact that was taken, wherever it is: *ret_buffer is for the caller to free, NULL where the payload was in the fact. FM_ERR_TOO_LARGE:
 * more than size_max bytes (the detail says how many). Else the errors of fm_blob_get. */
FM_EXPORT int fm_fact_payload (struct fm_node *node, const struct fm_fact *fact, size_t size_max, const struct fm_blob_options *options, void **ret_buffer, struct fm_slice *ret_payload);

/* ------------------------------------------------------------------ requests and responses

 * A request is a fact with a correlation and a deadline (expires_ns); a response is a fact with that correlation whose cause is the request. Both are
 * recorded like all others, and anybody may subscribe to either. Whoever asks gets responses or FM_TIMEOUT, and learns nothing about who failed or why. */

struct fm_requester;

/* Zero is the default of every option but topic. */
struct fm_requester_options {
    const char *topic;              /* of requests that name none */
    const char *responses;          /* pattern of the topics on which responses come; default TOPIC-response */
    int open_timeout_ms;            /* to begin to listen; default 5000 */
};

/* Listen for responses. The publisher is borrowed, and is used for the requests. Errors: those of fm_subscription_open. */
FM_EXPORT int fm_requester_open (struct fm_node *node, struct fm_publisher *publisher, const struct fm_requester_options *options, struct fm_requester **ret_requester);
FM_EXPORT void fm_requester_close (struct fm_requester **requester);

/* Publish a request and wait for its first response, live: the journal is not waited for. Correlation and deadline are set when they are not. A zero topic:
 * the requester's. The response is valid until the next call on the requester. Errors: FM_TIMEOUT, FM_INTERRUPTED, those of fm_publish. One thread at a time. */
FM_EXPORT int fm_request (struct fm_requester *requester, const struct fm_fact *request, int timeout_ms, struct fm_fact *ret_response);
/* The same, and call `each` for each response until there are max (0: all until the deadline) or it returns something else than 0, which is returned.
 * 0: max came, or max is 0 and the time is over; FM_TIMEOUT: fewer. *ret_count (may be NULL): how many came. */
FM_EXPORT int fm_request_many (struct fm_requester *requester, const struct fm_fact *request, int timeout_ms, unsigned max,
                               int (*each) (void *arg, const struct fm_fact *response), void *arg, unsigned *ret_count);

/* Publish a response to a request that was taken: topic (when it has none: the request's and "-response"), correlation and causation are set. An identity,
 * as for any fact, is the caller's. Errors: those of fm_publish; FM_ERR_TOPIC: no room for "-response". */
FM_EXPORT int fm_respond (struct fm_publisher *publisher, const struct fm_fact *request, const struct fm_fact *response, struct fm_fact_id *ret_id);
/* Has its deadline passed? Responders skip such requests: nobody waits any more. */
FM_EXPORT bool fm_fact_expired (const struct fm_fact *fact);

/* ------------------------------------------------------------------ shared work

 * Instances of a service under one group name split the facts of its topics. A journal keeps the group: what is done, in hand, put aside. Facts of one
 * key are out one at a time and in order; a fact whose instance died is handed out again, and says so. Everything handed out is synced. */

struct fm_worker;

/* What handling a fact does outside this process, and so what is handed out. All instances of a group declare the same. */
enum fm_effect {
    FM_EFFECT_UNDECLARED,           /* as FM_IDEMPOTENT, with a notice at the start: say what it is */
    FM_IDEMPOTENT,                  /* may run again: every fact, corrections too, and again when the group's place is set back */
    FM_ONCE,                        /* once for each root, with its newest content known: an order's fulfilment */
    FM_ONCE_PER_VERSION,            /* once for each root and for each correction of it: a confirmation mail */
    FM_ON_CORRECTION                /* once for each correction, never for a root */
};

/* Zero is the default of every option but group. */
struct fm_worker_options {
    const char *group;              /* 1 to 63 bytes */
    const char *const *topics;      /* patterns, NULL behind the last; NULL: the group's, all for a new one */
    enum fm_effect effect;
    bool from_now;                  /* a new group: not the history; default: from the oldest fact on */
    uint64_t from_time_ns;          /* a new group: from then on, by the journal's clock */
    const char *instance;           /* for people; default the node's name */
    unsigned in_hand;               /* facts that may wait here for their turn; default 16, at most 4096 */
    int lease_ms;                   /* without an outcome for so long, others get what is in hand; default 30000. The group's first instance decides */
    unsigned attempts_max;          /* failures and deaths of instances before a fact is parked; default 5. The group's first instance decides */
    bool change_topics;             /* other topics than the group's: replace them; its place stays */
    bool hand_out_skipped;          /* with change_topics: also hand out what the old ones had left out */
    const char *journal;            /* id of the journal that keeps the group, 32 hex digits; needed where there are several */
    int open_timeout_ms;            /* to find the journal and join; default 5000; -1: for ever */
};

/* Join. Errors: FM_ERR_NO_JOURNAL, FM_TIMEOUT (the journal is silent), FM_ERR_TOPIC, FM_ERR_ARGUMENT (no group; other topics or another effect than the
 * group's; several journals and none named), FM_ERR_LIMIT, FM_ERR_READ_ONLY (the journal is), FM_ERR_MESH, FM_ERR_VERSION, FM_INTERRUPTED, -EIO (the journal
 * says that something went wrong, and went on to), -errno. */
FM_EXPORT int fm_worker_open (struct fm_node *node, const struct fm_worker_options *options, struct fm_worker **ret_worker);
/* Tell outcomes (waits at most a second), give back what is in hand, leave. */
FM_EXPORT void fm_worker_close (struct fm_worker **worker);

/* Why a fact was handed out. None of these: for the first time. */
enum fm_work_flag {
    FM_WORK_REPLAY = 1,             /* the group's place was set back: it was done before */
    FM_WORK_REDELIVERY = 2,         /* was handed out before, and came to no end */
    FM_WORK_CORRECTION = 4,         /* corrects an earlier fact: root */
    FM_WORK_IN_DOUBT = 8,           /* an instance began its effect, and went: find out whether it happened */
    FM_WORK_OUT_OF_ORDER = 16,      /* later facts of its key were handed out before */
    FM_WORK_KEY_PARKED = 32,        /* an earlier fact of its key is parked: parked */
    FM_WORK_BY_HAND = 64            /* was parked, and a person had it handed out again */
};
struct fm_work {
    struct fm_fact fact;            /* slices are valid until the next fm_worker_next */
    uint32_t flags;
    unsigned deliveries;            /* 1: the first */
    unsigned attempts;              /* that failed, or whose instance died at it */
    uint64_t token;                 /* grows with each hand-out of the group: who acts with a lower one acts too late */
    uint64_t offset;                /* in the journal */
    struct fm_fact_id root;         /* the first of the chain of corrections; of a fact that corrects nothing: itself */
    struct fm_fact_id parked;
};

/* The next fact in hand; the one before must have its outcome. FM_TIMEOUT; FM_INTERRUPTED; FM_ERR_ARGUMENT (no outcome yet). A journal that is away is
 * waited for: what is in hand goes on. One that does not take us back: what fm_worker_open would say; the next call goes on trying. */
FM_EXPORT int fm_worker_next (struct fm_worker *worker, int timeout_ms, struct fm_work *ret_work);
/* Readable when fm_worker_next with time-out 0 may have something: then call it until FM_TIMEOUT. */
FM_EXPORT int fm_worker_fd (struct fm_worker *worker);

/* What became of it. 0, or FM_ERR_LEASE: its lease ran out, another instance may have it; drop it. Told to the journal soon; fm_worker_commit waits. */
FM_EXPORT int fm_work_done (struct fm_worker *worker);
FM_EXPORT int fm_work_later (struct fm_worker *worker, int delay_ms);               /* again after a while; its key waits */
FM_EXPORT int fm_work_failed (struct fm_worker *worker, const char *reason);        /* counts, again after a while, parked when it counted too often */
FM_EXPORT int fm_work_park (struct fm_worker *worker, const char *reason);          /* put aside, for people; its key goes on */
/* Still at it: the lease begins anew. Cheap: call it several times a second, for it also keeps in touch with the journal. FM_ERR_LEASE: stop, and have no
 * effect any more; another instance may be at it. */
FM_EXPORT int fm_work_extend (struct fm_worker *worker);
/* How long the lease of the fact in hand lasts without that. 0: it has run out, or there is none. */
FM_EXPORT int fm_work_left_ms (const struct fm_worker *worker);
/* Before an effect outside: wait until the journal has on disk that it begins. If this process then dies without an outcome the fact comes back with
 * FM_WORK_IN_DOUBT. Costs a round trip and a sync. FM_TIMEOUT, FM_ERR_LEASE: don't begin. */
FM_EXPORT int fm_work_begin (struct fm_worker *worker, int timeout_ms);
/* Wait until all outcomes so far are durable. FM_ERR_LEASE: some came too late (they were handed out again); FM_TIMEOUT. */
FM_EXPORT int fm_worker_commit (struct fm_worker *worker, int timeout_ms);

/* A handler: the calls above in the right order for its group's effect. */
enum fm_outcome {
    FM_DONE = 1,
    FM_LATER,
    FM_FAILED,                      /* and had no effect, or one that may be had again */
    FM_PARK,
    FM_UNSURE                       /* was cut short: check decides between FM_DONE and FM_FAILED; else it is parked */
};
enum fm_check { FM_HAPPENED = 1, FM_NOT_HAPPENED, FM_CANT_TELL };
struct fm_handler {
    void *arg;
    /* Handle a fact. *ret_reason (NULL; valid until the next call): why it failed or is parked. *ret_delay_ms: of FM_LATER [1000]. */
    enum fm_outcome (*run) (void *arg, const struct fm_work *work, int *ret_delay_ms, const char **ret_reason);
    /* Did the effect of a fact that is in doubt happen? NULL: it can't be told, and such a fact is parked. */
    enum fm_check (*check) (void *arg, const struct fm_work *work);
    bool expired_too;               /* also facts whose deadline has passed (requests); default: they are done without being run */
};
/* Take one fact and handle it. For FM_ONCE, FM_ONCE_PER_VERSION and FM_ON_CORRECTION the intent is made durable before the handler runs; one in doubt
 * is checked first. Errors: those of fm_worker_next; what the outcome's call returns is only noted (WORK-TOO-LATE). */
FM_EXPORT int fm_worker_handle (struct fm_worker *worker, const struct fm_handler *handler, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
