/* Control{replay_data} by hand: the batches are copied once, into the frame, and walked there. */

#include "control.h"
#include "error.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>

enum { REPLAY_DATA_FIELD = 31, BATCHES_FIELD = 15, BATCHES_TAG = WIRE_TAG (BATCHES_FIELD, WIRE_LEN) };

/* --- Encoding: lengths, then bytes. */

static size_t covered_len (const struct replay_covered *c)
{
    return wire_slice_len (1, ID_LEN) + wire_u64_field_len (2, c->through);
}

static size_t gap_len (const struct replay_gap *g)
{
    return (id_is_zero (&g->stream) ? 0 : wire_slice_len (1, ID_LEN)) + wire_u64_field_len (2, g->first_seq) +
           wire_u64_field_len (3, g->end_seq) + wire_u64_field_len (4, g->reason) + wire_u64_field_len (5, g->journal);
}

static size_t body_len (const struct replay_header *h, size_t start_len, size_t batches_len)
{
    size_t len = wire_u64_field_len (1, h->session) + wire_u64_field_len (2, h->next_offset) +
                 wire_u64_field_len (3, h->remaining_bytes) + wire_u64_field_len (4, h->caught_up) +
                 wire_u64_field_len (7, h->end_offset) + (h->start ? wire_slice_len (8, start_len) : 0) +
                 wire_u64_field_len (9, h->latest_end) + batches_len;
    for (size_t i = 0; i < h->covered_count; i++)
        len += wire_slice_len (5, covered_len (&h->covered[i]));
    for (size_t i = 0; i < h->gap_count; i++)
        len += wire_slice_len (6, gap_len (&h->gaps[i]));
    return len;
}

static uint8_t *put_message_head (uint8_t *p, uint32_t field, size_t len)
{
    p = wire_put_tag (p, WIRE_TAG (field, WIRE_LEN));
    return bytes_put_varint (p, len);
}

static uint8_t *put_covered (uint8_t *p, const struct replay_covered *c)
{
    p = put_message_head (p, 5, covered_len (c));
    p = wire_put_slice (p, 1, slice (c->stream.bytes, ID_LEN));
    return wire_put_u64_field (p, 2, c->through);
}

static uint8_t *put_gap (uint8_t *p, const struct replay_gap *g)
{
    p = put_message_head (p, 6, gap_len (g));
    if (!id_is_zero (&g->stream))
        p = wire_put_slice (p, 1, slice (g->stream.bytes, ID_LEN));
    p = wire_put_u64_field (p, 2, g->first_seq);
    p = wire_put_u64_field (p, 3, g->end_seq);
    p = wire_put_u64_field (p, 4, g->reason);
    return wire_put_u64_field (p, 5, g->journal);
}

static uint8_t *put_body (uint8_t *p, const struct replay_header *h, size_t start_len, struct fm_slice batch_fields)
{
    p = wire_put_u64_field (p, 1, h->session);
    p = wire_put_u64_field (p, 2, h->next_offset);
    p = wire_put_u64_field (p, 3, h->remaining_bytes);
    p = wire_put_u64_field (p, 4, h->caught_up);
    for (size_t i = 0; i < h->covered_count; i++)
        p = put_covered (p, &h->covered[i]);
    for (size_t i = 0; i < h->gap_count; i++)
        p = put_gap (p, &h->gaps[i]);
    p = wire_put_u64_field (p, 7, h->end_offset);
    if (h->start) {
        p = put_message_head (p, 8, start_len);
        p += factmesh__cursor__pack (h->start, p);
    }
    p = wire_put_u64_field (p, 9, h->latest_end);
    return wire_put_bytes (p, batch_fields);
}

int replay_data_encode (const struct replay_header *h, struct fm_slice mesh, struct fm_slice batch_fields, zmq_msg_t *ret_message)
{
    if (h->covered_count > REPLAY_ITEMS_MAX || h->gap_count > REPLAY_ITEMS_MAX)
        return error_set (FM_ERR_TOO_LARGE, "replay data: more than %d streams or gaps", REPLAY_ITEMS_MAX);
    const size_t start_len = h->start ? factmesh__cursor__get_packed_size (h->start) : 0;
    const size_t len = body_len (h, start_len, batch_fields.len);
    const size_t frame_len = wire_u64_field_len (1, PROTO_MAJOR) + wire_u64_field_len (2, PROTO_MINOR) +
                             wire_slice_field_len (3, mesh.len) + wire_slice_len (REPLAY_DATA_FIELD, len);
    if (frame_len > CONTROL_FRAME_MAX)
        return error_set (FM_ERR_TOO_LARGE, "replay data: %zu bytes, more than %d", frame_len, CONTROL_FRAME_MAX);
    if (zmq_msg_init_size (ret_message, frame_len) != 0)
        return -ENOMEM;
    uint8_t *p = zmq_msg_data (ret_message);
    p = wire_put_u64_field (p, 1, PROTO_MAJOR);
    p = wire_put_u64_field (p, 2, PROTO_MINOR);
    p = wire_put_slice_field (p, 3, mesh);
    p = put_message_head (p, REPLAY_DATA_FIELD, len);
    (void) put_body (p, h, start_len, batch_fields);    /* ends where the frame does: the lengths were counted alike */
    return 0;
}

