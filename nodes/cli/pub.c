/* pub: publishes facts from arguments and files.
 *
 * Promise: exit status 0 only when journals have synced every fact; otherwise a message that says how many they have,
 * and from which one on nothing was sent. --ack-log names a sequence only after it is synced. Thread:  one; it looks
 * after the watermark (pub_tend) while it reads, waits for room, and at the end. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "error.h"
#include "input_csv.h"
#include "input_json.h"
#include "large.h"
#include "output.h"
#include "progress.h"
#include "pub_options.h"
#include "stream_pool.h"
#include "text.h"
#include "topic.h"
#include "when.h"

enum {
    PUB_TIMEOUT_MS = 10000, /* without progress */
    PUB_SLICE_MS = 50,      /* between two looks at the watermark while waiting */
    PUB_TEND_EVERY = 64,    /* facts between two looks while sending */
    PUB_LINGER_MS = 1000    /* --no-wait, and after Ctrl-C: for what is on its way */
};

struct pub {
    struct cli cli;
    struct pub_options o;
    int timeout_ms;
    struct fm_node *node;
    struct fm_publisher *publisher;
    struct output *ids; /* NULL: not asked for */
    struct progress progress;
    int ack_fd;
    struct text topic;
    uint64_t published; /* in this run */
    uint64_t first_seq; /* of this run; 0: none yet */
    uint64_t synced;    /* last one seen */
    uint64_t acked;     /* last one in the ack log */
    uint64_t recovered; /* the last one that an earlier run left on disk; 0: none */
    uint64_t moved_ms;  /* when that changed, or waiting began */
    uint64_t started_ms;
    char fault[1024]; /* what ended it early, for the last line */
};

/* How many of this run's facts the journals have. */
static uint64_t pub_recorded (const struct pub *p)
{
    if (!p->first_seq || p->synced < p->first_seq)
        return 0;
    const uint64_t n = p->synced - p->first_seq + 1;
    return n < p->published ? n : p->published;
}

/* All up to there is on disk: a journal's mark passes what journals gave up of what came back, the ack log does not. */
static int pub_ack (struct pub *p, const struct fm_publisher_state *state)
{
    const struct fm_fact_id id = { .stream = state->stream, .seq = state->lost && state->lost <= state->synced ? state->lost - 1 : state->synced };
    char line[FM_FACT_ID_TEXT + 2];
    if (p->ack_fd < 0 || id.seq <= p->acked)
        return 0;
    p->acked = id.seq;
    fm_fact_id_text (&id, line, FM_FACT_ID_TEXT);
    *strchr (line, ':') = ' ';
    const size_t len = strlen (line);
    line[len] = '\n';
    if (write (p->ack_fd, line, len + 1) == (ssize_t) (len + 1))
        return 0;
    const int rc = errno ? -errno : -EIO;
    return error_set (rc, "%s: %s", p->o.ack_log, strerror (-rc));
}

/* Look at the watermark; tell the ack log and the terminal. */
static int pub_tend (struct pub *p)
{
    struct fm_publisher_state state;
    fm_publisher_state (p->publisher, &state);
    const int rc = pub_ack (p, &state);
    if (rc < 0)
        return rc;
    if (state.synced > p->synced) {
        p->synced = state.synced;
        p->moved_ms = cli_monotonic_ms ();
    }
    if (p->o.no_wait)
        progress_draw (&p->progress, p->published, 0, "published");
    else
        progress_draw (&p->progress, pub_recorded (p), p->published, "recorded");
    return 0;
}

static bool pub_is_stuck (const struct pub *p)
{
    return cli_monotonic_ms () - p->moved_ms >= (uint64_t) p->timeout_ms;
}

