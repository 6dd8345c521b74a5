#include "group_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "slot_map.h"

enum { NS_PER_MS = 1000000 };

enum entry_state { ENTRY_FREE, ENTRY_WAITING, ENTRY_LATER, ENTRY_HANDED, ENTRY_BEGUN, ENTRY_PARKED };

/* Slots, not pointers: the arrays grow. Slot 0 is nobody. */
struct entry {
    uint64_t offset, newest_offset, content_offset;
    uint64_t token;                         /* in hand: its own; else one more than the last, so that whoever had it last has it no more */
    uint64_t until_ns, parked_unix_ns;
    uint32_t deliveries, attempts, flags;
    uint32_t key;                           /* slot */
    uint32_t key_before, key_after;         /* of the same key, in order of offset */
    uint32_t member;                        /* slot; HANDED and BEGUN */
    uint32_t hand_before, hand_after;       /* of the same member, in order of token */
    uint32_t heap_at;                       /* place in `ready` or `timed`; 0: in none */
    enum entry_state state;
    uint8_t reason_len;
    char *reason;
};

struct key_list { uint32_t first, last, recent; };  /* recent: put in last, if it is still in */

struct key {
    uint64_t hash;                          /* 0: one fact without a key */
    struct key_list live, parked;
    uint32_t handed, ready;                 /* the entry that is out; that stands in `ready`. At most one of the two */
    uint32_t free_next;
};

struct member {
    uint64_t number, done;
    uint64_t lease_end;
    uint32_t credit, in_hand;
    uint32_t first, last;                   /* what it holds */
    bool silent;                            /* its lease ran out: gets nothing until it says something */
};

/* Binary heaps of entries; place 0 is unused. `ready` is by offset, `timed` by until_ns. */
struct heap { uint32_t *items; uint32_t count, size; };

struct group_state {
    struct group_options options;
    struct group_place place;
    uint64_t hand_outs;                     /* since the start: the lower part of tokens */
    uint64_t rejoin_until;                  /* members that were there before a restart come back */
    struct entry *entries;
    uint32_t entry_size, entry_used, entry_free;    /* free: list through key_after */
    struct key *keys;
    uint32_t key_size, key_used, key_free;
    struct slot_map by_offset, by_key;
    struct heap ready, timed;
    struct member *members;                 /* [0, member_count) */
    uint32_t member_count, member_size, member_turn;
    uint64_t credit;                        /* of all members */
    struct group_counts counts;
    size_t reason_bytes;                    /* of all that are parked */
    bool dirty;
};

/* --- Heaps. */

static uint64_t heap_rank (const struct group_state *g, const struct heap *h, uint32_t slot)
{
    return h == &g->timed ? g->entries[slot].until_ns : g->entries[slot].offset;
}

static void heap_set (struct group_state *g, struct heap *h, uint32_t at, uint32_t slot)
{
    h->items[at] = slot;
    g->entries[slot].heap_at = at;
}

static void heap_sift (struct group_state *g, struct heap *h, uint32_t at)
{
    const uint32_t slot = h->items[at];
    const uint64_t rank = heap_rank (g, h, slot);
    for (; at > 1 && rank < heap_rank (g, h, h->items[at / 2]); at /= 2)
        heap_set (g, h, at, h->items[at / 2]);
    for (;;) {
        uint32_t child = 2 * at;
        if (child > h->count)
            break;
        if (child < h->count && heap_rank (g, h, h->items[child + 1]) < heap_rank (g, h, h->items[child]))
            child++;
        if (heap_rank (g, h, h->items[child]) >= rank)
            break;
        heap_set (g, h, at, h->items[child]);
        at = child;
    }
    heap_set (g, h, at, slot);
}

/* There is room: entry_new made it. */
static void heap_push (struct group_state *g, struct heap *h, uint32_t slot)
{
    assert (g->entries[slot].heap_at == 0 && h->count + 1 < h->size);
    h->count++;
    heap_set (g, h, h->count, slot);
    heap_sift (g, h, h->count);
}

static void heap_remove (struct group_state *g, struct heap *h, uint32_t slot)
{
    const uint32_t at = g->entries[slot].heap_at;
    assert (at && h->items[at] == slot);
    g->entries[slot].heap_at = 0;
    const uint32_t last = h->items[h->count--];
    if (last != slot) {
        heap_set (g, h, at, last);
        heap_sift (g, h, at);
    }
}

/* --- Keys: whose turn it is. */

