/* batch: what a header and facts must be to be taken; prev and levels. test_batch_codec compares the codec with the generated one,
 * test_batch_hostile attacks it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/batch_sample.h"
#include "batch_fields.h"
#include "error.h"
#include "topic.h"

static void assert_slice (struct fm_slice got, struct fm_slice wanted)
{
    assert_true (slice_equal (got, wanted));
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

/* --- Announced batches, versions, meshes. */

static int decode (const struct sample *s, struct fm_slice mesh, struct batch_scratch *scratch, uint8_t **ret_bytes, struct batch *ret_batch)
{
    size_t len;
    uint8_t *bytes = sample_encode (s, &len);
    const int rc = batch_decode (bytes, len, mesh, scratch, ret_batch);
    *ret_bytes = bytes;
    return rc;
}

static int decode_result (const struct sample *s, struct fm_slice mesh)
{
    struct batch_scratch scratch = { 0 };
    struct batch b;
    uint8_t *bytes;
    const int rc = decode (s, mesh, &scratch, &bytes, &b);
    free (bytes);
    batch_scratch_release (&scratch);
    return rc;
}

static void an_announced_batch_has_a_range_and_no_facts (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    s.batch.announced_len = 1234567;
    struct batch_scratch scratch = { 0 };
    struct batch b;
    uint8_t *bytes;
    assert_int_equal (decode (&s, s.batch.mesh, &scratch, &bytes, &b), 0);
    assert_header (&b, &s.batch);
    struct batch_reader r;
    struct fm_fact f;
    batch_reader_init (&r, &b);
    assert_int_equal (batch_reader_next (&r, &f), FM_ERR_END);
    assert_int_equal (batch_check_facts (&b), FM_ERR_MALFORMED);
    assert_true (batch_end_seq (&b) == s.batch.first_seq + s.batch.count);
    free (bytes);
    batch_scratch_release (&scratch);
    s.batch.announced_len = (uint64_t) BATCH_MAX + 1;
    assert_int_equal (decode_result (&s, s.batch.mesh), FM_ERR_MALFORMED);
}

static void another_major_version_is_refused_whatever_follows (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    s.batch.major = 2;
    assert_int_equal (decode_result (&s, s.batch.mesh), FM_ERR_VERSION);
    const uint8_t strange[] = { 0x08, 0x02, 0xff, 0xff };
    struct batch_scratch scratch = { 0 };
    struct batch b;
    assert_int_equal (batch_decode (strange, sizeof strange, slice (NULL, 0), &scratch, &b), FM_ERR_VERSION);
    assert_int_equal (batch_decode (strange, 0, slice (NULL, 0), &scratch, &b), FM_ERR_MALFORMED);
    batch_scratch_release (&scratch);
}

static void another_mesh_is_refused_and_no_mesh_is_not_compared (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    assert_int_equal (decode_result (&s, slice_of ("production")), FM_ERR_MESH);
    assert_int_equal (decode_result (&s, slice (NULL, 0)), 0);
    s.batch.mesh = slice (NULL, 0);
    assert_int_equal (decode_result (&s, slice_of ("production")), FM_ERR_MALFORMED);
}

