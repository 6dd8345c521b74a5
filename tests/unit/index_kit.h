/* index_kit: a journal of facts that follow from their number, and its indexer, whose thread is the real one, on a node without sockets: its index is asked for
 * all that there is, and what it answers compared with what was recorded. cmocka's state is a struct setting. */

#ifndef FM_TESTS_INDEX_KIT_H
#define FM_TESTS_INDEX_KIT_H

#include "fake_journal.h"

#include <sqlite3.h>
#include <unistd.h>

#include "blob.h"
#include "blobs.h"
#include "factmesh.pb-c.h"
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

static inline struct fm_fact_id id_of (uint64_t n)
{
    return (struct fm_fact_id) { .stream = kit_stream (1), .seq = n };
}

static inline struct fm_slice numbered (char text[16], const char *what, uint64_t n)
{
    return slice (text, (size_t) snprintf (text, 16, "%s%llu", what, (unsigned long long) n));
}

static inline const char *topic_of (uint64_t n)
{
    return n % 2 ? "state.a" : "state.b";
}

static inline bool is_tombstone (uint64_t n)
{
    return n % 13 == 0;
}

static inline uint64_t cause_of (uint64_t n)
{
    return n % 3 == 0 ? n / 2 : 0;
}

static inline uint64_t corrected_by (uint64_t n)
{
    return n % 11 == 0 && n > 20 ? n - 7 : 0;
}

static inline uint64_t conversation_of (uint64_t n)
{
    return n % 5 == 0 ? 1 + n % CONVERSATIONS : 0;
}

static inline struct fm_fact fact_of (uint64_t n, char key[16], char correlation[16])
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

static inline void append_facts (struct fake_journal *j, uint64_t first, uint64_t end)
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
static inline uint64_t newest_of (uint64_t topic, uint64_t key, uint64_t end)
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

static inline void start (struct setting *s)
{
    fake_forget_notices ();
    fake_forget_replies ();
    assert_int_equal (indexer_new (&s->j.context, s->j.directory, NULL, &s->indexer), 0);
}

static inline void stop (struct setting *s)
{
    indexer_destroy (&s->indexer);
    atomic_store (&s->j.context.indexer, NULL);
}

static inline int set_up (void **state)
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

static inline int tear_down (void **state)
{
    struct setting *s = *state;
    stop (s);
    fake_end (&s->j);
    free (s);
    return 0;
}

/* --- Asking for all that there is, and comparing. */

static inline void ask_latest (uint64_t topic, uint64_t key)
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
static inline void expect_fact (uint64_t n)
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

static inline void ask_links (uint64_t parent, uint64_t conversation)
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

static inline void expect_links (const struct setting *s, uint64_t parent, uint64_t conversation)
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
static inline void expect_all_right (struct setting *s)
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
static inline void make_index (struct setting *s)
{
    (void) unlink (s->path);
    start (s);
    ask_latest (1, 1);
    expect_fact (newest_of (1, 1, s->end));
    stop (s);
}

static inline void change (const struct setting *s, const char *sql)
{
    sqlite3 *db;
    assert_int_equal (sqlite3_open (s->path, &db), SQLITE_OK);
    if (sqlite3_exec (db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg ("%s: %s", sql, sqlite3_errmsg (db));
    assert_true (sqlite3_total_changes (db) > 0 || strncmp (sql, "UPDATE", 6) != 0);
    assert_int_equal (sqlite3_close (db), SQLITE_OK);
}

/* --- What a reader of the newest facts lists. */

struct listed {
    uint64_t offsets[2 * KEYS + 1];
    size_t count;
};

static inline bool list_batch (void *context, struct fm_slice bytes)
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

static inline bool list_gap (void *context, const struct log_item *item)
{
    (void) context;
    (void) item;
    return false;
}

/* A reader of the newest facts of all topics. */
struct reading {
    struct index_reader *index;
    struct log_reader *reader;
    struct batch_scratch scratch;
    struct fold_positions none;
    struct listed listed;
    struct replay_latest latest;
};

static inline void reading_begin (struct reading *x, struct setting *s)
{
    *x = (struct reading) { .none = { .count = 0 } };
    assert_int_equal (index_reader_new (&s->j.context, &x->index), 0);
    assert_int_equal (log_reader_new (s->j.context.log, &x->reader), 0);
    x->latest = (struct replay_latest) { .index = index_reader_latest (x->index), .next = 1, .end = s->end };
}

static inline int reading_step (struct reading *x)
{
    const struct replay_latest_sink sink = { .context = &x->listed, .fact = list_batch, .gap = list_gap };
    return replay_latest_step (&x->latest, x->reader, NULL, 0, &x->none, &x->scratch, &sink);
}

/* All that there is: the newest of each key, in order, each once. */
static inline void read_latest (struct setting *s, struct reading *x)
{
    const uint64_t until = node_now () + (uint64_t) FAKE_PATIENCE_MS * FAKE_NS_PER_MS;
    x->latest.next = 1;
    x->latest.end = s->end;
    x->listed.count = 0;
    while (x->latest.next < x->latest.end) {
        const int rc = reading_step (x);
        assert_true (rc == 0 || rc == -EAGAIN);
        assert_true (node_now () < until);
        if (rc)
            (void) poll (NULL, 0, 1);
    }
    size_t at = 0;
    for (uint64_t n = 1; n < s->end; n++)
        if (newest_of (n % 2, n % KEYS, s->end) == n) {
            assert_true (at < x->listed.count);
            assert_int_equal (x->listed.offsets[at++], n);
        }
    assert_int_equal (at, x->listed.count);
}

static inline void reading_end (struct reading *x)
{
    replay_latest_release (&x->latest);
    batch_scratch_release (&x->scratch);
    log_reader_destroy (&x->reader);
    index_reader_destroy (&x->index);
}

#endif
