#include "fact_finder.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "slot_map.h"

enum { RING_SIZE = 8192 };              /* facts in the cache, at most */

struct cached {
    uint64_t offset;
    uint8_t *bytes;                     /* NULL: free */
    size_t len;
};

struct fact_finder {
    struct log *log;
    struct log_reader *reader;          /* NULL: not needed yet */
    struct batch_scratch scratch;
    uint8_t *found;                     /* what was read last */
    size_t found_size, found_len;
    uint64_t found_offset;
    size_t cache_bytes, cache_max;
    struct slot_map by_offset;
    struct cached ring[RING_SIZE];      /* [first, first + count): the oldest goes first. Slot n is ring[n - 1] */
    uint32_t first, count;
};

int fact_finder_new (struct log *log, size_t cache_bytes, struct fact_finder **ret_finder)
{
    struct fact_finder *f = calloc (1, sizeof *f);
    if (!f)
        return -ENOMEM;
    f->log = log;
    f->cache_max = cache_bytes;
    slot_map_init (&f->by_offset);
    *ret_finder = f;
    return 0;
}

static void drop_oldest (struct fact_finder *f)
{
    struct cached *c = &f->ring[f->first];
    slot_map_remove (&f->by_offset, c->offset);
    f->cache_bytes -= c->len;
    free (c->bytes);
    *c = (struct cached) { .bytes = NULL };
    f->first = (f->first + 1) % RING_SIZE;
    f->count--;
}

void fact_finder_destroy (struct fact_finder **finder)
{
    struct fact_finder *f = *finder;
    if (!f)
        return;
    while (f->count)
        drop_oldest (f);
    slot_map_release (&f->by_offset);
    log_reader_destroy (&f->reader);
    batch_scratch_release (&f->scratch);
    free (f->found);
    free (f);
    *finder = NULL;
}

void fact_finder_put (struct fact_finder *f, uint64_t offset, const struct batch *b, const struct fm_fact *fact)
{
    const size_t bound = batch_extract_bound (b, fact);
    if (bound > f->cache_max || slot_map_find (&f->by_offset, offset))
        return;
    while (f->count == RING_SIZE || (f->count && f->cache_bytes + bound > f->cache_max))
        drop_oldest (f);
    uint8_t *bytes = malloc (bound);
    if (!bytes)
        return;
    const uint32_t at = (f->first + f->count) % RING_SIZE;
    if (slot_map_put (&f->by_offset, offset, at + 1)) {
        free (bytes);
        return;
    }
    f->ring[at] = (struct cached) { .offset = offset, .bytes = bytes, .len = (size_t) (batch_extract (bytes, b, fact) - bytes) };
    f->cache_bytes += f->ring[at].len;
    f->count++;
}

static int need_reader (struct fact_finder *f)
{
    if (f->reader)
        return 0;
    return log_reader_new (f->log, &f->reader);
}

/* The record that the reader was put to. What a hole on the way to it took is told before, and says nothing of it. */
static int next_record (struct fact_finder *f, struct log_item *ret_item)
{
    uint64_t before, behind, remaining;
    int rc;
    log_reader_position (f->reader, &before, &remaining);
    do {
        rc = log_reader_next (f->reader, ret_item);
        log_reader_position (f->reader, &behind, &remaining);
    } while (rc == 0 && ret_item->kind == LOG_ITEM_GAP && behind == before);
    return rc == FM_ERR_END ? FM_ERR_UNKNOWN : rc;
}

