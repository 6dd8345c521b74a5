/* batch: the hot message, encoded and decoded by hand; byte-compatible with factmesh.proto.
 *
 * Writing:  facts are encoded one behind the other into a buffer as they come (fact_encode), never touched
 *           again; when the batch leaves, batch_encode_header writes what goes before them.
 * Reading:  batch_decode checks the header and finds where the facts start; batch_reader walks them,
 *           without allocation, pointing into the batch's bytes.
 * Bytes:    SPEC.md, "Batch". Unknown fields are skipped, another major version is refused. */

#ifndef FM_PROTO_BATCH_H
#define FM_PROTO_BATCH_H

#include "bytes.h"
#include "id.h"
#include "fm_limits.h"

/* A fact (struct fm_fact, fm_types.h): the reader sets all of it; fact_encode ignores id and topic, and takes topic_index. */

struct batch_topic {
    struct fm_slice name;
    struct fm_slice backs;          /* packed varints, one for each level of the name, and at will one more: for the exact topic */
};

/* A decoded header, or one to encode. */
struct batch {
    const uint8_t *bytes;           /* the whole batch (decode only) */
    size_t len;
    uint32_t major, minor;
    uint32_t count;
    uint32_t codec;
    struct fm_slice mesh, type, content_type;
    struct fm_id stream;
    uint64_t epoch, incarnation, epoch_first_seq;
    uint64_t first_seq;             /* facts [first_seq, first_seq + count) */
    uint64_t time_ns;
    uint64_t features;
    uint64_t announced_len;         /* > 0: no facts within, fetch them */
    size_t facts_pos;               /* where the first fact's tag is (decode only) */
    struct fm_slice duplicates;     /* what a journal says of its facts, see batch_duplicates_init; data NULL: nothing (decode only) */
    struct batch_topic *topics;     /* points into the scratch (decode) */
    uint32_t topic_count;
};

/* Memory for the topics of one decoded batch; grows to what the largest needed, at most
 * BATCH_TOPICS_MAX. Zero-initialised; batch_scratch_release frees it. */
struct batch_scratch {
    struct batch_topic *topics;
    uint32_t size;
};
void batch_scratch_release (struct batch_scratch *scratch);

/* Decode and check a header: lengths, version, ids, counts, topics (topic_check; for each a back for every level),
 * first_seq >= 1, no overflow of first_seq + count, count 1 to BATCH_FACTS_MAX; coded batches are refused with
 * FM_ERR_VERSION and a detail. mesh empty: not compared, else a batch of another mesh is FM_ERR_MESH.
 * Returns 0, FM_ERR_MALFORMED, FM_ERR_VERSION, FM_ERR_MESH or -ENOMEM. The facts themselves are checked by the reader. */
int batch_decode (const uint8_t *bytes, size_t len, struct fm_slice mesh, struct batch_scratch *scratch, struct batch *ret_batch);

static inline uint64_t batch_end_seq (const struct batch *b)
{
    return b->first_seq + b->count;
}

/* The upper bound `prev` for a level: the last sequence below first_seq that may lie under it. Returns false when no
 * topic of the batch is under the level (then no fact of it is). The root level's prev is first_seq - 1. */
bool batch_prev (const struct batch *b, struct fm_slice level, uint64_t *ret_prev);

/* The same for who takes one exact topic and nothing below it: false when the topic is not in the batch. Where a stream
 * publishes `a` and `a.b` in turns, the level's prev would make a subscriber to `a` ask for facts that it never wanted. */
bool batch_prev_exact (const struct batch *b, struct fm_slice topic, uint64_t *ret_prev);

/* The deepest level over all the batch's topics (the topic itself when there is one): its wire topic. */
struct fm_slice batch_level (const struct batch *b);

/* Does every fact decode, are there exactly `count`, and does the header tell of every feature that they use? Returns 0 or
 * FM_ERR_MALFORMED (an announced batch has no facts within: malformed too). For what came from the wire and is to be recorded. */
int batch_check_facts (const struct batch *b);

