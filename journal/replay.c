/* Where a session stands:
 *
 *   next_offset      all matching records below have been put into messages (of this step: into the buffer).
 *   item, has_item   a record was read that is not yet in a message: it did not fit. Its bytes live in the reader, and last until the reader
 *                    is called again, which only happens when the item has been used.
 *   covered, gaps    told with the next message. What a step gathers without having a message to send stays for the next one.
 *
 * Streams that have nothing at or above the start are told by START; the others when their first record is met, since a log is in sequence
 * order per stream: all that is below the record met first lies below the start, too. */

#include "replay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "covered.h"
#include "error.h"
#include "replay_last.h"

enum replay_phase { PHASE_SEEK, PHASE_LATEST, PHASE_START, PHASE_SCAN, PHASE_DONE };

/* Which streams START must tell of. */
enum replay_table {
    TABLE_NOTHING,                  /* a range of one stream */
    TABLE_PLAIN,                    /* those that end below the start */
    TABLE_EXPIRED,                  /* the start lies below what is held */
    TABLE_OVERTAKEN                 /* retention overtook the session */
};

struct replay {
    struct log *log;
    const struct clock *clock;
    struct log_reader *reader;      /* NULL: given back by replay_rest */
    enum replay_phase phase;
    uint64_t session;
    size_t message_bytes;

    void *filter_bytes;
    struct fm_slice filters[FILTERS_MAX];
    size_t filter_count;
    bool may_cut;
    bool has_stream;
    struct fm_id stream;
    uint64_t from_seq;              /* with a stream: 0: all */
    struct fold_positions positions;

    enum replay_end end;
    uint64_t end_value;
    uint64_t through;               /* with a stream: how far it is complete */

    struct replay_last last;
    struct replay_latest latest;
    bool latest_waits;              /* the index is behind */
    uint64_t start_offset, next_offset;
    enum replay_table table;
    struct fm_id table_after;       /* START: streams up to this one have been told */
    bool table_begun;
    size_t positions_told;
    bool start_gap;                 /* the first item is the gap that TABLE_EXPIRED tells of */
    bool astride;                   /* the first item begins below the start and ends above it */

    bool start_told, caught_up, caught_up_told;
    uint64_t told_ns;               /* when the last message was built */
    uint64_t looked_ns;             /* when the synced end was reached last */

    struct log_item item;
    bool has_item;
    struct covered covered;
    struct replay_gap gaps[REPLAY_GAPS_MAX];
    size_t gap_count;
    bool handed_out;                /* the header before pointed to covered and gaps: the next step clears them */

    struct fm_id journal;
    uint64_t generation;
    Factmesh__Cursor start;
};

void replay_buffer_release (struct replay_buffer *buffer)
{
    free (buffer->fields);
    batch_scratch_release (&buffer->scratch);
    batch_cut_release (&buffer->cut);
    *buffer = (struct replay_buffer) { .fields = NULL };
}

/* --- What the next message tells beside batches. */

/* Room for one stream more, and for the two gaps that a record can bring? */
static bool notes_have_room (const struct replay *r)
{
    return !covered_is_full (&r->covered) && r->gap_count + 2 <= REPLAY_GAPS_MAX;
}

static void note_covered (struct replay *r, const struct fm_id *stream, uint64_t through)
{
    (void) covered_put (&r->covered, stream, through);      /* callers see to the room */
    if (r->has_stream && through > r->through)
        r->through = through;
}

static void note_gap (struct replay *r, const struct fm_id *stream, uint64_t first, uint64_t end, uint32_t reason)
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
    if (rc)
        log_reader_destroy (&r->reader);
    return rc;
}

bool replay_has_reader (const struct replay *r)
{
    return r->reader != NULL;
}

void replay_rest (struct replay *r)
{
    if (r->phase != PHASE_SCAN && r->phase != PHASE_LATEST)
        return;                     /* START has an item in hand that was looked at; SEEK is under way */
    r->has_item = false;            /* it lies at next_offset, or in the midst of what begins there: it is read again */
    log_reader_destroy (&r->reader);
}

/* After a rest: go on at next_offset. A gap that was told in part is told again, which is harmless. */
static int reader_resume (struct replay *r)
{
    int rc = reader_open (r);
    if (!rc && r->phase != PHASE_LATEST)
        rc = log_reader_seek_offset (r->reader, r->next_offset);
    if (rc)
        log_reader_destroy (&r->reader);
    return rc;
}

/* Read ahead one record: it tells whether the start lies below what is held, or in the midst of a batch. */
static int peek (struct replay *r)
{
    const int rc = log_reader_next (r->reader, &r->item);
    if (rc == FM_ERR_END)
        return 0;
    r->has_item = rc == 0;
    return rc;
}

