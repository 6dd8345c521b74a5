#include "blobs.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "control.h"
#include "error.h"
#include "mailbox.h"

enum { NS_PER_MS = 1000000, WAIT_MAX_MS = 1000 };

/* An upload under way. It is its asker's until that is silent for a while. */
struct put {
    struct put *next;
    uint8_t key[BLOB_KEY_MAX];
    size_t key_len;
    struct node_route route;
    struct blob_upload *upload;
    bool ready;                         /* what an earlier one left was read again */
    uint64_t lease_ms;
    uint64_t heard_ns;
};

/* A file that was read from, and its place in the order of use. */
struct reading {
    struct blob_reader *reader;
    uint64_t used;
};

struct blobs {
    struct journal_context *context;
    struct blob_store *store;
    pthread_t thread;
    bool runs, handles;
    atomic_bool stop;
    struct mailbox box;
    struct put *puts;
    unsigned put_count;
    struct reading readings[BLOBS_READERS];
    uint64_t uses;

    /* The sweep; the indexer's thread. */
    struct blob_sweep sweep;
    bool sweeping;
    uint64_t sweep_due_ns, sweep_offset;
    unsigned swept;
    int sweep_failed;                   /* as told last */
};

struct blob_store *blobs_store (struct blobs *b)
{
    return b->store;
}

/* --- Answers. */

static Factmesh__ErrorCode error_code (int rc)
{
    switch (rc) {
    case FM_ERR_UNKNOWN:
        return FACTMESH__ERROR_CODE__ERROR_UNKNOWN_BLOB;
    case FM_ERR_CORRUPT:
        return FACTMESH__ERROR_CODE__ERROR_BLOB_DAMAGED;
    case FM_ERR_CLOSED:
        return FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD;
    case FM_ERR_TOO_LARGE:
    case FM_ERR_ARGUMENT:
        return FACTMESH__ERROR_CODE__ERROR_RANGE;
    case FM_ERR_MALFORMED:
        return FACTMESH__ERROR_CODE__ERROR_MALFORMED;
    case FM_ERR_LIMIT:
        return FACTMESH__ERROR_CODE__ERROR_LIMIT;
    case -ENOSPC:
    case -EDQUOT:
        return FACTMESH__ERROR_CODE__ERROR_DISK_FULL;
    default:
        return FACTMESH__ERROR_CODE__ERROR_INTERNAL;
    }
}

static void refuse_as (struct blobs *b, const struct mail *mail, Factmesh__ErrorCode code, int rc)
{
    const char *detail = fm_error_detail ();
    journal_count (b->context, JOURNAL_REQUESTS_REFUSED, 1);
    /* Whoever does not get it times out. */
    (void) node_reply_error (b->context->node, &mail->from, mail->control->request, 0, code, *detail ? detail : fm_error_text (rc));
}

static void refuse (struct blobs *b, const struct mail *mail, int rc)
{
    if (rc <= 0 && rc > FM_TIMEOUT)
        (void) error_set (rc, "%s", fm_error_text (rc));        /* an errno has no detail of its own */
    refuse_as (b, mail, error_code (rc), rc);
}

static int send_to (struct blobs *b, const struct node_route *to, uint64_t request, Factmesh__Control *control)
{
    zmq_msg_t message;
    control->request = request;
    int rc = control_encode (control, node_mesh (b->context->node), &message);
    if (rc)
        return rc;
    rc = node_reply (b->context->node, to, &message);
    if (rc)
        zmq_msg_close (&message);
    return rc;
}

static void answer (struct blobs *b, const struct mail *mail, Factmesh__Control *control)
{
    (void) send_to (b, &mail->from, mail->control->request, control);   /* whoever does not get it asks again */
}

/* Points into info. */
static void fill_info (const struct blob_info *info, Factmesh__BlobInfo *ret)
{
    factmesh__blob_info__init (ret);
    ret->sha256 = control_put_slice (slice (info->digest, BLOB_DIGEST_LEN));
    ret->size = info->size;
    ret->media_type = control_put_slice (slice (info->media_type, info->media_type_len));
    ret->stored_ns = info->stored_ns;
    ret->lease_ns = info->lease_ns;
}

