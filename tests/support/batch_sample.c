#include "batch_sample.h"

#include <assert.h>
#include <stdlib.h>

#include "chance.h"
#include "topic.h"

uint8_t sample_noise[8192];

static uint64_t seed;

uint64_t sample_u64 (void)
{
    return chance_next (&seed);
}

uint64_t sample_below (uint64_t n)
{
    return sample_u64 () % n;
}

uint64_t sample_size (void)
{
    const uint64_t bits = sample_below (64);
    return sample_u64 () >> bits;
}

struct fm_slice sample_bytes (size_t max)
{
    const size_t len = sample_below (3) ? 0 : 1 + sample_below (max);
    const uint64_t pos = sample_below (sizeof sample_noise - len);
    return slice (sample_noise + pos, len);
}

struct fm_id sample_id (void)
{
    struct fm_id id;
    for (int i = 0; i < ID_LEN; i++)
        id.bytes[i] = (uint8_t) (1 + sample_below (255));
    return id;
}

void sample_seed (void)
{
    seed = 0x5eed0fac75;
    for (size_t i = 0; i < sizeof sample_noise; i++)
        sample_noise[i] = (uint8_t) sample_u64 ();
}

static ProtobufCBinaryData data_of (struct fm_slice s)
{
    return (ProtobufCBinaryData) { .len = s.len, .data = (uint8_t *) (uintptr_t) s.data };
}

static void random_topics (struct sample *s)
{
    static const char *names[] = { "orders", "orders.placed", "orders.placed.eu", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", "caf\xc3\xa9" };
    s->batch.topics = s->topics;
    s->batch.topic_count = (uint32_t) (1 + sample_below (SAMPLE_TOPICS));
    for (uint32_t i = 0; i < s->batch.topic_count; i++) {
        s->topics[i].name = slice_of (names[sample_below (5)]);
        s->back_count[i] = topic_depth (s->topics[i].name) + (sample_below (4) == 0);
        uint8_t *p = s->backs[i];
        for (unsigned level = 0; level < s->back_count[i]; level++) {
            s->back[i][level] = sample_size () % s->batch.first_seq;
            p = bytes_put_varint (p, s->back[i][level]);
        }
        s->topics[i].backs = slice (s->backs[i], (size_t) (p - s->backs[i]));
    }
}

static void random_rare_fields (struct sample *s, size_t i)
{
    struct fm_fact *f = &s->facts[i];
    f->schema = sample_bytes (TYPE_MAX);
    f->key = sample_bytes (300);
    f->correlation = sample_bytes (CORRELATION_MAX);
    f->identity = sample_bytes (IDENTITY_MAX);
    if (sample_below (3) == 0)
        f->causation = (struct fm_fact_id) { .stream = sample_id (), .seq = sample_size () };
    if (sample_below (3) == 0)
        f->corrects = (struct fm_fact_id) { .stream = sample_id (), .seq = sample_size () };
    f->flags = sample_below (3) ? 0 : (uint32_t) sample_size ();
    f->expires_ns = sample_below (3) ? 0 : sample_u64 ();
    uint8_t *p = s->headers[i];
    s->header_count[i] = sample_below (SAMPLE_HEADERS + 1);
    for (size_t h = 0; h < s->header_count[i]; h++) {
        s->header[i][h][0] = sample_bytes (100);
        s->header[i][h][1] = sample_bytes (200);
        const size_t len = fact_header_len (s->header[i][h][0], s->header[i][h][1]);
        uint8_t *end = fact_header_encode (p, s->header[i][h][0], s->header[i][h][1]);
        assert ((size_t) (end - p) == len);
        (void) len;          /* used by the assert alone */
        p = end;
    }
    f->headers = slice (s->headers[i], (size_t) (p - s->headers[i]));
    if (sample_below (3) == 0) {
        factmesh__blob_ref__init (&s->blob[i]);
        s->blob[i].sha256 = data_of (slice (sample_noise, 32));
        s->blob[i].size = sample_size ();
        s->blob[i].media_type = data_of (sample_bytes (40));
        f->blob = slice (s->blobs[i], factmesh__blob_ref__pack (&s->blob[i], s->blobs[i]));
    }
}

static void random_fact (struct sample *s, size_t i)
{
    struct fm_fact *f = &s->facts[i];
    const struct batch *b = &s->batch;
    f->id = (struct fm_fact_id) { .stream = b->stream, .seq = b->first_seq + i };
    f->topic_index = (uint32_t) sample_below (b->topic_count);
    f->topic = b->topics[f->topic_index].name;
    f->time_ns = b->time_ns + sample_size () / 4;
    if (sample_below (2))
        f->time_ns = b->time_ns - sample_size () / 4;
    f->type = sample_below (2) ? b->type : sample_bytes (TYPE_MAX);
    f->content_type = sample_below (2) ? b->content_type : sample_bytes (TYPE_MAX);
    f->payload = sample_bytes (1000);
    if (sample_below (2))
        random_rare_fields (s, i);
}

void sample_make (struct sample *s)
{
    memset (s, 0, sizeof *s);
    struct batch *b = &s->batch;
    b->minor = (uint32_t) sample_below (3);
    b->mesh = sample_below (2) ? slice_of ("test") : slice (sample_noise, MESH_NAME_MAX);
    b->stream = sample_id ();
    b->epoch = sample_size ();
    b->incarnation = sample_u64 ();
    b->first_seq = 1 + sample_size () / 2;
    b->epoch_first_seq = 1 + sample_size () % b->first_seq;
    b->count = (uint32_t) (1 + sample_below (SAMPLE_FACTS));
    b->time_ns = (1ull << 62) + sample_u64 () / 4;
    b->type = sample_bytes (TYPE_MAX);
    b->content_type = sample_bytes (60);
    random_topics (s);
    s->defaults = (struct batch_defaults) { .type = b->type, .content_type = b->content_type, .time_ns = b->time_ns };
    for (size_t i = 0; i < b->count; i++) {
        random_fact (s, i);
        b->features |= fact_features (&s->facts[i]);
    }
}

void sample_make_large (struct sample *s)
{
    do
        sample_make (s);
    while (s->batch.count < 3 || s->batch.topic_count < 2 || s->batch.first_seq < 1000 || !s->batch.content_type.len);
}

uint8_t *sample_encode (const struct sample *s, size_t *ret_len)
{
    size_t bound = batch_header_bound (&s->batch);
    for (size_t i = 0; i < s->batch.count; i++)
        bound += fact_encoded_len (&s->facts[i], &s->defaults);
    uint8_t *bytes = malloc (bound), *p = batch_encode_header (bytes, &s->batch);
    assert (bytes && (size_t) (p - bytes) <= batch_header_bound (&s->batch));
    for (size_t i = 0; i < s->batch.count && !s->batch.announced_len; i++) {
        uint8_t *end = fact_encode (p, &s->facts[i], &s->defaults);
        assert ((size_t) (end - p) == fact_encoded_len (&s->facts[i], &s->defaults));
        p = end;
    }
    *ret_len = (size_t) (p - bytes);
    return bytes;
}
