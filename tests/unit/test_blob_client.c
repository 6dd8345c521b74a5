/* blob client: putting and getting blobs over a real journal in this process. The journal's node counts what arrives, and can spoil it; what comes back is
 * compared with what was put. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../support/mesh_kit.h"
#include "blob_link.h"
#include "blob_pool.h"
#include "../support/assert_done.h"

enum { ROUTES_MAX = 64, CONTENT_MAX = 1 << 20, STEP_MS = 5 };

/* --- What arrives at the journal. The node's thread fills it in; the tests look, and say what is to be spoilt, under its lock. */

enum spoil { SPOIL_NOTHING, SPOIL_NO_CONTENT, SPOIL_ONE_BYTE, SPOIL_OLD_ANSWER };

struct ear {
    struct fm_node *node;
    pthread_mutex_t lock;
    unsigned opens, chunks, ends, reads, stats;
    struct node_route routes[ROUTES_MAX];
    unsigned route_count;
    uint64_t last_request;
    enum spoil spoil;
    unsigned spoils;                    /* how often still */
};

static void note_route (struct ear *e, const struct node_route *from)
{
    for (unsigned i = 0; i < e->route_count; i++)
        if (e->routes[i].len == from->len && memcmp (e->routes[i].bytes, from->bytes, from->len) == 0)
            return;
    if (e->route_count == ROUTES_MAX)
        abort ();                       /* in a thread that is not cmocka's */
    e->routes[e->route_count++] = *from;
}

/* "It is stored", for the request before this one. */
static void answer_old (struct ear *e, const struct node_route *from)
{
    static const uint8_t sha256[BLOB_DIGEST_LEN] = { 1 };
    Factmesh__BlobInfo info = FACTMESH__BLOB_INFO__INIT;
    Factmesh__BlobPutState state = FACTMESH__BLOB_PUT_STATE__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    zmq_msg_t message;
    info.sha256 = control_put_slice (slice (sha256, sizeof sha256));
    state.blob = &info;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_STATE;
    control.blob_put_state = &state;
    control.request = e->last_request;
    if (control_encode (&control, node_mesh (e->node), &message) == 0 && node_reply (e->node, from, &message) != 0)
        zmq_msg_close (&message);
}

/* 0: the journal does not see it. */
static int spoil_open (struct ear *e, const struct node_route *from, const Factmesh__Control *control)
{
    Factmesh__BlobPutOpen *open = control->blob_put_open;
    if (!e->spoils)
        return FM_ERR_UNKNOWN;
    e->spoils--;
    switch (e->spoil) {
    case SPOIL_NO_CONTENT:
        open->content.len = 0;
        break;
    case SPOIL_ONE_BYTE:
        open->content.data[0] ^= 1;
        break;
    case SPOIL_OLD_ANSWER:
        answer_old (e, from);
        return 0;
    case SPOIL_NOTHING:
        break;
    }
    return FM_ERR_UNKNOWN;
}

static int hear (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    struct ear *e = arg;
    int rc = FM_ERR_UNKNOWN;
    pthread_mutex_lock (&e->lock);
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN:
        e->opens++;
        rc = spoil_open (e, from, control);
        break;
    case FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK:
        e->chunks++;
        break;
    case FACTMESH__CONTROL__BODY_BLOB_PUT_END:
        e->ends++;
        break;
    case FACTMESH__CONTROL__BODY_BLOB_READ:
        e->reads++;
        break;
    case FACTMESH__CONTROL__BODY_BLOB_STAT:
        e->stats++;
        break;
    default:
        pthread_mutex_unlock (&e->lock);
        return FM_ERR_UNKNOWN;
    }
    note_route (e, from);
    e->last_request = control->request;
    pthread_mutex_unlock (&e->lock);
    return rc;
}

static void listen_at (struct ear *e, struct fm_node *journal)
{
    memset (e, 0, sizeof *e);
    pthread_mutex_init (&e->lock, NULL);
    e->node = journal;
    assert_done (node_handle_first (journal, hear, e));
}

