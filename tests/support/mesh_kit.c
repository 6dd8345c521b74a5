#include "mesh_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <ftw.h>
#include <unistd.h>

#include "topic.h"

/* --- A mesh: one node that publishes, one that journals, one that subscribes. */

static void on_notice (void *arg, const char *id, const char *text)
{
    if (getenv ("TEST_NOTICES"))
        fprintf (stderr, "%s: %s %s\n", (const char *) arg, id, text);
}

struct fm_node *mesh_open_node (const char *name, const char *seeds, int live_queue)
{
    const struct fm_node_options options = { .name = name, .seeds = seeds, .bind = "tcp://127.0.0.1:*", .beacon_port = -1, .ping_ms = 100,
                                             .live_queue = live_queue, .notice = on_notice, .notice_arg = (void *) (uintptr_t) name };
    struct fm_node *node = NULL;
    const int rc = fm_node_open (&options, &node);
    if (rc != 0)
        fail_msg ("fm_node_open: %s (%s)", fm_error_text (rc), fm_error_detail ());
    return node;
}

void mesh_open_journal (struct mesh *m)
{
    m->journal_node = mesh_open_node ("journal", fm_node_address (m->publisher_node), 0);
    const int rc = journal_new (m->journal_node, m->directory, NULL, &m->journal);
    if (rc != 0)
        fail_msg ("journal_new: %s (%s)", fm_error_text (rc), fm_error_detail ());
}

void mesh_close_journal (struct mesh *m)
{
    journal_destroy (&m->journal);
    fm_node_close (&m->journal_node);
}

void mesh_open (struct mesh *m, bool with_journal, int live_queue)
{
    memset (m, 0, sizeof *m);
    strcpy (m->directory, "/tmp/test_subscription.XXXXXX");
    assert_non_null (mkdtemp (m->directory));
    m->publisher_node = mesh_open_node ("publisher", NULL, live_queue);
    if (with_journal)
        mesh_open_journal (m);
    m->subscriber_node = mesh_open_node ("subscriber", fm_node_address (m->publisher_node), 0);
    const unsigned members = with_journal ? 3 : 2;
    assert_int_equal (fm_node_wait_members (m->subscriber_node, members, MESH_PATIENCE_MS), 0);
    assert_int_equal (fm_node_wait_members (m->publisher_node, members, MESH_PATIENCE_MS), 0);
    if (with_journal)
        assert_int_equal (fm_node_wait_journal (m->subscriber_node, MESH_PATIENCE_MS), 0);
}

static int remove_one (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st, (void) type, (void) ftw;
    return remove (path);
}

void mesh_remove (const char *directory)
{
    assert_int_equal (nftw (directory, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

void mesh_close (struct mesh *m)
{
    for (size_t i = 0; i < m->stream_count; i++)
        fm_publisher_close (&m->publishers[i]);
    fm_node_close (&m->subscriber_node);
    if (m->journal_node)
        mesh_close_journal (m);
    fm_node_close (&m->publisher_node);
    mesh_remove (m->directory);
}

size_t mesh_add_stream (struct mesh *m, unsigned topics, uint64_t count, bool large)
{
    const size_t i = m->stream_count++;
    const struct fm_publisher_options options = { .window_bytes = (size_t) 256 << 20, .block_ms = MESH_PATIENCE_MS };
    m->flows[i] = (struct flow) { .contents = 42, .stream = (unsigned) i, .topics = topics, .count = count, .large = large };
    assert_int_equal (fm_publisher_open (m->publisher_node, &options, &m->publishers[i]), 0);
    struct fm_publisher_state state;
    fm_publisher_state (m->publishers[i], &state);
    m->streams[i] = state.stream;
    return i;
}

void mesh_publish (struct mesh *m, size_t stream, uint64_t first, uint64_t end)
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

void mesh_wait_synced (struct mesh *m, size_t stream)
{
    const int rc = fm_publisher_wait_synced (m->publishers[stream], 0, MESH_PATIENCE_MS);
    if (rc != 0)
        fail_msg ("wait_synced: %s (%s)", fm_error_text (rc), fm_error_detail ());
}


static void *load_run (void *arg)
{
    struct load *l = arg;
    for (uint64_t seq = l->first; seq < l->end; seq += l->pause_every) {
        mesh_publish (l->mesh, l->stream, seq, seq + l->pause_every < l->end ? seq + l->pause_every : l->end);
        usleep (1000);                      /* others share the machine */
    }
    return NULL;
}

void load_start (struct load *l)
{
    assert_int_equal (pthread_create (&l->thread, NULL, load_run, l), 0);
}

void load_join (struct load *l)
{
    assert_int_equal (pthread_join (l->thread, NULL), 0);
}

/* --- A subscriber that checks. */

bool checker_wants (const struct checker *c, struct fm_slice topic)
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
        if (checker_wants (c, slice (made.topic, made.topic_len)))
            fail_msg ("stream %zu: %llu was left out before %llu", i, (unsigned long long) seq, (unsigned long long) f->id.seq);
    }
    flow_make (&c->mesh->flows[i], f->id.seq, &made);
    assert_true (slice_equal (f->topic, slice (made.topic, made.topic_len)));
    assert_true (checker_wants (c, f->topic));
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

void checker_take (struct checker *c, const struct fm_event *e)
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

void checker_open (struct checker *c, struct mesh *m, struct fm_subscription_options options)
{
    memset (c, 0, sizeof *c);
    c->mesh = m;
    c->topics = options.topics;
    const int rc = fm_subscription_open (m->subscriber_node, &options, &c->s);
    if (rc != 0)
        fail_msg ("fm_subscription_open: %s (%s)", fm_error_text (rc), fm_error_detail ());
}

void checker_next (struct checker *c)
{
    struct fm_event e;
    const int rc = fm_subscription_next (c->s, MESH_PATIENCE_MS, &e);
    if (rc != 0)
        fail_msg ("fm_subscription_next: %s (%s); stream 0 is at %llu of %llu", fm_error_text (rc), fm_error_detail (),
                  (unsigned long long) c->last[0], (unsigned long long) flow_total (&c->mesh->flows[0]));
    checker_take (c, &e);
}

void checker_run_until (struct checker *c, size_t stream, uint64_t last)
{
    static __thread struct flow_fact made;
    for (; last > 0; last--) {
        flow_make (&c->mesh->flows[stream], last, &made);
        if (checker_wants (c, slice (made.topic, made.topic_len)))
            break;
    }
    while (c->last[stream] < last)
        checker_next (c);
}

void checker_run_to_end (struct checker *c)
{
    for (size_t i = 0; i < c->mesh->stream_count; i++)
        checker_run_until (c, i, flow_total (&c->mesh->flows[i]));
}

void checker_expect_silence (struct checker *c, int ms)
{
    struct fm_event e;
    for (;;) {
        const int rc = fm_subscription_next (c->s, ms, &e);
        if (rc == FM_TIMEOUT)
            return;
        assert_int_equal (rc, 0);
        assert_int_not_equal (e.kind, FM_EVENT_FACT);
        checker_take (c, &e);
    }
}
