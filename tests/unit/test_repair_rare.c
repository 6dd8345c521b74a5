/* Repairs of what seldom happens: records without facts, snapshots that are lost together with what lies beside them, the oldest segment, gaps whose reason nobody
 * can tell, identities in segments that are made anew, and records whose sums fit contents that do not. */

#include "hospital.h"

#include "cursor_table.h"
#include "identities.h"
#include "log_state.h"

/* --- Records of any kind. */

static int open_segments (const char *directory, int *ret_dir)
{
    *ret_dir = fs_real.open_dir (NULL, directory, false);
    return fs_real.open (NULL, *ret_dir, "segments", 0, 0);
}

/* The records of one kind behind the snapshots. */
static size_t records_of (const char *directory, uint64_t number, uint8_t kind, struct place *places, size_t max, uint64_t *ret_seed)
{
    struct segment_scan scan = { .fd = -1 };
    struct segment_header h;
    size_t count = 0;
    char path[256];
    int dir, fd, rc;
    kit_segment_path (directory, number, path);
    const int segments = open_segments (directory, &dir);
    assert_int_equal (segment_open_read (&fs_real, segments, number, &fd, &h), 0);
    *ret_seed = record_seed (h.salt);
    assert_int_equal (scan_start (&scan, &fs_real, fd, *ret_seed, h.snapshot_end, kit_file_size (path)), 0);
    while ((rc = scan_next (&scan)) != FM_ERR_END && count < max)
        if (rc == 0 && scan.record.kind == kind)
            places[count++] = (struct place) { scan.pos, scan.next_pos, scan.record };
    scan_release (&scan);
    close (fd);
    close (segments);
    close (dir);
    return count;
}

static uint64_t snapshot_end_of (const char *directory, uint64_t number)
{
    struct segment_header h;
    int dir, fd;
    const int segments = open_segments (directory, &dir);
    assert_int_equal (segment_open_read (&fs_real, segments, number, &fd, &h), 0);
    close (fd);
    close (segments);
    close (dir);
    return h.snapshot_end;
}

/* Other contents of the same length, and sums that fit them: no version of ours writes that. */
static void forge (const char *path, uint64_t seed, const struct place *p, const void *body)
{
    uint8_t bytes[4096];
    const size_t len = (size_t) record_len (p->record.body_len);
    assert_true (len <= sizeof bytes);
    FILE *file = fopen (path, "r+b");
    assert_non_null (file);
    assert_int_equal (fseek (file, (long) p->pos, SEEK_SET), 0);
    assert_int_equal (fread (bytes, 1, len, file), len);
    memcpy (bytes + RECORD_HEADER_LEN, body, p->record.body_len);
    record_stamp (bytes, seed, p->pos, p->record.synced_pos);
    assert_int_equal (fseek (file, (long) p->pos, SEEK_SET), 0);
    assert_int_equal (fwrite (bytes, 1, len, file), len);
    fclose (file);
}

/* What a repair says, in words. */
struct words {
    char all[4096];
};

static void on_words (void *arg, const struct repair_told *t)
{
    struct words *w = arg;
    const size_t len = strlen (w->all);
    (void) snprintf (w->all + len, sizeof w->all - len, "%d %llu %s\n", (int) t->outcome, (unsigned long long) t->segment, t->why ? t->why : "");
}

static struct words repair_in_words (const char *directory, const char *from)
{
    struct words words = { "" };
    struct log *other = from ? open_log (from, true, NULL) : NULL;
    const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
    const struct repair_options options = { .source = from ? &source : NULL, .told = on_words, .arg = &words };
    struct repair_result result;
    struct log *log = open_log (directory, false, NULL);
    assert_int_equal (log_repair (log, &options, &result), 0);
    log_destroy (&log);
    log_destroy (&other);
    return words;
}

static void expect_words (const struct words *w, const char *part)
{
    if (!strstr (w->all, part))
        fail_msg ("'%s' does not say '%s'", w->all, part);
}

/* --- Records without facts. */

