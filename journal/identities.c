#include "identities.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "factmesh.pb-c.h"
#include "record.h"

static_assert (FACTMESH__FEATURE__FEATURE_IDENTITY == 2, "as in identities_concern");

void identities_init (struct identities *x, uint32_t max)
{
    *x = (struct identities) { .loaded = false };
    identity_table_init (&x->table, max);
}

void identities_release (struct identities *x)
{
    identity_table_release (&x->table);
    free (x->run);
    x->run = NULL;
    x->run_size = 0;
    x->loaded = false;
}

/* An identity that is there already keeps its fact. */
static int learn (void *arg, const struct identity_entry *e)
{
    struct identities *x = arg;
    return identity_table_find (&x->table, e->hash) ? 0 : identity_table_put (&x->table, e);
}

static int load (struct identities *x, struct log *log, uint64_t below, uint32_t *ret_unread)
{
    const int rc = log_identities (log, below, x->table.max, learn, x, ret_unread);
    if (rc)
        identity_table_release (&x->table);
    x->loaded = rc == 0;
    return rc;
}

int identities_load (struct identities *x, struct log *log, uint32_t *ret_unread)
{
    return load (x, log, UINT64_MAX, ret_unread);
}

int identities_load_below (struct identities *x, struct log *log, uint64_t segment)
{
    uint32_t unread;
    return load (x, log, segment, &unread);
}

int identities_learn (struct identities *x, const struct batch *b)
{
    struct identity_reader reader;
    struct identity_entry e;
    int rc = 0;
    identity_reader_init (&reader, b);
    while (rc == 0 && identity_reader_next (&reader, &e) == 0)
        rc = learn (x, &e);
    return rc;
}

static int run_reserve (struct identities *x, size_t len)
{
    if (len <= x->run_size)
        return 0;
    const size_t size = len < 2 * x->run_size ? 2 * x->run_size : len + 1024;
    uint8_t *bigger = realloc (x->run, size);
    if (!bigger)
        return -ENOMEM;
    x->run = bigger;
    x->run_size = size;
    return 0;
}

void identities_undo (struct identities *x)
{
    identity_table_take_back (&x->table, x->put);
    x->put = 0;
}

/* One fact: is it known? Else it is from now on. *len: of the run so far, its head included. */
static int decide (struct identities *x, const struct batch *b, const struct fm_fact *fact, size_t *len, uint32_t *count)
{
    struct identity_entry e = { .fact = fact->id };
    identity_hash (fact->identity, e.hash);
    const struct fm_fact_id *const first = identity_table_find (&x->table, e.hash);
    int rc;
    if (!first) {
        rc = identity_table_put (&x->table, &e);
        x->put += rc == 0;
        return rc;
    }
    /* A batch at the very limit cannot take it all: what does not fit is not told. No publisher makes such a one with more than one fact. */
    if (*len + BATCH_DUPLICATE_MAX > RECORD_BODY_MAX - b->len)
        return 0;
    rc = run_reserve (x, *len + BATCH_DUPLICATE_MAX);
    if (rc)
        return rc;
    const struct batch_duplicate d = { .seq = fact->id.seq, .first = *first };
    *len = (size_t) (batch_duplicate_encode (x->run + *len, &d) - x->run);
    ++*count;
    return 0;
}

int identities_decide (struct identities *x, const struct batch *b, struct fm_slice *ret_front, uint32_t *ret_count)
{
    struct batch_reader reader;
    struct fm_fact fact;
    size_t len = BATCH_DUPLICATES_HEAD;
    uint32_t count = 0;
    int rc = 0;
    x->put = 0;
    batch_reader_init (&reader, b);
    while (rc == 0 && batch_reader_next (&reader, &fact) == 0)
        if (fact.identity.len)
            rc = decide (x, b, &fact, &len, &count);
    if (rc) {
        identities_undo (x);
        return rc;
    }
    *ret_front = slice (NULL, 0);
    *ret_count = count;
    if (count) {
        const uint8_t *const front = batch_duplicates_close (x->run + BATCH_DUPLICATES_HEAD, len - BATCH_DUPLICATES_HEAD);
        *ret_front = slice (front, (size_t) (x->run + len - front));
    }
    return 0;
}