/* The reader stands at start_offset: what has to be said before its first record? */
static int begin_at_offset (struct replay *r)
{
    r->phase = PHASE_START;
    r->table = TABLE_PLAIN;
    r->next_offset = r->start_offset;
    const int rc = peek (r);
    if (rc || !r->has_item)
        return rc;
    const struct log_item *item = &r->item;
    if (id_is_zero (&item->stream) && item->reason == FACTMESH__GAP_REASON__GAP_EXPIRED) {
        r->table = TABLE_EXPIRED;
        if (r->start_offset <= 1)
            r->has_item = false;            /* from the very beginning: the streams' own gaps say it all */
        else
            r->start_gap = true;
    } else if (item->kind == LOG_ITEM_BATCH && item->bytes.len && item->offset < r->start_offset) {
        r->astride = true;
        note_covered (r, &item->stream, item->first_seq + (r->start_offset - item->offset) - 1);
    }
    return 0;
}

static int seek_offset (struct replay *r, uint64_t offset)
{
    r->start_offset = offset ? offset : 1;
    const int rc = log_reader_seek_offset (r->reader, r->start_offset);
    return rc ? rc : begin_at_offset (r);
}

/* A range of one stream: the hole that somebody has. */
static int seek_seq (struct replay *r, uint64_t seq)
{
    r->phase = PHASE_START;
    r->table = TABLE_NOTHING;
    r->from_seq = seq;
    r->through = seq - 1;
    int rc = log_reader_seek_seq (r->reader, &r->stream, seq, &r->start_offset);
    if (rc == FM_ERR_UNKNOWN) {             /* not yet: it stands at the synced end */
        uint64_t remaining;                 /* where it stands, not where the synced end is by now: a rest would skip what lies between */
        log_reader_position (r->reader, &r->start_offset, &remaining);
        rc = 0;
    }
    if (rc)
        return rc;
    r->next_offset = r->start_offset;
    struct log_stream s;
    if (log_stream_get (r->log, &r->stream, &s) == 0 && s.first_seq > seq) {
        const bool ends = r->end == REPLAY_TO_SEQ && r->end_value < s.first_seq;
        const uint64_t end = ends ? r->end_value : s.first_seq;
        note_gap (r, &r->stream, seq, end, FACTMESH__GAP_REASON__GAP_EXPIRED);
        note_covered (r, &r->stream, end - 1);
    }
    return 0;
}

static int seek_cursor (struct replay *r, const Factmesh__Cursor *cursor)
{
    int rc = replay_cursor_check (cursor, r->log);
    if (!rc)
        rc = fold_positions_copy (cursor, &r->positions);
    if (rc)
        return rc;
    struct log_position at;
    log_position (r->log, &at);
    return seek_offset (r, cursor->offset < at.synced_offset ? cursor->offset : at.synced_offset);
}

/* Without a cursor from the first newest fact on; with one, on from where an earlier session came to. Its end stays: what came since then is to be told
 * whole. */
static int seek_latest (struct replay *r, const struct replay_request *q, const struct log_position *at)
{
    int rc = q->index ? 0 : error_set (FM_ERR_ARGUMENT, "from_latest needs an index, and none is kept here");
    if (!rc && q->cursor)
        rc = replay_cursor_check (q->cursor, r->log);
    if (!rc && q->cursor)
        rc = fold_positions_copy (q->cursor, &r->positions);
    if (rc)
        return rc;
    const uint64_t from = q->cursor && q->cursor->offset ? q->cursor->offset : 1;
    const uint64_t end = q->latest_end && q->latest_end < at->synced_offset ? q->latest_end : at->synced_offset;
    if (from >= end)
        return seek_offset (r, from < at->synced_offset ? from : at->synced_offset);
    r->latest = (struct replay_latest) { .index = q->index, .next = from, .end = end };
    r->start_offset = r->next_offset = from;
    r->phase = PHASE_LATEST;
    return log_reader_filter (r->reader, NULL, NULL, 0);
}

