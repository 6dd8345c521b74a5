/* bench_pub: how fast facts are published and recorded. See bench.h.
 *
 * At full speed the window is the brake: publishing goes on as fast as the journal syncs. With --no-wait the window forgets. */

#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bytes.h"
#include "stream_pool.h"
#include "text.h"

struct pub {
    struct bench *b;
    struct fm_publisher *publisher;
    char (*names)[TOPIC_MAX + 1];
    uint64_t published, first_seq, synced;
    uint64_t started_ns, started_unix_ns, published_ns, synced_ns;
    uint64_t moved_ms; /* when `synced` changed last */
};

static uint64_t pub_recorded (const struct pub *p)
{
    if (!p->first_seq || p->synced < p->first_seq)
        return 0;
    const uint64_t n = p->synced - p->first_seq + 1;
    return n < p->published ? n : p->published;
}

static void pub_tend (struct pub *p)
{
    struct fm_publisher_state state;
    fm_publisher_state (p->publisher, &state);
    if (state.synced > p->synced) {
        p->synced = state.synced;
        p->moved_ms = cli_monotonic_ms ();
    }
    if (p->b->no_wait)
        progress_draw (&p->b->progress, p->published, p->b->count, "published");
    else
        progress_draw (&p->b->progress, pub_recorded (p), p->published, "recorded");
}

static bool pub_is_stuck (const struct pub *p)
{
    return cli_monotonic_ms () - p->moved_ms >= (uint64_t) p->b->timeout_ms;
}

static int pub_names (struct pub *p)
{
    const struct bench *const b = p->b;
    p->names = calloc (b->topics, sizeof *p->names);
    if (!p->names)
        return cli_error (&b->cli, "no memory");
    for (uint64_t i = 0; i < b->topics; i++) {
        const int n = snprintf (p->names[i], sizeof *p->names, "%s.%llu", b->topic, (unsigned long long) i);
        if (n < 0 || (size_t) n >= sizeof *p->names)
            return cli_usage (&b->cli, "--topic: at most %d bytes, with the number", TOPIC_MAX);
    }
    return CLI_OK;
}

static int pub_open (struct pub *p)
{
    struct bench *const b = p->b;
    int status = pub_names (p);
    if (status)
        return status;
    struct fm_publisher_options options = { .when_full = b->no_wait ? FM_DROP_OLDEST : FM_BLOCK, .block_ms = BENCH_SLICE_MS };
    int rc = stream_pool_open (b->node, b->cli.mesh ? b->cli.mesh : "default", NULL, &options, &p->publisher);
    if (rc < 0)
        return cli_fail (&b->cli, rc, "cannot open a stream");
    rc = b->no_wait ? fm_node_wait_members (b->node, 2, b->timeout_ms) : fm_node_wait_journal (b->node, b->timeout_ms);
    return rc < 0 ? cli_fail (&b->cli, rc, b->no_wait ? "nobody to publish to" : "no journal; --no-wait does without") : CLI_OK;
}

/* Publish one; as long as the window is full and something moves, again. */
static int pub_one (struct pub *p, uint64_t sent_ns)
{
    static uint8_t payload[BENCH_PAYLOAD_MAX];
    struct bench *const b = p->b;
    bench_payload_put (payload, b->size, p->published + 1, sent_ns);
    const struct fm_fact fact = { .topic = fm_text (p->names[p->published % b->topics]), .type = fm_text (BENCH_TYPE),
                                  .payload = { payload, b->size } };
    struct fm_fact_id id;
    int rc;
    while ((rc = fm_publish (p->publisher, &fact, &id)) == FM_ERR_WINDOW_FULL) {
        pub_tend (p);
        if (cli_is_signalled ())
            return FM_INTERRUPTED;
        if (pub_is_stuck (p))
            return FM_TIMEOUT;
    }
    if (rc == 0 && p->published++ == 0)
        p->first_seq = id.seq;
    return rc;
}

static void sleep_until (uint64_t ns)
{
    const struct timespec t = { .tv_sec = (time_t) (ns / 1000000000), .tv_nsec = (long) (ns % 1000000000) };
    (void) clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL); /* a signal ends it: the caller looks */
}

/* How many facts may have been published by now? Sleeps when all of them have. */
static uint64_t pub_allowed (const struct pub *p, const struct bench_pace *pace, uint64_t now)
{
    const struct bench *const b = p->b;
    uint64_t allowed = p->published + BENCH_LOOK_EVERY;
    if (b->rate) {
        const uint64_t due = bench_pace_due (pace, p->published), slice = now + (uint64_t) BENCH_SLICE_MS * 1000000;
        if (due > now)
            sleep_until (due < slice ? due : slice);
        const double passed_s = (double) (cli_monotonic_ns () - pace->start_ns) / 1e9;
        const uint64_t by_now = (uint64_t) (passed_s * (double) b->rate) + 1;
        allowed = by_now < allowed ? by_now : allowed;
    }
    return b->count && allowed > b->count ? b->count : allowed;
}

