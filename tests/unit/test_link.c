/* link, recorded: what the command is told by a journal that follows a script, and what it tells people: get, trace, status, cursors and groups stand on this. */

#include "scripted_group.h"

#include "../../nodes/cli/link.c"

#include "../../nodes/cli/recorded.c"

enum { TIMEOUT_MS = 2000 };

static struct {
    char said[600];                     /* the last message */
    int signal;
} cli_fake;
static const struct cli cli = { .command = "test" };
static struct link to;
static struct scripted *journal;

/* ------------------------------------------------------------------ what the command's parts stand on */

int cli_error (const struct cli *c, const char *format, ...)
{
    (void) c;
    va_list arguments;
    va_start (arguments, format);
    (void) vsnprintf (cli_fake.said, sizeof cli_fake.said, format, arguments);
    va_end (arguments);
    return CLI_ERROR;
}

int cli_fail (const struct cli *c, int code, const char *format, ...)
{
    (void) c, (void) format;
    (void) snprintf (cli_fake.said, sizeof cli_fake.said, "%s", fm_error_text (code));
    return code == FM_TIMEOUT ? CLI_TIMEOUT : CLI_ERROR;
}

int cli_open_node (const struct cli *c, struct fm_node **ret_node)
{
    (void) c;
    *ret_node = &script;
    return CLI_OK;
}

int cli_timeout (const struct cli *c, int default_ms)
{
    (void) c, (void) default_ms;
    return TIMEOUT_MS;
}

int cli_signalled (void)
{
    return cli_fake.signal;
}

bool cli_is_signalled (void)
{
    return cli_fake.signal != 0;
}

void cli_wait (int fd, int timeout_ms)
{
    struct pollfd wait = { .fd = fd, .events = POLLIN };
    (void) poll (&wait, 1, timeout_ms);
}

uint64_t cli_monotonic_ms (void)
{
    return script.now_ns / SCRIPT_MS;
}

int fm_node_wait_journal (struct fm_node *node, int timeout_ms)
{
    if (node->journal_count)
        return 0;
    script_pass ((unsigned) timeout_ms);
    return error_set (FM_ERR_NO_JOURNAL, "no journal");
}

int fm_node_wait_members (struct fm_node *node, unsigned count, int timeout_ms)
{
    (void) node, (void) count;
    script_pass ((unsigned) timeout_ms);
    return FM_TIMEOUT;
}

void fm_node_close (struct fm_node **node)
{
    *node = NULL;
}

/* ------------------------------------------------------------------ the fixture */

static int set_up (void **state)
{
    memset (&cli_fake, 0, sizeof cli_fake);
    memset (&to, 0, sizeof to);
    return script_set_up (state);
}

static int tear_down (void **state)
{
    link_close (&to);
    return script_tear_down (state);
}

static void connect_to (script_fn *answer)
{
    journal = script_journal (answer);
    assert_int_equal (link_open (&to, &cli, NULL), CLI_OK);
}

static int ask_status (Factmesh__ErrorCode expected, Factmesh__Control **ret_reply)
{
    Factmesh__StatusGet get = FACTMESH__STATUS_GET__INIT;
    Factmesh__Control request = FACTMESH__CONTROL__INIT;
    request.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    request.status_get = &get;
    return link_request_or (&to, &request, FACTMESH__CONTROL__BODY_STATUS_REPLY, expected, ret_reply);
}

/* An answer that can be told from others. */
static void say_status (struct scripted *j, uint64_t request, uint64_t number)
{
    Factmesh__StatusReply reply = FACTMESH__STATUS_REPLY__INIT;
    reply.generation = number;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_REPLY;
    control.status_reply = &reply;
    script_say (j, request, &control);
}

static void answer_status (struct scripted *j, const Factmesh__Control *question)
{
    say_status (j, question->request, 7);
}

/* ------------------------------------------------------------------ finding one */

static void the_journal_that_is_named_or_that_with_the_lowest_id (void **state)
{
    (void) state;
    assert_int_equal (link_open (&to, &cli, NULL), CLI_ERROR);
    assert_string_equal (cli_fake.said, fm_error_text (FM_ERR_NO_JOURNAL));
    journal = script_journal (answer_status);
    struct scripted *second = script_journal (answer_status);
    Factmesh__Control *reply;
    assert_int_equal (link_open (&to, &cli, NULL), CLI_OK);
    assert_true (id_equal (&to.journal, &journal->id));
    assert_int_equal (ask_status (FACTMESH__ERROR_CODE__ERROR_NONE, &reply), CLI_OK);
    assert_int_equal (journal->question_count, 1);
    link_close (&to);
    assert_int_equal (link_open (&to, &cli, "4a02"), CLI_OK);
    assert_true (id_equal (&to.journal, &second->id));
    link_close (&to);
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (link_open (&to, &cli, "4a03"), CLI_TIMEOUT);
    assert_in_range (script.now_ns - began_ns, TIMEOUT_MS * SCRIPT_MS, (TIMEOUT_MS + LINK_SLICE_MS) * SCRIPT_MS);
    assert_non_null (strstr (cli_fake.said, "4a03"));
    script.sockets_left = 0;
    assert_int_equal (link_open (&to, &cli, NULL), CLI_ERROR);
    script.sockets_left = -1;
}

