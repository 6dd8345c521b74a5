/* fail_calls: fails one call of a process that may fail, whichever that is: loaded with LD_PRELOAD.
 *
 * Counts the calls of the program and of libfactmesh to the functions below, in all threads and in forked children; what other libraries call is
 * left alone: libzmq aborts by design when it has no memory. A call is told from others by its site: the function and who called it, CALLERS_MAX levels
 * deep. So a run that has its threads in another order meets the same sites.
 *
 *   FAIL_CALLS=FILE     where the sites are told: a file of REPORT_BYTES, mapped, so that a killed process has told them too
 *   FAIL_SITE=HEX       this site's call fails, as if there were no memory, no descriptor, no room …
 *   FAIL_AT=N           its N-th [1]
 *   FAIL_FOR=N          and N - 1 more behind it [1]
 *
 * Left out is what cannot fail with the arguments that it is given here, and is asserted: getrandom, clock_gettime, the options of sockets, the locks.
 * A program that is executed (sh -c …) is not watched: the constructor takes these out of the environment.
 * Thread:  any. No locks: a site is claimed in the table by its hash. */

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <json-c/json.h>
#include <link.h>
#include <microhttpd.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

enum { SITES_MAX = 8192, CALLERS_MAX = 4, NAME_MAX_LEN = 31, FRAMES_MAX = 32, MODULES_MAX = 4, RANGES_MAX = 8, STDIO_ERROR = 0x20 };

/* tests/e2e/fail_calls.py reads these bytes. */
struct site {
    _Atomic uint64_t hash;              /* 0: free */
    _Atomic uint64_t calls;
    _Atomic uint64_t failed;
    uint64_t callers[CALLERS_MAX];      /* module << 56 | address in it, of the call's return; 0: none */
    char name[NAME_MAX_LEN + 1];
};
struct report {
    _Atomic uint64_t lost;              /* sites that the table had no room for */
    struct site sites[SITES_MAX];
};

static struct report *report;
static uint64_t wanted;
static uint64_t first = 1, count = 1;
/* Where our own code lies. */
static struct range {
    uintptr_t begin, end, base;
    uint64_t module;
} ranges[RANGES_MAX];
static unsigned range_count;

static const struct range *range_of (const void *address)
{
    for (unsigned i = 0; i < range_count; i++)
        if ((uintptr_t) address >= ranges[i].begin && (uintptr_t) address < ranges[i].end)
            return &ranges[i];
    return NULL;
}

static struct site *site_find (uint64_t hash, const char *name, const uint64_t *callers)
{
    for (unsigned i = 0; i < SITES_MAX; i++) {
        struct site *s = &report->sites[(hash + i) % SITES_MAX];
        uint64_t seen = 0;
        if (atomic_compare_exchange_strong (&s->hash, &seen, hash)) {
            (void) strncpy (s->name, name, NAME_MAX_LEN);
            memcpy (s->callers, callers, sizeof s->callers);
            return s;
        }
        if (seen == hash)
            return s;
    }
    atomic_fetch_add (&report->lost, 1);
    return NULL;
}

static __attribute__ ((noinline)) bool fails (const char *name, const void *caller)
{
    static __thread bool inside;
    if (!report || inside || !range_of (caller))
        return false;
    inside = true;
    const int saved_errno = errno;
    void *frames[FRAMES_MAX];
    uint64_t callers[CALLERS_MAX] = { 0 }, hash = 14695981039346656037u;
    unsigned found = 0;
    const int n = backtrace (frames, FRAMES_MAX);
    for (int i = 0; i < n && found < CALLERS_MAX; i++) {
        const struct range *r = range_of (frames[i]);
        if (r)
            callers[found++] = r->module << 56 | ((uintptr_t) frames[i] - r->base);
    }
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char) *c) * 1099511628211u;
    for (unsigned i = 0; i < CALLERS_MAX; i++)
        for (unsigned b = 0; b < 64; b += 8)
            hash = (hash ^ (callers[i] >> b & 0xFF)) * 1099511628211u;
    hash += !hash;
    struct site *s = site_find (hash, name, callers);
    bool is_it = false;
    if (s) {
        const uint64_t call = atomic_fetch_add (&s->calls, 1) + 1;
        is_it = hash == wanted && call >= first && call - first < count;
        if (is_it)
            atomic_fetch_add (&s->failed, 1);
    }
    inside = false;
    errno = saved_errno;
    return is_it;
}

