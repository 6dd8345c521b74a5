#include "intake_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "factmesh.pb-c.h"

void intake_state_init (struct intake_state *s, struct intake_limits *limits, uint64_t next_seq, uint64_t recorded_epoch,
                        uint64_t recorded_incarnation)
{
    *s = (struct intake_state) {
        .limits = limits,
        .next_seq = next_seq,
        .recorded_epoch = recorded_epoch,
        .recorded_incarnation = recorded_incarnation,
        .now = { .epoch = recorded_epoch, .incarnation = recorded_incarnation, .head = next_seq - 1 },
    };
}

void intake_state_orphaned (struct intake_state *s)
{
    s->orphaned_epoch = s->recorded_epoch;
}

void intake_state_release (struct intake_state *s)
{
    assert (s->held_count == 0);
    free (s->held);
    *s = (struct intake_state) { .limits = NULL };
}

/* --- Who may publish. */

static void repair_reset (struct intake_state *s)
{
    s->stage = INTAKE_IDLE;
    s->gone_end = s->void_end = 0;
    s->attempts = 0;
}

/* A newer epoch is accepted: what lies between is a hole that ends where it begins. */
static void epoch_enter (struct intake_state *s, const struct intake_epoch *e)
{
    const uint64_t head = e->head > e->first_seq - 1 ? e->head : e->first_seq - 1;
    s->now = *e;
    s->now.head = head > s->next_seq - 1 ? head : s->next_seq - 1;
    s->owned = true;
    s->pending = false;
    repair_reset (s);
}

static void epoch_enter_when_due (struct intake_state *s, uint64_t now)
{
    if (s->pending && (now >= s->pending_until || s->next_seq >= s->next.first_seq))
        epoch_enter (s, &s->next);
}

static enum intake_verdict refuse_claim (struct intake_state *s, const struct intake_batch *b)
{
    s->claim = (struct intake_claim) { .epoch = b->epoch, .node = b->from };
    return INTAKE_REFUSE_OWNER;
}

/* A newer epoch than the one that is accepted. 0: the batch may come in. */
static enum intake_verdict admit_newer (struct intake_state *s, const struct intake_batch *b, uint64_t now)
{
    if (s->pending && b->epoch == s->next.epoch)
        return b->incarnation != s->next.incarnation ? INTAKE_CONFLICT
               : id_equal (&b->from, &s->next.owner) ? 0
                                                     : refuse_claim (s, b);
    if (s->pending && b->epoch < s->next.epoch)
        return INTAKE_REFUSE_STALE;
    /* Its first sequences have been used: an identity that was copied back, say. */
    if (b->epoch_first_seq < s->next_seq)
        return INTAKE_CONFLICT;
    const struct intake_epoch e = { .epoch = b->epoch,
                                    .incarnation = b->incarnation,
                                    .first_seq = b->epoch_first_seq,
                                    .owner = b->from,
                                    .head = b->epoch_first_seq - 1 };
    const bool others = s->owned && !id_equal (&s->now.owner, &b->from);
    if (!others || b->epoch_first_seq == s->next_seq) {
        epoch_enter (s, &e);
        return 0;
    }
    s->next = e;
    if (!s->pending) {
        s->pending_until = now + s->limits->epoch_quiet_ns;
        s->pending_latest = now + s->limits->epoch_ns;
    }
    s->pending = true;
    return 0;
}

/* The owner of the older epoch still delivers: the newer one waits on, up to its limit. */
static void owner_heard (struct intake_state *s, uint64_t now)
{
    const uint64_t until = now + s->limits->epoch_quiet_ns;
    if (s->pending)
        s->pending_until = until < s->pending_latest ? until : s->pending_latest;
}

