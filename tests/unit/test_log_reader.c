/* Reading: order, filters, skipped segments, seeks, gaps with their exact ranges, and reading while the log grows
 * and shrinks. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/log_kit.h"
#include "error.h"
#include "factmesh.pb-c.h"

struct setting {
    char directory[128];
    struct log *log;
    struct kit_clock clock;
    struct log_options options;
};

static struct setting *setting_of (void **state)
{
    return *state;
}

static int set_up (void **state)
{
    struct setting *s = calloc (1, sizeof *s);
    kit_directory (s->directory);
    kit_clock_init (&s->clock);
    s->options = (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20, .clock = &s->clock.clock };
    *state = s;
    return log_open (s->directory, &s->options, NULL, &s->log);
}

static int tear_down (void **state)
{
    struct setting *s = *state;
    log_destroy (&s->log);
    kit_remove (s->directory);
    free (s);
    return 0;
}

static void reopen (struct setting *s)
{
    log_destroy (&s->log);
    const int rc = log_open (s->directory, &s->options, NULL, &s->log);
    if (rc)
        fail_msg ("log_open: %d %s", rc, fm_error_detail ());
}

/* Segment number s holds stream 1's batches of 100 kB on topic "s<number>.x": 10 of them, and one of 10 bytes of
 * stream 10 + number. The clock advances a second a batch. */
enum { PER_SEGMENT = 11, BIG = 100000 };

static struct kit_batch_spec big_spec (uint64_t seq)
{
    static char topics[64][16];
    const uint64_t segment = (seq - 1) / 10;
    (void) snprintf (topics[segment], sizeof topics[segment], "s%u.x", (unsigned) segment % 64);
    return (struct kit_batch_spec) {
        .stream = 1, .first_seq = seq, .count = 1, .payload_len = BIG, .topic = topics[segment]
    };
}

static struct kit_batch_spec small_spec (uint64_t segment)
{
    static char topics[64][16];
    (void) snprintf (topics[segment], sizeof topics[segment], "small.n%u", (unsigned) segment % 64);
    return (struct kit_batch_spec) { .stream = 10 + (unsigned) segment, .first_seq = 1, .count = 1, .payload_len = 10,
                                     .topic = topics[segment] };
}

static void fill_segments (struct setting *s, unsigned segments)
{
    for (unsigned segment = 0; segment < segments; segment++) {
        struct kit_batch_spec small = small_spec (segment);
        for (uint64_t i = 1; i <= 10; i++) {
            struct kit_batch_spec spec = big_spec (segment * 10 + i);
            s->clock.now_ns += 1000000000;
            kit_append_batch (s->log, &spec);
            if (i == 5)
                kit_append_batch (s->log, &small);
        }
        kit_sync (s->log);
    }
    struct log_segment_info info[64];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 64, &count), 0);
    assert_int_equal (count, segments);
    for (size_t i = 0; i < count; i++)
        assert_int_equal (info[i].records, PER_SEGMENT);
}

static struct log_item expect_next (struct log_reader *r)
{
    struct log_item item;
    const int rc = log_reader_next (r, &item);
    if (rc)
        fail_msg ("log_reader_next: %d %s", rc, fm_error_detail ());
    return item;
}

static void expect_end (struct log_reader *r)
{
    struct log_item item;
    assert_int_equal (log_reader_next (r, &item), FM_ERR_END);
}

static void expect_batch (struct log_reader *r, struct kit_batch_spec spec)
{
    struct log_item item = expect_next (r);
    assert_true (kit_item_is (&item, &spec));
}

static void expect_gap (struct log_reader *r, const struct fm_id *stream, uint64_t first, uint64_t end, uint32_t reason)
{
    static const struct fm_id none;
    struct log_item item = expect_next (r);
    assert_int_equal (item.kind, LOG_ITEM_GAP);
    assert_true (id_equal (&item.stream, stream ? stream : &none));
    assert_int_equal (item.first_seq, first);
    assert_int_equal (item.end_seq, end);
    assert_int_equal (item.reason, reason);
}