/* ------------------------------------------------------------------ asking */

static Factmesh__ErrorCode refusal;

static void refuse (struct scripted *j, const Factmesh__Control *question)
{
    script_refuse (j, question->request, refusal, refusal == FACTMESH__ERROR_CODE__ERROR_INTERNAL ? "" : "the journal's own words");
}

static void a_refusal_is_told_unless_it_is_an_answer (void **state)
{
    (void) state;
    connect_to (refuse);
    for (int code = FACTMESH__ERROR_CODE__ERROR_MALFORMED; code <= FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT + 3; code++) {
        Factmesh__Control *reply = NULL;
        refusal = (Factmesh__ErrorCode) code;
        assert_int_equal (ask_status (FACTMESH__ERROR_CODE__ERROR_NONE, &reply), CLI_ERROR);
        assert_string_equal (cli_fake.said, refusal == FACTMESH__ERROR_CODE__ERROR_INTERNAL ? "the journal says: an error without a text"
                                                                                          : "the journal says: the journal's own words");
        reply = (Factmesh__Control *) &refusal;
        assert_int_equal (ask_status (refusal, &reply), CLI_OK);
        assert_null (reply);
    }
}

static void silence_is_a_time_out_and_a_signal_ends_it (void **state)
{
    (void) state;
    Factmesh__Control *reply;
    connect_to (script_silence);
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (ask_status (FACTMESH__ERROR_CODE__ERROR_NONE, &reply), CLI_TIMEOUT);
    assert_int_equal (script.now_ns - began_ns, TIMEOUT_MS * SCRIPT_MS);
    assert_non_null (strstr (cli_fake.said, "no answer from the journal at inproc://"));
    cli_fake.signal = 15;
    assert_int_equal (ask_status (FACTMESH__ERROR_CODE__ERROR_NONE, &reply), CLI_SIGNAL + 15);
}

static uint64_t asked_before;

/* Everything but an answer; then one. */
static void answer_beside (struct scripted *j, const Factmesh__Control *question)
{
    if (!asked_before) {
        asked_before = question->request;
        return;
    }
    group.journal = j;
    script_say_bytes (j, "garbage", 7);
    script_say_bytes (j, "", 0);
    say_status (j, asked_before, 1);
    say_status (j, 0, 2);
    say_status (j, question->request + (1 << 11), 3);
    group_confirm (question->request, 1, NULL, 0);
    script_refuse (j, asked_before, FACTMESH__ERROR_CODE__ERROR_LIMIT, "of the question before");
    script_refuse (j, asked_before, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT, "of the question before");
    say_status (j, question->request, 7);
    say_status (j, question->request, 8);
}

static void only_what_answers_this_question_is_its_answer (void **state)
{
    (void) state;
    Factmesh__Control *reply;
    asked_before = 0;
    connect_to (answer_beside);
    assert_int_equal (ask_status (FACTMESH__ERROR_CODE__ERROR_NONE, &reply), CLI_TIMEOUT);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal (ask_status (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT, &reply), CLI_OK);
        assert_non_null (reply);
        assert_int_equal (reply->status_reply->generation, 7);
    }
}

static void chatter (void *arg)
{
    static unsigned times;
    if (times++ == 20)
        fail_msg ("it listens for ever");
    say_status (arg, 1, 0);
    script_plan (TIMEOUT_MS / 2, chatter, arg);
}

static void a_journal_that_talks_of_other_things_does_not_outlast_the_time (void **state)
{
    (void) state;
    Factmesh__Control *reply;
    connect_to (script_silence);
    script_plan (TIMEOUT_MS / 2, chatter, journal);
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (ask_status (FACTMESH__ERROR_CODE__ERROR_NONE, &reply), CLI_TIMEOUT);
    assert_int_equal (script.now_ns - began_ns, TIMEOUT_MS * SCRIPT_MS);
}

/* ------------------------------------------------------------------ facts */

static bool whole;

