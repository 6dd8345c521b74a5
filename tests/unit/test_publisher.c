/* publisher: when facts leave, what is in their frames, how a stream goes on. */

#include <pthread.h>
#include <unistd.h>

#include "fake_node.h"

enum { US = 1000 };

static const struct fm_id journal_a = { "journal-a-0000-" }, journal_b = { "journal-b-0000-" };

static unsigned drain_frames (void)
{
    unsigned n = 0;
    zmq_msg_t message;
    while (receive (subscriber, &message)) {
        zmq_msg_close (&message);
        n++;
    }
    return n;
}

/* ------------------------------------------------------------------ when facts leave */

static void a_lone_fact_leaves_at_once_and_says_all (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .name = "stream" });
    char headers[64];
    size_t headers_len = 0;
    uint8_t *end = fact_header_encode ((uint8_t *) headers, slice_of ("h"), slice_of ("v"));
    headers_len = (size_t) (end - (uint8_t *) headers);
    const struct fm_fact fact = {
        .topic = slice_of ("orders.placed"),
        .payload = slice_of ("payload"),
        .key = slice_of ("key"),
        .type = slice_of ("OrderPlaced"),
        .content_type = slice_of ("text/plain"),
        .schema = slice_of ("schema"),
        .correlation = slice_of ("talk"),
        .identity = slice_of ("once"),
        .causation = { journal_a, 4 },
        .corrects = { journal_b, 5 },
        .headers = slice (headers, headers_len),
        .expires_ns = 99,
        .flags = FM_TOMBSTONE,
    };
    struct fm_fact_id id;
    assert_int_equal (fm_publish (p, &fact, &id), 0);
    assert_int_equal (id.seq, 1);

    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    assert_true (receive_batch (&message, &topic, &b));
    assert_true (slice_equal (topic, fact.topic));
    assert_true (id_equal (&b.stream, &id.stream));
    assert_int_equal (b.epoch, 1);
    assert_int_equal (b.epoch_first_seq, 1);
    assert_int_equal (b.incarnation, p->identity.incarnation);
    assert_int_equal (b.first_seq, 1);
    assert_int_equal (b.count, 1);
    assert_int_equal (b.time_ns, fake_unix (NULL));
    struct batch_reader reader;
    struct fm_fact got;
    batch_reader_init (&reader, &b);
    assert_int_equal (batch_reader_next (&reader, &got), 0);
    assert_int_equal (got.id.seq, 1);
    assert_int_equal (got.time_ns, fake_unix (NULL));
    assert_true (slice_equal (got.topic, fact.topic) && slice_equal (got.payload, fact.payload) && slice_equal (got.key, fact.key));
    assert_true (slice_equal (got.type, fact.type) && slice_equal (got.content_type, fact.content_type));
    assert_true (slice_equal (got.schema, fact.schema) && slice_equal (got.correlation, fact.correlation));
    assert_true (slice_equal (got.identity, fact.identity) && slice_equal (got.headers, fact.headers));
    assert_true (id_equal (&got.causation.stream, &journal_a) && got.causation.seq == 4);
    assert_true (id_equal (&got.corrects.stream, &journal_b) && got.corrects.seq == 5);
    assert_int_equal (got.expires_ns, 99);
    assert_int_equal (got.flags, FM_TOMBSTONE);
    assert_int_equal (b.features, fact_features (&fact));
    assert_int_not_equal (b.features, 0);
    zmq_msg_close (&message);
    (void) publish (p, "plain", slice_of ("x"));
    assert_true (receive_batch (&message, &topic, &b));
    assert_int_equal (b.features, 0);
    zmq_msg_close (&message);
    assert_int_equal (drain_frames (), 0);
    fm_publisher_close (&p);
    assert_null (p);
}

