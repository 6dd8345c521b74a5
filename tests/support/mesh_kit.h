/* mesh_kit: a mesh in one process over TCP on loopback: a node that publishes, one that journals, one that subscribes; and a subscriber that checks.
 *
 * What every fact must be follows from its stream and sequence (flow.h), so that each one that arrives is compared byte for byte, and what
 * is left out shows at the next one. Waits are for events, with a limit that only a fault reaches. A failure fails the cmocka case. With
 * TEST_NOTICES set, the nodes' notices go to standard error. */

#ifndef FM_TESTS_MESH_KIT_H
#define FM_TESTS_MESH_KIT_H

#include <pthread.h>
#include <stdbool.h>

#include "factmesh.h"
#include "flow.h"
#include "journal.h"

enum { MESH_PATIENCE_MS = 20000, MESH_STREAMS_MAX = 8 };

struct mesh {
    char directory[64];
    struct fm_node *publisher_node, *journal_node, *subscriber_node;
    struct journal *journal;
    struct fm_publisher *publishers[MESH_STREAMS_MAX];
    struct flow flows[MESH_STREAMS_MAX];
    struct fm_id streams[MESH_STREAMS_MAX];
    size_t stream_count;
};

/* live_queue: frames queued for a slow subscriber; 0: the default. Returns when all know each other. */
void mesh_open (struct mesh *m, bool with_journal, int live_queue);
void mesh_close (struct mesh *m);
void mesh_open_journal (struct mesh *m);
void mesh_close_journal (struct mesh *m);
struct fm_node *mesh_open_node (const char *name, const char *seeds, int live_queue);
void mesh_remove (const char *directory);

/* A stream of flow facts; returns its place in the arrays. mesh_publish publishes its facts [first, end). */
size_t mesh_add_stream (struct mesh *m, unsigned topics, uint64_t count, bool large);
void mesh_publish (struct mesh *m, size_t stream, uint64_t first, uint64_t end);
void mesh_wait_synced (struct mesh *m, size_t stream);

/* A thread that publishes while others look. */
struct load {
    struct mesh *mesh;
    size_t stream;
    uint64_t first, end, pause_every;
    pthread_t thread;
};
void load_start (struct load *l);
void load_join (struct load *l);

/* A subscriber that compares every fact with what it must be, and expects each that its topics match. */
struct checker {
    struct mesh *mesh;
    struct fm_subscription *s;
    const char *const *topics;
    uint64_t last[MESH_STREAMS_MAX];        /* sequence of the last fact of each stream */
    uint64_t facts, replayed, gaps, caught_up, fell_behind;
};

void checker_open (struct checker *c, struct mesh *m, struct fm_subscription_options options);
bool checker_wants (const struct checker *c, struct fm_slice topic);
void checker_take (struct checker *c, const struct fm_event *e);
void checker_next (struct checker *c);
/* Until the last matching fact of the stream at or below `last`; of all streams. */
void checker_run_until (struct checker *c, size_t stream, uint64_t last);
void checker_run_to_end (struct checker *c);
/* Nothing more may come, but events that are no facts. */
void checker_expect_silence (struct checker *c, int ms);

#endif
