/* control, replay_data, reserved topics: round trips, bounds, hostile bytes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control.h"
#include "error.h"
#include "wire.h"

static const struct fm_id id_a = { "AAAAAAAAAAAAAAA" }, id_b = { "BBBBBBBBBBBBBBB" };

static struct fm_slice mesh (void)
{
    return slice_of ("test");
}

static void assert_slice (struct fm_slice got, struct fm_slice wanted)
{
    assert_true (slice_equal (got, wanted));
}

/* A frame's bytes in memory of exactly their size, so that a sanitizer sees a byte too far. The caller frees. */
static uint8_t *take_bytes (zmq_msg_t *message, size_t *ret_len)
{
    *ret_len = zmq_msg_size (message);
    uint8_t *bytes = malloc (*ret_len ? *ret_len : 1);
    memcpy (bytes, zmq_msg_data (message), *ret_len);
    zmq_msg_close (message);
    return bytes;
}

static uint8_t *encode (Factmesh__Control *control, size_t *ret_len)
{
    zmq_msg_t message;
    assert_int_equal (control_encode (control, mesh (), &message), 0);
    return take_bytes (&message, ret_len);
}

/* Encode and decode again; returns decode's code, and the message when it is 0. */
static int pass (Factmesh__Control *control, Factmesh__Control **ret_control)
{
    size_t len;
    uint8_t *bytes = encode (control, &len);
    const int rc = control_decode (bytes, len, mesh (), ret_control);
    free (bytes);
    return rc;
}

/* --- Control. */

static void hello_of (Factmesh__Control *control, Factmesh__Hello *hello, Factmesh__NodeInfo *info)
{
    factmesh__control__init (control);
    factmesh__hello__init (hello);
    factmesh__node_info__init (info);
    control->body_case = FACTMESH__CONTROL__BODY_HELLO;
    control->hello = hello;
    hello->info = info;
    info->node = control_put_id (&id_a);
    info->name = control_put_slice (slice_of ("node-1"));
}

static void a_control_message_comes_back (void **state)
{
    (void) state;
    Factmesh__Control control, *got;
    Factmesh__Hello hello;
    Factmesh__NodeInfo info;
    hello_of (&control, &hello, &info);
    control.request = 77;
    char *addresses[] = { (char[]) { "tcp://127.0.0.1:5000" }, (char[]) { "ipc:///tmp/x" } };
    info.n_control = 2;
    info.control = addresses;
    assert_int_equal (pass (&control, &got), 0);
    assert_int_equal (got->major, PROTO_MAJOR);
    assert_slice (control_get_slice (&got->mesh), mesh ());
    assert_int_equal (got->request, 77);
    assert_int_equal (got->body_case, FACTMESH__CONTROL__BODY_HELLO);
    struct fm_id id;
    assert_int_equal (control_get_id (&got->hello->info->node, &id), 0);
    assert_true (id_equal (&id, &id_a));
    assert_int_equal (got->hello->info->n_control, 2);
    assert_string_equal (got->hello->info->control[1], "ipc:///tmp/x");
    factmesh__control__free_unpacked (got, NULL);
}

static void encoding_leaves_the_callers_mesh_alone (void **state)
{
    (void) state;
    Factmesh__Control control;
    Factmesh__Hello hello;
    Factmesh__NodeInfo info;
    hello_of (&control, &hello, &info);
    size_t len;
    free (encode (&control, &len));
    assert_null (control.mesh.data);
    assert_int_equal (control.mesh.len, 0);
}

static void another_version_and_another_mesh_are_told_apart (void **state)
{
    (void) state;
    Factmesh__Control control, *got;
    Factmesh__Hello hello;
    Factmesh__NodeInfo info;
    hello_of (&control, &hello, &info);
    size_t len;
    uint8_t *bytes = encode (&control, &len);
    assert_int_equal (control_decode (bytes, len, slice_of ("production"), &got), FM_ERR_MESH);
    assert_string_equal (fm_error_detail (), "message of the mesh 'test'; this is 'production'");
    assert_int_equal (control_decode (bytes, len, slice (NULL, 0), &got), 0);
    factmesh__control__free_unpacked (got, NULL);
    assert_int_equal (bytes[0], 8);
    bytes[1] = 2;
    assert_int_equal (control_decode (bytes, len, mesh (), &got), FM_ERR_VERSION);
    memset (bytes + 2, 0xff, len - 2);      /* another version may look different from there on */
    assert_int_equal (control_decode (bytes, len, mesh (), &got), FM_ERR_VERSION);
    free (bytes);
}

