/* hooks: see hooks.h. */

#include "hooks.h"

#include <assert.h>
#include <stdlib.h>

void hooks_init (struct hook_list *list)
{
    *list = (struct hook_list) { .first_order = HOOKS_ORDER_START, .last_order = HOOKS_ORDER_START - 1 };
    int rc = pthread_mutex_init (&list->lock, NULL);
    assert (rc == 0);
    rc = pthread_cond_init (&list->idle, NULL);
    assert (rc == 0);
    (void) rc;      /* used by the asserts alone; neither can fail with default attributes */
}

void hooks_release (struct hook_list *list)
{
    while (list->first) {
        struct hook *h = list->first;
        list->first = h->next;
        assert (h->calls == 0);
        free (h);
    }
    (void) pthread_cond_destroy (&list->idle);      /* nobody waits: all threads of the node have ended */
    (void) pthread_mutex_destroy (&list->lock);
}

static void lock (struct hook_list *list)
{
    const int rc = pthread_mutex_lock (&list->lock);
    assert (rc == 0);
    (void) rc;
}

static void unlock (struct hook_list *list)
{
    const int rc = pthread_mutex_unlock (&list->lock);
    assert (rc == 0);
    (void) rc;
}

static struct hook *hook_new (const struct hook *hook, bool begun)
{
    struct hook *h = malloc (sizeof *h);
    if (!h)
        return NULL;
    *h = *hook;
    h->next = NULL;
    h->removed = h->removed_within = false;
    h->calls = begun ? 1 : 0;
    h->caller = pthread_self ();
    return h;
}

struct hook *hooks_add (struct hook_list *list, const struct hook *hook, bool begun)
{
    struct hook *h = hook_new (hook, begun);
    if (!h)
        return NULL;
    lock (list);
    h->order = ++list->last_order;
    struct hook **end = &list->first;
    while (*end)
        end = &(*end)->next;
    *end = h;
    unlock (list);
    return h;
}

struct hook *hooks_add_first (struct hook_list *list, const struct hook *hook)
{
    struct hook *h = hook_new (hook, false);
    if (!h)
        return NULL;
    lock (list);
    h->order = --list->first_order;
    h->next = list->first;
    list->first = h;
    unlock (list);
    return h;
}

size_t hooks_count (struct hook_list *list, bool (*is_so) (const struct hook *hook))
{
    size_t count = 0;
    lock (list);
    for (const struct hook *h = list->first; h; h = h->next)
        count += is_so (h);
    unlock (list);
    return count;
}

void hooks_remove (struct hook_list *list, const void *arg)
{
    lock (list);
    for (struct hook **link = &list->first; *link;) {
        struct hook *h = *link;
        if (h->arg != arg) {
            link = &h->next;
            continue;
        }
        *link = h->next;
        h->removed = true;
        if (h->calls > 0 && pthread_equal (h->caller, pthread_self ())) {
            h->removed_within = true;       /* hooks_end frees it */
            continue;
        }
        if (h->calls > 0) {
            while (h->calls > 0)
                (void) pthread_cond_wait (&list->idle, &list->lock);
            free (h);
            link = &list->first;            /* the list may have changed while we waited */
            continue;
        }
        free (h);
    }
    while (list->pins > 0 && !pthread_equal (list->pinner, pthread_self ()))
        (void) pthread_cond_wait (&list->idle, &list->lock);
    unlock (list);
}

struct hook *hooks_begin (struct hook_list *list, uint64_t *order)
{
    lock (list);
    struct hook *h;
    for (;;) {
        for (h = list->first; h && h->order <= *order; h = h->next) {
        }
        if (!h || h->calls == 0 || pthread_equal (h->caller, pthread_self ()))
            break;
        (void) pthread_cond_wait (&list->idle, &list->lock);    /* then look again: it may be gone */
    }
    if (h) {
        h->calls++;
        h->caller = pthread_self ();
        *order = h->order;
    }
    unlock (list);
    return h;
}

void hooks_end (struct hook_list *list, struct hook *hook)
{
    lock (list);
    assert (hook->calls > 0);
    hook->calls--;
    const bool ours = hook->calls == 0 && hook->removed_within;
    if (hook->calls == 0)
        (void) pthread_cond_broadcast (&list->idle);
    unlock (list);
    if (ours)
        free (hook);
}

void hooks_pin (struct hook_list *list)
{
    lock (list);
    assert (list->pins == 0 || pthread_equal (list->pinner, pthread_self ()));
    list->pins++;
    list->pinner = pthread_self ();
    unlock (list);
}

void hooks_unpin (struct hook_list *list)
{
    lock (list);
    assert (list->pins > 0);
    if (--list->pins == 0)
        (void) pthread_cond_broadcast (&list->idle);
    unlock (list);
}