static void headers_outside_their_bounds_are_refused (void **state)
{
    (void) state;
    struct sample s, broken;
    sample_make_large (&s);
    assert_int_equal (decode_result (&s, s.batch.mesh), 0);
#define REFUSED(change, code)                                                                                          \
    do {                                                                                                               \
        broken = s;                                                                                                    \
        broken.batch.topics = broken.topics;                                                                           \
        change;                                                                                                        \
        assert_int_equal (decode_result (&broken, slice (NULL, 0)), code);                                             \
    } while (0)
    REFUSED (broken.batch.stream = (struct fm_id) { 0 }, FM_ERR_MALFORMED);
    REFUSED (broken.batch.first_seq = 0, FM_ERR_MALFORMED);
    REFUSED (broken.batch.first_seq = UINT64_MAX - 1, FM_ERR_MALFORMED);
    REFUSED (broken.batch.epoch_first_seq = s.batch.first_seq + 1, FM_ERR_MALFORMED);
    REFUSED (broken.batch.topic_count = 0, FM_ERR_MALFORMED);
    REFUSED (broken.topics[1].name = slice_of ("a..b"), FM_ERR_MALFORMED);
    REFUSED (broken.topics[1].name = slice_of ("a.*"), FM_ERR_MALFORMED);
    REFUSED (broken.topics[1].backs = slice ("\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1", 18), FM_ERR_MALFORMED);
    REFUSED (broken.topics[1].backs = slice ("\x81", 1), FM_ERR_MALFORMED);
    REFUSED (broken.topics[1].backs = slice (NULL, 0), FM_ERR_MALFORMED);
    REFUSED (broken.topics[1] = ((struct batch_topic) { slice_of ("a"), slice ("\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 10) }), FM_ERR_MALFORMED);
    REFUSED (broken.batch.type = slice (sample_noise, TYPE_MAX + 1), FM_ERR_MALFORMED);
    REFUSED (broken.batch.content_type = slice (sample_noise, TYPE_MAX + 1), FM_ERR_MALFORMED);
    REFUSED (broken.batch.mesh = slice (sample_noise, MESH_NAME_MAX + 1), FM_ERR_MALFORMED);
    REFUSED (broken.batch.codec = 1, FM_ERR_VERSION);
#undef REFUSED
}

static void a_refused_batch_leaves_the_result_untouched (void **state)
{
    (void) state;
    struct batch b, before;
    memset (&b, 0x5a, sizeof b);
    before = b;
    struct batch_scratch scratch = { 0 };
    assert_int_equal (batch_decode ((const uint8_t *) "\x08\x01", 2, slice (NULL, 0), &scratch, &b), FM_ERR_MALFORMED);
    assert_memory_equal (&b, &before, sizeof b);
    batch_scratch_release (&scratch);
}

/* Decode bytes made of a sample's header, what is given, and maybe its facts; then check the facts. */
static int check_spliced (const struct sample *s, struct fm_slice before_facts, bool facts, struct fm_slice behind)
{
    uint8_t *bytes = malloc (1 << 16), *p = batch_encode_header (bytes, &s->batch);
    p = wire_put_bytes (p, before_facts);
    for (size_t i = 0; i < s->batch.count && facts; i++)
        p = fact_encode (p, &s->facts[i], &s->defaults);
    p = wire_put_bytes (p, behind);
    struct batch_scratch scratch = { 0 };
    struct batch b;
    int rc = batch_decode (bytes, (size_t) (p - bytes), s->batch.mesh, &scratch, &b);
    if (rc == 0)
        rc = batch_check_facts (&b);
    batch_scratch_release (&scratch);
    free (bytes);
    return rc;
}

static void unknown_fields_are_skipped_before_and_behind_facts (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    uint8_t unknown[64], *p = unknown;
    p = wire_put_u64_field (p, 30, 300);
    p = wire_put_fixed64_field (p, 21, 1);
    p = wire_put_slice_field (p, 2000, slice_of ("news"));
    p = wire_put_tag (p, WIRE_TAG (23, WIRE_FIXED32));
    bytes_put_u32le (p, 7);
    p += 4;
    const struct fm_slice fields = slice (unknown, (size_t) (p - unknown)), none = slice (NULL, 0);
    assert_int_equal (check_spliced (&s, none, true, none), 0);
    assert_int_equal (check_spliced (&s, fields, true, none), 0);
    assert_int_equal (check_spliced (&s, none, true, fields), 0);
    assert_int_equal (check_spliced (&s, none, true, slice (unknown, fields.len - 1)), FM_ERR_MALFORMED);
}

static void the_count_and_the_facts_must_agree (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    const struct fm_slice none = slice (NULL, 0), empty_fact = slice ("\x7a\x00", 2);
    assert_int_equal (check_spliced (&s, none, true, empty_fact), FM_ERR_MALFORMED);
    assert_int_equal (check_spliced (&s, none, false, none), FM_ERR_MALFORMED);
    assert_int_equal (check_spliced (&s, none, false, empty_fact), FM_ERR_MALFORMED);
    assert_int_equal (check_spliced (&s, none, false, slice ("\x7a\x05", 2)), FM_ERR_MALFORMED);
    s.batch.announced_len = 77;
    assert_int_equal (check_spliced (&s, none, true, none), FM_ERR_MALFORMED);
}

static void a_header_field_behind_a_fact_is_refused (void **state)
{
    (void) state;
    /* A generic encoder puts content_type (16) behind facts (15): who reads only the header would miss it. */
    struct sample s;
    sample_make_large (&s);
    uint8_t field[32];
    const size_t len = (size_t) (wire_put_slice_field (field, 16, slice_of ("text/plain")) - field);
    assert_int_equal (check_spliced (&s, slice (NULL, 0), true, slice (field, len)), FM_ERR_MALFORMED);
    assert_int_equal (check_spliced (&s, slice (field, len), true, slice (NULL, 0)), 0);
}

static void a_header_that_hides_a_feature_is_refused (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    s.facts[1].key = slice_of ("k");
    s.batch.features |= FACTMESH__FEATURE__FEATURE_KEY;
    assert_int_equal (check_spliced (&s, slice (NULL, 0), true, slice (NULL, 0)), 0);
    s.batch.features &= ~(uint64_t) FACTMESH__FEATURE__FEATURE_KEY;
    assert_int_equal (check_spliced (&s, slice (NULL, 0), true, slice (NULL, 0)), FM_ERR_MALFORMED);
}

/* --- Facts that break a bound. */

static int check_one_fact (struct sample *s, struct fm_slice body)
{
    uint8_t *fact = malloc (body.len + 16);
    uint8_t *end = wire_put_slice (fact, 15, body);
    s->batch.count = 1;
    s->batch.features = UINT64_MAX;
    const int rc = check_spliced (s, slice (NULL, 0), false, slice (fact, (size_t) (end - fact)));
    free (fact);
    return rc;
}

static void facts_outside_their_bounds_are_refused (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    static const struct {
        uint32_t field;
        size_t max;
    } bounds[] = { { 3, TYPE_MAX }, { 4, TYPE_MAX }, { 5, TYPE_MAX }, { 6, KEY_MAX }, { 7, CORRELATION_MAX }, { 9, IDENTITY_MAX } };
    static uint8_t body[1 << 15];
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        uint8_t *p = wire_put_slice (body, bounds[i].field, slice (sample_noise, bounds[i].max));
        assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), 0);
        p = wire_put_slice (body, bounds[i].field, slice (sample_noise, bounds[i].max + 1));
        assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    }
    uint8_t *p = wire_put_u64_field (body, 1, s.batch.topic_count);
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    p = wire_put_u64_field (body, 1, (uint64_t) UINT32_MAX + 1);
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    s.batch.time_ns = 5;
    p = wire_put_u64_field (body, 2, bytes_zigzag (-5));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), 0);
    p = wire_put_u64_field (body, 2, bytes_zigzag (-6));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    p = wire_put_slice (body, 8, slice ("\x0a\x01x", 3));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    p = wire_put_slice (body, 13, slice ("\x0a\x01x", 3));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    p = wire_put_u64_field (body, 15, 3);
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    p = wire_put_slice (body, 100, slice_of ("unknown"));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), 0);
}

