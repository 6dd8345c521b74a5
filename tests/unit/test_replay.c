/* Replay sessions against a real log, without sockets: every message goes through the wire's encoding and back. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/log_kit.h"
#include "error.h"
#include "replay.h"

enum { SEEN_MAX = 4096, STREAMS_MAX = 64 };

struct setting {
    char directory[128];
    struct log *log;
    struct kit_clock clock;
    struct log_options options;
    uint64_t monotonic_ns;
};

static uint64_t monotonic (void *context)
{
    return ((struct setting *) context)->monotonic_ns;
}

static uint64_t unix_time (void *context)
{
    return ((struct setting *) context)->clock.now_ns;
}

static struct setting *setting_of (void **state)
{
    return *state;
}

static int set_up (void **state)
{
    struct setting *s = calloc (1, sizeof *s);
    kit_directory (s->directory);
    kit_clock_init (&s->clock);
    s->monotonic_ns = 1000000000;
    s->options = (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20, .clock = &s->clock.clock };
    *state = s;
    return log_open (s->directory, &s->options, NULL, &s->log);
}

static int tear_down (void **state)
{
    struct setting *s = *state;
    log_destroy (&s->log);
    kit_remove (s->directory);
    free (s);
    return 0;
}

/* --- A session and all that it told. */

struct session {
    struct setting *setting;
    struct clock clock;
    struct replay *replay;
    struct replay_buffer buffer;
    struct replay_view view;
    size_t target;
    bool rests;                                 /* gives its reader back before every step */
    bool of_facts;                              /* batches of one fact are compared as facts: what lies around them is not theirs */
    uint64_t latest_end;

    enum replay_outcome last;
    unsigned messages;
    uint64_t next_offset, start_offset;
    bool has_start, caught_up;
    struct kit_batch_spec seen[SEEN_MAX];       /* compared with what was appended, byte for byte, when it came */
    size_t seen_count;
    struct replay_gap gaps[SEEN_MAX];
    size_t gap_count;
    struct replay_covered covered[STREAMS_MAX];
    size_t covered_count;
};

static uint64_t covered_of (const struct session *x, unsigned stream)
{
    const struct fm_id id = kit_stream (stream);
    for (size_t i = 0; i < x->covered_count; i++)
        if (id_equal (&x->covered[i].stream, &id))
            return x->covered[i].through;
    return UINT64_MAX;
}

static void note_covered (struct session *x, const struct replay_covered *c)
{
    for (size_t i = 0; i < x->covered_count; i++)
        if (id_equal (&x->covered[i].stream, &c->stream)) {
            assert_true (c->through >= x->covered[i].through);
            x->covered[i].through = c->through;
            return;
        }
    assert_true (x->covered_count < STREAMS_MAX);
    x->covered[x->covered_count++] = *c;
}

/* Which of the kit's batches is this? Its every byte must be that batch's. */
static void note_batch (struct session *x, struct fm_slice bytes)
{
    struct batch_scratch scratch = { 0 };
    struct batch b;
    assert_int_equal (batch_decode (bytes.data, bytes.len, slice_of ("test"), &scratch, &b), 0);
    struct kit_batch_spec spec = { .first_seq = b.first_seq, .count = b.count };
    for (unsigned i = 0; i < STREAMS_MAX && !spec.stream; i++) {
        const struct fm_id id = kit_stream (i);
        if (id_equal (&id, &b.stream))
            spec.stream = i;
    }
    char topics[512] = "";
    for (uint32_t i = 0; i < b.topic_count; i++)
        (void) snprintf (topics + strlen (topics), sizeof topics - strlen (topics), "%s%.*s", i ? "|" : "", (int) b.topics[i].name.len,
                         (const char *) b.topics[i].name.data);
    spec.topic = topics;
    spec.epoch = b.epoch;
    struct batch_reader reader;
    struct fm_fact fact;
    batch_reader_init (&reader, &b);
    assert_int_equal (batch_reader_next (&reader, &fact), 0);
    spec.payload_len = fact.payload.len;
    struct kit_batch made;
    kit_batch_make (&spec, &made);
    if (x->of_facts && b.count == 1) {
        struct fm_fact same;
        batch_reader_init (&reader, &made.batch);
        assert_int_equal (batch_reader_next (&reader, &same), 0);
        assert_true (slice_equal (fact.payload, same.payload) && slice_equal (fact.topic, same.topic) && slice_equal (fact.key, same.key));
    } else {
        assert_int_equal (made.len, bytes.len);
        assert_memory_equal (made.bytes, bytes.data, bytes.len);
    }
    kit_batch_release (&made);
    batch_scratch_release (&scratch);
    spec.topic = NULL;
    assert_true (x->seen_count < SEEN_MAX);
    x->seen[x->seen_count++] = spec;
}

static void note_message (struct session *x, const struct replay_header *header)
{
    zmq_msg_t message;
    assert_int_equal (replay_data_encode (header, slice_of ("test"), slice (x->buffer.fields, x->buffer.len), &message), 0);
    assert_int_equal (replay_data_decode (zmq_msg_data (&message), zmq_msg_size (&message), slice_of ("test"), &x->view), 0);
    const struct replay_view *v = &x->view;
    x->messages++;
    if (v->has_start) {
        assert_false (x->has_start);
        x->has_start = true;
        x->start_offset = v->start_offset;
    }
    assert_true (v->header.next_offset >= x->next_offset);
    x->next_offset = v->header.next_offset;
    x->caught_up = v->header.caught_up;
    x->latest_end = v->header.latest_end;
    struct fm_slice bytes;
    while (replay_view_next (&x->view, &bytes) == 0)
        note_batch (x, bytes);
    for (size_t i = 0; i < v->header.gap_count; i++)
        x->gaps[x->gap_count++] = v->gaps[i];
    for (size_t i = 0; i < v->header.covered_count; i++)
        note_covered (x, &v->covered[i]);
    zmq_msg_close (&message);
}