/* 0: what comes live from this node, in this epoch, may come in. */
static enum intake_verdict admit (struct intake_state *s, const struct intake_batch *b, uint64_t now)
{
    epoch_enter_when_due (s, now);
    if (b->epoch > s->now.epoch)
        return admit_newer (s, b, now);
    if (b->epoch < s->now.epoch)
        return INTAKE_REFUSE_STALE;
    if (b->incarnation != s->now.incarnation || b->epoch == s->orphaned_epoch)
        return INTAKE_CONFLICT;
    if (s->owned && !id_equal (&s->now.owner, &b->from))
        return refuse_claim (s, b);
    if (s->owned) {
        owner_heard (s, now);
        return 0;
    }
    /* The owner came back, or this is the first that is heard of it since the journal started. */
    s->owned = true;
    s->said_goodbye = false;
    s->now.owner = b->from;
    s->now.first_seq = b->epoch_first_seq;
    repair_reset (s);
    return 0;
}

/* The same for an answer: whoever sent it, it is of an epoch that is known. */
static enum intake_verdict admit_repaired (const struct intake_state *s, const struct intake_batch *b)
{
    const uint64_t newest = s->pending ? s->next.epoch : s->now.epoch;
    if (b->epoch < s->recorded_epoch || b->epoch > newest)
        return INTAKE_REFUSE_STALE;
    if ((b->epoch == s->recorded_epoch && b->incarnation != s->recorded_incarnation)
        || (b->epoch == s->now.epoch && b->incarnation != s->now.incarnation)
        || (s->pending && b->epoch == s->next.epoch && b->incarnation != s->next.incarnation))
        return INTAKE_CONFLICT;
    return 0;
}

static void head_known (struct intake_state *s, uint64_t epoch, uint64_t head)
{
    struct intake_epoch *e = s->pending && epoch == s->next.epoch ? &s->next : &s->now;
    if (head > e->head)
        e->head = head;
}

/* --- Held batches. */

static struct intake_item *held_at (const struct intake_state *s, size_t i)
{
    return &s->held[s->held_first + i];
}

/* Where a range belongs among the held ones; false when it overlaps one. */
static bool held_place (const struct intake_state *s, uint64_t first_seq, uint64_t end_seq, size_t *ret_place)
{
    size_t place = s->held_count;           /* most come in order */
    while (place && held_at (s, place - 1)->first_seq >= end_seq)
        place--;
    if (place && held_at (s, place - 1)->end_seq > first_seq)
        return false;
    *ret_place = place;
    return true;
}

static bool held_has_room (const struct intake_state *s, size_t bytes)
{
    const struct intake_limits *l = s->limits;
    return s->held_count < INTAKE_HELD_ITEMS_MAX && bytes <= l->stream_held_max && s->held_bytes <= l->stream_held_max - bytes
           && bytes <= l->held_max && l->held_bytes <= l->held_max - bytes;
}

