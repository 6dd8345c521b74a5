/* Damage in sealed segments: told with its exact range, stream by stream; everything else is served. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "error.h"
#include "factmesh.pb-c.h"

static void damage_in_a_sealed_segment_is_told_stream_by_stream (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    char path[256];
    const struct fm_id one = kit_stream (1), two = kit_stream (2), three = kit_stream (3);
    fill_segments (s, 2);                   /* offsets 1 to 22 */
    for (uint64_t seq = 1; seq <= 4; seq++) {
        kit_append_batch (
            s->log, &(struct kit_batch_spec) { .stream = 2, .first_seq = 2 * seq - 1, .count = 2, .payload_len = 100 });
        kit_append_batch (s->log,
                          &(struct kit_batch_spec) { .stream = 3, .first_seq = seq, .count = 1, .payload_len = 100 });
    }
    for (uint64_t seq = 21; seq <= 40; seq++) {
        struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    struct log_segment_info info[8];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 8, &count), 0);
    assert_true (count >= 3 && info[1].sealed && info[1].end_offset > 34);
    kit_segment_path (s->directory, 2, path);

    /* Wipe a run of headers and bodies: stream 2's sequences 3 to 6 and stream 3's 2 and 3; offsets 26 to 31. */
    wipe (path, &(struct kit_batch_spec) { .stream = 2, .first_seq = 3, .count = 2, .payload_len = 100 },
          &(struct kit_batch_spec) { .stream = 3, .first_seq = 3, .count = 1, .payload_len = 100 });

    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_seek_offset (r, 23), 0);
    expect_batch (r, (struct kit_batch_spec) { .stream = 2, .first_seq = 1, .count = 2, .payload_len = 100 });
    expect_batch (r, (struct kit_batch_spec) { .stream = 3, .first_seq = 1, .count = 1, .payload_len = 100 });
    struct log_item a = expect_next (r), b = expect_next (r);
    if (!id_equal (&a.stream, &two)) {
        struct log_item swap = a;
        a = b;
        b = swap;
    }
    assert_true (a.kind == LOG_ITEM_GAP && id_equal (&a.stream, &two) && a.first_seq == 3 && a.end_seq == 7);
    assert_true (b.kind == LOG_ITEM_GAP && id_equal (&b.stream, &three) && b.first_seq == 2 && b.end_seq == 4);
    expect_batch (r, (struct kit_batch_spec) { .stream = 2, .first_seq = 7, .count = 2, .payload_len = 100 });
    expect_batch (r, (struct kit_batch_spec) { .stream = 3, .first_seq = 4, .count = 1, .payload_len = 100 });
    expect_batch (r, big_spec (21));

    /* One stream alone hears only its own. */
    assert_int_equal (log_reader_filter (r, &three, NULL, 0), 0);
    assert_int_equal (log_reader_seek_offset (r, 1), 0);
    expect_batch (r, (struct kit_batch_spec) { .stream = 3, .first_seq = 1, .count = 1, .payload_len = 100 });
    expect_gap (r, &three, 2, 4, FACTMESH__GAP_REASON__GAP_DAMAGED);
    expect_batch (r, (struct kit_batch_spec) { .stream = 3, .first_seq = 4, .count = 1, .payload_len = 100 });
    expect_end (r);
    uint64_t offset;
    assert_int_equal (log_reader_seek_seq (r, &two, 4, &offset), 0);
    assert_int_equal (log_reader_filter (r, &one, NULL, 0), 0);
    log_reader_destroy (&r);

    struct log_verify_result verified;
    assert_int_equal (log_verify (s->log, NULL, NULL, NULL, &verified), 0);
    assert_true (verified.damaged >= 2);
}

/* The first record of a new stream, and the last one of an old stream, have a neighbour on one side only: the footer
 * and the snapshot stand in for the other. Streams 2 and 3 lose something in two holes, 3 with all its records
 * between them. */
