/* fault_net: a network that misbehaves on command. It carries the IP packets of hosts (fault_host.c), each of which is a
 * network namespace, so that what nodes see is what a kernel makes of lost packets, slow links and hosts that went: TCP
 * retransmits, backs off, and keeps connections to nobody.
 *
 *     fault_net SOCKET
 *
 * Reads commands from standard input and answers each with a line, OK or ERROR:
 *
 *     rule FROM TO CLASS [KEY=VALUE]…     FROM, TO: a host's number or *; CLASS: live, control, all
 *     stats                               packets by fate
 *
 * A rule replaces the one before; without keys the link is well. Each direction is a link of its own:
 *
 *     drop=1         swallow everything: one of two directions dropped is a half-open link
 *     loss=PPM       swallow some
 *     delay=US       and jitter=US more at most; packets never overtake each other
 *     rate=BYTES     a second; what does not fit into QUEUE_BYTES is lost
 *     reset=1        answer every TCP packet with RST, and pass an RST on to the other end
 *     forget=1       answer it with RST, and tell the other end nothing: there the connection stays, half open
 *
 * Thread:  one. Ends with its standard input. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../support/tool.h"
#include "fault_net.h"

enum { CLASS_LIVE, CLASS_CONTROL, CLASSES, QUEUE_BYTES = 4 << 20, READ_ROW = 64, LINE_LEN = 256, IP_LEN = 20, TCP_LEN = 20 };
enum { TCP_RST = 0x04, TCP_ACK = 0x10, TCP_SYN_FIN = 0x03 };

struct rule {
    bool drop, reset, forget;
    uint64_t loss_ppm, delay_us, jitter_us, rate_bytes;
};

struct packet {
    struct packet *next;
    uint64_t due_us;
    size_t len;
    uint8_t bytes[];
};

/* One direction between two hosts. Invariant: in network.waiting exactly when first is not NULL. */
struct link {
    struct rule rule;
    struct packet *first, *last;
    size_t queued_bytes;
    uint64_t free_us, last_due_us; /* when the throttle lets the next packet go; the order of packets */
    struct link *next_waiting;
    unsigned to;
};

struct network {
    int listener;
    int hosts[FAULT_HOSTS_MAX]; /* tun descriptors; -1: none */
    struct link links[FAULT_HOSTS_MAX][FAULT_HOSTS_MAX][CLASSES];
    struct link *waiting;
    uint64_t random, carried, dropped, lost, reset;
};

static uint64_t random_next (struct network *net)
{
    net->random = net->random * 6364136223846793005u + 1442695040888963407u;
    return net->random >> 33;
}

/* ------------------------------------------------------------------ packets */

static uint32_t get_u32 (const uint8_t *p)
{
    return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static void put_u32 (uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t) (v >> (24 - 8 * i));
}

/* RFC 1071, over an even number of bytes. */
static uint32_t sum_add (uint32_t sum, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t) p[i] << 8 | p[i + 1];
    return sum;
}

static void sum_put (uint8_t *at, uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    sum = ~sum;
    at[0] = (uint8_t) (sum >> 8);
    at[1] = (uint8_t) sum;
}

static size_t ip_len (const uint8_t *packet)
{
    return (size_t) (packet[0] & 0xf) * 4;
}

static bool is_tcp (const uint8_t *packet, size_t len)
{
    return packet[9] == 6 && ip_len (packet) >= IP_LEN && len >= ip_len (packet) + TCP_LEN;
}

static unsigned class_of (const uint8_t *packet, size_t len)
{
    if (!is_tcp (packet, len))
        return CLASS_LIVE;
    const uint8_t *tcp = packet + ip_len (packet);
    const unsigned from = (unsigned) tcp[0] << 8 | tcp[1], to = (unsigned) tcp[2] << 8 | tcp[3];
    return from == FAULT_CONTROL_PORT || to == FAULT_CONTROL_PORT ? CLASS_CONTROL : CLASS_LIVE;
}

