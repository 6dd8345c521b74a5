#include "indexer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "batch.h"
#include "checksum.h"
#include "control.h"
#include "error.h"
#include "fact_finder.h"
#include "index_db.h"
#include "mailbox.h"
#include "recent.h"

enum { NS_PER_MS = 1000000, WAIT_MAX_MS = 1000, PATH_BYTES = 4096 };
#define CACHE_BYTES ((size_t) 4 << 20)
#define FEATURES (FACTMESH__FEATURE__FEATURE_KEY | FACTMESH__FEATURE__FEATURE_CAUSATION | FACTMESH__FEATURE__FEATURE_CORRECTS | FACTMESH__FEATURE__FEATURE_CORRELATION | \
                  FACTMESH__FEATURE__FEATURE_BLOB)

/* A request that waits until the index is at `offset`. */
struct waiting {
    struct waiting *next;
    struct mail *mail;
    uint64_t offset, until_ns;
};

struct indexer {
    struct journal_context *context;
    pthread_t thread;
    bool runs, handles;
    struct blobs *blobs;
    atomic_bool stop;
    struct mailbox box;
    char path[PATH_BYTES];
    struct index_db *db;                /* NULL: could not be opened; tried again */
    bool make;                          /* what is there is damaged: it is made anew */
    uint64_t made_ns;                   /* when that was last found */
    uint64_t retry_ns, forget_ns;
    bool told;                          /* of the error that lasts */
    struct log_reader *reader;
    bool placed;
    uint64_t at;                        /* everything below is in the index, or says nothing */
    struct batch_scratch scratch;
    struct fact_finder *finder;
    struct waiting *waiting, **waiting_end;
    unsigned waiting_count;
    _Atomic uint64_t next;
    atomic_uint made;
    atomic_uint doubted;                /* the making that a reader found damaged, and one; 0: none */
};

uint64_t indexer_correlation_hash (struct fm_slice correlation)
{
    return checksum (correlation.data, correlation.len);
}

uint64_t indexer_next (const struct indexer *x)
{
    return atomic_load (&x->next);
}

void indexer_ask (struct indexer *x)
{
    wake_raise (&x->context->bells[BELL_INDEXER].wake);
}

unsigned indexer_made (const struct indexer *x)
{
    return atomic_load (&x->made);
}

void indexer_doubt (struct indexer *x, unsigned made)
{
    atomic_store (&x->doubted, made + 1);
    indexer_ask (x);
}

const char *indexer_path (const struct indexer *x)
{
    return x->path;
}

/* --- Reading the log. */

/* What can't be read may point to any blob: none goes as long as it is held. */
static int index_unread (struct indexer *x, uint64_t offset)
{
    return index_db_put_blob (x->db, slice (NULL, 0), offset);
}

static int index_blob (struct indexer *x, struct fm_slice ref, uint64_t offset)
{
    struct fm_blob blob;
    const bool known = blob_ref_decode (ref, &blob) == 0;       /* the batch's reader sees to that */
    return index_db_put_blob (x->db, known ? slice (blob.sha256, BLOB_DIGEST_LEN) : slice (NULL, 0), offset);
}

static int index_fact (struct indexer *x, const struct fm_fact *f, uint64_t offset)
{
    int rc = 0;
    if (f->key.len)
        rc = index_db_put_latest (x->db, f->topic, f->key, offset, (f->flags & FM_TOMBSTONE) && !f->payload.len);
    if (!rc && !id_is_zero (&f->causation.stream))
        rc = index_db_put_link (x->db, &f->causation, INDEX_CAUSED, offset);
    if (!rc && !id_is_zero (&f->corrects.stream))
        rc = index_db_put_link (x->db, &f->corrects, INDEX_CORRECTED, offset);
    if (!rc && f->correlation.len)
        rc = index_db_put_correlation (x->db, indexer_correlation_hash (f->correlation), offset);
    if (!rc && f->blob.len)
        rc = index_blob (x, f->blob, offset);
    return rc;
}

