/* log: options, directories and contents that it refuses, and with which words; read-only logs whose files come and go; retention over segments that cannot be read; a
 * table of streams that has no room. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"
#include "bytes.h"
#include "checksum.h"
#include "cookie.h"
#include "cursor_table.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "log_state.h"
#include "segment.h"

static void expect_detail (const char *part)
{
    if (!strstr (fm_error_detail (), part))
        fail_msg ("'%s' does not say '%s'", fm_error_detail (), part);
}

static void zero_file (const char *path, uint64_t len)
{
    FILE *file = fopen (path, "r+b");
    assert_non_null (file);
    for (uint64_t i = 0; i < len; i++)
        fputc (0, file);
    fclose (file);
}

static void write_file (const char *path)
{
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    fputs ("x", file);
    fclose (file);
}

/* --- Opening. */

static void options_out_of_their_bounds_are_refused (void **state)
{
    const struct log_setting *s = setting_of (state);
    char name[200];
    memset (name, 'm', sizeof name);
    name[sizeof name - 1] = '\0';
    const struct { struct log_options options; const char *why; } bad[] = {
        { { .mesh = "test", .segment_bytes = 1 }, "segments of 1 bytes: 1 MiB to 4 GiB are possible" },
        { { .mesh = "test", .segment_bytes = UINT64_C (1) << 40 }, "1 MiB to 4 GiB are possible" },
        { { .mesh = "test", .buffer_bytes = 1 }, "a buffer of 1 bytes: 64 KiB to 1 GiB are possible" },
        { { .mesh = "test", .streams_max = UINT32_MAX }, "streams and" },
        { { .mesh = "test", .cursors_max = UINT32_MAX }, "cursors in memory: at most" },
        { { .mesh = name }, "a mesh's name has at most" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct log *log = NULL;
        assert_int_equal (log_open (s->directory, &bad[i].options, NULL, &log), FM_ERR_ARGUMENT);
        assert_null (log);
        expect_detail (bad[i].why);
    }
}

static int try_open (const char *directory, bool read_only)
{
    const struct log_options options = { .mesh = read_only ? NULL : "test", .segment_bytes = 1 << 20, .read_only = read_only };
    struct log *log = NULL;
    const int rc = log_open (directory, &options, NULL, &log);
    if (rc == 0)
        log_destroy (&log);
    return rc;
}

static void what_is_no_journals_directory_is_refused_with_what_it_is (void **state)
{
    (void) state;
    char directory[128], other[128], path[300], to[256], command[700];
    uint64_t generation = 4711;
    kit_directory (directory);
    (void) snprintf (path, sizeof path, "%s/segments", directory);
    write_file (path);
    assert_int_equal (try_open (path, false), -ENOTDIR);
    expect_detail ("cannot open the data directory");
    assert_int_equal (unlink (path), 0);
    assert_int_equal (mkdir (path, 0777), 0);
    assert_int_equal (try_open (directory, true), FM_ERR_FOREIGN);
    expect_detail ("is not a journal's: there is no good " COOKIE_NAME);
    const struct log_options options = { .mesh = "test" };
    assert_int_equal (log_new_generation (directory, &options, &generation), -ENOENT);
    expect_detail ("cannot renew");
    assert_int_equal (generation, 4711);
    (void) snprintf (path, sizeof path, "%s/" COOKIE_NAME, directory);
    write_file (path);
    assert_int_equal (try_open (directory, true), FM_ERR_CORRUPT);
    expect_detail ("is not a journal's: there is no good " COOKIE_NAME);
    kit_remove (directory);
    kit_directory (directory);
    (void) snprintf (path, sizeof path, "%s/segments", directory);
    write_file (path);
    assert_int_not_equal (try_open (directory, false), 0);
    assert_int_equal (unlink (path), 0);
    /* The last segment of one journal under the name of another's. */
    assert_int_equal (try_open (directory, false), 0);
    kit_directory (other);
    assert_int_equal (try_open (other, false), 0);
    kit_segment_path (directory, 1, path);
    kit_segment_path (other, 1, to);
    (void) snprintf (command, sizeof command, "cp %s %s", path, to);
    assert_int_equal (system (command), 0);
    assert_int_equal (try_open (other, false), FM_ERR_FOREIGN);
    expect_detail ("is another journal's: was it copied there?");
    /* A journal without segments can be looked at: it is empty. */
    assert_int_equal (unlink (path), 0);
    const struct log_options looking = { .read_only = true };
    struct log *log = NULL;
    struct log_position at;
    struct log_reader *r;
    assert_int_equal (log_open (directory, &looking, NULL, &log), 0);
    log_position (log, &at);
    assert_int_equal (at.end_offset, 1);
    assert_int_equal (at.synced_offset, 1);
    assert_int_equal (log_reader_new (log, &r), 0);
    expect_end (r);
    log_reader_destroy (&r);
    log_destroy (&log);
    kit_remove (directory);
    kit_remove (other);
}

/* Both copies of the only segment's header say so: that is no damage. */
static void a_segment_of_a_newer_version_is_refused_and_left_as_it_is (void **state)
{
    struct log_setting *s = setting_of (state);
    uint8_t header[SEGMENT_HEADER_LEN], after[SEGMENT_HEADER_LEN];
    char path[256];
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    FILE *file = fopen (path, "r+b");
    assert_non_null (file);
    assert_int_equal (fread (header, 1, sizeof header, file), sizeof header);
    bytes_put_u32le (header + 8, SEGMENT_MAJOR + 1);
    bytes_put_u64le (header + sizeof header - 8, checksum (header, sizeof header - 8));
    for (long pos = 0; pos <= SEGMENT_HEADER_COPY_POS; pos += SEGMENT_HEADER_COPY_POS) {
        assert_int_equal (fseek (file, pos, SEEK_SET), 0);
        assert_int_equal (fwrite (header, 1, sizeof header, file), sizeof header);
    }
    fclose (file);
    for (int read_only = 0; read_only < 2; read_only++) {
        assert_int_equal (try_open (s->directory, read_only), FM_ERR_NEWER);
        expect_detail ("has segments of a newer version of factmesh: use that one");
    }
    file = fopen (path, "rb");
    assert_non_null (file);
    assert_int_equal (fread (after, 1, sizeof after, file), sizeof after);
    fclose (file);
    assert_memory_equal (after, header, sizeof header);
}

static void a_look_at_a_log_whose_only_segment_cannot_be_read_says_which (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    zero_file (path, kit_file_size (path));
    assert_int_equal (try_open (s->directory, true), FM_ERR_CORRUPT);
    expect_detail ("cannot read the header of segment 1 in ");
}

/* --- Appending. */

/* A quota is a full disk. */
static void a_write_beyond_the_quota_is_tried_again (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 10 };
    struct fail_fs *f = fail_fs_new ();
    struct log_reader *r;
    log_destroy (&s->log);
    s->options.fs = fail_fs_seam (f);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    kit_append_batch (s->log, &spec);
    fail_fs_fail (f, FAIL_WRITE, 1, -EDQUOT);
    assert_int_equal (log_write (s->log), -ENOSPC);
    expect_detail ("nothing is lost, it is tried again");
    kit_sync (s->log);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    expect_batch (r, spec);
    expect_end (r);
    log_reader_destroy (&r);
    log_destroy (&s->log);
    fail_fs_destroy (&f);
}