/* A damaged cursor: with its header, and without it; in a sealed segment and in the last one. Facts are not touched by its repair. */
static void a_damaged_cursor_is_left_out_and_told (void **state)
{
    const struct hospital *h = *state;
    unsigned tried = 0;
    for (uint64_t number = 1; number <= 5; number++)
        for (int header = 0; header < 2; header++) {
            static struct place places[16];
            uint64_t seed;
            char path[256];
            begin (state);
            kit_segment_path (h->damaged, number, path);
            const size_t count = access (path, F_OK) == 0 ? records_of (h->damaged, number, RECORD_CURSOR_PUT, places, 16, &seed) : 0;
            if (!count)
                continue;
            kit_flip (path, (int64_t) (places[0].pos + (header ? 3 : RECORD_HEADER_LEN + 1)));
            assert_int_equal (find (h->damaged).count, 1);
            const struct words w = repair_in_words (h->damaged, NULL);
            expect_words (&w, "a record without facts left out");
            assert_int_equal (find (h->damaged).count, 0);
            assert_int_equal (contents (h->damaged).gaps, 0);
            expect_same_places (h->damaged, h->whole);
            tried++;
        }
    assert_true (tried >= 4);
}

static void a_damaged_cursor_of_the_last_segment_says_what_that_means (void **state)
{
    (void) state;
    static struct place places[4];
    char mine[128], path[256];
    uint64_t seed, ticket;
    kit_directory (mine);
    struct log *log = open_log (mine, false, NULL);
    kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 64 });
    assert_int_equal (log_cursor_put (log, &(struct log_cursor) { .name = "c", .cursor = slice_of ("x") }, &ticket), 0);
    kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 3, .count = 2, .payload_len = 64 });
    kit_sync (log);
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
    kit_segment_path (mine, 1, path);
    assert_int_equal (records_of (mine, 1, RECORD_CURSOR_PUT, places, 4, &seed), 1);
    kit_flip (path, (int64_t) places[0].pos + 3);
    const struct words w = repair_in_words (mine, NULL);
    expect_words (&w, "a record without facts left out: a cursor may stand where it stood before");
    assert_int_equal (find (mine).count, 0);
    kit_remove (mine);
}

/* --- Snapshots. */

static void a_hole_over_the_end_of_the_snapshots_is_mended_on_both_sides (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    char path[256];
    (void) places_of (h->whole, 3, places, 4096);
    kit_segment_path (h->damaged, 3, path);
    const uint64_t from[] = { snapshot_end_of (h->whole, 3) - 60, SEGMENT_RECORDS_POS };    /* within their last record; all of them */
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        begin (state);
        wipe_bytes (path, from[i], places[1].end_pos);
        const struct report r = repair (h->damaged, h->other, false);
        assert_int_equal (r.refetched, places[0].record.count + places[1].record.count);
        assert_int_equal (r.left, 0);
        assert_int_equal (find (h->damaged).count, 0);
        assert_int_equal (contents (h->damaged).gaps, 0);
        assert_int_equal (contents (h->damaged).end_offset, contents (h->whole).end_offset);
    }
}

/* What was known where segment 3 begins is then known from the first one's snapshots, and the records since. */
static void a_lost_segment_behind_damaged_snapshots_is_made_again (void **state)
{
    const struct hospital *h = *state;
    for (int lost_too = 0; lost_too < 2; lost_too++) {
        char path[256];
        begin (state);
        kit_segment_path (h->damaged, 2, path);
        if (lost_too)
            assert_int_equal (unlink (path), 0);
        else
            kit_flip (path, 4096 + 100);
        kit_segment_path (h->damaged, lost_too ? 4 : 3, path);
        if (lost_too)
            kit_flip (path, 4096 + 100);
        else
            assert_int_equal (unlink (path), 0);
        const struct report dry = repair (h->damaged, h->other, true);      /* all must be found with the snapshots still damaged */
        const struct report r = repair (h->damaged, h->other, false);
        assert_int_equal (r.left, 0);
        assert_true (r.refetched > 0);
        assert_int_equal (dry.refetched, r.refetched);
        expect_mended (h);
    }
}

/* --- Segments that are lost whole. */

/* A dry run leaves the end of the segment before as it is: what is lost there is not of the segment that is gone. */
static void a_lost_segment_begins_behind_what_the_one_before_lost_at_its_end (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    char path[256];
    const size_t count = places_of (h->whole, 2, places, 4096);
    kit_segment_path (h->damaged, 2, path);
    kit_flip (path, (int64_t) places[count - 1].pos + 3);
    kit_segment_path (h->damaged, 3, path);
    assert_int_equal (unlink (path), 0);
    const struct report dry = repair (h->damaged, h->other, true);
    const struct report r = repair (h->damaged, h->other, false);
    assert_int_equal (r.left, 0);
    assert_int_equal (dry.left, 0);
    assert_int_equal (dry.refetched, r.refetched);
    expect_mended (h);
}

