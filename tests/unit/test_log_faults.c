/* Faults of files: whichever byte of a journal's directory flips, whichever segment is cut, lost, doubled, emptied or renamed, whichever block cannot be read: the
 * journal starts, what is handed out is what was appended, and nothing that is missing is silent. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "record.h"
#include "segment.h"

enum { LARGEST = 30000, SEGMENTS = 4 };

/* What the log held before anything happened to it. */
struct before {
    char copy[160];
    uint64_t next_seq[WORK_STREAMS + 1];
    uint64_t end_offset;
};

static void put_cursor (struct log *log, const char *value)
{
    const struct log_cursor cursor = { .name = "shop", .cursor = slice_of (value), .filters = slice_of ("a.>") };
    uint64_t ticket;
    assert_int_equal (log_cursor_put (log, &cursor, &ticket), 0);
    kit_sync (log);
}

/* Four segments of the three streams; a cursor, put anew in the last one; all synced, and marked so. */
static struct before prepare (struct log_setting *s)
{
    struct before b;
    struct log_segment_info info[SEGMENTS + 1];
    size_t count = 0;
    put_cursor (s->log, "one");
    for (unsigned i = 0; count < SEGMENTS; i++) {
        assert_int_equal (work_append (s->log, 1 + i % WORK_STREAMS, LARGEST), 0);
        if (i % 10 == 0) {
            kit_sync (s->log);
            assert_int_equal (log_segment_list (s->log, info, SEGMENTS + 1, &count), 0);
        }
    }
    put_cursor (s->log, "two");
    assert_int_equal (work_append (s->log, 1, 100), 0);
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        b.next_seq[stream] = work_next_seq (s->log, stream);
    kit_sync (s->log);
    assert_int_equal (log_mark_idle (s->log), 0);
    struct log_position position;
    log_position (s->log, &position);
    b.end_offset = position.end_offset;
    log_destroy (&s->log);
    (void) snprintf (b.copy, sizeof b.copy, "%s.copy", s->directory);
    return b;
}

struct contents {
    uint64_t batches, gaps;
    bool all_told;                          /* each stream reaches its end, or offsets behind its last fact are told as lost */
};

/* Streams that are appended after the damage. */
enum { LATER_STREAM = 50 };

static bool work_is_later (const struct fm_id *id)
{
    const struct fm_id first = kit_stream (LATER_STREAM), second = kit_stream (LATER_STREAM + 1);
    return id_equal (id, &first) || id_equal (id, &second);
}

/* Each batch is as it was appended, and a stream's sequences jump only where a gap was told. */
static struct contents check (struct log *log, const struct before *b, const char *what)
{
    struct contents c = { .all_told = true };
    uint64_t next[WORK_STREAMS + 1], told[WORK_STREAMS + 1] = { 0 }, told_offsets = 0, next_offset = 1;
    struct log_reader *r;
    struct log_item item;
    int rc;
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        next[stream] = 1;
    assert_int_equal (log_reader_new (log, &r), 0);
    assert_int_equal (log_reader_seek_offset (r, 1), 0);    /* the oldest ones that are lost are told as expired */
    while ((rc = log_reader_next (r, &item)) == 0) {
        const unsigned stream = work_stream (&item.stream);
        c.gaps += item.kind == LOG_ITEM_GAP;
        if (stream > WORK_STREAMS && item.kind == LOG_ITEM_BATCH && work_is_later (&item.stream)) {
            next_offset = item.offset + 1;
            continue;
        }
        if (stream > WORK_STREAMS) {
            if (item.kind != LOG_ITEM_GAP || item.first_seq >= item.end_seq)
                fail_msg ("%s: a batch of nobody at offset %llu", what, (unsigned long long) item.offset);
            told_offsets++;
            next_offset = item.end_seq;
            continue;
        }
        if (item.first_seq != next[stream] && (item.first_seq < next[stream] || told_offsets == told[stream]))
            fail_msg ("%s: at offset %llu stream %u goes from %llu to %llu, and nothing is told of it", what, (unsigned long long) item.offset, stream,
                      (unsigned long long) next[stream], (unsigned long long) item.first_seq);
        next[stream] = item.end_seq;
        told[stream] = told_offsets;
        if (item.kind == LOG_ITEM_BATCH) {
            /* The last one of stream 1 is small. */
            const bool last = stream == 1 && item.end_seq == b->next_seq[1];
            const struct kit_batch_spec spec = work_spec (stream, item.first_seq, last ? 100 : LARGEST);
            if (!kit_item_is (&item, &spec) || item.offset < next_offset)
                fail_msg ("%s: offset %llu is not what was appended", what, (unsigned long long) item.offset);
            next_offset = item.offset + spec.count;
            c.batches++;
        }
    }
    assert_int_equal (rc, FM_ERR_END);
    log_reader_destroy (&r);
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        c.all_told = c.all_told && (next[stream] == b->next_seq[stream] || told_offsets > told[stream]);
    return c;
}

