/* group_entry: the entries of one group, each in one state: in its key's list, and in the heap or in the hands that its state asks for. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "group_state_inner.h"

enum { NS_PER_MS = 1000000 };

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

/* There is room: group_entry_new made it. */
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

void group_key_refresh (struct group_state *g, uint32_t key)
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

int group_entry_new (struct group_state *g, uint64_t offset, uint64_t key_hash, uint32_t *ret_slot)
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
    case ENTRY_FREE:                    /* nobody does so */
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
    }
    g->dirty = true;
}

void group_entry_wait (struct group_state *g, uint32_t slot)
{
    entry_leave (g, slot);
    g->entries[slot].state = ENTRY_WAITING;
    group_key_refresh (g, g->entries[slot].key);
}

void group_entry_later (struct group_state *g, uint32_t slot, uint64_t until_ns)
{
    entry_leave (g, slot);
    g->entries[slot].state = ENTRY_LATER;
    g->entries[slot].until_ns = until_ns;
    g->counts.later++;
    heap_push (g, &g->timed, slot);
    group_key_refresh (g, g->entries[slot].key);
}

void group_entry_give (struct group_state *g, uint32_t slot, uint32_t member, uint64_t token, bool begun)
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
    group_key_refresh (g, e->key);
}

void group_entry_park (struct group_state *g, uint32_t slot, struct fm_slice reason, uint64_t now, uint64_t unix_ns)
{
    if (g->counts.parked >= g->options.parked_max) {
        group_entry_later (g, slot, now + (uint64_t) GROUP_BACKOFF_MAX_MS * NS_PER_MS);
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
    group_key_refresh (g, e->key);
}

void group_entry_finish (struct group_state *g, uint32_t slot)
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
    group_key_refresh (g, key);
    key_drop_if_empty (g, key);
}

void group_entry_lose (struct group_state *g, uint32_t slot, bool attempt, uint64_t until_ns, uint64_t now, uint64_t unix_ns)
{
    struct entry *e = &g->entries[slot];
    const bool begun = e->state == ENTRY_BEGUN;
    if (begun)
        e->flags |= GROUP_IN_DOUBT;
    if (attempt && ++e->attempts >= g->options.attempts_max)
        group_entry_park (g, slot, slice_of ("handed out again and again, and no outcome came"), now, unix_ns);
    else if (begun && until_ns > now)
        group_entry_later (g, slot, until_ns);
    else
        group_entry_wait (g, slot);
}
