/* flood: frequent routes by J. Misra and D. Gries, "Finding repeated elements", Science of Computer Programming 2 (1982): a route without a place
 * takes one message from each that has one, so that only those which send many keep theirs. */

#include "flood.h"

#define WINDOW_NS (FLOOD_WINDOW_MS * UINT64_C (1000000))

static void count (struct flood *f, uint64_t route, uint32_t messages, uint32_t *ret_messages)
{
    unsigned i = 0;
    while (i < f->count && f->seen[i].route != route)
        i++;
    if (i < f->count) {
        f->seen[i].messages += messages;
        *ret_messages = f->seen[i].messages;
        return;
    }
    *ret_messages = messages;
    if (f->count < FLOOD_ROUTES) {
        f->seen[f->count].route = route;
        f->seen[f->count++].messages = messages;
        return;
    }
    unsigned kept = 0;
    for (i = 0; i < f->count; i++) {
        if (f->seen[i].messages > messages) {
            f->seen[kept] = f->seen[i];
            f->seen[kept++].messages -= messages;
        }
    }
    f->count = kept;
}

bool flood_admits (struct flood *f, uint64_t route, uint64_t now_ns)
{
    uint32_t messages;
    if (now_ns >= f->until_ns) {
        f->count = 0;
        f->until_ns = now_ns + WINDOW_NS;
    }
    count (f, route, 1, &messages);
    return messages <= FLOOD_MESSAGES;
}

void flood_refused (struct flood *f, uint64_t route)
{
    uint32_t messages;
    count (f, route, FLOOD_REFUSED - 1, &messages);
}

void flood_is_over (struct flood *f)
{
    f->count = 0;
}
