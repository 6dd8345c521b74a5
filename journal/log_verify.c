/* log_verify: look at every segment: list them, check every byte, merge their topics. For inspect, verify and
 * doctor; a log that is open read-only will do, and a journal that is running is not disturbed. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "checksum.h"
#include "error.h"
#include "log_state.h"

static void path_of (const struct log *log, uint64_t number, char path[512])
{
    char name[SEGMENT_NAME_LEN];
    segment_name (number, name);
    (void) snprintf (path, 512, "%s/segments/%s", log->directory, name);    /* cut where it does not fit: for people */
}

/* --- Listing. */

/* Counts of a segment: from its trailer, the live index, or a scan. */
static int summarise (struct log *log, const struct log_segment_view *s, struct segment_trailer *ret_summary)
{
    if (s->sealed) {
        *ret_summary = s->trailer;
        return 0;
    }
    pthread_mutex_lock (&log->index_lock);
    const bool active = log->index_number == s->header.number;
    if (active)
        segment_index_summary (log->index, s->end_pos, ret_summary);
    pthread_mutex_unlock (&log->index_lock);
    if (active)
        return 0;
    struct segment_index *index;
    uint64_t records_end;
    const int rc = log_segment_scan_index (log, s, &index, &records_end);
    if (rc)
        return rc;
    segment_index_summary (index, records_end, ret_summary);
    segment_index_destroy (&index);
    return 0;
}

static int describe (struct log *log, const struct log_view *view, uint64_t number, struct log_segment_info *ret_info)
{
    struct log_segment_view s;
    struct segment_trailer t;
    struct log_segment_info info = { .number = number };
    path_of (log, number, info.path);
    int rc = log_segment_open (log, view, number, &s);
    if (rc)
        return rc;
    rc = summarise (log, &s, &t);
    if (rc == 0)
        rc = log->fs->size (log->fs->context, s.fd, &info.bytes);
    info.sealed = s.sealed;
    info.first_offset = s.header.base_offset;
    log_segment_close (log, &s);
    if (rc)
        return rc;
    info.end_offset = t.end_offset > info.first_offset ? t.end_offset : info.first_offset;
    info.records = t.records;
    info.facts = t.facts;
    info.first_time_ns = t.first_time_ns;
    info.last_time_ns = t.last_time_ns;
    info.streams = t.stream_count;
    info.topics = t.topic_count;
    *ret_info = info;
    return 0;
}

int log_segment_list (struct log *log, struct log_segment_info *ret, size_t max, size_t *ret_count)
{
    struct log_view view;
    size_t count = 0;
    log_view_get (log, &view);
    for (uint64_t number = view.first_number; number <= view.active_number && number > 0 && count < max; number++) {
        const int rc = describe (log, &view, number, &ret[count]);
        if (rc == 0)
            count++;
        else if (rc != FM_ERR_CORRUPT && rc != -ENOENT)
            return rc;
    }
    *ret_count = count;
    return 0;
}

/* --- Verifying. */

struct verify {
    struct log *log;
    struct log_view view;
    void (*damage) (void *arg, const struct log_damage *d);
    void (*progress) (void *arg, uint64_t done, uint64_t all);
    void *arg;
    uint64_t all;
    struct log_verify_result result;
    uint64_t next_offset;                   /* expected; 0: not known */
    uint64_t previous;                      /* the last segment that could be read, */
    uint64_t previous_end_pos, previous_len;        /* the end of its records, and of its file */
};

static void report (struct verify *v, struct log_damage *d)
{
    v->result.damaged++;
    if (d->end_segment == 0)
        d->end_segment = d->segment + 1;
    path_of (v->log, d->segment, d->path);
    if (v->damage)
        v->damage (v->arg, d);
}

/* What the range d hid, told stream by stream where the neighbours know them, and as a range of offsets where they
 * don't account for all of it. An entry of the list that was told is empty. */
