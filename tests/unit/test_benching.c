/* bench pub, sub, replay and latency over a library that follows a script: what is measured and how it is told, what is counted as a fault, how a run ends. */

#include "../../nodes/cli/bench.h"
#include "scripted_library.h"

enum { SIZE = 16, NUMBERS = 4 };
static uint8_t payloads[NUMBERS][SIZE];

static int set_up (void **state)
{
    (void) state;
    bench_payload_init ();
    for (size_t n = 1; n <= NUMBERS; n++)
        bench_payload_put (payloads[n - 1], SIZE, n, UINT64_C (1000000000000) - 1000000);
    play_set_up ();
    return unsetenv ("FACTMESH_SEED") || unsetenv ("FACTMESH_MESH");
}

#define LONG_TOPIC "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

#define REFUSED "a journal refuses the stream, or gave up facts of it"

/* --- pub. */

static void publishing_is_told_as_it_went (void **state)
{
    (void) state;
    static const char three[] = "published: 3 facts of 100 B in 0.003 s, 1,000 facts/s\n", three_synced[] = "synced:    3 facts in 0.003 s, 1,000 facts/s, 0.1 MB/s\n";
    char both[200];
    (void) snprintf (both, sizeof both, "%s%s", three, three_synced);
    const struct play plays[] = {
        { "bench pub -n 3", STEPS ({ PUBLISH, .times = FOR_EVER, .pass_ms = 1 }), .out = both },
        { "bench pub -n 3 --topics 2 --no-wait", STEPS ({ PUBLISH, .times = FOR_EVER, .pass_ms = 1 }), .out = three },
        { "bench pub -n 3 --json", STEPS ({ PUBLISH, .times = FOR_EVER, .pass_ms = 1 }),
          .out = "{\"bench\":\"pub\",\"size\":100,\"published\":3,\"published_s\":0.003000,\"published_per_s\":1000,\"synced\":3,\"synced_s\":0.003000,"
                 "\"synced_per_s\":1000,\"synced_mb_per_s\":0.1}\n" },
        { "bench pub -n 3 --json --no-wait", STEPS ({ PUBLISH, .times = FOR_EVER, .pass_ms = 1 }),
          .out = "{\"bench\":\"pub\",\"size\":100,\"published\":3,\"published_s\":0.003000,\"published_per_s\":1000}\n" },
        /* The default is a million facts; a second is less. */
        { "bench pub --size 1K --rate 10 --for 1s --no-wait", NULL, .out = "published: 11 facts of 1024 B in 1.000 s, 11 facts/s\n" },
        { "bench pub --no-wait", NULL, .out = "published: 1,000,000 facts of 100 B in 0.000 s, 0 facts/s\n" },
        /* A window that is full for a moment costs time. */
        { "bench pub -n 3 --no-wait", STEPS ({ PUBLISH, FM_ERR_WINDOW_FULL, .times = 3, .pass_ms = 500 }), .out = "published: 3 facts of 100 B in 1.500 s, 2 facts/s\n" },
    };
    PLAY_ALL (plays);
}