/* Step until nothing more comes. */
static void run (struct session *x)
{
    for (unsigned n = 0; n < 100000; n++) {
        struct replay_header header;
        if (x->rests)
            replay_rest (x->replay);
        assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
        if (x->last == REPLAY_STEP_MESSAGE)
            note_message (x, &header);
        else if (x->last != REPLAY_STEP_MORE)
            return;
    }
    fail_msg ("the session does not end");
}

/* An index that says which offsets are newest facts, `rows` a page; it knows of what lies below `next`. */
struct fake_index {
    struct replay_index index;
    uint64_t next;
    const uint64_t *offsets;
    const char *const *topics;                  /* NULL: "a.b" each */
    size_t count, rows;
};

static int fake_page (void *context, uint64_t from, uint64_t end, bool (*each) (void *arg, struct fm_slice topic, uint64_t offset), void *arg,
                      uint64_t *ret_next)
{
    const struct fake_index *f = context;
    size_t told = 0;
    if (f->next < end)
        return -EAGAIN;
    for (size_t i = 0; i < f->count; i++) {
        if (f->offsets[i] < from || f->offsets[i] >= end)
            continue;
        if (!each (arg, slice_of (f->topics ? f->topics[i] : "a.b"), f->offsets[i]))
            return 0;
        if (++told == f->rows) {
            *ret_next = f->offsets[i] + 1;
            return 0;
        }
    }
    *ret_next = end;
    return 0;
}

static struct fake_index fake_index_of (const uint64_t *offsets, size_t count)
{
    return (struct fake_index) { .index = { .page = fake_page }, .next = UINT64_MAX, .offsets = offsets, .count = count, .rows = 3 };
}

static const struct replay_index *test_index;   /* of the sessions that are opened */

static int try_open (struct setting *s, const Factmesh__ReplayOpen *open, const Factmesh__Cursor *named, struct session **ret_session)
{
    struct replay_request q;
    int rc = replay_request_check (open, &q);
    if (rc)
        return rc;
    if (named)
        q.cursor = named;
    q.index = test_index;
    struct session *x = calloc (1, sizeof *x);
    x->setting = s;
    x->clock = (struct clock) { .context = s, .unix_ns = unix_time, .monotonic_ns = monotonic };
    x->target = q.message_bytes;
    rc = replay_new (s->log, &x->clock, &q, &x->replay);
    if (rc) {
        free (x);
        return rc;
    }
    *ret_session = x;
    return 0;
}

static struct session *open_session (struct setting *s, const Factmesh__ReplayOpen *open)
{
    struct session *x = NULL;
    assert_int_equal (try_open (s, open, NULL, &x), 0);
    return x;
}

static void close_session (struct session *x)
{
    replay_destroy (&x->replay);
    replay_buffer_release (&x->buffer);
    replay_view_release (&x->view);
    free (x);
}

static Factmesh__ReplayOpen from_offset (uint64_t offset)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 7;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_OFFSET;
    open.from_offset = offset;
    return open;
}

static void follow (Factmesh__ReplayOpen *open)
{
    open->end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open->follow = true;
}

/* n batches of each of the streams 1 to `streams`, by turns. */
static void append_turns (struct setting *s, unsigned streams, unsigned n, uint32_t count, size_t payload_len, const char *topic, uint64_t from)
{
    for (unsigned i = 0; i < n; i++)
        for (unsigned stream = 1; stream <= streams; stream++) {
            const struct kit_batch_spec spec = {
                .stream = stream, .first_seq = from + (uint64_t) i * count, .count = count, .payload_len = payload_len, .topic = topic
            };
            kit_append_batch (s->log, &spec);
        }
    kit_sync (s->log);
}

/* --- The cases. */

static void all_that_was_recorded_comes_as_it_was (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 3, 200, 5, 2000, NULL, 1);      /* about 6 MB: several segments */
    Factmesh__ReplayOpen open = from_offset (0);
    open.message_bytes = 64 << 10;
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 600);
    uint64_t next[4] = { 0, 1, 1, 1 };
    for (size_t i = 0; i < x->seen_count; i++) {
        assert_int_equal (x->seen[i].first_seq, next[x->seen[i].stream]);
        next[x->seen[i].stream] += x->seen[i].count;
    }
    for (unsigned stream = 1; stream <= 3; stream++)
        assert_int_equal (covered_of (x, stream), 1000);
    assert_true (x->messages > 50);
    assert_int_equal (x->start_offset, 1);
    assert_int_equal (x->next_offset, 3001);
    assert_true (x->caught_up);
    assert_int_equal (x->gap_count, 0);
    close_session (x);
}

static void a_session_that_rests_between_steps_sends_the_same (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 3, 200, 5, 2000, "a.b", 1);
    append_turns (s, 3, 200, 5, 200, "c.d|a.b", 1001);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("a.>")) };
    Factmesh__ReplayOpen open = from_offset (7);
    open.n_filters = 1;
    open.filters = filters;
    open.message_bytes = 32 << 10;
    struct session *plain = open_session (s, &open), *resting = open_session (s, &open);
    resting->rests = true;
    run (plain);
    run (resting);
    assert_int_equal (resting->last, REPLAY_STEP_DONE);
    assert_int_equal (resting->seen_count, plain->seen_count);
    for (size_t i = 0; i < plain->seen_count; i++) {
        assert_int_equal (resting->seen[i].stream, plain->seen[i].stream);
        assert_int_equal (resting->seen[i].first_seq, plain->seen[i].first_seq);
    }
    for (unsigned stream = 1; stream <= 3; stream++)
        assert_int_equal (covered_of (resting, stream), 2000);
    assert_int_equal (resting->next_offset, plain->next_offset);
    close_session (plain);
    close_session (resting);
}

