#include "fold.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"

static int position_compare (const void *a, const void *b)
{
    const struct fold_position *x = a, *y = b;
    return memcmp (x->stream.bytes, y->stream.bytes, ID_LEN);
}

/* Sort, and keep of each stream the largest. */
static void positions_normalize (struct fold_positions *p)
{
    if (p->count < 2)
        return;
    qsort (p->items, p->count, sizeof *p->items, position_compare);
    size_t kept = 1;
    for (size_t i = 1; i < p->count; i++) {
        struct fold_position *last = &p->items[kept - 1];
        if (!id_equal (&last->stream, &p->items[i].stream))
            p->items[kept++] = p->items[i];
        else if (p->items[i].seq > last->seq)
            last->seq = p->items[i].seq;
    }
    p->count = kept;
}

int fold_positions_copy (const Factmesh__Cursor *cursor, struct fold_positions *ret_positions)
{
    if (cursor->n_positions > CURSOR_POSITIONS_MAX)
        return error_set (FM_ERR_LIMIT, "a cursor of %zu positions: at most %d", cursor->n_positions, (int) CURSOR_POSITIONS_MAX);
    struct fold_positions p = { .items = NULL, .count = cursor->n_positions };
    if (p.count && !(p.items = calloc (p.count, sizeof *p.items)))
        return -ENOMEM;
    for (size_t i = 0; i < p.count; i++) {
        const int rc = control_get_id (&cursor->positions[i]->stream, &p.items[i].stream);
        if (rc || id_is_zero (&p.items[i].stream)) {
            free (p.items);
            return error_set (FM_ERR_MALFORMED, "a cursor's position %zu names no stream", i);
        }
        p.items[i].seq = cursor->positions[i]->seq;
    }
    positions_normalize (&p);
    *ret_positions = p;
    return 0;
}

void fold_positions_release (struct fold_positions *p)
{
    free (p->items);
    *p = (struct fold_positions) { .items = NULL };
}

uint64_t fold_positions_get (const struct fold_positions *p, const struct fm_id *stream)
{
    if (!p->count)
        return 0;
    const struct fold_position key = { .stream = *stream };
    const struct fold_position *found = bsearch (&key, p->items, p->count, sizeof *p->items, position_compare);
    return found ? found->seq : 0;
}

/* Is all of the item done? When only its first facts are, *ret_base is the first offset that is not. */
static bool item_is_done (const struct log_item *item, const struct fold_positions *positions, uint64_t *ret_base)
{
    *ret_base = item->offset;
    if (id_is_zero (&item->stream))
        return false;
    const uint64_t done = fold_positions_get (positions, &item->stream);
    if (done >= item->end_seq - 1)
        return true;
    if (item->kind == LOG_ITEM_BATCH && done >= item->first_seq)
        *ret_base = item->offset + (done + 1 - item->first_seq);
    return false;
}

int fold_base (struct log_reader *reader, const struct fold_positions *positions, uint64_t base, uint64_t *ret_base)
{
    int rc = log_reader_seek_offset (reader, base);
    if (rc)
        return rc;
    uint64_t folded = base;
    for (unsigned n = 0; n < FOLD_RECORDS_MAX; n++) {
        struct log_item item;
        rc = log_reader_next (reader, &item);
        if (rc == FM_ERR_END)
            break;
        if (rc)
            return rc;
        uint64_t undone;
        if (!item_is_done (&item, positions, &undone)) {
            if (undone > folded)
                folded = undone;
            break;
        }
        uint64_t remaining;
        log_reader_position (reader, &folded, &remaining);
    }
    *ret_base = folded > base ? folded : base;
    return 0;
}

void fold_trim (struct fold_positions *p, struct log *log, uint64_t base)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct log_stream s;
        /* Done beyond what is recorded: the facts were taken live, and will be recorded above the base. */
        const bool says_something = log_stream_get (log, &p->items[i].stream, &s) != 0 || p->items[i].seq > s.last_seq
                                    || s.last_offset >= base;
        if (says_something)
            p->items[kept++] = p->items[i];
    }
    p->count = kept;
}
