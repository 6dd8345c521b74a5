/* verify: checks every byte of a journal's directory. Each damaged range is one line. */

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "directory.h"
#include "id.h"
#include "progress.h"
#include "text.h"

static const char help[] = "usage: factmesh verify DIR [OPTION…]\n"
                           "Check every checksum in a journal's directory; each damaged range is one line on standard "
                           "output. Changes nothing; the journal\n"
                           "may be running. Ends with 0 when all is well, with 5 when something is damaged.\n\n"
                           "      --json               a JSON object for each damaged range, and one for the result\n\n"
                           "Example:\n"
                           "  factmesh verify ./orders-journal\n";

enum { OPT_JSON = OPT_OWN };

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON }, COMMON_LONG };

struct verify {
    struct cli cli;
    bool json;
    uint64_t damaged;
    struct progress progress;
};

static void damage_json (const struct log_damage *d, const char *stream)
{
    struct text t = { 0 };
    text_put_byte (&t, '{');
    text_put_json_member (&t, "file", slice_of (d->path));
    text_put_byte (&t, ',');
    text_put_json_member (&t, "what", slice_of (d->what));
    text_put_byte (&t, 0);
    if (!t.failed)
        (void) printf (
            "%s,\"first_pos\":%llu,\"end_pos\":%llu,\"first_offset\":%llu,\"end_offset\":%llu,\"stream\":\"%s\","
            "\"first_seq\":%llu,\"end_seq\":%llu}\n",
            (const char *) t.data, (unsigned long long) d->first_pos, (unsigned long long) d->end_pos,
            (unsigned long long) d->first_offset, (unsigned long long) d->end_offset, stream,
            (unsigned long long) d->first_seq, (unsigned long long) d->end_seq);
    text_release (&t);
}

static void on_damage (void *arg, const struct log_damage *d)
{
    struct verify *v = arg;
    char stream[ID_TEXT_LEN + 1] = "";
    v->damaged++;
    progress_clear (&v->progress);
    if (!id_is_zero (&d->stream))
        id_text (&d->stream, stream);
    if (v->json) {
        damage_json (d, stream);
        return;
    }
    (void) printf ("%s: bytes %llu to %llu: %s", d->path, (unsigned long long) d->first_pos,
                   (unsigned long long) d->end_pos, d->what);
    if (d->end_offset > d->first_offset)
        (void) printf ("; offsets %llu to %llu", (unsigned long long) d->first_offset,
                       (unsigned long long) (d->end_offset - 1));
    if (*stream)
        (void) printf ("; stream %s, facts %llu to %llu", stream, (unsigned long long) d->first_seq,
                       (unsigned long long) (d->end_seq ? d->end_seq - 1 : 0));
    (void) putchar ('\n');
}

static void on_progress (void *arg, uint64_t done, uint64_t all)
{
    struct verify *v = arg;
    progress_draw_bytes (&v->progress, done, all, "checked");
}

static int verify_run (struct verify *v, const char *path)
{
    struct log *log = NULL;
    int status = directory_open (&v->cli, path, &log);
    if (status)
        return status;
    struct log_verify_result result = { 0 };
    progress_init (&v->progress, v->cli.quiet);
    const int rc = log_verify (log, on_damage, on_progress, v, &result);
    progress_clear (&v->progress);
    log_destroy (&log);
    if (rc < 0)
        return cli_fail (&v->cli, rc, "%s", path);
    if (result.damaged > v->damaged)
        v->damaged = result.damaged;
    if (v->json)
        (void) printf ("{\"segments\":%llu,\"records\":%llu,\"facts\":%llu,\"bytes\":%llu,\"damaged\":%llu}\n",
                       (unsigned long long) result.segments, (unsigned long long) result.records,
                       (unsigned long long) result.facts, (unsigned long long) result.bytes,
                       (unsigned long long) v->damaged);
    else if (!v->cli.quiet)
        (void) printf ("%llu segments, %llu records, %llu facts, %llu bytes: %llu damaged\n",
                       (unsigned long long) result.segments, (unsigned long long) result.records,
                       (unsigned long long) result.facts, (unsigned long long) result.bytes,
                       (unsigned long long) v->damaged);
    return v->damaged ? CLI_DAMAGED : CLI_OK;
}

int command_verify (int argc, char **argv)
{
    struct verify v = { .json = false };
    cli_init (&v.cli, "verify", help, argv);
    v.cli.offline = true;
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        int status = -1;
        if (c == OPT_JSON)
            v.json = true;
        else
            status = cli_option (&v.cli, c, optarg);
        if (status >= 0)
            return status;
    }
    const char *path;
    int status = directory_argument (&v.cli, argc, argv, &path);
    if (status >= 0)
        return status;
    status = verify_run (&v, path);
    if (fflush (stdout) != 0 && status == CLI_OK)
        status = CLI_ERROR;
    return status;
}
