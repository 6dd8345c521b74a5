/* Lists of a journal as people see them, status, cursors, groups, blobs: long ones page by page, answers that make no sense, refusals. */

#include "asking.h"

/* --- status. */

static void more_streams_than_a_page_has_are_all_listed (void **state)
{
    (void) state;
    journal = script_journal (answer_status);
    ask ("status --streams --json");
    assert_int_equal (status, CLI_OK);
    assert_int_equal (count_of (out, "{\"stream\":\""), STREAMS - 1);      /* one has no id */
    assert_int_equal (count_of (out, "\"}]}\n"), 1);
    assert_non_null (strstr (out, "\"counters\":{},\"streams\":[{\"stream\":\"73000000000000000000000000000000\",\"epoch\":0,\"first_seq\":0,\"synced\":0,\"name\":\"name\"},{"));
    assert_int_equal (script_asked (journal, FACTMESH__CONTROL__BODY_STATUS_GET), 2);
    ask ("status --streams");
    assert_int_equal (status, CLI_OK);
    assert_int_equal (count_of (out, "\nstream  "), STREAMS - 1);
    assert_non_null (strstr (out, "\nholds           7 facts, 0 bytes\noffsets         first 1, written 9, synced 8\n"));
    ask ("status");
    assert_int_equal (count_of (out, "stream"), 0);
    journal->answer = refuse;
    ask ("status");
    expect_said (CLI_ERROR, "factmesh status: the journal says: not today");
}

/* --- Cursors. */

enum { CURSORS = 3 };
static size_t cursor_page = CURSORS;
static const char *cursor_names[CURSORS] = { "one", "two", "three" };
static bool cursor_positions;

static void answer_cursors (struct scripted *j, const Factmesh__Control *question)
{
    Factmesh__CursorState states[CURSORS], *pointers[CURSORS];
    Factmesh__CursorReply reply = FACTMESH__CURSOR_REPLY__INIT;
    Factmesh__StreamPosition positions[2] = { FACTMESH__STREAM_POSITION__INIT, FACTMESH__STREAM_POSITION__INIT }, *position_pointers[2] = { &positions[0], &positions[1] };
    Factmesh__Cursor at = FACTMESH__CURSOR__INIT;
    const struct fm_id one = stream_number (1);
    positions[1].stream = control_put_id (&one);
    positions[1].seq = 7;
    at.journal = control_put_id (&j->id);
    at.generation = 1;
    at.offset = 5;
    at.positions = position_pointers;
    at.n_positions = cursor_positions ? 2 : 0;
    reply.cursors = pointers;
    if (question->body_case == FACTMESH__CONTROL__BODY_STATUS_GET) {
        answer_status (j, question);
        return;
    }
    size_t first = 0;
    if (question->body_case == FACTMESH__CONTROL__BODY_CURSOR_LIST && question->cursor_list->after.len)
        for (; first < CURSORS && !slice_equal (control_get_slice (&question->cursor_list->after), slice_of (cursor_names[first]));)
            first++;
    first += question->body_case == FACTMESH__CONTROL__BODY_CURSOR_LIST && question->cursor_list->after.len;
    const size_t max = question->body_case == FACTMESH__CONTROL__BODY_CURSOR_LIST ? cursor_page : cursor_page < 1 ? cursor_page : 1;
    for (size_t i = first; i < CURSORS && reply.n_cursors < max; i++) {
        factmesh__cursor_state__init (&states[i]);
        states[i].name = control_put_slice (slice_of (cursor_names[i]));
        states[i].cursor = i == 1 ? NULL : &at;
        states[i].behind = 3;
        pointers[reply.n_cursors++] = &states[i];
    }
    reply.more = first + reply.n_cursors < CURSORS;
    say (j, question, FACTMESH__CONTROL__BODY_CURSOR_REPLY, &reply);
}

#define JOURNAL_ID "4a010000000000000000000000000000"

