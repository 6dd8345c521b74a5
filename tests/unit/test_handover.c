/* handover against a model of everything around it: a publisher with levels, restarts and a window, a journal that lags behind
 * and declares void what it never got, a live path that drops, repeats and delays, holders whose answers break off.
 *
 * Each schedule is made from a seed, in virtual time; a failure prints the seed, and `test_handover SEED` runs it alone. The oracle
 * knows every fact: what is under the level comes in order, each once; what is void comes live or is told as a gap, never both, never
 * neither; in SYNCED delivery nothing comes that the journal has not synced. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../support/chance.h"
#include "handover.h"

enum { SCHEDULES = 120000, BATCHES_MAX = 80, SEQ_MAX = 400, LINK_MAX = 256, TOPICS = 4, HELD_BYTES_MAX = 10 };

struct fact { bool used, matches, is_void, delivered, told; unsigned topic; };
struct model_batch { uint64_t first, end, prev; bool is_void; };
struct record { bool gap; uint64_t first, end; bool under; };
enum frame_kind { FRAME_BATCH, FRAME_ANNOUNCED, FRAME_HEAD, FRAME_MARK };
struct frame { enum frame_kind kind; uint64_t first, end, prev, epoch, epoch_first; };
/* A session at a holder: everything from `next` on; the journal's is a place in its records, the publisher's a sequence. */
struct session { bool open, journal; uint64_t from, end; size_t record; };

struct world {
    uint64_t seed, rng;
    bool synced_only;
    unsigned level;                             /* which topics are under our level */
    struct fact facts[SEQ_MAX];
    struct model_batch batches[BATCHES_MAX];
    size_t batch_count, batch_recorded;         /* sent; received by the journal */
    uint64_t epoch, head, epoch_first, level_last;  /* of the publisher; level_last within this epoch, else epoch_first - 1 */
    uint64_t trimmed;                           /* the window begins behind it */
    struct record records[2 * BATCHES_MAX];
    size_t record_count, record_synced;
    struct frame link[LINK_MAX];
    size_t link_count;
    struct handover h;
    struct session replay, repair;
    uint64_t taken;                             /* what a restarted subscriber knows */
    uint64_t epoch_seen;
    uint64_t order;                             /* the last sequence told in any way */
    uint64_t last_from, last_end;               /* what was delivered last */
    unsigned falls, holes, gaps;
};

static uint64_t only_seed;

static uint64_t rnd (struct world *w, uint64_t below)
{
    return chance_below (&w->rng, below);
}

static void fault (const struct world *w, const char *what, uint64_t seq)
{
    fail_msg ("seed %llu: %s at sequence %llu (P %llu, state %d, held %zu)", (unsigned long long) w->seed, what,
              (unsigned long long) seq, (unsigned long long) w->h.complete, (int) w->h.state, w->h.held_count);
}

/* --- The oracle. */

static uint64_t synced_last (const struct world *w)
{
    return w->record_synced ? w->records[w->record_synced - 1].end - 1 : 0;
}

static void oracle_deliver (struct world *w, uint64_t from, uint64_t end)
{
    for (uint64_t s = from; s < end; s++) {
        struct fact *f = &w->facts[s];
        if (!f->used || f->delivered || f->told)
            fault (w, f->used ? "told twice" : "invented", s);
        if (s <= w->order)
            fault (w, "out of order", s);
        for (uint64_t m = w->order + 1; m < s; m++) {
            if (w->facts[m].used && w->facts[m].matches)
                fault (w, "left out", m);
        }
        if (w->synced_only && s > synced_last (w))
            fault (w, "not synced yet", s);
        if (w->synced_only && f->is_void)
            fault (w, "void, and yet delivered as synced", s);
        f->delivered = true;
        w->order = s;
    }
    w->last_from = from;
    w->last_end = end;
    w->taken = w->h.complete;
}

