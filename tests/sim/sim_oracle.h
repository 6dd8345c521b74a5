/* sim_oracle: what was published, and what every subscription and every log must make of it. Contents are compared: a fact is its stream,
 * sequence, topic and payload.
 *
 *   G1  a watcher gets each stream's matching facts in order, each once; what it does not get was told as a gap before anything above it
 *   G2  a fact that was acknowledged as synced, or handed out by a synced subscription, is in a log at the end, and was told to nobody as a gap
 *   G5  late watchers get what early ones got, and each what the log has
 *   G6  no sequence twice; a gap is only where the publisher's epoch ended, or it was away for long, before the fact was acknowledged;
 *       and never where the log has the fact */

#ifndef FM_TESTS_SIM_ORACLE_H
#define FM_TESTS_SIM_ORACLE_H

#include "factmesh.h"
#include "node.h"
#include "sim.h"

enum { SIM_STREAMS_MAX = 128, SIM_FILTERS_MAX = 3 };
extern const char *const sim_topics[];
extern const size_t sim_topic_count;

void oracle_begin (void);
void oracle_end (void);
/* More than one journal: a gap over a synced fact is forgiven where journals could not reach each other. */
void oracle_journals (unsigned count);
void oracle_journal_shaken (void);

/* --- Publishing. An epoch is one opening of a publisher. */

struct oracle_epoch;
struct oracle_epoch *oracle_epoch_begin (const struct fm_id *stream, const struct node_peer *node);
/* asked_ns: when its publisher began. */
void oracle_published (struct oracle_epoch *e, uint64_t seq, unsigned topic, struct fm_slice payload, uint64_t asked_ns);
void oracle_synced (struct oracle_epoch *e, uint64_t seq);
/* It ended; or was out of reach for so long that a journal may give it up. */
void oracle_epoch_over (struct oracle_epoch *e);
void oracle_epoch_shaken (struct oracle_epoch *e);
/* Its process closed it, lives on, and will not open the stream again. */
void oracle_epoch_closed (struct oracle_epoch *e);

/* --- Watching. */

struct watcher;
struct watcher *oracle_watcher (const char *name, const char *const *patterns, bool synced);
/* It is about to be opened: where its last acknowledgement stood, or from the beginning. And: it was opened, at the end. */
void watcher_open (struct watcher *w, bool cursor);
void watcher_at_end (struct watcher *w);
/* No journal was there, and its fences were not answered in time: its beginning is where it happens to be. */
void watcher_begins_anywhere (struct watcher *w);
/* No journal was there: each stream begins where its publisher's fence, or its epoch, says. */
void watcher_is_live_only (struct watcher *w, uint64_t opened_ns);
/* A peer that it knew then, or whose fence is answered now. */
void watcher_knows (struct watcher *w, const struct node_peer *peer);
void watcher_event (struct watcher *w, const struct fm_event *e);
void watcher_acked (struct watcher *w);
/* What was acknowledged is durable. */
void watcher_committed (struct watcher *w);
/* False: something is missing that it must still get; `text` says what. */
bool watcher_complete (const struct watcher *w, char *text, size_t size);
/* Saw all from the start, in one go. */
bool watcher_is_early (const struct watcher *w);

/* --- At the end. */

/* A record of a journal's log: a fact, or a gap (payload and topic NULL). */
void oracle_log_fact (unsigned journal, const struct fm_fact *fact);
void oracle_log_range (unsigned journal, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq, bool is_gap);
void oracle_check_logs (void);
void oracle_check_late (const struct watcher *early, const struct watcher *late);
uint64_t oracle_fact_count (void);

#endif
