/* node_contacts: the DEALERs to other nodes' control endpoints, and which of them leads to which member.
 *
 * Made, closed and listed by the node's thread alone, under control_lock, since node_tell uses them from any thread. */

#include "node_inner.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

enum { INDEX_MASK = 0xffff };

static void lock (struct fm_node *node)
{
    (void) pthread_mutex_lock (&node->control_lock);    /* cannot fail: initialised, and never locked twice by a thread */
}

static void unlock (struct fm_node *node)
{
    (void) pthread_mutex_unlock (&node->control_lock);
}

struct node_contact *node_contact_find (const struct fm_node *node, uint32_t number)
{
    const size_t index = number & INDEX_MASK;
    struct node_contact *c = index < node->contact_size ? node->contacts[index] : NULL;
    return c && c->number == number ? c : NULL;
}

static int make_dealer (struct fm_node *node, const char *address, struct node_contact *c)
{
    int rc = node_socket (node, ZMQ_DEALER, &c->dealer);
    if (rc != 0)
        return rc;
    /* Nothing is queued for a connection that is not there: a message would be late, or reach another process at the old address. */
    const int immediate = 1;
    size_t size = sizeof c->fd;
    rc = zmq_setsockopt (c->dealer, ZMQ_IMMEDIATE, &immediate, sizeof immediate);
    assert (rc == 0);
    if (node_connect (c->dealer, address) != 0)
        return -errno;
    rc = zmq_getsockopt (c->dealer, ZMQ_FD, &c->fd, &size);
    assert (rc == 0);
    return node_watch (node, c->fd, c->number);
}

static int make_place (struct fm_node *node, size_t index)
{
    if (index < node->contact_size)
        return 0;
    size_t size = node->contact_size ? node->contact_size : 16;
    while (size <= index)
        size *= 2;
    /* A member whose route found no place could never be told anything. */
    struct node_contact **routes = realloc (node->routes, size * sizeof (struct node_contact *));
    if (!routes)
        return -ENOMEM;
    node->routes = routes;
    struct node_contact **contacts = realloc (node->contacts, size * sizeof (struct node_contact *));
    if (!contacts)
        return -ENOMEM;
    memset (contacts + node->contact_size, 0, (size - node->contact_size) * sizeof (struct node_contact *));
    node->contacts = contacts;
    node->contact_size = size;
    return 0;
}

int node_contact_open (struct fm_node *node, uint32_t number, const char *address)
{
    struct node_contact *c = calloc (1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->number = number;
    c->fd = -1;
    int rc = make_dealer (node, address, c);
    lock (node);
    if (rc == 0)
        rc = make_place (node, number & INDEX_MASK);
    if (rc == 0) {
        assert (!node->contacts[number & INDEX_MASK]);
        node->contacts[number & INDEX_MASK] = c;
        node_contact_touch (node, c);       /* it may be connected by now */
    }
    unlock (node);
    if (rc == 0)
        return 0;
    if (c->dealer) {
        if (c->fd >= 0)
            node_unwatch (node, c->fd);
        (void) zmq_close (c->dealer);       /* fails only for what is no socket */
    }
    free (c);
    return rc;
}

static size_t route_place (const struct fm_node *node, const struct fm_id *member)
{
    size_t low = 0, high = node->route_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (memcmp (node->routes[middle]->node.bytes, member->bytes, ID_LEN) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void route_remove (struct fm_node *node, const struct fm_id *member)
{
    const size_t place = route_place (node, member);
    if (place == node->route_count || !id_equal (&node->routes[place]->node, member))
        return;
    node->routes[place]->member = false;
    node->route_count--;
    memmove (&node->routes[place], &node->routes[place + 1], (node->route_count - place) * sizeof (struct node_contact *));
}

void node_contact_close (struct fm_node *node, uint32_t number, int linger_ms)
{
    lock (node);
    struct node_contact *c = node_contact_find (node, number);
    if (c) {
        if (c->member)
            route_remove (node, &c->node);
        node->contacts[number & INDEX_MASK] = NULL;
        for (struct node_contact **link = &node->touched; *link; link = &(*link)->next_touched) {
            if (*link == c) {
                *link = c->next_touched;
                break;
            }
        }
    }
    unlock (node);
    if (!c)
        return;                             /* it could not be opened */
    node_unwatch (node, c->fd);
    (void) zmq_setsockopt (c->dealer, ZMQ_LINGER, &linger_ms, sizeof linger_ms);    /* neither can fail on a socket */
    (void) zmq_close (c->dealer);
    free (c);
}

struct node_contact *node_route_find (const struct fm_node *node, const struct fm_id *member)
{
    const size_t place = route_place (node, member);
    return place < node->route_count && id_equal (&node->routes[place]->node, member) ? node->routes[place] : NULL;
}

void node_route_set (struct fm_node *node, uint32_t contact, const struct fm_id *member)
{
    lock (node);
    struct node_contact *c = node_contact_find (node, contact);
    if (c) {
        assert (node->route_count < node->contact_size);    /* no two contacts of one member */
        const size_t place = route_place (node, member);
        memmove (&node->routes[place + 1], &node->routes[place], (node->route_count - place) * sizeof (struct node_contact *));
        node->routes[place] = c;
        node->route_count++;
        c->member = true;
        c->node = *member;
    }
    unlock (node);
}

void node_route_clear (struct fm_node *node, const struct fm_id *member)
{
    lock (node);
    route_remove (node, member);
    unlock (node);
}

void node_contact_touch (struct fm_node *node, struct node_contact *c)
{
    if (c->touched)
        return;
    c->touched = true;
    c->next_touched = NULL;
    struct node_contact **end = &node->touched;
    while (*end)
        end = &(*end)->next_touched;
    *end = c;
}

struct node_contact *node_contact_untouch (struct fm_node *node)
{
    struct node_contact *c = node->touched;
    if (c) {
        node->touched = c->next_touched;
        c->touched = false;
    }
    return c;
}
