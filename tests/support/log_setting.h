/* log_setting: what the tests of the log do again and again, with cmocka's checks: a log in a directory of its own,
 * a workload whose contents can be checked from the log alone, segments whose contents are known, and a reader's
 * next item. */

#ifndef FM_TESTS_LOG_SETTING_H
#define FM_TESTS_LOG_SETTING_H

#include "log_kit.h"

/* --- A log. cmocka's state is a struct log_setting. */

struct log_setting {
    char directory[128];
    struct log *log;
    struct kit_clock clock;
    struct log_options options;
};
/* Segments of 1 MiB; with a clock that stands still, or the real one. */
int log_set_up (void **state);
int log_set_up_real_clock (void **state);
int log_tear_down (void **state);
struct log_setting *setting_of (void **state);
/* As after kill -9: nothing is written or synced before. */
struct log_recovery reopen (struct log_setting *s);

/* --- A workload: streams 1 to WORK_STREAMS, batches of 1 to 3 facts, whose sizes (up to `largest` bytes a payload)
 * and topics follow from stream and sequence. */

enum { WORK_STREAMS = 3 };
struct kit_batch_spec work_spec (unsigned stream, uint64_t first_seq, size_t largest);
/* Which stream of the workload is it? WORK_STREAMS + 1: none. */
unsigned work_stream (const struct fm_id *id);
/* The stream's next sequence, as the log knows it. */
uint64_t work_next_seq (struct log *log, unsigned stream);
/* Append the stream's next batch; 0 or log_append's error. */
int work_append (struct log *log, unsigned stream, size_t largest);

struct work_contents {
    uint64_t next_seq[WORK_STREAMS + 1];
    uint64_t batches, gaps, end_offset;
};
/* Read everything, and compare each batch with what was appended. Sequences have no holes but those that gaps tell. */
struct work_contents work_check (struct log *log, size_t largest);
/* Does the log's stream table say the same? */
void work_check_streams (struct log *log, const struct work_contents *c);

/* --- Segments: number s (from 0) holds stream 1's facts 10 s + 1 to 10 s + 10, of 100 kB, on topic "s<number>.x",
 * and behind the fifth of them the only fact of stream 10 + s, of 10 bytes, on "small.n<number>". The clock advances
 * a second with each of the ten. */

enum { PER_SEGMENT = 11, BIG = 100000 };
struct kit_batch_spec big_spec (uint64_t seq);
struct kit_batch_spec small_spec (uint64_t segment);
void fill_segments (struct log_setting *s, unsigned segments);

/* --- A reader's next item. */

struct log_item expect_next (struct log_reader *r);
void expect_end (struct log_reader *r);
void expect_batch (struct log_reader *r, struct kit_batch_spec spec);
/* stream NULL: a gap of offsets. */
void expect_gap (struct log_reader *r, const struct fm_id *stream, uint64_t first, uint64_t end, uint32_t reason);

/* --- Damage. */

/* Where the batch's bytes lie in the file. */
uint64_t find_batch (const char *path, const struct kit_batch_spec *spec);
/* Overwrite the records of these two batches and all between them. */
void wipe (const char *path, const struct kit_batch_spec *first, const struct kit_batch_spec *last);

#endif