static uint64_t credit (const struct blobs *b)
{
    const uint64_t share = (uint64_t) BLOBS_CREDIT_ALL_BYTES / (b->put_count ? b->put_count : 1) / BLOB_BLOCK * BLOB_BLOCK;
    return share > BLOBS_CREDIT_BYTES ? BLOBS_CREDIT_BYTES : share < BLOBS_CREDIT_MIN_BYTES ? BLOBS_CREDIT_MIN_BYTES : share;
}

/* p NULL: it is not under way here. info: it is stored. */
static void answer_state (struct blobs *b, const struct mail *mail, const struct put *p, bool wait, const struct blob_info *info)
{
    Factmesh__BlobPutState state = FACTMESH__BLOB_PUT_STATE__INIT;
    Factmesh__BlobInfo blob;
    if (p) {
        state.upload = control_put_slice (slice (p->key, p->key_len));
        state.next = blob_upload_next (p->upload);
        state.synced = blob_upload_synced (p->upload);
        state.limit = state.next + credit (b);
    }
    state.wait = wait;
    if (info) {
        fill_info (info, &blob);
        state.blob = &blob;
    }
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_STATE;
    control.blob_put_state = &state;
    answer (b, mail, &control);
}

/* --- Uploads. */

static struct put *find_put (struct blobs *b, struct fm_slice key)
{
    for (struct put *p = b->puts; p; p = p->next)
        if (slice_equal (slice (p->key, p->key_len), key))
            return p;
    return NULL;
}

static bool same_route (const struct node_route *a, const struct node_route *b)
{
    return a->len == b->len && memcmp (a->bytes, b->bytes, a->len) == 0;
}

static void forget_put (struct blobs *b, struct put *p, bool discard)
{
    for (struct put **link = &b->puts; *link; link = &(*link)->next)
        if (*link == p) {
            *link = p->next;
            break;
        }
    b->put_count--;
    if (discard)
        blob_upload_discard (&p->upload);
    else
        blob_upload_close (&p->upload);
    free (p);
}

static int new_put (struct blobs *b, struct fm_slice key, const Factmesh__BlobPutOpen *open, struct put **ret_put)
{
    struct put *p = calloc (1, sizeof *p);
    if (!p)
        return -ENOMEM;
    const int rc = blob_upload_open (b->store, key, control_get_slice (&open->media_type), &p->upload);
    if (rc) {
        free (p);
        return rc;
    }
    memcpy (p->key, key.data, key.len);
    p->key_len = key.len;
    p->next = b->puts;
    b->puts = p;
    b->put_count++;
    /* What is new, or has little to read again, is ready with the first answer. */
    const int failed = blob_upload_resume (p->upload, BLOBS_RESUME_BLOCKS, &p->ready);
    if (failed) {
        forget_put (b, p, true);
        return failed;
    }
    *ret_put = p;
    return 0;
}

/* Is an upload's asker still there? A state that answers nothing finds out. */
static bool is_gone (struct blobs *b, const struct put *p, uint64_t now)
{
    Factmesh__BlobPutState state = FACTMESH__BLOB_PUT_STATE__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_STATE;
    control.blob_put_state = &state;
    return now - p->heard_ns >= (uint64_t) BLOBS_TAKEOVER_MS * NS_PER_MS || send_to (b, &p->route, 0, &control) == FM_ERR_UNREACHABLE;
}

static uint64_t lease_of (const Factmesh__BlobPutOpen *open)
{
    return open->lease_ms < BLOB_LEASE_MS_MAX ? open->lease_ms : BLOB_LEASE_MS_MAX;
}

/* A blob that came with what opens it. Its upload has a name of its own: others that send the same neither wait for it nor go on with it. */
static void put_whole (struct blobs *b, const struct mail *mail)
{
    const Factmesh__BlobPutOpen *open = mail->control->blob_put_open;
    struct blob_upload *u = NULL;
    struct blob_info info;
    struct fm_id name;
    size_t taken;
    bool ready, is_new;
    id_random (&name);
    int rc = open->sha256.len ? 0 : error_set (FM_ERR_MALFORMED, "a content comes with its SHA-256");
    if (!rc)
        rc = blob_upload_open (b->store, slice (name.bytes, ID_LEN), control_get_slice (&open->media_type), &u);
    if (!rc)
        rc = blob_upload_resume (u, 0, &ready);
    if (!rc)
        rc = blob_upload_write (u, open->content.data, open->content.len, &taken);
    if (!rc) {
        journal_count (b->context, JOURNAL_BLOB_BYTES_TAKEN, open->content.len);
        rc = blob_upload_finish (u, open->sha256.data, open->size, lease_of (open), &info, &is_new);
    }
    if (rc == FM_ERR_END || rc == FM_ERR_CORRUPT) {
        journal_count (b->context, JOURNAL_BLOBS_REFUSED, 1);
        refuse_as (b, mail, FACTMESH__ERROR_CODE__ERROR_BLOB_DIGEST, rc);
    } else if (rc) {
        refuse (b, mail, rc);
    } else {
        journal_count (b->context, is_new ? JOURNAL_BLOBS_STORED : JOURNAL_BLOBS_KNOWN, 1);
        answer_state (b, mail, NULL, false, &info);
    }
    blob_upload_discard (&u);
}