static int decode_head_and (const uint8_t *more, size_t more_len, Factmesh__Control **ret_control)
{
    uint8_t frame[128], *p = frame;
    p = wire_put_u64_field (p, 1, PROTO_MAJOR);
    p = wire_put_slice_field (p, 3, mesh ());
    p = wire_put_bytes (p, slice (more, more_len));
    return control_decode (frame, (size_t) (p - frame), mesh (), ret_control);
}

static void a_message_has_exactly_one_body (void **state)
{
    (void) state;
    Factmesh__Control *got;
    assert_int_equal (decode_head_and (NULL, 0, &got), FM_ERR_MALFORMED);
    uint8_t more[64], *p = wire_put_slice (more, 15, slice (NULL, 0));
    assert_int_equal (decode_head_and (more, (size_t) (p - more), &got), 0);
    assert_int_equal (got->body_case, FACTMESH__CONTROL__BODY_GOODBYE);
    factmesh__control__free_unpacked (got, NULL);
    p = wire_put_slice (p, 13, slice (NULL, 0));
    assert_int_equal (decode_head_and (more, (size_t) (p - more), &got), FM_ERR_MALFORMED);
}

static void a_body_of_a_newer_minor_version_is_unknown_not_malformed (void **state)
{
    (void) state;
    Factmesh__Control *got;
    uint8_t more[64], *p = wire_put_slice (more, 999, slice_of ("news"));
    assert_int_equal (decode_head_and (more, (size_t) (p - more), &got), FM_ERR_UNKNOWN);
    p = wire_put_u64_field (more, 7, 1);    /* an unknown field of the head beside a body that is known */
    p = wire_put_slice (p, 15, slice (NULL, 0));
    assert_int_equal (decode_head_and (more, (size_t) (p - more), &got), 0);
    factmesh__control__free_unpacked (got, NULL);
}

static void an_id_of_another_length_is_refused_wherever_it_lies (void **state)
{
    (void) state;
    Factmesh__Control control, *got;
    Factmesh__Hello hello;
    Factmesh__NodeInfo info;
    Factmesh__StreamHead head = FACTMESH__STREAM_HEAD__INIT, *heads[] = { &head };
    Factmesh__JournalInfo journal = FACTMESH__JOURNAL_INFO__INIT;
    hello_of (&control, &hello, &info);
    info.n_streams = 1;
    info.streams = heads;
    info.journal = &journal;
    assert_int_equal (pass (&control, &got), 0);    /* none is fine here; who needs one says so */
    factmesh__control__free_unpacked (got, NULL);
    head.stream = control_put_slice (slice ("0123456789abcde", 15));
    assert_int_equal (pass (&control, &got), FM_ERR_MALFORMED);
    assert_string_equal (fm_error_detail (), "StreamHead.stream: 15 bytes are no id");
    head.stream = control_put_id (&id_b);
    journal.journal = control_put_slice (slice ("0123456789abcdefg", 17));
    assert_int_equal (pass (&control, &got), FM_ERR_MALFORMED);
    journal.journal = control_put_id (&id_b);
    assert_int_equal (pass (&control, &got), 0);
    factmesh__control__free_unpacked (got, NULL);
}

static void numbers_and_lengths_beyond_their_limits_are_refused (void **state)
{
    (void) state;
    Factmesh__Control control = FACTMESH__CONTROL__INIT, *got;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = &open;
    ProtobufCBinaryData filters[FILTERS_MAX + 1];
    for (size_t i = 0; i <= FILTERS_MAX; i++)
        filters[i] = control_put_slice (slice_of ("a.>"));
    open.filters = filters;
    open.n_filters = FILTERS_MAX;
    assert_int_equal (pass (&control, &got), 0);
    factmesh__control__free_unpacked (got, NULL);
    open.n_filters = FILTERS_MAX + 1;
    assert_int_equal (pass (&control, &got), FM_ERR_MALFORMED);
    char longer[TOPIC_MAX + 1];
    memset (longer, 'x', sizeof longer);
    open.n_filters = 1;
    filters[0] = control_put_slice (slice (longer, sizeof longer));
    assert_int_equal (pass (&control, &got), FM_ERR_MALFORMED);
    open.n_filters = 0;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME;
    open.from_cursor_name = control_put_slice (slice (longer, CURSOR_NAME_MAX));
    assert_int_equal (pass (&control, &got), 0);
    factmesh__control__free_unpacked (got, NULL);
    open.from_cursor_name = control_put_slice (slice (longer, CURSOR_NAME_MAX + 1));
    assert_int_equal (pass (&control, &got), FM_ERR_MALFORMED);
}

