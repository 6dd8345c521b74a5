#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "window.h"

/* Keep `count` facts in a message of `len` bytes that begin with the first sequence. */
static void push (struct window *w, uint64_t count, size_t len)
{
    zmq_msg_t message;
    assert_int_equal (zmq_msg_init_size (&message, len), 0);
    memset (zmq_msg_data (&message), 0x5A, len);
    memcpy (zmq_msg_data (&message), &w->next_seq, sizeof w->next_seq);
    assert_int_equal (window_push (w, w->next_seq + count, 3, &message), 0);
    zmq_msg_close (&message);
}

static void check_item (struct window_item *item, uint64_t first_seq, uint64_t end_seq)
{
    assert_non_null (item);
    assert_int_equal (item->first_seq, first_seq);
    assert_int_equal (item->end_seq, end_seq);
    uint64_t stamp;
    memcpy (&stamp, zmq_msg_data (&item->message), sizeof stamp);
    assert_int_equal (stamp, first_seq);
}

static void each_sequence_held_is_found_in_its_batch (void **state)
{
    (void) state;
    struct window w;
    window_init (&w, 1 << 20, 101);
    uint64_t first[1000], end[1000], seq = 101;
    for (size_t i = 0; i < 1000; i++) {
        first[i] = seq;
        push (&w, 1 + i % 7, 40 + i % 100);
        seq += 1 + i % 7;
        end[i] = seq;
    }
    for (size_t i = 0; i < 1000; i++) {
        check_item (window_find (&w, first[i]), first[i], end[i]);
        check_item (window_find (&w, end[i] - 1), first[i], end[i]);
    }
    struct window_item *item = window_find (&w, 101);
    for (size_t i = 1; i < 1000; i++) {
        item = window_after (&w, item);
        check_item (item, first[i], end[i]);
    }
    assert_null (window_after (&w, item));
    assert_null (window_find (&w, 100));
    assert_null (window_find (&w, seq));
    window_release (&w);
}

static void synced_lets_go_of_whole_batches_only (void **state)
{
    (void) state;
    struct window w;
    window_init (&w, 1 << 20, 1);
    for (int i = 0; i < 100; i++)
        push (&w, 10, 100);
    assert_int_equal (w.bytes, 100 * window_cost (100));
    assert_false (window_synced (&w, 9));
    check_item (window_find (&w, 1), 1, 11);
    assert_true (window_synced (&w, 25));
    assert_int_equal (w.start_seq, 21);
    assert_int_equal (w.synced, 25);
    assert_null (window_find (&w, 20));
    check_item (window_find (&w, 21), 21, 31);
    assert_int_equal (w.bytes, 98 * window_cost (100));
    assert_true (window_synced (&w, 1000));
    assert_int_equal (w.count, 0);
    assert_int_equal (w.bytes, 0);
    assert_int_equal (w.start_seq, w.next_seq);
    push (&w, 1, 50);
    check_item (window_find (&w, 1001), 1001, 1002);
    window_release (&w);
}

static void synced_never_falls (void **state)
{
    (void) state;
    struct window w;
    window_init (&w, 1 << 20, 1);
    push (&w, 10, 100);
    assert_true (window_synced (&w, 10));
    assert_false (window_synced (&w, 5));
    assert_int_equal (w.synced, 10);
    window_release (&w);
}

static void the_ring_wraps_and_grows_without_losing_a_batch (void **state)
{
    (void) state;
    struct window w;
    window_init (&w, 1 << 20, 1);
    uint64_t oldest = 1;
    for (int round = 0; round < 400; round++) {
        for (int i = 0; i < 5; i++)
            push (&w, 1, 64);
        oldest += 4;
        (void) window_synced (&w, oldest - 1);
        assert_int_equal (w.start_seq, oldest);
        for (uint64_t seq = oldest; seq < w.next_seq; seq += 13)
            check_item (window_find (&w, seq), seq, seq + 1);
    }
    assert_int_equal (w.count, 400);
    window_release (&w);
}

static void room_is_counted_in_bytes_and_an_empty_window_takes_anything (void **state)
{
    (void) state;
    struct window w;
    window_init (&w, 1000, 1);
    assert_true (window_has_room (&w, 1 << 30));
    push (&w, 1, 500);
    assert_true (window_has_room (&w, 1000 - w.bytes));
    assert_false (window_has_room (&w, 1001 - w.bytes));
    push (&w, 1, 5000);
    assert_false (window_has_room (&w, 0));
    assert_true (window_drop_oldest (&w));
    assert_int_equal (w.start_seq, 2);
    assert_int_equal (w.synced, 0);
    assert_true (window_drop_oldest (&w));
    assert_false (window_drop_oldest (&w));
    assert_true (window_has_room (&w, 1 << 30));
    window_release (&w);
}

static void bytes_are_shared_with_the_senders_message (void **state)
{
    (void) state;
    struct window w;
    window_init (&w, 1 << 20, 1);
    zmq_msg_t message;
    zmq_msg_init_size (&message, 4096);
    memset (zmq_msg_data (&message), 7, 4096);
    assert_int_equal (window_push (&w, 2, 10, &message), 0);
    assert_ptr_equal (zmq_msg_data (&window_find (&w, 1)->message), zmq_msg_data (&message));
    zmq_msg_close (&message);
    assert_int_equal (((const uint8_t *) zmq_msg_data (&window_find (&w, 1)->message))[4095], 7);
    assert_int_equal (window_find (&w, 1)->body_pos, 10);
    window_release (&w);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (each_sequence_held_is_found_in_its_batch),
        cmocka_unit_test (synced_lets_go_of_whole_batches_only),
        cmocka_unit_test (synced_never_falls),
        cmocka_unit_test (the_ring_wraps_and_grows_without_losing_a_batch),
        cmocka_unit_test (room_is_counted_in_bytes_and_an_empty_window_takes_anything),
        cmocka_unit_test (bytes_are_shared_with_the_senders_message),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