/* Who looks is told of it; no repair can make it again, and all behind it is served. */
static void the_oldest_segment_stays_lost (void **state)
{
    const struct hospital *h = *state;
    char path[256];
    kit_segment_path (h->damaged, 1, path);
    wipe_bytes (path, 0, kit_file_size (path));
    for (int i = 0; i < 2; i++) {
        assert_int_equal (find (h->damaged).count, 1);
        assert_string_equal (repair_in_words (h->damaged, h->other).all, "");
    }
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    struct log *log = open_log (h->damaged, true, NULL);
    struct log_reader *r;
    assert_int_equal (log_reader_new (log, &r), 0);
    for (size_t i = 0; i < count; i++) {
        const struct log_item item = expect_next (r);
        assert_int_equal (item.kind, LOG_ITEM_BATCH);
        assert_int_equal (item.offset, places[i].record.offset);
        assert_int_equal (item.first_seq, places[i].record.first_seq);
    }
    log_reader_destroy (&r);
    log_destroy (&log);
}

/* Who only looks has no segment behind it from which it could be told what was in it. */
static void a_lost_last_segment_is_left_by_a_dry_run (void **state)
{
    const struct hospital *h = *state;
    char path[256];
    uint64_t last = 1;
    for (kit_segment_path (h->damaged, last + 1, path); access (path, F_OK) == 0; kit_segment_path (h->damaged, last + 1, path))
        last++;
    kit_segment_path (h->damaged, last, path);
    wipe_bytes (path, 0, kit_file_size (path));
    assert_int_equal (find (h->damaged).count, 1);
    const struct report r = repair (h->damaged, h->other, true);
    assert_int_equal (r.refetched, 0);
    assert_int_equal (r.remade, 0);
    assert_int_equal (find (h->damaged).count, 1);
}

/* Nothing tells what lies between the first segment, whose snapshots are damaged, and the third. */
static void a_segment_of_which_nothing_is_known_is_left_lost_and_told (void **state)
{
    const struct hospital *h = *state;
    char path[256];
    const uint64_t end = snapshot_end_of (h->whole, 1);
    assert_true (end > 4096);
    kit_segment_path (h->damaged, 1, path);
    kit_flip (path, 4096 + 3);
    kit_segment_path (h->damaged, 2, path);
    assert_int_equal (unlink (path), 0);
    const size_t found = find (h->damaged).count;
    for (int i = 0; i < 2; i++) {
        const struct words w = repair_in_words (h->damaged, h->other);
        expect_words (&w, " 2 nothing before it tells what was in it\n");
        assert_int_equal (find (h->damaged).count, found);
    }
    assert_int_equal (contents (h->damaged).end_offset, contents (h->whole).end_offset);
}

/* A segment that goes as soon as damage in it is told. */
struct going {
    struct report report;                       /* first: on_told's */
    uint64_t number;
    char path[256];
};

static void on_damage_it_goes (void *arg, const struct log_damage *d)
{
    const struct going *g = arg;
    if (d->segment == g->number)
        wipe_bytes (g->path, 0, kit_file_size (g->path));
}

/* What lies before it is mended. */
static void a_last_segment_that_goes_while_it_is_looked_at_is_left (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    struct going g = { .number = 1 };
    size_t count = places_of (h->whole, 2, places, 4096);
    const struct place first = places[count / 2];
    kit_segment_path (h->damaged, 2, g.path);
    kit_flip (g.path, (int64_t) first.pos + 120);
    do
        kit_segment_path (h->damaged, ++g.number + 1, g.path);
    while (access (g.path, F_OK) == 0);
    count = places_of (h->whole, g.number, places, 4096);
    kit_segment_path (h->damaged, g.number, g.path);
    kit_flip (g.path, (int64_t) places[count / 2].pos + 120);
    struct log *other = open_log (h->other, true, NULL), *log = open_log (h->damaged, false, NULL);
    const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
    const struct repair_options options = { .source = &source, .told = on_told, .damage = on_damage_it_goes, .arg = &g };
    struct repair_result result;
    assert_int_equal (log_repair (log, &options, &result), 0);
    assert_int_equal (result.damaged, 2);
    assert_int_equal (result.segments, 1);
    assert_int_equal (g.report.refetched, first.record.count);
    assert_int_equal (g.report.left, 0);
    log_destroy (&log);
    log_destroy (&other);
    const struct found f = find (h->damaged);
    assert_int_equal (f.count, 1);
    assert_int_equal (f.items[0].segment, g.number);
}

