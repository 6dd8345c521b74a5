/* journal: real nodes in one process, over tcp on loopback: publishers, journals, and askers that speak the protocol by hand. What
 * comes back is compared with what was published, byte for byte. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_kit.h"
#include "error.h"
#include "journal.h"
#include "replay_client.h"

enum { PATIENCE_MS = 20000, NOTICES_MAX = 64 };

#define assert_done(call)                                                                          \
    do {                                                                                           \
        const int done_rc = (call);                                                                \
        if (done_rc != 0)                                                                          \
            fail_msg ("%s: %s (%s)", #call, fm_error_text (done_rc), fm_error_detail ());          \
    } while (0)

/* --- A journal, its node and directory. */

struct notices {
    pthread_mutex_t lock;
    unsigned count;
    char items[NOTICES_MAX][400];
};

struct recorder {
    char directory[128];
    struct fm_node *node;
    struct journal *journal;
    struct journal_options options;
    struct notices notices;
};

static void on_notice (void *arg, const char *id, const char *text)
{
    struct notices *n = arg;
    pthread_mutex_lock (&n->lock);
    (void) snprintf (n->items[n->count++ % NOTICES_MAX], sizeof n->items[0], "%s %s", id, text);
    pthread_mutex_unlock (&n->lock);
}

static bool noticed (struct notices *n, const char *id)
{
    bool found = false;
    pthread_mutex_lock (&n->lock);
    for (unsigned i = 0; i < n->count && i < NOTICES_MAX; i++)
        found = found || strncmp (n->items[i], id, strlen (id)) == 0;
    pthread_mutex_unlock (&n->lock);
    return found;
}

static struct fm_node *open_node (const char *name, const char *seeds)
{
    const struct fm_node_options options = { .mesh = "test", .name = name, .seeds = seeds, .bind = "tcp://127.0.0.1:*", .beacon_port = -1,
                                             .ping_ms = 100 };
    struct fm_node *node = NULL;
    assert_done (fm_node_open (&options, &node));
    return node;
}

static struct recorder *recorder_new (const char *seeds)
{
    struct recorder *r = calloc (1, sizeof *r);
    pthread_mutex_init (&r->notices.lock, NULL);
    kit_directory (r->directory);
    r->options = (struct journal_options) { .settle_ms = 50, .holders_wait_ms = 300, .orphan_wait_ms = 500, .answer_ms = 300,
                                            .notice = on_notice, .notice_arg = &r->notices };
    r->node = open_node ("journal", seeds);
    return r;
}

static void recorder_start (struct recorder *r)
{
    assert_done (journal_new (r->node, r->directory, &r->options, &r->journal));
}

static void recorder_destroy (struct recorder *r)
{
    journal_destroy (&r->journal);
    fm_node_close (&r->node);
    kit_remove (r->directory);
    pthread_mutex_destroy (&r->notices.lock);
    free (r);
}

static uint64_t counter (struct recorder *r, enum journal_counter c)
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

static void publish (struct fm_publisher *p, uint64_t number)
{
    static uint8_t bytes[200000];
    const struct fm_fact fact = { .topic = fm_text (number % 3 ? "orders.placed" : "stock.low"),
                                  .payload = { bytes, payload_make (number, payload_len (number), bytes) },
                                  .type = fm_text ("Numbered") };
    assert_done (fm_publish (p, &fact, NULL));
}

static struct fm_publisher *open_publisher (struct fm_node *node, const char *directory)
{
    const struct fm_publisher_options options = { .name = "numbers", .directory = directory };
    struct fm_publisher *p = NULL;
    assert_done (fm_publisher_open (node, &options, &p));
    return p;
}

static struct fm_id stream_of (struct fm_publisher *p)
{
    struct fm_publisher_state state;
    fm_publisher_state (p, &state);
    return state.stream;
}

/* --- Asking. */

struct asker {
    struct fm_node *node;
    struct replay_client *client;
};

static struct asker asker_new (struct fm_node *node, struct recorder *r)
{
    struct asker a = { .node = node };
    assert_done (replay_client_new (node, fm_node_address (r->node), &a.client));
    return a;
}

/* The next event of any session; false: none in time. */
static bool next_event (struct asker *a, struct replay_event *ret_event, unsigned wait_ms)
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

/* What a replay of one stream told. */
struct told {
    uint64_t next_seq;                  /* expected next */
    uint64_t facts, gaps, covered;
    uint32_t last_reason;
    bool ended, caught_up;
};

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

static void take_view (struct told *t, struct replay_view *view, const struct fm_id *stream, uint64_t (*number_of) (uint64_t seq))
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

/* Replay one stream through a sequence, waiting for it. */
static struct told replay_stream (struct asker *a, const struct fm_id *stream, uint64_t from, uint64_t end, uint64_t (*number_of) (uint64_t seq))
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

/* --- Recording. */

