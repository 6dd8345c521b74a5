/* membership: the rules. States and invariants: membership.h; the tables: membership_table.h.
 *
 * Which function takes each arrow: seek (to SEEKING), join (to MEMBER), peer_bury (to DEAD).
 *
 * Both sides of a pair ping each other only when they have said nothing for ping_ms, and Pong counts as said: an idle pair exchanges one Ping
 * and one Pong a period, not two. Every PING_ALWAYS periods each side pings all the same, so that its own connection is tried and its
 * info's version is known. */

#include "membership.h"
#include "membership_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "error.h"

/* --- Making and looking. */

int membership_new (const struct membership_options *options, struct membership **ret_membership)
{
    struct membership *m = calloc (1, sizeof *m);
    if (!m)
        return -ENOMEM;
    m->seeds = calloc (SEEDS_MAX, sizeof *m->seeds);
    /* Room for what the first event of an empty table may cause: a contact for each seed. */
    m->action_size = 4 * SEEDS_MAX;
    m->actions = calloc (m->action_size, sizeof *m->actions);
    if (!m->seeds || !m->actions) {
        membership_destroy (&m);
        return -ENOMEM;
    }
    m->self = options->self;
    m->ping_ns = options->ping_ms * MS_NS;
    m->dead_ns = options->dead_ms * MS_NS;
    m->digest = bytes_get_u64le (m->self->node.bytes);
    m->push_ns = NEVER;
    m->due_ns = 0;          /* the first tick asks the seeds */
    *ret_membership = m;
    return 0;
}

void membership_destroy (struct membership **membership)
{
    struct membership *m = *membership;
    if (!m)
        return;
    for (size_t i = 0; i < m->peer_count; i++) {
        free (m->peers[i]->info);
        free (m->peers[i]);
    }
    free (m->peers);
    free (m->contacts);
    free (m->seeds);
    free (m->actions);
    free (m->self);
    free (m);
    *membership = NULL;
}

int membership_add_seed (struct membership *m, const char *address)
{
    if (m->seed_count == SEEDS_MAX)
        return error_set (FM_ERR_LIMIT, "more than %d seeds", SEEDS_MAX);
    for (size_t i = 0; i < m->seed_count; i++) {
        if (strcmp (m->seeds[i].address, address) == 0)
            return 0;
    }
    struct seed *s = &m->seeds[m->seed_count++];
    assert (strlen (address) < sizeof s->address);
    memcpy (s->address, address, strlen (address) + 1);
    return 0;
}

const struct peer_info *membership_self (const struct membership *m)
{
    return m->self;
}

uint64_t membership_news (const struct membership *m)
{
    return m->news;
}

uint64_t membership_digest (const struct membership *m)
{
    return m->digest;
}

size_t membership_count (const struct membership *m)
{
    return m->member_count + 1;
}

static void show_member (const struct membership *m, const struct peer *p, struct membership_member *ret_member)
{
    const struct contact *c = contact_find (m, p->contact);
    assert (c);
    *ret_member = (struct membership_member) { .info = p->info, .address = c->address, .contact = p->contact,
                                             .heard_ns = p->data_ns > p->heard_ns ? p->data_ns : p->heard_ns };
}

bool membership_next (const struct membership *m, size_t *cursor, struct membership_member *ret_member)
{
    while (*cursor < m->peer_count) {
        const struct peer *p = m->peers[(*cursor)++];
        if (p->state == PEER_MEMBER) {
            show_member (m, p, ret_member);
            return true;
        }
    }
    return false;
}

bool membership_find (const struct membership *m, const struct fm_id *node, struct membership_member *ret_member)
{
    const struct peer *p = peer_find (m, node);
    if (!p || p->state != PEER_MEMBER)
        return false;
    show_member (m, p, ret_member);
    return true;
}