static void publishing_that_fails_says_how_far_it_came (void **state)
{
    (void) state;
    static const char none[] = "published: 0 facts of 100 B in 0.000 s, 0 facts/s\nsynced:    0 facts in 0.000 s, 0 facts/s, 0.0 MB/s\n";
    static const char two[] = "published: 2 facts of 100 B in 0.000 s, 0 facts/s\nsynced:    0 facts in 0.000 s, 0 facts/s, 0.0 MB/s\n";
    static const char stuck[] = "published: 2 facts of 100 B in 0.000 s, 0 facts/s\nsynced:    1 facts in 10.200 s, 0 facts/s, 0.0 MB/s\n";
    const struct play plays[] = {
        { "bench pub -n 1 --topic " LONG_TOPIC, NULL, CLI_USAGE,
          .err = "factmesh bench: --topic: at most 245 bytes, with the number\nTry 'factmesh bench --help'.\n" },
        { "bench pub", STEPS ({ STREAM_OPEN, -EACCES, "/streams: not yours" }), CLI_ERROR,
          .err = "factmesh bench: cannot open a stream: Permission denied: /streams: not yours\n" },
        { "bench pub", STEPS ({ WAIT_JOURNAL, FM_ERR_NO_JOURNAL, "none in sight" }), CLI_TIMEOUT,
          .err = "factmesh bench: no journal; --no-wait does without: no journal in the mesh: none in sight\n" },
        { "bench pub --no-wait", STEPS ({ WAIT_MEMBERS, FM_TIMEOUT, "none in sight" }), CLI_TIMEOUT,
          .err = "factmesh bench: nobody to publish to: timed out: none in sight\n" },
        { "bench pub -n 3", STEPS ({ PUBLISH, .times = 2 }, { PUBLISH, FM_ERR_LOST, "another has it" }), CLI_ERROR, two, "factmesh bench: after 2 facts: lost: " REFUSED ": another has it\n" },
        /* Nothing moves for 10 s. */
        { "bench pub -n 3", STEPS ({ PUBLISH, FM_ERR_WINDOW_FULL, "full", .times = FOR_EVER, .pass_ms = 2500 }), CLI_TIMEOUT,
          "published: 0 facts of 100 B in 10.000 s, 0 facts/s\nsynced:    0 facts in 10.000 s, 0 facts/s, 0.0 MB/s\n", "factmesh bench: after 0 facts: timed out: full\n" },
        { "bench pub -n 2", STEPS ({ WAIT_SYNCED, FM_TIMEOUT, "one is missing", .times = FOR_EVER, .behind = 1 }), CLI_TIMEOUT, stuck,
          "factmesh bench: after 2 facts: timed out: one is missing\n" },
        { "bench pub -n 2", STEPS ({ WAIT_SYNCED, FM_ERR_LOST, "another has it", .behind = 2 }), CLI_ERROR, two, "factmesh bench: after 2 facts: lost: " REFUSED ": another has it\n" },
        /* A signal ends it with a report. */
        { "bench pub -n 3", STEPS ({ PUBLISH, FM_ERR_WINDOW_FULL, .signal = SIGINT }), 128 + SIGINT, none },
        { "bench pub -n 3", STEPS ({ PUBLISH, .signal = SIGTERM }), 128 + SIGTERM,
          "published: 3 facts of 100 B in 0.000 s, 0 facts/s\nsynced:    0 facts in 0.000 s, 0 facts/s, 0.0 MB/s\n" },
    };
    PLAY_ALL (plays);
}

/* --- sub, replay. */

/* A fact of bench: number n of a run, with a sequence of its stream. */
#define BENCH_FACT(n, sequence) BENCH_FACT_CAME (n, sequence, false)
#define REPLAYED_FACT(n, sequence) BENCH_FACT_CAME (n, sequence, true)
#define BENCH_FACT_CAME(n, sequence, from_journal)                                                                                                                             \
    (&(const struct fm_event) { .kind = FM_EVENT_FACT, .replayed = (from_journal),                                                                                                          \
                                .fact = { .id = { { { 's' } }, (sequence) }, .type = { BENCH_TYPE, sizeof BENCH_TYPE - 1 }, .payload = { payloads[(n) - 1], SIZE } } })
static const struct fm_event plain = { .kind = FM_EVENT_FACT, .fact = { .payload = { "plain", 5 } } };
static const struct fm_event wrong = { .kind = FM_EVENT_FACT, .fact = { .id = { { { 's' } }, 9 }, .type = { BENCH_TYPE, sizeof BENCH_TYPE - 1 }, .payload = { "0123456789abcdefg", 17 } } };
static const struct fm_event gap = { .kind = FM_EVENT_GAP, .gap = { { { 's' } }, 5, 8, FM_GAP_EXPIRED } };
static const struct fm_event caught_up = { .kind = FM_EVENT_CAUGHT_UP }, fell_behind = { .kind = FM_EVENT_FELL_BEHIND };

#define NO_AGE "age when received live, if the clocks agree: p50 0.0 us, p90 0.0 us, p99 0.0 us, p99.9 0.0 us, most 0.0 us\n"

