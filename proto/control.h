/* control: the messages of the control endpoints and the reserved live topics, one ZeroMQ frame each.
 *
 * Rare ones go through protobuf-c; ReplayData, which carries the bulk, is encoded and decoded by hand
 * without copying its batches twice. SPEC.md, "Control". */

#ifndef FM_PROTO_CONTROL_H
#define FM_PROTO_CONTROL_H

#include <zmq.h>

#include "bytes.h"
#include "factmesh.pb-c.h"
#include "id.h"
#include "fm_limits.h"
#include "topic.h"

/* Encode into a new ZeroMQ message. major, minor and mesh are filled in by this function. Returns 0, -ENOMEM or
 * FM_ERR_TOO_LARGE. On success the caller owns ret_message (zmq_msg_send takes it, else zmq_msg_close). */
int control_encode (Factmesh__Control *control, struct fm_slice mesh, zmq_msg_t *ret_message);

/* Decode one frame; the result is freed with factmesh__control__free_unpacked (c, NULL). Checks version, mesh (empty: any),
 * that a body is there, and that every id within has 16 bytes or none. An unknown body is FM_ERR_UNKNOWN (ignore it:
 * a newer minor version). Returns 0, FM_ERR_MALFORMED, FM_ERR_VERSION, FM_ERR_MESH, FM_ERR_UNKNOWN; -ENOMEM: try again. */
int control_decode (const void *frame, size_t len, struct fm_slice mesh, Factmesh__Control **ret_control);

/* Look at a frame's head without decoding its body: who is it from, what is it? Checks size, version, mesh (empty: any) and that
 * there is one body. Returns 0, FM_ERR_MALFORMED, FM_ERR_VERSION, FM_ERR_MESH. */
struct control_head {
    struct fm_slice mesh, body;
    uint64_t request;
    uint32_t field;                 /* number of the body in Control: FACTMESH__CONTROL__BODY_... */
};
int control_peek (const void *frame, size_t len, struct fm_slice mesh, struct control_head *ret_head);

/* Encode anything under a reserved live topic: FF kind [nonce] NUL body. nonce (FENCE_NONCE_LEN bytes) for a fence alone, else NULL.
 * The caller fills in the body's version and mesh. Returns 0, -ENOMEM or FM_ERR_TOO_LARGE (beyond LIVE_FRAME_MAX). */
int control_encode_reserved (uint8_t kind, const uint8_t *nonce, const ProtobufCMessage *body, zmq_msg_t *ret_message);

/* Take a reserved frame apart; ret_nonce is empty but for a fence. Returns 0 or FM_ERR_MALFORMED. An unknown kind is a newer
 * version's: ignore it. */
int reserved_from_frame (const uint8_t *frame, size_t len, uint8_t *ret_kind, struct fm_slice *ret_nonce, struct fm_slice *ret_body);

/* Decode and check a reserved frame's body: version, mesh, ids, bounds. Freed with factmesh__..__free_unpacked (m, NULL). Return 0,
 * -ENOMEM, FM_ERR_MALFORMED, FM_ERR_VERSION, FM_ERR_MESH. */
int reserved_decode_head (struct fm_slice body, struct fm_slice mesh, Factmesh__HeadNotice **ret_notice);
int reserved_decode_fence (struct fm_slice body, struct fm_slice mesh, Factmesh__FenceAnswer **ret_answer);
/* May it be that node's? ZeroMQ connects anew to who has a node's address by now, and tells it what was asked of the one before, whose streams it knows nothing of.
 * An older node does not say who it is; what cannot be read is not told apart. */
bool reserved_fence_is_of (struct fm_slice body, const struct fm_id *node);
int reserved_decode_watermark (struct fm_slice body, struct fm_slice mesh, Factmesh__Watermark **ret_watermark);

/* Borrowed view of an id field; copy an id into a ProtobufCBinaryData that points at it. */
int control_get_id (const ProtobufCBinaryData *field, struct fm_id *ret_id);
static inline ProtobufCBinaryData control_put_id (const struct fm_id *id)
{
    return (ProtobufCBinaryData) { .len = ID_LEN, .data = (uint8_t *) (uintptr_t) id->bytes };
}
static inline ProtobufCBinaryData control_put_slice (struct fm_slice s)
{
    return (ProtobufCBinaryData) { .len = s.len, .data = (uint8_t *) (uintptr_t) s.data };
}
static inline struct fm_slice control_get_slice (const ProtobufCBinaryData *b)
{
    return slice (b->data, b->len);
}

/* --- ReplayData by hand. */

struct replay_covered {
    struct fm_id stream;
    uint64_t through;
};

struct replay_gap {
    struct fm_id stream;            /* zero: a range of offsets */
    uint64_t first_seq, end_seq;
    uint32_t reason;                /* enum _Factmesh__GapReason */
    bool journal;                   /* with GAP_SYNCED: one told how far it has the stream, in this epoch or an earlier one */
};

/* Everything of a ReplayData but its batches. */
struct replay_header {
    uint64_t session, next_offset, remaining_bytes, end_offset;
    bool caught_up;
    const struct replay_covered *covered;
    size_t covered_count;
    const struct replay_gap *gaps;
    size_t gap_count;
    const Factmesh__Cursor *start;  /* NULL: none */
    uint64_t latest_end;            /* 0: the newest facts of keys have been sent, or were not asked for */
};

/* Encode Control{replay_data} from a header and the batches' fields already encoded one behind the other
 * (replay_batch_field), copying them once. */
int replay_data_encode (const struct replay_header *h, struct fm_slice mesh, struct fm_slice batch_fields, zmq_msg_t *ret_message);

/* The tag and length that precede a batch within batch_fields: at most 12 bytes; returns the position behind. */
uint8_t *replay_batch_field (uint8_t *p, size_t batch_len);

/* Is this frame a Control whose body is ReplayData? Cheap; does not check the rest. */
bool replay_data_is (const void *frame, size_t len);

/* Decode: covered and gaps are copied into arrays that the view owns and reuses; the batches are walked in place. */
struct replay_view {
    struct replay_header header;    /* header.start is always NULL here; see start_offset */
    bool has_start;
    struct fm_id journal;           /* of the start cursor */
    uint64_t generation, start_offset;
    struct replay_covered *covered;
    struct replay_gap *gaps;
    size_t covered_size, gaps_size;
    const uint8_t *pos, *end;       /* walk of the batches */
};
/* Returns 0, -ENOMEM, FM_ERR_MALFORMED, FM_ERR_VERSION, FM_ERR_MESH. The view, zero-initialised at first, points into the frame. */
int replay_data_decode (const void *frame, size_t len, struct fm_slice mesh, struct replay_view *view);
/* The next batch's bytes. Returns 0 or FM_ERR_END. */
int replay_view_next (struct replay_view *view, struct fm_slice *ret_batch);
void replay_view_release (struct replay_view *view);

#endif
