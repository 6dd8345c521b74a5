#include "sim_net.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "sim_inner.h"

enum { HWM_DEFAULT = 1000, RECONNECT_MS = 100 };

struct bytes {
    unsigned refs;
    size_t len;
    uint8_t data[];
};

struct item {
    struct item *next;
    struct bytes *bytes;
    struct link *link;                      /* XPUB: whose subscription it is; SUB: counted there until it is read */
};

struct queue {
    struct item *first, **end;
    size_t count;
};

struct filters {
    struct bytes **items;
    size_t count, size;
};

typedef void take_fn (struct sim_process *p, uint64_t link, const void *data, size_t len);

/* XPUB, SUB, DEALER; or a control endpoint. */
struct socket {
    struct socket *next;
    struct sim_process *process;
    int type, fd;                           /* type 0: a control endpoint */
    char address[SIM_ADDRESS_MAX];
    bool bound, closed;
    take_fn *take;
    struct queue in;                        /* to be read; XPUB: subscriptions that were taken in */
    struct queue pending;                   /* XPUB: not yet taken in; DEALER: waits for a connection */
    struct filters filters;                 /* SUB */
    struct link *link;                      /* of who connects */
    int sndhwm, rcvhwm;
    bool attempting;
};

/* One connection, from its making to its end. */
struct link {
    struct link *next;
    uint64_t number;
    struct socket *near, *far;
    bool up;
    struct sim_random random;
    struct filters filters;                 /* of a SUB, as the XPUB knows them */
    size_t queued;                          /* to near: under way, and unread */
    uint64_t last_to_near, last_to_far;
    uint64_t delay_ns;
};

struct packet {
    struct packet *next, **previous;
    struct link *link;
    struct bytes *bytes;
    bool to_near;
};

static struct {
    struct sim_net_options options;
    struct socket *sockets;
    struct link *links;
    uint64_t link_count;
    struct packet *packets;
    uint64_t cut_until[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
} net;

/* --- Bytes, queues, filters. */

static struct bytes *bytes_new (const void *data, size_t len, int first)
{
    struct bytes *b = malloc (sizeof *b + len + 1);
    assert (b);
    b->refs = 1;
    b->len = len + (first >= 0);
    if (first >= 0)
        b->data[0] = (uint8_t) first;
    if (len)
        memcpy (b->data + (first >= 0), data, len);
    return b;
}

static void bytes_drop (struct bytes *b)
{
    if (--b->refs == 0)
        free (b);
}

/* Takes the reference. */
static void queue_put (struct queue *q, struct bytes *b, struct link *link)
{
    struct item *i = malloc (sizeof *i);
    assert (i);
    *i = (struct item) { .bytes = b, .link = link };
    if (!q->first)
        q->end = &q->first;
    *q->end = i;
    q->end = &i->next;
    q->count++;
}

static bool queue_take (struct queue *q, struct bytes **ret_bytes, struct link **ret_link)
{
    struct item *i = q->first;
    if (!i)
        return false;
    q->first = i->next;
    q->count--;
    *ret_bytes = i->bytes;
    *ret_link = i->link;
    free (i);
    return true;
}

static void queue_clear (struct queue *q)
{
    struct bytes *b;
    struct link *link;
    while (queue_take (q, &b, &link))
        bytes_drop (b);
}

static void filters_add (struct filters *f, struct bytes *b)
{
    if (f->count == f->size) {
        f->size = f->size ? 2 * f->size : 8;
        f->items = realloc (f->items, f->size * sizeof *f->items);
        assert (f->items);
    }
    f->items[f->count++] = b;
    b->refs++;
}

/* Both begin with the byte that says subscribe or unsubscribe. */
static void filters_remove (struct filters *f, const struct bytes *b)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->items[i]->len == b->len && memcmp (f->items[i]->data + 1, b->data + 1, b->len - 1) == 0) {
            bytes_drop (f->items[i]);
            f->items[i] = f->items[--f->count];
            return;
        }
}

static bool filters_match (const struct filters *f, const void *data, size_t len)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->items[i]->len - 1 <= len && memcmp (f->items[i]->data + 1, data, f->items[i]->len - 1) == 0)
            return true;
    return false;
}

