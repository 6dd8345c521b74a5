/* indexer, index_db, index_reader: the index answers as the log says, whatever became of its file: lost, another version's, cut, damaged anywhere, ahead of the
 * log, or saying what the log does not. While it is made anew, requests wait. The thread is the real one, on a node without sockets. */

#include "fake_journal.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob.h"
#include "blobs.h"
#include "factmesh.pb-c.h"
#include "index_db.h"
#include "index_reader.h"
#include "indexer.h"

enum { FACTS = 1600, BATCH = 8, KEYS = 300, CONVERSATIONS = 40, PAGE = 4096, ASKED_MAX = 600, PARENT_STEP = 7 };

/* No blobs: they have a thread and a test of their own. But what the index would tell them of this digest is kept. */
static uint8_t asked_digest[BLOB_DIGEST_LEN];
static _Atomic uint64_t asked_offset;   /* once the index has passed this; 0: not asked */
static _Atomic int told_used;

bool blobs_sweep (struct blobs *b, uint64_t now, const struct blobs_use *use)
{
    (void) b;
    (void) now;
    if (asked_offset && use->passed (use->arg, asked_offset)) {
        told_used = use->used (use->arg, asked_digest);
        asked_offset = 0;
    }
    return false;
}

/* --- Facts that follow from their number, which is their offset and their sequence in the one stream. */

static struct fm_fact_id id_of (uint64_t n)
{
    return (struct fm_fact_id) { .stream = kit_stream (1), .seq = n };
}

static struct fm_slice numbered (char text[16], const char *what, uint64_t n)
{
    return slice (text, (size_t) snprintf (text, 16, "%s%llu", what, (unsigned long long) n));
}

static const char *topic_of (uint64_t n)
{
    return n % 2 ? "state.a" : "state.b";
}

static bool is_tombstone (uint64_t n)
{
    return n % 13 == 0;
}

static uint64_t cause_of (uint64_t n)
{
    return n % 3 == 0 ? n / 2 : 0;
}

static uint64_t corrected_by (uint64_t n)
{
    return n % 11 == 0 && n > 20 ? n - 7 : 0;
}

static uint64_t conversation_of (uint64_t n)
{
    return n % 5 == 0 ? 1 + n % CONVERSATIONS : 0;
}

static struct fm_fact fact_of (uint64_t n, char key[16], char correlation[16])
{
    struct fm_fact f = { .topic_index = n % 2 ? 0 : 1, .time_ns = 5, .key = numbered (key, "k", n % KEYS) };
    f.flags = is_tombstone (n) ? FM_TOMBSTONE : 0;
    f.payload = is_tombstone (n) ? slice ("", 0) : slice ("payload", 7);
    if (cause_of (n))
        f.causation = id_of (cause_of (n));
    if (corrected_by (n))
        f.corrects = id_of (corrected_by (n));
    if (conversation_of (n))
        f.correlation = numbered (correlation, "c", conversation_of (n));
    return f;
}

static void append_facts (struct fake_journal *j, uint64_t first, uint64_t end)
{
    static const uint8_t backs[2];
    struct batch_topic topics[2] = { { .name = slice_of ("state.a"), .backs = slice (backs, 2) }, { .name = slice_of ("state.b"), .backs = slice (backs, 2) } };
    const struct batch_defaults defaults = { .time_ns = 5 };
    for (; first < end; first += BATCH) {
        static uint8_t bytes[BATCH * 256];
        struct batch_scratch scratch = { 0 };
        char key[16], correlation[16];
        uint64_t offset;
        struct batch b = { .mesh = slice_of ("test"), .count = BATCH, .stream = kit_stream (1), .epoch = 1, .incarnation = 8, .epoch_first_seq = 1,
                           .first_seq = first, .time_ns = 5, .topics = topics, .topic_count = 2 };
        for (uint64_t n = first; n < first + BATCH; n++) {
            const struct fm_fact f = fact_of (n, key, correlation);
            b.features |= fact_features (&f);
        }
        uint8_t *p = batch_encode_header (bytes, &b);
        for (uint64_t n = first; n < first + BATCH; n++) {
            const struct fm_fact f = fact_of (n, key, correlation);
            p = fact_encode (p, &f, &defaults);
        }
        assert_true (p <= bytes + sizeof bytes);
        assert_int_equal (batch_decode (bytes, (size_t) (p - bytes), slice (NULL, 0), &scratch, &b), 0);
        assert_int_equal (batch_check_facts (&b), 0);
        assert_int_equal (log_append (j->context.log, &b, &offset), 0);
        assert_int_equal (offset, first);
        const struct recent_record record = { .stream = b.stream, .first_seq = first, .end_seq = first + BATCH, .offset = first, .end_offset = first + BATCH,
                                              .features = b.features };
        recent_add (j->context.recent, &record);
        batch_scratch_release (&scratch);
    }
    assert_int_equal (fake_sync (j), 0);
}