static void what_comes_is_counted_and_checked (void **state)
{
    (void) state;
    static const char ready[] = "factmesh bench: caught up: what is published from here on counts\n";
    const struct play plays[] = {
        /* Live, until it is silent for 3 s; the age counts. */
        { "bench sub", STEPS ({ NEXT, .event = &caught_up }, { NEXT, .event = BENCH_FACT (1, 1) }, { NEXT, .event = BENCH_FACT (2, 2), .pass_ms = 1 }), CLI_OK,
          "received: 2 facts in 0.001 s, 2,000 facts/s, 0.0 MB/s\n"
          "checked:  2 facts byte for byte, 0 faults; 0 gaps, 0 facts missing; 0 came from a journal, fell behind 0 times\n"
          "age when received live, if the clocks agree: p50 1000.4 us, p90 2000.0 us, p99 2000.0 us, p99.9 2000.0 us, most 2000.0 us\n", ready, "subscribe from 0 delivery 0: bench.>\n" },
        { "bench sub --quiet --json -n 3", STEPS ({ NEXT, .event = &caught_up }, { NEXT, .event = REPLAYED_FACT (1, 1) }, { NEXT, .event = &fell_behind }, { NEXT, .event = &gap },
                                                { NEXT, .event = &caught_up }, { NEXT, .event = REPLAYED_FACT (2, 8) }, { NEXT, .event = &plain, .pass_ms = 2 }), CLI_OK,
          "{\"bench\":\"sub\",\"facts\":3,\"bytes\":37,\"seconds\":0.002000,\"facts_per_s\":1500,\"mb_per_s\":0.0,\"checked\":2,\"faults\":0,\"gaps\":1,\"missing\":3,"
          "\"replayed\":2,\"fell_behind\":1}\n" },
        { "bench sub --json -n 1 a.b --no-wait", STEPS ({ NEXT, .event = BENCH_FACT (3, 1), .pass_ms = 0 }), CLI_OK,
          "{\"bench\":\"sub\",\"facts\":1,\"bytes\":16,\"seconds\":0.000000,\"facts_per_s\":0,\"mb_per_s\":0.0,\"checked\":1,\"faults\":0,\"gaps\":0,\"missing\":0,\"replayed\":0,"
          "\"fell_behind\":0,\"age\":{\"samples\": 1, \"p50_us\": 1000.0, \"p90_us\": 1000.0, \"p99_us\": 1000.0, \"p999_us\": 1000.0, \"max_us\": 1000.0}}\n", .told = "a.b\n" },
        /* For so long, from the first fact on, however slowly they come. */
        { "bench sub --for 1s --quiet", STEPS ({ NEXT, FM_TIMEOUT, .times = 100, .pass_ms = 200 }, { NEXT, .event = &plain }, { NEXT, .event = &plain, .times = FOR_EVER, .pass_ms = 1 }), CLI_OK,
          "received: 1,001 facts in 1.000 s, 1,001 facts/s, 0.0 MB/s\n"
          "checked:  0 facts byte for byte, 0 faults; 0 gaps, 0 facts missing; 0 came from a journal, fell behind 0 times\n" },
        /* A replay ends when it has caught up, and says nothing of that. */
        { "bench replay", STEPS ({ NEXT, .event = REPLAYED_FACT (1, 1), .pass_ms = 4 }, { NEXT, .event = &caught_up }, { NEXT, .event = &plain }), CLI_OK,
          "replayed: 1 facts in 0.004 s, 250 facts/s, 0.0 MB/s\n"
          "checked:  1 facts byte for byte, 0 faults; 0 gaps, 0 facts missing; 1 came from a journal, fell behind 0 times\n", .told = "subscribe from 1 delivery 0: bench.>\n" },
        { "bench replay --quiet", STEPS ({ NEXT, .event = &caught_up }), CLI_OK,
          "replayed: 0 facts in 0.000 s, 0 facts/s, 0.0 MB/s\n"
          "checked:  0 facts byte for byte, 0 faults; 0 gaps, 0 facts missing; 0 came from a journal, fell behind 0 times\n" },
    };
    PLAY_ALL (plays);
}

