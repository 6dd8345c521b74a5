/* The connections to those of whom facts are asked, and how long an answer is waited for.
 *
 * Answers come one after the other: over a slow connection one's own waits behind others', those to questions that were given up among them. To ask again
 * would put yet another one behind them, until nothing that comes is wanted any more. So as long as anything comes an answer is waited for. But holders serve
 * questions in turns, a new one last: when something comes that was asked for after one heard last of an answer, that was lost, with a connection that
 * broke. Where nothing is asked later, or only what went on before comes, a lost one is asked again after minutes. A connection that takes long for a
 * message, and not the application before it looks for it, is given longer for the next one; and each question that is given up, for the same hole, doubles
 * the wait: the slow link may be our own, and other connections' answers fill it. */

#include "subscription.h"
#include "error.h"

#include <assert.h>
#include <stdlib.h>

/* --- Which there are. */

static void holder_lost (struct fm_subscription *s, struct holder *h)
{
    if (h == s->session_holder)
        subscription_session_lost (s);
    for (size_t i = 0; i < SUBSCRIPTION_QUESTIONS_MAX; i++) {
        if (s->repairs[i].stream && s->repairs[i].holder == h)
            subscription_repair_over (s, &s->repairs[i], SUBSCRIPTION_RETRY_MS);
    }
}

static void holder_destroy (struct fm_subscription *s, struct holder **place)
{
    struct holder *h = *place;
    holder_lost (s, h);
    *place = h->next;
    subscription_unwatch (s, replay_client_fd (h->client));
    replay_client_destroy (&h->client);
    free (h);
}

void subscription_holders_release (struct fm_subscription *s)
{
    while (s->holders)
        holder_destroy (s, &s->holders);
}

/* The questions that there may be at a time, and the session, leave some holders unused. */
static_assert (SUBSCRIPTION_QUESTIONS_MAX + 1 < SUBSCRIPTION_HOLDERS_MAX, "a holder can always give way");

/* Room for one more: of those that nobody uses the one that rested longest goes. */
static void holder_make_room (struct fm_subscription *s)
{
    size_t count = 0;
    struct holder **oldest = NULL;
    for (struct holder **place = &s->holders; *place; place = &(*place)->next) {
        count++;
        if (replay_client_sessions ((*place)->client) == 0 && (!oldest || (*place)->used_ns < (*oldest)->used_ns))
            oldest = place;
    }
    if (count == SUBSCRIPTION_HOLDERS_MAX)
        holder_destroy (s, oldest);
}

struct holder *subscription_holder (struct fm_subscription *s, const struct live_peer *peer)
{
    for (struct holder *h = s->holders; h; h = h->next) {
        if (id_equal (&h->node, &peer->info.node))
            return h;
    }
    holder_make_room (s);
    struct holder *h = calloc (1, sizeof *h);
    if (!h)
        return NULL;
    h->node = peer->info.node;
    h->used_ns = node_now ();
    if (replay_client_new (s->node, peer->info.control, &h->client) != 0
        || subscription_watch (s, replay_client_fd (h->client), h) != 0) {
        replay_client_destroy (&h->client);
        free (h);
        return NULL;
    }
    h->ready = true;
    h->next = s->holders;
    s->holders = h;
    return h;
}

void subscription_holders_update (struct fm_subscription *s, uint64_t now_ns)
{
    const uint64_t changes = live_set_changes (s->live);
    const bool changed = changes != s->changes_seen;
    s->changes_seen = changes;
    if (changed && subscription_journal (s, false, 0))
        s->journal_seen = true;
    if (changed)
        subscription_session_look (s);
    for (struct holder **place = &s->holders; *place;) {
        struct holder *h = *place;
        const bool idle = replay_client_sessions (h->client) == 0 && now_ns > h->used_ns + NS_OF_MS (SUBSCRIPTION_HOLDER_IDLE_MS);
        if (idle || (changed && !subscription_peer (s, &h->node)))
            holder_destroy (s, place);
        else
            place = &h->next;
    }
    if (s->holders)
        subscription_due (s, now_ns + NS_OF_MS (SUBSCRIPTION_HOLDER_IDLE_MS));
}

/* --- Silence. */

/* Does it owe an answer? The session does not, once it is caught up. */
static bool owes (const struct fm_subscription *s, const struct holder *h)
{
    return replay_client_sessions (h->client) > (h == s->session_holder && !s->session_owes);
}

void subscription_holder_asked (struct holder *h, uint64_t now_ns)
{
    h->used_ns = now_ns;
    if (!h->owes_ns)
        h->owes_ns = now_ns;
}

void subscription_holder_answered (struct fm_subscription *s, const struct holder *h, uint64_t asked_ns, uint64_t now_ns)
{
    if (h == s->session_holder && s->session_heard_ns < asked_ns && !s->session_passed_ns)
        s->session_passed_ns = now_ns;
    for (size_t i = 0; i < SUBSCRIPTION_QUESTIONS_MAX; i++) {
        struct repair *r = &s->repairs[i];
        if (r->stream && r->holder == h && r->heard_ns < asked_ns && !r->passed_ns)
            r->passed_ns = now_ns;
    }
}

void subscription_holder_ended (const struct fm_subscription *s, struct holder *h)
{
    if (!owes (s, h))
        h->owes_ns = 0;
}

/* How long what came took at least: what is read late may have come soon, and waited for the application. */
static uint64_t took_ns (const struct fm_subscription *s, const struct holder *h)
{
    const uint64_t empty_ns = h->empty_ns > s->waited_ns ? h->empty_ns : s->waited_ns;
    return empty_ns > h->owes_ns ? empty_ns - h->owes_ns : 0;
}

void subscription_holder_heard (const struct fm_subscription *s, struct holder *h)
{
    const uint64_t messages = replay_client_messages (h->client);
    if (messages == h->messages)
        return;
    h->messages = messages;
    h->heard_ns = node_now ();
    if (h->owes_ns) {
        const uint64_t twice = 2 * took_ns (s, h), less = h->patience_ns - h->patience_ns / 8;
        h->patience_ns = twice > less ? twice : less;
        if (h->patience_ns > NS_OF_MS (SUBSCRIPTION_SLOW_MS))
            h->patience_ns = NS_OF_MS (SUBSCRIPTION_SLOW_MS);
    }
    h->owes_ns = owes (s, h) ? h->heard_ns : 0;
}

uint64_t subscription_holder_silent (const struct holder *h, uint64_t heard_ns, uint64_t passed_ns, uint64_t silent_ns)
{
    const uint64_t unheard_ns = heard_ns + NS_OF_MS (SUBSCRIPTION_UNHEARD_MS);
    const uint64_t moved_ns = h->heard_ns > heard_ns ? h->heard_ns : heard_ns;
    const uint64_t since_ns = passed_ns ? passed_ns : moved_ns < unheard_ns ? moved_ns : unheard_ns;
    return since_ns + (silent_ns > h->patience_ns ? silent_ns : h->patience_ns);
}
