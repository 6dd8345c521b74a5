#include "membership_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chance.h"

enum { LINKS = 8192, MESSAGES = 65536 };

static uint64_t chance_state;

uint64_t world_chance (uint64_t below)
{
    return (chance_next (&chance_state) * UINT64_C (2685821657736338717) >> 16) % below;
}

/* --- The simulated world. */

struct message {
    enum world_kind kind;
    uint64_t at_ns;
    int link;
    uint32_t link_serial;
    bool to_listener;                   /* through the DEALER to the ROUTER; else an answer */
    struct fm_id node;
    uint64_t digest, version;
    size_t info_count;                  /* own info first (Hello, Welcome), then peers */
    struct peer_info *infos[GOSSIP_MAX + 1];
};

struct link {
    bool used, up;
    uint32_t serial;                    /* grows with each connection: what was under way is lost */
    int from;                           /* node; to whoever listens at the address */
    int to;                             /* while up */
    uint32_t contact;
    uint64_t up_at_ns;
    char address[ADDRESS_TEXT_MAX];
};

static struct {
    struct link links[LINKS];
    int link_count;                     /* highest used + 1 */
    struct message messages[MESSAGES];
    size_t message_count;               /* in the order in which they were sent */
} net;

struct world world;

struct peer_info *world_info (const struct fm_id *id, const char *address, const char *other, uint64_t version)
{
    char *control[] = { (char *) (uintptr_t) (other && *other ? other : address), (char *) (uintptr_t) address };
    char *live[] = { (char *) (uintptr_t) address };
    Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
    info.node = control_put_id (id);
    info.control = control;
    info.n_control = other && *other ? 2 : 1;
    info.live = live;
    info.n_live = 1;
    info.info_version = version;
    struct peer_info *ret = NULL;
    assert_int_equal (peer_info_read (&info, &ret), 0);
    return ret;
}

static struct peer_info *copy_info (const struct peer_info *info)
{
    Factmesh__NodeInfo message;
    Factmesh__JournalInfo journal;
    peer_info_write (info, &message, &journal);
    struct peer_info *ret = NULL;
    assert_int_equal (peer_info_read (&message, &ret), 0);
    return ret;
}

uint64_t world_setting (const char *name, uint64_t standard)
{
    const char *text = getenv (name);
    return text ? strtoull (text, NULL, 10) : standard;
}

void world_reset (uint64_t seed)
{
    memset (&world, 0, sizeof world);
    memset (&net, 0, sizeof net);
    chance_state = (seed + world_setting ("MEMBERSHIP_SALT", 0) * 1000003) * UINT64_C (0x9e3779b97f4a7c15) + 1;
    world.seed = seed;
    world.now_ns = 1000 * SECOND;
    world.latency_ns = 200000;
}

void world_start (int i, const char *seed, const char *seed2)
{
    struct world_node *n = &world.nodes[i];
    assert_null (n->m);
    for (int k = 0; k < ID_LEN; k++)
        n->id.bytes[k] = (uint8_t) world_chance (256);
    if (!*n->address)
        snprintf (n->address, sizeof n->address, "tcp://10.0.0.%d:7000", i + 1);
    n->up_count = 0;
    n->stopped = false;
    struct membership_options options = { .self = world_info (&n->id, n->address, n->other_address, 1), .ping_ms = PING_MS, .dead_ms = DEAD_MS };
    assert_int_equal (membership_new (&options, &n->m), 0);
    if (seed)
        assert_int_equal (membership_add_seed (n->m, seed), 0);
    if (seed2)
        assert_int_equal (membership_add_seed (n->m, seed2), 0);
    if (i >= world.count)
        world.count = i + 1;
}

static void free_message (struct message *m)
{
    for (size_t i = 0; i < m->info_count; i++)
        free (m->infos[i]);
    m->info_count = 0;
}

static int listener_at (const struct link *l)
{
    for (int i = 0; i < world.count; i++) {
        const struct world_node *n = &world.nodes[i];
        if (n->m && (strcmp (n->address, l->address) == 0 || strcmp (n->other_address, l->address) == 0)
            && n->island == world.nodes[l->from].island)
            return i;
    }
    /* A loopback address is everybody's own. */
    return strncmp (l->address, "tcp://127.", 10) == 0 ? l->from : -1;
}

static void link_down (struct link *l)
{
    if (!l->up)
        return;
    l->up = false;
    l->serial++;
    l->up_at_ns = world.now_ns + (100 + world_chance (900)) * MS;
    struct world_node *n = &world.nodes[l->from];
    if (n->m && !n->stopped)
        membership_writable (n->m, world.now_ns, l->contact, false);
}

void world_die (int i)
{
    struct world_node *n = &world.nodes[i];
    membership_destroy (&n->m);
    for (int k = 0; k < net.link_count; k++) {
        struct link *l = &net.links[k];
        if (l->used && l->from == i) {
            l->used = false;
            l->serial++;
        } else if (l->used && l->up && l->to == i) {
            link_down (l);
        }
    }
}

