/* Damage of each kind, made at a known place: verify names exactly that, repair puts back exactly what was there, from
 * another holder or from what is known; whatever call fails, and whenever the power goes, nothing that was whole is lost. */

#include "hospital.h"

#ifdef __SANITIZE_ADDRESS__
enum { FAIL_STEP = 10 };                    /* slow: a share of the calls */
#else
enum { FAIL_STEP = 1 };
#endif

static void expect_same_file (const struct hospital *h, uint64_t number, bool same)
{
    char a[256], b[256], command[600];
    kit_segment_path (h->damaged, number, a);
    kit_segment_path (h->whole, number, b);
    (void) snprintf (command, sizeof command, "cmp -s %s %s", a, b);
    assert_int_equal (system (command) == 0, same);
}

/* --- The cases: damage, what verify says, what repair does. */

static void a_flipped_bit_is_named_exactly_and_the_segment_comes_back_byte_for_byte (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    assert_true (count > 50);
    const size_t picked[] = { 0, count / 2, count - 1 };
    for (size_t i = 0; i < 3; i++)
        for (int where = 0; where < 3; where++) {       /* in the header, first and last byte of the body */
            const struct place *p = &places[picked[i]];
            char path[256];
            begin (state);
            kit_segment_path (h->damaged, 2, path);
            kit_flip (path, (int64_t) (where == 0 ? p->pos + 50 : where == 1 ? p->pos + 88 : p->pos + 87 + p->record.body_len));
            const struct found f = find (h->damaged);
            assert_int_equal (f.count, 1);
            assert_string_equal (f.items[0].what, "checksum");
            assert_int_equal (f.items[0].segment, 2);
            assert_int_equal (f.items[0].end_segment, 3);
            assert_int_equal (f.items[0].first_pos, p->pos);
            assert_int_equal (f.items[0].end_pos, p->end_pos);
            assert_int_equal (f.items[0].first_offset, p->record.offset);
            assert_int_equal (f.items[0].end_offset, p->record.offset + p->record.count);
            assert_true (id_equal (&f.items[0].stream, &p->record.stream));
            assert_int_equal (f.items[0].first_seq, p->record.first_seq);
            assert_int_equal (f.items[0].end_seq, p->record.first_seq + p->record.count);
            const struct report dry = repair (h->damaged, h->other, true);
            assert_int_equal (dry.refetched, p->record.count);
            assert_int_equal (find (h->damaged).count, 1);
            const struct report r = repair (h->damaged, h->other, false);
            assert_int_equal (r.refetched, p->record.count);
            assert_int_equal (r.left, 0);
            assert_false (r.reordered);
            expect_whole (h->damaged, h);
            if (where > 0)
                expect_same_file (h, 2, true);
        }
}

/* A block of zeros over records of several streams: whose facts they were, only the neighbours tell; in which order they lay,
 * nobody. */
static void zeros_over_many_records_are_named_and_filled_in_stream_order (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    const size_t first = count / 3, last = first + 8;
    uint64_t lost[WORK_STREAMS + 1][2] = { { 0 } };
    for (size_t i = first; i <= last; i++) {
        const unsigned stream = work_stream (&places[i].record.stream);
        lost[stream][0] = lost[stream][0] ? lost[stream][0] : places[i].record.first_seq;
        lost[stream][1] = places[i].record.first_seq + places[i].record.count;
    }
    for (int round = 0; round < 2; round++) {
        char path[256];
        begin (state);
        kit_segment_path (h->damaged, 2, path);
        wipe_bytes (path, places[first].pos, places[last].end_pos);
        const struct found f = find (h->damaged);
        assert_int_equal (f.count, WORK_STREAMS);
        for (size_t i = 0; i < f.count; i++) {
            const unsigned stream = work_stream (&f.items[i].stream);
            assert_int_equal (f.items[i].first_pos, places[first].pos);
            assert_int_equal (f.items[i].end_pos, places[last].end_pos);
            assert_int_equal (f.items[i].first_offset, places[first].record.offset);
            assert_int_equal (f.items[i].end_offset, places[last].record.offset + places[last].record.count);
            assert_int_equal (f.items[i].first_seq, lost[stream][0]);
            assert_int_equal (f.items[i].end_seq, lost[stream][1]);
        }
        const struct report r = repair (h->damaged, round ? h->whole : h->other, false);
        assert_int_equal (r.refetched, places[last].record.offset + places[last].record.count - places[first].record.offset);
        assert_int_equal (r.left, 0);
        assert_true (r.reordered);
        assert_int_equal (find (h->damaged).count, 0);
        const struct work_contents c = contents (h->damaged), whole = contents (h->whole);
        assert_int_equal (c.gaps, 0);
        assert_int_equal (c.batches, whole.batches);
        assert_int_equal (c.end_offset, whole.end_offset);
    }
}

