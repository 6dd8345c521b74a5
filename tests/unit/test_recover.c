/* What a start finds after kill -9, power loss, failing disks and flipped bits: never less than what was
 * acknowledged, never something that nobody appended, and never silence about what is lost. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_kit.h"
#include "error.h"
#include "factmesh.pb-c.h"

struct setting {
    char directory[128];
    struct log *log;
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
    s->options = (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 4 << 20 };
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

static struct log_recovery reopen (struct setting *s)
{
    struct log_recovery recovery;
    log_destroy (&s->log);
    const int rc = log_open (s->directory, &s->options, &recovery, &s->log);
    if (rc)
        fail_msg ("log_open: %d %s", rc, fm_error_detail ());
    return recovery;
}

/* --- A workload that can be checked: STREAMS streams, batches of 1 to 3 facts, sizes and topics that follow from
 * the sequence. */

enum { STREAMS = 3 };

static struct kit_batch_spec spec_of (unsigned stream, uint64_t first_seq, size_t largest)
{
    static const char *const topics[] = { "a.b", "a.c", "d", "a.b|a.c" };
    const uint64_t x = first_seq * 2654435761u + stream * 97;
    return (struct kit_batch_spec) { .stream = stream, .first_seq = first_seq, .count = (uint32_t) (1 + x % 3),
                                     .payload_len = (size_t) (x >> 8) % (largest + 1), .topic = topics[x % 4] };
}

static uint64_t next_seq (struct log *log, unsigned stream)
{
    struct fm_id id = kit_stream (stream);
    struct log_stream known;
    return log_stream_get (log, &id, &known) == 0 ? known.last_seq + 1 : 1;
}

/* Append the stream's next batch; 0 or log_append's error. */
static int append_next (struct log *log, unsigned stream, size_t largest)
{
    struct kit_batch_spec spec = spec_of (stream, next_seq (log, stream), largest);
    struct kit_batch k;
    uint64_t offset;
    kit_batch_make (&spec, &k);
    const int rc = log_append (log, &k.batch, &offset);
    kit_batch_release (&k);
    return rc;
}

struct contents {
    uint64_t next_seq[STREAMS + 1];
    uint64_t batches, gaps, damaged_facts, end_offset;
};

