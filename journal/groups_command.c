/* groups_command: what people ask of groups. A command is answered with the group as it then is, when that is durable. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "groups_inner.h"

enum { PARKED_LIMIT = 100 };

/* --- Telling. */

struct parked_list {
    struct groups *gs;
    uint64_t after;
    size_t limit, count, bytes;
    Factmesh__ParkedFact *facts, **pointers;
    struct fm_id *streams;
    Factmesh__FactId *ids;
    bool more;
};

/* Adds one; its bytes and reason are copied, to be freed by parked_release. */
static void add_parked (void *arg, const struct group_stored *s)
{
    struct parked_list *list = arg;
    if (!s->parked || s->offset <= list->after)
        return;
    if (list->count == list->limit || list->bytes > GROUPS_REPLY_BYTES) {
        list->more = true;
        return;
    }
    Factmesh__ParkedFact *p = &list->facts[list->count];
    factmesh__parked_fact__init (p);
    p->offset = s->offset;
    p->deliveries = s->deliveries;
    p->attempts = s->attempts;
    p->parked_ns = s->parked_unix_ns;
    p->reason = control_put_slice (s->reason);
    struct fm_slice batch;
    struct fm_fact fact;
    if (fact_finder_read (list->gs->finder, s->newest_offset ? s->newest_offset : s->offset, &batch, &fact) == 0) {
        uint8_t *copy = malloc (batch.len);
        if (copy) {
            memcpy (copy, batch.data, batch.len);
            p->batch = control_put_slice (slice (copy, batch.len));
            list->bytes += batch.len;
        }
        Factmesh__FactId *id = &list->ids[list->count];
        factmesh__fact_id__init (id);
        list->streams[list->count] = fact.id.stream;
        id->stream = control_put_id (&list->streams[list->count]);
        id->seq = fact.id.seq;
        p->fact = id;
    }
    list->pointers[list->count++] = p;
}

static void parked_release (struct parked_list *list)
{
    for (size_t i = 0; list->facts && i < list->count; i++)
        free (list->facts[i].batch.data);
    free (list->facts);
    free (list->pointers);
    free (list->streams);
    free (list->ids);
}

/* What is told of one group; all of it points into the group or into this. */
struct info {
    Factmesh__GroupInfo message;
    Factmesh__GroupConfig config;
    ProtobufCBinaryData filters[FILTERS_MAX];
    Factmesh__GroupMember *members, **member_pointers;
};

static int fill_members (struct group *g, struct info *info)
{
    info->members = calloc (g->instance_count + 1, sizeof *info->members);
    info->member_pointers = calloc (g->instance_count + 1, sizeof (*info->member_pointers));
    if (!info->members || !info->member_pointers)
        return -ENOMEM;
    uint32_t at = 0;
    size_t n = 0;
    struct group_member m;
    while (group_state_member_next (g->state, &at, &m) == 0)
        for (size_t i = 0; i < g->instance_count; i++) {
            struct group_instance *instance = &g->instances[i];
            if (instance->number != m.member)
                continue;
            Factmesh__GroupMember *member = &info->members[n];
            factmesh__group_member__init (member);
            member->instance = control_put_slice (slice_of (instance->name));
            member->node = control_put_id (&instance->node);
            member->in_hand = m.in_hand;
            member->credit = m.credit;
            member->done = m.done;
            info->member_pointers[n++] = member;
        }
    info->message.n_members = n;
    info->message.members = info->member_pointers;
    return 0;
}

static int fill (struct groups *gs, struct group *g, struct info *info)
{
    struct group_place place;
    struct group_counts counts;
    struct log_position at;
    group_state_place (g->state, &place);
    group_state_counts (g->state, &counts);
    log_position (gs->context->log, &at);
    Factmesh__GroupInfo *m = &info->message;
    factmesh__group_info__init (m);
    m->group = control_put_slice (slice_of (g->name));
    (void) group_config_put (&g->config, &info->config, info->filters);
    m->config = &info->config;
    m->next_offset = place.next;
    m->high_offset = place.high;
    m->behind = (at.synced_offset > place.next ? at.synced_offset - place.next : 0) + (g->skipped_end - g->skipped_next);
    m->unfinished = counts.unfinished;
    m->in_hand = counts.in_hand;
    m->later = counts.later;
    m->parked = counts.parked;
    m->paused = place.paused;
    return fill_members (g, info);
}

