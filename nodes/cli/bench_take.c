/* bench_take: bench sub and bench replay: take facts, check those that bench published, say how fast they came. See bench.h. */

#include "bench.h"

#include <stdio.h>
#include <string.h>

#include "id.h"
#include "text.h"

/* How far one stream has come. The numbers of bench pub begin anew with each of its runs. */
struct numbers {
    struct fm_id stream;
    uint64_t last, last_seq;
};

struct take {
    struct bench *b;
    struct fm_subscription *subscription;
    bool replay;
    bool strict; /* all of each run is asked for, so that a number left out is a fault */
    uint64_t facts, bytes, checked, replayed, gaps, missing, fell_behind, faults;
    uint64_t first_ns, last_ns, heard_ms;
    bool caught_up;
    struct numbers streams[BENCH_STREAMS_MAX], *last_stream;
    size_t stream_count;
    struct bench_histogram age;
};

static struct numbers *numbers_of (struct take *t, const struct fm_id *stream)
{
    if (t->last_stream && id_equal (&t->last_stream->stream, stream))
        return t->last_stream;
    for (size_t i = 0; i < t->stream_count; i++)
        if (id_equal (&t->streams[i].stream, stream))
            return t->last_stream = &t->streams[i];
    if (t->stream_count == BENCH_STREAMS_MAX)
        return NULL;
    t->last_stream = &t->streams[t->stream_count++];
    *t->last_stream = (struct numbers) { .stream = *stream };
    return t->last_stream;
}

static void fault (struct take *t, const struct fm_fact *fact, const char *what, uint64_t n)
{
    char id[FM_FACT_ID_TEXT];
    if (t->faults++ == 0) {
        progress_clear (&t->b->progress);
        cli_say (&t->b->cli, "%s: number %llu %s", fm_fact_id_text (&fact->id, id, sizeof id), (unsigned long long) n, what);
    }
}

static void check_fact (struct take *t, const struct fm_event *event)
{
    const struct fm_fact *const fact = &event->fact;
    uint64_t n = 0, sent_ns = 0;
    if (bench_payload_check (fact->payload.data, fact->payload.len, &n, &sent_ns) < 0) {
        fault (t, fact, "has other bytes than were published", n);
        return;
    }
    t->checked++;
    struct numbers *const s = numbers_of (t, &fact->id.stream);
    if (s) {
        if (fact->id.seq <= s->last_seq)
            fault (t, fact, "came again, or out of order", n);
        else if (t->strict && s->last && n != 1 && n != s->last + 1)
            fault (t, fact, "came where another one was next", n);
        s->last = n;
        s->last_seq = fact->id.seq;
    }
    const uint64_t now = cli_unix_ns ();
    if (!event->replayed)
        bench_histogram_add (&t->age, now > sent_ns ? now - sent_ns : 0);
}

static void take_event (struct take *t, const struct fm_event *event)
{
    const struct fm_fact *const fact = &event->fact;
    switch (event->kind) {
    case FM_EVENT_FACT:
        if (!t->facts++)
            t->first_ns = cli_monotonic_ns ();
        t->bytes += fact->payload.len;
        t->replayed += event->replayed;
        if (fact->type.len == strlen (BENCH_TYPE) && memcmp (fact->type.data, BENCH_TYPE, fact->type.len) == 0)
            check_fact (t, event);
        break;
    case FM_EVENT_GAP:
        t->gaps++;
        t->missing += event->gap.end - event->gap.first;
        break;
    case FM_EVENT_CAUGHT_UP:
        if (!t->replay && !t->caught_up && !t->b->cli.quiet)
            cli_say (&t->b->cli, "caught up: what is published from here on counts");
        t->caught_up = true;
        break;
    case FM_EVENT_FELL_BEHIND:
        t->fell_behind++;
        break;
    }
}

static bool is_over (const struct take *t)
{
    const struct bench *const b = t->b;
    return cli_is_signalled () || (t->replay && t->caught_up) || (b->count && t->facts >= b->count)
           || (b->for_ns && t->facts && cli_monotonic_ns () - t->first_ns >= b->for_ns);
}

/* Nothing came for a slice. 0: go on. */
static int silent (const struct take *t)
{
    const struct bench *const b = t->b;
    const uint64_t passed_ms = cli_monotonic_ms () - t->heard_ms;
    if (!t->replay && t->facts && passed_ms >= BENCH_SILENCE_MS)
        return FM_ERR_END;
    /* sub waits for its first fact as long as nobody said how long. */
    const bool limited = t->replay || b->cli.timeout_ms >= 0;
    return limited && passed_ms >= (uint64_t) b->timeout_ms ? FM_TIMEOUT : 0;
}

/* Take what is there, or comes within a slice. 0: something came; FM_TIMEOUT: nothing. */
static int take_some (struct take *t)
{
    const uint64_t facts_before = t->facts;
    int rc = 0;
    for (int i = 0; i < BENCH_LOOK_EVERY && rc == 0; i++) {
        struct fm_event event;
        rc = fm_subscription_next (t->subscription, i ? 0 : BENCH_SLICE_MS, &event);
        if (rc == 0)
            take_event (t, &event);
        else if (rc == FM_TIMEOUT && i)
            break;
        else
            return rc;
        if (is_over (t))
            break;
    }
    if (t->facts > facts_before)
        t->last_ns = cli_monotonic_ns ();
    return 0;
}

