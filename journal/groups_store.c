/* groups_store: a group's state as bytes, in the log: a cursor entry whose name begins with the bytes 01 'g' (FORMAT.md, "Names"). */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "groups_inner.h"

enum { NS_PER_MS = 1000000, PREFIX_LEN = 2, TOKENS_FROM_SHIFT = 64 - (GROUP_TOKEN_START_SHIFT - 1) };
static const char prefix[] = "\x01g";
static_assert (PREFIX_LEN + GROUP_NAME_MAX <= CURSOR_NAME_MAX, "a group's entry has a cursor's name");

/* --- Filters. */

/* Patterns that were checked. */
static int copy_patterns (const struct fm_slice *from, size_t count, struct group_filters *ret_filters)
{
    struct group_filters f = { .count = count };
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += from[i].len;
    f.bytes = malloc (bytes + 1);
    if (!f.bytes)
        return -ENOMEM;
    char *p = f.bytes;
    for (size_t i = 0; i < count; i++) {
        memcpy (p, from[i].data, from[i].len);
        f.patterns[i] = slice (p, from[i].len);
        p += from[i].len;
    }
    *ret_filters = f;
    return 0;
}

int group_filters_copy (const ProtobufCBinaryData *from, size_t count, struct group_filters *ret_filters)
{
    struct fm_slice patterns[FILTERS_MAX];
    if (count > FILTERS_MAX)
        return error_set (FM_ERR_LIMIT, "%zu topic patterns; at most %d", count, (int) FILTERS_MAX);
    for (size_t i = 0; i < count; i++) {
        patterns[i] = control_get_slice (&from[i]);
        const int rc = topic_pattern_check (patterns[i]);
        if (rc)
            return rc;
    }
    return copy_patterns (patterns, count, ret_filters);
}

void group_filters_release (struct group_filters *f)
{
    free (f->bytes);
    *f = (struct group_filters) { .count = 0 };
}

static bool has_pattern (const struct group_filters *f, struct fm_slice pattern)
{
    for (size_t i = 0; i < f->count; i++)
        if (slice_equal (f->patterns[i], pattern))
            return true;
    return false;
}

bool group_filters_equal (const struct group_filters *a, const struct group_filters *b)
{
    for (size_t i = 0; i < a->count; i++)
        if (!has_pattern (b, a->patterns[i]))
            return false;
    for (size_t i = 0; i < b->count; i++)
        if (!has_pattern (a, b->patterns[i]))
            return false;
    return (a->count == 0) == (b->count == 0);
}

int group_filters_add (struct group_filters *f, const struct group_filters *others)
{
    struct fm_slice patterns[FILTERS_MAX];
    struct group_filters sum;
    size_t count = f->count;
    if (!f->count)
        return 0;                       /* everything */
    memcpy (patterns, f->patterns, count * sizeof patterns[0]);
    bool all = !others->count;
    for (size_t i = 0; i < others->count && !all; i++) {
        if (has_pattern (f, others->patterns[i]))
            continue;
        all = count == FILTERS_MAX;
        if (!all)
            patterns[count++] = others->patterns[i];
    }
    const int rc = copy_patterns (patterns, all ? 0 : count, &sum);
    if (rc)
        return rc;
    group_filters_release (f);
    *f = sum;
    return 0;
}

bool group_filters_match (const struct group_filters *f, struct fm_slice topic)
{
    for (size_t i = 0; i < f->count; i++)
        if (topic_match (f->patterns[i], topic))
            return true;
    return f->count == 0;
}

static size_t put_filters (const struct group_filters *f, ProtobufCBinaryData ret_filters[FILTERS_MAX])
{
    for (size_t i = 0; i < f->count; i++)
        ret_filters[i] = control_put_slice (f->patterns[i]);
    return f->count;
}

int group_config_put (const struct group_config *config, Factmesh__GroupConfig *message, ProtobufCBinaryData ret_filters[FILTERS_MAX])
{
    factmesh__group_config__init (message);
    message->n_filters = put_filters (&config->filters, ret_filters);
    message->filters = ret_filters;
    message->effect = (Factmesh__Effect) config->effect;
    message->lease_ms = config->lease_ms;
    message->attempts_max = config->attempts_max;
    return 0;
}

/* --- Making one. */

static void insert (struct groups *gs, struct group *g)
{
    struct group **at = &gs->list;
    while (*at && strcmp ((*at)->name, g->name) < 0)
        at = &(*at)->next;
    g->next = *at;
    *at = g;
    gs->count++;
}

