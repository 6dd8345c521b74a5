/* replay_request: what a ReplayOpen asks for, checked. */

#include "replay.h"

#include "error.h"
#include "topic.h"

static int check_filters (const Factmesh__ReplayOpen *open, struct replay_request *q)
{
    if (open->n_filters > FILTERS_MAX)
        return error_set (FM_ERR_LIMIT, "%zu filters: at most %d", open->n_filters, (int) FILTERS_MAX);
    for (size_t i = 0; i < open->n_filters; i++) {
        q->filters[i] = control_get_slice (&open->filters[i]);
        const int rc = topic_pattern_check (q->filters[i]);
        if (rc)
            return rc;
    }
    q->filter_count = open->n_filters;
    return 0;
}

static int check_start (const Factmesh__ReplayOpen *open, struct replay_request *q)
{
    switch (open->start_case) {
    case FACTMESH__REPLAY_OPEN__START__NOT_SET:
        q->start = REPLAY_FROM_OFFSET;
        return 0;
    case FACTMESH__REPLAY_OPEN__START_FROM_OFFSET:
        q->start = REPLAY_FROM_OFFSET;
        q->start_value = open->from_offset;
        return 0;
    case FACTMESH__REPLAY_OPEN__START_FROM_SEQ:
        if (!q->has_stream)
            return error_set (FM_ERR_ARGUMENT, "from_seq without a stream");
        q->start = REPLAY_FROM_SEQ;
        q->start_value = open->from_seq ? open->from_seq : 1;
        return 0;
    case FACTMESH__REPLAY_OPEN__START_FROM_TIME_NS:
        q->start = REPLAY_FROM_TIME;
        q->start_value = open->from_time_ns;
        return 0;
    case FACTMESH__REPLAY_OPEN__START_LAST_COUNT:
        q->start = open->last_count ? REPLAY_FROM_LAST : REPLAY_FROM_END;
        q->start_value = open->last_count;
        return 0;
    case FACTMESH__REPLAY_OPEN__START_FROM_CURSOR:
        if (!open->from_cursor)
            return error_set (FM_ERR_MALFORMED, "an empty cursor");
        q->start = REPLAY_FROM_CURSOR;
        q->cursor = open->from_cursor;
        return 0;
    case FACTMESH__REPLAY_OPEN__START_FROM_CURSOR_NAME:
        q->start = REPLAY_FROM_CURSOR_NAME;
        q->cursor_name = control_get_slice (&open->from_cursor_name);
        return 0;
    case FACTMESH__REPLAY_OPEN__START_FROM_END:
        q->start = REPLAY_FROM_END;
        return 0;
    case FACTMESH__REPLAY_OPEN__START_FROM_LATEST:
        if (q->has_stream || !open->from_latest)
            return error_set (FM_ERR_ARGUMENT, "from_latest is of all streams, and has a cursor, which may be empty");
        q->start = REPLAY_FROM_LATEST;
        q->cursor = open->from_latest->journal.len ? open->from_latest : NULL;
        q->latest_end = q->cursor ? open->latest_end : 0;
        return 0;
    default:
        return error_set (FM_ERR_MALFORMED, "a start that this version does not know");
    }
}

static int check_end (const Factmesh__ReplayOpen *open, struct replay_request *q)
{
    switch (open->end_case) {
    case FACTMESH__REPLAY_OPEN__END__NOT_SET:
    case FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED:
        q->end = REPLAY_TO_SYNCED;
        return 0;
    case FACTMESH__REPLAY_OPEN__END_END_SEQ:
        if (!q->has_stream)
            return error_set (FM_ERR_ARGUMENT, "end_seq without a stream");
        if (q->start == REPLAY_FROM_SEQ && open->end_seq <= q->start_value)
            return error_set (FM_ERR_ARGUMENT, "an empty range of sequences: from %llu to %llu", (unsigned long long) q->start_value,
                              (unsigned long long) open->end_seq);
        q->end = REPLAY_TO_SEQ;
        q->end_value = open->end_seq;
        return 0;
    case FACTMESH__REPLAY_OPEN__END_END_OFFSET:
        q->end = REPLAY_TO_OFFSET;
        q->end_value = open->end_offset;
        return 0;
    case FACTMESH__REPLAY_OPEN__END_END_TIME_NS:
        q->end = REPLAY_TO_TIME;
        q->end_value = open->end_time_ns;
        return 0;
    case FACTMESH__REPLAY_OPEN__END_FOLLOW:
        q->end = REPLAY_FOLLOW;
        return 0;
    default:
        return error_set (FM_ERR_MALFORMED, "an end that this version does not know");
    }
}

int replay_request_check (const Factmesh__ReplayOpen *open, struct replay_request *ret_request)
{
    struct replay_request q = { .session = open->session, .credit = open->credit, .message_bytes = open->message_bytes,
                                .may_cut = open->may_cut };
    int rc = check_filters (open, &q);
    if (rc)
        return rc;
    q.has_stream = open->stream.len != 0;
    if (q.has_stream && control_get_id (&open->stream, &q.stream) != 0)
        return error_set (FM_ERR_MALFORMED, "a stream's id has %zu bytes, not %d", open->stream.len, (int) ID_LEN);
    rc = check_start (open, &q);
    if (!rc)
        rc = check_end (open, &q);
    if (rc)
        return rc;
    if (!q.message_bytes)
        q.message_bytes = REPLAY_MESSAGE_BYTES;
    else if (q.message_bytes < REPLAY_MESSAGE_BYTES_MIN)
        q.message_bytes = REPLAY_MESSAGE_BYTES_MIN;
    else if (q.message_bytes > REPLAY_MESSAGE_BYTES_MAX)
        q.message_bytes = REPLAY_MESSAGE_BYTES_MAX;
    *ret_request = q;
    return 0;
}

int replay_cursor_check (const Factmesh__Cursor *cursor, const struct log *log)
{
    struct fm_id ours, theirs;
    uint64_t generation;
    log_identity (log, &ours, &generation);
    if (cursor->major != PROTO_MAJOR)
        return error_set (FM_ERR_VERSION, "a cursor of version %u: this journal knows %d", cursor->major, (int) PROTO_MAJOR);
    const int rc = control_get_id (&cursor->journal, &theirs);
    if (rc)
        return error_set (FM_ERR_MALFORMED, "a cursor's journal id has %zu bytes, not %d", cursor->journal.len, (int) ID_LEN);
    if (id_equal (&ours, &theirs) && cursor->generation == generation)
        return 0;
    char ours_text[ID_TEXT_LEN + 1], theirs_text[ID_TEXT_LEN + 1];
    return error_set (FM_ERR_GENERATION, "the cursor is of journal %s generation %llu, this is %s generation %llu: its offsets mean nothing here",
                      id_text (&theirs, theirs_text), (unsigned long long) cursor->generation, id_text (&ours, ours_text),
                      (unsigned long long) generation);
}
