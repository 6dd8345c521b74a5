/* blob_get: fetching a blob: blocks are asked for ahead, a few at a time, and handed on in order. Reads are stateless at the journal: whoever is cut off,
 * or finds it damaged, asks on at the same byte, there or elsewhere. */

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blob_link.h"
#include "error.h"
#include "sha256.h"

enum { NS_PER_MS = 1000000, HASH_BYTES = 1 << 20 };

/* A journal, and what it said of this blob. */
struct source {
    struct fm_id journal;
    int said;                           /* 0: nothing; FM_ERR_UNKNOWN, FM_ERR_CORRUPT */
};

struct get {
    struct blob_link link;
    uint8_t digest[BLOB_DIGEST_LEN];
    fm_blob_write_fn *write;
    void *arg;
    struct sha256 *sha256;              /* NULL: a range */
    struct source sources[BLOB_JOURNALS_MAX];
    size_t source_count, source;        /* source: of the connection */
    uint64_t position, asked, end;      /* handed on; asked for; where it ends, UINT64_MAX: not known */
    uint64_t oldest;                    /* request: earlier ones were given up */
    uint64_t size;
    bool sized, done;
    char media_type[TYPE_MAX + 1];
    size_t media_type_len;
};

/* --- Which journal. */

static int find_sources (struct get *g)
{
    struct fm_id ids[BLOB_JOURNALS_MAX];
    size_t count;
    const int rc = blob_link_journals (&g->link, ids, BLOB_JOURNALS_MAX, &count);
    if (rc)
        return rc;
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < g->source_count && !id_equal (&g->sources[at].journal, &ids[i]))
            at++;
        if (at == g->source_count && g->source_count < BLOB_JOURNALS_MAX)
            g->sources[g->source_count++] = (struct source) { .journal = ids[i] };
    }
    return 0;
}

/* What it comes down to when all have said no. 0: some have not. */
static int verdict (const struct get *g)
{
    char text[BLOB_DIGEST_TEXT_LEN + 1];
    bool damaged = false;
    for (size_t i = 0; i < g->source_count; i++) {
        if (!g->sources[i].said)
            return 0;
        damaged |= g->sources[i].said == FM_ERR_CORRUPT;
    }
    (void) blob_digest_text (g->digest, text);
    if (damaged)
        return error_set (FM_ERR_CORRUPT, "blob %s is damaged at every journal that has it", text);
    return error_set (FM_ERR_UNKNOWN, "no journal has blob %s (asked %zu)", text, g->source_count);
}

static int connect_step (struct get *g)
{
    int rc = find_sources (g);
    if (!rc)
        rc = verdict (g);
    for (size_t n = 0; !rc && n < g->source_count && !g->link.client; n++) {
        g->source = (g->source + 1) % g->source_count;
        if (!g->sources[g->source].said)
            (void) blob_link_connect (&g->link, &g->sources[g->source].journal);        /* it is away: the next one, and again later */
    }
    return rc;
}

/* --- Asking and taking. */

static int ask (struct get *g, uint64_t *ret_request)
{
    Factmesh__BlobRead read = FACTMESH__BLOB_READ__INIT;
    uint64_t request;
    read.sha256 = control_put_slice (slice (g->digest, sizeof g->digest));
    read.position = g->asked;
    /* Up to the end of the block: then all others are whole ones. */
    const uint64_t to_block = BLOB_BLOCK - g->asked % BLOB_BLOCK, left = g->end - g->asked;
    read.length = (uint32_t) (to_block < left ? to_block : left);
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_READ;
    control.blob_read = &read;
    const int rc = replay_client_request (g->link.client, &control, &request);
    if (rc)
        return rc;
    g->asked += read.length;
    *ret_request = request;
    return 0;
}

/* Give up what was asked for: whatever comes of it is ignored. */
static void ask_anew (struct get *g)
{
    g->asked = g->position;
    g->oldest = 0;
}

static void ask_step (struct get *g)
{
    const uint64_t ahead = g->sized ? (uint64_t) BLOB_READS * BLOB_BLOCK : 1;
    uint64_t request;
    while (g->asked - g->position < ahead && (g->asked < g->end) && ask (g, &request) == 0)
        if (!g->oldest)
            g->oldest = request;
}

