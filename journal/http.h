/* http: blobs for browsers and curl. Off unless an address is given.
 *
 *     PUT, POST /blobs          store the body: 201 (200: it was there), Location: /blobs/DIGEST, {"sha256":…,"size":…}. Content-Type is kept; ?lease=SECONDS
 *     PUT       /blobs/DIGEST   the same, refused with 422 when the body has another digest
 *     GET, HEAD /blobs/DIGEST   the blob: Range, If-Range, ETag, If-None-Match
 *
 * 400 malformed, 404 no such blob, 405, 413 too large, 416 the range is behind the end, 500 damaged here, 503 too many uploads, 507 the disk is full.
 *
 * Owns:    libmicrohttpd's daemon and its threads; uploads and readers of its connections.
 * Promise: what is sent was checked, block by block; a blob that turns out damaged in the middle ends with a broken connection, never with wrong bytes.
 * Bounded: HTTP_CONNECTIONS_MAX, each with a block of memory; HTTP_IDLE_S; HTTP_UPLOADS_MAX. */

#ifndef FM_JOURNAL_HTTP_H
#define FM_JOURNAL_HTTP_H

#include "blob_store.h"
#include "context.h"

enum {
    HTTP_CONNECTIONS_MAX = 128,
    HTTP_THREADS = 4,
    HTTP_IDLE_S = 30,                   /* a connection on which nothing moves is closed */
    HTTP_UPLOADS_MAX = 32,              /* at a time: others have room in the store */
    HTTP_CONNECTION_BYTES = 32 << 10,   /* for a request's head */
    HTTP_SWALLOW_BYTES = 16 << 20       /* of a body that is refused: then the connection is closed */
};

struct http;

/* Serve the store at "HOST:PORT", "[HOST]:PORT" or "*:PORT". FM_ERR_ADDRESS with a detail, -ENOMEM. */
int http_new (struct journal_context *context, struct blob_store *store, const char *address, struct http **ret_http);
void http_destroy (struct http **http);
/* The port that was bound. */
unsigned http_port (const struct http *h);

#endif
