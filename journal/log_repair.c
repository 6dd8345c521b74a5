#include "log_repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "draft.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "fill.h"
#include "identities.h"

enum {
    QUARANTINE_NAMES_MAX = 1000,            /* of one place */
    GAP_REASONS_MAX = 32,                   /* tried to make a damaged gap record anew */
    COMPARE_BYTES = 256 << 10
};

struct repair {
    struct log *log;
    const struct repair_options *options;
    struct log_view view;
    struct repair_result result;
    bool no_memory;
};

/* What is not a whole record in a segment. */
struct spot {
    enum spot_kind {
        SPOT_HOLE,                          /* no header */
        SPOT_BATCH,                         /* a batch's header */
        SPOT_GAP,                           /* a gap's header */
        SPOT_EMPTY,                         /* took no offsets: a cursor's record, or a mark */
        SPOT_SNAPSHOT,                      /* in the snapshots */
        SPOT_END                            /* what was cut off */
    } kind;
    uint64_t pos, end_pos;
    struct record record;                   /* SPOT_BATCH, SPOT_GAP */
    size_t hole;                            /* of the fill; SIZE_MAX: none */
    uint8_t gap_body[RECORD_GAP_LEN];       /* SPOT_GAP: found again */
    bool gap_found;
};

/* One segment under repair. */
struct patient {
    struct repair *repair;
    struct log_segment_view view;
    uint64_t records_end, end_offset;       /* behind the last record, or the last hole */
    uint64_t last_time_ns;
    bool header_lost, footer_lost;          /* one of the header's copies; the footer */
    bool snapshots_lost;
    struct spot *spots;
    size_t count, size;
    struct refetch refetch;
    struct fill fill;
};

static void told (struct repair *r, uint64_t segment, struct repair_told *t)
{
    char name[SEGMENT_NAME_LEN];
    segment_name (segment, name);
    t->segment = segment;
    (void) snprintf (t->path, sizeof t->path, "%s/segments/%s", r->log->directory, name);   /* for people: cut where it does not fit */
    if (r->options->told)
        r->options->told (r->options->arg, t);
}

/* --- Quarantine. */

static int is_same (const struct fs *fs, int fd, uint64_t pos, int copy, uint64_t len, uint8_t *buffer, bool *ret_same)
{
    uint64_t copy_len;
    int rc = fs->size (fs->context, copy, &copy_len);
    *ret_same = rc == 0 && copy_len == len;
    for (uint64_t done = 0; rc == 0 && *ret_same && done < len;) {
        const size_t n = len - done < COMPARE_BYTES ? (size_t) (len - done) : COMPARE_BYTES;
        memset (buffer, 0, n);
        const ssize_t a = scan_read (fs, fd, buffer, n, pos + done);
        rc = a < 0 ? (int) a : fs_read_full (fs, copy, buffer + COMPARE_BYTES, n, done);
        *ret_same = rc == 0 && memcmp (buffer, buffer + COMPARE_BYTES, n) == 0;
        done += n;
    }
    return rc;
}

static int copy_to (const struct fs *fs, int fd, uint64_t pos, int copy, uint64_t len, uint8_t *buffer)
{
    int rc = 0;
    for (uint64_t done = 0; rc == 0 && done < len;) {
        const size_t n = len - done < COMPARE_BYTES ? (size_t) (len - done) : COMPARE_BYTES;
        memset (buffer, 0, n);
        const ssize_t a = scan_read (fs, fd, buffer, n, pos + done);
        rc = a < 0 ? (int) a : fs_write_full (fs, copy, buffer, n, done);
        done += n;
    }
    return rc;
}

/* Copy [pos, end) of a segment, durable on return. A copy that an earlier run made is found again, and written once more: whether it is on
 * disk is not known. */
