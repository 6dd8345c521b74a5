/* Opening: options, finding a journal, where the subscription starts; and closing.
 *
 *   a named cursor that exists, or a given one     -> its base and positions, from the journal it is of
 *   start, time, last                              -> the journal says which offset that is: the base
 *   latest                                         -> the newest fact of each key; the base moves through them
 *   end, with a journal                            -> its synced end now
 *   end, without one                               -> each publisher's fence: from there on live is complete
 *
 * Opening waits for that answer, so that what is published after it returned is delivered. */

#include "subscription.h"
#include "error.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    OPEN_STEP_MS = 20,                      /* how often members are looked at */
    ANSWER_MS = 5000,                       /* for a journal that we found to answer */
    SETTLE_MS = 500,                        /* other journals are waited for, where those that are there don't know a cursor */
    ASK_AGAIN_MS = 1000                     /* then a session is asked for again, and after twice as long each time */
};

/* --- Options. */

static int copy_patterns (struct fm_subscription *s, const char *const *topics)
{
    size_t len = 0;
    for (size_t i = 0; topics && topics[i]; i++) {
        if (i == FILTERS_MAX)
            return error_set (FM_ERR_LIMIT, "more than %d topic patterns in one subscription", FILTERS_MAX);
        const int rc = topic_pattern_check (slice_of (topics[i]));
        if (rc != 0)
            return rc;
        len += strlen (topics[i]);
        s->pattern_count++;
    }
    char *p = s->pattern_bytes = malloc (len + 1);
    if (!p)
        return -ENOMEM;
    for (size_t i = 0; i < s->pattern_count; i++) {
        const size_t pattern_len = strlen (topics[i]);
        memcpy (p, topics[i], pattern_len);
        s->patterns[i] = slice (p, pattern_len);
        p += pattern_len;
    }
    s->level = topic_patterns_level (s->patterns, s->pattern_count, &s->exact);
    return 0;
}

static int take_options (struct fm_subscription *s, const struct fm_subscription_options *o)
{
    if (o->from > FM_FROM_LATEST || o->delivery > FM_SYNCED)
        return error_set (FM_ERR_ARGUMENT, "from and delivery must be ones of their enums");
    if (o->no_journal && (o->cursor || o->from != FM_FROM_END || o->delivery == FM_SYNCED))
        return error_set (FM_ERR_ARGUMENT, "without a journal there is only live from the end: no cursor, no other start, no synced delivery");
    if (o->from == FM_FROM_CURSOR && o->from_cursor.len == 0)
        return error_set (FM_ERR_ARGUMENT, "FM_FROM_CURSOR needs the bytes of a cursor");
    if (o->cursor && (o->cursor[0] == 0 || strlen (o->cursor) > CURSOR_NAME_MAX))
        return error_set (FM_ERR_ARGUMENT, "a cursor's name has 1 to %d bytes", CURSOR_NAME_MAX);
    s->synced_only = o->delivery == FM_SYNCED;
    s->no_journal = o->no_journal;
    s->from = o->from;
    s->from_value = o->from == FM_FROM_TIME ? o->from_time_ns : o->from_last;
    s->held_max = o->held_bytes ? o->held_bytes : SUBSCRIPTION_HELD_DEFAULT;
    s->commit_ns = NS_OF_MS (o->commit_ms > 0 ? o->commit_ms : SUBSCRIPTION_COMMIT_MS);
    if (o->cursor && !(s->cursor_name = strdup (o->cursor)))
        return -ENOMEM;
    return copy_patterns (s, o->topics);
}

static int make_descriptors (struct fm_subscription *s)
{
    s->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    s->timer_fd = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    s->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epoll_fd < 0 || s->timer_fd < 0 || s->wake_fd < 0)
        return error_set (-errno, "subscription: no descriptors");
    int rc = subscription_watch (s, s->timer_fd, &s->timer_fd);
    if (rc == 0)
        rc = subscription_watch (s, s->wake_fd, &s->wake_fd);
    return rc;
}

/* --- Where it starts. */