static void report_lost (struct verify *v, const struct log_damage *d, struct log_lost_list *lost, bool all)
{
    uint64_t facts = 0;
    for (size_t i = 0; i < lost->count; i++) {
        struct log_lost *l = &lost->items[i];
        if (l->first_seq == l->end_seq
            || (!all && (l->after_pos >= d->first_pos || l->before_pos < d->end_pos)))
            continue;
        struct log_damage one = *d;
        one.stream = l->stream;
        one.first_seq = l->first_seq;
        one.end_seq = l->end_seq;
        facts += l->end_seq - l->first_seq;
        l->first_seq = l->end_seq;
        report (v, &one);
    }
    if (facts == 0 || facts != d->end_offset - d->first_offset) {
        struct log_damage rest = *d;
        report (v, &rest);
    }
}

/* The records of one segment, as they are walked. */
struct walk {
    const struct log_segment_view *segment;
    struct segment_scan scan;
    struct log_lost_list lost;
    bool lost_known;
    uint64_t hole_pos, hole_end_pos, hole_offset;   /* hole_pos 0: there is none */
};

/* The hole's end is known: the next record's offset, or where the segment should end. */
static int close_hole (struct verify *v, struct walk *w, uint64_t end_offset)
{
    if (w->hole_pos == 0)
        return 0;
    const uint64_t number = w->segment->header.number;
    if (!w->lost_known) {
        const int rc = log_lost_in (v->log, &v->view, number, &w->lost);
        if (rc)
            return rc;
    }
    w->lost_known = true;
    const struct log_damage d = { .segment = number,
                                  .first_pos = w->hole_pos,
                                  .end_pos = w->hole_end_pos,
                                  .first_offset = w->hole_offset,
                                  .end_offset = end_offset > w->hole_offset ? end_offset : w->hole_offset,
                                  .what = w->hole_pos < w->segment->header.snapshot_end ? "snapshot" : "checksum" };
    report_lost (v, &d, &w->lost, false);
    w->hole_pos = 0;
    return 0;
}

/* The header is good, the body is not. */
static int report_body (struct verify *v, struct walk *w)
{
    const struct record *r = &w->scan.record;
    if (r->kind == RECORD_BATCH) {
        struct log_damage d = { .segment = w->segment->header.number,
                                .first_pos = w->scan.pos,
                                .end_pos = w->scan.next_pos,
                                .first_offset = r->offset,
                                .end_offset = r->offset + r->count,
                                .stream = r->stream,
                                .first_seq = r->first_seq,
                                .end_seq = r->first_seq + r->count,
                                .what = "checksum" };
        report (v, &d);
        return 0;
    }
    w->hole_pos = w->scan.pos;              /* of a gap, its end is lost: the neighbours tell */
    w->hole_end_pos = w->scan.next_pos;
    w->hole_offset = r->offset;
    return close_hole (v, w, r->offset + record_offsets (r));
}

/* Each record's offset is the one behind those of the record before; behind a hole it tells how far that goes. Else two facts have one offset, or one has gone
 * without a trace. */
static void check_offset (struct verify *v, const struct walk *w, bool behind_hole)
{
    const struct record *r = &w->scan.record;
    if (r->offset == v->next_offset || (behind_hole && r->offset > v->next_offset))
        return;
    const bool repeated = r->offset < v->next_offset;
    struct log_damage d = { .segment = w->segment->header.number,
                            .first_pos = w->scan.pos,
                            .end_pos = w->scan.next_pos,
                            .first_offset = repeated ? r->offset : v->next_offset,
                            .end_offset = repeated ? r->offset + record_offsets (r) : r->offset,
                            .what = repeated ? "repeated offsets" : "missing offsets" };
    if (repeated && r->kind == RECORD_BATCH) {
        d.stream = r->stream;
        d.first_seq = r->first_seq;
        d.end_seq = r->first_seq + r->count;
    }
    report (v, &d);
}

