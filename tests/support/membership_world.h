/* membership_world: meshes of membership machines in a simulated network and virtual time.
 *
 * The network: nodes listen at addresses; a contact is a connection that takes time to stand up, carries messages in order, both ways, and
 * breaks when a process dies, a cut comes between, or chance wants it; what is under way is lost then.
 *
 * After each step of a node it checks the machine's invariants, and that what it tells of others going up and down agrees with whom it counts. */

#ifndef FM_TESTS_MEMBERSHIP_WORLD_H
#define FM_TESTS_MEMBERSHIP_WORLD_H

#include "membership.h"

enum { NODES = 24, PING_MS = 500, DEAD_MS = 2500 };

#define MS UINT64_C (1000000)
#define SECOND (1000 * MS)

enum world_kind { HELLO = 1, WELCOME, PEERS, PING, PONG, GOODBYE, UNKNOWN_NODE };

struct world_node {
    struct membership *m;               /* NULL: no process */
    struct fm_id id;
    char address[64], other_address[64];
    bool stopped;                       /* SIGSTOP */
    int island;                         /* nodes of one island reach each other */
    struct fm_id up[NODES * 4];         /* whom its UP and DOWN tell to be up */
    size_t up_count;
    uint64_t downs, notices[8];
};

extern struct world {
    uint64_t seed, now_ns;
    struct world_node nodes[NODES];
    int count;
    uint64_t latency_ns;
    unsigned break_one_in;              /* 0: connections never break by chance */
    uint64_t sent[8];                   /* messages, by kind */
} world;

/* Chance, the same for the same seed. */
uint64_t world_chance (uint64_t below);
/* In the environment: MEMBERSHIP_SALT other chances for all cases; MEMBERSHIP_SEED, MEMBERSHIP_ROUNDS other, more random meshes. */
uint64_t world_setting (const char *name, uint64_t standard);

/* An empty one, and its end. */
void world_reset (uint64_t seed);
void world_end (void);

struct peer_info *world_info (const struct fm_id *id, const char *address, const char *other, uint64_t version);
/* A process begins, with up to two seeds; listens at its address, tcp://10.0.0.(i + 1):7000 where it has none yet. */
void world_start (int i, const char *seed, const char *seed2);
/* It is gone, without a word. */
void world_die (int i);
/* Carry out what it wants, after a call of the test; answers go over answer_link, -1: there are none. */
void world_act (int i, int answer_link);
void world_run (uint64_t ns);

/* Do all know exactly those that live, and that they can reach? */
bool world_converged (void);
/* Run until they do; fail after so long. Returns how long it took. */
uint64_t world_run_until_converged (uint64_t most_ns);

#endif
