/* Writing batches: lengths first, so that what is written is never moved. */

#include "batch.h"
#include "topic.h"
#include "batch_fields.h"
#include "factmesh.pb-c.h"

size_t fact_header_len (struct fm_slice name, struct fm_slice value)
{
    return wire_slice_len (11, wire_slice_field_len (1, name.len) + wire_slice_field_len (2, value.len));
}

uint8_t *fact_header_encode (uint8_t *p, struct fm_slice name, struct fm_slice value)
{
    p = wire_put_tag (p, FACT_HEADER);
    p = bytes_put_varint (p, wire_slice_field_len (1, name.len) + wire_slice_field_len (2, value.len));
    p = wire_put_slice_field (p, 1, name);
    return wire_put_slice_field (p, 2, value);
}

static inline bool same (struct fm_slice a, struct fm_slice b)
{
    return a.len == b.len && (a.data == b.data || slice_equal (a, b));
}

static size_t fact_id_body_len (const struct fm_fact_id *id)
{
    return wire_slice_len (1, ID_LEN) + wire_u64_field_len (2, id->seq);
}

static size_t fact_id_field_len (uint32_t field, const struct fm_fact_id *id)
{
    return id_is_zero (&id->stream) ? 0 : wire_slice_len (field, fact_id_body_len (id));
}

static uint8_t *put_fact_id_field (uint8_t *p, uint32_t field, const struct fm_fact_id *id)
{
    if (id_is_zero (&id->stream))
        return p;
    p = wire_put_tag (p, WIRE_TAG (field, WIRE_LEN));
    p = bytes_put_varint (p, fact_id_body_len (id));
    p = wire_put_slice (p, 1, slice (id->stream.bytes, ID_LEN));
    return wire_put_u64_field (p, 2, id->seq);
}

/* Has the fact any field between its types and its payload? Most have none: then neither pass looks at each. */
static inline bool has_rare (const struct fm_fact *f)
{
    return f->schema.len | f->key.len | f->correlation.len | f->identity.len | f->headers.len | f->blob.len | f->flags |
           f->expires_ns | !id_is_zero (&f->causation.stream) | !id_is_zero (&f->corrects.stream);
}

static size_t rare_len (const struct fm_fact *f)
{
    return wire_slice_field_len (5, f->schema.len) + wire_slice_field_len (6, f->key.len) +
           wire_slice_field_len (7, f->correlation.len) + fact_id_field_len (8, &f->causation) +
           wire_slice_field_len (9, f->identity.len) + fact_id_field_len (10, &f->corrects) + f->headers.len +
           wire_u64_field_len (12, f->flags) + wire_slice_field_len (13, f->blob.len) +
           wire_fixed64_field_len (14, f->expires_ns);
}

static uint8_t *put_rare (uint8_t *p, const struct fm_fact *f)
{
    p = wire_put_slice_field (p, 5, f->schema);
    p = wire_put_slice_field (p, 6, f->key);
    p = wire_put_slice_field (p, 7, f->correlation);
    p = put_fact_id_field (p, 8, &f->causation);
    p = wire_put_slice_field (p, 9, f->identity);
    p = put_fact_id_field (p, 10, &f->corrects);
    p = wire_put_bytes (p, f->headers);
    p = wire_put_u64_field (p, 12, f->flags);
    p = wire_put_slice_field (p, 13, f->blob);
    return wire_put_fixed64_field (p, 14, f->expires_ns);
}

static inline uint64_t time_zigzag (const struct fm_fact *f, const struct batch_defaults *d)
{
    return bytes_zigzag ((int64_t) (f->time_ns - d->time_ns));
}

static inline size_t fact_body_len (const struct fm_fact *f, const struct batch_defaults *d, bool rare)
{
    size_t len = wire_u64_field_len (1, f->topic_index) + wire_u64_field_len (2, time_zigzag (f, d)) +
                 wire_slice_field_len (15, f->payload.len);
    if (!same (f->type, d->type))
        len += wire_slice_len (3, f->type.len);
    if (!same (f->content_type, d->content_type))
        len += wire_slice_len (4, f->content_type.len);
    if (rare)
        len += rare_len (f);
    return len;
}

size_t fact_encoded_len (const struct fm_fact *f, const struct batch_defaults *d)
{
    return wire_slice_len (15, fact_body_len (f, d, has_rare (f)));
}

uint8_t *fact_encode (uint8_t *p, const struct fm_fact *f, const struct batch_defaults *d)
{
    const bool rare = has_rare (f);
    p = wire_put_tag (p, BATCH_FACT);
    p = bytes_put_varint (p, fact_body_len (f, d, rare));
    p = wire_put_u64_field (p, 1, f->topic_index);
    p = wire_put_u64_field (p, 2, time_zigzag (f, d));
    if (!same (f->type, d->type))
        p = wire_put_slice (p, 3, f->type);
    if (!same (f->content_type, d->content_type))
        p = wire_put_slice (p, 4, f->content_type);
    if (rare)
        p = put_rare (p, f);
    return wire_put_slice_field (p, 15, f->payload);
}

