/* No memory: whichever allocation of the log's fails, once, the call says so or does without; what is recorded stays, and the next try succeeds. */

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/fail_memory.h"
#include "../support/log_setting.h"
#include "control.h"
#include "error.h"
#include "fact_finder.h"
#include "factmesh.pb-c.h"
#include "identities.h"
#include "log_repair.h"

#ifdef __SANITIZE_ADDRESS__
enum { STEP = 7 };                          /* slow: a share of the allocations */
#else
enum { STEP = 1 };
#endif
enum { LARGEST = 60000, ROUNDS = 24 };

static struct log_options options;
static unsigned again;                      /* calls that said that there was no memory, and were made again */

/* May the call be made again? A log that is full has been told to wait. */
static bool try_again (int rc, const char *call)
{
    if (rc == 0 || rc == FM_ERR_END || rc == FM_ERR_UNKNOWN)
        return false;
    if ((rc != -ENOMEM && rc != FM_ERR_FULL) || !fail_memory_happened ())
        fail_msg ("%s: %d %s", call, rc, fm_error_detail ());
    again++;
    return true;
}

/* The call, once more where it found no memory: only one allocation fails. */
#define TRY(rc, call)                                                                              \
    do {                                                                                           \
        fail_memory_resume ();                                                                     \
        rc = (call);                                                                               \
        if (try_again (rc, #call))                                                                 \
            rc = (call);                                                                           \
        fail_memory_pause ();                                                                      \
        if (rc && rc != FM_ERR_END && rc != FM_ERR_UNKNOWN)                                        \
            fail_msg ("%s again: %d %s", #call, rc, fm_error_detail ());                           \
    } while (0)

static struct log *open_log (const char *directory, bool read_only)
{
    struct log *log = NULL;
    struct log_options o = options;
    o.read_only = read_only;
    int rc;
    TRY (rc, log_open (directory, &o, NULL, &log));
    assert_int_equal (rc, 0);
    return log;
}

static void set_options (void)
{
    (void) mallopt (M_MMAP_THRESHOLD, 128 << 10);   /* hundreds of logs are opened: their tables are then not cleared twice */
    options = (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 1 << 20, .streams_max = 8, .cursors_max = 4 };
}

/* --- Writing. */

static void write_and_sync (struct log *log)
{
    struct log_stream streams[WORK_STREAMS];
    size_t count = 0;
    int rc;
    do
        TRY (rc, log_write (log));
    while (rc == 0);
    TRY (rc, log_sync (log, NULL));
    assert_int_equal (rc, 0);
    TRY (rc, log_synced_streams (log, streams, WORK_STREAMS, &count));
}

static void append_next (struct log *log, unsigned stream)
{
    const struct kit_batch_spec spec = work_spec (stream, work_next_seq (log, stream), LARGEST);
    struct kit_batch k;
    uint64_t offset;
    int rc;
    kit_batch_make (&spec, &k);
    TRY (rc, log_append (log, &k.batch, &offset));
    kit_batch_release (&k);
}

static void put_cursors (struct log *log, int round)
{
    char text[32];
    uint64_t ticket;
    void *buffer = NULL;
    size_t size = 0;
    int rc;
    (void) snprintf (text, sizeof text, "place %d", round);
    const struct log_cursor cursor = { .name = "c", .cursor = slice_of (text) };
    struct log_cursor got;
    TRY (rc, log_cursor_put (log, &cursor, &ticket));
    write_and_sync (log);
    TRY (rc, log_cursor_get (log, "c", &buffer, &size, &got));
    assert_int_equal (rc, 0);
    assert_true (slice_equal (got.cursor, slice_of (text)));
    free (buffer);
    if (round % 3)
        TRY (rc, log_cursor_put (log, &(struct log_cursor) { .name = "gone", .cursor = slice_of ("x") }, &ticket));
    else
        TRY (rc, log_cursor_delete (log, "gone", &ticket));
}

/* A life of a log: created, written to over several segments, left without a clean end. */
static void live (const char *directory)
{
    struct log *log = open_log (directory, false);
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
            append_next (log, stream);
        if (round % 5 == 4)
            put_cursors (log, round);
        write_and_sync (log);
    }
    struct log_position at;
    log_position (log, &at);
    assert_int_equal (at.synced_offset, at.end_offset);
    log_destroy (&log);
}

static struct work_contents contents (const char *directory)
{
    struct log *log = open_log (directory, false);
    const struct work_contents c = work_check (log, LARGEST);
    work_check_streams (log, &c);
    log_destroy (&log);
    return c;
}

static void whichever_allocation_fails_while_a_log_is_written_nothing_is_lost (void **state)
{
    (void) state;
    char directory[128];
    struct work_contents whole = { 0 };
    unsigned long n = 0;
    set_options ();
    for (bool more = true; more; n = n ? n + STEP : 1) {    /* the first without a failure */
        kit_directory (directory);
        fail_memory_at (n);
        live (directory);
        more = n == 0 || fail_memory_happened ();
        fail_memory_at (0);
        const struct work_contents c = contents (directory);
        if (n == 0)
            whole = c;
        assert_int_equal (c.batches, whole.batches);
        assert_int_equal (c.end_offset, whole.end_offset);
        assert_int_equal (c.gaps, 0);
        kit_remove (directory);
    }
    print_message ("%lu allocations, %u calls made again\n", n, again);
    assert_true (again * STEP > 20);
}

/* --- Starting and reading. */

struct count { uint64_t items; };

static void count_topic (void *arg, struct fm_slice topic, uint64_t facts)
{
    (void) topic;
    ((struct count *) arg)->items += facts;
}

static void count_damage (void *arg, const struct log_damage *d)
{
    (void) d;
    ((struct count *) arg)->items++;
}

/* Everything from a place on, or what a filter wants of it: the facts that came. */
static uint64_t read_on (struct log *log, const struct fm_slice *filter, uint64_t offset)
{
    struct log_reader *r = NULL;
    struct log_item item;
    uint64_t facts = 0;
    int rc;
    TRY (rc, log_reader_new (log, &r));
    if (filter)
        TRY (rc, log_reader_filter (r, NULL, filter, 1));
    TRY (rc, log_reader_seek_offset (r, offset));
    for (;;) {
        TRY (rc, log_reader_next (r, &item));
        if (rc)
            break;
        facts += item.kind == LOG_ITEM_BATCH && item.bytes.len ? item.end_seq - item.first_seq : 0;
    }
    assert_int_equal (rc, FM_ERR_END);
    log_reader_destroy (&r);
    return facts;
}

struct look { uint64_t all, filtered, from_seq, from_time, topics, damaged, segments, streams; };

/* All that can be asked of a log. */
static struct look look_at (const char *directory, bool read_only)
{
    static const struct fm_slice d = { "d", 1 };
    struct look found = { 0 };
    struct log *log = open_log (directory, read_only);
    struct log_reader *r = NULL;
    const struct fm_id stream = kit_stream (2);
    struct count topics = { 0 }, damage = { 0 };
    struct log_segment_info info[16];
    struct log_stream known[8], one;
    struct log_verify_result verified;
    size_t segments = 0, streams = 0;
    bool more = false;
    int rc;
    found.all = read_on (log, NULL, 1);
    found.filtered = read_on (log, &d, 1);
    TRY (rc, log_reader_new (log, &r));
    TRY (rc, log_reader_seek_seq (r, &stream, 20, &found.from_seq));
    TRY (rc, log_reader_seek_time (r, UINT64_MAX, &found.from_time));
    log_reader_destroy (&r);
    topics.items = 0;
    TRY (rc, (topics.items = 0, log_topic_each (log, 100, count_topic, &topics, &more)));
    TRY (rc, log_segment_list (log, info, 16, &segments));
    TRY (rc, log_stream_list (log, NULL, known, 8, &streams));
    TRY (rc, log_stream_get (log, &stream, &one));
    TRY (rc, (damage.items = 0, log_verify (log, count_damage, NULL, &damage, &verified)));
    found.topics = more ? UINT64_MAX : topics.items;        /* an index that could not take all of them says so */
    found.damaged = damage.items;
    found.segments = segments;
    found.streams = streams;
    log_destroy (&log);
    return found;
}

static void look_whatever_fails (const char *directory, bool read_only)
{
    const struct look whole = look_at (directory, read_only);
    assert_true (whole.all > 100 && whole.filtered > 5 && whole.segments > 2 && whole.streams == WORK_STREAMS);
    unsigned long n = 1;
    for (bool more = true; more; n += STEP) {
        fail_memory_at (n);
        struct look found = look_at (directory, read_only);
        more = fail_memory_happened ();
        if (more && found.topics == UINT64_MAX)
            found.topics = whole.topics;
        fail_memory_at (0);
        assert_memory_equal (&found, &whole, sizeof found);
    }
    print_message ("%lu allocations\n", n);
}

static void damage (const char *directory)
{
    char path[256];
    kit_segment_path (directory, 1, path);
    kit_flip (path, 300000);
    kit_flip (path, 700000);
    kit_segment_path (directory, 2, path);
    kit_flip (path, -20);                   /* the footer */
    kit_segment_path (directory, 3, path);
    kit_flip (path, 4096 + 10);             /* its snapshots */
}

static void whichever_allocation_fails_while_a_log_is_read_the_next_try_has_it_all (void **state)
{
    (void) state;
    char directory[128];
    set_options ();
    kit_directory (directory);
    live (directory);
    look_whatever_fails (directory, false);
    damage (directory);
    look_whatever_fails (directory, true);
    kit_remove (directory);
}

/* --- Identities. */

static void whichever_allocation_fails_while_identities_are_learnt_the_next_try_knows_them_all (void **state)
{
    (void) state;
    enum { COUNT = 3000 };                  /* over some segments, and more than the table has room for at first */
    char directory[128], name[16];
    uint32_t unread;
    unsigned long n = 0;
    bool happened;
    set_options ();
    kit_directory (directory);
    struct log *log = open_log (directory, false);
    for (unsigned i = 1; i <= COUNT; i++) {
        (void) snprintf (name, sizeof name, "fact %u", i);
        (void) kit_append_batch (log, &(struct kit_batch_spec) { .stream = 1, .first_seq = i, .count = 1, .payload_len = 1000, .identity = name });
        if (i % 500 == 0)
            kit_sync (log);
    }
    do {
        struct identities x;
        identities_init (&x, IDENTITIES_MAX);
        fail_memory_at (++n);
        const int rc = identities_load (&x, log, &unread);
        happened = fail_memory_happened ();
        fail_memory_at (0);
        assert_int_equal (rc, happened ? -ENOMEM : 0);
        if (rc) {
            assert_int_equal (x.table.count, 0);
            assert_int_equal (identities_load (&x, log, &unread), 0);
        }
        assert_int_equal (unread, 0);
        assert_int_equal (x.table.count, COUNT);
        for (unsigned i = 1; i <= COUNT; i++) {
            uint8_t hash[IDENTITY_HASH_LEN];
            (void) snprintf (name, sizeof name, "fact %u", i);
            identity_hash (slice_of (name), hash);
            const struct fm_fact_id *fact = identity_table_find (&x.table, hash);
            assert_true (fact && fact->seq == i);
        }
        identities_release (&x);
    } while (happened);
    print_message ("%lu allocations\n", n - 1);
    assert_true (n > 5);
    log_destroy (&log);
    kit_remove (directory);
}

/* --- Repair. */

static int repair_from (struct log *log, struct log *other, struct repair_result *ret_result)
{
    const struct refetch_source source = { .context = other, .fetch = refetch_from_log };
    const struct repair_options how = { .source = &source };
    return log_repair (log, &how, ret_result);
}

/* What a log was opened for is old after a repair that got somewhere: it is opened again for the next try. */
static void repair (const char *directory, const char *from)
{
    struct log *other = open_log (from, true), *log = open_log (directory, false);
    struct repair_result result;
    fail_memory_resume ();
    int rc = repair_from (log, other, &result);
    fail_memory_pause ();
    if (rc && try_again (rc, "log_repair")) {
        log_destroy (&log);
        log = open_log (directory, false);
        rc = repair_from (log, other, &result);
    }
    if (rc)
        fail_msg ("log_repair again: %d %s", rc, fm_error_detail ());
    log_destroy (&log);
    log_destroy (&other);
}

static void whichever_allocation_fails_while_a_log_is_repaired_the_next_try_makes_it_whole (void **state)
{
    (void) state;
    char directory[128], whole[128], damaged[128];
    set_options ();
    kit_directory (whole);
    kit_directory (damaged);
    kit_directory (directory);
    live (whole);
    kit_remove (damaged);
    kit_copy (whole, damaged);
    damage (damaged);
    const struct work_contents expected = contents (whole);
    unsigned long n = 1;
    for (bool more = true; more; n += STEP) {
        kit_remove (directory);
        kit_copy (damaged, directory);
        fail_memory_at (n);
        repair (directory, whole);
        more = fail_memory_happened ();
        fail_memory_at (0);
        const struct work_contents c = contents (directory);
        assert_int_equal (c.batches, expected.batches);
        assert_int_equal (c.end_offset, expected.end_offset);
        assert_int_equal (c.gaps, 0);
    }
    print_message ("%lu allocations\n", n);
    kit_remove (directory);
    kit_remove (whole);
    kit_remove (damaged);
}

/* Who takes it for malformed drops it, and waits for what it brought. */
static void a_message_that_there_is_no_memory_for_is_not_malformed (void **state)
{
    (void) state;
    enum { ITEMS = 5 };
    Factmesh__WorkItem items[ITEMS], *pointers[ITEMS];
    for (unsigned i = 0; i < ITEMS; i++) {
        factmesh__work_item__init (&items[i]);
        items[i].offset = i + 1;
        pointers[i] = &items[i];
    }
    Factmesh__Work work = FACTMESH__WORK__INIT;
    work.n_items = ITEMS;
    work.items = pointers;
    Factmesh__Control control = FACTMESH__CONTROL__INIT, *decoded = NULL;
    control.body_case = FACTMESH__CONTROL__BODY_WORK;
    control.work = &work;
    zmq_msg_t message;
    assert_int_equal (control_encode (&control, slice_of ("default"), &message), 0);
    int rc = -ENOMEM;
    unsigned long n = 0;
    while (rc == -ENOMEM) {
        fail_memory_at (++n);
        rc = control_decode (zmq_msg_data (&message), zmq_msg_size (&message), slice_of ("default"), &decoded);
        const bool happened = fail_memory_happened ();
        fail_memory_at (0);
        assert_int_equal (rc, happened ? -ENOMEM : 0);
    }
    assert_true (n > ITEMS);
    assert_int_equal (decoded->work->n_items, ITEMS);
    assert_int_equal (decoded->work->items[ITEMS - 1]->offset, ITEMS);
    factmesh__control__free_unpacked (decoded, NULL);
    zmq_msg_close (&message);
    print_message ("%lu allocations\n", n - 1);
}

/* A fact that was read is kept for who asks soon. Without memory for it, or for its place in the table, it is read again. */
static void what_there_is_no_memory_to_keep_is_read_again (void **state)
{
    (void) state;
    char directory[128];
    struct kit_batch k;
    struct fact_finder *finder;
    struct batch_reader reader;
    struct fm_fact kept, got;
    struct fm_slice bytes;
    uint64_t offset;
    bool happened = true;
    unsigned long n = 0;
    set_options ();
    kit_directory (directory);
    struct log *log = open_log (directory, false);
    const struct kit_batch_spec spec = work_spec (1, 1, LARGEST);
    kit_batch_make (&spec, &k);
    assert_int_equal (log_append (log, &k.batch, &offset), 0);
    kit_sync (log);
    while (happened) {
        assert_int_equal (fact_finder_new (log, 1 << 20, &finder), 0);
        batch_reader_init (&reader, &k.batch);
        assert_int_equal (batch_reader_next (&reader, &kept), 0);
        fail_memory_at (++n);
        fact_finder_put (finder, offset, &k.batch, &kept);
        happened = fail_memory_happened ();
        fail_memory_at (0);
        assert_int_equal (fact_finder_read (finder, offset, &bytes, &got), 0);
        assert_true (slice_equal (got.payload, kept.payload));
        fact_finder_destroy (&finder);
    }
    assert_in_range (n, 3, 10);
    kit_batch_release (&k);
    log_destroy (&log);
    kit_remove (directory);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (whichever_allocation_fails_while_a_log_is_written_nothing_is_lost),
        cmocka_unit_test (whichever_allocation_fails_while_a_log_is_read_the_next_try_has_it_all),
        cmocka_unit_test (whichever_allocation_fails_while_identities_are_learnt_the_next_try_knows_them_all),
        cmocka_unit_test (a_message_that_there_is_no_memory_for_is_not_malformed),
        cmocka_unit_test (what_there_is_no_memory_to_keep_is_read_again),
        cmocka_unit_test (whichever_allocation_fails_while_a_log_is_repaired_the_next_try_makes_it_whole),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
