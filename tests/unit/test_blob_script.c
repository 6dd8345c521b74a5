/* blob client: journals that follow a script: refusals by code, silence, what is not what was asked for, another journal that has it. */

#include "scripted_blob.h"

static void has_nothing (struct scripted *j, const Factmesh__Control *question)
{
    script_refuse (j, question->request, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_BLOB, "not here");
}

static void is_damaged (struct scripted *j, const Factmesh__Control *question)
{
    script_refuse (j, question->request, FACTMESH__ERROR_CODE__ERROR_BLOB_DAMAGED, "damaged here");
}

static void lies (struct scripted *j, const Factmesh__Control *question)
{
    static const uint8_t others[SIZE] = { 'x' };
    if (question->body_case == FACTMESH__CONTROL__BODY_BLOB_READ)
        say_data (j, question->request, question->blob_read, others);
}

/* Everything but what was asked for, and then that. */
static void serve_beside (struct scripted *j, const Factmesh__Control *question)
{
    if (question->body_case != FACTMESH__CONTROL__BODY_BLOB_READ)
        return;
    Factmesh__BlobRead further = *question->blob_read;
    further.position += 10;
    script_say_bytes (j, "garbage", 7);
    script_refuse (j, question->request - (1 << 11), FACTMESH__ERROR_CODE__ERROR_UNKNOWN_BLOB, "of the question before");
    say_stored (j, question->request);
    say_data (j, question->request, &further, content);
    say_data (j, question->request, question->blob_read, content);
    say_data (j, question->request, question->blob_read, content);
}

static size_t got;

static int take (void *arg, const void *data, size_t len)
{
    (void) arg;
    assert_true (len <= SIZE - got);
    if (memcmp (data, content + got, len) != 0)
        got = SIZE;                     /* a lie: its digest will tell */
    else
        got += len;
    return 0;
}

static int get (void)
{
    const struct fm_blob_options options = { .timeout_ms = TIMEOUT_MS };
    got = 0;
    return fm_blob_get (&script, digest, take, NULL, &options, NULL);
}

static int put (void)
{
    const struct fm_blob_options options = { .timeout_ms = TIMEOUT_MS };
    struct fm_blob blob;
    return fm_blob_put_bytes (&script, slice (content, SIZE), &options, &blob);
}

/* ------------------------------------------------------------------ cases */

static void of_more_journals_than_may_be_asked_some_are_in_the_order_of_their_ids (void **state)
{
    enum { MAX = 2 };
    static const uint8_t members[] = { 10, 9, 9, 8 };           /* the 9 was killed, and stands beside its successor: one journal */
    (void) state;
    struct blob_link link;
    struct fm_id ids[MAX + 1] = { 0 };
    size_t count = 0;
    for (size_t i = 0; i < sizeof members; i++)
        script_journal (serve)->id.bytes[1] = members[i];
    blob_link_init (&link, &script, NULL);
    assert_done (blob_link_journals (&link, ids, MAX, &count));
    assert_int_equal (count, MAX);
    assert_int_equal (ids[0].bytes[1], 9);
    assert_int_equal (ids[1].bytes[1], 10);
    assert_int_equal (ids[2].bytes[0], 0);
    /* Of those whose id begins so there is one. */
    const struct fm_blob_options named = { .journal = "4a08" };
    blob_link_init (&link, &script, &named);
    assert_done (blob_link_journals (&link, ids, MAX, &count));
    assert_int_equal (count, 1);
    assert_int_equal (ids[0].bytes[1], 8);
    /* Of the two processes the younger one lives. */
    script.journals[1].started_ns = 2;
    script.journals[2].started_ns = 1;
    assert_done (blob_link_connect (&link, &script.journals[1].id));
    assert_int_equal (link.peer.bytes[1], 1);
    /* One that went meanwhile. */
    script_kill (&script.journals[3]);
    assert_int_equal (blob_link_connect (&link, &script.journals[3].id), FM_ERR_UNKNOWN);
    assert_int_equal (link.problem, FM_ERR_UNKNOWN);
    assert_null (link.client);
    blob_link_release (&link, false);
}