/* The facts of a topic that a session sends, one after the other: stream and sequence; returns how many. */
struct fact_list {
    struct { uint64_t seq; unsigned stream; } items[SEEN_MAX];
    size_t count, bytes;
};

static void list_batch (struct fact_list *list, struct fm_slice bytes, const char *topic)
{
    struct batch_scratch scratch = { 0 };
    struct batch b;
    struct batch_reader reader;
    struct fm_fact fact;
    list->bytes += bytes.len;
    assert_int_equal (batch_decode (bytes.data, bytes.len, slice_of ("test"), &scratch, &b), 0);
    assert_int_equal (batch_check_facts (&b), 0);
    batch_reader_init (&reader, &b);
    while (batch_reader_next (&reader, &fact) == 0) {
        if (!slice_equal (fact.topic, slice_of (topic)))
            continue;
        assert_true (list->count < SEEN_MAX);
        list->items[list->count].seq = fact.id.seq;
        for (unsigned i = 0; i < STREAMS_MAX; i++) {
            const struct fm_id id = kit_stream (i);
            if (id_equal (&id, &b.stream))
                list->items[list->count].stream = i;
        }
        list->count++;
    }
    batch_scratch_release (&scratch);
}

static void list_facts (struct setting *s, const Factmesh__ReplayOpen *open, bool rests, const char *topic, struct fact_list *ret_list)
{
    struct session *x = open_session (s, open);
    *ret_list = (struct fact_list) { .count = 0 };
    for (;;) {
        struct replay_header header;
        if (rests)
            replay_rest (x->replay);
        assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
        if (x->last == REPLAY_STEP_DONE)
            break;
        if (x->last != REPLAY_STEP_MESSAGE)
            continue;
        zmq_msg_t message;
        struct fm_slice bytes;
        assert_int_equal (replay_data_encode (&header, slice_of ("test"), slice (x->buffer.fields, x->buffer.len), &message), 0);
        assert_int_equal (replay_data_decode (zmq_msg_data (&message), zmq_msg_size (&message), slice_of ("test"), &x->view), 0);
        while (replay_view_next (&x->view, &bytes) == 0)
            list_batch (ret_list, bytes, topic);
        for (size_t i = 0; i < header.covered_count; i++)
            note_covered (x, &header.covered[i]);
        zmq_msg_close (&message);
    }
    for (unsigned stream = 1; stream <= 2; stream++)
        assert_int_equal (covered_of (x, stream), 1200);
    close_session (x);
}

static void who_allows_it_is_sent_what_matches_and_little_else (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 2, 20, 60, 1000, "a.b|c.d|e.f", 1);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("c.*")) };
    static struct fact_list whole, cut, rested;
    Factmesh__ReplayOpen open = from_offset (31);
    open.n_filters = 1;
    open.filters = filters;
    open.message_bytes = 16 << 10;
    list_facts (s, &open, false, "c.d", &whole);
    open.may_cut = true;
    list_facts (s, &open, false, "c.d", &cut);
    list_facts (s, &open, true, "c.d", &rested);
    assert_int_equal (whole.count, 2 * 20 * 60 / 3);
    assert_int_equal (cut.count, whole.count);
    assert_int_equal (rested.count, whole.count);
    assert_memory_equal (cut.items, whole.items, whole.count * sizeof whole.items[0]);
    assert_memory_equal (rested.items, whole.items, whole.count * sizeof whole.items[0]);
    assert_true (cut.bytes < whole.bytes / 2);
    filters[0] = control_put_slice (slice_of (">"));
    list_facts (s, &open, false, "c.d", &rested);       /* all match: as they were */
    assert_int_equal (rested.bytes, whole.bytes);
}

static void what_is_not_synced_is_not_sent (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 1, 1, 5, 10, NULL, 1);
    const struct kit_batch_spec unsynced = { .stream = 1, .first_seq = 6, .count = 1 };
    kit_append_batch (s->log, &unsynced);
    assert_int_equal (log_write (s->log), 0);
    Factmesh__ReplayOpen open = from_offset (1);
    follow (&open);
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_WAIT);
    assert_int_equal (x->seen_count, 1);
    assert_int_equal (covered_of (x, 1), 5);
    kit_sync (s->log);
    run (x);
    assert_int_equal (x->seen_count, 2);
    assert_int_equal (covered_of (x, 1), 6);
    close_session (x);
}

static void filters_leave_out_batches_and_covered_says_so (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 2, 50, 2, 10, "orders.placed", 1);
    append_turns (s, 2, 50, 2, 10, "stock.low", 101);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("stock.>")) };
    Factmesh__ReplayOpen open = from_offset (0);
    open.n_filters = 1;
    open.filters = filters;
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->seen_count, 100);
    for (size_t i = 0; i < x->seen_count; i++)
        assert_true (x->seen[i].first_seq >= 101);
    assert_int_equal (covered_of (x, 1), 200);
    assert_int_equal (covered_of (x, 2), 200);
    close_session (x);
}

/* The reader leaves out other streams' records: the end may lie behind them. */
static void a_session_of_one_stream_ends_where_the_journal_did (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 3, 200, 5, 2000, NULL, 1);
    struct log_position at;
    log_position (s->log, &at);
    for (unsigned stream = 1; stream <= 4; stream++) {
        const struct fm_id id = kit_stream (stream);    /* nobody has published as the last */
        Factmesh__ReplayOpen open = from_offset (0);
        open.stream = control_put_id (&id);
        open.end_case = FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED;
        open.end_at_synced = 1;
        struct session *x = open_session (s, &open);
        run (x);
        assert_int_equal (x->last, REPLAY_STEP_DONE);
        assert_int_equal (x->seen_count, stream <= 3 ? 200 : 0);
        close_session (x);
        open.end_case = FACTMESH__REPLAY_OPEN__END_END_OFFSET;
        open.end_offset = at.synced_offset;
        x = open_session (s, &open);
        x->rests = true;
        run (x);
        assert_int_equal (x->last, REPLAY_STEP_DONE);
        close_session (x);
    }
}

