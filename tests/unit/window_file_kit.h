/* window_file_kit: a directory with an identity, and a window's file in it: what was appended is remembered, and what comes back compared with it. */

#ifndef FM_TESTS_WINDOW_FILE_KIT_H
#define FM_TESTS_WINDOW_FILE_KIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "batch.h"
#include "../support/batch_sample.h"
#include "error.h"
#include "../support/fail_fs.h"
#include "window_file.h"

enum { KEPT_MAX = 8192, BATCH_LEN_MAX = 128 << 10, WINDOW_BYTES = 1 << 30 };

static char root[64], directory[96];
static struct identity identity;

/* What was appended, oldest first; first: what is still needed; at_append: what was needed when the last one was appended. */
static struct {
    size_t count, first, at_append;
    uint64_t next_seq;
    struct kept {
        uint64_t first_seq, end_seq, place;
        size_t len;
        uint8_t *bytes;
    } items[KEPT_MAX];
} kept;

static inline const char *path (const char *name)
{
    static char text[160];
    snprintf (text, sizeof text, "%s/%s", directory, name);
    return text;
}

static inline void forget_kept (void)
{
    for (size_t i = 0; i < kept.count; i++)
        free (kept.items[i].bytes);
    kept.count = kept.first = kept.at_append = 0;
}

static inline int set_up (void **state)
{
    (void) state;
    uint64_t reserved_end;
    strcpy (root, "/tmp/factmesh-window-XXXXXX");
    if (!mkdtemp (root))
        return -1;
    snprintf (directory, sizeof directory, "%s/stream", root);
    sample_seed ();
    kept.next_seq = 1;
    return identity_open (directory, slice_of ("test"), slice_of (""), &identity, &reserved_end);
}

static inline int tear_down (void **state)
{
    (void) state;
    forget_kept ();
    (void) identity_close (&identity, 1);
    static const char *const names[] = { "stream", "stream.new", "lock", "window", "window.new" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void) unlink (path (names[i]));
    (void) rmdir (directory);
    return rmdir (root);
}

/* ------------------------------------------------------------------ batches */

static uint8_t fact_byte (uint64_t seq, size_t i)
{
    return (uint8_t) (seq * 131 + i * 7 + (i >> 8));
}

/* A batch of `count` facts from kept.next_seq on, with payloads of `len` bytes. */
static inline struct fm_slice batch_make (uint8_t *bytes, uint32_t count, size_t len)
{
    static uint8_t payload[BATCH_LEN_MAX];
    static const uint8_t back[1] = { 0 };
    struct batch_topic topic = { .name = slice_of ("a"), .backs = slice (back, sizeof back) };
    const struct batch b = { .major = PROTO_MAJOR, .mesh = slice_of ("test"), .stream = identity.stream, .epoch = identity.epoch,
                             .incarnation = 77, .epoch_first_seq = identity.epoch_first_seq, .first_seq = kept.next_seq, .count = count,
                             .topics = &topic, .topic_count = 1, .time_ns = 5 };
    const struct batch_defaults defaults = { .time_ns = 5 };
    uint8_t *p = batch_encode_header (bytes, &b);
    for (uint64_t seq = b.first_seq; seq < b.first_seq + count; seq++) {
        for (size_t i = 0; i < len; i++)
            payload[i] = fact_byte (seq, i);
        const struct fm_fact fact = { .payload = slice (payload, len), .time_ns = 5 };
        p = fact_encode (p, &fact, &defaults);
    }
    return slice (bytes, (size_t) (p - bytes));
}

static uint64_t start_now (void)
{
    return kept.first < kept.count ? kept.items[kept.first].place : UINT64_MAX;
}

/* Append such a batch; what is appended is remembered. */
static inline int append (struct window_file *f, uint32_t count, size_t len)
{
    static uint8_t bytes[BATCH_LEN_MAX * 2];
    const struct fm_slice batch = batch_make (bytes, count, len);
    struct kept *k = &kept.items[kept.count];
    const int rc = window_file_append (f, batch, start_now (), &k->place);
    if (rc)
        return rc;
    assert_true (kept.count < KEPT_MAX);
    kept.at_append = kept.first;
    k->first_seq = kept.next_seq;
    k->end_seq = kept.next_seq += count;
    k->len = batch.len;
    k->bytes = malloc (batch.len);
    memcpy (k->bytes, batch.data, batch.len);
    kept.count++;
    return 0;
}

