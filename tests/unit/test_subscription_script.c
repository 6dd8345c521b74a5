/* subscription: a journal that follows a script: refusals, silence, another generation, cursors, the newest of each key, limits. Time is virtual
 * (scripted_journal.h). */

#include "scripted_subscription.h"

/* ------------------------------------------------------------------ opening */

static void what_the_journal_says_is_told (void **state)
{
    static const struct {
        Factmesh__ErrorCode code;
        int rc;
    } refusals[] = {
        { FACTMESH__ERROR_CODE__ERROR_GENERATION, FM_ERR_GENERATION },  { FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL, FM_ERR_NO_JOURNAL },
        { FACTMESH__ERROR_CODE__ERROR_MALFORMED, FM_ERR_MALFORMED },    { FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR, FM_ERR_UNKNOWN },
        { FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM, FM_ERR_UNKNOWN }, { FACTMESH__ERROR_CODE__ERROR_LIMIT, FM_ERR_LIMIT },
        { FACTMESH__ERROR_CODE__ERROR_READ_ONLY, FM_ERR_READ_ONLY },    { FACTMESH__ERROR_CODE__ERROR_VERSION, FM_ERR_VERSION },
        { FACTMESH__ERROR_CODE__ERROR_INTERNAL, FM_ERR_UNREACHABLE },
    };
    (void) state;
    journal = live_peer_add (answer, true);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        as.refuse_sessions = refusals[i].code;
        assert_int_equal (try_open ((struct fm_subscription_options) { .from = FM_FROM_START }), refusals[i].rc);
        assert_null (s);
        assert_non_null (strstr (fm_error_detail (), words));
    }
}

static void a_signal_ends_the_wait_for_a_journal_or_a_publisher (void **state)
{
    (void) state;
    journal = live_peer_add (answer, true);
    as.mute_sessions = true;
    script.interruptions = 1;
    assert_int_equal (try_open ((struct fm_subscription_options) { .from = FM_FROM_START }), FM_INTERRUPTED);
    live_of (journal)->mute_fences = true;
    script.interruptions = 2;                   /* the first is of a look that waits for nothing */
    assert_int_equal (try_open ((struct fm_subscription_options) { .no_journal = true }), FM_INTERRUPTED);
    assert_null (s);
    fm_subscription_close (&s);                 /* nothing */
}

static void a_journal_comes (void *arg)
{
    (void) arg;
    journal = live_peer_add (answer, true);
}

static void who_may_wait_for_ever_waits_until_a_journal_comes (void **state)
{
    (void) state;
    script_plan (100000, a_journal_comes, NULL);
    assert_done (try_open ((struct fm_subscription_options) { .from = FM_FROM_START, .open_timeout_ms = -1 }));
    expect_nothing (1000);
    assert_int_equal (caught_up, 1);
}

static void too_many_patterns_are_refused (void **state)
{
    const char *many[FILTERS_MAX + 2] = { NULL };
    (void) state;
    for (size_t i = 0; i <= FILTERS_MAX; i++)
        many[i] = "a.>";
    assert_int_equal (try_open ((struct fm_subscription_options) { .topics = many }), FM_ERR_LIMIT);
    many[FILTERS_MAX] = NULL;
    assert_done (try_open ((struct fm_subscription_options) { .topics = many }));
}

/* ------------------------------------------------------------------ the session */

static void a_session_that_ends_is_opened_again_where_it_was (void **state)
{
    (void) state;
    const struct kit_batch_spec batch = facts (1, 1, 3), more = facts (1, 4, 2);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 3, .remaining_bytes = 1, .batches = &batch, .batch_count = 1 };
    open_from_start ();
    expect_facts (1, 1, 4);
    expect_nothing (10);
    as.first = (struct live_replay) { .start_offset = START + 3, .next_offset = START + 5, .caught_up = true, .batches = &more, .batch_count = 1 };
    const uint64_t ended_ns = script.now_ns;
    say_end (journal, as.session);
    expect_facts (1, 4, 6);
    assert_in_range (script.now_ns - ended_ns, 0, SUBSCRIPTION_OWED_MS / 2 * SCRIPT_MS);    /* not for its silence */
    const Factmesh__ReplayOpen *open = script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open;
    assert_int_equal (open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_CURSOR);
    assert_int_equal (open->from_cursor->offset, START + 3);
    assert_int_equal (open->from_cursor->n_positions, 1);
    assert_int_equal (open->from_cursor->positions[0]->seq, 3);
}

