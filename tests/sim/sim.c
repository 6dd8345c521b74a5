#include "sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "sim_inner.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define FIBER_START(save, bottom, size) __sanitizer_start_switch_fiber (save, bottom, size)
#define FIBER_FINISH(save, bottom, size) __sanitizer_finish_switch_fiber (save, bottom, size)
#else
#define FIBER_START(save, bottom, size) ((void) (save), (void) (bottom), (void) (size))
#define FIBER_FINISH(save, bottom, size) ((void) (save), (void) (bottom), (void) (size))
#endif

enum { FAILURE_MAX = 512, LOOKS = 8, LOOKS_MAX = 4096, LOOK_NS = 5000 };

struct sim_thread {
    struct sim_thread *next;
    ucontext_t context;
    void *stack, *fake_stack;
    struct sim_process *process;
    void *(*run) (void *);
    void *arg;
    bool done;
    bool (*is_ready) (void *arg);
    void *ready_arg;
    uint64_t until;
    unsigned looks;                         /* since it last had to wait */
    bool woken;                             /* by what it waited for */
};

struct event {
    uint64_t time, order;
    void (*call) (void *a, void *b);
    void *a, *b;
};

static struct {
    uint64_t seed, now, order;
    struct sim_random chances;
    struct sim_process *processes;
    struct sim_thread *threads, *running;
    struct event *events;                   /* a heap */
    size_t event_count, event_size;
    ucontext_t scheduler;
    void *scheduler_fake;
    const void *scheduler_stack;
    size_t scheduler_size;
    char failure[FAILURE_MAX];
} sim;

static void *stacks[256];                   /* of threads that ended, to be used again */
static size_t stack_count;

bool sim_traces;

/* --- Chance. */

