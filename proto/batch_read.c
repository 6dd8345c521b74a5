/* The facts of a batch, one after the other, in place. */

#include "batch.h"
#include "batch_fields.h"
#include "error.h"

#include <assert.h>

static int fault (const struct batch_reader *r, const char *what)
{
    return error_set (FM_ERR_MALFORMED, "batch: fact %llu: %s", (unsigned long long) r->next_seq, what);
}

void batch_reader_init (struct batch_reader *r, const struct batch *b)
{
    r->batch = b;
    r->pos = b->bytes + b->facts_pos;
    r->end = b->bytes + b->len;
    /* Of an announced batch the facts are elsewhere: this is its end already. */
    r->next_seq = b->announced_len ? batch_end_seq (b) : b->first_seq;
}

/* Step over what may lie between and behind facts: fields of a newer minor version. Fields of the header must not. */
static int skip_unknown (struct batch_reader *r)
{
    while (r->pos < r->end && *r->pos != BATCH_FACT) {
        uint32_t tag;
        const uint8_t *p = wire_get_tag (r->pos, r->end, &tag);
        if (p && tag >> 3 <= BATCH_FIELD_LAST)
            return fault (r, "a field of the header comes behind the first fact");
        p = p ? wire_skip (p, r->end, tag) : NULL;
        if (!p)
            return fault (r, "cut off");
        r->pos = p;
    }
    return 0;
}

/* Find the bytes of the next fact. */
static inline int next_bytes (struct batch_reader *r, struct fm_slice *ret_bytes)
{
    if (__builtin_expect (r->pos < r->end && *r->pos != BATCH_FACT, 0)) {
        const int rc = skip_unknown (r);
        if (rc != 0)
            return rc;
    }
    const bool due = r->next_seq < batch_end_seq (r->batch);
    if (r->pos == r->end)
        return due ? fault (r, "it is missing") : FM_ERR_END;
    if (!due)
        return fault (r, "one more than the batch's count");
    const uint8_t *behind = wire_get_slice (r->pos + 1, r->end, ret_bytes);
    if (!behind)
        return fault (r, "cut off");
    r->pos = behind;
    return 0;
}

static const uint8_t *get_limited (const uint8_t *p, const uint8_t *end, size_t max, struct fm_slice *ret_s)
{
    p = wire_get_slice (p, end, ret_s);
    return p && ret_s->len <= max ? p : NULL;
}

const uint8_t *batch_get_fact_id (const uint8_t *p, const uint8_t *end, struct fm_fact_id *ret_id)
{
    struct fm_slice bytes, stream = { 0 };
    const uint8_t *behind = wire_get_slice (p, end, &bytes);
    if (!behind)
        return NULL;
    struct fm_fact_id id = { 0 };
    p = bytes.data;
    end = p + bytes.len;
    while (p && p < end) {
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            return NULL;
        if (tag == FACT_ID_STREAM)
            p = wire_get_slice (p, end, &stream);
        else if (tag == FACT_ID_SEQ)
            p = wire_get_varint (p, end, &id.seq);
        else
            p = tag >> 3 <= 2 ? NULL : wire_skip (p, end, tag);
    }
    if (!p || stream.len != ID_LEN)
        return NULL;
    memcpy (id.stream.bytes, stream.data, ID_LEN);
    *ret_id = id;
    return behind;
}

static const uint8_t *get_blob (const uint8_t *p, const uint8_t *end, struct fm_slice *ret_blob)
{
    struct fm_slice bytes, sha256 = { 0 }, media_type = { 0 };
    const uint8_t *behind = wire_get_slice (p, end, &bytes);
    if (!behind)
        return NULL;
    p = bytes.data;
    end = p + bytes.len;
    while (p && p < end) {
        uint32_t tag;
        uint64_t size;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            return NULL;
        if (tag == BLOB_SHA256)
            p = wire_get_slice (p, end, &sha256);
        else if (tag == BLOB_SIZE)
            p = wire_get_varint (p, end, &size);
        else if (tag == BLOB_MEDIA_TYPE)
            p = wire_get_slice (p, end, &media_type);
        else
            p = tag >> 3 <= 3 ? NULL : wire_skip (p, end, tag);
    }
    if (!p || sha256.len != 32 || media_type.len > TYPE_MAX)
        return NULL;
    *ret_blob = bytes;
    return behind;
}

/* A run of headers; tag_pos is where the first one's tag is. Every one is decoded once here, so that who walks
 * them later meets no surprise. */