/* The message that would have come was lost with its connection. */
static void a_session_that_owes_more_and_is_silent_is_opened_again (void **state)
{
    (void) state;
    const struct kit_batch_spec batch = facts (1, 1, 3), more = facts (1, 4, 2);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 3, .remaining_bytes = 1, .batches = &batch, .batch_count = 1 };
    open_from_start ();
    expect_facts (1, 1, 4);
    as.mute_sessions = true;
    unsigned opened = 1;
    for (int silent_ms = SUBSCRIPTION_OWED_MS; silent_ms <= 4 * SUBSCRIPTION_OWED_MS; silent_ms *= 2) {
        expect_nothing (silent_ms / 2);
        assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), opened++);
        expect_nothing (silent_ms / 2 + 200);
        assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), opened);
    }
    as.mute_sessions = false;
    as.first = (struct live_replay) { .start_offset = START + 3, .next_offset = START + 5, .caught_up = true, .batches = &more, .batch_count = 1 };
    expect_facts (1, 4, 6);
}

/* In messages of a few facts each; and only then what the session is owed. */
static void answer_in_many_messages (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    enum { FACTS_A_MESSAGE = 20 };
    for (uint64_t seq = open->from_seq; seq < open->end_seq; seq += FACTS_A_MESSAGE) {
        const uint64_t left = open->end_seq - seq;
        const struct kit_batch_spec batch = facts (1, seq, left < FACTS_A_MESSAGE ? (uint32_t) left : FACTS_A_MESSAGE);
        live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = &batch, .batch_count = 1 });
    }
    say ((struct live_replay) { .next_offset = START, .caught_up = true });
}

/* Its word stands behind all that the same journal brings for a hole, and the application takes its time. */
static void a_session_is_not_silent_before_what_came_is_read (void **state)
{
    enum { HOLE_END = 3 + 2 * SUBSCRIPTION_NEAR_HOLE };
    (void) state;
    go_live ();
    publish (1, 1, 2);
    expect_facts (1, 1, 3);
    live_leave (journal);
    expect_nothing (100);
    as.mute_sessions = true;
    as.on_repair = answer_in_many_messages;
    live_come_back (journal);
    expect_nothing (500);
    const size_t asked = script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN);
    publish (1, HOLE_END, 1);
    for (uint64_t seq = 3; seq < HOLE_END; seq++) {
        expect_facts (1, seq, seq + 1);
        script_pass (5);
        if (seq % 20 == 0)
            live_say_head (publisher, RESERVED_HEAD, 1, HOLE_END);  /* so that looks at the clock fall between any two steps */
    }
    expect_facts (1, HOLE_END, HOLE_END + 1);
    expect_nothing (100);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), asked + 1);
}

static void what_nobody_asked_on_that_connection_changes_nothing (void **state)
{
    (void) state;
    as.first.caught_up = false;
    as.first.remaining_bytes = 1;
    open_from_start ();
    say_cursor (journal, as.session, NULL);
    script_say_bytes (journal, "garbage", 7);
    Factmesh__Pong pong = FACTMESH__PONG__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    pong.node = control_put_id (&journal->id);
    control.body_case = FACTMESH__CONTROL__BODY_PONG;
    control.pong = &pong;
    script_say (journal, as.session, &control);
    expect_nothing (10);
    const struct kit_batch_spec batch = facts (1, 1, 2);
    say ((struct live_replay) { .next_offset = START + 2, .caught_up = true, .batches = &batch, .batch_count = 1 });
    expect_facts (1, 1, 3);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
}