/* Segment 2 holds a cursor alone: segments are cut by age. */
static void a_lost_segment_without_facts_is_made_again (void **state)
{
    (void) state;
    const struct kit_batch_spec specs[] = { { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 64 }, { .stream = 1, .first_seq = 3, .count = 2, .payload_len = 64 } };
    struct log_options options = options_of (NULL);
    struct kit_clock clock;
    struct log_cursor cursor;
    struct log *log = NULL;
    struct log_reader *r;
    char mine[128], path[256];
    uint64_t ticket;
    void *buffer = NULL;
    size_t size = 0;
    kit_directory (mine);
    kit_clock_init (&clock);
    options.clock = &clock.clock;
    options.segment_age_ms = 1000;
    assert_int_equal (log_open (mine, &options, NULL, &log), 0);
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            assert_int_equal (log_cursor_put (log, &(struct log_cursor) { .name = "c", .cursor = slice_of ("x") }, &ticket), 0);
        else
            kit_append_batch (log, &specs[i / 2]);
        kit_sync (log);
        clock.now_ns += UINT64_C (2000000000);
    }
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
    kit_segment_path (mine, 2, path);
    wipe_bytes (path, 0, kit_file_size (path));
    assert_int_equal (find (mine).count, 1);
    const struct words w = repair_in_words (mine, NULL);
    expect_words (&w, " 2 a segment without facts\n");
    assert_int_equal (find (mine).count, 0);
    log = open_log (mine, false, NULL);
    assert_int_equal (log_reader_new (log, &r), 0);
    expect_batch (r, specs[0]);
    expect_batch (r, specs[1]);
    expect_end (r);
    log_reader_destroy (&r);
    assert_int_equal (log_cursor_get (log, "c", &buffer, &size, &cursor), 0);
    assert_true (slice_equal (cursor.cursor, slice_of ("x")));
    free (buffer);
    log_destroy (&log);
    kit_remove (mine);
}

/* --- Gaps. */

static void record_gap (const char *directory, uint32_t reason)
{
    const struct fm_id stream = kit_stream (1);
    uint64_t offset;
    struct log *log = open_log (directory, false, NULL);
    kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 64 });
    assert_int_equal (log_append_gap (log, &stream, 3, 9, reason, &offset), 0);
    kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 9, .count = 2, .payload_len = 64 });
    kit_sync (log);
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
}

static void expect_one_gap (const char *directory, uint32_t reason)
{
    const struct fm_id stream = kit_stream (1);
    struct log_reader *reader;
    struct log *log = open_log (directory, true, NULL);
    assert_int_equal (log_reader_new (log, &reader), 0);
    (void) expect_next (reader);
    expect_gap (reader, &stream, 3, 9, reason);
    (void) expect_next (reader);
    expect_end (reader);
    log_reader_destroy (&reader);
    log_destroy (&log);
}

