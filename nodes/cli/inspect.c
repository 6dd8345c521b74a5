/* inspect: what a journal's directory holds: identity, segments, streams, topics, cursors. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "directory.h"
#include "id.h"
#include "text.h"
#include "when.h"

static const char help[] = "usage: factmesh inspect DIR [OPTION…]\n"
                           "Print what a journal's directory holds: whose it is, its segments, streams, topics and "
                           "cursors. Changes nothing; the journal\n"
                           "may be running.\n\n"
                           "      --json               one JSON object\n"
                           "      --topics N           at most N topics [1000]\n\n"
                           "Examples:\n"
                           "  factmesh inspect ./orders-journal\n"
                           "  factmesh inspect ./orders-journal --json | jq '.streams[].stream'\n";

enum { OPT_JSON = OPT_OWN, OPT_TOPICS, INSPECT_STREAMS_PAGE = 256, INSPECT_TOPICS = 1000, INSPECT_TOPICS_MAX = 1 << 24 };

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON },
                                              { "topics", required_argument, NULL, OPT_TOPICS },
                                              COMMON_LONG };

struct inspect {
    struct cli cli;
    bool json;
    uint64_t topics_max;
    struct log *log;
    struct text text;
    uint64_t topics;
    int printed;                    /* CLI_OK, or the status of the first that could not be printed */
    bool first; /* the next element of a JSON array is its first */
};

static void put_line (struct inspect *n, const char *line)
{
    text_put_cstr (&n->text, line);
    text_put_byte (&n->text, '\n');
}

/* Print what has gathered, so that memory does not grow with the journal. */
static void emit (struct inspect *n)
{
    if (n->printed == CLI_OK)
        n->printed = cli_print (&n->cli, &n->text);
    text_clear (&n->text);
}

static void put_number (struct inspect *n, const char *name, uint64_t v)
{
    text_put_cstr (&n->text, ",\"");
    text_put_cstr (&n->text, name);
    text_put_cstr (&n->text, "\":");
    text_put_u64 (&n->text, v);
}

static void put_separator (struct inspect *n)
{
    if (!n->first)
        text_put_byte (&n->text, ',');
    n->first = false;
}

static void put_identity (struct inspect *n, const char *path)
{
    struct fm_id journal;
    uint64_t generation;
    struct log_position at;
    char id[ID_TEXT_LEN + 1], bytes[TEXT_GROUPED], facts[TEXT_GROUPED];
    log_identity (n->log, &journal, &generation);
    log_position (n->log, &at);
    id_text (&journal, id);
    if (n->json) {
        text_put_byte (&n->text, '{');
        text_put_json_member (&n->text, "directory", slice_of (path));
        text_put_byte (&n->text, ',');
        text_put_json_member (&n->text, "mesh", slice_of (log_mesh (n->log)));
        text_put_cstr (&n->text, ",\"journal\":\"");
        text_put_cstr (&n->text, id);
        text_put_byte (&n->text, '"');
        put_number (n, "generation", generation);
        put_number (n, "first_offset", at.first_offset);
        put_number (n, "end_offset", at.end_offset);
        put_number (n, "bytes", at.bytes);
    } else {
        text_format (&n->text, "journal %s, generation %llu, mesh '%s'\n", id, (unsigned long long) generation,
                     log_mesh (n->log));
        text_format (&n->text, "%s facts and gaps, offsets %llu to %llu; %s bytes\n",
                     text_grouped (at.end_offset - at.first_offset, facts), (unsigned long long) at.first_offset,
                     (unsigned long long) (at.end_offset - 1), text_grouped (at.bytes, bytes));
    }
    emit (n);
}

static void put_segment (struct inspect *n, const struct log_segment_info *s)
{
    char first[WHEN_TEXT], last[WHEN_TEXT];
    when_format (s->first_time_ns, first);
    when_format (s->last_time_ns, last);
    const char *slash = strrchr (s->path, '/');
    const char *name = slash ? slash + 1 : s->path;
    if (n->json) {
        put_separator (n);
        text_put_byte (&n->text, '{');
        text_put_json_member (&n->text, "file", slice_of (name));
        text_put_cstr (&n->text, s->sealed ? ",\"sealed\":true" : ",\"sealed\":false");
        put_number (n, "number", s->number);
        put_number (n, "first_offset", s->first_offset);
        put_number (n, "end_offset", s->end_offset);
        put_number (n, "bytes", s->bytes);
        put_number (n, "records", s->records);
        put_number (n, "facts", s->facts);
        put_number (n, "streams", s->streams);
        put_number (n, "topics", s->topics);
        text_put_cstr (&n->text, ",\"first_time\":\"");
        text_put_cstr (&n->text, first);
        text_put_cstr (&n->text, "\",\"last_time\":\"");
        text_put_cstr (&n->text, last);
        text_put_cstr (&n->text, "\"}");
    } else {
        text_format (&n->text, "  %-24s %-6s %12llu %12llu %12llu %10llu %8u %8u  %.19sZ  %.19sZ\n", name,
                     s->sealed ? "sealed" : "open", (unsigned long long) s->first_offset, (unsigned long long) s->facts,
                     (unsigned long long) s->bytes, (unsigned long long) s->records, s->streams, s->topics, first,
                     last);
    }
    emit (n);
}

