#include "members.h"

#include <errno.h>
#include <stdlib.h>

#include "marks.h"

struct members {
    struct journal_context *context;
    struct wake *wake;
    bool listening;
    pthread_mutex_t lock;
    struct member *items;
    size_t count, size;
    uint64_t journals_version;
};

static struct member *find (const struct members *m, const struct fm_id *node)
{
    for (size_t i = 0; i < m->count; i++)
        if (id_equal (&m->items[i].node, node))
            return &m->items[i];
    return NULL;
}

/* May it have facts? */
static bool counts (const struct members *m, const struct member *x, uint64_t now)
{
    const uint64_t wait_ns = (uint64_t) m->context->options.holders_wait_ms * 1000000;
    return x->is_journal && x->control[0] && (!x->gone || now < x->gone_ns + wait_ns);
}

/* Drop those that left: all, or those of which nobody wants to know any more. */
static void purge (struct members *m, uint64_t now, bool all)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++)
        if (!m->items[i].gone || (!all && (!m->items[i].forgotten || counts (m, &m->items[i], now))))
            m->items[kept++] = m->items[i];
    if (kept < m->count)
        m->journals_version++;
    m->count = kept;
}

/* Room for one more; those that left make room. NULL: none. */
static struct member *add (struct members *m, const struct fm_id *node)
{
    if (m->count == 2 * MEMBERS_MAX)
        purge (m, 0, true);
    if (m->count == m->size) {
        const size_t size = m->size ? m->size * 2 : 16;
        struct member *grown = m->size < 2 * MEMBERS_MAX ? realloc (m->items, size * sizeof *grown) : NULL;
        if (!grown)
            return NULL;
        m->items = grown;
        m->size = size;
    }
    struct member *x = &m->items[m->count++];
    *x = (struct member) { .node = *node, .gone = true };
    return x;
}

static void on_up (void *arg, const struct node_peer *peer)
{
    struct members *m = arg;
    const bool journal = peer->is_journal && !id_equal (&peer->node, node_id (m->context->node));
    pthread_mutex_lock (&m->lock);
    struct member *x = find (m, &peer->node);
    if (!x)
        x = add (m, &peer->node);
    if (x) {
        if (journal && (x->gone || !x->is_journal || strcmp (x->control, peer->control) != 0))
            m->journals_version++;
        x->gone = x->said_goodbye = x->forgotten = false;
        x->is_journal = journal;
        memcpy (x->control, peer->control, sizeof x->control);
    }
    pthread_mutex_unlock (&m->lock);
    /* Its publishers may have missed watermarks. */
    marks_node_up (m->context->marks, &peer->node);
    log_wake (m->context->log);
    if (journal)
        wake_raise (m->wake);
}

static void on_down (void *arg, const struct fm_id *node, bool said_goodbye)
{
    struct members *m = arg;
    pthread_mutex_lock (&m->lock);
    struct member *x = find (m, node);
    const bool journal = x && x->is_journal && !x->gone;
    if (x) {
        x->gone = true;
        x->said_goodbye = said_goodbye;
        x->gone_ns = node_now ();
    }
    m->journals_version += journal;
    pthread_mutex_unlock (&m->lock);
    if (journal)
        wake_raise (m->wake);
}

int members_new (struct journal_context *context, struct wake *wake, struct members **ret_members)
{
    struct members *m = calloc (1, sizeof *m);
    if (!m)
        return -ENOMEM;
    m->context = context;
    m->wake = wake;
    pthread_mutex_init (&m->lock, NULL);
    const struct node_listener listener = { .arg = m, .up = on_up, .down = on_down };
    const int rc = node_listen (context->node, &listener);
    m->listening = rc == 0;
    if (rc) {
        members_destroy (&m);
        return rc;
    }
    *ret_members = m;
    return 0;
}

void members_destroy (struct members **members)
{
    struct members *m = *members;
    if (!m)
        return;
    *members = NULL;
    if (m->listening)
        node_unlisten (m->context->node, m);
    pthread_mutex_destroy (&m->lock);
    free (m->items);
    free (m);
}

bool members_find (struct members *m, const struct fm_id *node, struct member *ret_member)
{
    pthread_mutex_lock (&m->lock);
    const struct member *x = find (m, node);
    if (x)
        *ret_member = *x;
    pthread_mutex_unlock (&m->lock);
    return x != NULL;
}

void members_forget (struct members *m, const struct fm_id *node)
{
    pthread_mutex_lock (&m->lock);
    struct member *x = find (m, node);
    if (x && x->gone)
        x->forgotten = true;
    purge (m, node_now (), false);
    pthread_mutex_unlock (&m->lock);
}

size_t members_journals (struct members *m, uint64_t now)
{
    size_t count = 0;
    pthread_mutex_lock (&m->lock);
    for (size_t i = 0; i < m->count; i++)
        count += counts (m, &m->items[i], now);
    pthread_mutex_unlock (&m->lock);
    return count;
}

bool members_journal (struct members *m, size_t index, uint64_t now, struct member *ret_member)
{
    bool found = false;
    pthread_mutex_lock (&m->lock);
    for (size_t i = 0; i < m->count && !found; i++)
        if (counts (m, &m->items[i], now) && index-- == 0) {
            *ret_member = m->items[i];
            found = true;
        }
    pthread_mutex_unlock (&m->lock);
    return found;
}

uint64_t members_journals_version (struct members *m)
{
    pthread_mutex_lock (&m->lock);
    const uint64_t version = m->journals_version;
    pthread_mutex_unlock (&m->lock);
    return version;
}