static void packet_write (struct network *net, unsigned to, const uint8_t *bytes, size_t len)
{
    /* A host that went, or whose queue is full, loses packets, as on any network. */
    if (net->hosts[to] >= 0 && write (net->hosts[to], bytes, len) == (ssize_t) len)
        net->carried++;
    else
        net->lost++;
}

/* An RST between the same ends as `packet`, or turned about. */
static void reset_write (struct network *net, unsigned to, const uint8_t *packet, bool back, uint32_t seq, uint32_t ack)
{
    uint8_t out[IP_LEN + TCP_LEN] = { 0x45, 0, 0, IP_LEN + TCP_LEN, 0, 0, 0, 0, 64, 6 };
    const uint8_t *tcp = packet + ip_len (packet);
    uint8_t *out_tcp = out + IP_LEN;

    memcpy (out + 12, packet + (back ? 16 : 12), 4);
    memcpy (out + 16, packet + (back ? 12 : 16), 4);
    memcpy (out_tcp, tcp + (back ? 2 : 0), 2);
    memcpy (out_tcp + 2, tcp + (back ? 0 : 2), 2);
    put_u32 (out_tcp + 4, seq);
    put_u32 (out_tcp + 8, ack);
    out_tcp[12] = TCP_LEN / 4 << 4;
    out_tcp[13] = TCP_RST | TCP_ACK;
    sum_put (out + 10, sum_add (0, out, IP_LEN));
    sum_put (out_tcp + 16, sum_add (sum_add (6 + TCP_LEN, out + 12, 8), out_tcp, TCP_LEN));
    packet_write (net, to, out, sizeof out);
}

/* To the sender as if the other end had said it: at the sequence that the sender waits for, or it is not believed (RFC 5961). */
static void packet_reset (struct network *net, unsigned from, unsigned to, const uint8_t *packet, size_t len, bool half)
{
    const uint8_t *tcp = packet + ip_len (packet);
    const size_t header = (size_t) (tcp[12] >> 4) * 4;
    const uint32_t seq = get_u32 (tcp + 4), ack = get_u32 (tcp + 8);
    const size_t data = len - ip_len (packet) > header ? len - ip_len (packet) - header : 0;

    if (tcp[13] & TCP_RST)
        return;
    reset_write (net, from, packet, true, tcp[13] & TCP_ACK ? ack : 0,
                 seq + (uint32_t) data + ((tcp[13] & TCP_SYN_FIN) ? 1 : 0));
    if (!half)
        reset_write (net, to, packet, false, seq, ack);
    net->reset++;
}

/* ------------------------------------------------------------------ links */

static void link_queue (struct network *net, struct link *link, const uint8_t *bytes, size_t len, uint64_t due_us)
{
    struct packet *packet = link->queued_bytes + len <= QUEUE_BYTES ? malloc (sizeof *packet + len) : NULL;

    if (!packet) {
        net->lost++;
        return;
    }
    *packet = (struct packet) { .due_us = due_us, .len = len };
    memcpy (packet->bytes, bytes, len);
    if (link->first) {
        link->last->next = packet;
    } else {
        link->first = packet;
        link->next_waiting = net->waiting;
        net->waiting = link;
    }
    link->last = packet;
    link->queued_bytes += len;
}

static void packet_take (struct network *net, unsigned from, const uint8_t *bytes, size_t len)
{
    if (len < IP_LEN || bytes[0] >> 4 != 4)
        return; /* IPv6's own talk */
    const uint32_t address = get_u32 (bytes + 16);
    const unsigned to = address & 0xff;
    if ((address & 0xffffff00u) != FAULT_NETWORK || to >= FAULT_HOSTS_MAX)
        return;
    struct link *link = &net->links[from][to][class_of (bytes, len)];
    const struct rule *rule = &link->rule;
    link->to = to;
    if (rule->drop || (rule->loss_ppm && random_next (net) % 1000000 < rule->loss_ppm)) {
        net->dropped++;
        return;
    }
    if ((rule->reset || rule->forget) && is_tcp (bytes, len)) {
        packet_reset (net, from, to, bytes, len, rule->forget);
        return;
    }
    if (!rule->delay_us && !rule->jitter_us && !rule->rate_bytes && !link->first) {
        packet_write (net, to, bytes, len);
        return;
    }
    const uint64_t now = tool_now_us ();
    uint64_t due = now;
    if (rule->rate_bytes) {
        if (link->free_us < now)
            link->free_us = now;
        due = link->free_us += len * 1000000 / rule->rate_bytes;
    }
    due += rule->delay_us + (rule->jitter_us ? random_next (net) % rule->jitter_us : 0);
    if (due < link->last_due_us && link->first)
        due = link->last_due_us;
    link->last_due_us = due;
    link_queue (net, link, bytes, len, due);
}