static void put_open (struct blobs *b, const struct mail *mail, uint64_t now)
{
    const Factmesh__BlobPutOpen *open = mail->control->blob_put_open;
    struct fm_slice key = control_get_slice (&open->upload);
    struct blob_info info;
    int rc;
    if (open->sha256.len) {
        rc = blob_store_lease (b->store, open->sha256.data, lease_of (open), &info);
        if (rc == 0) {
            answer_state (b, mail, NULL, false, &info);
            return;
        }
        if (rc != FM_ERR_UNKNOWN && rc != FM_ERR_CORRUPT) {
            refuse (b, mail, rc);
            return;
        }
    }
    if (!key.len)
        key = control_get_slice (&open->sha256);
    if (!key.len || open->size > b->context->options.blob_size_max) {
        refuse (b, mail, key.len ? error_set (FM_ERR_TOO_LARGE, "a blob may have %llu bytes here, not %llu", (unsigned long long) b->context->options.blob_size_max, (unsigned long long) open->size)
                                 : error_set (FM_ERR_MALFORMED, "an upload needs a name or a SHA-256"));
        return;
    }
    if (open->content.len) {
        put_whole (b, mail);
        return;
    }
    struct put *p = find_put (b, key);
    if (p && !same_route (&p->route, &mail->from) && !is_gone (b, p, now)) {
        answer_state (b, mail, NULL, true, NULL);
        return;
    }
    rc = p ? 0 : new_put (b, key, open, &p);
    if (rc == FM_ERR_IN_USE) {
        answer_state (b, mail, NULL, true, NULL);
        return;
    }
    if (rc) {
        refuse (b, mail, rc);
        return;
    }
    p->route = mail->from;
    p->heard_ns = now;
    p->lease_ms = lease_of (open);
    answer_state (b, mail, p, !p->ready, NULL);
}

/* The asker's own upload, ready for more. */
static struct put *own_put (struct blobs *b, const struct mail *mail, struct fm_slice key)
{
    struct put *p = find_put (b, key);
    if (p && p->ready && same_route (&p->route, &mail->from))
        return p;
    refuse (b, mail, error_set (FM_ERR_CLOSED, "no such upload is open for you; open it again"));
    return NULL;
}

/* After anything but a full disk it can't be trusted; its asker begins anew. */
static void put_failed (struct blobs *b, const struct mail *mail, struct put *p, int rc)
{
    refuse (b, mail, rc);
    if (rc != -ENOSPC && rc != -EDQUOT)
        forget_put (b, p, true);
}

static void put_chunk (struct blobs *b, const struct mail *mail, uint64_t now)
{
    const Factmesh__BlobPutChunk *chunk = mail->control->blob_put_chunk;
    struct put *p = own_put (b, mail, control_get_slice (&chunk->upload));
    if (!p)
        return;
    p->heard_ns = now;
    const uint64_t next = blob_upload_next (p->upload);
    int rc = 0;
    /* Another place: a chunk before it was refused. The answer says where to go on. */
    if (chunk->position == next && next % BLOB_BLOCK == 0 && chunk->data.len) {
        size_t taken;
        rc = blob_upload_write (p->upload, chunk->data.data, chunk->data.len, &taken);
        if (!rc && blob_upload_next (p->upload) - blob_upload_synced (p->upload) >= BLOBS_SYNC_BYTES)
            rc = blob_upload_sync (p->upload);
        journal_count (b->context, JOURNAL_BLOB_BYTES_TAKEN, chunk->data.len);
    }
    if (rc)
        put_failed (b, mail, p, rc);
    else
        answer_state (b, mail, p, false, NULL);
}

