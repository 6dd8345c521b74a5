/* refetch: what a holder sends is cut to what was asked for; what a damaged one has left is taken. */

#include "hospital.h"

#include "refetch.h"

/* A holder that follows a script: batches of one fact or of several, and gaps. */
struct sent {
    char kind;                                  /* 'b'atch, 'g'ap, 'x': no batch, 'i': of another stream, 'o': of an older epoch */
    uint64_t first_seq, end_seq;
};

static int scripted_fetch (void *context, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq, struct refetch *into)
{
    (void) stream, (void) first_seq, (void) end_seq;
    for (const struct sent *s = context; s->kind; s++) {
        struct kit_batch k;
        int rc;
        if (s->kind == 'g') {
            rc = refetch_gap (into, s->first_seq, s->end_seq, FACTMESH__GAP_REASON__GAP_VOID);
        } else if (s->kind == 'x')
            rc = refetch_batch (into, slice_of ("\xff\xff"));
        else {
            kit_batch_make (&(struct kit_batch_spec) { .stream = s->kind == 'i' ? 2 : 1, .epoch = s->kind == 'o' ? 1 : 5, .first_seq = s->first_seq,
                                                      .count = (uint32_t) (s->end_seq - s->first_seq), .payload_len = 10 }, &k);
            rc = refetch_batch (into, slice (k.bytes, k.len));
            kit_batch_release (&k);
        }
        if (rc)
            return rc;
    }
    return 0;
}

/* [10, 40) is lost: parts leave nothing out, lie within, and follow each other. */
static void what_a_holder_sends_is_cut_to_what_was_asked_for (void **state)
{
    (void) state;
    static const struct sent script[] = {
        { 'x', 0, 0 }, { 'i', 10, 12 }, { 'o', 10, 12 },        /* refused */
        { 'b', 1, 10 }, { 'b', 40, 45 },                        /* beside the range */
        { 'g', 18, 20 }, { 'g', 30, 90 }, { 'g', 5, 11 }, { 'g', 7, 7 },
        { 'b', 12, 14 }, { 'b', 12, 14 }, { 'b', 13, 16 },      /* a second time; the rest of it is new */
        { 'b', 22, 24 }, { 'b', 28, 30 }, { 0, 0, 0 }
    };
    static const struct refetch_part expected[] = {
        { .kind = PART_GAP, .first_seq = 10, .end_seq = 11 }, { .kind = PART_MISSING, .first_seq = 11, .end_seq = 12 },
        { .kind = PART_BATCH, .first_seq = 12, .end_seq = 14 }, { .kind = PART_BATCH, .first_seq = 14, .end_seq = 16 },
        { .kind = PART_MISSING, .first_seq = 16, .end_seq = 18 }, { .kind = PART_GAP, .first_seq = 18, .end_seq = 20 },
        { .kind = PART_MISSING, .first_seq = 20, .end_seq = 22 }, { .kind = PART_BATCH, .first_seq = 22, .end_seq = 24 },
        { .kind = PART_MISSING, .first_seq = 24, .end_seq = 28 }, { .kind = PART_BATCH, .first_seq = 28, .end_seq = 30 },
        { .kind = PART_GAP, .first_seq = 30, .end_seq = 40 },
    };
    char mine[128];
    kit_directory (mine);
    struct log *log = open_log (mine, false, NULL);
    struct refetch f;
    const struct log_life life = { .epoch = 5, .incarnation = 12 };
    const struct log_lost lost = { .stream = kit_stream (1), .first_seq = 10, .end_seq = 40, .after = life, .before = life };
    const struct refetch_source source = { .context = (void *) (uintptr_t) script, .fetch = scripted_fetch };
    refetch_init (&f, log);
    assert_int_equal (refetch_add (&f, &lost), 0);
    assert_int_equal (refetch_all (&f, &source), 0);
    assert_int_equal (f.refused, 3);
    assert_int_equal (f.facts, 2 + 2 + 2 + 2);
    assert_int_equal (f.part_count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < f.part_count; i++) {
        const struct refetch_part *p = &f.parts[i], *e = &expected[i];
        assert_int_equal (p->kind, e->kind);
        assert_int_equal (p->first_seq, e->first_seq);
        assert_int_equal (p->end_seq, e->end_seq);
        if (p->kind == PART_GAP)
            assert_int_equal (p->reason, FACTMESH__GAP_REASON__GAP_VOID);
        if (p->kind != PART_BATCH)
            continue;
        uint8_t bytes[1000];
        struct batch b;
        struct batch_scratch scratch = { 0 };
        assert_true (p->len <= sizeof bytes);
        assert_int_equal (refetch_read (&f, p, 0, bytes, p->len), 0);
        assert_int_equal (batch_decode (bytes, p->len, slice_of ("test"), &scratch, &b), 0);
        assert_int_equal (batch_check_facts (&b), 0);
        assert_int_equal (b.first_seq, e->first_seq);
        assert_int_equal (batch_end_seq (&b), e->end_seq);
        batch_scratch_release (&scratch);
    }
    refetch_release (&f);
    log_destroy (&log);
    kit_remove (mine);
}

/* A holder that lost a segment, and cannot tell whose facts were in it: what it has on both sides comes. */
static void what_a_holder_has_behind_its_own_damage_is_fetched_too (void **state)
{
    (void) state;
    struct log_setting theirs = { .options = { .mesh = "test", .segment_bytes = 1 << 20 } };
    struct log *log, *holder;
    char mine[128], path[256];
    struct refetch f;
    const struct log_life life = { .epoch = 1, .incarnation = 8 };
    const struct log_lost lost = { .stream = kit_stream (1), .first_seq = 3, .end_seq = 38, .after = life, .before = life };
    kit_directory (mine);
    kit_directory (theirs.directory);
    kit_clock_init (&theirs.clock);
    theirs.options.clock = &theirs.clock.clock;
    assert_int_equal (log_open (theirs.directory, &theirs.options, NULL, &theirs.log), 0);
    fill_segments (&theirs, 4);
    log_destroy (&theirs.log);
    kit_segment_path (theirs.directory, 2, path);
    assert_int_equal (unlink (path), 0);
    kit_segment_path (theirs.directory, 3, path);
    kit_flip (path, 4096 + 100);                /* its snapshots */
    log = open_log (mine, false, NULL);
    holder = open_log (theirs.directory, true, NULL);
    const struct refetch_source source = { .context = holder, .fetch = refetch_from_log };
    refetch_init (&f, log);
    assert_int_equal (refetch_add (&f, &lost), 0);
    assert_int_equal (refetch_all (&f, &source), 0);
    assert_int_equal (f.refused, 0);
    assert_int_equal (f.facts, 8 + 17);
    uint64_t next_seq = 3;
    for (size_t i = 0; i < f.part_count; i++) {
        const struct refetch_part *p = &f.parts[i];
        assert_int_equal (p->first_seq, next_seq);
        assert_int_equal (p->kind, next_seq == 11 ? PART_MISSING : PART_BATCH);
        next_seq = p->end_seq;
        assert_int_equal (next_seq, p->kind == PART_MISSING ? 21 : p->first_seq + 1);
    }
    assert_int_equal (next_seq, 38);
    refetch_release (&f);
    log_destroy (&log);
    log_destroy (&holder);
    kit_remove (mine);
    kit_remove (theirs.directory);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (what_a_holder_sends_is_cut_to_what_was_asked_for),
        cmocka_unit_test (what_a_holder_has_behind_its_own_damage_is_fetched_too),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
