/* blob client: journals that follow a script: refusals by code, silence, what is not what was asked for, another journal that has it. */

#include "scripted_journal.h"

#include "blob.h"
#include "blob_link.h"
#include "blob_pool.h"
#include "sha256.h"

enum { TIMEOUT_MS = 12000, SIZE = 1000 };

static struct blob_pool pool;
static uint8_t content[SIZE], digest[BLOB_DIGEST_LEN];
static Factmesh__ErrorCode refusal;
static unsigned refusals;               /* how often still */

/* ------------------------------------------------------------------ what else of the node */

struct blob_pool *node_blob_pool (struct fm_node *node)
{
    (void) node;
    return &pool;
}

static bool no_workers;

int node_add_worker (struct fm_node *node, const struct node_worker *worker)
{
    (void) node, (void) worker;
    return no_workers ? -ENOMEM : 0;
}

void node_remove_worker (struct fm_node *node, void *arg)
{
    (void) node, (void) arg;
}

void node_wake (struct fm_node *node)
{
    (void) node;
}

int fm_node_wait_journal (struct fm_node *node, int timeout_ms)
{
    (void) node;
    script_pass ((unsigned) timeout_ms);
    return FM_ERR_NO_JOURNAL;
}

int fm_publish (struct fm_publisher *publisher, const struct fm_fact *fact, struct fm_fact_id *ret_id)
{
    (void) publisher, (void) fact, (void) ret_id;
    return FM_ERR_WINDOW_FULL;
}

/* ------------------------------------------------------------------ the fixture */

static int set_up (void **state)
{
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t) (i * 7 + (i >> 8));
    struct sha256 *sha;
    if (sha256_new (&sha) != 0 || sha256_add (sha, content, SIZE) != 0 || sha256_get (sha, digest) != 0)
        return -1;
    sha256_destroy (&sha);
    refusal = FACTMESH__ERROR_CODE__ERROR_NONE;
    refusals = 0;
    const int rc = script_set_up (state);
    blob_pool_init (&pool, &script);
    return rc;
}

static int tear_down (void **state)
{
    blob_pool_release (&pool);
    return script_tear_down (state);
}

static void say_data (struct scripted *j, uint64_t request, const Factmesh__BlobRead *read, const uint8_t *bytes)
{
    Factmesh__BlobData data = FACTMESH__BLOB_DATA__INIT;
    const uint64_t left = read->position < SIZE ? SIZE - read->position : 0;
    data.position = read->position;
    data.size = SIZE;
    data.data.len = (size_t) (read->length < left ? read->length : left);
    data.data.data = (uint8_t *) (uintptr_t) (data.data.len ? bytes + read->position : bytes);
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_DATA;
    control.blob_data = &data;
    script_say (j, request, &control);
}

static void say_stored (struct scripted *j, uint64_t request)
{
    Factmesh__BlobInfo info = FACTMESH__BLOB_INFO__INIT;
    Factmesh__BlobPutState state = FACTMESH__BLOB_PUT_STATE__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    info.sha256 = control_put_slice (slice (digest, sizeof digest));
    info.size = SIZE;
    state.blob = &info;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_STATE;
    control.blob_put_state = &state;
    script_say (j, request, &control);
}

static void serve (struct scripted *j, const Factmesh__Control *question)
{
    if (refusals) {
        refusals--;
        script_refuse (j, question->request, refusal, "the journal's own words");
    } else if (question->body_case == FACTMESH__CONTROL__BODY_BLOB_READ) {
        say_data (j, question->request, question->blob_read, content);
    } else if (question->body_case == FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN) {
        say_stored (j, question->request);
    }
}

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
    refusal = FACTMESH__ERROR_CODE__ERROR_DISK_FULL;
    refusals = 3;
    assert_done (put ());
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

/* ------------------------------------------------------------------ answers that lie or come late */

