/* window_file: what cannot be read, made anew, or believed: nothing that was kept is lost, and nothing else comes to light. */

#include "window_file_kit.h"

#include <xxhash.h>

#include "bytes.h"

/* Of the header (window_file.h). */
enum { CAPACITY = 32, HEADER_SUM = WINDOW_FILE_HEADER_LEN - 8 };

/* A file with 20 batches, closed as by a kill. */
static void make_file (void)
{
    struct window_file *f = open_new (1 << 16);
    for (int i = 0; i < 20; i++)
        assert_int_equal (append (f, 2, 300), 0);
    stop (&f);
    identity.epoch++;
}

static void expect_all (void)
{
    struct window_file *f = NULL;
    assert_int_equal (open_file (&fs_real, 1 << 16, false, &f), 0);
    check_restored ();
    assert_int_equal (found.batches, 20);
    done (f);
}

static void whatever_cannot_be_read_fails_the_open_and_loses_nothing (void **state)
{
    (void) state;
    struct fail_fs *fail = fail_fs_new ();
    struct window_file *f = NULL;
    make_file ();
    unsigned long n = 0;
    for (bool happened = true; happened;) {
        fail_fs_fail (fail, FAIL_READ, ++n, -EIO);
        const int rc = open_file (fail_fs_seam (fail), 1 << 16, false, &f);
        happened = fail_fs_happened (fail);
        assert_int_equal (rc, happened ? -EIO : 0);
        fail_fs_fail (fail, FAIL_READ, 0, 0);
    }
    assert_true (n > 4);
    check_restored ();
    stop (&f);
    fail_fs_destroy (&fail);
    identity.epoch++;
    expect_all ();
}

/* The real one, but for what a case says. */
static struct fs odd;
static uint64_t ends_at;

static ssize_t pread_to_the_end (void *context, int fd, void *buffer, size_t len, uint64_t pos)
{
    return pos >= ends_at ? 0 : fs_real.pread (context, fd, buffer, len, pos);
}

static int size_fails (void *context, int fd, uint64_t *ret_size)
{
    (void) context, (void) fd, (void) ret_size;
    return -EIO;
}

static void a_file_that_becomes_shorter_or_has_no_size_harms_nothing (void **state)
{
    (void) state;
    struct window_file *f = NULL;
    make_file ();
    odd = fs_real;
    odd.size = size_fails;
    assert_int_equal (open_file (&odd, 1 << 16, false, &f), -EIO);
    odd = fs_real;
    odd.pread = pread_to_the_end;
    size_t len;
    uint8_t *before = file_read (&len);
    ends_at = WINDOW_FILE_RING_POS;             /* all of the ring is gone when it is read: nothing is there, and nothing is made up */
    assert_int_equal (open_file (&odd, 1 << 16, false, &f), 0);
    assert_int_equal (found.batches, 0);
    stop (&f);
    file_write (before, len);
    free (before);
    expect_all ();
    assert_int_equal (symlink ("window", path ("window")), 0);
    assert_int_equal (open_file (&fs_real, 1 << 16, false, &f), -ELOOP);
    assert_int_equal (unlink (path ("window")), 0);
}

/* Its sum fits, and its fields do not. */
static void header_with (uint8_t *bytes, size_t len, size_t at, uint64_t value)
{
    uint8_t *copy = malloc (len);
    memcpy (copy, bytes, len);
    bytes_put_u64le (copy + at, value);
    bytes_put_u64le (copy + HEADER_SUM, XXH3_64bits (copy, HEADER_SUM));
    expect_refused (copy, len, FM_ERR_CORRUPT);
    free (copy);
}

static void fields_out_of_their_range_are_refused_and_so_are_places_that_are_not_there (void **state)
{
    (void) state;
    struct window_file *f = NULL;
    make_file ();
    size_t len;
    uint8_t *bytes = file_read (&len);
    static const uint64_t bad[] = { 0, (1 << 16) + 1, UINT64_MAX / WINDOW_FILE_ALIGN * WINDOW_FILE_ALIGN };
    for (size_t i = 0; i < 3; i++)
        header_with (bytes, len, CAPACITY, bad[i]);
    expect_refused (bytes, WINDOW_FILE_HEADER_LEN, FM_ERR_CORRUPT);
    file_write (bytes, len);
    free (bytes);
    expect_all ();
    assert_int_equal (open_file (&fs_real, UINT64_MAX / 2, false, &f), FM_ERR_ARGUMENT);
}

static void what_is_no_batch_is_left_out (void **state)
{
    (void) state;
    uint64_t place;
    struct window_file *f = open_new (1 << 16);
    assert_int_equal (append (f, 2, 50), 0);
    assert_int_equal (window_file_append (f, slice ("no batch at all", 15), start_now (), &place), 0);
    assert_int_equal (append (f, 2, 50), 0);
    stop (&f);
    f = start_again (1 << 16);
    assert_int_equal (found.batches, 2);
    assert_int_equal (found.refused, 1);
    check_item (window_first (&window), 0);
    check_item (window_last (&window), 1);
    done (f);
}

/* Made anew with the n-th call failing, for each n: what it had is there, in the one file or in the other. */
static void a_file_that_cannot_be_made_anew_loses_nothing (void **state)
{
    (void) state;
    struct fail_fs *fail = fail_fs_new ();
    make_file ();
    unsigned long n = 0;
    for (bool happened = true; happened; identity.epoch++) {
        struct window_file *f = NULL;
        struct window *const windows[] = { &window };
        assert_int_equal (open_file (fail_fs_seam (fail), 1 << 16, false, &f), 0);
        check_restored ();
        assert_int_equal (found.batches, 20);
        fail_fs_fail (fail, FAIL_ANY, ++n, -EIO);
        const int rc = window_file_compact (f, &identity, slice_of ("test"), windows, 1);
        happened = fail_fs_happened (fail);
        fail_fs_fail (fail, FAIL_ANY, 0, 0);
        assert_int_equal (rc, happened && n > 1 ? -EIO : 0);        /* the first removes what a crash left: nothing, mostly */
        stop (&f);
    }
    assert_true (n > 20);
    fail_fs_destroy (&fail);
    expect_all ();
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest cases[] = {
        CASE (whatever_cannot_be_read_fails_the_open_and_loses_nothing),
        CASE (a_file_that_becomes_shorter_or_has_no_size_harms_nothing),
        CASE (fields_out_of_their_range_are_refused_and_so_are_places_that_are_not_there),
        CASE (what_is_no_batch_is_left_out),
        CASE (a_file_that_cannot_be_made_anew_loses_nothing),
    };
    return cmocka_run_group_tests (cases, NULL, NULL);
}