/* Wait until a journal (of the base, if there is one) is a member; NULL when none comes in time. */
static struct live_peer *wait_journal (struct fm_subscription *s, uint64_t deadline_ns)
{
    for (;;) {
        const uint64_t now_ns = node_now ();
        live_set_look (s->live);
        (void) live_set_update (s->live, now_ns);
        struct live_peer *peer = subscription_journal (s, true, 0);
        if (peer || now_ns >= deadline_ns || subscription_generation_passed (s))
            return peer;
        /* Frames are not taken yet: waiting for them too would be waiting for nothing. */
        struct pollfd fd = { .fd = live_set_members_fd (s->live), .events = POLLIN };
        (void) poll (&fd, 1, OPEN_STEP_MS);     /* either way we look again */
    }
}

/* Adopt a cursor's place: the base, and P of each stream that is further. */
static int start_at (struct fm_subscription *s, const struct cursor *c)
{
    s->base.journal = c->journal;
    s->base.generation = c->generation;
    s->base.offset = c->offset;
    s->has_base = true;
    s->session_state = SESSION_WANTED;
    for (size_t i = 0; i < c->count; i++) {
        struct stream *st = subscription_stream (s, &c->positions[i].stream);
        if (!st)
            return -ENOMEM;
        subscription_position (s, st, c->positions[i].seq);
    }
    return 0;
}

/* A named cursor that a journal knows, or FM_ERR_UNKNOWN: none does. It may be another journal's that came first. */
static int load_cursor_once (struct fm_subscription *s)
{
    struct cursor c = { 0 };
    int rc = FM_ERR_UNKNOWN;
    for (size_t i = 0; rc == FM_ERR_UNKNOWN; i++) {
        const struct live_peer *peer = subscription_journal (s, false, i);
        if (!peer)
            return rc;
        rc = subscription_cursor_load (s, peer, node_now () + NS_OF_MS (ANSWER_MS), &c);
    }
    if (rc == 0)
        rc = start_at (s, &c);
    cursor_release (&c);
    return rc;
}

/* Returns false when members did not change until then. */
static bool wait_members (struct fm_subscription *s, uint64_t changes, uint64_t until_ns)
{
    for (;;) {
        const uint64_t now_ns = node_now ();
        live_set_look (s->live);
        (void) live_set_update (s->live, now_ns);
        if (live_set_changes (s->live) != changes || now_ns >= until_ns)
            return live_set_changes (s->live) != changes;
        struct pollfd fd = { .fd = live_set_members_fd (s->live), .events = POLLIN };
        (void) poll (&fd, 1, OPEN_STEP_MS);     /* either way we look again */
    }
}

/* The journal may come back elsewhere, or its link be bad for a while: until the deadline, and once at least. And members are met one after the other: a cursor
 * that nobody knows is new only when nobody else has come for a while. */
static int load_cursor (struct fm_subscription *s, uint64_t deadline_ns)
{
    const uint64_t settled_ns = node_now () + NS_OF_MS (SETTLE_MS);
    for (;;) {
        const uint64_t changes = live_set_changes (s->live);
        const int rc = load_cursor_once (s);
        if (rc == FM_ERR_UNKNOWN) {
            if (!wait_members (s, changes, settled_ns))
                return rc;
        } else if (!subscription_may_pass (rc) || node_now () >= deadline_ns || !wait_journal (s, deadline_ns)) {
            return rc;
        }
    }
}

int subscription_session_start (struct fm_subscription *s, struct holder *holder)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    Factmesh__Cursor from_the_first = FACTMESH__CURSOR__INIT;
    switch (s->from) {
    case FM_FROM_START:
        open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_OFFSET;
        open.from_offset = 1;
        break;
    case FM_FROM_TIME:
        open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS;
        open.from_time_ns = s->from_value;
        break;
    case FM_FROM_LAST:
        open.start_case = FACTMESH__REPLAY_OPEN__START_LAST_COUNT;
        open.last_count = s->from_value;
        break;
    case FM_FROM_LATEST:
        open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_LATEST;
        open.from_latest = &from_the_first;
        break;
    case FM_FROM_END:
    case FM_FROM_CURSOR:
        open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_END;
        open.from_end = true;
        break;
    }
    return subscription_session_open (s, holder, &open);
}