uint8_t *replay_batch_field (uint8_t *p, size_t batch_len)
{
    return put_message_head (p, BATCHES_FIELD, batch_len);
}

/* --- Decoding. */

bool replay_data_is (const void *frame, size_t len)
{
    const uint8_t *p = frame, *end = p + len;
    while (p && p < end) {
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            break;
        if (tag == WIRE_TAG (REPLAY_DATA_FIELD, WIRE_LEN))
            return true;
        p = wire_skip (p, end, tag);
    }
    return false;
}

static int fault (const char *what)
{
    return error_set (FM_ERR_MALFORMED, "replay data: %s", what);
}

/* Room for twice the items of an array that the view owns. NULL: no memory, the array stays as it was. */
static void *grow (void *items, size_t *size, size_t item_len)
{
    const size_t new_size = *size ? *size * 2 : 16;
    void *grown = realloc (items, new_size * item_len);
    if (grown)
        *size = new_size;
    return grown;
}

/* The fields that Covered, Gap and Cursor have: an id in one, and up to four integers in the others. */
struct small_message {
    struct fm_slice id;
    uint64_t v[6];                  /* by field number */
};

static int decode_small (struct fm_slice bytes, uint32_t id_field, uint32_t last_field, struct small_message *ret_m)
{
    struct small_message m = { 0 };
    const uint8_t *p = bytes.data, *end = p + bytes.len;
    while (p && p < end) {
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            break;
        const uint32_t field = tag >> 3;
        if (tag == WIRE_TAG (id_field, WIRE_LEN))
            p = wire_get_slice (p, end, &m.id);
        else if (field <= last_field && field != id_field && (tag & 7) == WIRE_VARINT)
            p = wire_get_varint (p, end, &m.v[field]);
        else
            p = field <= last_field ? NULL : wire_skip (p, end, tag);
    }
    if (!p || (m.id.len != 0 && m.id.len != ID_LEN))
        return fault ("an item is cut off, or its id has not 16 bytes");
    *ret_m = m;
    return 0;
}

static int decode_covered (struct fm_slice bytes, struct replay_view *view)
{
    struct small_message m;
    const int rc = decode_small (bytes, 1, 2, &m);
    if (rc != 0)
        return rc;
    if (m.id.len == 0)
        return fault ("a covered has no stream");
    if (view->header.covered_count == REPLAY_ITEMS_MAX)
        return fault ("too many covered");
    if (view->header.covered_count == view->covered_size) {
        void *grown = grow (view->covered, &view->covered_size, sizeof *view->covered);
        if (!grown)
            return -ENOMEM;
        view->covered = grown;
    }
    struct replay_covered *c = &view->covered[view->header.covered_count++];
    memcpy (c->stream.bytes, m.id.data, ID_LEN);
    c->through = m.v[2];
    return 0;
}

static int decode_gap (struct fm_slice bytes, struct replay_view *view)
{
    struct small_message m;
    const int rc = decode_small (bytes, 1, 5, &m);
    if (rc != 0)
        return rc;
    if (m.v[2] >= m.v[3] || m.v[4] > UINT32_MAX)
        return fault ("a gap's range is empty or its reason out of range");
    if (view->header.gap_count == REPLAY_ITEMS_MAX)
        return fault ("too many gaps");
    if (view->header.gap_count == view->gaps_size) {
        void *grown = grow (view->gaps, &view->gaps_size, sizeof *view->gaps);
        if (!grown)
            return -ENOMEM;
        view->gaps = grown;
    }
    struct replay_gap *g = &view->gaps[view->header.gap_count++];
    *g = (struct replay_gap) { .first_seq = m.v[2], .end_seq = m.v[3], .reason = (uint32_t) m.v[4], .journal = m.v[5] != 0 };
    if (m.id.len)
        memcpy (g->stream.bytes, m.id.data, ID_LEN);
    return 0;
}