static int verify_record (struct verify *v, struct walk *w)
{
    const struct record *r = &w->scan.record;
    const uint8_t *body;
    uint64_t end_seq;
    uint32_t reason;
    const bool behind_hole = w->hole_pos != 0;
    int rc = close_hole (v, w, r->offset);
    if (rc)
        return rc;
    check_offset (v, w, behind_hole);
    rc = scan_body (&w->scan, &body);
    if (rc == 0 && r->kind == RECORD_GAP && record_gap_decode (r, body, &end_seq, &reason))
        rc = FM_ERR_CORRUPT;
    if (rc == FM_ERR_CORRUPT)
        rc = report_body (v, w);
    if (rc)
        return rc;
    if (w->scan.pos >= w->segment->header.snapshot_end && r->kind != RECORD_SYNC_MARK)
        v->result.records++;
    v->result.facts += r->kind == RECORD_BATCH ? r->count : 0;
    v->next_offset = r->offset + record_offsets (r);
    v->previous_end_pos = w->scan.next_pos;
    return 0;
}

/* Every record of one segment. */
static int verify_records (struct verify *v, const struct log_segment_view *s)
{
    struct walk w = { .segment = s, .scan = { .fd = -1 } };
    const uint64_t done = v->result.bytes;
    v->previous_end_pos = SEGMENT_RECORDS_POS;
    int rc = scan_start (&w.scan, v->log->fs, s->fd, record_seed (s->header.salt), SEGMENT_RECORDS_POS, s->end_pos);
    while (rc == 0) {
        rc = scan_next (&w.scan);
        if (rc == FM_ERR_CORRUPT) {
            /* Without a trailer the end is not known: what is no record there may be the rest of a footer. */
            const bool is_end = !s->sealed && w.scan.next_pos == s->end_pos
                                && s->header.number != v->view.active_number;
            w.hole_pos = is_end ? 0 : w.scan.pos;
            w.hole_end_pos = w.scan.next_pos;
            w.hole_offset = v->next_offset;
            rc = 0;
        } else if (rc == 0) {
            rc = verify_record (v, &w);
            if (v->progress)
                v->progress (v->arg, done + w.scan.next_pos, v->all);
        }
    }
    if (rc == FM_ERR_END)
        rc = close_hole (v, &w, s->sealed ? s->trailer.end_offset : v->next_offset);
    if (rc == 0 && s->sealed)
        v->next_offset = s->trailer.end_offset;
    scan_release (&w.scan);
    log_lost_release (&w.lost);
    return rc;
}

/* Are the sections as they were written? Of a segment whose records are damaged no more can be said: the footer knows what
 * they were. */
static int check_sections (struct verify *v, const struct log_segment_view *s)
{
    struct index_stream *streams = NULL;
    struct index_position *positions = NULL;
    struct index_topic *topics = NULL;
    struct identity_entry *identities = NULL;
    void *names = NULL;
    int rc = index_read_streams (v->log->fs, s->fd, &s->trailer, &streams);
    if (rc == 0)
        rc = index_read_positions (v->log->fs, s->fd, &s->trailer, &positions);
    if (rc == 0)
        rc = index_read_topics (v->log->fs, s->fd, &s->trailer, &names, &topics);
    if (rc == 0)
        rc = index_read_identities (v->log->fs, s->fd, &s->trailer, &identities);
    free (identities);
    free (streams);
    free (positions);
    free (topics);
    free (names);
    return rc;
}

/* Does the footer hold what the records say? All of it follows from them. */
static int compare_footer (struct verify *v, const struct log_segment_view *s)
{
    struct segment_index *index = NULL;
    void *footer = NULL;
    uint8_t *bytes = NULL;
    size_t len = 0;
    uint64_t records_end, file_len;
    int rc = log_segment_scan_index (v->log, s, &index, &records_end);
    if (rc == 0 && s->trailer.identity_count == 0)      /* of a version that did not keep them */
        segment_index_drop_identities (index);
    if (rc == 0)
        rc = segment_index_encode (index, &s->header, s->end_pos, &footer, &len);
    if (rc == 0)
        rc = v->log->fs->size (v->log->fs->context, s->fd, &file_len);
    if (rc == 0 && file_len != s->end_pos + len)
        rc = FM_ERR_CORRUPT;
    if (rc == 0) {
        bytes = malloc (len);
        rc = bytes ? fs_read_full (v->log->fs, s->fd, bytes, len, s->end_pos) : -ENOMEM;
    }
    if (rc == 0 && memcmp (bytes, footer, len) != 0)
        rc = FM_ERR_CORRUPT;
    free (bytes);
    free (footer);
    segment_index_destroy (&index);
    return rc;
}