/* Walk a batch's facts in order. */
struct batch_reader {
    const struct batch *batch;
    const uint8_t *pos, *end;
    uint64_t next_seq;
};
void batch_reader_init (struct batch_reader *r, const struct batch *b);

/* Decode the next fact. Returns 0, FM_ERR_END behind the last (at once for an announced batch), FM_ERR_MALFORMED: then it
 * stays where it is. */
int batch_reader_next (struct batch_reader *r, struct fm_fact *ret_fact);

/* Step over the next n facts without decoding them. Returns 0, FM_ERR_END or FM_ERR_MALFORMED. */
int batch_reader_skip (struct batch_reader *r, uint64_t n);

/* Walk the headers of a fact: *pos starts at 0. Returns 0, FM_ERR_END, FM_ERR_MALFORMED. */
int fact_header_next (struct fm_slice headers, size_t *pos, struct fm_slice *ret_name, struct fm_slice *ret_value);
/* Length of, and write, one encoded `headers` field. */
size_t fact_header_len (struct fm_slice name, struct fm_slice value);
uint8_t *fact_header_encode (uint8_t *p, struct fm_slice name, struct fm_slice value);

/* What a journal says of a batch's facts: which of them repeat a fact that it recorded before, under the same identity. By sequence; some may lie beside
 * the batch, where that was cut. Checked when the batch was decoded. */
struct batch_duplicate {
    uint64_t seq;
    struct fm_fact_id first;        /* the fact that it repeats */
};
struct batch_duplicates {
    const uint8_t *pos, *end;
    struct batch_duplicate next;    /* seq UINT64_MAX: there is none */
};
void batch_duplicates_init (struct batch_duplicates *d, const struct batch *b);
void batch_duplicates_step (struct batch_duplicates *d);

/* Does this fact repeat another, d->next.first? To be asked in the order of sequences. */
static inline bool batch_duplicates_meet (struct batch_duplicates *d, uint64_t seq)
{
    while (__builtin_expect (d->next.seq < seq, 0))
        batch_duplicates_step (d);
    return d->next.seq == seq;
}

/* Make it the batch that its publisher sent: without what a journal put in front. FM_ERR_MALFORMED: that stands elsewhere, where no journal puts it. */
int batch_strip_duplicates (struct batch *b);

/* What a journal puts in front of a batch: a run of duplicates, encoded by sequence one behind the other, with BATCH_DUPLICATES_HEAD bytes free before them;
 * batch_duplicates_close writes into those, and returns where the field begins. */
enum { BATCH_DUPLICATES_HEAD = 2 + 5, BATCH_DUPLICATE_MAX = 2 + 11 + 2 + 18 + 11 };
uint8_t *batch_duplicate_encode (uint8_t *p, const struct batch_duplicate *d);
uint8_t *batch_duplicates_close (uint8_t *run, size_t len);

/* What a batch's facts share: given to fact_encode so that what is the same is left out. */
struct batch_defaults {
    struct fm_slice type, content_type;
    uint64_t time_ns;
};

/* The bytes that a fact takes in a batch, tag and length included; and write them. fact_encode returns the position behind. */
size_t fact_encoded_len (const struct fm_fact *f, const struct batch_defaults *d);
uint8_t *fact_encode (uint8_t *p, const struct fm_fact *f, const struct batch_defaults *d);

/* The Feature bits that a fact sets. */
uint64_t fact_features (const struct fm_fact *f);

/* An upper bound for a header's bytes, and write it: all fields but the facts, in field-number order save that facts come last.
 * major 0 is written as PROTO_MAJOR. */
size_t batch_header_bound (const struct batch *b);
uint8_t *batch_encode_header (uint8_t *p, const struct batch *b);

/* A batch of one: fact f, just read from b, under its own topic. Of what lies before it, it says nothing (`prev` is the sequence before). An upper bound
 * for its bytes, and write them: returns the position behind. */
size_t batch_extract_bound (const struct batch *b, const struct fm_fact *f);
uint8_t *batch_extract (uint8_t *p, const struct batch *b, const struct fm_fact *f);

#endif
