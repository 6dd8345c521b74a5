/* membership_table: see membership_table.h.
 *
 * Memory for actions is reserved when a peer or a contact is made, so that no event can fail half-way:
 * one event causes at most ACTIONS_PER_ENTRY actions for each of them. */

#include "membership_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "error.h"

enum { ACTIONS_PER_ENTRY = 4, ACTIONS_BASE = 16, GENERATION_MASK = 0x7fff, INDEX_BITS = 16 };

static_assert (CONTACTS_MAX < 1 << INDEX_BITS, "a contact's index fits the low half of its number");

/* --- Actions. */

static int actions_reserve (struct membership *m, size_t more_entries)
{
    const size_t wanted = ACTIONS_BASE + ACTIONS_PER_ENTRY * (m->peer_count + m->contact_count + more_entries);
    if (wanted <= m->action_size)
        return 0;
    const size_t size = 2 * wanted;
    struct membership_action *actions = realloc (m->actions, size * sizeof *actions);
    if (!actions)
        return -ENOMEM;
    m->actions = actions;
    m->action_size = size;
    return 0;
}

static struct membership_action *action_add (struct membership *m, enum membership_kind kind)
{
    assert (m->action_first + m->action_count < m->action_size);
    struct membership_action *a = &m->actions[m->action_first + m->action_count++];
    *a = (struct membership_action) { .kind = kind };
    return a;
}

void action_connect (struct membership *m, uint32_t contact)
{
    action_add (m, MEMBERSHIP_CONNECT)->contact = contact;
}

void action_send (struct membership *m, uint32_t contact, enum membership_message message)
{
    struct membership_action *a = action_add (m, MEMBERSHIP_SEND);
    a->contact = contact;
    a->message = message;
}

void action_node (struct membership *m, enum membership_kind kind, const struct peer *p)
{
    struct membership_action *a = action_add (m, kind);
    m->news++;
    a->node = p->id;
    a->said_goodbye = p->said_goodbye;
}

void action_self_changed (struct membership *m)
{
    m->news++;
    action_add (m, MEMBERSHIP_CHANGED)->node = m->self->node;
}

void action_notice (struct membership *m, enum membership_notice notice, const struct fm_id *node, uint64_t late_ms)
{
    struct membership_action *a = action_add (m, MEMBERSHIP_NOTICE);
    a->notice = notice;
    a->late_ms = late_ms;
    if (node)
        a->node = *node;
}

bool membership_take (struct membership *m, struct membership_action *ret_action)
{
    if (m->action_count == 0) {
        m->action_first = 0;
        return false;
    }
    struct membership_action *a = &m->actions[m->action_first++];
    m->action_count--;
    if (a->kind == MEMBERSHIP_CONNECT) {
        const struct contact *c = contact_find (m, a->contact);
        a->address = c ? c->address : NULL;
    }
    *ret_action = *a;
    return true;
}

/* --- Peers. */

