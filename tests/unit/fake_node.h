/* fake_node: what a publisher and a live endpoint need of a node, under the test's control: time stands still until the test moves it, the node's thread
 * is the test, answers are kept. The live endpoint is the real one, over inproc, so that what was sent is there at once.
 *
 * A program that includes this must not need the real node: the linker then leaves that out of the library. */

#ifndef FM_TESTS_FAKE_NODE_H
#define FM_TESTS_FAKE_NODE_H

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "error.h"
#include "publisher.h"
#include "topic.h"

enum { FAKE_WORKERS_MAX = 8, FAKE_REPLIES_MAX = 4096 };

struct fm_node {
    void *zmq;
    struct live *live;
    struct closed_streams closed_streams;
    struct node_worker workers[FAKE_WORKERS_MAX];
    struct {
        node_control_fn *fn;
        void *arg;
    } handlers[FAKE_WORKERS_MAX];
    size_t worker_count, handler_count;
    uint64_t counters[NODE_COUNTER_COUNT];
    unsigned wakes, streams_changed, journals;
    struct fake_journal {           /* members with a control endpoint, which fake_journals_answer serves */
        struct fm_id journal;
        void *router;
        char address[32];
        uint64_t gap_first, gap_end;    /* what it has given up; 0: nothing */
        uint32_t gap_reason;
        unsigned asked;
        unsigned silences, refusals;    /* so many questions more are not answered; or with an error */
        bool chats;                     /* says something else before each answer */
    } answering[4];
    unsigned answering_count;
    char notice[64], notice_text[300];
    unsigned sockets_refused;           /* so many sockets more cannot be made */
    unsigned workers_refused;
    uint64_t now;                   /* of the publishers' clock */
    int64_t unix_offset;
    Factmesh__Control *replies[FAKE_REPLIES_MAX];
    size_t reply_count, reply_taken;
    int reply_rc;                   /* node_reply fails with this */
};

/* ------------------------------------------------------------------ the node's functions */

struct live *node_live (struct fm_node *node)
{
    return node->live;
}

const struct fm_id *node_id (const struct fm_node *node)
{
    static const struct fm_id id = { "fake-node-id---" };
    (void) node;
    return &id;
}

struct fm_slice node_mesh (const struct fm_node *node)
{
    (void) node;
    return slice_of ("test");
}

void node_count (struct fm_node *node, enum node_counter counter, uint64_t n)
{
    __atomic_fetch_add (&node->counters[counter], n, __ATOMIC_RELAXED);
}

void node_wake (struct fm_node *node)
{
    __atomic_fetch_add (&node->wakes, 1, __ATOMIC_RELAXED);
}

void node_notice (struct fm_node *node, const char *id, const char *format, ...)
{
    va_list arguments;
    snprintf (node->notice, sizeof node->notice, "%s", id);
    va_start (arguments, format);
    (void) vsnprintf (node->notice_text, sizeof node->notice_text, format, arguments);
    va_end (arguments);
}

int node_handle (struct fm_node *node, node_control_fn *fn, void *arg)
{
    assert_true (node->handler_count < FAKE_WORKERS_MAX);
    node->handlers[node->handler_count].fn = fn;
    node->handlers[node->handler_count++].arg = arg;
    return 0;
}

void node_unhandle (struct fm_node *node, void *arg)
{
    for (size_t i = 0; i < node->handler_count; i++) {
        if (node->handlers[i].arg == arg)
            node->handlers[i] = node->handlers[--node->handler_count];
    }
}

struct closed_streams *node_closed_streams (struct fm_node *node)
{
    return &node->closed_streams;
}

int node_add_worker (struct fm_node *node, const struct node_worker *worker)
{
    assert_true (node->worker_count < FAKE_WORKERS_MAX);
    if (node->workers_refused) {
        node->workers_refused--;
        return -ENOMEM;
    }
    node->workers[node->worker_count++] = *worker;
    return 0;
}

void node_remove_worker (struct fm_node *node, void *arg)
{
    for (size_t i = 0; i < node->worker_count; i++) {
        if (node->workers[i].arg == arg)
            node->workers[i] = node->workers[--node->worker_count];
    }
}

void node_streams_changed (struct fm_node *node)
{
    node->streams_changed++;
}

size_t node_streams (struct fm_node *node, Factmesh__StreamHead *ret, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < node->worker_count && n < max; i++)
        n += node->workers[i].streams (node->workers[i].arg, ret + n, max - n);
    return n;
}

