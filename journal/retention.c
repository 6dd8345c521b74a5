#include "retention.h"

bool retention_drops (const struct retention *r, const struct retention_segment *oldest, uint64_t total_bytes,
                      uint64_t now_ns)
{
    if (oldest->active)
        return false;
    if (r->retain_bytes > 0 && total_bytes > r->retain_bytes)
        return true;
    /* By division: a limit in milliseconds may be more nanoseconds than fit. A clock that was set back drops
     * nothing. */
    return r->retain_age_ms > 0 && now_ns > oldest->last_time_ns
           && (now_ns - oldest->last_time_ns) / 1000000 > r->retain_age_ms;
}
