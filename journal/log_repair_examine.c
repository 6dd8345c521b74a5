/* log_repair_examine: walk the records of a damaged segment, and note each spot that is not whole, and who lost what there. */

#include <errno.h>
#include <stdlib.h>

#include "log_repair_inner.h"

enum { GAP_REASONS_MAX = 32 };              /* tried to make a damaged gap record anew */

static int add_spot (struct patient *p, const struct spot *spot)
{
    if (p->count == p->size) {
        const size_t size = p->size ? 2 * p->size : 64;
        struct spot *bigger = realloc (p->spots, size * sizeof *bigger);
        if (!bigger)
            return -ENOMEM;
        p->spots = bigger;
        p->size = size;
    }
    p->spots[p->count] = *spot;
    p->spots[p->count++].hole = SIZE_MAX;
    return 0;
}

/* A spot that took offsets: what goes there is for the fill to say. */
static int add_hole (struct patient *p, const struct spot *spot, const struct fill_hole *hole)
{
    int rc = add_spot (p, spot);
    if (rc == 0)
        rc = fill_add (&p->fill, hole);
    if (rc == 0)
        p->spots[p->count - 1].hole = p->fill.hole_count - 1;
    return rc;
}

/* One record with a good header owns what it lost. */
static int add_headed (struct patient *p, const struct spot *spot, struct fill_hole *hole, uint64_t end_seq)
{
    const struct record *rec = &spot->record;
    const struct log_life life = { rec->epoch, rec->incarnation, rec->flags & RECORD_FLAG_CLOSED };
    const struct log_lost lost = { .stream = rec->stream, .first_seq = rec->first_seq, .end_seq = end_seq,
                                   .after = life, .before = life };
    hole->owns = true;
    hole->range = p->refetch.range_count;
    hole->end_offset = rec->offset + record_offsets (rec);
    int rc = refetch_add (&p->refetch, &lost);
    if (rc)
        return rc;
    p->refetch.ranges[hole->range].owned = true;
    return add_hole (p, spot, hole);
}

/* A gap record whose body is damaged: its end is where the stream goes on, and its sum tells the reason. */
static void find_gap (struct spot *spot, const struct log_lost_list *lost)
{
    for (size_t i = 0; i < lost->count; i++) {
        const struct log_lost *l = &lost->items[i];
        if (!id_equal (&l->stream, &spot->record.stream) || l->first_seq != spot->record.first_seq)
            continue;
        uint8_t padded[RECORD_GAP_LEN];
        for (uint32_t reason = 0; reason < GAP_REASONS_MAX && !spot->gap_found; reason++) {
            record_gap_encode (padded, l->end_seq, reason);
            spot->gap_found = spot->record.body_len == RECORD_GAP_LEN && record_body_ok (&spot->record, padded);
        }
        memcpy (spot->gap_body, padded, RECORD_GAP_LEN);
        return;
    }
}

static int headed_spot (struct patient *p, const struct segment_scan *scan, struct log_lost_list *lost,
                        struct fill_hole *hole)
{
    struct spot spot = { .pos = scan->pos, .end_pos = scan->next_pos, .record = scan->record };
    if (scan->pos < p->view.header.snapshot_end) {
        spot.kind = SPOT_SNAPSHOT;
        p->snapshots_lost = true;
        return add_spot (p, &spot);
    }
    if (record_offsets (&scan->record) == 0) {
        spot.kind = SPOT_EMPTY;
        return add_spot (p, &spot);
    }
    if (scan->record.kind == RECORD_BATCH) {
        spot.kind = SPOT_BATCH;
        return add_headed (p, &spot, hole, scan->record.first_seq + scan->record.count);
    }
    spot.kind = SPOT_GAP;
    find_gap (&spot, lost);
    if (spot.gap_found)
        return add_spot (p, &spot);
    uint64_t end_seq = scan->record.first_seq + 1;
    for (size_t i = 0; i < lost->count; i++) {
        struct log_lost *l = &lost->items[i];
        if (id_equal (&l->stream, &scan->record.stream) && l->first_seq == scan->record.first_seq) {
            end_seq = l->end_seq;
            l->first_seq = l->end_seq;      /* its own, no hole's */
        }
    }
    return add_headed (p, &spot, hole, end_seq);
}

static int hole_spot (struct patient *p, uint64_t pos, uint64_t end_pos, struct fill_hole *hole)
{
    const uint64_t snapshot_end = p->view.header.snapshot_end;
    struct spot spot = { .kind = SPOT_HOLE, .pos = pos, .end_pos = end_pos };
    if (pos < snapshot_end) {
        spot.kind = SPOT_SNAPSHOT;
        spot.end_pos = end_pos < snapshot_end ? end_pos : snapshot_end;
        p->snapshots_lost = true;
        const int rc = add_spot (p, &spot);
        if (rc || end_pos <= snapshot_end)
            return rc;
        spot = (struct spot) { .kind = SPOT_HOLE, .pos = snapshot_end, .end_pos = end_pos };
        hole->pos = snapshot_end;
    }
    if (hole->first_offset < hole->end_offset)
        return add_hole (p, &spot, hole);
    spot.kind = SPOT_EMPTY;
    return add_spot (p, &spot);
}