static void a_refusal_that_passes_is_waited_out (void **state)
{
    static const Factmesh__ErrorCode codes[] = { FACTMESH__ERROR_CODE__ERROR_LIMIT, FACTMESH__ERROR_CODE__ERROR_INTERNAL, FACTMESH__ERROR_CODE__ERROR_TIMEOUT,
                                                 FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL };
    (void) state;
    script_journal (serve);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        refusal = codes[i];
        refusals = 3;
        assert_done (get ());
        assert_int_equal (got, SIZE);
        assert_int_equal (refusals, 0);
        refusals = 3;
        assert_done (put ());
        assert_int_equal (refusals, 0);
    }
    /* The disk may have room again; an upload that was swept is begun anew. */
    static const Factmesh__ErrorCode of_uploads[] = { FACTMESH__ERROR_CODE__ERROR_DISK_FULL, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD };
    for (size_t i = 0; i < sizeof of_uploads / sizeof of_uploads[0]; i++) {
        refusal = of_uploads[i];
        refusals = 3;
        assert_done (put ());
        assert_int_equal (refusals, 0);
    }
}

static void a_refusal_that_stays_is_told (void **state)
{
    static const struct {
        Factmesh__ErrorCode code;
        int get, put;
    } cases[] = {
        { FACTMESH__ERROR_CODE__ERROR_MALFORMED, FM_ERR_MALFORMED, FM_ERR_MALFORMED },
        { FACTMESH__ERROR_CODE__ERROR_VERSION, FM_ERR_VERSION, FM_ERR_VERSION },
        { FACTMESH__ERROR_CODE__ERROR_MESH, FM_ERR_MESH, FM_ERR_MESH },
        { FACTMESH__ERROR_CODE__ERROR_RANGE, FM_TIMEOUT, FM_ERR_TOO_LARGE },
        { FACTMESH__ERROR_CODE__ERROR_DISK_FULL, -ENOSPC, -ENOSPC },
        { FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL, FM_ERR_NO_JOURNAL, FM_ERR_NO_JOURNAL },
        { FACTMESH__ERROR_CODE__ERROR_LIMIT, FM_TIMEOUT, FM_TIMEOUT },
        { FACTMESH__ERROR_CODE__ERROR_UNKNOWN_BLOB, FM_ERR_UNKNOWN, FM_ERR_UNKNOWN },
        { FACTMESH__ERROR_CODE__ERROR_BLOB_DAMAGED, FM_ERR_CORRUPT, FM_ERR_CORRUPT },
    };
    (void) state;
    script_journal (serve);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refusal = cases[i].code;
        refusals = UINT32_MAX;
        const int got_rc = get (), put_rc = put ();
        if (got_rc != cases[i].get || put_rc != cases[i].put)
            fail_msg ("code %d: get %s, put %s", (int) cases[i].code, fm_error_text (got_rc), fm_error_text (put_rc));
    }
}

static void silence_is_a_time_out (void **state)
{
    (void) state;
    struct scripted *j = script_journal (script_silence);
    const uint64_t began_ns = script.now_ns;
    assert_int_equal (get (), FM_TIMEOUT);
    assert_in_range (script.now_ns - began_ns, TIMEOUT_MS * SCRIPT_MS, (TIMEOUT_MS + 200) * SCRIPT_MS);
    assert_in_range (j->connections, 2, 1 + TIMEOUT_MS / BLOB_SILENT_MS);       /* connected to anew */
    assert_int_equal (put (), FM_TIMEOUT);
}

static void without_a_journal_it_is_said (void **state)
{
    (void) state;
    assert_int_equal (get (), FM_ERR_NO_JOURNAL);
    assert_int_equal (put (), FM_ERR_NO_JOURNAL);
}

