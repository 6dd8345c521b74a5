/* replay_kit: replay sessions against a real log, without sockets: every message goes through the wire's encoding and back, and every batch that
 * comes is compared with what was appended. With cmocka's checks. */

#ifndef FM_TESTS_REPLAY_KIT_H
#define FM_TESTS_REPLAY_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "log_kit.h"
#include "replay.h"

enum { SEEN_MAX = 4096, STREAMS_MAX = 64 };

/* --- A log. cmocka's state is a struct replay_setting. */

struct replay_setting {
    char directory[128];
    struct log *log;
    struct kit_clock clock;
    struct log_options options;
    uint64_t monotonic_ns;
};
int replay_set_up (void **state);
int replay_tear_down (void **state);
struct replay_setting *replay_setting_of (void **state);

/* n batches of each of the streams 1 to `streams`, by turns; synced. */
void append_turns (struct replay_setting *s, unsigned streams, unsigned n, uint32_t count, size_t payload_len, const char *topic, uint64_t from);
/* Retention drops the first segments. Returns the first offset that is left. */
uint64_t expire_segments (struct replay_setting *s);

/* --- A session and all that it told. */

struct session {
    struct replay_setting *setting;
    struct clock clock;
    struct replay *replay;
    struct replay_buffer buffer;
    struct replay_view view;
    size_t target;
    bool rests;                                 /* gives its reader back before every step */
    bool of_facts;                              /* batches of one fact are compared as facts: what lies around them is not theirs */
    uint64_t latest_end;

    enum replay_outcome last;
    unsigned messages;
    uint64_t next_offset, start_offset;
    bool has_start, caught_up;
    struct kit_batch_spec seen[SEEN_MAX];       /* compared with what was appended, byte for byte, when it came */
    size_t seen_count;
    struct replay_gap gaps[SEEN_MAX];
    size_t gap_count;
    struct replay_covered covered[STREAMS_MAX];
    size_t covered_count;
};

/* Requests to begin with. */
Factmesh__ReplayOpen from_offset (uint64_t offset);
void follow (Factmesh__ReplayOpen *open);
/* [from, end) of one stream. */
Factmesh__ReplayOpen range_of (const struct fm_id *stream, uint64_t from, uint64_t end);

/* Returns what the request's check or replay_new returns. named: the cursor that the request names. */
int session_try (struct replay_setting *s, const Factmesh__ReplayOpen *open, const Factmesh__Cursor *named, struct session **ret_session);
struct session *session_open (struct replay_setting *s, const Factmesh__ReplayOpen *open);
void session_close (struct session *x);
/* Step until nothing more comes. */
void session_run (struct session *x);
/* What a step of the caller's own made. */
void session_take (struct session *x, const struct replay_header *header);
void session_note_covered (struct session *x, const struct replay_covered *c);
/* UINT64_MAX: nothing was told of it. */
uint64_t session_covered (const struct session *x, unsigned stream);

/* --- The index of the sessions that are opened; NULL: none. */

extern const struct replay_index *session_index;

/* An index that says which offsets are newest facts, `rows` a page; it knows of what lies below `next`. */
struct fake_index {
    struct replay_index index;
    uint64_t next;
    const uint64_t *offsets;
    const char *const *topics;                  /* NULL: "a.b" each */
    size_t count, rows;
};
struct fake_index fake_index_of (const uint64_t *offsets, size_t count);

#endif
