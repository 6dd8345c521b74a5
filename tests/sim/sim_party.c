#include "sim_party.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "error.h"
#include "sim_node.h"

enum { LARGE = 70000 };                     /* does not fit a live frame */

struct sim_parties sim_parties;

static const char *const patterns[][SIM_FILTERS_MAX + 1] = {
    { "a", NULL }, { "a", "a.b", NULL }, { "a.>", NULL }, { "b.*", NULL }, { ">", NULL }, { "a", "c", NULL }, { "b.x", "b.y", NULL }, { "c", NULL },
    { "c.d.e", NULL }, { "a.c", "b.x", "c", NULL },
};

uint64_t sim_between (struct sim_random *r, uint64_t low, uint64_t high)
{
    return low + sim_below (r, high - low + 1);
}

static bool is_dead (void)
{
    return sim_self ()->dead;
}

/* --- A publisher. */

static void note_synced (struct party *p, struct fm_publisher *out)
{
    struct fm_publisher_state state;
    fm_publisher_state (out, &state);
    if (is_dead ())
        return;
    oracle_synced (p->epoch, state.synced);
    if (state.window_bytes > p->window_bytes + LARGE + 4096)
        sim_fail ("G8: the window of %s has %zu of %zu bytes", p->name, state.window_bytes, p->window_bytes);
}

static int publish (struct party *p, struct fm_publisher *out, unsigned topic)
{
    static uint8_t bytes[LARGE];
    size_t len = sim_chance (&p->random, 10) ? LARGE : sim_chance (&p->random, 50) ? 3000 : (size_t) sim_between (&p->random, 8, 100);
    if (len > p->window_bytes)
        len = 3000;
    memset (bytes, (int) sim_draw (&p->random), len);
    const uint64_t number = ++sim_parties.payloads;
    memcpy (bytes, &number, sizeof number);
    const struct fm_fact fact = { .topic = slice_of (sim_topics[topic]), .payload = slice (bytes, len) };
    struct fm_fact_id id;
    const uint64_t asked_ns = sim_time ();
    const int rc = fm_publish (out, &fact, &id);
    if (rc)
        return rc;
    /* Also when it died meanwhile: it may have left. */
    oracle_published (p->epoch, id.seq, topic, fact.payload, asked_ns);
    sim_trace ("publishes %" PRIu64 " %s, %zu bytes", id.seq, sim_topics[topic], len);
    return 0;
}

/* One burst. FM_ERR_LOST: a journal refuses the stream. */
static int publish_some (struct party *p, struct fm_publisher *out)
{
    unsigned burst = sim_chance (&p->random, 50) ? (unsigned) sim_between (&p->random, 10, 40) : (unsigned) sim_between (&p->random, 1, 4);
    int rc = 0;
    for (; burst && p->facts_left && rc == 0 && !is_dead (); burst--) {
        rc = publish (p, out, p->topics[sim_below (&p->random, p->topic_count)]);
        p->facts_left -= rc == 0;
    }
    if (rc && rc != FM_ERR_WINDOW_FULL && rc != FM_ERR_LOST && !is_dead ())
        sim_fail ("%s cannot publish: %s (%s)", p->name, fm_error_text (rc), fm_error_detail ());
    return rc;
}

/* The last fact of each topic, when all faults are over; then all is to be synced. */
static int publish_last (struct party *p, struct fm_publisher *out)
{
    int rc = 0;
    for (unsigned i = 0; i < p->topic_count && rc == 0; i++)
        while ((rc = publish (p, out, p->topics[i])) == FM_ERR_WINDOW_FULL && !is_dead ())
            sim_sleep (10 * SIM_MS);
    for (int tries = 0; rc == 0 && !is_dead () && tries < 60; tries++) {
        rc = fm_publisher_wait_synced (out, 0, 1000);
        if (rc == 0)
            break;
        rc = rc == FM_TIMEOUT ? 0 : rc;
    }
    note_synced (p, out);
    return rc;
}

