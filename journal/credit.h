/* credit: how many bytes a replay session may still send. Arithmetic only.
 *
 * Promise: with what the asker granted so far a session never sends more than that plus one message: while credit is
 *          left a message of any size may go, since a batch cannot be cut, and what it took too much is owed.
 * Bounded: a balance grows to CREDIT_MAX and no further, whatever an asker grants.
 * Bytes:   proto/SPEC.md, "Replay". What is charged is the length of the whole ReplayData frame. */

#ifndef FM_JOURNAL_CREDIT_H
#define FM_JOURNAL_CREDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CREDIT_MAX = 64 << 20 };

struct credit {
    int64_t balance;                /* bytes; below zero: owed */
};

void credit_init (struct credit *c, uint64_t granted);
void credit_grant (struct credit *c, uint64_t bytes);

/* May a message go now? */
bool credit_is_open (const struct credit *c);

/* How long the next message should be, of `wish` bytes: no longer than the credit, if its batches allow; at least 1. */
size_t credit_target (const struct credit *c, size_t wish);

void credit_spend (struct credit *c, size_t bytes);

#endif
