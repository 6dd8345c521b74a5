/* group_worker: an instance of a group that writes a line for each fact it handles, and one for each outcome that is confirmed.
 *
 * To FILE (appended to in one write each): H offset token deliveries flags key payload; C offset. It ends when standard input does, or after --idle-ms
 * without work. With --answer TOPIC it publishes `answer to PAYLOAD` for each, under the identity of group and fact, and goes on when that is on disk;
 * --directory has its stream. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "factmesh.h"
#include "../support/tool.h"

enum { UNCONFIRMED_MAX = 64, LINE_MAX_BYTES = 1024 };

static struct {
    struct fm_node_options node;
    struct fm_worker_options worker;
    const char *file, *answer;
    struct fm_publisher_options publisher;
    const char *topics[3];
    int idle_ms, sleep_us;
    unsigned fail_every, park_every, later_every;
} set = { .idle_ms = -1 };

static void notice_print (void *arg, const char *id, const char *text)
{
    (void) arg;
    (void) fprintf (stderr, "%s %s\n", id, text);
}

static void fail (const char *what, int rc)
{
    (void) fm_perror (what, rc);
    exit (1);
}

static enum fm_effect effect_parse (const char *text)
{
    static const char *const names[] = { "undeclared", "idempotent", "once", "once_per_version", "on_correction" };
    for (unsigned i = 0; i < 5; i++)
        if (strcmp (text, names[i]) == 0)
            return (enum fm_effect) i;
    exit (2);
}

static void parse (int argc, char **argv)
{
    static const struct option options[] = {
        { "seed", 1, NULL, 's' }, { "group", 1, NULL, 'g' }, { "topic", 1, NULL, 't' }, { "file", 1, NULL, 'f' }, { "effect", 1, NULL, 'e' },
        { "idle-ms", 1, NULL, 'i' }, { "sleep-us", 1, NULL, 'u' }, { "lease-ms", 1, NULL, 'l' }, { "in-hand", 1, NULL, 'n' }, { "fail-every", 1, NULL, 'F' },
        { "park-every", 1, NULL, 'P' }, { "later-every", 1, NULL, 'L' }, { "change-topics", 0, NULL, 'c' }, { "skipped", 0, NULL, 'k' },
        { "attempts", 1, NULL, 'a' }, { "from-now", 0, NULL, 'o' }, { "answer", 1, NULL, 'A' }, { "directory", 1, NULL, 'D' }, { NULL, 0, NULL, 0 },
    };
    int c;
    set.worker.topics = set.topics;
    while ((c = getopt_long (argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 's': set.node.seeds = optarg; break;
        case 'g': set.worker.group = optarg; break;
        case 't': set.topics[set.topics[0] ? 1 : 0] = optarg; break;
        case 'f': set.file = optarg; break;
        case 'e': set.worker.effect = effect_parse (optarg); break;
        case 'i': set.idle_ms = (int) tool_number ("--idle-ms", optarg); break;
        case 'u': set.sleep_us = (int) tool_number ("--sleep-us", optarg); break;
        case 'l': set.worker.lease_ms = (int) tool_number ("--lease-ms", optarg); break;
        case 'n': set.worker.in_hand = (unsigned) tool_number ("--in-hand", optarg); break;
        case 'F': set.fail_every = (unsigned) tool_number ("--fail-every", optarg); break;
        case 'P': set.park_every = (unsigned) tool_number ("--park-every", optarg); break;
        case 'L': set.later_every = (unsigned) tool_number ("--later-every", optarg); break;
        case 'a': set.worker.attempts_max = (unsigned) tool_number ("--attempts", optarg); break;
        case 'c': set.worker.change_topics = true; break;
        case 'k': set.worker.hand_out_skipped = true; break;
        case 'o': set.worker.from_now = true; break;
        case 'A': set.answer = optarg; break;
        case 'D': set.publisher.directory = optarg; break;
        default: exit (2);
        }
    }
    if (!set.worker.group || !set.file)
        exit (2);
    if (!set.topics[0])
        set.worker.topics = NULL;
}

static void write_line (int fd, const char *line, int len)
{
    if (len <= 0 || len >= LINE_MAX_BYTES || write (fd, line, (size_t) len) != len)
        exit (1);
}

static void write_work (int fd, const struct fm_work *w)
{
    char line[LINE_MAX_BYTES];
    write_line (fd, line, snprintf (line, sizeof line, "H %llu %llu %u %u %.*s %.*s\n", (unsigned long long) w->offset, (unsigned long long) w->token, w->deliveries,
                                    w->flags, (int) w->fact.key.len, (const char *) w->fact.key.data, (int) w->fact.payload.len, (const char *) w->fact.payload.data));
}

/* What was handled before is durable: say so. */
static void confirm (struct fm_worker *worker, int fd, uint64_t *offsets, unsigned *count)
{
    char line[LINE_MAX_BYTES];
    const int rc = *count ? fm_worker_commit (worker, 30000) : 0;
    if (rc && rc != FM_ERR_LEASE)
        fail ("commit", rc);
    for (unsigned i = 0; i < *count && !rc; i++)
        write_line (fd, line, snprintf (line, sizeof line, "C %llu\n", (unsigned long long) offsets[i]));
    *count = 0;
}

