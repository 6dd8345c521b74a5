/* The log as its users see it: append, write, sync, roll, close, open. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "error.h"

/* Read all of the log and compare: batches of `count` facts of one stream, from first_seq on. Returns how many
 * batches there were. */
static uint64_t read_all (struct log *log, const struct kit_batch_spec *spec)
{
    struct kit_batch_spec expected = *spec;
    struct log_reader *r;
    struct log_item item;
    uint64_t batches = 0;
    int rc;
    assert_int_equal (log_reader_new (log, &r), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        assert_true (kit_item_is (&item, &expected));
        expected.first_seq += expected.count;
        batches++;
    }
    assert_int_equal (rc, FM_ERR_END);
    log_reader_destroy (&r);
    return batches;
}

static void a_new_directory_is_an_empty_log (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.end_offset, 1);
    assert_int_equal (position.synced_offset, 1);
    assert_int_equal (position.first_offset, 1);
    assert_string_equal (log_mesh (s->log), "test");
    struct fm_id id;
    uint64_t generation;
    log_identity (s->log, &id, &generation);
    assert_false (id_is_zero (&id));
    assert_int_equal (generation, 1);
    assert_int_equal (log_write (s->log), FM_ERR_END);
}

static void what_is_synced_reads_back_the_same (void **state)
{
    struct log_setting *s = setting_of (state);
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 3, .payload_len = 100 };
    for (int i = 0; i < 100; i++, spec.first_seq += 3)
        assert_int_equal (kit_append_batch (s->log, &spec), 1 + 3 * i);
    spec.first_seq = 1;
    assert_int_equal (read_all (s->log, &spec), 0);     /* not synced: not to be read */
    kit_sync (s->log);
    assert_int_equal (read_all (s->log, &spec), 100);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    assert_int_equal (recovery.damaged_ranges, 0);
    assert_int_equal (read_all (s->log, &spec), 100);
    struct log_stream stream;
    struct fm_id id = kit_stream (1);
    assert_int_equal (log_stream_get (s->log, &id, &stream), 0);
    assert_int_equal (stream.last_seq, 300);
    assert_int_equal (stream.synced_seq, 300);
    assert_int_equal (stream.first_seq, 1);
}

static void append_rolls_when_the_record_does_not_fit (void **state)
{
    struct log_setting *s = setting_of (state);
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 100000 };
    for (int i = 0; i < 50; i++, spec.first_seq++)
        kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    struct log_segment_info info[20];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 20, &count), 0);
    assert_int_equal (count, 5);
    uint64_t offset = 1;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal (info[i].number, i + 1);
        assert_int_equal (info[i].first_offset, offset);
        assert_int_equal (info[i].records, 10);
        assert_int_equal (info[i].sealed, i + 1 < count);
        offset = info[i].end_offset;
    }
    assert_int_equal (offset, 51);
    spec.first_seq = 1;
    assert_int_equal (read_all (s->log, &spec), 50);
    reopen (s);
    assert_int_equal (read_all (s->log, &spec), 50);
    struct log_verify_result verified;
    assert_int_equal (log_verify (s->log, NULL, NULL, NULL, &verified), 0);
    assert_int_equal (verified.damaged, 0);
    assert_int_equal (verified.facts, 50);
    assert_int_equal (verified.segments, 5);
}

/* --- What append refuses. */

static int try_append (struct log *log, const struct kit_batch_spec *spec)
{
    struct kit_batch k;
    uint64_t offset;
    kit_batch_make (spec, &k);
    const int rc = log_append (log, &k.batch, &offset);
    kit_batch_release (&k);
    return rc;
}

static void append_takes_only_the_next_sequence (void **state)
{
    struct log_setting *s = setting_of (state);
    assert_int_equal (try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 10, .count = 5 }), 0);
    assert_int_equal (try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 16, .count = 1 }),
                      FM_ERR_ARGUMENT);
    assert_int_equal (try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 14, .count = 1 }),
                      FM_ERR_ARGUMENT);
    assert_int_equal (try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 15, .count = 1 }), 0);
    uint64_t offset;
    struct fm_id id = kit_stream (1);
    assert_int_equal (log_append_gap (s->log, &id, 17, 20, 3, &offset), FM_ERR_ARGUMENT);
    assert_int_equal (log_append_gap (s->log, &id, 16, 16, 3, &offset), FM_ERR_ARGUMENT);
    assert_int_equal (log_append_gap (s->log, &id, 16, 20, 3, &offset), 0);
    assert_int_equal (offset, 7);
    assert_int_equal (try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 20, .count = 1 }), 0);
}

