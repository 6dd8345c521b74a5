/* intake_state in a model of everything around it: publishers that restart, crash and vanish, a link that drops, windows that let go what another
 * journal has synced, answers that break off. Each schedule is made from a seed, in virtual time; a failure prints it, and `test_intake_model SEED`
 * runs it alone.
 *
 * The oracle knows every fact. What is appended is in sequence, each sequence once, of the epoch that published it; and no sequence
 * that its living publisher still holds is ever told as a gap, unless the publisher is told that its epoch is over. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/chance.h"
#include "../support/intake_kit.h"
#include "factmesh.pb-c.h"

enum { SCHEDULES = 50000, SEQ_MAX = 600, LINK_MAX = 64, BATCHES_MAX = 300 };

struct model_batch {
    uint64_t first, end, epoch;
    bool in_window;                 /* its publisher has it, and lives */
    bool at_other;                  /* the other journal has it, */
    uint64_t at_other_from;         /* and serves it from then on, when it is synced there */
};

struct frame {
    bool head;
    uint64_t head_seq;
    size_t batch;
    uint64_t epoch;
    struct fm_id from;
};

struct question {
    bool open;
    struct fm_id node;
    uint64_t next, end;
};

struct world {
    uint64_t seed, rng, now;
    struct intake_limits limits;
    struct intake_state s;
    bool known;                     /* intake has a state for the stream (else it was forgotten) */

    struct model_batch batches[BATCHES_MAX];
    size_t batch_count;
    uint64_t epoch, epoch_first, next_seq;
    struct fm_id node;
    bool lives, told_over;
    uint8_t node_count;
    bool other_there;
    uint64_t other_gone;            /* since when it is not */

    struct frame link[LINK_MAX];
    size_t link_count;
    struct question owner, journal;

    uint64_t log_end;               /* all below is recorded */
    uint64_t log_epoch;
    bool log_closed;                /* as log_stream.closed: closed_epoch is */
    uint64_t closed_epoch;
    char log[SEQ_MAX];              /* 'f' fact, 'g' gap */
    unsigned gaps, facts, forgotten;
};

static uint64_t only_seed;

static uint64_t rnd (struct world *w, uint64_t below)
{
    return chance_below (&w->rng, below);
}