static int take_size (struct get *g, const Factmesh__BlobData *data)
{
    if (g->sized)
        return data->size == g->size ? 0 : error_set (FM_ERR_CORRUPT, "blob: journals disagree about its size");
    g->sized = true;
    g->size = data->size;
    g->media_type_len = data->media_type.len;
    if (data->media_type.len)
        memcpy (g->media_type, data->media_type.data, data->media_type.len);
    if (g->position > g->size || (g->position == g->size && g->size && !g->sha256))
        return error_set (FM_ERR_END, "blob: it has %llu bytes, and the range begins at %llu", (unsigned long long) g->size, (unsigned long long) g->position);
    if (g->end > g->size)
        g->end = g->size;
    if (g->asked > g->end)
        g->asked = g->end;
    return 0;
}

static int take_data (struct get *g, const Factmesh__BlobData *data)
{
    int rc = take_size (g, data);
    if (rc || data->position != g->position)
        return rc;
    const uint64_t left = g->end - g->position;
    const size_t len = data->data.len < left ? data->data.len : (size_t) left;
    if (!len && left) {
        (void) blob_link_problem (&g->link, FM_ERR_MALFORMED, "a journal sent nothing");
        ask_anew (g);
        return 0;
    }
    if (g->sha256)
        rc = sha256_add (g->sha256, data->data.data, len);
    if (!rc && len)
        rc = g->write (g->arg, data->data.data, len);
    if (rc)
        return rc;
    g->position += len;
    blob_link_moved (&g->link);
    g->done = g->position == g->end;
    /* Less than a block: what was asked for behind it does not follow. */
    if (!g->done && g->position % BLOB_BLOCK)
        ask_anew (g);
    return 0;
}

static int take_error (struct get *g, const struct replay_event *e)
{
    const int rc = blob_link_error (e->code);
    (void) blob_link_problem (&g->link, rc, e->text);
    if (rc == FM_ERR_UNKNOWN || rc == FM_ERR_CORRUPT) {
        g->sources[g->source].said = rc;
        blob_link_cut (&g->link, 0);
        return 0;
    }
    if (rc == FM_ERR_MALFORMED || rc == FM_ERR_VERSION || rc == FM_ERR_MESH)
        return error_set (rc, "blob: the journal says: %s", e->text);
    blob_link_cut (&g->link, BLOB_RETRY_MS);
    return 0;
}

static int take_event (struct get *g, const struct replay_event *e)
{
    if (!g->oldest || e->request < g->oldest)
        return 0;
    if (e->kind == REPLAY_ERROR)
        return take_error (g, e);
    if (e->kind == REPLAY_OTHER && e->control->body_case == FACTMESH__CONTROL__BODY_BLOB_DATA)
        return take_data (g, e->control->blob_data);
    return 0;
}

static int step (struct get *g)
{
    const uint64_t now = node_now ();
    int rc = 0;
    if (blob_link_is_lost (&g->link, now))
        blob_link_cut (&g->link, 0);
    else if (blob_link_is_silent (&g->link, now))
        ask_anew (g);
    if (!g->link.client && now >= g->link.retry_ns) {
        rc = connect_step (g);
        ask_anew (g);
    }
    if (!rc && g->link.client)
        ask_step (g);
    struct replay_event event;
    uint64_t until = now + (uint64_t) BLOB_WAIT_MS * NS_PER_MS;
    while (!rc && !g->done && blob_link_next (&g->link, until, &event) == 0) {
        rc = take_event (g, &event);
        if (!rc && !g->done && g->link.client)
            ask_step (g);
        until = 0;
    }
    return rc ? rc : g->done ? 0 : blob_link_tend (&g->link, g->position, g->sized ? g->size : 0);
}

static int check_whole (struct get *g)
{
    uint8_t digest[BLOB_DIGEST_LEN];
    char is[BLOB_DIGEST_TEXT_LEN + 1], said[BLOB_DIGEST_TEXT_LEN + 1];
    const int rc = g->sha256 ? sha256_get (g->sha256, digest) : 0;
    if (rc || !g->sha256 || memcmp (digest, g->digest, sizeof digest) == 0)
        return rc;
    return error_set (FM_ERR_CORRUPT, "blob: what came has the SHA-256 %s, not %s; forget it", blob_digest_text (digest, is), blob_digest_text (g->digest, said));
}

static void fill_info (const struct get *g, struct fm_blob_info *ret_info)
{
    *ret_info = (struct fm_blob_info) { .blob = { .size = g->size } };
    memcpy (ret_info->blob.sha256, g->digest, BLOB_DIGEST_LEN);
    memcpy (ret_info->media_type, g->media_type, g->media_type_len);
    ret_info->blob.media_type = slice (ret_info->media_type, g->media_type_len);
}