static void another_journal_is_asked_when_one_has_it_not_or_damaged (void **state)
{
    (void) state;
    struct scripted *first = script_journal (has_nothing);
    assert_int_equal (get (), FM_ERR_UNKNOWN);
    struct scripted *second = script_journal (is_damaged);
    assert_int_equal (get (), FM_ERR_CORRUPT);
    struct scripted *third = script_journal (serve);
    assert_done (get ());
    assert_int_equal (got, SIZE);
    assert_true (first->question_count && second->question_count && third->question_count);
}

static void what_is_not_what_its_name_says_is_told (void **state)
{
    (void) state;
    script_journal (lies);
    assert_int_equal (get (), FM_ERR_CORRUPT);
}

static void only_what_was_asked_for_is_taken (void **state)
{
    (void) state;
    script_journal (serve_beside);
    assert_done (get ());
    assert_int_equal (got, SIZE);
    assert_done (get ());               /* the same connection: what came twice is old */
    assert_int_equal (got, SIZE);
}

static void listen_again (void *arg)
{
    script_listen (arg);
}

static void a_journal_that_comes_back_elsewhere_is_found (void **state)
{
    (void) state;
    struct scripted *j = script_journal (serve);
    assert_done (get ());
    script_kill (j);
    script_plan (3000, listen_again, j);
    assert_done (get ());
    assert_int_equal (got, SIZE);
    assert_int_equal (j->incarnation, 2);
}

/* Nothing at first, then byte by byte. */
static unsigned pieces;

static void serve_in_pieces (struct scripted *j, const Factmesh__Control *question)
{
    if (question->body_case != FACTMESH__CONTROL__BODY_BLOB_READ)
        return;
    Factmesh__BlobRead some = *question->blob_read;
    some.length = pieces++ == 0 ? 0 : 100;
    say_data (j, question->request, &some, content);
}

/* A piece; and beside the next one the refusal of a question that was given up for it. */
static uint64_t asked_first;

static void serve_and_refuse_late (struct scripted *j, const Factmesh__Control *question)
{
    if (question->body_case != FACTMESH__CONTROL__BODY_BLOB_READ)
        return;
    Factmesh__BlobRead some = *question->blob_read;
    if (asked_first)
        script_refuse (j, asked_first, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_BLOB, "of before");
    else
        some.length = 100;
    asked_first = question->request;
    say_data (j, question->request, &some, content);
}

static void what_was_asked_before_the_last_piece_is_not_heard (void **state)
{
    (void) state;
    struct scripted *j = script_journal (serve_and_refuse_late);
    asked_first = 0;
    assert_done (get ());
    assert_int_equal (got, SIZE);
    assert_int_equal (script_asked (j, FACTMESH__CONTROL__BODY_BLOB_READ), 2);
}

static void what_comes_in_pieces_is_asked_for_on_and_on (void **state)
{
    (void) state;
    struct scripted *j = script_journal (serve_in_pieces);
    pieces = 0;
    assert_done (get ());
    assert_int_equal (got, SIZE);
    assert_in_range (script_asked (j, FACTMESH__CONTROL__BODY_BLOB_READ), SIZE / 100, 3 * SIZE / 100);
}

static void say_info (struct scripted *j, uint64_t request, bool of_another)
{
    Factmesh__BlobInfo info = FACTMESH__BLOB_INFO__INIT, *infos[] = { &info };
    Factmesh__BlobReply reply = FACTMESH__BLOB_REPLY__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    uint8_t other[BLOB_DIGEST_LEN] = { 1 };
    info.sha256 = control_put_slice (slice (of_another ? other : digest, sizeof digest));
    info.size = SIZE;
    reply.blobs = infos;
    reply.n_blobs = 1;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_REPLY;
    control.blob_reply = &reply;
    script_say (j, request, &control);
}

static unsigned stats;

