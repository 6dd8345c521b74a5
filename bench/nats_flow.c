/* nats_flow: the same payloads through NATS JetStream, over a small client of its text protocol.
 *
 * Publishes to subject bench.facts with a reply inbox, --flight unanswered at most; reads back through a push consumer without
 * acknowledgements, as an ordered consumer does. Protocol: docs.nats.io, "NATS protocol" and "JetStream wire API". */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bench.h"

static struct bench_option options[] = {
    { "role", "pub or sub", "pub" },
    { "port", "of the server on 127.0.0.1", "7700" },
    { "count", "messages", "1M" },
    { "size", "payload bytes", "100" },
    { "flight", "published and not yet acknowledged", "4000" },
};

enum { READ_BYTES = 1 << 20, WRITE_BYTES = 1 << 20 };

struct client {
    int fd;
    size_t out_len, in_pos, in_len;
    char out[WRITE_BYTES], in[READ_BYTES];
};

static void client_flush (struct client *c)
{
    for (size_t done = 0; done < c->out_len;) {
        const ssize_t n = write (c->fd, c->out + done, c->out_len - done);
        if (n < 0 && errno != EINTR)
            bench_fail ("nats: %s", strerror (errno));
        done += n > 0 ? (size_t) n : 0;
    }
    c->out_len = 0;
}

static void client_put (struct client *c, const void *bytes, size_t len)
{
    if (len > WRITE_BYTES - c->out_len)
        client_flush (c);
    memcpy (c->out + c->out_len, bytes, len);
    c->out_len += len;
}

static void client_put_text (struct client *c, const char *text)
{
    client_put (c, text, strlen (text));
}

/* Make at least `need` bytes available behind in_pos. */
static void client_fill (struct client *c, size_t need)
{
    if (c->in_pos > 0 && c->in_pos + need > READ_BYTES) {
        memmove (c->in, c->in + c->in_pos, c->in_len - c->in_pos);
        c->in_len -= c->in_pos;
        c->in_pos = 0;
    }
    while (c->in_len - c->in_pos < need) {
        const ssize_t n = read (c->fd, c->in + c->in_len, READ_BYTES - c->in_len);
        if (n == 0 || (n < 0 && errno != EINTR))
            bench_fail ("nats: %s", n == 0 ? "the server closed the connection" : strerror (errno));
        c->in_len += n > 0 ? (size_t) n : 0;
    }
}

/* The next line, NUL-terminated in place, without its CRLF. */
static char *client_line (struct client *c)
{
    for (size_t looked = 0;;) {
        char *start = c->in + c->in_pos;
        char *end = memchr (start + looked, '\n', c->in_len - c->in_pos - looked);
        if (end) {
            end[-1] = '\0';
            c->in_pos = (size_t) (end + 1 - c->in);
            return start;
        }
        looked = c->in_len - c->in_pos;
        client_fill (c, looked + 1);
    }
}

/* The next message's payload: valid until the next call. Answers PING, skips INFO and +OK. */
static const char *client_message (struct client *c, size_t *ret_len)
{
    for (;;) {
        char *line = client_line (c);
        if (strncmp (line, "PING", 4) == 0) {
            client_put_text (c, "PONG\r\n");
            client_flush (c);
        } else if (strncmp (line, "-ERR", 4) == 0)
            bench_fail ("nats: %s", line);
        else if (strncmp (line, "MSG ", 4) == 0) {
            const size_t len = (size_t) strtoull (strrchr (line, ' ') + 1, NULL, 10);
            client_fill (c, len + 2);
            const char *payload = c->in + c->in_pos;
            c->in_pos += len + 2;
            *ret_len = len;
            return payload;
        } else if (strncmp (line, "HMSG", 4) == 0)
            bench_fail ("nats: headers came: %s", line);
    }
}

