#include "flow.h"

#include <assert.h>
#include <string.h>

/* splitmix64 (Steele, Lea, Flood 2014): each call the next of a good sequence, from any start. */
static uint64_t random_next (uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t text_add (char *text, size_t len, const char *piece)
{
    const size_t piece_len = strlen (piece);

    memcpy (text + len, piece, piece_len);
    return len + piece_len;
}

/* printf is too slow for a million a second. */
static size_t number_add (char *text, size_t len, uint64_t number)
{
    char digits[20];
    size_t count = 0;

    do
        digits[count++] = (char) ('0' + number % 10);
    while (number /= 10);
    while (count > 0)
        text[len++] = digits[--count];
    return len;
}

static size_t topic_make (char *text, unsigned index)
{
    size_t len = text_add (text, 0, "flow.r");

    len = number_add (text, len, index / FLOW_KINDS);
    len = text_add (text, len, ".k");
    return number_add (text, len, index % FLOW_KINDS);
}

static size_t payload_len (const struct flow *flow, uint64_t r)
{
    if (flow->payload_bytes)
        return flow->payload_bytes;
    if (flow->large && (r & 0xffff) == 0)
        return 66000 + (r >> 32) % (FLOW_PAYLOAD_MAX - 66000);
    if ((r & 0xff) == 1)
        return 1024 + (r >> 32) % 3072;
    if ((r & 0xf) == 2)
        return 0;
    return 1 + (r >> 32) % 200;
}

void flow_make_end (unsigned topic, struct flow_fact *ret_fact)
{
    ret_fact->key_len = ret_fact->header_name_len = ret_fact->header_value_len = 0;
    ret_fact->topic_len = topic_make (ret_fact->topic, topic);
    ret_fact->payload_len = strlen (FLOW_END);
    memcpy (ret_fact->payload, FLOW_END, ret_fact->payload_len);
}

void flow_make (const struct flow *flow, uint64_t seq, struct flow_fact *ret_fact)
{
    struct flow_fact *f = ret_fact;
    uint64_t state = flow->contents * 0x100000001b3u + ((uint64_t) flow->stream << 48) + seq * 0x2545f4914f6cdd1du;
    const uint64_t r = random_next (&state);

    assert (seq >= 1 && seq <= flow_total (flow) && flow->payload_bytes <= FLOW_PAYLOAD_MAX);
    f->key_len = f->header_name_len = f->header_value_len = 0;
    if (seq > flow->count) {
        flow_make_end ((unsigned) (seq - flow->count - 1), f);
        return;
    }
    f->topic_len = topic_make (f->topic, (unsigned) ((r >> 8) % flow->topics));
    if (!flow->payload_bytes && (r & 3) == 0)
        f->key_len = number_add (f->key, text_add (f->key, 0, "key-"), r >> 50);
    if (!flow->payload_bytes && (r & 0x1f) == 7) {
        f->header_name_len = text_add (f->header_name, 0, "trace");
        f->header_value_len = number_add (f->header_value, 0, r);
    }
    f->payload_len = payload_len (flow, r);
    for (size_t i = 0; i < f->payload_len; i += 8) {
        const uint64_t word = random_next (&state);
        const size_t left = f->payload_len - i;
        memcpy (f->payload + i, &word, left < 8 ? left : 8);
    }
}
