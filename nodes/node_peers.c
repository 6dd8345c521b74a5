/* node_peers: what the membership wants is done here; listeners hear of members, and callers wait for them.
 *
 * News (up, changed, down) are numbered. A listener is told at once of all members that the membership knows, and then of the news that were
 * not yet in that: so it hears of each change once, in order, whichever thread it came from. */

#include "node_inner.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "error.h"

static void lock (struct fm_node *node)
{
    (void) pthread_mutex_lock (&node->members_lock);    /* cannot fail: initialised, and never locked twice by a thread */
}

static void unlock (struct fm_node *node)
{
    (void) pthread_mutex_unlock (&node->members_lock);
}

static void fill_peer (const struct peer_info *info, const char *control, struct node_peer *p)
{
    static_assert (sizeof p->control == ADDRESS_TEXT_MAX && sizeof p->live == ADDRESS_TEXT_MAX, "addresses fit");
    *p = (struct node_peer) { .node = info->node, .is_journal = info->is_journal, .journal = info->journal, .generation = info->generation,
                              .started_ns = info->started_ns };
    memcpy (p->name, info->name, sizeof p->name);
    memcpy (p->control, control, strlen (control) + 1);
}

static void member_peer (const struct membership_member *member, struct node_peer *p)
{
    fill_peer (member->info, member->address, p);
    if (!peer_info_live (member->info, member->address, p->live))
        p->live[0] = 0;
}

void node_self (const struct fm_node *node, struct node_peer *ret_peer)
{
    fill_peer (membership_self (node->membership), node->own_control, ret_peer);
    memcpy (ret_peer->live, node->own_live, sizeof ret_peer->live);
}

/* --- Listeners. */

/* Every member, ourselves first: a copy that the caller frees. With members_lock. */
static int copy_members (struct fm_node *node, struct node_peer **ret_peers, size_t *ret_count)
{
    struct node_peer *peers = malloc (membership_count (node->membership) * sizeof *peers);
    if (!peers)
        return -ENOMEM;
    size_t count = 0, cursor = 0;
    node_self (node, &peers[count++]);
    struct membership_member member;
    while (membership_next (node->membership, &cursor, &member))
        member_peer (&member, &peers[count++]);
    *ret_peers = peers;
    *ret_count = count;
    return 0;
}

int node_listen (struct fm_node *node, const struct node_listener *listener)
{
    struct hook hook = { .arg = listener->arg, .listener = *listener };
    struct hook *h = NULL;
    struct node_peer *peers = NULL;
    size_t count = 0;
    lock (node);
    int rc = copy_members (node, &peers, &count);
    if (rc == 0) {
        hook.seen = membership_news (node->membership);
        h = hooks_add (&node->listeners, &hook, true);
        rc = h ? 0 : -ENOMEM;
    }
    unlock (node);
    for (size_t i = 0; rc == 0 && i < count; i++)
        listener->up (listener->arg, &peers[i]);
    if (h)
        hooks_end (&node->listeners, h);
    free (peers);
    return rc;
}

void node_unlisten (struct fm_node *node, void *arg)
{
    hooks_remove (&node->listeners, arg);
}

static void tell_listeners (struct fm_node *node, const struct membership_action *a, const struct node_peer *peer)
{
    node->news++;
    uint64_t order = 0;
    for (struct hook *h; (h = hooks_begin (&node->listeners, &order));) {
        if (h->seen < node->news) {
            if (peer)
                h->listener.up (h->arg, peer);
            else
                h->listener.down (h->arg, &a->node, a->said_goodbye);
        }
        hooks_end (&node->listeners, h);
    }
}

/* --- Signs of life. */

void node_sign_watch (struct fm_node *node, struct node_sign *sign, const char *control)
{
    struct membership_member member;
    size_t cursor = 0;
    lock (node);
    while (membership_next (node->membership, &cursor, &member)) {
        if (strcmp (member.address, control) == 0)
            sign->node = member.info->node;
    }
    sign->next = node->signs;
    if (sign->next)
        sign->next->place = &sign->next;
    sign->place = &node->signs;
    node->signs = sign;
    unlock (node);
}

