#include "group_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "group_state_inner.h"

enum { NS_PER_MS = 1000000 };

/* --- Opening, place. */

int group_state_new (const struct group_options *options, struct group_state **ret_group)
{
    struct group_state *g = calloc (1, sizeof *g);
    if (!g)
        return -ENOMEM;
    g->options = *options;
    if (!g->options.lease_ns)
        g->options.lease_ns = (uint64_t) GROUP_LEASE_MS * NS_PER_MS;
    if (!g->options.attempts_max)
        g->options.attempts_max = GROUP_ATTEMPTS_MAX;
    if (!g->options.entries_max)
        g->options.entries_max = GROUP_ENTRIES_MAX;
    if (!g->options.parked_max)
        g->options.parked_max = GROUP_PARKED_MAX;
    slot_map_init (&g->by_offset);
    slot_map_init (&g->by_key);
    g->place.next = g->place.high = g->place.starts = 1;
    g->hand_outs = g->options.tokens_from;
    *ret_group = g;
    return 0;
}

void group_state_destroy (struct group_state **group)
{
    struct group_state *g = *group;
    if (!g)
        return;
    for (uint32_t i = 1; i < g->entry_used; i++)
        if (g->entries[i].state == ENTRY_PARKED)
            free (g->entries[i].reason);
    slot_map_release (&g->by_offset);
    slot_map_release (&g->by_key);
    free (g->entries);
    free (g->keys);
    free (g->ready.items);
    free (g->timed.items);
    free (g->members);
    group_finished_release (&g->finished);
    free (g);
    *group = NULL;
}

void group_state_place (const struct group_state *g, struct group_place *ret_place)
{
    *ret_place = g->place;
}

void group_state_begin (struct group_state *g, uint64_t offset)
{
    g->place.next = g->place.high = offset;
    g->dirty = true;
}

bool group_state_wants (const struct group_state *g)
{
    const uint64_t ahead = 2 * g->credit > GROUP_AHEAD_MIN ? 2 * g->credit : GROUP_AHEAD_MIN;
    return !g->place.paused && g->member_count && g->ready.count < ahead && g->counts.unfinished < g->options.entries_max;
}

/* --- Taking facts. */

static bool is_for_handlers (const struct group_state *g, const struct group_fact *f)
{
    const bool had = f->offset < g->place.high && !f->skipped;
    switch (g->options.effect) {
    case GROUP_ONCE:
        return !had && !f->correction;
    case GROUP_ONCE_PER_VERSION:
        return !had;
    case GROUP_ON_CORRECTION:
        return !had && f->correction;
    case GROUP_UNDECLARED:
    case GROUP_IDEMPOTENT:
        break;
    }
    return true;
}

/* For handlers that run once for each root: one that was not handed out yet gets its newest content. */
static void renew_root (struct group_state *g, const struct group_fact *f)
{
    const uint32_t root = slot_map_find (&g->by_offset, f->root_offset);
    if (root && f->offset > g->entries[root].newest_offset) {
        g->entries[root].newest_offset = f->offset;
        g->dirty = true;
    }
}

int group_state_take (struct group_state *g, const struct group_fact *f)
{
    if (slot_map_find (&g->by_offset, f->offset))
        return 0;
    if (f->correction && g->options.effect == GROUP_ONCE)
        renew_root (g, f);
    if (!is_for_handlers (g, f))
        return 0;
    if (g->counts.unfinished >= g->options.entries_max)
        return FM_ERR_LIMIT;
    uint32_t slot;
    const int rc = group_entry_new (g, f->offset, f->key, &slot);
    if (rc)
        return rc;
    if (f->skipped)
        g->entries[slot].flags |= GROUP_OUT_OF_ORDER;
    else if (f->offset < g->place.high)
        g->entries[slot].flags |= GROUP_REPLAY;
    group_key_refresh (g, g->entries[slot].key);
    if (f->park.len)
        group_entry_park (g, slot, f->park, f->now, f->unix_ns);
    return 0;
}

void group_state_advance (struct group_state *g, uint64_t next)
{
    if (next <= g->place.next)
        return;
    g->place.next = next;
    if (next > g->place.high)
        g->place.high = next;
    g->dirty = true;
}

