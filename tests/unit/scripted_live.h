/* scripted_live: peers by script (scripted_journal.h) that send live too, as a subscription sees them: each has an XPUB, over inproc as well, and comes
 * and goes as the test says. Fences are answered with what the peer's streams are said to have sent, or not at all.
 *
 * Batches are those of support/log_kit.h: each byte of a payload follows from stream and sequence. */

#ifndef FM_TESTS_SCRIPTED_LIVE_H
#define FM_TESTS_SCRIPTED_LIVE_H

#include "scripted_journal.h"

#include "../support/log_kit.h"
#include "control.h"

enum { LIVE_HEADS_MAX = 4 };

struct live_script {
    void *xpub;
    char address[48];
    bool is_journal, mute_fences;
    bool nameless;                          /* an older node: its answers to fences do not say whose they are */
    uint64_t generation, started_ns;
    struct fm_id head_ids[LIVE_HEADS_MAX];
    Factmesh__StreamHead heads[LIVE_HEADS_MAX];
    size_t head_count;
};

static struct live_script live_scripts[SCRIPT_JOURNALS_MAX];
static struct node_listener live_listener;
static unsigned live_listen_failures;       /* so many times more nobody can be listened to */

static inline struct live_script *live_of (const struct scripted *j)
{
    return &live_scripts[j - script.journals];
}

/* ------------------------------------------------------------------ members */

static inline struct node_peer live_member (const struct scripted *j)
{
    const struct live_script *l = live_of (j);
    const uint32_t number = (uint32_t) (j - script.journals);
    struct node_peer peer = { .node = { .bytes = { 'n', (uint8_t) number, (uint8_t) (number >> 8), (uint8_t) j->incarnation } }, .is_journal = l->is_journal,
                              .journal = j->id, .generation = l->generation, .started_ns = l->started_ns };
    (void) snprintf (peer.name, sizeof peer.name, "peer%u", number);
    (void) snprintf (peer.live, sizeof peer.live, "%s", l->address);
    (void) snprintf (peer.control, sizeof peer.control, "%s", j->address);
    return peer;
}

static inline void live_up (struct scripted *j)
{
    const struct node_peer peer = live_member (j);
    if (live_listener.up && j->is_member)
        live_listener.up (live_listener.arg, &peer);
}

int node_listen (struct fm_node *node, const struct node_listener *listener)
{
    if (live_listen_failures) {
        live_listen_failures--;
        return error_set (-ENOMEM, "no memory for a listener");
    }
    live_listener = *listener;
    for (size_t i = 0; i < node->journal_count; i++)
        live_up (&node->journals[i]);
    return 0;
}

void node_unlisten (struct fm_node *node, void *arg)
{
    (void) node;
    if (live_listener.arg == arg)
        live_listener = (struct node_listener) { .arg = NULL };
}

static inline void live_bind (struct scripted *j)
{
    struct live_script *l = live_of (j);
    const int none = 0, on = 1;
    (void) snprintf (l->address, sizeof l->address, "inproc://live-%u-%u", (unsigned) (j - script.journals), j->incarnation);
    l->xpub = zmq_socket (script.zmq, ZMQ_XPUB);
    assert_non_null (l->xpub);
    assert_int_equal (zmq_setsockopt (l->xpub, ZMQ_LINGER, &none, sizeof none), 0);
    assert_int_equal (zmq_setsockopt (l->xpub, ZMQ_SNDHWM, &none, sizeof none), 0);
    assert_int_equal (zmq_setsockopt (l->xpub, ZMQ_XPUB_VERBOSE, &on, sizeof on), 0);
    assert_int_equal (zmq_bind (l->xpub, l->address), 0);
}

/* One that is in the mesh: a journal (of generation 1), or one that only publishes. */
static inline struct scripted *live_peer_add (script_fn *answer, bool is_journal)
{
    struct scripted *j = script_journal (answer);
    *live_of (j) = (struct live_script) { .is_journal = is_journal, .generation = 1 };
    live_bind (j);
    live_up (j);
    return j;
}

/* Another publisher, at the control endpoint of one that is there: it hears what both are asked. */
static inline struct scripted *live_lodger_add (const struct scripted *host)
{
    assert_true (script.journal_count < SCRIPT_JOURNALS_MAX);
    struct scripted *j = &script.journals[script.journal_count++];
    *j = (struct scripted) { .is_member = true };
    memcpy (j->address, host->address, sizeof j->address);
    *live_of (j) = (struct live_script) { .xpub = NULL };
    live_bind (j);
    live_up (j);
    return j;
}

