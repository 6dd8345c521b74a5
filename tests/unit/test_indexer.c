/* indexer, index_db, index_reader: who asks waits for the index, within bounds; what is no question is refused; links come in parts; what expired is forgotten;
 * blobs that something may point to are kept. What becomes of a damaged index: test_index_damage. */

#include "index_kit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "log_state.h"

/* A file is where its directory should be. */
static void start_without_an_index (struct setting *s)
{
    const int fd = open (s->index, O_WRONLY | O_CREAT, 0666);
    assert_true (fd >= 0);
    close (fd);
    start (s);
}

/* Told; requests wait, and are answered when it is put right. */
static void requests_wait_for_an_index_that_cannot_be_written_yet (void **state)
{
    struct setting *s = *state;
    start_without_an_index (s);
    fake_wait_notice ("INDEX-FAILED");
    ask_latest (1, 7);
    assert_null (fake_reply_within (50));
    assert_int_equal (unlink (s->index), 0);
    assert_int_equal (mkdir (s->index, 0777), 0);
    expect_fact (newest_of (1, 7, s->end));
}

/* What its file and its log may have, for this process. */
static struct rlimit let_files_grow_to (rlim_t bytes)
{
    struct rlimit before, now;
    assert_int_equal (getrlimit (RLIMIT_FSIZE, &before), 0);
    now = before;
    now.rlim_cur = bytes;
    assert_int_equal (setrlimit (RLIMIT_FSIZE, &now), 0);
    return before;
}

/* Wherever room ends while it is made: told, tried again, and whole when there is room. */
static void an_index_for_which_there_is_no_room_is_made_when_there_is (void **state)
{
    enum { STEP = 4096, STEPS = 32 };
    struct setting *s = *state;
    unsigned failed = 0;
    (void) signal (SIGXFSZ, SIG_IGN);
    for (rlim_t step = 0; step < STEPS; step++) {
        const struct rlimit before = let_files_grow_to (step * STEP);
        start (s);
        ask_latest (1, 7);
        while (!fake_noticed ("INDEX-FAILED") && !fake_reply_within (1))
            continue;
        assert_int_equal (setrlimit (RLIMIT_FSIZE, &before), 0);
        if (fake_noticed ("INDEX-FAILED")) {
            failed++;
            fake.skipped_ns += (uint64_t) INDEXER_RETRY_MS * FAKE_NS_PER_MS;
            wake_raise (&s->j.context.bells[BELL_INDEXER].wake);
            expect_fact (newest_of (1, 7, s->end));
            expect_all_right (s);
        }
        stop (s);
        assert_int_equal (unlink (s->path), 0);
    }
    assert_true (failed > STEPS / 4);
}

/* --- What is refused. */

static void ask_fact (const Factmesh__FactId *id)
{
    Factmesh__FactGet get = FACTMESH__FACT_GET__INIT;
    get.fact = (Factmesh__FactId *) (uintptr_t) id;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_FACT_GET;
    control.fact_get = &get;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

static void expect_refused (Factmesh__ErrorCode code, const char *words)
{
    const Factmesh__Error *e = fake_wait_reply (FACTMESH__CONTROL__BODY_ERROR)->error;
    if (e->code != code || !memmem (e->text.data, e->text.len, words, strlen (words)))
        fail_msg ("error %d '%.*s', where %d with '%s' was expected", (int) e->code, (int) e->text.len, (const char *) e->text.data, (int) code, words);
}

static void a_name_that_is_none_is_refused (void **state)
{
    struct setting *s = *state;
    const struct fm_fact_id id = id_of (1);
    Factmesh__FactId m = FACTMESH__FACT_ID__INIT;
    start (s);
    m.stream = control_put_id (&id.stream);
    ask_fact (&m);                      /* of no sequence */
    expect_refused (FACTMESH__ERROR_CODE__ERROR_MALFORMED, "a fact's name is a stream and a sequence");
    ask_links (0, 0);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_MALFORMED, "a fact's name is a stream and a sequence");
    m.seq = FACTS + 1;
    ask_fact (&m);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT, "no such fact is recorded here");
    m.seq = FACTS;
    ask_fact (&m);
    expect_fact (FACTS);
}