/* Walk the records; what is not whole becomes a spot. */
static int examine_records (struct patient *p, struct log_lost_list *lost)
{
    const struct log_segment_view *s = &p->view;
    const bool active = s->header.number == p->repair->view.active_number;
    struct segment_scan scan = { .fd = -1 };
    struct fill_hole hole = { .time_ns = s->header.created_ns };
    uint64_t hole_pos = 0, hole_end = 0;
    p->end_offset = s->header.base_offset;
    p->records_end = SEGMENT_RECORDS_POS;
    p->last_time_ns = s->header.created_ns;
    int rc = scan_start (&scan, p->repair->log->fs, s->fd, record_seed (s->header.salt), SEGMENT_RECORDS_POS, s->end_pos);
    while (rc == 0) {
        const uint8_t *body;
        uint64_t end_seq;
        uint32_t reason;
        rc = scan_next (&scan);
        if (rc == FM_ERR_CORRUPT) {
            hole_pos = scan.pos;
            hole_end = scan.next_pos;
            rc = 0;
            continue;
        }
        if (rc)
            break;
        hole.first_offset = p->end_offset;
        hole.end_time_ns = scan.record.time_ns;
        if (hole_pos > 0) {
            hole.pos = hole_pos;
            hole.end_pos = hole_end;
            hole.end_offset = scan.record.offset;
            rc = hole_spot (p, hole_pos, hole_end, &hole);
            hole_pos = 0;
        }
        if (rc == 0)
            rc = scan_body (&scan, &body);
        if (rc == 0 && scan.record.kind == RECORD_GAP && record_gap_decode (&scan.record, body, &end_seq, &reason))
            rc = FM_ERR_CORRUPT;
        if (rc == FM_ERR_CORRUPT) {
            hole.pos = scan.pos;
            hole.end_pos = scan.next_pos;
            hole.first_offset = scan.record.offset;
            rc = headed_spot (p, &scan, lost, &hole);
            hole = (struct fill_hole) { 0 };
        }
        p->end_offset = scan.record.offset + record_offsets (&scan.record);
        p->records_end = scan.next_pos;
        p->last_time_ns = hole.time_ns = scan.record.time_ns;
        hole.synced_pos = scan.record.synced_pos;
    }
    scan_release (&scan);
    if (rc != FM_ERR_END)
        return rc;
    /* What lies behind the last record: a hole where the end is known, the rest of a footer or of a record where not. */
    const uint64_t end_offset = s->sealed ? s->trailer.end_offset : active ? p->repair->view.synced_offset : p->end_offset;
    if (hole_pos == 0 || (!s->sealed && !active))
        return 0;
    hole.pos = hole_pos;
    hole.end_pos = hole_end;
    hole.first_offset = p->end_offset;
    hole.end_offset = end_offset;
    hole.end_time_ns = UINT64_MAX;
    p->end_offset = end_offset;
    p->records_end = hole_end;
    return hole_spot (p, hole_pos, hole_end, &hole);
}

/* The segment behind begins further on than this one ends: what was cut off may be put back. */
static int examine_end (struct patient *p)
{
    struct repair *r = p->repair;
    struct log_segment_view next;
    struct log_lost_list lost = { 0 };
    const uint64_t number = p->view.header.number;
    if (number == r->view.active_number)
        return 0;
    p->footer_lost |= !p->view.sealed;
    int rc = log_segment_open (r->log, &r->view, number + 1, &next);
    if (rc)
        return rc == FM_ERR_CORRUPT || rc == -ENOENT ? 0 : rc;      /* lost too: it takes what is missing */
    const struct segment_header h = next.header;
    log_segment_close (r->log, &next);
    if (h.base_offset <= p->end_offset)
        return 0;
    const struct spot spot = { .kind = SPOT_END, .pos = p->records_end,
                               .end_pos = p->view.sealed ? p->records_end : p->view.end_pos };
    const struct fill_hole hole = { .pos = p->records_end, .end_pos = UINT64_MAX, .first_offset = p->end_offset,
                                    .end_offset = h.base_offset, .time_ns = p->last_time_ns,
                                    .end_time_ns = h.created_ns };
    rc = log_lost_between (r->log, &r->view, number, number + 1, &lost);
    for (size_t i = 0; i < lost.count && rc == 0; i++) {
        if (p->view.sealed)                 /* by an earlier repair, where nobody had it */
            lost.items[i].after_pos = p->records_end - 1;
        rc = refetch_add (&p->refetch, &lost.items[i]);
    }
    log_lost_release (&lost);
    return rc ? rc : add_hole (p, &spot, &hole);
}

int patient_examine (struct patient *p)
{
    struct repair *r = p->repair;
    struct log_lost_list lost = { 0 };
    int rc = log_lost_in (r->log, &r->view, p->view.header.number, &lost);
    if (rc == 0)
        rc = examine_records (p, &lost);
    for (size_t i = 0; i < lost.count && rc == 0; i++)
        if (lost.items[i].first_seq < lost.items[i].end_seq)
            rc = refetch_add (&p->refetch, &lost.items[i]);
    log_lost_release (&lost);
    return rc ? rc : examine_end (p);
}
