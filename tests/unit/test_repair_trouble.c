/* Repairs in trouble: disks that cannot be read now, at first, or from then on, that do not keep what they were given; records that no buffer holds, losses side by
 * side. What was whole before is whole after, and where that cannot be, the segment stays as it was. */

#include "hospital.h"

#include "refetch.h"

#ifdef __SANITIZE_ADDRESS__
enum { READ_STEP = 5 };                     /* slow: a share of the calls */
#else
enum { READ_STEP = 1 };
#endif
enum { BLOCK = 4096 };

static uint8_t *bytes_of (const char *path, size_t *ret_len)
{
    *ret_len = kit_file_size (path);
    uint8_t *bytes = malloc (*ret_len);
    FILE *file = fopen (path, "rb");
    assert_true (bytes && file);
    assert_int_equal (fread (bytes, 1, *ret_len, file), *ret_len);
    fclose (file);
    return bytes;
}

/* The file is these bytes, which are freed. */
static void put_bytes (const char *path, uint8_t *bytes, size_t len)
{
    FILE *file = fopen (path, "wb");
    assert_non_null (file);
    assert_int_equal (fwrite (bytes, 1, len, file), len);
    fclose (file);
    free (bytes);
}

/* A repair that fails, and leaves segment 2 as it is. */
static void expect_left_alone (const struct hospital *h, const struct fs *fs, const struct refetch_source *source, int expected, const char *words)
{
    char path[256];
    size_t before_len, after_len;
    kit_segment_path (h->damaged, 2, path);
    uint8_t *before = bytes_of (path, &before_len);
    const struct repair_options how = { .source = source };
    struct repair_result result;
    struct log *log = open_log (h->damaged, false, fs);
    assert_int_equal (log_repair (log, &how, &result), expected);
    if (!strstr (fm_error_detail (), words))
        fail_msg ("'%s' does not say '%s'", fm_error_detail (), words);
    log_destroy (&log);
    uint8_t *after = bytes_of (path, &after_len);
    assert_true (slice_equal (slice (before, before_len), slice (after, after_len)));
    free (before);
    free (after);
}

/* --- Reading. */

/* Not damage: a repair gives nothing up for a read that fails. */
static void whichever_read_fails_nothing_whole_is_lost_and_the_next_run_does_the_rest (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    bool happened = true;
    unsigned refused = 0;
    for (unsigned long n = 1; happened; n += READ_STEP) {
        char path[256];
        begin (state);
        kit_segment_path (h->damaged, 2, path);
        kit_flip (path, (int64_t) places[count / 2].pos + 3);
        kit_flip (path, (int64_t) places[count / 3].pos + 90);
        const struct work_contents before = contents (h->damaged);
        struct fail_fs *f = fail_fs_new ();
        struct log *log = open_log (h->damaged, false, fail_fs_seam (f)), *other = open_log (h->other, true, NULL);
        const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
        const struct repair_options how = { .source = &source };
        struct repair_result result;
        fail_fs_fail (f, FAIL_READ, n, -ENXIO);
        const int rc = log_repair (log, &how, &result);
        happened = fail_fs_happened (f);
        log_destroy (&log);
        log_destroy (&other);
        fail_fs_destroy (&f);
        assert_true (rc == 0 || (rc == -ENXIO && happened));
        refused += rc != 0;
        const struct work_contents now = contents (h->damaged);
        assert_true (now.batches >= before.batches && now.end_offset == before.end_offset);
        (void) repair (h->damaged, h->other, false);
        expect_mended (h);
    }
    assert_true (refused > 10 / READ_STEP);
}

/* Asks another directory; before, the block becomes readable no more, or again. */
struct disk {
    struct fail_fs *fs;
    struct log *other;
    char path[256];
    uint64_t pos, len;
};

static int fetch_meanwhile (void *context, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq, struct refetch *into)
{
    const struct disk *d = context;
    fail_fs_unreadable (d->fs, d->path, d->pos, d->len);
    return refetch_from_log (d->other, stream, first_seq, end_seq, into);
}

/* A record that reaches into a block beyond the one where it begins. */
static size_t place_over_a_block (const struct place *places, size_t count)
{
    size_t i = count / 2;
    while (i < count && places[i].pos / BLOCK == (places[i].end_pos - 1) / BLOCK)
        i++;
    assert_true (i < count - 2);
    return i;
}

