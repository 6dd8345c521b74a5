/* log_repair_inner: what the parts of a repair share.
 *
 *     log_repair.c           findings of log_verify, in order; reports, quarantine, what is known where a segment begins
 *     log_repair_examine.c   what is wrong with one segment
 *     log_repair_mark.c      which of the facts that are put back repeat others
 *     log_repair_mend.c      a segment that can be read, made anew
 *     log_repair_lost.c      segments that are lost whole */

#ifndef FM_JOURNAL_LOG_REPAIR_INNER_H
#define FM_JOURNAL_LOG_REPAIR_INNER_H

#include "draft.h"
#include "fill.h"
#include "log_repair.h"

struct repair {
    struct log *log;
    const struct repair_options *options;
    struct log_view view;
    struct repair_result result;
    bool no_memory;
};

/* What is not a whole record in a segment. */
struct spot {
    enum spot_kind {
        SPOT_HOLE,                          /* no header */
        SPOT_BATCH,                         /* a batch's header */
        SPOT_GAP,                           /* a gap's header */
        SPOT_EMPTY,                         /* took no offsets: a cursor's record, or a mark */
        SPOT_SNAPSHOT,                      /* in the snapshots */
        SPOT_END                            /* what was cut off */
    } kind;
    uint64_t pos, end_pos;
    struct record record;                   /* SPOT_BATCH, SPOT_GAP */
    size_t hole;                            /* of the fill; SIZE_MAX: none */
    uint8_t gap_body[RECORD_GAP_LEN];       /* SPOT_GAP: found again */
    bool gap_found;
};

/* One segment under repair. */
struct patient {
    struct repair *repair;
    struct log_segment_view view;
    uint64_t records_end, end_offset;       /* behind the last record, or the last hole */
    uint64_t last_time_ns;
    bool header_lost, footer_lost;          /* one of the header's copies; the footer */
    bool snapshots_lost;
    struct spot *spots;
    size_t count, size;
    struct refetch refetch;
    struct fill fill;
};

/* --- log_repair.c */

/* One line of the report. */
void repair_tell (struct repair *r, uint64_t segment, struct repair_told *t);
/* Tell of each range what was put back of it and what was not. */
void repair_report_ranges (struct repair *r, uint64_t number, const struct refetch *f, const struct fill *fill);
void repair_report_remade (struct repair *r, uint64_t number, const char *what);

/* Copy [pos, end) of a segment, durable on return. A copy that an earlier run made is found again, and written once more: whether it is on
 * disk is not known. */
int repair_quarantine (struct repair *r, int fd, uint64_t number, uint64_t pos, uint64_t end);

/* What is known of streams and cursors where a segment begins. Begin with zeros; release it whatever came of it. */
struct repair_known {
    struct stream_table streams;
    struct cursor_table cursors;
};
/* From the nearest whole snapshots before segment `number`; state points into *k. *ret_whole: nothing between was lost. */
int repair_known_before (struct repair *r, uint64_t number, struct repair_known *k, struct recover_state *state, bool *ret_whole);
void repair_known_release (struct repair_known *k);

void patient_init (struct patient *p, struct repair *r);
void patient_release (struct patient *p);

/* --- log_repair_examine.c: find its spots, its holes, and what was lost in them. */
int patient_examine (struct patient *p);

/* --- log_repair_mark.c. number: of the first of the segments that are lost whole, and go into `hole`; NULL: of one that can be read. */
int patient_mark (struct patient *p, uint64_t number, const struct fill_hole *hole);

/* --- log_repair_mend.c */

/* What log_verify found of a segment. */
struct finding {
    bool damaged, header_lost, footer_lost;
};
/* Mend a segment that can be read, whatever is wrong with it. */
int repair_segment (struct repair *r, uint64_t number, const struct finding *f);
bool patient_is_filled (const struct patient *p, const struct spot *spot);
/* Write the parts that were put into one hole. */
int patient_put_hole (struct patient *p, struct draft *d, const struct fill_hole *hole);

/* --- log_repair_lost.c: make segments [first, next) anew, none of which can be read; next_header is of the one behind them. */
int repair_lost (struct repair *r, uint64_t first, uint64_t next, const struct segment_header *next_header);

#endif