static int index_batch (struct indexer *x, const struct log_item *item, unsigned *rows)
{
    struct batch b;
    struct batch_reader reader;
    struct batch_duplicates duplicates;
    struct fm_fact fact;
    const int decoded = item->bytes.len ? batch_decode (item->bytes.data, item->bytes.len, slice (NULL, 0), &x->scratch, &b) : FM_ERR_MALFORMED;
    if (decoded == -ENOMEM)
        return decoded;
    if (decoded) {
        ++*rows;
        return index_unread (x, item->offset);      /* a newer version recorded it */
    }
    if (!(b.features & FEATURES))
        return 0;
    batch_reader_init (&reader, &b);
    batch_duplicates_init (&duplicates, &b);
    int rc = 0, read;
    uint64_t offset = item->offset;
    /* A fact that repeats another is no newer state of its key, and no second effect. */
    for (; !rc && (read = batch_reader_next (&reader, &fact)) == 0; offset++, (*rows)++)
        rc = batch_duplicates_meet (&duplicates, fact.id.seq) ? 0 : index_fact (x, &fact, offset);
    return rc || read == FM_ERR_END ? rc : index_unread (x, offset);
}

/* Stand where there is something to be indexed next. What was appended lately is known by its features: a flow in which nothing matters is not even
 * read. *ret_next: everything below is done with. FM_ERR_END: that is all there is. */
static int place (struct indexer *x, uint64_t *ret_next)
{
    int rc = 0;
    struct log_position at;
    log_position (x->context->log, &at);
    uint64_t next = *ret_next;
    const uint64_t skipped = recent_skip (x->context->recent, next, FEATURES);
    if (skipped > next) {
        next = skipped < at.synced_offset ? skipped : at.synced_offset;
        x->placed = x->placed && next == *ret_next;
    }
    *ret_next = next;
    if (next >= at.synced_offset)
        return FM_ERR_END;
    if (!x->reader)
        rc = log_reader_new (x->context->log, &x->reader);
    if (!rc && !x->placed)
        rc = log_reader_seek_offset (x->reader, next);
    x->placed = rc == 0;
    return rc;
}

/* One transaction. *ret_more: there is more to read. */
static int index_some (struct indexer *x, bool *ret_more)
{
    unsigned rows = 0, records = 0;
    uint64_t next = x->at > index_db_next (x->db) ? x->at : index_db_next (x->db), remaining;
    int rc = place (x, &next);
    if (!rc)
        rc = index_db_begin (x->db);
    const bool begun = rc == 0;
    for (; !rc && rows < INDEXER_ROWS && records < INDEXER_RECORDS; records++) {
        struct log_item item;
        rc = log_reader_next (x->reader, &item);
        if (!rc && item.kind == LOG_ITEM_BATCH)
            rc = index_batch (x, &item, &rows);
        else if (!rc && item.reason == FACTMESH__GAP_REASON__GAP_DAMAGED) {
            rows++;
            rc = index_unread (x, item.offset);     /* a repair may bring it back */
        }
        if (!rc)
            log_reader_position (x->reader, &next, &remaining);
    }
    *ret_more = rc == 0;
    if (rc == FM_ERR_END)
        rc = 0;
    /* A place that moved over nothing is put down now and then: losing it costs another look. */
    if (!rc && begun && (rows || next >= index_db_next (x->db) + INDEXER_PLACE_FACTS))
        rc = index_db_commit (x->db, next);
    else if (begun)
        index_db_rollback (x->db);
    if (rc) {
        x->placed = false;
        return rc;
    }
    x->at = next;
    atomic_store (&x->next, next);
    return 0;
}

static int forget_some (struct indexer *x, uint64_t now, bool *ret_more)
{
    struct log_position at;
    *ret_more = false;
    if (now < x->forget_ns)
        return 0;
    log_position (x->context->log, &at);
    const int rc = at.first_offset > 1 ? index_db_forget (x->db, at.first_offset, INDEXER_ROWS, ret_more) : 0;
    if (!*ret_more)
        x->forget_ns = now + (uint64_t) INDEXER_FORGET_MS * NS_PER_MS;
    return rc;
}

/* --- What blobs are pointed to. */

static bool has_passed (void *arg, uint64_t offset)
{
    const struct indexer *x = arg;
    return x->db && x->at >= offset;
}

static int is_used (void *arg, const uint8_t *digest)
{
    struct indexer *x = arg;
    struct log_position at;
    uint64_t newest;
    log_position (x->context->log, &at);
    int rc = index_db_blob (x->db, slice (NULL, 0), &newest);
    if (rc == 0 && newest >= at.first_offset)
        return error_set (FM_ERR_CORRUPT, "the fact at offset %llu cannot be read, and may point to any blob", (unsigned long long) newest);
    if (rc == 0 || rc == FM_ERR_UNKNOWN)
        rc = index_db_blob (x->db, slice (digest, BLOB_DIGEST_LEN), &newest);
    return rc == FM_ERR_UNKNOWN ? 0 : rc ? rc : newest >= at.first_offset;
}

