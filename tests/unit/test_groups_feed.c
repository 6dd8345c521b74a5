/* groups_feed: from the log into a group and into hands: what can't be read or sent waits and is told, what is gone is told and passed over, and nothing
 * is lost on the way. Without the thread: the test calls what it would. */

#include "bare_groups.h"

#include "factmesh.pb-c.h"

enum { CREDIT = 100, LARGE = 100000, MS = 1000000 };

struct setting {
    struct fake_journal j;
    struct kit_clock clock;
    struct groups gs;
    struct group *g;
    uint64_t next_seq;
};

/* Opened anew: with a group at the begin of the log, and an instance of it. No fact is kept in memory. */
static void begin (struct setting *s)
{
    assert_int_equal (fake_open (&s->j), 0);
    groups_open (&s->gs, &s->j, 0);
    s->g = new_group (&s->gs, "g", GROUP_ONCE_PER_VERSION);
    s->g->instances = calloc (1, sizeof *s->g->instances);
    assert_non_null (s->g->instances);
    s->g->instances[0] = (struct group_instance) { .number = 1, .route = { .len = 1, .bytes = { 'a' } } };
    s->g->instance_count = s->g->instance_size = 1;
    s->g->may_hand_out = true;
    assert_int_equal (group_state_join (s->g->state, 1, CREDIT, node_now ()), 0);
}

static int set_up (void **state)
{
    struct setting *s = calloc (1, sizeof *s);
    assert_non_null (s);
    fake_begin (&s->j);
    s->j.fs = fail_fs_new ();
    kit_clock_init (&s->clock);
    s->j.clock = &s->clock.clock;
    s->next_seq = 1;
    begin (s);
    *state = s;
    return 0;
}

static int tear_down (void **state)
{
    struct setting *s = *state;
    groups_close (&s->gs);
    fake_end (&s->j);
    free (s);
    return 0;
}

static struct kit_batch_spec spec_of (uint64_t seq, size_t len)
{
    return (struct kit_batch_spec) { .stream = 1, .first_seq = seq, .count = 1, .payload_len = len, .topic = "a.b" };
}

/* So many batches of one fact. */
static void append (struct setting *s, unsigned count, size_t len)
{
    while (count--) {
        const struct kit_batch_spec spec = spec_of (s->next_seq++, len);
        (void) kit_append_batch (s->j.context.log, &spec);
    }
    assert_int_equal (fake_sync (&s->j), 0);
}

/* One that corrects this. */
static void append_correction (struct setting *s, unsigned stream, uint64_t seq)
{
    struct kit_batch_spec spec = spec_of (s->next_seq++, 10);
    spec.corrects = (struct fm_fact_id) { .stream = kit_stream (stream), .seq = seq };
    (void) kit_append_batch (s->j.context.log, &spec);
    assert_int_equal (fake_sync (&s->j), 0);
}

static void damage (const struct setting *s, uint64_t seq)
{
    char path[256];
    const struct kit_batch_spec spec = spec_of (seq, 10);
    kit_segment_path (s->j.directory, 1, path);
    kit_flip (path, (int64_t) find_batch (path, &spec) + 20);
}

/* As far as it goes. Returns when it wants to look again, in ms from now; 0: not by itself. */
static uint64_t read_all (struct setting *s)
{
    const uint64_t now = node_now ();
    uint64_t due;
    while (groups_read (&s->gs, s->g, 0, now, &due))
        ;
    return due == UINT64_MAX ? 0 : (due - now) / MS;
}

static uint64_t place (const struct setting *s)
{
    struct group_place at;
    group_state_place (s->g->state, &at);
    return at.next;
}

static void hand_out (struct setting *s)
{
    assert_false (groups_hand_out (&s->gs, s->g, node_now ()));
}

/* The next message to the instance: these offsets, handed out for the first time. */
static void expect_work (size_t count, const uint64_t *offsets)
{
    const Factmesh__Work *w = fake_wait_reply (FACTMESH__CONTROL__BODY_WORK)->work;
    assert_int_equal (w->member, 1);
    assert_int_equal (w->n_items, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal (w->items[i]->offset, offsets[i]);
        assert_int_equal (w->items[i]->deliveries, 1);
    }
}

static void expect_nothing (void)
{
    assert_int_equal (fake.reply_taken, fake.reply_count);
}