static void what_is_acknowledged_as_synced_comes_back_as_it_was (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    recorder_start (r);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, NULL);
    for (uint64_t n = 1; n <= 2000; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, 2001, NULL);
    assert_int_equal (t.facts, 2000);
    assert_int_equal (t.gaps, 0);
    struct log_stream known;
    assert_done (log_stream_get (journal_log (r->journal), &stream, &known));
    assert_int_equal (known.synced_seq, 2000);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
}

static void a_lone_fact_is_synced_without_a_delay (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    recorder_start (r);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, NULL);
    publish (p, 1);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    /* The median: a busy machine may stall one or the other. */
    uint64_t took[51];
    for (unsigned i = 0; i < 51; i++) {
        const uint64_t start = node_now ();
        publish (p, 2 + i);
        assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
        took[i] = node_now () - start;
        for (unsigned k = i; k > 0 && took[k] < took[k - 1]; k--) {
            const uint64_t swap = took[k];
            took[k] = took[k - 1];
            took[k - 1] = swap;
        }
    }
    print_message ("publish to synced: median %.0f us\n", (double) took[25] / 1e3);
    assert_true (took[25] < (uint64_t) 200 * 1000000);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
}

static void what_was_published_while_the_journal_was_away_is_fetched (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    recorder_start (r);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, NULL);
    uint64_t n = 0;
    while (n < 500)
        publish (p, ++n);
    for (unsigned round = 0; round < 3; round++) {
        journal_destroy (&r->journal);      /* in the midst of what comes in */
        while (n % 500 < 300)
            publish (p, ++n);
        recorder_start (r);
        while (n % 500)
            publish (p, ++n);
    }
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, n + 1, NULL);
    assert_int_equal (t.facts, n);
    assert_int_equal (t.gaps, 0);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
}

static void frames_that_were_dropped_are_fetched_from_the_window (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    r->options.live_queue = 1;
    recorder_start (r);
    const struct fm_node_options options = { .mesh = "test", .seeds = fm_node_address (r->node), .bind = "tcp://127.0.0.1:*", .beacon_port = -1,
                                             .live_queue = 1 };
    struct fm_node *node;
    assert_done (fm_node_open (&options, &node));
    const struct fm_publisher_options small = { .batch_us = -1 };
    struct fm_publisher *p;
    assert_done (fm_publisher_open (node, &small, &p));
    assert_done (fm_node_wait_journal (node, PATIENCE_MS));
    publish (p, 1);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    for (uint64_t n = 2; n <= 20000; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    assert_true (counter (r, JOURNAL_BATCHES_REPAIRED) > 0);
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, 20001, NULL);
    assert_int_equal (t.facts, 20000);
    assert_int_equal (t.gaps, 0);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
}

static uint64_t second_epoch_first;

static uint64_t number_in_epochs (uint64_t seq)
{
    return seq >= second_epoch_first ? 101 + seq - second_epoch_first : seq;
}

static void a_publisher_that_starts_again_goes_on_and_what_is_between_is_void (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    recorder_start (r);
    char identity[128];
    kit_directory (identity);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, identity);
    for (uint64_t n = 1; n <= 100; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    const struct fm_id stream = stream_of (p);
    fm_publisher_close (&p);
    fm_node_close (&node);

    node = open_node ("publisher again", fm_node_address (r->node));
    p = open_publisher (node, identity);
    const struct fm_id again = stream_of (p);
    assert_true (id_equal (&stream, &again));
    for (uint64_t n = 101; n <= 200; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    struct fm_publisher_state at;
    fm_publisher_state (p, &at);
    second_epoch_first = at.head - 99;
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, at.head + 1, number_in_epochs);
    assert_int_equal (t.facts, 200);
    assert_int_equal (t.gaps, second_epoch_first > 101);
    if (t.gaps)
        assert_int_equal (t.last_reason, FACTMESH__GAP_REASON__GAP_VOID);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    kit_remove (identity);
    recorder_destroy (r);
}

