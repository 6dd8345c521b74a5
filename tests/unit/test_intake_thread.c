/* intake: its thread between publishers and journals that follow a script: what it takes, refuses and says, whom it asks when how many questions are in flight,
 * and what it does while the log takes nothing. What to do about a hole is intake_state's (test_intake). */

#include "scripted_intake.h"

#include "segment.h"

static struct kit_batch_spec spec_of (unsigned stream, uint64_t first_seq, uint32_t count)
{
    return (struct kit_batch_spec) { .stream = stream, .first_seq = first_seq, .count = count, .payload_len = 20 };
}

/* The log holds exactly these batches, in this order. */
static void expect_log (struct fake_journal *j, const struct kit_batch_spec *specs, size_t count)
{
    struct log_reader *r;
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (log_reader_new (j->context.log, &r), 0);
    for (size_t i = 0; i < count; i++)
        expect_batch (r, specs[i]);
    expect_end (r);
    log_reader_destroy (&r);
}

/* --- What is refused. */

/* A header that decodes, and one fact fewer than it tells. */
static void frame_with_a_fact_too_few (unsigned peer, unsigned stream, uint64_t first_seq)
{
    const struct kit_batch_spec one = spec_of (stream, first_seq, 1);
    struct kit_batch k;
    uint8_t bytes[1024];
    kit_batch_make (&one, &k);
    struct batch b = k.batch;
    b.count = 2;
    assert_true (batch_header_bound (&b) + k.len < sizeof bytes);
    uint8_t *p = batch_encode_header (bytes, &b);
    memcpy (p, k.bytes + k.batch.facts_pos, k.len - k.batch.facts_pos);
    script_frame (LIVE_BATCH, peer, bytes, (size_t) (p - bytes) + k.len - k.batch.facts_pos);
    kit_batch_release (&k);
}

static void facts_that_cannot_be_read_never_reach_the_log_and_are_told_of (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec good = spec_of (1, 1, 2);
    script_up (0, false);
    frame_with_a_fact_too_few (0, 1, 1);
    script_settle ();
    assert_true (fake_noticed ("BATCH-REFUSED"));
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED), 1);
    fake_forget_notices ();
    frame_with_a_fact_too_few (0, 1, 50);           /* above a hole: nor is it held */
    script_settle ();
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED), 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_HELD), 0);
    assert_false (fake_noticed ("BATCH-REFUSED"));  /* not again so soon */
    script_batch (0, &good);
    script_settle ();
    expect_log (j, &good, 1);
}

static void bytes_that_are_no_message_of_this_mesh_are_counted (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec good = spec_of (1, 1, 2);
    script_up (0, false);
    script_frame (LIVE_BATCH, 0, "\xff\xff\xff", 3);
    script_frame (LIVE_HEAD, 0, "\xff\xff\xff", 3);
    script_frame (LIVE_FENCE, 0, "\xff\xff\xff", 3);
    script_head (0, 1, 0, 5);                       /* of no epoch: not one of a publisher */
    script_head (0, 1, 1, UINT64_MAX);              /* has no next */
    script_frame (LIVE_WATERMARK, 0, "x", 1);       /* for subscribers */
    script_frame (LIVE_ENDED, 0, "x", 1);
    script_batch (0, &good);
    script_settle ();
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED), 3);
    assert_int_equal (script.question_count, 0);
    expect_log (j, &good, 1);
}

/* What the publisher of `spec` is told when it comes from peer 1, after epochs 1 and 2 of the stream from peer 0. */
static void expect_refused (struct fake_journal *j, unsigned peer, const struct kit_batch_spec *spec, const char *notice, const char *why, bool told)
{
    const size_t before = script.told_count;
    const uint64_t refused = journal_counter (&j->context, JOURNAL_BATCHES_REFUSED) + journal_counter (&j->context, JOURNAL_STREAM_CONFLICTS);
    script_skip (INTAKE_TELL_MS);
    fake_forget_notices ();
    script_batch (peer, spec);
    script_settle ();
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED) + journal_counter (&j->context, JOURNAL_STREAM_CONFLICTS), refused + 1);
    assert_true (fake_noticed (notice));
    assert_non_null (strstr (fake.notices[0], why));
    assert_int_equal (script.told_count - before, told);
    if (told) {
        const Factmesh__Error *e = script.told[before]->error;
        assert_int_equal (e->code, FACTMESH__ERROR_CODE__ERROR_STREAM_CONFLICT);
        assert_int_equal (e->epoch, spec->epoch ? spec->epoch : 1);
        assert_int_equal (e->text.len, strlen (why));
        assert_memory_equal (e->text.data, why, strlen (why));
    }
}

