#include "path.h"

#include <stdlib.h>
#include <string.h>

#include "topic.h"

static uint64_t spent_ns;

__attribute__ ((noipa)) void path_measured (void (*run) (void *context), void *context)
{
    run (context);
}

void path_run (const struct path_step *step, void *context, uint64_t count)
{
    uint64_t done = 0;
    while (done < count && step->prepare (context)) {
        const uint64_t began = bench_now_ns ();
        path_measured (step->run, context);
        spent_ns += bench_now_ns () - began;
        done += step->check (context);
    }
    printf ("{\"step\": \"%s\", \"facts\": %llu, \"ns_per_fact\": %.2f}\n", step->name, (unsigned long long) done, (double) spent_ns / (double) done);
}

const struct path_step *path_find (const struct path_step *steps, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp (steps[i].name, name) == 0)
            return &steps[i];
    for (size_t i = 0; i < count; i++)
        fprintf (stderr, "bench: --step %s\n", steps[i].name);
    bench_fail ("--step %s: is none of these", name);
}

/* ------------------------------------------------------------------ batches */

static const uint8_t backs[TOPIC_LEVELS_MAX + 1];   /* zeros: an upper bound of the last sequence is always right */

void path_batch_init (struct path_batch *b, size_t payload_size, uint32_t topics)
{
    *b = (struct path_batch) { .payload_size = payload_size, .next_seq = 1, .stream = { { 1, 2, 3 } }, .topic_count = topics };
    if (topics == 0 || topics > PATH_TOPICS_MAX)
        bench_fail ("--topics: 1 to %d", PATH_TOPICS_MAX);
    b->names = calloc (topics, sizeof *b->names);
    b->topics = calloc (topics, sizeof *b->topics);
    b->bytes = malloc (LIVE_FRAME_MAX);
    if (!b->names || !b->topics || !b->bytes)
        bench_fail ("out of memory");
    size_t head = 256;
    for (uint32_t i = 0; i < topics; i++) {
        const int len = snprintf (b->names[i], sizeof b->names[i], "bench.t%u", i);
        b->topics[i] = (struct batch_topic) { .name = slice (b->names[i], (size_t) len), .backs = slice (backs, 3) };
        head += (size_t) len + 16;
    }
    b->count = (uint32_t) ((LIVE_FRAME_MAX - head) / (payload_size + 16));
    if (b->count == 0)
        bench_fail ("--size, --topics: a frame has no room for one fact");
}

void path_batch_release (struct path_batch *b)
{
    free (b->names);
    free (b->topics);
    free (b->bytes);
}

void path_batch_make (struct path_batch *b)
{
    const struct batch header = {
        .major = PROTO_MAJOR, .minor = PROTO_MINOR, .count = b->count, .mesh = slice_of ("bench"), .stream = b->stream, .epoch = 1, .incarnation = 7,
        .epoch_first_seq = 1, .first_seq = b->next_seq, .time_ns = UINT64_C (1700000000000000000), .topics = b->topics, .topic_count = b->topic_count,
    };
    const struct batch_defaults defaults = { .time_ns = header.time_ns };
    static uint8_t payload[BENCH_PAYLOAD_MAX];
    uint8_t *p = batch_encode_header (b->bytes, &header);
    for (uint32_t i = 0; i < b->count; i++) {
        const uint64_t seq = b->next_seq + i;
        bench_payload_put (payload, b->payload_size, seq, 0);
        const struct fm_fact fact = { .topic_index = (uint32_t) (seq % b->topic_count), .payload = slice (payload, b->payload_size), .time_ns = header.time_ns };
        if (fact_encoded_len (&fact, &defaults) > (size_t) (b->bytes + LIVE_FRAME_MAX - p))
            bench_fail ("a batch larger than a frame");
        p = fact_encode (p, &fact, &defaults);
    }
    b->len = (size_t) (p - b->bytes);
    b->next_seq += b->count;
}
