/* Where a session stands:
 *
 *   next_offset      all matching records below have been put into messages (of this step: into the buffer).
 *   item, has_item   a record was read that is not yet in a message: it did not fit. Its bytes live in the reader, and last until the reader
 *                    is called again, which only happens when the item has been used.
 *   covered, gaps    told with the next message. What a step gathers without having a message to send stays for the next one.
 *
 * Streams that have nothing at or above the start are told by START; the others when their first record is met, since a log is in sequence
 * order per stream: all that is below the record met first lies below the start, too. */

#include "replay_inner.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void replay_buffer_release (struct replay_buffer *buffer)
{
    free (buffer->fields);
    batch_scratch_release (&buffer->scratch);
    batch_cut_release (&buffer->cut);
    *buffer = (struct replay_buffer) { .fields = NULL };
}

/* --- What the next message tells beside batches. */

/* Room for one stream more, and for the two gaps that a record can bring? */
bool replay_notes_have_room (const struct replay *r)
{
    return !covered_is_full (&r->covered) && r->gap_count + 2 <= REPLAY_GAPS_MAX;
}

void replay_note_covered (struct replay *r, const struct fm_id *stream, uint64_t through)
{
    (void) covered_put (&r->covered, stream, through);      /* callers see to the room */
    if (r->has_stream && through > r->through)
        r->through = through;
}

void replay_note_gap (struct replay *r, const struct fm_id *stream, uint64_t first, uint64_t end, uint32_t reason)
{
    if (first >= end)
        return;
    assert (r->gap_count < REPLAY_GAPS_MAX);
    r->gaps[r->gap_count++] = (struct replay_gap) { .stream = *stream, .first_seq = first, .end_seq = end, .reason = reason };
}

/* --- Opening. */

static int copy_filters (struct replay *r, const struct replay_request *q)
{
    size_t len = 0;
    for (size_t i = 0; i < q->filter_count; i++)
        len += q->filters[i].len;
    if (!len)
        return 0;
    uint8_t *p = r->filter_bytes = malloc (len);
    if (!p)
        return -ENOMEM;
    for (size_t i = 0; i < q->filter_count; i++) {
        memcpy (p, q->filters[i].data, q->filters[i].len);
        r->filters[i] = slice (p, q->filters[i].len);
        p += q->filters[i].len;
    }
    r->filter_count = q->filter_count;
    return 0;
}

static int reader_open (struct replay *r)
{
    int rc = log_reader_new (r->log, &r->reader);
    if (!rc)
        rc = r->phase == PHASE_LATEST ? 0 : log_reader_filter (r->reader, r->has_stream ? &r->stream : NULL, r->filters, r->filter_count);
    return rc;
}

bool replay_has_reader (const struct replay *r)
{
    return r->reader != NULL;
}

void replay_rest (struct replay *r)
{
    if (r->phase == PHASE_SEEK && r->reader)
        replay_last_rest (&r->last, r->reader);
    r->has_item = false;            /* it lies at next_offset, or in the midst of what begins there: it is read again */
    log_reader_destroy (&r->reader);
}

/* After a rest: go on at next_offset. A gap that was told in part is told again, which is harmless. */
static int reader_resume (struct replay *r)
{
    int rc = reader_open (r);
    if (!rc && r->phase != PHASE_LATEST && r->phase != PHASE_SEEK)
        rc = log_reader_seek_offset (r->reader, r->next_offset);
    return rc;
}

