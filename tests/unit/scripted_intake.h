/* scripted_intake: the journal's intake between peers that follow a script. Its live connections (live_set) and those to holders (replay_client) are
 * the test's: frames and answers are handed over by the test, questions and what intake tells others are kept. Its thread, its members and its log are real; time
 * goes on by itself, and by script_skip.
 *
 * script_settle: what was handed over before has been taken, and all streams have been looked after since. */

#ifndef FM_TESTS_SCRIPTED_INTAKE_H
#define FM_TESTS_SCRIPTED_INTAKE_H

#include "fake_journal.h"

#include <stdatomic.h>
#include <sys/eventfd.h>

#include "factmesh.pb-c.h"
#include "intake.h"
#include "intake_inner.h"
#include "marks.h"
#include "replay_client.h"

enum { SCRIPT_PEERS_MAX = 40, SCRIPT_FRAMES_MAX = 256, SCRIPT_QUESTIONS_MAX = 256, SCRIPT_ANSWERS_MAX = 256, SCRIPT_SAID_MAX = 64 };
#define SCRIPT_SET_EVENT (UINT64_C (1) << 63)

struct script_frame {
    enum live_kind kind;
    unsigned peer;
    uint8_t *bytes;
    size_t len;
};

/* What intake asked a holder for. */
struct script_question {
    char control[FM_PEER_ADDRESS_MAX];
    struct fm_id stream;
    uint64_t first_seq, end_seq;
    bool closed;
};

struct script_answer {
    uint64_t session;
    enum replay_kind kind;
    Factmesh__ErrorCode code;
    struct replay_gap gap;              /* none: of no sequence */
    bool caught_up;
    uint8_t *batch;
    size_t len;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int bell, epoll_fd;
    uint64_t turns, turns_wanted;
    struct live_peer peers[SCRIPT_PEERS_MAX];
    struct script_frame frames[SCRIPT_FRAMES_MAX];
    size_t frame_count, frames_taken;
    struct script_question questions[SCRIPT_QUESTIONS_MAX];
    size_t question_count, questions_seen;
    struct script_answer answers[SCRIPT_ANSWERS_MAX];
    size_t answer_count, answers_taken;
    atomic_bool unreachable;            /* nothing can be told, and nobody be asked */
    Factmesh__Control *told[SCRIPT_SAID_MAX];
    size_t told_count;
    struct { struct fm_id stream; uint64_t head; } ended[SCRIPT_SAID_MAX];
    size_t ended_count;
} script;

struct live_set { char none; };
struct replay_client {
    char control[FM_PEER_ADDRESS_MAX];
    int fd;
    uint64_t messages;
    struct replay_view view;
    zmq_msg_t message;
};

/* --- Live connections. */

int live_set_new (struct fm_node *node, int epoll_fd, struct fm_slice level, bool exact, bool want_watermarks, int hwm, struct live_set **ret_set)
{
    static struct live_set set;
    (void) node, (void) level, (void) exact, (void) want_watermarks, (void) hwm;
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = SCRIPT_SET_EVENT };
    script.epoll_fd = epoll_fd;
    *ret_set = &set;
    return epoll_ctl (epoll_fd, EPOLL_CTL_ADD, script.bell, &event) == 0 ? 0 : -errno;
}

void live_set_destroy (struct live_set **set)
{
    *set = NULL;
}

bool live_set_event (struct live_set *set, const struct epoll_event *event)
{
    uint64_t count;
    (void) set;
    if (event->data.u64 != SCRIPT_SET_EVENT)
        return false;
    (void) !read (script.bell, &count, sizeof count);
    return true;
}

uint64_t live_set_update (struct live_set *set, uint64_t now_ns)
{
    (void) set;
    pthread_mutex_lock (&script.lock);
    const bool more = ++script.turns < script.turns_wanted;
    pthread_cond_broadcast (&script.changed);
    pthread_mutex_unlock (&script.lock);
    return more ? now_ns : UINT64_MAX;
}

int live_set_receive (struct live_set *set, zmq_msg_t *message, struct live_frame *ret_frame)
{
    (void) set;
    pthread_mutex_lock (&script.lock);
    const struct script_frame *f = script.frames_taken < script.frame_count ? &script.frames[script.frames_taken++] : NULL;
    if (f) {
        zmq_msg_close (message);
        if (zmq_msg_init_size (message, f->len) != 0)
            abort ();
        if (f->len)
            memcpy (zmq_msg_data (message), f->bytes, f->len);
        *ret_frame = (struct live_frame) { .kind = f->kind, .peer = &script.peers[f->peer], .body = slice (zmq_msg_data (message), f->len) };
    }
    pthread_mutex_unlock (&script.lock);
    return f ? 0 : -EAGAIN;
}