static void what_is_not_as_it_was_published_is_a_fault (void **state)
{
    (void) state;
    const struct {
        const struct fm_event *second;
        const char *said;
        int status;
    } cases[] = {
        { BENCH_FACT (2, 2), "", CLI_OK },
        { BENCH_FACT (1, 2), "", CLI_OK },     /* another run of the same stream begins */
        { BENCH_FACT (2, 1), "factmesh bench: " STREAM ":1: number 2 came again, or out of order\n", CLI_ERROR },
        { BENCH_FACT (4, 4), "factmesh bench: " STREAM ":4: number 4 came where another one was next\n", CLI_ERROR },
        { &wrong, "factmesh bench: " STREAM ":9: number 3978425819141910832 has other bytes than were published\n", CLI_ERROR },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run r;
        const struct step *const steps = STEPS ({ NEXT, .event = BENCH_FACT (1, 1) }, { NEXT, .event = cases[i].second }, { NEXT, .event = &caught_up });
        play_run ("bench replay", steps, &r);
        assert_int_equal (r.status, cases[i].status);
        assert_string_equal (r.err, cases[i].said);
        assert_non_null (strstr (r.out, i < 2 ? ", 0 faults;" : ", 1 faults;"));
        /* Of some of the facts nobody knows which number is next. */
        play_run ("bench replay a.>", steps, &r);
        assert_int_equal (r.status, i == 3 ? CLI_OK : cases[i].status);
    }
    /* Of the second fault on it is only counted. */
    struct run r;
    play_run ("bench replay", STEPS ({ NEXT, .event = &wrong, .times = 3 }, { NEXT, .event = &caught_up }), &r);
    assert_non_null (strstr (r.out, "checked:  0 facts byte for byte, 3 faults;"));
    assert_ptr_equal (strchr (r.err, '\n'), r.err + strlen (r.err) - 1);
    /* A conflict is one too, and the subscription goes on. */
    play_run ("bench replay", STEPS ({ NEXT, FM_ERR_CONFLICT, "stream s comes twice" }, { NEXT, .event = BENCH_FACT (1, 1) }, { NEXT, .event = &caught_up }), &r);
    assert_int_equal (r.status, CLI_ERROR);
    assert_string_equal (r.err, "factmesh bench: two incarnations of one stream and epoch: stream s comes twice\n");
    assert_non_null (strstr (r.out, "replayed: 1 facts"));
}

/* As many streams as are kept apart, and one more: its bytes alone are checked. */
static void of_too_many_streams_the_bytes_are_checked (void **state)
{
    (void) state;
    enum { EVENTS = BENCH_STREAMS_MAX + 3 };
    static struct fm_event events[EVENTS];
    static struct step steps[EVENTS + 1];
    struct run r;
    for (unsigned i = 0; i < EVENTS; i++) {
        events[i] = *BENCH_FACT (1, 1);
        events[i].fact.id.stream = (struct fm_id) { { 's', (uint8_t) (i >> 8), (uint8_t) i } };
        steps[i] = (struct step) { NEXT, .event = &events[i] };
    }
    events[EVENTS - 3].fact.id.stream = events[0].fact.id.stream;       /* came before: a fault */
    events[EVENTS - 1] = events[EVENTS - 2];                            /* so did this, and nobody knows */
    steps[EVENTS] = (struct step) { .call = END };
    (void) snprintf (library.seen->told, TOLD_MAX, " ");
    play_run ("bench sub -n 1027", steps, &r);
    assert_int_equal (r.status, CLI_ERROR);
    assert_non_null (strstr (r.out, "checked:  1,027 facts byte for byte, 1 faults;"));
    assert_string_equal (r.err, "factmesh bench: 73000000000000000000000000000000:1: number 1 came again, or out of order\n");
}

static void taking_ends_as_it_should (void **state)
{
    (void) state;
    static const char nothing[] = "received: 0 facts in 0.000 s, 0 facts/s, 0.0 MB/s\n"
                                  "checked:  0 facts byte for byte, 0 faults; 0 gaps, 0 facts missing; 0 came from a journal, fell behind 0 times\n";
    static const char nothing_again[] = "replayed: 0 facts in 0.000 s, 0 facts/s, 0.0 MB/s\n"
                                        "checked:  0 facts byte for byte, 0 faults; 0 gaps, 0 facts missing; 0 came from a journal, fell behind 0 times\n";
    const struct play plays[] = {
        { "bench sub", STEPS ({ SUBSCRIBE, -ENOMEM, "none" }), CLI_ERROR, .err = "factmesh bench: cannot subscribe: Cannot allocate memory: none\n" },
        { "bench sub --seed tcp://127.0.0.1:2", STEPS ({ WAIT_MEMBERS, FM_TIMEOUT, "nobody at tcp://127.0.0.1:2" }), CLI_TIMEOUT,
          .err = "factmesh bench: cannot subscribe: timed out: nobody at tcp://127.0.0.1:2\n" },
        { "bench replay", STEPS ({ WAIT_JOURNAL, FM_ERR_NO_JOURNAL, "none" }), CLI_TIMEOUT, .err = "factmesh bench: cannot subscribe: no journal in the mesh: none\n" },
        /* Nobody said how long sub waits for its first fact. */
        { "bench sub", STEPS ({ NEXT, FM_TIMEOUT, .times = 10000, .pass_ms = 200 }, { NEXT, .signal = SIGINT, .rc = FM_INTERRUPTED }), 128 + SIGINT, nothing },
        { "bench sub --timeout 2s", NULL, CLI_TIMEOUT, nothing, "factmesh bench: after 0 facts: timed out: nothing came\n" },
        { "bench replay", NULL, CLI_TIMEOUT, nothing_again, "factmesh bench: after 0 facts: timed out: nothing came\n" },
        { "bench replay", STEPS ({ NEXT, -EIO, "broken" }), CLI_ERROR, nothing_again, "factmesh bench: after 0 facts: Input/output error: broken\n" },
        { "bench replay", STEPS ({ NEXT, FM_INTERRUPTED }, { NEXT, .event = &caught_up }), CLI_OK, nothing_again },
    };
    PLAY_ALL (plays);
}

