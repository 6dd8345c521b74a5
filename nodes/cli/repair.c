/* repair: makes a damaged directory whole again: what follows from the rest is made anew, facts are fetched from another holder.
 *
 * Thread:  one. Signals end it where it is: what is on disk is whole at every moment, and another run goes on. */

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "control.h"
#include "damage.h"
#include "directory.h"
#include "error.h"
#include "id.h"
#include "link.h"
#include "log_repair.h"
#include "progress.h"
#include "text.h"

static const char help[] =
    "usage: factmesh repair DIR [OPTION…]\n"
    "Make a journal's directory whole again, as far as it can be. The journal must not be running.\n"
    "What is damaged is listed as by factmesh verify, and copied into DIR/quarantine (SEGMENT-POSITION.N.damaged) before anything\n"
    "is changed: nothing is ever deleted. Headers, footers and snapshots are made anew from the rest. Lost facts are fetched from\n"
    "the other holder, checked, and put back at the offsets that they had: every cursor stays right, and subscribers, early or\n"
    "late, get them in order. What nobody has stays a gap that subscribers are told of (reason damaged).\n"
    "It can be killed at any moment and run again. Ends with 0 when the directory is whole, with 5 when damage is left.\n\n"
    "      --from WHERE         another holder: the control address of a journal, or another journal's directory\n"
    "                           (which may be in use)\n"
    "      --journal ID         of the mesh at that address, this journal; the first digits will do\n"
    "      --dry-run            say what is damaged and what the other holder has of it; change nothing\n"
    "      --json               a JSON object for each damaged range, for each that was repaired or is left, and one for the\n"
    "                           result\n"
    "  --timeout is how long to wait for the other journal [10s].\n\n"
    "Examples:\n"
    "  factmesh repair ./orders-journal --from tcp://10.0.0.7:7400\n"
    "  factmesh repair ./orders-journal --from /mnt/backup/orders-journal --dry-run\n";

enum { OPT_FROM = OPT_OWN, OPT_JOURNAL, OPT_DRY_RUN, OPT_JSON };

static const struct option long_options[] = { { "from", required_argument, NULL, OPT_FROM },
                                              { "journal", required_argument, NULL, OPT_JOURNAL },
                                              { "dry-run", no_argument, NULL, OPT_DRY_RUN },
                                              { "json", no_argument, NULL, OPT_JSON },
                                              COMMON_LONG };

typedef unsigned long long ull; /* for printf */

struct repair {
    struct cli cli;
    const char *path, *from, *journal;
    bool dry_run, json;
    struct progress progress;

    /* The other holder: a directory, or a journal that is connected to once it is needed. */
    struct log *other;
    struct link link;
    bool linked;
    char mesh[MESH_NAME_MAX + 1];
    int status; /* of what failed there, after a message */
};

/* --- Asking a journal. */

static int take_data (struct refetch *into, const struct fm_id *stream, struct replay_view *view)
{
    const struct replay_header *header = &view->header;
    int rc = 0;
    for (size_t i = 0; i < header->gap_count && rc == 0; i++)
        if (id_equal (&header->gaps[i].stream, stream))
            rc = refetch_gap (into, header->gaps[i].first_seq, header->gaps[i].end_seq, header->gaps[i].reason);
    struct fm_slice bytes;
    while (rc == 0 && replay_view_next (view, &bytes) == 0)
        rc = refetch_batch (into, bytes);
    return rc;
}

static int fetch_from_journal (void *context, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq,
                               struct refetch *into)
{
    struct repair *r = context;
    if (!r->linked) {
        progress_clear (&r->progress);
        r->status = link_open (&r->link, &r->cli, r->journal);
        if (r->status)
            return FM_ERR_UNREACHABLE;
        r->linked = true;
    }
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.stream = control_put_id (stream);
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = first_seq;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = end_seq;
    uint64_t session;
    int rc = replay_client_open (r->link.client, &open, &session);
    if (rc < 0)
        return rc;
    while (rc == 0) {
        struct replay_event event;
        r->status = link_wait (&r->link, "refetching", &event);
        if (r->status)
            return FM_ERR_UNREACHABLE;
        if (event.session != session)
            continue;
        if (event.kind == REPLAY_END)
            break;
        if (event.kind == REPLAY_ERROR) {
            if (event.code == FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM)
                break;
            r->status = cli_error (&r->cli, "the journal at %s says: %s", r->link.address,
                                   event.text && *event.text ? event.text : "an error without a text");
            return FM_ERR_UNREACHABLE;
        }
        /* The view is the client's until the next receive: look before it is walked. */
        const bool caught_up = event.view->header.caught_up;
        rc = take_data (into, stream, event.view);
        if (caught_up) { /* it has no more, and would wait for it */
            replay_client_close (r->link.client, session);
            break;
        }
    }
    return rc;
}