static bool sweep_blobs (struct indexer *x, uint64_t now)
{
    const struct blobs_use use = { .arg = x, .passed = has_passed, .used = is_used };
    return blobs_sweep (x->blobs, now, &use);
}

/* --- Opening it, and giving it up. */

/* Whoever reads it opens it again. */
static void give_up (struct indexer *x)
{
    index_db_close (&x->db);
    x->at = 0;
    x->placed = false;
    atomic_store (&x->next, 0);         /* before it is said that it is made anew: index_reader */
    atomic_fetch_add (&x->made, 1);
}

/* It is damaged, and can be made anew: at once, but not again and again. The error's detail says how it showed. */
static void set_aside (struct indexer *x, uint64_t now)
{
    journal_notice (x->context, "INDEX-DAMAGED", "%s; it is made anew from the log, and requests wait for it", fm_error_detail ());
    give_up (x);
    x->make = true;
    if (x->made_ns && now - x->made_ns < (uint64_t) INDEXER_RETRY_MS * NS_PER_MS)
        x->retry_ns = now + (uint64_t) INDEXER_RETRY_MS * NS_PER_MS;
    x->made_ns = now;
}

static int open_index (struct indexer *x, uint64_t now)
{
    int rc = FM_ERR_UNKNOWN;
    if (!x->make)
        rc = index_db_open (x->path, &x->context->journal, x->context->generation, false, &x->db);
    if (rc == 0) {
        struct log_position at;
        log_position (x->context->log, &at);
        if (index_db_next (x->db) <= at.synced_offset)
            return 0;
        /* The log lost its end: other facts get those offsets. */
        rc = error_set (FM_ERR_CORRUPT, "index: it is at offset %llu, and the log ends at %llu", (unsigned long long) index_db_next (x->db),
                        (unsigned long long) at.synced_offset);
    }
    if (rc == FM_ERR_CORRUPT)
        set_aside (x, now);
    else if (rc != FM_ERR_UNKNOWN && rc != FM_ERR_FOREIGN)
        return rc;
    rc = index_db_make (x->path, &x->context->journal, x->context->generation, &x->db);
    x->make = rc != 0;
    return rc;
}

/* Bring the index on. True: there is more to do at once. */
static bool work (struct indexer *x, uint64_t now)
{
    bool more = false, forget_more = false;
    int rc = 0;
    if (now < x->retry_ns)
        return false;
    if (x->db && atomic_load (&x->doubted) == atomic_load (&x->made) + 1) {
        (void) index_db_is_wrong (x->db);
        set_aside (x, now);
        return true;
    }
    if (!x->db)
        rc = open_index (x, now);
    if (!rc)
        rc = index_some (x, &more);
    if (!rc)
        rc = forget_some (x, now, &forget_more);
    if (rc && x->db && index_db_is_damaged (x->db)) {
        set_aside (x, now);
        return true;
    }
    if (rc) {
        if (!x->told)
            journal_notice (x->context, "INDEX-FAILED", "%s (%s); tried again each %d ms; recording and replay go on", fm_error_text (rc), fm_error_detail (), (int) INDEXER_RETRY_MS);
        x->told = true;
        x->retry_ns = now + (uint64_t) INDEXER_RETRY_MS * NS_PER_MS;
        give_up (x);
        return false;
    }
    x->told = false;
    return more || forget_more;
}

/* --- Answers. */

static void refuse (struct indexer *x, const struct mail *mail, Factmesh__ErrorCode code, const char *text)
{
    journal_count (x->context, JOURNAL_REQUESTS_REFUSED, 1);
    /* Whoever does not get it times out. */
    (void) node_reply_error (x->context->node, &mail->from, mail->control->request, 0, code, text);
}

static void answer (struct indexer *x, const struct mail *mail, Factmesh__Control *control)
{
    zmq_msg_t message;
    control->request = mail->control->request;
    if (control_encode (control, node_mesh (x->context->node), &message) != 0)
        return;
    if (node_reply (x->context->node, &mail->from, &message) != 0)
        zmq_msg_close (&message);
}

