/* batch_sample: random batches with every kind of field, the same in every run of a test: the codec's tests share them. */

#ifndef FM_TESTS_BATCH_SAMPLE_H
#define FM_TESTS_BATCH_SAMPLE_H

#include "batch.h"
#include "factmesh.pb-c.h"

/* Begin anew with the same numbers. */
void sample_seed (void);
uint64_t sample_u64 (void);
uint64_t sample_below (uint64_t n);
/* Small mostly, large at times: every length of varint comes up. */
uint64_t sample_size (void);
/* Nothing, or up to max bytes. */
struct fm_slice sample_bytes (size_t max);
struct fm_id sample_id (void);

extern uint8_t sample_noise[8192];

enum { SAMPLE_FACTS = 12, SAMPLE_TOPICS = 3, SAMPLE_HEADERS = 3 };

/* A batch, its facts, and what they were made of. Points into itself. */
struct sample {
    struct batch batch;
    struct batch_topic topics[SAMPLE_TOPICS];
    uint8_t backs[SAMPLE_TOPICS][200];
    uint64_t back[SAMPLE_TOPICS][TOPIC_LEVELS_MAX + 1];
    unsigned back_count[SAMPLE_TOPICS];
    struct fm_fact facts[SAMPLE_FACTS];
    uint8_t headers[SAMPLE_FACTS][1024];
    struct fm_slice header[SAMPLE_FACTS][SAMPLE_HEADERS][2];
    size_t header_count[SAMPLE_FACTS];
    uint8_t blobs[SAMPLE_FACTS][128];
    Factmesh__BlobRef blob[SAMPLE_FACTS];
    struct batch_defaults defaults;
};

void sample_make (struct sample *s);
/* One with several facts and topics, far from the stream's start. */
void sample_make_large (struct sample *s);

/* Encode by hand. The caller frees. */
uint8_t *sample_encode (const struct sample *s, size_t *ret_len);

#endif