static int held_make_room (struct intake_state *s)
{
    if (s->held_first + s->held_count < s->held_size)
        return 0;
    if (s->held_first >= s->held_size / 2 && s->held_first) {
        memmove (s->held, s->held + s->held_first, s->held_count * sizeof *s->held);
        s->held_first = 0;
        return 0;
    }
    const size_t size = s->held_size ? s->held_size * 2 : 16;
    struct intake_item *grown = realloc (s->held, size * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    s->held = grown;
    s->held_size = size;
    return 0;
}

int intake_state_hold (struct intake_state *s, const struct intake_item *item)
{
    size_t place = 0;
    const bool fits = held_place (s, item->first_seq, item->end_seq, &place);
    assert (fits && item->first_seq >= s->next_seq && held_has_room (s, item->bytes));
    const int rc = held_make_room (s);
    if (rc)
        return rc;
    struct intake_item *at = held_at (s, place);
    memmove (at + 1, at, (s->held_count - place) * sizeof *at);
    *at = *item;
    s->held_count++;
    s->held_bytes += item->bytes;
    s->limits->held_bytes += item->bytes;
    return 0;
}

static void held_account (struct intake_state *s, const struct intake_item *item)
{
    s->held_count--;
    s->held_bytes -= item->bytes;
    s->limits->held_bytes -= item->bytes;
    if (!s->held_count)
        s->held_first = 0;
}

/* Is the first one in turn, or useless by now? */
static bool held_in_turn (const struct intake_state *s)
{
    if (!s->held_count)
        return false;
    const struct intake_item *item = held_at (s, 0);
    return item->first_seq < s->next_seq || (item->first_seq == s->next_seq && item->epoch <= s->now.epoch);
}

bool intake_state_take (struct intake_state *s, struct intake_item *ret_item, bool *ret_append)
{
    if (!held_in_turn (s))
        return false;
    const struct intake_item item = *held_at (s, 0);
    s->held_first++;
    held_account (s, &item);
    *ret_item = item;
    *ret_append = item.first_seq == s->next_seq;
    return true;
}

bool intake_state_drop (struct intake_state *s, struct intake_item *ret_item)
{
    if (!s->held_count)
        return false;
    const struct intake_item item = *held_at (s, s->held_count - 1);
    held_account (s, &item);
    *ret_item = item;
    return true;
}

/* --- Events. */

enum intake_verdict intake_state_batch (struct intake_state *s, const struct intake_batch *b, uint64_t now)
{
    const enum intake_verdict refused = b->repaired ? admit_repaired (s, b) : admit (s, b, now);
    if (refused)
        return refused;
    if (b->end_seq <= s->next_seq)
        return INTAKE_HAVE;
    if (b->first_seq < s->next_seq)
        return INTAKE_REFUSE_OVERLAP;
    if (b->epoch >= s->now.epoch)
        head_known (s, b->epoch, b->end_seq - 1);
    if (b->announced)
        return INTAKE_LATER;
    if (b->first_seq == s->next_seq && b->epoch <= s->now.epoch)
        return INTAKE_APPEND;
    size_t place;
    if (!held_place (s, b->first_seq, b->end_seq, &place))
        return INTAKE_HAVE;
    return held_has_room (s, b->bytes) ? INTAKE_HOLD : INTAKE_LATER;
}

enum intake_verdict intake_state_head (struct intake_state *s, const struct intake_batch *notice, uint64_t now)
{
    const enum intake_verdict refused = admit (s, notice, now);
    if (refused)
        return refused;
    head_known (s, notice->epoch, notice->end_seq - 1);
    return INTAKE_HAVE;
}

void intake_state_put_off (struct intake_state *s, bool journal, uint64_t now)
{
    if (s->stage == (journal ? INTAKE_JOURNAL : INTAKE_OWNER))
        s->deadline = now + s->limits->answer_ns;
}

void intake_state_appended (struct intake_state *s, uint64_t end_seq, uint64_t epoch, uint64_t incarnation, uint64_t now)
{
    assert (end_seq > s->next_seq && epoch >= s->recorded_epoch);
    s->next_seq = end_seq;
    s->recorded_epoch = epoch;
    s->recorded_incarnation = incarnation;
    if (s->stage == INTAKE_OWNER || s->stage == INTAKE_JOURNAL) {
        s->deadline = now + s->limits->answer_ns;
        s->attempts = 0;
    }
    epoch_enter_when_due (s, now);
}

/* Who claims the epoch has its facts, and can be asked. */
static void owner_left (struct intake_state *s, bool said_goodbye)
{
    s->owned = s->claim.epoch == s->now.epoch;
    s->said_goodbye = said_goodbye && !s->owned;
    if (!s->owned)
        return;
    s->now.owner = s->claim.node;
    s->claim.epoch = 0;
}

bool intake_state_owner_gone (struct intake_state *s, const struct fm_id *node, bool said_goodbye, uint64_t now)
{
    if (id_equal (&s->claim.node, node))
        s->claim.epoch = 0;
    if (s->pending && id_equal (&s->next.owner, node)) {
        s->pending = false;                 /* it came and went: what it sent is held, and no owner will fill the hole */
        epoch_enter (s, &s->next);
        owner_left (s, said_goodbye);
        return true;
    }
    if (!s->owned || !id_equal (&s->now.owner, node))
        return false;
    owner_left (s, said_goodbye);
    repair_reset (s);
    if (s->pending && !s->owned)
        s->pending_until = now;             /* all that the older epoch sent has been read */
    epoch_enter_when_due (s, now);
    return true;
}

/* Ask all journals. */
static void round_begin (struct intake_state *s, uint64_t now)
{
    s->stage = INTAKE_NEXT_JOURNAL;
    s->journal = 0;
    s->unsure = s->later = false;
    s->round_end = UINT64_MAX;
    s->round_ns = now;
}

void intake_state_journals_changed (struct intake_state *s, uint64_t now)
{
    if (s->stage == INTAKE_WAIT)
        round_begin (s, now);
    else
        s->unsure = true;                   /* one may be left out of this round */
}

/* The owner does not have it: the journals' turn. */
static void journals_begin (struct intake_state *s, uint64_t now)
{
    round_begin (s, now);
    s->since = now;
    s->attempts = 0;
}

void intake_state_gone (struct intake_state *s, bool journal, uint64_t first_seq, uint64_t end_seq, uint32_t reason, uint64_t now)
{
    if (first_seq > s->next_seq || end_seq <= s->next_seq)
        return;                             /* not about what is missing now; asked again when it is */
    if (journal) {
        if (reason == FACTMESH__GAP_REASON__GAP_VOID)
            s->void_end = end_seq;
        if (end_seq < s->round_end)
            s->round_end = end_seq;
        if (s->stage == INTAKE_JOURNAL) {
            s->stage = INTAKE_NEXT_JOURNAL;
            s->journal++;
        }
        return;
    }
    s->gone_end = end_seq;
    s->gone_reason = reason;
    if (s->stage == INTAKE_OWNER || s->stage == INTAKE_PAUSE)
        journals_begin (s, now);
}

static void owner_answered (struct intake_state *s, uint64_t now)
{
    enum { PAUSE_NS = 50 * 1000 * 1000 };
    if (++s->attempts >= INTAKE_ATTEMPTS_MAX) {
        s->gone_end = s->asked_end;
        s->gone_reason = FACTMESH__GAP_REASON__GAP_NOT_HELD;
        journals_begin (s, now);
        return;
    }
    s->stage = INTAKE_PAUSE;
    s->deadline = now + (uint64_t) PAUSE_NS * s->attempts;
}

void intake_state_answered (struct intake_state *s, bool journal, uint64_t now)
{
    if (s->stage != (journal ? INTAKE_JOURNAL : INTAKE_OWNER))
        return;
    if (s->next_seq >= s->asked_end)
        s->stage = INTAKE_IDLE;
    else if (journal) {
        s->stage = INTAKE_NEXT_JOURNAL;
        s->journal++;
    } else
        owner_answered (s, now);
}

/* On to the next journal; this one did not say that it does not have it. */
static void journal_passed (struct intake_state *s, bool *ret_remember)
{
    *ret_remember = true;
    s->stage = INTAKE_NEXT_JOURNAL;
    s->journal++;
}

void intake_state_later (struct intake_state *s)
{
    if (s->stage == INTAKE_JOURNAL && s->next_seq < s->asked_end)
        journal_passed (s, &s->later);
}

void intake_state_unasked (struct intake_state *s, bool journal, uint64_t now)
{
    enum { PAUSE_NS = 100 * 1000 * 1000 };
    if (s->stage != (journal ? INTAKE_JOURNAL : INTAKE_OWNER))
        return;
    if (journal)
        journal_passed (s, &s->unsure);
    else {
        s->stage = INTAKE_PAUSE;
        s->deadline = now + PAUSE_NS;
    }
}

/* --- What to do. */

static bool hole (const struct intake_state *s, uint64_t *ret_end)
{
    if (s->pending)
        return false;
    uint64_t end = s->held_count ? held_at (s, 0)->first_seq : s->now.head + 1;
    if (s->next_seq < s->now.first_seq && end > s->now.first_seq)
        end = s->now.first_seq;
    *ret_end = end;
    return s->next_seq < end;
}

/* The part of the hole that only journals can have. */
static uint64_t journals_end (const struct intake_state *s, uint64_t hole_end)
{
    return s->owned && s->gone_end < hole_end ? s->gone_end : hole_end;
}

/* Is the hole what an earlier epoch, of which we have the facts up to it, accepted and lost? */
static bool between_epochs (const struct intake_state *s)
{
    return s->next_seq < s->now.first_seq && s->recorded_epoch && s->recorded_epoch < s->now.epoch;
}

static uint32_t gap_reason (const struct intake_state *s)
{
    const bool told_void = s->void_end > s->next_seq || (s->owned && s->gone_reason == FACTMESH__GAP_REASON__GAP_VOID);
    return between_epochs (s) || told_void ? FACTMESH__GAP_REASON__GAP_VOID : FACTMESH__GAP_REASON__GAP_NOT_HELD;
}

/* Every holder was asked: until when may one still turn up? */
static uint64_t give_up_at (const struct intake_state *s)
{
    const struct intake_limits *l = s->limits;
    const bool synced_elsewhere = s->owned && s->gone_reason == FACTMESH__GAP_REASON__GAP_SYNCED && !between_epochs (s);
    uint64_t at = s->since;
    if (!s->owned)
        at += s->said_goodbye ? l->holders_ns : l->orphan_ns;
    else if (synced_elsewhere || s->later)
        at += l->holders_ns;
    return at > l->settled_ns ? at : l->settled_ns;
}

/* A round of questions is over. When is there more to do? */
static uint64_t round_over (const struct intake_state *s, uint64_t now)
{
    enum { ROUNDS_IN_ANSWER = 4 };
    const uint64_t at = give_up_at (s), again = now + s->limits->answer_ns / ROUNDS_IN_ANSWER;
    return s->unsure || (s->later && at > again) ? again : at;
}

/* Has every journal said of what is missing now, and recently enough, that it does not have it? */
static bool round_says_all (const struct intake_state *s, uint64_t now)
{
    const uint64_t at = give_up_at (s);
    return !s->unsure && now >= at && s->next_seq < s->round_end && (!s->later || s->round_ns >= at);
}

bool intake_state_waits_for_journal (const struct intake_state *s, uint64_t now)
{
    return s->stage == INTAKE_WAIT && s->unsure && now >= give_up_at (s);
}

static void ask (struct intake_state *s, enum intake_stage stage, uint64_t end, uint64_t now, struct intake_todo *ret_todo)
{
    s->stage = stage;
    s->asked_end = end;
    if (stage == INTAKE_JOURNAL && end < s->round_end)
        s->round_end = end;
    s->deadline = now + s->limits->answer_ns;
    *ret_todo = (struct intake_todo) {
        .kind = stage == INTAKE_OWNER ? INTAKE_TODO_ASK_OWNER : INTAKE_TODO_ASK_JOURNAL,
        .first_seq = s->next_seq,
        .end_seq = end,
        .journal = s->journal,
        .until_ns = s->deadline,
    };
}

static void give_up (struct intake_state *s, uint64_t end, struct intake_todo *ret_todo)
{
    const bool orphaned = !s->owned && s->next_seq >= s->now.first_seq;
    const uint64_t nowhere = journals_end (s, end), gap_end = nowhere < s->round_end ? nowhere : s->round_end;
    const bool reaches_now = gap_end >= s->now.first_seq;   /* nothing of an older epoch can come behind it */
    *ret_todo = (struct intake_todo) {
        .kind = INTAKE_TODO_GAP,
        .first_seq = s->next_seq,
        .end_seq = gap_end,
        .reason = gap_reason (s),
        .epoch = reaches_now ? s->now.epoch : s->recorded_epoch,
        .incarnation = reaches_now ? s->now.incarnation : s->recorded_incarnation,
        .closes = orphaned,
    };
    if (orphaned)
        s->orphaned_epoch = s->now.epoch;
    s->stage = INTAKE_IDLE;
}

/* One step of the diagram at the head of the header. False: the stage has changed, look again. */
static bool todo_step (struct intake_state *s, uint64_t end, uint64_t now, size_t journals, struct intake_todo *ret_todo)
{
    const bool waits = now < s->deadline;
    /* What the owner lacked has been filled: the rest it may have. */
    const bool journals_turn = s->stage == INTAKE_NEXT_JOURNAL || s->stage == INTAKE_JOURNAL || s->stage == INTAKE_WAIT;
    if (journals_turn && s->owned && s->next_seq >= s->gone_end)
        s->stage = INTAKE_IDLE;
    switch (s->stage) {
    case INTAKE_IDLE:
        if (s->owned && s->next_seq >= s->gone_end) {
            ask (s, INTAKE_OWNER, end, now, ret_todo);
            return true;
        }
        journals_begin (s, now);
        return false;
    case INTAKE_OWNER:
        if (s->next_seq >= s->asked_end)
            s->stage = INTAKE_IDLE;
        else if (!waits) {
            s->stage = INTAKE_PAUSE;        /* silent, but there: it may have it */
            s->deadline = now + s->limits->answer_ns / 2;
        } else
            break;
        return false;
    case INTAKE_PAUSE:
        if (waits)
            break;
        s->stage = INTAKE_IDLE;
        return false;
    case INTAKE_NEXT_JOURNAL:
        if (s->journal < journals) {
            ask (s, INTAKE_JOURNAL, journals_end (s, end), now, ret_todo);
            return true;
        }
        s->stage = INTAKE_WAIT;
        s->deadline = round_over (s, now);
        return false;
    case INTAKE_JOURNAL:
        if (s->next_seq >= s->asked_end)
            s->stage = INTAKE_IDLE;
        else if (!waits)
            journal_passed (s, &s->unsure);
        else
            break;
        return false;
    case INTAKE_WAIT:
        if (waits)
            break;
        if (!round_says_all (s, now)) {
            round_begin (s, now);
            return false;
        }
        give_up (s, end, ret_todo);
        return true;
    }
    *ret_todo = (struct intake_todo) { .kind = INTAKE_TODO_NOTHING, .until_ns = s->deadline };
    return true;
}

static void todo_now (struct intake_state *s, uint64_t now, size_t journals, struct intake_todo *ret_todo)
{
    uint64_t end;
    if (held_in_turn (s)) {             /* they waited for their epoch */
        *ret_todo = (struct intake_todo) { .kind = INTAKE_TODO_TAKE };
        return;
    }
    if (!hole (s, &end)) {
        s->stage = INTAKE_IDLE;
        const bool forget = !s->pending && !s->owned && !s->held_count;
        *ret_todo = (struct intake_todo) { .kind = forget ? INTAKE_TODO_FORGET : INTAKE_TODO_NOTHING, .until_ns = UINT64_MAX };
        return;
    }
    /* Nobody is there to ask, and nothing above waits: whoever comes next says anew how far the stream goes. */
    if (!s->owned && !s->held_count) {
        *ret_todo = (struct intake_todo) { .kind = INTAKE_TODO_FORGET, .until_ns = UINT64_MAX };
        return;
    }
    while (!todo_step (s, end, now, journals, ret_todo))
        continue;
}

void intake_state_todo (struct intake_state *s, uint64_t now, size_t journals, struct intake_todo *ret_todo)
{
    epoch_enter_when_due (s, now);
    struct intake_todo todo = { .until_ns = UINT64_MAX };
    todo_now (s, now, journals, &todo);
    /* An owner that was killed in the middle of an answer must not hold up its successor. */
    if (s->pending && todo.until_ns > s->pending_until)
        todo.until_ns = s->pending_until;
    *ret_todo = todo;
}
