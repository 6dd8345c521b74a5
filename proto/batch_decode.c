/* The header of a batch: one pass over its fields, in any order, up to the first fact. */

#include "batch.h"
#include "batch_duplicates.h"
#include "batch_fields.h"
#include "error.h"
#include "topic.h"

#include <errno.h>
#include <stdlib.h>

void batch_scratch_release (struct batch_scratch *scratch)
{
    free (scratch->topics);
    *scratch = (struct batch_scratch) { 0 };
}

static int scratch_grow (struct batch_scratch *scratch)
{
    const uint32_t size = scratch->size ? scratch->size * 2 : 4;
    struct batch_topic *topics = realloc (scratch->topics, size * sizeof *topics);
    if (!topics)
        return -ENOMEM;
    scratch->topics = topics;
    scratch->size = size;
    return 0;
}

static int fault (const char *what)
{
    return error_set (FM_ERR_MALFORMED, "batch: %s", what);
}

static int fault_at (size_t pos, uint32_t tag)
{
    return error_set (FM_ERR_MALFORMED, "batch: byte %zu: field %u is cut off, out of range or of a wrong kind", pos, tag >> 3);
}

static int decode_topic (struct fm_slice bytes, struct batch_topic *ret_topic)
{
    const uint8_t *p = bytes.data, *end = p + bytes.len;
    struct batch_topic topic = { 0 };
    while (p < end) {
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            return fault ("a topic is cut off");
        if (tag == TOPIC_NAME)
            p = wire_get_slice (p, end, &topic.name);
        else if (tag == TOPIC_BACK && !topic.backs.data)
            p = wire_get_slice (p, end, &topic.backs);
        else if (tag >> 3 <= 2)
            return fault ("a topic has a field of a wrong kind or twice");
        else
            p = wire_skip (p, end, tag);
        if (!p)
            return fault ("a topic is cut off");
    }
    if (topic_check (topic.name) != 0)
        return error_set (FM_ERR_MALFORMED, "batch: %s", fm_error_detail ());
    *ret_topic = topic;
    return 0;
}

/* One back for each level, and perhaps one more for the topic itself. None reaches below sequence 0. */
static int check_backs (const struct batch_topic *topic, uint64_t first_seq)
{
    unsigned count = 0;
    const uint8_t *p = topic->backs.data, *end = topic->backs.len ? p + topic->backs.len : p;
    while (p < end) {
        uint64_t back;
        p = wire_get_varint (p, end, &back);
        if (!p || back > first_seq - 1)
            return fault ("a topic's back is cut off or reaches below sequence 1");
        count++;
    }
    const unsigned depth = topic_depth (topic->name);
    if (count != depth && count != depth + 1)
        return fault ("a topic has not one back for each level");
    return 0;
}

static int decode_id (struct fm_slice bytes, struct fm_id *ret_id)
{
    if (bytes.len != ID_LEN)
        return fault ("the stream's id has not 16 bytes");
    memcpy (ret_id->bytes, bytes.data, ID_LEN);
    return 0;
}

/* Decode the field that `tag` begins; p is behind the tag. Returns 0 and the position behind it. */
static int decode_field (struct batch *b, struct batch_scratch *scratch, uint32_t tag, const uint8_t *p, const uint8_t *end,
                         const uint8_t **ret_p)
{
    struct fm_slice s;
    int rc = 0;
    switch (tag) {
    case BATCH_MAJOR:
        p = wire_get_u32 (p, end, &b->major);
        /* At once: what follows may look different there. */
        if (p && b->major != PROTO_MAJOR)
            return error_set (FM_ERR_VERSION, "batch of protocol version %u; this is version %d", b->major, PROTO_MAJOR);
        break;
    case BATCH_MINOR:
        p = wire_get_u32 (p, end, &b->minor);
        break;
    case BATCH_MESH:
        p = wire_get_slice (p, end, &b->mesh);
        break;
    case BATCH_STREAM:
        p = wire_get_slice (p, end, &s);
        rc = p ? decode_id (s, &b->stream) : 0;
        break;
    case BATCH_EPOCH:
        p = wire_get_varint (p, end, &b->epoch);
        break;
    case BATCH_INCARNATION:
        p = wire_get_fixed64 (p, end, &b->incarnation);
        break;
    case BATCH_FIRST_SEQ:
        p = wire_get_varint (p, end, &b->first_seq);
        break;
    case BATCH_COUNT:
        p = wire_get_u32 (p, end, &b->count);
        break;
    case BATCH_TIME_NS:
        p = wire_get_fixed64 (p, end, &b->time_ns);
        break;
    case BATCH_EPOCH_FIRST_SEQ:
        p = wire_get_varint (p, end, &b->epoch_first_seq);
        break;
    case BATCH_TOPIC:
        p = wire_get_slice (p, end, &s);
        if (!p)
            break;
        if (b->topic_count == BATCH_TOPICS_MAX)
            return error_set (FM_ERR_MALFORMED, "batch: more than %d topics", BATCH_TOPICS_MAX);
        if (b->topic_count == scratch->size)
            rc = scratch_grow (scratch);
        if (rc == 0)
            rc = decode_topic (s, &scratch->topics[b->topic_count++]);
        break;
    case BATCH_CODEC:
        p = wire_get_u32 (p, end, &b->codec);
        break;
    case BATCH_FEATURES:
        p = wire_get_varint (p, end, &b->features);
        break;
    case BATCH_TYPE:
        p = wire_get_slice (p, end, &b->type);
        break;
    case BATCH_CONTENT_TYPE:
        p = wire_get_slice (p, end, &b->content_type);
        break;
    case BATCH_ANNOUNCED_LEN:
        p = wire_get_varint (p, end, &b->announced_len);
        break;
    case BATCH_CODED_FACTS:
    case BATCH_REDACTION:
        p = wire_get_slice (p, end, &s);
        break;
    case BATCH_DUPLICATES:
        if (b->duplicates.data)
            return fault ("its duplicates are told twice");
        p = wire_get_slice (p, end, &b->duplicates);
        rc = p ? batch_duplicates_check (b->duplicates) : 0;
        break;
    default:
        /* A field of ours in a shape that is not ours is damage; others are a newer minor version's. */
        p = tag >> 3 <= BATCH_FIELD_LAST ? NULL : wire_skip (p, end, tag);
        break;
    }
    if (rc == 0)
        *ret_p = p;
    return rc;
}

