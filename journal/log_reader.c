/* log_reader: walk the synced records in offset order, filtered.
 *
 * One buffer, one descriptor: the segment's file stays readable when retention removes its name. The reader stands
 * between records; next_offset is what it returns next. Invariant: whatever lies between next_offset and the record
 * at hand is a gap and is told (expired in front of the oldest segment, damaged elsewhere), so that damage needs no
 * case of its own: a hole is where offsets jump. Whose sequences a hole hid is found out by log_lost, only then. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "batch_cut.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "log_reader_inner.h"
#include "topic.h"

int log_reader_new (struct log *log, struct log_reader **ret_reader)
{
    struct log_reader *r = calloc (1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->log = log;
    r->segment.fd = -1;
    log_view_get (log, &r->view);
    r->number = r->view.first_number;
    r->next_offset = r->view.first_offset;
    *ret_reader = r;
    return 0;
}

void reader_forget_due (struct log_reader *r)
{
    r->due.count = r->due_next = 0;
    r->due_offset = 0;
}

void log_reader_destroy (struct log_reader **reader)
{
    struct log_reader *r = *reader;
    if (!r)
        return;
    log_segment_close (r->log, &r->segment);
    scan_release (&r->scan);
    log_lost_release (&r->lost);
    log_lost_release (&r->due);
    free (r->skipped);
    free (r->patterns);
    free (r->pattern_bytes);
    free (r);
    *reader = NULL;
}

int log_reader_filter (struct log_reader *r, const struct fm_id *stream, const struct fm_slice *patterns, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += patterns[i].len;
    struct pattern *copies = malloc ((count + 1) * sizeof *copies);
    uint8_t *copy = malloc (bytes + 1);
    if (!copies || !copy) {
        free (copies);
        free (copy);
        return -ENOMEM;
    }
    uint8_t *p = copy;
    for (size_t i = 0; i < count; i++) {
        copies[i].text = slice (p, patterns[i].len);
        copies[i].prefix = topic_pattern_prefix (patterns[i]);
        if (patterns[i].len > 0)
            memcpy (p, patterns[i].data, patterns[i].len);
        p += patterns[i].len;
    }
    free (r->patterns);
    free (r->pattern_bytes);
    r->patterns = copies;
    r->pattern_bytes = copy;
    r->pattern_count = count;
    r->by_stream = stream != NULL;
    if (stream)
        r->stream = *stream;
    return 0;
}

/* --- Filters. */

static bool matches (const struct pattern *pattern, struct fm_slice topic)
{
    const struct fm_slice text = pattern->text;
    if (topic.len < pattern->prefix || (pattern->prefix == text.len && topic.len != text.len)
        || memcmp (topic.data, text.data, pattern->prefix) != 0)
        return false;
    return pattern->prefix == text.len || topic_match (text, topic);
}

bool log_reader_wants (const struct log_reader *r, struct fm_slice topic)
{
    for (size_t i = 0; i < r->pattern_count; i++)
        if (matches (&r->patterns[i], topic))
            return true;
    return r->pattern_count == 0;
}

/* The body was checked when it was recorded, and its sum is right: only its topics' names are looked at. */
static bool batch_wanted (struct log_reader *r, const uint8_t *body, size_t len)
{
    struct batch_topics topics;
    struct fm_slice name;
    int rc;
    if (r->pattern_count == 0)
        return true;
    batch_topics_init (&topics, slice (body, len));
    while ((rc = batch_topics_next (&topics, &name)) == 0)
        if (log_reader_wants (r, name))
            return true;
    return rc != FM_ERR_END;                /* a newer version's, say: who asked will see */
}

static int segment_may_match (struct log_reader *r, bool *ret_may)
{
    const struct log_segment_view *s = &r->segment;
    *ret_may = true;
    if (r->pattern_count == 0 || (s->trailer.flags & SEGMENT_FLAG_TOPICS_INCOMPLETE))
        return 0;
    void *bytes;
    struct index_topic *topics;
    const int rc = index_read_topics (r->log->fs, s->fd, &s->trailer, &bytes, &topics);
    if (rc)
        return rc == FM_ERR_CORRUPT ? 0 : rc;
    bool may = false;
    for (uint32_t i = 0; i < s->trailer.topic_count && !may; i++)
        may = log_reader_wants (r, topics[i].name);
    free (topics);
    free (bytes);
    *ret_may = may;
    return 0;
}