static void a_reader_follows_the_log_as_it_grows (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    expect_end (r);
    for (uint64_t seq = 1; seq <= 35; seq++) {      /* through three rolls */
        kit_append_batch (s->log,
                          &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = BIG });
        expect_end (r);
        assert_int_equal (log_write (s->log), 0);
        assert_int_equal (log_sync (s->log, NULL), 0);
        expect_batch (r, (struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = BIG });
        expect_end (r);
        if (seq % 7 == 0)
            assert_int_equal (log_mark_idle (s->log), 0);
    }
    uint64_t offset, remaining;
    log_reader_position (r, &offset, &remaining);
    assert_int_equal (offset, 36);
    assert_int_equal (remaining, 0);
    log_reader_destroy (&r);
}

static void a_filtered_reader_sees_what_matches_and_how_far_the_rest_goes (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    const struct fm_slice pattern = slice_of ("s1.*");
    fill_segments (s, 4);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_filter (r, NULL, &pattern, 1), 0);
    /* Segment 1 is left out: both its streams are told. */
    uint64_t through[64] = { 0 };
    unsigned batches = 0;
    struct log_item item;
    int rc;
    while ((rc = log_reader_next (r, &item)) == 0) {
        assert_int_equal (item.kind, LOG_ITEM_BATCH);
        unsigned stream = 0;
        for (unsigned i = 1; i < 64 && !stream; i++) {
            const struct fm_id id = kit_stream (i);
            stream = id_equal (&id, &item.stream) ? i : 0;
        }
        assert_true (stream > 0);
        assert_int_equal (item.first_seq, through[stream] + 1);
        through[stream] = item.end_seq - 1;
        if (item.bytes.len > 0) {
            struct kit_batch_spec spec = big_spec (item.first_seq);
            assert_true (kit_item_is (&item, &spec));
            batches++;
        }
    }
    assert_int_equal (rc, FM_ERR_END);
    assert_int_equal (batches, 10);
    assert_int_equal (through[1], 40);
    for (unsigned segment = 0; segment < 4; segment++)
        assert_int_equal (through[10 + segment], 1);
    uint64_t offset, remaining;
    log_reader_position (r, &offset, &remaining);
    assert_int_equal (offset, 45);
    log_reader_destroy (&r);
}

static void a_reader_of_one_stream_sees_only_that (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    const struct fm_id stream = kit_stream (12), nobody = kit_stream (999);
    fill_segments (s, 4);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_filter (r, &stream, NULL, 0), 0);
    expect_batch (r, small_spec (2));
    expect_end (r);
    assert_int_equal (log_reader_filter (r, &nobody, NULL, 0), 0);
    assert_int_equal (log_reader_seek_offset (r, 1), 0);
    expect_end (r);
    log_reader_destroy (&r);
}

static void seek_offset_stands_before_the_record_that_holds_it (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    fill_segments (s, 4);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    for (uint64_t offset = 1; offset <= 44; offset++) {
        assert_int_equal (log_reader_seek_offset (r, offset), 0);
        assert_int_equal (expect_next (r).offset, offset);
    }
    assert_int_equal (log_reader_seek_offset (r, 45), 0);
    expect_end (r);
    assert_int_equal (log_reader_seek_offset (r, UINT64_MAX), 0);
    expect_end (r);
    uint64_t at, remaining;
    log_reader_position (r, &at, &remaining);
    assert_int_equal (at, 45);
    assert_int_equal (remaining, 0);
    log_reader_destroy (&r);
}

static void seek_into_a_batch_returns_the_whole_batch (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    for (uint64_t seq = 1; seq < 100; seq += 5)
        kit_append_batch (s->log,
                          &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 5, .payload_len = 9 });
    kit_sync (s->log);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_seek_offset (r, 13), 0);
    expect_batch (r, (struct kit_batch_spec) { .stream = 1, .first_seq = 11, .count = 5, .payload_len = 9 });
    expect_batch (r, (struct kit_batch_spec) { .stream = 1, .first_seq = 16, .count = 5, .payload_len = 9 });
    log_reader_destroy (&r);
}

