#include "outgoing.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server.h"

struct outgoing_all {
    atomic_size_t bytes, references;
};

struct outgoing {
    struct outgoing_all *all;
    atomic_size_t bytes, references;        /* messages, and the owner */
};

/* What ZeroMQ hands back when it has let a message go, in a thread of its own. The pointer is stored last and loaded first, with release and acquire: so
 * that the rest is seen there, whatever orders ZeroMQ's queues. */
struct counted {
    _Atomic (struct outgoing *) outgoing;
    size_t len;
    zmq_msg_t message;
};

static void unreference_all (struct outgoing_all *all)
{
    if (atomic_fetch_sub (&all->references, 1) == 1)
        free (all);
}

static void unreference (struct outgoing *o)
{
    if (atomic_fetch_sub (&o->references, 1) > 1)
        return;
    unreference_all (o->all);
    free (o);
}

int outgoing_all_new (struct outgoing_all **ret_all)
{
    struct outgoing_all *all = calloc (1, sizeof *all);
    if (!all)
        return -ENOMEM;
    atomic_init (&all->references, 1);
    *ret_all = all;
    return 0;
}

void outgoing_all_release (struct outgoing_all **all)
{
    if (*all)
        unreference_all (*all);
    *all = NULL;
}

int outgoing_new (struct outgoing_all *all, struct outgoing **ret_outgoing)
{
    struct outgoing *o = calloc (1, sizeof *o);
    if (!o)
        return -ENOMEM;
    o->all = all;
    atomic_init (&o->references, 1);
    atomic_fetch_add (&all->references, 1);
    *ret_outgoing = o;
    return 0;
}

void outgoing_release (struct outgoing **outgoing)
{
    if (*outgoing)
        unreference (*outgoing);
    *outgoing = NULL;
}

static void let_go (void *data, void *hint)
{
    (void) data;
    struct counted *c = hint;
    struct outgoing *o = atomic_load_explicit (&c->outgoing, memory_order_acquire);
    atomic_fetch_sub (&o->all->bytes, c->len);
    atomic_fetch_sub (&o->bytes, c->len);
    unreference (o);
    (void) zmq_msg_close (&c->message);     /* fails only for what is no message */
    free (c);
}

int outgoing_wrap (struct outgoing *o, zmq_msg_t *message)
{
    struct counted *c = malloc (sizeof *c);
    if (!c)
        return -ENOMEM;
    c->len = zmq_msg_size (message);
    (void) zmq_msg_init (&c->message);      /* these two cannot fail: both are messages */
    (void) zmq_msg_move (&c->message, message);
    zmq_msg_t wrapped;
    if (zmq_msg_init_data (&wrapped, zmq_msg_data (&c->message), c->len, let_go, c) != 0) {
        (void) zmq_msg_move (message, &c->message);
        free (c);
        return -ENOMEM;
    }
    atomic_fetch_add (&o->references, 1);
    atomic_fetch_add (&o->bytes, c->len);
    atomic_fetch_add (&o->all->bytes, c->len);
    atomic_store_explicit (&c->outgoing, o, memory_order_release);      /* nobody has the message yet */
    (void) zmq_msg_move (message, &wrapped);
    return 0;
}

size_t outgoing_bytes (const struct outgoing *o)
{
    return atomic_load (&o->bytes);
}

bool outgoing_has_room (const struct outgoing *o)
{
    const size_t own = atomic_load (&o->bytes);
    return own == 0 || (own < SERVER_OUTGOING_EACH_BYTES && atomic_load (&o->all->bytes) < SERVER_OUTGOING_BYTES);
}
