/* path_publish: what does fm_publish cost its caller: check, encode into the open batch, frame, window, the live socket?
 *
 * The node around the publisher stands still: no thread, no clock that moves, so that batches are as full as under load and two runs are the
 * same. The live endpoint is the real one, with as many subscribers as asked for, over inproc. The functions of the node that a publisher needs are
 * below; the linker then leaves the real ones out of the library. */

#include <errno.h>
#include <stdlib.h>

#include "common/path.h"
#include "publisher.h"

static struct bench_option options[] = {
    { "step", "publish: all of it; encode: the fact into the batch", "publish" },
    { "count", "facts", "1M" },
    { "size", "payload bytes", "100" },
    { "topics", "facts alternate at random over so many", "1" },
    { "subscribers", "that the frames go to", "2" },
};

enum { FACTS_A_RUN = 5000, SUBSCRIBERS_MAX = 16 };

static void must (int rc, const char *what)
{
    if (rc != 0)
        bench_fail ("%s: %s", what, fm_error_text (rc));
}

/* ------------------------------------------------------------------ the node that stands still */

struct fm_node {
    void *zmq;
    struct live *live;
    uint64_t counters[NODE_COUNTER_COUNT];
};

struct live *node_live (struct fm_node *node)
{
    return node->live;
}

struct fm_slice node_mesh (const struct fm_node *node)
{
    (void) node;
    return slice_of ("bench");
}

void node_count (struct fm_node *node, enum node_counter counter, uint64_t n)
{
    __atomic_fetch_add (&node->counters[counter], n, __ATOMIC_RELAXED);
}

uint64_t node_now (void)
{
    return bench_now_ns ();
}

int node_socket (struct fm_node *node, int type, void **ret_socket)
{
    *ret_socket = zmq_socket (node->zmq, type);
    return *ret_socket ? 0 : -ENOMEM;
}

int node_bind (void *socket, const char *address, char ret_bound[FM_PEER_ADDRESS_MAX])
{
    snprintf (ret_bound, FM_PEER_ADDRESS_MAX, "%s", address);
    return zmq_bind (socket, address);
}

/* What follows is called by nothing that is measured. */

const struct fm_id *node_id (const struct fm_node *node)
{
    (void) node;
    static const struct fm_id id = { .bytes = { 1 } };
    return &id;
}

int node_connect (void *socket, const char *address)
{
    (void) socket, (void) address;
    return FM_ERR_UNREACHABLE;
}

void node_wake (struct fm_node *node)
{
    (void) node;
}

void node_notice (struct fm_node *node, const char *id, const char *format, ...)
{
    (void) node, (void) id, (void) format;
}

int node_handle (struct fm_node *node, node_control_fn *fn, void *arg)
{
    (void) node, (void) fn, (void) arg;
    return 0;
}

void node_unhandle (struct fm_node *node, void *arg)
{
    (void) node, (void) arg;
}

struct closed_streams *node_closed_streams (struct fm_node *node)
{
    (void) node;
    static struct closed_streams none = { .lock = PTHREAD_MUTEX_INITIALIZER };
    return &none;
}

int node_add_worker (struct fm_node *node, const struct node_worker *worker)
{
    (void) node, (void) worker;
    return 0;
}

void node_remove_worker (struct fm_node *node, void *arg)
{
    (void) node, (void) arg;
}

void node_streams_changed (struct fm_node *node)
{
    (void) node;
}

void node_sign_watch (struct fm_node *node, struct node_sign *sign, const char *control)
{
    (void) node, (void) sign, (void) control;
}

void node_sign_unwatch (struct fm_node *node, struct node_sign *sign)
{
    (void) node, (void) sign;
}

size_t node_streams (struct fm_node *node, Factmesh__StreamHead *ret, size_t max)
{
    (void) node, (void) ret, (void) max;
    return 0;
}

int node_reply (struct fm_node *node, const struct node_route *to, zmq_msg_t *message)
{
    (void) node, (void) to, (void) message;
    return FM_ERR_UNREACHABLE;
}

int node_reply_error (struct fm_node *node, const struct node_route *to, uint64_t request, uint64_t session, Factmesh__ErrorCode code, const char *text)
{
    (void) node, (void) to, (void) request, (void) session, (void) code, (void) text;
    return FM_ERR_UNREACHABLE;
}

int fm_node_members (struct fm_node *node, int (*each) (void *arg, const struct fm_member *m), void *arg)
{
    (void) node, (void) each, (void) arg;
    return 0;
}

static uint64_t still (void *context)
{
    (void) context;
    return UINT64_C (1700000000000000000);
}

static const struct clock still_clock = { .unix_ns = still, .monotonic_ns = still };

/* ------------------------------------------------------------------ the path */

struct publish_path {
    struct fm_node node;
    struct fm_publisher *publisher;
    size_t subscriber_count;
    void *subscribers[SUBSCRIBERS_MAX];
    struct bench_check expected[SUBSCRIBERS_MAX];
    struct batch_scratch scratch;
    uint64_t size, topics, next, random;
    uint8_t *payloads;
    struct fm_fact facts[FACTS_A_RUN];
    char (*names)[16];
    uint8_t encoded[LIVE_FRAME_MAX];
};