static int seek_start (struct replay *r, const struct replay_request *q)
{
    struct log_position at;
    log_position (r->log, &at);
    switch (q->start) {
    case REPLAY_FROM_OFFSET:
        /* Beyond the end there is nothing to wait for that would not be skipped unseen: start where the log ends. */
        return seek_offset (r, q->start_value < at.synced_offset ? q->start_value : at.synced_offset);
    case REPLAY_FROM_SEQ:
        return seek_seq (r, q->start_value);
    case REPLAY_FROM_TIME: {
        const int rc = log_reader_seek_time (r->reader, q->start_value, &r->start_offset);
        return rc ? rc : begin_at_offset (r);
    }
    case REPLAY_FROM_LAST:
        replay_last_init (&r->last, q->start_value, at.first_offset, at.synced_offset);
        r->phase = PHASE_SEEK;
        return 0;
    case REPLAY_FROM_CURSOR:
    case REPLAY_FROM_CURSOR_NAME:
        return q->cursor ? seek_cursor (r, q->cursor) : error_set (FM_ERR_ARGUMENT, "a cursor's name that was not looked up");
    case REPLAY_FROM_END:
        return seek_offset (r, at.synced_offset);
    case REPLAY_FROM_LATEST:
        return seek_latest (r, q, &at);
    }
    return FM_ERR_ARGUMENT;
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
        rc = seek_start (r, q);
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

/* --- START: the stream table. */

/* One stream of the log's table; there is room for it. */
static void table_tell (struct replay *r, const struct log_stream *s, uint64_t first_offset)
{
    /* A stream that expired whole may still be known. */
    const uint64_t held_from = s->last_offset < first_offset ? s->last_seq + 1 : s->first_seq;
    uint64_t known = 0;
    bool gap = r->table == TABLE_OVERTAKEN;
    if (r->table == TABLE_EXPIRED) {
        /* From a place in the midst only the positions tell what the asker has: else its loss is told as offsets. */
        known = r->start_offset <= 1 ? 0 : fold_positions_get (&r->positions, &s->stream);
        gap = r->start_offset <= 1 || known;
    }
    if (gap && held_from > 1) {
        note_gap (r, &s->stream, known + 1, held_from, FACTMESH__GAP_REASON__GAP_EXPIRED);
        note_covered (r, &s->stream, held_from - 1);
    } else if (s->last_offset < r->start_offset) {
        /* A record that begins below the start ends there too, all but the one astride. */
        if (!r->astride || !r->has_item || !id_equal (&r->item.stream, &s->stream))
            note_covered (r, &s->stream, s->last_seq);
    }
    else if (r->table == TABLE_EXPIRED && held_from > 1)
        note_covered (r, &s->stream, held_from - 1);
}

/* Tell of streams until the message is full. True: all have been told. */
static bool table_step (struct replay *r)
{
    struct log_position at;
    log_position (r->log, &at);
    if (r->has_stream) {
        struct log_stream s;
        if (log_stream_get (r->log, &r->stream, &s) == 0)
            table_tell (r, &s, at.first_offset);
        return true;
    }
    while (notes_have_room (r)) {
        struct log_stream page[64];
        size_t count = 0;
        if (log_stream_list (r->log, r->table_begun ? &r->table_after : NULL, page, 64, &count) != 0 || count == 0)
            return true;
        for (size_t i = 0; i < count && notes_have_room (r); i++) {
            table_tell (r, &page[i], at.first_offset);
            r->table_after = page[i].stream;
            r->table_begun = true;
        }
    }
    return false;
}

static bool start_step (struct replay *r)
{
    while (r->positions_told < r->positions.count) {
        const struct fold_position *p = &r->positions.items[r->positions_told];
        if (!notes_have_room (r))
            return false;
        r->positions_told++;
        note_covered (r, &p->stream, p->seq);
    }
    return r->table == TABLE_NOTHING || table_step (r);
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
    switch (r->end) {
    case REPLAY_TO_SYNCED:
    case REPLAY_TO_OFFSET:
        return r->next_offset >= r->end_value;
    case REPLAY_TO_TIME: {
        /* What is recorded from now on is later, once nothing older waits for its sync. */
        struct log_position at;
        if (r->clock->unix_ns (r->clock->context) < r->end_value)
            return false;
        log_position (r->log, &at);
        return at.synced_offset == at.end_offset && r->next_offset >= at.synced_offset;
    }
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
    note_gap (r, &item->stream, item->first_seq, item->end_seq, item->reason);
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
        note_gap (r, &r->stream, r->through + 1, r->end_value, FACTMESH__GAP_REASON__GAP_DAMAGED);
        note_covered (r, &r->stream, r->end_value - 1);
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
    if (!notes_have_room (r))
        return -EAGAIN;
    if (id_is_zero (&item->stream)) {
        use_offset_gap (r);
        return 0;
    }
    /* All records of the one stream pass here: what is missing between two of them is damage that hid whose facts it took. */
    if (r->from_seq && item->first_seq > r->through + 1)
        note_gap (r, &item->stream, r->through + 1, item->first_seq, FACTMESH__GAP_REASON__GAP_DAMAGED);
    const bool wanted = item->end_seq > r->from_seq && fold_positions_get (&r->positions, &item->stream) < item->end_seq - 1;
    if (item->kind == LOG_ITEM_GAP) {
        if (wanted)
            note_gap (r, &item->stream, item->first_seq, item->end_seq, item->reason);
    } else if (wanted && item->bytes.len) {
        const int rc = use_batch (r, buffer, target);
        if (rc)
            return rc;
    }
    note_covered (r, &item->stream, item->end_seq - 1);
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
}

/* Read and use records until the message is full, the share of this turn is used, or nothing further is synced. */
static int scan (struct replay *r, struct replay_buffer *buffer, size_t target)
{
    size_t scanned = 0;
    for (unsigned n = 0; n < REPLAY_SCAN_RECORDS && scanned < REPLAY_SCAN_BYTES && r->phase == PHASE_SCAN; n++) {
        if (!r->has_item) {
            const int rc = log_reader_next (r->reader, &r->item);
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
            if (notes_have_room (r))
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
    return r->phase != PHASE_SCAN || !notes_have_room (r) || r->clock->monotonic_ns (r->clock->context) >= replay_due (r);
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
    return rc ? rc : seek_offset (r, offset);
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
    if (!notes_have_room (k->replay))
        return false;
    note_gap (k->replay, &item->stream, item->first_seq, item->end_seq, item->reason);
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
    return rc ? rc : seek_offset (r, r->latest.end);
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
        if (start_step (r))
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
