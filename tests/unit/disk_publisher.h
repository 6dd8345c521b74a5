/* disk_publisher: publishers whose window is on disk too, in the fake node (fake_node.h): directories a, b and c of a scratch one, what a kill leaves of
 * one, what was sent, and that what is served is just that. */

#ifndef FM_TESTS_DISK_PUBLISHER_H
#define FM_TESTS_DISK_PUBLISHER_H

#include <sys/stat.h>
#include <unistd.h>

#include "fake_node.h"

enum { MS = 1000000, FRAMES_MAX = 512 };

static const struct fm_id journal_a = { "journal-a-0000-" };
static char root[64];

static inline const char *path (const char *name)
{
    static char text[4][160];
    static unsigned turn;
    char *p = text[turn++ % 4];
    snprintf (p, sizeof text[0], "%s/%s", root, name);
    return p;
}

static int set_up (void **state)
{
    strcpy (root, "/tmp/factmesh-disk-XXXXXX");
    return mkdtemp (root) ? fake_set_up (state) : -1;
}

static inline void remove_directory (const char *name)
{
    static const char *const files[] = { "stream", "stream.new", "lock", "window", "window.new" };
    char file[200];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf (file, sizeof file, "%s/%s", path (name), files[i]);
        (void) unlink (file);
    }
    (void) rmdir (path (name));
}

static int tear_down (void **state)
{
    remove_directory ("a");
    remove_directory ("b");
    remove_directory ("c");
    assert_int_equal (rmdir (root), 0);
    return fake_tear_down (state);
}

/* What a kill -9 would leave of directory `from` now: its files, as the page cache has them. */
static inline void kill_into (const char *from, const char *to)
{
    static const char *const files[] = { "stream", "window" };
    static uint8_t bytes[8 << 20];
    assert_int_equal (mkdir (path (to), 0755), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char name[32];
        snprintf (name, sizeof name, "%s/%s", from, files[i]);
        FILE *in = fopen (path (name), "rb");
        if (!in)
            continue;
        const size_t len = fread (bytes, 1, sizeof bytes, in);
        assert_true (len < sizeof bytes);
        fclose (in);
        snprintf (name, sizeof name, "%s/%s", to, files[i]);
        FILE *out = fopen (path (name), "wb");
        assert_non_null (out);
        assert_int_equal (fwrite (bytes, 1, len, out), len);
        assert_int_equal (fclose (out), 0);
    }
}

static inline struct fm_publisher *open_in (const char *name, struct fm_publisher_options options)
{
    options.directory = path (name);
    if (options.window_on_disk == FM_WINDOW_MEMORY)
        options.window_on_disk = FM_WINDOW_FILE;
    return open_publisher (&options);
}

static inline bool has_file (const char *name)
{
    return access (path (name), F_OK) == 0;
}

/* ------------------------------------------------------------------ what was sent, and what is served */

/* The batches that left, as bytes; announced ones are not whole here, and empty. */
static struct sent {
    uint64_t first_seq, end_seq;
    size_t len;
    uint8_t *bytes;
} sent[FRAMES_MAX];
static size_t sent_count;

static inline void take_sent (void)
{
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    while (receive_batch (&message, &topic, &b)) {
        assert_true (sent_count < FRAMES_MAX);
        struct sent *s = &sent[sent_count++];
        *s = (struct sent) { .first_seq = b.first_seq, .end_seq = batch_end_seq (&b) };
        if (!b.announced_len) {
            s->len = b.len;
            s->bytes = malloc (b.len);
            memcpy (s->bytes, b.bytes, b.len);
        }
        zmq_msg_close (&message);
    }
}

static inline void forget_sent (void)
{
    for (size_t i = 0; i < sent_count; i++)
        free (sent[i].bytes);
    sent_count = 0;
}

static inline void ask (struct fm_publisher *p, uint64_t from, uint64_t end)
{
    static uint64_t session;
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = ++session;
    open.stream = control_put_id (&p->identity.stream);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = from;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = end;
    open.credit = 64 << 20;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = &open;
    assert_int_equal (hand_over (&control, 'a'), 0);
    serve_all (p);
}

/* Take the answer: the batches from `from` on, byte for byte as they were sent. Returns the sequence behind the last; *ret_gap_end: of the gap, of
 * a journal's, that closed it; 0: none did. */
static inline uint64_t take_answer (uint64_t from, uint64_t *ret_gap_end)
{
    uint64_t next = from;
    *ret_gap_end = 0;
    while (fake.reply_taken < fake.reply_count) {
        const Factmesh__Control *control = fake.replies[fake.reply_taken++];
        if (control->body_case == FACTMESH__CONTROL__BODY_REPLAY_END)
            return next;
        assert_int_equal (control->body_case, FACTMESH__CONTROL__BODY_REPLAY_DATA);
        const Factmesh__ReplayData *data = control->replay_data;
        struct batch_scratch own = { 0 };
        for (size_t i = 0; i < data->n_batches; i++) {
            struct batch b;
            assert_int_equal (batch_decode (data->batches[i].data, data->batches[i].len, slice_of ("test"), &own, &b), 0);
            assert_int_equal (batch_check_facts (&b), 0);
            assert_int_equal (b.first_seq, next);
            next = batch_end_seq (&b);
            for (size_t k = 0; k < sent_count; k++) {
                if (sent[k].first_seq == b.first_seq && sent[k].bytes) {
                    assert_int_equal (b.len, sent[k].len);
                    assert_memory_equal (b.bytes, sent[k].bytes, b.len);
                }
            }
        }
        batch_scratch_release (&own);
        if (data->n_batches)
            assert_int_equal (data->covered[0]->through, next - 1);
        if (data->n_gaps) {
            assert_int_equal (data->n_gaps, 1);
            assert_int_equal (data->gaps[0]->first_seq, next);
            assert_int_equal (data->gaps[0]->reason, FACTMESH__GAP_REASON__GAP_SYNCED);
            assert_int_equal (data->n_covered, 0);      /* a journal's to tell: not passed */
            *ret_gap_end = data->gaps[0]->end_seq;
        }
    }
    fail_msg ("the answer has no end");
    return 0;
}

#define DISK_CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

#endif
