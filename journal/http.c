#include "http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "error.h"
#include "http_range.h"
#include "id.h"

enum { HOST_MAX = 255, SEND_BYTES = 64 << 10 };
static const char prefix[] = "/blobs";

struct http {
    struct journal_context *context;
    struct blob_store *store;
    struct MHD_Daemon *daemon;
    unsigned port;
    atomic_uint uploads;
};

/* A request under way. */
struct request {
    struct http *http;
    struct blob_upload *upload;         /* of a PUT */
    bool counted;                       /* as an upload */
    bool named;                         /* the digest below must come out */
    uint8_t digest[BLOB_DIGEST_LEN];
    uint64_t lease_ms;
    int rc;                             /* what went wrong with the body */
    char why[256];
    uint64_t swallowed;
    struct blob_reader *reader;         /* of a GET */
    uint64_t first;                     /* of what is sent */
};

/* --- Answers. */

static enum MHD_Result queue (struct MHD_Connection *c, unsigned status, struct MHD_Response *response)
{
    if (!response)
        return MHD_NO;
    (void) MHD_add_response_header (response, "X-Content-Type-Options", "nosniff");
    const enum MHD_Result result = MHD_queue_response (c, status, response);
    MHD_destroy_response (response);    /* the connection has its own hold */
    return result;
}

static enum MHD_Result say (struct MHD_Connection *c, unsigned status, const char *type, const char *text, const char *header, const char *value)
{
    struct MHD_Response *response = MHD_create_response_from_buffer (strlen (text), (void *) (uintptr_t) text, MHD_RESPMEM_MUST_COPY);
    if (response) {
        (void) MHD_add_response_header (response, "Content-Type", type);
        if (header)
            (void) MHD_add_response_header (response, header, value);
    }
    return queue (c, status, response);
}

static enum MHD_Result refuse (struct http *h, struct MHD_Connection *c, unsigned status, const char *text, const char *header, const char *value)
{
    char line[320];
    (void) snprintf (line, sizeof line, "%s\n", text);
    journal_count (h->context, JOURNAL_HTTP_REFUSED, 1);
    return say (c, status, "text/plain; charset=utf-8", line, header, value);
}