uint64_t node_now (void)
{
    return clock_real.monotonic_ns (NULL);
}

int node_reply (struct fm_node *node, const struct node_route *to, zmq_msg_t *message)
{
    (void) to;
    if (node->reply_rc)
        return node->reply_rc;
    assert_true (node->reply_count < FAKE_REPLIES_MAX);
    assert_int_equal (control_decode (zmq_msg_data (message), zmq_msg_size (message), slice_of ("test"), &node->replies[node->reply_count++]), 0);
    zmq_msg_close (message);
    return 0;
}

int node_reply_error (struct fm_node *node, const struct node_route *to, uint64_t request, uint64_t session, Factmesh__ErrorCode code, const char *text)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = code;
    error.session = session;
    error.text = control_put_slice (slice_of (text));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = request;
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    zmq_msg_t message;
    assert_int_equal (control_encode (&control, slice_of ("test"), &message), 0);
    return node_reply (node, to, &message);
}

int node_socket (struct fm_node *node, int type, void **ret_socket)
{
    const int linger = 0;
    if (node->sockets_refused) {
        node->sockets_refused--;
        return error_set (-EMFILE, "cannot make another socket");
    }
    *ret_socket = zmq_socket (node->zmq, type);
    assert_non_null (*ret_socket);
    return zmq_setsockopt (*ret_socket, ZMQ_LINGER, &linger, sizeof linger);
}

void node_sign_watch (struct fm_node *node, struct node_sign *sign, const char *control)
{
    (void) node;
    (void) sign;
    (void) control;
}

void node_sign_unwatch (struct fm_node *node, struct node_sign *sign)
{
    (void) node;
    (void) sign;
}

int node_connect (void *socket, const char *address)
{
    return zmq_connect (socket, address);
}

int node_bind (void *socket, const char *address, char ret_bound[FM_PEER_ADDRESS_MAX])
{
    strcpy (ret_bound, address);
    return zmq_bind (socket, address);
}

int fm_node_members (struct fm_node *node, int (*each) (void *arg, const struct fm_member *m), void *arg)
{
    const struct fm_member self = { .name = "the-node", .self = true };
    (void) each (arg, &self);
    for (unsigned i = 0; i < node->journals; i++) {
        const struct fm_member journal = { .name = "journal", .is_journal = true };
        (void) each (arg, &journal);
    }
    for (unsigned i = 0; i < node->answering_count; i++) {
        const struct fake_journal *j = &node->answering[i];
        const struct fm_member journal = { .name = "journal", .is_journal = true, .journal = j->journal, .generation = 1, .control = j->address };
        (void) each (arg, &journal);
    }
    return 0;
}

/* ------------------------------------------------------------------ the fixture */

static struct fm_node fake;
static void *subscriber;            /* SUB to everything */

static uint64_t fake_unix (void *context)
{
    (void) context;
    return (uint64_t) ((int64_t) fake.now + fake.unix_offset);
}

static uint64_t fake_monotonic (void *context)
{
    (void) context;
    return fake.now;
}

static const struct clock fake_clock = { .unix_ns = fake_unix, .monotonic_ns = fake_monotonic };

static void subscribe (void *socket, const void *topic, size_t len)
{
    assert_int_equal (zmq_setsockopt (socket, ZMQ_SUBSCRIBE, topic, len), 0);
}

static void *connect_sub (void)
{
    const int unlimited = 0;
    void *socket = zmq_socket (fake.zmq, ZMQ_SUB);
    assert_non_null (socket);
    assert_int_equal (zmq_setsockopt (socket, ZMQ_RCVHWM, &unlimited, sizeof unlimited), 0);
    assert_int_equal (zmq_connect (socket, live_address (fake.live)), 0);
    return socket;
}

static int fake_set_up (void **state)
{
    (void) state;
    memset (&fake, 0, sizeof fake);
    fake.now = 1000000000;
    fake.unix_offset = INT64_C (1700000000000000000);
    fake.zmq = zmq_ctx_new ();
    if (live_new (&fake, "inproc://live", 0, &fake.live))
        return -1;
    subscriber = connect_sub ();
    subscribe (subscriber, ".", 1);
    assert_false (live_drain (fake.live));
    fake.wakes = 0;
    return 0;
}

static int fake_tear_down (void **state)
{
    (void) state;
    for (size_t i = 0; i < fake.reply_count; i++)
        factmesh__control__free_unpacked (fake.replies[i], NULL);
    for (unsigned i = 0; i < fake.answering_count; i++)
        zmq_close (fake.answering[i].router);
    zmq_close (subscriber);
    live_destroy (&fake.live);
    zmq_ctx_term (fake.zmq);
    return 0;
}

