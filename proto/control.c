#include "control.h"
#include "blob.h"
#include "error.h"
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
    CONTROL_BODY_FIRST = 10         /* fields of Control below are its head, from here on bodies, of which it has one */
};

/* --- Checks of what protobuf-c decoded, by descriptor: an id is recognised by its name, other bounds are listed. */

static const struct rule {
    const ProtobufCMessageDescriptor *message;
    uint32_t field;
    uint32_t count_max;             /* of a repeated field; 0: not checked */
    uint32_t len_max;               /* of each value, in bytes; 0: not checked */
} rules[] = {
    { &factmesh__node_info__descriptor, 2, 0, NODE_NAME_MAX },
    { &factmesh__node_info__descriptor, 3, ADDRESSES_MAX, ADDRESS_LEN_MAX },
    { &factmesh__node_info__descriptor, 4, ADDRESSES_MAX, ADDRESS_LEN_MAX },
    { &factmesh__node_info__descriptor, 6, STREAMS_PER_NODE_MAX, 0 },
    { &factmesh__node_info__descriptor, 10, 0, TYPE_MAX },
    { &factmesh__stream_head__descriptor, 6, 0, NODE_NAME_MAX },
    { &factmesh__welcome__descriptor, 2, MEMBERS_MAX, 0 },
    { &factmesh__peers__descriptor, 1, MEMBERS_MAX, 0 },
    { &factmesh__watermark__descriptor, 3, STREAMS_PER_NODE_MAX, 0 },
    { &factmesh__watermark__descriptor, 4, 0, MESH_NAME_MAX },
    { &factmesh__fence_answer__descriptor, 5, STREAMS_PER_NODE_MAX, 0 },
    { &factmesh__level_head__descriptor, 1, 0, TOPIC_MAX },
    { &factmesh__replay_open__descriptor, 2, FILTERS_MAX, TOPIC_MAX },
    { &factmesh__replay_open__descriptor, 9, 0, CURSOR_NAME_MAX },
    { &factmesh__cursor__descriptor, 5, CURSOR_POSITIONS_MAX, 0 },
    { &factmesh__cursor_put__descriptor, 1, 0, CURSOR_NAME_MAX },
    { &factmesh__cursor_put__descriptor, 3, 0, FILTERS_MAX * (TOPIC_MAX + 1) },
    { &factmesh__cursor_get__descriptor, 1, 0, CURSOR_NAME_MAX },
    { &factmesh__cursor_delete__descriptor, 1, 0, CURSOR_NAME_MAX },
    { &factmesh__cursor_list__descriptor, 1, 0, CURSOR_NAME_MAX },
    { &factmesh__cursor_state__descriptor, 1, 0, CURSOR_NAME_MAX },
    { &factmesh__group_config__descriptor, 1, FILTERS_MAX, TOPIC_MAX },
    { &factmesh__group_join__descriptor, 1, 0, GROUP_NAME_MAX },
    { &factmesh__group_join__descriptor, 2, 0, NODE_NAME_MAX },
    { &factmesh__group_join__descriptor, 11, GROUP_CREDIT_MAX, 0 },
    { &factmesh__group_command__descriptor, 1, 0, GROUP_NAME_MAX },
    { &factmesh__group_list__descriptor, 1, 0, GROUP_NAME_MAX },
    { &factmesh__fact_get__descriptor, 2, 0, TOPIC_MAX },
    { &factmesh__fact_get__descriptor, 3, 0, KEY_MAX },
    { &factmesh__links_get__descriptor, 2, 0, CORRELATION_MAX },
    { &factmesh__blob_put_open__descriptor, 1, 0, BLOB_KEY_MAX },
    { &factmesh__blob_put_open__descriptor, 4, 0, TYPE_MAX },
    { &factmesh__blob_put_open__descriptor, 6, 0, BLOB_BLOCK },
    { &factmesh__blob_put_chunk__descriptor, 1, 0, BLOB_KEY_MAX },
    { &factmesh__blob_put_chunk__descriptor, 3, 0, BLOB_BLOCK },
    { &factmesh__blob_put_end__descriptor, 1, 0, BLOB_KEY_MAX },
    { &factmesh__blob_put_state__descriptor, 1, 0, BLOB_KEY_MAX },
    { &factmesh__blob_info__descriptor, 3, 0, TYPE_MAX },
    { &factmesh__blob_data__descriptor, 2, 0, BLOB_BLOCK },
    { &factmesh__blob_data__descriptor, 4, 0, TYPE_MAX },
    { &factmesh__blob_reply__descriptor, 1, BLOB_LIST_MAX, 0 },
    { &factmesh__outcomes__descriptor, 2, GROUP_CREDIT_MAX, 0 },
    { &factmesh__work__descriptor, 2, GROUP_CREDIT_MAX, 0 },
};