static void two_incarnations_of_one_epoch_are_a_conflict (void **state)
{
    struct log_setting *s = setting_of (state);
    for (int again = 0; again < 2; again++) {
        const uint64_t seq = 1 + 2 * (uint64_t) again;
        assert_int_equal (
            try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .epoch = 3 }), 0);
        assert_int_equal (
            try_append (s->log,
                        &(struct kit_batch_spec) {
                            .stream = 1, .first_seq = seq + 1, .count = 1, .epoch = 3, .incarnation = 1234 }),
            FM_ERR_CONFLICT);
        assert_int_equal (
            try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq + 1, .count = 1, .epoch = 2 }),
            FM_ERR_LOST);
        assert_int_equal (
            try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq + 1, .count = 1, .epoch = 3 }),
            0);
        kit_sync (s->log);
        reopen (s);                         /* the next start still knows */
    }
    assert_int_equal (
        try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 5, .count = 1, .epoch = 4 }), 0);
}

static void a_full_buffer_says_so_and_loses_nothing (void **state)
{
    struct log_setting *s = setting_of (state);
    s->options.buffer_bytes = 64 << 10;
    reopen (s);
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 10000 };
    int rc, full = 0;
    while (spec.first_seq <= 100) {
        rc = try_append (s->log, &spec);
        if (rc == 0) {
            spec.first_seq++;
            continue;
        }
        assert_int_equal (rc, FM_ERR_FULL);
        full++;
        assert_int_equal (log_write (s->log), 0);
    }
    assert_true (full >= 15);
    kit_sync (s->log);
    spec.first_seq = 1;
    assert_int_equal (read_all (s->log, &spec), 100);
}

static void a_batch_larger_than_buffer_and_segment_is_taken (void **state)
{
    struct log_setting *s = setting_of (state);
    struct kit_batch_spec small = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 100 };
    struct kit_batch_spec big = { .stream = 2, .first_seq = 1, .count = 1, .payload_len = 64 << 20 };
    kit_append_batch (s->log, &small);
    /* Not behind others in a buffer that it does not fit in. */
    assert_int_equal (try_append (s->log, &big), FM_ERR_FULL);
    assert_int_equal (log_write (s->log), 0);
    kit_append_batch (s->log, &big);
    assert_int_equal (try_append (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 2, .count = 1 }),
                      FM_ERR_FULL);
    kit_sync (s->log);
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 2, .count = 1 });
    kit_sync (s->log);
    for (int again = 0; again < 2; again++) {
        struct log_reader *r;
        struct log_item item;
        assert_int_equal (log_reader_new (s->log, &r), 0);
        assert_int_equal (log_reader_next (r, &item), 0);
        assert_true (kit_item_is (&item, &small));
        assert_int_equal (log_reader_next (r, &item), 0);
        assert_true (kit_item_is (&item, &big));
        assert_int_equal (log_reader_next (r, &item), 0);
        assert_int_equal (log_reader_next (r, &item), FM_ERR_END);
        log_reader_destroy (&r);
        reopen (s);
    }
    struct log_segment_info info[4];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 4, &count), 0);
    assert_int_equal (count, 3);
}

/* --- Streams. */

static void streams_beyond_the_table_are_looked_up_in_the_segments (void **state)
{
    struct log_setting *s = setting_of (state);
    enum { MANY = 60 };
    s->options.streams_max = 8;
    reopen (s);
    for (uint64_t round = 0; round < 4; round++) {
        for (unsigned stream = 0; stream < MANY; stream++) {
            struct kit_batch_spec spec = {
                .stream = stream, .first_seq = 1 + 2 * round, .count = 2, .payload_len = 15000
            };
            kit_append_batch (s->log, &spec);
            if (stream % 4 == 3)
                kit_sync (s->log);
        }
        reopen (s);
    }
    for (unsigned stream = 0; stream < MANY; stream++) {
        struct log_stream known;
        struct fm_id id = kit_stream (stream);
        assert_int_equal (log_stream_get (s->log, &id, &known), 0);
        assert_int_equal (known.last_seq, 8);
        assert_int_equal (known.first_seq, 1);
        assert_int_equal (known.epoch, 1);
        assert_int_equal (known.incarnation, 8);
        assert_int_equal (
            try_append (s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = 1, .count = 1 }),
            FM_ERR_ARGUMENT);
    }
    struct log_stream known;
    struct fm_id nobody = kit_stream (MANY);
    assert_int_equal (log_stream_get (s->log, &nobody, &known), FM_ERR_UNKNOWN);
}

