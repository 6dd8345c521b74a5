/* group_state under random schedules, against an oracle that knows every fact: members come, die, stop and come back late, the group restarts from what
 * was stored last, people park, replay and seek. A failure prints the seed; `test_group_schedules SEED` runs it alone. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../support/chance.h"
#include "fm_types.h"
#include "group_state.h"

enum { SCHEDULES = 1500, STEPS = 400, FACTS_MAX = 200, KEYS = 6, MEMBERS = 5, CREDIT = 8, HELD_MAX = 256, END_ROUNDS = 20000, MS = 1000000 };

static uint64_t only_seed;

struct held { uint64_t offset, token; bool stale; };
struct worker {
    uint64_t number;                        /* 0: not there */
    bool stopped;                           /* says nothing */
    struct held held[HELD_MAX];             /* stale ones too: it does not know */
    unsigned count;
};
struct fact { uint64_t key; bool done, stored; };

struct world {
    uint64_t seed, rng, now, numbers, token;
    struct group_state *g;
    struct fact facts[FACTS_MAX + 1];
    uint64_t written, taken;                /* offsets up to which facts exist, were looked at */
    struct worker workers[MEMBERS];
    struct group_stored stored[FACTS_MAX + 1];
    unsigned stored_count;
    struct group_place stored_place;
};

static uint64_t rnd (struct world *w, uint64_t below)
{
    return chance_below (&w->rng, below);
}

static void fault (const struct world *w, const char *what, uint64_t offset)
{
    fail_msg ("seed %llu: %s at offset %llu", (unsigned long long) w->seed, what, (unsigned long long) offset);
}

static void keep (void *arg, const struct group_stored *entry)
{
    struct world *w = arg;
    w->stored[w->stored_count] = *entry;
    w->stored[w->stored_count++].reason = slice (NULL, 0);
}

static void store (struct world *w)
{
    w->stored_count = 0;
    assert_int_equal (0, group_state_each (w->g, keep, w));
    group_state_place (w->g, &w->stored_place);
    for (uint64_t offset = 1; offset <= w->written; offset++)
        w->facts[offset].stored = w->facts[offset].done;
}

static void look (struct world *w, uint64_t up_to)
{
    while (w->taken < w->written && (w->taken < up_to || group_state_wants (w->g))) {
        const uint64_t offset = w->taken + 1;
        const struct group_fact f = { .offset = offset, .key = w->facts[offset].key };
        assert_int_equal (0, group_state_take (w->g, &f));
        group_state_advance (w->g, offset + 1);
        w->taken = offset;
    }
}

static struct worker *worker_of (struct world *w, uint64_t number)
{
    for (unsigned i = 0; i < MEMBERS; i++)
        if (w->workers[i].number == number)
            return &w->workers[i];
    return NULL;
}

/* Whoever has one under an older token has it no more. */
static void make_stale (struct world *w, uint64_t offset)
{
    for (unsigned i = 0; i < MEMBERS; i++)
        for (unsigned j = 0; j < w->workers[i].count; j++)
            if (w->workers[i].held[j].offset == offset)
                w->workers[i].held[j].stale = true;
}

static unsigned in_hand (const struct worker *worker)
{
    unsigned n = 0;
    for (unsigned j = 0; j < worker->count; j++)
        n += !worker->held[j].stale;
    return n;
}

static bool key_in_hand (struct world *w, uint64_t offset)
{
    const uint64_t key = w->facts[offset].key;
    for (unsigned i = 0; key && i < MEMBERS; i++)
        for (unsigned j = 0; j < w->workers[i].count; j++)
            if (!w->workers[i].held[j].stale && w->facts[w->workers[i].held[j].offset].key == key)
                return true;
    return false;
}