static const uint8_t *get_headers (const uint8_t *tag_pos, const uint8_t *end, struct fm_slice *ret_headers)
{
    const uint8_t *p = tag_pos;
    size_t text_len = 0;
    unsigned count = 0;
    if (ret_headers->len || *p != FACT_HEADER)
        return NULL;        /* a second run, which the slice could not hold; or the tag in two bytes: the walk would not move */
    while (p < end && *p == FACT_HEADER) {
        struct fm_slice name = { 0 }, value = { 0 };
        const struct fm_slice rest = slice (p, (size_t) (end - p));
        size_t pos = 0;
        if (fact_header_next (rest, &pos, &name, &value) != 0)
            return NULL;
        text_len += name.len + value.len;
        if (++count > HEADERS_MAX || text_len > HEADER_BYTES_MAX)
            return NULL;
        p += pos;
    }
    *ret_headers = slice (tag_pos, (size_t) (p - tag_pos));
    return p;
}

/* The fields that most facts do not have. p is behind the tag. */
static const uint8_t *get_rare (const uint8_t *tag_pos, uint32_t tag, const uint8_t *p, const uint8_t *end, struct fm_fact *f)
{
    switch (tag) {
    case FACT_TYPE:
        return get_limited (p, end, TYPE_MAX, &f->type);
    case FACT_CONTENT_TYPE:
        return get_limited (p, end, TYPE_MAX, &f->content_type);
    case FACT_SCHEMA:
        return get_limited (p, end, TYPE_MAX, &f->schema);
    case FACT_KEY:
        return get_limited (p, end, KEY_MAX, &f->key);
    case FACT_CORRELATION:
        return get_limited (p, end, CORRELATION_MAX, &f->correlation);
    case FACT_CAUSATION:
        return batch_get_fact_id (p, end, &f->causation);
    case FACT_IDENTITY:
        return get_limited (p, end, IDENTITY_MAX, &f->identity);
    case FACT_CORRECTS:
        return batch_get_fact_id (p, end, &f->corrects);
    case FACT_HEADER:
        return get_headers (tag_pos, end, &f->headers);
    case FACT_FLAGS:
        return wire_get_u32 (p, end, &f->flags);
    case FACT_BLOB:
        return get_blob (p, end, &f->blob);
    case FACT_EXPIRES:
        return wire_get_fixed64 (p, end, &f->expires_ns);
    default:
        return tag >> 3 <= FACT_FIELD_LAST ? NULL : wire_skip (p, end, tag);
    }
}

/* Most facts are a topic, a time and a payload, in this order, and nothing else. */
struct plain {
    uint32_t topic_index;
    uint64_t time_ns;
    struct fm_slice payload;
};

/* Read the next fact if it is a plain one, with all the checks of the long way. Else false: nothing has moved, and the long way finds what it
 * is. What is written in another order, or with a tag in two bytes, is none. */
static inline bool next_plain (struct batch_reader *r, struct plain *ret)
{
    const struct batch *b = r->batch;
    const uint8_t *p = r->pos, *end = r->end;
    struct fm_slice bytes;
    if (p == end || *p != BATCH_FACT || r->next_seq >= batch_end_seq (b))
        return false;
    p = wire_get_slice (p + 1, end, &bytes);
    if (!p)
        return false;
    p = bytes.data;
    end = p + bytes.len;
    uint64_t topic = 0, zigzag = 0;
    if (p < end && *p == FACT_TOPIC)
        p = wire_get_varint (p + 1, end, &topic);
    if (p && p < end && *p == FACT_TIME_DELTA)
        p = wire_get_long_varint (p + 1, end, &zigzag);
    if (!p || p == end || *p != FACT_PAYLOAD || wire_get_slice (p + 1, end, &ret->payload) != end)
        return false;
    const int64_t delta = bytes_unzigzag (zigzag);
    ret->topic_index = (uint32_t) topic;
    ret->time_ns = b->time_ns + (uint64_t) delta;
    if (topic >= b->topic_count || (delta < 0) != (ret->time_ns < b->time_ns))
        return false;
    r->pos = end;
    r->next_seq++;
    return true;
}

static int next_any (struct batch_reader *r, struct fm_fact *ret_fact);

int batch_reader_next (struct batch_reader *r, struct fm_fact *ret_fact)
{
    const struct batch *b = r->batch;
    struct plain plain;
    if (__builtin_expect (!next_plain (r, &plain), 0))
        return next_any (r, ret_fact);
    /* One by one, every field: for a literal gcc clears the whole with `rep stos`, which takes longer than all the rest. */
    const struct fm_slice none = { 0 };
    const struct fm_fact_id nothing = { 0 };
    static_assert (sizeof *ret_fact == 10 * sizeof none + 3 * sizeof nothing + 24, "no field is forgotten here");
    ret_fact->id = (struct fm_fact_id) { .stream = b->stream, .seq = r->next_seq - 1 };
    ret_fact->topic = b->topics[plain.topic_index].name;
    ret_fact->payload = plain.payload;
    ret_fact->key = none;
    ret_fact->type = b->type;
    ret_fact->content_type = b->content_type;
    ret_fact->schema = none;
    ret_fact->correlation = none;
    ret_fact->identity = none;
    ret_fact->causation = nothing;
    ret_fact->corrects = nothing;
    ret_fact->headers = none;
    ret_fact->blob = none;
    ret_fact->time_ns = plain.time_ns;
    ret_fact->expires_ns = 0;
    ret_fact->flags = 0;
    ret_fact->topic_index = plain.topic_index;
    return 0;
}