/* The stream that goes is the newest one, too. */
static void a_table_of_one_stream_holds_each_in_its_turn (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_stream known;
    log_destroy (&s->log);
    s->options.streams_max = 1;
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    for (uint64_t seq = 1; seq <= 3; seq++)
        for (unsigned stream = 1; stream <= 2; stream++) {
            kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = seq, .count = 1, .payload_len = 10 });
            kit_sync (s->log);
        }
    for (unsigned stream = 1; stream <= 2; stream++) {
        const struct fm_id id = kit_stream (stream);
        assert_int_equal (log_stream_get (s->log, &id, &known), 0);
        assert_int_equal (known.first_seq, 1);
        assert_int_equal (known.last_seq, 3);
    }
}

/* More than one record of a segment's snapshots takes. */
static void cursors_of_many_bytes_are_told_in_several_records_of_a_snapshot (void **state)
{
    struct log_setting *s = setting_of (state);
    static const uint8_t bytes[20000];
    uint64_t ticket;
    char path[256], name[CURSOR_NAME_MAX + 1] = "", last[CURSOR_NAME_MAX + 1];
    fill_segments (s, 1);
    for (unsigned i = 0; i < 10; i++) {
        struct log_cursor cursor = { .cursor = slice (bytes, sizeof bytes) };
        (void) snprintf (cursor.name, sizeof cursor.name, "c%u", i);
        assert_int_equal (log_cursor_put (s->log, &cursor, &ticket), 0);
    }
    for (uint64_t seq = 11; seq <= 30; seq++) {
        const struct kit_batch_spec spec = big_spec (seq);
        kit_append_batch (s->log, &spec);
    }
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    assert_int_equal (unlink (path), 0);    /* the snapshots alone tell of them */
    kit_segment_path (s->directory, 2, path);
    assert_int_equal (unlink (path), 0);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    for (unsigned i = 0; i < 10; i++) {
        memcpy (last, name, sizeof last);
        assert_int_equal (log_cursor_next (s->log, last, name), 0);
        assert_int_equal (name[1], '0' + (int) i);
    }
    memcpy (last, name, sizeof last);
    assert_int_equal (log_cursor_next (s->log, last, name), FM_ERR_END);
}

