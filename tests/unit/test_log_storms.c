/* Logs that are appended to, killed, damaged at several places at once, started and repaired, again and again, at random. What must hold whatever comes together:
 *
 *   - what is read is what was appended, each fact once, each stream in order, and offsets never change;
 *   - the log does not forget what can be read, or a journal would record it again;
 *   - a session, wherever it begins, brings all that can be read from there on, before it says that a stream is complete beyond it;
 *   - a range that is asked for comes to an end: each of its facts comes, or is told as a gap;
 *   - a single fact that can be read is found.
 *
 * STORM_FIRST and STORM_COUNT choose other seeds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/chance.h"
#include "../support/log_setting.h"
#include "../support/replay_kit.h"
#include "error.h"
#include "fact_finder.h"
#include "log_repair.h"

enum { LARGEST = 30000, SEQS = 2000, LIVES = 5, SEEDS = 12, HOLDER_TURNS = 600, BLOCK = 4096 };

/* Where each fact is; offset 0: it cannot be read. */
struct contents {
    uint64_t offsets[WORK_STREAMS + 1][SEQS];
};

struct storm {
    uint64_t chance, seed;
    char directory[128];
    struct log *log;
    struct log_options options;
    struct contents now;
};

static uint64_t below (struct storm *s, uint64_t n)
{
    return chance_below (&s->chance, n);
}

static void open_it (struct storm *s)
{
    const int rc = log_open (s->directory, &s->options, NULL, &s->log);
    if (rc)
        fail_msg ("seed %llu: log_open: %d %s", (unsigned long long) s->seed, rc, fm_error_detail ());
}

/* --- What can be read. */

static void read_all (struct storm *s, struct contents *c)
{
    struct log_reader *r;
    struct log_item item;
    uint64_t next[WORK_STREAMS + 1] = { 0 }, end_offset = 0;
    int rc;
    memset (c, 0, sizeof *c);
    assert_int_equal (log_reader_new (s->log, &r), 0);
    while ((rc = log_reader_next (r, &item)) == 0) {
        const unsigned stream = work_stream (&item.stream);
        if (stream > WORK_STREAMS)
            continue;                       /* offsets that are missing */
        if (item.first_seq < next[stream])
            fail_msg ("seed %llu: stream %u goes back from %llu to %llu", (unsigned long long) s->seed, stream, (unsigned long long) next[stream],
                      (unsigned long long) item.first_seq);
        next[stream] = item.end_seq;
        if (item.kind == LOG_ITEM_GAP)
            continue;
        const struct kit_batch_spec spec = work_spec (stream, item.first_seq, LARGEST);
        assert_true (kit_item_is (&item, &spec) && item.offset >= end_offset && item.end_seq <= SEQS);
        end_offset = item.offset + spec.count;
        for (uint64_t seq = item.first_seq; seq < item.end_seq; seq++)
            c->offsets[stream][seq] = item.offset + (seq - item.first_seq);
        if (work_next_seq (s->log, stream) < item.end_seq)
            fail_msg ("seed %llu: the log forgot that it has %llu of stream %u", (unsigned long long) s->seed, (unsigned long long) item.end_seq - 1, stream);
    }
    assert_int_equal (rc, FM_ERR_END);
    log_reader_destroy (&r);
}

/* Nothing comes from nowhere; where all stays (a repair), nothing goes either. */
static void expect_places (const struct storm *s, const struct contents *before, bool all)
{
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        for (uint64_t seq = 1; seq < SEQS; seq++) {
            const uint64_t was = before->offsets[stream][seq], is = s->now.offsets[stream][seq];
            if (all ? was && is != was : is && is != was)
                fail_msg ("seed %llu: fact %llu of stream %u was at %llu and is at %llu", (unsigned long long) s->seed, (unsigned long long) seq, stream,
                          (unsigned long long) was, (unsigned long long) is);
        }
}

static void find_facts (struct storm *s)
{
    struct fact_finder *f;
    assert_int_equal (fact_finder_new (s->log, 0, &f), 0);
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        for (uint64_t seq = 1 + below (s, 20); seq < SEQS; seq += 1 + below (s, 20)) {
            const struct fm_fact_id id = { .stream = kit_stream (stream), .seq = seq };
            const uint64_t offset = s->now.offsets[stream][seq];
            struct fm_slice batch;
            uint64_t found = 0;
            if (offset && (fact_finder_at (f, offset, &batch) || fact_finder_offset (f, &id, &found) || found != offset))
                fail_msg ("seed %llu: the fact at %llu is not found", (unsigned long long) s->seed, (unsigned long long) offset);
        }
    fact_finder_destroy (&f);
}

/* --- Sessions, as an asker takes them: facts beyond how far it is complete. */

struct asker {
    uint64_t through[WORK_STREAMS + 1];
    bool have[WORK_STREAMS + 1][SEQS], gaps[WORK_STREAMS + 1][SEQS];
};

struct told {
    unsigned stream;
    uint64_t first_seq, end_seq;
    bool gap;
};

