/* live: what a publisher's node says on reserved topics: heads, fences, watermarks; and what peers may ask of it. */

#include "fake_node.h"

enum { MS = 1000000 };

static const struct fm_id journal_a = { "journal-a-0000-" };

static bool receive_watermark (void *socket, uint64_t *ret_synced)
{
    zmq_msg_t message;
    if (!receive (socket, &message))
        return false;
    uint8_t kind;
    struct fm_slice nonce, body;
    assert_int_equal (reserved_from_frame (zmq_msg_data (&message), zmq_msg_size (&message), &kind, &nonce, &body), 0);
    assert_int_equal (kind, RESERVED_WATERMARK);
    Factmesh__Watermark *w;
    assert_int_equal (reserved_decode_watermark (body, slice_of ("test"), &w), 0);
    assert_int_equal (w->n_marks, 1);
    *ret_synced = w->marks[0]->synced;
    protobuf_c_message_free_unpacked (&w->base, NULL);
    zmq_msg_close (&message);
    return true;
}

static void watermarks_are_passed_on_to_who_asks_for_them (void **state)
{
    (void) state;
    static const uint8_t topic[] = { RESERVED_BYTE, RESERVED_WATERMARK };
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < 10; i++)
        (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (give_watermark (p, &journal_a, 1, 10, 3), 0);
    void *late = connect_sub ();
    subscribe (late, topic, sizeof topic);
    fake.wakes = 0;
    assert_false (live_drain (fake.live));
    assert_true (fake.wakes > 0);
    uint64_t synced = 0;
    assert_false (receive_watermark (late, &synced));
    (void) publisher_tick (p, fake.now);
    assert_true (receive_watermark (late, &synced));        /* what came before it asked */
    assert_int_equal (synced, 3);
    (void) publisher_tick (p, fake.now);
    assert_false (receive_watermark (late, &synced));
    assert_int_equal (give_watermark (p, &journal_a, 1, 10, 8), 0);
    assert_true (receive_watermark (late, &synced));
    assert_int_equal (synced, 8);
    zmq_close (late);
    fm_publisher_close (&p);
}

/* ------------------------------------------------------------------ heads and fences */

static Factmesh__HeadNotice *receive_head (void *socket)
{
    zmq_msg_t message;
    if (!receive (socket, &message))
        return NULL;
    uint8_t kind;
    struct fm_slice nonce, body;
    Factmesh__HeadNotice *notice;
    assert_int_equal (reserved_from_frame (zmq_msg_data (&message), zmq_msg_size (&message), &kind, &nonce, &body), 0);
    assert_int_equal (kind, RESERVED_HEAD);
    assert_int_equal (reserved_decode_head (body, slice_of ("test"), &notice), 0);
    zmq_msg_close (&message);
    return notice;
}

static void *subscribe_heads (void)
{
    static const uint8_t topic[] = { RESERVED_BYTE, RESERVED_HEAD };
    void *socket = connect_sub ();
    subscribe (socket, topic, sizeof topic);
    (void) live_drain (fake.live);
    return socket;
}

static void the_head_is_told_when_a_burst_falls_silent_and_each_second (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    void *heads = subscribe_heads ();
    (void) publish (p, "orders.placed", slice_of ("x"));
    (void) publish (p, "stock", slice_of ("x"));
    assert_int_equal (fake.wakes, 1);       /* so that the silence is noticed */
    uint64_t due = publisher_tick (p, fake.now);
    assert_null (receive_head (heads));
    assert_int_equal (due, fake.now + PUBLISHER_SILENT_MS * MS);
    fake.now = due;
    due = publisher_tick (p, fake.now);
    Factmesh__HeadNotice *notice = receive_head (heads);
    assert_non_null (notice);
    assert_int_equal (notice->head, 2);
    assert_int_equal (notice->epoch, 1);
    assert_int_equal (notice->n_levels, 3);
    assert_int_equal (notice->complete_since, 0);
    for (size_t i = 0; i < 3; i++) {
        const struct fm_slice level = control_get_slice (&notice->levels[i]->level);
        assert_int_equal (notice->levels[i]->last_seq, slice_equal (level, slice_of ("stock")) ? 2 : 1);
    }
    protobuf_c_message_free_unpacked (&notice->base, NULL);
    assert_int_equal (due, fake.now + PUBLISHER_HEAD_MS * MS);
    fake.now = due;
    (void) publisher_tick (p, fake.now);
    notice = receive_head (heads);
    assert_non_null (notice);
    protobuf_c_message_free_unpacked (&notice->base, NULL);
    assert_null (receive_head (heads));
    fm_publisher_close (&p);
    notice = receive_head (heads);
    assert_non_null (notice);               /* the last word */
    protobuf_c_message_free_unpacked (&notice->base, NULL);
    zmq_close (heads);
}

