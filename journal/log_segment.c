/* log_segment: look at any segment from any thread: open it, find its end, read or rebuild its index, search among
 * segments. */

#include <errno.h>
#include <stdlib.h>

#include "fm_types.h"
#include "log_state.h"

int log_segment_open (struct log *log, const struct log_view *view, uint64_t number,
                      struct log_segment_view *ret_segment)
{
    struct log_segment_view s = { .fd = -1 };
    int rc = segment_open_read (log->fs, log->segments, number, &s.fd, &s.header);
    if (rc)
        return rc;
    if (!id_equal (&s.header.journal, &log->cookie.journal)) {
        log_segment_close (log, &s);
        return FM_ERR_CORRUPT;              /* a file of another journal: for us, not there */
    }
    if (number == view->active_number) {
        s.end_pos = view->synced_pos;
        *ret_segment = s;
        return 0;
    }
    rc = segment_read_trailer (log->fs, s.fd, &s.header, &s.trailer);
    if (rc == 0) {
        s.sealed = true;
        s.end_pos = s.trailer.records_end;
    } else if (rc == FM_ERR_CORRUPT)
        rc = log->fs->size (log->fs->context, s.fd, &s.end_pos);
    if (rc) {
        log_segment_close (log, &s);
        return rc;
    }
    *ret_segment = s;
    return 0;
}

void log_segment_close (struct log *log, struct log_segment_view *segment)
{
    if (segment->fd >= 0)
        (void) log->fs->close (log->fs->context, segment->fd);  /* read-only: nothing to lose */
    segment->fd = -1;
}

int log_segment_scan_index (struct log *log, const struct log_segment_view *s, struct segment_index **ret_index,
                            uint64_t *ret_records_end)
{
    struct segment_index *index = NULL;
    struct segment_scan scan = { .fd = -1 };
    uint64_t records_end = s->header.snapshot_end;
    bool damaged = false;
    int rc = segment_index_new (&index);
    if (rc == 0)
        rc = scan_start (&scan, log->fs, s->fd, record_seed (s->header.salt), s->header.snapshot_end, s->end_pos);
    while (rc == 0) {
        const uint8_t *body = NULL;
        rc = scan_next (&scan);
        if (rc == 0) {
            rc = scan_body (&scan, &body);
            if (rc == FM_ERR_CORRUPT && scan.record.kind == RECORD_BATCH)
                rc = 0;                     /* the header tells the rest */
        }
        if (rc == 0 && !segment_index_has_room (index))
            break;                          /* a segment rolls before: this is not one of ours */
        if (rc == 0) {
            if (damaged)
                segment_index_damaged (index);
            damaged = false;
            (void) segment_index_add (index, &scan.record, body, scan.pos);
            records_end = scan.next_pos;
        } else if (rc == FM_ERR_CORRUPT) {
            damaged = true;                 /* unless it is the end: a footer that is not one */
            rc = 0;
        }
    }
    scan_release (&scan);
    if (rc && rc != FM_ERR_END) {
        segment_index_destroy (&index);
        return rc;
    }
    *ret_index = index;
    *ret_records_end = records_end;
    return 0;
}

static int compare_streams (const void *a, const void *b)
{
    return memcmp (((const struct index_stream *) a)->stream.bytes, ((const struct index_stream *) b)->stream.bytes,
                   ID_LEN);
}

int log_segment_streams (struct log *log, const struct log_segment_view *s, struct index_stream **ret_streams,
                         uint32_t *ret_count)
{
    if (s->sealed) {
        const int rc = index_read_streams (log->fs, s->fd, &s->trailer, ret_streams);
        if (rc != FM_ERR_CORRUPT) {
            *ret_count = s->trailer.stream_count;
            return rc;
        }
    }
    struct segment_index *index;
    uint64_t records_end;
    const int rc = log_segment_scan_index (log, s, &index, &records_end);
    if (rc)
        return rc;
    const uint32_t count = segment_index_stream_count (index);
    struct index_stream *streams = malloc ((count + 1) * sizeof *streams);
    for (uint32_t i = 0; streams && i < count; i++)
        streams[i] = *segment_index_stream (index, i);
    segment_index_destroy (&index);
    if (!streams)
        return -ENOMEM;
    qsort (streams, count, sizeof *streams, compare_streams);
    *ret_streams = streams;
    *ret_count = count;
    return 0;
}