static int decode_start (struct fm_slice bytes, struct replay_view *view)
{
    struct small_message m;
    const int rc = decode_small (bytes, 2, 4, &m);
    if (rc != 0)
        return rc;
    if (m.id.len == 0)
        return fault ("the start has no journal");
    view->has_start = true;
    memcpy (view->journal.bytes, m.id.data, ID_LEN);
    view->generation = m.v[3];
    view->start_offset = m.v[4];
    return 0;
}

static int decode_field (uint32_t tag, const uint8_t *p, const uint8_t *end, struct replay_view *view, const uint8_t **ret_p)
{
    struct replay_header *h = &view->header;
    struct fm_slice s;
    uint64_t v;
    int rc = 0;
    switch (tag) {
    case WIRE_TAG (1, WIRE_VARINT):
        p = wire_get_varint (p, end, &h->session);
        break;
    case WIRE_TAG (2, WIRE_VARINT):
        p = wire_get_varint (p, end, &h->next_offset);
        break;
    case WIRE_TAG (3, WIRE_VARINT):
        p = wire_get_varint (p, end, &h->remaining_bytes);
        break;
    case WIRE_TAG (4, WIRE_VARINT):
        p = wire_get_varint (p, end, &v);
        h->caught_up = p && v != 0;
        break;
    case WIRE_TAG (5, WIRE_LEN):
        p = wire_get_slice (p, end, &s);
        rc = p ? decode_covered (s, view) : 0;
        break;
    case WIRE_TAG (6, WIRE_LEN):
        p = wire_get_slice (p, end, &s);
        rc = p ? decode_gap (s, view) : 0;
        break;
    case WIRE_TAG (7, WIRE_VARINT):
        p = wire_get_varint (p, end, &h->end_offset);
        break;
    case WIRE_TAG (8, WIRE_LEN):
        p = wire_get_slice (p, end, &s);
        rc = p ? decode_start (s, view) : 0;
        break;
    case WIRE_TAG (9, WIRE_VARINT):
        p = wire_get_varint (p, end, &h->latest_end);
        break;
    case BATCHES_TAG:
        p = wire_get_slice (p, end, &s);
        break;
    default:
        p = tag >> 3 <= BATCHES_FIELD && (tag >> 3 <= 9 || tag >> 3 == BATCHES_FIELD) ? NULL : wire_skip (p, end, tag);
        break;
    }
    if (rc == 0)
        *ret_p = p;
    return rc;
}

int replay_data_decode (const void *frame, size_t len, struct fm_slice mesh, struct replay_view *view)
{
    view->header = (struct replay_header) { 0 };
    view->has_start = false;
    view->pos = view->end = NULL;
    struct control_head head;
    int rc = control_peek (frame, len, mesh, &head);
    if (rc != 0)
        return rc;
    if (head.field != REPLAY_DATA_FIELD)
        return fault ("another body");
    const uint8_t *p = head.body.data, *end = p + head.body.len, *first_batch = end;
    while (p < end) {
        const uint8_t *tag_pos = p;
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            return fault ("cut off");
        if (tag == BATCHES_TAG && first_batch == end)
            first_batch = tag_pos;
        rc = decode_field (tag, p, end, view, &p);
        if (rc != 0)
            return rc;
        if (!p)
            return fault ("a field is cut off, out of range or of a wrong kind");
    }
    view->header.covered = view->covered;
    view->header.gaps = view->gaps;
    view->pos = first_batch;
    view->end = end;
    return 0;
}

int replay_view_next (struct replay_view *view, struct fm_slice *ret_batch)
{
    while (view->pos < view->end) {
        uint32_t tag;
        const uint8_t *p = wire_get_tag (view->pos, view->end, &tag);
        if (p && tag == BATCHES_TAG) {
            p = wire_get_slice (p, view->end, ret_batch);
            view->pos = p ? p : view->end;
            return p ? 0 : FM_ERR_END;
        }
        /* Fields of another kind may lie between; replay_data_decode has seen that all are whole. */
        p = p ? wire_skip (p, view->end, tag) : NULL;
        view->pos = p ? p : view->end;
    }
    return FM_ERR_END;
}

void replay_view_release (struct replay_view *view)
{
    free (view->covered);
    free (view->gaps);
    *view = (struct replay_view) { 0 };
}