static void hand_out (struct world *w)
{
    struct group_hand_out h;
    while (group_state_hand_out (w->g, w->now, &h) == 0) {
        struct worker *worker = worker_of (w, h.member);
        if (!worker || in_hand (worker) >= CREDIT)
            fault (w, "handed to nobody, or beyond its credit", h.offset);
        if (h.token <= w->token)
            fault (w, "a token that did not grow", h.offset);
        w->token = h.token;
        make_stale (w, h.offset);
        if (key_in_hand (w, h.offset))
            fault (w, "two of one key in hand", h.offset);
        if (w->facts[h.offset].done)
            fault (w, "handed out though done", h.offset);
        const uint64_t key = w->facts[h.offset].key;
        for (uint64_t before = h.offset - 1; key && before; before--)
            if (w->facts[before].key == key && !w->facts[before].done)
                fault (w, "handed out before an earlier one of its key", h.offset);
        assert_true (worker->count < HELD_MAX);
        worker->held[worker->count++] = (struct held) { .offset = h.offset, .token = h.token };
    }
}

static void drop_held (struct worker *worker, unsigned at)
{
    worker->held[at] = worker->held[--worker->count];
}

static void work (struct world *w, struct worker *worker)
{
    static const enum group_outcome kinds[] = { GROUP_DONE, GROUP_DONE, GROUP_DONE, GROUP_DONE, GROUP_LATER, GROUP_FAILED, GROUP_RELEASE, GROUP_PARK, GROUP_BEGIN, GROUP_EXTEND };
    if (!worker->number || worker->stopped || !worker->count)
        return;
    const unsigned at = (unsigned) rnd (w, worker->count);
    const struct held held = worker->held[at];
    const enum group_outcome kind = kinds[rnd (w, 10)];
    const struct group_report r = { .member = worker->number, .offset = held.offset, .token = held.token, .kind = kind, .delay_ms = (uint32_t) rnd (w, 300) };
    const int rc = group_state_outcome (w->g, &r, w->now, w->now);
    if (rc && rc != FM_ERR_LEASE)
        fault (w, "refused a member", held.offset);
    if (rc == 0 && held.stale)
        fault (w, "took an outcome under an old token", held.offset);
    if (rc == 0 && kind == GROUP_DONE)
        w->facts[held.offset].done = true;
    /* What is parked comes back at once: so its key's order holds for it too. */
    if (rc == 0 && kind == GROUP_PARK)
        assert_int_equal (0, group_state_replay_parked (w->g, held.offset));
    if (rc || (kind != GROUP_BEGIN && kind != GROUP_EXTEND))
        drop_held (worker, at);
}

/* Leases may have run out: whoever asks is told. */
static void tick (struct world *w)
{
    (void) group_state_tick (w->g, w->now, w->now);
    for (unsigned i = 0; i < MEMBERS; i++)
        for (unsigned j = 0; j < w->workers[i].count; j++)
            if (group_state_hold (w->g, w->workers[i].number, w->workers[i].held[j].offset, w->workers[i].held[j].token, w->now))
                w->workers[i].held[j].stale = true;
    /* Some know by their own clock what they have lost, drop it, and say no more than that they live. */
    struct worker *worker = &w->workers[rnd (w, MEMBERS)];
    for (unsigned j = worker->count; j-- > 0 && !worker->stopped;)
        if (worker->held[j].stale)
            drop_held (worker, j);
    if (worker->number && !worker->stopped)
        assert_int_equal (0, group_state_alive (w->g, worker->number));
}

static void come (struct world *w, struct worker *worker)
{
    worker->number = ++w->numbers;
    worker->stopped = false;
    worker->count = 0;
    assert_int_equal (0, group_state_join (w->g, worker->number, CREDIT, w->now));
}

