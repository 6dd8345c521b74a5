/* replay: prints what a journal has recorded, straight from it, and ends.
 *
 * Thread:  one. Taking a message gives the journal credit for the next ones, so that it is paced by standard output. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch.h"
#include "commands.h"
#include "error.h"
#include "format_options.h"
#include "id.h"
#include "large.h"
#include "link.h"
#include "patterns.h"
#include "progress.h"
#include "text.h"
#include "through.h"

static const char help[] =
    "usage: factmesh replay [OPTION…] [PATTERN…]\n"
    "Print the recorded facts of the topics that any PATTERN matches (none: all), in the journal's order, and end.\n\n"
    "      --from WHERE         start, latest (the newest fact of each key), -100 (the last 100 facts), @TIME,\n"
    "                           cursor:NAME, offset:N [start]\n"
    "      --until WHERE        end (what is on disk when it begins), @TIME, offset:N (before N; facts share\n"
    "                           batches: it prints the last one whole) [end].\n"
    "                           Times are the journal's. TIME: 2026-11-01T10:00, with Z or +01:00, Unix seconds, -1h\n"
    "      --stream ID          of this stream only\n"
    "      --duplicates         also what repeats an earlier fact under the same identity: --long says STREAM:SEQ=STREAM:SEQ,\n"
    "                           --json \"duplicate_of\"\n"
    "      --journal ID         from this journal; the first digits will do\n"
    "      --stats              at the end, on standard error: facts, bytes, seconds, rate, where it stopped\n"
    "      --fail-on-gap        end with 4 when facts are missing\n" LARGE_FETCH_HELP
    "  --timeout is how long to wait for the journal [10s].\n" FORMAT_HELP
    "Missing facts (gaps) are told on standard error; with --json as objects with \"event\" on standard output.\n\n"
    "Examples:\n"
    "  factmesh replay 'orders.>' --seed tcp://127.0.0.1:7400 --from @-1d > orders.txt\n"
    "  factmesh replay --from offset:1000 --until offset:2000 --long --stats\n";

struct replay {
    struct cli cli;
    struct output_options format;
    struct when from, until;
    struct fm_id stream;
    const char *journal;
    bool stats, fail_on_gap, duplicates;
    uint64_t fetch_max; /* 0: no --fetch */
    struct patterns patterns;
    struct link link;
    struct output *out;
    struct batch_scratch scratch;
    struct through through; /* batches may begin below the session's start, and it says so */
    struct progress progress;
    uint64_t facts, bytes, gaps, next_offset;
};

enum { OPT_FROM = OPT_FORMAT_OWN, OPT_UNTIL, OPT_STREAM, OPT_JOURNAL, OPT_STATS, OPT_FAIL_ON_GAP, OPT_DUPLICATES, OPT_FETCH };

static const struct option long_options[] = { FORMAT_LONG,
                                              { "from", required_argument, NULL, OPT_FROM },
                                              { "until", required_argument, NULL, OPT_UNTIL },
                                              { "stream", required_argument, NULL, OPT_STREAM },
                                              { "journal", required_argument, NULL, OPT_JOURNAL },
                                              { "stats", no_argument, NULL, OPT_STATS },
                                              { "fail-on-gap", no_argument, NULL, OPT_FAIL_ON_GAP },
                                              { "duplicates", no_argument, NULL, OPT_DUPLICATES },
                                              LARGE_FETCH_LONG (OPT_FETCH),
                                              COMMON_LONG };

static int take_option (struct replay *r, int option, const char *value)
{
    switch (option) {
    case OPT_FROM:
        return cli_where (&r->cli, "--from", value, "start, latest, -100, @2026-11-01T10:00, @-1h, cursor:NAME or offset:N",
                          &r->from) ? CLI_USAGE : -1;
    case OPT_UNTIL:
        return cli_where (&r->cli, "--until", value, "end, @TIME or offset:N", &r->until) ? CLI_USAGE : -1;
    case OPT_STREAM:
        if (id_parse (value, strlen (value), &r->stream) < 0)
            return cli_usage (&r->cli, "--stream: %s", fm_error_detail ());
        return id_is_zero (&r->stream) ? cli_usage (&r->cli, "--stream: no stream has the id 0") : -1;
    case OPT_JOURNAL:
        r->journal = value;
        return -1;
    case OPT_STATS:
        r->stats = true;
        return -1;
    case OPT_DUPLICATES:
        r->duplicates = true;
        return -1;
    case OPT_FAIL_ON_GAP:
        r->fail_on_gap = true;
        return -1;
    case OPT_FETCH:
        return large_fetch_option (&r->cli, value, &r->fetch_max);
    default:
        break;
    }
    const int status = format_option (&r->cli, &r->format, option, value);
    return status == -2 ? cli_option (&r->cli, option, value) : status;
}