/* --- latency. */

static void begin_echo (void)
{
    library.echo = true;
    library.look_ns = 1000;
}

static void end_echo (void)
{
    library.echo = false;
    library.look_ns = 0;
}

static void each_fact_is_late_from_when_it_was_due (void **state)
{
    (void) state;
    struct run r;
    begin_echo ();
    play_run ("bench latency -n 20 --size 16", NULL, &r);
    assert_string_equal (r.err, "");
    assert_int_equal (r.status, CLI_OK);
    static const char head[] = "20 facts of 16 B, 1000 a second\ndue to delivered: p50 ";
    assert_memory_equal (r.out, head, sizeof head - 1);
    assert_non_null (strstr (r.out, "\npublish to synced, one at a time: p50 "));
    /* One to warm up, 20 live, 20 that were waited for. */
    assert_int_equal (library.seen->calls[PUBLISH], 41);
    assert_int_equal (library.seen->calls[WAIT_SYNCED], 20);
    assert_non_null (strstr (library.seen->told, "subscribe from 0 delivery 0: bench.latency."));
    play_run ("bench latency -n 20 --size 16 --seed tcp://127.0.0.1:2 --json", NULL, &r);
    assert_int_equal (r.status, CLI_OK);
    static const char json[] = "{\"bench\":\"latency\",\"size\":16,\"rate\":1000,\"live\":{\"samples\": 20, \"p50_us\": ";
    assert_memory_equal (r.out, json, sizeof json - 1);
    assert_non_null (strstr (r.out, ", \"curve\": [[1.000, "));
    assert_non_null (strstr (r.out, "},\"synced\":{\"samples\": 20, \"p50_us\": "));
    /* A gap, a signal that means nothing and a second fact to warm up change nothing. */
    const struct step *const odd = STEPS ({ NEXT, FM_TIMEOUT, .pass_ms = 20 }, { NEXT, .event = &gap }, { NEXT, FM_INTERRUPTED }, { NEXT, .event = &gap }, { NEXT, .event = BENCH_FACT (1, 1) },
                                           { NEXT, FM_INTERRUPTED }, { NEXT, FM_TIMEOUT, .pass_ms = 200 });
    play_run ("bench latency -n 3 --size 16 --rate 100 --no-wait", odd, &r);
    assert_string_equal (r.err, "");
    assert_int_equal (r.status, CLI_OK);
    assert_int_equal (library.seen->calls[PUBLISH], 6);
    assert_non_null (strstr (r.out, "\n--no-wait: nothing was waited for\n"));
    play_run ("bench latency --for 10ms --size 16", STEPS ({ WAIT_JOURNAL, FM_ERR_NO_JOURNAL }), &r);
    assert_int_equal (r.status, CLI_OK);
    assert_memory_equal (r.out, "10 facts of 16 B", 16);
    assert_non_null (strstr (r.out, "\nno journal: nothing was synced\n"));
    assert_int_equal (library.seen->calls[WAIT_SYNCED], 0);
    end_echo ();
}

