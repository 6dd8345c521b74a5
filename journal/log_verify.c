/* log_verify: look at every segment: list them, check every byte, merge their topics. For inspect, verify and
 * doctor; a log that is open read-only will do, and a journal that is running is not disturbed. */

#include <errno.h>
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
    uint64_t previous;                      /* the last segment that could be read */
};

static void report (struct verify *v, struct log_damage *d)
{
    v->result.damaged++;
    path_of (v->log, d->segment, d->path);
    if (v->damage)
        v->damage (v->arg, d);
}

/* A range without headers: told stream by stream where the neighbours know them, and as a range of offsets where
 * not. */
static int report_hole (struct verify *v, struct log_damage *d, struct log_lost_list *lost, uint64_t pos,
                        uint64_t end_pos)
{
    uint64_t facts = 0;
    for (size_t i = 0; i < lost->count; i++) {
        struct log_lost *l = &lost->items[i];
        if (l->first_seq == l->end_seq || l->after_pos >= pos || l->before_pos < end_pos)
            continue;
        struct log_damage one = *d;
        one.stream = l->stream;
        one.first_seq = l->first_seq;
        one.end_seq = l->end_seq;
        facts += l->end_seq - l->first_seq;
        l->first_seq = l->end_seq;          /* told */
        report (v, &one);
    }
    if (facts == 0 || facts != d->end_offset - d->first_offset)
        report (v, d);
    return 0;
}

struct hole {
    uint64_t pos, end_pos, first_offset;
};

/* The hole's end is known: the next record's offset, or where the segment should end. */
static int close_hole (struct verify *v, uint64_t number, struct hole *h, struct log_lost_list *lost, bool *lost_known,
                       uint64_t end_offset)
{
    if (h->pos == 0)
        return 0;
    int rc = 0;
    if (!*lost_known)
        rc = log_lost_in (v->log, &v->view, number, lost);
    *lost_known = true;
    struct log_damage d = { .segment = number,
                            .first_pos = h->pos,
                            .end_pos = h->end_pos,
                            .first_offset = h->first_offset,
                            .end_offset = end_offset > h->first_offset ? end_offset : h->first_offset,
                            .what = "checksum" };
    if (rc == 0)
        rc = report_hole (v, &d, lost, h->pos, h->end_pos);
    *h = (struct hole) { 0 };
    return rc;
}

static void report_body (struct verify *v, uint64_t number, const struct segment_scan *scan)
{
    const struct record *r = &scan->record;
    struct log_damage d = { .segment = number,
                            .first_pos = scan->pos,
                            .end_pos = scan->next_pos,
                            .first_offset = r->offset,
                            .end_offset = r->offset + record_offsets (r),
                            .what = "checksum" };
    if (r->kind == RECORD_BATCH) {
        d.stream = r->stream;
        d.first_seq = r->first_seq;
        d.end_seq = r->first_seq + r->count;
    }
    report (v, &d);
}

/* Every record of one segment. */
static int verify_records (struct verify *v, const struct log_segment_view *s)
{
    struct segment_scan scan = { .fd = -1 };
    struct log_lost_list lost = { 0 };
    struct hole hole = { 0 };
    bool lost_known = false;
    const uint64_t number = s->header.number, done = v->result.bytes;
    int rc = scan_start (&scan, v->log->fs, s->fd, record_seed (s->header.salt), SEGMENT_RECORDS_POS, s->end_pos);
    while (rc == 0) {
        const uint8_t *body;
        rc = scan_next (&scan);
        if (rc == FM_ERR_CORRUPT) {
            /* Without a trailer the end is not known: what is no record there may be the rest of a footer. */
            const bool is_end = !s->sealed && scan.next_pos == s->end_pos && number != v->view.active_number;
            hole = is_end ? hole
                          : (struct hole) { .pos = scan.pos, .end_pos = scan.next_pos, .first_offset = v->next_offset };
            rc = 0;
            continue;
        }
        if (rc)
            break;
        rc = close_hole (v, number, &hole, &lost, &lost_known, scan.record.offset);
        const int body_rc = rc ? rc : scan_body (&scan, &body);
        if (body_rc == FM_ERR_CORRUPT)
            report_body (v, number, &scan);
        else if (body_rc) {
            rc = body_rc;
            break;
        }
        if (scan.pos >= s->header.snapshot_end && scan.record.kind != RECORD_SYNC_MARK)
            v->result.records++;
        v->result.facts += scan.record.kind == RECORD_BATCH ? scan.record.count : 0;
        v->next_offset = scan.record.offset + record_offsets (&scan.record);
        if (v->progress)
            v->progress (v->arg, done + scan.next_pos, v->all);
    }
    if (rc == FM_ERR_END)
        rc = close_hole (v, number, &hole, &lost, &lost_known, s->sealed ? s->trailer.end_offset : v->next_offset);
    if (rc == 0 && s->sealed)
        v->next_offset = s->trailer.end_offset;
    scan_release (&scan);
    log_lost_release (&lost);
    return rc;
}

