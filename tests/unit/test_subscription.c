/* Subscriptions against the real thing: publishers, a journal and subscriptions in one process, over TCP on loopback.
 *
 * What every fact must be follows from its stream and sequence (flow.h), so that each one that arrives is compared byte for byte, and what
 * is left out shows at the next one. Waits are for events, with a limit that only a fault reaches. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "factmesh.h"
#include "../support/flow.h"
#include "journal.h"
#include "topic.h"

enum { PATIENCE_MS = 20000, STREAMS_MAX = 8 };

/* --- A mesh: one node that publishes, one that journals, one that subscribes. */

struct mesh {
    char directory[64];
    struct fm_node *publisher_node, *journal_node, *subscriber_node;
    struct journal *journal;
    struct fm_publisher *publishers[STREAMS_MAX];
    struct flow flows[STREAMS_MAX];
    struct fm_id streams[STREAMS_MAX];
    size_t stream_count;
};

static void on_notice (void *arg, const char *id, const char *text)
{
    if (getenv ("TEST_NOTICES"))
        fprintf (stderr, "%s: %s %s\n", (const char *) arg, id, text);
}

static struct fm_node *open_node (const char *name, const char *seeds, int live_queue)
{
    const struct fm_node_options options = { .name = name, .seeds = seeds, .bind = "tcp://127.0.0.1:*", .beacon_port = -1, .ping_ms = 100,
                                             .live_queue = live_queue, .notice = on_notice, .notice_arg = (void *) (uintptr_t) name };
    struct fm_node *node = NULL;
    const int rc = fm_node_open (&options, &node);
    if (rc != 0)
        fail_msg ("fm_node_open: %s (%s)", fm_error_text (rc), fm_error_detail ());
    return node;
}

static void open_journal (struct mesh *m)
{
    m->journal_node = open_node ("journal", fm_node_address (m->publisher_node), 0);
    const int rc = journal_new (m->journal_node, m->directory, NULL, &m->journal);
    if (rc != 0)
        fail_msg ("journal_new: %s (%s)", fm_error_text (rc), fm_error_detail ());
}

static void close_journal (struct mesh *m)
{
    journal_destroy (&m->journal);
    fm_node_close (&m->journal_node);
}

static void open_mesh (struct mesh *m, bool with_journal, int live_queue)
{
    memset (m, 0, sizeof *m);
    strcpy (m->directory, "/tmp/test_subscription.XXXXXX");
    assert_non_null (mkdtemp (m->directory));
    m->publisher_node = open_node ("publisher", NULL, live_queue);
    if (with_journal)
        open_journal (m);
    m->subscriber_node = open_node ("subscriber", fm_node_address (m->publisher_node), 0);
    const unsigned members = with_journal ? 3 : 2;
    assert_int_equal (fm_node_wait_members (m->subscriber_node, members, PATIENCE_MS), 0);
    assert_int_equal (fm_node_wait_members (m->publisher_node, members, PATIENCE_MS), 0);
    if (with_journal)
        assert_int_equal (fm_node_wait_journal (m->subscriber_node, PATIENCE_MS), 0);
}

static int remove_one (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st, (void) type, (void) ftw;
    return remove (path);
}