/* --- Telling. */

static void on_damage (void *arg, const struct log_damage *d)
{
    struct repair *r = arg;
    progress_clear (&r->progress);
    damage_print (d, r->json);
}

static void on_progress (void *arg, uint64_t done, uint64_t all)
{
    struct repair *r = arg;
    progress_draw_bytes (&r->progress, done, all, "checked");
}

static void told_json (const struct repair_told *t, const char *outcome, const char *stream)
{
    struct text text = { 0 };
    text_put_byte (&text, '{');
    text_put_json_member (&text, "outcome", slice_of (outcome));
    text_put_byte (&text, ',');
    text_put_json_member (&text, "file", slice_of (t->path));
    text_put_byte (&text, ',');
    text_put_json_member (&text, "why", slice_of (t->why ? t->why : ""));
    text_put_byte (&text, 0);
    /* With no memory for the texts the numbers still tell where it is. */
    (void) printf ("%s,\"segment\":%llu,\"stream\":\"%s\",\"first_seq\":%llu,\"end_seq\":%llu,\"first_offset\":%llu,"
                       "\"end_offset\":%llu,\"reordered\":%s}\n",
                       text.failed ? "{\"file\":null" : (const char *) text.data, (ull) t->segment, stream, (ull) t->first_seq, (ull) t->end_seq,
                       (ull) t->first_offset, (ull) t->end_offset, t->reordered ? "true" : "false");
    text_release (&text);
}

static void on_told (void *arg, const struct repair_told *t)
{
    static const char *const done[] = { "refetched", "remade", "left" };
    static const char *const could[] = { "can be refetched", "can be made anew", "stays lost" };
    struct repair *r = arg;
    char stream[ID_TEXT_LEN + 1] = "";
    if (!id_is_zero (&t->stream))
        id_text (&t->stream, stream);
    if (r->json) {
        told_json (t, done[t->outcome], stream);
        return;
    }
    (void) printf ("%s: %s: ", t->path, r->dry_run ? could[t->outcome] : done[t->outcome]);
    if (*stream)
        (void) printf ("stream %s, facts %llu to %llu", stream, (ull) t->first_seq, (ull) (t->end_seq - 1));
    if (t->why)
        (void) printf ("%s%s", *stream ? ": " : "", t->why);
    if (t->end_offset > t->first_offset)
        (void) printf ("; offsets %llu to %llu", (ull) t->first_offset, (ull) (t->end_offset - 1));
    if (t->reordered)
        (void) printf ("; by time of publishing, for the order among streams is lost");
    (void) putchar ('\n');
}

static void print_result (const struct repair *r, const struct repair_result *result, uint64_t remaining)
{
    if (r->json)
        (void) printf ("{\"damaged\":%llu,\"refetched\":%llu,\"left\":%llu,\"segments\":%llu,\"quarantined\":%llu,"
                       "\"refused\":%llu,\"remaining\":%llu}\n",
                       (ull) result->damaged, (ull) result->refetched, (ull) result->left, (ull) result->segments,
                       (ull) result->quarantined, (ull) result->refused, (ull) remaining);
    else if (!r->cli.quiet && result->damaged == 0)
        (void) printf ("nothing is damaged\n");
    else if (!r->cli.quiet)
        (void) printf ("%llu damaged: %llu facts %s, %llu left; %llu segments made anew; %llu ranges damaged now\n",
                       (ull) result->damaged, (ull) result->refetched, r->dry_run ? "can be refetched" : "refetched",
                       (ull) result->left, (ull) result->segments, (ull) remaining);
}

