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

#include "../support/log_setting.h"
#include "error.h"
#include "factmesh.pb-c.h"

static void a_reader_follows_the_log_as_it_grows (void **state)
{
    struct log_setting *s = setting_of (state);
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
    struct log_setting *s = setting_of (state);
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
    struct log_setting *s = setting_of (state);
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

/* A segment without the topic is left out: only the stream that is read is told to be through it. */
static void a_reader_of_one_stream_is_told_of_it_alone_what_a_skipped_segment_held (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    const struct fm_id stream = kit_stream (1);
    const struct fm_slice pattern = slice_of ("s2.*");
    uint64_t next = 1;
    unsigned batches = 0;
    struct log_item item;
    int rc;
    fill_segments (s, 4);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_filter (r, &stream, &pattern, 1), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        assert_true (id_equal (&item.stream, &stream));
        assert_int_equal (item.first_seq, next);
        next = item.end_seq;
        if (item.bytes.len > 0) {
            const struct kit_batch_spec spec = big_spec (item.first_seq);
            assert_true (kit_item_is (&item, &spec));
            batches++;
        }
    }
    assert_int_equal (rc, FM_ERR_END);
    assert_int_equal (next, 41);
    assert_int_equal (batches, 10);
    log_reader_destroy (&r);
}

/* It was the open one when the reader came to its end. */
static void a_segment_that_was_sealed_and_damaged_meanwhile_is_read_on (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    char path[256];
    assert_int_equal (log_reader_new (s->log, &r), 0);
    for (uint64_t seq = 1; seq <= 30; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
        kit_sync (s->log);
        if (seq <= 5)
            expect_batch (r, spec);
    }
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, -20);                   /* the trailer */
    for (uint64_t seq = 6; seq <= 30; seq++)
        expect_batch (r, big_spec (seq));
    expect_end (r);
    log_reader_destroy (&r);
}

static void seek_offset_stands_before_the_record_that_holds_it (void **state)
{
    struct log_setting *s = setting_of (state);
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
    struct log_setting *s = setting_of (state);
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
    struct log_setting *s = setting_of (state);
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
    struct log_setting *s = setting_of (state);
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
    struct log_setting *s = setting_of (state);
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
    struct log_setting *s = setting_of (state);
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

/* --- Retention. */

static void an_offset_that_expired_starts_with_a_gap (void **state)
{
    struct log_setting *s = setting_of (state);
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
    struct log_setting *s = setting_of (state);
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
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (a_reader_follows_the_log_as_it_grows),
        CASE (a_filtered_reader_sees_what_matches_and_how_far_the_rest_goes),
        CASE (a_reader_of_one_stream_sees_only_that),
        CASE (a_reader_of_one_stream_is_told_of_it_alone_what_a_skipped_segment_held),
        CASE (a_segment_that_was_sealed_and_damaged_meanwhile_is_read_on),
        CASE (seek_offset_stands_before_the_record_that_holds_it),
        CASE (seek_into_a_batch_returns_the_whole_batch),
        CASE (seek_time_finds_the_first_record_that_is_not_older),
        CASE (seek_seq_finds_every_sequence_of_every_stream),
        CASE (seek_seq_within_a_segment_of_many_records),
        CASE (gap_records_are_told_to_everybody),
        CASE (an_offset_that_expired_starts_with_a_gap),
        CASE (readers_appenders_and_retention_do_not_disturb_each_other),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