static void more_unsynced_streams_than_the_table_holds_must_wait (void **state)
{
    struct log_setting *s = setting_of (state);
    s->options.streams_max = 8;
    reopen (s);
    for (unsigned stream = 0; stream < 8; stream++)
        assert_int_equal (
            try_append (s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = 1, .count = 1 }), 0);
    assert_int_equal (try_append (s->log, &(struct kit_batch_spec) { .stream = 8, .first_seq = 1, .count = 1 }),
                      FM_ERR_FULL);
    kit_sync (s->log);
    assert_int_equal (try_append (s->log, &(struct kit_batch_spec) { .stream = 8, .first_seq = 1, .count = 1 }), 0);
}

static void streams_are_listed_in_order_page_by_page (void **state)
{
    struct log_setting *s = setting_of (state);
    enum { MANY = 700 };
    for (unsigned stream = 0; stream < MANY; stream++)
        kit_append_batch (s->log,
                          &(struct kit_batch_spec) { .stream = (stream * 379) % MANY, .first_seq = 1, .count = 1 });
    struct log_stream page[33];
    struct fm_id after;
    size_t count, all = 0;
    assert_int_equal (log_stream_list (s->log, NULL, page, 33, &count), 0);
    while (count > 0) {
        for (size_t i = 0; i < count; i++, all++) {
            assert_true (all == 0 || memcmp (after.bytes, page[i].stream.bytes, ID_LEN) < 0);
            after = page[i].stream;
        }
        assert_int_equal (log_stream_list (s->log, &after, page, 33, &count), 0);
    }
    assert_int_equal (all, MANY);
}

static void each_stream_that_was_synced_is_told_once (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_stream told[10];
    size_t count;
    for (unsigned stream = 0; stream < 5; stream++)
        for (uint64_t seq = 1; seq < 10; seq++)
            kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = seq, .count = 1 });
    assert_int_equal (log_write (s->log), 0);
    assert_int_equal (log_synced_streams (s->log, told, 10, &count), 0);
    assert_int_equal (count, 0);
    assert_int_equal (log_sync (s->log, NULL), 0);
    assert_int_equal (log_synced_streams (s->log, told, 3, &count), 0);
    assert_int_equal (count, 3);
    assert_int_equal (told[0].synced_seq, 9);
    assert_int_equal (log_synced_streams (s->log, told, 10, &count), 0);
    assert_int_equal (count, 2);
    assert_int_equal (log_synced_streams (s->log, told, 10, &count), 0);
    assert_int_equal (count, 0);
    assert_int_equal (log_sync (s->log, NULL), 0);
    assert_int_equal (log_synced_streams (s->log, told, 10, &count), 0);
    assert_int_equal (count, 0);
}

/* --- Directories. */

static void a_directory_in_use_or_of_another_mesh_or_of_others_is_refused (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log *other = NULL;
    struct log_options options = s->options;
    assert_int_equal (log_open (s->directory, &options, NULL, &other), FM_ERR_IN_USE);
    log_destroy (&s->log);
    options.mesh = "production";
    assert_int_equal (log_open (s->directory, &options, NULL, &other), FM_ERR_FOREIGN);
    assert_non_null (strstr (fm_error_detail (), "production"));
    assert_int_equal (log_open ("/etc", &options, NULL, &other), FM_ERR_FOREIGN);
    options.mesh = "";
    assert_int_equal (log_open (s->directory, &options, NULL, &other), 0);
    assert_string_equal (log_mesh (other), "test");
    log_destroy (&other);
    char fresh[160];
    (void) snprintf (fresh, sizeof fresh, "%s/fresh", s->directory);
    assert_int_equal (log_open (fresh, &options, NULL, &other), FM_ERR_ARGUMENT);
    assert_null (other);
}

