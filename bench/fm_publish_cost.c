/* fm_publish_cost: what does one fm_publish cost its caller? No journal and a window that forgets, so that nothing is waited for; with `subscribers`, as many
 * plain SUB sockets in this process take the frames (and the cores). */

#include <errno.h>
#include <stdlib.h>
#include <zmq.h>

#include "common/bench.h"
#include "factmesh.h"
#include "node.h"

static struct bench_option options[] = {
    { "count", "facts", "5M" },
    { "size", "payload bytes", "100" },
    { "topics", "facts go round so many topics", "1" },
    { "subscribers", "sockets that take everything", "0" },
    { "pause", "us between two facts; 0: a flood", "0" },
    { "window", "0: in memory; 1: on disk too; 2: and synced", "0" },
    { "directory", "of the stream, for a window on disk", "" },
};

enum { TOPICS_MAX = 1000, SUBSCRIBERS_MAX = 16 };

static void stop (const char *what, int rc)
{
    bench_fail ("%s: %s (%s)", what, fm_error_text (rc), fm_error_detail ());
}

static void *connect_subscriber (void *zmq, struct fm_node *node)
{
    void *socket = zmq_socket (zmq, ZMQ_SUB);
    if (!socket || zmq_setsockopt (socket, ZMQ_SUBSCRIBE, ".", 1) || zmq_connect (socket, live_address (node_live (node))))
        bench_fail ("subscriber: %s", zmq_strerror (errno));
    return socket;
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "time fm_publish in its caller", options, sizeof options / sizeof options[0]);
    const uint64_t count = bench_number (options, "count"), size = bench_number (options, "size"), topics = bench_number (options, "topics");
    const uint64_t subscribers = bench_number (options, "subscribers"), pause_ns = bench_number (options, "pause") * 1000;
    static char names[TOPICS_MAX][32];
    if (topics == 0 || topics > TOPICS_MAX || subscribers > SUBSCRIBERS_MAX)
        bench_fail ("at most %d topics and %d subscribers", TOPICS_MAX, SUBSCRIBERS_MAX);
    for (uint64_t i = 0; i < topics; i++)
        snprintf (names[i], sizeof names[i], "bench.t%u", (unsigned) i);

    struct fm_node *node;
    struct fm_publisher *publisher;
    int rc = fm_node_open (&(struct fm_node_options) { .mesh = "bench", .bind = "tcp://127.0.0.1:*", .beacon_port = -1 }, &node);
    if (rc)
        stop ("node", rc);
    const char *directory = bench_string (options, "directory");
    const struct fm_publisher_options how = { .when_full = FM_DROP_OLDEST, .directory = *directory ? directory : NULL,
                                              .window_on_disk = (enum fm_window) bench_number (options, "window") };
    rc = fm_publisher_open (node, &how, &publisher);
    if (rc)
        stop ("publisher", rc);
    void *zmq = zmq_ctx_new (), *sockets[SUBSCRIBERS_MAX];
    for (uint64_t i = 0; i < subscribers; i++)
        sockets[i] = connect_subscriber (zmq, node);
    bench_sleep_until (bench_now_ns () + 300000000);    /* joined or not: it is the cost that counts, not what arrives */

    uint8_t *payload = calloc (1, size ? size : 1);
    if (!payload)
        bench_fail ("out of memory");
    uint64_t in_calls = 0;
    const uint64_t begin = bench_now_ns ();
    for (uint64_t i = 0; i < count; i++) {
        const struct fm_fact fact = { .topic = fm_text (names[i % topics]), .payload = { payload, size } };
        const uint64_t before = pause_ns ? bench_now_ns () : 0;
        rc = fm_publish (publisher, &fact, NULL);
        if (rc)
            stop ("publish", rc);
        if (pause_ns) {
            in_calls += bench_now_ns () - before;
            bench_sleep_until (before + pause_ns);
        }
    }
    rc = fm_publisher_flush (publisher);
    if (rc)
        stop ("flush", rc);
    if (!pause_ns)
        in_calls = bench_now_ns () - begin;
    printf ("{\"ns_per_fact\": %.1f}\n", (double) in_calls / (double) count);
    for (uint64_t i = 0; i < subscribers; i++) {
        const int linger = 0;
        zmq_setsockopt (sockets[i], ZMQ_LINGER, &linger, sizeof linger);
        zmq_close (sockets[i]);
    }
    zmq_ctx_term (zmq);
    fm_publisher_close (&publisher);
    fm_node_close (&node);
    free (payload);
    return 0;
}
