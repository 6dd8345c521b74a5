/* log_reader_seek: put a reader at an offset, a time, or a stream's sequence, with a few headers and footers read. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "log_reader_inner.h"

static void reset (struct log_reader *r)
{
    log_segment_close (r->log, &r->segment);
    r->at = AT_NOTHING;
    r->last_read = r->start_pos = r->next_offset = 0;
    r->lost_known = false;
    r->lost.count = 0;
    reader_forget_due (r);
    log_view_get (r->log, &r->view);
    r->number = r->view.first_number;
}

int log_reader_seek_offset (struct log_reader *r, uint64_t offset)
{
    reset (r);
    r->next_offset = offset > 0 ? offset : 1;
    if (offset < r->view.first_offset)
        return 0;
    if (offset >= r->view.synced_offset) {
        r->number = r->view.active_number;
        r->start_pos = r->view.synced_pos;
        r->next_offset = r->view.synced_offset;
        return 0;
    }
    uint64_t number;
    int rc = log_segment_by_offset (r->log, &r->view, offset, &number);
    if (rc == 0 && number > 0) {
        r->number = number;
        rc = log_segment_pos_by_offset (r->log, &r->view, number, offset, &r->start_pos);
    }
    return rc;
}

/* Step until the predicate holds for the record at hand, and stand there. FM_ERR_END: none; the reader stands at the
 * synced end. */
static int step_until (struct log_reader *r, bool (*wanted) (struct log_reader *r, uint64_t value), uint64_t value)
{
    int rc;
    while ((rc = reader_step (r, false)) == 0 && !wanted (r, value))
        reader_forget_due (r);
    r->at = rc ? AT_NOTHING : AT_RECORD;
    if (rc == 0)
        r->next_offset = r->scan.record.offset;
    if (rc == FM_ERR_END) {
        reader_forget_due (r);
        r->next_offset = r->view.synced_offset;
    }
    return rc;
}

static bool is_since (struct log_reader *r, uint64_t time_ns)
{
    return r->scan.record.time_ns >= time_ns;
}

int log_reader_seek_time (struct log_reader *r, uint64_t time_ns, uint64_t *ret_offset)
{
    reset (r);
    uint64_t number;
    int rc = log_segment_by_time (r->log, &r->view, time_ns, &number);
    if (rc == 0 && number > 0) {
        r->number = number;
        rc = log_segment_pos_by_time (r->log, &r->view, number, time_ns, &r->start_pos);
    }
    if (rc == 0)
        rc = step_until (r, is_since, time_ns);
    if (rc && rc != FM_ERR_END)
        return rc;
    *ret_offset = r->next_offset;
    return 0;
}

/* The stream sought, in r->sought, has a sequence at or above this in the record at hand. */
static bool holds_seq (struct log_reader *r, uint64_t seq)
{
    const struct record *rec = &r->scan.record;
    if (!id_equal (&rec->stream, &r->sought))
        return false;
    const uint8_t *body;
    uint64_t end_seq = rec->first_seq + rec->count;
    uint32_t reason;
    if (rec->kind == RECORD_GAP && scan_body (&r->scan, &body) == 0)
        (void) record_gap_decode (rec, body, &end_seq, &reason);    /* step tried it */
    return end_seq > seq;
}

/* The nearest segment at or below *number, and not below low, that has the stream. FM_ERR_UNKNOWN: none has. */
static int stream_down (struct log_reader *r, uint64_t low, uint64_t *number, struct index_stream *ret_entry)
{
    int rc = FM_ERR_UNKNOWN;
    while (*number >= low
           && (rc = log_segment_stream (r->log, &r->view, *number, &r->sought, ret_entry)) == FM_ERR_UNKNOWN)
        --*number;
    return rc;
}

/* The segment where the sequence, or the first above it, is: by halves, for a stream's sequences grow with the
 * segments' numbers. Segments without the stream are stepped over, each once. */