static int open_session (struct fm_subscription *s, const struct live_peer *peer)
{
    struct holder *holder = subscription_holder (s, peer);
    return holder ? subscription_session_start (s, holder) : -ENOMEM;
}

/* A session whose open or first message was lost with its connection, or whose journal stands still: asked again. */
static void ask_again (struct fm_subscription *s, uint64_t now_ns, uint64_t *patience_ns)
{
    if (s->session_state == SESSION_OPEN && now_ns >= subscription_holder_silent (s->session_holder, s->session_heard_ns, s->session_passed_ns, *patience_ns)) {
        *patience_ns *= 2;
        subscription_session_lost (s);
    }
    if (s->session_state != SESSION_WANTED)
        return;
    live_set_look (s->live);
    (void) live_set_update (s->live, now_ns);
    subscription_session_step (s, now_ns);
}

/* Until the session's first message says where it starts; that message stays in hand. */
static int take_until_started (struct fm_subscription *s, uint64_t deadline_ns)
{
    const uint64_t started_ns = node_now ();
    uint64_t patience_ns = NS_OF_MS (ASK_AGAIN_MS);
    while (!s->session_told && !s->error) {
        const uint64_t now_ns = node_now ();
        subscription_commit_step (s, now_ns);       /* what came over its connection, or broke it: left there, it would end each wait at once */
        if (subscription_replay_receive (s) == 0)
            continue;
        if (now_ns >= deadline_ns || (s->session_error && !subscription_may_pass (s->session_error) && now_ns >= started_ns + NS_OF_MS (ANSWER_MS)))
            break;
        ask_again (s, now_ns, &patience_ns);
        const int rc = subscription_wait (s, now_ns + NS_OF_MS (OPEN_STEP_MS));
        if (rc != 0 && rc != FM_TIMEOUT)
            return rc;
    }
    if (s->error)
        return error_set (s->error, "%s", s->error_text);
    if (!s->session_told && s->session_error)
        return error_set (s->session_error, "the journal refuses to replay: %s", s->session_error_text);
    return s->session_told ? 0 : error_set (FM_ERR_UNREACHABLE, "the journal has not answered within %llu ms",
                                            (unsigned long long) (deadline_ns - started_ns) / NS_OF_MS (1));
}

/* Live frames are not taken yet: they would end each wait at once. */
static int wait_started (struct fm_subscription *s, uint64_t deadline_ns)
{
    live_set_mute (s->live, true);
    const int rc = take_until_started (s, deadline_ns);
    live_set_mute (s->live, false);
    return rc;
}

/* Without a journal: the publishers that are there say where live begins. An answer may be lost, and is asked for again. */
static int wait_fences (struct fm_subscription *s)
{
    const uint64_t deadline_ns = node_now () + NS_OF_MS (SUBSCRIPTION_OPEN_MS);
    s->met = calloc (SUBSCRIPTION_MET_MAX, sizeof *s->met);
    if (!s->met)
        return -ENOMEM;
    s->fences_only = true;
    s->caught_up_told = s->tell_caught_up = true;
    s->live_ready = true;
    live_set_look (s->live);
    (void) live_set_update (s->live, node_now ());      /* the members that there are */
    while (!live_set_fenced (s->live) && !s->walking && node_now () < deadline_ns) {
        if (s->live_ready && subscription_live_step (s) == 0)
            continue;
        const uint64_t now_ns = node_now ();
        (void) live_set_update (s->live, now_ns);
        const int rc = subscription_wait (s, now_ns + NS_OF_MS (OPEN_STEP_MS));
        if (rc != 0 && rc != FM_TIMEOUT)
            return rc;
    }
    return 0;
}

static int start_without_journal (struct fm_subscription *s, bool needed, int timeout_ms)
{
    if (s->has_base) {
        char text[ID_TEXT_LEN + 1];
        if (subscription_journal (s, false, 0) || s->journal_seen)
            return error_set (FM_ERR_GENERATION, "the cursor is of journal %s generation %llu, which is not in the mesh",
                              id_text (&s->base.journal, text), (unsigned long long) s->base.generation);
    }
    if (needed)
        return error_set (FM_ERR_NO_JOURNAL, "no journal was found within %d ms: start one, or start from the end without a cursor", timeout_ms);
    return wait_fences (s);
}