static int get_id (const Factmesh__FactId *m, struct fm_fact_id *ret_id)
{
    if (!m || control_get_id (&m->stream, &ret_id->stream) != 0 || id_is_zero (&ret_id->stream) || !m->seq)
        return error_set (FM_ERR_MALFORMED, "a fact's name is a stream and a sequence");
    ret_id->seq = m->seq;
    return 0;
}

/* The index names this fact. One that has expired is not there any more; one that never was shows that the index is damaged, and so does another one. */
static int read_named (struct indexer *x, uint64_t offset, struct fm_slice *ret_batch, struct fm_fact *ret_fact)
{
    struct log_position at;
    log_position (x->context->log, &at);
    return offset < at.synced_offset ? fact_finder_read (x->finder, offset, ret_batch, ret_fact) : index_db_is_wrong (x->db);
}

static int find_latest (struct indexer *x, struct fm_slice topic, struct fm_slice key, uint64_t *ret_offset, struct fm_slice *ret_batch)
{
    struct fm_fact fact;
    int rc = index_db_latest (x->db, topic, key, ret_offset);
    if (!rc)
        rc = read_named (x, *ret_offset, ret_batch, &fact);
    if (!rc && (!slice_equal (fact.topic, topic) || !slice_equal (fact.key, key)))
        rc = index_db_is_wrong (x->db);
    return rc;
}

static int find_fact (struct indexer *x, const Factmesh__FactGet *get, uint64_t *ret_offset, struct fm_slice *ret_batch)
{
    struct fm_fact_id id;
    if (!get->fact)
        return find_latest (x, control_get_slice (&get->topic), control_get_slice (&get->key), ret_offset, ret_batch);
    int rc = get_id (get->fact, &id);
    if (!rc)
        rc = fact_finder_offset (x->finder, &id, ret_offset);
    return rc ? rc : fact_finder_at (x->finder, *ret_offset, ret_batch);
}

/* Not answered when the index turns out to be damaged: it is asked again when it is made anew. */
static void fact_get (struct indexer *x, const struct mail *mail)
{
    struct fm_slice batch;
    uint64_t offset;
    const int rc = find_fact (x, mail->control->fact_get, &offset, &batch);
    if (rc && index_db_is_damaged (x->db))
        return;
    if (rc) {
        refuse (x, mail, rc == FM_ERR_UNKNOWN ? FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT : rc == FM_ERR_MALFORMED ? FACTMESH__ERROR_CODE__ERROR_MALFORMED : FACTMESH__ERROR_CODE__ERROR_INTERNAL,
                rc == FM_ERR_UNKNOWN ? "no such fact is recorded here (any more)" : fm_error_detail ());
        return;
    }
    Factmesh__FactReply reply = FACTMESH__FACT_REPLY__INIT;
    reply.offset = offset;
    reply.batch = control_put_slice (batch);
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_FACT_REPLY;
    control.fact_reply = &reply;
    answer (x, mail, &control);
}

struct links {
    struct indexer *x;
    struct fm_fact_id parent;           /* of a conversation: none */
    struct fm_slice correlation;
    Factmesh__Link *items, **pointers;
    size_t count, limit, bytes;
    bool more;
    int rc;                             /* why one that is there is missing; 0: none is */
};

/* Does the fact say what the index says of it? */
static bool is_linked (const struct links *l, enum index_link kind, const struct fm_fact *fact)
{
    const struct fm_fact_id *parent = kind == INDEX_CAUSED ? &fact->causation : &fact->corrects;
    if (!kind)
        return indexer_correlation_hash (fact->correlation) == indexer_correlation_hash (l->correlation);
    return parent->seq == l->parent.seq && id_equal (&parent->stream, &l->parent.stream);
}