static void a_head_notice_is_bounded_and_true_for_what_it_leaves_out (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .batch_us = -1 });
    void *heads = subscribe_heads ();
    char topic[32];
    for (int i = 1; i <= 200; i++) {
        snprintf (topic, sizeof topic, "t%d", i);
        (void) publish (p, topic, slice_of ("x"));
    }
    fake.now += PUBLISHER_SILENT_MS * MS;
    (void) publisher_tick (p, fake.now);
    Factmesh__HeadNotice *notice = receive_head (heads);
    assert_non_null (notice);
    assert_int_equal (notice->n_levels, PUBLISHER_HEAD_LEVELS_MAX + PUBLISHER_HEAD_OTHERS_MAX);
    assert_int_equal (notice->head, 200);
    assert_int_equal (notice->complete_since, 200 - PUBLISHER_HEAD_LEVELS_MAX);
    protobuf_c_message_free_unpacked (&notice->base, NULL);
    zmq_close (heads);
    fm_publisher_close (&p);
}

static Factmesh__FenceAnswer *ask_fence (void *socket, const char nonce[FENCE_NONCE_LEN + 1])
{
    uint8_t topic[2 + FENCE_NONCE_LEN] = { RESERVED_BYTE, RESERVED_FENCE };
    memcpy (topic + 2, nonce, FENCE_NONCE_LEN);
    subscribe (socket, topic, sizeof topic);
    if (live_drain (fake.live))
        live_answer_fences (fake.live);
    zmq_msg_t message;
    if (!receive (socket, &message))
        return NULL;
    uint8_t kind;
    struct fm_slice told, body;
    assert_int_equal (reserved_from_frame (zmq_msg_data (&message), zmq_msg_size (&message), &kind, &told, &body), 0);
    assert_memory_equal (told.data, nonce, FENCE_NONCE_LEN);
    Factmesh__FenceAnswer *answer;
    assert_int_equal (reserved_decode_fence (body, slice_of ("test"), &answer), 0);
    zmq_msg_close (&message);
    return answer;
}

static void a_fence_names_the_first_sequence_not_yet_sent (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL), *q = open_publisher (NULL);
    void *socket = connect_sub ();
    for (int i = 0; i < PUBLISHER_BURST + 3; i++)
        (void) publish (p, "a", slice_of ("x"));            /* the last three wait */
    Factmesh__FenceAnswer *answer = ask_fence (socket, "nonce--1");
    assert_non_null (answer);
    assert_int_equal (answer->n_streams, 2);
    struct fm_id node = { "" };
    (void) control_get_id (&answer->node, &node);
    for (size_t i = 0; i < 2; i++) {
        const Factmesh__StreamHead *head = answer->streams[i];
        const bool is_p = memcmp (head->stream.data, p->identity.stream.bytes, ID_LEN) == 0;
        assert_int_equal (head->next_seq, is_p ? PUBLISHER_BURST + 1 : 1);
        assert_int_equal (head->incarnation, (is_p ? p : q)->identity.incarnation);
    }
    protobuf_c_message_free_unpacked (&answer->base, NULL);
    fm_publisher_close (&q);
    answer = ask_fence (socket, "nonce\000-2");
    assert_non_null (answer);
    assert_int_equal (answer->n_streams, 1);
    protobuf_c_message_free_unpacked (&answer->base, NULL);
    zmq_close (socket);
    fm_publisher_close (&p);
    assert_true (id_equal (&node, node_id (&fake)));
}

