/* A live frame or a batch: what we accept lies within its bytes, is what protobuf-c reads too, and comes back the same when it is encoded
 * again. The first byte chooses: a frame (wire topic, NUL, batch) or a batch alone. */

#include "fuzz.h"

#include "batch.h"
#include "factmesh.pb-c.h"
#include "topic.h"

static bool same (struct fm_slice a, ProtobufCBinaryData b)
{
    return slice_equal (a, slice (b.data, b.len));
}

static bool same_id (const struct fm_fact_id *id, const Factmesh__FactId *g)
{
    return g ? same (slice (id->stream.bytes, ID_LEN), g->stream) && id->seq == g->seq : id_is_zero (&id->stream);
}

static void compare_fact (const struct batch *b, const struct fm_fact *f, const Factmesh__Fact *g)
{
    assert (f->topic_index == g->topic && f->time_ns == b->time_ns + (uint64_t) g->time_delta_ns);
    assert (g->own_type_case == FACTMESH__FACT__OWN_TYPE_TYPE ? same (f->type, g->type) : slice_equal (f->type, b->type));
    assert (g->own_content_type_case == FACTMESH__FACT__OWN_CONTENT_TYPE_CONTENT_TYPE ? same (f->content_type, g->content_type)
                                                                                   : slice_equal (f->content_type, b->content_type));
    assert (same (f->schema, g->schema) && same (f->key, g->key) && same (f->correlation, g->correlation));
    assert (same (f->identity, g->identity) && same (f->payload, g->payload));
    assert (f->flags == g->flags && f->expires_ns == g->expires_ns);
    assert (same_id (&f->causation, g->causation) && same_id (&f->corrects, g->corrects));
    struct fm_slice name, value;
    size_t pos = 0;
    for (size_t i = 0; i < g->n_headers; i++) {
        assert (fact_header_next (f->headers, &pos, &name, &value) == 0);
        assert (same (name, g->headers[i]->name) && same (value, g->headers[i]->value));
    }
    assert (fact_header_next (f->headers, &pos, &name, &value) == FM_ERR_END);
    assert ((f->blob.len > 0) == (g->blob != NULL));
}

/* Other languages read what we took with generated code: they must see the same. */
static void compare (const struct batch *b)
{
    Factmesh__Batch *g = factmesh__batch__unpack (NULL, b->len, b->bytes);
    assert (g);
    assert (g->major == b->major && g->minor == b->minor && g->count == b->count && g->codec == b->codec);
    assert (g->epoch == b->epoch && g->incarnation == b->incarnation && g->epoch_first_seq == b->epoch_first_seq);
    assert (g->first_seq == b->first_seq && g->time_ns == b->time_ns && g->features == b->features);
    assert (g->announced_len == b->announced_len && same (b->mesh, g->mesh) && same (slice (b->stream.bytes, ID_LEN), g->stream));
    assert (same (b->type, g->type) && same (b->content_type, g->content_type) && g->n_topics == b->topic_count);
    for (uint32_t i = 0; i < b->topic_count; i++)
        assert (same (b->topics[i].name, g->topics[i]->name));
    assert (g->n_facts == b->count);
    struct batch_reader r;
    struct fm_fact f;
    batch_reader_init (&r, b);
    for (size_t i = 0; i < g->n_facts; i++) {
        assert (batch_reader_next (&r, &f) == 0);
        compare_fact (b, &f, g->facts[i]);
    }
    factmesh__batch__free_unpacked (g, NULL);
}

static bool facts_equal (const struct fm_fact *a, const struct fm_fact *b)
{
    return a->id.seq == b->id.seq && slice_equal (a->topic, b->topic) && a->topic_index == b->topic_index && a->time_ns == b->time_ns &&
           a->expires_ns == b->expires_ns && a->flags == b->flags && slice_equal (a->type, b->type) &&
           slice_equal (a->content_type, b->content_type) && slice_equal (a->schema, b->schema) && slice_equal (a->key, b->key) &&
           slice_equal (a->correlation, b->correlation) && slice_equal (a->identity, b->identity) && slice_equal (a->headers, b->headers) &&
           slice_equal (a->blob, b->blob) && slice_equal (a->payload, b->payload) &&
           memcmp (&a->causation.stream, &b->causation.stream, ID_LEN) == 0 && memcmp (&a->corrects.stream, &b->corrects.stream, ID_LEN) == 0;
}