static struct message *post (enum world_kind kind, int link, bool to_listener)
{
    struct link *l = &net.links[link];
    if (!l->used || !l->up)
        return NULL;                    /* ZMQ_IMMEDIATE: refused, lost */
    assert_true (net.message_count < MESSAGES);
    struct message *m = &net.messages[net.message_count++];
    *m = (struct message) { .kind = kind, .link = link, .link_serial = l->serial, .to_listener = to_listener };
    m->at_ns = world.now_ns + world.latency_ns;     /* the same for all: so order holds, as it does on a connection */
    world.sent[kind]++;
    return m;
}

static void fill (struct message *m, const struct world_node *n, bool self, bool peers)
{
    if (self)
        m->infos[m->info_count++] = copy_info (membership_self (n->m));
    const struct peer_info *picked[GOSSIP_MAX];
    const size_t count = peers ? membership_pick (n->m, picked, GOSSIP_MAX) : 0;
    for (size_t i = 0; i < count; i++)
        m->infos[m->info_count++] = copy_info (picked[i]);
}

static int link_of (int from, uint32_t contact)
{
    for (int k = 0; k < net.link_count; k++) {
        if (net.links[k].used && net.links[k].from == from && net.links[k].contact == contact)
            return k;
    }
    return -1;
}

static void say (int i, const struct membership_action *a, int answer_link)
{
    static const enum world_kind kinds[] = { [SAY_HELLO] = HELLO, [SAY_WELCOME] = WELCOME, [SAY_WELCOME_PEERS] = WELCOME, [SAY_PEERS] = PEERS,
                                       [SAY_PING] = PING, [SAY_PONG] = PONG, [SAY_GOODBYE] = GOODBYE, [SAY_UNKNOWN_NODE] = UNKNOWN_NODE };
    const struct world_node *n = &world.nodes[i];
    const int link = a->contact ? link_of (i, a->contact) : answer_link;
    assert_true (link >= 0 && a->message != SAY_FULL);
    struct message *m = post (kinds[a->message], link, a->contact != 0);
    if (!m)
        return;
    m->node = n->id;
    m->digest = membership_digest (n->m);
    m->version = membership_self (n->m)->version;
    fill (m, n, m->kind == HELLO || m->kind == WELCOME, a->message == SAY_WELCOME_PEERS || a->message == SAY_PEERS);
}

static void note_up (struct world_node *n, const struct fm_id *id, bool up)
{
    size_t k = 0;
    while (k < n->up_count && !id_equal (&n->up[k], id))
        k++;
    assert_true (up == (k == n->up_count));     /* UP and DOWN of one node alternate */
    assert_false (id_equal (id, &n->id));
    if (up) {
        assert_true (n->up_count < NODES * 4);
        n->up[n->up_count++] = *id;
    } else {
        n->up[k] = n->up[--n->up_count];
        n->downs++;
    }
}

void world_act (int i, int answer_link)
{
    struct world_node *n = &world.nodes[i];
    struct membership_action a;
    while (membership_take (n->m, &a)) {
        switch (a.kind) {
        case MEMBERSHIP_CONNECT: {
            int k = 0;
            while (k < LINKS && net.links[k].used)
                k++;
            assert_true (k < LINKS);
            net.link_count = k >= net.link_count ? k + 1 : net.link_count;
            struct link *l = &net.links[k];
            if (!a.address)
                break;
            *l = (struct link) { .used = true, .from = i, .contact = a.contact, .serial = l->serial + 1,
                                 .up_at_ns = world.now_ns + world.latency_ns };
            memcpy (l->address, a.address, strlen (a.address) + 1);
            break;
        }
        case MEMBERSHIP_CLOSE: {
            const int k = link_of (i, a.contact);
            if (k >= 0) {
                net.links[k].used = false;
                net.links[k].serial++;
            }
            break;
        }
        case MEMBERSHIP_SEND:
            say (i, &a, answer_link);
            break;
        case MEMBERSHIP_UP:
        case MEMBERSHIP_DOWN:
            note_up (n, &a.node, a.kind == MEMBERSHIP_UP);
            break;
        case MEMBERSHIP_CHANGED:
            break;
        case MEMBERSHIP_NOTICE:
            n->notices[a.notice]++;
            break;
        }
    }
    membership_check (n->m);
    assert_int_equal (n->up_count + 1, membership_count (n->m));
}