/* Read everything, and compare each batch with what was appended. Sequences have no holes but those that gaps tell. */
static struct contents check_contents (struct log *log, size_t largest)
{
    struct contents c = { .end_offset = 1 };
    struct log_reader *r;
    struct log_item item;
    int rc;
    for (unsigned i = 0; i <= STREAMS; i++)
        c.next_seq[i] = 1;
    assert_int_equal (log_reader_new (log, &r), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        unsigned stream = 1;
        for (; stream <= STREAMS; stream++) {
            const struct fm_id id = kit_stream (stream);
            if (id_equal (&id, &item.stream))
                break;
        }
        if (item.kind == LOG_ITEM_GAP) {
            c.gaps++;
            assert_int_equal (item.reason, FACTMESH__GAP_REASON__GAP_DAMAGED);
            if (stream > STREAMS)
                continue;
            c.damaged_facts += item.end_seq - item.first_seq;
        } else
            assert_true (stream <= STREAMS);
        assert_int_equal (item.first_seq, c.next_seq[stream]);
        c.next_seq[stream] = item.end_seq;
        if (item.kind == LOG_ITEM_BATCH) {
            struct kit_batch_spec spec = spec_of (stream, item.first_seq, largest);
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

static void check_streams (struct log *log, const struct contents *c)
{
    for (unsigned stream = 1; stream <= STREAMS; stream++)
        assert_int_equal (next_seq (log, stream), c->next_seq[stream]);
}

/* --- The process dies; the machine does not. */

static void what_was_written_but_not_synced_survives_a_kill (void **state)
{
    struct setting *s = setting_of (state);
    for (int i = 0; i < 100; i++)
        assert_int_equal (append_next (s->log, 1 + (unsigned) i % STREAMS, 500), 0);
    assert_int_equal (log_write (s->log), 0);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    struct contents c = check_contents (s->log, 500);
    assert_int_equal (c.batches, 100);
    check_streams (s->log, &c);
}

static void what_was_only_appended_is_gone_after_a_kill (void **state)
{
    struct setting *s = setting_of (state);
    assert_int_equal (append_next (s->log, 1, 500), 0);
    kit_sync (s->log);
    assert_int_equal (append_next (s->log, 1, 500), 0);
    reopen (s);
    struct contents c = check_contents (s->log, 500);
    assert_int_equal (c.batches, 1);
    check_streams (s->log, &c);
}

/* Cut the file at every length between the synced end and the written end, as a crash may. */
static void a_tail_cut_anywhere_leaves_a_prefix (void **state)
{
    struct setting *s = setting_of (state);
    char path[256], copy[160];
    struct contents last = { .end_offset = 0 };
    for (int i = 0; i < 5; i++)
        assert_int_equal (append_next (s->log, 1 + (unsigned) i % STREAMS, 100), 0);
    kit_sync (s->log);
    struct log_segment_info info;
    size_t count;
    for (int i = 0; i < 5; i++)
        assert_int_equal (append_next (s->log, 1 + (unsigned) i % STREAMS, 100), 0);
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
        struct contents c = check_contents (log, 100);
        assert_true (c.end_offset >= last.end_offset);
        assert_int_equal (c.gaps, 0);
        check_streams (log, &c);
        last = c;
        /* And it goes on. */
        assert_int_equal (append_next (log, 2, 100), 0);
        kit_sync (log);
        struct contents more = check_contents (log, 100);
        assert_int_equal (more.batches, c.batches + 1);
        log_destroy (&log);
        kit_remove (copy);
    }
    assert_int_equal (last.batches, 10);
}

static void garbage_behind_the_end_is_quarantined_and_cut (void **state)
{
    struct setting *s = setting_of (state);
    char path[256];
    uint8_t garbage[1000];
    for (int i = 0; i < 10; i++)
        assert_int_equal (append_next (s->log, 1, 100), 0);
    kit_sync (s->log);
    log_destroy (&s->log);
    memset (garbage, 0xA5, sizeof garbage);
    kit_segment_path (s->directory, 1, path);
    kit_append (path, garbage, sizeof garbage);     /* behind the zeros that were filled in ahead */
    struct log_recovery recovery = reopen (s);
    assert_true (recovery.torn_bytes >= sizeof garbage);
    struct contents c = check_contents (s->log, 100);
    assert_int_equal (c.batches, 10);
    char quarantine[256];
    (void) snprintf (quarantine, sizeof quarantine, "ls %.128s/quarantine | grep -q torn", s->directory);
    assert_int_equal (system (quarantine), 0);
    recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
}

/* --- Bits flip. */

/* Position of the n-th record behind the snapshots in segment 1, by its batch's bytes. */
static uint64_t find_record (const char *path, const struct kit_batch_spec *spec)
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

static void damage_below_what_was_synced_is_told_with_its_range (void **state)
{
    struct setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 50 };
    for (int i = 0; i < 10; i++, spec.first_seq += 2) {
        kit_append_batch (s->log, &spec);
        kit_sync (s->log);
    }
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    spec.first_seq = 7;
    const uint64_t body = find_record (path, &spec);
    spec.first_seq = 13;
    const uint64_t header = find_record (path, &spec) - 40;
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
    struct setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 50 };
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    kit_segment_path (s->directory, 1, path);
    const uint64_t body = find_record (path, &spec);
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
    struct setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 3, .payload_len = 50 };
    kit_append_batch (s->log, &spec);
    kit_sync (s->log);
    kit_segment_path (s->directory, 1, path);
    const uint64_t body = find_record (path, &spec);
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
    struct setting *s = setting_of (state);
    char path[256];
    struct kit_batch_spec spec = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 50 };
    kit_append_batch (s->log, &spec);
    assert_int_equal (log_write (s->log), 0);
    kit_segment_path (s->directory, 1, path);
    const uint64_t body = find_record (path, &spec);
    log_destroy (&s->log);
    kit_flip (path, (int64_t) body + 3);
    struct log_recovery recovery = reopen (s);
    assert_true (recovery.torn_bytes > 0);
    assert_int_equal (recovery.damaged_ranges, 0);
}

static void each_copy_of_the_header_stands_in_for_the_others (void **state)
{
    struct setting *s = setting_of (state);
    char path[256];
    for (int i = 0; i < 10; i++)
        assert_int_equal (append_next (s->log, 1, 100), 0);
    kit_sync (s->log);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 1, path);
    kit_flip (path, 17);
    reopen (s);
    assert_int_equal (check_contents (s->log, 100).batches, 10);
    log_destroy (&s->log);
    kit_flip (path, 17);
    kit_flip (path, 2048 + 70);
    reopen (s);
    assert_int_equal (check_contents (s->log, 100).batches, 10);
}

static void a_lost_cookie_comes_back_from_the_segments (void **state)
{
    struct setting *s = setting_of (state);
    char path[256];
    struct fm_id before, after;
    uint64_t generation;
    assert_int_equal (append_next (s->log, 1, 100), 0);
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
    assert_int_equal (check_contents (s->log, 100).batches, 1);
}

