#include "journal_kit.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

/* --- A journal, its node and directory. */

static void on_notice (void *arg, const char *id, const char *text)
{
    struct notices *n = arg;
    pthread_mutex_lock (&n->lock);
    (void) snprintf (n->items[n->count++ % NOTICES_MAX], sizeof n->items[0], "%s %s", id, text);
    pthread_mutex_unlock (&n->lock);
}

bool recorder_noticed (struct recorder *r, const char *id)
{
    struct notices *n = &r->notices;
    bool found = false;
    pthread_mutex_lock (&n->lock);
    for (unsigned i = 0; i < n->count && i < NOTICES_MAX; i++)
        found = found || strncmp (n->items[i], id, strlen (id)) == 0;
    pthread_mutex_unlock (&n->lock);
    return found;
}

struct fm_node *open_node (const char *name, const char *seeds)
{
    const struct fm_node_options options = { .mesh = "test", .name = name, .seeds = seeds, .bind = "tcp://127.0.0.1:*", .beacon_port = -1,
                                             .ping_ms = 100 };
    struct fm_node *node = NULL;
    assert_done (fm_node_open (&options, &node));
    return node;
}

struct recorder *recorder_new (const char *seeds)
{
    struct recorder *r = calloc (1, sizeof *r);
    pthread_mutex_init (&r->notices.lock, NULL);
    kit_directory (r->directory);
    r->options = (struct journal_options) { .settle_ms = 50, .holders_wait_ms = 300, .orphan_wait_ms = 500, .answer_ms = 300,
                                            .notice = on_notice, .notice_arg = &r->notices };
    r->node = open_node ("journal", seeds);
    return r;
}

void recorder_start (struct recorder *r)
{
    assert_done (journal_new (r->node, r->directory, &r->options, &r->journal));
}

void recorder_destroy (struct recorder *r)
{
    journal_destroy (&r->journal);
    fm_node_close (&r->node);
    kit_remove (r->directory);
    pthread_mutex_destroy (&r->notices.lock);
    free (r);
}

uint64_t recorder_counter (struct recorder *r, enum journal_counter c)
{
    struct journal_status status;
    journal_status (r->journal, &status);
    return status.counters[c];
}

/* --- Facts whose every byte follows from the number. */

static size_t payload_make (uint64_t number, size_t len, uint8_t *p)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t) (number * 131 + i * 7 + (i >> 8));
    return len;
}

static size_t payload_len (uint64_t number)
{
    return number % 97 == 0 ? 200000 : number * 13 % 700;      /* some are announced, and fetched */
}

void publish (struct fm_publisher *p, uint64_t number)
{
    static uint8_t bytes[200000];
    const struct fm_fact fact = { .topic = fm_text (number % 3 ? "orders.placed" : "stock.low"),
                                  .payload = { bytes, payload_make (number, payload_len (number), bytes) },
                                  .type = fm_text ("Numbered") };
    assert_done (fm_publish (p, &fact, NULL));
}

void publish_all (struct fm_publisher *p, uint64_t first, uint64_t end)
{
    for (uint64_t n = first; n < end; n++)
        publish (p, n);
}

void wait_synced (struct fm_publisher *p)
{
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
}

struct fm_publisher *open_publisher (struct fm_node *node, const char *directory)
{
    const struct fm_publisher_options options = { .name = "numbers", .directory = directory };
    struct fm_publisher *p = NULL;
    assert_done (fm_publisher_open (node, &options, &p));
    return p;
}

struct fm_id stream_of (struct fm_publisher *p)
{
    struct fm_publisher_state state;
    fm_publisher_state (p, &state);
    return state.stream;
}

/* --- Asking. */

struct asker asker_new (struct fm_node *node, struct recorder *r)
{
    struct asker a = { .node = node };
    assert_done (replay_client_new (node, fm_node_address (r->node), &a.client));
    return a;
}

bool next_event (struct asker *a, struct replay_event *ret_event, unsigned wait_ms)
{
    const uint64_t until = node_now () + (uint64_t) wait_ms * 1000000;
    for (;;) {
        if (replay_client_receive (a->client, ret_event) == 0)
            return true;
        if (node_now () >= until)
            return false;
        struct pollfd fd = { .fd = replay_client_fd (a->client), .events = POLLIN };
        (void) poll (&fd, 1, 5);
    }
}