static const struct rule *find_rule (const ProtobufCMessageDescriptor *message, uint32_t field)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].message == message && rules[i].field == field)
            return &rules[i];
    }
    return NULL;
}

static bool is_digest (const ProtobufCFieldDescriptor *field)
{
    return strcmp (field->name, "sha256") == 0;
}

static bool is_id (const ProtobufCFieldDescriptor *field)
{
    return strcmp (field->name, "stream") == 0 || strcmp (field->name, "node") == 0 || strcmp (field->name, "journal") == 0;
}

static int check_message (const ProtobufCMessage *message);

static int check_value (const ProtobufCMessageDescriptor *in, const ProtobufCFieldDescriptor *field, const struct rule *rule,
                        const void *value)
{
    size_t len;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *message = *(ProtobufCMessage *const *) value;
        return message ? check_message (message) : 0;
    }
    if (field->type == PROTOBUF_C_TYPE_BYTES)
        len = ((const ProtobufCBinaryData *) value)->len;
    else if (field->type == PROTOBUF_C_TYPE_STRING)
        len = strlen (*(char *const *) value);
    else
        return 0;
    if (field->type == PROTOBUF_C_TYPE_BYTES && is_id (field) && len != 0 && len != ID_LEN)
        return error_set (FM_ERR_MALFORMED, "%s.%s: %zu bytes are no id", in->short_name, field->name, len);
    if (field->type == PROTOBUF_C_TYPE_BYTES && is_digest (field) && len != 0 && len != BLOB_DIGEST_LEN)
        return error_set (FM_ERR_MALFORMED, "%s.%s: %zu bytes are no SHA-256", in->short_name, field->name, len);
    if (rule && rule->len_max && len > rule->len_max)
        return error_set (FM_ERR_MALFORMED, "%s.%s: %zu bytes, more than %u", in->short_name, field->name, len, rule->len_max);
    return 0;
}

static size_t value_size (const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_BYTES ? sizeof (ProtobufCBinaryData) : sizeof (void *);
}