static int quarantine (struct repair *r, int fd, uint64_t number, uint64_t pos, uint64_t end)
{
    const struct fs *fs = r->log->fs;
    uint8_t *buffer = malloc (2 * COMPARE_BYTES);
    int copy = -EEXIST, rc = buffer ? 0 : -ENOMEM;
    for (int i = 0; i < QUARANTINE_NAMES_MAX && copy == -EEXIST && rc == 0; i++) {
        char name[96];
        (void) snprintf (name, sizeof name, "%010llu-%llu.%d.damaged", (unsigned long long) number,
                         (unsigned long long) pos, i);
        copy = fs->open (fs->context, r->log->quarantine, name, O_RDWR, 0);
        if (copy == -ENOENT) {
            copy = fs->open (fs->context, r->log->quarantine, name, O_RDWR | O_CREAT | O_EXCL, 0666);
            break;
        }
        bool same = false;
        rc = copy < 0 ? copy : is_same (fs, fd, pos, copy, end - pos, buffer, &same);
        if (copy >= 0 && !same) {
            (void) fs->close (fs->context, copy);   /* other bytes: damage of another time, or a copy cut short */
            copy = -EEXIST;
        }
    }
    if (rc == 0)
        rc = copy < 0 ? copy : copy_to (fs, fd, pos, copy, end - pos, buffer);
    if (rc == 0)
        rc = fs->sync_data (fs->context, copy);
    if (copy >= 0) {
        const int closed = fs->close (fs->context, copy);
        rc = rc ? rc : closed;
    }
    if (rc == 0)
        rc = fs->sync_dir (fs->context, r->log->quarantine);
    free (buffer);
    r->result.quarantined += rc == 0;
    return rc ? error_set (rc, "cannot copy segment %llu from %llu to %s/quarantine: %s", (unsigned long long) number,
                           (unsigned long long) pos, r->log->directory, fm_error_text (rc))
              : 0;
}

/* --- Cursors. */

/* Does a named cursor stand within these offsets? */
static bool is_cursor_within (void *arg, uint64_t first_offset, uint64_t end_offset)
{
    const struct repair *r = arg;
    struct cursor_view c;
    struct fm_slice after = slice (NULL, 0);
    bool within = false;
    while (!within && cursor_table_next (&r->log->cursors, after, &c) == 0) {
        /* A group's state holds many offsets, wherever its facts are: it counts as standing within. */
        const bool is_own = *(const uint8_t *) c.name.data <= (uint8_t) *CURSOR_NAME_FLOOR;
        Factmesh__Cursor *cursor = is_own ? NULL : factmesh__cursor__unpack (NULL, c.cursor.len, c.cursor.data);
        within = !cursor || (cursor->offset > first_offset && cursor->offset < end_offset);
        if (cursor)
            factmesh__cursor__free_unpacked (cursor, NULL);
        after = c.name;
    }
    return within;
}

/* --- What is wrong with a segment. */

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

static int examine (struct patient *p)
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

/* --- What to do about it. */

/* Tell of each range what was put back of it and what was not. */
static void report_ranges (struct repair *r, uint64_t number, const struct refetch *f, const struct fill *fill)
{
    bool *put = calloc (f->part_count + 1, sizeof *put);
    uint64_t *offsets = calloc (f->part_count + 1, sizeof *offsets);
    bool *reordered = calloc (f->part_count + 1, sizeof *reordered);
    for (size_t h = 0; put && offsets && reordered && h < fill->hole_count; h++)
        for (size_t i = fill->holes[h].first_put; i < fill->holes[h].end_put; i++) {
            put[fill->puts[i].part] = true;
            offsets[fill->puts[i].part] = fill->puts[i].offset;
            reordered[fill->puts[i].part] = !fill->holes[h].proven;
        }
    r->no_memory |= !put || !offsets || !reordered;
    for (size_t i = 0; i < f->range_count && !r->no_memory; i++) {
        const struct refetch_range *range = &f->ranges[i];
        for (size_t k = range->first_part; k < range->end_part;) {
            const struct refetch_part *first = &f->parts[k];
            const bool is_back = put[k];
            struct repair_told t = { .outcome = is_back ? REPAIR_REFETCHED : REPAIR_LEFT, .stream = range->lost.stream,
                                     .first_seq = first->first_seq, .first_offset = is_back ? offsets[k] : 0 };
            for (; k < range->end_part && put[k] == is_back; k++) {
                const struct refetch_part *part = &f->parts[k];
                t.end_seq = part->end_seq;
                t.end_offset = is_back ? offsets[k] + (part->kind == PART_GAP ? 1 : part->end_seq - part->first_seq) : 0;
                t.reordered |= reordered[k];
            }
            if (!is_back)
                t.why = !r->options->source                ? "nobody was asked"
                        : range->kept_from == FILL_CURSOR             ? "a cursor stands within, or there are groups, and the order was lost"
                        : range->kept_from == FILL_UNFIT              ? "what the other has does not fit the offsets"
                                                                      : "the other does not have it";
            *(is_back ? &r->result.refetched : &r->result.left) += t.end_seq - t.first_seq;
            told (r, number, &t);
        }
    }
    free (put);
    free (offsets);
    free (reordered);
}