static void facts_that_do_not_match_move_covered_at_a_bounded_rate (void **state)
{
    struct setting *s = setting_of (state);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("nothing.here")) };
    Factmesh__ReplayOpen open = from_offset (0);
    open.n_filters = 1;
    open.filters = filters;
    follow (&open);
    struct session *x = open_session (s, &open);
    run (x);
    const unsigned before = x->messages;
    for (unsigned i = 0; i < 100; i++) {
        append_turns (s, 1, 1, 1, 10, NULL, 1 + i);
        run (x);
    }
    assert_int_equal (x->messages, before);         /* no time passed */
    assert_true (replay_due (x->replay) < UINT64_MAX);
    s->monotonic_ns = replay_due (x->replay);
    run (x);
    assert_int_equal (x->messages, before + 1);
    assert_int_equal (covered_of (x, 1), 100);
    close_session (x);
}

static void a_start_at_the_end_says_how_far_every_stream_is (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 40, 3, 2, 10, NULL, 1);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_END;
    open.from_end = true;
    follow (&open);
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->seen_count, 0);
    assert_true (x->has_start && x->caught_up);
    assert_int_equal (x->start_offset, 241);
    for (unsigned stream = 1; stream <= 40; stream++)
        assert_int_equal (covered_of (x, stream), 6);
    append_turns (s, 1, 1, 4, 10, NULL, 7);
    run (x);
    assert_int_equal (x->seen_count, 1);
    assert_int_equal (x->seen[0].first_seq, 7);
    close_session (x);
}

static void a_start_within_a_batch_says_what_lies_before_it (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 1, 2, 10, 10, NULL, 1);
    Factmesh__ReplayOpen open = from_offset (14);
    struct session *x = open_session (s, &open);
    struct replay_header header;
    enum replay_outcome outcome;
    assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &outcome, &header), 0);
    assert_int_equal (outcome, REPLAY_STEP_MESSAGE);
    note_message (x, &header);
    assert_int_equal (x->seen_count, 0);            /* before its batch */
    assert_int_equal (covered_of (x, 1), 13);
    run (x);
    assert_int_equal (x->seen_count, 1);
    assert_int_equal (x->seen[0].first_seq, 11);
    assert_int_equal (covered_of (x, 1), 20);
    close_session (x);
}

static void a_start_at_a_time_begins_with_what_was_recorded_then (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 2, 4, 1, 10, NULL, 1);
    s->clock.now_ns += 1000000000;
    const uint64_t then = s->clock.now_ns;
    append_turns (s, 1, 4, 1, 10, NULL, 5);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS;
    open.from_time_ns = then;
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->seen_count, 4);
    assert_int_equal (x->seen[0].first_seq, 5);
    assert_int_equal (covered_of (x, 2), 4);        /* ended before: told all the same */
    close_session (x);

    open = from_offset (0);
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_TIME_NS;
    open.end_time_ns = then;
    x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 8);
    close_session (x);
}

/* The facts of the seen batches above what the session said lies before its start, that match. */
static uint64_t facts_after_start (const struct session *x, uint64_t before)
{
    uint64_t facts = 0;
    for (size_t i = 0; i < x->seen_count; i++)
        for (uint64_t seq = x->seen[i].first_seq; seq < x->seen[i].first_seq + x->seen[i].count; seq++)
            facts += seq > before;
    return facts;
}

static void the_last_n_facts_are_exactly_n (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 1, 3000, 3, 10, "a.b", 1);
    const uint64_t wants[] = { 1, 2, 3, 4, 100, 1500, 5000, 8999, 9000, 20000 };
    for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        open.start_case = FACTMESH__REPLAY_OPEN__START_LAST_COUNT;
        open.last_count = wants[i];
        struct session *x = open_session (s, &open);
        struct replay_header header;
        do
            assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
        while (x->last == REPLAY_STEP_MORE);
        note_message (x, &header);
        const uint64_t before = covered_of (x, 1) == UINT64_MAX ? x->start_offset - 1 : covered_of (x, 1);
        run (x);
        assert_int_equal (facts_after_start (x, before), wants[i] < 9000 ? wants[i] : 9000);
        close_session (x);
    }
}

static void the_last_n_that_match_are_found_among_many_that_do_not (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 1, 5, 2, 10, "rare.one|common", 1);           /* facts alternate: seqs 1 3 5 7 9 are rare */
    append_turns (s, 1, 4000, 3, 10, "common", 11);
    ProtobufCBinaryData filters[] = { control_put_slice (slice_of ("rare.*")) };
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_LAST_COUNT;
    open.last_count = 2;
    open.n_filters = 1;
    open.filters = filters;
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->start_offset, 7);          /* offsets equal sequences here: 7 and 9 */
    assert_int_equal (x->seen_count, 2);
    close_session (x);

    filters[0] = control_put_slice (slice_of ("never"));
    x = open_session (s, &open);
    run (x);
    assert_int_equal (x->start_offset, 12011);      /* none: the end */
    assert_int_equal (x->seen_count, 0);
    assert_int_equal (covered_of (x, 1), 12010);
    close_session (x);
}

static Factmesh__ReplayOpen range (const struct fm_id *stream, uint64_t from, uint64_t end)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.stream = control_put_id (stream);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = from;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = end;
    return open;
}

static void a_range_of_one_stream_is_that_range (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 3, 300, 4, 900, NULL, 1);
    const struct fm_id stream = kit_stream (2);
    Factmesh__ReplayOpen open = range (&stream, 402, 810);
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen[0].first_seq, 401);
    assert_int_equal (x->seen[x->seen_count - 1].first_seq, 809);
    assert_int_equal (x->seen_count, 103);
    for (size_t i = 0; i < x->seen_count; i++)
        assert_int_equal (x->seen[i].stream, 2);
    close_session (x);
}

