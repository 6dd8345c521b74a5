/* What a start finds after kill -9, power loss, failing disks and flipped bits: never less than what was
 * acknowledged, never something that nobody appended, and never silence about what is lost. */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "recover.h"

/* --- The process dies; the machine does not. */

static void what_was_written_but_not_synced_survives_a_kill (void **state)
{
    struct log_setting *s = setting_of (state);
    for (int i = 0; i < 100; i++)
        assert_int_equal (work_append (s->log, 1 + (unsigned) i % WORK_STREAMS, 500), 0);
    assert_int_equal (log_write (s->log), 0);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    struct work_contents c = work_check (s->log, 500);
    assert_int_equal (c.batches, 100);
    work_check_streams (s->log, &c);
}

static void what_was_only_appended_is_gone_after_a_kill (void **state)
{
    struct log_setting *s = setting_of (state);
    assert_int_equal (work_append (s->log, 1, 500), 0);
    kit_sync (s->log);
    assert_int_equal (work_append (s->log, 1, 500), 0);
    reopen (s);
    struct work_contents c = work_check (s->log, 500);
    assert_int_equal (c.batches, 1);
    work_check_streams (s->log, &c);
}

/* Cut the file at every length between the synced end and the written end, as a crash may. */
static void a_tail_cut_anywhere_leaves_a_prefix (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256], copy[160];
    struct work_contents last = { .end_offset = 0 };
    for (int i = 0; i < 5; i++)
        assert_int_equal (work_append (s->log, 1 + (unsigned) i % WORK_STREAMS, 100), 0);
    kit_sync (s->log);
    struct log_segment_info info;
    size_t count;
    for (int i = 0; i < 5; i++)
        assert_int_equal (work_append (s->log, 1 + (unsigned) i % WORK_STREAMS, 100), 0);
    assert_int_equal (log_segment_list (s->log, &info, 1, &count), 0);
    assert_int_equal (log_write (s->log), 0);
    /* The records end somewhere before the zero-filled rest: everything behind 8 KiB is zeros here. */
    (void) snprintf (copy, sizeof copy, "%s.copy", s->directory);
    for (uint64_t len = 4096 + 200; len < 4096 + 4096; len += 1 + len % 7) {
        kit_copy (s->directory, copy);
        kit_segment_path (copy, 1, path);
        kit_truncate (path, len);
        struct log *log;
        struct log_recovery recovery;
        assert_int_equal (log_open (copy, &s->options, &recovery, &log), 0);
        struct work_contents c = work_check (log, 100);
        assert_true (c.end_offset >= last.end_offset);
        assert_int_equal (c.gaps, 0);
        work_check_streams (log, &c);
        last = c;
        /* And it goes on. */
        assert_int_equal (work_append (log, 2, 100), 0);
        kit_sync (log);
        struct work_contents more = work_check (log, 100);
        assert_int_equal (more.batches, c.batches + 1);
        log_destroy (&log);
        kit_remove (copy);
    }
    assert_int_equal (last.batches, 10);
}

static void garbage_behind_the_end_is_quarantined_and_cut (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    uint8_t garbage[1000];
    for (int i = 0; i < 10; i++)
        assert_int_equal (work_append (s->log, 1, 100), 0);
    kit_sync (s->log);
    log_destroy (&s->log);
    memset (garbage, 0xA5, sizeof garbage);
    kit_segment_path (s->directory, 1, path);
    kit_append (path, garbage, sizeof garbage);     /* behind the zeros that were filled in ahead */
    struct log_recovery recovery = reopen (s);
    assert_true (recovery.torn_bytes >= sizeof garbage);
    struct work_contents c = work_check (s->log, 100);
    assert_int_equal (c.batches, 10);
    char quarantine[256];
    (void) snprintf (quarantine, sizeof quarantine, "ls %.128s/quarantine | grep -q torn", s->directory);
    assert_int_equal (system (quarantine), 0);
    recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
}

