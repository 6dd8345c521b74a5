#include "log_repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "factmesh.pb-c.h"
#include "log_repair_inner.h"

enum {
    QUARANTINE_NAMES_MAX = 1000,            /* of one place */
    COMPARE_BYTES = 256 << 10
};

/* --- Reports. */

void repair_tell (struct repair *r, uint64_t segment, struct repair_told *t)
{
    char name[SEGMENT_NAME_LEN];
    segment_name (segment, name);
    t->segment = segment;
    (void) snprintf (t->path, sizeof t->path, "%s/segments/%s", r->log->directory, name);   /* for people: cut where it does not fit */
    if (r->options->told)
        r->options->told (r->options->arg, t);
}

void repair_report_ranges (struct repair *r, uint64_t number, const struct refetch *f, const struct fill *fill)
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
            repair_tell (r, number, &t);
        }
    }
    free (put);
    free (offsets);
    free (reordered);
}

void repair_report_remade (struct repair *r, uint64_t number, const char *what)
{
    struct repair_told t = { .outcome = REPAIR_REMADE, .why = what };
    repair_tell (r, number, &t);
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

int repair_quarantine (struct repair *r, int fd, uint64_t number, uint64_t pos, uint64_t end)
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

/* --- What is known of streams and cursors where a segment begins. */

void repair_known_release (struct repair_known *k)
{
    stream_table_release (&k->streams);
    cursor_table_release (&k->cursors);
}

static int reset_known (struct repair *r, struct repair_known *k, struct recover_state *state)
{
    repair_known_release (k);
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
    const struct recover_bounds bounds = { .limit = s.sealed ? s.trailer.records_end : UINT64_MAX, .followed = true };
    rc = recover_scan (r->log->fs, s.fd, &s.header, bounds, &scan, state, ret_result);
    scan_release (&scan);
    log_segment_close (r->log, &s);
    return rc;
}

int repair_known_before (struct repair *r, uint64_t number, struct repair_known *k, struct recover_state *state, bool *ret_whole)
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
    stream_table_mark_stale (&k->streams);  /* retention may have gone on behind those snapshots */
    *ret_whole = whole;
    return 0;
}

/* --- One segment. */

void patient_init (struct patient *p, struct repair *r)
{
    *p = (struct patient) { .repair = r, .view = { .fd = -1 } };
    refetch_init (&p->refetch, r->log);
    p->fill = (struct fill) { .refetch = &p->refetch, .fd = -1, .is_within = is_cursor_within, .arg = r };
}

void patient_release (struct patient *p)
{
    p->repair->result.refused += p->refetch.refused;
    log_segment_close (p->repair->log, &p->view);
    refetch_release (&p->refetch);
    fill_release (&p->fill);
    free (p->spots);
}

/* --- All of it. */

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
            rc = repair_segment (r, number, &f->items[number - f->first]);
        else {
            rc = repair_lost (r, number, readable, &h);
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
