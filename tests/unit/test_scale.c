/* Scale: what a journal's log costs with very many topics and streams, and after a long life: bounded, and measured. The figures are printed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "cursor.h"
#include "fold.h"

/* Sanitizers keep freed memory, and have shadows of their own. */
#ifdef __SANITIZE_ADDRESS__
static const bool memory_counts = false;
#else
static const bool memory_counts = true;
#endif

static size_t resident_kb (void)
{
    FILE *file = fopen ("/proc/self/statm", "r");
    unsigned long size = 0, resident = 0;
    assert_non_null (file);
    assert_int_equal (fscanf (file, "%lu %lu", &size, &resident), 2);
    fclose (file);
    return resident * (size_t) sysconf (_SC_PAGESIZE) / 1024;
}

static double now_ms (void)
{
    struct timespec t;
    (void) clock_gettime (CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec * 1e3 + (double) t.tv_nsec / 1e6;
}

/* --- A file system that counts what is read. */

static uint64_t bytes_read;

static ssize_t counting_pread (void *context, int fd, void *buffer, size_t len, uint64_t pos)
{
    const ssize_t n = fs_real.pread (context, fd, buffer, len, pos);
    bytes_read += n > 0 ? (uint64_t) n : 0;
    return n;
}

/* Close it and open it: how long, and how much was read? */
static void restart (struct log_setting *s, double *ret_ms, uint64_t *ret_bytes)
{
    struct fs counting = fs_real;
    counting.pread = counting_pread;
    const struct fs *before = s->options.fs;
    s->options.fs = &counting;
    log_destroy (&s->log);
    bytes_read = 0;
    const double start = now_ms ();
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    *ret_ms = now_ms () - start;
    *ret_bytes = bytes_read;
    log_destroy (&s->log);
    s->options.fs = before;
    (void) reopen (s);
}

static void a_start_reads_the_last_segment_and_not_the_log (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_position position;
    double ms[2];
    uint64_t bytes[2], seq = 1;
    for (int round = 0; round < 2; round++) {
        for (unsigned segments = 0; segments < (round == 0 ? 4u : 60u); segments++, seq++) {
            kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = 900000 });
            kit_sync (s->log);
        }
        restart (s, &ms[round], &bytes[round]);
        log_position (s->log, &position);
        print_message ("a log of %.0f MB: start %.1f ms, %.1f kB read\n", (double) position.bytes / 1e6, ms[round], (double) bytes[round] / 1e3);
    }
    assert_true (bytes[1] < bytes[0] + 100000);
    assert_int_equal (position.end_offset, seq);
}

/* The topic's only fact, which is in a batch with its neighbours'. */
static void expect_one_batch (struct log *log, unsigned number)
{
    char topic[32];
    struct log_reader *r;
    struct log_item item;
    unsigned found = 0;
    (void) snprintf (topic, sizeof topic, "t%u.x", number);
    const struct fm_slice filter = slice_of (topic);
    assert_int_equal (log_reader_new (log, &r), 0);
    assert_int_equal (log_reader_filter (r, NULL, &filter, 1), 0);
    while (log_reader_next (r, &item) == 0)
        if (item.bytes.len) {
            assert_true (item.first_seq <= number + 1 && number + 1 < item.end_seq);
            found++;
        }
    assert_int_equal (found, 1);
    log_reader_destroy (&r);
}

static void a_hundred_thousand_topics_cost_bounded_memory (void **state)
{
    struct log_setting *s = setting_of (state);
    enum { TOPICS = 100000, PER_BATCH = 16 };
    const size_t before = resident_kb ();
    char topic[32];
    for (unsigned i = 0; i < TOPICS; i += PER_BATCH) {
        char topics[PER_BATCH * sizeof topic];
        size_t len = 0;
        for (unsigned k = 0; k < PER_BATCH; k++) {
            (void) snprintf (topic, sizeof topic, "t%u.x", i + k);
            len += (size_t) snprintf (topics + len, sizeof topics - len, "%s%s", k ? "|" : "", topic);
        }
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = i + 1, .count = PER_BATCH, .payload_len = 10, .topic = topics });
        if (i % 10000 == 0)
            kit_sync (s->log);
    }
    kit_sync (s->log);
    const size_t grown = resident_kb () - before;
    double ms;
    uint64_t bytes;
    restart (s, &ms, &bytes);
    print_message ("100000 topics: %zu kB, start %.1f ms\n", grown, ms);
    if (memory_counts)
        assert_true (grown < 64 * 1024);
    /* Any of them is found by its filter, in a segment that has more of them than its footer lists, too; and nothing else is. */
    const unsigned looked_for[] = { 0, 5000, TOPICS / 2, TOPICS - 1 };
    for (size_t i = 0; i < sizeof looked_for / sizeof *looked_for; i++)
        expect_one_batch (s->log, looked_for[i]);
}

