/* hospital: what tests of verifying and repairing a log share: a directory that is damaged on purpose beside whole ones, where its records lie, what verify finds,
 * and what a repair tells. cmocka's state is a struct hospital. */

#ifndef FM_TESTS_HOSPITAL_H
#define FM_TESTS_HOSPITAL_H

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "log_repair.h"
#include "segment_scan.h"

enum { LARGEST = 300, BATCHES = 600, PER_SEGMENT_BATCHES = 130, FOUND_MAX = 64 };

/* A directory that is damaged, one that is not, and a third that recorded the same facts in another order. */
struct hospital {
    char damaged[128], whole[128], other[128];
};

static inline struct log_options options_of (const struct fs *fs)
{
    return (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 1 << 20, .streams_max = 64, .fs = fs };
}

/* The streams take turns; `other`: in another order, and with other segments. Segments are cut by age: small ones. */
static inline void record_work (const char *directory, bool other)
{
    struct kit_clock clock;
    struct log_options options = options_of (NULL);
    struct log *log = NULL;
    kit_clock_init (&clock);
    options.clock = &clock.clock;
    options.segment_age_ms = 1000;
    assert_int_equal (log_open (directory, &options, NULL, &log), 0);
    for (int i = 0; i < BATCHES; i++) {
        const int turn = other ? i / 7 : i;
        assert_int_equal (work_append (log, 1 + (unsigned) turn % WORK_STREAMS, LARGEST), 0);
        if (i % 10 == 9)
            kit_sync (log);
        if (i % (other ? 400 : PER_SEGMENT_BATCHES) == 0)
            clock.now_ns += UINT64_C (1000000000);
        if (i % 100 == 99)
            assert_int_equal (log_cursor_put (log, &(struct log_cursor) { .name = "c", .cursor = slice ("", 0) }, &(uint64_t) { 0 }), 0);
    }
    kit_sync (log);
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
}

static inline int set_up (void **state)
{
    struct hospital *h = calloc (1, sizeof *h);
    (void) mallopt (M_MMAP_THRESHOLD, 128 << 10);   /* thousands of logs are opened: their tables are then not cleared twice */
    kit_directory (h->damaged);
    kit_directory (h->whole);
    kit_directory (h->other);
    record_work (h->whole, false);
    record_work (h->other, true);
    *state = h;
    return 0;
}

static inline int tear_down (void **state)
{
    struct hospital *h = *state;
    kit_remove (h->damaged);
    kit_remove (h->whole);
    kit_remove (h->other);
    free (h);
    return 0;
}

/* The damaged directory is as whole as the other again. */
static inline int begin (void **state)
{
    struct hospital *h = *state;
    kit_remove (h->damaged);
    kit_copy (h->whole, h->damaged);
    return 0;
}

static inline struct log *open_log (const char *directory, bool read_only, const struct fs *fs)
{
    struct log_options options = options_of (fs);
    options.read_only = read_only;
    struct log *log = NULL;
    const int rc = log_open (directory, &options, NULL, &log);
    if (rc)
        fail_msg ("log_open: %d %s", rc, fm_error_detail ());
    return log;
}

/* --- Looking. */

struct found {
    struct log_damage items[FOUND_MAX];
    size_t count;
};

static inline void on_damage (void *arg, const struct log_damage *d)
{
    struct found *f = arg;
    assert_true (f->count < FOUND_MAX);
    f->items[f->count++] = *d;
}

static inline struct found find (const char *directory)
{
    struct found f = { .count = 0 };
    struct log_verify_result result;
    struct log *log = open_log (directory, true, NULL);
    assert_int_equal (log_verify (log, on_damage, NULL, &f, &result), 0);
    assert_int_equal (result.damaged, f.count);
    log_destroy (&log);
    return f;
}

/* Every fact in both directories is the same, at the same offset; `gaps` of them are gaps in the one that was damaged. */
static inline struct work_contents contents (const char *directory)
{
    struct log *log = open_log (directory, true, NULL);
    struct work_contents c = work_check (log, LARGEST);
    log_destroy (&log);
    return c;
}

