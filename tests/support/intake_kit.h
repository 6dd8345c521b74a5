/* intake_kit: a stream's intake_state as its tests set it up: small limits, two nodes, live batches of ten bytes. */

#ifndef FM_TESTS_INTAKE_KIT_H
#define FM_TESTS_INTAKE_KIT_H

#include "intake_state.h"

enum { MS = 1000000 };

extern const struct fm_id node_a, node_b;

struct intake_limits limits_new (void);

/* [first, end) of an epoch that begins with epoch_first. */
struct intake_batch live_batch (uint64_t first, uint64_t end, uint64_t epoch, uint64_t epoch_first, const struct fm_id *from);

/* The end of a state: what it holds goes with it. */
void drop_all (struct intake_state *s);

#endif