/* The newest fact below `end` with this topic and key; 0: none, or a tombstone. */
static uint64_t newest_of (uint64_t topic, uint64_t key, uint64_t end)
{
    uint64_t n = end - 1;
    while (n > 0 && (n % KEYS != key || n % 2 != topic))
        n--;
    return n && !is_tombstone (n) ? n : 0;
}

/* --- A journal of those facts, and its indexer. */

struct setting {
    struct fake_journal j;
    struct indexer *indexer;
    uint64_t end;                       /* of what was recorded */
    char index[160], path[192];
};

static void start (struct setting *s)
{
    fake_forget_notices ();
    fake_forget_replies ();
    assert_int_equal (indexer_new (&s->j.context, s->j.directory, NULL, &s->indexer), 0);
}

static void stop (struct setting *s)
{
    indexer_destroy (&s->indexer);
    atomic_store (&s->j.context.indexer, NULL);
}

static int set_up (void **state)
{
    struct setting *s = calloc (1, sizeof *s);
    assert_non_null (s);
    fake_begin (&s->j);
    (void) snprintf (s->index, sizeof s->index, "%s/index", s->j.directory);
    (void) snprintf (s->path, sizeof s->path, "%s/index.db", s->index);
    assert_int_equal (fake_open (&s->j), 0);
    append_facts (&s->j, 1, FACTS + 1);
    s->end = FACTS + 1;
    *state = s;
    return 0;
}

static int tear_down (void **state)
{
    struct setting *s = *state;
    stop (s);
    fake_end (&s->j);
    free (s);
    return 0;
}

/* --- Asking for all that there is, and comparing. */