/* Open a publisher on the fake clock, and let the node's thread come once. */
static inline struct fm_publisher *open_publisher (const struct fm_publisher_options *options)
{
    struct fm_publisher *p = NULL;
    assert_int_equal (fm_publisher_open (&fake, options, &p), 0);
    p->clock = &fake_clock;
    (void) publisher_tick (p, fake.now);
    fake.wakes = 0;
    return p;
}

/* Until nothing more is sent. */
static inline void serve_all (struct fm_publisher *p)
{
    size_t before;
    do {
        before = fake.reply_count;
        fake.now += 1000000;
        (void) publisher_tick (p, fake.now);
    } while (fake.reply_count > before);
}

static inline uint64_t publish (struct fm_publisher *p, const char *topic, struct fm_slice payload)
{
    const struct fm_fact fact = { .topic = slice_of (topic), .payload = payload };
    struct fm_fact_id id = { .seq = 0 };
    assert_int_equal (fm_publish (p, &fact, &id), 0);
    assert_true (id_equal (&id.stream, &p->identity.stream));
    return id.seq;
}

/* Until somebody waits for something to change. */
static inline void await_waiting (struct fm_publisher *p)
{
    for (unsigned waiting = 0; !waiting; sched_yield ()) {
        pthread_mutex_lock (&p->lock);
        waiting = p->waiting;
        pthread_mutex_unlock (&p->lock);
    }
}

/* The next live frame, or false. */
static inline bool receive (void *socket, zmq_msg_t *message)
{
    zmq_msg_init (message);
    if (zmq_msg_recv (message, socket, ZMQ_DONTWAIT) >= 0)
        return true;
    zmq_msg_close (message);
    return false;
}

/* The next batch from the subscriber; close the message when done. */
static struct batch_scratch scratch;
static inline bool receive_batch (zmq_msg_t *message, struct fm_slice *ret_topic, struct batch *ret_batch)
{
    if (!receive (subscriber, message))
        return false;
    struct fm_slice body;
    assert_true (zmq_msg_size (message) <= LIVE_FRAME_MAX);
    assert_int_equal (topic_from_frame (zmq_msg_data (message), zmq_msg_size (message), ret_topic, &body), 0);
    assert_int_equal (batch_decode (body.data, body.len, slice_of ("test"), &scratch, ret_batch), 0);
    if (!ret_batch->announced_len)
        assert_int_equal (batch_check_facts (ret_batch), 0);
    assert_true (slice_equal (*ret_topic, batch_level (ret_batch)));
    return true;
}

/* Give a control message to the handlers, as the node does. */
static inline int hand_over (const Factmesh__Control *control, uint8_t route)
{
    const struct node_route from = { .len = 1, .bytes = { route } };
    const bool all = control->body_case == FACTMESH__CONTROL__BODY_WATERMARK || control->body_case == FACTMESH__CONTROL__BODY_ERROR;
    int rc = FM_ERR_UNKNOWN;
    for (size_t i = 0; i < fake.handler_count && (all || rc); i++)
        rc = fake.handlers[i].fn (fake.handlers[i].arg, &from, control);
    return rc;
}

static inline int give_watermark (struct fm_publisher *p, const struct fm_id *journal, uint64_t generation, uint64_t received, uint64_t synced)
{
    Factmesh__StreamMark mark = FACTMESH__STREAM_MARK__INIT, *marks[] = { &mark };
    mark.stream = control_put_id (&p->identity.stream);
    mark.received = received;
    mark.written = synced;
    mark.synced = synced;
    Factmesh__Watermark watermark = FACTMESH__WATERMARK__INIT;
    watermark.journal = control_put_id (journal);
    watermark.generation = generation;
    watermark.marks = marks;
    watermark.n_marks = 1;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_WATERMARK;
    control.watermark = &watermark;
    return hand_over (&control, 'j');
}

/* A journal that can be asked. */
static inline struct fake_journal *fake_journal_add (const struct fm_id *journal)
{
    const int linger = 0;
    struct fake_journal *j = &fake.answering[fake.answering_count];
    *j = (struct fake_journal) { .journal = *journal, .router = zmq_socket (fake.zmq, ZMQ_ROUTER), .gap_reason = FACTMESH__GAP_REASON__GAP_NOT_HELD };
    assert_int_equal (zmq_setsockopt (j->router, ZMQ_LINGER, &linger, sizeof linger), 0);
    snprintf (j->address, sizeof j->address, "inproc://journal-%u", fake.answering_count++);
    assert_int_equal (zmq_bind (j->router, j->address), 0);
    return j;
}