static void facts_without_a_token_share_a_frame_that_the_tick_sends (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < PUBLISHER_BURST; i++)
        (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (drain_frames (), PUBLISHER_BURST);
    fake.wakes = 0;
    for (int i = 0; i < 5; i++)
        (void) publish (p, "a", slice_of ("y"));
    assert_int_equal (drain_frames (), 0);
    assert_true (fake.wakes <= 1);
    const uint64_t due = publisher_tick (p, fake.now);
    assert_int_equal (due, fake.now + 50 * US);
    assert_int_equal (drain_frames (), 0);
    (void) publisher_tick (p, due);
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    assert_true (receive_batch (&message, &topic, &b));
    assert_int_equal (b.first_seq, PUBLISHER_BURST + 1);
    assert_int_equal (b.count, 5);
    assert_true (b.topics[0].backs.len == 1 && *(const uint8_t *) b.topics[0].backs.data == 0);
    zmq_msg_close (&message);
    assert_int_equal (drain_frames (), 0);
    fm_publisher_close (&p);
}

static void the_next_fact_with_a_token_takes_along_those_that_wait (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < PUBLISHER_BURST + 3; i++)
        (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (drain_frames (), PUBLISHER_BURST);
    fake.now += 50 * US;
    (void) publish (p, "a", slice_of ("y"));
    assert_int_equal (drain_frames (), 1);
    struct fm_publisher_state st;
    fm_publisher_state (p, &st);
    assert_int_equal (st.head, PUBLISHER_BURST + 4);
    assert_int_equal (st.sent, st.head);
    fm_publisher_close (&p);
}

static void in_a_flood_every_frame_is_full (void **state)
{
    (void) state;
    enum { FACTS = 3000, BYTES = 1000, PER_FRAME_MIN = 60 };
    static const char payload[BYTES];
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < FACTS; i++) {
        fake.now += 2 * US;                 /* a frame's worth in three tokens' time */
        (void) publish (p, "a", slice (payload, sizeof payload));
    }
    assert_true (drain_frames () <= PUBLISHER_BURST + FACTS / PER_FRAME_MIN);
    /* The flood is over: the next fact goes alone again. */
    assert_int_equal (fm_publisher_flush (p), 0);
    (void) drain_frames ();
    fake.now += 50 * US;
    (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (drain_frames (), 1);
    fm_publisher_close (&p);
}

static void the_thread_is_woken_once_not_for_each_fact (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < 1000; i++)
        (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (fake.wakes, 1);
    uint64_t due = publisher_tick (p, fake.now);
    for (int i = 0; i < 1000; i++) {
        (void) publish (p, "a", slice_of ("x"));
        fake.now += US;
        if (fake.now >= due)
            due = publisher_tick (p, fake.now);
    }
    assert_int_equal (fake.wakes, 1);
    fm_publisher_close (&p);
}

static void facts_never_share_when_told_so (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .batch_us = -1 });
    for (int i = 0; i < 100; i++)
        (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (drain_frames (), 100);
    fm_publisher_close (&p);
}

static void flush_and_close_send_what_waits (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < PUBLISHER_BURST + 3; i++)
        (void) publish (p, "a", slice_of ("x"));
    (void) drain_frames ();
    assert_int_equal (fm_publisher_flush (p), 0);
    assert_int_equal (drain_frames (), 1);
    assert_int_equal (fm_publisher_flush (p), 0);
    assert_int_equal (drain_frames (), 0);
    (void) publish (p, "a", slice_of ("x"));
    assert_int_equal (drain_frames (), 0);
    fm_publisher_close (&p);
    assert_int_equal (drain_frames (), 1);
    assert_int_equal (fake.worker_count, 0);
    assert_int_equal (fake.handler_count, 0);
}

/* ------------------------------------------------------------------ what is in the frames */

enum { TOPICS = 40, STORM = 30000 };

static struct {
    uint64_t seq_of_topic[TOPICS];  /* last, before the batch being checked */
    char topics[TOPICS][32];
    uint8_t topic_of[STORM + 1];
    uint16_t len_of[STORM + 1];
} storm;

