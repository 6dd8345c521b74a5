/* flow_check: compares what flow_subscribers logged with what the flow_publisher made, and the second and further logs
 * with the first: every byte, every place.
 *
 * When publishers are killed, what there is to compare with is what the journal has: --replay LOG, of a subscription to
 * everything from the start. It is judged first, by --acked FILE of each publisher (flow_publisher): every fact has the
 * contents of its sequence, none is of a time before its stream's epoch, and all that was acknowledged is there. Then
 * other logs must be exactly its matching part; those whose pattern begins with `live:` may hold more, where a fact's
 * publisher died before a journal had it: right contents, in order, never acknowledged.
 *
 * Each difference is a line of the oracle's; behind those of a log comes CHECKED log=… facts=… faults=…. Exit 0 only
 * without faults. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/flow.h"
#include "../support/oracle.h"
#include "../support/tool.h"

enum { STREAMS_MAX = 16, EPOCHS_MAX = 4096, ACKED_LINE = 256 };

#define LIVE_PREFIX "live:"

struct settings {
    struct flow flow;
    struct fm_id streams[STREAMS_MAX];
    unsigned stream_count;
    const char *replay;
    const char *acked[STREAMS_MAX];
    unsigned acked_count;
    char **logs; /* pairs: a pattern, and the log of a subscription to it */
    size_t log_count;
};

static void usage (void)
{
    (void) fputs ("usage: flow_check --contents N --count N --topics N [--payload BYTES] [--large] --stream ID… "
                  "PATTERN LOG [PATTERN LOG]…\n"
                  "       flow_check --contents N --topics N [--payload BYTES] [--large] --replay LOG --acked FILE… [[live:]PATTERN LOG]…\n"
                  "    streams in the order of their index\n",
                  stderr);
    exit (2);
}

static void settings_parse (struct settings *set, int argc, char **argv)
{
    static const struct option options[] = {
        { "contents", 1, NULL, 'c' }, { "count", 1, NULL, 'n' }, { "topics", 1, NULL, 'T' },
        { "payload", 1, NULL, 'p' },  { "large", 0, NULL, 'l' }, { "stream", 1, NULL, 's' },
        { "replay", 1, NULL, 'r' },   { "acked", 1, NULL, 'a' }, { NULL, 0, NULL, 0 },
    };
    int option, index = 0;

    *set = (struct settings) { .flow = { .topics = 50, .count = 1000 } };
    while ((option = getopt_long (argc, argv, "", options, &index)) != -1) {
        const char *name = options[index].name;
        switch (option) {
        case 'c':
            set->flow.contents = tool_number (name, optarg);
            break;
        case 'n':
            set->flow.count = tool_number (name, optarg);
            break;
        case 'T':
            set->flow.topics = (unsigned) tool_number (name, optarg);
            break;
        case 'p':
            set->flow.payload_bytes = tool_number (name, optarg);
            break;
        case 'l':
            set->flow.large = true;
            break;
        case 'r':
            set->replay = optarg;
            break;
        case 'a':
            if (set->acked_count == STREAMS_MAX)
                usage ();
            set->acked[set->acked_count++] = optarg;
            break;
        case 's':
            if (set->stream_count == STREAMS_MAX || tool_id_parse (optarg, &set->streams[set->stream_count++]) < 0)
                usage ();
            break;
        default:
            usage ();
        }
    }
    if ((optind == argc && !set->replay) || (argc - optind) % 2 != 0 || (!set->stream_count && !set->acked_count))
        usage ();
    if (set->replay)
        set->flow.count = FLOW_ENDLESS;
    set->logs = argv + optind;
    set->log_count = (size_t) (argc - optind) / 2;
}

/* The fact as a log has it; headers is room for their text. */
static struct oracle_fact fact_of (const struct fm_id *stream, uint64_t seq, const struct flow_fact *made, char *headers,
                                   size_t size)
{
    struct oracle_fact fact = {
        .stream = *stream,
        .seq = seq,
        .topic = { made->topic, made->topic_len },
        .key = { made->key, made->key_len },
        .payload = { made->payload, made->payload_len },
    };

    if (made->header_name_len) {
        const int len = snprintf (headers, size, "%.*s=%.*s\n", (int) made->header_name_len, made->header_name,
                                  (int) made->header_value_len, made->header_value);
        fact.headers = (struct fm_slice) { headers, (size_t) len };
    }
    return fact;
}

static int fact_add (struct oracle_log *log, const struct fm_id *stream, uint64_t seq, const struct flow_fact *made)
{
    char headers[2 * FLOW_HEADER_MAX + 4];
    const struct oracle_fact fact = fact_of (stream, seq, made, headers, sizeof headers);

    return oracle_log_add (log, &fact);
}

