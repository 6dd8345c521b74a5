/* bytes and wire: integers and varints at their edges, and what is cut off. Also ids and error texts. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clock.h"
#include "error.h"
#include "id.h"
#include "wire.h"

static const uint64_t edges[] = { 0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x1fffff, 0x200000, 0xfffffff, 0x10000000, UINT32_MAX,
                                  (uint64_t) UINT32_MAX + 1, (1ull << 35) - 1, 1ull << 35, (1ull << 42) - 1, 1ull << 42,
                                  (1ull << 49) - 1, 1ull << 49, (1ull << 56) - 1, 1ull << 56, (1ull << 63) - 1, 1ull << 63, UINT64_MAX };
enum { EDGES = sizeof edges / sizeof edges[0] };

static void a_varint_comes_back_and_has_the_length_told (void **state)
{
    (void) state;
    for (size_t i = 0; i < EDGES; i++) {
        uint8_t b[10];
        const uint8_t *end = bytes_put_varint (b, edges[i]);
        assert_int_equal (end - b, bytes_varint_len (edges[i]));
        uint64_t v = 7;
        assert_ptr_equal (bytes_get_varint (b, end, &v), end);
        assert_true (v == edges[i]);
        assert_ptr_equal (wire_get_varint (b, end, &v), end);
        assert_true (v == edges[i]);
        uint8_t more[20];                               /* in a longer run, where 8 bytes can be read at once */
        memset (more, 0xff, sizeof more);
        const uint8_t *const more_end = bytes_put_varint (more, edges[i]);
        v = 7;
        assert_ptr_equal (wire_get_long_varint (more, more + sizeof more, &v), more_end);
        assert_true (v == edges[i]);
    }
}

static void a_cut_varint_is_refused_at_every_byte (void **state)
{
    (void) state;
    for (size_t i = 0; i < EDGES; i++) {
        uint8_t b[10];
        const size_t len = (size_t) (bytes_put_varint (b, edges[i]) - b);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *copy = malloc (cut + 1);       /* exact, so that a sanitizer sees a byte too far */
            assert_non_null (copy);
            copy = realloc (copy, cut ? cut : 1);
            memcpy (copy, b, cut);
            uint64_t v = 7;
            assert_null (bytes_get_varint (copy, copy + cut, &v));
            assert_null (wire_get_varint (copy, copy + cut, &v));
            assert_null (wire_get_long_varint (copy, copy + cut, &v));
            assert_true (v == 7);
            free (copy);
        }
    }
}

static void a_varint_beyond_64_bits_is_refused (void **state)
{
    (void) state;
    uint64_t v = 7;
    const uint8_t too_big[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 };
    const uint8_t too_long[] = { 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00 };
    assert_null (bytes_get_varint (too_big, too_big + sizeof too_big, &v));
    assert_null (bytes_get_varint (too_long, too_long + sizeof too_long, &v));
    assert_null (wire_get_long_varint (too_big, too_big + sizeof too_big, &v));
    assert_null (wire_get_long_varint (too_long, too_long + sizeof too_long, &v));
    assert_true (v == 7);
}

static void zigzag_keeps_small_distances_small (void **state)
{
    (void) state;
    const int64_t values[] = { 0, -1, 1, -2, 63, -64, INT64_MAX, INT64_MIN };
    for (size_t i = 0; i < 8; i++)
        assert_true (bytes_unzigzag (bytes_zigzag (values[i])) == values[i]);
    assert_int_equal (bytes_zigzag (-1), 1);
    assert_int_equal (bytes_zigzag (-64), 127);
}

static void integers_are_little_endian (void **state)
{
    (void) state;
    uint8_t b[8];
    bytes_put_u64le (b, 0x0102030405060708);
    assert_int_equal (b[0], 8);
    assert_int_equal (b[7], 1);
    assert_true (bytes_get_u64le (b) == 0x0102030405060708);
    bytes_put_u32le (b, 0xfffefdfc);
    assert_int_equal (b[0], 0xfc);
    assert_true (bytes_get_u32le (b) == 0xfffefdfc);
}

static void a_length_beyond_the_end_is_refused (void **state)
{
    (void) state;
    struct fm_slice s = { 0 };
    const uint8_t fits[] = { 2, 'a', 'b' }, beyond[] = { 3, 'a', 'b' };
    const uint8_t huge[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'a' };
    assert_ptr_equal (wire_get_slice (fits, fits + 3, &s), fits + 3);
    assert_true (slice_equal (s, slice_of ("ab")));
    assert_null (wire_get_slice (beyond, beyond + 3, &s));
    assert_null (wire_get_slice (huge, huge + sizeof huge, &s));
    uint64_t v;
    assert_null (wire_get_fixed64 (fits, fits + 3, &v));
}

