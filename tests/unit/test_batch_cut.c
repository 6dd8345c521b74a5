/* batch_cut: pieces hold the wanted facts of a batch, all of them and nothing else, each as it was; any bytes may come. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "batch_cut.h"
#include "../support/batch_sample.h"
#include "error.h"
#include "topic.h"

enum { MANY_TOPICS = 300, MANY_FACTS = 600, ROUNDS = 3000 };

static const char mesh[] = "test";

struct many {
    struct batch_topic topics[MANY_TOPICS];
    char names[MANY_TOPICS][32];
    uint8_t backs[2];
    uint8_t *bytes;
    size_t len;
    struct batch batch;
    struct batch_scratch scratch;
};

/* A batch of many topics; fact n has the topic of this number. */
static void many_make (struct many *m, uint32_t topics, uint32_t facts, uint32_t (*topic_of) (uint32_t n))
{
    *m = (struct many) { .backs = { 3, 1 } };
    for (uint32_t i = 0; i < topics; i++) {
        snprintf (m->names[i], sizeof m->names[i], "sensor.t%u", i);
        m->topics[i] = (struct batch_topic) { .name = slice_of (m->names[i]), .backs = slice (m->backs, 2) };
    }
    const struct batch b = { .major = PROTO_MAJOR, .mesh = slice_of (mesh), .stream = sample_id (), .epoch = 2, .incarnation = 77, .epoch_first_seq = 900, .first_seq = 1000,
                             .count = facts, .time_ns = UINT64_C (1700000000000000000), .topics = m->topics, .topic_count = topics, .type = slice_of ("reading"),
                             .features = FACTMESH__FEATURE__FEATURE_KEY };
    const struct batch_defaults defaults = { .type = b.type, .time_ns = b.time_ns };
    m->bytes = malloc (batch_header_bound (&b) + (size_t) facts * 128);
    assert_non_null (m->bytes);
    uint8_t *p = batch_encode_header (m->bytes, &b);
    for (uint32_t n = 0; n < facts; n++) {
        char payload[32];
        snprintf (payload, sizeof payload, "payload %u", n);
        const struct fm_fact fact = { .topic_index = topic_of (n), .time_ns = b.time_ns + n, .type = b.type, .key = slice ("key", 1 + n % 3),
                                      .payload = slice (payload, strlen (payload)) };
        p = fact_encode (p, &fact, &defaults);
    }
    m->len = (size_t) (p - m->bytes);
    assert_int_equal (batch_decode (m->bytes, m->len, slice_of (mesh), &m->scratch, &m->batch), 0);
    assert_int_equal (batch_check_facts (&m->batch), 0);
}

static void many_release (struct many *m)
{
    free (m->bytes);
    batch_scratch_release (&m->scratch);
}

static bool is_topic (const void *arg, struct fm_slice topic)
{
    const char *const *wanted = arg;
    for (; *wanted; wanted++)
        if (slice_equal (topic, slice_of (*wanted)))
            return true;
    return false;
}

static void assert_same_fact (const struct fm_fact *a, const struct fm_fact *b)
{
    assert_true (id_equal (&a->id.stream, &b->id.stream) && a->id.seq == b->id.seq && a->time_ns == b->time_ns && a->expires_ns == b->expires_ns);
    assert_true (slice_equal (a->topic, b->topic) && slice_equal (a->key, b->key) && slice_equal (a->type, b->type));
    assert_true (slice_equal (a->content_type, b->content_type) && slice_equal (a->schema, b->schema) && slice_equal (a->correlation, b->correlation));
    assert_true (slice_equal (a->identity, b->identity) && slice_equal (a->headers, b->headers) && slice_equal (a->payload, b->payload));
    assert_true (slice_equal (a->blob, b->blob) && a->flags == b->flags && a->causation.seq == b->causation.seq && a->corrects.seq == b->corrects.seq);
}