static void filters_clear (struct filters *f)
{
    for (size_t i = 0; i < f->count; i++)
        bytes_drop (f->items[i]);
    free (f->items);
    *f = (struct filters) { .items = NULL };
}

/* --- Packets. */

void sim_net_set (const struct sim_net_options *options)
{
    net.options = *options;
}

uint64_t sim_net_delay (struct sim_random *r)
{
    const uint64_t usual = net.options.delay_ns / 2 + sim_below (r, net.options.delay_ns);
    return sim_chance (r, 5) ? usual + sim_below (r, net.options.spike_ns) : usual;
}

bool sim_net_is_cut (unsigned a, unsigned b)
{
    return net.cut_until[a][b] > sim_time ();
}

static void packet_free (struct packet *p)
{
    *p->previous = p->next;
    if (p->next)
        p->next->previous = p->previous;
    bytes_drop (p->bytes);
    free (p);
}

static void arrive (void *a, void *b)
{
    (void) b;
    struct packet *p = a;
    struct link *link = p->link;
    struct socket *to = p->to_near ? link->near : link->far;
    if (!link->up || to->closed || to->process->dead) {
        link->queued -= p->to_near;
    } else if (p->to_near) {
        p->bytes->refs++;
        queue_put (&to->in, p->bytes, link);
    } else if (to->type == 0) {
        to->take (to->process, link->number, p->bytes->data, p->bytes->len);
    } else {
        p->bytes->refs++;
        queue_put (&to->pending, p->bytes, link);
        sim_node_look (to->process);
    }
    packet_free (p);
}

/* Borrows the bytes. */
static void packet_send (struct link *link, struct bytes *bytes, bool to_near)
{
    struct packet *p = malloc (sizeof *p);
    assert (p);
    *p = (struct packet) { .next = net.packets, .previous = &net.packets, .link = link, .bytes = bytes, .to_near = to_near };
    if (p->next)
        p->next->previous = &p->next;
    net.packets = p;
    bytes->refs++;
    link->queued += to_near;
    uint64_t *last = to_near ? &link->last_to_near : &link->last_to_far;
    const uint64_t at = sim_time () + link->delay_ns + sim_net_delay (&link->random);
    *last = at > *last ? at : *last;
    sim_after (*last - sim_time (), arrive, p, NULL);
}

/* --- Connections. */

static void attempt (void *a, void *b);

static void attempt_later (struct socket *s, uint64_t delay)
{
    if (s->attempting || s->closed || s->process->dead)
        return;
    s->attempting = true;
    sim_after (delay, attempt, s, NULL);
}

static struct socket *bound_at (const char *address)
{
    for (struct socket *s = net.sockets; s; s = s->next)
        if (s->bound && !s->closed && !s->process->dead && strcmp (s->address, address) == 0)
            return s;
    return NULL;
}

static void link_up (struct socket *near, struct socket *far)
{
    struct link *link = calloc (1, sizeof *link);
    assert (link);
    *link = (struct link) { .next = net.links, .number = ++net.link_count, .near = near, .far = far, .up = true };
    link->random = sim_random_of (sim_seed (), 100000 + 1000 * link->number + 31 * near->process->host + far->process->host);
    if (sim_chance (&link->random, 100))
        link->delay_ns = sim_below (&link->random, 30 * SIM_MS);
    net.links = link;
    near->link = link;
    if (near->type == ZMQ_SUB) {
        /* In an order of ZeroMQ's own. */
        for (size_t i = near->filters.count; i > 1; i--) {
            const size_t other = (size_t) sim_below (&link->random, i);
            struct bytes *x = near->filters.items[i - 1];
            near->filters.items[i - 1] = near->filters.items[other];
            near->filters.items[other] = x;
        }
        for (size_t i = 0; i < near->filters.count; i++)
            packet_send (link, near->filters.items[i], false);
    } else {
        struct bytes *b;
        struct link *none;
        while (queue_take (&near->pending, &b, &none)) {
            packet_send (link, b, false);
            bytes_drop (b);
        }
    }
}

static void attempt (void *a, void *b)
{
    (void) b;
    struct socket *s = a;
    s->attempting = false;
    if (s->closed || s->process->dead || s->link)
        return;
    struct socket *far = bound_at (s->address);
    if (far && !sim_net_is_cut (s->process->host, far->process->host))
        link_up (s, far);
    else
        attempt_later (s, RECONNECT_MS * SIM_MS);
}