static void oracle_gap (struct world *w, uint64_t first, uint64_t end)
{
    if (first <= w->order)
        fault (w, "a gap out of order", first);
    for (uint64_t m = w->order + 1; m < first; m++) {
        if (w->facts[m].used && w->facts[m].matches)
            fault (w, "left out before a gap", m);
    }
    if (!w->synced_only && w->h.held_count && w->h.held[w->h.held_first].first_seq < end)
        fault (w, "a gap over what is held", first);
    for (uint64_t s = first; s < end; s++) {
        struct fact *f = &w->facts[s];
        if (f->used && (f->delivered || f->told || !f->is_void))
            fault (w, "a gap that is none", s);
        f->told = true;
        w->order = s;
    }
    w->gaps++;
    w->last_end = 0;
    w->taken = w->h.complete;
}

/* --- The subscriber: what subscription.c does with the machine, without its sockets. */

static void check_machine (struct world *w)
{
    const struct handover *h = &w->h;
    size_t bytes = 0;
    uint64_t last = 0;
    for (size_t i = 0; i < h->held_count; i++) {
        const struct handover_item *item = &h->held[(h->held_first + i) & (h->held_size - 1)];
        if (item->first_seq <= last)
            fault (w, "held out of order", item->first_seq);
        last = item->end_seq - 1;
        bytes += item->bytes;
    }
    if (bytes != h->held_bytes || bytes > h->held_max || h->chained > h->held_count)
        fault (w, "held is miscounted", bytes);
    if (h->state == HANDOVER_REPLAY && h->held_count)
        fault (w, "held in REPLAY", last);
    if (h->complete < w->taken)
        fault (w, "P fell", h->complete);
}

static void take_all (struct world *w)
{
    struct handover_item item;
    uint64_t from;
    while (handover_take (&w->h, &item, &from)) {
        if (from < item.end_seq)
            oracle_deliver (w, from, item.end_seq);
    }
    w->taken = w->h.complete;
}

static void open_replay (struct world *w)
{
    w->replay = (struct session) { .open = true, .journal = true, .from = w->h.complete + 1, .end = UINT64_MAX };
}

static void fall (struct world *w)
{
    struct handover_item item;
    while (handover_drop_held (&w->h, &item))
        ;
    if (w->h.state != HANDOVER_REPLAY)
        fault (w, "fell, and yet holds", w->h.complete);
    w->falls++;
    if (!w->replay.open)
        open_replay (w);
}

static void receive_live (struct world *w, const struct frame *f)
{
    uint64_t from;
    struct handover_item old;
    /* An older epoch is refused; the marks of a publisher not met yet too: the stream table's business. */
    if (f->epoch < w->epoch_seen || (f->kind == FRAME_MARK && f->epoch != w->epoch_seen))
        return;
    while (f->epoch > w->epoch_seen && handover_new_epoch (&w->h, f->epoch_first, &old))
        ;
    w->epoch_seen = f->epoch;
    switch (f->kind) {
    case FRAME_BATCH:;
        const struct handover_item item = { .first_seq = f->first, .end_seq = f->end, .prev = f->prev, .bytes = (size_t) (f->end - f->first) };
        const enum handover_verdict verdict = handover_live (&w->h, &item, &from);
        if (verdict == HANDOVER_DELIVER)
            oracle_deliver (w, from, f->end);
        else if (verdict == HANDOVER_BEHIND)
            fall (w);
        break;
    case FRAME_ANNOUNCED:
        handover_announced (&w->h, f->end);
        break;
    case FRAME_HEAD:
        handover_head (&w->h, f->prev, f->end - 1);
        break;
    case FRAME_MARK:
        handover_synced (&w->h, f->end - 1);
        break;
    }
    take_all (w);
}

/* A question for what is missing, if there is any and none is on its way. */
static void ask (struct world *w)
{
    uint64_t first = w->h.complete + 1, end;
    if (w->repair.open || (!handover_hole (&w->h, &first, &end) && !handover_waits_for_mark (&w->h, &end)))
        return;
    const bool journal = w->synced_only || rnd (w, 2) == 0;
    w->repair = (struct session) { .open = true, .journal = journal, .from = first, .end = end };
    w->holes++;
}