/* Records that were whole when the segment was examined cannot be read when they are to be copied: those in the midst of others, and those behind a hole. */
static void what_becomes_unreadable_during_a_repair_is_not_left_out (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096), over = place_over_a_block (places, count);
    for (int behind = 0; behind < 2; behind++) {
        struct disk d = { .pos = places[over].end_pos / BLOCK * BLOCK, .len = BLOCK };
        begin (state);
        kit_segment_path (h->damaged, 2, d.path);
        kit_flip (d.path, (int64_t) places[behind ? over : count / 4].pos + 3);
        d.fs = fail_fs_new ();
        d.other = open_log (h->other, true, NULL);
        const struct refetch_source source = { .context = &d, .fetch = fetch_meanwhile };
        expect_left_alone (h, fail_fs_seam (d.fs), &source, -EIO, "cannot be read any more");
        fail_fs_destroy (&d.fs);
        log_destroy (&d.other);
        const struct report r = repair (h->damaged, h->other, false);
        assert_int_equal (r.left, 0);
        expect_whole (h->damaged, h);
    }
}

/* What was fetched in their place goes there, and they are not there beside it. */
static void what_can_be_read_again_during_a_repair_is_there_once (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096), over = place_over_a_block (places, count);
    struct disk d = { .pos = 0, .len = 0 };
    kit_segment_path (h->damaged, 2, d.path);
    kit_flip (d.path, (int64_t) places[count / 4].pos + 3);
    d.fs = fail_fs_new ();
    d.other = open_log (h->other, true, NULL);
    const struct refetch_source source = { .context = &d, .fetch = fetch_meanwhile };
    const struct repair_options how = { .source = &source };
    struct repair_result result;
    struct log *log = open_log (h->damaged, false, fail_fs_seam (d.fs));
    fail_fs_unreadable (d.fs, d.path, places[over].end_pos / BLOCK * BLOCK, BLOCK);
    assert_int_equal (log_repair (log, &how, &result), 0);
    assert_true (result.refetched > places[count / 4].record.count);
    log_destroy (&log);
    fail_fs_destroy (&d.fs);
    log_destroy (&d.other);
    expect_mended (h);
    assert_int_equal (places_of (h->damaged, 2, places, 4096), count);
    assert_int_equal (contents (h->damaged).batches, contents (h->whole).batches);
}

/* --- Writing. */

/* A disk that turns a bit of what it is given: of the header of this record. */
struct turning {
    struct fs seam;
    uint8_t header[16];
    bool turned;
};

static ssize_t write_turned (void *context, int fd, const void *buffer, size_t len, uint64_t pos)
{
    struct turning *t = context;
    const uint8_t *at = t->turned ? NULL : memmem (buffer, len, t->header, sizeof t->header);
    if (!at)
        return fs_real.pwrite (NULL, fd, buffer, len, pos);
    uint8_t *copy = malloc (len);
    if (!copy)
        return -ENOMEM;
    memcpy (copy, buffer, len);
    copy[at - (const uint8_t *) buffer] ^= 4;
    const ssize_t n = fs_real.pwrite (NULL, fd, copy, len, pos);
    free (copy);
    t->turned = true;
    return n;
}

static void a_segment_that_does_not_read_back_takes_no_place (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    for (int last = 0; last < 2; last++) {
        struct turning t = { .seam = fs_real };
        begin (state);
        char path[256];
        kit_segment_path (h->damaged, 2, path);
        size_t len;
        uint8_t *bytes = bytes_of (path, &len);
        memcpy (t.header, bytes + places[last ? count - 1 : count / 4].pos, sizeof t.header);   /* its sums: it stays in its place */
        free (bytes);
        kit_flip (path, (int64_t) places[count / 2].pos + 90);
        t.seam.context = &t;
        t.seam.pwrite = write_turned;
        struct log *other = open_log (h->other, true, NULL);
        const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
        expect_left_alone (h, &t.seam, &source, FM_ERR_CORRUPT, "segment 2 does not read back as it was written");
        assert_true (t.turned);
        log_destroy (&other);
        (void) repair (h->damaged, h->other, false);
        expect_whole (h->damaged, h);
    }
}

