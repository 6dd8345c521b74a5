/* fm_pub: publishes numbered payloads to a mesh and says how long it took until the journal had synced them all. */

#include <stdlib.h>

#include "common/bench.h"
#include "factmesh.h"

static struct bench_option options[] = {
    { "seed", "address of a node", "tcp://127.0.0.1:7400" },
    { "count", "facts", "1M" },
    { "size", "payload bytes", "100" },
    { "topics", "facts alternate over so many topics", "1" },
    { "run", "facts of one topic in a row: fact n has topic n / RUN modulo their number; 0: at random", "0" },
    { "rate", "facts a second; 0: as fast as it goes", "0" },
    { "spin", "with a rate: 0: sleep until a fact is due, else wait for it awake", "1" },
    { "for", "at most so many seconds; 0: as long as it takes", "0" },
    { "endless", "1: until SIGTERM, however many", "0" },
    { "each", "1: wait for each fact to be synced before the next, and tell the latency", "0" },
    { "wait", "0: do not wait for the journal", "1" },
    { "members", "wait for so many members before the start", "3" },
    { "ready", "file to make when it could begin", "" },
    { "go", "file that says when it begins: CLOCK_MONOTONIC, in ns; waited for", "" },
    { "prefix", "topics are PREFIX.t0, PREFIX.t1 …", "bench" },
    { "window", "window bytes", "64M" },
};

static void stop (const char *what, int rc)
{
    bench_fail ("%s: %s (%s)", what, fm_error_text (rc), fm_error_detail ());
}

struct run {
    struct fm_publisher *publisher;
    uint64_t count, size, topics, rate, run, end_ns;
    bool each, spin, endless;
    struct bench_histogram latency;
    char (*names)[64];
    struct fm_slice *slices;
};

static void wait_synced (struct run *run)
{
    const int rc = fm_publisher_wait_synced (run->publisher, 0, 60000);
    if (rc < 0)
        stop ("wait", rc);
}

static bool is_done (const struct run *run, uint64_t n)
{
    return bench_told_to_end () || (!run->endless && n > run->count) || (run->end_ns && n > 1 && bench_now_ns () >= run->end_ns);
}

/* Publish; run->count is then what was published. */
static void publish_all (struct run *run)
{
    struct bench_pace pace;
    bench_pace_init (&pace, bench_now_ns (), run->rate);
    static uint8_t payload[BENCH_PAYLOAD_MAX];
    uint64_t random = 0x9E3779B97F4A7C15u, n = 1;   /* xorshift64, Marsaglia 2003 */
    for (; !is_done (run, n); n++) {
        uint64_t due = 0;
        if (run->rate) {
            due = bench_pace_due (&pace, n - 1);
            bench_wait_until (due, run->spin);
        } else if (run->each)
            due = bench_now_ns ();
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        const struct fm_slice topic = run->slices[run->topics == 1 ? 0 : (run->run ? n / run->run : random) % run->topics];
        bench_payload_put (payload, run->size, n, due);
        const struct fm_fact fact = { .topic = topic, .payload = { payload, run->size } };
        const int rc = fm_publish (run->publisher, &fact, NULL);
        if (rc < 0)
            stop ("publish", rc);
        if (run->each) {
            wait_synced (run);
            bench_histogram_add (&run->latency, bench_now_ns () - due);
        }
    }
    run->count = n - 1;
}

/* Several publishers begin together, when the last of them is ready. */
static void wait_to_go (const char *path)
{
    unsigned long long go_ns = 0;
    while (*path && !go_ns && !bench_told_to_end ()) {
        FILE *file = fopen (path, "r");
        if (file && fscanf (file, "%llu", &go_ns) != 1)
            bench_fail ("%s: no time in it", path);
        if (file)
            (void) fclose (file);           /* it was read */
        else
            bench_sleep_until (bench_now_ns () + 1000000u);
    }
    bench_sleep_until (go_ns);
}

static void names_make (struct run *run)
{
    run->names = calloc (run->topics, sizeof *run->names);
    run->slices = calloc (run->topics, sizeof *run->slices);
    if (!run->names || !run->slices || !run->topics)
        bench_fail ("out of memory, or no topic");
    for (uint64_t i = 0; i < run->topics; i++) {
        snprintf (run->names[i], sizeof run->names[i], "%.40s.t%llu", bench_string (options, "prefix"), (unsigned long long) i);
        run->slices[i] = fm_text (run->names[i]);
    }
}

static void answer_print (const struct run *run, uint64_t started, uint64_t published, uint64_t synced, uint64_t cpu_ns)
{
    const double synced_s = (double) (synced - started) / 1e9;
    printf ("{\"facts\": %llu, \"start_ns\": %llu, \"published_s\": %.6f, \"synced_s\": %.6f, \"facts_per_s\": %.0f, \"cpu_ns_per_fact\": %.1f, \"peak_bytes\": %llu",
            (unsigned long long) run->count, (unsigned long long) started, (double) (published - started) / 1e9, synced_s, (double) run->count / synced_s,
            (double) cpu_ns / (double) run->count, (unsigned long long) bench_peak_bytes ());
    if (run->each) {
        fputs (", ", stdout);
        bench_histogram_print (&run->latency, stdout);
    }
    puts ("}");
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "publish numbered payloads", options, sizeof options / sizeof *options);
    bench_payload_init ();
    bench_catch_signals ();
    static struct run run;
    run = (struct run) { .count = bench_number (options, "count"), .size = bench_size (options), .topics = bench_number (options, "topics"),
                         .rate = bench_number (options, "rate"), .each = bench_number (options, "each") != 0,
                         .spin = bench_number (options, "spin") != 0, .endless = bench_number (options, "endless") != 0,
                         .run = bench_number (options, "run") };
    names_make (&run);

    struct fm_node *node = NULL;
    int rc = fm_node_open (&(struct fm_node_options) { .seeds = bench_string (options, "seed") }, &node);
    if (rc < 0)
        stop ("node", rc);
    rc = fm_node_wait_members (node, (unsigned) bench_number (options, "members"), 30000);
    if (rc < 0)
        stop ("members", rc);
    const struct fm_publisher_options how = { .window_bytes = bench_number (options, "window"), .block_ms = 60000 };
    rc = fm_publisher_open (node, &how, &run.publisher);
    if (rc < 0)
        stop ("publisher", rc);
    /* Live connections are made by the others: give the first facts nobody to miss. */
    bench_sleep_until (bench_now_ns () + 500000000u);
    bench_ready (bench_string (options, "ready"));
    wait_to_go (bench_string (options, "go"));

    const uint64_t started = bench_now_ns (), cpu = bench_cpu_ns (), for_s = bench_number (options, "for");
    run.end_ns = for_s ? started + for_s * 1000000000u : 0;
    publish_all (&run);
    const uint64_t published = bench_now_ns ();
    if (bench_number (options, "wait"))
        wait_synced (&run);
    answer_print (&run, started, published, bench_now_ns (), bench_cpu_ns () - cpu);
    fm_publisher_close (&run.publisher);
    fm_node_close (&node);
    free (run.names);
    free (run.slices);
    return 0;
}
