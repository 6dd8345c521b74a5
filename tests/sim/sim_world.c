#include "sim_world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sim_node.h"
#include "sim_party.h"

enum {
    LOOK_MS = 50,                           /* how often the dead are started again, and the end is looked for */
    QUIET_S = 120,                          /* everything must have come right by then */
    LASTS_MS = 6000, LONG_MS = 3000,        /* a fault lasts so long at most; of those that last longer than LONG_MS some last */
    LONG_TIMES = 3,                         /* so many times as long */
    QUICK_MS = 300,                         /* so soon a restless publisher is back */
    SHAKEN_MS = 1000,                       /* away for so long: it may have been given up */
    UNHEARD_MS = 600,                       /* of a new process at an old address, at most: a journal waits longer for who sent what came in the old name */
    SETTLED_MS = 3 * SIM_ORPHAN_MS          /* a journal that records nothing for so long has nothing more to wait for */
};

enum fault_kind { KILL, POWER, DOOM, DOOM_POWER, LEAVE, STOP, CUT, BREAK, FULL, FAULT_KINDS };
static const char *const fault_names[] = { "kill", "power", "doom", "doom, power", "leave", "stop", "cut", "break", "disk full" };

struct fault {
    enum fault_kind kind;
    uint64_t at;
    struct party *a, *b;
    uint64_t ns, count;
};

static struct {
    struct fault faults[SIM_FAULTS_MAX];
    unsigned fault_count;
    uint64_t longest_ns;                    /* of the faults, LASTS_MS at least */
    struct sim_random random;
    bool finished, late_started;
    char waiting_for[256];
} world;

static void start_event (void *a, void *b)
{
    (void) b;
    party_start (a);
}

/* --- Faults. */

/* Those who are away for long may be given up; what it alone had is forgiven then. */
static void shake (struct party *p, uint64_t ns)
{
    if (!p || ns < SHAKEN_MS * SIM_MS)
        return;
    if (p->kind == PUBLISHER && p->epoch)
        oracle_epoch_shaken (p->epoch);
    /* Whoever cannot reach the journal is as good as away. */
    for (unsigned i = 0; i < sim_parties.count && p->kind == JOURNAL; i++)
        if (sim_parties.items[i].kind == PUBLISHER && sim_parties.items[i].epoch)
            oracle_epoch_shaken (sim_parties.items[i].epoch);
}

static void fault_happens (void *a, void *b)
{
    const struct fault *f = a;
    struct sim_process *p = f->a->process;
    (void) b;
    sim_trace ("-- fault %u: %s of %s%s%s, %" PRIu64 " ms, %" PRIu64, (unsigned) (f - world.faults), fault_names[f->kind], f->a->name, f->b ? " and " : "",
               f->b ? f->b->name : "", f->ns / SIM_MS, f->count);
    if (!p || p->dead)
        return;
    if (f->a->kind == JOURNAL || (f->b && f->b->kind == JOURNAL))
        oracle_journal_shaken ();
    switch (f->kind) {
    case KILL:
    case POWER:
        f->a->restart_ns = f->ns;
        f->a->power = f->kind == POWER;
        sim_kill (p);
        break;
    case DOOM:
    case DOOM_POWER:
        f->a->restart_ns = f->ns;
        f->a->power = f->kind == DOOM_POWER;
        p->doom = f->count;
        break;
    case LEAVE:
        f->a->restart_ns = f->ns;
        f->a->leave = true;
        break;
    case STOP:
        shake (f->a, f->ns);
        sim_stop (p, f->ns);
        break;
    case CUT:
        shake (f->a, f->ns);
        shake (f->b, f->ns);
        sim_cut (f->a->host, f->b->host, f->ns);
        break;
    case BREAK:
        sim_net_break (f->a->host, f->b->host);
        break;
    case FULL:
        sim_disk_full (f->a->disk, f->count);
        break;
    case FAULT_KINDS:
        break;
    }
}

static void disk_has_room (void *a, void *b)
{
    (void) b;
    sim_disk_full (((struct party *) a)->disk, false);
}

