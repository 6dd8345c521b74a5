/* fm_limits: every bound of the protocol, in one place. SPEC.md, "Limits". */

#ifndef FM_LIMITS_H
#define FM_LIMITS_H

enum {
    PROTO_MAJOR = 1,
    PROTO_MINOR = 0,

    TOPIC_MAX = 245,                /* bytes of a topic's name */
    TOPIC_LEVELS_MAX = 16,
    WIRE_TOPIC_MAX = TOPIC_MAX + 2, /* '.' before and after */
    WIRE_FILTER_MAX = 245,          /* longer subscriptions are sent wrongly by libzmq 4.3.4 (#4564) */
    FILTERS_MAX = 64,               /* of one subscription or replay */
    MESH_NAME_MAX = 63,
    NODE_NAME_MAX = 63,
    CURSOR_NAME_MAX = 127,
    TYPE_MAX = 255,                 /* type, content type, schema */
    KEY_MAX = 4096,
    CORRELATION_MAX = 255,
    IDENTITY_MAX = 255,
    HEADERS_MAX = 64,
    HEADER_BYTES_MAX = 16384,       /* names and values of one fact together */

    LIVE_FRAME_MAX = 65536,         /* a larger batch is announced, and fetched */
    BATCH_FACTS_MAX = 65536,
    BATCH_TOPICS_MAX = 4096,
    PAYLOAD_MAX_DEFAULT = 1 << 20,
    PAYLOAD_MAX_LIMIT = 64 << 20,
    BATCH_MAX = PAYLOAD_MAX_LIMIT + (1 << 20),
    CONTROL_FRAME_MAX = BATCH_MAX + (1 << 20),
    CONTROL_MEMORY_MAX = 64 << 20,  /* that one decoded control message may take; ReplayData, walked in place, takes none */
    REPLAY_ITEMS_MAX = 65536,       /* covered and gaps of one ReplayData, each */
    MEMBERS_MAX = 4096,
    ADDRESSES_MAX = 16,             /* of one node, each kind */
    ADDRESS_LEN_MAX = 255,
    STREAMS_PER_NODE_MAX = 1024,
    CURSOR_POSITIONS_MAX = 65536,
    GROUP_NAME_MAX = 63,
    GROUP_CREDIT_MAX = 4096,        /* facts in the hands of one instance; outcomes of one message */
    BLOB_BLOCK = 256 << 10,         /* bytes of a blob that are sent, stored and checked together */
    BLOB_KEY_MAX = 32,              /* of an upload: its name */
    BLOB_LIST_MAX = 1000            /* blobs in one answer */
};

#endif