static void who_may_not_publish_a_stream_is_refused_told_why_and_noted (void **state)
{
    struct fake_journal *j = *state;
    struct kit_batch_spec first = spec_of (1, 1, 4), newer = spec_of (1, 5, 4), bad;
    newer.epoch = 2;
    newer.epoch_first_seq = 5;
    script_up (0, false);
    script_up (1, false);
    script_batch (0, &first);
    script_batch (0, &newer);
    script_settle ();
    bad = spec_of (1, 9, 1);
    expect_refused (j, 1, &bad, "STREAM-REFUSED", "a newer epoch of this stream is being recorded", true);
    expect_refused (j, 0, &bad, "STREAM-REFUSED", "a newer epoch of this stream is being recorded", false);    /* it would stop its own newer one */
    bad.epoch = 2;
    bad.epoch_first_seq = 5;
    expect_refused (j, 1, &bad, "STREAM-REFUSED", "another node publishes this stream", false);
    bad.incarnation = 77;
    expect_refused (j, 1, &bad, "STREAM-CONFLICT", "another incarnation of this epoch is being recorded: a copied data directory?", true);
    bad = spec_of (1, 2, 4);
    bad.epoch = 3;
    bad.epoch_first_seq = 2;
    expect_refused (j, 1, &bad, "STREAM-CONFLICT", "its sequences were used before: a data directory that was copied back?", true);
    bad = spec_of (1, 8, 4);
    bad.epoch = 2;
    bad.epoch_first_seq = 5;
    expect_refused (j, 0, &bad, "STREAM-REFUSED", "its batches overlap what is recorded", false);
    script.unreachable = true;              /* who can't be told is refused all the same */
    bad = spec_of (1, 9, 1);
    expect_refused (j, 1, &bad, "STREAM-REFUSED", "a newer epoch", false);
    const struct kit_batch_spec recorded[] = { first, newer };
    expect_log (j, recorded, 2);
}

/* --- How many streams. */

static void stream_fence (unsigned peer, unsigned first, unsigned count)
{
    enum { ENTRY_MAX = 64 };
    Factmesh__StreamHead *heads = calloc (count, sizeof *heads), **list = calloc (count, sizeof *list);
    struct fm_id *ids = calloc (count, sizeof *ids);
    uint8_t *bytes = malloc (100 + count * ENTRY_MAX);
    assert_true (heads && list && ids && bytes);
    for (unsigned i = 0; i < count; i++) {
        ids[i] = kit_stream (first + i);
        factmesh__stream_head__init (&heads[i]);
        heads[i].stream = control_put_id (&ids[i]);
        heads[i].epoch = heads[i].epoch_first_seq = heads[i].next_seq = 1;
        heads[i].incarnation = 8;
        list[i] = &heads[i];
    }
    Factmesh__FenceAnswer answer = FACTMESH__FENCE_ANSWER__INIT;
    answer.major = PROTO_MAJOR;
    answer.mesh = control_put_slice (slice_of ("test"));
    answer.nonce = control_put_slice (slice ("0123456789abcdef", FENCE_NONCE_LEN));
    answer.streams = list;
    answer.n_streams = count;
    script_frame (LIVE_FENCE, peer, bytes, factmesh__fence_answer__pack (&answer, bytes));
    free (heads);
    free (list);
    free (ids);
    free (bytes);
}