static void report_remade (struct repair *r, uint64_t number, const char *what)
{
    struct repair_told t = { .outcome = REPAIR_REMADE, .why = what };
    told (r, number, &t);
}

/* Put the parts of one hole. */
static int put_hole (struct patient *p, struct draft *d, const struct fill_hole *hole)
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

static bool is_filled (const struct patient *p, const struct spot *spot)
{
    return spot->hole != SIZE_MAX && p->fill.holes[spot->hole].end_put > p->fill.holes[spot->hole].first_put;
}

static int write_spot (struct patient *p, struct draft *d, const struct spot *spot, bool same_salt)
{
    if (is_filled (p, spot))
        return put_hole (p, d, &p->fill.holes[spot->hole]);
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
        return draft_copy (d, p->view.fd, spot->pos, spot->end_pos, same_salt);
    case SPOT_BATCH:
        return draft_copy (d, p->view.fd, spot->pos, spot->end_pos, same_salt);
    case SPOT_HOLE:
    case SPOT_SNAPSHOT:
        return draft_hole (d, p->view.fd, spot->pos, spot->end_pos);
    case SPOT_EMPTY:
    case SPOT_END:
        return 0;
    }
    return 0;
}

/* Bytes that a spot takes in the new segment. */
static uint64_t spot_len (const struct patient *p, const struct spot *spot)
{
    uint64_t len = 0;
    if (!is_filled (p, spot))
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

/* --- What is known of streams and cursors where a segment begins. */

struct known {
    struct stream_table streams;
    struct cursor_table cursors;
};

static int reset_known (struct repair *r, struct known *k, struct recover_state *state)
{
    stream_table_release (&k->streams);
    cursor_table_release (&k->cursors);
    int rc = stream_table_init (&k->streams, r->log->options.streams_max);
    if (rc == 0)
        rc = cursor_table_init (&k->cursors, r->log->options.cursors_max);
    *state = (struct recover_state) { .streams = &k->streams, .cursors = &k->cursors };
    return rc;
}

static int add_segment (struct repair *r, uint64_t number, struct recover_state *state, struct recover_result *ret_result)
{
    struct log_segment_view s;
    struct segment_scan scan = { .fd = -1 };
    int rc = log_segment_open (r->log, &r->view, number, &s);
    if (rc)
        return rc;
    rc = recover_scan (r->log->fs, s.fd, &s.header, s.sealed ? s.trailer.records_end : UINT64_MAX, &scan, state, ret_result);
    scan_release (&scan);
    log_segment_close (r->log, &s);
    return rc;
}

/* From the nearest whole snapshots before segment `number`. *ret_whole: nothing between was lost. */
static int known_before (struct repair *r, uint64_t number, struct known *k, struct recover_state *state, bool *ret_whole)
{
    uint64_t start = number;
    bool whole = false;
    int rc = 0;
    while (start > r->view.first_number && !whole) {
        struct recover_result result = { 0 };
        start--;
        rc = reset_known (r, k, state);
        if (rc == 0)
            rc = add_segment (r, start, state, &result);
        if (rc && rc != FM_ERR_CORRUPT && rc != -ENOENT)
            return rc;
        whole = rc == 0 && !result.snapshot_damaged;
    }
    bool found = whole;
    for (uint64_t next = start + 1; next < number && found; next++) {
        struct recover_result result;
        rc = add_segment (r, next, state, &result);
        if (rc && rc != FM_ERR_CORRUPT && rc != -ENOENT)
            return rc;
        k->streams.complete &= rc == 0;
    }
    *ret_whole = whole;
    return 0;
}

/* --- Which of the facts that are put back repeat others, or are repeated. */

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
            rc = is_filled (p, &p->spots[next]) ? mark_hole (m, &p->fill.holes[p->spots[next].hole]) : 0;
    }
    rc = rc == FM_ERR_END ? 0 : rc;
    for (; rc == 0 && next < p->count; next++)
        rc = is_filled (p, &p->spots[next]) ? mark_hole (m, &p->fill.holes[p->spots[next].hole]) : 0;
    scan_release (&scan);
    return rc;
}

