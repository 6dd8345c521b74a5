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

/* Go over a record, if all of it is done; over its first facts, if only they are. False: this is as far as it goes. */
static bool pass (const struct recent_record *r, const struct fold_positions *positions, uint64_t *base)
{
    if (id_is_zero (&r->stream))
        return false;
    const uint64_t done = fold_positions_get (positions, &r->stream);
    if (done >= r->end_seq - 1) {
        if (r->end_offset > *base)
            *base = r->end_offset;
        return true;
    }
    /* A batch has an offset for each fact, a gap one for all. */
    const bool batch = r->end_offset - r->offset == r->end_seq - r->first_seq;
    if (batch && done >= r->first_seq && r->offset + (done + 1 - r->first_seq) > *base)
        *base = r->offset + (done + 1 - r->first_seq);
    return false;
}

/* Over what is recent. True: there may be more to go over. */
static bool pass_recent (struct recent *recent, const struct fold_positions *positions, uint64_t synced, uint64_t *base)
{
    struct recent_record page[64];
    const size_t count = recent_copy (recent, *base, page, 64);
    for (size_t i = 0; i < count; i++)
        if (page[i].end_offset > synced || !pass (&page[i], positions, base))
            return false;
    return count > 0;
}

/* Over what must be read, until it is recent. Several gaps may stand at one place, where a hole hid records of several streams: the base goes there only
 * when all of them are done, which the next item behind them shows. What a hole below the base took is told as well, on the way there: it is done. */
static int pass_log (struct log_reader *reader, struct recent *recent, const struct fold_positions *positions, uint64_t *base)
{
    const uint64_t begin = *base;
    uint64_t passed = begin;
    size_t bytes = 0;
    int rc = log_reader_seek_offset (reader, *base);
    for (unsigned n = 0; rc == 0 && n < FOLD_RECORDS_MAX && bytes < FOLD_BYTES_MAX; n++) {
        struct log_item item;
        struct recent_record page;
        uint64_t remaining;
        rc = log_reader_next (reader, &item);
        if (rc)
            break;
        struct recent_record r = { .stream = item.stream, .first_seq = item.first_seq, .end_seq = item.end_seq, .offset = item.offset };
        log_reader_position (reader, &r.end_offset, &remaining);
        if (r.end_offset <= begin)
            continue;
        const bool behind = item.offset >= passed;
        if (behind && passed > *base) {
            *base = passed;
            if (recent_copy (recent, *base, &page, 1))
                return 0;
        }
        const bool astride = item.kind == LOG_ITEM_BATCH && item.offset < *base;
        if (!pass (&r, positions, &passed)) {
            if (behind || astride)
                *base = passed;             /* over the first facts of a batch, or more of the one that it stood in */
            return 0;
        }
        bytes += item.bytes.len;
    }
    if (rc == FM_ERR_END)
        *base = passed;
    return rc == FM_ERR_END ? 0 : rc;
}

int fold_base (struct log_reader *reader, struct recent *recent, const struct fold_positions *positions, uint64_t base, uint64_t synced,
               uint64_t *ret_base)
{
    struct recent_record page;
    uint64_t folded = base;
    if (folded < synced && !recent_copy (recent, folded, &page, 1)) {
        const int rc = pass_log (reader, recent, positions, &folded);
        if (rc)
            return rc;
    }
    while (folded < synced && pass_recent (recent, positions, synced, &folded))
        continue;
    *ret_base = folded;
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