/* --- Members. */

static struct member *member_find (struct group_state *g, uint64_t number)
{
    for (uint32_t i = 0; i < g->member_count; i++)
        if (g->members[i].number == number)
            return &g->members[i];
    return NULL;
}

int group_state_join (struct group_state *g, uint64_t member, uint32_t credit, uint64_t now)
{
    if (member_find (g, member))
        return FM_ERR_IN_USE;
    if (g->member_count >= GROUP_MEMBERS_MAX)
        return FM_ERR_LIMIT;
    if (g->member_count == g->member_size) {
        const uint32_t size = g->member_size ? 2 * g->member_size : 8;
        struct member *members = realloc (g->members, size * sizeof *members);
        if (!members)
            return -ENOMEM;
        g->members = members;
        g->member_size = size;
    }
    credit = credit < GROUP_CREDIT_MAX ? credit : GROUP_CREDIT_MAX;
    g->members[g->member_count++] = (struct member) { .number = member, .credit = credit, .lease_end = now + g->options.lease_ns };
    g->credit += credit;
    return 0;
}

/* Everything that it holds is others' now. */
static void member_lose (struct group_state *g, struct member *m, bool attempt, uint64_t until_ns, uint64_t now, uint64_t unix_ns)
{
    while (m->first) {
        group_entry_lose (g, m->first, attempt, until_ns, now, unix_ns);
        attempt = false;
    }
}

void group_state_leave (struct group_state *g, uint64_t member, enum group_leave how, uint64_t now, uint64_t unix_ns)
{
    struct member *m = member_find (g, member);
    if (!m)
        return;
    member_lose (g, m, how != GROUP_LEFT, how == GROUP_VANISHED ? m->lease_end : 0, now, unix_ns);
    g->credit -= m->credit;
    struct member *last = &g->members[--g->member_count];
    if (m != last) {
        *m = *last;
        for (uint32_t slot = m->first; slot; slot = g->entries[slot].hand_after)
            g->entries[slot].member = (uint32_t) (m - g->members);
    }
}

int group_state_alive (struct group_state *g, uint64_t member)
{
    struct member *m = member_find (g, member);
    if (!m)
        return FM_ERR_UNKNOWN;
    m->silent = false;
    return 0;
}

void group_state_silence (struct group_state *g, uint64_t member)
{
    struct member *m = member_find (g, member);
    if (m)
        m->silent = true;
}

/* Who had it before the restart, and nobody since, as far as was stored, may go on. */
static bool may_go_on (const struct group_state *g, const struct entry *e, uint64_t token)
{
    return (e->state == ENTRY_WAITING || e->state == ENTRY_LATER) && token && token >> GROUP_TOKEN_START_SHIFT < g->place.starts && token >= e->token
           && !g->keys[e->key].handed;
}

int group_state_hold (struct group_state *g, uint64_t member, uint64_t offset, uint64_t token, uint64_t now)
{
    struct member *m = member_find (g, member);
    const uint32_t slot = slot_map_find (&g->by_offset, offset);
    if (!m)
        return FM_ERR_UNKNOWN;
    if (!slot)
        return group_state_is_done (g, offset, token, now) ? FM_ERR_END : FM_ERR_LEASE;
    struct entry *e = &g->entries[slot];
    const uint32_t number = (uint32_t) (m - g->members);
    const bool in_hand = (e->state == ENTRY_HANDED || e->state == ENTRY_BEGUN) && e->token == token;
    if (in_hand && e->member == number)
        return 0;
    if (m->in_hand >= m->credit || (!in_hand && !may_go_on (g, e, token)))
        return FM_ERR_LEASE;
    bool begun = e->state == ENTRY_BEGUN;
    if (!in_hand && token > e->token)
        e->deliveries++;                /* handed out and not stored */
    if (!in_hand && token == e->token && (e->flags & GROUP_IN_DOUBT)) {
        e->flags &= ~(uint32_t) GROUP_IN_DOUBT;
        begun = true;
    }
    group_entry_give (g, slot, number, token, begun);
    m->lease_end = now + g->options.lease_ns;
    return 0;
}

