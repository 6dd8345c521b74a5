/* sim: a machine room in one thread: virtual time, processes, their threads, a disk each, a network between them. The code under test is the
 * real one: sim_libc.c and sim_zmq.c stand where it calls the C library and ZeroMQ.
 *
 *     processes   each thread is a coroutine; it runs until it waits (poll, a condition, a join, a sync of the disk), then another one does.
 *                 Who is next, when several could go on, is drawn by chance.
 *     time        moves only when everybody waits.
 *     death       at any call that has an effect outside: from then on nothing of the process has one. Its threads are run to their
 *                 end all the same (a ghost: waits return at once, writes fail, sends vanish), so that its memory is given back by its own code.
 *
 * Everything follows from one number: the same seed gives the same run. */

#ifndef FM_TESTS_SIM_H
#define FM_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIM_NAME_MAX = 24,
    SIM_STACK_BYTES = 512 << 10,
    SIM_GHOST_TURNS_MAX = 200000,           /* a ghost that has not ended by then hangs */
    SIM_TURNS_MAX = 4000000                 /* and so does a run */
};
#define SIM_MS UINT64_C (1000000)
#define SIM_S (1000 * SIM_MS)

/* --- Chance. */

struct sim_random {
    uint64_t state;
};
struct sim_random sim_random_of (uint64_t seed, uint64_t what);
uint64_t sim_draw (struct sim_random *r);
/* [0, n) */
uint64_t sim_below (struct sim_random *r, uint64_t n);
bool sim_chance (struct sim_random *r, unsigned per_thousand);

/* --- Processes. */

struct sim_disk;
struct fm_node;

struct sim_process {
    struct sim_process *next;
    char name[SIM_NAME_MAX];
    unsigned host;                          /* the party that it is; links are cut between hosts */
    bool dead;                              /* a ghost, or gone */
    bool gone;                              /* its threads have ended */
    uint64_t stopped_until;
    uint64_t ghost_ns;                      /* how far a ghost's clock has run ahead */
    uint64_t doom;                          /* it dies at its n-th effect from now on; 0: it does not */
    unsigned threads, turns;
    struct sim_disk *disk;
    uint64_t sync_ns;                       /* of the disk: up to so long */
    struct sim_random random;
    struct fm_node *node;
    void *party;
};

struct sim_process *sim_process_new (const char *name, unsigned host, struct sim_disk *disk, void *party);
/* The one whose thread runs; NULL: none. */
struct sim_process *sim_self (void);
void sim_spawn (struct sim_process *p, void *(*run) (void *), void *arg);
void sim_kill (struct sim_process *p);
/* Something outside is about to be changed. False: it has no effect any more. */
bool sim_effect (void);

/* --- The run. */

void sim_begin (uint64_t seed);
void sim_end (void);
/* Run until it says so, or until that time. False: time is up. */
bool sim_run (bool (*is_done) (void), uint64_t until);
uint64_t sim_seed (void);
struct sim_random *sim_chances (void);

/* Nanoseconds; begins at an hour. */
uint64_t sim_now (void);
/* For events: not a ghost's. */
uint64_t sim_time (void);

/* Call it then. */
void sim_after (uint64_t delay, void (*call) (void *a, void *b), void *a, void *b);

/* Of a thread: wait until `is_ready` says so (NULL: never) or that time. True: it is ready. */
bool sim_wait (bool (*is_ready) (void *arg), void *arg, uint64_t until);
void sim_sleep (uint64_t ns);

/* --- Telling. */

/* A line of the trace, if one is wanted. */
void sim_trace (const char *format, ...) __attribute__ ((format (printf, 1, 2)));
extern bool sim_traces;

/* An invariant does not hold: the run is a failure (the first one is kept) and ends. */
void sim_fail (const char *format, ...) __attribute__ ((format (printf, 1, 2)));
/* "": none. */
const char *sim_failure (void);

#endif