static void a_copied_identity_is_refused_and_its_publisher_told (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    recorder_start (r);
    char identity[128], copy[128];
    kit_directory (identity);
    kit_directory (copy);
    struct fm_node *first = open_node ("first", fm_node_address (r->node)), *second = open_node ("second", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (first, identity);
    fm_publisher_close (&p);
    kit_remove (copy);
    kit_copy (identity, copy);
    p = open_publisher (first, identity);
    publish (p, 1);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    struct fm_publisher *q = open_publisher (second, copy);
    const struct fm_fact fact = { .topic = fm_text ("orders.placed"), .payload = fm_text ("x") };
    int rc = 0;
    const uint64_t until = node_now () + (uint64_t) PATIENCE_MS * 1000000;
    while (rc == 0 && node_now () < until) {
        rc = fm_publish (q, &fact, NULL);
        (void) poll (NULL, 0, 5);
    }
    assert_int_equal (rc, FM_ERR_LOST);
    assert_true (noticed (&r->notices, "STREAM-CONFLICT"));
    assert_true (counter (r, JOURNAL_STREAM_CONFLICTS) > 0);
    struct fm_publisher_state at;
    fm_publisher_state (p, &at);
    assert_int_equal (at.synced, at.head);
    fm_publisher_close (&p);
    fm_publisher_close (&q);
    fm_node_close (&first);
    fm_node_close (&second);
    kit_remove (identity);
    kit_remove (copy);
    recorder_destroy (r);
}

static void a_journal_that_joins_later_gets_the_past_from_another_one (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    recorder_start (r);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, NULL);
    for (uint64_t n = 1; n <= 1500; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));     /* the window is empty now */
    struct recorder *late = recorder_new (fm_node_address (r->node));
    assert_done (fm_node_wait_members (late->node, 3, PATIENCE_MS));
    recorder_start (late);
    for (uint64_t n = 1501; n <= 1600; n++)
        publish (p, n);
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, late);
    const struct told t = replay_stream (&a, &stream, 1, 1601, NULL);
    assert_int_equal (t.facts, 1600);
    assert_int_equal (t.gaps, 0);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (late);
    recorder_destroy (r);
}

/* The other journal has all of it, and is too busy to say so: its only session is taken. */
static void what_a_busy_journal_has_is_waited_for_and_never_told_as_a_gap (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    r->options.sessions_max = 1;
    recorder_start (r);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, NULL);
    for (uint64_t n = 1; n <= 300; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    struct asker busy = asker_new (node, r);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    uint64_t session;
    struct replay_event e;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    assert_done (replay_client_open (busy.client, &open, &session));
    assert_true (next_event (&busy, &e, PATIENCE_MS) && e.kind == REPLAY_DATA);

    struct recorder *late = recorder_new (fm_node_address (r->node));
    late->options.holders_wait_ms = 100;
    assert_done (fm_node_wait_members (late->node, 3, PATIENCE_MS));
    recorder_start (late);
    publish (p, 301);
    const uint64_t until = node_now () + (uint64_t) PATIENCE_MS * 1000000;
    while (!noticed (&late->notices, "HOLE-WAITS") && node_now () < until)
        (void) next_event (&busy, &e, 10);
    assert_true (noticed (&late->notices, "HOLE-WAITS"));
    assert_true (counter (late, JOURNAL_HOLES_WAIT) > 0);
    replay_client_close (busy.client, session);
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, late);
    const struct told t = replay_stream (&a, &stream, 1, 302, NULL);
    assert_int_equal (t.facts, 301);
    assert_int_equal (t.gaps, 0);
    replay_client_destroy (&busy.client);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (late);
    recorder_destroy (r);
}

