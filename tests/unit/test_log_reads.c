/* The log where less can be read than its indexes and names promise: reads that fail at a start and while a stream is sought, segments of newer versions, footers
 * that are lost under a reader, segments that are gone when a forgotten stream is looked up. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"
#include "checksum.h"
#include "cookie.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "recover.h"
#include "segment.h"
#include "segment_scan.h"

static void expect_detail (const char *part)
{
    if (!strstr (fm_error_detail (), part))
        fail_msg ("'%s' does not say '%s'", fm_error_detail (), part);
}

static void read_at (const char *path, uint64_t pos, void *bytes, size_t len)
{
    const int fd = open (path, O_RDONLY);
    assert_true (fd >= 0);
    assert_int_equal (pread (fd, bytes, len, (off_t) pos), (ssize_t) len);
    close (fd);
}

static void write_at (const char *path, uint64_t pos, const void *bytes, size_t len)
{
    const int fd = open (path, O_WRONLY);
    assert_true (fd >= 0);
    assert_int_equal (pwrite (fd, bytes, len, (off_t) pos), (ssize_t) len);
    close (fd);
}

/* --- Starts. */

/* Not damage, but a disk that does not answer now: a start does not give anything up because of it. */
static void a_start_that_cannot_read_now_says_so_and_the_next_one_has_everything (void **state)
{
    struct log_setting *s = setting_of (state);
    fill_segments (s, 4);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    log_destroy (&s->log);
    unsigned refused = 0;
    bool happened = true;
    for (unsigned long n = 1; happened; n++) {
        fail_fs_fail (f, FAIL_READ, n, -ENXIO);
        const int rc = log_open (s->directory, &s->options, NULL, &s->log);
        happened = fail_fs_happened (f);
        fail_fs_fail (f, FAIL_READ, 0, 0);
        if (rc) {
            assert_int_equal (rc, -ENXIO);
            expect_detail ("No such device or address");
            refused++;
        }
        reopen (s);
        struct log_reader *r;
        assert_int_equal (log_reader_new (s->log, &r), 0);
        for (int i = 0; i < 4 * PER_SEGMENT; i++)
            assert_int_equal (expect_next (r).kind, LOG_ITEM_BATCH);
        expect_end (r);
        log_reader_destroy (&r);
        log_destroy (&s->log);
    }
    assert_true (refused >= 5);
    s->options.fs = NULL;
    reopen (s);
    fail_fs_destroy (&f);
}

/* The header, at this place of the file, says that a newer version wrote it; its sum fits. */
static void make_newer (const char *path, uint64_t pos)
{
    enum { AT_MAJOR = 8 };
    uint8_t header[SEGMENT_HEADER_LEN];
    read_at (path, pos, header, sizeof header);
    bytes_put_u32le (header + AT_MAJOR, SEGMENT_MAJOR + 1);
    bytes_put_u64le (header + SEGMENT_HEADER_LEN - 8, checksum (header, SEGMENT_HEADER_LEN - 8));
    write_at (path, pos, header, sizeof header);
}

static void a_last_segment_of_a_newer_version_is_left_alone (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    fill_segments (s, 2);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 3, path);
    if (access (path, F_OK) != 0)
        kit_segment_path (s->directory, 2, path);
    make_newer (path, 0);
    make_newer (path, SEGMENT_HEADER_COPY_POS);
    uint8_t before[SEGMENT_RECORDS_POS], after[SEGMENT_RECORDS_POS];
    read_at (path, 0, before, sizeof before);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), FM_ERR_NEWER);
    expect_detail ("has segments of a newer version of factmesh: use that one");
    read_at (path, 0, after, sizeof after);
    assert_memory_equal (before, after, sizeof before);
}

static void a_log_that_is_looked_at_and_has_no_header_left_says_which (void **state)
{
    static const uint8_t zeros[SEGMENT_RECORDS_POS];
    struct log_setting *s = setting_of (state);
    char path[256];
    struct log *looker = NULL;
    const struct log_options looking = { .read_only = true };
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 1 });
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    write_at (path, 0, zeros, sizeof zeros);
    assert_int_equal (log_open (s->directory, &looking, NULL, &looker), FM_ERR_CORRUPT);
    expect_detail ("cannot read the header of segment 1 in ");
    assert_null (looker);
}