/* Of the records' headers the stream and sequence can still be read: then the order is known, too. */
static void what_can_still_be_read_gives_each_fact_its_old_offset (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    char path[256];
    kit_segment_path (h->damaged, 2, path);
    for (size_t i = count / 2; i < count / 2 + 20; i++)
        kit_flip (path, (int64_t) places[i].pos + 3);
    const struct report r = repair (h->damaged, h->other, false);
    assert_false (r.reordered);
    assert_int_equal (r.left, 0);
    expect_whole (h->damaged, h);
    expect_same_file (h, 2, true);
}

static void headers_and_footers_are_made_anew_without_anybody (void **state)
{
    const struct hospital *h = *state;
    const int64_t places[] = { 20, 2048 + 20, 1000, -20, -192 - 20, -192 - 256 - 10 };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char path[256];
        begin (state);
        kit_segment_path (h->damaged, 2, path);
        kit_flip (path, places[i]);
        const struct found f = find (h->damaged);
        assert_int_equal (f.count, 1);
        assert_string_equal (f.items[0].what, places[i] > 0 ? "header" : "footer");
        assert_int_equal (f.items[0].first_offset, f.items[0].end_offset);
        const struct report r = repair (h->damaged, NULL, false);
        assert_int_equal (r.remade, 1);
        expect_whole (h->damaged, h);
        expect_same_file (h, 2, true);
    }
}

static void a_truncated_segment_is_completed (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    const struct place *cut = &places[count / 2];
    char path[256];
    kit_segment_path (h->damaged, 2, path);
    kit_truncate (path, cut->pos + 100);
    const struct found f = find (h->damaged);
    uint64_t facts = 0;
    for (size_t i = 0; i < f.count; i++)
        if (strcmp (f.items[i].what, "truncated") == 0) {
            assert_int_equal (f.items[i].segment, 2);
            assert_int_equal (f.items[i].first_pos, cut->pos);
            assert_int_equal (f.items[i].end_pos, cut->pos + 100);
            assert_int_equal (f.items[i].first_offset, cut->record.offset);
            facts += f.items[i].end_seq - f.items[i].first_seq;
        }
    const uint64_t lost = places[count - 1].record.offset + places[count - 1].record.count - cut->record.offset;
    assert_int_equal (facts, lost);
    for (int i = 0; i < 2; i++) {           /* where nobody has it, a footer is made all the same; it stays told */
        const struct report alone = repair (h->damaged, NULL, false);
        assert_int_equal (alone.left, lost);
        assert_int_equal (find (h->damaged).count, WORK_STREAMS);
    }
    const struct report r = repair (h->damaged, h->other, false);
    assert_int_equal (r.refetched, lost);
    assert_int_equal (find (h->damaged).count, 0);
    assert_int_equal (contents (h->damaged).gaps, 0);
    assert_int_equal (contents (h->damaged).end_offset, contents (h->whole).end_offset);
}

enum whole_loss { REMOVED, ZEROED, RENAMED, SWAPPED };

