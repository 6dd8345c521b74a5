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

int node_add_worker (struct fm_node *node, const struct node_worker *worker)
{
    (void) node, (void) worker;
    return 0;
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

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_refusal_that_passes_is_waited_out),
        CASE (a_refusal_that_stays_is_told),
        CASE (silence_is_a_time_out),
        CASE (without_a_journal_it_is_said),
        CASE (another_journal_is_asked_when_one_has_it_not_or_damaged),
        CASE (what_is_not_what_its_name_says_is_told),
        CASE (only_what_was_asked_for_is_taken),
        CASE (a_journal_that_comes_back_elsewhere_is_found),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