/* A gap of a reason that this version does not know, damaged: another holder's gap stands in for it. */
static void a_gap_whose_reason_cannot_be_told_comes_from_another_holder (void **state)
{
    (void) state;
    static struct place places[4];
    char mine[128], theirs[128], path[256];
    uint64_t seed;
    kit_directory (mine);
    kit_directory (theirs);
    record_gap (mine, 40);
    record_gap (theirs, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    assert_int_equal (records_of (mine, 1, RECORD_GAP, places, 4, &seed), 1);
    kit_segment_path (mine, 1, path);
    kit_flip (path, (int64_t) places[0].pos + RECORD_HEADER_LEN + 1);
    const struct report alone = repair (mine, NULL, false);
    assert_int_equal (alone.left, 6);
    assert_true (find (mine).count > 0);
    (void) repair (mine, theirs, false);
    assert_int_equal (find (mine).count, 0);
    expect_one_gap (mine, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    kit_remove (mine);
    kit_remove (theirs);
}

/* The facts of stream 1 come back; the gaps of streams 2 and 3 and the facts of stream 2, which nobody has, stay where they are in the segment that is made anew,
 * byte for byte, and are told. */
static void what_nobody_has_stays_beside_what_is_put_back (void **state)
{
    (void) state;
    static struct place batches[8], gaps[4];
    char mine[128], theirs[128], path[256];
    uint64_t seed, offset;
    kit_directory (mine);
    kit_directory (theirs);
    for (int i = 0; i < 2; i++) {
        struct log *log = open_log (i ? theirs : mine, false, NULL);
        kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 64 });
        for (unsigned stream = 2; stream <= 3 && i == 0; stream++) {
            const struct fm_id id = kit_stream (stream);
            kit_append_batch (log, &(struct kit_batch_spec) { .stream = stream, .first_seq = 1, .count = 2, .payload_len = 64 });
            assert_int_equal (log_append_gap (log, &id, 3, 9, 40, &offset), 0);
            kit_append_batch (log, &(struct kit_batch_spec) { .stream = stream, .first_seq = 9, .count = 2, .payload_len = 64 });
        }
        kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 3, .count = 2, .payload_len = 64 });
        kit_sync (log);
        assert_int_equal (log_mark_idle (log), 0);
        log_destroy (&log);
    }
    assert_int_equal (records_of (mine, 1, RECORD_BATCH, batches, 8, &seed), 6);
    assert_int_equal (records_of (mine, 1, RECORD_GAP, gaps, 4, &seed), 2);
    kit_segment_path (mine, 1, path);
    kit_flip (path, (int64_t) batches[1].pos + RECORD_HEADER_LEN + 1);
    kit_flip (path, (int64_t) gaps[0].pos + RECORD_HEADER_LEN + 1);
    kit_flip (path, (int64_t) gaps[1].pos + RECORD_HEADER_LEN + 1);
    const size_t nobodys = find (mine).count;
    kit_flip (path, (int64_t) batches[0].pos + RECORD_HEADER_LEN + 1);
    assert_int_equal (find (mine).count, nobodys + 1);
    const struct report r = repair (mine, theirs, false);
    assert_int_equal (r.refetched, 2);
    assert_int_equal (r.left, 2 + 6 + 6);
    /* Sound again as soon as the bits are. */
    assert_int_equal (find (mine).count, nobodys);
    kit_flip (path, (int64_t) batches[1].pos + RECORD_HEADER_LEN + 1);
    kit_flip (path, (int64_t) gaps[0].pos + RECORD_HEADER_LEN + 1);
    kit_flip (path, (int64_t) gaps[1].pos + RECORD_HEADER_LEN + 1);
    assert_int_equal (find (mine).count, 0);
    kit_remove (mine);
    kit_remove (theirs);
}

/* Its sum fits a range that is empty: it is damage all the same, for who verifies, for who reads and for who repairs. */
static void a_gap_that_is_none_is_damage_though_its_sums_fit (void **state)
{
    (void) state;
    static struct place places[4];
    char mine[128], theirs[128], path[256];
    uint8_t body[RECORD_GAP_LEN];
    uint64_t seed;
    kit_directory (mine);
    kit_directory (theirs);
    record_gap (mine, FACTMESH__GAP_REASON__GAP_VOID);
    record_gap (theirs, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    assert_int_equal (records_of (mine, 1, RECORD_GAP, places, 4, &seed), 1);
    kit_segment_path (mine, 1, path);
    record_gap_encode (body, 3, FACTMESH__GAP_REASON__GAP_VOID);
    forge (path, seed, &places[0], body);
    assert_true (find (mine).count > 0);
    (void) repair (mine, theirs, false);
    assert_int_equal (find (mine).count, 0);
    expect_one_gap (mine, FACTMESH__GAP_REASON__GAP_NOT_HELD);
    kit_remove (mine);
    kit_remove (theirs);
}

/* --- Identities. */

enum { TWINS = 12, TWIN_PAYLOAD = 200000 };

static bool has_identity (uint64_t seq)
{
    return seq % 4 != 0;
}

static bool repeats_another (uint64_t seq)
{
    return seq > 6 && has_identity (seq) && has_identity (seq - 6);
}

/* Facts 1 to TWINS of stream 1 in segments of five; those that have an identity bear that of the one six before it, or their own. */
static void record_twins (const char *directory)
{
    struct log *log = open_log (directory, false, NULL);
    for (unsigned i = 1; i <= TWINS; i++) {
        char identity[20];
        (void) snprintf (identity, sizeof identity, "twin %u", i % 6);
        kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = i, .count = 1, .payload_len = TWIN_PAYLOAD,
                                                           .identity = has_identity (i) ? identity : NULL });
        kit_sync (log);
    }
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
}