static void headers_are_bounded_in_number_in_bytes_and_come_in_one_run (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    static uint8_t body[1 << 16];
    uint8_t *p = body;
    for (int i = 0; i < HEADERS_MAX; i++)
        p = fact_header_encode (p, slice_of ("n"), slice_of ("v"));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), 0);
    p = fact_header_encode (p, slice_of ("n"), slice_of ("v"));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    p = fact_header_encode (body, slice (sample_noise, 192), slice (sample_noise, 8000));
    p = fact_header_encode (p, slice (sample_noise, 192), slice (sample_noise, 8000));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), 0);
    p = fact_header_encode (p, slice_of ("n"), slice_of (""));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
    p = fact_header_encode (body, slice_of ("a"), slice_of ("1"));
    p = wire_put_slice (p, 6, slice_of ("key"));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), 0);
    p = fact_header_encode (p, slice_of ("b"), slice_of ("2"));
    assert_int_equal (check_one_fact (&s, slice (body, (size_t) (p - body))), FM_ERR_MALFORMED);
}

static void a_tag_in_more_bytes_than_it_needs_ends_the_walk (void **state)
{
    (void) state;
    /* protobuf allows it; no encoder writes it. The header run's tag so written once sent the reader round for ever. */
    struct sample s;
    sample_make_large (&s);
    assert_int_equal (check_one_fact (&s, slice ("\x5a\x03\x0a\x01x", 5)), 0);
    assert_int_equal (check_one_fact (&s, slice ("\xda\x00\x03\x0a\x01x", 6)), FM_ERR_MALFORMED);
    assert_int_equal (check_spliced (&s, slice (NULL, 0), false, slice ("\xfa\x00\x00", 3)), FM_ERR_MALFORMED);
}

