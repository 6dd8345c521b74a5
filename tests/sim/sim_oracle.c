#include "sim_oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bytes.h"
#include "id.h"
#include "topic.h"

enum { WATCHERS_MAX = 32, PEERS_MAX = 64, SEEN = 1, GAP = 2 };

const char *const sim_topics[] = { "a", "a.b", "a.c", "b.x", "b.y", "c", "c.d.e" };
const size_t sim_topic_count = sizeof sim_topics / sizeof *sim_topics;

struct oracle_epoch {
    struct oracle_epoch *next;
    struct stream *stream;
    struct fm_id node;
    uint64_t started_ns;                    /* the node */
    bool over, shaken, closed;
};

struct fact {
    uint64_t seq, sum, published_ns;
    unsigned topic;
    const struct oracle_epoch *epoch;
    bool synced, handed_out;                /* by a synced subscription */
    unsigned logs;                          /* bits: journals that have it at the end */
    uint8_t watchers[WATCHERS_MAX];         /* SEEN, GAP */
};

struct stream {
    struct fm_id id;
    struct fact *facts;                     /* in order */
    size_t count, size;
    uint64_t log_end[8];                    /* by journal: while its log is walked */
};

struct place {
    uint64_t last, base;                    /* told last, since it was opened; where it was opened */
    uint64_t acked, done, committed;        /* acknowledged since it was opened, ever; durably */
};

struct meeting {
    struct fm_id node;
    uint64_t at_ns;
};

struct watcher {
    char name[SIM_NAME_MAX];
    unsigned number;
    bool matches[16];
    char patterns[128];
    bool synced, cursor;
    unsigned opened;
    bool from_end, anywhere, live_only;
    struct meeting met[PEERS_MAX];          /* live_only */
    size_t met_count;
    uint64_t opened_ns;
    struct place places[SIM_STREAMS_MAX];
};

static struct {
    struct stream streams[SIM_STREAMS_MAX];
    size_t stream_count;
    struct oracle_epoch *epochs;
    struct watcher *watchers[WATCHERS_MAX];
    unsigned watcher_count, journals;
    bool journal_shaken;
    uint64_t facts;
} truth;

void oracle_begin (void)
{
    truth.journals = 1;
}

void oracle_end (void)
{
    for (size_t i = 0; i < truth.stream_count; i++)
        free (truth.streams[i].facts);
    for (struct oracle_epoch *e; (e = truth.epochs);) {
        truth.epochs = e->next;
        free (e);
    }
    for (unsigned i = 0; i < truth.watcher_count; i++)
        free (truth.watchers[i]);
    memset (&truth, 0, sizeof truth);
}

void oracle_journals (unsigned count)
{
    truth.journals = count;
}

void oracle_journal_shaken (void)
{
    truth.journal_shaken = true;
}

uint64_t oracle_fact_count (void)
{
    return truth.facts;
}

static uint64_t sum_of (struct fm_slice topic, struct fm_slice payload)
{
    return XXH3_64bits_withSeed (payload.data, payload.len, XXH3_64bits (topic.data, topic.len));
}

static struct stream *find_stream (const struct fm_id *id)
{
    for (size_t i = 0; i < truth.stream_count; i++)
        if (id_equal (&truth.streams[i].id, id))
            return &truth.streams[i];
    return NULL;
}