/* Its process ends; and comes back, at another address. */
static inline void live_leave (struct scripted *j)
{
    const struct node_peer peer = live_member (j);
    script_kill (j);
    zmq_close (live_of (j)->xpub);
    live_of (j)->xpub = NULL;
    if (live_listener.down)
        live_listener.down (live_listener.arg, &peer.node, true);
}

/* Its process ends, and another one has its addresses at once; ZeroMQ connects to that one, and nobody has heard of either yet. Returns who is gone. */
static inline struct fm_id live_start_again (struct scripted *j)
{
    const struct fm_id gone = live_member (j).node;
    j->incarnation++;
    return gone;
}

static inline void live_come_back (struct scripted *j)
{
    script_listen (j);
    live_bind (j);
    live_up (j);
}

/* ------------------------------------------------------------------ sending */

static inline void live_say_bytes (struct scripted *j, const void *bytes, size_t len)
{
    assert_int_equal (zmq_send (live_of (j)->xpub, bytes, len, ZMQ_DONTWAIT), len);
}

static inline void live_say_reserved (struct scripted *j, uint8_t kind, const uint8_t *nonce, const ProtobufCMessage *body)
{
    zmq_msg_t message;
    assert_int_equal (control_encode_reserved (kind, nonce, body, &message), 0);
    live_say_bytes (j, zmq_msg_data (&message), zmq_msg_size (&message));
    zmq_msg_close (&message);
}

/* What stands behind a topic as it is on the wire, and its NUL. */
static inline void live_say_under (struct scripted *j, const uint8_t *wire, size_t len, struct fm_slice body)
{
    uint8_t *frame = malloc (len + 1 + body.len);
    assert_non_null (frame);
    memcpy (frame, wire, len);
    frame[len] = 0;
    if (body.len)
        memcpy (frame + len + 1, body.data, body.len);
    live_say_bytes (j, frame, len + 1 + body.len);
    free (frame);
}

static inline void live_say_body (struct scripted *j, struct fm_slice topic, struct fm_slice body)
{
    uint8_t wire[WIRE_TOPIC_MAX + 1];
    live_say_under (j, wire, topic_to_wire (topic, wire), body);
}

static inline void live_publish (struct scripted *j, const struct kit_batch_spec *spec)
{
    struct kit_batch k;
    kit_batch_make (spec, &k);
    live_say_body (j, batch_level (&k.batch), slice (k.bytes, k.len));
    kit_batch_release (&k);
}

static inline void live_say_head (struct scripted *j, uint8_t kind, unsigned stream, uint64_t head)
{
    const struct fm_id id = kit_stream (stream);
    Factmesh__HeadNotice notice = FACTMESH__HEAD_NOTICE__INIT;
    notice.major = PROTO_MAJOR;
    notice.mesh = control_put_slice (slice_of ("test"));
    notice.stream = control_put_id (&id);
    notice.epoch = 1;
    notice.incarnation = 8;             /* as log_kit has it */
    notice.head = notice.complete_since = head;
    notice.epoch_first_seq = 1;
    live_say_reserved (j, kind, NULL, &notice.base);
}

/* ------------------------------------------------------------------ fences */

/* Of one of its streams: what it has not sent yet. */
static inline void live_sent (struct scripted *j, unsigned stream, uint64_t next_seq)
{
    struct live_script *l = live_of (j);
    assert_true (l->head_count < LIVE_HEADS_MAX);
    Factmesh__StreamHead *head = &l->heads[l->head_count];
    factmesh__stream_head__init (head);
    l->head_ids[l->head_count] = kit_stream (stream);
    head->stream = control_put_id (&l->head_ids[l->head_count++]);
    head->epoch = 1;
    head->incarnation = 8;
    head->next_seq = next_seq;
    head->epoch_first_seq = 1;
}