/* A message arrives; its infos are given away. */
static void deliver (struct message *msg)
{
    struct link *l = &net.links[msg->link];
    const int i = msg->to_listener ? l->to : l->from;
    struct world_node *n = &world.nodes[i];
    const uint64_t now_ns = world.now_ns;
    const uint32_t contact = l->contact;
    size_t next = 0;
    switch (msg->kind) {
    case HELLO:
        membership_hello (n->m, now_ns, msg->infos[next++]);
        break;
    case WELCOME:
        membership_welcome (n->m, now_ns, contact, msg->infos[next++]);
        break;
    case PING:
        membership_ping (n->m, now_ns, &msg->node, msg->digest, msg->version);
        break;
    case PONG:
        membership_pong (n->m, now_ns, contact, &msg->node, msg->digest);
        break;
    case GOODBYE:
        membership_goodbye (n->m, now_ns, &msg->node);
        break;
    case UNKNOWN_NODE:
        membership_unknown_node (n->m, now_ns, contact);
        break;
    case PEERS:
        break;
    }
    world_act (i, msg->link);
    for (; next < msg->info_count; next++) {
        membership_gossip (n->m, now_ns, msg->infos[next]);
        world_act (i, msg->link);
    }
    msg->info_count = 0;
    if (!msg->to_listener) {
        membership_sign_of_life (n->m, now_ns, contact);
        world_act (i, msg->link);
    }
}

static bool lost (const struct message *m)
{
    const struct link *l = &net.links[m->link];
    return !l->used || !l->up || l->serial != m->link_serial;
}

static void step_links (void)
{
    for (int k = 0; k < net.link_count; k++) {
        struct link *l = &net.links[k];
        if (!l->used || world.nodes[l->from].stopped)
            continue;
        const int to = listener_at (l);
        if (l->up && (to != l->to || (world.break_one_in && world_chance (world.break_one_in) == 0))) {
            link_down (l);
            world_act (l->from, -1);
        } else if (!l->up && l->up_at_ns <= world.now_ns) {
            l->up_at_ns = world.now_ns + (100 + world_chance (900)) * MS;
            if (to < 0)
                continue;
            l->up = true;
            l->to = to;
            l->serial++;
            membership_writable (world.nodes[l->from].m, world.now_ns, l->contact, true);
            world_act (l->from, -1);
        }
    }
}

/* A quarter of a millisecond at a time where messages move, else to what is next. */
void world_run (uint64_t ns)
{
    const uint64_t end_ns = world.now_ns + ns;
    while (world.now_ns < end_ns) {
        world.now_ns += net.message_count ? MS / 4 : 2 * MS;
        step_links ();
        /* In the order in which they were sent. What comes meanwhile is later. */
        size_t kept = 0;
        const size_t count = net.message_count;
        static struct message now[MESSAGES];
        size_t now_count = 0;
        for (size_t k = 0; k < count; k++) {
            struct message *m = &net.messages[k];
            const bool gone = lost (m);
            const struct link *l = &net.links[m->link];
            const bool waits = !gone && (m->at_ns > world.now_ns || world.nodes[m->to_listener ? l->to : l->from].stopped);
            if (waits)
                net.messages[kept++] = *m;
            else if (gone)
                free_message (m);
            else
                now[now_count++] = *m;
        }
        net.message_count = kept;
        for (size_t k = 0; k < now_count; k++) {
            if (!lost (&now[k]))
                deliver (&now[k]);
            free_message (&now[k]);
        }
        for (int i = 0; i < world.count; i++) {
            struct world_node *n = &world.nodes[i];
            if (n->m && !n->stopped && membership_due (n->m) <= world.now_ns) {
                membership_tick (n->m, world.now_ns);
                world_act (i, -1);
            }
        }
    }
}

static bool knows_exactly (int i)
{
    const struct world_node *n = &world.nodes[i];
    size_t alive = 0;
    for (int k = 0; k < world.count; k++) {
        const struct world_node *o = &world.nodes[k];
        if (!o->m || o->island != n->island)
            continue;
        struct membership_member member;
        alive++;
        if (k != i && !membership_find (n->m, &o->id, &member))
            return false;
    }
    return membership_count (n->m) == alive;
}

bool world_converged (void)
{
    for (int i = 0; i < world.count; i++) {
        if (world.nodes[i].m && !knows_exactly (i))
            return false;
    }
    return true;
}

uint64_t world_run_until_converged (uint64_t most_ns)
{
    const uint64_t begun_ns = world.now_ns;
    while (!world_converged ()) {
        if (world.now_ns - begun_ns > most_ns) {
            for (int i = 0; i < world.count; i++) {
                if (world.nodes[i].m)
                    print_error ("node %d: %zu members\n", i, membership_count (world.nodes[i].m));
            }
            fail_msg ("world %llu: not all know each other after %.1f s", (unsigned long long) world.seed, (double) most_ns / 1e9);
        }
        world_run (20 * MS);
    }
    return world.now_ns - begun_ns;
}

void world_end (void)
{
    for (int i = 0; i < world.count; i++) {
        if (world.nodes[i].m)
            world_die (i);
    }
    for (size_t k = 0; k < net.message_count; k++)
        free_message (&net.messages[k]);
    net.message_count = 0;
}
