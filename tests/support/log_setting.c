#include "log_setting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "error.h"
#include "factmesh.pb-c.h"

/* --- A log. */

struct log_setting *setting_of (void **state)
{
    return *state;
}

static int set_up (void **state, bool real_clock)
{
    struct log_setting *s = calloc (1, sizeof *s);
    kit_directory (s->directory);
    kit_clock_init (&s->clock);
    s->options = (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20 };
    s->options.clock = real_clock ? NULL : &s->clock.clock;
    *state = s;
    return log_open (s->directory, &s->options, NULL, &s->log);
}

int log_set_up (void **state)
{
    return set_up (state, false);
}

int log_set_up_real_clock (void **state)
{
    return set_up (state, true);
}

int log_tear_down (void **state)
{
    struct log_setting *s = *state;
    log_destroy (&s->log);
    kit_remove (s->directory);
    free (s);
    return 0;
}

struct log_recovery reopen (struct log_setting *s)
{
    struct log_recovery recovery;
    log_destroy (&s->log);
    const int rc = log_open (s->directory, &s->options, &recovery, &s->log);
    if (rc)
        fail_msg ("log_open: %d %s", rc, fm_error_detail ());
    return recovery;
}

/* --- A workload. */

struct kit_batch_spec work_spec (unsigned stream, uint64_t first_seq, size_t largest)
{
    static const char *const topics[] = { "a.b", "a.c", "d", "a.b|a.c" };
    const uint64_t x = first_seq * 2654435761u + stream * 97;
    return (struct kit_batch_spec) { .stream = stream, .first_seq = first_seq, .count = (uint32_t) (1 + x % 3),
                                     .payload_len = (size_t) (x >> 8) % (largest + 1), .topic = topics[x % 4] };
}

unsigned work_stream (const struct fm_id *id)
{
    unsigned stream = 1;
    for (; stream <= WORK_STREAMS; stream++) {
        const struct fm_id one = kit_stream (stream);
        if (id_equal (&one, id))
            break;
    }
    return stream;
}

uint64_t work_next_seq (struct log *log, unsigned stream)
{
    struct fm_id id = kit_stream (stream);
    struct log_stream known;
    return log_stream_get (log, &id, &known) == 0 ? known.last_seq + 1 : 1;
}

int work_append (struct log *log, unsigned stream, size_t largest)
{
    struct kit_batch_spec spec = work_spec (stream, work_next_seq (log, stream), largest);
    struct kit_batch k;
    uint64_t offset;
    kit_batch_make (&spec, &k);
    const int rc = log_append (log, &k.batch, &offset);
    kit_batch_release (&k);
    return rc;
}

struct work_contents work_check (struct log *log, size_t largest)
{
    struct work_contents c = { .end_offset = 1 };
    struct log_reader *r;
    struct log_item item;
    int rc;
    for (unsigned i = 0; i <= WORK_STREAMS; i++)
        c.next_seq[i] = 1;
    assert_int_equal (log_reader_new (log, &r), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        const unsigned stream = work_stream (&item.stream);
        if (item.kind == LOG_ITEM_GAP) {
            c.gaps++;
            assert_int_equal (item.reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
            if (stream > WORK_STREAMS)
                continue;
        } else
            assert_true (stream <= WORK_STREAMS);
        assert_int_equal (item.first_seq, c.next_seq[stream]);
        c.next_seq[stream] = item.end_seq;
        if (item.kind == LOG_ITEM_BATCH) {
            struct kit_batch_spec spec = work_spec (stream, item.first_seq, largest);
            assert_true (kit_item_is (&item, &spec));
            assert_true (item.offset >= c.end_offset);
            c.end_offset = item.offset + spec.count;
            c.batches++;
        }
    }
    assert_int_equal (rc, FM_ERR_END);
    log_reader_destroy (&r);
    return c;
}

void work_check_streams (struct log *log, const struct work_contents *c)
{
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        assert_int_equal (work_next_seq (log, stream), c->next_seq[stream]);
}

/* --- Segments. */

struct kit_batch_spec big_spec (uint64_t seq)
{
    static char topics[64][16];
    const uint64_t segment = (seq - 1) / 10;
    (void) snprintf (topics[segment], sizeof topics[segment], "s%u.x", (unsigned) segment % 64);
    return (struct kit_batch_spec) {
        .stream = 1, .first_seq = seq, .count = 1, .payload_len = BIG, .topic = topics[segment]
    };
}

struct kit_batch_spec small_spec (uint64_t segment)
{
    static char topics[64][16];
    (void) snprintf (topics[segment], sizeof topics[segment], "small.n%u", (unsigned) segment % 64);
    return (struct kit_batch_spec) { .stream = 10 + (unsigned) segment, .first_seq = 1, .count = 1, .payload_len = 10,
                                     .topic = topics[segment] };
}

void fill_segments (struct log_setting *s, unsigned segments)
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

struct log_item expect_next (struct log_reader *r)
{
    struct log_item item;
    const int rc = log_reader_next (r, &item);
    if (rc)
        fail_msg ("log_reader_next: %d %s", rc, fm_error_detail ());
    return item;
}

void expect_end (struct log_reader *r)
{
    struct log_item item;
    assert_int_equal (log_reader_next (r, &item), FM_ERR_END);
}

void expect_batch (struct log_reader *r, struct kit_batch_spec spec)
{
    struct log_item item = expect_next (r);
    assert_true (kit_item_is (&item, &spec));
}

void expect_gap (struct log_reader *r, const struct fm_id *stream, uint64_t first, uint64_t end, uint32_t reason)
{
    static const struct fm_id none;
    struct log_item item = expect_next (r);
    assert_int_equal (item.kind, LOG_ITEM_GAP);
    assert_true (id_equal (&item.stream, stream ? stream : &none));
    assert_int_equal (item.first_seq, first);
    assert_int_equal (item.end_seq, end);
    assert_int_equal (item.reason, reason);
}

/* --- Damage. */

uint64_t find_batch (const char *path, const struct kit_batch_spec *spec)
{
    struct kit_batch k;
    kit_batch_make (spec, &k);
    FILE *file = fopen (path, "rb");
    const size_t len = (size_t) kit_file_size (path);
    uint8_t *bytes = malloc (len);
    assert_int_equal (fread (bytes, 1, len, file), len);
    fclose (file);
    const uint8_t *at = memmem (bytes, len, k.bytes, k.len);
    assert_non_null (at);
    const uint64_t pos = (uint64_t) (at - bytes);
    free (bytes);
    kit_batch_release (&k);
    return pos;
}

void wipe (const char *path, const struct kit_batch_spec *first, const struct kit_batch_spec *last)
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
