/* Golden bytes of the wire: what any version has written is read, each field. Run at the top of the tree. */

#include <dirent.h>

#include "golden_wire.h"

/* Read the golden frame and check what every reader of the wire relies on. Slices point into bytes. */
static void read_frame (const char *name, struct bytes *bytes, struct batch_scratch *scratch, struct fm_slice *ret_topic, struct batch *ret_batch)
{
    struct fm_slice body;
    read_golden (name, bytes);
    assert_int_equal (topic_from_frame (bytes->data, bytes->len, ret_topic, &body), 0);
    assert_int_equal (batch_decode (body.data, body.len, mesh (), scratch, ret_batch), 0);
    assert_true (slice_equal (batch_level (ret_batch), *ret_topic));
    assert_true (id_equal (&ret_batch->stream, &stream_id));
    assert_true (ret_batch->epoch == 2 && ret_batch->incarnation == 0x1122334455667788 && ret_batch->epoch_first_seq == 257);
    assert_true (ret_batch->first_seq == 300 && ret_batch->time_ns == time_ns);
}

static bool is (struct fm_slice s, const char *text)
{
    return slice_equal (s, slice_of (text));
}

static void the_code_reads_one_fact_from_the_golden_bytes (void **state)
{
    (void) state;
    struct bytes bytes;
    struct batch_scratch scratch = { 0 };
    struct fm_slice topic;
    struct batch b;
    read_frame ("frame_one_fact", &bytes, &scratch, &topic, &b);
    assert_true (is (topic, "orders.placed"));
    assert_int_equal (b.count, 1);
    uint64_t prev;
    assert_true (batch_prev (&b, slice_of ("orders"), &prev) && prev == 298);
    assert_true (batch_prev (&b, slice_of ("orders.placed"), &prev) && prev == 295);
    struct batch_reader r;
    struct fm_fact f;
    batch_reader_init (&r, &b);
    assert_int_equal (batch_reader_next (&r, &f), 0);
    assert_true (is (f.payload, "one teapot") && is (f.type, "OrderPlaced") && is (f.content_type, "text/plain") && is (f.topic, "orders.placed"));
    assert_true (f.time_ns == time_ns && f.id.seq == 300);
    assert_int_equal (batch_reader_next (&r, &f), FM_ERR_END);
    batch_scratch_release (&scratch);
}

static void the_code_reads_every_field_from_the_golden_bytes (void **state)
{
    (void) state;
    struct bytes bytes;
    struct batch_scratch scratch = { 0 };
    struct fm_slice topic, name, value;
    struct batch b;
    read_frame ("frame_two_topics", &bytes, &scratch, &topic, &b);
    assert_true (is (topic, "orders"));
    assert_int_equal (b.count, 3);
    assert_int_equal (batch_check_facts (&b), 0);
    uint64_t prev;
    assert_true (batch_prev (&b, slice_of ("orders"), &prev) && prev == 298);
    assert_true (batch_prev_exact (&b, slice_of ("orders"), &prev) && prev == 0);
    struct batch_reader r;
    struct fm_fact f;
    batch_reader_init (&r, &b);
    assert_int_equal (batch_reader_next (&r, &f), 0);
    assert_true (is (f.schema, "order-3") && is (f.key, "customer-9") && is (f.correlation, "c-1") && is (f.identity, "order-123"));
    assert_true (id_equal (&f.causation.stream, &other_stream_id) && f.causation.seq == 41 && f.expires_ns == time_ns + 5000000000u);
    assert_true (is (f.topic, "orders.placed") && is (f.payload, "a"));
    size_t pos = 0;
    assert_int_equal (fact_header_next (f.headers, &pos, &name, &value), 0);
    assert_true (is (name, "trace") && is (value, "t-17"));
    assert_int_equal (fact_header_next (f.headers, &pos, &name, &value), 0);
    assert_true (is (name, "empty") && value.len == 0);
    assert_int_equal (batch_reader_next (&r, &f), 0);
    assert_true (is (f.topic, "orders") && is (f.type, "OrderVoided") && f.content_type.len == 0 && f.flags == FM_TOMBSTONE);
    assert_true (id_equal (&f.corrects.stream, &stream_id) && f.corrects.seq == 299 && f.time_ns == time_ns + 1500 && f.payload.len == 0);
    assert_int_equal (batch_reader_next (&r, &f), 0);
    assert_true (f.time_ns == time_ns - 1 && f.blob.len > 0 && slice_equal (f.payload, slice ("\0\xff", 2)));
    assert_int_equal (batch_reader_next (&r, &f), FM_ERR_END);
    batch_scratch_release (&scratch);
}

