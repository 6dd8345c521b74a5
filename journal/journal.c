#include "journal.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "blobs.h"
#include "context.h"
#include "error.h"
#include "groups.h"
#include "http.h"
#include "indexer.h"
#include "intake.h"
#include "marks.h"
#include "recent.h"
#include "server.h"
#include "sync.h"

struct journal {
    struct journal_context context;
    struct log_recovery recovery;
    struct sync *sync;
    struct server *server;
    struct groups *groups;
    struct blobs *blobs;
    struct http *http;
    struct indexer *indexer;
    struct intake *intake;
};

/* --- Notices and counters. */

void journal_notice (struct journal_context *c, const char *id, const char *format, ...)
{
    enum { NOTICE_MAX = 1024 };
    char text[NOTICE_MAX];
    va_list arguments;
    va_start (arguments, format);
    (void) vsnprintf (text, sizeof text, format, arguments);    /* cut if it must be */
    va_end (arguments);
    if (!c->options.notice) {
        node_notice (c->node, id, "%s", text);
        return;
    }
    pthread_mutex_lock (&c->notice_lock);
    c->options.notice (c->options.notice_arg, id, text);
    pthread_mutex_unlock (&c->notice_lock);
}

void journal_counter_text (enum journal_counter counter, const char **ret_name, const char **ret_unit, const char **ret_meaning)
{
    static const struct {
        const char *name, *unit, *meaning;
    } texts[] = {
#define JOURNAL_COUNTER_TEXT(name, text, unit, meaning) { text, unit, meaning },
        JOURNAL_COUNTERS (JOURNAL_COUNTER_TEXT)
#undef JOURNAL_COUNTER_TEXT
    };
    assert (counter < JOURNAL_COUNTER_COUNT);
    *ret_name = texts[counter].name;
    *ret_unit = texts[counter].unit;
    *ret_meaning = texts[counter].meaning;
}

int journal_thread (pthread_t *thread, void *(*run) (void *), void *arg)
{
    sigset_t all, before;
    sigfillset (&all);
    int rc = pthread_sigmask (SIG_SETMASK, &all, &before);
    if (rc)
        return -rc;
    rc = pthread_create (thread, NULL, run, arg);
    (void) pthread_sigmask (SIG_SETMASK, &before, NULL);    /* it was valid a moment ago */
    return -rc;
}

/* --- Options. */

static void default_unsigned (unsigned *option, unsigned value)
{
    if (!*option)
        *option = value;
}

static void options_fill (struct journal_options *o, const struct journal_options *given, const struct fm_node *node)
{
    *o = given ? *given : (struct journal_options) { .held_bytes = 0 };
    o->log.mesh = node_mesh (node).data;
    if (!o->held_bytes)
        o->held_bytes = JOURNAL_HELD_BYTES;
    if (!o->stream_held_bytes)
        o->stream_held_bytes = JOURNAL_STREAM_HELD_BYTES;
    if (!o->live_queue)
        o->live_queue = JOURNAL_LIVE_QUEUE;
    if (!o->streams_max)
        o->streams_max = JOURNAL_STREAMS_MAX;
    default_unsigned (&o->sessions_max, JOURNAL_SESSIONS_MAX);
    default_unsigned (&o->sessions_per_peer_max, JOURNAL_SESSIONS_PER_PEER_MAX);
    default_unsigned (&o->answer_ms, JOURNAL_ANSWER_MS);
    default_unsigned (&o->epoch_quiet_ms, JOURNAL_EPOCH_QUIET_MS);
    default_unsigned (&o->epoch_wait_ms, JOURNAL_EPOCH_WAIT_MS);
    default_unsigned (&o->holders_wait_ms, JOURNAL_HOLDERS_WAIT_MS);
    default_unsigned (&o->orphan_wait_ms, JOURNAL_ORPHAN_WAIT_MS);
    default_unsigned (&o->settle_ms, JOURNAL_SETTLE_MS);
    default_unsigned (&o->blob_sweep_ms, JOURNAL_BLOB_SWEEP_MS);
    if (!o->blob_size_max)
        o->blob_size_max = BLOB_SIZE_MAX_DEFAULT;
    if (!o->blob_lease_ms)
        o->blob_lease_ms = BLOB_LEASE_MS;
}

/* --- Life. */