static void a_small_frame_cannot_take_much_memory (void **state)
{
    (void) state;
    /* A million empty messages: two bytes each here, some eighty in memory. */
    enum { EMPTY = 1 << 20 };
    uint8_t *body = malloc (2 * EMPTY), *frame = malloc (2 * EMPTY + 64), *p = frame;
    for (size_t i = 0; i < EMPTY; i++) {
        body[2 * i] = 0x0a;     /* CursorReply.cursors */
        body[2 * i + 1] = 0;
    }
    p = wire_put_u64_field (p, 1, PROTO_MAJOR);
    p = wire_put_slice_field (p, 3, mesh ());
    p = wire_put_slice (p, 44, slice (body, 2 * EMPTY));
    Factmesh__Control *got;
    assert_int_equal (control_decode (frame, (size_t) (p - frame), mesh (), &got), FM_ERR_MALFORMED);
    free (frame);
    free (body);
}

/* --- Reserved topics. */

static void a_head_notice_comes_back_and_must_not_contradict_itself (void **state)
{
    (void) state;
    Factmesh__HeadNotice notice = FACTMESH__HEAD_NOTICE__INIT, *got;
    Factmesh__LevelHead level = FACTMESH__LEVEL_HEAD__INIT, *levels[] = { &level };
    notice.major = PROTO_MAJOR;
    notice.mesh = control_put_slice (mesh ());
    notice.stream = control_put_id (&id_a);
    notice.head = 40;
    notice.complete_since = 30;
    notice.n_levels = 1;
    notice.levels = levels;
    level.level = control_put_slice (slice_of ("orders"));
    level.last_seq = 40;
    for (int round = 0; round < 3; round++) {
        level.last_seq = round == 1 ? 41 : 40;
        notice.complete_since = round == 2 ? 41 : 30;
        zmq_msg_t message;
        assert_int_equal (control_encode_reserved (RESERVED_HEAD, NULL, &notice.base, &message), 0);
        size_t len;
        uint8_t *bytes = take_bytes (&message, &len), kind;
        struct fm_slice nonce, body;
        assert_memory_equal (bytes, "\xffH", 3);
        assert_int_equal (reserved_from_frame (bytes, len, &kind, &nonce, &body), 0);
        assert_int_equal (kind, RESERVED_HEAD);
        assert_int_equal (nonce.len, 0);
        assert_int_equal (reserved_decode_head (body, mesh (), &got), round ? FM_ERR_MALFORMED : 0);
        if (round == 0) {
            assert_int_equal (got->head, 40);
            assert_slice (control_get_slice (&got->levels[0]->level), slice_of ("orders"));
            factmesh__head_notice__free_unpacked (got, NULL);
            assert_int_equal (reserved_decode_head (body, slice_of ("other"), &got), FM_ERR_MESH);
        }
        free (bytes);
    }
}

