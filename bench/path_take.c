/* path_take: what does it cost a receiver to read the facts of a batch? And a journal to check them? */

#include "common/path.h"

static struct bench_option options[] = {
    { "step", "decode: header and every field of every fact; check: what a journal does before it records", "decode" },
    { "count", "facts", "1M" },
    { "size", "payload bytes", "100" },
    { "topics", "of a batch", "1" },
};

struct take {
    struct path_batch made;
    struct batch batch;
    struct batch_scratch scratch;
    uint64_t sum, taken;
};

static bool take_prepare (void *context)
{
    struct take *t = context;
    path_batch_make (&t->made);
    t->sum = t->taken = 0;
    return true;
}

static void must (int rc, const char *what)
{
    if (rc != 0)
        bench_fail ("%s: %d", what, rc);
}

static uint64_t sum_of (const struct fm_fact *f)
{
    return f->id.seq + f->time_ns + f->topic.len + f->payload.len + *(const uint8_t *) f->payload.data;
}

static void decode (void *context)
{
    struct take *t = context;
    struct batch_reader reader;
    struct fm_fact fact;
    must (batch_decode (t->made.bytes, t->made.len, slice_of ("bench"), &t->scratch, &t->batch), "batch_decode");
    batch_reader_init (&reader, &t->batch);
    while (batch_reader_next (&reader, &fact) == 0) {
        t->sum += sum_of (&fact);
        t->taken++;
    }
}

static uint64_t decode_check (void *context)
{
    struct take *t = context;
    struct bench_check expected = { .next = t->batch.first_seq };
    struct batch_reader reader;
    struct fm_fact fact;
    uint64_t sum = 0;
    batch_reader_init (&reader, &t->batch);
    while (batch_reader_next (&reader, &fact) == 0) {
        (void) bench_check_next (&expected, fact.payload.data, fact.payload.len, 1);
        sum += sum_of (&fact);
    }
    if (t->taken != t->made.count || sum != t->sum || expected.next != t->made.next_seq)
        bench_fail ("not the facts that were put in");
    return t->taken;
}

static void check (void *context)
{
    struct take *t = context;
    must (batch_decode (t->made.bytes, t->made.len, slice_of ("bench"), &t->scratch, &t->batch), "batch_decode");
    must (batch_check_facts (&t->batch), "batch_check_facts");
}

static uint64_t check_count (void *context)
{
    const struct take *t = context;
    return t->batch.count;
}

static const struct path_step steps[] = {
    { "decode", take_prepare, decode, decode_check },
    { "check", take_prepare, check, check_count },
};

int main (int argc, char **argv)
{
    bench_options (argc, argv, "read the facts of batches", options, sizeof options / sizeof *options);
    bench_payload_init ();
    struct take t = { .sum = 0 };
    path_batch_init (&t.made, bench_size (options), (uint32_t) bench_number (options, "topics"));
    path_run (path_find (steps, sizeof steps / sizeof *steps, bench_string (options, "step")), &t, bench_number (options, "count"));
    path_batch_release (&t.made);
    batch_scratch_release (&t.scratch);
    return 0;
}