bool group_state_is_done (struct group_state *g, uint64_t offset, uint64_t token, uint64_t now)
{
    if (slot_map_find (&g->by_offset, offset) || offset >= g->place.next)
        return false;
    const uint64_t done = group_finished_find (&g->finished, offset, now);
    return !done || done == token;
}

/* --- Handing out. */

static struct member *member_whose_turn (struct group_state *g)
{
    for (uint32_t i = 0; i < g->member_count; i++) {
        struct member *m = &g->members[(g->member_turn + i) % g->member_count];
        if (m->in_hand < m->credit && !m->silent) {
            g->member_turn = (uint32_t) (m - g->members) + 1;
            return m;
        }
    }
    return NULL;
}

static uint64_t parked_before (const struct group_state *g, const struct entry *e)
{
    const uint32_t first = g->keys[e->key].parked.first;
    return first && g->entries[first].offset < e->offset ? g->entries[first].offset : 0;
}

int group_state_hand_out (struct group_state *g, uint64_t now, struct group_hand_out *ret_hand_out)
{
    if (g->place.paused || !g->ready.count || now < g->rejoin_until)
        return FM_ERR_END;
    struct member *m = member_whose_turn (g);
    if (!m)
        return FM_ERR_END;
    const uint32_t slot = g->ready.items[1];
    if (!m->in_hand)
        m->lease_end = now + g->options.lease_ns;
    group_entry_give (g, slot, (uint32_t) (m - g->members), g->place.starts << GROUP_TOKEN_START_SHIFT | ++g->hand_outs, false);
    struct entry *e = &g->entries[slot];
    e->deliveries++;
    /* Whoever is to find out whether it happened needs to see what was begun. */
    if (!(e->flags & GROUP_IN_DOUBT) || !e->content_offset)
        e->content_offset = e->newest_offset ? e->newest_offset : e->offset;
    *ret_hand_out = (struct group_hand_out) {
        .member = m->number,
        .offset = e->offset,
        .token = e->token,
        .content_offset = e->content_offset,
        .parked_offset = parked_before (g, e),
        .deliveries = e->deliveries,
        .attempts = e->attempts,
        .flags = e->flags | (e->deliveries > 1 ? GROUP_REDELIVERY : 0),
    };
    if (ret_hand_out->parked_offset)
        ret_hand_out->flags |= GROUP_KEY_PARKED;
    return 0;
}

void group_state_return (struct group_state *g, uint64_t offset)
{
    const uint32_t slot = slot_map_find (&g->by_offset, offset);
    struct entry *e = &g->entries[slot];
    if (!slot || e->state != ENTRY_HANDED)
        return;
    e->deliveries -= e->deliveries > 0;
    group_entry_wait (g, slot);
}

/* Its handler says what it knows: no doubt is left. */
static void settle_doubt (struct entry *e)
{
    e->flags &= ~(uint32_t) GROUP_IN_DOUBT;
}

static uint64_t backoff_ns (uint32_t attempts)
{
    uint64_t ms = GROUP_BACKOFF_MS;
    for (uint32_t i = 1; i < attempts && ms < GROUP_BACKOFF_MAX_MS; i++)
        ms *= 2;
    return (ms < GROUP_BACKOFF_MAX_MS ? ms : GROUP_BACKOFF_MAX_MS) * NS_PER_MS;
}

static void failed (struct group_state *g, uint32_t slot, const struct group_report *r, uint64_t now, uint64_t unix_ns)
{
    struct entry *e = &g->entries[slot];
    if (++e->attempts >= g->options.attempts_max)
        group_entry_park (g, slot, r->reason, now, unix_ns);
    else
        group_entry_later (g, slot, now + backoff_ns (e->attempts));
}

