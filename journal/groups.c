#include "groups.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "error.h"
#include "groups_inner.h"

enum { NS_PER_MS = 1000000, WAIT_MAX_MS = 1000, BUSY_MS = 1, CONFIRM_RETRY_MS = 50, CONFIRM_TRIES = 200 };

/* --- Answers. */

static Factmesh__ErrorCode error_code (int rc)
{
    switch (rc) {
    case FM_ERR_TOPIC:
    case FM_ERR_MALFORMED:
        return FACTMESH__ERROR_CODE__ERROR_MALFORMED;
    case FM_ERR_ARGUMENT:
        return FACTMESH__ERROR_CODE__ERROR_RANGE;
    case FM_ERR_LIMIT:
    case FM_ERR_FULL:
    case FM_ERR_TOO_LARGE:
        return FACTMESH__ERROR_CODE__ERROR_LIMIT;
    case FM_ERR_READ_ONLY:
        return FACTMESH__ERROR_CODE__ERROR_READ_ONLY;
    case FM_ERR_UNKNOWN:
        return FACTMESH__ERROR_CODE__ERROR_UNKNOWN_GROUP;
    case FM_ERR_CLOSED:
        return FACTMESH__ERROR_CODE__ERROR_UNKNOWN_MEMBER;
    default:
        return FACTMESH__ERROR_CODE__ERROR_INTERNAL;
    }
}

void groups_refuse (struct groups *gs, const struct node_route *to, uint64_t request, int rc)
{
    const char *detail = fm_error_detail ();
    journal_count (gs->context, JOURNAL_REQUESTS_REFUSED, 1);
    /* Whoever does not get it times out. */
    (void) node_reply_error (gs->context->node, to, request, 0, error_code (rc), *detail ? detail : fm_error_text (rc));
}

int groups_answer (struct groups *gs, const struct node_route *to, uint64_t request, Factmesh__Control *control)
{
    zmq_msg_t message;
    control->request = request;
    int rc = control_encode (control, node_mesh (gs->context->node), &message);
    if (rc)
        return rc;
    rc = node_reply (gs->context->node, to, &message);
    if (rc)
        zmq_msg_close (&message);
    return rc;
}

/* --- Confirming. */

int groups_confirm (struct group *g, const struct node_route *to, uint64_t request, uint64_t member, bool command, const uint64_t *refused, size_t count)
{
    struct group_confirm *c = malloc (sizeof *c + count * sizeof c->refused[0]);
    if (!c)
        return -ENOMEM;
    *c = (struct group_confirm) { .to = *to, .request = request, .member = member, .store = g->stores + 1, .command = command, .refused_count = count };
    if (count)
        memcpy (c->refused, refused, count * sizeof c->refused[0]);
    *g->confirms_end = c;
    g->confirms_end = &c->next;
    g->confirm_count++;
    g->dirty = g->urgent = true;
    return 0;
}

static int tell_outcomes (struct groups *gs, const struct group_confirm *c)
{
    Factmesh__OutcomesConfirm confirm = FACTMESH__OUTCOMES_CONFIRM__INIT;
    confirm.member = c->member;
    confirm.n_refused = c->refused_count;
    confirm.refused = (uint64_t *) (uintptr_t) c->refused;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM;
    control.outcomes_confirm = &confirm;
    return groups_answer (gs, &c->to, c->request, &control);
}

/* A member waits for this word, and does not ask for it again: without memory, or with its queue full, it is told a little later. Whoever is gone joins
 * again, and says what it holds. Returns when to be called again. */
static uint64_t settle_confirms (struct groups *gs, struct group *g, uint64_t now)
{
    uint64_t due = UINT64_MAX;
    struct group_confirm **at = &g->confirms;
    while (*at && (*at)->store <= g->stored) {
        struct group_confirm *c = *at;
        int rc = 0;
        if (c->command)
            groups_reply_info (gs, g, &c->to, c->request, 0, 0);
        else
            rc = tell_outcomes (gs, c);
        if ((rc == -ENOMEM || rc == -EAGAIN) && ++c->tries < CONFIRM_TRIES) {
            due = now + (uint64_t) CONFIRM_RETRY_MS * NS_PER_MS;
            at = &c->next;
            continue;
        }
        *at = c->next;
        g->confirm_count--;
        free (c);
    }
    if (!*at)
        g->confirms_end = at;
    return due;
}

