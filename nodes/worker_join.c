/* worker_join: which journal, joining its group, and coming back when the connection or the journal went.
 *
 *     AWAY --connect, GroupJoin--> JOINING --GroupJoined--> JOINED
 *      ^------- refused, silent, UNKNOWN_MEMBER --------------'
 *
 * Whoever comes back says what it still holds, by its own clock; what the journal does not leave it is dropped. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "error.h"
#include "worker_inner.h"

enum { NS_PER_MS = 1000000, LEASE_MS = 30000, LEASE_MAX_MS = 86400000 };

int worker_error_of (Factmesh__ErrorCode code)
{
    switch (code) {
    case FACTMESH__ERROR_CODE__ERROR_RANGE:
        return FM_ERR_ARGUMENT;
    case FACTMESH__ERROR_CODE__ERROR_MALFORMED:
        return FM_ERR_TOPIC;
    case FACTMESH__ERROR_CODE__ERROR_LIMIT:
        return FM_ERR_LIMIT;
    case FACTMESH__ERROR_CODE__ERROR_READ_ONLY:
        return FM_ERR_READ_ONLY;
    case FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL:
        return FM_ERR_NO_JOURNAL;
    case FACTMESH__ERROR_CODE__ERROR_UNKNOWN_GROUP:
        return FM_ERR_UNKNOWN;
    case FACTMESH__ERROR_CODE__ERROR_MESH:
        return FM_ERR_MESH;
    case FACTMESH__ERROR_CODE__ERROR_VERSION:
        return FM_ERR_VERSION;
    default:
        return -EIO;
    }
}

/* --- Which journal. */

struct search {
    const struct fm_id *wanted;         /* NULL: any */
    size_t count;
    struct fm_id journal;
    uint64_t started_ns;
    char address[FM_PEER_ADDRESS_MAX];
};

static int look_at (void *arg, const struct fm_member *m)
{
    struct search *s = arg;
    if (!m->is_journal || (s->wanted && !id_equal (s->wanted, &m->journal)))
        return 0;
    /* One that was killed is a member for a while beside its successor. */
    const bool again = s->count && id_equal (&s->journal, &m->journal);
    if (again && m->started_ns <= s->started_ns)
        return 0;
    s->count += !again;
    s->journal = m->journal;
    s->started_ns = m->started_ns;
    if (strlen (m->control) < sizeof s->address)
        memcpy (s->address, m->control, strlen (m->control) + 1);
    return 0;
}

/* The first time: the only one there is. */
static int choose (struct fm_worker *w, uint64_t now_ns, char ret_address[FM_PEER_ADDRESS_MAX])
{
    struct search s = { .wanted = w->has_journal ? &w->journal : NULL };
    const int rc = fm_node_members (w->node, look_at, &s);
    if (rc)
        return rc;
    if (!s.count)
        return error_set (FM_ERR_NO_JOURNAL, "group '%s' needs %s", w->group, w->has_journal ? "its journal, which is away" : "a journal");
    if (s.count > 1 && !w->has_journal)
        return error_set (FM_ERR_ARGUMENT, "there are %zu journals: name the one that keeps group '%s'", s.count, w->group);
    if (!w->has_journal && !(w->only_since_ns && id_equal (&w->journal, &s.journal)))
        w->only_since_ns = now_ns;
    w->journal = s.journal;
    if (!w->has_journal && now_ns - w->only_since_ns < (uint64_t) WORKER_SETTLE_MS * NS_PER_MS)
        return error_set (FM_ERR_NO_JOURNAL, "group '%s': waiting whether there are other journals", w->group);
    w->has_journal = true;
    memcpy (ret_address, s.address, FM_PEER_ADDRESS_MAX);
    return 0;
}

/* --- Joining. */

struct holding {
    Factmesh__GroupHolding *items, **pointers;
    size_t count;
};

static void hold (struct holding *h, uint64_t offset, uint64_t token)
{
    Factmesh__GroupHolding *item = &h->items[h->count];
    factmesh__group_holding__init (item);
    item->offset = offset;
    item->token = token;
    h->pointers[h->count++] = item;
}

static struct work_item *queued (struct fm_worker *w, size_t i)
{
    return &w->queue[(w->queue_first + i) % w->in_hand];
}

/* Everything that may still be ours: concluded and not confirmed (a lease that ran out since matters only if others have it now); or in hand, and not lost by
 * our clock. */
static int collect (struct fm_worker *w, uint64_t now_ns, struct holding *ret_holding)
{
    const size_t max = w->queue_count + w->outcome_count + 2;
    struct holding h = { .items = calloc (max, sizeof *h.items), .pointers = calloc (max, sizeof (*h.pointers)) };
    if (!h.items || !h.pointers) {
        free (h.items);
        free (h.pointers);
        return -ENOMEM;
    }
    const bool leased = now_ns < w->lease_end_ns;
    for (size_t i = 0; i < w->outcome_count; i++)
        if (h.count < GROUP_CREDIT_MAX)
            hold (&h, w->outcomes[i].offset, w->outcomes[i].token);
    if (w->has_current && !w->current_lost && leased && h.count < GROUP_CREDIT_MAX)
        hold (&h, w->current.offset, w->current.token);
    for (size_t i = 0; i < w->queue_count; i++)
        if (leased && h.count < GROUP_CREDIT_MAX)
            hold (&h, queued (w, i)->offset, queued (w, i)->token);
    *ret_holding = h;
    return 0;
}