static void encode_again (const struct batch *b)
{
    const struct batch_defaults defaults = { .type = b->type, .content_type = b->content_type, .time_ns = b->time_ns };
    struct batch_reader r, again_r;
    struct fm_fact f, again_f;
    size_t size = batch_header_bound (b);
    batch_reader_init (&r, b);
    while (batch_reader_next (&r, &f) == 0)
        size += fact_encoded_len (&f, &defaults);
    uint8_t *bytes = malloc (size), *p = batch_encode_header (bytes, b);
    batch_reader_init (&r, b);
    while (batch_reader_next (&r, &f) == 0) {
        const size_t len = fact_encoded_len (&f, &defaults);
        uint8_t *behind = fact_encode (p, &f, &defaults);
        assert (behind == p + len);
        p = behind;
    }
    assert (p <= bytes + size);
    struct batch_scratch scratch = { 0 };
    struct batch again;
    assert (batch_decode (bytes, (size_t) (p - bytes), slice (NULL, 0), &scratch, &again) == 0);
    assert (batch_check_facts (&again) == 0);
    batch_reader_init (&r, b);
    batch_reader_init (&again_r, &again);
    while (batch_reader_next (&r, &f) == 0)
        assert (batch_reader_next (&again_r, &again_f) == 0 && facts_equal (&f, &again_f));
    batch_scratch_release (&scratch);
    free (bytes);
}

static void check_header (const struct batch *b, const uint8_t *bytes, size_t len)
{
    assert (b->major == PROTO_MAJOR && b->count >= 1 && b->count <= BATCH_FACTS_MAX);
    assert (b->first_seq >= 1 && b->first_seq + b->count > b->first_seq && b->epoch_first_seq <= b->first_seq);
    assert (b->topic_count >= 1 && b->topic_count <= BATCH_TOPICS_MAX && fuzz_within (b->mesh, bytes, len));
    for (uint32_t i = 0; i < b->topic_count; i++) {
        uint64_t prev = UINT64_MAX;
        assert (topic_check (b->topics[i].name) == 0 && fuzz_within (b->topics[i].name, bytes, len));
        assert (batch_prev (b, b->topics[i].name, &prev) && prev < b->first_seq);
        assert (batch_prev_exact (b, b->topics[i].name, &prev) && prev < b->first_seq);
        assert (topic_is_under (b->topics[i].name, batch_level (b)));
    }
    uint64_t prev = 0;
    assert (batch_prev (b, slice (NULL, 0), &prev) && prev == b->first_seq - 1);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct fm_slice topic, body = slice (data + 1, size - 1);
    if ((data[0] & 1) && topic_from_frame (data + 1, size - 1, &topic, &body) != 0)
        return 0;
    const uint8_t *bytes = body.data;
    const size_t len = body.len;
    assert (fuzz_within (body, data, size));
    struct batch_scratch scratch = { 0 };
    struct batch b;
    if (batch_decode (bytes, len, slice (NULL, 0), &scratch, &b) == 0) {
        check_header (&b, bytes, len);
        struct batch_reader r;
        struct fm_fact f;
        batch_reader_init (&r, &b);
        while (batch_reader_next (&r, &f) == 0) {
            assert (f.topic_index < b.topic_count && f.id.seq >= b.first_seq && f.id.seq < batch_end_seq (&b));
            const struct fm_slice slices[] = { f.payload, f.key, f.type, f.content_type, f.schema, f.correlation, f.identity, f.headers, f.blob };
            for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++)
                assert (fuzz_within (slices[i], bytes, len));
        }
        batch_reader_init (&r, &b);
        const int skipped = batch_reader_skip (&r, b.count / 2);
        if (batch_check_facts (&b) == 0) {
            assert (skipped == 0);
            compare (&b);
            encode_again (&b);
        }
    }
    batch_scratch_release (&scratch);
    return 0;
}