/* One message of a journal's session: some records, or word that there are none. */
static void step_journal (struct world *w, struct session *s)
{
    uint64_t from, first, end, through = 0;
    for (uint64_t n = rnd (w, 4); n > 0 && s->record < w->record_synced; n--) {
        const struct record *r = &w->records[s->record++];
        if (r->end <= s->from)
            continue;
        if (r->first >= s->end)
            break;
        through = r->end - 1;
        if (r->gap) {
            while (handover_gap (&w->h, r->first, r->end, &first, &end)) {
                if (end > first)
                    oracle_gap (w, first, end);
                take_all (w);
            }
        } else if (r->under && handover_replayed (&w->h, r->first, r->end, &from) == HANDOVER_DELIVER) {
            oracle_deliver (w, from, r->end);
        }
        take_all (w);
    }
    if (through)
        handover_covered (&w->h, through);
    take_all (w);
    if (s->end != UINT64_MAX && s->record && w->records[s->record - 1].end >= s->end) {
        s->open = false;
    } else if (s->end == UINT64_MAX) {
        if (w->record_synced - s->record <= 3)
            handover_near (&w->h);
        if (s->record == w->record_synced)
            handover_caught_up (&w->h);
        take_all (w);
        if (s->record == w->record_synced && rnd (w, 8) == 0)
            handover_go_live (&w->h);           /* the subscription's patience ends */
        if (w->h.state == HANDOVER_LIVE)
            s->open = false;
    }
}

/* The publisher answers from its window, batch by batch; what it trimmed must be asked of the journal. */
static void step_publisher (struct world *w, struct session *s)
{
    uint64_t from;
    if (s->from <= w->trimmed || s->from < w->epoch_first) {
        s->journal = true;
        s->from = w->h.complete + 1;
        s->record = 0;
        return;
    }
    for (size_t i = 0; i < w->batch_count; i++) {
        const struct model_batch *b = &w->batches[i];
        if (b->end <= s->from)
            continue;
        if (b->first >= s->end)
            break;
        if (handover_replayed (&w->h, b->first, b->end, &from) == HANDOVER_DELIVER)
            oracle_deliver (w, from, b->end);
        take_all (w);
        s->from = b->end;
        if (rnd (w, 2))
            return;
    }
    s->open = false;
}

static void step_session (struct world *w, struct session *s)
{
    if (!s->open)
        return;
    if (s->journal)
        step_journal (w, s);
    else
        step_publisher (w, s);
}

/* --- The others. */

static void send (struct world *w, struct frame f)
{
    f.epoch = w->epoch;
    f.epoch_first = w->epoch_first;
    if (w->link_count < LINK_MAX)
        w->link[w->link_count++] = f;
}

static void publish (struct world *w, bool announced)
{
    if (w->batch_count == BATCHES_MAX || w->head + 4 >= SEQ_MAX)
        return;
    const uint64_t count = 1 + rnd (w, 3);
    const bool several = rnd (w, 3) == 0;
    unsigned topics = 1u << rnd (w, TOPICS);
    uint64_t prev = w->level_last;
    struct model_batch b = { .first = w->head + 1, .end = w->head + 1 + count };
    for (uint64_t s = b.first; s < b.end; s++) {
        if (several && s > b.first)
            topics = 1u << rnd (w, TOPICS);
        w->facts[s] = (struct fact) { .used = true, .matches = (topics & w->level) != 0, .topic = topics };
    }
    bool under = false;
    for (uint64_t s = b.first; s < b.end; s++) {
        if (w->facts[s].matches) {
            under = true;
            w->level_last = s;
        }
    }
    /* The publisher's table overflowed: a larger prev, which costs a question and never a fact. */
    if (rnd (w, 6) == 0)
        prev += rnd (w, b.first - prev);
    b.prev = prev;
    w->batches[w->batch_count++] = b;
    w->head = b.end - 1;
    if (under)
        send (w, (struct frame) { .kind = announced ? FRAME_ANNOUNCED : FRAME_BATCH, .first = b.first, .end = b.end, .prev = prev });
}

