/* cookie: whichever bit of it is lost the journal starts as the one that it was; and one of a newer format is left alone, as it is. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/log_setting.h"
#include "bytes.h"
#include "checksum.h"
#include "cookie.h"
#include "error.h"

enum { AT_MAJOR = 8, AT_MESH_LEN = 48, AT_SUM = COOKIE_LEN - 8 };

static void cookie_path (const struct log_setting *s, char path[256])
{
    (void) snprintf (path, 256, "%s/" COOKIE_NAME, s->directory);
}

static void read_cookie (const struct log_setting *s, uint8_t bytes[COOKIE_LEN])
{
    char path[256];
    cookie_path (s, path);
    const int fd = open (path, O_RDONLY);
    assert_int_equal (read (fd, bytes, COOKIE_LEN), COOKIE_LEN);
    close (fd);
}

static void write_cookie (const struct log_setting *s, const uint8_t bytes[COOKIE_LEN])
{
    char path[256];
    cookie_path (s, path);
    const int fd = open (path, O_WRONLY);
    assert_int_equal (write (fd, bytes, COOKIE_LEN), COOKIE_LEN);
    close (fd);
}

/* A journal with one batch: who it is, and its cookie. */
static void record_one (struct log_setting *s, struct fm_id *ret_journal, uint8_t ret_cookie[COOKIE_LEN])
{
    uint64_t generation;
    assert_int_equal (work_append (s->log, 1, 100), 0);
    kit_sync (s->log);
    log_identity (s->log, ret_journal, &generation);
    log_destroy (&s->log);
    read_cookie (s, ret_cookie);
}

/* With this cookie it starts as the one that it was, and has what it had. */
static void start_with (struct log_setting *s, const uint8_t cookie[COOKIE_LEN], const struct fm_id *journal, uint8_t ret_renewed[COOKIE_LEN])
{
    struct fm_id now;
    uint64_t generation;
    write_cookie (s, cookie);
    reopen (s);
    log_identity (s->log, &now, &generation);
    assert_true (id_equal (journal, &now) && generation == 1);
    assert_int_equal (work_check (s->log, 100).batches, 1);
    log_destroy (&s->log);
    read_cookie (s, ret_renewed);
}

static void whichever_bit_of_the_cookie_flips_the_journal_is_the_same (void **state)
{
    struct log_setting *s = setting_of (state);
    struct fm_id before;
    uint8_t good[COOKIE_LEN], bad[COOKIE_LEN], renewed[COOKIE_LEN];
    record_one (s, &before, good);
    /* Every bit of the number that says which format it is, and one in nine of the rest. */
    for (unsigned bit = 0; bit < 8 * COOKIE_LEN; bit++) {
        const bool of_major = bit / 8 >= AT_MAJOR && bit / 8 < AT_MAJOR + 4;
        if (!of_major && bit % 9 != 0)
            continue;
        memcpy (bad, good, sizeof bad);
        bad[bit / 8] ^= (uint8_t) (1 << bit % 8);
        start_with (s, bad, &before, renewed);
        assert_int_not_equal (memcmp (renewed, bad, sizeof bad), 0);
    }
    reopen (s);
}

/* Its sum is where we don't look for it. */
static void a_cookie_of_a_newer_format_is_refused_and_left_as_it_is (void **state)
{
    struct log_setting *s = setting_of (state);
    uint8_t newer[COOKIE_LEN], after[COOKIE_LEN];
    log_destroy (&s->log);
    read_cookie (s, newer);
    newer[40] ^= 0x55;
    for (unsigned major = 2; major < 10; major++) {
        bytes_put_u32le (newer + AT_MAJOR, major);
        write_cookie (s, newer);
        for (int read_only = 0; read_only < 2; read_only++) {
            s->options.read_only = read_only;
            assert_int_equal (log_open (s->directory, &s->options, NULL, &s->log), FM_ERR_NEWER);
            assert_non_null (strstr (fm_error_detail (), "newer"));
        }
        read_cookie (s, after);
        assert_memory_equal (after, newer, sizeof newer);
    }
    s->log = NULL;
}

/* Its sum fits: nothing of ours wrote it. What it would read lies behind the name, and behind the cookie. */
static void a_cookie_whose_mesh_has_an_impossible_length_is_made_anew (void **state)
{
    struct log_setting *s = setting_of (state);
    struct fm_id before;
    uint8_t good[COOKIE_LEN], bad[COOKIE_LEN], renewed[COOKIE_LEN];
    record_one (s, &before, good);
    static const uint8_t lengths[] = { MESH_NAME_MAX + 1, 200, 255 };
    for (size_t i = 0; i < sizeof lengths; i++) {
        memcpy (bad, good, sizeof bad);
        bad[AT_MESH_LEN] = lengths[i];
        bytes_put_u64le (bad + AT_SUM, checksum (bad, AT_SUM));
        start_with (s, bad, &before, renewed);
        assert_int_equal (renewed[AT_MESH_LEN], good[AT_MESH_LEN]);
    }
    reopen (s);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (whichever_bit_of_the_cookie_flips_the_journal_is_the_same, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (a_cookie_of_a_newer_format_is_refused_and_left_as_it_is, log_set_up, log_tear_down),
        cmocka_unit_test_setup_teardown (a_cookie_whose_mesh_has_an_impossible_length_is_made_anew, log_set_up, log_tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