static void restart (struct world *w)
{
    const struct group_options options = { .effect = GROUP_IDEMPOTENT, .lease_ns = 500 * MS, .attempts_max = 1000 };
    group_state_destroy (&w->g);
    assert_int_equal (0, group_state_new (&options, &w->g));
    group_state_restart (w->g, &w->stored_place, w->now);
    for (unsigned i = 0; i < w->stored_count; i++)
        assert_int_equal (0, group_state_restore (w->g, &w->stored[i], w->facts[w->stored[i].offset].key, w->now));
    w->taken = w->stored_place.next - 1;
    for (uint64_t offset = 1; offset <= w->written; offset++)
        w->facts[offset].done = w->facts[offset].stored;
    for (unsigned i = 0; i < MEMBERS; i++) {
        struct worker *worker = &w->workers[i];
        if (!worker->number)
            continue;
        worker->number = ++w->numbers;
        assert_int_equal (0, group_state_join (w->g, worker->number, CREDIT, w->now));
        for (unsigned j = worker->count; j-- > 0;) {
            look (w, worker->held[j].offset);
            /* An instance keeps the time of its leases itself, and does not claim what ran out. */
            if (worker->held[j].stale || group_state_hold (w->g, worker->number, worker->held[j].offset, worker->held[j].token, w->now))
                drop_held (worker, j);
        }
    }
    store (w);
}

static void run_schedule (uint64_t seed)
{
    const struct group_options options = { .effect = GROUP_IDEMPOTENT, .lease_ns = 500 * MS, .attempts_max = 1000 };
    static struct world world;
    struct world *w = &world;
    memset (w, 0, sizeof *w);
    w->seed = seed;
    w->rng = seed * UINT64_C (0x9E3779B97F4A7C15) | 1;
    assert_int_equal (0, group_state_new (&options, &w->g));
    store (w);
    for (unsigned step = 0; step < STEPS; step++) {
        struct worker *worker = &w->workers[rnd (w, MEMBERS)];
        w->now += rnd (w, 20) * MS;
        if (w->written < FACTS_MAX && rnd (w, 2))
            w->facts[++w->written].key = rnd (w, KEYS + 1);
        look (w, 0);
        switch (rnd (w, 40)) {
        case 0:
            if (worker->number) {
                group_state_leave (w->g, worker->number, (enum group_leave) rnd (w, 3), w->now, w->now);
                worker->number = 0;
                worker->count = 0;
            }
            break;
        case 1:
            worker->stopped = !worker->stopped;
            break;
        case 2:
            restart (w);
            break;
        case 3:
        case 4:
            if (!worker->number)
                come (w, worker);
            break;
        case 5:
            /* What is stored includes all that was done: a confirmed outcome is never forgotten. */
            store (w);
            break;
        default:
            work (w, worker);
            if (rnd (w, 2))
                store (w);
            break;
        }
        tick (w);
        hand_out (w);
    }
    /* In the end all come back, and everything gets done. */
    struct group_counts counts;
    for (unsigned round = 0; round < END_ROUNDS; round++) {
        w->now += 20 * MS;
        look (w, 0);
        group_state_counts (w->g, &counts);
        if (w->taken == w->written && counts.unfinished == 0)
            break;
        for (unsigned i = 0; i < MEMBERS; i++) {
            w->workers[i].stopped = false;
            if (!w->workers[i].number)
                come (w, &w->workers[i]);
            work (w, &w->workers[i]);
        }
        tick (w);
        hand_out (w);
    }
    for (uint64_t offset = 1; offset <= w->written; offset++)
        if (!w->facts[offset].done)
            fault (w, "was never done", offset);
    group_state_counts (w->g, &counts);
    assert_int_equal (0, counts.unfinished + counts.in_hand + counts.later + counts.parked);
    group_state_destroy (&w->g);
}

static void random_schedules_keep_key_order_and_lose_nothing (void **state)
{
    (void) state;
    if (only_seed) {
        run_schedule (only_seed);
        return;
    }
    for (uint64_t seed = 1; seed <= SCHEDULES; seed++)
        run_schedule (seed);
}

int main (int argc, char **argv)
{
    only_seed = argc > 1 ? strtoull (argv[1], NULL, 10) : 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (random_schedules_keep_key_order_and_lose_nothing),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