/* From g->position to g->end. */
static int run (struct get *g, struct fm_blob_info *ret_info)
{
    int rc = 0;
    while (!rc && !g->done)
        rc = step (g);
    if (!rc)
        rc = check_whole (g);
    if (!rc && ret_info)
        fill_info (g, ret_info);
    blob_link_release (&g->link, rc == 0);
    sha256_destroy (&g->sha256);
    free (g);
    return rc;
}

static int get_new (struct fm_node *node, const uint8_t sha256[32], const struct fm_blob_options *options, struct get **ret_get)
{
    struct get *g = calloc (1, sizeof *g);
    if (!g)
        return -ENOMEM;
    blob_link_init (&g->link, node, options);
    memcpy (g->digest, sha256, BLOB_DIGEST_LEN);
    const struct fm_blob_options *o = g->link.options;
    g->position = g->asked = o->offset;
    g->end = o->length && o->length < UINT64_MAX - o->offset ? o->offset + o->length : UINT64_MAX;
    const int rc = o->offset || o->length ? 0 : sha256_new (&g->sha256);
    if (rc) {
        free (g);
        return rc;
    }
    *ret_get = g;
    return 0;
}

int fm_blob_get (struct fm_node *node, const uint8_t sha256[32], fm_blob_write_fn *write, void *arg, const struct fm_blob_options *options, struct fm_blob_info *ret_info)
{
    struct get *g;
    const int rc = get_new (node, sha256, options, &g);
    if (rc)
        return rc;
    g->write = write;
    g->arg = arg;
    return run (g, ret_info);
}

/* --- Into a descriptor. */

static int write_fd (void *arg, const void *data, size_t len)
{
    const int *fd = arg;
    const uint8_t *p = data;
    while (len) {
        const ssize_t n = write (*fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        p += n;
        len -= (size_t) n;
    }
    return 0;
}

/* What the file has is the beginning. */
static int hash_beginning (struct get *g, int fd)
{
    struct stat st;
    uint8_t *buffer = malloc (HASH_BYTES);
    int rc = buffer ? fstat (fd, &st) == 0 ? 0 : -errno : -ENOMEM;
    if (!rc && !S_ISREG (st.st_mode))
        rc = error_set (FM_ERR_ARGUMENT, "blob: only a regular file can be gone on with");
    while (!rc && g->position < (uint64_t) st.st_size) {
        const ssize_t n = pread (fd, buffer, HASH_BYTES, (off_t) g->position);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = n < 0 ? -errno : -EIO;
            break;
        }
        rc = sha256_add (g->sha256, buffer, (size_t) n);
        g->position += (uint64_t) n;
        blob_link_moved (&g->link);
        if (!rc)
            rc = blob_link_tend (&g->link, g->position, 0);
    }
    g->asked = g->position;
    if (!rc && lseek (fd, (off_t) g->position, SEEK_SET) < 0)
        rc = -errno;
    free (buffer);
    return rc;
}

int fm_blob_get_fd (struct fm_node *node, const uint8_t sha256[32], int fd, const struct fm_blob_options *options, struct fm_blob_info *ret_info)
{
    struct get *g;
    int rc = options && options->resume && (options->offset || options->length) ? error_set (FM_ERR_ARGUMENT, "blob: only the whole can be gone on with, not a range") : 0;
    if (!rc)
        rc = get_new (node, sha256, options, &g);
    if (rc)
        return rc;
    g->write = write_fd;
    g->arg = &fd;
    rc = options && options->resume ? hash_beginning (g, fd) : 0;
    if (rc) {
        sha256_destroy (&g->sha256);
        free (g);
        return rc;
    }
    return run (g, ret_info);
}

/* --- Asking about one. */

static int take_stat (struct get *g, const Factmesh__BlobInfo *info, struct fm_blob_info *ret_info)
{
    if (info->sha256.len != BLOB_DIGEST_LEN || memcmp (info->sha256.data, g->digest, BLOB_DIGEST_LEN) != 0)
        return error_set (FM_ERR_MALFORMED, "blob: the journal told of another one");
    g->size = info->size;
    g->media_type_len = info->media_type.len;
    if (info->media_type.len)
        memcpy (g->media_type, info->media_type.data, info->media_type.len);
    fill_info (g, ret_info);
    ret_info->stored_ns = info->stored_ns;
    ret_info->lease_ns = info->lease_ns;
    g->done = true;
    return 0;
}