static void counts_are (const struct setting *s, uint64_t unfinished, uint64_t in_hand, uint64_t parked)
{
    struct group_counts c;
    group_state_counts (s->g->state, &c);
    assert_int_equal (c.unfinished, unfinished);
    assert_int_equal (c.in_hand, in_hand);
    assert_int_equal (c.parked, parked);
}

/* --- Reading. */

static void a_read_that_fails_is_told_once_and_tried_again (void **state)
{
    struct setting *s = *state;
    append (s, 3, 10);
    for (int i = 0; i < 2; i++) {
        fail_fs_fail (s->j.fs, FAIL_READ, 1, -ENXIO);
        assert_int_equal (read_all (s), 1000);
        assert_int_equal (place (s), 1);
        assert_int_equal (fake.notice_count, 1);
        assert_true (fake_noticed ("GROUP-READ-FAILED group=g offset=1: No such device or address"));
    }
    assert_int_equal (read_all (s), 0);
    assert_int_equal (place (s), 4);
    counts_are (s, 3, 0, 0);
}

static void what_is_damaged_or_expired_is_told_and_passed_over (void **state)
{
    struct setting *s = *state;
    append (s, 3, 10);
    damage (s, 2);
    assert_int_equal (read_all (s), 0);
    assert_int_equal (fake.notice_count, 1);
    assert_true (fake_noticed ("GROUP-GAP group=g offsets=[2,3) reason=damaged"));
    hand_out (s);
    expect_work (2, (const uint64_t[]) { 1, 3 });
    groups_close (&s->gs);
    /* Of two segments the first is gone. */
    append (s, 15, LARGE);
    fake_close (&s->j);
    char path[256];
    kit_segment_path (s->j.directory, 1, path);
    assert_int_equal (remove (path), 0);
    begin (s);
    fake_forget_notices ();
    assert_int_equal (read_all (s), 0);
    struct log_position at;
    log_position (s->j.context.log, &at);
    assert_true (at.first_offset > 4 && at.first_offset < 18);
    char text[80];
    (void) snprintf (text, sizeof text, "GROUP-GAP group=g offsets=[1,%llu) reason=expired", (unsigned long long) at.first_offset);
    assert_true (fake_noticed (text));
    assert_int_equal (place (s), 19);
    counts_are (s, 19 - at.first_offset, 0, 0);
}

/* Of a segment without any of the group's topics the reader tells each stream once, with all that it has there: nothing of what follows is passed over. */
static void what_follows_a_segment_without_the_groups_topics_is_not_passed_over (void **state)
{
    struct setting *s = *state;
    struct kit_batch_spec spec = { .stream = 2, .count = 1, .payload_len = LARGE, .topic = "other" };
    for (spec.first_seq = 1; spec.first_seq <= 22; spec.first_seq++)
        (void) kit_append_batch (s->j.context.log, &spec);
    append (s, 3, 10);
    assert_int_equal (read_all (s), 0);
    assert_int_equal (place (s), 26);
    counts_are (s, 3, 0, 0);
    hand_out (s);
    expect_work (3, (const uint64_t[]) { 23, 24, 25 });
}

/* A damaged batch begins below the end of what older topics had left out, and ends above it. */
static void a_gap_over_the_end_of_what_was_left_out_is_passed_by_both_readers (void **state)
{
    struct setting *s = *state;
    append (s, 2, 10);
    const struct kit_batch_spec spec = { .stream = 1, .first_seq = 3, .count = 4, .payload_len = 10, .topic = "a.b" };
    (void) kit_append_batch (s->j.context.log, &spec);
    s->next_seq = 7;
    append (s, 1, 10);
    char path[256];
    kit_segment_path (s->j.directory, 1, path);
    kit_flip (path, (int64_t) find_batch (path, &spec) + 20);
    group_state_begin (s->g->state, 4);
    const ProtobufCBinaryData before = control_put_slice (slice_of ("b"));
    assert_int_equal (group_filters_copy (&before, 1, &s->g->skipped_filters), 0);
    group_filters_release (&s->g->ever_filters);
    assert_int_equal (group_filters_copy (&before, 1, &s->g->ever_filters), 0);
    s->g->skipped_next = 1;
    s->g->skipped_end = 4;
    assert_int_equal (read_all (s), 0);
    assert_true (fake_noticed ("GROUP-GAP group=g offsets=[3,7) reason=damaged"));
    assert_int_equal (s->g->skipped_next, 0);
    assert_int_equal (s->g->skipped_end, 0);
    assert_int_equal (s->g->filters_since, 4);
    assert_int_equal (place (s), 8);
    hand_out (s);
    expect_work (3, (const uint64_t[]) { 1, 2, 7 });
}