static void answer_the_third_stat (struct scripted *j, const Factmesh__Control *question)
{
    if (question->body_case == FACTMESH__CONTROL__BODY_BLOB_STAT && ++stats >= 3)
        say_info (j, question->request, false);
}

static void tell_of_another (struct scripted *j, const Factmesh__Control *question)
{
    say_info (j, question->request, true);
}

/* It waits for another's upload. Asked again it says where an upload stands, but of the question that it told to wait; the answer to this one follows. */
static uint64_t told_to_wait, asked_last;

static void say_stored_at_last (void *arg)
{
    say_stored (arg, asked_last);
}

static void answer_the_first_open_late (struct scripted *j, const Factmesh__Control *question)
{
    Factmesh__BlobPutState state = FACTMESH__BLOB_PUT_STATE__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_STATE;
    control.blob_put_state = &state;
    if (question->body_case != FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN)
        return;
    asked_last = question->request;
    state.wait = !told_to_wait;
    state.upload = control_put_slice (slice_of ("key"));
    state.limit = SIZE;
    if (told_to_wait)
        script_plan (100, say_stored_at_last, j);
    else
        told_to_wait = asked_last;
    script_say (j, told_to_wait, &control);
}

static void an_upload_does_not_go_by_an_answer_to_an_earlier_question (void **state)
{
    (void) state;
    struct scripted *j = script_journal (answer_the_first_open_late);
    told_to_wait = 0;
    assert_done (put ());
    assert_int_equal (script_asked (j, FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN), 2);
    assert_int_equal (script_asked (j, FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK), 0);
}

static void who_asks_about_a_blob_asks_again_and_takes_no_other (void **state)
{
    (void) state;
    const struct fm_blob_options options = { .timeout_ms = TIMEOUT_MS };
    struct fm_blob_info info;
    struct scripted *j = script_journal (answer_the_third_stat);
    stats = 0;
    assert_done (fm_blob_stat (&script, digest, &options, &info));
    assert_int_equal (info.blob.size, SIZE);
    assert_int_equal (script_asked (j, FACTMESH__CONTROL__BODY_BLOB_STAT), 3);
    j->answer = script_silence;
    assert_int_equal (fm_blob_stat (&script, digest, &options, &info), FM_TIMEOUT);
    assert_true (j->connections >= 2);
    j->answer = tell_of_another;
    assert_int_equal (fm_blob_stat (&script, digest, &options, &info), FM_ERR_MALFORMED);
}

/* A fact's pointer and the blob are of different sizes: neither more nor less than the pointer says is handed out. */
static void a_payload_is_as_long_as_its_pointer_says (void **state)
{
    (void) state;
    script_journal (serve);
    const struct fm_fact whole = { .topic = fm_text ("a"), .payload = fm_text ("itself") };
    void *nothing = &script;
    struct fm_slice itself;
    assert_done (fm_fact_payload (&script, &whole, 1, NULL, &nothing, &itself));    /* as it came, whatever its size */
    assert_null (nothing);
    assert_ptr_equal (itself.data, whole.payload.data);
    for (int more = -1; more <= 1; more++) {
        struct fm_blob blob = { .size = (uint64_t) (SIZE + more) };
        struct fm_fact fact = { .topic = fm_text ("a") };
        uint8_t ref[FM_BLOB_REF];
        void *buffer = NULL;
        struct fm_slice payload;
        memcpy (blob.sha256, digest, sizeof digest);
        assert_done (fm_blob_ref (&blob, ref, sizeof ref, &fact.blob));
        const int rc = fm_fact_payload (&script, &fact, 2 * SIZE, NULL, &buffer, &payload);
        assert_int_equal (rc, more ? FM_ERR_CORRUPT : 0);
        if (rc == 0)
            assert_memory_equal (payload.data, content, SIZE);
        free (buffer);
    }
}