/* Joins that waited: what they made or changed is durable now. */
static void settle_joins (struct groups *gs, struct group *g, uint64_t now)
{
    struct mail *mail = g->joins;
    if (!mail || g->config_store > g->stored)
        return;
    g->joins = NULL;
    while (mail) {
        struct mail *next = mail->next;
        /* Once: another may have changed them since. */
        mail->control->group_join->change_filters = mail->control->group_join->hand_out_skipped = false;
        const int rc = groups_join (gs, mail, now);
        if (rc)
            groups_refuse (gs, &mail->from, mail->control->request, rc);
        mail_destroy (&mail);
        mail = next;
    }
}

static void refuse_joins (struct groups *gs, struct group *g, int rc)
{
    while (g->joins) {
        struct mail *mail = g->joins;
        g->joins = mail->next;
        groups_refuse (gs, &mail->from, mail->control->request, rc);
        mail_destroy (&mail);
    }
}

/* The log's buffer is full, or so is the disk: soon. Anything else a person must know, and whoever joins. */
static void not_stored (struct groups *gs, struct group *g, int rc, uint64_t now)
{
    const bool soon = rc == FM_ERR_FULL;
    g->store_due_ns = now + (uint64_t) (soon ? BUSY_MS : WAIT_MAX_MS) * NS_PER_MS;
    if (soon)
        return;
    if (!g->store_told)
        journal_notice (gs->context, "GROUP-NOT-STORED", "group=%s: %s (%s); its outcomes are not confirmed, tried again each %d ms", g->name, fm_error_text (rc),
                        fm_error_detail (), (int) WAIT_MAX_MS);
    g->store_told = true;
    refuse_joins (gs, g, rc);
}

/* Store what changed. Returns when to be called again. */
static uint64_t store (struct groups *gs, struct group *g, uint64_t now)
{
    g->dirty |= group_state_take_dirty (g->state);
    if (g->stored < g->stores && log_is_read_only (gs->context->log)) {
        /* What was put into the log will never be durable. */
        not_stored (gs, g, error_set (FM_ERR_READ_ONLY, "a write or sync failed before its state was durable"), now);
        return g->store_due_ns;
    }
    if (g->stored < g->stores || !g->dirty)
        return UINT64_MAX;              /* the synced end moves then; or there is nothing */
    const uint64_t due = g->urgent || !g->may_hand_out ? g->store_due_ns : g->store_due_ns + (uint64_t) GROUPS_IDLE_STORE_MS * NS_PER_MS;
    if (due > now)
        return due;
    const int rc = group_store (gs, g, now);
    if (!rc) {
        g->store_told = false;
        return UINT64_MAX;
    }
    not_stored (gs, g, rc, now);
    return g->store_due_ns;
}