/* A record whose sum fits and whose contents lie: as if of a newer version, passed over, wherever the group begins in it. */
static void a_batch_that_ends_too_early_is_passed_over (void **state)
{
    struct setting *s = *state;
    struct kit_batch k;
    uint64_t offset;
    struct kit_batch_spec spec = spec_of (1, 10);
    spec.count = 4;
    kit_batch_make (&spec, &k);
    k.len -= 20;                        /* the last fact, and a bit of the third */
    assert_int_equal (batch_decode (k.bytes, k.len, slice (NULL, 0), &k.scratch, &k.batch), 0);
    assert_int_equal (log_append (s->j.context.log, &k.batch, &offset), 0);
    kit_batch_release (&k);
    s->next_seq = 5;
    append (s, 1, 10);
    group_state_begin (s->g->state, 4);
    assert_int_equal (read_all (s), 0);
    assert_int_equal (place (s), 6);
    hand_out (s);
    expect_work (1, (const uint64_t[]) { 5 });
}

/* --- Corrections. */

struct reasons {
    size_t count;
    char items[4][128];
};

static void note_parked (void *arg, const struct group_stored *e)
{
    struct reasons *r = arg;
    assert_true (e->parked && r->count < 4);
    (void) snprintf (r->items[r->count++], sizeof r->items[0], "%.*s", (int) e->reason.len, (const char *) e->reason.data);
}

static void a_correction_waits_a_while_for_what_it_corrects_and_is_parked_then (void **state)
{
    struct setting *s = *state;
    struct reasons r = { .count = 0 };
    append_correction (s, 2, 1);
    append_correction (s, 1, 2);        /* itself */
    for (int i = 0; i < 2; i++) {
        assert_int_equal (read_all (s), 100);
        assert_int_equal (place (s), 1);
        counts_are (s, 0, 0, 0);
    }
    kit_clock_advance (&s->clock, (uint64_t) GROUPS_ROOT_WAIT_MS * MS);
    assert_int_equal (read_all (s), 0);
    assert_int_equal (place (s), 3);
    counts_are (s, 0, 0, 2);
    assert_int_equal (group_state_each (s->g->state, note_parked, &r), 0);
    assert_non_null (strstr (r.items[0], ":1, which is not recorded here"));
    assert_string_equal (r.items[1], "a chain of more than 64 corrections, or a circle of them");
}

/* The group begins behind it, and looks it up. */
static void what_a_correction_corrects_cannot_be_read_now (void **state)
{
    struct setting *s = *state;
    append (s, 1, 10);
    append_correction (s, 1, 1);
    group_state_begin (s->g->state, 2);
    /* The first ones that fail are the group's own reads, then it is what they led to. */
    unsigned long n = 0;
    do {
        assert_int_equal (place (s), 2);
        counts_are (s, 0, 0, 0);
        fail_fs_fail (s->j.fs, FAIL_READ, ++n, -ENXIO);
    } while (read_all (s) == 1000);
    fail_fs_fail (s->j.fs, FAIL_READ, 0, 0);
    assert_true (n > 3);
    assert_true (fake_noticed ("GROUP-READ-FAILED group=g offset=2: No such device or address"));
    assert_int_equal (place (s), 3);
    counts_are (s, 1, 0, 0);
    hand_out (s);
    const Factmesh__Work *w = fake_wait_reply (FACTMESH__CONTROL__BODY_WORK)->work;
    assert_int_equal (w->n_items, 1);
    assert_int_equal (w->items[0]->offset, 2);
    assert_int_equal (w->items[0]->flags, FACTMESH__WORK_FLAG__WORK_CORRECTION);
    assert_int_equal (w->items[0]->root->seq, 1);
}

