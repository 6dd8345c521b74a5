/* blobs: the thread, on a node without sockets: what is refused and with which code, whose an upload is, what a full disk and a silent asker leave;
 * and what goes when nobody needs it. */

#include "fake_journal.h"

#include "blobs.h"
#include "factmesh.pb-c.h"
#include "sha256.h"

enum { SIZE_MAX_HERE = 100 << 20 };

struct setting {
    struct fake_journal j;
    struct blobs *blobs;
    uint8_t block[BLOB_BLOCK];
    uint8_t digest[BLOB_DIGEST_LEN];    /* of one block */
};

static void start (struct setting *s)
{
    assert_int_equal (blobs_new (&s->j.context, s->j.directory, &s->blobs), 0);
}

static int set_up (void **state)
{
    struct setting *s = calloc (1, sizeof *s);
    struct sha256 *sha256;
    assert_non_null (s);
    for (size_t i = 0; i < sizeof s->block; i++)
        s->block[i] = (uint8_t) (i * 7 + i / 256);
    assert_int_equal (sha256_new (&sha256), 0);
    assert_int_equal (sha256_add (sha256, s->block, sizeof s->block), 0);
    assert_int_equal (sha256_get (sha256, s->digest), 0);
    sha256_destroy (&sha256);
    fake_begin (&s->j);
    s->j.fs = fail_fs_new ();
    assert_int_equal (fake_open (&s->j), 0);
    s->j.context.options.blob_size_max = SIZE_MAX_HERE;
    s->j.context.options.log.fs = fail_fs_seam (s->j.fs);
    start (s);
    *state = s;
    return 0;
}

static int tear_down (void **state)
{
    struct setting *s = *state;
    blobs_destroy (&s->blobs);
    fake_end (&s->j);
    free (s);
    return 0;
}

/* --- Saying. */

static struct fm_slice digest_of (const struct setting *s)
{
    return slice (s->digest, BLOB_DIGEST_LEN);
}

static void say_open (uint8_t from, const char *name, struct fm_slice sha256, uint64_t size, struct fm_slice content)
{
    Factmesh__BlobPutOpen m = FACTMESH__BLOB_PUT_OPEN__INIT;
    m.upload = control_put_slice (slice_of (name));
    m.sha256 = control_put_slice (sha256);
    m.size = size;
    m.content = control_put_slice (content);
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN;
    control.blob_put_open = &m;
    assert_int_equal (fake_hand_over (from, &control), 0);
}

static void open_named (uint8_t from, const char *name)
{
    say_open (from, name, slice ("", 0), 0, slice ("", 0));
}