static void payload_of (uint64_t seq, size_t len, uint8_t *bytes)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t) (seq * 31 + i * 7);
}

static uint64_t storm_last (struct fm_slice level)
{
    uint64_t last = 0;
    for (size_t i = 0; i < TOPICS; i++) {
        if (storm.seq_of_topic[i] > last && topic_is_under (slice_of (storm.topics[i]), level))
            last = storm.seq_of_topic[i];
    }
    return last;
}

/* Each batch continues the one before; each back is the truth; each fact is what was published. */
static uint64_t check_storm (uint64_t next_seq)
{
    static uint8_t expected[2048];
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    while (receive_batch (&message, &topic, &b)) {
        assert_int_equal (b.first_seq, next_seq);
        for (uint32_t i = 0; i < b.topic_count; i++) {
            for (unsigned d = 0; d <= topic_depth (b.topics[i].name); d++) {
                const struct fm_slice level = topic_level (b.topics[i].name, d);
                uint64_t prev = 0;
                assert_true (batch_prev (&b, level, &prev));
                assert_int_equal (prev, d ? storm_last (level) : b.first_seq - 1);
            }
        }
        struct batch_reader reader;
        struct fm_fact fact;
        batch_reader_init (&reader, &b);
        for (; batch_reader_next (&reader, &fact) == 0; next_seq++) {
            const char *name = storm.topics[storm.topic_of[next_seq]];
            assert_int_equal (fact.id.seq, next_seq);
            assert_true (slice_equal (fact.topic, slice_of (name)));
            assert_int_equal (fact.payload.len, storm.len_of[next_seq]);
            payload_of (next_seq, fact.payload.len, expected);
            assert_memory_equal (fact.payload.data, expected, fact.payload.len);
            storm.seq_of_topic[storm.topic_of[next_seq]] = next_seq;
        }
        assert_int_equal (next_seq, batch_end_seq (&b));
        zmq_msg_close (&message);
    }
    return next_seq;
}

static void a_storm_of_topics_arrives_whole_and_every_prev_is_true (void **state)
{
    (void) state;
    static uint8_t payload[2048];
    memset (&storm, 0, sizeof storm);
    for (size_t i = 0; i < TOPICS; i++)
        snprintf (storm.topics[i], sizeof storm.topics[i], i % 3 ? "orders.%zu.placed" : i % 2 ? "orders.%zu" : "stock.x.%zu", i);
    struct fm_publisher *p = open_publisher (NULL);
    uint32_t dice = 1;
    uint64_t due = 0, next = 1;
    for (uint64_t seq = 1; seq <= STORM; seq++) {
        dice = dice * 1664525 + 1013904223;
        const size_t spread = seq / 5000 % 2 ? TOPICS : 2;
        storm.topic_of[seq] = (uint8_t) ((dice >> 16) % spread);
        storm.len_of[seq] = (uint16_t) ((dice >> 8) % 1500);
        payload_of (seq, storm.len_of[seq], payload);
        assert_int_equal (publish (p, storm.topics[storm.topic_of[seq]], slice (payload, storm.len_of[seq])), seq);
        fake.now += (dice >> 28) * US / 4;
        if (fake.now >= due)
            due = publisher_tick (p, fake.now);
        if (seq % 1000 == 0)
            next = check_storm (next);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
    assert_int_equal (check_storm (next), STORM + 1);
    assert_int_equal (fake.counters[NODE_FACTS_PUBLISHED], STORM);
    assert_true (fake.counters[NODE_BATCHES_SENT] < STORM / 2);
    fm_publisher_close (&p);
}

static void a_frame_never_exceeds_its_limit_and_is_used_up (void **state)
{
    (void) state;
    static uint8_t payload[70000];
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .payload_max = 1 << 20 });
    for (int i = 0; i < PUBLISHER_BURST; i++)
        (void) publish (p, "warm", slice_of ("x"));
    (void) drain_frames ();
    for (int i = 0; i < 700; i++)
        (void) publish (p, "full", slice (payload, 100));
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    assert_true (receive_batch (&message, &topic, &b));
    assert_true (zmq_msg_size (&message) > LIVE_FRAME_MAX - 1000);
    assert_true (b.count > 500);
    zmq_msg_close (&message);

    /* Around the largest fact that still fits alone. */
    uint64_t announced = 0;
    for (size_t len = LIVE_FRAME_MAX - 1200; len < LIVE_FRAME_MAX + 10; len += 7) {
        (void) publish (p, "edge", slice (payload, len));
        (void) fm_publisher_flush (p);
        while (receive_batch (&message, &topic, &b)) {
            announced += b.announced_len > 0;
            zmq_msg_close (&message);
        }
    }
    assert_true (announced > 0);
    fm_publisher_close (&p);
}

