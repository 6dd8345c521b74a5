/* A record says what it is, or it is none. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "checksum.h"
#include "fm_types.h"
#include "record.h"

enum { BODY = 21, LEN = 88 + 24, POS = 4096 + 7 * 8 };

static const uint8_t salt[16] = "salt of a segmen";

static struct record sample (void)
{
    struct record r = { .kind = RECORD_BATCH,
                        .flags = 0,
                        .body_len = BODY,
                        .count = 3,
                        .offset = 77,
                        .time_ns = 123456789,
                        .first_seq = 5,
                        .epoch = 2,
                        .incarnation = 99 };
    memset (r.stream.bytes, 0xAB, ID_LEN);
    return r;
}

static void make (const struct record *r, uint8_t bytes[LEN])
{
    memset (bytes, 0xEE, LEN);
    record_encode (bytes, r);
    for (unsigned i = 0; i < BODY; i++)
        bytes[RECORD_HEADER_LEN + i] = (uint8_t) (i * 7);
    record_stamp (bytes, record_seed (salt), POS, 4096);
}

static void a_record_decodes_to_what_was_encoded (void **state)
{
    (void) state;
    const struct record r = sample ();
    struct record d;
    uint8_t bytes[LEN];
    make (&r, bytes);
    assert_int_equal (record_len (BODY), LEN);
    assert_int_equal (record_decode (bytes, record_seed (salt), POS, &d), 0);
    assert_int_equal (d.kind, r.kind);
    assert_int_equal (d.body_len, r.body_len);
    assert_int_equal (d.count, r.count);
    assert_int_equal (d.offset, r.offset);
    assert_int_equal (d.time_ns, r.time_ns);
    assert_int_equal (d.synced_pos, 4096);
    assert_true (id_equal (&d.stream, &r.stream));
    assert_int_equal (d.first_seq, r.first_seq);
    assert_int_equal (d.epoch, r.epoch);
    assert_int_equal (d.incarnation, r.incarnation);
    assert_true (record_body_ok (&d, bytes + RECORD_HEADER_LEN));
}

static void every_flipped_bit_of_the_header_is_refused (void **state)
{
    (void) state;
    const struct record r = sample ();
    struct record d;
    uint8_t bytes[LEN];
    make (&r, bytes);
    for (unsigned bit = 0; bit < 8 * RECORD_HEADER_LEN; bit++) {
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
        assert_int_equal (record_decode (bytes, record_seed (salt), POS, &d), FM_ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
    }
}

static void every_flipped_bit_of_the_body_or_its_padding_is_found_and_leaves_the_header (void **state)
{
    (void) state;
    const struct record r = sample ();
    struct record d;
    uint8_t bytes[LEN];
    make (&r, bytes);
    for (unsigned bit = 8 * RECORD_HEADER_LEN; bit < 8 * LEN; bit++) {
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
        assert_int_equal (record_decode (bytes, record_seed (salt), POS, &d), 0);
        assert_false (record_body_ok (&d, bytes + RECORD_HEADER_LEN));
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
    }
}

static void a_record_of_another_place_or_segment_is_refused (void **state)
{
    (void) state;
    const struct record r = sample ();
    struct record d;
    uint8_t bytes[LEN], other[16];
    make (&r, bytes);
    memcpy (other, salt, sizeof other);
    other[0] ^= 1;
    assert_int_equal (record_decode (bytes, record_seed (salt), POS + 8, &d), FM_ERR_CORRUPT);
    assert_int_equal (record_decode (bytes, record_seed (salt), POS - 8, &d), FM_ERR_CORRUPT);
    assert_int_equal (record_decode (bytes, record_seed (other), POS, &d), FM_ERR_CORRUPT);
}

static void zeros_are_no_record (void **state)
{
    (void) state;
    static const uint8_t zeros[LEN];
    struct record d;
    for (uint64_t pos = 4096; pos < 8192; pos += 8)
        assert_int_equal (record_decode (zeros, record_seed (salt), pos, &d), FM_ERR_CORRUPT);
}

/* The sum holds, and yet. */
static void impossible_fields_are_refused (void **state)
{
    (void) state;
    struct record bad[6], d;
    for (size_t i = 0; i < 6; i++)
        bad[i] = sample ();
    bad[0].offset = 0;
    bad[1].count = 0;
    bad[2].first_seq = 0;
    bad[3].first_seq = UINT64_MAX - 1;
    bad[4].offset = UINT64_MAX - 1;
    bad[5].kind = RECORD_GAP;
    bad[5].offset = UINT64_MAX;
    uint8_t bytes[LEN];
    for (size_t i = 0; i < 6; i++) {
        make (&bad[i], bytes);
        assert_int_equal (record_decode (bytes, record_seed (salt), POS, &d), FM_ERR_CORRUPT);
    }
    const struct record r = sample ();      /* synced beyond itself */
    make (&r, bytes);
    record_stamp (bytes, record_seed (salt), POS, POS + 8);
    assert_int_equal (record_decode (bytes, record_seed (salt), POS, &d), FM_ERR_CORRUPT);
}

static void a_gap_comes_back_and_an_empty_one_is_refused (void **state)
{
    (void) state;
    struct record r = { .kind = RECORD_GAP, .body_len = RECORD_GAP_LEN, .count = 1, .offset = 1, .first_seq = 10 };
    uint8_t body[RECORD_GAP_LEN];
    uint64_t end_seq;
    uint32_t reason;
    record_gap_encode (body, 20, 3);
    assert_int_equal (record_gap_decode (&r, body, &end_seq, &reason), 0);
    assert_int_equal (end_seq, 20);
    assert_int_equal (reason, 3);
    record_gap_encode (body, 10, 3);
    assert_int_equal (record_gap_decode (&r, body, &end_seq, &reason), FM_ERR_CORRUPT);
    r.body_len = 8;
    record_gap_encode (body, 20, 3);
    assert_int_equal (record_gap_decode (&r, body, &end_seq, &reason), FM_ERR_CORRUPT);
}

static void the_wide_checksum_is_the_plain_one (void **state)
{
    (void) state;
    uint8_t *bytes = malloc (70000);
    checksum_function *wide = checksum_avx2 ();
    for (size_t i = 0; i < 70000; i++)
        bytes[i] = (uint8_t) (i * i >> 3);
    for (size_t len = 0; len < 70000 && wide; len += 1 + len / 9)
        assert_true (wide (bytes + len % 3, len - len / 10000)
                     == checksum_seeded (bytes + len % 3, len - len / 10000, 0));
    free (bytes);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_record_decodes_to_what_was_encoded),
        cmocka_unit_test (every_flipped_bit_of_the_header_is_refused),
        cmocka_unit_test (every_flipped_bit_of_the_body_or_its_padding_is_found_and_leaves_the_header),
        cmocka_unit_test (a_record_of_another_place_or_segment_is_refused),
        cmocka_unit_test (zeros_are_no_record),
        cmocka_unit_test (impossible_fields_are_refused),
        cmocka_unit_test (a_gap_comes_back_and_an_empty_one_is_refused),
        cmocka_unit_test (the_wide_checksum_is_the_plain_one),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