static void info_release (struct info *info)
{
    free (info->members);
    free (info->member_pointers);
}

static void answer (struct groups *gs, const struct node_route *to, uint64_t request, Factmesh__GroupInfo **groups, size_t count, bool more)
{
    Factmesh__GroupReply reply = FACTMESH__GROUP_REPLY__INIT;
    reply.n_groups = count;
    reply.groups = groups;
    reply.more = more;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_REPLY;
    control.group_reply = &reply;
    (void) groups_answer (gs, to, request, &control);
}

void groups_reply_info (struct groups *gs, struct group *g, const struct node_route *to, uint64_t request, uint64_t parked_after, uint32_t parked_limit)
{
    struct info info = { .members = NULL };
    struct parked_list parked = { .gs = gs, .after = parked_after, .limit = parked_limit < PARKED_LIMIT ? parked_limit : PARKED_LIMIT };
    int rc = fill (gs, g, &info);
    if (!rc && parked.limit) {
        parked.facts = calloc (parked.limit, sizeof *parked.facts);
        parked.pointers = calloc (parked.limit, sizeof (*parked.pointers));
        parked.streams = calloc (parked.limit, sizeof *parked.streams);
        parked.ids = calloc (parked.limit, sizeof *parked.ids);
        rc = parked.facts && parked.pointers && parked.streams && parked.ids ? group_state_each (g->state, add_parked, &parked) : -ENOMEM;
        info.message.n_parked_facts = parked.count;
        info.message.parked_facts = parked.pointers;
    }
    Factmesh__GroupInfo *pointers[] = { &info.message };
    if (rc)
        groups_refuse (gs, to, request, rc);
    else
        answer (gs, to, request, pointers, 1, parked.more);
    parked_release (&parked);
    info_release (&info);
}

void groups_tell_erased (struct groups *gs, const struct node_route *to, uint64_t request)
{
    answer (gs, to, request, NULL, 0, false);
}

void groups_list (struct groups *gs, const struct mail *mail)
{
    const Factmesh__GroupList *list = mail->control->group_list;
    const size_t limit = list->limit && list->limit < GROUPS_LIST_MAX ? list->limit : GROUPS_LIST_MAX;
    struct info *infos = calloc (limit, sizeof *infos);
    Factmesh__GroupInfo **pointers = calloc (limit, sizeof (*pointers));
    size_t count = 0, members = 0;
    bool more = false;
    int rc = infos && pointers ? 0 : -ENOMEM;
    const struct fm_slice after = control_get_slice (&list->after);
    for (struct group *g = gs->list; g && !rc; g = g->next) {
        const size_t len = strlen (g->name), common = len < after.len ? len : after.len;
        const int order = common ? memcmp (g->name, after.data, common) : 0;
        if (order < 0 || (order == 0 && len <= after.len))
            continue;
        more = count == limit || (count && members + g->instance_count > GROUPS_LIST_MEMBERS);
        if (more)
            break;
        rc = fill (gs, g, &infos[count]);
        pointers[count] = &infos[count].message;
        members += g->instance_count;
        count++;
    }
    if (rc)
        groups_refuse (gs, &mail->from, mail->control->request, rc);
    else
        answer (gs, &mail->from, mail->control->request, pointers, count, more);
    for (size_t i = 0; infos && i < count; i++)
        info_release (&infos[i]);
    free (infos);
    free (pointers);
}

/* --- Commands. */

static int seek (struct groups *gs, struct group *g, const Factmesh__GroupCommand *c)
{
    struct log_position at;
    uint64_t offset = c->offset;
    log_position (gs->context->log, &at);
    if (c->time_ns) {
        struct log_reader *reader = NULL;
        int rc = log_reader_new (gs->context->log, &reader);
        if (!rc)
            rc = log_reader_seek_time (reader, c->time_ns, &offset);
        log_reader_destroy (&reader);
        if (rc)
            return rc;
    }
    if (offset > at.synced_offset)
        offset = at.synced_offset;
    if (offset < 1)
        offset = 1;
    group_state_seek (g->state, offset, c->again);
    g->walk.placed = false;
    return 0;
}

