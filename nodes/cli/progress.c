/* progress: see progress.h. */

#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "options.h"
#include "text.h"

enum { PROGRESS_EVERY_MS = 200, PROGRESS_AFTER_MS = 500 };

void progress_init (struct progress *p, bool quiet)
{
    *p = (struct progress){ .on = !quiet && isatty (STDERR_FILENO), .started_ms = cli_monotonic_ms () };
}

static bool progress_is_due (struct progress *p, uint64_t *ret_now_ms)
{
    if (!p->on)
        return false;
    *ret_now_ms = cli_monotonic_ms ();
    if (*ret_now_ms - p->started_ms < PROGRESS_AFTER_MS || *ret_now_ms - p->drawn_ms < PROGRESS_EVERY_MS)
        return false;
    p->drawn_ms = *ret_now_ms;
    p->shown = true;
    return true;
}

void progress_draw (struct progress *p, uint64_t done, uint64_t all, const char *verb)
{
    uint64_t now;
    if (!progress_is_due (p, &now))
        return;
    char done_text[TEXT_GROUPED], all_text[TEXT_GROUPED], rate_text[TEXT_GROUPED];
    const uint64_t rate = done * 1000 / (now - p->started_ms);
    text_grouped (done, done_text);
    text_grouped (rate, rate_text);
    if (all)
        (void) fprintf (stderr, "\r\033[K%s of %s facts %s, %s/s", done_text, text_grouped (all, all_text), verb,
                        rate_text);
    else
        (void) fprintf (stderr, "\r\033[K%s facts %s, %s/s", done_text, verb, rate_text);
    (void) fflush (stderr);
}

void progress_draw_bytes (struct progress *p, uint64_t done, uint64_t all, const char *verb)
{
    uint64_t now;
    if (!progress_is_due (p, &now))
        return;
    char done_text[TEXT_GROUPED], all_text[TEXT_GROUPED];
    if (all)
        (void) fprintf (stderr, "\r\033[K%s of %s MiB %s", text_grouped (done >> 20, done_text),
                        text_grouped (all >> 20, all_text), verb);
    else
        (void) fprintf (stderr, "\r\033[K%s MiB %s", text_grouped (done >> 20, done_text), verb);
    (void) fflush (stderr);
}

void progress_clear (struct progress *p)
{
    if (!p->shown)
        return;
    (void) fputs ("\r\033[K", stderr);
    p->shown = false;
}