static void one_node_gets_its_share_of_streams_and_others_theirs (void **state)
{
    struct fake_journal *j = *state;
    struct kit_batch_spec recorded[] = { spec_of (1, 1, 1), spec_of (STREAMS_PER_NODE_MAX, 1, 1), spec_of (5001, 1, 1) };
    const struct kit_batch_spec not_taken = spec_of (STREAMS_PER_NODE_MAX + 1, 1, 1);
    script_up (0, false);
    script_up (1, false);
    stream_fence (0, 1, STREAMS_PER_NODE_MAX);
    script_batch (0, &recorded[0]);
    script_batch (0, &recorded[1]);
    script_batch (0, &not_taken);
    script_batch (0, &not_taken);
    script_batch (1, &recorded[2]);
    script_settle ();
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED), 2);
    assert_int_equal (fake.notice_count, 1);
    assert_true (fake_noticed ("STREAM-NOT-TAKEN"));
    assert_non_null (strstr (fake.notices[0], "one node publishes 1024 streams: the limit"));
    expect_log (j, recorded, 3);
    /* When it has gone its places are free. */
    script_frame (LIVE_PEER_GONE, 0, NULL, 0);
    script_down (0, true);
    script_settle ();
    script_batch (1, &not_taken);
    script_settle ();
    assert_int_equal (script_next_seq (j, STREAMS_PER_NODE_MAX + 1), 2);
}

static void no_more_streams_are_taken_than_the_journal_has_places_for (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec first[] = { spec_of (1, 1, 1), spec_of (2, 1, 1) }, third = spec_of (3, 1, 1);
    intake_destroy (&intake);
    j->context.options.streams_max = 2;
    script_start (j);
    script_up (0, false);
    script_batch (0, &first[0]);
    script_batch (0, &first[1]);
    script_batch (0, &third);
    script_settle ();
    assert_true (fake_noticed ("STREAM-NOT-TAKEN"));
    assert_non_null (strstr (fake.notices[0], "2 streams are being published: the limit"));
    expect_log (j, first, 2);
    /* Without its publisher, and once nobody misses anything, a stream makes room. */
    script_down (0, true);
    script_frame (LIVE_PEER_GONE, 0, NULL, 0);
    script_settle ();
    script_up (1, false);
    script_batch (1, &third);
    script_settle ();
    assert_int_equal (script_next_seq (j, 3), 2);
}

/* So many that some lie behind each other in the table: the first ones go, and leave the others and their own places. */
static void streams_that_go_take_no_others_with_them (void **state)
{
    enum { EACH = 32 };
    struct fake_journal *j = *state;
    struct kit_batch_spec recorded[4 * EACH];
    intake_destroy (&intake);
    j->context.options.streams_max = 2 * EACH;
    script_start (j);
    for (unsigned peer = 0; peer < 3; peer++)
        script_up (peer, false);
    for (unsigned i = 0; i < 2 * EACH; i++) {
        recorded[i] = spec_of (1 + i, 1, 1);
        script_batch (i / EACH, &recorded[i]);
    }
    script_settle ();
    script_down (0, true);
    script_frame (LIVE_PEER_GONE, 0, NULL, 0);
    script_settle ();
    for (unsigned i = 2 * EACH; i < 4 * EACH; i++) {
        const unsigned peer = 1 + i % 2;
        recorded[i] = peer == 1 ? spec_of (1 + EACH + (i - 2 * EACH) / 2, 2, 1) : spec_of (1 + i, 1, 1);
        script_batch (peer, &recorded[i]);
    }
    script_settle ();
    assert_false (fake_noticed ("STREAM-NOT-TAKEN"));
    expect_log (j, recorded, 4 * EACH);
}

/* --- Publishers that go. */

static void a_peer_that_is_there_again_or_moved_still_owns_its_streams (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec batches[] = { spec_of (1, 1, 1), spec_of (2, 1, 1) };
    script_up (0, false);
    script_batch (0, &batches[0]);
    script_batch (0, &batches[1]);
    script_frame (LIVE_PEER_GONE, 0, NULL, 0);      /* an old connection: the member is there */
    script_settle ();
    assert_int_equal (script.ended_count, 0);
    script_frame (LIVE_PEER_GONE, 5, NULL, 0);      /* one that nobody knows, and that owns nothing */
    script_settle ();
    assert_int_equal (script.ended_count, 0);
    expect_log (j, batches, 2);
}