/* What the fields must be among themselves. */
static int check_header (const struct batch *b, struct fm_slice mesh)
{
    if (b->major == 0)
        return fault ("it has no version");
    if (b->codec != 0)
        return error_set (FM_ERR_VERSION, "batch: its facts are coded (codec %u), which this version cannot read", b->codec);
    if (b->mesh.len == 0 || b->mesh.len > MESH_NAME_MAX)
        return fault ("the mesh's name has not 1 to 63 bytes");
    if (mesh.len && !slice_equal (mesh, b->mesh))
        return error_set (FM_ERR_MESH, "batch of the mesh '%.*s'; this is '%.*s'", (int) b->mesh.len, (const char *) b->mesh.data,
                          (int) mesh.len, (const char *) mesh.data);
    if (id_is_zero (&b->stream))
        return fault ("it has no stream");
    if (b->count == 0 || b->count > BATCH_FACTS_MAX)
        return error_set (FM_ERR_MALFORMED, "batch: %u facts, not 1 to %d", b->count, BATCH_FACTS_MAX);
    if (b->first_seq == 0 || b->first_seq > UINT64_MAX - b->count)
        return fault ("its sequences are out of range");
    if (b->epoch_first_seq > b->first_seq)
        return fault ("its epoch begins above its first sequence");
    if (b->type.len > TYPE_MAX || b->content_type.len > TYPE_MAX)
        return fault ("its type is too long");
    if (b->announced_len > BATCH_MAX)
        return fault ("the announced length is out of range");
    if (b->topic_count == 0)
        return fault ("it has no topic");
    for (uint32_t i = 0; i < b->topic_count; i++) {
        const int rc = check_backs (&b->topics[i], b->first_seq);
        if (rc != 0)
            return rc;
    }
    const bool facts = b->facts_pos < b->len;
    if (facts == (b->announced_len > 0))
        return fault (facts ? "facts in a batch that is only announced" : "it has no facts");
    return 0;
}

int batch_decode (const uint8_t *bytes, size_t len, struct fm_slice mesh, struct batch_scratch *scratch, struct batch *ret_batch)
{
    if (len > BATCH_MAX)
        return error_set (FM_ERR_MALFORMED, "batch: %zu bytes, more than %d", len, BATCH_MAX);
    struct batch b = { .bytes = bytes, .len = len };
    const uint8_t *p = bytes, *end = bytes + len;
    while (p < end && *p != BATCH_FACT) {
        const uint8_t *field = p;
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            return fault_at ((size_t) (field - bytes), 0);
        const int rc = decode_field (&b, scratch, tag, p, end, &p);
        if (rc != 0)
            return rc;
        if (!p)
            return fault_at ((size_t) (field - bytes), tag);
    }
    b.facts_pos = (size_t) (p - bytes);
    b.topics = scratch->topics;
    const int rc = check_header (&b, mesh);
    if (rc == 0)
        *ret_batch = b;
    return rc;
}

static uint64_t back_at (struct fm_slice backs, unsigned index)
{
    const uint8_t *p = backs.data, *end = p + backs.len;
    uint64_t back = 0;
    for (unsigned i = 0; i <= index && p; i++)
        p = wire_get_varint (p, end, &back);
    return p ? back : 0;
}

bool batch_prev (const struct batch *b, struct fm_slice level, uint64_t *ret_prev)
{
    const unsigned depth = topic_depth (level);
    bool found = depth == 0;
    uint64_t nearest = found ? 0 : UINT64_MAX;
    for (uint32_t i = 0; i < b->topic_count && depth > 0; i++) {
        if (!topic_is_under (b->topics[i].name, level))
            continue;
        /* All topics under the level tell the same; were one to tell less, it is the one to believe. */
        const uint64_t back = back_at (b->topics[i].backs, depth - 1);
        if (!found || back < nearest)
            nearest = back;
        found = true;
    }
    if (found)
        *ret_prev = b->first_seq - 1 - nearest;
    return found;
}

bool batch_prev_exact (const struct batch *b, struct fm_slice topic, uint64_t *ret_prev)
{
    for (uint32_t i = 0; i < b->topic_count; i++) {
        if (!slice_equal (b->topics[i].name, topic))
            continue;
        const struct fm_slice backs = b->topics[i].backs;
        const unsigned depth = topic_depth (topic);
        const uint64_t level_back = back_at (backs, depth - 1), own_back = back_at (backs, depth);
        *ret_prev = b->first_seq - 1 - (own_back > level_back ? own_back : level_back);
        return true;
    }
    return false;
}

struct fm_slice batch_level (const struct batch *b)
{
    struct fm_slice level = b->topic_count ? b->topics[0].name : slice (NULL, 0);
    for (uint32_t i = 1; i < b->topic_count && level.len; i++)
        level = topic_common_level (level, b->topics[i].name);
    return level;
}
