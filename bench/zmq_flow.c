/* zmq_flow: the reference: raw libzmq PUB to SUBs, the same payloads, one message each, nothing recorded.
 *
 * --role pub|sub; a pub waits for --subs subscriptions, sends, and waits for each sub's answer on a PULL. */

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "common/bench.h"

static struct bench_option options[] = {
    { "role", "pub or sub", "pub" },
    { "address", "of the publisher's XPUB", "tcp://127.0.0.1:7500" },
    { "done", "of the publisher's PULL", "tcp://127.0.0.1:7501" },
    { "count", "messages", "1M" },
    { "size", "payload bytes", "100" },
    { "subs", "subscribers that the publisher waits for", "2" },
    { "rate", "messages a second; 0: as fast as it goes", "0" },
    { "latency", "1: tell the latency", "0" },
    { "queue", "high-water mark; 0: none. With one, a full queue makes the publisher wait, and nothing is dropped", "0" },
    { "endless", "1: until SIGTERM, and no answers are waited for", "0" },
};

static void check (int rc, const char *what)
{
    if (rc < 0)
        bench_fail ("%s: %s", what, zmq_strerror (zmq_errno ()));
}

static void *socket_new (void *context, int type, const char *address, bool bind)
{
    void *s = zmq_socket (context, type);
    const int mark = (int) bench_number (options, "queue"), linger = bench_number (options, "endless") ? 0 : 10000, wait = 1;
    check (zmq_setsockopt (s, ZMQ_SNDHWM, &mark, sizeof mark), "ZMQ_SNDHWM");
    check (zmq_setsockopt (s, ZMQ_RCVHWM, &mark, sizeof mark), "ZMQ_RCVHWM");
    if (type == ZMQ_XPUB)
        check (zmq_setsockopt (s, ZMQ_XPUB_NODROP, &wait, sizeof wait), "ZMQ_XPUB_NODROP");
    check (zmq_setsockopt (s, ZMQ_LINGER, &linger, sizeof linger), "ZMQ_LINGER");
    check (bind ? zmq_bind (s, address) : zmq_connect (s, address), address);
    return s;
}

static void run_pub (void *context)
{
    const uint64_t count = bench_number (options, "count"), size = bench_size (options), rate = bench_number (options, "rate");
    const bool endless = bench_number (options, "endless") != 0;
    void *out = socket_new (context, ZMQ_XPUB, bench_string (options, "address"), true);
    void *done = socket_new (context, ZMQ_PULL, bench_string (options, "done"), true);
    const int verbose = 1;
    check (zmq_setsockopt (out, ZMQ_XPUB_VERBOSE, &verbose, sizeof verbose), "ZMQ_XPUB_VERBOSE");
    char byte[16];
    for (uint64_t i = 0; i < bench_number (options, "subs"); i++)
        check (zmq_recv (out, byte, sizeof byte, 0), "subscription");
    struct bench_pace pace;
    const uint64_t started = bench_now_ns (), cpu = bench_cpu_ns ();
    bench_pace_init (&pace, started, rate);
    for (uint64_t n = 1; (endless || n <= count) && !bench_told_to_end (); n++) {
        const uint64_t due = bench_pace_due (&pace, n - 1);
        if (rate)
            bench_wait_until (due, true);
        zmq_msg_t message;
        check (zmq_msg_init_size (&message, size), "zmq_msg_init_size");
        bench_payload_put (zmq_msg_data (&message), size, n, rate ? due : 0);
        if (zmq_msg_send (&message, out, 0) < 0 && !bench_told_to_end ())
            check (-1, "send");
    }
    for (uint64_t i = 0; !endless && i < bench_number (options, "subs"); i++)
        check (zmq_recv (done, byte, sizeof byte, 0), "done");
    const double s = (double) (bench_now_ns () - started) / 1e9;
    printf ("{\"messages\": %llu, \"taken_s\": %.6f, \"messages_per_s\": %.0f, \"cpu_ns_per_message\": %.1f}\n", (unsigned long long) count, s,
            (double) count / s, (double) (bench_cpu_ns () - cpu) / (double) count);
    zmq_close (out);
    zmq_close (done);
}

static void answer_print (uint64_t count, const struct bench_histogram *histogram)
{
    printf ("{\"messages\": %llu", (unsigned long long) count);
    if (histogram->count) {
        fputs (", ", stdout);
        bench_histogram_print (histogram, stdout);
        fputs (", ", stdout);
        bench_histogram_print_curve (histogram, stdout);
    }
    puts ("}");
}

static void run_sub (void *context)
{
    const uint64_t count = bench_number (options, "count");
    const bool latency = bench_number (options, "latency") != 0, endless = bench_number (options, "endless") != 0;
    static struct bench_histogram histogram;
    void *in = socket_new (context, ZMQ_SUB, bench_string (options, "address"), false);
    void *done = socket_new (context, ZMQ_PUSH, bench_string (options, "done"), false);
    check (zmq_setsockopt (in, ZMQ_SUBSCRIBE, "", 0), "subscribe");
    struct bench_check expected = { .next = 1 };
    zmq_msg_t message;
    check (zmq_msg_init (&message), "zmq_msg_init");
    uint64_t n = 0;
    for (; endless || n < count; n++) {
        if (zmq_msg_recv (&message, in, 0) < 0) {
            if (bench_told_to_end () && endless)
                break;
            check (-1, "receive");
        }
        const uint64_t sent = bench_check_next (&expected, zmq_msg_data (&message), zmq_msg_size (&message), 1);
        if (latency)
            bench_histogram_add (&histogram, bench_now_ns () - sent);
        if (endless && bench_told_to_end ())
            break;
    }
    if (!endless)
        check (zmq_send (done, "d", 1, 0), "done");
    answer_print (n, &histogram);
    zmq_msg_close (&message);
    zmq_close (in);
    zmq_close (done);
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "raw libzmq PUB to SUBs", options, sizeof options / sizeof *options);
    bench_payload_init ();
    if (bench_number (options, "endless"))
        bench_catch_signals ();
    void *context = zmq_ctx_new ();
    if (strcmp (bench_string (options, "role"), "pub") == 0)
        run_pub (context);
    else
        run_sub (context);
    zmq_ctx_term (context);
    return 0;
}