static int add_module (struct dl_phdr_info *info, size_t size, void *arg)
{
    (void) size;
    uint64_t *module = arg;
    const bool is_program = *module == 0;               /* the first that is told */
    if (is_program || strstr (info->dlpi_name, "libfactmesh"))
        for (unsigned i = 0; i < info->dlpi_phnum && range_count < RANGES_MAX; i++)
            if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
                const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
                ranges[range_count++] = (struct range) { begin, begin + info->dlpi_phdr[i].p_memsz, info->dlpi_addr, is_program ? 0 : 1 };
            }
    ++*module;
    return 0;
}

static __attribute__ ((constructor)) void start (void)
{
    const char *const path = getenv ("FAIL_CALLS"), *const site = getenv ("FAIL_SITE"), *const at = getenv ("FAIL_AT"), *const length = getenv ("FAIL_FOR");
    if (!path)
        return;
    wanted = site ? strtoull (site, NULL, 16) : 0;
    first = at ? strtoull (at, NULL, 10) : 1;
    count = length ? strtoull (length, NULL, 10) : 1;
    void *warm[1];
    (void) backtrace (warm, 1);                         /* it loads a library at its first call */
    uint64_t module = 0;
    (void) dl_iterate_phdr (add_module, &module);
    const int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *map = fd >= 0 && ftruncate (fd, sizeof (struct report)) == 0 ? mmap (NULL, sizeof (struct report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                                                                      : MAP_FAILED;
    if (map == MAP_FAILED) {
        (void) fprintf (stderr, "fail_calls: %s: %s\n", path, strerror (errno));
        _exit (99);
    }
    (void) close (fd);
    static const char *const names[] = { "FAIL_CALLS", "FAIL_SITE", "FAIL_AT", "FAIL_FOR", "LD_PRELOAD" };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        (void) unsetenv (names[i]);
    report = map;
}

/* --- What is failed. What may take a moment to be looked up is looked up once for each function. */

#define REAL(name)                                                                                                                                  \
    static __typeof__ (name) *_Atomic real_##name;                                                                                                  \
    static __typeof__ (name) *get_##name (void)                                                                                                     \
    {                                                                                                                                               \
        __typeof__ (name) *f = atomic_load_explicit (&real_##name, memory_order_relaxed);                                                           \
        if (!f) {                                                                                                                                   \
            f = (__typeof__ (name) *) dlsym (RTLD_NEXT, #name);                                                                                     \
            atomic_store_explicit (&real_##name, f, memory_order_relaxed);                                                                          \
        }                                                                                                                                           \
        return f;                                                                                                                                   \
    }
#define FAILS(name) fails (#name, __builtin_return_address (0))

/* It returns `result`, and errno says `error` (0: as it was). */
#define CALL(type, name, result, error, parameters, arguments)                                                                                      \
    REAL (name)                                                                                                                                     \
    __attribute__ ((visibility ("default"))) type name parameters                                                                                   \
    {                                                                                                                                               \
        if (FAILS (name)) {                                                                                                                         \
            if (error)                                                                                                                              \
                errno = (error);                                                                                                                    \
            return (result);                                                                                                                        \
        }                                                                                                                                           \
        return get_##name () arguments;                                                                                                             \
    }
/* The same; it has its effect, and says that it failed all the same. */
#define CALL_DONE(type, name, result, error, parameters, arguments)                                                                                 \
    REAL (name)                                                                                                                                     \
    __attribute__ ((visibility ("default"))) type name parameters                                                                                   \
    {                                                                                                                                               \
        const bool is_it = FAILS (name);                                                                                                            \
        type done = get_##name () arguments;                                                                                                        \
        if (!is_it)                                                                                                                                 \
            return done;                                                                                                                            \
        errno = (error);                                                                                                                            \
        return (result);                                                                                                                            \
    }
/* A stream remembers that a write failed. */
#define CALL_STREAM(type, name, result, stream, parameters, arguments)                                                                              \
    REAL (name)                                                                                                                                     \
    __attribute__ ((visibility ("default"))) type name parameters                                                                                   \
    {                                                                                                                                               \
        if ((stream) != stderr && FAILS (name)) {                                                                                                   \
            (stream)->_flags |= STDIO_ERROR;                                                                                                        \
            errno = EIO;                                                                                                                            \
            return (result);                                                                                                                        \
        }                                                                                                                                           \
        return get_##name () arguments;                                                                                                             \
    }

/* Memory. */
CALL (void *, malloc, NULL, ENOMEM, (size_t size), (size))
CALL (void *, calloc, NULL, ENOMEM, (size_t n, size_t size), (n, size))
CALL (void *, realloc, NULL, ENOMEM, (void *old, size_t size), (old, size))
CALL (char *, strdup, NULL, ENOMEM, (const char *s), (s))
CALL (char *, strndup, NULL, ENOMEM, (const char *s, size_t n), (s, n))
CALL (void *, mmap, MAP_FAILED, ENOMEM, (void *a, size_t n, int prot, int flags, int fd, off_t at), (a, n, prot, flags, fd, at))
CALL (int, setenv, -1, ENOMEM, (const char *name, const char *value, int over), (name, value, over))
CALL (FILE *, open_memstream, NULL, ENOMEM, (char **text, size_t *len), (text, len))

/* Descriptors and files. */
REAL (open)
__attribute__ ((visibility ("default"))) int open (const char *path, int flags, ...)
{
    va_list more;
    va_start (more, flags);
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg (more, mode_t) : 0;
    va_end (more);
    if (FAILS (open)) {
        errno = EMFILE;
        return -1;
    }
    return get_open () (path, flags, mode);
}
REAL (openat)
__attribute__ ((visibility ("default"))) int openat (int dir, const char *path, int flags, ...)
{
    va_list more;
    va_start (more, flags);
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg (more, mode_t) : 0;
    va_end (more);
    if (FAILS (openat)) {
        errno = EMFILE;
        return -1;
    }
    return get_openat () (dir, path, flags, mode);
}
REAL (fcntl)
__attribute__ ((visibility ("default"))) int fcntl (int fd, int command, ...)
{
    va_list more;
    va_start (more, command);
    void *const argument = va_arg (more, void *);
    va_end (more);
    if (FAILS (fcntl)) {
        errno = ENOLCK;
        return -1;
    }
    return get_fcntl () (fd, command, argument);
}
REAL (epoll_ctl)
__attribute__ ((visibility ("default"))) int epoll_ctl (int fd, int what, int other, struct epoll_event *e)
{
    if (what == EPOLL_CTL_ADD && FAILS (epoll_ctl)) {   /* the others cannot fail: it is there */
        errno = ENOSPC;
        return -1;
    }
    return get_epoll_ctl () (fd, what, other, e);
}
CALL (FILE *, fopen, NULL, EMFILE, (const char *path, const char *mode), (path, mode))
CALL (DIR *, fdopendir, NULL, ENOMEM, (int fd), (fd))
CALL (DIR *, opendir, NULL, EMFILE, (const char *path), (path))
CALL (struct dirent *, readdir, NULL, EIO, (DIR *dir), (dir))
CALL (ssize_t, read, -1, EIO, (int fd, void *to, size_t n), (fd, to, n))
CALL (ssize_t, pread, -1, EIO, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
CALL (ssize_t, write, -1, ENOSPC, (int fd, const void *from, size_t n), (fd, from, n))
CALL (ssize_t, pwrite, -1, ENOSPC, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
CALL (off_t, lseek, -1, ESPIPE, (int fd, off_t at, int whence), (fd, at, whence))
CALL (int, fstat, -1, EIO, (int fd, struct stat *s), (fd, s))
CALL (int, stat, -1, EACCES, (const char *path, struct stat *s), (path, s))
CALL (int, fstatat, -1, EACCES, (int fd, const char *path, struct stat *s, int flags), (fd, path, s, flags))
CALL (int, access, -1, EACCES, (const char *path, int mode), (path, mode))
CALL (int, fsync, -1, EIO, (int fd), (fd))
CALL (int, fdatasync, -1, EIO, (int fd), (fd))
CALL (int, ftruncate, -1, ENOSPC, (int fd, off_t n), (fd, n))
CALL (int, flock, -1, ENOLCK, (int fd, int what), (fd, what))
CALL (int, rename, -1, EIO, (const char *from, const char *to), (from, to))
CALL (int, renameat, -1, EIO, (int a, const char *from, int b, const char *to), (a, from, b, to))
CALL (int, unlink, -1, EACCES, (const char *path), (path))
CALL (int, unlinkat, -1, EACCES, (int fd, const char *path, int flags), (fd, path, flags))
CALL (int, mkdir, -1, ENOSPC, (const char *path, mode_t mode), (path, mode))
CALL (int, mkdirat, -1, ENOSPC, (int fd, const char *path, mode_t mode), (fd, path, mode))
CALL_DONE (int, close, -1, EIO, (int fd), (fd))
CALL (int, dup2, -1, EMFILE, (int from, int to), (from, to))
CALL (int, pipe2, -1, EMFILE, (int fds[2], int flags), (fds, flags))
CALL (int, memfd_create, -1, EMFILE, (const char *name, unsigned flags), (name, flags))
CALL (int, eventfd, -1, EMFILE, (unsigned n, int flags), (n, flags))
CALL (int, timerfd_create, -1, EMFILE, (int clock, int flags), (clock, flags))
CALL (int, timerfd_settime, -1, ECANCELED, (int fd, int flags, const struct itimerspec *to, struct itimerspec *was), (fd, flags, to, was))
CALL (int, epoll_create1, -1, EMFILE, (int flags), (flags))
CALL (int, epoll_wait, -1, EINTR, (int fd, struct epoll_event *e, int n, int ms), (fd, e, n, ms))
CALL (int, poll, -1, EINTR, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms))
CALL (int, ppoll, -1, EINTR, (struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *set), (fds, n, t, set))
CALL (int, socket, -1, EMFILE, (int domain, int type, int protocol), (domain, type, protocol))
CALL (int, getaddrinfo, EAI_MEMORY, 0, (const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret), (node, service, hints, ret))
CALL (int, getifaddrs, -1, ENOMEM, (struct ifaddrs **ret), (ret))
CALL (int, gethostname, -1, ENAMETOOLONG, (char *name, size_t n), (name, n))

/* Threads and processes. */
CALL (int, pthread_create, EAGAIN, 0, (pthread_t *t, const pthread_attr_t *a, void *(*run) (void *), void *arg), (t, a, run, arg))
CALL (pid_t, fork, -1, EAGAIN, (void), ())
CALL (pid_t, waitpid, -1, EINTR, (pid_t pid, int *status, int options), (pid, status, options))
CALL (int, setpgid, -1, EPERM, (pid_t pid, pid_t group), (pid, group))

/* Standard streams; errors are told on stderr, which is left alone. */
CALL_STREAM (size_t, fwrite, 0, to, (const void *from, size_t size, size_t n, FILE *to), (from, size, n, to))
CALL_STREAM (int, fputs, EOF, to, (const char *text, FILE *to), (text, to))
CALL_STREAM (int, fputc, EOF, to, (int c, FILE *to), (c, to))
CALL_STREAM (int, putc, EOF, to, (int c, FILE *to), (c, to))
CALL_STREAM (int, puts, EOF, stdout, (const char *text), (text))
CALL_STREAM (int, fflush, EOF, to, (FILE *to), (to))
CALL_DONE (int, fclose, EOF, ENOSPC, (FILE *file), (file))
__attribute__ ((visibility ("default"))) int printf (const char *format, ...)
{
    if (FAILS (printf)) {
        stdout->_flags |= STDIO_ERROR;
        errno = EIO;
        return -1;
    }
    va_list more;
    va_start (more, format);
    const int n = vfprintf (stdout, format, more);
    va_end (more);
    return n;
}
__attribute__ ((visibility ("default"))) int fprintf (FILE *to, const char *format, ...)
{
    if (to != stderr && FAILS (fprintf)) {
        to->_flags |= STDIO_ERROR;
        errno = EIO;
        return -1;
    }
    va_list more;
    va_start (more, format);
    const int n = vfprintf (to, format, more);
    va_end (more);
    return n;
}

/* ZeroMQ. */
CALL (void *, zmq_ctx_new, NULL, EMFILE, (void), ())
CALL (void *, zmq_socket, NULL, EMFILE, (void *context, int type), (context, type))
CALL (int, zmq_bind, -1, EMTHREAD, (void *s, const char *address), (s, address))
CALL (int, zmq_connect, -1, EMTHREAD, (void *s, const char *address), (s, address))
CALL (int, zmq_msg_init_size, -1, ENOMEM, (zmq_msg_t *m, size_t n), (m, n))
CALL (int, zmq_msg_init_data, -1, ENOMEM, (zmq_msg_t *m, void *data, size_t n, zmq_free_fn *f, void *hint), (m, data, n, f, hint))
CALL (int, zmq_msg_send, -1, EAGAIN, (zmq_msg_t *m, void *s, int flags), (m, s, flags))
CALL (int, zmq_send, -1, EAGAIN, (void *s, const void *from, size_t n, int flags), (s, from, n, flags))

/* SQLite. */
CALL (int, sqlite3_open, SQLITE_NOMEM, 0, (const char *path, sqlite3 **ret), (path, ret))
CALL (int, sqlite3_open_v2, SQLITE_NOMEM, 0, (const char *path, sqlite3 **ret, int flags, const char *vfs), (path, ret, flags, vfs))
CALL (int, sqlite3_prepare_v2, SQLITE_NOMEM, 0, (sqlite3 *db, const char *sql, int n, sqlite3_stmt **ret, const char **tail), (db, sql, n, ret, tail))
CALL (int, sqlite3_prepare_v3, SQLITE_NOMEM, 0, (sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **ret, const char **tail),
      (db, sql, n, flags, ret, tail))
CALL (int, sqlite3_bind_blob64, SQLITE_NOMEM, 0, (sqlite3_stmt *s, int i, const void *p, sqlite3_uint64 n, void (*f) (void *)), (s, i, p, n, f))
CALL (int, sqlite3_bind_text, SQLITE_NOMEM, 0, (sqlite3_stmt *s, int i, const char *p, int n, void (*f) (void *)), (s, i, p, n, f))
CALL (int, sqlite3_exec, SQLITE_FULL, 0, (sqlite3 *db, const char *sql, int (*f) (void *, int, char **, char **), void *arg, char **text),
      (db, sql, f, arg, text))
CALL (int, sqlite3_step, SQLITE_IOERR, 0, (sqlite3_stmt *s), (s))

/* The other libraries. */
CALL (EVP_MD_CTX *, EVP_MD_CTX_new, NULL, 0, (void), ())
CALL (int, EVP_DigestInit_ex, 0, 0, (EVP_MD_CTX *c, const EVP_MD *type, ENGINE *engine), (c, type, engine))
CALL (int, EVP_MD_CTX_copy_ex, 0, 0, (EVP_MD_CTX *to, const EVP_MD_CTX *from), (to, from))
CALL (struct json_object *, json_object_new_object, NULL, ENOMEM, (void), ())
CALL (struct json_object *, json_object_new_array, NULL, ENOMEM, (void), ())
CALL (struct json_object *, json_object_new_int64, NULL, ENOMEM, (int64_t n), (n))
CALL (struct json_object *, json_object_new_string, NULL, ENOMEM, (const char *s), (s))
CALL (int, json_object_object_add, -1, ENOMEM, (struct json_object *o, const char *key, struct json_object *value), (o, key, value))
CALL (int, json_object_array_add, -1, ENOMEM, (struct json_object *o, struct json_object *value), (o, value))
CALL (const char *, json_object_to_json_string_ext, NULL, ENOMEM, (struct json_object *o, int flags), (o, flags))
CALL (struct json_tokener *, json_tokener_new_ex, NULL, ENOMEM, (int depth), (depth))
CALL (struct MHD_Response *, MHD_create_response_from_buffer, NULL, 0, (size_t n, void *from, enum MHD_ResponseMemoryMode mode), (n, from, mode))
CALL (struct MHD_Response *, MHD_create_response_from_callback, NULL, 0,
      (uint64_t size, size_t block, MHD_ContentReaderCallback f, void *arg, MHD_ContentReaderFreeCallback g), (size, block, f, arg, g))
CALL (enum MHD_Result, MHD_add_response_header, MHD_NO, 0, (struct MHD_Response *r, const char *name, const char *value), (r, name, value))
CALL (enum MHD_Result, MHD_queue_response, MHD_NO, 0, (struct MHD_Connection *c, unsigned status, struct MHD_Response *r), (c, status, r))

__attribute__ ((visibility ("default"))) struct MHD_Daemon *MHD_start_daemon (unsigned flags, uint16_t port, MHD_AcceptPolicyCallback accepts, void *accept_arg,
                                                                              MHD_AccessHandlerCallback handler, void *handler_arg, ...)
{
    if (FAILS (MHD_start_daemon)) {
        errno = EMFILE;
        return NULL;
    }
    va_list more;
    va_start (more, handler_arg);
    struct MHD_Daemon *const daemon = MHD_start_daemon_va (flags, port, accepts, accept_arg, handler, handler_arg, more);
    va_end (more);
    return daemon;
}
