/* Facts of a journal as people see them: traces and corrections however facts name each other, replays whose messages overlap, fail, make no sense. */

#include "asking.h"
#include "../support/log_setting.h"

/* --- Causes and corrections. Fact n of the stream that group_batch uses: what it names follows from n. */

#define FACT_ID(n) "73000000000000000000000000000000:" n
static uint64_t (*cause_of) (uint64_t n), (*corrected_by) (uint64_t n);         /* 0: none; 9999: one that is not recorded */
static unsigned (*children_of) (uint64_t n, uint64_t *ret);
enum { MISSING = 9999, CHILDREN_MAX = 64 };

static uint64_t none (uint64_t n)
{
    (void) n;
    return 0;
}

static unsigned no_children (uint64_t n, uint64_t *ret)
{
    (void) n, (void) ret;
    return 0;
}

static size_t fact_bytes (uint64_t n, uint8_t *bytes, size_t max)
{
    char payload[32];
    static const uint8_t backs[] = { 0, 0 };
    const struct fm_id stream = { .bytes = { 's' } };
    struct batch_topic topic = { .name = slice_of ("work"), .backs = slice (backs, 1) };
    struct fm_fact fact = { .topic_index = 0, .payload = slice (payload, (size_t) snprintf (payload, sizeof payload, "fact %llu", (unsigned long long) n)) };
    if (cause_of (n))
        fact.causation = (struct fm_fact_id) { stream, cause_of (n) };
    if (corrected_by (n))
        fact.corrects = (struct fm_fact_id) { stream, corrected_by (n) };
    struct batch b = { .major = PROTO_MAJOR, .minor = PROTO_MINOR, .count = 1, .mesh = slice_of ("test"), .stream = stream, .epoch = 1, .incarnation = 7,
                       .epoch_first_seq = 1, .first_seq = n, .time_ns = 1, .topics = &topic, .topic_count = 1 };
    const struct batch_defaults defaults = { .time_ns = 1 };
    b.features = fact_features (&fact);
    assert_true (batch_header_bound (&b) + fact_encoded_len (&fact, &defaults) <= max);
    return (size_t) (fact_encode (batch_encode_header (bytes, &b), &fact, &defaults) - bytes);
}

static void answer_facts (struct scripted *j, const Factmesh__Control *question)
{
    static uint8_t bytes[CHILDREN_MAX][512];
    if (question->body_case == FACTMESH__CONTROL__BODY_FACT_GET) {
        Factmesh__FactReply reply = FACTMESH__FACT_REPLY__INIT;
        const uint64_t n = question->fact_get->fact->seq;
        if (n == MISSING) {
            script_refuse (j, question->request, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT, "there is none");
            return;
        }
        reply.offset = n;
        reply.batch = control_put_slice (slice (bytes[0], fact_bytes (n, bytes[0], sizeof bytes[0])));
        say (j, question, FACTMESH__CONTROL__BODY_FACT_REPLY, &reply);
        return;
    }
    uint64_t children[CHILDREN_MAX];
    Factmesh__Link links[CHILDREN_MAX], *pointers[CHILDREN_MAX];
    Factmesh__LinksReply reply = FACTMESH__LINKS_REPLY__INIT;
    const unsigned count = children_of (question->links_get->fact->seq, children);
    reply.links = pointers;
    for (unsigned i = 0; i < count && reply.n_links < question->links_get->limit; i++) {
        factmesh__link__init (&links[i]);
        links[i].kind = FACTMESH__LINK_KIND__LINK_CAUSED;
        links[i].offset = children[i];
        links[i].batch = control_put_slice (slice (bytes[i], fact_bytes (children[i], bytes[i], sizeof bytes[i])));
        pointers[reply.n_links++] = &links[i];
    }
    say (j, question, FACTMESH__CONTROL__BODY_LINKS_REPLY, &reply);
}

static uint64_t next (uint64_t n)
{
    return n + 1;
}

static uint64_t in_a_circle (uint64_t n)
{
    return n == 1 ? 2 : 1;
}

static uint64_t missing (uint64_t n)
{
    (void) n;
    return MISSING;
}

static unsigned sixty_of_the_first (uint64_t n, uint64_t *ret)
{
    for (unsigned i = 0; n == 1 && i < 60; i++)
        ret[i] = 2 + i;
    return n == 1 ? 60 : 0;
}

static unsigned each_other (uint64_t n, uint64_t *ret)
{
    *ret = n == 1 ? 2 : 1;
    return 1;
}

static unsigned one_more (uint64_t n, uint64_t *ret)
{
    *ret = n + 1;
    return 1;
}

/* Where it would be in the table of what was seen, of --max 10, the first one is. */
static unsigned in_the_same_place (uint64_t n, uint64_t *ret)
{
    *ret = 33;
    return n == 1;
}