static void a_send_reads_the_fence_whose_wake_up_it_may_have_consumed (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    void *socket = connect_sub ();
    const uint8_t topic[2 + FENCE_NONCE_LEN] = { RESERVED_BYTE, RESERVED_FENCE, 'n' };
    subscribe (socket, topic, sizeof topic);
    fake.wakes = 0;
    p->tick_due = 0;                        /* the publisher itself has no need to wake anybody */
    (void) publish (p, "a", slice_of ("x"));
    assert_true (fake.wakes > 0);
    assert_true (live_drain (fake.live));   /* it waits, though nothing is left to be read */
    live_answer_fences (fake.live);
    assert_false (live_drain (fake.live));
    zmq_msg_t message;
    assert_true (receive (socket, &message));
    zmq_msg_close (&message);
    zmq_close (socket);
    fm_publisher_close (&p);
}

static void a_fence_that_a_flood_leaves_unread_is_read_when_it_falls_silent (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    (void) publish (p, "a", slice_of ("x"));        /* read now, and not again for a while */
    void *socket = connect_sub ();
    const uint8_t topic[2 + FENCE_NONCE_LEN] = { RESERVED_BYTE, RESERVED_FENCE, 'n' };
    subscribe (socket, topic, sizeof topic);
    p->tick_due = fake.now;
    fake.wakes = 0;
    (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (fake.wakes, 0);
    fake.now += PUBLISHER_SILENT_MS * MS;
    (void) publisher_tick (p, fake.now);
    assert_true (fake.wakes > 0);
    assert_true (live_drain (fake.live));
    zmq_close (socket);
    fm_publisher_close (&p);
}

static void hostile_subscriptions_harm_nothing (void **state)
{
    (void) state;
    void *hostile = zmq_socket (fake.zmq, ZMQ_XSUB);
    assert_int_equal (zmq_connect (hostile, live_address (fake.live)), 0);
    static const struct {
        const char *bytes;
        size_t len;
    } messages[] = { { "", 0 }, { "\1", 1 }, { "\0", 1 }, { "\1\377", 2 }, { "\1\377F", 3 }, { "\1\377F1234567", 10 }, { "\1\377F123456789", 12 },
                     { "\0\377W", 3 }, { "\0\377F12345678", 11 }, { "hello", 5 } };
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
        assert_true (zmq_send (hostile, messages[i].bytes, messages[i].len, ZMQ_DONTWAIT) >= 0);
    assert_false (live_drain (fake.live));
    assert_int_equal (live_watermarks_wanted (fake.live), 0);
    /* More fences than are kept: bounded, and the first are answered. */
    for (uint64_t i = 0; i < LIVE_FENCES_MAX + 100; i++) {
        uint8_t fence[3 + FENCE_NONCE_LEN] = { 1, RESERVED_BYTE, RESERVED_FENCE };
        memcpy (fence + 3, &i, sizeof i);
        assert_true (zmq_send (hostile, fence, sizeof fence, 0) >= 0);
    }
    while (live_drain (fake.live))
        live_answer_fences (fake.live);
    zmq_close (hostile);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (watermarks_are_passed_on_to_who_asks_for_them),
        CASE (the_head_is_told_when_a_burst_falls_silent_and_each_second),
        CASE (a_head_notice_is_bounded_and_true_for_what_it_leaves_out),
        CASE (a_fence_names_the_first_sequence_not_yet_sent),
        CASE (a_send_reads_the_fence_whose_wake_up_it_may_have_consumed),
        CASE (a_fence_that_a_flood_leaves_unread_is_read_when_it_falls_silent),
        CASE (hostile_subscriptions_harm_nothing),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
