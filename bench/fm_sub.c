/* fm_sub: takes numbered payloads, reads every field, checks every byte, and says how fast they came, or how late. */

#include <stdlib.h>
#include <string.h>

#include "common/bench.h"
#include "factmesh.h"

static struct bench_option options[] = {
    { "seed", "address of a node", "tcp://127.0.0.1:7400" },
    { "count", "facts to take", "1M" },
    { "topic", "pattern", ">" },
    { "from", "start or end", "end" },
    { "step", "numbers between the facts that the pattern leaves", "1" },
    { "streams", "publishers", "1" },
    { "synced", "1: synced delivery", "0" },
    { "latency", "1: payloads carry their sending time", "0" },
};

struct taken {
    struct fm_id stream;
    struct bench_check check;
};

static void stop (const char *what, int rc)
{
    bench_fail ("%s: %s (%s)", what, fm_error_text (rc), fm_error_detail ());
}

static struct taken *taken_of (struct taken *all, size_t max, const struct fm_id *stream)
{
    static const struct fm_id none;
    for (size_t i = 0; i < max; i++) {
        if (memcmp (&all[i].stream, stream, sizeof *stream) == 0)
            return &all[i];
        if (memcmp (&all[i].stream, &none, sizeof none) == 0) {
            all[i].stream = *stream;
            all[i].check.next = 0;
            return &all[i];
        }
    }
    bench_fail ("more streams came than --streams says");
}

/* Read every field, so that lazy decoding has nothing to gain. */
static uint64_t read_fields (const struct fm_fact *f)
{
    return f->id.seq + f->time_ns + f->topic.len + ((const uint8_t *) f->topic.data)[f->topic.len - 1] + f->key.len + f->type.len + f->headers.len + f->flags;
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "take numbered payloads", options, sizeof options / sizeof *options);
    bench_payload_init ();
    const uint64_t count = bench_number (options, "count"), step = bench_number (options, "step");
    const size_t streams = bench_number (options, "streams");
    const bool latency = bench_number (options, "latency") != 0;
    struct bench_histogram histogram;
    bench_histogram_init (&histogram);
    struct taken *taken = calloc (streams, sizeof *taken);
    if (!taken)
        bench_fail ("out of memory");

    struct fm_node *node = NULL;
    int rc = fm_node_open (&(struct fm_node_options) { .seeds = bench_string (options, "seed") }, &node);
    if (rc < 0)
        stop ("node", rc);
    const char *const topics[] = { bench_string (options, "topic"), NULL };
    const struct fm_subscription_options how = {
        .topics = topics, .from = strcmp (bench_string (options, "from"), "start") == 0 ? FM_FROM_START : FM_FROM_END,
        .delivery = bench_number (options, "synced") ? FM_SYNCED : FM_LIVE, .open_timeout_ms = 20000,
    };
    struct fm_subscription *subscription = NULL;
    const uint64_t opened = bench_now_ns ();
    rc = fm_subscription_open (node, &how, &subscription);
    if (rc < 0)
        stop ("subscription", rc);

    uint64_t got = 0, first_ns = 0, live_ns = 0, sum = 0, replayed = 0, behind = 0;
    const uint64_t cpu = bench_cpu_ns ();
    while (got < count) {
        struct fm_event event;
        rc = fm_subscription_next (subscription, 30000, &event);
        if (rc < 0)
            bench_fail ("after %llu facts: %s (%s)", (unsigned long long) got, fm_error_text (rc), fm_error_detail ());
        if (event.kind == FM_EVENT_GAP)
            bench_fail ("a gap came after %llu facts", (unsigned long long) got);
        if (event.kind == FM_EVENT_CAUGHT_UP && !live_ns)
            live_ns = bench_now_ns ();
        behind += event.kind == FM_EVENT_FELL_BEHIND;
        if (event.kind != FM_EVENT_FACT)
            continue;
        if (!first_ns)
            first_ns = bench_now_ns ();
        sum += read_fields (&event.fact);
        replayed += event.replayed;
        struct taken *t = taken_of (taken, streams, &event.fact.id.stream);
        if (t->check.next == 0)
            memcpy (&t->check.next, event.fact.payload.data, 8);    /* a filter or "end" may begin anywhere */
        const uint64_t sent = bench_check_next (&t->check, event.fact.payload.data, event.fact.payload.len, step);
        if (latency)
            bench_histogram_add (&histogram, bench_now_ns () - sent);
        got++;
    }
    const uint64_t last_ns = bench_now_ns ();
    printf ("{\"facts\": %llu, \"end_ns\": %llu, \"first_s\": %.6f, \"live_s\": %.6f, \"taken_s\": %.6f, \"facts_per_s\": %.0f, \"cpu_ns_per_fact\": %.1f, \"replayed\": %llu, \"fell_behind\": %llu, \"peak_bytes\": %llu, \"sum\": %llu",
            (unsigned long long) got, (unsigned long long) last_ns, (double) (first_ns - opened) / 1e9, live_ns ? (double) (live_ns - opened) / 1e9 : -1.0,
            (double) (last_ns - first_ns) / 1e9, (double) got / ((double) (last_ns - first_ns) / 1e9),
            (double) (bench_cpu_ns () - cpu) / (double) got, (unsigned long long) replayed, (unsigned long long) behind, (unsigned long long) bench_peak_bytes (), (unsigned long long) sum);
    if (latency) {
        fputs (", ", stdout);
        bench_histogram_print (&histogram, stdout);
    }
    puts ("}");
    fm_subscription_close (&subscription);
    fm_node_close (&node);
    free (taken);
    return 0;
}
