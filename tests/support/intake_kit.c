#include "intake_kit.h"

const struct fm_id node_a = { { 1 } }, node_b = { { 2 } };

struct intake_limits limits_new (void)
{
    return (struct intake_limits) {
        .stream_held_max = 1000,
        .held_max = 1500,
        .answer_ns = 100 * (uint64_t) MS,
        .epoch_quiet_ns = 20 * (uint64_t) MS,
        .epoch_ns = 50 * (uint64_t) MS,
        .holders_ns = 200 * (uint64_t) MS,
        .orphan_ns = 1000 * (uint64_t) MS,
        .settled_ns = 0,
    };
}

struct intake_batch live_batch (uint64_t first, uint64_t end, uint64_t epoch, uint64_t epoch_first, const struct fm_id *from)
{
    return (struct intake_batch) {
        .first_seq = first, .end_seq = end, .epoch = epoch, .incarnation = epoch * 10, .epoch_first_seq = epoch_first, .from = *from, .bytes = 10
    };
}

void drop_all (struct intake_state *s)
{
    struct intake_item item;
    while (intake_state_drop (s, &item))
        continue;
    intake_state_release (s);
}