/* One of its numbers, now. */
static unsigned heard (struct ear *e, const unsigned *number)
{
    pthread_mutex_lock (&e->lock);
    const unsigned value = *number;
    pthread_mutex_unlock (&e->lock);
    return value;
}

static void spoil (struct ear *e, enum spoil how, unsigned times)
{
    pthread_mutex_lock (&e->lock);
    e->spoil = how;
    e->spoils = times;
    pthread_mutex_unlock (&e->lock);
}

/* --- Contents whose every byte follows from the number. */

static void fill (uint8_t *to, size_t len, unsigned number)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t) (number * 37 + i * 11 + (i >> 8) * 3 + i / 70000);
}

struct sink {
    unsigned number;
    size_t len, size;
};

static int compare (void *arg, const void *data, size_t len)
{
    struct sink *s = arg;
    uint8_t *wanted = malloc (s->size + 1);
    fill (wanted, s->size, s->number);
    const bool same = len <= s->size - s->len && memcmp (wanted + s->len, data, len) == 0;
    free (wanted);
    s->len += len;
    return same ? 0 : FM_ERR_CORRUPT;
}

static int put (struct fm_node *node, unsigned number, size_t size, struct fm_blob *ret_blob)
{
    static const struct fm_blob_options options = { .media_type = "text/x-test", .timeout_ms = MESH_PATIENCE_MS };
    uint8_t *bytes = malloc (size + 1);
    fill (bytes, size, number);
    const int rc = fm_blob_put_bytes (node, slice (bytes, size), &options, ret_blob);
    free (bytes);
    return rc;
}

/* What is there is what was put. */
static int look (struct fm_node *node, unsigned number, const struct fm_blob *blob)
{
    struct sink sink = { .number = number, .size = blob->size };
    struct fm_blob_info info;
    const int rc = fm_blob_get (node, blob->sha256, compare, &sink, NULL, &info);
    if (rc)
        return rc;
    return sink.len == blob->size && info.blob.size == blob->size && strcmp (info.media_type, "text/x-test") == 0 ? 0 : FM_ERR_CORRUPT;
}

/* --- Cases. */

static void a_small_blob_takes_one_message_and_all_share_one_connection (void **state)
{
    (void) state;
    enum { BLOBS = 20 };
    struct mesh m;
    struct ear ear;
    struct fm_blob blobs[BLOBS];
    struct fm_blob_info info;
    mesh_open (&m, true, 0);
    listen_at (&ear, m.journal_node);
    for (unsigned i = 0; i < BLOBS; i++)
        assert_done (put (m.subscriber_node, i, i < 2 ? BLOB_WHOLE_MAX - i : i * 100 - 100, &blobs[i]));
    for (unsigned i = 0; i < BLOBS; i++) {
        assert_done (look (m.subscriber_node, i, &blobs[i]));
        assert_done (fm_blob_stat (m.subscriber_node, blobs[i].sha256, NULL, &info));
        assert_int_equal (info.blob.size, blobs[i].size);
    }
    node_unhandle (m.journal_node, &ear);
    assert_int_equal (heard (&ear, &ear.opens), BLOBS);
    assert_int_equal (heard (&ear, &ear.chunks) + heard (&ear, &ear.ends), 0);
    assert_int_equal (heard (&ear, &ear.reads), BLOBS);
    assert_int_equal (heard (&ear, &ear.stats), BLOBS);
    assert_int_equal (heard (&ear, &ear.route_count), 1);
    mesh_close (&m);
}

