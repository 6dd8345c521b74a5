#include "clock.h"

#include <assert.h>
#include <time.h>

static uint64_t clock_ns (clockid_t which)
{
    struct timespec t;
    const int rc = clock_gettime (which, &t);
    assert (rc == 0);
    (void) rc;          /* used by the assert alone */
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static uint64_t real_unix_ns (void *context)
{
    (void) context;     /* the machine's own clock needs none */
    return clock_ns (CLOCK_REALTIME);
}

static uint64_t real_monotonic_ns (void *context)
{
    (void) context;
    return clock_ns (CLOCK_MONOTONIC);
}

const struct clock clock_real = { .unix_ns = real_unix_ns, .monotonic_ns = real_monotonic_ns };