static void a_range_that_is_not_there_yet_is_waited_for (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 1, 2, 5, 10, NULL, 1);
    const struct fm_id stream = kit_stream (1), unknown = kit_stream (9);
    Factmesh__ReplayOpen open = range (&stream, 11, 16);
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_WAIT);
    assert_true (x->caught_up);                     /* not yet */
    assert_int_equal (x->seen_count, 0);
    append_turns (s, 2, 1, 5, 10, NULL, 11);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 1);
    assert_int_equal (x->seen[0].first_seq, 11);
    close_session (x);

    open = range (&unknown, 1, 3);
    x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_WAIT);
    assert_true (x->caught_up);
    const struct kit_batch_spec spec = { .stream = 9, .first_seq = 1, .count = 4 };
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->seen_count, 1);
    close_session (x);
}

static void recorded_gaps_are_told_with_their_reason (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 1, 1, 5, 10, NULL, 1);
    const struct fm_id stream = kit_stream (1);
    uint64_t offset;
    assert_int_equal (log_append_gap (s->log, &stream, 6, 20, FACTMESH__GAP_REASON__GAP_VOID, &offset), 0);
    append_turns (s, 1, 1, 5, 10, NULL, 20);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->seen_count, 2);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].first_seq, 6);
    assert_int_equal (x->gaps[0].end_seq, 20);
    assert_int_equal (x->gaps[0].reason, FACTMESH__GAP_REASON__GAP_VOID);
    assert_int_equal (covered_of (x, 1), 24);
    close_session (x);

    open = range (&stream, 8, 18);
    x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->seen_count, 0);
    close_session (x);
}

/* Retention drops the first segments. */
static uint64_t expire (struct setting *s)
{
    struct log_options o = s->options;
    log_destroy (&s->log);
    o.retain_bytes = 2 << 20;
    assert_int_equal (log_open (s->directory, &o, NULL, &s->log), 0);
    uint64_t first_offset;
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_true (first_offset > 1);
    return first_offset;
}

static void what_expired_is_told_per_stream_from_the_beginning (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 2, 1000, 1, 3000, NULL, 1);
    const uint64_t first_offset = expire (s);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->gap_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_false (id_is_zero (&x->gaps[i].stream));
        assert_int_equal (x->gaps[i].first_seq, 1);
        assert_int_equal (x->gaps[i].reason, FACTMESH__GAP_REASON__GAP_EXPIRED);
        assert_true (x->gaps[i].end_seq == first_offset / 2 + 1 || x->gaps[i].end_seq == first_offset / 2);
    }
    /* The gap and the facts together are the whole stream. */
    uint64_t next[3] = { 0 };
    for (size_t i = 0; i < 2; i++) {
        const struct fm_id one = kit_stream (1);
        next[id_equal (&x->gaps[i].stream, &one) ? 1 : 2] = x->gaps[i].end_seq;
    }
    for (size_t i = 0; i < x->seen_count; i++)
        assert_int_equal (x->seen[i].first_seq, next[x->seen[i].stream]++);
    assert_int_equal (next[1], 1001);
    assert_int_equal (next[2], 1001);
    close_session (x);

    /* From a place in the midst that expired: the offsets are told, which are exact. */
    open = from_offset (10);
    x = open_session (s, &open);
    run (x);
    assert_int_equal (x->gap_count, 1);
    assert_true (id_is_zero (&x->gaps[0].stream));
    assert_int_equal (x->gaps[0].first_seq, 10);
    assert_int_equal (x->gaps[0].end_seq, first_offset);
    close_session (x);

    /* A range: exactly what is asked for. */
    const struct fm_id stream = kit_stream (1);
    open = range (&stream, 3, 9);
    x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].first_seq, 3);
    assert_int_equal (x->gaps[0].end_seq, 9);
    close_session (x);
}

static void a_cursor_leaves_out_what_its_positions_say_is_done (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 2, 10, 2, 10, NULL, 1);
    struct fm_id journal, one = kit_stream (1), two = kit_stream (2);
    uint64_t generation;
    log_identity (s->log, &journal, &generation);
    Factmesh__StreamPosition a = FACTMESH__STREAM_POSITION__INIT, b = FACTMESH__STREAM_POSITION__INIT, *positions[] = { &a, &b };
    a.stream = control_put_id (&two);
    a.seq = 17;                                     /* in the midst of a batch: it comes again, and the asker takes what is above */
    b.stream = control_put_id (&one);
    b.seq = 6;
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&journal);
    cursor.generation = generation;
    cursor.offset = 5;
    cursor.n_positions = 2;
    cursor.positions = positions;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR;
    open.from_cursor = &cursor;
    struct session *x = open_session (s, &open);
    run (x);
    unsigned count[3] = { 0 };
    for (size_t i = 0; i < x->seen_count; i++) {
        count[x->seen[i].stream]++;
        assert_true (x->seen[i].first_seq + x->seen[i].count - 1 > (x->seen[i].stream == 1 ? 6 : 17));
    }
    assert_int_equal (count[1], 7);
    assert_int_equal (count[2], 2);
    assert_int_equal (covered_of (x, 1), 20);
    assert_int_equal (covered_of (x, 2), 20);
    close_session (x);

    cursor.generation++;
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_GENERATION);
    assert_non_null (strstr (fm_error_detail (), "generation"));
}

static void sort_positions (struct fold_position *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = i + 1; k < count; k++)
            if (memcmp (items[k].stream.bytes, items[i].stream.bytes, ID_LEN) < 0) {
                const struct fold_position swap = items[i];
                items[i] = items[k];
                items[k] = swap;
            }
}

