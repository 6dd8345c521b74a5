/* error: the one list of error codes, their texts, and the calling thread's last detail.
 *
 * A function that fails returns -errno or one of these negative codes; where a person will want to
 * know what failed, on what and what to do, it says so with error_set, whose text fm_error_detail
 * of the public face hands out. */

#ifndef FM_PROTO_ERROR_H
#define FM_PROTO_ERROR_H

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
    X (FM_ERR_LOST, -10025, "the stream was taken over by a newer incarnation")

#ifndef FM_ERROR_ENUM           /* factmesh.h defines the same enum from the same list */
#define FM_ERROR_ENUM
enum fm_error {
#define FM_ERROR_ITEM(name, number, text) name = number,
    FM_ERRORS (FM_ERROR_ITEM)
#undef FM_ERROR_ITEM
};
#endif

/* Remember, for this thread, what failed, on what, why and what to do; returns code. */
int error_set (int code, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

/* The text of a code, or of an errno. Never NULL. */
const char *fm_error_text (int code);

/* This thread's last error_set text, "" when there is none. Valid until the next one. */
const char *fm_error_detail (void);

#endif
