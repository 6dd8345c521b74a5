/* listen: what is written to a descriptor of this process meanwhile. */

#ifndef FM_TESTS_LISTEN_H
#define FM_TESTS_LISTEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { LISTEN_TEXT_MAX = 1 << 16 };

struct listener {
    int fd, saved, file;
};

static inline struct listener listen_to (int fd)
{
    (void) fflush (NULL);
    const struct listener l = { fd, dup (fd), memfd_create ("said", MFD_CLOEXEC) };
    assert_true (l.saved >= 0 && l.file >= 0 && dup2 (l.file, fd) == fd);
    return l;
}

/* The end of it. */
static inline void heard (const struct listener *l, char text[LISTEN_TEXT_MAX])
{
    (void) fflush (NULL);
    assert_int_equal (dup2 (l->saved, l->fd), l->fd);
    (void) close (l->saved);
    const ssize_t n = pread (l->file, text, LISTEN_TEXT_MAX - 1, 0);
    assert_true (n >= 0);
    text[n] = 0;
    (void) close (l->file);
}

static inline void expect_heard (const struct listener *l, const char *text)
{
    static char got[LISTEN_TEXT_MAX];
    heard (l, got);
    assert_string_equal (got, text);
}

#endif