/* Whose root that was nobody can look up any more: the fact itself names one. */
static void a_correction_of_what_expired_is_handed_out_at_once (void **state)
{
    struct setting *s = *state;
    append (s, 15, LARGE);
    groups_close (&s->gs);
    fake_close (&s->j);
    char path[256];
    kit_segment_path (s->j.directory, 1, path);
    assert_int_equal (remove (path), 0);
    begin (s);
    struct log_position at;
    log_position (s->j.context.log, &at);
    assert_true (at.first_offset > 2);
    append_correction (s, 1, 2);
    group_state_begin (s->g->state, at.synced_offset);
    assert_int_equal (read_all (s), 0);
    counts_are (s, 1, 0, 0);
    hand_out (s);
    const Factmesh__Work *w = fake_wait_reply (FACTMESH__CONTROL__BODY_WORK)->work;
    assert_int_equal (w->n_items, 1);
    assert_int_equal (w->items[0]->offset, at.synced_offset);
    assert_int_equal (w->items[0]->flags, FACTMESH__WORK_FLAG__WORK_CORRECTION);
    assert_int_equal (w->items[0]->root->seq, 2);
}

/* --- Bounds. */

/* Facts of one key are done one after another: so many may wait. The rest waits in the log, and comes in its order. */
static void no_more_is_looked_at_than_a_group_may_have_unfinished (void **state)
{
    enum { BATCH = 1000, BATCHES = GROUP_ENTRIES_MAX / BATCH + 2, END = BATCH * BATCHES + 1 };
    struct setting *s = *state;
    struct group_hand_out h;
    for (unsigned i = 0; i < BATCHES; i++) {
        const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1 + i * BATCH, .count = BATCH, .payload_len = 1, .topic = "a.b", .key = "k" };
        (void) kit_append_batch (s->j.context.log, &spec);
    }
    assert_int_equal (fake_sync (&s->j), 0);
    assert_int_equal (read_all (s), 0);
    assert_int_equal (place (s), 1 + GROUP_ENTRIES_MAX);
    counts_are (s, GROUP_ENTRIES_MAX, 0, 0);
    for (uint64_t offset = 1; offset < END; offset++) {
        assert_int_equal (group_state_hand_out (s->g->state, node_now (), &h), 0);
        assert_int_equal (h.offset, offset);
        const struct group_report r = { .member = 1, .offset = offset, .token = h.token, .kind = GROUP_DONE };
        assert_int_equal (group_state_outcome (s->g->state, &r, node_now (), 0), 0);
        if (offset % 700 == 0 && offset < END - GROUP_ENTRIES_MAX) {
            assert_int_equal (read_all (s), 0);
            assert_int_equal (place (s), 1 + GROUP_ENTRIES_MAX + offset);
            counts_are (s, GROUP_ENTRIES_MAX, 0, 0);
        } else if (offset % 1000 == 0)
            (void) read_all (s);
    }
    counts_are (s, 0, 0, 0);
    assert_int_equal (place (s), END);
    assert_int_equal (fake.notice_count, 0);
}

/* --- Handing out. */

/* A record of which nothing is left lies between where a search begins and what is searched: what it took is told, which says nothing of the fact. */
static void what_lies_behind_a_hole_is_found_and_handed_out (void **state)
{
    struct setting *s = *state;
    append (s, 6, 10);
    assert_int_equal (read_all (s), 0);
    const struct kit_batch_spec lost = spec_of (2, 10);
    char path[256];
    kit_segment_path (s->j.directory, 1, path);
    wipe (path, &lost, &lost);
    hand_out (s);
    expect_work (5, (const uint64_t[]) { 1, 3, 4, 5, 6 });
    assert_int_equal (fake.notice_count, 1);
    assert_true (fake_noticed ("GROUP-FACT-GONE group=g offset=2: retention or damage took it before it was done"));
    /* Its place, too, is found there: nothing more is told of the hole. */
    groups_walk_reset (&s->g->walk);
    append_correction (s, 1, 3);
    assert_int_equal (read_all (s), 0);
    hand_out (s);
    const Factmesh__Work *w = fake_wait_reply (FACTMESH__CONTROL__BODY_WORK)->work;
    assert_int_equal (w->n_items, 1);
    assert_int_equal (w->items[0]->root->seq, 3);
    assert_int_equal (fake.notice_count, 1);
}