static void offsets_that_the_journal_lacks_are_a_gap_without_a_stream (void **state)
{
    static const struct fm_id none;
    const struct kit_batch_spec batch = facts (1, 5, 2);
    const struct replay_gap gap = { .first_seq = START, .end_seq = START + 4, .reason = FACTMESH__GAP_REASON__GAP_DAMAGED };
    (void) state;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 6, .caught_up = true, .gaps = &gap, .gap_count = 1,
                                      .batches = &batch, .batch_count = 1 };
    open_from_start ();
    expect_gap (&none, START, START + 4, FM_GAP_DAMAGED);
    expect_facts (1, 5, 7);
    expect_nothing (10);
}

static void a_batch_that_cannot_be_read_is_a_gap_of_its_offsets (void **state)
{
    static const struct fm_id none;
    const struct kit_batch_spec batch = facts (1, 1, 2), more = facts (2, 1, 2);
    (void) state;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 6, .remaining_bytes = 1, .batches = &batch, .batch_count = 1,
                                      .bytes = slice ("of a newer version", 18) };
    open_from_start ();
    expect_facts (1, 1, 3);
    expect_gap (&none, START, START + 6, FM_GAP_UNKNOWN);
    assert_int_equal (script.counters[NODE_CONTROL_REFUSED], 1);
    say ((struct live_replay) { .next_offset = START + 8, .caught_up = true, .batches = &more, .batch_count = 1 });
    expect_facts (2, 1, 3);
}

/* Held live batches would fill memory while the end is far. */
static void what_came_live_is_dropped_when_the_journal_says_that_the_end_is_far (void **state)
{
    (void) state;
    const struct kit_batch_spec early = facts (1, 1, 2), all = facts (2, 1, 4);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 2, .remaining_bytes = 1, .batches = &early, .batch_count = 1 };
    open_from_start ();
    expect_facts (1, 1, 3);
    live_leave (journal);
    expect_nothing (100);
    as.first = (struct live_replay) { .start_offset = START + 2, .next_offset = START + 2, .remaining_bytes = SUBSCRIPTION_KEEP_BYTES + 1 };
    as.mute_sessions = true;
    live_come_back (journal);
    expect_nothing (500);                       /* it is asked, and says nothing yet */
    publish (2, 3, 2);
    expect_nothing (50);
    assert_int_equal (s->held_bytes > 0, 1);
    say (as.first);
    expect_nothing (50);
    assert_int_equal (s->held_bytes, 0);
    say ((struct live_replay) { .next_offset = START + 6, .caught_up = true, .batches = &all, .batch_count = 1 });
    expect_facts (2, 1, 5);
    publish (2, 5, 1);
    expect_facts (2, 5, 6);
}

static void a_restored_journal_is_told_once_and_live_goes_on (void **state)
{
    (void) state;
    struct fm_event e;
    const struct kit_batch_spec batch = facts (1, 1, 2);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 2, .remaining_bytes = 1, .batches = &batch, .batch_count = 1 };
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place" });
    expect_facts (1, 1, 3);
    assert_done (fm_subscription_ack (s));
    live_leave (journal);
    live_of (journal)->generation = 2;
    live_come_back (journal);
    assert_int_equal (fm_subscription_next (s, PATIENCE_MS, &e), FM_ERR_GENERATION);
    assert_non_null (strstr (fm_error_detail (), "the one that was known is gone"));
    publish (1, 3, 2);
    expect_facts (1, 3, 5);
    assert_int_equal (fm_subscription_commit (s, 100), FM_ERR_NO_JOURNAL);
}

static void restore_journal (void)
{
    struct fm_event e;
    live_leave (journal);
    live_of (journal)->generation = 2;
    live_come_back (journal);
    assert_int_equal (fm_subscription_next (s, PATIENCE_MS, &e), FM_ERR_GENERATION);
}

