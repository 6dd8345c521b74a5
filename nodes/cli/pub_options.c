/* pub_options: see pub_options.h. */

#include "pub_options.h"

#include <string.h>

#include "large.h"
#include "topic.h"

static const char help[] =
    "usage: factmesh pub TOPIC [OPTION…] [TEXT…]\n"
    "Publish facts: each TEXT, or each line of a file or of standard input. Ends when a journal has all of them on\n"
    "disk; otherwise says how many it has, and exits with 3.\n\n"
    "What:\n"
    "  -f, --file FILE          read FILE (again for more files); - is standard input\n"
    "      --null               facts are separated by NUL bytes, not newlines\n"
    "      --whole              each file is one fact\n"
    "      --csv                CSV with a header line: each row becomes a JSON object\n"
    "      --raw                with --csv: each row stays the line that it is\n"
    "      --delimiter CHAR     with --csv: instead of a comma; 'tab' is one\n"
    "      --json               a JSON object a line, published as it is; blank lines are skipped\n"
    "  -k, --key COLUMN         column (--csv) or member (--json) that is the fact's key; otherwise the key itself\n"
    "      --topic-column COL   its value is appended to TOPIC as a level\n"
    "  -t, --type TYPE          what kind of fact, OrderPlaced\n"
    "      --content-type TYPE  of the payload; --csv and --json set application/json\n"
    "  -H, --header NAME=VALUE  again for more\n"
    "      --correlation ID     the conversation that the facts belong to\n"
    "      --causation ID       the fact that caused them, STREAM:SEQ\n"
    "      --fact-identity COL  column, member, or the identity itself, as with --key: of facts with one identity the journal tells\n"
    "                           all but the first to be duplicates\n"
    "      --tombstone          the key's thing exists no longer\n"
    "      --payload-max SIZE   refuse larger facts [1M, at most 64M; with --blob-over 64M, at most 1G]\n"
    "      --blob-over SIZE     a payload of more than SIZE is stored as a blob at the journal first, and the fact points to it;\n"
    "                           `sub --fetch` and `replay --fetch` bring it back\n"
    "How:\n"
    "      --rate N             at most N facts a second\n"
    "      --no-wait            wait for no journal: facts go to who is connected, and may be lost\n"
    "      --journals ID[,ID]   recorded means: by all of these journals [any one]\n"
    "      --print-ids          print each fact's id, STREAM:SEQ\n"
    "      --ack-log FILE       append STREAM SEQ whenever more is on a journal's disk: all up to SEQ is\n"
    "  --timeout is how long to wait for a journal, and then without any progress [10s].\n"
    "Stream (order is kept within one; its sequence goes on from run to run):\n"
    "      --stream NAME        a stream of that name [the first pub-N that is free, under\n"
    "                           ${XDG_STATE_HOME:-~/.local/state}/factmesh/streams/MESH/]\n"
    "      --identity DIR       the stream that is kept in DIR\n"
    "      --ephemeral          a new stream, for this run only\n"
    "      --window-on-disk     keep what no journal has in the stream's directory as well: after a kill -9 the next run\n"
    "                           of the stream gives it to the journal; --window-on-disk=synced outlives power loss too\n"
    "      --lost-again         what came back from disk too late, after a journal gave it up, is published again at the\n"
    "                           end, as new facts; without, the run fails and names the sequences\n\n"
    "A line that cannot be published (malformed, too large) ends it there: what stands before it is recorded, the\n"
    "message names the line, nothing behind it is sent.\n\n"
    "Examples:\n"
    "  factmesh pub orders.placed 'order 4711: 3 lamps' --seed tcp://127.0.0.1:7400\n"
    "  factmesh pub orders.line --csv --key InvoiceNo --file orders.csv\n"
    "  tail -f app.log | factmesh pub logs.app --type LogLine\n"
    "  factmesh pub scans.page --whole --file page-1.png --content-type image/png --blob-over 64K\n";