/* Does the footer hold what the records say? All of it follows from them. */
static int verify_footer (struct verify *v, const struct log_segment_view *s)
{
    struct segment_index *index = NULL;
    void *footer = NULL;
    uint8_t *bytes = NULL;
    size_t len;
    uint64_t records_end, file_len;
    bool good = false;
    int rc = s->sealed ? log_segment_scan_index (v->log, s, &index, &records_end) : FM_ERR_CORRUPT;
    if (rc == 0)
        rc = segment_index_encode (index, &s->header, s->end_pos, &footer, &len);
    if (rc == 0)
        rc = v->log->fs->size (v->log->fs->context, s->fd, &file_len);
    if (rc == 0 && file_len == s->end_pos + len) {
        bytes = malloc (len);
        rc = bytes ? fs_read_full (v->log->fs, s->fd, bytes, len, s->end_pos) : -ENOMEM;
        good = rc == 0 && memcmp (bytes, footer, len) == 0;
    }
    free (bytes);
    free (footer);
    segment_index_destroy (&index);
    if (rc && rc != FM_ERR_CORRUPT && rc != -EIO && rc != FM_ERR_END)
        return rc;
    if (!good) {
        struct log_damage d = { .segment = s->header.number,
                                .first_pos = s->end_pos,
                                .end_pos = s->end_pos,
                                .first_offset = s->header.base_offset,
                                .end_offset = s->header.base_offset,
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

/* Offsets jump between two segments: one is missing, or its end is. */
static int verify_joint (struct verify *v, const struct log_segment_view *s)
{
    const uint64_t number = s->header.number;
    if (v->next_offset == 0 || s->header.base_offset == v->next_offset)
        return 0;
    struct log_lost_list lost = { 0 };
    struct log_damage d = { .segment = number > 1 ? number - 1 : number,
                            .first_offset = v->next_offset,
                            .end_offset = s->header.base_offset,
                            .what = v->previous + 1 < number ? "missing segment" : "truncated" };
    int rc = v->previous ? log_lost_between (v->log, &v->view, v->previous, number, &lost) : 0;
    if (rc == 0)
        rc = report_hole (v, &d, &lost, 1, 0);
    log_lost_release (&lost);
    return rc;
}

static int verify_segment (struct verify *v, uint64_t number)
{
    struct log_segment_view s;
    int rc = log_segment_open (v->log, &v->view, number, &s);
    if (rc == FM_ERR_CORRUPT || rc == -ENOENT) {
        log_view_refresh (v->log, &v->view);
        if (number < v->view.first_number)
            return 0;                       /* retention was quicker */
        if (rc == FM_ERR_CORRUPT) {
            struct log_damage d = {
                .segment = number, .first_offset = v->next_offset, .end_offset = v->next_offset, .what = "header"
            };
            report (v, &d);
        }
        return 0;                           /* what is missing shows at the next one's start */
    }
    if (rc)
        return rc;
    v->result.segments++;
    uint64_t len = s.end_pos;
    rc = verify_joint (v, &s);
    if (rc == 0)
        rc = verify_header (v, &s);
    v->next_offset = s.header.base_offset;
    if (rc == 0)
        rc = verify_records (v, &s);
    if (rc == 0 && number != v->view.active_number) {
        rc = v->log->fs->size (v->log->fs->context, s.fd, &len);
        if (rc == 0)
            rc = verify_footer (v, &s);
    }
    v->result.bytes += len;
    v->previous = number;
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
    for (uint64_t number = v.view.first_number; number <= last && number > 0; number++) {
        const int rc = verify_segment (&v, number);
        if (rc)
            return rc;
    }
    *ret = v.result;
    return 0;
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