static struct log *open_copy (const struct log_setting *s, const struct before *b, const char *what)
{
    struct log *log;
    const int rc = log_open (b->copy, &s->options, NULL, &log);
    if (rc)
        fail_msg ("%s: log_open: %d %s", what, rc, fm_error_detail ());
    return log;
}

/* --- Single bytes. */

/* The copy with this byte of a file flipped, read, and put right again. */
static struct contents flip (const struct log_setting *s, const struct before *b, const char *path, uint64_t pos)
{
    char what[64];
    (void) snprintf (what, sizeof what, "byte %llu", (unsigned long long) pos);
    kit_flip (path, (int64_t) pos);
    struct log *log = open_copy (s, b, what);
    const struct contents c = check (log, b, what);
    log_destroy (&log);
    if (kit_file_size (path) > pos)         /* else it was cut: the caller sees what that cost */
        kit_flip (path, (int64_t) pos);
    return c;
}

static void any_byte_of_a_footer_or_a_header_can_flip_and_nothing_is_lost (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct before b = prepare (s);
    struct log_segment_info info[SEGMENTS];
    size_t count;
    char path[256];
    kit_copy (s->directory, b.copy);
    struct log *log = open_copy (s, &b, "as it was");
    const struct contents whole = check (log, &b, "as it was");
    assert_int_equal (whole.gaps, 0);
    assert_int_equal (log_segment_list (log, info, SEGMENTS, &count), 0);
    log_destroy (&log);
    for (uint64_t number = 1; number < SEGMENTS; number += SEGMENTS - 2) {
        kit_segment_path (b.copy, number, path);
        const uint64_t len = kit_file_size (path);
        const int fd = open (path, O_RDONLY);
        struct segment_header h;
        struct segment_trailer t;
        assert_int_equal (segment_read_header (&fs_real, fd, &h), 0);
        assert_int_equal (segment_read_trailer (&fs_real, fd, &h, &t), 0);
        close (fd);
        assert_true (len - t.records_end > 192 + 256 && len - t.records_end < 4096);
        for (uint64_t pos = t.records_end; pos < len; pos += 17) {
            const struct contents c = flip (s, &b, path, pos);
            assert_true (c.batches == whole.batches && c.gaps == 0);
        }
        for (uint64_t pos = 0; pos < 256; pos += 31) {
            const struct contents c = flip (s, &b, path, pos);
            assert_true (c.batches == whole.batches && c.gaps == 0);
        }
    }
    kit_remove (b.copy);
    (void) reopen (s);
}

/* It is synced, and the mark behind it says so: what it held is told to be lost, or comes back. */
static void any_byte_of_the_last_synced_record_can_flip_and_it_is_told (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct before b = prepare (s);
    char path[256];
    kit_segment_path (s->directory, SEGMENTS, path);
    const struct kit_batch_spec last = work_spec (1, b.next_seq[1] - 1, 100);
    struct kit_batch_spec spec = last;
    for (uint64_t first = b.next_seq[1] - 3; first < b.next_seq[1]; first++)    /* it has one to three facts */
        if (work_spec (1, first, 100).count == b.next_seq[1] - first)
            spec = work_spec (1, first, 100);
    const uint64_t body = find_batch (path, &spec);
    struct kit_batch k;
    kit_batch_make (&spec, &k);
    const uint64_t len = record_len ((uint32_t) k.len);
    kit_batch_release (&k);
    const uint64_t start = body - RECORD_HEADER_LEN;
    for (uint64_t pos = start; pos < start + len; pos += pos < start + 24 ? 1 : 7) {
        kit_copy (s->directory, b.copy);
        char copied[256];
        kit_segment_path (b.copy, SEGMENTS, copied);
        const struct contents c = flip (s, &b, copied, pos);
        assert_true (c.all_told && c.gaps > 0);
        kit_remove (b.copy);
    }
    (void) reopen (s);
}