static size_t peer_place (const struct membership *m, const struct fm_id *id)
{
    size_t low = 0, high = m->peer_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (memcmp (m->peers[middle]->id.bytes, id->bytes, ID_LEN) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct peer *peer_find (const struct membership *m, const struct fm_id *id)
{
    const size_t place = peer_place (m, id);
    return place < m->peer_count && id_equal (&m->peers[place]->id, id) ? m->peers[place] : NULL;
}

static bool make_room (struct membership *m)
{
    if (m->peer_count < MEMBERS_MAX - 1)        /* we are one too */
        return true;
    struct peer *oldest = NULL;
    for (size_t i = 0; i < m->peer_count; i++) {
        struct peer *p = m->peers[i];
        if (p->state == PEER_DEAD && (!oldest || p->died_ns < oldest->died_ns))
            oldest = p;
    }
    if (oldest)
        peer_remove (m, oldest);
    return oldest != NULL;
}

struct peer *peer_add (struct membership *m, struct peer_info *info)
{
    if (!make_room (m) || actions_reserve (m, 1) != 0)
        return NULL;
    if (m->peer_count == m->peer_size) {
        const size_t size = m->peer_size ? 2 * m->peer_size : 16;
        struct peer **peers = realloc (m->peers, size * sizeof (struct peer *));
        if (!peers)
            return NULL;
        m->peers = peers;
        m->peer_size = size;
    }
    struct peer *p = calloc (1, sizeof *p);
    if (!p)
        return NULL;
    p->id = info->node;
    p->info = info;
    p->state = PEER_SEEKING;
    const size_t place = peer_place (m, &p->id);
    memmove (&m->peers[place + 1], &m->peers[place], (m->peer_count - place) * sizeof (struct peer *));
    m->peers[place] = p;
    m->peer_count++;
    return p;
}

void peer_remove (struct membership *m, struct peer *p)
{
    assert (p->state != PEER_MEMBER);
    peer_drop_tries (m, p, 0);
    const size_t place = peer_place (m, &p->id);
    assert (m->peers[place] == p);
    m->peer_count--;
    memmove (&m->peers[place], &m->peers[place + 1], (m->peer_count - place) * sizeof (struct peer *));
    free (p->info);
    free (p);
}

void peer_take_info (struct peer *p, struct peer_info *info)
{
    assert (id_equal (&p->id, &info->node));
    free (p->info);
    p->info = info;
}

static uint64_t digest_part (const struct fm_id *id)
{
    return bytes_get_u64le (id->bytes);
}

void peer_set_state (struct membership *m, struct peer *p, enum peer_state state)
{
    if ((p->state == PEER_MEMBER) != (state == PEER_MEMBER)) {
        m->digest ^= digest_part (&p->id);
        if (state == PEER_MEMBER)
            m->member_count++;
        else
            m->member_count--;
    }
    p->state = state;
}

void peer_drop_tries (struct membership *m, struct peer *p, uint32_t but)
{
    for (unsigned i = p->try_count; i-- > 0;) {
        const uint32_t number = p->tries[i];
        if (number == but)
            contact_detach (m, number);
        else
            contact_close (m, number);
    }
    assert (p->try_count == 0);
}

/* --- Contacts. */

uint32_t contact_number (const struct membership *m, const struct contact *c)
{
    return (uint32_t) c->generation << INDEX_BITS | (uint32_t) (c - m->contacts);
}

struct contact *contact_find (const struct membership *m, uint32_t number)
{
    const size_t index = number & ((1u << INDEX_BITS) - 1);
    if (index >= m->contact_count)
        return NULL;
    struct contact *c = &m->contacts[index];
    return c->used && c->generation == number >> INDEX_BITS ? c : NULL;
}

/* One for each member, and those that are open towards nodes that have not answered. */
static_assert (MEMBERS_MAX + SEEKING_CONTACTS_MAX < CONTACTS_MAX, "there is always one");

static struct contact *free_contact (struct membership *m)
{
    for (size_t i = 0; i < m->contact_count; i++) {
        if (!m->contacts[i].used)
            return &m->contacts[i];
    }
    assert (m->contact_count < CONTACTS_MAX);
    if (m->contact_count == m->contact_size) {
        const size_t size = m->contact_size ? 2 * m->contact_size : 16;
        struct contact *contacts = realloc (m->contacts, size * sizeof *contacts);
        if (!contacts)
            return NULL;
        memset (contacts + m->contact_size, 0, (size - m->contact_size) * sizeof *contacts);
        m->contacts = contacts;
        m->contact_size = size;
    }
    return &m->contacts[m->contact_count++];
}

uint32_t contact_open (struct membership *m, uint64_t now_ns, const char *address, struct peer *peer, int seed)
{
    if (m->seeking_contacts >= SEEKING_CONTACTS_MAX || actions_reserve (m, 1) != 0)
        return 0;
    struct contact *c = free_contact (m);
    if (!c)
        return 0;
    /* Never 0, so that no number is; a number comes back after 32767 uses of its place. */
    const uint16_t generation = (uint16_t) (c->generation % GENERATION_MASK + 1);
    *c = (struct contact) { .used = true, .generation = generation, .seed = seed, .peer = peer, .opened_ns = now_ns };
    memcpy (c->address, address, strlen (address) + 1);
    m->seeking_contacts++;
    const uint32_t number = contact_number (m, c);
    if (peer) {
        assert (peer->try_count < TRIES_MAX);
        peer->tries[peer->try_count++] = number;
    }
    if (seed >= 0)
        m->seeds[seed].contact = number;
    action_connect (m, number);
    return number;
}

void contact_detach (struct membership *m, uint32_t number)
{
    struct contact *c = contact_find (m, number);
    assert (c && c->peer);
    struct peer *p = c->peer;
    c->peer = NULL;
    if (p->state == PEER_MEMBER && p->contact == number) {
        p->contact = 0;
        m->seeking_contacts++;
        return;
    }
    unsigned i = 0;
    while (i < p->try_count && p->tries[i] != number)
        i++;
    assert (i < p->try_count);              /* a contact's peer knows it */
    p->try_count--;
    memmove (&p->tries[i], &p->tries[i + 1], (p->try_count - i) * sizeof p->tries[0]);
}

void contact_close (struct membership *m, uint32_t number)
{
    struct contact *c = contact_find (m, number);
    assert (c);
    if (c->peer)
        contact_detach (m, number);
    if (c->seed >= 0)
        m->seeds[c->seed].contact = 0;
    c->used = false;
    m->seeking_contacts--;
    struct membership_action *a = action_add (m, MEMBERSHIP_CLOSE);
    a->contact = number;
}
