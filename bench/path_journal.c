/* path_journal: what does a fact cost a journal: taken in, appended, stamped and written, synced, checksummed, replayed? */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "clock.h"
#include "common/path.h"
#include "log.h"
#include "replay.h"

static struct bench_option options[] = {
    { "step", "intake, append, write, sync, checksum, replay, filter, cut", "intake" },
    { "count", "facts", "1M" },
    { "size", "payload bytes", "100" },
    { "topics", "of a batch; filter asks for another one, cut for the first", "1" },
    { "directory", "for a log, which stays there", "build/bench/path-journal" },
};

enum { BATCHES_A_WRITE = 64 };

struct journal_path {
    struct path_batch made;
    struct batch batch;
    struct batch_scratch scratch;
    struct log *log;
    uint64_t appended, facts, sum;
    /* Replays. */
    struct replay *replay;
    struct replay_buffer buffer;
    struct replay_header header;
    struct replay_view view;
    enum replay_outcome outcome;
    bool has_message;
    zmq_msg_t message;
    uint64_t passed;
    struct bench_check expected;
    uint64_t stride;                            /* from one expected fact to the next */
};

static void must (int rc, const char *what)
{
    if (rc != 0)
        bench_fail ("%s: %d", what, rc);
}

/* ------------------------------------------------------------------ recording */

static void decode_and_check (struct journal_path *j)
{
    must (batch_decode (j->made.bytes, j->made.len, slice_of ("bench"), &j->scratch, &j->batch), "batch_decode");
    must (batch_check_facts (&j->batch), "batch_check_facts");
}

static void append (void *context)
{
    struct journal_path *j = context;
    uint64_t offset;
    must (log_append (j->log, &j->batch, &offset), "log_append");
    j->appended += j->batch.count;
    if (offset + j->batch.count != j->appended + 1)
        bench_fail ("offset %llu", (unsigned long long) offset);
}

static void intake (void *context)
{
    decode_and_check (context);
    append (context);
}

static void write_out (void *context)
{
    struct journal_path *j = context;
    const int rc = log_write (j->log);
    if (rc != 0 && rc != FM_ERR_END)
        must (rc, "log_write");
}

static void sync_out (void *context)
{
    struct journal_path *j = context;
    must (log_sync (j->log, NULL), "log_sync");
}

static bool batch_prepare (void *context)
{
    struct journal_path *j = context;
    path_batch_make (&j->made);
    j->facts = j->made.count;
    return true;
}

static bool append_prepare (void *context)
{
    (void) batch_prepare (context);
    decode_and_check (context);
    return true;
}

static bool write_prepare (void *context)
{
    struct journal_path *j = context;
    uint64_t facts = 0;
    for (int i = 0; i < BATCHES_A_WRITE; i++) {
        (void) batch_prepare (j);
        intake (j);
        facts += j->facts;
    }
    j->facts = facts;
    return true;
}

static bool sync_prepare (void *context)
{
    (void) write_prepare (context);
    write_out (context);
    return true;
}

static void sum_body (void *context)
{
    struct journal_path *j = context;
    j->sum += checksum (j->made.bytes, j->made.len);
}

static uint64_t facts_done (void *context)
{
    const struct journal_path *j = context;
    return j->facts;
}

static uint64_t facts_written (void *context)
{
    write_out (context);
    return facts_done (context);
}

static uint64_t facts_synced (void *context)
{
    sync_out (context);
    return facts_done (context);
}

/* ------------------------------------------------------------------ replaying */

static void replay_open (struct journal_path *j, const char *topic)
{
    ProtobufCBinaryData filter = { .data = (uint8_t *) (uintptr_t) topic, .len = topic ? strlen (topic) : 0 };
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = 1;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_OFFSET;
    open.from_offset = 1;
    open.filters = &filter;
    open.n_filters = topic != NULL;
    open.may_cut = true;
    struct replay_request request;
    must (replay_request_check (&open, &request), "replay_request_check");
    must (replay_new (j->log, &clock_real, &request, &j->replay), "replay_new");
}

static void fill (struct journal_path *j, uint64_t count)
{
    while (j->appended < count) {
        (void) sync_prepare (j);
        sync_out (j);
    }
}

static bool replay_prepare (void *context)
{
    struct journal_path *j = context;
    if (j->has_message)
        zmq_msg_close (&j->message);
    j->has_message = false;
    return j->outcome != REPLAY_STEP_DONE;
}

