#include "replay_kit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t monotonic (void *context)
{
    return ((struct replay_setting *) context)->monotonic_ns;
}

static uint64_t unix_time (void *context)
{
    return ((struct replay_setting *) context)->clock.now_ns;
}

struct replay_setting *replay_setting_of (void **state)
{
    return *state;
}

int replay_set_up (void **state)
{
    struct replay_setting *s = calloc (1, sizeof *s);
    kit_directory (s->directory);
    kit_clock_init (&s->clock);
    s->monotonic_ns = 1000000000;
    s->options = (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20, .clock = &s->clock.clock };
    *state = s;
    return log_open (s->directory, &s->options, NULL, &s->log);
}

int replay_tear_down (void **state)
{
    struct replay_setting *s = *state;
    log_destroy (&s->log);
    kit_remove (s->directory);
    free (s);
    return 0;
}

/* --- A session and all that it told. */

uint64_t session_covered (const struct session *x, unsigned stream)
{
    const struct fm_id id = kit_stream (stream);
    for (size_t i = 0; i < x->covered_count; i++)
        if (id_equal (&x->covered[i].stream, &id))
            return x->covered[i].through;
    return UINT64_MAX;
}

void session_note_covered (struct session *x, const struct replay_covered *c)
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

void session_take (struct session *x, const struct replay_header *header)
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
        session_note_covered (x, &v->covered[i]);
    zmq_msg_close (&message);
}

void session_run (struct session *x)
{
    for (unsigned n = 0; n < 100000; n++) {
        struct replay_header header;
        if (x->rests || n % 2)      /* a rest changes nothing, wherever the session stands */
            replay_rest (x->replay);
        assert_int_equal (replay_step (x->replay, &x->buffer, x->target, &x->last, &header), 0);
        if (x->last == REPLAY_STEP_MESSAGE)
            session_take (x, &header);
        else if (x->last != REPLAY_STEP_MORE)
            return;
    }
    fail_msg ("the session does not end");
}

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

struct fake_index fake_index_of (const uint64_t *offsets, size_t count)
{
    return (struct fake_index) { .index = { .page = fake_page }, .next = UINT64_MAX, .offsets = offsets, .count = count, .rows = 3 };
}

const struct replay_index *session_index;

int session_try (struct replay_setting *s, const Factmesh__ReplayOpen *open, const Factmesh__Cursor *named, struct session **ret_session)
{
    struct replay_request q;
    int rc = replay_request_check (open, &q);
    if (rc)
        return rc;
    if (named)
        q.cursor = named;
    q.index = session_index;
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

struct session *session_open (struct replay_setting *s, const Factmesh__ReplayOpen *open)
{
    struct session *x = NULL;
    assert_int_equal (session_try (s, open, NULL, &x), 0);
    return x;
}

void session_close (struct session *x)
{
    replay_destroy (&x->replay);
    replay_buffer_release (&x->buffer);
    replay_view_release (&x->view);
    free (x);
}

Factmesh__ReplayOpen from_offset (uint64_t offset)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 7;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_OFFSET;
    open.from_offset = offset;
    return open;
}

void follow (Factmesh__ReplayOpen *open)
{
    open->end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open->follow = true;
}

void append_turns (struct replay_setting *s, unsigned streams, unsigned n, uint32_t count, size_t payload_len, const char *topic, uint64_t from)
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

Factmesh__ReplayOpen range_of (const struct fm_id *stream, uint64_t from, uint64_t end)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.stream = control_put_id (stream);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = from;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = end;
    return open;
}

uint64_t expire_segments (struct replay_setting *s)
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
