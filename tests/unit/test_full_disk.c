/* A start on a full disk, after kill -9: whatever it finds, and wherever room is missing, the journal opens, serves what is durable, takes and
 * acknowledges nothing, and goes on by itself when there is room. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"
#include "error.h"

enum { LARGEST = 8000 };

/* --- What the killed one leaves. */

enum shape {
    SHAPE_WHOLE,            /* a tail that was written and not synced */
    SHAPE_TORN,             /* the same, and garbage behind it */
    SHAPE_DAMAGED,          /* the same, and a damaged record among what was synced */
    SHAPE_NO_HEADER,        /* the last segment cannot be read */
    SHAPE_NO_QUARANTINE,    /* torn, and somebody removed quarantine/ */
    SHAPE_NO_COOKIE,        /* torn, and the cookie is damaged */
    SHAPE_EMPTY,            /* a cookie alone */
    SHAPES
};

struct left {
    char directory[128];
    struct log_options options;
    uint64_t synced[WORK_STREAMS + 1];      /* next sequence: of what was acknowledged */
    uint64_t written[WORK_STREAMS + 1];     /* and of what is in the file */
};

static void append_round (struct log *log)
{
    for (int i = 0; i < 4; i++)
        for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
            assert_int_equal (work_append (log, stream, LARGEST), 0);
}

static void put_cursor (struct log *log, const char *text, uint64_t *ret_ticket)
{
    const struct log_cursor cursor = { .name = "c", .cursor = slice_of (text) };
    assert_int_equal (log_cursor_put (log, &cursor, ret_ticket), 0);
}

static void write_all (struct log *log)
{
    int rc;
    while ((rc = log_write (log)) == 0)
        ;
    assert_int_equal (rc, FM_ERR_END);
}

static void wipe_bytes (const char *directory, uint64_t number, uint64_t pos, uint64_t len)
{
    char path[256];
    kit_segment_path (directory, number, path);
    for (uint64_t i = 0; i < len; i++)
        kit_flip (path, (int64_t) (pos + i));
}

static void in_directory (const char *directory, const char *what)
{
    char command[300];
    (void) snprintf (command, sizeof command, "cd %s && %s", directory, what);
    assert_int_equal (system (command), 0);
}

/* A log of two segments, the second of which ends in what was written and not synced. */
static void leave (struct left *l, enum shape shape, const struct fs *fs)
{
    struct log *log;
    uint64_t ticket;
    *l = (struct left) { .options = { .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 4 << 20, .fs = fs } };
    kit_directory (l->directory);
    assert_int_equal (log_open (l->directory, &l->options, NULL, &log), 0);
    struct log_segment_info info[4];
    size_t count = 0;
    while (shape != SHAPE_EMPTY && count < 2) {
        append_round (log);
        put_cursor (log, "durable", &ticket);
        kit_sync (log);
        assert_int_equal (log_segment_list (log, info, 4, &count), 0);
    }
    struct kit_batch_spec damaged = { 0 };
    if (shape != SHAPE_EMPTY) {
        damaged = work_spec (1, work_next_seq (log, 1), LARGEST);
        append_round (log);
        put_cursor (log, "durable", &ticket);
        kit_sync (log);
        append_round (log);                 /* and something that says that it was synced */
        put_cursor (log, "durable", &ticket);
        kit_sync (log);
    }
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        l->synced[stream] = l->written[stream] = work_next_seq (log, stream);
    if (shape != SHAPE_EMPTY) {
        append_round (log);
        put_cursor (log, "written", &ticket);
        write_all (log);
        for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
            l->written[stream] = work_next_seq (log, stream);
    }
    log_destroy (&log);
    char path[256];
    kit_segment_path (l->directory, 2, path);
    uint8_t garbage[5000];
    memset (garbage, 0xA5, sizeof garbage);
    if (shape != SHAPE_WHOLE && shape != SHAPE_EMPTY)
        kit_append (path, garbage, sizeof garbage);
    if (shape == SHAPE_NO_HEADER) {
        wipe_bytes (l->directory, 2, 0, 4096);
        for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
            l->synced[stream] = l->written[stream] = 0;
    }
    if (shape == SHAPE_DAMAGED)
        wipe (path, &damaged, &damaged);
    if (shape == SHAPE_NO_QUARANTINE)
        in_directory (l->directory, "rmdir quarantine");
    if (shape == SHAPE_NO_COOKIE)
        in_directory (l->directory, "printf x > journal.cookie");
    if (shape == SHAPE_EMPTY)
        in_directory (l->directory, "rm segments/*");
}