static void many_topics_split_into_batches_that_fit (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < PUBLISHER_BURST; i++)
        (void) publish (p, "warm", slice_of ("x"));
    (void) drain_frames ();
    char topic[TOPIC_MAX + 1];
    for (int i = 0; i < 3000; i++) {
        snprintf (topic, sizeof topic, "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.%0*d", i % 200 + 1, i);
        (void) publish (p, topic, slice_of ("x"));
    }
    (void) fm_publisher_flush (p);
    zmq_msg_t message;
    struct fm_slice level;
    struct batch b;
    uint64_t next = PUBLISHER_BURST + 1;
    while (receive_batch (&message, &level, &b)) {
        assert_int_equal (b.first_seq, next);
        next = batch_end_seq (&b);
        assert_true (topic_is_under (level, slice_of ("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o")));
        zmq_msg_close (&message);
    }
    assert_int_equal (next, PUBLISHER_BURST + 3001);
    fm_publisher_close (&p);
}

static void facts_with_types_of_their_own_share_a_batch (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    for (int i = 0; i < PUBLISHER_BURST; i++)
        (void) publish (p, "warm", slice_of ("x"));
    (void) drain_frames ();
    static const char *const types[] = { "A", "B", "", "A" };
    for (int i = 0; i < 4; i++) {
        char type[8];               /* the caller's memory is gone before the batch leaves */
        strcpy (type, types[i]);
        const struct fm_fact fact = { .topic = slice_of ("t"), .type = slice_of (type), .content_type = slice_of (type), .time_ns = 1000 + (uint64_t) i };
        assert_int_equal (fm_publish (p, &fact, NULL), 0);
        memset (type, '!', sizeof type);
    }
    (void) fm_publisher_flush (p);
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    assert_true (receive_batch (&message, &topic, &b));
    struct batch_reader reader;
    struct fm_fact fact;
    batch_reader_init (&reader, &b);
    for (int i = 0; i < 4; i++) {
        assert_int_equal (batch_reader_next (&reader, &fact), 0);
        assert_true (slice_equal (fact.type, slice_of (types[i])) && slice_equal (fact.content_type, slice_of (types[i])));
        assert_int_equal (fact.time_ns, 1000 + i);
    }
    zmq_msg_close (&message);
    fm_publisher_close (&p);
}