/* What the journal says of an upload, to each question of one kind. */
static struct {
    const char *upload;                     /* NULL: no name */
    uint64_t next, limit;
    bool wait;
    unsigned waits;                         /* so often still: wait */
    uint64_t chunk_next;                    /* what it confirms of a chunk; 0: all of it */
    bool stale;                             /* first it answers a question from before */
    bool dies;                              /* with the first chunk; and comes back later */
    bool unsynced;                          /* nothing is on its disk yet */
} says;

static void say_state (struct scripted *j, uint64_t request, uint64_t next, uint64_t synced, bool wait)
{
    Factmesh__BlobPutState state = FACTMESH__BLOB_PUT_STATE__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    if (says.upload)
        state.upload = control_put_slice (slice_of (says.upload));
    state.next = next;
    state.synced = synced;
    state.limit = says.limit;
    state.wait = wait;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_STATE;
    control.blob_put_state = &state;
    script_say (j, request, &control);
}

static uint64_t stored_bytes, last_chunk;

static void come_back (void *arg)
{
    script_listen (arg);
}

static void sync_all (void *arg)
{
    says.unsynced = false;
    say_state (arg, last_chunk, stored_bytes, stored_bytes, false);
}

static void take_upload (struct scripted *j, const Factmesh__Control *question)
{
    if (question->body_case == FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN) {
        const bool wait = says.waits > 0;
        says.waits -= wait;
        if (says.stale) {
            say_state (j, 1, 1 << 30, 0, false);
            script_refuse (j, 1, FACTMESH__ERROR_CODE__ERROR_MALFORMED, "of another question");
            say_data (j, question->request, &(Factmesh__BlobRead) FACTMESH__BLOB_READ__INIT, content);      /* no answer to it */
        }
        stored_bytes = says.next;
        say_state (j, question->request, says.next, 0, wait);
    } else if (question->body_case == FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK && says.dies) {
        says.dies = false;
        script_kill (j);
        script_plan (3000, come_back, j);
    } else if (question->body_case == FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK) {
        last_chunk = question->request;
        stored_bytes = question->blob_put_chunk->position + question->blob_put_chunk->data.len;
        say_state (j, question->request, says.chunk_next ? says.chunk_next : stored_bytes, says.unsynced ? 0 : stored_bytes, false);
    } else if (question->body_case == FACTMESH__CONTROL__BODY_BLOB_PUT_END) {
        say_stored (j, question->request);
    }
}

/* A source of so many bytes, larger than what is sent whole. */
enum { STREAM_SIZE = 3 * BLOB_WHOLE_MAX };
static uint64_t streamed, stream_size = STREAM_SIZE;

static int stream (void *arg, void *buffer, size_t size, size_t *ret_len)
{
    (void) arg;
    const uint64_t left = stream_size - streamed;
    *ret_len = size < left ? size : (size_t) left;
    if (*ret_len > 5000)
        *ret_len = 5000;
    memset (buffer, 'b', *ret_len);
    streamed += *ret_len;
    return 0;
}

static int put_stream (void)
{
    const struct fm_blob_options options = { .timeout_ms = TIMEOUT_MS };
    struct fm_blob blob;
    streamed = 0;
    return fm_blob_put (&script, stream, NULL, &options, &blob);
}

static int put_large (void)
{
    static uint8_t large[STREAM_SIZE];
    const struct fm_blob_options options = { .timeout_ms = TIMEOUT_MS };
    struct fm_blob blob;
    return fm_blob_put_bytes (&script, slice (large, sizeof large), &options, &blob);
}

static void begin_upload (void)
{
    memset (&says, 0, sizeof says);
    says.upload = "u1";
    says.limit = UINT64_MAX;
}

static void an_upload_goes_on_beside_answers_to_other_questions (void **state)
{
    (void) state;
    struct scripted *j = script_journal (take_upload);
    begin_upload ();
    says.stale = true;
    says.waits = 3;
    assert_done (put_stream ());
    assert_int_equal (stored_bytes, STREAM_SIZE);
    assert_int_equal (script_asked (j, FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN), 4);
    begin_upload ();
    says.next = STREAM_SIZE / 2;
    assert_done (put_large ());             /* what is there already is not sent */
    assert_int_equal (stored_bytes, STREAM_SIZE);
}

