/* redis_flow: the same payloads through a Redis stream: XADD, pipelined over several connections, and XREAD.
 *
 * Streams per connection (bench:0, bench:1 …), so that each keeps its order and can be checked. */

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "common/bench.h"

static struct bench_option options[] = {
    { "role", "pub or sub", "pub" },
    { "port", "of the server on 127.0.0.1", "7600" },
    { "count", "messages in all", "1M" },
    { "size", "payload bytes", "100" },
    { "connections", "each with a stream of its own", "4" },
    { "pipeline", "commands in flight on each", "64" },
    { "read", "messages for each XREAD", "1000" },
};
enum { CONNECTIONS_MAX = 64 };

static redisContext *server_connect (void)
{
    redisContext *c = redisConnect ("127.0.0.1", (int) bench_number (options, "port"));
    if (!c || c->err)
        bench_fail ("redis: %s", c ? c->errstr : "out of memory");
    return c;
}

static void reply_expect (redisContext *c)
{
    redisReply *reply = NULL;
    if (redisGetReply (c, (void **) &reply) != REDIS_OK || reply->type == REDIS_REPLY_ERROR)
        bench_fail ("XADD: %s", reply ? reply->str : c->errstr);
    freeReplyObject (reply);
}

static void run_pub (void)
{
    const uint64_t count = bench_number (options, "count"), size = bench_number (options, "size");
    const uint64_t connections = bench_number (options, "connections"), pipeline = bench_number (options, "pipeline");
    redisContext *c[CONNECTIONS_MAX];
    uint8_t *payload = malloc (size);
    if (!payload || connections == 0 || connections > CONNECTIONS_MAX)
        bench_fail ("1 to %d connections", CONNECTIONS_MAX);
    for (uint64_t i = 0; i < connections; i++)
        c[i] = server_connect ();
    const uint64_t started = bench_now_ns ();
    for (uint64_t n = 0; n < count;) {
        uint64_t sent[CONNECTIONS_MAX] = { 0 };
        for (uint64_t i = 0; i < connections; i++) {
            for (; sent[i] < pipeline && n < count; sent[i]++, n++) {
                char stream[32];
                snprintf (stream, sizeof stream, "bench:%llu", (unsigned long long) i);
                bench_payload_put (payload, size, n / (pipeline * connections) * pipeline + sent[i] + 1, 0);
                if (redisAppendCommand (c[i], "XADD %s * p %b", stream, payload, (size_t) size) != REDIS_OK)
                    bench_fail ("XADD: %s", c[i]->errstr);
            }
            int done = 0;
            while (!done)
                if (redisBufferWrite (c[i], &done) != REDIS_OK)
                    bench_fail ("XADD: %s", c[i]->errstr);
        }
        for (uint64_t i = 0; i < connections; i++)
            while (sent[i]-- > 0)
                reply_expect (c[i]);
    }
    const double s = (double) (bench_now_ns () - started) / 1e9;
    printf ("{\"messages\": %llu, \"taken_s\": %.6f, \"messages_per_s\": %.0f}\n", (unsigned long long) count, s, (double) count / s);
    for (uint64_t i = 0; i < connections; i++)
        redisFree (c[i]);
    free (payload);
}

/* One stream's part of an XREAD answer: [name, [[id, [field, value]] …]]. Returns how many entries it had. */
static uint64_t part_check (const redisReply *part, struct bench_check *checks, char (*last)[64])
{
    const size_t stream = (size_t) atoi (strchr (part->element[0]->str, ':') + 1);
    const redisReply *entries = part->element[1];
    for (size_t i = 0; i < entries->elements; i++) {
        const redisReply *value = entries->element[i]->element[1]->element[1];
        (void) bench_check_next (&checks[stream], value->str, value->len, 1);
    }
    if (entries->elements > 0)
        snprintf (last[stream], sizeof last[stream], "%s", entries->element[entries->elements - 1]->element[0]->str);
    return entries->elements;
}

static void run_sub (void)
{
    const uint64_t count = bench_number (options, "count"), connections = bench_number (options, "connections");
    struct bench_check checks[CONNECTIONS_MAX];
    char last[CONNECTIONS_MAX][64];
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        checks[i] = (struct bench_check) { .next = 1 };
        snprintf (last[i], sizeof last[i], "0");
    }
    redisContext *c = server_connect ();
    uint64_t got = 0, started = 0;
    while (got < count) {
        char names[CONNECTIONS_MAX][32], limit[24];
        const char *argv[6 + 2 * CONNECTIONS_MAX] = { "XREAD", "COUNT", limit, "BLOCK", "10000", "STREAMS" };
        snprintf (limit, sizeof limit, "%llu", (unsigned long long) bench_number (options, "read"));
        for (size_t i = 0; i < connections; i++) {
            snprintf (names[i], sizeof names[i], "bench:%zu", i);
            argv[6 + i] = names[i];
            argv[6 + connections + i] = last[i];
        }
        redisReply *reply = redisCommandArgv (c, (int) (6 + 2 * connections), argv, NULL);
        if (!reply || reply->type != REDIS_REPLY_ARRAY)
            bench_fail ("XREAD: %s", reply && reply->str ? reply->str : "nothing came in 10 s");
        if (!started)
            started = bench_now_ns ();
        for (size_t i = 0; i < reply->elements; i++)
            got += part_check (reply->element[i], checks, last);
        freeReplyObject (reply);
    }
    const double s = (double) (bench_now_ns () - started) / 1e9;
    printf ("{\"messages\": %llu, \"taken_s\": %.6f, \"messages_per_s\": %.0f}\n", (unsigned long long) got, s, (double) got / s);
    redisFree (c);
}

int main (int argc, char **argv)
{
    bench_options (argc, argv, "numbered payloads through Redis streams", options, sizeof options / sizeof *options);
    bench_payload_init ();
    if (strcmp (bench_string (options, "role"), "pub") == 0)
        run_pub ();
    else
        run_sub ();
    return 0;
}