/* Keep to --rate. */
static int pub_pace (struct pub *p)
{
    if (!p->o.rate)
        return 0;
    const uint64_t due_ms = p->started_ms + p->published * 1000 / p->o.rate;
    for (uint64_t now; (now = cli_monotonic_ms ()) < due_ms;) {
        const uint64_t left = due_ms - now;
        cli_wait (-1, left < PUB_SLICE_MS ? (int) left : PUB_SLICE_MS);
        if (cli_is_signalled ())
            return FM_INTERRUPTED;
        const int rc = pub_tend (p);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int pub_topic (struct pub *p, struct fm_slice level, struct fm_slice *ret_topic)
{
    if (!p->o.topic_column) {
        *ret_topic = fm_text (p->o.topic);
        return 0;
    }
    text_clear (&p->topic);
    text_put_cstr (&p->topic, p->o.topic);
    text_put_byte (&p->topic, '.');
    text_put (&p->topic, level);
    *ret_topic = slice (p->topic.data, p->topic.len);
    return p->topic.failed ? -ENOMEM : 0;
}

/* Blobs go where facts must be, if that is one journal. */
static const char *pub_blob_journal (const struct pub *p)
{
    return p->o.journals && !strchr (p->o.journals, ',') ? p->o.journals : NULL;
}

/* When nobody reads the ids any more, that is no reason to stop publishing. */
static int pub_put_ids (struct pub *p, int rc)
{
    if (rc == -EPIPE)
        output_destroy (&p->ids);
    return rc == -EPIPE ? 0 : rc;
}

/* Publish one fact; waits for room in the window as long as something moves. */
static int pub_send (struct pub *p, const struct input_record *r)
{
    struct fm_fact fact = p->o.fact;
    fact.payload = r->payload;
    const bool named = p->o.format == PUB_CSV || p->o.format == PUB_JSON;
    fact.key = named ? r->key : fm_text (p->o.key);
    fact.identity = named ? r->identity : fm_text (p->o.fact_identity);
    int rc = pub_topic (p, r->level, &fact.topic);
    if (rc == 0)
        rc = pub_pace (p);
    /* First the blob, which the journal keeps for its lease; then the fact, with which it stays. */
    uint8_t ref[FM_BLOB_REF];
    if (rc == 0 && p->o.blob_over && fact.payload.len > p->o.blob_over)
        rc = large_store (p->node, pub_blob_journal (p), p->timeout_ms, &fact, ref);
    if (rc < 0)
        return rc;
    struct fm_fact_id id;
    bool waited = false;
    while ((rc = fm_publish (p->publisher, &fact, &id)) == FM_ERR_WINDOW_FULL) {
        if (!waited)
            p->moved_ms = cli_monotonic_ms ();
        waited = true;
        rc = pub_tend (p);
        if (rc < 0)
            return rc;
        if (cli_is_signalled ())
            return FM_INTERRUPTED;
        if (pub_is_stuck (p))
            return FM_TIMEOUT;
    }
    if (rc < 0)
        return rc;
    if (!p->first_seq)
        p->first_seq = id.seq;
    p->published++;
    if (p->ids) {
        char text[FM_FACT_ID_TEXT];
        rc = pub_put_ids (p, output_line (p->ids, fm_fact_id_text (&id, text, sizeof text)));
    }
    if (rc == 0 && p->published % PUB_TEND_EVERY == 0)
        rc = pub_tend (p);
    return rc;
}

/* --- Where facts come from. */

/* One open file in its format. */
struct source {
    enum pub_format format;
    struct input *in;
    struct csv *csv;
    struct json_lines *json;
};

static int source_open (const struct pub_options *o, const char *path, struct source *ret_source)
{
    const struct input_options options = {
        .record_max = (size_t) o->payload_max,
        .wake_fd = cli_signal_fd (),
        .idle_ms = PUB_SLICE_MS,
    };
    const struct csv_options csv = {
        .delimiter = o->csv_delimiter, .raw = o->csv_raw, .key = o->key, .identity = o->fact_identity, .level = o->topic_column
    };
    const struct json_lines_options json = { .key = o->key, .identity = o->fact_identity, .level = o->topic_column };
    struct source s = { .format = o->format };
    int rc = input_open (path, &options, &s.in);
    if (rc == 0 && o->format == PUB_CSV)
        rc = csv_new (s.in, &csv, &s.csv);
    if (rc == 0 && o->format == PUB_JSON)
        rc = json_lines_new (s.in, &json, &s.json);
    if (rc < 0)
        input_destroy (&s.in);
    else
        *ret_source = s;
    return rc;
}

static void source_close (struct source *s)
{
    json_lines_destroy (&s->json);
    csv_destroy (&s->csv);
    input_destroy (&s->in);
}

static int source_next (struct source *s, struct input_record *ret_record)
{
    switch (s->format) {
    case PUB_CSV:
        return csv_next (s->csv, ret_record);
    case PUB_JSON:
        return json_lines_next (s->json, ret_record);
    case PUB_WHOLE:
        return input_whole (s->in, ret_record);
    case PUB_NULL:
        return input_line (s->in, 0, ret_record);
    case PUB_LINES:
        break;
    }
    return input_line (s->in, '\n', ret_record);
}

/* Remember what ended it, in words. `where` is of the record that was refused. */
static void pub_fault (struct pub *p, int code, const char *where, uint64_t line)
{
    const char *const detail = fm_error_detail ();
    const char *const text = fm_error_text (code);
    if (where && line)
        (void) snprintf (p->fault, sizeof p->fault, "%s:%llu: %s%s%s", where, (unsigned long long) line, text,
                         *detail ? ": " : "", detail);
    else if (where)
        (void) snprintf (p->fault, sizeof p->fault, "%s: %s%s%s", where, text, *detail ? ": " : "", detail);
    else
        (void) snprintf (p->fault, sizeof p->fault, "%s", *detail ? detail : text);
}

/* Publish a file's facts: 0, or what ended it, with p->fault. */
static int pub_file (struct pub *p, const char *path)
{
    struct source source;
    int rc = source_open (&p->o, path, &source);
    if (rc < 0) {
        pub_fault (p, rc, NULL, 0);
        return rc;
    }
    for (;;) {
        struct input_record record;
        rc = source_next (&source, &record);
        if (rc == FM_TIMEOUT) {
            /* Nothing to read now: a good moment for the rest. */
            rc = pub_tend (p);
            if (rc == 0 && p->ids)
                rc = pub_put_ids (p, output_flush (p->ids));
            if (rc == 0)
                continue;
        }
        if (rc < 0) {
            if (rc == FM_ERR_END)
                rc = 0;
            else
                pub_fault (p, rc, NULL, 0);
            break;
        }
        rc = pub_send (p, &record);
        if (rc < 0) {
            pub_fault (p, rc, input_name (source.in), record.line);
            break;
        }
        if (cli_is_signalled ()) {
            rc = FM_INTERRUPTED;
            break;
        }
    }
    source_close (&source);
    return rc;
}

static int pub_texts (struct pub *p)
{
    for (size_t i = 0; i < p->o.text_count; i++) {
        const struct input_record record = { .payload = fm_text (p->o.texts[i]) };
        const int rc = pub_send (p, &record);
        if (rc < 0) {
            char where[32];
            (void) snprintf (where, sizeof where, "fact %zu", i + 1);
            pub_fault (p, rc, where, 0);
            return rc;
        }
    }
    return 0;
}

/* --- The end. */

/* Wait until the journals have all that was published, as long as they get on. */
static int pub_wait_synced (struct pub *p, int rc_so_far)
{
    const uint64_t began = cli_monotonic_ms ();
    int rc = 0;
    p->moved_ms = began;
    while ((p->published && pub_recorded (p) < p->published) || p->synced < p->recovered) {
        rc = fm_publisher_wait_synced (p->publisher, 0, PUB_SLICE_MS);
        if (rc < 0 && rc != FM_TIMEOUT && rc != FM_INTERRUPTED)
            return rc;
        rc = pub_tend (p);
        if (rc < 0)
            return rc;
        if ((cli_is_signalled () || rc_so_far == FM_INTERRUPTED) && cli_monotonic_ms () - began >= PUB_LINGER_MS)
            return FM_INTERRUPTED;
        if (pub_is_stuck (p))
            return FM_TIMEOUT;
    }
    return cli_is_signalled () ? FM_INTERRUPTED : 0;
}

/* Go on waiting? 0, or why not. */
static int pub_waits (struct pub *p)
{
    const int rc = pub_tend (p);
    return rc < 0 ? rc : cli_is_signalled () ? FM_INTERRUPTED : pub_is_stuck (p) ? FM_TIMEOUT : 0;
}

/* Publish what journals gave up anew, and wait for that. */
static int pub_lost_again (struct pub *p)
{
    struct fm_fact fact;
    unsigned long long facts = 0;
    int rc;
    p->moved_ms = cli_monotonic_ms ();
    while ((rc = fm_publisher_lost_next (p->publisher, &fact)) == 0) {
        while ((rc = fm_publish (p->publisher, &fact, NULL)) == FM_ERR_WINDOW_FULL && (rc = pub_waits (p)) == 0)
            continue;
        if (rc < 0)
            return rc;
        facts++;
    }
    if (rc != FM_ERR_END)
        return rc;
    while ((rc = fm_publisher_wait_synced (p->publisher, 0, PUB_SLICE_MS)) == FM_TIMEOUT && (rc = pub_waits (p)) == 0)
        continue;
    if (rc == 0)
        cli_say (&p->cli, "%llu facts that a journal gave up were published again", facts);
    return rc ? rc : pub_tend (p);
}

/* What came back from disk may have been given up: then it is not recorded, however far the journals are. */
static int pub_end_lost (struct pub *p)
{
    const int rc = fm_publisher_wait_synced (p->publisher, 0, 0);
    return rc == FM_ERR_LOST && p->o.lost_again ? pub_lost_again (p) : rc;
}

/* --no-wait: give what is on its way a moment to leave. A journal that has received all is a sign that it did. */
static void pub_linger (struct pub *p)
{
    const uint64_t began = cli_monotonic_ms ();
    struct fm_publisher_state state;
    do {
        fm_publisher_state (p->publisher, &state);
        if (state.received >= state.head || state.synced >= state.head)
            break;
        cli_wait (-1, 10);
    } while (!cli_is_signalled () && cli_monotonic_ms () - began < PUB_LINGER_MS);
}

/* The last words, and the exit status. rc: how sending ended; synced_rc: how waiting did. */
static int pub_report (struct pub *p, int rc, int synced_rc)
{
    const unsigned long long recorded = pub_recorded (p), published = p->published;
    const unsigned long long missing = published - recorded;
    progress_clear (&p->progress);
    if (rc == 0 && synced_rc == 0) {
        if (p->cli.verbose)
            cli_say (&p->cli, "%llu facts %s", published, p->o.no_wait ? "published" : "recorded");
        return CLI_OK;
    }
    if (p->o.no_wait) {
        if (cli_is_signalled ())
            return CLI_SIGNAL + cli_signalled ();
        return cli_error (&p->cli, "%s; the %llu facts before were published, nothing from there on", p->fault,
                          published);
    }
    char state[256];
    if (!missing)
        (void) snprintf (state, sizeof state, "%llu facts are recorded", recorded);
    else
        (void) snprintf (state, sizeof state,
                         "%llu facts are recorded; of %llu more that were published (from fact %llu on) "
                         "it is not known: a journal may or may not have them",
                         recorded, missing, recorded + 1);
    if (cli_is_signalled ()) {
        cli_say (&p->cli, "interrupted: %s", state);
        return CLI_SIGNAL + cli_signalled ();
    }
    if (rc < 0 && rc != FM_TIMEOUT)
        return cli_error (&p->cli, "%s; nothing from there on was published; %s", p->fault, state);
    if (rc < 0)
        (void) cli_error (&p->cli,
                          "%s; nothing from there on was published; no journal recorded anything for %d ms: %s",
                          p->fault, p->timeout_ms, state);
    else if (synced_rc == FM_TIMEOUT)
        (void) cli_error (&p->cli, "timed out: no journal recorded anything for %d ms (%s): %s", p->timeout_ms,
                          fm_error_detail (), state);
    else
        return cli_fail (&p->cli, synced_rc, "%s", state);
    return CLI_TIMEOUT;
}

static int pub_open_stream (struct pub *p)
{
    struct fm_publisher_options options = {
        .name = p->o.stream,
        .directory = p->o.identity,
        .when_full = p->o.no_wait ? FM_DROP_OLDEST : FM_BLOCK,
        .block_ms = PUB_SLICE_MS,
        .payload_max = (size_t) (p->o.payload_max < PAYLOAD_MAX_LIMIT ? p->o.payload_max : PAYLOAD_MAX_LIMIT),
        .journals = p->o.journals,
        .window_on_disk = p->o.window,
    };
    const char *const mesh = p->cli.mesh ? p->cli.mesh : "default";
    const int rc = p->o.identity || p->o.ephemeral
                       ? fm_publisher_open (p->node, &options, &p->publisher)
                       : stream_pool_open (p->node, mesh, p->o.stream, &options, &p->publisher);
    return rc < 0 ? cli_fail (&p->cli, rc, "cannot open a stream") : CLI_OK;
}

/* Everything that must be there before the first fact. CLI_OK, or an exit status after a message. */
static int pub_prepare (struct pub *p)
{
    int status = cli_open_node (&p->cli, &p->node);
    if (status)
        return status;
    status = pub_open_stream (p);
    if (status)
        return status;
    if (p->o.ack_log) {
        p->ack_fd = open (p->o.ack_log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (p->ack_fd < 0)
            return cli_error (&p->cli, "--ack-log: %s: %s", p->o.ack_log, strerror (errno));
    }
    if (p->o.print_ids) {
        const struct output_options options = { .fd = STDOUT_FILENO, .interrupted = cli_is_signalled };
        const int rc = output_new (&options, &p->ids);
        if (rc < 0)
            return cli_fail (&p->cli, rc, "--print-ids");
    }
    const int rc =
        p->o.no_wait ? fm_node_wait_members (p->node, 2, p->timeout_ms) : fm_node_wait_journal (p->node, p->timeout_ms);
    if (rc < 0)
        return cli_fail (&p->cli, rc, "%s; nothing was published",
                         p->o.no_wait ? "nobody to publish to" : "no journal");
    struct fm_publisher_state state;
    fm_publisher_state (p->publisher, &state);
    p->synced = state.synced;
    p->acked = state.lost ? 0 : state.synced;
    p->recovered = state.recovered;
    return cli_catch_signals (&p->cli);
}

int command_pub (int argc, char **argv)
{
    static struct pub p = { .ack_fd = -1 };
    int status = pub_options_parse (argc, argv, &p.cli, &p.o);
    if (status >= 0)
        return status;
    p.timeout_ms = cli_timeout (&p.cli, PUB_TIMEOUT_MS);
    status = pub_prepare (&p);
    if (status == CLI_OK) {
        p.started_ms = p.moved_ms = cli_monotonic_ms ();
        progress_init (&p.progress, p.cli.quiet);
        int rc = p.o.text_count ? pub_texts (&p) : 0;
        for (size_t i = 0; i < p.o.file_count && rc == 0; i++)
            rc = pub_file (&p, p.o.files[i]);
        (void) fm_publisher_flush (p.publisher); /* what is not sent shows in the watermark */
        int synced_rc = 0;
        if (p.o.no_wait)
            pub_linger (&p);
        else
            synced_rc = pub_wait_synced (&p, rc);
        if (!p.o.no_wait && p.recovered && rc == 0 && (synced_rc == 0 || synced_rc == FM_ERR_LOST))
            synced_rc = pub_end_lost (&p);
        const int ids_rc = p.ids ? pub_put_ids (&p, output_flush (p.ids)) : 0;
        status = pub_report (&p, rc, synced_rc);
        if (status == CLI_OK && ids_rc < 0)
            status = cli_fail (&p.cli, ids_rc, "--print-ids");
    }
    output_destroy (&p.ids);
    if (p.ack_fd >= 0 && close (p.ack_fd) < 0 && status == CLI_OK)
        status = cli_error (&p.cli, "--ack-log: %s: %s", p.o.ack_log, strerror (errno));
    fm_publisher_close (&p.publisher);
    fm_node_close (&p.node);
    text_release (&p.topic);
    return status;
}