static void lose_segment (const struct hospital *h, enum whole_loss how)
{
    char path[256], other[256];
    kit_segment_path (h->damaged, 2, path);
    kit_segment_path (h->whole, 1, other);
    if (how == REMOVED)
        assert_int_equal (unlink (path), 0);
    else if (how == ZEROED)
        wipe_bytes (path, 0, kit_file_size (path));
    else if (how == RENAMED) {
        char to[300];
        (void) snprintf (to, sizeof to, "%s.old", path);
        assert_int_equal (rename (path, to), 0);
    } else {                                /* segment 1 under the name of 2 */
        char command[600];
        (void) snprintf (command, sizeof command, "cp %s %s", other, path);
        assert_int_equal (system (command), 0);
    }
}

static void a_segment_that_is_lost_whole_is_made_again (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    const uint64_t first = places[0].record.offset, end = places[count - 1].record.offset + places[count - 1].record.count;
    for (int how = REMOVED; how <= SWAPPED; how++) {
        begin (state);
        lose_segment (h, (enum whole_loss) how);
        const struct found f = find (h->damaged);
        assert_int_equal (f.count, WORK_STREAMS);
        uint64_t facts = 0;
        for (size_t i = 0; i < f.count; i++) {
            assert_string_equal (f.items[i].what, how == REMOVED || how == RENAMED ? "missing segment" : "unreadable segment");
            assert_int_equal (f.items[i].segment, 2);
            assert_int_equal (f.items[i].end_segment, 3);
            assert_int_equal (f.items[i].first_offset, first);
            assert_int_equal (f.items[i].end_offset, end);
            facts += f.items[i].end_seq - f.items[i].first_seq;
        }
        assert_int_equal (facts, end - first);
        const struct report r = repair (h->damaged, h->other, false);
        assert_int_equal (r.refetched, end - first);
        expect_mended (h);
    }
}

static void damaged_snapshots_are_made_anew (void **state)
{
    const struct hospital *h = *state;
    for (int where = 0; where < 2; where++) {
        char path[256];
        begin (state);
        kit_segment_path (h->damaged, 2, path);
        kit_flip (path, 4096 + (where ? 100 : 10));
        const struct found f = find (h->damaged);
        assert_int_equal (f.count, 1);
        assert_string_equal (f.items[0].what, "snapshot");
        assert_int_equal (f.items[0].first_pos, 4096);
        const struct report r = repair (h->damaged, NULL, false);
        assert_int_equal (r.left, 0);
        expect_whole (h->damaged, h);
        unlink (path);                      /* what is told of its loss comes from these snapshots, too */
        kit_segment_path (h->damaged, 1, path);
        assert_int_equal (find (h->damaged).count, WORK_STREAMS);
    }
}

static void without_a_holder_everything_stays_told_and_a_later_run_puts_it_back (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 1, places, 4096);
    char path[256];
    kit_segment_path (h->damaged, 1, path);
    kit_flip (path, (int64_t) places[count / 2].pos + 120);
    kit_flip (path, (int64_t) places[count / 4].pos + 12);
    for (int i = 0; i < 3; i++) {
        const struct report r = repair (h->damaged, NULL, false);
        assert_int_equal (r.refetched, 0);
        assert_int_equal (r.left, places[count / 2].record.count + places[count / 4].record.count);
        assert_int_equal (find (h->damaged).count, 2);
        assert_int_equal (contents (h->damaged).gaps, 2);
    }
    /* One copy of each range, however often it ran; and it is what lay there. */
    char name[400], command[1200];
    for (int i = 0; i < 2; i++) {
        const struct place *p = &places[i ? count / 2 : count / 4];
        (void) snprintf (name, sizeof name, "%s/quarantine/0000000001-%llu.0.damaged", h->damaged, (unsigned long long) p->pos);
        assert_int_equal (access (name, F_OK), 0);
        assert_int_equal (kit_file_size (name), p->end_pos - p->pos);
        (void) snprintf (command, sizeof command, "cmp -s -n %llu -i 0:%llu %s %s", (unsigned long long) (p->end_pos - p->pos),
                         (unsigned long long) p->pos, name, path);
        assert_int_equal (system (command), 0);
        (void) snprintf (name, sizeof name, "%s/quarantine/0000000001-%llu.1.damaged", h->damaged, (unsigned long long) p->pos);
        assert_int_not_equal (access (name, F_OK), 0);
    }
    (void) repair (h->damaged, h->other, false);
    expect_whole (h->damaged, h);
    expect_same_file (h, 1, true);
    assert_int_equal (repair (h->damaged, h->other, false).refetched, 0);
}