static bool pub_is_over (const struct pub *p, uint64_t now)
{
    const struct bench *const b = p->b;
    return (b->count && p->published == b->count) || (b->for_ns && now - p->started_ns >= b->for_ns) || cli_is_signalled ();
}

static int pub_publish (struct pub *p)
{
    struct bench_pace pace;
    struct fm_publisher_state state;
    fm_publisher_state (p->publisher, &state);
    p->synced = state.synced;
    p->moved_ms = cli_monotonic_ms ();
    p->started_unix_ns = cli_unix_ns ();
    p->started_ns = cli_monotonic_ns ();
    bench_pace_init (&pace, p->started_ns, p->b->rate);
    for (uint64_t now; now = cli_monotonic_ns (), !pub_is_over (p, now);) {
        const uint64_t allowed = pub_allowed (p, &pace, now);
        while (p->published < allowed) {
            const uint64_t at = p->b->rate ? bench_pace_due (&pace, p->published) : now;
            const int rc = pub_one (p, p->started_unix_ns + (at - p->started_ns));
            if (rc < 0)
                return rc;
        }
        pub_tend (p);
    }
    return fm_publisher_flush (p->publisher);
}

static int pub_wait (struct pub *p)
{
    int rc = 0;
    p->moved_ms = cli_monotonic_ms ();
    while (p->published && pub_recorded (p) < p->published && !cli_is_signalled ()) {
        rc = fm_publisher_wait_synced (p->publisher, 0, BENCH_SLICE_MS);
        if (rc < 0 && rc != FM_TIMEOUT && rc != FM_INTERRUPTED)
            return rc;
        pub_tend (p);
        if (pub_is_stuck (p))
            return FM_TIMEOUT;
    }
    return 0;
}

static void pub_report (const struct pub *p)
{
    const struct bench *const b = p->b;
    const uint64_t publishing_ns = p->published_ns - p->started_ns, syncing_ns = p->synced_ns - p->started_ns, recorded = pub_recorded (p);
    const double published_rate = bench_rate (p->published, publishing_ns), recorded_rate = bench_rate (recorded, syncing_ns);
    if (b->json) {
        (void) printf ("{\"bench\":\"pub\",\"size\":%llu,\"published\":%llu,\"published_s\":%.6f,\"published_per_s\":%.0f", (unsigned long long) b->size,
                       (unsigned long long) p->published, (double) publishing_ns / 1e9, published_rate);
        if (!b->no_wait)
            (void) printf (",\"synced\":%llu,\"synced_s\":%.6f,\"synced_per_s\":%.0f,\"synced_mb_per_s\":%.1f", (unsigned long long) recorded,
                           (double) syncing_ns / 1e9, recorded_rate, recorded_rate * (double) b->size / 1e6);
        (void) puts ("}");
        return;
    }
    char facts[TEXT_GROUPED], rate[TEXT_GROUPED];
    (void) printf ("published: %s facts of %llu B in %.3f s, %s facts/s\n", text_grouped (p->published, facts), (unsigned long long) b->size,
                   (double) publishing_ns / 1e9, text_grouped ((uint64_t) published_rate, rate));
    if (!b->no_wait)
        (void) printf ("synced:    %s facts in %.3f s, %s facts/s, %.1f MB/s\n", text_grouped (recorded, facts), (double) syncing_ns / 1e9,
                       text_grouped ((uint64_t) recorded_rate, rate), recorded_rate * (double) b->size / 1e6);
}

int bench_pub (struct bench *b)
{
    struct pub p = { .b = b };
    if (!b->count && !b->for_ns)
        b->count = BENCH_COUNT_DEFAULT;
    int status = pub_open (&p);
    if (status == CLI_OK) {
        int rc = pub_publish (&p);
        p.published_ns = cli_monotonic_ns ();
        if ((rc == 0 || rc == FM_INTERRUPTED) && !b->no_wait)
            rc = pub_wait (&p);
        p.synced_ns = cli_monotonic_ns ();
        progress_clear (&b->progress);
        pub_report (&p);
        if (rc < 0 && rc != FM_INTERRUPTED)
            status = cli_fail (&b->cli, rc, "after %llu facts", (unsigned long long) p.published);
        status = bench_done (b, bench_status (status));
    }
    fm_publisher_close (&p.publisher);
    free (p.names);
    return status;
}