static void link_down (void *a, void *b)
{
    (void) b;
    struct link *link = a;
    if (!link->up)
        return;
    link->up = false;
    filters_clear (&link->filters);
    if (link->near->link == link) {
        link->near->link = NULL;
        attempt_later (link->near, 10 * SIM_MS + sim_below (&link->random, RECONNECT_MS * SIM_MS));
    }
}

void sim_net_break (unsigned a, unsigned b)
{
    for (struct link *link = net.links; link; link = link->next) {
        const unsigned x = link->near->process->host, y = link->far->process->host;
        if (link->up && ((x == a && y == b) || (x == b && y == a)))
            link_down (link, NULL);
    }
}

void sim_net_cut (unsigned a, unsigned b, uint64_t until)
{
    net.cut_until[a][b] = net.cut_until[b][a] = until;
    sim_net_break (a, b);
}

/* What is under way arrives up to some moment. */
void sim_net_died (struct sim_process *p)
{
    for (struct link *link = net.links; link; link = link->next)
        if (link->up && (link->near->process == p || link->far->process == p))
            sim_after (sim_below (&link->random, 2 * net.options.delay_ns), link_down, link, NULL);
}

/* --- Sockets. */

static bool socket_readable (void *arg)
{
    const struct socket *s = arg;
    return s->in.first || (s->type == ZMQ_XPUB && s->pending.first);
}

void *sim_net_socket (struct sim_process *p, int type)
{
    struct socket *s = calloc (1, sizeof *s);
    assert (s);
    *s = (struct socket) { .next = net.sockets, .process = p, .type = type, .fd = -1, .sndhwm = HWM_DEFAULT, .rcvhwm = HWM_DEFAULT };
    if (type)
        s->fd = sim_fd_new (socket_readable, s);
    net.sockets = s;
    return s;
}

void sim_net_bind (void *socket, const char *address)
{
    struct socket *s = socket;
    (void) snprintf (s->address, sizeof s->address, "%s", address);
    s->bound = true;
}

void sim_net_connect (void *socket, const char *address)
{
    struct socket *s = socket;
    (void) snprintf (s->address, sizeof s->address, "%s", address);
    attempt_later (s, sim_net_delay (&s->process->random));
}

void sim_net_bind_control (struct sim_process *p, const char *address, take_fn *take)
{
    struct socket *s = sim_net_socket (p, 0);
    s->take = take;
    sim_net_bind (s, address);
}

bool sim_net_answer (uint64_t number, const void *data, size_t len)
{
    for (struct link *link = net.links; link; link = link->next)
        if (link->number == number) {
            if (!link->up || link->far->process->dead)
                return false;
            struct bytes *b = bytes_new (data, len, -1);
            packet_send (link, b, true);
            bytes_drop (b);
            return true;
        }
    return false;
}

/* The XPUB is called: what came of subscriptions is taken in. */
static void take_subscriptions (struct socket *s)
{
    struct bytes *b;
    struct link *link;
    while (queue_take (&s->pending, &b, &link)) {
        if (link->up && b->data[0] == 1)
            filters_add (&link->filters, b);
        else if (link->up)
            filters_remove (&link->filters, b);
        queue_put (&s->in, b, link);
    }
}

static void xpub_send (struct socket *s, const void *data, size_t len)
{
    struct bytes *b = NULL;
    take_subscriptions (s);
    if (len > 1 && ((const uint8_t *) data)[0] == 0xFF && ((const uint8_t *) data)[1] == 'E')
        sim_trace ("tells that a stream has ended");
    for (struct link *link = net.links; link; link = link->next) {
        if (!link->up || link->far != s || !filters_match (&link->filters, data, len))
            continue;
        if (link->queued >= (size_t) (s->sndhwm + link->near->rcvhwm) || sim_chance (&link->random, net.options.drop_per_thousand)) {
            sim_trace ("drops a frame of %zu bytes for %s", len, link->near->process->name);
            continue;
        }
        if (!b)
            b = bytes_new (data, len, -1);
        packet_send (link, b, true);
    }
    if (b)
        bytes_drop (b);
}