static void a_last_segment_without_header_gives_no_offset_twice (void **state)
{
    struct setting *s = setting_of (state);
    char path[256];
    struct log_position before, after;
    for (int i = 0; i < 30; i++) {
        assert_int_equal (append_next (s->log, 1, 100000), 0);
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
    struct setting *s = setting_of (state);
    char path[256];
    struct log_cursor cursor = {
        .name = "shop", .updated_ns = 5, .cursor = slice ("position", 8), .filters = slice ("a.>", 3)
    };
    uint64_t ticket;
    assert_int_equal (append_next (s->log, 2, 100000), 0);
    assert_int_equal (log_cursor_put (s->log, &cursor, &ticket), 0);
    struct log_segment_info info[16];
    size_t count = 0;
    while (count < 3) {
        assert_int_equal (append_next (s->log, 1, 100000), 0);
        kit_sync (s->log);
        assert_int_equal (log_segment_list (s->log, info, 16, &count), 0);
    }
    struct contents before = check_contents (s->log, 100000);
    log_destroy (&s->log);
    kit_segment_path (s->directory, 3, path);
    kit_flip (path, 4096 + 100);            /* within the first snapshot */
    kit_segment_path (s->directory, 2, path);
    kit_flip (path, 4096 + 100);
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    check_streams (s->log, &before);
    void *buffer = NULL;
    size_t size = 0;
    struct log_cursor got;
    assert_int_equal (log_cursor_get (s->log, "shop", &buffer, &size, &got), 0);
    assert_true (slice_equal (got.cursor, cursor.cursor));
    assert_true (slice_equal (got.filters, cursor.filters));
    assert_int_equal (got.updated_ns, 5);
    free (buffer);
    check_contents (s->log, 100000);
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
    uint64_t next[STREAMS + 1] = { 0 }, next_offset = 0, told[STREAMS + 1] = { 0 }, told_offsets = 0;
    int rc;
    assert_int_equal (log_reader_new (log, &r), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        unsigned stream = 1;
        for (; stream <= STREAMS; stream++) {
            const struct fm_id id = kit_stream (stream);
            if (id_equal (&id, &item.stream))
                break;
        }
        if (stream > STREAMS) {
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
            struct kit_batch_spec spec = spec_of (stream, item.first_seq, largest);
            assert_true (kit_item_is (&item, &spec));
            next_offset = item.offset + spec.count;
        }
    }
    assert_int_equal (rc, FM_ERR_END);
    log_reader_destroy (&r);
}

static void random_damage_never_stops_a_journal_and_is_never_silent (void **state)
{
    struct setting *s = setting_of (state);
    enum { LARGEST = 20000, SEGMENTS = 3, LIVES = 200 };
    struct log_segment_info info[8];
    size_t count = 0;
    struct log_cursor cursor = { .name = "shop", .cursor = slice_of ("here") };
    uint64_t ticket;
    assert_int_equal (log_cursor_put (s->log, &cursor, &ticket), 0);
    for (unsigned i = 0; count < SEGMENTS || i % 40 != 0; i++) {
        assert_int_equal (append_next (s->log, 1 + i % STREAMS, LARGEST), 0);
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
            for (unsigned stream = 1; stream <= STREAMS; stream++) {
                const int appended = append_next (log, stream, LARGEST);
                assert_int_equal (appended, 0);
            }
            kit_sync (log);
            check_never_silent (log, LARGEST, life);
            log_destroy (&log);
        }
        kit_remove (copy);
    }
}

/* --- The file system fails, or the power goes, at every call. */

struct acknowledged {
    uint64_t next_seq[STREAMS + 1];     /* synced */
    uint64_t appended[STREAMS + 1];
};

/* Append, write and sync for some rounds; what a sync acknowledged is noted. Returns the first error, 0: none. */
static int work (struct log *log, struct acknowledged *a, size_t largest, int rounds)
{
    for (int round = 0; round < rounds; round++) {
        for (unsigned stream = 1; stream <= STREAMS; stream++)
            for (int i = 0; i < 4; i++) {
                const int rc = append_next (log, stream, largest);
                if (rc)
                    return rc;
                a->appended[stream] = next_seq (log, stream);
            }
        int rc;
        while ((rc = log_write (log)) == 0)
            ;
        if (rc != FM_ERR_END)
            return rc;
        if (round % 2 == 1) {
            rc = log_sync (log, NULL);
            if (rc)
                return rc;
            struct log_stream streams[STREAMS];
            size_t count;
            assert_int_equal (log_synced_streams (log, streams, STREAMS, &count), 0);
            for (size_t i = 0; i < count; i++)
                for (unsigned stream = 1; stream <= STREAMS; stream++) {
                    const struct fm_id id = kit_stream (stream);
                    if (id_equal (&id, &streams[i].stream))
                        a->next_seq[stream] = streams[i].synced_seq + 1;
                }
            if (round % 6 == 5 && (rc = log_mark_idle (log)) != 0)
                return rc;
        }
    }
    return 0;
}