/* The pieces hold just the wanted facts of the batch, in order, byte for byte. Returns how many. */
static unsigned check_pieces (const struct batch_cut *cut, const struct batch *whole, bool (*wanted) (const void *arg, struct fm_slice topic), const void *arg)
{
    struct batch_scratch scratch = { 0 };
    struct batch_reader all;
    struct fm_fact expected, got;
    unsigned count = 0;
    batch_reader_init (&all, whole);
    for (size_t i = 0; i < cut->piece_count; i++) {
        struct batch piece;
        struct batch_reader facts;
        assert_int_equal (batch_decode (cut->pieces[i].data, cut->pieces[i].len, whole->mesh, &scratch, &piece), 0);
        assert_int_equal (batch_check_facts (&piece), 0);
        assert_true (id_equal (&piece.stream, &whole->stream) && piece.epoch == whole->epoch && piece.incarnation == whole->incarnation);
        assert_true (piece.epoch_first_seq == whole->epoch_first_seq && piece.time_ns == whole->time_ns);
        batch_reader_init (&facts, &piece);
        while (batch_reader_next (&facts, &got) == 0) {
            do
                assert_int_equal (batch_reader_next (&all, &expected), 0);
            while (!wanted (arg, expected.topic));
            assert_same_fact (&got, &expected);
            count++;
        }
    }
    while (batch_reader_next (&all, &expected) == 0)
        assert_false (wanted (arg, expected.topic));
    batch_scratch_release (&scratch);
    return count;
}

static uint32_t in_turn (uint32_t n)
{
    return n % MANY_TOPICS;
}

static uint32_t in_turn_of_40 (uint32_t n)
{
    return n % 40;
}

static uint32_t in_runs (uint32_t n)
{
    return n / 10 % MANY_TOPICS;
}

static void wanted_facts_come_as_batches_of_their_own (void **state)
{
    (void) state;
    static const char *const one[] = { "sensor.t7", NULL }, *const some[] = { "sensor.t0", "sensor.t1", "sensor.t299", NULL }, *const none[] = { "sensor", NULL };
    struct many m;
    struct batch_cut cut = { 0 };
    many_make (&m, MANY_TOPICS, MANY_FACTS, in_turn);
    assert_true (batch_cut (&cut, slice (m.bytes, m.len), is_topic, one));
    assert_int_equal (check_pieces (&cut, &m.batch, is_topic, one), 2);
    assert_true (cut.piece_count == 2 && cut.pieces[0].len < 200);
    assert_true (batch_cut (&cut, slice (m.bytes, m.len), is_topic, some));
    assert_int_equal (check_pieces (&cut, &m.batch, is_topic, some), 6);
    assert_true (batch_cut (&cut, slice (m.bytes, m.len), is_topic, none));
    assert_int_equal (cut.piece_count, 0);
    many_release (&m);
    many_make (&m, 60, MANY_FACTS, in_runs);
    assert_true (batch_cut (&cut, slice (m.bytes, m.len), is_topic, some));
    assert_int_equal (check_pieces (&cut, &m.batch, is_topic, some), 20);
    assert_int_equal (cut.piece_count, 1);          /* what follows one another stays together */
    many_release (&m);
    batch_cut_release (&cut);
}

static bool all_but_one (const void *arg, struct fm_slice topic)
{
    return !is_topic (arg, topic);
}

static uint32_t every_third (uint32_t n)
{
    return n % 3 ? 2 : 0;
}

static uint32_t every_second (uint32_t n)
{
    return n % 2 * 5;
}

static void a_batch_is_left_whole_where_little_would_be_saved (void **state)
{
    (void) state;
    static const char *const one[] = { "sensor.t2", NULL }, *const fifth[] = { "sensor.t5", NULL };
    struct many m;
    struct batch_cut cut = { 0 };
    many_make (&m, MANY_TOPICS, MANY_FACTS, in_turn);
    assert_false (batch_cut (&cut, slice (m.bytes, m.len), all_but_one, one));     /* too many topics */
    many_release (&m);
    many_make (&m, 9, MANY_FACTS, every_third);
    assert_false (batch_cut (&cut, slice (m.bytes, m.len), is_topic, one));        /* too many bytes */
    many_release (&m);
    many_make (&m, 9, MANY_FACTS, every_second);
    assert_false (batch_cut (&cut, slice (m.bytes, m.len), is_topic, fifth));      /* too many pieces */
    many_release (&m);
    batch_cut_release (&cut);
}