static void a_trace_ends_however_the_facts_name_each_other (void **state)
{
    (void) state;
    static const char more[] = "there is more than is shown";
    journal = script_journal (answer_facts);
    cause_of = corrected_by = none;
    children_of = no_children;
    ask ("trace " FACT_ID ("1") " --journal 4a01");
    assert_int_equal (status, CLI_OK);
    assert_string_equal (out, "> work  " EPOCH_BEGINS "Z  " FACT_ID ("1") "  fact 1\n");
    assert_string_equal (err, "");
    /* Its cause is not recorded (any more): the tree begins with what is. */
    cause_of = missing;
    ask ("trace " FACT_ID ("1"));
    assert_int_equal (count_of (out, "\n"), 1);
    assert_string_equal (err, "");
    /* More causes above it than it climbs; a circle of them. */
    cause_of = next;
    ask ("trace " FACT_ID ("1"));
    assert_int_equal (status, CLI_OK);
    assert_non_null (strstr (out, "fact 65\n"));
    assert_non_null (strstr (err, more));
    cause_of = in_a_circle;
    children_of = each_other;
    ask ("trace " FACT_ID ("1"));
    assert_int_equal (count_of (out, "\n"), 2);
    assert_non_null (strstr (err, more));
    /* More below it than is asked for; deeper than it goes. */
    cause_of = none;
    children_of = sixty_of_the_first;
    ask ("trace " FACT_ID ("1"));
    assert_int_equal (count_of (out, "\n"), 61);
    assert_string_equal (err, "");
    ask ("trace " FACT_ID ("1") " --max 10");
    assert_int_equal (count_of (out, "\n"), 10);
    assert_non_null (strstr (err, more));
    children_of = in_the_same_place;
    ask ("trace " FACT_ID ("1") " --max 10");
    assert_int_equal (count_of (out, "\n"), 2);
    assert_non_null (strstr (out, "fact 33\n"));
    children_of = one_more;
    ask ("trace " FACT_ID ("1"));
    assert_int_equal (count_of (out, "\n"), 33);
    assert_non_null (strstr (err, more));
    journal->answer = refuse;
    ask ("trace " FACT_ID ("1"));
    expect_said (CLI_ERROR, "the journal says: not today");
}

static void a_correction_knows_the_whole_that_it_corrects (void **state)
{
    (void) state;
    journal = script_journal (answer_facts);
    cause_of = corrected_by = none;
    children_of = no_children;
    ask ("correct " FACT_ID ("1") " text");
    expect_said (CLI_ERROR, "the correction may not be recorded: in use");          /* as far as it can go here */
    corrected_by = missing;
    ask ("correct " FACT_ID ("1") " text");
    expect_said (CLI_ERROR, FACT_ID ("1") " corrects " FACT_ID ("9999") ", which is not recorded here");
    corrected_by = next;
    ask ("correct " FACT_ID ("1") " text");
    expect_said (CLI_ERROR, FACT_ID ("1") " is the last of 64 corrections, or of a circle of them");
    journal->answer = refuse;
    ask ("correct " FACT_ID ("1") " text");
    expect_said (CLI_ERROR, "the journal says: not today");
}

/* --- Replay. */

static void (*replay_script) (struct scripted *j, uint64_t session);

static void answer_replay (struct scripted *j, const Factmesh__Control *question)
{
    if (question->body_case == FACTMESH__CONTROL__BODY_STATUS_GET)
        answer_status (j, question);
    else if (question->body_case == FACTMESH__CONTROL__BODY_REPLAY_OPEN)
        replay_script (j, question->replay_open->session);
}

/* A message with facts [first, end), and gaps in front of them. */
static void say_facts (struct scripted *j, uint64_t session, uint64_t first, uint64_t end, const struct replay_gap *gaps, size_t gap_count)
{
    uint8_t bytes[4096], *to = bytes;
    const struct fm_id stream = { .bytes = { 's' } };
    cause_of = corrected_by = none;
    for (uint64_t n = first; n < end; n++) {
        uint8_t fact[512];
        const size_t len = fact_bytes (n, fact, sizeof fact);
        to = replay_batch_field (to, len);
        memcpy (to, fact, len);
        to += len;
    }
    const struct replay_covered covered = { .stream = stream, .through = end - 1 };
    const struct replay_header header = { .session = session, .next_offset = end, .gaps = gaps, .gap_count = gap_count, .covered = &covered, .covered_count = 1 };
    say_data (j, &header, slice (bytes, (size_t) (to - bytes)));
}

