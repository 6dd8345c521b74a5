/* node: those without seeds find each other by beacons. Each case has a network of its own, in a child. */

#include "listen.h"
#include "one_node.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CANNOT = 77, TAKEN_PORT = 17401 };

static bool make_network (void)
{
    return unshare (CLONE_NEWNET) == 0
           && system ("exec 2>/dev/null; ip link set lo up && ip link add beacon0 type veth peer name beacon1 && ip link set beacon1 up "
                      "&& ip addr add 10.99.0.1/24 broadcast 10.99.0.255 dev beacon0 && ip link set beacon0 up") == 0;
}

/* In a network of its own with one interface that broadcasts. Returns the child's exit status. */
static int discover_in_own_network (void)
{
    if (!make_network ())
        return CANNOT;
    const struct fm_node_options options = { .mesh = "air", .ping_ms = 100 }, other = { .mesh = "water", .ping_ms = 100 };
    struct fm_node *a, *b, *c;
    if (fm_node_open (&options, &a) != 0 || fm_node_open (&options, &b) != 0 || fm_node_open (&other, &c) != 0)
        return 1;
    if (fm_node_wait_members (a, 2, PATIENCE_MS) != 0 || fm_node_wait_members (b, 2, PATIENCE_MS) != 0)
        return 2;
    if (fm_node_wait_members (c, 2, 0) != FM_TIMEOUT || strncmp (fm_node_address (a), "tcp://10.99.0.1:", 16) != 0)
        return 3;
    fm_node_close (&a);
    fm_node_close (&b);
    fm_node_close (&c);
    return 0;
}

/* In a child, whose network is its own: 0, or which of its steps failed. */
static void run_in_own_network (int (*run) (void))
{
    fflush (NULL);
    const pid_t child = fork ();
    assert_true (child >= 0);
    if (child == 0)
        _exit (run ());
    int status = 0;
    assert_int_equal (waitpid (child, &status, 0), child);
    if (WIFEXITED (status) && WEXITSTATUS (status) == CANNOT) {
        printf ("skipped: no right to make a network namespace with an interface here\n");
        skip ();
    }
    assert_true (WIFEXITED (status));
    assert_int_equal (WEXITSTATUS (status), 0);
}

static void nodes_without_seeds_find_each_other_by_broadcast (void **state)
{
    (void) state;
    run_in_own_network (discover_in_own_network);
}

static char told[256];

static void keep_notice (void *arg, const char *id, const char *text)
{
    (void) arg;
    if (strcmp (id, "BEACON-OFF") == 0)
        (void) snprintf (told, sizeof told, "%s", text);
}

/* A node opens and serves all the same, and the notice says what is amiss. */
static int opens_without_beacon (int port, const char *interface, const char *reason)
{
    const struct fm_node_options options = { .mesh = "test", .beacon_port = port, .beacon_interface = interface, .ping_ms = 100, .notice = keep_notice };
    struct fm_node *node, *other = NULL;
    told[0] = '\0';
    if (fm_node_open (&options, &node) != 0)
        return 1;
    const struct fm_node_options seeded = { .mesh = "test", .beacon_port = -1, .ping_ms = 100, .seeds = fm_node_address (node) };
    const bool serves = fm_node_open (&seeded, &other) == 0 && fm_node_wait_members (node, 2, PATIENCE_MS) == 0;
    fm_node_close (&other);
    fm_node_close (&node);              /* its thread has told what it had to tell */
    return !serves ? 2 : strstr (told, reason) ? 0 : 3;
}

static int beacons_that_cannot_be (void)
{
    if (unshare (CLONE_NEWNET) != 0 || system ("exec 2>/dev/null; ip link set lo up") != 0)
        return CANNOT;
    int rc = opens_without_beacon (TAKEN_PORT, NULL, "no interface broadcasts");
    if (rc)
        return rc;
    if (!make_network ())
        return CANNOT;
    rc = opens_without_beacon (TAKEN_PORT, "eth99", "no such interface that broadcasts: eth99");
    if (rc)
        return 10 + rc;
    /* Somebody has the port for himself alone. */
    const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons (TAKEN_PORT) };
    const int fd = socket (AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind (fd, (const struct sockaddr *) &any, sizeof any) != 0)
        return 20;
    rc = opens_without_beacon (TAKEN_PORT, NULL, "cannot use UDP port 17401");
    close (fd);
    return rc ? 30 + rc : 0;
}

static void a_beacon_that_cannot_be_is_told_and_the_node_serves (void **state)
{
    (void) state;
    run_in_own_network (beacons_that_cannot_be);
}

static struct fm_node *left_open;

static int exit_without_closing (void)
{
    const struct fm_node_options options = { .mesh = "air" };
    if (!make_network ())
        return CANNOT;
    if (fm_node_open (&options, &left_open) != 0)
        return 1;
    exit (0);
}

/* Left to itself, czmq takes the sockets from under its beacon, and aborts. */
static void a_program_may_exit_without_closing_a_node_that_beacons (void **state)
{
    (void) state;
    const struct listener l = listen_to (STDERR_FILENO);
    run_in_own_network (exit_without_closing);
    expect_heard (&l, "");
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (nodes_without_seeds_find_each_other_by_broadcast),
        cmocka_unit_test (a_beacon_that_cannot_be_is_told_and_the_node_serves),
        cmocka_unit_test (a_program_may_exit_without_closing_a_node_that_beacons),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