static void add_link (void *arg, enum index_link kind, uint64_t offset)
{
    struct links *l = arg;
    struct fm_slice batch;
    struct fm_fact fact;
    if (l->count == l->limit || l->bytes > INDEXER_REPLY_BYTES) {
        l->more = true;
        return;
    }
    const int rc = read_named (l->x, offset, &batch, &fact);
    if (rc == FM_ERR_UNKNOWN)
        return;                         /* it expired meanwhile */
    if (rc) {
        l->rc = error_set (rc, "offset %llu: %s", (unsigned long long) offset, fm_error_text (rc));
        return;
    }
    if (!is_linked (l, kind, &fact)) {
        (void) index_db_is_wrong (l->x->db);    /* nothing of this is told */
        return;
    }
    uint8_t *copy = malloc (batch.len);
    if (!copy) {
        l->rc = -ENOMEM;
        return;
    }
    memcpy (copy, batch.data, batch.len);
    Factmesh__Link *m = &l->items[l->count];
    factmesh__link__init (m);
    m->kind = (Factmesh__LinkKind) kind;
    m->offset = offset;
    m->batch = control_put_slice (slice (copy, batch.len));
    l->pointers[l->count++] = m;
    l->bytes += batch.len;
}

static void add_of_conversation (void *arg, uint64_t offset)
{
    add_link (arg, (enum index_link) 0, offset);
}

static void links_get (struct indexer *x, const struct mail *mail)
{
    const Factmesh__LinksGet *get = mail->control->links_get;
    struct links l = { .x = x, .limit = get->limit && get->limit < INDEXER_LINKS_MAX ? get->limit : INDEXER_LINKS_MAX };
    l.correlation = control_get_slice (&get->correlation);
    l.items = calloc (l.limit, sizeof *l.items);
    l.pointers = calloc (l.limit, sizeof (*l.pointers));
    int rc = l.items && l.pointers ? 0 : -ENOMEM;
    /* One more than is told shows that there are others. */
    const unsigned ask = (unsigned) l.limit + 1;
    if (!rc && l.correlation.len)
        rc = index_db_correlation (x->db, indexer_correlation_hash (l.correlation), get->after_offset, ask, add_of_conversation, &l);
    else if (!rc && (rc = get_id (get->fact, &l.parent)) == 0)
        rc = index_db_links (x->db, &l.parent, get->after_offset, ask, add_link, &l);
    if (!rc)
        rc = l.rc;
    if (index_db_is_damaged (x->db)) {
        /* Not answered: it is asked again when the index is made anew. */
    } else if (rc) {
        refuse (x, mail, rc == FM_ERR_MALFORMED ? FACTMESH__ERROR_CODE__ERROR_MALFORMED : FACTMESH__ERROR_CODE__ERROR_INTERNAL, fm_error_detail ());
    } else {
        Factmesh__LinksReply reply = FACTMESH__LINKS_REPLY__INIT;
        reply.n_links = l.count;
        reply.links = l.pointers;
        reply.more = l.more;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_LINKS_REPLY;
        control.links_reply = &reply;
        answer (x, mail, &control);
    }
    for (size_t i = 0; l.items && i < l.count; i++)
        free (l.items[i].batch.data);
    free (l.items);
    free (l.pointers);
}

/* --- Requests wait for the index to be where the log was when they came. */

static void take_mail (struct indexer *x, struct mail *mail, uint64_t now)
{
    struct log_position at;
    struct waiting *w = x->waiting_count < INDEXER_WAITING_MAX ? malloc (sizeof *w) : NULL;
    if (!w) {
        refuse (x, mail, FACTMESH__ERROR_CODE__ERROR_LIMIT, "too many requests wait for the index; ask again later");
        mail_destroy (&mail);
        return;
    }
    log_position (x->context->log, &at);
    *w = (struct waiting) { .mail = mail, .offset = at.synced_offset, .until_ns = now + (uint64_t) INDEXER_WAIT_MS * NS_PER_MS };
    *x->waiting_end = w;
    x->waiting_end = &w->next;
    x->waiting_count++;
}

/* It did not come so far in time. */
static void refuse_late (struct indexer *x, const struct waiting *w)
{
    char text[160];
    (void) snprintf (text, sizeof text, "the index is %s, at offset %llu of %llu; ask again later", x->db ? "behind" : "not there (see INDEX-FAILED in the journal's log)",
                     (unsigned long long) x->at, (unsigned long long) w->offset);
    refuse (x, w->mail, FACTMESH__ERROR_CODE__ERROR_TIMEOUT, text);
}