/* Where the index can't be written: so many requests wait, for so long; those that wait when the journal ends are not answered. */
static void requests_that_wait_for_the_index_are_bounded_in_number_and_time (void **state)
{
    struct setting *s = *state;
    start_without_an_index (s);
    for (int i = 0; i <= INDEXER_WAITING_MAX; i++)
        ask_latest (1, 7);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_LIMIT, "too many requests wait for the index; ask again later");
    assert_null (fake_reply_within (20));
    fake.skipped_ns += (uint64_t) INDEXER_WAIT_MS * FAKE_NS_PER_MS;
    for (int i = 0; i < INDEXER_WAITING_MAX; i++)
        expect_refused (FACTMESH__ERROR_CODE__ERROR_TIMEOUT, "the index is not there (see INDEX-FAILED in the journal's log), at offset 0 of 1601");
    for (int i = 0; i <= INDEXER_WAITING_MAX; i++)
        ask_latest (1, 7);
    expect_refused (FACTMESH__ERROR_CODE__ERROR_LIMIT, "too many requests wait for the index; ask again later");
    stop (s);
    assert_null (fake_reply_within (0));
}

/* --- Links. */

static void links_come_in_parts (void **state)
{
    struct setting *s = *state;
    Factmesh__LinksGet get = FACTMESH__LINKS_GET__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    char text[16];
    uint64_t n = 0;
    start (s);
    get.correlation = control_put_slice (numbered (text, "c", 6));
    get.limit = 7;
    control.body_case = FACTMESH__CONTROL__BODY_LINKS_GET;
    control.links_get = &get;
    for (bool more = true; more;) {
        assert_int_equal (fake_hand_over ('a', &control), 0);
        const Factmesh__LinksReply *r = fake_wait_reply (FACTMESH__CONTROL__BODY_LINKS_REPLY)->links_reply;
        more = r->more;
        assert_true (more ? r->n_links == 7 : r->n_links > 0);
        for (size_t i = 0; i < r->n_links; i++) {
            do
                n++;
            while (conversation_of (n) != 6);
            assert_int_equal (r->links[i]->offset, n);
        }
        get.after_offset = n;
    }
    while (++n < s->end)
        assert_int_not_equal (conversation_of (n), 6);
}

/* It is no answer that leaves out what is there. */
static void links_that_cannot_be_read_now_are_refused (void **state)
{
    struct setting *s = *state;
    make_index (s);
    fake_close (&s->j);
    s->j.fs = fail_fs_new ();
    assert_int_equal (fake_open (&s->j), 0);
    unsigned refused = 0;
    for (unsigned long n = 1; n <= 8; n++) {
        start (s);
        fail_fs_fail (s->j.fs, FAIL_READ, n, -ENXIO);
        ask_links (0, 6);
        const Factmesh__Control *c = fake_reply_within (FAKE_PATIENCE_MS);
        assert_non_null (c);
        fake.reply_taken--;
        if (c->body_case == FACTMESH__CONTROL__BODY_ERROR) {
            expect_refused (FACTMESH__ERROR_CODE__ERROR_INTERNAL, "No such device or address");
            refused++;
        } else {
            expect_links (s, 0, 6);
        }
        fail_fs_fail (s->j.fs, FAIL_READ, 0, 0);
        ask_links (0, 6);
        expect_links (s, 0, 6);
        assert_int_equal (fake.notice_count, 0);
        stop (s);
    }
    assert_true (refused > 0);
}

/* --- What retention took, and what can't be read. */