static int verify_footer (struct verify *v, const struct log_segment_view *s, bool records_whole)
{
    int rc = FM_ERR_CORRUPT;
    if (s->sealed)
        rc = records_whole ? compare_footer (v, s) : check_sections (v, s);
    if (rc && rc != FM_ERR_CORRUPT && rc != -EIO && rc != FM_ERR_END)
        return rc;
    if (rc) {
        struct log_damage d = { .segment = s->header.number,
                                .first_pos = v->previous_end_pos,
                                .end_pos = v->previous_len,
                                .first_offset = v->next_offset,
                                .end_offset = v->next_offset,
                                .what = "footer" };
        report (v, &d);
    }
    return 0;
}

/* The header's block, with both its copies. */
static int verify_header (struct verify *v, const struct log_segment_view *s)
{
    static const uint64_t places[] = { 0, SEGMENT_HEADER_COPY_POS };
    uint8_t block[SEGMENT_RECORDS_POS], expected[SEGMENT_RECORDS_POS] = { 0 };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        segment_header_encode (&s->header, expected + places[i]);
    const int rc = fs_read_full (v->log->fs, s->fd, block, sizeof block, 0);
    if (rc && rc != -EIO && rc != FM_ERR_END)
        return rc;
    if (rc || memcmp (block, expected, sizeof block) != 0) {
        struct log_damage d = { .segment = s->header.number,
                                .end_pos = SEGMENT_RECORDS_POS,
                                .first_offset = s->header.base_offset,
                                .end_offset = s->header.base_offset,
                                .what = "header" };
        report (v, &d);
    }
    return 0;
}