static int start (struct fm_subscription *s, const struct fm_subscription_options *o)
{
    const uint64_t now_ns = node_now ();
    const bool needed = s->from != FM_FROM_END || s->cursor_name || s->synced_only;
    const int wait_ms = o->open_timeout_ms ? o->open_timeout_ms : SUBSCRIPTION_OPEN_MS;
    int rc = 0;
    if (s->no_journal)
        return wait_fences (s);
    uint64_t deadline_ns = now_ns + NS_OF_MS (needed ? wait_ms : SUBSCRIPTION_LOOK_MS);
    if (needed && wait_ms < 0)
        deadline_ns = UINT64_MAX;
    if (s->cursor_name) {
        if (!wait_journal (s, deadline_ns))
            return start_without_journal (s, true, wait_ms);
        rc = load_cursor (s, deadline_ns);
        if (rc != 0 && rc != FM_ERR_UNKNOWN)
            return rc;
    }
    if (!s->has_base && s->from == FM_FROM_CURSOR) {
        struct cursor c = { 0 };
        rc = cursor_decode (&c, o->from_cursor);
        if (rc == 0)
            rc = start_at (s, &c);
        cursor_release (&c);
        if (rc != 0)
            return rc;
    }
    const struct live_peer *peer = wait_journal (s, deadline_ns);
    if (!peer)
        return start_without_journal (s, needed, wait_ms);
    s->journal_seen = true;
    if (!s->has_base) {
        rc = open_session (s, peer);
        if (rc != 0)
            return rc;
    }
    const uint64_t answer_ns = node_now () + NS_OF_MS (ANSWER_MS);
    return wait_started (s, needed && deadline_ns > answer_ns ? deadline_ns : answer_ns);
}

/* --- The public calls. */

static void release (struct fm_subscription **subscription)
{
    struct fm_subscription *s = *subscription;
    subscription_holders_release (s);
    subscription_cursor_release (s);
    live_set_destroy (&s->live);
    free (s->walk_held);
    subscription_streams_release (s);
    batch_scratch_release (&s->scratch);
    batch_scratch_release (&s->view_scratch);
    free (s->matches);
    free (s->met);
    free (s->cursor_name);
    free (s->pattern_bytes);
    zmq_msg_close (&s->message);
    const int fds[] = { s->epoll_fd, s->timer_fd, s->wake_fd };
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0)
            close (fds[i]);
    }
    free (s);
    *subscription = NULL;
}

int fm_subscription_open (struct fm_node *node, const struct fm_subscription_options *options, struct fm_subscription **ret_subscription)
{
    static const struct fm_subscription_options defaults;
    const struct fm_subscription_options *o = options ? options : &defaults;
    struct fm_subscription *s = calloc (1, sizeof *s);
    if (!s)
        return -ENOMEM;
    struct timespec now;
    clock_gettime (CLOCK_REALTIME, &now);
    s->node = node;
    s->opened_unix_ns = (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
    s->epoll_fd = s->timer_fd = s->wake_fd = -1;
    s->last_topic_len = SIZE_MAX;
    s->trouble_ns = s->waits_offset = s->waits_durable = UINT64_MAX;
    zmq_msg_init (&s->message);
    int rc = take_options (s, o);
    if (rc == 0)
        rc = make_descriptors (s);
    if (rc == 0)
        rc = live_set_new (node, s->epoll_fd, s->level, s->exact, s->synced_only, SUBSCRIPTION_LIVE_HWM, &s->live);
    if (rc == 0)
        rc = start (s, o);
    if (rc != 0) {
        release (&s);
        return rc;
    }
    s->live_ready = true;
    *ret_subscription = s;
    return 0;
}

void fm_subscription_close (struct fm_subscription **subscription)
{
    struct fm_subscription *s = *subscription;
    if (!s)
        return;
    if (s->cursor_name && s->has_base && (s->ack_changed || s->put_out))
        (void) fm_subscription_commit (s, SUBSCRIPTION_CLOSE_MS);   /* what is not confirmed is delivered again */
    if (s->delivered)
        node_count (s->node, NODE_FACTS_DELIVERED, s->delivered);
    release (subscription);
}