static uint64_t count_rows (const struct setting *s, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *q;
    assert_int_equal (sqlite3_open (s->path, &db), SQLITE_OK);
    assert_int_equal (sqlite3_prepare_v2 (db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal (sqlite3_step (q), SQLITE_ROW);
    const uint64_t rows = (uint64_t) sqlite3_column_int64 (q, 0);
    sqlite3_finalize (q);
    assert_int_equal (sqlite3_close (db), SQLITE_OK);
    return rows;
}

static void what_has_expired_is_forgotten (void **state)
{
    struct setting *s = *state;
    static const char *const tables[] = { "latest", "link", "correlation" };
    char path[256], sql[64];
    make_index (s);
    for (uint64_t seq = 1; seq <= 15; seq++) {
        const struct kit_batch_spec spec = { .stream = 2, .first_seq = seq, .count = 1, .payload_len = 100000 };
        (void) kit_append_batch (s->j.context.log, &spec);
    }
    assert_int_equal (fake_sync (&s->j), 0);
    fake_close (&s->j);
    kit_segment_path (s->j.directory, 1, path);
    assert_int_equal (unlink (path), 0);
    assert_int_equal (fake_open (&s->j), 0);
    start (s);
    ask_latest (1, 1);
    expect_fact (0);
    stop (s);
    for (size_t i = 0; i < 3; i++) {
        (void) snprintf (sql, sizeof sql, "SELECT count(*) FROM %s", tables[i]);
        assert_int_equal (count_rows (s, sql), 0);
    }
}

/* The index forgets it a while later. */
static void what_expired_a_moment_ago_is_left_out_of_links (void **state)
{
    enum { CONVERSATION = 6, LARGE = 1200000 };
    struct setting *s = *state;
    struct log *log = s->j.context.log;
    static uint8_t large[LARGE];
    uint64_t ticket, first_offset;
    assert_int_equal (log_cursor_put (log, &(struct log_cursor) { .name = "large", .cursor = slice (large, LARGE) }, &ticket), 0);
    append_facts (&s->j, FACTS + 1, 2 * FACTS + 1);     /* in a segment of their own */
    s->end = 2 * FACTS + 1;
    start (s);
    ask_links (0, CONVERSATION);
    expect_links (s, 0, CONVERSATION);
    log->options.retain_bytes = 1;
    assert_int_equal (log_retain (log, &first_offset), 0);
    assert_int_equal (first_offset, FACTS + 1);
    ask_links (0, CONVERSATION);
    const Factmesh__LinksReply *r = fake_wait_reply (FACTMESH__CONTROL__BODY_LINKS_REPLY)->links_reply;
    size_t count = 0;
    for (uint64_t n = first_offset; n < s->end; n++)
        if (conversation_of (n) == CONVERSATION) {
            assert_true (count < r->n_links);
            assert_int_equal (r->links[count++]->offset, n);
        }
    assert_int_equal (count, r->n_links);
    assert_true (count > 0 && !r->more);
    assert_int_equal (fake.notice_count, 0);
}

/* Does the index say that the digest is pointed to? */
static int is_used (struct setting *s, uint8_t digest)
{
    struct log_position at;
    asked_digest[0] = digest;
    log_position (s->j.context.log, &at);
    asked_offset = at.synced_offset;
    ask_latest (1, 1);
    (void) fake_reply_within (FAKE_PATIENCE_MS);
    while (asked_offset) {
        wake_raise (&s->j.context.bells[BELL_INDEXER].wake);
        (void) poll (NULL, 0, 1);
    }
    return told_used;
}

/* A batch with one fact that points to a blob; or so it was before it was recorded. */
enum lie { TRUTH, NO_REFERENCE, NEWER_BATCH };
static void append_pointer (struct setting *s, enum lie lie)
{
    struct kit_batch k;
    const struct fm_blob blob = { .sha256 = { 7 }, .size = 1 };
    uint8_t ref[BLOB_REF_MAX];
    size_t len;
    assert_int_equal (blob_ref_encode (&blob, ref, sizeof ref, &len), 0);
    const struct kit_batch_spec spec = { .stream = 3, .first_seq = s->end++, .count = 1, .payload_len = 10, .blob = slice (ref, len) };
    uint64_t offset;
    kit_batch_make (&spec, &k);
    uint8_t *at = memmem (k.bytes, k.len, ref, len);
    assert_non_null (at);
    if (lie == NO_REFERENCE)
        memset (at, 0xFF, len);
    else if (lie == NEWER_BATCH)
        memset (k.bytes, 0xFF, k.len);
    assert_int_equal (log_append (s->j.context.log, &k.batch, &offset), 0);
    kit_batch_release (&k);
    assert_int_equal (fake_sync (&s->j), 0);
}

static void what_cannot_be_read_may_point_to_any_blob (void **state)
{
    enum { DAMAGED_RECORD = NEWER_BATCH + 1, KINDS };
    for (int kind = TRUTH; kind < KINDS; kind++) {
        struct setting *s = *state;
        append_pointer (s, TRUTH);
        if (kind == NO_REFERENCE || kind == NEWER_BATCH) {
            append_pointer (s, (enum lie) kind);
        } else if (kind == DAMAGED_RECORD) {
            char path[256];
            const struct kit_batch_spec spec = { .stream = 4, .first_seq = 1, .count = 1, .payload_len = 10 }, last = { .stream = 4, .first_seq = 2, .count = 1 };
            (void) kit_append_batch (s->j.context.log, &spec);
            (void) kit_append_batch (s->j.context.log, &last);
            assert_int_equal (fake_sync (&s->j), 0);
            kit_segment_path (s->j.directory, 1, path);
            kit_flip (path, (int64_t) find_batch (path, &spec) + 20);
        }
        start (s);
        assert_int_equal (is_used (s, 7), kind == TRUTH ? 1 : FM_ERR_CORRUPT);
        assert_int_equal (is_used (s, 8), kind == TRUTH ? 0 : FM_ERR_CORRUPT);
        tear_down (state);
        assert_int_equal (set_up (state), 0);
    }
}

/* Nobody makes it: so long, and no longer. */
static void a_reader_waits_for_the_index_and_gives_up_then (void **state)
{
    struct setting *s = *state;
    struct reading x;
    int rc;
    unsigned waited_ms = 0;
    reading_begin (&x, s);
    while ((rc = reading_step (&x)) == -EAGAIN) {
        waited_ms += 500;
        fake.skipped_ns += UINT64_C (500) * FAKE_NS_PER_MS;
        assert_true (waited_ms <= INDEXER_WAIT_MS);
    }
    assert_int_equal (rc, FM_TIMEOUT);
    assert_string_equal (fm_error_detail (), "the index is behind, at offset 0; ask again later");
    assert_true (waited_ms >= INDEXER_WAIT_MS - 500);
    assert_int_equal (x.listed.count, 0);
    reading_end (&x);
}

/* Somebody else writes to its database, so that the indexer cannot, however soon it looks: whoever read from it before, and whoever comes, waits. */
static void a_reader_is_told_nothing_by_an_index_that_is_behind (void **state)
{
    enum { MORE = 40 * BATCH };
    struct setting *s = *state;
    struct reading old, new;
    sqlite3 *db;
    make_index (s);
    start (s);
    reading_begin (&old, s);
    read_latest (s, &old);
    assert_int_equal (sqlite3_open (s->path, &db), SQLITE_OK);
    assert_int_equal (sqlite3_exec (db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    append_facts (&s->j, s->end, s->end + MORE);
    s->end += MORE;
    reading_begin (&new, s);
    old.latest.next = 1;
    old.latest.end = s->end;
    old.listed.count = 0;
    assert_int_equal (reading_step (&old), -EAGAIN);
    assert_int_equal (reading_step (&new), -EAGAIN);
    assert_int_equal (old.listed.count + new.listed.count, 0);
    assert_int_equal (sqlite3_close (db), SQLITE_OK);       /* with what it began */
    read_latest (s, &old);
    read_latest (s, &new);
    reading_end (&old);
    reading_end (&new);
}

static void a_directory_whose_name_is_too_long_is_refused (void **state)
{
    struct setting *s = *state;
    static char name[5000];
    memset (name, 'd', sizeof name - 1);
    assert_int_equal (indexer_new (&s->j.context, name, NULL, &s->indexer), -ENAMETOOLONG);
    assert_null (s->indexer);
    assert_int_equal (strncmp (fm_error_detail (), "ddd", 3), 0);   /* what does not fit is cut off */
}

/* Damaged again right after it was made anew: it is not made again and again, but soon. */
static void an_index_that_is_damaged_again_at_once_is_made_anew_a_while_later (void **state)
{
    struct setting *s = *state;
    static const char wrong[] = "UPDATE latest SET offset = offset - 1";
    make_index (s);
    start (s);
    for (int again = 0; again < 2; again++) {
        change (s, wrong);
        ask_latest (1, 7);
        fake_wait_notice ("INDEX-DAMAGED");
        fake_forget_notices ();
        if (again) {
            assert_null (fake_reply_within (50));
            fake.skipped_ns += (uint64_t) INDEXER_RETRY_MS * FAKE_NS_PER_MS;
        }
        expect_fact (newest_of (1, 7, s->end));
    }
}

/* An answer that nobody can be given holds up no other. */
static void an_asker_that_went_holds_up_no_other (void **state)
{
    struct setting *s = *state;
    start (s);
    fake_let_replies (FM_ERR_UNREACHABLE, 0, 0);
    ask_latest (1, 7);
    fake_wait_tries (1);
    fake_let_replies (0, 0, 0);
    ask_latest (0, 8);
    expect_fact (newest_of (0, 8, s->end));
    assert_null (fake_reply_within (0));
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (requests_wait_for_an_index_that_cannot_be_written_yet),
        CASE (an_index_for_which_there_is_no_room_is_made_when_there_is),
        CASE (a_name_that_is_none_is_refused),
        CASE (requests_that_wait_for_the_index_are_bounded_in_number_and_time),
        CASE (links_come_in_parts),
        CASE (links_that_cannot_be_read_now_are_refused),
        CASE (what_has_expired_is_forgotten),
        CASE (what_expired_a_moment_ago_is_left_out_of_links),
        CASE (what_cannot_be_read_may_point_to_any_blob),
        CASE (a_reader_waits_for_the_index_and_gives_up_then),
        CASE (a_reader_is_told_nothing_by_an_index_that_is_behind),
        CASE (a_directory_whose_name_is_too_long_is_refused),
        CASE (an_index_that_is_damaged_again_at_once_is_made_anew_a_while_later),
        CASE (an_asker_that_went_holds_up_no_other),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