static void a_fence_finds_its_nonce_though_it_holds_zeros (void **state)
{
    (void) state;
    static const uint8_t nonce[FENCE_NONCE_LEN] = { 0, 1, 0, 2, 0, 0, 0xff, 0 };
    Factmesh__FenceAnswer answer = FACTMESH__FENCE_ANSWER__INIT, *got;
    Factmesh__StreamHead head = FACTMESH__STREAM_HEAD__INIT, *heads[] = { &head };
    answer.major = PROTO_MAJOR;
    answer.mesh = control_put_slice (mesh ());
    answer.nonce = control_put_slice (slice (nonce, sizeof nonce));
    answer.n_streams = 1;
    answer.streams = heads;
    head.stream = control_put_id (&id_a);
    head.next_seq = 9;
    zmq_msg_t message;
    assert_int_equal (control_encode_reserved (RESERVED_FENCE, nonce, &answer.base, &message), 0);
    size_t len;
    uint8_t *bytes = take_bytes (&message, &len), kind;
    struct fm_slice got_nonce, body;
    assert_int_equal (reserved_from_frame (bytes, len, &kind, &got_nonce, &body), 0);
    assert_slice (got_nonce, slice (nonce, sizeof nonce));
    assert_int_equal (reserved_decode_fence (body, mesh (), &got), 0);
    assert_int_equal (got->streams[0]->next_seq, 9);
    factmesh__fence_answer__free_unpacked (got, NULL);
    for (size_t cut = 0; cut < 11; cut++)
        assert_int_equal (reserved_from_frame (bytes, cut, &kind, &got_nonce, &body), FM_ERR_MALFORMED);
    assert_true (reserved_fence_is_of (body, &id_a));       /* an older node's */
    free (bytes);
    answer.node = control_put_id (&id_a);
    for (; answer.node.len >= ID_LEN - 1; answer.node.len--) {
        assert_int_equal (control_encode_reserved (RESERVED_FENCE, nonce, &answer.base, &message), 0);
        bytes = take_bytes (&message, &len);
        assert_int_equal (reserved_from_frame (bytes, len, &kind, &got_nonce, &body), 0);
        const bool whole = answer.node.len == ID_LEN;
        assert_int_equal (reserved_decode_fence (body, mesh (), &got), whole ? 0 : FM_ERR_MALFORMED);
        assert_true (reserved_fence_is_of (body, &id_a));   /* what is malformed is refused by who reads it */
        assert_int_equal (reserved_fence_is_of (body, &id_b), !whole);
        if (whole)
            factmesh__fence_answer__free_unpacked (got, NULL);
        free (bytes);
    }
    assert_true (reserved_fence_is_of (slice ("\xff", 1), &id_b));
}

static void a_watermark_needs_a_journal_and_streams (void **state)
{
    (void) state;
    Factmesh__Watermark watermark = FACTMESH__WATERMARK__INIT, *got;
    Factmesh__StreamMark mark = FACTMESH__STREAM_MARK__INIT, *marks[] = { &mark };
    watermark.mesh = control_put_slice (mesh ());
    watermark.journal = control_put_id (&id_b);
    watermark.n_marks = 1;
    watermark.marks = marks;
    mark.stream = control_put_id (&id_a);
    mark.synced = 5;
    for (int round = 0; round < 3; round++) {
        if (round == 1)
            mark.stream.len = 0;
        if (round == 2)
            watermark.journal.len = 0;
        zmq_msg_t message;
        assert_int_equal (control_encode_reserved (RESERVED_WATERMARK, NULL, &watermark.base, &message), 0);
        size_t len;
        uint8_t *bytes = take_bytes (&message, &len);
        assert_int_equal (reserved_decode_watermark (slice (bytes + 3, len - 3), mesh (), &got), round ? FM_ERR_MALFORMED : 0);
        if (round == 0) {
            assert_int_equal (got->marks[0]->synced, 5);
            factmesh__watermark__free_unpacked (got, NULL);
        }
        free (bytes);
    }
}

/* --- ReplayData. */

static const struct replay_covered covered[] = { { { "AAAAAAAAAAAAAAA" }, 1ull << 40 }, { { "BBBBBBBBBBBBBBB" }, 0 } };
static const struct replay_gap gaps[] = { { { "AAAAAAAAAAAAAAA" }, 5, 9, FACTMESH__GAP_REASON__GAP_SYNCED, true },
                                          { { { 0 } }, 0, 300, FACTMESH__GAP_REASON__GAP_EXPIRED, false } };

static struct replay_header sample_header (const Factmesh__Cursor *start)
{
    return (struct replay_header) { .session = 3,
                                    .next_offset = 1000,
                                    .remaining_bytes = 123456789,
                                    .end_offset = 2000,
                                    .caught_up = true,
                                    .covered = covered,
                                    .covered_count = 2,
                                    .gaps = gaps,
                                    .gap_count = 2,
                                    .start = start };
}

static Factmesh__Cursor sample_start (void)
{
    Factmesh__Cursor start = FACTMESH__CURSOR__INIT;
    start.major = PROTO_MAJOR;
    start.journal = control_put_id (&id_b);
    start.generation = 2;
    start.offset = 900;
    return start;
}

