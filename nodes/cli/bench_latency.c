/* bench_latency: how late a fact comes: publish to delivery, and publish to synced. See bench.h.
 *
 * Two nodes in this process, over the same sockets as any two, so that there is one clock. A thread publishes, each fact when it is due; this one
 * takes. Then, with a journal, facts one at a time, each waited for until it is synced.
 *
 *     publisher's node ──live──▶ subscriber's node            publisher's node ──live──▶ journal
 *        due ........................ delivered                  publish ........ watermark ┘ */

#include "bench.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "error.h"

enum {
    WARM_UP_MS = 20,         /* between two facts of the warm-up */
    SPIN_NS = 50000,         /* before a fact is due its thread waits awake: its own wake-up shall not count */
    SYNCED_COUNT_MAX = 1000, /* facts waited for one at a time */
    JOURNAL_LOOK_MS = 2000
};

struct latency {
    struct bench *b;
    struct fm_node *far; /* the subscriber's */
    struct fm_publisher *publisher;
    struct fm_subscription *subscription;
    char topic[TOPIC_MAX + 1];
    char seeds[4096];
    uint64_t count;
    bool journal;
    int sender_rc; /* of the thread, read when it was joined; an error's detail belongs to its thread */
    char sender_detail[512];
    struct bench_histogram live, synced;
    uint8_t payload[BENCH_PAYLOAD_MAX];
};

static int publish (struct latency *l, uint64_t n, uint64_t sent_ns)
{
    bench_payload_put (l->payload, l->b->size, n, sent_ns);
    const struct fm_fact fact = { .topic = fm_text (l->topic), .type = fm_text (BENCH_TYPE), .payload = { l->payload, l->b->size } };
    return fm_publish (l->publisher, &fact, NULL);
}

/* The second node has the first one as a seed, and finds the others through it. */
static int open_far (struct latency *l)
{
    struct cli cli = l->b->cli;
    const char *const near = fm_node_address (l->b->node);
    const int n = snprintf (l->seeds, sizeof l->seeds, "%s%s%s", cli.seeds ? cli.seeds : "", cli.seeds ? "," : "", near);
    if (n < 0 || (size_t) n >= sizeof l->seeds)
        return cli_usage (&cli, "--seed: too long");
    cli.seeds = l->seeds;
    cli.bind = cli.bind_live = cli.advertise = cli.advertise_live = NULL;
    return cli_open_node (&cli, &l->far);
}

static int open_all (struct latency *l)
{
    struct bench *const b = l->b;
    const int n = snprintf (l->topic, sizeof l->topic, "%s.latency.%ld", b->topic, (long) getpid ());
    if (n < 0 || (size_t) n >= sizeof l->topic)
        return cli_usage (&b->cli, "--topic: at most %d bytes, with what is added", TOPIC_MAX);
    const int status = open_far (l);
    if (status)
        return status;
    const struct fm_publisher_options publisher = { .when_full = b->no_wait ? FM_DROP_OLDEST : FM_BLOCK, .block_ms = b->timeout_ms };
    int rc = fm_publisher_open (b->node, &publisher, &l->publisher);
    if (rc == 0)
        rc = fm_node_wait_members (l->far, 2, b->timeout_ms);
    const char *const topics[] = { l->topic, NULL };
    const struct fm_subscription_options subscription = { .topics = topics, .no_journal = b->no_wait, .open_timeout_ms = b->timeout_ms };
    if (rc == 0)
        rc = fm_subscription_open (l->far, &subscription, &l->subscription);
    return rc < 0 ? cli_fail (&b->cli, rc, "cannot begin") : CLI_OK;
}

/* The next fact's number and when it was due. FM_TIMEOUT: none within the time. */
static int take (struct latency *l, int timeout_ms, uint64_t *ret_n, uint64_t *ret_due_ns)
{
    for (;;) {
        struct fm_event event;
        const int rc = fm_subscription_next (l->subscription, timeout_ms, &event);
        if (rc < 0)
            return rc;
        if (event.kind == FM_EVENT_FACT)
            return bench_payload_check (event.fact.payload.data, event.fact.payload.len, ret_n, ret_due_ns);
    }
}

/* Number 0 until one arrives: both ends are connected then. */
static int warm_up (struct latency *l)
{
    const uint64_t began_ms = cli_monotonic_ms ();
    uint64_t n, due_ns;
    int rc = FM_TIMEOUT;
    while ((rc == FM_TIMEOUT || rc == FM_INTERRUPTED) && cli_monotonic_ms () - began_ms < (uint64_t) l->b->timeout_ms && !cli_is_signalled ()) {
        rc = publish (l, 0, 0);
        if (rc == 0)
            rc = take (l, WARM_UP_MS, &n, &due_ns);
    }
    return rc;
}

/* --- Live. */

static void wait_until (uint64_t ns)
{
    const uint64_t asleep = ns - SPIN_NS;
    const struct timespec t = { .tv_sec = (time_t) (asleep / 1000000000), .tv_nsec = (long) (asleep % 1000000000) };
    if (asleep > cli_monotonic_ns ())
        (void) clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    while (cli_monotonic_ns () < ns && !cli_is_signalled ())
        ;
}

