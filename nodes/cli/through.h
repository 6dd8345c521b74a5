/* through: how far each stream of a replay is complete: what is at or below has been printed, or was done before its
 * start.
 *
 * Bounded: THROUGH_STREAMS_MAX streams.   Thread: none of its own. */

#ifndef FM_CLI_THROUGH_H
#define FM_CLI_THROUGH_H

#include "id.h"

enum { THROUGH_STREAMS_MAX = 1 << 22 };

struct through_entry {
    struct fm_id stream;
    uint64_t seq; /* 0: a free slot */
};

/* Zero-initialised. */
struct through {
    struct through_entry *slots; /* open addressing */
    size_t count, size;          /* size: a power of two */
};

void through_release (struct through *t);

/* 0 when the stream is not known. */
uint64_t through_get (const struct through *t, const struct fm_id *stream);

/* The stream is complete through seq; a smaller number than before changes nothing. 0, -ENOMEM, FM_ERR_LIMIT. */
int through_put (struct through *t, const struct fm_id *stream, uint64_t seq);

#endif