/* Facts 51 to 100 are at one journal alone, and it is down when their publisher starts anew: to the other one they look void. */
static void what_a_journal_that_restarts_has_is_waited_for (void **state)
{
    (void) state;
    struct recorder *other = recorder_new (NULL);
    recorder_start (other);
    struct recorder *r = recorder_new (fm_node_address (other->node));
    recorder_start (r);
    char identity[128];
    kit_directory (identity);
    struct fm_node *node = open_node ("publisher", fm_node_address (other->node));
    struct fm_publisher *p = open_publisher (node, identity);
    const struct fm_id stream = stream_of (p);
    struct log_stream known = { .synced_seq = 0 };
    const uint64_t until = node_now () + (uint64_t) PATIENCE_MS * 1000000;
    for (uint64_t n = 1; n <= 50; n++)
        publish (p, n);
    while (known.synced_seq < 50 && node_now () < until)
        (void) log_stream_get (journal_log (other->journal), &stream, &known);  /* unknown at first */
    assert_int_equal (known.synced_seq, 50);
    journal_destroy (&other->journal);
    for (uint64_t n = 51; n <= 100; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    fm_publisher_close (&p);
    fm_node_close (&node);

    other->options.holders_wait_ms = PATIENCE_MS;
    recorder_start (other);
    assert_done (fm_node_wait_journal (other->node, PATIENCE_MS));
    journal_destroy (&r->journal);
    fm_node_close (&r->node);
    node = open_node ("publisher again", fm_node_address (other->node));
    p = open_publisher (node, identity);
    for (uint64_t n = 101; n <= 110; n++)
        publish (p, n);
    while (counter (other, JOURNAL_HOLES_WAIT) == 0 && node_now () < until)
        (void) poll (NULL, 0, 5);
    assert_false (noticed (&other->notices, "GAP-RECORDED"));
    r->node = open_node ("journal", fm_node_address (other->node));
    recorder_start (r);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    struct fm_publisher_state at;
    fm_publisher_state (p, &at);
    second_epoch_first = at.head - 9;
    struct asker a = asker_new (node, other);
    const struct told t = replay_stream (&a, &stream, 1, at.head + 1, number_in_epochs);
    assert_int_equal (t.facts, 110);
    assert_int_equal (t.gaps, second_epoch_first > 101);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    kit_remove (identity);
    recorder_destroy (r);
    recorder_destroy (other);
}

static void what_no_journal_has_any_more_is_told_as_not_held (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    recorder_start (r);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, NULL);
    for (uint64_t n = 1; n <= 300; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    journal_destroy (&r->journal);
    kit_remove (r->directory);              /* its directory is lost */
    kit_directory (r->directory);
    recorder_start (r);
    for (uint64_t n = 301; n <= 350; n++)
        publish (p, n);
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, 351, NULL);
    assert_int_equal (t.facts, 50);
    assert_int_equal (t.gaps, 1);
    assert_int_equal (t.last_reason, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    assert_true (noticed (&r->notices, "GAP-RECORDED"));
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
}

static void a_publisher_beside_the_journal_is_recorded_and_repaired_like_any_other (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    r->options.live_queue = 1;              /* frames are dropped: intake asks its own node */
    recorder_start (r);
    const struct fm_publisher_options small = { .batch_us = -1 };
    struct fm_publisher *p;
    assert_done (fm_publisher_open (r->node, &small, &p));
    publish (p, 1);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    for (uint64_t n = 2; n <= 20000; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    const struct fm_id stream = stream_of (p);
    struct fm_node *node = open_node ("asker", fm_node_address (r->node));
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, 20001, NULL);
    assert_int_equal (t.facts, 20000);
    assert_int_equal (t.gaps, 0);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
}

static void what_a_publisher_let_go_is_asked_of_the_journal_beside_it_whichever_was_first (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    struct fm_publisher *p = open_publisher (r->node, NULL);
    recorder_start (r);
    for (uint64_t n = 1; n <= 200; n++)
        publish (p, n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    const struct fm_id stream = stream_of (p);
    struct fm_node *node = open_node ("asker", fm_node_address (r->node));
    struct asker a = asker_new (node, r);
    const struct told t = replay_stream (&a, &stream, 1, 201, NULL);
    assert_int_equal (t.facts, 200);
    assert_int_equal (t.gaps, 0);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
}

/* --- Disks. */

static void a_full_disk_stops_acknowledging_and_recovers_by_itself (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    struct fail_fs *disk = fail_fs_new ();
    r->options.log.fs = fail_fs_seam (disk);
    recorder_start (r);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, NULL);
    uint64_t n = 0;
    while (n < 300)
        publish (p, ++n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    fail_fs_disk_full (disk, true);
    while (n < 600)
        publish (p, ++n);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 300), FM_TIMEOUT);
    struct fm_publisher_state at;
    fm_publisher_state (p, &at);
    assert_true (at.synced < 600);
    assert_true (noticed (&r->notices, "DISK-FULL"));
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, r);
    struct told t = replay_stream (&a, &stream, 1, 301, NULL);      /* what is there is served */
    assert_int_equal (t.facts, 300);
    fail_fs_disk_full (disk, false);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    assert_true (noticed (&r->notices, "DISK-ROOM"));
    t = replay_stream (&a, &stream, 1, 601, NULL);
    assert_int_equal (t.facts, 600);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
    fail_fs_destroy (&disk);
}

static void after_a_failed_sync_nothing_is_acknowledged_and_what_is_synced_is_served (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    struct fail_fs *disk = fail_fs_new ();
    r->options.log.fs = fail_fs_seam (disk);
    recorder_start (r);
    struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
    struct fm_publisher *p = open_publisher (node, NULL);
    uint64_t n = 0;
    while (n < 300)
        publish (p, ++n);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    fail_fs_fail (disk, FAIL_SYNC, 1, -EIO);
    while (n < 400)
        publish (p, ++n);
    assert_int_equal (fm_publisher_wait_synced (p, 0, 500), FM_TIMEOUT);
    assert_true (noticed (&r->notices, "JOURNAL-READ-ONLY"));
    const struct fm_id stream = stream_of (p);
    struct asker a = asker_new (node, r);
    struct told t = replay_stream (&a, &stream, 1, 301, NULL);
    assert_int_equal (t.facts, 300);
    /* A new start finds the disk well, and fetches the rest from the window. */
    journal_destroy (&r->journal);
    recorder_start (r);
    assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
    t = replay_stream (&a, &stream, 1, 401, NULL);
    assert_int_equal (t.facts, 400);
    assert_int_equal (t.gaps, 0);
    replay_client_destroy (&a.client);
    fm_publisher_close (&p);
    fm_node_close (&node);
    recorder_destroy (r);
    fail_fs_destroy (&disk);
}