static int segment_by_seq (struct log_reader *r, uint64_t seq, struct index_stream *ret_entry)
{
    uint64_t low = r->view.first_number, high = r->view.active_number + 1, below_number = 0, above_number = 0;
    struct index_stream below = { .last_seq = 0 }, above = { .last_seq = 0 };
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        uint64_t number = middle;
        struct index_stream s;
        const int rc = stream_down (r, low, &number, &s);
        if (rc && rc != FM_ERR_UNKNOWN)
            return rc;
        if (rc == 0 && s.first_seq > seq) {
            above = s;
            above_number = high = number;
            continue;
        }
        if (rc == 0) {
            below = s;
            below_number = number;
        }
        low = middle + 1;
    }
    const bool within = below_number > 0 && below.last_seq >= seq;
    if (!within && above_number == 0)
        return FM_ERR_UNKNOWN;
    *ret_entry = within ? below : above;
    r->number = within ? below_number : above_number;
    return 0;
}

/* The first record of the sought stream in [from, to) of the open segment. FM_ERR_UNKNOWN: none. */
static int probe (struct log_reader *r, uint64_t from, uint64_t to, uint64_t *ret_pos, uint64_t *ret_first_seq)
{
    int rc = scan_start (&r->scan, r->log->fs, r->segment.fd, r->scan.seed, from, r->scan.end);
    while (rc == 0 || rc == FM_ERR_CORRUPT) {
        rc = scan_next (&r->scan);
        if (rc == 0 && r->scan.pos >= to)
            break;
        if (rc == 0 && record_offsets (&r->scan.record) > 0 && id_equal (&r->scan.record.stream, &r->sought)) {
            *ret_pos = r->scan.pos;
            *ret_first_seq = r->scan.record.first_seq;
            return 0;
        }
    }
    return rc == 0 || rc == FM_ERR_END ? FM_ERR_UNKNOWN : rc;
}

/* Within a segment: a stream's sequences grow with the position, so the indexed positions are searched by halves,
 * asking at each for the stream's next record. */
static int pos_by_seq (struct log_reader *r, const struct index_stream *entry, uint64_t seq, uint64_t *ret_pos)
{
    struct index_position *positions;
    uint32_t count;
    int rc = log_segment_positions (r->log, &r->view, r->number, &positions, &count);
    if (rc == FM_ERR_CORRUPT || rc == -ENOENT)
        return 0;
    if (rc)
        return rc;
    uint32_t low = 0, high = count;
    while (low < high && positions[low].pos <= entry->first_pos)
        low++;
    while (low < high && (rc == 0 || rc == FM_ERR_UNKNOWN)) {
        const uint32_t middle = low + (high - low) / 2;
        uint64_t pos, first_seq;
        rc = probe (r, positions[middle].pos, high < count ? positions[high].pos : UINT64_MAX, &pos, &first_seq);
        if (rc == 0 && first_seq <= seq) {
            *ret_pos = pos;
            while (low < high && positions[low].pos <= pos)
                low++;
        } else
            high = middle;
    }
    free (positions);
    return rc == FM_ERR_UNKNOWN ? 0 : rc;
}

int log_reader_seek_seq (struct log_reader *r, const struct fm_id *stream, uint64_t seq, uint64_t *ret_offset)
{
    struct index_stream entry = { 0 };
    reset (r);
    r->sought = *stream;
    int rc = r->view.active_number > 0 ? segment_by_seq (r, seq, &entry) : FM_ERR_UNKNOWN;
    if (rc == 0)
        rc = reader_enter_segment (r);
    if (rc == 0) {
        uint64_t pos = entry.first_pos;
        rc = pos_by_seq (r, &entry, seq, &pos);
        if (rc == 0)
            rc = scan_start (&r->scan, r->log->fs, r->segment.fd, r->scan.seed, pos, r->segment.end_pos);
    }
    if (rc == 0)
        rc = step_until (r, holds_seq, seq);
    if (rc == FM_ERR_UNKNOWN) {
        const int end = log_reader_seek_offset (r, UINT64_MAX);
        return end ? end : FM_ERR_UNKNOWN;
    }
    if (rc)
        return rc == FM_ERR_END ? FM_ERR_UNKNOWN : rc;
    *ret_offset = r->next_offset;
    return 0;
}
