/* batch: the hand-written codec against the one that protobuf-c generated: the same bytes, each way. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/batch_sample.h"
#include "error.h"

static ProtobufCBinaryData data_of (struct fm_slice s)
{
    return (ProtobufCBinaryData) { .len = s.len, .data = (uint8_t *) (uintptr_t) s.data };
}

/* --- The same through the generated code. */

struct generated {
    Factmesh__Batch batch;
    Factmesh__Topic topic[SAMPLE_TOPICS], *topics[SAMPLE_TOPICS];
    Factmesh__Fact fact[SAMPLE_FACTS], *facts[SAMPLE_FACTS];
    Factmesh__FactId causation[SAMPLE_FACTS], corrects[SAMPLE_FACTS];
    Factmesh__Header header[SAMPLE_FACTS][SAMPLE_HEADERS], *headers[SAMPLE_FACTS][SAMPLE_HEADERS];
};

static void generate_fact (const struct sample *s, size_t i, struct generated *g)
{
    const struct fm_fact *f = &s->facts[i];
    Factmesh__Fact *out = g->facts[i] = &g->fact[i];
    factmesh__fact__init (out);
    out->topic = f->topic_index;
    out->time_delta_ns = (int64_t) (f->time_ns - s->batch.time_ns);
    if (!slice_equal (f->type, s->batch.type)) {
        out->own_type_case = FACTMESH__FACT__OWN_TYPE_TYPE;
        out->type = data_of (f->type);
    }
    if (!slice_equal (f->content_type, s->batch.content_type)) {
        out->own_content_type_case = FACTMESH__FACT__OWN_CONTENT_TYPE_CONTENT_TYPE;
        out->content_type = data_of (f->content_type);
    }
    out->schema = data_of (f->schema);
    out->key = data_of (f->key);
    out->correlation = data_of (f->correlation);
    out->identity = data_of (f->identity);
    if (!id_is_zero (&f->causation.stream)) {
        factmesh__fact_id__init (out->causation = &g->causation[i]);
        out->causation->stream = data_of (slice (f->causation.stream.bytes, ID_LEN));
        out->causation->seq = f->causation.seq;
    }
    if (!id_is_zero (&f->corrects.stream)) {
        factmesh__fact_id__init (out->corrects = &g->corrects[i]);
        out->corrects->stream = data_of (slice (f->corrects.stream.bytes, ID_LEN));
        out->corrects->seq = f->corrects.seq;
    }
    out->n_headers = s->header_count[i];
    out->headers = g->headers[i];
    for (size_t h = 0; h < s->header_count[i]; h++) {
        factmesh__header__init (g->headers[i][h] = &g->header[i][h]);
        g->header[i][h].name = data_of (s->header[i][h][0]);
        g->header[i][h].value = data_of (s->header[i][h][1]);
    }
    out->flags = f->flags;
    if (f->blob.len)
        out->blob = (Factmesh__BlobRef *) (uintptr_t) &s->blob[i];
    out->expires_ns = f->expires_ns;
    out->payload = data_of (f->payload);
}

static void generate (const struct sample *s, struct generated *g)
{
    const struct batch *b = &s->batch;
    Factmesh__Batch *out = &g->batch;
    factmesh__batch__init (out);
    out->major = PROTO_MAJOR;
    out->minor = b->minor;
    out->mesh = data_of (b->mesh);
    out->stream = data_of (slice (b->stream.bytes, ID_LEN));
    out->epoch = b->epoch;
    out->incarnation = b->incarnation;
    out->first_seq = b->first_seq;
    out->count = b->count;
    out->time_ns = b->time_ns;
    out->epoch_first_seq = b->epoch_first_seq;
    out->n_topics = b->topic_count;
    out->topics = g->topics;
    for (uint32_t i = 0; i < b->topic_count; i++) {
        factmesh__topic__init (g->topics[i] = &g->topic[i]);
        g->topic[i].name = data_of (b->topics[i].name);
        g->topic[i].n_back = s->back_count[i];
        g->topic[i].back = (uint64_t *) (uintptr_t) s->back[i];
    }
    out->features = b->features;
    out->type = data_of (b->type);
    out->content_type = data_of (b->content_type);
    out->announced_len = b->announced_len;
    out->n_facts = b->announced_len ? 0 : b->count;
    out->facts = g->facts;
    for (size_t i = 0; i < b->count; i++)
        generate_fact (s, i, g);
}

/* As SPEC.md tells a user of generated code to do it: the header, then a batch of nothing but facts behind it. */
static uint8_t *encode_generated (struct generated *g, size_t *ret_len)
{
    Factmesh__Batch facts = FACTMESH__BATCH__INIT;
    facts.n_facts = g->batch.n_facts;
    facts.facts = g->batch.facts;
    g->batch.n_facts = 0;
    const size_t header_len = factmesh__batch__get_packed_size (&g->batch);
    const size_t len = header_len + factmesh__batch__get_packed_size (&facts);
    uint8_t *bytes = malloc (len);
    factmesh__batch__pack (&g->batch, bytes);
    factmesh__batch__pack (&facts, bytes + header_len);
    g->batch.n_facts = facts.n_facts;
    *ret_len = len;
    return bytes;
}

