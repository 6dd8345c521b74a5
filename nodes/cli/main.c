/* main: finds the subcommand. */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "factmesh.h"
#include "options.h"

static const struct command {
    const char *name;
    int (*run) (int argc, char **argv);
    const char *summary;
} commands[] = {
    { "journal", command_journal, "run a journal: record every fact of the mesh, replay it to anybody" },
    { "pub", command_pub, "publish facts: arguments, lines, CSV, JSON" },
    { "sub", command_sub, "print facts as they come, from any place in the past on" },
    { "replay", command_replay, "print recorded facts, fast, and end" },
    { "cursor", command_cursor, "list, show, move and delete the places where subscribers are" },
    { "get", command_get, "print the newest fact of a key, or one by its name" },
    { "trace", command_trace, "print what led to a fact, and what followed from it" },
    { "correct", command_correct, "publish the right content of a fact that was wrong" },
    { "request", command_request, "publish a request and print its responses" },
    { "respond", command_respond, "answer requests with what a command prints" },
    { "work", command_work, "share the facts of a topic among instances: run a command for each" },
    { "group", command_group, "list, show and steer the groups that share work" },
    { "blob", command_blob, "store and fetch large contents, which facts point to" },
    { "nodes", command_nodes, "list the nodes of the mesh" },
    { "status", command_status, "what a journal holds and counts" },
    { "inspect", command_inspect, "what a journal's directory holds" },
    { "verify", command_verify, "check every byte of a journal's directory" },
    { "repair", command_repair, "make a damaged directory whole, from another journal" },
    { "dump", command_dump, "print every record of a journal's directory" },
    { "bench", command_bench, "measure your own cluster: throughput, latency, replay" },
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static int print_help (FILE *to)
{
    (void) fputs ("usage: factmesh COMMAND [OPTION…] [ARGUMENT…]\n"
                  "Services publish immutable facts to each other directly; a journal remembers them.\n\n",
                  to);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void) fprintf (to, "  %-9s %s\n", commands[i].name, commands[i].summary);
    (void) fputs (
        "  version   print the version\n\n"
        "'factmesh COMMAND --help' tells the options, with examples. To begin with, in three terminals:\n\n"
        "  factmesh journal ./orders-journal\n"
        "  factmesh sub 'orders.>' --seed tcp://127.0.0.1:7400 --from start\n"
        "  factmesh pub orders.placed 'order 4711: 3 lamps' --seed tcp://127.0.0.1:7400\n\n"
        "Exit status: 0 done, 1 error, 2 usage, 3 timed out, 4 facts are missing (--fail-on-gap), 5 damaged (verify,\n"
        "repair), 128 and the signal's number when one ended it (130: Ctrl-C).\n",
        to);
    return cli_done (&(struct cli) { .command = "help" }, CLI_OK);
}

static const struct command *find_command (const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp (commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* What is opened next would take the number of a closed standard descriptor, and be written to as if it were that one. */
static bool open_standard_descriptors (void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl (fd, F_GETFD) < 0 && errno == EBADF && open ("/dev/null", O_RDWR) != fd)
            return false;
    return true;
}

/* A flood's frames are 64 KiB each, and freed in heaps: glibc would give their pages back to the kernel, and take new ones a moment later, for as long
 * as it lasts. */
static void keep_freed_memory (void)
{
    enum { BLOCK_MAX = 8 << 20, FREE_MAX = 16 << 20 };
    (void) mallopt (M_MMAP_THRESHOLD, BLOCK_MAX);       /* both only make it faster */
    (void) mallopt (M_TRIM_THRESHOLD, FREE_MAX);
}

int main (int argc, char **argv)
{
    keep_freed_memory ();
    if (!open_standard_descriptors ()) {
        (void) fprintf (stderr, "factmesh: /dev/null, for a standard descriptor that is closed: %s\n", strerror (errno));
        return CLI_ERROR;
    }
    if (argc < 2) {
        (void) print_help (stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp (name, "version") == 0 || strcmp (name, "--version") == 0) {
        if (argc > 2) {
            (void) fprintf (stderr, "factmesh version: no argument is taken: '%s'\n", argv[2]);
            return CLI_USAGE;
        }
        (void) printf ("factmesh %s\n", fm_version ());
        return cli_done (&(struct cli) { .command = "version" }, CLI_OK);
    }
    const bool help = strcmp (name, "help") == 0 || strcmp (name, "--help") == 0 || strcmp (name, "-h") == 0;
    if (help && argc == 2)
        return print_help (stdout);
    const struct command *command = find_command (help ? argv[2] : name);
    if (!command) {
        (void) fprintf (stderr, "factmesh: there is no command '%s'%s. Try 'factmesh --help'.\n", help ? argv[2] : name,
                        *name == '-' ? "; options come behind the command" : "");
        return CLI_USAGE;
    }
    if (help) {
        char option[] = "--help";
        char *args[] = { argv[2], option, NULL };
        return command->run (2, args);
    }
    return command->run (argc - 1, argv + 1);
}
