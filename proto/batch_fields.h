/* batch_fields: the tags of Batch, Topic, Fact and what lies within, as factmesh.proto numbers them, and what more than one of the batch_*.c files
 * reads. For them alone; tests/unit/test_batch checks each tag against the generated code. */

#ifndef FM_PROTO_BATCH_FIELDS_H
#define FM_PROTO_BATCH_FIELDS_H

#include "fm_types.h"
#include "wire.h"

enum batch_tag {
    BATCH_MAJOR = WIRE_TAG (1, WIRE_VARINT),
    BATCH_MINOR = WIRE_TAG (2, WIRE_VARINT),
    BATCH_MESH = WIRE_TAG (3, WIRE_LEN),
    BATCH_STREAM = WIRE_TAG (4, WIRE_LEN),
    BATCH_EPOCH = WIRE_TAG (5, WIRE_VARINT),
    BATCH_INCARNATION = WIRE_TAG (6, WIRE_FIXED64),
    BATCH_FIRST_SEQ = WIRE_TAG (7, WIRE_VARINT),
    BATCH_COUNT = WIRE_TAG (8, WIRE_VARINT),
    BATCH_TIME_NS = WIRE_TAG (9, WIRE_FIXED64),
    BATCH_EPOCH_FIRST_SEQ = WIRE_TAG (10, WIRE_VARINT),
    BATCH_TOPIC = WIRE_TAG (11, WIRE_LEN),
    BATCH_CODEC = WIRE_TAG (12, WIRE_VARINT),
    BATCH_FEATURES = WIRE_TAG (13, WIRE_VARINT),
    BATCH_TYPE = WIRE_TAG (14, WIRE_LEN),
    BATCH_FACT = WIRE_TAG (15, WIRE_LEN),
    BATCH_CONTENT_TYPE = WIRE_TAG (16, WIRE_LEN),
    BATCH_ANNOUNCED_LEN = WIRE_TAG (17, WIRE_VARINT),
    BATCH_CODED_FACTS = WIRE_TAG (18, WIRE_LEN),
    BATCH_REDACTION = WIRE_TAG (19, WIRE_LEN),
    BATCH_DUPLICATES = WIRE_TAG (20, WIRE_LEN)
};
enum { BATCH_FIELD_LAST = 20 };

enum batch_duplicates_tag { DUPLICATES_FACT = WIRE_TAG (1, WIRE_LEN) };
enum batch_duplicate_tag { DUPLICATE_SEQ = WIRE_TAG (1, WIRE_VARINT), DUPLICATE_FIRST = WIRE_TAG (2, WIRE_LEN) };

enum batch_topic_tag { TOPIC_NAME = WIRE_TAG (1, WIRE_LEN), TOPIC_BACK = WIRE_TAG (2, WIRE_LEN) };

enum fact_tag {
    FACT_TOPIC = WIRE_TAG (1, WIRE_VARINT),
    FACT_TIME_DELTA = WIRE_TAG (2, WIRE_VARINT),
    FACT_TYPE = WIRE_TAG (3, WIRE_LEN),
    FACT_CONTENT_TYPE = WIRE_TAG (4, WIRE_LEN),
    FACT_SCHEMA = WIRE_TAG (5, WIRE_LEN),
    FACT_KEY = WIRE_TAG (6, WIRE_LEN),
    FACT_CORRELATION = WIRE_TAG (7, WIRE_LEN),
    FACT_CAUSATION = WIRE_TAG (8, WIRE_LEN),
    FACT_IDENTITY = WIRE_TAG (9, WIRE_LEN),
    FACT_CORRECTS = WIRE_TAG (10, WIRE_LEN),
    FACT_HEADER = WIRE_TAG (11, WIRE_LEN),
    FACT_FLAGS = WIRE_TAG (12, WIRE_VARINT),
    FACT_BLOB = WIRE_TAG (13, WIRE_LEN),
    FACT_EXPIRES = WIRE_TAG (14, WIRE_FIXED64),
    FACT_PAYLOAD = WIRE_TAG (15, WIRE_LEN)
};
enum { FACT_FIELD_LAST = 15 };

enum fact_id_tag { FACT_ID_STREAM = WIRE_TAG (1, WIRE_LEN), FACT_ID_SEQ = WIRE_TAG (2, WIRE_VARINT) };
enum fact_header_tag { HEADER_NAME = WIRE_TAG (1, WIRE_LEN), HEADER_VALUE = WIRE_TAG (2, WIRE_LEN) };
enum blob_tag {
    BLOB_SHA256 = WIRE_TAG (1, WIRE_LEN),
    BLOB_SIZE = WIRE_TAG (2, WIRE_VARINT),
    BLOB_MEDIA_TYPE = WIRE_TAG (3, WIRE_LEN)
};

/* A FactId with its length in front. NULL: malformed. */
const uint8_t *batch_get_fact_id (const uint8_t *p, const uint8_t *end, struct fm_fact_id *ret_id);

#endif