/* The machine stopped between the seal and the next segment, and the end of what was never synced did not arrive: the trailer did. */
static void a_torn_end_before_a_footer_is_quarantined_too (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256], command[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 100000 };
    for (; spec.first_seq <= 12; spec.first_seq++)  /* in one write: the records say that none is synced */
        kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    struct log_segment_info info[4];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 4, &count), 0);
    assert_int_equal (count, 2);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 2, path);
    assert_int_equal (unlink (path), 0);
    kit_segment_path (s->directory, 1, path);
    spec.first_seq = 10;
    kit_flip (path, (int64_t) find_batch (path, &spec) + 5000);
    struct log_recovery recovery = reopen (s);
    assert_true (recovery.torn_bytes >= 100000);
    assert_int_equal (recovery.damaged_ranges, 0);
    (void) snprintf (command, sizeof command, "ls %.128s/quarantine | grep -q torn", s->directory);
    assert_int_equal (system (command), 0);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.synced_offset, 10);
}

/* --- Bits flip. */

static void damage_below_what_was_synced_is_told_with_its_range (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 50 };
    for (int i = 0; i < 10; i++, spec.first_seq += 2) {
        kit_append_batch (s->log, &spec);
        kit_sync (s->log);
    }
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    spec.first_seq = 7;
    const uint64_t body = find_batch (path, &spec);
    spec.first_seq = 13;
    const uint64_t header = find_batch (path, &spec) - 40;
    kit_flip (path, (int64_t) body + 20);
    kit_flip (path, (int64_t) header);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    assert_int_equal (recovery.damaged_ranges, 2);
    struct log_reader *r;
    struct log_item item;
    uint64_t next = 1;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    while (log_reader_next (r, &item) == 0) {
        struct fm_id id = kit_stream (1);
        assert_true (id_equal (&item.stream, &id));
        assert_int_equal (item.first_seq, next);
        assert_int_equal (item.offset, next);
        assert_int_equal (item.end_seq, next + 2);
        assert_int_equal (item.kind, next == 7 || next == 13 ? LOG_ITEM_GAP : LOG_ITEM_BATCH);
        next += 2;
    }
    assert_int_equal (next, 21);
    log_reader_destroy (&r);
    struct log_stream known;
    struct fm_id id = kit_stream (1);
    assert_int_equal (log_stream_get (s->log, &id, &known), 0);
    assert_int_equal (known.last_seq, 20);
}

static void the_idle_mark_makes_damage_of_the_last_record_known (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 50 };
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    kit_segment_path (s->directory, 1, path);
    const uint64_t body = find_batch (path, &spec);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    kit_flip (path, (int64_t) body + 3);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    assert_int_equal (recovery.damaged_ranges, 1);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.end_offset, 2);      /* its offset is not given again */
    struct log_reader *r;
    struct log_item item;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_next (r, &item), 0);
    const struct fm_id id = kit_stream (1);
    assert_true (item.kind == LOG_ITEM_GAP && id_equal (&item.stream, &id) && item.first_seq == 1 && item.end_seq == 2);
    assert_int_equal (log_reader_next (r, &item), FM_ERR_END);
    log_reader_destroy (&r);
}

static void a_lost_header_at_the_very_end_is_told_all_the_same (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 3, .payload_len = 50 };
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    kit_segment_path (s->directory, 1, path);
    const uint64_t body = find_batch (path, &spec);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    kit_flip (path, (int64_t) body - 30);
    reopen (s);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.end_offset, 4);
    struct log_reader *r;
    struct log_item item;
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_next (r, &item), 0);
    assert_true (item.kind == LOG_ITEM_GAP && id_is_zero (&item.stream) && item.first_seq == 1 && item.end_seq == 4);
    assert_int_equal (log_reader_next (r, &item), FM_ERR_END);
    log_reader_destroy (&r);
}