static void overlapping (struct scripted *j, uint64_t session)
{
    const struct fm_id stream = { .bytes = { 's' } };
    say_facts (j, session, 1, 4, NULL, 0);
    /* Facts and gaps that reach below what was told already. */
    const struct replay_gap gaps[] = { { .stream = stream, .first_seq = 1, .end_seq = 3, .reason = 1 }, { .stream = stream, .first_seq = 2, .end_seq = 6, .reason = 1 } };
    say_facts (j, session, 6, 7, gaps, 2);
    say_facts (j, session, 6, 8, NULL, 0);
    say_end (j, session, 8);
}

static void failing (struct scripted *j, uint64_t session)
{
    say_facts (j, session, 1, 3, NULL, 0);
    say_session_error (j, session, FACTMESH__ERROR_CODE__ERROR_LIMIT, "not today");
}

static void failing_without_a_text (struct scripted *j, uint64_t session)
{
    say_session_error (j, session, FACTMESH__ERROR_CODE__ERROR_LIMIT, "");
}

static void garbage (struct scripted *j, uint64_t session)
{
    uint8_t bytes[32], *to = replay_batch_field (bytes, 7);
    memcpy (to, "garbage", 7);
    say_facts (j, session, 1, 2, NULL, 0);
    const struct replay_header header = { .session = session, .next_offset = 9 };
    say_data (j, &header, slice (bytes, (size_t) (to + 7 - bytes)));
}

static void a_replay_prints_each_fact_and_gap_once (void **state)
{
    (void) state;
    journal = script_journal (answer_replay);
    replay_script = overlapping;
    ask ("replay --stats");
    assert_int_equal (status, CLI_OK);
    assert_string_equal (out, "fact 1\nfact 2\nfact 3\nfact 6\nfact 7\n");
    assert_non_null (strstr (err, "gap: stream 73000000000000000000000000000000, sequences 4 to 5 (2) are missing: expired"));
    assert_int_equal (count_of (err, "gap:"), 1);
    assert_non_null (strstr (err, "factmesh replay: 5 facts, 30 bytes of payload in "));
    assert_non_null (strstr (err, "1 gaps; the next offset is 8\n"));
    ask ("replay --fail-on-gap --quiet");
    assert_int_equal (status, CLI_GAP);
    replay_script = failing;
    ask ("replay");
    expect_said (CLI_ERROR, "factmesh replay: the journal says: not today");
    assert_string_equal (out, "fact 1\nfact 2\n");
    replay_script = failing_without_a_text;
    ask ("replay");
    expect_said (CLI_ERROR, "factmesh replay: the journal says: an error without a text");
    replay_script = garbage;
    ask ("replay");
    expect_said (CLI_ERROR, "factmesh replay: after 1 facts: ");
    assert_string_equal (out, "fact 1\n");
}