/* With a goodbye a hole above what is held is given up soon; where another node has the address, what came last may be that one's. */
static void a_goodbye_counts_only_where_nobody_else_has_the_address (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec above = spec_of (1, 3, 1);
    for (int taken = 1; taken >= 0; taken--) {
        struct kit_batch_spec b = above;
        b.stream = 1 + (unsigned) taken;
        script_up (2 + (unsigned) taken, false);
        script_batch (2 + (unsigned) taken, &b);
        script_settle ();
        if (taken) {
            (void) script_peer (4);
            memcpy (script.peers[4].info.live, script.peers[3].info.live, sizeof script.peers[4].info.live);
            script.peers[4].gone = false;
        }
        script_down (2 + (unsigned) taken, true);
        script_frame (LIVE_PEER_GONE, 2 + (unsigned) taken, NULL, 0);
        script_settle ();
        script_skip (j->context.options.answer_ms);
        assert_int_equal (script_next_seq (j, b.stream), taken ? 1 : 4);
    }
    script_skip (j->context.options.orphan_wait_ms);
    script_skip (j->context.options.answer_ms);
    assert_int_equal (script_next_seq (j, 2), 4);
    assert_true (fake_noticed ("GAP-RECORDED"));
}

/* Those that left are remembered, in bounded memory: who comes is known all the same. */
static void more_nodes_come_and_go_than_are_remembered (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec whole[] = { spec_of (1, 1, 2), spec_of (1, 3, 2) };
    struct node_peer peer = { .name = "passer-by", .control = "inproc://nowhere", .live = "inproc://nowhere" };
    for (unsigned i = 0; i < 2 * MEMBERS_MAX; i++) {
        peer.node = (struct fm_id) { .bytes = { 'x', (uint8_t) i, (uint8_t) (i >> 8) } };
        fake.listener.up (fake.listener.arg, &peer);
        fake.listener.down (fake.listener.arg, &peer.node, true);
    }
    script_up (0, false);
    script_batch (0, &whole[1]);
    script_settle ();
    const uint64_t session = script_expect_question (0, 1, 1, 3);
    script_answer_batch (session, &whole[0]);
    script_answer_end (session);
    expect_log (j, whole, 2);
}

static unsigned ended_of (unsigned stream, uint64_t head)
{
    const struct fm_id id = kit_stream (stream);
    unsigned count = 0;
    for (size_t i = 0; i < script.ended_count; i++)
        count += id_equal (&script.ended[i].stream, &id) && script.ended[i].head == head;
    return count;
}

/* A stream that is published anew meanwhile is not told of as ended. */
static void that_a_stream_ended_is_told_again_ever_more_rarely_until_somebody_publishes_it (void **state)
{
    const struct fake_journal *j = *state;
    const struct kit_batch_spec batches[] = { spec_of (1, 1, 3), spec_of (2, 1, 7), spec_of (2, 8, 1) };
    script_up (0, false);
    script_batch (0, &batches[0]);
    script_batch (0, &batches[1]);
    script_down (0, true);
    script_frame (LIVE_PEER_GONE, 0, NULL, 0);
    script_settle ();
    assert_int_equal (ended_of (1, 3), 1);
    assert_int_equal (ended_of (2, 7), 1);
    script_skip (INTAKE_ENDED_AGAIN_MS);
    assert_int_equal (ended_of (1, 3), 2);
    assert_int_equal (ended_of (2, 7), 2);
    script_up (1, false);
    script_batch (1, &batches[2]);
    script_settle ();
    for (unsigned told = 3; told <= INTAKE_ENDED_TELLS; told++) {
        script_skip (INTAKE_ENDED_AGAIN_MS << (2 * (told - 2)));
        assert_int_equal (ended_of (1, 3), told);
    }
    script_skip (INTAKE_ENDED_AGAIN_MS << (2 * INTAKE_ENDED_TELLS));
    assert_int_equal (ended_of (1, 3), INTAKE_ENDED_TELLS);
    assert_int_equal (ended_of (2, 7), 2);
    /* It ends once more. */
    script_down (1, true);
    script_frame (LIVE_PEER_GONE, 1, NULL, 0);
    script_settle ();
    assert_int_equal (ended_of (2, 8), 1);
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED), 0);
}