size_t membership_pick (struct membership *m, const struct peer_info **ret_infos, size_t max)
{
    size_t picked = 0;
    for (size_t seen = 0; seen < m->peer_count && picked < max; seen++) {
        m->rotor = (m->rotor + 1) % m->peer_count;
        if (m->peers[m->rotor]->state == PEER_MEMBER)
            ret_infos[picked++] = m->peers[m->rotor]->info;
    }
    return picked;
}

bool membership_seed (const struct membership *m, size_t index, const char **ret_address, enum membership_seed_state *ret_state)
{
    if (index >= m->seed_count)
        return false;
    *ret_address = m->seeds[index].address;
    *ret_state = m->seeds[index].state;
    return true;
}

/* --- Saying things. */

void contact_say_hello (struct membership *m, uint64_t now_ns, uint32_t contact)
{
    struct contact *c = contact_find (m, contact);
    assert (c);
    if (c->hello_ns != 0 && now_ns - c->hello_ns < HELLO_LEAST_MS * MS_NS)
        return;
    c->hello_ns = now_ns;
    due_by (m, now_ns + HELLO_AGAIN_MS * MS_NS);
    action_send (m, contact, SAY_HELLO);
}

/* Our members differ from theirs: tell some. While both digests stay as they are (somebody reaches what the other doesn't) ever more rarely. */
static void say_peers (struct membership *m, uint64_t now_ns, struct peer *p, uint64_t their_digest, uint32_t contact)
{
    if (their_digest == m->digest || m->member_count < 2)
        return;
    const uint64_t digests = their_digest ^ m->digest;
    if (p->told_digests == digests && now_ns - p->told_ns < p->told_wait_ns)
        return;
    p->told_wait_ns = p->told_digests != digests ? m->ping_ns : p->told_wait_ns < 16 * m->ping_ns ? 2 * p->told_wait_ns : p->told_wait_ns;
    p->told_digests = digests;
    p->told_ns = now_ns;
    action_send (m, contact, SAY_PEERS);
}

/* --- The three arrows. */

/* Open contacts to a peer's addresses: the next one each STAGGER_MS, the oldest gives way. */
void peer_try_next_address (struct membership *m, uint64_t now_ns, struct peer *p)
{
    p->try_ns = now_ns + STAGGER_MS * MS_NS;
    due_by (m, p->try_ns);
    if (p->try_count >= p->info->control_count)
        return;             /* all are being asked */
    if (p->try_count == TRIES_MAX)
        contact_close (m, p->tries[0]);
    const char *address = p->info->control[p->next_address++ % p->info->control_count];
    for (unsigned i = 0; i < p->try_count; i++) {
        if (strcmp (contact_find (m, p->tries[i])->address, address) == 0)
            return;         /* its info changed meanwhile, and named this one again */
    }
    (void) contact_open (m, now_ns, address, p, -1);    /* no room: the next turn tries again */
}

static void seek (struct membership *m, uint64_t now_ns, struct peer *p)
{
    assert (p->state != PEER_MEMBER);
    peer_set_state (m, p, PEER_SEEKING);
    p->since_ns = p->sought_ns = now_ns;
    p->next_address = 0;
    p->said_goodbye = false;
    peer_try_next_address (m, now_ns, p);
}

/* The seeds that a contact stands for know now who is there. */
static void seed_joined (struct membership *m, struct contact *c, const struct fm_id *node)
{
    if (c->seed < 0)
        return;
    struct seed *s = &m->seeds[c->seed];
    s->state = SEED_JOINED;
    s->node = *node;
    s->contact = 0;
    c->seed = -1;
}

static void join (struct membership *m, uint64_t now_ns, struct peer *p, uint32_t number)
{
    struct contact *c = contact_find (m, number);
    assert (c && p->state != PEER_MEMBER);
    peer_drop_tries (m, p, c->peer == p ? number : 0);
    assert (!c->peer);                      /* nor is it thought to be another's */
    seed_joined (m, c, &p->id);
    peer_set_state (m, p, PEER_MEMBER);
    p->contact = number;
    c->peer = p;
    m->seeking_contacts--;
    p->heard_ns = p->said_ns = p->pinged_ns = now_ns;
    due_by (m, now_ns + m->ping_ns);
    p->told_digests = 0;
    p->said_goodbye = p->unreachable_told = false;
    action_node (m, MEMBERSHIP_UP, p);
    /* Who joins at the same time as others was told of none of them: let the digests meet now, not after ping_ms. */
    action_send (m, number, SAY_PING);
}

