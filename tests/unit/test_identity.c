#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "error.h"
#include "identity.h"

static char root[64], directory[96];

static const char *path (const char *name)
{
    static char text[160];
    snprintf (text, sizeof text, "%s/%s", directory, name);
    return text;
}

static int set_up (void **state)
{
    (void) state;
    strcpy (root, "/tmp/factmesh-identity-XXXXXX");
    if (!mkdtemp (root))
        return -1;
    snprintf (directory, sizeof directory, "%s/stream", root);
    return 0;
}

static int tear_down (void **state)
{
    (void) state;
    static const char *const names[] = { "stream", "stream.new", "lock" };
    (void) rmdir (path ("stream.new/x"));
    (void) rmdir (path ("stream.new"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void) unlink (path (names[i]));
    (void) rmdir (directory);
    return rmdir (root);
}

static int open_in (const char *mesh, const char *name, struct identity *identity, uint64_t *reserved_end)
{
    return identity_open (directory, slice_of (mesh), slice_of (name), identity, reserved_end);
}

static void read_file (uint8_t bytes[IDENTITY_FILE_LEN])
{
    FILE *f = fopen (path ("stream"), "rb");
    assert_non_null (f);
    assert_int_equal (fread (bytes, 1, IDENTITY_FILE_LEN, f), IDENTITY_FILE_LEN);
    fclose (f);
}

static void write_file (const uint8_t *bytes, size_t len)
{
    FILE *f = fopen (path ("stream"), "wb");
    assert_non_null (f);
    assert_int_equal (fwrite (bytes, 1, len, f), len);
    assert_int_equal (fclose (f), 0);
}

/* ------------------------------------------------------------------ cases */

static void without_a_directory_each_stream_is_new (void **state)
{
    (void) state;
    struct identity a, b;
    uint64_t end;
    assert_int_equal (identity_open (NULL, slice_of ("m"), slice_of ("n"), &a, &end), 0);
    assert_int_equal (end, UINT64_MAX);
    assert_int_equal (identity_open (NULL, slice_of ("m"), slice_of ("n"), &b, &end), 0);
    assert_false (id_equal (&a.stream, &b.stream));
    assert_int_equal (a.epoch, 1);
    assert_int_equal (a.epoch_first_seq, 1);
    assert_int_not_equal (a.incarnation, b.incarnation);
    assert_string_equal (a.name, "n");
    assert_int_equal (identity_reserve (&a, 1u << 30), 0);
    assert_int_equal (identity_close (&a, 7), 0);
    assert_int_equal (identity_close (&b, 1), 0);
}

static void a_new_directory_begins_a_stream_in_epoch_one (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    assert_int_equal (open_in ("m", "orders", &i, &end), 0);
    assert_int_equal (i.epoch, 1);
    assert_int_equal (i.epoch_first_seq, 1);
    assert_int_equal (end, 1 + IDENTITY_RESERVE_FIRST);
    assert_false (id_is_zero (&i.stream));
    assert_int_equal (identity_close (&i, 1), 0);
}

static void the_stream_goes_on_exactly_after_a_clean_close (void **state)
{
    (void) state;
    struct identity first, next;
    uint64_t end;
    assert_int_equal (open_in ("m", "orders", &first, &end), 0);
    assert_int_equal (identity_close (&first, 4711), 0);
    for (uint64_t epoch = 2; epoch < 6; epoch++) {
        assert_int_equal (open_in ("m", "", &next, &end), 0);
        assert_true (id_equal (&first.stream, &next.stream));
        assert_int_not_equal (first.incarnation, next.incarnation);
        assert_int_equal (next.epoch, epoch);
        assert_int_equal (next.epoch_first_seq, 4711 + 10 * (epoch - 2));
        assert_string_equal (next.name, "orders");
        assert_int_equal (identity_close (&next, 4711 + 10 * (epoch - 1)), 0);
    }
}

/* The child dies as by kill -9: nothing of ours runs at its end. */
static uint64_t die_with_reservation (uint64_t end)
{
    const pid_t pid = fork ();
    assert_true (pid >= 0);
    if (pid == 0) {
        struct identity i;
        uint64_t reserved_end;
        if (open_in ("m", "", &i, &reserved_end) || (end && identity_reserve (&i, end)))
            _exit (1);
        _exit (0);
    }
    int status;
    assert_int_equal (waitpid (pid, &status, 0), pid);
    assert_true (WIFEXITED (status));
    assert_int_equal (WEXITSTATUS (status), 0);
    return end ? end : 1 + IDENTITY_RESERVE_FIRST;
}

static void a_killed_publishers_sequences_and_epoch_are_never_used_again (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    const uint64_t used_end = die_with_reservation (0);
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (i.epoch, 2);
    assert_int_equal (i.epoch_first_seq, used_end);
    assert_int_equal (end, used_end + IDENTITY_RESERVE_FIRST);
    assert_int_equal (identity_close (&i, used_end + 5), 0);
}

static void what_was_reserved_later_counts_as_used_too (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    const uint64_t used_end = die_with_reservation (UINT64_C (123456789));
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (i.epoch_first_seq, used_end);
    assert_int_equal (identity_reserve (&i, end - 1), 0);
    assert_int_equal (identity_close (&i, end - 1), 0);
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (i.epoch, 3);
    assert_int_equal (identity_close (&i, end - 1), 0);
}

static void a_directory_in_use_is_refused_and_its_process_named (void **state)
{
    (void) state;
    struct identity a, b;
    uint64_t end;
    char pid[32];
    snprintf (pid, sizeof pid, "%ld", (long) getpid ());
    assert_int_equal (open_in ("m", "", &a, &end), 0);
    assert_int_equal (open_in ("m", "", &b, &end), FM_ERR_IN_USE);
    assert_non_null (strstr (fm_error_detail (), pid));
    assert_non_null (strstr (fm_error_detail (), directory));
    assert_int_equal (truncate (path ("lock"), 0), 0);           /* it has not said yet who it is */
    assert_int_equal (open_in ("m", "", &b, &end), FM_ERR_IN_USE);
    assert_non_null (strstr (fm_error_detail (), "open in another process"));
    assert_int_equal (identity_close (&a, 1), 0);
    assert_int_equal (open_in ("m", "", &b, &end), 0);
    assert_int_equal (identity_close (&b, 1), 0);
}

/* By one that could not write its number, or is about to. */
static void a_directory_that_is_locked_by_nobody_knows_whom_is_refused_too (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    assert_int_equal (mkdir (directory, 0755), 0);
    const int fd = open (path ("lock"), O_RDWR | O_CREAT, 0644);
    assert_true (fd >= 0 && flock (fd, LOCK_EX) == 0);
    assert_int_equal (open_in ("m", "", &i, &end), FM_ERR_IN_USE);
    assert_non_null (strstr (fm_error_detail (), "open in another process"));
    close (fd);
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 1), 0);
}