struct live_peer *live_set_peer (struct live_set *set, size_t index)
{
    (void) set;
    return index < SCRIPT_PEERS_MAX ? &script.peers[index] : NULL;
}

size_t live_set_count (const struct live_set *set)
{
    (void) set;
    return SCRIPT_PEERS_MAX;
}

/* --- Connections to holders. */

int replay_client_new (struct fm_node *node, const char *control_address, struct replay_client **ret_client)
{
    struct replay_client *c = calloc (1, sizeof *c);
    (void) node;
    if (!c)
        abort ();
    (void) snprintf (c->control, sizeof c->control, "%s", control_address);
    c->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    zmq_msg_init (&c->message);
    *ret_client = c;
    return 0;
}

void replay_client_destroy (struct replay_client **client)
{
    struct replay_client *c = *client;
    if (!c)
        return;
    *client = NULL;
    close (c->fd);
    zmq_msg_close (&c->message);
    replay_view_release (&c->view);
    free (c);
}

int replay_client_fd (const struct replay_client *client)
{
    return client->fd;
}

uint64_t replay_client_messages (const struct replay_client *client)
{
    return client->messages;
}

int replay_client_open (struct replay_client *client, Factmesh__ReplayOpen *open, uint64_t *ret_session)
{
    pthread_mutex_lock (&script.lock);
    const int rc = script.unreachable ? -EAGAIN : 0;
    if (!rc) {
        if (script.question_count == SCRIPT_QUESTIONS_MAX)
            abort ();
        struct script_question *q = &script.questions[script.question_count++];
        *q = (struct script_question) { .first_seq = open->from_seq, .end_seq = open->end_seq };
        memcpy (q->control, client->control, sizeof q->control);
        if (control_get_id (&open->stream, &q->stream) != 0)
            abort ();
        *ret_session = script.question_count;
        pthread_cond_broadcast (&script.changed);
    }
    pthread_mutex_unlock (&script.lock);
    return rc;
}

void replay_client_close (struct replay_client *client, uint64_t session)
{
    (void) client;
    pthread_mutex_lock (&script.lock);
    script.questions[session - 1].closed = true;
    pthread_mutex_unlock (&script.lock);
}

static inline void script_view (struct replay_client *client, const struct script_answer *a)
{
    uint8_t *fields = malloc (a->len + 16), *p = fields;
    if (!fields)
        abort ();
    if (a->batch) {
        p = replay_batch_field (p, a->len);
        memcpy (p, a->batch, a->len);
        p += a->len;
    }
    const struct replay_header h = { .session = a->session, .caught_up = a->caught_up, .gaps = &a->gap, .gap_count = a->gap.end_seq > 0 };
    zmq_msg_close (&client->message);
    if (replay_data_encode (&h, slice_of ("test"), slice (fields, (size_t) (p - fields)), &client->message) != 0
        || replay_data_decode (zmq_msg_data (&client->message), zmq_msg_size (&client->message), slice_of ("test"), &client->view) != 0)
        abort ();
    free (fields);
}

int replay_client_receive (struct replay_client *client, struct replay_event *ret_event)
{
    struct script_answer a = { .session = 0 };
    pthread_mutex_lock (&script.lock);
    if (script.answers_taken < script.answer_count && strcmp (script.questions[script.answers[script.answers_taken].session - 1].control, client->control) == 0)
        a = script.answers[script.answers_taken++];
    pthread_mutex_unlock (&script.lock);
    if (!a.session)
        return -EAGAIN;
    client->messages++;
    *ret_event = (struct replay_event) { .kind = a.kind, .session = a.session, .code = a.code, .text = "", .view = &client->view };
    if (a.kind == REPLAY_DATA)
        script_view (client, &a);
    return 0;
}

/* --- What intake says. */

const struct fm_id *node_id (const struct fm_node *node)
{
    static const struct fm_id id = { .bytes = { 'j' } };
    (void) node;
    return &id;
}

int node_tell (struct fm_node *node, const struct fm_id *to, zmq_msg_t *message)
{
    (void) node, (void) to;
    pthread_mutex_lock (&script.lock);
    const int rc = script.unreachable ? FM_ERR_UNREACHABLE : 0;
    if (!rc && (script.told_count == SCRIPT_SAID_MAX
                || control_decode (zmq_msg_data (message), zmq_msg_size (message), slice_of ("test"), &script.told[script.told_count++]) != 0))
        abort ();
    pthread_mutex_unlock (&script.lock);
    if (!rc)
        zmq_msg_close (message);
    return rc;
}

