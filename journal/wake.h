/* wake: one thread tells another that there is something to look at. An eventfd that is written at most once until it is read.
 *
 * Promise: what was done before wake_raise is seen by whoever looks after wake_clear. */

#ifndef FM_JOURNAL_WAKE_H
#define FM_JOURNAL_WAKE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct wake {
    int fd;                         /* to be polled by the thread that is woken */
    atomic_bool raised;
};

/* 0 or -errno. */
static inline int wake_init (struct wake *w)
{
    atomic_init (&w->raised, false);
    w->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->fd < 0 ? -errno : 0;
}

static inline void wake_release (struct wake *w)
{
    if (w->fd >= 0)
        close (w->fd);
    w->fd = -1;
}

/* Any thread. */
static inline void wake_raise (struct wake *w)
{
    const uint64_t one = 1;
    if (!atomic_exchange (&w->raised, true))
        (void) !write (w->fd, &one, sizeof one);    /* fails only when it is readable anyway */
}

/* The thread that is woken, before it looks. */
static inline void wake_clear (struct wake *w)
{
    uint64_t count;
    (void) !read (w->fd, &count, sizeof count);     /* nothing there: woken by something else */
    atomic_store (&w->raised, false);
}

#endif