static void close_mesh (struct mesh *m)
{
    for (size_t i = 0; i < m->stream_count; i++)
        fm_publisher_close (&m->publishers[i]);
    fm_node_close (&m->subscriber_node);
    if (m->journal_node)
        close_journal (m);
    fm_node_close (&m->publisher_node);
    assert_int_equal (nftw (m->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static size_t add_stream (struct mesh *m, unsigned topics, uint64_t count, bool large)
{
    const size_t i = m->stream_count++;
    const struct fm_publisher_options options = { .window_bytes = (size_t) 256 << 20, .block_ms = PATIENCE_MS };
    m->flows[i] = (struct flow) { .contents = 42, .stream = (unsigned) i, .topics = topics, .count = count, .large = large };
    assert_int_equal (fm_publisher_open (m->publisher_node, &options, &m->publishers[i]), 0);
    struct fm_publisher_state state;
    fm_publisher_state (m->publishers[i], &state);
    m->streams[i] = state.stream;
    return i;
}

static void publish (struct mesh *m, size_t stream, uint64_t first, uint64_t end)
{
    static __thread struct flow_fact made;
    for (uint64_t seq = first; seq < end; seq++) {
        uint8_t headers[2 * FLOW_HEADER_MAX + 16];
        size_t headers_len = 0;
        flow_make (&m->flows[stream], seq, &made);
        if (made.header_name_len)
            assert_int_equal (fm_header_add (headers, sizeof headers, &headers_len, slice (made.header_name, made.header_name_len),
                                             slice (made.header_value, made.header_value_len)), 0);
        const struct fm_fact fact = { .topic = slice (made.topic, made.topic_len), .key = slice (made.key, made.key_len),
                                      .payload = slice (made.payload, made.payload_len), .headers = slice (headers, headers_len) };
        struct fm_fact_id id;
        const int rc = fm_publish (m->publishers[stream], &fact, &id);
        if (rc != 0)
            fail_msg ("fm_publish %llu: %s (%s)", (unsigned long long) seq, fm_error_text (rc), fm_error_detail ());
        assert_int_equal (id.seq, seq);
    }
}

static void wait_synced (struct mesh *m, size_t stream)
{
    const int rc = fm_publisher_wait_synced (m->publishers[stream], 0, PATIENCE_MS);
    if (rc != 0)
        fail_msg ("wait_synced: %s (%s)", fm_error_text (rc), fm_error_detail ());
}

/* A thread that publishes while others look. */
struct load {
    struct mesh *mesh;
    size_t stream;
    uint64_t first, end, pause_every;
    pthread_t thread;
};

static void *load_run (void *arg)
{
    struct load *l = arg;
    for (uint64_t seq = l->first; seq < l->end; seq += l->pause_every) {
        publish (l->mesh, l->stream, seq, seq + l->pause_every < l->end ? seq + l->pause_every : l->end);
        usleep (1000);                      /* others share the machine */
    }
    return NULL;
}

static void load_start (struct load *l)
{
    assert_int_equal (pthread_create (&l->thread, NULL, load_run, l), 0);
}

static void load_join (struct load *l)
{
    assert_int_equal (pthread_join (l->thread, NULL), 0);
}

/* --- A subscriber that checks. */

struct checker {
    struct mesh *mesh;
    struct fm_subscription *s;
    const char *const *topics;
    uint64_t last[STREAMS_MAX];             /* sequence of the last fact of each stream */
    uint64_t facts, replayed, gaps, caught_up, fell_behind;
};

static bool wanted (const struct checker *c, struct fm_slice topic)
{
    if (!c->topics)
        return true;
    for (size_t i = 0; c->topics[i]; i++) {
        if (topic_match (slice_of (c->topics[i]), topic))
            return true;
    }
    return false;
}

static void check_fact (struct checker *c, const struct fm_fact *f)
{
    static __thread struct flow_fact made;
    size_t i = 0;
    while (i < c->mesh->stream_count && memcmp (&c->mesh->streams[i], &f->id.stream, sizeof f->id.stream) != 0)
        i++;
    assert_true (i < c->mesh->stream_count);
    if (f->id.seq <= c->last[i])
        fail_msg ("stream %zu: %llu after %llu", i, (unsigned long long) f->id.seq, (unsigned long long) c->last[i]);
    for (uint64_t seq = c->last[i] + 1; seq < f->id.seq; seq++) {
        flow_make (&c->mesh->flows[i], seq, &made);
        if (wanted (c, slice (made.topic, made.topic_len)))
            fail_msg ("stream %zu: %llu was left out before %llu", i, (unsigned long long) seq, (unsigned long long) f->id.seq);
    }
    flow_make (&c->mesh->flows[i], f->id.seq, &made);
    assert_true (slice_equal (f->topic, slice (made.topic, made.topic_len)));
    assert_true (wanted (c, f->topic));
    assert_true (slice_equal (f->key, slice (made.key, made.key_len)));
    assert_true (slice_equal (f->payload, slice (made.payload, made.payload_len)));
    if (made.header_name_len) {
        struct fm_slice name, value;
        size_t pos = 0;
        assert_int_equal (fm_header_next (f->headers, &pos, &name, &value), 0);
        assert_true (slice_equal (name, slice (made.header_name, made.header_name_len)));
        assert_true (slice_equal (value, slice (made.header_value, made.header_value_len)));
    }
    c->last[i] = f->id.seq;
    c->facts++;
}

static void take_event (struct checker *c, const struct fm_event *e)
{
    switch (e->kind) {
    case FM_EVENT_FACT:
        check_fact (c, &e->fact);
        c->replayed += e->replayed;
        break;
    case FM_EVENT_GAP:
        c->gaps++;
        break;
    case FM_EVENT_CAUGHT_UP:
        c->caught_up++;
        break;
    case FM_EVENT_FELL_BEHIND:
        c->fell_behind++;
        break;
    }
}

static void open_checker (struct checker *c, struct mesh *m, struct fm_subscription_options options)
{
    memset (c, 0, sizeof *c);
    c->mesh = m;
    c->topics = options.topics;
    const int rc = fm_subscription_open (m->subscriber_node, &options, &c->s);
    if (rc != 0)
        fail_msg ("fm_subscription_open: %s (%s)", fm_error_text (rc), fm_error_detail ());
}

static void next_event (struct checker *c)
{
    struct fm_event e;
    const int rc = fm_subscription_next (c->s, PATIENCE_MS, &e);
    if (rc != 0)
        fail_msg ("fm_subscription_next: %s (%s); stream 0 is at %llu of %llu", fm_error_text (rc), fm_error_detail (),
                  (unsigned long long) c->last[0], (unsigned long long) flow_total (&c->mesh->flows[0]));
    take_event (c, &e);
}

/* Until the last matching fact of the stream at or below `last`. */
static void run_until (struct checker *c, size_t stream, uint64_t last)
{
    static __thread struct flow_fact made;
    for (; last > 0; last--) {
        flow_make (&c->mesh->flows[stream], last, &made);
        if (wanted (c, slice (made.topic, made.topic_len)))
            break;
    }
    while (c->last[stream] < last)
        next_event (c);
}

static void run_to_end (struct checker *c)
{
    for (size_t i = 0; i < c->mesh->stream_count; i++)
        run_until (c, i, flow_total (&c->mesh->flows[i]));
}

/* Nothing more may come. */
static void expect_silence (struct checker *c, int ms)
{
    struct fm_event e;
    for (;;) {
        const int rc = fm_subscription_next (c->s, ms, &e);
        if (rc == FM_TIMEOUT)
            return;
        assert_int_equal (rc, 0);
        assert_int_not_equal (e.kind, FM_EVENT_FACT);
        take_event (c, &e);
    }
}

static const char *const no_topics[] = { "nothing.of.this.name", NULL };
static const char *const region[] = { "flow.r1.>", NULL };
static const char *const several[] = { "flow.*.k3", "flow.r0.k1", NULL };
static const char *const one_topic[] = { "flow.r0.k4", NULL };

/* --- The cases. */

static void who_joins_late_sees_what_the_early_one_saw (void **state)
{
    (void) state;
    enum { COUNT = 60000 };
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 20, COUNT, true);
    add_stream (&m, 20, COUNT / 4, false);
    struct checker early, late[4];
    open_checker (&early, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    struct load loads[2] = { { .mesh = &m, .stream = 0, .first = 1, .end = COUNT + 21, .pause_every = 500 },
                             { .mesh = &m, .stream = 1, .first = 1, .end = COUNT / 4 + 21, .pause_every = 100 } };
    load_start (&loads[0]);
    load_start (&loads[1]);
    const char *const *topics[] = { NULL, region, several, one_topic };
    for (size_t i = 0; i < 4; i++) {
        run_until (&early, 0, (i + 1) * COUNT / 6);
        open_checker (&late[i], &m, (struct fm_subscription_options) { .from = FM_FROM_START, .topics = topics[i] });
    }
    run_to_end (&early);
    assert_int_equal (early.facts, 2 * 20 + COUNT + COUNT / 4);
    for (size_t i = 0; i < 4; i++) {
        run_to_end (&late[i]);
        assert_int_equal (late[i].gaps + late[i].fell_behind, 0);
        assert_true (late[i].replayed > 0 && late[i].facts > 0);
        fm_subscription_close (&late[i].s);
    }
    assert_int_equal (early.gaps, 0);
    expect_silence (&early, 50);
    fm_subscription_close (&early.s);
    load_join (&loads[0]);
    load_join (&loads[1]);
    close_mesh (&m);
}

static void from_the_end_means_everything_after_open_returned (void **state)
{
    (void) state;
    for (int with_journal = 0; with_journal < 2; with_journal++) {
        struct mesh m;
        open_mesh (&m, with_journal, 0);
        add_stream (&m, 10, 400, false);
        publish (&m, 0, 1, 101);
        if (with_journal)
            wait_synced (&m, 0);
        struct checker c;
        open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_END });
        c.last[0] = 100;
        publish (&m, 0, 101, 411);
        add_stream (&m, 10, 100, false);        /* one that is opened later comes from its beginning */
        publish (&m, 1, 1, 111);
        run_to_end (&c);
        assert_int_equal (c.facts, 310 + 110);
        assert_int_equal (c.caught_up, 1);
        assert_int_equal (c.gaps, 0);
        fm_subscription_close (&c.s);
        close_mesh (&m);
    }
}

static void a_publisher_that_joins_later_is_heard_from_its_first_fact (void **state)
{
    (void) state;
    for (int with_journal = 0; with_journal < 2; with_journal++) {
        struct mesh m;
        open_mesh (&m, with_journal, 0);
        struct checker c;
        open_checker (&c, &m, (struct fm_subscription_options) { .topics = region });
        struct fm_node *node = open_node ("late publisher", fm_node_address (m.publisher_node), 0), *first = m.publisher_node;
        m.publisher_node = node;
        add_stream (&m, 20, 500, false);
        publish (&m, 0, 1, 521);                /* before anybody is connected to it */
        run_to_end (&c);
        assert_true (c.facts > 200);
        assert_int_equal (c.gaps, 0);
        fm_publisher_close (&m.publishers[0]);
        m.stream_count = 0;
        fm_subscription_close (&c.s);
        fm_node_close (&node);
        m.publisher_node = first;
        close_mesh (&m);
    }
}

static void who_is_too_slow_falls_behind_and_misses_nothing (void **state)
{
    (void) state;
    enum { COUNT = 40000 };
    struct mesh m;
    open_mesh (&m, true, 20);
    add_stream (&m, 20, COUNT, false);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .held_bytes = 65536 });
    publish (&m, 0, 1, 2);
    run_until (&c, 0, 1);
    while (c.caught_up == 0)
        next_event (&c);
    publish (&m, 0, 2, COUNT - 5000);           /* nobody reads meanwhile */
    struct load load = { .mesh = &m, .stream = 0, .first = COUNT - 5000, .end = COUNT + 21, .pause_every = 200 };
    load_start (&load);
    run_to_end (&c);
    load_join (&load);
    assert_int_equal (c.facts, COUNT + 20);
    assert_int_equal (c.gaps, 0);
    while (c.caught_up <= c.fell_behind)        /* one at first, and one for each fall */
        next_event (&c);
    expect_silence (&c, 50);
    assert_int_equal (c.caught_up, c.fell_behind + 1);
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void a_named_cursor_goes_on_behind_the_last_acknowledged_fact (void **state)
{
    (void) state;
    enum { COUNT = 3000 };
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 10, COUNT, false);
    add_stream (&m, 10, COUNT, false);
    publish (&m, 0, 1, COUNT / 2);
    publish (&m, 1, 1, COUNT / 3);
    uint64_t last[2] = { 0, 0 }, taken = 0;
    const struct fm_subscription_options options = { .from = FM_FROM_START, .cursor = "work", .commit_ms = 1 };
    for (int round = 0; round < 12; round++) {
        struct checker c;
        open_checker (&c, &m, options);
        memcpy (c.last, last, sizeof last);
        if (round == 5) {
            publish (&m, 0, COUNT / 2, COUNT + 11);
            publish (&m, 1, COUNT / 3, COUNT + 11);
        }
        const uint64_t wish = 37 + 61 * (uint64_t) round;       /* in the midst of batches */
        while (c.facts < wish)
            next_event (&c);
        assert_int_equal (fm_subscription_ack (c.s), 0);
        memcpy (last, c.last, sizeof last);
        taken += c.facts;
        for (int extra = 0; extra < 5; extra++)                 /* taken, not acknowledged: will come again */
            next_event (&c);
        if (round % 3 == 0)
            assert_int_equal (fm_subscription_commit (c.s, PATIENCE_MS), 0);
        fm_subscription_close (&c.s);
    }
    struct checker c;
    open_checker (&c, &m, options);
    memcpy (c.last, last, sizeof last);
    run_to_end (&c);
    assert_int_equal (taken + c.facts, 2 * (COUNT + 10));
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void a_cursor_as_bytes_goes_on_behind_the_last_event_taken (void **state)
{
    (void) state;
    enum { COUNT = 2000 };
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 20, COUNT, false);
    uint64_t last = 0, total = 0, published = 1;
    uint8_t bytes[512];
    struct fm_slice cursor = { 0 };
    for (int round = 0; round < 10; round++) {
        struct checker c;
        const struct fm_subscription_options options = { .from = round ? FM_FROM_CURSOR : FM_FROM_START, .from_cursor = cursor, .topics = region };
        open_checker (&c, &m, options);
        c.last[0] = last;
        const uint64_t end = published + COUNT / 10;
        publish (&m, 0, published, end);        /* some of each comes live */
        published = end;
        while (c.facts < 90 + (uint64_t) round)
            next_event (&c);
        struct fm_slice made;
        assert_int_equal (fm_subscription_cursor (c.s, &made), 0);
        assert_true (made.len <= sizeof bytes);
        memcpy (bytes, made.data, made.len);
        cursor = slice (bytes, made.len);
        last = c.last[0];
        total += c.facts;
        fm_subscription_close (&c.s);
    }
    assert_true (total > 900);
    struct fm_subscription *s;
    bytes[cursor.len - 1] ^= 0xFF;
    struct fm_subscription_options broken = { .from = FM_FROM_CURSOR, .from_cursor = slice (bytes, cursor.len / 2) };
    assert_int_equal (fm_subscription_open (m.subscriber_node, &broken, &s), FM_ERR_MALFORMED);
    close_mesh (&m);
}