/* Live alone asks it for nothing; but acknowledgements do not reach it any more. */
static void a_journal_that_is_restored_when_the_session_is_over_is_told (void **state)
{
    (void) state;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place" });
    expect_nothing (3000);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_CLOSE), 1);
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    restore_journal ();
    publish (1, 2, 1);
    expect_facts (1, 2, 3);
    expect_nothing (3000);
    assert_done (fm_subscription_ack (s));
    assert_int_equal (fm_subscription_commit (s, 100), FM_ERR_NO_JOURNAL);
}

/* Who only commits, however long that takes, is told too. */
static void a_commit_does_not_wait_for_a_generation_that_is_gone (void **state)
{
    (void) state;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place" });
    expect_nothing (3000);
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    live_leave (journal);
    live_of (journal)->generation = 2;
    live_come_back (journal);
    assert_done (fm_subscription_ack (s));
    assert_int_equal (fm_subscription_commit (s, PATIENCE_MS), FM_ERR_GENERATION);
    struct fm_event e;
    assert_int_equal (fm_subscription_next (s, PATIENCE_MS, &e), FM_ERR_GENERATION);
}

/* Nor does who opens, whatever time it gives itself: the cursor that a restored journal has is of the generation before. */
static void opening_does_not_wait_for_a_generation_that_is_gone (void **state)
{
    (void) state;
    const struct fm_id id = kit_stream (77);
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    journal = live_peer_add (answer, true);
    live_of (journal)->generation = 2;
    journal->id = id;
    live_up (journal);
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&id);
    cursor.generation = 1;
    cursor.offset = START;
    as.cursor = &cursor;
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (try_open ((struct fm_subscription_options) { .cursor = "place", .open_timeout_ms = PATIENCE_MS }), FM_ERR_GENERATION);
    assert_true (script.now_ns - began_ns < 1000 * SCRIPT_MS);
}

/* It went before it answered the session that was to go on. */
static void a_journal_that_is_restored_before_the_session_goes_on_is_told (void **state)
{
    (void) state;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1 };
    open_from_start ();
    expect_nothing (10);
    as.mute_sessions = true;
    live_leave (journal);
    live_come_back (journal);
    expect_nothing (100);
    assert_int_equal (s->session_state, SESSION_OPEN);
    restore_journal ();
}

static void repair_all_there_is (struct scripted *j, const Factmesh__ReplayOpen *open)
{
    const bool all = open->start_case == FACTMESH__REPLAY_OPEN__START__NOT_SET;     /* a place of no generation would be refused */
    const uint64_t first = all ? 1 : open->from_seq;
    assert_true (all || open->start_case == FACTMESH__REPLAY_OPEN__START_FROM_SEQ);
    const struct kit_batch_spec batch = facts (9, first, (uint32_t) (open->end_seq - first));
    live_say_replay (j, &(struct live_replay) { .session = open->session, .batches = &batch, .batch_count = 1 });
}

/* What came of it, as far as the place that is no more, nobody can say: it is neither waited for nor handed out once more. */
static void what_only_the_generation_before_could_place_is_a_gap (void **state)
{
    (void) state;
    const struct fm_id stream = kit_stream (9);
    go_live ();
    as.on_repair = repair_all_there_is;
    restore_journal ();
    publisher = live_peer_add (answer, false);
    live_of (publisher)->mute_fences = true;    /* so that it may have been there before us */
    expect_nothing (100);
    publish (9, 5, 1);
    expect_gap (&stream, 1, 5, FM_GAP_UNKNOWN);
    expect_facts (9, 5, 6);
    publish (9, 8, 1);
    expect_facts (9, 6, 9);
}

/* Its node, which has answered our fence, had not opened it then. */
static void what_an_epoch_that_began_after_us_brings_is_no_gap_though_the_rest_is (void **state)
{
    (void) state;
    const struct fm_id stream = kit_stream (9);
    go_live ();
    as.on_repair = repair_all_there_is;
    restore_journal ();
    live_publish (publisher, &(struct kit_batch_spec) { .stream = 9, .first_seq = 5, .count = 1, .payload_len = 100, .epoch_first_seq = 3 });
    expect_gap (&stream, 1, 3, FM_GAP_UNKNOWN);
    expect_facts (9, 3, 6);
}