static void what_was_acknowledged_survives_power_loss (void **state)
{
    (void) state;
    for (unsigned seed = 1; seed <= 12; seed++) {
        struct recorder *r = recorder_new (NULL);
        struct fail_fs *disk = fail_fs_new ();
        r->options.log.fs = fail_fs_seam (disk);
        recorder_start (r);
        struct fm_node *node = open_node ("publisher", fm_node_address (r->node));
        struct fm_publisher *p = open_publisher (node, NULL);
        assert_done (fm_node_wait_journal (node, PATIENCE_MS));
        fail_fs_power_off (disk, seed * 7);
        uint64_t n = 0;
        while (n < 2000) {
            publish (p, ++n);
            if (n % 20 == 0)
                (void) fm_publisher_wait_synced (p, 0, 5);
        }
        struct fm_publisher_state at;
        fm_publisher_state (p, &at);
        const uint64_t acknowledged = at.synced;
        journal_destroy (&r->journal);
        fail_fs_power_loss (disk, seed, seed * 37 % 100);
        r->options.log.fs = NULL;
        recorder_start (r);
        const struct fm_id stream = stream_of (p);
        struct log_stream known = { .synced_seq = 0 };
        (void) log_stream_get (journal_log (r->journal), &stream, &known);
        assert_true (known.synced_seq >= acknowledged);
        assert_done (fm_publisher_wait_synced (p, 0, PATIENCE_MS));
        struct asker a = asker_new (node, r);
        const struct told t = replay_stream (&a, &stream, 1, n + 1, NULL);
        assert_int_equal (t.facts, n);
        assert_int_equal (t.gaps, 0);
        replay_client_destroy (&a.client);
        fm_publisher_close (&p);
        fm_node_close (&node);
        recorder_destroy (r);
        fail_fs_destroy (&disk);
    }
}

/* --- Serving. */

/* A journal with n facts of one publisher, all synced. */
struct scene {
    struct recorder *r;
    struct fm_node *node;
    struct fm_publisher *p;
    struct fm_id stream;
    struct asker a;
};

static struct scene scene_new (uint64_t n)
{
    struct scene s = { .r = recorder_new (NULL) };
    recorder_start (s.r);
    s.node = open_node ("publisher", fm_node_address (s.r->node));
    s.p = open_publisher (s.node, NULL);
    for (uint64_t i = 1; i <= n; i++)
        publish (s.p, i);
    assert_done (fm_publisher_wait_synced (s.p, 0, PATIENCE_MS));
    s.stream = stream_of (s.p);
    s.a = asker_new (s.node, s.r);
    return s;
}

static void scene_destroy (struct scene *s)
{
    replay_client_destroy (&s->a.client);
    fm_publisher_close (&s->p);
    fm_node_close (&s->node);
    recorder_destroy (s->r);
}

/* Messages by hand, past replay_client. */
static void *dealer_new (struct scene *s)
{
    void *dealer;
    assert_done (node_socket (s->node, ZMQ_DEALER, &dealer));
    const int wait_ms = PATIENCE_MS;
    zmq_setsockopt (dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    assert_int_equal (zmq_connect (dealer, fm_node_address (s->r->node)), 0);
    return dealer;
}

static void dealer_send (void *dealer, Factmesh__Control *control)
{
    zmq_msg_t message;
    assert_done (control_encode (control, slice_of ("test"), &message));
    assert_true (zmq_msg_send (&message, dealer, 0) >= 0);
}

static void send_open (void *dealer, Factmesh__ReplayOpen *open)
{
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = open->session;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = open;
    dealer_send (dealer, &control);
}

static void send_credit (void *dealer, uint64_t session, uint64_t bytes)
{
    Factmesh__ReplayCredit credit = FACTMESH__REPLAY_CREDIT__INIT;
    credit.session = session;
    credit.bytes = bytes;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_CREDIT;
    control.replay_credit = &credit;
    dealer_send (dealer, &control);
}

/* The next frame within so many ms: its length; 0: none. */
static size_t dealer_receive (void *dealer, int wait_ms, Factmesh__Control **ret_control)
{
    zmq_msg_t message;
    zmq_msg_init (&message);
    zmq_setsockopt (dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    const int rc = zmq_msg_recv (&message, dealer, 0);
    const size_t len = rc < 0 ? 0 : zmq_msg_size (&message);
    *ret_control = NULL;
    if (len)
        *ret_control = factmesh__control__unpack (NULL, len, zmq_msg_data (&message));
    zmq_msg_close (&message);
    return len;
}

static void a_session_sends_what_it_has_credit_for_and_no_more (void **state)
{
    (void) state;
    struct scene s = scene_new (3000);
    void *dealer = dealer_new (&s);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 5;
    open.credit = 10000;
    open.message_bytes = 4096;
    send_open (dealer, &open);
    uint64_t granted = 10000, sent = 0;
    unsigned grants = 0;
    bool ended = false;
    while (!ended) {
        Factmesh__Control *control;
        const size_t len = dealer_receive (dealer, sent < granted ? PATIENCE_MS : 20, &control);
        if (!control) {
            assert_true (sent >= granted);          /* it waits */
            send_credit (dealer, 5, 50000);
            granted += 50000;
            grants++;
            continue;
        }
        if (control->body_case == FACTMESH__CONTROL__BODY_REPLAY_DATA) {
            assert_true (sent < granted);
            sent += len;
        } else {
            assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_REPLAY_END);
            ended = true;
        }
        factmesh__control__free_unpacked (control, NULL);
    }
    assert_true (grants > 10);
    /* The session is over: credit for it is answered. */
    send_credit (dealer, 5, 100);
    Factmesh__Control *control;
    assert_true (dealer_receive (dealer, PATIENCE_MS, &control) > 0);
    assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_ERROR);
    assert_int_equal (control->error->code, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_SESSION);
    assert_int_equal (control->error->session, 5);
    factmesh__control__free_unpacked (control, NULL);
    zmq_close (dealer);
    scene_destroy (&s);
}