static void synced_delivery_hands_out_only_what_is_on_disk (void **state)
{
    (void) state;
    enum { COUNT = 10000 };
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 10, COUNT, true);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_END, .delivery = FM_SYNCED });
    struct load load = { .mesh = &m, .stream = 0, .first = 1, .end = COUNT + 11, .pause_every = 100 };
    load_start (&load);
    while (c.last[0] < COUNT + 10) {
        next_event (&c);
        struct log_stream at;
        if (c.facts > 0) {
            assert_int_equal (log_stream_get (journal_log (m.journal), &m.streams[0], &at), 0);
            assert_true (c.last[0] <= at.synced_seq);
        }
    }
    load_join (&load);
    assert_int_equal (c.facts, COUNT + 10);
    assert_true (c.facts - c.replayed > COUNT / 10);            /* most of it live, on the publisher's marks */
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void the_descriptor_is_readable_whenever_there_is_something (void **state)
{
    (void) state;
    enum { COUNT = 20000 };
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 20, COUNT, false);
    publish (&m, 0, 1, COUNT / 4);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .topics = several });
    struct load load = { .mesh = &m, .stream = 0, .first = COUNT / 4, .end = COUNT + 21, .pause_every = 50 };
    load_start (&load);
    uint64_t last = COUNT + 20;
    struct flow_fact made;
    for (flow_make (&m.flows[0], last, &made); !wanted (&c, slice (made.topic, made.topic_len)); flow_make (&m.flows[0], --last, &made))
        ;
    unsigned waits = 0;
    while (c.last[0] < last) {
        struct pollfd fd = { .fd = fm_subscription_fd (c.s), .events = POLLIN };
        assert_int_equal (poll (&fd, 1, PATIENCE_MS), 1);
        struct fm_event e;
        int rc;
        while ((rc = fm_subscription_next (c.s, 0, &e)) == 0)
            take_event (&c, &e);
        assert_int_equal (rc, FM_TIMEOUT);
        waits++;
    }
    assert_true (waits > 10);
    load_join (&load);
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void a_descriptor_polled_after_one_event_of_many_is_readable (void **state)
{
    (void) state;
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 10, 1000, false);
    publish (&m, 0, 1, 1011);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    while (c.last[0] < 1010) {
        struct pollfd fd = { .fd = fm_subscription_fd (c.s), .events = POLLIN };
        assert_int_equal (poll (&fd, 1, PATIENCE_MS), 1);
        struct fm_event e;
        const int rc = fm_subscription_next (c.s, 0, &e);       /* only one a wake-up */
        if (rc == 0)
            take_event (&c, &e);
        else
            assert_int_equal (rc, FM_TIMEOUT);
    }
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void waiting_costs_no_processor_time_though_the_descriptor_was_asked_for (void **state)
{
    (void) state;
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 10, 100, false);
    publish (&m, 0, 1, 111);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    assert_true (fm_subscription_fd (c.s) >= 0);
    run_to_end (&c);
    struct timespec before, after;
    clock_gettime (CLOCK_THREAD_CPUTIME_ID, &before);
    expect_silence (&c, 1000);
    clock_gettime (CLOCK_THREAD_CPUTIME_ID, &after);
    const int64_t spent_ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    assert_in_range (spent_ms, 0, 100);
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void a_journal_that_comes_back_is_read_on_where_it_stopped (void **state)
{
    (void) state;
    enum { COUNT = 30000 };
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 20, COUNT, false);
    publish (&m, 0, 1, COUNT / 2);
    wait_synced (&m, 0);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    while (c.facts < 2000)                      /* in the middle of the replay */
        next_event (&c);
    close_journal (&m);
    publish (&m, 0, COUNT / 2, COUNT / 2 + 1000);
    open_journal (&m);
    publish (&m, 0, COUNT / 2 + 1000, COUNT + 21);
    run_to_end (&c);
    assert_int_equal (c.facts, COUNT + 20);
    assert_int_equal (c.gaps, 0);
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void facts_larger_than_a_frame_come_in_their_place (void **state)
{
    (void) state;
    for (int with_journal = 0; with_journal < 2; with_journal++) {
        struct mesh m;
        open_mesh (&m, with_journal, 0);
        struct checker c;
        open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_END });
        struct fm_publisher *p;
        assert_int_equal (fm_publisher_open (m.publisher_node, NULL, &p), 0);
        enum { LARGE = 300000 };
        uint8_t *payload = malloc (LARGE);
        assert_non_null (payload);
        for (uint64_t seq = 1; seq <= 60; seq++) {
            const size_t len = seq % 3 == 0 ? LARGE : 10;
            memset (payload, (int) seq, len);
            const struct fm_fact fact = { .topic = fm_text ("big.ones"), .payload = slice (payload, len) };
            assert_int_equal (fm_publish (p, &fact, NULL), 0);
        }
        for (uint64_t seq = 1; seq <= 60;) {
            struct fm_event e;
            assert_int_equal (fm_subscription_next (c.s, PATIENCE_MS, &e), 0);
            if (e.kind == FM_EVENT_CAUGHT_UP)
                continue;
            assert_int_equal (e.kind, FM_EVENT_FACT);
            const size_t len = seq % 3 == 0 ? LARGE : 10;
            memset (payload, (int) seq, len);
            assert_int_equal (e.fact.id.seq, seq);
            assert_true (slice_equal (e.fact.payload, slice (payload, len)));
            seq++;
        }
        free (payload);
        fm_publisher_close (&p);
        fm_subscription_close (&c.s);
        close_mesh (&m);
    }
}