static void a_hole_at_a_streams_start_or_end_is_told_too (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    char path[256];
    for (unsigned stream = 2; stream <= 3; stream++)
        kit_append_batch (
            s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = 1, .count = 1, .payload_len = BIG });
    for (uint64_t seq = 1; seq <= 10; seq++)
        kit_append_batch (s->log,
                          &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = BIG });
    kit_sync (s->log);                      /* segment 2 begins somewhere in here */
    struct kit_batch_spec old = { .stream = 2, .first_seq = 2, .count = 3, .payload_len = 20 };
    struct kit_batch_spec new = { .stream = 4, .first_seq = 7, .count = 2, .payload_len = 20 };
    struct kit_batch_spec both = { .stream = 3, .first_seq = 2, .count = 1, .payload_len = 20 };
    struct kit_batch_spec plain = { .stream = 1, .first_seq = 11, .count = 1, .payload_len = 20 };
    kit_append_batch (s->log, &old);        /* hole 1 */
    kit_append_batch (s->log, &new);
    kit_append_batch (s->log, &both);
    kit_append_batch (s->log, &plain);
    struct kit_batch_spec both2 = both, new2 = new;
    both2.first_seq = 3;
    new2.first_seq = 9;
    kit_append_batch (s->log, &both2);      /* hole 2 */
    kit_append_batch (s->log, &new2);
    for (uint64_t seq = 12; seq <= 30; seq++)
        kit_append_batch (s->log,
                          &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = BIG });
    kit_sync (s->log);
    struct log_segment_info info[8];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 8, &count), 0);
    assert_true (count >= 3 && info[1].sealed && info[1].first_offset <= 12 && info[1].end_offset > 24);
    kit_segment_path (s->directory, 2, path);
    wipe (path, &old, &both);
    wipe (path, &both2, &both2);

    uint64_t through[5] = { 0, 0, 0, 0, 6 };
    struct log_item item;
    int rc;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        unsigned stream = 1;
        for (; stream < 5; stream++) {
            const struct fm_id id = kit_stream (stream);
            if (id_equal (&id, &item.stream))
                break;
        }
        /* Each range once, in order; no range of offsets, for the streams account for all of it. Stream 3's loss is
         * told at the first of its holes, in full: which of it was in which is not known. */
        assert_true (stream < 5 || item.kind == LOG_ITEM_GAP);
        if (stream == 5)
            continue;
        assert_int_equal (item.first_seq, through[stream] + 1);
        through[stream] = item.end_seq - 1;
    }
    assert_int_equal (rc, FM_ERR_END);
    assert_int_equal (through[1], 30);
    assert_int_equal (through[2], 4);
    assert_int_equal (through[3], 3);
    assert_int_equal (through[4], 10);
    log_reader_destroy (&r);
}

/* Damage is found at a start, the segment goes on, and is sealed: its index lacks what was in the hole. */
static void a_segment_sealed_with_a_hole_is_never_skipped (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    char path[256];
    const struct fm_id one = kit_stream (1);
    const struct fm_slice pattern = slice_of ("rare.*");
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 20, .topic = "often" };
    struct kit_batch_spec rare = { .stream = 1, .first_seq = 2, .count = 1, .payload_len = 20, .topic = "rare.x" };
    kit_append_batch (s->log, &spec);
    kit_append_batch (s->log, &rare);
    spec.first_seq = 3;
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    wipe (path, &rare, &rare);
    reopen (s);
    for (spec.first_seq = 4, spec.payload_len = BIG; spec.first_seq < 20; spec.first_seq++)
        kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    struct log_segment_info info[4];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 4, &count), 0);
    assert_true (count > 1 && info[0].sealed);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_filter (r, NULL, &pattern, 1), 0);
    struct log_item item = expect_next (r);
    assert_int_equal (item.end_seq, 2);
    expect_gap (r, &one, 2, 3, FACTMESH__GAP_REASON__GAP_DAMAGED);
    item = expect_next (r);
    assert_int_equal (item.first_seq, 3);
    log_reader_destroy (&r);
    struct log_verify_result verified;
    assert_int_equal (log_verify (s->log, NULL, NULL, NULL, &verified), 0);
    assert_int_equal (verified.damaged, 1);     /* the hole, not the footer */
}

