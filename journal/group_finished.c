/* group_finished: a ring, newest first when it is searched; searched only when an instance comes anew. */

#include "group_finished.h"

#include <stdlib.h>

void group_finished_keep (struct group_finished *f, uint64_t offset, uint64_t token, uint64_t until)
{
    if (!f->items)
        f->items = calloc (GROUP_FINISHED_MAX, sizeof *f->items);
    if (!f->items)
        return;
    f->items[f->next] = (struct finished) { .offset = offset, .token = token, .until = until };
    f->next = (f->next + 1) % GROUP_FINISHED_MAX;
    f->count += f->count < GROUP_FINISHED_MAX;
}

uint64_t group_finished_find (const struct group_finished *f, uint64_t offset, uint64_t now)
{
    for (uint32_t i = 1; i <= f->count; i++) {
        const struct finished *item = &f->items[(f->next + GROUP_FINISHED_MAX - i) % GROUP_FINISHED_MAX];
        if (item->until <= now)
            return 0;
        if (item->offset == offset)
            return item->token;
    }
    return 0;
}

void group_finished_release (struct group_finished *f)
{
    free (f->items);
    *f = (struct group_finished) { .items = NULL };
}
