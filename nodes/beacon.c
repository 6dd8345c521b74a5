/* beacon: see beacon.h. */

#include "beacon.h"

#include <assert.h>
#include <czmq.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "bytes.h"
#include "error.h"

enum { INTERVAL_MS = 1000, CONFIGURE_MS = 3000 };

static const char magic[4] = { 'F', 'M', 'S', 'H' };

struct beacon {
    zactor_t *actor;                    /* under exit_lock: NULL once the process exits */
    struct beacon *next;
    char mesh[MESH_NAME_MAX + 1];
    struct fm_id node;
};

/* czmq's own exit handler takes the sockets from under actors that still run, which then abort the process. A program may exit without closing its
 * nodes: end the actors before. */
static pthread_mutex_t exit_lock = PTHREAD_MUTEX_INITIALIZER;
static struct beacon *beacons;

static void end_actors (void)
{
    (void) pthread_mutex_lock (&exit_lock);         /* cannot fail: initialised, and never locked twice by a thread */
    for (struct beacon *b = beacons; b; b = b->next)
        zactor_destroy (&b->actor);
    (void) pthread_mutex_unlock (&exit_lock);
}

static void czmq_init_once (void)
{
    zsys_handler_set (NULL);
    zsys_set_logstream (stderr);
    (void) zsys_init ();            /* registers its handler, so that ours, which comes later, runs first */
    (void) atexit (end_actors);     /* without it the exit is as ugly as czmq makes it */
}

void beacon_czmq_init (void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void) pthread_once (&once, czmq_init_once);        /* cannot fail with these arguments */
}

/* zbeacon prints an error of its own when there is none. */
static bool can_broadcast (const char *interface)
{
    ziflist_t *list = ziflist_new ();
    bool found = false;
    for (const char *name = list ? ziflist_first (list) : NULL; name && !found; name = ziflist_next (list))
        found = !interface || strcmp (interface, name) == 0;
    ziflist_destroy (&list);
    return found;
}

static int publish (struct beacon *b, const struct beacon_options *o)
{
    Factmesh__Beacon message = FACTMESH__BEACON__INIT;
    message.major = PROTO_MAJOR;
    message.minor = PROTO_MINOR;
    message.mesh = control_put_slice (o->mesh);
    message.node = control_put_id (&o->node);
    message.control_port = o->control_port;
    byte frame[UDP_FRAME_MAX];
    const size_t len = factmesh__beacon__get_packed_size (&message);
    assert (len <= sizeof frame - sizeof magic);        /* a mesh's name is bounded */
    memcpy (frame, magic, sizeof magic);
    (void) factmesh__beacon__pack (&message, frame + sizeof magic);     /* as long as it said */
    return zsock_send (b->actor, "sbi", "PUBLISH", frame, sizeof magic + len, INTERVAL_MS) == 0 ? 0 : -errno;
}

static int configure (struct beacon *b, const struct beacon_options *o)
{
    zsock_set_rcvtimeo (b->actor, CONFIGURE_MS);
    if (zsock_send (b->actor, "si", "CONFIGURE", o->port) != 0)
        return -errno;
    char *host = zstr_recv (b->actor);
    const bool bound = host && *host;
    zstr_free (&host);
    if (!bound)
        return error_set (FM_ERR_UNREACHABLE, "beacon: cannot use UDP port %d for broadcasts", o->port);
    if (zsock_send (b->actor, "sb", "SUBSCRIBE", magic, sizeof magic) != 0)
        return -errno;
    return o->control_port ? publish (b, o) : 0;
}

int beacon_new (const struct beacon_options *options, struct beacon **ret_beacon)
{
    beacon_czmq_init ();
    if (!can_broadcast (options->interface))
        return error_set (FM_ERR_UNREACHABLE, "beacon: %s%s", options->interface ? "no such interface that broadcasts: " : "no interface broadcasts",
                          options->interface ? options->interface : "");
    struct beacon *b = calloc (1, sizeof *b);
    if (!b)
        return -ENOMEM;
    memcpy (b->mesh, options->mesh.data, options->mesh.len);
    b->node = options->node;
    zsys_set_interface (options->interface ? options->interface : "");
    b->actor = zactor_new (zbeacon, NULL);
    const int rc = b->actor ? configure (b, options) : -ENOMEM;
    (void) pthread_mutex_lock (&exit_lock);
    b->next = beacons;
    beacons = b;
    (void) pthread_mutex_unlock (&exit_lock);
    if (rc != 0)
        beacon_destroy (&b);
    else
        *ret_beacon = b;
    return rc;
}

void beacon_destroy (struct beacon **beacon)
{
    if (!*beacon)
        return;
    (void) pthread_mutex_lock (&exit_lock);
    for (struct beacon **link = &beacons; *link; link = &(*link)->next) {
        if (*link == *beacon) {
            *link = (*beacon)->next;
            break;
        }
    }
    zactor_destroy (&(*beacon)->actor);
    (void) pthread_mutex_unlock (&exit_lock);
    free (*beacon);
    *beacon = NULL;
}

int beacon_fd (const struct beacon *beacon)
{
    return (int) zsock_fd (beacon->actor);
}

int beacon_decode (struct fm_slice datagram, const char *from, struct fm_slice mesh, const struct fm_id *self, struct peer_info **ret_info)
{
    const uint8_t *bytes = datagram.data;
    if (datagram.len < sizeof magic || memcmp (bytes, magic, sizeof magic) != 0)
        return FM_ERR_MALFORMED;
    Factmesh__Beacon *message = factmesh__beacon__unpack (NULL, datagram.len - sizeof magic, bytes + sizeof magic);
    if (!message)
        return FM_ERR_MALFORMED;
    int rc = 0;
    if (message->major != PROTO_MAJOR)
        rc = FM_ERR_VERSION;
    else if (!slice_equal (control_get_slice (&message->mesh), mesh))
        rc = FM_ERR_MESH;
    else if (message->node.len != ID_LEN || memcmp (message->node.data, self->bytes, ID_LEN) == 0 || message->control_port > 65535)
        rc = FM_ERR_MALFORMED;
    if (rc == 0) {
        char address[ADDRESS_TEXT_MAX], *addresses[] = { address };
        (void) snprintf (address, sizeof address, "tcp://%.64s:%u", from, message->control_port);    /* fits */
        Factmesh__NodeInfo info = FACTMESH__NODE_INFO__INIT;
        info.node = message->node;
        info.control = addresses;
        info.n_control = 1;
        rc = peer_info_read (&info, ret_info);
    }
    factmesh__beacon__free_unpacked (message, NULL);
    return rc;
}

/* One message off the pipe; false: none. *ret_rc: 0 with an info, or why it is not for us. */
static bool take (struct beacon *b, int *ret_rc, struct peer_info **ret_info)
{
    char *from = NULL;
    zframe_t *frame = NULL;
    (void) pthread_mutex_lock (&exit_lock);
    const bool got = b->actor && (zsock_events (b->actor) & ZMQ_POLLIN) && zsock_recv (b->actor, "sf", &from, &frame) == 0;
    (void) pthread_mutex_unlock (&exit_lock);
    if (got)
        *ret_rc = from && frame ? beacon_decode (slice (zframe_data (frame), zframe_size (frame)), from, slice_of (b->mesh), &b->node, ret_info) : FM_ERR_MALFORMED;
    zstr_free (&from);
    zframe_destroy (&frame);
    return got;
}

int beacon_receive (struct beacon *beacon, struct peer_info **ret_info)
{
    int rc;
    while (take (beacon, &rc, ret_info)) {
        if (rc == 0)
            return 0;
    }
    return -EAGAIN;
}