/* Three batches (of bytes that are none: nobody looks inside here), the second one empty. */
static uint8_t *encode_replay (size_t *ret_len)
{
    uint8_t fields[512], *p = fields;
    p = wire_put_bytes (replay_batch_field (p, 5), slice_of ("first"));
    p = replay_batch_field (p, 0);
    p = wire_put_bytes (replay_batch_field (p, 200), slice (memset ((uint8_t[200]) { 0 }, 'z', 200), 200));
    const Factmesh__Cursor start = sample_start ();
    const struct replay_header h = sample_header (&start);
    zmq_msg_t message;
    assert_int_equal (replay_data_encode (&h, mesh (), slice (fields, (size_t) (p - fields)), &message), 0);
    return take_bytes (&message, ret_len);
}

static void the_generated_code_reads_replay_data (void **state)
{
    (void) state;
    size_t len;
    uint8_t *bytes = encode_replay (&len);
    Factmesh__Control *got;
    assert_int_equal (control_decode (bytes, len, mesh (), &got), 0);
    assert_int_equal (got->body_case, FACTMESH__CONTROL__BODY_REPLAY_DATA);
    const Factmesh__ReplayData *data = got->replay_data;
    assert_true (data->session == 3 && data->next_offset == 1000 && data->remaining_bytes == 123456789);
    assert_true (data->end_offset == 2000 && data->caught_up);
    assert_int_equal (data->n_covered, 2);
    assert_true (data->covered[0]->through == 1ull << 40);
    assert_slice (control_get_slice (&data->covered[1]->stream), slice (id_b.bytes, ID_LEN));
    assert_int_equal (data->n_gaps, 2);
    assert_int_equal (data->gaps[0]->reason, FACTMESH__GAP_REASON__GAP_SYNCED);
    assert_true (data->gaps[0]->journal && !data->gaps[1]->journal);
    assert_int_equal (data->gaps[1]->stream.len, 0);
    assert_int_equal (data->gaps[1]->end_seq, 300);
    assert_int_equal (data->start->offset, 900);
    assert_int_equal (data->n_batches, 3);
    assert_slice (control_get_slice (&data->batches[0]), slice_of ("first"));
    assert_int_equal (data->batches[1].len, 0);
    assert_int_equal (data->batches[2].len, 200);
    /* Both write the same bytes. */
    uint8_t *again = malloc (len);
    assert_int_equal (factmesh__control__get_packed_size (got), len);
    factmesh__control__pack (got, again);
    assert_memory_equal (again, bytes, len);
    free (again);
    factmesh__control__free_unpacked (got, NULL);
    free (bytes);
}

static void assert_view (struct replay_view *view)
{
    const struct replay_header *h = &view->header;
    assert_true (h->session == 3 && h->next_offset == 1000 && h->remaining_bytes == 123456789 && h->end_offset == 2000 && h->caught_up);
    assert_int_equal (h->covered_count, 2);
    for (size_t i = 0; i < 2; i++)
        assert_true (id_equal (&h->covered[i].stream, &covered[i].stream) && h->covered[i].through == covered[i].through);
    assert_int_equal (h->gap_count, 2);
    for (size_t i = 0; i < 2; i++)
        assert_true (id_equal (&h->gaps[i].stream, &gaps[i].stream) && h->gaps[i].first_seq == gaps[i].first_seq &&
                     h->gaps[i].end_seq == gaps[i].end_seq && h->gaps[i].reason == gaps[i].reason && h->gaps[i].journal == gaps[i].journal);
    assert_true (view->has_start && id_equal (&view->journal, &id_b) && view->generation == 2 && view->start_offset == 900);
    struct fm_slice batch;
    assert_int_equal (replay_view_next (view, &batch), 0);
    assert_slice (batch, slice_of ("first"));
    assert_int_equal (replay_view_next (view, &batch), 0);
    assert_int_equal (batch.len, 0);
    assert_int_equal (replay_view_next (view, &batch), 0);
    assert_int_equal (batch.len, 200);
    assert_int_equal (replay_view_next (view, &batch), FM_ERR_END);
    assert_int_equal (replay_view_next (view, &batch), FM_ERR_END);
}

static void replay_data_is_walked_in_place_again_and_again (void **state)
{
    (void) state;
    size_t len;
    uint8_t *bytes = encode_replay (&len);
    assert_true (replay_data_is (bytes, len));
    struct replay_view view = { 0 };
    for (int round = 0; round < 3; round++) {
        assert_int_equal (replay_data_decode (bytes, len, mesh (), &view), 0);
        assert_view (&view);
    }
    assert_int_equal (replay_data_decode (bytes, len, slice_of ("other"), &view), FM_ERR_MESH);
    struct fm_slice batch;
    assert_int_equal (replay_view_next (&view, &batch), FM_ERR_END);    /* nothing is left of the frame before */
    assert_int_equal (view.header.covered_count, 0);
    replay_view_release (&view);
    free (bytes);
}