static int print_segments (struct inspect *n)
{
    struct log_segment_info *segments;
    size_t count;
    const int status = directory_segments (&n->cli, n->log, &segments, &count);
    if (status)
        return status;
    if (n->json) {
        text_put_cstr (&n->text, ",\"segments\":[");
    } else {
        text_format (&n->text, "\n%zu segments\n  %-24s %-6s %12s %12s %12s %10s %8s %8s  %-20s  %s\n", count, "FILE",
                     "", "FIRST", "FACTS", "BYTES", "RECORDS", "STREAMS", "TOPICS", "FROM", "TO");
    }
    n->first = true;
    for (size_t i = 0; i < count; i++)
        put_segment (n, &segments[i]);
    if (n->json)
        text_put_byte (&n->text, ']');
    free (segments);
    return CLI_OK;
}

static void put_stream (struct inspect *n, const struct log_stream *s)
{
    char id[ID_TEXT_LEN + 1];
    id_text (&s->stream, id);
    if (n->json) {
        put_separator (n);
        text_put_cstr (&n->text, "{\"stream\":\"");
        text_put_cstr (&n->text, id);
        text_put_byte (&n->text, '"');
        put_number (n, "epoch", s->epoch);
        put_number (n, "first_seq", s->first_seq);
        put_number (n, "last_seq", s->last_seq);
        put_number (n, "last_offset", s->last_offset);
        text_put_byte (&n->text, '}');
    } else {
        text_format (&n->text, "  %s epoch %llu, facts %llu to %llu\n", id, (unsigned long long) s->epoch,
                     (unsigned long long) s->first_seq, (unsigned long long) s->last_seq);
    }
    emit (n);
}

static int print_streams (struct inspect *n)
{
    static struct log_stream page[INSPECT_STREAMS_PAGE];
    const struct fm_id *after = NULL;
    struct fm_id last;
    text_put_cstr (&n->text, n->json ? ",\"streams\":[" : "\nstreams\n");
    n->first = true;
    for (;;) {
        size_t count;
        const int rc = log_stream_list (n->log, after, page, INSPECT_STREAMS_PAGE, &count);
        if (rc < 0)
            return cli_fail (&n->cli, rc, "streams");
        if (count == 0)
            break;
        for (size_t i = 0; i < count; i++)
            put_stream (n, &page[i]);
        last = page[count - 1].stream;
        after = &last;
    }
    if (n->json)
        text_put_byte (&n->text, ']');
    return CLI_OK;
}

static void put_topic (void *arg, struct fm_slice topic, uint64_t facts)
{
    struct inspect *n = arg;
    n->topics++;
    if (n->json) {
        put_separator (n);
        text_put_byte (&n->text, '{');
        text_put_json_member (&n->text, "topic", topic);
        put_number (n, "facts", facts);
        text_put_byte (&n->text, '}');
    } else {
        text_format (&n->text, "  %12llu  ", (unsigned long long) facts);
        text_put (&n->text, topic);
        text_put_byte (&n->text, '\n');
    }
    emit (n);
}

static int print_topics (struct inspect *n)
{
    bool more = false;
    text_put_cstr (&n->text, n->json ? ",\"topics\":[" : "\ntopics (facts, name)\n");
    n->first = true;
    const int rc = log_topic_each (n->log, n->topics_max, put_topic, n, &more);
    if (rc < 0)
        return cli_fail (&n->cli, rc, "topics");
    if (n->json)
        text_put_cstr (&n->text, more ? "],\"more_topics\":true" : "],\"more_topics\":false");
    else if (more && n->topics >= n->topics_max)
        put_line (n, "  … and more: --topics N lists N of them");
    else if (more)
        put_line (n, "  … and others: a segment has more of them than its index lists");
    return CLI_OK;
}

static int print_cursors (struct inspect *n)
{
    char name[CURSOR_NAME_MAX + 1] = "";
    text_put_cstr (&n->text, n->json ? ",\"cursors\":[" : "\ncursors\n");
    n->first = true;
    int rc;
    while ((rc = log_cursor_next (n->log, name, name)) == 0) {
        if (n->json) {
            put_separator (n);
            text_put_json (&n->text, slice_of (name));
        } else {
            text_put_cstr (&n->text, "  ");
            put_line (n, name);
        }
        emit (n);
    }
    text_put_cstr (&n->text, n->json ? "]}\n" : "");
    emit (n);
    return rc == FM_ERR_END ? CLI_OK : cli_fail (&n->cli, rc, "cursors");
}

int command_inspect (int argc, char **argv)
{
    struct inspect n = { .topics_max = INSPECT_TOPICS };
    cli_init (&n.cli, "inspect", help, argv);
    n.cli.offline = true;
    int c, status = -1;
    while ((c = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        if (c == OPT_JSON)
            n.json = true;
        else if (c == OPT_TOPICS)
            status = cli_number (&n.cli, "--topics", optarg, 0, INSPECT_TOPICS_MAX, &n.topics_max) ? CLI_USAGE : -1;
        else
            status = cli_option (&n.cli, c, optarg);
        if (status >= 0)
            return status;
    }
    const char *path;
    status = directory_argument (&n.cli, argc, argv, &path);
    if (status >= 0)
        return status;
    status = directory_open (&n.cli, path, &n.log);
    if (status == CLI_OK) {
        put_identity (&n, path);
        status = print_segments (&n);
        if (status == CLI_OK)
            status = print_streams (&n);
        if (status == CLI_OK)
            status = print_topics (&n);
        if (status == CLI_OK)
            status = print_cursors (&n);
    }
    log_destroy (&n.log);
    text_release (&n.text);
    return cli_done (&n.cli, status == CLI_OK ? n.printed : status);
}
