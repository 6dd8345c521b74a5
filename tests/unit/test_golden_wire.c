/* Golden bytes of the wire: what the code writes today, what tests/golden/wire holds, and what SPEC.md shows must be the same. They
 * change only with the protocol's version. Run at the top of the tree.
 *
 * GOLDEN_WRITE=1 writes the files anew: for a new one. */

#include "golden_wire.h"

#define SPEC "proto/SPEC.md"

enum { SPEC_MAX = 1 << 20 };

static const struct fm_id node_id = { { 0x4e, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } };
static const struct fm_id journal_id = { { 0x4a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } };

/* --- Making them. */

static struct batch sample_batch (struct batch_topic *topics, uint32_t topic_count, uint32_t count)
{
    return (struct batch) {
        .mesh = mesh (),
        .stream = stream_id,
        .epoch = 2,
        .incarnation = 0x1122334455667788,
        .first_seq = 300,
        .count = count,
        .time_ns = time_ns,
        .epoch_first_seq = 257,
        .topics = topics,
        .topic_count = topic_count,
        .type = slice_of ("OrderPlaced"),
        .content_type = slice_of ("text/plain"),
    };
}

static void make_frame (const struct batch *b, const struct fm_fact *facts, struct bytes *ret)
{
    const struct batch_defaults defaults = { .type = b->type, .content_type = b->content_type, .time_ns = b->time_ns };
    uint8_t *p = ret->data + topic_to_wire (batch_level (b), ret->data);
    *p++ = 0;
    p = batch_encode_header (p, b);
    for (uint32_t i = 0; facts && i < b->count; i++)
        p = fact_encode (p, &facts[i], &defaults);
    ret->len = (size_t) (p - ret->data);
    assert_true (ret->len <= sizeof ret->data);
}

static void frame_one_fact (struct bytes *ret)
{
    struct batch_topic topic = { slice_of ("orders.placed"), slice ("\x01\x04", 2) };
    struct batch b = sample_batch (&topic, 1, 1);
    const struct fm_fact fact = { .type = b.type, .content_type = b.content_type, .time_ns = time_ns, .payload = slice_of ("one teapot") };
    make_frame (&b, &fact, ret);
}

static void frame_two_topics (struct bytes *ret)
{
    struct batch_topic topics[] = { { slice_of ("orders"), slice ("\x01\xab\x02", 3) },        /* and one back for `orders` alone */
                                    { slice_of ("orders.placed"), slice ("\x01\x04", 2) } };
    uint8_t headers[64], *headers_end = fact_header_encode (headers, slice_of ("trace"), slice_of ("t-17"));
    headers_end = fact_header_encode (headers_end, slice_of ("empty"), slice_of (""));
    uint8_t sha256[32], blob_bytes[64];
    for (uint8_t i = 0; i < 32; i++)
        sha256[i] = i;
    Factmesh__BlobRef blob = FACTMESH__BLOB_REF__INIT;
    blob.sha256 = control_put_slice (slice (sha256, 32));
    blob.size = 1 << 20;
    blob.media_type = control_put_slice (slice_of ("image/png"));
    const size_t blob_len = factmesh__blob_ref__pack (&blob, blob_bytes);
    struct batch b = sample_batch (topics, 2, 3);
    const struct fm_fact facts[] = {
        { .type = b.type,
          .content_type = b.content_type,
          .topic_index = 1,
          .time_ns = time_ns,
          .schema = slice_of ("order-3"),
          .key = slice_of ("customer-9"),
          .correlation = slice_of ("c-1"),
          .causation = { other_stream_id, 41 },
          .identity = slice_of ("order-123"),
          .headers = slice (headers, (size_t) (headers_end - headers)),
          .expires_ns = time_ns + 5000000000u,
          .payload = slice_of ("a") },
        { .type = slice_of ("OrderVoided"),
          .time_ns = time_ns + 1500,
          .key = slice_of ("customer-9"),
          .corrects = { stream_id, 299 },
          .flags = FM_TOMBSTONE },
        { .type = b.type,
          .content_type = b.content_type,
          .topic_index = 1,
          .time_ns = time_ns - 1,
          .blob = slice (blob_bytes, blob_len),
          .payload = slice ("\0\xff", 2) },
    };
    for (size_t i = 0; i < 3; i++)
        b.features |= fact_features (&facts[i]);
    make_frame (&b, facts, ret);
}