static int compare_told (const void *a, const void *b)
{
    const struct told *x = a, *y = b;
    return (x->first_seq > y->first_seq) - (x->first_seq < y->first_seq);
}

/* Gaps and batches by sequence, then what is covered. */
static void take_message (struct asker *a, const struct replay_header *h, struct fm_slice fields)
{
    enum { TOLD_MAX = 4096 };
    static struct told told[TOLD_MAX];
    static struct replay_view view;
    struct batch_scratch scratch = { 0 };
    struct fm_slice bytes;
    size_t count = 0;
    zmq_msg_t message;
    assert_int_equal (replay_data_encode (h, slice_of ("test"), fields, &message), 0);
    assert_int_equal (replay_data_decode (zmq_msg_data (&message), zmq_msg_size (&message), slice_of ("test"), &view), 0);
    while (replay_view_next (&view, &bytes) == 0) {
        struct batch b;
        assert_int_equal (batch_decode (bytes.data, bytes.len, slice_of ("test"), &scratch, &b), 0);
        assert_true (count < TOLD_MAX);
        told[count++] = (struct told) { work_stream (&b.stream), b.first_seq, batch_end_seq (&b), false };
    }
    batch_scratch_release (&scratch);
    zmq_msg_close (&message);
    for (size_t i = 0; i < h->gap_count; i++)
        told[count++] = (struct told) { work_stream (&h->gaps[i].stream), h->gaps[i].first_seq, h->gaps[i].end_seq, true };
    qsort (told, count, sizeof *told, compare_told);
    for (size_t i = 0; i < count; i++) {
        const struct told *const t = &told[i];
        if (t->stream > WORK_STREAMS)
            continue;
        for (uint64_t seq = t->first_seq; seq < t->end_seq && seq < SEQS; seq++)
            if (seq > a->through[t->stream])
                (t->gap ? a->gaps : a->have)[t->stream][seq] = true;
        if (t->end_seq - 1 > a->through[t->stream])
            a->through[t->stream] = t->end_seq - 1;
    }
    for (size_t i = 0; i < h->covered_count; i++) {
        const unsigned stream = work_stream (&h->covered[i].stream);
        if (h->covered[i].through > a->through[stream])
            a->through[stream] = h->covered[i].through;
    }
}

static void run_session (struct storm *s, const Factmesh__ReplayOpen *open, struct asker *a)
{
    struct replay_request q;
    struct replay *replay;
    struct replay_buffer buffer = { 0 };
    enum replay_outcome outcome = REPLAY_STEP_MORE;
    const size_t target = (size_t) 4096 << below (s, 8);
    const uint64_t rests = below (s, 3);
    memset (a, 0, sizeof *a);
    assert_int_equal (replay_request_check (open, &q), 0);
    assert_int_equal (replay_new (s->log, &clock_real, &q, &replay), 0);
    while (outcome == REPLAY_STEP_MORE || outcome == REPLAY_STEP_MESSAGE) {
        struct replay_header h;
        if (rests && below (s, 2 * rests) == 0)
            replay_rest (replay);
        assert_int_equal (replay_step (replay, &buffer, target, &outcome, &h), 0);
        if (outcome == REPLAY_STEP_MESSAGE)
            take_message (a, &h, slice (buffer.fields, buffer.len));
    }
    replay_destroy (&replay);
    replay_buffer_release (&buffer);
    if (outcome != REPLAY_STEP_DONE)
        fail_msg ("seed %llu: a session waits for what will never come", (unsigned long long) s->seed);
}

static void ask_from (struct storm *s, uint64_t offset)
{
    static struct asker a;
    Factmesh__ReplayOpen open = from_offset (offset);
    run_session (s, &open, &a);
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        for (uint64_t seq = 1; seq < SEQS; seq++)
            if (s->now.offsets[stream][seq] >= offset && !a.have[stream][seq])
                fail_msg ("seed %llu: a session from %llu misses fact %llu of stream %u", (unsigned long long) s->seed, (unsigned long long) offset,
                          (unsigned long long) seq, stream);
}

static void ask_range (struct storm *s, unsigned stream)
{
    static struct asker a;
    const struct fm_id id = kit_stream (stream);
    const uint64_t next = work_next_seq (s->log, stream);
    if (next < 3)
        return;
    const uint64_t first = 1 + below (s, next - 1), end = below (s, 3) ? first + 1 + below (s, next - first) : next;
    Factmesh__ReplayOpen open = range_of (&id, first, end);
    run_session (s, &open, &a);
    for (uint64_t seq = first; seq < end; seq++)
        if (s->now.offsets[stream][seq] ? !a.have[stream][seq] : !a.gaps[stream][seq])
            fail_msg ("seed %llu: fact %llu of stream %u is not told", (unsigned long long) s->seed, (unsigned long long) seq, stream);
}

static void look (struct storm *s)
{
    struct log_position at;
    read_all (s, &s->now);
    find_facts (s);
    log_position (s->log, &at);
    ask_from (s, 1);
    ask_from (s, 1 + below (s, at.synced_offset));
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        ask_range (s, stream);
}

/* --- What happens to it. */