static void what_is_malformed_is_refused_with_a_reason (void **state)
{
    (void) state;
    struct scene s = scene_new (1);
    void *dealer = dealer_new (&s);
    static const struct {
        const char *filter, *cursor_name;
        uint64_t from_seq;
        Factmesh__ErrorCode code;
        const char *text;
    } bad[] = {
        { .filter = "a..b", .code = FACTMESH__ERROR_CODE__ERROR_MALFORMED, .text = "" },
        { .from_seq = 3, .code = FACTMESH__ERROR_CODE__ERROR_RANGE, .text = "stream" },
        { .cursor_name = "nobody", .code = FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR, .text = "nobody" },
        { .cursor_name = "a\nb", .code = FACTMESH__ERROR_CODE__ERROR_RANGE, .text = "control byte" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        ProtobufCBinaryData filter = { .len = 0 };
        open.session = 10 + i;
        open.credit = 100000;
        if (bad[i].filter) {
            filter = control_put_slice (slice_of (bad[i].filter));
            open.filters = &filter;
            open.n_filters = 1;
        }
        if (bad[i].from_seq) {
            open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
            open.from_seq = bad[i].from_seq;
        }
        if (bad[i].cursor_name) {
            open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME;
            open.from_cursor_name = control_put_slice (slice_of (bad[i].cursor_name));
        }
        send_open (dealer, &open);
        Factmesh__Control *control;
        assert_true (dealer_receive (dealer, PATIENCE_MS, &control) > 0);
        assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_ERROR);
        assert_int_equal (control->error->code, bad[i].code);
        assert_int_equal (control->error->session, 10 + i);
        char text[512];
        (void) snprintf (text, sizeof text, "%.*s", (int) control->error->text.len, (const char *) control->error->text.data);
        if (!strstr (text, bad[i].text))
            fail_msg ("'%s' does not say '%s'", text, bad[i].text);
        factmesh__control__free_unpacked (control, NULL);
    }
    zmq_close (dealer);
    scene_destroy (&s);
}

static void one_asker_cannot_take_all_sessions (void **state)
{
    (void) state;
    struct recorder *r = recorder_new (NULL);
    r->options.sessions_max = 16;
    r->options.sessions_per_peer_max = 10;
    recorder_start (r);
    struct scene s = { .r = r, .node = open_node ("asker", fm_node_address (r->node)) };
    void *dealer = dealer_new (&s), *other = dealer_new (&s);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.credit = 1;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    unsigned refused = 0;
    for (uint64_t i = 1; i <= 12; i++) {
        open.session = i;
        send_open (dealer, &open);
        Factmesh__Control *control;
        assert_true (dealer_receive (dealer, PATIENCE_MS, &control) > 0);
        if (control->body_case == FACTMESH__CONTROL__BODY_ERROR) {
            assert_int_equal (control->error->code, FACTMESH__ERROR_CODE__ERROR_LIMIT);
            refused++;
        }
        factmesh__control__free_unpacked (control, NULL);
    }
    assert_int_equal (refused, 2);
    open.session = 1;
    send_open (other, &open);
    Factmesh__Control *control;
    assert_true (dealer_receive (other, PATIENCE_MS, &control) > 0);
    assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_REPLAY_DATA);
    factmesh__control__free_unpacked (control, NULL);
    zmq_close (dealer);
    zmq_close (other);
    fm_node_close (&s.node);
    recorder_destroy (r);
}