/* Whose order is lost is not put back under the feet of a cursor. */
static void a_hole_of_lost_order_is_left_alone_while_a_cursor_stands_in_it (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    const struct place *first = &places[count / 2], *last = &places[count / 2 + 6];
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    uint8_t packed[64];
    char path[256];
    kit_segment_path (h->damaged, 2, path);
    cursor.major = 1;
    for (int inside = 1; inside >= 0; inside--) {
        struct log *log = open_log (h->damaged, false, NULL);
        uint64_t ticket;
        cursor.offset = inside ? first->record.offset + 4 : first->record.offset;
        const size_t len = factmesh__cursor__pack (&cursor, packed);
        assert_int_equal (log_cursor_put (log, &(struct log_cursor) { .name = "here", .cursor = slice (packed, len) }, &ticket), 0);
        kit_sync (log);
        log_destroy (&log);
        wipe_bytes (path, first->pos, last->end_pos);
        const struct report r = repair (h->damaged, h->other, false);
        assert_int_equal (r.refetched > 0, !inside);
        assert_int_equal (r.left > 0, inside);
        assert_int_equal (find (h->damaged).count > 0, inside);
    }
}

static void a_hole_of_lost_order_is_left_alone_while_there_are_groups (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    char path[256];
    uint64_t ticket;
    struct log *log = open_log (h->damaged, false, NULL);
    assert_int_equal (log_cursor_put (log, &(struct log_cursor) { .name = "\x01gworkers", .cursor = slice ("", 0) }, &ticket), 0);
    kit_sync (log);
    log_destroy (&log);
    kit_segment_path (h->damaged, 2, path);
    wipe_bytes (path, places[count / 2].pos, places[count / 2 + 6].end_pos);
    assert_int_equal (repair (h->damaged, h->other, false).refetched, 0);
    kit_flip (path, (int64_t) places[count / 4].pos + 3);  /* whose order is known comes back all the same */
    assert_true (repair (h->damaged, h->other, false).refetched > 0);
}

/* Every fact, whatever the batches: what was read of each stream, fact by fact. */
static void expect_facts (const char *directory, uint64_t count)
{
    struct log *log = open_log (directory, true, NULL);
    struct log_reader *r;
    struct log_item item;
    struct batch_scratch scratch = { 0 };
    uint64_t next = 1, offset = 1;
    assert_int_equal (log_reader_new (log, &r), 0);
    while (log_reader_next (r, &item) == 0) {
        struct batch b;
        struct batch_reader reader;
        struct fm_fact fact;
        assert_int_equal (item.kind, LOG_ITEM_BATCH);
        assert_int_equal (item.offset, offset);
        assert_int_equal (batch_decode (item.bytes.data, item.bytes.len, slice (NULL, 0), &scratch, &b), 0);
        for (batch_reader_init (&reader, &b); batch_reader_next (&reader, &fact) == 0; next++, offset++) {
            struct kit_batch k;
            kit_batch_make (&(struct kit_batch_spec) { .stream = 1, .first_seq = next, .count = 1, .payload_len = 64 }, &k);
            struct batch_reader alone;
            struct fm_fact expected;
            batch_reader_init (&alone, &k.batch);
            assert_int_equal (batch_reader_next (&alone, &expected), 0);
            assert_int_equal (fact.id.seq, next);
            assert_true (slice_equal (fact.payload, expected.payload) && slice_equal (fact.topic, expected.topic));
            kit_batch_release (&k);
        }
    }
    assert_int_equal (next, count + 1);
    batch_scratch_release (&scratch);
    log_reader_destroy (&r);
    log_destroy (&log);
}