/* The streams [first, end) with one fact each more. */
static void turn (struct log_setting *s, unsigned first, unsigned end, uint64_t seq)
{
    /* One batch for all: the log goes by what it was told of its stream, not by its bytes. */
    struct kit_batch k;
    uint64_t offset;
    kit_batch_make (&(struct kit_batch_spec) { .stream = first, .first_seq = seq, .count = 1, .payload_len = 10 }, &k);
    for (unsigned stream = first; stream < end; stream++) {
        k.batch.stream = kit_stream (stream);
        assert_int_equal (log_append (s->log, &k.batch, &offset), 0);
        if (stream % 5000 == 0)
            kit_sync (s->log);
    }
    kit_batch_release (&k);
    kit_sync (s->log);
}

static int by_stream (const void *a, const void *b)
{
    const struct fold_position *x = a, *y = b;
    return memcmp (x->stream.bytes, y->stream.bytes, ID_LEN);
}

/* A few more than the table holds: each new one beyond that costs a look into every footer, which is why it is not 100,000 here. */
static void ended_streams_cost_bounded_memory_and_fold_into_a_cursors_base (void **state)
{
    struct log_setting *s = setting_of (state);
    enum { ENDED = 62000, LIVE = 3600, LIVE_FIRST = 200000 };
    const size_t before = resident_kb ();
    turn (s, 1, ENDED + 1, 1);
    for (uint64_t seq = 1; seq <= 3; seq++)
        turn (s, LIVE_FIRST, LIVE_FIRST + LIVE, seq);
    const size_t grown = resident_kb () - before;
    double ms;
    uint64_t bytes;
    restart (s, &ms, &bytes);

    /* One that ended first of all fell out of the table, and is known all the same. */
    const struct fm_id first = kit_stream (1), live = kit_stream (LIVE_FIRST);
    struct log_stream known;
    const double start = now_ms ();
    assert_int_equal (log_stream_get (s->log, &first, &known), 0);
    assert_int_equal (known.last_seq, 1);
    const double look_ms = now_ms () - start;
    assert_int_equal (log_stream_get (s->log, &live, &known), 0);
    assert_int_equal (known.last_seq, 3);

    /* A cursor of who has done it all: the base takes the place of all positions but those of the last turn that is not done. */
    struct fold_positions positions = { .items = calloc (CURSOR_POSITIONS_MAX, sizeof *positions.items), .count = CURSOR_POSITIONS_MAX };
    for (unsigned i = 0; i < CURSOR_POSITIONS_MAX; i++)
        positions.items[i] = (struct fold_position) { .stream = kit_stream (i < LIVE ? LIVE_FIRST + i : i - LIVE + 1), .seq = i < LIVE ? 3 : 1 };
    qsort (positions.items, positions.count, sizeof *positions.items, by_stream);
    struct log_position position;
    log_position (s->log, &position);
    fold_trim (&positions, s->log, position.end_offset);
    print_message ("65600 streams: %zu kB, start %.1f ms (%.1f MB read), a forgotten one found in %.2f ms, cursor of %zu positions\n", grown, ms,
                   (double) bytes / 1e6, look_ms, positions.count);
    assert_int_equal (positions.count, 0);
    fold_positions_release (&positions);
    if (memory_counts)
        assert_true (grown < 128 * 1024);
    assert_true (bytes < 64 << 20);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (a_start_reads_the_last_segment_and_not_the_log),
        CASE (a_hundred_thousand_topics_cost_bounded_memory),
        CASE (ended_streams_cost_bounded_memory_and_fold_into_a_cursors_base),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
