/* blob: stores and fetches large contents. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blob.h"
#include "commands.h"
#include "error.h"
#include "link.h"
#include "progress.h"
#include "text.h"

static const char help[] =
    "usage: factmesh blob put [FILE…] [OPTION…]\n"
    "       factmesh blob get DIGEST [-o FILE] [--range FROM-TO] [OPTION…]\n"
    "       factmesh blob ls [OPTION…]\n"
    "       factmesh blob stat DIGEST [OPTION…]\n"
    "Large contents, kept by a journal beside its log, each under the SHA-256 of its bytes. A fact points to one.\n\n"
    "  put   store files (none, or -: standard input) and print their digests. What is stored already is not sent; a put of\n"
    "        a file that was cut is gone on with by the next one\n"
    "  get   fetch one, from any journal that has it, to standard output or to FILE. FILE appears when it is whole and\n"
    "        right; until then there is FILE.part, with which the next get goes on\n"
    "  ls    all that a journal has\n"
    "  stat  one: size, type, when it was stored, until when it is kept though no fact points to it\n\n"
    "      --type TYPE          of what is put: application/pdf\n"
    "      --lease TIME         keep it so long before a recorded fact points to it [1h]\n"
    "  -o, --output FILE        get: write there\n"
    "      --range FROM-TO      get: these bytes; the first is 0, both ends included, FROM- is to the end\n"
    "      --json               JSON, an object a line\n"
    "      --journal ID         at this journal; the first digits will do\n"
    "  --timeout is how long to wait without progress [30s].\n\n"
    "Examples:\n"
    "  factmesh blob put invoice-4711.pdf --type application/pdf --seed tcp://127.0.0.1:7400\n"
    "  tar c /var/data | factmesh blob put\n"
    "  factmesh blob get 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 -o invoice.pdf\n";

enum { OPT_JSON = OPT_OWN, OPT_JOURNAL, OPT_TYPE, OPT_LEASE, OPT_RANGE, BLOB_PAGE = 500, BLOB_WAIT_DEFAULT_MS = 30000 };

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON },
                                              { "journal", required_argument, NULL, OPT_JOURNAL },
                                              { "type", required_argument, NULL, OPT_TYPE },
                                              { "lease", required_argument, NULL, OPT_LEASE },
                                              { "output", required_argument, NULL, 'o' },
                                              { "range", required_argument, NULL, OPT_RANGE },
                                              COMMON_LONG };

struct blob_command {
    struct cli cli;
    bool json, ranged;
    const char *output;
    struct fm_blob_options options;
    struct fm_node *node;
    struct progress progress;
    const char *verb; /* of the progress line */
    struct text text;
};

static int on_progress (void *arg, uint64_t done, uint64_t size)
{
    struct blob_command *c = arg;
    progress_draw_bytes (&c->progress, done, size, c->verb);
    return cli_is_signalled () ? FM_INTERRUPTED : 0;
}

static int failed (struct blob_command *c, int rc, const char *what)
{
    progress_clear (&c->progress);
    if (rc == FM_INTERRUPTED && cli_is_signalled ())
        return CLI_SIGNAL + cli_signalled ();
    return cli_fail (&c->cli, rc, "%s", what);
}

static int print_text (struct blob_command *c)
{
    progress_clear (&c->progress);
    return cli_print (&c->cli, &c->text);
}

/* --- put. */

