/* flow_publisher: publishes a flow (tests/support/flow.h) at a rate, and tells how fast it went and when all of it was
 * synced.
 *
 * Lines out: READY address=…, STREAM index=… id=… each, then, after a line on standard input: PUBLISHED facts=…
 * took_us=…, SYNCED took_us=… (unless --no-journal), COUNTER …, and it stays to repair what others missed until
 * standard input ends.
 *
 * --endless publishes until a line `end` comes, then an end mark on each topic. --directory makes each stream go on where
 * it was when its publisher was killed: contents follow the sequence, whatever epoch. --acked FILE gets a line
 * `EPOCH index=… stream=… first=…` for each start and `ACKED index=… seq=…` as journals sync, for flow_check. */

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "factmesh.h"
#include "../support/flow.h"
#include "../support/tool.h"

enum { STREAMS_MAX = 16, SLICE_US = 1000, ACKED_EVERY_US = 20000, LOOK_EVERY = 256 };

struct settings {
    struct fm_node_options node;
    struct fm_publisher_options publisher;
    struct flow flow;
    uint64_t rate;                  /* facts a second over all streams; 0: as fast as it goes */
    unsigned streams, first_stream; /* how many, and the index of the first */
    unsigned members;               /* to wait for before READY; self counts */
    bool no_journal;
    int synced_ms; /* limit of the wait for synced */
    bool endless;
    const char *directory, *acked;
};

struct program {
    struct settings set;
    struct fm_node *node;
    struct fm_publisher *publishers[STREAMS_MAX];
    uint64_t next_seq[STREAMS_MAX];
    FILE *acked;
    uint64_t acked_told[STREAMS_MAX], acked_us; /* in the file; when it was looked last */
};

static void usage (void)
{
    (void) fputs ("usage: flow_publisher --seed ADDRESS [--mesh NAME] [--contents N] [--count N] [--rate N] [--topics "
                  "N] [--streams N]\n"
                  "    [--payload BYTES] [--large] [--live-queue N] [--window BYTES] [--members N] [--no-journal] "
                  "[--synced-ms N] [--first-stream N] [--bind ADDRESS] [--block-ms N]\n"
                  "    [--endless] [--directory DIR] [--acked FILE]\n",
                  stderr);
    exit (2);
}

static void notice_print (void *arg, const char *id, const char *text)
{
    (void) arg;
    (void) fprintf (stderr, "%s %s\n", id, text);
}

static void settings_parse (struct settings *set, int argc, char **argv)
{
    static const struct option options[] = {
        { "seed", 1, NULL, 's' },      { "mesh", 1, NULL, 'm' },     { "contents", 1, NULL, 'c' },
        { "count", 1, NULL, 'n' },     { "rate", 1, NULL, 'r' },     { "topics", 1, NULL, 't' },
        { "streams", 1, NULL, 'S' },   { "payload", 1, NULL, 'p' },  { "live-queue", 1, NULL, 'q' },
        { "window", 1, NULL, 'w' },    { "members", 1, NULL, 'M' },  { "no-journal", 0, NULL, 'j' },
        { "synced-ms", 1, NULL, 'y' }, { "large", 0, NULL, 'l' },    { "first-stream", 1, NULL, 'f' },
        { "bind", 1, NULL, 'b' },      { "block-ms", 1, NULL, 'B' }, { "endless", 0, NULL, 'E' },
        { "directory", 1, NULL, 'd' }, { "acked", 1, NULL, 'a' },    { NULL, 0, NULL, 0 },
    };
    int option, index = 0;

    *set = (struct settings) { .flow = { .topics = 50, .count = 1000 }, .streams = 1, .synced_ms = 60000 };
    set->node.name = "flow_publisher";
    set->node.notice = notice_print;
    set->publisher.block_ms = 60000;
    while ((option = getopt_long (argc, argv, "", options, &index)) != -1) {
        const char *name = options[index].name;
        switch (option) {
        case 's':
            set->node.seeds = optarg;
            break;
        case 'm':
            set->node.mesh = optarg;
            break;
        case 'c':
            set->flow.contents = tool_number (name, optarg);
            break;
        case 'n':
            set->flow.count = tool_number (name, optarg);
            break;
        case 'r':
            set->rate = tool_number (name, optarg);
            break;
        case 't':
            set->flow.topics = (unsigned) tool_number (name, optarg);
            break;
        case 'S':
            set->streams = (unsigned) tool_number (name, optarg);
            break;
        case 'p':
            set->flow.payload_bytes = tool_number (name, optarg);
            break;
        case 'l':
            set->flow.large = true;
            break;
        case 'b':
            set->node.bind = optarg;
            break;
        case 'B':
            set->publisher.block_ms = (int) tool_number (name, optarg);
            break;
        case 'E':
            set->endless = true;
            break;
        case 'd':
            set->directory = optarg;
            break;
        case 'a':
            set->acked = optarg;
            break;
        case 'f':
            set->first_stream = (unsigned) tool_number (name, optarg);
            break;
        case 'q':
            set->node.live_queue = (int) tool_number (name, optarg);
            break;
        case 'w':
            set->publisher.window_bytes = tool_number (name, optarg);
            break;
        case 'M':
            set->members = (unsigned) tool_number (name, optarg);
            break;
        case 'j':
            set->no_journal = true;
            break;
        case 'y':
            set->synced_ms = (int) tool_number (name, optarg);
            break;
        default:
            usage ();
        }
    }
    if (optind != argc || set->streams < 1 || set->streams > STREAMS_MAX || !set->flow.topics ||
        set->flow.payload_bytes > FLOW_PAYLOAD_MAX)
        usage ();
    if (set->no_journal)
        set->publisher.when_full = FM_DROP_OLDEST;
    if (set->endless)
        set->flow.count = FLOW_ENDLESS;
}