static void a_malformed_fact_stops_the_reader_where_it_is (void **state)
{
    (void) state;
    struct sample s;
    sample_make_large (&s);
    s.batch.count = 2;
    uint8_t bytes[4096], *p = batch_encode_header (bytes, &s.batch);
    p = fact_encode (p, &(struct fm_fact) { .payload = slice_of ("good") }, &(struct batch_defaults) { 0 });
    p = wire_put_slice (p, 15, slice ("\x7a\x05x", 3));
    struct batch_scratch scratch = { 0 };
    struct batch b;
    assert_int_equal (batch_decode (bytes, (size_t) (p - bytes), slice (NULL, 0), &scratch, &b), 0);
    struct batch_reader r;
    struct fm_fact f, before;
    batch_reader_init (&r, &b);
    assert_int_equal (batch_reader_next (&r, &f), 0);
    before = f;
    for (int i = 0; i < 3; i++)
        assert_int_equal (batch_reader_next (&r, &f), FM_ERR_MALFORMED);
    assert_memory_equal (&f, &before, sizeof f);
    batch_scratch_release (&scratch);
}

/* Read the only fact of a batch: its body. */
static int read_one_fact (const struct sample *s, struct fm_slice body, struct fm_fact *ret_fact, bool *ret_checks)
{
    static uint8_t bytes[8192];
    uint8_t *p = batch_encode_header (bytes, &s->batch);
    p = wire_put_slice (p, 15, body);
    struct batch_scratch scratch = { 0 };
    struct batch b;
    assert_int_equal (batch_decode (bytes, (size_t) (p - bytes), slice (NULL, 0), &scratch, &b), 0);
    struct batch_reader r;
    batch_reader_init (&r, &b);
    const int rc = batch_reader_next (&r, ret_fact);
    *ret_checks = batch_check_facts (&b) == 0;
    assert_int_equal (r.next_seq, b.first_seq + (rc == 0));
    if (rc == 0) {
        ret_fact->topic = slice (NULL, 0);              /* in the scratch; topic_index says the same */
        ret_fact->payload.data = NULL;                  /* where it lies differs */
    }
    batch_scratch_release (&scratch);
    return rc;
}