static void link_send_due (struct network *net, struct link *link, uint64_t now)
{
    while (link->first && link->first->due_us <= now) {
        struct packet *packet = link->first;
        link->first = packet->next;
        link->queued_bytes -= packet->len;
        if (link->rule.drop)
            net->dropped++; /* the cable was pulled out while it was on its way */
        else
            packet_write (net, link->to, packet->bytes, packet->len);
        free (packet);
    }
}

/* Send what is due. Returns how long to wait for the next, -1: nothing waits. */
static int waiting_send (struct network *net)
{
    const uint64_t now = tool_now_us ();
    uint64_t next = UINT64_MAX;

    for (struct link **at = &net->waiting; *at;) {
        struct link *link = *at;
        link_send_due (net, link, now);
        if (!link->first) {
            *at = link->next_waiting;
            continue;
        }
        if (link->first->due_us < next)
            next = link->first->due_us;
        at = &link->next_waiting;
    }
    return next == UINT64_MAX ? -1 : (int) ((next - now + 999) / 1000);
}

/* ------------------------------------------------------------------ hosts */

static void host_read (struct network *net, unsigned number)
{
    uint8_t bytes[65536];

    for (int i = 0; i < READ_ROW; i++) {
        const ssize_t len = read (net->hosts[number], bytes, sizeof bytes);
        if (len <= 0)
            return; /* EAGAIN; or the device is gone, and its host comes back with another */
        packet_take (net, number, bytes, (size_t) len);
    }
}

static void host_close (struct network *net, unsigned number)
{
    (void) close (net->hosts[number]); /* packets are not kept: nothing can be lost here */
    net->hosts[number] = -1;
}