static int parse (struct replay *r, int argc, char **argv)
{
    cli_init (&r->cli, "replay", help, argv);
    r->from.kind = WHEN_START;
    r->until.kind = WHEN_END;
    r->format.fd = STDOUT_FILENO;
    r->format.interrupted = cli_is_signalled;
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT FORMAT_SHORT, long_options, NULL)) != -1) {
        const int status = take_option (r, c, optarg);
        if (status >= 0)
            return status;
    }
    const int status = patterns_parse (&r->cli, argv + optind, &r->patterns);
    if (status >= 0)
        return status;
    if (r->from.kind == WHEN_END)
        return cli_usage (&r->cli, "--from end: nothing is recorded there yet; factmesh sub prints what comes");
    if (r->until.kind != WHEN_END && r->until.kind != WHEN_TIME && r->until.kind != WHEN_OFFSET)
        return cli_usage (&r->cli, "--until: write end, @TIME or offset:N");
    if (r->from.kind == r->until.kind && r->until.value < r->from.value)
        return cli_usage (&r->cli, "--until lies before --from");
    return -1;
}

static void set_start (const struct replay *r, Factmesh__ReplayOpen *open)
{
    static const Factmesh__Cursor from_the_first = FACTMESH__CURSOR__INIT;
    switch (r->from.kind) {
    case WHEN_LAST:
        open->start_case = FACTMESH__REPLAY_OPEN__START_LAST_COUNT;
        open->last_count = r->from.value;
        break;
    case WHEN_TIME:
        open->start_case = FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS;
        open->from_time_ns = r->from.value;
        break;
    case WHEN_CURSOR:
        open->start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME;
        open->from_cursor_name = control_put_slice (slice_of (r->from.name));
        break;
    case WHEN_LATEST:
        open->start_case = FACTMESH__REPLAY_OPEN__START_FROM_LATEST;
        open->from_latest = (Factmesh__Cursor *) &from_the_first;   /* only read */
        break;
    case WHEN_START:
    case WHEN_OFFSET:
    case WHEN_END:
        open->start_case = FACTMESH__REPLAY_OPEN__START_FROM_OFFSET;
        open->from_offset = r->from.kind == WHEN_OFFSET ? r->from.value : 0;
        break;
    }
}

static void set_end (const struct replay *r, Factmesh__ReplayOpen *open)
{
    switch (r->until.kind) {
    case WHEN_TIME:
        open->end_case = FACTMESH__REPLAY_OPEN__END_END_TIME_NS;
        open->end_time_ns = r->until.value;
        break;
    case WHEN_OFFSET:
        open->end_case = FACTMESH__REPLAY_OPEN__END_END_OFFSET;
        open->end_offset = r->until.value;
        break;
    default:
        open->end_case = FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED;
        open->end_at_synced = 1;
        break;
    }
}

/* A journal waits for the facts of a stream that it has not met: a mistyped --stream would look like an empty one. Its
 * list of streams goes by id: ask for the one behind the greatest id below. */
static int check_stream (struct replay *r)
{
    struct fm_id below = r->stream, got;
    for (size_t i = ID_LEN; i-- && below.bytes[i]-- == 0;)
        continue;
    Factmesh__StatusGet body = FACTMESH__STATUS_GET__INIT;
    body.streams_limit = 1;
    body.streams_after = control_put_id (&below);
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    request.status_get = &body;
    const int status = link_request (&r->link, &request, FACTMESH__CONTROL__BODY_STATUS_REPLY, &reply);
    if (status)
        return status;
    const Factmesh__StatusReply *const s = reply->status_reply;
    if (s->n_streams && control_get_id (&s->streams[0]->stream, &got) == 0 && id_equal (&got, &r->stream))
        return CLI_OK;
    char text[ID_TEXT_LEN + 1];
    return cli_error (&r->cli, "the journal at %s holds no stream %s; factmesh status --streams lists its own",
                      r->link.address, id_text (&r->stream, text));
}