static void a_directory_of_another_mesh_is_refused_and_left_alone (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    uint8_t before[IDENTITY_FILE_LEN], after[IDENTITY_FILE_LEN];
    assert_int_equal (open_in ("production", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 1), 0);
    read_file (before);
    assert_int_equal (open_in ("laptop", "", &i, &end), FM_ERR_FOREIGN);
    assert_non_null (strstr (fm_error_detail (), "production"));
    read_file (after);
    assert_memory_equal (before, after, IDENTITY_FILE_LEN);
}

static void a_newer_version_is_refused (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    uint8_t bytes[IDENTITY_FILE_LEN + 64] = { 0 };
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 1), 0);
    read_file (bytes);
    bytes[8] = IDENTITY_VERSION + 1;
    write_file (bytes, sizeof bytes);       /* longer, as a newer format may be */
    assert_int_equal (open_in ("m", "", &i, &end), FM_ERR_NEWER);
}

static void any_flipped_bit_is_refused (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    uint8_t bytes[IDENTITY_FILE_LEN];
    assert_int_equal (open_in ("m", "orders", &i, &end), 0);
    assert_int_equal (identity_close (&i, 100), 0);
    read_file (bytes);
    for (size_t at = 0; at < IDENTITY_FILE_LEN * 8; at++) {
        bytes[at / 8] ^= (uint8_t) (1 << at % 8);
        write_file (bytes, sizeof bytes);
        bytes[at / 8] ^= (uint8_t) (1 << at % 8);
        const int rc = open_in ("m", "", &i, &end);
        assert_true (rc == FM_ERR_CORRUPT || (rc == FM_ERR_NEWER && at / 8 >= 8 && at / 8 < 12));
    }
    write_file (bytes, sizeof bytes);
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 100), 0);
}