static void latency_that_cannot_be_measured_says_why (void **state)
{
    (void) state;
    char many_seeds[4200] = "bench latency --seed tcp://127.0.0.1:2";
    for (size_t len; (len = strlen (many_seeds)) < 4100;)
        (void) snprintf (many_seeds + len, sizeof many_seeds - len, ",tcp://127.0.0.1:2");
    const struct play plays[] = {
        { "bench latency --topic " LONG_TOPIC, NULL, CLI_USAGE, .err = "factmesh bench: --topic: at most 245 bytes, with what is added\nTry 'factmesh bench --help'.\n" },
        { many_seeds, NULL, CLI_USAGE,
          .err = "factmesh bench: --seed: too long\nTry 'factmesh bench --help'.\n" },
        { "bench latency", STEPS ({ NODE_OPEN }, { NODE_OPEN, -EMFILE, "no socket" }), CLI_ERROR,
          .err = "factmesh bench: cannot join the mesh 'default': Too many open files: no socket\n" },
        { "bench latency", STEPS ({ STREAM_OPEN, -ENOMEM, "none" }), CLI_ERROR, .err = "factmesh bench: cannot begin: Cannot allocate memory: none\n" },
        { "bench latency", STEPS ({ WAIT_MEMBERS, FM_TIMEOUT, "alone" }), CLI_TIMEOUT, .err = "factmesh bench: cannot begin: timed out: alone\n" },
        { "bench latency", STEPS ({ SUBSCRIBE, FM_ERR_TOPIC, "no" }), CLI_ERROR, .err = "factmesh bench: cannot begin: malformed topic or pattern: no\n" },
        /* Nothing of what warms up arrives. */
        { "bench latency --timeout 1s", NULL, CLI_TIMEOUT, .err = "factmesh bench: after 0 facts: timed out: nothing came\n" },
        { "bench latency", STEPS ({ PUBLISH, FM_ERR_LOST, "another has it" }), CLI_ERROR, .err = "factmesh bench: after 0 facts: lost: " REFUSED ": another has it\n" },
        { "bench latency", STEPS ({ NEXT, FM_INTERRUPTED, .signal = SIGINT }), 128 + SIGINT },
    };
    PLAY_ALL (plays);
    begin_echo ();
    const struct {
        const struct step *steps;
        int status;
        unsigned facts;                 /* reported */
        const char *err;
    } cases[] = {
        /* Whoever publishes cannot go on: that is why no more comes. */
        { STEPS ({ PUBLISH, .times = 3 }, { PUBLISH, FM_ERR_LOST, "another has it" }), CLI_ERROR, 2, "factmesh bench: after 2 facts: lost: " REFUSED ": another has it\n" },
        { STEPS ({ NEXT, .event = BENCH_FACT (1, 1) }, { NEXT, .event = BENCH_FACT (3, 3) }), CLI_ERROR, 0, "factmesh bench: fact 3 came, 1 was next\n" },
        { STEPS ({ NEXT, .event = BENCH_FACT (1, 1) }, { NEXT, .event = &plain }), CLI_ERROR, 0, "factmesh bench: after 0 facts: malformed bytes\n" },
        { STEPS ({ NEXT, .event = BENCH_FACT (1, 1) }, { NEXT, .event = BENCH_FACT (1, 1) }, { NEXT, FM_INTERRUPTED, .signal = SIGTERM }), 128 + SIGTERM, 1, "" },
        { STEPS ({ WAIT_SYNCED, .times = 4 }, { WAIT_SYNCED, FM_ERR_LOST, "another has it" }), CLI_ERROR, 5, "factmesh bench: after 5 facts: lost: " REFUSED ": another has it\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run r;
        char head[32];
        play_run ("bench latency --size 16 -n 5", cases[i].steps, &r);
        if (r.status != cases[i].status || strcmp (r.err, cases[i].err) != 0)
            fail_msg ("%zu: status %d, '%s'", i, r.status, r.err);
        (void) snprintf (head, sizeof head, "%u facts of 16 B", cases[i].facts);
        assert_int_equal (strncmp (r.out, head, strlen (head)) == 0, cases[i].facts != 0);
        assert_int_equal (*r.out != 0, cases[i].facts != 0);
    }
    end_echo ();
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (publishing_is_told_as_it_went),
        cmocka_unit_test (publishing_that_fails_says_how_far_it_came),
        cmocka_unit_test (what_comes_is_counted_and_checked),
        cmocka_unit_test (what_is_not_as_it_was_published_is_a_fault),
        cmocka_unit_test (of_too_many_streams_the_bytes_are_checked),
        cmocka_unit_test (taking_ends_as_it_should),
        cmocka_unit_test (each_fact_is_late_from_when_it_was_due),
        cmocka_unit_test (latency_that_cannot_be_measured_says_why),
    };
    return cmocka_run_group_tests (tests, set_up, NULL);
}