int replay_new (struct log *log, const struct clock *clock, const struct replay_request *q, struct replay **ret_replay)
{
    struct replay *r = calloc (1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->log = log;
    r->clock = clock;
    r->session = q->session;
    r->message_bytes = q->message_bytes;
    r->may_cut = q->may_cut;
    r->has_stream = q->has_stream;
    r->stream = q->stream;
    r->end = q->end;
    r->end_value = q->end_value;
    if (q->end == REPLAY_TO_SYNCED) {
        struct log_position at;
        log_position (log, &at);
        r->end_value = at.synced_offset;
    }
    log_identity (log, &r->journal, &r->generation);
    factmesh__cursor__init (&r->start);
    r->start.major = PROTO_MAJOR;
    r->start.journal = control_put_id (&r->journal);
    r->start.generation = r->generation;
    int rc = copy_filters (r, q);
    if (!rc)
        rc = reader_open (r);
    if (!rc)
        rc = replay_seek_start (r, q);
    if (rc) {
        replay_destroy (&r);
        return rc;
    }
    *ret_replay = r;
    return 0;
}

void replay_destroy (struct replay **replay)
{
    struct replay *r = *replay;
    if (!r)
        return;
    *replay = NULL;
    log_reader_destroy (&r->reader);
    fold_positions_release (&r->positions);
    replay_latest_release (&r->latest);
    free (r->filter_bytes);
    free (r);
}

size_t replay_message_bytes (const struct replay *r)
{
    return r->message_bytes;
}

/* --- SCAN. */

static int buffer_add (struct replay_buffer *b, struct fm_slice batch)
{
    enum { FIELD_HEAD_MAX = 12 };
    if (b->size - b->len < batch.len + FIELD_HEAD_MAX) {
        const size_t needed = b->len + batch.len + FIELD_HEAD_MAX;
        size_t size = b->size ? b->size : REPLAY_MESSAGE_BYTES + FIELD_HEAD_MAX;
        while (size < needed)
            size *= 2;
        uint8_t *grown = realloc (b->fields, size);
        if (!grown)
            return -ENOMEM;
        b->fields = grown;
        b->size = size;
    }
    uint8_t *p = replay_batch_field (b->fields + b->len, batch.len);
    memcpy (p, batch.data, batch.len);
    b->len = (size_t) (p - b->fields) + batch.len;
    return 0;
}

/* Does the session end before this record? */
static bool ends_before (const struct replay *r, const struct log_item *item)
{
    switch (r->end) {
    case REPLAY_TO_SYNCED:
    case REPLAY_TO_OFFSET:
        return item->offset >= r->end_value;
    case REPLAY_TO_TIME:
        return item->time_ns >= r->end_value;
    case REPLAY_TO_SEQ:
        return r->through >= r->end_value - 1 || (id_equal (&item->stream, &r->stream) && item->first_seq >= r->end_value);
    case REPLAY_FOLLOW:
        break;
    }
    return false;
}

/* Everything synced has been read: is that the end? */
static bool ends_here (const struct replay *r)
{
    struct log_position at;
    switch (r->end) {
    case REPLAY_TO_SYNCED:
    case REPLAY_TO_OFFSET:
        return r->next_offset >= r->end_value;
    case REPLAY_TO_TIME:
        /* What is recorded from now on is later, once nothing older waits for its sync. */
        if (r->clock->unix_ns (r->clock->context) < r->end_value)
            return false;
        log_position (r->log, &at);
        return at.synced_offset == at.end_offset && r->next_offset >= at.synced_offset;
    case REPLAY_TO_SEQ:
        return r->through >= r->end_value - 1;
    case REPLAY_FOLLOW:
        break;
    }
    return false;
}

/* Offsets without a stream are gone: [first, end) of r->item. */
static void use_offset_gap (struct replay *r)
{
    const struct log_item *item = &r->item;
    if (item->reason == FACTMESH__GAP_REASON__GAP_EXPIRED && item->end_seq == r->expired_end)
        return;                     /* read again after a rest: START told it */
    replay_note_gap (r, &item->stream, item->first_seq, item->end_seq, item->reason);
    if (item->reason == FACTMESH__GAP_REASON__GAP_EXPIRED && !r->start_gap && !r->has_stream) {
        r->table = TABLE_OVERTAKEN;
        r->table_begun = false;
        r->phase = PHASE_START;
    }
    r->start_gap = false;
}

/* The range that was asked for ends before the record at hand, and what comes before it was not met: damage took it. */
static void end_range (struct replay *r)
{
    if (r->end == REPLAY_TO_SEQ && r->through < r->end_value - 1) {
        replay_note_gap (r, &r->stream, r->through + 1, r->end_value, FACTMESH__GAP_REASON__GAP_DAMAGED);
        replay_note_covered (r, &r->stream, r->end_value - 1);
    }
    r->phase = PHASE_DONE;
}

static bool is_wanted (const void *arg, struct fm_slice topic)
{
    return log_reader_wants (arg, topic);
}

/* The batch in hand, or what of it matches. Returns 0, -EAGAIN: no room, -ENOMEM: then the session is over. */
static int use_batch (struct replay *r, struct replay_buffer *buffer, size_t target)
{
    const struct fm_slice whole = r->item.bytes;
    const bool is_cut = r->may_cut && r->filter_count > 0 && batch_cut (&buffer->cut, whole, is_wanted, r->reader);
    const struct fm_slice *pieces = is_cut ? buffer->cut.pieces : &whole;
    const size_t count = is_cut ? buffer->cut.piece_count : 1;
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += pieces[i].len;
    if (buffer->len && buffer->len + len > target)
        return -EAGAIN;
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++)
        rc = buffer_add (buffer, pieces[i]);
    return rc;
}