static void what_is_malformed_or_too_large_is_refused_and_costs_no_sequence (void **state)
{
    (void) state;
    static char big[HEADER_BYTES_MAX * 2];
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .payload_max = 1000 });
    const struct {
        struct fm_fact fact;
        int rc;
    } bad[] = {
        { { .topic = slice_of ("") }, FM_ERR_TOPIC },
        { { .topic = slice_of ("a..b") }, FM_ERR_TOPIC },
        { { .topic = slice_of ("a.*") }, FM_ERR_TOPIC },
        { { .topic = slice (big, TOPIC_MAX + 1) }, FM_ERR_TOPIC },
        { { .topic = slice_of ("a"), .payload = slice (big, 1001) }, FM_ERR_TOO_LARGE },
        { { .topic = slice_of ("a"), .type = slice (big, TYPE_MAX + 1) }, FM_ERR_TOO_LARGE },
        { { .topic = slice_of ("a"), .content_type = slice (big, TYPE_MAX + 1) }, FM_ERR_TOO_LARGE },
        { { .topic = slice_of ("a"), .schema = slice (big, TYPE_MAX + 1) }, FM_ERR_TOO_LARGE },
        { { .topic = slice_of ("a"), .key = slice (big, KEY_MAX + 1) }, FM_ERR_TOO_LARGE },
        { { .topic = slice_of ("a"), .correlation = slice (big, CORRELATION_MAX + 1) }, FM_ERR_TOO_LARGE },
        { { .topic = slice_of ("a"), .identity = slice (big, IDENTITY_MAX + 1) }, FM_ERR_TOO_LARGE },
        { { .topic = slice_of ("a"), .headers = slice_of ("no header") }, FM_ERR_MALFORMED },
        { { .topic = slice_of ("a"), .blob = slice_of ("no blob") }, FM_ERR_MALFORMED },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal (fm_publish (p, &bad[i].fact, NULL), bad[i].rc);
    assert_int_equal (drain_frames (), 0);
    assert_int_equal (publish (p, "a", slice (big, 1000)), 1);
    assert_int_equal (fm_publish_text (p, "a", "text"), 0);
    assert_int_equal (fm_publish_text (p, NULL, "text"), FM_ERR_TOPIC);
    fm_publisher_close (&p);
}

/* ------------------------------------------------------------------ streams */

