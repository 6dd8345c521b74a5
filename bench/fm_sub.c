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
    { "topics", "the publisher's, of which the pattern leaves the first one; 1: all facts match", "1" },
    { "run", "the publisher's: facts of one topic in a row", "1" },
    { "streams", "publishers", "1" },
    { "synced", "1: synced delivery", "0" },
    { "latency", "1: payloads carry their sending time", "0" },
    { "ready", "file to make once it is live", "" },
    { "endless", "1: take them again and again, until SIGTERM", "0" },
};

struct taken {
    struct fm_id stream;
    struct bench_check check;
};

struct run {
    struct fm_node *node;
    struct fm_subscription *subscription;
    struct taken *taken, *taken_last;
    size_t streams;
    uint64_t count, topics, run;
    bool latency, endless;
    uint64_t started_ns, opened_ns, first_ns, last_ns, live_ns;     /* live: caught up; 0: not yet */
    uint64_t got, passes, replayed, behind, passed, sum;
    uint64_t first_number, last_number;                 /* where there is one stream */
    struct bench_histogram histogram;
};

static void stop (const char *what, int rc)
{
    bench_fail ("%s: %s (%s)", what, fm_error_text (rc), fm_error_detail ());
}

static struct taken *taken_of (struct run *run, const struct fm_id *stream)
{
    static const struct fm_id none;
    if (run->taken_last && memcmp (&run->taken_last->stream, stream, sizeof *stream) == 0)
        return run->taken_last;             /* facts come batch by batch */
    for (size_t i = 0; i < run->streams; i++) {
        struct taken *t = &run->taken[i];
        if (memcmp (&t->stream, &none, sizeof none) == 0)
            t->stream = *stream;
        if (memcmp (&t->stream, stream, sizeof *stream) == 0)
            return run->taken_last = t;
    }
    bench_fail ("more streams came than --streams says");
}

/* Read every field, so that lazy decoding has nothing to gain. */
static uint64_t read_fields (const struct fm_fact *f)
{
    return f->id.seq + f->time_ns + f->expires_ns + f->topic.len + ((const uint8_t *) f->topic.data)[f->topic.len - 1] + f->key.len + f->type.len
           + f->content_type.len + f->schema.len + f->correlation.len + f->identity.len + f->causation.seq + f->corrects.seq + f->headers.len
           + f->blob.len + f->flags;
}

/* How far is the number behind n that the pattern leaves? */
static uint64_t step_from (const struct run *run, uint64_t n)
{
    return (n + 1) / run->run % run->topics == 0 ? 1 : 1 + run->run * (run->topics - 1);
}

static void take_fact (struct run *run, const struct fm_event *event)
{
    const struct fm_fact *f = &event->fact;
    if (!run->first_ns)
        run->first_ns = bench_now_ns ();
    run->sum += read_fields (f);
    run->replayed += event->replayed;
    struct taken *t = taken_of (run, &f->id.stream);
    if (t->check.next == 0 && f->payload.len >= 8) {
        memcpy (&t->check.next, f->payload.data, 8);    /* a filter leaves out the first ones */
        if (t->check.next > run->topics)
            bench_fail ("number %llu came first", (unsigned long long) t->check.next);
        if (!run->first_number)
            run->first_number = t->check.next;
    }
    run->last_number = t->check.next;
    const uint64_t sent = bench_check_next (&t->check, f->payload.data, f->payload.len, step_from (run, t->check.next));
    if (run->latency)
        bench_histogram_add (&run->histogram, bench_now_ns () - sent);
    run->got++;
}

/* Take `count` facts, or what comes until told to end. */
static void take_pass (struct run *run)
{
    for (uint64_t left = run->count; left > 0 && !(run->endless && bench_told_to_end ());) {
        struct fm_event event;
        const int rc = fm_subscription_next (run->subscription, 30000, &event);
        if (rc < 0 && bench_told_to_end ())
            return;
        if (rc < 0)
            bench_fail ("after %llu facts: %s (%s)", (unsigned long long) run->got, fm_error_text (rc), fm_error_detail ());
        switch (event.kind) {
        case FM_EVENT_FACT:
            take_fact (run, &event);
            left--;
            break;
        case FM_EVENT_GAP:
            bench_fail ("a gap came after %llu facts", (unsigned long long) run->got);
        case FM_EVENT_CAUGHT_UP:
            if (!run->live_ns) {
                run->live_ns = bench_now_ns ();
                bench_ready (bench_string (options, "ready"));
            }
            break;
        case FM_EVENT_FELL_BEHIND:
            run->behind++;
            break;
        }
    }
    run->last_ns = bench_now_ns ();
    run->passes++;
}

