/* oracle: did everything that was published arrive, once, in order, every byte?
 *
 * Owns:    copies of the facts that it is given.
 * Thread:  one.
 * Promise: a difference of one bit, one fact or one place is found, and told in words that help: which stream, which
 * sequences, and whether a loss is a prefix (joined too late), a middle (a hole that was not repaired) or a suffix (the
 * end was not told). It depends on nothing of factmesh but the types of the public face: what is tested must not judge
 * itself. */

#ifndef FM_TESTS_ORACLE_H
#define FM_TESTS_ORACLE_H

#include <stdbool.h>
#include <stdio.h>

#include "fm_types.h"

struct oracle_fact {
    struct fm_id stream;
    uint64_t seq;
    struct fm_slice topic;
    struct fm_slice key;
    struct fm_slice headers; /* "name=value\n" of each: see flow.h */
    struct fm_slice payload;
};

/* Facts in the order in which they were published, or came. */
struct oracle_log;

/* Both return 0 or -errno. */
int oracle_log_new (struct oracle_log **ret_log);
void oracle_log_destroy (struct oracle_log **log);

/* Copy one fact to the end. Returns 0 or -ENOMEM. */
int oracle_log_add (struct oracle_log *log, const struct oracle_fact *fact);

size_t oracle_log_count (const struct oracle_log *log);
/* Look at one, 0 to count - 1; its slices are valid until something is added. */
void oracle_log_fact (const struct oracle_log *log, size_t index, struct oracle_fact *ret_fact);

/* Write one fact to a file that oracle_log_load reads: lengths and bytes in the machine's own order; both ends are on
 * one machine. Returns 0 or -EIO. */
int oracle_log_write (FILE *file, const struct oracle_fact *fact);

/* Call visit with each fact of a file, in order, with memory for one; its slices are valid until visit returns, and what it returns other than 0
 * ends the walk and is returned. ret_whole: the bytes of whole records, there one that was cut off begins. Else returns as oracle_log_load does. */
typedef int oracle_visit (void *arg, const struct oracle_fact *fact);
int oracle_file_visit (const char *path, oracle_visit *visit, void *arg, size_t *ret_whole);

/* Add what a file holds. A last record that is cut off (its writer was killed) is left out. Returns 0, -errno, or
 * FM_ERR_CORRUPT when the bytes cannot be a log. */
int oracle_log_load (struct oracle_log *log, const char *path);

/* Compare what came with what was published and matches one of the patterns (count 0: all). Writes one line a fault to
 * report, at most ORACLE_FAULTS_TOLD, and returns how many there are; 0: equal. Published facts of a stream must be in
 * order. */
enum { ORACLE_FAULTS_TOLD = 20 };
size_t oracle_compare (const struct oracle_log *published, const struct oracle_log *got, const char *const *patterns,
                       size_t pattern_count, FILE *report);

/* Does the pattern match the topic? The oracle's own idea of it, so that the library's is tested. */
bool oracle_matches (const char *pattern, struct fm_slice topic);

#endif