static void a_read_only_log_changes_nothing (void **state)
{
    struct log_setting *s = setting_of (state);
    for (uint64_t seq = 1; seq < 25; seq++)
        kit_append_batch (
            s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = 100000 });
    assert_int_equal (log_write (s->log), 0);
    struct log_options options = { .read_only = true };
    struct log *looker;
    assert_int_equal (log_open (s->directory, &options, NULL, &looker), 0);     /* beside the running one */
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 100000 };
    assert_int_equal (read_all (looker, &spec), 24);
    assert_true (log_is_read_only (looker));
    assert_int_equal (log_write (looker), FM_ERR_READ_ONLY);
    assert_int_equal (log_sync (looker, NULL), FM_ERR_READ_ONLY);
    assert_int_equal (log_retain (looker, NULL), FM_ERR_READ_ONLY);
    struct log_verify_result verified;
    assert_int_equal (log_verify (looker, NULL, NULL, NULL, &verified), 0);
    assert_int_equal (verified.damaged, 0);
    assert_int_equal (verified.facts, 24);
    log_destroy (&looker);
}

static void a_new_generation_is_counted (void **state)
{
    struct log_setting *s = setting_of (state);
    struct fm_id before, after;
    uint64_t generation;
    assert_int_equal (log_new_generation (s->directory, &s->options, &generation), FM_ERR_IN_USE);
    log_identity (s->log, &before, &generation);
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 1 });
    kit_sync (s->log);
    log_destroy (&s->log);
    assert_int_equal (log_new_generation (s->directory, &s->options, &generation), 0);
    assert_int_equal (generation, 2);
    reopen (s);
    log_identity (s->log, &after, &generation);
    assert_int_equal (generation, 2);
    assert_true (id_equal (&before, &after));
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1 };
    assert_int_equal (read_all (s->log, &spec), 1);
}

/* --- Topics. */

struct topic_sum {
    char names[400];
    uint64_t facts;
};

static void sum_topic (void *arg, struct fm_slice topic, uint64_t facts)
{
    struct topic_sum *sum = arg;
    const size_t len = strlen (sum->names);
    (void) snprintf (sum->names + len, sizeof sum->names - len, "%.*s=%llu ", (int) topic.len,
                     (const char *) topic.data,
                    (unsigned long long) facts);
    sum->facts += facts;
}

static void topics_are_counted_over_all_segments (void **state)
{
    struct log_setting *s = setting_of (state);
    for (uint64_t seq = 1; seq <= 40; seq += 4)
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1,
                                                             .first_seq = seq,
                                                             .count = 4,
                                                             .payload_len = 50000,
                                                             .topic = seq < 20 ? "b|a.x|c" : "a.x|d" });
    kit_sync (s->log);
    for (int again = 0; again < 2; again++) {
        struct topic_sum sum = { .names = "" };
        bool more;
        assert_int_equal (log_topic_each (s->log, 10, sum_topic, &sum, &more), 0);
        assert_string_equal (sum.names, "a.x=15 b=10 c=5 d=10 ");
        assert_false (more);
        sum = (struct topic_sum) { .names = "" };
        assert_int_equal (log_topic_each (s->log, 2, sum_topic, &sum, &more), 0);
        assert_string_equal (sum.names, "a.x=15 b=10 ");
        assert_true (more);
        reopen (s);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (a_new_directory_is_an_empty_log),
        CASE (what_is_synced_reads_back_the_same),
        CASE (append_rolls_when_the_record_does_not_fit),
        CASE (append_takes_only_the_next_sequence),
        CASE (two_incarnations_of_one_epoch_are_a_conflict),
        CASE (a_full_buffer_says_so_and_loses_nothing),
        CASE (a_batch_larger_than_buffer_and_segment_is_taken),
        CASE (streams_beyond_the_table_are_looked_up_in_the_segments),
        CASE (more_unsynced_streams_than_the_table_holds_must_wait),
        CASE (streams_are_listed_in_order_page_by_page),
        CASE (each_stream_that_was_synced_is_told_once),
        CASE (a_directory_in_use_or_of_another_mesh_or_of_others_is_refused),
        CASE (a_read_only_log_changes_nothing),
        CASE (a_new_generation_is_counted),
        CASE (topics_are_counted_over_all_segments),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