static void say_block (struct setting *s, const char *name, uint64_t block)
{
    Factmesh__BlobPutChunk m = FACTMESH__BLOB_PUT_CHUNK__INIT;
    m.upload = control_put_slice (slice_of (name));
    m.position = block * BLOB_BLOCK;
    m.data = control_put_slice (slice (s->block, sizeof s->block));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK;
    control.blob_put_chunk = &m;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

static void say_end (const char *name, struct fm_slice sha256, uint64_t size, bool give_up)
{
    Factmesh__BlobPutEnd m = FACTMESH__BLOB_PUT_END__INIT;
    m.upload = control_put_slice (slice_of (name));
    m.sha256 = control_put_slice (sha256);
    m.size = size;
    m.give_up = give_up;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_END;
    control.blob_put_end = &m;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

static const Factmesh__BlobPutState *expect_state (bool wait, uint64_t next)
{
    const Factmesh__BlobPutState *state = fake_wait_reply (FACTMESH__CONTROL__BODY_BLOB_PUT_STATE)->blob_put_state;
    assert_int_equal (state->wait, wait);
    assert_int_equal (state->next, next);
    return state;
}

static void expect_stored (const struct setting *s)
{
    const Factmesh__BlobPutState *state = expect_state (false, 0);
    assert_non_null (state->blob);
    assert_true (slice_equal (control_get_slice (&state->blob->sha256), digest_of (s)));
}

static void expect_refused (Factmesh__ErrorCode code, const char *words)
{
    const Factmesh__Error *e = fake_wait_reply (FACTMESH__CONTROL__BODY_ERROR)->error;
    if (e->code != code || !memmem (e->text.data, e->text.len, words, strlen (words)))
        fail_msg ("error %d '%.*s', where %d with '%s' was expected", (int) e->code, (int) e->text.len, (const char *) e->text.data, (int) code, words);
}

static uint64_t counted (struct setting *s, enum journal_counter counter)
{
    return journal_counter (&s->j.context, counter);
}

/* The clock goes on, and the thread has looked at it and at all uploads. */
static void skip_ms (struct setting *s, uint64_t ms)
{
    struct wake *wake = &s->j.context.bells[BELL_BLOBS].wake;
    fake.skipped_ns += ms * FAKE_NS_PER_MS;
    /* It clears the bell when a round begins: the second time, one has ended that began after this. */
    for (int rounds = 0; rounds < 2; rounds++) {
        struct pollfd rings = { .fd = wake->fd, .events = POLLIN };
        wake_raise (wake);
        while (poll (&rings, 1, 0) > 0)
            (void) poll (NULL, 0, 1);
    }
}

/* --- What is refused. */

static void what_is_no_upload_is_refused_by_its_code (void **state)
{
    struct setting *s = *state;
    const struct fm_slice none = slice ("", 0), block = slice (s->block, sizeof s->block);
    uint8_t wrong[BLOB_DIGEST_LEN] = { 1 };
    open_named ('a', "");
    expect_refused (FACTMESH__ERROR_CODE__ERROR_MALFORMED, "an upload needs a name or a SHA-256");
    open_named ('a', "a name of more than thirty-two bytes");
    expect_refused (FACTMESH__ERROR_CODE__ERROR_RANGE, "an upload's name has 1 to 32 bytes");
    say_open ('a', "", digest_of (s), SIZE_MAX_HERE + 1, none);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_RANGE, "a blob may have 104857600 bytes here, not 104857601");
    say_open ('a', "n", none, sizeof s->block, block);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_MALFORMED, "a content comes with its SHA-256");
    say_open ('a', "n", slice (wrong, sizeof wrong), sizeof s->block, block);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_BLOB_DIGEST, "the upload's SHA-256 is");
    say_open ('a', "n", digest_of (s), sizeof s->block - 1, block);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_BLOB_DIGEST, "the upload has 262144 bytes, not the 262143");
    assert_int_equal (counted (s, JOURNAL_BLOBS_REFUSED), 2);
    assert_int_equal (counted (s, JOURNAL_REQUESTS_REFUSED), 6);
    assert_int_equal (counted (s, JOURNAL_BLOBS_STORED), 0);
    /* As many as may be open, and one more. */
    char name[32];
    for (int i = 0; i <= BLOB_UPLOADS_MAX; i++) {
        (void) snprintf (name, sizeof name, "upload %d", i);
        open_named ('a', name);
        if (i < BLOB_UPLOADS_MAX)
            (void) expect_state (false, 0);
    }
    expect_refused (FACTMESH__ERROR_CODE__ERROR_LIMIT, "64 uploads are open; try again later");
    say_end (name, none, 0, true);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD, "no such upload is open for you");
}

static void a_list_goes_on_behind_a_digest_and_nothing_else (void **state)
{
    (void) state;
    Factmesh__BlobList m = FACTMESH__BLOB_LIST__INIT;
    m.after = control_put_slice (slice_of ("short"));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_LIST;
    control.blob_list = &m;
    assert_int_equal (fake_hand_over ('a', &control), 0);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_MALFORMED, "a list goes on behind a SHA-256");
}

/* --- The end of an upload. */

