/* sim_party: who takes part in a run: publishers, journals and subscribers, how each is drawn from the seed, and what its process does. */

#ifndef FM_TESTS_SIM_PARTY_H
#define FM_TESTS_SIM_PARTY_H

#include "journal.h"
#include "sim_disk.h"
#include "sim_inner.h"
#include "sim_net.h"
#include "sim_oracle.h"
#include "subscription.h"

enum { SIM_ORPHAN_MS = 1500 };              /* a journal waits so long for a publisher that vanished */

enum kind { PUBLISHER, JOURNAL, SUBSCRIBER };

struct party {
    enum kind kind;
    char name[SIM_NAME_MAX];
    unsigned number, host, generation;
    struct sim_disk *disk;
    struct sim_process *process;            /* NULL: not started yet */
    struct sim_random random;
    uint64_t restart_ns;                    /* how long it stays away */
    uint64_t gone_ns;                       /* since when its process is gone; 0: it is not */
    bool power;                             /* it died of a power loss */
    bool leave;                             /* asked to end in order */
    bool opened;                            /* of a journal: its directory is one */
    bool same_address;
    bool done;                              /* has nothing more to do but to stay */
    int live_queue;
    uint64_t sync_ns;

    /* Publisher. */
    bool has_directory;
    unsigned facts_left;
    size_t window_bytes;
    int batch_us;
    enum fm_when_full when_full;
    uint64_t pause_ns;
    unsigned topics[4], topic_count;
    struct oracle_epoch *epoch;             /* of the process that runs */

    /* Journal. */
    struct journal_options options;
    struct log *log;                        /* while it runs */
    uint64_t end_offset, settled_ns;        /* seen last, since when */
    bool audited;

    /* Subscriber. */
    const char *const *patterns;
    enum fm_start from;
    enum fm_delivery delivery;
    bool cursor, late;
    size_t held_bytes;
    uint64_t slow_ns;
    struct watcher *watcher;
    struct fm_subscription *in;
};

extern struct sim_parties {
    struct party items[SIM_HOSTS_MAX];
    unsigned count;
    uint64_t payloads;                      /* made so far: no two are equal */
    bool restless;                          /* journals come late, who subscribes wants live from now on, publishers start again at once, at their old addresses */
    bool quiet;                             /* no faults any more: publishers come to their end, nobody is slow */
    bool audit;                             /* journals read their own logs, for the oracle */
} sim_parties;

/* Each takes a place, drawn for its number; party_start lets it run. */
struct party *party_new (enum kind kind, const char *letter);
void party_add_publisher (uint64_t phase_ns);
void party_add_journal (void);
struct party *party_add_subscriber (void);
/* A process of its own, the next one of this party. */
void party_start (struct party *p);
/* Start it again if its process has come to its end, and it was away long enough. */
void party_look_after (struct party *p);

/* One of [low, high]. */
uint64_t sim_between (struct sim_random *r, uint64_t low, uint64_t high);

#endif
