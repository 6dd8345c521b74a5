/* clock: the only place that reads the time. Tests bring their own. */

#ifndef FM_PROTO_CLOCK_H
#define FM_PROTO_CLOCK_H

#include <stdint.h>

struct clock {
    void *context;
    uint64_t (*unix_ns) (void *context);        /* CLOCK_REALTIME: may jump either way */
    uint64_t (*monotonic_ns) (void *context);
};

extern const struct clock clock_real;

#endif