static void a_session_that_follows_gets_what_is_synced_later (void **state)
{
    (void) state;
    struct scene s = scene_new (100);
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    uint64_t session;
    assert_done (replay_client_open (s.a.client, &open, &session));
    struct told t = { .next_seq = 1 };
    struct replay_event e;
    for (uint64_t n = 100; n <= 400; n += 100) {
        while (t.next_seq <= n) {
            assert_true (next_event (&s.a, &e, PATIENCE_MS));
            assert_int_equal (e.kind, REPLAY_DATA);
            take_view (&t, e.view, &s.stream, NULL);
        }
        for (uint64_t i = n + 1; n < 400 && i <= n + 100; i++)
            publish (s.p, i);
    }
    assert_int_equal (t.facts, 400);
    scene_destroy (&s);
}

static void more_sessions_than_readers_all_follow (void **state)
{
    (void) state;
    enum { MANY = 400 };
    struct scene s = scene_new (100);
    static struct told told[MANY];
    static uint64_t sessions[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
        open.follow = true;
        assert_done (replay_client_open (s.a.client, &open, &sessions[i]));
        told[i] = (struct told) { .next_seq = 1 };
    }
    for (uint64_t n = 100; n <= 300; n += 100) {
        for (unsigned ready = 0; ready < MANY;) {
            struct replay_event e;
            unsigned i = 0;
            assert_true (next_event (&s.a, &e, PATIENCE_MS));
            assert_int_equal (e.kind, REPLAY_DATA);
            while (sessions[i] != e.session)
                i++;
            const bool was = told[i].next_seq > n;
            take_view (&told[i], e.view, &s.stream, NULL);
            ready += !was && told[i].next_seq > n;
        }
        for (uint64_t i = n + 1; n < 300 && i <= n + 100; i++)
            publish (s.p, i);
    }
    scene_destroy (&s);
}

static Factmesh__Control *request (struct asker *a, Factmesh__Control *control, struct replay_event *e)
{
    uint64_t number;
    assert_done (replay_client_request (a->client, control, &number));
    do
        assert_true (next_event (a, e, PATIENCE_MS));
    while (e->session != 0 || e->request != number);
    return e->kind == REPLAY_OTHER ? e->control : NULL;
}