/* number: of the first of the segments that are lost whole, and go into `hole`; NULL: of one that can be read. */
static int mark (struct patient *p, uint64_t number, const struct fill_hole *hole)
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

/* --- A segment that can be read. */

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
    int rc = draft_init (&d, r->log, &h);
    if (rc == 0 && new_snapshots)
        rc = draft_snapshots (&d, state);
    const uint64_t from = new_snapshots ? s->header.snapshot_end : SEGMENT_RECORDS_POS;
    if (rc == 0)
        rc = scan_start (&scan, r->log->fs, s->fd, record_seed (s->header.salt), from, p->records_end);
    size_t next = 0;
    while (next < p->count && p->spots[next].pos < from)
        next++;
    while (rc == 0 && (rc = scan_next (&scan)) != FM_ERR_END) {
        const uint64_t pos = scan.pos, end = scan.next_pos;
        if (rc && rc != FM_ERR_CORRUPT)
            break;
        const bool is_spot = next < p->count && p->spots[next].pos < end;
        if (is_spot)
            rc = 0;
        while (next < p->count && p->spots[next].pos < end && rc == 0)
            rc = write_spot (p, &d, &p->spots[next++], same_salt);
        if (!is_spot && rc == 0)
            rc = draft_copy (&d, s->fd, pos, end, same_salt);
    }
    rc = rc == FM_ERR_END ? 0 : rc;
    for (; next < p->count && rc == 0; next++)
        rc = write_spot (p, &d, &p->spots[next], same_salt);
    if (rc == 0)
        rc = draft_publish (&d, h.number != r->view.active_number);
    scan_release (&scan);
    draft_release (&d);
    return rc ? error_set (rc, "cannot make segment %llu of %s anew: %s", (unsigned long long) h.number,
                           r->log->directory, fm_error_text (rc))
              : 0;
}

/* Everything of the file that is about to be replaced and is not whole. */
static int quarantine_spots (struct patient *p)
{
    int rc = 0;
    const uint64_t number = p->view.header.number;
    uint64_t len;
    for (size_t i = 0; i < p->count && rc == 0; i++)
        if (p->spots[i].kind != SPOT_END)
            rc = quarantine (p->repair, p->view.fd, number, p->spots[i].pos, p->spots[i].end_pos);
    if (rc == 0 && p->footer_lost) {
        rc = p->repair->log->fs->size (p->repair->log->fs->context, p->view.fd, &len);
        if (rc == 0 && len > p->records_end)
            rc = quarantine (p->repair, p->view.fd, number, p->records_end, len);
    }
    return rc == 0 && p->header_lost ? quarantine (p->repair, p->view.fd, number, 0, SEGMENT_RECORDS_POS) : rc;
}