int group_make (struct groups *gs, struct fm_slice name, const struct group_config *config, struct group **ret_group)
{
    if (gs->count >= GROUPS_MAX)
        return error_set (FM_ERR_LIMIT, "%d groups are here; delete one that is not needed any more", (int) GROUPS_MAX);
    struct group *g = calloc (1, sizeof *g);
    if (!g)
        return -ENOMEM;
    const struct group_options options = {
        .effect = config->effect,
        .lease_ns = (uint64_t) config->lease_ms * NS_PER_MS,
        .attempts_max = config->attempts_max,
        .tokens_from = id_random_u64 () >> TOKENS_FROM_SHIFT,
    };
    const int rc = group_state_new (&options, &g->state);
    if (rc) {
        free (g);
        return rc;
    }
    memcpy (g->name, name.data, name.len);
    g->config = *config;
    g->confirms_end = &g->confirms;
    g->config_store = 1;
    insert (gs, g);
    *ret_group = g;
    return 0;
}

/* --- Bytes out. */

struct packing {
    Factmesh__GroupEntry *entries, **pointers;
    size_t count;
    uint64_t last_offset;
    uint64_t now, unix_ns;
};

static void pack_entry (void *arg, const struct group_stored *s)
{
    struct packing *p = arg;
    Factmesh__GroupEntry *e = &p->entries[p->count];
    factmesh__group_entry__init (e);
    e->offset_delta = s->offset - p->last_offset;
    e->deliveries = s->deliveries;
    e->attempts = s->attempts;
    e->flags = s->flags;
    e->begun = s->begun;
    e->token = s->token;
    e->until_ns = s->until_ns > p->now ? p->unix_ns + (s->until_ns - p->now) : 0;
    e->parked = s->parked;
    e->parked_ns = s->parked_unix_ns;
    e->reason = control_put_slice (s->reason);
    e->newest_offset = s->newest_offset;
    e->content_offset = s->content_offset == s->offset ? 0 : s->content_offset;
    e->handed = s->handed;
    p->last_offset = s->offset;
    p->pointers[p->count++] = e;
}

static int pack (struct groups *gs, struct group *g, uint64_t now, uint8_t **ret_bytes, size_t *ret_len)
{
    struct group_counts counts;
    struct group_place place;
    const struct clock *clock = gs->context->clock;
    group_state_counts (g->state, &counts);
    group_state_place (g->state, &place);
    const size_t count = (size_t) (counts.unfinished + counts.parked);
    struct packing p = { .now = now, .unix_ns = clock->unix_ns (clock->context) };
    p.entries = calloc (count + 1, sizeof *p.entries);
    p.pointers = calloc (count + 1, sizeof (*p.pointers));
    int rc = p.entries && p.pointers ? group_state_each (g->state, pack_entry, &p) : -ENOMEM;
    if (!rc) {
        ProtobufCBinaryData filters[FILTERS_MAX], skipped[FILTERS_MAX], ever[FILTERS_MAX];
        Factmesh__GroupConfig config;
        Factmesh__GroupState state = FACTMESH__GROUP_STATE__INIT;
        rc = group_config_put (&g->config, &config, filters);
        state.major = PROTO_MAJOR;
        state.config = &config;
        state.next_offset = place.next;
        state.high_offset = place.high;
        state.starts = place.starts;
        state.paused = place.paused;
        state.n_unfinished = p.count;
        state.unfinished = p.pointers;
        state.skipped_next = g->skipped_next;
        state.skipped_end = g->skipped_end;
        state.n_skipped_filters = put_filters (&g->skipped_filters, skipped);
        state.skipped_filters = skipped;
        state.begin_offset = g->begin;
        state.filters_since = g->filters_since;
        state.n_ever_filters = put_filters (&g->ever_filters, ever);
        state.ever_filters = ever;
        *ret_len = factmesh__group_state__get_packed_size (&state);
        *ret_bytes = malloc (*ret_len);
        if (*ret_bytes)
            (void) factmesh__group_state__pack (&state, *ret_bytes);    /* as long as it said */
        else
            rc = -ENOMEM;
    }
    free (p.entries);
    free (p.pointers);
    return rc;
}

