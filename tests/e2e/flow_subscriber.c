/* flow_subscriber: takes a flow (tests/support/flow.h) until it has seen the end marks that it was told to wait for,
 * and a little longer for what should not come. With --log it writes every fact for flow_check.
 *
 * Lines out: READY, CONFLICT, CAUGHT-UP and FELL-BEHIND facts=…, GAP stream=… first=… end=… reason=…, PROGRESS facts=…
 * (--progress), ENDED facts=… took_us=…, STREAM id=… facts=… last=… digest=…, COUNTER …, DONE.
 *
 * --resume FILE is for a subscriber that is killed at any moment, and goes on when it is started again: the log is then
 * exactly what it took. With --cursor NAME it acknowledges every --every facts, and writes to FILE up to where it knows
 * the acknowledgement to be durable: what comes again from below that is a fault (REDELIVERED, and the end); what comes
 * again from above is counted (AGAIN facts=…). Without a name FILE holds its cursor
 * and how long the log was with it, as a service would keep both in one transaction: the log is cut to that, and nothing
 * may come twice. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "factmesh.h"
#include "../support/flow.h"
#include "../support/oracle.h"
#include "../support/tool.h"

enum { TOPICS_MAX = 16, STREAMS_MAX = 64, LOG_BUFFER = 1 << 20, COMMIT_MS = 2000, PATH_LEN = 4096 };

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
    const char *resume;
    uint64_t every; /* facts between acknowledgements */
};

struct stream {
    struct fm_id id;
    uint64_t facts, last, digest;
    uint64_t taken;   /* by this process, what came again too */
    uint64_t durable; /* acknowledged for sure: nothing up to here may come again */
};

struct program {
    struct settings set;
    struct fm_node *node;
    struct fm_subscription *subscription;
    FILE *log;
    struct stream streams[STREAMS_MAX];
    size_t stream_count;
    uint64_t facts, ends, again, again_told;
    uint8_t *cursor; /* of --resume without a name */
    size_t cursor_len;
};

static void usage (void)
{
    (void) fputs ("usage: flow_subscriber --seed ADDRESS --ends N [--topic PATTERN]… [--mesh NAME] [--from start|end] "
                  "[--synced] [--log FILE]\n"
                  "    [--stall-us N] [--held BYTES] [--progress N] [--idle-ms N] [--linger-ms N] [--no-journal] "
                  "[--cursor NAME] [--bind ADDRESS] [--resume FILE] [--every N] [--open-ms N]\n",
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
        { "cursor", 1, NULL, 'c' },  { "progress", 1, NULL, 'p' },  { "bind", 1, NULL, 'b' },
        { "resume", 1, NULL, 'r' },  { "every", 1, NULL, 'E' },     { "open-ms", 1, NULL, 'o' },
        { NULL, 0, NULL, 0 },
    };
    int option, index = 0;

    *set = (struct settings) { .idle_ms = 20000, .linger_ms = 100, .every = 1 };
    set->subscription.open_timeout_ms = 10000;
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
        case 'b':
            set->node.bind = optarg;
            break;
        case 'r':
            set->resume = optarg;
            break;
        case 'E':
            set->every = tool_number (name, optarg);
            break;
        case 'o':
            set->subscription.open_timeout_ms = (int) tool_number (name, optarg);
            break;
        case 'p':
            set->progress = tool_number (name, optarg);
            break;
        default:
            usage ();
        }
    }
    if (optind != argc || !set->every || (set->resume && !set->log))
        usage ();
    set->subscription.topics = set->topic_count ? set->topics : NULL;
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

static void again_tell (struct program *p)
{
    (void) printf ("AGAIN facts=%llu\n", (unsigned long long) (p->again - p->again_told));
    p->again_told = p->again;
}