enum {
    OPT_NULL = OPT_OWN,
    OPT_WHOLE,
    OPT_CSV,
    OPT_RAW,
    OPT_DELIMITER,
    OPT_JSON,
    OPT_TOPIC_COLUMN,
    OPT_CONTENT_TYPE,
    OPT_CORRELATION,
    OPT_CAUSATION,
    OPT_FACT_IDENTITY,
    OPT_TOMBSTONE,
    OPT_PAYLOAD_MAX,
    OPT_BLOB_OVER,
    OPT_RATE,
    OPT_NO_WAIT,
    OPT_JOURNALS,
    OPT_PRINT_IDS,
    OPT_ACK_LOG,
    OPT_STREAM,
    OPT_IDENTITY,
    OPT_EPHEMERAL,
    OPT_WINDOW_ON_DISK,
    OPT_LOST_AGAIN
};

static const struct option long_options[] = { { "file", required_argument, NULL, 'f' },
                                              { "null", no_argument, NULL, OPT_NULL },
                                              { "whole", no_argument, NULL, OPT_WHOLE },
                                              { "csv", no_argument, NULL, OPT_CSV },
                                              { "raw", no_argument, NULL, OPT_RAW },
                                              { "delimiter", required_argument, NULL, OPT_DELIMITER },
                                              { "json", no_argument, NULL, OPT_JSON },
                                              { "key", required_argument, NULL, 'k' },
                                              { "topic-column", required_argument, NULL, OPT_TOPIC_COLUMN },
                                              { "type", required_argument, NULL, 't' },
                                              { "content-type", required_argument, NULL, OPT_CONTENT_TYPE },
                                              { "header", required_argument, NULL, 'H' },
                                              { "correlation", required_argument, NULL, OPT_CORRELATION },
                                              { "causation", required_argument, NULL, OPT_CAUSATION },
                                              { "fact-identity", required_argument, NULL, OPT_FACT_IDENTITY },
                                              { "tombstone", no_argument, NULL, OPT_TOMBSTONE },
                                              { "payload-max", required_argument, NULL, OPT_PAYLOAD_MAX },
                                              { "blob-over", required_argument, NULL, OPT_BLOB_OVER },
                                              { "rate", required_argument, NULL, OPT_RATE },
                                              { "no-wait", no_argument, NULL, OPT_NO_WAIT },
                                              { "journals", required_argument, NULL, OPT_JOURNALS },
                                              { "print-ids", no_argument, NULL, OPT_PRINT_IDS },
                                              { "ack-log", required_argument, NULL, OPT_ACK_LOG },
                                              { "stream", required_argument, NULL, OPT_STREAM },
                                              { "identity", required_argument, NULL, OPT_IDENTITY },
                                              { "ephemeral", no_argument, NULL, OPT_EPHEMERAL },
                                              { "window-on-disk", optional_argument, NULL, OPT_WINDOW_ON_DISK },
                                              { "lost-again", no_argument, NULL, OPT_LOST_AGAIN },
                                              COMMON_LONG };

static int set_format (const struct cli *cli, struct pub_options *o, enum pub_format format)
{
    if (o->format != PUB_LINES && o->format != format)
        return cli_usage (cli, "--null, --whole, --csv and --json exclude each other");
    o->format = format;
    return -1;
}

static int add_file (const struct cli *cli, struct pub_options *o, const char *path)
{
    if (o->file_count == PUB_FILES_MAX)
        return cli_usage (cli, "more than %d files", PUB_FILES_MAX);
    o->files[o->file_count++] = path;
    return -1;
}

static int add_header (const struct cli *cli, struct pub_options *o, const char *text)
{
    const char *equals = strchr (text, '=');
    if (!equals || equals == text)
        return cli_usage (cli, "--header: '%s' is not NAME=VALUE", text);
    const struct fm_slice name = slice (text, (size_t) (equals - text));
    if (o->header_count++ == HEADERS_MAX)
        return cli_usage (cli, "--header: more than %d of them", HEADERS_MAX);
    const int rc = fm_header_add (o->headers, sizeof o->headers, &o->headers_len, name, fm_text (equals + 1));
    return rc < 0 ? cli_usage (cli, "--header: %s", fm_error_detail ()) : -1;
}