static void check_facts (struct told *t, struct fm_slice bytes, const struct fm_id *stream, uint64_t (*number_of) (uint64_t seq))
{
    struct batch_scratch scratch = { 0 };
    struct batch b;
    struct batch_reader reader;
    struct fm_fact fact;
    assert_done (batch_decode (bytes.data, bytes.len, slice_of ("test"), &scratch, &b));
    if (id_equal (&b.stream, stream)) {
        assert_int_equal (b.announced_len, 0);
        batch_reader_init (&reader, &b);
        while (batch_reader_next (&reader, &fact) == 0) {
            static uint8_t expected[200000];
            const uint64_t number = number_of ? number_of (fact.id.seq) : fact.id.seq;
            if (fact.id.seq < t->next_seq)
                continue;
            assert_int_equal (fact.id.seq, t->next_seq);
            assert_int_equal (fact.payload.len, payload_make (number, payload_len (number), expected));
            assert_memory_equal (fact.payload.data, expected, fact.payload.len);
            assert_true (slice_equal (fact.topic, fm_text (number % 3 ? "orders.placed" : "stock.low")));
            t->next_seq++;
            t->facts++;
        }
    }
    batch_scratch_release (&scratch);
}

void take_view (struct told *t, struct replay_view *view, const struct fm_id *stream, uint64_t (*number_of) (uint64_t seq))
{
    struct replay_gap gaps[16];
    size_t gap_count = 0;
    for (size_t i = 0; i < view->header.gap_count && gap_count < 16; i++)
        if (id_equal (&view->gaps[i].stream, stream))
            gaps[gap_count++] = view->gaps[i];
    struct fm_slice bytes;
    bool more;
    do {
        for (size_t i = 0; i < gap_count; i++)
            if (gaps[i].first_seq <= t->next_seq && gaps[i].end_seq > t->next_seq) {
                t->next_seq = gaps[i].end_seq;
                t->last_reason = gaps[i].reason;
                t->gaps++;
            }
        more = replay_view_next (view, &bytes) == 0;
        if (more)
            check_facts (t, bytes, stream, number_of);
    } while (more);
    for (size_t i = 0; i < view->header.covered_count; i++)
        if (id_equal (&view->covered[i].stream, stream))
            t->covered = view->covered[i].through;
    t->caught_up = view->header.caught_up;
}

struct told replay_stream (struct asker *a, const struct fm_id *stream, uint64_t from, uint64_t end, uint64_t (*number_of) (uint64_t seq))
{
    struct told t = { .next_seq = from };
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.stream = control_put_id (stream);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = from;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = end;
    uint64_t session, progress = node_now (), reached = from;
    assert_done (replay_client_open (a->client, &open, &session));
    while (!t.ended) {
        struct replay_event e;
        /* The journal keeps a session alive that waits: only what moves on counts. */
        if (t.next_seq > reached) {
            reached = t.next_seq;
            progress = node_now ();
        }
        if (node_now () > progress + (uint64_t) PATIENCE_MS * 1000000 || !next_event (a, &e, PATIENCE_MS))
            fail_msg ("nothing more comes; the next would be %llu", (unsigned long long) t.next_seq);
        if (e.session != session)
            continue;
        if (e.kind == REPLAY_ERROR)
            fail_msg ("error %d: %s", (int) e.code, e.text);
        if (e.kind == REPLAY_DATA)
            take_view (&t, e.view, stream, number_of);
        t.ended = e.kind == REPLAY_END;
    }
    return t;
}

void expect_recorded (struct fm_node *node, struct recorder *r, struct fm_publisher *p, uint64_t count)
{
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, count + 1, NULL);
    assert_int_equal (t.facts, count);
    assert_int_equal (t.gaps, 0);
    replay_client_destroy (&a.client);
}

/* --- A journal and a publisher at another node. */

struct scene scene_start (struct recorder *r, const char *directory)
{
    recorder_start (r);
    struct scene s = { .r = r, .node = open_node ("publisher", fm_node_address (r->node)) };
    s.p = open_publisher (s.node, directory);
    return s;
}

struct scene scene_with (uint64_t n)
{
    struct scene s = scene_start (recorder_new (NULL), NULL);
    publish_all (s.p, 1, n + 1);
    wait_synced (s.p);
    return s;
}

void scene_publisher_again (struct scene *s, struct recorder *r, const char *directory)
{
    fm_publisher_close (&s->p);
    fm_node_close (&s->node);
    s->node = open_node ("publisher again", fm_node_address (r->node));
    s->p = open_publisher (s->node, directory);
}

void scene_end (struct scene *s)
{
    fm_publisher_close (&s->p);
    fm_node_close (&s->node);
    recorder_destroy (s->r);
}

static uint64_t epoch_first_seq, epoch_first_number;

static uint64_t number_in_epochs (uint64_t seq)
{
    return seq >= epoch_first_seq ? epoch_first_number + seq - epoch_first_seq : seq;
}

struct told replay_epochs (struct fm_node *node, struct recorder *r, struct fm_publisher *p, uint64_t again, uint64_t count)
{
    struct fm_publisher_state at;
    fm_publisher_state (p, &at);
    epoch_first_number = again;
    epoch_first_seq = at.head - (count - again);
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, at.head + 1, number_in_epochs);
    assert_int_equal (t.facts, count);
    assert_int_equal (t.gaps, epoch_first_seq > again);
    replay_client_destroy (&a.client);
    return t;
}