static void put_end (struct blobs *b, const struct mail *mail, uint64_t now)
{
    const Factmesh__BlobPutEnd *end = mail->control->blob_put_end;
    struct blob_info info;
    bool is_new;
    struct put *p = own_put (b, mail, control_get_slice (&end->upload));
    if (!p)
        return;
    p->heard_ns = now;
    if (end->give_up) {
        forget_put (b, p, true);
        return;
    }
    const int rc = end->sha256.len ? blob_upload_finish (p->upload, end->sha256.data, end->size, p->lease_ms, &info, &is_new)
                                   : error_set (FM_ERR_MALFORMED, "the end of an upload says its SHA-256");
    if (rc == FM_ERR_END || rc == FM_ERR_CORRUPT) {
        journal_count (b->context, JOURNAL_BLOBS_REFUSED, 1);
        refuse_as (b, mail, FACTMESH__ERROR_CODE__ERROR_BLOB_DIGEST, rc);
        forget_put (b, p, true);
    } else if (rc) {
        put_failed (b, mail, p, rc);
    } else {
        journal_count (b->context, is_new ? JOURNAL_BLOBS_STORED : JOURNAL_BLOBS_KNOWN, 1);
        answer_state (b, mail, NULL, false, &info);
        forget_put (b, p, true);        /* where it was there already, what was sent is not needed */
    }
}

/* Read on in what earlier ones left; put the silent to rest. True: there is more to read. */
static bool tend_puts (struct blobs *b, uint64_t now)
{
    bool more = false;
    for (struct put *p = b->puts, *next; p; p = next) {
        next = p->next;
        int rc = 0;
        if (!p->ready)
            rc = blob_upload_resume (p->upload, BLOBS_RESUME_BLOCKS, &p->ready);
        if (!rc && p->ready && now - p->heard_ns < (uint64_t) BLOBS_IDLE_MS * NS_PER_MS)
            continue;
        if (rc || p->ready)
            forget_put (b, p, rc != 0);
        else
            more = true;
    }
    return more;
}

/* --- Reading. */

static void close_reading (struct reading *r)
{
    blob_reader_close (&r->reader);
}

/* The open file of a blob; the one that was used longest ago makes room. */
static int find_reading (struct blobs *b, const uint8_t *digest, struct reading **ret_reading)
{
    struct reading *oldest = &b->readings[0];
    for (size_t i = 0; i < BLOBS_READERS; i++) {
        struct reading *r = &b->readings[i];
        if (r->reader && memcmp (blob_reader_info (r->reader)->digest, digest, BLOB_DIGEST_LEN) == 0) {
            r->used = ++b->uses;
            *ret_reading = r;
            return 0;
        }
        if (r->used < oldest->used)
            oldest = r;
    }
    close_reading (oldest);
    oldest->used = 0;
    const int rc = blob_reader_open (b->store, digest, &oldest->reader);
    if (rc)
        return rc;
    oldest->used = ++b->uses;
    *ret_reading = oldest;
    return 0;
}

static void blob_read (struct blobs *b, const struct mail *mail)
{
    const Factmesh__BlobRead *read = mail->control->blob_read;
    struct reading *r = NULL;
    struct fm_slice bytes = { .data = NULL };
    int rc = read->sha256.len ? find_reading (b, read->sha256.data, &r) : error_set (FM_ERR_MALFORMED, "which blob?");
    if (!rc)
        rc = blob_reader_at (r->reader, read->position, &bytes);
    if (rc && rc != FM_ERR_END) {
        if (r) {                        /* damaged: the name is another file's from now on */
            close_reading (r);
            r->used = 0;
        }
        refuse (b, mail, rc);
        return;
    }
    if (bytes.len > read->length)
        bytes.len = read->length;
    const struct blob_info *info = blob_reader_info (r->reader);
    Factmesh__BlobData data = FACTMESH__BLOB_DATA__INIT;
    data.position = read->position;
    data.data = control_put_slice (bytes);
    data.size = info->size;
    data.media_type = control_put_slice (slice (info->media_type, info->media_type_len));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_DATA;
    control.blob_data = &data;
    answer (b, mail, &control);
    journal_count (b->context, JOURNAL_BLOB_BYTES_READ, bytes.len);
}