/* The segments tell what the cookie said; that there is no room to put it right must not keep the journal from serving. */
static void a_damaged_cookie_waits_for_room_to_be_put_right (void **state)
{
    struct log_setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    char path[200], quarantine[200];
    uint8_t before[32], after[32];
    s->options.fs = fail_fs_seam (f);
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 1 });
    kit_sync (s->log);
    log_destroy (&s->log);
    (void) snprintf (path, sizeof path, "%s/" COOKIE_NAME, s->directory);
    (void) snprintf (quarantine, sizeof quarantine, "%s/quarantine", s->directory);
    kit_flip (path, 20);
    read_at (path, 0, before, sizeof before);
    assert_int_equal (rmdir (quarantine), 0);
    fail_fs_no_room (f, true);
    reopen (s);
    assert_string_equal (log_mesh (s->log), "test");
    struct log_reader *r;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    expect_batch (r, (struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 1 });
    log_reader_destroy (&r);
    read_at (path, 0, after, sizeof after);
    assert_memory_equal (before, after, sizeof before);
    fail_fs_no_room (f, false);
    reopen (s);
    read_at (path, 0, after, sizeof after);
    assert_memory_not_equal (before, after, sizeof before);
    assert_int_equal (rmdir (quarantine), -1);      /* the damaged one is kept there */
    s->options.fs = NULL;
    reopen (s);
    fail_fs_destroy (&f);
}

/* A quota is a full disk: it is waited out. */
static void a_quota_is_a_full_disk (void **state)
{
    struct log_setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    for (int i = 0; i < 10; i++)
        assert_int_equal (work_append (s->log, 1, 1000), 0);
    fail_fs_fail (f, FAIL_WRITE, 1, -EDQUOT);
    assert_int_equal (log_write (s->log), -ENOSPC);
    expect_detail ("nothing is lost, it is tried again");
    assert_false (log_is_read_only (s->log));
    kit_sync (s->log);
    const struct work_contents c = work_check (s->log, 1000);
    assert_int_equal (c.batches, 10);
    s->options.fs = NULL;
    reopen (s);
    fail_fs_destroy (&f);
}

/* --- Readers. */

/* Each read fails once while a sequence is sought: that is told, and costs nothing the next time. */
static void a_seek_that_cannot_read_now_says_so (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct fm_id stream = kit_stream (1);
    unsigned refused = 0;
    s->options.segment_bytes = 4 << 20;
    reopen (s);
    for (uint64_t seq = 1; seq <= 3000; seq++)
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = 3000 });
    kit_sync (s->log);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    bool happened = true;
    for (unsigned long n = 1; happened; n++) {
        struct log_reader *r;
        uint64_t offset;
        assert_int_equal (log_reader_new (s->log, &r), 0);
        fail_fs_fail (f, FAIL_READ, n, -ENXIO);
        const int rc = log_reader_seek_seq (r, &stream, 1000, &offset);
        happened = fail_fs_happened (f);
        fail_fs_fail (f, FAIL_READ, 0, 0);
        assert_true (rc == 0 || rc == -ENXIO);
        refused += rc != 0;
        assert_int_equal (log_reader_seek_seq (r, &stream, 1000, &offset), 0);
        assert_int_equal (offset, 1000);
        log_reader_destroy (&r);
    }
    assert_true (refused >= 3);
    s->options.fs = NULL;
    reopen (s);
    fail_fs_destroy (&f);
}

/* A segment's file that goes just before the n-th of them is opened. */
static struct {
    unsigned opens, n;
    char path[256];
} going;

static int open_when_it_goes (void *context, int dir, const char *name, int flags, mode_t mode)
{
    if (strstr (name, ".seg") && ++going.opens == going.n)
        assert_int_equal (unlink (going.path), 0);
    return fs_real.open (context, dir, name, flags, mode);
}