/* From nothing recent to all of it: the same places come out. */
static void a_cursor_folds_over_what_is_done (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 3, 10, 2, 10, NULL, 1);        /* offsets: turn by turn, 2 each */
    struct log_reader *reader;
    assert_int_equal (log_reader_new (s->log, &reader), 0);
    for (uint64_t recent_from = 1; recent_from <= 61; recent_from += 2) {
        struct recent *recent;
        assert_int_equal (recent_new (&recent), 0);
        for (uint64_t offset = recent_from; offset < 61; offset += 2) {
            const uint64_t batch = (offset - 1) / 2;
            const struct recent_record r = { .stream = kit_stream ((unsigned) (1 + batch % 3)), .first_seq = 1 + batch / 3 * 2, .end_seq = 3 + batch / 3 * 2,
                                             .offset = offset, .end_offset = offset + 2 };
            recent_add (recent, &r);
        }
        struct fold_position items[] = { { kit_stream (1), 8 }, { kit_stream (2), 8 }, { kit_stream (3), 5 } };
        sort_positions (items, 3);
        struct fold_positions p = { items, 3 };
        uint64_t base;
        assert_int_equal (fold_base (reader, recent, &p, 1, 61, &base), 0);
        assert_int_equal (base, 2 * 6 + 4 + 2);     /* turns 1 and 2, then streams 1 and 2, then the first fact of stream 3's batch 5..6 */
        fold_trim (&p, s->log, base);
        assert_int_equal (p.count, 3);              /* all of them say something above the base */
        for (size_t i = 0; i < p.count; i++)
            p.items[i].seq = 20;
        uint64_t limited;
        assert_int_equal (fold_base (reader, recent, &p, base, 61, &base), 0);
        assert_int_equal (base, 61);
        if (recent_from == 1) {                     /* not above the synced end */
            assert_int_equal (fold_base (reader, recent, &p, 1, 21, &limited), 0);
            assert_int_equal (limited, 21);
        }
        fold_trim (&p, s->log, base);
        assert_int_equal (p.count, 0);
        recent_destroy (&recent);
    }
    log_reader_destroy (&reader);
}

static void what_is_recent_gives_way_and_never_bridges_a_hole (void **state)
{
    (void) state;
    struct recent *recent;
    struct recent_record page[8];
    assert_int_equal (recent_new (&recent), 0);
    const struct fm_id stream = kit_stream (1);
    for (uint64_t i = 1; i <= RECENT_RECORDS + 100; i++) {
        const struct recent_record r = { .stream = stream, .first_seq = i, .end_seq = i + 1, .offset = i, .end_offset = i + 1 };
        recent_add (recent, &r);
    }
    assert_int_equal (recent_copy (recent, 100, page, 8), 0);
    assert_int_equal (recent_copy (recent, 101, page, 8), 8);
    assert_int_equal (page[0].offset, 101);
    assert_int_equal (recent_copy (recent, RECENT_RECORDS + 100, page, 8), 1);
    assert_int_equal (recent_copy (recent, RECENT_RECORDS + 101, page, 8), 0);
    const struct recent_record behind = { .stream = stream, .first_seq = 1, .end_seq = 5, .offset = RECENT_RECORDS + 200,
                                          .end_offset = RECENT_RECORDS + 204 };
    recent_add (recent, &behind);
    assert_int_equal (recent_copy (recent, RECENT_RECORDS + 100, page, 8), 0);
    assert_int_equal (recent_copy (recent, RECENT_RECORDS + 202, page, 8), 1);
    recent_destroy (&recent);
}

static void requests_that_make_no_sense_are_refused_with_a_reason (void **state)
{
    struct setting *s = setting_of (state);
    struct session *x;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = 4;
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_ARGUMENT);

    open = from_offset (0);
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = 4;
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_ARGUMENT);

    const struct fm_id stream = kit_stream (1);
    open = range (&stream, 5, 5);
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_ARGUMENT);
    open.stream.len = 15;
    open.end_seq = 9;
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_MALFORMED);

    ProtobufCBinaryData filters[FILTERS_MAX + 1];
    for (size_t i = 0; i <= FILTERS_MAX; i++)
        filters[i] = control_put_slice (slice_of ("a"));
    open = from_offset (0);
    open.filters = filters;
    open.n_filters = FILTERS_MAX + 1;
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_LIMIT);
    filters[0] = control_put_slice (slice_of ("a..b"));
    open.n_filters = 1;
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_TOPIC);
}

static void a_batch_larger_than_a_message_goes_alone (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 1, 2, 1, 100, NULL, 1);
    append_turns (s, 1, 1, 1, 3 << 20, NULL, 3);
    append_turns (s, 1, 2, 1, 100, NULL, 4);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->seen_count, 5);
    assert_int_equal (covered_of (x, 1), 5);
    close_session (x);
}

/* A damaged record: the range is told, the rest comes. */
static void damage_is_told_as_a_gap_with_the_exact_range (void **state)
{
    struct setting *s = setting_of (state);
    append_turns (s, 2, 100, 2, 200, NULL, 1);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    char path[256];
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, 40000);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    Factmesh__ReplayOpen open = from_offset (0);
    struct session *x = open_session (s, &open);
    run (x);
    assert_int_equal (x->seen_count, 199);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
    assert_false (id_is_zero (&x->gaps[0].stream));
    assert_int_equal (x->gaps[0].end_seq - x->gaps[0].first_seq, 2);
    const struct fm_id stream = x->gaps[0].stream;
    const uint64_t first = x->gaps[0].first_seq;
    close_session (x);

    open = range (&stream, first, first + 2);
    x = open_session (s, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_DONE);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].first_seq, first);
    assert_int_equal (x->gaps[0].end_seq, first + 2);
    close_session (x);
}

/* --- The newest of each key. */

static Factmesh__ReplayOpen from_latest (Factmesh__Cursor *cursor, uint64_t end)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 7;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_LATEST;
    open.from_latest = cursor;
    open.latest_end = end;
    follow (&open);
    return open;
}

