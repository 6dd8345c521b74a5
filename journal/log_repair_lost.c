/* log_repair_lost: segments that are lost whole: their streams' facts go into one hole, which is cut into as many segments as there were. */

#include <errno.h>
#include <fcntl.h>

#include "log_repair_inner.h"

static int quarantine_whole (struct repair *r, uint64_t number)
{
    char name[SEGMENT_NAME_LEN];
    uint64_t len;
    segment_name (number, name);
    const int fd = r->log->fs->open (r->log->fs->context, r->log->segments, name, O_RDONLY, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    int rc = r->log->fs->size (r->log->fs->context, fd, &len);
    if (rc == 0)
        rc = repair_quarantine (r, fd, number, 0, len);
    (void) r->log->fs->close (r->log->fs->context, fd);     /* read-only: nothing to lose */
    return rc;
}

/* What one made segment takes: all that is left, or where others follow in the numbering about a segment's bytes. */
static void cut_hole (const struct patient *p, struct fill_hole *hole, bool last, size_t *next_put, uint64_t end_offset)
{
    const uint64_t most = p->repair->log->options.segment_bytes;
    uint64_t bytes = 0;
    hole->first_put = hole->end_put = *next_put;
    for (; hole->end_put < p->fill.put_count && (last || bytes < most); hole->end_put++)
        bytes += record_len (p->refetch.parts[p->fill.puts[hole->end_put].part].len);
    const bool all = hole->end_put == p->fill.put_count;
    hole->end_offset = all ? end_offset : p->fill.puts[hole->end_put].offset;
    *next_put = hole->end_put;
}

static int make_segment (struct patient *p, const struct segment_header *h, const struct fill_hole *hole)
{
    struct repair *r = p->repair;
    struct repair_known known = { 0 };
    struct recover_state state;
    struct draft d = { .out = { .fd = -1 } };
    bool whole;
    int rc = repair_known_before (r, h->number, &known, &state, &whole);
    if (rc == 0)
        rc = whole ? quarantine_whole (r, h->number) : FM_ERR_CORRUPT;
    if (rc == 0)
        rc = draft_init (&d, r->log, h);
    if (rc == 0)
        rc = draft_snapshots (&d, &state);
    if (rc == 0)
        rc = patient_put_hole (p, &d, hole);
    if (rc == 0)
        rc = draft_publish (&d, true);
    draft_release (&d);
    repair_known_release (&known);
    r->result.segments += rc == 0;
    return rc;
}

/* Make segments [first, next) from what was put into the one hole that they left. */
static int make_segments (struct patient *p, uint64_t first, uint64_t next, const struct fill_hole *all)
{
    struct repair *r = p->repair;
    struct log_segment_view before;
    uint64_t len;
    int rc = log_segment_open (r->log, &r->view, first - 1, &before);
    if (rc)
        return rc;
    rc = r->log->fs->size (r->log->fs->context, before.fd, &len);
    struct segment_header h = before.header;
    log_segment_close (r->log, &before);
    h.prior_bytes += len;
    struct fill_hole hole = *all;
    size_t next_put = all->first_put;
    for (uint64_t number = first; number < next && rc == 0; number++) {
        struct fm_id salt;
        id_random (&salt);
        memcpy (h.salt, salt.bytes, sizeof h.salt);
        h.number = number;
        h.base_offset = hole.first_offset;
        h.created_ns = all->time_ns;
        h.snapshot_end = 0;
        h.identities_number = number - 1;
        cut_hole (p, &hole, number + 1 == next, &next_put, all->end_offset);
        rc = make_segment (p, &h, &hole);
        hole.first_offset = hole.end_offset;
    }
    return rc;
}

int repair_lost (struct repair *r, uint64_t first, uint64_t next, const struct segment_header *next_header)
{
    struct patient p;
    struct log_lost_list lost = { 0 };
    struct repair_known known = { 0 };
    struct recover_state state;
    bool whole;
    patient_init (&p, r);
    int rc = repair_known_before (r, first, &known, &state, &whole);
    repair_known_release (&known);
    if (rc == 0 && !whole) {
        struct repair_told t = { .outcome = REPAIR_LEFT, .why = "nothing before it tells what was in it" };
        repair_tell (r, first, &t);
        goto leave;
    }
    struct log_segment_view before = { .fd = -1 };
    if (rc == 0)
        rc = log_segment_open (r->log, &r->view, first - 1, &before);
    log_segment_close (r->log, &before);
    if (rc == 0 && before.sealed && before.trailer.end_offset > state.next_offset)
        state.next_offset = before.trailer.end_offset;  /* what its end lost is its own */
    if (rc == 0)
        rc = log_lost_between (r->log, &r->view, first - 1, next, &lost);
    for (size_t i = 0; i < lost.count && rc == 0; i++) {
        lost.items[i].after_pos = 0;
        rc = refetch_add (&p.refetch, &lost.items[i]);
    }
    const struct fill_hole hole = { .pos = 1, .end_pos = UINT64_MAX, .first_offset = state.next_offset,
                                    .end_offset = next_header->base_offset, .time_ns = state.last_time_ns,
                                    .end_time_ns = next_header->created_ns };
    if (rc == 0)
        rc = fill_add (&p.fill, &hole);
    if (rc == 0)
        rc = refetch_all (&p.refetch, r->options->source);
    if (rc == 0)
        rc = fill_holes (&p.fill);
    if (rc == 0) {
        repair_report_ranges (r, first, &p.refetch, &p.fill);
        const struct fill_hole *filled = &p.fill.holes[0];
        const bool nothing_lost = filled->first_offset == filled->end_offset;
        if (nothing_lost)
            repair_report_remade (r, first, "a segment without facts");
        if (!r->log->options.read_only) {
            for (uint64_t number = first; number < next && rc == 0; number++)
                rc = quarantine_whole (r, number);
            if (rc == 0)
                rc = patient_mark (&p, first, filled);
            if (rc == 0 && (filled->end_put > filled->first_put || nothing_lost))
                rc = make_segments (&p, first, next, filled);
        }
    }
leave:
    log_lost_release (&lost);
    patient_release (&p);
    return rc;
}
