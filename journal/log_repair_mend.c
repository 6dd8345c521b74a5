/* log_repair_mend: a damaged segment that can be read: what becomes of each spot, and the segment made anew with it. */

#include <errno.h>

#include "error.h"
#include "log_repair_inner.h"

int patient_put_hole (struct patient *p, struct draft *d, const struct fill_hole *hole)
{
    uint64_t offset = hole->first_offset;
    for (size_t i = hole->first_put; i < hole->end_put; i++) {
        const struct fill_put *put = &p->fill.puts[i];
        const struct refetch_part *part = &p->refetch.parts[put->part];
        uint8_t *body;
        if (put->offset > offset) {         /* between: what nobody has */
            const int rc = draft_hole (d, -1, 0, 0);
            if (rc)
                return rc;
        }
        struct record r = { .kind = part->kind == PART_BATCH ? RECORD_BATCH : RECORD_GAP,
                            .flags = part->life.closed ? RECORD_FLAG_CLOSED : 0,
                            .body_len = part->kind == PART_BATCH ? part->len : RECORD_GAP_LEN,
                            .count = part->kind == PART_BATCH ? (uint32_t) (part->end_seq - part->first_seq) : 1,
                            .offset = put->offset,
                            .time_ns = put->time_ns,
                            .synced_pos = put->synced_pos,
                            .stream = p->refetch.ranges[put->range].lost.stream,
                            .first_seq = part->first_seq,
                            .epoch = part->life.epoch,
                            .incarnation = part->life.incarnation };
        int rc = draft_body (d, r.body_len, &body);
        if (rc)
            return rc;
        if (part->kind == PART_BATCH)
            rc = refetch_read (&p->refetch, part, 0, body, part->len);
        else
            record_gap_encode (body, part->end_seq, part->reason);
        rc = rc ? rc : draft_put (d, &r);
        if (rc)
            return rc;
        offset = put->offset + record_offsets (&r);
    }
    return offset < hole->end_offset ? draft_hole (d, -1, 0, 0) : 0;
}

bool patient_is_filled (const struct patient *p, const struct spot *spot)
{
    return spot->hole != SIZE_MAX && p->fill.holes[spot->hole].end_put > p->fill.holes[spot->hole].first_put;
}

static int write_spot (struct patient *p, struct draft *d, const struct spot *spot, bool same_salt)
{
    if (patient_is_filled (p, spot))
        return patient_put_hole (p, d, &p->fill.holes[spot->hole]);
    switch (spot->kind) {
    case SPOT_GAP:
        if (spot->gap_found) {
            uint8_t *body;
            const int rc = draft_body (d, RECORD_GAP_LEN, &body);
            if (rc)
                return rc;
            memcpy (body, spot->gap_body, RECORD_GAP_LEN);
            return draft_put (d, &spot->record);
        }
        return draft_copy_damaged (d, p->view.fd, spot->pos, spot->end_pos, same_salt);
    case SPOT_BATCH:
        return draft_copy_damaged (d, p->view.fd, spot->pos, spot->end_pos, same_salt);
    case SPOT_HOLE:
    case SPOT_SNAPSHOT:
        return draft_hole (d, p->view.fd, spot->pos, spot->end_pos);
    case SPOT_EMPTY:
    case SPOT_END:
        break;
    }
    return 0;
}

/* Bytes that a spot takes in the new segment. */
static uint64_t spot_len (const struct patient *p, const struct spot *spot)
{
    uint64_t len = 0;
    if (!patient_is_filled (p, spot))
        return spot->kind == SPOT_EMPTY ? 0 : spot->end_pos - spot->pos;
    const struct fill_hole *h = &p->fill.holes[spot->hole];
    for (size_t i = h->first_put; i < h->end_put; i++) {
        const struct refetch_part *part = &p->refetch.parts[p->fill.puts[i].part];
        len += record_len (part->kind == PART_BATCH ? part->len : RECORD_GAP_LEN);
    }
    return h->outcome == FILL_WHOLE ? len : UINT64_MAX;
}

/* Does every record stay where it is? */
static bool keeps_places (const struct patient *p, bool new_snapshots)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->spots[i].kind != SPOT_END && spot_len (p, &p->spots[i]) != p->spots[i].end_pos - p->spots[i].pos)
            return false;
    return !new_snapshots;
}