static void a_replay_asks_for_what_it_was_told (void **state)
{
    (void) state;
    journal = script_journal (answer_replay);
    replay_script = overlapping;
    static const struct {
        const char *line;
        Factmesh__ReplayOpen__StartCase start;
        Factmesh__ReplayOpen__EndCase end;
        uint64_t from, until;
    } cases[] = {
        { "replay", FACTMESH__REPLAY_OPEN__START_FROM_OFFSET, FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED, 0, 1 },
        { "replay --from -5", FACTMESH__REPLAY_OPEN__START_LAST_COUNT, FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED, 5, 1 },
        { "replay --from @1970-01-01T00:00:01Z --until @1970-01-01T00:00:02Z", FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS, FACTMESH__REPLAY_OPEN__END_END_TIME_NS,
          1000000000, 2000000000 },
        { "replay --from offset:3 --until offset:8", FACTMESH__REPLAY_OPEN__START_FROM_OFFSET, FACTMESH__REPLAY_OPEN__END_END_OFFSET, 3, 8 },
        { "replay --from latest", FACTMESH__REPLAY_OPEN__START_FROM_LATEST, FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED, 0, 1 },
        { "replay --from cursor:c", FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME, FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED, 0, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask (cases[i].line);
        assert_int_equal (status, CLI_OK);
        const Factmesh__ReplayOpen *const open = script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open;
        assert_int_equal (open->start_case, cases[i].start);
        assert_int_equal (open->end_case, cases[i].end);
        if (open->start_case == FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME)
            assert_true (slice_equal (control_get_slice (&open->from_cursor_name), slice_of ("c")));
        else if (open->start_case == FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS)
            assert_int_equal (open->from_time_ns, cases[i].from);
        else if (open->start_case != FACTMESH__REPLAY_OPEN__START_FROM_LATEST)
            assert_int_equal (open->from_offset, cases[i].from);
        assert_int_equal (open->end_case == FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED ? (uint64_t) open->end_at_synced : open->end_offset, cases[i].until);
    }
    /* The id below it: a borrow over its last bytes. */
    ask ("replay --stream 73000100000000000000000000000000");
    assert_int_equal (status, CLI_OK);
    struct fm_id below;
    assert_int_equal (control_get_id (&script_last (journal, FACTMESH__CONTROL__BODY_STATUS_GET)->status_get->streams_after, &below), 0);
    assert_memory_equal (below.bytes, "s\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", ID_LEN);
    ask ("replay --stream 74000000000000000000000000000000");
    expect_said (CLI_ERROR, "holds no stream 74000000000000000000000000000000");
    ask ("replay --from offset:9");
    expect_said (CLI_ERROR, "--from: offset 9 lies behind the journal's end, 8");
}

static void interrupted (struct scripted *j, uint64_t session)
{
    say_facts (j, session, 1, 3, NULL, 0);
    assert_int_equal (raise (SIGTERM), 0);
}

static void a_signal_ends_a_replay_with_what_it_has_printed (void **state)
{
    (void) state;
    journal = script_journal (answer_replay);
    replay_script = interrupted;
    ask ("replay");
    assert_int_equal (status, 128 + SIGTERM);
    assert_string_equal (err, "");
}

/* --- Repair: what the other journal has of a damaged directory. */

static void no_such_stream (struct scripted *j, uint64_t session)
{
    say_session_error (j, session, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM, "never heard of it");
}

static void caught_up (struct scripted *j, uint64_t session)
{
    const struct replay_header header = { .session = session, .caught_up = true };
    say_data (j, &header, slice (NULL, 0));
}

/* It lacks them too; and tells of another stream, which was not asked for. */
static void not_held (struct scripted *j, uint64_t session)
{
    const struct fm_id one = kit_stream (1), other = stream_number (1);
    const struct replay_gap gaps[] = { { .stream = other, .first_seq = 1, .end_seq = 100, .reason = FM_GAP_EXPIRED },
                                       { .stream = one, .first_seq = 1, .end_seq = 100, .reason = FM_GAP_EXPIRED } };
    const struct replay_header header = { .session = session, .gaps = gaps, .gap_count = 2 };
    Factmesh__StatusReply beside = FACTMESH__STATUS_REPLY__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_REPLY;
    control.status_reply = &beside;
    script_say (j, 77, &control);       /* nobody asked for that either */
    say_data (j, &header, slice (NULL, 0));
    say_end (j, session, 0);
}

static void silent (struct scripted *j, uint64_t session)
{
    (void) j, (void) session;
}

static void what_another_journal_lacks_stays_lost (void **state)
{
    (void) state;
    static const struct {
        void (*script) (struct scripted *j, uint64_t session);
        int status;
        const char *out, *err;
    } cases[] = {
        { no_such_stream, CLI_DAMAGED, "stays lost: stream ", "" },
        { caught_up, CLI_DAMAGED, "stays lost: stream ", "" },
        { not_held, CLI_DAMAGED, "stays lost: stream ", "" },
        { failing_without_a_text, CLI_ERROR, "checksum", "factmesh repair: the journal at inproc://journal-0-1 says: an error without a text\n" },
        { silent, CLI_TIMEOUT, "checksum", "factmesh repair: refetching: timed out: no answer from the journal at inproc://journal-0-1 for 10000 ms\n" },
    };
    void *setting;
    char path[256], line[300];
    assert_int_equal (log_set_up (&setting), 0);
    struct log_setting *const s = setting;
    fill_segments (s, 2);
    struct kit_batch_spec spec = big_spec (3);
    kit_segment_path (s->directory, 1, path);
    wipe (path, &spec, &spec);
    journal = script_journal (answer_replay);
    (void) snprintf (line, sizeof line, "repair %s --dry-run --from tcp://127.0.0.1:1", s->directory);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        replay_script = cases[i].script;
        ask (line);
        if (status != cases[i].status || !strstr (out, cases[i].out) || strcmp (err, cases[i].err) != 0)
            fail_msg ("case %zu: status %d: %s: %s", i, status, out, err);
    }
    const Factmesh__ReplayOpen *const open = script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open;
    assert_int_equal (open->from_seq, 3);
    assert_int_equal (open->end_seq, 4);
    script_kill (journal);
    ask (line);
    expect_said (CLI_TIMEOUT, "factmesh repair: no journal: ");
    (void) log_tear_down (&setting);
}

int main (void)
{
#define CASE(name) SCRIPT_CASE (name)
    const struct CMUnitTest tests[] = {
        CASE (a_trace_ends_however_the_facts_name_each_other),
        CASE (a_correction_knows_the_whole_that_it_corrects),
        CASE (a_replay_prints_each_fact_and_gap_once),
        CASE (a_replay_asks_for_what_it_was_told),
        CASE (what_another_journal_lacks_stays_lost),
        CASE (a_signal_ends_a_replay_with_what_it_has_printed),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
