/* fm_types: the types and error codes that the library's public face shares with every layer below.
 * Installed beside factmesh.h. */

#ifndef FM_TYPES_H
#define FM_TYPES_H

#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes; data may be NULL only when len is 0. */
struct fm_slice {
    const void *data;
    size_t len;
};

/* 16 random bytes that name a stream, a node or a journal. */
struct fm_id {
    uint8_t bytes[16];
};

/* A fact's name for ever: its stream and its sequence there. A zero stream: none. */
struct fm_fact_id {
    struct fm_id stream;
    uint64_t seq;
};

/* A fact, taken or to be published; published facts never change. Slices are borrowed: those of a taken fact are valid until
 * the next call on its subscription. Zero what you don't use. */
struct fm_fact {
    struct fm_fact_id id;           /* set by the library */
    struct fm_slice topic;          /* dotted, 1 to 245 bytes */
    struct fm_slice payload;        /* any bytes */
    struct fm_slice key;            /* facts with one key belong together, in order */
    struct fm_slice type;           /* what kind of fact, "OrderPlaced" */
    struct fm_slice content_type;   /* of the payload, "application/json" */
    struct fm_slice schema;
    struct fm_slice correlation;    /* the conversation it belongs to */
    struct fm_slice identity;       /* two facts with one identity are one */
    struct fm_fact_id causation;    /* the fact that caused it */
    struct fm_fact_id corrects;     /* the fact whose content it replaces */
    struct fm_slice headers;        /* fm_header_add builds, fm_header_next reads */
    struct fm_slice blob;           /* encoded BlobRef */
    uint64_t time_ns;               /* Unix time at the publisher; 0 when publishing: now */
    uint64_t expires_ns;            /* 0: never */
    uint32_t flags;                 /* FM_TOMBSTONE */
    uint32_t topic_index;           /* internal: place in its batch's topics */
};
enum { FM_TOMBSTONE = 1 };

/* A large content that a journal keeps beside its log: named by its SHA-256. A fact points to it (fm_fact.blob). */
struct fm_blob {
    uint8_t sha256[32];
    uint64_t size;
    struct fm_slice media_type;     /* "application/pdf"; at most 255 bytes; may be empty */
};

/* X (name, number, text). The numbers lie below every -errno; they never change. */
#define FM_ERRORS(X)                                                                        \
    X (FM_TIMEOUT, -10001, "timed out")                                                     \
    X (FM_ERR_TOPIC, -10002, "malformed topic or pattern")                                  \
    X (FM_ERR_TOO_LARGE, -10003, "larger than the limit")                                   \
    X (FM_ERR_MALFORMED, -10004, "malformed bytes")                                         \
    X (FM_ERR_VERSION, -10005, "another major version")                                     \
    X (FM_ERR_MESH, -10006, "another mesh")                                                 \
    X (FM_ERR_ADDRESS, -10007, "bad address")                                               \
    X (FM_ERR_UNREACHABLE, -10008, "nobody answers there")                                  \
    X (FM_ERR_FULL, -10009, "full")                                                         \
    X (FM_ERR_WINDOW_FULL, -10010, "the window is full: no journal has synced it")          \
    X (FM_ERR_CORRUPT, -10011, "damaged")                                                   \
    X (FM_ERR_END, -10012, "nothing further")                                               \
    X (FM_ERR_IN_USE, -10013, "in use by another process")                                  \
    X (FM_ERR_FOREIGN, -10014, "not ours")                                                  \
    X (FM_ERR_NEWER, -10015, "written by a newer version")                                  \
    X (FM_ERR_NO_JOURNAL, -10016, "no journal in the mesh")                                 \
    X (FM_ERR_UNKNOWN, -10017, "no such thing")                                             \
    X (FM_ERR_GENERATION, -10018, "a cursor of another journal or generation")              \
    X (FM_ERR_CONFLICT, -10019, "two incarnations of one stream and epoch")                 \
    X (FM_ERR_READ_ONLY, -10020, "the journal is read-only after a failed write or sync")   \
    X (FM_ERR_CLOSED, -10021, "closed")                                                     \
    X (FM_ERR_ARGUMENT, -10022, "bad argument")                                             \
    X (FM_ERR_LIMIT, -10023, "a limit was reached")                                         \
    X (FM_INTERRUPTED, -10024, "interrupted")                                               \
    X (FM_ERR_LOST, -10025, "lost: a journal refuses the stream, or gave up facts of it")             \
    X (FM_ERR_LEASE, -10026, "the lease has run out: another instance may have it")

enum fm_error {
#define FM_ERROR_ITEM(name, number, text) name = number,
    FM_ERRORS (FM_ERROR_ITEM)
#undef FM_ERROR_ITEM
};

#endif
