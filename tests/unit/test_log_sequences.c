/* Several things that happen to one log behind one another, each of which it takes alone: retention, rolls, starts, damage in more places than one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "log_repair.h"

/* What a start does not know of a stream's beginning, since retention went on behind the snapshot, the next segment's snapshot must not say. */
static void a_stream_begins_where_retention_left_it_after_a_start_a_roll_and_a_start (void **state)
{
    struct log_setting *s = setting_of (state);
    uint64_t first_offset;
    const struct fm_id stream = kit_stream (1);
    struct log_stream known;
    fill_segments (s, 7);
    s->options.retain_bytes = 4 << 20;
    reopen (s);
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_true (first_offset > 1 && first_offset < 6 * PER_SEGMENT);
    const uint64_t first_seq = (first_offset - 1) / PER_SEGMENT * 10 + 1;
    reopen (s);
    for (uint64_t seq = 71; seq <= 80; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    reopen (s);
    assert_int_equal (log_stream_get (s->log, &stream, &known), 0);
    assert_int_equal (known.first_seq, first_seq);
}

/* Nor do the snapshots before say it, from which a start, or a repair, has it when they are damaged: retention went on behind those. */
static void a_stream_begins_where_retention_left_it_after_damage_to_the_snapshots (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    uint64_t first_offset;
    const struct fm_id stream = kit_stream (1);
    struct log_stream known;
    const struct repair_options nobody_is_asked = { .source = NULL };
    struct repair_result result;
    s->options.retain_bytes = 4 << 20;
    reopen (s);
    fill_segments (s, 6);
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_true (first_offset > 1 && first_offset < 6 * PER_SEGMENT);
    const uint64_t first_seq = (first_offset - 1) / PER_SEGMENT * 10 + 1;
    for (uint64_t seq = 61; seq <= 70; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 7, path);
    kit_flip (path, 4096 + 100);
    for (int repaired = 0; repaired <= 1; repaired++) {
        reopen (s);
        assert_int_equal (log_stream_get (s->log, &stream, &known), 0);
        assert_int_equal (known.first_seq, first_seq);
        assert_int_equal (log_repair (s->log, &nobody_is_asked, &result), 0);
        assert_int_equal (result.segments, !repaired);
    }
}

/* A segment that another follows is on disk whole, whatever its own records say of how far it was synced: what lies behind damage is not forgotten where the
 * next segment's snapshots are damaged too. Else the journal would ask for it, and record it again. */
static void what_lies_behind_damage_is_known_though_the_snapshots_that_follow_are_damaged (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    uint64_t ticket;
    const struct fm_id first = kit_stream (1), second = kit_stream (2);
    struct log_stream known;
    const struct repair_options nobody_is_asked = { .source = NULL };
    struct repair_result result;
    const struct kit_batch_spec hurt = big_spec (6), behind = { .stream = 2, .first_seq = 1, .count = 1, .payload_len = 10 };
    const struct log_cursor cursor = { .name = "late", .cursor = slice ("x", 1) };
    for (uint64_t seq = 1; seq <= 12; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
        if (seq == 8) {
            kit_append_batch (s->log, &behind);
            assert_int_equal (log_cursor_put (s->log, &cursor, &ticket), 0);
        }
    }
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 2, path);
    kit_flip (path, 4096 + 100);
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, (int64_t) find_batch (path, &hurt) + 50);
    for (int repaired = 0; repaired <= 1; repaired++) {
        void *buffer = NULL;
        size_t size = 0;
        struct log_cursor found;
        reopen (s);
        assert_int_equal (log_stream_get (s->log, &first, &known), 0);
        assert_int_equal (known.last_seq, 12);
        assert_int_equal (log_stream_get (s->log, &second, &known), 0);
        assert_int_equal (known.last_seq, 1);
        assert_int_equal (log_cursor_get (s->log, "late", &buffer, &size, &found), 0);
        free (buffer);
        assert_int_equal (log_repair (s->log, &nobody_is_asked, &result), 0);
        assert_int_equal (result.segments, !repaired);
    }
}

/* The last segment cannot be read, so the one before is the last: it is on disk whole all the same. */
static void what_lies_behind_damage_before_a_lost_last_segment_is_not_cut (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    const struct kit_batch_spec hurt = big_spec (6);
    struct log_reader *r;
    for (uint64_t seq = 1; seq <= 12; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 2, path);
    kit_flip (path, 100);
    kit_flip (path, 2048 + 100);
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, (int64_t) find_batch (path, &hurt) + 50);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    const struct fm_id stream = kit_stream (1);
    for (uint64_t seq = 1; seq <= 10; seq++)
        if (seq == 6)
            expect_gap (r, &stream, 6, 7, FACTMESH__GAP_REASON__GAP_DAMAGED);
        else
            expect_batch (r, big_spec (seq));
    log_reader_destroy (&r);
}