static void a_file_of_another_length_is_refused (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    uint8_t bytes[IDENTITY_FILE_LEN + 1] = { 0 };
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 100), 0);
    read_file (bytes);
    for (size_t len = 0; len <= IDENTITY_FILE_LEN + 1; len++) {
        if (len == IDENTITY_FILE_LEN)
            continue;
        write_file (bytes, len);
        assert_int_equal (open_in ("m", "", &i, &end), FM_ERR_CORRUPT);
    }
}

static void a_well_summed_file_with_a_field_out_of_range_is_refused (void **state)
{
    (void) state;
    static const struct {
        size_t pos, len;
        uint8_t value;
    } faults[] = { { 8, 4, 0 }, { 16, 16, 0 }, { 32, 8, 0 }, { 32, 8, 0xFF }, { 40, 8, 0 }, { 40, 8, 0xFF }, { 48, 1, 64 }, { 112, 1, 64 } };
    struct identity i;
    uint64_t end;
    uint8_t good[IDENTITY_FILE_LEN], bad[IDENTITY_FILE_LEN];
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 100), 0);
    read_file (good);
    for (size_t f = 0; f < sizeof faults / sizeof faults[0]; f++) {
        memcpy (bad, good, sizeof bad);
        memset (bad + faults[f].pos, faults[f].value, faults[f].len);
        bytes_put_u64le (bad + IDENTITY_FILE_LEN - 8, XXH3_64bits (bad, IDENTITY_FILE_LEN - 8));
        write_file (bad, sizeof bad);
        assert_int_equal (open_in ("m", "", &i, &end), FM_ERR_CORRUPT);
    }
}

static void what_a_crash_left_half_written_is_ignored (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 100), 0);
    FILE *f = fopen (path ("stream.new"), "wb");
    assert_non_null (f);
    fputs ("half", f);
    fclose (f);
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (i.epoch_first_seq, 100);
    assert_int_equal (identity_close (&i, 100), 0);
}

static void a_reservation_that_fails_leaves_what_was (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    /* A directory where the new file should come: neither unlinked nor opened. */
    assert_int_equal (mkdir (path ("stream.new"), 0755), 0);
    assert_int_equal (identity_reserve (&i, end), 0);
    assert_true (identity_reserve (&i, end + 1) < 0);
    assert_true (identity_reserve (&i, end + 1) < 0);       /* again: what failed is not taken for done */
    assert_non_null (strstr (fm_error_detail (), "stream.new"));
    assert_true (identity_close (&i, 17) < 0);
    assert_int_equal (rmdir (path ("stream.new")), 0);
    struct identity again;
    uint64_t again_end;
    assert_int_equal (open_in ("m", "", &again, &again_end), 0);
    assert_int_equal (again.epoch_first_seq, end);
    assert_int_equal (identity_close (&again, end), 0);
}