void peer_bury (struct membership *m, uint64_t now_ns, struct peer *p, bool said_goodbye)
{
    const bool was_member = p->state == PEER_MEMBER;
    p->said_goodbye = said_goodbye;
    if (was_member && p->contact)
        contact_close (m, p->contact);
    peer_drop_tries (m, p, 0);
    peer_set_state (m, p, PEER_DEAD);
    p->died_ns = now_ns;
    p->retry_wait_ns = RETRY_MS * MS_NS;
    p->retry_ns = was_member && !said_goodbye ? now_ns + p->retry_wait_ns : NEVER;
    due_by (m, p->retry_ns == NEVER ? now_ns + TOMBSTONE_MS * MS_NS : p->retry_ns);
    if (!was_member)
        return;
    action_node (m, MEMBERSHIP_DOWN, p);
    for (size_t i = 0; i < m->seed_count; i++) {
        struct seed *s = &m->seeds[i];
        if (s->state == SEED_JOINED && id_equal (&s->node, &p->id)) {
            s->state = SEED_SILENT;
            s->due_ns = now_ns;
            due_by (m, now_ns);
        }
    }
}

/* --- Events from the ROUTER. */

static void take_own_info (struct membership *m, struct peer *p, struct peer_info *info)
{
    if (info->version < p->info->version) {
        free (info);        /* it was overtaken on another connection */
        return;
    }
    const bool same = peer_info_same (p->info, info);
    peer_take_info (p, info);
    if (!same && p->state == PEER_MEMBER)
        action_node (m, MEMBERSHIP_CHANGED, p);
}

void membership_hello (struct membership *m, uint64_t now_ns, struct peer_info *info)
{
    if (id_equal (&info->node, &m->self->node)) {
        free (info);
        action_send (m, 0, SAY_WELCOME);    /* that contact shall learn whom it has reached */
        return;
    }
    struct peer *p = peer_find (m, &info->node);
    if (p) {
        take_own_info (m, p, info);
    } else {
        p = peer_add (m, info);
        if (!p) {
            action_notice (m, NOTICE_FULL, &info->node, 0);
            action_send (m, 0, SAY_FULL);
            free (info);
            return;
        }
        seek (m, now_ns, p);
    }
    if (p->state == PEER_MEMBER) {
        p->heard_ns = now_ns;
        action_send (m, 0, SAY_WELCOME);
        return;
    }
    if (p->state == PEER_DEAD)
        seek (m, now_ns, p);
    p->sought_ns = now_ns;
    action_send (m, 0, SAY_WELCOME_PEERS);
}

void membership_ping (struct membership *m, uint64_t now_ns, const struct fm_id *node, uint64_t digest, uint64_t version)
{
    if (id_equal (node, &m->self->node))
        return;
    struct peer *p = peer_find (m, node);
    if (!p || p->state == PEER_DEAD) {
        action_send (m, 0, SAY_UNKNOWN_NODE);
        return;
    }
    action_send (m, 0, SAY_PONG);
    if (p->state == PEER_SEEKING) {
        p->sought_ns = now_ns;
        return;
    }
    p->heard_ns = p->said_ns = now_ns;
    say_peers (m, now_ns, p, digest, 0);
    if (version > p->info->version)
        contact_say_hello (m, now_ns, p->contact);      /* its Welcome brings the new info */
}

void membership_goodbye (struct membership *m, uint64_t now_ns, const struct fm_id *node)
{
    struct peer *p = peer_find (m, node);
    if (p && p->state != PEER_DEAD)
        peer_bury (m, now_ns, p, true);
}