/* Copy the active segment's streams. FM_ERR_UNKNOWN: it was sealed meanwhile. */
static int active_streams (struct log *log, uint64_t number, struct index_stream **ret_streams, uint32_t *ret_count)
{
    /* The pages that are used are the streams that there are. */
    struct index_stream *streams = malloc (INDEX_STREAMS_MAX * sizeof *streams);
    if (!streams)
        return -ENOMEM;
    pthread_mutex_lock (&log->index_lock);
    const bool active = log->index_number == number;
    const uint32_t count = active ? segment_index_stream_count (log->index) : 0;
    for (uint32_t i = 0; i < count; i++)
        streams[i] = *segment_index_stream (log->index, i);
    pthread_mutex_unlock (&log->index_lock);
    if (!active) {
        free (streams);
        return FM_ERR_UNKNOWN;
    }
    *ret_streams = streams;
    *ret_count = count;
    return 0;
}

int log_segment_all_streams (struct log *log, const struct log_view *view, uint64_t number,
                             struct index_stream **ret_streams, uint32_t *ret_count)
{
    int rc = number == view->active_number ? active_streams (log, number, ret_streams, ret_count) : FM_ERR_UNKNOWN;
    if (rc != FM_ERR_UNKNOWN)
        return rc;
    struct log_view now;
    struct log_segment_view s;
    log_view_get (log, &now);
    rc = log_segment_open (log, &now, number, &s);
    if (rc == 0) {
        rc = log_segment_streams (log, &s, ret_streams, ret_count);
        log_segment_close (log, &s);
    }
    return rc;
}

/* Copy the active segment's positions. False: the segment was sealed meanwhile. */
static bool active_positions (struct log *log, uint64_t number, struct index_position *positions, uint32_t *ret_count)
{
    pthread_mutex_lock (&log->index_lock);
    const bool active = log->index_number == number;
    if (active)
        *ret_count = (uint32_t) segment_index_positions (log->index, positions, INDEX_POSITIONS_MAX);
    pthread_mutex_unlock (&log->index_lock);
    return active;
}

/* From the footer, or else by a scan. */
static int sealed_positions (struct log *log, const struct log_segment_view *s, struct index_position *positions,
                             uint32_t *ret_count)
{
    struct index_position *from_footer = NULL;
    int rc = s->sealed ? index_read_positions (log->fs, s->fd, &s->trailer, &from_footer) : FM_ERR_CORRUPT;
    if (rc == 0) {
        *ret_count = s->trailer.position_count;
        memcpy (positions, from_footer, *ret_count * sizeof *positions);
        free (from_footer);
    }
    if (rc != FM_ERR_CORRUPT)
        return rc;
    struct segment_index *index;
    uint64_t records_end;
    rc = log_segment_scan_index (log, s, &index, &records_end);
    if (rc)
        return rc;
    *ret_count = (uint32_t) segment_index_positions (index, positions, INDEX_POSITIONS_MAX);
    segment_index_destroy (&index);
    return 0;
}

int log_segment_positions (struct log *log, const struct log_view *view, uint64_t number,
                           struct index_position **ret_positions, uint32_t *ret_count)
{
    struct index_position *positions = malloc (INDEX_POSITIONS_MAX * sizeof *positions);
    if (!positions)
        return -ENOMEM;
    if (number != view->active_number || !active_positions (log, number, positions, ret_count)) {
        struct log_view now;
        struct log_segment_view s;
        log_view_get (log, &now);
        int rc = log_segment_open (log, &now, number, &s);
        if (rc == 0) {
            rc = sealed_positions (log, &s, positions, ret_count);
            log_segment_close (log, &s);
        }
        if (rc) {
            free (positions);
            return rc;
        }
    }
    *ret_positions = positions;
    return 0;
}

/* The last position for which is_below holds; they are in the same order by position, offset and time. */
static int search_positions (struct log *log, const struct log_view *view, uint64_t number, uint64_t value,
                             bool (*is_below) (const struct index_position *p, uint64_t value), uint64_t *ret_pos)
{
    struct index_position *positions;
    uint32_t count;
    int rc = log_segment_positions (log, view, number, &positions, &count);
    if (rc)
        return rc == FM_ERR_CORRUPT || rc == -ENOENT ? 0 : rc;  /* lost, or gone meanwhile: whoever opens it will see */
    uint32_t low = 0, high = count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (is_below (&positions[middle], value))
            low = middle + 1;
        else
            high = middle;
    }
    *ret_pos = low > 0 ? positions[low - 1].pos : 0;
    free (positions);
    return 0;
}

