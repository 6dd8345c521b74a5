/* flow_subscriber: takes a flow (tests/support/flow.h) until it has seen the end marks that it was told to wait for,
 * and a little longer for what should not come. With --log it writes every fact for flow_check.
 *
 * Lines out: READY, CAUGHT-UP and FELL-BEHIND facts=…, GAP stream=… first=… end=… reason=…, PROGRESS facts=…
 * (--progress), ENDED facts=… took_us=…, STREAM id=… facts=… last=… digest=…, COUNTER …, DONE. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "factmesh.h"
#include "../support/flow.h"
#include "../support/oracle.h"
#include "../support/tool.h"

enum { TOPICS_MAX = 16, STREAMS_MAX = 64, LOG_BUFFER = 1 << 20 };

struct settings {
    struct fm_node_options node;
    struct fm_subscription_options subscription;
    const char *topics[TOPICS_MAX + 1];
    size_t topic_count;
    const char *log;
    uint64_t ends;     /* end marks to wait for, of all streams together */
    uint64_t stall_us; /* work on each fact */
    uint64_t progress; /* a line every so many facts; 0: none */
    int idle_ms;       /* no event for so long is a failure */
    int linger_ms;     /* behind the last end mark */
};

struct stream {
    struct fm_id id;
    uint64_t facts, last, digest;
};

struct program {
    struct settings set;
    struct fm_node *node;
    struct fm_subscription *subscription;
    FILE *log;
    struct stream streams[STREAMS_MAX];
    size_t stream_count;
    uint64_t facts, ends;
};

static void usage (void)
{
    (void) fputs ("usage: flow_subscriber --seed ADDRESS --ends N [--topic PATTERN]… [--mesh NAME] [--from start|end] "
                  "[--synced] [--log FILE]\n"
                  "    [--stall-us N] [--held BYTES] [--progress N] [--idle-ms N] [--linger-ms N] [--no-journal] "
                  "[--cursor NAME]\n",
                  stderr);
    exit (2);
}

static void notice_print (void *arg, const char *id, const char *text)
{
    (void) arg;
    (void) fprintf (stderr, "%s %s\n", id, text);
}

static void topic_add (struct settings *set, const char *topic)
{
    if (set->topic_count == TOPICS_MAX)
        usage ();
    set->topics[set->topic_count++] = topic;
}

static enum fm_start start_parse (const char *text)
{
    if (strcmp (text, "start") == 0)
        return FM_FROM_START;
    if (strcmp (text, "end") != 0)
        usage ();
    return FM_FROM_END;
}

static void settings_parse (struct settings *set, int argc, char **argv)
{
    static const struct option options[] = {
        { "seed", 1, NULL, 's' },    { "mesh", 1, NULL, 'm' },      { "topic", 1, NULL, 't' },
        { "from", 1, NULL, 'f' },    { "synced", 0, NULL, 'y' },    { "log", 1, NULL, 'l' },
        { "ends", 1, NULL, 'e' },    { "stall-us", 1, NULL, 'u' },  { "held", 1, NULL, 'h' },
        { "idle-ms", 1, NULL, 'i' }, { "linger-ms", 1, NULL, 'g' }, { "no-journal", 0, NULL, 'j' },
        { "cursor", 1, NULL, 'c' },  { "progress", 1, NULL, 'p' },  { NULL, 0, NULL, 0 },
    };
    int option, index = 0;

    *set = (struct settings) { .idle_ms = 20000, .linger_ms = 100 };
    set->node.name = "flow_subscriber";
    set->node.notice = notice_print;
    while ((option = getopt_long (argc, argv, "", options, &index)) != -1) {
        const char *name = options[index].name;
        switch (option) {
        case 's':
            set->node.seeds = optarg;
            break;
        case 'm':
            set->node.mesh = optarg;
            break;
        case 't':
            topic_add (set, optarg);
            break;
        case 'f':
            set->subscription.from = start_parse (optarg);
            break;
        case 'y':
            set->subscription.delivery = FM_SYNCED;
            break;
        case 'l':
            set->log = optarg;
            break;
        case 'e':
            set->ends = tool_number (name, optarg);
            break;
        case 'u':
            set->stall_us = tool_number (name, optarg);
            break;
        case 'h':
            set->subscription.held_bytes = tool_number (name, optarg);
            break;
        case 'i':
            set->idle_ms = (int) tool_number (name, optarg);
            break;
        case 'g':
            set->linger_ms = (int) tool_number (name, optarg);
            break;
        case 'j':
            set->subscription.no_journal = true;
            break;
        case 'c':
            set->subscription.cursor = optarg;
            break;
        case 'p':
            set->progress = tool_number (name, optarg);
            break;
        default:
            usage ();
        }
    }
    if (optind != argc)
        usage ();
    set->subscription.topics = set->topic_count ? set->topics : NULL;
    set->subscription.open_timeout_ms = 10000;
}