uint64_t sim_draw (struct sim_random *r)
{
    uint64_t z = r->state += UINT64_C (0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct sim_random sim_random_of (uint64_t seed, uint64_t what)
{
    struct sim_random r = { seed };
    r.state = sim_draw (&r) ^ what * UINT64_C (0xd1342543de82ef95);
    (void) sim_draw (&r);
    return r;
}

uint64_t sim_below (struct sim_random *r, uint64_t n)
{
    return n ? sim_draw (r) % n : 0;
}

bool sim_chance (struct sim_random *r, unsigned per_thousand)
{
    return sim_below (r, 1000) < per_thousand;
}

uint64_t sim_seed (void)
{
    return sim.seed;
}

struct sim_random *sim_chances (void)
{
    return &sim.chances;
}

/* --- Telling. */

void sim_trace (const char *format, ...)
{
    if (!sim_traces)
        return;
    const uint64_t us = (sim.now - 3600 * SIM_S) / 1000;
    printf ("%4llu.%06llu  %-8s ", (unsigned long long) (us / 1000000), (unsigned long long) (us % 1000000),
            sim.running ? sim.running->process->name : "");
    va_list arguments;
    va_start (arguments, format);
    (void) vprintf (format, arguments);
    va_end (arguments);
    (void) putchar ('\n');
}

void sim_fail (const char *format, ...)
{
    va_list arguments;
    if (sim.failure[0])
        return;
    va_start (arguments, format);
    (void) vsnprintf (sim.failure, sizeof sim.failure, format, arguments);
    va_end (arguments);
    sim_trace ("FAILED: %s", sim.failure);
}

const char *sim_failure (void)
{
    return sim.failure;
}

/* --- Time and events. */

uint64_t sim_time (void)
{
    return sim.now;
}

uint64_t sim_now (void)
{
    return sim.now + (sim.running ? sim.running->process->ghost_ns : 0);
}

static bool event_before (const struct event *x, const struct event *y)
{
    return x->time != y->time ? x->time < y->time : x->order < y->order;
}

void sim_after (uint64_t delay, void (*call) (void *a, void *b), void *a, void *b)
{
    if (sim.event_count == sim.event_size) {
        sim.event_size = sim.event_size ? 2 * sim.event_size : 256;
        sim.events = realloc (sim.events, sim.event_size * sizeof *sim.events);
        assert (sim.events);
    }
    const struct event e = { .time = sim.now + delay, .order = sim.order++, .call = call, .a = a, .b = b };
    size_t i = sim.event_count++;
    for (; i && event_before (&e, &sim.events[(i - 1) / 2]); i = (i - 1) / 2)
        sim.events[i] = sim.events[(i - 1) / 2];
    sim.events[i] = e;
}

static struct event event_pop (void)
{
    const struct event first = sim.events[0], last = sim.events[--sim.event_count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < sim.event_count; i = child) {
        if (child + 1 < sim.event_count && event_before (&sim.events[child + 1], &sim.events[child]))
            child++;
        if (!event_before (&sim.events[child], &last))
            break;
        sim.events[i] = sim.events[child];
    }
    sim.events[i] = last;
    return first;
}

/* --- Processes. */

struct sim_process *sim_self (void)
{
    return sim.running ? sim.running->process : NULL;
}

struct sim_thread *sim_thread_self (void)
{
    return sim.running;
}

struct sim_process *sim_process_new (const char *name, unsigned host, struct sim_disk *disk, void *party)
{
    static uint64_t salt;
    if (!sim.processes)
        salt = 0;
    struct sim_process *p = calloc (1, sizeof *p);
    assert (p);
    (void) snprintf (p->name, sizeof p->name, "%s", name);
    p->host = host;
    p->disk = disk;
    p->party = party;
    p->random = sim_random_of (sim.seed, 1000 + 64 * ++salt + host);
    p->next = sim.processes;
    sim.processes = p;
    return p;
}

void sim_kill (struct sim_process *p)
{
    if (!p->dead) {
        p->dead = true;
        p->turns = 0;
        sim_trace ("%s is dead", p->name);
        sim_process_died (p);
    }
}

bool sim_effect (void)
{
    struct sim_process *p = sim_self ();
    if (!p)
        return true;
    if (!p->dead && p->doom && --p->doom == 0)
        sim_kill (p);
    return !p->dead;
}

/* --- Threads. */

static void thread_main (void)
{
    struct sim_thread *t = sim.running;
    FIBER_FINISH (t->fake_stack, &sim.scheduler_stack, &sim.scheduler_size);
    (void) t->run (t->arg);
    t->done = true;
    t->process->threads--;
    FIBER_START (NULL, sim.scheduler_stack, sim.scheduler_size);
    (void) setcontext (&sim.scheduler);
    abort ();
}

struct sim_thread *sim_thread_new (struct sim_process *p, void *(*run) (void *), void *arg)
{
    struct sim_thread *t = calloc (1, sizeof *t);
    assert (t);
    t->stack = stack_count ? stacks[--stack_count]
                           : mmap (NULL, SIM_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert (t->stack != MAP_FAILED);
    t->process = p;
    t->run = run;
    t->arg = arg;
    (void) getcontext (&t->context);
    t->context.uc_stack.ss_sp = t->stack;
    t->context.uc_stack.ss_size = SIM_STACK_BYTES;
    t->context.uc_link = NULL;
    makecontext (&t->context, thread_main, 0);
    t->next = sim.threads;
    sim.threads = t;
    p->threads++;
    return t;
}

void sim_spawn (struct sim_process *p, void *(*run) (void *), void *arg)
{
    (void) sim_thread_new (p, run, arg);
}

bool sim_thread_done (const struct sim_thread *t)
{
    return t->done;
}

static void thread_switch_to (struct sim_thread *t)
{
    sim.running = t;
    FIBER_START (&sim.scheduler_fake, t->stack, SIM_STACK_BYTES);
    (void) swapcontext (&sim.scheduler, &t->context);
    FIBER_FINISH (sim.scheduler_fake, NULL, NULL);
    sim.running = NULL;
}

/* Back to the scheduler. */
static void thread_yield (struct sim_thread *t)
{
    FIBER_START (&t->fake_stack, sim.scheduler_stack, sim.scheduler_size);
    (void) swapcontext (&t->context, &sim.scheduler);
    FIBER_FINISH (t->fake_stack, &sim.scheduler_stack, &sim.scheduler_size);
}

bool sim_wait (bool (*is_ready) (void *arg), void *arg, uint64_t until)
{
    struct sim_thread *t = sim.running;
    assert (t);
    const bool ready = is_ready && is_ready (arg);
    if (ready || until <= sim_now ()) {
        /* Looking costs time too: who looks for ever must not stop the world. */
        if (++t->looks % LOOKS != 0)
            return ready;
        if (t->looks > LOOKS_MAX && !t->process->dead)
            sim_fail ("%s spins: it waits for what is there already, and takes nothing", t->process->name);
        if (ready)
            is_ready = NULL;
        until = sim_now () + (t->process->dead ? SIM_MS : LOOK_NS);
    } else {
        t->looks = 0;
    }
    t->is_ready = is_ready;
    t->ready_arg = arg;
    t->until = until;
    t->woken = false;
    thread_yield (t);
    /* A ghost waits for nothing; its clock runs on, so that its time-outs end. */
    if (!t->woken && t->process->dead && until != UINT64_MAX && until > sim_now ())
        t->process->ghost_ns += until - sim_now ();
    return t->woken || ready;
}

void sim_sleep (uint64_t ns)
{
    (void) sim_wait (NULL, NULL, sim_now () + ns);
}

void sim_yield (void)
{
    (void) sim_wait (NULL, NULL, sim_now () + 1);
}

/* --- The scheduler. */

static bool can_run (struct sim_thread *t)
{
    const struct sim_process *p = t->process;
    if (t->done || (!p->dead && sim.now < p->stopped_until))
        return false;
    if (t->is_ready && t->is_ready (t->ready_arg)) {
        t->woken = true;
        return true;
    }
    t->woken = false;
    return p->dead || t->until <= sim.now;
}

/* Ghosts first: what is left of them has no effect. */
static struct sim_thread *choose (void)
{
    struct sim_thread *ready[256];
    size_t count = 0;
    bool ghosts = false;
    for (struct sim_thread *t = sim.threads; t; t = t->next) {
        if ((ghosts && !t->process->dead) || !can_run (t))
            continue;
        if (t->process->dead && !ghosts) {
            ghosts = true;
            count = 0;
        }
        if (count < sizeof ready / sizeof *ready)
            ready[count++] = t;
    }
    return count ? ready[sim_below (&sim.chances, count)] : NULL;
}

static void reap (void)
{
    for (struct sim_thread **link = &sim.threads; *link;) {
        struct sim_thread *t = *link;
        struct sim_process *p = t->process;
        if (p->threads == 0 && !p->gone) {
            p->gone = p->dead = true;
            sim_process_gone (p);
        }
        if (!p->gone) {
            link = &t->next;
            continue;
        }
        *link = t->next;
        if (stack_count < sizeof stacks / sizeof *stacks)
            stacks[stack_count++] = t->stack;
        else
            (void) munmap (t->stack, SIM_STACK_BYTES);
        free (t);
    }
}

/* The next time at which somebody wants to go on; UINT64_MAX: nobody. */
static uint64_t next_time (void)
{
    uint64_t next = sim.event_count ? sim.events[0].time : UINT64_MAX;
    for (const struct sim_thread *t = sim.threads; t; t = t->next) {
        if (t->done)
            continue;
        const uint64_t stopped = t->process->stopped_until;
        /* Of one that is stopped nobody knows what it will find: it looks. */
        const uint64_t due = sim.now < stopped ? stopped : t->until;
        next = due < next ? due : next;
    }
    return next;
}

bool sim_run (bool (*is_done) (void), uint64_t until)
{
    for (unsigned turns = 0; !sim.failure[0]; turns++) {
        struct sim_thread *t = choose ();
        if (t) {
            struct sim_process *p = t->process;
            if (p->dead && ++p->turns > SIM_GHOST_TURNS_MAX) {
                sim_fail ("%s does not come to its end", p->name);
                return false;
            }
            thread_switch_to (t);
            if (t->done)
                reap ();
        } else {
            const uint64_t next = next_time ();
            if (next >= until)
                break;
            assert (next >= sim.now);
            sim.now = next;
            while (sim.event_count && sim.events[0].time <= sim.now) {
                const struct event e = event_pop ();
                e.call (e.a, e.b);
            }
        }
        if (is_done && is_done ())
            return true;
        if (turns > SIM_TURNS_MAX) {
            sim_fail ("the run does not come to its end");
            return false;
        }
    }
    return false;
}

void sim_begin (uint64_t seed)
{
    sim.seed = seed;
    sim.now = 3600 * SIM_S;
    sim.order = 0;
    sim.chances = sim_random_of (seed, 1);
    sim.failure[0] = 0;
    sim_libc_begin ();
}

void sim_end (void)
{
    char failure[FAILURE_MAX];
    memcpy (failure, sim.failure, sizeof failure);
    sim.failure[0] = 0;
    for (struct sim_process *p = sim.processes; p; p = p->next)
        if (!p->dead) {
            p->dead = true;
            p->turns = 0;
        }
    sim.event_count = 0;
    /* Events are of a world that is over: what they point to is freed by its owners. */
    while (sim.threads && !sim.failure[0]) {
        struct sim_thread *t = choose ();
        assert (t);
        if (++t->process->turns > SIM_GHOST_TURNS_MAX) {
            fprintf (stderr, "%s does not come to its end\n", t->process->name);
            abort ();
        }
        thread_switch_to (t);
        if (t->done)
            reap ();
    }
    for (struct sim_process *p; (p = sim.processes);) {
        sim.processes = p->next;
        free (p);
    }
    sim_net_end ();
    sim_libc_end ();
    sim.event_count = 0;
    memcpy (sim.failure, failure, sizeof failure);
}