static void the_last_facts_and_their_time_are_found (void **state)
{
    (void) state;
    struct mesh m;
    open_mesh (&m, true, 0);
    add_stream (&m, 10, 1000, false);
    publish (&m, 0, 1, 1011);
    wait_synced (&m, 0);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_LAST, .from_last = 7 });
    c.last[0] = 1003;
    run_to_end (&c);
    assert_int_equal (c.facts, 7);
    fm_subscription_close (&c.s);
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_TIME, .from_time_ns = 1 });
    run_to_end (&c);
    assert_int_equal (c.facts, 1010);
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void what_its_publisher_had_alone_dies_with_it_as_a_gap (void **state)
{
    (void) state;
    struct mesh m;
    open_mesh (&m, false, 10);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .no_journal = true });
    const struct fm_publisher_options small = { .window_bytes = 200000, .when_full = FM_DROP_OLDEST };
    struct fm_publisher *p;
    assert_int_equal (fm_publisher_open (m.publisher_node, &small, &p), 0);
    enum { COUNT = 30000 };
    for (uint64_t seq = 1; seq <= COUNT; seq++) {       /* far more than queues and window hold, and nobody reads */
        uint64_t payload[256] = { seq };
        const struct fm_fact fact = { .topic = fm_text ("many"), .payload = slice (payload, sizeof payload) };
        assert_int_equal (fm_publish (p, &fact, NULL), 0);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
    uint64_t next = 1, lost = 0;
    while (next <= COUNT) {
        struct fm_event e;
        const int rc = fm_subscription_next (c.s, PATIENCE_MS, &e);
        assert_int_equal (rc, 0);
        if (e.kind == FM_EVENT_FACT) {
            assert_int_equal (e.fact.id.seq, next);
            assert_memory_equal (e.fact.payload.data, &next, sizeof next);
            next++;
        } else if (e.kind == FM_EVENT_GAP) {
            assert_int_equal (e.gap.first, next);
            assert_int_equal (e.gap.reason, FM_GAP_NOT_HELD);
            lost += e.gap.end - next;
            next = e.gap.end;
        }
    }
    assert_true (lost > 0 && lost < COUNT);
    fm_publisher_close (&p);
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

/* A publisher with an identity in a directory; facts are numbered by their payload. */
static struct fm_publisher *open_identity (struct fm_node *node, const char *directory)
{
    const struct fm_publisher_options options = { .directory = directory };
    struct fm_publisher *p = NULL;
    const int rc = fm_publisher_open (node, &options, &p);
    if (rc != 0)
        fail_msg ("fm_publisher_open: %s (%s)", fm_error_text (rc), fm_error_detail ());
    return p;
}

static void publish_numbers (struct fm_publisher *p, uint64_t first, uint64_t end)
{
    for (uint64_t n = first; n < end; n++) {
        const struct fm_fact fact = { .topic = fm_text (n % 3 ? "numbers.a" : "numbers.b"), .payload = slice (&n, sizeof n) };
        assert_int_equal (fm_publish (p, &fact, NULL), 0);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
}

static void take_numbers (struct fm_subscription *s, uint64_t first, uint64_t end)
{
    while (first < end) {
        struct fm_event e;
        const int rc = fm_subscription_next (s, PATIENCE_MS, &e);
        if (rc != 0)
            fail_msg ("waiting for %llu: %s (%s)", (unsigned long long) first, fm_error_text (rc), fm_error_detail ());
        if (e.kind == FM_EVENT_FACT) {
            assert_int_equal (e.fact.payload.len, sizeof first);
            assert_memory_equal (e.fact.payload.data, &first, sizeof first);
            first++;
        }
    }
}

static void a_stream_goes_on_when_its_publisher_comes_back_elsewhere (void **state)
{
    (void) state;
    struct mesh m;
    open_mesh (&m, true, 0);
    char directory[] = "/tmp/test_subscription.XXXXXX";
    assert_non_null (mkdtemp (directory));
    struct fm_subscription *live, *synced;
    assert_int_equal (fm_subscription_open (m.subscriber_node, NULL, &live), 0);
    assert_int_equal (fm_subscription_open (m.subscriber_node, &(struct fm_subscription_options) { .delivery = FM_SYNCED }, &synced), 0);
    for (uint64_t round = 0; round < 4; round++) {
        struct fm_node *node = open_node ("moving", fm_node_address (m.publisher_node), 0);
        assert_int_equal (fm_node_wait_members (node, 4, PATIENCE_MS), 0);
        struct fm_publisher *p = open_identity (node, directory);
        publish_numbers (p, 300 * round, 300 * (round + 1));
        assert_int_equal (fm_publisher_wait_synced (p, 0, PATIENCE_MS), 0);
        if (round % 2)                          /* sometimes before it goes, sometimes behind */
            take_numbers (live, 300 * (round - 1), 300 * (round + 1));
        fm_publisher_close (&p);
        fm_node_close (&node);
        assert_int_equal (fm_node_wait_members (m.subscriber_node, 3, PATIENCE_MS), 0);
    }
    take_numbers (synced, 0, 1200);
    fm_subscription_close (&live);
    fm_subscription_close (&synced);
    assert_int_equal (nftw (directory, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    close_mesh (&m);
}

static void two_incarnations_of_one_epoch_are_told_and_one_is_refused (void **state)
{
    (void) state;
    struct mesh m;
    open_mesh (&m, false, 0);
    char first[] = "/tmp/test_subscription.XXXXXX", second[] = "/tmp/test_subscription.XXXXXX", command[128];
    assert_non_null (mkdtemp (first));
    assert_non_null (mkdtemp (second));
    struct fm_publisher *p = open_identity (m.publisher_node, first);
    fm_publisher_close (&p);
    assert_true (snprintf (command, sizeof command, "cp %s/* %s/", first, second) > 0);
    assert_int_equal (system (command), 0);
    struct fm_node *other = open_node ("copy", fm_node_address (m.publisher_node), 0);
    assert_int_equal (fm_node_wait_members (m.subscriber_node, 3, PATIENCE_MS), 0);
    struct fm_subscription *s;
    assert_int_equal (fm_subscription_open (m.subscriber_node, &(struct fm_subscription_options) { .no_journal = true }, &s), 0);
    p = open_identity (m.publisher_node, first);
    publish_numbers (p, 0, 30);
    take_numbers (s, 0, 30);
    struct fm_publisher *copy = open_identity (other, second);
    publish_numbers (copy, 1000, 1030);
    struct fm_event e;
    int rc;
    do
        rc = fm_subscription_next (s, PATIENCE_MS, &e);
    while (rc == 0 && e.kind != FM_EVENT_FACT);
    assert_int_equal (rc, FM_ERR_CONFLICT);
    assert_non_null (strstr (fm_error_detail (), "another incarnation"));
    publish_numbers (p, 30, 60);                /* the first one goes on */
    take_numbers (s, 30, 60);
    fm_publisher_close (&copy);
    fm_publisher_close (&p);
    fm_subscription_close (&s);
    fm_node_close (&other);
    assert_int_equal (nftw (first, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal (nftw (second, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    close_mesh (&m);
}

static void a_cursor_of_another_journal_is_refused (void **state)
{
    (void) state;
    struct mesh m;
    open_mesh (&m, true, 0);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START });
    struct fm_slice cursor;
    uint8_t bytes[256];
    assert_int_equal (fm_subscription_cursor (c.s, &cursor), 0);
    memcpy (bytes, cursor.data, cursor.len);
    cursor.data = bytes;
    fm_subscription_close (&c.s);
    close_mesh (&m);
    open_mesh (&m, true, 0);
    struct fm_subscription *s;
    const struct fm_subscription_options options = { .from = FM_FROM_CURSOR, .from_cursor = cursor, .open_timeout_ms = 100 };
    assert_int_equal (fm_subscription_open (m.subscriber_node, &options, &s), FM_ERR_GENERATION);
    close_mesh (&m);
}

static void a_subscription_that_rests_for_long_costs_nobody_and_goes_on (void **state)
{
    (void) state;
    enum { COUNT = 30000, REST_S = 6 };         /* longer than every heartbeat of this mesh */
    struct mesh m;
    open_mesh (&m, true, 20);
    add_stream (&m, 20, COUNT, false);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .from = FM_FROM_START, .held_bytes = 1 << 20 });
    struct load load = { .mesh = &m, .stream = 0, .first = 1, .end = COUNT + 21, .pause_every = COUNT / (200 * REST_S) };
    load_start (&load);
    load_join (&load);
    sleep (REST_S);                             /* the time itself is what is tried */
    run_to_end (&c);
    assert_int_equal (c.facts, COUNT + 20);
    assert_int_equal (c.gaps, 0);
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

static void options_that_make_no_sense_are_refused (void **state)
{
    (void) state;
    struct mesh m;
    open_mesh (&m, false, 0);
    struct fm_subscription *s = NULL;
    static const char *const bad[] = { "a..b", NULL };
    const struct {
        struct fm_subscription_options options;
        int error;
    } cases[] = {
        { { .topics = bad }, FM_ERR_TOPIC },
        { { .from = FM_FROM_START, .open_timeout_ms = 50 }, FM_ERR_NO_JOURNAL },
        { { .cursor = "x", .open_timeout_ms = 50 }, FM_ERR_NO_JOURNAL },
        { { .from = FM_FROM_CURSOR }, FM_ERR_ARGUMENT },
        { { .from = (enum fm_start) 9 }, FM_ERR_ARGUMENT },
        { { .no_journal = true, .delivery = FM_SYNCED }, FM_ERR_ARGUMENT },
        { { .cursor = "" }, FM_ERR_ARGUMENT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal (fm_subscription_open (m.subscriber_node, &cases[i].options, &s), cases[i].error);
    assert_null (s);
    struct checker c;
    open_checker (&c, &m, (struct fm_subscription_options) { .topics = no_topics, .open_timeout_ms = 50 });
    struct fm_slice cursor;
    assert_int_equal (fm_subscription_cursor (c.s, &cursor), FM_ERR_NO_JOURNAL);
    assert_int_equal (fm_subscription_commit (c.s, 10), FM_ERR_ARGUMENT);
    fm_subscription_close (&c.s);
    close_mesh (&m);
}

int main (int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter (argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (who_joins_late_sees_what_the_early_one_saw),
        cmocka_unit_test (from_the_end_means_everything_after_open_returned),
        cmocka_unit_test (a_publisher_that_joins_later_is_heard_from_its_first_fact),
        cmocka_unit_test (who_is_too_slow_falls_behind_and_misses_nothing),
        cmocka_unit_test (a_named_cursor_goes_on_behind_the_last_acknowledged_fact),
        cmocka_unit_test (a_cursor_as_bytes_goes_on_behind_the_last_event_taken),
        cmocka_unit_test (synced_delivery_hands_out_only_what_is_on_disk),
        cmocka_unit_test (the_descriptor_is_readable_whenever_there_is_something),
        cmocka_unit_test (a_descriptor_polled_after_one_event_of_many_is_readable),
        cmocka_unit_test (waiting_costs_no_processor_time_though_the_descriptor_was_asked_for),
        cmocka_unit_test (a_journal_that_comes_back_is_read_on_where_it_stopped),
        cmocka_unit_test (facts_larger_than_a_frame_come_in_their_place),
        cmocka_unit_test (the_last_facts_and_their_time_are_found),
        cmocka_unit_test (what_its_publisher_had_alone_dies_with_it_as_a_gap),
        cmocka_unit_test (a_stream_goes_on_when_its_publisher_comes_back_elsewhere),
        cmocka_unit_test (two_incarnations_of_one_epoch_are_told_and_one_is_refused),
        cmocka_unit_test (a_cursor_of_another_journal_is_refused),
        cmocka_unit_test (a_subscription_that_rests_for_long_costs_nobody_and_goes_on),
        cmocka_unit_test (options_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
