/* groups_join: an instance joins: is what it wants what the group is? The group made, or its topics changed; what it says it still holds. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "groups_inner.h"

static int check_name (struct fm_slice name)
{
    if (name.len == 0 || name.len > GROUP_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "a group's name has 1 to %d bytes, not %zu", (int) GROUP_NAME_MAX, name.len);
    const uint8_t *p = name.data;
    for (size_t i = 0; i < name.len; i++)
        if (p[i] < 0x20 || p[i] == 0x7f)
            return error_set (FM_ERR_ARGUMENT, "a group's name has a control byte at %zu", i);
    return 0;
}

static const char *effect_name (enum group_effect effect)
{
    static const char *const names[] = { "undeclared", "idempotent", "once", "once_per_version", "on_correction" };
    return (size_t) effect < sizeof names / sizeof names[0] ? names[effect] : "of a newer version";
}

static int config_get (const Factmesh__GroupConfig *from, struct group_config *ret_config)
{
    static const Factmesh__GroupConfig none = FACTMESH__GROUP_CONFIG__INIT;
    const Factmesh__GroupConfig *m = from ? from : &none;
    if (m->effect > FACTMESH__EFFECT__EFFECT_ON_CORRECTION)
        return error_set (FM_ERR_ARGUMENT, "effect %d is not known here", (int) m->effect);
    if (m->lease_ms > GROUP_DELAY_MAX_MS || (m->lease_ms && m->lease_ms < GROUPS_LEASE_MIN_MS))
        return error_set (FM_ERR_ARGUMENT, "a lease of %u ms; from %d to %d", m->lease_ms, (int) GROUPS_LEASE_MIN_MS, (int) GROUP_DELAY_MAX_MS);
    *ret_config = (struct group_config) {
        .effect = (enum group_effect) m->effect,
        .lease_ms = m->lease_ms ? m->lease_ms : GROUP_LEASE_MS,
        .attempts_max = m->attempts_max ? m->attempts_max : GROUP_ATTEMPTS_MAX,
    };
    return group_filters_copy (m->filters, m->n_filters, &ret_config->filters);
}

/* Where a new group begins. */
static int start_offset (struct groups *gs, const Factmesh__GroupJoin *join, uint64_t *ret_offset)
{
    struct log_position at;
    struct log_reader *reader = NULL;
    int rc;
    log_position (gs->context->log, &at);
    switch (join->start_case) {
    case FACTMESH__GROUP_JOIN__START_FROM_END:
        *ret_offset = join->from_end ? at.synced_offset : 1;
        return 0;
    case FACTMESH__GROUP_JOIN__START_FROM_OFFSET:
        *ret_offset = join->from_offset < at.synced_offset ? join->from_offset : at.synced_offset;
        if (!*ret_offset)
            *ret_offset = 1;
        return 0;
    case FACTMESH__GROUP_JOIN__START_FROM_TIME_NS:
        rc = log_reader_new (gs->context->log, &reader);
        if (!rc)
            rc = log_reader_seek_time (reader, join->from_time_ns, ret_offset);
        log_reader_destroy (&reader);
        return rc;
    default:
        *ret_offset = at.first_offset;
        return 0;
    }
}

/* A group that this version could not load must not be made anew over what is stored of it. */
static bool is_stored (struct groups *gs, struct fm_slice name)
{
    char entry[CURSOR_NAME_MAX + 1] = "\x01g";
    struct log_cursor stored;
    memcpy (entry + 2, name.data, name.len);
    return log_cursor_get (gs->context->log, entry, &gs->buffer, &gs->buffer_size, &stored) == 0;
}