static void without_a_mark_a_broken_last_record_is_a_torn_tail (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 50 };
    kit_append_batch (s->log, &spec);
    assert_int_equal (log_write (s->log), 0);
    kit_segment_path (s->directory, 1, path);
    const uint64_t body = find_batch (path, &spec);
    log_destroy (&s->log);
    kit_flip (path, (int64_t) body + 3);
    struct log_recovery recovery = reopen (s);
    assert_true (recovery.torn_bytes > 0);
    assert_int_equal (recovery.damaged_ranges, 0);
}

/* The record that says that the damage is below what was synced lies in the torn tail, and is cut with it: the next start must know all the
 * same, or it takes the damage for a torn tail, and cuts what was acknowledged behind it. */
static void damage_stays_damage_when_the_tail_that_told_it_is_cut (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec[4];
    for (int i = 0; i < 4; i++) {
        spec[i] = (struct kit_batch_spec) { .stream = 1, .first_seq = 1 + (uint64_t) i, .count = 1, .payload_len = 50 };
        kit_append_batch (s->log, &spec[i]);
        if (i == 1)
            kit_sync (s->log);
    }
    assert_int_equal (log_write (s->log), 0);
    kit_segment_path (s->directory, 1, path);
    const uint64_t damaged = find_batch (path, &spec[0]), torn = find_batch (path, &spec[2]);
    log_destroy (&s->log);
    kit_flip (path, (int64_t) damaged + 20);
    kit_flip (path, (int64_t) torn + 20);
    for (int start = 0; start < 3; start++) {
        struct log_recovery recovery = reopen (s);
        assert_int_equal (recovery.damaged_ranges, 1);
        assert_int_equal (recovery.torn_bytes > 0, start == 0);
        const struct fm_id id = kit_stream (1);
        struct log_reader *r;
        assert_int_equal (log_reader_new (s->log, &r), 0);
        expect_gap (r, &id, 1, 2, FACTMESH__GAP_REASON__GAP_DAMAGED);
        expect_batch (r, spec[1]);
        expect_end (r);
        log_reader_destroy (&r);
    }
}

static void each_copy_of_the_header_stands_in_for_the_others (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    for (int i = 0; i < 10; i++)
        assert_int_equal (work_append (s->log, 1, 100), 0);
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, 17);
    reopen (s);
    assert_int_equal (work_check (s->log, 100).batches, 10);
    log_destroy (&s->log);
    kit_flip (path, 17);
    kit_flip (path, 2048 + 70);
    reopen (s);
    assert_int_equal (work_check (s->log, 100).batches, 10);
}

static void a_lost_cookie_comes_back_from_the_segments (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct fm_id before, after;
    uint64_t generation;
    assert_int_equal (work_append (s->log, 1, 100), 0);
    kit_sync (s->log);
    log_identity (s->log, &before, &generation);
    log_destroy (&s->log);
    (void) snprintf (path, sizeof path, "%s/journal.cookie", s->directory);
    kit_flip (path, 30);
    reopen (s);
    log_identity (s->log, &after, &generation);
    assert_true (id_equal (&before, &after));
    log_destroy (&s->log);
    assert_int_equal (unlink (path), 0);
    reopen (s);
    log_identity (s->log, &after, &generation);
    assert_true (id_equal (&before, &after));
    assert_int_equal (work_check (s->log, 100).batches, 1);
}