/* A cursor that is damaged is the one of before, or none: never another. */
static void any_byte_of_a_cursors_record_can_flip (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct before b = prepare (s);
    char path[256], copied[256];
    uint8_t *bytes = malloc (4 << 20);
    kit_segment_path (s->directory, SEGMENTS, path);
    const int fd = open (path, O_RDONLY);
    const ssize_t len = read (fd, bytes, 4 << 20);
    close (fd);
    const uint8_t *found = memmem (bytes, (size_t) len, "shoptwo", 7);
    assert_non_null (found);
    const uint64_t at = (uint64_t) (found - bytes);
    free (bytes);
    unsigned one = 0;
    const uint64_t start = at - 24 - RECORD_HEADER_LEN;
    for (uint64_t pos = start; pos < at + 10; pos += pos < start + 24 ? 1 : 7) {
        kit_copy (s->directory, b.copy);
        kit_segment_path (b.copy, SEGMENTS, copied);
        kit_flip (copied, (int64_t) pos);
        struct log *log = open_copy (s, &b, "a cursor's record");
        const struct contents c = check (log, &b, "a cursor's record");
        assert_true (c.all_told);
        void *buffer = NULL;
        size_t size = 0;
        struct log_cursor got;
        assert_int_equal (log_cursor_get (log, "shop", &buffer, &size, &got), 0);
        assert_true (slice_equal (got.cursor, slice_of ("one")));
        one++;
        free (buffer);
        log_destroy (&log);
        kit_remove (b.copy);
    }
    assert_true (one > 30);
    (void) reopen (s);
}

/* --- Whole segments. */

static void cut_to_nothing (const char *directory, uint64_t number)
{
    char path[256];
    kit_segment_path (directory, number, path);
    kit_truncate (path, 0);
}

static void cut_in_the_header (const char *directory, uint64_t number)
{
    char path[256];
    kit_segment_path (directory, number, path);
    kit_truncate (path, 100);
}

static void cut_in_the_middle (const char *directory, uint64_t number)
{
    char path[256];
    kit_segment_path (directory, number, path);
    kit_truncate (path, kit_file_size (path) / 2);
}

static void filled_with_zeros (const char *directory, uint64_t number)
{
    char path[256];
    kit_segment_path (directory, number, path);
    const uint64_t len = kit_file_size (path);
    kit_truncate (path, 0);
    kit_truncate (path, len);
}

static void missing (const char *directory, uint64_t number)
{
    char path[256];
    kit_segment_path (directory, number, path);
    assert_int_equal (unlink (path), 0);
}

static void copy_segment (const char *directory, uint64_t from, uint64_t to)
{
    char paths[2][256], command[600];
    kit_segment_path (directory, from, paths[0]);
    kit_segment_path (directory, to, paths[1]);
    (void) snprintf (command, sizeof command, "cp %s %s", paths[0], paths[1]);
    assert_int_equal (system (command), 0);
}

static void doubled_as_the_newest (const char *directory, uint64_t number)
{
    copy_segment (directory, number, SEGMENTS + 1);
}

static void doubled_over_the_next (const char *directory, uint64_t number)
{
    copy_segment (directory, number, number % SEGMENTS + 1);
}

static void renamed_beyond_the_newest (const char *directory, uint64_t number)
{
    copy_segment (directory, number, SEGMENTS + 7);
    missing (directory, number);
}

static void exchanged_with_the_next (const char *directory, uint64_t number)
{
    copy_segment (directory, number, SEGMENTS + 9);
    copy_segment (directory, number % SEGMENTS + 1, number);
    copy_segment (directory, SEGMENTS + 9, number % SEGMENTS + 1);
    missing (directory, SEGMENTS + 9);
}

static void any_segment_can_be_cut_lost_doubled_emptied_or_renamed (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct before b = prepare (s);
#define FAULT(name) { #name, name }
    static const struct fault {
        const char *name;
        void (*apply) (const char *directory, uint64_t number);
    } faults[] = { FAULT (cut_to_nothing), FAULT (cut_in_the_header), FAULT (cut_in_the_middle), FAULT (filled_with_zeros), FAULT (missing),
                   FAULT (doubled_as_the_newest), FAULT (doubled_over_the_next), FAULT (renamed_beyond_the_newest), FAULT (exchanged_with_the_next) };
#undef FAULT
    static const uint64_t numbers[] = { 1, 2, SEGMENTS };
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++)
        for (size_t n = 0; n < 3; n++) {
            char what[80];
            (void) snprintf (what, sizeof what, "segment %u %s", (unsigned) numbers[n], faults[f].name);
            kit_copy (s->directory, b.copy);
            faults[f].apply (b.copy, numbers[n]);
            for (int again = 0; again < 2; again++) {
                struct log *log = open_copy (s, &b, what);
                const struct contents c = check (log, &b, what);
                /* Whether there was a last segment at all nothing in the directory tells: its publishers do. */
                const bool unknowable = numbers[n] == SEGMENTS && (faults[f].apply == missing || faults[f].apply == cut_in_the_middle);
                if (!c.all_told && !unknowable)
                    fail_msg ("%s: facts are missing at the end, and nothing is told of it", what);
                struct log_verify_result verified;
                assert_int_equal (log_verify (log, NULL, NULL, NULL, &verified), 0);
                /* Life goes on, and no offset is given twice. */
                struct log_position position;
                log_position (log, &position);
                assert_true (unknowable || position.end_offset >= b.end_offset);
                kit_append_batch (log, &(struct kit_batch_spec) { .stream = LATER_STREAM + (unsigned) again, .first_seq = 1, .count = 1 });
                kit_sync (log);
                log_destroy (&log);
            }
            kit_remove (b.copy);
        }
    (void) reopen (s);
}