static void append_some (struct storm *s)
{
    for (uint64_t n = 20 + below (s, 100); n > 0; n--) {
        const unsigned stream = 1 + (unsigned) below (s, WORK_STREAMS);
        if (work_append (s->log, stream, LARGEST) == FM_ERR_FULL) {
            kit_sync (s->log);
            assert_int_equal (work_append (s->log, stream, LARGEST), 0);
        }
        if (below (s, 4) == 0)
            kit_sync (s->log);
    }
    kit_sync (s->log);
    if (below (s, 2))
        assert_int_equal (log_mark_idle (s->log), 0);
}

static void overwrite (const char *path, uint64_t pos, uint64_t len, int byte)
{
    static uint8_t bytes[256 << 10];
    FILE *file = fopen (path, "r+b");
    assert_true (file && len <= sizeof bytes);
    memset (bytes, byte, len);
    assert_int_equal (fseek (file, (long) pos, SEEK_SET), 0);
    assert_int_equal (fwrite (bytes, 1, len, file), len);
    fclose (file);
}

static void damage (struct storm *s, uint64_t first, uint64_t last)
{
    char path[256];
    const uint64_t number = below (s, 3) ? first + below (s, last - first + 1) : last - (last > first && below (s, 2));
    kit_segment_path (s->directory, number, path);
    if (access (path, F_OK) || kit_file_size (path) < 2 * BLOCK)
        return;
    const uint64_t len = kit_file_size (path), pos = BLOCK + below (s, len - BLOCK), rest = len - pos, run = below (s, 200000);
    switch (below (s, s->seed % 2 ? 8 : 4)) {
    case 0:
        kit_flip (path, (int64_t) pos);
        break;
    case 1:
        kit_flip (path, (int64_t) (BLOCK + below (s, 300)));        /* the snapshots */
        break;
    case 2:
        kit_flip (path, -(int64_t) (1 + below (s, 1000)));          /* the footer */
        break;
    case 3:
        overwrite (path, pos / BLOCK * BLOCK, rest < BLOCK ? rest : BLOCK, 0);
        break;
    case 4:
        kit_truncate (path, pos);
        break;
    case 5:
        assert_int_equal (unlink (path), 0);
        break;
    case 6:
        overwrite (path, 0, BLOCK, 0);
        break;
    default:
        overwrite (path, pos, run < rest ? run : rest, 0x5A);
    }
}

static void mend (struct storm *s, const char *holder)
{
    const struct log_options options = { .mesh = "test", .read_only = true };
    const struct contents before = s->now;
    struct log *other;
    struct repair_result result;
    assert_int_equal (log_open (holder, &options, NULL, &other), 0);
    const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
    const struct repair_options how = { .source = below (s, 4) ? &source : NULL };
    if (log_repair (s->log, &how, &result))
        fail_msg ("seed %llu: log_repair: %s", (unsigned long long) s->seed, fm_error_detail ());
    log_destroy (&s->log);
    log_destroy (&other);
    open_it (s);
    look (s);
    expect_places (s, &before, true);
}

static void live (struct storm *s, const char *holder)
{
    open_it (s);
    for (int life = 0; life < LIVES; life++) {
        struct log_segment_info segments[64];
        struct contents before;
        size_t count;
        append_some (s);
        read_all (s, &before);
        assert_int_equal (log_segment_list (s->log, segments, 64, &count), 0);
        log_destroy (&s->log);
        for (uint64_t n = life ? below (s, 4) : 0; n > 0; n--)
            damage (s, segments[0].number, segments[count - 1].number);
        open_it (s);
        look (s);
        expect_places (s, &before, false);
        if (below (s, 2))
            mend (s, holder);
    }
    log_destroy (&s->log);
}

static uint64_t number_of (const char *name, uint64_t otherwise)
{
    const char *text = getenv (name);
    return text ? strtoull (text, NULL, 10) : otherwise;
}

static void whatever_comes_together_nothing_is_lost_doubled_out_of_order_or_waited_for (void **state)
{
    (void) state;
    static struct storm s;
    const uint64_t first = number_of ("STORM_FIRST", 1), end = first + number_of ("STORM_COUNT", SEEDS);
    struct storm holder = { .options = { .mesh = "test", .segment_bytes = 4 << 20 } };
    kit_directory (holder.directory);
    open_it (&holder);
    for (int turn = 0; turn < HOLDER_TURNS; turn++)
        for (unsigned stream = WORK_STREAMS; stream >= 1; stream--) {
            while (work_append (holder.log, stream, LARGEST) == FM_ERR_FULL)
                kit_sync (holder.log);
        }
    kit_sync (holder.log);
    log_destroy (&holder.log);
    for (uint64_t seed = first; seed < end; seed++) {
        s = (struct storm) { .seed = seed, .chance = seed * UINT64_C (0x9E3779B97F4A7C15), .options = { .mesh = "test", .segment_bytes = 1 << 20 } };
        kit_directory (s.directory);
        live (&s, holder.directory);
        kit_remove (s.directory);
    }
    kit_remove (holder.directory);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (whatever_comes_together_nothing_is_lost_doubled_out_of_order_or_waited_for),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