static void a_last_segment_without_header_gives_no_offset_twice (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct log_position before, after;
    for (int i = 0; i < 30; i++) {
        assert_int_equal (work_append (s->log, 1, 100000), 0);
        kit_sync (s->log);
    }
    log_position (s->log, &before);
    struct log_segment_info info[16];
    size_t count;
    assert_int_equal (log_segment_list (s->log, info, 16, &count), 0);
    assert_true (count > 1);
    log_destroy (&s->log);
    kit_segment_path (s->directory, info[count - 1].number, path);
    kit_flip (path, 17);
    kit_flip (path, 2048 + 17);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.damaged_ranges, 1);
    log_position (s->log, &after);
    assert_true (after.end_offset >= before.end_offset);
    struct log_reader *r;
    struct log_item item, last = { .kind = LOG_ITEM_BATCH };
    assert_int_equal (log_reader_new (s->log, &r), 0);
    while (log_reader_next (r, &item) == 0)
        last = item;
    assert_int_equal (last.kind, LOG_ITEM_GAP);
    assert_true (id_is_zero (&last.stream));
    assert_int_equal (last.first_seq, info[count - 1].first_offset);
    assert_int_equal (last.end_seq, after.end_offset);
    log_reader_destroy (&r);
    kit_append_batch (s->log, &(struct kit_batch_spec) { .stream = 9, .first_seq = 1, .count = 1, .payload_len = 10 });
    kit_sync (s->log);
    reopen (s);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    assert_int_equal (log_reader_seek_offset (r, info[count - 1].first_offset), 0);
    assert_int_equal (log_reader_next (r, &item), 0);
    assert_int_equal (item.kind, LOG_ITEM_GAP);
    assert_int_equal (item.end_seq, after.end_offset);
    assert_int_equal (log_reader_next (r, &item), 0);
    assert_int_equal (item.offset, after.end_offset);
    log_reader_destroy (&r);
}

static void damaged_snapshots_are_made_up_from_the_segment_before (void **state)
{
    struct log_setting *s = setting_of (state);
    char path[256];
    struct log_cursor cursor = {
        .name = "shop", .updated_ns = 5, .cursor = slice ("position", 8), .filters = slice ("a.>", 3)
    };
    uint64_t ticket;
    assert_int_equal (work_append (s->log, 2, 100000), 0);
    assert_int_equal (log_cursor_put (s->log, &cursor, &ticket), 0);
    struct log_segment_info info[16];
    size_t count = 0;
    while (count < 3) {
        assert_int_equal (work_append (s->log, 1, 100000), 0);
        kit_sync (s->log);
        assert_int_equal (log_segment_list (s->log, info, 16, &count), 0);
    }
    struct work_contents before = work_check (s->log, 100000);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 3, path);
    kit_flip (path, 4096 + 100);            /* within the first snapshot */
    kit_segment_path (s->directory, 2, path);
    kit_flip (path, 4096 + 100);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    work_check_streams (s->log, &before);
    void *buffer = NULL;
    size_t size = 0;
    struct log_cursor got;
    assert_int_equal (log_cursor_get (s->log, "shop", &buffer, &size, &got), 0);
    assert_true (slice_equal (got.cursor, cursor.cursor));
    assert_true (slice_equal (got.filters, cursor.filters));
    assert_int_equal (got.updated_ns, 5);
    free (buffer);
    work_check (s->log, 100000);
}

/* --- Damage at random: bits, runs of bytes, cut and lengthened files, in any file. */

static uint64_t random_next (uint64_t *x)
{
    *x = *x * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
    return *x >> 33;
}

static void damage_a_file (const char *path, uint64_t *x)
{
    const uint64_t len = kit_file_size (path);
    if (len == 0)
        return;
    uint8_t noise[5000];
    const uint64_t at = random_next (x) % 3 == 0 ? random_next (x) % (len < 6000 ? len : 6000) : random_next (x) % len;
    const uint64_t run = 1 + random_next (x) % sizeof noise;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t) random_next (x);
    const int fd = open (path, O_RDWR);
    assert_true (fd >= 0);
    switch (random_next (x) % 6) {
    case 0:
        assert_int_equal (pwrite (fd, noise, (size_t) (run < len - at ? run : len - at), (off_t) at),
                          run < len - at ? run : len - at);
        break;
    case 1:
        assert_int_equal (ftruncate (fd, (off_t) at), 0);
        break;
    case 2:                                 /* a piece of the file in another place */
        assert_true (pread (fd, noise, (size_t) run, (off_t) (random_next (x) % len / 8 * 8)) > 0);
        assert_true (pwrite (fd, noise, (size_t) run, (off_t) (at / 8 * 8)) > 0);
        break;
    case 3:
        assert_true (pwrite (fd, noise, (size_t) run, (off_t) len) > 0);
        break;
    default:
        kit_flip (path, (int64_t) at);
    }
    close (fd);
}