/* --- Questions and answers. */

static void what_answers_bring_is_checked_like_what_comes_live (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec whole[] = { spec_of (1, 1, 2), spec_of (1, 3, 2) }, other = spec_of (2, 1, 2), late = spec_of (1, 5, 1);
    script_up (0, false);
    script_batch (0, &whole[1]);
    script_settle ();
    uint64_t session = script_expect_question (0, 1, 1, 3);
    script_answer_batch (session, &other);          /* of another stream */
    script_answer (&(struct script_answer) { .session = session, .kind = REPLAY_DATA, .batch = (uint8_t[]) { 0xff, 0xff }, .len = 2 });
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED), 2);
    script_answer_gap (session, 2, 1, 3, FACTMESH__GAP_REASON__GAP_VOID);       /* nor is a gap of another stream this one's */
    script_answer (&(struct script_answer) { .session = session, .kind = REPLAY_OTHER });
    assert_int_equal (script_next_seq (j, 1), 1);
    script_answer_batch (session, &whole[0]);
    script_answer_end (session);
    script_answer_batch (session, &late);           /* of a question that is over */
    expect_log (j, whole, 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REPAIRED), 1);
}

static void a_journal_that_says_not_yet_or_is_none_now_is_asked_again (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec whole[] = { spec_of (1, 1, 2), spec_of (1, 3, 2) };
    intake_destroy (&intake);
    j->context.options.holders_wait_ms = 60000;     /* before `not yet` is believed */
    script_start (j);
    script_up (0, false);
    script_up (1, true);
    script_batch (0, &whole[1]);
    script_settle ();
    uint64_t session = script_expect_question (0, 1, 1, 3);
    script_answer_gap (session, 1, 1, 3, FACTMESH__GAP_REASON__GAP_SYNCED);
    session = script_expect_question (1, 1, 1, 3);
    script_answer (&(struct script_answer) { .session = session, .kind = REPLAY_DATA, .caught_up = true });
    script_answer_end (session);
    script_skip (j->context.options.answer_ms);
    session = script_expect_question (1, 1, 1, 3);
    script_answer_error (session, FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL);
    script_skip (j->context.options.answer_ms);
    session = script_expect_question (1, 1, 1, 3);
    script_answer_error (session, FACTMESH__ERROR_CODE__ERROR_LIMIT);
    script_skip (j->context.options.answer_ms);
    assert_int_equal (script_next_seq (j, 1), 1);   /* nobody said that it is nowhere */
    session = script_expect_question (1, 1, 1, 3);
    script_answer_batch (session, &whole[0]);
    script_answer_end (session);
    expect_log (j, whole, 2);
}

/* An answer that says that it is of the epoch that waits, though it stands before it: held, and recorded when that epoch has come. */
static void what_an_answer_brings_of_the_epoch_that_waits_is_recorded_when_that_has_come (void **state)
{
    struct fake_journal *j = *state;
    struct kit_batch_spec recorded[] = { spec_of (1, 1, 4), spec_of (1, 5, 1) }, next = spec_of (1, 100, 1);
    recorded[1].epoch = next.epoch = 3;
    recorded[1].epoch_first_seq = 5;
    next.epoch_first_seq = 100;
    script_up (0, false);
    script_up (1, false);
    script_batch (0, &recorded[0]);
    script_head (0, 1, 1, 9);
    script_settle ();
    const uint64_t session = script_expect_question (0, 1, 5, 10);
    script_batch (1, &next);
    script_settle ();
    script_answer_batch (session, &recorded[1]);
    assert_int_equal (script_next_seq (j, 1), 5);
    script_skip (j->context.options.epoch_quiet_ms);
    (void) script_expect_question (1, 1, 6, 100);   /* its publisher has the rest */
    expect_log (j, recorded, 2);
}