static int take_run (struct take *t)
{
    t->heard_ms = cli_monotonic_ms ();
    while (!is_over (t)) {
        int rc = take_some (t);
        if (rc == 0)
            t->heard_ms = cli_monotonic_ms ();
        else if (rc == FM_TIMEOUT)
            rc = silent (t);
        else if (rc == FM_ERR_CONFLICT) {
            cli_say (&t->b->cli, "%s: %s", fm_error_text (rc), fm_error_detail ());
            t->faults++;
            rc = 0; /* the subscription goes on */
        } else if (rc == FM_INTERRUPTED)
            rc = 0;
        if (rc < 0)
            return rc == FM_ERR_END ? 0 : rc;
        progress_draw (&t->b->progress, t->facts, t->b->count, t->replay ? "replayed" : "received");
    }
    return 0;
}

static void report_json (const struct take *t, double seconds, double rate)
{
    (void) printf ("{\"bench\":\"%s\",\"facts\":%llu,\"bytes\":%llu,\"seconds\":%.6f,\"facts_per_s\":%.0f,\"mb_per_s\":%.1f,\"checked\":%llu,\"faults\":%llu,"
                   "\"gaps\":%llu,\"missing\":%llu,\"replayed\":%llu,\"fell_behind\":%llu",
                   t->replay ? "replay" : "sub", (unsigned long long) t->facts, (unsigned long long) t->bytes, seconds, rate,
                   seconds > 0 ? (double) t->bytes / seconds / 1e6 : 0, (unsigned long long) t->checked, (unsigned long long) t->faults,
                   (unsigned long long) t->gaps, (unsigned long long) t->missing, (unsigned long long) t->replayed, (unsigned long long) t->fell_behind);
    if (t->age.count) {
        (void) fputs (",\"age\":{", stdout);
        bench_histogram_print (&t->age, stdout);
        (void) fputs ("}", stdout);
    }
    (void) puts ("}");
}

static void report_text (const struct take *t, double seconds, double rate)
{
    char facts[TEXT_GROUPED], rate_text[TEXT_GROUPED], checked[TEXT_GROUPED];
    (void) printf ("%s %s facts in %.3f s, %s facts/s, %.1f MB/s\n", t->replay ? "replayed:" : "received:", text_grouped (t->facts, facts), seconds,
                   text_grouped ((uint64_t) rate, rate_text), seconds > 0 ? (double) t->bytes / seconds / 1e6 : 0);
    (void) printf ("checked:  %s facts byte for byte, %llu faults; %llu gaps, %llu facts missing; %llu came from a journal, fell behind %llu times\n",
                   text_grouped (t->checked, checked), (unsigned long long) t->faults, (unsigned long long) t->gaps, (unsigned long long) t->missing,
                   (unsigned long long) t->replayed, (unsigned long long) t->fell_behind);
    if (t->age.count)
        bench_latency_say ("age when received live, if the clocks agree", &t->age);
}

static int take_open (struct take *t)
{
    static const char *const of_bench[] = { BENCH_TOPIC ".>", NULL };
    struct bench *const b = t->b;
    const bool needs_journal = t->replay;
    int rc = needs_journal ? fm_node_wait_journal (b->node, b->timeout_ms) : b->cli.seeds ? fm_node_wait_members (b->node, 2, b->timeout_ms) : 0;
    const struct fm_subscription_options options = {
        .topics = *b->patterns ? (const char *const *) b->patterns : of_bench,
        .from = t->replay ? FM_FROM_START : FM_FROM_END,
        .no_journal = b->no_wait && !t->replay,
        .open_timeout_ms = b->timeout_ms,
    };
    if (rc == 0)
        rc = fm_subscription_open (b->node, &options, &t->subscription);
    return rc < 0 ? cli_fail (&b->cli, rc, "cannot subscribe") : CLI_OK;
}

static int take_all (struct bench *b, bool replay)
{
    static struct take t;
    t.b = b;
    t.replay = replay;
    t.strict = !*b->patterns;
    const uint64_t began = cli_monotonic_ns ();
    int status = take_open (&t);
    if (status)
        return status;
    const int rc = take_run (&t);
    progress_clear (&b->progress);
    /* A replay's time begins when it was asked for; that of live facts with the first of them. */
    const uint64_t took_ns = t.facts ? t.last_ns - (replay ? began : t.first_ns) : 0;
    const double rate = bench_rate (t.facts, took_ns);
    if (b->json)
        report_json (&t, (double) took_ns / 1e9, rate);
    else
        report_text (&t, (double) took_ns / 1e9, rate);
    if (rc < 0)
        status = cli_fail (&b->cli, rc, "after %llu facts", (unsigned long long) t.facts);
    else if (t.faults)
        status = CLI_ERROR;
    fm_subscription_close (&t.subscription);
    return bench_done (b, bench_status (status));
}

int bench_sub (struct bench *b)
{
    return take_all (b, false);
}

int bench_replay (struct bench *b)
{
    return take_all (b, true);
}