static void entry_name (const struct group *g, char ret_name[CURSOR_NAME_MAX + 1])
{
    memcpy (ret_name, prefix, PREFIX_LEN);
    memcpy (ret_name + PREFIX_LEN, g->name, strlen (g->name) + 1);
}

int group_store (struct groups *gs, struct group *g, uint64_t now)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    struct log_cursor c = { .updated_ns = gs->context->clock->unix_ns (gs->context->clock->context) };
    int rc = pack (gs, g, now, &bytes, &len);
    if (rc)
        return rc;
    entry_name (g, c.name);
    c.cursor = slice (bytes, len);
    rc = log_cursor_put (gs->context->log, &c, &g->ticket);
    free (bytes);
    g->store_due_ns = now + (uint64_t) (GROUPS_STORE_MS + len / GROUPS_STORE_BYTES_MS) * NS_PER_MS;
    if (rc)
        return rc;
    g->stores++;
    g->dirty = g->urgent = false;
    return 0;
}

int group_erase (struct groups *gs, struct group *g, uint64_t *ret_ticket)
{
    char name[CURSOR_NAME_MAX + 1];
    entry_name (g, name);
    const int rc = log_cursor_delete (gs->context->log, name, ret_ticket);
    if (rc == FM_ERR_UNKNOWN)
        *ret_ticket = 0;                /* it was never stored */
    return rc == FM_ERR_UNKNOWN ? 0 : rc;
}

/* --- Bytes in. */

/* Everything that a group looked at was synced before its state was. A place beyond the log's end would pass over what is recorded until it comes there,
 * and tokens of a later start would be given twice. */
static int check_place (const Factmesh__GroupState *state, uint64_t end)
{
    if (state->next_offset > state->high_offset || state->high_offset > end || state->begin_offset > end || state->skipped_end > end
        || state->skipped_next > state->skipped_end)
        return error_set (FM_ERR_CORRUPT, "its places, %llu and %llu, do not fit the log, which ends at %llu", (unsigned long long) state->next_offset,
                          (unsigned long long) state->high_offset, (unsigned long long) end);
    if (state->starts >= GROUP_STARTS_MAX)
        return error_set (FM_ERR_CORRUPT, "%llu starts of the journal", (unsigned long long) state->starts);
    return 0;
}

static int check_entry (const Factmesh__GroupEntry *e, uint64_t before, uint64_t end, uint64_t starts)
{
    if (e->offset_delta == 0 || e->offset_delta > UINT64_MAX - before)
        return error_set (FM_ERR_CORRUPT, "the entry behind offset %llu does not rise", (unsigned long long) before);
    if (before + e->offset_delta >= end || e->newest_offset >= end || e->content_offset >= end)
        return error_set (FM_ERR_CORRUPT, "the entry behind offset %llu is beyond the end of the log, %llu", (unsigned long long) before, (unsigned long long) end);
    if (e->token >> GROUP_TOKEN_START_SHIFT > starts)
        return error_set (FM_ERR_CORRUPT, "the entry behind offset %llu has a token of a later start", (unsigned long long) before);
    return 0;
}

/* stored_ns: when the state was stored. A clock that says less was set back since: delays do not grow by that. */
static int restore_entries (struct groups *gs, struct group *g, const Factmesh__GroupState *state, uint64_t stored_ns, uint64_t end, uint64_t now)
{
    const uint64_t clock_ns = gs->context->clock->unix_ns (gs->context->clock->context);
    const uint64_t unix_ns = clock_ns > stored_ns ? clock_ns : stored_ns;
    uint64_t offset = 0, gone = 0;
    for (size_t i = 0; i < state->n_unfinished; i++) {
        const Factmesh__GroupEntry *e = state->unfinished[i];
        struct fm_slice batch;
        struct fm_fact fact = { .time_ns = 0 };
        int rc = check_entry (e, offset, end, state->starts);
        if (rc)
            return rc;
        offset += e->offset_delta;
        rc = fact_finder_read (gs->finder, offset, &batch, &fact);
        if (rc == FM_ERR_UNKNOWN && !e->parked) {
            gone++;
            continue;
        }
        if (rc && rc != FM_ERR_UNKNOWN)
            return rc;
        const uint64_t max_ns = (uint64_t) GROUP_DELAY_MAX_MS * NS_PER_MS;
        const uint64_t wait_ns = e->until_ns > unix_ns ? e->until_ns - unix_ns : 0;
        const struct group_stored stored = {
            .offset = offset,
            .token = e->token,
            .newest_offset = e->newest_offset,
            .content_offset = e->content_offset ? e->content_offset : e->deliveries ? offset : 0,
            .handed = e->handed,
            .until_ns = wait_ns ? now + (wait_ns < max_ns ? wait_ns : max_ns) : 0,
            .parked_unix_ns = e->parked_ns,
            .deliveries = e->deliveries,
            .attempts = e->attempts,
            .flags = e->flags,
            .begun = e->begun,
            .parked = e->parked,
            .reason = control_get_slice (&e->reason),
        };
        rc = group_state_restore (g->state, &stored, groups_key (gs, &fact), now);
        if (rc)
            return rc;
    }
    if (gone)
        journal_notice (gs->context, "GROUP-FACT-GONE", "group=%s facts=%llu: retention or damage took them before they were done", g->name,
                        (unsigned long long) gone);
    return 0;
}