static inline void live_answer_fence (struct scripted *j, const uint8_t *nonce)
{
    struct live_script *l = live_of (j);
    Factmesh__StreamHead *heads[LIVE_HEADS_MAX];
    Factmesh__FenceAnswer answer = FACTMESH__FENCE_ANSWER__INIT;
    for (size_t i = 0; i < l->head_count; i++)
        heads[i] = &l->heads[i];
    answer.major = PROTO_MAJOR;
    answer.mesh = control_put_slice (slice_of ("test"));
    answer.nonce = (ProtobufCBinaryData) { .len = FENCE_NONCE_LEN, .data = (uint8_t *) (uintptr_t) nonce };
    answer.streams = heads;
    answer.n_streams = l->head_count;
    const struct fm_id node = live_member (j).node;
    if (!l->nameless)
        answer.node = control_put_id (&node);
    live_say_reserved (j, RESERVED_FENCE, nonce, &answer.base);
}

static inline bool live_hear (struct scripted *j)
{
    uint8_t told[64];
    struct live_script *l = live_of (j);
    const int len = l->xpub ? zmq_recv (l->xpub, told, sizeof told, ZMQ_DONTWAIT) : -1;
    if (len < 0)
        return false;
    if (len == 3 + FENCE_NONCE_LEN && told[0] == 1 && told[1] == RESERVED_BYTE && told[2] == RESERVED_FENCE && !l->mute_fences)
        live_answer_fence (j, told + 3);
    return true;
}

static bool live_run (void)
{
    bool heard = false;
    for (size_t i = 0; i < script.journal_count; i++)
        while (live_hear (&script.journals[i]))
            heard = true;
    return heard;
}

/* ------------------------------------------------------------------ replays */

/* One message of a session. Zero-initialised fields say nothing; start_offset 0: no start. */
struct live_replay {
    uint64_t session, next_offset, remaining_bytes, start_offset, latest_end;
    bool caught_up;
    const struct replay_gap *gaps;
    size_t gap_count;
    const struct replay_covered *covered;
    size_t covered_count;
    const struct kit_batch_spec *batches;
    size_t batch_count;
    struct fm_slice bytes;              /* instead of a batch, behind those */
};

static inline uint8_t *live_put_batch (uint8_t *p, struct fm_slice batch)
{
    p = replay_batch_field (p, batch.len);
    memcpy (p, batch.data, batch.len);
    return p + batch.len;
}

static inline void live_say_replay (struct scripted *j, const struct live_replay *r)
{
    Factmesh__Cursor start = FACTMESH__CURSOR__INIT;
    start.major = PROTO_MAJOR;
    start.journal = control_put_id (&j->id);
    start.generation = live_of (j)->generation;
    start.offset = r->start_offset;
    const struct replay_header header = {
        .session = r->session, .next_offset = r->next_offset, .remaining_bytes = r->remaining_bytes, .end_offset = r->next_offset, .caught_up = r->caught_up,
        .covered = r->covered, .covered_count = r->covered_count, .gaps = r->gaps, .gap_count = r->gap_count, .start = r->start_offset ? &start : NULL,
        .latest_end = r->latest_end,
    };
    size_t size = r->bytes.len + 16;
    struct kit_batch k;
    for (size_t i = 0; i < r->batch_count; i++)
        size += 256 + r->batches[i].count * (r->batches[i].payload_len + 64);
    uint8_t *fields = malloc (size), *p = fields;
    assert_non_null (fields);
    for (size_t i = 0; i < r->batch_count; i++) {
        kit_batch_make (&r->batches[i], &k);
        p = live_put_batch (p, slice (k.bytes, k.len));
        kit_batch_release (&k);
    }
    if (r->bytes.len)
        p = live_put_batch (p, r->bytes);
    assert_true ((size_t) (p - fields) <= size);
    zmq_msg_t message;
    assert_int_equal (replay_data_encode (&header, slice_of ("test"), slice (fields, (size_t) (p - fields)), &message), 0);
    script_say_bytes (j, zmq_msg_data (&message), zmq_msg_size (&message));
    zmq_msg_close (&message);
    free (fields);
}

/* ------------------------------------------------------------------ the fixture */

static int live_set_up (void **state)
{
    memset (live_scripts, 0, sizeof live_scripts);
    live_listen_failures = 0;
    const int rc = script_set_up (state);
    script.also_runs = live_run;
    return rc;
}

static int live_tear_down (void **state)
{
    for (size_t i = 0; i < script.journal_count; i++)
        if (live_scripts[i].xpub)
            zmq_close (live_scripts[i].xpub);
    return script_tear_down (state);
}

#endif