static inline void expect_same_places (const char *a, const char *b)
{
    struct log *one = open_log (a, true, NULL), *two = open_log (b, true, NULL);
    struct log_reader *p, *q;
    struct log_item x, y;
    int rc;
    assert_int_equal (log_reader_new (one, &p), 0);
    assert_int_equal (log_reader_new (two, &q), 0);
    while ((rc = log_reader_next (p, &x)) == 0) {
        assert_int_equal (log_reader_next (q, &y), 0);
        assert_int_equal (x.kind, LOG_ITEM_BATCH);
        assert_int_equal (x.offset, y.offset);
        assert_true (id_equal (&x.stream, &y.stream));
        assert_true (slice_equal (x.bytes, y.bytes));
    }
    assert_int_equal (rc, FM_ERR_END);
    assert_int_equal (log_reader_next (q, &y), FM_ERR_END);
    log_reader_destroy (&p);
    log_reader_destroy (&q);
    log_destroy (&one);
    log_destroy (&two);
}

/* --- Where things lie, as the records say. */

struct place {
    uint64_t pos, end_pos;
    struct record record;
};

/* The records of a segment that have facts, in order. */
static inline size_t places_of (const char *directory, uint64_t number, struct place *places, size_t max)
{
    struct log *log = open_log (directory, true, NULL);
    struct segment_scan scan = { .fd = -1 };
    struct segment_header h;
    struct segment_trailer t;
    size_t count = 0;
    char path[256];
    kit_segment_path (directory, number, path);
    const int dir = fs_real.open_dir (NULL, directory, false);
    const int segments = fs_real.open (NULL, dir, "segments", 0, 0);
    int fd;
    assert_int_equal (segment_open_read (&fs_real, segments, number, &fd, &h), 0);
    const bool sealed = segment_read_trailer (&fs_real, fd, &h, &t) == 0;
    assert_int_equal (scan_start (&scan, &fs_real, fd, record_seed (h.salt), h.snapshot_end, sealed ? t.records_end : kit_file_size (path)), 0);
    int rc;
    while ((rc = scan_next (&scan)) != FM_ERR_END && count < max)
        if (rc == 0 && scan.record.kind == RECORD_BATCH)
            places[count++] = (struct place) { scan.pos, scan.next_pos, scan.record };
    scan_release (&scan);
    close (fd);
    close (segments);
    close (dir);
    log_destroy (&log);
    return count;
}

static inline void wipe_bytes (const char *path, uint64_t pos, uint64_t end)
{
    FILE *file = fopen (path, "r+b");
    assert_non_null (file);
    assert_int_equal (fseek (file, (long) pos, SEEK_SET), 0);
    for (; pos < end; pos++)
        fputc (0, file);
    fclose (file);
}

/* --- Repairing. */

struct report {
    uint64_t refetched, left, remade;
    bool reordered;
};

static inline void on_told (void *arg, const struct repair_told *t)
{
    struct report *r = arg;
    const uint64_t facts = t->end_seq - t->first_seq;
    r->refetched += t->outcome == REPAIR_REFETCHED ? facts : 0;
    r->left += t->outcome == REPAIR_LEFT ? facts : 0;
    r->remade += t->outcome == REPAIR_REMADE;
    r->reordered |= t->reordered;
}

static inline struct report repair (const char *directory, const char *from, bool dry_run)
{
    struct report report = { 0 };
    struct log *other = from ? open_log (from, true, NULL) : NULL;
    const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
    const struct repair_options options = { .source = from ? &source : NULL, .told = on_told, .arg = &report };
    struct repair_result result;
    struct log *log = open_log (directory, dry_run, NULL);
    const int rc = log_repair (log, &options, &result);
    if (rc)
        fail_msg ("log_repair: %d %s", rc, fm_error_detail ());
    assert_int_equal (result.refetched, report.refetched);
    assert_int_equal (result.left, report.left);
    log_destroy (&log);
    log_destroy (&other);
    return report;
}

static inline void expect_whole (const char *directory, const struct hospital *h)
{
    const struct found f = find (directory);
    if (f.count)
        fail_msg ("still damaged: %s of segment %llu at %llu to %llu", f.items[0].what, (unsigned long long) f.items[0].segment,
                  (unsigned long long) f.items[0].first_pos, (unsigned long long) f.items[0].end_pos);
    assert_int_equal (contents (directory).gaps, 0);
    expect_same_places (directory, h->whole);
}

/* Nothing is found any more, nothing is missing, and the stream table says so too. */
static inline void expect_mended (const struct hospital *h)
{
    assert_int_equal (find (h->damaged).count, 0);
    const struct work_contents c = contents (h->damaged);
    assert_int_equal (c.gaps, 0);
    assert_int_equal (c.end_offset, contents (h->whole).end_offset);
    struct log *log = open_log (h->damaged, false, NULL);
    work_check_streams (log, &c);
    log_destroy (&log);
}

#endif
