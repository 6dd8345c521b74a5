/* scripted_blob: what a blob's client needs of its node beside journals by script (scripted_journal.h): the pool of connections, and who publishes. The blob
 * that journals have is `content`. */

#ifndef FM_TESTS_SCRIPTED_BLOB_H
#define FM_TESTS_SCRIPTED_BLOB_H

#include "scripted_journal.h"

#include "blob.h"
#include "blob_link.h"
#include "blob_pool.h"
#include "publisher.h"
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

/* What was published last. */
static unsigned published;
static size_t published_len;
static uint8_t published_ref[FM_BLOB_REF];
static size_t published_ref_len;

int fm_publish (struct fm_publisher *publisher, const struct fm_fact *fact, struct fm_fact_id *ret_id)
{
    (void) publisher, (void) ret_id;
    published++;
    published_len = fact->payload.len;
    published_ref_len = fact->blob.len;
    assert_true (fact->blob.len <= sizeof published_ref);
    if (fact->blob.len)
        memcpy (published_ref, fact->blob.data, fact->blob.len);
    return FM_ERR_WINDOW_FULL;          /* what it says is passed on */
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

static inline void say_data (struct scripted *j, uint64_t request, const Factmesh__BlobRead *read, const uint8_t *bytes)
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

static inline void say_stored (struct scripted *j, uint64_t request)
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

static inline void serve (struct scripted *j, const Factmesh__Control *question)
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

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

#endif