static void the_code_reads_an_announcement_from_the_golden_bytes (void **state)
{
    (void) state;
    struct bytes bytes;
    struct batch_scratch scratch = { 0 };
    struct fm_slice topic;
    struct batch b;
    read_frame ("frame_announced", &bytes, &scratch, &topic, &b);
    assert_true (b.announced_len == 1048700 && b.count == 1 && is (topic, "pictures"));
    batch_scratch_release (&scratch);
}

static void read_control (const char *name, const struct bytes *bytes)
{
    Factmesh__Control *control;
    if (control_decode (bytes->data, bytes->len, mesh (), &control) != 0)
        fail_msg ("%s: %s", name, fm_error_detail ());
    factmesh__control__free_unpacked (control, NULL);
}

static void read_notice (const char *name, const struct bytes *bytes)
{
    uint8_t kind;
    struct fm_slice nonce, body;
    Factmesh__HeadNotice *head = NULL;
    Factmesh__FenceAnswer *fence = NULL;
    Factmesh__Watermark *watermark = NULL;
    assert_int_equal (reserved_from_frame (bytes->data, bytes->len, &kind, &nonce, &body), 0);
    assert_int_equal (kind == RESERVED_HEAD    ? reserved_decode_head (body, mesh (), &head)
                      : kind == RESERVED_FENCE ? reserved_decode_fence (body, mesh (), &fence)
                                               : reserved_decode_watermark (body, mesh (), &watermark),
                      0);
    if (head)
        factmesh__head_notice__free_unpacked (head, NULL);
    if (fence) {
        assert_int_equal (fence->node.len, strstr (name, "node") ? ID_LEN : 0);
        factmesh__fence_answer__free_unpacked (fence, NULL);
    }
    if (watermark) {
        assert_int_equal (watermark->marks[0]->epoch, strstr (name, "epoch") ? 2 : 0);
        factmesh__watermark__free_unpacked (watermark, NULL);
    }
}

static void the_code_reads_every_notice_and_control_message_from_the_golden_bytes (void **state)
{
    (void) state;
    struct bytes bytes;
    unsigned controls = 0, notices = 0;
    DIR *directory = opendir (DIRECTORY);
    assert_non_null (directory);
    for (const struct dirent *entry; (entry = readdir (directory));) {
        char name[64];
        if (sscanf (entry->d_name, "%63[^.].bin", name) != 1)
            continue;
        const bool control = strncmp (name, "control_", 8) == 0, notice = strncmp (name, "notice_", 7) == 0;
        if (!control && !notice)
            continue;
        read_golden (name, &bytes);
        if (control)
            read_control (name, &bytes);
        else
            read_notice (name, &bytes);
        controls += control;
        notices += notice;
    }
    closedir (directory);
    assert_true (controls >= 16 && notices >= 4);
}

static void the_code_reads_replays_from_the_golden_bytes (void **state)
{
    (void) state;
    struct bytes bytes;
    struct replay_view view = { 0 };
    struct fm_slice batch;
    struct batch b;
    struct batch_scratch scratch = { 0 };
    read_golden ("control_replay_data", &bytes);
    assert_int_equal (replay_data_decode (bytes.data, bytes.len, mesh (), &view), 0);
    assert_true (view.header.next_offset == 503 && view.header.covered[0].through == 302 && view.header.gaps[1].end_seq == 500);
    assert_int_equal (replay_view_next (&view, &batch), 0);
    assert_int_equal (batch_decode (batch.data, batch.len, mesh (), &scratch, &b), 0);
    assert_int_equal (b.first_seq, 300);
    assert_int_equal (view.header.latest_end, 0);
    read_golden ("control_replay_data_latest", &bytes);
    assert_int_equal (replay_data_decode (bytes.data, bytes.len, mesh (), &view), 0);
    assert_true (view.header.latest_end == 520 && view.header.next_offset == 510 && replay_view_next (&view, &batch) == 0);
    batch_scratch_release (&scratch);
    replay_view_release (&view);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (the_code_reads_one_fact_from_the_golden_bytes),
        cmocka_unit_test (the_code_reads_every_field_from_the_golden_bytes),
        cmocka_unit_test (the_code_reads_an_announcement_from_the_golden_bytes),
        cmocka_unit_test (the_code_reads_every_notice_and_control_message_from_the_golden_bytes),
        cmocka_unit_test (the_code_reads_replays_from_the_golden_bytes),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