/* ------------------------------------------------------------------ opening */

static struct window window;
static struct window_file_found found;

static inline int open_file (const struct fs *fs, uint64_t capacity, bool sync, struct window_file **ret_file)
{
    identity.epoch_first_seq = kept.next_seq;
    window_init (&window, WINDOW_BYTES, kept.next_seq);
    memset (&found, 0, sizeof found);
    const int rc = window_file_open (fs, &identity, slice_of ("test"), capacity, sync, &window, ret_file, &found);
    if (rc)
        window_release (&window);
    return rc;
}

/* Until the next start. */
static inline void stop (struct window_file **f)
{
    window_file_close (f, false);
    window_release (&window);
}

static inline struct window_file *start_again (uint64_t capacity)
{
    struct window_file *f;
    identity.epoch++;
    assert_int_equal (open_file (&fs_real, capacity, false, &f), 0);
    return f;
}

/* The item is what was kept as number i. */
static inline void check_item (const struct window_item *item, size_t i)
{
    const struct kept *k = &kept.items[i];
    zmq_msg_t *message = (zmq_msg_t *) &item->message;
    assert_int_equal (item->first_seq, k->first_seq);
    assert_int_equal (item->end_seq, k->end_seq);
    assert_int_equal (zmq_msg_size (message), k->len);
    assert_memory_equal (zmq_msg_data (message), k->bytes, k->len);
}

/* What came back: every item kept that is needed, in order, byte for byte; of those that are not needed at most what the last append still needed. Then it
 * is what is kept, with the places that it has now. */
static inline void check_restored (void)
{
    const struct window_item *item = window_first (&window);
    size_t i = kept.at_append;
    while (item && i < kept.count && kept.items[i].first_seq < item->first_seq)
        i++;
    assert_true (i <= kept.first || kept.first == kept.count);
    const size_t first = i;
    for (; item; item = window_find_from (&window, item->end_seq), i++) {
        assert_true (i < kept.count);
        check_item (item, i);
        kept.items[i].place = item->place;
    }
    if (first < i || kept.first < kept.count)
        assert_int_equal (i, kept.count);
    assert_int_equal (found.batches, i - first);
    assert_int_equal (found.refused, 0);
    kept.first = kept.at_append = first;
}

/* Killed, and started again: the next epoch. */
static inline struct window_file *reopen (struct window_file *f, uint64_t capacity)
{
    window_file_close (&f, false);
    window_release (&window);
    identity.epoch++;
    assert_int_equal (open_file (&fs_real, capacity, false, &f), 0);
    return f;
}

static inline struct window_file *open_new (uint64_t capacity)
{
    struct window_file *f = NULL;
    assert_int_equal (open_file (&fs_real, capacity, false, &f), 0);
    assert_null (window_first (&window));
    return f;
}

static inline void done (struct window_file *f)
{
    window_file_close (&f, true);
    window_release (&window);
    assert_int_equal (access (path ("window"), F_OK), -1);
    assert_int_equal (access (path ("window.new"), F_OK), -1);
}

static uint8_t *file_read (size_t *ret_len)
{
    FILE *file = fopen (path ("window"), "rb");
    assert_non_null (file);
    struct stat st;
    assert_int_equal (fstat (fileno (file), &st), 0);
    uint8_t *bytes = malloc ((size_t) st.st_size + 1);
    *ret_len = fread (bytes, 1, (size_t) st.st_size, file);
    fclose (file);
    return bytes;
}

static inline void file_write (const uint8_t *bytes, size_t len)
{
    FILE *file = fopen (path ("window"), "wb");
    assert_non_null (file);
    assert_int_equal (fwrite (bytes, 1, len, file), len);
    assert_int_equal (fclose (file), 0);
}

static inline void expect_refused (const uint8_t *bytes, size_t len, int code)
{
    struct window_file *f = NULL;
    file_write (bytes, len);
    assert_int_equal (open_file (&fs_real, 1 << 16, false, &f), code);
    assert_true (strlen (fm_error_detail ()) > 0);
    size_t after_len;
    uint8_t *after = file_read (&after_len);
    assert_int_equal (after_len, len);
    assert_memory_equal (after, bytes, len);            /* left alone */
    free (after);
}

#endif