struct live *node_live (struct fm_node *node)
{
    (void) node;
    return NULL;
}

void live_send (struct live *live, zmq_msg_t *message)
{
    uint8_t kind;
    struct fm_slice nonce, body;
    Factmesh__HeadNotice *notice;
    (void) live;
    if (reserved_from_frame (zmq_msg_data (message), zmq_msg_size (message), &kind, &nonce, &body) != 0 || kind != RESERVED_ENDED
        || reserved_decode_head (body, slice_of ("test"), &notice) != 0)
        abort ();
    pthread_mutex_lock (&script.lock);
    if (script.ended_count == SCRIPT_SAID_MAX || control_get_id (&notice->stream, &script.ended[script.ended_count].stream) != 0)
        abort ();
    script.ended[script.ended_count++].head = notice->head;
    pthread_cond_broadcast (&script.changed);
    pthread_mutex_unlock (&script.lock);
    factmesh__head_notice__free_unpacked (notice, NULL);
    zmq_msg_close (message);
}

/* --- The script. cmocka's state is a struct fake_journal. */

static struct intake *intake;

/* Peer 0, 1 ...: node "n" + number; a journal where it is said to be one. */
static inline struct node_peer *script_peer (unsigned number)
{
    struct node_peer *p = &script.peers[number].info;
    if (p->live[0])
        return p;                       /* intake's thread may look at it */
    p->node = (struct fm_id) { .bytes = { 'n', (uint8_t) number } };
    (void) snprintf (p->name, sizeof p->name, "peer %u", number);
    (void) snprintf (p->live, sizeof p->live, "inproc://live-%u", number);
    (void) snprintf (p->control, sizeof p->control, "inproc://control-%u", number);
    return p;
}

static inline void script_up (unsigned number, bool journal)
{
    struct node_peer *p = script_peer (number);
    p->is_journal = journal;
    fake.listener.up (fake.listener.arg, p);
}

static inline void script_down (unsigned number, bool said_goodbye)
{
    fake.listener.down (fake.listener.arg, &script.peers[number].info.node, said_goodbye);
}

static inline void script_settle (void)
{
    const uint64_t one = 1;
    const struct timespec until = fake_deadline (FAKE_PATIENCE_MS);
    int rc = 0;
    pthread_mutex_lock (&script.lock);
    const uint64_t wanted = script.turns_wanted = script.turns + 3;     /* the first may be over already but for its count */
    assert_int_equal (write (script.bell, &one, sizeof one), sizeof one);
    while (script.turns < wanted && !rc)
        rc = pthread_cond_timedwait (&script.changed, &script.lock, &until);
    pthread_mutex_unlock (&script.lock);
    if (rc)
        fail_msg ("intake does not come round");
}

static inline void script_skip (unsigned ms)
{
    fake.skipped_ns += (uint64_t) ms * FAKE_NS_PER_MS;
    script_settle ();
}

/* A frame that comes from a peer; its bytes are copied. */
static inline void script_frame (enum live_kind kind, unsigned peer, const void *bytes, size_t len)
{
    (void) script_peer (peer);
    struct script_frame f = { .kind = kind, .peer = peer, .bytes = malloc (len + 1), .len = len };
    assert_non_null (f.bytes);
    if (len)
        memcpy (f.bytes, bytes, len);
    pthread_mutex_lock (&script.lock);
    assert_true (script.frame_count < SCRIPT_FRAMES_MAX);
    script.frames[script.frame_count++] = f;
    pthread_mutex_unlock (&script.lock);
}

static inline void script_batch (unsigned peer, const struct kit_batch_spec *spec)
{
    struct kit_batch k;
    kit_batch_make (spec, &k);
    script_frame (LIVE_BATCH, peer, k.bytes, k.len);
    kit_batch_release (&k);
}

static inline void script_head (unsigned peer, unsigned stream, uint64_t epoch, uint64_t head)
{
    Factmesh__HeadNotice notice = FACTMESH__HEAD_NOTICE__INIT;
    const struct fm_id id = kit_stream (stream);
    uint8_t bytes[256];
    notice.major = PROTO_MAJOR;
    notice.mesh = control_put_slice (slice_of ("test"));
    notice.stream = control_put_id (&id);
    notice.epoch = epoch;
    notice.incarnation = epoch + 7;
    notice.epoch_first_seq = 1;
    notice.head = head;
    script_frame (LIVE_HEAD, peer, bytes, factmesh__head_notice__pack (&notice, bytes));
}