/* The next message, as the server sends it. */
static void replay_run (void *context)
{
    struct journal_path *j = context;
    do
        must (replay_step (j->replay, &j->buffer, replay_message_bytes (j->replay), &j->outcome, &j->header), "replay_step");
    while (j->outcome == REPLAY_STEP_MORE);
    if (j->outcome == REPLAY_STEP_MESSAGE) {
        must (replay_data_encode (&j->header, slice_of ("bench"), slice (j->buffer.fields, j->buffer.len), &j->message), "replay_data_encode");
        j->has_message = true;
    }
}

/* The facts of the message are the next ones of those that match. */
static void message_check (struct journal_path *j)
{
    struct batch b;
    struct batch_reader reader;
    struct fm_fact fact;
    struct fm_slice bytes;
    must (replay_data_decode (zmq_msg_data (&j->message), zmq_msg_size (&j->message), slice_of ("bench"), &j->view), "replay_data_decode");
    while (replay_view_next (&j->view, &bytes) == 0) {
        must (batch_decode (bytes.data, bytes.len, slice_of ("bench"), &j->scratch, &b), "batch_decode");
        batch_reader_init (&reader, &b);
        while (batch_reader_next (&reader, &fact) == 0)
            (void) bench_check_next (&j->expected, fact.payload.data, fact.payload.len, j->stride);
    }
}

static uint64_t replay_check (void *context)
{
    struct journal_path *j = context;
    if (!j->has_message)
        return 0;
    message_check (j);
    const uint64_t passed = j->header.next_offset - j->passed;
    j->passed = j->header.next_offset;
    if (j->passed != j->expected.next)
        bench_fail ("offset %llu was passed, but the facts end before %llu", (unsigned long long) j->passed, (unsigned long long) j->expected.next);
    return passed;
}

/* A filter by topic passes over the batches that lack it: here all. */
static uint64_t filter_check (void *context)
{
    struct journal_path *j = context;
    if (!j->has_message)
        return 0;
    if (j->buffer.len > 0)
        bench_fail ("facts came that do not match");
    const uint64_t passed = j->header.next_offset - j->passed;
    j->passed = j->header.next_offset;
    return passed;
}

/* The facts of the first topic, and nothing else. */
static uint64_t cut_check (void *context)
{
    struct journal_path *j = context;
    if (!j->has_message)
        return 0;
    message_check (j);
    const uint64_t passed = j->header.next_offset - j->passed;
    j->passed = j->header.next_offset;
    if (j->expected.next < j->passed || j->expected.next >= j->passed + j->stride)
        bench_fail ("offset %llu was passed, and fact %llu comes next", (unsigned long long) j->passed, (unsigned long long) j->expected.next);
    return passed;
}

static const struct path_step steps[] = {
    { "intake", batch_prepare, intake, facts_written },
    { "append", append_prepare, append, facts_written },
    { "write", write_prepare, write_out, facts_synced },
    { "sync", sync_prepare, sync_out, facts_done },
    { "checksum", batch_prepare, sum_body, facts_done },
    { "replay", replay_prepare, replay_run, replay_check },
    { "filter", replay_prepare, replay_run, filter_check },
    { "cut", replay_prepare, replay_run, cut_check },
};

int main (int argc, char **argv)
{
    bench_options (argc, argv, "record batches in a log, and replay them", options, sizeof options / sizeof *options);
    bench_payload_init ();
    static struct journal_path j = { .passed = 1, .expected = { .next = 1 }, .stride = 1 };
    const struct path_step *step = path_find (steps, sizeof steps / sizeof *steps, bench_string (options, "step"));
    const uint64_t count = bench_number (options, "count");
    path_batch_init (&j.made, bench_size (options), (uint32_t) bench_number (options, "topics"));
    must (log_open (bench_string (options, "directory"), &(struct log_options) { .mesh = "bench" }, NULL, &j.log), "log_open");
    if (step->prepare == replay_prepare) {
        fill (&j, count);
        if (step->check == cut_check)
            j.expected.next = j.stride = bench_number (options, "topics");
        replay_open (&j, step->check == filter_check ? "bench.none" : step->check == cut_check ? "bench.t0" : NULL);
    }
    path_run (step, &j, count);
    if (j.replay && j.passed < count)
        bench_fail ("the replay ended before %llu", (unsigned long long) j.passed);
    replay_destroy (&j.replay);
    log_destroy (&j.log);
    replay_buffer_release (&j.buffer);
    replay_view_release (&j.view);
    path_batch_release (&j.made);
    batch_scratch_release (&j.scratch);
    return 0;
}