static int put_file (struct blob_command *c, const char *name)
{
    const bool standard = strcmp (name, "-") == 0;
    const int fd = standard ? STDIN_FILENO : open (name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cli_error (&c->cli, "%s: %s", name, strerror (errno));
    struct fm_blob blob;
    char text[FM_BLOB_TEXT];
    c->verb = "stored";
    progress_init (&c->progress, c->cli.quiet);
    const int rc = fm_blob_put_fd (c->node, fd, &c->options, &blob);
    if (!standard)
        (void) close (fd); /* read-only: nothing to lose */
    if (rc)
        return failed (c, rc, name);
    text_clear (&c->text);
    if (c->json) {
        text_format (&c->text, "{\"sha256\":\"%s\",\"size\":%llu,", fm_blob_text (blob.sha256, text), (unsigned long long) blob.size);
        text_put_json_member (&c->text, "media_type", blob.media_type);
        text_put_byte (&c->text, ',');
        text_put_json_member (&c->text, "file", slice_of (name));
        text_put_cstr (&c->text, "}\n");
    } else {
        text_format (&c->text, "%s  ", fm_blob_text (blob.sha256, text));
        text_put_printable (&c->text, slice_of (name));
        text_put_byte (&c->text, '\n');
    }
    return print_text (c);
}

static int put (struct blob_command *c, char **args, int count)
{
    static char standard_input[] = "-";
    static char *none[] = { standard_input };
    int status = cli_open_node (&c->cli, &c->node);
    if (!count) {
        args = none;
        count = 1;
    }
    for (int i = 0; i < count && status == CLI_OK; i++)
        status = put_file (c, args[i]);
    return status;
}

/* --- get. */

static int get_range (struct blob_command *c, const uint8_t *digest, int fd, const char *name)
{
    progress_init (&c->progress, c->cli.quiet || (fd == STDOUT_FILENO && isatty (STDOUT_FILENO)));
    const int rc = fm_blob_get_fd (c->node, digest, fd, &c->options, NULL);
    progress_clear (&c->progress);
    return rc ? failed (c, rc, name) : CLI_OK;
}

/* Whoever sees the file sees all of it, checked: write beside, then rename. */
static int get_file (struct blob_command *c, const uint8_t *digest)
{
    char path[PATH_MAX];
    const int n = snprintf (path, sizeof path, "%s.part", c->output);
    if (n < 0 || (size_t) n >= sizeof path)
        return cli_error (&c->cli, "%s: too long", c->output);
    const int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC | (c->ranged ? O_TRUNC : 0), 0666);
    if (fd < 0)
        return cli_error (&c->cli, "%s: %s", path, strerror (errno));
    c->options.resume = !c->ranged;
    progress_init (&c->progress, c->cli.quiet);
    int rc = fm_blob_get_fd (c->node, digest, fd, &c->options, NULL);
    /* What an earlier get left was of another blob, or is damaged. */
    if ((rc == FM_ERR_CORRUPT || rc == FM_ERR_END) && !c->ranged && lseek (fd, 0, SEEK_SET) == 0 && ftruncate (fd, 0) == 0)
        rc = fm_blob_get_fd (c->node, digest, fd, &c->options, NULL);
    if (!rc && fsync (fd) != 0)
        rc = -errno;
    if (close (fd) != 0 && !rc)
        rc = -errno;
    if (!rc && rename (path, c->output) != 0)
        rc = -errno;
    progress_clear (&c->progress);
    return rc ? failed (c, rc, c->output) : CLI_OK;
}

static int parse_digest (struct blob_command *c, const char *text, uint8_t *ret_digest)
{
    return fm_blob_parse (text, ret_digest) == 0 ? CLI_OK : cli_usage (&c->cli, "'%s': a blob's name is the 64 hex digits of its SHA-256", text);
}

static int get (struct blob_command *c, const char *name)
{
    uint8_t digest[BLOB_DIGEST_LEN];
    int status = parse_digest (c, name, digest);
    if (status == CLI_OK)
        status = cli_open_node (&c->cli, &c->node);
    if (status)
        return status;
    c->verb = "fetched";
    return c->output ? get_file (c, digest) : get_range (c, digest, STDOUT_FILENO, name);
}

/* --- ls and stat. */

static void put_info (struct blob_command *c, const struct fm_blob_info *info)
{
    struct text *t = &c->text;
    char digest[FM_BLOB_TEXT], stored[WHEN_TEXT], lease[WHEN_TEXT];
    text_clear (t);
    (void) fm_blob_text (info->blob.sha256, digest);
    (void) when_format (info->stored_ns, stored);
    (void) when_format (info->lease_ns, lease);
    if (c->json) {
        text_format (t, "{\"sha256\":\"%s\",\"size\":%llu,\"stored\":\"%s\",\"lease\":\"%s\",", digest, (unsigned long long) info->blob.size, stored, lease);
        text_put_json_member (t, "media_type", info->blob.media_type);
        text_put_cstr (t, "}\n");
        return;
    }
    text_format (t, "%s %14llu  %.19sZ  %.19sZ  ", digest, (unsigned long long) info->blob.size, stored, lease);
    text_put_printable (t, info->blob.media_type);
    text_put_byte (t, '\n');
}

static void print_head (const struct blob_command *c)
{
    if (!c->json)
        (void) printf ("%-64s %14s  %-20s  %-20s  %s\n", "BLOB", "BYTES", "STORED", "LEASE", "TYPE");
}

static int show (struct blob_command *c, const char *name)
{
    uint8_t digest[BLOB_DIGEST_LEN];
    struct fm_blob_info info;
    int status = parse_digest (c, name, digest);
    if (status == CLI_OK)
        status = cli_open_node (&c->cli, &c->node);
    if (status)
        return status;
    const int rc = fm_blob_stat (c->node, digest, &c->options, &info);
    if (rc)
        return failed (c, rc, name);
    print_head (c);
    put_info (c, &info);
    return print_text (c);
}