/* DIR/INDEX keeps the identity of a stream. */
static int stream_open (struct program *p, unsigned i)
{
    struct fm_publisher_options options = p->set.publisher;
    char path[4096];

    if (p->set.directory) {
        (void) snprintf (path, sizeof path, "%s/%u", p->set.directory, p->set.first_stream + i);
        if ((mkdir (p->set.directory, 0777) != 0 && errno != EEXIST) || (mkdir (path, 0777) != 0 && errno != EEXIST))
            return -errno;
        options.directory = path;
    }
    return fm_publisher_open (p->node, &options, &p->publishers[i]);
}

static int program_open (struct program *p)
{
    struct fm_publisher_state state;
    char id[TOOL_ID_TEXT];
    int rc;

    if (p->set.acked) {
        p->acked = fopen (p->set.acked, "a");
        if (!p->acked)
            return perror (p->set.acked), -1;
        (void) setvbuf (p->acked, NULL, _IOLBF, 0); /* what was told survives a kill: in whole lines */
    }
    rc = fm_node_open (&p->set.node, &p->node);
    if (rc < 0)
        return fm_perror ("flow_publisher: open", rc);
    if (!p->set.no_journal && !p->set.endless && (rc = fm_node_wait_journal (p->node, 10000)) < 0)
        return fm_perror ("flow_publisher: wait for a journal", rc);
    if (p->set.members && (rc = fm_node_wait_members (p->node, p->set.members, 10000)) < 0)
        return fm_perror ("flow_publisher: wait for members", rc);
    for (unsigned i = 0; i < p->set.streams; i++) {
        rc = stream_open (p, i);
        if (rc < 0)
            return fm_perror ("flow_publisher: open a stream", rc);
        fm_publisher_state (p->publishers[i], &state);
        p->next_seq[i] = state.head + 1;
        if (p->acked)
            (void) fprintf (p->acked, "EPOCH index=%u stream=%s first=%llu\n", p->set.first_stream + i,
                            tool_id_text (&state.stream, id), (unsigned long long) state.head + 1);
        (void) printf ("STREAM index=%u id=%s\n", p->set.first_stream + i, tool_id_text (&state.stream, id));
    }
    (void) printf ("READY address=%s\n", fm_node_address (p->node));
    return 0;
}

/* A full window is what a journal that is away does; an endless flow waits on. */
static int publish_patiently (const struct program *p, struct fm_publisher *publisher, const struct fm_fact *fact,
                              struct fm_fact_id *ret_id)
{
    int rc;

    do
        rc = fm_publish (publisher, fact, ret_id);
    while (rc == FM_ERR_WINDOW_FULL && p->set.endless);
    return rc;
}

static int fact_publish (struct program *p, unsigned i, const struct flow_fact *made)
{
    struct fm_fact_id id;
    char headers[2 * FLOW_HEADER_MAX + 16];
    struct fm_fact fact = {
        .topic = { made->topic, made->topic_len },
        .key = { made->key, made->key_len },
        .payload = { made->payload, made->payload_len },
    };
    size_t len = 0;
    int rc;

    if (made->header_name_len) {
        rc =
            fm_header_add (headers, sizeof headers, &len, (struct fm_slice) { made->header_name, made->header_name_len },
                           (struct fm_slice) { made->header_value, made->header_value_len });
        if (rc < 0)
            return rc;
        fact.headers = (struct fm_slice) { headers, len };
    }
    rc = publish_patiently (p, p->publishers[i], &fact, &id);
    if (rc == 0 && id.seq != p->next_seq[i]) {
        (void) fprintf (stderr, "flow_publisher: sequence %llu, not %llu: the contents are not its own\n",
                        (unsigned long long) id.seq, (unsigned long long) p->next_seq[i]);
        return FM_ERR_LOST;
    }
    p->next_seq[i]++;
    return rc;
}