/* --- Comparing. */

static void assert_data (ProtobufCBinaryData got, struct fm_slice wanted)
{
    assert_true (slice_equal (slice (got.data, got.len), wanted));
}

static void assert_slice (struct fm_slice got, struct fm_slice wanted)
{
    assert_true (slice_equal (got, wanted));
}

static void assert_generated_fact (const struct sample *s, size_t i, const Factmesh__Fact *g)
{
    const struct fm_fact *f = &s->facts[i];
    assert_int_equal (g->topic, f->topic_index);
    assert_true (s->batch.time_ns + (uint64_t) g->time_delta_ns == f->time_ns);
    if (g->own_type_case == FACTMESH__FACT__OWN_TYPE_TYPE)
        assert_data (g->type, f->type);
    else
        assert_slice (s->batch.type, f->type);
    if (g->own_content_type_case == FACTMESH__FACT__OWN_CONTENT_TYPE_CONTENT_TYPE)
        assert_data (g->content_type, f->content_type);
    else
        assert_slice (s->batch.content_type, f->content_type);
    assert_data (g->schema, f->schema);
    assert_data (g->key, f->key);
    assert_data (g->correlation, f->correlation);
    assert_data (g->identity, f->identity);
    assert_int_equal (g->causation != NULL, !id_is_zero (&f->causation.stream));
    if (g->causation) {
        assert_data (g->causation->stream, slice (f->causation.stream.bytes, ID_LEN));
        assert_true (g->causation->seq == f->causation.seq);
    }
    assert_int_equal (g->corrects != NULL, !id_is_zero (&f->corrects.stream));
    if (g->corrects) {
        assert_data (g->corrects->stream, slice (f->corrects.stream.bytes, ID_LEN));
        assert_true (g->corrects->seq == f->corrects.seq);
    }
    assert_int_equal (g->n_headers, s->header_count[i]);
    for (size_t h = 0; h < g->n_headers; h++) {
        assert_data (g->headers[h]->name, s->header[i][h][0]);
        assert_data (g->headers[h]->value, s->header[i][h][1]);
    }
    assert_true (g->flags == f->flags);
    assert_int_equal (g->blob != NULL, f->blob.len > 0);
    if (g->blob)
        assert_true (g->blob->size == s->blob[i].size);
    assert_true (g->expires_ns == f->expires_ns);
    assert_data (g->payload, f->payload);
}

static void assert_generated_batch (const struct sample *s, const Factmesh__Batch *g)
{
    const struct batch *b = &s->batch;
    assert_int_equal (g->major, PROTO_MAJOR);
    assert_int_equal (g->minor, b->minor);
    assert_data (g->mesh, b->mesh);
    assert_data (g->stream, slice (b->stream.bytes, ID_LEN));
    assert_true (g->epoch == b->epoch && g->incarnation == b->incarnation);
    assert_true (g->first_seq == b->first_seq && g->epoch_first_seq == b->epoch_first_seq);
    assert_int_equal (g->count, b->count);
    assert_true (g->time_ns == b->time_ns && g->features == b->features && g->announced_len == b->announced_len);
    assert_data (g->type, b->type);
    assert_data (g->content_type, b->content_type);
    assert_int_equal (g->n_topics, b->topic_count);
    for (size_t i = 0; i < g->n_topics; i++) {
        assert_data (g->topics[i]->name, b->topics[i].name);
        assert_int_equal (g->topics[i]->n_back, s->back_count[i]);
        assert_memory_equal (g->topics[i]->back, s->back[i], s->back_count[i] * sizeof (uint64_t));
    }
    assert_int_equal (g->n_facts, b->announced_len ? 0 : b->count);
    for (size_t i = 0; i < g->n_facts; i++)
        assert_generated_fact (s, i, g->facts[i]);
}

static void assert_fact (const struct fm_fact *got, const struct fm_fact *wanted)
{
    assert_true (id_equal (&got->id.stream, &wanted->id.stream) && got->id.seq == wanted->id.seq);
    assert_slice (got->topic, wanted->topic);
    assert_int_equal (got->topic_index, wanted->topic_index);
    assert_true (got->time_ns == wanted->time_ns && got->expires_ns == wanted->expires_ns && got->flags == wanted->flags);
    assert_slice (got->type, wanted->type);
    assert_slice (got->content_type, wanted->content_type);
    assert_slice (got->schema, wanted->schema);
    assert_slice (got->key, wanted->key);
    assert_slice (got->correlation, wanted->correlation);
    assert_slice (got->identity, wanted->identity);
    assert_slice (got->headers, wanted->headers);
    assert_slice (got->blob, wanted->blob);
    assert_slice (got->payload, wanted->payload);
    assert_memory_equal (&got->causation.stream, &wanted->causation.stream, ID_LEN);
    assert_memory_equal (&got->corrects.stream, &wanted->corrects.stream, ID_LEN);
    if (!id_is_zero (&wanted->causation.stream))
        assert_true (got->causation.seq == wanted->causation.seq);
    if (!id_is_zero (&wanted->corrects.stream))
        assert_true (got->corrects.seq == wanted->corrects.seq);
}