/* One that was taken before the kill. */
static int fact_again (struct program *p, const struct stream *stream, const struct fm_fact *fact)
{
    char id[TOOL_ID_TEXT];

    if (p->set.subscription.cursor && fact->id.seq > stream->durable) {
        p->again++;
        return 0;
    }
    (void) printf ("REDELIVERED stream=%s seq=%llu durable=%llu last=%llu\n", tool_id_text (&stream->id, id),
                   (unsigned long long) fact->id.seq, (unsigned long long) stream->durable,
                   (unsigned long long) stream->last);
    return FM_ERR_CONFLICT;
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

    stream->taken = fact->id.seq;
    if (p->set.resume && fact->id.seq <= stream->last)
        return fact_again (p, stream, fact);
    if (p->again > p->again_told)
        again_tell (p);
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
    const int rc = p->log ? oracle_log_write (p->log, &record) : 0;
    /* What was taken survives a kill, so that what comes again is recognised. */
    return rc == 0 && p->set.resume && fflush (p->log) != 0 ? -EIO : rc;
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

/* ------------------------------------------------------------------ resuming */

/* Replace FILE as a whole: a kill leaves the old one or the new. */
static int resume_write (const struct program *p, const void *bytes, size_t len)
{
    char path[PATH_LEN];
    FILE *file;

    (void) snprintf (path, sizeof path, "%s.new", p->set.resume);
    file = fopen (path, "wb");
    if (!file)
        return -errno;
    const bool good = fwrite (bytes, 1, len, file) == len;
    if (fclose (file) != 0 || !good || rename (path, p->set.resume) != 0)
        return -EIO;
    return 0;
}

/* With a cursor of its own: the length of the log, and the place behind it. */
static int own_cursor_save (struct program *p)
{
    struct fm_slice cursor;
    const long length = ftell (p->log);
    int rc = fm_subscription_cursor (p->subscription, &cursor);

    if (rc < 0)
        return rc;
    uint8_t *bytes = malloc (sizeof length + cursor.len);
    if (!bytes)
        return -ENOMEM;
    memcpy (bytes, &length, sizeof length);
    memcpy (bytes + sizeof length, cursor.data, cursor.len);
    rc = resume_write (p, bytes, sizeof length + cursor.len);
    free (bytes);
    return rc;
}

/* With a named one: wait until it is durable, when the journal lets it, and only then say so in FILE. */
static int named_cursor_save (struct program *p)
{
    int rc = fm_subscription_ack (p->subscription);

    if (rc == 0)
        rc = fm_subscription_commit (p->subscription, COMMIT_MS);
    if (rc == FM_TIMEOUT || rc == FM_INTERRUPTED)
        return 0; /* the journal is away: later */
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < p->stream_count; i++)
        if (p->streams[i].taken > p->streams[i].durable)
            p->streams[i].durable = p->streams[i].taken;
    return resume_write (p, p->streams, p->stream_count * sizeof *p->streams);
}

/* Behind every event. */
static int event_acknowledge (struct program *p)
{
    if (!p->set.resume)
        return p->set.subscription.cursor ? fm_subscription_ack (p->subscription) : 0;
    if (p->facts % p->set.every != 0)
        return 0;
    return p->set.subscription.cursor ? named_cursor_save (p) : own_cursor_save (p);
}

/* What a killed one left: *ret_bytes is for the caller to free; NULL when this is the first start. */
static int resume_read (const struct program *p, uint8_t **ret_bytes, size_t *ret_len)
{
    FILE *file = fopen (p->set.resume, "rb");
    int rc = -EIO;
    long len;

    *ret_bytes = NULL;
    if (!file)
        return errno == ENOENT ? 0 : -errno;
    if (fseek (file, 0, SEEK_END) == 0 && (len = ftell (file)) >= 0 && fseek (file, 0, SEEK_SET) == 0 &&
        (*ret_bytes = malloc ((size_t) len + 1)) && fread (*ret_bytes, 1, (size_t) len, file) == (size_t) len) {
        *ret_len = (size_t) len;
        rc = 0;
    }
    (void) fclose (file); /* only read */
    return rc;
}

static int recall_fact (void *program, const struct oracle_fact *fact)
{
    struct program *p = program;

    stream_of (p, &fact->stream)->last = fact->seq;
    p->facts++;
    if (fact->payload.len == strlen (FLOW_END) && memcmp (fact->payload.data, FLOW_END, fact->payload.len) == 0)
        p->ends++;
    return 0;
}

/* The log as far as it is whole: where each stream is, and how many end marks have come. */
static int log_recall (struct program *p)
{
    size_t whole = 0;
    const int rc = oracle_file_visit (p->set.log, recall_fact, p, &whole);

    return rc == 0 && truncate (p->set.log, (off_t) whole) != 0 ? -errno : rc;
}