static void plan_faults (uint32_t left_out, uint64_t phase_ns)
{
    struct sim_random r = sim_random_of (sim_seed (), 5);
    world.fault_count = (unsigned) sim_below (&r, 13);
    world.longest_ns = LASTS_MS * SIM_MS;
    for (unsigned i = 0; i < world.fault_count; i++) {
        struct fault *f = &world.faults[i];
        f->kind = (enum fault_kind) sim_below (&r, FAULT_KINDS);
        f->at = sim_below (&r, phase_ns);
        f->a = &sim_parties.items[sim_below (&r, sim_parties.count)];
        struct party *other = &sim_parties.items[sim_below (&r, sim_parties.count)];
        f->count = sim_between (&r, 1, sim_chance (&r, 500) ? 10 : 100);
        f->ns = sim_between (&r, 1, sim_chance (&r, 700) ? 500 : LASTS_MS) * SIM_MS;
        if (sim_parties.restless && f->a->kind == PUBLISHER && f->kind != FULL) {
            f->kind = f->count % 2 ? KILL : LEAVE;
            f->ns = sim_between (&r, 1, QUICK_MS) * SIM_MS;
        }
        if (f->ns > LONG_MS * SIM_MS && f->count % 4 == 0 && f->kind != FULL)
            f->ns *= LONG_TIMES;            /* longer than anybody waits: a session is taken for silent after 10 s */
        if (f->ns > world.longest_ns)
            world.longest_ns = f->ns;
        if (f->kind == CUT || f->kind == BREAK)
            f->b = other != f->a ? other : &sim_parties.items[(f->a->host + 1) % sim_parties.count];
        if (f->kind == FULL) {
            while (f->a->kind != JOURNAL)
                f->a = &sim_parties.items[(f->a->host + 1) % sim_parties.count];
        }
        if (left_out >> i & 1)
            continue;
        sim_after (f->at, fault_happens, f, NULL);
        if (f->kind == FULL)
            sim_after (f->at + f->ns, disk_has_room, f->a, NULL);
    }
}

/* --- The end. */

/* Has it recorded nothing for a while? Then it waits for nobody that may not come any more. */
static bool has_settled (struct party *p)
{
    struct log_position at = { 0 };
    if (p->log)
        log_position (p->log, &at);
    if (at.end_offset != p->end_offset) {
        p->end_offset = at.end_offset;
        p->settled_ns = sim_time ();
    }
    (void) snprintf (world.waiting_for, sizeof world.waiting_for, "%s goes on recording", p->name);
    return p->log && sim_time () - p->settled_ns >= SETTLED_MS * SIM_MS;
}

static bool all_done (void)
{
    for (unsigned i = 0; i < sim_parties.count; i++) {
        struct party *p = &sim_parties.items[i];
        if (!p->process || p->process->dead || (p->kind == PUBLISHER && !p->done)) {
            (void) snprintf (world.waiting_for, sizeof world.waiting_for, "%s is not done", p->name);
            return false;
        }
        if (p->kind == JOURNAL && !has_settled (p))
            return false;
        if (p->kind == SUBSCRIBER && !watcher_complete (p->watcher, world.waiting_for, sizeof world.waiting_for))
            return false;
    }
    return true;
}

static bool all_audited (void)
{
    for (unsigned i = 0; i < sim_parties.count; i++)
        if (sim_parties.items[i].kind == JOURNAL && !sim_parties.items[i].audited)
            return false;
    return true;
}

static void add_late (void)
{
    const unsigned count = sim_parties.count;
    for (unsigned i = 0; i < count && sim_parties.count < SIM_HOSTS_MAX; i++) {
        if (sim_parties.items[i].kind != SUBSCRIBER)
            continue;
        struct party *p = party_new (SUBSCRIBER, "s");
        p->patterns = sim_parties.items[i].patterns;
        p->from = FM_FROM_START;
        p->delivery = FM_SYNCED;
        p->late = true;
        p->watcher = oracle_watcher (p->name, p->patterns, true);
        party_start (p);
    }
    world.late_started = true;
}

static void look (void *a, void *b)
{
    (void) a;
    (void) b;
    for (unsigned i = 0; i < sim_parties.count; i++)
        party_look_after (&sim_parties.items[i]);
    if (sim_parties.quiet && !world.late_started && all_done ())
        add_late ();
    else if (world.late_started && !sim_parties.audit && all_done ())
        sim_parties.audit = true;
    world.finished = sim_parties.audit && all_audited ();
    sim_after (LOOK_MS * SIM_MS, look, NULL, NULL);
}

static bool is_finished (void)
{
    return world.finished;
}

/* Where every subscription stands, for who reads the trace of a failure. */
static void tell_state (void)
{
    static const char *const states[] = { "replay", "merge", "live" };
    for (unsigned i = 0; i < sim_parties.count; i++) {
        const struct party *p = &sim_parties.items[i];
        if (!p->in)
            continue;
        sim_trace ("%s: session %d, %zu streams, base %" PRIu64 ", %zu bytes held", p->name, (int) p->in->session_state, p->in->stream_count, p->in->base.offset,
                   p->in->held_bytes);
        for (size_t k = 0; k < p->in->table_size; k++) {
            const struct stream *st = p->in->table[k];
            if (st)
                sim_trace ("%s: %02x%02x%02x%02x %s, P %" PRIu64 ", known %" PRIu64 ", synced %" PRIu64 ", %zu held, epoch %" PRIu64 "%s%s%s%s", p->name,
                           st->id.bytes[0], st->id.bytes[1], st->id.bytes[2], st->id.bytes[3], states[st->h.state], st->h.complete, st->h.known,
                           st->h.synced, st->h.held_count, st->epoch, st->positioned ? ", positioned" : "", st->has_owner ? ", has owner" : "",
                           st->owner_gone ? ", gone" : "", st->repair ? ", asks" : "");
        }
    }
}