static uint64_t earlier (uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Tell what is durable; store what changed. Returns when to be called again. */
static uint64_t settle (struct groups *gs, struct group *g, uint64_t now)
{
    const bool durable = g->stored < g->stores && log_ticket_synced (gs->context->log, g->ticket);
    if (durable) {
        g->stored = g->stores;
        g->may_hand_out = true;
    }
    const uint64_t tell_due = settle_confirms (gs, g, now);
    if (durable)
        settle_joins (gs, g, now);
    return earlier (tell_due, store (gs, g, now));
}

/* --- Groups and their instances. */

struct group *groups_find (struct groups *gs, struct fm_slice name)
{
    for (struct group *g = gs->list; g; g = g->next)
        if (slice_equal (slice_of (g->name), name))
            return g;
    return NULL;
}

static void group_destroy (struct group *g)
{
    while (g->joins) {
        struct mail *mail = g->joins;
        g->joins = mail->next;
        mail_destroy (&mail);           /* its asker times out, and asks again */
    }
    while (g->confirms) {
        struct group_confirm *c = g->confirms;
        g->confirms = c->next;
        free (c);
    }
    groups_walk_reset (&g->walk);
    groups_walk_reset (&g->skipped_walk);
    group_filters_release (&g->config.filters);
    group_filters_release (&g->skipped_filters);
    group_filters_release (&g->ever_filters);
    group_state_destroy (&g->state);
    free (g->instances);
    free (g);
}

void groups_forget (struct groups *gs, struct group *g)
{
    struct group **at = &gs->list;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    gs->count--;
    group_destroy (g);
}

int groups_confirm_erased (struct groups *gs, const struct mail *mail, uint64_t ticket)
{
    struct group_erased *e = malloc (sizeof *e);
    if (!e)
        return -ENOMEM;
    *e = (struct group_erased) { .next = gs->erased, .to = mail->from, .request = mail->control->request, .ticket = ticket };
    gs->erased = e;
    return 0;
}

static void settle_erased (struct groups *gs)
{
    for (struct group_erased **at = &gs->erased; *at;) {
        struct group_erased *e = *at;
        if (!log_ticket_synced (gs->context->log, e->ticket)) {
            at = &e->next;
            continue;
        }
        groups_tell_erased (gs, &e->to, e->request);
        *at = e->next;
        free (e);
    }
}

static bool same_route (const struct node_route *a, const struct node_route *b)
{
    return a->len == b->len && memcmp (a->bytes, b->bytes, a->len) == 0;
}

/* An instance, by its number, if it is this asker's. */
static struct group_instance *find_instance (struct groups *gs, uint64_t member, const struct node_route *from, struct group **ret_group)
{
    for (struct group *g = gs->list; g; g = g->next)
        for (size_t i = 0; i < g->instance_count; i++)
            if (g->instances[i].number == member && same_route (&g->instances[i].route, from)) {
                *ret_group = g;
                return &g->instances[i];
            }
    return NULL;
}

static void remove_instance (struct groups *gs, struct group *g, struct group_instance *instance, enum group_leave how)
{
    group_state_leave (g->state, instance->number, how, node_now (), gs->context->clock->unix_ns (gs->context->clock->context));
    *instance = g->instances[--g->instance_count];
    if (!g->instance_count) {
        groups_walk_reset (&g->walk);
        groups_walk_reset (&g->skipped_walk);
    }
}

static void node_went (struct groups *gs, const struct fm_id *node, bool said_goodbye)
{
    for (struct group *g = gs->list; g; g = g->next)
        for (size_t i = g->instance_count; i-- > 0;)
            if (id_equal (&g->instances[i].node, node))
                remove_instance (gs, g, &g->instances[i], said_goodbye ? GROUP_ENDED : GROUP_VANISHED);
}

/* Instances that came anew under another number, and were not missed: their connection broke, and their node lives on. */
static void forget_silent (struct groups *gs, struct group *g, uint64_t now)
{
    uint32_t at = 0;
    struct group_member m;
    while (group_state_member_next (g->state, &at, &m) == 0)
        for (size_t i = 0; m.in_hand == 0 && i < g->instance_count; i++)
            if (g->instances[i].number == m.member && now - g->instances[i].heard_ns >= (uint64_t) GROUPS_SILENT_MS * NS_PER_MS) {
                remove_instance (gs, g, &g->instances[i], GROUP_LEFT);
                at--;
                break;
            }
}

/* --- Outcomes. */

static int outcomes (struct groups *gs, const struct mail *mail, uint64_t now)
{
    const Factmesh__Outcomes *o = mail->control->outcomes;
    struct group *g;
    struct group_instance *instance = find_instance (gs, o->member, &mail->from, &g);
    if (!instance)
        return error_set (FM_ERR_CLOSED, "no such member of a group (any more): join again");
    instance->heard_ns = now;
    (void) group_state_alive (g->state, instance->number);      /* it is a member */
    uint64_t *refused = calloc (o->n_outcomes + 1, sizeof *refused);
    if (!refused)
        return -ENOMEM;
    size_t count = 0;
    const uint64_t unix_ns = gs->context->clock->unix_ns (gs->context->clock->context);
    for (size_t i = 0; i < o->n_outcomes; i++) {
        const struct group_report r = {
            .member = instance->number,
            .offset = o->outcomes[i]->offset,
            .token = o->outcomes[i]->token,
            .kind = (enum group_outcome) o->outcomes[i]->kind,
            .delay_ms = o->outcomes[i]->delay_ms,
            .reason = control_get_slice (&o->outcomes[i]->reason),
        };
        if (group_state_outcome (g->state, &r, now, unix_ns) != 0)
            refused[count++] = r.token;
    }
    int rc = 0;
    if (o->n_outcomes) {
        rc = groups_confirm (g, &mail->from, mail->control->request, o->member, false, refused, count);
    } else {
        const struct group_confirm alive = { .to = mail->from, .request = mail->control->request, .member = o->member };
        tell_outcomes (gs, &alive);
    }
    free (refused);
    return rc;
}

static int leave (struct groups *gs, const struct mail *mail)
{
    struct group *g;
    struct group_instance *instance = find_instance (gs, mail->control->group_leave->member, &mail->from, &g);
    if (instance)
        remove_instance (gs, g, instance, GROUP_LEFT);
    return 0;
}

/* --- The node's thread. */

static int take_control (void *arg, const struct node_route *from, const Factmesh__Control *control)
{
    struct groups *gs = arg;
    switch (control->body_case) {
    case FACTMESH__CONTROL__BODY_GROUP_JOIN:
    case FACTMESH__CONTROL__BODY_GROUP_LEAVE:
    case FACTMESH__CONTROL__BODY_OUTCOMES:
    case FACTMESH__CONTROL__BODY_GROUP_COMMAND:
    case FACTMESH__CONTROL__BODY_GROUP_LIST: {
        const int rc = mailbox_put (&gs->box, from, control);
        if (!rc)
            wake_raise (&gs->context->bells[BELL_GROUPS].wake);
        return rc;
    }
    default:
        return FM_ERR_UNKNOWN;
    }
}

static void node_up (void *arg, const struct node_peer *peer)
{
    (void) arg;
    (void) peer;
}

static void node_down (void *arg, const struct fm_id *node, bool said_goodbye)
{
    struct groups *gs = arg;
    mailbox_put_down (&gs->box, node, said_goodbye);
    wake_raise (&gs->context->bells[BELL_GROUPS].wake);
}

/* --- The groups' thread. */

static void take_mail (struct groups *gs, struct mail *mail, uint64_t now)
{
    int rc = 0;
    if (!mail->control) {
        node_went (gs, &mail->node_down, mail->said_goodbye);
        return;
    }
    switch (mail->control->body_case) {
    case FACTMESH__CONTROL__BODY_GROUP_JOIN:
        rc = groups_join (gs, mail, now);
        break;
    case FACTMESH__CONTROL__BODY_GROUP_LEAVE:
        rc = leave (gs, mail);
        break;
    case FACTMESH__CONTROL__BODY_OUTCOMES:
        rc = outcomes (gs, mail, now);
        break;
    case FACTMESH__CONTROL__BODY_GROUP_COMMAND:
        groups_command (gs, mail, now);
        break;
    default:                            /* GROUP_LIST: take_control lets nothing else through */
        groups_list (gs, mail);
        break;
    }
    if (rc)
        groups_refuse (gs, &mail->from, mail->control->request, rc);
}

/* One group's turn. Returns when it wants the next one. */
static uint64_t turn (struct groups *gs, struct group *g, uint64_t now)
{
    const uint64_t due = group_state_tick (g->state, now, gs->context->clock->unix_ns (gs->context->clock->context));
    uint64_t read_due = UINT64_MAX;
    forget_silent (gs, g, now);
    const bool more = g->instance_count && groups_read (gs, g, 0, now, &read_due);
    const bool full = groups_hand_out (gs, g, now);
    const uint64_t settle_due = settle (gs, g, now);
    if (more || full)
        return now;
    return earlier (earlier (due, read_due), settle_due);
}

static void *groups_run (void *arg)
{
    struct groups *gs = arg;
    struct journal_bell *bell = &gs->context->bells[BELL_GROUPS];
    (void) pthread_setname_np (pthread_self (), "fm-groups");   /* for people alone */
    const int rc = groups_load (gs);
    if (rc)
        journal_notice (gs->context, "GROUPS-NOT-LOADED", "%s (%s); their members are refused until a restart", fm_error_text (rc), fm_error_detail ());
    uint64_t due = 0;
    while (!atomic_load (&gs->stop)) {
        uint64_t now = node_now ();
        const uint64_t left_ms = due > now ? (due - now + NS_PER_MS - 1) / NS_PER_MS : 0;
        struct pollfd wait = { .fd = bell->wake.fd, .events = POLLIN };
        (void) poll (&wait, 1, left_ms < WAIT_MAX_MS ? (int) left_ms : WAIT_MAX_MS);    /* whatever it returns, all is looked at */
        wake_clear (&bell->wake);
        atomic_store (&bell->wanted, gs->list || gs->erased);
        now = node_now ();
        struct mail *mail;
        for (unsigned n = 0; n < MAILBOX_MAX && (mail = mailbox_take (&gs->box)) != NULL; n++) {
            take_mail (gs, mail, now);
            mail_destroy (&mail);
        }
        settle_erased (gs);
        due = UINT64_MAX;
        for (struct group *g = gs->list; g; g = g->next) {
            const uint64_t next = turn (gs, g, now);
            due = next < due ? next : due;
        }
    }
    return NULL;
}

int groups_new (struct journal_context *context, struct groups **ret_groups)
{
    struct groups *gs = calloc (1, sizeof *gs);
    if (!gs)
        return -ENOMEM;
    gs->context = context;
    gs->key_seed = id_random_u64 ();
    mailbox_init (&gs->box);
    atomic_init (&gs->stop, false);
    int rc = fact_finder_new (context->log, GROUPS_CACHE_BYTES, &gs->finder);
    if (!rc) {
        rc = journal_thread (&gs->thread, groups_run, gs);
        gs->runs = rc == 0;
    }
    if (!rc) {
        rc = node_handle (context->node, take_control, gs);
        gs->handles = rc == 0;
    }
    if (!rc) {
        const struct node_listener listener = { .arg = gs, .up = node_up, .down = node_down };
        rc = node_listen (context->node, &listener);
        gs->listens = rc == 0;
    }
    if (rc) {
        groups_destroy (&gs);
        return rc;
    }
    *ret_groups = gs;
    return 0;
}

void groups_destroy (struct groups **groups)
{
    struct groups *gs = *groups;
    if (!gs)
        return;
    *groups = NULL;
    if (gs->listens)
        node_unlisten (gs->context->node, gs);
    if (gs->handles)
        node_unhandle (gs->context->node, gs);
    if (gs->runs) {
        atomic_store (&gs->stop, true);
        wake_raise (&gs->context->bells[BELL_GROUPS].wake);
        pthread_join (gs->thread, NULL);
    }
    while (gs->list)
        groups_forget (gs, gs->list);
    while (gs->erased) {
        struct group_erased *e = gs->erased;
        gs->erased = e->next;
        free (e);
    }
    fact_finder_destroy (&gs->finder);
    batch_scratch_release (&gs->scratch);
    mailbox_release (&gs->box);
    free (gs->matches);
    free (gs->buffer);
    free (gs);
}
