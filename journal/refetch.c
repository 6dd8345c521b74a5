#include "refetch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "error.h"
#include "factmesh.pb-c.h"
#include "identities.h"

static const char file_name[] = "refetched.tmp";

void refetch_init (struct refetch *f, struct log *log)
{
    *f = (struct refetch) { .log = log, .fd = -1 };
}

void refetch_release (struct refetch *f)
{
    const struct fs *fs = f->log->fs;
    if (f->fd >= 0) {
        (void) fs->close (fs->context, f->fd);      /* of no meaning from now on */
        (void) fs->unlink (fs->context, f->log->segments, file_name);   /* and the next one is made anew */
    }
    free (f->ranges);
    free (f->parts);
    free (f->gaps);
    free (f->cut);
    batch_scratch_release (&f->scratch);
    *f = (struct refetch) { .log = f->log, .fd = -1 };
}

/* Room for one more item of an array that doubles. */
static int grow (void **items, size_t count, size_t *size, size_t item_len)
{
    if (count < *size)
        return 0;
    const size_t more = *size ? 2 * *size : 64;
    void *bigger = realloc (*items, more * item_len);
    if (!bigger)
        return -ENOMEM;
    *items = bigger;
    *size = more;
    return 0;
}

int refetch_add (struct refetch *f, const struct log_lost *lost)
{
    void *items = f->ranges;
    const int rc = grow (&items, f->range_count, &f->range_size, sizeof *f->ranges);
    f->ranges = items;
    if (rc == 0)
        f->ranges[f->range_count++] = (struct refetch_range) { .lost = *lost };
    return rc;
}

static int put_part (struct refetch *f, const struct refetch_part *part)
{
    void *items = f->parts;
    if (f->part_count == REFETCH_PARTS_MAX)
        return error_set (FM_ERR_LIMIT, "more than %d parts to refetch for one segment", (int) REFETCH_PARTS_MAX);
    const int rc = grow (&items, f->part_count, &f->part_size, sizeof *f->parts);
    f->parts = items;
    if (rc == 0)
        f->parts[f->part_count++] = *part;
    return rc;
}

/* --- What nobody sent: gaps that the holder told, and the rest. */

/* Reasons that say what became of the facts; others only say that this holder has them not. */
static bool is_final (uint32_t reason)
{
    return reason == FACTMESH__GAP_REASON__GAP_VOID || reason == FACTMESH__GAP_REASON__GAP_REDACTED
           || reason == FACTMESH__GAP_REASON__GAP_NOT_HELD;
}

/* Sequences [f->next_seq, end) did not come. */
static int put_absent (struct refetch *f, uint64_t end)
{
    int rc = 0;
    while (rc == 0 && f->next_seq < end) {
        struct refetch_part part = { .kind = PART_MISSING, .first_seq = f->next_seq, .end_seq = end };
        for (size_t i = 0; i < f->gap_count; i++) {
            const struct refetch_part *g = &f->gaps[i];
            if (g->first_seq <= f->next_seq && g->end_seq > f->next_seq) {
                part.kind = PART_GAP;
                part.reason = g->reason;
                part.end_seq = g->end_seq < end ? g->end_seq : end;
                break;
            }
            if (g->first_seq > f->next_seq && g->first_seq < part.end_seq)
                part.end_seq = g->first_seq;
        }
        part.time_ns = f->time_ns;
        part.life = f->life;
        rc = put_part (f, &part);
        f->next_seq = part.end_seq;
    }
    return rc;
}

int refetch_gap (struct refetch *f, uint64_t first_seq, uint64_t end_seq, uint32_t reason)
{
    if (!is_final (reason) || first_seq >= end_seq || f->gap_count == REFETCH_GAPS_MAX)
        return 0;
    if (!f->gaps) {
        f->gaps = malloc (REFETCH_GAPS_MAX * sizeof *f->gaps);
        if (!f->gaps)
            return -ENOMEM;
    }
    f->gaps[f->gap_count++] = (struct refetch_part) { .first_seq = first_seq, .end_seq = end_seq, .reason = reason };
    return 0;
}

/* --- Batches. */

/* Lives follow one another: a later epoch, or the same one of the same incarnation. */
static bool may_follow (struct log_life before, struct log_life after)
{
    return before.epoch == 0 || after.epoch == 0 || before.epoch < after.epoch
           || (before.epoch == after.epoch && before.incarnation == after.incarnation);
}

/* The facts [first, end) of the batch as a batch of their own. Its backs say less than they did: an upper bound is
 * always right. */
static int cut_batch (struct refetch *f, const struct batch *b, uint64_t first, uint64_t end, struct fm_slice *ret_bytes)
{
    static const uint8_t no_backs[TOPIC_LEVELS_MAX + 1];
    struct batch_reader reader;
    struct batch header = *b;
    batch_reader_init (&reader, b);
    int rc = batch_reader_skip (&reader, first - b->first_seq);
    const uint8_t *const from = reader.pos;
    rc = rc ? rc : batch_reader_skip (&reader, end - first);
    assert (rc == 0);                       /* all of its facts have been decoded */
    const size_t facts_len = (size_t) (reader.pos - from);
    header.first_seq = first;
    header.count = (uint32_t) (end - first);
    const size_t need = batch_header_bound (&header) + (size_t) b->topic_count * sizeof no_backs + facts_len;
    if (need > f->cut_size) {
        uint8_t *bigger = realloc (f->cut, need);
        if (!bigger)
            return -ENOMEM;
        f->cut = bigger;
        f->cut_size = need;
    }
    for (uint32_t i = 0; i < b->topic_count; i++) {
        size_t levels = 1;
        for (size_t k = 0; k < b->topics[i].name.len; k++)
            levels += ((const uint8_t *) b->topics[i].name.data)[k] == '.';
        b->topics[i].backs = slice (no_backs, levels);
    }
    uint8_t *p = batch_encode_header (f->cut, &header);
    memcpy (p, from, facts_len);
    *ret_bytes = slice (f->cut, (size_t) (p - f->cut) + facts_len);
    return 0;
}