static struct session *open_latest (struct setting *s, struct fake_index *index, Factmesh__ReplayOpen *open)
{
    index->index.context = index;
    test_index = &index->index;
    struct session *x = open_session (s, open);
    test_index = NULL;
    x->of_facts = true;
    return x;
}

static void assert_fact (const struct session *x, size_t i, unsigned stream, uint64_t seq)
{
    assert_true (i < x->seen_count);
    assert_int_equal (x->seen[i].stream, stream);
    assert_int_equal (x->seen[i].first_seq, seq);
    assert_int_equal (x->seen[i].count, 1);
}

/* Offsets 1 to 80: of two streams, batches of four by turns. */
static void newest_facts_come_first_and_alone_then_all_that_comes (void **state)
{
    struct setting *s = setting_of (state);
    static const uint64_t offsets[] = { 2, 4, 5, 16, 33, 34, 80 };
    struct fake_index index = fake_index_of (offsets, 7);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    append_turns (s, 2, 10, 4, 100, NULL, 1);
    for (unsigned round = 0; round < 3; round++) {
        struct session *x = open_latest (s, &index, &open);
        x->rests = round == 1;
        x->target = round == 2 ? 1 : x->target;     /* a fact a message */
        run (x);
        assert_int_equal (x->last, REPLAY_STEP_WAIT);
        assert_true (x->caught_up && x->latest_end == 0);
        assert_int_equal (x->seen_count, 7);
        assert_fact (x, 0, 1, 2);
        assert_fact (x, 1, 1, 4);
        assert_fact (x, 2, 2, 1);
        assert_fact (x, 3, 2, 8);
        assert_fact (x, 4, 1, 17);
        assert_fact (x, 5, 1, 18);
        assert_fact (x, 6, 2, 40);
        assert_int_equal (covered_of (x, 1), 40 + 4 * round);
        assert_int_equal (covered_of (x, 2), 40);
        assert_int_equal (x->next_offset, 81 + 4 * round);
        assert_int_equal (x->gap_count, 0);
        const struct kit_batch_spec more = { .stream = 1, .first_seq = 41 + 4 * round, .count = 4, .payload_len = 100 };
        kit_append_batch (s->log, &more);
        kit_sync (s->log);
        run (x);
        assert_int_equal (x->seen_count, 8);
        assert_int_equal (x->seen[7].first_seq, 41 + 4 * round);
        assert_int_equal (x->seen[7].count, 4);
        close_session (x);
    }
}

/* The session is lost after each message in turn, more is recorded, and it goes on from a cursor: nothing is missing, nothing comes twice, and what was
 * recorded since the first session began comes whole. */
static void newest_facts_go_on_at_a_cursor_up_to_the_same_end (void **state)
{
    struct setting *s = setting_of (state);
    static const uint64_t offsets[] = { 2, 4, 5, 16, 33, 34, 80 };
    static const struct { unsigned stream; uint64_t seq; } facts[] = { { 1, 2 }, { 1, 4 }, { 2, 1 }, { 2, 8 }, { 1, 17 }, { 1, 18 }, { 2, 40 } };
    append_turns (s, 2, 10, 4, 100, NULL, 1);
    for (size_t lost = 1; lost <= 7; lost++) {
        struct fake_index index = fake_index_of (offsets, 7);
        Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
        Factmesh__ReplayOpen open = from_latest (&cursor, 0);
        struct session *x = open_latest (s, &index, &open);
        x->target = 1;
        while (x->seen_count < lost) {
            struct replay_header header;
            assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
            if (x->last == REPLAY_STEP_MESSAGE)
                note_message (x, &header);
        }
        const uint64_t end = x->latest_end ? x->latest_end : x->next_offset, next = x->next_offset;
        assert_true (lost == 7 || next == offsets[lost - 1] + 1);
        struct fm_id journal;
        log_identity (s->log, &journal, &cursor.generation);
        cursor.major = PROTO_MAJOR;
        cursor.journal = control_put_id (&journal);
        cursor.offset = next;
        close_session (x);
        const struct kit_batch_spec more = { .stream = 1, .first_seq = 37 + 4 * lost, .count = 4, .payload_len = 100 };
        kit_append_batch (s->log, &more);
        kit_sync (s->log);

        open = from_latest (&cursor, end);
        x = open_latest (s, &index, &open);
        run (x);
        assert_int_equal (x->seen_count, 7 - lost + 1);
        for (size_t i = lost; i < 7; i++)
            assert_fact (x, i - lost, facts[i].stream, facts[i].seq);
        assert_int_equal (x->seen[7 - lost].count, 4);
        assert_int_equal (x->seen[7 - lost].first_seq, 37 + 4 * lost);
        close_session (x);

        /* In the midst of a message: what the positions say is done does not come again. */
        const struct fm_id one = kit_stream (1);
        Factmesh__StreamPosition position = FACTMESH__STREAM_POSITION__INIT, *positions[] = { &position };
        position.stream = control_put_id (&one);
        position.seq = 18;
        cursor.offset = 1;
        cursor.positions = positions;
        cursor.n_positions = 1;
        x = open_latest (s, &index, &open);
        run (x);
        assert_fact (x, 0, 2, 1);
        assert_fact (x, 1, 2, 8);
        assert_fact (x, 2, 2, 40);
        assert_int_equal (x->seen_count, 4);
        close_session (x);

        cursor.generation++;
        test_index = &index.index;
        assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_GENERATION);
        test_index = NULL;
    }
}