static void open_and_take (struct run *run)
{
    const char *const topics[] = { bench_string (options, "topic"), NULL };
    const struct fm_subscription_options how = {
        .topics = topics, .from = strcmp (bench_string (options, "from"), "start") == 0 ? FM_FROM_START : FM_FROM_END,
        .delivery = bench_number (options, "synced") ? FM_SYNCED : FM_LIVE, .open_timeout_ms = 20000,
    };
    memset (run->taken, 0, run->streams * sizeof *run->taken);
    run->taken_last = NULL;
    run->opened_ns = bench_now_ns ();
    const int rc = fm_subscription_open (run->node, &how, &run->subscription);
    if (rc < 0 && run->endless && bench_told_to_end ())
        return;
    if (rc < 0)
        stop ("subscription", rc);
    take_pass (run);
    fm_subscription_close (&run->subscription);
}

static void answer_print (const struct run *run, uint64_t cpu_ns)
{
    const double taken_s = (double) (run->last_ns - run->first_ns) / 1e9;
    /* All facts of a filter may come in one message: what was passed over took place before the first one. */
    const double passed_s = (double) (run->last_ns - run->opened_ns) / 1e9;
    const uint64_t passed = run->streams == 1 ? run->last_number - run->first_number : 0;
    printf ("{\"facts\": %llu, \"passes\": %llu, \"bytes\": %llu, \"end_ns\": %llu, \"first_s\": %.6f, \"live_s\": %.6f, \"taken_s\": %.6f, \"facts_per_s\": %.0f, "
            "\"passed_per_s\": %.0f, \"cpu_ns_per_fact\": %.1f, \"replayed\": %llu, \"fell_behind\": %llu, \"peak_bytes\": %llu, \"sum\": %llu",
            (unsigned long long) run->got, (unsigned long long) run->passes, (unsigned long long) run->taken[0].check.bytes,
            (unsigned long long) run->last_ns, (double) (run->first_ns - run->started_ns) / 1e9,
            run->live_ns ? (double) (run->live_ns - run->started_ns) / 1e9 : -1.0, taken_s, (double) run->got / taken_s, (double) passed / passed_s,
            (double) cpu_ns / (double) run->got, (unsigned long long) run->replayed, (unsigned long long) run->behind,
            (unsigned long long) bench_peak_bytes (), (unsigned long long) run->sum);
    if (run->latency) {
        fputs (", ", stdout);
        bench_histogram_print (&run->histogram, stdout);
        fputs (", ", stdout);
        bench_histogram_print_curve (&run->histogram, stdout);
    }
    puts ("}");
}

int main (int argc, char **argv)
{
    static struct run run;
    run.started_ns = bench_now_ns ();
    bench_options (argc, argv, "take numbered payloads", options, sizeof options / sizeof *options);
    bench_payload_init ();
    bench_catch_signals ();
    run.count = bench_number (options, "count");
    run.topics = bench_number (options, "topics");
    run.run = bench_number (options, "run");
    run.streams = bench_number (options, "streams");
    run.latency = bench_number (options, "latency") != 0;
    run.endless = bench_number (options, "endless") != 0;
    run.taken = run.streams ? calloc (run.streams, sizeof *run.taken) : NULL;
    if (!run.taken || !run.count || !run.topics || !run.run)
        bench_fail ("--count, --streams, --topics and --run are 1 or more");

    const int rc = fm_node_open (&(struct fm_node_options) { .seeds = bench_string (options, "seed") }, &run.node);
    if (rc < 0)
        stop ("node", rc);
    const uint64_t cpu = bench_cpu_ns ();
    do
        open_and_take (&run);
    while (run.endless && !bench_told_to_end ());
    answer_print (&run, bench_cpu_ns () - cpu);
    fm_node_close (&run.node);
    free (run.taken);
    return 0;
}
