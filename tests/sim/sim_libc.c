/* What the code under test calls of the C library, for threads of the simulation: time, chance, threads, waiting, files. Calls that do not
 * concern it go on to the system. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "sim_disk.h"
#include "sim_inner.h"

enum { FDS_MAX = 4096, UNIX_OFFSET_S = 1700000000 };

enum kind { FREE, SOCKET, EVENT, TIMER, EPOLL, FILE_OR_DIR };

struct watch {
    int fd;
    struct epoll_event event;
};

struct descriptor {
    enum kind kind;
    bool (*is_readable) (void *arg);        /* SOCKET */
    void *arg;
    uint64_t count;                         /* EVENT; TIMER: when it rings */
    struct watch *watches;                  /* EPOLL */
    size_t watch_count, watch_size;
    struct sim_file *file;
};

struct waiter {
    struct waiter *next;
    const void *condition;
    bool signalled;
};

static struct descriptor fds[FDS_MAX];
static int fd_free, fd_end;
static struct waiter *waiters;
static bool active;

void sim_libc_begin (void)
{
    active = true;
    fd_free = fd_end = 0;
    waiters = NULL;
}

void sim_libc_end (void)
{
    for (int i = 0; i < fd_end; i++) {
        if (fds[i].kind != FREE) {
            fprintf (stderr, "descriptor %d of kind %d was not closed\n", i, (int) fds[i].kind);
            abort ();
        }
        free (fds[i].watches);
        fds[i] = (struct descriptor) { .kind = FREE };
    }
    active = false;
}

static int failed (int rc)
{
    if (rc >= 0)
        return rc;
    errno = -rc;
    return -1;
}

/* --- Descriptors. */

static struct descriptor *get (int fd)
{
    return fd >= SIM_FD_BASE && fd < SIM_FD_BASE + fd_end ? &fds[fd - SIM_FD_BASE] : NULL;
}

static int fd_new (enum kind kind)
{
    int i = fd_free;
    while (i < fd_end && fds[i].kind != FREE)
        i++;
    assert (i < FDS_MAX);
    if (i == fd_end)
        fd_end++;
    fd_free = i + 1;
    fds[i].kind = kind;
    fds[i].count = 0;
    fds[i].watch_count = 0;
    return SIM_FD_BASE + i;
}

int sim_fd_new (bool (*is_readable) (void *arg), void *arg)
{
    const int fd = fd_new (SOCKET);
    get (fd)->is_readable = is_readable;
    get (fd)->arg = arg;
    return fd;
}

void sim_fd_close (int fd)
{
    struct descriptor *d = get (fd);
    assert (d && d->kind != FREE);
    if (d->kind == FILE_OR_DIR)
        sim_file_close (d->file);
    d->kind = FREE;
    if (fd - SIM_FD_BASE < fd_free)
        fd_free = fd - SIM_FD_BASE;
}

static bool is_readable (int fd);

static bool is_told (const struct watch *w)
{
    return (w->event.events & EPOLLIN) && is_readable (w->fd);
}

static bool is_readable (int fd)
{
    const struct descriptor *d = get (fd);
    if (!d)
        return false;
    switch (d->kind) {
    case SOCKET:
        return d->is_readable (d->arg);
    case EVENT:
        return d->count > 0;
    case TIMER:
        return d->count && d->count <= sim_now ();
    case EPOLL:
        for (size_t i = 0; i < d->watch_count; i++)
            if (is_told (&d->watches[i]))
                return true;
        return false;
    case FREE:
    case FILE_OR_DIR:
        break;
    }
    return false;
}

static bool fd_ready (void *arg)
{
    return is_readable (*(const int *) arg);
}

int epoll_create1 (int flags)
{
    (void) flags;
    return fd_new (EPOLL);
}

int epoll_ctl (int epfd, int op, int fd, struct epoll_event *event)
{
    struct descriptor *d = get (epfd);
    assert (d && d->kind == EPOLL);
    size_t i = 0;
    while (i < d->watch_count && d->watches[i].fd != fd)
        i++;
    if (op == EPOLL_CTL_DEL) {
        if (i == d->watch_count)
            return failed (-ENOENT);
        memmove (&d->watches[i], &d->watches[i + 1], (--d->watch_count - i) * sizeof *d->watches);
        return 0;
    }
    if (op == EPOLL_CTL_MOD) {
        assert (i < d->watch_count);
        d->watches[i].event = *event;
        return 0;
    }
    assert (op == EPOLL_CTL_ADD && i == d->watch_count);
    if (d->watch_count == d->watch_size) {
        d->watch_size = d->watch_size ? 2 * d->watch_size : 8;
        d->watches = realloc (d->watches, d->watch_size * sizeof *d->watches);
        assert (d->watches);
    }
    d->watches[d->watch_count++] = (struct watch) { .fd = fd, .event = *event };
    return 0;
}