static void frame_announced (struct bytes *ret)
{
    struct batch_topic topic = { slice_of ("pictures"), slice ("\x00", 1) };
    struct batch b = sample_batch (&topic, 1, 1);
    b.announced_len = 1048700;
    make_frame (&b, NULL, ret);
}

static void take_message (int rc, zmq_msg_t *message, struct bytes *ret)
{
    assert_int_equal (rc, 0);
    ret->len = zmq_msg_size (message);
    assert_true (ret->len <= sizeof ret->data);
    memcpy (ret->data, zmq_msg_data (message), ret->len);
    zmq_msg_close (message);
}

static void notice_head (struct bytes *ret)
{
    Factmesh__LevelHead head[2] = { FACTMESH__LEVEL_HEAD__INIT, FACTMESH__LEVEL_HEAD__INIT }, *heads[] = { &head[0], &head[1] };
    head[0].level = control_put_slice (slice_of ("orders"));
    head[1].level = control_put_slice (slice_of ("orders.placed"));
    head[0].last_seq = head[1].last_seq = 302;
    Factmesh__HeadNotice notice = FACTMESH__HEAD_NOTICE__INIT;
    notice.major = PROTO_MAJOR;
    notice.mesh = control_put_slice (mesh ());
    notice.stream = control_put_id (&stream_id);
    notice.epoch = 2;
    notice.incarnation = 0x1122334455667788;
    notice.head = 302;
    notice.complete_since = 290;
    notice.epoch_first_seq = 257;
    notice.n_levels = 2;
    notice.levels = heads;
    zmq_msg_t message;
    take_message (control_encode_reserved (RESERVED_HEAD, NULL, &notice.base, &message), &message, ret);
}

static void make_fence (const struct fm_id *node, struct bytes *ret)
{
    static const uint8_t nonce[FENCE_NONCE_LEN] = { 1, 0, 3, 0, 5, 6, 7, 8 };
    Factmesh__StreamHead head = FACTMESH__STREAM_HEAD__INIT, *heads[] = { &head };
    head.stream = control_put_id (&stream_id);
    head.epoch = 2;
    head.incarnation = 0x1122334455667788;
    head.next_seq = 303;
    head.epoch_first_seq = 257;
    Factmesh__FenceAnswer answer = FACTMESH__FENCE_ANSWER__INIT;
    answer.major = PROTO_MAJOR;
    answer.mesh = control_put_slice (mesh ());
    answer.nonce = control_put_slice (slice (nonce, sizeof nonce));
    answer.n_streams = 1;
    answer.streams = heads;
    if (node)
        answer.node = control_put_id (node);
    zmq_msg_t message;
    take_message (control_encode_reserved (RESERVED_FENCE, nonce, &answer.base, &message), &message, ret);
}

static void notice_fence (struct bytes *ret)
{
    make_fence (NULL, ret);
}

/* Of a node that says who it is. */
static void notice_fence_node (struct bytes *ret)
{
    make_fence (&node_id, ret);
}

static void watermark_of (Factmesh__Watermark *watermark, Factmesh__StreamMark *mark, Factmesh__StreamMark **marks)
{
    factmesh__watermark__init (watermark);
    factmesh__stream_mark__init (mark);
    mark->stream = control_put_id (&stream_id);
    mark->received = 302;
    mark->written = 302;
    mark->synced = 300;
    marks[0] = mark;
    watermark->journal = control_put_id (&journal_id);
    watermark->generation = 1;
    watermark->mesh = control_put_slice (mesh ());
    watermark->n_marks = 1;
    watermark->marks = marks;
}

static void notice_watermark (struct bytes *ret)
{
    Factmesh__Watermark watermark;
    Factmesh__StreamMark mark, *marks[1];
    watermark_of (&watermark, &mark, marks);
    zmq_msg_t message;
    take_message (control_encode_reserved (RESERVED_WATERMARK, NULL, &watermark.base, &message), &message, ret);
}

