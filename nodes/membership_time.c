/* membership_time: what time brings: pings, deaths, further addresses, the dead and the seeds asked again; and the check of the
 * invariants. The rules for messages are in membership.c. */

#include "membership.h"
#include "membership_table.h"

#include <assert.h>
#include <string.h>

#include "bytes.h"

static uint64_t least (uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t grain_ns (const struct membership *m)
{
    return m->ping_ns / GRAINS;
}

/* How long a peer that does not answer is sought. */
static uint64_t seek_ns (const struct membership *m)
{
    return 2 * m->dead_ns > SEEK_MS * MS_NS ? 2 * m->dead_ns : SEEK_MS * MS_NS;
}

/* A connection that stands but is silent is asked again: the first Hello may have been lost with the connection before. */
static uint64_t hello_again (struct membership *m, uint64_t now_ns, uint32_t number)
{
    struct contact *c = contact_find (m, number);
    assert (c);
    if (c->reopen_ns) {
        if (now_ns < c->reopen_ns)
            return c->reopen_ns;
        c->reopen_ns = 0;
        action_connect (m, number);     /* in place of the Hello, for which it is not there */
    }
    if (!c->writable)
        return NEVER;
    if (now_ns - c->hello_ns >= HELLO_AGAIN_MS * MS_NS)
        contact_say_hello (m, now_ns, number);
    return c->hello_ns + HELLO_AGAIN_MS * MS_NS;
}

static uint64_t tick_tries (struct membership *m, uint64_t now_ns, struct peer *p)
{
    uint64_t due = NEVER;
    for (unsigned i = 0; i < p->try_count; i++)
        due = least (due, hello_again (m, now_ns, p->tries[i]));
    return due;
}

/* How long we say nothing to a member before we ping it. */
static uint64_t quiet_ns (const struct membership *m, const struct peer *p)
{
    return m->ping_ns + (memcmp (m->self->node.bytes, p->id.bytes, ID_LEN) < 0 ? m->ping_ns / PATIENCE : 0);
}

/* Until when a member lives that says nothing more. */
static uint64_t lives_until_ns (const struct membership *m, const struct peer *p)
{
    const uint64_t by_data_ns = least (p->data_ns + m->dead_ns, p->heard_ns + DATA_ALONE_MS * MS_NS);
    return by_data_ns > p->heard_ns + m->dead_ns ? by_data_ns : p->heard_ns + m->dead_ns;
}

static uint64_t tick_member (struct membership *m, uint64_t now_ns, struct peer *p)
{
    if (now_ns > lives_until_ns (m, p)) {
        action_notice (m, NOTICE_SILENT, &p->id, (now_ns - p->heard_ns) / MS_NS);
        peer_bury (m, now_ns, p, false);
        return p->retry_ns;
    }
    /* What falls due within half a grain goes with this one: the pings of a period leave together. */
    if (now_ns - p->said_ns + grain_ns (m) / 2 >= quiet_ns (m, p) || now_ns - p->pinged_ns >= PING_ALWAYS * m->ping_ns) {
        action_send (m, p->contact, SAY_PING);
        p->said_ns = p->pinged_ns = now_ns;
    }
    return least (lives_until_ns (m, p) + 1, p->said_ns + quiet_ns (m, p));
}

static uint64_t tick_seeking (struct membership *m, uint64_t now_ns, struct peer *p)
{
    if (now_ns - p->since_ns > seek_ns (m) && !p->unreachable_told) {
        action_notice (m, NOTICE_UNREACHABLE, &p->id, 0);
        p->unreachable_told = true;
    }
    if (now_ns - p->sought_ns > seek_ns (m)) {
        peer_bury (m, now_ns, p, false);
        return p->died_ns + TOMBSTONE_MS * MS_NS;
    }
    if (p->try_ns <= now_ns)
        peer_try_next_address (m, now_ns, p);
    return least (p->try_ns, tick_tries (m, now_ns, p));
}

static uint64_t tick_dead (struct membership *m, uint64_t now_ns, struct peer *p)
{
    const uint64_t keep_ns = (p->retry_ns == NEVER ? TOMBSTONE_MS : FORGET_MS) * MS_NS;
    if (now_ns - p->died_ns > keep_ns) {
        peer_remove (m, p);
        return NEVER;
    }
    uint64_t due = least (p->died_ns + keep_ns + 1, p->retry_ns);
    if (p->try_count > 0) {
        const uint64_t close_ns = contact_find (m, p->tries[0])->opened_ns + RETRY_OPEN_MS * MS_NS;
        if (close_ns <= now_ns)
            peer_drop_tries (m, p, 0);
        else
            due = least (due, least (close_ns, tick_tries (m, now_ns, p)));
    }
    if (p->retry_ns <= now_ns) {
        peer_try_next_address (m, now_ns, p);
        p->retry_wait_ns = least (2 * p->retry_wait_ns, RETRY_MAX_MS * MS_NS);
        p->retry_ns = now_ns + p->retry_wait_ns;
        due = least (due, p->retry_ns);
    }
    return due;
}

static uint64_t tick_seeds (struct membership *m, uint64_t now_ns)
{
    uint64_t due = NEVER;
    for (size_t i = 0; i < m->seed_count; i++) {
        struct seed *s = &m->seeds[i];
        if (s->contact) {
            due = least (due, hello_again (m, now_ns, s->contact));
            continue;
        }
        if (s->state == SEED_JOINED || s->state == SEED_SELF)
            continue;
        if (s->due_ns <= now_ns) {
            s->due_ns = now_ns + RETRY_MS * MS_NS;      /* should there be no room */
            (void) contact_open (m, now_ns, s->address, NULL, (int) i);
        }
        due = least (due, s->due_ns);
    }
    return due;
}

/* Contacts of nobody: another node answered there, we asked who it is, and were not told. */
static uint64_t tick_orphans (struct membership *m, uint64_t now_ns)
{
    uint64_t due = NEVER;
    for (size_t i = 0; i < m->contact_count; i++) {
        const struct contact *c = &m->contacts[i];
        if (!c->used || c->peer || c->seed >= 0)
            continue;
        const uint64_t close_ns = c->hello_ns + seek_ns (m);
        if (close_ns <= now_ns)
            contact_close (m, contact_number (m, c));
        else
            due = least (due, close_ns);
    }
    return due;
}

/* Were we stopped (SIGSTOP, a suspended machine)? Then the silence was ours: everybody gets a new dead_ms. */
static void forgive (struct membership *m, uint64_t now_ns)
{
    if (m->due_ns == 0 || m->due_ns == NEVER || now_ns < m->due_ns || now_ns - m->due_ns <= m->dead_ns / 2)
        return;
    if (m->member_count > 0)
        action_notice (m, NOTICE_STALLED, NULL, (now_ns - m->due_ns) / MS_NS);
    for (size_t i = 0; i < m->peer_count; i++) {
        m->peers[i]->heard_ns = now_ns;
        m->peers[i]->since_ns = m->peers[i]->sought_ns = now_ns;
    }
}

uint64_t membership_due (const struct membership *m)
{
    return m->due_ns;
}

void membership_tick (struct membership *m, uint64_t now_ns)
{
    forgive (m, now_ns);
    m->due_ns = NEVER;
    uint64_t due = NEVER;
    /* From the end: a dead peer that is forgotten leaves the table. */
    for (size_t i = m->peer_count; i-- > 0;) {
        struct peer *p = m->peers[i];
        switch (p->state) {
        case PEER_MEMBER:
            due = least (due, tick_member (m, now_ns, p));
            break;
        case PEER_SEEKING:
            due = least (due, tick_seeking (m, now_ns, p));
            break;
        case PEER_DEAD:
            due = least (due, tick_dead (m, now_ns, p));
            break;
        }
    }
    due = least (due, tick_seeds (m, now_ns));
    due = least (due, tick_orphans (m, now_ns));
    self_push (m, now_ns);
    due_by (m, least (due, m->push_ns));
    /* In grains: a tick looks at every peer. */
    if (m->due_ns < now_ns + grain_ns (m))
        m->due_ns = now_ns + grain_ns (m);
}

void membership_check (const struct membership *m)
{
    uint64_t digest = bytes_get_u64le (m->self->node.bytes);
    size_t members = 0, seeking = 0;
    for (size_t i = 0; i < m->peer_count; i++) {
        const struct peer *p = m->peers[i];
        assert (i == 0 || memcmp (m->peers[i - 1]->id.bytes, p->id.bytes, ID_LEN) < 0);
        assert (!id_equal (&p->id, &m->self->node));
        assert (p->try_count <= TRIES_MAX);
        for (unsigned t = 0; t < p->try_count; t++)
            assert (contact_find (m, p->tries[t])->peer == p);
        if (p->state != PEER_MEMBER) {
            assert (p->contact == 0);
            continue;
        }
        assert (p->try_count == 0 && contact_find (m, p->contact)->peer == p);
        digest ^= bytes_get_u64le (p->id.bytes);
        members++;
    }
    for (size_t i = 0; i < m->contact_count; i++) {
        const struct contact *c = &m->contacts[i];
        if (!c->used)
            continue;
        seeking += !c->peer || c->peer->state != PEER_MEMBER;
        if (c->seed >= 0)
            assert (m->seeds[c->seed].contact == contact_number (m, c));
    }
    assert (digest == m->digest && members == m->member_count && seeking == m->seeking_contacts);
    assert (m->peer_count < MEMBERS_MAX && m->contact_count <= CONTACTS_MAX && seeking <= SEEKING_CONTACTS_MAX + members + 1);
}