/* The next question that nobody has looked at yet, which must be for these facts. Returns its session. */
static inline uint64_t script_expect_question (unsigned peer, unsigned stream, uint64_t first_seq, uint64_t end_seq)
{
    const struct timespec until = fake_deadline (FAKE_PATIENCE_MS);
    const struct fm_id id = kit_stream (stream);
    int rc = 0;
    pthread_mutex_lock (&script.lock);
    while (script.questions_seen == script.question_count && !rc)
        rc = pthread_cond_timedwait (&script.changed, &script.lock, &until);
    const struct script_question q = script.questions[rc ? 0 : script.questions_seen++];
    pthread_mutex_unlock (&script.lock);
    if (rc)
        fail_msg ("no question for stream %u, %llu to %llu", stream, (unsigned long long) first_seq, (unsigned long long) end_seq);
    assert_string_equal (q.control, script_peer (peer)->control);
    assert_memory_equal (&q.stream, &id, sizeof id);
    assert_int_equal (q.first_seq, first_seq);
    assert_int_equal (q.end_seq, end_seq);
    return script.questions_seen;
}

static inline bool script_is_closed (uint64_t session)
{
    pthread_mutex_lock (&script.lock);
    const bool closed = script.questions[session - 1].closed;
    pthread_mutex_unlock (&script.lock);
    return closed;
}

static inline void script_answer (const struct script_answer *a)
{
    pthread_mutex_lock (&script.lock);
    assert_true (script.answer_count < SCRIPT_ANSWERS_MAX);
    script.answers[script.answer_count++] = *a;
    pthread_mutex_unlock (&script.lock);
    script_settle ();
}

static inline void script_answer_batch (uint64_t session, const struct kit_batch_spec *spec)
{
    struct kit_batch k;
    kit_batch_make (spec, &k);
    const struct script_answer a = { .session = session, .kind = REPLAY_DATA, .batch = k.bytes, .len = k.len };
    script_answer (&a);
    kit_batch_release (&k);
}

static inline void script_answer_end (uint64_t session)
{
    script_answer (&(struct script_answer) { .session = session, .kind = REPLAY_END });
}

static inline void script_answer_gap (uint64_t session, unsigned stream, uint64_t first_seq, uint64_t end_seq, uint32_t reason)
{
    const struct replay_gap gap = { .stream = kit_stream (stream), .first_seq = first_seq, .end_seq = end_seq, .reason = reason };
    script_answer (&(struct script_answer) { .session = session, .kind = REPLAY_DATA, .gap = gap });
}

static inline void script_answer_error (uint64_t session, Factmesh__ErrorCode code)
{
    script_answer (&(struct script_answer) { .session = session, .kind = REPLAY_ERROR, .code = code });
}

/* What the log has of a stream next. */
static inline uint64_t script_next_seq (struct fake_journal *j, unsigned stream)
{
    return work_next_seq (j->context.log, stream);
}

static inline void script_start (struct fake_journal *j)
{
    assert_int_equal (intake_new (&j->context, &intake), 0);
}

static inline void script_begin (struct fake_journal *j)
{
    memset (&script, 0, sizeof script);
    pthread_mutex_init (&script.lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init (&monotonic);
    pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init (&script.changed, &monotonic);
    pthread_condattr_destroy (&monotonic);
    for (size_t i = 0; i < SCRIPT_PEERS_MAX; i++)
        script.peers[i].gone = true;        /* nobody yet */
    script.bell = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    fake_begin (j);
    j->fs = fail_fs_new ();
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (wake_init (&j->context.room), 0);
    assert_int_equal (marks_new (4096, &j->context.marks), 0);
    j->context.options = (struct journal_options) { .held_bytes = 1 << 20, .stream_held_bytes = 1 << 20, .streams_max = 4096, .answer_ms = 2000,
                                                    .epoch_quiet_ms = 2000, .epoch_wait_ms = 10000, .holders_wait_ms = 1000, .orphan_wait_ms = 5000 };
}

static int set_up (void **state)
{
    struct fake_journal *j = calloc (1, sizeof *j);
    assert_non_null (j);
    script_begin (j);
    script_start (j);
    *state = j;
    return 0;
}

static int tear_down (void **state)
{
    struct fake_journal *j = *state;
    intake_destroy (&intake);
    marks_destroy (&j->context.marks);
    wake_release (&j->context.room);
    fake_end (j);
    for (size_t i = 0; i < script.frame_count; i++)
        free (script.frames[i].bytes);
    for (size_t i = 0; i < script.told_count; i++)
        factmesh__control__free_unpacked (script.told[i], NULL);
    close (script.bell);
    pthread_mutex_destroy (&script.lock);
    pthread_cond_destroy (&script.changed);
    free (j);
    return 0;
}

#endif