static int make (struct groups *gs, const Factmesh__GroupJoin *join, struct group_config *config, struct group **ret_group)
{
    uint64_t offset = 1;
    struct group *g;
    struct group_filters ever = { .count = 0 };
    if (is_stored (gs, control_get_slice (&join->group)))
        return error_set (FM_ERR_CORRUPT, "the group's stored state could not be read at the journal's start; see GROUP-NOT-LOADED in its log");
    int rc = start_offset (gs, join, &offset);
    if (!rc)
        rc = group_filters_copy (join->config ? join->config->filters : NULL, join->config ? join->config->n_filters : 0, &ever);
    if (!rc)
        rc = group_make (gs, control_get_slice (&join->group), config, &g);
    if (rc) {
        group_filters_release (&ever);
        return rc;
    }
    config->filters = (struct group_filters) { .count = 0 };    /* taken */
    g->ever_filters = ever;
    group_state_begin (g->state, offset);
    g->begin = g->filters_since = offset;
    /* At once, so that a log that can't keep it refuses it. */
    rc = group_store (gs, g, node_now ());
    if (rc && rc != FM_ERR_FULL) {
        groups_forget (gs, g);
        return rc;
    }
    g->dirty = g->urgent = rc != 0;
    *ret_group = g;
    return 0;
}

/* Other topics from now on. */
static int change_filters (struct group *g, const Factmesh__GroupJoin *join, struct group_config *config)
{
    struct group_place place;
    group_state_place (g->state, &place);
    if (g->skipped_next < g->skipped_end)
        return error_set (FM_ERR_LIMIT, "group '%s' is still handing out what its topics before had left out", g->name);
    if (join->hand_out_skipped && g->begin < place.next) {
        g->skipped_filters = g->config.filters;
        g->skipped_next = g->begin;
        g->skipped_end = place.next;
    } else {
        const int rc = group_filters_add (&g->ever_filters, &config->filters);
        if (rc)
            return rc;
        group_filters_release (&g->config.filters);
        g->filters_since = place.next;
    }
    g->config.filters = config->filters;
    config->filters = (struct group_filters) { .count = 0 };
    g->walk.placed = g->skipped_walk.placed = false;
    g->dirty = g->urgent = true;
    g->config_store = g->stores + 1;
    return 0;
}

/* An existing group: is what this instance wants what the group is? */
static int fit (struct group *g, const Factmesh__GroupJoin *join, struct group_config *config)
{
    if (config->effect != g->config.effect)
        return error_set (FM_ERR_ARGUMENT, "group '%s' is %s, and this instance %s; all instances declare the same", g->name,
                          effect_name (g->config.effect), effect_name (config->effect));
    if (!config->filters.count || group_filters_equal (&config->filters, &g->config.filters))
        return 0;
    if (!join->change_filters)
        return error_set (FM_ERR_ARGUMENT, "group '%s' has other topics; ask for a change of topics to replace them", g->name);
    return change_filters (g, join, config);
}

static int add_instance (struct groups *gs, struct group *g, const struct node_route *from, const Factmesh__GroupJoin *join, uint64_t now, uint64_t *ret_member)
{
    if (g->instance_count == g->instance_size) {
        const size_t size = g->instance_size ? 2 * g->instance_size : 8;
        struct group_instance *bigger = realloc (g->instances, size * sizeof *bigger);
        if (!bigger)
            return -ENOMEM;
        g->instances = bigger;
        g->instance_size = size;
    }
    struct group_instance instance = { .number = gs->members + 1, .route = *from, .heard_ns = now };
    (void) control_get_id (&join->node, &instance.node);        /* without one its death shows by its leases */
    const size_t len = join->instance.len < NODE_NAME_MAX ? join->instance.len : NODE_NAME_MAX;
    if (len)
        memcpy (instance.name, join->instance.data, len);
    const int rc = group_state_join (g->state, instance.number, join->credit ? join->credit : 1, now);
    if (rc)
        return error_set (rc, "group '%s' has %d instances", g->name, (int) GROUP_MEMBERS_MAX);
    gs->members++;
    g->instances[g->instance_count++] = instance;
    *ret_member = instance.number;
    return 0;
}

/* What it still works on: what is still its own, and what others may have. What is in neither list is done. */
struct holdings {
    Factmesh__GroupHolding **kept;
    uint64_t *refused;
    size_t kept_count, refused_count;
};