int group_state_outcome (struct group_state *g, const struct group_report *r, uint64_t now, uint64_t unix_ns)
{
    struct member *m = member_find (g, r->member);
    if (!m)
        return FM_ERR_UNKNOWN;
    m->lease_end = now + g->options.lease_ns;
    m->silent = false;
    const uint32_t slot = slot_map_find (&g->by_offset, r->offset);
    struct entry *e = &g->entries[slot];
    if (!slot || (e->state != ENTRY_HANDED && e->state != ENTRY_BEGUN) || e->token != r->token || e->member != (uint32_t) (m - g->members))
        return FM_ERR_LEASE;
    const uint32_t delay_ms = r->delay_ms < GROUP_DELAY_MAX_MS ? r->delay_ms : GROUP_DELAY_MAX_MS;
    switch (r->kind) {
    case GROUP_DONE:
        m->done++;
        if (e->deliveries > 1 || now < g->claims_until)
            group_finished_keep (&g->finished, e->offset, e->token, now + g->options.lease_ns);
        group_entry_finish (g, slot);
        return 0;
    case GROUP_LATER:
        settle_doubt (e);
        group_entry_later (g, slot, now + (uint64_t) delay_ms * NS_PER_MS);
        return 0;
    case GROUP_FAILED:
        settle_doubt (e);
        failed (g, slot, r, now, unix_ns);
        return 0;
    case GROUP_PARK:
        if (e->state == ENTRY_BEGUN)
            settle_doubt (e);           /* else it may be parked for its doubt: a replay finds it so */
        group_entry_park (g, slot, r->reason, now, unix_ns);
        return 0;
    case GROUP_RELEASE:
        if (e->state == ENTRY_BEGUN) {
            group_entry_lose (g, slot, false, 0, now, unix_ns);
            return 0;
        }
        e->deliveries -= e->deliveries > 0;
        group_entry_wait (g, slot);
        return 0;
    case GROUP_BEGIN:
        e->state = ENTRY_BEGUN;
        e->flags &= ~(uint32_t) GROUP_BY_HAND;
        g->dirty = true;
        return 0;
    case GROUP_EXTEND:
        return 0;
    }
    return FM_ERR_ARGUMENT;
}

void group_state_forget (struct group_state *g, uint64_t offset)
{
    const uint32_t slot = slot_map_find (&g->by_offset, offset);
    if (slot)
        group_entry_finish (g, slot);
}

uint64_t group_state_tick (struct group_state *g, uint64_t now, uint64_t unix_ns)
{
    uint64_t due = now < g->rejoin_until ? g->rejoin_until : UINT64_MAX;
    for (uint32_t i = 0; i < g->member_count; i++) {
        struct member *m = &g->members[i];
        if (!m->in_hand)
            continue;
        if (m->lease_end <= now) {
            m->silent = true;
            member_lose (g, m, true, 0, now, unix_ns);
        } else if (m->lease_end < due) {
            due = m->lease_end;
        }
    }
    while (g->timed.count && g->entries[g->timed.items[1]].until_ns <= now)
        group_entry_wait (g, g->timed.items[1]);
    if (g->timed.count && g->entries[g->timed.items[1]].until_ns < due)
        due = g->entries[g->timed.items[1]].until_ns;
    return due;
}

/* --- What people ask for. */

void group_state_pause (struct group_state *g, bool paused)
{
    g->dirty |= g->place.paused != paused;
    g->place.paused = paused;
}

void group_state_seek (struct group_state *g, uint64_t offset, bool again)
{
    for (uint32_t slot = 1; slot < g->entry_used; slot++) {
        const struct entry *e = &g->entries[slot];
        if (e->offset < offset && (e->state == ENTRY_WAITING || e->state == ENTRY_LATER))
            group_entry_finish (g, slot);
    }
    g->place.next = offset;
    if (again || offset > g->place.high)
        g->place.high = offset;
    g->dirty = true;
}

static uint32_t find_parked (const struct group_state *g, uint64_t offset)
{
    const uint32_t slot = slot_map_find (&g->by_offset, offset);
    return slot && g->entries[slot].state == ENTRY_PARKED ? slot : 0;
}

int group_state_replay_parked (struct group_state *g, uint64_t offset)
{
    const uint32_t slot = find_parked (g, offset);
    if (!slot)
        return FM_ERR_UNKNOWN;
    g->entries[slot].attempts = 0;
    g->entries[slot].flags |= GROUP_OUT_OF_ORDER | GROUP_BY_HAND;
    group_entry_wait (g, slot);
    return 0;
}