/* --- What lies in a segment. */

/* One that is copied, and one that is put back, between small ones. */
static void records_of_any_size_keep_their_places (void **state)
{
    (void) state;
    enum { LARGE = 3 << 20 };
    static const size_t sizes[] = { 100, LARGE, 100, LARGE, 100, LARGE };
    static struct place places[8];
    char mine[128], theirs[128], path[256];
    kit_directory (mine);
    kit_directory (theirs);
    kit_remove (theirs);
    struct log_options options = options_of (NULL);
    options.segment_bytes = 32 << 20;
    options.buffer_bytes = 8 << 20;
    struct log *log = NULL;
    assert_int_equal (log_open (mine, &options, NULL, &log), 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1 + i, .count = 1, .payload_len = sizes[i] });
        kit_sync (log);
    }
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
    kit_copy (mine, theirs);
    assert_int_equal (places_of (mine, 1, places, 8), sizeof sizes / sizeof *sizes);
    kit_segment_path (mine, 1, path);
    kit_flip (path, (int64_t) places[3].pos + (LARGE >> 1));
    const struct report r = repair (mine, theirs, false);
    assert_int_equal (r.refetched, 1);
    assert_int_equal (r.left, 0);
    assert_int_equal (find (mine).count, 0);
    expect_same_places (mine, theirs);
    kit_remove (mine);
    kit_remove (theirs);
}

/* Of a batch whose body is lost the other has the first fact alone, and of the next one, whose header is lost, nothing: what is missing of both is told as it is,
 * and what lies behind keeps its offset. */
static void losses_side_by_side_are_told_as_they_are (void **state)
{
    (void) state;
    static struct place places[8];
    char mine[128], theirs[128], path[256];
    const struct fm_id one = kit_stream (1), two = kit_stream (2);
    const struct kit_batch_spec specs[] = { { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 100 }, { .stream = 2, .first_seq = 1, .count = 1, .payload_len = 100 },
                                            { .stream = 1, .first_seq = 2, .count = 3, .payload_len = 100 }, { .stream = 2, .first_seq = 2, .count = 2, .payload_len = 100 },
                                            { .stream = 1, .first_seq = 5, .count = 1, .payload_len = 100 }, { .stream = 2, .first_seq = 4, .count = 1, .payload_len = 100 } };
    const struct kit_batch_spec first = { .stream = 1, .first_seq = 2, .count = 1, .payload_len = 100 };
    kit_directory (mine);
    kit_directory (theirs);
    struct log *log = open_log (mine, false, NULL);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        kit_append_batch (log, &specs[i]);
    kit_sync (log);
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
    log = open_log (theirs, false, NULL);
    kit_append_batch (log, &specs[0]);
    kit_append_batch (log, &first);
    kit_sync (log);
    log_destroy (&log);
    assert_int_equal (places_of (mine, 1, places, 8), 6);
    kit_segment_path (mine, 1, path);
    kit_flip (path, (int64_t) places[2].pos + RECORD_HEADER_LEN + 1);
    kit_flip (path, (int64_t) places[3].pos + 3);
    for (int again = 0; again < 2; again++) {
        const struct report r = repair (mine, theirs, false);
        assert_int_equal (r.refetched, again ? 0 : 1);
        assert_int_equal (r.left, 2 + 2);
        struct log_reader *reader;
        log = open_log (mine, true, NULL);
        assert_int_equal (log_reader_new (log, &reader), 0);
        expect_batch (reader, specs[0]);
        expect_batch (reader, specs[1]);
        expect_batch (reader, first);
        struct log_item a = expect_next (reader), b = expect_next (reader);
        const bool in_order = id_equal (&a.stream, &one);
        const struct log_item *of_one = in_order ? &a : &b, *of_two = in_order ? &b : &a;
        assert_true (of_one->kind == LOG_ITEM_GAP && id_equal (&of_one->stream, &one) && of_one->first_seq == 3 && of_one->end_seq == 5);
        assert_true (of_two->kind == LOG_ITEM_GAP && id_equal (&of_two->stream, &two) && of_two->first_seq == 2 && of_two->end_seq == 4);
        expect_batch (reader, specs[4]);
        const struct log_item last = expect_next (reader);
        assert_true (kit_item_is (&last, &specs[5]));
        assert_int_equal (last.offset, places[5].record.offset);
        expect_end (reader);
        log_reader_destroy (&reader);
        log_destroy (&log);
    }
    kit_remove (mine);
    kit_remove (theirs);
}