/* As passed on by a publisher that tells its epoch. */
static void notice_watermark_epoch (struct bytes *ret)
{
    Factmesh__Watermark watermark;
    Factmesh__StreamMark mark, *marks[1];
    watermark_of (&watermark, &mark, marks);
    mark.epoch = 2;
    zmq_msg_t message;
    take_message (control_encode_reserved (RESERVED_WATERMARK, NULL, &watermark.base, &message), &message, ret);
}

static void make_control (Factmesh__Control *control, int body, struct bytes *ret)
{
    control->body_case = (Factmesh__Control__BodyCase) body;
    zmq_msg_t message;
    take_message (control_encode (control, mesh (), &message), &message, ret);
}

static void control_hello (struct bytes *ret)
{
    Factmesh__StreamHead head = FACTMESH__STREAM_HEAD__INIT, *heads[] = { &head };
    head.stream = control_put_id (&stream_id);
    head.epoch = 2;
    head.incarnation = 0x1122334455667788;
    head.next_seq = 303;
    head.epoch_first_seq = 257;
    head.name = control_put_slice (slice_of ("shop"));
    Factmesh__JournalInfo journal = FACTMESH__JOURNAL_INFO__INIT;
    journal.journal = control_put_id (&journal_id);
    journal.generation = 1;
    char *live[] = { (char[]) { "tcp://10.0.0.7:41001" } }, *at[] = { (char[]) { "tcp://10.0.0.7:7400" } };
    Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
    info.node = control_put_id (&node_id);
    info.name = control_put_slice (slice_of ("shop-1"));
    info.n_live = info.n_control = 1;
    info.live = live;
    info.control = at;
    info.journal = &journal;
    info.n_streams = 1;
    info.streams = heads;
    info.started_ns = time_ns;
    info.major = PROTO_MAJOR;
    info.software = control_put_slice (slice_of ("factmesh 0.1.0"));
    info.info_version = 3;
    Factmesh__Hello hello = FACTMESH__HELLO__INIT;
    hello.info = &info;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 1;
    control.hello = &hello;
    make_control (&control, FACTMESH__CONTROL__BODY_HELLO, ret);
}

static void control_ping (struct bytes *ret)
{
    Factmesh__Ping ping = FACTMESH__PING__INIT;
    ping.node = control_put_id (&node_id);
    ping.members_digest = bytes_get_u64le (node_id.bytes) ^ bytes_get_u64le (other_stream_id.bytes);
    ping.info_version = 3;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.ping = &ping;
    make_control (&control, FACTMESH__CONTROL__BODY_PING, ret);
}

static void control_watermark (struct bytes *ret)
{
    Factmesh__Watermark watermark;
    Factmesh__StreamMark mark, *marks[1];
    watermark_of (&watermark, &mark, marks);
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.watermark = &watermark;
    make_control (&control, FACTMESH__CONTROL__BODY_WATERMARK, ret);
}

static void control_replay_open (struct bytes *ret)
{
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("orders.>")), control_put_slice (slice_of ("*.paid")) };
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 9;
    open.n_filters = 2;
    open.filters = filters;
    open.stream = control_put_id (&stream_id);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = 300;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = 303;
    open.credit = 4 << 20;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 2;
    control.replay_open = &open;
    make_control (&control, FACTMESH__CONTROL__BODY_REPLAY_OPEN, ret);
}

/* A subscriber's: not of this stream alone, cut to what matches. */
static void control_replay_open_cut (struct bytes *ret)
{
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("orders.>")) };
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 10;
    open.n_filters = 1;
    open.filters = filters;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_OFFSET;
    open.from_offset = 1;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    open.credit = 4 << 20;
    open.may_cut = true;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 3;
    control.replay_open = &open;
    make_control (&control, FACTMESH__CONTROL__BODY_REPLAY_OPEN, ret);
}