/* The journal would begin at its end instead of behind it, and wait there for an end to come. */
static int check_offsets (struct replay *r)
{
    Factmesh__StatusGet body = FACTMESH__STATUS_GET__INIT;
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    request.status_get = &body;
    const int status = link_request (&r->link, &request, FACTMESH__CONTROL__BODY_STATUS_REPLY, &reply);
    if (status)
        return status;
    const uint64_t end = reply->status_reply->synced_offset;
    const bool from = r->from.kind == WHEN_OFFSET && r->from.value > end;
    if (from || (r->until.kind == WHEN_OFFSET && r->until.value > end))
        return cli_error (&r->cli, "%s: offset %llu lies behind the journal's end, %llu", from ? "--from" : "--until",
                          (unsigned long long) (from ? r->from.value : r->until.value), (unsigned long long) end);
    return CLI_OK;
}

static int replay_open (struct replay *r, uint64_t *ret_session)
{
    ProtobufCBinaryData filters[FILTERS_MAX];
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    for (size_t i = 0; i < r->patterns.count; i++)
        filters[i] = control_put_slice (r->patterns.items[i]);
    open.filters = filters;
    open.n_filters = r->patterns.count;
    if (!id_is_zero (&r->stream))
        open.stream = control_put_id (&r->stream);
    set_start (r, &open);
    set_end (r, &open);
    const int rc = replay_client_open (r->link.client, &open, ret_session);
    return rc < 0 ? cli_fail (&r->cli, rc, "cannot ask the journal at %s", r->link.address) : CLI_OK;
}

static int print_fact (struct replay *r, struct fm_fact *fact)
{
    void *buffer = NULL;
    int rc = r->fetch_max ? large_fetch (r->link.node, r->fetch_max, r->link.timeout_ms, fact, &buffer) : 0;
    if (rc < 0)
        return rc;
    r->facts++;
    r->bytes += fact->payload.len;
    rc = output_fact (r->out, fact, 0);
    free (buffer);
    return rc;
}

/* Print a batch's facts that are above what is done. 0, output.h's errors, or what is wrong with the batch. */
static int print_batch (struct replay *r, struct fm_slice bytes)
{
    struct batch batch;
    int rc = batch_decode (bytes.data, bytes.len, node_mesh (r->link.node), &r->scratch, &batch);
    if (rc < 0)
        return rc;
    const uint64_t done = through_get (&r->through, &batch.stream);
    struct batch_reader reader;
    struct batch_duplicates duplicates;
    batch_reader_init (&reader, &batch);
    batch_duplicates_init (&duplicates, &batch);
    struct fm_fact fact;
    while ((rc = batch_reader_next (&reader, &fact)) == 0) {
        if (fact.id.seq <= done || !patterns_match (&r->patterns, fact.topic))
            continue;
        const bool repeats = batch_duplicates_meet (&duplicates, fact.id.seq);
        if (repeats && !r->duplicates)
            continue;
        output_duplicate (r->out, repeats ? &duplicates.next.first : NULL);
        rc = print_fact (r, &fact);
        if (rc < 0)
            return rc;
    }
    return rc == FM_ERR_END ? through_put (&r->through, &batch.stream, batch_end_seq (&batch) - 1) : rc;
}