static int set_delimiter (const struct cli *cli, struct pub_options *o, const char *text)
{
    if (strcmp (text, "tab") == 0 || strcmp (text, "\\t") == 0)
        o->csv_delimiter = '\t';
    else if (text[0] && !text[1] && !strchr ("\"\r\n", text[0]))
        o->csv_delimiter = (uint8_t) text[0];
    else
        return cli_usage (cli, "--delimiter: '%s' is not one character", text);
    return -1;
}

static int set_payload_max (const struct cli *cli, struct pub_options *o, const char *text)
{
    const int rc = cli_size (cli, "--payload-max", text, &o->payload_max);
    if (rc)
        return rc;
    return o->payload_max ? -1 : cli_usage (cli, "--payload-max: a payload has at least 1 byte");
}

static int set_blob_over (const struct cli *cli, struct pub_options *o, const char *text)
{
    const int rc = cli_size (cli, "--blob-over", text, &o->blob_over);
    if (rc)
        return rc;
    if (o->blob_over == 0 || o->blob_over > PAYLOAD_MAX_LIMIT)
        return cli_usage (cli, "--blob-over: %s is not between 1 and 64M", text);
    return -1;
}

/* Options that say what the facts are. -2: not one of them. */
static int take_what (const struct cli *cli, struct pub_options *o, int option, const char *value)
{
    switch (option) {
    case 'f':
        return add_file (cli, o, value);
    case OPT_NULL:
        return set_format (cli, o, PUB_NULL);
    case OPT_WHOLE:
        return set_format (cli, o, PUB_WHOLE);
    case OPT_CSV:
        return set_format (cli, o, PUB_CSV);
    case OPT_JSON:
        return set_format (cli, o, PUB_JSON);
    case OPT_RAW:
        o->csv_raw = true;
        return -1;
    case OPT_DELIMITER:
        return set_delimiter (cli, o, value);
    case 'k':
        o->key = value;
        return -1;
    case OPT_TOPIC_COLUMN:
        o->topic_column = value;
        return -1;
    case 't':
        o->fact.type = fm_text (value);
        return -1;
    case OPT_CONTENT_TYPE:
        o->fact.content_type = fm_text (value);
        return -1;
    case 'H':
        return add_header (cli, o, value);
    case OPT_CORRELATION:
        o->fact.correlation = fm_text (value);
        return -1;
    case OPT_CAUSATION:
        return fm_fact_id_parse (value, &o->fact.causation) < 0
                   ? cli_usage (cli, "--causation: '%s' is not STREAM:SEQ", value)
                   : -1;
    case OPT_FACT_IDENTITY:
        o->fact_identity = value;
        return -1;
    case OPT_TOMBSTONE:
        o->fact.flags |= FM_TOMBSTONE;
        return -1;
    case OPT_PAYLOAD_MAX:
        return set_payload_max (cli, o, value);
    case OPT_BLOB_OVER:
        return set_blob_over (cli, o, value);
    default:
        return -2;
    }
}

static int set_window (const struct cli *cli, struct pub_options *o, const char *text)
{
    if (text && strcmp (text, "synced") != 0)
        return cli_usage (cli, "--window-on-disk=%s: it is --window-on-disk, or --window-on-disk=synced", text);
    o->window = text ? FM_WINDOW_SYNCED : FM_WINDOW_FILE;
    return -1;
}

