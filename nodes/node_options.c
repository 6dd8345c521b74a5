/* node_options: what fm_node_open was asked for, checked, with the defaults filled in. Everything that can be refused is refused here, before
 * a socket is opened. */

#include "node_inner.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"

static int take_mesh (struct fm_node *node, const char *mesh)
{
    mesh = mesh ? mesh : "default";
    const size_t len = strlen (mesh);
    if (len == 0 || len > MESH_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "option mesh: a name of %zu bytes; give 1 to %d", len, MESH_NAME_MAX);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char) mesh[i] < 0x20 || mesh[i] == 0x7f)
            return error_set (FM_ERR_ARGUMENT, "option mesh: a control character at byte %zu", i);
    }
    memcpy (node->mesh, mesh, len + 1);
    return 0;
}

static int take_name (struct fm_node *node, const char *name)
{
    if (name && *name) {
        if (strlen (name) > NODE_NAME_MAX)
            return error_set (FM_ERR_ARGUMENT, "option name: %zu bytes, more than %d", strlen (name), NODE_NAME_MAX);
        memcpy (node->name, name, strlen (name) + 1);
        return 0;
    }
    char host[HOST_NAME_MAX + 1] = "";
    if (gethostname (host, sizeof host) != 0)
        host[0] = 0;
    host[sizeof host - 1] = 0;
    (void) snprintf (node->name, sizeof node->name, "%.48s-%ld", *host ? host : "node", (long) getpid ());   /* cut if it must be */
    return 0;
}

static int take_number (const char *what, int given, int least, int most, int standard, int *ret_value)
{
    const int value = given == 0 ? standard : given;
    if (value < least || value > most)
        return error_set (FM_ERR_ARGUMENT, "option %s: %d is not within %d to %d", what, value, least, most);
    *ret_value = value;
    return 0;
}

static int take_numbers (struct fm_node *node, const struct fm_node_options *o)
{
    enum { HOUR_MS = 3600 * 1000 };
    int ping_ms = 0, dead_ms = 0;
    int rc = take_number ("ping_ms", o->ping_ms, PING_MS_LEAST, HOUR_MS, PING_MS_DEFAULT, &ping_ms);
    if (rc == 0)
        rc = take_number ("dead_ms", o->dead_ms, ping_ms + 1, INT_MAX, DEAD_PINGS * ping_ms, &dead_ms);
    if (rc == 0)
        rc = take_number ("live_queue", o->live_queue, 1, 1 << 20, LIVE_QUEUE_DEFAULT, &node->live_queue);
    if (rc == 0)
        rc = take_number ("io_threads", o->io_threads, 1, IO_THREADS_MAX, 1, &node->io_threads);
    if (rc == 0)
        rc = take_number ("serve_nice", o->serve_nice, 0, SERVE_NICE_MAX, 0, &node->serve_nice);
    if (rc == 0 && o->beacon_port != -1)
        rc = take_number ("beacon_port", o->beacon_port, 1, 65535, BEACON_PORT_DEFAULT, &node->beacon_port);
    if (rc != 0)
        return rc;
    node->ping_ms = (uint32_t) ping_ms;
    node->dead_ms = (uint32_t) dead_ms;
    return 0;
}

static int take_seeds (const char *seeds, struct node_plan *plan, bool *ret_all_local)
{
    struct fm_slice item;
    *ret_all_local = true;
    while (address_list_next (&seeds, &item)) {
        struct address a;
        const int rc = address_parse (item, ADDRESS_TO_CONNECT, &a);
        if (rc != 0) {
            char why[256];
            (void) snprintf (why, sizeof why, "%s", fm_error_detail ());    /* cut if it must be */
            return error_set (rc, "seed: %s", why);
        }
        if (plan->seed_count == SEEDS_MAX)
            return error_set (FM_ERR_ARGUMENT, "option seeds: more than %d", SEEDS_MAX);
        address_text (&a, plan->seeds[plan->seed_count++]);
        *ret_all_local = *ret_all_local && address_is_local (&a);
    }
    return 0;
}

static int take_bind (const char *bind, bool local, struct node_plan *plan)
{
    if (!bind || !*bind)
        bind = local ? "tcp://127.0.0.1:*" : "tcp://0.0.0.0:*";
    int rc = address_parse (slice_of (bind), ADDRESS_TO_BIND, &plan->bind);
    if (rc == 0)
        rc = address_resolve_bind (&plan->bind);
    return rc;
}

/* On the same host (any port), or beside the control path. */
static int take_bind_live (const char *bind_live, struct node_plan *plan)
{
    if (!bind_live || !*bind_live) {
        plan->live = plan->bind;
        plan->live.port = 0;
        if (plan->bind.kind == ADDRESS_IPC)
            (void) snprintf (plan->live.path, sizeof plan->live.path, "%.*s.live", ADDRESS_BIND_PATH_MAX, plan->bind.path);    /* fits: address_parse saw to it */
        return 0;
    }
    int rc = address_parse (slice_of (bind_live), ADDRESS_TO_BIND, &plan->live);
    if (rc == 0 && plan->live.kind != plan->bind.kind)
        rc = error_set (FM_ERR_ADDRESS, "live address '%.100s': the control address is of another kind; give both as tcp:// or both as ipc://", bind_live);
    return rc == 0 ? address_resolve_bind (&plan->live) : rc;
}

int node_take_options (struct fm_node *node, const struct fm_node_options *options, struct node_plan *ret_plan)
{
    static const struct fm_node_options none;
    const struct fm_node_options *o = options ? options : &none;
    bool seeds_local;
    int rc = take_mesh (node, o->mesh);
    if (rc == 0)
        rc = take_name (node, o->name);
    if (rc == 0)
        rc = take_numbers (node, o);
    if (rc == 0)
        rc = take_seeds (o->seeds, ret_plan, &seeds_local);
    if (rc != 0)
        return rc;
    ret_plan->discover = ret_plan->seed_count == 0 && o->beacon_port != -1;
    ret_plan->advertise = o->advertise;
    ret_plan->advertise_live = o->advertise_live;
    /* A node that looks for others on the network must be reached from there; one that looks nowhere, or on this machine only, stays on it. */
    rc = take_bind (o->bind, seeds_local && !ret_plan->discover, ret_plan);
    if (rc == 0)
        rc = take_bind_live (o->bind_live, ret_plan);
    if (rc != 0)
        return rc;
    if (o->beacon_interface && !(node->beacon_interface = strdup (o->beacon_interface)))
        return -ENOMEM;
    node->notice = o->notice;
    node->notice_arg = o->notice_arg;
    return 0;
}