/* Newest facts of keys, on from where an earlier session came to, up to where that began with everything. */
static void control_replay_open_latest (struct bytes *ret)
{
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("orders.>")) };
    Factmesh__StreamPosition position = FACTMESH__STREAM_POSITION__INIT, *positions[] = { &position };
    position.stream = control_put_id (&stream_id);
    position.seq = 302;
    Factmesh__Cursor place = FACTMESH__CURSOR__INIT;
    place.major = PROTO_MAJOR;
    place.journal = control_put_id (&journal_id);
    place.generation = 1;
    place.offset = 503;
    place.n_positions = 1;
    place.positions = positions;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 11;
    open.n_filters = 1;
    open.filters = filters;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_LATEST;
    open.from_latest = &place;
    open.latest_end = 520;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    open.credit = 4 << 20;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 4;
    control.replay_open = &open;
    make_control (&control, FACTMESH__CONTROL__BODY_REPLAY_OPEN, ret);
}

static void control_replay_data_latest (struct bytes *ret)
{
    const struct replay_header h = { .session = 11, .next_offset = 510, .remaining_bytes = 4096, .end_offset = 530, .latest_end = 520 };
    struct bytes frame;
    frame_one_fact (&frame);
    const size_t topic_len = strlen (".orders.placed.") + 1;
    uint8_t fields[BYTES_MAX], *p = replay_batch_field (fields, frame.len - topic_len);
    memcpy (p, frame.data + topic_len, frame.len - topic_len);
    p += frame.len - topic_len;
    zmq_msg_t message;
    take_message (replay_data_encode (&h, mesh (), slice (fields, (size_t) (p - fields)), &message), &message, ret);
}

static void control_replay_data (struct bytes *ret)
{
    const struct replay_covered covered[] = { { stream_id, 302 }, { other_stream_id, 41 } };
    const struct replay_gap gaps[] = { { other_stream_id, 30, 40, FACTMESH__GAP_REASON__GAP_VOID, false },
                                       { { { 0 } }, 1, 500, FACTMESH__GAP_REASON__GAP_EXPIRED, false } };
    Factmesh__Cursor start = FACTMESH__CURSOR__INIT;
    start.major = PROTO_MAJOR;
    start.journal = control_put_id (&journal_id);
    start.generation = 1;
    start.offset = 500;
    const struct replay_header h = {
        .session = 9, .next_offset = 503, .remaining_bytes = 4096, .end_offset = 520, .caught_up = false,
        .covered = covered, .covered_count = 2, .gaps = gaps, .gap_count = 2, .start = &start,
    };
    struct bytes frame;
    frame_one_fact (&frame);
    const size_t topic_len = strlen (".orders.placed.") + 1;
    uint8_t fields[BYTES_MAX], *p = replay_batch_field (fields, frame.len - topic_len);
    memcpy (p, frame.data + topic_len, frame.len - topic_len);
    p += frame.len - topic_len;
    zmq_msg_t message;
    take_message (replay_data_encode (&h, mesh (), slice (fields, (size_t) (p - fields)), &message), &message, ret);
}

/* A publisher's answer about what it let go, since a journal has it. */
static void control_replay_data_synced (struct bytes *ret)
{
    const struct replay_gap gap = { stream_id, 34, 51, FACTMESH__GAP_REASON__GAP_SYNCED, true };
    const struct replay_header h = { .session = 9, .gaps = &gap, .gap_count = 1 };
    zmq_msg_t message;
    take_message (replay_data_encode (&h, mesh (), slice (NULL, 0), &message), &message, ret);
}

static void control_error (struct bytes *ret)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = FACTMESH__ERROR_CODE__ERROR_GENERATION;
    error.text = control_put_slice (slice_of ("the cursor is of generation 1, this is 2"));
    error.session = 9;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 2;
    control.error = &error;
    make_control (&control, FACTMESH__CONTROL__BODY_ERROR, ret);
}

static void control_error_conflict (struct bytes *ret)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = FACTMESH__ERROR_CODE__ERROR_STREAM_CONFLICT;
    error.text = control_put_slice (slice_of ("a copied data directory?"));
    error.stream = control_put_id (&stream_id);
    error.epoch = 2;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.error = &error;
    make_control (&control, FACTMESH__CONTROL__BODY_ERROR, ret);
}

static const uint8_t blob_sha256[32] = { 0xb1, 0x0b, 2, 3 };