static void what_cannot_be_recorded_is_refused (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 10 };
    struct kit_batch k;
    uint64_t offset = 4711, ticket = 4711;
    kit_batch_make (&spec, &k);
    struct batch bad = k.batch;
    bad.count = 0;
    assert_int_equal (log_append (s->log, &bad, &offset), FM_ERR_ARGUMENT);
    expect_detail ("not a batch to record");
    bad = k.batch;
    bad.first_seq = UINT64_MAX - 1;
    assert_int_equal (log_append (s->log, &bad, &offset), FM_ERR_ARGUMENT);
    bad = k.batch;
    bad.announced_len = 5;
    assert_int_equal (log_append (s->log, &bad, &offset), FM_ERR_ARGUMENT);
    assert_int_equal (log_append_marked (s->log, &k.batch, slice (k.bytes, BATCH_MAX), &offset), FM_ERR_TOO_LARGE);
    const struct log_cursor unnamed = { .name = "" }, large = { .name = "c", .cursor = slice (k.bytes, CURSOR_BYTES_MAX + 1) };
    assert_int_equal (log_cursor_put (s->log, &unnamed, &ticket), FM_ERR_ARGUMENT);
    expect_detail ("a cursor's name has 1 to 127 bytes");
    assert_int_equal (log_cursor_put (s->log, &large, &ticket), FM_ERR_TOO_LARGE);
    expect_detail ("cursor c has");
    assert_int_equal (offset, 4711);
    assert_int_equal (ticket, 4711);
    struct log_position at;
    log_position (s->log, &at);
    assert_int_equal (at.end_offset, 1);
    /* Read-only after a failed sync: nothing at all. */
    struct fail_fs *f = fail_fs_new ();
    log_destroy (&s->log);
    s->options.fs = fail_fs_seam (f);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    assert_int_equal (log_append (s->log, &k.batch, &offset), 0);
    assert_int_equal (log_write (s->log), 0);
    fail_fs_fail (f, FAIL_SYNC, 1, -EIO);
    assert_int_equal (log_sync (s->log, NULL), -EIO);
    const struct fm_id stream = kit_stream (1);
    const struct log_cursor good = { .name = "c" };
    assert_int_equal (log_append (s->log, &k.batch, &offset), FM_ERR_READ_ONLY);
    assert_int_equal (log_append_gap (s->log, &stream, 3, 5, FACTMESH__GAP_REASON__GAP_VOID, &offset), FM_ERR_READ_ONLY);
    assert_int_equal (log_cursor_put (s->log, &good, &ticket), FM_ERR_READ_ONLY);
    assert_int_equal (log_cursor_delete (s->log, "c", &ticket), FM_ERR_READ_ONLY);
    assert_int_equal (log_retain (s->log, NULL), FM_ERR_READ_ONLY);
    log_destroy (&s->log);
    fail_fs_destroy (&f);
    kit_batch_release (&k);
}