static struct stream *stream_of (struct program *p, const struct fm_id *id)
{
    for (size_t i = 0; i < p->stream_count; i++)
        if (memcmp (&p->streams[i].id, id, sizeof *id) == 0)
            return &p->streams[i];
    if (p->stream_count == STREAMS_MAX) {
        (void) fprintf (stderr, "flow_subscriber: more than %d streams\n", STREAMS_MAX);
        exit (1);
    }
    p->streams[p->stream_count] = (struct stream) { .id = *id, .digest = 0xcbf29ce484222325u };
    return &p->streams[p->stream_count++];
}

/* FNV-1a over eight bytes a step: a running digest for people to compare at a glance; flow_check compares the bytes. */
static uint64_t digest_add (uint64_t digest, struct fm_slice s)
{
    const uint8_t *p = s.data;

    digest = (digest ^ s.len) * 0x100000001b3u;
    for (size_t i = 0; i < s.len; i += 8) {
        uint64_t word = 0;
        memcpy (&word, p + i, s.len - i < 8 ? s.len - i : 8);
        digest = (digest ^ word) * 0x100000001b3u;
        digest ^= digest >> 29;
    }
    return digest;
}

/* "name=value\n" of each header, as flow_check writes it. */
static struct fm_slice headers_text (struct fm_slice headers, char *text, size_t size)
{
    struct fm_slice name, value;
    size_t pos = 0, len = 0;

    while (fm_header_next (headers, &pos, &name, &value) == 0)
        len += (size_t) snprintf (text + len, size - len, "%.*s=%.*s\n", (int) name.len, (const char *) name.data,
                                  (int) value.len, (const char *) value.data);
    return (struct fm_slice) { text, len };
}

static int fact_take (struct program *p, const struct fm_fact *fact)
{
    struct stream *stream = stream_of (p, &fact->id.stream);
    char headers[2 * FLOW_HEADER_MAX + 16];
    const struct oracle_fact record = {
        .stream = fact->id.stream,
        .seq = fact->id.seq,
        .topic = fact->topic,
        .key = fact->key,
        .headers = headers_text (fact->headers, headers, sizeof headers),
        .payload = fact->payload,
    };

    stream->facts++;
    stream->last = fact->id.seq;
    stream->digest = (stream->digest ^ fact->id.seq) * 0x100000001b3u;
    stream->digest = digest_add (stream->digest, fact->topic);
    stream->digest = digest_add (stream->digest, fact->key);
    stream->digest = digest_add (stream->digest, record.headers);
    stream->digest = digest_add (stream->digest, fact->payload);
    p->facts++;
    if (p->set.progress && p->facts % p->set.progress == 0)
        (void) printf ("PROGRESS facts=%llu\n", (unsigned long long) p->facts);
    if (fact->payload.len == strlen (FLOW_END) && memcmp (fact->payload.data, FLOW_END, fact->payload.len) == 0)
        p->ends++;
    if (p->set.stall_us)
        tool_sleep_until_us (tool_now_us () + p->set.stall_us);
    return p->log ? oracle_log_write (p->log, &record) : 0;
}

