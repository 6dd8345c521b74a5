/* The small files: a journal's cookie, and a publisher's stream file in a directory of its own. The first byte chooses the file, and whether its
 * checksum is made to fit, which chance never does. */

#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "checksum.h"
#include "cookie.h"
#include "identity.h"

static int input_fd;

static int open_input (void *context, int dir, const char *name, int flags, mode_t mode)
{
    (void) context;
    (void) dir;
    (void) flags;
    (void) mode;
    assert (strcmp (name, COOKIE_NAME) == 0);
    return dup (input_fd);
}

static void check_cookie (const uint8_t *bytes, size_t len)
{
    struct fs fs = fs_real;
    char path[64];
    struct cookie c;
    fs.open = open_input;
    input_fd = fuzz_file (bytes, len, path);
    if (cookie_read (&fs, -1, &c) == 0)
        assert (memchr (c.mesh, 0, sizeof c.mesh) != NULL);
}

static void check_stream (const uint8_t *bytes, size_t len)
{
    static char directory[64], path[80];
    if (!*directory) {
        (void) snprintf (directory, sizeof directory, "%s/factmesh-fuzz-identity-XXXXXX", access ("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (!mkdtemp (directory))
            abort ();
        (void) snprintf (path, sizeof path, "%s/stream", directory);
    }
    const int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write (fd, bytes, len) != (ssize_t) len)
        abort ();
    (void) close (fd);
    struct identity a, b;
    uint64_t end, end_again;
    if (identity_open (directory, slice_of ("test"), slice (NULL, 0), &a, &end) == 0) {
        assert (a.epoch >= 1 && !id_is_zero (&a.stream) && a.epoch_first_seq >= 1 && end >= a.epoch_first_seq);
        assert (memchr (a.name, 0, sizeof a.name) != NULL);
        const uint64_t next_seq = a.epoch_first_seq;
        assert (identity_close (&a, next_seq) == 0);
        /* The last epoch of all is refused when it would be used up. */
        if (identity_open (directory, slice_of ("test"), slice (NULL, 0), &b, &end_again) == 0) {
            assert (id_equal (&a.stream, &b.stream) && b.epoch == a.epoch + 1 && b.epoch_first_seq == next_seq);
            assert (identity_close (&b, next_seq) == 0);
        }
    }
    char lock[96];
    (void) snprintf (lock, sizeof lock, "%s/lock", directory);
    (void) unlink (lock);
    (void) unlink (path);
    (void) rmdir (directory);           /* the driver may end any time: leave nothing */
    *directory = 0;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const uint8_t mode = data[0];
    const size_t len = size - 1;
    uint8_t *bytes = malloc (len + 1);
    memcpy (bytes, data + 1, len);
    const size_t sum_pos = mode & 1 ? COOKIE_LEN - 8 : IDENTITY_FILE_LEN - 8;
    if ((mode & 2) && len >= sum_pos + 8)
        bytes_put_u64le (bytes + sum_pos, checksum (bytes, sum_pos));
    if (mode & 1)
        check_cookie (bytes, len);
    else
        check_stream (bytes, len);
    free (bytes);
    return 0;
}