static void unknown_fields_of_every_kind_are_stepped_over (void **state)
{
    (void) state;
    const uint8_t b[12] = { 1 };
    assert_ptr_equal (wire_skip (b, b + 12, WIRE_TAG (99, WIRE_VARINT)), b + 1);
    assert_ptr_equal (wire_skip (b, b + 12, WIRE_TAG (99, WIRE_FIXED64)), b + 8);
    assert_ptr_equal (wire_skip (b, b + 12, WIRE_TAG (99, WIRE_LEN)), b + 2);
    assert_ptr_equal (wire_skip (b, b + 12, WIRE_TAG (99, WIRE_FIXED32)), b + 4);
    for (uint32_t kind = 0; kind < 8; kind++)
        assert_null (wire_skip (b, b, WIRE_TAG (99, kind)));
    for (uint32_t kind = 3; kind < 8; kind++) {
        if (kind != WIRE_FIXED32)
            assert_null (wire_skip (b, b + 12, WIRE_TAG (99, kind)));
    }
    uint32_t tag;
    const uint8_t field_zero[] = { 0x02, 0x00 };
    assert_null (wire_get_tag (field_zero, field_zero + 2, &tag));
}

static void slices_compare_by_content (void **state)
{
    (void) state;
    assert_true (slice_equal (slice (NULL, 0), slice ("x", 0)));
    assert_true (slice_equal (slice ("ab", 2), slice_of ("ab")));
    assert_false (slice_equal (slice_of ("ab"), slice_of ("ac")));
    assert_false (slice_equal (slice_of ("ab"), slice_of ("abc")));
    assert_int_equal (slice_of (NULL).len, 0);
}

static void an_id_survives_its_text (void **state)
{
    (void) state;
    struct fm_id a, b;
    char text[ID_TEXT_LEN + 1];
    id_random (&a);
    assert_false (id_is_zero (&a));
    assert_int_equal (strlen (id_text (&a, text)), ID_TEXT_LEN);
    assert_int_equal (id_parse (text, ID_TEXT_LEN, &b), 0);
    assert_true (id_equal (&a, &b));
    assert_int_equal (id_parse (text, ID_TEXT_LEN - 1, &b), FM_ERR_MALFORMED);
    text[31] = 'g';
    b = (struct fm_id) { 0 };
    assert_int_equal (id_parse (text, ID_TEXT_LEN, &b), FM_ERR_MALFORMED);
    assert_true (id_is_zero (&b));
    assert_string_equal (fm_error_detail (), "id: no hex digit at character 31");
}

static void every_code_has_its_own_text (void **state)
{
    (void) state;
    static const int codes[] = {
#define CODE(name, number, text) name,
        FM_ERRORS (CODE)
#undef CODE
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        assert_true (codes[i] < -4096);     /* below every -errno */
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal (codes[i], codes[j]);
            assert_string_not_equal (fm_error_text (codes[i]), fm_error_text (codes[j]));
        }
    }
    assert_string_equal (fm_error_text (0), "success");
    assert_string_equal (fm_error_text (-ENOENT), "No such file or directory");
    assert_string_equal (fm_error_text (-99999), "unknown error");
    assert_string_equal (fm_error_text (INT32_MIN), "unknown error");
}

static void a_detail_may_quote_the_one_before (void **state)
{
    (void) state;
    assert_int_equal (error_set (FM_ERR_FULL, "disk %d", 7), FM_ERR_FULL);
    assert_int_equal (error_set (FM_ERR_CLOSED, "log: %s", fm_error_detail ()), FM_ERR_CLOSED);
    assert_string_equal (fm_error_detail (), "log: disk 7");
    char longer[2000];
    memset (longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    errno = EAGAIN;
    error_set (FM_ERR_FULL, "%s", longer);
    assert_int_equal (errno, EAGAIN);
    assert_in_range (strlen (fm_error_detail ()), 100, 1000);
}

static void the_real_clock_runs (void **state)
{
    (void) state;
    const uint64_t a = clock_real.monotonic_ns (NULL), b = clock_real.monotonic_ns (NULL);
    assert_true (b >= a);
    assert_true (clock_real.unix_ns (NULL) > 1700000000ull * 1000000000ull);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_varint_comes_back_and_has_the_length_told),
        cmocka_unit_test (a_cut_varint_is_refused_at_every_byte),
        cmocka_unit_test (a_varint_beyond_64_bits_is_refused),
        cmocka_unit_test (zigzag_keeps_small_distances_small),
        cmocka_unit_test (integers_are_little_endian),
        cmocka_unit_test (a_length_beyond_the_end_is_refused),
        cmocka_unit_test (unknown_fields_of_every_kind_are_stepped_over),
        cmocka_unit_test (slices_compare_by_content),
        cmocka_unit_test (an_id_survives_its_text),
        cmocka_unit_test (every_code_has_its_own_text),
        cmocka_unit_test (a_detail_may_quote_the_one_before),
        cmocka_unit_test (the_real_clock_runs),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
