#include "blob_link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "blob_pool.h"
#include "error.h"

enum { NS_PER_MS = 1000000, LOOK_MS = 50 };     /* the client's descriptor is edge-triggered: look again now and then */

void blob_link_init (struct blob_link *l, struct fm_node *node, const struct fm_blob_options *options)
{
    static const struct fm_blob_options defaults = { .timeout_ms = 0 };
    *l = (struct blob_link) { .node = node, .options = options ? options : &defaults };
    l->progress_ns = l->heard_ns = node_now ();
}

void blob_link_release (struct blob_link *l, bool keep)
{
    if (l->client && keep)
        blob_pool_give (node_blob_pool (l->node), &l->peer, &l->client);
    replay_client_destroy (&l->client);
}

/* --- Which. */

struct search {
    const char *prefix;
    const struct fm_id *wanted;
    struct fm_id *ids;
    size_t count, max;
    char address[FM_PEER_ADDRESS_MAX];
    struct fm_id node;
    uint64_t started_ns;
    bool found;
};

static int look_at (void *arg, const struct fm_member *m)
{
    struct search *s = arg;
    char text[ID_TEXT_LEN + 1];
    if (!m->is_journal || (s->wanted && !id_equal (s->wanted, &m->journal)))
        return 0;
    if (s->prefix && strncmp (id_text (&m->journal, text), s->prefix, strlen (s->prefix)) != 0)
        return 0;
    /* One that was killed is a member for a while beside its successor. */
    if (s->wanted) {
        if (s->found && m->started_ns <= s->started_ns)
            return 0;
        s->started_ns = m->started_ns;
        (void) snprintf (s->address, sizeof s->address, "%s", m->control);
        s->node = m->node;
        s->found = true;
        return 0;
    }
    for (size_t i = 0; i < s->count; i++)
        if (id_equal (&s->ids[i], &m->journal))
            return 0;
    if (s->count == s->max)
        return 0;
    size_t at = s->count++;
    for (; at && memcmp (s->ids[at - 1].bytes, m->journal.bytes, ID_LEN) > 0; at--)
        s->ids[at] = s->ids[at - 1];
    s->ids[at] = m->journal;
    return 0;
}

static int timeout_of (const struct blob_link *l)
{
    return l->options->timeout_ms ? l->options->timeout_ms : BLOB_TIMEOUT_MS;
}

int blob_link_journals (struct blob_link *l, struct fm_id *ret, size_t max, size_t *ret_count)
{
    for (;;) {
        struct search s = { .prefix = l->options->journal, .ids = ret, .max = max };
        int rc = fm_node_members (l->node, look_at, &s);
        if (rc)
            return rc;
        if (s.count) {
            *ret_count = s.count;
            return 0;
        }
        (void) error_set (0, "%s", "no journal is in the mesh");
        (void) blob_link_problem (l, FM_ERR_NO_JOURNAL, l->options->journal ? "the journal that was named is not in the mesh" : "no journal is in the mesh");
        (void) fm_node_wait_journal (l->node, LOOK_MS);     /* either way it is looked for again */
        if (l->options->journal)
            (void) poll (NULL, 0, LOOK_MS);
        rc = blob_link_tend (l, 0, 0);
        if (rc)
            return rc;
    }
}

int blob_link_connect (struct blob_link *l, const struct fm_id *journal)
{
    struct search s = { .wanted = journal };
    blob_link_cut (l, 0);
    l->retry_ns = node_now () + (uint64_t) BLOB_RETRY_MS * NS_PER_MS;
    int rc = fm_node_members (l->node, look_at, &s);
    if (!rc && !s.found)
        rc = blob_link_problem (l, FM_ERR_UNKNOWN, "the journal is away");
    if (rc)
        return rc;
    l->client = blob_pool_take (node_blob_pool (l->node), &s.node);
    l->untried = l->client != NULL;
    if (!l->client)
        rc = replay_client_new (l->node, s.address, &l->client);
    if (rc)
        return rc;
    l->peer = s.node;
    l->last_request = replay_client_last (l->client);
    l->journal = *journal;
    l->chosen = true;
    l->heard_ns = l->asked_ns = node_now ();
    return 0;
}

bool blob_link_is_lost (const struct blob_link *l, uint64_t now_ns)
{
    return l->client && now_ns - l->heard_ns >= (uint64_t) (l->untried ? BLOB_AGAIN_MS : BLOB_SILENT_MS) * NS_PER_MS;
}

