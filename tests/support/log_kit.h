/* log_kit: what the tests of the journal's log share: a fresh directory, batches whose every byte follows from
 * stream and sequence, a clock that the test sets, and ways to damage a file. A failure of the kit itself aborts. */

#ifndef FM_TESTS_LOG_KIT_H
#define FM_TESTS_LOG_KIT_H

#include "log.h"

/* A new directory under TMPDIR, or else in memory; kit_remove deletes it with all that is in it. */
void kit_directory (char path[128]);
void kit_remove (const char *path);

/* Copy a directory with all files. */
void kit_copy (const char *from, const char *to);

/* "DIR/segments/0000000042.seg" */
void kit_segment_path (const char *directory, uint64_t number, char path[256]);
uint64_t kit_file_size (const char *path);
/* Flip all bits of the byte at pos; from the end when negative. */
void kit_flip (const char *path, int64_t pos);
void kit_truncate (const char *path, uint64_t len);
void kit_append (const char *path, const void *bytes, size_t len);

struct fm_id kit_stream (unsigned number);

/* Build the batch [first_seq, first_seq + count) of a stream. Payloads have payload_len bytes that follow from
 * stream and sequence. The bytes are malloc'ed, and decoded in `batch`. */
struct kit_batch {
    uint8_t *bytes;
    size_t len;
    struct batch_scratch scratch;
    struct batch batch;
};
struct kit_batch_spec {
    unsigned stream;
    uint64_t epoch;             /* 0: 1 */
    uint64_t incarnation;       /* 0: epoch + 7 */
    uint64_t first_seq;
    uint64_t epoch_first_seq;   /* 0: 1 */
    uint32_t count;
    size_t payload_len;
    const char *identity;       /* of the first fact; NULL: none has one */
    const char *topic;          /* of all facts, or with '|' between them several that alternate; NULL: "a.b" */
    const char *key;            /* of all facts; NULL: none */
    struct fm_fact_id corrects; /* so do all facts; zero: nothing */
    struct fm_slice blob;       /* of all facts, as it is */
};
void kit_batch_make (const struct kit_batch_spec *spec, struct kit_batch *ret_batch);
void kit_batch_release (struct kit_batch *b);

/* Append such a batch, which must succeed. Returns its offset. */
uint64_t kit_append_batch (struct log *log, const struct kit_batch_spec *spec);
/* Does the item carry exactly the bytes that kit_batch_make makes? */
bool kit_item_is (const struct log_item *item, const struct kit_batch_spec *spec);

/* Write and sync everything, which must succeed. */
void kit_sync (struct log *log);

/* A clock that stands still until it is told. */
struct kit_clock {
    struct clock clock;
    uint64_t now_ns;
};
void kit_clock_init (struct kit_clock *c);
/* While other threads look at it. */
void kit_clock_advance (struct kit_clock *c, uint64_t ns);

#endif
