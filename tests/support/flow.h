/* flow: facts whose contents follow from a number and a sequence, so that whoever knows the two can check every byte.
 *
 * Topics are flow.rR.kK with 10 kinds a region: 50 topics are r0 to r4. `flow.r2.k3` is one of them, `flow.r2.>` ten,
 * `flow.*.k3` five. A stream has `count` facts on topics drawn at random and then one end mark on each topic, with the
 * payload FLOW_END: who has the end marks of all topics that match has, by the order of a stream, all facts that match.
 *
 * Payloads are 0 bytes (one in 16), mostly up to 200, now and then some KiB, and, where `large` is set, one in 65536
 * larger than a live frame. */

#ifndef FM_TESTS_FLOW_H
#define FM_TESTS_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FLOW_TOPIC_MAX = 32,
    FLOW_KEY_MAX = 32,
    FLOW_HEADER_MAX = 32,
    FLOW_PAYLOAD_MAX = 100000,
    FLOW_KINDS = 10 /* topics of a region */
};

#define FLOW_END "this topic ends here"

struct flow {
    uint64_t contents; /* what all random choices follow from */
    unsigned stream;   /* index of the stream */
    unsigned topics;
    uint64_t count;       /* facts before the end marks */
    size_t payload_bytes; /* not 0: every payload has this size, and no fact a key or a header */
    bool large;
};

struct flow_fact {
    char topic[FLOW_TOPIC_MAX];
    size_t topic_len;
    char key[FLOW_KEY_MAX];
    size_t key_len; /* 0: none */
    char header_name[FLOW_HEADER_MAX], header_value[FLOW_HEADER_MAX];
    size_t header_name_len, header_value_len; /* 0: none */
    size_t payload_len;
    uint8_t payload[FLOW_PAYLOAD_MAX];
};

/* Facts and end marks of the stream. */
static inline uint64_t flow_total (const struct flow *flow)
{
    return flow->count + flow->topics;
}

/* A count that no publisher reaches: a flow that ends when it is told to, with flow_make_end for each topic. */
#define FLOW_ENDLESS (UINT64_MAX >> 1)

/* Make fact seq, 1 to flow_total. */
void flow_make (const struct flow *flow, uint64_t seq, struct flow_fact *ret_fact);
/* Make the end mark of a topic, 0 to topics - 1. */
void flow_make_end (unsigned topic, struct flow_fact *ret_fact);

#endif
