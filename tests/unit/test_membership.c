/* membership: meshes of machines in a simulated network and virtual time.
 *
 * The network: nodes listen at addresses; a contact is a connection that takes time to stand up, carries messages in order, both ways, and
 * breaks when a process dies, a cut comes between, or chance wants it; what is under way is lost then. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bytes.h"
#include "error.h"
#include "membership.h"

enum { NODES = 24, LINKS = 8192, MESSAGES = 65536, PING_MS = 500, DEAD_MS = 2500 };

#define MS UINT64_C (1000000)
#define SECOND (1000 * MS)

/* --- Chance, the same for the same seed. */

static uint64_t chance_state;

static uint64_t chance (uint64_t below)
{
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (chance_state * UINT64_C (2685821657736338717) >> 16) % below;
}

/* --- The simulated world. */

enum kind { HELLO = 1, WELCOME, PEERS, PING, PONG, GOODBYE, UNKNOWN_NODE };

struct message {
    enum kind kind;
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

struct node {
    struct membership *m;               /* NULL: no process */
    struct fm_id id;
    char address[64], other_address[64];
    bool stopped;                       /* SIGSTOP */
    int island;                         /* nodes of one island reach each other */
    struct fm_id up[NODES * 4];         /* whom its UP and DOWN tell to be up */
    size_t up_count;
    uint64_t downs, notices[8];
};

static struct {
    uint64_t seed, now_ns;
    struct node nodes[NODES];
    int count;
    struct link links[LINKS];
    int link_count;                     /* highest used + 1 */
    struct message messages[MESSAGES];
    size_t message_count;               /* in the order in which they were sent */
    uint64_t latency_ns;
    unsigned break_one_in;              /* 0: connections never break by chance */
    uint64_t sent[8];
} world;

static struct peer_info *make_info (const struct fm_id *id, const char *address, const char *other, uint64_t version)
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

/* In the environment: MEMBERSHIP_SALT other chances for all cases; MEMBERSHIP_SEED, MEMBERSHIP_ROUNDS other, more random meshes. */
static uint64_t setting (const char *name, uint64_t standard)
{
    const char *text = getenv (name);
    return text ? strtoull (text, NULL, 10) : standard;
}

static void world_reset (uint64_t seed)
{
    memset (&world, 0, sizeof world);
    chance_state = (seed + setting ("MEMBERSHIP_SALT", 0) * 1000003) * UINT64_C (0x9e3779b97f4a7c15) + 1;
    world.seed = seed;
    world.now_ns = 1000 * SECOND;
    world.latency_ns = 200000;
}

static void start (int i, const char *seed, const char *seed2)
{
    struct node *n = &world.nodes[i];
    assert_null (n->m);
    for (int k = 0; k < ID_LEN; k++)
        n->id.bytes[k] = (uint8_t) chance (256);
    if (!*n->address)
        snprintf (n->address, sizeof n->address, "tcp://10.0.0.%d:7000", i + 1);
    n->up_count = 0;
    n->stopped = false;
    struct membership_options options = { .self = make_info (&n->id, n->address, n->other_address, 1), .ping_ms = PING_MS, .dead_ms = DEAD_MS };
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
        const struct node *n = &world.nodes[i];
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
    l->up_at_ns = world.now_ns + (100 + chance (900)) * MS;
    struct node *n = &world.nodes[l->from];
    if (n->m && !n->stopped)
        membership_writable (n->m, world.now_ns, l->contact, false);
}

/* The process is gone, without a word. */
static void die (int i)
{
    struct node *n = &world.nodes[i];
    membership_destroy (&n->m);
    for (int k = 0; k < world.link_count; k++) {
        struct link *l = &world.links[k];
        if (l->used && l->from == i) {
            l->used = false;
            l->serial++;
        } else if (l->used && l->up && l->to == i) {
            link_down (l);
        }
    }
}

static struct message *post (enum kind kind, int link, bool to_listener)
{
    struct link *l = &world.links[link];
    if (!l->used || !l->up)
        return NULL;                    /* ZMQ_IMMEDIATE: refused, lost */
    assert_true (world.message_count < MESSAGES);
    struct message *m = &world.messages[world.message_count++];
    *m = (struct message) { .kind = kind, .link = link, .link_serial = l->serial, .to_listener = to_listener };
    m->at_ns = world.now_ns + world.latency_ns;     /* the same for all: so order holds, as it does on a connection */
    world.sent[kind]++;
    return m;
}

static void fill (struct message *m, const struct node *n, bool self, bool peers)
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
    for (int k = 0; k < world.link_count; k++) {
        if (world.links[k].used && world.links[k].from == from && world.links[k].contact == contact)
            return k;
    }
    return -1;
}