static bool is_first (const void *arg, struct fm_slice topic)
{
    return slice_equal (*(const struct fm_slice *) arg, topic);
}

static void any_batch_is_cut_right_or_left_whole (void **state)
{
    (void) state;
    struct batch_cut cut = { 0 };
    struct batch_scratch scratch = { 0 };
    static struct sample s;
    unsigned cuts = 0;
    sample_seed ();
    for (int round = 0; round < ROUNDS; round++) {
        size_t len;
        struct batch b;
        sample_make (&s);
        uint8_t *bytes = sample_encode (&s, &len);
        if (batch_decode (bytes, len, slice (NULL, 0), &scratch, &b) == 0 && batch_check_facts (&b) == 0) {
            const struct fm_slice topic = b.topics[sample_below (b.topic_count)].name;
            if (batch_cut (&cut, slice (bytes, len), is_first, &topic)) {
                (void) check_pieces (&cut, &b, is_first, &topic);
                cuts++;
            }
        }
        free (bytes);
    }
    assert_true (cuts > ROUNDS / 20);
    batch_scratch_release (&scratch);
    batch_cut_release (&cut);
}

static void hostile_bytes_are_left_whole_or_cut_within_their_bounds (void **state)
{
    (void) state;
    static const char *const one[] = { "sensor.t7", NULL };
    struct many m;
    struct batch_cut cut = { 0 };
    sample_seed ();
    many_make (&m, 40, 80, in_turn_of_40);
    uint8_t *copy = malloc (m.len);
    assert_non_null (copy);
    for (int round = 0; round < ROUNDS; round++) {
        memcpy (copy, m.bytes, m.len);
        const size_t len = round % 3 ? m.len : (size_t) sample_below (m.len);
        for (uint64_t flips = 1 + sample_below (4); flips > 0 && len; flips--)
            copy[sample_below (round % 2 ? len : len / 4 + 1)] = (uint8_t) sample_u64 ();
        uint8_t *exact = malloc (len ? len : 1);    /* the sanitizer sees who reads beyond */
        assert_non_null (exact);
        memcpy (exact, copy, len);
        struct batch_topics topics;
        struct fm_slice name;
        int rc;
        batch_topics_init (&topics, slice (exact, len));
        while ((rc = batch_topics_next (&topics, &name)) == 0)
            continue;
        assert_true (rc == FM_ERR_END || rc == FM_ERR_MALFORMED);
        if (batch_cut (&cut, slice (exact, len), is_topic, one))
            for (size_t i = 0; i < cut.piece_count; i++)
                assert_true (cut.pieces[i].len <= len);
        free (exact);
    }
    free (copy);
    many_release (&m);
    batch_cut_release (&cut);
}

static void a_newer_version_is_left_whole (void **state)
{
    (void) state;
    static const char *const one[] = { "sensor.t7", NULL };
    struct many m;
    struct batch_cut cut = { 0 };
    many_make (&m, 40, 80, in_turn_of_40);
    uint8_t *newer = malloc (m.len + 2);
    assert_non_null (newer);
    memcpy (newer, m.bytes, 2);
    newer[2] = 2 << 3;                              /* minor */
    newer[3] = PROTO_MINOR + 1;
    memcpy (newer + 4, m.bytes + 2, m.len - 2);
    assert_true (batch_cut (&cut, slice (m.bytes, m.len), is_topic, one));
    assert_false (batch_cut (&cut, slice (newer, m.len + 2), is_topic, one));
    free (newer);
    many_release (&m);
    batch_cut_release (&cut);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (wanted_facts_come_as_batches_of_their_own),
        cmocka_unit_test (a_batch_is_left_whole_where_little_would_be_saved),
        cmocka_unit_test (any_batch_is_cut_right_or_left_whole),
        cmocka_unit_test (hostile_bytes_are_left_whole_or_cut_within_their_bounds),
        cmocka_unit_test (a_newer_version_is_left_whole),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