static void a_plain_fact_is_read_as_any_other (void **state)
{
    (void) state;
    /* A topic, a time and a payload, in this order, are read in a way of their own. An unknown field behind them leads the long way. */
    static const uint64_t topics[] = { 0, 1, 2, 3, 127, 128, UINT32_MAX, (uint64_t) UINT32_MAX + 1, (uint64_t) 1 << 56 };
    static const int64_t deltas[] = { 0, 1, -1, 5, -5, -6, 63, 64, 8191, 8192, 1 << 20, -(1 << 20), INT64_C (1) << 40, INT64_MAX, INT64_MIN };
    struct sample s;
    sample_make_large (&s);
    s.batch.count = 1;
    unsigned good = 0;
    for (size_t t = 0; t < sizeof topics / sizeof *topics; t++) {
        for (size_t d = 0; d < 3 * sizeof deltas / sizeof *deltas; d++) {
            const int64_t delta = deltas[d / 3];
            const size_t payload = d % 3 == 0 ? 0 : d % 3 == 1 ? 3 : 300;
            s.batch.time_ns = (uint64_t) (t % 2 ? 5 : UINT64_C (1) << 60);
            uint8_t body[1024], *p = wire_put_u64_field (body, 1, topics[t]);
            p = wire_put_u64_field (p, 2, bytes_zigzag (delta));
            p = wire_put_slice (p, 15, slice (sample_noise, payload));
            const uint8_t *end = wire_put_slice (p, 100, slice_of ("x"));
            struct fm_fact plain, any;
            memset (&plain, 0xee, sizeof plain);
            bool plain_checks, any_checks;
            const int plain_rc = read_one_fact (&s, slice (body, (size_t) (p - body)), &plain, &plain_checks);
            const int any_rc = read_one_fact (&s, slice (body, (size_t) (end - body)), &any, &any_checks);
            assert_int_equal (plain_rc, any_rc);
            assert_int_equal (plain_checks, any_checks);
            assert_int_equal (plain_checks, plain_rc == 0);
            if (plain_rc == 0) {
                plain.type.data = any.type.data;        /* both point into the buffer of the moment */
                plain.content_type.data = any.content_type.data;
                assert_memory_equal (&plain, &any, sizeof plain);
                good++;
            }
            /* Cut off within, or a length that goes on behind the fact. */
            for (size_t cut = 1; cut <= 4 && cut < (size_t) (p - body); cut++) {
                const struct fm_slice rest = slice (body, (size_t) (p - body) - cut);
                if (payload > cut)
                    assert_int_equal (read_one_fact (&s, rest, &any, &any_checks), FM_ERR_MALFORMED);
            }
        }
    }
    assert_true (good > 20);
}

/* --- prev and levels. */

static void batch_of_topics (struct batch *b, struct batch_topic *topics, uint32_t count)
{
    *b = (struct batch) { .first_seq = 100, .count = 5, .topics = topics, .topic_count = count };
}

static void prev_is_told_for_each_level_of_each_topic (void **state)
{
    (void) state;
    struct batch_topic topics[] = { { slice_of ("orders.placed"), slice ("\3\x14", 2) },
                                    { slice_of ("orders.paid"), slice ("\3\x63", 2) },
                                    { slice_of ("log"), slice ("\x08", 1) } };
    struct batch b;
    batch_of_topics (&b, topics, 3);
    uint64_t prev = 0;
    assert_true (batch_prev (&b, slice_of (""), &prev));
    assert_int_equal (prev, 99);
    assert_true (batch_prev (&b, slice_of ("orders"), &prev));
    assert_int_equal (prev, 96);
    assert_true (batch_prev (&b, slice_of ("orders.placed"), &prev));
    assert_int_equal (prev, 79);
    assert_true (batch_prev (&b, slice_of ("orders.paid"), &prev));
    assert_int_equal (prev, 0);
    assert_true (batch_prev (&b, slice_of ("log"), &prev));
    assert_int_equal (prev, 91);
    prev = 7;
    assert_false (batch_prev (&b, slice_of ("ord"), &prev));
    assert_false (batch_prev (&b, slice_of ("orders.placed.eu"), &prev));
    assert_int_equal (prev, 7);
}

static void of_two_backs_for_one_level_the_smaller_counts (void **state)
{
    (void) state;
    struct batch_topic topics[] = { { slice_of ("a.b"), slice ("\x09\x09", 2) }, { slice_of ("a.c"), slice ("\4\x09", 2) } };
    struct batch b;
    batch_of_topics (&b, topics, 2);
    uint64_t prev;
    assert_true (batch_prev (&b, slice_of ("a"), &prev));
    assert_int_equal (prev, 95);
}

static void an_exact_topic_may_reach_further_back_than_its_level (void **state)
{
    (void) state;
    struct batch_topic topics[] = { { slice_of ("a"), slice ("\1\x1e", 2) }, { slice_of ("a.b"), slice ("\1\2", 2) } };
    struct batch b;
    batch_of_topics (&b, topics, 2);
    uint64_t prev;
    assert_true (batch_prev (&b, slice_of ("a"), &prev));
    assert_int_equal (prev, 98);
    assert_true (batch_prev_exact (&b, slice_of ("a"), &prev));
    assert_int_equal (prev, 69);
    assert_true (batch_prev_exact (&b, slice_of ("a.b"), &prev));
    assert_int_equal (prev, 97);
    assert_false (batch_prev_exact (&b, slice_of ("a.b.c"), &prev));
}