/* An entry's state changed: put the key's first entry that is not parked into `ready`, or take out what is no longer it (invariant 1). */
static void key_refresh (struct group_state *g, uint32_t key)
{
    struct key *k = &g->keys[key];
    const uint32_t first = k->live.first;
    const uint32_t wanted = !k->handed && first && g->entries[first].state == ENTRY_WAITING ? first : 0;
    if (k->ready == wanted)
        return;
    if (k->ready)
        heap_remove (g, &g->ready, k->ready);
    if (wanted)
        heap_push (g, &g->ready, wanted);
    k->ready = wanted;
}

static uint32_t key_of (struct group_state *g, uint64_t hash)
{
    uint32_t key = hash ? slot_map_find (&g->by_key, hash) : 0;
    if (key)
        return key;
    if (g->key_free) {
        key = g->key_free;
        g->key_free = g->keys[key].free_next;
    } else {
        assert (g->key_used < g->key_size);
        key = g->key_used++;
    }
    g->keys[key] = (struct key) { .hash = hash };
    if (hash && slot_map_put (&g->by_key, hash, key)) {
        g->keys[key].free_next = g->key_free;
        g->key_free = key;
        return 0;
    }
    return key;
}

static void key_drop_if_empty (struct group_state *g, uint32_t key)
{
    struct key *k = &g->keys[key];
    if (k->live.first || k->parked.first)
        return;
    if (k->hash)
        slot_map_remove (&g->by_key, k->hash);
    k->free_next = g->key_free;
    g->key_free = key;
}

static void key_link (struct group_state *g, struct key_list *list, uint32_t slot)
{
    struct entry *e = &g->entries[slot];
    uint32_t before = list->last;
    /* After a seek back many come in below those that are there: beside the one before. */
    const uint32_t recent = list->recent, beside = recent ? g->entries[recent].key_after : 0;
    if (recent && g->entries[recent].offset < e->offset && beside && g->entries[beside].offset > e->offset)
        before = recent;
    else if (list->first && g->entries[list->first].offset > e->offset)
        before = 0;
    while (before && g->entries[before].offset > e->offset)
        before = g->entries[before].key_before;
    e->key_before = before;
    e->key_after = before ? g->entries[before].key_after : list->first;
    *(before ? &g->entries[before].key_after : &list->first) = slot;
    *(e->key_after ? &g->entries[e->key_after].key_before : &list->last) = slot;
    list->recent = slot;
}

static void key_unlink (struct group_state *g, struct key_list *list, uint32_t slot)
{
    const struct entry *e = &g->entries[slot];
    *(e->key_before ? &g->entries[e->key_before].key_after : &list->first) = e->key_after;
    *(e->key_after ? &g->entries[e->key_after].key_before : &list->last) = e->key_before;
    if (list->recent == slot)
        list->recent = 0;
}

/* --- Entries. */