/* Footers are cut off: the same streams, topics and records come back from the records. */
static void add_topic (void *arg, struct fm_slice topic, uint64_t facts)
{
    uint64_t *sum = arg;
    *sum = *sum * 31 + facts * 7 + topic.len;
}

static void all_indexes_can_be_deleted (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct before b = prepare (s);
    uint64_t sums[2] = { 0, 0 }, offsets[2];
    for (int round = 0; round < 2; round++) {
        kit_copy (s->directory, b.copy);
        for (uint64_t number = 1; round == 1 && number < SEGMENTS; number++) {
            char path[256];
            struct segment_header h;
            struct segment_trailer t;
            kit_segment_path (b.copy, number, path);
            const int fd = open (path, O_RDONLY);
            assert_int_equal (segment_read_header (&fs_real, fd, &h), 0);
            assert_int_equal (segment_read_trailer (&fs_real, fd, &h, &t), 0);
            close (fd);
            kit_truncate (path, t.records_end);
        }
        struct log *log = open_copy (s, &b, "without indexes");
        const struct contents c = check (log, &b, "without indexes");
        assert_true (c.all_told && c.gaps == 0);
        bool more;
        assert_int_equal (log_topic_each (log, 100, add_topic, &sums[round], &more), 0);
        struct log_reader *r;
        const struct fm_id id = kit_stream (2);
        assert_int_equal (log_reader_new (log, &r), 0);
        assert_int_equal (log_reader_seek_seq (r, &id, b.next_seq[2] / 2, &offsets[round]), 0);
        log_reader_destroy (&r);
        log_destroy (&log);
        kit_remove (b.copy);
    }
    assert_true (sums[0] == sums[1] && offsets[0] == offsets[1]);
    (void) reopen (s);
}

/* --- Blocks that cannot be read. */

static void a_block_that_cannot_be_read_is_a_hole_and_stops_nothing (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct before b = prepare (s);
    for (uint64_t number = 1; number <= SEGMENTS; number += SEGMENTS - 1)
        for (uint64_t pos = 0; pos < 600000; pos += 150000) {
            char path[256];
            struct fail_fs *f = fail_fs_new ();
            kit_copy (s->directory, b.copy);
            kit_segment_path (b.copy, number, path);
            fail_fs_unreadable (f, path, pos / 4096 * 4096, 4096);
            s->options.fs = fail_fs_seam (f);
            struct log *log = open_copy (s, &b, "an unreadable block");
            const struct contents c = check (log, &b, "an unreadable block");
            assert_true (c.all_told);
            if (number == 1)
                assert_int_equal (c.gaps > 0, pos > 0); /* the header has two more copies */
            assert_int_equal (work_append (log, 2, LARGEST), 0);
            kit_sync (log);
            log_destroy (&log);
            s->options.fs = NULL;
            fail_fs_destroy (&f);
            kit_remove (b.copy);
        }
    (void) reopen (s);
}

/* Each read fails once, at a start and while all is read: an error or a second try, but never wrong contents, and nothing is lost on disk. */
static void a_read_that_fails_once_costs_nothing (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct before b = prepare (s);
    unsigned failed_opens = 0;
    kit_copy (s->directory, b.copy);
    for (unsigned long n = 1;; n++) {
        struct fail_fs *f = fail_fs_new ();
        s->options.fs = fail_fs_seam (f);
        fail_fs_fail (f, FAIL_READ, n, -EIO);
        struct log *log;
        const int rc = log_open (b.copy, &s->options, NULL, &log);
        if (rc == 0) {
            const struct contents c = check (log, &b, "one failed read");
            assert_true (c.all_told);
            log_destroy (&log);
        } else
            assert_int_equal (rc, -EIO);
        failed_opens += rc != 0;
        const bool happened = fail_fs_happened (f);
        s->options.fs = NULL;
        fail_fs_destroy (&f);
        log = open_copy (s, &b, "after a failed read");
        const struct contents after = check (log, &b, "after a failed read");
        assert_true (after.all_told && after.gaps == 0);
        log_destroy (&log);
        if (!happened)
            break;
    }
    print_message ("%u starts refused\n", failed_opens);
    kit_remove (b.copy);
    (void) reopen (s);
}