static void a_journal_that_lies_about_an_upload_is_told (void **state)
{
    (void) state;
    script_journal (take_upload);
    begin_upload ();
    says.upload = NULL;
    assert_int_equal (put_large (), FM_ERR_MALFORMED);
    assert_non_null (strstr (fm_error_detail (), "names no upload"));
    begin_upload ();
    says.next = STREAM_SIZE + 1;
    assert_int_equal (put_large (), FM_ERR_MALFORMED);
    assert_non_null (strstr (fm_error_detail (), "more bytes than there are"));
    begin_upload ();
    says.chunk_next = STREAM_SIZE + 1;
    assert_int_equal (put_large (), FM_ERR_MALFORMED);
    assert_non_null (strstr (fm_error_detail (), "confirms what was not sent"));
    begin_upload ();
    says.next = STREAM_SIZE + 1;            /* of a source that can't be read again */
    assert_int_equal (put_stream (), -EIO);
    assert_non_null (strstr (fm_error_detail (), "store it again"));
}

static void a_source_that_fails_and_a_type_that_is_too_long_are_told (void **state)
{
    (void) state;
    char type[1000];
    memset (type, 't', sizeof type - 1);
    type[sizeof type - 1] = '\0';
    const struct fm_blob_options options = { .media_type = type };
    struct fm_blob blob;
    assert_int_equal (fm_blob_put_bytes (&script, slice (content, SIZE), &options, &blob), FM_ERR_TOO_LARGE);
    assert_int_equal (fm_blob_put (&script, stream, NULL, &options, &blob), FM_ERR_TOO_LARGE);
}

static int fail_to_read (void *arg, void *buffer, size_t size, size_t *ret_len)
{
    (void) arg, (void) buffer, (void) size, (void) ret_len;
    return error_set (-EIO, "the source's own words");
}

static void the_sources_error_is_the_callers (void **state)
{
    (void) state;
    struct fm_blob blob;
    assert_int_equal (fm_blob_put (&script, fail_to_read, NULL, NULL, &blob), -EIO);
    assert_string_equal (fm_error_detail (), "the source's own words");
}

static void an_upload_goes_on_when_its_journal_is_back (void **state)
{
    (void) state;
    struct scripted *j = script_journal (take_upload);
    begin_upload ();
    says.dies = true;
    assert_done (put_large ());
    assert_int_equal (stored_bytes, STREAM_SIZE);
    assert_int_equal (j->incarnation, 2);
}

/* Of a source that can't be read again what no disk has is kept, and no more than that is read. */
static void no_more_is_read_than_can_be_kept_until_it_is_synced (void **state)
{
    enum { KEPT = 16 << 20 };
    (void) state;
    struct scripted *j = script_journal (take_upload);
    begin_upload ();
    says.unsynced = true;
    stream_size = KEPT + 1000000;
    script_plan (2000, sync_all, j);
    const uint64_t began_ns = script.now_ns;
    assert_done (put_stream ());
    assert_int_equal (stored_bytes, stream_size);
    assert_true (script.now_ns - began_ns >= 2000 * SCRIPT_MS);
    stream_size = STREAM_SIZE;
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

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

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
        CASE (an_upload_goes_on_beside_answers_to_other_questions),
        CASE (a_journal_that_lies_about_an_upload_is_told),
        CASE (a_source_that_fails_and_a_type_that_is_too_long_are_told),
        CASE (the_sources_error_is_the_callers),
        CASE (an_upload_goes_on_when_its_journal_is_back),
        CASE (no_more_is_read_than_can_be_kept_until_it_is_synced),
        CASE (what_comes_in_pieces_is_asked_for_on_and_on),
        CASE (who_asks_about_a_blob_asks_again_and_takes_no_other),
        CASE (a_payload_is_as_long_as_its_pointer_says),
        CASE (without_memory_connections_are_not_kept),
        CASE (of_several_journals_the_one_with_the_lowest_id_stores),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