static void cursors_are_listed_page_by_page (void **state)
{
    (void) state;
    journal = script_journal (answer_cursors);
    static const char json[] = "{\"name\":\"one\",\"offset\":5,\"behind\":3,\"updated\":\"" EPOCH_BEGINS ".000000000Z\",\"filters\":\"\",\"journal\":\"" JOURNAL_ID "\",\"generation\":1}\n"
                               "{\"name\":\"two\",\"offset\":0,\"behind\":3,\"updated\":\"" EPOCH_BEGINS ".000000000Z\",\"filters\":\"\"}\n"
                               "{\"name\":\"three\",\"offset\":5,\"behind\":3,\"updated\":\"" EPOCH_BEGINS ".000000000Z\",\"filters\":\"\",\"journal\":\"" JOURNAL_ID "\",\"generation\":1}\n";
    for (cursor_page = CURSORS; cursor_page > 0; cursor_page--) {
        ask ("cursor ls --json");
        assert_int_equal (status, CLI_OK);
        assert_string_equal (out, json);
    }
    cursor_page = 2;
    ask ("cursor ls");
    assert_int_equal (count_of (out, "\n"), 1 + CURSORS);
    /* It would be asked for ever what comes behind a name that is none. */
    cursor_page = 1;
    cursor_names[0] = "";
    ask ("cursor ls");
    expect_said (CLI_ERROR, "the journal's answer names a cursor of 0 bytes");
    cursor_names[0] = "one";
    cursor_page = CURSORS;
}

static void a_cursor_is_shown_with_its_streams (void **state)
{
    (void) state;
    journal = script_journal (answer_cursors);
    cursor_positions = true;
    ask ("cursor show one --json");
    assert_string_equal (out, "{\"name\":\"one\",\"offset\":5,\"behind\":3,\"updated\":\"" EPOCH_BEGINS ".000000000Z\",\"filters\":\"\",\"journal\":\"" JOURNAL_ID "\",\"generation\":1,"
                              "\"streams\":[{\"stream\":\"73000100000000000000000000000000\",\"seq\":7}]}\n");
    ask ("cursor show one");
    assert_string_equal (out, "cursor      one\ntopics      \njournal     " JOURNAL_ID ", generation 1\noffset      5\nbehind      3 facts\nmoved       " EPOCH_BEGINS
                              ".000000000Z\nstream      73000100000000000000000000000000 through 7\n");
    cursor_positions = false;
    cursor_page = 0;
    ask ("cursor show one");
    expect_said (CLI_ERROR, "there is no cursor 'one'; factmesh cursor ls lists them");
    cursor_page = CURSORS;
    journal->answer = refuse;
    static const char *const lines[] = { "cursor show one", "cursor ls", "cursor rm one", "cursor seek one start" };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        ask (lines[i]);
        expect_said (CLI_ERROR, "the journal says: not today");
    }
}

/* Where a time or the last n facts are: an answer to a replay. */
static enum { SAY_START, SAY_END, SAY_NOTHING, SAY_ERROR, SAY_ERROR_WITHOUT_TEXT, SAY_OTHER } about_place;

static void answer_seek (struct scripted *j, const Factmesh__Control *question)
{
    if (question->body_case != FACTMESH__CONTROL__BODY_REPLAY_OPEN) {
        answer_cursors (j, question);
        return;
    }
    const uint64_t session = question->replay_open->session;
    struct replay_header header = { .session = session };
    Factmesh__Cursor start = FACTMESH__CURSOR__INIT;
    start.major = PROTO_MAJOR;
    start.journal = control_put_id (&j->id);
    start.generation = 1;
    start.offset = 4;
    header.start = about_place == SAY_START ? &start : NULL;
    if (about_place == SAY_START || about_place == SAY_NOTHING)
        say_data (j, &header, slice (NULL, 0));
    else if (about_place == SAY_END)
        say_end (j, session, 6);
    else
        say_session_error (j, session, FACTMESH__ERROR_CODE__ERROR_LIMIT, about_place == SAY_ERROR ? "not today" : "");
}