/* What was recorded as void lies right behind what is damaged: each is told as what it is, once. */
static void a_recorded_gap_beside_damage_is_told_as_it_was_recorded (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct fm_id stream = kit_stream (2);
    const struct kit_batch_spec first = { .stream = 2, .first_seq = 1, .count = 2, .payload_len = 20 }, lost = { .stream = 2, .first_seq = 3, .count = 2, .payload_len = 20 },
                                last = { .stream = 2, .first_seq = 9, .count = 2, .payload_len = 20 };
    struct log_reader *r;
    char path[256];
    uint64_t offset;
    kit_append_batch (s->log, &first);
    kit_append_batch (s->log, &lost);
    assert_int_equal (log_append_gap (s->log, &stream, 5, 9, FACTMESH__GAP_REASON__GAP_VOID, &offset), 0);
    kit_append_batch (s->log, &last);
    kit_sync (s->log);
    kit_segment_path (s->directory, 1, path);
    wipe (path, &lost, &lost);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    expect_batch (r, first);
    expect_gap (r, &stream, 3, 5, FACTMESH__GAP_REASON__GAP_DAMAGED);
    expect_gap (r, &stream, 5, 9, FACTMESH__GAP_REASON__GAP_VOID);
    expect_batch (r, last);
    expect_end (r);
    log_reader_destroy (&r);
}

static void a_missing_segment_is_told_stream_by_stream (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    char path[256];
    const struct fm_id one = kit_stream (1), small = kit_stream (11);
    fill_segments (s, 4);
    kit_segment_path (s->directory, 2, path);
    assert_int_equal (unlink (path), 0);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    for (int i = 0; i < PER_SEGMENT; i++)
        expect_next (r);
    struct log_item a = expect_next (r), b = expect_next (r);
    if (!id_equal (&a.stream, &one)) {
        struct log_item swap = a;
        a = b;
        b = swap;
    }
    assert_true (a.kind == LOG_ITEM_GAP && id_equal (&a.stream, &one) && a.first_seq == 11 && a.end_seq == 21);
    assert_true (b.kind == LOG_ITEM_GAP && id_equal (&b.stream, &small) && b.first_seq == 1 && b.end_seq == 2);
    assert_int_equal (a.reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
    expect_batch (r, big_spec (21));
    for (int i = 0; i < 2 * PER_SEGMENT - 1; i++)
        expect_next (r);
    expect_end (r);
    /* Seeks step over it. */
    for (uint64_t offset = 23; offset <= 44; offset++) {
        assert_int_equal (log_reader_seek_offset (r, offset), 0);
        assert_int_equal (expect_next (r).offset, offset);
    }
    log_reader_destroy (&r);
    reopen (s);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    int items = 0;
    struct log_item item;
    while (log_reader_next (r, &item) == 0)
        items++;
    assert_int_equal (items, 3 * PER_SEGMENT + 2);
    log_reader_destroy (&r);
}

static void a_damaged_footer_costs_time_and_nothing_else (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    char path[256];
    const struct fm_slice pattern = slice_of ("small.*");
    fill_segments (s, 4);
    for (int what = 0; what < 3; what++) {
        kit_segment_path (s->directory, 2, path);
        if (what == 0)
            kit_flip (path, -20);           /* the trailer */
        else if (what == 1)
            kit_flip (path, -192 - 256 - 20);   /* a section */
        else
            kit_truncate (path, kit_file_size (path) - 300);
        assert_int_equal (log_reader_new (s->log, &r), 0);
        struct log_item item;
        uint64_t next = 1, matching = 0;
        while (log_reader_next (r, &item) == 0) {
            assert_int_equal (item.kind, LOG_ITEM_BATCH);
            assert_int_equal (item.offset, next++);
        }
        assert_int_equal (next, 45);
        assert_int_equal (log_reader_seek_offset (r, 1), 0);
        assert_int_equal (log_reader_filter (r, NULL, &pattern, 1), 0);
        while (log_reader_next (r, &item) == 0)
            matching += item.bytes.len > 0;
        assert_int_equal (matching, 4);
        uint64_t offset;
        const struct fm_id small = kit_stream (11);
        assert_int_equal (log_reader_seek_seq (r, &small, 1, &offset), 0);
        assert_int_equal (offset, 17);
        log_reader_destroy (&r);
        struct log_verify_result verified;
        assert_int_equal (log_verify (s->log, NULL, NULL, NULL, &verified), 0);
        assert_int_equal (verified.damaged, 1);
        if (what < 2)
            kit_flip (path, what == 0 ? -20 : -192 - 256 - 20);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (damage_in_a_sealed_segment_is_told_stream_by_stream),
        CASE (a_hole_at_a_streams_start_or_end_is_told_too),
        CASE (a_segment_sealed_with_a_hole_is_never_skipped),
        CASE (a_recorded_gap_beside_damage_is_told_as_it_was_recorded),
        CASE (a_missing_segment_is_told_stream_by_stream),
        CASE (a_damaged_footer_costs_time_and_nothing_else),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