static void an_empty_replay_data_still_says_how_far_it_is (void **state)
{
    (void) state;
    const struct replay_header h = { .session = 1, .next_offset = 5 };
    zmq_msg_t message;
    assert_int_equal (replay_data_encode (&h, mesh (), slice (NULL, 0), &message), 0);
    struct replay_view view = { 0 };
    assert_int_equal (replay_data_decode (zmq_msg_data (&message), zmq_msg_size (&message), mesh (), &view), 0);
    assert_true (view.header.next_offset == 5 && !view.has_start && !view.header.caught_up);
    struct fm_slice batch;
    assert_int_equal (replay_view_next (&view, &batch), FM_ERR_END);
    replay_view_release (&view);
    zmq_msg_close (&message);
}

static void batches_among_other_fields_are_found (void **state)
{
    (void) state;
    uint8_t body[128], frame[256], *p = body;
    p = wire_put_slice (p, 15, slice_of ("one"));
    p = wire_put_u64_field (p, 2, 44);
    p = wire_put_slice (p, 99, slice_of ("unknown"));
    p = wire_put_slice (p, 15, slice_of ("two"));
    p = wire_put_u64_field (p, 1, 9);
    uint8_t *f = wire_put_u64_field (frame, 1, PROTO_MAJOR);
    f = wire_put_slice (f, 31, slice (body, (size_t) (p - body)));
    f = wire_put_slice_field (f, 3, mesh ());       /* the head may come behind too */
    struct replay_view view = { 0 };
    assert_int_equal (replay_data_decode (frame, (size_t) (f - frame), mesh (), &view), 0);
    assert_true (view.header.session == 9 && view.header.next_offset == 44);
    struct fm_slice batch;
    assert_int_equal (replay_view_next (&view, &batch), 0);
    assert_slice (batch, slice_of ("one"));
    assert_int_equal (replay_view_next (&view, &batch), 0);
    assert_slice (batch, slice_of ("two"));
    assert_int_equal (replay_view_next (&view, &batch), FM_ERR_END);
    replay_view_release (&view);
}

static void other_messages_are_not_taken_for_replay_data (void **state)
{
    (void) state;
    Factmesh__Control control;
    Factmesh__Hello hello;
    Factmesh__NodeInfo info;
    hello_of (&control, &hello, &info);
    size_t len;
    uint8_t *bytes = encode (&control, &len);
    assert_false (replay_data_is (bytes, len));
    struct replay_view view = { 0 };
    assert_int_equal (replay_data_decode (bytes, len, mesh (), &view), FM_ERR_MALFORMED);
    replay_view_release (&view);
    free (bytes);
}

static int decode_body (struct fm_slice body)
{
    uint8_t frame[256], *p = wire_put_u64_field (frame, 1, PROTO_MAJOR);
    p = wire_put_slice_field (p, 3, mesh ());
    p = wire_put_slice (p, 31, body);
    struct replay_view view = { 0 };
    const int rc = replay_data_decode (frame, (size_t) (p - frame), mesh (), &view);
    replay_view_release (&view);
    return rc;
}

static void items_out_of_range_are_refused (void **state)
{
    (void) state;
    uint8_t item[64], body[128], *p, *b;
    /* A covered without a stream, with a short one; a gap whose range is empty, or the wrong way round; a start without a journal. */
    p = wire_put_u64_field (item, 2, 5);
    b = wire_put_slice (body, 5, slice (item, (size_t) (p - item)));
    assert_int_equal (decode_body (slice (body, (size_t) (b - body))), FM_ERR_MALFORMED);
    p = wire_put_slice (item, 1, slice ("short", 5));
    b = wire_put_slice (body, 5, slice (item, (size_t) (p - item)));
    assert_int_equal (decode_body (slice (body, (size_t) (b - body))), FM_ERR_MALFORMED);
    for (uint64_t end = 0; end < 3; end++) {
        p = wire_put_u64_field (item, 2, 2);
        p = wire_put_u64_field (p, 3, end);
        b = wire_put_slice (body, 6, slice (item, (size_t) (p - item)));
        assert_int_equal (decode_body (slice (body, (size_t) (b - body))), FM_ERR_MALFORMED);
    }
    b = wire_put_slice (body, 8, slice (NULL, 0));
    assert_int_equal (decode_body (slice (body, (size_t) (b - body))), FM_ERR_MALFORMED);
    b = wire_put_u64_field (body, 15, 1);
    assert_int_equal (decode_body (slice (body, (size_t) (b - body))), FM_ERR_MALFORMED);
}

