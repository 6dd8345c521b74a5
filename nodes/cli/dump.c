/* dump: prints every record of a journal's directory, in offset order, without a journal. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "directory.h"
#include "error.h"
#include "format_options.h"
#include "patterns.h"
#include "progress.h"

static const char help[] =
    "usage: factmesh dump DIR [OPTION…] [PATTERN…]\n"
    "Print every fact of a journal's directory in the journal's order, each behind its offset (then as --long of "
    "factmesh sub).\n"
    "Changes nothing; the journal may be running.\n\n"
    "      --from N             from offset N on\n"
    "      --until N            up to before offset N\n" FORMAT_HELP "  %o offset\n"
    "Facts that repeat an earlier one under the same identity are printed too: STREAM:SEQ=STREAM:SEQ names both; with --json\n"
    "\"duplicate_of\".\n"
    "Missing facts (gaps) are told on standard error; with --json as objects with \"event\" on standard output.\n\n"
    "Examples:\n"
    "  factmesh dump ./orders-journal 'orders.>' | less\n"
    "  factmesh dump ./orders-journal --from 1000 --until 2000 --json\n";

enum { OPT_FROM = OPT_FORMAT_OWN, OPT_UNTIL };

static const struct option long_options[] = { FORMAT_LONG,
                                              { "from", required_argument, NULL, OPT_FROM },
                                              { "until", required_argument, NULL, OPT_UNTIL },
                                              COMMON_LONG };

struct dump {
    struct cli cli;
    struct output_options format;
    uint64_t from, until; /* until 0: the end */
    const char *path;
    struct patterns patterns;
    struct log *log;
    struct log_reader *reader;
    struct output *out;
    struct batch_scratch scratch;
    struct progress progress;
    uint64_t facts;
};

static int take_option (struct dump *d, int option, const char *value)
{
    if (option == OPT_FROM)
        return cli_number (&d->cli, "--from", value, 0, UINT64_MAX, &d->from) ? CLI_USAGE : -1;
    if (option == OPT_UNTIL)
        return cli_number (&d->cli, "--until", value, 1, UINT64_MAX, &d->until) ? CLI_USAGE : -1;
    const int status = format_option (&d->cli, &d->format, option, value);
    return status == -2 ? cli_option (&d->cli, option, value) : status;
}

static int parse (struct dump *d, int argc, char **argv)
{
    cli_init (&d->cli, "dump", help, argv);
    d->cli.offline = true;
    d->format.fd = STDOUT_FILENO;
    d->format.offsets = true;
    d->format.interrupted = cli_is_signalled;
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT FORMAT_SHORT, long_options, NULL)) != -1) {
        const int status = take_option (d, c, optarg);
        if (status >= 0)
            return status;
    }
    if (d->format.format == OUTPUT_PAYLOAD)
        d->format.format = OUTPUT_LONG;
    if (optind == argc)
        return cli_usage (&d->cli, "which directory?");
    d->path = argv[optind++];
    return patterns_parse (&d->cli, argv + optind, &d->patterns);
}

static int dump_batch (struct dump *d, const struct log_item *item)
{
    struct batch batch;
    int rc = batch_decode (item->bytes.data, item->bytes.len, slice (NULL, 0), &d->scratch, &batch);
    if (rc < 0)
        return rc;
    struct batch_reader reader;
    struct batch_duplicates duplicates;
    batch_reader_init (&reader, &batch);
    batch_duplicates_init (&duplicates, &batch);
    struct fm_fact fact;
    uint64_t offset = item->offset;
    for (; (rc = batch_reader_next (&reader, &fact)) == 0; offset++) {
        if (offset < d->from || (d->until && offset >= d->until) || !patterns_match (&d->patterns, fact.topic))
            continue;
        d->facts++;
        output_duplicate (d->out, batch_duplicates_meet (&duplicates, fact.id.seq) ? &duplicates.next.first : NULL);
        rc = output_fact (d->out, &fact, offset);
        if (rc < 0)
            return rc;
    }
    return rc == FM_ERR_END ? 0 : rc;
}

static int dump_item (struct dump *d, const struct log_item *item)
{
    if (item->kind == LOG_ITEM_BATCH)
        return item->bytes.len ? dump_batch (d, item) : 0;
    const struct fm_gap gap = { .stream = item->stream,
                                .first = item->first_seq,
                                .end = item->end_seq,
                                .reason = (enum fm_gap_reason) item->reason };
    return format_gap (&d->cli, d->out, &gap);
}

static int dump_records (struct dump *d)
{
    int rc = log_reader_new (d->log, &d->reader);
    if (rc == 0 && d->patterns.count)
        rc = log_reader_filter (d->reader, NULL, d->patterns.items, d->patterns.count);
    struct log_position at;
    log_position (d->log, &at);
    if (rc == 0)
        rc = log_reader_seek_offset (d->reader, d->from > at.first_offset ? d->from : at.first_offset);
    struct log_item item;
    while (rc == 0 && (rc = log_reader_next (d->reader, &item)) == 0) {
        if (d->until && item.offset >= d->until)
            break;
        rc = cli_is_signalled () ? FM_INTERRUPTED : dump_item (d, &item);
        progress_draw (&d->progress, d->facts, 0, "printed");
    }
    return rc == FM_ERR_END ? 0 : rc;
}

int command_dump (int argc, char **argv)
{
    struct dump d = { .from = 0 };
    int status = parse (&d, argc, argv);
    if (status >= 0)
        return status;
    int rc = output_new (&d.format, &d.out);
    if (rc < 0)
        return rc == FM_ERR_ARGUMENT ? cli_usage (&d.cli, "%s", fm_error_detail ()) : cli_fail (&d.cli, rc, "output");
    status = directory_open (&d.cli, d.path, &d.log);
    if (status == CLI_OK)
        status = cli_catch_signals (&d.cli);
    if (status == CLI_OK) {
        progress_init (&d.progress, d.cli.quiet || isatty (STDOUT_FILENO));
        rc = dump_records (&d);
        progress_clear (&d.progress);
        if (rc == 0)
            rc = output_flush (d.out);
        if (rc == -EPIPE || rc == FM_INTERRUPTED)
            status = format_output_failed (&d.cli, rc);
        else if (rc < 0)
            status = cli_fail (&d.cli, rc, "%s: after %llu facts", d.path, (unsigned long long) d.facts);
    }
    log_reader_destroy (&d.reader);
    log_destroy (&d.log);
    batch_scratch_release (&d.scratch);
    output_destroy (&d.out);
    return status;
}