static void *sender (void *arg)
{
    struct latency *l = arg;
    struct bench_pace pace;
    bench_pace_init (&pace, cli_monotonic_ns () + 1000000, l->b->rate);
    for (uint64_t n = 1; n <= l->count && l->sender_rc == 0 && !cli_is_signalled (); n++) {
        const uint64_t due = bench_pace_due (&pace, n - 1);
        wait_until (due);
        l->sender_rc = publish (l, n, due);
    }
    if (l->sender_rc < 0)
        (void) snprintf (l->sender_detail, sizeof l->sender_detail, "%s", fm_error_detail ());
    return NULL;
}

/* Take numbers 1 to count, in order. */
static int take_live (struct latency *l)
{
    uint64_t heard_ms = cli_monotonic_ms ();
    for (uint64_t expected = 1; expected <= l->count && !cli_is_signalled ();) {
        uint64_t n, due_ns;
        const int rc = take (l, BENCH_SLICE_MS, &n, &due_ns);
        if (rc == FM_TIMEOUT && cli_monotonic_ms () - heard_ms < (uint64_t) l->b->timeout_ms)
            continue;
        if (rc == FM_INTERRUPTED)
            continue;
        if (rc < 0)
            return rc;
        heard_ms = cli_monotonic_ms ();
        if (n == 0)
            continue; /* the warm-up's */
        if (n != expected)
            return cli_error (&l->b->cli, "fact %llu came, %llu was next", (unsigned long long) n, (unsigned long long) expected);
        bench_histogram_add (&l->live, cli_monotonic_ns () - due_ns);
        expected++;
        progress_draw (&l->b->progress, n, l->count, "delivered");
    }
    return 0;
}

static int measure_live (struct latency *l)
{
    pthread_t thread;
    int rc = pthread_create (&thread, NULL, sender, l);
    if (rc)
        return -rc;
    rc = take_live (l);
    (void) pthread_join (thread, NULL); /* cannot fail: it is ours, and joined once */
    return rc > 0 || !l->sender_rc ? rc : error_set (l->sender_rc, "%s", l->sender_detail); /* that is why nothing came any more */
}

/* --- Synced. */

static int measure_synced (struct latency *l)
{
    const uint64_t count = l->count < SYNCED_COUNT_MAX ? l->count : SYNCED_COUNT_MAX;
    int rc = 0;
    for (uint64_t i = 0; i < count && rc == 0 && !cli_is_signalled (); i++) {
        const uint64_t began = cli_monotonic_ns ();
        rc = publish (l, l->count + 1 + i, 0);
        if (rc == 0)
            rc = fm_publisher_wait_synced (l->publisher, 0, l->b->timeout_ms);
        if (rc == 0)
            bench_histogram_add (&l->synced, cli_monotonic_ns () - began);
        progress_draw (&l->b->progress, i + 1, count, "synced, one at a time");
    }
    return rc;
}

static void report (const struct latency *l)
{
    const struct bench *const b = l->b;
    if (!b->json) {
        (void) printf ("%llu facts of %llu B, %llu a second\n", (unsigned long long) l->live.count, (unsigned long long) b->size,
                       (unsigned long long) b->rate);
        bench_latency_say ("due to delivered", &l->live);
        if (l->synced.count)
            bench_latency_say ("publish to synced, one at a time", &l->synced);
        else if (!l->journal)
            (void) puts (b->no_wait ? "--no-wait: nothing was waited for" : "no journal: nothing was synced");
        return;
    }
    (void) printf ("{\"bench\":\"latency\",\"size\":%llu,\"rate\":%llu,\"live\":{", (unsigned long long) b->size, (unsigned long long) b->rate);
    bench_histogram_print (&l->live, stdout);
    (void) fputs (", ", stdout);
    bench_histogram_print_curve (&l->live, stdout);
    (void) fputs ("}", stdout);
    if (l->synced.count) {
        (void) fputs (",\"synced\":{", stdout);
        bench_histogram_print (&l->synced, stdout);
        (void) fputs ("}", stdout);
    }
    (void) puts ("}");
}

static int measure (struct latency *l)
{
    const struct bench *const b = l->b;
    l->journal = !b->no_wait && fm_node_wait_journal (b->node, JOURNAL_LOOK_MS) == 0;
    int rc = warm_up (l);
    if (rc == 0)
        rc = measure_live (l);
    if (rc == 0 && l->journal)
        rc = measure_synced (l);
    progress_clear (&l->b->progress);
    if (rc > 0)
        return rc; /* told already */
    if (l->live.count)
        report (l);
    return rc < 0 && rc != FM_INTERRUPTED ? cli_fail (&b->cli, rc, "after %llu facts", (unsigned long long) l->live.count) : CLI_OK;
}

int bench_latency (struct bench *b)
{
    static struct latency l;
    l.b = b;
    if (b->topics > 1)
        return cli_usage (&b->cli, "--topics: bench latency has one");
    if (!b->rate)
        b->rate = BENCH_LATENCY_RATE_DEFAULT;
    l.count = b->count ? b->count : b->for_ns ? b->rate * (b->for_ns / 1000000) / 1000 : BENCH_LATENCY_COUNT_DEFAULT;
    int status = l.count ? open_all (&l) : cli_usage (&b->cli, "--for, --rate: not one fact");
    if (status == CLI_OK)
        status = bench_done (b, bench_status (measure (&l)));
    fm_subscription_close (&l.subscription);
    fm_publisher_close (&l.publisher);
    fm_node_close (&l.far);
    return status;
}