static int write_segment (struct patient *p, bool new_snapshots, struct recover_state *state)
{
    struct repair *r = p->repair;
    const struct log_segment_view *s = &p->view;
    struct segment_header h = s->header;
    struct draft d;
    const bool same_salt = keeps_places (p, new_snapshots);
    if (!same_salt) {                       /* what a disk has of the old one must not pass for a record of the new one */
        struct fm_id salt;
        id_random (&salt);
        memcpy (h.salt, salt.bytes, sizeof h.salt);
    }
    h.snapshot_end = new_snapshots ? 0 : h.snapshot_end;
    struct segment_scan scan = { .fd = -1 };
    (void) error_set (0, "%s", "");         /* so that an older detail does not pass for ours */
    int rc = draft_init (&d, r->log, &h);
    if (rc == 0 && new_snapshots)
        rc = draft_snapshots (&d, state);
    const uint64_t from = new_snapshots ? s->header.snapshot_end : SEGMENT_RECORDS_POS;
    if (rc == 0)
        rc = scan_start (&scan, r->log->fs, s->fd, record_seed (s->header.salt), from, p->records_end);
    size_t next = 0;
    while (next < p->count && p->spots[next].pos < from)
        next++;
    /* As it was examined, whatever can be read now: more of a spot, and it would be there twice; less of what was whole, and it stays where it is, for
     * another run to read it, or to tell it as lost. */
    for (uint64_t pos = from; rc == 0 && pos < p->records_end; pos = scan.next_pos) {
        if (next < p->count && p->spots[next].pos == pos) {
            scan.next_pos = p->spots[next].end_pos;
            rc = write_spot (p, &d, &p->spots[next++], same_salt);
            continue;
        }
        rc = scan_next (&scan);
        if (rc == 0)
            rc = draft_copy (&d, &scan, same_salt);
        if (rc == FM_ERR_CORRUPT)
            rc = error_set (-EIO, "what was whole at %llu cannot be read any more", (unsigned long long) pos);
    }
    for (; next < p->count && rc == 0; next++)
        rc = write_spot (p, &d, &p->spots[next], same_salt);
    if (rc == 0)
        rc = draft_publish (&d, h.number != r->view.active_number);
    scan_release (&scan);
    draft_release (&d);
    const char *why = fm_error_detail ();
    return rc ? error_set (rc, "cannot make segment %llu of %s anew: %s", (unsigned long long) h.number, r->log->directory, *why ? why : fm_error_text (rc)) : 0;
}

/* Everything of the file that is about to be replaced and is not whole. */
static int quarantine_spots (struct patient *p)
{
    int rc = 0;
    const uint64_t number = p->view.header.number;
    uint64_t len;
    for (size_t i = 0; i < p->count && rc == 0; i++)
        if (p->spots[i].kind != SPOT_END)
            rc = repair_quarantine (p->repair, p->view.fd, number, p->spots[i].pos, p->spots[i].end_pos);
    if (rc == 0 && p->footer_lost) {
        rc = p->repair->log->fs->size (p->repair->log->fs->context, p->view.fd, &len);
        if (rc == 0 && len > p->records_end)
            rc = repair_quarantine (p->repair, p->view.fd, number, p->records_end, len);
    }
    return rc == 0 && p->header_lost ? repair_quarantine (p->repair, p->view.fd, number, 0, SEGMENT_RECORDS_POS) : rc;
}

static bool has_fill (const struct patient *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (patient_is_filled (p, &p->spots[i]) || p->spots[i].kind == SPOT_EMPTY || p->spots[i].gap_found)
            return true;
    return false;
}

static void report_patient (struct patient *p, bool new_snapshots)
{
    struct repair *r = p->repair;
    const uint64_t number = p->view.header.number;
    repair_report_ranges (r, number, &p->refetch, &p->fill);
    if (p->header_lost)
        repair_report_remade (r, number, "the header");
    if (p->footer_lost)
        repair_report_remade (r, number, "the footer");
    if (new_snapshots)
        repair_report_remade (r, number, "the snapshots");
    for (size_t i = 0; i < p->count; i++) {
        if (p->spots[i].kind == SPOT_GAP && p->spots[i].gap_found)
            repair_report_remade (r, number, "a gap's record");
        if (p->spots[i].kind == SPOT_EMPTY)
            repair_report_remade (r, number, number == r->view.active_number
                                          ? "a record without facts left out: a cursor may stand where it stood before"
                                          : "a record without facts left out");
    }
}

static int mend (struct patient *p)
{
    struct repair *r = p->repair;
    struct repair_known known = { 0 };
    struct recover_state state;
    bool new_snapshots = false;
    int rc = patient_examine (p);
    if (rc == 0)
        rc = refetch_all (&p->refetch, r->options->source);
    if (rc == 0)
        rc = fill_holes (&p->fill);
    if (rc == 0 && p->snapshots_lost)
        rc = repair_known_before (r, p->view.header.number, &known, &state, &new_snapshots);
    if (rc == 0)
        report_patient (p, new_snapshots);
    if (rc == 0 && !r->log->options.read_only) {
        rc = quarantine_spots (p);
        if (rc == 0)
            rc = patient_mark (p, 0, NULL);
        if (rc == 0 && (p->header_lost || p->footer_lost || new_snapshots || has_fill (p))) {
            rc = write_segment (p, new_snapshots, &state);
            r->result.segments += rc == 0;
        }
    }
    repair_known_release (&known);
    return rc;
}

int repair_segment (struct repair *r, uint64_t number, const struct finding *f)
{
    struct patient p;
    patient_init (&p, r);
    int rc = log_segment_open (r->log, &r->view, number, &p.view);
    if (rc == 0) {
        p.fill.fd = p.view.fd;
        p.header_lost = f->header_lost;
        p.footer_lost = f->footer_lost;
        rc = mend (&p);
    }
    patient_release (&p);
    return rc;
}