/* --- Doing. */

/* What is damaged now. */
static int count_damage (struct repair *r, uint64_t *ret_damaged)
{
    struct log *log = NULL;
    struct log_verify_result result = { 0 };
    int status = directory_open (&r->cli, r->path, &log);
    if (status)
        return status;
    const int rc = log_verify (log, NULL, on_progress, r, &result);
    progress_clear (&r->progress);
    log_destroy (&log);
    *ret_damaged = result.damaged;
    return rc < 0 ? cli_fail (&r->cli, rc, "%s", r->path) : CLI_OK;
}

static int repair_log (struct repair *r, struct log *log)
{
    const bool directory = r->from && !strstr (r->from, "://");
    const struct refetch_source source = { .context = directory ? (void *) r->other : (void *) r,
                                           .fetch = directory ? refetch_from_log : fetch_from_journal };
    const struct repair_options options = { .source = r->from ? &source : NULL,
                                            .damage = on_damage,
                                            .progress = on_progress,
                                            .told = on_told,
                                            .arg = r };
    struct repair_result result;
    /* The mesh is the directory's, unless one is given: then batches of another would be refused all the same. */
    (void) snprintf (r->mesh, sizeof r->mesh, "%s", log_mesh (log));
    r->cli.mesh = r->mesh;
    const int rc = log_repair (log, &options, &result);
    progress_clear (&r->progress);
    log_destroy (&log);
    if (r->status)
        return r->status;
    if (rc < 0)
        return cli_fail (&r->cli, rc, "%s", r->path);
    uint64_t remaining = result.damaged;
    if (result.damaged > 0 && !r->dry_run) {
        const int status = count_damage (r, &remaining);
        if (status)
            return status;
    }
    print_result (r, &result, remaining);
    return remaining ? CLI_DAMAGED : CLI_OK;
}

static int repair_run (struct repair *r)
{
    struct log *log = NULL;
    /* Read-only first: a directory that is not there, or is nobody's, must not be made a journal's. */
    int status = directory_open (&r->cli, r->path, &log);
    if (status)
        return status;
    if (r->from && !strstr (r->from, "://"))
        status = directory_open (&r->cli, r->from, &r->other);
    if (status == CLI_OK && !r->dry_run) {
        log_destroy (&log);
        const struct log_options options = { .read_only = false };
        struct log_recovery recovery;
        const int rc = log_open (r->path, &options, &recovery, &log);
        if (rc < 0)
            status = cli_fail (&r->cli, rc, "%s", r->path);
    }
    progress_init (&r->progress, r->cli.quiet);
    if (status == CLI_OK)
        status = repair_log (r, log);
    else
        log_destroy (&log);
    log_destroy (&r->other);
    if (r->linked)
        link_close (&r->link);
    return status;
}

static int take_option (struct repair *r, int option, const char *value)
{
    switch (option) {
    case OPT_FROM:
        r->from = value;
        if (!*value)
            return cli_usage (&r->cli, "--from: the address of a journal, or a directory");
        if (strstr (value, "://")) {
            r->cli.seeds = value;
            r->cli.seed_option = "--from";
        }
        return -1;
    case OPT_JOURNAL:
        r->journal = value;
        return -1;
    case OPT_DRY_RUN:
        r->dry_run = true;
        return -1;
    case OPT_JSON:
        r->json = true;
        return -1;
    default:
        return cli_option (&r->cli, option, value);
    }
}

int command_repair (int argc, char **argv)
{
    struct repair r = { .json = false };
    cli_init (&r.cli, "repair", help, argv);
    int c;
    while ((c = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        const int status = take_option (&r, c, optarg);
        if (status >= 0)
            return status;
    }
    int status = directory_argument (&r.cli, argc, argv, &r.path);
    if (status >= 0)
        return status;
    if (r.from && strstr (r.from, "://"))
        status = cli_check_addresses (&r.cli);
    else
        status = CLI_OK;
    if (status == CLI_OK)
        status = repair_run (&r);
    return cli_done (&r.cli, status);
}