static inline void fake_journal_send (struct fake_journal *j, const void *route, int route_len, zmq_msg_t *message)
{
    assert_int_equal (zmq_send (j->router, route, (size_t) route_len, ZMQ_SNDMORE), route_len);
    assert_true (zmq_msg_send (message, j->router, 0) >= 0);
}

/* Answer one ReplayOpen: the gap, all else is there. */
static inline void fake_journal_answer (struct fake_journal *j, const void *route, int route_len, const Factmesh__Control *control)
{
    if (control->body_case != FACTMESH__CONTROL__BODY_REPLAY_OPEN)
        return;
    const Factmesh__ReplayOpen *open = control->replay_open;
    struct fm_id stream;
    zmq_msg_t message;
    j->asked++;
    if (j->silences) {
        j->silences--;
        return;
    }
    if (j->refusals) {
        Factmesh__Error error = FACTMESH__ERROR__INIT;
        Factmesh__Control refusal = FACTMESH__CONTROL__INIT;
        j->refusals--;
        error.code = FACTMESH__ERROR_CODE__ERROR_LIMIT;
        error.session = open->session;
        refusal.body_case = FACTMESH__CONTROL__BODY_ERROR;
        refusal.error = &error;
        assert_int_equal (control_encode (&refusal, slice_of ("test"), &message), 0);
        fake_journal_send (j, route, route_len, &message);
        return;
    }
    if (j->chats) {
        Factmesh__StatusReply status = FACTMESH__STATUS_REPLY__INIT;
        Factmesh__Control unasked = FACTMESH__CONTROL__INIT;
        unasked.body_case = FACTMESH__CONTROL__BODY_STATUS_REPLY;
        unasked.status_reply = &status;
        assert_int_equal (control_encode (&unasked, slice_of ("test"), &message), 0);
        fake_journal_send (j, route, route_len, &message);
    }
    assert_int_equal (control_get_id (&open->stream, &stream), 0);
    const struct replay_gap gap = { .stream = stream, .first_seq = j->gap_first, .end_seq = j->gap_end, .reason = j->gap_reason };
    const struct replay_covered covered = { .stream = stream, .through = open->end_seq - 1 };
    const bool meets = j->gap_first < open->end_seq && j->gap_end > open->from_seq;
    const struct replay_header h = { .session = open->session, .gaps = &gap, .gap_count = meets, .covered = &covered, .covered_count = 1 };
    assert_int_equal (replay_data_encode (&h, slice_of ("test"), slice (NULL, 0), &message), 0);
    fake_journal_send (j, route, route_len, &message);
    Factmesh__ReplayEnd end = FACTMESH__REPLAY_END__INIT;
    end.session = open->session;
    Factmesh__Control reply = FACTMESH__CONTROL__INIT;
    reply.body_case = FACTMESH__CONTROL__BODY_REPLAY_END;
    reply.replay_end = &end;
    assert_int_equal (control_encode (&reply, slice_of ("test"), &message), 0);
    fake_journal_send (j, route, route_len, &message);
}

/* The node's thread comes, and journals answer what they are asked, until nobody asks any more. */
static inline void fake_journals_answer (struct fm_publisher *p)
{
    for (int idle = 0; idle < 3; idle++) {
        fake.now += (uint64_t) PUBLISHER_LOST_RETRY_MS * 1000000;
        (void) publisher_tick (p, fake.now);
        for (unsigned i = 0; i < fake.answering_count; i++) {
            uint8_t route[64];
            int len;
            while ((len = zmq_recv (fake.answering[i].router, route, sizeof route, ZMQ_DONTWAIT)) >= 0) {
                zmq_msg_t message;
                Factmesh__Control *control;
                zmq_msg_init (&message);
                assert_true (zmq_msg_recv (&message, fake.answering[i].router, ZMQ_DONTWAIT) >= 0);
                assert_int_equal (control_decode (zmq_msg_data (&message), zmq_msg_size (&message), slice_of ("test"), &control), 0);
                fake_journal_answer (&fake.answering[i], route, len, control);
                factmesh__control__free_unpacked (control, NULL);
                zmq_msg_close (&message);
                idle = -1;
            }
        }
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, fake_set_up, fake_tear_down)

#endif