static void check_after (struct log *log, const struct acknowledged *a, size_t largest)
{
    struct contents c = check_contents (log, largest);
    assert_int_equal (c.gaps, 0);
    for (unsigned stream = 1; stream <= STREAMS; stream++) {
        assert_true (c.next_seq[stream] >= a->next_seq[stream]);
        assert_true (c.next_seq[stream] <= (a->appended[stream] ? a->appended[stream] : 1));
    }
    check_streams (log, &c);
    struct log_verify_result verified;
    assert_int_equal (log_verify (log, NULL, NULL, NULL, &verified), 0);
    assert_int_equal (verified.damaged, 0);
}

/* One life: a failing file system under it from the first call on. Returns false when the failure never came. */
static bool live_and_die (unsigned long n, unsigned keep_percent, bool power)
{
    char directory[128];
    struct log *log = NULL;
    struct acknowledged a = { 0 };
    enum { LARGEST = 30000 };
    kit_directory (directory);
    struct fail_fs *f = fail_fs_new ();
    struct log_options options = {
        .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 4 << 20, .fs = fail_fs_seam (f)
    };
    if (power)
        fail_fs_power_off (f, n);
    else
        fail_fs_fail (f, FAIL_ANY, n, -EIO);
    int rc = log_open (directory, &options, NULL, &log);
    if (rc == 0)
        rc = work (log, &a, LARGEST, 12);
    log_destroy (&log);
    const bool happened = fail_fs_happened (f);
    if (power)
        fail_fs_power_loss (f, (unsigned) n, keep_percent);
    fail_fs_destroy (&f);
    options.fs = NULL;
    rc = log_open (directory, &options, NULL, &log);
    if (rc)
        fail_msg ("n=%lu: log_open: %d %s", n, rc, fm_error_detail ());
    check_after (log, &a, LARGEST);
    /* Life goes on, and the next start finds it all. */
    for (unsigned stream = 1; stream <= STREAMS; stream++)
        a.appended[stream] = next_seq (log, stream);
    assert_int_equal (work (log, &a, LARGEST, 4), 0);
    log_destroy (&log);
    assert_int_equal (log_open (directory, &options, NULL, &log), 0);
    check_after (log, &a, LARGEST);
    log_destroy (&log);
    kit_remove (directory);
    return happened;
}

static void whichever_call_fails_nothing_acknowledged_is_lost (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (live_and_die (n, 0, false))
        n++;
    assert_true (n > 60);
}

static void whenever_the_power_goes_nothing_acknowledged_is_lost (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (live_and_die (n, (unsigned) (n * 37) % 101, true))
        n++;
    assert_true (n > 60);
}

static void a_failed_sync_is_never_retried (void **state)
{
    struct setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    assert_int_equal (append_next (s->log, 1, 100), 0);
    assert_int_equal (log_write (s->log), 0);
    fail_fs_fail (f, FAIL_SYNC, 1, -EIO);
    assert_int_equal (log_sync (s->log, NULL), -EIO);
    assert_true (log_is_read_only (s->log));
    const unsigned long calls = fail_fs_calls (f);
    assert_int_equal (log_sync (s->log, NULL), FM_ERR_READ_ONLY);
    assert_int_equal (log_write (s->log), FM_ERR_READ_ONLY);
    assert_int_equal (log_mark_idle (s->log), FM_ERR_READ_ONLY);
    assert_int_equal (append_next (s->log, 1, 100), FM_ERR_READ_ONLY);
    assert_int_equal (fail_fs_calls (f), calls);
    struct log_position position;
    log_position (s->log, &position);
    assert_int_equal (position.synced_offset, 1);
    s->options.fs = NULL;
    reopen (s);
    fail_fs_destroy (&f);
}

/* The page cache shows records that the disk does not have, and no fsync will write them. A start that took them for
 * synced would tell publishers to drop them. */