/* Tell what has been synced since. */
static void acked_tell (struct program *p)
{
    struct fm_publisher_state state;

    for (unsigned i = 0; i < p->set.streams; i++) {
        fm_publisher_state (p->publishers[i], &state);
        if (state.synced <= p->acked_told[i])
            continue;
        p->acked_told[i] = state.synced;
        (void) fprintf (p->acked, "ACKED index=%u seq=%llu\n", p->set.first_stream + i, (unsigned long long) state.synced);
    }
}

/* Between slices: is it told to end? */
static bool end_is_told (struct program *p)
{
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    char line[64];

    if (p->acked && tool_now_us () - p->acked_us > ACKED_EVERY_US) {
        p->acked_us = tool_now_us ();
        acked_tell (p);
    }
    return p->set.endless && poll (&in, 1, 0) == 1 && (!tool_line_read (line, sizeof line) || strcmp (line, "end") == 0);
}

static int end_marks_publish (struct program *p, struct flow_fact *made)
{
    for (unsigned topic = 0; topic < p->set.flow.topics; topic++) {
        for (unsigned i = 0; i < p->set.streams; i++) {
            flow_make_end (topic, made);
            const int rc = fact_publish (p, i, made);
            if (rc < 0)
                return fm_perror ("flow_publisher: publish an end mark", rc);
        }
    }
    return 0;
}

/* Every stream in turn, at the rate, which catches up after a pause: what counts is the number in the end. */
static int flow_publish (struct program *p)
{
    static struct flow_fact made;
    const uint64_t started_us = tool_now_us ();
    uint64_t sent = 0;
    bool ended = false;

    for (uint64_t n = 1; n <= flow_total (&p->set.flow) && !ended; n++) {
        for (unsigned i = 0; i < p->set.streams; i++, sent++) {
            struct flow flow = p->set.flow;
            flow.stream = p->set.first_stream + i;
            flow_make (&flow, p->next_seq[i], &made);
            const int rc = fact_publish (p, i, &made);
            if (rc < 0)
                return fm_perror ("flow_publisher: publish", rc);
        }
        const uint64_t due_us = p->set.rate ? started_us + sent / p->set.rate * 1000000 + sent % p->set.rate * 1000000 / p->set.rate : 0;
        if (n % LOOK_EVERY == 0)
            ended = end_is_told (p);
        while (!ended && due_us > tool_now_us () + SLICE_US) {
            tool_sleep_until_us (tool_now_us () + SLICE_US);
            ended = end_is_told (p);
        }
    }
    if (ended && end_marks_publish (p, &made) < 0)
        return -1;
    for (unsigned i = 0; i < p->set.streams; i++) {
        const int rc = fm_publisher_flush (p->publishers[i]);
        if (rc < 0)
            return fm_perror ("flow_publisher: flush", rc);
    }
    (void) printf ("PUBLISHED facts=%llu took_us=%llu\n", (unsigned long long) sent,
                   (unsigned long long) (tool_now_us () - started_us));
    for (unsigned i = 0; i < p->set.streams && !p->set.no_journal; i++) {
        const int rc = fm_publisher_wait_synced (p->publishers[i], 0, p->set.synced_ms);
        if (rc < 0)
            return fm_perror ("flow_publisher: wait for synced", rc);
    }
    if (p->acked)
        acked_tell (p);
    if (!p->set.no_journal)
        (void) printf ("SYNCED took_us=%llu\n", (unsigned long long) (tool_now_us () - started_us));
    return 0;
}

static void counter_print (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning)
{
    (void) arg, (void) meaning;
    (void) printf ("COUNTER name=%s value=%llu unit=%s\n", name, (unsigned long long) value, unit);
}

int main (int argc, char **argv)
{
    struct program p = { 0 };
    char line[64];
    int status = 1;

    tool_lines ();
    (void) setvbuf (stdin, NULL, _IONBF, 0); /* poll must see what is there */
    settings_parse (&p.set, argc, argv);
    if (program_open (&p) == 0 && tool_line_read (line, sizeof line) && flow_publish (&p) == 0) {
        (void) fm_node_counters (p.node, counter_print, NULL);
        (void) printf ("DONE\n");
        while (tool_line_read (line, sizeof line))
            ;
        status = 0;
    }
    for (unsigned i = 0; i < STREAMS_MAX; i++)
        fm_publisher_close (&p.publishers[i]);
    if (p.node)
        fm_node_close (&p.node);
    return status;
}