static void a_place_is_found_by_the_journal (void **state)
{
    (void) state;
    journal = script_journal (answer_seek);
    about_place = SAY_START;
    ask ("cursor seek one @1970-01-01T00:00:01Z");
    assert_int_equal (status, CLI_OK);
    assert_string_equal (out, "one: offset 4, 4 facts before the end\n");
    const Factmesh__ReplayOpen *open = script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open;
    assert_int_equal (open->start_case, FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS);
    assert_int_equal (open->from_time_ns, 1000000000);
    const Factmesh__CursorPut *put = script_last (journal, FACTMESH__CONTROL__BODY_CURSOR_PUT)->cursor_put;
    assert_int_equal (put->cursor->offset, 4);
    about_place = SAY_END;
    ask ("cursor seek one -5");
    assert_string_equal (out, "one: offset 6, 2 facts before the end\n");
    open = script_last (journal, FACTMESH__CONTROL__BODY_REPLAY_OPEN)->replay_open;
    assert_int_equal (open->start_case, FACTMESH__REPLAY_OPEN__START_LAST_COUNT);
    assert_int_equal (open->last_count, 5);
    ask ("cursor seek one end");
    assert_string_equal (out, "one: offset 8, 0 facts before the end\n");
    ask ("cursor seek one offset:9");
    expect_said (CLI_ERROR, "offset 9 is behind the end, 8");
    about_place = SAY_NOTHING;
    ask ("cursor seek one -5");
    expect_said (CLI_ERROR, "did not say where that is");
    about_place = SAY_ERROR;
    ask ("cursor seek one -5");
    expect_said (CLI_ERROR, "the journal says: not today");
}

/* --- Groups. */

enum { GROUPS = 3 };
static size_t group_page = GROUPS;
static const char *group_names_told[GROUPS] = { "one", "two", "three" };

static void answer_groups (struct scripted *j, const Factmesh__Control *question)
{
    static uint8_t bytes[512];
    Factmesh__GroupInfo infos[GROUPS], *pointers[GROUPS];
    Factmesh__GroupReply reply = FACTMESH__GROUP_REPLY__INIT;
    Factmesh__GroupConfig config = FACTMESH__GROUP_CONFIG__INIT;
    ProtobufCBinaryData filters[2] = { control_put_slice (slice_of ("a.>")), control_put_slice (slice_of ("b")) };
    Factmesh__GroupMember member = FACTMESH__GROUP_MEMBER__INIT, *members[1] = { &member };
    Factmesh__ParkedFact parked[3], *parked_pointers[3];
    Factmesh__FactId fact = FACTMESH__FACT_ID__INIT;
    const struct fm_id one = stream_number (1);
    config.filters = filters;
    config.n_filters = 2;
    config.effect = (Factmesh__Effect) 2;
    member.instance = control_put_slice (slice_of ("here"));
    member.in_hand = 4;
    member.done = 11;
    fact.stream = control_put_id (&one);
    fact.seq = 17;
    for (size_t i = 0; i < 3; i++) {
        factmesh__parked_fact__init (&parked[i]);
        parked[i].offset = 10 + i;
        parked[i].fact = i == 2 ? NULL : &fact;
        parked[i].attempts = 2;
        parked[i].reason = control_put_slice (slice_of ("because"));
        parked_pointers[i] = &parked[i];
    }
    parked[0].batch = control_put_slice (slice (bytes, group_batch (17, 0, bytes, sizeof bytes)));
    parked[2].batch = control_put_slice (slice_of ("garbage"));
    reply.groups = pointers;
    const bool lists = question->body_case == FACTMESH__CONTROL__BODY_GROUP_LIST;
    size_t first = 0;
    if (lists && question->group_list->after.len) {
        while (first < GROUPS && !slice_equal (control_get_slice (&question->group_list->after), slice_of (group_names_told[first])))
            first++;
        first++;
    }
    for (size_t i = first; i < GROUPS && reply.n_groups < (lists || group_page == 0 ? group_page : 1); i++) {
        factmesh__group_info__init (&infos[i]);
        infos[i].group = control_put_slice (slice_of (group_names_told[i]));
        infos[i].config = i == 1 ? NULL : &config;
        infos[i].paused = i == 2;
        infos[i].members = members;
        infos[i].n_members = i == 0;
        infos[i].parked_facts = parked_pointers;
        infos[i].n_parked_facts = question->body_case == FACTMESH__CONTROL__BODY_GROUP_COMMAND && question->group_command->parked_limit ? 3 : 0;
        pointers[reply.n_groups++] = &infos[i];
    }
    reply.more = lists && first + reply.n_groups < GROUPS;
    say (j, question, FACTMESH__CONTROL__BODY_GROUP_REPLY, &reply);
}