/* One that was forgotten is found in a footer again, and has no place until others are synced. */
static void a_forgotten_stream_waits_for_a_place_in_the_table (void **state)
{
    struct log_setting *s = setting_of (state);
    struct kit_batch k;
    uint64_t offset;
    log_destroy (&s->log);
    s->options.streams_max = 2;
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    for (unsigned stream = 1; stream <= 3; stream++) {
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = 1, .count = 1, .payload_len = 10 });
        kit_sync (s->log);
    }
    for (unsigned stream = 2; stream <= 3; stream++)
        kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = stream, .first_seq = 2, .count = 1, .payload_len = 10 });
    kit_batch_make (&(struct kit_batch_spec) { .stream = 1, .first_seq = 2, .count = 1, .payload_len = 10 }, &k);
    assert_int_equal (log_append (s->log, &k.batch, &offset), FM_ERR_FULL);
    kit_sync (s->log);
    assert_int_equal (log_append (s->log, &k.batch, &offset), 0);
    assert_int_equal (offset, 6);
    kit_batch_release (&k);
}

/* --- Logs that are looked at while their files change. */

static struct log *look_at (const struct log_setting *s)
{
    const struct log_options options = { .read_only = true };
    struct log *log = NULL;
    assert_int_equal (log_open (s->directory, &options, NULL, &log), 0);
    return log;
}

struct damages {
    size_t count;
    struct log_damage last;
};

static void on_damage (void *arg, const struct log_damage *d)
{
    struct damages *found = arg;
    found->count++;
    found->last = *d;
}

static struct damages verify (struct log *log)
{
    struct damages found = { .count = 0 };
    struct log_verify_result result;
    assert_int_equal (log_verify (log, on_damage, NULL, &found, &result), 0);
    return found;
}

/* What another process's retention takes meanwhile is no damage. */
static void what_retention_takes_from_under_a_look_is_no_damage (void **state)
{
    struct log_setting *s = setting_of (state);
    uint64_t first_offset;
    fill_segments (s, 6);
    struct log *looked_at = look_at (s);
    assert_int_equal (verify (looked_at).count, 0);
    log_destroy (&s->log);
    s->options.retain_bytes = 3 << 20;
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_true (first_offset > PER_SEGMENT);
    assert_int_equal (verify (looked_at).count, 0);
    struct log_reader *r;
    assert_int_equal (log_reader_new (looked_at, &r), 0);
    expect_batch (r, big_spec (first_offset / PER_SEGMENT * 10 + 1));
    log_reader_destroy (&r);
    log_destroy (&looked_at);
}

/* The first files can't be read, and go while somebody looks; the last ones can't, and no start has put them away. */
static void unreadable_ends_of_a_log_that_is_looked_at_are_told (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    fill_segments (s, 5);
    log_destroy (&s->log);
    for (uint64_t number = 1; number <= 2; number++) {
        kit_segment_path (s->directory, number, path);
        zero_file (path, kit_file_size (path));
    }
    struct log *log = look_at (s);
    struct damages found = verify (log);
    assert_int_equal (found.count, 2);
    assert_int_equal (found.last.segment, 2);
    assert_int_equal (found.last.end_segment, 3);
    assert_int_equal (found.last.end_offset, 2 * PER_SEGMENT + 1);
    kit_segment_path (s->directory, 1, path);
    assert_int_equal (unlink (path), 0);
    found = verify (log);
    assert_int_equal (found.count, 1);
    assert_int_equal (found.last.segment, 2);
    kit_segment_path (s->directory, 2, path);
    assert_int_equal (unlink (path), 0);
    assert_int_equal (verify (log).count, 0);
    log_destroy (&log);
    kit_segment_path (s->directory, 5, path);
    zero_file (path, kit_file_size (path));
    log = look_at (s);
    found = verify (log);
    assert_int_equal (found.count, 1);
    assert_int_equal (found.last.segment, 5);
    assert_int_equal (found.last.end_segment, 6);
    log_destroy (&log);
}

