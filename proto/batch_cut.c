/* A piece is written from the back: its facts first, then what goes before them, of which count is known only then.
 *
 *      | room for the header | fact fact fact |  room for the header | fact ...
 *                 ^ piece begins here
 */

#include "batch_cut.h"

#include <assert.h>
#include <stdlib.h>

#include "batch_fields.h"
#include "error.h"
#include "topic.h"

/* --- Topics. */

void batch_topics_init (struct batch_topics *t, struct fm_slice batch)
{
    t->pos = batch.data;
    t->end = t->pos + batch.len;
}

/* The name in a topic's bytes: of two the last one counts, as in batch_decode. */
static bool topic_name (struct fm_slice bytes, struct fm_slice *ret_name)
{
    const uint8_t *p = bytes.data, *const end = p + bytes.len;
    struct fm_slice name = { 0 };
    while (p < end) {
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p)
            return false;
        p = tag == TOPIC_NAME ? wire_get_slice (p, end, &name) : wire_skip (p, end, tag);
        if (!p)
            return false;
    }
    *ret_name = name;
    return true;
}

/* As every encoder writes a topic: its name, its backs, all lengths one byte. NULL: it is not like that, which is no fault. */
static inline const uint8_t *plain_topic (const uint8_t *p, const uint8_t *end, struct fm_slice *ret_name)
{
    if (end - p < 6 || p[0] != BATCH_TOPIC || p[2] != TOPIC_NAME)
        return NULL;
    const size_t len = p[1], name_len = p[3];
    if ((len | name_len) >= 0x80 || len > (size_t) (end - p) - 2 || name_len + 4 > len || p[4 + name_len] != TOPIC_BACK
        || name_len + 4 + p[5 + name_len] != len)
        return NULL;
    *ret_name = slice (p + 4, name_len);
    return p + 2 + len;
}

int batch_topics_next (struct batch_topics *t, struct fm_slice *ret_name)
{
    const uint8_t *const behind = plain_topic (t->pos, t->end, ret_name);
    if (behind) {
        t->pos = behind;
        return 0;
    }
    while (t->pos < t->end && *t->pos != BATCH_FACT) {
        uint32_t tag;
        struct fm_slice topic;
        const uint8_t *p = wire_get_tag (t->pos, t->end, &tag);
        if (p && tag != BATCH_TOPIC)
            p = wire_skip (p, t->end, tag);
        else if (p && (p = wire_get_slice (p, t->end, &topic)) && topic_name (topic, ret_name)) {
            t->pos = p;
            return 0;
        } else
            p = NULL;
        if (!p)
            return error_set (FM_ERR_MALFORMED, "batch: its topics are cut off");
        t->pos = p;
    }
    return FM_ERR_END;
}

/* --- The header. */

void batch_cut_release (struct batch_cut *cut)
{
    free (cut->bytes);
    cut->bytes = NULL;
    cut->size = cut->piece_count = 0;
}

static bool header_add (struct batch_cut *c, const uint8_t *bytes, size_t len)
{
    if (len > sizeof c->header - c->header_len)
        return false;
    memcpy (c->header + c->header_len, bytes, len);
    c->header_len += len;
    return true;
}

/* A wanted topic: nothing is known of what came before the piece, so all its backs are 0. */
static bool header_add_topic (struct batch_cut *c, struct fm_slice name)
{
    uint8_t field[TOPIC_MAX + TOPIC_LEVELS_MAX + 16], *p = field;
    const unsigned depth = topic_depth (name);
    if (name.len > TOPIC_MAX || depth > TOPIC_LEVELS_MAX)
        return false;
    const size_t name_len = 1 + bytes_varint_len (name.len) + name.len;
    p = wire_put_tag (p, BATCH_TOPIC);
    p = bytes_put_varint (p, name_len + 2 + depth);
    p = wire_put_tag (p, TOPIC_NAME);
    p = bytes_put_varint (p, name.len);
    p = wire_put_bytes (p, name);
    p = wire_put_tag (p, TOPIC_BACK);
    p = bytes_put_varint (p, depth);
    memset (p, 0, depth);
    return header_add (c, field, (size_t) (p - field) + depth);
}

static bool take_topic (struct batch_cut *c, struct fm_slice name, bool (*wanted) (const void *arg, struct fm_slice topic), const void *arg)
{
    if (c->topic_count == BATCH_TOPICS_MAX)
        return false;
    const bool take = wanted (arg, name);
    if (take && (c->wanted_count == BATCH_CUT_TOPICS_MAX || !header_add_topic (c, name)))
        return false;
    c->wanted_count += take;
    c->places[c->topic_count++] = take ? (uint8_t) c->wanted_count : 0;
    return true;
}

/* Walk the header up to the first fact. NULL: the batch is left whole. */
static const uint8_t *take_header (struct batch_cut *c, const uint8_t *p, const uint8_t *end, bool (*wanted) (const void *arg, struct fm_slice topic),
                                   const void *arg)
{
    while (p < end && *p != BATCH_FACT) {
        const uint8_t *const field = p;
        uint32_t tag, version = 0;
        struct fm_slice bytes, name;
        p = plain_topic (field, end, &name);
        if (p) {
            if (!take_topic (c, name, wanted, arg))
                return NULL;
            continue;
        }
        p = wire_get_tag (field, end, &tag);
        if (!p)
            return NULL;
        switch (tag) {
        case BATCH_TOPIC:
            p = wire_get_slice (p, end, &bytes);
            if (!p || !topic_name (bytes, &name) || !take_topic (c, name, wanted, arg))
                return NULL;
            continue;
        case BATCH_FIRST_SEQ:
            p = wire_get_varint (p, end, &c->first_seq);
            if (!p)
                return NULL;
            continue;
        case BATCH_COUNT:
            p = wire_get_varint (p, end, &c->count);
            if (!p)
                return NULL;
            continue;
        case BATCH_MAJOR:
        case BATCH_MINOR:
            /* What a newer version means by its fields may be of the batch as a whole. */
            p = wire_get_u32 (p, end, &version);
            if (!p || version > (tag == BATCH_MAJOR ? PROTO_MAJOR : PROTO_MINOR))
                return NULL;
            break;
        case BATCH_CODEC:
        case BATCH_ANNOUNCED_LEN:
        case BATCH_CODED_FACTS:
        case BATCH_REDACTION:
            return NULL;
        default:
            p = wire_skip (p, end, tag);
        }
        if (!p || !header_add (c, field, (size_t) (p - field)))
            return NULL;
    }
    return p;
}