/* The first fact at or above seq. */
static size_t find_fact (const struct stream *s, uint64_t seq)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (s->facts[middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static char *stream_text (const struct stream *s)
{
    static char text[16];
    (void) snprintf (text, sizeof text, "%02x%02x%02x%02x", s->id.bytes[0], s->id.bytes[1], s->id.bytes[2], s->id.bytes[3]);
    return text;
}

/* --- Publishing. */

struct oracle_epoch *oracle_epoch_begin (const struct fm_id *id, const struct node_peer *node)
{
    struct stream *s = find_stream (id);
    if (!s) {
        assert (truth.stream_count < SIM_STREAMS_MAX);
        s = &truth.streams[truth.stream_count++];
        s->id = *id;
    }
    struct oracle_epoch *e = calloc (1, sizeof *e);
    assert (e);
    e->stream = s;
    e->node = node->node;
    e->started_ns = node->started_ns;
    e->next = truth.epochs;
    truth.epochs = e;
    return e;
}

void oracle_published (struct oracle_epoch *e, uint64_t seq, unsigned topic, struct fm_slice payload, uint64_t asked_ns)
{
    struct stream *s = e->stream;
    if (s->count && s->facts[s->count - 1].seq >= seq) {
        sim_fail ("G6: sequence %" PRIu64 " of stream %s is used after %" PRIu64, seq, stream_text (s), s->facts[s->count - 1].seq);
        return;
    }
    if (s->count == s->size) {
        s->size = s->size ? 2 * s->size : 64;
        s->facts = realloc (s->facts, s->size * sizeof *s->facts);
        assert (s->facts);
    }
    s->facts[s->count++] = (struct fact) { .seq = seq, .sum = sum_of (slice_of (sim_topics[topic]), payload), .published_ns = asked_ns,
                                              .topic = topic, .epoch = e };
    truth.facts++;
}

void oracle_synced (struct oracle_epoch *e, uint64_t seq)
{
    struct stream *s = e->stream;
    for (size_t i = s->count; i-- > 0 && s->facts[i].epoch == e && !s->facts[i].synced;)
        if (s->facts[i].seq <= seq)
            s->facts[i].synced = true;
}

void oracle_epoch_over (struct oracle_epoch *e)
{
    e->over = true;
}

void oracle_epoch_closed (struct oracle_epoch *e)
{
    e->closed = true;
}

void oracle_epoch_shaken (struct oracle_epoch *e)
{
    e->shaken = true;
}

/* --- Watching. */

struct watcher *oracle_watcher (const char *name, const char *const *patterns, bool synced)
{
    assert (truth.watcher_count < WATCHERS_MAX);
    struct watcher *w = calloc (1, sizeof *w);
    assert (w);
    (void) snprintf (w->name, sizeof w->name, "%s", name);
    w->number = truth.watcher_count;
    w->synced = synced;
    truth.watchers[truth.watcher_count++] = w;
    for (size_t i = 0; patterns[i]; i++) {
        (void) snprintf (w->patterns + strlen (w->patterns), sizeof w->patterns - strlen (w->patterns), " %s", patterns[i]);
        for (size_t t = 0; t < sim_topic_count; t++)
            w->matches[t] = w->matches[t] || topic_match (slice_of (patterns[i]), slice_of (sim_topics[t]));
    }
    return w;
}

void watcher_open (struct watcher *w, bool cursor)
{
    w->opened++;
    w->cursor = cursor;
    w->anywhere = w->live_only = false;
    for (size_t i = 0; i < SIM_STREAMS_MAX; i++) {
        w->places[i].last = w->places[i].acked = 0;
        w->places[i].base = cursor ? w->places[i].done : 0;
    }
}

void watcher_at_end (struct watcher *w)
{
    w->from_end = true;
    for (size_t i = 0; i < truth.stream_count; i++) {
        const struct stream *s = &truth.streams[i];
        const uint64_t head = s->count ? s->facts[s->count - 1].seq : 0;
        w->places[i].base = head > w->places[i].base ? head : w->places[i].base;
    }
}

void watcher_begins_anywhere (struct watcher *w)
{
    w->anywhere = true;
}

void watcher_is_live_only (struct watcher *w, uint64_t opened_ns)
{
    w->live_only = true;
    w->opened_ns = opened_ns;
    w->met_count = 0;
}

static const struct meeting *meeting (const struct watcher *w, const struct fm_id *node)
{
    for (size_t i = 0; i < w->met_count; i++)
        if (id_equal (&w->met[i].node, node))
            return &w->met[i];
    return NULL;
}

void watcher_knows (struct watcher *w, const struct node_peer *peer)
{
    if (meeting (w, &peer->node))
        return;
    assert (w->met_count < PEERS_MAX);
    w->met[w->met_count++] = (struct meeting) { .node = peer->node, .at_ns = sim_time () };
}

static uint64_t lower (const struct place *at)
{
    return at->last ? at->last : at->base;
}

/* Where a stream begins for a watcher without a journal is all that its publisher's fence, or epoch, can say (SPEC.md, section 7, "Where P begins"). That
 * another publisher of it came and died meanwhile nobody knows, when that of `seq` is heard; nor one that never answered a fence before it ended; nor what was
 * published before a node that is older than the watcher, and stood still or was cut off when that was opened, had answered its fence. */
static bool was_never_met (const struct watcher *w, const struct stream *s, const struct fact *f, uint64_t seq)
{
    const size_t first = find_fact (s, seq);
    if (!w->live_only || w->places[s - truth.streams].last != 0)
        return false;
    /* Above all facts it is heard of by a later epoch, in which nothing was published. */
    if (f->epoch->over && (first == s->count || s->facts[first].epoch != f->epoch))
        return true;
    const struct meeting *met = meeting (w, &f->epoch->node);
    return met ? f->epoch->started_ns <= w->opened_ns && f->published_ns < met->at_ns : f->epoch->over;
}

/* Nothing that matches was left out in (from, seq). */
static bool check_no_hole (const struct watcher *w, const struct stream *s, uint64_t from, uint64_t seq)
{
    for (size_t i = find_fact (s, from + 1); i < s->count && s->facts[i].seq < seq; i++)
        if (w->matches[s->facts[i].topic] && !was_never_met (w, s, &s->facts[i], seq)) {
            sim_fail ("G1: %s (%s) gets %" PRIu64 " of stream %s after %" PRIu64 " without %" PRIu64 " (%s)", w->name, w->patterns + 1, seq,
                      stream_text (s), from, s->facts[i].seq, sim_topics[s->facts[i].topic]);
            return false;
        }
    return true;
}

static void take_fact (struct watcher *w, const struct fm_fact *fact)
{
    struct stream *s = find_stream (&fact->id.stream);
    const size_t i = s ? find_fact (s, fact->id.seq) : 0;
    if (!s || i == s->count || s->facts[i].seq != fact->id.seq) {
        sim_fail ("%s gets %" PRIu64 ", which nobody published", w->name, fact->id.seq);
        return;
    }
    struct fact *f = &s->facts[i];
    struct place *at = &w->places[s - truth.streams];
    if (f->sum != sum_of (fact->topic, fact->payload))
        sim_fail ("G2: %s gets %" PRIu64 " of stream %s changed", w->name, f->seq, stream_text (s));
    else if (!w->matches[f->topic])
        sim_fail ("%s (%s) gets %" PRIu64 " of stream %s of topic %s", w->name, w->patterns + 1, f->seq, stream_text (s), sim_topics[f->topic]);
    else if (f->seq <= at->last)
        sim_fail ("G1: %s gets %" PRIu64 " of stream %s after %" PRIu64, w->name, f->seq, stream_text (s), at->last);
    else if (w->cursor && f->seq <= at->committed && truth.journals == 1)
        sim_fail ("%s gets %" PRIu64 " of stream %s again, though %" PRIu64 " was committed", w->name, f->seq, stream_text (s), at->committed);
    else if ((w->anywhere && at->last == 0) || check_no_hole (w, s, lower (at), f->seq)) {
        at->last = f->seq;
        f->watchers[w->number] = SEEN;
        f->handed_out = f->handed_out || w->synced;
    }
}

/* May it be told as a gap? */
static bool is_forgiven (const struct fact *f)
{
    /* A journal does not copy what ended before it came, and gives up what one has that stays away. */
    if (f->synced)
        return truth.journals > 1 && (truth.journal_shaken || f->epoch->over);
    return f->epoch->over || f->epoch->shaken;
}

static void take_gap (struct watcher *w, const struct fm_gap *gap)
{
    struct stream *s = find_stream (&gap->stream);
    if (!s) {
        sim_fail ("%s is told of a gap [%" PRIu64 ", %" PRIu64 ") with reason %d of a stream that nobody publishes", w->name, gap->first, gap->end, (int) gap->reason);
        return;
    }
    struct place *at = &w->places[s - truth.streams];
    if (gap->first <= at->last || gap->end <= gap->first) {
        sim_fail ("G1: %s is told of a gap [%" PRIu64 ", %" PRIu64 ") of stream %s after %" PRIu64, w->name, gap->first, gap->end, stream_text (s), at->last);
        return;
    }
    if (!(w->anywhere && at->last == 0) && !check_no_hole (w, s, lower (at), gap->first))
        return;
    for (size_t i = find_fact (s, gap->first); i < s->count && s->facts[i].seq < gap->end; i++) {
        struct fact *f = &s->facts[i];
        if (!w->matches[f->topic] || f->seq <= at->base)
            continue;
        if (!is_forgiven (f)) {
            sim_fail ("G2: %s is told that %" PRIu64 " of stream %s is lost (reason %d), which is %s", w->name, f->seq, stream_text (s), (int) gap->reason,
                      f->synced ? "synced" : "its publisher's to give");
            return;
        }
        f->watchers[w->number] = GAP;
    }
    at->last = gap->end - 1;
}

void watcher_event (struct watcher *w, const struct fm_event *e)
{
    if (e->kind == FM_EVENT_FACT)
        take_fact (w, &e->fact);
    else if (e->kind == FM_EVENT_GAP)
        take_gap (w, &e->gap);
}

void watcher_acked (struct watcher *w)
{
    for (size_t i = 0; i < truth.stream_count; i++) {
        struct place *at = &w->places[i];
        at->acked = at->last;
        at->done = at->last > at->done ? at->last : at->done;
    }
}

void watcher_committed (struct watcher *w)
{
    for (size_t i = 0; i < truth.stream_count; i++)
        if (w->places[i].acked > w->places[i].committed)
            w->places[i].committed = w->places[i].acked;
}

/* Known to be missing: a stream was closed for good in a process that lives on, and the frames that told its last facts were lost: who missed
 * them hears no more of it before the process ends. */
static bool is_untold (const struct fact *f)
{
    return f->epoch->closed;
}

/* Is there anybody to tell it of this fact, which it does not have? */
static bool is_wanting (const struct watcher *w, const struct stream *s, const struct fact *f)
{
    const struct place *at = &w->places[s - truth.streams];
    if (!w->matches[f->topic] || f->seq <= lower (at) || (w->anywhere && at->last == 0))
        return false;
    return !is_untold (f) && !was_never_met (w, s, f, s->facts[s->count - 1].seq);
}

bool watcher_complete (const struct watcher *w, char *text, size_t size)
{
    for (size_t i = 0; i < truth.stream_count; i++) {
        const struct stream *s = &truth.streams[i];
        const uint64_t last = lower (&w->places[i]);
        for (size_t k = find_fact (s, last + 1); k < s->count; k++)
            if (is_wanting (w, s, &s->facts[k]) && !is_forgiven (&s->facts[k])) {
                (void) snprintf (text, size, "%s (%s) waits for %" PRIu64 " (%s) of stream %s, behind %" PRIu64, w->name, w->patterns + 1,
                                 s->facts[k].seq, sim_topics[s->facts[k].topic], stream_text (s), last);
                return false;
            }
    }
    return true;
}

bool watcher_is_early (const struct watcher *w)
{
    return w->opened == 1 && !w->from_end;
}

/* --- At the end. */

void oracle_log_fact (unsigned journal, const struct fm_fact *fact)
{
    struct stream *s = find_stream (&fact->id.stream);
    const size_t i = s ? find_fact (s, fact->id.seq) : 0;
    if (!s || i == s->count || s->facts[i].seq != fact->id.seq)
        sim_fail ("journal %u has %" PRIu64 ", which nobody published", journal, fact->id.seq);
    else if (s->facts[i].sum != sum_of (fact->topic, fact->payload))
        sim_fail ("G2: journal %u has %" PRIu64 " of stream %s changed", journal, fact->id.seq, stream_text (s));
    else
        s->facts[i].logs |= 1U << journal;
}

void oracle_log_range (unsigned journal, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq, bool is_gap)
{
    struct stream *s = find_stream (stream);
    if (!s) {
        sim_fail ("journal %u has a %s of a stream that nobody publishes", journal, is_gap ? "gap" : "batch");
        return;
    }
    const uint64_t before = s->log_end[journal] ? s->log_end[journal] : 1;
    if (first_seq != before)
        sim_fail ("G1: journal %u has [%" PRIu64 ", %" PRIu64 ") of stream %s after %" PRIu64, journal, first_seq, end_seq, stream_text (s), before - 1);
    s->log_end[journal] = end_seq;
}

void oracle_check_logs (void)
{
    for (size_t i = 0; i < truth.stream_count; i++)
        for (size_t k = 0; k < truth.streams[i].count; k++) {
            const struct stream *s = &truth.streams[i];
            const struct fact *f = &s->facts[k];
            if ((f->synced || f->handed_out) && !f->logs) {
                sim_fail ("G2: %" PRIu64 " of stream %s was %s, and no journal has it", f->seq, stream_text (s),
                          f->synced ? "acknowledged as synced" : "handed out as synced");
                return;
            }
            for (unsigned n = 0; n < truth.watcher_count && truth.journals == 1 && f->logs; n++) {
                const struct watcher *w = truth.watchers[n];
                if (f->watchers[n] == GAP) {
                    sim_fail ("G6: %s was told that %" PRIu64 " of stream %s is lost, which the journal has", w->name, f->seq, stream_text (s));
                    return;
                }
                if (is_wanting (w, s, f)) {
                    sim_fail ("G5: %s (%s) has not got %" PRIu64 " (%s) of stream %s, which the journal has", w->name, w->patterns + 1, f->seq,
                              sim_topics[f->topic], stream_text (s));
                    return;
                }
            }
        }
}

void oracle_check_late (const struct watcher *early, const struct watcher *late)
{
    if (truth.journals > 1)
        return;                             /* each may have another one's log */
    for (size_t i = 0; i < truth.stream_count; i++)
        for (size_t k = 0; k < truth.streams[i].count; k++) {
            const struct stream *s = &truth.streams[i];
            const struct fact *f = &s->facts[k];
            const bool early_has = f->watchers[early->number] == SEEN, late_has = f->watchers[late->number] == SEEN;
            /* Live can show what no journal will have. */
            if (early_has != late_has && !(early_has && !early->synced) && !(late_has && is_untold (f)))
                sim_fail ("G5: %s has %" PRIu64 " of stream %s, %s has not", early_has ? early->name : late->name, f->seq, stream_text (s),
                          early_has ? late->name : early->name);
        }
}