/* Room for one entry more in everything that holds entries. */
static int make_room (struct group_state *g)
{
    if (g->entry_free || g->entry_used < g->entry_size)
        return 0;
    const uint32_t size = g->entry_size ? 2 * g->entry_size : 64;
    struct entry *entries = realloc (g->entries, size * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    g->entries = entries;
    struct key *keys = realloc (g->keys, size * sizeof *keys);
    if (!keys)
        return -ENOMEM;
    g->keys = keys;
    struct heap *heaps[] = { &g->ready, &g->timed };
    for (size_t i = 0; i < 2; i++) {
        uint32_t *items = realloc (heaps[i]->items, (size + 1) * sizeof *items);
        if (!items)
            return -ENOMEM;
        heaps[i]->items = items;
        heaps[i]->size = size + 1;
    }
    if (!g->entry_size)
        g->entry_used = g->key_used = 1;
    g->entry_size = g->key_size = size;
    return 0;
}

static int entry_new (struct group_state *g, uint64_t offset, uint64_t key_hash, uint32_t *ret_slot)
{
    int rc = make_room (g);
    if (rc)
        return rc;
    const uint32_t slot = g->entry_free ? g->entry_free : g->entry_used;
    rc = slot_map_put (&g->by_offset, offset, slot);
    if (rc)
        return rc;
    const uint32_t key = key_of (g, key_hash);
    if (!key) {
        slot_map_remove (&g->by_offset, offset);
        return -ENOMEM;
    }
    if (slot == g->entry_free)
        g->entry_free = g->entries[slot].key_after;
    else
        g->entry_used++;
    g->entries[slot] = (struct entry) { .offset = offset, .state = ENTRY_WAITING };
    g->entries[slot].key = key;
    key_link (g, &g->keys[key].live, slot);
    g->counts.unfinished++;
    *ret_slot = slot;
    return 0;
}

/* Out of its present state: out of the heap, out of the member's hands, out of the counts. */
static void entry_leave (struct group_state *g, uint32_t slot)
{
    struct entry *e = &g->entries[slot];
    struct key *k = &g->keys[e->key];
    switch (e->state) {
    case ENTRY_WAITING:
        if (k->ready == slot) {
            heap_remove (g, &g->ready, slot);
            k->ready = 0;
        }
        break;
    case ENTRY_LATER:
        heap_remove (g, &g->timed, slot);
        g->counts.later--;
        break;
    case ENTRY_HANDED:
    case ENTRY_BEGUN: {
        struct member *m = &g->members[e->member];
        *(e->hand_before ? &g->entries[e->hand_before].hand_after : &m->first) = e->hand_after;
        *(e->hand_after ? &g->entries[e->hand_after].hand_before : &m->last) = e->hand_before;
        e->hand_before = e->hand_after = 0;
        m->in_hand--;
        k->handed = 0;
        e->token++;
        g->counts.in_hand--;
        break;
    }
    case ENTRY_PARKED:
        free (e->reason);
        g->reason_bytes -= e->reason_len;
        e->reason = NULL;
        e->reason_len = 0;
        key_unlink (g, &k->parked, slot);
        key_link (g, &k->live, slot);
        g->counts.parked--;
        g->counts.unfinished++;
        break;
    case ENTRY_FREE:
        break;
    }
    g->dirty = true;
}

static void entry_wait (struct group_state *g, uint32_t slot)
{
    entry_leave (g, slot);
    g->entries[slot].state = ENTRY_WAITING;
    key_refresh (g, g->entries[slot].key);
}

static void entry_later (struct group_state *g, uint32_t slot, uint64_t until_ns)
{
    entry_leave (g, slot);
    g->entries[slot].state = ENTRY_LATER;
    g->entries[slot].until_ns = until_ns;
    g->counts.later++;
    heap_push (g, &g->timed, slot);
    key_refresh (g, g->entries[slot].key);
}

static void entry_give (struct group_state *g, uint32_t slot, uint32_t member, uint64_t token, bool begun)
{
    entry_leave (g, slot);
    struct entry *e = &g->entries[slot];
    struct member *m = &g->members[member];
    e->state = begun ? ENTRY_BEGUN : ENTRY_HANDED;
    e->member = member;
    e->token = token;
    e->hand_before = m->last;
    *(m->last ? &g->entries[m->last].hand_after : &m->first) = slot;
    m->last = slot;
    m->in_hand++;
    g->keys[e->key].handed = slot;
    g->counts.in_hand++;
    key_refresh (g, e->key);
}

static uint64_t backoff_ns (uint32_t attempts)
{
    uint64_t ms = GROUP_BACKOFF_MS;
    for (uint32_t i = 1; i < attempts && ms < GROUP_BACKOFF_MAX_MS; i++)
        ms *= 2;
    return (ms < GROUP_BACKOFF_MAX_MS ? ms : GROUP_BACKOFF_MAX_MS) * NS_PER_MS;
}

static void entry_park (struct group_state *g, uint32_t slot, struct fm_slice reason, uint64_t now, uint64_t unix_ns)
{
    if (g->counts.parked >= g->options.parked_max) {
        entry_later (g, slot, now + (uint64_t) GROUP_BACKOFF_MAX_MS * NS_PER_MS);
        return;
    }
    entry_leave (g, slot);
    struct entry *e = &g->entries[slot];
    e->state = ENTRY_PARKED;
    e->parked_unix_ns = unix_ns;
    key_unlink (g, &g->keys[e->key].live, slot);
    key_link (g, &g->keys[e->key].parked, slot);
    size_t len = reason.len < GROUP_REASON_MAX ? reason.len : GROUP_REASON_MAX;
    if (len > GROUP_REASONS_MAX - g->reason_bytes)
        len = 0;
    /* Without memory for it the fact is parked all the same: the reason is for people. */
    e->reason = len ? malloc (len) : NULL;
    if (e->reason) {
        memcpy (e->reason, reason.data, len);
        e->reason_len = (uint8_t) len;
        g->reason_bytes += len;
    }
    g->counts.parked++;
    g->counts.unfinished--;
    key_refresh (g, e->key);
}

static void entry_finish (struct group_state *g, uint32_t slot)
{
    entry_leave (g, slot);
    struct entry *e = &g->entries[slot];
    const uint32_t key = e->key;
    key_unlink (g, &g->keys[key].live, slot);
    slot_map_remove (&g->by_offset, e->offset);
    e->state = ENTRY_FREE;
    e->key_after = g->entry_free;
    g->entry_free = slot;
    g->counts.unfinished--;
    key_refresh (g, key);
    key_drop_if_empty (g, key);
}

/* It was handed out and nothing came of it. `attempt`: its instance was at it. `until_ns`: what it began may still be going on. */
static void entry_lose (struct group_state *g, uint32_t slot, bool attempt, uint64_t until_ns, uint64_t now, uint64_t unix_ns)
{
    struct entry *e = &g->entries[slot];
    const bool begun = e->state == ENTRY_BEGUN;
    if (begun)
        e->flags |= GROUP_IN_DOUBT;
    if (attempt && ++e->attempts >= g->options.attempts_max)
        entry_park (g, slot, slice_of ("handed out again and again, and no outcome came"), now, unix_ns);
    else if (begun && until_ns > now)
        entry_later (g, slot, until_ns);
    else
        entry_wait (g, slot);
}

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
    const int rc = entry_new (g, f->offset, f->key, &slot);
    if (rc)
        return rc;
    if (f->skipped)
        g->entries[slot].flags |= GROUP_OUT_OF_ORDER;
    else if (f->offset < g->place.high)
        g->entries[slot].flags |= GROUP_REPLAY;
    key_refresh (g, g->entries[slot].key);
    if (f->park.len)
        entry_park (g, slot, f->park, f->now, f->unix_ns);
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
        entry_lose (g, m->first, attempt, until_ns, now, unix_ns);
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
        return offset < g->place.next ? FM_ERR_END : FM_ERR_LEASE;
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
    entry_give (g, slot, number, token, begun);
    m->lease_end = now + g->options.lease_ns;
    return 0;
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
    entry_give (g, slot, (uint32_t) (m - g->members), g->place.starts << GROUP_TOKEN_START_SHIFT | ++g->hand_outs, false);
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
    entry_wait (g, slot);
}