static bool batch_under (const struct world *w, const struct model_batch *b)
{
    for (uint64_t s = b->first; s < b->end; s++) {
        if (w->facts[s].matches)
            return true;
    }
    return false;
}

static void record (struct world *w)
{
    if (w->batch_recorded == w->batch_count)
        return;
    const struct model_batch *b = &w->batches[w->batch_recorded++];
    const uint64_t last = w->record_count ? w->records[w->record_count - 1].end - 1 : 0;
    if (b->is_void)
        return;
    if (b->first > last + 1)
        w->records[w->record_count++] = (struct record) { .gap = true, .first = last + 1, .end = b->first };
    w->records[w->record_count++] = (struct record) { .first = b->first, .end = b->end, .under = batch_under (w, b) };
}

static void sync_some (struct world *w)
{
    w->record_synced += rnd (w, w->record_count - w->record_synced + 1);
    if (rnd (w, 2) && synced_last (w) > w->trimmed)
        w->trimmed = synced_last (w);
}

static void restart_publisher (struct world *w)
{
    for (size_t i = w->batch_recorded; i < w->batch_count; i++) {
        w->batches[i].is_void = true;
        for (uint64_t s = w->batches[i].first; s < w->batches[i].end; s++)
            w->facts[s].is_void = true;
    }
    w->head += rnd (w, 4);
    w->epoch++;
    w->epoch_first = w->head + 1;
    w->level_last = w->head;
    if (w->repair.open && !w->repair.journal)
        w->repair.open = false;
}

static void notice (struct world *w, enum frame_kind kind)
{
    if (kind == FRAME_HEAD)
        send (w, (struct frame) { .kind = FRAME_HEAD, .prev = w->level_last, .end = w->head + 1 });
    else if (w->synced_only)
        send (w, (struct frame) { .kind = FRAME_MARK, .end = synced_last (w) + 1 });
}

static void link_step (struct world *w, bool faults)
{
    if (w->link_count == 0)
        return;
    const uint64_t what = faults ? rnd (w, 10) : 9;
    const struct frame f = w->link[0];
    if (what == 0 && w->link_count > 1) {                       /* late */
        w->link[0] = w->link[1];
        w->link[1] = f;
        return;
    }
    if (what != 1) {                                            /* 1: twice */
        w->link_count--;
        memmove (w->link, w->link + 1, w->link_count * sizeof f);
    }
    if (what > 2)                                               /* 2: lost */
        receive_live (w, &f);
}

static void lose_run (struct world *w)
{
    const size_t n = (size_t) rnd (w, w->link_count + 1);
    w->link_count -= n;
    memmove (w->link, w->link + n, w->link_count * sizeof w->link[0]);
}

static void stop_subscriber (struct world *w)
{
    struct handover_item item;
    while (handover_drop_held (&w->h, &item))
        ;
    handover_release (&w->h);
}

/* A subscriber that stops in the middle of a batch knows which of its facts it took. */
static void crash_subscriber (struct world *w)
{
    stop_subscriber (w);
    if (w->last_end != w->taken + 1 || w->order != w->taken)
        return;
    w->taken = w->order = w->last_end - 1 - rnd (w, w->last_end - w->last_from + 1);
    for (uint64_t s = w->taken + 1; s < w->last_end; s++)
        w->facts[s].delivered = false;
    w->last_end = 0;
}

static void start_subscriber (struct world *w)
{
    handover_init (&w->h, w->synced_only, HELD_BYTES_MAX, w->taken, rnd (w, 2) ? HANDOVER_REPLAY : HANDOVER_MERGE);
    w->epoch_seen = 0;
    w->repair.open = false;
    open_replay (w);
}

static void break_sessions (struct world *w)
{
    w->repair.open = false;
    if (w->replay.open)
        open_replay (w);
}

