/* log_repair: make a damaged log whole again, as far as it can be: what follows from the rest is made anew (headers, footers, snapshots);
 * facts are fetched from another holder and put back where they lay.
 *
 *     verify ──▶ which segments ──▶ what did each lose ──▶ fetch ──▶ fill ──▶ quarantine ──▶ draft ──▶ in its place
 *
 * Promise: nothing is taken away: the bytes that are replaced lie in quarantine/, synced, before. A segment is replaced by one rename, after
 *          the new one is synced; cut short anywhere, every segment is the old one or the new one, and a second run does the rest. Every fact
 *          that was whole keeps its offset. A fact that is put back has the offset that it had (fill.h says when that is not known).
 * Thread:  one. The log was opened by log_open and nobody appends; close it afterwards, for what it knows of replaced segments is old.
 *          Read-only: what could be done is told, and nothing is written. */

#ifndef FM_JOURNAL_LOG_REPAIR_H
#define FM_JOURNAL_LOG_REPAIR_H

#include "refetch.h"

enum repair_outcome {
    REPAIR_REFETCHED,                       /* facts were put back */
    REPAIR_REMADE,                          /* what follows from the rest was made anew; no facts were lost */
    REPAIR_LEFT                             /* it stays lost: subscribers are told a gap, `damaged` */
};

/* One line of the report. */
struct repair_told {
    enum repair_outcome outcome;
    char path[512];
    uint64_t segment;
    struct fm_id stream;                    /* zero: no facts */
    uint64_t first_seq, end_seq;
    uint64_t first_offset, end_offset;      /* of facts put back; equal: not known */
    bool reordered;                         /* put back in the order of their publishers' times: what their order was could not be seen */
    const char *why;
};

struct repair_result {
    uint64_t damaged;                       /* ranges that log_verify found */
    uint64_t segments;                      /* made anew */
    uint64_t refetched, left;               /* facts */
    uint64_t quarantined;                   /* ranges */
    uint64_t refused;                       /* batches of the holder that did not fit */
};

struct repair_options {
    const struct refetch_source *source;    /* NULL: nobody is asked */
    void (*damage) (void *arg, const struct log_damage *d);     /* each, as log_verify finds it, before anything is done */
    void (*progress) (void *arg, uint64_t done, uint64_t all);  /* of that */
    void (*told) (void *arg, const struct repair_told *t);      /* what is done, or could be; before it is */
    void *arg;                              /* of all; each function may be NULL */
};

/* Returns 0 (also when something stays lost), the source's error, or -errno with a detail. */
int log_repair (struct log *log, const struct repair_options *options, struct repair_result *ret_result);

#endif
