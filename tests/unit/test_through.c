/* through: how far each stream is. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../nodes/cli/through.c"

static void a_stream_never_falls_back (void **state)
{
    (void) state;
    struct through t = { 0 };
    struct fm_id a;
    id_random (&a);
    assert_int_equal (through_get (&t, &a), 0);
    assert_int_equal (through_put (&t, &a, 0), 0);
    assert_int_equal (through_get (&t, &a), 0);
    assert_int_equal (through_put (&t, &a, 5), 0);
    assert_int_equal (through_put (&t, &a, 3), 0);
    assert_int_equal (through_get (&t, &a), 5);
    assert_int_equal (through_put (&t, &a, UINT64_MAX), 0);
    assert_int_equal (through_get (&t, &a), UINT64_MAX);
    assert_int_equal (t.count, 1);
    through_release (&t);
}

/* Ids whose hashes are all the same: the worst for open addressing. */
static void streams_are_told_apart_by_all_their_bytes (void **state)
{
    (void) state;
    struct through t = { 0 };
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 1000; i++) {
            struct fm_id id = { { 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, (uint8_t) (i >> 8), (uint8_t) i } };
            if (round == 0)
                assert_int_equal (through_put (&t, &id, i + 1), 0);
            else
                assert_int_equal (through_get (&t, &id), i + 1);
        }
    assert_int_equal (t.count, 1000);
    through_release (&t);
}

static void what_was_put_is_there_after_growing (void **state)
{
    (void) state;
    enum { MANY = 100000 };
    static struct fm_id ids[MANY];
    struct through t = { 0 };
    for (size_t i = 0; i < MANY; i++) {
        id_random (&ids[i]);
        assert_int_equal (through_put (&t, &ids[i], i + 7), 0);
    }
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal (through_get (&t, &ids[i]), i + 7);
    assert_int_equal (t.count, MANY);
    through_release (&t);
}

static void more_streams_than_may_be_are_refused (void **state)
{
    (void) state;
    const struct fm_id stream = { { 1 } };
    struct through t = { .count = THROUGH_STREAMS_MAX };
    assert_int_equal (through_put (&t, &stream, 1), FM_ERR_LIMIT);
    assert_int_equal (t.count, THROUGH_STREAMS_MAX);
    assert_int_equal (through_get (&t, &stream), 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_stream_never_falls_back),
        cmocka_unit_test (streams_are_told_apart_by_all_their_bytes),
        cmocka_unit_test (what_was_put_is_there_after_growing),
        cmocka_unit_test (more_streams_than_may_be_are_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