#define CHECK(w, condition) \
    do \
        if (!(condition)) \
            fail_msg ("seed %llu, time %llu: %s", (unsigned long long) (w)->seed, (unsigned long long) (w)->now, #condition); \
    while (0)

static void record_batch (struct world *w, const struct model_batch *b)
{
    CHECK (w, b->first == w->log_end);
    CHECK (w, b->epoch >= w->log_epoch);
    for (uint64_t seq = b->first; seq < b->end; seq++)
        w->log[seq] = 'f';
    w->facts++;
    w->log_end = b->end;
    w->log_epoch = b->epoch;
    intake_state_appended (&w->s, b->end, b->epoch, b->epoch * 10, w->now);
}

static void record_held (struct world *w)
{
    struct intake_item item;
    bool append;
    while (intake_state_take (&w->s, &item, &append))
        if (append)
            record_batch (w, item.ref);
}

static void take (struct world *w, size_t index, bool repaired, const struct fm_id *from, uint64_t epoch_first, bool announced)
{
    struct model_batch *m = &w->batches[index];
    struct intake_batch b = live_batch (m->first, m->end, m->epoch, epoch_first, from);
    b.repaired = repaired;
    b.announced = announced;
    b.bytes = 40;
    switch (intake_state_batch (&w->s, &b, w->now)) {
    case INTAKE_APPEND:
        record_batch (w, m);
        record_held (w);
        break;
    case INTAKE_HOLD: {
        const struct intake_item item = { .first_seq = m->first, .end_seq = m->end, .epoch = m->epoch, .bytes = 40, .ref = m };
        CHECK (w, intake_state_hold (&w->s, &item) == 0);
        break;
    }
    case INTAKE_CONFLICT:
        CHECK (w, m->epoch == w->s.orphaned_epoch);
        w->told_over = w->told_over || m->epoch == w->epoch;
        break;
    case INTAKE_REFUSE_OVERLAP:
        CHECK (w, !"overlap");
        break;
    default:
        break;
    }
    CHECK (w, w->s.held_bytes <= w->limits.stream_held_max && w->limits.held_bytes <= w->limits.held_max);
}

static void publish (struct world *w)
{
    if (!w->lives || w->told_over || w->batch_count == BATCHES_MAX || w->next_seq + 5 > SEQ_MAX)
        return;
    struct model_batch *b = &w->batches[w->batch_count];
    *b = (struct model_batch) { .first = w->next_seq, .end = w->next_seq + 1 + rnd (w, 4), .epoch = w->epoch, .in_window = true };
    w->next_seq = b->end;
    if (w->link_count < LINK_MAX && rnd (w, 4))
        w->link[w->link_count++] = (struct frame) { .batch = w->batch_count, .epoch = w->epoch, .from = w->node };
    w->batch_count++;
}

static void tell_head (struct world *w)
{
    if (w->lives && !w->told_over && w->link_count < LINK_MAX)
        w->link[w->link_count++] = (struct frame) { .head = true, .head_seq = w->next_seq - 1, .epoch = w->epoch, .from = w->node };
}

static void need_state (struct world *w)
{
    if (w->known)
        return;
    intake_state_init (&w->s, &w->limits, w->log_end, w->log_epoch, w->log_epoch * 10);
    if (w->log_closed && w->closed_epoch == w->log_epoch)
        intake_state_orphaned (&w->s);
    w->known = true;
}

static void deliver (struct world *w)
{
    if (!w->link_count)
        return;
    const struct frame f = w->link[0];
    memmove (w->link, w->link + 1, --w->link_count * sizeof f);
    need_state (w);
    /* All frames of one epoch tell the same beginning. */
    uint64_t epoch_first = w->epoch_first;
    for (size_t i = 0; f.epoch != w->epoch && i < w->batch_count; i++)
        if (w->batches[i].epoch == f.epoch) {
            epoch_first = w->batches[i].first;
            break;
        }
    if (!f.head) {
        take (w, f.batch, false, &f.from, epoch_first, rnd (w, 20) == 0);
        return;
    }
    const struct intake_batch notice = live_batch (0, f.head_seq + 1, f.epoch, epoch_first, &f.from);
    const enum intake_verdict verdict = intake_state_head (&w->s, &notice, w->now);
    if (verdict == INTAKE_CONFLICT) {
        CHECK (w, f.epoch == w->s.orphaned_epoch);
        w->told_over = w->told_over || f.epoch == w->epoch;
    }
}

/* A publisher is no more. What of its window the other journal has received is soon synced there. */
static void die (struct world *w)
{
    for (size_t i = 0; i < w->batch_count; i++) {
        struct model_batch *b = &w->batches[i];
        if (b->in_window && w->other_there && rnd (w, 3) == 0) {
            b->at_other = true;
            b->at_other_from = w->now + rnd (w, w->limits.holders_ns);
        }
        b->in_window = false;
    }
}

/* The publisher's node goes: what it sent is read first, or lost with the connection. */
static void go (struct world *w, bool goodbye)
{
    if (!w->lives)
        return;
    w->lives = false;
    if (rnd (w, 2))
        while (w->link_count)
            deliver (w);
    w->link_count = 0;
    die (w);
    if (w->known && intake_state_owner_gone (&w->s, &w->node, goodbye, w->now))
        record_held (w);
    w->owner.open = false;
}

/* A new process with the same identity; the older one may not have been noticed to be gone. */
static void start (struct world *w, bool unnoticed)
{
    if (w->lives && !unnoticed)
        go (w, rnd (w, 2));
    die (w);
    const struct fm_id old = w->node;
    const bool was = w->lives;
    w->node.bytes[0] = ++w->node_count;
    w->epoch++;
    w->epoch_first = w->next_seq += rnd (w, 2) ? 0 : 1 + rnd (w, 20);
    w->lives = true;
    w->told_over = false;
    publish (w);
    if (was && rnd (w, 2)) {                /* noticed a little later */
        deliver (w);
        if (w->known && intake_state_owner_gone (&w->s, &old, false, w->now))
            record_held (w);
    }
}

/* Another journal synced something: the publisher lets it go. */
static void let_go (struct world *w)
{
    const size_t upto = w->batch_count ? rnd (w, w->batch_count) : 0;
    for (size_t i = 0; i < upto; i++)
        if (w->batches[i].in_window) {
            w->batches[i].at_other = true;
            w->batches[i].in_window = false;
        }
}

/* The next piece of an answer. */
static void answer_owner (struct world *w)
{
    struct question *q = &w->owner;
    if (!q->open)
        return;
    if (!w->lives || !id_equal (&q->node, &w->node)) {
        q->open = false;                    /* silence: its deadline passes */
        return;
    }
    if (rnd (w, 12) == 0) {
        q->open = false;                    /* the connection broke, or it is too busy */
        if (rnd (w, 2))
            intake_state_unasked (&w->s, false, w->now);
        return;
    }
    for (size_t i = 0; i < w->batch_count; i++)
        if (w->batches[i].in_window && w->batches[i].end > q->next && w->batches[i].first < q->end) {
            if (w->batches[i].first > q->next) {
                intake_state_gone (&w->s, false, q->next, w->batches[i].first, FACTMESH__GAP_REASON__GAP_SYNCED, w->now);
                q->open = false;
                intake_state_answered (&w->s, false, w->now);
                return;
            }
            q->next = w->batches[i].end;
            take (w, i, true, &w->node, w->epoch_first, false);
            return;
        }
    if (q->next < q->end && q->next < w->next_seq)
        intake_state_gone (&w->s, false, q->next, q->end < w->next_seq ? q->end : w->next_seq, FACTMESH__GAP_REASON__GAP_SYNCED, w->now);
    q->open = false;
    intake_state_answered (&w->s, false, w->now);
}

static void answer_journal (struct world *w)
{
    struct question *q = &w->journal;
    if (!q->open || !w->other_there)
        return;
    if (rnd (w, 8) == 0) {
        q->open = false;                    /* silent, or too busy */
        if (rnd (w, 2))
            intake_state_unasked (&w->s, true, w->now);
        return;
    }
    for (size_t i = 0; i < w->batch_count; i++)
        if (w->batches[i].at_other && w->batches[i].end > q->next && w->batches[i].first < q->end) {
            if (w->now < w->batches[i].at_other_from) {
                intake_state_later (&w->s);
                return;
            }
            if (w->batches[i].first > q->next) {
                intake_state_gone (&w->s, true, q->next, w->batches[i].first, FACTMESH__GAP_REASON__GAP_NOT_HELD, w->now);
                q->next = w->batches[i].first;
                return;
            }
            q->next = w->batches[i].end;
            take (w, i, true, &node_b, w->epoch_first, false);
            return;
        }
    q->open = false;
    intake_state_later (&w->s);
}

/* Known to intake: there, or gone for no longer than it must wait. */
static size_t journals (const struct world *w)
{
    return w->other_there || (w->other_gone && w->now < w->other_gone + w->limits.holders_ns);
}

static void record_gap (struct world *w, const struct intake_todo *todo)
{
    CHECK (w, todo->first_seq == w->log_end && todo->end_seq > todo->first_seq);
    for (size_t i = 0; i < w->batch_count; i++) {
        const struct model_batch *b = &w->batches[i];
        const bool within = b->end > todo->first_seq && b->first < todo->end_seq;
        /* The living publisher has it: then it must hear that its epoch is over. */
        if (within && b->in_window)
            CHECK (w, w->s.orphaned_epoch == b->epoch);
        /* A fact that any holder has beats a void. */
        if (within && b->at_other)
            CHECK (w, !journals (w));
    }
    for (uint64_t seq = todo->first_seq; seq < todo->end_seq; seq++)
        w->log[seq] = 'g';
    w->gaps++;
    w->log_end = todo->end_seq;
    CHECK (w, todo->epoch >= w->log_epoch && (!todo->closes || w->s.orphaned_epoch == todo->epoch));
    w->log_epoch = todo->epoch;
    w->log_closed = todo->closes || (w->log_closed && todo->epoch == w->closed_epoch);
    w->closed_epoch = w->log_closed ? todo->epoch : 0;
    intake_state_appended (&w->s, todo->end_seq, todo->epoch, todo->incarnation, w->now);
    record_held (w);
}

static void look_after (struct world *w)
{
    for (unsigned n = 0; w->known; n++) {
        struct intake_todo todo;
        CHECK (w, n < 100);
        intake_state_todo (&w->s, w->now, journals (w), &todo);
        switch (todo.kind) {
        case INTAKE_TODO_ASK_OWNER:
            w->owner = (struct question) { .open = true, .node = w->s.now.owner, .next = todo.first_seq, .end = todo.end_seq };
            break;
        case INTAKE_TODO_ASK_JOURNAL:
            w->journal = (struct question) { .open = true, .next = todo.first_seq, .end = todo.end_seq };
            if (!w->other_there)
                intake_state_unasked (&w->s, true, w->now);
            break;
        case INTAKE_TODO_TAKE:
            record_held (w);
            break;
        case INTAKE_TODO_GAP:
            record_gap (w, &todo);
            break;
        case INTAKE_TODO_FORGET:
            w->forgotten++;
            drop_all (&w->s);
            w->known = w->owner.open = w->journal.open = false;
            break;
        case INTAKE_TODO_NOTHING:
            return;
        }
    }
}

/* The journal starts anew: it knows what its log says, and nothing else. */
static void restart (struct world *w)
{
    if (w->known)
        drop_all (&w->s);
    w->known = w->owner.open = w->journal.open = false;
}

static void step (struct world *w)
{
    w->now += rnd (w, 20 * (uint64_t) MS);
    switch (rnd (w, 24)) {
    case 0:
        if (rnd (w, 6) == 0)
            start (w, false);
        break;
    case 1:
        if (rnd (w, 6) == 0)
            go (w, rnd (w, 2));
        break;
    case 2:
        if (rnd (w, 6) == 0)
            start (w, true);
        break;
    case 3:
        if (rnd (w, 4) == 0)
            let_go (w);
        break;
    case 4:
        tell_head (w);
        break;
    case 5:
        if (rnd (w, 4) == 0) {
            w->other_there = !w->other_there;
            w->other_gone = w->now;
            if (w->known)
                intake_state_journals_changed (&w->s, w->now);
        }
        break;
    case 6: case 7: case 8: case 9: case 10:
        publish (w);
        break;
    case 11: case 12:
        if (w->known)
            answer_owner (w);
        break;
    case 13:
        if (w->known)
            answer_journal (w);
        break;
    case 14:
        if (rnd (w, 20) == 0)
            w->now += 2 * w->limits.orphan_ns;
        break;
    case 15:
        if (rnd (w, 20) == 0)
            restart (w);
        break;
    default:
        deliver (w);
    }
    look_after (w);
}

/* Nothing fails any more, and time passes: all that can be recorded is. */
static void quiesce (struct world *w)
{
    if (!w->lives || w->told_over)
        start (w, false);
    for (unsigned n = 0; n < 3000; n++) {
        w->now += 20 * (uint64_t) MS;
        if (n % 50 == 0)
            tell_head (w);
        deliver (w);
        if (w->known) {
            answer_owner (w);
            answer_journal (w);
        }
        look_after (w);
        if (w->told_over)
            start (w, false);
    }
    CHECK (w, w->log_end == w->next_seq);
    for (size_t i = 0; i < w->batch_count; i++)
        for (uint64_t seq = w->batches[i].first; seq < w->batches[i].end; seq++)
            CHECK (w, !w->batches[i].in_window || w->log[seq] == 'f');
}

static void schedule (uint64_t seed, unsigned *gaps, unsigned *facts, unsigned *forgotten)
{
    struct world *w = calloc (1, sizeof *w);
    w->seed = seed;
    w->rng = seed * 0x9e3779b97f4a7c15u + 1;
    w->now = 1;
    w->limits = limits_new ();
    w->next_seq = w->log_end = 1;
    start (w, false);
    const unsigned steps = 50 + (unsigned) rnd (w, 400);
    for (unsigned n = 0; n < steps; n++)
        step (w);
    quiesce (w);
    *gaps += w->gaps;
    *facts += w->facts;
    *forgotten += w->forgotten;
    if (w->known)
        drop_all (&w->s);
    CHECK (w, w->limits.held_bytes == 0);
    free (w);
}

static void random_schedules_record_everything_that_a_living_publisher_has (void **state)
{
    (void) state;
    unsigned gaps = 0, facts = 0, forgotten = 0;
    if (only_seed)
        schedule (only_seed, &gaps, &facts, &forgotten);
    for (uint64_t seed = 1; !only_seed && seed <= SCHEDULES; seed++)
        schedule (seed, &gaps, &facts, &forgotten);
    print_message ("%u batches recorded, %u gaps, %u times forgotten\n", facts, gaps, forgotten);
    if (!only_seed)
        assert_true (gaps > SCHEDULES / 10 && facts > SCHEDULES && forgotten > SCHEDULES / 10);
}

int main (int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (random_schedules_record_everything_that_a_living_publisher_has),
    };
    if (argc > 1)
        only_seed = strtoull (argv[1], NULL, 0);
    return cmocka_run_group_tests (tests, NULL, NULL);
}