/* Of the batch that the reader comes to next: the fact at that offset, or of that sequence. */
static int extract_next (struct fact_finder *f, uint64_t offset, uint64_t seq, uint64_t *ret_offset)
{
    struct log_item item;
    int rc = next_record (f, &item);
    if (rc)
        return rc;
    if (item.kind != LOG_ITEM_BATCH || !item.bytes.len)
        return FM_ERR_UNKNOWN;
    const uint64_t at = seq ? seq - item.first_seq : offset - item.offset;
    if ((seq ? seq < item.first_seq : offset < item.offset) || at >= item.end_seq - item.first_seq)
        return FM_ERR_UNKNOWN;
    struct batch b;
    struct batch_reader reader;
    struct fm_fact fact;
    rc = batch_decode (item.bytes.data, item.bytes.len, slice (NULL, 0), &f->scratch, &b);
    if (rc)
        return rc == -ENOMEM ? rc : FM_ERR_UNKNOWN;
    batch_reader_init (&reader, &b);
    if (batch_reader_skip (&reader, at) || batch_reader_next (&reader, &fact))
        return FM_ERR_UNKNOWN;
    const size_t bound = batch_extract_bound (&b, &fact);
    if (bound > f->found_size) {
        uint8_t *bigger = realloc (f->found, bound);
        if (!bigger)
            return -ENOMEM;
        f->found = bigger;
        f->found_size = bound;
    }
    f->found_len = (size_t) (batch_extract (f->found, &b, &fact) - f->found);
    f->found_offset = item.offset + at;
    *ret_offset = f->found_offset;
    return 0;
}

int fact_finder_at (struct fact_finder *f, uint64_t offset, struct fm_slice *ret_batch)
{
    const uint32_t slot = slot_map_find (&f->by_offset, offset);
    if (slot) {
        *ret_batch = slice (f->ring[slot - 1].bytes, f->ring[slot - 1].len);
        return 0;
    }
    if (f->found_len && f->found_offset == offset) {
        *ret_batch = slice (f->found, f->found_len);
        return 0;
    }
    int rc = need_reader (f);
    if (!rc)
        rc = log_reader_filter (f->reader, NULL, NULL, 0);
    if (!rc)
        rc = log_reader_seek_offset (f->reader, offset);
    f->found_len = 0;
    uint64_t at;
    if (!rc)
        rc = extract_next (f, offset, 0, &at);
    if (!rc)
        *ret_batch = slice (f->found, f->found_len);
    return rc;
}

int fact_finder_read (struct fact_finder *f, uint64_t offset, struct fm_slice *ret_batch, struct fm_fact *ret_fact)
{
    struct batch b;
    struct batch_reader reader;
    int rc = fact_finder_at (f, offset, ret_batch);
    if (!rc)
        rc = batch_decode (ret_batch->data, ret_batch->len, slice (NULL, 0), &f->scratch, &b);
    if (rc)
        return rc;
    batch_reader_init (&reader, &b);
    return batch_reader_next (&reader, ret_fact);
}

int fact_finder_offset (struct fact_finder *f, const struct fm_fact_id *id, uint64_t *ret_offset)
{
    int rc = need_reader (f);
    if (!rc)
        rc = log_reader_filter (f->reader, &id->stream, NULL, 0);
    uint64_t offset;
    if (!rc)
        rc = log_reader_seek_seq (f->reader, &id->stream, id->seq, &offset);
    f->found_len = 0;
    if (!rc)
        rc = extract_next (f, 0, id->seq, &offset);
    if (!rc)
        *ret_offset = offset;
    return rc;
}

int fact_finder_root (struct fact_finder *f, const struct fm_fact *fact, struct fm_fact_id *ret_root, uint64_t *ret_offset)
{
    struct fm_fact_id id = fact->corrects;
    char text[ID_TEXT_LEN + 1];
    for (unsigned steps = 0; steps < FACT_FINDER_CHAIN_MAX; steps++) {
        uint64_t offset;
        struct fm_slice bytes;
        struct fm_fact earlier;
        int rc = fact_finder_offset (f, &id, &offset);
        if (!rc)
            rc = fact_finder_read (f, offset, &bytes, &earlier);
        struct log_stream known;
        if (rc == FM_ERR_UNKNOWN && log_stream_get (f->log, &id.stream, &known) == 0 && id.seq < known.first_seq)
            return FM_ERR_END;
        if (rc == FM_ERR_UNKNOWN)
            return error_set (rc, "corrects %s:%llu, which is not recorded here", id_text (&id.stream, text), (unsigned long long) id.seq);
        if (rc)
            return rc;
        if (id_is_zero (&earlier.corrects.stream)) {
            *ret_root = id;
            *ret_offset = offset;
            return 0;
        }
        id = earlier.corrects;
    }
    return error_set (FM_ERR_LIMIT, "a chain of more than %d corrections, or a circle of them", (int) FACT_FINDER_CHAIN_MAX);
}