static bool has_fill (const struct patient *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (is_filled (p, &p->spots[i]) || p->spots[i].kind == SPOT_EMPTY || p->spots[i].gap_found)
            return true;
    return false;
}

static void report_patient (struct patient *p, bool new_snapshots)
{
    struct repair *r = p->repair;
    const uint64_t number = p->view.header.number;
    report_ranges (r, number, &p->refetch, &p->fill);
    if (p->header_lost)
        report_remade (r, number, "the header");
    if (p->footer_lost)
        report_remade (r, number, "the footer");
    if (new_snapshots)
        report_remade (r, number, "the snapshots");
    for (size_t i = 0; i < p->count; i++) {
        if (p->spots[i].kind == SPOT_GAP && p->spots[i].gap_found)
            report_remade (r, number, "a gap's record");
        if (p->spots[i].kind == SPOT_EMPTY)
            report_remade (r, number, number == r->view.active_number
                                          ? "a record without facts left out: a cursor may stand where it stood before"
                                          : "a record without facts left out");
    }
}

static int mend (struct patient *p)
{
    struct repair *r = p->repair;
    struct known known = { 0 };
    struct recover_state state;
    bool new_snapshots = false;
    int rc = examine (p);
    if (rc == 0)
        rc = refetch_all (&p->refetch, r->options->source);
    if (rc == 0)
        rc = fill_holes (&p->fill);
    if (rc == 0 && p->snapshots_lost)
        rc = known_before (r, p->view.header.number, &known, &state, &new_snapshots);
    if (rc == 0)
        report_patient (p, new_snapshots);
    if (rc == 0 && !r->log->options.read_only) {
        rc = quarantine_spots (p);
        if (rc == 0)
            rc = mark (p, 0, NULL);
        if (rc == 0 && (p->header_lost || p->footer_lost || new_snapshots || has_fill (p))) {
            rc = write_segment (p, new_snapshots, &state);
            r->result.segments += rc == 0;
        }
    }
    stream_table_release (&known.streams);
    cursor_table_release (&known.cursors);
    return rc;
}

static void patient_init (struct patient *p, struct repair *r)
{
    *p = (struct patient) { .repair = r, .view = { .fd = -1 } };
    refetch_init (&p->refetch, r->log);
    p->fill = (struct fill) { .refetch = &p->refetch, .fd = -1, .is_within = is_cursor_within, .arg = r };
}

static void patient_release (struct patient *p)
{
    p->repair->result.refused += p->refetch.refused;
    log_segment_close (p->repair->log, &p->view);
    refetch_release (&p->refetch);
    fill_release (&p->fill);
    free (p->spots);
}

/* What log_verify found of a segment. */
struct finding {
    bool damaged, header_lost, footer_lost;
};

static int mend_segment (struct repair *r, uint64_t number, const struct finding *f)
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

/* --- Segments that are lost whole. */

/* The next number whose segment can be read; 0: none. */
static int next_readable (struct repair *r, uint64_t from, uint64_t *ret_number, struct segment_header *ret_header)
{
    *ret_number = 0;
    for (uint64_t number = from; number <= r->view.active_number; number++) {
        struct log_segment_view s;
        const int rc = log_segment_open (r->log, &r->view, number, &s);
        if (rc == 0) {
            *ret_number = number;
            *ret_header = s.header;
            log_segment_close (r->log, &s);
            return 0;
        }
        if (rc != FM_ERR_CORRUPT && rc != -ENOENT)
            return rc;
    }
    return 0;
}

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
        rc = quarantine (r, fd, number, 0, len);
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
    struct known known = { 0 };
    struct recover_state state;
    struct draft d = { .out = { .fd = -1 } };
    bool whole;
    int rc = known_before (r, h->number, &known, &state, &whole);
    if (rc == 0 && !whole)
        rc = FM_ERR_CORRUPT;
    if (rc == 0)
        rc = quarantine_whole (r, h->number);
    if (rc == 0)
        rc = draft_init (&d, r->log, h);
    if (rc == 0)
        rc = draft_snapshots (&d, &state);
    if (rc == 0)
        rc = put_hole (p, &d, hole);
    if (rc == 0)
        rc = draft_publish (&d, true);
    draft_release (&d);
    stream_table_release (&known.streams);
    cursor_table_release (&known.cursors);
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