static bool offset_at_or_below (const struct index_position *p, uint64_t offset)
{
    return p->offset <= offset;
}

/* Below, not at: several records may bear the same time, and the first of them is wanted. */
static bool time_below (const struct index_position *p, uint64_t time_ns)
{
    return p->time_ns < time_ns;
}

int log_segment_pos_by_offset (struct log *log, const struct log_view *view, uint64_t number, uint64_t offset,
                               uint64_t *ret_pos)
{
    *ret_pos = 0;
    return search_positions (log, view, number, offset, offset_at_or_below, ret_pos);
}

int log_segment_pos_by_time (struct log *log, const struct log_view *view, uint64_t number, uint64_t time_ns,
                             uint64_t *ret_pos)
{
    *ret_pos = 0;
    return search_positions (log, view, number, time_ns, time_below, ret_pos);
}

int log_segment_stream (struct log *log, const struct log_view *view, uint64_t number, const struct fm_id *stream,
                        struct index_stream *ret_stream)
{
    if (number == view->active_number) {
        pthread_mutex_lock (&log->index_lock);
        const bool active = log->index_number == number;
        const struct index_stream *s = active ? segment_index_find (log->index, stream) : NULL;
        if (s)
            *ret_stream = *s;
        pthread_mutex_unlock (&log->index_lock);
        if (active)
            return s ? 0 : FM_ERR_UNKNOWN;
    }
    struct log_view now;
    struct log_segment_view segment;
    struct index_stream *streams = NULL;
    uint32_t count = 0;
    log_view_get (log, &now);
    int rc = log_segment_open (log, &now, number, &segment);
    if (rc == 0) {
        rc = log_segment_streams (log, &segment, &streams, &count);
        log_segment_close (log, &segment);
    }
    if (rc == FM_ERR_CORRUPT || rc == -ENOENT)
        return FM_ERR_UNKNOWN;              /* a segment that is lost, or went meanwhile */
    if (rc)
        return rc;
    const struct index_stream *s = index_streams_find (streams, count, stream);
    if (s)
        *ret_stream = *s;
    free (streams);
    return s ? 0 : FM_ERR_UNKNOWN;
}

/* --- Searching among segments. They are numbered without holes, so no table of them is kept: a search reads a few
 * headers. */

struct segment_key {
    uint64_t value;
    bool by_time;
};

/* Is the segment's start at or below the key? Missing and damaged ones are stepped over downwards: *number becomes
 * the one that answered, or low - 1. */
static int starts_below (struct log *log, const struct segment_key *key, uint64_t low, uint64_t *number,
                         bool *ret_below)
{
    for (; *number >= low; --*number) {
        int fd;
        struct segment_header h;
        const int rc = segment_open_read (log->fs, log->segments, *number, &fd, &h);
        if (rc == 0) {
            (void) log->fs->close (log->fs->context, fd);   /* read-only: nothing to lose */
            /* By time below, not at: what bears the same time may lie in the segment before, too. */
            *ret_below = key->by_time ? h.created_ns < key->value : h.base_offset <= key->value;
            return 0;
        }
        if (rc != FM_ERR_CORRUPT && rc != -ENOENT && rc != FM_ERR_NEWER)
            return rc;
    }
    return FM_ERR_END;
}

static int search (struct log *log, const struct log_view *view, const struct segment_key *key, uint64_t *ret_number)
{
    /* The last that starts below is in [low - 1, high). */
    uint64_t low = view->first_number, high = view->active_number + 1;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const uint64_t asked = middle;
        bool below = false;
        const int rc = starts_below (log, key, low, &middle, &below);
        if (rc == FM_ERR_END) {
            low = asked + 1;                /* nobody in [low, asked] answers; the rest may */
            continue;
        }
        if (rc)
            return rc;
        if (below) {
            *ret_number = middle;
            low = asked + 1;
        } else
            high = middle;
    }
    return 0;
}

int log_segment_by_offset (struct log *log, const struct log_view *view, uint64_t offset, uint64_t *ret_number)
{
    const struct segment_key key = { .value = offset };
    *ret_number = 0;
    return search (log, view, &key, ret_number);
}

int log_segment_by_time (struct log *log, const struct log_view *view, uint64_t time_ns, uint64_t *ret_number)
{
    const struct segment_key key = { .value = time_ns, .by_time = true };
    *ret_number = 0;
    return search (log, view, &key, ret_number);
}