/* Its handler says what it knows: no doubt is left. */
static void settle_doubt (struct entry *e)
{
    e->flags &= ~(uint32_t) GROUP_IN_DOUBT;
}

static void failed (struct group_state *g, uint32_t slot, const struct group_report *r, uint64_t now, uint64_t unix_ns)
{
    struct entry *e = &g->entries[slot];
    if (++e->attempts >= g->options.attempts_max)
        entry_park (g, slot, r->reason, now, unix_ns);
    else
        entry_later (g, slot, now + backoff_ns (e->attempts));
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
        entry_finish (g, slot);
        return 0;
    case GROUP_LATER:
        settle_doubt (e);
        entry_later (g, slot, now + (uint64_t) delay_ms * NS_PER_MS);
        return 0;
    case GROUP_FAILED:
        settle_doubt (e);
        failed (g, slot, r, now, unix_ns);
        return 0;
    case GROUP_PARK:
        if (e->state == ENTRY_BEGUN)
            settle_doubt (e);           /* else it may be parked for its doubt: a replay finds it so */
        entry_park (g, slot, r->reason, now, unix_ns);
        return 0;
    case GROUP_RELEASE:
        if (e->state == ENTRY_BEGUN) {
            entry_lose (g, slot, false, 0, now, unix_ns);
            return 0;
        }
        e->deliveries -= e->deliveries > 0;
        entry_wait (g, slot);
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
        entry_finish (g, slot);
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
        entry_wait (g, g->timed.items[1]);
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
            entry_finish (g, slot);
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
    entry_wait (g, slot);
    return 0;
}

int group_state_drop_parked (struct group_state *g, uint64_t offset)
{
    const uint32_t slot = find_parked (g, offset);
    if (!slot)
        return FM_ERR_UNKNOWN;
    entry_finish (g, slot);
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
    g->hand_outs = 0;
    g->rejoin_until = now + (uint64_t) GROUP_REJOIN_MS * NS_PER_MS;
    g->dirty = true;
}

int group_state_restore (struct group_state *g, const struct group_stored *s, uint64_t key, uint64_t now)
{
    uint32_t slot;
    const int rc = entry_new (g, s->offset, key, &slot);
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
        entry_park (g, slot, s->reason, now, s->parked_unix_ns);
    else if (s->handed || s->begun)
        entry_later (g, slot, now + g->options.lease_ns);   /* who had it may still be at it */
    else if (s->until_ns > now)
        entry_later (g, slot, s->until_ns);
    else
        entry_wait (g, slot);
    return 0;
}