static void what_cannot_be_stored_of_a_journal_is_stored_with_what_comes_next (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_false (i.journal);
    assert_int_equal (mkdir (path ("stream.new"), 0755), 0);
    assert_true (identity_note_journal (&i) < 0);
    assert_true (i.journal);
    assert_int_equal (identity_note_journal (&i), 0);       /* known: the disk is not asked again */
    assert_int_equal (rmdir (path ("stream.new")), 0);
    assert_int_equal (identity_reserve (&i, end + 1), 0);
    uint8_t bytes[IDENTITY_FILE_LEN];
    read_file (bytes);
    assert_int_equal (bytes[12], 2);
    assert_int_equal (identity_close (&i, 17), 0);
    read_file (bytes);
    assert_int_equal (bytes[12], 3);
}

static void a_missing_parent_is_told (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    assert_int_equal (identity_open ("/tmp/factmesh-no-such-parent/x", slice_of ("m"), slice_of (""), &i, &end), -ENOENT);
    assert_non_null (strstr (fm_error_detail (), "/tmp/factmesh-no-such-parent/x"));
}

/* There is one descriptor for the new directory, and none for its parent: what could be lost with the power is not left there to be taken for kept. */
static void a_directory_whose_name_cannot_be_synced_is_not_made (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    struct rlimit limit;
    assert_int_equal (getrlimit (RLIMIT_NOFILE, &limit), 0);
    const int next = dup (STDOUT_FILENO);
    assert_true (next >= 0);
    assert_int_equal (close (next), 0);
    const struct rlimit little = { .rlim_cur = (rlim_t) next + 1, .rlim_max = limit.rlim_max };
    assert_int_equal (setrlimit (RLIMIT_NOFILE, &little), 0);
    const int rc = open_in ("m", "", &i, &end);
    assert_int_equal (setrlimit (RLIMIT_NOFILE, &limit), 0);
    assert_int_equal (rc, -EMFILE);
    assert_non_null (strstr (fm_error_detail (), "..: fsync"));
    assert_int_equal (access (directory, F_OK), -1);
    assert_int_equal (open_in ("m", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 1), 0);
}

static void the_longest_names_survive (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    char mesh[MESH_NAME_MAX + 1], name[NODE_NAME_MAX + 1];
    memset (mesh, 'm', MESH_NAME_MAX);
    memset (name, 'n', NODE_NAME_MAX);
    mesh[MESH_NAME_MAX] = name[NODE_NAME_MAX] = 0;
    assert_int_equal (open_in (mesh, name, &i, &end), 0);
    assert_int_equal (identity_close (&i, 1), 0);
    assert_int_equal (open_in (mesh, "", &i, &end), 0);
    assert_string_equal (i.name, name);
    assert_int_equal (identity_close (&i, 1), 0);
    assert_int_equal (open_in (mesh, "renamed", &i, &end), 0);
    assert_string_equal (i.name, "renamed");
    assert_int_equal (identity_close (&i, 1), 0);
}