static Factmesh__Control *put_cursor (struct scene *s, const char *name, Factmesh__Cursor *cursor, struct replay_event *e)
{
    Factmesh__CursorPut put = FACTMESH__CURSOR_PUT__INIT;
    put.name = control_put_slice (slice_of (name));
    put.cursor = cursor;
    put.filters = control_put_slice (slice_of ("orders.>"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_PUT;
    control.cursor_put = &put;
    return request (&s->a, &control, e);
}

static Factmesh__Control *get_cursor (struct scene *s, const char *name, struct replay_event *e)
{
    Factmesh__CursorGet get = FACTMESH__CURSOR_GET__INIT;
    get.name = control_put_slice (slice_of (name));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_GET;
    control.cursor_get = &get;
    return request (&s->a, &control, e);
}

static void cursors_are_durable_folded_listed_and_deleted (void **state)
{
    (void) state;
    struct scene s = scene_new (200);
    struct journal_status status;
    struct replay_event e;
    journal_status (s.r->journal, &status);
    Factmesh__StreamPosition position = FACTMESH__STREAM_POSITION__INIT, *positions[] = { &position };
    position.stream = control_put_id (&s.stream);
    position.seq = 150;
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&status.journal);
    cursor.generation = status.generation;
    cursor.offset = 1;
    cursor.n_positions = 1;
    cursor.positions = positions;
    Factmesh__Control *answer = put_cursor (&s, "worker", &cursor, &e);
    assert_non_null (answer);
    assert_int_equal (answer->body_case, FACTMESH__CONTROL__BODY_CURSOR_REPLY);
    assert_int_equal (answer->cursor_reply->n_cursors, 1);
    assert_int_equal (answer->cursor_reply->cursors[0]->cursor->offset, 151);       /* one stream: offsets are sequences */
    assert_int_equal (answer->cursor_reply->cursors[0]->behind, 50);
    assert_non_null (put_cursor (&s, "another", &cursor, &e));

    cursor.generation++;
    assert_null (put_cursor (&s, "foreign", &cursor, &e));
    assert_int_equal (e.code, FACTMESH__ERROR_CODE__ERROR_GENERATION);
    cursor.generation--;

    /* It was answered: so it is there after a start from what the disk has. */
    journal_destroy (&s.r->journal);
    recorder_start (s.r);
    answer = get_cursor (&s, "worker", &e);
    assert_non_null (answer);
    assert_int_equal (answer->cursor_reply->cursors[0]->cursor->offset, 151);
    assert_true (slice_equal (control_get_slice (&answer->cursor_reply->cursors[0]->filters), fm_text ("orders.>")));

    /* A replay by its name. */
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME;
    open.from_cursor_name = control_put_slice (slice_of ("worker"));
    uint64_t session;
    assert_done (replay_client_open (s.a.client, &open, &session));
    struct told t = { .next_seq = 151 };
    bool begun = false;
    do {
        assert_true (next_event (&s.a, &e, PATIENCE_MS));
        if (e.kind == REPLAY_DATA) {
            if (!begun)
                assert_int_equal (e.view->start_offset, 151);
            begun = true;
            take_view (&t, e.view, &s.stream, NULL);
        }
    } while (e.kind == REPLAY_DATA);
    assert_int_equal (e.kind, REPLAY_END);
    assert_int_equal (t.facts, 50);

    Factmesh__CursorList list = FACTMESH__CURSOR_LIST__INIT;
    list.limit = 1;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_LIST;
    control.cursor_list = &list;
    answer = request (&s.a, &control, &e);
    assert_non_null (answer);
    assert_int_equal (answer->cursor_reply->n_cursors, 1);
    assert_true (answer->cursor_reply->more);
    assert_true (slice_equal (control_get_slice (&answer->cursor_reply->cursors[0]->name), fm_text ("another")));

    Factmesh__CursorDelete delete = FACTMESH__CURSOR_DELETE__INIT;
    delete.name = control_put_slice (slice_of ("worker"));
    control = (Factmesh__Control) FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_DELETE;
    control.cursor_delete = &delete;
    answer = request (&s.a, &control, &e);
    assert_non_null (answer);
    assert_int_equal (answer->cursor_reply->n_cursors, 0);
    assert_null (get_cursor (&s, "worker", &e));
    assert_int_equal (e.code, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR);
    scene_destroy (&s);
}

static void status_tells_counters_and_streams (void **state)
{
    (void) state;
    struct scene s = scene_new (50);
    struct fm_publisher *second = open_publisher (s.node, NULL);
    publish (second, 1);
    assert_done (fm_publisher_wait_synced (second, 0, PATIENCE_MS));
    Factmesh__StatusGet get = FACTMESH__STATUS_GET__INIT;
    get.streams_limit = 1;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    control.status_get = &get;
    struct replay_event e;
    Factmesh__Control *answer = request (&s.a, &control, &e);
    assert_non_null (answer);
    Factmesh__StatusReply *reply = answer->status_reply;
    assert_int_equal (reply->n_streams, 1);
    assert_true (reply->more);
    assert_false (reply->read_only);
    assert_int_equal (reply->synced_offset, 52);
    bool found = false;
    for (size_t i = 0; i < reply->n_counters; i++)
        if (slice_equal (control_get_slice (&reply->counters[i]->name), fm_text ("facts_recorded"))) {
            assert_int_equal (reply->counters[i]->value, 51);
            found = true;
        }
    assert_true (found);
    struct fm_id after;
    assert_done (control_get_id (&reply->streams[0]->stream, &after));
    get.streams_limit = 10;
    get.streams_after = control_put_id (&after);
    answer = request (&s.a, &control, &e);
    assert_int_equal (answer->status_reply->n_streams, 1);
    assert_false (answer->status_reply->more);
    fm_publisher_close (&second);
    scene_destroy (&s);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (what_is_acknowledged_as_synced_comes_back_as_it_was),
        cmocka_unit_test (a_lone_fact_is_synced_without_a_delay),
        cmocka_unit_test (what_was_published_while_the_journal_was_away_is_fetched),
        cmocka_unit_test (frames_that_were_dropped_are_fetched_from_the_window),
        cmocka_unit_test (a_publisher_that_starts_again_goes_on_and_what_is_between_is_void),
        cmocka_unit_test (a_copied_identity_is_refused_and_its_publisher_told),
        cmocka_unit_test (a_journal_that_joins_later_gets_the_past_from_another_one),
        cmocka_unit_test (what_a_busy_journal_has_is_waited_for_and_never_told_as_a_gap),
        cmocka_unit_test (what_a_journal_that_restarts_has_is_waited_for),
        cmocka_unit_test (what_no_journal_has_any_more_is_told_as_not_held),
        cmocka_unit_test (a_publisher_beside_the_journal_is_recorded_and_repaired_like_any_other),
        cmocka_unit_test (what_a_publisher_let_go_is_asked_of_the_journal_beside_it_whichever_was_first),
        cmocka_unit_test (a_full_disk_stops_acknowledging_and_recovers_by_itself),
        cmocka_unit_test (after_a_failed_sync_nothing_is_acknowledged_and_what_is_synced_is_served),
        cmocka_unit_test (what_was_acknowledged_survives_power_loss),
        cmocka_unit_test (a_session_sends_what_it_has_credit_for_and_no_more),
        cmocka_unit_test (what_is_malformed_is_refused_with_a_reason),
        cmocka_unit_test (one_asker_cannot_take_all_sessions),
        cmocka_unit_test (a_session_that_follows_gets_what_is_synced_later),
        cmocka_unit_test (more_sessions_than_readers_all_follow),
        cmocka_unit_test (cursors_are_durable_folded_listed_and_deleted),
        cmocka_unit_test (status_tells_counters_and_streams),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
