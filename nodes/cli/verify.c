/* verify: checks every byte of a journal's directory. Each damaged range is one line. */

#include <stdio.h>

#include "commands.h"
#include "damage.h"
#include "directory.h"
#include "progress.h"

static const char help[] = "usage: factmesh verify DIR [OPTION…]\n"
                           "Check every checksum in a journal's directory; each damaged range is one line on standard "
                           "output: file, bytes, what is\n"
                           "damaged, the offsets and, stream by stream, the facts that are lost with it. Changes "
                           "nothing; the journal may be running.\n"
                           "Ends with 0 when all is well, with 5 when something is damaged: then see factmesh "
                           "repair.\n\n"
                           "      --json               a JSON object for each damaged range, and one for the result\n\n"
                           "Example:\n"
                           "  factmesh verify ./orders-journal\n";

enum { OPT_JSON = OPT_OWN };

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON }, COMMON_LONG };

struct verify {
    struct cli cli;
    bool json;
    struct progress progress;
};

static void on_damage (void *arg, const struct log_damage *d)
{
    struct verify *v = arg;
    progress_clear (&v->progress);
    damage_print (d, v->json);
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
    if (v->json)
        (void) printf ("{\"segments\":%llu,\"records\":%llu,\"facts\":%llu,\"bytes\":%llu,\"damaged\":%llu}\n",
                       (unsigned long long) result.segments, (unsigned long long) result.records,
                       (unsigned long long) result.facts, (unsigned long long) result.bytes,
                       (unsigned long long) result.damaged);
    else if (!v->cli.quiet)
        (void) printf ("%llu segments, %llu records, %llu facts, %llu bytes: %llu damaged\n",
                       (unsigned long long) result.segments, (unsigned long long) result.records,
                       (unsigned long long) result.facts, (unsigned long long) result.bytes,
                       (unsigned long long) result.damaged);
    return result.damaged ? CLI_DAMAGED : CLI_OK;
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
    return cli_done (&v.cli, status);
}