/* All places for questions are taken: who has one may change whom it asks, the others wait; a silent holder's place is free in the end. */
static void with_all_questions_in_flight_nobody_is_passed_over (void **state)
{
    struct fake_journal *j = *state;
    const unsigned streams = INTAKE_ASKS_MAX + 2;
    uint64_t sessions[INTAKE_ASKS_MAX + 3] = { 0 };
    for (unsigned s = 1; s <= streams; s++)
        script_up (s - 1, false);
    script_up (streams, true);
    for (unsigned s = 1; s <= INTAKE_ASKS_MAX; s++)
        script_head (s - 1, s, 1, 1);
    script_settle ();
    for (unsigned s = 1; s <= INTAKE_ASKS_MAX; s++)
        sessions[s] = script_expect_question (s - 1, s, 1, 2);
    for (unsigned s = INTAKE_ASKS_MAX + 1; s <= streams; s++)
        script_head (s - 1, s, 1, 1);
    script_settle ();
    assert_int_equal (script.question_count, INTAKE_ASKS_MAX);
    /* The owner does not have what stream 3 misses, and its answer goes on: the journal is asked in its place. */
    script_answer_gap (sessions[3], 3, 1, 2, FACTMESH__GAP_REASON__GAP_SYNCED);
    assert_true (script_is_closed (sessions[3]));
    sessions[3] = script_expect_question (streams, 3, 1, 2);
    assert_int_equal (script.question_count, INTAKE_ASKS_MAX + 1);
    /* An answer frees a place, for the one that has waited longest. */
    struct kit_batch_spec fact = spec_of (1, 1, 1);
    script_answer_batch (sessions[1], &fact);
    script_answer_end (sessions[1]);
    sessions[INTAKE_ASKS_MAX + 1] = script_expect_question (INTAKE_ASKS_MAX, INTAKE_ASKS_MAX + 1, 1, 2);
    /* The others are silent: their questions are given up, and all are asked again. */
    script_skip (3 * j->context.options.answer_ms);
    bool answered[INTAKE_ASKS_MAX + 3] = { false, true };
    for (unsigned left = streams - 1, rounds = 0; left && rounds < 10 * INTAKE_ASKS_MAX; rounds++) {
        for (; script.questions_seen < script.question_count; ) {
            const struct script_question q = script.questions[script.questions_seen++];
            const uint64_t session = script.questions_seen;
            for (unsigned s = 2; s <= streams; s++) {
                const struct fm_id id = kit_stream (s);
                if (!id_equal (&id, &q.stream) || answered[s] || script_is_closed (session))
                    continue;
                fact.stream = s;
                script_answer_batch (session, &fact);
                script_answer_end (session);
                answered[s] = true;
                left--;
            }
        }
        script_skip (j->context.options.answer_ms);
    }
    for (unsigned s = 1; s <= streams; s++)
        assert_int_equal (script_next_seq (j, s), 2);
}

static void a_holder_that_cannot_be_asked_counts_as_not_asked (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec whole[] = { spec_of (1, 1, 2), spec_of (1, 3, 2) };
    script.unreachable = true;
    script_up (0, false);
    script_batch (0, &whole[1]);
    script_settle ();
    for (int i = 0; i < 5; i++)
        script_skip (j->context.options.answer_ms);
    assert_int_equal (script_next_seq (j, 1), 1);
    script.unreachable = false;
    script_skip (j->context.options.answer_ms);
    const uint64_t session = script_expect_question (0, 1, 1, 3);
    script_answer_batch (session, &whole[0]);
    script_answer_end (session);
    expect_log (j, whole, 2);
}

/* --- While the log takes nothing. */

/* The log has room for two streams at a time, both have something that is not synced; stream 3 waits. */
static void fill_the_log (struct fake_journal *j)
{
    const struct kit_batch_spec both[] = { spec_of (1, 1, 1), spec_of (2, 1, 1) };
    intake_destroy (&intake);
    fake_close (j);
    j->streams_max = 2;
    struct journal_options options = j->context.options;
    struct marks *marks = j->context.marks;
    wake_release (&j->context.room);
    kit_remove (j->directory);
    kit_directory (j->directory);
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (wake_init (&j->context.room), 0);
    j->context.options = options;
    j->context.marks = marks;
    script_start (j);
    script_up (0, false);
    script_batch (0, &both[0]);
    script_batch (0, &both[1]);
    script_settle ();
}

