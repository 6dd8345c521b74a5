/* rtt_sync: the floor under publish-and-wait: one raw libzmq round trip to another process, then one fdatasync of a record of that
 * size into a zero-filled file, one after the other. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "common/bench.h"

static struct bench_option options[] = {
    { "address", "for the round trips", "tcp://127.0.0.1:7502" },
    { "file", "to write to", "build/bench/rtt_sync.tmp" },
    { "count", "rounds", "1000" },
    { "size", "payload bytes", "100" },
};

static void check (int rc, const char *what)
{
    if (rc < 0)
        bench_fail ("%s: %s", what, zmq_strerror (zmq_errno ()));
}

static void echo (uint64_t count, size_t size)
{
    void *context = zmq_ctx_new ();
    void *s = zmq_socket (context, ZMQ_PAIR);
    uint8_t payload[BENCH_PAYLOAD_MIN + 4096];
    check (zmq_bind (s, bench_string (options, "address")), "bind");
    for (uint64_t i = 0; i < count; i++) {
        check (zmq_recv (s, payload, sizeof payload, 0), "receive");
        check (zmq_send (s, payload, size, 0), "send");
    }
    zmq_close (s);
    zmq_ctx_term (context);
}

static int file_filled (const char *path, uint64_t bytes)
{
    const int fd = open (path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    static const uint8_t zeros[65536];
    check (fd, path);
    for (uint64_t done = 0; done < bytes; done += sizeof zeros)
        if (write (fd, zeros, sizeof zeros) != (ssize_t) sizeof zeros)
            bench_fail ("%s: %s", path, strerror (errno));
    check (fsync (fd), path);
    return fd;
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "one round trip and one fdatasync", options, sizeof options / sizeof *options);
    bench_payload_init ();
    const uint64_t count = bench_number (options, "count");
    const size_t size = bench_number (options, "size");
    if (size > 4096)
        bench_fail ("--size: at most 4096");
    const pid_t child = fork ();
    check (child, "fork");
    if (child == 0) {
        (void) prctl (PR_SET_PDEATHSIG, SIGKILL);   /* does not fail for a valid signal */
        echo (count, size);
        return 0;
    }
    static struct bench_histogram both, trip, sync;
    const int fd = file_filled (bench_string (options, "file"), (count * (size + 100) | 65535) + 1);
    void *context = zmq_ctx_new ();
    void *s = zmq_socket (context, ZMQ_PAIR);
    check (zmq_connect (s, bench_string (options, "address")), "connect");
    uint8_t payload[BENCH_PAYLOAD_MIN + 4096];
    for (uint64_t n = 1; n <= count; n++) {
        const uint64_t t0 = bench_now_ns ();
        bench_payload_put (payload, size, n, t0);
        check (zmq_send (s, payload, size, 0), "send");
        check (zmq_recv (s, payload, sizeof payload, 0), "receive");
        const uint64_t t1 = bench_now_ns ();
        if (pwrite (fd, payload, size, (off_t) ((n - 1) * (size + 100))) != (ssize_t) size || fdatasync (fd) != 0)
            bench_fail ("write: %s", strerror (errno));
        const uint64_t t2 = bench_now_ns ();
        bench_histogram_add (&trip, t1 - t0);
        bench_histogram_add (&sync, t2 - t1);
        bench_histogram_add (&both, t2 - t0);
    }
    printf ("{");
    bench_histogram_print (&both, stdout);
    printf (", \"trip\": {");
    bench_histogram_print (&trip, stdout);
    printf ("}, \"sync\": {");
    bench_histogram_print (&sync, stdout);
    printf ("}}\n");
    zmq_close (s);
    zmq_ctx_term (context);
    close (fd);
    (void) unlink (bench_string (options, "file"));    /* a leftover is only in build/ */
    check (waitpid (child, NULL, 0), "wait");
    return 0;
}