int group_state_drop_parked (struct group_state *g, uint64_t offset)
{
    const uint32_t slot = find_parked (g, offset);
    if (!slot)
        return FM_ERR_UNKNOWN;
    group_entry_finish (g, slot);
    return 0;
}

bool group_state_is_parked (const struct group_state *g, uint64_t offset)
{
    return find_parked (g, offset) != 0;
}

void group_state_counts (const struct group_state *g, struct group_counts *ret_counts)
{
    *ret_counts = g->counts;
}

int group_state_member_next (const struct group_state *g, uint32_t *at, struct group_member *ret_member)
{
    if (*at >= g->member_count)
        return FM_ERR_END;
    const struct member *m = &g->members[(*at)++];
    *ret_member = (struct group_member) { .member = m->number, .done = m->done, .in_hand = m->in_hand, .credit = m->credit };
    return 0;
}

/* --- Storing. */

bool group_state_take_dirty (struct group_state *g)
{
    const bool dirty = g->dirty;
    g->dirty = false;
    return dirty;
}

static int by_offset (const void *a, const void *b)
{
    const struct group_stored *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static struct group_stored stored_of (const struct entry *e)
{
    return (struct group_stored) {
        .offset = e->offset,
        .token = e->token,
        .newest_offset = e->newest_offset,
        .content_offset = e->content_offset,
        .until_ns = e->state == ENTRY_LATER ? e->until_ns : 0,
        .parked_unix_ns = e->state == ENTRY_PARKED ? e->parked_unix_ns : 0,
        .deliveries = e->deliveries,
        .attempts = e->attempts,
        .flags = e->flags,
        .handed = e->state == ENTRY_HANDED || e->state == ENTRY_BEGUN,
        .begun = e->state == ENTRY_BEGUN,
        .parked = e->state == ENTRY_PARKED,
        .reason = slice (e->reason, e->reason_len),
    };
}

int group_state_each (struct group_state *g, void (*each) (void *arg, const struct group_stored *entry), void *arg)
{
    const size_t count = (size_t) (g->counts.unfinished + g->counts.parked);
    struct group_stored *all = malloc ((count + 1) * sizeof *all);
    if (!all)
        return -ENOMEM;
    size_t n = 0;
    for (uint32_t slot = 1; slot < g->entry_used; slot++)
        if (g->entries[slot].state != ENTRY_FREE)
            all[n++] = stored_of (&g->entries[slot]);
    assert (n == count);
    qsort (all, n, sizeof *all, by_offset);
    for (size_t i = 0; i < n; i++)
        each (arg, &all[i]);
    free (all);
    return 0;
}

void group_state_restart (struct group_state *g, const struct group_place *stored, uint64_t now)
{
    g->place = *stored;
    g->place.starts++;
    g->hand_outs = g->options.tokens_from;
    g->rejoin_until = now + (uint64_t) GROUP_REJOIN_MS * NS_PER_MS;
    g->claims_until = now + g->options.lease_ns;
    g->dirty = true;
}

int group_state_restore (struct group_state *g, const struct group_stored *s, uint64_t key, uint64_t now)
{
    uint32_t slot;
    const int rc = group_entry_new (g, s->offset, key, &slot);
    if (rc)
        return rc;
    struct entry *e = &g->entries[slot];
    e->token = s->token;
    e->newest_offset = s->newest_offset;
    e->content_offset = s->content_offset;
    e->deliveries = s->deliveries;
    e->attempts = s->attempts;
    e->flags = s->flags | (s->begun ? GROUP_IN_DOUBT : 0);
    if (s->parked)
        group_entry_park (g, slot, s->reason, now, s->parked_unix_ns);
    else if (s->handed || s->begun)
        group_entry_later (g, slot, now + g->options.lease_ns);   /* who had it may still be at it */
    else if (s->until_ns > now)
        group_entry_later (g, slot, s->until_ns);
    else
        group_entry_wait (g, slot);
    return 0;
}