/* What a log serves and says, whatever its state. */
static struct work_contents check_served (struct log *log, const struct left *l, bool all_of_it)
{
    struct work_contents c = work_check (log, LARGEST);
    assert_true (c.batches > 20 || !l->synced[1] || l->synced[1] == 1);
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++) {
        const struct fm_id id = kit_stream (stream);
        struct log_stream known;
        assert_true (c.next_seq[stream] <= l->written[stream] || l->written[stream] == 0);
        if (all_of_it && l->written[stream])
            assert_int_equal (c.next_seq[stream], l->written[stream]);
        if (log_stream_get (log, &id, &known) == 0)
            assert_true (known.synced_seq < c.next_seq[stream]);    /* told is what is served */
    }
    return c;
}

static void expect_cursor (struct log *log)
{
    void *buffer = NULL;
    size_t size = 0;
    struct log_cursor cursor;
    assert_int_equal (log_cursor_get (log, "c", &buffer, &size, &cursor), 0);
    assert_true (slice_equal (cursor.cursor, slice_of ("written")));
    free (buffer);
}

/* With room: it goes on, and the next start finds everything. */
static void goes_on (struct left *l, struct log **log)
{
    kit_sync (*log);
    check_served (*log, l, true);
    append_round (*log);
    kit_sync (*log);
    const uint64_t batches = work_check (*log, LARGEST).batches;
    log_destroy (log);
    assert_int_equal (log_open (l->directory, &l->options, NULL, log), 0);
    const struct work_contents c = work_check (*log, LARGEST);
    assert_int_equal (c.batches, batches);
    work_check_streams (*log, &c);
    log_destroy (log);
    kit_remove (l->directory);
}

/* --- Full from the start on. */

static void takes_nothing (struct log *log)
{
    struct log_stream streams[WORK_STREAMS];
    size_t count = 0;
    uint64_t ticket, before = 0, after = 0;
    struct log_position at;
    log_position (log, &at);
    before = at.synced_offset;
    assert_int_equal (work_append (log, 1, 100), FM_ERR_FULL);
    const struct log_cursor cursor = { .name = "d", .cursor = slice_of ("x") };
    assert_int_equal (log_cursor_put (log, &cursor, &ticket), FM_ERR_FULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal (log_write (log), -ENOSPC);
        assert_int_equal (log_sync (log, &after), 0);
        assert_int_equal (after, before);
        assert_int_equal (log_synced_streams (log, streams, WORK_STREAMS, &count), 0);
        assert_int_equal (count, 0);
        assert_int_equal (log_mark_idle (log), 0);
        assert_int_equal (log_retain (log, NULL), 0);
    }
    assert_false (log_is_read_only (log));
}

/* in_place: what is written again where it was needs no room, as on most file systems. */
static void start_on_a_full_disk (enum shape shape, bool in_place)
{
    struct left l;
    struct log *log;
    struct log_recovery recovery;
    struct fail_fs *f = fail_fs_new ();
    leave (&l, shape, NULL);
    l.options.fs = fail_fs_seam (f);
    fail_fs_no_room (f, in_place);
    fail_fs_disk_full (f, !in_place);
    int rc = log_open (l.directory, &l.options, &recovery, &log);
    const bool whole = shape != SHAPE_NO_HEADER && shape != SHAPE_EMPTY;
    if (!in_place && shape != SHAPE_EMPTY) {               /* the tail: nobody knows what of it was acknowledged */
        assert_int_equal (rc, -ENOSPC);
        fail_fs_disk_full (f, false);
        rc = log_open (l.directory, &l.options, &recovery, &log);
        recovery.waits_for_room = false;
    }
    if (rc)
        fail_msg ("shape %d: log_open: %d %s", shape, rc, fm_error_detail ());
    assert_true (recovery.damaged_ranges == (shape == SHAPE_DAMAGED || shape == SHAPE_NO_HEADER));
    check_served (log, &l, whole);
    if (whole)
        expect_cursor (log);
    assert_true (recovery.waits_for_room == (shape != SHAPE_WHOLE && (in_place || shape == SHAPE_EMPTY)));
    if (recovery.waits_for_room)
        takes_nothing (log);
    check_served (log, &l, whole);
    fail_fs_no_room (f, false);
    fail_fs_disk_full (f, false);
    goes_on (&l, &log);
    fail_fs_destroy (&f);
}

static void a_start_on_a_full_disk_serves_what_is_durable_takes_nothing_and_goes_on (void **state)
{
    (void) state;
    for (enum shape shape = 0; shape < SHAPES; shape++) {
        start_on_a_full_disk (shape, true);
        start_on_a_full_disk (shape, false);
    }
}

/* --- Room that is missing at one call, and there again at the next. */