struct offsets { uint64_t *items; size_t count; };

static void add_offset (void *arg, const struct group_stored *s)
{
    struct offsets *o = arg;
    if (s->parked)
        o->items[o->count++] = s->offset;
}

static int replay_all_parked (struct group *g)
{
    struct group_counts counts;
    group_state_counts (g->state, &counts);
    struct offsets o = { .items = calloc ((size_t) counts.parked + 1, sizeof *o.items) };
    int rc = o.items ? group_state_each (g->state, add_offset, &o) : -ENOMEM;
    for (size_t i = 0; i < o.count && !rc; i++)
        rc = group_state_replay_parked (g->state, o.items[i]);
    free (o.items);
    return rc;
}

/* All or none: an offset that is not parked refuses the command before anything is done. */
static int parked_command (struct group *g, const Factmesh__GroupCommand *c)
{
    const bool replay = c->action == FACTMESH__GROUP_ACTION__GROUP_REPLAY_PARKED;
    if (!c->n_offsets)
        return replay ? replay_all_parked (g) : error_set (FM_ERR_ARGUMENT, "which parked facts are to be dropped? Name their offsets");
    for (size_t i = 0; i < c->n_offsets; i++)
        if (!group_state_is_parked (g->state, c->offsets[i]))
            return error_set (FM_ERR_ARGUMENT, "offset %llu is not parked in group '%s'", (unsigned long long) c->offsets[i], g->name);
    for (size_t i = 0; i < c->n_offsets; i++)
        (void) (replay ? group_state_replay_parked : group_state_drop_parked) (g->state, c->offsets[i]);    /* named twice: done the first time */
    return 0;
}

static int erase (struct groups *gs, struct group *g, const struct mail *mail)
{
    uint64_t ticket;
    if (g->instance_count)
        return error_set (FM_ERR_ARGUMENT, "group '%s' has %zu instances; stop them first", g->name, g->instance_count);
    int rc = group_erase (gs, g, &ticket);
    if (!rc)
        rc = groups_confirm_erased (gs, mail, ticket);
    if (!rc)
        groups_forget (gs, g);
    return rc;
}

void groups_command (struct groups *gs, const struct mail *mail, uint64_t now)
{
    const Factmesh__GroupCommand *c = mail->control->group_command;
    const struct fm_slice name = control_get_slice (&c->group);
    struct group *g = groups_find (gs, name);
    int rc = 0;
    (void) now;
    if (!g) {
        groups_refuse (gs, &mail->from, mail->control->request,
                       error_set (FM_ERR_UNKNOWN, "no group '%.*s'", (int) (name.len < GROUP_NAME_MAX ? name.len : GROUP_NAME_MAX), (const char *) name.data));
        return;
    }
    switch (c->action) {
    case FACTMESH__GROUP_ACTION__GROUP_SHOW:
        groups_reply_info (gs, g, &mail->from, mail->control->request, c->parked_after, c->parked_limit);
        return;
    case FACTMESH__GROUP_ACTION__GROUP_DELETE:
        rc = erase (gs, g, mail);
        if (rc)
            groups_refuse (gs, &mail->from, mail->control->request, rc);
        return;
    case FACTMESH__GROUP_ACTION__GROUP_PAUSE:
    case FACTMESH__GROUP_ACTION__GROUP_RESUME:
        group_state_pause (g->state, c->action == FACTMESH__GROUP_ACTION__GROUP_PAUSE);
        break;
    case FACTMESH__GROUP_ACTION__GROUP_SEEK:
        rc = seek (gs, g, c);
        break;
    case FACTMESH__GROUP_ACTION__GROUP_REPLAY_PARKED:
    case FACTMESH__GROUP_ACTION__GROUP_DROP_PARKED:
        rc = parked_command (g, c);
        break;
    default:
        rc = error_set (FM_ERR_ARGUMENT, "action %d is not known here", (int) c->action);
        break;
    }
    if (!rc)
        rc = groups_confirm (g, &mail->from, mail->control->request, 0, true, NULL, 0);
    if (rc)
        groups_refuse (gs, &mail->from, mail->control->request, rc);
}