static void ask_latest (uint64_t topic, uint64_t key)
{
    char text[16];
    Factmesh__FactGet get = FACTMESH__FACT_GET__INIT;
    get.topic = control_put_slice (slice_of (topic ? "state.a" : "state.b"));
    get.key = control_put_slice (numbered (text, "k", key));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_FACT_GET;
    control.fact_get = &get;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

/* The answer's fact is that of this number, byte for byte. 0: there is none. */
static void expect_fact (uint64_t n)
{
    const Factmesh__Control *c = fake_wait_reply (n ? FACTMESH__CONTROL__BODY_FACT_REPLY : FACTMESH__CONTROL__BODY_ERROR);
    if (!n) {
        assert_int_equal (c->error->code, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT);
        return;
    }
    struct batch b;
    struct batch_scratch scratch = { 0 };
    struct batch_reader reader;
    struct fm_fact fact;
    char key[16], correlation[16];
    const struct fm_fact expected = fact_of (n, key, correlation);
    assert_int_equal (c->fact_reply->offset, n);
    assert_int_equal (batch_decode (c->fact_reply->batch.data, c->fact_reply->batch.len, slice (NULL, 0), &scratch, &b), 0);
    batch_reader_init (&reader, &b);
    assert_int_equal (batch_reader_next (&reader, &fact), 0);
    assert_int_equal (fact.id.seq, n);
    assert_true (slice_equal (fact.topic, slice_of (topic_of (n))));
    assert_true (slice_equal (fact.key, expected.key));
    assert_true (slice_equal (fact.payload, expected.payload));
    assert_true (slice_equal (fact.correlation, expected.correlation));
    batch_scratch_release (&scratch);
}

static void ask_links (uint64_t parent, uint64_t conversation)
{
    char text[16];
    const struct fm_fact_id id = id_of (parent);
    Factmesh__FactId m = FACTMESH__FACT_ID__INIT;
    m.stream = control_put_id (&id.stream);
    m.seq = id.seq;
    Factmesh__LinksGet get = FACTMESH__LINKS_GET__INIT;
    get.fact = parent ? &m : NULL;
    if (conversation)
        get.correlation = control_put_slice (numbered (text, "c", conversation));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_LINKS_GET;
    control.links_get = &get;
    assert_int_equal (fake_hand_over ('a', &control), 0);
}

static void expect_links (const struct setting *s, uint64_t parent, uint64_t conversation)
{
    const Factmesh__LinksReply *r = fake_wait_reply (FACTMESH__CONTROL__BODY_LINKS_REPLY)->links_reply;
    size_t count = 0;
    assert_false (r->more);
    for (uint64_t n = 1; n < s->end; n++) {
        const bool caused = parent && cause_of (n) == parent, corrected = parent && corrected_by (n) == parent;
        for (int kind = caused ? 1 : 2; kind <= (corrected ? 2 : caused ? 1 : 0); kind++, count++) {
            assert_true (count < r->n_links);
            assert_int_equal (r->links[count]->offset, n);
            assert_int_equal (r->links[count]->kind, kind);
        }
        if (conversation && conversation_of (n) == conversation) {
            assert_true (count < r->n_links);
            assert_int_equal (r->links[count++]->offset, n);
        }
    }
    assert_int_equal (count, r->n_links);
}

/* Every key, every conversation, and parents all over. */
static void expect_all_right (struct setting *s)
{
    fake_forget_replies ();
    for (uint64_t topic = 0; topic < 2; topic++) {
        for (uint64_t key = 0; key < KEYS; key++)
            ask_latest (topic, key);
        for (uint64_t key = 0; key < KEYS; key++)
            expect_fact (newest_of (topic, key, s->end));
    }
    for (uint64_t first = 1; first < s->end; first += ASKED_MAX) {
        const uint64_t end = first + ASKED_MAX < s->end ? first + ASKED_MAX : s->end;
        for (uint64_t n = first; n < end; n += PARENT_STEP)
            ask_links (n, 0);
        for (uint64_t n = first; n < end; n += PARENT_STEP)
            expect_links (s, n, 0);
    }
    for (uint64_t c = 1; c <= CONVERSATIONS; c++)
        ask_links (0, c);
    for (uint64_t c = 1; c <= CONVERSATIONS; c++)
        expect_links (s, 0, c);
}

/* --- The file, and what becomes of it. */

/* An index of everything, closed. */
static void make_index (struct setting *s)
{
    (void) unlink (s->path);
    start (s);
    ask_latest (1, 1);
    expect_fact (newest_of (1, 1, s->end));
    stop (s);
}

static void change (const struct setting *s, const char *sql)
{
    sqlite3 *db;
    assert_int_equal (sqlite3_open (s->path, &db), SQLITE_OK);
    if (sqlite3_exec (db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg ("%s: %s", sql, sqlite3_errmsg (db));
    assert_true (sqlite3_total_changes (db) > 0 || strncmp (sql, "UPDATE", 6) != 0);
    assert_int_equal (sqlite3_close (db), SQLITE_OK);
}

static void overwrite (const struct setting *s, uint64_t pos, int byte, size_t len)
{
    static uint8_t bytes[PAGE];
    memset (bytes, byte, len);
    const int fd = open (s->path, O_WRONLY);
    assert_true (fd >= 0);
    assert_int_equal (pwrite (fd, bytes, len, (off_t) pos), (ssize_t) len);
    close (fd);
}

static void an_index_that_is_lost_or_of_another_version_is_made_anew (void **state)
{
    struct setting *s = *state;
    start (s);
    expect_all_right (s);
    stop (s);
    static const char *const changes[] = { "UPDATE place SET version = 99", "UPDATE place SET generation = generation + 1", "UPDATE place SET next = 0",
                                           "ALTER TABLE place RENAME COLUMN next TO later", "DROP TABLE place" };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        change (s, changes[i]);
        start (s);
        ask_latest (0, 2);
        expect_fact (newest_of (0, 2, s->end));
        assert_false (fake_noticed ("INDEX-DAMAGED"));
        stop (s);
    }
    assert_int_equal (unlink (s->path), 0);
    start (s);
    expect_all_right (s);
    assert_int_equal (fake.notice_count, 0);
}

/* Whole pages, the header's among them. Those of the trees by offset that only retention uses show later; all that is asked for is right. */
static void damage_anywhere_is_found_and_the_index_made_anew (void **state)
{
    struct setting *s = *state;
    make_index (s);
    const uint64_t size = kit_file_size (s->path);
    assert_true (size > 8 * PAGE && size < 64 * PAGE);
    uint64_t told = 0;
    for (uint64_t page = 0; page < size / PAGE; page++) {
        if (page)
            make_index (s);
        overwrite (s, page * PAGE, page % 2 ? 0xFF : 0, PAGE);
        start (s);
        expect_all_right (s);
        told += fake_noticed ("INDEX-DAMAGED");
        stop (s);
    }
    assert_true (told > size / PAGE / 3);
}

/* Before anybody asks for anything. */
static void damage_that_writing_meets_is_found_and_the_index_made_anew (void **state)
{
    struct setting *s = *state;
    make_index (s);
    const uint64_t size = kit_file_size (s->path);
    for (uint64_t page = 1; page < size / PAGE; page++) {
        make_index (s);
        overwrite (s, page * PAGE, 0xFF, PAGE);
        start (s);
        append_facts (&s->j, s->end, s->end + BATCH);
        s->end += BATCH;
        const uint64_t n = s->end - 1 - (is_tombstone (s->end - 1) ? 1 : 0);
        ask_latest (n % 2, n % KEYS);
        expect_fact (n);
        stop (s);
    }
}

static void an_index_that_is_cut_is_made_anew (void **state)
{
    struct setting *s = *state;
    make_index (s);
    const uint64_t size = kit_file_size (s->path);
    for (uint64_t len = 0; len < size; len += len < PAGE ? 500 : 5 * PAGE + 11) {
        make_index (s);
        kit_truncate (s->path, len);
        start (s);
        expect_all_right (s);
        stop (s);
    }
}

/* What SQLite can't see: rows that say what the log does not. */
static void an_index_that_does_not_agree_with_the_log_is_made_anew (void **state)
{
    struct setting *s = *state;
    static const char *const changes[] = {
        "UPDATE latest SET offset = offset - 1",        /* of the other topic */
        "UPDATE latest SET offset = offset - 2",        /* of another key */
        "UPDATE latest SET offset = offset + 100000",   /* never recorded */
        "UPDATE link SET offset = offset + 1",
        "UPDATE link SET kind = 3 - kind",
        "UPDATE correlation SET offset = offset + 1",
        "UPDATE correlation SET offset = offset + 100000",
        "UPDATE place SET next = next + 1000",          /* the log lost its end */
        "DROP TABLE link",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        make_index (s);
        change (s, changes[i]);
        start (s);
        expect_all_right (s);
        if (!fake_noticed ("INDEX-DAMAGED"))
            fail_msg ("%s: not told", changes[i]);
        stop (s);
    }
}

/* What is recorded while it is made anew is in it, too. */
static void facts_that_come_meanwhile_are_in_it (void **state)
{
    struct setting *s = *state;
    make_index (s);
    for (uint64_t page = 1; page < 4; page++)
        overwrite (s, page * PAGE, 0xFF, PAGE);
    start (s);
    for (int round = 0; round < 20; round++) {
        append_facts (&s->j, s->end, s->end + BATCH);
        s->end += BATCH;
        const uint64_t n = s->end - 1 - (is_tombstone (s->end - 1) ? 1 : 0);
        ask_latest (n % 2, n % KEYS);
        expect_fact (n);
    }
    expect_all_right (s);
}

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

/* --- As sessions that start from `latest` read it. */

struct listed {
    uint64_t offsets[2 * KEYS + 1];
    size_t count;
};

static bool list_batch (void *context, struct fm_slice bytes)
{
    struct listed *l = context;
    struct batch b;
    struct batch_scratch scratch = { 0 };
    assert_int_equal (batch_decode (bytes.data, bytes.len, slice (NULL, 0), &scratch, &b), 0);
    assert_true (l->count < 2 * KEYS);
    l->offsets[l->count++] = b.first_seq;
    batch_scratch_release (&scratch);
    return true;
}

static bool list_gap (void *context, const struct log_item *item)
{
    (void) context;
    (void) item;
    return false;
}

/* The newest of each key, in order, each once. */
static void expect_latest (struct setting *s)
{
    struct index_reader *r;
    struct log_reader *reader;
    struct batch_scratch scratch = { 0 };
    struct listed l = { .count = 0 };
    const struct fold_positions none = { .count = 0 };
    const struct replay_latest_sink sink = { .context = &l, .fact = list_batch, .gap = list_gap };
    assert_int_equal (index_reader_new (&s->j.context, &r), 0);
    assert_int_equal (log_reader_new (s->j.context.log, &reader), 0);
    struct replay_latest latest = { .index = index_reader_latest (r), .next = 1, .end = s->end };
    const uint64_t until = node_now () + (uint64_t) FAKE_PATIENCE_MS * FAKE_NS_PER_MS;
    while (latest.next < latest.end) {
        const int rc = replay_latest_step (&latest, reader, NULL, 0, &none, &scratch, &sink);
        assert_true (rc == 0 || rc == -EAGAIN);
        assert_true (node_now () < until);
        if (rc)
            (void) poll (NULL, 0, 1);
    }
    size_t at = 0;
    for (uint64_t n = 1; n < s->end; n++)
        if (newest_of (n % 2, n % KEYS, s->end) == n) {
            assert_true (at < l.count);
            assert_int_equal (l.offsets[at++], n);
        }
    assert_int_equal (at, l.count);
    replay_latest_release (&latest);
    batch_scratch_release (&scratch);
    log_reader_destroy (&reader);
    index_reader_destroy (&r);
}

static void latest_is_right_whatever_became_of_the_index (void **state)
{
    struct setting *s = *state;
    make_index (s);
    start (s);
    expect_latest (s);
    stop (s);
    const uint64_t size = kit_file_size (s->path);
    for (uint64_t page = 0; page < size / PAGE; page++) {
        make_index (s);
        overwrite (s, page * PAGE, page % 2 ? 0xFF : 0, PAGE);
        start (s);
        expect_latest (s);
        stop (s);
    }
    /* Both b-trees say it: SQLite sees nothing. */
    static const char *const changes[] = { "UPDATE latest SET offset = offset - 1", "UPDATE place SET next = next + 1000" };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        make_index (s);
        change (s, changes[i]);
        start (s);
        expect_latest (s);
        stop (s);
    }
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
    ask_latest (1, 7);
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
    struct index_reader *r;
    struct log_reader *reader;
    struct batch_scratch scratch = { 0 };
    struct listed l = { .count = 0 };
    const struct fold_positions none = { .count = 0 };
    const struct replay_latest_sink sink = { .context = &l, .fact = list_batch, .gap = list_gap };
    assert_int_equal (index_reader_new (&s->j.context, &r), 0);
    assert_int_equal (log_reader_new (s->j.context.log, &reader), 0);
    struct replay_latest latest = { .index = index_reader_latest (r), .next = 1, .end = s->end };
    int rc;
    unsigned waited_ms = 0;
    while ((rc = replay_latest_step (&latest, reader, NULL, 0, &none, &scratch, &sink)) == -EAGAIN) {
        waited_ms += 500;
        fake.skipped_ns += UINT64_C (500) * FAKE_NS_PER_MS;
        assert_true (waited_ms <= INDEXER_WAIT_MS);
    }
    assert_int_equal (rc, FM_TIMEOUT);
    assert_string_equal (fm_error_detail (), "the index is behind, at offset 0; ask again later");
    assert_true (waited_ms >= INDEXER_WAIT_MS - 500);
    assert_int_equal (l.count, 0);
    replay_latest_release (&latest);
    batch_scratch_release (&scratch);
    log_reader_destroy (&reader);
    index_reader_destroy (&r);
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (an_index_that_is_lost_or_of_another_version_is_made_anew),
        CASE (damage_anywhere_is_found_and_the_index_made_anew),
        CASE (damage_that_writing_meets_is_found_and_the_index_made_anew),
        CASE (an_index_that_is_cut_is_made_anew),
        CASE (an_index_that_does_not_agree_with_the_log_is_made_anew),
        CASE (facts_that_come_meanwhile_are_in_it),
        CASE (requests_wait_for_an_index_that_cannot_be_written_yet),
        CASE (a_name_that_is_none_is_refused),
        CASE (requests_that_wait_for_the_index_are_bounded_in_number_and_time),
        CASE (links_come_in_parts),
        CASE (links_that_cannot_be_read_now_are_refused),
        CASE (what_has_expired_is_forgotten),
        CASE (what_cannot_be_read_may_point_to_any_blob),
        CASE (a_reader_waits_for_the_index_and_gives_up_then),
        CASE (latest_is_right_whatever_became_of_the_index),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