static void rejoin (struct groups *gs, struct group *g, uint64_t member, const Factmesh__GroupJoin *join, uint64_t now, struct holdings *h)
{
    uint64_t through = 0, due;
    struct log_position at;
    log_position (gs->context->log, &at);
    for (size_t i = 0; i < join->n_holding; i++)
        if (join->holding[i]->offset < at.synced_offset && join->holding[i]->offset >= through)
            through = join->holding[i]->offset + 1;
    (void) groups_read (gs, g, through, now, &due);
    for (size_t i = 0; i < join->n_holding; i++) {
        const int rc = group_state_hold (g->state, member, join->holding[i]->offset, join->holding[i]->token, now);
        if (rc == 0)
            h->kept[h->kept_count++] = join->holding[i];
        else if (rc != FM_ERR_END)
            h->refused[h->refused_count++] = join->holding[i]->token;
    }
}

static int tell_joined (struct groups *gs, struct group *g, const struct mail *mail, uint64_t member, uint64_t now)
{
    const Factmesh__GroupJoin *join = mail->control->group_join;
    struct holdings h = { .kept = calloc (join->n_holding + 1, sizeof (*h.kept)), .refused = calloc (join->n_holding + 1, sizeof *h.refused) };
    int rc = h.kept && h.refused ? 0 : -ENOMEM;
    if (!rc) {
        rejoin (gs, g, member, join, now, &h);
        ProtobufCBinaryData filters[FILTERS_MAX];
        Factmesh__GroupConfig config;
        (void) group_config_put (&g->config, &config, filters);
        Factmesh__GroupJoined joined = FACTMESH__GROUP_JOINED__INIT;
        joined.group = join->group;
        joined.member = member;
        joined.config = &config;
        joined.n_holding = h.kept_count;
        joined.holding = h.kept;
        joined.n_refused = h.refused_count;
        joined.refused = h.refused;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_GROUP_JOINED;
        control.group_joined = &joined;
        (void) groups_answer (gs, &mail->from, mail->control->request, &control);
    }
    free (h.kept);
    free (h.refused);
    return rc;
}

/* Take the mail's message over, to be looked at again when all that was changed so far is durable. */
static int defer_join (struct group *g, struct mail *mail)
{
    struct mail *kept = calloc (1, sizeof *kept);
    if (!kept)
        return -ENOMEM;
    kept->from = mail->from;
    kept->control = mail->control;
    kept->done = mail->done;
    mail->control = NULL;
    *(g->joins ? g->joins_end : &g->joins) = kept;
    g->joins_end = &kept->next;
    return 0;
}

/* What it holds and is told nothing of is done, and it will not say so again: so that must be durable before, and once more where its outcome came while it
 * waited, over its old connection. */
static void wait_for_done (struct group *g, struct mail *mail, uint64_t now)
{
    const Factmesh__GroupJoin *join = mail->control->group_join;
    uint32_t done = 0;
    for (size_t i = 0; i < join->n_holding; i++)
        done += group_state_is_done (g->state, join->holding[i]->offset, join->holding[i]->token, now);
    if (done == mail->done)
        return;
    mail->done = done;
    g->dirty = g->urgent = true;
    g->config_store = g->stores + 1;
}

int groups_join (struct groups *gs, struct mail *mail, uint64_t now)
{
    const Factmesh__GroupJoin *join = mail->control->group_join;
    struct group_config config = { .lease_ms = 0 };
    uint64_t member = 0;
    if (join->n_holding > GROUP_CREDIT_MAX)
        return error_set (FM_ERR_LIMIT, "an instance holds at most %d facts", (int) GROUP_CREDIT_MAX);
    int rc = check_name (control_get_slice (&join->group));
    if (!rc)
        rc = config_get (join->config, &config);
    if (rc)
        return rc;
    struct group *g = groups_find (gs, control_get_slice (&join->group));
    rc = g ? fit (g, join, &config) : make (gs, join, &config, &g);
    group_filters_release (&config.filters);
    if (!rc)
        wait_for_done (g, mail, now);
    if (!rc && g->config_store > g->stored)
        return defer_join (g, mail);
    if (!rc)
        rc = add_instance (gs, g, &mail->from, join, now, &member);
    return rc ? rc : tell_joined (gs, g, mail, member, now);
}