/* Options that say how. */
static int take_how (struct cli *cli, struct pub_options *o, int option, const char *value)
{
    switch (option) {
    case OPT_RATE:
        return cli_number (cli, "--rate", value, 1, 1000000000, &o->rate) ? CLI_USAGE : -1;
    case OPT_NO_WAIT:
        o->no_wait = true;
        return -1;
    case OPT_JOURNALS:
        o->journals = value;
        return -1;
    case OPT_PRINT_IDS:
        o->print_ids = true;
        return -1;
    case OPT_ACK_LOG:
        o->ack_log = value;
        return -1;
    case OPT_STREAM:
        o->stream = value;
        return -1;
    case OPT_IDENTITY:
        o->identity = value;
        return -1;
    case OPT_EPHEMERAL:
        o->ephemeral = true;
        return -1;
    case OPT_WINDOW_ON_DISK:
        return set_window (cli, o, value);
    case OPT_LOST_AGAIN:
        o->lost_again = true;
        return -1;
    default:
        return cli_option (cli, option, value);
    }
}

static int check (const struct cli *cli, struct pub_options *o)
{
    if (o->topic_column && o->format != PUB_CSV && o->format != PUB_JSON)
        return cli_usage (cli, "--topic-column needs --csv or --json");
    if ((o->csv_raw || o->csv_delimiter) && o->format != PUB_CSV)
        return cli_usage (cli, "--raw and --delimiter need --csv");
    if (o->text_count && (o->file_count || o->format != PUB_LINES))
        return cli_usage (cli, "facts come from arguments or from files, not both");
    if (!!o->stream + !!o->identity + o->ephemeral > 1)
        return cli_usage (cli, "--stream, --identity and --ephemeral exclude each other");
    if (o->window && o->ephemeral)
        return cli_usage (cli, "--window-on-disk needs a stream that is kept: not --ephemeral");
    if (o->stream && !*o->stream)
        return cli_usage (cli, "--stream: an empty name");
    if (o->no_wait && (o->ack_log || o->journals))
        return cli_usage (cli, "--no-wait waits for no journal: it excludes --ack-log and --journals");
    if (o->no_wait && o->blob_over)
        return cli_usage (cli, "--no-wait waits for no journal, and --blob-over needs one");
    if (o->payload_max > (o->blob_over ? LARGE_MAX : PAYLOAD_MAX_LIMIT))
        return cli_usage (cli, "--payload-max: more than %s", o->blob_over ? "1G" : "64M; --blob-over stores larger payloads as blobs");
    if (topic_check (fm_text (o->topic)) < 0)
        return cli_usage (cli, "%s", fm_error_detail ());
    if (o->key && strlen (o->key) > KEY_MAX)
        return cli_usage (cli, "--key: more than %d bytes", KEY_MAX);
    if (o->fact_identity && strlen (o->fact_identity) > IDENTITY_MAX)
        return cli_usage (cli, "--fact-identity: more than %d bytes", IDENTITY_MAX);
    if (o->fact.type.len > TYPE_MAX || o->fact.content_type.len > TYPE_MAX || o->fact.correlation.len > CORRELATION_MAX)
        return cli_usage (cli, "--type, --content-type and --correlation: at most %d bytes", TYPE_MAX);
    return -1;
}

int pub_options_parse (int argc, char **argv, struct cli *cli, struct pub_options *o)
{
    cli_init (cli, "pub", help, argv);
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT "f:k:t:H:", long_options, NULL)) != -1) {
        int status = take_what (cli, o, c, optarg);
        if (status == -2)
            status = take_how (cli, o, c, optarg);
        if (status >= 0)
            return status;
    }
    if (optind == argc)
        return cli_usage (cli, "which topic? factmesh pub TOPIC [TEXT…]");
    o->topic = argv[optind++];
    o->texts = argv + optind;
    o->text_count = (size_t) (argc - optind);
    if (!o->payload_max)
        o->payload_max = o->blob_over ? PAYLOAD_MAX_LIMIT : PAYLOAD_MAX_DEFAULT;
    const int status = check (cli, o);
    if (status >= 0)
        return status;
    if (!o->text_count && !o->file_count)
        o->files[o->file_count++] = "-";
    if (!o->fact.content_type.len && (o->format == PUB_JSON || (o->format == PUB_CSV && !o->csv_raw)))
        o->fact.content_type = fm_text ("application/json");
    o->fact.headers = slice (o->headers, o->headers_len);
    return -1;
}