/* Its node came after us: all of it is wanted, and no place is needed. */
static void a_stream_that_began_after_us_comes_from_its_first_fact_on_though_the_place_is_lost (void **state)
{
    (void) state;
    go_live ();
    as.on_repair = repair_all_there_is;
    restore_journal ();
    publisher = live_peer_add (answer, false);
    live_of (publisher)->started_ns = UINT64_MAX;
    live_up (publisher);
    expect_nothing (100);
    publish (9, 5, 1);
    expect_facts (9, 1, 6);
}

/* It was there before we were: where it begins for us only our base says. What is known meanwhile may be in the midst. */
static void a_stream_that_only_the_journal_can_place_waits_for_it (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_sent (publisher, 1, 5);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1 };
    open_from_start ();
    expect_nothing (10);
    live_leave (journal);
    publish (1, 5, 2);
    expect_nothing (3 * SUBSCRIPTION_PATIENCE_MS);
    assert_int_equal (script_asked (publisher, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 0);
    const struct kit_batch_spec batch = facts (1, 1, 6);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 6, .caught_up = true, .batches = &batch, .batch_count = 1 };
    live_come_back (journal);
    expect_facts (1, 1, 7);
}

/* From the end; the session stays, for the publisher's answer to the fence is still under way. */
static void open_behind_a_slow_link (void)
{
    publisher = live_peer_add (answer, false);
    live_of (publisher)->mute_fences = true;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_END });
    expect_nothing (10);
}

/* Over a slow link there still comes what the journal had before we came. The journal's first word of the stream is where it begins for us. */
static void what_comes_live_from_below_the_start_is_not_where_a_stream_begins (void **state)
{
    (void) state;
    open_behind_a_slow_link ();
    publish (1, 1, 1);
    say ((struct live_replay) { .next_offset = START, .caught_up = true });
    publish (1, 2, 1);
    expect_nothing (100);
    const struct kit_batch_spec batch = facts (1, 5, 2);
    say ((struct live_replay) { .next_offset = START + 2, .caught_up = true, .batches = &batch, .batch_count = 1 });
    expect_facts (1, 5, 7);
    publish (1, 3, 1);
    publish (1, 4, 4);
    expect_facts (1, 7, 8);
}

static void what_a_journal_says_is_below_the_start_does_not_come_live (void **state)
{
    (void) state;
    const struct replay_covered covered = { .stream = kit_stream (1), .through = 2 };
    open_behind_a_slow_link ();
    publish (1, 1, 1);
    publish (1, 2, 2);
    expect_nothing (100);
    say ((struct live_replay) { .next_offset = START, .caught_up = true, .covered = &covered, .covered_count = 1 });
    expect_facts (1, 3, 4);
}

static void a_stream_of_which_the_journal_says_nothing_begins_with_its_first_fact_live (void **state)
{
    (void) state;
    open_behind_a_slow_link ();
    publish (1, 1, 2);
    expect_nothing (100);
    expect_facts (1, 1, 3);                     /* when patience with the journal is over */
    publish (1, 3, 1);
    expect_facts (1, 3, 4);
}

static void who_falls_behind_and_catches_up_by_live_is_told_so (void **state)
{
    (void) state;
    publisher = live_peer_add (answer, false);
    live_of (publisher)->mute_fences = true;    /* so that the session stays */
    as.first = (struct live_replay) { .start_offset = 1, .next_offset = 1, .caught_up = true };
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .held_bytes = 1000 });
    expect_nothing (10);
    assert_int_equal (caught_up, 1);
    publish (1, 1, 1);
    expect_facts (1, 1, 2);
    for (uint64_t seq = 10; seq < 30; seq++)    /* above a hole */
        publish (1, seq, 1);
    expect_nothing (100);
    assert_int_equal (fell_behind, 1);
    const struct kit_batch_spec batch = facts (1, 2, 28);
    say ((struct live_replay) { .next_offset = START + 29, .batches = &batch, .batch_count = 1 });
    expect_facts (1, 2, 30);
    publish (1, 30, 1);
    expect_facts (1, 30, 31);
    expect_nothing (3 * SUBSCRIPTION_PATIENCE_MS);
    assert_int_equal (caught_up, 2);
    assert_int_equal (fell_behind, 1);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN), 1);
}