static int event_take (struct program *p, const struct fm_event *event)
{
    char id[TOOL_ID_TEXT];

    switch (event->kind) {
    case FM_EVENT_FACT:
        return fact_take (p, &event->fact);
    case FM_EVENT_GAP:
        (void) printf ("GAP stream=%s first=%llu end=%llu reason=%d\n", tool_id_text (&event->gap.stream, id),
                       (unsigned long long) event->gap.first, (unsigned long long) event->gap.end,
                       (int) event->gap.reason);
        break;
    case FM_EVENT_CAUGHT_UP:
        (void) printf ("CAUGHT-UP facts=%llu\n", (unsigned long long) p->facts);
        break;
    case FM_EVENT_FELL_BEHIND:
        (void) printf ("FELL-BEHIND facts=%llu\n", (unsigned long long) p->facts);
        break;
    }
    return 0;
}

/* Until all end marks are there, and then as long as linger_ms passes without an event. */
static int flow_take (struct program *p)
{
    const uint64_t started_us = tool_now_us ();
    struct fm_event event;
    bool ended = p->set.ends == 0;

    for (;;) {
        int rc = fm_subscription_next (p->subscription, ended ? p->set.linger_ms : p->set.idle_ms, &event);
        if (rc == FM_TIMEOUT && ended)
            return 0;
        if (rc == FM_INTERRUPTED)
            continue; /* stopped and continued, say */
        if (rc < 0) {
            (void) fprintf (stderr, "flow_subscriber: facts=%llu ends=%llu of=%llu\n", (unsigned long long) p->facts,
                            (unsigned long long) p->ends, (unsigned long long) p->set.ends);
            return fm_perror ("flow_subscriber: next", rc);
        }
        rc = event_take (p, &event);
        if (rc < 0)
            return fm_perror ("flow_subscriber: log", rc);
        if (p->set.subscription.cursor && (rc = fm_subscription_ack (p->subscription)) < 0)
            return fm_perror ("flow_subscriber: ack", rc);
        if (!ended && p->ends >= p->set.ends) {
            ended = true;
            (void) printf ("ENDED facts=%llu took_us=%llu\n", (unsigned long long) p->facts,
                           (unsigned long long) (tool_now_us () - started_us));
        }
    }
}

static int program_open (struct program *p)
{
    int rc;

    if (p->set.log) {
        p->log = fopen (p->set.log, "wb");
        if (!p->log) {
            perror (p->set.log);
            return -1;
        }
        (void) setvbuf (p->log, NULL, _IOFBF, LOG_BUFFER); /* only slower without */
    }
    if ((rc = fm_node_open (&p->set.node, &p->node)) < 0)
        return fm_perror ("flow_subscriber: open", rc);
    if ((rc = fm_subscription_open (p->node, &p->set.subscription, &p->subscription)) < 0)
        return fm_perror ("flow_subscriber: subscribe", rc);
    (void) printf ("READY address=%s\n", fm_node_address (p->node));
    return 0;
}

static void counter_print (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning)
{
    (void) arg, (void) meaning;
    (void) printf ("COUNTER name=%s value=%llu unit=%s\n", name, (unsigned long long) value, unit);
}

static void program_tell (const struct program *p)
{
    char id[TOOL_ID_TEXT];

    for (size_t i = 0; i < p->stream_count; i++)
        (void) printf ("STREAM id=%s facts=%llu last=%llu digest=%016llx\n", tool_id_text (&p->streams[i].id, id),
                       (unsigned long long) p->streams[i].facts, (unsigned long long) p->streams[i].last,
                       (unsigned long long) p->streams[i].digest);
    (void) fm_node_counters (p->node, counter_print, NULL);
}

int main (int argc, char **argv)
{
    struct program p = { 0 };
    int status = 1;

    tool_lines ();
    settings_parse (&p.set, argc, argv);
    if (program_open (&p) == 0 && flow_take (&p) == 0) {
        program_tell (&p);
        status = 0;
    }
    if (p.log && fclose (p.log) != 0) {
        perror (p.set.log);
        status = 1;
    }
    if (status == 0)
        (void) printf ("DONE\n");
    if (p.subscription)
        fm_subscription_close (&p.subscription);
    if (p.node)
        fm_node_close (&p.node);
    return status;
}