/* Every batch that is handed out is one that was appended; a stream's sequences jump only where a gap was told. */
static void check_never_silent (struct log *log, size_t largest, uint64_t life)
{
    struct log_reader *r;
    struct log_item item;
    uint64_t next[WORK_STREAMS + 1] = { 0 }, next_offset = 0, told[WORK_STREAMS + 1] = { 0 }, told_offsets = 0;
    int rc;
    assert_int_equal (log_reader_new (log, &r), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        const unsigned stream = work_stream (&item.stream);
        if (stream > WORK_STREAMS) {
            assert_int_equal (item.kind, LOG_ITEM_GAP);
            assert_true (item.first_seq < item.end_seq && item.first_seq >= next_offset);
            told_offsets++;
            next_offset = item.end_seq;
            continue;
        }
        if (next[stream] > 0 && item.first_seq != next[stream]
            && (item.first_seq < next[stream] || told_offsets == told[stream]))
            fail_msg ("life %u: at offset %llu stream %u goes from %llu to %llu, and nothing is told of it",
                      (unsigned) life, (unsigned long long) item.offset, stream, (unsigned long long) next[stream],
                      (unsigned long long) item.first_seq);
        next[stream] = item.end_seq;
        told[stream] = told_offsets;
        assert_true (item.offset >= next_offset || item.kind == LOG_ITEM_GAP);
        if (item.kind == LOG_ITEM_BATCH) {
            struct kit_batch_spec spec = work_spec (stream, item.first_seq, largest);
            assert_true (kit_item_is (&item, &spec));
            next_offset = item.offset + spec.count;
        }
    }
    assert_int_equal (rc, FM_ERR_END);
    log_reader_destroy (&r);
}

static void random_damage_never_stops_a_journal_and_is_never_silent (void **state)
{
    struct log_setting *s = setting_of (state);
    enum { LARGEST = 20000, SEGMENTS = 3, LIVES = 200 };
    struct log_segment_info info[8];
    size_t count = 0;
    struct log_cursor cursor = { .name = "shop", .cursor = slice_of ("here") };
    uint64_t ticket;
    assert_int_equal (log_cursor_put (s->log, &cursor, &ticket), 0);
    for (unsigned i = 0; count < SEGMENTS || i % 40 != 0; i++) {
        assert_int_equal (work_append (s->log, 1 + i % WORK_STREAMS, LARGEST), 0);
        if (i % 10 == 0) {
            kit_sync (s->log);
            assert_int_equal (log_segment_list (s->log, info, 8, &count), 0);
        }
    }
    kit_sync (s->log);
    assert_int_equal (log_mark_idle (s->log), 0);
    log_destroy (&s->log);
    char copy[160], path[256];
    (void) snprintf (copy, sizeof copy, "%s.copy", s->directory);
    for (uint64_t life = 1; life <= LIVES; life++) {
        uint64_t x = life * UINT64_C (0x9E3779B97F4A7C15);
        kit_copy (s->directory, copy);
        for (uint64_t wounds = 1 + random_next (&x) % 4; wounds > 0; wounds--) {
            const uint64_t which = random_next (&x) % (SEGMENTS + 1);
            if (which == 0)
                (void) snprintf (path, sizeof path, "%s/journal.cookie", copy);
            else
                kit_segment_path (copy, which, path);
            damage_a_file (path, &x);
        }
        for (int again = 0; again < 2; again++) {
            struct log *log;
            const int rc = log_open (copy, &s->options, NULL, &log);
            if (rc)
                fail_msg ("life %u: log_open: %d %s", (unsigned) life, rc, fm_error_detail ());
            check_never_silent (log, LARGEST, life);
            struct log_verify_result verified;
            assert_int_equal (log_verify (log, NULL, NULL, NULL, &verified), 0);
            for (unsigned stream = 1; stream <= WORK_STREAMS; stream++) {
                const int appended = work_append (log, stream, LARGEST);
                assert_int_equal (appended, 0);
            }
            kit_sync (log);
            check_never_silent (log, LARGEST, life);
            log_destroy (&log);
        }
        kit_remove (copy);
    }
}

