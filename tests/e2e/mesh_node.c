/* mesh_node: one ordinary member: a node, a stream, a subscription to `mesh.>`.
 *
 * Lines out: READY address=…, MEMBERS count=… names=a,b,c (sorted) at each change, FACT topic=… text=…, GAP …
 * Lines in:  "publish TEXT" publishes TEXT on mesh.NAME; the end of input ends it. */

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "factmesh.h"
#include "../support/tool.h"

enum { NAMES_MAX = 256, NAME_SIZE = 64, TICK_MS = 20 };

struct names {
    char name[NAMES_MAX][NAME_SIZE];
    size_t count;
};

struct program {
    struct fm_node *node;
    struct fm_publisher *publisher;
    struct fm_subscription *subscription;
    const char *name;
    char seen[NAMES_MAX * NAME_SIZE]; /* the list that was printed last */
    char input[256];
    size_t input_len;
};

static void usage (void)
{
    (void) fputs ("usage: mesh_node --name NAME [--seed ADDRESS] [--bind ADDRESS] [--mesh NAME] [--beacon-port N] "
                  "[--interface NAME]\n",
                  stderr);
    exit (2);
}

static void notice_print (void *arg, const char *id, const char *text)
{
    (void) arg;
    (void) fprintf (stderr, "%s %s\n", id, text);
}

static int name_add (void *arg, const struct fm_member *m)
{
    struct names *names = arg;

    if (names->count < NAMES_MAX)
        (void) snprintf (names->name[names->count++], NAME_SIZE, "%s", m->name);
    return 0;
}

static int name_compare (const void *a, const void *b)
{
    return strcmp (a, b);
}

static void members_tell (struct program *p)
{
    static struct names names;
    static char list[sizeof p->seen];
    size_t len = 0;

    names.count = 0;
    list[0] = 0;
    if (fm_node_members (p->node, name_add, &names) < 0)
        return;
    qsort (names.name, names.count, NAME_SIZE, name_compare);
    for (size_t i = 0; i < names.count; i++)
        len += (size_t) snprintf (list + len, sizeof list - len, "%s%s", i ? "," : "", names.name[i]);
    if (strcmp (list, p->seen) == 0)
        return;
    (void) strcpy (p->seen, list);
    (void) printf ("MEMBERS count=%zu names=%s\n", names.count, list);
}

static int events_take (struct program *p)
{
    struct fm_event event;
    int rc;

    while ((rc = fm_subscription_next (p->subscription, 0, &event)) == 0) {
        if (event.kind == FM_EVENT_FACT)
            (void) printf ("FACT topic=%.*s text=%.*s\n", (int) event.fact.topic.len,
                           (const char *) event.fact.topic.data, (int) event.fact.payload.len,
                           (const char *) event.fact.payload.data);
        else if (event.kind == FM_EVENT_GAP)
            (void) printf ("GAP first=%llu end=%llu\n", (unsigned long long) event.gap.first,
                           (unsigned long long) event.gap.end);
    }
    return rc == FM_TIMEOUT || rc == FM_INTERRUPTED ? 0 : fm_perror ("mesh_node: next", rc);
}

static int command_do (struct program *p, const char *line)
{
    char topic[NAME_SIZE + 8];
    int rc;

    if (strncmp (line, "publish ", 8) != 0)
        return 0;
    (void) snprintf (topic, sizeof topic, "mesh.%s", p->name);
    rc = fm_publish_text (p->publisher, topic, line + 8);
    return rc < 0 ? fm_perror ("mesh_node: publish", rc) : 0;
}

/* Returns 0, or -EPIPE at the end of input. */
static int input_take (struct program *p)
{
    const ssize_t n = read (0, p->input + p->input_len, sizeof p->input - 1 - p->input_len);
    char *newline;

    if (n <= 0)
        return -EPIPE;
    p->input_len += (size_t) n;
    p->input[p->input_len] = 0;
    while ((newline = strchr (p->input, '\n'))) {
        *newline = 0;
        const int rc = command_do (p, p->input);
        if (rc < 0)
            return rc;
        p->input_len -= (size_t) (newline + 1 - p->input);
        memmove (p->input, newline + 1, p->input_len + 1);
    }
    return 0;
}

static int program_run (struct program *p)
{
    struct pollfd fds[2] = { { .fd = 0, .events = POLLIN },
                             { .fd = fm_subscription_fd (p->subscription), .events = POLLIN } };
    int rc = 0;

    while (rc == 0) {
        if (poll (fds, 2, TICK_MS) < 0 && errno != EINTR)
            return -errno;
        members_tell (p);
        rc = events_take (p);
        if (rc == 0 && fds[0].revents)
            rc = input_take (p);
    }
    return rc == -EPIPE ? 0 : rc;
}

static int program_open (struct program *p, const struct fm_node_options *options)
{
    static const char *const topics[] = { "mesh.>", NULL };
    const struct fm_publisher_options publisher = { .when_full = FM_DROP_OLDEST };
    const struct fm_subscription_options subscription = { .topics = topics, .from = FM_FROM_END, .no_journal = true };
    int rc;

    if ((rc = fm_node_open (options, &p->node)) < 0)
        return fm_perror ("mesh_node: open", rc);
    if ((rc = fm_publisher_open (p->node, &publisher, &p->publisher)) < 0)
        return fm_perror ("mesh_node: open a stream", rc);
    if ((rc = fm_subscription_open (p->node, &subscription, &p->subscription)) < 0)
        return fm_perror ("mesh_node: subscribe", rc);
    (void) printf ("READY address=%s\n", fm_node_address (p->node));
    return 0;
}

int main (int argc, char **argv)
{
    static const struct option names[] = {
        { "name", 1, NULL, 'n' }, { "seed", 1, NULL, 's' },        { "bind", 1, NULL, 'b' },
        { "mesh", 1, NULL, 'm' }, { "beacon-port", 1, NULL, 'p' }, { "interface", 1, NULL, 'i' },
        { NULL, 0, NULL, 0 },
    };
    struct fm_node_options options = { .notice = notice_print };
    static struct program p;
    int option, status = 1;

    tool_lines ();
    while ((option = getopt_long (argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'n':
            p.name = options.name = optarg;
            break;
        case 's':
            options.seeds = optarg;
            break;
        case 'b':
            options.bind = optarg;
            break;
        case 'm':
            options.mesh = optarg;
            break;
        case 'p':
            options.beacon_port = (int) tool_number ("beacon-port", optarg);
            break;
        case 'i':
            options.beacon_interface = optarg;
            break;
        default:
            usage ();
        }
    }
    if (!p.name)
        usage ();
    if (program_open (&p, &options) == 0 && program_run (&p) == 0)
        status = 0;
    if (p.subscription)
        fm_subscription_close (&p.subscription);
    if (p.publisher)
        fm_publisher_close (&p.publisher);
    if (p.node)
        fm_node_close (&p.node);
    return status;
}
