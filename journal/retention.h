/* retention: may the oldest segment go? Pure. Segments go whole, oldest first, sealed ones only. */

#ifndef FM_JOURNAL_RETENTION_H
#define FM_JOURNAL_RETENTION_H

#include <stdbool.h>
#include <stdint.h>

struct retention {
    uint64_t retain_bytes;                  /* 0: no limit */
    uint64_t retain_age_ms;                 /* 0: no limit */
};

struct retention_segment {
    bool active;
    uint64_t last_time_ns;                  /* nothing in it is younger */
};

/* total_bytes: of all segments, this one included. */
bool retention_drops (const struct retention *r, const struct retention_segment *oldest, uint64_t total_bytes,
                      uint64_t now_ns);

#endif
