/* batch: hostile bytes. Nothing is read that is not there (run it with the address sanitizer), and what is accepted is within all bounds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/batch_sample.h"
#include "error.h"
#include "topic.h"

static void assert_within (struct fm_slice s, const uint8_t *bytes, size_t len)
{
    const uint8_t *data = s.data;
    if (s.len)
        assert_true (data >= bytes && data <= bytes + len && s.len <= (size_t) (bytes + len - data));
}

/* What is accepted must be within all bounds, and may be walked to the end. Returns whether all of it was accepted. */
static bool assert_harmless (const uint8_t *bytes, size_t len)
{
    struct batch_scratch scratch = { 0 };
    struct batch b;
    bool accepted = false;
    if (batch_decode (bytes, len, slice (NULL, 0), &scratch, &b) == 0) {
        assert_int_equal (b.major, PROTO_MAJOR);
        assert_in_range (b.count, 1, BATCH_FACTS_MAX);
        assert_true (b.first_seq >= 1 && b.first_seq + b.count > b.first_seq && b.epoch_first_seq <= b.first_seq);
        assert_in_range (b.topic_count, 1, BATCH_TOPICS_MAX);
        for (uint32_t i = 0; i < b.topic_count; i++) {
            assert_int_equal (topic_check (b.topics[i].name), 0);
            uint64_t prev = UINT64_MAX;
            assert_true (batch_prev (&b, b.topics[i].name, &prev) && prev < b.first_seq);
            assert_true (batch_prev_exact (&b, b.topics[i].name, &prev) && prev < b.first_seq);
            assert_within (b.topics[i].name, bytes, len);
        }
        struct batch_reader r;
        struct fm_fact f;
        int rc;
        batch_reader_init (&r, &b);
        while ((rc = batch_reader_next (&r, &f)) == 0) {
            assert_true (f.topic_index < b.topic_count && f.id.seq >= b.first_seq && f.id.seq < batch_end_seq (&b));
            const struct fm_slice slices[] = { f.payload, f.key, f.type, f.content_type, f.schema, f.correlation, f.identity, f.headers, f.blob };
            for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++)
                assert_within (slices[i], bytes, len);
            assert_true (f.key.len <= KEY_MAX && f.type.len <= TYPE_MAX && f.identity.len <= IDENTITY_MAX);
            struct fm_slice name, value;
            size_t pos = 0;
            int header_rc;
            while ((header_rc = fact_header_next (f.headers, &pos, &name, &value)) == 0)
                ;
            assert_int_equal (header_rc, FM_ERR_END);
        }
        assert_true (rc == FM_ERR_END || rc == FM_ERR_MALFORMED);
        accepted = batch_check_facts (&b) == 0;
        if (accepted)
            assert_true (rc == FM_ERR_END && r.next_seq == batch_end_seq (&b));
        batch_reader_init (&r, &b);
        (void) batch_reader_skip (&r, b.count + 1);     /* must end; how is told above */
    }
    batch_scratch_release (&scratch);
    return accepted;
}

static void no_truncation_of_a_batch_is_accepted (void **state)
{
    (void) state;
    struct sample *s = malloc (sizeof *s);
    for (int round = 0; round < 10; round++) {
        sample_make_large (s);
        size_t len;
        uint8_t *bytes = sample_encode (s, &len);
        assert_true (assert_harmless (bytes, len));
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *copy = malloc (cut ? cut : 1);     /* exact, so that a sanitizer sees a byte too far */
            memcpy (copy, bytes, cut);
            assert_false (assert_harmless (copy, cut));
            free (copy);
        }
        free (bytes);
    }
    free (s);
}

static void no_flipped_bit_does_harm (void **state)
{
    (void) state;
    struct sample *s = malloc (sizeof *s);
    for (int round = 0; round < 4; round++) {
        do
            sample_make_large (s);
        while (s->batch.count > 5);
        size_t len;
        uint8_t *bytes = sample_encode (s, &len);
        for (size_t bit = 0; bit < len * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
            (void) assert_harmless (bytes, len);        /* a flip in a payload is none of the codec's business */
            bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
        }
        free (bytes);
    }
    free (s);
}

static void no_random_bytes_do_harm (void **state)
{
    (void) state;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        const size_t len = sample_below (sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t) sample_u64 ();
        bytes[0] = 0x08;
        bytes[1] = 1;
        assert_false (assert_harmless (bytes, len));
    }
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
        cmocka_unit_test (no_truncation_of_a_batch_is_accepted),
        cmocka_unit_test (no_flipped_bit_does_harm),
        cmocka_unit_test (no_random_bytes_do_harm),
    };
    return cmocka_run_group_tests (tests, start, NULL);
}