/* Of the last segment's header only the copy in its footer is left, which the start cuts off: what is recorded from then on must not lie in a segment that nobody
 * can read, and that the next start puts away. */
static void a_start_that_cuts_a_footer_keeps_the_header (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct log_reader *r;
    uint8_t *block = calloc (1, 4096);
    for (uint64_t seq = 1; seq <= 11; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 2, path);
    assert_int_equal (unlink (path), 0);        /* killed between the footer and the next segment; the eleventh was not synced then */
    kit_segment_path (s->directory, 1, path);
    FILE *file = fopen (path, "r+b");
    assert_non_null (file);
    assert_int_equal (fwrite (block, 1, 4096, file), 4096);
    fclose (file);
    free (block);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    const struct kit_batch_spec small = { .stream = 1, .first_seq = 11, .count = 1, .payload_len = 10 };
    kit_append_batch (s->log, &small);
    kit_sync (s->log);
    for (int start = 0; start < 2; start++) {
        assert_int_equal (log_reader_new (s->log, &r), 0);
        for (uint64_t seq = 1; seq <= 10; seq++)
            expect_batch (r, big_spec (seq));
        expect_batch (r, small);
        expect_end (r);
        log_reader_destroy (&r);
        reopen (s);
    }
}

/* --- Repair. */

static void repair_from (struct log_setting *s, const char *other)
{
    const struct log_options options = { .mesh = "test", .read_only = true };
    struct log *holder;
    struct repair_result result;
    assert_int_equal (log_open (other, &options, NULL, &holder), 0);
    const struct refetch_source source = { .context = holder, .fetch = refetch_from_log };
    const struct repair_options how = { .source = &source };
    reopen (s);
    assert_int_equal (log_repair (s->log, &how, &result), 0);
    assert_int_equal (result.left, 0);
    log_destroy (&holder);
    reopen (s);
}

/* The two have the same, each fact at the same offset. */
static void expect_same (struct log *log, const char *other)
{
    const struct log_options options = { .mesh = "test", .read_only = true };
    struct log *whole;
    struct log_reader *a, *b;
    struct log_item expected;
    int rc;
    assert_int_equal (log_open (other, &options, NULL, &whole), 0);
    assert_int_equal (log_reader_new (log, &a), 0);
    assert_int_equal (log_reader_new (whole, &b), 0);
    while ((rc = log_reader_next (b, &expected)) == 0) {
        const struct log_item item = expect_next (a);
        assert_int_equal (item.kind, LOG_ITEM_BATCH);
        assert_int_equal (item.offset, expected.offset);
        assert_true (id_equal (&item.stream, &expected.stream));
        assert_true (slice_equal (item.bytes, expected.bytes));
    }
    assert_int_equal (rc, FM_ERR_END);
    expect_end (a);
    log_reader_destroy (&a);
    log_reader_destroy (&b);
    log_destroy (&whole);
}

/* A segment lost its snapshots, a record, and its end. What was at the end cannot have been where later records of its stream follow, though
 * it would fit there, and was published before all else that is missing. */
static void what_a_segments_end_lost_is_not_put_before_what_it_follows (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256], other[128];
    const struct kit_batch_spec begun[] = { { .stream = 3, .first_seq = 1, .count = 1, .payload_len = 10 }, { .stream = 2, .first_seq = 49, .count = 1, .payload_len = 10 } };
    const struct kit_batch_spec lost = { .stream = 2, .first_seq = 50, .count = 1, .payload_len = 10 }, cut = { .stream = 3, .first_seq = 3, .count = 1, .payload_len = 10 };
    kit_append_batch (s->log, &begun[0]);
    for (uint64_t seq = 1; seq <= 25; seq++) {
        const struct kit_batch_spec spec = big_spec (seq), before = { .stream = 3, .first_seq = 2, .count = 1, .payload_len = 10 };
        if (seq == 11)
            kit_append_batch (s->log, &begun[1]);       /* at the end of the segment before */
        if (seq == 12) {
            kit_append_batch (s->log, &lost);
            kit_append_batch (s->log, &before);
        }
        if (seq == 20)
            kit_append_batch (s->log, &cut);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_directory (other);
    kit_copy (s->directory, other);
    kit_segment_path (s->directory, 2, path);
    kit_truncate (path, find_batch (path, &cut) - 88);
    wipe (path, &lost, &lost);
    kit_flip (path, 4096 + 100);
    repair_from (s, other);
    expect_same (s->log, other);
    kit_remove (other);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (a_stream_begins_where_retention_left_it_after_a_start_a_roll_and_a_start),
        CASE (a_stream_begins_where_retention_left_it_after_damage_to_the_snapshots),
        CASE (what_lies_behind_damage_is_known_though_the_snapshots_that_follow_are_damaged),
        CASE (what_lies_behind_damage_before_a_lost_last_segment_is_not_cut),
        CASE (a_start_that_cuts_a_footer_keeps_the_header),
        CASE (what_a_segments_end_lost_is_not_put_before_what_it_follows),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