static void groups_are_listed_page_by_page (void **state)
{
    (void) state;
    journal = script_journal (answer_groups);
    static const char one[] =
        "{\"group\":\"one\",\"topics\":[\"a.>\",\"b\"],\"effect\":\"once\",\"offset\":0,\"behind\":0,\"unfinished\":0,\"in_hand\":0,\"later\":0,\"parked\":0,\"paused\":false,"
        "\"instances\":[{\"name\":\"here\",\"node\":\"00000000000000000000000000000000\",\"in_hand\":4,\"credit\":0,\"done\":11}]}\n";
    for (group_page = GROUPS; group_page > 0; group_page--) {
        ask ("group ls --json");
        assert_int_equal (status, CLI_OK);
        assert_memory_equal (out, one, sizeof one - 1);
        assert_int_equal (count_of (out, "\n"), GROUPS);
        assert_non_null (strstr (out, "{\"group\":\"two\",\"topics\":[],\"effect\":\"undeclared\""));
        assert_non_null (strstr (out, "{\"group\":\"three\""));
    }
    group_page = 2;
    ask ("group ls");
    assert_int_equal (count_of (out, "\n"), 1 + GROUPS);
    assert_non_null (strstr (out, " once             a.>,b\n"));
    assert_non_null (strstr (out, " undeclared       >\n"));
    assert_non_null (strstr (out, " paused           a.>,b\n"));
    group_page = 1;
    static char long_name[GROUP_NAME_MAX + 2];
    memset (long_name, 'x', sizeof long_name - 1);
    static const char *const bad[] = { "", long_name };
    for (size_t i = 0; i < 2; i++) {
        group_names_told[0] = bad[i];
        ask ("group ls");
        expect_said (CLI_ERROR, i ? "the journal's answer names a group of 64 bytes" : "the journal's answer names a group of 0 bytes");
    }
    group_names_told[0] = "one";
    group_page = GROUPS;
}

static void a_group_is_shown_with_its_instances (void **state)
{
    (void) state;
    journal = script_journal (answer_groups);
    ask ("group show one");
    assert_string_equal (out, "group       one\ntopics      a.>,b\neffect      once\nlease       0 ms, parked after 0 attempts\noffset      0, 0 behind the end\n"
                              "unfinished  0, of these 0 in hand, 0 to be tried later\nparked      0\ninstance    here: 4 in hand, 11 done\n");
    ask ("group seek one @1970-01-01T00:00:01Z --again");
    assert_int_equal (status, CLI_OK);
    const Factmesh__GroupCommand *command = script_last (journal, FACTMESH__CONTROL__BODY_GROUP_COMMAND)->group_command;
    assert_int_equal (command->time_ns, 1000000000);
    assert_true (command->again);
    ask ("group pause one -q");
    assert_string_equal (out, "");
    ask ("group rm one");
    assert_string_equal (out, "");
    assert_int_equal (status, CLI_OK);
    group_page = 0;
    ask ("group show one");
    expect_said (CLI_ERROR, "the journal's answer is of 0 groups");
    group_page = GROUPS;
    journal->answer = refuse;
    static const char *const lines[] = { "group show one", "group ls", "group parked one", "group replay one 3", "group seek one end" };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        ask (lines[i]);
        expect_said (CLI_ERROR, "the journal says: not today");
    }
}

static void what_is_parked_is_told_with_or_without_its_content (void **state)
{
    (void) state;
    journal = script_journal (answer_groups);
    ask ("group parked one");
    assert_int_equal (status, CLI_OK);
    assert_string_equal (out, "10  73000100000000000000000000000000:17  " EPOCH_BEGINS "Z  2 attempts: because\n    work  payload 17\n"
                              "11  73000100000000000000000000000000:17  " EPOCH_BEGINS "Z  2 attempts: because\n    (its content has expired)\n"
                              "12    " EPOCH_BEGINS "Z  2 attempts: because\n    (its content has expired)\n");
    ask ("group parked one --json");
    assert_string_equal (out, "{\"offset\":10,\"id\":\"73000100000000000000000000000000:17\",\"attempts\":2,\"deliveries\":0,\"parked\":\"" EPOCH_BEGINS ".000000000Z\",\"reason\":\"because\","
                              "\"topic\":\"work\",\"key\":\"\",\"payload\":\"payload 17\"}\n"
                              "{\"offset\":11,\"id\":\"73000100000000000000000000000000:17\",\"attempts\":2,\"deliveries\":0,\"parked\":\"" EPOCH_BEGINS ".000000000Z\",\"reason\":\"because\","
                              "\"expired\":true}\n"
                              "{\"offset\":12,\"id\":\"\",\"attempts\":2,\"deliveries\":0,\"parked\":\"" EPOCH_BEGINS ".000000000Z\",\"reason\":\"because\",\"expired\":true}\n");
}

