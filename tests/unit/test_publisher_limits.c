/* publisher: as many topics, headers, journals, sequences as there may be; and one more. */

#include "fake_node.h"

#include <sys/stat.h>
#include <unistd.h>

/* Everything that left, in order: [1, end), each once, in batches within their bounds. Returns the number of batches. */
static unsigned expect_all (uint64_t end)
{
    zmq_msg_t message;
    struct fm_slice topic;
    struct batch b;
    uint64_t next = 1;
    unsigned batches = 0;
    for (; receive_batch (&message, &topic, &b); batches++) {
        assert_int_equal (b.first_seq, next);
        assert_true (b.topic_count <= LEVEL_BATCH_TOPICS_MAX);
        next += b.count;
        zmq_msg_close (&message);
    }
    assert_int_equal (next, end);
    return batches;
}

/* At a clock that stands still no fact leaves for its age: a batch leaves when it may have no further topic. */
static void a_batch_leaves_when_it_has_all_the_topics_that_it_may (void **state)
{
    enum { FACTS = 4 * LEVEL_BATCH_TOPICS_MAX };
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    char topic[16];
    for (unsigned i = 1; i <= FACTS; i++) {
        (void) snprintf (topic, sizeof topic, "t%u", i);
        assert_int_equal (publish (p, topic, slice (NULL, 0)), i);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
    assert_in_range (expect_all (FACTS + 1), 16 + 4, 16 + 6);
    fm_publisher_close (&p);
}

/* Sixteen levels each: so many topics as a batch may have would just fill the table of levels. */
static void a_batch_leaves_when_the_names_of_its_topics_fill_its_frame (void **state)
{
    enum { FACTS = 3 * LEVEL_BATCH_TOPICS_MAX };
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    char topic[64];
    for (unsigned i = 1; i <= FACTS; i++) {
        (void) snprintf (topic, sizeof topic, "%c%c.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", digits[i / 64], digits[i % 64]);
        assert_int_equal (publish (p, topic, slice (NULL, 0)), i);
    }
    assert_int_equal (fm_publisher_flush (p), 0);
    (void) expect_all (FACTS + 1);
    fm_publisher_close (&p);
}

static bool frames_fail;

static void release (void *bytes, void *hint)
{
    (void) hint;
    free (bytes);
}

/* Instead of ZeroMQ's own. */
int zmq_msg_init_size (zmq_msg_t *message, size_t len)
{
    void *const bytes = frames_fail ? NULL : malloc (len + 1);
    errno = ENOMEM;
    return bytes ? zmq_msg_init_data (message, bytes, len, release, NULL) : -1;
}

/* Each has its place in the table of levels, though its fact is refused, since the batch before it cannot leave; until that one's topic is the oldest there,
 * and has to stay. */
static void topics_that_no_memory_kept_out_of_a_batch_are_no_hindrance (void **state)
{
    (void) state;
    static uint8_t payload[40000];
    struct fm_publisher *p = open_publisher (NULL);
    char topic[16];
    uint64_t seq = 0;
    while (p->open.count == 0)
        assert_int_equal (publish (p, "first", slice (payload, sizeof payload)), ++seq);
    frames_fail = true;
    for (unsigned i = 0; i <= PUBLISHER_LEVELS_MAX; i++) {
        (void) snprintf (topic, sizeof topic, "t%u", i);
        const struct fm_fact fact = { .topic = slice_of (topic), .payload = slice (payload, sizeof payload) };
        assert_int_equal (fm_publish (p, &fact, NULL), -ENOMEM);
    }
    assert_int_equal (p->open.count, 1);
    frames_fail = false;
    assert_int_equal (publish (p, "new", slice (payload, 1)), ++seq);
    assert_int_equal (fm_publisher_flush (p), 0);
    assert_int_equal (expect_all (seq + 1), seq);
    fm_publisher_close (&p);
}

static void headers_and_blob_pointers_have_bounds (void **state)
{
    (void) state;
    struct fm_publisher *p = open_publisher (NULL);
    uint8_t headers[8192], blob[PUBLISHER_BLOB_REF_MAX + 1] = { 0 };
    size_t len = 0;
    for (int i = 0; i < HEADERS_MAX; i++)
        assert_int_equal (fm_header_add (headers, sizeof headers, &len, slice_of ("h"), slice_of ("v")), 0);
    struct fm_fact fact = { .topic = slice_of ("a"), .headers = slice (headers, len) };
    assert_int_equal (fm_publish (p, &fact, NULL), 0);
    assert_int_equal (fm_header_add (headers, sizeof headers, &len, slice_of ("h"), slice_of ("v")), 0);
    fact.headers.len = len;
    assert_int_equal (fm_publish (p, &fact, NULL), FM_ERR_TOO_LARGE);
    fact.headers.len = 0;
    fact.blob = slice (blob, sizeof blob);
    assert_int_equal (fm_publish (p, &fact, NULL), FM_ERR_TOO_LARGE);
    (void) expect_all (2);
    fm_publisher_close (&p);
}

static void a_list_of_too_many_journals_is_refused (void **state)
{
    (void) state;
    char journals[(2 * ID_LEN + 1) * (PUBLISHER_JOURNALS_MAX + 1) + 1] = "";
    for (int i = 0; i <= PUBLISHER_JOURNALS_MAX; i++)
        (void) sprintf (journals + strlen (journals), "%s%032x", i ? "," : "", i + 1);
    struct fm_publisher *p = NULL;
    assert_int_equal (fm_publisher_open (&fake, &(struct fm_publisher_options) { .journals = journals }, &p), FM_ERR_ARGUMENT);
    assert_null (p);
}

static void an_open_that_fails_at_the_end_leaves_nothing_behind (void **state)
{
    (void) state;
    struct fm_publisher *p = NULL;
    fake.workers_refused = 1;
    assert_int_equal (fm_publisher_open (&fake, NULL, &p), -ENOMEM);
    assert_null (p);
    assert_int_equal (fake.handler_count, 0);
    assert_int_equal (fake.streams_changed, 0);
    p = open_publisher (NULL);
    fm_publisher_close (&p);
}

/* Faster than the node's thread comes: the call reserves itself, or fails, and goes on when it can. */
static void sequences_that_run_out_are_reserved_in_the_call (void **state)
{
    (void) state;
    char root[] = "/tmp/factmesh-publisher-XXXXXX", directory[64], file[96];
    assert_non_null (mkdtemp (root));
    snprintf (directory, sizeof directory, "%s/d", root);
    snprintf (file, sizeof file, "%s/stream", directory);
    struct fm_publisher *p = open_publisher (&(struct fm_publisher_options) { .directory = directory });
    const uint64_t reserved_end = p->reserved_end;
    for (uint64_t seq = 1; seq < reserved_end; seq++)
        assert_int_equal (publish (p, "a", slice (NULL, 0)), seq);
    /* The disk does not take it: neither in the thread, which says so, nor in the call. */
    assert_int_equal (unlink (file), 0);
    assert_int_equal (mkdir (file, 0755), 0);
    fake.now += (uint64_t) 10 * 1000000000;
    (void) publisher_tick (p, fake.now);
    assert_string_equal (fake.notice, "STREAM-NOT-RESERVED");
    assert_int_equal (p->reserved_end, reserved_end);
    const struct fm_fact fact = { .topic = slice_of ("a") };
    assert_int_equal (fm_publish (p, &fact, NULL), -EISDIR);
    assert_int_equal (rmdir (file), 0);
    assert_int_equal (publish (p, "a", slice (NULL, 0)), reserved_end);
    assert_true (p->reserved_end > reserved_end);
    /* More at a time where they don't last: */
    const uint64_t block = p->reserve_block;
    while (p->reserve_block == block)
        (void) publish (p, "a", slice (NULL, 0));
    assert_int_equal (p->reserve_block, 2 * block);
    assert_int_equal (fm_publisher_flush (p), 0);
    (void) expect_all (p->next_seq);
    fm_publisher_close (&p);
    static const char *const names[] = { "stream", "stream.new", "lock" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf (file, sizeof file, "%s/%s", directory, names[i]);
        (void) unlink (file);
    }
    assert_int_equal (rmdir (directory), 0);
    assert_int_equal (rmdir (root), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, fake_set_up, fake_tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_batch_leaves_when_it_has_all_the_topics_that_it_may),
        CASE (a_batch_leaves_when_the_names_of_its_topics_fill_its_frame),
        CASE (topics_that_no_memory_kept_out_of_a_batch_are_no_hindrance),
        CASE (headers_and_blob_pointers_have_bounds),
        CASE (a_list_of_too_many_journals_is_refused),
        CASE (an_open_that_fails_at_the_end_leaves_nothing_behind),
        CASE (sequences_that_run_out_are_reserved_in_the_call),
    };
    const int failed = cmocka_run_group_tests (tests, NULL, NULL);
    batch_scratch_release (&scratch);
    return failed;
}