static int segment_len (struct log *log, uint64_t number, uint64_t *ret_len)
{
    char name[SEGMENT_NAME_LEN];
    segment_name (number, name);
    const int fd = log->fs->open (log->fs->context, log->segments, name, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    const int rc = log->fs->size (log->fs->context, fd, ret_len);
    (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
    return rc;
}

/* Segments [first, end) can't be read: tell of the files that are there, and of those that are not. What was in them is
 * told with the first of them, whole. */
static int report_unread (struct verify *v, uint64_t first, uint64_t end, struct log_damage *lost_with,
                          struct log_lost_list *lost)
{
    bool told = false;
    for (uint64_t number = first; number < end;) {
        struct log_damage d = *lost_with;
        d.segment = number;
        int rc = segment_len (v->log, number, &d.end_pos);
        if (rc && rc != -ENOENT)
            return rc;
        const bool missing = rc == -ENOENT;
        for (number++; missing && number < end && segment_len (v->log, number, &d.end_pos) == -ENOENT;)
            number++;
        d.end_segment = number;
        d.end_pos = missing ? 0 : d.end_pos;
        d.what = missing ? "missing segment" : "unreadable segment";
        if (told)
            d.first_offset = d.end_offset;
        if (!told && d.first_offset < d.end_offset)
            report_lost (v, &d, lost, true);
        else if (!missing || d.first_offset < d.end_offset)
            report (v, &d);                 /* a hole in the numbering that took nothing with it is no damage */
        told = true;
    }
    return 0;
}

/* The segment before ends beyond where this one begins: they are not of one history, as where the files of two copies were put together. */
static void report_overlap (struct verify *v, const struct log_segment_view *s)
{
    struct log_damage d = { .segment = s->header.number,
                            .end_pos = SEGMENT_RECORDS_POS,
                            .first_offset = s->header.base_offset,
                            .end_offset = v->next_offset,
                            .what = "repeated offsets" };
    if (d.first_offset < d.end_offset)
        report (v, &d);
}

/* Between two segments: do offsets jump? Then one is missing, or the end of the first is. */
static int verify_joint (struct verify *v, const struct log_segment_view *s)
{
    const uint64_t number = s->header.number;
    const bool jump = v->next_offset > 0 && s->header.base_offset > v->next_offset;
    const uint64_t unread = v->previous ? v->previous + 1 : v->view.first_number;
    if (!jump && unread == number)
        return 0;
    struct log_lost_list lost = { 0 };
    struct log_damage d = { .segment = v->previous,
                            .first_pos = v->previous_end_pos,
                            .end_pos = v->previous_len,
                            .first_offset = jump ? v->next_offset : s->header.base_offset,
                            .end_offset = s->header.base_offset,
                            .what = "truncated" };
    int rc = v->previous && jump ? log_lost_between (v->log, &v->view, v->previous, number, &lost) : 0;
    if (rc == 0 && unread == number)
        report_lost (v, &d, &lost, true);
    else if (rc == 0) {
        d.first_pos = 0;
        rc = report_unread (v, unread, number, &d, &lost);
    }
    log_lost_release (&lost);
    return rc;
}

/* Files below the oldest segment that can be read, unless retention took them meanwhile. Where they began is known of
 * the first alone. */
static int report_first (struct verify *v)
{
    struct log_lost_list none = { 0 };
    struct log_damage d = { .first_offset = v->log->first_number == 1 ? 1 : v->view.first_offset,
                            .end_offset = v->view.first_offset };
    uint64_t len, number = v->log->first_number;
    while (number < v->view.first_number && segment_len (v->log, number, &len) == -ENOENT)
        number++;
    return number < v->view.first_number ? report_unread (v, number, v->view.first_number, &d, &none) : 0;
}

static int verify_segment (struct verify *v, uint64_t number)
{
    struct log_segment_view s;
    int rc = log_segment_open (v->log, &v->view, number, &s);
    if (rc == FM_ERR_CORRUPT || rc == -ENOENT) {
        /* What is missing shows at the next one's start, unless retention was quicker. */
        struct log_view now;
        log_view_refresh (v->log, &now);
        if (number < now.first_number)
            v->view.first_number = now.first_number;
        return 0;
    }
    if (rc)
        return rc;
    v->result.segments++;
    uint64_t len = s.end_pos;
    rc = verify_joint (v, &s);
    report_overlap (v, &s);
    if (rc == 0)
        rc = verify_header (v, &s);
    v->next_offset = s.header.base_offset;
    const uint64_t damaged = v->result.damaged;
    if (rc == 0)
        rc = verify_records (v, &s);
    v->previous = number;
    if (rc == 0 && number != v->view.active_number)
        rc = v->log->fs->size (v->log->fs->context, s.fd, &len);
    v->previous_len = len;
    if (rc == 0 && number != v->view.active_number)
        rc = verify_footer (v, &s, v->result.damaged == damaged);
    v->result.bytes += len;
    log_segment_close (v->log, &s);
    return rc;
}

int log_verify (struct log *log, void (*damage) (void *arg, const struct log_damage *d),
                void (*progress) (void *arg, uint64_t done, uint64_t all), void *arg, struct log_verify_result *ret)
{
    struct verify v = { .log = log, .damage = damage, .progress = progress, .arg = arg };
    struct log_position position;
    log_view_get (log, &v.view);
    log_position (log, &position);
    v.all = position.bytes;
    const uint64_t last = v.view.active_number;
    int rc = 0;
    /* The oldest files may be unreadable: the log then begins behind them. */
    if (log->first_number > 0 && log->first_number < v.view.first_number && last > 0)
        rc = report_first (&v);
    for (uint64_t number = v.view.first_number; number <= last && number > 0 && rc == 0; number++)
        rc = verify_segment (&v, number);
    /* A log that is open read-only may end in segments that no start has put away yet. What was in them is not known. */
    if (rc == 0 && log->options.read_only && last > 0 && log->last_number > last) {
        struct log_damage d = { .first_offset = v.next_offset, .end_offset = v.next_offset };
        struct log_lost_list none = { 0 };
        rc = report_unread (&v, last + 1, log->last_number + 1, &d, &none);
    }
    if (rc == 0)
        *ret = v.result;
    return rc;
}

/* --- Topics: the smallest `max` names over all segments, in one bounded list. */

struct topic_list {
    struct topic_count {
        uint64_t facts;
        size_t len;
        uint8_t name[TOPIC_MAX];
    } **items;                              /* in order */
    size_t count, max;
    bool more, no_memory;
};

static int compare_names (const struct topic_count *t, struct fm_slice name)
{
    const size_t shorter = t->len < name.len ? t->len : name.len;
    const int order = memcmp (t->name, name.data, shorter);
    return order ? order : (t->len > name.len) - (t->len < name.len);
}

static void merge_topic (void *arg, const struct index_topic *topic)
{
    struct topic_list *l = arg;
    size_t low = 0, high = l->count;
    if (topic->name.len > TOPIC_MAX)
        return;                             /* no topic of ours: a footer that somebody else wrote */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (compare_names (l->items[middle], topic->name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < l->count && compare_names (l->items[low], topic->name) == 0) {
        l->items[low]->facts += topic->facts;
        return;
    }
    /* A name that is pushed out never comes back: the list's greatest only gets smaller. */
    if (l->count == l->max)
        l->more = true;
    if (low == l->max)
        return;
    struct topic_count *item = l->count == l->max ? l->items[--l->count] : malloc (sizeof *item);
    if (!item) {
        l->no_memory = true;
        return;
    }
    *item = (struct topic_count) { .facts = topic->facts, .len = topic->name.len };
    memcpy (item->name, topic->name.data, topic->name.len);
    memmove (l->items + low + 1, l->items + low, (l->count - low) * sizeof *l->items);
    l->items[low] = item;
    l->count++;
}

static int merge_sealed (struct log *log, uint64_t number, struct topic_list *list)
{
    struct log_view now;
    struct log_segment_view s;
    log_view_get (log, &now);
    int rc = log_segment_open (log, &now, number, &s);
    if (rc)
        return rc == FM_ERR_CORRUPT || rc == -ENOENT ? 0 : rc;
    void *bytes = NULL;
    struct index_topic *topics = NULL;
    rc = s.sealed ? index_read_topics (log->fs, s.fd, &s.trailer, &bytes, &topics) : FM_ERR_CORRUPT;
    if (rc == 0) {
        for (uint32_t i = 0; i < s.trailer.topic_count; i++)
            merge_topic (list, &topics[i]);
        list->more |= (s.trailer.flags & SEGMENT_FLAG_TOPICS_INCOMPLETE) != 0;
        free (topics);
        free (bytes);
    } else if (rc == FM_ERR_CORRUPT) {
        struct segment_index *index;
        uint64_t records_end;
        rc = log_segment_scan_index (log, &s, &index, &records_end);
        if (rc == 0) {
            segment_index_each_topic (index, merge_topic, list);
            segment_index_destroy (&index);
        }
    }
    log_segment_close (log, &s);
    return rc;
}

int log_topic_each (struct log *log, size_t max, void (*each) (void *arg, struct fm_slice topic, uint64_t facts),
                    void *arg, bool *ret_more)
{
    struct topic_list list = { .max = max };
    struct log_view view;
    int rc = 0;
    log_view_get (log, &view);
    list.items = calloc (max + 1, sizeof *list.items);
    if (!list.items)
        return -ENOMEM;
    for (uint64_t number = view.first_number; number <= view.active_number && number > 0 && rc == 0; number++) {
        pthread_mutex_lock (&log->index_lock);
        const bool active = log->index_number == number;
        if (active) {
            struct segment_trailer summary;
            segment_index_each_topic (log->index, merge_topic, &list);
            segment_index_summary (log->index, 0, &summary);
            list.more |= (summary.flags & SEGMENT_FLAG_TOPICS_INCOMPLETE) != 0;
        }
        pthread_mutex_unlock (&log->index_lock);
        if (!active)
            rc = merge_sealed (log, number, &list);
    }
    if (rc == 0 && list.no_memory)
        rc = -ENOMEM;
    for (size_t i = 0; i < list.count; i++) {
        if (rc == 0)
            each (arg, slice (list.items[i]->name, list.items[i]->len), list.items[i]->facts);
        free (list.items[i]);
    }
    free (list.items);
    if (rc == 0)
        *ret_more = list.more;
    return rc;
}
