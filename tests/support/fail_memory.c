#include "fail_memory.h"

#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

void *__real_malloc (size_t size);
void *__real_calloc (size_t count, size_t size);
void *__real_realloc (void *old, size_t size);
char *__real_strdup (const char *text);
void *__wrap_malloc (size_t size);
void *__wrap_calloc (size_t count, size_t size);
void *__wrap_realloc (void *old, size_t size);
char *__wrap_strdup (const char *text);

static atomic_ulong left;                   /* until the one that fails; 0: none */
static atomic_bool counts, happened;

void fail_memory_at (unsigned long n)
{
    atomic_store (&counts, false);
    atomic_store (&happened, false);
    atomic_store (&left, n);
    atomic_store (&counts, n > 0);
}

void fail_memory_pause (void)
{
    atomic_store (&counts, false);
}

void fail_memory_resume (void)
{
    atomic_store (&counts, true);
}

bool fail_memory_happened (void)
{
    return atomic_load (&happened);
}

/* MEMORY_TRACE=1: whose allocation it is, for addr2line. */
static void tell_whose (void)
{
    void *frames[12];
    if (getenv ("MEMORY_TRACE"))
        backtrace_symbols_fd (frames, backtrace (frames, sizeof frames / sizeof *frames), STDERR_FILENO);
}

static bool fails (void)
{
    if (!atomic_load (&counts))
        return false;
    unsigned long n = atomic_load (&left);
    while (n > 0)
        if (atomic_compare_exchange_weak (&left, &n, n - 1)) {
            if (n > 1)
                return false;
            atomic_store (&happened, true);
            tell_whose ();
            errno = ENOMEM;
            return true;
        }
    return false;
}

void *__wrap_malloc (size_t size)
{
    return fails () ? NULL : __real_malloc (size);
}

void *__wrap_calloc (size_t count, size_t size)
{
    return fails () ? NULL : __real_calloc (count, size);
}

void *__wrap_realloc (void *old, size_t size)
{
    return fails () ? NULL : __real_realloc (old, size);
}

char *__wrap_strdup (const char *text)
{
    return fails () ? NULL : __real_strdup (text);
}