static void answer_infos (struct blobs *b, const struct mail *mail, const struct blob_info *infos, size_t count, bool more)
{
    Factmesh__BlobInfo *items = calloc (count + 1, sizeof *items), **pointers = calloc (count + 1, sizeof (*pointers));
    if (items && pointers) {
        for (size_t i = 0; i < count; i++) {
            fill_info (&infos[i], &items[i]);
            pointers[i] = &items[i];
        }
        Factmesh__BlobReply reply = FACTMESH__BLOB_REPLY__INIT;
        reply.n_blobs = count;
        reply.blobs = pointers;
        reply.more = more;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_BLOB_REPLY;
        control.blob_reply = &reply;
        answer (b, mail, &control);
    } else
        refuse (b, mail, -ENOMEM);
    free (items);
    free (pointers);
}

static void blob_stat (struct blobs *b, const struct mail *mail)
{
    const Factmesh__BlobStat *stat = mail->control->blob_stat;
    struct blob_info info;
    const int rc = stat->sha256.len ? blob_store_stat (b->store, stat->sha256.data, &info) : error_set (FM_ERR_MALFORMED, "which blob?");
    if (rc)
        refuse (b, mail, rc);
    else
        answer_infos (b, mail, &info, 1, false);
}

static void blob_list (struct blobs *b, const struct mail *mail)
{
    const Factmesh__BlobList *list = mail->control->blob_list;
    const size_t max = list->limit && list->limit < BLOB_LIST_MAX ? list->limit : BLOB_LIST_MAX;
    struct blob_info *infos = calloc (max, sizeof *infos);
    size_t count = 0;
    bool more = false;
    int rc = infos ? 0 : -ENOMEM;
    if (!rc && list->after.len && list->after.len != BLOB_DIGEST_LEN)
        rc = error_set (FM_ERR_MALFORMED, "a list goes on behind a SHA-256");
    if (!rc)
        rc = blob_store_list (b->store, list->after.len ? list->after.data : NULL, infos, max, &count, &more);
    if (rc)
        refuse (b, mail, rc);
    else
        answer_infos (b, mail, infos, count, more);
    free (infos);
}

/* --- Sweeping: the indexer's thread. */

/* Once, until it succeeds or fails in another way: it may go on for weeks. */
static void tell_failed (struct blobs *b, int rc)
{
    journal_count (b->context, JOURNAL_SWEEPS_FAILED, rc != 0);
    if (rc && rc != b->sweep_failed)
        journal_notice (b->context, "SWEEP-FAILED", "%s%s%s: what nobody needs stays; tried again each %u ms", fm_error_text (rc), *fm_error_detail () ? ": " : "",
                        fm_error_detail (), (unsigned) b->context->options.blob_sweep_ms);
    b->sweep_failed = rc;
}

bool blobs_sweep (struct blobs *b, uint64_t now_ns, const struct blobs_use *use)
{
    if (!b->sweeping) {
        if (now_ns < b->sweep_due_ns)
            return false;
        /* What was recorded before this moment has an offset below the log's end; a lease that runs out later is not looked at. */
        struct log_position at;
        log_position (b->context->log, &at);
        b->sweep_offset = at.end_offset;
        b->sweep = (struct blob_sweep) { .expired_ns = b->context->clock->unix_ns (b->context->clock->context) };
        b->swept = 0;
        b->sweeping = true;
    }
    if (!use->passed (use->arg, b->sweep_offset))
        return false;                   /* the index is behind: nothing goes */
    (void) error_set (0, "%s", "");     /* what is told below shall be of this round */
    const int rc = blob_store_sweep (b->store, &b->sweep, BLOBS_SWEEP_LOOKS, use->used, use->arg);
    b->swept += b->sweep.removed;
    journal_count (b->context, JOURNAL_BLOBS_SWEPT, b->sweep.removed);
    if (rc == FM_ERR_FULL)
        return true;
    b->sweeping = false;
    b->sweep_due_ns = now_ns + (uint64_t) b->context->options.blob_sweep_ms * NS_PER_MS;
    tell_failed (b, rc);
    if (b->swept)
        journal_notice (b->context, "BLOBS-SWEPT", "blobs=%u: no fact that is held points to them, and their leases have run out", b->swept);
    return false;
}

/* --- The threads. */

