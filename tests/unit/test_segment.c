/* A segment's bytes: headers, trailers, the index; and golden files, which change together with FORMAT.md or not at
 * all.
 *
 * GOLDEN_WRITE=1 writes tests/golden/journal anew. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/log_kit.h"
#include "checksum.h"
#include "cookie.h"
#include "cursor_table.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "record.h"
#include "segment.h"
#include "segment_index.h"
#include "stream_table.h"

#define GOLDEN "tests/golden/journal"
#define SEGMENT "segments/0000000042.seg"
#define CLOSED_SEGMENT "closed/0000000043.seg"
#define IDENTITIES_SEGMENT "identities/0000000044.seg"

/* --- Parts. */

static struct segment_header sample_header (void)
{
    struct segment_header h = { .generation = 3,
                                .number = 42,
                                .base_offset = 1000,
                                .created_ns = UINT64_C (1700000000000000000),
                                .prior_bytes = 123456,
                                .snapshot_end = 4096 + 88,
                                .first_number = 40,
                                .mesh = "test" };
    for (uint8_t i = 0; i < 16; i++) {
        h.journal.bytes[i] = (uint8_t) (0x4a + i);
        h.salt[i] = (uint8_t) (0xb0 + i);
    }
    return h;
}

static void a_header_comes_back_and_no_flipped_bit_passes (void **state)
{
    (void) state;
    const struct segment_header h = sample_header ();
    struct segment_header d;
    uint8_t bytes[SEGMENT_HEADER_LEN];
    segment_header_encode (&h, bytes);
    assert_int_equal (segment_header_decode (bytes, &d), 0);
    assert_int_equal (d.number, h.number);
    assert_int_equal (d.generation, h.generation);
    assert_int_equal (d.base_offset, h.base_offset);
    assert_int_equal (d.created_ns, h.created_ns);
    assert_int_equal (d.prior_bytes, h.prior_bytes);
    assert_int_equal (d.snapshot_end, h.snapshot_end);
    assert_int_equal (d.first_number, h.first_number);
    assert_memory_equal (d.salt, h.salt, 16);
    assert_true (id_equal (&d.journal, &h.journal));
    assert_string_equal (d.mesh, "test");
    for (unsigned bit = 0; bit < 8 * SEGMENT_HEADER_LEN; bit++) {
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
        assert_int_equal (segment_header_decode (bytes, &d), FM_ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
    }
}

static void another_major_version_is_refused_as_such (void **state)
{
    (void) state;
    const struct segment_header h = sample_header ();
    struct segment_header d;
    uint8_t bytes[SEGMENT_HEADER_LEN];
    segment_header_encode (&h, bytes);
    bytes_put_u32le (bytes + 8, SEGMENT_MAJOR + 1);
    bytes_put_u64le (bytes + 248, checksum (bytes, 248));
    assert_int_equal (segment_header_decode (bytes, &d), FM_ERR_NEWER);
    segment_header_encode (&h, bytes);
    bytes_put_u32le (bytes + 12, SEGMENT_MINOR + 1);
    bytes_put_u64le (bytes + 248, checksum (bytes, 248));
    assert_int_equal (segment_header_decode (bytes, &d), 0);
}

static void a_trailer_belongs_to_its_segment_and_lies_within_its_file (void **state)
{
    (void) state;
    const struct segment_header h = sample_header ();
    struct segment_header other = h;
    const struct segment_trailer t = { .records_end = 8192,
                                       .end_offset = 1010,
                                       .records = 10,
                                       .facts = 10,
                                       .stream_count = 1,
                                       .streams = { 8192, 80, 5 },
                                       .topics = { 8272, 0, 0 },
                                       .positions = { 8272, 24, 0 } };
    struct segment_trailer d;
    uint8_t bytes[SEGMENT_TRAILER_LEN];
    const uint64_t len = 8296 + SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN;
    segment_trailer_encode (&t, &h, bytes);
    assert_int_equal (segment_trailer_decode (bytes, &h, len, &d), 0);
    assert_int_equal (d.records_end, t.records_end);
    assert_int_equal (d.streams.len, 80);
    assert_int_equal (segment_trailer_decode (bytes, &h, len - 8, &d), FM_ERR_CORRUPT);
    other.number++;
    assert_int_equal (segment_trailer_decode (bytes, &other, len, &d), FM_ERR_CORRUPT);
    other = h;
    other.salt[15] ^= 1;
    assert_int_equal (segment_trailer_decode (bytes, &other, len, &d), FM_ERR_CORRUPT);
    for (unsigned bit = 0; bit < 8 * SEGMENT_TRAILER_LEN; bit++) {
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
        assert_int_equal (segment_trailer_decode (bytes, &h, len, &d), FM_ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
    }
    struct segment_trailer bad = t;         /* sums hold, places do not */
    bad.positions.len = UINT64_MAX;
    segment_trailer_encode (&bad, &h, bytes);
    assert_int_equal (segment_trailer_decode (bytes, &h, len, &d), FM_ERR_CORRUPT);
    bad = t;
    bad.streams.pos = 0;
    segment_trailer_encode (&bad, &h, bytes);
    assert_int_equal (segment_trailer_decode (bytes, &h, len, &d), FM_ERR_CORRUPT);
}

static void only_a_segments_own_name_is_one (void **state)
{
    (void) state;
    static const char *const bad[] = { "",
                                       "seg",
                                       "42.seg",
                                       "00000000042.seg",
                                       "0000000042.segs",
                                       "0000000042",
                                       "0000000000.seg",
                                       "-000000042.seg",
                                       "0000000042.seg ",
                                       "next.tmp",
                                       "99999999999999999999999.seg" };
    char name[SEGMENT_NAME_LEN];
    uint64_t number = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false (segment_name_parse (bad[i], &number));
    assert_int_equal (number, 7);
    static const uint64_t good[] = { 1, 42, 9999999999, 10000000000, UINT64_MAX / 10 };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        segment_name (good[i], name);
        assert_true (segment_name_parse (name, &number));
        assert_int_equal (number, good[i]);
    }
}

static void a_cursor_entry_with_lying_lengths_is_refused (void **state)
{
    (void) state;
    const struct cursor_view c = {
        .name = slice_of ("shop"), .cursor = slice_of ("here"), .filters = slice_of (">"), .updated_ns = 9
    };
    struct cursor_view d;
    uint8_t entry[64];
    size_t len;
    assert_int_equal (cursor_entry_len (&c), 40);
    cursor_entry_encode (entry, &c);
    assert_int_equal (cursor_entry_decode (entry, 40, &d, &len), 0);
    assert_int_equal (len, 40);
    assert_true (slice_equal (d.name, c.name) && slice_equal (d.cursor, c.cursor)
                 && slice_equal (d.filters, c.filters));
    for (size_t cut = 0; cut < 40; cut++)
        assert_int_equal (cursor_entry_decode (entry, cut, &d, &len), FM_ERR_CORRUPT);
    for (size_t at = 0; at < 12; at += 4) {
        uint8_t lie[64];
        memcpy (lie, entry, sizeof lie);
        bytes_put_u32le (lie + at, UINT32_MAX);
        assert_int_equal (cursor_entry_decode (lie, 40, &d, &len), FM_ERR_CORRUPT);
    }
}

static void a_cursor_entry_whose_name_holds_a_nul_is_refused (void **state)
{
    (void) state;
    const struct cursor_view c = { .name = slice ("shop\0x", 6), .cursor = slice_of ("here"), .updated_ns = 9 };
    struct cursor_view d;
    uint8_t entry[64];
    size_t len;
    cursor_entry_encode (entry, &c);
    assert_int_equal (cursor_entry_decode (entry, cursor_entry_len (&c), &d, &len), FM_ERR_CORRUPT);
}

/* --- A whole segment with every kind of record, always the same bytes. */

struct writer {
    struct segment segment;
    struct segment_index *index;
    uint64_t offset, time_ns;
    uint8_t buffer[16384];
};

static void put (struct writer *w, struct record r, const void *body, size_t len)
{
    r.body_len = (uint32_t) len;
    r.offset = w->offset;
    r.time_ns = w->time_ns;
    record_encode (w->buffer, &r);
    if (len > 0)
        memcpy (w->buffer + RECORD_HEADER_LEN, body, len);
    record_stamp (w->buffer, w->segment.seed, w->segment.pos, w->segment.synced_pos);
    (void) segment_index_add (w->index, &r, w->buffer + RECORD_HEADER_LEN, w->segment.pos);
    assert_int_equal (segment_write (&w->segment, w->buffer, (size_t) record_len ((uint32_t) len)), 0);
    w->offset += record_offsets (&r);
    w->time_ns += 1000;
}

static void put_batch (struct writer *w, const struct kit_batch_spec *spec)
{
    struct kit_batch k;
    kit_batch_make (spec, &k);
    put (w,
         (struct record) { .kind = RECORD_BATCH,
                           .count = k.batch.count,
                           .stream = k.batch.stream,
                           .first_seq = k.batch.first_seq,
                           .epoch = k.batch.epoch,
                           .incarnation = k.batch.incarnation },
         k.bytes, k.len);
    kit_batch_release (&k);
}

static void write_golden_segment (int dir)
{
    struct writer *w = calloc (1, sizeof *w);
    const struct segment_header h = sample_header ();
    uint8_t body[256];
    w->offset = h.base_offset;
    w->time_ns = h.created_ns;
    assert_int_equal (segment_create (&w->segment, &fs_real, dir, &h), 0);
    assert_int_equal (segment_index_new (&w->index), 0);

    const struct stream_state known = {
        .stream = kit_stream (1), .epoch = 1, .incarnation = 8, .first_seq = 5, .last_seq = 9, .last_offset = 990
    };
    stream_state_encode (body, &known);
    put (w, (struct record) { .kind = RECORD_STREAM_SNAPSHOT, .flags = RECORD_FLAG_COMPLETE, .count = 1 }, body,
         STREAM_SNAPSHOT_LEN);
    put (w, (struct record) { .kind = RECORD_STREAM_SNAPSHOT, .flags = RECORD_FLAG_COMPLETE }, NULL, 0);
    const struct cursor_view cursor = {
        .name = slice_of ("shop"), .cursor = slice_of ("here"), .filters = slice_of ("a.>"), .updated_ns = 77
    };
    cursor_entry_encode (body, &cursor);
    put (w, (struct record) { .kind = RECORD_CURSOR_SNAPSHOT, .count = 1 }, body, cursor_entry_len (&cursor));
    assert_int_equal (segment_publish (&w->segment, dir), 0);

    put_batch (w, &(struct kit_batch_spec) { .stream = 1, .first_seq = 10, .count = 2, .payload_len = 5 });
    record_gap_encode (body, 20, FACTMESH__GAP_REASON__GAP_VOID);
    put (w,
         (struct record) {
             .kind = RECORD_GAP, .count = 1, .stream = kit_stream (1), .first_seq = 12, .epoch = 1, .incarnation = 8 },
         body, RECORD_GAP_LEN);
    cursor_entry_encode (body, &cursor);
    put (w, (struct record) { .kind = RECORD_CURSOR_PUT, .count = 1 }, body, cursor_entry_len (&cursor));
    put (w, (struct record) { .kind = RECORD_CURSOR_DELETE, .count = 1 }, "shop", 4);
    assert_int_equal (segment_sync (&w->segment), 0);
    put_batch (w, &(struct kit_batch_spec) {
                      .stream = 2, .epoch = 4, .first_seq = 1, .count = 3, .payload_len = 3, .topic = "a.b|c" });
    put (w, (struct record) { .kind = RECORD_SYNC_MARK }, NULL, 0);

    void *footer;
    size_t footer_len;
    bool final;
    assert_int_equal (segment_index_encode (w->index, &w->segment.header, w->segment.pos, &footer, &footer_len), 0);
    assert_int_equal (segment_seal (&w->segment, footer, footer_len, &final), 0);
    free (footer);
    segment_close (&w->segment);
    segment_index_destroy (&w->index);
    free (w);
}

/* One whose records say of two streams that their epoch is closed. */
static void write_closed_segment (int dir)
{
    struct writer *w = calloc (1, sizeof *w);
    struct segment_header h = sample_header ();
    uint8_t body[STREAM_SNAPSHOT_LEN];
    h.number++;
    w->offset = h.base_offset;
    w->time_ns = h.created_ns;
    assert_int_equal (segment_create (&w->segment, &fs_real, dir, &h), 0);
    assert_int_equal (segment_index_new (&w->index), 0);
    const struct stream_state known = {
        .stream = kit_stream (3), .epoch = 2, .incarnation = 9, .first_seq = 5, .last_seq = 9, .last_offset = 990
    };
    stream_state_encode (body, &known);
    put (w, (struct record) { .kind = RECORD_STREAM_SNAPSHOT, .flags = RECORD_FLAG_COMPLETE | RECORD_FLAG_CLOSED, .count = 1 }, body,
         STREAM_SNAPSHOT_LEN);
    put (w, (struct record) { .kind = RECORD_STREAM_SNAPSHOT, .flags = RECORD_FLAG_COMPLETE }, NULL, 0);
    assert_int_equal (segment_publish (&w->segment, dir), 0);
    put_batch (w, &(struct kit_batch_spec) { .stream = 4, .first_seq = 1, .count = 1 });
    record_gap_encode (body, 4, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    put (w,
         (struct record) { .kind = RECORD_GAP, .flags = RECORD_FLAG_CLOSED, .count = 1, .stream = kit_stream (4), .first_seq = 2, .epoch = 1,
                           .incarnation = 8 },
         body, RECORD_GAP_LEN);
    put_batch (w, &(struct kit_batch_spec) { .stream = 5, .first_seq = 1, .count = 1 });
    void *footer;
    size_t footer_len;
    bool final;
    assert_int_equal (segment_index_encode (w->index, &w->segment.header, w->segment.pos, &footer, &footer_len), 0);
    assert_int_equal (segment_seal (&w->segment, footer, footer_len, &final), 0);
    free (footer);
    segment_close (&w->segment);
    segment_index_destroy (&w->index);
    free (w);
}

/* A batch of three facts with identities, and behind it one of which the journal says that it repeats the second of them. */
static void put_identities (struct writer *w)
{
    static const uint8_t backs[1];
    static const char *const identities[] = { "first", "second", "third", "second" };
    struct batch_topic topic = { .name = slice_of ("a"), .backs = slice (backs, 1) };
    const struct batch_defaults defaults = { .time_ns = 5 };
    for (unsigned k = 0; k < 2; k++) {
        struct batch b = { .mesh = slice_of ("test"), .count = k ? 1 : 3, .stream = kit_stream (6 + k), .epoch = 1, .incarnation = 8, .epoch_first_seq = 1,
                           .first_seq = k ? 300 : 1, .time_ns = 5, .features = FACTMESH__FEATURE__FEATURE_IDENTITY, .topics = &topic, .topic_count = 1 };
        uint8_t body[1024], *p = body, run[128];
        if (k) {
            const struct batch_duplicate d = { .seq = 300, .first = { .stream = kit_stream (6), .seq = 2 } };
            const uint8_t *const end = batch_duplicate_encode (run + BATCH_DUPLICATES_HEAD, &d);
            const uint8_t *const front = batch_duplicates_close (run + BATCH_DUPLICATES_HEAD, (size_t) (end - run) - BATCH_DUPLICATES_HEAD);
            memcpy (p, front, (size_t) (end - front));
            p += end - front;
        }
        p = batch_encode_header (p, &b);
        for (unsigned i = 0; i < b.count; i++)
            p = fact_encode (p, &(struct fm_fact) { .identity = slice_of (identities[k ? 3 : i]), .payload = slice_of ("p"), .time_ns = 5 }, &defaults);
        put (w,
             (struct record) { .kind = RECORD_BATCH, .count = b.count, .stream = b.stream, .first_seq = b.first_seq, .epoch = 1, .incarnation = 8 },
             body, (size_t) (p - body));
    }
}

static void write_identities_segment (int dir)
{
    struct writer *w = calloc (1, sizeof *w);
    struct segment_header h = sample_header ();
    h.number += 2;
    h.identities_number = 40;
    w->offset = h.base_offset;
    w->time_ns = h.created_ns;
    assert_int_equal (segment_create (&w->segment, &fs_real, dir, &h), 0);
    assert_int_equal (segment_index_new (&w->index), 0);
    put (w, (struct record) { .kind = RECORD_STREAM_SNAPSHOT, .flags = RECORD_FLAG_COMPLETE }, NULL, 0);
    assert_int_equal (segment_publish (&w->segment, dir), 0);
    put_identities (w);
    void *footer;
    size_t footer_len;
    bool final;
    assert_int_equal (segment_index_encode (w->index, &w->segment.header, w->segment.pos, &footer, &footer_len), 0);
    assert_int_equal (segment_seal (&w->segment, footer, footer_len, &final), 0);
    free (footer);
    segment_close (&w->segment);
    segment_index_destroy (&w->index);
    free (w);
}

static struct cookie golden_cookie (void)
{
    const struct segment_header h = sample_header ();
    return (struct cookie) {
        .journal = h.journal, .generation = 3, .created_ns = UINT64_C (1600000000000000000), .mesh = "test"
    };
}

static size_t read_file (const char *directory, const char *name, uint8_t **ret_bytes)
{
    char path[256];
    (void) snprintf (path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen (path, "rb");
    if (!file)
        fail_msg ("%s cannot be read: run the test at the top of the tree", path);
    *ret_bytes = malloc (1 << 20);
    const size_t len = fread (*ret_bytes, 1, 1 << 20, file);
    fclose (file);
    return len;
}

static void expect_same_file (const char *directory, const char *name)
{
    uint8_t *made, *golden;
    const size_t made_len = read_file (directory, name, &made), golden_len = read_file (GOLDEN, name, &golden);
    if (made_len != golden_len || memcmp (made, golden, made_len) != 0)
        fail_msg ("%s: the %zu bytes written now differ from the %zu golden ones; see FORMAT.md", name, made_len,
                  golden_len);
    free (made);
    free (golden);
}

static void the_code_writes_the_golden_bytes (void **state)
{
    (void) state;
    char directory[128];
    kit_directory (directory);
    const bool renew = getenv ("GOLDEN_WRITE") != NULL;
    char path[192];
    (void) snprintf (path, sizeof path, "%s/segments", renew ? GOLDEN : directory);
    const int segments = fs_real.open_dir (NULL, path, true),
              dir = fs_real.open_dir (NULL, renew ? GOLDEN : directory, false);
    (void) snprintf (path, sizeof path, "%s/closed", renew ? GOLDEN : directory);
    const int closed = fs_real.open_dir (NULL, path, true);
    (void) snprintf (path, sizeof path, "%s/identities", renew ? GOLDEN : directory);
    const int identities = fs_real.open_dir (NULL, path, true);
    if (dir < 0 || segments < 0 || closed < 0 || identities < 0)
        fail_msg ("%s cannot be opened: run the test at the top of the tree", path);
    const struct cookie cookie = golden_cookie ();
    write_golden_segment (segments);
    write_closed_segment (closed);
    write_identities_segment (identities);
    assert_int_equal (cookie_write (&fs_real, dir, &cookie), 0);
    close (dir);
    close (segments);
    close (closed);
    close (identities);
    if (!renew) {
        expect_same_file (directory, SEGMENT);
        expect_same_file (directory, CLOSED_SEGMENT);
        expect_same_file (directory, IDENTITIES_SEGMENT);
        expect_same_file (directory, COOKIE_NAME);
    }
    kit_remove (directory);
}

/* The same, of identities. */
static void the_golden_identities_are_where_format_md_says (void **state)
{
    (void) state;
    uint8_t *b;
    const size_t len = read_file (GOLDEN, IDENTITIES_SEGMENT, &b);
    assert_int_equal (bytes_get_u64le (b + 168), 40);
    const uint8_t *const t = b + len - 192;
    assert_int_equal (bytes_get_u32le (t + 168), 3);
    const uint64_t pos = bytes_get_u64le (t + 96) + bytes_get_u64le (t + 104);
    assert_int_equal (bytes_get_u64le (t + 176), checksum (b + pos, 3 * 40));
    static const char *const identities[] = { "first", "second", "third" };
    const struct fm_id stream = kit_stream (6);
    for (uint64_t i = 0; i < 3; i++) {
        const uint8_t *const e = b + pos + i * 40;
        uint8_t hash[16];
        checksum_128 (identities[i], strlen (identities[i]), hash);
        assert_memory_equal (e, hash, 16);
        assert_memory_equal (e + 16, stream.bytes, 16);
        assert_int_equal (bytes_get_u64le (e + 32), i + 1);
    }
    free (b);
}

/* By the numbers that FORMAT.md gives, without the code's help: a reader of the document finds these. */
static void the_golden_bytes_are_where_format_md_says (void **state)
{
    (void) state;
    uint8_t *b;
    const size_t len = read_file (GOLDEN, SEGMENT, &b);
    assert_memory_equal (b, "FMSEGMT\n", 8);
    assert_memory_equal (b, b + 2048, 256);
    assert_memory_equal (b, b + len - 192 - 256, 256);
    assert_int_equal (bytes_get_u64le (b + 40), 42);
    assert_int_equal (bytes_get_u64le (b + 48), 1000);
    assert_int_equal (bytes_get_u64le (b + 88), 4096 + 88 + 56 + 88 + 88 + 40);
    const uint64_t seed = checksum (b + 64, 16);
    assert_int_equal (bytes_get_u64le (b + 248), checksum (b, 248));

    static const struct {
        uint8_t kind;
        uint64_t offset;
        uint32_t count;
    } expected[] = { { 5, 1000, 1 }, { 5, 1000, 0 }, { 6, 1000, 1 }, { 1, 1000, 2 }, { 2, 1002, 1 },
                     { 3, 1003, 1 }, { 4, 1003, 1 }, { 1, 1003, 3 }, { 7, 1006, 0 } };
    uint64_t pos = 4096;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const uint8_t *r = b + pos;
        const uint64_t padded = (bytes_get_u32le (r + 16) + 7) / 8 * 8;
        assert_int_equal (bytes_get_u64le (r), checksum_seeded (r + 8, 80, seed + pos * UINT64_C (0x9E3779B97F4A7C15)));
        assert_int_equal (bytes_get_u64le (r + 8), checksum (r + 88, padded));
        assert_int_equal (r[20], expected[i].kind);
        assert_int_equal (bytes_get_u64le (r + 24), expected[i].offset);
        assert_int_equal (bytes_get_u32le (r + 44), expected[i].count);
        pos += 88 + padded;
    }
    const uint8_t *t = b + len - 192;
    assert_memory_equal (t, "FMSEGEND", 8);
    assert_int_equal (bytes_get_u64le (t + 8), pos);
    assert_int_equal (bytes_get_u64le (t + 16), 1006);
    assert_int_equal (bytes_get_u32le (t + 60), 2);
    assert_int_equal (bytes_get_u32le (t + 64), 2);
    assert_int_equal (bytes_get_u32le (t + 68), 1);
    assert_int_equal (bytes_get_u64le (t + 184), checksum (t, 184));
    for (unsigned section = 0; section < 3; section++) {
        const uint8_t *s = t + 72 + 24 * section;
        assert_int_equal (bytes_get_u64le (s + 16), checksum (b + bytes_get_u64le (s), bytes_get_u64le (s + 8)));
    }
    const uint8_t *topics = b + bytes_get_u64le (t + 96);
    assert_memory_equal (topics, "\003a.b\004\001c\001", 8);
    free (b);
}

static void the_code_reads_the_golden_directory (void **state)
{
    (void) state;
    char directory[128];
    struct log *log;
    struct log_reader *r;
    struct log_item item;
    kit_directory (directory);
    kit_copy (GOLDEN, directory);
    for (int read_only = 1; read_only >= 0; read_only--) {
        const struct log_options options = { .mesh = "test", .read_only = read_only };
        assert_int_equal (log_open (directory, &options, NULL, &log), 0);
        assert_int_equal (log_reader_new (log, &r), 0);
        assert_int_equal (log_reader_next (r, &item), 0);
        assert_true (kit_item_is (
            &item, &(struct kit_batch_spec) { .stream = 1, .first_seq = 10, .count = 2, .payload_len = 5 }));
        assert_int_equal (item.offset, 1000);
        assert_int_equal (log_reader_next (r, &item), 0);
        assert_int_equal (item.kind, LOG_ITEM_GAP);
        assert_int_equal (item.first_seq, 12);
        assert_int_equal (item.end_seq, 20);
        assert_int_equal (item.reason, FACTMESH__GAP_REASON__GAP_VOID);
        assert_int_equal (log_reader_next (r, &item), 0);
        assert_true (kit_item_is (
            &item, &(struct kit_batch_spec) {
                       .stream = 2, .epoch = 4, .first_seq = 1, .count = 3, .payload_len = 3, .topic = "a.b|c" }));
        assert_int_equal (log_reader_next (r, &item), FM_ERR_END);
        log_reader_destroy (&r);
        struct log_stream known;
        struct fm_id id = kit_stream (1);
        assert_int_equal (log_stream_get (log, &id, &known), 0);
        assert_int_equal (known.last_seq, 19);
        assert_int_equal (known.first_seq, 10);     /* the segments that held 5 to 9 are gone */
        char name[CURSOR_NAME_MAX + 1];
        assert_int_equal (log_cursor_next (log, "", name), FM_ERR_END);     /* put, and deleted */
        log_destroy (&log);
    }
    kit_remove (directory);
}

static void the_code_reads_what_is_said_of_closed_epochs (void **state)
{
    (void) state;
    char directory[128], path[256];
    struct log *log;
    kit_directory (directory);
    kit_copy (GOLDEN, directory);
    (void) snprintf (path, sizeof path, "%s/" SEGMENT, directory);
    assert_int_equal (unlink (path), 0);
    char from[256];
    (void) snprintf (from, sizeof from, "%s/" CLOSED_SEGMENT, directory);
    (void) snprintf (path, sizeof path, "%s/segments/0000000043.seg", directory);
    assert_int_equal (rename (from, path), 0);
    assert_int_equal (log_open (directory, &(struct log_options) { .mesh = "test" }, NULL, &log), 0);
    static const struct { unsigned stream; bool closed; } expected[] = { { 3, true }, { 4, true }, { 5, false } };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const struct fm_id id = kit_stream (expected[i].stream);
        struct log_stream known;
        assert_int_equal (log_stream_get (log, &id, &known), 0);
        assert_int_equal (known.closed, expected[i].closed);
    }
    log_destroy (&log);
    kit_remove (directory);
}

/* --- The index. */

static void an_index_reads_back_and_is_rebuilt_the_same (void **state)
{
    (void) state;
    uint8_t *b;
    char directory[128], name[64];
    const size_t len = read_file (GOLDEN, SEGMENT, &b);
    kit_directory (directory);
    const int fd = open (GOLDEN "/" SEGMENT, O_RDONLY);
    struct segment_header h;
    struct segment_trailer t;
    struct index_stream *streams;
    struct index_position *positions;
    struct index_topic *topics;
    void *bytes;
    assert_int_equal (segment_read_header (&fs_real, fd, &h), 0);
    assert_int_equal (segment_read_trailer (&fs_real, fd, &h, &t), 0);
    assert_int_equal (index_read_streams (&fs_real, fd, &t, &streams), 0);
    assert_int_equal (index_read_positions (&fs_real, fd, &t, &positions), 0);
    assert_int_equal (index_read_topics (&fs_real, fd, &t, &bytes, &topics), 0);
    struct fm_id one = kit_stream (1), nobody = kit_stream (9);
    const struct index_stream *s = index_streams_find (streams, t.stream_count, &one);
    assert_non_null (s);
    assert_int_equal (s->first_seq, 10);
    assert_int_equal (s->last_seq, 19);
    assert_int_equal (s->records, 2);
    assert_int_equal (s->gaps, 1);
    assert_int_equal (s->first_pos, h.snapshot_end);
    assert_null (index_streams_find (streams, t.stream_count, &nobody));
    assert_int_equal (positions[0].pos, h.snapshot_end);
    assert_int_equal (positions[0].offset, 1000);
    assert_true (slice_equal (topics[0].name, slice_of ("a.b")) && topics[0].facts == 4);
    assert_true (slice_equal (topics[1].name, slice_of ("c")) && topics[1].facts == 1);
    assert_int_equal (t.flags, SEGMENT_FLAG_GAPS);
    free (streams);
    free (positions);
    free (topics);
    free (bytes);
    close (fd);

    /* Each section refuses a flipped bit of its own; a length that lies is no invitation to read elsewhere. */
    (void) snprintf (name, sizeof name, "/damaged");
    (void) strncat (directory, name, sizeof directory - strlen (directory) - 1);
    const struct segment_section *sections[] = { &t.streams, &t.topics, &t.positions };
    for (int i = 0; i < 3; i++) {
        b[sections[i]->pos] ^= 1;
        const int damaged = open (directory, O_RDWR | O_CREAT | O_TRUNC, 0600);
        assert_int_equal (write (damaged, b, len), len);
        assert_int_equal (index_read_streams (&fs_real, damaged, &t, &streams), i == 0 ? FM_ERR_CORRUPT : 0);
        assert_int_equal (index_read_topics (&fs_real, damaged, &t, &bytes, &topics), i == 1 ? FM_ERR_CORRUPT : 0);
        assert_int_equal (index_read_positions (&fs_real, damaged, &t, &positions), i == 2 ? FM_ERR_CORRUPT : 0);
        if (i != 0)
            free (streams);
        if (i != 1) {
            free (bytes);
            free (topics);
        }
        if (i != 2)
            free (positions);
        close (damaged);
        b[sections[i]->pos] ^= 1;
    }
    unlink (directory);
    *strrchr (directory, '/') = 0;
    kit_remove (directory);
    free (b);
}

static void too_many_topics_make_the_index_say_so (void **state)
{
    (void) state;
    struct segment_index *x;
    struct segment_trailer t;
    assert_int_equal (segment_index_new (&x), 0);
    for (unsigned i = 0; i < INDEX_TOPICS_MAX + 10; i++) {
        char topic[16];
        struct kit_batch k;
        (void) snprintf (topic, sizeof topic, "t.%u", i);
        kit_batch_make (&(struct kit_batch_spec) { .stream = 1, .first_seq = i + 1, .count = 1, .topic = topic }, &k);
        const struct record r = { .kind = RECORD_BATCH,
                                  .body_len = (uint32_t) k.len,
                                  .count = 1,
                                  .offset = i + 1,
                                  .stream = k.batch.stream,
                                  .first_seq = i + 1 };
        (void) segment_index_add (x, &r, k.bytes, 4096 + i * 256);
        segment_index_summary (x, 0, &t);
        assert_int_equal (t.flags, i < INDEX_TOPICS_MAX ? 0 : SEGMENT_FLAG_TOPICS_INCOMPLETE);
        kit_batch_release (&k);
    }
    assert_int_equal (t.topic_count, INDEX_TOPICS_MAX);
    assert_int_equal (t.facts, INDEX_TOPICS_MAX + 10);
    segment_index_destroy (&x);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_header_comes_back_and_no_flipped_bit_passes),
        cmocka_unit_test (another_major_version_is_refused_as_such),
        cmocka_unit_test (a_trailer_belongs_to_its_segment_and_lies_within_its_file),
        cmocka_unit_test (only_a_segments_own_name_is_one),
        cmocka_unit_test (a_cursor_entry_with_lying_lengths_is_refused),
        cmocka_unit_test (a_cursor_entry_whose_name_holds_a_nul_is_refused),
        cmocka_unit_test (the_code_writes_the_golden_bytes),
        cmocka_unit_test (the_golden_bytes_are_where_format_md_says),
        cmocka_unit_test (the_golden_identities_are_where_format_md_says),
        cmocka_unit_test (the_code_reads_the_golden_directory),
        cmocka_unit_test (the_code_reads_what_is_said_of_closed_epochs),
        cmocka_unit_test (an_index_reads_back_and_is_rebuilt_the_same),
        cmocka_unit_test (too_many_topics_make_the_index_say_so),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