static void path_open (struct publish_path *p)
{
    p->node.zmq = zmq_ctx_new ();
    must (live_new (&p->node, "inproc://live", 0, &p->node.live), "live_new");
    const int unlimited = 0;
    for (size_t i = 0; i < p->subscriber_count; i++) {
        p->subscribers[i] = zmq_socket (p->node.zmq, ZMQ_SUB);
        p->expected[i].next = 1;
        if (!p->subscribers[i] || zmq_setsockopt (p->subscribers[i], ZMQ_RCVHWM, &unlimited, sizeof unlimited)
            || zmq_setsockopt (p->subscribers[i], ZMQ_SUBSCRIBE, ".", 1) || zmq_connect (p->subscribers[i], live_address (p->node.live)))
            bench_fail ("subscriber: %s", zmq_strerror (zmq_errno ()));
    }
    (void) live_drain (p->node.live);
    must (fm_publisher_open (&p->node, NULL, &p->publisher), "fm_publisher_open");
    p->publisher->clock = &still_clock;
    p->names = calloc (p->topics, sizeof *p->names);
    p->payloads = calloc (FACTS_A_RUN, p->size);
    if (!p->names || !p->payloads)
        bench_fail ("out of memory");
    for (uint64_t i = 0; i < p->topics; i++)
        snprintf (p->names[i], sizeof p->names[i], "bench.t%u", (unsigned) i);
}

static void path_close (struct publish_path *p)
{
    fm_publisher_close (&p->publisher);
    for (size_t i = 0; i < p->subscriber_count; i++)
        zmq_close (p->subscribers[i]);
    live_destroy (&p->node.live);
    zmq_ctx_term (p->node.zmq);
    batch_scratch_release (&p->scratch);
    free (p->names);
    free (p->payloads);
}

static bool publish_prepare (void *context)
{
    struct publish_path *p = context;
    for (size_t i = 0; i < FACTS_A_RUN; i++) {
        p->random ^= p->random << 13, p->random ^= p->random >> 7, p->random ^= p->random << 17;    /* xorshift64, Marsaglia 2003 */
        uint8_t *payload = p->payloads + i * p->size;
        bench_payload_put (payload, p->size, p->next++, 0);
        p->facts[i] = (struct fm_fact) { .topic = fm_text (p->names[p->random % p->topics]), .payload = { payload, p->size } };
    }
    return true;
}

static void publish (void *context)
{
    struct publish_path *p = context;
    for (size_t i = 0; i < FACTS_A_RUN; i++)
        must (fm_publish (p->publisher, &p->facts[i], NULL), "fm_publish");
}

/* Take what came: the next facts, every byte. */
static void subscriber_check (struct publish_path *p, size_t i)
{
    zmq_msg_t message;
    zmq_msg_init (&message);
    while (zmq_msg_recv (&message, p->subscribers[i], ZMQ_DONTWAIT) >= 0) {
        const uint8_t *frame = zmq_msg_data (&message);
        const size_t len = zmq_msg_size (&message), skip = (size_t) ((const uint8_t *) memchr (frame, 0, len) - frame) + 1;
        struct batch b;
        struct batch_reader reader;
        struct fm_fact fact;
        must (batch_decode (frame + skip, len - skip, slice_of ("bench"), &p->scratch, &b), "batch_decode");
        batch_reader_init (&reader, &b);
        while (batch_reader_next (&reader, &fact) == 0)
            (void) bench_check_next (&p->expected[i], fact.payload.data, fact.payload.len, 1);
    }
    zmq_msg_close (&message);
}

static uint64_t publish_check (void *context)
{
    struct publish_path *p = context;
    must (fm_publisher_flush (p->publisher), "fm_publisher_flush");
    for (size_t i = 0; i < p->subscriber_count; i++) {
        subscriber_check (p, i);
        if (p->expected[i].next != p->next)
            bench_fail ("%llu came last of %llu", (unsigned long long) p->expected[i].next - 1, (unsigned long long) p->next - 1);
    }
    (void) window_synced (&p->publisher->window, p->next - 1);     /* as a journal's watermark does */
    return FACTS_A_RUN;
}

/* As many as fill a frame. */
static void encode (void *context)
{
    struct publish_path *p = context;
    const struct batch_defaults defaults = { .time_ns = still (NULL) };
    uint8_t *at = p->encoded;
    for (size_t i = 0; i < FACTS_A_RUN; i++) {
        struct fm_fact fact = p->facts[i];
        fact.time_ns = defaults.time_ns;
        if ((size_t) (p->encoded + sizeof p->encoded - at) < p->size + 2 * PUBLISHER_FACT_OVERHEAD_MAX)
            at = p->encoded;
        at = fact_encode (at, &fact, &defaults);
    }
}

static uint64_t encode_check (void *context)
{
    (void) context;                 /* that decoding gives the same back is a unit test's to show */
    return FACTS_A_RUN;
}

static const struct path_step steps[] = {
    { "publish", publish_prepare, publish, publish_check },
    { "encode", publish_prepare, encode, encode_check },
};

int main (int argc, char **argv)
{
    bench_options (argc, argv, "publish, with a node that stands still", options, sizeof options / sizeof *options);
    bench_payload_init ();
    static struct publish_path p = { .next = 1, .random = UINT64_C (0x9E3779B97F4A7C15) };
    p.size = bench_size (options);
    p.topics = bench_number (options, "topics");
    p.subscriber_count = bench_number (options, "subscribers");
    if (p.topics == 0 || p.subscriber_count > SUBSCRIBERS_MAX)
        bench_fail ("--topics: 1 or more; --subscribers: at most %d", SUBSCRIBERS_MAX);
    path_open (&p);
    path_run (path_find (steps, sizeof steps / sizeof *steps, bench_string (options, "step")), &p, bench_number (options, "count"));
    path_close (&p);
    return 0;
}
