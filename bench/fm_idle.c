/* fm_idle: a node that does nothing: it has published one fact, has a subscription, has seen the facts of all the others, and is told after a while what
 * that cost. For what idle nodes cost a journal. */

#include <stdlib.h>

#include "common/bench.h"
#include "factmesh.h"

static struct bench_option options[] = {
    { "seed", "address of a node", "tcp://127.0.0.1:7400" },
    { "nodes", "nodes like this one: so many facts are awaited", "20" },
    { "number", "of this node, from 1 on", "1" },
    { "ready", "file to make when all facts have come", "" },
};

static void stop (const char *what, int rc)
{
    bench_fail ("%s: %s (%s)", what, fm_error_text (rc), fm_error_detail ());
}

static void publish_one (struct fm_publisher *publisher)
{
    uint8_t payload[100];
    bench_payload_put (payload, sizeof payload, bench_number (options, "number"), 0);
    int rc = fm_publish (publisher, &(struct fm_fact) { .topic = fm_text ("bench.idle"), .payload = { payload, sizeof payload } }, NULL);
    if (rc == 0)
        rc = fm_publisher_wait_synced (publisher, 0, 30000);
    if (rc < 0)
        stop ("publish", rc);
}

/* One fact of each node, in any order. */
static void take_all (struct fm_subscription *subscription)
{
    const uint64_t nodes = bench_number (options, "nodes");
    uint8_t *seen = calloc (nodes + 1, 1);
    if (!seen)
        bench_fail ("out of memory");
    for (uint64_t left = nodes; left > 0;) {
        struct fm_event event;
        const int rc = fm_subscription_next (subscription, 30000, &event);
        if (rc < 0)
            stop ("next", rc);
        uint64_t n, sent_ns;
        if (event.kind == FM_EVENT_GAP)
            bench_fail ("a gap came");
        if (event.kind != FM_EVENT_FACT)
            continue;
        if (bench_payload_check (event.fact.payload.data, event.fact.payload.len, &n, &sent_ns) != 0 || n == 0 || n > nodes || seen[n]++)
            bench_fail ("a fact came that nobody published, or came twice");
        left--;
    }
    free (seen);
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "be idle until SIGTERM", options, sizeof options / sizeof *options);
    bench_payload_init ();
    bench_catch_signals ();
    struct fm_node *node = NULL;
    struct fm_publisher *publisher = NULL;
    struct fm_subscription *subscription = NULL;
    int rc = fm_node_open (&(struct fm_node_options) { .seeds = bench_string (options, "seed") }, &node);
    if (rc < 0)
        stop ("node", rc);
    rc = fm_publisher_open (node, NULL, &publisher);
    if (rc < 0)
        stop ("publisher", rc);
    publish_one (publisher);
    rc = fm_subscription_open (node, &(struct fm_subscription_options) { .from = FM_FROM_START, .open_timeout_ms = 20000 }, &subscription);
    if (rc < 0)
        stop ("subscription", rc);
    take_all (subscription);
    bench_ready (bench_string (options, "ready"));

    const uint64_t began = bench_now_ns (), cpu = bench_cpu_ns ();
    while (!bench_told_to_end ()) {
        struct fm_event event;
        rc = fm_subscription_next (subscription, 1000, &event);
        if (rc == 0 && event.kind == FM_EVENT_FACT)
            bench_fail ("one fact too many came");
    }
    printf ("{\"idle_s\": %.3f, \"cpu_share\": %.6f, \"peak_bytes\": %llu}\n", (double) (bench_now_ns () - began) / 1e9,
            (double) (bench_cpu_ns () - cpu) / (double) (bench_now_ns () - began), (unsigned long long) bench_peak_bytes ());
    fm_subscription_close (&subscription);
    fm_publisher_close (&publisher);
    fm_node_close (&node);
    return 0;
}
