/* ReplayData by hand, and by protobuf-c: where both take it, both see the same. */

#include "fuzz.h"

#include "batch.h"
#include "control.h"

static bool same_id (const struct fm_id *id, ProtobufCBinaryData g)
{
    return g.len == ID_LEN ? memcmp (id->bytes, g.data, ID_LEN) == 0 : g.len == 0 && id_is_zero (id);
}

static void compare (const struct replay_view *view, const Factmesh__ReplayData *g)
{
    const struct replay_header *h = &view->header;
    assert (h->session == g->session && h->next_offset == g->next_offset && h->remaining_bytes == g->remaining_bytes);
    assert (h->caught_up == (bool) g->caught_up && h->end_offset == g->end_offset && view->has_start == (g->start != NULL));
    assert (h->covered_count == g->n_covered && h->gap_count == g->n_gaps);
    for (size_t i = 0; i < h->covered_count; i++)
        assert (same_id (&h->covered[i].stream, g->covered[i]->stream) && h->covered[i].through == g->covered[i]->through);
    for (size_t i = 0; i < h->gap_count; i++) {
        const struct replay_gap *gap = &h->gaps[i];
        assert (gap->first_seq < gap->end_seq && same_id (&gap->stream, g->gaps[i]->stream));
        assert (gap->first_seq == g->gaps[i]->first_seq && gap->end_seq == g->gaps[i]->end_seq && gap->reason == (uint32_t) g->gaps[i]->reason);
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static struct replay_view view;     /* kept: the one of a subscription is used again for each message */
    if (replay_data_decode (data, size, slice (NULL, 0), &view) != 0)
        return 0;
    Factmesh__Control *g = factmesh__control__unpack (NULL, size, data);
    if (!g)
        return 0;       /* a field that we step over: the generated code knows its kind, and it is of another */
    assert (g->body_case == FACTMESH__CONTROL__BODY_REPLAY_DATA);
    compare (&view, g->replay_data);
    struct fm_slice batch;
    struct batch_scratch scratch = { 0 };
    struct batch b;
    size_t n = 0;
    for (; replay_view_next (&view, &batch) == 0; n++) {
        assert (n < g->replay_data->n_batches && fuzz_within (batch, data, size));
        assert (slice_equal (batch, control_get_slice (&g->replay_data->batches[n])));
        (void) batch_decode (batch.data, batch.len, slice (NULL, 0), &scratch, &b);
    }
    assert (n == g->replay_data->n_batches);
    batch_scratch_release (&scratch);
    factmesh__control__free_unpacked (g, NULL);
    return 0;
}