static int program_resume (struct program *p)
{
    uint8_t *bytes;
    size_t len = 0;
    int rc = resume_read (p, &bytes, &len);

    if (rc < 0 || (!bytes && p->set.subscription.cursor == NULL))
        return rc < 0 ? rc : 0; /* the first start: the log is made anew, what it has is of no use without its cursor */
    if (!p->set.subscription.cursor) {
        long length;
        memcpy (&length, bytes, sizeof length);
        if (truncate (p->set.log, length) != 0)
            rc = -errno;
        p->cursor = bytes;
        p->set.subscription.from = FM_FROM_CURSOR;
        p->set.subscription.from_cursor = (struct fm_slice) { bytes + sizeof length, len - sizeof length };
        bytes = NULL;
    }
    if (rc == 0 && access (p->set.log, F_OK) == 0)
        rc = log_recall (p);
    for (size_t i = 0; rc == 0 && bytes && i < len / sizeof (struct stream); i++) {
        struct stream durable;
        memcpy (&durable, bytes + i * sizeof durable, sizeof durable);
        stream_of (p, &durable.id)->durable = durable.durable;
    }
    free (bytes);
    if (rc == 0)
        (void) printf ("RESUMED facts=%llu ends=%llu\n", (unsigned long long) p->facts, (unsigned long long) p->ends);
    return rc;
}

/* Until all end marks are there, and then as long as linger_ms passes without an event. */
static int flow_take (struct program *p)
{
    const uint64_t started_us = tool_now_us ();
    struct fm_event event;
    bool ended = p->set.ends == 0 || (p->set.resume && p->ends >= p->set.ends);

    for (;;) {
        int rc = fm_subscription_next (p->subscription, ended ? p->set.linger_ms : p->set.idle_ms, &event);
        if (rc == FM_TIMEOUT && ended)
            return 0;
        if (rc == FM_INTERRUPTED)
            continue; /* stopped and continued, say */
        if (rc == FM_ERR_CONFLICT) { /* refused; what is right goes on */
            (void) printf ("CONFLICT %s\n", fm_error_detail ());
            continue;
        }
        if (rc < 0) {
            (void) fprintf (stderr, "flow_subscriber: facts=%llu ends=%llu of=%llu\n", (unsigned long long) p->facts,
                            (unsigned long long) p->ends, (unsigned long long) p->set.ends);
            return fm_perror ("flow_subscriber: next", rc);
        }
        rc = event_take (p, &event);
        if (rc < 0)
            return fm_perror ("flow_subscriber: log", rc);
        if ((rc = event_acknowledge (p)) < 0)
            return fm_perror ("flow_subscriber: acknowledge", rc);
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

    if (p->set.resume && (rc = program_resume (p)) < 0)
        return fm_perror ("flow_subscriber: resume", rc);
    if (p->set.log) {
        p->log = fopen (p->set.log, p->stream_count ? "ab" : "wb");
        if (!p->log) {
            perror (p->set.log);
            return -1;
        }
        (void) setvbuf (p->log, NULL, _IOFBF, LOG_BUFFER); /* only slower without */
        (void) fseek (p->log, 0, SEEK_END);                /* ftell counts from here; a write finds out */
    }
    if ((rc = fm_node_open (&p->set.node, &p->node)) < 0)
        return fm_perror ("flow_subscriber: open", rc);
    /* Where live begins only a publisher can say that is known by then. */
    if (p->set.subscription.no_journal && p->set.node.seeds && (rc = fm_node_wait_members (p->node, 2, 10000)) < 0)
        return fm_perror ("flow_subscriber: wait for the seed", rc);
    do
        rc = fm_subscription_open (p->node, &p->set.subscription, &p->subscription);
    while (rc == FM_INTERRUPTED); /* stopped and continued */
    if (rc < 0)
        return fm_perror ("flow_subscriber: subscribe", rc);
    (void) printf ("READY address=%s\n", fm_node_address (p->node));
    return 0;
}

static void counter_print (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning)
{
    (void) arg, (void) meaning;
    (void) printf ("COUNTER name=%s value=%llu unit=%s\n", name, (unsigned long long) value, unit);
}

static void program_tell (struct program *p)
{
    char id[TOOL_ID_TEXT];

    for (size_t i = 0; i < p->stream_count; i++)
        (void) printf ("STREAM id=%s facts=%llu last=%llu digest=%016llx\n", tool_id_text (&p->streams[i].id, id),
                       (unsigned long long) p->streams[i].facts, (unsigned long long) p->streams[i].last,
                       (unsigned long long) p->streams[i].digest);
    if (p->again > p->again_told)
        again_tell (p);
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
    free (p.cursor);
    return status;
}
