/* Publishers, journals and subscribers, the real ones, on simulated machines; tests/sim/ has the machines, tests/README.md how to use this.
 *
 *     SEED=N       that one run alone, with its trace
 *     SECONDS=N    for so long, with seeds that no run before had
 *     FIRST=N      beginning with this seed
 *     RUNS=N       so many; without any of these the first RUNS_DEFAULT seeds, for SECONDS_DEFAULT at most */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <cmocka.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../sim/sim.h"
#include "../sim/sim_world.h"

/* What found something once that others find too rarely: run first, each time. (A seed is another run after the code has changed; they cost little.) */
static const uint64_t found_something[] = {
    1001187, /* a session lost and closed in one step, when silence was 10 s */
    1182,    /* a stream met in its second epoch only, without a journal */
    1441,    /* a segment's name, not synced by a start that was killed, and then a power loss */
    1000112, /* answers to a cursor's question that come twice while a subscription opens */
    2002448, /* a stream that nobody had heard of when its publisher died, and a lost notice of it */
    1002102, /* a journal recorded more of a stream that had ended, after who lacked it had asked */
    1882853621110975, /* a journal that a subscription never met, and whose facts it took for lost */
    9901241, /* a journal that joined the mesh before its log was recovered, with facts that a live subscription had not heard of */
    7739996, /* what a publisher published that was first heard of later: forgiven only where a fact came after it */
    777019332, /* without a journal, what a publisher that stood still had was told as lost */
    774001767, /* a frame over an old connection in the moment in which it is given up: memory was used that was given back */
    1882850845524368, /* facts that came in the name of the process that had the address before */
    772006060, /* the same at a journal, which did not hear of the new process again before it gave up the old one */
    773015350, /* and that of a journal that stood still, and read the old one's goodbye before it met the new one */
    2100005047, /* without a journal, a stream that was opened while its publisher was cut off */
    130008323, /* a fence that a publisher was asked, answered by the process that had its address next, as if it were the one's */
    130019527, /* the same, of a stream that nothing was heard of before */
    779084086, /* live, over a slow link, what lies below the start of a session, taken for the stream's beginning */
};

enum { SECONDS_DEFAULT = 8, RUNS_DEFAULT = 400, FIRST_SEED = 1, SHRINK_SECONDS = 4, RUN_SECONDS_MAX = 30 };

static uint64_t seed_now;
static uint32_t left_out_now;

static double wall_seconds (void)
{
    struct timespec t;
    (void) syscall (SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static uint64_t number_of (const char *name, uint64_t otherwise)
{
    const char *text = getenv (name);
    return text && *text ? strtoull (text, NULL, 0) : otherwise;
}

/* An assertion of the code under test, say; a pointer that leads nowhere; or a loop in which no time passes. */
static void on_abort (int signal_number)
{
    char text[192];
    const int len = snprintf (text, sizeof text, "SIMULATION-ABORTED SEED=%llu LEFT_OUT=0x%x\n[  FAILED  ] by signal %d\n", (unsigned long long) seed_now,
                              left_out_now, signal_number);
    (void) !write (STDOUT_FILENO, text, (size_t) len);
    (void) signal (signal_number, SIG_DFL);
    (void) raise (signal_number);
}

static void run (uint64_t seed, uint32_t left_out, struct sim_result *ret_result)
{
    seed_now = seed;
    left_out_now = left_out;
    (void) alarm (RUN_SECONDS_MAX);
    sim_world_run (seed, left_out, ret_result);
    (void) alarm (0);
}

/* Leave faults out as long as it still fails; returns those left out. */
static uint32_t shrink (uint64_t seed, unsigned faults)
{
    const double until = wall_seconds () + SHRINK_SECONDS;
    uint32_t left_out = 0;
    for (bool again = true; again && wall_seconds () < until;) {
        again = false;
        for (unsigned i = 0; i < faults && wall_seconds () < until; i++) {
            struct sim_result r;
            if (left_out >> i & 1)
                continue;
            run (seed, left_out | UINT32_C (1) << i, &r);
            if (r.failure[0]) {
                left_out |= UINT32_C (1) << i;
                again = true;
            }
        }
    }
    return left_out;
}

static void report (uint64_t seed, const struct sim_result *r)
{
    printf ("SIMULATION-FAILED SEED=%llu: %s\n", (unsigned long long) seed, r->failure);
    const uint32_t left_out = shrink (seed, r->faults);
    struct sim_result small;
    run (seed, left_out, &small);
    printf ("fewest faults: SEED=%llu LEFT_OUT=0x%x: %s\n", (unsigned long long) seed, left_out, small.failure);
}

static void publishers_journals_and_subscribers_keep_the_promises (void **state)
{
    (void) state;
    (void) signal (SIGABRT, on_abort);
    (void) signal (SIGALRM, on_abort);
    (void) signal (SIGSEGV, on_abort);
    struct sim_result r;
    if (number_of ("SEED", 0)) {
        sim_traces = number_of ("QUIET", 0) == 0;
        run (number_of ("SEED", 1), (uint32_t) number_of ("LEFT_OUT", 0), &r);
        sim_traces = false;
        if (r.failure[0])
            fail_msg ("%s", r.failure);
        return;
    }
    const bool fresh = number_of ("SECONDS", 0) > 0;
    const double start = wall_seconds (), until = start + (double) number_of ("SECONDS", SECONDS_DEFAULT);
    const uint64_t runs_max = number_of ("RUNS", fresh ? UINT32_MAX : RUNS_DEFAULT);
    uint64_t seed = number_of ("FIRST", fresh ? (uint64_t) time (NULL) << 20 : FIRST_SEED), facts = 0, virtual_ns = 0, runs = 0;
    const size_t found = sizeof found_something / sizeof *found_something;
    for (size_t i = 0; i < found + runs_max && wall_seconds () < until; i++) {
        const uint64_t which = i < found ? found_something[i] : seed++;
        run (which, 0, &r);
        runs++;
        facts += r.facts;
        virtual_ns += r.virtual_ns;
        if (r.failure[0]) {
            report (which, &r);
            fail_msg ("SEED=%llu: %s", (unsigned long long) which, r.failure);
        }
    }
    printf ("%llu runs, %llu facts, %.0f s of virtual time in %.1f s\n", (unsigned long long) runs, (unsigned long long) facts, (double) virtual_ns / 1e9,
            wall_seconds () - start);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (publishers_journals_and_subscribers_keep_the_promises),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