static int dealer_send (struct socket *s, const void *data, size_t len)
{
    if (s->pending.count >= (size_t) s->sndhwm)
        return EAGAIN;
    struct bytes *b = bytes_new (data, len, -1);
    if (s->link) {
        packet_send (s->link, b, false);
        bytes_drop (b);
    } else {
        queue_put (&s->pending, b, NULL);
    }
    return 0;
}

int zmq_msg_send (zmq_msg_t *message, void *socket, int flags)
{
    (void) flags;
    struct socket *s = socket;
    const size_t len = zmq_msg_size (message);
    if (sim_effect ()) {
        const int rc = s->type == ZMQ_DEALER ? dealer_send (s, zmq_msg_data (message), len) : 0;
        if (rc) {
            errno = rc;
            return -1;
        }
        if (s->type == ZMQ_XPUB)
            xpub_send (s, zmq_msg_data (message), len);
    }
    zmq_msg_close (message);
    zmq_msg_init (message);
    return (int) len;
}

int zmq_msg_recv (zmq_msg_t *message, void *socket, int flags)
{
    (void) flags;
    struct socket *s = socket;
    struct bytes *b;
    struct link *link;
    if (s->type == ZMQ_XPUB)
        take_subscriptions (s);
    if (!queue_take (&s->in, &b, &link)) {
        errno = EAGAIN;
        return -1;
    }
    if (s->type != ZMQ_XPUB)
        link->queued--;
    zmq_msg_close (message);
    if (zmq_msg_init_size (message, b->len) != 0)
        abort ();
    memcpy (zmq_msg_data (message), b->data, b->len);
    const int len = (int) b->len;
    bytes_drop (b);
    return len;
}

static void subscribe (struct socket *s, bool on, const void *topic, size_t len)
{
    struct bytes *b = bytes_new (topic, len, on);
    if (on)
        filters_add (&s->filters, b);
    else
        filters_remove (&s->filters, b);
    if (s->link && sim_effect ())
        packet_send (s->link, b, false);
    bytes_drop (b);
}

int zmq_setsockopt (void *socket, int option, const void *value, size_t len)
{
    struct socket *s = socket;
    if (option == ZMQ_SUBSCRIBE || option == ZMQ_UNSUBSCRIBE)
        subscribe (s, option == ZMQ_SUBSCRIBE, value, len);
    else if (option == ZMQ_SNDHWM)
        memcpy (&s->sndhwm, value, sizeof s->sndhwm);
    else if (option == ZMQ_RCVHWM)
        memcpy (&s->rcvhwm, value, sizeof s->rcvhwm);
    return 0;
}

int zmq_getsockopt (void *socket, int option, void *value, size_t *len)
{
    const struct socket *s = socket;
    assert (option == ZMQ_FD && *len == sizeof s->fd);
    memcpy (value, &s->fd, sizeof s->fd);
    return 0;
}

static void socket_close (struct socket *s)
{
    if (s->closed)
        return;
    s->closed = true;
    if (s->fd >= 0)
        sim_fd_close (s->fd);
    for (struct link *link = net.links; link; link = link->next) {
        if (!link->up || (link->near != s && link->far != s))
            continue;
        /* What is under way still arrives. */
        uint64_t last = link->last_to_near > link->last_to_far ? link->last_to_near : link->last_to_far;
        last = last > sim_time () ? last - sim_time () + 1 : 0;
        sim_after (last, link_down, link, NULL);
    }
    queue_clear (&s->in);
    queue_clear (&s->pending);
    filters_clear (&s->filters);
}

int zmq_close (void *socket)
{
    socket_close (socket);
    return 0;
}

void sim_net_gone (struct sim_process *p)
{
    for (struct socket *s = net.sockets; s; s = s->next)
        if (s->process == p && s->type == 0)
            socket_close (s);
}

void sim_net_end (void)
{
    while (net.packets)
        packet_free (net.packets);
    for (struct link *link; (link = net.links);) {
        net.links = link->next;
        filters_clear (&link->filters);
        free (link);
    }
    for (struct socket *s; (s = net.sockets);) {
        net.sockets = s->next;
        queue_clear (&s->in);
        queue_clear (&s->pending);
        filters_clear (&s->filters);
        free (s);
    }
    memset (&net, 0, sizeof net);
    sim_nodes_end ();
}
