/* A journal that starts again, with what it must not have forgotten: real nodes in one process, over tcp on loopback. */

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/mesh_kit.h"
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
        cmocka_unit_test (a_publisher_that_lost_facts_is_told_so_after_a_restart_of_the_journal),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