uint64_t fact_features (const struct fm_fact *f)
{
    uint64_t features = 0;
    if (!has_rare (f))
        return features;
    if (f->key.len)
        features |= FACTMESH__FEATURE__FEATURE_KEY;
    if (f->identity.len)
        features |= FACTMESH__FEATURE__FEATURE_IDENTITY;
    if (!id_is_zero (&f->corrects.stream))
        features |= FACTMESH__FEATURE__FEATURE_CORRECTS;
    if (f->blob.len)
        features |= FACTMESH__FEATURE__FEATURE_BLOB;
    if (f->flags & FM_TOMBSTONE)
        features |= FACTMESH__FEATURE__FEATURE_TOMBSTONE;
    if (!id_is_zero (&f->causation.stream))
        features |= FACTMESH__FEATURE__FEATURE_CAUSATION;
    if (f->correlation.len)
        features |= FACTMESH__FEATURE__FEATURE_CORRELATION;
    if (f->expires_ns)
        features |= FACTMESH__FEATURE__FEATURE_EXPIRES;
    return features;
}

static size_t topic_body_len (const struct batch_topic *t)
{
    return wire_slice_field_len (1, t->name.len) + wire_slice_field_len (2, t->backs.len);
}

size_t batch_header_bound (const struct batch *b)
{
    /* 17 fields besides the topics: a tag of at most 2 bytes, and a varint, 8 bytes or a length. */
    size_t bound = 17 * (2 + WIRE_VARINT_MAX) + ID_LEN + b->mesh.len + b->type.len + b->content_type.len;
    for (uint32_t i = 0; i < b->topic_count; i++)
        bound += wire_slice_len (11, topic_body_len (&b->topics[i]));
    return bound;
}

uint8_t *batch_encode_header (uint8_t *p, const struct batch *b)
{
    p = wire_put_u64_field (p, 1, b->major ? b->major : PROTO_MAJOR);
    p = wire_put_u64_field (p, 2, b->minor);
    p = wire_put_slice_field (p, 3, b->mesh);
    p = wire_put_slice (p, 4, slice (b->stream.bytes, ID_LEN));
    p = wire_put_u64_field (p, 5, b->epoch);
    p = wire_put_fixed64_field (p, 6, b->incarnation);
    p = wire_put_u64_field (p, 7, b->first_seq);
    p = wire_put_u64_field (p, 8, b->count);
    p = wire_put_fixed64_field (p, 9, b->time_ns);
    p = wire_put_u64_field (p, 10, b->epoch_first_seq);
    for (uint32_t i = 0; i < b->topic_count; i++) {
        p = wire_put_tag (p, BATCH_TOPIC);
        p = bytes_put_varint (p, topic_body_len (&b->topics[i]));
        p = wire_put_slice_field (p, 1, b->topics[i].name);
        p = wire_put_slice_field (p, 2, b->topics[i].backs);
    }
    p = wire_put_u64_field (p, 12, b->codec);
    p = wire_put_u64_field (p, 13, b->features);
    p = wire_put_slice_field (p, 14, b->type);
    p = wire_put_slice_field (p, 16, b->content_type);
    return wire_put_u64_field (p, 17, b->announced_len);
}

/* The header of a batch with fact f alone. `backs` holds a zero for each level: no fact is said to be missing before this one. */
static struct batch extracted (const struct batch *b, const struct fm_fact *f, struct batch_topic *topic, const uint8_t backs[TOPIC_LEVELS_MAX])
{
    *topic = (struct batch_topic) { .name = f->topic, .backs = slice (backs, topic_depth (f->topic)) };
    struct batch one = *b;
    one.minor = PROTO_MINOR;
    one.count = 1;
    one.first_seq = f->id.seq;
    one.features = fact_features (f);
    one.announced_len = 0;
    one.topics = topic;
    one.topic_count = 1;
    return one;
}

static struct batch_defaults defaults_of (const struct batch *b)
{
    return (struct batch_defaults) { .type = b->type, .content_type = b->content_type, .time_ns = b->time_ns };
}

size_t batch_extract_bound (const struct batch *b, const struct fm_fact *f)
{
    static const uint8_t backs[TOPIC_LEVELS_MAX];
    struct batch_topic topic;
    const struct batch one = extracted (b, f, &topic, backs);
    const struct batch_defaults defaults = defaults_of (b);
    return batch_header_bound (&one) + fact_encoded_len (f, &defaults);
}

uint8_t *batch_extract (uint8_t *p, const struct batch *b, const struct fm_fact *f)
{
    static const uint8_t backs[TOPIC_LEVELS_MAX];
    struct batch_topic topic;
    const struct batch one = extracted (b, f, &topic, backs);
    const struct batch_defaults defaults = defaults_of (b);
    struct fm_fact alone = *f;
    alone.topic_index = 0;
    return fact_encode (batch_encode_header (p, &one), &alone, &defaults);
}
