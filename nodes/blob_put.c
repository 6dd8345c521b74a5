/* blob_put: storing a blob at a journal.
 *
 *     AWAY --connect--> OPENING --state--> SENDING --all taken--> ENDING --stored--> done
 *      ^------- silent, or gone ---------------'<-- reopen: refused, out of step --'
 *
 * A small one whose digest is known goes whole with what opens it, and the first answer is the last. A journal that does not know that, answers as to any.
 *
 * The journal says what it has (`next`), what survives power loss (`synced`) and how far we may send (`limit`). A source that can be read again is read
 * where it says; of one that can't, everything from `synced` on is kept. */

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob_link.h"
#include "error.h"
#include "publisher.h"
#include "sha256.h"

enum { NS_PER_MS = 1000000, KEPT_BYTES = 16 << 20, HASH_BYTES = 1 << 20 };
static_assert ((int) KEPT_BYTES % (int) BLOB_BLOCK == 0, "no block goes round the ring's end");

struct put {
    struct blob_link link;
    uint8_t upload[ID_LEN];             /* our name for it */
    uint8_t digest[BLOB_DIGEST_LEN];
    bool known;                         /* the digest and the size are */
    uint64_t size;

    /* The source: one of these. */
    int fd;                             /* a regular file; -1 */
    struct fm_slice bytes;
    fm_blob_read_fn *read;
    void *read_arg;
    uint8_t *ring;                      /* of `read`: bytes [base, end), each at its position modulo KEPT_BYTES */
    uint64_t base, end;
    bool ended;                         /* `read` said so */
    struct sha256 *sha256;              /* of what `read` gave */
    uint8_t *block;                     /* of a file */

    /* The upload, as its journal sees it. */
    bool opened, ending;
    bool again;                         /* its digest was wrong once: another's leavings may have been to blame */
    uint8_t key[BLOB_KEY_MAX];
    size_t key_len;
    uint64_t opening;                   /* the request that opens; what answers earlier ones is old */
    uint64_t open_due_ns;
    uint64_t next, synced, limit, sent;
    bool done;
};

/* --- The source. */

/* Read once, within a block. */
static int read_some (struct put *p)
{
    size_t len = 0;
    uint8_t *at = p->ring + p->end % KEPT_BYTES;
    int rc = p->read (p->read_arg, at, BLOB_BLOCK - p->end % BLOB_BLOCK, &len);
    if (!rc)
        rc = sha256_add (p->sha256, at, len);
    if (rc)
        return rc;
    p->end += len;
    p->ended = len == 0;
    blob_link_moved (&p->link);         /* a slow source is no slow journal */
    return 0;
}

/* Read on, up to a whole block. */
static int fill (struct put *p)
{
    int rc = 0;
    while (!rc && !p->ended && p->end % BLOB_BLOCK != 0)
        rc = read_some (p);
    return rc;
}

static int fill_next (struct put *p)
{
    if (p->ended || p->end - p->base > KEPT_BYTES - BLOB_BLOCK)
        return 0;
    /* The first bytes of a block; then the rest of it. */
    int rc = read_some (p);
    if (!rc)
        rc = fill (p);
    if (!rc && p->ended && !p->known) {
        p->size = p->end;
        rc = sha256_get (p->sha256, p->digest);
        p->known = rc == 0;
    }
    return rc;
}