static void settle (struct indexer *x, uint64_t now)
{
    while (x->waiting) {
        struct waiting *w = x->waiting;
        const bool ready = x->db && x->at >= w->offset;
        if (!ready && now < w->until_ns)
            return;
        if (!ready)
            refuse_late (x, w);
        else if (w->mail->control->body_case == FACTMESH__CONTROL__BODY_FACT_GET)
            fact_get (x, w->mail);
        else
            links_get (x, w->mail);
        if (ready && index_db_is_damaged (x->db)) {
            set_aside (x, now);
            continue;
        }
        x->waiting = w->next;
        if (!x->waiting)
            x->waiting_end = &x->waiting;
        x->waiting_count--;
        mail_destroy (&w->mail);
        free (w);
    }
}

static int take_control (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    struct indexer *x = arg;
    if (control->body_case != FACTMESH__CONTROL__BODY_FACT_GET && control->body_case != FACTMESH__CONTROL__BODY_LINKS_GET)
        return FM_ERR_UNKNOWN;
    const int rc = mailbox_put (&x->box, from, control);
    if (!rc)
        wake_raise (&x->context->bells[BELL_INDEXER].wake);
    return rc;
}

static void *indexer_run (void *arg)
{
    struct indexer *x = arg;
    struct journal_bell *bell = &x->context->bells[BELL_INDEXER];
    (void) pthread_setname_np (pthread_self (), "fm-indexer");  /* for people alone */
    bool more = true;
    uint64_t at = 0;
    while (!atomic_load (&x->stop)) {
        struct pollfd wait = { .fd = bell->wake.fd, .events = POLLIN };
        /* Syncs do not wake it: whoever asks does, and what comes meanwhile shares transactions. Whatever poll returns, all is looked at. */
        (void) poll (&wait, 1, more ? 0 : x->at != at ? INDEXER_PAUSE_MS : WAIT_MAX_MS);
        at = x->at;
        wake_clear (&bell->wake);
        const uint64_t now = node_now ();
        struct mail *mail;
        while ((mail = mailbox_take (&x->box)) != NULL)
            take_mail (x, mail, now);
        more = work (x, now);
        settle (x, now);
        more |= x->make && now >= x->retry_ns;
        more |= sweep_blobs (x, now);
    }
    return NULL;
}

/* --- Life. */

int indexer_new (struct journal_context *context, const char *directory, struct blobs *blobs, struct indexer **ret_indexer)
{
    struct indexer *x = calloc (1, sizeof *x);
    if (!x)
        return -ENOMEM;
    x->context = context;
    x->blobs = blobs;
    x->waiting_end = &x->waiting;
    atomic_init (&x->stop, false);
    atomic_init (&x->next, 0);
    atomic_init (&x->made, 0);
    atomic_init (&x->doubted, 0);
    mailbox_init (&x->box);
    char folder[PATH_BYTES];
    int rc = 0;
    if (snprintf (folder, sizeof folder, "%s/index", directory) >= (int) sizeof folder
        || snprintf (x->path, sizeof x->path, "%s/index.db", folder) >= (int) sizeof x->path)
        rc = error_set (-ENAMETOOLONG, "%s/index/index.db", directory);
    /* Without it the database cannot be opened, which is told and tried again. */
    if (!rc && mkdir (folder, 0777) != 0 && errno != EEXIST)
        journal_notice (context, "INDEX-FAILED", "%s: %s", folder, strerror (errno));
    if (!rc)
        rc = fact_finder_new (context->log, CACHE_BYTES, &x->finder);
    if (!rc) {
        rc = journal_thread (&x->thread, indexer_run, x);
        x->runs = rc == 0;
    }
    if (!rc) {
        rc = node_handle (context->node, take_control, x);
        x->handles = rc == 0;
    }
    if (rc) {
        indexer_destroy (&x);
        return rc;
    }
    atomic_store (&context->indexer, x);
    *ret_indexer = x;
    return 0;
}

void indexer_destroy (struct indexer **indexer)
{
    struct indexer *x = *indexer;
    if (!x)
        return;
    *indexer = NULL;
    if (x->handles)
        node_unhandle (x->context->node, x);
    if (x->runs) {
        atomic_store (&x->stop, true);
        wake_raise (&x->context->bells[BELL_INDEXER].wake);
        pthread_join (x->thread, NULL);
    }
    while (x->waiting) {
        struct waiting *w = x->waiting;
        x->waiting = w->next;
        mail_destroy (&w->mail);
        free (w);
    }
    index_db_close (&x->db);
    log_reader_destroy (&x->reader);
    batch_scratch_release (&x->scratch);
    fact_finder_destroy (&x->finder);
    mailbox_release (&x->box);
    free (x);
}