/* Can the whole segment be left out? Then its streams are remembered, to be told. A segment with gaps or damage is
 * read: those are told to everybody. */
static int try_skip (struct log_reader *r, bool *ret_skipped)
{
    const struct log_segment_view *s = &r->segment;
    *ret_skipped = false;
    if ((!r->by_stream && r->pattern_count == 0) || !s->sealed
        || (s->trailer.flags & (SEGMENT_FLAG_DAMAGED | SEGMENT_FLAG_GAPS)))
        return 0;
    bool may;
    int rc = segment_may_match (r, &may);
    if (rc || (may && !r->by_stream))
        return rc;
    struct index_stream *streams;
    rc = index_read_streams (r->log->fs, s->fd, &s->trailer, &streams);
    if (rc)
        return rc == FM_ERR_CORRUPT ? 0 : rc;
    uint32_t count = s->trailer.stream_count;
    if (r->by_stream) {
        const struct index_stream *only = index_streams_find (streams, count, &r->stream);
        if (only && may) {
            free (streams);
            return 0;
        }
        if (only)
            streams[0] = *only;
        count = only ? 1 : 0;
    }
    free (r->skipped);
    r->skipped = streams;
    r->skipped_count = count;
    r->skipped_next = 0;
    *ret_skipped = true;
    return 0;
}

/* --- From segment to segment. */

static void leave_segment (struct log_reader *r)
{
    log_segment_close (r->log, &r->segment);
    r->number++;
    r->start_pos = 0;
    r->lost_known = false;
    r->lost.count = 0;
}

/* The open segment begins behind where the last one ended: segments between them are lost, or its end is. Find out
 * what was there. */
static int note_jump (struct log_reader *r)
{
    if (r->last_read < r->view.first_number || r->segment.header.base_offset <= r->next_offset)
        return 0;
    struct log_lost_list lost = { 0 };
    int rc = log_lost_between (r->log, &r->view, r->last_read, r->number, &lost);
    for (size_t i = 0; i < lost.count && rc == 0; i++)
        rc = log_lost_add (&r->due, &lost.items[i]);
    log_lost_release (&lost);
    /* One of them went meanwhile: a range of offsets has to do. */
    return rc == FM_ERR_CORRUPT || rc == -ENOENT ? 0 : rc;
}