/* The chunk at `sent`; empty: it is not there (yet). */
static int chunk_at (struct put *p, struct fm_slice *ret_chunk)
{
    *ret_chunk = slice (NULL, 0);
    if (p->read) {
        if (p->sent == p->end) {
            const int rc = fill_next (p);
            if (rc)
                return rc;
        }
        const uint64_t left = p->end - p->sent;
        *ret_chunk = slice (p->ring + p->sent % KEPT_BYTES, left < BLOB_BLOCK ? (size_t) left : BLOB_BLOCK);
        return 0;
    }
    const size_t len = p->size - p->sent < BLOB_BLOCK ? (size_t) (p->size - p->sent) : BLOB_BLOCK;
    if (p->fd < 0) {
        *ret_chunk = slice ((const uint8_t *) p->bytes.data + p->sent, len);
        return 0;
    }
    for (size_t have = 0; have < len;) {
        const ssize_t n = pread (p->fd, p->block + have, len - have, (off_t) (p->sent + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : error_set (FM_ERR_CORRUPT, "blob: the file became shorter while it was read");
        have += (size_t) n;
    }
    *ret_chunk = slice (p->block, len);
    return 0;
}

/* --- Talking. */

static void reopen (struct put *p, unsigned after_ms)
{
    p->opened = p->ending = false;
    p->opening = 0;
    p->open_due_ns = after_ms ? node_now () + (uint64_t) after_ms * NS_PER_MS : 0;
}

static void cut (struct put *p)
{
    blob_link_cut (&p->link, BLOB_RETRY_MS);
    reopen (p, 0);
}

static int send_open (struct put *p, struct fm_slice content)
{
    Factmesh__BlobPutOpen open = FACTMESH__BLOB_PUT_OPEN__INIT;
    if (p->read)
        open.upload = control_put_slice (slice (p->upload, sizeof p->upload));
    if (p->known) {
        open.sha256 = control_put_slice (slice (p->digest, sizeof p->digest));
        open.size = p->size;
    }
    open.media_type = control_put_slice (slice_of (p->link.options->media_type));
    open.lease_ms = p->link.options->lease_ms;
    open.content = control_put_slice (content);
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_OPEN;
    control.blob_put_open = &open;
    return replay_client_request (p->link.client, &control, &p->opening);
}

static int send_chunk (struct put *p, struct fm_slice bytes)
{
    uint64_t request;
    Factmesh__BlobPutChunk chunk = FACTMESH__BLOB_PUT_CHUNK__INIT;
    chunk.upload = control_put_slice (slice (p->key, p->key_len));
    chunk.position = p->sent;
    chunk.data = control_put_slice (bytes);
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_CHUNK;
    control.blob_put_chunk = &chunk;
    return replay_client_request (p->link.client, &control, &request);
}

static int send_end (struct put *p, bool give_up)
{
    uint64_t request;
    Factmesh__BlobPutEnd end = FACTMESH__BLOB_PUT_END__INIT;
    end.upload = control_put_slice (slice (p->key, p->key_len));
    if (!give_up)
        end.sha256 = control_put_slice (slice (p->digest, sizeof p->digest));
    end.size = p->size;
    end.give_up = give_up;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_PUT_END;
    control.blob_put_end = &end;
    return replay_client_request (p->link.client, &control, &request);
}

static int take_state (struct put *p, uint64_t request, const Factmesh__BlobPutState *s)
{
    if (s->blob) {
        p->done = true;
        return 0;
    }
    if (request < p->opening || (!p->opened && request != p->opening))
        return 0;                       /* of before it was opened anew */
    if (s->wait) {
        blob_link_moved (&p->link);     /* it is read again, or somebody else sends it */
        reopen (p, BLOB_WAIT_MS);
        return 0;
    }
    if (!p->opened) {
        if (!s->upload.len || s->upload.len > BLOB_KEY_MAX)
            return error_set (FM_ERR_MALFORMED, "blob: the journal's answer names no upload");
        memcpy (p->key, s->upload.data, s->upload.len);
        p->key_len = s->upload.len;
        if (p->read && (s->next < p->base || s->next > p->end))
            return error_set (-EIO, "blob: the journal has %llu bytes, and what lies there is here no more: store it again", (unsigned long long) s->next);
        if (!p->read && s->next > p->size)
            return error_set (FM_ERR_MALFORMED, "blob: the journal has more bytes than there are");
        p->opened = true;
        p->sent = s->next;
    } else if (s->next > p->sent) {
        return error_set (FM_ERR_MALFORMED, "blob: the journal confirms what was not sent");
    }
    if (s->next > p->next || !p->next)
        blob_link_moved (&p->link);
    p->next = s->next;
    p->limit = s->limit;
    p->synced = s->synced < s->next ? s->synced : s->next;
    if (p->read && p->synced > p->base)
        p->base = p->synced / BLOB_BLOCK * BLOB_BLOCK;
    return 0;
}

static int take_error (struct put *p, uint64_t request, Factmesh__ErrorCode code, const char *text)
{
    const int rc = blob_link_error (code);
    if (request < p->opening || (!p->opened && request != p->opening))
        return 0;                       /* of before it was opened anew */
    (void) blob_link_problem (&p->link, rc, text);
    switch (rc) {
    case FM_ERR_CLOSED:
        reopen (p, 0);
        return 0;
    case FM_ERR_LIMIT:
        reopen (p, BLOB_RETRY_MS);
        return 0;
    case -ENOSPC:
    case -EIO:
        reopen (p, BLOB_DISK_RETRY_MS);
        return 0;
    case FM_ERR_NO_JOURNAL:
        cut (p);
        return 0;
    case FM_ERR_CORRUPT:
        if (!p->again && !p->read) {
            p->again = true;
            reopen (p, 0);
            return 0;
        }
        break;
    default:
        break;
    }
    return error_set (rc, "blob: the journal says: %s", text);
}

static int take_event (struct put *p, const struct replay_event *e)
{
    if (e->kind == REPLAY_ERROR)
        return take_error (p, e->request, e->code, e->text);
    if (e->kind == REPLAY_OTHER && e->control->body_case == FACTMESH__CONTROL__BODY_BLOB_PUT_STATE)
        return take_state (p, e->request, e->control->blob_put_state);
    return 0;
}

/* --- Going on. */

static int connect_step (struct put *p, uint64_t now)
{
    struct fm_id journals[BLOB_JOURNALS_MAX];
    size_t count = 1;
    if (now < p->link.retry_ns)
        return 0;
    journals[0] = p->link.journal;
    const int rc = p->link.chosen ? 0 : blob_link_journals (&p->link, journals, BLOB_JOURNALS_MAX, &count);
    if (rc)
        return rc;
    if (blob_link_connect (&p->link, &journals[0]) == 0)
        reopen (p, 0);
    return 0;
}

/* A connection that takes no more is looked at again. */
static int open_step (struct put *p, uint64_t now)
{
    struct fm_slice content = { .len = 0 };
    int rc = 0;
    if (!p->link.client || p->opened || p->opening || now < p->open_due_ns)
        return 0;
    if (p->known && p->size <= BLOB_WHOLE_MAX) {
        p->sent = 0;
        rc = chunk_at (p, &content);
    }
    if (!rc && send_open (p, content) != 0)
        p->opening = 0;
    return rc;
}

/* Send what may be sent. A connection that takes no more is looked at again. */
static int send_step (struct put *p)
{
    while (p->opened && !p->ending) {
        if (p->known && p->sent == p->size) {
            if (p->next != p->size)
                return 0;
            p->ending = send_end (p, false) == 0;
            return 0;
        }
        struct fm_slice chunk;
        if (p->sent >= p->limit)
            return 0;
        int rc = chunk_at (p, &chunk);
        if (rc)
            return rc;
        if (!chunk.len && !(p->known && p->sent == p->size))
            return 0;                   /* as much as may be kept is on its way */
        if (!chunk.len)
            continue;
        if (send_chunk (p, chunk) != 0)
            return 0;
        p->sent += chunk.len;
    }
    return 0;
}

static int step (struct put *p)
{
    const uint64_t now = node_now ();
    int rc = 0;
    if (blob_link_is_lost (&p->link, now) && (!p->opened || p->sent > p->next || p->ending))
        cut (p);
    else if ((p->opening || p->opened) && (!p->opened || p->sent > p->next || p->ending) && blob_link_is_silent (&p->link, now))
        reopen (p, 0);
    if (!p->link.client)
        rc = connect_step (p, now);
    if (!rc)
        rc = open_step (p, now);
    if (!rc)
        rc = send_step (p);
    struct replay_event event;
    uint64_t until = now + (uint64_t) BLOB_WAIT_MS * NS_PER_MS;
    while (!rc && !p->done && blob_link_next (&p->link, until, &event) == 0) {
        rc = take_event (p, &event);
        until = 0;
    }
    return rc ? rc : p->done ? 0 : blob_link_tend (&p->link, p->next, p->known ? p->size : 0);
}

static int run (struct put *p, struct fm_blob *ret_blob)
{
    int rc = 0;
    id_random ((struct fm_id *) p->upload);
    while (!rc && !p->done)
        rc = step (p);
    /* A name of ours that nobody will come back to. */
    if (rc && p->read && p->opened && p->link.client)
        (void) send_end (p, true);      /* else it is swept a day later */
    if (!rc) {
        memcpy (ret_blob->sha256, p->digest, BLOB_DIGEST_LEN);
        ret_blob->size = p->size;
        ret_blob->media_type = slice_of (p->link.options->media_type);
    }
    blob_link_release (&p->link, rc == 0);
    sha256_destroy (&p->sha256);
    free (p->ring);
    free (p->block);
    return rc;
}

static int check_options (const struct fm_blob_options *o)
{
    if (o && o->media_type && strlen (o->media_type) > TYPE_MAX)
        return error_set (FM_ERR_TOO_LARGE, "blob: a media type of %zu bytes; at most %d", strlen (o->media_type), (int) TYPE_MAX);
    return 0;
}

int fm_blob_put (struct fm_node *node, fm_blob_read_fn *read, void *arg, const struct fm_blob_options *options, struct fm_blob *ret_blob)
{
    struct put p = { .fd = -1, .read = read, .read_arg = arg };
    int rc = check_options (options);
    if (rc)
        return rc;
    blob_link_init (&p.link, node, options);
    p.ring = malloc (KEPT_BYTES);
    rc = p.ring ? sha256_new (&p.sha256) : -ENOMEM;
    if (!rc)
        rc = fill_next (&p);            /* is it a small one? */
    if (rc) {
        sha256_destroy (&p.sha256);
        free (p.ring);
        return rc;
    }
    return run (&p, ret_blob);
}

/* --- Descriptors and memory. */

static int read_fd (void *arg, void *buffer, size_t size, size_t *ret_len)
{
    const int *fd = arg;
    ssize_t n;
    do
        n = read (*fd, buffer, size);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    *ret_len = (size_t) n;
    return 0;
}

/* Name and size of a file. */
static int hash_file (struct put *p)
{
    struct sha256 *sha256 = NULL;
    uint8_t *buffer = malloc (HASH_BYTES);
    int rc = buffer ? sha256_new (&sha256) : -ENOMEM;
    p->size = 0;
    while (!rc) {
        const ssize_t n = pread (p->fd, buffer, HASH_BYTES, (off_t) p->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = n < 0 ? -errno : sha256_get (sha256, p->digest);
            break;
        }
        p->size += (uint64_t) n;
        rc = sha256_add (sha256, buffer, (size_t) n);
        blob_link_moved (&p->link);
        if (!rc)
            rc = blob_link_tend (&p->link, 0, 0);
    }
    sha256_destroy (&sha256);
    free (buffer);
    p->known = rc == 0;
    return rc;
}

int fm_blob_put_fd (struct fm_node *node, int fd, const struct fm_blob_options *options, struct fm_blob *ret_blob)
{
    struct stat st;
    struct put p = { .fd = fd };
    int rc = check_options (options);
    if (!rc && fstat (fd, &st) != 0)
        rc = -errno;
    if (!rc && !S_ISREG (st.st_mode))
        return fm_blob_put (node, read_fd, &fd, options, ret_blob);
    if (rc)
        return rc;
    blob_link_init (&p.link, node, options);
    p.block = malloc (BLOB_BLOCK);
    rc = p.block ? hash_file (&p) : -ENOMEM;
    if (rc) {
        free (p.block);
        return rc;
    }
    return run (&p, ret_blob);
}

int fm_blob_put_bytes (struct fm_node *node, struct fm_slice bytes, const struct fm_blob_options *options, struct fm_blob *ret_blob)
{
    struct put p = { .fd = -1, .bytes = bytes, .size = bytes.len, .known = true };
    struct sha256 *sha256;
    int rc = check_options (options);
    if (!rc)
        rc = sha256_new (&sha256);
    if (rc)
        return rc;
    rc = sha256_add (sha256, bytes.data, bytes.len);
    if (!rc)
        rc = sha256_get (sha256, p.digest);
    sha256_destroy (&sha256);
    if (rc)
        return rc;
    blob_link_init (&p.link, node, options);
    return run (&p, ret_blob);
}

int fm_publish_large (struct fm_publisher *publisher, const struct fm_fact *fact, size_t limit, const struct fm_blob_options *options, struct fm_fact_id *ret_id)
{
    char media_type[TYPE_MAX + 1] = "";
    uint8_t ref[FM_BLOB_REF];
    struct fm_fact small = *fact;
    struct fm_blob blob;
    const size_t max = publisher->payload_max;
    if (fact->payload.len <= (limit && limit < max ? limit : max))
        return fm_publish (publisher, fact, ret_id);
    if (fact->blob.len)
        return error_set (FM_ERR_ARGUMENT, "the fact points to a blob already, and its payload of %zu bytes is too large for itself", fact->payload.len);
    struct fm_blob_options own = options ? *options : (struct fm_blob_options) { .timeout_ms = 0 };
    if (!own.media_type && fact->content_type.len <= TYPE_MAX) {
        if (fact->content_type.len)
            memcpy (media_type, fact->content_type.data, fact->content_type.len);
        own.media_type = media_type;
    }
    int rc = fm_blob_put_bytes (publisher->node, fact->payload, &own, &blob);
    if (!rc)
        rc = fm_blob_ref (&blob, ref, sizeof ref, &small.blob);
    small.payload = slice (NULL, 0);
    return rc ? rc : fm_publish (publisher, &small, ret_id);
}