static void seek_time_finds_the_first_record_that_is_not_older (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    const uint64_t start_ns = s->clock.now_ns;
    fill_segments (s, 4);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    for (uint64_t second = 0; second <= 40; second++) {
        uint64_t offset;
        assert_int_equal (log_reader_seek_time (r, start_ns + second * 1000000000, &offset), 0);
        struct log_item item = expect_next (r);
        assert_int_equal (item.offset, offset);
        struct kit_batch_spec spec = big_spec (second ? second : 1);
        assert_true (kit_item_is (&item, &spec));
    }
    uint64_t offset;
    assert_int_equal (log_reader_seek_time (r, start_ns + UINT64_C (41000000000), &offset), 0);
    assert_int_equal (offset, 45);
    expect_end (r);
    log_reader_destroy (&r);
}

static void seek_seq_finds_every_sequence_of_every_stream (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    uint64_t offset;
    fill_segments (s, 4);
    for (int again = 0; again < 2; again++) {
        const struct fm_id big = kit_stream (1), nobody = kit_stream (999);
        assert_int_equal (log_reader_new (s->log, &r), 0);
        for (uint64_t seq = 1; seq <= 40; seq++) {
            assert_int_equal (log_reader_seek_seq (r, &big, seq, &offset), 0);
            expect_batch (r, big_spec (seq));
        }
        assert_int_equal (log_reader_seek_seq (r, &big, 41, &offset), FM_ERR_UNKNOWN);
        expect_end (r);
        assert_int_equal (log_reader_seek_seq (r, &nobody, 1, &offset), FM_ERR_UNKNOWN);
        for (unsigned segment = 0; segment < 4; segment++) {
            const struct fm_id small = kit_stream (10 + segment);
            assert_int_equal (log_reader_seek_seq (r, &small, 1, &offset), 0);
            expect_batch (r, small_spec (segment));
        }
        log_reader_destroy (&r);
        reopen (s);
    }
}

static void seek_seq_within_a_segment_of_many_records (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    uint64_t offset;
    s->options.segment_bytes = 16 << 20;
    reopen (s);
    for (uint64_t seq = 1; seq <= 4000; seq++) {
        kit_append_batch (
            s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 2 * seq - 1, .count = 2, .payload_len = 600 });
        if (seq % 500 == 0)
            kit_append_batch (s->log, &(struct kit_batch_spec) {
                                          .stream = 2, .first_seq = seq / 500, .count = 1, .payload_len = 10 });
        if (seq % 1000 == 0)
            kit_sync (s->log);
    }
    assert_int_equal (log_reader_new (s->log, &r), 0);
    const struct fm_id dense = kit_stream (1), sparse = kit_stream (2);
    for (uint64_t seq = 1; seq <= 8000; seq += 37) {
        assert_int_equal (log_reader_seek_seq (r, &dense, seq, &offset), 0);
        expect_batch (r, (struct kit_batch_spec) {
                             .stream = 1, .first_seq = (seq - 1) / 2 * 2 + 1, .count = 2, .payload_len = 600 });
    }
    for (uint64_t seq = 1; seq <= 8; seq++) {
        assert_int_equal (log_reader_seek_seq (r, &sparse, seq, &offset), 0);
        expect_batch (r, (struct kit_batch_spec) { .stream = 2, .first_seq = seq, .count = 1, .payload_len = 10 });
    }
    log_reader_destroy (&r);
}

static void gap_records_are_told_to_everybody (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r;
    const struct fm_id id = kit_stream (1);
    const struct fm_slice pattern = slice_of ("nothing.like.it");
    uint64_t offset;
    assert_int_equal (log_append_gap (s->log, &id, 1, 100, FACTMESH__GAP_REASON__GAP_VOID, &offset), 0);
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 100, .count = 1 });
    for (uint64_t seq = 101; seq < 125; seq++)
        kit_append_batch (s->log,
                          &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = BIG });
    kit_sync (s->log);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_filter (r, NULL, &pattern, 1), 0);
    expect_gap (r, &id, 1, 100, FACTMESH__GAP_REASON__GAP_VOID);
    struct log_item item = expect_next (r);
    assert_int_equal (item.first_seq, 100);
    assert_int_equal (item.bytes.len, 0);
    assert_int_equal (item.offset, 2);
    assert_int_equal (log_reader_seek_seq (r, &id, 50, &offset), 0);
    assert_int_equal (offset, 1);
    expect_gap (r, &id, 1, 100, FACTMESH__GAP_REASON__GAP_VOID);
    log_reader_destroy (&r);
}