/* ------------------------------------------------------------------ the newest of each key */

static void newest_facts_of_a_lost_session_go_on_up_to_the_same_end (void **state)
{
    (void) state;
    const struct kit_batch_spec newest = facts (1, 7, 1), rest = facts (1, 12, 1);
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START + 7, .remaining_bytes = 1, .latest_end = START + 11, .batches = &newest,
                                      .batch_count = 1 };
    open_with ((struct fm_subscription_options) { .from = FM_FROM_LATEST });
    expect_facts (1, 7, 8);
    publish (2, 5, 1);                          /* not kept: what is older of its key may still come */
    expect_nothing (50);
    live_leave (publisher);
    expect_nothing (3000);                      /* nor is anybody asked for what it sent last */
    assert_int_equal (script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open->stream.len, 0);
    live_leave (journal);
    expect_nothing (100);
    as.first = (struct live_replay) { .start_offset = START + 7, .next_offset = START + 12, .caught_up = true, .batches = &rest, .batch_count = 1 };
    live_come_back (journal);
    expect_facts (1, 12, 13);
    for (size_t i = 0; i < journal->question_count; i++) {
        const Factmesh__ReplayOpen *open = journal->questions[i]->replay_open;
        if (journal->questions[i]->body_case != FACTMESH__CONTROL__BODY_REPLAY_OPEN || open->stream.len || open->from_latest->offset == 0)
            continue;
        assert_int_equal (open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_LATEST);
        assert_int_equal (open->from_latest->offset, START + 7);
        assert_int_equal (open->latest_end, START + 11);
    }
}

/* ------------------------------------------------------------------ cursors */

static void a_journal_that_knows_no_cursor_leaves_the_start_to_the_options (void **state)
{
    (void) state;
    as.cursor_refusals = 2;
    as.refuse_cursors = FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL;     /* it is just starting */
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place" });
    assert_int_equal (script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_OFFSET);
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_CURSOR_GET), 3);
}

/* All that are connected have been told when it returns: the last one has. */
static void journal_goes (void *arg)
{
    int fd, events;
    size_t fd_len = sizeof fd, events_len = sizeof events;
    const struct timespec limit = { .tv_sec = 10 };
    (void) arg;
    void *last = zmq_socket (script.zmq, ZMQ_DEALER);
    assert_non_null (last);
    assert_int_equal (zmq_connect (last, journal->address), 0);
    (void) script_run ();
    assert_int_equal (zmq_getsockopt (last, ZMQ_FD, &fd, &fd_len), 0);
    assert_int_equal (zmq_getsockopt (last, ZMQ_EVENTS, &events, &events_len), 0);
    live_leave (journal);
    assert_int_equal (syscall (SYS_ppoll, &(struct pollfd) { .fd = fd, .events = POLLIN }, 1, &limit, NULL, (size_t) 8), 1);
    zmq_close (last);
}

static void journal_comes_back (void *arg)
{
    (void) arg;
    as.mute_sessions = false;
    live_come_back (journal);
}

/* The connection that the cursor came over has something to say too. Nobody waits for that: left where it is, it would end each wait for the session's start. */
static void what_breaks_while_a_session_is_opened_ends_one_wait (void **state)
{
    (void) state;
    as.mute_sessions = true;
    script_plan (1000, journal_goes, NULL);
    script_plan (1500, journal_comes_back, NULL);
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place" });
    assert_int_equal (s->session_state, SESSION_OPEN);
}