/* --- Events from a contact. */

void membership_writable (struct membership *m, uint64_t now_ns, uint32_t contact, bool writable)
{
    struct contact *c = contact_find (m, contact);
    if (!c || c->writable == writable)
        return;
    c->writable = writable;
    /* A new connection, perhaps to a new process at the old address: ask who is there. */
    if (writable)
        contact_say_hello (m, now_ns, contact);
}

void membership_unopened (struct membership *m, uint64_t now_ns, uint32_t contact)
{
    struct contact *c = contact_find (m, contact);
    if (!c)
        return;
    c->reopen_wait_ns = !c->reopen_wait_ns ? RETRY_MS * MS_NS : 2 * c->reopen_wait_ns < RETRY_MAX_MS * MS_NS ? 2 * c->reopen_wait_ns : RETRY_MAX_MS * MS_NS;
    c->reopen_ns = now_ns + c->reopen_wait_ns;
    due_by (m, c->reopen_ns);
}

/* A contact reached ourselves: a seed that names us, or a peer's loopback address. */
static void reached_self (struct membership *m, uint32_t contact)
{
    struct contact *c = contact_find (m, contact);
    if (c->seed >= 0)
        m->seeds[c->seed].state = SEED_SELF;
    if (c->peer && c->peer->state == PEER_MEMBER) {
        /* Its address is ours now; that can't be, save that somebody plays with packets. Its silence will tell. */
        return;
    }
    contact_close (m, contact);
}

/* Another node than the one that we took this contact for answered: it is not at this address (any more). */
static void mistaken (struct membership *m, uint64_t now_ns, uint32_t contact)
{
    struct peer *p = contact_find (m, contact)->peer;
    contact_detach (m, contact);
    if (p->state == PEER_MEMBER) {
        action_notice (m, NOTICE_REPLACED, &p->id, 0);
        peer_bury (m, now_ns, p, false);
    } else if (p->state == PEER_DEAD && p->info->control_count == 1) {
        p->retry_ns = NEVER;        /* its only address is somebody else's */
    }
}

void membership_welcome (struct membership *m, uint64_t now_ns, uint32_t contact, struct peer_info *info)
{
    struct contact *c = contact_find (m, contact);
    if (!c) {
        free (info);
        return;
    }
    if (id_equal (&info->node, &m->self->node)) {
        reached_self (m, contact);
        free (info);
        return;
    }
    if (c->peer && !id_equal (&c->peer->id, &info->node))
        mistaken (m, now_ns, contact);
    struct peer *p = peer_find (m, &info->node);
    if (p) {
        take_own_info (m, p, info);
    } else {
        p = peer_add (m, info);
        if (!p) {
            action_notice (m, NOTICE_FULL, &info->node, 0);
            free (info);
            contact_close (m, contact);
            return;
        }
    }
    if (p->state != PEER_MEMBER) {
        join (m, now_ns, p, contact);
        return;
    }
    p->heard_ns = now_ns;
    if (p->contact != contact) {
        seed_joined (m, contact_find (m, contact), &p->id);
        contact_close (m, contact);         /* one is enough */
    }
}

void membership_pong (struct membership *m, uint64_t now_ns, uint32_t contact, const struct fm_id *node, uint64_t digest)
{
    struct contact *c = contact_find (m, contact);
    if (!c || !c->peer)
        return;
    struct peer *p = c->peer;
    if (!id_equal (&p->id, node)) {
        mistaken (m, now_ns, contact);
        contact_say_hello (m, now_ns, contact);
        return;
    }
    if (p->state != PEER_MEMBER)
        return;
    p->heard_ns = now_ns;
    say_peers (m, now_ns, p, digest, contact);
}

void membership_unknown_node (struct membership *m, uint64_t now_ns, uint32_t contact)
{
    if (!contact_find (m, contact))
        return;
    membership_sign_of_life (m, now_ns, contact);
    contact_say_hello (m, now_ns, contact);
}

