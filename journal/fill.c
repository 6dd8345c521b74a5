#include "fill.h"

#include <errno.h>
#include <stdlib.h>

#include "checksum.h"
#include "fm_types.h"

enum {
    EVIDENCE_RANGES_MAX = 64,               /* of more streams in one hole, what can still be read is not looked for */
    EVIDENCE_BODY = 4096,                   /* of a body, compared with what lies there */
    EVIDENCE_HINT = 24,                     /* so many bytes as expected are no chance */

    /* Of a header, the length, the kind and the offset; then the count, the stream and so on. Not the sums, the time and the synced
     * position. */
    COMPARE_FROM = 16,
    COMPARE_NOT_FROM = 32,
    COMPARE_NOT_TO = 44
};

void fill_release (struct fill *f)
{
    free (f->holes);
    free (f->puts);
    *f = (struct fill) { .fd = -1 };
}

int fill_add (struct fill *f, const struct fill_hole *hole)
{
    if (f->hole_count == f->hole_size) {
        const size_t size = f->hole_size ? 2 * f->hole_size : 64;
        struct fill_hole *bigger = realloc (f->holes, size * sizeof *bigger);
        if (!bigger)
            return -ENOMEM;
        f->holes = bigger;
        f->hole_size = size;
    }
    f->holes[f->hole_count++] = *hole;
    return 0;
}

static int put (struct fill *f, const struct fill_put *p)
{
    if (f->put_count == f->put_size) {
        const size_t size = f->put_size ? 2 * f->put_size : 64;
        struct fill_put *bigger = realloc (f->puts, size * sizeof *bigger);
        if (!bigger)
            return -ENOMEM;
        f->puts = bigger;
        f->put_size = size;
    }
    f->puts[f->put_count++] = *p;
    return 0;
}

/* --- One hole being filled. */

struct filling {
    struct fill *fill;
    struct fill_hole *hole;
    bool gaps;                              /* a gap that the holder told is a gap record, which takes one offset */
    size_t *ranges;                         /* those that may have lost something here */
    size_t count;
    uint64_t offset;
    uint64_t old_pos;                       /* where the next record lay; 0: not known any more */
    uint64_t time_ns, synced_pos;
    bool proven, found;
};

static struct refetch_range *range_at (const struct filling *x, size_t i)
{
    return &x->fill->refetch->ranges[x->ranges[i]];
}

static struct refetch_part *part_of (const struct filling *x, const struct refetch_range *r)
{
    return r->next_part < r->end_part ? &x->fill->refetch->parts[r->next_part] : NULL;
}

static bool is_put (const struct filling *x, const struct refetch_part *part)
{
    return part->kind == PART_BATCH || (part->kind == PART_GAP && x->gaps);
}

/* Offsets that what is left of the range's next part takes here. */
static uint64_t offsets_of (const struct filling *x, const struct refetch_range *r, const struct refetch_part *part)
{
    return part->kind == PART_GAP && x->gaps ? 1 : part->end_seq - part->first_seq - r->next_missing;
}

static bool may_hold (const struct fill_hole *h, const struct refetch *f, size_t range)
{
    const struct log_lost *l = &f->ranges[range].lost;
    if (h->owns || f->ranges[range].owned)
        return h->owns && h->range == range;
    return l->after_pos < h->pos && (l->before_pos >= h->end_pos || l->before_pos == UINT64_MAX);
}

/* --- What can still be read of the hole. */

struct evidence {
    unsigned equal;                         /* bytes other than zero that are as expected */
    bool sure;                              /* the stream and the sequence */
    uint64_t time_ns, synced_pos;           /* when sure, and as the old header says: */
    uint32_t count, body_len;
};