static int list_page (struct blob_command *c, struct link *link, uint8_t after[BLOB_DIGEST_LEN], bool *first, bool *more)
{
    Factmesh__BlobList body = FACTMESH__BLOB_LIST__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT, *reply;
    if (!*first)
        body.after = control_put_slice (slice (after, BLOB_DIGEST_LEN));
    body.limit = BLOB_PAGE;
    control.body_case = FACTMESH__CONTROL__BODY_BLOB_LIST;
    control.blob_list = &body;
    int status = link_request (link, &control, FACTMESH__CONTROL__BODY_BLOB_REPLY, &reply);
    if (status)
        return status;
    const Factmesh__BlobReply *r = reply->blob_reply;
    if (*first && r->n_blobs)
        print_head (c);
    for (size_t i = 0; i < r->n_blobs && status == CLI_OK; i++) {
        const Factmesh__BlobInfo *b = r->blobs[i];
        struct fm_blob_info info = { .blob = { .size = b->size, .media_type = control_get_slice (&b->media_type) }, .stored_ns = b->stored_ns, .lease_ns = b->lease_ns };
        if (b->sha256.len != BLOB_DIGEST_LEN)
            return cli_error (&c->cli, "the journal's answer names a blob of %zu bytes", b->sha256.len);
        memcpy (info.blob.sha256, b->sha256.data, BLOB_DIGEST_LEN);
        memcpy (after, b->sha256.data, BLOB_DIGEST_LEN);
        put_info (c, &info);
        status = print_text (c);
    }
    *more = r->more && r->n_blobs;
    *first = false;
    return status;
}

static int list (struct blob_command *c)
{
    struct link link;
    uint8_t after[BLOB_DIGEST_LEN] = { 0 };
    bool first = true, more = true;
    int status = link_open (&link, &c->cli, c->options.journal);
    if (status)
        return status;
    while (more && status == CLI_OK)
        status = list_page (c, &link, after, &first, &more);
    link_close (&link);
    return status;
}

/* --- Options. */

static int take_range (struct blob_command *c, const char *text)
{
    char *end;
    errno = 0;
    const unsigned long long from = strtoull (text, &end, 10);
    unsigned long long to = ULLONG_MAX;
    bool good = end != text && *text != '-' && *end == '-' && !errno;
    if (good && end[1]) {
        const char *rest = end + 1;
        to = strtoull (rest, &end, 10);
        good = *rest != '-' && !*end && !errno && to >= from;
    }
    if (!good)
        return cli_usage (&c->cli, "--range: '%s'; write 0-99, or 100- for all from there on", text);
    c->ranged = true;
    c->options.offset = from;
    c->options.length = to == ULLONG_MAX ? 0 : to - from + 1;
    return -1;
}

static int take_option (struct blob_command *c, int option, const char *value)
{
    uint64_t ns;
    switch (option) {
    case OPT_JSON:
        c->json = true;
        return -1;
    case OPT_JOURNAL:
        c->options.journal = value;
        return -1;
    case OPT_TYPE:
        c->options.media_type = value;
        return -1;
    case OPT_LEASE:
        if (when_duration (value, &ns) < 0 || ns < 1000000)
            return cli_usage (&c->cli, "--lease: '%s' is not a length of time; write 12h, 30d or 90m", value);
        c->options.lease_ms = ns / 1000000;
        return -1;
    case OPT_RANGE:
        return take_range (c, value);
    case 'o':
        c->output = value;
        return -1;
    default:
        return cli_option (&c->cli, option, value);
    }
}

static int run (struct blob_command *c, const char *verb, char **args, int count)
{
    const bool is_get = strcmp (verb, "get") == 0, is_put = strcmp (verb, "put") == 0;
    if ((c->output || c->ranged) && !is_get)
        return cli_usage (&c->cli, "--output and --range go with get");
    if ((c->options.media_type || c->options.lease_ms) && !is_put)
        return cli_usage (&c->cli, "--type and --lease go with put");
    if (is_put)
        return put (c, args, count);
    if (strcmp (verb, "ls") == 0)
        return count ? cli_usage (&c->cli, "usage: factmesh blob ls") : list (c);
    if (!is_get && strcmp (verb, "stat") != 0)
        return cli_usage (&c->cli, "'%s': write put, get, ls or stat", verb);
    if (count != 1)
        return cli_usage (&c->cli, "usage: factmesh blob %s DIGEST", verb);
    return is_get ? get (c, args[0]) : show (c, args[0]);
}

int command_blob (int argc, char **argv)
{
    struct blob_command c = { .json = false };
    cli_init (&c.cli, "blob", help, argv);
    int option;
    while ((option = getopt_long (argc, argv, COMMON_SHORT "o:", long_options, NULL)) != -1) {
        const int status = take_option (&c, option, optarg);
        if (status >= 0)
            return status;
    }
    if (optind == argc)
        return cli_usage (&c.cli, "what? write put, get, ls or stat");
    c.options.timeout_ms = cli_timeout (&c.cli, BLOB_WAIT_DEFAULT_MS);
    if (!c.options.timeout_ms)
        c.options.timeout_ms = 1;
    c.options.progress = on_progress;
    c.options.progress_arg = &c;
    int status = cli_catch_signals (&c.cli);
    if (status == CLI_OK)
        status = run (&c, argv[optind], argv + optind + 1, argc - optind - 1);
    fm_node_close (&c.node);
    text_release (&c.text);
    return cli_done (&c.cli, status);
}