/* --- Facts. */

/* Where a fact names its topic. */
struct topic_field {
    const uint8_t *begin, *end;         /* NULL: it does not, which means the first */
    uint32_t index;
};

static bool find_topic (struct fm_slice fact, struct topic_field *ret_field)
{
    const uint8_t *p = fact.data, *const end = p + fact.len;
    struct topic_field f = { 0 };
    while (p < end) {
        const uint8_t *const begin = p;
        uint32_t tag;
        p = wire_get_tag (p, end, &tag);
        if (!p || (tag == FACT_TOPIC && f.begin))
            return false;
        if (tag == FACT_TOPIC) {
            p = wire_get_u32 (p, end, &f.index);
            f.begin = begin;
            f.end = p;
        } else
            p = wire_skip (p, end, tag);
        if (!p)
            return false;
    }
    *ret_field = f;
    return true;
}

/* The fact as it is, but for its topic's number. */
static uint8_t *put_fact (uint8_t *p, struct fm_slice fact, const struct topic_field *f, unsigned place)
{
    const uint8_t *const bytes = fact.data;
    const size_t before = f->begin ? (size_t) (f->begin - bytes) : 0, after_at = f->begin ? (size_t) (f->end - bytes) : 0;
    const unsigned number = place - 1;
    p = wire_put_tag (p, BATCH_FACT);
    p = bytes_put_varint (p, before + (fact.len - after_at) + (number ? 2 : 0));
    p = wire_put_bytes (p, slice (bytes, before));
    if (number) {
        p = wire_put_tag (p, FACT_TOPIC);
        *p++ = (uint8_t) number;
    }
    return wire_put_bytes (p, slice (bytes + after_at, fact.len - after_at));
}

static_assert (BATCH_CUT_TOPICS_MAX <= 0x80, "a wanted topic's number is one byte");

enum { RUN_FIELDS_MAX = 2 * (1 + WIRE_VARINT_MAX) };    /* first_seq and count */

/* The facts in [facts, behind) are complete: put in front of them what makes them a batch. */
static void piece_end (struct batch_cut *c, uint8_t *facts, const uint8_t *behind, uint64_t first_seq, uint64_t count)
{
    uint8_t fields[RUN_FIELDS_MAX], *p = fields;
    p = wire_put_u64_field (p, BATCH_FIRST_SEQ >> 3, first_seq);
    p = wire_put_u64_field (p, BATCH_COUNT >> 3, count);
    const size_t fields_len = (size_t) (p - fields);
    uint8_t *const begin = facts - fields_len - c->header_len;
    memcpy (begin, c->header, c->header_len);
    memcpy (begin + c->header_len, fields, fields_len);
    c->pieces[c->piece_count++] = slice (begin, (size_t) (behind - begin));
}

static bool cut_facts (struct batch_cut *c, const uint8_t *p, const uint8_t *end, size_t room)
{
    const size_t head = c->header_len + RUN_FIELDS_MAX;
    uint8_t *to = c->bytes, *facts = NULL;              /* facts: of the piece under construction */
    uint64_t n = 0, piece_first = 0;
    for (; p < end; n++) {
        struct fm_slice fact;
        struct topic_field topic;
        if (*p != BATCH_FACT || !(p = wire_get_slice (p + 1, end, &fact)) || !find_topic (fact, &topic) || topic.index >= c->topic_count)
            return false;
        const unsigned place = c->places[topic.index];
        if (!place) {
            if (facts)
                piece_end (c, facts, to, c->first_seq + piece_first, n - piece_first);
            facts = NULL;
            continue;
        }
        const size_t left = room - (size_t) (to - c->bytes), needed = fact.len + 3 + WIRE_VARINT_MAX + (facts ? 0 : head);
        if (needed > left || (!facts && c->piece_count == BATCH_CUT_PIECES_MAX))
            return false;
        if (!facts) {
            to += head;
            facts = to;
            piece_first = n;
        }
        to = put_fact (to, fact, &topic, place);
    }
    if (facts)
        piece_end (c, facts, to, c->first_seq + piece_first, n - piece_first);
    return n == c->count;
}

bool batch_cut (struct batch_cut *c, struct fm_slice batch, bool (*wanted) (const void *arg, struct fm_slice topic), const void *arg)
{
    const uint8_t *const end = (const uint8_t *) batch.data + batch.len;
    c->piece_count = c->header_len = 0;
    c->topic_count = c->wanted_count = 0;
    c->first_seq = c->count = 0;
    const uint8_t *facts = take_header (c, batch.data, end, wanted, arg);
    if (!facts || c->wanted_count > c->topic_count / BATCH_CUT_SHARE)
        return false;
    const size_t room = batch.len / BATCH_CUT_SHARE;
    if (c->size < room) {
        uint8_t *grown = realloc (c->bytes, room);
        if (!grown)
            return false;
        c->bytes = grown;
        c->size = room;
    }
    return cut_facts (c, facts, end, room);
}