/* Put r->item into the message. Returns 0; -EAGAIN: no room, it waits for the next message; -ENOMEM. */
static int use_item (struct replay *r, struct replay_buffer *buffer, size_t target)
{
    const struct log_item *item = &r->item;
    if (!replay_notes_have_room (r))
        return -EAGAIN;
    if (id_is_zero (&item->stream)) {
        use_offset_gap (r);
        return 0;
    }
    /* All records of the one stream pass here: what is missing between two of them is damage that hid whose facts it took. */
    if (r->from_seq && item->first_seq > r->through + 1)
        replay_note_gap (r, &item->stream, r->through + 1, item->first_seq, FACTMESH__GAP_REASON__GAP_DAMAGED);
    const bool wanted = item->end_seq > r->from_seq && fold_positions_get (&r->positions, &item->stream) < item->end_seq - 1;
    if (item->kind == LOG_ITEM_GAP) {
        if (wanted)
            replay_note_gap (r, &item->stream, item->first_seq, item->end_seq, item->reason);
    } else if (wanted && item->bytes.len) {
        const int rc = use_batch (r, buffer, target);
        if (rc)
            return rc;
    }
    replay_note_covered (r, &item->stream, item->end_seq - 1);
    return 0;
}

/* Where the session stands when the item in hand has been used. */
static void advance (struct replay *r)
{
    uint64_t offset, remaining;
    log_reader_position (r->reader, &offset, &remaining);
    if (offset > r->next_offset)
        r->next_offset = offset;
    r->has_item = false;
    r->astride = (struct fm_id) { 0 };
}

/* Of a range, everything synced has been read, for the first time: what the log knows that it had of the stream, and no record behind shows, is lost. It is asked
 * before the end is looked for once more, for the log goes on meanwhile. Returns what log_reader_next did. */
static int look_at_end (struct replay *r)
{
    struct log_stream s;
    const bool known = log_stream_get (r->log, &r->stream, &s) == 0;
    r->end_looked_at = true;
    const int rc = log_reader_next (r->reader, &r->item);
    if (rc != FM_ERR_END || !known || s.synced_seq <= r->through)
        return rc;
    const uint64_t end = r->end == REPLAY_TO_SEQ && r->end_value <= s.synced_seq ? r->end_value : s.synced_seq + 1;
    const uint64_t held = s.first_seq < end ? s.first_seq : end, lost = held > r->through ? held : r->through + 1;
    replay_note_gap (r, &r->stream, r->through + 1, held, FACTMESH__GAP_REASON__GAP_EXPIRED);
    replay_note_gap (r, &r->stream, lost, end, FACTMESH__GAP_REASON__GAP_DAMAGED);
    replay_note_covered (r, &r->stream, end - 1);
    return rc;
}

/* Read and use records until the message is full, the share of this turn is used, or nothing further is synced. */
static int scan (struct replay *r, struct replay_buffer *buffer, size_t target)
{
    size_t scanned = 0;
    for (unsigned n = 0; n < REPLAY_SCAN_RECORDS && scanned < REPLAY_SCAN_BYTES && r->phase == PHASE_SCAN; n++) {
        if (!r->has_item) {
            int rc = log_reader_next (r->reader, &r->item);
            if (rc == FM_ERR_END && r->from_seq && !r->end_looked_at && replay_notes_have_room (r))
                rc = look_at_end (r);
            if (rc == FM_ERR_END) {
                advance (r);        /* behind the last item there may be records that the filter left out */
                r->caught_up = true;
                r->looked_ns = r->clock->monotonic_ns (r->clock->context);
                if (ends_here (r))
                    r->phase = PHASE_DONE;
                return 0;
            }
            if (rc)
                return rc;
            r->has_item = true;
            r->caught_up = false;
        }
        if (ends_before (r, &r->item)) {
            if (replay_notes_have_room (r))
                end_range (r);
            return 0;
        }
        const int rc = use_item (r, buffer, target);
        if (rc)
            return rc == -EAGAIN ? 0 : rc;
        scanned += r->item.bytes.len;
        advance (r);
        if (r->end == REPLAY_TO_SEQ && r->through >= r->end_value - 1)
            r->phase = PHASE_DONE;
        if (buffer->len >= target)
            return 0;
    }
    return 0;
}

/* --- Messages. */

static void header_fill (struct replay *r, struct replay_header *ret_header)
{
    struct log_position at;
    uint64_t offset, remaining = 0;         /* at rest: it was caught up */
    log_position (r->log, &at);
    if (r->reader)
        log_reader_position (r->reader, &offset, &remaining);
    *ret_header = (struct replay_header) {
        .session = r->session,
        .next_offset = r->next_offset,
        .remaining_bytes = r->caught_up ? 0 : remaining + (r->has_item ? r->item.bytes.len : 0),
        .end_offset = at.synced_offset,
        .caught_up = r->caught_up,
        .latest_end = r->phase == PHASE_LATEST ? r->latest.end : 0,
        .covered = r->covered.entries,
        .covered_count = r->covered.count,
        .gaps = r->gaps,
        .gap_count = r->gap_count,
    };
    if (!r->start_told) {
        r->start.offset = r->start_offset;
        ret_header->start = &r->start;
    }
    r->start_told = true;
    r->handed_out = true;
    r->caught_up_told = r->caught_up;
    r->told_ns = r->clock->monotonic_ns (r->clock->context);
}