static int check_field (const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *in = message->descriptor;
    const uint8_t *base = (const uint8_t *) message;
    const struct rule *rule = find_rule (in, field->id);
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        uint32_t which;
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            memcpy (&which, base + field->quantifier_offset, sizeof which);
            if (which != field->id)
                return 0;
        }
        return check_value (in, field, rule, base + field->offset);
    }
    size_t count;
    const uint8_t *values;
    memcpy (&count, base + field->quantifier_offset, sizeof count);
    memcpy (&values, base + field->offset, sizeof values);
    if (rule && rule->count_max && count > rule->count_max)
        return error_set (FM_ERR_MALFORMED, "%s.%s: %zu of them, more than %u", in->short_name, field->name, count, rule->count_max);
    const bool worth = field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_BYTES ||
                       field->type == PROTOBUF_C_TYPE_STRING;
    for (size_t i = 0; worth && i < count; i++) {
        const int rc = check_value (in, field, rule, values + i * value_size (field));
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Recursion ends: no message of ours holds one of its own kind. */
static int check_message (const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const int rc = check_field (message, &message->descriptor->fields[i]);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* --- Unpacking within a budget: two bytes on the wire can become a message of a hundred bytes in memory. */

struct budget {
    size_t left;
    bool no_memory;                         /* the machine had none; more than the budget is the message's fault */
};

static void *budget_alloc (void *context, size_t size)
{
    struct budget *budget = context;
    if (size > budget->left)
        return NULL;
    budget->left -= size;
    void *p = malloc (size);
    budget->no_memory = budget->no_memory || (!p && size > 0);
    return p;
}

static void budget_free (void *context, void *p)
{
    (void) context;     /* what is freed stays spent: the budget bounds the work too */
    free (p);
}

/* The result is freed with the default allocator, which is malloc's too. */
static int unpack (const ProtobufCMessageDescriptor *descriptor, struct fm_slice bytes, ProtobufCMessage **ret_message)
{
    struct budget budget = { .left = CONTROL_MEMORY_MAX };
    ProtobufCAllocator allocator = { .alloc = budget_alloc, .free = budget_free, .allocator_data = &budget };
    ProtobufCMessage *message = protobuf_c_message_unpack (descriptor, &allocator, bytes.len, bytes.data);
    if (!message && budget.no_memory)
        return error_set (-ENOMEM, "%s: no memory to decode %zu bytes", descriptor->short_name, bytes.len);
    if (!message)
        return error_set (FM_ERR_MALFORMED, "%s: %zu bytes do not decode (or need more than %d bytes of memory)",
                          descriptor->short_name, bytes.len, CONTROL_MEMORY_MAX);
    const int rc = check_message (message);
    if (rc != 0) {
        protobuf_c_message_free_unpacked (message, NULL);
        return rc;
    }
    *ret_message = message;
    return 0;
}

static int check_head (uint32_t major, struct fm_slice mesh, struct fm_slice our_mesh)
{
    if (major != PROTO_MAJOR)
        return error_set (FM_ERR_VERSION, "message of protocol version %u; this is version %d", major, PROTO_MAJOR);
    if (mesh.len == 0 || mesh.len > MESH_NAME_MAX)
        return error_set (FM_ERR_MALFORMED, "message: the mesh's name has %zu bytes, not 1 to %d", mesh.len, MESH_NAME_MAX);
    if (our_mesh.len && !slice_equal (mesh, our_mesh))
        return error_set (FM_ERR_MESH, "message of the mesh '%.*s'; this is '%.*s'", (int) mesh.len, (const char *) mesh.data,
                          (int) our_mesh.len, (const char *) our_mesh.data);
    return 0;
}

/* --- Control. */

int control_peek (const void *frame, size_t len, struct fm_slice mesh, struct control_head *ret_head)
{
    if (len > CONTROL_FRAME_MAX)
        return error_set (FM_ERR_MALFORMED, "control: %zu bytes, more than %d", len, CONTROL_FRAME_MAX);
    struct control_head head = { 0 };
    uint32_t major = 0;
    bool has_major = false;
    const uint8_t *p = frame, *end = p + len;
    while (p && p < end) {
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            break;
        if (tag == WIRE_TAG (1, WIRE_VARINT)) {
            p = wire_get_u32 (p, end, &major);
            has_major = true;
        } else if (tag == WIRE_TAG (3, WIRE_LEN)) {
            p = wire_get_slice (p, end, &head.mesh);
        } else if (tag == WIRE_TAG (4, WIRE_VARINT)) {
            p = wire_get_varint (p, end, &head.request);
        } else if (tag >> 3 < CONTROL_BODY_FIRST) {
            p = wire_skip (p, end, tag);
        } else if ((tag & 7) == WIRE_LEN && head.field == 0) {
            head.field = tag >> 3;
            p = wire_get_slice (p, end, &head.body);
        } else {
            return error_set (FM_ERR_MALFORMED, "control: a second body (field %u), or one that is no message", tag >> 3);
        }
        /* As soon as it is known: what follows may look different there. */
        if (p && has_major && major != PROTO_MAJOR)
            return check_head (major, head.mesh, mesh);
    }
    if (!p || !has_major)
        return error_set (FM_ERR_MALFORMED, "control: %zu bytes are cut off or no message of ours", len);
    const int rc = check_head (major, head.mesh, mesh);
    if (rc != 0)
        return rc;
    if (head.field == 0)
        return error_set (FM_ERR_MALFORMED, "control: it has no body");
    *ret_head = head;
    return 0;
}

int control_encode (Factmesh__Control *control, struct fm_slice mesh, zmq_msg_t *ret_message)
{
    control->major = PROTO_MAJOR;
    control->minor = PROTO_MINOR;
    const ProtobufCBinaryData own_mesh = control->mesh;
    control->mesh = control_put_slice (mesh);
    const size_t len = factmesh__control__get_packed_size (control);
    int rc = 0;
    if (len > CONTROL_FRAME_MAX)
        rc = error_set (FM_ERR_TOO_LARGE, "control: %zu bytes, more than %d", len, CONTROL_FRAME_MAX);
    else if (zmq_msg_init_size (ret_message, len) != 0)
        rc = -ENOMEM;
    else
        (void) factmesh__control__pack (control, zmq_msg_data (ret_message));  /* it is as long as it said */
    control->mesh = own_mesh;       /* the caller may own what was there, and nothing of it points at ours */
    return rc;
}

int control_decode (const void *frame, size_t len, struct fm_slice mesh, Factmesh__Control **ret_control)
{
    struct control_head head;
    int rc = control_peek (frame, len, mesh, &head);
    if (rc != 0)
        return rc;
    if (!protobuf_c_message_descriptor_get_field (&factmesh__control__descriptor, head.field))
        return error_set (FM_ERR_UNKNOWN, "control: body %u is not known to this version", head.field);
    ProtobufCMessage *message;
    rc = unpack (&factmesh__control__descriptor, slice (frame, len), &message);
    if (rc == 0)
        *ret_control = (Factmesh__Control *) message;
    return rc;
}

int control_get_id (const ProtobufCBinaryData *field, struct fm_id *ret_id)
{
    if (field->len != ID_LEN)
        return error_set (FM_ERR_MALFORMED, "an id of %zu bytes, not %d", field->len, ID_LEN);
    memcpy (ret_id->bytes, field->data, ID_LEN);
    return 0;
}

/* --- Reserved live topics. */

int control_encode_reserved (uint8_t kind, const uint8_t *nonce, const ProtobufCMessage *body, zmq_msg_t *ret_message)
{
    assert ((kind == RESERVED_FENCE) == (nonce != NULL));
    const size_t head_len = nonce ? 3 + FENCE_NONCE_LEN : 3;
    const size_t len = head_len + protobuf_c_message_get_packed_size (body);
    if (len > LIVE_FRAME_MAX)
        return error_set (FM_ERR_TOO_LARGE, "notice '%c': %zu bytes, more than %d", kind, len, LIVE_FRAME_MAX);
    if (zmq_msg_init_size (ret_message, len) != 0)
        return -ENOMEM;
    uint8_t *p = zmq_msg_data (ret_message);
    p[0] = RESERVED_BYTE;
    p[1] = kind;
    if (nonce)
        memcpy (p + 2, nonce, FENCE_NONCE_LEN);
    p[head_len - 1] = 0;
    (void) protobuf_c_message_pack (body, p + head_len);        /* it is as long as it said */
    return 0;
}

int reserved_from_frame (const uint8_t *frame, size_t len, uint8_t *ret_kind, struct fm_slice *ret_nonce, struct fm_slice *ret_body)
{
    if (len < 3 || frame[0] != RESERVED_BYTE)
        return error_set (FM_ERR_MALFORMED, "frame of %zu bytes: no reserved topic in front", len);
    /* A nonce may hold NULs: its length is fixed. */
    const size_t nonce_len = frame[1] == RESERVED_FENCE ? FENCE_NONCE_LEN : 0;
    if (len < 3 + nonce_len || frame[2 + nonce_len] != 0)
        return error_set (FM_ERR_MALFORMED, "frame of %zu bytes: no NUL ends the reserved topic", len);
    *ret_kind = frame[1];
    *ret_nonce = slice (frame + 2, nonce_len);
    *ret_body = slice (frame + 3 + nonce_len, len - 3 - nonce_len);
    return 0;
}

int reserved_decode_head (struct fm_slice body, struct fm_slice mesh, Factmesh__HeadNotice **ret_notice)
{
    ProtobufCMessage *message;
    int rc = unpack (&factmesh__head_notice__descriptor, body, &message);
    if (rc != 0)
        return rc;
    Factmesh__HeadNotice *notice = (Factmesh__HeadNotice *) message;
    rc = check_head (notice->major, control_get_slice (&notice->mesh), mesh);
    if (rc == 0 && notice->stream.len != ID_LEN)
        rc = error_set (FM_ERR_MALFORMED, "head notice: it has no stream");
    for (size_t i = 0; rc == 0 && i < notice->n_levels; i++) {
        if (notice->levels[i]->last_seq > notice->head)
            rc = error_set (FM_ERR_MALFORMED, "head notice: a level ends above the head");
    }
    if (rc == 0 && notice->complete_since > notice->head)
        rc = error_set (FM_ERR_MALFORMED, "head notice: complete since above the head");
    if (rc != 0)
        protobuf_c_message_free_unpacked (message, NULL);
    else
        *ret_notice = notice;
    return rc;
}

int reserved_decode_fence (struct fm_slice body, struct fm_slice mesh, Factmesh__FenceAnswer **ret_answer)
{
    ProtobufCMessage *message;
    int rc = unpack (&factmesh__fence_answer__descriptor, body, &message);
    if (rc != 0)
        return rc;
    Factmesh__FenceAnswer *answer = (Factmesh__FenceAnswer *) message;
    rc = check_head (answer->major, control_get_slice (&answer->mesh), mesh);
    if (rc == 0 && answer->nonce.len != FENCE_NONCE_LEN)
        rc = error_set (FM_ERR_MALFORMED, "fence answer: its nonce has not %d bytes", FENCE_NONCE_LEN);
    if (rc == 0 && answer->node.len > 0 && answer->node.len != ID_LEN)
        rc = error_set (FM_ERR_MALFORMED, "fence answer: its node has not %d bytes", ID_LEN);
    for (size_t i = 0; rc == 0 && i < answer->n_streams; i++) {
        if (answer->streams[i]->stream.len != ID_LEN || answer->streams[i]->next_seq == 0)
            rc = error_set (FM_ERR_MALFORMED, "fence answer: a stream without an id or a sequence");
    }
    if (rc != 0)
        protobuf_c_message_free_unpacked (message, NULL);
    else
        *ret_answer = answer;
    return rc;
}

bool reserved_fence_is_of (struct fm_slice body, const struct fm_id *node)
{
    ProtobufCMessage *message;
    if (unpack (&factmesh__fence_answer__descriptor, body, &message) != 0)
        return true;
    const Factmesh__FenceAnswer *answer = (const Factmesh__FenceAnswer *) message;
    const bool is = answer->node.len != ID_LEN || memcmp (answer->node.data, node->bytes, ID_LEN) == 0;
    protobuf_c_message_free_unpacked (message, NULL);
    return is;
}

int reserved_decode_watermark (struct fm_slice body, struct fm_slice mesh, Factmesh__Watermark **ret_watermark)
{
    ProtobufCMessage *message;
    int rc = unpack (&factmesh__watermark__descriptor, body, &message);
    if (rc != 0)
        return rc;
    Factmesh__Watermark *watermark = (Factmesh__Watermark *) message;
    rc = check_head (PROTO_MAJOR, control_get_slice (&watermark->mesh), mesh);
    if (rc == 0 && watermark->journal.len != ID_LEN)
        rc = error_set (FM_ERR_MALFORMED, "watermark: it has no journal");
    for (size_t i = 0; rc == 0 && i < watermark->n_marks; i++) {
        if (watermark->marks[i]->stream.len != ID_LEN)
            rc = error_set (FM_ERR_MALFORMED, "watermark: a mark without a stream");
    }
    if (rc != 0)
        protobuf_c_message_free_unpacked (message, NULL);
    else
        *ret_watermark = watermark;
    return rc;
}