/* --- Damage. */

/* Overwrite the records of these two batches and all between them. */
static void wipe (const char *path, const struct kit_batch_spec *first, const struct kit_batch_spec *last)
{
    enum { HEADER = 88 };
    const size_t len = (size_t) kit_file_size (path);
    uint8_t *bytes = malloc (len);
    FILE *file = fopen (path, "r+b");
    assert_int_equal (fread (bytes, 1, len, file), len);
    struct kit_batch a, b;
    kit_batch_make (first, &a);
    kit_batch_make (last, &b);
    uint8_t *from = memmem (bytes, len, a.bytes, a.len), *to = memmem (bytes, len, b.bytes, b.len);
    assert_true (from && to && from <= to);
    memset (from - HEADER, 0x5A, (size_t) (to - from) + HEADER + b.len);
    rewind (file);
    assert_int_equal (fwrite (bytes, 1, len, file), len);
    fclose (file);
    free (bytes);
    kit_batch_release (&a);
    kit_batch_release (&b);
}

static void damage_in_a_sealed_segment_is_told_stream_by_stream (void **state)
{
    struct setting *s = setting_of (state);
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
    struct setting *s = setting_of (state);
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
    struct setting *s = setting_of (state);
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

static void a_missing_segment_is_told_stream_by_stream (void **state)
{
    struct setting *s = setting_of (state);
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
    struct setting *s = setting_of (state);
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

/* --- Retention. */

static void an_offset_that_expired_starts_with_a_gap (void **state)
{
    struct setting *s = setting_of (state);
    struct log_reader *r, *slow;
    fill_segments (s, 4);
    s->options.retain_bytes = 2500000;
    reopen (s);
    assert_int_equal (log_reader_new (s->log, &slow), 0);
    expect_batch (slow, big_spec (1));
    uint64_t first;
    assert_int_equal (log_retain (s->log, &first), 0);
    assert_int_equal (first, 23);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.first_offset, 23);
    assert_true (position.bytes <= 2500000);

    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_seek_offset (r, 5), 0);
    expect_gap (r, NULL, 5, 23, FACTMESH__GAP_REASON__GAP_EXPIRED);
    expect_batch (r, big_spec (21));
    log_reader_destroy (&r);

    /* Who was in the middle of a segment reads on in it, and then hears of the gap. */
    for (int i = 0; i < PER_SEGMENT - 1; i++)
        assert_int_equal (expect_next (slow).kind, LOG_ITEM_BATCH);
    expect_gap (slow, NULL, 12, 23, FACTMESH__GAP_REASON__GAP_EXPIRED);
    expect_batch (slow, big_spec (21));
    log_reader_destroy (&slow);

    struct log_stream known;
    const struct fm_id one = kit_stream (1), gone = kit_stream (10);
    for (int again = 0; again < 4; again++) {
        if (again % 2 == 1) {               /* a list has the same to say as a single look */
            struct log_stream all[8];
            size_t count;
            assert_int_equal (log_stream_list (s->log, NULL, all, 8, &count), 0);
            assert_int_equal (count, 5);
            for (size_t i = 0; i < count; i++) {
                const bool is_one = id_equal (&all[i].stream, &one);
                const struct fm_id late[] = { kit_stream (12), kit_stream (13) };
                const bool is_late = id_equal (&all[i].stream, &late[0]) || id_equal (&all[i].stream, &late[1]);
                assert_int_equal (all[i].first_seq, is_one ? 21 : is_late ? 1 : 2);
            }
        }
        assert_int_equal (log_stream_get (s->log, &one, &known), 0);
        assert_int_equal (known.first_seq, 21);
        assert_int_equal (known.last_seq, 40);
        assert_int_equal (log_stream_get (s->log, &gone, &known), 0);
        assert_int_equal (known.first_seq, 2);
        assert_int_equal (known.last_seq, 1);
        reopen (s);                         /* the last segment's snapshot is older than what retention did */
    }
}

/* --- All at once. */

struct race {
    struct log *log;
    atomic_bool stop;
    atomic_ullong appended;
};