/* Is there something to say at once, or something that was put off long enough? */
static bool message_is_due (const struct replay *r, const struct replay_buffer *buffer)
{
    if (!r->start_told || buffer->len || r->gap_count || r->caught_up != r->caught_up_told)
        return true;
    if (!r->covered.count)
        return false;
    return r->phase != PHASE_SCAN || !replay_notes_have_room (r) || r->clock->monotonic_ns (r->clock->context) >= replay_due (r);
}

uint64_t replay_due (const struct replay *r)
{
    const uint64_t pause_ns = (uint64_t) REPLAY_COVERED_MS * 1000000;
    if (r->phase == PHASE_LATEST)
        return r->looked_ns + (uint64_t) REPLAY_LATEST_WAIT_MS * 1000000;
    if (r->covered.count)
        return r->told_ns + pause_ns;
    return r->end == REPLAY_TO_TIME ? r->looked_ns + pause_ns : UINT64_MAX;
}

static int seek_step (struct replay *r, struct replay_buffer *buffer)
{
    uint64_t offset;
    const int rc = replay_last_step (&r->last, r->reader, r->filters, r->filter_count, &buffer->scratch, &offset);
    return rc ? rc : replay_begin_at (r, offset);
}

struct latest_sink {
    struct replay *replay;
    struct replay_buffer *buffer;
    size_t target;
    int rc;
};

static bool latest_fact (void *context, struct fm_slice batch)
{
    struct latest_sink *k = context;
    if (k->buffer->len && k->buffer->len + batch.len > k->target)
        return false;
    k->rc = buffer_add (k->buffer, batch);
    return k->rc == 0;
}

static bool latest_gap (void *context, const struct log_item *item)
{
    const struct latest_sink *k = context;
    if (!replay_notes_have_room (k->replay))
        return false;
    replay_note_gap (k->replay, &item->stream, item->first_seq, item->end_seq, item->reason);
    return true;
}

/* One share of the newest facts; behind the last one the session begins as one from their end. */
static int latest_step (struct replay *r, struct replay_buffer *buffer, size_t target)
{
    struct latest_sink k = { .replay = r, .buffer = buffer, .target = target };
    const struct replay_latest_sink sink = { .context = &k, .fact = latest_fact, .gap = latest_gap };
    r->looked_ns = r->clock->monotonic_ns (r->clock->context);
    int rc = replay_latest_step (&r->latest, r->reader, r->filters, r->filter_count, &r->positions, &buffer->scratch, &sink);
    r->latest_waits = rc == -EAGAIN;
    rc = r->latest_waits ? 0 : k.rc ? k.rc : rc;
    r->next_offset = r->latest.next;
    if (rc || r->latest.next < r->latest.end)
        return rc;
    rc = log_reader_filter (r->reader, NULL, r->filters, r->filter_count);
    return rc ? rc : replay_begin_at (r, r->latest.end);
}

int replay_step (struct replay *r, struct replay_buffer *buffer, size_t target, enum replay_outcome *ret_outcome, struct replay_header *ret_header)
{
    buffer->len = 0;
    if (r->handed_out) {
        covered_clear (&r->covered);
        r->gap_count = 0;
        r->handed_out = false;
    }
    int rc = r->reader ? 0 : reader_resume (r);
    if (rc)
        return rc;
    if (r->phase == PHASE_SEEK) {
        rc = seek_step (r, buffer);
        *ret_outcome = REPLAY_STEP_MORE;
        return rc == -EAGAIN ? 0 : rc;
    }
    if (r->phase == PHASE_LATEST) {
        rc = latest_step (r, buffer, target);
    } else if (r->phase == PHASE_START) {
        if (replay_start_step (r))
            r->phase = PHASE_SCAN;
    } else if (r->phase == PHASE_SCAN)
        rc = scan (r, buffer, target);
    if (rc)
        return rc;
    if (message_is_due (r, buffer)) {
        header_fill (r, ret_header);
        *ret_outcome = REPLAY_STEP_MESSAGE;
        return 0;
    }
    if (r->phase == PHASE_DONE) {
        header_fill (r, ret_header);
        *ret_outcome = REPLAY_STEP_DONE;
    } else
        *ret_outcome = (r->phase == PHASE_SCAN && r->caught_up) || (r->phase == PHASE_LATEST && r->latest_waits) ? REPLAY_STEP_WAIT : REPLAY_STEP_MORE;
    return 0;
}

void replay_keepalive (struct replay *r, struct replay_header *ret_header)
{
    header_fill (r, ret_header);
}