static void control_blob_put_open (struct bytes *ret)
{
    Factmesh__BlobPutOpen open = FACTMESH__BLOB_PUT_OPEN__INIT;
    open.sha256 = control_put_slice (slice (blob_sha256, sizeof blob_sha256));
    open.size = 262149;
    open.media_type = control_put_slice (slice_of ("image/png"));
    open.lease_ms = 60000;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 4;
    control.blob_put_open = &open;
    make_control (&control, FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN, ret);
}

static void control_blob_put_whole (struct bytes *ret)
{
    Factmesh__BlobPutOpen open = FACTMESH__BLOB_PUT_OPEN__INIT;
    open.sha256 = control_put_slice (slice (blob_sha256, sizeof blob_sha256));
    open.size = 5;
    open.content = control_put_slice (slice_of ("bytes"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 4;
    control.blob_put_open = &open;
    make_control (&control, FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN, ret);
}

static void control_blob_put_chunk (struct bytes *ret)
{
    Factmesh__BlobPutChunk chunk = FACTMESH__BLOB_PUT_CHUNK__INIT;
    chunk.upload = control_put_slice (slice (blob_sha256, sizeof blob_sha256));
    chunk.position = 262144;
    chunk.data = control_put_slice (slice_of ("bytes"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 5;
    control.blob_put_chunk = &chunk;
    make_control (&control, FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK, ret);
}

static void control_blob_put_state (struct bytes *ret)
{
    Factmesh__BlobInfo info = FACTMESH__BLOB_INFO__INIT;
    info.sha256 = control_put_slice (slice (blob_sha256, sizeof blob_sha256));
    info.size = 262149;
    info.media_type = control_put_slice (slice_of ("image/png"));
    info.stored_ns = time_ns;
    info.lease_ns = time_ns + 60000000000u;
    Factmesh__BlobPutState state = FACTMESH__BLOB_PUT_STATE__INIT;
    state.upload = info.sha256;
    state.next = 262149;
    state.synced = 262144;
    state.limit = 4456453;
    state.wait = true;
    state.blob = &info;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 5;
    control.blob_put_state = &state;
    make_control (&control, FACTMESH__CONTROL__BODY_BLOB_PUT_STATE, ret);
}

static void control_blob_data (struct bytes *ret)
{
    Factmesh__BlobData data = FACTMESH__BLOB_DATA__INIT;
    data.position = 262144;
    data.data = control_put_slice (slice_of ("bytes"));
    data.size = 262149;
    data.media_type = control_put_slice (slice_of ("image/png"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 6;
    control.blob_data = &data;
    make_control (&control, FACTMESH__CONTROL__BODY_BLOB_DATA, ret);
}

static void control_cursor_put (struct bytes *ret)
{
    Factmesh__StreamPosition position = FACTMESH__STREAM_POSITION__INIT, *positions[] = { &position };
    position.stream = control_put_id (&stream_id);
    position.seq = 302;
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&journal_id);
    cursor.generation = 1;
    cursor.offset = 503;
    cursor.n_positions = 1;
    cursor.positions = positions;
    Factmesh__CursorPut put = FACTMESH__CURSOR_PUT__INIT;
    put.name = control_put_slice (slice_of ("billing"));
    put.cursor = &cursor;
    put.filters = control_put_slice (slice_of ("orders.>"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = 3;
    control.cursor_put = &put;
    make_control (&control, FACTMESH__CONTROL__BODY_CURSOR_PUT, ret);
}

static void beacon (struct bytes *ret)
{
    Factmesh__Beacon b = FACTMESH__BEACON__INIT;
    b.major = PROTO_MAJOR;
    b.mesh = control_put_slice (mesh ());
    b.node = control_put_id (&node_id);
    b.control_port = 7400;
    memcpy (ret->data, "FMSH", 4);
    ret->len = 4 + factmesh__beacon__pack (&b, ret->data + 4);
}

static const struct golden {
    const char *name;
    void (*make) (struct bytes *ret);
} goldens[] = {
#define GOLDEN(name) { #name, name }
    GOLDEN (frame_one_fact),   GOLDEN (frame_two_topics),  GOLDEN (frame_announced),     GOLDEN (notice_head),
    GOLDEN (notice_fence),     GOLDEN (notice_fence_node), GOLDEN (notice_watermark),  GOLDEN (notice_watermark_epoch), GOLDEN (control_hello),       GOLDEN (control_ping),
    GOLDEN (control_watermark), GOLDEN (control_replay_open), GOLDEN (control_replay_open_cut), GOLDEN (control_replay_data), GOLDEN (control_error), GOLDEN (control_error_conflict),
    GOLDEN (control_replay_open_latest), GOLDEN (control_replay_data_latest), GOLDEN (control_replay_data_synced),
    GOLDEN (control_cursor_put), GOLDEN (control_blob_put_open), GOLDEN (control_blob_put_whole), GOLDEN (control_blob_put_chunk), GOLDEN (control_blob_put_state), GOLDEN (control_blob_data),
    GOLDEN (beacon),
#undef GOLDEN
};
enum { GOLDENS = sizeof goldens / sizeof goldens[0] };

/* --- Files. */

static void write_goldens (void)
{
    for (size_t i = 0; i < GOLDENS; i++) {
        struct bytes b;
        goldens[i].make (&b);
        char path[256];
        snprintf (path, sizeof path, DIRECTORY "%s.bin", goldens[i].name);
        FILE *file = fopen (path, "wb");
        assert_non_null (file);
        assert_int_equal (fwrite (b.data, 1, b.len, file), b.len);
        assert_int_equal (fclose (file), 0);
    }
}

/* --- The promises. */

static void the_code_writes_the_golden_bytes (void **state)
{
    (void) state;
    if (getenv ("GOLDEN_WRITE"))
        write_goldens ();
    for (size_t i = 0; i < GOLDENS; i++) {
        struct bytes made, golden;
        goldens[i].make (&made);
        read_golden (goldens[i].name, &golden);
        if (made.len != golden.len || memcmp (made.data, golden.data, made.len) != 0)
            fail_msg ("%s: %zu bytes written now differ from the %zu golden ones", goldens[i].name, made.len, golden.len);
    }
}

/* --- SPEC.md: the bytes between "```hex NAME" and "```", what follows # in a line left out. */

static char *spec_read (void)
{
    FILE *file = fopen (SPEC, "r");
    if (!file)
        fail_msg (SPEC " cannot be read: run the test at the top of the tree");
    char *text = malloc (SPEC_MAX);
    const size_t len = fread (text, 1, SPEC_MAX - 1, file);
    fclose (file);
    text[len] = 0;
    return text;
}

static void hex_line (const char *line, size_t len, struct bytes *b)
{
    for (size_t i = 0; i < len && line[i] != '#'; i++) {
        unsigned byte;
        if (line[i] == ' ')
            continue;
        if (i + 1 >= len || sscanf (line + i, "%2x", &byte) != 1)
            fail_msg (SPEC ": no hex in '%.*s'", (int) len, line);
        assert_true (b->len < BYTES_MAX);
        b->data[b->len++] = (uint8_t) byte;
        i++;
    }
}

static void the_spec_shows_the_golden_bytes (void **state)
{
    (void) state;
    char *text = spec_read ();
    unsigned shown = 0;
    for (const char *p = text; (p = strstr (p, "```hex ")); shown++) {
        char name[64];
        if (sscanf (p, "```hex %63s", name) != 1)
            fail_msg (SPEC ": a block of hex has no name");
        struct bytes spec = { 0 }, golden;
        const char *line = strchr (p, '\n') + 1;
        while (strncmp (line, "```", 3) != 0) {
            const size_t len = strcspn (line, "\n");
            hex_line (line, len, &spec);
            assert_true (line[len] == '\n');
            line += len + 1;
        }
        read_golden (name, &golden);
        if (spec.len != golden.len || memcmp (spec.data, golden.data, spec.len) != 0)
            fail_msg (SPEC ": %s is shown otherwise than in " DIRECTORY, name);
        p = line;
    }
    assert_true (shown >= 1);
    free (text);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (the_code_writes_the_golden_bytes),
        cmocka_unit_test (the_spec_shows_the_golden_bytes),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