static void publish_all (struct party *p, struct fm_publisher *out)
{
    while (!is_dead () && !p->leave) {
        int rc = 0;
        if (sim_parties.quiet && !p->done) {
            p->facts_left = 0;
            rc = publish_last (p, out);
            p->done = rc == 0;
        } else if (p->facts_left) {
            rc = publish_some (p, out);
        }
        if (rc == FM_ERR_LOST)
            return;
        if (sim_chance (&p->random, 100))
            (void) fm_publisher_wait_synced (out, 0, (int) sim_between (&p->random, 0, 200));   /* what it says is seen below */
        note_synced (p, out);
        if (!sim_parties.quiet && sim_chance (&p->random, 5))
            return;                         /* closes, and opens again */
        sim_sleep (p->done ? SIM_S : sim_below (&p->random, 2 * p->pause_ns));
    }
}

static void *publisher_run (void *arg)
{
    struct party *p = arg;
    struct fm_node *node = sim_node_open (p->name, p->same_address ? 0 : p->generation, p->live_queue);
    while (!is_dead () && !p->leave) {
        const struct fm_publisher_options options = { .directory = p->has_directory ? "/sim/stream" : NULL, .window_bytes = p->window_bytes,
                                                      .when_full = p->when_full, .block_ms = 300, .batch_us = p->batch_us };
        struct fm_publisher *out;
        const int rc = fm_publisher_open (node, &options, &out);
        if (rc) {
            if (!is_dead ())
                sim_fail ("%s does not open: %s (%s)", p->name, fm_error_text (rc), fm_error_detail ());
            break;
        }
        struct fm_publisher_state state;
        fm_publisher_state (out, &state);
        p->epoch = oracle_epoch_begin (&state.stream, sim_node_info (node));
        sim_trace ("opens stream %02x%02x%02x%02x, epoch %" PRIu64 ", from %" PRIu64, state.stream.bytes[0], state.stream.bytes[1], state.stream.bytes[2],
                   state.stream.bytes[3], state.epoch, state.head + 1);
        publish_all (p, out);
        note_synced (p, out);
        oracle_epoch_over (p->epoch);
        if (!p->has_directory && !is_dead ())
            oracle_epoch_closed (p->epoch);
        fm_publisher_close (&out);
    }
    sim_node_close (&node);
    return NULL;
}

/* --- A journal. */

static void audit_batch (unsigned number, const struct log_item *item)
{
    struct batch_scratch scratch = { 0 };
    struct batch b;
    struct batch_reader reader;
    struct fm_fact fact;
    if (batch_decode (item->bytes.data, item->bytes.len, slice (NULL, 0), &scratch, &b) != 0)
        sim_fail ("journal %u has a batch that is malformed", number);
    else {
        batch_reader_init (&reader, &b);
        while (batch_reader_next (&reader, &fact) == 0)
            oracle_log_fact (number, &fact);
    }
    batch_scratch_release (&scratch);
}

/* Every record, from the first. */
static void audit (unsigned number, struct log *log)
{
    struct log_reader *reader;
    struct log_item item;
    int rc = log_reader_new (log, &reader);
    if (rc == 0)
        rc = log_reader_seek_offset (reader, 1);
    while (rc == 0 && (rc = log_reader_next (reader, &item)) == 0) {
        if (item.kind == LOG_ITEM_GAP && id_is_zero (&item.stream)) {
            sim_fail ("G2: journal %u has a gap of offsets", number);
            break;
        }
        if (item.kind == LOG_ITEM_GAP)
            sim_trace ("has a gap [%" PRIu64 ", %" PRIu64 ") of %02x%02x%02x%02x, reason %u", item.first_seq, item.end_seq, item.stream.bytes[0],
                       item.stream.bytes[1], item.stream.bytes[2], item.stream.bytes[3], item.reason);
        oracle_log_range (number, &item.stream, item.first_seq, item.end_seq, item.kind == LOG_ITEM_GAP);
        if (item.kind == LOG_ITEM_BATCH)
            audit_batch (number, &item);
    }
    if (rc != FM_ERR_END && rc != 0)
        sim_fail ("journal %u cannot be read: %s (%s)", number, fm_error_text (rc), fm_error_detail ());
    log_reader_destroy (&reader);
}