void node_sign_unwatch (struct fm_node *node, struct node_sign *sign)
{
    lock (node);
    if (sign->place)
        *sign->place = sign->next;
    if (sign->place && sign->next)
        sign->next->place = sign->place;
    sign->place = NULL;
    unlock (node);
}

void node_take_signs (struct fm_node *node, uint64_t now_ns)
{
    for (struct node_sign *s = node->signs; s; s = s->next) {
        if (atomic_exchange_explicit (&s->seen, false, memory_order_relaxed))
            membership_data (node->membership, now_ns, &s->node);
    }
}

/* --- Actions. */

static void tell_news (struct fm_node *node, const struct membership_action *a)
{
    struct node_peer peer;
    struct membership_member member;
    bool is_up = false;
    if (id_equal (&a->node, &node->id)) {
        node_self (node, &peer);
        is_up = true;
    } else if (a->kind != MEMBERSHIP_DOWN && membership_find (node->membership, &a->node, &member)) {
        member_peer (&member, &peer);
        is_up = true;
    }
    if (a->kind == MEMBERSHIP_UP && is_up)
        node_route_set (node, member.contact, &a->node);
    if (a->kind == MEMBERSHIP_DOWN)
        node_route_clear (node, &a->node);
    tell_listeners (node, a, is_up ? &peer : NULL);
    node_count_members (node);
}

static void tell_notice (struct fm_node *node, const struct membership_action *a)
{
    char id[ID_TEXT_LEN + 1];
    id_text (&a->node, id);
    switch (a->notice) {
    case NOTICE_UNREACHABLE:
        node_notice (node, "NODE-UNREACHABLE", "node=%s none of its control addresses answers: does it advertise one that this machine reaches?", id);
        break;
    case NOTICE_REPLACED:
        node_notice (node, "NODE-REPLACED", "node=%s another node answers at its address: it has ended", id);
        break;
    case NOTICE_SILENT:
        node_notice (node, "NODE-SILENT", "node=%s silent_ms=%" PRIu64 " taken for dead; its addresses are asked again", id, a->late_ms);
        break;
    case NOTICE_STALLED:
        node_notice (node, "NODE-STALLED", "late_ms=%" PRIu64 " this process was stopped or starved; nobody is taken for dead for it", a->late_ms);
        break;
    case NOTICE_FULL:
        node_notice (node, "MEMBERS-FULL", "node=%s limit=%d it is not let in", id, MEMBERS_MAX);
        break;
    }
}

static void carry_out (struct fm_node *node, const struct membership_action *a)
{
    switch (a->kind) {
    case MEMBERSHIP_CONNECT:
        if (a->address) {
            const int rc = node_contact_open (node, a->contact, a->address);
            if (rc == 0)
                break;
            node_notice (node, "CONTACT-FAILED", "address=%s %s; tried again", a->address, rc == -ENOMEM ? fm_error_text (rc) : fm_error_detail ());
            membership_unopened (node->membership, node_now (), a->contact);
        }
        break;
    case MEMBERSHIP_CLOSE:
        node_contact_close (node, a->contact, 0);
        break;
    case MEMBERSHIP_SEND:
        node_say (node, a->contact, a->message);
        break;
    case MEMBERSHIP_UP:
    case MEMBERSHIP_CHANGED:
    case MEMBERSHIP_DOWN:
        tell_news (node, a);
        break;
    case MEMBERSHIP_NOTICE:
        tell_notice (node, a);
        break;
    }
}

void node_act (struct fm_node *node)
{
    struct membership_action a;
    while (membership_take (node->membership, &a))
        carry_out (node, &a);
}

void node_count_members (struct fm_node *node)
{
    size_t cursor = 0, journals = membership_self (node->membership)->is_journal ? 1 : 0;
    struct membership_member member;
    while (membership_next (node->membership, &cursor, &member))
        journals += member.info->is_journal;
    lock (node);
    node->told_count = membership_count (node->membership);
    node->told_journals = journals;
    (void) pthread_cond_broadcast (&node->members_changed);
    unlock (node);
}