int reader_enter_segment (struct log_reader *r)
{
    for (;;) {
        log_view_get (r->log, &r->view);
        if (r->number < r->view.first_number) {
            r->number = r->view.first_number;
            r->start_pos = 0;
        }
        if (r->number > r->view.active_number || r->view.active_number == 0)
            return FM_ERR_END;
        int rc = log_segment_open (r->log, &r->view, r->number, &r->segment);
        if (rc == FM_ERR_CORRUPT || rc == -ENOENT) {
            struct log_view now;
            log_view_refresh (r->log, &now);
            if (r->number >= now.first_number) {
                r->number++;                /* lost; what follows it shows the jump */
                r->start_pos = 0;
            }
            continue;
        }
        if (rc)
            return rc;
        rc = note_jump (r);
        if (rc == 0)
            rc = scan_start (&r->scan, r->log->fs, r->segment.fd, record_seed (r->segment.header.salt),
                             r->start_pos ? r->start_pos : r->segment.header.snapshot_end, r->segment.end_pos);
        if (rc) {
            log_segment_close (r->log, &r->segment);
            return rc;
        }
        r->last_read = r->number;
        if (r->log->fs->advise)
            /* Only speed: what it returns does not matter. */
            (void) r->log->fs->advise (r->log->fs->context, r->segment.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        return 0;
    }
}

/* The open segment is read up to where it was synced. Is there more of it by now, or has it been sealed? */
static int look_further (struct log_reader *r)
{
    if (r->number < r->view.active_number) {
        leave_segment (r);
        return 0;
    }
    log_view_get (r->log, &r->view);
    if (r->number == r->view.active_number) {
        if (r->view.synced_pos <= r->scan.end)
            return FM_ERR_END;
        r->scan.end = r->segment.end_pos = r->view.synced_pos;
        return 0;
    }
    int rc = segment_read_trailer (r->log->fs, r->segment.fd, &r->segment.header, &r->segment.trailer);
    if (rc == 0) {
        r->segment.sealed = true;
        r->segment.end_pos = r->segment.trailer.records_end;
    } else if (rc == FM_ERR_CORRUPT)
        rc = r->log->fs->size (r->log->fs->context, r->segment.fd, &r->segment.end_pos);
    r->scan.end = r->segment.end_pos;
    return rc;
}

/* --- Records. */

/* A hole in the open segment: which sequences were in it? Those between a record before and a record behind it. */
static int note_hole (struct log_reader *r)
{
    int rc = 0;
    if (!r->lost_known)
        rc = log_lost_in (r->log, &r->view, r->number, &r->lost);
    r->lost_known = rc == 0;
    for (size_t i = 0; i < r->lost.count && rc == 0; i++) {
        struct log_lost *l = &r->lost.items[i];
        if (l->first_seq == l->end_seq || l->after_pos >= r->scan.pos || l->before_pos < r->scan.next_pos)
            continue;
        rc = log_lost_add (&r->due, l);
        l->first_seq = l->end_seq;
    }
    return rc;
}

/* A gap record whose body is damaged is no better than a hole: its end is not known. */
static bool is_unreadable_gap (struct log_reader *r)
{
    const uint8_t *body;
    uint64_t end_seq;
    uint32_t reason;
    return r->scan.record.kind == RECORD_GAP
           && (scan_body (&r->scan, &body) || record_gap_decode (&r->scan.record, body, &end_seq, &reason));
}

int reader_step (struct log_reader *r, bool may_skip)
{
    for (;;) {
        int rc;
        if (r->segment.fd < 0) {
            rc = reader_enter_segment (r);
            if (rc)
                return rc;
            if (may_skip && r->start_pos == 0 && r->next_offset <= r->segment.header.base_offset) {
                bool skipped;
                rc = try_skip (r, &skipped);
                if (rc || skipped) {
                    r->at = rc ? AT_NOTHING : AT_SKIPPED;
                    return rc;
                }
            }
        }
        rc = scan_next (&r->scan);
        if (rc == 0 && !is_unreadable_gap (r)) {
            const uint64_t offsets = record_offsets (&r->scan.record);
            if (offsets > 0 && r->scan.record.offset + offsets > r->next_offset) {
                r->at = AT_RECORD;
                return 0;
            }
        } else if (rc == 0 || rc == FM_ERR_CORRUPT)
            rc = note_hole (r);
        else if (rc == FM_ERR_END)
            rc = look_further (r);
        if (rc)
            return rc;
    }
}

static bool is_filtered_out (const struct log_reader *r, const struct fm_id *stream)
{
    return r->by_stream && !id_equal (stream, &r->stream);
}

/* The offsets [next_offset, end) as a gap; expired ones apart from damaged ones. */
static void tell_offsets (struct log_reader *r, uint64_t end, struct log_item *ret_item)
{
    const bool expired = r->next_offset < r->view.first_offset;
    const uint64_t gap_end = expired && r->view.first_offset < end ? r->view.first_offset : end;
    *ret_item = (struct log_item) { .kind = LOG_ITEM_GAP,
                                    .offset = r->next_offset,
                                    .time_ns = r->segment.header.created_ns,
                                    .first_seq = r->next_offset,
                                    .end_seq = gap_end,
                                    .reason = expired ? FACTMESH__GAP_REASON__GAP_EXPIRED
                                                      : FACTMESH__GAP_REASON__GAP_DAMAGED };
    r->next_offset = gap_end;
}

/* What is to be told before offset `end`: the offsets that are missing, unless it is known of all of them whose they
 * were; then the streams that lost something. False: nothing is left to be told. */
static bool tell_gap (struct log_reader *r, uint64_t end, struct log_item *ret_item)
{
    if (r->next_offset < end) {
        uint64_t facts = 0;
        r->due_offset = r->next_offset;
        for (size_t i = r->due_next; i < r->due.count; i++)
            facts += r->due.items[i].end_seq - r->due.items[i].first_seq;
        if (facts != end - r->next_offset) {
            tell_offsets (r, end, ret_item);
            return true;
        }
        r->next_offset = end;
    }
    while (r->due_next < r->due.count) {
        const struct log_lost *l = &r->due.items[r->due_next++];
        if (is_filtered_out (r, &l->stream))
            continue;
        *ret_item = (struct log_item) { .kind = LOG_ITEM_GAP, .offset = r->due_offset ? r->due_offset : end,
                                        .time_ns = r->segment.header.created_ns, .stream = l->stream,
                                        .first_seq = l->first_seq, .end_seq = l->end_seq,
                                        .reason = FACTMESH__GAP_REASON__GAP_DAMAGED };
        return true;
    }
    return false;
}

static struct log_item item_of (const struct record *rec)
{
    return (struct log_item) { .kind = LOG_ITEM_BATCH,
                               .offset = rec->offset,
                               .time_ns = rec->time_ns,
                               .stream = rec->stream,
                               .first_seq = rec->first_seq,
                               .end_seq = rec->first_seq + rec->count };
}

/* The record at hand as an item. False: the filter leaves it out altogether. */
static int take_record (struct log_reader *r, struct log_item *ret_item, bool *ret_taken)
{
    const struct record *rec = &r->scan.record;
    *ret_taken = !is_filtered_out (r, &rec->stream);
    if (*ret_taken) {
        const uint8_t *body;
        struct log_item item = item_of (rec);
        const int rc = scan_body (&r->scan, &body);
        if (rc && rc != FM_ERR_CORRUPT)
            return rc;
        if (rc) {
            item.kind = LOG_ITEM_GAP;
            item.reason = FACTMESH__GAP_REASON__GAP_DAMAGED;
        } else if (rec->kind == RECORD_GAP) {
            item.kind = LOG_ITEM_GAP;
            (void) record_gap_decode (rec, body, &item.end_seq, &item.reason);  /* step tried it */
        } else if (batch_wanted (r, body, rec->body_len))
            item.bytes = slice (body, rec->body_len);
        *ret_item = item;
    }
    r->next_offset = rec->offset + record_offsets (rec);
    return 0;
}

/* The next stream of the segment that is left out; false: all are told, and it is left. */
static bool tell_skipped (struct log_reader *r, struct log_item *ret_item)
{
    const struct segment_trailer *t = &r->segment.trailer;
    if (r->skipped_next < r->skipped_count) {
        const struct index_stream *s = &r->skipped[r->skipped_next++];
        *ret_item = (struct log_item) { .kind = LOG_ITEM_BATCH,
                                        .offset = s->last_offset,
                                        .time_ns = t->first_time_ns,
                                        .stream = s->stream,
                                        .first_seq = s->first_seq,
                                        .end_seq = s->last_seq + 1 };
        return true;
    }
    r->next_offset = t->end_offset;
    leave_segment (r);
    r->at = AT_NOTHING;
    return false;
}

int log_reader_next (struct log_reader *r, struct log_item *ret_item)
{
    for (;;) {
        int rc = r->at == AT_NOTHING ? reader_step (r, true) : 0;
        /* What is damaged at the very end has no record behind it that would show the jump. */
        if (rc == FM_ERR_END && r->segment.fd >= 0 && tell_gap (r, r->view.synced_offset, ret_item))
            return 0;
        if (rc)
            return rc;
        const uint64_t next = r->at == AT_SKIPPED ? r->segment.header.base_offset : r->scan.record.offset;
        if (tell_gap (r, next, ret_item))
            return 0;
        reader_forget_due (r);
        if (r->at == AT_SKIPPED) {
            if (tell_skipped (r, ret_item))
                return 0;
            continue;
        }
        bool taken;
        rc = take_record (r, ret_item, &taken);
        if (rc)
            return rc;
        r->at = AT_NOTHING;
        if (taken)
            return 0;
    }
}

bool log_reader_ahead (const struct log_reader *r, struct log_item *ret_item)
{
    if (r->at != AT_RECORD || r->scan.record.kind != RECORD_BATCH || is_filtered_out (r, &r->scan.record.stream))
        return false;
    *ret_item = item_of (&r->scan.record);
    return true;
}

void log_reader_position (const struct log_reader *r, uint64_t *ret_offset, uint64_t *ret_remaining_bytes)
{
    struct log_view view;
    log_view_get (r->log, &view);
    const uint64_t end = view.active_prior_bytes + view.synced_pos;
    uint64_t at = r->number <= view.first_number ? view.first_prior_bytes : end;
    if (r->segment.fd >= 0)
        at = r->segment.header.prior_bytes + r->scan.next_pos;
    *ret_offset = r->next_offset;
    *ret_remaining_bytes = at < end && r->next_offset < view.synced_offset ? end - at : 0;
}