static void host_accept (struct network *net)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE (sizeof (int))];
    } control;
    uint8_t number = 0;
    struct iovec part = { &number, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    const int fd = accept4 (net->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (recvmsg (fd, &message, MSG_CMSG_CLOEXEC) == 1 && message.msg_controllen >= CMSG_LEN (sizeof (int)) &&
        number < FAULT_HOSTS_MAX) {
        if (net->hosts[number] >= 0)
            host_close (net, number); /* of the process that was this host before */
        memcpy (&net->hosts[number], CMSG_DATA (&control.head), sizeof (int));
        (void) send (fd, &number, 1, MSG_NOSIGNAL); /* a host that is gone again needs no answer */
    }
    (void) close (fd);
}

/* ------------------------------------------------------------------ commands */

static bool rule_parse (char **rest, struct rule *ret_rule)
{
    struct rule rule = { .drop = false };

    for (char *word; (word = strtok_r (NULL, " ", rest));) {
        char *value = strchr (word, '=');
        if (!value)
            return false;
        *value++ = 0;
        const uint64_t number = strtoull (value, NULL, 10);
        if (strcmp (word, "drop") == 0)
            rule.drop = number;
        else if (strcmp (word, "reset") == 0)
            rule.reset = number;
        else if (strcmp (word, "forget") == 0)
            rule.forget = number;
        else if (strcmp (word, "loss") == 0)
            rule.loss_ppm = number;
        else if (strcmp (word, "delay") == 0)
            rule.delay_us = number;
        else if (strcmp (word, "jitter") == 0)
            rule.jitter_us = number;
        else if (strcmp (word, "rate") == 0)
            rule.rate_bytes = number;
        else
            return false;
    }
    *ret_rule = rule;
    return true;
}

/* Hosts [*ret_first, *ret_end). */
static bool range_parse (const char *word, unsigned *ret_first, unsigned *ret_end)
{
    const bool all = word && strcmp (word, "*") == 0;
    const unsigned long number = word ? strtoul (word, NULL, 10) : 0;

    *ret_first = all ? 1 : (unsigned) number;
    *ret_end = all ? FAULT_HOSTS_MAX : (unsigned) number + 1;
    return all || (number >= 1 && number < FAULT_HOSTS_MAX);
}

static bool rule_set (struct network *net, char **rest)
{
    unsigned from, from_end, to, to_end;
    const bool from_good = range_parse (strtok_r (NULL, " ", rest), &from, &from_end);
    const bool to_good = range_parse (strtok_r (NULL, " ", rest), &to, &to_end);
    const char *class = strtok_r (NULL, " ", rest);
    struct rule rule;

    if (!from_good || !to_good || !class || !rule_parse (rest, &rule))
        return false;
    for (unsigned i = from; i < from_end; i++) {
        for (unsigned k = to; k < to_end; k++) {
            if (strcmp (class, "control") != 0)
                net->links[i][k][CLASS_LIVE].rule = rule;
            if (strcmp (class, "live") != 0)
                net->links[i][k][CLASS_CONTROL].rule = rule;
        }
    }
    return true;
}

/* False at the end of standard input. */
static bool command_read (struct network *net)
{
    char line[LINE_LEN], *rest;

    if (!tool_line_read (line, sizeof line))
        return false;
    const char *verb = strtok_r (line, " ", &rest);
    if (verb && strcmp (verb, "stats") == 0)
        (void) printf ("OK carried=%llu dropped=%llu lost=%llu reset=%llu\n", (unsigned long long) net->carried,
                       (unsigned long long) net->dropped, (unsigned long long) net->lost, (unsigned long long) net->reset);
    else
        (void) puts (verb && strcmp (verb, "rule") == 0 && rule_set (net, &rest) ? "OK" : "ERROR");
    return true;
}

static int network_open (struct network *net, const char *path)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };

    for (unsigned i = 0; i < FAULT_HOSTS_MAX; i++)
        net->hosts[i] = -1;
    if (strlen (path) >= sizeof at.sun_path)
        return -1;
    memcpy (at.sun_path, path, strlen (path) + 1);
    net->listener = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (net->listener < 0 || bind (net->listener, (const struct sockaddr *) &at, sizeof at) != 0 ||
        listen (net->listener, FAULT_HOSTS_MAX) != 0)
        return -1;
    return 0;
}

int main (int argc, char **argv)
{
    static struct network net;
    struct pollfd fds[FAULT_HOSTS_MAX + 2];

    tool_lines ();
    (void) setvbuf (stdin, NULL, _IONBF, 0); /* or poll would not see a second line */
    if (argc != 2 || network_open (&net, argv[1]) < 0) {
        (void) fprintf (stderr, "usage: fault_net SOCKET (%s)\n", strerror (errno));
        return 2;
    }
    (void) puts ("READY");
    for (;;) {
        const int wait_ms = waiting_send (&net);
        fds[0] = (struct pollfd) { .fd = STDIN_FILENO, .events = POLLIN };
        for (unsigned i = 1; i < FAULT_HOSTS_MAX; i++)
            fds[i] = (struct pollfd) { .fd = net.hosts[i], .events = POLLIN };
        fds[FAULT_HOSTS_MAX] = (struct pollfd) { .fd = net.listener, .events = POLLIN };
        if (poll (fds, FAULT_HOSTS_MAX + 1, wait_ms) <= 0)
            continue;
        for (unsigned i = 1; i < FAULT_HOSTS_MAX; i++) {
            if (fds[i].revents & POLLIN)
                host_read (&net, i);
            else if (fds[i].revents)
                host_close (&net, i);
        }
        if (fds[FAULT_HOSTS_MAX].revents)
            host_accept (&net);
        if (fds[0].revents && !command_read (&net))
            return 0;
    }
}
