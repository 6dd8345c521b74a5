/* fault_host: runs a program as a host of its own on a network that misbehaves (fault_net.c).
 *
 *     fault_host SOCKET NUMBER PROGRAM [ARGUMENT]…
 *
 * It takes a network namespace with loopback and one tun device, hands the device to the network, and becomes the program:
 * the process that was started is the one that is killed and stopped. Exit status 77: namespaces or tun devices are not
 * allowed here; `fault_host --check` only tries. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fault_net.h"

static const char device[] = "mesh0";

static int refuse (const char *what)
{
    (void) fprintf (stderr, "fault_host: %s: %s\n", what, strerror (errno));
    return -1;
}

static int name_up (int fd, const char *name)
{
    struct ifreq request = { .ifr_flags = IFF_UP | IFF_RUNNING };

    (void) snprintf (request.ifr_name, sizeof request.ifr_name, "%s", name);
    return ioctl (fd, SIOCSIFFLAGS, &request) == 0 ? 0 : refuse (name);
}

static int number_set (int fd, unsigned long what, uint32_t value)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (value) };
    struct ifreq request = { .ifr_flags = 0 };

    (void) snprintf (request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (what == SIOCSIFMTU)
        request.ifr_mtu = (int) value;
    else
        memcpy (&request.ifr_addr, &address, sizeof address);
    return ioctl (fd, what, &request) == 0 ? 0 : refuse ("set up the device");
}

/* A namespace, its loopback, and the device, which is down when it is only tried. */
static int device_open (unsigned number, int *ret_tun)
{
    struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
    int tun, fd, rc;

    if (unshare (CLONE_NEWNET) != 0)
        return refuse ("a network namespace");
    tun = open ("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (tun < 0)
        return refuse ("/dev/net/tun");
    (void) snprintf (request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (ioctl (tun, TUNSETIFF, &request) != 0)
        return refuse ("a tun device");
    fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return refuse ("socket");
    rc = name_up (fd, "lo");
    if (rc == 0)
        rc = number_set (fd, SIOCSIFMTU, FAULT_MTU);
    if (rc == 0)
        rc = number_set (fd, SIOCSIFADDR, FAULT_NETWORK + number);
    if (rc == 0)
        rc = number_set (fd, SIOCSIFNETMASK, 0xffffff00u);
    if (rc == 0)
        rc = name_up (fd, device);
    (void) close (fd); /* nothing was written */
    *ret_tun = tun;
    return rc;
}

static int device_hand_over (const char *path, unsigned number, int tun)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE (sizeof (int))];
    } control = { .space = { 0 } };
    uint8_t byte = (uint8_t) number;
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    const int fd = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen (path) >= sizeof at.sun_path)
        return refuse (path);
    memcpy (at.sun_path, path, strlen (path) + 1);
    control.head = (struct cmsghdr) { .cmsg_len = CMSG_LEN (sizeof tun), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
    memcpy (CMSG_DATA (&control.head), &tun, sizeof tun);
    if (connect (fd, (const struct sockaddr *) &at, sizeof at) != 0 || sendmsg (fd, &message, 0) != 1 ||
        recv (fd, &byte, 1, 0) != 1)
        return refuse ("hand the device to the network");
    (void) close (fd); /* its only byte has come */
    return 0;
}

int main (int argc, char **argv)
{
    const bool check = argc == 2 && strcmp (argv[1], "--check") == 0;
    const unsigned long number = argc > 3 ? strtoul (argv[2], NULL, 10) : 1;
    int tun = -1;

    if ((!check && argc < 4) || number < 1 || number >= FAULT_HOSTS_MAX) {
        (void) fputs ("usage: fault_host SOCKET NUMBER PROGRAM [ARGUMENT]…\n       fault_host --check\n", stderr);
        return 2;
    }
    if (device_open ((unsigned) number, &tun) < 0)
        return FAULT_SKIPPED;
    if (check)
        return 0;
    if (device_hand_over (argv[1], (unsigned) number, tun) < 0)
        return 1;
    (void) close (tun); /* the network has it */
    (void) execv (argv[3], argv + 3);
    return refuse (argv[3]), 1;
}