static void compare (void)
{
    oracle_check_logs ();
    for (unsigned i = 0; i < sim_parties.count; i++)
        for (unsigned k = 0; k < sim_parties.count; k++) {
            const struct party *early = &sim_parties.items[i], *late = &sim_parties.items[k];
            if (early->kind == SUBSCRIBER && !early->late && watcher_is_early (early->watcher) && late->kind == SUBSCRIBER && late->late
                && late->patterns == early->patterns && watcher_is_early (late->watcher))
                oracle_check_late (early->watcher, late->watcher);
        }
}

static void set_up (uint32_t left_out, uint64_t phase_ns)
{
    struct sim_random *r = &world.random;
    const struct sim_net_options net = {
        .drop_per_thousand = sim_chance (r, 500) ? 0 : (unsigned) sim_between (r, 1, 200),
        .delay_ns = sim_between (r, 20000, sim_chance (r, 200) ? 20 * SIM_MS : 300000),
        .spike_ns = sim_between (r, SIM_MS, 300 * SIM_MS),
    };
    sim_net_set (&net);
    struct sim_random addresses = sim_random_of (sim_seed (), 6);
    sim_parties.restless = sim_chance (&addresses, 100);
    sim_node_set_unheard (sim_parties.restless || sim_chance (&addresses, 200) ? sim_between (&addresses, SIM_MS, UNHEARD_MS * SIM_MS) : 0);
    const unsigned publishers = (unsigned) sim_between (r, 1, 3), journals = sim_chance (r, 250) ? 2 : 1, subscribers = (unsigned) sim_between (r, 1, 3);
    oracle_journals (journals);
    for (unsigned i = 0; i < journals; i++)
        party_add_journal ();
    for (unsigned i = 0; i < publishers; i++)
        party_add_publisher (phase_ns);
    for (unsigned i = 0; i < subscribers; i++)
        (void) party_add_subscriber ();
    for (unsigned i = 0; i < sim_parties.count; i++) {
        struct party *p = &sim_parties.items[i];
        const bool late = sim_parties.restless && p->kind == JOURNAL;
        sim_after (late ? phase_ns / 2 + sim_below (r, phase_ns / 2) : sim_below (r, sim_chance (r, 700) ? 100 * SIM_MS : phase_ns), start_event, p, NULL);
    }
    plan_faults (left_out, phase_ns);
    sim_after (LOOK_MS * SIM_MS, look, NULL, NULL);
}

static void make_quiet (void)
{
    const struct sim_net_options fair = { .delay_ns = 200000, .spike_ns = 20 * SIM_MS };
    sim_net_set (&fair);
    sim_parties.quiet = true;
    sim_trace ("-- quiet");
}

void sim_world_run (uint64_t seed, uint32_t left_out, struct sim_result *ret_result)
{
    memset (&world, 0, sizeof world);
    memset (&sim_parties, 0, sizeof sim_parties);
    sim_begin (seed);
    oracle_begin ();
    world.random = sim_random_of (seed, 3);
    const uint64_t start = sim_time (), phase_ns = sim_between (&world.random, SIM_S, 8 * SIM_S);
    set_up (left_out, phase_ns);
    (void) sim_run (NULL, start + phase_ns + 500 * SIM_MS);
    /* What the last faults began ends within this. */
    if (!sim_failure ()[0])
        (void) sim_run (NULL, start + phase_ns + world.longest_ns + 500 * SIM_MS);
    if (!sim_failure ()[0]) {
        for (unsigned i = 0; i < sim_parties.count; i++)
            if (sim_parties.items[i].process)
                sim_parties.items[i].process->doom = 0;
        make_quiet ();
        if (sim_run (is_finished, sim_time () + QUIET_S * SIM_S))
            compare ();
        else
            sim_fail ("liveness: %s", world.waiting_for[0] ? world.waiting_for : "the journals do not answer");
    }
    if (sim_traces && sim_failure ()[0])
        tell_state ();
    ret_result->virtual_ns = sim_time () - start;
    ret_result->facts = oracle_fact_count ();
    ret_result->faults = world.fault_count;
    sim_end ();
    (void) snprintf (ret_result->failure, sizeof ret_result->failure, "%s", sim_failure ());
    for (unsigned i = 0; i < sim_parties.count; i++)
        sim_disk_destroy (&sim_parties.items[i].disk);
    oracle_end ();
}