static void record_life (const char *directory, uint64_t facts, uint32_t first, uint32_t each, uint64_t incarnation)
{
    struct log *log = open_log (directory, false, NULL);
    for (uint64_t seq = 1; seq <= facts;) {
        const uint32_t want = seq == 1 ? first : each;
        const uint32_t n = facts - seq + 1 < want ? (uint32_t) (facts - seq + 1) : want;
        kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = n, .payload_len = 64,
                                                         .incarnation = incarnation });
        seq += n;
    }
    kit_sync (log);
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
}

static void record_bounds (const char *directory, uint64_t facts, uint32_t first, uint32_t each)
{
    record_life (directory, facts, first, each, 0);
}

static void facts_of_another_incarnation_are_not_put_back (void **state)
{
    (void) state;
    static struct place places[64];
    for (int headed = 0; headed < 2; headed++) {
        char mine[128], theirs[128], path[256];
        kit_directory (mine);
        kit_directory (theirs);
        record_life (mine, 100, 5, 5, 1234);
        record_life (theirs, 100, 5, 5, 4321);
        assert_int_equal (places_of (mine, 1, places, 64), 20);
        kit_segment_path (mine, 1, path);
        kit_flip (path, (int64_t) places[7].pos + (headed ? 200 : 20));
        const struct report r = repair (mine, theirs, false);
        assert_int_equal (r.refetched, 0);
        assert_int_equal (r.left, 5);
        assert_int_equal (find (mine).count, 1);
        kit_remove (mine);
        kit_remove (theirs);
    }
}

static void batches_of_other_bounds_are_cut_so_that_the_offsets_fit (void **state)
{
    (void) state;
    for (uint32_t each = 1; each <= 7; each++)
        for (int where = 0; where < 2; where++) {
            static struct place places[4096];
            char mine[128], theirs[128], path[256];
            kit_directory (mine);
            kit_directory (theirs);
            record_bounds (mine, 100, 5, 5);
            record_bounds (theirs, 100, 3, each);
            assert_int_equal (places_of (mine, 1, places, 4096), 20);
            kit_segment_path (mine, 1, path);
            kit_flip (path, (int64_t) places[7].pos + (where ? 200 : 20));
            wipe_bytes (path, places[12].pos, places[14].end_pos);
            const struct report r = repair (mine, theirs, false);
            assert_int_equal (r.refetched, 20);
            assert_false (r.reordered);
            assert_int_equal (find (mine).count, 0);
            expect_facts (mine, 100);
            kit_remove (mine);
            kit_remove (theirs);
        }
}

/* A gap's record tells its end in its body alone. */
static void a_damaged_gap_record_is_found_again (void **state)
{
    (void) state;
    char mine[128], path[256];
    uint64_t offset;
    kit_directory (mine);
    struct log *log = open_log (mine, false, NULL);
    const struct fm_id stream = kit_stream (1);
    kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 64 });
    assert_int_equal (log_append_gap (log, &stream, 3, 9, FACTMESH__GAP_REASON__GAP_VOID, &offset), 0);
    kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 9, .count = 2, .payload_len = 64 });
    kit_sync (log);
    assert_int_equal (log_mark_idle (log), 0);
    log_destroy (&log);
    static struct place places[16];
    assert_int_equal (places_of (mine, 1, places, 16), 2);
    kit_segment_path (mine, 1, path);
    kit_flip (path, (int64_t) places[0].end_pos + 88 + 1);
    const struct found f = find (mine);
    assert_int_equal (f.count, 2);          /* six sequences and one offset: told apart */
    assert_int_equal (f.items[0].first_seq, 3);
    assert_int_equal (f.items[0].end_seq, 9);
    const struct report r = repair (mine, NULL, false);
    assert_int_equal (r.remade, 1);
    assert_int_equal (find (mine).count, 0);
    struct log_reader *reader;
    log = open_log (mine, true, NULL);
    assert_int_equal (log_reader_new (log, &reader), 0);
    (void) expect_next (reader);
    expect_gap (reader, &stream, 3, 9, FACTMESH__GAP_REASON__GAP_VOID);
    (void) expect_next (reader);
    expect_end (reader);
    log_reader_destroy (&reader);
    log_destroy (&log);
    kit_remove (mine);
}

