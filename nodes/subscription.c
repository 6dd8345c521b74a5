/* The public calls, waiting, and the pump.
 *
 *   next:  walk the current batch -> else one turn of the pump -> else look after what time brings -> else wait
 *   pump:  what is to be told -> held batches that are next -> the replay message in hand -> one live frame or replay message
 *
 * A descriptor that the caller waits on (fm_subscription_fd) must be readable whenever a call could return something. ZeroMQ's descriptors are
 * edge-triggered, and what we hold in hand has none: so while there is more, wake_fd is kept set, and cleared only when everything was found empty. */

#include "subscription.h"
#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    PUMP_MORE = 1,                      /* something was done: go on */
    EVENTS_AT_ONCE = 16,
    TURNS_WITHOUT_WAITING = 4096,       /* of a call that must not wait */
    TIMER_SLACK_MS = 20                 /* arming costs microseconds: not for less */
};

/* --- Descriptors. */

int subscription_watch (struct fm_subscription *s, int fd, void *what)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };
    return epoll_ctl (s->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void subscription_unwatch (struct fm_subscription *s, int fd)
{
    (void) epoll_ctl (s->epoll_fd, EPOLL_CTL_DEL, fd, NULL);    /* it was there */
}

static void set_awake (struct fm_subscription *s)
{
    if (!s->polled || s->woken)
        return;
    const uint64_t one = 1;
    s->woken = true;
    (void) !write (s->wake_fd, &one, sizeof one);       /* fails only when it is readable anyway */
}

static void set_asleep (struct fm_subscription *s)
{
    if (!s->woken)
        return;
    uint64_t rung;
    s->woken = false;
    (void) !read (s->wake_fd, &rung, sizeof rung);
}

/* For a caller who waits on our descriptor: time must wake it too. */
static void arm_timer (struct fm_subscription *s, uint64_t now_ns)
{
    if (!s->polled || s->due_ns == UINT64_MAX)
        return;
    if (s->timer_ns > now_ns && s->timer_ns <= s->due_ns + NS_OF_MS (TIMER_SLACK_MS))
        return;                         /* it rings early enough */
    s->timer_ns = s->due_ns > now_ns + NS_OF_MS (1) ? s->due_ns : now_ns + NS_OF_MS (1);
    const struct itimerspec when = { .it_value = { .tv_sec = (time_t) (s->timer_ns / 1000000000), .tv_nsec = (long) (s->timer_ns % 1000000000) } };
    (void) timerfd_settime (s->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

int subscription_wait (struct fm_subscription *s, uint64_t until_ns)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    const uint64_t now_ns = node_now ();
    int wait_ms = -1;
    if (until_ns != UINT64_MAX) {
        const uint64_t left_ms = until_ns > now_ns ? (until_ns - now_ns + 999999) / 1000000 : 0;
        wait_ms = left_ms < INT32_MAX ? (int) left_ms : INT32_MAX;
    }
    int count = epoll_wait (s->epoll_fd, events, EVENTS_AT_ONCE, 0);
    if (count == 0 && wait_ms != 0) {       /* what is there already may have waited for the application, however long */
        count = epoll_wait (s->epoll_fd, events, EVENTS_AT_ONCE, wait_ms);
        s->waited_ns = node_now ();
    }
    if (count < 0)
        return errno == EINTR ? error_set (FM_INTERRUPTED, "while waiting for facts") : -errno;
    bool any = false;
    for (int i = 0; i < count; i++) {
        void *what = events[i].data.ptr;
        uint64_t rung;
        if (live_set_event (s->live, &events[i])) {
            s->live_ready = any = true;
            continue;
        }
        if (what == &s->wake_fd)
            continue;                   /* our own; it says nothing new */
        any = true;
        if (what == &s->timer_fd) {
            (void) !read (s->timer_fd, &rung, sizeof rung);
            s->timer_ns = 0;
            s->due_ns = 0;
        } else if (what == s) {
            s->due_ns = 0;              /* the cursors' connection: commit_step reads it */
        } else {
            ((struct holder *) what)->ready = true;
        }
    }
    return any ? 0 : FM_TIMEOUT;
}

/* --- Walking a batch. */

static bool topic_matches (struct fm_subscription *s, struct fm_slice topic)
{
    if (topic.len == s->last_topic_len && memcmp (topic.data, s->last_topic, topic.len) == 0)
        return s->last_topic_matches;
    bool matches = s->pattern_count == 0;
    for (size_t i = 0; i < s->pattern_count && !matches; i++)
        matches = topic_match (s->patterns[i], topic);
    memcpy (s->last_topic, topic.data, topic.len);
    s->last_topic_len = topic.len;
    s->last_topic_matches = matches;
    return matches;
}

/* Decide about each topic once. Returns false when none matches. */
static bool match_topics (struct fm_subscription *s, const struct batch *b)
{
    s->match_all = s->pattern_count == 0;
    if (s->match_all)
        return true;
    if (b->topic_count == 1) {
        s->match_all = topic_matches (s, b->topics[0].name);
        return s->match_all;
    }
    if (b->topic_count > s->match_size) {
        uint8_t *grown = realloc (s->matches, b->topic_count);
        if (!grown)
            return s->match_all = true;     /* rather a fact too many: the application sees its topic */
        s->matches = grown;
        s->match_size = b->topic_count;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < b->topic_count; i++)
        count += s->matches[i] = topic_matches (s, b->topics[i].name);
    s->match_all = count == b->topic_count;
    return count > 0;
}

static void walk_end (struct fm_subscription *s)
{
    s->walking = false;
    s->walk_stream = NULL;
    free (s->walk_held);
    s->walk_held = NULL;
}

void subscription_walk (struct fm_subscription *s, struct stream *st, const struct batch *b, uint64_t from, enum walk_source source)
{
    if (!match_topics (s, b)) {
        walk_end (s);
        return;
    }
    if (b != &s->batch)
        s->batch = *b;
    s->walking = true;
    s->walk_stream = st;
    s->walk_source = source;
    batch_reader_init (&s->reader, &s->batch);
    batch_duplicates_init (&s->duplicates, &s->batch);
    if (source == WALK_LIVE)
        s->duplicates.next.seq = UINT64_MAX;    /* not a publisher's to say */
    if (from > s->batch.first_seq)
        (void) batch_reader_skip (&s->reader, from - s->batch.first_seq);   /* malformed: the next read says so too */
}

/* Its publisher, or who changed it on the way, left bytes that are no facts: the rest of the batch is told as a gap. */
static void walk_damaged (struct fm_subscription *s, struct fm_event *ret_event)
{
    const struct fm_id stream = s->batch.stream;
    node_count (s->node, NODE_FRAMES_REFUSED, 1);
    subscription_gap_event (s, &stream, s->reader.next_seq, batch_end_seq (&s->batch), FM_GAP_DAMAGED, ret_event);
    walk_end (s);
}

static inline bool walk_next (struct fm_subscription *s, struct fm_event *ret_event)
{
    for (;;) {
        const int rc = batch_reader_next (&s->reader, &ret_event->fact);
        if (rc != 0) {
            if (rc != FM_ERR_END) {
                walk_damaged (s, ret_event);
                return true;
            }
            walk_end (s);
            return false;
        }
        if (__builtin_expect (batch_duplicates_meet (&s->duplicates, ret_event->fact.id.seq), 0))
            continue;
        if (s->match_all || s->matches[ret_event->fact.topic_index]) {
            ret_event->kind = FM_EVENT_FACT;
            ret_event->replayed = s->walk_source == WALK_REPLAY;
            s->delivered++;
            return true;
        }
    }
}

/* --- The pump. */

static int tell (struct fm_event *ret_event, enum fm_event_kind kind, bool *flag)
{
    *flag = false;
    *ret_event = (struct fm_event) { .kind = kind };
    return 0;
}

/* The first stream that may have held batches which are next. */
static int take_held (struct fm_subscription *s)
{
    struct stream *st = s->take_first;
    struct handover_item item;
    uint64_t from;
    if (!handover_take (&st->h, &item, &from)) {
        s->take_first = st->next_take;
        if (!s->take_first)
            s->take_last = NULL;
        st->in_take = false;
        return PUMP_MORE;
    }
    subscription_settle (s, st);
    struct held *held = item.ref;
    if (from >= item.end_seq || batch_decode (held->bytes, held->len, slice (NULL, 0), &s->scratch, &s->batch) != 0) {
        free (held);                    /* passed already; it decoded when it came */
        return PUMP_MORE;
    }
    s->walk_held = held;
    subscription_walk (s, st, &s->batch, from, WALK_LIVE);
    return PUMP_MORE;
}

/* Nobody has it: tell the gap, around what is held. */
static int tell_lost (struct fm_subscription *s, struct fm_event *ret_event)
{
    struct stream *st = s->lost;
    uint64_t first, end;
    if (!handover_gap (&st->h, st->h.complete + 1, s->lost_end, &first, &end)) {
        s->lost = NULL;
        s->trouble_ns = 0;
        return PUMP_MORE;
    }
    subscription_settle (s, st);
    const bool lost = first < end;      /* else what is held is next, and was to be taken before */
    if (lost)
        subscription_gap_event (s, &st->id, first, end, s->lost_reason, ret_event);
    return lost ? 0 : PUMP_MORE;
}

static int receive (struct fm_subscription *s)
{
    /* Live goes first, save for every so many frames: a replay must get its turn, and a message of it is worth many. */
    if (s->live_ready && s->turn % (SUBSCRIPTION_LIVE_TURN + 1) != 0 && subscription_live_step (s) == 0)
        return PUMP_MORE;
    if (subscription_replay_receive (s) == 0)
        return PUMP_MORE;
    if (s->live_ready && subscription_live_step (s) == 0)
        return PUMP_MORE;
    return -EAGAIN;
}

/* One turn. 0: an event; PUMP_MORE; -EAGAIN: nothing to do. Or an error to return. */
static int pump (struct fm_subscription *s, struct fm_event *ret_event)
{
    s->turn++;
    if (s->error) {
        const int error = s->error;
        s->error = 0;
        return error_set (error, "%s", s->error_text);
    }
    if (s->tell_fell_behind)
        return tell (ret_event, FM_EVENT_FELL_BEHIND, &s->tell_fell_behind);
    if (s->take_first)
        return take_held (s);
    if (s->lost)
        return tell_lost (s, ret_event);
    if (s->view)
        return subscription_view_step (s, ret_event) ? 0 : PUMP_MORE;
    if (s->tell_caught_up)
        return tell (ret_event, FM_EVENT_CAUGHT_UP, &s->tell_caught_up);
    return receive (s);
}

static void count_delivered (struct fm_subscription *s)
{
    if (s->delivered)
        node_count (s->node, NODE_FACTS_DELIVERED, s->delivered);
    s->delivered = 0;
}

/* What time and members bring. Sets when to be called again. */
static void look_after (struct fm_subscription *s, uint64_t now_ns)
{
    s->due_ns = UINT64_MAX;
    subscription_due (s, live_set_update (s->live, now_ns));
    if (s->due_ns <= now_ns)
        s->live_ready = true;
    subscription_holders_update (s, now_ns);
    subscription_session_step (s, now_ns);
    subscription_repair_step (s, now_ns);
    subscription_waits_step (s, now_ns);
    if (s->cursor_name)
        subscription_commit_step (s, now_ns);
    count_delivered (s);
}

static bool has_work (const struct fm_subscription *s)
{
    if (s->live_ready || s->take_first || s->lost || s->view || s->tell_caught_up || s->tell_fell_behind || s->error)
        return true;
    for (const struct holder *h = s->holders; h; h = h->next) {
        if (h->ready)
            return true;
    }
    return false;
}

/* Nothing is in hand. 0: look again; else what the call returns. */
static int idle (struct fm_subscription *s, uint64_t until_ns)
{
    uint64_t now_ns = node_now ();
    look_after (s, now_ns);
    if (has_work (s) && (now_ns < until_ns || until_ns == 0))
        return 0;
    if (has_work (s)) {
        set_awake (s);
        return FM_TIMEOUT;
    }
    set_asleep (s);                     /* else our own descriptor would end the wait */
    const uint64_t wait_ns = s->due_ns < until_ns ? s->due_ns : until_ns;
    int rc = subscription_wait (s, wait_ns);
    if (rc != FM_TIMEOUT)
        return rc;
    now_ns = until_ns ? node_now () : 0;
    if (now_ns < until_ns)
        return 0;                       /* it was only something due */
    arm_timer (s, now_ns ? now_ns : node_now ());
    return FM_TIMEOUT;
}

/* Now and then, and at once when something is due now. To be called between two batches: while one is walked its bytes could go with their
 * holder; and before each turn, since in a flood every turn leads to a batch. 0: go on. */
static int check_time (struct fm_subscription *s, uint64_t *until_ns, int timeout_ms, unsigned turns)
{
    if (s->due_ns != 0 && s->turn % SUBSCRIPTION_CHECK_TURN != 0)
        return 0;
    (void) subscription_wait (s, 0);    /* who never finds everything empty never waits, but must see which holders answered */
    const uint64_t now_ns = node_now ();
    if (*until_ns == UINT64_MAX && timeout_ms > 0)
        *until_ns = now_ns + NS_OF_MS (timeout_ms);
    if (now_ns >= s->due_ns)
        look_after (s, now_ns);
    if (*until_ns == 0 ? turns < TURNS_WITHOUT_WAITING : now_ns < *until_ns)
        return 0;
    set_awake (s);
    return FM_TIMEOUT;
}

int fm_subscription_next (struct fm_subscription *s, int timeout_ms, struct fm_event *ret_event)
{
    /* 0: don't wait. The clock is read only when it matters: not while there are facts. */
    uint64_t until_ns = timeout_ms == 0 ? 0 : UINT64_MAX;
    for (unsigned turns = 1;; turns++) {
        if (s->walking && walk_next (s, ret_event))
            break;
        int rc = check_time (s, &until_ns, timeout_ms, turns);
        if (rc < 0)
            return rc;
        rc = pump (s, ret_event);
        if (rc == 0)
            break;
        if (rc == -EAGAIN) {
            if (until_ns == UINT64_MAX && timeout_ms > 0)
                until_ns = node_now () + NS_OF_MS (timeout_ms);
            rc = idle (s, until_ns);
        }
        if (rc < 0)
            return rc;
    }
    set_awake (s);
    return 0;
}

int fm_subscription_fd (struct fm_subscription *s)
{
    if (!s->polled) {
        s->polled = true;
        set_awake (s);                  /* until a call has found everything empty */
    }
    return s->epoll_fd;
}