static void wait_until_room_is_wanted (struct fake_journal *j)
{
    const uint64_t one = 1, until = clock_real.monotonic_ns (NULL) + FAKE_PATIENCE_MS * (uint64_t) FAKE_NS_PER_MS;
    assert_int_equal (write (script.bell, &one, sizeof one), sizeof one);
    while (!atomic_load (&j->context.room_wanted)) {
        assert_true (clock_real.monotonic_ns (NULL) < until);
        (void) poll (NULL, 0, 1);
    }
}

static void room_in_the_log_is_waited_for_and_nothing_is_lost (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec all[] = { spec_of (1, 1, 1), spec_of (2, 1, 1), spec_of (3, 1, 4), spec_of (3, 5, 1) };
    fill_the_log (j);
    script_batch (0, &all[2]);
    script_batch (0, &all[3]);
    wait_until_room_is_wanted (j);
    assert_int_equal (fake_sync (j), 0);
    wake_raise (&j->context.room);
    script_settle ();
    expect_log (j, all, 4);
    assert_true (journal_counter (&j->context, JOURNAL_FULL_NS) > 0);
    assert_false (atomic_load (&j->context.room_wanted));
}

static void intake_ends_while_a_batch_waits_for_room (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec all[] = { spec_of (1, 1, 1), spec_of (2, 1, 1), spec_of (3, 1, 4) };
    fill_the_log (j);
    script_batch (0, &all[2]);
    wait_until_room_is_wanted (j);
    intake_destroy (&intake);
    expect_log (j, all, 2);
    assert_int_equal (fake.notice_count, 0);
}

/* What nobody has is not told as a gap that no log holds. */
static void intake_ends_while_a_gap_waits_for_room (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec all[] = { spec_of (1, 1, 1), spec_of (2, 1, 1), spec_of (3, 5, 4) };
    fill_the_log (j);
    script_batch (0, &all[2]);
    script_settle ();
    const uint64_t session = script_expect_question (0, 3, 1, 5), one = 1;
    const struct replay_gap gap = { .stream = kit_stream (3), .first_seq = 1, .end_seq = 5, .reason = FACTMESH__GAP_REASON__GAP_NOT_HELD };
    script.answers[script.answer_count] = (struct script_answer) { .session = session, .kind = REPLAY_DATA, .gap = gap };
    pthread_mutex_lock (&script.lock);
    script.answer_count++;
    pthread_mutex_unlock (&script.lock);
    assert_int_equal (write (script.bell, &one, sizeof one), sizeof one);
    wait_until_room_is_wanted (j);
    intake_destroy (&intake);
    expect_log (j, all, 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_GAPS_RECORDED), 0);
    assert_int_equal (fake.notice_count, 0);
}

/* --- Identities. */

static void segments_whose_identities_are_lost_are_told_of (void **state)
{
    enum { LARGE = 400000, BATCHES = 8 };
    struct fake_journal *j = *state;
    char path[256];
    script_up (0, false);
    for (uint64_t seq = 1; seq <= BATCHES; seq++) {
        char identity[20];
        (void) snprintf (identity, sizeof identity, "number %u", (unsigned) seq);
        const struct kit_batch_spec b = { .stream = 1, .first_seq = seq, .count = 1, .payload_len = LARGE, .identity = identity };
        script_batch (0, &b);
        script_settle ();
        assert_int_equal (fake_sync (j), 0);
    }
    assert_false (fake_noticed ("IDENTITIES-FORGOTTEN"));
    struct journal_options options = j->context.options;
    struct marks *marks = j->context.marks;
    intake_destroy (&intake);
    wake_release (&j->context.room);
    fake_close (j);
    kit_segment_path (j->directory, 2, path);
    assert_int_equal (unlink (path), 0);
    assert_int_equal (fake_open (j), 0);
    assert_int_equal (wake_init (&j->context.room), 0);
    j->context.options = options;
    j->context.marks = marks;
    script_start (j);
    script_up (0, false);
    const struct kit_batch_spec again = { .stream = 1, .first_seq = BATCHES + 1, .count = 1, .payload_len = 1, .identity = "number 1" };
    script_batch (0, &again);
    script_settle ();
    assert_true (fake_noticed ("IDENTITIES-FORGOTTEN segments=1:"));
    /* The first segment's are known. */
    assert_int_equal (script_next_seq (j, 1), BATCHES + 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_DUPLICATES_RECORDED), 1);
}