static void what_a_failed_sync_left_in_the_page_cache_is_made_durable_by_the_next_start (void **state)
{
    struct setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    for (int round = 0; round < 2; round++) {       /* the second time within a segment that was sealed, too */
        for (int i = 0; i < 20; i++)
            assert_int_equal (append_next (s->log, 1 + (unsigned) i % STREAMS, 20000), 0);
        assert_int_equal (log_write (s->log), 0);
        fail_fs_fail (f, FAIL_SYNC, 1, -EIO);
        assert_int_equal (log_sync (s->log, NULL), -EIO);
        reopen (s);
        struct contents c = check_contents (s->log, 20000);
        assert_int_equal (c.batches, 20 * (round + 1));
    }
    /* The sync of a seal fails: the file looks sealed. */
    for (int i = 0; i < 70; i++)
        assert_int_equal (append_next (s->log, 1 + (unsigned) i % STREAMS, 20000), 0);
    fail_fs_fail (f, FAIL_SYNC, 1, -EIO);
    assert_int_equal (log_write (s->log), -EIO);
    reopen (s);
    struct contents before = check_contents (s->log, 20000);
    assert_true (before.batches > 40);
    log_destroy (&s->log);
    fail_fs_power_loss (f, 1, 0);
    s->options.fs = NULL;
    struct log_recovery recovery = reopen (s);
    assert_int_equal (recovery.torn_bytes, 0);
    struct contents after = check_contents (s->log, 20000);
    assert_int_equal (after.batches, before.batches);
    assert_int_equal (after.gaps, 0);
    fail_fs_destroy (&f);
}

static void a_full_disk_loses_nothing_and_recovers_by_itself (void **state)
{
    struct setting *s = setting_of (state);
    struct fail_fs *f = fail_fs_new ();
    s->options.fs = fail_fs_seam (f);
    reopen (s);
    for (int i = 0; i < 60; i++)
        assert_int_equal (append_next (s->log, 1 + (unsigned) i % STREAMS, 30000), 0);
    /* Full at any write: of records, of a footer, of a new segment; each time a little later. */
    int full = 0, rc;
    for (unsigned long n = 1;; n++) {
        fail_fs_fail (f, FAIL_WRITE, n, -ENOSPC);
        rc = log_write (s->log);
        if (rc != -ENOSPC)
            break;
        assert_false (log_is_read_only (s->log));
        full++;
    }
    assert_int_equal (rc, 0);
    assert_true (full >= 2);
    fail_fs_fail (f, FAIL_WRITE, 0, 0);
    for (int i = 0; i < 60; i++)
        assert_int_equal (append_next (s->log, 1 + (unsigned) i % STREAMS, 30000), 0);
    fail_fs_disk_full (f, true);
    for (int i = 0; i < 3; i++)
        assert_int_equal (log_write (s->log), -ENOSPC);
    assert_int_equal (log_sync (s->log, NULL), 0);
    fail_fs_disk_full (f, false);
    kit_sync (s->log);
    struct contents c = check_contents (s->log, 30000);
    assert_int_equal (c.batches, 120);
    assert_int_equal (c.gaps, 0);
    s->options.fs = NULL;
    reopen (s);
    assert_int_equal (check_contents (s->log, 30000).batches, 120);
    fail_fs_destroy (&f);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (what_was_written_but_not_synced_survives_a_kill, set_up, tear_down),
        cmocka_unit_test_setup_teardown (what_was_only_appended_is_gone_after_a_kill, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_tail_cut_anywhere_leaves_a_prefix, set_up, tear_down),
        cmocka_unit_test_setup_teardown (garbage_behind_the_end_is_quarantined_and_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown (damage_below_what_was_synced_is_told_with_its_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown (the_idle_mark_makes_damage_of_the_last_record_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_lost_header_at_the_very_end_is_told_all_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown (without_a_mark_a_broken_last_record_is_a_torn_tail, set_up, tear_down),
        cmocka_unit_test_setup_teardown (each_copy_of_the_header_stands_in_for_the_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_lost_cookie_comes_back_from_the_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_last_segment_without_header_gives_no_offset_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown (damaged_snapshots_are_made_up_from_the_segment_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown (random_damage_never_stops_a_journal_and_is_never_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_failed_sync_is_never_retried, set_up, tear_down),
        cmocka_unit_test_setup_teardown (what_a_failed_sync_left_in_the_page_cache_is_made_durable_by_the_next_start,
                                         set_up, tear_down),
        cmocka_unit_test_setup_teardown (a_full_disk_loses_nothing_and_recovers_by_itself, set_up, tear_down),
        cmocka_unit_test (whichever_call_fails_nothing_acknowledged_is_lost),
        cmocka_unit_test (whenever_the_power_goes_nothing_acknowledged_is_lost),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