static void on_damage (void *arg, const uint8_t *digest, const char *text)
{
    struct journal_context *c = arg;
    char name[BLOB_DIGEST_TEXT_LEN + 1];
    journal_count (c, JOURNAL_BLOBS_DAMAGED, 1);
    journal_notice (c, "BLOB-DAMAGED", "blob=%s: %s", blob_digest_text (digest, name), text);
}

static int take_control (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    struct blobs *b = arg;
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK:
    case FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN:
    case FACTMESH__CONTROL__BODY_BLOB_PUT_END:
    case FACTMESH__CONTROL__BODY_BLOB_READ:
    case FACTMESH__CONTROL__BODY_BLOB_STAT:
    case FACTMESH__CONTROL__BODY_BLOB_LIST:
        break;
    default:
        return FM_ERR_UNKNOWN;
    }
    const int rc = mailbox_put (&b->box, from, control);
    if (!rc)
        wake_raise (&b->context->bells[BELL_BLOBS].wake);
    return rc;
}

static void take_mail (struct blobs *b, const struct mail *mail, uint64_t now)
{
    (void) error_set (0, "%s", "");     /* what is answered below shall be of this message */
    switch (mail->control->body_case) {
    case FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN:
        put_open (b, mail, now);
        break;
    case FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK:
        put_chunk (b, mail, now);
        break;
    case FACTMESH__CONTROL__BODY_BLOB_PUT_END:
        put_end (b, mail, now);
        break;
    case FACTMESH__CONTROL__BODY_BLOB_READ:
        blob_read (b, mail);
        break;
    case FACTMESH__CONTROL__BODY_BLOB_STAT:
        blob_stat (b, mail);
        break;
    default:
        blob_list (b, mail);
        break;
    }
}

static void *blobs_run (void *arg)
{
    struct blobs *b = arg;
    struct journal_bell *bell = &b->context->bells[BELL_BLOBS];
    (void) pthread_setname_np (pthread_self (), "fm-blobs");    /* for people alone */
    node_thread_lower (JOURNAL_SERVE_NICE);                     /* recording comes first */
    bool more = false;
    while (!atomic_load (&b->stop)) {
        struct pollfd wait = { .fd = bell->wake.fd, .events = POLLIN };
        (void) poll (&wait, 1, more ? 0 : WAIT_MAX_MS);         /* whatever it returns, all is looked at */
        wake_clear (&bell->wake);
        const uint64_t now = node_now ();
        struct mail *mail;
        while (!atomic_load (&b->stop) && (mail = mailbox_take (&b->box)) != NULL) {
            take_mail (b, mail, now);
            mail_destroy (&mail);
        }
        more = tend_puts (b, now);
    }
    return NULL;
}

/* --- Life. */

int blobs_new (struct journal_context *context, const char *directory, struct blobs **ret_blobs)
{
    struct blobs *b = calloc (1, sizeof *b);
    if (!b)
        return -ENOMEM;
    b->context = context;
    atomic_init (&b->stop, false);
    mailbox_init (&b->box);
    const struct blob_store_options options = {
        .fs = context->options.log.fs,
        .clock = context->clock,
        .size_max = context->options.blob_size_max,
        .lease_ms = context->options.blob_lease_ms,
        .damaged = on_damage,
        .damaged_arg = context,
    };
    int rc = blob_store_open (directory, &options, &b->store);
    if (!rc) {
        rc = journal_thread (&b->thread, blobs_run, b);
        b->runs = rc == 0;
    }
    if (!rc) {
        rc = node_handle (context->node, take_control, b);
        b->handles = rc == 0;
    }
    if (rc) {
        blobs_destroy (&b);
        return rc;
    }
    *ret_blobs = b;
    return 0;
}

void blobs_destroy (struct blobs **blobs)
{
    struct blobs *b = *blobs;
    if (!b)
        return;
    *blobs = NULL;
    if (b->handles)
        node_unhandle (b->context->node, b);
    if (b->runs) {
        atomic_store (&b->stop, true);
        wake_raise (&b->context->bells[BELL_BLOBS].wake);
        pthread_join (b->thread, NULL);
    }
    while (b->puts)
        forget_put (b, b->puts, false);
    for (size_t i = 0; i < BLOBS_READERS; i++)
        close_reading (&b->readings[i]);
    blob_store_destroy (&b->store);
    mailbox_release (&b->box);
    free (b);
}