/* --- A payload that looks like a record. */

static void a_payload_never_poses_as_a_record (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    uint8_t *bytes = malloc (1 << 20);
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 100 });
    kit_sync (s->log);
    kit_segment_path (s->directory, 1, path);
    int fd = open (path, O_RDONLY);
    const ssize_t len = read (fd, bytes, 1 << 20);
    close (fd);
    const struct kit_batch_spec first = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 100 };
    const uint64_t at = find_batch (path, &first) - RECORD_HEADER_LEN;
    struct kit_batch k;
    kit_batch_make (&first, &k);
    const size_t whole = (size_t) record_len ((uint32_t) k.len);
    kit_batch_release (&k);
    assert_true (at + whole <= (uint64_t) len);

    /* A batch whose payload is a record made for just that place, all but the segment's salt; and then the record that is there, again and again, at
     * each alignment. */
    enum { COPIES = 64, FORGED_MAX = 1024 };
    const size_t payload_len = FORGED_MAX + COPIES * (whole + 1);
    uint64_t offset;
    kit_batch_make (&(struct kit_batch_spec) { .stream = 2, .first_seq = 1, .count = 1, .payload_len = payload_len }, &k);
    for (size_t i = 0; i < COPIES; i++)     /* the payload comes last */
        memcpy (k.bytes + k.len - payload_len + FORGED_MAX + i * (whole + 1), bytes + at, whole);
    const uint64_t payload_pos = at + whole + RECORD_HEADER_LEN + (k.len - payload_len), forged_pos = (payload_pos + 7) / 8 * 8;
    struct kit_batch forged;
    kit_batch_make (&(struct kit_batch_spec) { .stream = 3, .first_seq = 9, .count = 1, .payload_len = 10 }, &forged);
    const struct record r = { .kind = RECORD_BATCH, .body_len = (uint32_t) forged.len, .count = 1, .offset = 2, .stream = forged.batch.stream,
                              .first_seq = 9, .epoch = 1, .incarnation = 8 };
    uint8_t *p = k.bytes + k.len - payload_len + (forged_pos - payload_pos);
    assert_true (record_len (r.body_len) + 8 < FORGED_MAX);
    record_encode (p, &r);
    memcpy (p + RECORD_HEADER_LEN, forged.bytes, forged.len);
    record_stamp (p, 0, forged_pos, 0);
    kit_batch_release (&forged);
    assert_int_equal (log_append (s->log, &k.batch, &offset), 0);
    kit_batch_release (&k);
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 3, .first_seq = 1, .count = 1 });
    kit_sync (s->log);
    assert_int_equal (log_mark_idle (s->log), 0);

    /* The header in front of it is lost: who looks for the next record meets the payload. */
    kit_flip (path, (int64_t) (at + whole));
    for (int again = 0; again < 2; again++) {
        struct log_reader *reader;
        struct log_item item;
        uint64_t seen[4] = { 0 }, gaps = 0;
        assert_int_equal (log_reader_new (s->log, &reader), 0);
        while (log_reader_next (reader, &item) == 0) {
            gaps += item.kind == LOG_ITEM_GAP;
            if (item.kind == LOG_ITEM_BATCH)
                seen[work_stream (&item.stream) < 4 ? work_stream (&item.stream) : 0]++;
        }
        log_reader_destroy (&reader);
        assert_true (seen[1] == 1 && seen[2] == 0 && seen[3] == 1 && seen[0] == 0);
        assert_int_equal (gaps, 1);
        reopen (s);
    }
    free (bytes);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (any_byte_of_a_footer_or_a_header_can_flip_and_nothing_is_lost),
        CASE (any_byte_of_the_last_synced_record_can_flip_and_it_is_told),
        CASE (any_byte_of_a_cursors_record_can_flip),
        CASE (any_segment_can_be_cut_lost_doubled_emptied_or_renamed),
        CASE (all_indexes_can_be_deleted),
        CASE (a_block_that_cannot_be_read_is_a_hole_and_stops_nothing),
        CASE (a_read_that_fails_once_costs_nothing),
        CASE (a_payload_never_poses_as_a_record),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