static void an_upload_that_is_given_up_or_is_not_what_was_said_is_forgotten (void **state)
{
    struct setting *s = *state;
    uint8_t wrong[BLOB_DIGEST_LEN] = { 1 };
    const struct {
        struct fm_slice sha256;
        uint64_t size;
        bool give_up;
        Factmesh__ErrorCode code;
        const char *words;
    } cases[] = {
        { slice ("", 0), 0, true, 0, NULL },
        { slice (wrong, sizeof wrong), BLOB_BLOCK, false, FACTMESH__ERROR_CODE__ERROR_BLOB_DIGEST, "the upload's SHA-256 is" },
        { digest_of (s), BLOB_BLOCK + 1, false, FACTMESH__ERROR_CODE__ERROR_BLOB_DIGEST, "the upload has 262144 bytes, not the 262145" },
        { slice ("", 0), BLOB_BLOCK, false, FACTMESH__ERROR_CODE__ERROR_MALFORMED, "the end of an upload says its SHA-256" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_named ('a', "u");
        (void) expect_state (false, 0);
        say_block (s, "u", 0);
        (void) expect_state (false, BLOB_BLOCK);
        say_end ("u", cases[i].sha256, cases[i].size, cases[i].give_up);
        if (cases[i].words)
            expect_refused (cases[i].code, cases[i].words);
        say_block (s, "u", 1);
        expect_refused (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD, "open it again");
    }
    assert_int_equal (counted (s, JOURNAL_BLOBS_REFUSED), 2);
    open_named ('a', "u");
    (void) expect_state (false, 0);
    say_block (s, "u", 0);
    (void) expect_state (false, BLOB_BLOCK);
    say_end ("u", digest_of (s), BLOB_BLOCK, false);
    expect_stored (s);
}

static void a_full_disk_leaves_an_upload_as_it_is (void **state)
{
    struct setting *s = *state;
    open_named ('a', "u");
    (void) expect_state (false, 0);
    fail_fs_no_room (s->j.fs, true);
    open_named ('a', "v");
    expect_refused (FACTMESH__ERROR_CODE__ERROR_DISK_FULL, "No space left on device");
    fail_fs_no_room (s->j.fs, false);
    fail_fs_disk_full (s->j.fs, true);
    say_block (s, "u", 0);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_DISK_FULL, "No space left on device");
    fail_fs_disk_full (s->j.fs, false);
    /* It was taken into the buffer. */
    open_named ('a', "u");
    (void) expect_state (false, BLOB_BLOCK);
    fail_fs_disk_full (s->j.fs, true);
    say_end ("u", digest_of (s), BLOB_BLOCK, false);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_DISK_FULL, "No space left on device");
    fail_fs_disk_full (s->j.fs, false);
    say_end ("u", digest_of (s), BLOB_BLOCK, false);
    expect_stored (s);
    assert_int_equal (counted (s, JOURNAL_BLOBS_STORED), 1);
}

static void an_upload_whose_disk_fails_is_begun_anew (void **state)
{
    struct setting *s = *state;
    open_named ('a', "u");
    (void) expect_state (false, 0);
    fail_fs_fail (s->j.fs, FAIL_WRITE, 1, -EIO);
    say_block (s, "u", 0);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_INTERNAL, "Input/output error");
    say_block (s, "u", 0);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD, "open it again");
    open_named ('a', "u");
    (void) expect_state (false, 0);
    say_block (s, "u", 0);
    (void) expect_state (false, BLOB_BLOCK);
    say_end ("u", digest_of (s), BLOB_BLOCK, false);
    expect_stored (s);
    /* It is there, and can't be looked at now. */
    fail_fs_fail (s->j.fs, FAIL_READ, 1, -ENXIO);
    say_open ('a', "", digest_of (s), BLOB_BLOCK, slice ("", 0));
    expect_refused (FACTMESH__ERROR_CODE__ERROR_INTERNAL, "No such device or address");
    fail_fs_fail (s->j.fs, FAIL_READ, 1, -ENXIO);
    say_open ('a', "", digest_of (s), BLOB_BLOCK, slice (s->block, sizeof s->block));
    expect_refused (FACTMESH__ERROR_CODE__ERROR_INTERNAL, "No such device or address");
    say_open ('a', "", digest_of (s), BLOB_BLOCK, slice ("", 0));
    expect_stored (s);
}

/* --- Whose it is. */

static void an_upload_is_its_askers_until_that_is_silent_or_gone (void **state)
{
    struct setting *s = *state;
    open_named ('a', "u");
    (void) expect_state (false, 0);
    say_block (s, "u", 0);
    (void) expect_state (false, BLOB_BLOCK);
    open_named ('b', "u");
    /* Asked whether it is there, which is not answered; and who came later is to wait. */
    (void) expect_state (false, 0);
    (void) expect_state (true, 0);
    fake_let_replies (0, 0, 'a');
    open_named ('b', "u");
    (void) expect_state (false, BLOB_BLOCK);
    fake_let_replies (0, 0, 0);
    say_block (s, "u", 1);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD, "no such upload is open for you");
    skip_ms (s, BLOBS_TAKEOVER_MS);
    open_named ('a', "u");
    (void) expect_state (false, BLOB_BLOCK);
}