static void step (struct world *w)
{
    switch (rnd (w, 20)) {
    case 0: case 1: case 2: case 3: publish (w, false); break;
    case 4: publish (w, rnd (w, 3) == 0); break;
    case 5: case 6: record (w); break;
    case 7: sync_some (w); break;
    case 8: case 9: case 10: case 11: link_step (w, true); break;
    case 12: case 13: step_session (w, &w->replay); break;
    case 14: case 15: step_session (w, &w->repair); break;
    case 16: notice (w, FRAME_HEAD); break;
    case 17: notice (w, FRAME_MARK); break;
    case 18: ask (w); break;
    default:
        switch (rnd (w, 8)) {
        case 0: restart_publisher (w); break;
        case 1: crash_subscriber (w); start_subscriber (w); break;
        case 2: lose_run (w); break;
        case 3: break_sessions (w); break;
        default: ask (w);
        }
    }
    check_machine (w);
}

/* Everything arrives in the end: then nothing may be missing. */
static void settle (struct world *w)
{
    for (int round = 0; round < 400; round++) {
        record (w);
        sync_some (w);
        link_step (w, false);
        if (w->link_count == 0) {
            notice (w, FRAME_HEAD);
            notice (w, FRAME_MARK);
        }
        ask (w);
        step_session (w, &w->replay);
        step_session (w, &w->repair);
        check_machine (w);
        if (w->batch_recorded == w->batch_count && w->record_synced == w->record_count && round > 40
            && w->h.state == HANDOVER_LIVE && w->h.complete >= w->level_last && !w->repair.open)
            break;
    }
}

static void run (uint64_t seed, uint64_t *ret_falls, uint64_t *ret_holes, uint64_t *ret_gaps)
{
    static struct world w;
    memset (&w, 0, sizeof w);
    w.seed = seed;
    w.rng = seed * 0x9E3779B97F4A7C15u + 1;
    for (int i = 0; i < 4; i++)
        (void) rnd (&w, 2);
    w.synced_only = rnd (&w, 3) == 0;
    w.level = 1 + (unsigned) rnd (&w, (1u << TOPICS) - 1);
    w.epoch = w.epoch_first = 1;
    start_subscriber (&w);
    for (uint64_t n = 20 + rnd (&w, 160); n > 0; n--)
        step (&w);
    settle (&w);
    for (uint64_t s = 1; s <= w.head; s++) {
        const struct fact *f = &w.facts[s];
        if (!f->used || !f->matches || f->delivered)
            continue;
        /* A void tail shows only with the next epoch's first fact, if that is ours. */
        if (f->is_void ? !f->told && s <= w.h.complete : true)
            fault (&w, f->is_void ? "void, and not told" : "lost", s);
    }
    *ret_falls += w.falls;
    *ret_holes += w.holes;
    *ret_gaps += w.gaps;
    stop_subscriber (&w);
}

static void every_fact_comes_once_and_in_order_in_any_schedule (void **state)
{
    (void) state;
    uint64_t falls = 0, holes = 0, gaps = 0;
    const char *base_text = getenv ("HANDOVER_SEED"), *count_text = getenv ("HANDOVER_SCHEDULES");
    const uint64_t base = base_text ? strtoull (base_text, NULL, 10) : 0;
    const uint64_t count = only_seed ? 1 : count_text ? strtoull (count_text, NULL, 10) : SCHEDULES;
    for (uint64_t i = 0; i < count; i++)
        run (only_seed ? only_seed : base + i + 1, &falls, &holes, &gaps);
    /* The schedules must reach what they are there for. */
    if (!only_seed) {
        assert_true (falls > count / 20);
        assert_true (holes > count / 4);
        assert_true (gaps > count / 20);
    }
}

int main (int argc, char **argv)
{
    only_seed = argc > 1 ? strtoull (argv[1], NULL, 10) : 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (every_fact_comes_once_and_in_order_in_any_schedule),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