static void the_level_of_a_batch_is_over_all_its_topics (void **state)
{
    (void) state;
    struct batch_topic topics[] = { { slice_of ("a.b.c"), slice (NULL, 0) }, { slice_of ("a.b"), slice (NULL, 0) },
                                    { slice_of ("a.bb"), slice (NULL, 0) },  { slice_of ("c"), slice (NULL, 0) } };
    static const char *levels[] = { "a.b.c", "a.b", "a", "" };
    for (uint32_t n = 1; n <= 4; n++) {
        struct batch b;
        batch_of_topics (&b, topics, n);
        assert_slice (batch_level (&b), slice_of (levels[n - 1]));
    }
}

static void the_field_numbers_are_those_of_the_schema (void **state)
{
    (void) state;
    static const struct {
        const ProtobufCMessageDescriptor *message;
        const char *field;
        uint32_t tag;
    } tags[] = {
#define TAG(message, field, tag) { &factmesh__##message##__descriptor, field, tag }
        TAG (batch, "mesh", BATCH_MESH), TAG (batch, "content_type", BATCH_CONTENT_TYPE), TAG (batch, "facts", BATCH_FACT),
        TAG (batch, "coded_facts", BATCH_CODED_FACTS), TAG (batch, "redactions", BATCH_REDACTION), TAG (fact, "payload", FACT_PAYLOAD),
        TAG (fact, "headers", FACT_HEADER), TAG (blob_ref, "sha256", BLOB_SHA256), TAG (blob_ref, "media_type", BLOB_MEDIA_TYPE),
        TAG (topic, "back", TOPIC_BACK),
#undef TAG
    };
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name (tags[i].message, tags[i].field);
        assert_non_null (field);
        assert_int_equal (field->id, tags[i].tag >> 3);
    }
    /* A field that is new to the schema must be thought of here, and in batch_fields.h. */
    assert_int_equal (factmesh__batch__descriptor.n_fields, BATCH_FIELD_LAST);
    assert_int_equal (factmesh__fact__descriptor.n_fields, FACT_FIELD_LAST);
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
        cmocka_unit_test (an_announced_batch_has_a_range_and_no_facts),
        cmocka_unit_test (another_major_version_is_refused_whatever_follows),
        cmocka_unit_test (another_mesh_is_refused_and_no_mesh_is_not_compared),
        cmocka_unit_test (headers_outside_their_bounds_are_refused),
        cmocka_unit_test (a_refused_batch_leaves_the_result_untouched),
        cmocka_unit_test (unknown_fields_are_skipped_before_and_behind_facts),
        cmocka_unit_test (the_count_and_the_facts_must_agree),
        cmocka_unit_test (a_header_field_behind_a_fact_is_refused),
        cmocka_unit_test (a_header_that_hides_a_feature_is_refused),
        cmocka_unit_test (facts_outside_their_bounds_are_refused),
        cmocka_unit_test (headers_are_bounded_in_number_in_bytes_and_come_in_one_run),
        cmocka_unit_test (a_tag_in_more_bytes_than_it_needs_ends_the_walk),
        cmocka_unit_test (a_malformed_fact_stops_the_reader_where_it_is),
        cmocka_unit_test (a_plain_fact_is_read_as_any_other),
        cmocka_unit_test (prev_is_told_for_each_level_of_each_topic),
        cmocka_unit_test (of_two_backs_for_one_level_the_smaller_counts),
        cmocka_unit_test (an_exact_topic_may_reach_further_back_than_its_level),
        cmocka_unit_test (the_level_of_a_batch_is_over_all_its_topics),
        cmocka_unit_test (the_field_numbers_are_those_of_the_schema),
    };
    return cmocka_run_group_tests (tests, start, NULL);
}