static int mend_lost (struct repair *r, uint64_t first, uint64_t next, const struct segment_header *next_header)
{
    struct patient p;
    struct log_lost_list lost = { 0 };
    struct known known = { 0 };
    struct recover_state state;
    bool whole;
    patient_init (&p, r);
    int rc = known_before (r, first, &known, &state, &whole);
    stream_table_release (&known.streams);
    cursor_table_release (&known.cursors);
    if (rc == 0 && !whole) {
        struct repair_told t = { .outcome = REPAIR_LEFT, .why = "nothing before it tells what was in it" };
        told (r, first, &t);
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
        report_ranges (r, first, &p.refetch, &p.fill);
        const struct fill_hole *filled = &p.fill.holes[0];
        const bool nothing_lost = filled->first_offset == filled->end_offset;
        if (nothing_lost)
            report_remade (r, first, "a segment without facts");
        if (!r->log->options.read_only) {
            for (uint64_t number = first; number < next && rc == 0; number++)
                rc = quarantine_whole (r, number);
            if (rc == 0)
                rc = mark (&p, first, filled);
            if (rc == 0 && (filled->end_put > filled->first_put || nothing_lost))
                rc = make_segments (&p, first, next, filled);
        }
    }
leave:
    log_lost_release (&lost);
    patient_release (&p);
    return rc;
}

/* --- All of it. */

struct findings {
    const struct repair_options *options;
    uint64_t first, count;
    struct finding *items;
};

static void on_damage (void *arg, const struct log_damage *d)
{
    struct findings *f = arg;
    for (uint64_t number = d->segment; number < d->end_segment; number++)
        if (number >= f->first && number - f->first < f->count) {
            struct finding *found = &f->items[number - f->first];
            found->damaged = true;
            found->header_lost |= strcmp (d->what, "header") == 0;
            found->footer_lost |= strcmp (d->what, "footer") == 0;
        }
    if (f->options->damage)
        f->options->damage (f->options->arg, d);
}

static void on_progress (void *arg, uint64_t done, uint64_t all)
{
    const struct findings *f = arg;
    if (f->options->progress)
        f->options->progress (f->options->arg, done, all);
}

static int mend_all (struct repair *r, const struct findings *f)
{
    int rc = 0;
    for (uint64_t number = f->first; number < f->first + f->count && rc == 0; number++) {
        uint64_t readable;
        struct segment_header h;
        if (!f->items[number - f->first].damaged)
            continue;
        rc = next_readable (r, number, &readable, &h);
        if (rc || readable == 0)
            break;
        if (readable == number)
            rc = mend_segment (r, number, &f->items[number - f->first]);
        else {
            rc = mend_lost (r, number, readable, &h);
            number = readable - 1;
        }
    }
    return rc;
}

int log_repair (struct log *log, const struct repair_options *options, struct repair_result *ret_result)
{
    struct repair r = { .log = log, .options = options };
    struct findings f = { .options = options };
    struct log_verify_result verified = { 0 };
    (void) error_set (0, "%s", "");         /* so that an older detail does not pass for ours */
    log_view_get (log, &r.view);
    f.first = r.view.first_number;
    f.count = r.view.active_number ? r.view.active_number - f.first + 1 : 0;
    f.items = calloc (f.count + 1, sizeof *f.items);
    int rc = f.items ? log_verify (log, on_damage, on_progress, &f, &verified) : -ENOMEM;
    if (rc == 0)
        rc = mend_all (&r, &f);
    free (f.items);
    r.result.damaged = verified.damaged;
    if (rc == 0 && r.no_memory)
        rc = -ENOMEM;
    if (rc == 0)
        *ret_result = r.result;
    return rc;
}