/* The segment is open, and where its stream's records lie is to be looked up, which opens it once more. */
static void a_segment_that_goes_while_a_sequence_is_sought_in_it_is_read_all_the_same (void **state)
{
    struct log_setting *s = setting_of (state);
    static struct fs fs;
    const struct fm_id stream = kit_stream (1);
    fs = fs_real;
    fs.open = open_when_it_goes;
    fill_segments (s, 4);
    s->options.fs = &fs;
    reopen (s);
    kit_segment_path (s->directory, 2, going.path);
    going.n = 0;
    for (int goes = 0; goes < 2; goes++) {
        struct log_reader *r;
        uint64_t offset;
        assert_int_equal (log_reader_new (s->log, &r), 0);
        going.opens = 0;
        assert_int_equal (log_reader_seek_seq (r, &stream, 17, &offset), 0);
        assert_int_equal (offset, PER_SEGMENT + 8);     /* its seventh, behind the small one */
        assert_true (goes ? going.opens == going.n : going.opens > 1);
        going.n = going.opens;
        for (uint64_t seq = 17; seq <= 21; seq++)
            expect_batch (r, big_spec (seq));
        log_reader_destroy (&r);
    }
    assert_int_not_equal (access (going.path, F_OK), 0);
    s->options.fs = NULL;
    reopen (s);
}

/* Of a stream, what no pattern matches: the segment is left out, and how far the stream went in it is told. */
static void a_stream_whose_topics_are_not_wanted_is_told_how_far_it_goes (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    struct log_item item;
    const struct fm_id stream = kit_stream (1);
    const struct fm_slice pattern = slice_of ("s2.*");
    uint64_t through = 0, batches = 0;
    fill_segments (s, 4);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_filter (r, &stream, &pattern, 1), 0);
    while (log_reader_next (r, &item) == 0) {
        assert_true (id_equal (&item.stream, &stream));
        assert_int_equal (item.first_seq, through + 1);
        through = item.end_seq - 1;
        if (item.bytes.len > 0) {
            const struct kit_batch_spec spec = big_spec (item.first_seq);
            assert_true (kit_item_is (&item, &spec));
            batches++;
        }
    }
    assert_int_equal (through, 40);
    assert_int_equal (batches, 10);
    log_reader_destroy (&r);
}

/* It stands at the end of the open segment, which is sealed and loses its footer before it looks again. */
static void a_footer_that_is_lost_under_a_reader_loses_no_fact (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_reader *r;
    char path[256];
    assert_int_equal (log_reader_new (s->log, &r), 0);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    for (uint64_t seq = 1; seq <= 5; seq++)
        expect_batch (r, big_spec (seq));
    expect_end (r);
    for (uint64_t seq = 6; seq <= 25; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, -20);
    for (uint64_t seq = 6; seq <= 25; seq++)
        expect_batch (r, big_spec (seq));
    expect_end (r);
    log_reader_destroy (&r);
}

/* --- Streams that the table has forgotten. */

static void expect_stream (struct log *log, unsigned stream, uint64_t first_seq, uint64_t last_seq)
{
    const struct fm_id id = kit_stream (stream);
    struct log_stream known;
    assert_int_equal (log_stream_get (log, &id, &known), 0);
    assert_int_equal (known.first_seq, first_seq);
    assert_int_equal (known.last_seq, last_seq);
    assert_int_equal (known.synced_seq, last_seq);
}

static void a_table_with_one_place_knows_each_stream_all_the_same (void **state)
{
    struct log_setting *s = setting_of (state);
    s->options.streams_max = 1;
    reopen (s);
    for (uint64_t round = 1; round <= 3; round++)
        for (unsigned stream = 1; stream <= 4; stream++) {
            kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = round, .count = 1 });
            kit_sync (s->log);
            expect_stream (s->log, stream, 1, round);
        }
    for (unsigned stream = 4; stream >= 1; stream--)
        expect_stream (s->log, stream, 1, 3);
}