static void a_refused_incarnation_stops_publishing (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL), *q = open_publisher (NULL);
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = FACTMESH__ERROR_CODE__ERROR_STREAM_CONFLICT;
    error.stream = control_put_id (&p->identity.stream);
    error.text = control_put_slice (slice_of ("a copied data directory?"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    fake.wakes = 0;
    for (error.epoch = 2; error.epoch > 0; error.epoch--) {
        assert_int_equal (fm_publish_text (p, "a", "x"), 0);    /* that was another epoch's */
        fake.wakes = 0;
        (void) hand_over (&control, 'j');
    }
    assert_int_equal (fake.wakes, 1);
    assert_string_equal (fake.notice, "STREAM-CONFLICT");
    assert_int_equal (fm_publish_text (p, "a", "x"), FM_ERR_LOST);
    assert_non_null (strstr (fm_error_detail (), "a copied data directory?"));
    assert_int_equal (fm_publisher_wait_synced (p, 1, -1), FM_ERR_LOST);
    assert_int_equal (fm_publish_text (q, "a", "x"), 0);
    assert_true (publisher_tick (p, fake.now + 1) > fake.now + 1);         /* it says no more, and the thread sleeps */
    fm_publisher_close (&p);
    fm_publisher_close (&q);
}

static void a_stream_with_a_directory_goes_on_where_it_ended (void **state)
{
    (void) state;
    char root[] = "/tmp/factmesh-publisher-XXXXXX", directory[64], file[96];
    assert_non_null (mkdtemp (root));
    snprintf (directory, sizeof directory, "%s/d", root);
    const struct fm_publisher_options options = { .directory = directory };
    struct fm_publisher *p = open_publisher (&options), *q;
    const struct fm_id stream = p->identity.stream;
    for (uint64_t i = 1; i <= 5; i++)
        assert_int_equal (publish (p, "a", slice_of ("x")), i);
    assert_int_equal (fm_publisher_open (&fake, &options, &q), FM_ERR_IN_USE);
    fm_publisher_close (&p);
    (void) drain_frames ();

    p = open_publisher (&options);
    assert_true (id_equal (&stream, &p->identity.stream));
    assert_int_equal (fm_publisher_wait_synced (p, 0, 0), 0);      /* nothing was published in this epoch */
    assert_int_equal (publish (p, "b", slice_of ("x")), 6);
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    assert_true (receive_batch (&message, &topic, &b));
    assert_int_equal (b.epoch, 2);
    assert_int_equal (b.epoch_first_seq, 6);
    uint64_t prev = 0;
    assert_true (batch_prev (&b, slice_of ("b"), &prev));
    assert_int_equal (prev, 5);             /* an unknown level: all of the earlier epoch may be under it */
    zmq_msg_close (&message);

    /* Sequences are reserved well before they run out. */
    p->next_seq = p->window.next_seq = p->window.start_seq = p->reserved_end - 10;
    window_release (&p->window);
    window_init (&p->window, 1 << 20, p->next_seq);
    const uint64_t before = p->reserved_end;
    (void) publisher_tick (p, fake.now);
    assert_int_equal (p->reserved_end, before - 10 + IDENTITY_RESERVE_FIRST);
    fm_publisher_close (&p);
    static const char *const names[] = { "stream", "lock" };
    for (size_t i = 0; i < 2; i++) {
        snprintf (file, sizeof file, "%s/%s", directory, names[i]);
        assert_int_equal (unlink (file), 0);
    }
    assert_int_equal (rmdir (directory), 0);
    assert_int_equal (rmdir (root), 0);
}

static void bad_options_are_refused (void **state)
{
    (void) state;
    static const struct fm_publisher_options bad[] = {
        { .payload_max = PAYLOAD_MAX_LIMIT + 1 },
        { .when_full = (enum fm_when_full) 7 },
        { .batch_us = 2000000 },
        { .name = "a name that is longer than the sixty-three bytes that a name may have" },
    };
    struct fm_publisher *p = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal (fm_publisher_open (&fake, &bad[i], &p), FM_ERR_ARGUMENT);
    assert_null (p);
    p = open_publisher (NULL);
    assert_string_equal (p->name, "the-node");
    fm_publisher_close (&p);
    fm_publisher_close (&p);
}

enum { WRITERS = 4, EACH = 5000 };

static void *write_many (void *arg)
{
    for (int i = 0; i < EACH; i++) {
        if (fm_publish_text (arg, i % 3 ? "a.x" : "a.y", "payload"))
            return arg;
    }
    return NULL;
}

static void writers_in_many_threads_make_one_ordered_stream (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    pthread_t threads[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal (pthread_create (&threads[i], NULL, write_many, p), 0);
    for (int i = 0; i < WRITERS; i++) {
        void *failed;
        assert_int_equal (pthread_join (threads[i], &failed), 0);
        assert_null (failed);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    uint64_t next = 1;
    while (receive_batch (&message, &topic, &b)) {
        assert_int_equal (b.first_seq, next);
        next = batch_end_seq (&b);
        zmq_msg_close (&message);
    }
    assert_int_equal (next, WRITERS * EACH + 1);
    fm_publisher_close (&p);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_lone_fact_leaves_at_once_and_says_all),
        CASE (facts_without_a_token_share_a_frame_that_the_tick_sends),
        CASE (the_next_fact_with_a_token_takes_along_those_that_wait),
        CASE (in_a_flood_every_frame_is_full),
        CASE (the_thread_is_woken_once_not_for_each_fact),
        CASE (facts_never_share_when_told_so),
        CASE (flush_and_close_send_what_waits),
        CASE (a_storm_of_topics_arrives_whole_and_every_prev_is_true),
        CASE (a_frame_never_exceeds_its_limit_and_is_used_up),
        CASE (many_topics_split_into_batches_that_fit),
        CASE (facts_with_types_of_their_own_share_a_batch),
        CASE (what_is_malformed_or_too_large_is_refused_and_costs_no_sequence),
        CASE (a_refused_incarnation_stops_publishing),
        CASE (a_stream_with_a_directory_goes_on_where_it_ended),
        CASE (bad_options_are_refused),
        CASE (writers_in_many_threads_make_one_ordered_stream),
    };
    const int failed = cmocka_run_group_tests (tests, NULL, NULL);
    batch_scratch_release (&scratch);
    return failed;
}
