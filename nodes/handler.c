/* handler: one fact through a handler, in the order that its effect needs.
 *
 *     taken --> expired? done
 *           --> in doubt? check: happened -> done; can't tell -> parked
 *           --> effects outside: the intent, durable --> run --> outcome
 *
 * A handler that was cut short (FM_UNSURE) is in doubt at once.
 *
 * A crash before the intent is durable: the effect has not begun, and the fact is handed out again. After it: in doubt. */

#include "error.h"
#include "worker_inner.h"

enum { BEGIN_TIMEOUT_MS = 10000, DELAY_MS = 1000 };
static const char doubt[] = "in doubt: its effect began and was cut short, and nobody can tell whether it happened";

static bool has_effect_outside (const struct fm_worker *w)
{
    return w->effect == FM_ONCE || w->effect == FM_ONCE_PER_VERSION || w->effect == FM_ON_CORRECTION;
}

static int conclude (struct fm_worker *w, enum fm_outcome outcome, int delay_ms, const char *reason)
{
    switch (outcome) {
    case FM_DONE:
        return fm_work_done (w);
    case FM_LATER:
        return fm_work_later (w, delay_ms);
    case FM_PARK:
        return fm_work_park (w, reason);
    case FM_FAILED:
    case FM_UNSURE:                     /* was asked */
        break;
    }
    return fm_work_failed (w, reason);
}

/* Its handler does not know whether it had its effect. */
static enum fm_outcome ask (const struct fm_worker *w, const struct fm_handler *h, const struct fm_work *work, const char **reason)
{
    if (!has_effect_outside (w))
        return FM_FAILED;
    switch (h->check ? h->check (h->arg, work) : FM_CANT_TELL) {
    case FM_HAPPENED:
        return FM_DONE;
    case FM_NOT_HAPPENED:
        return FM_FAILED;
    case FM_CANT_TELL:
        break;
    }
    if (!*reason)
        *reason = doubt;
    return FM_PARK;
}

/* True: run it. Else it was concluded. */
static bool settle_doubt (struct fm_worker *w, const struct fm_handler *h, const struct fm_work *work)
{
    /* Without a check whoever has it replayed has decided. */
    if (!h->check && (work->flags & FM_WORK_BY_HAND))
        return true;
    switch (h->check ? h->check (h->arg, work) : FM_CANT_TELL) {
    case FM_HAPPENED:
        (void) fm_work_done (w);        /* too late: whoever has it now finds the same */
        return false;
    case FM_NOT_HAPPENED:
        return true;
    case FM_CANT_TELL:
        break;
    }
    (void) fm_work_park (w, doubt);
    return false;
}

int fm_worker_handle (struct fm_worker *w, const struct fm_handler *h, int timeout_ms)
{
    struct fm_work work;
    int rc = fm_worker_next (w, timeout_ms, &work);
    if (rc)
        return rc;
    if (!h->expired_too && fm_fact_expired (&work.fact)) {
        (void) fm_work_done (w);
        return 0;
    }
    if ((work.flags & FM_WORK_IN_DOUBT) && has_effect_outside (w) && !settle_doubt (w, h, &work))
        return 0;
    if (has_effect_outside (w)) {
        rc = fm_work_begin (w, BEGIN_TIMEOUT_MS);
        if (rc) {
            /* The journal is away, or another instance has it: nothing has begun here. */
            (void) fm_work_later (w, 0);
            return rc == FM_ERR_LEASE || rc == FM_TIMEOUT ? 0 : rc;
        }
    }
    int delay_ms = DELAY_MS;
    const char *reason = NULL;
    enum fm_outcome outcome = h->run (h->arg, &work, &delay_ms, &reason);
    if (outcome == FM_UNSURE)
        outcome = ask (w, h, &work, &reason);
    if (conclude (w, outcome, delay_ms, reason) == FM_ERR_LEASE)
        node_notice (w->node, "WORK-TOO-LATE", "%s", fm_error_detail ());
    return 0;
}
