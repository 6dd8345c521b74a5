/* refetch: get ranges that a log lost from another holder, check them, and cut them to fit.
 *
 * Owns:    the ranges, what of each was found, and a file in segments/ in which the batches wait (refetched.tmp).
 * Thread:  one.
 * Promise: what is found of a range lies within it, in sequence order, each sequence once; batches are of the log's mesh,
 *          of the range's stream, of epochs that fit those around it, and all of their facts decode. What no batch and no
 *          gap of the holder tells is a part that says `missing`: parts leave nothing out.
 * Bounded: REFETCH_PARTS_MAX parts; their bytes are on disk. */

#ifndef FM_JOURNAL_REFETCH_H
#define FM_JOURNAL_REFETCH_H

#include "log_state.h"

enum {
    REFETCH_PARTS_MAX = 8 << 20,            /* of one segment: more batches than one of 4 GiB of small ones holds */
    REFETCH_GAPS_MAX = 4096                 /* of one range; of more, the rest counts as not told */
};

struct refetch;

/* Who is asked. fetch hands all that it has of sequences [first, end) of the stream to refetch_batch and refetch_gap, and returns 0;
 * an error ends the repair. */
struct refetch_source {
    void *context;
    int (*fetch) (void *context, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq, struct refetch *into);
};

/* What a source found. A batch may reach beyond what was asked for; what does not fit is not taken, and counted. Returns 0, or an error
 * that fetch must return: -ENOMEM, FM_ERR_LIMIT, -errno of the file. */
int refetch_batch (struct refetch *f, struct fm_slice bytes);
int refetch_gap (struct refetch *f, uint64_t first_seq, uint64_t end_seq, uint32_t reason);

/* A source that is another journal's directory: context is a struct log, open read-only. */
int refetch_from_log (void *context, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq,
                      struct refetch *into);

enum part_kind { PART_BATCH, PART_GAP, PART_MISSING };
struct refetch_part {
    enum part_kind kind;
    uint32_t reason;                        /* PART_GAP */
    uint64_t first_seq, end_seq;
    struct log_life life;                   /* PART_BATCH, and so are these */
    uint64_t time_ns;                       /* its publisher's, made non-decreasing within the range */
    uint64_t pos;                           /* in the file */
    uint32_t len;
};

/* One range of a stream. */
struct refetch_range {
    struct log_lost lost;
    size_t first_part, end_part;            /* [first, end) of the parts */
    bool owned;                             /* by one damaged record whose header is good: no hole takes of it */
    /* How much of it was put to a place: parts below, and of a missing one so many sequences. */
    size_t next_part;
    uint64_t next_missing;
    int kept_from;                          /* enum fill_outcome: why what was found was not put to its place; 0: it was */
};

struct refetch {
    struct log *log;
    struct refetch_range *ranges;
    size_t range_count, range_size;
    struct refetch_part *parts;
    size_t part_count, part_size;
    uint64_t facts;                         /* that were found */
    uint64_t refused;                       /* batches that do not fit */
    bool identities;                        /* some of them have */

    struct refetch_range *range;            /* that is being fetched */
    uint64_t next_seq;
    struct log_life life;
    uint64_t time_ns;
    struct refetch_part *gaps;
    size_t gap_count;
    struct batch_scratch scratch;
    uint8_t *cut;                           /* a batch that was cut to fit */
    size_t cut_size;
    int fd;                                 /* -1: none */
    uint64_t end_pos;
};

void refetch_init (struct refetch *f, struct log *log);
/* Also removes the file. */
void refetch_release (struct refetch *f);

/* Add a range; all of it is missing until it is fetched. -ENOMEM. */
int refetch_add (struct refetch *f, const struct log_lost *lost);
/* Ask for all ranges; source NULL: nobody is asked. Once, after the ranges were added. */
int refetch_all (struct refetch *f, const struct refetch_source *source);
/* Put bytes in front of a PART_BATCH, b: it is stored anew. */
int refetch_mark (struct refetch *f, struct refetch_part *part, const struct batch *b, struct fm_slice front);
/* The bytes of a PART_BATCH, into a buffer of its length. */
int refetch_read (struct refetch *f, const struct refetch_part *part, uint64_t from, void *buffer, size_t len);

#endif