static unsigned status_of (int rc)
{
    switch (rc) {
    case FM_ERR_UNKNOWN:
        return MHD_HTTP_NOT_FOUND;
    case FM_ERR_TOO_LARGE:
        return MHD_HTTP_CONTENT_TOO_LARGE;
    case FM_ERR_LIMIT:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case FM_ERR_MALFORMED:
        return MHD_HTTP_BAD_REQUEST;
    case -ENOSPC:
    case -EDQUOT:
        return MHD_HTTP_INSUFFICIENT_STORAGE;
    default:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

/* An errno has no detail of its own: what is there is of something else. */
static const char *reason_of (int rc)
{
    const char *detail = fm_error_detail ();
    return rc > FM_TIMEOUT || !*detail ? fm_error_text (rc) : detail;
}

static enum MHD_Result refuse_for (struct http *h, struct MHD_Connection *c, int rc, const char *why)
{
    const unsigned status = status_of (rc);
    return refuse (h, c, status, why, status == MHD_HTTP_SERVICE_UNAVAILABLE ? "Retry-After" : NULL, "1");
}

static const char *header (struct MHD_Connection *c, const char *name)
{
    return MHD_lookup_connection_value (c, MHD_HEADER_KIND, name);
}

/* --- GET, HEAD. */

static ssize_t send_some (void *arg, uint64_t position, char *buffer, size_t max)
{
    struct request *r = arg;
    struct fm_slice bytes;
    if (blob_reader_at (r->reader, r->first + position, &bytes) != 0)
        return MHD_CONTENT_READER_END_WITH_ERROR;       /* the connection breaks: what came is too short, and shows it */
    const size_t len = bytes.len < max ? bytes.len : max;       /* max: never beyond the length that the response has */
    memcpy (buffer, bytes.data, len);
    journal_count (r->http->context, JOURNAL_BLOB_BYTES_READ, len);
    return (ssize_t) len;
}

/* "etag", W/"etag", a list of them, or *. */
static bool names_etag (const char *text, const char *etag)
{
    return text && (strcmp (text, "*") == 0 || strstr (text, etag) != NULL);
}

static void add_type (struct MHD_Response *response, const struct blob_info *info)
{
    char type[TYPE_MAX + 1];
    memcpy (type, info->media_type, info->media_type_len);
    type[info->media_type_len] = 0;
    bool plain = info->media_type_len > 0;
    for (size_t i = 0; i < info->media_type_len; i++)
        plain &= type[i] >= ' ' && type[i] < 0x7f;
    (void) MHD_add_response_header (response, "Content-Type", plain ? type : "application/octet-stream");
}

static enum MHD_Result send_blob (struct request *r, struct MHD_Connection *c, const char *etag)
{
    const struct blob_info *info = blob_reader_info (r->reader);
    const char *range_text = header (c, "Range"), *if_range = header (c, "If-Range");
    char text[96];
    if (range_text && if_range && strcmp (if_range, etag) != 0)
        range_text = NULL;
    const struct http_range range = http_range_parse (range_text, info->size);
    if (range.kind == HTTP_RANGE_NONE) {
        (void) snprintf (text, sizeof text, "bytes */%llu", (unsigned long long) info->size);
        return refuse (r->http, c, MHD_HTTP_RANGE_NOT_SATISFIABLE, "the range begins behind the blob's end", "Content-Range", text);
    }
    r->first = range.first;
    /* While there is still a status to say it with. */
    struct fm_slice bytes;
    const int rc = range.first < range.end ? blob_reader_at (r->reader, range.first, &bytes) : 0;
    if (rc)
        return refuse_for (r->http, c, rc, reason_of (rc));
    struct MHD_Response *response = MHD_create_response_from_callback (range.end - range.first, SEND_BYTES, send_some, r, NULL);
    if (!response)
        return MHD_NO;
    add_type (response, info);
    (void) MHD_add_response_header (response, "ETag", etag);
    (void) MHD_add_response_header (response, "Accept-Ranges", "bytes");
    (void) MHD_add_response_header (response, "Cache-Control", "private, max-age=31536000, immutable");
    /* A page that somebody uploaded runs no scripts with the rights of others from here. */
    (void) MHD_add_response_header (response, "Content-Security-Policy", "sandbox");
    if (range.kind == HTTP_RANGE_PART) {
        (void) snprintf (text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long) range.first, (unsigned long long) range.end - 1, (unsigned long long) info->size);
        (void) MHD_add_response_header (response, "Content-Range", text);
    }
    return queue (c, range.kind == HTTP_RANGE_PART ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK, response);
}

static enum MHD_Result get (struct request *r, struct MHD_Connection *c)
{
    char etag[BLOB_DIGEST_TEXT_LEN + 3], digest[BLOB_DIGEST_TEXT_LEN + 1];
    const int rc = blob_reader_open (r->http->store, r->digest, &r->reader);
    if (rc)
        return refuse_for (r->http, c, rc, reason_of (rc));
    (void) snprintf (etag, sizeof etag, "\"%s\"", blob_digest_text (r->digest, digest));
    if (!names_etag (header (c, "If-None-Match"), etag))
        return send_blob (r, c, etag);
    struct MHD_Response *response = MHD_create_response_from_buffer (0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response)
        (void) MHD_add_response_header (response, "ETag", etag);
    return queue (c, MHD_HTTP_NOT_MODIFIED, response);
}

/* --- PUT, POST. */

static int begin_upload (struct request *r, struct MHD_Connection *c)
{
    struct http *h = r->http;
    struct fm_id key;
    const char *type = header (c, "Content-Type"), *length = header (c, "Content-Length"), *lease = MHD_lookup_connection_value (c, MHD_GET_ARGUMENT_KIND, "lease");
    if (type && strlen (type) > TYPE_MAX)
        return error_set (FM_ERR_MALFORMED, "Content-Type: %zu bytes, more than %d", strlen (type), (int) TYPE_MAX);
    if (length && strtoull (length, NULL, 10) > h->context->options.blob_size_max)
        return error_set (FM_ERR_TOO_LARGE, "a blob may have %llu bytes here, not %s", (unsigned long long) h->context->options.blob_size_max, length);
    if (lease) {
        char *end;
        errno = 0;
        const unsigned long long seconds = strtoull (lease, &end, 10);
        if (errno || end == lease || *end || *lease == '-' || seconds > BLOB_LEASE_MS_MAX / 1000)
            return error_set (FM_ERR_MALFORMED, "lease: '%.20s' is no number of seconds up to %llu", lease, (unsigned long long) BLOB_LEASE_MS_MAX / 1000);
        r->lease_ms = seconds * 1000;
    }
    r->counted = true;
    if (atomic_fetch_add (&h->uploads, 1) >= HTTP_UPLOADS_MAX)
        return error_set (FM_ERR_LIMIT, "%d uploads are under way; try again later", (int) HTTP_UPLOADS_MAX);
    id_random (&key);
    return blob_upload_open (h->store, slice (key.bytes, ID_LEN), slice_of (type ? type : ""), &r->upload);
}

static void body_failed (struct request *r, int rc)
{
    r->rc = rc;
    (void) snprintf (r->why, sizeof r->why, "%s", reason_of (rc));
    if (r->upload)
        blob_upload_discard (&r->upload);
}

static enum MHD_Result take_body (struct request *r, const char *data, size_t *len)
{
    size_t taken;
    if (r->rc) {
        /* An answer can only be given behind the body. */
        r->swallowed += *len;
        *len = 0;
        return r->swallowed > HTTP_SWALLOW_BYTES ? MHD_NO : MHD_YES;
    }
    (void) error_set (0, "%s", "");
    int rc = blob_upload_write (r->upload, data, *len, &taken);
    if (!rc && blob_upload_next (r->upload) - blob_upload_synced (r->upload) >= (8 << 20))
        rc = blob_upload_sync (r->upload);
    journal_count (r->http->context, JOURNAL_BLOB_BYTES_TAKEN, *len);
    if (rc)
        body_failed (r, rc);
    *len = 0;
    return MHD_YES;
}

static enum MHD_Result end_upload (struct request *r, struct MHD_Connection *c)
{
    struct blob_info info;
    char digest[BLOB_DIGEST_TEXT_LEN + 1], location[sizeof prefix + BLOB_DIGEST_TEXT_LEN + 2], text[160];
    bool is_new = false;
    if (r->rc)
        return refuse_for (r->http, c, r->rc, r->why);
    (void) error_set (0, "%s", "");
    const int rc = blob_upload_finish (r->upload, r->named ? r->digest : NULL, UINT64_MAX, r->lease_ms, &info, &is_new);
    blob_upload_discard (&r->upload);
    if (rc == FM_ERR_CORRUPT) {
        journal_count (r->http->context, JOURNAL_BLOBS_REFUSED, 1);
        return refuse (r->http, c, MHD_HTTP_UNPROCESSABLE_CONTENT, fm_error_detail (), NULL, NULL);
    }
    if (rc)
        return refuse_for (r->http, c, rc, reason_of (rc));
    journal_count (r->http->context, is_new ? JOURNAL_BLOBS_STORED : JOURNAL_BLOBS_KNOWN, 1);
    (void) snprintf (location, sizeof location, "%s/%s", prefix, blob_digest_text (info.digest, digest));
    (void) snprintf (text, sizeof text, "{\"sha256\":\"%s\",\"size\":%llu}\n", digest, (unsigned long long) info.size);
    return say (c, is_new ? MHD_HTTP_CREATED : MHD_HTTP_OK, "application/json", text, "Location", location);
}

/* --- Requests. */

/* "/blobs" and, behind it, a digest or nothing. 0, FM_ERR_UNKNOWN: another path; FM_ERR_MALFORMED: no digest. */
static int parse_path (const char *url, struct request *r)
{
    const size_t len = sizeof prefix - 1;
    if (strncmp (url, prefix, len) != 0 || (url[len] && url[len] != '/'))
        return FM_ERR_UNKNOWN;
    if (!url[len] || !url[len + 1])
        return 0;
    const int rc = blob_digest_parse (url + len + 1, strlen (url + len + 1), r->digest);
    r->named = rc == 0;
    return rc;
}

static bool is_put (const char *method)
{
    return strcmp (method, "PUT") == 0 || strcmp (method, "POST") == 0;
}

/* What can be said before the body. 0: go on. */
static int begin (struct http *h, struct MHD_Connection *c, const char *url, const char *method, void **place, enum MHD_Result *ret_result)
{
    struct request *r = calloc (1, sizeof *r);
    if (!r) {
        *ret_result = MHD_NO;
        return -ENOMEM;
    }
    r->http = h;
    *place = r;                         /* freed by `completed` */
    journal_count (h->context, JOURNAL_HTTP_REQUESTS, 1);
    (void) error_set (0, "%s", "");
    int rc = parse_path (url, r);
    if (rc == FM_ERR_UNKNOWN)
        *ret_result = refuse (h, c, MHD_HTTP_NOT_FOUND, "only /blobs is here", NULL, NULL);
    else if (rc)
        *ret_result = refuse (h, c, MHD_HTTP_NOT_FOUND, fm_error_detail (), NULL, NULL);
    else if (is_put (method) && !(r->named && strcmp (method, "POST") == 0)) {
        rc = begin_upload (r, c);
        if (rc)
            *ret_result = refuse_for (h, c, rc, reason_of (rc));
    } else if (!r->named || (strcmp (method, "GET") != 0 && strcmp (method, "HEAD") != 0)) {
        rc = FM_ERR_ARGUMENT;
        *ret_result = refuse (h, c, MHD_HTTP_METHOD_NOT_ALLOWED, "not with this path", "Allow", r->named ? "GET, HEAD, PUT" : "PUT, POST");
    }
    return rc;
}

static enum MHD_Result handle (void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *data, size_t *len,
                               void **place)
{
    struct http *h = arg;
    enum MHD_Result result = MHD_YES;
    (void) version;
    if (!*place) {
        (void) begin (h, c, url, method, place, &result);
        return result;                  /* it comes again */
    }
    struct request *r = *place;
    if (*len && is_put (method))
        return take_body (r, data, len);
    if (*len) {
        *len = 0;                       /* a GET with a body: nobody reads it */
        return MHD_YES;
    }
    return is_put (method) ? end_upload (r, c) : get (r, c);
}

static void completed (void *arg, struct MHD_Connection *c, void **place, enum MHD_RequestTerminationCode why)
{
    struct request *r = *place;
    (void) arg;
    (void) c;
    (void) why;
    if (!r)
        return;
    *place = NULL;
    if (r->upload)                      /* it ended early */
        blob_upload_discard (&r->upload);
    if (r->counted)
        atomic_fetch_sub (&r->http->uploads, 1);
    blob_reader_close (&r->reader);
    free (r);
}

/* --- Life. */

static int resolve (const char *address, struct addrinfo **ret_addresses)
{
    char host[HOST_MAX + 1];
    const char *colon = strrchr (address, ':');
    const char *from = address, *end = colon;
    const bool bracketed = colon && *from == '[' && end[-1] == ']';
    if (bracketed) {
        from++;
        end--;
    }
    if (!colon || !colon[1] || end - from > HOST_MAX)
        return error_set (FM_ERR_ADDRESS, "http: '%s': write HOST:PORT, 127.0.0.1:8080 or '*:8080'", address);
    memcpy (host, from, (size_t) (end - from));
    host[end - from] = 0;
    const bool any = strcmp (host, "*") == 0 || (!*host && !bracketed);     /* brackets around nothing are a slip */
    const struct addrinfo hints = { .ai_family = any ? AF_INET : AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    const int code = getaddrinfo (any ? NULL : host, colon + 1, &hints, ret_addresses);
    return code ? error_set (FM_ERR_ADDRESS, "http: '%s': %s", address, gai_strerror (code)) : 0;
}

int http_new (struct journal_context *context, struct blob_store *store, const char *address, struct http **ret_http)
{
    struct addrinfo *addresses;
    int rc = resolve (address, &addresses);
    if (rc)
        return rc;
    struct http *h = calloc (1, sizeof *h);
    if (!h) {
        freeaddrinfo (addresses);
        return -ENOMEM;
    }
    h->context = context;
    h->store = store;
    atomic_init (&h->uploads, 0);
    /* Not epoll: with it libmicrohttpd 0.9.75 misses, every other time, that a client hung up in the middle of a body, until the time-out. */
    const unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | (addresses->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    /* Not MHD_OPTION_LISTENING_ADDRESS_REUSE: that lets several journals listen at one port, and the kernel deal connections out among them. A port whose
     * last connections linger is taken all the same. */
    /* Its threads are not where the program's signals are handled. */
    sigset_t all, before;
    sigfillset (&all);
    (void) pthread_sigmask (SIG_SETMASK, &all, &before);
    errno = 0;
    h->daemon = MHD_start_daemon (flags, 0, NULL, NULL, handle, h, MHD_OPTION_SOCK_ADDR, addresses->ai_addr, MHD_OPTION_THREAD_POOL_SIZE, (unsigned) HTTP_THREADS,
                                  MHD_OPTION_CONNECTION_LIMIT, (unsigned) HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) HTTP_IDLE_S,
                                  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) HTTP_CONNECTION_BYTES, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
                                  MHD_OPTION_END);
    const int code = errno;
    (void) pthread_sigmask (SIG_SETMASK, &before, NULL);        /* it was valid a moment ago */
    freeaddrinfo (addresses);
    if (!h->daemon) {
        free (h);
        return error_set (FM_ERR_ADDRESS, "http: cannot listen at %s: %s", address, code ? strerror (code) : "libmicrohttpd refuses");
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info (h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    h->port = info ? info->port : 0;
    *ret_http = h;
    return 0;
}

void http_destroy (struct http **http)
{
    struct http *h = *http;
    if (!h)
        return;
    *http = NULL;
    MHD_stop_daemon (h->daemon);        /* waits for its threads; requests under way are completed */
    free (h);
}

unsigned http_port (const struct http *h)
{
    return h->port;
}
