#include "index_reader.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "index_db.h"
#include "indexer.h"

enum { NS_PER_MS = 1000000, FORGOTTEN_MS = 1000 };     /* nobody asked for so long: the waiting begins anew */

struct index_reader {
    struct journal_context *context;
    struct replay_index latest;
    struct index_db *db;                /* NULL: not opened */
    unsigned made;                      /* which making of the database it is */
    uint64_t next, next_ns;             /* how far the index was, since when */
    uint64_t asked_ns;                  /* waited last */
};

/* The index is not there yet: wake it. */
static int wait_for (struct index_reader *r, struct indexer *x, uint64_t next)
{
    const uint64_t now = node_now ();
    if (next != r->next || now - r->asked_ns > (uint64_t) FORGOTTEN_MS * NS_PER_MS) {
        r->next = next;
        r->next_ns = now;
    }
    r->asked_ns = now;
    if (x)
        indexer_ask (x);
    if (now - r->next_ns < (uint64_t) INDEXER_WAIT_MS * NS_PER_MS)
        return -EAGAIN;
    return error_set (FM_TIMEOUT, "the index is behind, at offset %llu; ask again later", (unsigned long long) next);
}

/* It can't be read: opened again when the indexer, which is told when it is damaged, has made it anew. */
static int lose (struct index_reader *r, struct indexer *x, uint64_t next)
{
    if (index_db_is_damaged (r->db))
        indexer_doubt (x, r->made);
    index_db_close (&r->db);
    return wait_for (r, x, next);
}

/* Begin a snapshot that has everything below `end`. */
static int begin (struct index_reader *r, uint64_t end)
{
    struct indexer *x = atomic_load (&r->context->indexer);
    if (!x)
        return wait_for (r, NULL, 0);
    /* In this order: were the database made anew in between, `made` would have changed when the snapshot is there. */
    const unsigned made = indexer_made (x);
    const uint64_t next = indexer_next (x);
    if (next < end)
        return wait_for (r, x, next);
    if (r->db && r->made != made)
        index_db_close (&r->db);
    const int opened = r->db ? 0 : index_db_open (indexer_path (x), &r->context->journal, r->context->generation, true, &r->db);
    if (opened == FM_ERR_CORRUPT)
        indexer_doubt (x, made);
    if (opened)
        return wait_for (r, x, next);
    r->made = made;
    const int rc = index_db_snapshot (r->db);
    if (rc == 0 && indexer_made (x) == made)
        return 0;
    return lose (r, x, next);
}

struct page {
    bool (*each) (void *arg, struct fm_slice topic, uint64_t offset);
    void *arg;
    unsigned rows;
    uint64_t next;
};

static bool row (void *arg, struct fm_slice topic, uint64_t offset)
{
    struct page *p = arg;
    if (!p->each (p->arg, topic, offset))
        return false;
    p->rows++;
    p->next = offset + 1;
    return true;
}

static int page (void *context, uint64_t from, uint64_t end, bool (*each) (void *arg, struct fm_slice topic, uint64_t offset), void *arg,
                 uint64_t *ret_next)
{
    struct index_reader *r = context;
    struct page p = { .each = each, .arg = arg, .next = from };
    int rc = begin (r, end);
    if (rc)
        return rc;
    rc = index_db_latest_each (r->db, from, end, INDEX_READER_ROWS, row, &p);
    if (rc) {
        struct indexer *x = atomic_load (&r->context->indexer);
        return lose (r, x, indexer_next (x));
    }
    index_db_rollback (r->db);
    *ret_next = p.rows < INDEX_READER_ROWS ? end : p.next;
    return 0;
}

/* The log holds another fact there than the index says. */
static int wrong (void *context)
{
    struct index_reader *r = context;
    struct indexer *x = atomic_load (&r->context->indexer);
    indexer_doubt (x, r->made);
    index_db_close (&r->db);
    return wait_for (r, x, indexer_next (x));
}

const struct replay_index *index_reader_latest (const struct index_reader *reader)
{
    return &reader->latest;
}

int index_reader_new (struct journal_context *context, struct index_reader **ret_reader)
{
    struct index_reader *r = calloc (1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->context = context;
    r->latest = (struct replay_index) { .context = r, .page = page, .wrong = wrong };
    *ret_reader = r;
    return 0;
}

void index_reader_destroy (struct index_reader **reader)
{
    struct index_reader *r = *reader;
    if (r)
        index_db_close (&r->db);
    free (r);
    *reader = NULL;
}