static void *race_append (void *arg)
{
    struct race *race = arg;
    for (uint64_t seq = 1; seq <= 400; seq++) {
        struct kit_batch k;
        uint64_t offset;
        kit_batch_make (&(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = 20000 },
                        &k);
        int rc;
        while ((rc = log_append (race->log, &k.batch, &offset)) == FM_ERR_FULL)
            sched_yield ();
        kit_batch_release (&k);
        if (rc)
            break;
        atomic_store (&race->appended, seq);
    }
    return NULL;
}

static void *race_sync (void *arg)
{
    struct race *race = arg;
    while (!atomic_load (&race->stop)) {
        log_wait_appended (race->log, 10);
        if (log_write (race->log) == FM_ERR_END)
            continue;
        if (log_sync (race->log, NULL) || log_retain (race->log, NULL))
            break;
        struct log_stream streams[4];
        size_t count;
        (void) log_synced_streams (race->log, streams, 4, &count);
    }
    return NULL;
}

static void *race_read (void *arg)
{
    struct race *race = arg;
    struct log_reader *r;
    uint64_t next = 1;
    if (log_reader_new (race->log, &r))
        return arg;
    while (next <= 400 && !atomic_load (&race->stop)) {
        struct log_item item;
        struct log_stream known;
        const struct fm_id id = kit_stream (1);
        const int rc = log_reader_next (r, &item);
        if (rc == FM_ERR_END) {
            (void) log_stream_get (race->log, &id, &known);
            sched_yield ();
            continue;
        }
        if (rc || item.offset != next)
            return arg;
        if (item.kind == LOG_ITEM_GAP) {
            if (item.reason != FACTMESH__GAP_REASON__GAP_EXPIRED)
                return arg;
            next = item.end_seq;
            continue;
        }
        struct kit_batch_spec spec = { .stream = 1, .first_seq = item.offset, .count = 1, .payload_len = 20000 };
        if (!kit_item_is (&item, &spec))
            return arg;
        next++;
    }
    log_reader_destroy (&r);
    return NULL;
}

static void readers_appenders_and_retention_do_not_disturb_each_other (void **state)
{
    struct setting *s = setting_of (state);
    s->options.retain_bytes = 3 << 20;
    s->options.buffer_bytes = 128 << 10;
    reopen (s);
    struct race race = { .log = s->log };
    pthread_t appender, syncer, readers[2];
    void *failed;
    assert_int_equal (pthread_create (&syncer, NULL, race_sync, &race), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal (pthread_create (&readers[i], NULL, race_read, &race), 0);
    assert_int_equal (pthread_create (&appender, NULL, race_append, &race), 0);
    pthread_join (appender, NULL);
    assert_int_equal (atomic_load (&race.appended), 400);
    for (int i = 0; i < 2; i++) {
        pthread_join (readers[i], &failed);
        assert_null (failed);
    }
    atomic_store (&race.stop, true);
    log_wake (s->log);
    pthread_join (syncer, NULL);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.synced_offset, 401);
    assert_true (position.first_offset > 1);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (a_reader_follows_the_log_as_it_grows, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_filtered_reader_sees_what_matches_and_how_far_the_rest_goes, set_up,
                                         tear_down),
        cmocka_unit_test_setup_teardown (a_reader_of_one_stream_sees_only_that, set_up, tear_down),
        cmocka_unit_test_setup_teardown (seek_offset_stands_before_the_record_that_holds_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown (seek_into_a_batch_returns_the_whole_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown (seek_time_finds_the_first_record_that_is_not_older, set_up, tear_down),
        cmocka_unit_test_setup_teardown (seek_seq_finds_every_sequence_of_every_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown (seek_seq_within_a_segment_of_many_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown (gap_records_are_told_to_everybody, set_up, tear_down),
        cmocka_unit_test_setup_teardown (damage_in_a_sealed_segment_is_told_stream_by_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_hole_at_a_streams_start_or_end_is_told_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_segment_sealed_with_a_hole_is_never_skipped, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_missing_segment_is_told_stream_by_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_damaged_footer_costs_time_and_nothing_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown (an_offset_that_expired_starts_with_a_gap, set_up, tear_down),
        cmocka_unit_test_setup_teardown (readers_appenders_and_retention_do_not_disturb_each_other, set_up, tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
