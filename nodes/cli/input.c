/* input: see input.h.
 *
 *   buffer   |  taken  |  pending (scanned | not yet)  |  room  |
 *            0       start                            end      size */

#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"

enum { INPUT_READ = 256 * 1024 }; /* bytes asked of read(2) at least; the buffer's first size */

struct input {
    const char *name;
    int fd;
    bool ours; /* fd is to be closed */
    bool ended;
    bool whole_given;
    struct input_options options;
    uint8_t *buffer;
    size_t start, end, size;
    size_t scanned; /* of the pending bytes: no delimiter there (input_line) */
    uint64_t line;
};

int input_open (const char *path, const struct input_options *options, struct input **ret_input)
{
    struct input *in = calloc (1, sizeof *in);
    if (!in)
        return -ENOMEM;
    in->options = *options;
    in->line = 1;
    in->size = INPUT_READ;
    in->buffer = malloc (in->size);
    int rc = -ENOMEM;
    if (!in->buffer)
        goto fail;
    if (strcmp (path, "-") == 0) {
        in->name = "standard input";
        in->fd = STDIN_FILENO;
    } else {
        in->name = path;
        in->fd = open (path, O_RDONLY | O_CLOEXEC);
        rc = -errno;
        if (in->fd < 0) {
            (void) error_set (rc, "%s: %s", path, strerror (-rc));
            goto fail;
        }
        in->ours = true;
    }
    *ret_input = in;
    return 0;
fail:
    free (in->buffer);
    free (in);
    return rc;
}

void input_destroy (struct input **input)
{
    struct input *in = *input;
    if (!in)
        return;
    if (in->ours)
        (void) close (in->fd); /* only read from: nothing can be lost */
    free (in->buffer);
    free (in);
    *input = NULL;
}

const char *input_name (const struct input *in)
{
    return in->name;
}

struct fm_slice input_pending (const struct input *in)
{
    return slice (in->buffer + in->start, in->end - in->start);
}

uint64_t input_line_number (const struct input *in)
{
    return in->line;
}

void input_take (struct input *in, size_t len, uint64_t newlines)
{
    in->start += len;
    in->line += newlines;
    in->scanned = 0;
}

/* Make room for one read behind what is pending. */
static int input_make_room (struct input *in)
{
    const size_t pending = in->end - in->start;
    if (in->start) {
        memmove (in->buffer, in->buffer + in->start, pending);
        in->start = 0;
        in->end = pending;
    }
    if (in->end <= in->size - INPUT_READ / 2)
        return 0;
    const size_t size = in->size * 2;
    uint8_t *buffer = realloc (in->buffer, size);
    if (!buffer)
        return error_set (-ENOMEM, "%s:%llu: no memory for a record of %zu bytes", in->name,
                          (unsigned long long) in->line, pending);
    in->buffer = buffer;
    in->size = size;
    return 0;
}

static int input_wait (const struct input *in)
{
    struct pollfd fds[2] = {
        { .fd = in->fd, .events = POLLIN },
        { .fd = in->options.wake_fd, .events = POLLIN },
    };
    const int ready = poll (fds, 2, in->options.idle_ms);
    if (ready < 0)
        return errno == EINTR ? FM_TIMEOUT : -errno;
    if (fds[1].revents)
        return FM_INTERRUPTED;
    return ready == 0 ? FM_TIMEOUT : 0;
}

int input_more (struct input *in)
{
    if (in->ended)
        return FM_ERR_END;
    /* One byte of grace: the delimiter may be all that is missing. */
    if (in->end - in->start > in->options.record_max + 1)
        return error_set (FM_ERR_TOO_LARGE, "%s:%llu: more than the limit of %zu bytes", in->name,
                          (unsigned long long) in->line, in->options.record_max);
    int rc = input_wait (in);
    if (rc < 0)
        return rc;
    rc = input_make_room (in);
    if (rc < 0)
        return rc;
    const ssize_t got = read (in->fd, in->buffer + in->end, in->size - in->end);
    if (got < 0) {
        rc = -errno;
        if (rc == -EINTR || rc == -EAGAIN)
            return FM_TIMEOUT;
        return error_set (rc, "%s:%llu: %s", in->name, (unsigned long long) in->line, strerror (-rc));
    }
    if (got == 0) {
        in->ended = true;
        return FM_ERR_END;
    }
    in->end += (size_t) got;
    return 0;
}

static int input_check_size (const struct input *in, size_t len)
{
    if (len <= in->options.record_max)
        return 0;
    return error_set (FM_ERR_TOO_LARGE, "%s:%llu: %zu bytes, more than the limit of %zu", in->name,
                      (unsigned long long) in->line, len, in->options.record_max);
}

int input_line (struct input *in, uint8_t delimiter, struct input_record *ret_record)
{
    const uint8_t *found;
    int rc = 0;
    for (;;) {
        const struct fm_slice pending = input_pending (in);
        const uint8_t *const fresh = (const uint8_t *) pending.data + in->scanned;
        found = pending.len > in->scanned ? memchr (fresh, delimiter, pending.len - in->scanned) : NULL;
        if (found || rc == FM_ERR_END)
            break;
        in->scanned = pending.len;
        rc = input_more (in);
        if (rc < 0 && rc != FM_ERR_END)
            return rc;
    }
    /* Asked for again: reading may have moved it. */
    const struct fm_slice pending = input_pending (in);
    if (!found && pending.len == 0)
        return FM_ERR_END;
    const size_t len = found ? (size_t) (found - (const uint8_t *) pending.data) : pending.len;
    rc = input_check_size (in, len);
    if (rc < 0)
        return rc;
    *ret_record = (struct input_record){ .payload = slice (pending.data, len), .line = in->line };
    input_take (in, found ? len + 1 : len, 1);
    return 0;
}

int input_whole (struct input *in, struct input_record *ret_record)
{
    if (in->whole_given)
        return FM_ERR_END;
    int rc;
    while ((rc = input_more (in)) == 0) {
    }
    if (rc != FM_ERR_END)
        return rc;
    const struct fm_slice all = input_pending (in);
    rc = input_check_size (in, all.len);
    if (rc < 0)
        return rc;
    *ret_record = (struct input_record){ .payload = all, .line = 1 };
    in->whole_given = true;
    return 0;
}
