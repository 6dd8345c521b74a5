/* fail_memory: allocations that fail. It stands between the program's own code and the C library: the Makefile links a program that uses it with
 * --wrap for malloc, calloc, realloc and strdup. What shared libraries allocate (libzmq, protobuf-c, sqlite) is theirs, and does not count.
 *
 * Thread: any; the count is of all threads together. */

#ifndef FM_TESTS_FAIL_MEMORY_H
#define FM_TESTS_FAIL_MEMORY_H

#include <stdbool.h>

/* The n-th allocation from now on (1: the next) fails, once; 0: none does. */
void fail_memory_at (unsigned long n);
/* Stop counting, for allocations of the test itself; and go on. */
void fail_memory_pause (void);
void fail_memory_resume (void);
/* Has it failed? */
bool fail_memory_happened (void);

#endif
