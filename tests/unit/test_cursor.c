/* cursor: what is put in comes out, and what is no cursor is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cursor.h"

static struct fm_id id_of (uint32_t n)
{
    struct fm_id id = { { 1 } };
    bytes_put_u32le (id.bytes + 4, n);
    return id;
}

static struct cursor sample (uint32_t positions)
{
    struct cursor c = { .generation = 7, .offset = 123456789 };
    c.journal = id_of (99);
    for (uint32_t i = 0; i < positions; i++) {
        const struct fm_id stream = id_of (1000 + (i * 7919) % 100003);
        assert_int_equal (cursor_add (&c, &stream, i + 1), 0);
    }
    return c;
}

static struct fm_slice encode (const struct cursor *c, void **buffer, size_t *size)
{
    struct fm_slice bytes;
    assert_int_equal (cursor_encode (c, buffer, size, &bytes), 0);
    return bytes;
}

static uint64_t position_of (const struct cursor *c, const struct fm_id *stream)
{
    for (size_t i = 0; i < c->count; i++) {
        if (id_equal (&c->positions[i].stream, stream))
            return c->positions[i].seq;
    }
    return 0;
}

static void a_cursor_comes_back_as_it_went (void **state)
{
    (void) state;
    void *buffer = NULL;
    size_t size = 0;
    for (uint32_t positions = 0; positions < 3000; positions = 3 * positions + 1) {
        struct cursor c = sample (positions), back = { 0 };
        assert_int_equal (cursor_decode (&back, encode (&c, &buffer, &size)), 0);
        assert_true (id_equal (&back.journal, &c.journal));
        assert_int_equal (back.generation, c.generation);
        assert_int_equal (back.offset, c.offset);
        assert_int_equal (back.count, c.count);
        for (size_t i = 0; i < c.count; i++)
            assert_int_equal (position_of (&back, &c.positions[i].stream), c.positions[i].seq);
        cursor_release (&c);
        cursor_release (&back);
    }
    free (buffer);
}

static void the_limit_of_positions_holds (void **state)
{
    (void) state;
    struct cursor c = { 0 };
    struct fm_id stream = id_of (0);
    for (uint32_t i = 0; i < CURSOR_POSITIONS_MAX; i++) {
        stream = id_of (i);
        assert_int_equal (cursor_add (&c, &stream, 1), 0);
    }
    assert_int_equal (cursor_add (&c, &stream, 1), FM_ERR_LIMIT);
    assert_int_equal (c.count, CURSOR_POSITIONS_MAX);
    cursor_clear (&c);
    assert_int_equal (c.count, 0);
    cursor_release (&c);
}

static void cut_off_bytes_are_refused_and_change_nothing (void **state)
{
    (void) state;
    void *buffer = NULL;
    size_t size = 0, refused = 0;
    struct cursor c = sample (20), kept = sample (3);
    const struct fm_slice whole = encode (&c, &buffer, &size);
    for (size_t len = 0; len < whole.len; len++) {
        struct cursor got = sample (3);
        const int rc = cursor_decode (&got, slice (whole.data, len));
        if (rc != 0) {
            refused++;
            assert_int_equal (got.count, kept.count);
            assert_int_equal (got.offset, kept.offset);
        } else {
            assert_true (got.count < c.count);      /* cut between two positions: shorter, and well-formed */
        }
        cursor_release (&got);
    }
    assert_true (refused > whole.len / 2);
    cursor_release (&c);
    cursor_release (&kept);
    free (buffer);
}

static void flipped_bits_do_no_harm (void **state)
{
    (void) state;
    void *buffer = NULL;
    size_t size = 0;
    struct cursor c = sample (8);
    const struct fm_slice whole = encode (&c, &buffer, &size);
    uint8_t *bytes = buffer;
    for (size_t bit = 0; bit < 8 * whole.len; bit++) {
        struct cursor got = { 0 };
        bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
        if (cursor_decode (&got, whole) == 0)
            assert_true (got.count <= 8 + 1 && !id_is_zero (&got.journal));
        bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
        cursor_release (&got);
    }
    cursor_release (&c);
    free (buffer);
}

static int decode_message (Factmesh__Cursor *message)
{
    uint8_t bytes[512];
    struct cursor got = { 0 };
    assert_true (factmesh__cursor__get_packed_size (message) <= sizeof bytes);
    const int rc = cursor_decode (&got, slice (bytes, factmesh__cursor__pack (message, bytes)));
    cursor_release (&got);
    return rc;
}

static void cursors_that_make_no_sense_are_refused (void **state)
{
    (void) state;
    struct cursor c = sample (2);
    struct cursor_message m;
    assert_int_equal (cursor_message_init (&m, &c), 0);
    assert_int_equal (decode_message (&m.message), 0);
    m.message.major = PROTO_MAJOR + 1;
    assert_int_equal (decode_message (&m.message), FM_ERR_VERSION);
    m.message.major = PROTO_MAJOR;
    m.message.journal.len = 15;
    assert_int_equal (decode_message (&m.message), FM_ERR_MALFORMED);
    m.message.journal.len = 0;
    assert_int_equal (decode_message (&m.message), FM_ERR_MALFORMED);
    m.message.journal.len = ID_LEN;
    m.items[1].seq = 0;
    assert_int_equal (decode_message (&m.message), FM_ERR_MALFORMED);
    m.items[1].seq = UINT64_MAX;
    assert_int_equal (decode_message (&m.message), FM_ERR_MALFORMED);
    m.items[1].seq = 5;
    m.items[1].stream.len = 3;
    assert_int_equal (decode_message (&m.message), FM_ERR_MALFORMED);
    m.items[1].stream = m.items[0].stream;
    assert_int_equal (decode_message (&m.message), FM_ERR_MALFORMED);
    cursor_message_release (&m);
    cursor_release (&c);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_cursor_comes_back_as_it_went),
        cmocka_unit_test (the_limit_of_positions_holds),
        cmocka_unit_test (cut_off_bytes_are_refused_and_change_nothing),
        cmocka_unit_test (flipped_bits_do_no_harm),
        cmocka_unit_test (cursors_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