static void journal_note (void *arg, const char *id, const char *text)
{
    (void) arg;
    sim_trace ("%s %s", id, text);
}

static int journal_list (void *context, int dir, int (*each) (void *arg, const char *name), void *arg)
{
    (void) context;
    return sim_list (dir, each, arg);
}

static bool journal_is_wanted (void *arg)
{
    const struct party *p = arg;
    return p->leave || p->process->dead || (sim_parties.audit && !p->audited) || log_is_read_only (p->log);
}

static void *journal_run (void *arg)
{
    struct party *p = arg;
    struct fs fs = fs_real;
    fs.list = journal_list;
    struct fm_node *node = sim_node_open (p->name, p->same_address ? 0 : p->generation, p->live_queue);
    struct journal_options options = p->options;
    options.log.fs = &fs;
    options.notice = journal_note;
    struct journal *journal;
    const int rc = journal_new (node, "/sim/journal", &options, &journal);
    if (rc == 0) {
        p->log = journal_log (journal);
        p->opened = true;
        while (!is_dead () && !p->leave && !log_is_read_only (p->log)) {
            if (sim_parties.audit && !p->audited) {
                audit (p->number, p->log);
                p->audited = true;
            }
            (void) sim_wait (journal_is_wanted, p, sim_now () + SIM_S);
        }
        p->log = NULL;
        journal_destroy (&journal);
    } else if (rc == -ENOSPC && !p->opened)
        sim_sleep (200 * SIM_MS);           /* a new one must keep its identity; started again */
    else if (!is_dead ())
        sim_fail ("G7: %s does not start: %s (%s)", p->name, fm_error_text (rc), fm_error_detail ());
    sim_node_close (&node);
    return NULL;
}

/* --- A subscriber. */

static void tell_event (const struct fm_event *e)
{
    if (e->kind == FM_EVENT_FACT)
        sim_trace ("gets %" PRIu64 " of %02x%02x%02x%02x %.*s%s", e->fact.id.seq, e->fact.id.stream.bytes[0], e->fact.id.stream.bytes[1], e->fact.id.stream.bytes[2],
                   e->fact.id.stream.bytes[3], (int) e->fact.topic.len, (const char *) e->fact.topic.data, e->replayed ? ", replayed" : "");
    else if (e->kind == FM_EVENT_GAP)
        sim_trace ("is told of a gap [%" PRIu64 ", %" PRIu64 ") of %02x%02x%02x%02x, reason %d", e->gap.first, e->gap.end, e->gap.stream.bytes[0],
                   e->gap.stream.bytes[1], e->gap.stream.bytes[2], e->gap.stream.bytes[3], (int) e->gap.reason);
    else
        sim_trace ("%s", e->kind == FM_EVENT_CAUGHT_UP ? "has caught up" : "has fallen behind");
}

/* Who answered its fence. */
static void meet (struct party *p, struct fm_subscription *in)
{
    for (size_t i = 0; in->fences_only && i < live_set_count (in->live); i++) {
        const struct live_peer *peer = live_set_peer (in->live, i);
        if (peer->fenced && !peer->gone)    /* nobody waits for the answer of one that is gone */
            watcher_knows (p->watcher, &peer->info);
    }
}