static int expected_bytes (const struct filling *x, const struct refetch_part *part, const struct fm_id *stream,
                           uint8_t *bytes, size_t *ret_len)
{
    struct record r = { .kind = part->kind == PART_BATCH ? RECORD_BATCH : RECORD_GAP, .offset = x->offset,
                        .count = part->kind == PART_BATCH ? (uint32_t) (part->end_seq - part->first_seq) : 1,
                        .stream = *stream, .first_seq = part->first_seq, .epoch = part->life.epoch,
                        .incarnation = part->life.incarnation };
    record_encode (bytes, &r);
    bytes_put_u32le (bytes + 16, part->kind == PART_BATCH ? part->len : RECORD_GAP_LEN);
    size_t len = 0;
    int rc = 0;
    if (part->kind == PART_BATCH) {
        len = part->len < EVIDENCE_BODY ? part->len : EVIDENCE_BODY;
        rc = refetch_read (x->fill->refetch, part, 0, bytes + RECORD_HEADER_LEN, len);
    }
    *ret_len = RECORD_HEADER_LEN + len;
    return rc;
}

/* Does what lies at old_pos look like the range's next part? */
static int look (const struct filling *x, const struct refetch_range *r, const struct refetch_part *part,
                 struct evidence *ret_evidence)
{
    uint8_t expected[RECORD_HEADER_LEN + EVIDENCE_BODY], there[RECORD_HEADER_LEN + EVIDENCE_BODY];
    struct evidence e = { .equal = 0 };
    struct record old;
    const struct fs *fs = x->fill->refetch->log->fs;
    size_t len = RECORD_HEADER_LEN;
    *ret_evidence = e;
    if (x->fill->fd < 0 || x->old_pos == 0)
        return 0;
    int rc = 0;
    const bool put = is_put (x, part) && !x->fill->refetch->log->options.read_only;
    if (put)
        rc = expected_bytes (x, part, &r->lost.stream, expected, &len);
    const ssize_t n = rc ? rc : scan_read (fs, x->fill->fd, there, len, x->old_pos);
    if (n < RECORD_HEADER_LEN)
        return n < 0 ? (int) n : 0;
    record_peek (there, &old);
    for (size_t i = COMPARE_FROM; put && i < (size_t) n; i++)
        if (i < COMPARE_NOT_FROM || i >= COMPARE_NOT_TO)
            e.equal += there[i] == expected[i] && there[i] != 0;
    e.sure = id_equal (&old.stream, &r->lost.stream) && old.first_seq == part->first_seq + r->next_missing;
    e.time_ns = old.time_ns;
    e.synced_pos = old.synced_pos;
    e.count = old.count;
    e.body_len = old.body_len;
    *ret_evidence = e;
    return 0;
}

/* --- The order among streams. */

struct choice {
    size_t range;                           /* index into x->ranges; count: none fits */
    bool forced;
    struct evidence evidence;
};

/* Of the ranges that have something left: the one that can be seen to have lain here, or else the one that was published
 * first. */
static int choose (const struct filling *x, struct choice *ret_choice)
{
    struct choice c = { .range = x->count };
    size_t left = 0, seen = x->count;
    struct evidence best = { .equal = EVIDENCE_HINT };
    uint64_t earliest = UINT64_MAX;
    for (size_t i = 0; i < x->count; i++) {
        const struct refetch_range *r = range_at (x, i);
        const struct refetch_part *part = part_of (x, r);
        if (!part)
            continue;
        left++;
        const uint64_t room = x->hole->end_offset - x->offset;
        if (is_put (x, part) && offsets_of (x, r, part) > room)
            continue;
        if (part->time_ns < earliest || c.range == x->count) {
            earliest = part->time_ns;
            c.range = i;
        }
        struct evidence e = { 0 };
        const int rc = x->count <= EVIDENCE_RANGES_MAX ? look (x, r, part, &e) : 0;
        if (rc)
            return rc;
        if ((e.sure && !best.sure) || (e.sure == best.sure && e.equal > best.equal)) {
            best = e;
            seen = i;
        }
    }
    if (seen < x->count) {
        c.range = seen;
        c.evidence = best;
    }
    c.forced = left == 1 || (c.range == seen && best.sure);
    *ret_choice = c;
    return 0;
}