/* Each call says which file it was, and nothing is left open or locked: the next try succeeds. */
static void what_cannot_be_opened_read_or_written_is_told_by_name (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    char loop[160];
    (void) snprintf (loop, sizeof loop, "%s", path ("stream"));
    const struct {
        const char *in_the_way;             /* a directory of this name; NULL: a link from `stream` to itself */
        int rc;
        const char *told;
    } cases[] = {
        { "stream", -EISDIR, "stream: read" },
        { "lock", -EISDIR, "lock: open" },
        { NULL, -ELOOP, "stream: open" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        (void) mkdir (directory, 0755);
        (void) unlink (path ("lock"));
        if (cases[k].in_the_way)
            assert_int_equal (mkdir (path (cases[k].in_the_way), 0755), 0);
        else
            assert_int_equal (symlink (loop, loop), 0);
        assert_int_equal (open_in ("test", "", &i, &end), cases[k].rc);
        if (!strstr (fm_error_detail (), cases[k].told))
            fail_msg ("'%s' is not in '%s'", cases[k].told, fm_error_detail ());
        assert_int_equal (cases[k].in_the_way ? rmdir (path (cases[k].in_the_way)) : unlink (loop), 0);
    }
    (void) unlink (path ("lock"));
    assert_int_equal (rmdir (directory), 0);
    FILE *file = fopen (directory, "w");
    assert_non_null (file);
    fclose (file);
    assert_int_equal (open_in ("test", "", &i, &end), -ENOTDIR);
    assert_int_equal (unlink (directory), 0);
    assert_int_equal (open_in ("test", "", &i, &end), 0);
    assert_int_equal (identity_close (&i, 1), 0);
}

/* The file system takes no byte more, or not the new name. */
static void a_reservation_that_cannot_be_written_or_named_leaves_what_was (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end, again_end;
    uint8_t before[IDENTITY_FILE_LEN], after[IDENTITY_FILE_LEN];
    assert_int_equal (open_in ("test", "", &i, &end), 0);
    read_file (before);
    struct rlimit limit;
    assert_int_equal (getrlimit (RLIMIT_FSIZE, &limit), 0);
    const struct rlimit little = { .rlim_cur = IDENTITY_FILE_LEN / 2, .rlim_max = limit.rlim_max };
    (void) signal (SIGXFSZ, SIG_IGN);
    assert_int_equal (setrlimit (RLIMIT_FSIZE, &little), 0);
    const int rc = identity_reserve (&i, end + 1000);       /* half of it is written */
    assert_int_equal (setrlimit (RLIMIT_FSIZE, &limit), 0);
    assert_int_equal (rc, -EFBIG);
    assert_non_null (strstr (fm_error_detail (), "stream.new: write"));
    read_file (after);
    assert_memory_equal (after, before, sizeof before);
    assert_int_equal (unlink (path ("stream")), 0);
    assert_int_equal (mkdir (path ("stream"), 0755), 0);
    assert_int_equal (identity_reserve (&i, end + 1000), -EISDIR);
    assert_non_null (strstr (fm_error_detail (), "stream.new: rename"));
    assert_int_equal (rmdir (path ("stream")), 0);
    write_file (before, sizeof before);
    assert_int_equal (identity_close (&i, 7), 0);
    assert_int_equal (open_in ("test", "", &i, &again_end), 0);
    assert_int_equal (i.epoch_first_seq, 7);
    assert_int_equal (identity_close (&i, 7), 0);
}

static void names_beyond_their_bound_are_refused (void **state)
{
    (void) state;
    struct identity i;
    uint64_t end;
    char name[NODE_NAME_MAX + 2];
    memset (name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal (open_in ("test", name, &i, &end), FM_ERR_ARGUMENT);
    assert_int_equal (access (directory, F_OK), -1);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (without_a_directory_each_stream_is_new),
        CASE (a_new_directory_begins_a_stream_in_epoch_one),
        CASE (the_stream_goes_on_exactly_after_a_clean_close),
        CASE (a_killed_publishers_sequences_and_epoch_are_never_used_again),
        CASE (what_was_reserved_later_counts_as_used_too),
        CASE (a_directory_in_use_is_refused_and_its_process_named),
        CASE (a_directory_that_is_locked_by_nobody_knows_whom_is_refused_too),
        CASE (a_directory_of_another_mesh_is_refused_and_left_alone),
        CASE (a_newer_version_is_refused),
        CASE (any_flipped_bit_is_refused),
        CASE (a_file_of_another_length_is_refused),
        CASE (a_well_summed_file_with_a_field_out_of_range_is_refused),
        CASE (what_a_crash_left_half_written_is_ignored),
        CASE (a_reservation_that_fails_leaves_what_was),
        CASE (what_cannot_be_stored_of_a_journal_is_stored_with_what_comes_next),
        CASE (a_missing_parent_is_told),
        CASE (a_directory_whose_name_cannot_be_synced_is_not_made),
        CASE (the_longest_names_survive),
        CASE (what_cannot_be_opened_read_or_written_is_told_by_name),
        CASE (a_reservation_that_cannot_be_written_or_named_leaves_what_was),
        CASE (names_beyond_their_bound_are_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