/* --- The public face. */

static void public_member (const struct node_peer *peer, unsigned streams, uint64_t silent_ns, bool self, struct fm_member *m)
{
    *m = (struct fm_member) { .node = peer->node, .name = peer->name, .control = peer->control, .live = peer->live, .self = self,
                              .is_journal = peer->is_journal, .journal = peer->journal, .generation = peer->generation,
                              .started_ns = peer->started_ns, .streams = streams, .silent_ms = (unsigned) (silent_ns / 1000000) };
}

int fm_node_members (struct fm_node *node, int (*each) (void *arg, const struct fm_member *m), void *arg)
{
    const uint64_t now_ns = node_now ();
    lock (node);
    const size_t most = membership_count (node->membership);
    struct fm_member *members = calloc (most, sizeof *members);
    struct node_peer *peers = calloc (most, sizeof *peers);
    size_t count = 0, cursor = 0;
    struct membership_member member;
    if (members && peers) {
        node_self (node, &peers[count]);
        public_member (&peers[count], node->own_streams, 0, true, &members[count]);
        for (count = 1; membership_next (node->membership, &cursor, &member); count++) {
            member_peer (&member, &peers[count]);
            const uint64_t silent_ns = now_ns > member.heard_ns ? now_ns - member.heard_ns : 0;
            public_member (&peers[count], member.info->streams, silent_ns, false, &members[count]);
        }
    }
    unlock (node);
    int rc = members && peers ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = each (arg, &members[i]);
    free (members);
    free (peers);
    return rc;
}

/* Which seeds are of no use, and why: for the detail of a time-out. With members_lock. */
static void describe_seeds (struct fm_node *node, char *text, size_t size)
{
    static const char *const why[] = { [SEED_SILENT] = "does not answer", [SEED_FOREIGN] = "is of another mesh",
                                       [SEED_OTHER_VERSION] = "is of another major version", [SEED_SELF] = "is this node itself" };
    const char *address;
    enum membership_seed_state state;
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; membership_seed (node->membership, i, &address, &state) && used < size; i++) {
        if (state == SEED_JOINED)
            continue;
        const int n = snprintf (text + used, size - used, "; seed %s %s", address, why[state]);
        used += n > 0 ? (size_t) n : 0;
    }
}

static struct timespec deadline (int timeout_ms)
{
    struct timespec t;
    const int rc = clock_gettime (CLOCK_MONOTONIC, &t);
    assert (rc == 0);
    (void) rc;
    t.tv_sec += timeout_ms / 1000;
    t.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    return t;
}

/* Wait until *value reaches wanted. */
static int wait_for (struct fm_node *node, const size_t *value, size_t wanted, int timeout_ms, const char *what)
{
    const struct timespec until = deadline (timeout_ms < 0 ? 0 : timeout_ms);
    int rc = 0;
    lock (node);
    while (*value < wanted && rc == 0) {
        if (timeout_ms < 0)
            rc = pthread_cond_wait (&node->members_changed, &node->members_lock);
        else
            rc = pthread_cond_timedwait (&node->members_changed, &node->members_lock, &until);
    }
    const bool reached = *value >= wanted;
    char seeds[300];
    if (!reached) {
        describe_seeds (node, seeds, sizeof seeds);
        (void) error_set (FM_TIMEOUT, "%zu of %zu %s after %d ms in mesh '%s'%s%s", *value, wanted, what, timeout_ms, node->mesh, seeds,
                          node->beacon ? "; looking for others by UDP broadcast" : "");
    }
    unlock (node);
    return reached ? 0 : FM_TIMEOUT;
}

int fm_node_wait_members (struct fm_node *node, unsigned count, int timeout_ms)
{
    return wait_for (node, &node->told_count, count, timeout_ms, "members (this node included)");
}

int fm_node_wait_journal (struct fm_node *node, int timeout_ms)
{
    return wait_for (node, &node->told_journals, 1, timeout_ms, "journals");
}