static void watch (struct party *p, struct fm_subscription *in)
{
    while (!is_dead () && !p->leave) {
        struct fm_event e;
        const int rc = fm_subscription_next (in, sim_parties.audit ? 5000 : 300, &e);
        if (is_dead ())
            return;
        meet (p, in);
        if (rc == 0) {
            if (sim_traces)
                tell_event (&e);
            watcher_event (p->watcher, &e);
        } else if (rc == FM_ERR_GENERATION) {
            sim_fail ("%s: %s (%s)", p->name, fm_error_text (rc), fm_error_detail ());
        } else if (rc != FM_TIMEOUT) {
            sim_trace ("%s: %s", fm_error_text (rc), fm_error_detail ());
        }
        if (in->held_bytes > in->held_max)
            sim_fail ("G8: %s holds %zu of %zu bytes", p->name, in->held_bytes, in->held_max);
        if (p->cursor && sim_chance (&p->random, 300) && fm_subscription_ack (in) == 0)
            watcher_acked (p->watcher);
        if (p->cursor && sim_chance (&p->random, 20) && fm_subscription_commit (in, (int) sim_between (&p->random, 0, 300)) == 0 && !is_dead ()) {
            sim_trace ("has committed");
            watcher_committed (p->watcher);
        }
        if (p->slow_ns && rc == 0 && !sim_parties.quiet)
            sim_sleep (sim_below (&p->random, p->slow_ns));
    }
}

static void *subscriber_run (void *arg)
{
    struct party *p = arg;
    struct fm_node *node = sim_node_open (p->name, p->same_address ? 0 : p->generation, p->live_queue);
    const struct fm_subscription_options options = { .topics = p->patterns, .from = p->from, .cursor = p->cursor ? p->name : NULL,
                                                     .delivery = p->delivery, .held_bytes = p->held_bytes };
    while (!is_dead () && !p->leave) {
        struct fm_subscription *in;
        const int rc = fm_subscription_open (node, &options, &in);
        if (rc) {
            if (!is_dead ())
                sim_trace ("does not open: %s (%s)", fm_error_text (rc), fm_error_detail ());
            if (rc != FM_ERR_NO_JOURNAL && rc != FM_ERR_UNREACHABLE && rc != FM_ERR_GENERATION && rc != FM_TIMEOUT && !is_dead ())
                sim_fail ("%s does not open: %s (%s)", p->name, fm_error_text (rc), fm_error_detail ());
            sim_sleep (50 * SIM_MS);
            continue;
        }
        if (!is_dead ()) {
            watcher_open (p->watcher, p->cursor);
            if (p->from == FM_FROM_END && !p->cursor)
                watcher_at_end (p->watcher);
            if (in->fences_only)
                watcher_is_live_only (p->watcher, in->opened_unix_ns);
            for (size_t i = 0; in->fences_only && i < live_set_count (in->live); i++)
                watcher_knows (p->watcher, &live_set_peer (in->live, i)->info);
            if (in->fences_only && !live_set_fenced (in->live))
                watcher_begins_anywhere (p->watcher);
            sim_trace ("is open");
        }
        p->in = in;
        watch (p, in);
        p->in = NULL;
        fm_subscription_close (&in);
    }
    sim_node_close (&node);
    return NULL;
}

/* --- Parties. */

void party_start (struct party *p)
{
    static void *(*const run[]) (void *) = { publisher_run, journal_run, subscriber_run };
    p->generation++;
    p->gone_ns = 0;
    p->leave = p->power = false;
    p->process = sim_process_new (p->name, p->host, p->disk, p);
    p->process->sync_ns = p->sync_ns;
    sim_trace ("%s starts", p->name);
    sim_spawn (p->process, run[p->kind], p);
}

void party_look_after (struct party *p)
{
    if (!p->process || !p->process->gone)
        return;
    if (p->gone_ns == 0) {
        p->gone_ns = sim_time ();
        if (p->power) {
            sim_trace ("%s: what was not synced is lost", p->name);
            sim_disk_power_loss (p->disk, &p->random);
        }
    }
    if (sim_time () - p->gone_ns >= p->restart_ns)
        party_start (p);
}

