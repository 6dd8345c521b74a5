/* journal_kit: a journal with its node and directory, publishers of numbered facts, and an asker that speaks the protocol; all in one process,
 * over tcp on loopback. What a replay tells is compared with what was published, byte for byte. A failure fails the cmocka case. */

#ifndef FM_TESTS_JOURNAL_KIT_H
#define FM_TESTS_JOURNAL_KIT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "assert_done.h"
#include "journal.h"
#include "log_kit.h"
#include "replay_client.h"

enum { PATIENCE_MS = 20000, NOTICES_MAX = 64 };

/* --- A journal, its node and directory. */

struct notices {
    pthread_mutex_t lock;
    unsigned count;
    char items[NOTICES_MAX][400];
};

struct recorder {
    char directory[128];
    struct fm_node *node;
    struct journal *journal;
    struct journal_options options;
    struct notices notices;
};

struct fm_node *open_node (const char *name, const char *seeds);

/* Its node is open, and waits for little; set options, then start it. */
struct recorder *recorder_new (const char *seeds);
void recorder_start (struct recorder *r);
void recorder_destroy (struct recorder *r);
/* Is this among the last NOTICES_MAX notices? */
bool recorder_noticed (struct recorder *r, const char *id);
uint64_t recorder_counter (struct recorder *r, enum journal_counter c);

/* --- Facts whose every byte follows from the number; every 97th is too large for a live frame. */

struct fm_publisher *open_publisher (struct fm_node *node, const char *directory);
struct fm_id stream_of (struct fm_publisher *p);
void publish (struct fm_publisher *p, uint64_t number);
/* Numbers [first, end). */
void publish_all (struct fm_publisher *p, uint64_t first, uint64_t end);
void wait_synced (struct fm_publisher *p);

/* --- Asking. */

struct asker {
    struct fm_node *node;
    struct replay_client *client;
};

struct asker asker_new (struct fm_node *node, struct recorder *r);
/* The next event of any session; false: none in time. */
bool next_event (struct asker *a, struct replay_event *ret_event, unsigned wait_ms);

/* What a replay of one stream told. */
struct told {
    uint64_t next_seq;                  /* expected next */
    uint64_t facts, gaps, covered;
    uint32_t last_reason;
    bool ended, caught_up;
};

/* The facts of one message, compared; number_of: the number of a sequence, NULL: they are equal. */
void take_view (struct told *t, struct replay_view *view, const struct fm_id *stream, uint64_t (*number_of) (uint64_t seq));
/* Replay one stream's [from, end), waiting for it. */
struct told replay_stream (struct asker *a, const struct fm_id *stream, uint64_t from, uint64_t end, uint64_t (*number_of) (uint64_t seq));
/* Asked from this node, the journal has numbers 1 to `count` of the publisher, without a gap, once all are synced. */
void expect_recorded (struct fm_node *node, struct recorder *r, struct fm_publisher *p, uint64_t count);

/* --- A journal and a publisher at another node. */

struct scene {
    struct recorder *r;
    struct fm_node *node;
    struct fm_publisher *p;
};

/* Starts the journal. directory: of the publisher's identity, or NULL. */
struct scene scene_start (struct recorder *r, const char *directory);
/* The same with a journal as recorder_new makes it, and numbers 1 to n synced. */
struct scene scene_with (uint64_t n);
/* The publisher ends, and starts anew at another node beside `r`, from the same directory. */
void scene_publisher_again (struct scene *s, struct recorder *r, const char *directory);
void scene_end (struct scene *s);

/* The journal has numbers 1 to `count` of a publisher that started anew with number `again` as its last epoch's first, with a gap between the epochs
 * if that skipped sequences. */
struct told replay_epochs (struct fm_node *node, struct recorder *r, struct fm_publisher *p, uint64_t again, uint64_t count);

#endif