/* What the other has only in part is put back in part: the rest stays told, exactly. */
static void what_nobody_has_stays_a_gap_of_its_own (void **state)
{
    const struct hospital *h = *state;
    static struct place places[4096], others[4096];
    const size_t count = places_of (h->whole, 2, places, 4096);
    char path[256], holder[128];
    kit_directory (holder);
    kit_remove (holder);
    kit_copy (h->whole, holder);
    const size_t first = count / 2;
    kit_segment_path (holder, 2, path);     /* the holder lost one of them, too */
    kit_flip (path, (int64_t) places[first + 4].pos + 100);
    kit_segment_path (h->damaged, 2, path);
    for (size_t i = first; i < first + 9; i++)
        kit_flip (path, (int64_t) places[i].pos + 3);
    const uint64_t lost = places[first + 8].record.offset + places[first + 8].record.count - places[first].record.offset;
    const struct report r = repair (h->damaged, holder, false);
    assert_int_equal (r.left, places[first + 4].record.count);
    assert_int_equal (r.refetched, lost - places[first + 4].record.count);
    const struct found f = find (h->damaged);
    assert_int_equal (f.count, 1);
    assert_true (id_equal (&f.items[0].stream, &places[first + 4].record.stream));
    assert_int_equal (f.items[0].first_seq, places[first + 4].record.first_seq);
    assert_int_equal (f.items[0].end_seq, places[first + 4].record.first_seq + places[first + 4].record.count);
    assert_int_equal (f.items[0].first_offset, places[first + 4].record.offset);
    assert_int_equal (f.items[0].end_offset, places[first + 4].record.offset + places[first + 4].record.count);
    assert_int_equal (contents (h->damaged).gaps, 1);
    assert_int_equal (places_of (h->damaged, 2, others, 4096), count - 1);
    for (size_t i = 0, k = 0; i < count; i++)
        if (i != first + 4) {
            assert_int_equal (others[k].record.offset, places[i].record.offset);
            k++;
        }
    (void) repair (h->damaged, h->whole, false);
    expect_whole (h->damaged, h);
    kit_remove (holder);
}

/* --- Failures. */

/* One of everything. */
static void damage_all_over (const struct hospital *h)
{
    static struct place places[4096];
    char path[256];
    size_t count = places_of (h->whole, 1, places, 4096);
    kit_segment_path (h->damaged, 1, path);
    kit_flip (path, (int64_t) places[count / 2].pos + 3);
    kit_flip (path, (int64_t) places[count / 3].pos + 90);
    kit_segment_path (h->damaged, 2, path);
    assert_int_equal (unlink (path), 0);
    kit_segment_path (h->damaged, 3, path);
    kit_flip (path, -30);
    count = places_of (h->whole, 4, places, 4096);
    kit_segment_path (h->damaged, 4, path);
    kit_flip (path, (int64_t) places[count / 2].pos + 3);
}

/* Is everything there that was whole before, and nothing that was not published? work_check compares each batch; the gaps are no
 * more than the damage. */
static void expect_no_less (const char *directory, const struct work_contents *before)
{
    const struct work_contents now = contents (directory);
    assert_true (now.batches >= before->batches);
    assert_int_equal (now.end_offset, before->end_offset);
}