/* --- Hostile bytes. */

static void assert_harmless (const uint8_t *bytes, size_t len)
{
    Factmesh__Control *got;
    const int rc = control_decode (bytes, len, slice (NULL, 0), &got);
    if (rc == 0) {
        assert_int_equal (got->major, PROTO_MAJOR);
        assert_int_not_equal (got->body_case, FACTMESH__CONTROL__BODY__NOT_SET);
        factmesh__control__free_unpacked (got, NULL);
    } else {
        assert_true (rc == FM_ERR_MALFORMED || rc == FM_ERR_VERSION || rc == FM_ERR_UNKNOWN);
    }
    struct replay_view view = { 0 };
    (void) replay_data_is (bytes, len);
    if (replay_data_decode (bytes, len, slice (NULL, 0), &view) == 0) {
        struct fm_slice batch;
        while (replay_view_next (&view, &batch) == 0)
            assert_true ((const uint8_t *) batch.data >= bytes && (const uint8_t *) batch.data + batch.len <= bytes + len);
        for (size_t i = 0; i < view.header.gap_count; i++)
            assert_true (view.header.gaps[i].first_seq < view.header.gaps[i].end_seq);
    }
    replay_view_release (&view);
}

static void assert_all_harm_is_refused (const uint8_t *bytes, size_t len)
{
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = malloc (cut ? cut : 1);
        memcpy (copy, bytes, cut);
        assert_harmless (copy, cut);
        free (copy);
    }
    uint8_t *copy = malloc (len);
    memcpy (copy, bytes, len);
    for (size_t bit = 0; bit < len * 8; bit++) {
        copy[bit / 8] ^= (uint8_t) (1 << bit % 8);
        assert_harmless (copy, len);
        copy[bit / 8] ^= (uint8_t) (1 << bit % 8);
    }
    free (copy);
}

static void no_truncation_or_flipped_bit_does_harm (void **state)
{
    (void) state;
    size_t len;
    uint8_t *bytes = encode_replay (&len);
    assert_all_harm_is_refused (bytes, len);
    free (bytes);

    Factmesh__Control control;
    Factmesh__Hello hello;
    Factmesh__NodeInfo info;
    hello_of (&control, &hello, &info);
    char *addresses[] = { (char[]) { "tcp://127.0.0.1:5000" } };
    info.n_live = 1;
    info.live = addresses;
    Factmesh__StreamHead head = FACTMESH__STREAM_HEAD__INIT, *heads[] = { &head };
    head.stream = control_put_id (&id_b);
    info.n_streams = 1;
    info.streams = heads;
    bytes = encode (&control, &len);
    assert_all_harm_is_refused (bytes, len);
    free (bytes);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_control_message_comes_back),
        cmocka_unit_test (encoding_leaves_the_callers_mesh_alone),
        cmocka_unit_test (another_version_and_another_mesh_are_told_apart),
        cmocka_unit_test (a_message_has_exactly_one_body),
        cmocka_unit_test (a_body_of_a_newer_minor_version_is_unknown_not_malformed),
        cmocka_unit_test (an_id_of_another_length_is_refused_wherever_it_lies),
        cmocka_unit_test (numbers_and_lengths_beyond_their_limits_are_refused),
        cmocka_unit_test (a_small_frame_cannot_take_much_memory),
        cmocka_unit_test (a_head_notice_comes_back_and_must_not_contradict_itself),
        cmocka_unit_test (a_fence_finds_its_nonce_though_it_holds_zeros),
        cmocka_unit_test (a_watermark_needs_a_journal_and_streams),
        cmocka_unit_test (the_generated_code_reads_replay_data),
        cmocka_unit_test (replay_data_is_walked_in_place_again_and_again),
        cmocka_unit_test (an_empty_replay_data_still_says_how_far_it_is),
        cmocka_unit_test (batches_among_other_fields_are_found),
        cmocka_unit_test (other_messages_are_not_taken_for_replay_data),
        cmocka_unit_test (items_out_of_range_are_refused),
        cmocka_unit_test (no_truncation_or_flipped_bit_does_harm),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