static void a_segment_of_another_journal_in_the_midst_is_not_read (void **state)
{
    struct log_setting *s = setting_of (state);
    struct log_setting other = { .options = s->options };
    char from[256], to[256], command[600];
    kit_directory (other.directory);
    other.clock = s->clock;
    other.options.clock = &other.clock.clock;
    assert_int_equal (log_open (other.directory, &other.options, NULL, &other.log), 0);
    fill_segments (&other, 3);
    fill_segments (s, 3);
    log_destroy (&s->log);
    kit_segment_path (other.directory, 2, from);
    kit_segment_path (s->directory, 2, to);
    (void) snprintf (command, sizeof command, "cp %s %s", from, to);
    assert_int_equal (system (command), 0);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    const struct damages found = verify (s->log);
    assert_true (found.count > 0);
    assert_int_equal (found.last.segment, 2);
    assert_string_equal (found.last.what, "unreadable segment");
    struct log_reader *r;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    for (unsigned i = 0; i < PER_SEGMENT; i++)
        (void) expect_next (r);
    for (struct log_item item = expect_next (r); item.offset <= 2 * PER_SEGMENT && item.first_seq <= 20; item = expect_next (r))
        assert_int_equal (item.kind, LOG_ITEM_GAP);
    log_reader_destroy (&r);
    log_destroy (&other.log);
    kit_remove (other.directory);
}

/* --- Starts and retention over what cannot be read. */

/* The last segment's snapshots are damaged, the one before is lost: what is known comes from the one before that. */
static void a_start_goes_back_to_whole_snapshots_and_over_a_lost_segment (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    const struct fm_id stream = kit_stream (1);
    struct log_stream known;
    fill_segments (s, 4);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 4, path);
    kit_flip (path, 4096 + 100);
    kit_segment_path (s->directory, 3, path);
    assert_int_equal (unlink (path), 0);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    assert_int_equal (log_stream_get (s->log, &stream, &known), 0);
    assert_int_equal (known.last_seq, 40);
    const struct fm_id small = kit_stream (11);         /* of segment 2 */
    assert_int_equal (log_stream_get (s->log, &small, &known), 0);
    assert_int_equal (known.last_seq, 1);
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 41, .count = 1, .payload_len = 10 });
    kit_sync (s->log);
}

/* Whose segment goes unread: its streams are looked up when they are asked for. */
static void retention_drops_what_it_cannot_read_and_the_streams_are_still_told_right (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    uint64_t first_offset;
    const struct fm_id stream = kit_stream (1);
    struct log_stream known[8];
    size_t count;
    fill_segments (s, 7);
    log_destroy (&s->log);
    s->options.retain_bytes = 3 << 20;
    s->options.streams_max = 4;                         /* some that go have been forgotten */
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    kit_segment_path (s->directory, 1, path);
    zero_file (path, 4096);
    kit_segment_path (s->directory, 3, path);
    assert_int_equal (unlink (path), 0);
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_true (first_offset > 3 * PER_SEGMENT);
    const uint64_t first_seq = (first_offset - 1) / PER_SEGMENT * 10 + 1;
    kit_segment_path (s->directory, first_seq / 10 + 2, path);
    assert_int_equal (unlink (path), 0);                /* and one that stays is lost */
    assert_int_equal (log_stream_list (s->log, NULL, known, 8, &count), 0);
    assert_true (count > 0);
    for (size_t i = 0; i < count; i++)
        if (id_equal (&known[i].stream, &stream))
            assert_int_equal (known[i].first_seq, first_seq);
    assert_int_equal (log_stream_get (s->log, &stream, &known[0]), 0);
    assert_int_equal (known[0].first_seq, first_seq);
    assert_int_equal (known[0].last_seq, 70);
}