static int store (struct refetch *f, struct fm_slice bytes, uint64_t *ret_pos)
{
    const struct fs *fs = f->log->fs;
    if (f->fd < 0) {
        f->fd = fs->open (fs->context, f->log->segments, file_name, O_RDWR | O_CREAT | O_TRUNC, 0666);
        if (f->fd < 0)
            return f->fd;
    }
    const int rc = fs_write_full (fs, f->fd, bytes.data, bytes.len, f->end_pos);
    if (rc)
        return rc;
    *ret_pos = f->end_pos;
    f->end_pos += bytes.len;
    return 0;
}

int refetch_batch (struct refetch *f, struct fm_slice bytes)
{
    const struct log_lost *lost = &f->range->lost;
    struct batch b;
    int rc = batch_decode (bytes.data, bytes.len, slice_of (log_mesh (f->log)), &f->scratch, &b);
    if (rc == -ENOMEM)
        return rc;
    /* Which facts repeat others is for each journal to say; what is put back is told by the log that it goes into. */
    if (rc || b.announced_len || !id_equal (&b.stream, &lost->stream) || batch_check_facts (&b) || batch_strip_duplicates (&b)) {
        f->refused++;
        return 0;
    }
    bytes = slice (b.bytes, b.len);
    f->identities |= identities_concern (&b);
    /* What lies beside a record that closes its epoch closes it, too: its own flag is lost. */
    const struct log_life life = { b.epoch, b.incarnation, (f->life.closed && f->life.epoch == b.epoch)
                                                               || (lost->before.closed && lost->before.epoch == b.epoch) };
    const uint64_t first = b.first_seq > f->next_seq ? b.first_seq : f->next_seq;
    const uint64_t end = batch_end_seq (&b) < lost->end_seq ? batch_end_seq (&b) : lost->end_seq;
    if (first >= end)
        return 0;                           /* beside the range, or a second time */
    if (!may_follow (f->life, life) || !may_follow (life, lost->before) || bytes.len > RECORD_BODY_MAX) {
        f->refused++;
        return 0;
    }
    if (first != b.first_seq || end != batch_end_seq (&b))
        rc = cut_batch (f, &b, first, end, &bytes);
    if (rc == 0)
        rc = put_absent (f, first);
    struct refetch_part part = { .kind = PART_BATCH, .first_seq = first, .end_seq = end, .life = life,
                                 .len = (uint32_t) bytes.len };
    f->time_ns = part.time_ns = b.time_ns > f->time_ns ? b.time_ns : f->time_ns;
    if (rc == 0 && !f->log->options.read_only)      /* who only looks writes nothing */
        rc = store (f, bytes, &part.pos);
    if (rc == 0)
        rc = put_part (f, &part);
    f->next_seq = end;
    f->life = life;
    f->facts += rc ? 0 : end - first;
    return rc;
}

int refetch_all (struct refetch *f, const struct refetch_source *source)
{
    int rc = 0;
    for (size_t i = 0; i < f->range_count && rc == 0; i++) {
        struct refetch_range *range = f->range = &f->ranges[i];
        f->next_seq = range->lost.first_seq;
        f->life = range->lost.after;
        f->time_ns = 0;
        f->gap_count = 0;
        range->first_part = range->next_part = f->part_count;
        if (source)
            rc = source->fetch (source->context, &range->lost.stream, range->lost.first_seq, range->lost.end_seq, f);
        if (rc == 0)
            rc = put_absent (f, range->lost.end_seq);
        range->end_part = f->part_count;
    }
    return rc;
}

int refetch_mark (struct refetch *f, struct refetch_part *part, const struct batch *b, struct fm_slice front)
{
    uint64_t pos, rest;
    int rc = store (f, front, &pos);
    if (rc == 0)
        rc = store (f, slice (b->bytes, b->len), &rest);
    if (rc)
        return rc;
    part->pos = pos;
    part->len = (uint32_t) (front.len + b->len);
    return 0;
}

int refetch_read (struct refetch *f, const struct refetch_part *part, uint64_t from, void *buffer, size_t len)
{
    return fs_read_full (f->log->fs, f->fd, buffer, len, part->pos + from);
}

/* --- Another directory. */

int refetch_from_log (void *context, const struct fm_id *stream, uint64_t first_seq, uint64_t end_seq,
                      struct refetch *into)
{
    struct log *log = context;
    struct log_reader *r = NULL;
    uint64_t offset;
    int rc = log_reader_new (log, &r);
    if (rc == 0)
        rc = log_reader_filter (r, stream, NULL, 0);
    if (rc == 0)
        rc = log_reader_seek_seq (r, stream, first_seq, &offset);
    while (rc == 0) {
        struct log_item item;
        rc = log_reader_next (r, &item);
        if (rc || (id_equal (&item.stream, stream) && item.first_seq >= end_seq))
            break;
        if (!id_equal (&item.stream, stream))
            continue;
        if (item.kind == LOG_ITEM_GAP)
            rc = refetch_gap (into, item.first_seq, item.end_seq, item.reason);
        else if (item.bytes.len > 0)
            rc = refetch_batch (into, item.bytes);
    }
    log_reader_destroy (&r);
    return rc == FM_ERR_END || rc == FM_ERR_UNKNOWN ? 0 : rc;
}
