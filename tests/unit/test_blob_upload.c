/* blob client: an upload to journals that follow a script: answers that lie, that come late, that make it wait; what is read, kept and sent meanwhile. */

#include "scripted_blob.h"

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

/* The source's end shows only when it is asked for more. */
static void a_source_that_ends_with_a_block_is_ended (void **state)
{
    (void) state;
    struct scripted *j = script_journal (take_upload);
    begin_upload ();
    stream_size = 2 * BLOB_BLOCK;
    assert_done (put_stream ());
    assert_int_equal (stored_bytes, 2 * BLOB_BLOCK);
    assert_int_equal (script_last (j, FACTMESH__CONTROL__BODY_BLOB_PUT_END)->blob_put_end->size, 2 * BLOB_BLOCK);
    stream_size = STREAM_SIZE;
}

static void raise_the_limit (void *arg)
{
    assert_int_equal (stored_bytes, BLOB_BLOCK);
    says.limit = UINT64_MAX;
    say_state (arg, last_chunk, stored_bytes, stored_bytes, false);
}

static void no_more_is_sent_than_the_journal_takes (void **state)
{
    (void) state;
    struct scripted *j = script_journal (take_upload);
    begin_upload ();
    says.limit = BLOB_BLOCK;
    stream_size = 3 * BLOB_BLOCK;
    script_plan (500, raise_the_limit, j);
    const uint64_t began_ns = script.now_ns;
    assert_done (put_stream ());
    assert_int_equal (stored_bytes, stream_size);
    assert_true (script.now_ns - began_ns >= 500 * SCRIPT_MS);
    stream_size = STREAM_SIZE;
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

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (an_upload_goes_on_beside_answers_to_other_questions),
        CASE (a_journal_that_lies_about_an_upload_is_told),
        CASE (a_source_that_fails_and_a_type_that_is_too_long_are_told),
        CASE (the_sources_error_is_the_callers),
        CASE (an_upload_goes_on_when_its_journal_is_back),
        CASE (a_source_that_ends_with_a_block_is_ended),
        CASE (no_more_is_sent_than_the_journal_takes),
        CASE (no_more_is_read_than_can_be_kept_until_it_is_synced),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