static void assert_header (const struct batch *got, const struct batch *wanted)
{
    assert_int_equal (got->major, PROTO_MAJOR);
    assert_int_equal (got->minor, wanted->minor);
    assert_slice (got->mesh, wanted->mesh);
    assert_memory_equal (&got->stream, &wanted->stream, ID_LEN);
    assert_true (got->epoch == wanted->epoch && got->incarnation == wanted->incarnation);
    assert_true (got->first_seq == wanted->first_seq && got->epoch_first_seq == wanted->epoch_first_seq);
    assert_int_equal (got->count, wanted->count);
    assert_true (got->time_ns == wanted->time_ns && got->features == wanted->features);
    assert_true (got->announced_len == wanted->announced_len);
    assert_int_equal (got->codec, 0);
    assert_slice (got->type, wanted->type);
    assert_slice (got->content_type, wanted->content_type);
    assert_int_equal (got->topic_count, wanted->topic_count);
    for (uint32_t i = 0; i < got->topic_count; i++) {
        assert_slice (got->topics[i].name, wanted->topics[i].name);
        assert_slice (got->topics[i].backs, wanted->topics[i].backs);
    }
}

/* Decode by hand and compare all with the sample. */
static void assert_decodes (const struct sample *s, const uint8_t *bytes, size_t len)
{
    struct batch_scratch scratch = { 0 };
    struct batch b;
    const int rc = batch_decode (bytes, len, s->batch.mesh, &scratch, &b);
    if (rc != 0)
        fail_msg ("%s", fm_error_detail ());
    assert_header (&b, &s->batch);
    if (batch_check_facts (&b) != 0)
        fail_msg ("%s", fm_error_detail ());
    struct batch_reader r;
    struct fm_fact f;
    batch_reader_init (&r, &b);
    for (size_t i = 0; i < b.count; i++) {
        assert_int_equal (batch_reader_next (&r, &f), 0);
        assert_fact (&f, &s->facts[i]);
        struct fm_slice name, value;
        size_t pos = 0;
        for (size_t h = 0; h < s->header_count[i]; h++) {
            assert_int_equal (fact_header_next (f.headers, &pos, &name, &value), 0);
            assert_slice (name, s->header[i][h][0]);
            assert_slice (value, s->header[i][h][1]);
        }
        assert_int_equal (fact_header_next (f.headers, &pos, &name, &value), FM_ERR_END);
    }
    assert_int_equal (batch_reader_next (&r, &f), FM_ERR_END);
    const uint64_t skipped = sample_below (b.count);
    batch_reader_init (&r, &b);
    assert_int_equal (batch_reader_skip (&r, skipped), 0);
    assert_int_equal (batch_reader_next (&r, &f), 0);
    assert_fact (&f, &s->facts[skipped]);
    assert_int_equal (batch_reader_skip (&r, b.count), FM_ERR_END);
    batch_scratch_release (&scratch);
}

enum { ROUNDS = 2000 };

static void what_the_hand_wrote_the_generated_code_reads (void **state)
{
    (void) state;
    struct sample *s = malloc (sizeof *s);
    for (int round = 0; round < ROUNDS; round++) {
        sample_make (s);
        size_t len;
        uint8_t *bytes = sample_encode (s, &len);
        Factmesh__Batch *g = factmesh__batch__unpack (NULL, len, bytes);
        assert_non_null (g);
        assert_generated_batch (s, g);
        factmesh__batch__free_unpacked (g, NULL);
        free (bytes);
    }
    free (s);
}

static void what_the_generated_code_wrote_the_hand_reads (void **state)
{
    (void) state;
    struct sample *s = malloc (sizeof *s);
    struct generated *g = malloc (sizeof *g);
    for (int round = 0; round < ROUNDS; round++) {
        sample_make (s);
        generate (s, g);
        size_t len;
        uint8_t *bytes = encode_generated (g, &len);
        assert_decodes (s, bytes, len);
        free (bytes);
    }
    free (g);
    free (s);
}

static void both_write_the_same_bytes (void **state)
{
    (void) state;
    struct sample *s = malloc (sizeof *s);
    struct generated *g = malloc (sizeof *g);
    for (int round = 0; round < ROUNDS; round++) {
        sample_make (s);
        generate (s, g);
        size_t by_hand_len, generated_len;
        uint8_t *by_hand = sample_encode (s, &by_hand_len), *generated = encode_generated (g, &generated_len);
        assert_int_equal (by_hand_len, generated_len);
        assert_memory_equal (by_hand, generated, generated_len);
        free (generated);
        free (by_hand);
    }
    free (g);
    free (s);
}

static int start (void **state)
{
    (void) state;
    sample_seed ();
    return 0;
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (what_the_hand_wrote_the_generated_code_reads),
        cmocka_unit_test (what_the_generated_code_wrote_the_hand_reads),
        cmocka_unit_test (both_write_the_same_bytes),
    };
    return cmocka_run_group_tests (tests, start, NULL);
}
