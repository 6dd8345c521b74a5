/* log_reader_inner: what log_reader.c (walking, filters) and log_reader_seek.c (seeking) share. */

#ifndef FM_JOURNAL_LOG_READER_INNER_H
#define FM_JOURNAL_LOG_READER_INNER_H

#include "log_state.h"

struct log_reader {
    struct log *log;
    struct log_view view;                   /* as of the last look */

    struct segment_scan scan;
    struct log_segment_view segment;        /* fd -1: none is open */
    uint64_t number;                        /* the open segment, or the one to be opened */
    uint64_t last_read;                     /* the last segment that was opened */
    uint64_t start_pos;                     /* where to begin in it; 0: at its first record */
    uint64_t next_offset;
    /* What comes next: scan.record, or the open segment left out whole. */
    enum { AT_NOTHING, AT_RECORD, AT_SKIPPED } at;

    /* What the open segment lost, once a hole was met in it; an entry that became due is empty. And what is due: to
     * be told before the next record. */
    bool lost_known;
    struct log_lost_list lost, due;
    size_t due_next;
    uint64_t due_offset;                    /* where the offsets jumped; 0: they did not */

    /* The streams of the segment that is left out, told one by one. */
    struct index_stream *skipped;
    uint32_t skipped_count, skipped_next;

    bool by_stream;
    struct fm_id stream;
    struct pattern {
        struct fm_slice text;
        size_t prefix;                      /* bytes that begin whatever matches; all of them: only they match */
    } *patterns;
    size_t pattern_count;
    uint8_t *pattern_bytes;
    struct fm_id sought;                    /* by log_reader_seek_seq */
};

/* Open the next segment that can be read. FM_ERR_END: there is none. */
int reader_enter_segment (struct log_reader *r);
/* Go to the next record that has offsets, from segment to segment; its header is in scan.record. What a hole on the
 * way hid is in r->due. Or, with may_skip, to a segment that is left out whole. */
int reader_step (struct log_reader *r, bool may_skip);
/* What is due is not told: a seek goes over it. */
void reader_forget_due (struct log_reader *r);

#endif