/* Which facts are said to repeat others, as bits. */
static uint32_t repeated_of (const char *directory)
{
    struct log *log = open_log (directory, true, NULL);
    struct log_reader *r;
    struct log_item item;
    struct batch_scratch scratch = { 0 };
    uint32_t bits = 0;
    uint64_t next = 1;
    assert_int_equal (log_reader_new (log, &r), 0);
    while (log_reader_next (r, &item) == 0) {
        struct batch b;
        struct batch_duplicates d;
        assert_int_equal (item.kind, LOG_ITEM_BATCH);
        assert_int_equal (batch_decode (item.bytes.data, item.bytes.len, slice (NULL, 0), &scratch, &b), 0);
        assert_int_equal (b.first_seq, next++);
        batch_duplicates_init (&d, &b);
        bits |= batch_duplicates_meet (&d, b.first_seq) ? UINT32_C (1) << b.first_seq : 0;
    }
    assert_int_equal (next, TWINS + 1);
    batch_scratch_release (&scratch);
    log_reader_destroy (&r);
    log_destroy (&log);
    return bits;
}

/* The log itself says nothing of what repeats: what is put back is told as intake would have told it. A whole segment; a record beside others; the end of one,
 * together with its snapshots. */
static void what_is_put_back_is_told_to_repeat_what_lies_before_it (void **state)
{
    (void) state;
    char theirs[128];
    kit_directory (theirs);
    record_twins (theirs);
    static struct place places[16];
    uint64_t seed;
    const size_t count = records_of (theirs, 2, RECORD_BATCH, places, 16, &seed);
    assert_true (count >= 4);
    const uint64_t first = places[0].record.first_seq;
    for (int how = 0; how < 4; how++) {
        char mine[128], path[256];
        uint32_t back = 0;                      /* facts that are put back */
        kit_directory (mine);
        kit_remove (mine);
        kit_copy (theirs, mine);
        kit_segment_path (mine, 2, path);
        if (how == 0)
            assert_int_equal (unlink (path), 0);
        else if (how == 1)
            kit_flip (path, (int64_t) places[1].pos + 200);
        else if (how == 2)
            kit_truncate (path, places[2].pos + 100);
        else {
            kit_flip (path, 4096 + 100);        /* in the snapshots */
            kit_flip (path, (int64_t) places[count - 1].pos + 3);
        }
        for (size_t i = 0; i < count; i++)
            if (how == 0 || (how == 1 && i == 1) || (how == 2 && i >= 2) || (how == 3 && i == count - 1))
                back |= UINT32_C (1) << places[i].record.first_seq;
        const struct report r = repair (mine, theirs, false);
        assert_int_equal (r.left, 0);
        assert_int_equal (find (mine).count, 0);
        uint32_t expected = 0;
        for (unsigned i = 1; i <= TWINS; i++)
            expected |= repeats_another (i) ? back & UINT32_C (1) << i : 0;
        assert_int_equal (repeated_of (mine), expected);
        kit_remove (mine);
    }
    assert_true (first <= 6 && first + count > 9);  /* some repeat others, some do not, one has no identity */
    kit_remove (theirs);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup (name, begin)
        CASE (a_damaged_cursor_is_left_out_and_told),
        CASE (a_damaged_cursor_of_the_last_segment_says_what_that_means),
        CASE (a_hole_over_the_end_of_the_snapshots_is_mended_on_both_sides),
        CASE (a_lost_segment_behind_damaged_snapshots_is_made_again),
        CASE (a_lost_segment_begins_behind_what_the_one_before_lost_at_its_end),
        CASE (the_oldest_segment_stays_lost),
        CASE (a_lost_last_segment_is_left_by_a_dry_run),
        CASE (a_last_segment_that_goes_while_it_is_looked_at_is_left),
        CASE (a_lost_segment_without_facts_is_made_again),
        CASE (a_segment_of_which_nothing_is_known_is_left_lost_and_told),
        CASE (a_gap_whose_reason_cannot_be_told_comes_from_another_holder),
        CASE (what_nobody_has_stays_beside_what_is_put_back),
        CASE (a_gap_that_is_none_is_damage_though_its_sums_fit),
        CASE (what_is_put_back_is_told_to_repeat_what_lies_before_it),
#undef CASE
    };
    return cmocka_run_group_tests (tests, set_up, tear_down);
}