static void a_journal_that_goes_on_starting_is_told_by_its_words (void **state)
{
    (void) state;
    as.cursor_refusals = UINT32_MAX;
    as.refuse_cursors = FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL;
    journal = live_peer_add (answer, true);
    assert_int_equal (try_open ((struct fm_subscription_options) { .cursor = "place" }), FM_ERR_NO_JOURNAL);
    assert_non_null (strstr (fm_error_detail (), words));
}

static void a_commit_that_is_refused_is_told (void **state)
{
    (void) state;
    const struct kit_batch_spec batch = facts (1, 1, 2);
    as.first.batches = &batch;
    as.first.batch_count = 1;
    open_with ((struct fm_subscription_options) { .from = FM_FROM_START, .cursor = "place", .commit_ms = 60000 });
    expect_facts (1, 1, 3);
    assert_done (fm_subscription_ack (s));
    as.cursor_refusals = UINT32_MAX;
    as.refuse_cursors = FACTMESH__ERROR_CODE__ERROR_READ_ONLY;
    assert_int_equal (fm_subscription_commit (s, 1000), FM_ERR_READ_ONLY);
    assert_non_null (strstr (fm_error_detail (), words));
    as.refuse_cursors = FACTMESH__ERROR_CODE__ERROR_LIMIT;          /* which passes */
    assert_int_equal (fm_subscription_commit (s, 1000), FM_TIMEOUT);
    as.cursor_refusals = 0;
    Factmesh__Cursor bad = FACTMESH__CURSOR__INIT;                  /* of no journal: confirmed all the same, and nothing to go by */
    as.cursor = &bad;
    assert_done (fm_subscription_commit (s, 5000));
    const Factmesh__Cursor *put = script_last (journal, FACTMESH__CONTROL__BODY_CURSOR_PUT)->cursor_put->cursor;
    assert_int_equal (put->n_positions, 1);
    assert_int_equal (put->positions[0]->seq, 2);
    assert_int_equal (s->acked_base.offset, put->offset);
}

static void an_acknowledgement_without_a_name_is_the_callers_to_keep (void **state)
{
    (void) state;
    open_from_start ();
    assert_done (fm_subscription_ack (s));
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_CURSOR_PUT), 0);
    assert_int_equal (fm_subscription_commit (s, 0), FM_ERR_ARGUMENT);
}

/* ------------------------------------------------------------------ limits */

static void a_connection_carries_so_many_sessions (void **state)
{
    (void) state;
    struct replay_client *client;
    journal = live_peer_add (script_silence, true);
    assert_done (replay_client_new (&script, journal->address, &client));
    for (unsigned i = 0; i <= REPLAY_SESSIONS_MAX; i++) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        uint64_t session = 0;
        assert_int_equal (replay_client_open (client, &open, &session), i < REPLAY_SESSIONS_MAX ? 0 : FM_ERR_LIMIT);
        assert_int_equal (session != 0, i < REPLAY_SESSIONS_MAX);
    }
    assert_int_equal (replay_client_sessions (client), REPLAY_SESSIONS_MAX);
    replay_client_destroy (&client);
}

enum { CROWD = SUBSCRIPTION_STREAMS_MAX, CROWD_MESSAGE = 4096 };

/* Facts of streams [first, end), one each. */
static void say_crowd (unsigned first, unsigned end, uint64_t seq)
{
    struct kit_batch_spec *batches = calloc (CROWD_MESSAGE, sizeof *batches);
    assert_non_null (batches);
    while (first < end) {
        size_t count = 0;
        for (; first < end && count < CROWD_MESSAGE; first++)
            batches[count++] = (struct kit_batch_spec) { .stream = first, .first_seq = seq, .count = 1 };
        say ((struct live_replay) { .next_offset = START + first, .remaining_bytes = 1, .batches = batches, .batch_count = count });
        for (size_t i = 0; i < count; i++)
            expect_facts (batches[i].stream, seq, seq + 1);
    }
    free (batches);
}