/* An index that was made from the log as it is. */
static void put_index (const char *directory, char path[256])
{
    (void) snprintf (path, 256, "%s/index", directory);
    (void) mkdir (path, 0777);          /* it may be there */
    (void) snprintf (path, 256, "%s/index/index.db", directory);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    assert_int_equal (fclose (file), 0);
}

static bool fail_at (void **state, unsigned long n, unsigned keep_percent, bool power)
{
    const struct hospital *h = *state;
    begin (state);
    damage_all_over (h);
    char index[256];
    put_index (h->damaged, index);
    const struct work_contents before = contents (h->damaged);
    struct fail_fs *f = fail_fs_new ();
    const struct log_options options = options_of (fail_fs_seam (f));
    struct log *log = NULL, *other = open_log (h->other, true, NULL);
    const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
    const struct repair_options how = { .source = &source };
    struct repair_result result;
    assert_int_equal (log_open (h->damaged, &options, NULL, &log), 0);
    if (power)
        fail_fs_power_off (f, n);
    else
        fail_fs_fail (f, FAIL_ANY, n, -EIO);
    const int rc = log_repair (log, &how, &result);
    log_destroy (&log);
    const bool happened = fail_fs_happened (f);
    if (power)
        fail_fs_power_loss (f, (unsigned) n, keep_percent);
    fail_fs_destroy (&f);
    log_destroy (&other);
    if (!happened)
        assert_int_equal (rc, 0);
    expect_no_less (h->damaged, &before);
    /* No start finds an index of the log as it was beside facts that came back. */
    if (contents (h->damaged).batches > before.batches)
        assert_int_equal (access (index, F_OK), -1);
    (void) repair (h->damaged, h->other, false);
    assert_int_equal (access (index, F_OK), -1);
    assert_int_equal (find (h->damaged).count, 0);
    const struct work_contents after = contents (h->damaged);
    assert_int_equal (after.gaps, 0);
    assert_int_equal (after.end_offset, before.end_offset);
    return happened;
}

static void whichever_call_fails_nothing_whole_is_lost_and_the_next_run_does_the_rest (void **state)
{
    unsigned long n = 1;
    while (fail_at (state, n, 0, false))
        n += FAIL_STEP;
    assert_true (n > 20);
}

static void whenever_the_power_goes_nothing_whole_is_lost_and_the_next_run_does_the_rest (void **state)
{
    unsigned long n = 1;
    while (fail_at (state, n, (unsigned) (n * 37) % 101, true))
        n += FAIL_STEP;
    assert_true (n > 20);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup (name, begin)
        CASE (a_flipped_bit_is_named_exactly_and_the_segment_comes_back_byte_for_byte),
        CASE (zeros_over_many_records_are_named_and_filled_in_stream_order),
        CASE (what_can_still_be_read_gives_each_fact_its_old_offset),
        CASE (headers_and_footers_are_made_anew_without_anybody),
        CASE (a_truncated_segment_is_completed),
        CASE (a_segment_that_is_lost_whole_is_made_again),
        CASE (damaged_snapshots_are_made_anew),
        CASE (without_a_holder_everything_stays_told_and_a_later_run_puts_it_back),
        CASE (a_hole_of_lost_order_is_left_alone_while_a_cursor_stands_in_it),
        CASE (a_hole_of_lost_order_is_left_alone_while_there_are_groups),
        CASE (batches_of_other_bounds_are_cut_so_that_the_offsets_fit),
        CASE (facts_of_another_incarnation_are_not_put_back),
        CASE (a_damaged_gap_record_is_found_again),
        CASE (what_nobody_has_stays_a_gap_of_its_own),
        CASE (whichever_call_fails_nothing_whole_is_lost_and_the_next_run_does_the_rest),
        CASE (whenever_the_power_goes_nothing_whole_is_lost_and_the_next_run_does_the_rest),
#undef CASE
    };
    return cmocka_run_group_tests (tests, set_up, tear_down);
}