static uint64_t until_ms (int ms)
{
    return ms < 0 ? UINT64_MAX : sim_now () + (uint64_t) ms * SIM_MS;
}

int epoll_wait (int epfd, struct epoll_event *events, int max, int timeout)
{
    (void) sim_wait (fd_ready, &epfd, until_ms (timeout));
    const struct descriptor *d = get (epfd);
    int count = 0;
    for (size_t i = 0; i < d->watch_count && count < max; i++)
        if (is_told (&d->watches[i]))
            events[count++] = d->watches[i].event;
    return count;
}

int poll (struct pollfd *polled, nfds_t count, int timeout)
{
    assert (count == 1);
    (void) sim_wait (fd_ready, &polled->fd, until_ms (timeout));
    polled->revents = is_readable (polled->fd) ? POLLIN : 0;
    return polled->revents != 0;
}

int eventfd (unsigned count, int flags)
{
    (void) flags;
    const int fd = fd_new (EVENT);
    get (fd)->count = count;
    return fd;
}

int timerfd_create (clockid_t clock, int flags)
{
    (void) clock;
    (void) flags;
    return fd_new (TIMER);
}

int timerfd_settime (int fd, int flags, const struct itimerspec *when, struct itimerspec *old)
{
    (void) flags;
    (void) old;
    get (fd)->count = (uint64_t) when->it_value.tv_sec * SIM_S + (uint64_t) when->it_value.tv_nsec;
    return 0;
}

/* --- Files. */

static struct sim_disk *disk_here (void)
{
    return sim_self () ? sim_self ()->disk : NULL;
}

static bool is_ours (int dir, const char *path)
{
    return get (dir) || strncmp (path, "/sim", 4) == 0;
}

static struct sim_file *file_of (int fd)
{
    const struct descriptor *d = get (fd);
    return d && d->kind == FILE_OR_DIR ? d->file : NULL;
}

int openat (int dir, const char *path, int flags, ...)
{
    va_list arguments;
    va_start (arguments, flags);
    const unsigned mode = flags & O_CREAT ? va_arg (arguments, unsigned) : 0;
    va_end (arguments);
    if (!is_ours (dir, path))
        return (int) syscall (SYS_openat, dir, path, flags, mode);
    struct sim_file *f;
    const int rc = sim_file_open (disk_here (), file_of (dir), path, flags, &f);
    if (rc)
        return failed (rc);
    const int fd = fd_new (FILE_OR_DIR);
    get (fd)->file = f;
    return fd;
}

int open (const char *path, int flags, ...)
{
    va_list arguments;
    va_start (arguments, flags);
    const unsigned mode = flags & O_CREAT ? va_arg (arguments, unsigned) : 0;
    va_end (arguments);
    return openat (AT_FDCWD, path, flags, mode);
}

int mkdirat (int dir, const char *path, mode_t mode)
{
    if (!is_ours (dir, path))
        return (int) syscall (SYS_mkdirat, dir, path, mode);
    return failed (sim_file_make_dir (disk_here (), file_of (dir), path));
}

int mkdir (const char *path, mode_t mode)
{
    return mkdirat (AT_FDCWD, path, mode);
}

int unlinkat (int dir, const char *path, int flags)
{
    if (!is_ours (dir, path))
        return (int) syscall (SYS_unlinkat, dir, path, flags);
    return failed (sim_file_unlink (file_of (dir), path));
}

int renameat (int from_dir, const char *from, int to_dir, const char *to)
{
    assert (file_of (from_dir) && file_of (to_dir));
    return failed (sim_file_rename (file_of (from_dir), from, file_of (to_dir), to));
}

int close (int fd)
{
    if (!get (fd))
        return (int) syscall (SYS_close, fd);
    sim_fd_close (fd);
    return 0;
}

ssize_t read (int fd, void *buffer, size_t len)
{
    struct descriptor *d = get (fd);
    if (!d)
        return syscall (SYS_read, fd, buffer, len);
    if (d->kind == FILE_OR_DIR) {
        const long n = sim_file_read (d->file, buffer, len, NULL);
        return n < 0 ? failed ((int) n) : n;
    }
    if (!is_readable (fd))
        return failed (-EAGAIN);
    memcpy (buffer, &d->count, sizeof d->count);
    d->count = 0;
    return sizeof d->count;
}

ssize_t write (int fd, const void *buffer, size_t len)
{
    struct descriptor *d = get (fd);
    if (!d)
        return syscall (SYS_write, fd, buffer, len);
    if (d->kind == FILE_OR_DIR) {
        const long n = sim_file_write (d->file, buffer, len, NULL);
        return n < 0 ? failed ((int) n) : n;
    }
    d->count++;
    return (ssize_t) len;
}

ssize_t pread (int fd, void *buffer, size_t len, off_t pos)
{
    const uint64_t at = (uint64_t) pos;
    const long n = sim_file_read (file_of (fd), buffer, len, &at);
    return n < 0 ? failed ((int) n) : n;
}

