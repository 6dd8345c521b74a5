/* A journal that starts again, with what it must not have forgotten: real nodes in one process, over tcp on loopback. */

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/mesh_kit.h"
#include "batch.h"
#include "factmesh.pb-c.h"
#include "node.h"

/* Its publisher was cut off, facts [101, 111) are in a gap, and the journal started again: then the publisher comes back. */
static void a_publisher_that_lost_facts_is_told_so_after_a_restart_of_the_journal (void **state)
{
    (void) state;
    struct mesh m;
    mesh_open (&m, true, 0);
    const size_t stream = mesh_add_stream (&m, 1, 1000, false);
    mesh_publish (&m, stream, 1, 101);
    mesh_wait_synced (&m, stream);
    struct log_stream known;
    assert_int_equal (log_stream_get (journal_log (m.journal), &m.streams[stream], &known), 0);
    mesh_close_journal (&m);
    mesh_publish (&m, stream, 101, 121);

    struct log *log;
    uint64_t offset;
    const struct log_gap gap = { .stream = m.streams[stream], .first_seq = 101, .end_seq = 111, .epoch = known.epoch,
                                 .incarnation = known.incarnation, .reason = FACTMESH__GAP_REASON__GAP_NOT_HELD, .closes = true };
    assert_int_equal (log_open (m.directory, &(struct log_options) { .segment_bytes = 0 }, NULL, &log), 0);
    assert_int_equal (log_append_gap_of (log, &gap, &offset), 0);
    assert_int_equal (log_write (log), 0);
    assert_int_equal (log_sync (log, NULL), 0);
    log_destroy (&log);

    mesh_open_journal (&m);
    const struct fm_fact fact = { .topic = fm_text ("flow.0"), .payload = fm_text ("x") };
    const uint64_t until = node_now () + (uint64_t) MESH_PATIENCE_MS * 1000000;
    int rc = 0;
    while (rc == 0 && node_now () < until) {
        rc = fm_publish (m.publishers[stream], &fact, NULL);
        (void) poll (NULL, 0, 5);
    }
    assert_int_equal (rc, FM_ERR_LOST);
    assert_int_equal (fm_publisher_wait_synced (m.publishers[stream], 0, MESH_PATIENCE_MS), FM_ERR_LOST);
    struct fm_publisher_state at;
    fm_publisher_state (m.publishers[stream], &at);
    assert_int_equal (at.synced, 100);
    mesh_close (&m);
}

/* ------------------------------------------------------------------ a publisher that comes back with its window, too late */

enum { LOST_FIRST = 101, LOST_END = 111, LOST_LAST = 120 };

static struct fm_publisher *open_with_window (struct mesh *m, const char *directory, const char *journals)
{
    const struct fm_publisher_options options = { .directory = directory, .window_on_disk = FM_WINDOW_FILE, .journals = journals };
    struct fm_publisher *p = NULL;
    assert_int_equal (fm_publisher_open (m->publisher_node, &options, &p), 0);
    return p;
}