static int stat_step (struct get *g, struct fm_blob_info *ret_info)
{
    const uint64_t now = node_now ();
    struct replay_event e;
    int rc = 0;
    if (blob_link_is_lost (&g->link, now))
        blob_link_cut (&g->link, 0);
    else if (blob_link_is_silent (&g->link, now))
        g->oldest = 0;
    if (!g->link.client && now >= g->link.retry_ns) {
        rc = connect_step (g);
        g->oldest = 0;
    }
    if (!rc && g->link.client && !g->oldest) {
        Factmesh__BlobStat stat = FACTMESH__BLOB_STAT__INIT;
        stat.sha256 = control_put_slice (slice (g->digest, sizeof g->digest));
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_BLOB_STAT;
        control.blob_stat = &stat;
        (void) replay_client_request (g->link.client, &control, &g->oldest);    /* else again the next time */
    }
    if (!rc && blob_link_next (&g->link, now + (uint64_t) BLOB_WAIT_MS * NS_PER_MS, &e) == 0 && g->oldest && e.request == g->oldest) {
        if (e.kind == REPLAY_ERROR)
            rc = take_error (g, &e);
        else if (e.kind == REPLAY_OTHER && e.control->body_case == FACTMESH__CONTROL__BODY_BLOB_REPLY && e.control->blob_reply->n_blobs == 1)
            rc = take_stat (g, e.control->blob_reply->blobs[0], ret_info);
    }
    return rc ? rc : g->done ? 0 : blob_link_tend (&g->link, 0, 0);
}

int fm_blob_stat (struct fm_node *node, const uint8_t sha256[32], const struct fm_blob_options *options, struct fm_blob_info *ret_info)
{
    struct get *g;
    int rc = get_new (node, sha256, options, &g);
    if (rc)
        return rc;
    while (!rc && !g->done)
        rc = stat_step (g, ret_info);
    blob_link_release (&g->link, rc == 0);
    sha256_destroy (&g->sha256);
    free (g);
    return rc;
}

/* --- Helpers. */

char *fm_blob_text (const uint8_t sha256[32], char *text)
{
    return blob_digest_text (sha256, text);
}

int fm_blob_parse (const char *text, uint8_t ret_sha256[32])
{
    return blob_digest_parse (text, strlen (text), ret_sha256);
}

int fm_blob_ref (const struct fm_blob *blob, void *buffer, size_t size, struct fm_slice *ret_ref)
{
    size_t len;
    const int rc = blob_ref_encode (blob, buffer, size, &len);
    if (!rc)
        *ret_ref = slice (buffer, len);
    return rc;
}

int fm_fact_blob (const struct fm_fact *fact, struct fm_blob *ret_blob)
{
    return fact->blob.len ? blob_ref_decode (fact->blob, ret_blob) : error_set (FM_ERR_UNKNOWN, "the fact points to no blob");
}

struct into {
    uint8_t *at;
    size_t left;
};

static int write_memory (void *arg, const void *data, size_t len)
{
    struct into *into = arg;
    if (len > into->left)
        return error_set (FM_ERR_CORRUPT, "the blob is larger than its pointer says");
    memcpy (into->at, data, len);
    into->at += len;
    into->left -= len;
    return 0;
}

int fm_fact_payload (struct fm_node *node, const struct fm_fact *fact, size_t size_max, const struct fm_blob_options *options, void **ret_buffer, struct fm_slice *ret_payload)
{
    struct fm_blob blob;
    if (!fact->blob.len || fact->payload.len) {
        *ret_buffer = NULL;
        *ret_payload = fact->payload;
        return 0;
    }
    int rc = fm_fact_blob (fact, &blob);
    if (rc)
        return rc;
    if (blob.size > size_max)
        return error_set (FM_ERR_TOO_LARGE, "the payload has %llu bytes, more than %zu", (unsigned long long) blob.size, size_max);
    uint8_t *buffer = malloc ((size_t) blob.size + 1);
    if (!buffer)
        return -ENOMEM;
    struct into into = { .at = buffer, .left = (size_t) blob.size };
    rc = fm_blob_get (node, blob.sha256, write_memory, &into, options, NULL);
    if (!rc && into.left)
        rc = error_set (FM_ERR_CORRUPT, "the blob is smaller than its pointer says");
    if (rc) {
        free (buffer);
        return rc;
    }
    *ret_buffer = buffer;
    *ret_payload = slice (buffer, (size_t) blob.size);
    return 0;
}