static int published_make (const struct settings *set, struct oracle_log *log)
{
    static struct flow_fact made;

    for (unsigned i = 0; i < set->stream_count; i++) {
        struct flow flow = set->flow;
        flow.stream = i;
        for (uint64_t seq = 1; seq <= flow_total (&flow); seq++) {
            flow_make (&flow, seq, &made);
            const int rc = fact_add (log, &set->streams[i], seq, &made);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static int log_read (const char *path, struct oracle_log **ret_log)
{
    int rc = oracle_log_new (ret_log);

    if (rc == 0)
        rc = oracle_log_load (*ret_log, path);
    if (rc < 0)
        (void) fprintf (stderr, "flow_check: %s: %s\n", path, rc == FM_ERR_CORRUPT ? "not a log" : strerror (-rc));
    return rc;
}

/* One log against what was published, and against the first log, unless that is the one. Returns the faults, or 1 when
 * it cannot be read. */
static size_t log_check (const char *pattern, const char *path, const struct oracle_log *published,
                         struct oracle_log **first)
{
    struct oracle_log *log = NULL;
    size_t faults = 1;

    if (log_read (path, &log) == 0) {
        faults = oracle_compare (published, log, &pattern, 1, stdout);
        if (*first)
            faults += oracle_compare (*first, log, &pattern, 1, stdout);
        (void) printf ("CHECKED log=%s facts=%zu faults=%zu\n", path, oracle_log_count (log), faults);
    }
    if (!*first) {
        *first = log;
        log = NULL;
    }
    oracle_log_destroy (&log);
    return faults;
}

/* ------------------------------------------------------------------ against the journal's replay */

/* One start of one stream's publisher. */
struct epoch {
    unsigned index;
    struct fm_id stream;
    uint64_t first, acked; /* acked: 0 is none */
};

struct replay_check {
    const struct settings *set;
    struct oracle_log *replay;
    struct epoch epochs[EPOCHS_MAX];
    size_t epoch_count, faults, ghosts;
};

static void fault_tell (struct replay_check *c, const char *what, const struct fm_id *stream, uint64_t first, uint64_t last)
{
    char id[TOOL_ID_TEXT];

    if (++c->faults <= ORACLE_FAULTS_TOLD)
        (void) printf ("%s stream=%s seq=%llu..%llu\n", what, tool_id_text (stream, id), (unsigned long long) first,
                       (unsigned long long) last);
}

static int acked_read (struct replay_check *c, const char *path)
{
    char line[ACKED_LINE], id[ACKED_LINE];
    unsigned long long seq;
    unsigned index;
    FILE *file = fopen (path, "r");

    if (!file)
        return perror (path), -1;
    while (fgets (line, sizeof line, file)) {
        if (!strchr (line, '\n'))
            break; /* its writer was killed */
        if (sscanf (line, "EPOCH index=%u stream=%32s first=%llu", &index, id, &seq) == 3) {
            if (c->epoch_count == EPOCHS_MAX || tool_id_parse (id, &c->epochs[c->epoch_count].stream) < 0)
                return (void) fclose (file), -1;
            c->epochs[c->epoch_count].index = index;
            c->epochs[c->epoch_count++].first = seq;
        } else if (sscanf (line, "ACKED index=%u seq=%llu", &index, &seq) == 2) {
            size_t i = c->epoch_count;
            while (i > 0 && c->epochs[i - 1].index != index)
                i--;
            if (i > 0 && seq >= c->epochs[i - 1].first)
                c->epochs[i - 1].acked = seq;
        }
    }
    (void) fclose (file); /* only read */
    return 0;
}

/* The epoch in which the stream's publisher gave this sequence, or NULL. */
static const struct epoch *epoch_of (const struct replay_check *c, const struct fm_id *stream, uint64_t seq)
{
    const struct epoch *best = NULL;

    for (size_t i = 0; i < c->epoch_count; i++) {
        const struct epoch *e = &c->epochs[i];
        if (memcmp (&e->stream, stream, sizeof *stream) == 0 && e->first <= seq && (!best || best->first < e->first))
            best = e;
    }
    return best;
}

static bool slice_equal (struct fm_slice a, struct fm_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp (a.data, b.data, a.len) == 0);
}

/* Has it the contents that its stream and sequence give? */
static bool contents_right (const struct replay_check *c, const struct oracle_fact *fact)
{
    static struct flow_fact made;
    char headers[2 * FLOW_HEADER_MAX + 4];
    const struct epoch *e = epoch_of (c, &fact->stream, fact->seq);
    struct flow flow = c->set->flow;

    if (!e)
        return false;
    if (slice_equal (fact->payload, (struct fm_slice) { FLOW_END, strlen (FLOW_END) }))
        return true;
    flow.stream = e->index;
    flow_make (&flow, fact->seq, &made);
    const struct oracle_fact want = fact_of (&fact->stream, fact->seq, &made, headers, sizeof headers);
    return slice_equal (want.topic, fact->topic) && slice_equal (want.key, fact->key) &&
           slice_equal (want.headers, fact->headers) && slice_equal (want.payload, fact->payload);
}

/* Every fact is right; each stream is in order; what was acknowledged is there. */
static void replay_judge (struct replay_check *c)
{
    const size_t count = oracle_log_count (c->replay);
    struct oracle_fact fact;

    for (size_t i = 0; i < count; i++) {
        oracle_log_fact (c->replay, i, &fact);
        if (!contents_right (c, &fact))
            fault_tell (c, "REPLAY-ALTERED", &fact.stream, fact.seq, fact.seq);
    }
    for (size_t k = 0; k < c->epoch_count; k++) {
        const struct epoch *e = &c->epochs[k];
        uint64_t next = e->first;
        for (size_t i = 0; i < count && e->acked; i++) {
            oracle_log_fact (c->replay, i, &fact);
            if (memcmp (&fact.stream, &e->stream, sizeof fact.stream) != 0 || fact.seq < e->first || fact.seq > e->acked)
                continue;
            if (fact.seq < next)
                fault_tell (c, "REPLAY-REORDERED", &fact.stream, fact.seq, next - 1);
            else if (fact.seq > next)
                fault_tell (c, "REPLAY-LOST acknowledged", &fact.stream, next, fact.seq - 1);
            next = fact.seq + 1;
        }
        if (e->acked && next <= e->acked)
            fault_tell (c, "REPLAY-LOST acknowledged", &e->stream, next, e->acked);
    }
}

static bool seqs_have (const uint64_t *sorted, size_t count, uint64_t seq)
{
    size_t low = 0, high = count;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (sorted[mid] < seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low < count && sorted[low] == seq;
}

/* Leave out of a live log what no journal ever had: checked, and counted. */
static int ghosts_leave_out (struct replay_check *c, const struct oracle_log *log, struct oracle_log *ret_log)
{
    const size_t count = oracle_log_count (c->replay);
    uint64_t *seqs = calloc (count + 1, sizeof *seqs);
    int rc = seqs ? 0 : -1;

    for (size_t k = 0; k < c->epoch_count && rc == 0; k++) {
        const struct fm_id *stream = &c->epochs[k].stream;
        struct oracle_fact fact;
        size_t seq_count = 0;
        uint64_t newest = 0;
        bool done = false;
        for (size_t i = 0; i < k; i++)
            done = done || memcmp (&c->epochs[i].stream, stream, sizeof *stream) == 0;
        for (size_t i = 0; i < count && !done; i++) {
            oracle_log_fact (c->replay, i, &fact);
            if (memcmp (&fact.stream, stream, sizeof *stream) == 0)
                seqs[seq_count++] = fact.seq;
        }
        for (size_t i = 0; i < oracle_log_count (log) && !done && rc == 0; i++) {
            oracle_log_fact (log, i, &fact);
            if (memcmp (&fact.stream, stream, sizeof *stream) != 0)
                continue;
            if (seqs_have (seqs, seq_count, fact.seq)) {
                rc = oracle_log_add (ret_log, &fact);
            } else {
                c->ghosts++;
                if (!contents_right (c, &fact) || fact.seq <= newest)
                    fault_tell (c, "GHOST-WRONG", &fact.stream, fact.seq, fact.seq);
            }
            newest = fact.seq;
        }
    }
    free (seqs);
    return rc;
}

static void replay_compare (struct replay_check *c, const char *pattern, const char *path)
{
    struct oracle_log *log = NULL, *kept = NULL;
    const bool live = strncmp (pattern, LIVE_PREFIX, strlen (LIVE_PREFIX)) == 0;
    const size_t faults = c->faults;

    if (live)
        pattern += strlen (LIVE_PREFIX);
    c->ghosts = 0;
    if (log_read (path, &log) < 0 || (live && (oracle_log_new (&kept) < 0 || ghosts_leave_out (c, log, kept) < 0)))
        c->faults++;
    else
        c->faults += oracle_compare (c->replay, live ? kept : log, &pattern, 1, stdout);
    (void) printf ("CHECKED log=%s facts=%zu ghosts=%zu faults=%zu\n", path, log ? oracle_log_count (log) : 0, c->ghosts,
                   c->faults - faults);
    oracle_log_destroy (&kept);
    oracle_log_destroy (&log);
}

static int replay_main (const struct settings *set)
{
    static struct replay_check c;
    int rc = 0;

    c.set = set;
    for (unsigned i = 0; i < set->acked_count && rc == 0; i++)
        rc = acked_read (&c, set->acked[i]);
    if (rc < 0 || log_read (set->replay, &c.replay) < 0)
        return 1;
    replay_judge (&c);
    (void) printf ("CHECKED log=%s facts=%zu epochs=%zu faults=%zu\n", set->replay, oracle_log_count (c.replay),
                   c.epoch_count, c.faults);
    for (size_t i = 0; i < set->log_count; i++)
        replay_compare (&c, set->logs[2 * i], set->logs[2 * i + 1]);
    oracle_log_destroy (&c.replay);
    return c.faults ? 1 : 0;
}

int main (int argc, char **argv)
{
    struct settings set;
    struct oracle_log *published = NULL, *first = NULL;
    size_t faults = 0;
    int status = 1;

    settings_parse (&set, argc, argv);
    if (set.replay)
        return replay_main (&set);
    if (oracle_log_new (&published) == 0 && published_make (&set, published) == 0) {
        for (size_t i = 0; i < set.log_count; i++)
            faults += log_check (set.logs[2 * i], set.logs[2 * i + 1], published, &first);
        status = faults ? 1 : 0;
    }
    oracle_log_destroy (&first);
    oracle_log_destroy (&published);
    return status;
}