static void say (int i, const struct membership_action *a, int answer_link)
{
    static const enum kind kinds[] = { [SAY_HELLO] = HELLO, [SAY_WELCOME] = WELCOME, [SAY_WELCOME_PEERS] = WELCOME, [SAY_PEERS] = PEERS,
                                       [SAY_PING] = PING, [SAY_PONG] = PONG, [SAY_GOODBYE] = GOODBYE, [SAY_UNKNOWN_NODE] = UNKNOWN_NODE };
    const struct node *n = &world.nodes[i];
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

static void note_up (struct node *n, const struct fm_id *id, bool up)
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

static void act (int i, int answer_link)
{
    struct node *n = &world.nodes[i];
    struct membership_action a;
    while (membership_take (n->m, &a)) {
        switch (a.kind) {
        case MEMBERSHIP_CONNECT: {
            int k = 0;
            while (k < LINKS && world.links[k].used)
                k++;
            assert_true (k < LINKS);
            world.link_count = k >= world.link_count ? k + 1 : world.link_count;
            struct link *l = &world.links[k];
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
                world.links[k].used = false;
                world.links[k].serial++;
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
    struct link *l = &world.links[msg->link];
    const int i = msg->to_listener ? l->to : l->from;
    struct node *n = &world.nodes[i];
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
    act (i, msg->link);
    for (; next < msg->info_count; next++) {
        membership_gossip (n->m, now_ns, msg->infos[next]);
        act (i, msg->link);
    }
    msg->info_count = 0;
    if (!msg->to_listener) {
        membership_sign_of_life (n->m, now_ns, contact);
        act (i, msg->link);
    }
}

static bool lost (const struct message *m)
{
    const struct link *l = &world.links[m->link];
    return !l->used || !l->up || l->serial != m->link_serial;
}

static void step_links (void)
{
    for (int k = 0; k < world.link_count; k++) {
        struct link *l = &world.links[k];
        if (!l->used || world.nodes[l->from].stopped)
            continue;
        const int to = listener_at (l);
        if (l->up && (to != l->to || (world.break_one_in && chance (world.break_one_in) == 0))) {
            link_down (l);
            act (l->from, -1);
        } else if (!l->up && l->up_at_ns <= world.now_ns) {
            l->up_at_ns = world.now_ns + (100 + chance (900)) * MS;
            if (to < 0)
                continue;
            l->up = true;
            l->to = to;
            l->serial++;
            membership_writable (world.nodes[l->from].m, world.now_ns, l->contact, true);
            act (l->from, -1);
        }
    }
}

/* Run for a while, a quarter of a millisecond at a time where messages move, else to what is next. */
static void run (uint64_t ns)
{
    const uint64_t end_ns = world.now_ns + ns;
    while (world.now_ns < end_ns) {
        world.now_ns += world.message_count ? MS / 4 : 2 * MS;
        step_links ();
        /* In the order in which they were sent. What comes meanwhile is later. */
        size_t kept = 0;
        const size_t count = world.message_count;
        static struct message now[MESSAGES];
        size_t now_count = 0;
        for (size_t k = 0; k < count; k++) {
            struct message *m = &world.messages[k];
            const bool gone = lost (m);
            const struct link *l = &world.links[m->link];
            const bool waits = !gone && (m->at_ns > world.now_ns || world.nodes[m->to_listener ? l->to : l->from].stopped);
            if (waits)
                world.messages[kept++] = *m;
            else if (gone)
                free_message (m);
            else
                now[now_count++] = *m;
        }
        world.message_count = kept;
        for (size_t k = 0; k < now_count; k++) {
            if (!lost (&now[k]))
                deliver (&now[k]);
            free_message (&now[k]);
        }
        for (int i = 0; i < world.count; i++) {
            struct node *n = &world.nodes[i];
            if (n->m && !n->stopped && membership_due (n->m) <= world.now_ns) {
                membership_tick (n->m, world.now_ns);
                act (i, -1);
            }
        }
    }
}

static bool knows_exactly (int i)
{
    const struct node *n = &world.nodes[i];
    size_t alive = 0;
    for (int k = 0; k < world.count; k++) {
        const struct node *o = &world.nodes[k];
        if (!o->m || o->island != n->island)
            continue;
        struct membership_member member;
        alive++;
        if (k != i && !membership_find (n->m, &o->id, &member))
            return false;
    }
    return membership_count (n->m) == alive;
}

static bool converged (void)
{
    for (int i = 0; i < world.count; i++) {
        if (world.nodes[i].m && !knows_exactly (i))
            return false;
    }
    return true;
}

/* Run until all know exactly those that live; fail after so long. Returns how long it took. */
static uint64_t run_until_converged (uint64_t most_ns)
{
    const uint64_t begun_ns = world.now_ns;
    while (!converged ()) {
        if (world.now_ns - begun_ns > most_ns) {
            for (int i = 0; i < world.count; i++) {
                if (world.nodes[i].m)
                    print_error ("node %d: %zu members\n", i, membership_count (world.nodes[i].m));
            }
            fail_msg ("world %llu: not all know each other after %.1f s", (unsigned long long) world.seed, (double) most_ns / 1e9);
        }
        run (20 * MS);
    }
    return world.now_ns - begun_ns;
}

static void world_end (void)
{
    for (int i = 0; i < world.count; i++) {
        if (world.nodes[i].m)
            die (i);
    }
    for (size_t k = 0; k < world.message_count; k++)
        free_message (&world.messages[k]);
    world.message_count = 0;
}

/* --- What it promises. */

static void all_find_each_other_through_one_seed (void **state)
{
    (void) state;
    world_reset (1);
    start (0, NULL, NULL);
    for (int i = 1; i < 20; i++)
        start (i, world.nodes[0].address, NULL);
    assert_true (run_until_converged (5 * SECOND) < PING_MS * MS);      /* and needs no ping's turn for it */
    /* The seed dies; one more comes through another. */
    die (0);
    start (20, world.nodes[7].address, NULL);
    assert_true (run_until_converged (10 * SECOND) < 5 * SECOND);
    world_end ();
}

static void a_chain_of_seeds_is_one_mesh (void **state)
{
    (void) state;
    world_reset (2);
    start (0, NULL, NULL);
    for (int i = 1; i < NODES; i++)
        start (i, world.nodes[i - 1].address, NULL);
    run_until_converged (5 * SECOND);
    world_end ();
}

static void an_idle_pair_exchanges_one_ping_and_one_pong_a_period (void **state)
{
    (void) state;
    world_reset (3);
    start (0, NULL, NULL);
    for (int i = 1; i < 20; i++)
        start (i, world.nodes[0].address, NULL);
    run_until_converged (5 * SECOND);
    run (5 * SECOND);
    memset (world.sent, 0, sizeof world.sent);
    run (60 * SECOND);
    /* 190 pairs, 120 periods; every fourth each side asks for itself. */
    const double pings = (double) world.sent[PING] / (190.0 * 120.0);
    if (pings > 1.35 || world.sent[PONG] != world.sent[PING])
        fail_msg ("%.2f pings a pair and period", pings);
    assert_int_equal (world.sent[HELLO] + world.sent[WELCOME] + world.sent[PEERS] + world.sent[UNKNOWN_NODE], 0);
    world_end ();
}

static void who_dies_is_missed_after_dead_ms_and_not_brought_back_by_gossip (void **state)
{
    (void) state;
    world_reset (4);
    start (0, NULL, NULL);
    for (int i = 1; i < 10; i++)
        start (i, world.nodes[0].address, NULL);
    run_until_converged (5 * SECOND);
    run (3 * SECOND);
    die (5);
    const uint64_t took_ns = run_until_converged (10 * SECOND);
    assert_true (took_ns >= (DEAD_MS - PING_MS - 100) * MS && took_ns < (DEAD_MS + PING_MS) * MS);
    run (40 * SECOND);
    for (int i = 0; i < 10; i++)
        assert_int_equal (world.nodes[i].downs, i == 5 ? 0 : 1);
    world_end ();
}

static void a_goodbye_is_taken_at_its_word (void **state)
{
    (void) state;
    world_reset (5);
    start (0, NULL, NULL);
    for (int i = 1; i < 6; i++)
        start (i, world.nodes[0].address, NULL);
    run_until_converged (5 * SECOND);
    membership_close (world.nodes[3].m);
    act (3, -1);
    run (2 * MS);
    struct membership_member member;
    for (int i = 0; i < 6; i++)
        assert_true (i == 3 || !membership_find (world.nodes[i].m, &world.nodes[3].id, &member));
    die (3);
    memset (world.sent, 0, sizeof world.sent);
    run (60 * SECOND);
    assert_true (converged ());
    assert_int_equal (world.sent[HELLO], 0);    /* nobody knocks where nobody is */
    world_end ();
}

static void a_process_that_was_stopped_takes_nobody_for_dead (void **state)
{
    (void) state;
    world_reset (6);
    start (0, NULL, NULL);
    for (int i = 1; i < 8; i++)
        start (i, world.nodes[0].address, NULL);
    run_until_converged (5 * SECOND);
    run (SECOND);
    world.nodes[4].stopped = true;
    run (20 * SECOND);
    struct membership_member member;
    assert_false (membership_find (world.nodes[0].m, &world.nodes[4].id, &member));
    world.nodes[4].stopped = false;
    run_until_converged (5 * SECOND);
    run (10 * SECOND);
    assert_int_equal (world.nodes[4].downs, 0);
    assert_true (world.nodes[4].notices[NOTICE_STALLED] >= 1);
    world_end ();
}

static void a_process_restarted_at_the_old_address_replaces_the_old_one (void **state)
{
    (void) state;
    world_reset (7);
    start (0, NULL, NULL);
    for (int i = 1; i < 8; i++)
        start (i, world.nodes[0].address, NULL);
    run_until_converged (5 * SECOND);
    run (SECOND);
    for (int round = 0; round < 5; round++) {
        die (3);
        start (3, world.nodes[0].address, NULL);
        run_until_converged (2 * SECOND);       /* sooner than dead_ms: who answers there tells */
        die (0);
        start (0, NULL, NULL);                  /* even the seed, which knows nobody: the others ask there again */
        run_until_converged (5 * SECOND);
    }
    world_end ();
}

static void a_healed_partition_is_one_mesh_again (void **state)
{
    (void) state;
    for (int with_seed_in_both = 0; with_seed_in_both < 2; with_seed_in_both++) {
        world_reset (8 + (uint64_t) with_seed_in_both);
        start (0, NULL, NULL);
        for (int i = 1; i < 12; i++)
            start (i, world.nodes[0].address, NULL);
        run_until_converged (5 * SECOND);
        for (int i = 6; i < 12; i++)
            world.nodes[i].island = 1;
        run_until_converged (10 * SECOND);
        run (120 * SECOND);
        if (!with_seed_in_both)
            die (0);            /* nobody's seed is left: the dead are asked again */
        for (int i = 6; i < 12; i++)
            world.nodes[i].island = 0;
        run_until_converged (15 * SECOND);
        world_end ();
    }
}

static void a_loopback_address_that_others_advertise_is_not_taken_for_them (void **state)
{
    (void) state;
    world_reset (10);
    for (int i = 0; i < 6; i++) {
        /* The first address that each tells is everybody's own. */
        snprintf (world.nodes[i].address, sizeof world.nodes[i].address, "tcp://10.0.0.%d:7000", i + 1);
        start (i, i ? world.nodes[0].address : NULL, NULL);
        struct node *n = &world.nodes[i];
        membership_destroy (&n->m);
        struct membership_options options = { .self = make_info (&n->id, n->address, "tcp://127.0.0.1:7000", 1), .ping_ms = PING_MS, .dead_ms = DEAD_MS };
        assert_int_equal (membership_new (&options, &n->m), 0);
        if (i)
            assert_int_equal (membership_add_seed (n->m, world.nodes[0].address), 0);
    }
    run_until_converged (5 * SECOND);
    for (int i = 0; i < 6; i++) {
        size_t cursor = 0;
        struct membership_member member;
        while (membership_next (world.nodes[i].m, &cursor, &member))
            assert_int_equal (strncmp (member.address, "tcp://10.", 9), 0);
    }
    world_end ();
}

static void who_cannot_be_reached_is_told_and_never_counts (void **state)
{
    (void) state;
    world_reset (11);
    start (0, NULL, NULL);
    start (1, world.nodes[0].address, NULL);
    snprintf (world.nodes[2].address, sizeof world.nodes[2].address, "tcp://10.0.0.3:7000");
    start (2, world.nodes[0].address, NULL);
    struct node *n = &world.nodes[2];
    membership_destroy (&n->m);
    struct membership_options options = { .self = make_info (&n->id, "tcp://192.0.2.1:1", NULL, 1), .ping_ms = PING_MS, .dead_ms = DEAD_MS };
    assert_int_equal (membership_new (&options, &n->m), 0);
    assert_int_equal (membership_add_seed (n->m, world.nodes[0].address), 0);
    run (30 * SECOND);
    assert_int_equal (membership_count (world.nodes[0].m), 2);
    assert_int_equal (membership_count (world.nodes[1].m), 2);
    assert_int_equal (world.nodes[0].notices[NOTICE_UNREACHABLE], 1);
    world_end ();
}

static void changed_information_is_told_soon_and_last_word_wins (void **state)
{
    (void) state;
    world_reset (12);
    start (0, NULL, NULL);
    for (int i = 1; i < 10; i++)
        start (i, world.nodes[0].address, NULL);
    run_until_converged (5 * SECOND);
    run (SECOND);
    struct fm_id journal;
    id_random (&journal);
    memset (world.sent, 0, sizeof world.sent);
    const uint64_t begun_ns = world.now_ns;
    for (int k = 0; k < 1000; k++) {
        membership_self_changed (world.nodes[2].m, world.now_ns);
        act (2, -1);
        if (k == 500) {
            membership_set_journal (world.nodes[2].m, world.now_ns, &journal, 3);
            act (2, -1);
        }
        run (MS / 4);
    }
    run (250 * MS);
    /* A storm of changes is told ten times a second; and a Ping that names a version not yet told may be answered with a question. */
    assert_true (world.sent[HELLO] <= 9 * ((world.now_ns - begun_ns) / (100 * MS) + 1) + world.sent[PING]);
    for (int i = 0; i < 10; i++) {
        struct membership_member member;
        if (i == 2)
            continue;
        assert_true (membership_find (world.nodes[i].m, &world.nodes[2].id, &member));
        assert_true (member.info->is_journal && member.info->generation == 3);
        assert_int_equal (member.info->version, 1002);
    }
    world_end ();
}

/* Whatever happens, once it stops happening all know exactly those that live. */
static void one_random_mesh (uint64_t seed)
{
    world_reset (seed);
    const int count = 3 + (int) chance (10);
    world.latency_ns = 100000 + chance (20 * MS);
    world.break_one_in = chance (2) ? 0 : 20000;
    start (0, NULL, NULL);
    for (int i = 1; i < count; i++)
        start (i, world.nodes[chance ((uint64_t) i)].address, "tcp://10.0.0.1:7000");
    for (int round = 0; round < 12; round++) {
        const int i = (int) chance ((uint64_t) count);
        struct node *n = &world.nodes[i];
        switch (chance (6)) {
        case 0:
            if (n->m)
                die (i);
            break;
        case 1:
            if (n->m && !n->stopped) {
                membership_close (n->m);
                act (i, -1);
                if (chance (2))
                    run (MS);
                die (i);
            }
            break;
        case 2:
            if (!n->m)
                start (i, world.nodes[chance ((uint64_t) count)].address, "tcp://10.0.0.1:7000");
            break;
        case 3:
            n->stopped = n->m && !n->stopped;
            break;
        case 4:
            n->island = (int) chance (2);
            break;
        default:
            break;
        }
        run (chance (4 * SECOND));
    }
    world.break_one_in = 0;
    for (int i = 0; i < count; i++) {
        world.nodes[i].island = 0;
        world.nodes[i].stopped = false;
        if (!world.nodes[i].m && chance (2))
            start (i, world.nodes[chance ((uint64_t) count)].address, "tcp://10.0.0.1:7000");
    }
    if (!world.nodes[0].m)      /* every seed list ends there: without it meshes may rightly stay apart */
        start (0, world.nodes[count - 1].address, NULL);
    run_until_converged (60 * SECOND);
    run (10 * SECOND);
    assert_true (converged ());
    world_end ();
}

static void random_meshes_settle (void **state)
{
    (void) state;
    const uint64_t first = setting ("MEMBERSHIP_SEED", 100), rounds = setting ("MEMBERSHIP_ROUNDS", 60);
    for (uint64_t seed = first; seed < first + rounds; seed++)
        one_random_mesh (seed);     /* a failure comes again with the same seed */
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (all_find_each_other_through_one_seed),
        cmocka_unit_test (a_chain_of_seeds_is_one_mesh),
        cmocka_unit_test (an_idle_pair_exchanges_one_ping_and_one_pong_a_period),
        cmocka_unit_test (who_dies_is_missed_after_dead_ms_and_not_brought_back_by_gossip),
        cmocka_unit_test (a_goodbye_is_taken_at_its_word),
        cmocka_unit_test (a_process_that_was_stopped_takes_nobody_for_dead),
        cmocka_unit_test (a_process_restarted_at_the_old_address_replaces_the_old_one),
        cmocka_unit_test (a_healed_partition_is_one_mesh_again),
        cmocka_unit_test (a_loopback_address_that_others_advertise_is_not_taken_for_them),
        cmocka_unit_test (who_cannot_be_reached_is_told_and_never_counts),
        cmocka_unit_test (changed_information_is_told_soon_and_last_word_wins),
        cmocka_unit_test (random_meshes_settle),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