struct party *party_new (enum kind kind, const char *letter)
{
    assert (sim_parties.count < SIM_HOSTS_MAX);
    struct party *p = &sim_parties.items[sim_parties.count];
    p->kind = kind;
    p->host = sim_parties.count++;
    for (unsigned i = 0; i < p->host; i++)
        p->number += sim_parties.items[i].kind == kind;
    (void) snprintf (p->name, sizeof p->name, "%s%u", letter, p->number);
    p->disk = sim_disk_new ();
    p->random = sim_random_of (sim_seed (), 10 + p->host);
    p->sync_ns = sim_chance (&p->random, 300) ? 200 * SIM_MS : SIM_MS;
    p->same_address = sim_chance (&p->random, 500);
    p->live_queue = sim_chance (&p->random, 300) ? (int) sim_between (&p->random, 2, 20) : 1000;
    return p;
}

void party_add_publisher (uint64_t phase_ns)
{
    struct party *p = party_new (PUBLISHER, "p");
    p->same_address = p->same_address || sim_parties.restless;
    p->has_directory = sim_chance (&p->random, 800);
    p->facts_left = (unsigned) sim_between (&p->random, 5, 120);
    p->pause_ns = phase_ns / (p->facts_left / 2 + 1);
    p->window_bytes = sim_chance (&p->random, 300) ? (size_t) sim_between (&p->random, 4000, 20000) : 4 << 20;
    p->when_full = sim_chance (&p->random, 500) ? FM_BLOCK : FM_FAIL;
    p->batch_us = sim_chance (&p->random, 300) ? -1 : sim_chance (&p->random, 500) ? 5000 : 0;
    p->topic_count = (unsigned) sim_between (&p->random, 1, 4);
    for (unsigned i = 0; i < p->topic_count; i++)
        p->topics[i] = (unsigned) sim_below (&p->random, sim_topic_count);
}

void party_add_journal (void)
{
    struct party *p = party_new (JOURNAL, "j");
    p->same_address = sim_chance (&p->random, 800);
    p->live_queue = 1000;
    p->options = (struct journal_options) {
        .log = { .segment_bytes = LOG_SEGMENT_BYTES_MIN, .buffer_bytes = LOG_BUFFER_BYTES_MIN << 1, .streams_max = 256, .cursors_max = 64,
                 .segment_age_ms = sim_chance (&p->random, 300) ? sim_between (&p->random, 300, 2000) : 0 },
        .streams_max = 256,
        .sessions_max = 64,
        .live_queue = sim_chance (&p->random, 200) ? (int) sim_between (&p->random, 2, 20) : 0,
        .stream_held_bytes = sim_chance (&p->random, 300) ? (size_t) sim_between (&p->random, 2000, 10000) : 0,
        .answer_ms = 300,
        .holders_wait_ms = 1000,
        .orphan_wait_ms = SIM_ORPHAN_MS,
        .settle_ms = 500,
    };
}

struct party *party_add_subscriber (void)
{
    struct party *p = party_new (SUBSCRIBER, "s");
    p->patterns = patterns[sim_below (&p->random, sizeof patterns / sizeof *patterns)];
    p->cursor = sim_chance (&p->random, 500);
    p->from = sim_chance (&p->random, 700) ? FM_FROM_START : FM_FROM_END;
    p->delivery = sim_chance (&p->random, 500) ? FM_SYNCED : FM_LIVE;
    p->held_bytes = sim_chance (&p->random, 300) ? (size_t) sim_between (&p->random, 1000, 8000) : 0;
    p->slow_ns = sim_chance (&p->random, 300) ? sim_between (&p->random, SIM_MS, 200 * SIM_MS) : 0;
    if (p->cursor)
        p->from = FM_FROM_START;
    if (sim_parties.restless) {
        p->cursor = false;
        p->from = FM_FROM_END;
        p->delivery = FM_LIVE;
    }
    p->watcher = oracle_watcher (p->name, p->patterns, p->delivery == FM_SYNCED);
    return p;
}