static void answer_fact (struct scripted *j, const Factmesh__Control *question)
{
    uint8_t bytes[512];
    Factmesh__FactReply reply = FACTMESH__FACT_REPLY__INIT;
    reply.offset = 99;
    reply.batch = control_put_slice (whole ? slice (bytes, group_batch (5, 0, bytes, sizeof bytes)) : slice_of ("garbage"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_FACT_REPLY;
    control.fact_reply = &reply;
    script_say (j, question->request, &control);
}

static void a_fact_is_there_is_not_or_is_none (void **state)
{
    (void) state;
    struct recorded r = { .bytes = NULL };
    bool found;
    connect_to (answer_fact);
    whole = true;
    assert_int_equal (recorded_get (&to, NULL, "work", "k", &r, &found), CLI_OK);
    assert_true (found);
    assert_int_equal (r.offset, 99);
    assert_int_equal (r.fact.id.seq, 5);
    assert_true (slice_equal (r.fact.payload, slice_of ("payload 5")));
    recorded_release (&r);
    const Factmesh__FactGet *get = script_last (journal, FACTMESH__CONTROL__BODY_FACT_GET)->fact_get;
    assert_true (slice_equal (control_get_slice (&get->topic), slice_of ("work")) && slice_equal (control_get_slice (&get->key), slice_of ("k")));
    whole = false;
    assert_int_equal (recorded_get (&to, NULL, "work", "k", &r, &found), CLI_ERROR);
    assert_string_equal (cli_fake.said, fm_error_text (FM_ERR_MALFORMED));
    assert_null (r.bytes);
    journal->answer = refuse;
    refusal = FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT;
    const struct fm_fact_id id = { .stream = { .bytes = { 's' } }, .seq = 5 };
    assert_int_equal (recorded_get (&to, &id, NULL, NULL, &r, &found), CLI_OK);
    assert_false (found);
    refusal = FACTMESH__ERROR_CODE__ERROR_LIMIT;
    assert_int_equal (recorded_get (&to, &id, NULL, NULL, &r, &found), CLI_ERROR);
    assert_false (found);
}

enum { LINKS = 10, PAGE = 3 };
static unsigned damaged_link;           /* 0: none */
static bool empty_pages;

/* Links of facts at offsets 1 to LINKS. */
static void answer_links (struct scripted *j, const Factmesh__Control *question)
{
    static uint8_t bytes[PAGE][512];
    Factmesh__Link links[PAGE], *pointers[PAGE];
    Factmesh__LinksReply reply = FACTMESH__LINKS_REPLY__INIT;
    reply.links = pointers;
    for (uint64_t offset = question->links_get->after_offset + 1; offset <= LINKS && reply.n_links < PAGE && !empty_pages; offset++) {
        const size_t i = reply.n_links++;
        factmesh__link__init (&links[i]);
        links[i].kind = FACTMESH__LINK_KIND__LINK_CAUSED;
        links[i].offset = offset;
        links[i].batch = control_put_slice (offset == damaged_link ? slice_of ("garbage") : slice (bytes[i], group_batch (offset, 0, bytes[i], sizeof bytes[i])));
        pointers[i] = &links[i];
    }
    reply.more = empty_pages || question->links_get->after_offset + PAGE < LINKS;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_LINKS_REPLY;
    control.links_reply = &reply;
    script_say (j, question->request, &control);
}

static void links_come_page_by_page_up_to_what_is_wanted (void **state)
{
    (void) state;
    const struct fm_fact_id id = { .stream = { .bytes = { 's' } }, .seq = 5 };
    struct recorded_link *items;
    size_t count;
    bool more;
    connect_to (answer_links);
    damaged_link = 0;
    empty_pages = false;
    for (size_t max = 1; max <= LINKS + 2; max++) {
        assert_int_equal (recorded_links (&to, &id, max, &items, &count, &more), CLI_OK);
        assert_int_equal (count, max < LINKS ? max : LINKS);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal (items[i].recorded.offset, i + 1);
            assert_int_equal (items[i].recorded.fact.id.seq, i + 1);
            recorded_release (&items[i].recorded);
        }
        free (items);
        if (max > LINKS)
            assert_false (more);
    }
    /* One that is none: nothing is handed out. */
    damaged_link = 5;
    assert_int_not_equal (recorded_links (&to, &id, 100, &items, &count, &more), CLI_OK);
    damaged_link = 0;
    /* "More", and never any. */
    empty_pages = true;
    assert_int_equal (recorded_links (&to, &id, 100, &items, &count, &more), CLI_OK);
    assert_int_equal (count, 0);
    assert_false (more);
    free (items);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

static void answer_without_a_cursor (struct scripted *j, const Factmesh__Control *question)
{
    Factmesh__CursorReply reply = FACTMESH__CURSOR_REPLY__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_REPLY;
    control.cursor_reply = &reply;
    script_say (j, question->request, &control);
}

static void a_cursor_that_is_not_there_has_no_place_and_no_filters (void **state)
{
    (void) state;
    void *bytes = NULL;
    size_t len = 7;
    struct fm_slice filters = slice_of ("before");
    connect_to (answer_without_a_cursor);
    assert_int_equal (link_cursor_bytes (&to, "none", &bytes, &len), CLI_ERROR);
    assert_string_equal (cli_fake.said, "there is no cursor 'none'; factmesh cursor ls lists them");
    assert_null (bytes);
    assert_int_equal (len, 7);
    assert_int_equal (link_cursor_filters (&to, "none", &filters), CLI_OK);
    assert_int_equal (filters.len, 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (the_journal_that_is_named_or_that_with_the_lowest_id),
        CASE (a_refusal_is_told_unless_it_is_an_answer),
        CASE (silence_is_a_time_out_and_a_signal_ends_it),
        CASE (only_what_answers_this_question_is_its_answer),
        CASE (a_journal_that_talks_of_other_things_does_not_outlast_the_time),
        CASE (a_fact_is_there_is_not_or_is_none),
        CASE (links_come_page_by_page_up_to_what_is_wanted),
        CASE (a_cursor_that_is_not_there_has_no_place_and_no_filters),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