/* The range's next part is put at the hole's next offset. */
static int take (struct filling *x, const struct choice *c)
{
    struct refetch_range *r = range_at (x, c->range);
    const struct refetch_part *part = part_of (x, r);
    const uint64_t room = x->hole->end_offset - x->offset;
    uint64_t offsets = offsets_of (x, r, part);
    x->proven &= c->forced;
    if (!is_put (x, part)) {                /* nothing is put, but its offsets are its own */
        const struct evidence *e = &c->evidence;
        uint64_t taken = offsets < room ? offsets : room;
        const bool one = e->sure && e->count > 0 && e->count <= taken && e->body_len <= RECORD_BODY_MAX;
        taken = one ? e->count : taken;
        x->old_pos = one ? x->old_pos + record_len (e->body_len) : 0;
        r->next_missing = taken < offsets ? r->next_missing + taken : 0;
        r->next_part += taken == offsets;
        x->offset += taken;
        return 0;
    }
    if (c->evidence.sure && c->evidence.time_ns >= x->time_ns && c->evidence.time_ns <= x->hole->end_time_ns)
        x->time_ns = c->evidence.time_ns;
    if (c->evidence.sure && c->evidence.synced_pos >= x->synced_pos && c->evidence.synced_pos <= x->old_pos)
        x->synced_pos = c->evidence.synced_pos;
    const struct fill_put p = { .range = x->ranges[c->range], .part = r->next_part, .offset = x->offset,
                                .time_ns = x->time_ns, .synced_pos = x->synced_pos };
    r->next_part++;
    x->offset += offsets;
    x->found |= true;
    if (x->old_pos)
        x->old_pos += record_len (part->kind == PART_BATCH ? part->len : RECORD_GAP_LEN);
    return put (x->fill, &p);
}

/* For many streams: all their parts by time, once. */
struct ordered {
    uint64_t time_ns;
    size_t range, part;
};

static int compare_ordered (const void *a, const void *b)
{
    const struct ordered *p = a, *q = b;
    if (p->time_ns != q->time_ns)
        return p->time_ns < q->time_ns ? -1 : 1;
    if (p->range != q->range)
        return p->range < q->range ? -1 : 1;
    return p->part < q->part ? -1 : p->part > q->part;
}

static int take_many (struct filling *x)
{
    size_t count = 0, i = 0;
    for (size_t k = 0; k < x->count; k++)
        count += range_at (x, k)->end_part - range_at (x, k)->next_part;
    struct ordered *items = malloc ((count + 1) * sizeof *items);
    if (!items)
        return -ENOMEM;
    for (size_t k = 0; k < x->count; k++)
        for (size_t part = range_at (x, k)->next_part; part < range_at (x, k)->end_part; part++)
            items[i++] = (struct ordered) { x->fill->refetch->parts[part].time_ns, k, part };
    qsort (items, count, sizeof *items, compare_ordered);
    int rc = 0;
    for (i = 0; i < count && x->offset < x->hole->end_offset && rc == 0; i++) {
        const struct refetch_range *r = range_at (x, items[i].range);
        const struct refetch_part *part = part_of (x, r);
        const struct choice c = { .range = items[i].range };
        if (is_put (x, part) && offsets_of (x, r, part) > x->hole->end_offset - x->offset)
            break;
        rc = take (x, &c);
    }
    free (items);
    return rc;
}

/* --- One hole. */

/* Every range that no later hole may take of must be used up. */
static bool is_finished (const struct filling *x)
{
    const struct fill *f = x->fill;
    for (size_t i = 0; i < x->count; i++) {
        bool later = false;
        for (const struct fill_hole *h = x->hole + 1; h < f->holes + f->hole_count && !later; h++)
            later = may_hold (h, f->refetch, x->ranges[i]);
        if (!later && part_of (x, range_at (x, i)))
            return false;
    }
    return true;
}

static int try_fill (struct filling *x)
{
    struct fill_hole *h = x->hole;
    x->offset = h->first_offset;
    x->old_pos = h->pos;
    x->time_ns = h->time_ns;
    x->synced_pos = h->synced_pos;
    x->proven = true;
    x->found = false;
    if (x->count > EVIDENCE_RANGES_MAX)
        return take_many (x);
    while (x->offset < h->end_offset) {
        struct choice c;
        int rc = choose (x, &c);
        if (rc || c.range == x->count)
            return rc;
        rc = take (x, &c);
        if (rc)
            return rc;
    }
    return 0;
}