bool blob_link_is_silent (struct blob_link *l, uint64_t now_ns)
{
    const uint64_t since = l->heard_ns > l->asked_ns ? l->heard_ns : l->asked_ns;
    if (!l->client || now_ns - since < (uint64_t) BLOB_AGAIN_MS * NS_PER_MS)
        return false;
    l->asked_ns = now_ns;
    return true;
}

void blob_link_cut (struct blob_link *l, unsigned retry_ms)
{
    replay_client_destroy (&l->client);
    l->retry_ns = node_now () + (uint64_t) retry_ms * NS_PER_MS;
}

/* --- Waiting. */

static bool take_next (struct blob_link *l, struct replay_event *ret_event)
{
    while (l->client && replay_client_receive (l->client, ret_event) == 0) {
        if (ret_event->request <= l->last_request)
            continue;
        l->heard_ns = node_now ();
        l->untried = false;
        return true;
    }
    return false;
}

int blob_link_next (struct blob_link *l, uint64_t until_ns, struct replay_event *ret_event)
{
    const uint64_t now = node_now ();
    if (take_next (l, ret_event))
        return 0;
    if (until_ns <= now)
        return -EAGAIN;
    const uint64_t wait_ms = (until_ns - now) / NS_PER_MS + 1;
    struct pollfd wait = { .fd = l->client ? replay_client_fd (l->client) : -1, .events = POLLIN };
    (void) poll (&wait, 1, wait_ms < LOOK_MS ? (int) wait_ms : LOOK_MS);        /* whatever it returns, it is looked again */
    return take_next (l, ret_event) ? 0 : -EAGAIN;
}

void blob_link_moved (struct blob_link *l)
{
    l->progress_ns = l->heard_ns = node_now ();
    l->problem = 0;
}

int blob_link_problem (struct blob_link *l, int code, const char *text)
{
    l->problem = code;
    (void) snprintf (l->problem_text, sizeof l->problem_text, "%s", text);
    return code;
}

int blob_link_tend (struct blob_link *l, uint64_t done, uint64_t size)
{
    const uint64_t now = node_now ();
    if (l->options->progress && now - l->told_ns >= (uint64_t) BLOB_PROGRESS_MS * NS_PER_MS) {
        l->told_ns = now;
        const int rc = l->options->progress (l->options->progress_arg, done, size);
        if (rc)
            return rc;
    }
    const int timeout_ms = timeout_of (l);
    if (timeout_ms < 0 || now - l->progress_ns < (uint64_t) timeout_ms * NS_PER_MS)
        return 0;
    if (l->problem == FM_ERR_NO_JOURNAL || l->problem == -ENOSPC)
        return error_set (l->problem, "blob: %s; waited %d ms", l->problem_text, timeout_ms);
    return error_set (FM_TIMEOUT, "blob: no progress for %d ms%s%s", timeout_ms, l->problem ? ": " : "", l->problem ? l->problem_text : "");
}

int blob_link_error (Factmesh__ErrorCode code)
{
    switch (code) {
    case FACTMESH__ERROR_CODE__ERROR_UNKNOWN_BLOB:
        return FM_ERR_UNKNOWN;
    case FACTMESH__ERROR_CODE__ERROR_BLOB_DAMAGED:
    case FACTMESH__ERROR_CODE__ERROR_BLOB_DIGEST:
        return FM_ERR_CORRUPT;
    case FACTMESH__ERROR_CODE__ERROR_UNKNOWN_UPLOAD:
        return FM_ERR_CLOSED;
    case FACTMESH__ERROR_CODE__ERROR_RANGE:
        return FM_ERR_TOO_LARGE;
    case FACTMESH__ERROR_CODE__ERROR_MALFORMED:
        return FM_ERR_MALFORMED;
    case FACTMESH__ERROR_CODE__ERROR_VERSION:
        return FM_ERR_VERSION;
    case FACTMESH__ERROR_CODE__ERROR_MESH:
        return FM_ERR_MESH;
    case FACTMESH__ERROR_CODE__ERROR_LIMIT:
        return FM_ERR_LIMIT;
    case FACTMESH__ERROR_CODE__ERROR_DISK_FULL:
        return -ENOSPC;
    case FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL:
        return FM_ERR_NO_JOURNAL;
    default:
        return -EIO;
    }
}