static void a_full_table_is_told_and_streams_that_ended_make_room (void **state)
{
    (void) state;
    as.first = (struct live_replay) { .start_offset = START, .next_offset = START, .remaining_bytes = 1 };
    open_from_start ();
    expect_nothing (10);
    say_crowd (0, CROWD, 1);
    assert_int_equal (s->stream_count, CROWD);
    /* One more: of the session, and of what it says is covered. */
    const struct kit_batch_spec more = { .stream = CROWD, .first_seq = 1, .count = 1 };
    const struct replay_covered unknown = { .stream = kit_stream (CROWD + 1), .through = 5 };
    say ((struct live_replay) { .next_offset = START + CROWD + 1, .remaining_bytes = 1, .batches = &more, .batch_count = 1, .covered = &unknown, .covered_count = 1 });
    expect_nothing (10);
    assert_true (script_noticed ("STREAMS-FULL"));
    assert_int_equal (s->stream_count, CROWD);
    /* The journal has seen that some lie below the base. */
    enum { ENDED = 100 };
    struct replay_covered covered[ENDED];
    for (unsigned i = 0; i < ENDED; i++)
        covered[i] = (struct replay_covered) { .stream = kit_stream (i), .through = 1 };
    say ((struct live_replay) { .next_offset = START + CROWD + 2, .caught_up = true, .covered = covered, .covered_count = ENDED });
    expect_nothing (10);
    publish (CROWD + 2, 1, 1);
    expect_facts (CROWD + 2, 1, 2);
    assert_int_equal (s->stream_count, CROWD - ENDED + 1);
    publish (CROWD - 1, 2, 1);                  /* the others are all there */
    expect_facts (CROWD - 1, 2, 3);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (what_the_journal_says_is_told),
        CASE (a_signal_ends_the_wait_for_a_journal_or_a_publisher),
        CASE (who_may_wait_for_ever_waits_until_a_journal_comes),
        CASE (too_many_patterns_are_refused),
        CASE (a_session_that_ends_is_opened_again_where_it_was),
        CASE (a_session_that_owes_more_and_is_silent_is_opened_again),
        CASE (a_session_is_not_silent_before_what_came_is_read),
        CASE (what_nobody_asked_on_that_connection_changes_nothing),
        CASE (offsets_that_the_journal_lacks_are_a_gap_without_a_stream),
        CASE (a_batch_that_cannot_be_read_is_a_gap_of_its_offsets),
        CASE (what_came_live_is_dropped_when_the_journal_says_that_the_end_is_far),
        CASE (a_restored_journal_is_told_once_and_live_goes_on),
        CASE (a_journal_that_is_restored_when_the_session_is_over_is_told),
        CASE (a_commit_does_not_wait_for_a_generation_that_is_gone),
        CASE (opening_does_not_wait_for_a_generation_that_is_gone),
        CASE (a_journal_that_is_restored_before_the_session_goes_on_is_told),
        CASE (what_only_the_generation_before_could_place_is_a_gap),
        CASE (what_an_epoch_that_began_after_us_brings_is_no_gap_though_the_rest_is),
        CASE (a_stream_that_began_after_us_comes_from_its_first_fact_on_though_the_place_is_lost),
        CASE (a_stream_that_only_the_journal_can_place_waits_for_it),
        CASE (what_comes_live_from_below_the_start_is_not_where_a_stream_begins),
        CASE (what_a_journal_says_is_below_the_start_does_not_come_live),
        CASE (a_stream_of_which_the_journal_says_nothing_begins_with_its_first_fact_live),
        CASE (who_falls_behind_and_catches_up_by_live_is_told_so),
        CASE (newest_facts_of_a_lost_session_go_on_up_to_the_same_end),
        CASE (a_journal_that_knows_no_cursor_leaves_the_start_to_the_options),
        CASE (what_breaks_while_a_session_is_opened_ends_one_wait),
        CASE (a_journal_that_goes_on_starting_is_told_by_its_words),
        CASE (a_commit_that_is_refused_is_told),
        CASE (an_acknowledgement_without_a_name_is_the_callers_to_keep),
        CASE (a_connection_carries_so_many_sessions),
        CASE (a_full_table_is_told_and_streams_that_ended_make_room),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