static int send_join (struct fm_worker *w, uint64_t now_ns)
{
    struct holding holding;
    int rc = collect (w, now_ns, &holding);
    if (rc)
        return rc;
    Factmesh__GroupConfig config = FACTMESH__GROUP_CONFIG__INIT;
    config.n_filters = w->pattern_count;
    config.filters = w->patterns;
    config.effect = (Factmesh__Effect) w->effect;
    config.lease_ms = w->lease_ms;
    config.attempts_max = w->attempts_max;
    Factmesh__GroupJoin join = FACTMESH__GROUP_JOIN__INIT;
    join.group = control_put_slice (slice_of (w->group));
    join.instance = control_put_slice (slice_of (w->instance));
    join.node = control_put_id (node_id (w->node));
    join.config = &config;
    join.credit = w->in_hand;
    if (w->from_now) {
        join.start_case = FACTMESH__GROUP_JOIN__START_FROM_END;
        join.from_end = true;
    } else if (w->from_time_ns) {
        join.start_case = FACTMESH__GROUP_JOIN__START_FROM_TIME_NS;
        join.from_time_ns = w->from_time_ns;
    }
    join.change_filters = w->change_topics;
    join.hand_out_skipped = w->hand_out_skipped;
    join.n_holding = holding.count;
    join.holding = holding.pointers;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_GROUP_JOIN;
    control.group_join = &join;
    rc = replay_client_request (w->client, &control, &w->join_request);
    w->join_ns = now_ns;
    free (holding.items);
    free (holding.pointers);
    return rc;
}

void worker_disconnect (struct fm_worker *w, uint64_t now_ns)
{
    if (w->client)
        (void) epoll_ctl (w->epoll_fd, EPOLL_CTL_DEL, replay_client_fd (w->client), NULL);  /* it may not be there yet */
    replay_client_destroy (&w->client);
    w->state = WORKER_AWAY;
    w->retry_ns = now_ns + (uint64_t) WORKER_RETRY_MS * NS_PER_MS;
    w->member = 0;
}

void worker_put_off (struct fm_worker *w, int code, const char *text)
{
    w->away = code;
    (void) snprintf (w->away_text, sizeof w->away_text, "%s", text && *text ? text : fm_error_text (code));
}

static int start (struct fm_worker *w, uint64_t now_ns)
{
    char address[FM_PEER_ADDRESS_MAX];
    (void) error_set (0, "%s", "");     /* what is told below shall be of this attempt */
    int rc = choose (w, now_ns, address);
    if (!rc)
        rc = replay_client_new (w->node, address, &w->client);
    if (!rc)
        rc = worker_watch (w);
    if (!rc)
        rc = send_join (w, now_ns);
    if (rc) {
        worker_put_off (w, rc, fm_error_detail ());
        w->answered = false;
        return rc;
    }
    if (!w->answered)
        w->away = 0;
    w->state = WORKER_JOINING;
    w->heard_ns = now_ns;
    return 0;
}

void worker_join_step (struct fm_worker *w, uint64_t now_ns)
{
    if (w->state != WORKER_AWAY && now_ns - w->heard_ns >= (uint64_t) WORKER_SILENT_MS * NS_PER_MS)
        worker_disconnect (w, now_ns);
    if (w->state == WORKER_AWAY && now_ns >= w->retry_ns && start (w, now_ns) != 0)
        worker_disconnect (w, now_ns);
}

static bool kept (const Factmesh__GroupJoined *joined, uint64_t offset, uint64_t token)
{
    for (size_t i = 0; i < joined->n_holding; i++)
        if (joined->holding[i]->offset == offset && joined->holding[i]->token == token)
            return true;
    return false;
}

static bool is_others (const Factmesh__GroupJoined *joined, uint64_t token)
{
    for (size_t i = 0; i < joined->n_refused; i++)
        if (joined->refused[i] == token)
            return true;
    return false;
}

/* What the journal did not leave us is others' now; outcomes that it neither leaves us nor gave to others were recorded. */
static void drop_lost (struct fm_worker *w, const Factmesh__GroupJoined *joined)
{
    size_t count = 0;
    for (size_t i = 0; i < w->outcome_count; i++)
        if (kept (joined, w->outcomes[i].offset, w->outcomes[i].token)) {
            w->outcomes[count] = w->outcomes[i];
            w->outcomes[count++].request = 0;
        } else if (is_others (joined, w->outcomes[i].token)) {
            worker_outcome_late (w, &w->outcomes[i]);
        }
    w->outcome_count = w->untold = count;
    if (w->has_current && !kept (joined, w->current.offset, w->current.token))
        w->current_lost = true;
    for (size_t i = w->queue_count; i > 0; i--) {
        struct work_item item = *queued (w, 0);
        w->queue_first = (w->queue_first + 1) % w->in_hand;
        w->queue_count--;
        if (kept (joined, item.offset, item.token))
            *queued (w, w->queue_count++) = item;
        else
            worker_item_release (&item);
    }
}

void worker_on_joined (struct fm_worker *w, const Factmesh__GroupJoined *joined, uint64_t now_ns)
{
    w->state = WORKER_JOINED;
    w->member = joined->member;
    w->refused = 0;                     /* an earlier attempt was */
    w->last_token = 0;                  /* an older copy of the journal's directory counts from further below */
    w->heard_ns = w->asked_ns = now_ns;
    const uint32_t lease_ms = joined->config && joined->config->lease_ms ? joined->config->lease_ms : LEASE_MS;
    w->lease_ns = (uint64_t) (lease_ms < LEASE_MAX_MS ? lease_ms : LEASE_MAX_MS) * NS_PER_MS;
    /* Once: when it comes back its group has them. */
    w->change_topics = w->hand_out_skipped = false;
    drop_lost (w, joined);
    if (joined->n_holding)
        worker_renew (w, w->join_ns);
}