static int next_any (struct batch_reader *r, struct fm_fact *ret_fact)
{
    const struct batch *b = r->batch;
    const uint8_t *const start = r->pos;
    struct fm_slice bytes;
    const int rc = next_bytes (r, &bytes);
    if (rc != 0)
        return rc;

    const uint8_t *p = bytes.data, *const end = p + bytes.len;
    struct fm_fact f = { .type = b->type, .content_type = b->content_type };
    uint64_t zigzag = 0;
    while (p < end) {
        const uint8_t *tag_pos = p;
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            break;
        if (tag == FACT_PAYLOAD)
            p = wire_get_slice (p, end, &f.payload);
        else if (tag == FACT_TIME_DELTA)
            p = wire_get_varint (p, end, &zigzag);
        else if (tag == FACT_TOPIC)
            p = wire_get_u32 (p, end, &f.topic_index);
        else
            p = get_rare (tag_pos, tag, p, end, &f);
        if (!p)
            break;
    }
    const int64_t delta = bytes_unzigzag (zigzag);
    f.time_ns = b->time_ns + (uint64_t) delta;
    const char *what = !p                                           ? "a field is cut off or out of range"
                       : f.topic_index >= b->topic_count            ? "its topic is not among the batch's"
                       : (delta < 0) != (f.time_ns < b->time_ns) ? "its time is out of range"
                                                                    : NULL;
    if (what) {
        r->pos = start;
        return fault (r, what);
    }
    f.id = (struct fm_fact_id) { .stream = b->stream, .seq = r->next_seq++ };
    f.topic = b->topics[f.topic_index].name;
    *ret_fact = f;
    return 0;
}

int batch_reader_skip (struct batch_reader *r, uint64_t n)
{
    struct fm_slice bytes;
    for (; n > 0; n--) {
        const int rc = next_bytes (r, &bytes);
        if (rc != 0)
            return rc;
        r->next_seq++;
    }
    return 0;
}

int batch_check_facts (const struct batch *b)
{
    if (b->announced_len)
        return error_set (FM_ERR_MALFORMED, "batch: only announced, its facts are not within");
    struct batch_reader r;
    struct plain plain;
    struct fm_fact f;
    uint64_t features = 0;
    int rc;
    batch_reader_init (&r, b);
    do {
        while (next_plain (&r, &plain))
            continue;                       /* plain ones have no features */
        rc = next_any (&r, &f);
        if (rc == 0)
            features |= fact_features (&f);
    } while (rc == 0);
    if (rc != FM_ERR_END)
        return rc;
    /* An index that trusts the header would pass over these facts. */
    if (features & ~b->features)
        return error_set (FM_ERR_MALFORMED, "batch: its header does not tell of features that its facts use (%llx of %llx)",
                          (unsigned long long) b->features, (unsigned long long) features);
    return 0;
}

int fact_header_next (struct fm_slice headers, size_t *pos, struct fm_slice *ret_name, struct fm_slice *ret_value)
{
    if (*pos >= headers.len)
        return FM_ERR_END;
    const uint8_t *p = (const uint8_t *) headers.data + *pos, *end = (const uint8_t *) headers.data + headers.len;
    struct fm_slice bytes, name = { 0 }, value = { 0 };
    const uint8_t *behind = *p == FACT_HEADER ? wire_get_slice (p + 1, end, &bytes) : NULL;
    if (!behind)
        return error_set (FM_ERR_MALFORMED, "headers: byte %zu: no header, or cut off", *pos);
    p = bytes.data;
    end = p + bytes.len;
    while (p && p < end) {
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            break;
        if (tag == HEADER_NAME)
            p = wire_get_slice (p, end, &name);
        else if (tag == HEADER_VALUE)
            p = wire_get_slice (p, end, &value);
        else
            p = tag >> 3 <= 2 ? NULL : wire_skip (p, end, tag);
    }
    if (!p)
        return error_set (FM_ERR_MALFORMED, "headers: byte %zu: a header is cut off", *pos);
    *pos = (size_t) (behind - (const uint8_t *) headers.data);
    *ret_name = name;
    *ret_value = value;
    return 0;
}
