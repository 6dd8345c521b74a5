/* exec: runs a shell command for a fact: the payload on its standard input, the rest in its environment.
 *
 * Environment: FM_TOPIC, FM_KEY, FM_TYPE, FM_CONTENT_TYPE, FM_ID (STREAM:SEQ), FM_ROOT, FM_CORRELATION, FM_TIME_NS, FM_EXPIRES_NS, FM_OFFSET, FM_TOKEN,
 * FM_DELIVERIES, FM_ATTEMPTS, FM_FLAGS (words with commas between: replay, redelivery, correction, in_doubt, out_of_order, key_parked, by_hand). Values that
 * hold a NUL are cut there.
 *
 * Promise: the command outlives neither this process nor its lease: a keeper, a child that waits for our end, kills its process group, also when we are killed
 * with -9, or stopped.
 * Thread: one. */

#ifndef FM_CLI_EXEC_H
#define FM_CLI_EXEC_H

#include "factmesh.h"

struct exec_options {
    const char *command;            /* for sh -c */
    int timeout_ms;                 /* then its process group is killed; -1: never */
    /* Called before it runs and every tick_ms while it does; NULL: not. Returns for how many ms it may go on without another call: then, even if we are
     * stopped, its process group is killed. 0: at once. */
    int (*tick) (void *arg);
    void *tick_arg;
    int tick_ms;
    int stdout_fd;                  /* -1: ours */
    size_t stdout_max;              /* of stdout_fd, a file: more kills its process group */
};

/* *ret_status: exit status, or 128 and the signal's number; why it was killed. Returns 0 or -errno (it could not be started). */
enum { EXEC_TIMED_OUT = -1, EXEC_STOPPED = -2, EXEC_TOO_LONG = -3 };
int exec_run (const struct exec_options *options, const struct fm_work *work, int *ret_status);

#endif