static void note_recovery (struct journal *j)
{
    const struct log_recovery *r = &j->recovery;
    struct log_position at;
    char id[ID_TEXT_LEN + 1];
    log_position (j->context.log, &at);
    if (r->torn_bytes || r->damaged_ranges)
        journal_notice (&j->context, "JOURNAL-RECOVERED",
                        "torn_bytes=%llu damaged_ranges=%llu: what was cut off is in quarantine/; what is damaged is a gap until factmesh repair mends it",
                        (unsigned long long) r->torn_bytes, (unsigned long long) r->damaged_ranges);
    journal_notice (&j->context, "JOURNAL-OPEN", "journal=%s generation=%llu %s segments=%llu first_offset=%llu end_offset=%llu bytes=%llu",
                    id_text (&j->context.journal, id), (unsigned long long) j->context.generation, r->created ? "created" : "opened",
                    (unsigned long long) r->segments, (unsigned long long) at.first_offset, (unsigned long long) at.end_offset,
                    (unsigned long long) at.bytes);
}

/* Others must find a journal that serves and syncs before it receives: so intake comes last. */
static int start (struct journal *j, const char *directory)
{
    struct journal_context *c = &j->context;
    int rc = marks_new (c->options.streams_max, &c->marks);
    if (!rc)
        rc = recent_new (&c->recent);
    if (!rc)
        rc = wake_init (&c->room);
    for (size_t i = 0; i < BELL_COUNT && !rc; i++)
        rc = wake_init (&c->bells[i].wake);
    if (!rc)
        rc = sync_new (c, &j->sync);
    if (!rc)
        rc = server_new (c, &j->server);
    if (!rc)
        rc = groups_new (c, &j->groups);
    if (!rc)
        rc = blobs_new (c, directory, &j->blobs);
    if (!rc && c->options.http)
        rc = http_new (c, blobs_store (j->blobs), c->options.http, &j->http);
    if (!rc)
        rc = indexer_new (c, directory, j->blobs, &j->indexer);
    if (!rc)
        rc = node_set_journal (c->node, &c->journal, c->generation);
    if (!rc)
        rc = intake_new (c, &j->intake);
    return rc;
}

int journal_new (struct fm_node *node, const char *directory, const struct journal_options *options, struct journal **ret_journal)
{
    struct journal *j = calloc (1, sizeof *j);
    if (!j)
        return -ENOMEM;
    struct journal_context *c = &j->context;
    c->node = node;
    c->room.fd = -1;
    for (size_t i = 0; i < BELL_COUNT; i++)
        c->bells[i].wake.fd = -1;
    pthread_mutex_init (&c->notice_lock, NULL);
    options_fill (&c->options, options, node);
    c->clock = c->options.log.clock ? c->options.log.clock : &clock_real;
    int rc = log_open (directory, &c->options.log, &j->recovery, &c->log);
    if (!rc) {
        log_identity (c->log, &c->journal, &c->generation);
        note_recovery (j);
        rc = start (j, directory);
    }
    if (rc) {
        journal_destroy (&j);
        return rc;
    }
    *ret_journal = j;
    return 0;
}

void journal_destroy (struct journal **journal)
{
    struct journal *j = *journal;
    if (!j)
        return;
    *journal = NULL;
    struct journal_context *c = &j->context;
    /* Against the stream: nothing more comes in, then what came is synced and told, then nobody asks. */
    intake_destroy (&j->intake);
    sync_destroy (&j->sync);
    server_destroy (&j->server);
    groups_destroy (&j->groups);
    indexer_destroy (&j->indexer);
    http_destroy (&j->http);
    blobs_destroy (&j->blobs);
    recent_destroy (&c->recent);
    marks_destroy (&c->marks);
    log_destroy (&c->log);
    wake_release (&c->room);
    for (size_t i = 0; i < BELL_COUNT; i++)
        wake_release (&c->bells[i].wake);
    pthread_mutex_destroy (&c->notice_lock);
    free (j);
}

void journal_status (struct journal *journal, struct journal_status *ret_status)
{
    struct journal_context *c = &journal->context;
    *ret_status = (struct journal_status) {
        .journal = c->journal,
        .generation = c->generation,
        .read_only = log_is_read_only (c->log),
    };
    log_position (c->log, &ret_status->position);
    for (int i = 0; i < JOURNAL_COUNTER_COUNT; i++)
        ret_status->counters[i] = journal_counter (c, (enum journal_counter) i);
}

struct log *journal_log (struct journal *journal)
{
    return journal->context.log;
}
