/* zmq_ping: the floor under a request: a raw libzmq ping-pong between two processes over two PUB/SUB pairs, one at a time. */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "common/bench.h"

enum { SIZE_MAX_BYTES = 4096, PATIENCE_MS = 10000, AGAIN_MS = 20 };

static struct bench_option options[] = {
    { "ping", "address", "tcp://127.0.0.1:7503" },
    { "pong", "address", "tcp://127.0.0.1:7504" },
    { "count", "rounds", "1000" },
    { "size", "payload bytes", "100" },
};

static void check (int rc, const char *what)
{
    if (rc < 0)
        bench_fail ("%s: %s", what, zmq_strerror (zmq_errno ()));
}

/* A socket of each kind: publishes at one address, takes all from the other. */
struct end {
    void *context, *pub, *sub;
};

static struct end end_open (const char *own, const char *other, int timeout_ms)
{
    struct end e = { .context = zmq_ctx_new () };
    e.pub = zmq_socket (e.context, ZMQ_PUB);
    e.sub = zmq_socket (e.context, ZMQ_SUB);
    const int linger = 1000;
    check (zmq_setsockopt (e.pub, ZMQ_LINGER, &linger, sizeof linger), "linger");
    check (zmq_setsockopt (e.sub, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms), "time-out");
    check (zmq_setsockopt (e.sub, ZMQ_SUBSCRIBE, "", 0), "subscribe");
    check (zmq_bind (e.pub, own), own);
    check (zmq_connect (e.sub, other), other);
    return e;
}

static void end_close (struct end *e)
{
    zmq_close (e->pub);
    zmq_close (e->sub);
    zmq_ctx_term (e->context);
}

/* Send back what comes, until a frame of one byte does. */
static void echo (void)
{
    struct end e = end_open (bench_string (options, "pong"), bench_string (options, "ping"), -1);
    for (;;) {
        zmq_msg_t message;
        zmq_msg_init (&message);
        check (zmq_msg_recv (&message, e.sub, 0), "receive");
        if (zmq_msg_size (&message) == 1)
            break;
        check (zmq_msg_send (&message, e.pub, 0), "send");
    }
    end_close (&e);
}

/* Until it comes back: at first nobody is connected. */
static void ping_until_there (struct end *e, uint8_t *payload, size_t size)
{
    const int again_ms = AGAIN_MS, patience_ms = PATIENCE_MS;
    check (zmq_setsockopt (e->sub, ZMQ_RCVTIMEO, &again_ms, sizeof again_ms), "time-out");
    int rc = -1;
    for (int tries = 0; rc < 0 && tries < PATIENCE_MS / AGAIN_MS; tries++) {
        check (zmq_send (e->pub, payload, size, 0), "send");
        rc = zmq_recv (e->sub, payload, size, 0);
    }
    check (rc, "nobody answers");
    while (zmq_recv (e->sub, payload, size, 0) >= 0)        /* answers to earlier tries */
        continue;
    check (zmq_setsockopt (e->sub, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms), "time-out");
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "a raw ping-pong", options, sizeof options / sizeof *options);
    bench_payload_init ();
    const uint64_t count = bench_number (options, "count");
    const size_t size = bench_size (options);
    if (size > SIZE_MAX_BYTES)
        bench_fail ("--size: at most %d", SIZE_MAX_BYTES);
    const pid_t child = fork ();
    check (child, "fork");
    if (child == 0) {
        (void) prctl (PR_SET_PDEATHSIG, SIGKILL);   /* does not fail for a valid signal */
        echo ();
        return 0;
    }
    static struct bench_histogram trip;
    uint8_t sent[SIZE_MAX_BYTES];
    struct end e = end_open (bench_string (options, "ping"), bench_string (options, "pong"), PATIENCE_MS);
    struct bench_check check_back = { .next = 1 };
    bench_payload_put (sent, size, 1, 0);
    ping_until_there (&e, sent, size);
    for (uint64_t n = 1; n <= count; n++) {
        const uint64_t began = bench_now_ns ();
        bench_payload_put (sent, size, n, began);
        check (zmq_send (e.pub, sent, size, 0), "send");
        zmq_msg_t message;
        zmq_msg_init (&message);
        check (zmq_msg_recv (&message, e.sub, 0), "receive");
        bench_histogram_add (&trip, bench_now_ns () - began);
        (void) bench_check_next (&check_back, zmq_msg_data (&message), zmq_msg_size (&message), 1);
        zmq_msg_close (&message);
    }
    check (zmq_send (e.pub, "", 1, 0), "send");
    printf ("{");
    bench_histogram_print (&trip, stdout);
    printf ("}\n");
    end_close (&e);
    check (waitpid (child, NULL, 0), "wait");
    return 0;
}