void membership_refused (struct membership *m, uint64_t now_ns, uint32_t contact, int code)
{
    struct contact *c = contact_find (m, contact);
    if (!c)
        return;
    if (c->seed >= 0) {
        struct seed *s = &m->seeds[c->seed];
        s->state = code == FM_ERR_VERSION ? SEED_OTHER_VERSION : SEED_FOREIGN;
        s->due_ns = now_ns + REFUSED_MS * MS_NS;
        due_by (m, s->due_ns);
    }
    if (c->peer)
        mistaken (m, now_ns, contact);
    contact_close (m, contact);
}

void membership_sign_of_life (struct membership *m, uint64_t now_ns, uint32_t contact)
{
    struct contact *c = contact_find (m, contact);
    if (c && c->peer && c->peer->state == PEER_MEMBER)
        c->peer->heard_ns = now_ns;
}

void membership_data (struct membership *m, uint64_t now_ns, const struct fm_id *node)
{
    struct peer *p = peer_find (m, node);
    if (p)
        p->data_ns = now_ns;
}

/* --- Hearsay. */

void membership_gossip (struct membership *m, uint64_t now_ns, struct peer_info *info)
{
    struct peer *p = peer_find (m, &info->node);
    const bool entombed = p && p->state == PEER_DEAD && now_ns - p->died_ns < TOMBSTONE_MS * MS_NS;
    if (id_equal (&info->node, &m->self->node) || entombed) {
        free (info);
        return;
    }
    if (!p) {
        p = peer_add (m, info);
        if (!p) {
            action_notice (m, NOTICE_FULL, &info->node, 0);
            free (info);
            return;
        }
        seek (m, now_ns, p);
        return;
    }
    if (p->state == PEER_MEMBER) {
        if (info->version > p->info->version)
            contact_say_hello (m, now_ns, p->contact);  /* of a member only its own word counts */
        free (info);
        return;
    }
    if (info->version > p->info->version)
        peer_take_info (p, info);
    else
        free (info);
    if (p->state == PEER_DEAD)
        seek (m, now_ns, p);
}

void membership_beacon (struct membership *m, uint64_t now_ns, struct peer_info *info)
{
    struct peer *p = peer_find (m, &info->node);
    /* Its own sign of life, but for one that may have been under way when it said goodbye. It has one address and no version: what we know is better. */
    if (p && p->state == PEER_DEAD && !(p->said_goodbye && now_ns - p->died_ns < TOMBSTONE_MS * MS_NS))
        seek (m, now_ns, p);
    if (p)
        free (info);
    else
        membership_gossip (m, now_ns, info);
}

/* --- Our own info. */

void self_push (struct membership *m, uint64_t now_ns)
{
    if (m->push_ns > now_ns)
        return;
    m->push_ns = NEVER;
    m->pushed_ns = now_ns;
    for (size_t i = 0; i < m->peer_count; i++) {
        if (m->peers[i]->state == PEER_MEMBER)
            action_send (m, m->peers[i]->contact, SAY_HELLO);
    }
}

void membership_self_changed (struct membership *m, uint64_t now_ns)
{
    m->self->version++;
    if (m->push_ns == NEVER)
        m->push_ns = m->pushed_ns && now_ns - m->pushed_ns < PUSH_MS * MS_NS ? m->pushed_ns + PUSH_MS * MS_NS : now_ns;
    due_by (m, m->push_ns);
    self_push (m, now_ns);
}

void membership_set_journal (struct membership *m, uint64_t now_ns, const struct fm_id *journal, uint64_t generation)
{
    m->self->is_journal = true;
    m->self->journal = *journal;
    m->self->generation = generation;
    action_self_changed (m);
    membership_self_changed (m, now_ns);
}

void membership_close (struct membership *m)
{
    for (size_t i = 0; i < m->contact_count; i++) {
        if (m->contacts[i].used && m->contacts[i].writable)
            action_send (m, contact_number (m, &m->contacts[i]), SAY_GOODBYE);
    }
}