static void answer (struct fm_publisher *out, const struct fm_work *w)
{
    char identity[256], payload[LINE_MAX_BYTES], id[FM_FACT_ID_TEXT];
    (void) snprintf (identity, sizeof identity, "%s/%s", set.worker.group, fm_fact_id_text (&w->fact.id, id, sizeof id));
    (void) snprintf (payload, sizeof payload, "answer to %.*s", (int) w->fact.payload.len, (const char *) w->fact.payload.data);
    const struct fm_fact fact = { .topic = fm_text (set.answer), .payload = fm_text (payload), .identity = fm_text (identity), .causation = w->fact.id };
    int rc = fm_publish (out, &fact, NULL);
    if (rc == 0)
        rc = fm_publisher_wait_synced (out, 0, 30000);
    if (rc)
        fail ("answer", rc);
}

static bool input_ended (void)
{
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    char byte;
    return poll (&in, 1, 0) > 0 && read (STDIN_FILENO, &byte, 1) <= 0;
}

/* Returns whether the fact is done. */
static bool conclude (struct fm_worker *worker, const struct fm_work *w)
{
    const uint64_t n = w->offset;
    int rc;
    bool done = false;
    if (set.park_every && n % set.park_every == 0 && !(w->flags & FM_WORK_OUT_OF_ORDER))
        rc = fm_work_park (worker, "every so many");
    else if (set.fail_every && n % set.fail_every == 0 && w->attempts == 0)
        rc = fm_work_failed (worker, "the first time");
    else if (set.later_every && n % set.later_every == 0 && w->deliveries == 1)
        rc = fm_work_later (worker, 20);
    else {
        rc = fm_work_done (worker);
        done = rc == 0;
    }
    if (rc && rc != FM_ERR_LEASE)
        fail ("outcome", rc);
    return done;
}

int main (int argc, char **argv)
{
    struct fm_node *node;
    struct fm_worker *worker;
    parse (argc, argv);
    tool_lines ();
    set.node.notice = notice_print;
    const int fd = open (set.file, O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (fd < 0)
        fail (set.file, -errno);
    int rc = fm_node_open (&set.node, &node);
    if (rc)
        fail ("node", rc);
    set.worker.open_timeout_ms = 20000;
    rc = fm_worker_open (node, &set.worker, &worker);
    if (rc)
        fail ("group", rc);
    struct fm_publisher *out = NULL;
    rc = set.answer ? fm_publisher_open (node, &set.publisher, &out) : 0;
    if (rc)
        fail ("publisher", rc);
    (void) printf ("JOINED\n");
    uint64_t offsets[UNCONFIRMED_MAX];
    unsigned count = 0;
    uint64_t heard_us = tool_now_us ();
    while (!input_ended ()) {
        struct fm_work work;
        rc = fm_worker_next (worker, count ? 0 : 50, &work);
        if (rc == FM_TIMEOUT) {
            confirm (worker, fd, offsets, &count);
            if (set.idle_ms >= 0 && tool_now_us () - heard_us > (uint64_t) set.idle_ms * 1000)
                break;
            continue;
        }
        if (rc == FM_INTERRUPTED)
            continue;
        if (rc)
            fail ("next", rc);
        heard_us = tool_now_us ();
        write_work (fd, &work);
        if (set.sleep_us)
            tool_sleep_until_us (heard_us + (uint64_t) set.sleep_us);
        if (out)
            answer (out, &work);
        if (conclude (worker, &work))
            offsets[count++] = work.offset;
        if (count == UNCONFIRMED_MAX)
            confirm (worker, fd, offsets, &count);
    }
    confirm (worker, fd, offsets, &count);
    fm_publisher_close (&out);
    fm_worker_close (&worker);
    fm_node_close (&node);
    (void) printf ("LEFT\n");
    return 0;
}