/* Facts [first, end); four of them share a batch. */
static void publish_numbers (struct fm_publisher *p, uint64_t first, uint64_t end)
{
    for (uint64_t seq = first; seq < end; seq++) {
        char text[32];
        (void) snprintf (text, sizeof text, "fact %llu", (unsigned long long) seq);
        const struct fm_fact fact = { .topic = fm_text ("numbers"), .payload = fm_text (text), .identity = fm_text (text) };
        struct fm_fact_id id;
        assert_int_equal (fm_publish (p, &fact, &id), 0);
        assert_int_equal (id.seq, seq);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
}

static void expect_number (const struct fm_fact *fact, uint64_t seq)
{
    char text[32];
    (void) snprintf (text, sizeof text, "fact %llu", (unsigned long long) seq);
    assert_true (slice_equal (fact->topic, slice_of ("numbers")) && slice_equal (fact->payload, slice_of (text)) && slice_equal (fact->identity, slice_of (text)));
}

/* The journal gives [LOST_FIRST, LOST_END) up while nobody looks, as it does for a publisher that vanished. */
static void give_up (struct mesh *m, const struct fm_id *stream)
{
    struct log *log;
    struct log_stream known;
    uint64_t offset;
    assert_int_equal (log_open (m->directory, &(struct log_options) { .segment_bytes = 0 }, NULL, &log), 0);
    assert_int_equal (log_stream_get (log, stream, &known), 0);
    const struct log_gap gap = { .stream = *stream, .first_seq = LOST_FIRST, .end_seq = LOST_END, .epoch = known.epoch, .incarnation = known.incarnation,
                                 .reason = FACTMESH__GAP_REASON__GAP_NOT_HELD, .closes = true };
    assert_int_equal (log_append_gap_of (log, &gap, &offset), 0);
    assert_int_equal (log_write (log), 0);
    assert_int_equal (log_sync (log, NULL), 0);
    log_destroy (&log);
}

/* Everything that the journal has of the numbers: 1 to 100, the gap, the rest, and, from again on, what was given up. */
static void expect_recorded (struct mesh *m, uint64_t again)
{
    struct log_reader *r;
    struct log_item item;
    struct batch_scratch scratch = { 0 };
    uint64_t next = 1, gaps = 0;
    assert_int_equal (log_reader_new (journal_log (m->journal), &r), 0);
    while (log_reader_next (r, &item) == 0) {
        assert_int_equal (item.first_seq, next);
        if (item.kind == LOG_ITEM_GAP) {
            assert_true (item.first_seq == LOST_FIRST && item.end_seq == LOST_END);
            gaps++;
        } else {
            struct batch b;
            struct batch_reader facts;
            struct fm_fact fact;
            assert_int_equal (batch_decode (item.bytes.data, item.bytes.len, slice (NULL, 0), &scratch, &b), 0);
            batch_reader_init (&facts, &b);
            while (batch_reader_next (&facts, &fact) == 0)
                expect_number (&fact, fact.id.seq < again ? fact.id.seq : fact.id.seq - again + LOST_FIRST);
        }
        next = item.end_seq;
    }
    assert_true (next == again + LOST_END - LOST_FIRST && gaps == 1);
    batch_scratch_release (&scratch);
    log_reader_destroy (&r);
}

/* What its journal gave up while it was cut off lies below the mark of the epoch in which it comes back. */
static void what_a_journal_gave_up_is_not_called_synced_when_it_comes_back_from_disk (void **state)
{
    (void) state;
    char directory[] = "/tmp/test_window.XXXXXX";
    struct mesh m;
    struct fm_publisher_state at;
    assert_non_null (mkdtemp (directory));
    mesh_open (&m, true, 0);
    struct fm_publisher *p = open_with_window (&m, directory, NULL);
    publish_numbers (p, 1, LOST_FIRST);
    assert_int_equal (fm_publisher_wait_synced (p, 0, MESH_PATIENCE_MS), 0);
    mesh_close_journal (&m);
    publish_numbers (p, LOST_FIRST, LOST_END);
    publish_numbers (p, LOST_END, LOST_LAST + 1);
    fm_publisher_state (p, &at);
    fm_publisher_close (&p);
    give_up (&m, &at.stream);

    p = open_with_window (&m, directory, NULL);
    mesh_open_journal (&m);
    assert_int_equal (fm_publisher_wait_synced (p, 0, MESH_PATIENCE_MS), FM_ERR_LOST);
    assert_non_null (strstr (fm_error_detail (), "[101, 111): 10 facts"));
    assert_int_equal (fm_publisher_wait_synced (p, LOST_FIRST, MESH_PATIENCE_MS), FM_ERR_LOST);
    assert_int_equal (fm_publisher_wait_synced (p, LOST_END - 1, MESH_PATIENCE_MS), FM_ERR_LOST);
    assert_int_equal (fm_publisher_wait_synced (p, LOST_END, MESH_PATIENCE_MS), 0);
    assert_int_equal (fm_publisher_wait_synced (p, LOST_FIRST - 1, MESH_PATIENCE_MS), 0);

    /* Stopped before anybody looked after it: it is still there. */
    fm_publisher_close (&p);
    p = open_with_window (&m, directory, NULL);
    assert_int_equal (fm_publisher_wait_synced (p, 0, MESH_PATIENCE_MS), FM_ERR_LOST);

    struct fm_fact fact;
    struct fm_fact_id id = { .seq = 0 };
    uint64_t seq = LOST_FIRST, again = 0;
    int rc;
    for (; (rc = fm_publisher_lost_next (p, &fact)) == 0; seq++) {
        assert_int_equal (fact.id.seq, seq);
        expect_number (&fact, seq);
        assert_int_equal (fm_publish (p, &fact, &id), 0);
        again = again ? again : id.seq;
    }
    assert_int_equal (rc, FM_ERR_END);
    assert_int_equal (seq, LOST_END);
    assert_int_equal (fm_publisher_wait_synced (p, 0, MESH_PATIENCE_MS), 0);
    expect_recorded (&m, again);
    fm_publisher_state (p, &at);
    assert_int_equal (at.window_bytes, 0);
    fm_publisher_close (&p);
    mesh_remove (directory);
    mesh_close (&m);
}

static void open_journal (struct mesh *m)
{
    const struct journal_options options = { .settle_ms = 50, .holders_wait_ms = 100, .answer_ms = 300 };
    m->journal_node = mesh_open_node ("journal", fm_node_address (m->publisher_node), 0);
    assert_int_equal (journal_new (m->journal_node, m->directory, &options, &m->journal), 0);
}

/* A copy of the directory is put back that is older than what was acknowledged. Its publisher knows how far it was, and has let go what the copy lacks:
 * it is told as a gap, and recording goes on. */
static void an_older_copy_that_is_put_back_tells_what_it_lacks (void **state)
{
    (void) state;
    for (int new_generation = 0; new_generation < 2; new_generation++) {
        struct mesh m;
        char copy[80], command[200];
        mesh_open (&m, true, 0);
        mesh_add_stream (&m, 1, 1000, false);
        mesh_publish (&m, 0, 1, 51);
        mesh_wait_synced (&m, 0);
        mesh_close_journal (&m);
        (void) snprintf (copy, sizeof copy, "%s.copy", m.directory);
        (void) snprintf (command, sizeof command, "cp -r %s %s", m.directory, copy);
        assert_int_equal (system (command), 0);
        open_journal (&m);
        mesh_publish (&m, 0, 51, 101);
        mesh_wait_synced (&m, 0);
        mesh_close_journal (&m);
        mesh_remove (m.directory);
        assert_int_equal (rename (copy, m.directory), 0);
        uint64_t generation = 1;
        if (new_generation) {
            assert_int_equal (log_new_generation (m.directory, &(struct log_options) { .segment_bytes = 0 }, &generation), 0);
            assert_int_equal (generation, 2);
        }
        open_journal (&m);
        mesh_publish (&m, 0, 101, 111);
        mesh_wait_synced (&m, 0);
        /* The publisher cannot take the older copy's marks for 110 before that is so. */
        struct log_stream known = { .synced_seq = 0 };
        const uint64_t until = node_now () + (uint64_t) MESH_PATIENCE_MS * 1000000;
        while (known.synced_seq < 110 && node_now () < until)
            assert_int_equal (log_stream_get (journal_log (m.journal), &m.streams[0], &known), 0);
        struct log_reader *r;
        struct log_item item;
        uint64_t next = 1, gaps = 0;
        assert_int_equal (log_reader_new (journal_log (m.journal), &r), 0);
        while (log_reader_next (r, &item) == 0) {
            assert_int_equal (item.first_seq, next);
            next = item.end_seq;
            if (item.kind == LOG_ITEM_GAP) {
                assert_true (item.first_seq == 51 && item.end_seq == 101 && item.reason == FACTMESH__GAP_REASON__GAP_NOT_HELD);
                gaps++;
            }
        }
        assert_true (next == 111 && gaps == 1);
        log_reader_destroy (&r);
        mesh_close (&m);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (an_older_copy_that_is_put_back_tells_what_it_lacks),
        cmocka_unit_test (what_a_journal_gave_up_is_not_called_synced_when_it_comes_back_from_disk),
        cmocka_unit_test (a_publisher_that_lost_facts_is_told_so_after_a_restart_of_the_journal),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