static bool start_without_room_for_call (enum shape shape, unsigned long n)
{
    struct left l;
    struct log *log;
    struct fail_fs *f = fail_fs_new ();
    leave (&l, shape, NULL);
    l.options.fs = fail_fs_seam (f);
    fail_fs_fail (f, FAIL_ANY, n, -ENOSPC);
    const int first = log_open (l.directory, &l.options, NULL, &log);
    /* The first four calls, behind those that make good what is missing beside it, make durable what is there: they sync the names, and write the tail
     * again and sync it. */
    const unsigned long durable = shape == SHAPE_EMPTY ? 2 : shape == SHAPE_NO_COOKIE || shape == SHAPE_NO_QUARANTINE ? 12 : 4;
    const int rc = first == -ENOSPC && n <= durable ? log_open (l.directory, &l.options, NULL, &log) : first;
    if (rc)
        fail_msg ("shape %d, call %lu: log_open: %d %s", shape, n, rc, fm_error_detail ());
    const bool happened = fail_fs_happened (f);
    fail_fs_fail (f, FAIL_ANY, 0, 0);
    check_served (log, &l, false);
    goes_on (&l, &log);
    fail_fs_destroy (&f);
    return happened;
}

static void whichever_call_of_a_start_finds_no_room_it_starts (void **state)
{
    (void) state;
    unsigned long calls = 0;
    for (enum shape shape = 0; shape < SHAPES; shape++)
        for (unsigned long n = 1; start_without_room_for_call (shape, n); n++)
            calls++;
    assert_true (calls > 30);
}

/* --- The power goes while it waits. */

/* Returns false when it was not needed any more. */
static bool power_goes_while_it_waits (enum shape shape, unsigned long n)
{
    struct left l;
    struct log *log = NULL;
    struct fail_fs *f = fail_fs_new ();
    leave (&l, shape, fail_fs_seam (f));
    fail_fs_no_room (f, true);
    assert_int_equal (log_open (l.directory, &l.options, NULL, &log), 0);
    assert_int_equal (log_write (log), -ENOSPC);
    const struct work_contents before = work_check (log, LARGEST);
    fail_fs_no_room (f, false);
    fail_fs_power_off (f, n);
    (void) log_write (log);
    const bool happened = fail_fs_happened (f);
    log_destroy (&log);
    fail_fs_power_loss (f, (unsigned) n, (unsigned) (n * 37) % 101);
    fail_fs_destroy (&f);
    l.options.fs = NULL;
    const int rc = log_open (l.directory, &l.options, NULL, &log);
    if (rc)
        fail_msg ("shape %d, call %lu: log_open: %d %s", shape, n, rc, fm_error_detail ());
    const struct work_contents c = work_check (log, LARGEST);
    assert_int_equal (c.batches, before.batches);
    for (unsigned stream = 1; stream <= WORK_STREAMS; stream++)
        assert_int_equal (c.next_seq[stream], before.next_seq[stream]);
    goes_on (&l, &log);
    return happened;
}

static void whenever_the_power_goes_while_it_waits_for_room_nothing_served_is_lost (void **state)
{
    (void) state;
    static const enum shape shapes[] = { SHAPE_TORN, SHAPE_DAMAGED, SHAPE_NO_HEADER, SHAPE_EMPTY };
    unsigned long calls = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (unsigned long n = 1; power_goes_while_it_waits (shapes[i], n); n++)
            calls++;
    assert_true (calls > 12);
}

/* A copy that did not fit must not take what room there is, each second anew. */
static void what_did_not_fit_into_quarantine_leaves_nothing_there (void **state)
{
    (void) state;
    struct left l;
    struct log *log;
    struct fail_fs *f = fail_fs_new ();
    leave (&l, SHAPE_TORN, NULL);
    l.options.fs = fail_fs_seam (f);
    fail_fs_fail (f, FAIL_WRITE, 2, -ENOSPC);       /* within the copy: the one before writes the tail again */
    assert_int_equal (log_open (l.directory, &l.options, NULL, &log), 0);
    for (int i = 0; i < 3; i++) {
        fail_fs_fail (f, FAIL_WRITE, 1, -ENOSPC);
        assert_int_equal (log_write (log), -ENOSPC);
    }
    in_directory (l.directory, "test $(ls quarantine | wc -l) -eq 0");
    fail_fs_fail (f, FAIL_ANY, 0, 0);
    kit_sync (log);
    in_directory (l.directory, "test $(ls quarantine | wc -l) -eq 1");
    goes_on (&l, &log);
    fail_fs_destroy (&f);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_start_on_a_full_disk_serves_what_is_durable_takes_nothing_and_goes_on),
        cmocka_unit_test (whichever_call_of_a_start_finds_no_room_it_starts),
        cmocka_unit_test (whenever_the_power_goes_while_it_waits_for_room_nothing_served_is_lost),
        cmocka_unit_test (what_did_not_fit_into_quarantine_leaves_nothing_there),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