/* Streams 1 to 3 in the first segment, 4 to 6 in the second, 7 to 9 in the third: with a table of two. One segment is lost, or has no footer and a damaged fact. */
static void forgotten_streams_are_looked_up_past_a_segment_that_is_lost_or_damaged (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct log_stream known;
    const struct kit_batch_spec damaged = { .stream = 2, .first_seq = 1, .count = 1, .payload_len = 320000 };
    s->options.streams_max = 2;
    reopen (s);
    for (unsigned stream = 1; stream <= 9; stream++) {
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = 1, .count = 1, .payload_len = 320000 });
        kit_sync (s->log);
    }
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, (int64_t) find_batch (path, &damaged) + 1000);
    kit_flip (path, -20);
    for (unsigned stream = 1; stream <= 9; stream++)
        expect_stream (s->log, stream, 1, 1);
    kit_segment_path (s->directory, 2, path);
    assert_int_equal (unlink (path), 0);
    for (unsigned stream = 1; stream <= 3; stream++)
        expect_stream (s->log, stream, 1, 1);
    for (unsigned stream = 4; stream <= 6; stream++) {
        const struct fm_id id = kit_stream (stream);
        assert_int_equal (log_stream_get (s->log, &id, &known), FM_ERR_UNKNOWN);
    }
    expect_stream (s->log, 9, 1, 1);
}

/* --- Below: files that end, and blocks that can't be read. */

static void what_cannot_be_read_is_zeros_up_to_the_end_of_the_file (void **state)
{
    (void) state;
    enum { BLOCK = 4096, LEN = 3 * BLOCK + 100 };
    struct fail_fs *f = fail_fs_new ();
    const struct fs *fs = fail_fs_seam (f);
    static uint8_t written[LEN], read[2 * LEN];
    char directory[128], path[160];
    uint64_t end_of_data = 0;
    struct segment_scan scan = { .fd = -1 };
    kit_directory (directory);
    (void) snprintf (path, sizeof path, "%s/file", directory);
    memset (written, 7, sizeof written);
    const int fd = open (path, O_RDWR | O_CREAT, 0666), dir = open (directory, O_RDONLY | O_DIRECTORY);
    assert_true (fd >= 0 && dir >= 0);
    assert_int_equal (pwrite (fd, written, LEN, 0), LEN);
    fail_fs_unreadable (f, path, BLOCK, BLOCK);
    assert_int_equal (scan_read (fs, fd, read, sizeof read, 0), LEN);
    memset (written + BLOCK, 0, BLOCK);
    assert_memory_equal (read, written, LEN);
    /* Of what should be there and is not, nothing is made up. */
    assert_int_equal (scan_start (&scan, fs, fd, 1, 0, 2 * LEN), 0);
    assert_int_equal (scan_zeros (&scan, 0, &end_of_data), 0);
    assert_int_equal (end_of_data, LEN);
    fail_fs_fail (f, FAIL_READ, 2, -ENXIO);      /* the first look at all of it meets the bad block */
    assert_int_equal (scan_zeros (&scan, 0, &end_of_data), -ENXIO);
    scan_release (&scan);
    assert_int_equal (recover_quarantine (fs, dir, fd, 5, "torn", 0, 2 * LEN), -EIO);
    assert_int_equal (access (path, F_OK), 0);
    (void) snprintf (path, sizeof path, "%s/0000000005-0.0.torn", directory);
    assert_int_not_equal (access (path, F_OK), 0);      /* of one that failed nothing stays */
    assert_int_equal (recover_quarantine (fs, dir, fd, 5, "torn", 10, LEN), 0);
    (void) snprintf (path, sizeof path, "%s/0000000005-10.0.torn", directory);
    assert_int_equal (kit_file_size (path), LEN - 10);
    close (fd);
    close (dir);
    fail_fs_destroy (&f);
    kit_remove (directory);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (a_start_that_cannot_read_now_says_so_and_the_next_one_has_everything),
        CASE (a_last_segment_of_a_newer_version_is_left_alone),
        CASE (a_log_that_is_looked_at_and_has_no_header_left_says_which),
        CASE (a_damaged_cookie_waits_for_room_to_be_put_right),
        CASE (a_quota_is_a_full_disk),
        CASE (a_seek_that_cannot_read_now_says_so),
        CASE (a_segment_that_goes_while_a_sequence_is_sought_in_it_is_read_all_the_same),
        CASE (a_stream_whose_topics_are_not_wanted_is_told_how_far_it_goes),
        CASE (a_footer_that_is_lost_under_a_reader_loses_no_fact),
        CASE (a_table_with_one_place_knows_each_stream_all_the_same),
        CASE (forgotten_streams_are_looked_up_past_a_segment_that_is_lost_or_damaged),
        cmocka_unit_test (what_cannot_be_read_is_zeros_up_to_the_end_of_the_file),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