static int print_gaps (struct replay *r, const struct replay_header *header)
{
    for (size_t i = 0; i < header->gap_count; i++) {
        const struct replay_gap *g = &header->gaps[i];
        struct fm_gap gap = {
            .stream = g->stream, .first = g->first_seq, .end = g->end_seq, .reason = (enum fm_gap_reason) g->reason
        };
        const uint64_t done = id_is_zero (&gap.stream) ? 0 : through_get (&r->through, &gap.stream);
        if (gap.end <= done + 1)
            continue;
        if (gap.first <= done)
            gap.first = done + 1;
        r->gaps++;
        const int rc = format_gap (&r->cli, r->out, &gap);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* One message: gaps and batches, then how far each stream is. */
static int print_data (struct replay *r, struct replay_view *view)
{
    const struct replay_header *const header = &view->header;
    struct fm_slice bytes;
    int rc = print_gaps (r, header);
    while (rc == 0 && (rc = replay_view_next (view, &bytes)) == 0)
        rc = print_batch (r, bytes);
    if (rc == FM_ERR_END)
        rc = 0;
    for (size_t i = 0; i < header->covered_count && rc == 0; i++)
        rc = through_put (&r->through, &header->covered[i].stream, header->covered[i].through);
    r->next_offset = header->next_offset;
    return rc;
}

/* The journal's reasons may be output's or the batch's: -EPIPE and an interruption end quietly. */
static int failed (struct replay *r, int rc)
{
    if (rc == -EPIPE || rc == FM_INTERRUPTED)
        return format_output_failed (&r->cli, rc);
    (void) output_flush (r->out); /* they are said to be printed; the first error is the one that counts */
    return cli_fail (&r->cli, rc, "after %llu facts", (unsigned long long) r->facts);
}

static int replay_run (struct replay *r)
{
    uint64_t session;
    int status = replay_open (r, &session);
    progress_init (&r->progress, r->cli.quiet || isatty (STDOUT_FILENO));
    while (status == CLI_OK && !cli_is_signalled ()) {
        struct replay_event event;
        status = link_wait (&r->link, "replay", &event);
        if (status)
            break;
        int rc = 0;
        if (event.kind == REPLAY_DATA) {
            rc = print_data (r, event.view);
            progress_draw (&r->progress, r->facts, 0, "replayed");
        } else if (event.kind == REPLAY_ERROR) {
            progress_clear (&r->progress);
            status = cli_error (&r->cli, "the journal says: %s",
                                event.text && *event.text ? event.text : "an error without a text");
        } else if (event.kind == REPLAY_END) {
            r->next_offset = event.next_offset;
            break;
        }
        if (rc < 0) {
            progress_clear (&r->progress);
            return failed (r, rc);
        }
    }
    progress_clear (&r->progress);
    const int rc = output_flush (r->out);
    if (rc < 0)
        return failed (r, rc);
    if (status == CLI_OK)
        status = cli_is_signalled () ? CLI_SIGNAL + cli_signalled () : r->gaps && r->fail_on_gap ? CLI_GAP : CLI_OK;
    return status;
}

static void print_stats (const struct replay *r, uint64_t took_ns)
{
    char facts[TEXT_GROUPED], bytes[TEXT_GROUPED], rate[TEXT_GROUPED];
    const double seconds = (double) (took_ns ? took_ns : 1) / 1e9;
    cli_say (&r->cli, "%s facts, %s bytes of payload in %.4f s, %s facts/s; %llu gaps; the next offset is %llu",
             text_grouped (r->facts, facts), text_grouped (r->bytes, bytes), seconds,
             text_grouped ((uint64_t) ((double) r->facts / seconds), rate), (unsigned long long) r->gaps,
             (unsigned long long) r->next_offset);
}

int command_replay (int argc, char **argv)
{
    struct replay r = { .journal = NULL };
    int status = parse (&r, argc, argv);
    if (status >= 0)
        return status;
    const int rc = output_new (&r.format, &r.out);
    if (rc < 0)
        return rc == FM_ERR_ARGUMENT ? cli_usage (&r.cli, "%s", fm_error_detail ()) : cli_fail (&r.cli, rc, "output");
    status = link_open (&r.link, &r.cli, r.journal);
    if (status == CLI_OK) {
        status = cli_catch_signals (&r.cli);
        const uint64_t began = cli_monotonic_ns ();
        if (status == CLI_OK && !id_is_zero (&r.stream))
            status = check_stream (&r);
        if (status == CLI_OK && (r.from.kind == WHEN_OFFSET || r.until.kind == WHEN_OFFSET))
            status = check_offsets (&r);
        if (status == CLI_OK)
            status = replay_run (&r);
        if (r.stats)
            print_stats (&r, cli_monotonic_ns () - began);
        link_close (&r.link);
    }
    through_release (&r.through);
    batch_scratch_release (&r.scratch);
    output_destroy (&r.out);
    return status;
}