ssize_t pwrite (int fd, const void *buffer, size_t len, off_t pos)
{
    const uint64_t at = (uint64_t) pos;
    const long n = sim_file_write (file_of (fd), buffer, len, &at);
    return n < 0 ? failed ((int) n) : n;
}

/* A sync takes a while, in which others go on, and the process may die. What was written meanwhile is synced too. */
static int sync_file (int fd)
{
    struct sim_process *p = sim_self ();
    if (p && !p->dead)
        sim_sleep (20000 + sim_below (&p->random, sim_chance (&p->random, 20) ? 100 * SIM_MS : p->sync_ns));
    return failed (sim_file_sync (file_of (fd)));
}

int fsync (int fd)
{
    return sync_file (fd);
}

int fdatasync (int fd)
{
    return sync_file (fd);
}

int ftruncate (int fd, off_t len)
{
    if (!get (fd))
        return (int) syscall (SYS_ftruncate, fd, len);
    return failed (sim_file_truncate (file_of (fd), (uint64_t) len));
}

int flock (int fd, int operation)
{
    if (!get (fd))
        return (int) syscall (SYS_flock, fd, operation);
    return failed (sim_file_lock (file_of (fd)));
}

int fstat (int fd, struct stat *st)
{
    if (!get (fd))
        return (int) syscall (SYS_newfstatat, fd, "", st, AT_EMPTY_PATH);
    *st = (struct stat) { .st_size = (off_t) sim_file_size (file_of (fd)) };
    return 0;
}

int posix_fadvise (int fd, off_t pos, off_t len, int advice)
{
    (void) fd;
    (void) pos;
    (void) len;
    (void) advice;
    return 0;
}

/* fs.h's list of the real file system reads directories in its own way. */
int sim_list (int fd, int (*each) (void *arg, const char *name), void *arg)
{
    return sim_file_list (file_of (fd), each, arg);
}

/* --- Time and chance. */

int clock_gettime (clockid_t clock, struct timespec *t)
{
    if (!active)
        return (int) syscall (SYS_clock_gettime, clock, t);
    const uint64_t now = sim_now ();
    t->tv_sec = (time_t) (now / SIM_S) + (clock == CLOCK_REALTIME ? UNIX_OFFSET_S : 0);
    t->tv_nsec = (long) (now % SIM_S);
    return 0;
}

ssize_t getrandom (void *buffer, size_t len, unsigned flags)
{
    if (!active)
        return syscall (SYS_getrandom, buffer, len, flags);
    struct sim_process *p = sim_self ();
    uint8_t *bytes = buffer;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t) sim_draw (p ? &p->random : sim_chances ());
    return (ssize_t) len;
}

/* --- Threads. */

int pthread_create (pthread_t *thread, const pthread_attr_t *attributes, void *(*run) (void *), void *arg)
{
    (void) attributes;
    *thread = (pthread_t) sim_thread_new (sim_self (), run, arg);
    return 0;
}

static bool thread_done (void *arg)
{
    return sim_thread_done (arg);
}

int pthread_join (pthread_t thread, void **ret)
{
    (void) ret;
    while (!sim_wait (thread_done, (void *) thread, UINT64_MAX))
        continue;
    return 0;
}

int pthread_setname_np (pthread_t thread, const char *name)
{
    (void) thread;
    (void) name;
    return 0;
}

/* Held by a thread that waits, say for the disk: let that one go on. */
int pthread_mutex_lock (pthread_mutex_t *mutex)
{
    while (pthread_mutex_trylock (mutex) != 0)
        if (sim_thread_self ())
            sim_yield ();
    return 0;
}

static bool waiter_signalled (void *arg)
{
    return ((const struct waiter *) arg)->signalled;
}

static int cond_wait (const void *condition, pthread_mutex_t *mutex, uint64_t until)
{
    struct waiter w = { .next = waiters, .condition = condition };
    waiters = &w;
    (void) pthread_mutex_unlock (mutex);
    const bool woken = sim_wait (waiter_signalled, &w, until);
    struct waiter **link = &waiters;
    while (*link != &w)
        link = &(*link)->next;
    *link = w.next;
    (void) pthread_mutex_lock (mutex);
    return woken ? 0 : ETIMEDOUT;
}

int pthread_cond_timedwait (pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    return cond_wait (condition, mutex, (uint64_t) until->tv_sec * SIM_S + (uint64_t) until->tv_nsec);
}

int pthread_cond_wait (pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    (void) cond_wait (condition, mutex, UINT64_MAX);
    return 0;
}

int pthread_cond_broadcast (pthread_cond_t *condition)
{
    for (struct waiter *w = waiters; w; w = w->next)
        w->signalled = w->signalled || w->condition == condition;
    return 0;
}

int pthread_cond_signal (pthread_cond_t *condition)
{
    return pthread_cond_broadcast (condition);      /* who wakes for nothing looks again */
}