/* --- Blobs. */

static size_t blob_digest_len = BLOB_DIGEST_LEN;

static void answer_blobs (struct scripted *j, const Factmesh__Control *question)
{
    static uint8_t digests[3][BLOB_DIGEST_LEN];
    Factmesh__BlobInfo infos[3], *pointers[3];
    Factmesh__BlobReply reply = FACTMESH__BLOB_REPLY__INIT;
    const unsigned first = question->blob_list->after.len ? ((const uint8_t *) question->blob_list->after.data)[0] : 0;
    reply.blobs = pointers;
    for (unsigned i = first; i < 3 && reply.n_blobs < 2; i++) {
        digests[i][0] = (uint8_t) (i + 1);
        factmesh__blob_info__init (&infos[i]);
        infos[i].sha256 = control_put_slice (slice (digests[i], blob_digest_len));
        infos[i].size = 100 + i;
        infos[i].stored_ns = 1000000000;
        infos[i].media_type = control_put_slice (slice_of (i == 1 ? "a\nb" : ""));
        pointers[reply.n_blobs++] = &infos[i];
    }
    reply.more = first + reply.n_blobs < 3;
    say (j, question, FACTMESH__CONTROL__BODY_BLOB_REPLY, &reply);
}

static void blobs_are_listed_page_by_page (void **state)
{
    (void) state;
    journal = script_journal (answer_blobs);
    ask ("blob ls --json");
    assert_int_equal (status, CLI_OK);
    assert_int_equal (count_of (out, "\n"), 3);
    assert_non_null (strstr (out, "{\"sha256\":\"0300000000000000000000000000000000000000000000000000000000000000\",\"size\":102,"));
    ask ("blob ls");
    assert_int_equal (status, CLI_OK);
    assert_string_equal (out, "BLOB                                                                      BYTES  STORED                LEASE                 TYPE\n"
                              "0100000000000000000000000000000000000000000000000000000000000000            100  1970-01-01T00:00:01Z  " EPOCH_BEGINS "Z  \n"
                              "0200000000000000000000000000000000000000000000000000000000000000            101  1970-01-01T00:00:01Z  " EPOCH_BEGINS "Z  a?b\n"
                              "0300000000000000000000000000000000000000000000000000000000000000            102  1970-01-01T00:00:01Z  " EPOCH_BEGINS "Z  \n");
    blob_digest_len = 0;
    ask ("blob ls");
    expect_said (CLI_ERROR, "the journal's answer names a blob of 0 bytes");
    blob_digest_len = BLOB_DIGEST_LEN;
    journal->answer = refuse;
    ask ("blob ls");
    expect_said (CLI_ERROR, "the journal says: not today");
}

static void an_upload_ends_with_the_signal_that_ended_it (void **state)
{
    (void) state;
    journal = script_journal (answer_blobs);
    blob_rc = FM_INTERRUPTED;
    ask ("blob put /dev/null");
    assert_int_equal (status, 128 + SIGINT);
    assert_string_equal (err, "");
    blob_rc = FM_TIMEOUT;
    ask ("blob put /dev/null --timeout 0");
    expect_said (CLI_TIMEOUT, "/dev/null: timed out");
    assert_int_equal (blob_timeout_ms, 1);      /* 0 would be the library's own */
    char line[PATH_MAX + 200], name[PATH_MAX];
    memset (name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    (void) snprintf (line, sizeof line, "blob get %064d -o %s", 7, name);
    ask (line);
    expect_said (CLI_ERROR, "factmesh blob: xxxx");         /* and what follows is cut */
}

int main (void)
{
#define CASE(name) SCRIPT_CASE (name)
    const struct CMUnitTest tests[] = {
        CASE (more_streams_than_a_page_has_are_all_listed),
        CASE (cursors_are_listed_page_by_page),
        CASE (a_cursor_is_shown_with_its_streams),
        CASE (a_place_is_found_by_the_journal),
        CASE (groups_are_listed_page_by_page),
        CASE (a_group_is_shown_with_its_instances),
        CASE (what_is_parked_is_told_with_or_without_its_content),
        CASE (blobs_are_listed_page_by_page),
        CASE (an_upload_ends_with_the_signal_that_ended_it),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