/* A batch that could not be recorded has not used its identity. */
static void what_was_not_recorded_repeats_nothing (void **state)
{
    struct fake_journal *j = *state;
    struct kit_batch_spec first = spec_of (1, 1, 2), second = spec_of (1, 3, 2);
    first.identity = "one";
    script_up (0, false);
    script_batch (0, &second);
    script_settle ();
    const uint64_t session = script_expect_question (0, 1, 1, 3);
    const struct kit_batch_spec other = spec_of (2, 1, 1);
    script_batch (0, &other);
    script_settle ();
    fail_fs_fail (j->fs, FAIL_SYNC, 1, -EIO);
    assert_int_equal (fake_sync (j), -EIO);
    script_answer_batch (session, &first);
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED), 1);
    assert_int_equal (fake.notice_count, 0);        /* that the journal is read-only is the sync thread's to tell */
    assert_true (intake->identities.loaded);
    assert_int_equal (intake->identities.table.count, 0);
    assert_int_equal (script_next_seq (j, 1), 1);
}

/* What comes twice is recorded once, and is nobody's fault. */
static void a_batch_that_comes_again_is_recorded_once (void **state)
{
    struct fake_journal *j = *state;
    const struct kit_batch_spec recorded[] = { spec_of (1, 1, 2), spec_of (1, 3, 2) };
    script_up (0, false);
    script_batch (0, &recorded[0]);
    script_batch (0, &recorded[0]);
    script_batch (0, &recorded[1]);
    script_batch (0, &recorded[0]);
    script_settle ();
    assert_int_equal (journal_counter (&j->context, JOURNAL_BATCHES_REFUSED), 0);
    assert_int_equal (fake.notice_count, 0);
    expect_log (j, recorded, 2);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (facts_that_cannot_be_read_never_reach_the_log_and_are_told_of),
        CASE (bytes_that_are_no_message_of_this_mesh_are_counted),
        CASE (who_may_not_publish_a_stream_is_refused_told_why_and_noted),
        CASE (one_node_gets_its_share_of_streams_and_others_theirs),
        CASE (no_more_streams_are_taken_than_the_journal_has_places_for),
        CASE (streams_that_go_take_no_others_with_them),
        CASE (a_peer_that_is_there_again_or_moved_still_owns_its_streams),
        CASE (a_goodbye_counts_only_where_nobody_else_has_the_address),
        CASE (more_nodes_come_and_go_than_are_remembered),
        CASE (that_a_stream_ended_is_told_again_ever_more_rarely_until_somebody_publishes_it),
        CASE (what_answers_bring_is_checked_like_what_comes_live),
        CASE (a_journal_that_says_not_yet_or_is_none_now_is_asked_again),
        CASE (what_an_answer_brings_of_the_epoch_that_waits_is_recorded_when_that_has_come),
        CASE (with_all_questions_in_flight_nobody_is_passed_over),
        CASE (a_holder_that_cannot_be_asked_counts_as_not_asked),
        CASE (room_in_the_log_is_waited_for_and_nothing_is_lost),
        CASE (intake_ends_while_a_batch_waits_for_room),
        CASE (intake_ends_while_a_gap_waits_for_room),
        CASE (segments_whose_identities_are_lost_are_told_of),
        CASE (what_was_not_recorded_repeats_nothing),
        CASE (a_batch_that_comes_again_is_recorded_once),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