/* What HTTP has open. */
static void an_upload_that_another_way_in_has_open_is_to_wait (void **state)
{
    struct setting *s = *state;
    struct blob_upload *other;
    assert_int_equal (blob_upload_open (blobs_store (s->blobs), slice_of ("u"), slice ("", 0), &other), 0);
    open_named ('a', "u");
    assert_int_equal (expect_state (true, 0)->upload.len, 0);
    blob_upload_close (&other);
    open_named ('a', "u");
    assert_int_equal (expect_state (false, 0)->upload.len, 1);
}

/* Its file stays, for whoever goes on: after a restart of the journal, too. */
static void an_upload_without_a_word_is_put_to_rest_and_can_be_gone_on_with (void **state)
{
    struct setting *s = *state;
    open_named ('a', "u");
    (void) expect_state (false, 0);
    say_block (s, "u", 0);
    (void) expect_state (false, BLOB_BLOCK);
    skip_ms (s, BLOBS_IDLE_MS);
    say_block (s, "u", 1);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD, "open it again");
    open_named ('b', "u");
    (void) expect_state (false, BLOB_BLOCK);
    blobs_destroy (&s->blobs);
    start (s);
    open_named ('a', "u");
    (void) expect_state (false, BLOB_BLOCK);
    say_end ("u", digest_of (s), BLOB_BLOCK, false);
    expect_stored (s);
}

/* --- What nobody needs. */

enum { MANY = 2 * BLOBS_SWEEP_LOOKS + 10 };

/* What the indexer knows: blobs whose digest begins with an odd byte are in use. */
struct uses {
    bool passed;
    unsigned asked;
};

static bool has_passed (void *arg, uint64_t offset)
{
    assert_int_equal (offset, 1);
    return ((const struct uses *) arg)->passed;
}

static int is_used (void *arg, const uint8_t *digest)
{
    ((struct uses *) arg)->asked++;
    return digest[0] % 2;
}

/* Their leases, of a millisecond, run out. */
static void store_many (struct blob_store *store, uint8_t digests[MANY][BLOB_DIGEST_LEN], unsigned *ret_used)
{
    *ret_used = 0;
    for (unsigned i = 0; i < MANY; i++) {
        struct blob_upload *u;
        struct blob_info info;
        size_t taken;
        bool is_new, ready;
        assert_int_equal (blob_upload_open (store, slice_of ("many"), slice ("", 0), &u), 0);
        assert_int_equal (blob_upload_resume (u, 1, &ready), 0);
        assert_true (ready);
        assert_int_equal (blob_upload_write (u, &i, sizeof i, &taken), 0);
        assert_int_equal (blob_upload_sync (u), 0);
        assert_int_equal (blob_upload_finish (u, NULL, sizeof i, 0, &info, &is_new), 0);
        blob_upload_discard (&u);
        memcpy (digests[i], info.digest, BLOB_DIGEST_LEN);
        *ret_used += info.digest[0] % 2;
    }
    const uint64_t stored_ns = clock_real.unix_ns (NULL);
    while (clock_real.unix_ns (NULL) <= stored_ns + FAKE_NS_PER_MS)
        ;
}