/* Found again after it had been forgotten, all that is known of a stream is where it goes on: that older segments of it go does not make that its beginning. */
static void retention_keeps_the_beginning_of_a_stream_that_was_forgotten (void **state)
{
    struct log_setting *s = setting_of (state);
    uint64_t first_offset;
    const struct fm_id stream = kit_stream (1);
    struct log_stream known;
    struct log_reader *r;
    fill_segments (s, 7);
    log_destroy (&s->log);
    s->options.retain_bytes = 4 << 20;
    s->options.streams_max = 4;
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_true (first_offset > 1 && first_offset < 6 * PER_SEGMENT);
    const uint64_t first_seq = (first_offset - 1) / PER_SEGMENT * 10 + 1;
    assert_int_equal (log_stream_get (s->log, &stream, &known), 0);
    assert_int_equal (known.first_seq, first_seq);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    expect_batch (r, big_spec (first_seq));
    log_reader_destroy (&r);
}

/* Nor does it when the next segments' snapshots tell of it, and a start reads those. */
static void a_start_keeps_the_beginning_of_a_stream_that_was_forgotten (void **state)
{
    struct log_setting *s = setting_of (state);
    const struct fm_id stream = kit_stream (1);
    struct log_stream known;
    fill_segments (s, 7);
    s->options.streams_max = 4;
    for (uint64_t seq = 71; seq <= 100; seq += 10) {
        log_destroy (&s->log);
        assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
        for (uint64_t i = seq; i < seq + 10; i++) {
            const struct kit_batch_spec spec = big_spec (i);
            kit_append_batch (s->log, &spec);
        }
        kit_sync (s->log);
    }
    log_destroy (&s->log);
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    assert_int_equal (log_stream_get (s->log, &stream, &known), 0);
    assert_int_equal (known.first_seq, 1);
    assert_int_equal (known.last_seq, 100);
}

/* Nothing goes of which it is not known where what is left begins. */
static void retention_stands_still_where_no_segment_behind_can_be_read (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    uint64_t first_offset;
    fill_segments (s, 2);
    log_destroy (&s->log);
    s->options.retain_bytes = 1;
    assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), 0);
    kit_segment_path (s->directory, 2, path);
    zero_file (path, 4096);
    assert_int_equal (log_retain (s->log, &first_offset), 0);
    assert_int_equal (first_offset, 1);
    kit_segment_path (s->directory, 1, path);
    assert_int_equal (access (path, F_OK), 0);
}

static void what_is_lost_is_counted_up_to_its_bound (void **state)
{
    (void) state;
    struct log_lost_list list = { 0 };
    for (uint64_t i = 0; i < LOG_LOST_MAX + 2; i++)
        assert_int_equal (log_lost_add (&list, &(struct log_lost) { .stream = kit_stream (1), .first_seq = i + 1, .end_seq = i + 2 }), 0);
    assert_int_equal (list.count, LOG_LOST_MAX);
    assert_int_equal (list.items[LOG_LOST_MAX - 1].first_seq, LOG_LOST_MAX);
    log_lost_release (&list);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up, log_tear_down)
        CASE (options_out_of_their_bounds_are_refused),
        CASE (what_is_no_journals_directory_is_refused_with_what_it_is),
        CASE (a_segment_of_a_newer_version_is_refused_and_left_as_it_is),
        CASE (a_look_at_a_log_whose_only_segment_cannot_be_read_says_which),
        CASE (what_cannot_be_recorded_is_refused),
        CASE (a_write_beyond_the_quota_is_tried_again),
        CASE (a_table_of_one_stream_holds_each_in_its_turn),
        CASE (cursors_of_many_bytes_are_told_in_several_records_of_a_snapshot),
        CASE (what_is_lost_is_counted_up_to_its_bound),
        CASE (a_forgotten_stream_waits_for_a_place_in_the_table),
        CASE (what_retention_takes_from_under_a_look_is_no_damage),
        CASE (unreadable_ends_of_a_log_that_is_looked_at_are_told),
        CASE (a_segment_of_another_journal_in_the_midst_is_not_read),
        CASE (a_start_goes_back_to_whole_snapshots_and_over_a_lost_segment),
        CASE (retention_drops_what_it_cannot_read_and_the_streams_are_still_told_right),
        CASE (retention_keeps_the_beginning_of_a_stream_that_was_forgotten),
        CASE (a_start_keeps_the_beginning_of_a_stream_that_was_forgotten),
        CASE (retention_stands_still_where_no_segment_behind_can_be_read),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
