/* status: what a journal holds and counts, asked of the running journal. */

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "id.h"
#include "link.h"
#include "text.h"

static const char help[] = "usage: factmesh status [OPTION…]\n"
                           "What a running journal holds and counts.\n\n"
                           "      --streams            also each stream: id, epoch, facts, name\n"
                           "      --json               one JSON object\n"
                           "      --journal ID         of this journal; the first digits will do\n"
                           "  --timeout is how long to wait for the journal [10s].\n\n"
                           "Example:\n"
                           "  factmesh status --seed tcp://127.0.0.1:7400\n";

enum { OPT_JSON = OPT_OWN, OPT_STREAMS, OPT_JOURNAL, STATUS_PAGE = 512 };

static const struct option long_options[] = { { "json", no_argument, NULL, OPT_JSON },
                                              { "streams", no_argument, NULL, OPT_STREAMS },
                                              { "journal", required_argument, NULL, OPT_JOURNAL },
                                              COMMON_LONG };

struct status {
    struct cli cli;
    bool json, streams;
    struct link link;
    struct text text;
    bool first;
    struct fm_id last;
};

static void put_json (struct status *s, const Factmesh__StatusReply *r, const char *journal)
{
    struct text *const t = &s->text;
    text_format (
        t,
        "{\"journal\":\"%s\",\"generation\":%llu,\"first_offset\":%llu,\"written_offset\":%llu,\"synced_offset\":%llu,"
        "\"bytes_on_disk\":%llu,\"read_only\":%s,\"counters\":{",
        journal, (unsigned long long) r->generation, (unsigned long long) r->first_offset,
        (unsigned long long) r->written_offset, (unsigned long long) r->synced_offset,
        (unsigned long long) r->bytes_on_disk, r->read_only ? "true" : "false");
    for (size_t i = 0; i < r->n_counters; i++) {
        text_put_cstr (t, i ? "," : "");
        text_put_json (t, control_get_slice (&r->counters[i]->name));
        text_put_byte (t, ':');
        text_put_u64 (t, r->counters[i]->value);
    }
    text_put_byte (t, '}');
}

static void put_text (struct status *s, const Factmesh__StatusReply *r, const char *journal)
{
    char bytes[TEXT_GROUPED], facts[TEXT_GROUPED];
    const uint64_t held = r->synced_offset > r->first_offset ? r->synced_offset - r->first_offset : 0;
    text_format (&s->text, "journal         %s, generation %llu%s\naddress         %s\n", journal,
                 (unsigned long long) r->generation, r->read_only ? ", READ-ONLY after a failed write or sync" : "",
                 s->link.address);
    text_format (
        &s->text, "holds           %s facts, %s bytes\noffsets         first %llu, written %llu, synced %llu\n",
        text_grouped (held, facts), text_grouped (r->bytes_on_disk, bytes), (unsigned long long) r->first_offset,
        (unsigned long long) r->written_offset, (unsigned long long) r->synced_offset);
    for (size_t i = 0; i < r->n_counters; i++) {
        const Factmesh__Counter *c = r->counters[i];
        text_format (&s->text, "%-32.*s %20llu %.*s\n", (int) (c->name.len < 64 ? c->name.len : 64),
                     (const char *) c->name.data, (unsigned long long) c->value,
                     (int) (c->unit.len < 32 ? c->unit.len : 32), (const char *) c->unit.data);
    }
}

static void put_stream (struct status *s, const Factmesh__StreamStatus *stream)
{
    struct fm_id id;
    char text[ID_TEXT_LEN + 1];
    if (control_get_id (&stream->stream, &id) < 0)
        return;
    id_text (&id, text);
    if (s->json) {
        text_format (&s->text, "%s{\"stream\":\"%s\",\"epoch\":%llu,\"first_seq\":%llu,\"synced\":%llu,",
                     s->first ? "" : ",", text, (unsigned long long) stream->epoch,
                     (unsigned long long) stream->first_seq, (unsigned long long) stream->synced);
        text_put_json_member (&s->text, "name", control_get_slice (&stream->name));
        text_put_byte (&s->text, '}');
    } else {
        text_format (&s->text, "stream          %s epoch %llu, facts %llu to %llu  ", text,
                     (unsigned long long) stream->epoch, (unsigned long long) stream->first_seq,
                     (unsigned long long) stream->synced);
        text_put (&s->text, control_get_slice (&stream->name));
        text_put_byte (&s->text, '\n');
    }
    s->first = false;
    s->last = id;
}

/* Ask for one page; print the head with the first. */
static int ask (struct status *s, bool head, bool *ret_more)
{
    Factmesh__StatusGet body = FACTMESH__STATUS_GET__INIT;
    body.streams_limit = s->streams ? STATUS_PAGE : 0;
    if (!head)
        body.streams_after = control_put_id (&s->last);
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    request.status_get = &body;
    const int status = link_request (&s->link, &request, FACTMESH__CONTROL__BODY_STATUS_REPLY, &reply);
    if (status)
        return status;
    const Factmesh__StatusReply *const r = reply->status_reply;
    char journal[ID_TEXT_LEN + 1];
    id_text (&s->link.journal, journal);
    text_clear (&s->text);
    if (head && s->json)
        put_json (s, r, journal);
    else if (head)
        put_text (s, r, journal);
    if (head && s->json && s->streams)
        text_put_cstr (&s->text, ",\"streams\":[");
    for (size_t i = 0; s->streams && i < r->n_streams; i++)
        put_stream (s, r->streams[i]);
    *ret_more = s->streams && r->more && r->n_streams;
    if (!*ret_more && s->json)
        text_put_cstr (&s->text, s->streams ? "]}\n" : "}\n");
    return cli_print (&s->cli, &s->text);
}

int command_status (int argc, char **argv)
{
    struct status s = { .first = true };
    const char *journal = NULL;
    cli_init (&s.cli, "status", help, argv);
    int c, status = -1;
    while ((c = getopt_long (argc, argv, COMMON_SHORT, long_options, NULL)) != -1) {
        if (c == OPT_JSON)
            s.json = true;
        else if (c == OPT_STREAMS)
            s.streams = true;
        else if (c == OPT_JOURNAL)
            journal = optarg;
        else
            status = cli_option (&s.cli, c, optarg);
        if (status >= 0)
            return status;
    }
    if (optind != argc)
        return cli_usage (&s.cli, "no argument is taken: '%s'", argv[optind]);
    status = link_open (&s.link, &s.cli, journal);
    if (status == CLI_OK) {
        bool more = true;
        for (bool head = true; more && status == CLI_OK; head = false)
            status = ask (&s, head, &more);
        link_close (&s.link);
    }
    text_release (&s.text);
    return cli_done (&s.cli, status);
}