static void many_blobs_are_looked_at_turn_by_turn_until_the_last_one (void **state)
{
    struct setting *s = *state;
    static uint8_t digests[MANY][BLOB_DIGEST_LEN];
    struct uses uses = { .passed = false };
    const struct blobs_use use = { .arg = &uses, .passed = has_passed, .used = is_used };
    struct blob_info info;
    unsigned in_use;
    uint64_t now = node_now ();
    char text[64];
    blobs_destroy (&s->blobs);
    s->j.context.options.blob_sweep_ms = 1000;
    s->j.context.options.blob_lease_ms = 1;
    start (s);
    store_many (blobs_store (s->blobs), digests, &in_use);
    assert_true (in_use > MANY / 4 && in_use < MANY - MANY / 4);
    assert_false (blobs_sweep (s->blobs, now, &use));           /* the index is behind */
    assert_int_equal (uses.asked, 0);
    uses.passed = true;
    assert_true (blobs_sweep (s->blobs, now, &use));
    assert_int_equal (uses.asked, BLOBS_SWEEP_LOOKS);
    assert_true (blobs_sweep (s->blobs, now, &use));
    assert_false (blobs_sweep (s->blobs, now, &use));
    assert_int_equal (uses.asked, MANY);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal (blob_store_stat (blobs_store (s->blobs), digests[i], &info), digests[i][0] % 2 ? 0 : FM_ERR_UNKNOWN);
    (void) snprintf (text, sizeof text, "BLOBS-SWEPT blobs=%u: ", MANY - in_use);
    assert_true (fake_noticed (text));
    assert_int_equal (counted (s, JOURNAL_BLOBS_SWEPT), MANY - in_use);
    /* The next round, when it is due, has the others to look at. */
    assert_false (blobs_sweep (s->blobs, now + 999 * FAKE_NS_PER_MS, &use));
    assert_int_equal (uses.asked, MANY);
    now += UINT64_C (1000) * FAKE_NS_PER_MS;
    while (blobs_sweep (s->blobs, now, &use))
        ;
    assert_int_equal (uses.asked, MANY + in_use);
}

/* A file where a folder of blobs should be. */
static void a_sweep_that_fails_is_told_once_until_it_succeeds (void **state)
{
    struct setting *s = *state;
    struct uses uses = { .passed = true };
    const struct blobs_use use = { .arg = &uses, .passed = has_passed, .used = is_used };
    char path[512];
    uint64_t now = node_now ();
    s->j.context.options.blob_sweep_ms = 1000;
    (void) snprintf (path, sizeof path, "%s/blobs/ff", s->j.directory);
    for (unsigned i = 0; i < 6; i++, now += UINT64_C (1000) * FAKE_NS_PER_MS) {
        const bool fails = i != 3;
        if (i == 0 || i == 4)
            assert_int_equal (fclose (fopen (path, "w")), 0);
        if (i == 3)
            assert_int_equal (unlink (path), 0);
        fake_forget_notices ();
        assert_false (blobs_sweep (s->blobs, now, &use));
        assert_int_equal (fake_noticed ("SWEEP-FAILED Not a directory: what nobody needs stays; tried again each 1000 ms"), i == 0 || i == 4);
        assert_int_equal (fake.notice_count, i == 0 || i == 4);
        assert_int_equal (counted (s, JOURNAL_SWEEPS_FAILED), i + fails - (i > 3));
    }
}

/* --- Bounds. */

/* While the thread is held up, chunks are refused before they fill the memory. */
static void chunks_that_wait_are_bounded (void **state)
{
    struct setting *s = *state;
    Factmesh__BlobPutChunk m = FACTMESH__BLOB_PUT_CHUNK__INIT;
    m.data = control_put_slice (slice (s->block, sizeof s->block));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK;
    control.blob_put_chunk = &m;
    unsigned taken = 0;
    pthread_mutex_lock (&fake.lock);    /* nothing is answered */
    while (taken < 1000 && fake_hand_over ('a', &control) == 0)
        taken++;
    pthread_mutex_unlock (&fake.lock);
    assert_string_equal (fm_error_detail (), "too many requests are waiting; ask again later");
    assert_true (taken >= (16 << 20) / BLOB_BLOCK - 1 && taken <= (16 << 20) / BLOB_BLOCK + 1);
    for (unsigned i = 0; i < taken; i++)
        expect_refused (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD, "no such upload");
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (what_is_no_upload_is_refused_by_its_code),
        CASE (a_list_goes_on_behind_a_digest_and_nothing_else),
        CASE (an_upload_that_is_given_up_or_is_not_what_was_said_is_forgotten),
        CASE (a_full_disk_leaves_an_upload_as_it_is),
        CASE (an_upload_whose_disk_fails_is_begun_anew),
        CASE (an_upload_is_its_askers_until_that_is_silent_or_gone),
        CASE (an_upload_that_another_way_in_has_open_is_to_wait),
        CASE (an_upload_without_a_word_is_put_to_rest_and_can_be_gone_on_with),
        CASE (a_sweep_that_fails_is_told_once_until_it_succeeds),
        CASE (many_blobs_are_looked_at_turn_by_turn_until_the_last_one),
        CASE (chunks_that_wait_are_bounded),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