static void an_index_that_is_behind_is_waited_for (void **state)
{
    struct setting *s = setting_of (state);
    static const uint64_t offsets[] = { 3 };
    struct fake_index index = fake_index_of (offsets, 1);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    append_turns (s, 1, 2, 4, 100, NULL, 1);
    index.next = 8;
    struct session *x = open_latest (s, &index, &open);
    run (x);
    assert_int_equal (x->last, REPLAY_STEP_WAIT);
    assert_int_equal (x->messages, 1);              /* that it began */
    assert_int_equal (x->latest_end, 9);
    assert_false (x->caught_up);
    assert_int_equal (x->seen_count, 0);
    assert_int_equal (replay_due (x->replay), s->monotonic_ns + REPLAY_LATEST_WAIT_MS * 1000000);
    index.next = 9;
    run (x);
    assert_true (x->caught_up);
    assert_int_equal (x->seen_count, 1);
    assert_fact (x, 0, 1, 3);
    close_session (x);
}

static void newest_facts_of_other_topics_are_left_out (void **state)
{
    struct setting *s = setting_of (state);
    static const uint64_t offsets[] = { 1, 2, 3, 4 };
    static const char *const topics[] = { "a.b", "a.c", "a.b", "a.c" };
    struct fake_index index = fake_index_of (offsets, 4);
    index.topics = topics;
    static const struct { const char *pattern; size_t count; } cases[] = { { "a.c", 2 }, { "a.*", 4 }, { ">", 4 }, { "a", 0 }, { "b.>", 0 } };
    const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 4, .payload_len = 10, .topic = "a.b|a.c" };
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
        Factmesh__ReplayOpen open = from_latest (&cursor, 0);
        ProtobufCBinaryData filter = control_put_slice (slice_of (cases[i].pattern));
        open.filters = &filter;
        open.n_filters = 1;
        struct session *x = open_latest (s, &index, &open);
        run (x);
        assert_int_equal (x->seen_count, cases[i].count);
        assert_int_equal (covered_of (x, 1), 4);
        close_session (x);
    }
}

/* What is damaged is told; what retention took is none of the newest any more. */
static void newest_facts_that_are_damaged_are_told_and_those_that_expired_are_not (void **state)
{
    struct setting *s = setting_of (state);
    uint64_t offsets[200];
    for (size_t i = 0; i < 200; i++)
        offsets[i] = 2 * i + 1;                     /* the first one of each batch */
    struct fake_index index = fake_index_of (offsets, 200);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    append_turns (s, 2, 100, 2, 200, NULL, 1);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    char path[256];
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, 40000);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    struct session *x = open_latest (s, &index, &open);
    run (x);
    assert_int_equal (x->seen_count, 199);
    assert_int_equal (x->gap_count, 1);
    assert_int_equal (x->gaps[0].reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
    assert_int_equal (x->gaps[0].end_seq - x->gaps[0].first_seq, 2);
    close_session (x);

    append_turns (s, 2, 1000, 1, 3000, NULL, 201);
    const uint64_t first_offset = expire (s);
    struct log_position at;
    log_position (s->log, &at);
    const uint64_t kept[] = { 1, 2, first_offset, at.synced_offset - 1 };
    index.offsets = kept;
    index.count = 4;
    x = open_latest (s, &index, &open);
    run (x);
    assert_int_equal (x->seen_count, 2);
    assert_int_equal (x->gap_count, 0);
    assert_int_equal (covered_of (x, 1), 1200);
    close_session (x);
}

static void from_latest_without_an_index_or_with_a_stream_is_refused (void **state)
{
    struct setting *s = setting_of (state);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    Factmesh__ReplayOpen open = from_latest (&cursor, 0);
    struct session *x;
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_ARGUMENT);
    const struct fm_id stream = kit_stream (1);
    struct fake_index index = fake_index_of (NULL, 0);
    index.index.context = &index;
    test_index = &index.index;
    open.stream = control_put_id (&stream);
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_ARGUMENT);
    open.stream.len = 0;
    open.from_latest = NULL;
    assert_int_equal (try_open (s, &open, NULL, &x), FM_ERR_ARGUMENT);
    test_index = NULL;
}

int main (void)
{
#define CASE(f) cmocka_unit_test_setup_teardown (f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (all_that_was_recorded_comes_as_it_was),
        CASE (a_session_that_rests_between_steps_sends_the_same),
        CASE (who_allows_it_is_sent_what_matches_and_little_else),
        CASE (what_is_not_synced_is_not_sent),
        CASE (filters_leave_out_batches_and_covered_says_so),
        CASE (a_session_of_one_stream_ends_where_the_journal_did),
        CASE (facts_that_do_not_match_move_covered_at_a_bounded_rate),
        CASE (a_start_at_the_end_says_how_far_every_stream_is),
        CASE (a_start_within_a_batch_says_what_lies_before_it),
        CASE (a_start_at_a_time_begins_with_what_was_recorded_then),
        CASE (the_last_n_facts_are_exactly_n),
        CASE (the_last_n_that_match_are_found_among_many_that_do_not),
        CASE (a_range_of_one_stream_is_that_range),
        CASE (a_range_that_is_not_there_yet_is_waited_for),
        CASE (recorded_gaps_are_told_with_their_reason),
        CASE (what_expired_is_told_per_stream_from_the_beginning),
        CASE (a_cursor_leaves_out_what_its_positions_say_is_done),
        CASE (a_cursor_folds_over_what_is_done),
        CASE (what_is_recent_gives_way_and_never_bridges_a_hole),
        CASE (requests_that_make_no_sense_are_refused_with_a_reason),
        CASE (a_batch_larger_than_a_message_goes_alone),
        CASE (damage_is_told_as_a_gap_with_the_exact_range),
        CASE (newest_facts_come_first_and_alone_then_all_that_comes),
        CASE (newest_facts_go_on_at_a_cursor_up_to_the_same_end),
        CASE (an_index_that_is_behind_is_waited_for),
        CASE (newest_facts_of_other_topics_are_left_out),
        CASE (newest_facts_that_are_damaged_are_told_and_those_that_expired_are_not),
        CASE (from_latest_without_an_index_or_with_a_stream_is_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