static int restore_filters (struct group *g, const Factmesh__GroupState *state)
{
    int rc = 0;
    g->skipped_next = state->skipped_next;
    g->skipped_end = state->skipped_end;
    g->begin = state->begin_offset ? state->begin_offset : 1;
    g->filters_since = state->filters_since;
    if (state->n_skipped_filters)
        rc = group_filters_copy (state->skipped_filters, state->n_skipped_filters, &g->skipped_filters);
    return rc ? rc : group_filters_copy (state->ever_filters, state->n_ever_filters, &g->ever_filters);
}

static int restore (struct groups *gs, struct fm_slice name, const Factmesh__GroupState *state, uint64_t stored_ns)
{
    if (state->major != PROTO_MAJOR)
        return error_set (FM_ERR_NEWER, "it is of version %u; this is version %d", state->major, (int) PROTO_MAJOR);
    if (!state->config || !name.len || name.len > GROUP_NAME_MAX || !state->next_offset)
        return error_set (FM_ERR_CORRUPT, "its entry does not say what it is");
    if (state->config->effect > FACTMESH__EFFECT__EFFECT_ON_CORRECTION)
        return error_set (FM_ERR_NEWER, "its effect, %d, is not known here", (int) state->config->effect);
    struct log_position at;
    log_position (gs->context->log, &at);
    int rc = check_place (state, at.synced_offset);
    if (rc)
        return rc;
    struct group *g;
    struct group_config config = {
        .effect = (enum group_effect) state->config->effect,
        .lease_ms = state->config->lease_ms,
        .attempts_max = state->config->attempts_max,
    };
    rc = group_filters_copy (state->config->filters, state->config->n_filters, &config.filters);
    if (!rc)
        rc = group_make (gs, name, &config, &g);
    if (rc) {
        group_filters_release (&config.filters);
        return rc;
    }
    const struct group_place place = { .next = state->next_offset, .high = state->high_offset, .starts = state->starts, .paused = state->paused };
    const uint64_t now = node_now ();
    group_state_restart (g->state, &place, now);
    rc = restore_filters (g, state);
    if (!rc)
        rc = restore_entries (gs, g, state, stored_ns, at.synced_offset, now);
    if (rc)
        groups_forget (gs, g);
    else
        g->dirty = true;
    return rc;
}

int groups_load (struct groups *gs)
{
    char name[CURSOR_NAME_MAX + 1] = "\x01g", next[CURSOR_NAME_MAX + 1];
    while (log_cursor_next (gs->context->log, name, next) == 0 && memcmp (next, prefix, PREFIX_LEN) == 0) {
        struct log_cursor stored;
        memcpy (name, next, sizeof name);
        int rc = log_cursor_get (gs->context->log, name, &gs->buffer, &gs->buffer_size, &stored);
        if (rc)
            return rc;
        Factmesh__GroupState *state = factmesh__group_state__unpack (NULL, stored.cursor.len, stored.cursor.data);
        rc = state ? restore (gs, slice_of (name + PREFIX_LEN), state, stored.updated_ns) : error_set (FM_ERR_CORRUPT, "its entry does not decode");
        if (state)
            factmesh__group_state__free_unpacked (state, NULL);
        if (rc == -ENOMEM)
            return rc;
        if (rc)
            journal_notice (gs->context, "GROUP-NOT-LOADED", "group=%s: %s (%s); its members are refused, its entry is kept", name + PREFIX_LEN,
                            fm_error_text (rc), fm_error_detail ());
    }
    return 0;
}