static void a_payload_that_is_too_large_for_a_fact_is_stored_and_pointed_to (void **state)
{
    (void) state;
    struct scripted *j = script_journal (serve);
    struct fm_publisher publisher = { .node = &script, .payload_max = SIZE };
    struct fm_fact fact = { .topic = fm_text ("a"), .content_type = fm_text ("image/png"), .payload = slice (content, SIZE) };
    struct fm_blob blob;
    published = 0;
    assert_int_equal (fm_publish_large (&publisher, &fact, 0, NULL, NULL), FM_ERR_WINDOW_FULL);     /* it just fits */
    assert_int_equal (published_len, SIZE);
    assert_int_equal (published_ref_len, 0);
    assert_int_equal (j->question_count, 0);
    const struct fm_blob_options named = { .media_type = "its/own" };
    for (int i = 0; i < 2; i++) {
        publisher.payload_max = i ? SIZE : SIZE - 1;
        assert_int_equal (fm_publish_large (&publisher, &fact, i ? 10 : 0, i ? &named : NULL, NULL), FM_ERR_WINDOW_FULL);
        assert_int_equal (published_len, 0);
        fact.blob = slice (published_ref, published_ref_len);
        assert_done (fm_fact_blob (&fact, &blob));
        assert_memory_equal (blob.sha256, digest, sizeof digest);
        assert_int_equal (blob.size, SIZE);
        const Factmesh__BlobPutOpen *open = script_last (j, FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN)->blob_put_open;
        assert_true (slice_equal (control_get_slice (&open->media_type), slice_of (i ? "its/own" : "image/png")));
        fact.blob.len = 0;
    }
    fact.blob = slice (published_ref, published_ref_len);
    assert_int_equal (fm_publish_large (&publisher, &fact, 10, NULL, NULL), FM_ERR_ARGUMENT);
    refusal = FACTMESH__ERROR_CODE__ERROR_VERSION;
    refusals = 1;
    fact.blob.len = 0;
    assert_int_equal (fm_publish_large (&publisher, &fact, 10, NULL, NULL), FM_ERR_VERSION);
    assert_int_equal (published, 3);
}

/* Its node cannot look after it: it is closed, and the next blob goes over a new one. */
static void without_memory_connections_are_not_kept (void **state)
{
    (void) state;
    struct scripted *j = script_journal (serve);
    no_workers = true;
    assert_done (get ());
    assert_done (get ());
    assert_int_equal (j->connections, 2);
    no_workers = false;
    assert_done (get ());
    assert_done (get ());
    assert_int_equal (j->connections, 3);
}

static void of_several_journals_the_one_with_the_lowest_id_stores (void **state)
{
    (void) state;
    struct scripted *first = script_journal (has_nothing);
    script_journal (serve);
    first->id.bytes[1] = 200;
    assert_done (put ());
    assert_int_equal (first->question_count, 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (of_more_journals_than_may_be_asked_some_are_in_the_order_of_their_ids),
        CASE (a_refusal_that_passes_is_waited_out),
        CASE (a_refusal_that_stays_is_told),
        CASE (silence_is_a_time_out),
        CASE (without_a_journal_it_is_said),
        CASE (another_journal_is_asked_when_one_has_it_not_or_damaged),
        CASE (what_is_not_what_its_name_says_is_told),
        CASE (only_what_was_asked_for_is_taken),
        CASE (a_journal_that_comes_back_elsewhere_is_found),
        CASE (what_was_asked_before_the_last_piece_is_not_heard),
        CASE (what_comes_in_pieces_is_asked_for_on_and_on),
        CASE (an_upload_does_not_go_by_an_answer_to_an_earlier_question),
        CASE (who_asks_about_a_blob_asks_again_and_takes_no_other),
        CASE (a_payload_is_as_long_as_its_pointer_says),
        CASE (a_payload_that_is_too_large_for_a_fact_is_stored_and_pointed_to),
        CASE (without_memory_connections_are_not_kept),
        CASE (of_several_journals_the_one_with_the_lowest_id_stores),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
