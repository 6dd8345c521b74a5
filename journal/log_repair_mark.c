/* log_repair_mark: which of the facts that are put back repeat others, or are repeated. As intake would have said of them (FORMAT.md, "Duplicates"). */

#include <errno.h>
#include <stdlib.h>

#include "identities.h"
#include "log_repair_inner.h"

struct marking {
    struct patient *patient;
    struct identities identities;
    struct batch_scratch scratch;
    uint8_t *bytes;                         /* of one part */
    size_t size;
};

static void marking_release (struct marking *m)
{
    identities_release (&m->identities);
    batch_scratch_release (&m->scratch);
    free (m->bytes);
}

/* A batch that is put back: it was checked when it was fetched. */
static int mark_part (struct marking *m, struct refetch_part *part)
{
    struct refetch *const f = &m->patient->refetch;
    struct batch b;
    struct fm_slice front;
    uint32_t count;
    if (part->len > m->size) {
        uint8_t *bigger = realloc (m->bytes, part->len);
        if (!bigger)
            return -ENOMEM;
        m->bytes = bigger;
        m->size = part->len;
    }
    int rc = refetch_read (f, part, 0, m->bytes, part->len);
    if (rc == 0)
        rc = batch_decode (m->bytes, part->len, slice (NULL, 0), &m->scratch, &b);
    if (rc || !identities_concern (&b))
        return rc;
    rc = identities_decide (&m->identities, &b, &front, &count);
    return rc || !count ? rc : refetch_mark (f, part, &b, front);
}

static int mark_hole (struct marking *m, const struct fill_hole *hole)
{
    const struct patient *const p = m->patient;
    int rc = 0;
    for (size_t i = hole->first_put; i < hole->end_put && rc == 0; i++) {
        struct refetch_part *const part = &p->refetch.parts[p->fill.puts[i].part];
        rc = part->kind == PART_BATCH ? mark_part (m, part) : 0;
    }
    return rc;
}

static int learn_record (struct marking *m, struct segment_scan *scan)
{
    const uint8_t *body;
    struct batch b;
    if (scan->record.kind != RECORD_BATCH || scan_body (scan, &body)
        || batch_decode (body, scan->record.body_len, slice (NULL, 0), &m->scratch, &b) || !identities_concern (&b))
        return 0;
    return identities_learn (&m->identities, &b);
}

/* As a walk over the new segment would meet them: before it is known where its records go, since what is said of a batch stands in its record. */
static int mark_segment (struct marking *m)
{
    struct patient *const p = m->patient;
    const struct log_segment_view *const s = &p->view;
    struct segment_scan scan = { .fd = -1 };
    size_t next = 0;
    int rc = identities_load_below (&m->identities, p->repair->log, s->header.number);
    if (rc == 0)
        rc = scan_start (&scan, p->repair->log->fs, s->fd, record_seed (s->header.salt), s->header.snapshot_end, p->records_end);
    while (next < p->count && p->spots[next].pos < s->header.snapshot_end)
        next++;
    while (rc == 0 && (rc = scan_next (&scan)) != FM_ERR_END) {
        const bool is_spot = next < p->count && p->spots[next].pos < scan.next_pos;
        if (rc == 0 && !is_spot)
            rc = learn_record (m, &scan);
        else if (rc == FM_ERR_CORRUPT)
            rc = 0;
        for (; rc == 0 && next < p->count && p->spots[next].pos < scan.next_pos; next++)
            rc = patient_is_filled (p, &p->spots[next]) ? mark_hole (m, &p->fill.holes[p->spots[next].hole]) : 0;
    }
    rc = rc == FM_ERR_END ? 0 : rc;
    for (; rc == 0 && next < p->count; next++)
        rc = patient_is_filled (p, &p->spots[next]) ? mark_hole (m, &p->fill.holes[p->spots[next].hole]) : 0;
    scan_release (&scan);
    return rc;
}

int patient_mark (struct patient *p, uint64_t number, const struct fill_hole *hole)
{
    struct marking m = { .patient = p };
    if (!p->refetch.identities || p->repair->log->options.read_only)
        return 0;
    identities_init (&m.identities, IDENTITIES_MAX);
    int rc = 0;
    if (!hole)
        rc = mark_segment (&m);
    else {
        rc = identities_load_below (&m.identities, p->repair->log, number);
        if (rc == 0)
            rc = mark_hole (&m, hole);
    }
    marking_release (&m);
    return rc;
}