/* --- Order. */

/* Its sums are right, its offset is another one's: as a journal that writes wrongly would leave it. Nobody can say what lay where, so it stays as it is. */
static void a_record_with_the_offset_of_the_one_before_is_told_and_left (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t at = places_of (h->whole, 2, places, 4096) / 2;
    const struct place *const before = &places[at - 1];
    struct place wrong = places[at];
    struct segment_header header;
    char path[256];
    size_t len;
    kit_segment_path (h->damaged, 2, path);
    uint8_t *bytes = bytes_of (path, &len);
    assert_int_equal (segment_header_decode (bytes, &header), 0);
    wrong.record.offset = before->record.offset;
    record_encode (bytes + wrong.pos, &wrong.record);
    record_stamp (bytes + wrong.pos, record_seed (header.salt), wrong.pos, wrong.record.synced_pos);
    put_bytes (path, bytes, len);
    for (unsigned again = 0; again < 2; again++) {
        const struct found f = find (h->damaged);
        assert_int_equal (f.count, 2);
        const struct log_damage *const d = &f.items[0];
        assert_string_equal (d->what, "repeated offsets");
        assert_true (d->segment == 2 && d->first_pos == wrong.pos && d->end_pos == wrong.end_pos);
        assert_true (d->first_offset == before->record.offset && d->end_offset == before->record.offset + wrong.record.count);
        assert_true (id_equal (&d->stream, &wrong.record.stream) && d->first_seq == wrong.record.first_seq);
        assert_int_equal (d->end_seq, wrong.record.first_seq + wrong.record.count);
        assert_string_equal (f.items[1].what, "missing offsets");
        assert_int_equal (f.items[1].first_offset, d->end_offset);
        assert_int_equal (f.items[1].end_offset, places[at + 1].record.offset);
        const struct report r = repair (h->damaged, h->other, false);
        assert_int_equal (r.refetched, 0);
    }
}

/* Segment 2's file, as number 3: as where files of two copies of a directory were put together. */
static void a_segment_that_begins_below_the_end_of_the_one_before_is_told (void **state)
{
    const struct hospital *h = *state;
    struct segment_header header;
    char path[256];
    size_t len;
    kit_segment_path (h->damaged, 2, path);
    uint8_t *bytes = bytes_of (path, &len);
    assert_int_equal (segment_header_decode (bytes, &header), 0);
    header.number = 3;
    segment_header_encode (&header, bytes);
    segment_header_encode (&header, bytes + SEGMENT_HEADER_COPY_POS);
    kit_segment_path (h->damaged, 3, path);
    put_bytes (path, bytes, len);
    const struct found f = find (h->damaged);
    assert_true (f.count >= 2);
    const struct log_damage *const d = &f.items[0], *const behind = &f.items[f.count - 1];
    assert_string_equal (d->what, "repeated offsets");
    assert_true (d->segment == 3 && d->first_pos == 0 && d->end_pos == SEGMENT_RECORDS_POS);
    assert_int_equal (d->first_offset, header.base_offset);
    assert_string_equal (behind->what, "truncated");
    assert_true (behind->segment == 3 && behind->first_offset == d->end_offset);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup (name, begin)
        CASE (whichever_read_fails_nothing_whole_is_lost_and_the_next_run_does_the_rest),
        CASE (what_becomes_unreadable_during_a_repair_is_not_left_out),
        CASE (what_can_be_read_again_during_a_repair_is_there_once),
        CASE (a_segment_that_does_not_read_back_takes_no_place),
        CASE (records_of_any_size_keep_their_places),
        CASE (losses_side_by_side_are_told_as_they_are),
        CASE (a_record_with_the_offset_of_the_one_before_is_told_and_left),
        CASE (a_segment_that_begins_below_the_end_of_the_one_before_is_told),
#undef CASE
    };
    return cmocka_run_group_tests (tests, set_up, tear_down);
}
