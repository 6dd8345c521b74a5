/* A reserved frame of the live path: head notice, fence answer, watermark. */

#include "fuzz.h"

#include "control.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    uint8_t kind;
    struct fm_slice nonce, body, topic, rest;
    assert (size == 0 || data[0] != RESERVED_BYTE || topic_from_frame (data, size, &topic, &rest) != 0);
    if (reserved_from_frame (data, size, &kind, &nonce, &body) != 0)
        return 0;
    assert (fuzz_within (nonce, data, size) && fuzz_within (body, data, size) && (nonce.len == 0 || nonce.len == FENCE_NONCE_LEN));
    /* Whatever the kind says: each reader must stand any bytes. */
    Factmesh__HeadNotice *head;
    Factmesh__FenceAnswer *fence;
    Factmesh__Watermark *mark;
    if (reserved_decode_head (body, slice (NULL, 0), &head) == 0) {
        assert (head->stream.len == ID_LEN);
        for (size_t i = 0; i < head->n_levels; i++)
            assert (head->levels[i]->level.len <= TOPIC_MAX);
        factmesh__head_notice__free_unpacked (head, NULL);
    }
    if (reserved_decode_fence (body, slice (NULL, 0), &fence) == 0) {
        assert (fence->n_streams <= STREAMS_PER_NODE_MAX && (fence->node.len == 0 || fence->node.len == ID_LEN));
        for (size_t i = 0; i < fence->n_streams; i++)
            assert (fence->streams[i]->stream.len == ID_LEN);
        factmesh__fence_answer__free_unpacked (fence, NULL);
    }
    if (reserved_decode_watermark (body, slice (NULL, 0), &mark) == 0) {
        assert (mark->journal.len == ID_LEN && mark->n_marks <= STREAMS_PER_NODE_MAX);
        for (size_t i = 0; i < mark->n_marks; i++)
            assert (mark->marks[i]->stream.len == ID_LEN);
        factmesh__watermark__free_unpacked (mark, NULL);
    }
    return 0;
}