static struct client *client_connect (void)
{
    struct client *c = calloc (1, sizeof *c);
    if (!c || (c->fd = socket (AF_INET, SOCK_STREAM, 0)) < 0)
        bench_fail ("nats: no socket");
    const struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons ((uint16_t) bench_number (options, "port")),
                                    .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    const int on = 1;
    if (connect (c->fd, (const struct sockaddr *) &to, sizeof to) < 0 || setsockopt (c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        bench_fail ("nats: %s", strerror (errno));
    client_put_text (c, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":false}\r\nSUB inbox 1\r\n");
    return c;
}

static void api_call (struct client *c, const char *subject, const char *json)
{
    char line[512];
    snprintf (line, sizeof line, "PUB %s inbox %zu\r\n%s\r\n", subject, strlen (json), json);
    client_put_text (c, line);
    client_flush (c);
    size_t len = 0;
    const char *answer = client_message (c, &len);
    if (memmem (answer, len, "\"error\"", 7))
        bench_fail ("nats: %s: %.*s", subject, (int) len, answer);
}

static void ack_expect (struct client *c)
{
    size_t len = 0;
    const char *ack = client_message (c, &len);
    if (memmem (ack, len, "\"error\"", 7))
        bench_fail ("nats: publish: %.*s", (int) len, ack);
}

static void run_pub (void)
{
    const uint64_t count = bench_number (options, "count"), size = bench_number (options, "size"), flight = bench_number (options, "flight");
    struct client *c = client_connect ();
    api_call (c, "$JS.API.STREAM.CREATE.BENCH", "{\"name\":\"BENCH\",\"subjects\":[\"bench.>\"],\"storage\":\"file\",\"retention\":\"limits\"}");
    uint8_t *payload = malloc (size);
    if (!payload)
        bench_fail ("out of memory");
    const uint64_t started = bench_now_ns ();
    uint64_t acked = 0;
    for (uint64_t n = 1; n <= count; n++) {
        char line[64];
        const int len = snprintf (line, sizeof line, "PUB bench.facts inbox %llu\r\n", (unsigned long long) size);
        bench_payload_put (payload, size, n, 0);
        client_put (c, line, (size_t) len);
        client_put (c, payload, size);
        client_put (c, "\r\n", 2);
        /* Send in runs of a quarter of what may fly, then take as many answers. */
        if (n - acked >= flight)
            for (client_flush (c); n - acked > flight * 3 / 4; acked++)
                ack_expect (c);
    }
    for (client_flush (c); acked < count; acked++)
        ack_expect (c);
    const double s = (double) (bench_now_ns () - started) / 1e9;
    printf ("{\"messages\": %llu, \"taken_s\": %.6f, \"messages_per_s\": %.0f}\n", (unsigned long long) count, s, (double) count / s);
    free (payload);
    free (c);
}

static void run_sub (void)
{
    const uint64_t count = bench_number (options, "count");
    struct client *c = client_connect ();
    client_put_text (c, "SUB deliver 2\r\n");
    api_call (c, "$JS.API.CONSUMER.CREATE.BENCH",
              "{\"stream_name\":\"BENCH\",\"config\":{\"deliver_subject\":\"deliver\",\"deliver_policy\":\"all\",\"ack_policy\":\"none\",\"max_deliver\":1}}");
    struct bench_check check = { .next = 1 };
    uint64_t started = 0;
    for (uint64_t n = 0; n < count; n++) {
        size_t len = 0;
        const char *payload = client_message (c, &len);
        if (!started)
            started = bench_now_ns ();
        (void) bench_check_next (&check, payload, len, 1);
    }
    const double s = (double) (bench_now_ns () - started) / 1e9;
    printf ("{\"messages\": %llu, \"taken_s\": %.6f, \"messages_per_s\": %.0f}\n", (unsigned long long) count, s, (double) count / s);
    free (c);
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "numbered payloads through NATS JetStream", options, sizeof options / sizeof *options);
    bench_payload_init ();
    if (strcmp (bench_string (options, "role"), "pub") == 0)
        run_pub ();
    else
        run_sub ();
    return 0;
}
