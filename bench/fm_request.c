/* fm_request: requests, one at a time, to a responder in another process that answers with what it was asked; a journal records both. */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bench.h"
#include "factmesh.h"

enum { PATIENCE_MS = 20000, SIZE_MAX_BYTES = 4096, MEMBERS = 3 };

static struct bench_option options[] = {
    { "seed", "address of the journal", "tcp://127.0.0.1:7400" },
    { "count", "requests", "1000" },
    { "size", "payload bytes", "100" },
};

static void check (int rc, const char *what)
{
    if (rc < 0)
        bench_fail ("%s: %s (%s)", what, fm_error_text (rc), fm_error_detail ());
}

struct end {
    struct fm_node *node;
    struct fm_publisher *publisher;
};

/* All know each other when it returns. */
static struct end end_open (const char *name)
{
    struct end e = { .node = NULL };
    check (fm_node_open (&(struct fm_node_options) { .name = name, .seeds = bench_string (options, "seed") }, &e.node), "node");
    check (fm_publisher_open (e.node, NULL, &e.publisher), "publisher");
    check (fm_node_wait_members (e.node, MEMBERS, PATIENCE_MS), "members");
    return e;
}

static void end_close (struct end *e)
{
    check (fm_publisher_wait_synced (e->publisher, 0, PATIENCE_MS), "synced");
    fm_publisher_close (&e->publisher);
    fm_node_close (&e->node);
}

static void respond (uint64_t count, int ready_fd)
{
    struct end e = end_open ("responder");
    struct fm_subscription *requests = NULL;
    const char *const topics[] = { "bench.request", NULL };
    check (fm_subscription_open (e.node, &(struct fm_subscription_options) { .topics = topics }, &requests), "subscription");
    if (write (ready_fd, "", 1) != 1)
        bench_fail ("the requester has gone");
    for (uint64_t done = 0; done < count;) {
        struct fm_event event;
        check (fm_subscription_next (requests, PATIENCE_MS, &event), "next");
        if (event.kind == FM_EVENT_GAP)
            bench_fail ("a gap came");
        if (event.kind != FM_EVENT_FACT)
            continue;
        const struct fm_fact response = { .payload = event.fact.payload };
        check (fm_respond (e.publisher, &event.fact, &response, NULL), "respond");
        done++;
    }
    fm_subscription_close (&requests);
    end_close (&e);
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "requests, one at a time", options, sizeof options / sizeof *options);
    bench_payload_init ();
    const uint64_t count = bench_number (options, "count");
    const size_t size = bench_size (options);
    int ready[2], status = 0;
    if (size > SIZE_MAX_BYTES)
        bench_fail ("--size: at most %d", SIZE_MAX_BYTES);
    if (pipe (ready) != 0)
        bench_fail ("pipe");
    const pid_t child = fork ();
    if (child < 0)
        bench_fail ("fork");
    if (child == 0) {
        (void) prctl (PR_SET_PDEATHSIG, SIGKILL);   /* does not fail for a valid signal */
        respond (count, ready[1]);
        return 0;
    }
    (void) close (ready[1]);        /* so that its end shows */
    struct end e = end_open ("requester");
    struct fm_requester *requester = NULL;
    char byte;
    if (read (ready[0], &byte, 1) != 1)
        bench_fail ("the responder has gone");
    check (fm_requester_open (e.node, e.publisher, &(struct fm_requester_options) { .topic = "bench.request" }, &requester), "requester");
    static struct bench_histogram trip;
    struct bench_check check_back = { .next = 1 };
    uint8_t payload[SIZE_MAX_BYTES];
    for (uint64_t n = 1; n <= count; n++) {
        const uint64_t began = bench_now_ns ();
        struct fm_fact response;
        bench_payload_put (payload, size, n, began);
        check (fm_request (requester, &(struct fm_fact) { .payload = { payload, size } }, PATIENCE_MS, &response), "request");
        bench_histogram_add (&trip, bench_now_ns () - began);
        (void) bench_check_next (&check_back, response.payload.data, response.payload.len, 1);
    }
    printf ("{");
    bench_histogram_print (&trip, stdout);
    printf ("}\n");
    fm_requester_close (&requester);
    end_close (&e);
    if (waitpid (child, &status, 0) != child || status != 0)
        bench_fail ("the responder failed");
    return 0;
}