/* How far each range was used before, to go back to. */
struct mark {
    size_t next_part;
    uint64_t next_missing;
};

static void set_back (struct filling *x, const struct mark *marks)
{
    x->fill->put_count = x->hole->first_put;
    for (size_t i = 0; i < x->count; i++) {
        range_at (x, i)->next_part = marks[i].next_part;
        range_at (x, i)->next_missing = marks[i].next_missing;
    }
}

/* Does everything of the hole have a place, and something in each? */
static bool is_complete (const struct filling *x)
{
    const struct fill *f = x->fill;
    uint64_t offsets = 0;
    for (size_t i = x->hole->first_put; i < f->put_count; i++) {
        const struct refetch_part *p = &f->refetch->parts[f->puts[i].part];
        offsets += p->kind == PART_BATCH ? p->end_seq - p->first_seq : 1;
    }
    return offsets == x->hole->end_offset - x->hole->first_offset;
}

static int fill_one (struct filling *x, const struct mark *marks)
{
    struct fill_hole *h = x->hole;
    enum fill_outcome outcome = FILL_NOTHING;
    bool found = false;
    /* First as if all that is missing were facts; then with the holder's gaps as gap records; at last whatever leaves some
     * offsets over. */
    for (int attempt = 0; attempt < 3; attempt++) {
        x->gaps = attempt == 1;
        set_back (x, marks);
        const int rc = try_fill (x);
        if (rc)
            return rc;
        found |= x->found;
        const bool fits = x->offset == h->end_offset || attempt == 2;
        if (!x->found && x->offset == h->end_offset && is_finished (x)) {
            h->outcome = FILL_NOTHING;      /* all that lay here is missing; what lies behind is for later holes */
            return 0;
        }
        if (x->found && fits && is_finished (x)) {
            x->proven &= x->offset == h->end_offset;
            h->proven = x->proven;
            outcome = is_complete (x) ? FILL_WHOLE : FILL_PARTLY;
            break;
        }
    }
    if (outcome == FILL_NOTHING && found)
        outcome = FILL_UNFIT;
    if ((outcome == FILL_WHOLE || outcome == FILL_PARTLY) && !h->proven && x->fill->is_within
        && x->fill->is_within (x->fill->arg, h->first_offset, h->end_offset))
        outcome = FILL_CURSOR;
    if (outcome != FILL_WHOLE && outcome != FILL_PARTLY) {
        set_back (x, marks);
        /* What lay here is used up all the same: a later hole must not be given it. */
        for (size_t i = 0; i < x->count && outcome != FILL_NOTHING; i++)
            range_at (x, i)->next_part = range_at (x, i)->end_part;
    }
    h->outcome = outcome;
    h->end_put = x->fill->put_count;
    for (size_t i = 0; i < x->count; i++)
        if (outcome == FILL_CURSOR || outcome == FILL_UNFIT)
            range_at (x, i)->kept_from = outcome;
    return 0;
}

int fill_holes (struct fill *f)
{
    const size_t ranges = f->refetch->range_count;
    struct filling x = { .fill = f, .ranges = malloc ((ranges + 1) * sizeof *x.ranges) };
    struct mark *marks = malloc ((ranges + 1) * sizeof *marks);
    int rc = x.ranges && marks ? 0 : -ENOMEM;
    for (size_t i = 0; i < f->hole_count && rc == 0; i++) {
        x.hole = &f->holes[i];
        x.hole->first_put = x.hole->end_put = f->put_count;
        x.count = 0;
        for (size_t k = 0; k < ranges; k++)
            if (may_hold (x.hole, f->refetch, k) && f->refetch->ranges[k].next_part < f->refetch->ranges[k].end_part) {
                marks[x.count] = (struct mark) { f->refetch->ranges[k].next_part, f->refetch->ranges[k].next_missing };
                x.ranges[x.count++] = k;
            }
        rc = fill_one (&x, marks);
    }
    free (marks);
    free (x.ranges);
    return rc;
}