static void what_is_gone_when_its_turn_comes_is_told_and_forgotten (void **state)
{
    struct setting *s = *state;
    append (s, 3, 10);
    assert_int_equal (read_all (s), 0);
    damage (s, 2);
    hand_out (s);
    expect_work (2, (const uint64_t[]) { 1, 3 });
    assert_int_equal (fake.notice_count, 1);
    assert_true (fake_noticed ("GROUP-FACT-GONE group=g offset=2: retention or damage took it before it was done"));
    counts_are (s, 2, 2, 0);
}

static void what_cannot_be_read_when_its_turn_comes_waits (void **state)
{
    struct setting *s = *state;
    append (s, 3, 10);
    assert_int_equal (read_all (s), 0);
    for (int i = 0; i < 3; i++) {               /* told once */
        fail_fs_fail (s->j.fs, FAIL_READ, 1, -ENXIO);
        hand_out (s);
        expect_nothing ();
        assert_int_equal (fake.notice_count, 1);
        assert_true (fake_noticed ("GROUP-READ-FAILED group=g offset=1: No such device or address; tried again"));
        counts_are (s, 3, 0, 0);
    }
    hand_out (s);
    expect_work (3, (const uint64_t[]) { 1, 2, 3 });
    counts_are (s, 3, 3, 0);
    append (s, 1, 10);
    assert_int_equal (read_all (s), 0);
    fail_fs_fail (s->j.fs, FAIL_READ, 1, -ENXIO);
    hand_out (s);
    assert_true (fake_noticed ("GROUP-READ-FAILED group=g offset=4: No such device or address; tried again"));      /* the next time, again */
}

static void much_work_goes_in_several_messages (void **state)
{
    struct setting *s = *state;
    append (s, 5, LARGE);
    assert_int_equal (read_all (s), 0);
    hand_out (s);
    expect_work (3, (const uint64_t[]) { 1, 2, 3 });
    expect_work (2, (const uint64_t[]) { 4, 5 });
    expect_nothing ();
}

/* What could not be sent counts as never handed out; who can't be reached gets nothing more until it says something. */
static void an_instance_that_cannot_be_reached_has_nothing (void **state)
{
    struct setting *s = *state;
    append (s, 5, LARGE);
    assert_int_equal (read_all (s), 0);
    fake_let_replies (-EAGAIN, 1, 0);
    hand_out (s);
    expect_work (3, (const uint64_t[]) { 1, 2, 3 });
    counts_are (s, 5, 3, 0);
    fake_let_replies (0, 0, 0);
    hand_out (s);
    expect_nothing ();
    assert_int_equal (group_state_alive (s->g->state, 1), 0);
    hand_out (s);
    expect_work (2, (const uint64_t[]) { 4, 5 });
    expect_nothing ();
}

/* So many outcomes wait for the disk that no more are to be made. */
static void nothing_is_handed_out_while_too_much_waits_for_the_disk (void **state)
{
    struct setting *s = *state;
    append (s, 1, 10);
    assert_int_equal (read_all (s), 0);
    s->g->confirm_count = GROUPS_CONFIRMS_MAX;
    hand_out (s);
    expect_nothing ();
    s->g->confirm_count = 0;
    s->g->may_hand_out = false;
    hand_out (s);
    expect_nothing ();
    s->g->may_hand_out = true;
    hand_out (s);
    expect_work (1, (const uint64_t[]) { 1 });
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (a_read_that_fails_is_told_once_and_tried_again),
        CASE (what_is_damaged_or_expired_is_told_and_passed_over),
        CASE (what_follows_a_segment_without_the_groups_topics_is_not_passed_over),
        CASE (a_gap_over_the_end_of_what_was_left_out_is_passed_by_both_readers),
        CASE (a_batch_that_ends_too_early_is_passed_over),
        CASE (a_correction_waits_a_while_for_what_it_corrects_and_is_parked_then),
        CASE (what_a_correction_corrects_cannot_be_read_now),
        CASE (a_correction_of_what_expired_is_handed_out_at_once),
        CASE (no_more_is_looked_at_than_a_group_may_have_unfinished),
        CASE (what_lies_behind_a_hole_is_found_and_handed_out),
        CASE (what_is_gone_when_its_turn_comes_is_told_and_forgotten),
        CASE (what_cannot_be_read_when_its_turn_comes_waits),
        CASE (much_work_goes_in_several_messages),
        CASE (an_instance_that_cannot_be_reached_has_nothing),
        CASE (nothing_is_handed_out_while_too_much_waits_for_the_disk),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