/* What BLOB_WHOLE_MAX + 1 bytes take, and a journal of before. */
static void what_is_not_taken_whole_goes_in_chunks (void **state)
{
    (void) state;
    struct mesh m;
    struct ear ear;
    struct fm_blob blobs[3];
    mesh_open (&m, true, 0);
    listen_at (&ear, m.journal_node);
    spoil (&ear, SPOIL_NO_CONTENT, 1);
    assert_done (put (m.subscriber_node, 0, 5000, &blobs[0]));
    assert_int_equal (heard (&ear, &ear.opens), 1);
    assert_int_equal (heard (&ear, &ear.chunks), 1);
    assert_done (put (m.subscriber_node, 1, BLOB_WHOLE_MAX + 1, &blobs[1]));
    assert_int_equal (heard (&ear, &ear.opens), 2);
    assert_int_equal (heard (&ear, &ear.chunks), 2);
    assert_done (put (m.subscriber_node, 2, 2 * BLOB_BLOCK + 1, &blobs[2]));
    assert_int_equal (heard (&ear, &ear.opens), 3);
    assert_int_equal (heard (&ear, &ear.chunks), 5);
    assert_int_equal (heard (&ear, &ear.ends), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_done (look (m.subscriber_node, i, &blobs[i]));
    node_unhandle (m.journal_node, &ear);
    mesh_close (&m);
}

static void a_content_that_is_not_what_its_digest_says_is_refused (void **state)
{
    (void) state;
    struct mesh m;
    struct ear ear;
    struct fm_blob blob;
    struct fm_blob_info info;
    uint8_t sha256[BLOB_DIGEST_LEN];
    mesh_open (&m, true, 0);
    listen_at (&ear, m.journal_node);
    spoil (&ear, SPOIL_ONE_BYTE, 2);
    assert_int_equal (put (m.subscriber_node, 7, 3000, &blob), FM_ERR_CORRUPT);
    assert_int_equal (heard (&ear, &ear.opens), 2);    /* it is tried once more */
    spoil (&ear, SPOIL_ONE_BYTE, 1);
    assert_done (put (m.subscriber_node, 7, 3000, &blob));
    assert_done (look (m.subscriber_node, 7, &blob));
    node_unhandle (m.journal_node, &ear);
    /* Nothing else was stored. */
    memcpy (sha256, blob.sha256, sizeof sha256);
    sha256[5] ^= 1;
    assert_int_equal (fm_blob_stat (m.subscriber_node, sha256, NULL, &info), FM_ERR_UNKNOWN);
    mesh_close (&m);
}

static void an_answer_to_an_earlier_blob_is_not_taken_for_this_one (void **state)
{
    (void) state;
    struct mesh m;
    struct ear ear;
    struct fm_blob blobs[2];
    mesh_open (&m, true, 0);
    listen_at (&ear, m.journal_node);
    assert_done (put (m.subscriber_node, 0, 1000, &blobs[0]));
    spoil (&ear, SPOIL_OLD_ANSWER, 1);
    assert_done (put (m.subscriber_node, 1, 1000, &blobs[1]));
    assert_done (look (m.subscriber_node, 1, &blobs[1]));
    node_unhandle (m.journal_node, &ear);
    assert_int_equal (heard (&ear, &ear.opens), 3);    /* the second one was asked again */
    mesh_close (&m);
}

struct user {
    struct fm_node *node;
    unsigned first, count;
    pthread_t thread;
    int rc;
};

static void *use (void *arg)
{
    struct user *u = arg;
    struct fm_blob blob;
    for (unsigned i = 0; i < u->count && !u->rc; i++) {
        u->rc = put (u->node, u->first + i, 700 + i, &blob);
        if (!u->rc)
            u->rc = look (u->node, u->first + i, &blob);
    }
    return NULL;
}

static size_t kept (struct fm_node *node)
{
    struct blob_pool *pool = node_blob_pool (node);
    pthread_mutex_lock (&pool->lock);
    const size_t count = pool->count;
    pthread_mutex_unlock (&pool->lock);
    return count;
}

static void threads_do_not_share_a_connection_and_few_are_kept (void **state)
{
    (void) state;
    enum { USERS = 12, BLOBS = 6 };
    struct mesh m;
    struct ear ear;
    struct user users[USERS] = { { .node = NULL } };
    mesh_open (&m, true, 0);
    listen_at (&ear, m.journal_node);
    for (unsigned i = 0; i < USERS; i++) {
        users[i] = (struct user) { .node = m.subscriber_node, .first = i * BLOBS, .count = BLOBS };
        assert_int_equal (pthread_create (&users[i].thread, NULL, use, &users[i]), 0);
    }
    for (unsigned i = 0; i < USERS; i++) {
        assert_int_equal (pthread_join (users[i].thread, NULL), 0);
        assert_done (users[i].rc);
    }
    node_unhandle (m.journal_node, &ear);
    assert_in_range (kept (m.subscriber_node), 1, BLOB_POOL_MAX);
    assert_in_range (heard (&ear, &ear.opens), USERS * BLOBS, UINT32_MAX);
    mesh_close (&m);
}

static void more_than_fit_are_closed_and_each_is_taken_once (void **state)
{
    (void) state;
    struct fm_node *node = mesh_open_node ("pool", NULL, 0);
    struct blob_pool *pool = node_blob_pool (node);
    struct replay_client *clients[BLOB_POOL_MAX + 1], *last[2];
    const struct fm_id journal = { .bytes = { 1 } }, other = { .bytes = { 2 } };
    assert_null (blob_pool_take (pool, &journal));
    for (unsigned i = 0; i <= BLOB_POOL_MAX; i++) {
        assert_done (replay_client_new (node, fm_node_address (node), &clients[i]));
        if (i >= BLOB_POOL_MAX - 1)
            last[i - (BLOB_POOL_MAX - 1)] = clients[i];
        blob_pool_give (pool, &journal, &clients[i]);
        assert_null (clients[i]);
    }
    assert_int_equal (kept (node), BLOB_POOL_MAX);
    assert_null (blob_pool_take (pool, &other));
    struct replay_client *first = blob_pool_take (pool, &journal), *second = blob_pool_take (pool, &journal);
    assert_ptr_equal (first, last[1]);
    assert_ptr_equal (second, last[0]);
    replay_client_destroy (&first);
    replay_client_destroy (&second);
    fm_node_close (&node);
}

static void what_nobody_uses_for_a_while_is_closed (void **state)
{
    (void) state;
    struct mesh m;
    struct ear ear;
    struct fm_blob blob;
    mesh_open (&m, true, 0);
    listen_at (&ear, m.journal_node);
    node_blob_pool (m.subscriber_node)->idle_ms = STEP_MS;
    for (unsigned round = 1; round <= 3; round++) {
        assert_done (put (m.subscriber_node, round, 500, &blob));
        for (unsigned waited_ms = 0; kept (m.subscriber_node); waited_ms += STEP_MS) {
            assert_true (waited_ms < MESH_PATIENCE_MS);
            (void) fm_node_wait_members (m.subscriber_node, 99, STEP_MS);       /* a look every so often */
        }
        assert_int_equal (heard (&ear, &ear.route_count), round);
    }
    node_unhandle (m.journal_node, &ear);
    mesh_close (&m);
}

static void a_journal_that_starts_anew_is_connected_to_anew (void **state)
{
    (void) state;
    struct mesh m;
    struct fm_blob blobs[2];
    mesh_open (&m, true, 0);
    assert_done (put (m.subscriber_node, 0, 500, &blobs[0]));
    for (unsigned round = 0; round < 3; round++) {
        mesh_close_journal (&m);
        mesh_open_journal (&m);
        assert_done (put (m.subscriber_node, 1 + round, 500, &blobs[1]));
        assert_done (look (m.subscriber_node, 1 + round, &blobs[1]));
        assert_done (look (m.subscriber_node, 0, &blobs[0]));
    }
    mesh_close (&m);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_small_blob_takes_one_message_and_all_share_one_connection),
        cmocka_unit_test (what_is_not_taken_whole_goes_in_chunks),
        cmocka_unit_test (a_content_that_is_not_what_its_digest_says_is_refused),
        cmocka_unit_test (an_answer_to_an_earlier_blob_is_not_taken_for_this_one),
        cmocka_unit_test (threads_do_not_share_a_connection_and_few_are_kept),
        cmocka_unit_test (more_than_fit_are_closed_and_each_is_taken_once),
        cmocka_unit_test (what_nobody_uses_for_a_while_is_closed),
        cmocka_unit_test (a_journal_that_starts_anew_is_connected_to_anew),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
