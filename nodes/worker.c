/* The public calls of shared work: taking what the journal handed out, telling what became of it.
 *
 * Everything happens in the caller's thread. A journal that goes is joined again (worker_join.c); what is in hand is worked on meanwhile, as long as
 * its lease lasts by our own clock. */

#include "worker_inner.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "error.h"

enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000, EXTEND_SHARE = 4 };

void worker_item_release (struct work_item *item)
{
    free (item->bytes);
    item->bytes = NULL;
}

/* --- Descriptors. */

static int watch_fd (struct fm_worker *w, int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
    return epoll_ctl (w->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int worker_watch (struct fm_worker *w)
{
    return watch_fd (w, replay_client_fd (w->client));
}

/* For a caller who waits on our descriptor: what is in hand has none of its own. */
static void set_awake (struct fm_worker *w, bool awake)
{
    uint64_t count = 1;
    if (!w->polled || awake == w->woken)
        return;
    w->woken = awake;
    if (awake)
        (void) !write (w->wake_fd, &count, sizeof count);   /* fails only when it is readable anyway */
    else
        (void) !read (w->wake_fd, &count, sizeof count);
}

static void set_timer (const struct fm_worker *w, uint64_t due_ns)
{
    const struct itimerspec when = { .it_value = { .tv_sec = (time_t) (due_ns / NS_PER_S), .tv_nsec = (long) (due_ns % NS_PER_S) } };
    if (w->polled)
        (void) timerfd_settime (w->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* --- What the journal says. */

static void take_id (const Factmesh__FactId *from, struct fm_fact_id *ret_id)
{
    if (from && control_get_id (&from->stream, &ret_id->stream) == 0)
        ret_id->seq = from->seq;
}

void worker_renew (struct fm_worker *w, uint64_t begin_ns)
{
    const uint64_t end_ns = begin_ns + w->lease_ns - w->lease_ns / WORKER_LEASE_SHARE;
    if (end_ns <= w->lease_end_ns)
        return;
    w->lease_begin_ns = begin_ns;
    w->lease_end_ns = end_ns;
}

static bool holds_nothing (const struct fm_worker *w)
{
    return !w->queue_count && !w->has_current && !w->untold;
}

/* One that does not fit, or can't be kept, is left to its lease. Tokens grow: what comes with an older one was said twice. It may have lain there since we
 * last looked: the journal's lease began then, at the earliest. */
static void take_item (struct fm_worker *w, const Factmesh__WorkItem *m)
{
    if (w->queue_count == w->in_hand || m->token <= w->last_token)
        return;
    uint8_t *bytes = malloc (m->batch.len + 1);
    if (!bytes)
        return;
    if (m->batch.len)
        memcpy (bytes, m->batch.data, m->batch.len);
    struct work_item item = {
        .offset = m->offset, .token = m->token, .deliveries = m->deliveries, .attempts = m->attempts, .flags = m->flags, .len = m->batch.len, .bytes = bytes,
    };
    if (holds_nothing (w))
        worker_renew (w, w->looked_ns);
    take_id (m->root, &item.root);
    take_id (m->parked, &item.parked);
    w->queue[(w->queue_first + w->queue_count++) % w->in_hand] = item;
    w->last_token = m->token;
}

void worker_outcome_late (struct fm_worker *w, const struct work_outcome *o)
{
    if (o->kind == FACTMESH__OUTCOME_KIND__OUTCOME_RELEASE || o->kind == FACTMESH__OUTCOME_KIND__OUTCOME_EXTEND)
        return;
    w->late++;
    node_notice (w->node, "WORK-TOO-LATE", "group=%s offset=%llu: its lease had run out; another instance may have it", w->group, (unsigned long long) o->offset);
}

static bool is_refused (const Factmesh__OutcomesConfirm *m, uint64_t token)
{
    for (size_t i = 0; i < m->n_refused; i++)
        if (m->refused[i] == token)
            return true;
    return false;
}

static void take_confirm (struct fm_worker *w, uint64_t request, const Factmesh__OutcomesConfirm *m)
{
    size_t count = 0;
    for (size_t i = 0; i < w->outcome_count; i++) {
        const struct work_outcome *o = &w->outcomes[i];
        if (o->request != request || !o->request) {
            w->outcomes[count++] = *o;
            continue;
        }
        if (!is_refused (m, o->token))
            continue;
        worker_outcome_late (w, o);
        if (w->has_current && w->current.token == o->token)
            w->current_lost = true;
    }
    w->outcome_count = count;
}

/* The same question may be answered otherwise a moment later. */
static bool will_pass (Factmesh__ErrorCode code)
{
    return code == FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL || code == FACTMESH__ERROR_CODE__ERROR_INTERNAL || code == FACTMESH__ERROR_CODE__ERROR_TIMEOUT
           || code == FACTMESH__ERROR_CODE__ERROR_UNKNOWN_MEMBER;
}

static void take_error (struct fm_worker *w, const struct replay_event *e, uint64_t now_ns)
{
    if (w->state == WORKER_JOINING && e->request == w->join_request) {
        if (will_pass (e->code)) {
            worker_put_off (w, worker_error_of (e->code), e->text);
            w->answered = true;
        } else {
            w->refused = worker_error_of (e->code);
            (void) snprintf (w->refused_text, sizeof w->refused_text, "%s", e->text);
        }
    }
    worker_disconnect (w, now_ns);
}

static void receive (struct fm_worker *w, uint64_t now_ns)
{
    struct replay_event e;
    while (w->client && replay_client_receive (w->client, &e) == 0) {
        w->heard_ns = now_ns;
        if (e.kind == REPLAY_ERROR) {
            take_error (w, &e, now_ns);
            return;
        }
        assert (e.kind == REPLAY_OTHER);        /* no session was opened here */
        const Factmesh__Control *c = e.control;
        if (c->body_case == FACTMESH__CONTROL__BODY_GROUP_JOINED && w->state == WORKER_JOINING && e.request == w->join_request)
            worker_on_joined (w, c->group_joined, now_ns);
        else if (c->body_case == FACTMESH__CONTROL__BODY_OUTCOMES_CONFIRM && w->state == WORKER_JOINED && c->outcomes_confirm->member == w->member)
            take_confirm (w, e.request, c->outcomes_confirm);
        else if (c->body_case == FACTMESH__CONTROL__BODY_WORK && w->state == WORKER_JOINED && c->work->member == w->member)
            for (size_t i = 0; i < c->work->n_items; i++)
                take_item (w, c->work->items[i]);
    }
    w->looked_ns = now_ns;
}

/* --- Outcomes. */

/* Tell what was not told yet; with nothing to tell it asks whether the journal still knows us. */
static void tell_outcomes (struct fm_worker *w, uint64_t now_ns)
{
    const size_t first = w->outcome_count - w->untold;
    Factmesh__Outcome *items = calloc (w->untold + 1, sizeof *items), **pointers = calloc (w->untold + 1, sizeof (*pointers));
    if (items && pointers) {
        for (size_t i = 0; i < w->untold; i++) {
            const struct work_outcome *o = &w->outcomes[first + i];
            factmesh__outcome__init (&items[i]);
            items[i].offset = o->offset;
            items[i].token = o->token;
            items[i].kind = o->kind;
            items[i].delay_ms = o->delay_ms;
            items[i].reason = control_put_slice (slice_of (o->reason));
            pointers[i] = &items[i];
        }
        Factmesh__Outcomes message = FACTMESH__OUTCOMES__INIT;
        message.member = w->member;
        message.n_outcomes = w->untold;
        message.outcomes = pointers;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_OUTCOMES;
        control.outcomes = &message;
        uint64_t request;
        if (replay_client_request (w->client, &control, &request) == 0) {
            for (size_t i = 0; i < w->untold; i++)
                w->outcomes[first + i].request = request;
            /* What we have lost by our own clock stays lost: others may be at it, whatever the journal makes of this. */
            if (w->untold && (now_ns < w->lease_end_ns || (!w->queue_count && !w->has_current)))
                worker_renew (w, now_ns);
            w->untold = 0;
            w->asked_ns = now_ns;
        }
    }
    free (items);
    free (pointers);
}

/* Everything that needs no caller: returns when to be called again. */
static uint64_t step (struct fm_worker *w, bool tell_now)
{
    const uint64_t now_ns = node_now ();
    receive (w, now_ns);
    worker_join_step (w, now_ns);
    const uint64_t silent_ns = now_ns - w->asked_ns;
    const bool tell = w->untold && (tell_now || w->untold >= WORKER_TELL_MAX || silent_ns >= (uint64_t) WORKER_TELL_MS * NS_PER_MS);
    if (w->state == WORKER_JOINED && (tell || silent_ns >= (uint64_t) WORKER_ALIVE_MS * NS_PER_MS))
        tell_outcomes (w, now_ns);
    /* Sending may have taken the socket's word that there is something to read. */
    receive (w, now_ns);
    if (w->state == WORKER_AWAY)
        return w->retry_ns;
    /* What comes to empty hands has its lease from the last look on: of a short one, too, most is left. */
    const uint64_t retry_ns = (uint64_t) WORKER_RETRY_MS * NS_PER_MS, share_ns = w->lease_ns / WORKER_LEASE_SHARE;
    return now_ns + (w->state == WORKER_JOINED && share_ns < retry_ns ? share_ns : retry_ns);
}

/* Wait for the journal, at most until then. What is in hand must not end the wait: our descriptor is awake again behind it. */
static int wait_until (struct fm_worker *w, uint64_t until_ns)
{
    struct epoll_event events[4];
    const bool woken = w->woken;
    const uint64_t now_ns = node_now ();
    const uint64_t left_ms = until_ns > now_ns ? (until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
    set_awake (w, false);
    const int count = epoll_wait (w->epoll_fd, events, 4, left_ms < INT32_MAX ? (int) left_ms : INT32_MAX);
    const int why = errno;
    set_awake (w, woken);
    errno = why;
    if (count < 0)
        return errno == EINTR ? error_set (FM_INTERRUPTED, "while waiting for group '%s'", w->group) : -errno;
    for (int i = 0; i < count; i++)
        if (events[i].data.fd == w->timer_fd) {
            uint64_t rung;
            (void) !read (w->timer_fd, &rung, sizeof rung);
        }
    return 0;
}

static int add_outcome (struct fm_worker *w, Factmesh__OutcomeKind kind, int delay_ms, const char *reason)
{
    if (w->outcome_count == WORKER_OUTCOMES_MAX)
        return error_set (FM_ERR_LIMIT, "%d outcomes wait for the journal: call fm_worker_commit", (int) WORKER_OUTCOMES_MAX);
    struct work_outcome *o = &w->outcomes[w->outcome_count++];
    *o = (struct work_outcome) {
        .offset = w->current.offset, .token = w->current.token, .kind = kind,
        .delay_ms = delay_ms > 0 ? (uint32_t) delay_ms : 0,
    };
    (void) snprintf (o->reason, sizeof o->reason, "%s", reason ? reason : "");
    w->untold++;
    return 0;
}

static int check_current (struct fm_worker *w)
{
    if (!w->has_current)
        return error_set (FM_ERR_ARGUMENT, "there is no fact in hand: take one with fm_worker_next");
    if (w->current_lost || node_now () >= w->lease_end_ns)
        return error_set (FM_ERR_LEASE, "group '%s' offset %llu: it took longer than its lease; use fm_work_extend, or longer leases", w->group,
                          (unsigned long long) w->current.offset);
    return 0;
}

static void drop_current (struct fm_worker *w)
{
    worker_item_release (&w->current);
    w->has_current = w->current_lost = w->current_begun = false;
}

/* What waits in our hands goes back, so that it does not count as handed out. Without room for that: it is left to its lease. */
static void release_queue (struct fm_worker *w)
{
    while (w->queue_count) {
        struct work_item item = w->queue[w->queue_first], current = w->current;
        w->queue_first = (w->queue_first + 1) % w->in_hand;
        w->queue_count--;
        w->current = item;
        (void) add_outcome (w, FACTMESH__OUTCOME_KIND__OUTCOME_RELEASE, 0, NULL);
        w->current = current;
        worker_item_release (&item);
    }
}

/* Our lease has run out, the journal's perhaps not: others may have what we hold, or we would hold it for ever. It is told at once, so that our next outcome
 * does not renew the lease of what we have dropped. */
static void give_up (struct fm_worker *w)
{
    if (w->has_current && !w->current_lost) {
        /* What was begun is in doubt. */
        if (w->current_begun)
            (void) add_outcome (w, FACTMESH__OUTCOME_KIND__OUTCOME_RELEASE, 0, NULL);
        else
            (void) add_outcome (w, FACTMESH__OUTCOME_KIND__OUTCOME_FAILED, 0, "it took longer than its lease");
    }
    if (w->has_current)
        drop_current (w);
    release_queue (w);
    (void) step (w, true);
}

/* Room for another outcome, as long as the lease of the fact in hand lasts. FM_ERR_LEASE, FM_TIMEOUT. */
static int wait_room (struct fm_worker *w, uint64_t until_ns)
{
    for (;;) {
        const int rc = check_current (w);
        if (rc || w->outcome_count < WORKER_OUTCOMES_MAX)
            return rc;
        if (node_now () >= until_ns)
            return error_set (FM_TIMEOUT, "group '%s': %d outcomes wait for the journal to confirm them", w->group, (int) WORKER_OUTCOMES_MAX);
        const uint64_t due_ns = step (w, true), last_ns = until_ns < w->lease_end_ns ? until_ns : w->lease_end_ns;
        (void) wait_until (w, due_ns < last_ns ? due_ns : last_ns);     /* a signal is no reason to lose an outcome */
    }
}

static int conclude (struct fm_worker *w, Factmesh__OutcomeKind kind, int delay_ms, const char *reason)
{
    if (!w->has_current)
        return check_current (w);
    int rc = wait_room (w, UINT64_MAX);
    if (rc && node_now () >= w->lease_end_ns) {
        give_up (w);
        return rc;
    }
    if (!rc)
        rc = add_outcome (w, kind, delay_ms, reason);
    drop_current (w);
    return rc;
}

int fm_work_done (struct fm_worker *w)
{
    return conclude (w, FACTMESH__OUTCOME_KIND__OUTCOME_DONE, 0, NULL);
}

int fm_work_later (struct fm_worker *w, int delay_ms)
{
    return conclude (w, FACTMESH__OUTCOME_KIND__OUTCOME_LATER, delay_ms, NULL);
}

int fm_work_failed (struct fm_worker *w, const char *reason)
{
    return conclude (w, FACTMESH__OUTCOME_KIND__OUTCOME_FAILED, 0, reason);
}

int fm_work_park (struct fm_worker *w, const char *reason)
{
    return conclude (w, FACTMESH__OUTCOME_KIND__OUTCOME_PARK, 0, reason);
}

int fm_work_extend (struct fm_worker *w)
{
    const uint64_t due_ns = w->lease_begin_ns + w->lease_ns / EXTEND_SHARE;
    const bool due = node_now () >= due_ns;
    int rc = check_current (w);
    if (!rc && due && !w->untold)
        rc = add_outcome (w, FACTMESH__OUTCOME_KIND__OUTCOME_EXTEND, 0, NULL);
    if (!rc) {
        (void) step (w, due);
        rc = check_current (w);
    }
    return rc;
}

int fm_work_left_ms (const struct fm_worker *w)
{
    const uint64_t now_ns = node_now ();
    if (!w->has_current || w->current_lost || now_ns >= w->lease_end_ns)
        return 0;
    return (int) ((w->lease_end_ns - now_ns) / NS_PER_MS);     /* a lease is a day at most */
}

/* --- Waiting for the journal's word. */

static bool is_confirmed (const struct fm_worker *w, uint64_t token, bool all)
{
    for (size_t i = 0; i < w->outcome_count; i++)
        if (all || w->outcomes[i].token == token)
            return false;
    return true;
}

static uint64_t deadline (int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : node_now () + (uint64_t) timeout_ms * NS_PER_MS;
}

/* Until all outcomes are confirmed, or those of a token, as long as its lease lasts. */
static int wait_confirmed (struct fm_worker *w, uint64_t token, bool all, uint64_t until_ns)
{
    const uint64_t start_ns = node_now ();
    for (;;) {
        const uint64_t due_ns = step (w, true);
        int rc = all ? 0 : check_current (w);
        if (rc || is_confirmed (w, token, all))
            return rc;
        const uint64_t now_ns = node_now (), last_ns = all || until_ns < w->lease_end_ns ? until_ns : w->lease_end_ns;
        if (now_ns >= until_ns)
            return error_set (FM_TIMEOUT, "group '%s': the journal has not confirmed within %llu ms", w->group, (unsigned long long) (now_ns - start_ns) / NS_PER_MS);
        rc = wait_until (w, due_ns < last_ns ? due_ns : last_ns);
        if (rc)
            return rc;
    }
}

int fm_work_begin (struct fm_worker *w, int timeout_ms)
{
    const uint64_t until_ns = deadline (timeout_ms);
    int rc = wait_room (w, until_ns);
    if (!rc)
        rc = add_outcome (w, FACTMESH__OUTCOME_KIND__OUTCOME_BEGIN, 0, NULL);
    if (!rc)
        rc = wait_confirmed (w, w->current.token, false, until_ns);
    if (!rc)
        w->current_begun = true;        /* not before: who is told not to begin has not */
    return rc;
}

int fm_worker_commit (struct fm_worker *w, int timeout_ms)
{
    const int rc = wait_confirmed (w, 0, true, deadline (timeout_ms));
    if (rc || !w->late)
        return rc;
    const uint64_t late = w->late;
    w->late = 0;
    return error_set (FM_ERR_LEASE, "group '%s': %llu outcomes came after their leases had run out", w->group, (unsigned long long) late);
}

/* --- Taking. */

/* One that was handed out before may have brought its instance down. So that a crash here counts against it, and not against one that is done, what is done
 * is confirmed first. */
static bool must_wait (struct fm_worker *w, uint64_t now_ns)
{
    if (w->queue[w->queue_first].deliveries < 2 || !w->outcome_count) {
        w->held_back_ns = 0;
        return false;
    }
    if (!w->held_back_ns)
        w->held_back_ns = now_ns;
    return now_ns - w->held_back_ns < (uint64_t) WORKER_REDELIVERY_MS * NS_PER_MS;
}

/* The next one becomes the current one, if its lease lasts. */
static bool take_next (struct fm_worker *w, uint64_t now_ns)
{
    if (!w->queue_count)
        return false;
    if (now_ns >= w->lease_end_ns) {
        give_up (w);
        return false;
    }
    if (must_wait (w, now_ns))
        return false;
    w->current = w->queue[w->queue_first];
    w->queue_first = (w->queue_first + 1) % w->in_hand;
    w->queue_count--;
    w->held_back_ns = 0;
    w->has_current = true;
    w->current_lost = w->current_begun = false;
    return true;
}

static int decode_current (struct fm_worker *w, struct fm_work *ret_work)
{
    struct batch_reader reader;
    struct fm_fact fact;
    int rc = batch_decode (w->current.bytes, w->current.len, node_mesh (w->node), &w->scratch, &w->batch);
    if (!rc) {
        batch_reader_init (&reader, &w->batch);
        rc = batch_reader_next (&reader, &fact);
    }
    if (rc)
        return rc;
    *ret_work = (struct fm_work) {
        .fact = fact, .flags = w->current.flags, .deliveries = w->current.deliveries, .attempts = w->current.attempts, .token = w->current.token,
        .offset = w->current.offset, .root = id_is_zero (&w->current.root.stream) ? fact.id : w->current.root, .parked = w->current.parked,
    };
    return 0;
}

int fm_worker_next (struct fm_worker *w, int timeout_ms, struct fm_work *ret_work)
{
    if (w->has_current)
        return error_set (FM_ERR_ARGUMENT, "say first what became of the fact in hand (fm_work_done, …)");
    const uint64_t until_ns = deadline (timeout_ms);
    for (;;) {
        /* What is done makes room for others, and lets its key go on: told when there is nothing else to do. */
        const uint64_t due_ns = step (w, w->queue_count == 0 || w->held_back_ns);
        const uint64_t now_ns = node_now ();
        if (w->refused) {
            const int refused = w->refused;
            w->refused = 0;
            return error_set (refused, "%s", w->refused_text);
        }
        if (take_next (w, now_ns)) {
            set_awake (w, true);
            if (decode_current (w, ret_work) == 0)
                return 0;
            (void) conclude (w, FACTMESH__OUTCOME_KIND__OUTCOME_PARK, 0, "does not decode");
            continue;
        }
        if (now_ns >= until_ns) {
            set_awake (w, false);
            set_timer (w, due_ns);
            return FM_TIMEOUT;
        }
        set_awake (w, false);
        const int rc = wait_until (w, due_ns < until_ns ? due_ns : until_ns);
        if (rc)
            return rc;
    }
}

int fm_worker_fd (struct fm_worker *w)
{
    if (!w->polled) {
        w->polled = true;
        set_awake (w, true);                /* until a call has found everything empty */
    }
    return w->epoll_fd;
}

/* --- Opening and closing. */

static int copy_patterns (struct fm_worker *w, const char *const *topics)
{
    size_t bytes = 0, count = 0;
    for (; topics && topics[count]; count++) {
        const int rc = topic_pattern_check (slice_of (topics[count]));
        if (rc)
            return rc;
        bytes += strlen (topics[count]);
    }
    if (count > FILTERS_MAX)
        return error_set (FM_ERR_LIMIT, "%zu topic patterns; at most %d", count, (int) FILTERS_MAX);
    w->pattern_bytes = malloc (bytes + 1);
    if (!w->pattern_bytes)
        return -ENOMEM;
    char *p = w->pattern_bytes;
    for (size_t i = 0; i < count; i++) {
        const size_t len = strlen (topics[i]);
        memcpy (p, topics[i], len);
        w->patterns[i] = control_put_slice (slice (p, len));
        p += len;
    }
    w->pattern_count = count;
    return 0;
}

static int take_options (struct fm_worker *w, const struct fm_worker_options *o)
{
    if (!o->group || !*o->group || strlen (o->group) > GROUP_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "a group's name has 1 to %d bytes", (int) GROUP_NAME_MAX);
    if (o->in_hand > GROUP_CREDIT_MAX || o->lease_ms < 0)
        return error_set (FM_ERR_ARGUMENT, "in_hand is at most %d, lease_ms not negative", (int) GROUP_CREDIT_MAX);
    if (o->journal && (id_parse (o->journal, strlen (o->journal), &w->journal) != 0))
        return error_set (FM_ERR_ARGUMENT, "'%s' is no journal's id (32 hex digits)", o->journal);
    w->has_journal = o->journal != NULL;
    w->effect = o->effect;
    w->from_now = o->from_now;
    w->from_time_ns = o->from_time_ns;
    w->change_topics = o->change_topics;
    w->hand_out_skipped = o->hand_out_skipped;
    w->in_hand = o->in_hand ? o->in_hand : WORKER_IN_HAND;
    w->lease_ms = (unsigned) o->lease_ms;
    w->attempts_max = o->attempts_max;
    w->group = strdup (o->group);
    w->instance = strdup (o->instance ? o->instance : "");
    w->queue = calloc (w->in_hand, sizeof *w->queue);
    w->outcomes = calloc (WORKER_OUTCOMES_MAX, sizeof *w->outcomes);
    if (!w->group || !w->instance || !w->queue || !w->outcomes)
        return -ENOMEM;
    return copy_patterns (w, o->topics);
}

static int open_descriptors (struct fm_worker *w)
{
    w->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    w->timer_fd = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    w->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll_fd < 0 || w->timer_fd < 0 || w->wake_fd < 0)
        return -errno;
    const int rc = watch_fd (w, w->timer_fd);
    return rc ? rc : watch_fd (w, w->wake_fd);
}

static void worker_free (struct fm_worker **worker)
{
    struct fm_worker *w = *worker;
    *worker = NULL;
    replay_client_destroy (&w->client);
    for (size_t i = 0; i < w->queue_count; i++)
        worker_item_release (&w->queue[(w->queue_first + i) % w->in_hand]);
    batch_scratch_release (&w->scratch);
    const int fds[] = { w->epoll_fd, w->timer_fd, w->wake_fd };
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close (fds[i]);
    free (w->queue);
    free (w->outcomes);
    free (w->pattern_bytes);
    free (w->group);
    free (w->instance);
    free (w);
}

/* Until the journal took us in, or refused. */
static int wait_joined (struct fm_worker *w, int timeout_ms)
{
    const uint64_t until_ns = deadline (timeout_ms);
    int rc = 0;
    while (!rc) {
        const uint64_t due_ns = step (w, false);
        if (w->refused)
            return error_set (w->refused, "%s", w->refused_text);
        if (w->state == WORKER_JOINED)
            return 0;
        if (node_now () >= until_ns && w->away)
            return error_set (w->away, "%s, and that for %d ms", w->away_text, timeout_ms);
        if (node_now () >= until_ns)
            return error_set (FM_TIMEOUT, "group '%s': the journal has not answered within %d ms", w->group, timeout_ms);
        rc = wait_until (w, due_ns < until_ns ? due_ns : until_ns);
    }
    return rc;
}

int fm_worker_open (struct fm_node *node, const struct fm_worker_options *options, struct fm_worker **ret_worker)
{
    struct fm_worker *w = calloc (1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->node = node;
    w->epoll_fd = w->timer_fd = w->wake_fd = -1;
    int rc = take_options (w, options);
    if (!rc)
        rc = open_descriptors (w);
    if (!rc)
        rc = wait_joined (w, options->open_timeout_ms ? options->open_timeout_ms : WORKER_OPEN_MS);
    if (rc) {
        worker_free (&w);
        return rc;
    }
    if (w->effect == FM_EFFECT_UNDECLARED)
        node_notice (node, "EFFECT-UNDECLARED", "group=%s: its handler does not say whether it may run again (FM_IDEMPOTENT, FM_ONCE, …); taken as idempotent",
                     w->group);
    *ret_worker = w;
    return 0;
}

void fm_worker_close (struct fm_worker **worker)
{
    struct fm_worker *w = *worker;
    if (!w)
        return;
    if (w->has_current)
        drop_current (w);
    release_queue (w);
    (void) wait_confirmed (w, 0, true, deadline (WORKER_CLOSE_MS));     /* what is not told is handed out again */
    if (w->state == WORKER_JOINED) {
        Factmesh__GroupLeave leave = FACTMESH__GROUP_LEAVE__INIT;
        leave.member = w->member;
        Factmesh__Control control = FACTMESH__CONTROL__INIT;
        control.body_case = FACTMESH__CONTROL__BODY_GROUP_LEAVE;
        control.group_leave = &leave;
        uint64_t request;
        (void) replay_client_request (w->client, &control, &request);   /* else it is missed */
    }
    worker_free (worker);
}