/* --- No memory. */

static uint64_t address_space (void)
{
    unsigned long long pages = 0;
    FILE *file = fopen ("/proc/self/statm", "r");
    assert_non_null (file);
    assert_int_equal (fscanf (file, "%llu", &pages), 1);
    (void) fclose (file);
    return pages * (uint64_t) sysconf (_SC_PAGESIZE);
}

static void a_cursor_for_which_there_is_no_memory_fails_and_leaks_nothing (void **state)
{
    (void) state;
#ifdef __SANITIZE_ADDRESS__
    skip ();                                /* its allocator does not return */
#endif
    enum { COUNT = 1 << 23 };               /* 64 MiB, beyond what malloc takes from its heap; the table's next step is twice that */
    const struct cursor_view c = { .name = slice_of ("b"), .cursor = slice_of ("x"), .updated_ns = 1 };
    const struct cursor_view old = { .name = slice_of ("a") };
    uint8_t body[128], name[128];
    assert_true (cursor_entry_len (&c) <= sizeof body && cursor_entry_len (&old) <= sizeof name);
    cursor_entry_encode (body, &c);
    cursor_entry_encode (name, &old);
    struct cursor_table table = { .entries = malloc (COUNT * sizeof *table.entries), .count = COUNT, .size = COUNT, .max = COUNT };
    assert_non_null (table.entries);
    for (uint32_t i = 0; i < COUNT; i++)
        table.entries[i] = name;
    struct recover_state apply = { .cursors = &table };
    const struct record r = { .kind = RECORD_CURSOR_PUT, .count = 1, .offset = 1, .body_len = (uint32_t) cursor_entry_len (&c) };
    struct rlimit before, now;
    assert_int_equal (getrlimit (RLIMIT_AS, &before), 0);
    now = before;
    now.rlim_cur = address_space () + (4 << 20);
    assert_int_equal (setrlimit (RLIMIT_AS, &now), 0);
    int rc = recover_apply (&apply, &r, body, SEGMENT_RECORDS_POS);     /* what is kept for reuse counts as used */
    const size_t used = mallinfo2 ().uordblks;
    if (rc == -ENOMEM)
        rc = recover_apply (&apply, &r, body, SEGMENT_RECORDS_POS);
    const size_t left = mallinfo2 ().uordblks;
    assert_int_equal (setrlimit (RLIMIT_AS, &before), 0);
    free (table.entries);
    assert_int_equal (rc, -ENOMEM);
    assert_int_equal (left, used);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown (name, log_set_up_real_clock, log_tear_down)
        CASE (what_was_written_but_not_synced_survives_a_kill),
        CASE (what_was_only_appended_is_gone_after_a_kill),
        CASE (a_tail_cut_anywhere_leaves_a_prefix),
        CASE (garbage_behind_the_end_is_quarantined_and_cut),
        CASE (a_torn_end_before_a_footer_is_quarantined_too),
        CASE (damage_below_what_was_synced_is_told_with_its_range),
        CASE (the_idle_mark_makes_damage_of_the_last_record_known),
        CASE (a_lost_header_at_the_very_end_is_told_all_the_same),
        CASE (without_a_mark_a_broken_last_record_is_a_torn_tail),
        CASE (damage_stays_damage_when_the_tail_that_told_it_is_cut),
        CASE (each_copy_of_the_header_stands_in_for_the_others),
        CASE (a_lost_cookie_comes_back_from_the_segments),
        CASE (a_last_segment_without_header_gives_no_offset_twice),
        CASE (damaged_snapshots_are_made_up_from_the_segment_before),
        CASE (random_damage_never_stops_a_journal_and_is_never_silent),
        cmocka_unit_test (a_cursor_for_which_there_is_no_memory_fails_and_leaks_nothing),
#undef CASE
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
